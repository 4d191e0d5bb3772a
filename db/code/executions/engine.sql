-- The calls of the worker (contract 20, 6.1 to 6.3). A worker runs an execution under a lease: a token in its row that the worker repeats
-- with every write, and a time until which it holds. The worker has no right on the table itself. The limits are defined only here: a run
-- fails once execution_limit() has passed since its first start; a worker that dies is followed by another one, twice at most; and a run
-- whose text a reader has seen is never started again.

create or replace function private.execution_limit() returns interval
language sql immutable parallel safe
return interval '300 seconds';
comment on function private.execution_limit is 'How long a run may take from its first start.';

create or replace function private.fail_execution(p_id uuid, p_code text, p_message text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.skill_executions set status = 'failed', error_code = p_code, error_message = p_message where id = p_id;
end
$$;
comment on function private.fail_execution is 'Ends an open run as failed. Authorization: callable by definer functions of ours only.';

-- Returns why a run that is interrupted now may not be started again; null where it may.
create or replace function private.end_of_execution(e public.skill_executions, p_at timestamptz, out code text, out message text)
language plpgsql immutable parallel safe
as $$
begin
  if e.started_at < p_at - private.execution_limit() then
    code := 'TIMEOUT';
    message := 'Skill execution timeout';
  elsif e.has_streamed or e.takes >= 3 then
    code := 'UNKNOWN_ERROR';
    message := 'Skill execution was interrupted';
  end if;
end
$$;
comment on function private.end_of_execution is 'errorCode and errorMessage of a running execution that no worker may take over.';

-- Returns the reason that keeps a run from starting (contract 20, 6.6), or the prompt when there is none. Checked at each start: so a run
-- does not start whose skill was deactivated while it waited, or whose owner has left the organization that pays for it.
create or replace function private.prepare_execution(e public.skill_executions, s public.skills, out code text, out message text, out prompt text)
language plpgsql stable
as $$
declare
  v_trigger text := case when e.execution_type = 'reflex' then e.input ->> 'trigger' end;
begin
  if not private.is_active_member(e.organization_id, e.user_id) then
    code := 'MEMBERSHIP_INACTIVE';
    message := 'The owner of this run is not an active member of its organization.';
  elsif s.id is null or not (s.user_id = e.user_id or s.is_public) then
    code := 'SKILL_NOT_FOUND';
    message := 'The skill does not exist any more.';
  elsif not s.is_active then
    code := 'SKILL_INACTIVE';
    message := 'The skill is inactive.';
  else
    message := private.input_faults(s.input_schema, e.input, v_trigger) -> 0 ->> 'message';
    if message is null then
      prompt := private.render_prompt(s.prompt_template, s.input_schema, e.input, v_trigger);
    else
      code := 'INVALID_INPUT';
    end if;
  end if;
exception when sqlstate 'PT400' then
  -- The prompt would become too long.
  code := 'INVALID_INPUT';
  message := sqlerrm;
  prompt := null;
end
$$;
comment on function private.prepare_execution is 'The rendered prompt, or errorCode and errorMessage.';

-- Leases one run: the first start of a pending one, or the take-over of one whose worker is gone. outcome 'run' comes with all that is
-- needed to call the model; 'none' means that no work is left; 'busy' that another transaction is changing the row just now. The parameters
-- are those to send: for a model that takes no sampling parameters they are left out, and `withoutSampling` is set.
drop function if exists private.claim_execution(uuid, integer, bigint);
create function private.claim_execution(
  p_id uuid, p_seconds integer, p_worker bigint, out outcome text, out token uuid, out answers text, out called text, out sealed_key text,
  out parameters jsonb, out prompt text, out elapsed_ms bigint, out limit_ms bigint, out is_streamed boolean, out organization_id uuid, out user_id uuid
)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e public.skill_executions;
  s public.skills;
  v_end record;
  v_ready record;
  v_route record;
begin
  outcome := 'none';
  select * into e from public.skill_executions x where x.id = p_id for no key update skip locked;
  if not found then
    if exists (select from public.skill_executions x where x.id = p_id) then
      outcome := 'busy';
    end if;
    return;
  elsif private.is_final(e.status) or e.lease_expires_at > clock_timestamp() then
    return;
  end if;
  select * into v_end from private.end_of_execution(e, clock_timestamp());
  if v_end.code is not null then
    perform private.fail_execution(e.id, v_end.code, v_end.message);
    return;
  end if;
  select * into s from public.skills k where k.id = e.skill_id;
  select * into v_ready from private.prepare_execution(e, s);
  if v_ready.code is null then
    select * into v_route from private.route_model(s.model, e.organization_id);
    if v_route.provider is null or v_route.provider = 'openai' then
      v_ready.code := 'MODEL_NOT_SUPPORTED';
      v_ready.message := format('The model "%s" is not supported.', s.model);
    elsif v_route.answers is null then
      v_ready.code := 'PROVIDER_NOT_CONFIGURED';
      v_ready.message := format('No key for %s is configured.', initcap(v_route.provider));
    end if;
  end if;
  if v_ready.code is not null then
    perform private.fail_execution(e.id, v_ready.code, v_ready.message);
    return;
  end if;

  token := private.new_lease(p_worker);
  if e.status = 'pending' then
    update public.skill_executions x set status = 'running', takes = 1, model = s.model, model_called = v_route.called,
      lease_token = token, lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds)
    where x.id = e.id returning * into e;
  else
    update public.skill_executions x set takes = x.takes + 1, job_id = null, model = s.model, model_called = v_route.called,
      lease_token = token, lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds)
    where x.id = e.id returning * into e;
  end if;
  outcome := 'run';
  answers := v_route.answers;
  called := v_route.called;
  sealed_key := v_route.sealed_key;
  parameters := case when private.takes_sampling(v_route.called) then s.parameters
    else s.parameters - '{temperature,top_p,top_k}'::text[] || '{"withoutSampling": true}' end;
  prompt := v_ready.prompt;
  elapsed_ms := round(extract(epoch from clock_timestamp() - e.started_at) * 1000);
  limit_ms := extract(epoch from private.execution_limit()) * 1000;
  is_streamed := e.is_streamed;
  organization_id := e.organization_id;
  user_id := e.user_id;
end
$$;
comment on function private.claim_execution is
  'Leases a run and gives prompt, model and key for it, or ends it where it cannot start. Authorization: callable by the worker only.';

-- Takes waiting jobs and leases their runs, all in one transaction and one round trip: a deleted job has a leased run, and a run that was
-- not leased keeps its job. Returns one row for each job taken; outcome 'run' is work. A run whose claim fails unexpectedly is tried five
-- times and then becomes a dead letter, for an administrator to see. So no content of one person blocks the runs of others.
drop function if exists private.take_executions(integer, integer, bigint);
create function private.take_executions(p_limit integer, p_seconds integer, p_worker bigint default null)
returns table (id uuid, outcome text, token uuid, answers text, called text, sealed_key text, parameters jsonb, prompt text,
  elapsed_ms bigint, limit_ms bigint, is_streamed boolean, organization_id uuid, user_id uuid)
language plpgsql volatile security definer set search_path = ''
-- Statistics of a queue are always stale, so plans always use the index.
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
#variable_conflict use_column
declare
  v_job jobs.gue_jobs;
  v_id uuid;
  v record;
  v_error text;
begin
  for v_job in
    select * from jobs.gue_jobs j where j.queue = 'executions' and j.run_at <= clock_timestamp()
    order by j.run_at, j.job_id limit p_limit for update skip locked
  loop
    v_id := null;
    v_error := null;
    begin
      v_id := (convert_from(v_job.args, 'UTF8')::jsonb ->> 'executionId')::uuid;
      select * into v from private.claim_execution(v_id, p_seconds, p_worker);
    exception when others then
      v_error := sqlstate || ' ' || sqlerrm;
    end;
    if v_error is null and v.outcome <> 'busy' then
      delete from jobs.gue_jobs j where j.job_id = v_job.job_id;
      return query select v_id, v.outcome, v.token, v.answers, v.called, v.sealed_key, v.parameters, v.prompt, v.elapsed_ms, v.limit_ms, coalesce(v.is_streamed, false), v.organization_id, v.user_id;
    elsif v_error is null then
      update jobs.gue_jobs j set run_at = clock_timestamp() + interval '100 milliseconds', updated_at = now() where j.job_id = v_job.job_id;
      return query select v_id, 'busy', null::uuid, null, null, null, null::jsonb, null, null::bigint, null::bigint, false, null::uuid, null::uuid;
    elsif v_job.error_count < 4 then
      raise warning 'execution % could not be claimed: %', v_id, v_error;
      update jobs.gue_jobs j set error_count = j.error_count + 1, last_error = left(v_error, 4000), updated_at = now(),
        run_at = clock_timestamp() + make_interval(secs => 2 ^ v_job.error_count)
      where j.job_id = v_job.job_id;
      return query select v_id, 'error', null::uuid, null, null, null, null::jsonb, null, null::bigint, null::bigint, false, null::uuid, null::uuid;
    else
      perform private.bury_job(v_job.job_id, v_job.job_type, v_job.queue, case when v_id is null then 'null' else convert_from(v_job.args, 'UTF8')::jsonb end,
        v_job.error_count + 1, v_error, v_job.created_at);
      delete from jobs.gue_jobs j where j.job_id = v_job.job_id;
      update public.skill_executions x set status = 'failed', error_code = 'UNKNOWN_ERROR', error_message = 'The run could not be started.'
      where x.id = v_id and not private.is_final(x.status);
      return query select v_id, 'error', null::uuid, null, null, null, null::jsonb, null, null::bigint, null::bigint, false, null::uuid, null::uuid;
    end if;
  end loop;
end
$$;
comment on function private.take_executions is
  'Leases up to p_limit waiting runs for p_seconds; one row a job that was looked at. Authorization: callable by the worker only.';

-- Renews the leases of all runs of a process in one round trip, and returns the runs that it has lost: cancelled, ended by the sweeper, or
-- taken by another worker.
create or replace function private.renew_executions(p_ids uuid[], p_tokens uuid[], p_seconds integer) returns setof uuid
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- A row that another transaction is changing just now is left alone: either it is lost the next time, or its lease still holds for a
  -- while.
  update public.skill_executions x set lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds)
  where x.id in (
    select e.id from unnest(p_ids, p_tokens) as m (id, token)
    join public.skill_executions e on e.id = m.id and e.lease_token = m.token and e.status = 'running'
    for no key update of e skip locked);
  return query
    select m.id from unnest(p_ids, p_tokens) as m (id, token)
    where not exists (select from public.skill_executions e where e.id = m.id and e.lease_token = m.token and e.status = 'running');
end
$$;
comment on function private.renew_executions is 'Renews the leases that are still held and gives the lost ones. Authorization: callable by the worker only.';

-- p: status (completed or failed), output, promptTokens, completionTokens, errorCode, errorMessage.
create or replace function private.finish_execution(p_id uuid, p_token uuid, p jsonb) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_done boolean := p ->> 'status' = 'completed';
begin
  if v_done then
    -- Locks the skill before the run: the deletion of a skill locks them in this order as well.
    perform from public.skills s where s.id = (select e.skill_id from public.skill_executions e where e.id = p_id) for no key update;
  end if;
  update public.skill_executions e set
    status = p ->> 'status',
    output = case when v_done then coalesce(p ->> 'output', '') end,
    prompt_tokens = (p ->> 'promptTokens')::integer,
    completion_tokens = (p ->> 'completionTokens')::integer,
    cost_cents = private.cost_cents(e.model_called, (private.resolve_model(e.model)).model, (p ->> 'promptTokens')::bigint, (p ->> 'completionTokens')::bigint),
    error_code = case when not v_done then left(coalesce(p ->> 'errorCode', 'UNKNOWN_ERROR'), 50) end,
    error_message = case when not v_done then left(coalesce(p ->> 'errorMessage', 'The run failed.'), 4000) end
  where e.id = p_id and e.lease_token = p_token and e.status = 'running';
  return found;
end
$$;
comment on function private.finish_execution is
  'Ends a leased run; false when the lease or the run is gone, and the result is dropped. Authorization: callable by the worker only.';

-- A cancelled run may have cost something: the usage that the provider had counted when its call was aborted arrives after the end of the
-- run.
create or replace function private.charge_execution(p_id uuid, p_prompt_tokens bigint, p_completion_tokens bigint) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.skill_executions e set prompt_tokens = p_prompt_tokens, completion_tokens = p_completion_tokens,
    cost_cents = private.cost_cents(e.model_called, (private.resolve_model(e.model)).model, p_prompt_tokens, p_completion_tokens)
  where e.id = p_id and e.status = 'cancelled' and e.prompt_tokens is null;
  return found;
end
$$;
comment on function private.charge_execution is
  'Tokens and cost of a run that was cancelled while its model answered, once; false for any other. Authorization: callable by the worker only.';

-- Publishes text of a streaming run. The run is marked as having sent text before the first piece goes out.
create or replace function private.publish_output(p_id uuid, p_token uuid, p_seq integer, p_chunk text) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid;
begin
  if p_seq = 0 then
    update public.skill_executions e set has_streamed = true
    where e.id = p_id and e.lease_token = p_token and e.status = 'running' returning e.user_id into v_user;
  else
    select e.user_id into v_user from public.skill_executions e where e.id = p_id and e.lease_token = p_token and e.status = 'running';
  end if;
  if v_user is null then
    return false;
  end if;
  perform private.publish('user:' || v_user, 'execution_output', jsonb_build_object('executionId', p_id, 'seq', p_seq, 'chunk', p_chunk));
  return true;
end
$$;
comment on function private.publish_output is 'execution_output of a leased run; false when it is lost. Authorization: callable by the worker only.';

-- A worker that shuts down hands its runs to another worker at once, and this does not count as a loss.
create or replace function private.hand_back_executions(p_ids uuid[], p_tokens uuid[]) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e public.skill_executions;
  v_count integer := 0;
begin
  for e in
    select x.* from unnest(p_ids, p_tokens) as m (id, token)
    join public.skill_executions x on x.id = m.id and x.lease_token = m.token and x.status = 'running'
    order by x.id for no key update of x
  loop
    if e.has_streamed then
      perform private.fail_execution(e.id, 'UNKNOWN_ERROR', 'Skill execution was interrupted');
    else
      update public.skill_executions x set takes = x.takes - 1, lease_token = null, lease_expires_at = clock_timestamp(),
        job_id = private.enqueue('executions.run', jsonb_build_object('executionId', x.id), now(), null, 'executions')
      where x.id = e.id;
    end if;
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;
comment on function private.hand_back_executions is 'Gives leased runs back for another worker to take at once. Authorization: callable by the worker only.';
grant execute on function private.take_executions, private.renew_executions, private.finish_execution, private.charge_execution, private.publish_output,
  private.hand_back_executions to kijko_worker;
