-- Sources and the explorer tree of a context, by actor.
begin;
select no_plan();
-- Anna owns a shared project, Ben (a viewer) and Dora (a developer) are members, Otto is an auditor, Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.member('dora', 'anna'), tests.member('otto', 'anna'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql immutable as $$ select '00000000-0000-4000-8000-0000000000c1'::uuid $$;
create function pg_temp.p(p_more jsonb default '{}') returns jsonb language sql as $$ select jsonb_build_object('contextId', pg_temp.pid(), 'projectId', pg_temp.pid()) || p_more $$;
create function pg_temp.notified(p_sql text) returns text language sql as $$ select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field', r -> 'details' ->> 'required') from tests.refusal(p_sql) r $$;
select tests.act_as('anna');
select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Shop', 'privacy', 'shared'))) is not null;
select api.add_repository(pg_temp.p('{"body": {"provider": "github", "repositoryUrl": "https://github.com/a/shop"}}')) ->> 'id' as repo \gset
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), tests.user(n), n || '@example.nl', r, now() from (values ('dora', 'developer'), ('otto', 'auditor')) v (n, r);

-- An upload, an archive and a repository, as an ingestion left them.
create function pg_temp.upload(p_path text) returns jsonb language sql as $$
  select private.place_files(pg_temp.pid(), jsonb_build_array(jsonb_build_object('name', p_path, 'path', p_path, 'type', 'text/plain', 'size', 8,
    'checksum', encode(sha256('x'), 'hex'), 'storageKey', 'a key of ' || rpad(md5(p_path), 20))), 'upload') $$;
create function pg_temp.ingest(p_number integer, p_path text, p_origin text default 'file', p_bytes bigint default 8, p_repo uuid default null) returns void language sql as $$
  insert into public.context_files (organization_id, project_id, path, number, hash, origin, repository_id, bytes, tokens)
  values (tests.org('anna'), pg_temp.pid(), p_path, p_number, sha256(convert_to(p_path, 'UTF8')), p_origin, p_repo, p_bytes, 2)
  on conflict (project_id, path collate "C") do update set number = excluded.number, origin = excluded.origin, repository_id = excluded.repository_id,
    hash = excluded.hash, is_hidden = false $$;
create function pg_temp.file(p_path text) returns public.context_files language sql as $$
  select f from public.context_files f where f.project_id = pg_temp.pid() and f.path = p_path $$;
select is(jsonb_array_length(pg_temp.upload('docs/guide.md') -> 'placed') + jsonb_array_length(pg_temp.upload('code.zip') -> 'placed'), 2, 'two uploads are stored');
insert into public.context_ingestions (organization_id, project_id, number, status, source_type, compressed, compressed_tokens, tokens, compression_key)
values (tests.org('anna'), pg_temp.pid(), 1, 'ready', 'file', false, null, 9, null), (tests.org('anna'), pg_temp.pid(), 2, 'ready', 'repo', true, 5, 9, 'key');
insert into private.context_counters (project_id, organization_id, last_number, current_number) values (pg_temp.pid(), tests.org('anna'), 2, 2)
on conflict (project_id) do update set last_number = 2, current_number = 2;
select pg_temp.ingest(1, 'docs/guide.md', 'file', 10), pg_temp.ingest(1, 'code.zip/a.py'), pg_temp.ingest(1, 'code.zip/b%.py');
select pg_temp.ingest(2, 'src/app.TSX', 'repository', 100, :'repo'), pg_temp.ingest(2, 'src/lib/util.yml', 'repository', 7, :'repo'), pg_temp.ingest(2, 'README', 'repository', 1, :'repo');
insert into public.content_blobs (organization_id, project_id, hash, content) select organization_id, project_id, hash, 'x' from public.context_files where path = 'src/app.TSX';
insert into public.compressed_files (organization_id, project_id, hash, language, settings_key, content, tokens)
select organization_id, project_id, hash, language, 'key', 'c', 1 from public.context_files where path = 'src/app.TSX';
update public.context_files set tokens = 64 where path = 'src/app.TSX';

-- Ends a run that read these files.
create function pg_temp.run(p_files jsonb) returns void language plpgsql as $$
declare
  r public.ingestion_runs;
begin
  perform private.add_ingestion(pg_temp.pid(), '{"sourceType": "file", "sources": {"fileIds": []}}', tests.user('dora'));
  select * into r from public.ingestion_runs x where x.project_id = pg_temp.pid() and x.outcome = 'open';
  insert into private.run_manifests (run_id, path, hash, origin, language, bytes, tokens)
  select r.id, key, sha256(convert_to(value, 'UTF8')), 'file', 'text', 8, 2 from jsonb_each_text(p_files);
  perform private.write_completion(r.id, '{}');
end $$;

-- ------------------------------------------------------------------------------------------------------------------------ the list
select is((pg_temp.file('docs/guide.md')).id, f.id, 'a file of the current set has the id of its upload') from public.project_files f where f.path = 'docs/guide.md';
select is((pg_temp.file('code.zip/a.py')).upload_id, f.id, 'one of an archive names it') from public.project_files f where f.path = 'code.zip';
select tests.act_as('ben');
select is((select jsonb_agg(s - 'id') from jsonb_array_elements(api.list_sources(pg_temp.p())) s), '[
  {"name": "README", "path": "README", "fileType": "other", "size": 1, "selected": true, "compressed": false},
  {"name": "a.py", "path": "code.zip/a.py", "fileType": "python", "size": 8, "selected": true, "compressed": false},
  {"name": "b%.py", "path": "code.zip/b%.py", "fileType": "python", "size": 8, "selected": true, "compressed": false},
  {"name": "guide.md", "path": "docs/guide.md", "fileType": "markdown", "size": 10, "selected": true, "compressed": false},
  {"name": "app.TSX", "path": "src/app.TSX", "fileType": "typescript", "size": 100, "selected": true, "compressed": true},
  {"name": "util.yml", "path": "src/lib/util.yml", "fileType": "yaml", "size": 7, "selected": true, "compressed": false}]', 'a viewer reads the sources, by path');
select is(current_setting('response.headers')::jsonb, '{"X-Total-Count": "6", "X-Has-More": "false"}', 'with their number');
select is((select jsonb_agg(s -> 'path') from jsonb_array_elements(api.list_sources(pg_temp.p(q::jsonb))) s), w::jsonb, q) from (values
  ('{"limit": 2, "offset": 1}', '["code.zip/a.py", "code.zip/b%.py"]'), ('{"search": " SRC/"}', '["src/app.TSX", "src/lib/util.yml"]'), ('{"search": "%"}', '["code.zip/b%.py"]'),
  ('{"search": "_"}', null), ('{"selected": false}', null), ('{"selected": "true", "limit": 1}', '["README"]')) v (q, w);
select is(current_setting('response.headers')::jsonb, '{"X-Total-Count": "6", "X-Has-More": "true"}', 'a page says that there are more');
select is(pg_temp.notified(format('select api.list_sources(%L)', pg_temp.p(q::jsonb))), w, q) from (values
  ('{"limit": 5001}', '400 VALIDATION_ERROR limit'), ('{"offset": -1}', '400 VALIDATION_ERROR offset'), ('{"selected": "perhaps"}', '400 VALIDATION_ERROR selected'),
  ('{"contextId": "x"}', '404 CONTEXT_NOT_FOUND')) v (q, w);

-- ------------------------------------------------------------------------------------------------------------------- the selection
select is(api.get_token_usage(pg_temp.p()), '{"currentTokens": 34, "maxTokens": 128000, "percentage": 0.0}', 'the gauge is the bytes of selected files by four');
select is(api.update_source(pg_temp.p(jsonb_build_object('fileId', f.id, 'body', '{"selected": false}'::jsonb))) -> 'selected', 'false'::jsonb, 'Ben leaves a file out')
from public.context_files f where f.path = 'src/app.TSX';
select is(api.update_source(pg_temp.p(jsonb_build_object('fileId', f.id, 'body', '{"selected": false}'::jsonb))) -> 'selected', 'false'::jsonb, 'again')
from public.context_files f where f.path = 'src/app.TSX';
select is(api.get_token_usage(pg_temp.p()) -> 'currentTokens', to_jsonb(9), 'which the gauge notices, rounded up from 8.5');
select is((select jsonb_agg(s -> 'path') from jsonb_array_elements(api.list_sources(pg_temp.p('{"selected": false}'))) s), '["src/app.TSX"]', 'and the list');
select is(api.select_sources(pg_temp.p(jsonb_build_object('body', jsonb_build_object('fileIds', jsonb_build_array(f.id, gen_random_uuid(), 'x'))))),
  '{"selectedCount": 1, "totalCount": 6}', 'exactly these: ids of no source select nothing') from public.context_files f where f.path = 'README';
select is(api.select_sources(pg_temp.p(jsonb_build_object('body', jsonb_build_object('fileIds', jsonb_build_array(f.id))))),
  '{"selectedCount": 2, "totalCount": 6}', 'an archive of the tree is what is in it') from public.project_files f where f.path = 'code.zip';
select is(api.select_sources(pg_temp.p('{"body": {"selected": false}}')), '{"selectedCount": 0, "totalCount": 6}', 'none');
select is(api.get_token_usage(pg_temp.p()), '{"currentTokens": 0, "maxTokens": 128000, "percentage": 0}', 'nothing selected takes nothing');
select is(api.update_source(pg_temp.p(jsonb_build_object('fileId', f.id, 'body', '{"selected": true}'::jsonb))) -> 'selected', 'true'::jsonb, 'one of them again')
from public.context_files f where f.path = 'src/app.TSX';
select is((select count(*) from public.context_source_selection), 5::bigint, 'Ben reads his selection');
select is(pg_temp.notified(format('select api.select_sources(%L)', pg_temp.p(jsonb_build_object('body', b::jsonb)))), w, b) from (values ('{}', '400 VALIDATION_ERROR selected'),
  ('{"selected": true, "fileIds": []}', '400 VALIDATION_ERROR fileIds'), ('{"fileIds": 7}', '400 VALIDATION_ERROR fileIds'), ('{"selected": 7}', '400 VALIDATION_ERROR selected'),
  ('[]', '400 VALIDATION_ERROR body')) v (b, w);
select is(pg_temp.notified(format('select api.update_source(%L)', pg_temp.p(q::jsonb))), w, q) from (values ('{"fileId": "x", "body": {"selected": true}}', '404 FILE_NOT_FOUND'),
  (format('{"fileId": "%s", "body": {"selected": true}}', gen_random_uuid()), '404 FILE_NOT_FOUND'), ('{"fileId": "x", "body": {"selected": "x"}}', '400 VALIDATION_ERROR selected'),
  (format('{"fileId": "%s", "body": {}}', (select f.id from public.context_files f where f.path = 'README')), '400 VALIDATION_ERROR selected')) v (q, w);
select tests.act_as('anna');
select is(jsonb_array_length(api.list_sources(pg_temp.p('{"selected": true}'))), 6, 'the selection of another member is their own');
select is((select count(*) from public.context_source_selection), 0::bigint, 'and not to be read');
select throws_ok($$ insert into public.context_source_selection (organization_id, project_id, user_id, file_id) select organization_id, project_id, tests.user('ben'), id from public.context_files $$,
  '42501', null, 'nor written past the functions');
select is(api.select_sources(pg_temp.p('{"body": {"selected": false}}')) -> 'selectedCount', to_jsonb(0), 'Anna leaves all out');
select is(api.select_sources(pg_temp.p('{"body": {"selected": true}}')) -> 'selectedCount', to_jsonb(6), 'and takes all');
select tests.act_as('otto');
select is(pg_temp.notified(format('select api.%s(%L)', f, pg_temp.p('{"body": {"selected": true}}'))), '403 FORBIDDEN ' || w, f || ' is closed to auditors')
from (values ('list_sources', 'viewFiles'), ('get_token_usage', 'viewFiles'), ('select_sources', 'selectSources'), ('update_source', 'selectSources'), ('list_context_files', 'viewFiles')) v (f, w);
select tests.act_as('stan');
select is(pg_temp.notified(format('select api.%s(%L)', f, pg_temp.p('{"body": {"selected": true}}'))), '404 CONTEXT_NOT_FOUND', f || ' is hidden from strangers')
from unnest(array['list_sources', 'get_token_usage', 'select_sources', 'update_source', 'list_context_files', 'create_context_folder', 'update_context_file', 'delete_context_file']) f;
select tests.act_anon();
select throws_ok($$ select api.list_sources('{}') $$, '42501', null, 'an anonymous caller has no sources');
select tests.act_service();
select throws_ok($$ select api.list_sources('{}') $$, '42501', null, 'nor has the service');

-- ------------------------------------------------------------------------------------------------------------------------- the tree
select tests.act_as('dora');
create function pg_temp.tree(p_more jsonb default '{}') returns text language sql as $$
  select string_agg(coalesce(u.n ->> 'name' || '/', '') || (t.n ->> 'name') || case when t.n ? 'isFolder' then '/' else '' end, ' ' order by o)
  from jsonb_array_elements(api.list_context_files(pg_temp.p(p_more))) with ordinality t (n, o)
  left join lateral (select n from jsonb_array_elements(api.list_context_files(pg_temp.p())) l (n) where n -> 'id' = t.n -> 'parentId') u on true $$;
create function pg_temp.node(p_name text) returns uuid language sql as $$
  select (n ->> 'id')::uuid from jsonb_array_elements(api.list_context_files(pg_temp.p())) n where n ->> 'name' = p_name $$;
select is((select string_agg(w, ' ' order by w) from string_to_table(pg_temp.tree(), ' ') w), 'README code.zip docs/ docs/guide.md lib/util.yml src/ src/app.TSX src/lib/', 'stored files and those of repositories, in folders');
select is((select jsonb_agg(n -> 'name') from jsonb_array_elements(api.list_context_files(pg_temp.p())) n where n -> 'parentId' = 'null'), '["docs", "code.zip", "README", "src"]', 'fetched ones stand behind stored siblings');
select is(pg_temp.tree(jsonb_build_object('parentId', pg_temp.node('src'))), 'src/app.TSX src/lib/', 'the children of a folder made of paths');
select is(pg_temp.tree('{"search": "UTIL"}'), 'lib/util.yml', 'a search');
select is(api.list_context_files(pg_temp.p()), api.list_source_files(pg_temp.p()), 'the same under the project');
select is(pg_temp.notified(format('select api.%s(%L)', f, pg_temp.p(jsonb_build_object('fileId', pg_temp.node(n), 'body', '{"name": "other"}'::jsonb)))), '403 FORBIDDEN', f || ' of ' || n || ' is refused')
from unnest(array['README', 'src', 'lib', 'app.TSX']) n, unnest(array['update_context_file', 'delete_context_file']) f;
select is(pg_temp.notified(format('select api.create_context_folder(%L)', pg_temp.p(jsonb_build_object('body', jsonb_build_object('name', n, 'parentId', pg_temp.node(w)))))), r, n || ' in ' || coalesce(w, 'the root'))
from (values ('new', 'src', '403 FORBIDDEN parentId'), ('src', null, '409 FILE_EXISTS name'), ('README', null, '409 FILE_EXISTS name'), ('new', 'README', '400 VALIDATION_ERROR parentId')) v (n, w, r);
select is(pg_temp.notified(format('select api.update_context_file(%L)', pg_temp.p(jsonb_build_object('fileId', gen_random_uuid(), 'body', '{}'::jsonb)))), '404 FILE_NOT_FOUND', 'an unknown file is none');
select is(api.create_context_folder(pg_temp.p('{"body": {"name": "notes"}}')) -> 'isFolder', 'true'::jsonb, 'a developer makes a folder');
select tests.act_as('ben');
select is(pg_temp.notified(format('select api.create_context_folder(%L)', pg_temp.p('{"body": {"name": "x"}}'))), '403 FORBIDDEN editFiles', 'a viewer makes none');

-- A new name stays the same file: at once in the tree, and in the current set with the next ingestion.
select tests.act_as('ben');
select api.update_source(pg_temp.p(jsonb_build_object('fileId', f.id, 'body', '{"selected": false}'::jsonb))) -> 'path' from public.context_files f where f.path = 'docs/guide.md';
select id as guide from public.context_files where path = 'docs/guide.md' \gset
select tests.act_as('dora');
select is(api.update_context_file(pg_temp.p(jsonb_build_object('fileId', :'guide', 'body', '{"name": "manual.md"}'::jsonb))) ->> 'name', 'manual.md', 'an upload gets another name');
select is((select string_agg(w, ' ' order by w) from string_to_table(pg_temp.tree(), ' ') w), 'README code.zip docs/ docs/manual.md lib/util.yml notes/ src/ src/app.TSX src/lib/', 'which the tree shows once');
select is((select s ->> 'path' from jsonb_array_elements(api.list_sources(pg_temp.p())) s where s ->> 'id' = :'guide'), 'docs/guide.md', 'the sources have the path of the ingestion');
select tests.reset();
select pg_temp.run('{"docs/manual.md": "new"}');
select is((pg_temp.file('docs/manual.md')).id, :'guide', 'after the next one the file has its new path and its id');
select is((select count(*) from public.context_source_selection s where s.file_id = :'guide'), 1::bigint, 'and is still left out by Ben');

select is((select jsonb_agg(o.path || ' ' || o.operation order by o.path) from public.context_file_ops o where o.project_id = pg_temp.pid() and o.number = 3),
  '["docs/guide.md removed", "docs/manual.md added"]', 'versions have it under each of its paths');

-- What is deleted is hidden with all that came from it; another upload of the path brings it back.
select tests.act_as('dora');
select api.delete_context_file(pg_temp.p(jsonb_build_object('fileId', pg_temp.node('code.zip')))), api.delete_context_file(pg_temp.p(jsonb_build_object('fileId', pg_temp.node('docs'))));
select is((select jsonb_agg(s -> 'path') from jsonb_array_elements(api.list_sources(pg_temp.p())) s), '["README", "src/app.TSX", "src/lib/util.yml"]', 'a deleted archive and folder leave the sources');
select is(pg_temp.notified(format('select api.update_source(%L)', pg_temp.p(jsonb_build_object('fileId', :'guide', 'body', '{"selected": true}'::jsonb)))), '404 FILE_NOT_FOUND', 'a hidden file is none');
select tests.reset();
select is((select count(*) from public.context_files f where f.is_hidden), 3::bigint, 'the rows stay, hidden');
select is(pg_temp.upload('docs/manual.md') -> 'placed' -> 0 ->> 'id', :'guide', 'the same path uploaded again is the same file');
select pg_temp.run('{"docs/manual.md": "new"}');
select is(((pg_temp.file('docs/manual.md')).id, (pg_temp.file('docs/manual.md')).upload_id, (pg_temp.file('docs/manual.md')).is_hidden), (:'guide'::uuid, :'guide'::uuid, false), 'after an ingestion it is back');
select pg_temp.ingest(5, 'docs/manual.md', 'repository', 8, :'repo');
select is(((pg_temp.file('docs/manual.md')).id, (pg_temp.file('docs/manual.md')).upload_id), (:'guide'::uuid, null::uuid), 'a repository with the path brings no other file, but it is not the upload any more');
delete from public.project_repositories where id = :'repo';
select is((select count(*) from public.context_files f where not f.is_hidden), 0::bigint, 'a removed repository is hidden as well');

-- Two uploads that change names.
select pg_temp.upload('one.txt') is not null, pg_temp.upload('two.txt') is not null;
select pg_temp.run('{"one.txt": "1", "two.txt": "2"}');
select (pg_temp.file('one.txt')).id as one, (pg_temp.file('two.txt')).id as two \gset
select tests.act_as('dora');
select api.update_context_file(pg_temp.p(jsonb_build_object('fileId', :'one', 'body', '{"name": "x.txt"}'::jsonb))) is not null,
  api.update_context_file(pg_temp.p(jsonb_build_object('fileId', :'two', 'body', '{"name": "one.txt"}'::jsonb))) is not null,
  api.update_context_file(pg_temp.p(jsonb_build_object('fileId', :'one', 'body', '{"name": "two.txt"}'::jsonb))) is not null;
select tests.reset();
select lives_ok($$ select pg_temp.run('{"one.txt": "2", "two.txt": "1"}') $$, 'an ingestion of exchanged names keeps both files');
select is((select array_agg(f.path order by f.path) from public.context_files f where not f.is_hidden), array['one.txt', 'two.txt'], 'each under its path');

-- ------------------------------------------------------------------------------------------------------------------ dropped files
select tests.act_as('anna');
create function pg_temp.drop_files(p_names text[], p_rejected jsonb default '[]') returns jsonb language sql as $$
  select api.register_sources(pg_temp.p(jsonb_build_object('rejected', p_rejected, 'stored', jsonb_build_object('files', (select coalesce(jsonb_agg(jsonb_build_object('name', regexp_replace(n, '^.*/', ''),
    'path', n, 'type', 'text/plain', 'size', 9, 'checksum', encode(sha256('x'), 'hex'), 'storageKey', 'dropped ' || rpad(md5(n), 20)) order by o), '[]') from unnest(p_names) with ordinality t (n, o)))))) $$;
select is(jsonb_array_length(api.admit_sources(pg_temp.p())), 14, 'the server asks which files are accepted');
select is(x - array['sources', 'operationId', 'refused'], '{"added": 2, "rejected": 4, "rejectedFiles": ["a.exe", "b.bin", "one.txt", "c"], "status": "queued"}', 'accepted files are added, others are named')
  from pg_temp.drop_files(array['new/One.TSX', 'b.bin', 'new/two.py', 'one.txt', 'c'], '["a.exe"]') x;
select is((select jsonb_agg(f.path order by f.path) from public.project_files f where f.path like 'new/%'), '["new/One.TSX", "new/two.py"]', 'they are stored');
select tests.reset();
select is((select jsonb_build_object('name', e.display_name, 'type', e.source_type, 'files', jsonb_array_length(e.sources -> 'fileIds'), 'compress', e.wants_compression) from public.context_ingestions e
  where e.project_id = pg_temp.pid() order by e.number desc limit 1), '{"name": "2 files", "type": "file", "files": 2, "compress": false}', 'and are one ingestion');
select tests.act_as('anna');
select is(pg_temp.drop_files(array['new/two.py', 'x.sh']) - 'refused', '{"added": 0, "rejected": 1, "rejectedFiles": ["x.sh"], "sources": []}', 'a path that is there counts in neither number, and nothing is ingested');
select is(jsonb_array_length(pg_temp.drop_files(array['new/two.py', 'x.sh']) -> 'refused'), 2, 'the content of both is deleted again');
select is(pg_temp.notified('select pg_temp.drop_files(array[]::text[])'), '400 VALIDATION_ERROR files', 'a request without files is none');
select tests.act_as('ben');
select is(pg_temp.notified($$ select pg_temp.drop_files(array['a.ts']) $$), '403 FORBIDDEN editFiles', 'a viewer adds nothing');
select tests.act_as('stan');
select is(pg_temp.notified($$ select pg_temp.drop_files(array['a.ts']) $$), '404 CONTEXT_NOT_FOUND', 'nor does a stranger');
select is(pg_temp.notified(format('select api.admit_sources(%L)', pg_temp.p())), '404 CONTEXT_NOT_FOUND', 'who is not told what is accepted');
select tests.reset();

-- ------------------------------------------------------------------------------------------------------------------ views, and leaving
select tests.act_as('ben');
select private.view_source(pg_temp.pid(), :'two'), private.view_source(pg_temp.pid(), :'two');
select is((select jsonb_agg(a.description || ' ' || (a.metadata ->> 'path')) from public.project_activity a where a.type = 'view'), '["viewed two.txt two.txt"]', 'a file is viewed once an hour');
select tests.act_as('stan');
select lives_ok(format('select private.view_source(%L, %L)', pg_temp.pid(), :'two'), 'a stranger views nothing');
select tests.reset();
select is((select count(*) from public.project_activity a where a.user_id = tests.user('stan')), 0::bigint, 'which leaves no trace');
select tests.act_as('dora');
select api.select_sources(pg_temp.p('{"body": {"selected": false}}')) -> 'selectedCount';
select tests.act_as('anna');
select api.remove_project_member(pg_temp.p(jsonb_build_object('memberId', (select m.id from public.project_members m where m.email = 'dora@example.nl' and m.project_id = pg_temp.pid())))) is not null;
select tests.reset();
select is((select count(*) from public.context_source_selection s where s.user_id = tests.user('dora')), 0::bigint, 'a removed member''s selection goes along');
select isnt((select count(*) from public.context_source_selection s where s.user_id = tests.user('ben')), 0::bigint, 'others keep theirs');
delete from public.memberships where user_id = tests.user('ben') and organization_id = tests.org('anna');
select is((select count(*) from public.context_source_selection s where s.user_id = tests.user('ben')), 0::bigint, 'and so does that of a person who leaves the organization');
delete from public.projects where id = pg_temp.pid();
select is((select count(*) from public.context_files f where f.project_id = pg_temp.pid()), 0::bigint, 'a project is deleted with its files');

select * from finish();
rollback;
