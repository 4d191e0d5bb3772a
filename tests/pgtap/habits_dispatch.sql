-- Scheduled dispatch: once, at the right local time, for the people for whom it may run, and never stopped by one bad habit.
begin;
select no_plan();

-- Anna is a member of Otto's organization, and works there; Anna's own organization exists besides.
select tests.member('anna', 'otto');
create function pg_temp.sid(p_n integer) returns uuid language sql as $$ select format('00000000-0000-4000-8000-%s', lpad(p_n::text, 12, '0'))::uuid $$;
insert into public.skills (id, user_id, organization_id, name, prompt_template, is_public) values
  (pg_temp.sid(1), tests.user('anna'), tests.org('anna'), 'Own', 'Twenty characters of {{text}}', false),
  (pg_temp.sid(2), tests.user('otto'), tests.org('otto'), 'Public', 'Twenty characters of {{text}}', true);

-- A habit of anna's that was due at p_due.
create function pg_temp.habit(p_n integer, p_due timestamptz default '2026-06-01T09:00Z', p_skill integer default 1, p_cron text default '0 9 * * *',
  p_zone text default 'UTC') returns uuid
language plpgsql as $$
begin
  insert into public.habits (id, user_id, organization_id, skill_id, schedule_cron, timezone, config)
  values (pg_temp.sid(p_n), tests.user('anna'), tests.org('anna'), pg_temp.sid(p_skill), p_cron, p_zone, jsonb_build_object('n', p_n));
  update public.habits set next_run_at = p_due where id = pg_temp.sid(p_n);
  return pg_temp.sid(p_n);
end $$;
create function pg_temp.state(p_n integer) returns text language sql volatile as $$
  select concat_ws(' ', to_char(next_run_at at time zone 'UTC', 'MM-DD HH24:MI'), run_count, is_active, last_error_message) from public.habits where id = pg_temp.sid(p_n) $$;
create function pg_temp.runs(p_n integer) returns bigint language sql volatile as $$
  select count(*) from public.skill_executions where reference_id = pg_temp.sid(p_n) $$;
create function pg_temp.finish(p_status text default 'completed', p_code text default null) returns void language sql volatile as $$
  update public.skill_executions set status = 'running' where status = 'pending';
  update public.skill_executions set status = p_status, error_code = p_code, error_message = p_code where status = 'running' $$;

create function pg_temp.dispatch(p_at timestamptz) returns integer language plpgsql as $$
declare
  v_all integer := 0;
  v_moved integer;
begin
  loop
    v_moved := private.dispatch_habits(p_at);
    exit when v_moved = 0;
    v_all := v_all + v_moved;
  end loop;
  return v_all;
end $$;

-- ------------------------------------------------------------------------------------------------------------------------- once
select pg_temp.habit(11);
select is(private.dispatch_habits('2026-06-01T08:59:59.999Z'), 0, 'nothing before its time');
select is(private.dispatch_habits('2026-06-01T09:00Z'), 1, 'on its time');
select is(pg_temp.state(11), '06-02 09:00 1 t', 'it is planned anew and counted');
select results_eq($$ select execution_type, reference_id, input, status, user_id, organization_id, skill_id from public.skill_executions $$,
  $$ select 'habit', pg_temp.sid(11), '{"n": 11}'::jsonb, 'pending', tests.user('anna'), tests.org('anna'), pg_temp.sid(1) $$, 'a run with its config as input');
select is((select last_run_at from public.habits where id = pg_temp.sid(11)), (select executed_at from public.skill_executions), 'and when it ran last');
select is(private.dispatch_habits('2026-06-01T09:00Z'), 0, 'once');
select is(private.dispatch_habits('2026-06-02T09:00:30Z'), 1, 'the next day it is due');
select is(pg_temp.runs(11), 1::bigint, 'but while a run is open the occurrence is skipped');
select is(pg_temp.state(11), '06-03 09:00 1 t', 'without a count');
update public.skill_executions set status = 'running';
select pg_temp.dispatch('2026-06-03T09:00Z');
select is(pg_temp.runs(11), 1::bigint, 'also while it is in work');
select pg_temp.finish();
select is(private.dispatch_habits('2026-06-10T12:00Z'), 1, 'after a week without a scheduler');
select is(pg_temp.runs(11), 2::bigint, 'one run makes up for all');
select is(pg_temp.state(11), '06-11 09:00 2 t', 'and the next one is planned from now');
select pg_temp.finish();

-- ---------------------------------------------------------------------------------------------------------- for whom it may run
update public.skills set is_active = false where id = pg_temp.sid(1);
select pg_temp.dispatch('2026-06-11T09:00Z');
select is(concat_ws(' / ', pg_temp.runs(11), pg_temp.state(11)), '2 / 06-12 09:00 2 t', 'an inactive skill does not run, its time passes');
update public.skills set is_active = true where id = pg_temp.sid(1);

select pg_temp.habit(12, p_skill => 2);
select pg_temp.dispatch('2026-06-11T10:00Z');
select is(pg_temp.runs(12), 1::bigint, 'a public skill of somebody else runs');
select pg_temp.finish();
update public.skills set is_public = false where id = pg_temp.sid(2);
select pg_temp.dispatch('2026-06-12T10:00Z');
select is(concat_ws(' / ', pg_temp.runs(12), pg_temp.state(12)), '1 / 06-13 09:00 1 t', 'not once it is hidden');
select is(pg_temp.runs(11), 3::bigint, 'others do');
select pg_temp.finish();
update public.skills set is_public = true, is_active = false where id = pg_temp.sid(2);
select pg_temp.dispatch('2026-06-13T10:00Z');
select is(pg_temp.runs(12), 1::bigint, 'nor while it is inactive');
select pg_temp.finish();

update public.memberships set status = 'inactive' where user_id = tests.user('anna') and organization_id = tests.org('anna');
select pg_temp.dispatch('2026-06-14T10:00Z');
select is(concat_ws(' / ', pg_temp.runs(11), pg_temp.state(11)), '4 / 06-15 09:00 4 t', 'a deactivated member is passed over');
update public.memberships set status = 'active' where user_id = tests.user('anna') and organization_id = tests.org('anna');
-- Deactivating the member ended the session.
update private.sessions set revoked_at = null, revoked_reason = null where user_id = tests.user('anna');
select pg_temp.dispatch('2026-06-15T10:00Z');
select is(pg_temp.runs(11), 5::bigint, 'and taken up again after reactivation');
select pg_temp.finish();
delete from public.habits where id = pg_temp.sid(12);

-- ------------------------------------------------------------------------------------------------------------------------ quota
update public.subscriptions set overrides = '{"api_calls": 0}' where organization_id = tests.org('anna');
select pg_temp.dispatch('2026-06-16T10:00Z');
select results_eq($$ select status, error_code from public.skill_executions where reference_id = pg_temp.sid(11) order by executed_at desc limit 1 $$,
  $$ values ('failed', 'QUOTA_EXCEEDED') $$, 'over quota a failed run is recorded');
select is(pg_temp.state(11), '06-17 09:00 6 t', 'it counts as a run, not as a failure, and the next one is planned');
update public.subscriptions set overrides = '{}' where organization_id = tests.org('anna');

-- --------------------------------------------------------------------------------------------------------- three failures in a row
select pg_temp.dispatch('2026-06-17T10:00Z');
select pg_temp.finish('failed', 'TIMEOUT');
select pg_temp.dispatch('2026-06-18T10:00Z');
select pg_temp.finish('failed', 'TIMEOUT');
select is(pg_temp.state(11), '06-19 09:00 8 t TIMEOUT', 'two failures leave it on');
select pg_temp.dispatch('2026-06-19T10:00Z');
select pg_temp.finish('failed', 'TIMEOUT');
select is(pg_temp.state(11), '9 f TIMEOUT', 'the third switches it off');
select is(private.dispatch_habits('2027-06-19T10:00Z'), 0, 'and nothing is due any more');

-- ---------------------------------------------------------------------------------------- nine o'clock is nine o'clock, all year
create function pg_temp.year(p_cron text, p_zone text, p_from timestamptz, p_days integer) returns setof timestamp
language plpgsql as $$
declare
  v_at timestamptz := p_from;
begin
  delete from public.habits where id = pg_temp.sid(13);
  perform pg_temp.habit(13, private.cron_next(p_cron, p_zone, p_from), 1, p_cron, p_zone);
  while v_at < p_from + make_interval(days => p_days) loop
    -- A scheduler that runs four times an hour, not quite on time.
    v_at := v_at + interval '15 minutes';
    if private.dispatch_habits(v_at + interval '2 seconds') > 0 then
      return next date_trunc('minute', v_at at time zone p_zone);
      update public.skill_executions set status = 'cancelled' where status = 'pending';
    end if;
  end loop;
end $$;
set local timezone = 'UTC';
select results_eq($$ select pg_temp.year('0 9 * * *', 'Europe/Amsterdam', '2026-03-25T12:00Z', 10) $$,
  $$ select d from generate_series(timestamp '2026-03-26 09:00', '2026-04-04 09:00', '1 day') d $$, '09:00 in Amsterdam, when summer begins');
select results_eq($$ select pg_temp.year('0 9 * * *', 'Europe/Amsterdam', '2026-10-20T12:00Z', 10) $$,
  $$ select d from generate_series(timestamp '2026-10-21 09:00', '2026-10-30 09:00', '1 day') d $$, 'and when it ends');
select results_eq($$ select pg_temp.year('30 2 * * *', 'Europe/Amsterdam', '2026-10-23T12:00Z', 4) $$,
  $$ select d from generate_series(timestamp '2026-10-24 02:30', '2026-10-27 02:30', '1 day') d $$, 'a repeated time once');
select results_eq($$ select pg_temp.year('30 2 * * *', 'Europe/Amsterdam', '2026-03-27T12:00Z', 3) $$,
  $$ values (timestamp '2026-03-28 02:30'), ('2026-03-29 03:00'), ('2026-03-30 02:30') $$, 'a skipped one after the gap');
delete from public.habits where id = pg_temp.sid(13);

-- ----------------------------------------------------------------------------------------------- one bad habit does not stop others
select pg_temp.habit(n, '2026-07-01T09:00Z') from generate_series(21, 24) n;
create function pg_temp.fail() returns trigger language plpgsql as $$
begin
  raise exception 'this one is bad';
end $$;
create trigger _200_fail before insert on public.skill_executions for each row when (new.input = '{"n": 21}') execute function pg_temp.fail();
create trigger _200_fail_too before update of next_run_at on public.habits for each row when (old.config = '{"n": 22}') execute function pg_temp.fail();
create function pg_temp.deadlock() returns trigger language plpgsql as $$
begin
  raise deadlock_detected;
end $$;
create trigger _200_deadlock before insert on public.skill_executions for each row when (new.input = '{"n": 23}') execute function pg_temp.deadlock();
set local client_min_messages = 'error';
select is(private.dispatch_habits('2026-07-01T09:00:10Z'), 2, 'of four that are due two move');
select is(pg_temp.runs(24), 1::bigint, 'the good one runs');
select is(pg_temp.state(21), '07-02 09:00 0 t', 'what cannot begin is put off to its next time');
select is(pg_temp.state(22), '07-01 09:00 0 t', 'what cannot be planned stays');
select is(pg_temp.state(23), '07-01 09:00 0 t', 'and so does what only met others');
drop trigger _200_deadlock on public.skill_executions;
select is(private.dispatch_habits('2026-07-01T09:00:12Z'), 1, 'which is taken again');
select is(pg_temp.runs(23), 1::bigint, 'and runs');
drop trigger _200_fail_too on public.habits;
delete from public.habits where id = any (array[pg_temp.sid(21), pg_temp.sid(22), pg_temp.sid(23), pg_temp.sid(24)]);

-- A zone that this Postgres no longer knows: there is no next run, so the habit is switched off and its message says so.
select pg_temp.habit(31, '2026-07-01T09:00Z', 1, '0 9 * * *', 'Europe/Kiev');
delete from private.zones where name = 'Europe/Kiev';
select pg_temp.dispatch('2026-07-01T09:00Z');
select is(pg_temp.state(31), '1 f Cron expression never runs', 'a habit without a next run is switched off');
select is(pg_temp.runs(31), 1::bigint, 'after the run that was due');
select tests.act_as('anna');
select is((api.activate_habit(jsonb_build_object('habitId', pg_temp.sid(31))) - '{id,skillId,userId,createdAt,updatedAt,config,scheduleCron,timezone,lastRunAt}'::text[]),
  '{"isActive": false, "runCount": 1, "consecutiveFailures": 0, "lastErrorMessage": "Cron expression never runs"}'::jsonb, 'and cannot be switched on');
select tests.reset();

-- ------------------------------------------------------------------------------------------------------------- through the schedule
select pg_temp.habit(n, now() - interval '1 hour', 1, '* * * * *') from generate_series(100, 249) n;
update private.schedules set run_at = now() + interval '1 day' where name <> 'habits.dispatch';
set local client_min_messages = 'warning';
update private.schedules set run_at = now() - interval '1 second' where name = 'habits.dispatch';
select is(private.run_due(1), 1, 'the schedule dispatches');
create function pg_temp.begun() returns bigint language sql volatile as $$
  select count(*) from public.skill_executions where reference_id = any (array(select pg_temp.sid(n) from generate_series(100, 249) n)) $$;
select is(pg_temp.begun(), 1::bigint, 'one run of an organization in a transaction');
do $$ begin while private.run_due(1) > 0 loop null; end loop; end $$;
select is(pg_temp.begun(), 150::bigint, 'and so on at once, until nothing is due');

-- --------------------------------------------------------------------------------------------------------------------- run now
select pg_temp.habit(41, '2030-01-01T09:00Z');
update public.habits set is_active = false where id = pg_temp.sid(41);
select tests.act_as('anna');
create function pg_temp.now(p_n integer) returns jsonb language sql as $$ select api.run_habit(jsonb_build_object('habitId', pg_temp.sid(p_n))) $$;
select throws_ok('select pg_temp.now(41)', 'PT503', null, 'without a provider nothing is started');
select tests.reset();
insert into private.installation (key, value) values ('providers', '{"local": true}') on conflict (key) do update set value = excluded.value;
select tests.act_as('anna');
select is(pg_temp.now(41) - 'executionId', '{"status": "queued", "message": "Habit \"0 9 * * *\" queued for immediate execution"}'::jsonb, 'an inactive habit runs now');
select is((select concat_ws(' ', run_count, next_run_at, last_run_at is not null) from public.habits where id = pg_temp.sid(41)), '1 t', 'which counts, and plans nothing');
select is((api.list_habit_executions(jsonb_build_object('habitId', pg_temp.sid(41))) -> 'total'), '1'::jsonb, 'and is in its history');
update public.habits set schedule_description = 'Every morning' where id = pg_temp.sid(41);
select is(pg_temp.now(41) ->> 'message', 'Habit "Every morning" queued for immediate execution', 'also while a run is open');
select tests.reset();
update public.skills set is_active = false where id = pg_temp.sid(1);
select tests.act_as('anna');
select throws_ok('select pg_temp.now(41)', 'PT409', 'Cannot run habit: associated skill is inactive', 'an inactive skill runs by no way');
select tests.reset();
update public.skills set is_active = true where id = pg_temp.sid(1);
create temp table own (id uuid);
grant select on own to public;
insert into own select organization_id from public.memberships where user_id = tests.user('anna') and role = 'owner';
update private.sessions set organization_id = (select id from own) where user_id = tests.user('anna');
update tests.people set org_id = (select id from own) where name = 'anna';
select tests.act_as('anna');
select is(pg_temp.now(41) ->> 'status', 'queued', 'also from another organization');
select is((select count(*) from public.skill_executions where reference_id = pg_temp.sid(41) and organization_id = (select id from own)), 0::bigint,
  'the habit''s own pays');
select tests.reset();
update public.memberships set status = 'inactive' where user_id = tests.user('anna') and organization_id <> (select id from own);
update private.sessions set revoked_at = null, revoked_reason = null where user_id = tests.user('anna');
select tests.act_as('anna');
select throws_ok('select pg_temp.now(41)', 'PT403', 'You are not an active member of the organization in which this habit was made.', 'and one must be a member there');

select * from finish();
rollback;
