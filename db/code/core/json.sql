-- JSON in the contract's form: absent instead of null, timestamps in UTC with milliseconds.

create or replace function private.iso(p_at timestamptz) returns text
language sql stable parallel safe
return to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
comment on function private.iso is 'The one timestamp format: ISO-8601, UTC, milliseconds.';
grant execute on function private.iso to anon, authenticated, service_role, kijko_server, kijko_worker;

-- Every filter by time compares moments as they are shown, so that a row's own time finds the row: shown(x) >= shown(m) is x >= shown(m),
-- and shown(x) <= shown(m) is x < shown(m) + 1 ms. The column stands alone in the comparison, so its index serves.
create or replace function private.shown(p_at timestamptz) returns timestamptz
language sql stable parallel safe
return date_trunc('milliseconds', p_at);
comment on function private.shown is 'The moment as private.iso shows it, to the millisecond.';
grant execute on function private.shown to anon, authenticated, service_role, kijko_server, kijko_worker;

create or replace function private.page_json(p_data jsonb, p_total bigint, p_page integer, p_page_size integer) returns jsonb
language sql stable parallel safe
return jsonb_build_object('data', p_data, 'total', p_total, 'page', p_page, 'pageSize', p_page_size,
  'hasMore', p_page::bigint * p_page_size < p_total);
comment on function private.page_json is 'PaginatedResponse<T> of the contract.';
grant execute on function private.page_json to authenticated;

-- Members of `p` by their type. Our server has checked them against the OpenAPI document; callers that come past it get a refusal of ours
-- instead of a PostgreSQL error. Absent and null are null. Numbers and switches may be text, as query parameters are.
create or replace function private.as_number(p_value jsonb, p_field text) returns numeric
language plpgsql stable parallel safe
as $$
begin
  if p_value is null or p_value = 'null' then
    return null;
  elsif jsonb_typeof(p_value) = 'number' then
    return p_value::numeric;
  elsif jsonb_typeof(p_value) <> 'string' or p_value #>> '{}' !~ '^-?[0-9]{1,40}(\.[0-9]{1,40})?$' then
    perform private.refuse_field(p_field, format('%s must be a number.', p_field));
  end if;
  return (p_value #>> '{}')::numeric;
end
$$;
comment on function private.as_number is 'The member as a number, null where it is absent, or 400 VALIDATION_ERROR about the field.';

create or replace function private.as_bigint(p_value jsonb, p_field text) returns bigint
language plpgsql stable parallel safe
as $$
declare
  v numeric := private.as_number(p_value, p_field);
begin
  if v <> trunc(v) or abs(v) > 9223372036854775807 then
    perform private.refuse_field(p_field, format('%s must be a whole number.', p_field));
  end if;
  return v;
end
$$;
comment on function private.as_bigint is 'The member as a whole number of 64 bits, null where it is absent, or 400 VALIDATION_ERROR about the field.';

create or replace function private.as_int(p_value jsonb, p_field text) returns integer
language plpgsql stable parallel safe
as $$
declare
  v numeric := private.as_number(p_value, p_field);
begin
  if v <> trunc(v) or abs(v) > 2147483647 then
    perform private.refuse_field(p_field, format('%s must be a whole number.', p_field));
  end if;
  return v;
end
$$;
comment on function private.as_int is 'The member as a whole number of 32 bits, null where it is absent, or 400 VALIDATION_ERROR about the field.';

create or replace function private.as_bool(p_value jsonb, p_field text) returns boolean
language plpgsql stable parallel safe
as $$
begin
  if p_value is null or p_value = 'null' then
    return null;
  elsif p_value #>> '{}' not in ('true', 'false') then
    perform private.refuse_field(p_field, format('%s must be true or false.', p_field));
  end if;
  return p_value #>> '{}' = 'true';
end
$$;
comment on function private.as_bool is 'The member as a switch, null where it is absent, or 400 VALIDATION_ERROR about the field.';

create or replace function private.as_array(p_value jsonb, p_field text) returns jsonb
language plpgsql stable parallel safe
as $$
begin
  if p_value is null or p_value = 'null' then
    return null;
  elsif jsonb_typeof(p_value) <> 'array' then
    perform private.refuse_field(p_field, format('%s must be a list.', p_field));
  end if;
  return p_value;
end
$$;
comment on function private.as_array is 'The member as a list, null where it is absent, or 400 VALIDATION_ERROR about the field.';

create or replace function private.as_object(p_value jsonb, p_field text) returns jsonb
language plpgsql stable parallel safe
as $$
begin
  if p_value is null or p_value = 'null' then
    return '{}';
  elsif jsonb_typeof(p_value) <> 'object' then
    perform private.refuse_field(p_field, format('%s must be an object.', p_field));
  end if;
  return p_value;
end
$$;
comment on function private.as_object is 'The member as an object, empty where it is absent, or 400 VALIDATION_ERROR about the field.';
grant execute on function private.as_number, private.as_bigint, private.as_int, private.as_bool, private.as_array, private.as_object
  to anon, authenticated, service_role;

-- Text of a PATCH body with the three cases that JSON has: absent keeps, null or blank clears, text replaces (trimmed).
create or replace function private.patched_text(p_body jsonb, p_key text, p_current text) returns text
language sql immutable parallel safe
return case when p_body ? p_key then nullif(btrim(p_body ->> p_key), '') else p_current end;
comment on function private.patched_text is 'Value of an optional text after a PATCH: absent keeps, null or "" clears.';
grant execute on function private.patched_text to authenticated;

-- Escapes text for a substring search with literal % and _.
create or replace function private.like_pattern(p_search text) returns text
language sql immutable parallel safe
return '%' || replace(replace(replace(p_search, '\', '\\'), '%', '\%'), '_', '\_') || '%';
comment on function private.like_pattern is 'A pattern for (i)like that finds the text literally, anywhere.';
grant execute on function private.like_pattern to authenticated;

-- Several headers of an answer, merged into the headers that the function has set so far (PostgREST reads the same setting).
create or replace function private.set_headers(p_headers jsonb) returns void
language plpgsql volatile
as $$
begin
  perform set_config('response.headers',
    (coalesce(nullif(current_setting('response.headers', true), '')::jsonb, '{}') || p_headers)::text, true);
end
$$;
comment on function private.set_headers is 'Adds HTTP headers to the answer of this request: {"Name": "value"}.';
grant execute on function private.set_headers to anon, authenticated, service_role, kijko_server, kijko_worker;
