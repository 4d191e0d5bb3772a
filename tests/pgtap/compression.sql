-- Compression of entries: who asks for it, what the worker stores, what lists and metrics tell.
begin;
select no_plan();

-- Anna owns the project; Dora, Vic and Ulla are its developer, viewer and auditor; Stan is a stranger.
select tests.user('anna'), tests.user('stan'), tests.member('dora', 'anna'), tests.member('vic', 'anna'), tests.member('ulla', 'anna');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000c2'::uuid $$;
create function pg_temp.p(p_number integer default null) returns jsonb language sql as $$
  select jsonb_strip_nulls(jsonb_build_object('contextId', pg_temp.pid(), 'number', p_number)) $$;
create function pg_temp.notified(p_name text, p_sql text) returns text language plpgsql as $$
declare r jsonb; begin perform tests.act_as(p_name); r := tests.refusal(p_sql); return concat_ws(' ', r ->> 'status', r ->> 'code', r #>> '{details,required}', r #>> '{details,kind}'); end $$;
create function pg_temp.compress(p_number integer) returns text language sql as $$ select format('select api.compress_ingestion(%L)', pg_temp.p(p_number)) $$;
create function pg_temp.recompress() returns text language sql as $$ select format('select api.recompress_context(%L)', pg_temp.p()) $$;
create function pg_temp.entry(p_number integer) returns public.context_ingestions language sql security definer as $$
  select e from public.context_ingestions e where e.project_id = pg_temp.pid() and e.number = p_number $$;
create function pg_temp.lists() returns jsonb language sql security definer as $$ select private.compression_lists(pg_temp.pid()) $$;
-- An entry with files: path, content, tokens.
create function pg_temp.ingest(p_number integer, p_files jsonb, p_wants boolean default false, p_kind text default 'content') returns void language plpgsql security definer as $$
declare e public.context_ingestions;
begin
  insert into public.context_ingestions (organization_id, project_id, number, kind, source_type, files_added, wants_compression, tokens)
  values (tests.org('anna'), pg_temp.pid(), p_number, p_kind, 'file', jsonb_array_length(p_files), p_wants, (select sum((f ->> 2)::bigint) from jsonb_array_elements(p_files) f)) returning * into e;
  perform private.lock_context(pg_temp.pid());
  update private.context_counters set last_number = p_number, current_number = p_number where project_id = pg_temp.pid();
  insert into public.content_blobs (organization_id, project_id, hash, content, tokens, lines)
  select distinct on (f ->> 1) e.organization_id, e.project_id, sha256(convert_to(f ->> 1, 'UTF8')), convert_to(f ->> 1, 'UTF8'), (f ->> 2)::bigint, 1 from jsonb_array_elements(p_files) f
  on conflict do nothing;
  insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, hash, origin, language, bytes, tokens)
  select e.organization_id, e.project_id, e.id, e.number, f ->> 0, 'added', sha256(convert_to(f ->> 1, 'UTF8')), 'file', coalesce(f ->> 3, 'go'), 10, (f ->> 2)::bigint from jsonb_array_elements(p_files) f;
  perform private.apply_operations(e);
  update public.context_ingestions set status = 'ready' where id = e.id;
end $$;
-- The job of the only open compression: each file becomes half, or stays whole where the content says so.
create function pg_temp.work() returns integer language plpgsql security definer as $$
declare
  v_id uuid := (select operation_id from private.compressions where project_id = pg_temp.pid());
  v_settings jsonb := private.begin_compression(v_id);
  v_key text := v_settings ->> 'optimizationLevel';
  v_count integer;
begin
  perform private.store_compressed(v_id, v_key, array_agg(b.hash), array_agg(b.language), array_agg(case when convert_from(b.content, 'UTF8') !~ 'whole|broken' then 'short' end),
    array_agg(case when convert_from(b.content, 'UTF8') !~ 'whole|broken' then t.tokens / 2 else t.tokens end),
    array_agg(case when convert_from(b.content, 'UTF8') ~ 'whole' then 'Compression does not reduce it' end), array_agg(convert_from(b.content, 'UTF8') ~ 'broken'))
  from private.compression_batch(v_id, v_key, '', '', 100) b join public.content_blobs t on t.project_id = pg_temp.pid() and t.hash = b.hash;
  select count(*) into v_count from private.compression_batch(v_id, v_key, '', '', 100);
  perform private.finish_compression(v_id, v_key);
  return v_count;
end $$;
grant execute on all functions in schema pg_temp to public;
select tests.act_as('anna');
select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Billing'))) is not null;
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, name, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), u.id, u.email, u.first_name, r, now() from (values ('dora', 'developer'), ('vic', 'viewer'), ('ulla', 'auditor')) v (n, r)
join public.users u on u.id = tests.user(n);

-- ------------------------------------------------------------------------------------------------------------------ who asks for it
select pg_temp.ingest(1, '[["src/a.go", "package a", 1000], ["src/small.go", "small", 63], ["src/whole.go", "whole", 200], ["b.py", "import b", 400, "python"]]');
select is(pg_temp.notified(who, pg_temp.compress(1)), w, who || ' does not compress') from (values ('vic', '403 FORBIDDEN compress'), ('ulla', '403 FORBIDDEN compress'), ('stan', '404 CONTEXT_NOT_FOUND')) v (who, w);
select is(pg_temp.notified(who, pg_temp.recompress()), w, who || ' does not compress again') from (values ('vic', '403 FORBIDDEN compress'), ('ulla', '403 FORBIDDEN compress'), ('stan', '404 CONTEXT_NOT_FOUND')) v (who, w);
select is(pg_temp.notified('dora', pg_temp.compress(9)), '404 INGESTION_NOT_FOUND', 'an entry that does not exist is not compressed');
select tests.act_anon();
select throws_ok($$ select api.compress_ingestion('{}') $$, '42501', null, 'an anonymous caller compresses nothing');
select throws_ok($$ select api.recompress_context('{}') $$, '42501', null, 'nor again');
select tests.act_service();
select throws_ok($$ select api.compress_ingestion('{}') $$, '42501', null, 'nor does the service');

-- ------------------------------------------------------------------------------------------------------------- before compression (3.2)
select tests.act_as('dora');
select is((select array_agg(f ->> 'path' || ' ' || (f ->> 'currentTokens') || ' ' || (f ->> 'estimatedTokens')) from jsonb_array_elements(pg_temp.lists() -> 'pendingFiles') f),
  array['b.py 400 220', 'src/a.go 1000 550', 'src/whole.go 200 110'], 'files wait, and are expected to shrink as level medium does');
select is(pg_temp.lists() -> 'neverCompressFiles' #> '{0}' ->> 'reason', 'Smaller than 64 tokens', 'a file of 63 tokens does not');
select is(api.recompress_context(pg_temp.p()) - 'metrics', '{"success": true, "message": "Nothing to re-compress", "entriesProcessed": 0}', 'there is nothing to compress again');
select is(api.get_compression(pg_temp.p()) #> '{metrics}' ->> 'ratio', '1.0', 'the current set is served as it is');

-- --------------------------------------------------------------------------------------------------------------------- one entry (3.5)
select api.compress_ingestion(pg_temp.p(1)) as answer \gset
select is(:'answer'::jsonb ->> 'number', '1', 'a compression answers with the entry');
select isnt(:'answer'::jsonb ->> 'operationId', null, 'and the operation to wait for');
select is(pg_temp.notified('dora', pg_temp.compress(1)), '409 OPERATION_IN_PROGRESS compression', 'one compression runs at a time');
select is(pg_temp.notified('dora', pg_temp.recompress()), '409 OPERATION_IN_PROGRESS compression', 'of a context');
select tests.reset();
select is(pg_temp.work(), 0, 'all contents are stored');
select is((e.compressed, e.compressed_tokens, e.tokens, e.compression_key)::text, '(t,963,1663,medium)', 'the entry costs what its files cost as served') from pg_temp.entry(1) e;
select is((select array_agg(data ->> 'field' || ' ' || (data ->> 'value') order by data ->> 'field') from private.event_inbox where type = 'ingestion:updated' and data ->> 'field' like 'compressed%'),
  array['compressed true', 'compressedTokens 963'], 'the room of the context hears of it');
select tests.act_as('dora');
select is(api.compressed_ingestion(pg_temp.p(1) || jsonb_build_object('started', jsonb_build_object('operationId', :'answer'::jsonb ->> 'operationId'))) ->> 'compressedTokens', '963',
  'the request that waited answers with the entry');
select is(api.compress_ingestion(pg_temp.p(1)) ? 'operationId', false, 'a compressed entry is answered as it is');
select is((select jsonb_agg(f - 'id') from jsonb_array_elements(pg_temp.lists() -> 'compressedFiles') f),
  '[{"name": "b.py", "path": "b.py", "originalTokens": 400, "compressedTokens": 200}, {"name": "a.go", "path": "src/a.go", "originalTokens": 1000, "compressedTokens": 500}]', 'its files are compressed');
select is((select array_agg(f ->> 'path' || ': ' || (f ->> 'reason')) from jsonb_array_elements(pg_temp.lists() -> 'neverCompressFiles') f),
  array['src/small.go: Smaller than 64 tokens', 'src/whole.go: Compression does not reduce it'], 'or never will be, with the reason');
select is(pg_temp.lists() -> 'pendingFiles', '[]', 'none waits');
select is((api.get_compression(pg_temp.p()) -> 'metrics') - array['lastIngestion', 'avgInterval'],
  '{"originalTokens": 1663, "compressedTokens": 963, "ratio": 1.7, "savingsPercent": 42.1, "costSavings": 0.01, "totalIngestions": 1}', 'the metrics follow');
select is((select count(*) from public.compressed_files), 3::bigint, 'a member reads the texts');
select throws_ok($$ update public.compressed_files set content = '' $$, '42501', null, 'which only functions write');
select tests.act_as('ulla');
select is((select count(*) from public.compressed_files), 0::bigint, 'an auditor does not read them');
select is(api.get_compression(pg_temp.p()) -> 'compressedFiles', '[]', 'and gets no list');
select tests.act_as('stan');
select is((select count(*) from public.compressed_files), 0::bigint, 'nor does a stranger');
select tests.reset();

-- ------------------------------------------------------------------------------------------------------------ the next ingestions (3.3)
select pg_temp.ingest(2, '[["src/a.go", "package a // new", 800], ["src/c.go", "package c", 100]]');
select is((e.compressed, e.compressed_tokens)::text, '(t,963)', 'an entry stays as it was when a later one replaces its file') from pg_temp.entry(1) e;
select is((select array_agg(f ->> 'path' || ' ' || (f ->> 'estimatedTokens')) from jsonb_array_elements(pg_temp.lists() -> 'pendingFiles') f), array['src/a.go 400', 'src/c.go 50'],
  'its files wait, and are expected to shrink as the compressed ones did');
select is(private.compressed_text(pg_temp.pid(), f.id), w, f.path || ' is served so') from public.context_files f
join (values ('src/a.go', null), ('b.py', 'short'), ('src/whole.go', null)) v (path, w) on v.path = f.path where f.project_id = pg_temp.pid();
-- Without the replacing entry the former content is the current one, and its text is still there.
select private.delete_ingestion(pg_temp.pid(), 2);
select is(private.compressed_text(pg_temp.pid(), f.id), 'short', 'a deleted entry gives back the compressed file') from public.context_files f where f.project_id = pg_temp.pid() and f.path = 'src/a.go';
select is((select sum(x.served)::integer from private.file_compression(pg_temp.pid()) x), 963, 'and its price');

-- ------------------------------------------------------------------------------------------------------------------- by itself (3.3, 4.4)
select pg_temp.ingest(3, '[["d.go", "package d", 300]]', true);
select is((select c.number from private.compressions c where c.project_id = pg_temp.pid()), 3, 'an entry that wants compression begins when it is ready');
select is((select count(*)::integer from jobs.gue_jobs where job_type = 'compression.run' and queue = 'compression'), 2, 'by a job');
select is(pg_temp.work(), 0, 'which ends');
select is((e.compressed, e.compressed_tokens)::text, '(t,150)', 'it is compressed') from pg_temp.entry(3) e;
select pg_temp.ingest(4, '[["d.go", "package d // other", 300]]');
select pg_temp.ingest(5, '[["d.go", "package d", 300]]', false, 'rollback');
select is((select c.number from private.compressions c where c.project_id = pg_temp.pid()), 5, 'a rollback to a compressed file is compressed as well');
select is((select count(*) from private.compression_batch((select operation_id from private.compressions), 'medium', '', '', 100)), 0::bigint, 'its text is there already');
select pg_temp.work();
select is(private.compressed_text(pg_temp.pid(), f.id), 'short', 'and served again') from public.context_files f where f.project_id = pg_temp.pid() and f.path = 'd.go';

-- --------------------------------------------------------------------------------------------------------------------- all again (3.5)
select tests.act_as('anna');
select api.update_compression_settings(pg_temp.p() || '{"body": {"optimizationLevel": "high"}}') is not null;
select api.recompress_context(pg_temp.p()) as answer \gset
select is(:'answer'::jsonb - 'operationId', '{"status": "queued", "message": "Re-compression has begun", "success": true}', 'a recompression begins');
select tests.reset();
select is((select array_agg(e.compression_key order by e.number) from public.context_ingestions e where e.project_id = pg_temp.pid()), array['medium', 'medium', null, 'medium'], 'old texts are served until it is done');
select pg_temp.work();
select is((select array_agg(e.compression_key order by e.number) from public.context_ingestions e where e.project_id = pg_temp.pid()), array['high', 'high', null, 'high'], 'then the new ones, and what waits still waits');
select is((select array_agg(distinct settings_key) from public.compressed_files where project_id = pg_temp.pid()), array['high'], 'texts that no entry uses are dropped');
select is((select a.description from public.project_activity a where a.project_id = pg_temp.pid() and a.description like 're-%'), 're-compressed 5 files', 'the activity says how many files, each once');
select tests.act_as('anna');
select is(api.recompressed_context(jsonb_build_object('started', jsonb_build_object('operationId', :'answer'::jsonb ->> 'operationId'))) - 'metrics',
  '{"success": true, "message": "Re-compression completed successfully", "entriesProcessed": 3}', 'its end is told in the words of the contract');
select tests.reset();
select pg_temp.ingest(6, '[["e.go", "broken", 300], ["f.go", "package f", 100]]', true);
select pg_temp.work();
select is((e.compressed, e.compressed_tokens)::text, '(t,350)', 'a file that cannot be compressed is served whole') from pg_temp.entry(6) e;
select is((select f ->> 'path' from jsonb_array_elements(pg_temp.lists() -> 'pendingFiles') f where f ->> 'path' = 'e.go'), 'e.go', 'and waits');
select tests.act_as('anna');
select api.recompress_context(pg_temp.p()) as answer \gset
select tests.reset();
select pg_temp.work();
select tests.act_as('anna');
select is(api.recompressed_context(jsonb_build_object('started', jsonb_build_object('operationId', :'answer'::jsonb ->> 'operationId'))) - array['metrics', 'entriesProcessed'],
  '{"success": false, "message": "Re-compression left 1 file as they are: they could not be compressed"}', 'a partial failure names the number of files');
select tests.reset();

-- ------------------------------------------------------------------------------------------------------------------------- refusals
select pg_temp.ingest(7, '[["g.go", "package g", 300]]');
update public.context_ingestions set never_compress = true where project_id = pg_temp.pid() and number = 7;
select is(pg_temp.notified('dora', pg_temp.compress(7)), '409 NEVER_COMPRESS', 'what is marked is not compressed');
select tests.reset();
select is((select f ->> 'reason' from jsonb_array_elements(pg_temp.lists() -> 'neverCompressFiles') f where f ->> 'path' = 'g.go'), 'Marked as never compress', 'and listed so');
insert into public.context_ingestions (organization_id, project_id, number) values (tests.org('anna'), pg_temp.pid(), 8);
select is(pg_temp.notified('dora', pg_temp.compress(8)), '409 INGESTION_NOT_READY', 'nor what is processing');
select tests.reset();
update public.context_ingestions set status = 'failed' where project_id = pg_temp.pid() and number = 8;
select is(pg_temp.notified('dora', pg_temp.compress(8)), '409 INGESTION_NOT_READY', 'nor what has failed');
select tests.reset();
select throws_ok(format($$ update public.context_ingestions set compressed = true, compressed_tokens = 1 where project_id = %L and number = 7 $$, pg_temp.pid()), '23514', null,
  'an entry is not both compressed and never to be compressed');

-- ------------------------------------------------------------------------------------------------------------------- failure, sweep
select tests.act_as('dora');
select api.compress_ingestion(pg_temp.p(4)) ->> 'operationId' as operation \gset
select tests.reset();
delete from jobs.gue_jobs where job_type = 'compression.run';
update private.compressions set touched_at = clock_timestamp() - interval '3 minutes';
select is(private.sweep_compressions(), 1, 'a compression that lost its job gets another one');
select is(private.sweep_compressions(), 0, 'once');
select private.continue_compression(:'operation', sha256('last'), 'go');
select is((select convert_from(j.args, 'UTF8')::jsonb ->> 'after' from jobs.gue_jobs j where j.job_type = 'compression.run' and convert_from(j.args, 'UTF8')::jsonb ? 'after'), encode(sha256('last'), 'hex'),
  'what is left goes on behind the last text');
select private.fail_compression(:'operation');
select is((select row (o.status, o.error_code)::text from public.context_operations o where o.id = :'operation'), '(failed,SERVICE_UNAVAILABLE)', 'a job that used up its attempts ends it');
select is(private.begin_compression(:'operation'), null, 'a job that comes later does nothing');
select tests.act_as('dora');
select is((tests.refusal(format($$ select api.compressed_ingestion(%L) $$, pg_temp.p(4) || jsonb_build_object('started', jsonb_build_object('operationId', :'operation'))))) ->> 'status', '503', 'the request answers so');
select isnt(api.compress_ingestion(pg_temp.p(4)) ->> 'operationId', null, 'and the next one begins again');
select tests.reset();

delete from public.content_blobs b where b.project_id = pg_temp.pid() and b.hash = sha256('import b');
select is((select count(*) from public.compressed_files t where t.project_id = pg_temp.pid() and t.hash = sha256('import b')), 0::bigint, 'texts go with their content');

-- The check values of 3.2, by a declared entry.
select pg_temp.pid() as one \gset
delete from public.context_ingestions where project_id = pg_temp.pid();
delete from public.context_files where project_id = pg_temp.pid();
insert into public.context_ingestions (organization_id, project_id, number, kind, status, tokens, compressed, compressed_tokens)
values (tests.org('anna'), pg_temp.pid(), 1, 'declared', 'ready', 2458624, true, 126847);
select is(private.context_metrics(pg_temp.pid()) - array['lastIngestion', 'avgInterval', 'totalIngestions'],
  '{"originalTokens": 2458624, "compressedTokens": 126847, "ratio": 19.4, "savingsPercent": 94.8, "costSavings": 23.32}', 'the check values of the contract');
select * from finish();
rollback;
