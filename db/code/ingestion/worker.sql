-- The calls of the worker. A worker runs an ingestion under a lease that is a column of the run's row: every write names the lease owner,
-- and changes nothing once the lease or the run is gone. The worker has no right on any table of ingestion.

-- What a run covers: {} for all sources; {"repositoryIds", "fileIds", "manual"} for these; {"rollback": N} or {"refresh": true} for none, only
-- the current set is indexed again. A recovery keeps the scope of the run that failed in its options.
create or replace function private.run_scope(r public.ingestion_runs) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return coalesce(r.options -> 'scope',
    (select i.sources from public.context_ingestions i
      where i.organization_id = r.organization_id and i.project_id = r.project_id and i.run_id = r.id),
    '{}');
end
$$;
comment on function private.run_scope is 'The sources that a run reads. Authorization: callable by definer functions of ours only.';

-- Files that a run adds or modifies belong to its entry. A run without one adds none.
create or replace function private.is_verbatim_run(r public.ingestion_runs) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return coalesce((select i.is_verbatim or i.never_compress from public.context_ingestions i
    where i.organization_id = r.organization_id and i.project_id = r.project_id and i.run_id = r.id), false);
end
$$;
comment on function private.is_verbatim_run is 'Do the four techniques leave the files of a run''s entry alone? Authorization: callable by definer functions of ours only.';

-- Leases an open run that no worker holds, and returns all that is needed to work on it; null when there is no such run. A lease that
-- expired means that a worker was lost: three times the run goes on, the fourth time it fails.
create or replace function private.claim_run(p_run_id uuid, p_owner uuid, p_seconds integer) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.ingestion_runs;
  p public.projects;
  s public.project_settings;
begin
  select * into r from public.ingestion_runs where id = p_run_id and outcome = 'open' for no key update;
  if not found or r.lease_expires_at > clock_timestamp() then
    return null;
  end if;
  if r.lease_owner is not null and r.restarts >= 3 then
    perform private.write_failure(r.id, 'WORKER_LOST', 'The ingestion was interrupted too often and was given up.');
    return null;
  end if;
  update public.ingestion_runs
  set restarts = restarts + (lease_owner is not null)::integer, lease_owner = p_owner,
    lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds)
  where id = r.id
  returning * into r;
  select * into p from public.projects where id = r.project_id;
  select * into s from public.project_settings where project_id = r.project_id;
  return jsonb_build_object(
    'runId', r.id, 'organizationId', r.organization_id, 'projectId', r.project_id, 'projectName', p.name,
    'phase', r.phase, 'percent', r.percent, 'attempt', r.attempt, 'restarts', r.restarts, 'startedAt', r.started_at,
    'parentRunId', r.parent_run_id, 'startedBy', r.started_by,
    'metrics', private.metrics_json(r), 'options', r.options, 'scope', private.run_scope(r), 'checkpoint', r.checkpoint, 'detail', r.detail,
    'originalTokens', r.tokens_processed,
    'strategy', p.chunking_strategy, 'anonymizeSecrets', p.anonymize_secrets, 'includeMetadata', p.include_metadata,
    'metadataOptions', s.metadata_options, 'outputFormat', s.output_format, 'embeddingModel', s.embedding_model,
    'patternFilters', s.pattern_filters, 'processingOptions', s.processing_options, 'fileFilters', s.file_filters,
    'webhookUrl', s.webhook_url, 'isVerbatim', private.is_verbatim_run(r), 'lsp', private.context_settings(p.id, 'lsp'),
    'webhookSecret', (select w.sealed from private.project_webhook_secrets w where w.project_id = r.project_id),
    'repositories', (select coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'provider', t.provider, 'url', t.repository_url,
        'name', t.repository_name, 'branch', t.branch, 'includePaths', t.include_paths, 'excludePaths', t.exclude_paths,
        'prefix', t.path_prefix)
        order by t.created_at, t.id), '[]')
      from public.project_repositories t where t.project_id = r.project_id),
    'files', (select coalesce(jsonb_agg(jsonb_build_object('id', f.id, 'path', f.path, 'origin', f.origin, 'size', f.size,
        'key', f.storage_key, 'checksum', f.checksum) order by f.path collate "C", f.id), '[]')
      from public.project_files f where f.project_id = r.project_id and f.storage_key is not null),
    'phases', (select jsonb_object_agg(l.phase, jsonb_build_object('code', l.code, 'attempts', l.attempts)) from private.phase_labels() l),
    'manualContent', (select m.content from public.project_manual_contents m where m.project_id = r.project_id));
end
$$;
comment on function private.claim_run is
  'Leases an open run to a worker and describes the work, or null. Authorization: callable by the worker only.';

-- One round trip for all runs of a worker process: returns the leases that it still has. With p_seconds null it only looks.
create or replace function private.hold_runs(p_owners uuid[], p_seconds integer default null) returns setof uuid
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_seconds is null then
    return query select r.lease_owner from public.ingestion_runs r where r.outcome = 'open' and r.lease_owner = any (p_owners);
  else
    return query
      update public.ingestion_runs r set lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds)
      where r.id in (select o.id from public.ingestion_runs o where o.outcome = 'open' and o.lease_owner = any (p_owners)
        order by o.id for no key update)
      returning r.lease_owner;
  end if;
end
$$;
comment on function private.hold_runs is 'Renews (or only checks) leases by their owners; gives those that hold. Authorization: callable by the worker only.';

create or replace function private.release_run(p_run_id uuid, p_owner uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.ingestion_runs set lease_owner = null, lease_expires_at = null
  where id = p_run_id and lease_owner = p_owner and outcome = 'open';
  if found then
    perform private.enqueue('ingestion.run', jsonb_build_object('runId', p_run_id), now(), 'ingestion.run:' || p_run_id, 'ingestion');
    return true;
  end if;
  return false;
end
$$;
comment on function private.release_run is 'Gives a run back for another worker to take at once. Authorization: callable by the worker only.';

-- Runs whose worker died, and runs whose job was lost, get a job again.
create or replace function private.sweep_runs(p_at timestamptz default clock_timestamp()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return (
    select count(private.enqueue('ingestion.run', jsonb_build_object('runId', o.id), p_at, 'ingestion.run:' || o.id, 'ingestion'))::integer
    from (
      select r.id from public.ingestion_runs r
      where r.outcome = 'open' and (r.lease_expires_at < p_at or r.lease_owner is null)
        and not exists (select from jobs.unique_keys k where k.key = 'ingestion.run:' || r.id)
      limit 1000) o
  );
end
$$;
comment on function private.sweep_runs is 'Re-enqueues open runs without a living owner or a waiting job; gives how many. Authorization: callable by the worker and schedules only.';

create or replace function private.report_run(p_run_id uuid, p_owner uuid, p jsonb) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform from public.ingestion_runs where id = p_run_id and lease_owner = p_owner and outcome = 'open' for no key update;
  if not found then
    return false;
  end if;
  perform private.write_progress(p_run_id, p);
  return true;
end
$$;
comment on function private.report_run is 'Progress of a leased run; false when the lease or the run is gone. Authorization: callable by the worker only.';

create or replace function private.finish_run(p_run_id uuid, p_owner uuid, p jsonb) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid;
  v_paths text[];
begin
  select r.project_id into v_project from public.ingestion_runs r where r.id = p_run_id and r.lease_owner = p_owner and r.outcome = 'open' for no key update;
  if not found then
    return false;
  end if;
  -- The worker has asked before it changed anything.
  if private.overflows_context(p_run_id) then
    perform private.write_failure(p_run_id, 'CONTEXT_TOO_LARGE', 'A context holds at most 100,000 files. Leave some sources or folders out.');
    return true;
  end if;
  perform private.commit_ingestion(p_run_id);
  update public.ingestion_runs set index_run_id = (p ->> 'index')::uuid where id = p_run_id;
  update public.project_repositories t set path_prefix = c.prefix
  from public.ingestion_runs r, jsonb_each_text(coalesce(p #> '{checkpoint,prefixes}', '{}')) as c (id, prefix)
  where r.id = p_run_id and t.project_id = r.project_id and t.id::text = c.id and t.path_prefix is null;
  -- What left the current set or was hidden while the run went on is no part of its index or its graph either.
  with gone as (
    delete from public.run_files f using public.ingestion_runs r
    where r.id = p_run_id and f.organization_id = r.organization_id and f.run_id = coalesce(r.index_run_id, r.id)
      and not exists (select from public.context_files c where c.project_id = r.project_id and c.path = f.path collate "C" and not c.is_hidden)
    returning f.path
  )
  select array_agg(o.path) into v_paths from (
    select g.path from gone g
    union
    select c.path from public.context_files c where c.project_id = v_project and c.is_hidden) o;
  perform private.drop_graph_files(v_project, v_paths);
  perform private.write_completion(p_run_id, p);
  return true;
end
$$;
comment on function private.finish_run is 'Completes a leased run; false when the lease or the run is gone. Authorization: callable by the worker only.';

create or replace function private.fail_run(
  p_run_id uuid, p_owner uuid, p_code text, p_message text, p_failed_items text[], p_checkpoint jsonb
) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform from public.ingestion_runs where id = p_run_id and lease_owner = p_owner and outcome = 'open' for no key update;
  if not found then
    return false;
  end if;
  perform private.write_failure(p_run_id, p_code, p_message, p_failed_items, p_checkpoint);
  return true;
end
$$;
comment on function private.fail_run is 'Fails a leased run; false when the lease or the run is gone. Authorization: callable by the worker only.';

-- Repositories that another worker had begun must not show as begun by this one: they are marked while they are fetched.
create or replace function private.mark_repository(p_run_id uuid, p_owner uuid, p_repository_id uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.project_repositories t set status_before_sync = case when t.status = 'syncing' then t.status_before_sync else t.status end,
    status = 'syncing'
  from public.ingestion_runs r
  where r.id = p_run_id and r.lease_owner = p_owner and r.outcome = 'open' and t.project_id = r.project_id and t.id = p_repository_id
    and t.status <> 'syncing';
  return found;
end
$$;
comment on function private.mark_repository is 'A repository of a leased run is being fetched. Authorization: callable by the worker only.';
grant execute on function private.claim_run, private.hold_runs, private.release_run, private.sweep_runs, private.report_run,
  private.finish_run, private.fail_run, private.mark_repository to kijko_worker;
