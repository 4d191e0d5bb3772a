-- Entries as their readers see them. Reading crosses row-level security: for names of former members, and for counts. Each entry point
-- checks its caller or is internal.

-- The plan's horizon, of any organization: a scheduled export has no caller.
create or replace function private.audit_horizon_of(p_org_id uuid) returns timestamptz
language plpgsql stable security definer set search_path = ''
as $$
begin
  return now() - make_interval(days => (select p.audit_retention_days from public.plans p where p.id = private.effective_plan(p_org_id)));
end
$$;
comment on function private.audit_horizon_of is 'Oldest audit entry that an organization''s plan shows. Authorization: callable by functions of ours only.';

create or replace function private.audit_entry_json(a public.audit_log, u public.users) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', a.id, 'teamId', a.organization_id, 'userId', a.user_id, 'userEmail', u.email,
    'userName', case when a.is_erased then 'Deleted user' when a.user_id is not null then private.person_name(u) end,
    'userAvatarUrl', nullif(u.avatar_url, ''), 'eventType', a.event_type, 'eventCategory', a.event_category, 'description', a.description,
    'ipAddress', a.ip_address, 'sessionId', a.session_id, 'createdAt', private.iso(a.created_at)))
  -- Values in these may be null.
  || case when a.metadata is null then '{}' else jsonb_build_object('metadata', a.metadata) end
  || case when a.changes is null then '{}' else jsonb_build_object('changes', a.changes) end;
comment on function private.audit_entry_json is 'AuditLogEntry.';

-- Lists all people with entries by skipping through the index: it takes one look-up a person.
create or replace function private.audit_actors(p_org_id uuid) returns setof uuid
language sql stable security definer set search_path = ''
begin atomic
  with recursive actor (id) as (
    (select a.user_id from public.audit_log a where a.organization_id = p_org_id and a.user_id is not null order by a.user_id limit 1)
    union all
    select (select a.user_id from public.audit_log a where a.organization_id = p_org_id and a.user_id > actor.id order by a.user_id limit 1)
    from actor where actor.id is not null
  )
  select actor.id from actor where actor.id is not null;
end;
comment on function private.audit_actors is 'Who has entries. Authorization: callable by functions of ours only.';

-- Builds FROM and WHERE over a, of constants and quoted literals, so that the planner sees which index serves. A search reads every entry
-- of the range.
create or replace function private.audit_source(
  p_org_id uuid, p_user_id uuid, p_kinds text[], p_since timestamptz, p_until timestamptz, p_search text
) returns text
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_pattern constant text := private.like_pattern(p_search);
  v_people uuid[];
begin
  if p_search is not null then
    v_people := array(select u.id from private.audit_actors(p_org_id) a (id) join public.users u on u.id = a.id
      where private.person_name(u) ilike v_pattern or u.email ilike v_pattern);
  end if;
  return format(' from public.audit_log a where a.organization_id = %L and a.created_at >= %L and a.created_at < %L', p_org_id, p_since, p_until)
    || case when p_user_id is null then '' else format(' and a.user_id = %L', p_user_id) end
    || case when p_kinds is null then ''
      when cardinality(p_kinds) = 1 then format(case when p_kinds[1] like '%.%' then ' and a.event_type = %L' else ' and a.event_category = %L' end, p_kinds[1])
      else format(' and a.event_type = any (%L::text[])', p_kinds) end
    || case when p_search is null then ''
      else format(' and (a.description ilike %L or a.event_type ilike %1$L', v_pattern)
        || case when v_people = '{}' then '' else format(' or a.user_id = any (%L::uuid[])', v_people) end
        || case when 'Deleted user' ilike v_pattern then ' or a.is_erased)' else ')' end end;
end
$$;
comment on function private.audit_source is 'The entries that fit, as SQL. Authorization: callable by functions of ours only.';

create or replace function private.audit_matches(
  p_org_id uuid, p_filters jsonb, p_until timestamptz, p_offset bigint, p_limit integer, out total bigint, out entries public.audit_log[]
)
language plpgsql stable security definer set search_path = ''
as $$
declare
  f record;
  v record;
  v_source text;
  v_skip bigint := p_offset;
begin
  select * into f from private.read_audit_filters(p_filters, private.audit_horizon_of(p_org_id));
  f.until := least(f.until, p_until);
  -- The query holds only text that private.audit_source quoted, which a checker cannot see:
  -- @plpgsql_check_options: security_warnings = off
  if f.search is null then
    select * into v from private.place_audit_page(p_org_id, f.user_id, f.kinds, f.since, f.until, p_offset, p_limit);
    total := v.total;
    v_skip := v.skip;
    -- The range is also given by moments alone, so that the planner can estimate how few entries it has.
    v_source := private.audit_source(p_org_id, f.user_id, f.kinds, v.oldest_at, v.newest_at + interval '1 microsecond', null) || format(' and (a.created_at, a.id) <= (%L, %L) and (a.created_at, a.id) >= (%L, %L)', v.newest_at, v.newest_id, v.oldest_at, v.oldest_id);
  else
    v_source := private.audit_source(p_org_id, f.user_id, f.kinds, f.since, f.until, f.search);
    execute 'select count(*)' || v_source into total;
  end if;
  if p_offset < total and p_limit > 0 then
    execute 'select array_agg(x.a) from (select a' || v_source || ' order by a.created_at desc, a.id desc offset $1 limit $2) x'
      into entries using v_skip, p_limit;
  end if;
end
$$;
comment on function private.audit_matches is
  'How many entries fit the (clean) filters before a moment, and a page of them, newest first. Authorization: callable by functions of ours only.';

create or replace function private.audit_page(p_filters jsonb, p_offset bigint, p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org constant uuid := private.org_id();
  v record;
begin
  perform private.require_permission('canViewAuditLog');
  select * into v from private.audit_matches(v_org, p_filters, 'infinity', p_offset, p_limit);
  return jsonb_build_object(
    'entries', coalesce((
      select jsonb_agg(private.audit_entry_json(e, u) order by e.created_at desc, e.id desc)
      from unnest(v.entries) e left join public.users u on u.id = e.user_id), '[]'),
    'hasMore', p_offset + coalesce(cardinality(v.entries), 0) < v.total,
    'totalCount', v.total,
    'unfilteredCount', case when p_filters = '{}' then v.total else
      (private.place_audit_page(v_org, null, null, private.audit_horizon_of(v_org), 'infinity', 0, 0)).total end);
end
$$;
comment on function private.audit_page is
  'A page of the caller''s organization. Authorization: canViewAuditLog; the organization is the caller''s. Errors: 403 FORBIDDEN.';
grant execute on function private.audit_page to authenticated;

create or replace function private.audit_people() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org constant uuid := private.org_id();
begin
  perform private.require_permission('canViewAuditLog');
  return (
    select coalesce(jsonb_agg(jsonb_build_object('id', u.id, 'name', private.person_name(u), 'email', u.email) order by lower(private.person_name(u)), u.id), '[]')
    from public.users u
    where u.id in (
      select m.user_id from public.memberships m where m.organization_id = v_org
      union
      -- Former members are listed as long as an entry of theirs is shown.
      select a.id from private.audit_actors(v_org) a (id) where exists (
        select from public.audit_log l where l.organization_id = v_org and l.user_id = a.id and l.created_at >= private.audit_horizon()))
  );
end
$$;
comment on function private.audit_people is 'Whom entries can be of. Authorization: canViewAuditLog; the organization is the caller''s. Errors: 403 FORBIDDEN.';
grant execute on function private.audit_people to authenticated;
