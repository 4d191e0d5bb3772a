-- The list and its numbers (contract 10, sections 6.6 and 6.7): all projects that the caller may see in the current (or the named)
-- organization, and, where none is named, projects of other organizations where they are a guest.
--
-- A page reads as many index entries as it shows, however many projects there are: owners and admins walk the organization's index in the
-- wanted order; for other members the shared projects are merged with the private ones they belong to. Row-level security still checks each
-- row. Totals come from kept counters unless a filter makes counting necessary.

create or replace function private.project_branches(p_with_guests boolean) returns text[]
language plpgsql stable
as $$
begin
  return case when private.is_org_admin() then array['p.organization_id = $1']
    else array['p.organization_id = $1 and p.privacy = ''shared''',
      'p.organization_id = $1 and p.privacy = ''private'' and p.id = any ($2)'] end
    || case when p_with_guests then array['p.id = any ($3)'] else array[]::text[] end;
end
$$;
comment on function private.project_branches is
  'Disjoint conditions that together find what the caller may see; $1 organization, $2 memberships, $3 guest projects.';

-- The filters of a request as one more condition; $4 is the request, $5 the caller.
create or replace function private.project_filter(p jsonb) returns text
language sql stable parallel safe
return concat_ws(' and ',
  case p ->> 'filter' when 'mine' then 'p.user_id = $5'
    when 'shared' then '(p.privacy = ''shared'' or p.accepted_members > 1) and p.user_id <> $5' end,
  case when private.trimmed(p ->> 'search') <> '' then
    '(p.name ilike private.like_pattern(private.trimmed($4 ->> ''search'')) or p.description ilike private.like_pattern(private.trimmed($4 ->> ''search'')))' end,
  case when p ->> 'status' is not null then 'p.status = $4 ->> ''status''' end,
  case when p ->> 'type' is not null then 'p.type = $4 ->> ''type''' end,
  case when p ->> 'archived' is not null then case when private.as_bool(p -> 'archived', 'archived') then '' else 'not ' end || 'p.archived' end,
  case when p ->> 'starred' is not null then case when private.as_bool(p -> 'starred', 'starred') then '' else 'not ' end
    || '(p.id = any (array(select s.project_id from public.project_stars s where s.user_id = $5)))' end,
  case when jsonb_array_length(private.as_array(p -> 'label', 'label')) > 0 then 'p.label = any (array(select jsonb_array_elements_text($4 -> ''label'')))' end);
comment on function private.project_filter is 'SQL text of the list''s filters, '''' without any; it holds no text of the request.';
grant execute on function private.project_branches, private.project_filter to authenticated;

-- The planner prefers bitmaps and sorts where it cannot know how many projects an organization has; with 100,000 of them that takes a
-- thousand times as long as walking the index in order. A sort that cannot be avoided then looks so expensive that it would be compiled,
-- which takes longer than all the rest.
create or replace function api.list_projects(p jsonb) returns jsonb
language plpgsql stable set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
-- Conditions and keys are constants of ours and name input by parameters, which a checker cannot see:
-- @plpgsql_check_options: security_warnings = off
declare
  v_at record := private.page(p, 20, p_clamps => false);
  v_filter text;
  v_order text;
  v_walk text;
  v_branches text[];
  v_key text;
  v_members uuid[] := '{}';
  v_guests uuid[] := '{}';
  v_ids uuid[];
  v_total bigint := 0;
  v_part bigint;
begin
  perform private.act_in(private.as_uuid(p ->> 'organizationId'));
  if p ->> 'organizationId' is null then
    v_guests := private.guest_project_ids();
  end if;
  v_branches := private.project_branches(cardinality(v_guests) > 0);
  if not private.is_org_admin() then
    v_members := private.member_project_ids();
  end if;
  v_filter := private.project_filter(p);
  v_key := case p ->> 'sort' when 'name' then 'lower(p.name)' when 'sources' then 'p.source_count' else 'p.updated_at' end;
  v_order := case when p ->> 'sort' = 'name' then 'k, id' else 'k desc, id' end;
  -- No two projects of an organization have the same name.
  v_walk := v_key || case when p ->> 'sort' = 'name' then '' else ' desc, id' end;

  if v_branches = array['p.organization_id = $1'] and v_filter = '' and v_key = 'p.updated_at' then
    -- The most frequent first page, planned once a session: planning costs as much as reading the page.
    v_ids := array(select o.id from public.projects o where o.organization_id = private.org_id() order by o.updated_at desc, o.id
      limit v_at.size offset v_at.skipped);
  else
    execute 'select array(select id from ('
      || (select string_agg(format('(select p.id, %1$s as k from public.projects p where %2$s%3$s%4$s)', v_key, b,
          coalesce(' and ' || nullif(v_filter, ''), ''),
          -- Projects found by ids are few and unsorted; the projects of an organization are read in index order.
          case when b not like '% any (%' then format(' order by %s limit %s', v_walk, v_at.skipped + v_at.size) else '' end),
          ' union all ' order by o)
        from unnest(v_branches) with ordinality t (b, o))
      || format(') page order by %s limit %s offset %s)', v_order, v_at.size, v_at.skipped)
      into v_ids using private.org_id(), v_members, v_guests, p, private.user_id();
  end if;

  if v_at.skipped = 0 and cardinality(v_ids) < v_at.size then
    v_total := cardinality(v_ids);
  elsif v_filter = '' then
    v_total := (select c.projects from private.counted_projects() c) + cardinality(v_guests);
    if not private.is_org_admin() then
      select count(*) into v_part from public.projects x
      where x.id = any (v_members) and x.organization_id = private.org_id() and x.privacy = 'private';
      v_total := v_total + v_part;
    end if;
  else
    execute 'select ' || (select string_agg(format('(select count(*) from public.projects p where %s and %s)', b, v_filter), ' + ')
      from unnest(v_branches) b)
      into v_total using private.org_id(), v_members, v_guests, p, private.user_id();
  end if;
  return private.page_json(private.projects_json(v_ids), v_total, v_at.number::integer, v_at.size);
end
$$;
comment on function api.list_projects is 'GET /projects: PaginatedResponse<Project>. Errors: 400, 403 FORBIDDEN for another''s organization.';
grant execute on function api.list_projects to authenticated;

create or replace function api.get_project_stats(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v record;
  w record;
begin
  select * into v from private.counted_projects();
  -- The counters leave out private projects of the organization, for members who do not see all of them, and projects of a guest.
  select count(*) as projects, count(*) filter (where p.status = 'active') as active,
    count(*) filter (where p.status = 'processing') as processing, count(*) filter (where p.status = 'error') as failed,
    coalesce(sum(p.optimized_tokens), 0) as tokens, coalesce(sum(coalesce(p.total_files, p.uploaded_files)), 0) as files
  into w
  from public.projects p
  where p.id = any ((select case when private.is_org_admin() then private.guest_project_ids() else private.member_project_ids() end)::uuid[])
    and not (p.organization_id = private.org_id() and (p.privacy = 'shared' or private.is_org_admin()))
    and (p.organization_id = private.org_id() or p.id = any ((select private.guest_project_ids())::uuid[]));
  return jsonb_build_object('totalProjects', v.projects + w.projects, 'activeProjects', v.active + w.active,
    'processingProjects', v.processing + w.processing, 'errorProjects', v.failed + w.failed, 'totalTokens', v.tokens + w.tokens,
    'totalFiles', v.files + w.files);
end
$$;
comment on function api.get_project_stats is 'GET /projects/stats: ProjectStats over everything the list shows, archived included.';
grant execute on function api.get_project_stats to authenticated;
