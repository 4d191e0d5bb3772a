-- Copies of skills: duplicates, export and import of files, and operations on many skills at once (contract 20, sections 3.2, 3.4 and 3.8).

-- "Name (Copy)", "Name (1)": the name is shortened where the whole would pass 100 characters.
create or replace function private.suffixed_name(p_name text, p_suffix text) returns text
language sql immutable parallel safe
return private.stripped(left(p_name, 100 - char_length(p_suffix) - 1)) || ' ' || p_suffix;
comment on function private.suffixed_name is 'A name with a suffix in at most 100 characters.';

-- A search for a free name locks out the caller's other imports until this transaction ends.
create or replace function private.free_skill_name(p_name text) returns text
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v_name text := p_name;
  v_number numeric := 0;
  v_taken numeric := -1;
  v_free numeric;
begin
  perform pg_advisory_xact_lock(hashtextextended('skill names of ' || v_user, 0));
  -- 0 means the unchanged name.
  while v_number is not null loop
    v_name := case when v_number = 0 then p_name else private.suffixed_name(p_name, format('(%s)', v_number)) end;
    if exists (select from public.skills s where s.user_id = v_user and private.folded(s.name) = private.folded(v_name)) then
      v_taken := v_number;
    else
      v_free := v_number;
    end if;
    v_number := private.number_to_try(0, v_taken, v_free);
  end loop;
  return case when v_free = 0 then p_name else private.suffixed_name(p_name, format('(%s)', v_free)) end;
end
$$;
comment on function private.free_skill_name is 
  'The name, or the first free of "name (1)", "name (2)" among the caller''s skills. Authorization: only the caller''s own skills.';
grant execute on function private.suffixed_name, private.free_skill_name to authenticated;

create or replace function api.duplicate_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  s public.skills := private.path_skill(p);
  v_id uuid := s.id;
begin
  s.user_id := private.user_id();
  s.organization_id := private.org_id();
  s.name := coalesce(nullif(private.stripped(p -> 'body' ->> 'newName'), ''), private.suffixed_name(s.name, '(Copy)'));
  s := private.add_skill(s);
  insert into public.skill_playbooks (skill_id, dependencies, trigger, scope, tags, scope_selection)
  select s.id, b.dependencies, b.trigger, b.scope, b.tags, b.scope_selection from public.skill_playbooks b where b.skill_id = v_id;
  return private.skill_json(s);
end
$$;
comment on function api.duplicate_skill is
  'POST /skills/{skillId}/duplicate: the caller''s own copy of a skill they see. Errors: 400, 404 SKILL_NOT_FOUND, 409 SKILL_NAME_EXISTS.';
grant execute on function api.duplicate_skill to authenticated;

create or replace function api.export_skill(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v jsonb := private.skill_json(private.path_skill(p));
begin
  return jsonb_build_object('version', '1.0', 'skill', (
    select jsonb_object_agg(m.key, m.value) from jsonb_each(v) m
    where m.key in ('name', 'description', 'category', 'promptTemplate', 'model', 'parameters', 'inputSchema', 'outputFormat', 'isActive')));
end
$$;
comment on function api.export_skill is 'GET /skills/{skillId}/export: {skill, version}, without anything that belongs to this place. Errors: 404 SKILL_NOT_FOUND.';
grant execute on function api.export_skill to authenticated;

create or replace function api.import_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  b jsonb := p -> 'body';
  s public.skills;
  v record;
begin
  if b -> 'version' is distinct from '"1.0"' then
    perform private.refuse(400, 'UNSUPPORTED_VERSION', 'Only version 1.0 can be imported.', 'version');
  elsif jsonb_typeof(b -> 'skill') is distinct from 'object' then
    perform private.refuse_field('skill', 'The skill to import is missing.');
  end if;
  s := private.skill_with(private.new_skill(), b -> 'skill', true);
  -- Checked here, too, because the fields of this body have other names than those of the table's own check.
  s.name := private.stripped(s.name);
  s.parameters := private.known_parameters(s.parameters);
  s.input_schema := private.known_fields(s.input_schema);
  select * into v from private.skill_fault(s, null);
  if v.message is not null then
    perform private.refuse_field('skill.' || v.field, v.message);
  end if;
  s.name := private.free_skill_name(s.name);
  return private.skill_json(private.add_skill(s));
end
$$;
comment on function api.import_skill is 'POST /skills/import: Skill, under a free name. Errors: 400 VALIDATION_ERROR, UNSUPPORTED_VERSION.';
grant execute on function api.import_skill to authenticated;

-- ------------------------------------------------------------------------------------------------------------------ many at once

-- Malformed ids, unknown ids and ids of another owner's skill are ignored; a repeated id counts once. In order, so that two callers who
-- name the same skills wait for each other in one direction only.
create or replace function private.own_skills(p_ids jsonb) returns uuid[]
language plpgsql volatile
as $$
begin
  if jsonb_typeof(p_ids) is distinct from 'array' or jsonb_array_length(p_ids) > 100
    or exists (select from jsonb_array_elements(p_ids) e where jsonb_typeof(e) <> 'string') then
    perform private.refuse_field('skillIds', 'skillIds must be a list of at most 100 ids.');
  end if;
  return array(
    select s.id from public.skills s
    where s.id = any (array(select private.as_uuid(e) from jsonb_array_elements_text(p_ids) e)) and s.user_id = private.user_id()
    order by s.id for no key update);
end
$$;
comment on function private.own_skills is 'Those of the ids that are skills of the caller, locked. Errors: 400.';

create or replace function private.set_skills_active(p jsonb, p_is_active boolean) returns jsonb
language plpgsql volatile
as $$
declare
  v_ids uuid[] := private.own_skills(p -> 'body' -> 'skillIds');
begin
  update public.skills set is_active = p_is_active where id = any (v_ids) and is_active <> p_is_active;
  return jsonb_build_object('success', true, 'count', cardinality(v_ids));
end
$$;
comment on function private.set_skills_active is 'Switches skills of the caller on or off: {success, count}.';
grant execute on function private.own_skills, private.set_skills_active to authenticated;

create or replace function api.activate_skills(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.set_skills_active(p, true);
end
$$;
comment on function api.activate_skills is 'POST /skills/bulk/activate: {success, count}; count holds those that were active already. Errors: 400.';

create or replace function api.deactivate_skills(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.set_skills_active(p, false);
end
$$;
comment on function api.deactivate_skills is 'POST /skills/bulk/deactivate: {success, count}. Errors: 400.';

create or replace function api.delete_skills(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_ids uuid[];
begin
  if jsonb_typeof(p -> 'body' -> 'skillIds') = 'array' and jsonb_array_length(p -> 'body' -> 'skillIds') <= 100 then
    perform private.release_own_executions(array(
      select private.as_uuid(e #>> '{}') from jsonb_array_elements(p -> 'body' -> 'skillIds') e where jsonb_typeof(e) = 'string'));
  end if;
  v_ids := private.own_skills(p -> 'body' -> 'skillIds');
  delete from public.skills where id = any (v_ids);
  return jsonb_build_object('success', true, 'count', cardinality(v_ids));
end
$$;
comment on function api.delete_skills is 'DELETE /skills/bulk: {success, count}. Errors: 400.';
grant execute on function api.activate_skills, api.deactivate_skills, api.delete_skills to authenticated;
