-- Entries of a context, their runs, and the versions that they make. A run is played by its manifest and its end.
begin;
select no_plan();

-- Anna owns the context; Mia, Dev, Ben, Vi and Udo are manager, developers, viewer and auditor; Stan belongs to another organization.
select tests.user('anna');
select tests.member('mia', 'anna', 'member'), tests.member('dev', 'anna', 'member'), tests.member('ben', 'anna', 'member'), tests.member('vi', 'anna', 'member'),
  tests.member('udo', 'anna', 'member'), tests.user('stan');
update public.subscriptions set plan_id = 'enterprise' where organization_id = tests.org('anna');
create function pg_temp.cid() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000c1'::uuid $$;
select tests.act_as('anna');
select lives_ok($$ select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.cid(), 'name', 'Notes'))) $$, 'the owner makes a project');
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
select tests.org('anna'), pg_temp.cid(), tests.user(n), n || '@example.nl', r, now()
from (values ('mia', 'manager'), ('dev', 'developer'), ('ben', 'developer'), ('vi', 'viewer'), ('udo', 'auditor')) v (n, r);
insert into public.project_files (id, organization_id, project_id, origin, name, path, mime_type, size, checksum, storage_key, storage_provider)
values ('00000000-0000-4000-8000-0000000000f1', tests.org('anna'), pg_temp.cid(), 'upload', 'a.md', 'a.md', 'text/markdown', 5, repeat('0', 64), 'key-a-0123456789ab', 'local');
create function pg_temp.p(p_more jsonb default '{}') returns jsonb language sql as $$ select jsonb_build_object('contextId', pg_temp.cid()) || p_more $$;
create function pg_temp.config(p_more jsonb default '{}') returns jsonb language sql as $$
  select '{"fileId": "00000000-0000-4000-8000-0000000000f1", "fileName": "a.md", "displayName": " Notes of A ", "processingMode": "none",
    "codebase": {"type": "existing", "name": ""}}'::jsonb || p_more $$;
create function pg_temp.ingest(p_body jsonb) returns jsonb language sql as $$ select api.create_ingestion(pg_temp.p(jsonb_build_object('body', p_body))) $$;
create function pg_temp.run() returns uuid language sql security definer as $$ select id from public.ingestion_runs where project_id = pg_temp.cid() and outcome = 'open' $$;
-- Ends the open run with these files: {"path": "content"}, all of one origin.
create function pg_temp.finish(p_files jsonb, p_origin text default 'file', p_repository uuid default null) returns void language plpgsql security definer as $$
declare
  v_run uuid := pg_temp.run();
begin
  insert into public.content_blobs (organization_id, project_id, hash, content, tokens, lines)
  select distinct on (sha256(convert_to(value, 'UTF8'))) tests.org('anna'), pg_temp.cid(), sha256(convert_to(value, 'UTF8')), convert_to(value, 'UTF8'), length(value),
    array_length(string_to_array(value, E'\n'), 1)
  from jsonb_each_text(p_files) on conflict do nothing;
  insert into private.run_manifests (run_id, path, hash, origin, repository_id, language, bytes, tokens)
  select v_run, key, sha256(convert_to(value, 'UTF8')), p_origin, p_repository, 'markdown', octet_length(value), length(value) from jsonb_each_text(p_files);
  perform private.write_completion(v_run, '{}');
end $$;
create function pg_temp.fail() returns void language sql security definer as $$ select private.write_failure(pg_temp.run(), 'REPO_FETCH_FAILED', 'No such host.') $$;
-- {"path": "content"} of the current set and of a version.
create function pg_temp.files() returns jsonb language sql security definer as $$
  select coalesce(jsonb_object_agg(f.path, convert_from(b.content, 'UTF8')), '{}') from public.context_files f
  join public.content_blobs b on b.project_id = f.project_id and b.hash = f.hash where f.project_id = pg_temp.cid() and not f.is_hidden $$;
create function pg_temp.state(p_number integer) returns jsonb language sql security definer as $$
  select coalesce(jsonb_object_agg(s.path, convert_from(b.content, 'UTF8')), '{}') from private.context_state(pg_temp.cid(), p_number) s
  join public.content_blobs b on b.project_id = pg_temp.cid() and b.hash = s.hash $$;
create function pg_temp.entry(p_number integer) returns jsonb language sql security definer as $$
  select private.ingestion_json(e) from public.context_ingestions e where e.project_id = pg_temp.cid() and e.number = p_number $$;
create function pg_temp.notified() returns text[] language sql security definer as $$
  select array_agg(type || coalesce(' ' || (data ->> 'field'), '') order by seq) from private.event_inbox where room = 'context:' || pg_temp.cid() and type like 'ingestion:%' $$;

-- ------------------------------------------------------------------------------------------------------------- what a request may say
select tests.act_as('vi');
select throws_ok($$ select pg_temp.ingest(pg_temp.config()) $$, 'PT403', 'Your role in this context (viewer) does not allow this.', 'a viewer ingests nothing');
select tests.act_as('stan');
select throws_ok($$ select pg_temp.ingest(pg_temp.config()) $$, 'PT404', 'This context does not exist.', 'for a stranger there is no context');
select tests.act_anon();
select throws_ok($$ select pg_temp.ingest(pg_temp.config()) $$, '42501', null, 'an anonymous caller ingests nothing');
select tests.act_as('dev');
create function pg_temp.field(p_body jsonb) returns text language plpgsql as $$
declare v text; begin
  perform pg_temp.ingest(p_body);
  return 'accepted';
exception when sqlstate 'PT400' then
  get stacked diagnostics v = pg_exception_detail;
  return coalesce(v::jsonb ->> 'field', '');
end $$;
select is(pg_temp.field(b), f, d) from (values
  ('{}'::jsonb, '', 'a body says one of three things'),
  (pg_temp.config('{"fileId": "00000000-0000-4000-8000-0000000000ff"}'), 'fileId', 'a file of another project is no source'),
  (pg_temp.config('{"fileId": 7}'), 'fileId', 'an id is a text'),
  (pg_temp.config('{"fileName": ""}'), 'fileName', 'a file has a name'),
  (pg_temp.config('{"displayName": "  "}'), 'displayName', 'an entry has a name'),
  (pg_temp.config('{"processingMode": "zip"}'), 'processingMode', 'there are two ways of processing'),
  (pg_temp.config('{"codebase": {"type": "old", "name": ""}}'), 'codebase', 'code is new or known'),
  (pg_temp.config(jsonb_build_object('description', repeat('x', 2001))), 'description', 'a description has its length'),
  (pg_temp.config('{"tags": "api"}'), 'tags', 'tags are a list'),
  (pg_temp.config('{"tags": [7]}'), 'tags', 'of texts'),
  (pg_temp.config(jsonb_build_object('documentationTags', (select jsonb_agg('t' || n) from generate_series(1, 51) n))), 'documentationTags', 'of at most fifty'),
  (pg_temp.config(jsonb_build_object('knowledgeGraphTags', jsonb_build_array(repeat('x', 51)))), 'knowledgeGraphTags', 'of fifty characters'),
  (pg_temp.config('{"processingMode": "compress", "chromacode": {"meta": "#000000"}}'), 'chromacode', 'five colors are needed'),
  (pg_temp.config('{"processingMode": "compress", "chromacode": {"controlFlow": "#000000", "storage": "#010101", "literals": "#020202", "execution": "#030303", "meta": "#040404"}}'),
    'chromacode', 'that can be told apart'),
  (jsonb_build_object('config', pg_temp.config(), 'sourceType', 'repo', 'repoUrl', 'http://github.com/a/b'), 'repoUrl', 'a repository comes over https'),
  (jsonb_build_object('config', pg_temp.config(), 'sourceType', 'repo', 'repoUrl', 'https://me:secret@github.com/a/b'), 'repoUrl', 'without credentials'),
  (jsonb_build_object('config', pg_temp.config(), 'sourceType', 'repo', 'repoUrl', 'https://127.0.0.1/a/b'), 'repoUrl', 'from a known host'),
  (jsonb_build_object('config', pg_temp.config(), 'sourceType', 'repo', 'repoUrl', 'https://github.com/a/b', 'branch', 'a..b'), 'branch', 'on a branch'),
  (jsonb_build_object('config', pg_temp.config()), 'sourceType', 'a configuration alone has no source'),
  ('{"filesAdded": -1}', 'filesAdded', 'counts are not negative'), ('{"filesAdded": 1.5}', 'filesAdded', 'and whole'),
  ('{"filesAdded": 1, "filesRemoved": 1000001}', 'filesRemoved', 'and bounded'), ('{"filesAdded": 1, "tokens": -1}', 'tokens', 'tokens too'),
  ('{"filesAdded": 1, "sourceType": "zip"}', 'sourceType', 'three kinds of source'), ('{"filesAdded": 1, "displayName": ""}', 'displayName', 'a name is no empty text'),
  ('{"filesAdded": 1, "compressed": true, "neverCompress": true}', 'neverCompress', 'both is a contradiction')) v (b, f, d);
select is(private.visibility_index(array['#D00000', '#0000D0', '#007000', '#800080', '#505050']), 75, 'the default colors have index 75');
select is((private.as_ingestion_config(pg_temp.config('{"tags": [" API ", "api", "", "Guide"], "documentationTags": ["guide", "setup"], "knowledgeGraphTags": ["entity"]}'))) ->> 'tags',
  '["api", "guide", "setup", "entity"]', 'tags are united in order, in lower case');
select is((private.as_ingestion_config(pg_temp.config('{"processingMode": "compress", "neverCompress": true}'))) - array['tags', 'codebase', 'fileId', 'fileName', 'displayName'],
  '{"compress": true, "neverCompress": false, "isVerbatim": false, "chromacode": {"meta": "#505050", "storage": "#0000D0", "literals": "#007000", "execution": "#800080", "controlFlow": "#D00000"}}',
  'compression wins over never, and has its colors');

-- -------------------------------------------------------------------------------------------------------------- one entry after another
select tests.reset();
delete from private.event_inbox;
select tests.act_as('dev');
select is(pg_temp.ingest(pg_temp.config('{"tags": ["api"], "description": "What A wrote"}')) - array['id', 'timestamp', 'createdBy', 'operationId'],
  '{"number": 1, "status": "processing", "tokens": 0, "filesAdded": 0, "filesRemoved": 0, "filesModified": 0, "compressed": false, "neverCompress": false,
    "displayName": "Notes of A", "description": "What A wrote", "tags": ["api"], "sourceType": "file"}', 'the first entry is accepted');
select is(pg_temp.ingest(jsonb_build_object('config', pg_temp.config('{"displayName": "Repo"}'), 'sourceType', 'repo', 'repoUrl', 'https://github.com/a/b.git')) ->> 'number', '2',
  'the second is queued, not refused');
select tests.reset();
select is((select array_agg((number, run_id is not null)::text order by number) from public.context_ingestions where project_id = pg_temp.cid()), array['(1,t)', '(2,f)'], 'one runs at a time');
select is((select r.options ->> 'force' from public.ingestion_runs r where r.id = pg_temp.run()), 'false', 'its run reuses what is known');
select is(private.run_scope((select r from public.ingestion_runs r where r.id = pg_temp.run())), '{"fileIds": ["00000000-0000-4000-8000-0000000000f1"]}', 'and covers its source');
select is((select status from public.context_operations where project_id = pg_temp.cid() order by created_at limit 1), 'running', 'its operation runs');
select pg_temp.finish('{"a.md": "one\ntwo\n"}');
select is(pg_temp.entry(1) - array['id', 'timestamp', 'createdBy', 'tags', 'displayName', 'description', 'sourceType', 'compressed', 'neverCompress'],
  '{"number": 1, "status": "ready", "tokens": 8, "filesAdded": 1, "filesRemoved": 0, "filesModified": 0}', 'what the run found are the numbers of the entry');
select is((select status from public.context_operations where project_id = pg_temp.cid() order by created_at limit 1), 'completed', 'the operation is complete');
select is(private.run_scope((select r from public.ingestion_runs r where r.id = pg_temp.run())) ? 'repositoryIds', true, 'the next entry''s run has begun');
select id as repo from public.project_repositories where project_id = pg_temp.cid() \gset
select pg_temp.finish('{"src/x.go": "x", "src/y.go": "y", "a.md": "upstream"}', 'repository', :'repo');
select is(pg_temp.files(), '{"a.md": "upstream", "src/x.go": "x", "src/y.go": "y"}', 'the later source of a path wins');
select is((select row (files_added, files_modified, files_removed)::text from public.context_ingestions where project_id = pg_temp.cid() and number = 2), '(2,1,0)', 'counted exactly');
select is(pg_temp.notified(), array['ingestion:added', 'ingestion:added', 'ingestion:updated tokens', 'ingestion:updated status', 'ingestion:complete', 'ingestion:updated tokens',
  'ingestion:updated status', 'ingestion:complete'], 'the room hears of each step');
select is((select array_agg(description order by created_at) from public.project_activity where project_id = pg_temp.cid() and description like 'ingested%'),
  array['ingested Notes of A (#1)', 'ingested Repo (#2)'], 'the activity has both');
select is((select array_agg(distinct user_email) from public.project_activity where project_id = pg_temp.cid() and description like 'ingested%'), array['dev@example.nl'], 'by the person who began them');
select is(pg_temp.run(), null, 'no entry waits');
-- The same repository without one of its files.
select tests.act_as('dev');
select is(pg_temp.ingest(jsonb_build_object('config', pg_temp.config(), 'sourceType', 'repo', 'repoUrl', 'https://github.com/a/b')) ->> 'number', '3', 'the repository again');
select tests.reset();
select is((select count(*)::int from public.project_repositories where project_id = pg_temp.cid()), 1, 'is the same repository');
select id as kept from public.context_files where project_id = pg_temp.cid() and path = 'src/x.go' \gset
select pg_temp.finish('{"src/x.go": "x2", "a.md": "upstream"}', 'repository', :'repo');
select is(pg_temp.files(), '{"a.md": "upstream", "src/x.go": "x2"}', 'what is gone upstream is removed');
select is((select id from public.context_files where project_id = pg_temp.cid() and path = 'src/x.go'), :'kept', 'a file keeps its id while its path stays');
select is((select row (files_added, files_modified, files_removed, tokens)::text from public.context_ingestions where project_id = pg_temp.cid() and number = 3), '(0,1,1,2)', 'and counted');
select is((select row (files, tokens, bytes)::text from private.context_counters where project_id = pg_temp.cid()), '(2,10,10)', 'the sums of the set are kept');
-- Files and texts only add.
select tests.act_as('dev');
select is(pg_temp.ingest(pg_temp.config()) ->> 'number', '4', 'a file again');
select tests.reset();
select pg_temp.finish('{"b.md": "b"}');
select is(pg_temp.files(), '{"a.md": "upstream", "b.md": "b", "src/x.go": "x2"}', 'takes nothing away');
-- A failed run.
select tests.act_as('dev');
select is(pg_temp.ingest(pg_temp.config()) ->> 'number', '5', 'another one');
select is(pg_temp.ingest(pg_temp.config()) ->> 'number', '6', 'and its successor');
select tests.reset();
insert into private.run_manifests (run_id, path, hash, origin, language, bytes, tokens) values (pg_temp.run(), 'half.md', sha256('h'), 'file', 'text', 1, 1);
select pg_temp.fail();
select is(pg_temp.entry(5) ->> 'status', 'failed', 'a failed run fails its entry');
select is(pg_temp.entry(5) ->> 'errorMessage', 'REPO_FETCH_FAILED: No such host.', 'which says why');
select is_empty($$ select from private.run_manifests $$, 'nothing of it stays');
select isnt(pg_temp.run(), null, 'the next run begins all the same');
select tests.act_as('dev');
select lives_ok($$ select api.cancel_ingestion(jsonb_build_object('projectId', pg_temp.cid())) $$, 'a run is canceled');
select tests.reset();
select is(pg_temp.entry(6) ->> 'errorMessage', 'CANCELLED: The ingestion was cancelled.', 'and its entry');
select is((select status from public.context_operations where project_id = pg_temp.cid() order by created_at desc limit 1), 'cancelled', 'and its operation');
select is(private.current_version(pg_temp.cid()), 4, 'neither is the current version');
-- Each run has an entry.
select tests.act_as('dev');
select lives_ok($$ select api.start_ingestion(jsonb_build_object('projectId', pg_temp.cid(), 'body', '{"forceReprocess": true}'::jsonb)) $$, 'a run of the whole project');
select tests.reset();
select is((select row (number, sources)::text from public.context_ingestions where project_id = pg_temp.cid() and run_id = pg_temp.run()), '(7,{})', 'is an entry of all sources');
select pg_temp.fail();
select tests.act_as('dev');
select lives_ok($$ select api.recover_ingestion(jsonb_build_object('projectId', pg_temp.cid(), 'body', '{"action": "retry"}'::jsonb)) $$, 'a recovery');
select tests.reset();
select is((select row (number, sources)::text from public.context_ingestions where project_id = pg_temp.cid() and run_id = pg_temp.run()), '(8,{})', 'is the next entry');
-- An external worker reports no file.
select private.service_write_run('complete', pg_temp.cid(), '{"metrics": {"totalFiles": 9}, "totalDurationSeconds": 1}');
select is(pg_temp.entry(8) ->> 'status', 'ready', 'an external worker ends it');
select is(pg_temp.files(), '{"a.md": "upstream", "b.md": "b", "src/x.go": "x2"}', 'and changes no file');
select private.commit_ingestion((select run_id from public.context_ingestions where project_id = pg_temp.cid() and number = 8));
select is((select count(*)::int from public.context_changelog where project_id = pg_temp.cid() and number = 8), 1, 'a second end is none');
select throws_ok($$ update public.context_ingestions set status = 'processing' where number = 8 and project_id = pg_temp.cid() $$, 'PT409', null, 'an entry ends once');

-- ------------------------------------------------------------------------------------------------------------- declared entries
select tests.act_as('dev');
select is(pg_temp.ingest('{"filesAdded": 3, "filesRemoved": 1, "tokens": 500, "displayName": "Modal", "sourceType": "text", "compressed": true}') - array['id', 'timestamp', 'createdBy'],
  '{"number": 9, "status": "ready", "tokens": 500, "compressedTokens": 500, "filesAdded": 3, "filesRemoved": 1, "filesModified": 0, "compressed": true, "neverCompress": false,
    "displayName": "Modal", "sourceType": "text"}', 'a declared entry has the client''s numbers at once');
select is(api.get_compression(pg_temp.p()) #>> '{metrics,originalTokens}', '511', 'which count in the metrics');
select throws_ok($$ select api.update_ingestion(pg_temp.p('{"number": 9, "body": {"neverCompress": true}}')) $$, 'PT409', 'Ingestion #9 is compressed already.', 'never comes too late');
select is(api.get_ingestion_preview(pg_temp.p('{"number": "9"}')), '{"content": "", "summary": "Modal", "fileName": "Modal", "language": "text", "fileCount": 3}', 'its preview is empty');
select throws_ok($$ select api.attach_ingestion_content(pg_temp.p('{"number": "9", "body": {}}')) $$, 'PT400', null, 'content needs a source');
select pg_temp.ingest(pg_temp.config());
select tests.reset();
select pg_temp.finish('{"late.md": "ten"}');
select tests.act_as('dev');
select is(api.attach_ingestion_content(pg_temp.p('{"number": "9", "body": {"sourceType": "repo", "repoUrl": "https://github.com/c/d"}}')) ->> 'status', 'processing', 'content comes to it later');
select throws_ok($$ select api.attach_ingestion_content(pg_temp.p('{"number": "9", "body": {"sourceType": "repo", "repoUrl": "https://github.com/c/d"}}')) $$, 'PT409', null, 'once');
select tests.reset();
select pg_temp.finish('{"late.md": "nine", "c.md": "c"}', 'repository', (select id from public.project_repositories where repository_name = 'c/d'));
select is(pg_temp.entry(9) - array['id', 'timestamp', 'createdBy', 'displayName', 'sourceType', 'compressed', 'neverCompress'],
  '{"number": 9, "status": "ready", "tokens": 5, "filesAdded": 2, "filesRemoved": 0, "filesModified": 0}', 'measured numbers replace the declared ones');
select is(pg_temp.files() ->> 'late.md', 'ten', 'a later version of a path stands');
select is(pg_temp.state(9) ->> 'late.md', 'nine', 'below it stands the content that came late');

-- --------------------------------------------------------------------------------------------------------------- changing an entry
select tests.act_as('dev');
select is(api.update_ingestion(pg_temp.p('{"number": "1", "body": {"displayName": " First "}}')) ->> 'displayName', 'First', 'an entry is renamed');
select is(api.set_ingestion_tags(pg_temp.p('{"number": "1", "body": {"tags": [" Api ", "", "Api", "b"]}}')) ->> 'tags', '["Api", "b"]', 'and tagged, case kept');
select is(api.set_ingestion_tags(pg_temp.p('{"number": "1", "body": {"tags": []}}')) ? 'tags', false, 'and untagged');
select is(api.update_ingestion(pg_temp.p('{"number": "1", "body": {"neverCompress": true}}')) ->> 'neverCompress', 'true', 'and kept from compression');
select throws_ok(format($$ select api.update_ingestion(pg_temp.p('{"number": "1", "body": %s}')) $$, b), 'PT400', null, d) from (values
  ('{"displayName": " "}', 'a blank name'), ('{"tags": "x"}', 'tags that are no list'), ('{"neverCompress": 7}', 'a switch that is none')) v (b, d);
select throws_ok($$ select api.get_ingestion(pg_temp.p('{"number": "99"}')) $$, 'PT404', 'This context has no ingestion #99.', 'an unknown number');
select throws_ok($$ select api.get_ingestion(pg_temp.p('{"number": "x"}')) $$, 'PT400', 'number is a whole number from 0.', 'no number at all');
select is(jsonb_array_length(api.list_ingestions(pg_temp.p('{"search": "repo"}'))), 1, 'entries are searched');
select is(jsonb_array_length(api.list_ingestions(pg_temp.p('{"sourceType": "repo"}'))), 3, 'by their source');
select is(api.list_ingestions(pg_temp.p('{"pageSize": 2}')) -> 0 ->> 'number', '10', 'the newest first');
select is(current_setting('response.headers')::jsonb, '{"X-Total-Count": "10", "X-Has-More": "true"}', 'with how many there are');

-- ------------------------------------------------------------------------------------------------------- versions, rollback, deletion
select is(api.list_versions(pg_temp.p()) -> 0 ->> 'author', 'Dev Test', 'versions name their author');
select is(jsonb_array_length(api.list_versions(pg_temp.p())), 7, 'failed ones are none');
select is((api.list_changelog(pg_temp.p('{"limit": 1, "type": "ingestion"}'))) - 'entries', '{"totalCount": 7, "hasMore": true}', 'the changelog has a page and a total');
select is(api.get_changelog_entry(pg_temp.p('{"number": "3"}')) #- '{entry,id}' #- '{entry,timestamp}' #- '{entry,author}' #- '{modified,0,from}' #- '{modified,0,to}',
  '{"entry": {"type": "ingestion", "number": 3, "filesAdded": 0, "filesModified": 1, "filesRemoved": 1, "removedFiles": ["src/y.go"]},
    "modified": [{"path": "src/x.go", "isBinary": false}]}', 'an entry names its files');
select tests.act_as('udo');
select is(api.get_changelog_entry(pg_temp.p('{"number": "3"}')) #- '{entry,id}' #- '{entry,timestamp}' #- '{entry,author}',
  '{"entry": {"type": "ingestion", "number": 3, "filesAdded": 0, "filesModified": 1, "filesRemoved": 1}, "modified": []}', 'an auditor reads counts only');
select throws_ok($$ select api.diff_versions(pg_temp.p('{"from": "0", "to": "1"}')) $$, 'PT403', null, 'and no diff');
select throws_ok($$ select api.get_ingestion_preview(pg_temp.p('{"number": "1"}')) $$, 'PT403', null, 'no preview');
select throws_ok($$ select api.read_context_texts(pg_temp.p('{"hashes": []}')) $$, 'PT403', null, 'no text');
select throws_ok($$ select private.version_difference(pg_temp.cid(), 0, 1, null) $$, 'PT403', null, 'nor past the operation');
select is(api.get_compression(pg_temp.p()) -> 'pendingFiles', '[]', 'and no list of files');
select is_empty($$ select from public.context_files $$, 'nor a row of one');
select tests.act_as('vi');
select is((select jsonb_agg(f ->> 'path' || ' ' || (f ->> 'status')) from jsonb_array_elements(api.diff_versions(pg_temp.p('{"from": "1", "to": "3"}')) -> 'files') f),
  '["a.md modified", "src/x.go added"]', 'a diff names the files that differ');
select is((select jsonb_agg(f ->> 'path' || ' ' || (f ->> 'status')) from jsonb_array_elements(api.diff_versions(pg_temp.p('{"from": "3", "to": "1"}')) -> 'files') f),
  '["a.md modified", "src/x.go removed"]', 'backwards too');
select throws_ok($$ select api.diff_versions(pg_temp.p('{"from": "0", "to": "11"}')) $$, 'PT404', 'There is no version 11; the current one is 10.', 'above the current version there is none');
select throws_ok($$ select api.diff_versions(pg_temp.p('{"from": "-1", "to": "1"}')) $$, 'PT400', null, 'nor below 0');
select throws_ok($$ select api.preview_rollback(pg_temp.p('{"number": "1"}')) $$, 'PT403', 'Your role in this context (viewer) does not allow this.', 'a viewer rolls nothing back');
select tests.act_as('mia');
select throws_ok($$ select api.roll_back_context(pg_temp.p('{"number": "1"}')) $$, 'PT403', 'Your role in this context (manager) does not allow this.', 'nor does a manager');
select tests.act_as('anna');
select is(api.preview_rollback(pg_temp.p('{"number": "2"}')), '{"filesToRestore": 1, "filesToRemove": 3, "filesToReAdd": 1, "currentVersion": 10, "targetVersion": 2}', 'a preview counts');
select throws_ok($$ select api.roll_back_context(pg_temp.p('{"number": "10"}')) $$, 'PT409', 'Version 10 is the current one.', 'the current version is no target');
select throws_ok($$ select api.roll_back_context(pg_temp.p('{"number": "11"}')) $$, 'PT404', 'There is no version 11; the current one is 10.', 'nor is the future');
select api.roll_back_context(pg_temp.p('{"number": "2"}')) as back \gset
select is(:'back'::jsonb - 'operationId', '{"success": true, "targetVersion": 2, "backupVersion": 10, "newVersion": 11, "status": "queued"}', 'a rollback is the next version');
select is(api.rolled_back_context(pg_temp.p(jsonb_build_object('number', '2', 'started', :'back'::jsonb))) #- '{entry}',
  '{"success": true, "targetVersion": 2, "backupVersion": 10, "newVersion": 11}', 'done at once where nothing runs');
select tests.reset();
select is(pg_temp.files(), pg_temp.state(2), 'the current set is the version');
select is(pg_temp.files(), '{"a.md": "upstream", "src/x.go": "x", "src/y.go": "y"}', 'as it was');
select is(private.run_scope((select r from public.ingestion_runs r where r.id = pg_temp.run())), '{"rollback": 11}', 'a run renews the index');
select is((select origin || coalesce(repository_id::text, '') from public.context_files where project_id = pg_temp.cid() and path = 'src/y.go'), 'repository' || :'repo', 'what is restored keeps its origin');
select is((select description from public.project_activity where project_id = pg_temp.cid() order by created_at desc limit 1), 'rolled back to #2', 'the activity says so');
-- A deletion while the run goes on: the index is renewed once more, after it.
select tests.act_as('ben');
select throws_ok($$ select api.delete_ingestion(pg_temp.p('{"number": "3"}')) $$, 'PT403', 'Your role in this context (developer) does not allow this.', 'a developer deletes no other''s entry');
select tests.act_as('vi');
select throws_ok($$ select api.delete_ingestion(pg_temp.p('{"number": "3"}')) $$, 'PT403', null, 'a viewer none');
select tests.act_as('mia');
select is(api.delete_ingestion(pg_temp.p('{"number": "11"}')), null, 'a manager deletes any');
select tests.reset();
select is(pg_temp.files(), '{"a.md": "upstream", "b.md": "b", "c.md": "c", "src/x.go": "x2", "late.md": "ten"}', 'the files are those of the remaining entries');
select is((select count(*)::int from public.context_changelog where number = 11 and project_id = pg_temp.cid()), 1, 'its changelog entry stays');
select is((select description from public.context_changelog where project_id = pg_temp.cid() order by created_at desc limit 1), 'Deleted ingestion #11', 'another one tells of the deletion');
select is(private.current_version(pg_temp.cid()), 10, 'the version before is current again');
select pg_temp.finish('{}');
select is(private.run_scope((select r from public.ingestion_runs r where r.id = pg_temp.run())), '{"refresh": true}', 'then the index is renewed');
select pg_temp.finish('{}');
select is((select row (total_files, original_tokens)::text from public.projects where id = pg_temp.cid()), '(5,15)', 'the project has the numbers of its files');
select is(pg_temp.run(), null, 'and nothing is left to do');
select tests.act_as('dev');
select is(pg_temp.ingest(pg_temp.config()) ->> 'number', '12', 'the number of a deleted entry is not given again');
select is(api.delete_ingestion(pg_temp.p('{"number": "12"}')), null, 'a developer deletes their own, also while it runs');
select is(api.delete_ingestion(pg_temp.p('{"number": "9"}')), null, 'and one below later versions');
select throws_ok($$ select api.delete_ingestion(pg_temp.p('{"number": "9"}')) $$, 'PT404', 'This context has no ingestion #9.', 'once');
select tests.reset();
select is(pg_temp.files(), '{"a.md": "upstream", "b.md": "b", "src/x.go": "x2", "late.md": "ten"}', 'only what it alone brought vanishes');
select pg_temp.finish('{}');
-- Hidden files: out of the tree, part of the versions.
update public.context_files set is_hidden = true where project_id = pg_temp.cid() and path = 'a.md';
select is((select files::int from private.context_counters where project_id = pg_temp.cid()), 3, 'a hidden file does not count');
select tests.act_as('dev');
select is(pg_temp.ingest(pg_temp.config()) ->> 'number', '13', 'it comes again');
select tests.reset();
select pg_temp.finish('{"a.md": "upstream"}');
select is(pg_temp.files() ? 'a.md', true, 'and is shown again');
-- Back to nothing.
select tests.act_as('anna');
select is(api.roll_back_context(pg_temp.p('{"number": "0"}')) ->> 'newVersion', '14', 'version 0 is empty');
select tests.reset();
select is(pg_temp.files(), '{}', 'so is the context');
select is(pg_temp.run(), null, 'which needs no index');
select is((select run_id from public.project_indexes where project_id = pg_temp.cid()), null, 'and has none');
-- A rollback behind a run waits for it.
select tests.act_as('anna');
select is(pg_temp.ingest(pg_temp.config()) ->> 'number', '15', 'an entry runs');
select is(api.roll_back_context(pg_temp.p('{"number": "4"}')) ->> 'newVersion', '16', 'a rollback waits');
select tests.reset();
select is(pg_temp.entry(16) ->> 'status', 'processing', 'for its turn');
select pg_temp.finish('{"z.md": "z"}');
select is(pg_temp.entry(16) ->> 'status', 'ready', 'which comes when the run has ended');
select is(pg_temp.files(), pg_temp.state(4), 'and then goes back');
select is((select backup_number from public.context_ingestions where project_id = pg_temp.cid() and number = 16), 15, 'from the version before it');
select pg_temp.finish('{}');

-- ----------------------------------------------------------------------------------------------------------- the fold, and what it leaves
select is((select jsonb_object_agg(path, encode(hash, 'hex')) from public.context_files where project_id = pg_temp.cid()),
  (select jsonb_object_agg(path, encode(hash, 'hex')) from private.context_state(pg_temp.cid(), 1000)), 'the set is the fold of the operations');
select is((select count(*)::int from public.content_blobs where project_id = pg_temp.cid() and hash = sha256('nine')), 1, 'content of a deleted entry is still there');
select ok(private.sweep_contexts() > 0, 'a sweep removes it');
select is((select count(*)::int from public.content_blobs where project_id = pg_temp.cid() and hash = sha256('nine')), 0, 'it is gone');
select is(private.sweep_contexts(), 0::bigint, 'and nothing else');
select ok(not exists (select from public.context_file_ops o where o.project_id = pg_temp.cid() and o.hash is not null
  and not exists (select from public.content_blobs b where b.project_id = o.project_id and b.hash = o.hash)), 'each version has its content');
-- Too large.
insert into public.context_files (organization_id, project_id, path, number, hash, origin, bytes, tokens)
select tests.org('anna'), pg_temp.cid(), 'many/' || n, 1, sha256('x'), 'file', 1, 1 from generate_series(1, 99999) n;
select tests.act_as('dev');
select pg_temp.ingest(pg_temp.config());
select tests.reset();
insert into private.run_manifests (run_id, path, hash, origin, language, bytes, tokens) select pg_temp.run(), 'new/' || n, sha256('x'), 'file', 'text', 1, 1 from generate_series(1, 2) n;
update public.ingestion_runs set lease_owner = pg_temp.cid(), lease_expires_at = now() + interval '1 hour' where id = pg_temp.run();
select ok(private.finish_run(pg_temp.run(), pg_temp.cid(), '{}'), 'a run that would make the context too large');
select is(pg_temp.entry(17) ->> 'errorMessage', 'CONTEXT_TOO_LARGE: A context holds at most 100,000 files. Leave some sources or folders out.', 'fails');

-- ------------------------------------------------------------------------------------------------------------------- the context itself
select tests.act_as('vi');
select is(api.get_context(pg_temp.p()) - array['id', 'lastUpdated', 'size', 'fileCount'], '{"name": "Notes", "type": "files", "status": "expired"}', 'its last ingestion failed');
select is(api.list_contexts('{"view": "store", "search": "ote"}') -> 0 ->> 'name', 'Notes', 'the store lists it');
select is(api.list_contexts('{"status": "cached"}'), '[]', 'by its status');
select is(api.list_contexts('{"type": "repo"}'), '[]', 'by its type');
select is(jsonb_array_length(api.list_contexts('{"type": "file", "status": "expired"}')), 1, 'by both');
select throws_ok($$ select api.rename_context(pg_temp.p('{"body": {"name": "Mine"}}')) $$, 'PT403', null, 'a viewer does not rename it');
select tests.act_as('stan');
select is(api.list_contexts('{}'), '[]', 'a stranger sees none');
select throws_ok($$ select api.get_context(pg_temp.p()) $$, 'PT404', null, 'nor this one');
select tests.act_as('anna');
select is(api.rename_context(pg_temp.p('{"body": {"name": " Papers "}}')) ->> 'name', 'Papers', 'its owner renames it');
select throws_ok($$ select api.rename_context(pg_temp.p('{"body": {"name": "ab"}}')) $$, 'PT400', null, 'by the rules of a project''s name');
select is(api.list_changelog(pg_temp.p('{"type": "config", "limit": 1}')) #>> '{entries,0,entry,description}', 'Renamed context to Papers', 'the changelog says so');
select is(private.human_size(n), s, s) from (values (0, '0 B'), (1023, '1023 B'), (1024, '1 KB'), (1048575, '1 MB'), (1468006, '1.4 MB'), (1073741824, '1 GB')) v (n, s);
select is(private.savings_json(2458624, 126847, 10) - array['originalTokens', 'compressedTokens'], '{"ratio": 19.4, "savingsPercent": 94.8, "costSavings": 23.32}', 'the contract''s check values');
select is(private.savings_json(0, 0, 10), '{"originalTokens": 0, "compressedTokens": 0, "ratio": 0, "savingsPercent": 0, "costSavings": 0.00}', 'nothing saves nothing');
-- A context from the store.
select is(api.create_context('{"body": {"filesAdded": 1, "displayName": "AB"}}') ->> 'name', 'Context AB', 'a short name gets a prefix');
select is(api.create_context('{"body": {"filesAdded": 1, "displayName": "AB"}}') ->> 'name', 'Context AB (2)', 'a taken one a number');
select is(api.create_context(jsonb_build_object('body', jsonb_build_object('config', pg_temp.config('{"fileId": "00000000-0000-4000-8000-0000000000d1", "codebase": {"type": "new", "name": "Code"}}'),
  'sourceType', 'repo', 'repoUrl', 'https://github.com/e/f'))) - 'size', '{"id": "00000000-0000-4000-8000-0000000000d1", "name": "Code", "type": "repo", "status": "pending"}', 'a repository with the client''s id');
select is(api.create_context(jsonb_build_object('body', pg_temp.config(jsonb_build_object('codebase', jsonb_build_object('type', 'existing', 'name', '', 'id', pg_temp.cid()))))) ->> 'id',
  pg_temp.cid()::text, 'or into a context that is there');
select throws_ok($$ select api.create_context(jsonb_build_object('body', pg_temp.config())) $$, 'PT400', 'This is no upload of yours that waits for a project.', 'a new context has no stored file yet');
select tests.act_as('stan');
select throws_ok($$ select api.create_context(jsonb_build_object('body', pg_temp.config(jsonb_build_object('codebase', jsonb_build_object('type', 'existing', 'name', '', 'id', pg_temp.cid()))))) $$,
  'PT404', null, 'not into another tenant''s');
-- Deleting a project with a run and a queue.
select tests.act_as('anna');
select lives_ok($$ select api.delete_project(jsonb_build_object('projectId', pg_temp.cid())) $$, 'a project goes with its queue');
select tests.reset();
select is_empty($$ select from public.context_ingestions where project_id = pg_temp.cid() union all select from public.context_files where project_id = pg_temp.cid()
  union all select from public.content_blobs where project_id = pg_temp.cid() $$, 'and all of its versions');

select * from finish();
rollback;
