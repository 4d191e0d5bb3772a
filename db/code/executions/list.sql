-- Lists of runs and their exports: filters, pages, text forms.

drop function if exists private.page_limit(jsonb, integer), private.page_offset(jsonb);

-- Returns SQL text; $1 is the request, $2 the caller. Moments are checked and become literals, so that the planner knows the range.
create or replace function private.execution_filter(p jsonb) returns text
language plpgsql stable
as $$
declare
  v_start timestamptz := private.as_instant(p ->> 'startDate');
  v_end timestamptz := private.as_instant(p ->> 'endDate');
begin
  if p ->> 'startDate' is not null and v_start is null then
    perform private.refuse_field('startDate', 'This is no ISO-8601 date or time.');
  elsif p ->> 'endDate' is not null and v_end is null then
    perform private.refuse_field('endDate', 'This is no ISO-8601 date or time.');
  elsif p ->> 'status' is not null and p ->> 'status' not in ('pending', 'running', 'completed', 'failed', 'cancelled') then
    perform private.refuse_field('status', 'Status must be one of pending, running, completed, failed, cancelled.');
  elsif p ->> 'executionType' is not null and p ->> 'executionType' not in ('manual', 'habit', 'reflex', 'api') then
    perform private.refuse_field('executionType', 'Execution type must be one of manual, habit, reflex, api.');
  end if;
  return concat_ws(' and ', 'e.user_id = $2',
    case when p ->> 'skillId' is not null then format('e.skill_id is not distinct from %L::uuid', coalesce(private.as_uuid(p ->> 'skillId'),
      '00000000-0000-0000-0000-000000000000')) end,
    case when p ->> 'status' is not null then 'e.status = $1 ->> ''status''' end,
    case when p ->> 'executionType' is not null then 'e.execution_type = $1 ->> ''executionType''' end,
    case when v_start is not null then format('e.executed_at >= %L::timestamptz', private.shown(v_start)) end,
    case when v_end is not null then format('e.executed_at < %L::timestamptz', private.shown(v_end) + interval '1 millisecond') end);
end
$$;
comment on function private.execution_filter is
  'The filters of E1 as conditions on e; an id that is no UUID matches nothing. Errors: 400 VALIDATION_ERROR.';

-- The former version took the conditions as text, which any caller could have written.
drop function if exists private.executions_json(jsonb, text, integer, bigint);
create or replace function private.executions_json(p_filters jsonb, p_unfinished boolean, p_limit integer, p_offset bigint) returns jsonb
language plpgsql stable
as $$
declare
  v_conditions text := private.execution_filter(p_filters) || case when p_unfinished then ' and e.status in (''pending'', ''running'')' else '' end;
  v jsonb;
begin
  -- The filter consists of constants and quoted literals (private.execution_filter), which a checker cannot see:
  -- @plpgsql_check_options: security_warnings = off
  execute 'select coalesce(jsonb_agg(private.execution_with_skill_json(x.e, s) order by (x.e).executed_at desc, (x.e).id desc), ''[]'')
    from (select e from public.skill_executions e where ' || v_conditions || ' order by e.executed_at desc, e.id desc limit $3 offset $4) x
    left join public.skills s on s.id = (x.e).skill_id'
    into v using p_filters, private.user_id(), p_limit, p_offset;
  return v;
end
$$;
comment on function private.executions_json is
  'ExecutionWithSkill[] that fit the filters of E1 (and have not ended), newest first, under the caller''s own rights. Errors: 400 VALIDATION_ERROR.';

grant execute on function private.execution_filter, private.executions_json to authenticated;

-- JSON text indented by two spaces. jsonb_pretty takes four, and breaks the line in empty objects and arrays. No string in JSON holds a
-- line break.
create or replace function private.indented(p_value jsonb, p_depth integer) returns text
language sql immutable parallel safe
return (
  select string_agg(repeat(' ', 2 * p_depth + (length(l) - length(ltrim(l, ' '))) / 2) || ltrim(l, ' '), E'\n' order by n)
  from string_to_table(regexp_replace(jsonb_pretty(p_value), '([\[{])\n *([\]}])', '\1\2', 'g'), E'\n') with ordinality t (l, n));
comment on function private.indented is 'The value as JSON text indented by two spaces, p_depth steps deep.';

create or replace function private.execution_csv(e public.skill_executions, p_skill_name text) returns text
language sql stable parallel safe
return concat_ws(',', private.csv_cell(e.id::text), private.csv_cell(e.skill_id::text), private.csv_cell(p_skill_name),
  private.csv_cell(e.execution_type), private.csv_cell(e.status), private.csv_cell(nullif(e.prompt_tokens + e.completion_tokens, 0)::text),
  private.csv_cell(nullif(e.duration_ms, 0)::text), private.csv_cell(nullif(e.cost_cents, 0)::text),
  private.csv_cell(private.iso(e.executed_at)), private.csv_cell(private.iso(e.completed_at)));
comment on function private.execution_csv is 'A line of the CSV export.';
grant execute on function private.indented, private.execution_csv to authenticated;

-- At most 10,000 rows and 50 MiB of text: older rows are left out.
create or replace function api.export_executions(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  c_rows constant integer := 10000;
  c_bytes constant bigint := 52428800;
  v_csv boolean := coalesce(p ->> 'format', 'json') = 'csv';
  v_lines text[] := '{}';
  v_line text;
  v_bytes bigint := 0;
begin
  if coalesce(p ->> 'format', 'json') not in ('json', 'csv') then
    perform private.refuse_field('format', 'Format must be json or csv.');
  end if;
  -- Line by line: text beyond the limit is not built.
  for v_line in execute 'select case when $4 then private.execution_csv(y.e, (y.s).name) else private.indented(private.execution_with_skill_json(y.e, y.s), 1) end
    from (
      select x.e, s
      from (select e from public.skill_executions e where ' || private.execution_filter(p) || ' order by e.executed_at desc, e.id desc limit $3) x
      left join public.skills s on s.id = (x.e).skill_id
      order by (x.e).executed_at desc, (x.e).id desc) y' using p, private.user_id(), c_rows, v_csv
  loop
    v_bytes := v_bytes + octet_length(v_line) + 2;
    exit when v_bytes > c_bytes;
    v_lines := v_lines || v_line;
  end loop;
  return jsonb_build_object(
    'data', case when v_csv then array_to_string('id,skillId,skillName,executionType,status,tokensUsed,durationMs,costCents,executedAt,completedAt'::text || v_lines, E'\n')
      when cardinality(v_lines) = 0 then '[]' else E'[\n' || array_to_string(v_lines, E',\n') || E'\n]' end,
    'filename', format('executions-%s.%s', to_char(now() at time zone 'UTC', 'YYYY-MM-DD'), case when v_csv then 'csv' else 'json' end));
end
$$;
comment on function api.export_executions is
  'GET /executions/export: the newest 10,000 runs, up to 50 MiB, as JSON or CSV text. Errors: 400 VALIDATION_ERROR.';
grant execute on function api.export_executions to authenticated;
