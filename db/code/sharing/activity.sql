-- The activity log of a project, page by page (contract 10, section 13). Row-level security checks each entry: all entries for owner,
-- admin, manager and auditor, their own for others. The conditions follow the request, so that an index in the wanted order serves each of
-- them.

create or replace function private.activity_since(p_range text, p_default text) returns timestamptz
language plpgsql stable
as $$
begin
  case coalesce(p_range, p_default)
    when '7d' then return now() - interval '7 days';
    when '30d' then return now() - interval '30 days';
    when '90d' then return now() - interval '90 days';
    when 'all' then return null;
    else
      perform private.refuse_field('range', 'The range must be one of 7d, 30d, 90d, all.');
      return null;
  end case;
end
$$;
comment on function private.activity_since is 'The oldest moment of a range, null for all; 400 VALIDATION_ERROR about field range.';

create or replace function private.activity_conditions(p_project_id uuid, p_type text, p_since timestamptz) returns text
language plpgsql stable
as $$
begin
  if p_type not in ('all', 'view', 'chat', 'ingestion', 'permission', 'config') then
    perform private.refuse_field('type', 'The type must be one of all, view, chat, ingestion, permission, config.');
  end if;
  -- $1 organization, $2 project, $3 type, $4 since, $5 caller.
  return concat_ws(' and ', 'a.organization_id = $1 and a.project_id = $2',
    case when not private.reads_all_activity(p_project_id) then 'a.user_id = $5' end,
    case when p_type <> 'all' then 'a.type = $3' end, case when p_since is not null then 'a.created_at >= private.shown($4)' end);
end
$$;
comment on function private.activity_conditions is 'SQL text of what is asked of the log; it holds no text of the request. Errors: 400.';

create or replace function private.activity_page(p_project_id uuid, p_type text, p_since timestamptz, p_limit integer, p_offset bigint) returns jsonb
language plpgsql stable
as $$
-- Conditions are constants of ours and name input by parameters, which a checker cannot see:
-- @plpgsql_check_options: security_warnings = off
declare
  v_where text := private.activity_conditions(p_project_id, p_type, p_since);
  v_org uuid;
  v_owner uuid;
  v jsonb;
begin
  select p.organization_id, p.user_id into v_org, v_owner from public.projects p where p.id = p_project_id;
  execute format($q$
    select coalesce(jsonb_agg(private.activity_json(e.a, m, $6) order by (e.a).created_at desc, (e.a).id desc), '[]')
    from (select a from public.project_activity a where %s order by a.created_at desc, a.id desc limit $7 offset $8) e
    left join public.project_members m on m.project_id = $2 and m.user_id = (e.a).user_id
  $q$, v_where)
  into v using v_org, p_project_id, p_type, p_since, private.user_id(), v_owner, p_limit, p_offset;
  return v;
end
$$;
comment on function private.activity_page is 'ActivityEvent[] of a project, newest first, as far as the caller reads its log.';

-- Counts without the policies, which read more of each row than an index holds. Of those who read the whole log, closed days are summed
-- (activity_days.sql), and only what is outside them is counted by the index.
create or replace function private.activity_count(p_project_id uuid, p_type text, p_since timestamptz) returns bigint
language plpgsql stable security definer set search_path = '' set enable_seqscan = off set jit = off
as $$
-- As above:
-- @plpgsql_check_options: security_warnings = off
declare
  v_where text := private.activity_conditions(p_project_id, p_type, p_since);
  v_org uuid := (select p.organization_id from public.projects p where p.id = p_project_id);
  v_since constant timestamptz := coalesce(private.shown(p_since), '-infinity');
  v_first timestamptz;
  v_until timestamptz;
  v bigint;
begin
  perform private.assert_project_role(p_project_id);
  if private.reads_all_activity(p_project_id) then
    -- The closed days from the first whole one on.
    v_first := case when isfinite(v_since) then date_trunc('day', v_since + interval '1 day' - interval '1 microsecond', 'UTC') else v_since end;
    v_until := (select m.closed_until from private.activity_mark m where m.closed_until > v_first);
  end if;
  execute 'select count(*) from public.project_activity a where ' || v_where
    || case when v_until is null then '' when v_first > '-infinity' then ' and (a.created_at >= $6 or a.created_at < $7)' else ' and a.created_at >= $6' end
  into v using v_org, p_project_id, p_type, p_since, private.user_id(), v_until, v_first;
  return v + coalesce((
    select sum(d.entries) from private.activity_days d
    where v_until is not null and d.project_id = p_project_id and (p_type = 'all' or d.type = p_type)
      and (d.day >= (v_first at time zone 'UTC')::date or v_first = '-infinity')), 0);
end
$$;
comment on function private.activity_count is
  'How many entries the pages of private.activity_page hold. Authorization: only projects that the caller sees, and of them what private.activity_conditions lets them read.';
grant execute on function private.activity_since, private.activity_conditions, private.activity_page, private.activity_count to authenticated;
grant execute on function private.activity_json to authenticated;

create or replace function api.list_project_activity(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.path_project(p);
  v_page integer := coalesce(private.as_int(p -> 'page', 'page'), 1);
  v_size integer := coalesce(private.as_int(p -> 'pageSize', 'pageSize'), 20);
  v_type text := coalesce(p ->> 'type', 'all');
  v_since timestamptz := private.activity_since(p ->> 'range', '7d');
  v_data jsonb;
  v_total bigint;
begin
  if v_page < 1 or v_size not between 1 and 100 then
    perform private.refuse_field(case when v_page < 1 then 'page' else 'pageSize' end, 'Pages start at 1 and hold 1 to 100 entries.');
  end if;
  v_data := private.activity_page(v_id, v_type, v_since, v_size, (v_page::bigint - 1) * v_size);
  v_total := case when v_page = 1 and jsonb_array_length(v_data) < v_size then jsonb_array_length(v_data)
    else private.activity_count(v_id, v_type, v_since) end;
  return private.page_json(v_data, v_total, v_page, v_size);
end
$$;
comment on function api.list_project_activity is
  'GET /projects/{projectId}/activity: PaginatedResponse<ActivityEvent>. Errors: 400, 404 PROJECT_NOT_FOUND.';
grant execute on function api.list_project_activity to authenticated;

-- The inspector of a context filters by itself, so it gets a longer list and everything by default (60-contexts 12).
create or replace function api.list_context_activity(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.path_context(p);
  v_limit integer := coalesce(private.as_int(p -> 'limit', 'limit'), 200);
  v_offset integer := coalesce(private.as_int(p -> 'offset', 'offset'), 0);
begin
  if v_limit not between 1 and 500 or v_offset < 0 then
    perform private.refuse_field(case when v_offset < 0 then 'offset' else 'limit' end, 'A list begins at 0 and holds 1 to 500 entries.');
  end if;
  return private.activity_page(v_id, coalesce(p ->> 'type', 'all'), private.activity_since(p ->> 'range', 'all'), v_limit, v_offset);
end
$$;
comment on function api.list_context_activity is 'GET /contexts/{contextId}/activity: ActivityEvent[]. Errors: 400, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.list_context_activity to authenticated;
