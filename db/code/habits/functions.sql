-- Habits (contract 20, section 7): a skill on a schedule. A habit belongs to a person; the organization in which it was made pays for its
-- runs. This file holds how habits are shown, found, switched on, and run.

create or replace function private.habit_json(h public.habits) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', h.id, 'skillId', h.skill_id, 'userId', h.user_id, 'scheduleCron', h.schedule_cron,
    'scheduleDescription', h.schedule_description, 'timezone', h.timezone, 'lastRunAt', private.iso(h.last_run_at),
    'nextRunAt', private.iso(h.next_run_at), 'runCount', h.run_count, 'isActive', h.is_active,
    'consecutiveFailures', h.consecutive_failures, 'lastErrorMessage', h.last_error_message, 'createdAt', private.iso(h.created_at),
    'updatedAt', private.iso(h.updated_at)))
  -- Nulls in the configuration are the owner's own values.
  || jsonb_build_object('config', h.config);
comment on function private.habit_json is 'Habit of the contract.';

-- s is null where the skill is hidden.
create or replace function private.habit_with_skill_json(h public.habits, s public.skills) returns jsonb
language sql stable parallel safe
return private.habit_json(h) || jsonb_build_object('skill', case when s.id is null
  then private.missing_skill_json(h.skill_id, h.user_id, h.created_at, h.updated_at) else private.skill_json(s) end);
comment on function private.habit_with_skill_json is 'HabitWithSkill of the contract; a placeholder stands for a skill that the owner no longer sees.';

create or replace function private.refuse_habit(p_id text) returns void
language plpgsql stable
as $$
begin
  perform private.refuse(404, 'HABIT_NOT_FOUND', format('Habit with ID %s not found', left(p_id, 100)));
end
$$;
comment on function private.refuse_habit is '404 HABIT_NOT_FOUND.';

create or replace function private.path_habit(p jsonb) returns public.habits
language plpgsql stable
as $$
declare
  h public.habits;
begin
  select * into h from public.habits x where x.id = private.as_uuid(p ->> 'habitId');
  if not found then
    perform private.refuse_habit(coalesce(p ->> 'habitId', ''));
  end if;
  return h;
end
$$;
comment on function private.path_habit is 'The habit of the path, if it is the caller''s (row-level security says so). Errors: 404 HABIT_NOT_FOUND.';

create or replace function private.lock_habit(p jsonb) returns public.habits
language plpgsql volatile
as $$
declare
  h public.habits;
begin
  select * into h from public.habits x where x.id = private.as_uuid(p ->> 'habitId') for no key update;
  if not found then
    perform private.refuse_habit(coalesce(p ->> 'habitId', ''));
  end if;
  return h;
end
$$;
comment on function private.lock_habit is 'private.path_habit for a change: no other transaction changes the habit until the end of this one.';

create or replace function private.revive_habit(p_id uuid) returns public.habits
language plpgsql volatile security definer set search_path = ''
as $$
declare
  h public.habits;
begin
  -- Without next_run_at the trigger computes it from now, also of a habit that was active already.
  update public.habits x
  set is_active = true, next_run_at = null, consecutive_failures = 0, last_error_message = null, updated_at = now()
  where x.id = p_id and x.user_id = private.user_id()
  returning * into h;
  if not found then
    perform private.refuse_habit(coalesce(p_id::text, ''));
  end if;
  return h;
end
$$;
comment on function private.revive_habit is 'Switches a habit on, planned from now, its failures forgotten. Authorization: only habits of private.user_id().';

create or replace function private.run_habit(p_id uuid, out habit public.habits, out execution public.skill_executions)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.skills;
begin
  -- Locked before the organization's counters, as the dispatcher does: in the other order the two could deadlock.
  select * into habit from public.habits x where x.id = p_id and x.user_id = private.user_id() for no key update;
  if not found then
    perform private.refuse_habit(coalesce(p_id::text, ''));
  end if;
  s := private.visible_skill(habit.skill_id);
  if not s.is_active then
    perform private.refuse(409, 'SKILL_INACTIVE', 'Cannot run habit: associated skill is inactive');
  end if;
  if not private.is_active_member(habit.organization_id, habit.user_id) then
    perform private.refuse(403, 'MEMBERSHIP_INACTIVE', 'You are not an active member of the organization in which this habit was made.');
  end if;
  perform private.assert_provider(s.model, habit.organization_id);
  execution := private.start_execution(s.id, habit.user_id, habit.organization_id, 'habit', habit.id, habit.config);
end
$$;
comment on function private.run_habit is
  'Starts a run now; the plan stays as it is. Authorization: only habits of private.user_id(), on skills they see. Errors: 404, 409 SKILL_INACTIVE, 403 MEMBERSHIP_INACTIVE, 503 PROVIDER_NOT_CONFIGURED, 429 QUOTA_EXCEEDED.';

create or replace function private.is_active_member(p_org_id uuid, p_user_id uuid) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return exists (select from public.memberships m
    where m.organization_id = p_org_id and m.user_id = p_user_id and m.status = 'active');
end
$$;
comment on function private.is_active_member is 'Is the person an active member there? Authorization: callable by definer functions and triggers of ours only.';

-- The runs of a habit or a reflex, newest first.
create or replace function private.reference_executions_json(p_reference_id uuid, p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 10);
begin
  return jsonb_build_object(
    'executions', coalesce((select jsonb_agg(private.execution_json(e) order by e.executed_at desc, e.id desc) from (
      select * from public.skill_executions x where x.reference_id = p_reference_id
      order by x.executed_at desc, x.id desc limit v_at.size offset v_at.skipped) e), '[]'),
    'total', (select count(*) from public.skill_executions x where x.reference_id = p_reference_id));
end
$$;
comment on function private.reference_executions_json is '{executions, total} of a habit or reflex; row-level security leaves the caller''s.';

-- A date alone means its first moment in UTC; a time needs its offset. Digits finer than a microsecond are cut off, not rounded up.
create or replace function private.as_instant(p_text text) returns timestamptz
language plpgsql stable parallel safe
as $$
begin
  if p_text !~* '^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2}))?$' then
    return null;
  end if;
  return (regexp_replace(p_text, '(\.[0-9]{6})[0-9]+', '\1') || case when char_length(p_text) = 10 then 'T00:00:00Z' else '' end)::timestamptz;
exception when data_exception then
  return null;
end
$$;
comment on function private.as_instant is 'The text as a moment (ISO-8601), or null where it is none.';

grant execute on function private.habit_json, private.habit_with_skill_json, private.refuse_habit, private.path_habit, private.lock_habit,
  private.revive_habit, private.run_habit, private.reference_executions_json, private.as_instant to authenticated, service_role;
