-- How a run is shown. A project has at most one open run. All readers are shown the newest run, unless it was cancelled: then it is as if
-- there were none. Errors show on failed runs only, completedAt on completed ones only (contract 10, sections 3.5, 17).

create or replace function private.phase_labels()
returns table (phase text, ordinal integer, label text, short_label text, icon text, code text, attempts integer, max_retries integer)
language sql immutable parallel safe
as $$
  values
    ('repository_fetch', 0, 'Fetching Repository', 'Fetch', 'download', 'REPO_FETCH_FAILED', 3, 3),
    ('parsing', 1, 'Analyzing & Parsing', 'Analyze', 'search', 'PARSING_FAILED', 2, 3),
    ('chunking', 2, 'Semantic Chunking', 'Chunk', 'scissors', 'CHUNKING_FAILED', 2, 2),
    ('optimization', 3, 'Final Optimization', 'Optimize', 'zap', 'OPTIMIZATION_FAILED', 3, 3),
    ('indexing', 4, 'Indexing', 'Index', 'database', 'INDEXING_FAILED', 3, 3)
$$;
comment on function private.phase_labels is 'The five phases in order, with what the screens call them, their error code, automatic attempts and manual retries.';

create or replace function private.is_retryable_code(p_code text) returns boolean
language sql immutable parallel safe
return p_code <> all (array['AUTH_FAILED', 'PERMISSION_DENIED', 'INVALID_CREDENTIALS', 'REPO_NOT_FOUND', 'BRANCH_NOT_FOUND',
  'INVALID_FORMAT', 'QUOTA_EXCEEDED', 'RATE_LIMITED', 'USER_CANCELLED', 'CONTEXT_TOO_LARGE']);
comment on function private.is_retryable_code is 'May a run that failed with this code be retried without changing anything?';

create or replace function private.metrics_json(r public.ingestion_runs) returns jsonb
language sql stable parallel safe
return jsonb_build_object('filesProcessed', r.files_processed, 'totalFiles', r.total_files, 'tokensProcessed', r.tokens_processed,
  'bytesProcessed', r.bytes_processed, 'chunksCreated', r.chunks_created, 'errorsEncountered', r.errors_encountered);
comment on function private.metrics_json is 'IngestionMetrics of the contract.';

create or replace function private.run_json(r public.ingestion_runs) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object(
  'id', r.id, 'projectId', r.project_id, 'phase', r.phase, 'progressPercent', r.percent, 'message', r.message,
  'metrics', private.metrics_json(r), 'startedAt', private.iso(r.started_at),
  'estimatedCompletionAt', case when r.outcome = 'open' then private.iso(r.estimated_completion_at) end,
  'completedAt', private.iso(r.completed_at),
  'errorMessage', case when r.outcome = 'failed' then r.error_message end,
  'errorCode', case when r.outcome = 'failed' then r.error_code end));
comment on function private.run_json is 'IngestionProgress of the contract.';

-- The newest run, whatever its outcome. Runs as the caller: a caller who does not see the project finds nothing.
create or replace function private.newest_run(p_project_id uuid) returns public.ingestion_runs
language sql stable parallel safe
as $$
  select r from public.ingestion_runs r where r.project_id = p_project_id order by r.created_at desc, r.id desc limit 1
$$;
comment on function private.newest_run is 'Newest run of a project under the caller''s own rights, or null.';

create or replace function private.current_progress_json(p_project_id uuid) returns jsonb
language sql stable parallel safe
as $$
  select case when r.outcome <> 'cancelled' then private.run_json(r) end
  from public.ingestion_runs r where r.project_id = p_project_id order by r.created_at desc, r.id desc limit 1
$$;
comment on function private.current_progress_json is
  'IngestionProgress of the newest run under the caller''s own rights, or null when there was none or it was cancelled.';

-- Payloads of the events (contract 30, 8.1). The revision orders them against snapshots: a client that has received revision n needs
-- nothing with a lower one.
create or replace function private.phase_started_json(r public.ingestion_runs) returns jsonb
language sql stable parallel safe
return jsonb_build_object('projectId', r.project_id, 'phase', r.phase, 'message', r.message,
  'startTime', private.iso(r.phase_started_at), 'totalPhases', 5, 'currentPhaseIndex', r.phase_index,
  'runId', r.id, 'revision', r.revision);
comment on function private.phase_started_json is 'Payload of phase_started.';

create or replace function private.progress_update_json(r public.ingestion_runs) returns jsonb
language sql stable parallel safe
return jsonb_build_object('projectId', r.project_id, 'phase', r.phase, 'progressPercent', r.percent,
  'message', r.message, 'metrics', private.metrics_json(r), 'runId', r.id, 'revision', r.revision);
comment on function private.progress_update_json is 'Payload of progress_update.';

create or replace function private.run_error_json(r public.ingestion_runs) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('projectId', r.project_id, 'phase', r.phase, 'errorCode', r.error_code,
  'errorMessage', r.error_message, 'recoverable', private.is_retryable_code(r.error_code), 'retryCount', r.retry_count,
  'maxRetries', case when r.outcome = 'failed' then (select l.max_retries from private.phase_labels() l where l.phase = r.phase) end,
  'failedItems', case when cardinality(r.failed_items) > 0 then to_jsonb(r.failed_items[1:100]) end,
  'runId', r.id, 'revision', r.revision));
comment on function private.run_error_json is 'Payload of error.';

create or replace function private.run_complete_json(r public.ingestion_runs, p_project jsonb) returns jsonb
language sql stable parallel safe
return jsonb_build_object('projectId', r.project_id, 'success', true, 'totalDurationSeconds', r.duration_seconds,
  'finalMetrics', private.metrics_json(r), 'project', p_project, 'runId', r.id, 'revision', r.revision);
comment on function private.run_complete_json is 'Payload of ingestion_complete; the project is the core set of contract 10, 3.1.';

-- The first frames for a W1 socket without a cursor (contract 30, 6.3): [{"type", "data"}] in order. A completion is sent once a person and
-- run; `later` is sent instead to a person who knows of it. Runs as the caller.
create or replace function private.run_snapshot(p_project_id uuid) returns jsonb
language plpgsql stable
as $$
declare
  r public.ingestion_runs := private.newest_run(p_project_id);
  v_project jsonb;
begin
  if r.id is null or r.outcome = 'cancelled' then
    return '[]';
  elsif r.outcome = 'completed' then
    select private.project_json(p) into v_project from public.projects p where p.id = p_project_id;
    return jsonb_build_array(jsonb_build_object('type', 'ingestion_complete', 'data', private.run_complete_json(r, v_project), 'runId', r.id,
      'later', jsonb_build_object('type', 'progress_update',
        'data', private.progress_update_json(r) || '{"status": "completed", "progressPercent": 100}')));
  end if;
  return jsonb_build_array(
      jsonb_build_object('type', 'phase_started', 'data', private.phase_started_json(r)),
      jsonb_build_object('type', 'progress_update', 'data', private.progress_update_json(r)))
    || case when r.outcome = 'failed'
      then jsonb_build_array(jsonb_build_object('type', 'error', 'data', private.run_error_json(r))) else '[]' end;
end
$$;
comment on function private.run_snapshot is
  'Frames that tell a fresh subscriber the state of the newest run, [{type, data, runId?, later?}], under the caller''s own rights; [] when there is nothing to tell.';

-- Returns true for one of a person's sockets, whichever servers they are opened on at the same time.
create or replace function private.notify_completion(p_user_id uuid, p_project_id uuid, p_run_id uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- A crash may lose this row. Then the completion is sent once more, which does no harm.
  perform set_config('synchronous_commit', 'off', true);
  insert into private.reported_completions as t (user_id, project_id, run_id) values (p_user_id, p_project_id, p_run_id)
  on conflict (user_id, project_id) do update set run_id = excluded.run_id where t.run_id <> excluded.run_id;
  return found;
exception when foreign_key_violation then
  -- The project or the person was deleted meanwhile.
  return false;
end
$$;
comment on function private.notify_completion is
  'True for the first who asks whether a person is to be told that a run has completed. Authorization: callable by the server only.';
grant execute on function private.notify_completion to kijko_server;

grant execute on function private.phase_labels, private.is_retryable_code, private.metrics_json, private.run_json,
  private.newest_run, private.current_progress_json, private.phase_started_json, private.progress_update_json, private.run_error_json,
  private.run_complete_json, private.run_snapshot to authenticated, service_role, kijko_server, kijko_worker;

-- The details screen (contract 10, 17.6). The worker leaves phase1Data..phase4Data in the row; the rest is computed here.
create or replace function private.reduction_percent(p_original numeric, p_current numeric) returns numeric
language sql immutable parallel safe
return case when coalesce(p_original, 0) = 0 then 0 else (1 - p_current / p_original) * 100 end;
comment on function private.reduction_percent is 'Percent saved, unrounded; 0 when there was nothing.';

create or replace function private.run_sidebar_json(r public.ingestion_runs, p_at timestamptz default now()) returns jsonb
language sql stable parallel safe
return (
  select jsonb_strip_nulls(jsonb_build_object(
    'originalTokens', t.original, 'currentTokens', t.current,
    'reductionPercent', round(private.reduction_percent(t.original, t.current))::integer,
    'timeElapsedSeconds', greatest(0, floor(extract(epoch from coalesce(r.ended_at, p_at) - r.started_at)))::bigint,
    'estimatedSecondsRemaining', case when r.outcome = 'open'
      then greatest(0, ceil(extract(epoch from r.estimated_completion_at - p_at)))::bigint end,
    'filesProcessed', r.files_processed, 'totalFiles', r.total_files,
    'currentPhaseName', (select l.label from private.phase_labels() l where l.phase = r.phase)))
  from (select r.tokens_processed as original,
    coalesce(r.optimized_tokens, (r.detail #>> '{phase4Data,tokenReduction,currentTokens}')::bigint, r.tokens_processed) as current) t
);
comment on function private.run_sidebar_json is 'sidebarMetrics of the contract.';

create or replace function private.run_details_json(r public.ingestion_runs, p_at timestamptz default now()) returns jsonb
language sql stable parallel safe
return jsonb_build_object(
  'currentPhase', r.phase,
  'phases', (
    select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('phase', l.phase,
      'status', case when r.outcome = 'completed' or l.ordinal < r.phase_index then 'completed'
        when l.ordinal > r.phase_index then 'pending' when r.outcome = 'failed' then 'error' else 'active' end,
      'label', l.label, 'shortLabel', l.short_label, 'icon', l.icon,
      'startedAt', r.phase_times -> l.phase ->> 'startedAt', 'completedAt', r.phase_times -> l.phase ->> 'completedAt',
      'errorMessage', case when l.phase = r.phase and r.outcome = 'failed' then r.error_message end)) order by l.ordinal)
    from private.phase_labels() l),
  'phase1Data', r.detail -> 'phase1Data', 'phase2Data', r.detail -> 'phase2Data',
  'phase3Data', r.detail -> 'phase3Data', 'phase4Data', r.detail -> 'phase4Data',
  'sidebarMetrics', private.run_sidebar_json(r, p_at),
  'startedAt', private.iso(r.started_at),
  'error', case when r.outcome = 'failed' then jsonb_build_object('code', r.error_code, 'message', r.error_message, 'phase', r.phase,
    'recoverable', private.is_retryable_code(r.error_code)) end);
comment on function private.run_details_json is 'IngestionProgressState of the contract, without isMinimized.';
grant execute on function private.reduction_percent, private.run_sidebar_json, private.run_details_json to authenticated, service_role;

-- Ends the open run of a project as cancelled, if there is one: called when the user cancels and when a project is deleted. The status of
-- the project and the events follow by trigger. The worker notices within a second, and its later writes change nothing.
create or replace function private.cancel_active_run(p_project_id uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.ingestion_runs
  set outcome = 'cancelled', error_code = 'USER_CANCELLED', error_message = 'The ingestion was cancelled.', message = 'Cancelled'
  where project_id = p_project_id and outcome = 'open';
  return found;
end
$$;
comment on function private.cancel_active_run is
  'Cancels the open run of a project; true when there was one. Authorization: callable by definer functions of ours that have authorized the caller.';
