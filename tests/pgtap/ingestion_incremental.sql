-- What a worker remembers between runs, and how an incremental run changes the index in place.
begin;
select no_plan();
select tests.user('anna'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-000000000001'::uuid $$;
create function pg_temp.own() returns uuid language sql as $$ select '00000000-0000-4000-8000-00000000000a'::uuid $$;
create function pg_temp.hash(p text) returns bytea language sql as $$ select sha256(convert_to(p, 'UTF8')) $$;
create function pg_temp.rid() returns uuid language sql as $$
  select id from public.ingestion_runs where project_id = pg_temp.pid() and outcome = 'open' $$;
create function pg_temp.index_id() returns uuid language sql as $$ select run_id from public.project_indexes where project_id = pg_temp.pid() $$;

select tests.act_as('anna');
select lives_ok($$ select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Changing one'))) $$, 'Anna makes a project');
select tests.reset();
create function pg_temp.begin_run(p_sources jsonb) returns void language sql as $$
  select private.add_ingestion(pg_temp.pid(), jsonb_build_object('sources', p_sources), tests.user('anna'));
  select private.claim_run(pg_temp.rid(), pg_temp.own(), 60);
$$;
create function pg_temp.found(p_paths text[], p_texts text[]) returns void language sql as $$
  select private.store_blobs(pg_temp.rid(), pg_temp.own(), array(select pg_temp.hash(t) from unnest(p_texts) t), array(select convert_to(t, 'UTF8') from unnest(p_texts) t),
    array(select false from unnest(p_texts)), array(select 3::bigint from unnest(p_texts)), array(select 1 from unnest(p_texts)));
  select private.store_manifest(pg_temp.rid(), pg_temp.own(), true, p_paths, array(select pg_temp.hash(t) from unnest(p_texts) t), array(select 'file' from unnest(p_paths)),
    array(select null::uuid from unnest(p_paths)), array(select 'text' from unnest(p_paths)), array(select false from unnest(p_paths)),
    array(select octet_length(t)::bigint from unnest(p_texts) t), array(select 3::bigint from unnest(p_paths)));
$$;
create function pg_temp.stored_file(p_name text) returns uuid language sql as $$ select md5('file ' || p_name)::uuid $$;

-- ------------------------------------------------------------------------------------------------------------ a first run
select pg_temp.begin_run('{"fileIds": []}');
select is((private.claim_run(pg_temp.rid(), gen_random_uuid(), 60)), null, 'one worker has the run');
select results_eq($$ select private.missing_blobs(pg_temp.rid(), pg_temp.own(), array[pg_temp.hash('one')]) $$, array[pg_temp.hash('one')], 'a content that is not there is asked for');
select pg_temp.found(array['a.txt', 'b.txt'], array['one', 'two']);
select is_empty($$ select private.missing_blobs(pg_temp.rid(), pg_temp.own(), array[pg_temp.hash('one')]) $$, 'and then not again');
select lives_ok($$ select private.store_files(pg_temp.rid(), pg_temp.own(), array[pg_temp.stored_file('a'), pg_temp.stored_file('b')], array[0, 1], array['file', 'file'],
  array[null, null]::uuid[], array['a.txt', 'b.txt'], array['text', 'text'], array['data', 'data'], array[3, 3], array[3, 3], array[3, 2], array[pg_temp.hash('one'), pg_temp.hash('two')],
  array['{}', '{}']::jsonb[], array['{"removed": [0, 0, 0, 0], "lost": 0, "kept": 1}', '{"removed": [1, 0, 0, 0], "lost": 0, "kept": 0}']::jsonb[], array['\xaa', '\xbb']::bytea[]) $$, 'it stores files');
select lives_ok($$ select private.store_chunks(pg_temp.rid(), pg_temp.own(), array[md5('c1')::uuid, md5('c2')::uuid], array[pg_temp.stored_file('a'), pg_temp.stored_file('b')], array[0, 0],
  array[1, 1], array[1, 1], array['documentation', 'documentation'], array[3, 2], array['one', '[same as a.txt:1-1]'], array['\x01', '\x01']::bytea[], array[null, md5('c1')::uuid],
  array[null, null]::uuid[], array['{}', '{}']::jsonb[]) $$, 'and chunks, one of which repeats the other');
select private.store_sources(pg_temp.rid(), pg_temp.own(), array['file', 'file'], array['a.txt', 'bin'], array['\x11', '\x12']::bytea[], array['', 'binary'], array['', ''], array[pg_temp.hash('one'), null],
  array[3, 0], array[3, 0], array['text', '']);
select private.store_records(pg_temp.rid(), pg_temp.own(), 'p1', 'c1', array['a.txt'], array[pg_temp.hash('one')], array['\x01']::bytea[], array['\x02']::bytea[]);
select is(private.finish_run(pg_temp.rid(), pg_temp.own(), '{"checkpoint": {"settings": "s1"}}'), true, 'the run ends');
select is((select array_agg(path order by path) from public.context_files where project_id = pg_temp.pid()), array['a.txt', 'b.txt'], 'its files are the current set');
select is((select settings from public.project_indexes where project_id = pg_temp.pid()), 's1', 'the index says what made it');

-- ------------------------------------------------------------------------------------------------- a second one builds on it
select pg_temp.begin_run('{"fileIds": []}');
select results_eq($$ select path, verdict, hash from private.read_sources(pg_temp.rid(), pg_temp.own(), array['file']) order by path $$,
  $$ values ('a.txt', '', pg_temp.hash('one')), ('bin', 'binary', null) $$, 'it knows what the source had');
select results_eq($$ select path, parsed from private.read_records(pg_temp.rid(), pg_temp.own(), '', 10) $$, $$ values ('a.txt', '\x01'::bytea) $$, 'and what parsing gave');
select results_eq($$ select path, is_binary from private.other_files(pg_temp.rid(), pg_temp.own()) order by path $$, $$ values ('a.txt', false), ('b.txt', false) $$,
  'files and texts only add: the rest of the set stays');
select is((select count(*)::int from private.read_index(pg_temp.rid(), pg_temp.own(), 's2')), 0, 'an index made with other settings is no base');
select is((select count(*)::int from private.read_index(pg_temp.rid(), pg_temp.own(), 's1')), 2, 'one made with the same is');
select throws_ok($$ select private.read_index(pg_temp.rid(), gen_random_uuid(), 's1') $$, 'PT409', null, 'for the worker with the lease');
select pg_temp.found(array['a.txt'], array['three']);
create temporary table former as select pg_temp.index_id() as id;
savepoint merge;
select private.merge_removals(pg_temp.rid(), pg_temp.own(), array[pg_temp.stored_file('b')], array[pg_temp.stored_file('a')], array[md5('c2')::uuid]);
select private.merge_files(pg_temp.rid(), pg_temp.own(), array[pg_temp.stored_file('a')], array[0], array['file'], array[null]::uuid[], array['a.txt'], array['text'], array['data'], array[5],
  array[4], array[4], array[pg_temp.hash('three')], array['{}']::jsonb[], array['{"removed": [0, 0, 0, 0], "lost": 0, "kept": 2}']::jsonb[], array['\xcc']::bytea[]);
select private.merge_chunks(pg_temp.rid(), pg_temp.own(), array[md5('c3')::uuid, md5('c1')::uuid], array[pg_temp.stored_file('a'), pg_temp.stored_file('a')], array[0, 1], array[1, 2], array[1, 2],
  array['documentation', 'documentation'], array[1, 3], array['new', 'one'], array['\x03', '\x01']::bytea[], array[null, null]::uuid[], array[null, null]::uuid[], array['{}', '{}']::jsonb[],
  array['new:1'::tsvector, 'one:1']);
select results_eq($$ select id, position, content from public.chunks where run_id = pg_temp.index_id() order by position $$,
  $$ values (md5('c3')::uuid, 0, 'new'), (md5('c1')::uuid, 1, 'one') $$, 'chunks change places without a clash, and one that stays keeps its id');
select results_eq($$ select private.search_index(pg_temp.rid(), pg_temp.own(), 'new'::tsquery) $$, array[md5('c3')::uuid], 'the words are found');
select is((select count(*)::int from private.sample_index(pg_temp.rid(), pg_temp.own(), 5)), 1, 'a file is sampled by a chunk of it');
rollback to merge;
select is((select count(*)::int from public.run_files where run_id = pg_temp.index_id()), 2, 'until the run ends, the former index is as it was');
select is(private.finish_run(pg_temp.rid(), pg_temp.own(), jsonb_build_object('index', (select id from former))), true, 'the run ends with the index that it changed');
select is(pg_temp.index_id(), (select id from former), 'the rows keep the id of the run that made the index');
select isnt((select last_run_id from public.project_indexes where project_id = pg_temp.pid()), (select id from former), 'the index knows its newest run');
select is_empty($$ select from jobs.gue_jobs where job_type = 'ingestion.drop' $$, 'no row is dropped');

-- ------------------------------------------------------------------------------------------------------- what is hidden or too much
update public.context_files set is_hidden = true where project_id = pg_temp.pid() and path = 'b.txt';
select pg_temp.begin_run('{"fileIds": []}');
select results_eq($$ select path from private.other_files(pg_temp.rid(), pg_temp.own()) $$, array['a.txt'], 'a hidden file is no part of the set');
select pg_temp.found(array['c.txt'], array['four']);
select is(private.run_overflows(pg_temp.rid(), pg_temp.own()), false, 'three files are not too many');
select is(private.finish_run(pg_temp.rid(), pg_temp.own(), jsonb_build_object('index', (select id from former))), true, 'the run ends');
select is((select array_agg(path) from public.run_files where run_id = pg_temp.index_id()), array['a.txt'], 'and what is hidden leaves the index');

-- --------------------------------------------------------------------------------------------------------------- prefixes, scopes
select ok(private.covers('{}', 'repository', pg_temp.pid()), 'a run of all sources replaces what repositories had');
select ok(private.covers(jsonb_build_object('repositoryIds', array[pg_temp.pid()]), 'repository', pg_temp.pid()), 'a run of one repository what it had');
select ok(not private.covers(jsonb_build_object('repositoryIds', array[pg_temp.pid()]), 'repository', pg_temp.own()), 'and not what another one had');
select ok(not private.covers('{}', 'file', null), 'uploaded files only add');
select ok(not private.covers('{"refresh": true}', 'repository', pg_temp.pid()), 'a run that reads no source replaces nothing');
insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name)
values (tests.org('anna'), pg_temp.pid(), 'github', 'https://github.com/a/b', 'a/b');
create temporary table repo as select id from public.project_repositories where project_id = pg_temp.pid();
select pg_temp.begin_run((select jsonb_build_object('repositoryIds', array[id]) from repo));
select private.finish_run(pg_temp.rid(), pg_temp.own(), (select jsonb_build_object('checkpoint', jsonb_build_object('prefixes', jsonb_build_object(id, 'a/b/'))) from repo));
select is((select path_prefix from public.project_repositories where id = (select id from repo)), 'a/b/', 'a repository keeps the prefix of its first ingestion');
select pg_temp.begin_run((select jsonb_build_object('repositoryIds', array[id]) from repo));
select private.finish_run(pg_temp.rid(), pg_temp.own(), (select jsonb_build_object('checkpoint', jsonb_build_object('prefixes', jsonb_build_object(id, ''))) from repo));
select is((select path_prefix from public.project_repositories where id = (select id from repo)), 'a/b/', 'whatever later runs say');
select results_eq($$ select * from private.live_repositories(array[(select id from repo), pg_temp.pid()]) $$, array(select id from repo), 'copies of other repositories may go');

-- --------------------------------------------------------------------------------------------------------------------- by actor
select is((select count(*)::int from pg_proc p where p.pronamespace = 'private'::regnamespace and p.proname in ('missing_blobs', 'store_blobs', 'read_blobs', 'store_manifest',
    'run_overflows', 'other_files', 'read_sources', 'store_sources', 'drop_sources', 'read_records', 'store_records', 'read_index', 'read_indexed', 'merge_removals',
    'merge_files', 'merge_chunks', 'sample_index', 'search_index', 'live_repositories')
  and (has_function_privilege('authenticated', p.oid, 'execute') or has_function_privilege('anon', p.oid, 'execute') or has_function_privilege('service_role', p.oid, 'execute')
    or has_function_privilege('kijko_server', p.oid, 'execute') or not has_function_privilege('kijko_worker', p.oid, 'execute'))), 0, 'the worker calls these functions, and no other role does');
select tests.act_as('anna');
select throws_ok($$ select private.read_blobs(null, null, null) $$, '42501', null, 'not even the owner of the project');
select throws_ok($$ select from private.source_files $$, '42501', null, 'who reads no memory');
select is((select count(*)::int from public.project_indexes), 1, 'but her index');
select tests.act_as('stan');
select is_empty($$ select from public.run_files $$, 'a stranger reads nothing');
select throws_ok($$ select from private.file_records $$, '42501', null, 'in no table');
select tests.act_anon();
select throws_ok($$ select private.store_blobs(null, null, null, null, null, null, null) $$, '42501', null, 'nor does an anonymous caller');
select tests.act_service();
select throws_ok($$ select private.read_records(null, null, null, null) $$, '42501', null, 'nor the service');

select * from finish();
rollback;
