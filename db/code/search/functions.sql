-- Search in a context (contract 60, section 12): people, activity, changelog and files that contain a text, whatever the case. The text is
-- compared by strpos, so no sign of it is a pattern. Each list is read from newest to oldest, or by path, and not beyond a bound, so a search
-- costs at most what a fixed number of rows costs. The functions ask for the caller's role once and not for each row, as policies would.

create or replace function private.search_bound() returns integer
language sql immutable parallel safe
return 100000;
comment on function private.search_bound is 'How many rows of each list a search reads, newest first.';

create or replace function private.counted(p_count bigint, p_unit text) returns text
language sql immutable parallel safe
return p_count || ' ' || p_unit || case when p_count = 1 then '' else 's' end || ' ago';
comment on function private.counted is 'A number of units ago.';

-- How long ago, as people say it. The largest unit that fits.
create or replace function private.relative_time(p_at timestamptz, p_now timestamptz default now()) returns text
language sql stable parallel safe
return (
  select case
    when s.seconds < 60 then 'just now'
    when s.seconds < 3600 then private.counted(s.seconds / 60, 'minute')
    when s.seconds < 86400 then private.counted(s.seconds / 3600, 'hour')
    when s.seconds < 604800 then private.counted(s.seconds / 86400, 'day')
    when s.seconds < 2592000 then private.counted(s.seconds / 604800, 'week')
    when s.seconds < 31536000 then private.counted(s.seconds / 2592000, 'month')
    else private.counted(s.seconds / 31536000, 'year') end
  from (select greatest(floor(extract(epoch from p_now - p_at)), 0)::bigint as seconds) s
);
comment on function private.relative_time is 'just now, 5 minutes ago, 1 hour ago, 3 days ago.';

create or replace function private.search_result(p_id uuid, p_type text, p_title text, p_subtitle text, p_metadata jsonb) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', p_id, 'type', p_type, 'title', p_title, 'subtitle', p_subtitle,
  'tab', case when p_type in ('user', 'activity') then 'overview' else 'knowledgebase' end, 'metadata', jsonb_strip_nulls(p_metadata));
comment on function private.search_result is 'SearchResult of the contract.';

create or replace function private.search_people(p_project_id uuid, p_text text, p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_owner constant uuid := private.project_owner(p_project_id);
begin
  return (
    select coalesce(jsonb_agg(private.search_result(t.id, 'user', t.name, t.email || ' - ' || initcap(t.role),
      jsonb_build_object('email', t.email, 'role', t.role)) order by t.place, t.active_at desc, t.id), '[]')
    from (
      select m.id, n.name, m.email, private.shown_role(m.role, coalesce(m.user_id = v_owner, false)) as role,
        coalesce(m.last_active_at, m.accepted_at, m.invited_at) as active_at,
        case when strpos(lower(n.name), p_text) = 1 or strpos(lower(m.email), p_text) = 1 then 0 else 1 end as place
      from public.project_members m, lateral (select private.project_member_name(m) as name) n
      where m.project_id = p_project_id and (strpos(lower(n.name), p_text) > 0 or strpos(lower(m.email), p_text) > 0)
      order by place, active_at desc, m.id limit p_limit
    ) t
  );
end
$$;
comment on function private.search_people is 'Members whose name or address contains a text. Authorization: callable by definer functions that have authorized the caller.';

create or replace function private.search_activity(p_project_id uuid, p_text text, p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_all constant boolean := private.reads_all_activity(p_project_id);
  v_user constant uuid := private.user_id();
  v_org constant uuid := (select p.organization_id from public.projects p where p.id = p_project_id);
begin
  return (
    with entry as (
      (select a.id, a.type, a.description, a.user_name, a.user_id, a.created_at from public.project_activity a
        where v_all and a.organization_id = v_org and a.project_id = p_project_id
        order by a.created_at desc, a.id desc limit private.search_bound())
      union all
      (select a.id, a.type, a.description, a.user_name, a.user_id, a.created_at from public.project_activity a
        where not v_all and a.user_id = v_user and a.project_id = p_project_id
        order by a.created_at desc limit private.search_bound())
    ), fitting as (
      select e.*, case when strpos(lower(e.description), p_text) = 1 or strpos(lower(coalesce(m.name, e.user_name)), p_text) = 1 then 0 else 1 end as place,
        coalesce(m.name, e.user_name) as name
      from entry e left join public.project_members m on m.project_id = p_project_id and m.user_id = e.user_id
      where strpos(lower(e.description), p_text) > 0 or strpos(lower(coalesce(m.name, e.user_name)), p_text) > 0
    )
    select coalesce(jsonb_agg(private.search_result(f.id, 'activity', f.description, f.name || ' - ' || private.relative_time(f.created_at),
      jsonb_build_object('activityType', f.type, 'user', f.name)) order by f.place, f.created_at desc, f.id), '[]')
    from (select * from fitting order by place, created_at desc, id limit p_limit) f
  );
end
$$;
comment on function private.search_activity is
  'Entries of the activity log that the caller reads and that contain a text. Authorization: the log as private.reads_all_activity lets the caller read it; callable by definer functions that have authorized the caller.';

create or replace function private.search_changelog(p_project_id uuid, p_text text, p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org constant uuid := (select p.organization_id from public.projects p where p.id = p_project_id);
begin
  return (
    with entry as (
      select c.id, c.type, c.number, c.description, c.created_at from public.context_changelog c
      where c.organization_id = v_org and c.project_id = p_project_id
      order by c.created_at desc, c.id limit private.search_bound()
    ), titled as (
      select e.*, i.display_name,
        coalesce(e.description, 'Ingestion #' || e.number || coalesce(' - ' || i.display_name, '')) as title
      from entry e left join public.context_ingestions i on i.project_id = p_project_id and i.number = e.number
    ), fitting as (
      select t.*, case when strpos(lower(t.description), p_text) = 1 or strpos(lower(t.display_name), p_text) = 1 then 0 else 1 end as place
      from titled t where strpos(lower(t.description), p_text) > 0 or strpos(lower(t.display_name), p_text) > 0
    )
    select coalesce(jsonb_agg(private.search_result(f.id, 'changelog', f.title, coalesce('#' || f.number, f.type),
      jsonb_build_object('entryType', f.type, 'number', f.number)) order by f.place, f.created_at desc, f.id), '[]')
    from (select * from fitting order by place, created_at desc, id limit p_limit) f
  );
end
$$;
comment on function private.search_changelog is 'Entries of the changelog that contain a text. Authorization: callable by definer functions that have authorized the caller.';

create or replace function private.search_files(p_project_id uuid, p_text text, p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    with fitting as (
      select c.id, c.path, c.updated_at,
        case when strpos(lower(c.path), p_text) = 1 then 0
          when strpos(lower(c.path), '/' || p_text) > 0 and strpos(lower(regexp_replace(c.path, '^.*/', '')), p_text) = 1 then 0 else 1 end as place
      from public.context_files c
      where c.project_id = p_project_id and not c.is_hidden and strpos(lower(c.path), p_text) > 0
    )
    select coalesce(jsonb_agg(private.search_result(f.id, 'file', regexp_replace(f.path, '^.*/', ''), f.path, jsonb_build_object('path', f.path, 'fileId', f.id))
      order by f.place, f.updated_at desc, f.path collate "C"), '[]')
    from (select * from fitting order by place, updated_at desc, path collate "C" limit p_limit) f
  );
end
$$;
comment on function private.search_files is 'Files of the current set whose path contains a text. Authorization: callable by definer functions that have authorized the caller.';
