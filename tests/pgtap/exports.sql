-- A context as files, by actor.
begin;
select no_plan();
-- Anna owns a shared project, Ben (a developer) and Otto (an auditor) are members, Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.member('otto', 'anna'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql immutable as $$ select '00000000-0000-4000-8000-0000000000e1'::uuid $$;
create function pg_temp.p(p_more jsonb default '{}') returns jsonb language sql as $$ select jsonb_build_object('contextId', pg_temp.pid()) || p_more $$;
create function pg_temp.notified(p_sql text) returns text language sql as $$ select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field', r -> 'details' ->> 'required') from tests.refusal(p_sql) r $$;
-- All parts of a file.
create function pg_temp.parts(p_function text, p jsonb) returns setof jsonb language plpgsql as $$
declare
  v jsonb;
begin
  loop
    execute format('select private.%I($1)', p_function) into v using p;
    return next v;
    exit when not v ? 'after';
    p := p || jsonb_build_object('after', v -> 'after');
  end loop;
end $$;
create function pg_temp.text(p_function text, p jsonb) returns text language sql as $$ select string_agg(v ->> 'content', '') from pg_temp.parts(p_function, p) v $$;
select tests.act_as('anna');
select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Shop & Co', 'privacy', 'shared'))) is not null;
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, name, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), tests.user(n), n || '@example.nl', d, r, now() from (values ('ben', '=Ben, "B"', 'developer'), ('otto', 'Otto', 'auditor')) v (n, d, r);
delete from public.project_activity where project_id = pg_temp.pid();

-- ------------------------------------------------------------------------------------------------------------------------ activity
select tests.act_as('anna');
select is(pg_temp.text('activity_export_page', api.export_context_activity(pg_temp.p('{"format": "csv"}'))), E'id,type,user,email,description,timestamp\n', 'an empty log is a header');
select is(pg_temp.text('activity_export_page', api.export_context_activity(pg_temp.p()))::jsonb - 'exportedAt', '{"events": [], "totalCount": 0}', 'or an empty list');
select tests.reset();
insert into public.project_activity (id, organization_id, project_id, type, user_id, user_name, user_email, description, created_at)
select ('00000000-0000-4000-8000-00000000000' || n)::uuid, tests.org('anna'), pg_temp.pid(), t, case when u is not null then tests.user(u) end, coalesce(u, 'System'), coalesce(u || '@example.nl', 'system@kijko.ai'), d, '2026-01-01T10:00:00Z'::timestamptz + n * interval '1 hour'
from (values (1, 'view', 'ben', 'viewed -1,5'), (2, 'config', 'otto', E'-x\ny'), (3, 'ingestion', null, 'ingested a (#1)')) v (n, t, u, d);
select tests.act_as('anna');
select is(api.export_context_activity(pg_temp.p('{"format": "csv"}')) - 'until', jsonb_build_object('contextId', pg_temp.pid(), 'format', 'csv', 'type', 'all', 'since', null,
  'fileName', 'activity-log-' || to_char(now() at time zone 'UTC', 'YYYY-MM-DD') || '.csv', 'contentType', 'text/csv; charset=utf-8'), 'a file has a name with the day');
select is(pg_temp.text('activity_export_page', api.export_context_activity(pg_temp.p('{"format": "csv"}'))), $$id,type,user,email,description,timestamp
00000000-0000-4000-8000-000000000003,ingestion,System,system@kijko.ai,ingested a (#1),2026-01-01T13:00:00.000Z
00000000-0000-4000-8000-000000000002,config,Otto,otto@example.nl,"'-x
y",2026-01-01T12:00:00.000Z
00000000-0000-4000-8000-000000000001,view,"'=Ben, ""B""",ben@example.nl,"viewed -1,5",2026-01-01T11:00:00.000Z
$$, 'cells are quoted where they must be, and no cell is a formula');
select is(pg_temp.text('activity_export_page', api.export_context_activity(pg_temp.p()))::jsonb -> 'events', api.list_context_activity(pg_temp.p()), 'JSON has what the list shows');
select is((pg_temp.text('activity_export_page', api.export_context_activity(pg_temp.p('{"type": "view", "range": "all"}')))::jsonb - 'events' - 'exportedAt'), '{"totalCount": 1}', 'of one type');
select is(pg_temp.notified(format('select api.export_context_activity(%L)', pg_temp.p(q::jsonb))), w, q) from (values ('{"format": "xml"}', '400 VALIDATION_ERROR format'), ('{"type": "king"}', '400 VALIDATION_ERROR type'),
  ('{"range": "8d"}', '400 VALIDATION_ERROR range'), ('{"contextId": "x"}', '404 CONTEXT_NOT_FOUND')) v (q, w);
select tests.act_as('ben');
select is(pg_temp.text('activity_export_page', api.export_context_activity(pg_temp.p('{"format": "csv"}'))) ~ '^[^\n]*\n[^\n]*Ben[^\n]*\n$', true, 'a developer exports their own entries');
select tests.act_as('otto');
select is((pg_temp.text('activity_export_page', api.export_context_activity(pg_temp.p()))::jsonb -> 'totalCount'), to_jsonb(3), 'an auditor all');
select tests.reset();
insert into public.project_activity (organization_id, project_id, type, user_id, user_name, user_email, description, created_at)
select tests.org('anna'), pg_temp.pid(), 'view', tests.user('ben'), 'ben', 'ben@example.nl', 'viewed ' || n, '2026-02-01'::timestamptz from generate_series(1, 1997) n;
select tests.act_as('anna');
select is((select jsonb_agg(v ? 'after') from pg_temp.parts('activity_export_page', api.export_context_activity(pg_temp.p())) v), '[true, true, false]', 'a long log comes in parts, the last one empty');
select is(jsonb_array_length(x -> 'events') || ' ' || (x ->> 'totalCount') || ' ' || (select count(distinct e -> 'id') from jsonb_array_elements(x -> 'events') e), '2000 2000 2000', 'with each entry once, also at equal times')
from (select pg_temp.text('activity_export_page', api.export_context_activity(pg_temp.p()))::jsonb as x) t;

-- ----------------------------------------------------------------------------------------------------------------------- originals
select is(pg_temp.notified(format('select api.download_originals(%L)', pg_temp.p())), '404 CONTEXT_EMPTY', 'an empty context has no originals');
select tests.reset();
insert into public.context_ingestions (organization_id, project_id, number, status, ready_at, created_at)
select tests.org('anna'), pg_temp.pid(), n, s, case s when 'ready' then now() end, '2026-01-01T00:00:00Z' from (values (1, 'ready'), (2, 'ready'), (3, 'processing')) v (n, s);
create function pg_temp.op(p_number integer, p_path text, p_content bytea, p_binary boolean default false) returns void language sql as $$
  insert into public.content_blobs (organization_id, project_id, hash, content, is_binary) select tests.org('anna'), pg_temp.pid(), sha256(p_content), p_content, p_binary where p_content is not null on conflict do nothing;
  insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, hash, origin)
  select i.organization_id, i.project_id, i.id, i.number, p_path, case when p_content is null then 'removed' else 'added' end, sha256(p_content), 'file'
  from public.context_ingestions i where i.project_id = pg_temp.pid() and i.number = p_number $$;
select pg_temp.op(1, 'a.txt', 'one'), pg_temp.op(1, 'b.txt', 'two'), pg_temp.op(2, 'a.txt', 'one and a half'), pg_temp.op(2, 'b.txt', null), pg_temp.op(2, 'c.bin', '\x0001', true);
create function pg_temp.files(p jsonb) returns jsonb language sql as $$
  select jsonb_object_agg(x ->> 'path', encode(decode(x ->> 'content', 'base64'), 'escape')) from pg_temp.parts('originals_page', api.download_originals(pg_temp.p(p))) v, jsonb_array_elements(v -> 'parts') x $$;
select tests.act_as('ben');
select is(api.download_originals(pg_temp.p()), jsonb_build_object('contextId', pg_temp.pid(), 'version', 2, 'format', 'zip', 'fileName', 'shop---co-original.zip', 'contentType', 'application/zip'), 'a zip of the current version');
select is(pg_temp.files(q::jsonb), w::jsonb, q) from (values ('{}', '{"a.txt": "one and a half", "c.bin": "\\000\u0001"}'), ('{"version": 1}', '{"a.txt": "one", "b.txt": "two"}'),
  ('{"format": "txt"}', '{"a.txt": "one and a half"}'), ('{"version": "2", "format": "txt"}', '{"a.txt": "one and a half"}')) v (q, w);
select is(pg_temp.notified(format('select api.download_originals(%L)', pg_temp.p(q::jsonb))), w, q) from (values ('{"format": "tar"}', '400 VALIDATION_ERROR format'), ('{"version": 3}', '404 VERSION_NOT_FOUND'),
  ('{"version": -1}', '400 VALIDATION_ERROR version'), ('{"version": "x"}', '400 VALIDATION_ERROR version'), ('{"version": 0}', '404 CONTEXT_EMPTY'), ('{"contextId": "x"}', '404 CONTEXT_NOT_FOUND')) v (q, w);
select is((api.export_context(pg_temp.p()) -> 'summary') - array['name', 'type', 'size', 'fileCount', 'lastUpdated'], jsonb_build_object('compressionRatio', 0,
  'enrichmentCoverage', api.get_enrichments(pg_temp.p()) -> 'overall'), 'the summary of a context tells how far it is compressed and enriched');
select tests.act_as('otto');
select is(pg_temp.notified(format('select %s(%L)', f, pg_temp.p('{"version": 1}'))), '403 FORBIDDEN ' || w, f || ' is closed to auditors')
from (values ('api.download_originals', 'downloadOriginals'), ('private.originals_page', 'downloadOriginals'), ('api.read_context_file', 'viewFiles')) v (f, w);
select tests.act_as('stan');
select is(pg_temp.notified(format('select %s(%L)', f, pg_temp.p())), '404 CONTEXT_NOT_FOUND', f || ' is hidden from strangers')
from unnest(array['api.download_originals', 'private.originals_page', 'api.read_context_file', 'api.export_context_activity', 'private.activity_export_page']) f;
select tests.act_anon();
select throws_ok($$ select api.download_originals('{}') $$, '42501', null, 'an anonymous caller downloads nothing');
select tests.act_service();
select throws_ok($$ select api.download_originals('{}') $$, '42501', null, 'nor does the service');

-- Large files come in pieces, many small ones together.
select tests.reset();
select pg_temp.op(2, 'd/' || lpad(n::text, 5, '0'), convert_to('file ' || n, 'UTF8')) from generate_series(1, 1500) n;
select pg_temp.op(2, 'large', convert_to(repeat('0123456789', 250001), 'UTF8')), pg_temp.op(2, 'z', 'last');
select tests.act_as('anna');
select is((select count(*) || ' ' || max((select sum(octet_length(decode(x ->> 'content', 'base64'))) from jsonb_array_elements(v -> 'parts') x))
  from pg_temp.parts('originals_page', api.download_originals(pg_temp.p())) v), '5 1000000', 'no part has more than a megabyte');
select is((select md5(string_agg(decode(x ->> 'content', 'base64'), '' order by o, i)) from pg_temp.parts('originals_page', api.download_originals(pg_temp.p())) with ordinality t (v, o), jsonb_array_elements(v -> 'parts') with ordinality e (x, i)),
  (select md5(convert_to('one and a half', 'UTF8') || '\x0001'::bytea || string_agg(convert_to('file ' || n, 'UTF8'), '' order by n) || convert_to(repeat('0123456789', 250001) || 'last', 'UTF8')) from generate_series(1, 1500) n),
  'and together they are all files');
select tests.reset();
delete from public.content_blobs where hash = sha256('last');
select tests.act_as('anna');
select is(pg_temp.notified(format('select count(*) from pg_temp.parts(''originals_page'', %L)', api.download_originals(pg_temp.p()))), '404 FILE_NOT_FOUND', 'content that went away during a download breaks it off');
select tests.reset();
-- The same content under many paths counts each time.
with b as (
  insert into public.content_blobs (organization_id, project_id, hash, content)
  select tests.org('anna'), pg_temp.pid(), sha256(convert_to(x, 'UTF8')), convert_to(x, 'UTF8') from repeat('x', 50000000) x returning project_id, hash
)
insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, hash, origin)
select i.organization_id, i.project_id, i.id, 2, 'huge' || n, 'added', b.hash, 'file'
from b join public.context_ingestions i on i.project_id = b.project_id and i.number = 2, generate_series(0, 9) n;
select tests.act_as('anna');
select is(pg_temp.notified(format('select api.download_originals(%L)', pg_temp.p())), '413 PAYLOAD_TOO_LARGE', 'more than 500 MB is refused');

-- ------------------------------------------------------------------------------------------------------------------------ one file
select tests.reset();
insert into public.context_files (organization_id, project_id, path, number, hash, origin, bytes, tokens)
values (tests.org('anna'), pg_temp.pid(), 'a.txt', 2, sha256('one and a half'), 'file', 14, 4), (tests.org('anna'), pg_temp.pid(), 'c.bin', 2, sha256('\x0001'), 'file', 2, 0);
create function pg_temp.read(p_path text, p_more jsonb default '{}') returns jsonb language sql as $$
  select api.read_context_file(pg_temp.p(jsonb_build_object('fileId', f.id) || p_more)) from public.context_files f where f.path = p_path $$;
select tests.act_as('ben');
select is(pg_temp.read('a.txt'), '{"path": "a.txt", "binary": false, "size": 14, "content": "b25lIGFuZCBhIGhhbGY="}', 'the text of a file');
select is(pg_temp.read('a.txt', '{"version": 1}') ->> 'content', 'b25l', 'as a version has it');
select is(pg_temp.read('a.txt', '{"offset": 13}') ->> 'content', 'Zg==', 'from a place on');
select is(pg_temp.read('c.bin') -> 'binary', 'true'::jsonb, 'a binary file is one');
select is(pg_temp.notified(format('select pg_temp.read(%L, %L)', f, q)), w, f || ' ' || q) from (values ('a.txt', '{"version": 0}', '404 FILE_NOT_FOUND'), ('c.bin', '{"version": 1}', '404 FILE_NOT_FOUND'),
  ('a.txt', '{"version": 9}', '404 VERSION_NOT_FOUND'), ('a.txt', '{"offset": -1}', '400 VALIDATION_ERROR offset'), ('a.txt', '{"fileId": "x"}', '404 FILE_NOT_FOUND')) v (f, q, w);
select is(private.slug('Äpfel & Öl (2)'), '-pfel----l--2-', 'a slug has signs of file names only');

select * from finish();
rollback;
