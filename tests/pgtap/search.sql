-- Search in a context, by actor.
begin;
select no_plan();
-- Anna owns a shared project, Ben (a viewer) and Mia (a manager) are members, Otto is an auditor, Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.member('mia', 'anna'), tests.member('otto', 'anna'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql immutable as $$ select '00000000-0000-4000-8000-0000000000d1'::uuid $$;
create function pg_temp.p(p_more jsonb default '{}') returns jsonb language sql as $$ select jsonb_build_object('contextId', pg_temp.pid()) || p_more $$;
create function pg_temp.q(p_text text, p_more jsonb default '{}') returns jsonb language sql as $$ select api.search_context(pg_temp.p(jsonb_build_object('q', p_text) || p_more)) $$;
create function pg_temp.titles(p_text text, p_more jsonb default '{}') returns text language sql as $$
  select string_agg(t.r ->> 'type' || ':' || (t.r ->> 'title'), ' | ' order by t.o) from jsonb_array_elements(pg_temp.q(p_text, p_more)) with ordinality t (r, o) $$;
create function pg_temp.notified(p_sql text) returns text language sql as $$ select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field', r -> 'details' ->> 'required') from tests.refusal(p_sql) r $$;
select tests.act_as('anna');
select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Shop', 'privacy', 'shared'))) is not null;
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, name, role, accepted_at, invited_at, last_active_at)
select tests.org('anna'), pg_temp.pid(), tests.user(n), n || '@example.nl', d, r, now() - interval '1 day', now() - interval '1 day', now() - i
from (values ('ben', 'Ben Sharp', 'developer', interval '2 hours'), ('mia', 'Mia Bensen', 'manager', interval '1 hour'), ('otto', 'Otto', 'auditor', interval '3 hours')) v (n, d, r, i);
delete from public.project_activity where project_id = pg_temp.pid();
insert into public.project_activity (organization_id, project_id, type, user_id, user_name, user_email, description, created_at)
select tests.org('anna'), pg_temp.pid(), t, tests.user(n), n, n || '@example.nl', d, now() - i from (values
  ('view', 'ben', 'viewed src/100%_done.ts', interval '90 seconds'), ('ingestion', 'anna', 'started an ingestion', interval '3 hours'),
  ('config', 'mia', 'renamed the context to Ingestion shop', interval '2 days'), ('ingestion', 'mia', 'ingested Billing (#1)', interval '40 days')) v (t, n, d, i);
insert into private.context_counters (project_id, organization_id, last_number, current_number) values (pg_temp.pid(), tests.org('anna'), 2, 2);
insert into public.context_ingestions (organization_id, project_id, number, status, display_name)
values (tests.org('anna'), pg_temp.pid(), 1, 'ready', 'Billing module'), (tests.org('anna'), pg_temp.pid(), 2, 'ready', null);
insert into public.context_changelog (organization_id, project_id, type, number, user_name, user_email, files_added, files_removed, files_modified, description, created_at)
values (tests.org('anna'), pg_temp.pid(), 'ingestion', 1, 'System', 'system@kijko.ai', 1, 0, 0, null, now() - interval '3 days'),
  (tests.org('anna'), pg_temp.pid(), 'ingestion', 2, 'System', 'system@kijko.ai', 1, 0, 0, null, now() - interval '2 days'),
  (tests.org('anna'), pg_temp.pid(), 'config', null, 'Anna', 'anna@example.nl', null, null, null, 'Renamed context to Shop of billing', now() - interval '1 day'),
  (tests.org('anna'), pg_temp.pid(), 'enrichment', null, 'Anna', 'anna@example.nl', 4, 0, 2, 'Knowledge Graph rebuilt', now());
insert into public.context_files (organization_id, project_id, path, number, hash, origin, bytes, tokens, is_hidden, updated_at)
select tests.org('anna'), pg_temp.pid(), f, 1, sha256('x'), 'file', 1, 1, h, now() - i from (values ('src/100%_done.ts', false, interval '1 day'), ('src/1000_done.ts', false, interval '1 hour'),
  ('lib/billing.go', false, interval '2 days'), ('billing/README.md', false, interval '3 days'), ('old/billing.go', true, interval '0'), ('src/ÄRGER.md', false, interval '0')) v (f, h, i);

-- -------------------------------------------------------------------------------------------------------------------- shape and order
select tests.act_as('anna');
select is(pg_temp.titles('billing'), 'activity:ingested Billing (#1) | changelog:Ingestion #1 - Billing module | changelog:Renamed context to Shop of billing | file:billing.go | file:README.md',
  'activity, changelog, files: what begins with the text, then the newest; a hidden file is not found');
select is(pg_temp.titles('BEN', '{"types": ["user"]}'), 'user:Ben Sharp | user:Mia Bensen', 'people by name, whatever the case: what begins so comes first');
select is((select jsonb_agg(r - 'id') from jsonb_array_elements(pg_temp.q('ben sharp')) r where r ->> 'type' = 'user'),
  '[{"type": "user", "title": "Ben Sharp", "subtitle": "ben@example.nl - Editor", "tab": "overview", "metadata": {"email": "ben@example.nl", "role": "editor"}}]', 'a person');
select is((select jsonb_agg(r - 'id') from jsonb_array_elements(pg_temp.q('started')) r), '[{"type": "activity", "title": "started an ingestion", "subtitle": "Anna Test - 3 hours ago", "tab": "overview",
  "metadata": {"activityType": "ingestion", "user": "Anna Test"}}]', 'an activity');
select is((select jsonb_agg(r - 'id' order by o) from jsonb_array_elements(pg_temp.q('graph') || pg_temp.q('billing mod')) with ordinality t (r, o)), '[
  {"type": "changelog", "title": "Knowledge Graph rebuilt", "subtitle": "enrichment", "tab": "knowledgebase", "metadata": {"entryType": "enrichment"}},
  {"type": "changelog", "title": "Ingestion #1 - Billing module", "subtitle": "#1", "tab": "knowledgebase", "metadata": {"entryType": "ingestion", "number": 1}}]', 'entries of the changelog');
select is(pg_temp.q('lib/billing'), jsonb_build_array(jsonb_build_object('id', f.id, 'type', 'file', 'title', 'billing.go', 'subtitle', 'lib/billing.go', 'tab', 'knowledgebase',
  'metadata', jsonb_build_object('path', 'lib/billing.go', 'fileId', f.id))), 'a file') from public.context_files f where f.path = 'lib/billing.go';
select is(pg_temp.titles(q, m::jsonb), w, coalesce(q, 'no text') || ' ' || m) from (values ('100%_', '{}', 'activity:viewed src/100%_done.ts | file:100%_done.ts'), ('00_d', '{}', 'file:1000_done.ts'),
  ('src/', '{"types": "file", "limit": 1}', 'file:ÄRGER.md'), ('ärger', '{}', 'file:ÄRGER.md'), ('ingest', '{"types": "changelog,activity"}', 'activity:ingested Billing (#1) | activity:started an ingestion | activity:renamed the context to Ingestion shop'),
  ('', '{}', null), ('   ', '{}', null), (null, '{}', null), ('\', '{}', null), ('''; select', '{}', null), ('nothing like it', '{}', null)) v (q, m, w);
select is(pg_temp.notified(format('select api.search_context(%L)', pg_temp.p(q::jsonb))), w, q) from (values ('{"q": "a", "limit": 0}', '400 VALIDATION_ERROR limit'), ('{"q": "a", "limit": 101}', '400 VALIDATION_ERROR limit'),
  ('{"q": "a", "types": "file,king"}', '400 VALIDATION_ERROR types'), ('{"q": "a", "types": ["king"]}', '400 VALIDATION_ERROR types'), (jsonb_build_object('q', repeat('x', 201))::text, '400 VALIDATION_ERROR q'),
  ('{"q": "a", "contextId": "x"}', '404 CONTEXT_NOT_FOUND')) v (q, w);

-- ------------------------------------------------------------------------------------------------------------------------- by actor
select tests.act_as('mia');
select is(pg_temp.titles('ingest', '{"types": "activity"}'), 'activity:ingested Billing (#1) | activity:started an ingestion | activity:renamed the context to Ingestion shop', 'a manager finds the activity of all');
select tests.act_as('ben');
select is(pg_temp.titles('e', '{"types": "activity"}'), 'activity:viewed src/100%_done.ts', 'a developer finds their own');
select is(pg_temp.titles('lib/', '{}'), 'file:billing.go', 'and files');
select tests.act_as('otto');
select is(pg_temp.titles('billing'), 'activity:ingested Billing (#1) | changelog:Ingestion #1 - Billing module | changelog:Renamed context to Shop of billing', 'an auditor finds activity of all and no files');
select tests.act_as('stan');
select is(pg_temp.notified(format('select api.search_context(%L)', pg_temp.p('{"q": "billing"}'))), '404 CONTEXT_NOT_FOUND', 'a stranger finds no context');
select tests.act_anon();
select throws_ok($$ select api.search_context('{}') $$, '42501', null, 'an anonymous caller does not search');
select tests.act_service();
select throws_ok($$ select api.search_context('{}') $$, '42501', null, 'nor does the service');
select tests.reset();
select is(private.relative_time(now() - i), w, w) from (values (interval '59 seconds', 'just now'), (interval '-1 hour', 'just now'), (interval '1 minute', '1 minute ago'), (interval '59 minutes', '59 minutes ago'),
  (interval '1 hour', '1 hour ago'), (interval '23 hours', '23 hours ago'), (interval '24 hours', '1 day ago'), (interval '8 days', '1 week ago'), (interval '65 days', '2 months ago'), (interval '800 days', '2 years ago')) v (i, w);

-- ------------------------------------------------------------------------------------------------------------------------- chunks
insert into public.ingestion_runs (id, organization_id, project_id, started_by) values ('00000000-0000-4000-8000-0000000000d2', tests.org('anna'), pg_temp.pid(), tests.user('anna'));
insert into public.project_indexes (project_id, organization_id, run_id) values (pg_temp.pid(), tests.org('anna'), '00000000-0000-4000-8000-0000000000d2');
insert into public.run_files (organization_id, run_id, id, position, source, path, language, category, bytes, tokens, optimized_tokens, hash)
select tests.org('anna'), '00000000-0000-4000-8000-0000000000d2', ('00000000-0000-4000-8000-00000000010' || n)::uuid, n, 'file', p, 'go', 'code', 9, 9, 9, sha256('x')
from (values (1, 'lib/billing.go'), (2, 'old/billing.go'), (3, 'not/yet.go')) v (n, p);
insert into public.chunks (organization_id, run_id, id, file_id, position, start_line, end_line, type, tokens, content, hash)
select tests.org('anna'), '00000000-0000-4000-8000-0000000000d2', ('00000000-0000-4000-8000-00000000020' || n)::uuid, ('00000000-0000-4000-8000-00000000010' || n)::uuid, 0, 11, 13,
  'function_groupings', 9, c, sha256('x') from (values (1, E'func getUser() {\r\n  return load_user("it''s")\n}'), (2, 'getUser hidden'), (3, 'getUser')) v (n, c);
insert into public.chunk_terms (organization_id, run_id, chunk_id, terms)
select c.organization_id, c.run_id, c.id, $$'getuser':1 'get':2 'user':3,6 'load_user':4 'load':5$$::tsvector from public.chunks c where c.run_id = '00000000-0000-4000-8000-0000000000d2';
select tests.act_as('ben');
select is(api.search_chunks(pg_temp.p('{"query": "''user'' & ''load''", "limit": 1}')) #- '{0,score}', jsonb_build_array(jsonb_build_object('id', '00000000-0000-4000-8000-000000000201', 'fileId', f.id, 'path', 'lib/billing.go',
  'language', 'go', 'type', 'function_groupings', 'startLine', 11, 'endLine', 13, 'lines', '[{"number": 11, "text": "func getUser() {", "matches": [{"start": 8, "end": 12}]},
    {"number": 12, "text": "  return load_user(\"it''s\")", "matches": [{"start": 9, "end": 13}, {"start": 14, "end": 18}]}]'::jsonb)), 'a chunk with its lines and the places of the words')
from public.context_files f where f.path = 'lib/billing.go';
select tests.reset();
insert into public.content_blobs (organization_id, project_id, hash, content)
select f.organization_id, f.project_id, f.hash, convert_to(repeat(E'\n', 10) || E'func getUser() {\n\n\n\treturn load_user("x")\n}\n', 'UTF8')
from public.context_files f where f.project_id = pg_temp.pid() and f.path = 'lib/billing.go';
select tests.act_as('ben');
select is((api.search_chunks(pg_temp.p('{"query": "''user'' & ''load''", "limit": 1}')) #> '{0,lines}'), '[{"number": 11, "text": "func getUser() {", "matches": [{"start": 8, "end": 12}]}]',
  'lines are those of the file, where it is stored');
select is((select jsonb_agg(c -> 'path') from jsonb_array_elements(api.search_chunks(pg_temp.p('{"query": "''getuser''"}'))) c), '["lib/billing.go", "not/yet.go"]', 'a hidden file''s chunks are not found');
select is(api.search_chunks(pg_temp.p(q::jsonb)), '[]', q) from (values ('{"query": ""}'), ('{}'), ('{"query": "''nothing''"}')) v (q);
select is(pg_temp.notified(format('select api.search_chunks(%L)', pg_temp.p(q::jsonb))), w, q) from (values ('{"query": "& !"}', '400 VALIDATION_ERROR query'), ('{"query": "a", "limit": 0}', '400 VALIDATION_ERROR limit'),
  (jsonb_build_object('query', repeat('x', 20001))::text, '400 VALIDATION_ERROR query'), (jsonb_build_object('query', repeat('x', 3000))::text, '400 VALIDATION_ERROR query'), ('{"query": "a", "contextId": "x"}', '404 CONTEXT_NOT_FOUND')) v (q, w);
select is((select array_agg(w order by w collate "C") from unnest(private.query_words($$ 'it''s' & ('a\\b' | 'c':*) <-> 'x' $$::tsquery)) w), array['a\b', 'c', 'it''s', 'x'], 'the words of a query');
select tests.act_as('otto');
select is(pg_temp.notified(format('select api.search_chunks(%L)', pg_temp.p('{"query": "a"}'))), '403 FORBIDDEN viewFiles', 'an auditor searches no content');
select is(private.search_chunks(pg_temp.pid(), 'getuser'), '[]', 'in no way');
select tests.act_as('stan');
select is(pg_temp.notified(format('select api.search_chunks(%L)', pg_temp.p('{"query": "a"}'))), '404 CONTEXT_NOT_FOUND', 'nor does a stranger');
select is(private.search_chunks(pg_temp.pid(), 'getuser'), '[]', 'in no way');
select tests.act_anon();
select throws_ok($$ select api.search_chunks('{}') $$, '42501', null, 'nor an anonymous caller');
select tests.act_service();
select throws_ok($$ select api.search_chunks('{}') $$, '42501', null, 'nor the service');

select * from finish();
rollback;
