-- Dead letters: only the platform's staff sees them and lets them run again.
begin;
select no_plan();
select tests.user('staff'), tests.user('anna');
update public.users set is_platform_admin = true where id = tests.user('staff');
select private.bury_job('01JDEAD0000000000000000001', 'mail.send', 'default', '{"mailId": 1}', 8, 'no mail server', now() - interval '2 hours');
select private.bury_job('01JDEAD0000000000000000002', 'executions.run', 'executions', '{"executionId": 2}', 5, '22P02 broken', now() - interval '1 hour');
update jobs.dead_letters set died_at = now() - interval '1 hour' where job_type = 'mail.send';

select tests.act_as('staff');
select is((select string_agg(j ->> 'id', ' ' order by o) from jsonb_array_elements(api.list_dead_jobs('{}') -> 'jobs') with ordinality x (j, o)),
  '01JDEAD0000000000000000002 01JDEAD0000000000000000001', 'the staff sees them, the latest first');
select is((api.list_dead_jobs('{"type": "mail.send"}') #> '{jobs,0}') - 'createdAt' - 'diedAt',
  '{"id": "01JDEAD0000000000000000001", "type": "mail.send", "queue": "default", "args": {"mailId": 1}, "attempts": 8, "lastError": "no mail server"}', 'with all that is known');
select is(api.list_dead_jobs('{"limit": 1, "offset": 1}') ->> 'total', '2', 'in pages');
select is(api.retry_dead_job('{"jobId": "01JDEAD0000000000000000002"}') ->> 'jobId',
  tests.peek($$ select job_id from jobs.gue_jobs where job_type = 'executions.run' and queue = 'executions' and convert_from(args, 'UTF8')::jsonb = '{"executionId": 2}' and error_count = 0 $$),
  'and lets one run again');
select throws_ok($$ select api.retry_dead_job('{"jobId": "01JDEAD0000000000000000002"}') $$, 'PT404', 'There is no such job.', 'once');
select is(tests.peek($$ select description from public.audit_log where event_type = 'system.job_retried' $$), 'Let a failed job of type executions.run run again.', 'which is audited');

select tests.act_as('anna');
select throws_ok($$ select api.list_dead_jobs('{}') $$, 'PT403', 'Only the staff of this platform may do this.', 'an owner of an organization sees none');
select throws_ok($$ select api.retry_dead_job('{"jobId": "01JDEAD0000000000000000001"}') $$, 'PT403', 'Only the staff of this platform may do this.', 'and retries none');
select tests.act_as_claims('anna');
select set_config('request.jwt.claims', (current_setting('request.jwt.claims')::jsonb || '{"platform_admin": true}')::text, true);
select throws_ok($$ select api.list_dead_jobs('{}') $$, 'PT403', null, 'whatever their claims say');
select tests.act_anon();
select throws_ok($$ select api.list_dead_jobs('{}') $$, '42501', null, 'nor does anybody anonymous');
select tests.act_service();
select throws_ok($$ select api.list_dead_jobs('{}') $$, '42501', null, 'or the service');
select tests.reset();
select is((select count(*) from jobs.dead_letters), 1::bigint, 'the other one is still there');
select * from finish();
rollback;
