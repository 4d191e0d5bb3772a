-- How long rows are kept: what each rule ends and keeps, the engine, and the operation of staff.
begin;
select no_plan();
-- Anna owns an organization, Ben is a member of it, Stan is a stranger, Sue is staff.
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan'), tests.user('sue');
update public.users set is_platform_admin = true where id = tests.user('sue');

-- ---------------------------------------------------------------------------------------------------------------------- the rules
-- Each rule names a table and columns that exist, in a statement that Postgres plans.
select lives_ok(format($$ select private.count_old(r, now(), 1), private.end_old(r, '-infinity', 1) from private.retention_rules r where r.name = %L $$, name), name) from private.retention_rules;
-- A batch begins at the oldest row, so it needs an index in that order. An organization's rows are found under it.
select is_empty($$
  select r.name from private.retention_rules r where not exists (
    select from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam and m.amname = 'btree'
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = (i.indkey::smallint[])[case when r.plan_column is null then 0 else 1 end]
    where i.indrelid = r.relation::regclass and a.attname = r.cutoff_column)
  -- Each request moves it, and an index would make each of these updates a new version in all indexes. The rule reads the table once a day.
  and r.name <> 'sessions.idle'
$$, 'each rule has an index that begins with the column of its cutoff');

-- made holds the insert of a row for each rule, with %s for the moment.
create function pg_temp.anna() returns uuid language sql as $$ select tests.user('anna') $$;
create function pg_temp.org() returns uuid language sql as $$ select tests.org('anna') $$;
insert into public.projects (id, organization_id, user_id, name) values ('00000000-0000-4000-8000-000000000001', pg_temp.org(), pg_temp.anna(), 'Old things');
insert into private.sessions (id, user_id, organization_id, expires_at, idle_expires_at, created_at)
values ('00000000-0000-4000-8000-000000000002', pg_temp.anna(), pg_temp.org(), now() + interval '90 days', now() + interval '30 days', now() - interval '2 years');
insert into public.audit_schedules (id, organization_id, user_id, format, filters, schedule, next_run_at)
values ('00000000-0000-4000-8000-000000000003', pg_temp.org(), pg_temp.anna(), 'csv', '{}', 'daily', now() + interval '1 day');
insert into public.webhooks (id, organization_id, name, endpoint_url, secret_end, events) values ('00000000-0000-4000-8000-000000000004', pg_temp.org(), 'x', 'https://example.nl', 'abcd', '{lead.created}');
create temp table made (rule text, statement text);
insert into made values
  ('idempotency_keys', $$ insert into private.idempotency_keys (user_id, key, operation, request_hash, created_at) values (pg_temp.anna(), gen_random_uuid()::text, 'x', sha256('x'), %s) $$),
  ('login_history', $$ insert into private.login_history (user_id, method, status, created_at) values (pg_temp.anna(), 'password', 'success', %s) $$),
  ('sessions', $$ insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at, revoked_at) values (pg_temp.anna(), pg_temp.org(), now() + interval '90 days', now() + interval '30 days', %s) $$),
  ('sessions.expired', $$ insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at) values (pg_temp.anna(), pg_temp.org(), %s, now()) $$),
  ('sessions.idle', $$ insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at) values (pg_temp.anna(), pg_temp.org(), now(), %s) $$),
  ('refresh_tokens.used', $$ insert into private.refresh_tokens (token_hash, session_id, issued_at, expires_at, used_at) values (sha256(random()::text::bytea), '00000000-0000-4000-8000-000000000002', now() - interval '1 year', now() + interval '1 day', %s) $$),
  ('team_invitations', $$ insert into public.team_invitations (organization_id, email, role, token_hash, expires_at, status, updated_at) values (pg_temp.org(), gen_random_uuid() || '@example.nl', 'viewer', sha256(random()::text::bytea), now(), 'cancelled', %s) $$),
  ('project_activity', $$ insert into public.project_activity (organization_id, project_id, user_id, user_name, user_email, type, description, created_at) values (pg_temp.org(), '00000000-0000-4000-8000-000000000001', pg_temp.anna(), 'Anna', 'anna@example.nl', 'view', 'opened', %s) $$),
  ('context_changelog', $$ insert into public.context_changelog (organization_id, project_id, type, user_name, user_email, description, created_at) values (pg_temp.org(), '00000000-0000-4000-8000-000000000001', 'config', 'Anna', 'anna@example.nl', 'x', %s) $$),
  ('support_conversations', $$ insert into public.support_conversations (user_id, expires_at) values (pg_temp.anna(), %s) $$),
  ('mails', $$ insert into private.mails (user_id, kind, to_address, subject, body_text, body_html, created_at) values (pg_temp.anna(), 'digest', 'anna@example.nl', 'x', 'x', 'x', %s) $$),
  ('usage_days', $$ insert into public.usage_days (organization_id, metric, day, value) values (pg_temp.org(), 'api_calls', (%s at time zone 'UTC')::date, 1) on conflict do nothing $$),
  ('usage_counters', $$ insert into public.usage_counters (organization_id, metric, period) values (pg_temp.org(), 'api_calls', date_trunc('month', %s at time zone 'UTC')) on conflict do nothing $$),
  ('audit_log', $$ insert into public.audit_log (organization_id, user_id, event_type, description, created_at) values (pg_temp.org(), pg_temp.anna(), 'user.login', 'x', %s) $$),
  ('skill_executions', $$ insert into public.skill_executions (user_id, organization_id, execution_type, status, executed_at, started_at, completed_at) values (pg_temp.anna(), pg_temp.org(), 'manual', 'completed', %1$s, %1$s, %1$s) $$),
  ('analytics_events', $$ insert into private.analytics_events (type, properties, received_at, occurred_at, client_timestamp) values ('ingestion_started', '{}', %1$s, %1$s, %1$s) $$),
  ('chat_sessions', $$ insert into public.chat_sessions (organization_id, user_id, id, last_activity, stored_at) values (pg_temp.org(), pg_temp.anna(), gen_random_uuid()::text, %1$s, %1$s) $$),
  ('chat_attachments', $$ insert into public.chat_attachments (organization_id, user_id, name, mime_type, size, is_image, checksum, storage_key, storage_provider, created_at) values (pg_temp.org(), pg_temp.anna(), 'a', 'text/plain', 1, false, 'x', gen_random_uuid()::text, 'local', %s) $$),
  ('webhook_deliveries', $$ insert into public.webhook_deliveries (organization_id, webhook_id, event_id, event_type, payload, status, created_at) values (pg_temp.org(), '00000000-0000-4000-8000-000000000004', gen_random_uuid(), 'lead.created', '{}', 'failed', %s) $$),
  ('usage_counters.days', $$ insert into public.usage_counters (organization_id, metric, period) values (pg_temp.org(), 'oracle_queries', (%s at time zone 'UTC')::date) on conflict do nothing $$),
  ('notifications', $$ insert into public.notifications (user_id, type, title, created_at, read_at) values (pg_temp.anna(), 'new_lead', 'x', %s, now()) $$),
  ('skill_executions.texts', $$ insert into public.skill_executions (user_id, organization_id, execution_type, status, output, executed_at, started_at, completed_at) values (pg_temp.anna(), pg_temp.org(), 'manual', 'completed', 'x', %1$s, %1$s, %1$s) $$),
  ('analytics_events.people', $$ insert into private.analytics_events (type, session_id, properties, received_at, occurred_at, client_timestamp) values ('ingestion_started', 's', '{}', %1$s, %1$s, %1$s) $$),
  ('audit_files', $$ insert into private.audit_files (organization_id, schedule_id, run_at, file_name, storage_key, expires_at) values (pg_temp.org(), '00000000-0000-4000-8000-000000000003', clock_timestamp(), 'x', 'x', %s) $$);
-- Of tables that the database may not have yet.
insert into made select rule, statement from (values
  ('tombstones', $$ insert into private.tombstones (user_id, erased_at) values (gen_random_uuid(), %s) $$),
  ('stripe_events', $$ insert into private.stripe_events (id, type, created, livemode, received_at, processed_at, outcome) values (gen_random_uuid()::text, 'x', now(), false, %s, now(), 'processed') $$),
  ('stripe_events.payloads', $$ insert into private.stripe_events (id, type, created, livemode, payload, received_at, processed_at, outcome) values (gen_random_uuid()::text, 'x', now(), false, '{}', %s, now(), 'processed') $$),
  ('data_exports', $$ insert into private.data_exports (user_id, type, categories, status, requested_at) values (pg_temp.anna(), 'full', '{profile}', 'failed', %s) $$),
  ('invoices', $$ insert into public.invoices (stripe_invoice_id, status, currency, net_amount, vat_amount, total_amount, amount_due, amount_paid, period_start, period_end, state_key, created_at)
    values (gen_random_uuid()::text, 'draft', 'eur', 0, 0, 0, 0, 0, now(), now(), row(now(), 0, 'x'), %s) $$)) m (rule, statement)
where rule in (select r.name from private.retention_rules r);
create function pg_temp.left_of(p_rule text) returns text language plpgsql as $$
declare
  r private.retention_rules := (select x from private.retention_rules x where x.name = p_rule);
  v_moment text := format('(now() - (now() - private.retention_cutoff((select x from private.retention_rules x where x.name = %L), now())) %%s interval ''%%s'')', p_rule);
  v_slack text := case when p_rule = 'invoices' then '366 days' when p_rule = 'usage_counters' then '32 days' when p_rule in ('usage_days', 'usage_counters.days') then '1 day' else '1 minute' end;
  v_ended bigint;
begin
  execute format((select m.statement from made m where m.rule = p_rule), format(v_moment, '-', v_slack));
  execute format((select m.statement from made m where m.rule = p_rule), format(v_moment, '+', v_slack));
  v_ended := private.end_old(r, now(), 100);
  return v_ended || ' and then ' || private.end_old(r, now(), 100);
exception when others then
  return sqlerrm;
end
$$;
select is(pg_temp.left_of(rule), '1 and then 0', rule || ': the older goes, the younger stays') from made;


-- What a rule leaves alone.
insert into public.skill_executions (user_id, organization_id, execution_type, status, input, executed_at) values (pg_temp.anna(), pg_temp.org(), 'manual', 'pending', '{}', now() - interval '1 year');
insert into public.webhook_deliveries (organization_id, webhook_id, event_id, event_type, payload, created_at)
values (pg_temp.org(), '00000000-0000-4000-8000-000000000004', gen_random_uuid(), 'lead.created', '{}', now() - interval '1 year');
insert into public.notifications (user_id, type, title, created_at) values (pg_temp.anna(), 'new_lead', 'unread', now() - interval '100 days');
insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at, revoked_at, provider)
values (pg_temp.anna(), pg_temp.org(), now() + interval '90 days', now() + interval '30 days', now() - interval '40 days', 'keycloak');
insert into public.usage_days (organization_id, metric, day, value) select pg_temp.org(), 'storage', current_date - d, d from unnest(array[400, 300, 200]) d;
select is(tests.end_old(t), n, t || ': what still counts stays') from (values ('skill_executions', 0::bigint), ('webhook_deliveries', 0), ('notifications', 0), ('sessions', 0), ('usage_days', 2)) v (t, n);
select is((select array_agg(value) from public.usage_days where organization_id = pg_temp.org() and metric = 'storage'), array[200::bigint], 'of a gauge the newest day');

-- The audit log is kept as long as the plan of its organization says, and 7 days longer.
insert into public.audit_log (organization_id, user_id, event_type, description, created_at)
select o, null, 'user.login', days::text, now() - days * interval '1 day' from unnest(array[pg_temp.org(), tests.org('stan')]) o, unnest(array[13, 15, 96, 98]) days;
update public.subscriptions set plan_id = 'teams' where organization_id = tests.org('stan');
select is(tests.end_old('audit_log'), 4::bigint, 'by the plan');
select results_eq($$ select o.name, array_agg(a.description order by a.created_at desc) from public.audit_log a join public.organizations o on o.id = a.organization_id where a.user_id is null and a.created_at < now() - interval '1 day'
  group by 1 order by 1 $$, $$ values ('Anna''s workspace', array['13']), ('Stan''s workspace', array['13', '15', '96']) $$, 'of each organization');

-- ---------------------------------------------------------------------------------------------------------------------- the engine
update private.retention_rules set run_at = 'infinity';
insert into private.login_history (user_id, method, status, created_at) select pg_temp.anna(), 'password', 'success', now() - interval '91 days' - n * interval '1 s' from generate_series(1, 25) n;
insert into private.mails (user_id, kind, to_address, subject, body_text, body_html, created_at) select pg_temp.anna(), 'digest', 'anna@example.nl', 'x', 'x', 'x', now() - interval '31 days' from generate_series(1, 5) n;
update private.retention_rules set run_at = '2026-03-04 03:00Z', batch = 10 where name = 'login_history';
update private.retention_rules set run_at = '2026-03-04 04:00Z' where name = 'mails';
create function pg_temp.old() returns bigint[] language sql as $$ select array[(select count(*) from private.login_history where created_at < now() - interval '90 days'), (select count(*) from private.mails where created_at < now() - interval '30 days')] $$;
select is(private.run_retention(now(), 12), true, 'a run ends so many rows at most');
select is(pg_temp.old(), array[15, 3]::bigint[], 'a full batch lets the next rule go first');
select is((select min(created_at) from private.login_history) > now() - interval '91 days 16 seconds', true, 'the oldest rows go first');
select is(private.run_retention(now(), 100), true, 'the rest of the mails, and another batch');
select is(private.run_retention(now(), 100), false, 'the last batch is not full');
select is(pg_temp.old(), array[0, 0]::bigint[], 'nothing is left');
select is(array[private.next_retention('1 day', '2026-03-05 02:59Z'), private.next_retention('1 day', '2026-03-05 03:00Z'), private.next_retention('10 minutes', '2026-03-05 03:00Z')],
  array['2026-03-05 03:00Z', '2026-03-06 03:00Z', '2026-03-05 03:10Z']::timestamptz[], 'at three at night, or sooner');
-- A rule that fails stops no other.
insert into private.mails (user_id, kind, to_address, subject, body_text, body_html, created_at) values (pg_temp.anna(), 'digest', 'anna@example.nl', 'x', 'x', 'x', now() - interval '31 days');
update private.retention_rules set run_at = '2026-03-04 03:00Z', condition = 't.nothing = 1' where name = 'login_history';
update private.retention_rules set run_at = '2026-03-04 04:00Z' where name = 'mails';
set local client_min_messages = error;
select is(private.run_retention(now()), false, 'a rule that fails is tried again in ten minutes');
reset client_min_messages;
select is(pg_temp.old(), array[0, 0]::bigint[], 'and the others are applied');
select is((select run_at from private.retention_rules where name = 'login_history'), now() + interval '10 minutes', 'not at once');
update private.retention_rules set condition = null where name = 'login_history';
-- The schedule.
insert into private.mails (user_id, kind, to_address, subject, body_text, body_html, created_at) values (pg_temp.anna(), 'digest', 'anna@example.nl', 'x', 'x', 'x', now() - interval '31 days');
update private.retention_rules set run_at = now() where name = 'mails';
update private.schedules set run_at = case when name = 'retention.run' then now() else 'infinity' end;
select is(private.run_due(100), 1, 'the schedule runs it');
select is(pg_temp.old(), array[0, 0]::bigint[], 'as it is due');

-- ---------------------------------------------------------------------------------------------------------------------- by hand
insert into private.login_history (user_id, method, status, created_at) select pg_temp.anna(), 'password', 'success', now() - interval '91 days' - n * interval '1 s' from generate_series(1, 15) n;
create function pg_temp.answer(p_who text, p_call text) returns text language plpgsql as $$
begin
  perform tests.act_as(p_who);
  return tests.refusal(p_call) ->> 'code';
end
$$;
grant execute on all functions in schema pg_temp to public;
select is(pg_temp.answer(who, $$ select api.clean_up_logs('{"dry_run": false}') $$), 'FORBIDDEN', who || ' cleans nothing up') from unnest(array['anna', 'ben', 'stan']) who;
select tests.act_anon();
select throws_ok($$ select api.clean_up_logs('{}') $$, '42501', null, 'nor does a caller without an account');
select tests.act_service();
select throws_ok($$ select api.clean_up_logs('{}') $$, '42501', null, 'nor the service');
select throws_ok($$ select private.run_retention() $$, '42501', null, 'nor runs the engine');
select tests.act_as('sue');
select is(tests.refusal($$ select api.clean_up_logs('{"dry_run": "maybe"}') $$) - 'message', '{"status": 400, "code": "VALIDATION_ERROR", "field": "dry_run"}', 'a switch is true or false');
create temp table reports as select api.clean_up_logs(p) as r, n from (values ('{}'::jsonb, 'counted'), ('{"dry_run": "true"}', 'asked')) v (p, n);
select is((select r -> 'login_history' from reports where n = 'counted') - 'cutoff', '{"wouldDelete": 15, "dryRun": true}', 'a dry run counts');
select is((select private.as_instant(r #>> '{login_history,cutoff}') from reports where n = 'asked') between now() - interval '90 days 1 second' and clock_timestamp() - interval '90 days' + interval '1 second', true, 'names the cutoff');
select is((select count(*) from jsonb_object_keys((select r from reports where n = 'counted'))), tests.peek($$ select count(*)::text from private.retention_rules $$)::bigint, 'of each rule');
select is(tests.peek($$ select count(*)::text from private.login_history where created_at < now() - interval '90 days' $$), '15', 'and changes nothing');
select is(tests.peek($$ select count(*)::text from public.audit_log where event_type = 'system.logs_cleaned' $$), '0', 'which is no event');
select is((api.clean_up_logs('{"dry_run": false}') -> 'login_history') - 'cutoff', '{"deleted": 10, "dryRun": false, "hasMore": true}', 'a run ends a batch');
select is(tests.peek($$ select (run_at < now() + interval '1 minute')::text from private.retention_rules where name = 'login_history' $$), 'true', 'and leaves the rest to the worker');
select is((api.clean_up_logs('{"dry_run": false}') -> 'login_history') - 'cutoff', '{"deleted": 5, "dryRun": false}', 'to the end');
select is(tests.peek($$ select string_agg(user_id || ' ' || (metadata #>> '{ended,login_history}'), '; ' order by created_at) from public.audit_log where event_type = 'system.logs_cleaned' $$),
  format('%1$s 10; %1$s 5', tests.user('sue')), 'each run is in the audit log, with numbers');

select * from finish();
rollback;
