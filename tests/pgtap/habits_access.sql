-- Which actors see and write habits, and whose skill a habit may run.
begin;
select no_plan();

-- Anna owns skills and a habit; Mia is a member of Anna's organization, Vic a viewer there; Stan is a stranger.
select tests.user('anna'), tests.member('mia', 'anna'), tests.member('vic', 'anna', 'viewer'), tests.user('stan');
create function pg_temp.sid(p_name text) returns uuid language sql as $$
  select ('00000000-0000-4000-8000-0000000000' || case p_name when 'own' then '01' when 'public' then '02' when 'paused' then '03' when 'habit' then '10'
    else '11' end)::uuid $$;
insert into public.skills (id, user_id, organization_id, name, prompt_template, is_public, is_active) values
  (pg_temp.sid('own'), tests.user('anna'), tests.org('anna'), 'Own', 'Twenty characters of {{text}}', false, false),
  (pg_temp.sid('public'), tests.user('anna'), tests.org('anna'), 'Public', 'Twenty characters of {{text}}', true, true),
  (pg_temp.sid('paused'), tests.user('anna'), tests.org('anna'), 'Paused', 'Twenty characters of {{text}}', true, false);
insert into public.habits (id, user_id, organization_id, skill_id, schedule_cron)
values (pg_temp.sid('habit'), tests.user('anna'), tests.org('anna'), pg_temp.sid('own'), '0 9 * * *');

create function pg_temp.inserts(p_skill text, p_user text, p_org text) returns text language sql as $$
  select format('insert into public.habits (user_id, organization_id, skill_id, schedule_cron) values (%L, %L, %L, ''0 9 * * *'')',
    tests.user(p_user), tests.org(p_org), pg_temp.sid(p_skill)) $$;

-- ------------------------------------------------------------------------------------------------------------------- the owner
select tests.act_as('anna');
select is((select count(*) from public.habits), 1::bigint, 'the owner sees hers');
select isnt_empty($$ update public.habits set timezone = 'Europe/Amsterdam' where id = pg_temp.sid('habit') returning 1 $$, 'and changes it');
select lives_ok(pg_temp.inserts('own', 'anna', 'anna'), 'her own skill, though it is inactive');
select lives_ok(pg_temp.inserts('paused', 'anna', 'anna'), 'and a public, inactive one that is hers');
select throws_ok(format('update public.habits set %s where id = %L', v.change, pg_temp.sid('habit')), '42501', null, v.change || ' is not hers to write')
from (values ('run_count = 0'), ('last_run_at = now()'), ('next_run_at = now()'), ('consecutive_failures = 0'), ('last_error_message = null'),
  ('skill_id = skill_id'), ('user_id = user_id'), ('organization_id = organization_id'), ('created_at = now()'), ('updated_at = now()')) v (change);
select throws_ok($$ insert into public.habits (user_id, organization_id, skill_id, schedule_cron, run_count)
  values (private.user_id(), private.org_id(), pg_temp.sid('own'), '0 9 * * *', 7) $$, '42501', null, 'nor at birth');
select throws_ok(pg_temp.inserts('own', 'anna', 'stan'), '42501', null, 'no habit at the cost of an organization that she does not act in');
select throws_ok(pg_temp.inserts('public', 'stan', 'anna'), '42501', null, 'none for somebody else');
select throws_ok(pg_temp.inserts('nothing', 'anna', 'anna'), 'PT404', format('Skill with ID %s not found', pg_temp.sid('nothing')), 'none on nothing');
select tests.act_as_claims('anna');
select is((select count(*) from public.habits), 3::bigint, 'through claims alone she sees hers');
select isnt_empty($$ update public.habits set is_active = false where id = pg_temp.sid('habit') returning 1 $$, 'changes them');
select isnt_empty($$ update public.habits set is_active = true where id = pg_temp.sid('habit') returning 1 $$, 'back');
select isnt_empty($$ delete from public.habits where skill_id = pg_temp.sid('paused') returning 1 $$, 'and deletes them');

-- ------------------------------------------------------------------ colleagues of any role, and strangers, in both ways to call
create function pg_temp.other(p_who text, p_org text) returns setof text language plpgsql as $$
declare
  v_missing text := format('Skill with ID %s not found', pg_temp.sid('own'));
  v_id uuid := pg_temp.sid('habit');
  f text;
begin
  return next is((select count(*) from public.habits), 0::bigint, p_who || ' sees none');
  return next is_empty('update public.habits set is_active = false returning 1', p_who || ' changes none');
  return next is_empty('delete from public.habits returning 1', p_who || ' deletes none');
  return next throws_ok(pg_temp.inserts('own', p_who, p_org), 'PT404', v_missing, p_who || ' schedules no hidden skill');
  return next throws_ok(pg_temp.inserts('paused', p_who, p_org), 'PT404', replace(v_missing, '01 not', '03 not'), p_who || ' schedules no inactive one of others');
  return next throws_ok(pg_temp.inserts('public', 'anna', 'anna'), '42501', null, p_who || ' makes none for anna');
  return next lives_ok(pg_temp.inserts('public', p_who, p_org), p_who || ' schedules a public one');
  return next is((select count(*) from public.habits), 1::bigint, p_who || ' sees it');
  return next isnt_empty('delete from public.habits returning 1', p_who || ' deletes it');
  foreach f in array array['api.get_habit', 'api.get_habit_full', 'api.update_habit', 'api.delete_habit', 'api.activate_habit', 'api.deactivate_habit',
      'api.run_habit', 'api.reset_habit_errors', 'api.list_habit_executions'] loop
    return next throws_ok(format('select %s(jsonb_build_object(''habitId'', %L, ''body'', ''{}''::jsonb))', f, v_id), 'PT404',
      format('Habit with ID %s not found', v_id), p_who || ' finds nothing by ' || f);
  end loop;
  return next throws_ok(format('select private.revive_habit(%L)', v_id), 'PT404', null, p_who || ' revives nothing');
  return next throws_ok(format('select private.run_habit(%L)', v_id), 'PT404', null, p_who || ' runs nothing');
  return next throws_ok(format('select private.lock_habit(''{"habitId": "%s"}'')', v_id), 'PT404', null, p_who || ' locks nothing');
  return next throws_ok(format('select private.dispatch_habits()'), '42501', null, p_who || ' dispatches nothing');
end $$;
select tests.act_as('mia');
select pg_temp.other('mia', 'anna');
select tests.act_as('vic');
select pg_temp.other('vic', 'anna');
select tests.act_as('stan');
select pg_temp.other('stan', 'stan');
select tests.act_as_claims('stan');
select pg_temp.other('stan', 'stan');

-- ------------------------------------------------------------------------------------------ anonymous callers, and the service
select tests.act_anon();
select throws_ok('select count(*) from public.habits', '42501', null, 'nobody sees nothing');
select throws_ok($$ select api.list_habits('{}') $$, '42501', null, 'and may ask nothing');
select tests.act_service();
select throws_ok('select count(*) from public.habits', '42501', null, 'the service has no business here');

-- ----------------------------------------------------------------------- every writer: the owner of the tables, and constant columns
select tests.reset();
select throws_ok(pg_temp.inserts('own', 'stan', 'stan'), 'PT404', format('Skill with ID %s not found', pg_temp.sid('own')), 'not even the database''s owner points across tenants');
select throws_ok(format('update public.habits set %s where id = %L', v.change, pg_temp.sid('habit')), 'PT400', 'A habit keeps its skill and its owner.', v.change)
from (values ('skill_id = pg_temp.sid(''public'')'), ('user_id = tests.user(''stan'')'), ('organization_id = tests.org(''stan'')'),
  ('id = gen_random_uuid()'), ('created_at = ''2020-01-01''')) v (change);
select throws_ok(format('update public.habits set %s where id = %L', v.change, pg_temp.sid('habit')), '23514',
  format('new row for relation "habits" violates check constraint "%s"', v.rule), v.rule)
from (values ('run_count = -1', 'habits_counters_check'), ('consecutive_failures = -1', 'habits_counters_check'),
  ('last_error_message = repeat(''x'', 501)', 'habits_last_error_message_check')) v (change, rule);

-- The deletion of the person deletes the habits; that of the organization too.
delete from public.memberships where user_id = tests.user('mia') and organization_id = tests.org('anna');
select lives_ok(format('delete from public.organizations where id = %L', tests.org('stan')), 'an organization goes with its habits');
select is_empty($$ select 1 from public.habits where user_id = tests.user('stan') $$, 'and leaves none');

select * from finish();
rollback;
