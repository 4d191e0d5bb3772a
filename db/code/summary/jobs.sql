-- Generation of summaries in jobs. A job of a context is claimed, answered and, where its worker dies, claimed again.

-- 10 generations in an hour that people ask for. A request beside an open job waits for that one.
create or replace function private.request_summary(p_project_id uuid, p_is_requested boolean) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_limit constant integer := 10;
  v_version integer := private.summary_version(p_project_id);
  v_frees_at timestamptz;
  j private.summary_jobs;
begin
  perform pg_advisory_xact_lock(hashtextextended('summary ' || p_project_id, 0));
  select * into j from private.summary_jobs x where x.project_id = p_project_id and x.status <> 'completed';
  if found then
    return j.operation_id;
  end if;
  if p_is_requested then
    select x.created_at + interval '1 hour' into v_frees_at from private.summary_jobs x
    where x.project_id = p_project_id and x.is_requested and x.created_at > clock_timestamp() - interval '1 hour'
    order by x.created_at desc offset c_limit - 1 limit 1;
    if found then
      perform private.refuse(429, 'RATE_LIMITED', format('The summary of a context can be generated %s times an hour. Please try again later.', c_limit), null,
        jsonb_build_object('limit', c_limit, 'remaining', 0, 'resetsAt', private.iso(v_frees_at)));
    end if;
  elsif exists (select from private.summary_jobs x where x.project_id = p_project_id and x.version = v_version and not x.is_requested) then
    return null;
  end if;
  insert into private.summary_jobs (organization_id, project_id, version, is_requested, operation_id)
  select p.organization_id, p.id, v_version, p_is_requested, private.queue_operation(p.id, 'summary') from public.projects p where p.id = p_project_id for key share
  returning * into j;
  perform private.enqueue('summary.generate', jsonb_build_object('jobId', j.id), now(), 'summary.generate:' || j.id, 'summaries');
  return j.operation_id;
end
$$;
comment on function private.request_summary is
  'Opens a job for the summary of the current version, or finds the open one; the operation to wait for, null where the version had its job. Authorization: callable by definer functions of ours that have authorized the caller. Errors: 429 RATE_LIMITED.';

create or replace function private.regenerate_summary(p_project_id uuid) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if not private.has_project_role(p_project_id, 'developer') then
    perform private.refuse_role(private.project_role(p_project_id), 'developer');
  end if;
  return private.request_summary(p_project_id, true);
end
$$;
comment on function private.regenerate_summary is
  'A person asks for another summary; the operation to wait for. Authorization: developer of the project or above. Errors: 404, 403, 429 RATE_LIMITED.';
grant execute on function private.regenerate_summary to authenticated;

-- Called by the server after a reader got a summary that is stale. Reading writes nothing itself. `waits` where there was none at all.
create or replace function private.refresh_summary(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.as_uuid(p ->> 'contextId');
begin
  return jsonb_build_object('operationId', private.request_summary(v_project, false),
    'waits', not exists (select from public.context_summaries s where s.project_id = v_project));
end
$$;
comment on function private.refresh_summary is
  'One background generation of the current version: {operationId, waits}. Authorization: callable by the server only, which has read the summary as the caller.';
grant execute on function private.refresh_summary to kijko_server;

create or replace function private.store_summary(j private.summary_jobs, p jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into public.context_summaries as s (organization_id, project_id, version, description, key_components, model)
  values (j.organization_id, j.project_id, j.version, p ->> 'description', array(select jsonb_array_elements_text(p -> 'keyComponents')), p ->> 'model')
  on conflict (project_id, version) do update set description = excluded.description, key_components = excluded.key_components, model = excluded.model,
    is_outdated = false, generated_at = clock_timestamp();
  update private.summary_jobs x set status = 'completed', finished_at = clock_timestamp(), lease_owner = null, lease_expires_at = null where x.id = j.id;
  perform private.complete_operation(j.operation_id);
end
$$;
comment on function private.store_summary is 'Writes a summary and ends its job. Authorization: callable by definer functions of ours only.';

-- The provider that answers for the configured model, never the labeled local one: that makes texts up. Google's where Anthropic's is not
-- configured.
create or replace function private.summary_route(p_org_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_model text;
  v record;
begin
  foreach v_model in array array[private.default_model(), 'gemini'] loop
    select * into v from private.route_model(v_model, p_org_id);
    if v.answers in ('anthropic', 'google') then
      return jsonb_build_object('provider', v.answers, 'model', v.called, 'sealedKey', v.sealed_key, 'withoutSampling', not private.takes_sampling(v.called));
    end if;
  end loop;
  return null;
end
$$;
comment on function private.summary_route is
  'Provider, model and sealed key for a summary; null without a provider. Authorization: callable by definer functions of ours only.';

-- An extractive summary is written at once; for a model the caller gets the work.
create or replace function private.claim_summary(p_job_id uuid, p_owner uuid, p_seconds integer) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  j private.summary_jobs;
  v_route jsonb;
begin
  select * into j from private.summary_jobs x where x.id = p_job_id and x.status <> 'completed' for no key update;
  if not found or j.lease_expires_at > clock_timestamp() then
    return null;
  end if;
  v_route := private.summary_route(j.organization_id);
  update private.summary_jobs x
  set status = 'running', restarts = x.restarts + (x.lease_owner is not null)::integer, lease_owner = p_owner,
    lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds),
    -- A version that came meanwhile is the one to describe, unless it has its job.
    version = case when x.is_requested then private.summary_version(x.project_id) else x.version end
  where x.id = j.id returning * into j;
  perform private.start_operation(j.operation_id, 'Writing the summary');
  if v_route is null or j.restarts > 2
    or not exists (select from public.context_files f where f.project_id = j.project_id and not f.is_hidden) then
    perform private.store_summary(j, private.extractive_summary(j.project_id));
    return null;
  end if;
  return jsonb_build_object('jobId', j.id, 'organizationId', j.organization_id, 'projectId', j.project_id,
    'userId', (select o.requested_by from public.context_operations o where o.id = j.operation_id), 'route', v_route, 'source', private.summary_source(j.project_id),
    'extractive', private.extractive_summary(j.project_id));
end
$$;
comment on function private.claim_summary is
  'Leases an open job to a worker and describes the work, or does it without a model and gives null. Authorization: callable by the worker only.';

create or replace function private.hold_summaries(p_owners uuid[], p_seconds integer default null) returns setof uuid
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_seconds is null then
    return query select x.lease_owner from private.summary_jobs x where x.status = 'running' and x.lease_owner = any (p_owners);
  else
    return query
      update private.summary_jobs x set lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds)
      where x.id in (select o.id from private.summary_jobs o where o.status = 'running' and o.lease_owner = any (p_owners) order by o.id for no key update)
      returning x.lease_owner;
  end if;
end
$$;
comment on function private.hold_summaries is 'Renews (or only checks) leases by their owners; gives those that hold. Authorization: callable by the worker only.';

-- Without p: no model answered, and the summary is extracted.
create or replace function private.finish_summary(p_job_id uuid, p_owner uuid, p jsonb) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  j private.summary_jobs;
begin
  select * into j from private.summary_jobs x where x.id = p_job_id and x.lease_owner = p_owner and x.status = 'running' for no key update;
  if not found then
    return false;
  end if;
  perform private.store_summary(j, coalesce(p, private.extractive_summary(j.project_id)));
  return true;
end
$$;
comment on function private.finish_summary is 'Writes the summary of a leased job; false when the lease is gone. Authorization: callable by the worker only, for the job it holds.';

create or replace function private.release_summary(p_job_id uuid, p_owner uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.summary_jobs x set lease_owner = null, lease_expires_at = null where x.id = p_job_id and x.lease_owner = p_owner and x.status = 'running';
  if found then
    perform private.enqueue('summary.generate', jsonb_build_object('jobId', p_job_id), now(), 'summary.generate:' || p_job_id, 'summaries');
  end if;
  return found;
end
$$;
comment on function private.release_summary is 'Gives a job back for another worker to take at once. Authorization: callable by the worker only.';

create or replace function private.sweep_summaries(p_at timestamptz default clock_timestamp()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return (
    select count(private.enqueue('summary.generate', jsonb_build_object('jobId', o.id), p_at, 'summary.generate:' || o.id, 'summaries'))::integer
    from (
      select x.id from private.summary_jobs x
      where x.status <> 'completed' and (x.lease_expires_at < p_at or x.lease_owner is null)
        and not exists (select from jobs.unique_keys k where k.key = 'summary.generate:' || x.id)
      limit 1000) o
  );
end
$$;
comment on function private.sweep_summaries is
  'Re-enqueues open jobs without a living owner or a waiting job; gives how many. Authorization: callable by the worker and schedules only.';
grant execute on function private.claim_summary, private.hold_summaries, private.finish_summary, private.release_summary, private.sweep_summaries to kijko_worker;

-- The last twenty versions keep their summaries: an older one is shown only while a newer one is written.
create or replace function private.prune_summaries(p_at timestamptz default now()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count integer;
begin
  delete from private.summary_jobs x
  where x.status = 'completed' and x.finished_at < p_at - interval '1 day' and x.version < private.summary_version(x.project_id);
  delete from public.context_summaries s
  where s.generated_at < p_at - interval '1 day'
    and (select count(*) from public.context_summaries n where n.project_id = s.project_id and n.version > s.version) >= 20;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function private.prune_summaries is 'Retention of jobs and of old summaries. Authorization: callable by schedules only.';

-- What a deleted ingestion had brought is gone from all later versions.
create or replace function private.tg_context_ingestions__outdate_summaries() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.context_summaries s set is_outdated = true where s.project_id = old.project_id and s.version >= old.number and not s.is_outdated;
  delete from private.summary_jobs x where x.project_id = old.project_id and x.version >= old.number and x.status = 'completed' and not x.is_requested;
  return null;
end
$$;
comment on function private.tg_context_ingestions__outdate_summaries is 'Trigger: summaries of versions with a deleted ingestion are stale.';
create or replace trigger _500_outdate_summaries after delete on public.context_ingestions
  for each row when (old.status = 'ready') execute function private.tg_context_ingestions__outdate_summaries();
