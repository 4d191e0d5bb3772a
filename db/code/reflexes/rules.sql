-- The trigger and the conditions of a reflex, as they are stored (contract 20, sections 2.3, 10.1 and 11.5). Members that do not belong to
-- the type are dropped, defaults are written out. Postgres knows the shape. The server checks expressions and regular expressions before
-- they come here. For a caller that writes past the server they are not checked: a faulty one is an error when it is evaluated, and never
-- fires.

create or replace function private.refuse_trigger(p_message text) returns void
language plpgsql stable
as $$
begin
  perform private.refuse(400, 'INVALID_TRIGGER_CONFIG', p_message, 'triggerConfig');
end
$$;
comment on function private.refuse_trigger is '400 INVALID_TRIGGER_CONFIG.';

-- An optional text: absent, null and '' are the same.
create or replace function private.trigger_text(p_config jsonb, p_name text, p_max integer) returns text
language plpgsql stable
as $$
declare
  v jsonb := p_config -> p_name;
begin
  if v is null or v in ('null', '""') then
    return null;
  elsif jsonb_typeof(v) <> 'string' then
    perform private.refuse_trigger(p_name || ' must be a text');
  elsif char_length(v #>> '{}') > p_max then
    perform private.refuse_trigger(format('%s must be %s characters or less', p_name, p_max));
  end if;
  return v #>> '{}';
end
$$;
comment on function private.trigger_text is 'A text of a trigger''s configuration, or null.';

create or replace function private.trigger_choice(p_config jsonb, p_name text, p_choices text[], p_default text, p_message text) returns text
language plpgsql stable
as $$
declare
  v jsonb := p_config -> p_name;
begin
  if v is null or v = 'null' then
    return p_default;
  elsif jsonb_typeof(v) <> 'string' or v #>> '{}' <> all (p_choices) then
    perform private.refuse_trigger(p_message);
  end if;
  return v #>> '{}';
end
$$;
comment on function private.trigger_choice is 'One of some texts of a trigger''s configuration, or its default.';

create or replace function private.tidy_paths(p_config jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_paths text[];
  v_events jsonb := coalesce(nullif(p_config -> 'events', 'null'), '["create", "modify"]');
begin
  if jsonb_typeof(p_config -> 'paths') = 'array' then
    if jsonb_path_exists(p_config -> 'paths', '$[*] ? (@.type() != "string")') then
      perform private.refuse_trigger('File path patterns must be texts');
    end if;
    select array_agg(t.path order by t.place) into v_paths
    from (select private.trimmed(e) as path, min(o) as place from jsonb_array_elements_text(p_config -> 'paths') with ordinality v (e, o)
      group by 1) t
    where t.path <> '';
  end if;
  if v_paths is null then
    perform private.refuse_trigger('At least one file path pattern is required');
  -- All patterns are tried on each changed file.
  elsif cardinality(v_paths) > 50 then
    perform private.refuse_trigger('At most 50 file path patterns are possible');
  elsif exists (select from unnest(v_paths) p where char_length(p) > 200) then
    perform private.refuse_trigger('A file path pattern must be 200 characters or less');
  end if;
  if jsonb_typeof(v_events) <> 'array' or v_events = '[]' or not v_events <@ '["create", "modify", "delete"]'::jsonb then
    perform private.refuse_trigger('Events must be one or more of create, modify and delete');
  end if;
  return jsonb_build_object('paths', to_jsonb(v_paths), 'events', (
    select jsonb_agg(t.e order by t.place)
    from (select e, min(o) as place from jsonb_array_elements_text(v_events) with ordinality v (e, o) group by e) t));
end
$$;
comment on function private.tidy_paths is 'Configuration of a file_change trigger. Errors: 400 INVALID_TRIGGER_CONFIG.';

create or replace function private.tidy_trigger(p_type text, p_config jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_name text;
begin
  if p_type = 'schedule' then
    perform private.refuse_trigger('Use Habits for scheduled triggers');
  elsif p_type is null or p_type not in ('webhook', 'email', 'file_change', 'api_call', 'event') then
    perform private.refuse_field('triggerType', 'The trigger type must be webhook, email, file_change, api_call or event.');
  elsif jsonb_typeof(p_config) is distinct from 'object' then
    perform private.refuse_trigger('A trigger configuration is required');
  end if;
  case p_type
    when 'webhook' then
      return jsonb_build_object('method',
        private.trigger_choice(p_config, 'method', array['POST', 'GET'], 'POST', 'Method must be POST or GET'));
    when 'email' then
      return jsonb_strip_nulls(jsonb_build_object('fromAddress', private.trigger_text(p_config, 'fromAddress', 200),
        'subjectPattern', private.trigger_text(p_config, 'subjectPattern', 200), 'bodyPattern', private.trigger_text(p_config, 'bodyPattern', 200)));
    when 'file_change' then
      return private.tidy_paths(p_config);
    when 'api_call' then
      v_name := nullif(private.trimmed(private.trigger_text(p_config, 'endpoint', 500)), '');
      if v_name is null then
        perform private.refuse_trigger('API endpoint is required');
      end if;
      return jsonb_build_object('endpoint', v_name, 'method', private.trigger_choice(p_config, 'method',
        array['GET', 'POST', 'PUT', 'PATCH', 'DELETE'], 'POST', 'Method must be GET, POST, PUT, PATCH or DELETE'));
    else
      v_name := nullif(private.trimmed(private.trigger_text(p_config, 'eventName', 200)), '');
      if v_name is null then
        perform private.refuse_trigger('Event name is required');
      end if;
      return jsonb_strip_nulls(jsonb_build_object('eventName', v_name, 'source', nullif(private.trimmed(private.trigger_text(p_config, 'source', 200)), '')));
  end case;
end
$$;
comment on function private.tidy_trigger is
  'A trigger''s configuration as it is stored. Errors: 400 INVALID_TRIGGER_CONFIG, 400 VALIDATION_ERROR for an unknown type.';

create or replace function private.refuse_conditions(p_field text, p_message text) returns void
language plpgsql stable
as $$
begin
  perform private.refuse(400, 'INVALID_CONDITIONS', p_message, p_field);
end
$$;
comment on function private.refuse_conditions is '400 INVALID_CONDITIONS about one part of the conditions.';

-- Shape and bounds. Package worker/condition checks before the server comes here whether an expression parses and a pattern compiles.
create or replace function private.filter_fault(f jsonb) returns text
language plpgsql immutable
as $$
declare
  v_operator text := f ->> 'operator';
  v_type text := coalesce(jsonb_typeof(f -> 'value'), 'null');
  v_list boolean := v_operator in ('in', 'not_in');
begin
  return case
    when jsonb_typeof(f) <> 'object' then 'Filter must be an object'
    when jsonb_typeof(f -> 'field') is distinct from 'string' or f ->> 'field' = '' then 'Field name is required'
    when char_length(f ->> 'field') > 200 then 'Field name must be 200 characters or less'
    when jsonb_typeof(f -> 'operator') is distinct from 'string' or v_operator not in ('equals', 'not_equals', 'contains', 'not_contains',
      'startsWith', 'endsWith', 'regex', 'gt', 'gte', 'lt', 'lte', 'exists', 'not_exists', 'in', 'not_in')
      then 'Invalid operator: ' || left(coalesce(v_operator, ''), 100)
    when v_type = 'null' then case when v_operator in ('exists', 'not_exists') then null else 'Value is required for this operator' end
    when v_list and v_type <> 'array' then 'Value must be an array for this operator'
    when not v_list and v_type = 'array' then 'Value must not be an array for this operator'
    when v_type = 'object' then 'Value must be a text, a number or true or false'
    when v_list and jsonb_array_length(f -> 'value') > 100 then 'Value must have at most 100 entries'
    when v_list and jsonb_path_exists(f -> 'value', 'strict $[*] ? (@.type() == "null" || @.type() == "array" || @.type() == "object")')
      then 'Value must hold texts, numbers, true and false only'
    when v_operator = 'regex' and char_length(f ->> 'value') > 200 then 'Pattern must be 200 characters or less' end;
end
$$;
comment on function private.filter_fault is 'What is wrong with the shape of a filter, or null.';

create or replace function private.tidy_conditions(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_expression text;
  v_filters jsonb := coalesce(nullif(p -> 'filters', 'null'), '[]');
  v_all jsonb := coalesce(nullif(p -> 'matchAll', 'null'), 'null');
  v_fault record;
begin
  if p is null or p = 'null' then
    return null;
  elsif jsonb_typeof(p) <> 'object' then
    perform private.refuse_conditions('conditions', 'Conditions must be an object');
  elsif private.is_larger(p, 65536) then
    perform private.refuse_conditions('conditions', 'Conditions must be 64 KiB or less');
  elsif jsonb_typeof(p -> 'expression') not in ('null', 'string') then
    perform private.refuse_conditions('conditions.expression', 'Expression must be a text');
  end if;
  v_expression := nullif(private.trimmed(p ->> 'expression'), '');
  if char_length(v_expression) > 500 then
    perform private.refuse_conditions('conditions.expression', 'Expression too long');
  elsif jsonb_typeof(v_filters) <> 'array' then
    perform private.refuse_conditions('conditions.filters', 'Filters must be an array');
  elsif jsonb_array_length(v_filters) > 50 then
    perform private.refuse_conditions('conditions.filters', format('Too many filters: %s (max: 50)', jsonb_array_length(v_filters)));
  end if;
  select o - 1 as place, private.filter_fault(f) as message into v_fault
  from jsonb_array_elements(v_filters) with ordinality t (f, o) where private.filter_fault(f) is not null order by o limit 1;
  if found then
    perform private.refuse_conditions(format('conditions.filters[%s]', v_fault.place), format('Filter %s: %s', v_fault.place + 1, v_fault.message));
  elsif jsonb_typeof(v_all) not in ('null', 'boolean') then
    perform private.refuse_conditions('conditions.matchAll', 'matchAll must be true or false');
  elsif v_expression is null and v_filters = '[]' then
    return null;
  end if;
  -- The editor shows "all" while no choice is made, but the rule without a choice is "any". So the stored value is explicit.
  if v_all = 'null' and jsonb_array_length(v_filters) > 1 then
    v_all := 'true';
  end if;
  return jsonb_strip_nulls(jsonb_build_object('expression', v_expression, 'matchAll', v_all, 'filters', (
    select jsonb_agg(jsonb_build_object('field', f -> 'field', 'operator', f -> 'operator',
      -- The type of the contract requires a value.
      'value', case when coalesce(f -> 'value', 'null') = 'null' then '""' else f -> 'value' end) order by o)
    from jsonb_array_elements(v_filters) with ordinality t (f, o))));
end
$$;
comment on function private.tidy_conditions is 'Conditions as they are stored, null for none. Errors: 400 INVALID_CONDITIONS.';
grant execute on function private.refuse_trigger, private.trigger_text, private.trigger_choice, private.tidy_paths, private.tidy_trigger,
  private.refuse_conditions, private.filter_fault, private.tidy_conditions to authenticated, service_role, kijko_server, kijko_worker;
