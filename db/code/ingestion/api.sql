-- The operations of ingestion (contract 10, sections 17, 19, 20). Each runs as its caller. A change goes through a definer function that
-- authorizes the caller.

-- A caller who does not see the project learns nothing about it, not even that it has no runs.
create or replace function private.visible_project(p_project_id uuid) returns uuid
language plpgsql stable
as $$
begin
  if not exists (select from public.projects where id = p_project_id) then
    perform private.refuse(404, 'PROJECT_NOT_FOUND', 'There is no such project.');
  end if;
  return p_project_id;
end
$$;
comment on function private.visible_project is 'The id, if the caller sees the project; else 404 PROJECT_NOT_FOUND.';
grant execute on function private.visible_project to authenticated;

create or replace function private.assert_same_project(p_project_id uuid, p_body jsonb) returns void
language plpgsql stable
as $$
begin
  if p_body ? 'projectId' and private.as_uuid(p_body ->> 'projectId') is distinct from p_project_id then
    perform private.refuse_field('projectId', 'The project in the body is not the one in the address.');
  end if;
end
$$;
comment on function private.assert_same_project is '400 when a body names another project than the path.';
grant execute on function private.assert_same_project to authenticated, service_role;

-- Makes the checks before the server uses the network, and returns what the server has to check there. Read-only: it may be called at any
-- time.
create or replace function api.prepare_ingestion(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'projectId');
  v public.projects;
begin
  perform private.assert_same_project(v_id, p -> 'body');
  v := private.assert_startable(v_id, coalesce(private.as_bool(p -> 'body' -> 'forceReprocess', 'forceReprocess'), false));
  return jsonb_strip_nulls(jsonb_build_object(
    'repositories', (select coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'provider', r.provider, 'url', r.repository_url, 'branch', r.branch)
        order by r.created_at, r.id), '[]')
      from public.project_repositories r where r.project_id = v_id),
    'webhookUrl', (select s.webhook_url from public.project_settings s where s.project_id = v_id and v.chunking_strategy = 'custom'),
    'needsWebhook', v.chunking_strategy = 'custom',
    'needsEmbeddings', (select s.output_format = 'vector' from public.project_settings s where s.project_id = v_id)));
end
$$;
comment on function api.prepare_ingestion is
  'Checks 1 to 4 of a start and what check 5 has to look at: {repositories: [{id, provider, url, branch}], webhookUrl?, needsWebhook, needsEmbeddings}. Errors: 404, 403, 409, 400 NO_SOURCES.';
grant execute on function api.prepare_ingestion to authenticated;

create or replace function api.start_ingestion(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'projectId');
begin
  perform private.assert_same_project(v_id, p -> 'body');
  return private.start_run(v_id, coalesce(private.as_bool(p -> 'body' -> 'forceReprocess', 'forceReprocess'), false));
end
$$;
comment on function api.start_ingestion is
  'Queues a run. Errors: 404 PROJECT_NOT_FOUND, 403 FORBIDDEN, 409 ALREADY_PROCESSING, 409 INVALID_STATUS, 400 NO_SOURCES, 429 QUOTA_EXCEEDED.';
grant execute on function api.start_ingestion to authenticated;

create or replace function private.cancel_run(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.assert_project_role(p_project_id, 'developer');
  if not private.cancel_active_run(p_project_id) then
    perform private.refuse(409, 'NO_ACTIVE_INGESTION', 'No ingestion of this project is running.');
  end if;
end
$$;
comment on function private.cancel_run is 'The user''s cancel. Authorization: developer of the project or above. Errors: 404, 403, 409 NO_ACTIVE_INGESTION.';
grant execute on function private.cancel_run to authenticated;

create or replace function api.cancel_ingestion(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  perform private.cancel_run(private.as_uuid(p ->> 'projectId'));
  return '{"success": true}';
end
$$;
comment on function api.cancel_ingestion is 'Cancels the open run. Errors: 404 PROJECT_NOT_FOUND, 403 FORBIDDEN, 409 NO_ACTIVE_INGESTION.';
grant execute on function api.cancel_ingestion to authenticated;

create or replace function api.get_ingestion_progress(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'projectId');
  v_json jsonb := private.current_progress_json(v_id);
begin
  -- The run is under the project's own policy, so finding a run answers both questions with one look-up.
  if v_json is null then
    perform private.visible_project(v_id);
  end if;
  return v_json;
end
$$;
comment on function api.get_ingestion_progress is 'IngestionProgress of the newest run, or null. Errors: 404 PROJECT_NOT_FOUND.';
grant execute on function api.get_ingestion_progress to authenticated;

create or replace function api.get_progress_details(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  r public.ingestion_runs := private.newest_run(private.visible_project(private.as_uuid(p ->> 'projectId')));
begin
  return case when r.id is not null and r.outcome <> 'cancelled' then private.run_details_json(r) end;
end
$$;
comment on function api.get_progress_details is 'IngestionProgressState of the newest run, or null. Errors: 404 PROJECT_NOT_FOUND.';
grant execute on function api.get_progress_details to authenticated;

-- The three service routes.
create or replace function api.update_ingestion_progress(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'projectId');
begin
  perform private.assert_same_project(v_id, p -> 'body');
  return private.service_write_run('update', v_id, p -> 'body');
end
$$;
comment on function api.update_ingestion_progress is
  'Progress written by an external worker. Errors: 404 PROJECT_NOT_FOUND, 409 NO_ACTIVE_INGESTION, 400 VALIDATION_ERROR.';
create or replace function api.save_progress_snapshot(p jsonb) returns jsonb
language sql volatile
as $$ select private.service_write_run('snapshot', private.as_uuid(p ->> 'projectId'), p -> 'body') $$;
comment on function api.save_progress_snapshot is 'Metrics of an external worker; success false without an active run. Errors: 404 PROJECT_NOT_FOUND.';
create or replace function api.complete_ingestion(p jsonb) returns jsonb
language sql volatile
as $$ select private.service_write_run('complete', private.as_uuid(p ->> 'projectId'), p -> 'body') $$;
comment on function api.complete_ingestion is 'The end of an external worker''s run. Errors: 404 PROJECT_NOT_FOUND, 409 NO_ACTIVE_INGESTION.';
grant execute on function api.update_ingestion_progress, api.save_progress_snapshot, api.complete_ingestion to service_role;

-- The last completed run, which a cancelled or failed one does not replace.
create or replace function private.last_completed_run(p_project_id uuid) returns public.ingestion_runs
language plpgsql stable
as $$
declare
  r public.ingestion_runs;
begin
  perform private.visible_project(p_project_id);
  select * into r from public.ingestion_runs
  where project_id = p_project_id and outcome = 'completed' order by created_at desc, id desc limit 1;
  if r.id is null then
    perform private.refuse(404, 'INGESTION_RESULT_NOT_FOUND', 'This project has no completed ingestion yet.');
  end if;
  return r;
end
$$;
comment on function private.last_completed_run is 'Newest completed run under the caller''s rights. Errors: 404 PROJECT_NOT_FOUND, 404 INGESTION_RESULT_NOT_FOUND.';
grant execute on function private.last_completed_run to authenticated;

create or replace function api.get_ingestion_result(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'projectId');
  r public.ingestion_runs := private.last_completed_run(v_id);
begin
  return jsonb_strip_nulls(jsonb_build_object('projectId', v_id, 'projectName', (select name from public.projects where id = v_id),
    'originalTokens', r.original_tokens, 'optimizedTokens', r.optimized_tokens,
    'reductionPercent', round(private.reduction_percent(r.original_tokens, r.optimized_tokens), 1),
    'savingsBreakdown', coalesce(r.result -> 'savingsBreakdown',
      '{"deduplication": 0, "patternCompression": 0, "whitespace": 0, "importConsolidation": 0}'),
    'performanceStats', jsonb_build_object('ingestionTimeSeconds', r.duration_seconds,
      'queryLatencyMs', coalesce(r.result -> 'queryLatencyMs', '0'), 'relevanceScore', coalesce(r.result -> 'relevanceScore', '0')),
    'filesProcessed', r.files_processed, 'chunksCreated', r.chunks_created, 'languagesDetected', r.result -> 'languagesDetected',
    'filesLeftOut', r.result -> 'filesLeftOut'));
end
$$;
comment on function api.get_ingestion_result is
  'IngestionCompletionData of the last completed run. Errors: 404 PROJECT_NOT_FOUND, 404 INGESTION_RESULT_NOT_FOUND.';
grant execute on function api.get_ingestion_result to authenticated;

create or replace function api.get_completion(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'projectId');
  r public.ingestion_runs := private.last_completed_run(v_id);
  v public.projects;
  v_persona text;
  v_invited integer;
begin
  select * into v from public.projects where id = v_id;
  v_persona := coalesce(p ->> 'persona', (select s.persona from public.project_settings s where s.project_id = v_id), 'alex');
  select count(*) into v_invited from public.project_members m where m.project_id = v_id and m.user_id is distinct from v.user_id;
  return jsonb_build_object('projectId', v_id, 'projectName', v.name, 'persona', v_persona,
      'processingDurationSeconds', r.duration_seconds, 'completedAt', private.iso(r.completed_at))
    || case v_persona
      when 'alex' then jsonb_build_object('alexMetrics', jsonb_build_object(
        'tokensSaved', r.original_tokens - r.optimized_tokens,
        'costSaved', round((r.original_tokens - r.optimized_tokens) / 1e6 * 15, 2), 'currency', 'EUR',
        'processingTimeSeconds', r.duration_seconds))
      when 'maya' then jsonb_build_object('mayaMetrics', jsonb_build_object(
        'repositoriesProcessing', v.total_repos, 'membersInvited', v_invited,
        'projectedHoursSavedPerMonth', 10 * greatest(1, v_invited),
        'roiMultiplier', round(10 * greatest(1, v_invited) * 50 / greatest(29::numeric, private.project_plan_price(v_id)), 1)))
      else jsonb_build_object('samMetrics', jsonb_build_object(
        'tokenReductionPercent', round(private.reduction_percent(r.original_tokens, r.optimized_tokens), 1),
        'queryLatencyMs', coalesce(r.result -> 'queryLatencyMs', '0'), 'relevancePercent', coalesce(r.result -> 'relevanceScore', '0'),
        'chunksCreated', r.chunks_created)) end;
end
$$;
comment on function api.get_completion is
  'CompletionData for one persona. Errors: 404 PROJECT_NOT_FOUND, 404 INGESTION_RESULT_NOT_FOUND.';
grant execute on function api.get_completion to authenticated;

-- A guest of the project does not see the subscription of its organization, and need not: only one public number is returned.
create or replace function private.project_plan_price(p_project_id uuid) returns integer
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select coalesce((select t.price from public.plans t where t.id = private.effective_plan(p.organization_id)), 0)
    from public.projects p where p.id = p_project_id and (private.project_role(p.id) is not null or not private.is_stranger()));
end
$$;
comment on function private.project_plan_price is
  'Monthly price in euro of the plan behind a project. Authorization: those past our server must see the project; the price itself is public.';
grant execute on function private.project_plan_price to authenticated;
