-- How runs of enrichments begin and end. Triggers do everything that follows from a change of a run's row (its job, its operation, the
-- changelog, events), so that no code path can miss it.

create or replace function private.lock_enrichments(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('enrichments ' || p_project_id, 0));
end
$$;
comment on function private.lock_enrichments is
  'Makes the transactions that start runs of a context follow one another. Authorization: callable by definer functions and triggers of ours only.';

-- One run a kind, and none beside a run of all. The parts of a run of all are its own.
create or replace function private.tg_enrichment_runs__refuse() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_kind text;
begin
  if new.parent_id is not null then
    return new;
  end if;
  perform private.lock_enrichments(new.project_id);
  select r.kind into v_kind from public.enrichment_runs r
  where r.project_id = new.project_id and r.status in ('queued', 'running') and (new.kind = 'all' or r.kind in (new.kind, 'all'))
  order by r.kind = 'all' desc, r.created_at limit 1;
  if v_kind is not null then
    perform private.refuse(409, 'OPERATION_IN_PROGRESS', format('The %s of this context %s being built already. Please wait until that has ended.',
      private.enrichment_name(v_kind), case when v_kind in ('chromaCode', 'all') then 'are' else 'is' end), null, jsonb_build_object('kind', v_kind));
  end if;
  return new;
end
$$;
comment on function private.tg_enrichment_runs__refuse is 'Trigger: 409 OPERATION_IN_PROGRESS beside an open run of the same kind or of all kinds.';

create or replace function private.queue_enrichment(p_run_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.enqueue('enrichments.run', jsonb_build_object('runId', p_run_id), now(), 'enrichments.run:' || p_run_id, 'enrichments');
end
$$;
comment on function private.queue_enrichment is 'Gives a run its job. Authorization: callable by definer functions and triggers of ours only.';

-- 20 starts in an hour, as the rows of the table tell: a start that is refused is none.
create or replace function private.start_enrichment(p_project_id uuid, p_kind text) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_limit constant integer := 20;
  v_org uuid;
  v_operation uuid;
  v_run uuid;
  v_frees_at timestamptz;
begin
  if not private.has_project_role(p_project_id, 'developer') then
    perform private.refuse_role(private.project_role(p_project_id), 'developer');
  end if;
  if p_kind <> 'all' and p_kind <> all (private.enrichment_kinds()) then
    perform private.refuse_field('kind', 'There is no such enrichment.');
  end if;
  perform private.lock_enrichments(p_project_id);
  select p.organization_id into v_org from public.projects p where p.id = p_project_id for key share;
  v_operation := private.queue_operation(p_project_id, 'enrichment');
  insert into public.enrichment_runs (organization_id, project_id, kind, started_by, operation_id, message)
  values (v_org, p_project_id, p_kind, private.user_id(), v_operation, 'Waiting for a free worker')
  returning id into v_run;
  select r.created_at + interval '1 hour' into v_frees_at from public.enrichment_runs r
  where r.organization_id = v_org and r.project_id = p_project_id and not r.is_automatic and r.parent_id is null and r.id <> v_run
    and r.created_at > clock_timestamp() - interval '1 hour'
  order by r.created_at desc offset c_limit - 1 limit 1;
  if found then
    perform private.refuse(429, 'RATE_LIMITED', format('The enrichments of a context can be started %s times an hour. Please try again later.', c_limit),
      null, jsonb_build_object('limit', c_limit, 'remaining', 0, 'resetsAt', private.iso(v_frees_at)));
  end if;
  if p_kind = 'all' then
    insert into public.enrichment_runs (organization_id, project_id, kind, parent_id, started_by, message, created_at)
    select v_org, p_project_id, k, v_run, private.user_id(), 'Waiting for its turn', clock_timestamp()
    from unnest(private.enrichment_kinds()) with ordinality u (k, n) order by n;
  end if;
  return v_operation;
end
$$;
comment on function private.start_enrichment is
  'Opens a run of a kind or of all and the operation that a request waits for; its id. Authorization: developer of the project or above. Errors: 404, 403, 409 OPERATION_IN_PROGRESS, 429 RATE_LIMITED.';
grant execute on function private.start_enrichment to authenticated;

-- After each version the graph and the index of symbols are built again, embeddings only where they are in use.
-- The run of an ingestion builds the graph itself; what else changes the files does not.
create or replace function private.want_enrichments(p_project_id uuid, p_build boolean) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into public.enrichment_states as s (organization_id, project_id, kind, is_wanted, wants_build)
  select p.organization_id, p.id, k, true, p_build from public.projects p, unnest(array['knowledgeGraph', 'languageServer']) k where p.id = p_project_id
  on conflict (project_id, kind) do update set is_wanted = true, wants_build = s.wants_build or excluded.wants_build
    where not s.is_wanted or excluded.wants_build and not s.wants_build;
  update public.enrichment_states s set is_wanted = true
  where s.project_id = p_project_id and s.kind = 'chromaCode' and s.is_active and not s.is_wanted;
  perform private.start_wanted_enrichments(p_project_id);
end
$$;
comment on function private.want_enrichments is
  'The files of a context have changed: what is in use is built again, now or after the open run. Authorization: callable by definer functions and triggers of ours only.';

create or replace function private.start_wanted_enrichments(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if not exists (select from public.enrichment_states s where s.project_id = p_project_id and s.is_wanted) then
    return;
  end if;
  perform private.lock_enrichments(p_project_id);
  insert into public.enrichment_runs (organization_id, project_id, kind, is_automatic, builds, message)
  select s.organization_id, s.project_id, s.kind, true, false, 'Waiting for a free worker'
  from public.enrichment_states s join public.projects p on p.id = s.project_id
  where s.project_id = p_project_id and s.is_wanted
    and not exists (select from public.enrichment_runs r
      where r.project_id = s.project_id and r.kind in (s.kind, 'all') and r.status in ('queued', 'running'))
  order by array_position(private.enrichment_kinds(), s.kind);
end
$$;
comment on function private.start_wanted_enrichments is
  'Starts the runs that a change of the files wants and that no open run stands in the way of. Authorization: callable by definer functions and triggers of ours only.';

create or replace function private.tg_context_ingestions__want_enrichments() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.want_enrichments(new.project_id, new.run_id is null);
  return null;
end
$$;
comment on function private.tg_context_ingestions__want_enrichments is 'Trigger: a version became ready.';
create or replace trigger _500_want_enrichments after update of status on public.context_ingestions
  for each row when (old.status = 'processing' and new.status = 'ready') execute function private.tg_context_ingestions__want_enrichments();
create or replace trigger _500_want_enrichments_at_once after insert on public.context_ingestions
  for each row when (new.status = 'ready') execute function private.tg_context_ingestions__want_enrichments();

-- An entry that is deleted changes the files as a version does.
create or replace function private.tg_context_ingestions__drop_enrichments() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if exists (select from public.projects p where p.id = old.project_id) then
    perform private.want_enrichments(old.project_id, true);
  end if;
  return null;
end
$$;
comment on function private.tg_context_ingestions__drop_enrichments is 'Trigger: a version was deleted, and the current set with it.';
create or replace trigger _500_want_enrichments_again after delete on public.context_ingestions
  for each row when (old.status = 'ready') execute function private.tg_context_ingestions__drop_enrichments();

create or replace function private.cancel_enrichments(p_project_id uuid, p_kinds text[]) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count integer;
begin
  -- A run of all ends as a whole, with the last of its parts.
  update public.enrichment_runs r set status = 'cancelled', message = 'Cancelled'
  where r.project_id = p_project_id and r.status in ('queued', 'running') and r.kind <> 'all' and (r.kind = any (p_kinds) or r.parent_id is not null);
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function private.cancel_enrichments is
  'Ends the open runs of these kinds, and a run of all; how many rows. Authorization: callable by definer functions of ours that have authorized the caller.';

create or replace function private.reset_enrichments(p_project_id uuid, p_kinds text[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if not private.has_project_role(p_project_id, 'admin') then
    perform private.refuse_role(private.project_role(p_project_id), 'admin');
  end if;
  perform private.lock_enrichments(p_project_id);
  perform private.cancel_enrichments(p_project_id, p_kinds);
  delete from public.enrichment_states s where s.project_id = p_project_id and s.kind = any (p_kinds);
  if 'knowledgeGraph' = any (p_kinds) then
    perform private.drop_graph(p_project_id);
  end if;
  if 'languageServer' = any (p_kinds) then
    -- Symbols go with their contents, in small transactions of a job.
    delete from public.symbol_files f where f.project_id = p_project_id;
  end if;
  perform private.enqueue('enrichments.drop', jsonb_build_object('projectId', p_project_id));
  perform private.add_changelog(p_project_id, 'config', 'Enrichments reset');
end
$$;
comment on function private.reset_enrichments is
  'Ends the open runs of these kinds and drops what they made. Authorization: owner or admin of the project, else 403 FORBIDDEN.';
grant execute on function private.reset_enrichments to authenticated;

create or replace function private.tg_enrichment_runs__stamp() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if new.status = 'running' then
    new.started_at := coalesce(new.started_at, clock_timestamp());
  elsif new.status <> 'queued' then
    new.finished_at := clock_timestamp();
    new.lease_owner := null;
    new.lease_expires_at := null;
    if new.status = 'completed' then
      new.progress := 100;
    end if;
  end if;
  return new;
end
$$;
comment on function private.tg_enrichment_runs__stamp is 'Trigger: times, lease and percent of a run follow its status.';

create or replace function private.tg_enrichment_runs__check() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if old.status not in ('queued', 'running') and new.status is distinct from old.status then
    raise exception 'a run of an enrichment that has ended does not change';
  end if;
  new.progress := greatest(new.progress, old.progress);
  return new;
end
$$;
comment on function private.tg_enrichment_runs__check is 'Trigger: an ended run is final, and percent never falls.';

-- What the end of a run means for its siblings and its parent.
create or replace function private.step_enrichments(p_parent_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_kinds constant text[] := private.enrichment_kinds();
  v_next public.enrichment_runs;
  v record;
begin
  select r.* into v_next from public.enrichment_runs r
  where r.parent_id = p_parent_id and r.status in ('queued', 'running') order by array_position(c_kinds, r.kind) limit 1;
  if found then
    update public.enrichment_runs r set progress = (array_position(c_kinds, v_next.kind) - 1) * 100 / cardinality(c_kinds) where r.id = p_parent_id;
    perform private.queue_enrichment(v_next.id);
    return;
  end if;
  select string_agg(format('%s: %s', private.enrichment_name(r.kind), r.error_message), ' ' order by array_position(c_kinds, r.kind))
      filter (where r.status = 'failed') as failures, bool_or(r.status = 'cancelled') as cancelled into v
  from public.enrichment_runs r where r.parent_id = p_parent_id;
  update public.enrichment_runs r set status = case when v.cancelled then 'cancelled' when v.failures is not null then 'failed' else 'completed' end,
    error_message = case when not v.cancelled then left(v.failures, 2000) end
  where r.id = p_parent_id and r.status in ('queued', 'running');
end
$$;
comment on function private.step_enrichments is
  'The next part of a run of all begins, or the run ends with its last part. Authorization: callable by triggers of ours only.';

create or replace function private.tg_enrichment_runs__follow() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_kinds constant text[] := private.enrichment_kinds();
begin
  if tg_op = 'INSERT' then
    if new.kind <> 'all' and (new.parent_id is null or new.kind = v_kinds[1]) then
      perform private.queue_enrichment(new.id);
    end if;
    return null;
  end if;
  if new.parent_id is not null then
    if new.status in ('queued', 'running') then
      update public.enrichment_runs r set status = 'running', message = new.message,
        progress = ((array_position(v_kinds, new.kind) - 1) * 100 + new.progress) / cardinality(v_kinds)
      where r.id = new.parent_id and r.status in ('queued', 'running');
    else
      perform private.step_enrichments(new.parent_id);
    end if;
  elsif new.operation_id is not null then
    case new.status
      when 'running' then perform private.progress_operation(new.operation_id, new.progress, new.message);
      when 'completed' then perform private.complete_operation(new.operation_id);
      when 'failed' then perform private.fail_operation(new.operation_id, 'ENRICHMENT_FAILED', new.error_message);
      when 'cancelled' then perform private.fail_operation(new.operation_id, 'CANCELLED', 'The run was cancelled.');
      else null;
    end case;
  end if;
  if new.status in ('completed', 'failed', 'cancelled') then
    delete from private.enrichment_plans p where p.run_id = new.id;
    if new.status <> 'cancelled' and new.parent_id is null then
      perform private.start_wanted_enrichments(new.project_id);
    end if;
  end if;
  return null;
end
$$;
comment on function private.tg_enrichment_runs__follow is 'Trigger: what the beginning, the progress and the end of a run mean for jobs, siblings and the waiting request.';

create or replace function private.tg_enrichment_runs__notify() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if new.kind <> 'all' then
    perform private.emit('context:' || new.project_id, 'enrichment:progress', jsonb_strip_nulls(jsonb_build_object('contextId', new.project_id,
        'type', new.kind, 'progress', new.progress,
        'status', case new.status when 'queued' then 'pending' when 'running' then 'processing' when 'completed' then 'completed' else 'error' end,
        'message', nullif(coalesce(new.error_message, new.message), ''))),
      new.organization_id, new.project_id, 'project', 'enrichment_runs', new.id,
      case when new.status = 'running' then 'enrichment:' || new.project_id || ':' || new.kind end);
  end if;
  if new.status = 'completed' and new.parent_id is null and not new.is_automatic then
    perform private.notify_enrichment(new);
  end if;
  return null;
end
$$;
comment on function private.tg_enrichment_runs__notify is 'Trigger: the events of a run, and the notification when one that a person started is done.';

-- An ingestion has its own notification, so the runs that follow it have none.
create or replace function private.notify_enrichment(r public.enrichment_runs) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  p public.projects;
begin
  select * into p from public.projects q where q.id = r.project_id;
  if not found then
    return;
  end if;
  perform private.notify_all(private.context_audience(p),
    'context_update', format('The %s of "%s" %s ready', private.enrichment_name(r.kind), private.one_line(p.name),
      case when r.kind in ('knowledgeGraph', 'languageServer') then 'is' else 'are' end),
    null, jsonb_build_object('projectId', p.id), '/project/' || p.id, false, 'enrichment:' || r.id, r.started_by, p.organization_id, null, p.id);
end
$$;
comment on function private.notify_enrichment is
  'Notifies the people who may view a context that a run they or others started is done. Authorization: callable by triggers of ours only.';

create or replace trigger _100_stamp before insert or update of status on public.enrichment_runs
  for each row execute function private.tg_enrichment_runs__stamp();
create or replace trigger _200_check before update on public.enrichment_runs for each row execute function private.tg_enrichment_runs__check();
create or replace trigger _200_refuse before insert on public.enrichment_runs for each row execute function private.tg_enrichment_runs__refuse();
create or replace trigger _500_follow_start after insert on public.enrichment_runs for each row execute function private.tg_enrichment_runs__follow();
create or replace trigger _500_follow_change after update on public.enrichment_runs
  for each row when ((old.status, old.progress, old.message) is distinct from (new.status, new.progress, new.message))
  execute function private.tg_enrichment_runs__follow();
create or replace trigger _900_notify_start after insert on public.enrichment_runs for each row execute function private.tg_enrichment_runs__notify();
-- Heartbeats and leases publish no event.
create or replace trigger _900_notify_change after update on public.enrichment_runs
  for each row when ((old.status, old.progress) is distinct from (new.status, new.progress)) execute function private.tg_enrichment_runs__notify();
