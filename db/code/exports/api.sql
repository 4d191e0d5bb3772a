-- The activity log and the changelog of a context as files. Entries that are written during a download are not in it.

create or replace function api.export_context_activity(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id constant uuid := private.path_context(p);
  v_format constant text := coalesce(p ->> 'format', 'json');
  v_type constant text := coalesce(p ->> 'type', 'all');
  v_since constant timestamptz := private.activity_since(p ->> 'range', 'all');
  -- Refuses an unknown type.
  v_where constant text := private.activity_conditions(v_id, v_type, v_since);
begin
  perform private.assert_export_format(v_format);
  return private.export_file('activity-log-' || to_char(now() at time zone 'UTC', 'YYYY-MM-DD'), v_format,
    jsonb_build_object('contextId', v_id, 'type', v_type, 'since', v_since, 'until', now()));
end
$$;
comment on function api.export_context_activity is
  'GET /contexts/{contextId}/activity/export: judges it and says how it is read (private.activity_export_page). Errors: 400, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.export_context_activity to authenticated;

-- p: the answer of api.export_context_activity, and after. Row-level security checks each entry.
create or replace function private.activity_export_page(p jsonb) returns jsonb
language plpgsql stable
as $$
-- Conditions are constants of ours and name input by parameters, which a checker cannot see:
-- @plpgsql_check_options: security_warnings = off
declare
  c_page constant integer := 1000;
  v_id constant uuid := private.path_context(p);
  v_format constant text := coalesce(p ->> 'format', 'json');
  v_type constant text := coalesce(p ->> 'type', 'all');
  v_since constant timestamptz := private.as_instant(p ->> 'since');
  v_until constant timestamptz := coalesce(private.as_instant(p ->> 'until'), now());
  v_after constant jsonb := nullif(p -> 'after', 'null');
  v_where constant text := private.activity_conditions(v_id, v_type, v_since);
  v_org uuid;
  v_owner uuid;
  v_entries public.project_activity[];
  v_count integer;
  v_lines text;
begin
  perform private.assert_export_format(v_format);
  select x.organization_id, x.user_id into v_org, v_owner from public.projects x where x.id = v_id;
  execute 'select array_agg(x.a) from (select a from public.project_activity a where ' || v_where || ' and a.created_at <= $6'
    || case when v_after is null then '' else ' and (a.created_at, a.id) < ($7, $8)' end || ' order by a.created_at desc, a.id desc limit $9) x'
  into v_entries
  using v_org, v_id, v_type, v_since, private.user_id(), v_until, private.as_instant(v_after ->> 'at'), private.as_uuid(v_after ->> 'id'), c_page;
  v_count := coalesce(cardinality(v_entries), 0);
  select string_agg(case v_format when 'csv' then private.csv_bare_line(e.id::text, e.type, coalesce(m.name, e.user_name), coalesce(m.email, e.user_email),
      e.description, private.iso(e.created_at)) else private.activity_json(e, m, v_owner)::text end,
    case v_format when 'csv' then '' else ',' end order by e.created_at desc, e.id desc)
  into v_lines
  from unnest(v_entries) e left join public.project_members m on m.project_id = v_id and m.user_id = e.user_id;
  return private.export_part(v_format, 'events', E'id,type,user,email,description,timestamp\n', v_lines, v_count,
    coalesce(private.as_bigint(v_after -> 'counted', 'after'), 0), v_count < c_page,
    case when v_count > 0 then jsonb_build_object('at', v_entries[v_count].created_at, 'id', v_entries[v_count].id) end);
end
$$;
comment on function private.activity_export_page is 'The next entries of an exported activity log. Errors: 400, 404 CONTEXT_NOT_FOUND.';
grant execute on function private.activity_export_page to authenticated;
