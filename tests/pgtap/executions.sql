-- Runs of skills: how they begin, the state machine, counters, streaks of failures and events, and which actors see them.
begin;
select no_plan();

-- A skill of anna's, with a habit and a reflex on it.
create temp table ids (name text primary key, id uuid);
grant select on ids to public;
with s as (
  insert into public.skills (user_id, organization_id, name, prompt_template)
  values (tests.user('anna'), tests.org('anna'), 'Writer', 'Write twenty characters about {{topic}}') returning id
), h as (
  insert into public.habits (user_id, organization_id, skill_id, schedule_cron, next_run_at)
  select tests.user('anna'), tests.org('anna'), id, '0 9 * * *', now() + interval '1 day' from s returning id
), r as (
  insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config)
  select tests.user('anna'), tests.org('anna'), id, 'event', '{"eventName": "push"}' from s returning id
)
insert into ids select 'skill', id from s union all select 'habit', id from h union all select 'reflex', id from r;

create function pg_temp.id(p_name text) returns uuid language sql stable as $$ select id from ids where name = p_name $$;
create function pg_temp.start(p_type text default 'manual', p_reference text default null, p_on_quota text default 'refuse') returns uuid
language sql volatile as $$
  select (private.start_execution(pg_temp.id('skill'), tests.user('anna'), tests.org('anna'), p_type, pg_temp.id(p_reference), '{"topic": null}', p_on_quota)).id
$$;
create function pg_temp.events(p_id uuid) returns text
language sql volatile as $$
  select string_agg(data ->> 'status', ' ' order by seq) from private.event_inbox where type = 'execution_update' and entity_id = p_id
$$;

-- ------------------------------------------------------------------------------------------------------------------- beginning
insert into ids values ('run', pg_temp.start());
select results_eq($$ select status, executed_at between now() and clock_timestamp(), input from public.skill_executions where id = pg_temp.id('run') $$,
  $$ values ('pending', true, '{"topic": null}'::jsonb) $$, 'a run begins pending, with its input as given');
select is((select convert_from(j.args, 'UTF8')::jsonb from jobs.gue_jobs j join public.skill_executions e on e.job_id = j.job_id where e.id = pg_temp.id('run')
    and j.queue = 'executions' and j.job_type = 'executions.run'),
  jsonb_build_object('executionId', pg_temp.id('run')), 'its job waits');
select is(private.units_used(tests.org('anna'), 'api_calls', private.usage_period('api_calls', now())), 1::bigint, 'it is paid for');
select is(private.execution_json(e), jsonb_build_object('id', e.id, 'skillId', e.skill_id, 'userId', e.user_id, 'executionType', 'manual',
    'input', '{"topic": null}'::jsonb, 'status', 'pending', 'executedAt', private.iso(e.executed_at)), 'as the contract shows it')
  from public.skill_executions e where e.id = pg_temp.id('run');
select results_eq($$ select room, audience, organization_id, data from private.event_inbox where entity_id = pg_temp.id('run') $$,
  $$ select 'user:' || tests.user('anna'), 'room', null::uuid, jsonb_build_object('executionId', e.id, 'skillId', e.skill_id, 'skillName', 'Writer',
      'executionType', 'manual', 'status', 'pending', 'executedAt', private.iso(e.executed_at))
    from public.skill_executions e where e.id = pg_temp.id('run') $$, 'the owner is told, without input');

-- ----------------------------------------------------------------------------------------------------------------- transitions
create function pg_temp.step(p_from text, p_to text) returns text
language plpgsql volatile as $$
declare
  v_id uuid := pg_temp.start();
begin
  if p_from <> 'pending' then
    update public.skill_executions set status = 'running' where id = v_id;
  end if;
  if p_from <> 'running' then
    update public.skill_executions set status = p_from where id = v_id;
  end if;
  update public.skill_executions set status = p_to where id = v_id;
  return p_to;
exception when check_violation then
  return 'refused';
end
$$;
select is((select string_agg(f || '>' || t, ' ' order by f, t) from unnest(array['pending', 'running', 'completed', 'failed', 'cancelled']) f,
    unnest(array['pending', 'running', 'completed', 'failed', 'cancelled']) t where f <> t and pg_temp.step(f, t) <> 'refused'),
  'pending>cancelled pending>failed pending>running running>cancelled running>completed running>failed', 'these steps and no others');

update public.skill_executions set status = 'running', lease_token = gen_random_uuid(), lease_expires_at = now() where id = pg_temp.id('run');
select results_eq($$ select started_at is not null, completed_at is null, job_id is null from public.skill_executions where id = pg_temp.id('run') $$,
  $$ values (true, true, true) $$, 'running is stamped');
update public.skill_executions set status = 'completed', output = '', prompt_tokens = 3, completion_tokens = 4, cost_cents = 0 where id = pg_temp.id('run');
select results_eq($$ select completed_at >= started_at, duration_ms >= 0, lease_token is null and lease_expires_at is null
    from public.skill_executions where id = pg_temp.id('run') $$, $$ values (true, true, true) $$, 'and so is the end');
select is(private.execution_json(e) - 'id' - 'skillId' - 'userId' - 'executedAt' - 'completedAt' - 'durationMs', '{"executionType": "manual", "status": "completed", "output": "", "input": {"topic": null},
    "promptTokens": 3, "completionTokens": 4, "tokensUsed": 7, "costCents": 0}', 'an empty output is one')
  from public.skill_executions e where e.id = pg_temp.id('run');
select is(pg_temp.events(pg_temp.id('run')), 'pending running completed', 'each step is told once');
select throws_ok($$ update public.skill_executions set cost_cents = 1 where id = pg_temp.id('run') $$, '23514', null, 'numbers of an ended run stay');
select throws_ok($$ update public.skill_executions set output = 'better' where id = pg_temp.id('run') $$, '23514', null, 'and so does its output');
select throws_ok($$ update public.skill_executions set user_id = tests.user('boris') where id = pg_temp.id('run') $$, '23514', null, 'nobody else gets it');
select lives_ok($$ update public.skill_executions set input = null, output = null where id = pg_temp.id('run') $$, 'texts may be emptied');
select is(private.execution_json(e) ?| array['input', 'output'], false, 'emptied texts are absent') from public.skill_executions e where e.id = pg_temp.id('run');

-- ---------------------------------------------------------------------------------------------------------- counters and streaks
select results_eq($$ select execution_count, last_executed_at from public.skills where id = pg_temp.id('skill') $$,
  $$ select count(*), max(completed_at) from public.skill_executions where skill_id = pg_temp.id('skill') and status = 'completed' $$, 'completed runs count for the skill');

update public.skills set is_public = true, updated_at = now() - interval '1 day' where id = pg_temp.id('skill');
insert into ids select 'of boris', (private.start_execution(pg_temp.id('skill'), tests.user('boris'), tests.org('boris'), 'manual', null, '{}')).id;
update public.skill_executions set status = 'running' where id = pg_temp.id('of boris');
update public.skill_executions set status = 'completed' where id = pg_temp.id('of boris');
select results_eq($$ select execution_count, updated_at = now() from public.skills where id = pg_temp.id('skill') $$,
  $$ select count(*), true from public.skill_executions where skill_id = pg_temp.id('skill') and status = 'completed' $$, 'so do those of others on a public skill, which moves up');
select is((select count(*) from private.event_inbox where type = 'execution_update' and entity_id = pg_temp.id('of boris') and room = 'user:' || tests.user('boris')), 3::bigint,
  'and who ran it is told, not who owns it');

-- Fails, completes or cancels a run of the habit or reflex, and gives the streak, the message and whether it is still on.
create function pg_temp.outcome(p_type text, p_status text, p_code text default null) returns text
language plpgsql volatile as $$
declare
  v_id uuid := pg_temp.start(p_type, p_type);
begin
  update public.skill_executions set status = 'running' where id = v_id;
  update public.skill_executions set status = p_status, error_code = p_code, error_message = case when p_status <> 'completed' then repeat('x', 600) end where id = v_id;
  return case p_type
    when 'habit' then (select concat_ws(' ', consecutive_failures, char_length(last_error_message), is_active, next_run_at is not null) from public.habits where id = pg_temp.id('habit'))
    else (select concat_ws(' ', consecutive_failures, char_length(last_error_message), is_active) from public.reflexes where id = pg_temp.id('reflex')) end;
end
$$;
select is(pg_temp.outcome('habit', 'failed', 'API_ERROR'), '1 500 t t', 'the first failure is counted, its message cut');
select is(pg_temp.outcome('habit', 'failed', 'QUOTA_EXCEEDED'), '1 500 t t', 'used-up quota is no failure');
select is(pg_temp.outcome('habit', 'failed', 'PROVIDER_NOT_CONFIGURED'), '1 500 t t', 'nor is a missing provider');
select is(pg_temp.outcome('habit', 'cancelled'), '1 500 t t', 'nor is a cancelled run');
select is(pg_temp.outcome('habit', 'completed'), '0 t t', 'a success ends the streak');
select is(pg_temp.outcome('habit', 'failed', 'API_ERROR'), '1 500 t t', 'one');
select is(pg_temp.outcome('habit', 'failed', 'TIMEOUT'), '2 500 t t', 'two');
select is(pg_temp.outcome('habit', 'failed', 'INVALID_INPUT'), '3 500 f f', 'at the third it is switched off and has no next run');
select is(pg_temp.outcome('habit', 'completed'), '0 f f', 'a success does not switch it on again');
select results_eq($$ select run_count, last_run_at from public.habits where id = pg_temp.id('habit') $$,
  $$ select count(*), max(executed_at) from public.skill_executions where reference_id = pg_temp.id('habit') $$, 'every run counts for the habit when it begins');
select is(pg_temp.outcome('reflex', 'failed', 'API_ERROR'), '1 500 t', 'reflexes alike');
select is(pg_temp.outcome('reflex', 'completed'), '0 t', 'a success ends the streak');
select is(pg_temp.outcome('reflex', 'failed', 'API_ERROR') || pg_temp.outcome('reflex', 'failed', 'API_ERROR') || pg_temp.outcome('reflex', 'failed', 'API_ERROR'),
  '1 500 t2 500 t3 500 f', 'three switch it off');
select results_eq($$ select trigger_count, last_triggered_at from public.reflexes where id = pg_temp.id('reflex') $$,
  $$ select count(*), max(executed_at) from public.skill_executions where reference_id = pg_temp.id('reflex') $$, 'every run counts for the reflex');
delete from public.skill_executions where reference_id is not null;
select is((select run_count from public.habits where id = pg_temp.id('habit')), 9::bigint, 'deleting runs lowers no counter');

-- ------------------------------------------------------------------------------------------------------------------------ quota
update public.subscriptions set overrides = jsonb_build_object('api_calls', private.units_used(tests.org('anna'), 'api_calls', private.usage_period('api_calls', now())))
where organization_id = tests.org('anna');
select throws_ok($$ select pg_temp.start() $$, 'PT429', 'Your plan allows ' || (select overrides ->> 'api_calls' from public.subscriptions where organization_id = tests.org('anna'))
  || ' API calls a month and they are used up.', 'over quota an interactive run is refused');
insert into ids values ('over', pg_temp.start('habit', 'habit', 'record'));
select results_eq($$ select status, error_code, error_message like 'Your plan allows%', completed_at is not null, duration_ms is null, job_id is null
    from public.skill_executions where id = pg_temp.id('over') $$, $$ values ('failed', 'QUOTA_EXCEEDED', true, true, true, true) $$, 'a scheduled one is recorded as failed');
select is(pg_temp.events(pg_temp.id('over')), 'failed', 'and told once');
select results_eq($$ select run_count, consecutive_failures from public.habits where id = pg_temp.id('habit') $$, $$ values (10::bigint, 0) $$, 'it counts as a run, not as a failure');
select set_config('app.api_key_id', gen_random_uuid()::text, true);
select lives_ok($$ select pg_temp.start('api') $$, 'a request that was counted by its API key is not counted again');
select is(private.is_key_request(), true, 'the key is known');
select set_config('app.api_key_id', '', true);
update public.subscriptions set overrides = '{}' where organization_id = tests.org('anna');

-- ----------------------------------------------------------------------------------------------------------------------- actors
insert into ids values ('open', pg_temp.start());
select tests.member('colleague', 'anna', 'admin');
select tests.act_as('anna');
select is((select count(*) from public.skill_executions where id = pg_temp.id('open')), 1::bigint, 'one sees one''s own runs');
select throws_ok($$ insert into public.skill_executions (user_id, organization_id, execution_type) values (tests.user('anna'), tests.org('anna'), 'manual') $$,
  '42501', null, 'and writes none');
select throws_ok($$ update public.skill_executions set status = 'completed' where id = pg_temp.id('open') $$, '42501', null, 'changes none');
select throws_ok($$ delete from public.skill_executions where id = pg_temp.id('open') $$, '42501', null, 'and deletes none, but through functions');
select throws_ok($$ select private.start_execution(pg_temp.id('skill'), tests.user('anna'), tests.org('anna'), 'manual', null, '{}') $$, '42501', null,
  'nobody starts a run but through an operation');
select throws_ok($$ select private.consume_call(tests.org('anna')) $$, '42501', null, 'or moves the counter');
select tests.act_as_claims('anna');
select is((select count(*) from public.skill_executions where id = pg_temp.id('open')), 1::bigint, 'through claims alone as well');
select tests.act_as('colleague');
select is((select count(*) from public.skill_executions), 0::bigint, 'an admin of the same organization sees none');
select tests.act_as('carla');
select is((select count(*) from public.skill_executions), 0::bigint, 'nor does a stranger');
select tests.act_anon();
select throws_ok($$ select from public.skill_executions $$, '42501', null, 'nor anybody anonymous');
select tests.act_service();
select throws_ok($$ select from public.skill_executions $$, '42501', null, 'nor the service');
select tests.reset();

select * from finish();
rollback;
