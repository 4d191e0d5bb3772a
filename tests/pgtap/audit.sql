-- The audit log by actor: who may read, save, export and end a session; the entries written into it; no role changes them.
begin;
select no_plan();
-- Anna owns an organization, Ada is an admin, Ben a member and Vera a viewer of it, Stan is a stranger.
select tests.user('anna'), tests.member('ada', 'anna', 'admin'), tests.member('ben', 'anna'), tests.member('vera', 'anna', 'viewer'), tests.user('stan');
create function pg_temp.code(p_sql text) returns text language sql as $$ select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field', r ->> 'message') from tests.refusal(p_sql) r $$;
create function pg_temp.code_of(p_name text, p_sql text) returns text language plpgsql as $$
begin
  perform tests.act_as(p_name);
  return pg_temp.code(p_sql);
end $$;
create function pg_temp.reads(p_name text) returns integer language plpgsql as $$
begin
  perform tests.act_as(p_name);
  return (select count(*) from public.audit_log);
end $$;
create temp table org as select tests.org('anna') as id;
grant select on org to public;
delete from public.audit_log;

-- ---------------------------------------------------------------------------------------------------------- insert-only, with its caller
select ok(not has_table_privilege(r, 'public.audit_log', w), format('%s may not %s entries', r, w))
from unnest(array['anon', 'authenticated', 'service_role', 'kijko_server', 'kijko_worker']) r, unnest(array['insert', 'update', 'delete', 'truncate']) w;
select ok(not has_function_privilege(r, 'private.audit(text, text, jsonb, jsonb, uuid, uuid)', 'execute'), r || ' may not write entries of their own')
from unnest(array['anon', 'authenticated', 'service_role', 'kijko_server', 'kijko_worker']) r;
select ok(not has_table_privilege(r, 'private.' || t, 'select, insert, update, delete'), r || ' may not touch private.' || t)
from unnest(array['audit_blocks', 'audit_counts', 'audit_growth', 'audit_mark', 'audit_files']) t,
  unnest(array['anon', 'authenticated', 'service_role', 'kijko_server', 'kijko_worker']) r;
select throws_ok(format($$ select private.audit('billing.paid', 'Paid.', null, null, %L) $$, tests.org('anna')), '23514', null, 'the categories are a closed set');

select tests.act_as('ben');
select set_config('app.client_ip', '192.0.2.9', true), set_config('app.request_id', 'request-1', true);
select api.create_project('{"body": {"name": "Alpha", "type": "files"}}') -> 'project' ->> 'id' as project \gset
select api.update_project(jsonb_build_object('projectId', :'project', 'body', '{"name": "Beta", "chunkingStrategy": "fixed"}'::jsonb)) is not null;
select api.update_project_settings(jsonb_build_object('projectId', :'project', 'body', '{"outputFormat": "markdown"}'::jsonb)) is not null;
select tests.act_as('anna');
select api.delete_project(jsonb_build_object('projectId', :'project')) is null;
select tests.reset();
select results_eq($$ select event_type, event_category, description, metadata - 'contextId', changes from public.audit_log order by created_at $$, $$ values
  ('context.created', 'context', 'Created project "Alpha".', '{"contextName": "Alpha", "contextType": "files"}'::jsonb, null::jsonb),
  ('context.updated', 'context', 'Changed project "Beta".', '{"contextName": "Beta", "contextType": "files"}',
    '[{"field": "name", "oldValue": "Alpha", "newValue": "Beta"}, {"field": "chunkingStrategy", "oldValue": "semantic", "newValue": "fixed"}]'),
  ('context.updated', 'context', 'Changed settings of project "Beta".', '{"contextName": "Beta", "contextType": "files"}',
    '[{"field": "outputFormat", "oldValue": "json", "newValue": "markdown"}]'),
  ('context.deleted', 'context', 'Deleted project "Beta".', '{"contextName": "Beta", "contextType": "files"}', null) $$,
  'projects: what happened, in the words of the client');
select results_eq($$ select distinct user_id, ip_address, session_id, request_id from public.audit_log where description like 'Changed%' $$,
  $$ select tests.user('ben'), '192.0.2.9', (select session_id from tests.people where name = 'ben'), 'request-1' $$, 'the actor, their address, session and request');
savepoint secret;
select tests.act_as('ben');
select api.create_project('{"body": {"name": "Hooked"}}') -> 'project' ->> 'id' as hooked \gset
select tests.reset();
update public.project_settings set webhook_url = 'https://example.org/?key=secret' where project_id = :'hooked';
select is((select changes from public.audit_log where description = 'Changed settings of project "Hooked".'), '[{"field": "webhookUrl", "oldValue": null, "newValue": null}]', 'without the address of a webhook');
rollback to savepoint secret;
-- A change that is rolled back leaves no entry.
savepoint before;
select tests.act_as('ben');
select api.create_project('{"body": {"name": "Gone"}}') is not null;
rollback to savepoint before;
select is((select count(*)::int from public.audit_log), 4, 'what is rolled back leaves no entry');

-- --------------------------------------------------------------------------------------------------------------------------- reading
select is(pg_temp.code_of(p, q), '403 FORBIDDEN Your role does not allow this. Ask an owner or admin of your organization.', format('%s: %s', p, q))
from unnest(array['ben', 'vera']) p, unnest(array['select api.list_audit_log(''{}'')', 'select api.list_audit_users(''{}'')', 'select api.list_audit_filters(''{}'')',
  'select api.create_audit_filter(''{"body": {"name": "x", "filters": {}}}'')', 'select api.delete_audit_filter(''{}'')', 'select api.export_audit_log(''{"body": {"format": "csv"}}'')',
  'select api.list_audit_schedules(''{}'')', 'select api.delete_audit_schedule(''{}'')', 'select private.audit_download_page(''{"format": "csv"}'')']) q;
select is(pg_temp.reads(p), n, p || ' reads the table') from (values ('anna', 4), ('ada', 4), ('ben', 0), ('vera', 0), ('stan', 0)) v (p, n);
select tests.act_as('ada');
select is((api.list_audit_log('{}') ->> 'totalCount')::int, 4, 'an admin reads the log');
select is(api.list_audit_log('{"limit": 1}') #>> '{entries,0,userName}', (select btrim(first_name || ' ' || last_name) from public.users where id = tests.user('anna')), 'with names');
select is(api.list_audit_log('{"eventTypes": ["context.created", "context.deleted"]}') -> 'totalCount', '2', 'types may be a list too');
select is(pg_temp.code(format('select api.list_audit_log(%L)', p)), x, p) from (values
  ('{"eventCategory": "billing"}', '400 VALIDATION_ERROR eventCategory Event category must be one of user, context, team, security, integration, system.'),
  ('{"dateFrom": "x"}', '400 VALIDATION_ERROR dateFrom This is no ISO-8601 date or time.'), ('{"dateTo": "x"}', '400 VALIDATION_ERROR dateTo This is no ISO-8601 date or time.'),
  ('{"eventTypes": [1]}', '400 VALIDATION_ERROR eventTypes Give at most 100 event types, each a text.'), ('{"userId": 1}', '400 VALIDATION_ERROR userId userId must be text.'),
  (format('{"searchQuery": "%s"}', repeat('x', 201)), '400 VALIDATION_ERROR searchQuery Search for at most 200 characters.'),
  (format('{"userId": "%s"}', repeat('x', 101)), '400 VALIDATION_ERROR userId This is no id.')) v (p, x);
select tests.act_as('stan');
select is(api.list_audit_log('{}') -> 'totalCount', '0', 'a stranger reads their own');
select tests.act_anon();
select throws_ok($$ select api.list_audit_log('{}') $$, '42501', null, 'an anonymous caller reads none');
select tests.act_service();
select throws_ok($$ select api.list_audit_log('{}') $$, '42501', null, 'nor does the service');
select tests.reset();

-- People who left stay on the list while an entry of theirs is shown.
delete from public.memberships where user_id = tests.user('ben') and organization_id = tests.org('anna');
select tests.act_as('anna');
select is((select count(*)::int from jsonb_array_elements(api.list_audit_users('{}')) u where u ->> 'id' = tests.user('ben')::text), 1, 'who left is named');
select tests.reset();
update public.audit_log set created_at = now() - interval '8 days' where user_id = tests.user('ben');
select tests.act_as('anna');
select is((select count(*)::int from jsonb_array_elements(api.list_audit_users('{}')) u where u ->> 'id' = tests.user('ben')::text), 0, 'until the last entry is out of sight');
select is((select count(*)::int from public.audit_log where user_id = tests.user('ben')), 0, 'which it is at once, after 7 days on the free plan');
select tests.reset();

-- ---------------------------------------------------------------------------------------------------------------------- saved filters
select tests.act_as('anna');
select api.create_audit_filter('{"body": {"name": "  Mine ", "filters": {"eventCategory": "user", "dateFrom": "2026-01-05", "eventTypes": []}}}') as mine \gset
select is(:'mine'::jsonb - array['id', 'createdAt'], jsonb_build_object('teamId', (select id from org), 'userId', tests.user('anna'), 'name', 'Mine', 'isShared', false,
  'filters', '{"eventCategory": "user", "dateFrom": "2026-01-05", "eventTypes": []}'::jsonb), 'a filter is kept as it was given');
select api.create_audit_filter('{"body": {"name": "Ours", "filters": {"searchQuery": "x", "unknown": 1}, "isShared": true}}') as ours \gset
select is(:'ours'::jsonb -> 'filters', '{"searchQuery": "x"}', 'what filters do not have is left out');
select is(pg_temp.code(format('select api.create_audit_filter(%L)', p)), x, p) from (values
  ('{"body": {"filters": {}}}', '400 VALIDATION_ERROR name The name must have 1 to 100 characters.'), ('{"body": {"name": " ", "filters": {}}}', '400 VALIDATION_ERROR name The name must have 1 to 100 characters.'),
  ('{"body": {"name": "x"}}', '400 VALIDATION_ERROR filters filters is required.'), ('{"body": {"name": "x", "filters": []}}', '400 VALIDATION_ERROR filters filters must be an object.'),
  ('{"body": {"name": "x", "filters": {"eventCategory": "x"}}}', '400 VALIDATION_ERROR eventCategory Event category must be one of user, context, team, security, integration, system.')) v (p, x);
select throws_ok(format($$ insert into public.audit_filters (organization_id, user_id, name, filters) values (%L, %L, 'x', '{}') $$, id, tests.user('ada')), '42501', null, 'not in another''s name') from org;
select throws_ok(format($$ insert into public.audit_filters (organization_id, user_id, name, filters) values (%L, %L, '', '{}') $$, id, tests.user('anna')), 'PT400', null, 'and not without a name') from org;
select tests.act_as('ada');
select is((select jsonb_agg(f -> 'name') from jsonb_array_elements(api.list_audit_filters('{}')) f), '["Ours"]', 'another admin sees what is shared');
select is(pg_temp.code(format('select api.delete_audit_filter(%L)', jsonb_build_object('filterId', :'mine'::jsonb -> 'id'))), format('404 NOT_FOUND Filter with ID %s not found', :'mine'::jsonb ->> 'id'), 'not Anna''s own');
select is(api.delete_audit_filter(jsonb_build_object('filterId', :'ours'::jsonb -> 'id')), null, 'but may delete what is shared');
select tests.act_as('anna');
select is((select jsonb_agg(f -> 'name') from jsonb_array_elements(api.list_audit_filters('{}')) f), '["Mine"]', 'it is gone');
select count(api.create_audit_filter('{"body": {"name": "x", "filters": {}}}')) from generate_series(1, 99);
select is(pg_temp.code($$ select api.create_audit_filter('{"body": {"name": "x", "filters": {}}}') $$), '409 TOO_MANY_AUDIT_FILTERS You can save 100 filters. Delete one first.', 'a hundred are enough');
select tests.reset();

-- ------------------------------------------------------------------------------------------------------------------------ schedules
select is(private.next_audit_run(b::timestamptz, s, a::timestamptz, z), x::timestamptz, format('%s from %s, after %s in %s', s, b, a, z)) from (values
  ('2026-01-05 14:00Z', 'daily', '2026-01-05 14:00Z', 'Europe/Amsterdam', '2026-01-06 05:00Z'),
  ('2026-01-05 02:00Z', 'daily', '2026-01-05 02:00Z', 'Europe/Amsterdam', '2026-01-06 05:00Z'),
  ('2026-01-05 14:00Z', 'daily', '2026-01-09 04:59:59Z', 'Europe/Amsterdam', '2026-01-09 05:00Z'),
  ('2026-01-05 14:00Z', 'daily', '2026-01-09 05:00Z', 'Europe/Amsterdam', '2026-01-10 05:00Z'),
  ('2026-03-28 14:00Z', 'daily', '2026-03-28 14:00Z', 'Europe/Amsterdam', '2026-03-29 04:00Z'),
  ('2026-01-05 23:30Z', 'daily', '2026-01-05 23:30Z', 'Asia/Tokyo', '2026-01-06 21:00Z'),
  ('2026-01-05 14:00Z', 'weekly', '2026-01-05 14:00Z', 'UTC', '2026-01-12 06:00Z'),
  ('2026-01-05 14:00Z', 'weekly', '2026-02-01 00:00Z', 'UTC', '2026-02-02 06:00Z'),
  ('2026-01-05 14:00Z', 'monthly', '2026-01-05 14:00Z', 'UTC', '2026-02-05 06:00Z'),
  ('2026-01-31 14:00Z', 'monthly', '2026-01-31 14:00Z', 'UTC', '2026-02-28 06:00Z'),
  ('2026-01-31 14:00Z', 'monthly', '2026-02-28 06:00Z', 'UTC', '2026-03-31 06:00Z'),
  ('2026-01-31 14:00Z', 'monthly', '2027-12-31 06:00Z', 'No/Zone', '2028-01-31 06:00Z')) v (b, s, a, z, x);
update public.subscriptions set plan_id = 'enterprise' where organization_id = tests.org('anna');
select tests.act_as('anna');
select is(pg_temp.code(format('select api.export_audit_log(%L)', p)), x, p) from (values
  ('{"body": {}}', '400 VALIDATION_ERROR format Format must be one of csv, json, pdf.'), ('{"body": {"format": "csv", "schedule": "yearly"}}', '400 VALIDATION_ERROR schedule Schedule must be one of daily, weekly, monthly.'),
  ('{"body": {"format": "csv", "filters": 1}}', '400 VALIDATION_ERROR filters filters must be an object.')) v (p, x);
select count(api.export_audit_log('{"body": {"format": "pdf", "schedule": "monthly"}}')) from generate_series(1, 20);
select is(pg_temp.code($$ select api.export_audit_log('{"body": {"format": "pdf", "schedule": "monthly"}}') $$), '409 TOO_MANY_AUDIT_SCHEDULES An organization has at most 20 scheduled exports. Delete one first.', 'twenty are enough');
select is(jsonb_array_length(api.list_audit_schedules('{}')), 20, 'they are listed');
select is(api.delete_audit_schedule(jsonb_build_object('scheduleId', api.list_audit_schedules('{}') -> 0 -> 'id')), null, 'one ends');
select is(pg_temp.code($$ select api.delete_audit_schedule('{"scheduleId": "x"}') $$), '404 NOT_FOUND Scheduled export with ID x not found', 'an unknown one does not');
select throws_ok(format($$ insert into public.audit_schedules (organization_id, user_id, format, filters, schedule, next_run_at) values (%L, %L, 'csv', '{}', 'daily', now()) $$, id, tests.user('anna')),
  '42501', null, 'schedules are made by exports alone') from org;
select is(pg_temp.code($$ select private.audit_download_page('{"format": "csv"}') $$), '400 VALIDATION_ERROR until An export begins with export_audit_log.', 'pages have a beginning');
select is(pg_temp.code($$ select private.audit_download_page('{"format": "csv", "until": "2026-01-01", "after": {"at": 1}}') $$), '400 VALIDATION_ERROR until An export begins with export_audit_log.', 'and a place');
select tests.reset();
update public.subscriptions set plan_id = 'teams' where organization_id = tests.org('anna');
select tests.act_as('anna');
select is(pg_temp.code($$ select api.list_audit_schedules('{}') $$), '403 PLAN_UPGRADE_REQUIRED Scheduled exports are part of the Enterprise plan.', 'they are a plan''s');
select is(pg_temp.code($$ select private.audit_download_page('{"format": "pdf"}') $$), '403 PLAN_UPGRADE_REQUIRED format PDF exports are part of the Enterprise plan.', 'a page of a PDF too');
select is(api.delete_audit_schedule(jsonb_build_object('scheduleId', (select s.id from public.audit_schedules s limit 1))), null, 'but can be ended without it');
select tests.reset();
select ok(not has_function_privilege(r, p.oid, 'execute'), r || ' may not call ' || p.proname)
from pg_proc p cross join unnest(array['anon', 'authenticated', 'service_role']) r
where p.pronamespace = 'private'::regnamespace and p.proname in ('begin_audit_export', 'scheduled_audit_page', 'finish_audit_export', 'take_audit_file', 'audit_matches', 'audit_source',
  'place_audit_page', 'audit_export_text', 'notify_audit_export', 'queue_audit_exports', 'count_audit', 'cut_audit_block', 'settle_audit', 'audit_actors');
select is(pg_temp.code($$ select private.take_audit_file('{"exportId": "x", "token": "x"}') $$), '404 NOT_FOUND This link is not valid any more. Links to exports work for 24 hours.', 'a link that is none');
select is(private.begin_audit_export(jsonb_build_object('scheduleId', gen_random_uuid(), 'runAt', now(), 'key', 'x')), null, 'a schedule that is gone');
select * from finish();
rollback;
