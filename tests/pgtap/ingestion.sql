begin;
select no_plan();

-- Anna owns the project; Dev, Vi and Udo are developer, viewer and auditor; Stan belongs to another organization.
select tests.user('anna');
select tests.member('dev', 'anna', 'member'), tests.member('vi', 'anna', 'member'), tests.member('udo', 'anna', 'member'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-000000000001'::uuid $$;
create function pg_temp.p(p_body text default '{}') returns jsonb language sql as $$ select jsonb_build_object('projectId', pg_temp.pid(), 'body', p_body::jsonb) $$;
create function pg_temp.rid() returns uuid language sql security definer as $$ select id from public.ingestion_runs where project_id = pg_temp.pid() order by created_at desc, id desc limit 1 $$;

select tests.act_as('anna');
select lives_ok($$ select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Private one'))) $$, 'the owner makes a project');
select throws_ok($$ select api.start_ingestion(pg_temp.p()) $$, 'PT400', 'The project has no sources yet. Add a repository, files or text first.', 'without sources there is nothing to start');
select lives_ok($$ select api.update_manual_content(pg_temp.p('{"content": "ten letters at least"}')) $$, 'a text is a source');
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), tests.user(n), n || '@example.nl', r, now()
from (values ('dev', 'developer'), ('vi', 'viewer'), ('udo', 'auditor')) v (n, r);

-- ------------------------------------------------------------------------------------------------------------- who may start
select tests.act_as('vi');
select throws_ok($$ select api.start_ingestion(pg_temp.p()) $$, 'PT403', 'Your role in this project (viewer) does not allow this.', 'a viewer starts nothing');
select is(api.get_ingestion_progress(pg_temp.p()), null, 'and sees that there was no run');
select tests.act_as('stan');
select throws_ok($$ select api.start_ingestion(pg_temp.p()) $$, 'PT404', 'This project does not exist.', 'for a stranger there is no project');
select throws_ok($$ select api.get_ingestion_progress(pg_temp.p()) $$, 'PT404', 'There is no such project.', 'and no progress');
select tests.act_as('dev');
select throws_ok($$ select api.start_ingestion(pg_temp.p('{"projectId": "00000000-0000-4000-8000-000000000009"}')) $$, 'PT400',
  'The project in the body is not the one in the address.', 'body and path must agree');
select is(api.prepare_ingestion(pg_temp.p()) ->> 'repositories', '[]', 'the checks before the network name what to ask');
select is(api.start_ingestion(pg_temp.p()) ->> 'status', 'processing', 'a developer starts');
select throws_ok($$ select api.start_ingestion(pg_temp.p('{"forceReprocess": true}')) $$, 'PT409', 'An ingestion of this project is running already.', 'once');
select is(api.get_ingestion_progress(pg_temp.p()) ->> 'phase', 'repository_fetch', 'it begins with the first phase');
select is((select count(*)::int from public.ingestion_runs), 1, 'its row is seen');
select throws_ok($$ update public.ingestion_runs set percent = 50 $$, '42501', 'permission denied for table ingestion_runs', 'and not written');
select tests.act_as('stan');
select is_empty($$ select from public.ingestion_runs $$, 'a stranger sees no run');
select tests.act_anon();
select throws_ok($$ select from public.ingestion_runs $$, '42501', 'permission denied for table ingestion_runs', 'nobody in particular sees nothing');
select tests.reset();
select is((select status from public.projects where id = pg_temp.pid()), 'processing', 'the project is being processed');
select is((select used::int from public.usage where organization_id = tests.org('anna') and metric = 'ingestions'), 1, 'one unit was used');
select is((select count(*)::int from jobs.gue_jobs where job_type = 'ingestion.run'), 1, 'one job waits');
select is((select array_agg(type order by seq) from private.event_inbox where entity = 'ingestion_runs'), array['phase_started'], 'one event was told');

-- --------------------------------------------------------------------------------------------------------- the state machine
select throws_ok($$ update public.ingestion_runs set phase = 'chunking' where id = pg_temp.rid() $$, 'PT400', 'After phase "repository_fetch" comes only the next one.', 'no phase is jumped over');
update public.ingestion_runs set percent = 60, message = 'Half', total_files = 9 where id = pg_temp.rid();
update public.ingestion_runs set percent = 20, total_files = 3 where id = pg_temp.rid();
select is((select row (percent, total_files)::text from public.ingestion_runs where id = pg_temp.rid()), '(60,9)', 'percent and counts never fall');
update public.ingestion_runs set attempt = 2, percent = 0 where id = pg_temp.rid();
select is((select percent::int from public.ingestion_runs where id = pg_temp.rid()), 0, 'but for an automatic retry');
select is((select array_agg(type order by seq) from private.event_inbox where entity = 'ingestion_runs'),
  array['phase_started', 'progress_update', 'phase_started'], 'which is a phase_started again; ignored changes are told nobody');
select throws_ok($$ insert into public.ingestion_runs (organization_id, project_id) values (tests.org('anna'), pg_temp.pid()) $$, '23505',
  'duplicate key value violates unique constraint "ingestion_runs_one_open_key"', 'a second open run cannot exist');
select throws_ok($$ insert into public.ingestion_runs (organization_id, project_id, outcome, error_code, error_message, ended_at) values (tests.org('stan'), pg_temp.pid(), 'failed', 'X', 'x', now()) $$, '23503', null, 'nor one under another tenant');

-- --------------------------------------------------------------------------------------------------------------- the service
select tests.act_as('anna');
select throws_ok($$ select api.update_ingestion_progress(pg_temp.p('{"progressPercent": 1}')) $$, '42501', 'permission denied for function update_ingestion_progress', 'people write no progress');
select tests.act_service();
select is(api.update_ingestion_progress(pg_temp.p('{"phase": "parsing", "progressPercent": 12.9, "metrics": {"filesProcessed": 2}}')) ->> 'progressPercent', '12', 'the service does; rounded down');
select throws_ok($$ select api.update_ingestion_progress(pg_temp.p('{"metrics": {"filesProcessed": -1}}')) $$, 'PT400', 'A metric is a whole number from 0.', 'not nonsense');
select is(api.save_progress_snapshot(pg_temp.p('{"filesProcessed": 5, "totalFiles": 9, "tokensProcessed": 1, "bytesProcessed": 1, "chunksCreated": 0, "errorsEncountered": 0}')) ->> 'success', 'true', 'a snapshot is saved');
select tests.reset();
select is((select (array_agg(type order by seq desc))[1] from private.event_inbox where entity = 'ingestion_runs'), 'phase_started', 'and told nobody');
select is((select files_processed::int from public.ingestion_runs where id = pg_temp.rid()), 5, 'but kept');

-- ---------------------------------------------------------------------------------------------------------- leases and storing
select isnt(private.claim_run(pg_temp.rid(), '00000000-0000-4000-8000-00000000000a', 15), null, 'a worker takes the lease');
select is(private.claim_run(pg_temp.rid(), '00000000-0000-4000-8000-00000000000b', 15), null, 'another one gets none');
select is(private.report_run(pg_temp.rid(), '00000000-0000-4000-8000-00000000000b', '{"progressPercent": 99}'), false, 'and changes nothing');
select throws_ok($$ select private.store_terms(pg_temp.rid(), '00000000-0000-4000-8000-00000000000b', '{}', '{}') $$, 'PT409', 'This ingestion has ended or is in other hands.', 'nor stores anything');
select is(private.sweep_runs(), 0, 'a held run is left alone');
delete from jobs.gue_jobs;
update public.ingestion_runs set lease_expires_at = now() - interval '1 second' where id = pg_temp.rid();
select is(private.sweep_runs(), 1, 'an expired lease gets a job');
select is(private.sweep_runs(), 0, 'one');
select is(private.claim_run(pg_temp.rid(), '00000000-0000-4000-8000-00000000000c', 15) ->> 'restarts', '1', 'and the run goes on elsewhere');
select lives_ok($$ select private.store_files(pg_temp.rid(), '00000000-0000-4000-8000-00000000000c', array['00000000-0000-4000-8000-0000000000f1']::uuid[], array[0], array['manual'],
  array[null]::uuid[], array['manual-content.md'], array['markdown'], array['documentation'], array[20], array[4], array[4], array[decode(repeat('ab', 32), 'hex')], array['{}']::jsonb[],
  array['{"removed": [0, 0, 0, 0], "lost": 0, "kept": 1}']::jsonb[], array['\xaa'::bytea]) $$, 'it stores a file');
select lives_ok($$ select private.store_chunks(pg_temp.rid(), '00000000-0000-4000-8000-00000000000c', array['00000000-0000-4000-8000-0000000000c1']::uuid[], array['00000000-0000-4000-8000-0000000000f1']::uuid[],
  array[0], array[1], array[1], array['documentation'], array[4], array['ten letters at least'], array['\xab'::bytea], array[null]::uuid[], array[null]::uuid[], array['{}']::jsonb[]) $$, 'and a chunk');
select throws_ok($$ select private.survey_tables(pg_temp.rid(), '00000000-0000-4000-8000-00000000000b') $$, 'PT409', 'This ingestion has ended or is in other hands.', 'who holds no lease surveys nothing');
select lives_ok($$ select private.survey_tables(pg_temp.rid(), '00000000-0000-4000-8000-00000000000c') $$, 'who holds it does');
select cmp_ok((select min(reltuples) from pg_class where oid in ('public.run_files'::regclass, 'public.chunks'::regclass)), '>', 0::real, 'so that the next plans know of the rows');
select tests.act_as('anna');
select is_empty($$ select from public.chunks $$, 'which nobody sees before the end');
select tests.reset();
select private.store_blobs(pg_temp.rid(), '00000000-0000-4000-8000-00000000000c', array[decode(repeat('ab', 32), 'hex')], array['ten letters at least'::bytea], array[false], array[4], array[1]);
select private.store_manifest(pg_temp.rid(), '00000000-0000-4000-8000-00000000000c', true, array['manual-content.md'], array[decode(repeat('ab', 32), 'hex')], array['manual'],
  array[null]::uuid[], array['markdown'], array[false], array[20], array[4]);
select is(private.finish_run(pg_temp.rid(), '00000000-0000-4000-8000-00000000000c', '{"metrics": {"filesProcessed": 9}}'), true, 'the run ends');
select is((select (status, total_files, optimized_tokens)::text from public.projects where id = pg_temp.pid()), '(active,9,4)', 'the project has its numbers; tokens counted from what is stored');
select throws_ok($$ update public.ingestion_runs set message = 'late' where id = pg_temp.rid() $$, 'PT409', 'This ingestion has ended; a late write changes nothing.', 'an ended run is final');
select tests.act_service();
select throws_ok($$ select api.complete_ingestion(pg_temp.p('{"metrics": {}, "totalDurationSeconds": 1}')) $$, 'PT409', 'No ingestion of this project is running.', 'also for the service');
select is(api.save_progress_snapshot(pg_temp.p('{}')) ->> 'success', 'false', 'a snapshot says so');
select tests.act_as('vi');
select is((select count(*)::int from public.chunks), 1, 'a viewer reads the chunks');
select is(api.get_ingestion_result(pg_temp.p()) ->> 'filesProcessed', '9', 'and the result');
select tests.act_as('udo');
select is_empty($$ select from public.chunks $$, 'an auditor does not');
select isnt(api.get_ingestion_progress(pg_temp.p()), null, 'but sees the progress');
select is(api.get_completion(pg_temp.p() || '{"persona": "sam"}') -> 'samMetrics' ->> 'chunksCreated', '0', 'and the completion screen');
select tests.act_as_claims('stan');
select is_empty($$ select from public.chunks $$, 'a stranger with claims finds nothing');

-- ---------------------------------------------------------------------------------------------------- a completion, published once
select tests.reset();
select is((select array_agg(f ->> 'type') || array_agg(f -> 'later' ->> 'type') || array_agg(f -> 'later' -> 'data' ->> 'status') || array_agg(f -> 'later' -> 'data' ->> 'progressPercent')
  from jsonb_array_elements(private.run_snapshot(pg_temp.pid())) f), array['ingestion_complete', 'progress_update', 'completed', '100'], 'a fresh socket is told of the end, a later one of the state');
set local role kijko_server;
select is(private.notify_completion(tests.user('dev'), pg_temp.pid(), '00000000-0000-4000-8000-000000000001'), true, 'the first socket of a person is told');
select is(private.notify_completion(tests.user('dev'), pg_temp.pid(), '00000000-0000-4000-8000-000000000001'), false, 'the second is not');
select is(private.notify_completion(tests.user('udo'), pg_temp.pid(), '00000000-0000-4000-8000-000000000001'), true, 'another person is');
select is(private.notify_completion(tests.user('dev'), pg_temp.pid(), '00000000-0000-4000-8000-000000000002'), true, 'and everybody of the next run');
select is(private.notify_completion(tests.user('dev'), gen_random_uuid(), gen_random_uuid()), false, 'of a project that went meanwhile nothing is told');
reset role;
select is((select count(*)::int from private.reported_completions), 2, 'one row a person and project');
select tests.act_as('dev');
select throws_ok($$ select private.notify_completion(null, null, null) $$, '42501', null, 'people do not call it');

-- -------------------------------------------------------------------------------------------------------------------- failure
select tests.act_as('dev');
select throws_ok($$ select api.start_ingestion(pg_temp.p()) $$, 'PT409', 'The project''s status is "active". Start with forceReprocess to ingest it again.', 'a done project is started again on purpose only');
select lives_ok($$ select api.start_ingestion(pg_temp.p('{"forceReprocess": true}')) $$, 'which it is');
select tests.act_service();
select is(api.update_ingestion_progress(pg_temp.p('{"errorCode": "NETWORK_ERROR", "errorMessage": "The line is dead."}')) ->> 'errorCode', 'NETWORK_ERROR', 'an error code fails the run');
select tests.act_as('dev');
select is(api.get_progress_details(pg_temp.p()) -> 'error' ->> 'recoverable', 'true', 'the screen says that it can be retried');
select is(api.get_recovery(pg_temp.p()) -> 'options' -> 0 ->> 'action', 'retry_branch', 'and how');
select is((select jsonb_array_length(private.run_snapshot(pg_temp.pid()))), 3, 'a fresh socket is told of phase, progress and error');
select lives_ok($$ select api.recover_ingestion(pg_temp.p('{"action": "retry"}')) $$, 'a retry costs nothing');
select is(api.get_recovery(pg_temp.p()), null, 'while it runs there is nothing to recover');
select lives_ok($$ select api.cancel_ingestion(pg_temp.p()) $$, 'it is cancelled');
select is(api.get_ingestion_progress(pg_temp.p()), null, 'as if there were no run');
select is((select count(*)::int from public.chunks), 1, 'the earlier index stays');
select throws_ok($$ select api.recover_ingestion(pg_temp.p('{"action": "retry"}')) $$, 'PT409', 'The last ingestion of this project did not fail.', 'a cancelled run is not recovered');
select tests.reset();
select is((select used::int from public.usage where organization_id = tests.org('anna') and metric = 'ingestions'), 2, 'two starts were paid, the retry was not');
select is((select status from public.projects where id = pg_temp.pid()), 'draft', 'a cancelled project is a draft');
select is((select retry_count from public.ingestion_runs where id = pg_temp.rid()), 1, 'the retry was counted');

-- ------------------------------------------------------------------------------------------------------------------ schedules
update private.schedules set run_at = now() - interval '1 second';
select is(private.run_due(100), (select count(*)::int from private.schedules), 'what is due is done');
select is(private.run_due(100), 0, 'once');
select is((select count(*)::int from private.schedules where run_at <= now()), 0, 'and due again later');

select * from finish();
rollback;
