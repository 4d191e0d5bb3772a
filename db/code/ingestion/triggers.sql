-- The state machine of a run (contract 10, 21.2) and the effects of its steps.

create or replace function private.tg_ingestion_runs__check() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  -- The changes to an ended run that maintenance may still make.
  c_loose constant text[] := array['started_by', 'parent_run_id', 'checkpoint', 'checkpoint_expires_at', 'phase_index', 'updated_at', 'revision'];
begin
  if old.outcome <> 'open' then
    if to_jsonb(new) - c_loose is distinct from to_jsonb(old) - c_loose then
      perform private.refuse(409, 'NO_ACTIVE_INGESTION', 'This ingestion has ended; a late write changes nothing.');
    end if;
    return new;
  end if;
  if (new.id, new.organization_id, new.project_id, new.started_at, new.created_at)
    is distinct from (old.id, old.organization_id, old.project_id, old.started_at, old.created_at) then
    perform private.refuse(400, 'READ_ONLY_FIELD', 'Identity and start of a run never change.');
  end if;
  -- A generated column is computed after this trigger.
  new.phase_index := (select l.ordinal from private.phase_labels() l where l.phase = new.phase);
  if new.phase_index is null or new.phase_index not in (old.phase_index, old.phase_index + 1) then
    perform private.refuse_field('phase', format('After phase "%s" comes only the next one.', old.phase));
  end if;

  if new.phase <> old.phase then
    new.attempt := 1;
    new.phase_started_at := clock_timestamp();
    new.phase_times := jsonb_set(jsonb_set(new.phase_times, array[old.phase],
        coalesce(new.phase_times -> old.phase, '{}') || jsonb_build_object('completedAt', private.iso(clock_timestamp()))),
      array[new.phase], jsonb_build_object('startedAt', private.iso(clock_timestamp())));
  elsif new.attempt > old.attempt then
    new.phase_started_at := clock_timestamp();
  else
    new.attempt := old.attempt;
    new.percent := greatest(new.percent, old.percent);
    -- The counts describe the whole run and never go back, except for a phase that is tried again.
    new.total_files := greatest(new.total_files, old.total_files);
    new.files_processed := greatest(new.files_processed, old.files_processed);
    new.tokens_processed := greatest(new.tokens_processed, old.tokens_processed);
    new.bytes_processed := greatest(new.bytes_processed, old.bytes_processed);
    new.errors_encountered := greatest(new.errors_encountered, old.errors_encountered);
  end if;

  if new.outcome <> 'open' then
    new.ended_at := clock_timestamp();
    new.estimated_completion_at := null;
    new.lease_owner := null;
    new.lease_expires_at := null;
    if new.outcome = 'completed' then
      new.completed_at := new.ended_at;
      new.percent := 100;
      new.duration_seconds := coalesce(new.duration_seconds, round(extract(epoch from new.ended_at - new.started_at))::integer);
      new.phase_times := jsonb_set(new.phase_times, array[new.phase],
        coalesce(new.phase_times -> new.phase, '{}') || jsonb_build_object('completedAt', private.iso(new.ended_at)));
    elsif new.outcome = 'failed' then
      -- The fetched tree and the data made from it stay for a recovery.
      new.checkpoint_expires_at := new.ended_at + interval '24 hours';
    end if;
  end if;
  new.revision := old.revision + 1;
  new.updated_at := now();
  return new;
end
$$;
comment on function private.tg_ingestion_runs__check is
  'Trigger: ended runs are immutable, phases go forward by one, percent never falls but at a phase start or retry.';

create or replace function private.tg_ingestion_runs__stamp() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  new.phase_times := new.phase_times || jsonb_build_object(new.phase, jsonb_build_object('startedAt', private.iso(new.started_at)));
  return new;
end
$$;
comment on function private.tg_ingestion_runs__stamp is 'Trigger: a new run begins its first phase.';

-- Status of the project, its repositories and files, the current index: in the transaction of the run's step.
create or replace function private.tg_ingestion_runs__follow() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_old_run uuid;
begin
  if tg_op = 'INSERT' then
    if new.outcome = 'open' then
      perform private.set_project_status(new.project_id, 'processing');
      perform private.enqueue('ingestion.run', jsonb_build_object('runId', new.id), now(), 'ingestion.run:' || new.id, 'ingestion');
    end if;
    return null;
  end if;

  if new.outcome = 'completed' then
    select run_id into v_old_run from public.project_indexes where project_id = new.project_id for update;
    insert into public.project_indexes (project_id, organization_id, run_id, last_run_id, settings)
    values (new.project_id, new.organization_id, coalesce(new.index_run_id, new.id), new.id, new.checkpoint ->> 'settings')
    on conflict (project_id) do update set run_id = excluded.run_id, last_run_id = excluded.last_run_id, settings = excluded.settings,
      updated_at = now();
    if v_old_run <> coalesce(new.index_run_id, new.id) then
      perform private.enqueue('ingestion.drop', jsonb_build_object('runId', v_old_run), now(), 'ingestion.drop:' || v_old_run);
    end if;
    perform private.finish_project_run(new.project_id, new.total_files::integer, new.original_tokens, new.optimized_tokens, new.duration_seconds);
    -- A fallback from main is stored unless the project lists that branch too.
    update public.project_repositories p
    set status = 'connected', status_before_sync = null, last_sync_at = now(), last_commit_hash = c.v ->> 'commit',
      file_count = (c.v ->> 'files')::integer,
      branch = case when c.v ? 'branch' and not exists (select from public.project_repositories o
        where o.project_id = p.project_id and o.repository_url = p.repository_url and o.branch = c.v ->> 'branch' and o.id <> p.id)
        then c.v ->> 'branch' else p.branch end
    from jsonb_each(coalesce(new.checkpoint -> 'repositories', '{}')) as c (id, v)
    where p.project_id = new.project_id and p.id::text = c.id and p.status = 'syncing';
    -- An external worker reports nothing about single repositories.
    update public.project_repositories set status = 'connected', status_before_sync = null, last_sync_at = now()
    where project_id = new.project_id and status = 'syncing';
    update public.project_files set processed = true, processed_at = now()
    where project_id = new.project_id and not is_folder and not processed;
  else
    -- No content of this run became visible, and none will.
    perform private.enqueue('ingestion.drop', jsonb_build_object('runId', new.id), now(), 'ingestion.drop:' || new.id);
    if new.outcome = 'cancelled' then
      update public.project_repositories set status = coalesce(status_before_sync, 'pending'), status_before_sync = null
      where project_id = new.project_id and status = 'syncing';
    else
      update public.project_repositories
      set status = case when repository_url = any (new.failed_items) or new.phase <> 'repository_fetch' or cardinality(new.failed_items) = 0
          then 'error' else coalesce(status_before_sync, 'pending') end,
        status_before_sync = null
      where project_id = new.project_id and status = 'syncing';
    end if;
    perform private.set_project_status(new.project_id, case new.outcome when 'cancelled' then 'draft' else 'error' end);
  end if;
  return null;
end
$$;
comment on function private.tg_ingestion_runs__follow is 'Trigger: what a run''s beginning and end mean for project, repositories, files, index and queue.';

-- One event for each change, the most specific one (contract 30, 10.2).
create or replace function private.tg_ingestion_runs__notify() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_type text;
  v_data jsonb;
  v_room constant text := 'project:' || new.project_id;
  v_key text;
begin
  if tg_op = 'INSERT' then
    v_type := 'phase_started';
  elsif old.outcome <> 'open' then
    return null;
  elsif new.outcome = 'completed' then
    v_type := 'ingestion_complete';
  elsif new.outcome <> 'open' then
    v_type := 'error';
  elsif new.phase <> old.phase or new.attempt > old.attempt then
    v_type := 'phase_started';
  elsif coalesce(current_setting('app.quiet_run', true), '') <> new.id::text
    and (new.percent, new.message, private.metrics_json(new)) is distinct from (old.percent, old.message, private.metrics_json(old)) then
    v_type := 'progress_update';
    v_key := 'progress:' || new.project_id;
  end if;

  if v_type = 'ingestion_complete' then
    select private.run_complete_json(new, private.project_json(p)) into v_data from public.projects p where p.id = new.project_id;
  else
    v_data := case v_type when 'phase_started' then private.phase_started_json(new)
      when 'progress_update' then private.progress_update_json(new) when 'error' then private.run_error_json(new) end;
  end if;
  if v_type is not null then
    perform private.emit(v_room, v_type, v_data, new.organization_id, new.project_id, 'project', 'ingestion_runs', new.id, v_key);
  end if;

  if tg_op = 'UPDATE' and new.outcome = 'open' and new.detail is distinct from old.detail then
    perform private.emit(v_room, 'phase_data', jsonb_build_object('projectId', new.project_id, 'phase', new.phase,
        'detail', new.detail -> ('phase' || least(new.phase_index + 1, 4) || 'Data'), 'sidebar', private.run_sidebar_json(new),
        'runId', new.id, 'revision', new.revision),
      new.organization_id, new.project_id, 'project', 'ingestion_runs', new.id, 'phase_data:' || new.project_id);
  end if;
  return null;
end
$$;
comment on function private.tg_ingestion_runs__notify is 'Trigger: the events of a run, in the order of its changes.';

create or replace trigger _100_stamp before insert on public.ingestion_runs
  for each row execute function private.tg_ingestion_runs__stamp();
create or replace trigger _200_check before update on public.ingestion_runs
  for each row execute function private.tg_ingestion_runs__check();
create or replace trigger _500_follow_start after insert on public.ingestion_runs
  for each row execute function private.tg_ingestion_runs__follow();
create or replace trigger _500_follow_end after update on public.ingestion_runs
  for each row when (old.outcome = 'open' and new.outcome <> 'open') execute function private.tg_ingestion_runs__follow();
create or replace trigger _900_notify_start after insert on public.ingestion_runs
  for each row execute function private.tg_ingestion_runs__notify();
-- Heartbeats and leases publish no event.
create or replace trigger _900_notify_change after update on public.ingestion_runs
  for each row when ((old.phase, old.percent, old.message, old.outcome, old.attempt, old.detail, old.total_files, old.files_processed,
      old.tokens_processed, old.bytes_processed, old.chunks_created, old.errors_encountered)
    is distinct from (new.phase, new.percent, new.message, new.outcome, new.attempt, new.detail, new.total_files, new.files_processed,
      new.tokens_processed, new.bytes_processed, new.chunks_created, new.errors_encountered))
  execute function private.tg_ingestion_runs__notify();

-- A deleted repository takes its files and chunks out of the index at once (contract 10, 9.4); so does an uploaded file.
create or replace function private.tg_project_repositories__drop_indexed() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_paths text[];
begin
  with gone as (
    delete from public.run_files f
    using public.project_indexes i
    where i.project_id = old.project_id and f.organization_id = i.organization_id and f.run_id = i.run_id and f.repository_id = old.id
    returning f.path
  )
  select array_agg(path) into v_paths from gone;
  perform private.drop_graph_files(old.project_id, v_paths);
  return null;
end
$$;
comment on function private.tg_project_repositories__drop_indexed is 'Trigger: a removed repository leaves the index.';
create or replace trigger _500_drop_indexed after delete on public.project_repositories
  for each row execute function private.tg_project_repositories__drop_indexed();

create or replace function private.tg_project_files__drop_indexed() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_paths text[];
begin
  with gone as (
    delete from public.run_files f
    using public.project_indexes i
    where i.project_id = old.project_id and f.organization_id = i.organization_id and f.run_id = i.run_id
      and f.source in ('file', 'text') and (f.path = old.path or f.path like private.like_prefix(old.path || '/'))
    returning f.path
  )
  select array_agg(path) into v_paths from gone;
  perform private.drop_graph_files(old.project_id, v_paths);
  return null;
end
$$;
comment on function private.tg_project_files__drop_indexed is 'Trigger: a removed file (or archive) leaves the index with what was in it.';
create or replace trigger _500_drop_indexed after delete on public.project_files
  for each row when (old.storage_key is not null) execute function private.tg_project_files__drop_indexed();
