-- The rules of a reflex for every writer, and the events of its changes. Only functions move counters.

create or replace function private.tg_reflexes__check() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_reflexes constant integer := 1000;
begin
  if tg_op = 'INSERT' then
    if (select count(*) from public.reflexes r where r.user_id = new.user_id) >= c_reflexes then
      perform private.refuse(409, 'TOO_MANY_REFLEXES', format('You have %s reflexes. Delete one first.', c_reflexes));
    elsif not private.sees_skill(new.user_id, new.skill_id) then
      perform private.refuse_skill(coalesce(new.skill_id::text, ''), 'skillId');
    end if;
  elsif (new.id, new.user_id, new.organization_id, new.skill_id, new.trigger_type)
    is distinct from (old.id, old.user_id, old.organization_id, old.skill_id, old.trigger_type) then
    perform private.refuse(400, 'READ_ONLY_FIELD', 'Skill and trigger type of a reflex cannot be changed.',
      case when new.skill_id <> old.skill_id then 'skillId' when new.trigger_type <> old.trigger_type then 'triggerType' end);
  end if;
  if new.is_active is null then
    perform private.refuse_field('isActive', 'isActive must be true or false.');
  end if;
  if tg_op = 'INSERT' or new.trigger_config is distinct from old.trigger_config then
    new.trigger_config := private.tidy_trigger(new.trigger_type, new.trigger_config);
  end if;
  if tg_op = 'INSERT' or new.conditions is distinct from old.conditions then
    new.conditions := private.tidy_conditions(new.conditions);
  end if;
  if tg_op = 'UPDATE' then
    if new.is_active and not old.is_active then
      -- For every writer: switching on requires the skill, except where errors are reset.
      if current_setting('app.reviving', true) is distinct from 'on' then
        perform private.assert_skill_runs(new.skill_id, new.user_id);
      end if;
      new.consecutive_failures := 0;
      new.last_error_message := null;
    end if;
    if (new.trigger_config, new.conditions, new.is_active) is distinct from (old.trigger_config, old.conditions, old.is_active) then
      new.updated_at := now();
    end if;
  end if;
  return new;
end
$$;
comment on function private.tg_reflexes__check is
  'Trigger: the rules of contract 20, 2.3 and 9; the skill must be visible to the owner, and cannot be exchanged.';
create or replace trigger _200_check
  before insert or update of id, user_id, organization_id, skill_id, trigger_type, trigger_config, conditions, is_active
  on public.reflexes for each row execute function private.tg_reflexes__check();

create or replace function private.reflex_fields(o public.reflexes, n public.reflexes) returns text[]
language plpgsql immutable parallel safe
as $$
begin
  return array_remove(array[
    case when n.trigger_config <> o.trigger_config then 'triggerConfig' end,
    case when n.conditions is distinct from o.conditions then 'conditions' end,
    case when n.is_active <> o.is_active then 'isActive' end,
    case when n.consecutive_failures <> o.consecutive_failures then 'consecutiveFailures' end,
    case when n.last_error_message is distinct from o.last_error_message then 'lastErrorMessage' end], null);
end
$$;
comment on function private.reflex_fields is 'Names of the contract for what differs between two states of a reflex; firings are told by their executions.';

create or replace function private.tg_reflexes__tell() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.reflexes := coalesce(new, old);
  v_fields text[];
  v_void text;
begin
  if tg_op = 'UPDATE' then
    v_fields := private.reflex_fields(old, new);
    if v_fields = '{}' then
      return null;
    end if;
  end if;
  v_void := private.emit('user:' || r.user_id, 'resource_changed', jsonb_strip_nulls(jsonb_build_object('resource', 'reflex', 'id', r.id,
      'operation', case tg_op when 'INSERT' then 'created' when 'UPDATE' then 'updated' else 'deleted' end,
      'changedFields', to_jsonb(v_fields), 'updatedAt', private.iso(case when tg_op = 'DELETE' then now() else r.updated_at end))),
    r.organization_id, null, 'room', 'reflex', r.id);
  return null;
end
$$;
comment on function private.tg_reflexes__tell is 'Trigger: resource_changed to the owner''s room, also for failures and switching off.';
create or replace trigger _900_notify after insert or delete on public.reflexes
  for each row execute function private.tg_reflexes__tell();
create or replace trigger _900_notify_change
  after update of trigger_config, conditions, is_active, consecutive_failures, last_error_message
  on public.reflexes for each row execute function private.tg_reflexes__tell();

-- The reflexes of a removed member are stopped. A deactivated member's reflexes stay switched on: firing skips them until the member is
-- active again.
create or replace function private.tg_memberships__stop_reflexes() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- Where the organization or the person is deleted, the reflexes are deleted too.
  if exists (select from public.organizations o where o.id = old.organization_id)
    and exists (select from public.users u where u.id = old.user_id) then
    update public.reflexes set is_active = false
    where user_id = old.user_id and organization_id = old.organization_id and is_active;
  end if;
  return null;
end
$$;
comment on function private.tg_memberships__stop_reflexes is 'Trigger: a removed member''s reflexes of that organization are switched off.';
create or replace trigger _500_stop_reflexes after delete on public.memberships
  for each row execute function private.tg_memberships__stop_reflexes();
