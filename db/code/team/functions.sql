-- Seats, the lock under which they are counted, and who may manage whom (contract 40, sections 2 and 5). The tables of a team have no grant
-- to write: these functions are the only way, for HTTP, psql and Supabase's API alike. Each takes the lock on the organization's row first
-- and reads the caller's role under it, so that an admin who was demoted a moment ago manages no member any more.

grant execute on function private.assert_team_invitations_row to authenticated, service_role, kijko_server, kijko_worker;

create or replace function private.team_rank(p_role text) returns integer
language sql immutable parallel safe
return case p_role when 'owner' then 4 when 'admin' then 3 when 'member' then 2 when 'viewer' then 1 else 0 end;
comment on function private.team_rank is 'Order of the roles in an organization; 0 is none.';

create or replace function private.require_team_gate() returns void
language plpgsql stable
as $$
begin
  perform private.require_gate('team_management', 'Managing a team is part of the Teams and Enterprise plans.');
end
$$;
comment on function private.require_team_gate is '403 PLAN_UPGRADE_REQUIRED unless the caller''s plan has team management.';

-- The lock of seats, roles and ownership. Foreign keys to the organization do not wait for it.
create or replace function private.lock_organization(p_org_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform from public.organizations o where o.id = p_org_id for no key update;
end
$$;
comment on function private.lock_organization is 'Makes changes of an organization''s people follow each other. Authorization: callable by definer functions of ours only.';

create or replace function private.begin_managing(p_permission text) returns text
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_role text;
begin
  perform private.require_permission(p_permission);
  perform private.lock_organization(private.org_id());
  select m.role into v_role from public.memberships m
  where m.organization_id = private.org_id() and m.user_id = private.user_id() and m.status = 'active';
  if not found then
    perform private.refuse(403, 'ORG_REQUIRED', 'You are not an active member of this organization.');
  elsif not exists (select from public.role_permissions p where p.role = v_role and p.permission = p_permission) then
    perform private.refuse(403, 'FORBIDDEN', 'Your role does not allow this. Ask an owner or admin of your organization.');
  end if;
  return v_role;
end
$$;
comment on function private.begin_managing is
  'Locks the caller''s organization and gives their role in it now, if it has the permission. Authorization: the permission, before and under the lock. Errors: 403 FORBIDDEN, ORG_REQUIRED.';

-- The member that the caller, with this role, wants to manage.
create or replace function private.managed_team_member(p_id text, p_role text) returns public.memberships
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m public.memberships;
begin
  select * into m from public.memberships x where x.id = private.as_uuid(p_id) and x.organization_id = private.org_id() for update;
  if not found then
    perform private.refuse(404, 'NOT_FOUND', format('Member with ID %s not found', left(p_id, 100)));
  elsif m.user_id = private.user_id() then
    perform private.refuse(403, 'CANNOT_MANAGE_SELF', 'You cannot change or remove yourself.');
  elsif private.team_rank(p_role) < 3 or private.team_rank(m.role) >= private.team_rank(p_role) then
    perform private.refuse(403, 'FORBIDDEN', 'You can manage members of a lower role than yours only.');
  end if;
  return m;
end
$$;
comment on function private.managed_team_member is
  'A member of the caller''s organization whom that role may manage: never oneself, only lower roles, only by owner and admins. Authorization: callable by definer functions of ours, after private.begin_managing. Errors: 404 NOT_FOUND, 403 CANNOT_MANAGE_SELF, FORBIDDEN.';

-- ------------------------------------------------------------------------------------------------------------------------- seats

-- The client subtracts from this number, so unlimited is a large number and never -1.
create or replace function private.max_seats(p_org_id uuid) returns integer
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v_limit bigint := private.plan_limit(p_org_id, 'seats');
begin
  return case when v_limit = -1 then 9999 else coalesce(v_limit, 0) end;
end
$$;
comment on function private.max_seats is 'Seats of an organization''s effective plan; unlimited is 9999. Authorization: callable by definer functions of ours only.';

create or replace function private.seats_used(p_org_id uuid) returns integer
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (select count(*) from public.memberships m where m.organization_id = p_org_id)
    + (select count(*) from public.team_invitations i where i.organization_id = p_org_id and i.status = 'pending' and i.expires_at > now());
end
$$;
comment on function private.seats_used is 'Members of every status and invitations that can still be accepted. Authorization: callable by definer functions of ours only.';

-- p_tells: does the caller belong to the organization? Other callers learn that there is no seat, and no numbers.
create or replace function private.require_seats(p_org_id uuid, p_requested integer, p_tells boolean default true, p_field text default null) returns void
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_limit integer := private.max_seats(p_org_id);
  v_used integer := private.seats_used(p_org_id);
begin
  if v_used + p_requested <= v_limit then
    return;
  end if;
  perform private.refuse(429, 'QUOTA_EXCEEDED',
    case when not p_tells then 'The team has no free seat. Ask who invited you.'
      else format('Your plan has %s seats, and %s are taken by members and pending invitations.', v_limit, v_used) end, p_field,
    case when p_tells then jsonb_build_object('metric', 'seats', 'limit', v_limit, 'used', v_used, 'requested', p_requested,
      'plan', private.effective_plan(p_org_id)) else '{"metric": "seats"}' end);
end
$$;
comment on function private.require_seats is
  '429 QUOTA_EXCEEDED unless that many more seats are free. Call it under private.lock_organization. Authorization: callable by definer functions of ours only.';
