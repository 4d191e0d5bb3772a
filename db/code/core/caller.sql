-- Identifies the caller. private.enter has checked session and membership and left flat, transaction-local settings. These readers are
-- inlined into policies as `(select private.org_id())` and cost one look-up a statement. In a transaction that did not call private.enter
-- (PostgREST without its pre-request hook, Supabase Realtime, Storage, psql with claims set) they fall back to the claims *and* the tables:
-- a claim alone never grants access.
-- Definer functions are plpgsql throughout: one in SQL cannot be inlined, and Postgres would parse and plan it again at every call.
-- `nullif(..., '')`: on a reused connection an unset setting is '' and no longer null.

create or replace function private.claims() returns jsonb
language sql stable parallel safe
return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
comment on function private.claims is 'The JWT claims of this request as the gateway left them, or null.';

create or replace function private.as_uuid(p_text text) returns uuid
language sql immutable parallel safe
return case when p_text ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' then p_text::uuid end;
comment on function private.as_uuid is 'The text as a uuid, or null where it is none.';

-- The session that the claims name, if it is alive. Our own tokens carry `sid`, and Supabase Auth carries `session_id`.
create or replace function private.claimed_session(out user_id uuid, out signed_in_at timestamptz, out last_active_at timestamptz)
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  select s.user_id, s.signed_in_at, s.last_active_at into user_id, signed_in_at, last_active_at
  from private.sessions s
  where s.id = private.as_uuid(coalesce(private.claims() ->> 'sid', private.claims() ->> 'session_id'))
    -- Our own tokens name the user; those of another issuer (Supabase Auth) name the account that is linked to the user.
    and s.user_id = coalesce(
      (select i.user_id from private.identities i where i.issuer = private.claims() ->> 'iss' and i.subject = private.claims() ->> 'sub'),
      private.as_uuid(private.claims() ->> 'sub'))
    and s.revoked_at is null and s.expires_at > now() and s.idle_expires_at > now();
end
$$;
comment on function private.claimed_session is 'Living session of the claims, not yet held to its organization''s rules. Authorization: callable by functions of ours only.';

create or replace function private.claimed_org_id() returns uuid
language sql stable parallel safe
return private.as_uuid(coalesce(private.claims() ->> 'org_id', private.claims() ->> 'organization_id', private.claims() -> 'app_metadata' ->> 'org_id'));
comment on function private.claimed_org_id is 'Organization that the claims ask for; a wish until the membership is checked.';

-- The user that the claims name, if their session is alive and their organization admits it.
create or replace function private.claimed_user_id() returns uuid
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v record;
begin
  select * into v from private.claimed_session();
  if v.user_id is null then
    return null;
  end if;
  return case when private.claims_refusal(v.user_id, v.signed_in_at, v.last_active_at) is null then v.user_id end;
end
$$;
comment on function private.claimed_user_id is
  'User of the claims when their session is alive and no rule of their organization refuses it; used only where private.enter did not run. Authorization: reads the caller''s own claims only.';

create or replace function private.membership_of(p_user_id uuid, out org_id uuid, out org_role text)
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  select m.organization_id, m.role into org_id, org_role
  from public.memberships m
  join public.users u on u.id = m.user_id
  where m.user_id = p_user_id and m.status = 'active' and m.organization_id = coalesce(private.claimed_org_id(), u.default_organization_id);
end
$$;
comment on function private.membership_of is 'Active membership of a user that the claims ask for. Authorization: callable by functions of ours only.';

-- Organization and role that the claims ask for, if the membership is active now.
create or replace function private.claimed_membership(out org_id uuid, out org_role text)
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  select * into org_id, org_role from private.membership_of(private.claimed_user_id());
end
$$;
comment on function private.claimed_membership is 'Active membership that the claims mean; used only where private.enter did not run. Authorization: reads the caller''s own claims only.';

create or replace function private.user_id() returns uuid
language sql stable parallel safe
return coalesce(nullif(current_setting('app.user_id', true), '')::uuid, private.claimed_user_id());
comment on function private.user_id is 'The caller, or null for an anonymous one.';

create or replace function private.org_id() returns uuid
language sql stable parallel safe
return case when nullif(current_setting('app.user_id', true), '') is null then (private.claimed_membership()).org_id
  else nullif(current_setting('app.org_id', true), '')::uuid end;
comment on function private.org_id is 'The organization the caller acts in, or null.';

create or replace function private.org_role() returns text
language sql stable parallel safe
return case when nullif(current_setting('app.user_id', true), '') is null then (private.claimed_membership()).org_role
  else nullif(current_setting('app.org_role', true), '') end;
comment on function private.org_role is 'The caller''s role in that organization: owner, admin, member or viewer.';

create or replace function private.is_org_admin() returns boolean
language sql stable parallel safe
return coalesce(private.org_role() in ('owner', 'admin'), false);
comment on function private.is_org_admin is 'Is the caller owner or admin of the organization they act in?';

create or replace function private.session_id() returns uuid
language sql stable parallel safe
return nullif(current_setting('app.session_id', true), '')::uuid;
comment on function private.session_id is 'The caller''s session, or null.';

-- Checks the login of the connection, not the current role: a role can be assumed, the login cannot. The server, the worker and the owner
-- are ours. Every other login is a stranger's, also one that an operator made for a customer.
create or replace function private.is_stranger() returns boolean
language sql stable parallel safe
return not (pg_has_role(session_user, 'kijko_server', 'member') or pg_has_role(session_user, 'kijko_worker', 'member')
  or pg_has_role(session_user, (select n.nspowner from pg_catalog.pg_namespace n where n.nspname = 'private'), 'member'));
comment on function private.is_stranger is 'Does this call come past our server: through PostgREST, or by psql as anybody but the owner?';

create or replace function private.refuse_strangers(p_message text) returns void
language plpgsql stable
as $$
begin
  if private.is_stranger() then
    perform private.refuse(403, 'FORBIDDEN', p_message);
  end if;
end
$$;
comment on function private.refuse_strangers is '403 FORBIDDEN for calls that come past our server: they carry what only the server makes.';
grant execute on function private.is_stranger, private.refuse_strangers to anon, authenticated, service_role, kijko_server, kijko_worker;

grant execute on function private.claims, private.claimed_user_id, private.claimed_membership, private.user_id, private.org_id,
  private.org_role, private.is_org_admin, private.session_id, private.as_uuid
  to anon, authenticated, service_role, kijko_server, kijko_worker;
