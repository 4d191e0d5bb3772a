-- The engine: taking, leasing, renewing, finishing, handing back, sweeping, retention. Calling the model is the worker's part.
begin;
select no_plan();
create temp table ids (name text primary key, id uuid, token uuid);
grant select on ids to public;
insert into private.installation (key, value) values ('providers', '{"local": true}') on conflict (key) do update set value = excluded.value;

create function pg_temp.skill(p_name text, p_prompt text default 'Write twenty characters about {{topic}}', p_model text default 'claude-3-5-sonnet-20241022', p_schema jsonb default null)
returns void language sql volatile as $$
  with s as (
    insert into public.skills (user_id, organization_id, name, prompt_template, model, input_schema, parameters)
    values (tests.user('anna'), tests.org('anna'), p_name, p_prompt, p_model, p_schema, '{"max_tokens": 100}') returning id
  ) insert into ids select p_name, id from s
$$;
create function pg_temp.id(p_name text) returns uuid language sql stable as $$ select id from ids where name = p_name $$;
create function pg_temp.token(p_name text) returns uuid language sql stable as $$ select lease_token from public.skill_executions where id = (select id from ids where name = p_name) $$;
create function pg_temp.start(p_name text, p_skill text default 'skill', p_input jsonb default '{"topic": "trees"}', p_user text default 'anna', p_stream boolean default false,
  p_type text default 'manual') returns void
language sql volatile as $$
  insert into ids select p_name, (private.start_execution(pg_temp.id(p_skill), tests.user(p_user), tests.org(p_user), p_type,
    case when p_type = 'reflex' then gen_random_uuid() end, p_input, 'refuse', p_stream)).id
$$;
create function pg_temp.state(p_name text) returns text language sql stable as $$
  select concat_ws(' ', status, error_code, error_message) from public.skill_executions where id = pg_temp.id(p_name)
$$;
-- The names of the taken runs, with the outcome of each.
create function pg_temp.take(p_limit integer default 10, p_seconds integer default 15) returns text language sql volatile as $$
  select string_agg(concat_ws(':', i.name, t.outcome), ' ' order by t.n)
  from private.take_executions(p_limit, p_seconds) with ordinality t (id, outcome, c, d, e, f, g, h, i, j, k, l, m, n) left join ids i on i.id = t.id
$$;
select pg_temp.skill('skill');

-- ----------------------------------------------------------------------------------------------------------------------- taking
select pg_temp.start('one'), pg_temp.start('two'), pg_temp.start('three');
select results_eq($$ select t.id, t.outcome, t.answers, t.called, t.sealed_key, t.parameters, t.prompt, t.elapsed_ms between 0 and 5000, t.is_streamed, t.organization_id, t.user_id
    from private.take_executions(1, 15) t $$,
  $$ values (pg_temp.id('one'), 'run', 'local', (private.resolve_model('claude-3-5-sonnet-20241022')).called, null::text, '{"max_tokens": 100}'::jsonb, 'Write twenty characters about trees', true, false, tests.org('anna'), tests.user('anna')) $$,
  'the oldest is taken with all that its model needs');
select results_eq($$ select status, takes, model, model_called, lease_expires_at - clock_timestamp() between '10 s' and '15 s' from public.skill_executions where id = pg_temp.id('one') $$,
  $$ values ('running', 1::smallint, 'claude-3-5-sonnet-20241022', (private.resolve_model('claude-3-5-sonnet-20241022')).called, true) $$, 'it is leased');
select is(pg_temp.take(), 'two:run three:run', 'then the others, in their order');
select is(pg_temp.take(), null, 'then nothing');
select is((select count(*) from jobs.gue_jobs where queue = 'executions'), 0::bigint, 'a job goes with the lease');
select private.enqueue('executions.run', jsonb_build_object('executionId', pg_temp.id('one')), now(), null, 'executions');
select is(pg_temp.take(), 'one:none', 'a job that came twice does nothing while the lease is held');
select private.enqueue('executions.run', jsonb_build_object('executionId', gen_random_uuid()), now(), null, 'executions');
select is(pg_temp.take(), 'none', 'nor does one whose run is gone');

-- ------------------------------------------------------------------------------------------------------------------- finishing
select is(private.finish_execution(pg_temp.id('one'), gen_random_uuid(), '{"status": "completed", "output": "late"}'), false, 'who has not the lease ends nothing');
select is(private.finish_execution(pg_temp.id('one'), pg_temp.token('one'), '{"status": "completed", "output": "Trees.", "promptTokens": 600, "completionTokens": 1500}'), true, 'who has it ends the run');
select results_eq($$ select status, output, prompt_tokens, completion_tokens, cost_cents, error_code from public.skill_executions where id = pg_temp.id('one') $$,
  $$ values ('completed', 'Trees.', 600, 1500, 2, null::text) $$, 'with its cost');
select is((select execution_count from public.skills where id = pg_temp.id('skill')), 1::bigint, 'the skill counts it');
insert into ids select 'token of two', pg_temp.token('two');
update public.skill_executions set status = 'cancelled', error_message = 'Cancelled by user' where id = pg_temp.id('two');
select is(private.finish_execution(pg_temp.id('two'), pg_temp.id('token of two'), '{"status": "completed", "output": "late"}'), false, 'a result after the cancellation is dropped');
select is(pg_temp.state('two'), 'cancelled Cancelled by user', 'and the run stays cancelled');
select private.finish_execution(pg_temp.id('three'), pg_temp.token('three'), '{"status": "failed", "errorCode": "API_ERROR", "errorMessage": "Broken", "promptTokens": 600, "completionTokens": 1500, "output": "half"}');
select results_eq($$ select status, output, cost_cents, error_code, error_message from public.skill_executions where id = pg_temp.id('three') $$,
  $$ values ('failed', null::text, 2, 'API_ERROR', 'Broken') $$, 'a failure has its code, and the cost of reported tokens');

select is(private.charge_execution(pg_temp.id('two'), 600, 1), true, 'what its aborted call had cost comes afterwards');
select results_eq($$ select status, prompt_tokens, completion_tokens, cost_cents from public.skill_executions where id = pg_temp.id('two') $$,
  $$ values ('cancelled', 600, 1, 0) $$, 'with its price');
select is(private.charge_execution(pg_temp.id('two'), 700, 1), false, 'once');
select throws_ok(format('update public.skill_executions set prompt_tokens = 1 where id = %L', pg_temp.id('two')), '23514', null, 'whoever writes');
select is(private.charge_execution(pg_temp.id('one'), 700, 1), false, 'of a completed run nothing changes');

-- ---------------------------------------------------------------------------------------------------------- what prevents a start
select pg_temp.skill('typed', p_schema => '[{"name": "topic", "type": "string", "required": true}]'), pg_temp.skill('openai', p_model => 'gpt-4-turbo'),
  pg_temp.skill('long', 'Write twenty characters about {{topic}}' || repeat('{{topic}}', 1000)), pg_temp.skill('inactive'), pg_temp.skill('hidden'), pg_temp.skill('gone');
select pg_temp.start('faulty', 'typed', '{"topic": 5}'), pg_temp.start('openai run', 'openai'), pg_temp.start('too long', 'long', jsonb_build_object('topic', repeat('x', 2000))),
  pg_temp.start('deactivated', 'inactive'), pg_temp.start('not mine', 'hidden', p_user => 'boris'), pg_temp.start('without skill', 'gone');
update public.skills set is_active = false where id = pg_temp.id('inactive');
update public.skill_executions set skill_id = null where id = pg_temp.id('without skill');
select is(pg_temp.take(), 'faulty:none openai run:none too long:none deactivated:none not mine:none without skill:none', 'what cannot start is ended, and keeps nobody waiting');
select is(pg_temp.state('faulty'), 'failed INVALID_INPUT topic must be a string', 'faulty input');
select is(pg_temp.state('openai run'), 'failed MODEL_NOT_SUPPORTED The model "gpt-4-turbo" is not supported.', 'a model that nobody supports');
select is(pg_temp.state('too long'), 'failed INVALID_INPUT Prompt is too long', 'a prompt that becomes too long');
select is(pg_temp.state('deactivated'), 'failed SKILL_INACTIVE The skill is inactive.', 'a skill that was deactivated while the run waited');
select is(pg_temp.state('not mine'), 'failed SKILL_NOT_FOUND The skill does not exist any more.', 'a skill that is no longer public');
select is(pg_temp.state('without skill'), 'failed SKILL_NOT_FOUND The skill does not exist any more.', 'a skill that is gone');
select is((select started_at is null and duration_ms is null from public.skill_executions where id = pg_temp.id('faulty')), true, 'they never ran');
update private.installation set value = '{}' where key = 'providers';
select pg_temp.start('unanswered');
select is(pg_temp.take(), 'unanswered:none', 'without a provider');
select is(pg_temp.state('unanswered'), 'failed PROVIDER_NOT_CONFIGURED No key for Anthropic is configured.', 'the run fails and says so');
update private.installation set value = '{"local": true}' where key = 'providers';
select pg_temp.skill('reflexive', 'Someone opened {{pull_request.title}}, says {{trigger}}');
select pg_temp.start('fired', 'reflexive', '{"trigger": "webhook", "payload": {"pull_request": {"title": "A fix"}}}', p_type => 'reflex');
select is((select t.prompt from private.take_executions(10, 15) t), 'Someone opened A fix, says webhook', 'a firing is rendered from its payload');

-- A member who is deactivated or has left runs nothing any more: neither waiting runs nor those whose worker lost its lease.
select tests.member('carla', 'anna'), tests.member('dirk', 'anna');
update public.skills set is_public = true where id = pg_temp.id('skill');
insert into public.habits (id, user_id, organization_id, skill_id, schedule_cron)
values ('c0000000-0000-4000-8000-000000000001', tests.user('carla'), tests.org('anna'), pg_temp.id('skill'), '0 9 * * *');
insert into ids select 'paused', (private.start_execution(pg_temp.id('skill'), tests.user('carla'), tests.org('anna'), 'habit', 'c0000000-0000-4000-8000-000000000001', '{}')).id;
insert into ids select 'left', (private.start_execution(pg_temp.id('skill'), tests.user('dirk'), tests.org('anna'), 'manual', null, '{}')).id;
select is(pg_temp.take(1), 'paused:run', 'a member''s run is taken');
update public.skill_executions set lease_expires_at = clock_timestamp() where id = pg_temp.id('paused');
select private.enqueue('executions.run', jsonb_build_object('executionId', pg_temp.id('paused')), now(), null, 'executions');
update public.memberships set status = 'inactive' where user_id = tests.user('carla') and organization_id = tests.org('anna');
delete from public.memberships where user_id = tests.user('dirk') and organization_id = tests.org('anna');
select is(pg_temp.take(), 'left:none paused:none', 'after the membership has ended neither runs');
select is(pg_temp.state('left'), 'failed MEMBERSHIP_INACTIVE The owner of this run is not an active member of its organization.', 'a waiting run of somebody removed');
select is(pg_temp.state('paused'), 'failed MEMBERSHIP_INACTIVE The owner of this run is not an active member of its organization.', 'a run of somebody deactivated whose worker was lost');
select results_eq($$ select is_active, consecutive_failures, run_count from public.habits where id = 'c0000000-0000-4000-8000-000000000001' $$, $$ values (true, 0, 1::bigint) $$,
  'a habit is paused, not blamed');
update public.skills set is_public = false where id = pg_temp.id('skill');

-- A claim that fails unexpectedly is retried and finally buried. The other runs of its batch are processed all the same.
insert into ids select 'broken job', gen_random_uuid();
insert into jobs.gue_jobs (job_id, priority, run_at, job_type, args, queue, created_at, updated_at)
values (private.new_ulid(), 0, now() - interval '1 hour', 'executions.run', '{"executionId": "no uuid"}', 'executions', now(), now());
select pg_temp.start('beside');
select is(pg_temp.take(), 'error beside:run', 'one broken job keeps nobody waiting');
select results_eq($$ select error_count, run_at > clock_timestamp() from jobs.gue_jobs where queue = 'executions' $$, $$ values (1, true) $$, 'it comes again, later');
do $$ begin for i in 1..4 loop update jobs.gue_jobs set run_at = now() where queue = 'executions'; perform pg_temp.take(); end loop; end $$;
select results_eq($$ select job_type, error_count, last_error like '22P02%' from jobs.dead_letters $$, $$ values ('executions.run', 5, true) $$, 'and is buried for an administrator');

-- ------------------------------------------------------------------------------------------------------------ renewing and losing
select pg_temp.start('r1'), pg_temp.start('r2'), pg_temp.start('r3');
select pg_temp.take();
update ids set token = pg_temp.token(name) where name in ('r1', 'r2', 'r3');
update public.skill_executions set lease_expires_at = clock_timestamp() where id = pg_temp.id('r1');
update public.skill_executions set status = 'cancelled' where id = pg_temp.id('r2');
update public.skill_executions set lease_token = gen_random_uuid() where id = pg_temp.id('r3');
select results_eq($$ select i.name from ids i where i.id in (select private.renew_executions(array_agg(id), array_agg(token), 15) from ids where name in ('r1', 'r2', 'r3')) order by 1 $$,
  $$ values ('r2'), ('r3') $$, 'a cancelled run and one that another worker has are lost');
select is((select lease_expires_at > clock_timestamp() + interval '10 s' from public.skill_executions where id = pg_temp.id('r1')), true, 'the others hold on');
select is((select private.hand_back_executions(array_agg(id), array_agg(token)) from ids where name in ('r1', 'r2', 'r3')), 1, 'a worker that stops gives back what it has');
select is(pg_temp.take(), 'r1:run', 'another one goes on at once');
select results_eq($$ select status, takes, started_at <= now() + interval '1 minute' from public.skill_executions where id = pg_temp.id('r1') $$, $$ values ('running', 1::smallint, true) $$, 'which is no loss of a worker');

-- ------------------------------------------------------------------------------------------------------------------- sweeping
select is(private.sweep_executions(), 0, 'while leases hold there is nothing to sweep');
create function pg_temp.lose(p_name text) returns text language plpgsql volatile as $$
declare
  v text;
begin
  update public.skill_executions set lease_expires_at = clock_timestamp() - interval '1 s' where id = pg_temp.id(p_name);
  v := concat_ws(' ', private.sweep_executions(), private.sweep_executions(), pg_temp.take());
  return concat_ws(' ', v, (select takes from public.skill_executions where id = pg_temp.id(p_name)));
end
$$;
update ids set token = pg_temp.token('r1') where name = 'r1';
select is(pg_temp.lose('r1'), '1 0 r1:run 2', 'the run of a dead worker gets one job and is taken over');
select isnt(pg_temp.token('r1'), (select token from ids where name = 'r1'), 'under a new lease');
select is(private.finish_execution(pg_temp.id('r1'), (select token from ids where name = 'r1'), '{"status": "completed"}'), false, 'the dead one''s late result is dropped');
select is(pg_temp.lose('r1'), '1 0 r1:run 3', 'a second time');
select is(pg_temp.lose('r1'), '1 0 3', 'and then no more');
select is(pg_temp.state('r1'), 'failed UNKNOWN_ERROR Skill execution was interrupted', 'it has failed, once');
select is((select string_agg(data ->> 'status', ' ' order by seq) from private.event_inbox where type = 'execution_update' and entity_id = pg_temp.id('r1')),
  'pending running failed', 'its owner is told of three steps, however many workers it took');

select pg_temp.start('streamed', p_stream => true);
select is((select t.is_streamed from private.take_executions(10, 15) t), true, 'the worker knows that somebody listens');
select is(private.publish_output(pg_temp.id('streamed'), gen_random_uuid(), 0, 'a'), false, 'only who has the lease speaks');
select is(private.publish_output(pg_temp.id('streamed'), pg_temp.token('streamed'), 0, 'a'), true, 'the first piece');
select is(private.publish_output(pg_temp.id('streamed'), pg_temp.token('streamed'), 1, 'b'), true, 'and the next');
select is((select has_streamed from public.skill_executions where id = pg_temp.id('streamed')), true, 'it is written down');
select is(pg_temp.lose('streamed'), '1 0 1', 'so it is not begun again');
select is(pg_temp.state('streamed'), 'failed UNKNOWN_ERROR Skill execution was interrupted', 'but has failed');
select pg_temp.start('spoken', p_stream => true);
select pg_temp.take();
select private.publish_output(pg_temp.id('spoken'), pg_temp.token('spoken'), 0, 'a');
select is(private.hand_back_executions(array[pg_temp.id('spoken')], array[pg_temp.token('spoken')]), 1, 'nor when its worker stops');
select is(pg_temp.state('spoken'), 'failed UNKNOWN_ERROR Skill execution was interrupted', 'in order');

select pg_temp.start('slow');
select pg_temp.take();
select is(private.sweep_executions(clock_timestamp() + interval '14 s'), 0, 'within its lease');
select cmp_ok(private.sweep_executions(clock_timestamp() + interval '301 s'), '>=', 1, 'after 300 s');
select is(pg_temp.state('slow'), 'failed TIMEOUT Skill execution timeout', 'a run has failed, renewed or not');
select pg_temp.start('lost job');
delete from jobs.gue_jobs where queue = 'executions';
select is(private.sweep_executions(clock_timestamp() + interval '29 s'), 0, 'a young run has its job');
select is(private.sweep_executions(clock_timestamp() + interval '31 s'), 1, 'one whose job was deleted by hand gets another');
update jobs.gue_jobs set run_at = now() where queue = 'executions';
select is(pg_temp.take(), 'lost job:run', 'and runs');

-- ------------------------------------------------------------------------------------------------------------------- retention
select is((select every from private.schedules where name = 'executions.sweep'), '5 seconds', 'swept every 5 s');
alter table public.skill_executions disable trigger user;
update public.skill_executions set executed_at = now() - interval '29 days' where id = pg_temp.id('one');
update public.skill_executions set executed_at = now() - interval '31 days' where id = pg_temp.id('three');
update public.skill_executions set executed_at = now() - interval '91 days' where id in (pg_temp.id('two'), pg_temp.id('lost job'));
alter table public.skill_executions enable trigger user;
insert into private.installation (key, value) values ('execution_days', '10');
select is((select now() - private.retention_cutoff(r, now()) from private.retention_rules r where name = 'skill_executions'), '90 days', 'never below 90 days');
update private.installation set value = '120' where key = 'execution_days';
select is((select now() - private.retention_cutoff(r, now()) from private.retention_rules r where name = 'skill_executions'), '120 days', 'but longer');
update private.installation set value = '90' where key = 'execution_days';
select is(tests.end_old('skill_executions'), 2::bigint, 'texts and rows end');
select results_eq($$ select input is null and output is null and error_message is null, user_id = tests.user('anna'), cost_cents, error_code from public.skill_executions where id = pg_temp.id('three') $$,
  $$ values (true, true, 2, 'API_ERROR') $$, 'after 30 days the texts are gone and the numbers stay');
select is((select output from public.skill_executions where id = pg_temp.id('one')), 'Trees.', 'before that nothing is');
select results_eq($$ select name from ids where id in (pg_temp.id('two'), pg_temp.id('lost job')) and exists (select from public.skill_executions e where e.id = ids.id) $$,
  $$ values ('lost job') $$, 'after 90 days the row is gone, unless it is still open');
update private.schedules set run_at = now() - interval '1 minute' where name like 'executions.%';
select cmp_ok(private.run_due(), '>=', 1, 'the sweep is known to the schedules');

-- ----------------------------------------------------------------------------------------------------------------------- actors
select tests.act_as('anna');
select throws_ok($$ select private.take_executions(1, 1) $$, '42501', null, 'nobody but the worker takes');
select throws_ok($$ select private.finish_execution(null, null, null) $$, '42501', null, 'or ends a run');
select throws_ok($$ select private.claim_execution(null, 1, null) $$, '42501', null, 'or claims one');
select throws_ok($$ select private.publish_output(null, null, 0, '') $$, '42501', null, 'or speaks for it');
select throws_ok($$ select private.sweep_executions() $$, '42501', null, 'or sweeps');
select tests.reset();

select * from finish();
rollback;
