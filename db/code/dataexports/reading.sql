-- Reads what the catalogue names. Callers execute the statement and stop when they have enough, so that no list is held as a whole.

create or replace function private.camel_case(p_name text) returns text
language sql immutable parallel safe
return left(p_name, 1) || substr(replace(initcap(replace(p_name, '_', ' ')), ' ', ''), 2);
comment on function private.camel_case is 'The name of a column as JSON has it.';

-- The statement has the columns record (text) and at (the values of the keys). $1: the person; $2: behind which keys, if p_is_next.
create or replace function private.data_statement(p_name text, p_is_next boolean) returns text
language plpgsql stable security definer set search_path = ''
as $$
declare
  c record;
  v_table regclass;
  v_keys text[];
  v_plain text;
  v_json text;
begin
  select * into c from private.data_catalogue() x where x.name = p_name;
  if not found then
    raise exception 'the catalogue has no table %', p_name;
  end if;
  v_table := c.name::regclass;
  v_keys := regexp_split_to_array(c.keys, '\s+');
  -- Absent where null; nulls inside of a person's own JSON stay.
  select string_agg(format('%L, %s', private.camel_case(x.name),
      case x.kind when 'timestamptz' then format('private.iso(t.%I)', x.name) else format('t.%I', x.name) end), ', ' order by x.place) filter (where x.kind <> 'jsonb'),
    string_agg(format('case when t.%2$I is null then ''{}'' else jsonb_build_object(%1$L, t.%2$I) end', private.camel_case(x.name), x.name), ' || ' order by x.place)
      filter (where x.kind = 'jsonb')
  into v_plain, v_json
  from (
    select n.name, n.place, case when a.atttypid = 'timestamptz'::regtype then 'timestamptz'
      when a.atttypid = 'jsonb'::regtype then 'jsonb' else 'other' end as kind
    from unnest(regexp_split_to_array(c.columns, '\s+')) with ordinality n (name, place)
    join pg_catalog.pg_attribute a on a.attrelid = v_table and a.attname = n.name and not a.attisdropped
  ) x;
  select concat_ws(' || ', v_json, string_agg(format('private.member_unless_null(%L, to_jsonb(%s))', private.camel_case(e.key), e.value), ' || ' order by e.key))
  into v_json from jsonb_each_text(c.computed) e;
  return format('select (%s)::text as record, jsonb_build_array(%s) as at from (select * from %s t where (%s)%s order by %s) t',
    concat_ws(' || ', format('jsonb_strip_nulls(jsonb_build_object(%s))', v_plain), nullif(v_json, '')),
    (select string_agg(format('t.%I', k), ', ' order by place) from unnest(v_keys) with ordinality n (k, place)),
    v_table, c.condition,
    case when p_is_next then (
      select format(' and (%s) > (%s)', string_agg(format('t.%I', k), ', ' order by place),
        string_agg(format('($2::jsonb ->> %s)::%s', place - 1, format_type(a.atttypid, a.atttypmod)), ', ' order by place))
      from unnest(v_keys) with ordinality n (k, place) join pg_catalog.pg_attribute a on a.attrelid = v_table and a.attname = n.k
    ) else '' end,
    (select string_agg(format('t.%I', k), ', ' order by place) from unnest(v_keys) with ordinality n (k, place)));
end
$$;
comment on function private.data_statement is
  'The statement that reads a person''s rows of a table of the catalogue, in the order of its keys. Authorization: callable by functions of ours only; it reads no row.';

create or replace function private.member_unless_null(p_name text, p_value jsonb) returns jsonb
language sql stable parallel safe
return case when p_value is null or p_value = 'null' then '{}' else jsonb_build_object(p_name, p_value) end;
comment on function private.member_unless_null is 'An object with one member, or without any.';

-- How many rows of each table are a person's. Every table is read with the person's own condition, so the numbers are those of the records.
create or replace function private.data_counts(p_user_id uuid) returns table (place bigint, category text, name text, label text, description text, records bigint)
language plpgsql stable security definer set search_path = ''
as $$
-- Statements are made of the catalogue's constants:
-- @plpgsql_check_options: security_warnings = off
declare
  c record;
begin
  for c in select * from private.data_catalogue() x order by x.place loop
    place := c.place;
    category := c.category;
    name := c.name;
    label := c.label;
    description := c.description;
    execute format('select count(*) from %s t where %s', c.name::regclass, c.condition) into records using p_user_id;
    return next;
  end loop;
end
$$;
comment on function private.data_counts is 'Rows of a person, table by table. Authorization: callable by functions of ours that have authorized the caller.';

create or replace function private.bare_name(p_name text) returns text
language sql immutable parallel safe
return split_part(p_name, '.', 2);
comment on function private.bare_name is 'The name of a table without its schema.';
