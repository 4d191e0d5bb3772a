-- Skills: create, read, change, delete (contract 20, sections 2.1 and 3).

-- A body merged into a row. Absent members keep the present value. Null clears an optional member, means the default for a new skill, and
-- is refused by the table's own check for the rest. Editors send whole skills back, so members that they may not write are ignored.
create or replace function private.skill_with(s public.skills, b jsonb, p_is_new boolean) returns public.skills
language plpgsql stable
as $$
declare
  n public.skills := s;
begin
  if b ? 'name' then
    n.name := b ->> 'name';
  end if;
  if b ? 'description' then
    n.description := b ->> 'description';
  end if;
  if b ? 'category' then
    n.category := coalesce(b ->> 'category', case when p_is_new then s.category end);
  end if;
  if b ? 'promptTemplate' then
    n.prompt_template := b ->> 'promptTemplate';
  end if;
  if b ? 'model' then
    n.model := coalesce(b ->> 'model', case when p_is_new then s.model end);
  end if;
  if b ? 'parameters' then
    n.parameters := case when p_is_new and b -> 'parameters' = 'null' then s.parameters else b -> 'parameters' end;
  elsif b ?| array['temperature', 'maxTokens'] then
    -- The detail form sends its flat fields.
    n.parameters := jsonb_build_object('temperature', b -> 'temperature', 'max_tokens', b -> 'maxTokens');
  end if;
  if b ? 'inputSchema' then
    n.input_schema := nullif(b -> 'inputSchema', 'null');
  end if;
  if b ? 'outputFormat' then
    n.output_format := coalesce(b ->> 'outputFormat', case when p_is_new then s.output_format end);
  end if;
  if b ? 'isActive' then
    n.is_active := case when jsonb_typeof(b -> 'isActive') = 'boolean' then (b -> 'isActive')::boolean when p_is_new then s.is_active end;
  end if;
  return n;
end
$$;
comment on function private.skill_with is 'A skill with the members of a request''s body; nothing is checked yet.';

create or replace function private.new_skill() returns public.skills
language plpgsql stable
as $$
declare
  s public.skills;
begin
  s.user_id := private.user_id();
  s.organization_id := private.org_id();
  s.category := 'custom';
  s.model := private.default_model();
  s.parameters := '{"temperature": 1, "max_tokens": 4096}';
  s.output_format := 'markdown';
  s.is_active := true;
  return s;
end
$$;
comment on function private.new_skill is 'A skill of the caller before anything is known of it.';

create or replace function private.add_skill(s public.skills) returns public.skills
language plpgsql volatile
as $$
begin
  insert into public.skills (user_id, organization_id, name, description, category, prompt_template, model, parameters, input_schema,
    output_format, is_active)
  values (s.user_id, s.organization_id, s.name, s.description, s.category, s.prompt_template, s.model, s.parameters, s.input_schema,
    s.output_format, s.is_active)
  returning * into s;
  return s;
end
$$;
comment on function private.add_skill is 'Stores a new skill; its id, counters and times are the table''s.';

create or replace function private.change_skill(s public.skills) returns public.skills
language plpgsql volatile
as $$
begin
  update public.skills k
  set name = s.name, description = s.description, category = s.category, prompt_template = s.prompt_template, model = s.model,
    parameters = s.parameters, input_schema = s.input_schema, output_format = s.output_format, is_active = s.is_active
  where k.id = s.id
  returning * into s;
  return s;
end
$$;
comment on function private.change_skill is 'Stores what an owner may change of a skill.';

-- The caller's skill of the path, locked until this transaction ends: of two simultaneous changes none is lost.
create or replace function private.locked_skill(p jsonb) returns public.skills
language plpgsql volatile
as $$
declare
  v_id uuid := (private.own_skill(p)).id;
  s public.skills;
begin
  select * into s from public.skills k where k.id = v_id for no key update;
  if not found then
    perform private.refuse_skill(v_id::text);
  end if;
  return s;
end
$$;
comment on function private.locked_skill is 'The caller''s own skill, locked. Errors: 403 FORBIDDEN, 404 SKILL_NOT_FOUND.';
grant execute on function private.skill_with, private.new_skill, private.add_skill, private.change_skill, private.locked_skill to authenticated;

create or replace function api.create_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  -- In a variable, so that skill_json is inlined: with a volatile call as its argument each request would plan it again.
  s public.skills := private.add_skill(private.skill_with(private.new_skill(), p -> 'body', true));
begin
  return private.skill_json(s);
end
$$;
comment on function api.create_skill is 'POST /skills: Skill. Errors: 400, 409 SKILL_NAME_EXISTS.';
grant execute on function api.create_skill to authenticated;

create or replace function api.get_skill(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.skill_json(private.path_skill(p));
end
$$;
comment on function api.get_skill is 'GET /skills/{skillId}: Skill. Errors: 404 SKILL_NOT_FOUND.';
grant execute on function api.get_skill to authenticated;

-- What a run would send, without a run: for clients whose own model answers.
create or replace function api.render_skill(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  s public.skills := private.path_skill(p);
  v_input jsonb := private.object_of(p -> 'body' -> 'input');
begin
  perform private.assert_input(s.input_schema, v_input);
  return jsonb_build_object('prompt', private.render_prompt(s.prompt_template, s.input_schema, v_input));
end
$$;
comment on function api.render_skill is 'POST /skills/{skillId}/render: the prompt of a skill with its inputs. Errors: 400 INVALID_INPUT, 404 SKILL_NOT_FOUND.';
grant execute on function api.render_skill to authenticated;

create or replace function api.update_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  o public.skills := private.locked_skill(p);
  n public.skills := private.skill_with(o, p -> 'body', false);
begin
  if n is distinct from o then
    o := private.change_skill(n);
  end if;
  return private.skill_json(o);
end
$$;
comment on function api.update_skill is 'PUT /skills/{skillId}: Skill. Errors: 400, 403 FORBIDDEN, 404 SKILL_NOT_FOUND, 409 SKILL_NAME_EXISTS.';
grant execute on function api.update_skill to authenticated;

-- Runs are locked before the skill, in the order in which a run that completes takes them: so the two never wait for each other.
create or replace function private.release_own_executions(p_skill_ids uuid[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v_id uuid;
begin
  for v_id in select s.id from public.skills s where s.id = any (p_skill_ids) and s.user_id = v_user order by s.id loop
    perform private.release_executions(v_id, v_user);
  end loop;
end
$$;
comment on function private.release_own_executions is
  'What becomes of the runs of skills that are about to be deleted. Authorization: passes over skills that are not the caller''s.';
grant execute on function private.release_own_executions to authenticated;

create or replace function api.delete_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  s public.skills := private.own_skill(p);
begin
  perform private.release_own_executions(array[s.id]);
  delete from public.skills where id = s.id;
  if not found then
    perform private.refuse_skill(s.id::text);
  end if;
  return '{"success": true}';
end
$$;
comment on function api.delete_skill is
  'DELETE /skills/{skillId}: {success}; habits and reflexes go with it, runs stay. Errors: 403 FORBIDDEN, 404 SKILL_NOT_FOUND.';
grant execute on function api.delete_skill to authenticated;
