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
  'GET /contexts/{contextId}/activity/export: checks it and says how it is read (private.activity_export_page). Errors: 400, 404 CONTEXT_NOT_FOUND.';
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

-- ---------------------------------------------------------------------------------------------------------------------- the changelog

create or replace function private.assert_changelog_filter(p jsonb) returns void
language plpgsql stable
as $$
begin
  if coalesce(p ->> 'type', 'all') not in ('all', 'ingestion', 'enrichment', 'config', 'access') then
    perform private.refuse_field('type', 'The type must be one of all, ingestion, enrichment, config, access.');
  elsif coalesce(p ->> 'time', '30d') not in ('7d', '30d', '90d', 'all') then
    perform private.refuse_field('time', 'The time must be one of 7d, 30d, 90d, all.');
  end if;
end
$$;
comment on function private.assert_changelog_filter is 'Errors: 400 VALIDATION_ERROR about type or time.';
grant execute on function private.assert_changelog_filter to authenticated;

create or replace function api.export_context_changelog(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id constant uuid := private.path_context(p);
  v_format constant text := coalesce(p ->> 'format', 'json');
begin
  perform private.assert_export_format(v_format), private.assert_changelog_filter(p);
  return private.export_file('changelog-' || to_char(now() at time zone 'UTC', 'YYYY-MM-DD'), v_format,
    jsonb_build_object('contextId', v_id, 'type', coalesce(p ->> 'type', 'all'), 'until', now(),
      'since', private.changelog_since(coalesce(p ->> 'time', 'all'))));
end
$$;
comment on function api.export_context_changelog is
  'GET /contexts/{contextId}/changelog/export: checks it and says how it is read (private.changelog_export_page). Errors: 400, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.export_context_changelog to authenticated;

-- p: the answer of api.export_context_changelog, and after. Counts are those of the entries; lists of paths are cut as the changelog cuts them,
-- and an auditor gets none.
create or replace function private.changelog_export_page(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_page constant integer := 200;
  v_id constant uuid := private.path_context(p);
  v_lists constant integer := case when private.has_project_role(v_id, 'viewer') then 500 else 0 end;
  v_format constant text := coalesce(p ->> 'format', 'json');
  v_type constant text := coalesce(p ->> 'type', 'all');
  v_since constant timestamptz := private.as_instant(p ->> 'since');
  v_until constant timestamptz := coalesce(private.as_instant(p ->> 'until'), now());
  v_after constant jsonb := nullif(p -> 'after', 'null');
  v_at constant timestamptz := private.as_instant(v_after ->> 'at');
  v_after_id constant uuid := private.as_uuid(v_after ->> 'id');
  v_entries public.context_changelog[];
  v_count integer;
  v_lines text;
begin
  perform private.assert_export_format(v_format), private.assert_changelog_filter(p);
  -- The changelog's order: time descending, then id.
  v_entries := array(
    select l from public.context_changelog l
    where l.project_id = v_id and (v_type = 'all' or l.type = v_type) and (v_since is null or l.created_at >= private.shown(v_since))
      and l.created_at <= v_until and (v_at is null or l.created_at < v_at or l.created_at = v_at and l.id > v_after_id)
    order by l.created_at desc, l.id limit c_page);
  v_count := cardinality(v_entries);
  select string_agg(case v_format when 'csv' then private.csv_bare_line(e.id::text, e.type, e.number::text, private.iso(e.created_at), e.user_name,
      coalesce(e.files_added, 0)::text, coalesce(e.files_removed, 0)::text, coalesce(e.files_modified, 0)::text, e.description)
    else private.changelog_json(e, v_lists)::text end, case v_format when 'csv' then '' else ',' end order by e.created_at desc, e.id)
  into v_lines from unnest(v_entries) e;
  return private.export_part(v_format, 'entries', E'id,type,number,timestamp,author,filesAdded,filesRemoved,filesModified,description\n', v_lines, v_count,
    coalesce(private.as_bigint(v_after -> 'counted', 'after'), 0), v_count < c_page,
    case when v_count > 0 then jsonb_build_object('at', v_entries[v_count].created_at, 'id', v_entries[v_count].id) end);
end
$$;
comment on function private.changelog_export_page is
  'The next entries of an exported changelog. Authorization: any role in the context; an auditor gets no path. Errors: 400, 404 CONTEXT_NOT_FOUND.';
grant execute on function private.changelog_export_page to authenticated;

-- ------------------------------------------------------------------------------------------------------------------------------- info

create or replace function api.export_context(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_id constant uuid := private.path_context(p, 'viewer', 'exportContext');
  v_project public.projects;
  v_item jsonb;
begin
  select * into v_project from public.projects x where x.id = v_id;
  v_item := private.context_item(v_project, 'inspector');
  perform private.set_headers(jsonb_build_object('Content-Disposition', format('attachment; filename="%s-info.json"', private.slug(v_project.name))));
  return jsonb_build_object('context', v_item, 'exportedAt', private.iso(now()), 'version', '1.0', 'summary', v_item - array['id', 'status']
    || jsonb_build_object('compressionRatio', private.context_metrics(v_id) -> 'ratio',
      'enrichmentCoverage', private.enrichment_status(v_id) -> 'overall'));
end
$$;
comment on function api.export_context is
  'GET /contexts/{contextId}/export: {context, summary, exportedAt, version}. Authorization: viewer in the context. Errors: 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.export_context to authenticated;
