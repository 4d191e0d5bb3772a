-- private.enter itself: which callers it admits, by the server's way and by PostgREST's, and the members' view of plan, usage and audit
-- trail.
begin;
select no_plan();

select tests.member('mia', 'ann', 'member');
select tests.member('adam', 'ann', 'admin');
select tests.user('eve');

-- ------------------------------------------------------------------------------------------------ PostgREST's pre-request hook
select tests.act_as_claims('ann');
select lives_ok($$ select private.enter_claims() $$, 'claims with a living session enter');
select is(private.user_id(), (select user_id from tests.people where name = 'ann'), 'the user is known');
select is(private.org_role(), 'owner', 'and the role comes from the tables');
select is(nullif(current_setting('app.org_id', true), '')::uuid, private.org_id(), 'as a flat setting');

select tests.reset();
update private.sessions set revoked_at = now() where user_id = tests.user('mia');
select tests.act_as_claims('mia');
select throws_ok($$ select private.enter_claims() $$, 'PT401', 'This session has ended. Please sign in again.', 'a revoked session is refused');
select is(private.user_id(), null, 'and without the hook it is nobody');
select is_empty($$ select * from public.organizations $$, 'who sees nothing');

select tests.reset();
update private.sessions set revoked_at = null where user_id = tests.user('mia');
update public.memberships set status = 'inactive' where user_id = tests.user('mia') and organization_id = tests.org('ann');
update private.sessions set revoked_at = null where user_id = tests.user('mia');
select tests.act_as_claims('mia');
select throws_ok($$ select private.enter_claims() $$, 'PT403', 'You are not an active member of this organization.', 'a former member is refused');
select is(private.org_id(), null, 'and is in no organization without the hook');

select tests.act_anon();
select lives_ok($$ select private.enter_claims() $$, 'anonymous calls enter as nobody');
select is(private.user_id(), null, 'without claims there is no user');
select throws_ok($$ select private.enter(gen_random_uuid(), gen_random_uuid(), null, '', '', '') $$, '42501', null, 'nobody else may say who they are');

-- ------------------------------------------------------------------------------------------------ audit trail
select tests.reset();
select tests.act_as('ann');
select api.create_project('{"body": {"name": "Audited"}}');
select isnt_empty($$ select from public.audit_log where event_type = 'context.created' $$, 'the owner reads the trail');
select is((select event_category from public.audit_log where event_type = 'context.created'), 'context', 'with its category');
select is((select user_id from public.audit_log where event_type = 'context.created'), private.user_id(), 'and who it was');
select throws_ok($$ delete from public.audit_log $$, '42501', null, 'but nobody deletes from it');
select throws_ok($$ update public.audit_log set description = 'x' $$, '42501', null, 'or changes it');
select throws_ok($$ insert into public.audit_log (organization_id, event_type, description) values (private.org_id(), 'user.login', 'x') $$,
  '42501', null, 'or writes into it');
select tests.act_as('adam');
select isnt_empty($$ select from public.audit_log where event_type = 'context.created' $$, 'an admin reads it too');
select tests.reset();
update public.memberships set status = 'active' where user_id = tests.user('mia') and organization_id = tests.org('ann');
select tests.act_as('mia');
select is_empty($$ select from public.audit_log $$, 'a member does not');
select tests.act_as('eve');
select is_empty($$ select from public.audit_log where event_type = 'context.created' $$, 'nor does a stranger');
select tests.act_anon();
select throws_ok($$ select from public.audit_log $$, '42501', null, 'nor an anonymous caller');
select tests.reset();
update public.audit_log set created_at = now() - interval '8 days';
select tests.act_as('ann');
select is_empty($$ select from public.audit_log where event_type = 'context.created' $$, 'the free plan shows seven days');
select tests.reset();
update public.subscriptions set plan_id = 'pro' where organization_id = tests.org('ann');
select tests.act_as('ann');
select isnt_empty($$ select from public.audit_log where event_type = 'context.created' $$, 'the pro plan thirty');

-- ------------------------------------------------------------------------------------------------ plans and usage
select tests.reset();
select private.consume_quota(tests.org('ann'), 'ingestions', 3);
select private.consume_quota(tests.org('eve'), 'ingestions', 5);
select tests.act_as('mia');
select results_eq($$ select id from public.plans order by position $$, array['free', 'pro', 'teams', 'enterprise'], 'four plans');
select results_eq($$ select used from public.usage where metric = 'ingestions' $$, array[3::bigint], 'a member sees the usage of the own organization only');
select throws_ok($$ update public.usage_counters set used = 0 $$, '42501', null, 'and cannot set it back');
select throws_ok($$ select private.consume_quota(private.org_id(), 'ingestions', 1) $$, '42501', null, 'or count by themselves');
select throws_ok($$ update public.subscriptions set plan_id = 'enterprise' $$, '42501', null, 'or choose a plan');
select tests.reset();
select throws_ok($$ select private.consume_quota(tests.org('eve'), 'ingestions', 46) $$, 'PT429',
  'Your plan allows 50 ingestions a month and they are used up.', 'more than is left is refused');
select is((select used from public.usage where organization_id = tests.org('eve') and metric = 'ingestions'), 5::bigint, 'and counts nothing');
select lives_ok($$ select private.consume_quota(tests.org('eve'), 'ingestions', 45) $$, 'exactly the rest is granted');
select lives_ok($$ select private.consume_quota(tests.org('eve'), 'ingestions', 50, now() + interval '1 month') $$, 'the next month begins by itself');
-- A past day moves to usage_days, whatever slot counted it. The current day is shown with it.
select private.consume_quota(tests.org('dora'), 'api_calls', n, d) from (values (3, timestamptz '2026-03-01 10:00Z'), (4, '2026-03-01 23:59Z'), (5, '2026-03-02 00:00Z'),
  (6, '2026-03-04 12:00Z'), (7, '2026-04-01 00:00Z')) v (n, d);
select private.consume_quota(tests.org('dora'), 'storage', n, d) from (values (1000, timestamptz '2026-03-01 10:00Z'), (-300, '2026-03-01 11:00Z'), (50, '2026-03-03 00:00Z'),
  (-5000, '2026-03-05 00:00Z')) v (n, d);
select results_eq($$ select metric, day, value from public.usage_trend where organization_id = tests.org('dora') order by metric, day $$,
  $$ values ('api_calls', date '2026-03-01', 7::bigint), ('api_calls', '2026-03-02', 5), ('api_calls', '2026-03-04', 6), ('api_calls', '2026-04-01', 7),
    ('storage', '2026-03-01', 700), ('storage', '2026-03-03', 750), ('storage', '2026-03-05', 0) $$, 'the trend has units of each day, of storage what is left at its end');
select results_eq($$ select period, used from public.usage where organization_id = tests.org('dora') and metric = 'api_calls' order by period $$,
  $$ values (date '2026-03-01', 18::bigint), ('2026-04-01', 7) $$, 'and months are counted apart');
select throws_ok($$ select private.consume_quota(tests.org('eve'), 'storage', 1073741825) $$, 'PT429', 'Your plan''s storage is used up.', 'storage is a gauge in bytes');
update public.subscriptions set status = 'canceled', plan_id = 'teams' where organization_id = tests.org('eve');
select is(private.effective_plan(tests.org('eve')), 'free', 'a cancelled subscription is plan free');
update public.subscriptions set status = 'active', overrides = '{"ingestions": 7}' where organization_id = tests.org('eve');
select is(private.plan_limit(tests.org('eve'), 'ingestions'), 7::bigint, 'a contract''s number goes before the plan''s');

-- ------------------------------------------------------------------------------------------------ idempotency keys
select tests.act_as('ann');
select is(private.call_idempotent('validate_project_name', '{"body": {"name": "Key"}}', 'k1', 'a'), '{"valid": true}'::jsonb, 'a key runs the operation');
select is(private.call_idempotent('validate_project_name', '{"body": {"name": "no"}}', 'k1', 'a'), '{"valid": true}'::jsonb, 'and again gives the stored answer');
select throws_ok($$ select private.call_idempotent('validate_project_name', '{}', 'k1', 'b') $$, 'PT409', 'This Idempotency-Key was used for another request.',
  'another request under it conflicts');
select tests.act_as('eve');
select is(private.call_idempotent('validate_project_name', '{"body": {"name": "no"}}', 'k1', 'a') ->> 'valid', 'false', 'another person''s key is another key');
select tests.reset();
create temp table work as select jsonb_build_object('userId', tests.user('ann'), 'key', 'k1', 'seconds', 60) as p;
select is(private.take_answer(p), '{"mine": true}', 'work outside the database is taken by one') from work;
select is(private.take_answer(p), '{"mine": false}', 'others wait') from work;
select is(private.keep_answer(p || '{"answer": null}'), 'true', 'who has no answer gives it up') from work;
select is(private.take_answer(p || '{"seconds": 0}'), '{"mine": true}', 'and another one takes it') from work;
select is(private.take_answer(p), '{"mine": true}', 'as when its time is over') from work;
select is(private.keep_answer(p || '{"answer": {"output": "Yes"}}'), 'true', 'an answer is kept') from work;
select is(private.take_answer(p), '{"answer": {"output": "Yes"}}', 'for whoever asks') from work;
select is(private.take_answer(p || '{"key": "unknown"}'), '{"mine": true}', 'a key that is gone keeps nobody waiting') from work;
select is((select bool_or(has_function_privilege(r, f, 'execute')) from unnest(array['anon', 'authenticated', 'service_role', 'kijko_worker']) r,
  unnest(array['private.take_answer(jsonb)', 'private.keep_answer(jsonb)']) f), false, 'only the server asks');

-- ------------------------------------------------------------------------------------------------ queue and rates
select isnt(private.enqueue('t', '{}', now(), 'once'), null, 'a job is queued');
select is(private.enqueue('t', '{}', now(), 'once'), null, 'a second one with its key is not');
select throws_ok($$ insert into jobs.gue_jobs (job_id, priority, run_at, job_type, args, queue, created_at, updated_at)
  values (gen_random_uuid()::text, 0, now(), 't', '', 'default', now(), now()) $$, '23514', null, 'an id that would stop the queue is refused');
select is((select array_agg(r.allowed order by g) from generate_series(1, 3) g, lateral private.take_rate('r' || repeat('x', 0 * g), 2, '1 minute', '2026-01-01 00:00:01+00') r),
  array[true, true, false], 'two of three are within the limit');
select is((private.take_rate('r', 2, '1 minute', '2026-01-01 00:01:05+00')).allowed, false, 'the previous window still weighs');
select is((private.take_rate('r', 2, '1 minute', '2026-01-01 00:03:00+00')).allowed, true, 'and then no more');
select tests.act_as('ann');
select throws_ok($$ select private.enqueue('t', '{}') $$, '42501', null, 'people do not enqueue');
select throws_ok($$ select * from jobs.gue_jobs $$, '42501', null, 'or look into the queue');

select tests.reset();
-- ------------------------------------------------------------------------------------------------------------------- refusals
select lives_ok(format('select case when g > 0 then null else %s end from generate_series(1, 1) g', f), f || ' in a branch that is never taken refuses nothing')
from unnest(array[$$private.refuse(400, 'X', 'never')::text$$, $$private.refuse_field('a', 'never')::text$$, $$private.refuse_skill('x')::text$$,
  $$private.refuse_row('a', 'b')::text$$, $$private.require_email('x')$$, $$private.as_branch('..')$$]) f;

select * from finish();
rollback;
