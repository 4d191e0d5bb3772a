-- From a template to the prompt that is sent (contract 20, section 4). A placeholder is a name between two pairs of braces. The text is
-- read once: an inserted value is never read again, so a value that holds a placeholder stays as it is.
--
-- The work is bounded: each name is looked up once, and rendering ends where the prompt would pass its limit.

-- A name's value, or null where it has none. A given input that is present and not null comes first. For a run of an event (p_trigger), the
-- variables are the payload's members, `payload` and `trigger`, and a name that is none of them is tried as a path.
create or replace function private.given_value(p_variables jsonb, p_name text, p_trigger text) returns jsonb
language plpgsql immutable parallel safe
as $$
declare
  v jsonb := p_variables -> p_name;
begin
  if v <> 'null' then
    return v;
  elsif p_trigger is null then
    return null;
  elsif v is null and p_name = 'payload' then
    return p_variables;
  elsif v is null and p_name = 'trigger' then
    return to_jsonb(p_trigger);
  elsif p_name !~ '[.[]' then
    return null;
  end if;
  return nullif(private.path_value(p_variables, p_name), 'null');
end
$$;
comment on function private.given_value is 'Value of a name among the inputs, or among the variables of a reflex; null where it has none.';

-- Paths of contract 20, 11.2. A JSON path of Postgres walks without copying the values on its way; strict, so that a step into a value of
-- the wrong type finds nothing.
create or replace function private.path_value(p_variables jsonb, p_path text) returns jsonb
language plpgsql immutable parallel safe
as $$
declare
  v_steps text[] := string_to_array(p_path, '.');
  v_at text := 'strict $';
  v_part text[];
  v_step text;
  v_first integer := case when split_part(p_path, '.', 1) = 'payload' and not p_variables ? 'payload' then 2 else 1 end;
begin
  -- Deeper than any body of a request; names alone may be long, too.
  if cardinality(v_steps) > 100 or length(p_path) > 1000 then
    return null;
  end if;
  for i in v_first .. cardinality(v_steps) loop
    v_step := v_steps[i];
    v_part := regexp_match(v_step, '^([A-Za-z0-9_]+)\[([0-9]+)\]$');
    if v_part is not null then
      v_at := v_at || '.' || to_jsonb(v_part[1])::text || '[' || coalesce(nullif(ltrim(v_part[2], '0'), ''), '0') || ']';
    elsif v_step ~ '^(length|0|[1-9][0-9]*)$'
      and jsonb_path_query_first(p_variables, (v_at || '.type()')::jsonpath, silent => true) = '"array"' then
      v_at := v_at || case v_step when 'length' then '.size()' else '[' || v_step || ']' end;
    else
      v_at := v_at || '.' || to_jsonb(v_step)::text;
    end if;
  end loop;
  return jsonb_path_query_first(p_variables, v_at::jsonpath, silent => true);
end
$$;
comment on function private.path_value is 'The value at a path like pull_request.labels[0].name, or null where it leads nowhere.';

create or replace function private.default_value(p_field jsonb) returns jsonb
language sql stable parallel safe
return coalesce(nullif(p_field -> 'default', 'null'), case when p_field -> 'required' is distinct from 'true' then
  case p_field ->> 'type' when 'number' then '0' when 'boolean' then 'false' when 'array' then '[]' when 'object' then '{}' else '""' end::jsonb end);
comment on function private.default_value is
  'What a declared input is where nothing was given: its default, or if it may be missing the empty value of its type.';

-- Read once, because a stored input would be unpacked again at every look.
create or replace function private.prompt_variables(p_input jsonb, p_trigger text) returns jsonb
language plpgsql immutable parallel safe
as $$
declare
  v jsonb := case when p_trigger is null then p_input else p_input -> 'payload' end;
begin
  return case when jsonb_typeof(v) = 'object' then v || '{}' else '{}' end;
end
$$;
comment on function private.prompt_variables is 'The given inputs; of a reflex''s run ({trigger, payload}) the payload.';

create or replace function private.render_prompt(p_template text, p_schema jsonb, p_input jsonb, p_trigger text default null) returns text
language plpgsql stable parallel safe
as $$
declare
  c_limit constant integer := 1048576;
  c_placeholder constant text := '\{\{([^{}]+)\}\}';
  v_variables jsonb;
  v_defaults jsonb;
  v_between text[];
  v_placeholders text[];
  v_texts text[];
  v_value jsonb;
  v_text text;
  v_place integer;
  v_size bigint := octet_length(p_template);
  v_cost integer := 0;
  v record;
begin
  if p_template !~ c_placeholder then
    return p_template;
  end if;
  v_variables := private.prompt_variables(p_input, p_trigger);
  v_defaults := coalesce((select jsonb_object_agg(f ->> 'name', private.default_value(f)) from jsonb_array_elements(p_schema) f), '{}');
  v_between := regexp_split_to_array(p_template, c_placeholder);
  v_placeholders := array(select m[1] from regexp_matches(p_template, c_placeholder, 'g') m);
  v_texts := v_placeholders;
  for v in
    select private.stripped(t.inner_text) as name, array_agg(t.place) as places, sum(octet_length(t.inner_text) + 4) as bytes
    from unnest(v_placeholders) with ordinality t (inner_text, place) group by 1
  loop
    v_value := case when v.name <> '' then coalesce(private.given_value(v_variables, v.name, p_trigger), nullif(v_defaults -> v.name, 'null')) end;
    if v_value is not null then
      if jsonb_typeof(v_value) in ('object', 'array') then
        -- Its limit holds for all values of a prompt together.
        select c.compact, c.cost into v_text, v_cost from private.compact(v_value, v_cost) c;
        if v_text is null then
          perform private.refuse(400, 'INVALID_INPUT', 'Input holds too many values', 'input.' || v.name);
        end if;
      else
        v_text := private.value_text(v_value);
      end if;
      v_size := v_size - v.bytes + octet_length(v_text)::bigint * cardinality(v.places);
      if v_size > c_limit then
        perform private.refuse(400, 'INVALID_INPUT', 'Prompt is too long', 'input.' || v.name);
      end if;
    end if;
    foreach v_place in array v.places loop
      v_texts[v_place] := case when v_value is null then '{' || '{' || v_placeholders[v_place] || '}' || '}' else v_text end;
    end loop;
  end loop;
  return (select string_agg(t.before || coalesce(t.value, ''), '') from unnest(v_between, v_texts) t (before, value));
end
$$;
comment on function private.render_prompt is
  'The prompt of a template: p_schema declares inputs, p_input gives them; with p_trigger it is {trigger, payload} of a reflex''s run. Errors: 400 INVALID_INPUT over 1 MiB, or with more values than any model reads.';

create or replace function private.is_finite(p_value jsonb) returns boolean
language plpgsql immutable parallel safe
as $$
begin
  return jsonb_typeof(p_value) <> 'number' or private.js_number(p_value) not in ('Infinity', '-Infinity');
end
$$;
comment on function private.is_finite is 'Is the value no number, or one that a double can hold?';

-- The reason that keeps a run from starting, before the prompt is rendered. A reflex takes the payload as it is, so types are not checked
-- for it.
create or replace function private.input_faults(p_schema jsonb, p_input jsonb, p_trigger text default null) returns jsonb
language plpgsql stable parallel safe
as $$
declare
  v_variables jsonb;
  v_faults jsonb := '[]';
  v_field jsonb;
  v_name text;
  v_value jsonb;
  v_fault text;
begin
  if jsonb_array_length(p_schema) > 0 then
    v_variables := private.prompt_variables(p_input, p_trigger);
    for v_field in select f from jsonb_array_elements(p_schema) f loop
      v_name := v_field ->> 'name';
      v_value := private.given_value(v_variables, v_name, p_trigger);
      v_fault := case
        when v_value is null or v_value = '""' then
          case when v_field -> 'required' = 'true' and (v_value is not null or coalesce(v_field -> 'default', 'null') = 'null') then 'is required' end
        when p_trigger is not null then null
        when jsonb_typeof(v_value) <> v_field ->> 'type' or not private.is_finite(v_value) then 'must be a' || case when v_field ->> 'type' in ('array', 'object') then 'n ' else ' ' end || (v_field ->> 'type') end;
      if v_fault is not null then
        v_faults := v_faults || jsonb_build_object('name', v_name, 'message', v_name || ' ' || v_fault);
      end if;
    end loop;
  end if;
  return nullif(v_faults, '[]');
end
$$;
comment on function private.input_faults is
  'What is wrong with the inputs of a run, in the order of their declaration: [{name, message}], or null.';

-- The same as a refusal, for requests that wait.
create or replace function private.assert_input(p_schema jsonb, p_input jsonb) returns void
language plpgsql stable parallel safe
as $$
declare
  v_faults jsonb := private.input_faults(p_schema, p_input);
begin
  if v_faults is not null then
    perform private.refuse(400, 'INVALID_INPUT', v_faults -> 0 ->> 'message', 'input.' || (v_faults -> 0 ->> 'name'),
      (select jsonb_object_agg(f ->> 'name', f ->> 'message') from jsonb_array_elements(v_faults) f));
  end if;
end
$$;
comment on function private.assert_input is 'Refuses inputs that a skill cannot run with; details name every fault. Errors: 400 INVALID_INPUT.';

grant execute on function private.given_value, private.path_value, private.default_value, private.prompt_variables, private.render_prompt,
  private.is_finite, private.input_faults, private.assert_input to authenticated, service_role, kijko_server, kijko_worker;
