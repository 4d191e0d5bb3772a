-- The rules of a skill for every writer, and the effects of its changes. Only functions move counters, and a moved counter is no change of
-- the skill: it neither stamps the skill nor publishes an event.

create or replace function private.skill_fields(o public.skills, n public.skills) returns text[]
language plpgsql immutable parallel safe
as $$
begin
  return array_remove(array[
    case when n.name <> o.name then 'name' end, case when n.description is distinct from o.description then 'description' end,
    case when n.category <> o.category then 'category' end, case when n.prompt_template <> o.prompt_template then 'promptTemplate' end,
    case when n.model <> o.model then 'model' end, case when n.parameters <> o.parameters then 'parameters' end,
    case when n.input_schema is distinct from o.input_schema then 'inputSchema' end,
    case when n.output_format <> o.output_format then 'outputFormat' end, case when n.is_active <> o.is_active then 'isActive' end,
    case when n.is_public <> o.is_public then 'isPublic' end], null);
end
$$;
comment on function private.skill_fields is 'Names of the contract for what differs between two states of a skill.';
grant execute on function private.skill_fields to authenticated, service_role, kijko_worker;

create or replace function private.tg_skills__check() returns trigger
language plpgsql volatile
as $$
declare
  v record;
  v_clash text;
begin
  new.name := private.stripped(new.name);
  new.description := nullif(new.description, '');
  new.parameters := private.known_parameters(new.parameters);
  new.input_schema := private.known_fields(new.input_schema);
  -- An assignment is no query.
  v := private.skill_fault(new, case when tg_op = 'UPDATE' then old.model end);
  if v.message is not null then
    perform private.refuse_field(v.field, v.message);
  end if;
  if tg_op = 'UPDATE' and private.skill_fields(old, new) <> '{}' then
    new.updated_at := now();
  end if;
  if tg_op = 'INSERT' or private.folded(new.name) <> private.folded(old.name) then
    v_clash := private.skill_named(new.user_id, new.name, new.id);
    if v_clash is not null then
      perform private.refuse(409, 'SKILL_NAME_EXISTS', format('A skill named "%s" already exists', v_clash), 'name');
    end if;
  end if;
  return new;
end
$$;
comment on function private.tg_skills__check is
  'Trigger: the rules of contract 20, 2.1, in its words; updated_at moves with what the owner changed.';
create or replace trigger _200_check
  before insert or update of name, description, category, prompt_template, model, parameters, input_schema, output_format, is_active, is_public
  on public.skills for each row execute function private.tg_skills__check();

-- The history keeps its numbers for accounting. The texts of the owner's own runs are deleted with the skill; the texts of other people's
-- runs of a public skill stay. Open runs end first: without a skill they would fail anyway.
create or replace function private.release_executions(p_skill_id uuid, p_owner_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.skill_executions set status = 'cancelled', error_message = 'Skill deleted'
  where skill_id = p_skill_id and status in ('pending', 'running');
  update public.skill_executions set input = null, output = null, error_message = null
  where skill_id = p_skill_id and user_id = p_owner_id
    and (input is not null or output is not null or error_message is not null);
end
$$;
comment on function private.release_executions is
  'Ends the open runs of a skill and erases the texts of its owner''s. Authorization: callable by functions and triggers of ours only.';

create or replace function private.tg_skills__release_executions() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.release_executions(old.id, old.user_id);
  return old;
end
$$;
comment on function private.tg_skills__release_executions is 'Trigger: releases the runs of a skill that is deleted, by its owner or by a cascade.';
create or replace trigger _500_release_executions before delete on public.skills
  for each row execute function private.tg_skills__release_executions();

-- Without it the cascades would run in the order in which the tables were created, and each skill would first update runs that are deleted
-- as well.
create or replace function private.tg_users__delete_skills() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.skill_executions where user_id = old.id;
  delete from public.reflexes where user_id = old.id;
  delete from public.habits where user_id = old.id;
  delete from public.skills where user_id = old.id;
  return old;
end
$$;
comment on function private.tg_users__delete_skills is 'Trigger: a person who goes takes executions, reflexes, habits and skills along, in this order.';
create or replace trigger _500_delete_skills before delete on public.users
  for each row execute function private.tg_users__delete_skills();

create or replace function private.tg_skills__tell() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.skills := coalesce(new, old);
  v_fields text[];
  v_void text;
begin
  if tg_op = 'UPDATE' then
    v_fields := private.skill_fields(old, new);
    if v_fields = '{}' then
      return null;
    end if;
  end if;
  v_void := private.emit('user:' || s.user_id, 'resource_changed', jsonb_strip_nulls(jsonb_build_object('resource', 'skill', 'id', s.id,
      'operation', case tg_op when 'INSERT' then 'created' when 'UPDATE' then 'updated' else 'deleted' end,
      'changedFields', to_jsonb(v_fields), 'updatedAt', private.iso(case when tg_op = 'DELETE' then now() else s.updated_at end))),
    s.organization_id, null, 'room', 'skill', s.id);
  return null;
end
$$;
comment on function private.tg_skills__tell is 'Trigger: resource_changed to the owner''s room; counters tell nothing.';
create or replace trigger _900_notify after insert or delete on public.skills
  for each row execute function private.tg_skills__tell();
create or replace trigger _900_notify_change
  after update of name, description, category, prompt_template, model, parameters, input_schema, output_format, is_active, is_public
  on public.skills for each row execute function private.tg_skills__tell();

create or replace function private.tg_skill_stars__count() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.skills set star_count = star_count + case tg_op when 'INSERT' then 1 else -1 end where id = coalesce(new.skill_id, old.skill_id);
  return null;
end
$$;
comment on function private.tg_skill_stars__count is 'Trigger: how many have starred a skill.';
create or replace trigger _800_count after insert or delete on public.skill_stars
  for each row execute function private.tg_skill_stars__count();

create or replace function private.tg_skill_ratings__count() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.skills
  set rating_sum = rating_sum + coalesce(new.rating, 0) - coalesce(old.rating, 0),
    rating_count = rating_count + case tg_op when 'INSERT' then 1 when 'DELETE' then -1 else 0 end
  where id = coalesce(new.skill_id, old.skill_id);
  return null;
end
$$;
comment on function private.tg_skill_ratings__count is 'Trigger: sum and number of the ratings of a skill.';
create or replace trigger _800_count after insert or update or delete on public.skill_ratings
  for each row execute function private.tg_skill_ratings__count();

create or replace trigger _100_touch before update on public.skill_ratings for each row execute function private.tg__touch();
create or replace trigger _100_touch before update on public.skill_playbooks for each row execute function private.tg__touch();
