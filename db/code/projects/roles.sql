-- The rights in a project (contract 10, section 5). The owner is projects.user_id. Owners and admins of the organization act as admin in
-- all its projects. Its other members are viewers of the shared projects and do not see the private ones. An accepted member has the role
-- of the row, whatever organization they come from. A caller without a role finds nothing: 404, never 403.

-- Constraints of the tables use them, so migration 005 creates them; every writer of a row needs them.
grant execute on function private.trimmed, private.is_plain, private.is_switches, private.is_patterns, private.refuse_row,
  private.assert_projects_row, private.assert_project_members_row, private.assert_project_settings_row, private.assert_project_activity_row
  to anon, authenticated, service_role, kijko_server, kijko_worker;

-- A person whose membership in an organization is deactivated is no guest of its projects either: their rows wait for the reactivation.
create or replace function private.is_deactivated(p_org_id uuid, p_user_id uuid) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return exists (select from public.memberships s where s.organization_id = p_org_id and s.user_id = p_user_id and s.status <> 'active');
end
$$;
comment on function private.is_deactivated is
  'Is this person''s membership in the organization deactivated? Authorization: callable by definer functions and triggers of ours only.';

-- Owners and admins of an organization see its projects anyway: for them only memberships elsewhere count. Two ranges of the index replace
-- one "is not": a person with 100,000 projects in the current organization reads none of them.
create or replace function private.member_project_ids() returns uuid[]
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v_org uuid := coalesce(private.org_id(), '00000000-0000-0000-0000-000000000000');
  v_closed uuid[] := array(select s.organization_id from public.memberships s where s.user_id = v_user and s.status <> 'active');
begin
  if private.is_org_admin() then
    return array(
      select m.project_id from public.project_members m
      where m.user_id = v_user and m.accepted_at is not null and m.organization_id < v_org and m.organization_id <> all (v_closed)
      union all
      select m.project_id from public.project_members m
      where m.user_id = v_user and m.accepted_at is not null and m.organization_id > v_org and m.organization_id <> all (v_closed));
  end if;
  return array(select m.project_id from public.project_members m
    where m.user_id = v_user and m.accepted_at is not null and m.organization_id <> all (v_closed));
end
$$;
comment on function private.member_project_ids is
  'Projects that the caller sees as an accepted member, in any organization; policies evaluate it at most once a statement. Authorization: only the caller''s own rows.';

-- Guests belong to a project and not to its organization.
create or replace function private.guest_project_ids() returns uuid[]
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v_org uuid := coalesce(private.org_id(), '00000000-0000-0000-0000-000000000000');
begin
  return array(
    select m.project_id
    from (
      select m.project_id, m.organization_id from public.project_members m
      where m.user_id = v_user and m.accepted_at is not null and m.organization_id < v_org
      union all
      select m.project_id, m.organization_id from public.project_members m
      where m.user_id = v_user and m.accepted_at is not null and m.organization_id > v_org
    ) m
    where not exists (select from public.memberships s
      where s.organization_id = m.organization_id and s.user_id = v_user));
end
$$;
comment on function private.guest_project_ids is 'Projects where the caller is a guest: member of the project, not of its organization. Authorization: only the caller''s own rows.';

-- Auditors see the project, its people and its activity, but none of its content.
create or replace function private.auditor_project_ids() returns uuid[]
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (
    select coalesce(array_agg(m.project_id), array[]::uuid[])
    from public.project_members m
    where m.user_id = private.user_id() and m.accepted_at is not null and m.role = 'auditor'
      and not (private.is_org_admin() and m.organization_id = private.org_id())
  );
end
$$;
comment on function private.auditor_project_ids is 'Projects where the caller is no more than an auditor. Authorization: only the caller''s own rows.';

create or replace function private.overseen_project_ids() returns uuid[]
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (
    select coalesce(array_agg(m.project_id), array[]::uuid[])
    from public.project_members m
    where m.user_id = private.user_id() and m.accepted_at is not null and m.role in ('admin', 'manager', 'auditor')
      and not private.is_deactivated(m.organization_id, m.user_id)
  );
end
$$;
comment on function private.overseen_project_ids is 'Projects whose whole activity the caller may read as a member. Authorization: only the caller''s own rows.';

grant execute on function private.member_project_ids, private.guest_project_ids, private.auditor_project_ids, private.overseen_project_ids
  to authenticated;

create or replace function private.role_rank(p_role text) returns integer
language sql immutable parallel safe
return case p_role when 'owner' then 5 when 'admin' then 4 when 'manager' then 3 when 'developer' then 2 when 'viewer' then 1
  when 'auditor' then 1 else 0 end;
comment on function private.role_rank is 'Rank of a project role: owner 5 to viewer and auditor 1; 0 for none.';

-- Plpgsql, because its plan is kept for the session.
create or replace function private.project_role(p_project_id uuid) returns text
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v record;
begin
  if v_user is null then
    return null;
  end if;
  select p.user_id, p.organization_id, p.privacy, m.role into v
  from public.projects p
  left join public.project_members m on m.project_id = p.id and m.user_id = v_user and m.accepted_at is not null
  where p.id = p_project_id;
  return case
    when v.organization_id is distinct from private.org_id() and (v.role is null or private.is_deactivated(v.organization_id, v_user)) then null
    when v.user_id = v_user then 'owner'
    when v.organization_id = private.org_id() and private.is_org_admin() then 'admin'
    when v.role is not null then v.role
    when v.privacy = 'shared' then 'viewer'
  end;
end
$$;
comment on function private.project_role is
  'The caller''s role in a project: owner, admin, manager, developer, viewer or auditor; null when it is hidden from them. Authorization: tells a caller about themselves only.';

-- Viewer here means "reads content", which an auditor does not.
create or replace function private.has_project_role(p_project_id uuid, p_minimum text) returns boolean
language sql stable parallel safe
return (
  select case p_minimum when 'auditor' then r is not null
    else coalesce(r <> 'auditor' and private.role_rank(r) >= private.role_rank(p_minimum), false) end
  from private.project_role(p_project_id) r
);
comment on function private.has_project_role is 'Has the caller at least this role? An auditor has nothing above auditor.';

create or replace function private.refuse_role(p_role text, p_minimum text) returns void
language plpgsql stable
as $$
begin
  if p_role is null then
    perform private.refuse(404, 'PROJECT_NOT_FOUND', 'This project does not exist.');
  elsif p_minimum <> 'auditor' and (p_role = 'auditor' or private.role_rank(p_role) < private.role_rank(p_minimum)) then
    perform private.refuse(403, 'FORBIDDEN', format('Your role in this project (%s) does not allow this.', p_role), null,
      jsonb_build_object('role', p_role, 'required', p_minimum));
  end if;
end
$$;
comment on function private.refuse_role is 'Refuses 404 PROJECT_NOT_FOUND without a role, 403 FORBIDDEN below the minimum.';

create or replace function private.assert_project_role(p_project_id uuid, p_minimum text default 'auditor') returns text
language plpgsql stable
as $$
declare
  v_role text := private.project_role(p_project_id);
begin
  perform private.refuse_role(v_role, p_minimum);
  return v_role;
end
$$;
comment on function private.assert_project_role is
  'Gives the caller''s role, or refuses: 404 PROJECT_NOT_FOUND when hidden, 403 FORBIDDEN below the minimum (auditor = may see the project).';

-- Each operation on /projects/{projectId}/... begins with this check.
create or replace function private.path_project(p jsonb, p_minimum text default 'auditor') returns uuid
language plpgsql stable
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'projectId');
begin
  perform private.assert_project_role(v_id, p_minimum);
  return v_id;
end
$$;
comment on function private.path_project is 'The project of the path, checked: 404 PROJECT_NOT_FOUND also for text that is no UUID.';

grant execute on function private.role_rank, private.project_role, private.has_project_role, private.refuse_role,
  private.assert_project_role, private.path_project to authenticated, service_role;

-- A request may name another organization of the caller's than the current one; the rest of its transaction acts in it.
create or replace function private.act_in(p_org_id uuid) returns void
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_role text;
  v_user uuid := private.user_id();
begin
  if p_org_id is null or p_org_id = private.org_id() then
    return;
  end if;
  select m.role into v_role from public.memberships m
  where m.organization_id = p_org_id and m.user_id = v_user and m.status = 'active';
  if v_role is null then
    perform private.refuse(403, 'FORBIDDEN', 'You are not a member of this organization.', 'organizationId');
  end if;
  perform set_config('app.user_id', v_user::text, true), set_config('app.org_id', p_org_id::text, true),
    set_config('app.org_role', v_role, true);
end
$$;
comment on function private.act_in is
  'Lets the rest of the transaction act in another organization of the caller. Authorization: active membership there, else 403 FORBIDDEN.';
grant execute on function private.act_in to authenticated;
