-- Habits: what may be written, when they run next, the effect of switching, and the events that the owner receives.
begin;
select no_plan();

select tests.user('anna');
create function pg_temp.sid(p_n integer) returns uuid language sql as $$ select format('00000000-0000-4000-8000-%s', lpad(p_n::text, 12, '0'))::uuid $$;
insert into public.skills (id, user_id, organization_id, name, prompt_template)
values (pg_temp.sid(1), tests.user('anna'), tests.org('anna'), 'Own', 'Twenty characters of {{text}}');
create function pg_temp.create(p_body jsonb default '{}') returns jsonb language sql as $$
  select api.create_habit(jsonb_build_object('body', jsonb_build_object('skillId', pg_temp.sid(1), 'scheduleCron', '0 9 * * *') || p_body)) $$;
create temp table made (name text, habit jsonb);
grant all on made to public;
create function pg_temp.hid(p_name text default 'one') returns uuid language sql as $$ select (habit ->> 'id')::uuid from made where name = p_name $$;
create function pg_temp.put(p_body jsonb, p_name text default 'one') returns jsonb language sql as $$
  select api.update_habit(jsonb_build_object('habitId', pg_temp.hid(p_name), 'body', p_body)) $$;

-- --------------------------------------------------------------------------------------------------------------------- refusals
select tests.act_as('anna');
select throws_ok(format('select pg_temp.create(%L)', v.body), v.state, v.message, format('%s is refused', left(v.body, 60)))
from (values
  ('{"skillId": null}', 'PT400', 'skillId is required.'),
  ('{"skillId": "x"}', 'PT404', 'Skill with ID x not found'),
  ('{"skillId": "00000000-0000-4000-8000-000000000009"}', 'PT404', 'Skill with ID 00000000-0000-4000-8000-000000000009 not found'),
  ('{"scheduleCron": null}', 'PT400', 'scheduleCron is required.'),
  ('{"scheduleCron": ""}', 'PT400', 'Cron expression must have exactly 5 parts (minute hour day month weekday)'),
  ('{"scheduleCron": "0 24 * * *"}', 'PT400', 'Invalid hour value (0-23)'),
  ('{"scheduleCron": "0 0 31 2 *"}', 'PT400', 'Cron expression never runs'),
  ('{"timezone": ""}', 'PT400', '"" is not a time zone'), ('{"timezone": "CEST"}', 'PT400', '"CEST" is not a time zone'),
  ('{"config": [1]}', 'PT400', 'Config must be an object'), ('{"config": 1}', 'PT400', 'Config must be an object'),
  (format('{"config": {"a": "%s"}}', repeat('x', 65530)), 'PT400', 'Config must be 64 KiB or less'),
  ('{"config": {"a": 1e100000}}', 'PT400', 'Config must be 64 KiB or less'),
  (format('{"scheduleDescription": "%s"}', repeat('x', 256)), 'PT400', 'Schedule description must be 255 characters or less')) v (body, state, message);
-- The refusal names its field for programs.
create function pg_temp.detail(p_sql text) returns jsonb language plpgsql as $$
declare v text;
begin
  execute p_sql;
  return null;
exception when others then
  get stacked diagnostics v = pg_exception_detail;
  return v::jsonb;
end $$;
select is(pg_temp.detail(format('select pg_temp.create(%L)', v.body)), v.detail::jsonb, v.detail)
from (values ('{"scheduleCron": "x"}', '{"code": "INVALID_CRON", "field": "scheduleCron"}'),
  ('{"timezone": "x"}', '{"code": "INVALID_TIMEZONE", "field": "timezone"}'), ('{"skillId": "x"}', '{"code": "SKILL_NOT_FOUND", "field": "skillId"}'),
  ('{"config": []}', '{"code": "VALIDATION_ERROR", "field": "config"}')) v (body, detail);
select is((select count(*) from public.habits), 0::bigint, 'nothing was written');

-- -------------------------------------------------------------------------------------------------------------- what is stored
insert into made values ('one', pg_temp.create('{"scheduleCron": "  0   9 * *  1-5 ", "id": "x", "runCount": 7, "nextRunAt": "x", "unknown": [1]}'));
select is(h.habit, jsonb_build_object('id', pg_temp.hid(), 'skillId', pg_temp.sid(1), 'userId', tests.user('anna'), 'scheduleCron', '0 9 * * 1-5',
    'timezone', 'UTC', 'nextRunAt', private.iso(private.cron_next('0 9 * * 1-5', 'UTC', now())), 'runCount', 0, 'isActive', true, 'config', '{}'::jsonb,
    'consecutiveFailures', 0, 'createdAt', private.iso(now()), 'updatedAt', private.iso(now())), 'a new habit, with its defaults')
from made h;
select is((select organization_id from public.habits), tests.org('anna'), 'the organization that pays is remembered');
insert into made values ('all', pg_temp.create('{"scheduleDescription": "Now and then", "timezone": "US/Eastern", "config": {"topic": null, "n": [1, "ü"]}, "isActive": false}'));
select is(pg_temp.hid('all') is not null and not habit ? 'nextRunAt', true, 'an inactive one has no next run') from made where name = 'all';
select is(habit - '{id,createdAt,updatedAt,skillId,userId}'::text[], '{"scheduleCron": "0 9 * * *", "scheduleDescription": "Now and then", "timezone": "US/Eastern",
  "config": {"topic": null, "n": [1, "ü"]}, "isActive": false, "runCount": 0, "consecutiveFailures": 0}'::jsonb, 'everything given is kept') from made where name = 'all';
select is(pg_temp.create('{"timezone": null, "config": null, "scheduleDescription": ""}') - '{id,createdAt,updatedAt,skillId,userId,nextRunAt}'::text[],
  '{"scheduleCron": "0 9 * * *", "timezone": "UTC", "config": {}, "isActive": true, "runCount": 0, "consecutiveFailures": 0}'::jsonb, 'null is the default');
select lives_ok(format('select pg_temp.create(%L)', format('{"config": {"a": "%s"}}', repeat('x', 65520))), 'a large config');

-- --------------------------------------------------------------------------------------------------------------------- changes
select is(pg_temp.put('{}'), (select habit from made where name = 'one'), 'nothing changes nothing');
select is(pg_temp.put(pg_temp.put('{}') || '{"skillId": "x", "userId": "x", "runCount": 9, "scheduleCron": " 0  9 * * 1-5"}'), (select habit from made where name = 'one'),
  'whole objects may come back');
select is(pg_temp.put('{"scheduleCron": "*/30 * * * *"}') ->> 'scheduleDescription', 'Every 30 minutes', 'a new schedule gets a description');
select is(pg_temp.put('{"scheduleCron": "0 9 * * *", "scheduleDescription": "Mine"}') ->> 'scheduleDescription', 'Mine', 'unless one is given');
select is(pg_temp.put('{"scheduleCron": "0 8 * * *", "scheduleDescription": null}') -> 'scheduleDescription', null, 'or taken away');
select is(pg_temp.put('{"scheduleDescription": "Mine"}') ->> 'scheduleDescription', 'Mine', 'alone');
select is(pg_temp.put('{"scheduleCron": "0 8 * * *"}') ->> 'scheduleDescription', 'Mine', 'the same schedule is no new one');
select is(pg_temp.put('{"timezone": "Asia/Kathmandu"}') ->> 'nextRunAt', private.iso(private.cron_next('0 8 * * *', 'Asia/Kathmandu', now())), 'another zone, another next run');
select is(pg_temp.put('{"timezone": null}') ->> 'timezone', 'UTC', 'null is the default zone');
select is(pg_temp.put('{"config": {"a": 1}}') -> 'config', '{"a": 1}'::jsonb, 'config is replaced');
select is(pg_temp.put('{"config": null}') -> 'config', '{}'::jsonb, 'or emptied');
select is(pg_temp.put('{"isActive": false}') -> 'nextRunAt', null, 'switched off, nothing is planned');
select is(pg_temp.put('{"scheduleCron": "0 7 * * *"}') -> 'nextRunAt', null, 'whatever the schedule');
select throws_ok($$ select pg_temp.put('{"isActive": null}') $$, 'PT400', 'isActive must be true or false', 'null is no switch');
select throws_ok($$ select pg_temp.put('{"scheduleCron": null}') $$, 'PT400', 'scheduleCron is required.', 'a schedule stays');
select throws_ok($$ select pg_temp.put('{"scheduleCron": "x"}') $$, 'PT400', 'Cron expression must have exactly 5 parts (minute hour day month weekday)', 'a valid one');
select throws_ok($$ select pg_temp.put(jsonb_build_object('scheduleCron', repeat(' ', 20000) || '0 9 * * *')) $$, 'PT400', null, 'of a sensible length');
select throws_ok($$ select pg_temp.put('{"timezone": "x"}') $$, 'PT400', '"x" is not a time zone', 'a zone too');
select throws_ok($$ select api.get_habit('{"habitId": "x"}') $$, 'PT404', 'Habit with ID x not found', 'what is no id is nothing');
select throws_ok($$ select api.get_habit('{}') $$, 'PT404', 'Habit with ID  not found', 'nor is none');

-- --------------------------------------------------------------------------------------------------------------------- switches
select tests.reset();
update public.habits set consecutive_failures = 2, last_error_message = 'broke' where id = pg_temp.hid();
select tests.act_as('anna');
select is(pg_temp.put('{"scheduleDescription": "x"}') -> 'consecutiveFailures', '2'::jsonb, 'a change forgets no failures');
select is(v.h - '{id,createdAt,updatedAt,skillId,userId,config,scheduleCron,timezone}'::text[], jsonb_build_object('scheduleDescription', 'x', 'isActive', true,
  'nextRunAt', private.iso(private.cron_next('0 7 * * *', 'UTC', now())), 'consecutiveFailures', 0, 'runCount', 0), 'switching on forgets them')
from (select pg_temp.put('{"isActive": true}') h) v;
select tests.reset();
update public.habits set consecutive_failures = 2, last_error_message = 'broke', next_run_at = now() - interval '1 hour' where id = pg_temp.hid();
select is((select next_run_at from public.habits where id = pg_temp.hid()), now() - interval '1 hour', 'functions plan what they say');
select tests.act_as('anna');
select is(pg_temp.put('{"isActive": true}') -> 'consecutiveFailures', '2'::jsonb, 'switching on what is on does not');
create function pg_temp.by(p_operation text, p_name text default 'one') returns jsonb language plpgsql as $$
declare v jsonb;
begin
  execute format('select api.%I($1)', p_operation) into v using jsonb_build_object('habitId', pg_temp.hid(p_name));
  return v;
end $$;
select is(pg_temp.by('activate_habit') - '{id,createdAt,updatedAt,skillId,userId,config,scheduleCron,timezone}'::text[], jsonb_build_object('scheduleDescription', 'x',
  'isActive', true, 'nextRunAt', private.iso(private.cron_next('0 7 * * *', 'UTC', now())), 'consecutiveFailures', 0, 'runCount', 0), 'activating does, and plans from now');
select tests.reset();
update public.habits set consecutive_failures = 3, last_error_message = 'broke', is_active = false where id = pg_temp.hid();
select is((select next_run_at from public.habits where id = pg_temp.hid()), null, 'the worker switches off with one word');
select tests.act_as('anna');
select is(pg_temp.by('deactivate_habit') ->> 'lastErrorMessage', 'broke', 'switching off keeps the failures');
select is(pg_temp.by('reset_habit_errors') -> 'isActive', 'true'::jsonb, 'resetting errors switches on');
select is(pg_temp.by('deactivate_habit') - '{id,createdAt,updatedAt,skillId,userId,config,scheduleCron,timezone,scheduleDescription}'::text[],
  '{"isActive": false, "consecutiveFailures": 0, "runCount": 0}'::jsonb, 'deactivating unplans');
select is(pg_temp.by('get_habit'), pg_temp.by('get_habit_full') - 'skill', 'with its skill it is the same habit');
select is(pg_temp.by('get_habit_full') -> 'skill' ->> 'name', 'Own', 'and the skill is there');

-- ------------------------------------------------------------------------------------------------------------------- updated_at
select tests.reset();
alter table public.habits disable trigger _200_check;
update public.habits set updated_at = '2026-01-01Z';
alter table public.habits enable trigger _200_check;
create function pg_temp.touched() returns boolean language sql volatile as $$
  with was as (select updated_at <> '2026-01-01Z' as moved from public.habits where id = pg_temp.hid()) select moved from was $$;
update public.habits set run_count = 5, last_run_at = now(), next_run_at = null where id = pg_temp.hid();
select is(pg_temp.touched(), false, 'use does not touch a habit');
update public.habits set consecutive_failures = 1, last_error_message = 'broke' where id = pg_temp.hid();
select is(pg_temp.touched(), false, 'nor do failures');
select tests.act_as('anna');
select is((pg_temp.put('{"config": {"b": 1}}') ->> 'updatedAt')::timestamptz, date_trunc('milliseconds', now()), 'the owner does');

-- ----------------------------------------------------------------------------------------------------------------------- events
select tests.reset();
delete from private.event_inbox;
create function pg_temp.notified() returns text language plpgsql as $$
declare v text;
begin
  select string_agg(concat_ws(' ', data ->> 'operation', data ->> 'changedFields'), '; ' order by seq) into v from private.event_inbox
  where type = 'resource_changed' and room = 'user:' || tests.user('anna') and entity = 'habit' and data ->> 'resource' = 'habit' and data ? 'updatedAt';
  delete from private.event_inbox;
  return coalesce(v, '');
end $$;
select tests.act_as('anna');
insert into made values ('told', pg_temp.create());
select tests.reset();
select is(pg_temp.notified(), 'created', 'a new habit is told');
select tests.act_as('anna');
select pg_temp.put('{"timezone": "Europe/Paris", "scheduleCron": "0 6 * * *", "config": {"a": 1}, "isActive": false}', 'told');
select tests.reset();
select is(pg_temp.notified(), 'updated ["scheduleCron", "scheduleDescription", "timezone", "config", "isActive"]', 'changes by name');
update public.habits set run_count = run_count + 1, last_run_at = now() where id = pg_temp.hid('told');
select is(pg_temp.notified(), '', 'counters of use are not told');
update public.habits set consecutive_failures = 1, last_error_message = 'broke' where id = pg_temp.hid('told');
select is(pg_temp.notified(), 'updated ["consecutiveFailures", "lastErrorMessage"]', 'failures are');
select tests.act_as('anna');
select pg_temp.by('activate_habit', 'told');
select tests.reset();
select is(pg_temp.notified(), 'updated ["isActive", "consecutiveFailures", "lastErrorMessage"]', 'and the switch, with what it resets');
select tests.act_as('anna');
select is(pg_temp.by('delete_habit', 'told'), '{"success": true}'::jsonb, 'deleted');
select throws_ok($$ select pg_temp.by('delete_habit', 'told') $$, 'PT404', null, 'once');
select tests.reset();
select is(pg_temp.notified(), 'deleted', 'which is told too');

-- ------------------------------------------------------------------------------------------------------------- cron by the API
select tests.act_as('anna');
select is(api.validate_cron(jsonb_build_object('body', v.body::jsonb)), v.answer::jsonb, v.body)
from (values
  ('{"cron": "30 2 * * *", "timezone": "Europe/Amsterdam", "after": "2026-03-28T12:00:00Z"}', '{"isValid": true, "description": "At 2:30 AM",
    "nextRuns": ["2026-03-29T01:00:00.000Z", "2026-03-30T00:30:00.000Z", "2026-03-31T00:30:00.000Z", "2026-04-01T00:30:00.000Z", "2026-04-02T00:30:00.000Z"]}'),
  ('{"expression": "0 9 1 1 *", "after": "2026-06-01"}', '{"isValid": true, "description": "At 9:00 AM on the 1st in January",
    "nextRuns": ["2027-01-01T09:00:00.000Z", "2028-01-01T09:00:00.000Z", "2029-01-01T09:00:00.000Z", "2030-01-01T09:00:00.000Z", "2031-01-01T09:00:00.000Z"]}'),
  ('{"cron": "0 0 29 2 *", "after": "2080-01-01T00:00:00+02:00", "timezone": null}', '{"isValid": true, "description": "At 12:00 AM on the 29th in February",
    "nextRuns": ["2080-02-29T00:00:00.000Z", "2084-02-29T00:00:00.000Z", "2088-02-29T00:00:00.000Z", "2092-02-29T00:00:00.000Z", "2096-02-29T00:00:00.000Z"]}'),
  ('{}', '{"isValid": false, "error": "Cron expression must have exactly 5 parts (minute hour day month weekday)"}'),
  ('{"cron": null}', '{"isValid": false, "error": "Cron expression must have exactly 5 parts (minute hour day month weekday)"}'),
  ('{"cron": 5}', '{"isValid": false, "error": "Cron expression must have exactly 5 parts (minute hour day month weekday)"}'),
  ('{"cron": ["* * * * *"]}', '{"isValid": false, "error": "Cron expression must have exactly 5 parts (minute hour day month weekday)"}'),
  ('{"cron": "0 9 * * 7"}', '{"isValid": false, "error": "Invalid day of week value (0-6)"}'),
  ('{"cron": "0 0 30 2 *"}', '{"isValid": false, "error": "Cron expression never runs"}')) v (body, answer);
select throws_ok(format('select api.validate_cron(%L)', jsonb_build_object('body', v.body::jsonb)), 'PT400', v.message, v.body)
from (values ('{"cron": "* * * * *", "timezone": "Mars/Olympus"}', '"Mars/Olympus" is not a time zone'), ('{"timezone": ""}', '"" is not a time zone'),
  ('{"cron": "* * * * *", "after": "yesterday"}', null), ('{"after": "2026-02-30T00:00:00Z"}', null), ('{"after": "2026-01-01T00:00:00"}', null),
  ('{"after": "2026-01-01T25:00:00Z"}', null), ('{"after": "0000-01-01T00:00:00Z"}', null), ('{"after": "9999-12-31T23:59:59Z"}', null),
  ('{"after": "infinity"}', null), ('{"after": "2026-01-01T00:00:00+99:99"}', null), ('{"after": 5}', null), ('{"after": ""}', null)) v (body, message);

-- -------------------------------------------------------------------------------------------------------------- list and numbers
select throws_ok(format('select api.list_habits(%L)', v.p), 'PT400', null, v.p) from (values ('{"page": 0}'), ('{"pageSize": 0}'), ('{"page": -1}')) v (p);
select throws_ok(format('select api.list_habit_executions(%L)', jsonb_build_object('habitId', pg_temp.hid()) || v.p::jsonb), 'PT400', null, v.p)
from (values ('{"limit": 0}'), ('{"offset": -1}')) v (p);
select is(api.list_habits('{"pageSize": 1000, "page": 9000000000000000000}') - 'page', '{"habits": [], "total": 4, "pageSize": 100, "hasMore": false}'::jsonb, 'beyond every page there is nothing');
select is(api.list_habits('{"skillId": "x"}') -> 'total', '0'::jsonb, 'what is no id is the id of no skill');
select is(api.list_habits(jsonb_build_object('skillId', pg_temp.sid(1), 'isActive', false)) -> 'total', '2'::jsonb, 'filters combine');
select is(api.list_habit_executions(jsonb_build_object('habitId', pg_temp.hid())), '{"executions": [], "total": 0}'::jsonb, 'no runs yet');

-- ----------------------------------------------------------------------------------------------------------------------- bounds
insert into public.habits (user_id, organization_id, skill_id, schedule_cron)
select private.user_id(), private.org_id(), pg_temp.sid(1), '0 9 * * *' from generate_series(1, 996);
select throws_ok($$ select pg_temp.create() $$, 'PT409', 'You have 1000 habits. Delete one first.', 'nobody has more than a thousand');

-- -------------------------------------------------------------------------------------------------------------- people who leave
select tests.reset();
select tests.member('mia', 'anna');
insert into public.skills (id, user_id, organization_id, name, prompt_template) values (pg_temp.sid(6), tests.user('mia'), tests.org('anna'), 'Of Mia', 'Twenty characters of {{text}}');
insert into public.habits (user_id, organization_id, skill_id, schedule_cron)
select tests.user('mia'), m.organization_id, pg_temp.sid(6), '0 9 * * *' from public.memberships m where m.user_id = tests.user('mia');
update public.memberships set status = 'inactive' where user_id = tests.user('mia') and organization_id = tests.org('anna');
select is((select count(*) from public.habits where user_id = tests.user('mia') and is_active), 2::bigint, 'a deactivated member''s habits stay switched on');
delete from public.memberships where user_id = tests.user('mia') and organization_id = tests.org('anna');
select results_eq($$ select organization_id = tests.org('anna'), is_active from public.habits where user_id = tests.user('mia') order by 1 $$,
  $$ values (false, true), (true, false) $$, 'a removed one''s of that organization do not');

select * from finish();
rollback;
