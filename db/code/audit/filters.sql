-- AuditLogFilters (contract 40, 7.2), from a query or from a body, and the part of them that is saved.

create or replace function private.audit_categories() returns text[]
language sql immutable parallel safe
return array['user', 'context', 'team', 'security', 'integration', 'system'];
comment on function private.audit_categories is 'The closed set of categories.';
grant execute on function private.audit_categories to authenticated;

-- Keeps only the members that filters have, each of its type. Dates and ids stay as they were given.
create or replace function private.clean_audit_filters(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_types jsonb;
  v_name text;
begin
  foreach v_name in array array['userId', 'eventCategory', 'dateFrom', 'dateTo', 'searchQuery'] loop
    if jsonb_typeof(p -> v_name) not in ('string', 'null') then
      perform private.refuse_field(v_name, format('%s must be text.', v_name));
    end if;
  end loop;
  if p ->> 'eventCategory' <> all (private.audit_categories()) then
    perform private.refuse_field('eventCategory', 'Event category must be one of ' || array_to_string(private.audit_categories(), ', ') || '.');
  elsif p ->> 'dateFrom' is not null and private.as_instant(p ->> 'dateFrom') is null then
    perform private.refuse_field('dateFrom', 'This is no ISO-8601 date or time.');
  elsif p ->> 'dateTo' is not null and private.as_instant(p ->> 'dateTo') is null then
    perform private.refuse_field('dateTo', 'This is no ISO-8601 date or time.');
  elsif char_length(p ->> 'searchQuery') > 200 then
    perform private.refuse_field('searchQuery', 'Search for at most 200 characters.');
  elsif char_length(p ->> 'userId') > 100 then
    perform private.refuse_field('userId', 'This is no id.');
  end if;
  -- A query gives them as one text with commas.
  v_types := case jsonb_typeof(p -> 'eventTypes')
    when 'string' then (select coalesce(jsonb_agg(btrim(t)), '[]') from string_to_table(p ->> 'eventTypes', ',') t where btrim(t) <> '')
    else private.as_array(p -> 'eventTypes', 'eventTypes') end;
  if jsonb_array_length(v_types) > 100 or exists (select from jsonb_array_elements(v_types) t where jsonb_typeof(t) <> 'string' or char_length(t #>> '{}') > 100) then
    perform private.refuse_field('eventTypes', 'Give at most 100 event types, each a text.');
  end if;
  return jsonb_strip_nulls(jsonb_build_object('userId', p -> 'userId', 'eventCategory', p -> 'eventCategory', 'eventTypes', v_types,
    'dateFrom', p -> 'dateFrom', 'dateTo', p -> 'dateTo', 'searchQuery', p -> 'searchQuery'));
end
$$;
comment on function private.clean_audit_filters is 'The filters and nothing else. Errors: 400 VALIDATION_ERROR.';
grant execute on function private.clean_audit_filters to authenticated;

-- kinds: types or one category, null for all. A malformed id, and types outside the category, match nothing.
create or replace function private.read_audit_filters(
  p jsonb, p_horizon timestamptz, out user_id uuid, out kinds text[], out since timestamptz, out until timestamptz, out search text
)
language plpgsql stable
as $$
begin
  user_id := private.as_uuid(nullif(p ->> 'userId', ''));
  if jsonb_array_length(p -> 'eventTypes') > 0 then
    kinds := array(select distinct t from jsonb_array_elements_text(p -> 'eventTypes') t
      where t like '%.%' and (p ->> 'eventCategory' is null or split_part(t, '.', 1) = p ->> 'eventCategory'));
  elsif p ->> 'eventCategory' is not null then
    kinds := array[p ->> 'eventCategory'];
  end if;
  if user_id is null and nullif(p ->> 'userId', '') is not null then
    kinds := '{}';
  end if;
  since := greatest(private.shown(private.as_instant(p ->> 'dateFrom')), p_horizon);
  -- A date without a time means the whole day.
  until := case when char_length(p ->> 'dateTo') = 10 then private.as_instant(p ->> 'dateTo') + interval '1 day'
    else private.shown(private.as_instant(p ->> 'dateTo')) + interval '1 millisecond' end;
  until := coalesce(until, 'infinity');
  search := nullif(btrim(p ->> 'searchQuery'), '');
end
$$;
comment on function private.read_audit_filters is 'Clean filters as values; entries have since <= created_at < until.';
