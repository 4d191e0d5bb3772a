-- Long work of a context: its states, who reads it, how a request ends that waits for it.
begin;
select no_plan();

-- Anna owns the context; Vi and Udo are viewer and auditor; Stan belongs to another organization.
select tests.user('anna');
select tests.member('dev', 'anna', 'member'), tests.member('vi', 'anna', 'member'), tests.member('udo', 'anna', 'member'), tests.user('stan');
create function pg_temp.cid() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000c1'::uuid $$;
select tests.act_as('anna');
select lives_ok($$ select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.cid(), 'name', 'Notes'))) $$, 'the owner makes a project');
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
select tests.org('anna'), pg_temp.cid(), tests.user(n), n || '@example.nl', r, now()
from (values ('dev', 'developer'), ('vi', 'viewer'), ('udo', 'auditor')) v (n, r);

select private.queue_operation(pg_temp.cid(), 'summary') as one \gset
create function pg_temp.p(p_id uuid) returns jsonb language sql as
  $$ select jsonb_build_object('contextId', pg_temp.cid(), 'operationId', p_id, 'started', jsonb_build_object('operationId', p_id)) $$;
select is(private.operation_ended(jsonb_build_object('id', :'one')), jsonb_build_object('ended', false, 'room', 'context:' || pg_temp.cid()), 'it has not ended');
select private.start_operation(:'one', 'Reading');
select private.progress_operation(:'one', 60, 'Writing'), private.progress_operation(:'one', 20, null);
select tests.act_as('vi');
select is(api.get_context_operation(pg_temp.p(:'one')) - array['id', 'startedAt'], '{"kind": "summary", "status": "running", "progress": 60, "message": "Writing"}',
  'a viewer reads how far it is, which never falls');
select tests.act_as('udo');
select is(api.get_context_operation(pg_temp.p(:'one')) ->> 'status', 'running', 'so does an auditor');
select throws_ok(format($$ select private.complete_operation(%L) $$, :'one'), '42501', null, 'a reader does not end it');
select tests.act_as('stan');
select throws_ok(format($$ select api.get_context_operation(pg_temp.p(%L)) $$, :'one'), 'PT404', 'This context does not exist.', 'a stranger reads nothing');
select is_empty($$ select from public.context_operations $$, 'and sees no row');
select tests.act_anon();
select throws_ok($$ select from public.context_operations $$, '42501', null, 'nor does an anonymous caller');
select tests.reset();
select private.complete_operation(:'one', '{"text": "done"}');
select private.fail_operation(:'one', 'TIMEOUT', 'too late');
select is((select row (status, result ->> 'text', error_code)::text from public.context_operations where id = :'one'), '(completed,done,)', 'the first end stays');
select is(private.operation_ended(jsonb_build_object('id', :'one')) ->> 'ended', 'true', 'it has ended');
select is((select array_agg(audience) from private.event_inbox where type = 'operation_ended' and data ->> 'operationId' = :'one'), array['none'],
  'requests that wait are told, subscribers are not');
select is((private.finished_operation(pg_temp.p(:'one'))).result ->> 'text', 'done', 'the request that waited reads its result');

select private.queue_operation(pg_temp.cid(), 'enrichment') as two, private.queue_operation(pg_temp.cid(), 'compression') as three,
  private.queue_operation(pg_temp.cid(), 'ingestion') as four \gset
select private.fail_operation(:'two', 'PROVIDER_NOT_CONFIGURED', 'No embedding backend.'), private.fail_operation(:'four', 'NETWORK_ERROR', 'No answer.');
select is(private.cancel_operations(pg_temp.cid(), 'compression'), 1, 'one is canceled');
select throws_ok(format($$ select private.finished_operation(pg_temp.p(%L)) $$, :'two'), 'PT503', 'No embedding backend.', 'a failure keeps its code');
select throws_ok(format($$ select private.finished_operation(pg_temp.p(%L)) $$, :'three'), 'PT409', 'The work was cancelled.', 'so does a cancellation');
select throws_ok(format($$ select private.finished_operation(pg_temp.p(%L)) $$, :'four'), 'PT504', 'No answer.', 'and a network that gives no answer');
select throws_ok($$ select private.finished_operation(pg_temp.p(gen_random_uuid())) $$, 'PT404', null, 'one that is gone with its context is no fault of ours');
select tests.act_as('vi');
select is(api.get_context_operation(pg_temp.p(:'two')) -> 'error', '{"code": "PROVIDER_NOT_CONFIGURED", "message": "No embedding backend."}', 'the error is shown');
select throws_ok($$ select api.get_context_operation(pg_temp.p(gen_random_uuid())) $$, 'PT404', 'This context has no such operation.', 'an unknown one is 404');
select tests.reset();
select is((select array_agg(private.job_status(c) order by c) from unnest(array['QUOTA_EXCEEDED', 'REPO_FETCH_FAILED']) c), array[429, 502], 'each code has a status');
select is(private.operation_answer('{"a": 1}', :'two'), jsonb_build_object('a', 1, 'operationId', :'two', 'status', 'queued'), 'the first answer names the operation');
select is(tests.end_old('context_operations', now() + interval '6 days'), 0::bigint, 'it is kept for a week');
select is(tests.end_old('context_operations', now() + interval '8 days'), 4::bigint, 'and then removed');

-- The check of a path, and the changelog of the others.
select tests.act_as('vi');
select throws_ok($$ select private.path_context(pg_temp.p(null), 'developer', 'ingest') $$, 'PT403', 'Your role in this context (viewer) does not allow this.', 'the role is too low');
select tests.reset();
select tests.act_as('dev');
select is(private.path_context(pg_temp.p(null), 'developer', 'ingest'), pg_temp.cid(), 'a developer may');
select throws_ok($$ select private.add_changelog(pg_temp.cid(), 'config', 'x') $$, '42501', null, 'only functions write the changelog');
select tests.reset();
select private.add_changelog(pg_temp.cid(), 'enrichment', 'Knowledge Graph rebuilt', 5, 7);
select is((select row (user_name, user_email, files_added, files_removed, files_modified, description)::text from public.context_changelog where project_id = pg_temp.cid()),
  '(System,system@kijko.ai,5,0,7,"Knowledge Graph rebuilt")', 'a job writes an entry of the system');
select is(private.shown_author((select u from public.users u where id = tests.user('dev'))) <> 'System', true, 'a person has a name');
select is(private.author_json(null, null, null, 'System', 'system@kijko.ai', '2026-01-01Z'),
  '{"id": "00000000-0000-0000-0000-000000000000", "name": "System", "role": "viewer", "email": "system@kijko.ai", "lastActive": "2026-01-01T00:00:00.000Z"}', 'the system as an author');

select * from finish();
rollback;
