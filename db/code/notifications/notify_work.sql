-- Work that ended (contract 30, 11.6): ingestions, habits and reflexes that fail, long runs of skills. The person who caused it is notified
-- too.

create or replace function private.tg_ingestion_runs__notify_people() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_name text;
  v_completed boolean := new.outcome = 'completed';
begin
  select private.one_line(p.name) into v_name from public.projects p where p.id = new.project_id;
  perform private.notify_all(private.project_audience(new.project_id, case when v_completed then 'ingestion' else 'error' end), 'task_completion',
    format('Ingestion of "%s" %s', v_name, new.outcome),
    case when v_completed then format('%s files, %s tokens.', new.total_files, coalesce(new.optimized_tokens, new.tokens_processed)) else new.error_message end,
    jsonb_strip_nulls(jsonb_build_object('projectId', new.project_id, 'runId', new.id, 'errorCode', new.error_code)),
    '/project/' || new.project_id, false, 'run:' || new.id, private.user_id(), new.organization_id, null, new.project_id);
  return null;
end
$$;
comment on function private.tg_ingestion_runs__notify_people is 'Trigger: a run that completed, or failed and is not tried again, notifies the project''s people.';
create or replace trigger _900_notify_people after update on public.ingestion_runs
  -- A run that only renews the index ingests nothing; of its failure people hear, because searches find what is no more.
  for each row when (old.outcome = 'open' and (new.outcome = 'failed'
    or new.outcome = 'completed' and not coalesce(new.options -> 'scope', '{}') ?| array['rollback', 'refresh']))
  execute function private.tg_ingestion_runs__notify_people();

-- The executions move the counters. This trigger reports the first failure of a streak and the switching off.
create or replace function private.tg__notify_failures() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_kind constant text := tg_argv[0];
  v_off constant boolean := old.is_active and not new.is_active;
  v_skill text;
begin
  select private.one_line(s.name) into v_skill from public.skills s where s.id = new.skill_id;
  perform private.notify(new.user_id, 'task_completion',
    case when v_off then format('The %s of "%s" was switched off', v_kind, v_skill) else format('The %s of "%s" failed', v_kind, v_skill) end,
    case when v_off then format('It failed %s times in a row.', new.consecutive_failures) || coalesce(' ' || new.last_error_message, '')
      else new.last_error_message end,
    jsonb_build_object(v_kind || 'Id', new.id, 'skillId', new.skill_id), '/?tab=skills', v_off,
    format('%s:%s:%s:%s', v_kind, new.id, case when v_off then 'off' else 'streak' end, pg_current_xact_id()), private.user_id(), new.organization_id);
  return null;
end
$$;
comment on function private.tg__notify_failures is 'Trigger (argument: habit or reflex): its owner hears of the first failure of a streak, and urgently of the switching off.';
create or replace trigger _900_notify_failures after update on public.habits for each row
  when (new.consecutive_failures > old.consecutive_failures and (old.consecutive_failures = 0 or (old.is_active and not new.is_active)))
  execute function private.tg__notify_failures('habit');
create or replace trigger _900_notify_failures after update on public.reflexes for each row
  when (new.consecutive_failures > old.consecutive_failures and (old.consecutive_failures = 0 or (old.is_active and not new.is_active)))
  execute function private.tg__notify_failures('reflex');

-- A person does not wait for half a minute in front of a screen. After a longer run that was started by hand they have gone on to something
-- else.
create or replace function private.tg_skill_executions__notify_long() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_skill text;
begin
  select private.one_line(s.name) into v_skill from public.skills s where s.id = new.skill_id;
  perform private.notify(new.user_id, 'task_completion',
    format('"%s" %s', coalesce(v_skill, 'A skill'), case new.status when 'completed' then 'has finished' when 'failed' then 'has failed' else 'was cancelled' end),
    case when new.status = 'failed' then left(new.error_message, 500) end,
    jsonb_strip_nulls(jsonb_build_object('executionId', new.id, 'skillId', new.skill_id)), '/?tab=skills', false, 'execution:' || new.id,
    private.user_id(), new.organization_id);
  return null;
end
$$;
comment on function private.tg_skill_executions__notify_long is 'Trigger: a run by hand that took over 30 seconds notifies the user who started it.';
create or replace trigger _900_notify_long after update of status on public.skill_executions for each row
  when (new.execution_type = 'manual' and old.completed_at is null
    and coalesce(new.duration_ms, extract(epoch from new.completed_at - coalesce(new.started_at, new.executed_at)) * 1000) > 30000)
  execute function private.tg_skill_executions__notify_long();
