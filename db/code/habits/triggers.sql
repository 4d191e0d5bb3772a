-- The rules of a habit for every writer: psql, Supabase's clients, the API and our own functions meet the same rules and messages.

create or replace function private.habit_fields(o public.habits, n public.habits) returns text[]
language plpgsql immutable parallel safe
as $$
begin
  return array_remove(array[
    case when n.schedule_cron <> o.schedule_cron then 'scheduleCron' end,
    case when n.schedule_description is distinct from o.schedule_description then 'scheduleDescription' end,
    case when n.timezone <> o.timezone then 'timezone' end, case when n.config <> o.config then 'config' end,
    case when n.is_active <> o.is_active then 'isActive' end,
    case when n.consecutive_failures <> o.consecutive_failures then 'consecutiveFailures' end,
    case when n.last_error_message is distinct from o.last_error_message then 'lastErrorMessage' end], null);
end
$$;
comment on function private.habit_fields is 'Names of the contract for what differs between two states of a habit; counters of use are no change.';

-- The rules of contract 20, 2.2. A value that was checked when it was stored is not checked again.
create or replace function private.assert_habit(o public.habits, n public.habits) returns void
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_error text;
begin
  if n.skill_id is null then
    perform private.refuse_field('skillId', 'skillId is required.');
  elsif o.id is null and not private.sees_skill(n.user_id, n.skill_id) then
    perform private.refuse_skill(n.skill_id::text, 'skillId');
  end if;
  if n.schedule_cron is null then
    perform private.refuse_field('scheduleCron', 'scheduleCron is required.');
  elsif n.schedule_cron is distinct from o.schedule_cron then
    v_error := private.cron_error(n.schedule_cron);
    if v_error is not null then
      perform private.refuse(400, 'INVALID_CRON', v_error, 'scheduleCron');
    end if;
  end if;
  if char_length(n.schedule_description) > 255 then
    perform private.refuse_field('scheduleDescription', 'Schedule description must be 255 characters or less');
  end if;
  if n.timezone is distinct from o.timezone and not private.is_zone(n.timezone) then
    perform private.refuse(400, 'INVALID_TIMEZONE', format('"%s" is not a time zone', left(n.timezone, 50)), 'timezone');
  end if;
  if n.config is distinct from o.config then
    if jsonb_typeof(n.config) is distinct from 'object' then
      perform private.refuse_field('config', 'Config must be an object');
    -- A number with a huge exponent takes a few bytes here and a hundred thousand digits in text.
    elsif private.is_larger(n.config, 65536) or jsonb_path_exists(n.config, 'strict $.** ? (@ > 1e308 || @ < -1e308)') then
      perform private.refuse_field('config', 'Config must be 64 KiB or less');
    end if;
  end if;
  if n.is_active is null then
    perform private.refuse_field('isActive', 'isActive must be true or false');
  end if;
end
$$;
comment on function private.assert_habit is
  'Refuses what may not stand in a habit; o is null for a new one. Authorization: nothing about the caller; callable by triggers of ours only.';

create or replace function private.tg_habits__check() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_habits constant integer := 1000;
  v_void text;
begin
  if tg_op = 'UPDATE' then
    if (new.id, new.user_id, new.organization_id, new.skill_id, new.created_at)
      is distinct from (old.id, old.user_id, old.organization_id, old.skill_id, old.created_at) then
      perform private.refuse(400, 'READ_ONLY_FIELD', 'A habit keeps its skill and its owner.', 'skillId');
    end if;
  elsif (select count(*) from public.habits h where h.user_id = new.user_id) >= c_habits then
    perform private.refuse(409, 'TOO_MANY_HABITS', format('You have %s habits. Delete one first.', c_habits));
  end if;
  new.schedule_description := nullif(new.schedule_description, '');
  v_void := private.assert_habit(old, new);
  if tg_op = 'INSERT' or new.schedule_cron <> old.schedule_cron then
    new.schedule_cron := private.normal_cron(new.schedule_cron);
  end if;

  if not new.is_active then
    new.next_run_at := null;
  elsif tg_op = 'INSERT' or not old.is_active or new.next_run_at is null or new.schedule_cron <> old.schedule_cron
    or new.timezone <> old.timezone then
    if tg_op = 'UPDATE' and not old.is_active then
      new.consecutive_failures := 0;
      new.last_error_message := null;
    end if;
    new.next_run_at := private.cron_next(new.schedule_cron, new.timezone, now());
    if new.next_run_at is null then
      new.is_active := false;
      new.last_error_message := 'Cron expression never runs';
    end if;
  end if;
  if tg_op = 'UPDATE' and (new.schedule_cron, new.schedule_description, new.timezone, new.config, new.is_active)
    is distinct from (old.schedule_cron, old.schedule_description, old.timezone, old.config, old.is_active) then
    new.updated_at := now();
  end if;
  return new;
end
$$;
comment on function private.tg_habits__check is
  'Trigger: the rules of contract 20, 2.2; next_run_at follows expression, zone and switch; switching on forgets failures; updated_at moves with the owner''s changes.';
-- Usage counters are not among the columns: each run moves them.
create or replace trigger _200_check before insert or update of id, user_id, organization_id, skill_id, schedule_cron, schedule_description,
  timezone, config, is_active, next_run_at, created_at
  on public.habits for each row execute function private.tg_habits__check();

create or replace function private.tg_habits__emit() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  h public.habits := coalesce(new, old);
  v_fields text[];
  v_void text;
begin
  if tg_op = 'UPDATE' then
    v_fields := private.habit_fields(old, new);
    if v_fields = '{}' then
      return null;
    end if;
  end if;
  v_void := private.emit('user:' || h.user_id, 'resource_changed', jsonb_strip_nulls(jsonb_build_object('resource', 'habit', 'id', h.id,
      'operation', case tg_op when 'INSERT' then 'created' when 'UPDATE' then 'updated' else 'deleted' end,
      'changedFields', to_jsonb(v_fields), 'updatedAt', private.iso(now()))),
    null, null, 'room', 'habit', h.id);
  return null;
end
$$;
comment on function private.tg_habits__emit is 'Trigger: resource_changed in the owner''s room, also where the worker counts a failure or switches off.';
create or replace trigger _900_emit after insert or delete or update of schedule_cron, schedule_description, timezone, config, is_active,
  consecutive_failures, last_error_message
  on public.habits for each row execute function private.tg_habits__emit();

-- The habits of a removed member are stopped. A deactivated member's habits stay switched on: the dispatcher skips them until the member is
-- active again.
create or replace function private.tg_memberships__stop_habits() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- Where the organization or the person is deleted, the habits are deleted too.
  if exists (select from public.organizations o where o.id = old.organization_id)
    and exists (select from public.users u where u.id = old.user_id) then
    update public.habits set is_active = false
    where user_id = old.user_id and organization_id = old.organization_id and is_active;
  end if;
  return null;
end
$$;
comment on function private.tg_memberships__stop_habits is 'Trigger: a removed member''s habits of that organization are switched off.';
create or replace trigger _500_stop_habits after delete on public.memberships
  for each row execute function private.tg_memberships__stop_habits();
