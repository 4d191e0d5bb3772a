-- Executions (contract 20, section 6): one row for each run of a skill. This file holds the functions for other features: how a run is
-- shown and how it begins. A run is paid for and its job is enqueued in the transaction that inserts it, so there is never one without the
-- other.

-- Nulls inside the input are the caller's own values and stay; only absent members are left out.
create or replace function private.execution_json(e public.skill_executions) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object(
    'id', e.id, 'skillId', e.skill_id, 'userId', e.user_id, 'executionType', e.execution_type, 'referenceId', e.reference_id,
    'output', e.output, 'promptTokens', e.prompt_tokens, 'completionTokens', e.completion_tokens,
    'tokensUsed', e.prompt_tokens + e.completion_tokens, 'durationMs', e.duration_ms, 'costCents', e.cost_cents, 'status', e.status,
    'errorMessage', e.error_message, 'errorCode', e.error_code, 'executedAt', private.iso(e.executed_at),
    'completedAt', private.iso(e.completed_at)))
  || case when e.input is null then '{}' else jsonb_build_object('input', e.input) end;
comment on function private.execution_json is 'SkillExecution of the contract.';
grant execute on function private.execution_json to authenticated;

-- Late bound: the list of files may install skills before or after executions.
create or replace function private.execution_with_skill_json(e public.skill_executions, s public.skills) returns jsonb
language plpgsql stable parallel safe
as $$
begin
  return private.execution_json(e) || case when s.id is null then '{}' else jsonb_build_object('skill', private.skill_json(s)) end;
end
$$;
comment on function private.execution_with_skill_json is 'ExecutionWithSkill of the contract; s is null where the skill is gone or hidden.';
grant execute on function private.execution_with_skill_json to authenticated;

-- Counts one unit of api_calls. A request that came with an API key was counted when it was admitted, so a run that it starts is not
-- counted again.
create or replace function private.consume_call(p_org_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if not private.is_key_request() then
    perform private.consume_quota(p_org_id, 'api_calls', 1);
  end if;
end
$$;
comment on function private.consume_call is
  'Counts a run or a test, or refuses with 429 QUOTA_EXCEEDED. Authorization: callable by definer functions of ours only.';

-- p_on_quota: 'refuse' for callers who wait for an answer; 'record' for scheduled runs and firings, whose refusal becomes a failed row
-- (contract 20, 6.7). p_stream: a client reads the text, so a run that was interrupted after its first text is not repeated.
create or replace function private.start_execution(
  p_skill_id uuid, p_user_id uuid, p_org_id uuid, p_type text, p_reference_id uuid, p_input jsonb,
  p_on_quota text default 'refuse', p_stream boolean default false
) returns public.skill_executions
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.skill_executions;
  v_refused text;
begin
  r.id := gen_random_uuid();
  if p_on_quota = 'record' then
    begin
      perform private.consume_call(p_org_id);
    exception when sqlstate 'PT429' then
      v_refused := sqlerrm;
    end;
  end if;
  if v_refused is null then
    -- Uses the clock: of several runs that one transaction starts, the first is executed first.
    r.job_id := private.enqueue('executions.run', jsonb_build_object('executionId', r.id), clock_timestamp(), null, 'executions');
  end if;
  insert into public.skill_executions (id, user_id, organization_id, skill_id, execution_type, reference_id, input, is_streamed, job_id,
    status, error_code, error_message, completed_at)
  values (r.id, p_user_id, p_org_id, p_skill_id, p_type, p_reference_id, coalesce(p_input, '{}'), p_stream, r.job_id,
    case when v_refused is null then 'pending' else 'failed' end, case when v_refused is not null then 'QUOTA_EXCEEDED' end, v_refused,
    case when v_refused is not null then clock_timestamp() end)
  returning * into r;
  -- Comes last, since all callers of the organization wait for this row.
  if p_on_quota <> 'record' then
    perform private.consume_call(p_org_id);
  end if;
  return r;
end
$$;
comment on function private.start_execution is
  'Inserts a run, pays for it and enqueues its job. Authorization: nothing about the caller; callable by definer functions of ours only. Errors: 429 QUOTA_EXCEEDED unless recorded.';
