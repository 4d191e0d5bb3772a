-- How a run begins, and how its owner (the worker with the lease, or an external worker through the service routes) moves it. Triggers do
-- everything that follows from a change of the row (project status, repositories, current index, events, jobs), so that no code path can
-- miss it.

-- The checks of contract 10, 17.1 that need no network, in its order. Locks the project, so of two starts one sees the other's run.
create or replace function private.assert_startable(p_project_id uuid, p_force boolean) returns public.projects
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v public.projects;
begin
  perform private.assert_project_role(p_project_id, 'developer');
  -- A reading caller (the checks before the network check) takes no lock.
  if current_setting('transaction_read_only') = 'on' then
    select * into v from public.projects where id = p_project_id;
  else
    select * into v from public.projects where id = p_project_id for no key update;
  end if;
  if exists (select from public.ingestion_runs where project_id = p_project_id and outcome = 'open') then
    perform private.refuse(409, 'ALREADY_PROCESSING', 'An ingestion of this project is running already.');
  elsif v.status <> 'draft' and not p_force then
    perform private.refuse(409, 'INVALID_STATUS',
      format('The project''s status is "%s". Start with forceReprocess to ingest it again.', v.status), null,
      jsonb_build_object('status', v.status));
  elsif v.source_count = 0 and v.uploaded_files = 0 then
    perform private.refuse(400, 'NO_SOURCES', 'The project has no sources yet. Add a repository, files or text first.');
  end if;
  return v;
end
$$;
comment on function private.assert_startable is
  'Refuses a start that must not be: 404, 403, 409 ALREADY_PROCESSING or INVALID_STATUS, 400 NO_SOURCES. Authorization: developer of the project or above.';

-- Estimates 10 + 5 a repository + a second per 5,000 tokens, within 10 s and an hour. Forecast tokens are bytes / 4; the measured tokens of
-- an earlier run are better.
create or replace function private.estimate_run_seconds(p public.projects) returns integer
language plpgsql stable security definer set search_path = ''
as $$
begin
  return least(3600, greatest(10, 10 + 5 * p.total_repos + ceil(coalesce(p.original_tokens::numeric, (
      select coalesce(sum(f.size), 0) from public.project_files f where f.project_id = p.id and f.storage_key is not null) / 4
    + (select coalesce(max(octet_length(m.content)), 0) from public.project_manual_contents m where m.project_id = p.id) / 4) / 5000)))::integer;
end
$$;
comment on function private.estimate_run_seconds is 'estimatedDurationSeconds of the contract. Authorization: callable by definer functions of ours only.';

create or replace function private.start_answer(r public.ingestion_runs) returns jsonb
language sql stable parallel safe
return jsonb_build_object('jobId', r.id, 'projectId', r.project_id, 'status', 'processing',
  'wsNamespaceUrl', '/api/projects/' || r.project_id || '/ws',
  'estimatedDurationSeconds', round(extract(epoch from r.estimated_completion_at - r.started_at))::integer);
comment on function private.start_answer is 'StartIngestionResponse of the contract.';

create or replace function private.start_run(p_project_id uuid, p_force boolean) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project public.projects := private.assert_startable(p_project_id, p_force);
  r public.ingestion_runs;
begin
  r := private.insert_run(p_project_id, jsonb_build_object('force', p_force), private.user_id());
  perform private.consume_quota(v_project.organization_id, 'ingestions', 1);
  perform private.record_activity(p_project_id, 'ingestion', 'started an ingestion', jsonb_build_object('runId', r.id));
  return private.start_answer(r);
end
$$;
comment on function private.start_run is
  'Opens a run, paid for in this transaction. Authorization: as private.assert_startable. Errors: those, and 429 QUOTA_EXCEEDED.';
grant execute on function private.assert_startable, private.start_answer, private.start_run to authenticated;

-- Metrics as a writer sends them, merged into the row. Unknown names are ignored, wrong types are refused.
create or replace function private.apply_metrics(r public.ingestion_runs, p_metrics jsonb) returns public.ingestion_runs
language plpgsql stable
as $$
declare
  v_key text;
  v jsonb;
begin
  for v_key, v in select * from jsonb_each(p_metrics) loop
    if v_key in ('totalFiles', 'filesProcessed', 'tokensProcessed', 'bytesProcessed', 'chunksCreated', 'errorsEncountered')
      and (jsonb_typeof(v) <> 'number' or v::numeric not between 0 and 9007199254740991 or v::numeric <> trunc(v::numeric)) then
      perform private.refuse_field('metrics.' || v_key, 'A metric is a whole number from 0.');
    end if;
  end loop;
  r.total_files := coalesce((p_metrics ->> 'totalFiles')::numeric::bigint, r.total_files);
  r.files_processed := coalesce((p_metrics ->> 'filesProcessed')::numeric::bigint, r.files_processed);
  r.tokens_processed := coalesce((p_metrics ->> 'tokensProcessed')::numeric::bigint, r.tokens_processed);
  r.bytes_processed := coalesce((p_metrics ->> 'bytesProcessed')::numeric::bigint, r.bytes_processed);
  r.chunks_created := coalesce((p_metrics ->> 'chunksCreated')::numeric::bigint, r.chunks_created);
  r.errors_encountered := coalesce((p_metrics ->> 'errorsEncountered')::numeric::bigint, r.errors_encountered);
  return r;
end
$$;
comment on function private.apply_metrics is 'The run with the given metrics; absent ones keep. Errors: 400 on a metrics.* field.';

-- One write of progress. p: phase, progressPercent, message, metrics, estimatedCompletionAt, detail (merged), checkpoint (merged), attempt.
-- The trigger refuses invalid steps (a skipped phase, a lower percent).
create or replace function private.write_progress(p_run_id uuid, p jsonb) returns public.ingestion_runs
language plpgsql volatile
as $$
declare
  r public.ingestion_runs;
  n public.ingestion_runs;
begin
  select * into r from public.ingestion_runs where id = p_run_id for no key update;
  n := private.apply_metrics(r, coalesce(p -> 'metrics', '{}'));
  update public.ingestion_runs set
    phase = coalesce(p ->> 'phase', phase),
    percent = coalesce(floor((p ->> 'progressPercent')::numeric)::smallint,
      case when p ->> 'phase' <> phase or (p ->> 'attempt')::integer > attempt then 0 else percent end),
    message = coalesce(p ->> 'message', message),
    total_files = n.total_files, files_processed = n.files_processed, tokens_processed = n.tokens_processed,
    bytes_processed = n.bytes_processed, chunks_created = n.chunks_created, errors_encountered = n.errors_encountered,
    estimated_completion_at = coalesce((p ->> 'estimatedCompletionAt')::timestamptz, estimated_completion_at),
    detail = detail || coalesce(p -> 'detail', '{}'),
    checkpoint = checkpoint || coalesce(p -> 'checkpoint', '{}'),
    attempt = coalesce((p ->> 'attempt')::integer, attempt)
  where id = p_run_id
  returning * into r;
  return r;
end
$$;
comment on function private.write_progress is 'Lays a progress report over a run. Runs with the rights of the function that calls it.';

-- Success. Durations come from the clock unless an external worker reports its own.
create or replace function private.write_completion(p_run_id uuid, p jsonb) returns public.ingestion_runs
language plpgsql volatile
as $$
declare
  r public.ingestion_runs;
  n public.ingestion_runs;
  v_stored bigint;
begin
  select * into r from public.ingestion_runs where id = p_run_id for no key update;
  n := private.apply_metrics(r, coalesce(p -> 'metrics', '{}'));
  -- Without counts, the numbers are those of the stored files; a run that stored nothing saved nothing.
  select sum(f.optimized_tokens) into v_stored from public.run_files f where f.organization_id = r.organization_id and f.run_id = r.id;
  update public.ingestion_runs set
    outcome = 'completed', percent = 100, message = coalesce(p ->> 'message', 'Completed'),
    total_files = n.total_files, files_processed = n.files_processed, tokens_processed = n.tokens_processed,
    bytes_processed = n.bytes_processed, chunks_created = n.chunks_created, errors_encountered = n.errors_encountered,
    original_tokens = coalesce((p ->> 'originalTokens')::numeric::bigint, n.tokens_processed),
    optimized_tokens = coalesce((p ->> 'optimizedTokens')::numeric::bigint, v_stored, n.tokens_processed),
    duration_seconds = round(coalesce((p ->> 'totalDurationSeconds')::numeric, extract(epoch from clock_timestamp() - started_at)))::integer,
    result = coalesce(p -> 'result', result),
    detail = detail || coalesce(p -> 'detail', '{}'),
    checkpoint = checkpoint || coalesce(p -> 'checkpoint', '{}')
  where id = p_run_id
  returning * into r;
  return r;
end
$$;
comment on function private.write_completion is 'Ends a run as completed. Runs with the rights of the function that calls it.';

create or replace function private.write_failure(
  p_run_id uuid, p_code text, p_message text, p_failed_items text[] default '{}', p_checkpoint jsonb default '{}'
) returns public.ingestion_runs
language sql volatile
as $$
  update public.ingestion_runs set outcome = 'failed', error_code = left(coalesce(nullif(p_code, ''), 'UNKNOWN_ERROR'), 50),
    error_message = left(coalesce(nullif(p_message, ''), 'The ingestion failed.'), 2000), message = left(coalesce(nullif(p_message, ''), 'Failed'), 2000),
    failed_items = coalesce(p_failed_items[1:1000], '{}'), checkpoint = checkpoint || coalesce(p_checkpoint, '{}')
  where id = p_run_id and outcome = 'open'
  returning *
$$;
comment on function private.write_failure is 'Ends a run as failed. Runs with the rights of the function that calls it.';

-- The service routes (contract 10, 17.3): external workers name the project, not the run.
create or replace function private.open_run_of(p_project_id uuid) returns public.ingestion_runs
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.ingestion_runs;
begin
  if not exists (select from public.projects where id = p_project_id) then
    perform private.refuse(404, 'PROJECT_NOT_FOUND', 'There is no such project.');
  end if;
  select * into r from public.ingestion_runs where project_id = p_project_id and outcome = 'open' for no key update;
  return r;
end
$$;
comment on function private.open_run_of is
  'The open run of a project, locked, or null. Authorization: callable by the service role only. Errors: 404 PROJECT_NOT_FOUND.';

create or replace function private.service_write_run(p_action text, p_project_id uuid, p_body jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.ingestion_runs := private.open_run_of(p_project_id);
begin
  if p_action = 'snapshot' then
    if r.id is not null then
      -- Metrics only, and no event (contract 30, 10.2).
      perform set_config('app.quiet_run', r.id::text, true);
      perform private.write_progress(r.id, jsonb_build_object('metrics', coalesce(p_body -> 'metrics', p_body)));
      perform set_config('app.quiet_run', '', true);
    end if;
    return jsonb_build_object('success', r.id is not null, 'timestamp', private.iso(clock_timestamp()));
  elsif r.id is null then
    perform private.refuse(409, 'NO_ACTIVE_INGESTION', 'No ingestion of this project is running.');
  elsif p_action = 'complete' then
    perform private.write_completion(r.id, p_body);
    return '{"success": true}';
  end if;
  if p_body ? 'phase' or p_body ? 'progressPercent' or p_body ? 'message' or p_body ? 'metrics' or p_body ? 'estimatedCompletionAt' then
    r := private.write_progress(r.id, p_body - array['detail', 'checkpoint', 'attempt']);
  end if;
  if nullif(p_body ->> 'errorCode', '') is not null or nullif(p_body ->> 'errorMessage', '') is not null then
    r := private.write_failure(r.id, p_body ->> 'errorCode', p_body ->> 'errorMessage');
  end if;
  return private.run_json(r);
end
$$;
comment on function private.service_write_run is
  'update, snapshot or complete of a project''s open run. Authorization: callable by the service role only. Errors: 404, 409 NO_ACTIVE_INGESTION, 400.';
grant execute on function private.service_write_run to service_role;

create or replace function private.like_prefix(p_prefix text) returns text
language sql immutable parallel safe
return replace(replace(replace(p_prefix, '\', '\\'), '%', '\%'), '_', '\_') || '%';
comment on function private.like_prefix is 'A pattern for like that finds texts beginning with exactly this.';
