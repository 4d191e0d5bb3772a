-- The state machine of a run (contract 20, 6.1) and the effects of its steps: counters of skill, habit and reflex (16.3), counting of
-- failures and switching off (7.2), and the event for its owner. They apply to every writer of the row.

create or replace function private.is_final(p_status text) returns boolean
language sql immutable parallel safe
return p_status in ('completed', 'failed', 'cancelled');
comment on function private.is_final is 'Is this status one that never changes?';
grant execute on function private.is_final to authenticated;

-- Stamps the columns of a step, and refuses invalid steps.
create or replace function private.tg_skill_executions__check() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_refused boolean;
begin
  if new.status = old.status then
    -- In an ended run only texts may be emptied, and the skill may become null. The cost of a cancelled run is written once.
    v_refused := private.is_final(old.status)
      and ((new.duration_ms, new.error_code, new.completed_at, new.started_at,
          coalesce(new.skill_id, old.skill_id), coalesce(new.input, old.input), coalesce(new.output, old.output), coalesce(new.error_message, old.error_message))
        is distinct from (old.duration_ms, old.error_code, old.completed_at, old.started_at,
          old.skill_id, old.input, old.output, old.error_message)
        or (new.prompt_tokens, new.completion_tokens, new.cost_cents) is distinct from (old.prompt_tokens, old.completion_tokens, old.cost_cents)
          and not (old.status = 'cancelled' and num_nonnulls(old.prompt_tokens, old.completion_tokens, old.cost_cents) = 0));
  else
    v_refused := private.is_final(old.status)
      or not (new.status in ('failed', 'cancelled') or (old.status, new.status) in (('pending', 'running'), ('running', 'completed')));
  end if;
  if v_refused then
    perform private.refuse_row('skill_executions', 'skill_executions_final_check');
  end if;
  if (new.id, new.user_id, new.organization_id, new.execution_type, new.reference_id, new.executed_at)
    is distinct from (old.id, old.user_id, old.organization_id, old.execution_type, old.reference_id, old.executed_at) then
    perform private.refuse_row('skill_executions', 'skill_executions_identity_check');
  end if;
  if new.status <> old.status then
    if new.status = 'running' then
      new.started_at := clock_timestamp();
      new.job_id := null;
    else
      new.completed_at := clock_timestamp();
      if new.started_at is not null then
        new.duration_ms := round(extract(epoch from new.completed_at - new.started_at) * 1000)::integer;
      end if;
      new.lease_token := null;
      new.lease_expires_at := null;
      if old.status = 'running' and new.status = 'cancelled' then
        -- Rare, so it may notify inside the transaction: the worker that has the run aborts its model call.
        perform pg_notify('kijko_cancelled', new.id::text);
      end if;
    end if;
  end if;
  return new;
end
$$;
comment on function private.tg_skill_executions__check is
  'Trigger: pending, running, one final state and no step after it; stamps start, end and duration, and tells the worker of a cancelled run.';
create or replace trigger _200_check before update on public.skill_executions
  for each row execute function private.tg_skill_executions__check();

create or replace function private.tg_skill_executions__count() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    if new.execution_type = 'habit' then
      update public.habits set run_count = run_count + 1, last_run_at = new.executed_at
      where id = new.reference_id and user_id = new.user_id;
    elsif new.execution_type = 'reflex' then
      update public.reflexes set trigger_count = trigger_count + 1, last_triggered_at = new.executed_at
      where id = new.reference_id and user_id = new.user_id;
    end if;
  elsif new.status = old.status then
    return null;
  end if;
  if new.status = 'completed' then
    update public.skills set execution_count = execution_count + 1, last_executed_at = new.completed_at, updated_at = now()
    where id = new.skill_id;
  end if;
  if new.reference_id is not null and (new.status = 'completed'
    or new.status = 'failed' and new.error_code not in ('QUOTA_EXCEEDED', 'PROVIDER_NOT_CONFIGURED', 'MEMBERSHIP_INACTIVE')) then
    perform private.count_outcome(new);
  end if;
  return null;
end
$$;
comment on function private.tg_skill_executions__count is
  'Trigger: a run counts for its habit or reflex when it begins, for its skill when it is completed, and its end for the streak of failures.';

-- Three failures without a success in between switch a habit or reflex off; a success does not switch it on again. Habits drop next_run_at
-- with is_active by their own trigger. Failures that the habit did not cause do not count: quota, provider, and a deactivated membership,
-- which pauses habits and reflexes but leaves them as they are.
create or replace function private.count_outcome(e public.skill_executions) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_limit constant integer := 3;
  v_failed constant boolean := e.status = 'failed';
begin
  if e.execution_type = 'habit' then
    update public.habits h set
      consecutive_failures = case when v_failed then h.consecutive_failures + 1 else 0 end,
      last_error_message = case when v_failed then left(e.error_message, 500) end,
      is_active = h.is_active and not (v_failed and h.consecutive_failures + 1 >= c_limit),
      next_run_at = case when h.is_active and not (v_failed and h.consecutive_failures + 1 >= c_limit) then h.next_run_at end
    where h.id = e.reference_id and h.user_id = e.user_id
      and (v_failed or h.consecutive_failures <> 0 or h.last_error_message is not null);
  else
    update public.reflexes x set
      consecutive_failures = case when v_failed then x.consecutive_failures + 1 else 0 end,
      last_error_message = case when v_failed then left(e.error_message, 500) end,
      is_active = x.is_active and not (v_failed and x.consecutive_failures + 1 >= c_limit)
    where x.id = e.reference_id and x.user_id = e.user_id
      and (v_failed or x.consecutive_failures <> 0 or x.last_error_message is not null);
  end if;
end
$$;
comment on function private.count_outcome is
  'The end of a run in the streak of failures of its habit or reflex. Authorization: callable by triggers of ours only.';
create or replace trigger _800_count after insert or update of status on public.skill_executions
  for each row execute function private.tg_skill_executions__count();

create or replace function private.tg_skill_executions__emit() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_name text;
begin
  if tg_op = 'UPDATE' and new.status = old.status then
    return null;
  end if;
  -- The fields that the owner of the run may see, as they are at this moment: the event is stored.
  select s.name into v_name from public.skills s
  where s.id = new.skill_id and (s.user_id = new.user_id or s.is_public and s.is_active);
  perform private.emit('user:' || new.user_id, 'execution_update',
    jsonb_strip_nulls(jsonb_build_object('executionId', new.id, 'skillId', new.skill_id, 'skillName', v_name,
      'executionType', new.execution_type, 'referenceId', new.reference_id, 'status', new.status,
      'tokensUsed', new.prompt_tokens + new.completion_tokens, 'durationMs', new.duration_ms, 'costCents', new.cost_cents,
      'errorMessage', new.error_message, 'errorCode', new.error_code, 'executedAt', private.iso(new.executed_at),
      'completedAt', private.iso(new.completed_at))),
    null, null, 'room', 'execution', new.id);
  return null;
end
$$;
comment on function private.tg_skill_executions__emit is 'Trigger: execution_update to the owner''s room at the beginning and at each step.';
create or replace trigger _900_emit after insert or update of status on public.skill_executions
  for each row execute function private.tg_skill_executions__emit();
