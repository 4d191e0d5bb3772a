-- Skills (contract 20, sections 1 to 3): how one is shown, who sees it, and which values may be written into it.

-- A skill belongs to its owner, whatever organization they act in. Every caller sees a public one as long as it is active.
create or replace function private.sees_skill(p_user_id uuid, p_skill_id uuid) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return exists (select from public.skills s where s.id = p_skill_id
    and (s.is_public and s.is_active or s.user_id = p_user_id and (p_user_id = private.user_id() or not private.is_stranger())));
end
$$;
comment on function private.sees_skill is
  'Is the skill the person''s own, or public and active? Authorization: of private skills those past our server learn about their own only.';

-- A run begins only if this holds; the check of a refused run gives a more exact reason (executions/engine.sql).
create or replace function private.may_run_skill(p_skill_id uuid, p_user_id uuid) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return exists (select from public.skills s where s.id = p_skill_id and s.is_active and (s.is_public or s.user_id = p_user_id));
end
$$;
comment on function private.may_run_skill is 'Is the skill active, and the person''s own or public? Authorization: callable by definer functions of ours only.';

create or replace function private.refuse_skill(p_id text, p_field text default null) returns void
language plpgsql stable
as $$
begin
  perform private.refuse(404, 'SKILL_NOT_FOUND', format('Skill with ID %s not found', left(p_id, 100)), p_field);
end
$$;
comment on function private.refuse_skill is '404 SKILL_NOT_FOUND; p_field where a body named the skill.';

create or replace function private.visible_skill(p_id uuid, p_field text default null) returns public.skills
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  s public.skills;
begin
  select * into s from public.skills k where k.id = p_id and (k.user_id = private.user_id() or (k.is_public and k.is_active));
  if not found then
    perform private.refuse_skill(coalesce(p_id::text, ''), p_field);
  end if;
  return s;
end
$$;
comment on function private.visible_skill is
  'The skill, if the caller sees it. Authorization: own, or public and active; 404 SKILL_NOT_FOUND otherwise.';

-- The skill that a path names. A malformed UUID counts as an unknown id.
create or replace function private.path_skill(p jsonb) returns public.skills
language plpgsql stable
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'skillId');
begin
  if v_id is null then
    perform private.refuse_skill(coalesce(p ->> 'skillId', ''));
  end if;
  return private.visible_skill(v_id);
end
$$;
comment on function private.path_skill is 'The skill of the path, if the caller sees it. Errors: 404 SKILL_NOT_FOUND.';

create or replace function private.own_skill(p jsonb) returns public.skills
language plpgsql stable
as $$
declare
  s public.skills := private.path_skill(p);
begin
  if s.user_id is distinct from private.user_id() then
    perform private.refuse(403, 'FORBIDDEN', 'Only its owner can change this skill. Duplicate it to change your own copy.');
  end if;
  return s;
end
$$;
comment on function private.own_skill is 'The skill of the path, if it is the caller''s. Errors: 404 SKILL_NOT_FOUND, 403 FORBIDDEN for one that is only seen.';

create or replace function private.rating_json(p_sum bigint, p_count integer) returns numeric
language sql immutable parallel safe
return case when p_count > 0 then trim_scale(round(p_sum::numeric / p_count, 1)) end;
comment on function private.rating_json is 'Average rating with one decimal, half up; null without ratings.';

-- Nulls inside parameters and input schema are the owner's own values; only absent members are left out.
create or replace function private.skill_json(s public.skills) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object(
    'id', s.id, 'userId', s.user_id, 'name', s.name, 'description', s.description, 'category', s.category,
    'promptTemplate', s.prompt_template, 'model', s.model, 'outputFormat', s.output_format, 'isActive', s.is_active,
    'isPublic', s.is_public, 'executionCount', s.execution_count, 'starCount', s.star_count,
    'rating', private.rating_json(s.rating_sum, s.rating_count), 'ratingCount', s.rating_count,
    'lastExecutedAt', private.iso(s.last_executed_at), 'createdAt', private.iso(s.created_at), 'updatedAt', private.iso(s.updated_at)))
  || jsonb_build_object('parameters', s.parameters)
  || case when s.input_schema is null then '{}' else jsonb_build_object('inputSchema', s.input_schema) end;
comment on function private.skill_json is 'Skill of the contract.';

-- The placeholder in a list of habits or reflexes whose skill is no longer visible.
create or replace function private.missing_skill_json(p_skill_id uuid, p_user_id uuid, p_created timestamptz, p_updated timestamptz) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', p_skill_id, 'userId', p_user_id, 'name', 'Unknown Skill', 'category', 'custom', 'promptTemplate', '',
  'model', private.default_model(), 'parameters', '{}'::jsonb, 'outputFormat', 'markdown', 'isActive', false, 'isPublic', false,
  'executionCount', 0, 'starCount', 0, 'ratingCount', 0, 'createdAt', private.iso(p_created), 'updatedAt', private.iso(p_updated));
comment on function private.missing_skill_json is 'A placeholder for a skill that is no longer visible.';

grant execute on function private.sees_skill, private.refuse_skill, private.visible_skill, private.path_skill, private.own_skill,
  private.skill_json, private.rating_json, private.missing_skill_json to authenticated, service_role, kijko_worker;

-- ------------------------------------------------------------------------------------------------------------- what may be written

-- Parameters as they are stored: unknown members are dropped, and so are nulls.
create or replace function private.known_parameters(p_parameters jsonb) returns jsonb
language plpgsql immutable parallel safe
as $$
begin
  -- The usual parameters need no query.
  if jsonb_typeof(p_parameters) = 'object' and jsonb_strip_nulls(p_parameters) = p_parameters
    and p_parameters - array['temperature', 'max_tokens', 'top_p', 'top_k', 'stop_sequences'] = '{}' then
    return p_parameters;
  end if;
  return case when jsonb_typeof(p_parameters) = 'object' then (
      select coalesce(jsonb_object_agg(m.key, m.value), '{}') from jsonb_each(p_parameters) m
      where m.key in ('temperature', 'max_tokens', 'top_p', 'top_k', 'stop_sequences') and m.value <> 'null')
    when p_parameters = 'null' then '{}' else p_parameters end;
end
$$;
comment on function private.known_parameters is 'SkillParameters without what is unknown or null; what is no object stays, to be refused.';

create or replace function private.parameters_fault(p_parameters jsonb, out field text, out message text)
language plpgsql immutable parallel safe
as $$
declare
  p jsonb := p_parameters;
  n numeric;
  t text;
begin
  if jsonb_typeof(p) is distinct from 'object' then
    field := 'parameters';
    message := 'Parameters must be an object';
    return;
  end if;
  foreach t in array array['temperature', 'max_tokens', 'top_p', 'top_k'] loop
    if p ? t then
      n := case when jsonb_typeof(p -> t) = 'number' then (p -> t)::numeric end;
      message := case t
        when 'temperature' then case when n between 0 and 1 then null else 'Temperature must be between 0 and 1' end
        when 'max_tokens' then case when n between 1 and 8192 and n = trunc(n) then null else 'Max tokens must be a whole number between 1 and 8192' end
        when 'top_p' then case when n > 0 and n <= 1 then null else 'Top P must be greater than 0 and at most 1' end
        -- Providers take 32 bits.
        else case when n between 0 and 2147483647 and n = trunc(n) then null else 'Top K must be a whole number of at least 0' end end;
      if message is not null then
        field := 'parameters.' || t;
        return;
      end if;
    end if;
  end loop;
  p := p -> 'stop_sequences';
  -- Within one condition the subquery would make a query of it also where there is no list.
  if p is null then
    return;
  end if;
  if jsonb_typeof(p) <> 'array' or jsonb_array_length(p) > 8
      or exists (select from jsonb_array_elements(p) e where jsonb_typeof(e) <> 'string' or char_length(e #>> '{}') not between 1 and 100) then
    field := 'parameters.stop_sequences';
    message := 'Stop sequences must be a list of at most 8 texts of 1 to 100 characters';
  end if;
end
$$;
comment on function private.parameters_fault is 'What is wrong with SkillParameters; nulls for good ones.';

-- An input schema as it is stored: names trimmed, unknown members and nulls dropped. A value that is no list, or far too large, stays
-- unchanged, to be refused.
create or replace function private.known_fields(p_schema jsonb) returns jsonb
language plpgsql immutable parallel safe
as $$
begin
  if jsonb_typeof(p_schema) is distinct from 'array' or jsonb_array_length(p_schema) > 50 or pg_column_size(p_schema) > 524288 then
    return nullif(p_schema, 'null');
  end if;
  return (
    select coalesce(jsonb_agg(case when jsonb_typeof(f) <> 'object' then f else (
        select coalesce(jsonb_object_agg(m.key,
          case when m.key = 'name' and jsonb_typeof(m.value) = 'string' then to_jsonb(private.stripped(m.value #>> '{}')) else m.value end), '{}')
        from jsonb_each(f) m where m.key in ('name', 'type', 'description', 'required', 'default') and m.value <> 'null') end
      order by t.place), '[]')
    from jsonb_array_elements(p_schema) with ordinality t (f, place));
end
$$;
comment on function private.known_fields is 'InputSchemaField[] without what is unknown or null; what is no list stays, to be refused.';

create or replace function private.fields_fault(p_schema jsonb, out field text, out message text)
language plpgsql immutable parallel safe
as $$
declare
  f jsonb;
  v_names text[] := '{}';
  v_member text;
begin
  if p_schema is null then
    return;
  end if;
  field := 'inputSchema';
  if jsonb_typeof(p_schema) <> 'array' then
    message := 'Input schema must be a list of fields';
    return;
  elsif jsonb_array_length(p_schema) > 50 then
    message := 'Input schema must have 50 fields or less';
    return;
  elsif private.is_larger(p_schema, 65536) then
    message := 'Input schema must be 64 KiB or less';
    return;
  end if;
  for f in select e from jsonb_array_elements(p_schema) e loop
    v_member := null;
    if jsonb_typeof(f) <> 'object' then
      message := 'Input field must be an object';
    elsif jsonb_typeof(f -> 'name') is distinct from 'string' or f ->> 'name' = '' then
      v_member := 'name';
      message := 'Input name is required';
    elsif char_length(f ->> 'name') > 100 then
      v_member := 'name';
      message := 'Input name must be 100 characters or less';
    elsif f ->> 'name' ~ '[{}]' then
      v_member := 'name';
      message := 'Input name must not contain braces';
    elsif f ->> 'name' = any (v_names) then
      v_member := 'name';
      message := format('Input name "%s" is used twice', f ->> 'name');
    elsif coalesce(f ->> 'type' not in ('string', 'number', 'boolean', 'array', 'object'), true) then
      v_member := 'type';
      message := 'Input type must be one of string, number, boolean, array, object';
    elsif jsonb_typeof(f -> 'description') <> 'string' or char_length(f ->> 'description') > 500 then
      v_member := 'description';
      message := 'Input description must be a text of 500 characters or less';
    elsif jsonb_typeof(f -> 'required') <> 'boolean' then
      v_member := 'required';
      message := 'Required must be true or false';
    end if;
    if message is not null then
      field := format('inputSchema[%s]', cardinality(v_names)) || coalesce('.' || v_member, '');
      return;
    end if;
    v_names := v_names || (f ->> 'name');
  end loop;
  field := null;
end
$$;
comment on function private.fields_fault is 'What is wrong with an input schema; nulls for a good one.';

-- In the order of the form. Checks the row as it will be stored. A stored model was checked when it came: if it was removed since, that
-- refuses no other change.
create or replace function private.skill_fault(s public.skills, p_model text, out field text, out message text)
language plpgsql stable parallel safe
as $$
declare
  v record;
begin
  case
    when coalesce(s.name, '') = '' then
      field := 'name'; message := 'Name is required';
    when char_length(s.name) > 100 then
      field := 'name'; message := 'Name must be 100 characters or less';
    when not private.is_plain(s.name) then
      field := 'name'; message := 'Name must not contain control characters';
    when char_length(s.description) > 500 then
      field := 'description'; message := 'Description must be 500 characters or less';
    when coalesce(s.category not in ('analysis', 'generation', 'transformation', 'communication', 'automation', 'custom'), true) then
      field := 'category';
      message := 'Category must be one of analysis, generation, transformation, communication, automation, custom';
    when s.prompt_template is null then
      field := 'promptTemplate'; message := 'Prompt template is required';
    when char_length(s.prompt_template) < 20 then
      field := 'promptTemplate'; message := 'Prompt template must be at least 20 characters';
    when char_length(s.prompt_template) > 10000 then
      field := 'promptTemplate'; message := 'Prompt template must be 10,000 characters or less';
    when s.model is null or (s.model is distinct from p_model
        and (char_length(s.model) not between 1 and 100 or not private.is_model_routable(s.model))) then
      field := 'model'; message := 'This model is not supported';
    when coalesce(s.output_format not in ('markdown', 'json', 'text', 'html', 'code'), true) then
      field := 'outputFormat'; message := 'Output format must be one of markdown, json, text, html, code';
    when s.is_active is null then
      field := 'isActive'; message := 'Active must be true or false';
    else
      v := private.parameters_fault(s.parameters);
      if v.message is null then
        v := private.fields_fault(s.input_schema);
      end if;
      field := v.field;
      message := v.message;
  end case;
end
$$;
comment on function private.skill_fault is 'What is wrong with a skill, and the field of the request that it came in; nulls for a good one. p_model is the stored one.';

-- A definer function, because under row-level security the planner may not use an index on the lower-case name: it would read all skills
-- that the caller sees.
create or replace function private.skill_named(p_user_id uuid, p_name text, p_exclude_id uuid default null) returns text
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (
    select s.name from public.skills s
    where s.user_id = p_user_id and private.folded(s.name) = private.folded(p_name) and s.id is distinct from p_exclude_id
      and p_user_id = coalesce(private.user_id(), p_user_id));
end
$$;
comment on function private.skill_named is
  'The name of the person''s skill that is called so, case aside, or null. Authorization: people are told of their own skills only.';

grant execute on function private.skill_named, private.known_parameters, private.parameters_fault, private.known_fields, private.fields_fault, private.skill_fault
  to authenticated, service_role, kijko_worker;
