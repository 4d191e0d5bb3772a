-- Deliveries to neighbors: what queues one, what it holds, who takes it, and what becomes of it.
begin;
select no_plan();
-- Anna owns a project and a skill.
select tests.user('anna'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000a1'::uuid $$;
create function pg_temp.skill() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000a2'::uuid $$;
insert into public.projects (id, organization_id, user_id, name) values (pg_temp.pid(), tests.org('anna'), tests.user('anna'), 'A secret plan');
insert into public.skills (id, user_id, organization_id, name, prompt_template) values (pg_temp.skill(), tests.user('anna'), tests.org('anna'), 'Secret skill', 'Write something about {{topic}}');

-- An ingestion and a run of a skill, begun and ended.
create function pg_temp.ingest(p_outcome text) returns uuid language plpgsql as $$
declare
  v_id uuid;
  v_phase text;
begin
  insert into public.ingestion_runs (organization_id, project_id, phase) values (tests.org('anna'), pg_temp.pid(), 'repository_fetch') returning id into v_id;
  if p_outcome = 'completed' then
    foreach v_phase in array array['parsing', 'chunking', 'optimization', 'indexing'] loop
      update public.ingestion_runs set phase = v_phase where id = v_id;
    end loop;
    update public.ingestion_runs set outcome = 'completed', files_processed = 7, tokens_processed = 90, chunks_created = 8 where id = v_id;
  else
    update public.ingestion_runs set outcome = p_outcome, error_code = 'CLONE_FAILED', error_message = 'A secret reason' where id = v_id;
  end if;
  return v_id;
end $$;
create function pg_temp.run(p_status text, p_type text default 'manual') returns uuid language plpgsql as $$
declare
  v_id uuid;
begin
  insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, reference_id, input, model)
  values (tests.user('anna'), tests.org('anna'), pg_temp.skill(), p_type, case when p_type <> 'manual' then gen_random_uuid() end, '{"topic": "Secret topic"}', 'claude-sonnet-5')
  returning id into v_id;
  update public.skill_executions set status = 'running' where id = v_id;
  update public.skill_executions set status = p_status, output = case when p_status = 'completed' then 'Secret answer' end, prompt_tokens = 3, completion_tokens = 4, cost_cents = 1,
    error_code = case when p_status = 'failed' then 'PROVIDER_ERROR' end, error_message = case when p_status = 'failed' then 'A secret reason' end where id = v_id;
  return v_id;
end $$;
create function pg_temp.waiting() returns text language sql as $$
  select string_agg(neighbor || ' ' || kind, ', ' order by neighbor, kind, position) from private.outbox where status = 'waiting' $$;

-- ------------------------------------------------------------------------------------------------------------------ off by default
select pg_temp.ingest('completed'), pg_temp.run('completed');
select is(pg_temp.waiting(), null, 'without a configured neighbor nothing is queued');
select is((select count(*) from jobs.gue_jobs where queue = 'outbox'), 0::bigint, 'nor a job');

-- ------------------------------------------------------------------------------------------------------------------ what is queued
select private.declare_installation('neighbors', '{"zulip": {"texts": false}, "cxdb": {"texts": false}, "lightning": {"texts": false}}');
select pg_temp.ingest('completed'), pg_temp.ingest('failed');
select pg_temp.ingest('cancelled');
select is(pg_temp.waiting(), 'zulip ingestion, zulip ingestion', 'an ingestion that was completed or failed is announced, a canceled one is not');
delete from private.outbox;
select pg_temp.run('completed');
select is(pg_temp.waiting(), 'cxdb execution, lightning execution', 'a run that a person started goes to the stores');
delete from private.outbox;
select pg_temp.run('failed', 'habit'), pg_temp.run('cancelled', 'reflex');
select is(pg_temp.waiting(), 'cxdb execution, lightning execution, zulip execution', 'a failed run of a habit is announced too, a canceled run goes nowhere');
select is((select count(*) from jobs.gue_jobs where queue = 'outbox'), 7::bigint, 'each delivery has its job');
savepoint undone;
select pg_temp.run('completed');
rollback to undone;
select is((select count(*) from private.outbox), 3::bigint, 'a run that is rolled back is sent nowhere');

-- -------------------------------------------------------------------------------------------------------------------- what is sent
create function pg_temp.take(p_limit integer default 100) returns setof jsonb language sql as $$ select t from private.take_outbox(p_limit, 120) t where t is not null $$;
create temp table taken as select t from pg_temp.take() t;
select is((select count(*) from taken), 3::bigint, 'the worker takes each delivery once; jobs of deleted ones do nothing');
select is((select count(*) from pg_temp.take()), 0::bigint, 'a leased delivery is not taken again');
select ok(not bool_or(t::text ~* 'secret'), 'no text of a customer is sent') from taken;
select is((t -> 'payload') - '{organizationId,userId,executionId,skillId,startedAt,completedAt,durationMs}'::text[],
  '{"type": "habit", "status": "failed", "model": "claude-sonnet-5", "promptTokens": 3, "completionTokens": 4, "costCents": 1, "errorCode": "PROVIDER_ERROR"}',
  'numbers and codes are') from taken where t ->> 'neighbor' = 'zulip';
select is((select count(*) from private.outbox o where o.lease_token is not null and o.attempts = 1), 3::bigint, 'each has a lease and counts the attempt');

create function pg_temp.finish(p_neighbor text, p jsonb) returns boolean language sql as $$
  select private.finish_outbox(jsonb_build_object('id', t -> 'id', 'token', t -> 'token') || p) from taken where t ->> 'neighbor' = p_neighbor $$;
select ok(pg_temp.finish('cxdb', '{"ok": true}'), 'a delivered row');
select is(pg_temp.waiting(), 'lightning execution, zulip execution', 'is gone');
select ok(not pg_temp.finish('cxdb', '{"ok": true}'), 'and cannot be finished twice');
select ok(pg_temp.finish('zulip', '{"ok": false, "error": "answer 429", "after": 40}'), 'a failed attempt');
select ok(due_at > clock_timestamp() + interval '35 seconds' and lease_token is null and error = 'answer 429', 'waits as long as the neighbor asks') from private.outbox where neighbor = 'zulip';
select ok(pg_temp.finish('lightning', '{"ok": false, "refused": true, "error": "answer 422"}'), 'a refused delivery');
select is((select status from private.outbox where neighbor = 'lightning'), 'failed', 'has failed');
select is((select args from jobs.dead_letters where job_type = 'outbox.send'), (select jsonb_build_object('deliveryId', id) from private.outbox where neighbor = 'lightning'), 'and has a dead letter');
select is(to_jsonb(private.outbox_state('lightning')), '{"pending": 1, "failing": 1, "lost": 0}', 'the health check counts it');
select private.enqueue('outbox.send', args, p_queue => 'outbox') from jobs.dead_letters where job_type = 'outbox.send';
select is((select t ->> 'attempt' from pg_temp.take() t where t ->> 'neighbor' = 'lightning'), '2', 'letting the dead letter run again sends it again');

select is((select array_agg(private.outbox_pause('zulip', n)::text order by n) from unnest(array[1, 10, 11, 12, 40]) n), array['00:00:01', '00:00:01', '00:00:04', '00:00:08', '01:00:00'],
  'Zulip is tried ten times a second apart, as its own client does, then more slowly');
select is((select array_agg(private.outbox_pause('cxdb', n)::text order by n) from unnest(array[1, 2, 12, 40]) n), array['00:00:02', '00:00:04', '01:00:00', '01:00:00'], 'others more slowly each time, to an hour');

-- ------------------------------------------------------------------------------------------------------------------------- patience
delete from private.outbox;
select pg_temp.ingest('failed');
update private.outbox set created_at = now() - interval '73 hours';
truncate taken;
insert into taken select t from pg_temp.take() t;
select pg_temp.finish('zulip', '{"ok": false, "error": "answer 502"}');
select is((select status from private.outbox), 'failed', 'after three days no attempt follows');

-- ------------------------------------------------------------------------------------------------------------- with texts, and without
delete from private.outbox;
select private.declare_installation('neighbors', '{"zulip": {"texts": true}, "cxdb": {"texts": true}}');
select pg_temp.ingest('failed'), pg_temp.run('completed');
truncate taken;
insert into taken select t from pg_temp.take() t;
select is(t -> 'payload' ->> 'project', 'A secret plan', 'with the operator''s consent the announcement has names') from taken where t ->> 'neighbor' = 'zulip';
select is(array[t #>> '{payload,input}', t #>> '{payload,output}', t #>> '{payload,skill}'], array['{"topic": "Secret topic"}', 'Secret answer', 'Secret skill'], 'and a turn its text')
  from taken where t ->> 'neighbor' = 'cxdb';
select is((select count(*) from private.outbox o where to_jsonb(o)::text ~* 'secret'), 0::bigint, 'the outbox itself holds no text');

-- ----------------------------------------------------------------------------------------------------------------- one after another
delete from private.outbox;
truncate taken;
select private.queue_deliveries('cxdb', tests.org('anna'), 'execution', array_agg(e.id order by e.executed_at), pg_temp.pid())
from public.skill_executions e where e.status = 'completed';
select is((select count(*) from jobs.gue_jobs j, private.outbox o where j.queue = 'outbox' and convert_from(j.args, 'UTF8') like '%' || o.id || '%'), 1::bigint, 'a series has one job');
select is((select count(*) from public.skill_executions where status = 'completed'), 3::bigint, 'three turns of one series');
insert into taken select t from pg_temp.take() t;
select is((select count(*) from taken), 1::bigint, 'the first is sent alone');
select ok(private.keep_outbox_reference((t ->> 'id')::uuid, (t ->> 'token')::uuid, '42'), 'and the neighbor''s name of the series is kept') from taken;
select ok(not private.keep_outbox_reference((t ->> 'id')::uuid, gen_random_uuid(), '43'), 'by the holder of the lease alone') from taken;
select pg_temp.finish('cxdb', '{"ok": true}');
truncate taken;
insert into taken select t from pg_temp.take() t;
select is((select array_agg(t ->> 'reference') from taken), array['42'], 'then the second follows, and knows the name');
update private.outbox set lease_until = now() - interval '1 second' where lease_token is not null;
select private.sweep_outbox();
select ok(not pg_temp.finish('cxdb', '{"ok": true}'), 'a worker that lost its lease finishes nothing');
truncate taken;
insert into taken select t from pg_temp.take() t;
select is((select array_agg(t ->> 'attempt') from taken), array['2'], 'and another worker sends it again');
select pg_temp.finish('cxdb', '{"ok": false, "refused": true, "error": "answer 422"}');
select is((select count(*) from pg_temp.take()), 1::bigint, 'a refused turn does not hold up the next one');

-- --------------------------------------------------------------------------------------------------------------------- gone meanwhile
delete from private.outbox;
select pg_temp.run('completed') as run \gset
delete from public.skill_executions where id = :'run';
select is((select count(*) from pg_temp.take()), 0::bigint, 'a run that is gone is not sent');
select is((select count(*) from private.outbox), 0::bigint, 'and its delivery goes');
select pg_temp.run('completed');
select private.declare_installation('neighbors', '{}');
select is((select count(*) from pg_temp.take()), 0::bigint, 'nor is anything to a neighbor that was switched off');

-- ------------------------------------------------------------------------------------------------------------------------------ bounds
select private.declare_installation('neighbors', '{"zulip": {"texts": false}}');
delete from private.outbox;
insert into private.outbox (organization_id, neighbor, kind, subject_id, series) select tests.org('anna'), 'zulip', 'ingestion', gen_random_uuid(), gen_random_uuid() from generate_series(1, 10000);
select pg_temp.ingest('failed'), pg_temp.ingest('failed');
select is(to_jsonb(private.outbox_state('zulip')), '{"pending": 10000, "failing": 0, "lost": 2}', 'ten thousand of an organization wait, more are dropped and counted');
select private.queue_deliveries('zulip', tests.org('stan'), 'ingestion', array[gen_random_uuid()], gen_random_uuid());
select is((select count(*) from private.outbox where organization_id = tests.org('stan')), 1::bigint, 'another organization has its own room');
update private.outbox set created_at = now() - interval '8 days' where organization_id = tests.org('anna');
select private.prune_outbox();
select is(to_jsonb(private.outbox_state('zulip')), '{"pending": 1, "failing": 0, "lost": 10002}', 'after a week they are dropped');
update private.outbox set due_at = now() - interval '11 minutes';
delete from jobs.gue_jobs where queue = 'outbox';
select private.sweep_outbox();
select is((select count(*) from jobs.gue_jobs where queue = 'outbox'), 1::bigint, 'a delivery whose job was lost gets another one');

-- ------------------------------------------------------------------------------------------------------------------------- who may
select tests.act_as('anna');
select throws_ok($$ select * from private.outbox $$, '42501', null, 'no person reads the outbox');
select throws_ok($$ select private.take_outbox(1, 1) $$, '42501', null, 'nor takes from it');
select throws_ok($$ select private.queue_deliveries('zulip', tests.org('anna'), 'ingestion', array[gen_random_uuid()], gen_random_uuid()) $$, '42501', null, 'nor writes to it');
select tests.act_service();
select throws_ok($$ select private.outbox_state('zulip') $$, '42501', null, 'nor does the service');

select * from finish();
rollback;
