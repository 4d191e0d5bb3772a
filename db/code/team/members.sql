-- The team as its members see it, and the operations on members. The effects of a change are triggers of the table (here and in other
-- features): sessions end, projects move to the owner, habits and reflexes stop, people are notified, the audit trail is written.

create or replace function private.person_name(u public.users) returns text
language sql immutable parallel safe
return coalesce(nullif(private.without_blanks(u.first_name || ' ' || u.last_name), ''), u.email);
comment on function private.person_name is 'First and last name, or the e-mail address of a person without any.';

create or replace function private.team_member_json(m public.memberships, u public.users) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', m.id, 'teamId', m.organization_id, 'userId', m.user_id, 'email', u.email,
  'name', private.person_name(u), 'avatarUrl', u.avatar_url, 'role', m.role, 'status', m.status, 'joinedAt', private.iso(m.joined_at),
  'lastActiveAt', private.iso(m.last_active_at)));
comment on function private.team_member_json is 'TeamMember.';

create or replace function private.team_members_json() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(private.team_member_json(m, u) order by m.status, private.team_rank(m.role) desc, m.joined_at, m.id), '[]')
    from public.memberships m join public.users u on u.id = m.user_id
    where m.organization_id = private.org_id()
  );
end
$$;
comment on function private.team_members_json is 'The members of the caller''s organization: active ones first, then by role and time. Authorization: private.org_id() only.';
grant execute on function private.team_members_json to authenticated;

create or replace function private.team_member_of(p_org_id uuid, p_user_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select private.team_member_json(m, u) from public.memberships m join public.users u on u.id = m.user_id
    where m.organization_id = p_org_id and m.user_id = p_user_id
  );
end
$$;
comment on function private.team_member_of is 'One TeamMember. Authorization: callable by definer functions of ours only.';

create or replace function private.team_json() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_build_object('id', o.id, 'name', o.name,
      'ownerId', (select m.user_id from public.memberships m where m.organization_id = o.id and m.role = 'owner'),
      'maxSeats', private.max_seats(o.id), 'createdAt', private.iso(o.created_at), 'updatedAt', private.iso(o.updated_at))
    from public.organizations o where o.id = private.org_id()
  );
end
$$;
comment on function private.team_json is 'Team. Authorization: private.org_id() only.';

create or replace function private.team_overview_json() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org uuid := private.org_id();
  v_max integer := private.max_seats(v_org);
  v_members integer := (select count(*) from public.memberships m where m.organization_id = v_org);
  v_used integer := private.seats_used(v_org);
begin
  perform private.require_team_gate();
  return jsonb_build_object('team', private.team_json(), 'members', private.team_members_json(),
    'invitations', case when private.has_permission('canInviteMembers') then private.team_invitations_json() else '[]' end,
    'stats', jsonb_build_object('totalMembers', v_members,
      'activeMembers', (select count(*) from public.memberships m where m.organization_id = v_org and m.status = 'active'),
      'pendingInvites', v_used - v_members, 'maxSeats', v_max, 'availableSeats', v_max - v_used),
    'currentUserRole', private.org_role());
end
$$;
comment on function private.team_overview_json is
  'TeamOverview; invitations only for who may invite. Authorization: private.org_id() and the role in it. Errors: 403 PLAN_UPGRADE_REQUIRED.';
grant execute on function private.team_overview_json to authenticated;

create or replace function private.rename_team(p_name jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_name text := case when jsonb_typeof(p_name) = 'string' then private.without_blanks(p_name #>> '{}') end;
begin
  perform private.begin_managing('canManageTeam');
  perform private.require_team_gate();
  if coalesce(char_length(v_name), 0) not between 1 and 100 then
    perform private.refuse_field('name', 'The name must have 1 to 100 characters.');
  end if;
  update public.organizations o set name = v_name where o.id = private.org_id();
  return private.team_json();
end
$$;
comment on function private.rename_team is
  'Gives the caller''s organization another name. Authorization: canManageTeam. Errors: 403 FORBIDDEN, PLAN_UPGRADE_REQUIRED, 400 VALIDATION_ERROR.';
grant execute on function private.rename_team to authenticated;

create or replace function private.change_role(p_id text, p_role text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor text := private.begin_managing('canChangeRoles');
  m public.memberships;
begin
  perform private.require_team_gate();
  m := private.managed_team_member(p_id, v_actor);
  if private.team_rank(p_role) > private.team_rank(v_actor) then
    perform private.refuse(403, 'FORBIDDEN', 'You cannot give a role above your own.', 'role');
  end if;
  if p_role = 'owner' then
    perform private.transfer_team(m, v_actor);
  elsif p_role <> m.role then
    update public.memberships x set role = p_role where x.id = m.id;
  end if;
  return private.team_member_of(m.organization_id, m.user_id);
end
$$;
comment on function private.change_role is
  'Gives a member another role; owner hands the organization over. Authorization: canChangeRoles and private.managed_team_member. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, PLAN_UPGRADE_REQUIRED, 404 NOT_FOUND, 409 MEMBER_INACTIVE.';

-- Two statements under the lock: between them there is no owner, which no other transaction sees.
create or replace function private.transfer_team(m public.memberships, p_role text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if not exists (select from public.role_permissions p where p.role = p_role and p.permission = 'canTransferOwnership') then
    perform private.refuse(403, 'FORBIDDEN', 'Only the owner can hand the organization over.', 'role');
  elsif m.status <> 'active' then
    perform private.refuse(409, 'MEMBER_INACTIVE', 'This member is deactivated. Reactivate them first.', 'role');
  end if;
  update public.memberships x set role = 'admin' where x.organization_id = m.organization_id and x.role = 'owner';
  update public.memberships x set role = 'owner' where x.id = m.id;
  update public.organizations o set updated_at = now() where o.id = m.organization_id;
end
$$;
comment on function private.transfer_team is
  'Makes an active member the owner and the former owner an admin. Authorization: canTransferOwnership of the caller''s role; callable by definer functions of ours, under the lock. Errors: 403 FORBIDDEN, 409 MEMBER_INACTIVE.';

create or replace function private.change_status(p_id text, p_status text, p_gated boolean) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor text := private.begin_managing('canManageTeam');
  m public.memberships;
begin
  if p_gated then
    perform private.require_team_gate();
  end if;
  m := private.managed_team_member(p_id, v_actor);
  if m.status = p_status then
    perform private.refuse(409, case p_status when 'active' then 'ALREADY_ACTIVE' else 'ALREADY_INACTIVE' end,
      case p_status when 'active' then 'This member is active already.' else 'This member is deactivated already.' end);
  end if;
  update public.memberships x set status = p_status where x.id = m.id;
  return private.team_member_of(m.organization_id, m.user_id);
end
$$;
comment on function private.change_status is
  'Deactivates or reactivates a member, who keeps the seat. Authorization: canManageTeam and private.managed_team_member. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, PLAN_UPGRADE_REQUIRED, 404 NOT_FOUND, 409 ALREADY_ACTIVE, ALREADY_INACTIVE.';

create or replace function private.update_team_member(p_id text, p_body jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_role text := p_body ->> 'role';
  v_status text := p_body ->> 'status';
begin
  -- A caller without the permission gets no other refusal first.
  perform private.require_permission(case when v_role is null and v_status is not null then 'canManageTeam' else 'canChangeRoles' end);
  if v_role is not null and v_status is not null then
    perform private.refuse_field('status', 'Change either the role or the status.');
  elsif v_status is not null then
    if v_status not in ('active', 'inactive') then
      perform private.refuse_field('status', 'status must be active or inactive.');
    end if;
    return private.change_status(p_id, v_status, true);
  elsif coalesce(v_role, '') not in ('owner', 'admin', 'member', 'viewer') then
    perform private.refuse_field('role', 'role must be owner, admin, member or viewer.');
  end if;
  return private.change_role(p_id, v_role);
end
$$;
comment on function private.update_team_member is
  'Changes the role or the status of a member. Authorization: as private.change_role and private.change_status. Errors: theirs, and 400 VALIDATION_ERROR.';
grant execute on function private.update_team_member to authenticated;

create or replace function private.deactivate_team_member(p_id text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return private.change_status(p_id, 'inactive', false);
end
$$;
comment on function private.deactivate_team_member is 'On each plan, so that a team can shrink. Authorization: as private.change_status. Errors: its.';

create or replace function private.reactivate_team_member(p_id text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return private.change_status(p_id, 'active', true);
end
$$;
comment on function private.reactivate_team_member is 'On plans with team management. Authorization: as private.change_status. Errors: its.';

create or replace function private.remove_team_member(p_id text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor text := private.begin_managing('canRemoveMembers');
  m public.memberships := private.managed_team_member(p_id, v_actor);
begin
  delete from public.memberships x where x.id = m.id;
end
$$;
comment on function private.remove_team_member is
  'Ends a membership, on each plan. Authorization: canRemoveMembers and private.managed_team_member. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 NOT_FOUND.';

create or replace function private.leave_team() returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m public.memberships;
begin
  perform private.lock_organization(private.org_id());
  select * into m from public.memberships x where x.organization_id = private.org_id() and x.user_id = private.user_id() and x.status = 'active' for update;
  if not found then
    perform private.refuse(403, 'ORG_REQUIRED', 'You are not an active member of this organization.');
  elsif m.role = 'owner' then
    perform private.refuse(409, 'OWNER_REQUIRED', 'The owner cannot leave. Hand the organization over first.');
  end if;
  delete from public.memberships x where x.id = m.id;
end
$$;
comment on function private.leave_team is 'Ends the caller''s own membership. Authorization: private.user_id() in private.org_id(). Errors: 409 OWNER_REQUIRED, 403 ORG_REQUIRED.';
grant execute on function private.deactivate_team_member, private.reactivate_team_member, private.remove_team_member, private.leave_team to authenticated;
