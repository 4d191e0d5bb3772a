-- Which change notifies whom (contract 30, 11.6). Olga owns an organization and a project. Mia is a member of both, Gus a guest of the
-- project from another organization, Adam an admin of the organization. Pia was invited and has not accepted, Stan is a stranger.
begin;
select no_plan();

select tests.user('olga'), tests.member('mia', 'olga'), tests.member('adam', 'olga', 'admin'), tests.user('gus'), tests.user('pia'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-000000000001'::uuid $$;
create function pg_temp.clear() returns void language sql as $$
  delete from public.notifications; delete from private.notification_keys; delete from private.notification_mails; select set_config('app.context_notified', '', true) $$;
-- The notifications by recipient: name, type, ! for urgent, title, in order.
create function pg_temp.notified() returns text
language sql as $$
  select coalesce(string_agg(format('%s: %s%s %s', coalesce(p.name, '?'), n.type, case when n.is_urgent then '!' else '' end, n.title), '; ' order by p.name, n.title), 'nobody')
  from public.notifications n left join tests.people p on p.user_id = n.user_id $$;
create function pg_temp.acting(p_name text) returns void language sql as $$ select tests.act_as(p_name); select set_config('role', 'none', true) $$;

insert into public.projects (id, organization_id, user_id, name, created_at) values (pg_temp.pid(), tests.org('olga'), tests.user('olga'), 'Billing', now() - interval '1 day');
select pg_temp.clear();

-- -------------------------------------------------------------------------------------------------------------- members of projects
select tests.act_as('olga');
insert into public.project_members (organization_id, project_id, email, role) values
  (tests.org('olga'), pg_temp.pid(), 'mia@example.nl', 'developer'), (tests.org('olga'), pg_temp.pid(), 'gus@example.nl', 'viewer'),
  (tests.org('olga'), pg_temp.pid(), 'pia@example.nl', 'viewer'), (tests.org('olga'), pg_temp.pid(), 'nobody@example.nl', 'viewer');
select tests.reset();
select is(pg_temp.notified(), 'nobody', 'an invitation itself takes the same time whether there is an account');
select private.notify_project_invitee(m.id) from public.project_members m where m.project_id = pg_temp.pid() and m.accepted_at is null;
select is(pg_temp.notified(), 'gus: team_activity You are invited to "Billing"; mia: team_activity You are invited to "Billing"; pia: team_activity You are invited to "Billing"',
  'invited people who have an account are told');
select is((select message from public.notifications n where n.user_id = tests.user('gus')), 'Olga Test invites you as viewer.', 'by whom and as what');
select pg_temp.clear(), pg_temp.acting('mia');
update public.project_members set user_id = tests.user('mia'), accepted_at = now() where email = 'mia@example.nl';
select is(pg_temp.notified(), 'olga: team_activity Mia Test joined "Billing"', 'who joins is left out, the owner hears of it; who is pending does not');
update public.project_members set name = 'Mia <b>' where email = 'mia@example.nl';
select pg_temp.clear(), pg_temp.acting('gus');
update public.project_members set user_id = tests.user('gus'), accepted_at = now() where email = 'gus@example.nl';
select is(pg_temp.notified(), 'mia: team_activity Gus Test joined "Billing"; olga: team_activity Gus Test joined "Billing"', 'members hear of each other');
select pg_temp.clear(), pg_temp.acting('olga');
update public.project_members set role = 'manager' where email = 'mia@example.nl';
select is(pg_temp.notified(), 'gus: team_activity Mia <b> is now manager in "Billing"; mia: team_activity You are now manager in "Billing"', 'a role that changes');
select is((select distinct link from public.notifications), '/project/' || pg_temp.pid(), 'with the way to the project');
select pg_temp.clear();
update public.project_members set notify_on_team_changes = false where email in ('mia@example.nl', 'gus@example.nl');
update public.project_members set role = 'developer' where email = 'mia@example.nl';
select is(pg_temp.notified(), 'nobody', 'who switched team changes off is not told');
delete from public.project_members where email in ('gus@example.nl', 'nobody@example.nl');
select is(pg_temp.notified(), 'gus: team_activity You were removed from "Billing"', 'a removed person always is; the end of an invitation notifies no member');
select is((select link from public.notifications), '/', 'without the way to what is closed to them');
update public.project_members set notify_on_team_changes = true where email = 'mia@example.nl';
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at) values (tests.org('olga'), pg_temp.pid(), tests.user('gus'), 'gus@example.nl', 'viewer', now());
select tests.reset();

-- ------------------------------------------------------------------------------------------------------------------------ ingestion
select private.declare_installation('mail', 'true');
create function pg_temp.run(p_outcome text) returns uuid language plpgsql as $$
declare v uuid;
begin
  perform pg_temp.clear();
  insert into public.ingestion_runs (organization_id, project_id) values (tests.org('olga'), pg_temp.pid()) returning id into v;
  update public.ingestion_runs set phase = 'parsing', message = 'at work', percent = 50 where id = v;
  update public.ingestion_runs set outcome = p_outcome, completed_at = case when p_outcome = 'completed' then now() end,
    error_code = case when p_outcome <> 'completed' then 'PARSING_FAILED' end, error_message = case when p_outcome <> 'completed' then 'No file is left.' end where id = v;
  return v;
end $$;
update public.project_members set notify_on_error = false where email = 'gus@example.nl';
update public.project_members set notification_level = 'weekly' where email = 'mia@example.nl';
update public.project_members set notification_level = 'disabled' where email = 'gus@example.nl';
create temp table runs as select pg_temp.run('failed') as id;
select is(pg_temp.notified(), 'mia: task_completion Ingestion of "Billing" failed; olga: task_completion Ingestion of "Billing" failed', 'a failed run: owner and members with notifyOnError');
select is((select n.data || jsonb_build_object('message', n.message) from public.notifications n where user_id = tests.user('mia')),
  (select jsonb_build_object('projectId', pg_temp.pid(), 'runId', id, 'errorCode', 'PARSING_FAILED', 'message', 'No file is left.') from runs), 'with what went wrong');
select results_eq($$ select p.name, m.cadence from private.notification_mails m join tests.people p using (user_id) order by 1 $$, $$ values ('mia', 'weekly'), ('olga', 'now') $$,
  'mailed to the owner now, to the member as the invitation says');
select is((select array_agg(distinct n.project_id) from public.notifications n), array[pg_temp.pid()], 'the project is kept');
select is((select count(*) from private.notify_all(private.project_audience(pg_temp.pid(), 'error'), 'task_completion', 'Again', p_dedupe => 'run:' || (select id from runs))), 0::bigint,
  'told once a run');
select pg_temp.run('cancelled');
select is(pg_temp.notified(), 'nobody', 'a cancelled run notifies no member');
update public.project_members set notify_on_ingestion = false where email = 'mia@example.nl';
select pg_temp.run('completed');
select is(pg_temp.notified(), 'gus: task_completion Ingestion of "Billing" completed; olga: task_completion Ingestion of "Billing" completed', 'a completed one: owner and members with notifyOnIngestion');
select results_eq($$ select p.name from private.notification_mails m join tests.people p using (user_id) $$, $$ values ('olga') $$, 'who disabled mail of this project gets none');

-- A run that only renews the index ingests nothing.
create function pg_temp.index_run(p_scope text, p_outcome text) returns void language plpgsql as $$
declare v uuid;
begin
  perform pg_temp.clear();
  insert into public.ingestion_runs (organization_id, project_id, options) values (tests.org('olga'), pg_temp.pid(), jsonb_build_object('scope', p_scope::jsonb))
  returning id into v;
  update public.ingestion_runs set outcome = p_outcome, completed_at = case when p_outcome = 'completed' then now() end,
    error_code = case when p_outcome <> 'completed' then 'PARSING_FAILED' end, error_message = case when p_outcome <> 'completed' then 'No file is left.' end where id = v;
end $$;
select pg_temp.index_run('{"refresh": true}', 'completed');
select is(pg_temp.notified(), 'nobody', 'the index after a deletion notifies no member');
select pg_temp.index_run('{"rollback": 1}', 'completed');
select is(pg_temp.notified(), 'nobody', 'nor the index after a rollback');
select pg_temp.index_run('{"refresh": true}', 'failed');
select is(pg_temp.notified(), 'mia: task_completion Ingestion of "Billing" failed; olga: task_completion Ingestion of "Billing" failed', 'of its failure people hear');

-- One statement, however many people take part.
insert into public.users (email) select format('m%s@many.nl', i) from generate_series(1, 100) i;
insert into public.project_members (organization_id, project_id, user_id, email, accepted_at)
select tests.org('olga'), pg_temp.pid(), u.id, u.email, now() from public.users u where u.email like '%@many.nl';
select pg_temp.run('failed');
select is((select count(*) from public.notifications), 102::bigint, 'a hundred members more are told');
select is((select count(*) from private.event_inbox i join public.notifications n on n.id = i.entity_id and i.room = 'user:' || n.user_id and i.type = 'notification'), 102::bigint, 'each in their room');
delete from public.users where email like '%@many.nl';
select is((select count(*) from public.notifications where user_id is null or actor_user_id is not null), 0::bigint, 'and may go');

-- ------------------------------------------------------------------------------------------------------- habits, reflexes, long runs
insert into public.skills (id, user_id, name, prompt_template) values ('00000000-0000-4000-8000-00000000000a', tests.user('mia'), 'Report', 'Write a report about {topic} now');
insert into public.habits (user_id, organization_id, skill_id, schedule_cron, next_run_at)
values (tests.user('mia'), tests.org('olga'), '00000000-0000-4000-8000-00000000000a', '0 9 * * *', now() + interval '1 day');
insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config)
values (tests.user('mia'), tests.org('olga'), '00000000-0000-4000-8000-00000000000a', 'webhook', '{}');
create function pg_temp.failing(p_table text, p_failures integer) returns text language plpgsql as $$
begin
  perform pg_temp.clear();
  execute format('update public.%I set consecutive_failures = $1, last_error_message = ''The model is away.'', is_active = is_active and $1 < 3', p_table)
    || case p_table when 'habits' then ', next_run_at = case when is_active and $1 < 3 then next_run_at end' else '' end using p_failures;
  return pg_temp.notified();
end $$;
select is(pg_temp.failing(t, n), e, format('%s: failure %s', t, n))
from (values ('habits', 1, 'mia: task_completion The habit of "Report" failed'), ('habits', 2, 'nobody'), ('habits', 3, 'mia: task_completion! The habit of "Report" was switched off'),
  ('habits', 0, 'nobody'), ('reflexes', 1, 'mia: task_completion The reflex of "Report" failed'), ('reflexes', 2, 'nobody'),
  ('reflexes', 3, 'mia: task_completion! The reflex of "Report" was switched off')) v (t, n, e);
select is((select message from public.notifications), 'It failed 3 times in a row. The model is away.', 'with the reason');
select is((select link from public.notifications), '/?tab=skills', 'and the way there');
select pg_temp.clear();
insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, reference_id, executed_at, status, started_at)
select tests.user('mia'), tests.org('olga'), '00000000-0000-4000-8000-00000000000a', t, case when t = 'habit' then gen_random_uuid() end, now() - interval '1 hour', 'running', now() - a
from (values ('manual', interval '5 seconds'), ('manual', interval '31 seconds'), ('habit', interval '1 hour'), ('api', interval '1 hour')) v (t, a);
update public.skill_executions set lease_expires_at = now() + interval '1 minute';
select is(pg_temp.notified(), 'nobody', 'a run that goes on is no news');
update public.skill_executions set status = 'completed', completed_at = now();
select is(pg_temp.notified(), 'mia: task_completion "Report" has finished', 'by hand and over 30 seconds it is');

-- ---------------------------------------------------------------------------------------------------------------- the organization
select pg_temp.clear(), pg_temp.acting('adam');
insert into public.memberships (organization_id, user_id, role) values (tests.org('olga'), tests.user('stan'), 'viewer');
select is(pg_temp.notified(), 'olga: team_activity Stan Test joined Olga''s workspace; stan: team_activity You joined Olga''s workspace as viewer', 'joining: owner, admins but the one who did it, the person');
select pg_temp.clear();
update public.memberships set role = 'member' where user_id = tests.user('stan') and organization_id = tests.org('olga');
select is(pg_temp.notified(), 'olga: team_activity Stan Test is now member of Olga''s workspace; stan: team_activity You are now member of Olga''s workspace', 'another role');
select pg_temp.clear();
delete from public.memberships where user_id = tests.user('stan') and organization_id = tests.org('olga');
select is(pg_temp.notified(), 'olga: team_activity Stan Test left Olga''s workspace; stan: team_activity You are no longer a member of Olga''s workspace', 'leaving');
select pg_temp.clear();
update public.subscriptions set plan_id = 'pro' where organization_id = tests.org('olga');
select is(pg_temp.notified(), 'olga: system_update Your plan is now Pro', 'another plan: the owner');
select is((select category from private.notification_mails), 'billingReminders', 'by mail as a billing reminder');
select pg_temp.clear();
update public.subscriptions set status = 'canceled', plan_id = 'free' where organization_id = tests.org('olga');
select is(pg_temp.notified(), 'olga: system_update Your subscription was cancelled', 'its end');

-- --------------------------------------------------------------------------------------------------------------------------- quotas
create function pg_temp.use(p_metric text, p_amount bigint, p_at timestamptz default now()) returns text language plpgsql as $$
begin
  delete from public.notifications;
  perform private.consume_quota(tests.org('olga'), p_metric, p_amount, p_at);
  return pg_temp.notified();
end $$;
select pg_temp.clear(), tests.reset();
select is(pg_temp.use('ingestions', n, at), e, format('%s ingestions more, %s', n, at))
from (values (1, 39, 'nobody', now() + interval '3 years'), (2, 1, 'adam: system_update Four fifths used: ingestions of this month; olga: system_update Four fifths used: ingestions of this month', now() + interval '3 years'),
  (3, 1, 'nobody', now() + interval '3 years'), (4, 8, 'nobody', now() + interval '3 years'),
  (5, 1, 'adam: system_update! Used up: ingestions of this month; olga: system_update! Used up: ingestions of this month', now() + interval '3 years'),
  (6, 40, 'adam: system_update Four fifths used: ingestions of this month; olga: system_update Four fifths used: ingestions of this month', now() + interval '3 years 2 months')) v (o, n, e, at);
-- Two transactions that count in different slots at once each see half. Together they reach the limit, and the notification follows a
-- moment later.
delete from public.notifications;
insert into public.usage_counters (organization_id, metric, period, slot, is_alone, used, granted)
select tests.org('olga'), 'ingestions', private.usage_period('ingestions', now() + interval '3 years 4 months'), s, false, 25, 25 from generate_series(0, 1) s;
select private.notify_spread_quotas(now() + interval '3 years 3 months');
select is(pg_temp.notified(), 'nobody', 'another month');
select private.notify_spread_quotas(now() + interval '3 years 4 months');
select is(pg_temp.notified(), 'adam: system_update! Used up: ingestions of this month; olga: system_update! Used up: ingestions of this month', 'the end that nobody saw');
delete from public.notifications;
select private.notify_spread_quotas(now() + interval '3 years 4 months');
select is(pg_temp.notified(), 'nobody', 'told once');
select is(pg_temp.use('storage', (0.81 * 1073741824)::bigint), 'adam: system_update Four fifths used: storage; olga: system_update Four fifths used: storage', 'storage too');
select is(pg_temp.use('storage', 1000), 'nobody', 'once');
update public.subscriptions set plan_id = 'enterprise', status = 'active' where organization_id = tests.org('olga');
select is(pg_temp.use('api_calls', 100000), 'nobody', 'what has no limit has no end');

-- ------------------------------------------------------------------------------------------------------------------------- security
create function pg_temp.signs_in(p_status text, p_agent text, p_method text default 'password', p_at timestamptz default now()) returns text language plpgsql as $$
begin
  delete from public.notifications;
  insert into private.login_history (user_id, method, status, reason, device, client_ip, created_at)
  values (tests.user('pia'), p_method, p_status, case p_status when 'failed' then 'Invalid password' end,
    (select jsonb_build_object('browser', coalesce(substring(p_agent from 'Firefox|Chrome'), 'Unknown'), 'os', coalesce(substring(p_agent from 'Mac OS X|Windows'), 'Unknown'), 'userAgent', p_agent)
     where p_agent is not null), '10.0.0.1', p_at);
  return pg_temp.notified();
end $$;
select pg_temp.clear();
select is(pg_temp.signs_in('success', a, m), e, format('%s with %s', m, a))
from (values (1, 'Mozilla/5.0 (Macintosh; Mac OS X) Firefox/140.0', 'signup', 'nobody'), (2, 'Mozilla/5.0 (Macintosh; Mac OS X) Firefox/141.0', 'password', 'nobody'),
  (3, 'Mozilla/5.0 (Windows NT) Chrome/140', 'password', 'pia: security_alert! Sign-in from a new device'), (4, 'Mozilla/5.0 (Windows NT) Chrome/141', 'sso', 'nobody'),
  (5, 'curl/8', 'password', 'pia: security_alert! Sign-in from a new device'), (6, 'curl/8', 'password', 'nobody'), (7, null, 'password', 'pia: security_alert! Sign-in from a new device')) v (o, a, m, e);
select pg_temp.clear();
select is(pg_temp.signs_in('failed', null, 'password', now() + a), e, format('attempt %s', o))
from (values (1, interval '0', 'nobody'), (2, interval '1 min', 'nobody'), (3, interval '2 min', 'nobody'), (4, interval '3 min', 'nobody'),
  (5, interval '4 min', 'pia: security_alert! Failed attempts to sign in'), (6, interval '5 min', 'nobody'), (7, interval '6 min', 'nobody')) v (o, a, e);
update private.notification_keys set created_at = now() - interval '16 minutes';
select is(pg_temp.signs_in('failed', null, 'password', now() + interval '30 minutes'), 'nobody', 'a single one later is none');
select isnt((select private.notify(tests.user('pia'), 'security_alert', 'x')), null);
select pg_temp.clear();
insert into private.credentials (user_id, password_hash, meets_policy, changed_at) values (tests.user('pia'), '$argon2id$a', true, now() - interval '1 day');
update private.credentials set password_hash = '$argon2id$b' where user_id = tests.user('pia');
select is(pg_temp.notified(), 'nobody', 'the same password in another form is no change');
update private.credentials set password_hash = '$argon2id$c', changed_at = now() where user_id = tests.user('pia');
select is(pg_temp.notified(), 'pia: security_alert! Your password was changed', 'a changed password is an alert');
select results_eq('select category, cadence from private.notification_mails', $$ values ('securityAlerts', 'now') $$, 'by mail, always');
select pg_temp.clear();
update public.users set two_factor_enabled_at = now() where id = tests.user('pia');
select is(pg_temp.notified(), 'pia: security_alert Two-factor authentication was switched on', 'the second factor on');
delete from public.notifications; delete from private.notification_keys;
update public.users set two_factor_enabled_at = null where id = tests.user('pia');
select is(pg_temp.notified(), 'pia: security_alert! Two-factor authentication was switched off', 'and, urgently, off');
select pg_temp.clear();
insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at) select tests.user('pia'), tests.org('pia'), now() + interval '1 day', now() + interval '1 day';
select private.revoke_session(s.id, 'logout') from private.sessions s where s.user_id = tests.user('pia') and s.id not in (select session_id from tests.people);
select private.revoke_session(session_id, 'terminated') from tests.people where name = 'pia';
select is(pg_temp.notified(), 'pia: security_alert A session was ended', 'a session that was ended from elsewhere, not one''s own signing out');

-- ------------------------------------------------------------------------------------------------------------------------- contexts
update public.notification_preferences set in_app_context_updates = true
where user_id in (tests.user('olga'), tests.user('mia'), tests.user('gus'), tests.user('adam'), tests.user('stan'));
create function pg_temp.changes(p_name text, p_sql text) returns text language plpgsql as $$
begin
  delete from public.notifications;
  perform pg_temp.acting(p_name), set_config('app.context_notified', '', true);
  execute p_sql;
  perform tests.reset();
  return pg_temp.notified();
end $$;
select pg_temp.clear();
select is(pg_temp.changes('olga', 'update public.projects set name = ''Invoices'''), 'adam: context_update "Invoices" was changed; gus: context_update "Invoices" was changed; mia: context_update "Invoices" was changed',
  'a name: those who may view it, but the one who did it');
select is((select distinct message from public.notifications), 'Olga Test changed its name.', 'and who did what');
select is(pg_temp.changes('olga', 'update public.project_settings set output_format = ''markdown'''), 'nobody', 'further changes of the same person in ten minutes are not told');
select is(pg_temp.changes('mia', 'insert into public.project_manual_contents (organization_id, project_id, content) values (tests.org(''olga''), pg_temp.pid(), ''A text that is long enough'')'),
  'adam: context_update "Invoices" was changed; gus: context_update "Invoices" was changed; olga: context_update "Invoices" was changed', 'those of another person are');
update private.notification_keys set created_at = created_at - interval '11 minutes';
update public.project_members set role = 'auditor' where email = 'gus@example.nl';
select is(pg_temp.changes('olga', $$ insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name)
  values (tests.org('olga'), pg_temp.pid(), 'github', 'https://github.com/a/b', 'b'), (tests.org('olga'), pg_temp.pid(), 'github', 'https://github.com/a/c', 'c') $$),
  'adam: context_update "Invoices" was changed; mia: context_update "Invoices" was changed', 'after ten minutes again; an auditor sees no content');
update public.projects set privacy = 'shared' where id = pg_temp.pid();
insert into public.memberships (organization_id, user_id, role) values (tests.org('olga'), tests.user('stan'), 'viewer');
update private.notification_keys set created_at = created_at - interval '11 minutes';
select is(pg_temp.changes('adam', 'update public.project_repositories set branch = ''next'' where repository_name = ''b'''),
  'mia: context_update "Invoices" was changed; olga: context_update "Invoices" was changed; stan: context_update "Invoices" was changed', 'a shared one is everybody''s in the organization');
select is(pg_temp.changes('gus', 'update public.project_repositories set status = ''syncing'''), 'nobody', 'what ingestion writes is no change');

-- ------------------------------------------------------------------------------------------------------------- cascading deletions
select pg_temp.clear();
delete from public.projects where id = pg_temp.pid();
select is(pg_temp.notified(), 'nobody', 'a project that goes tells nobody of each member');
delete from public.organizations where id = tests.org('olga');
select is(pg_temp.notified(), 'nobody', 'nor does an organization');
-- A person who deletes their own account and is a member of another person's organization.
insert into public.memberships (organization_id, user_id, role) values (tests.org('gus'), tests.user('stan'), 'member');
select pg_temp.clear(), pg_temp.acting('stan');
delete from public.organizations where id = (select org_id from tests.people where name = 'stan') and id <> tests.org('gus');
delete from public.users where id = (select user_id from tests.people where name = 'stan');
select is(pg_temp.notified(), 'gus: team_activity A member left Gus''s workspace', 'an account that deletes itself is missed, and stands in nobody''s way');

select * from finish();
rollback;
