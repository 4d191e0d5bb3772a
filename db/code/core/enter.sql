-- Admits every request: our server calls private.enter in front of the operation, in the same implicit transaction and the same round trip.
-- It checks the session and the membership *now* (a revoked session or a removed member is refused at the next call, however long the token
-- lives) and leaves flat settings which the policies read. It writes nothing, so reads stay read-only.
create or replace function private.enter(
  p_user_id uuid, p_session_id uuid, p_org_hint uuid, p_claims text, p_request_id text, p_client_ip text
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  -- Only the server may name the user. For every other caller the claims name the user.
  if session_user in ('anon', 'authenticated') then
    perform private.refuse(403, 'FORBIDDEN', 'Only the server may do this.');
  end if;

  select s.user_id, s.revoked_at, s.expires_at, s.idle_expires_at, s.signed_in_at, s.last_active_at, u.two_factor_enabled_at,
      u.password_changed_at, m.organization_id, m.role, m.status, m.is_guarded
    into v
  from private.sessions s
  join public.users u on u.id = s.user_id
  left join public.memberships m
    on m.user_id = s.user_id and m.organization_id = coalesce(p_org_hint, s.organization_id, u.default_organization_id)
  where s.id = p_session_id and s.user_id = p_user_id;

  -- Sockets that came with an API key name the key (db/code/keys/enter.sql).
  if not found and private.enter_key_again(p_user_id, p_session_id, p_request_id, p_client_ip) then
    return;
  elsif v.user_id is null or v.revoked_at is not null then
    perform private.refuse(401, 'SESSION_REVOKED', 'This session has ended. Please sign in again.');
  elsif v.expires_at <= now() or v.idle_expires_at <= now() then
    perform private.refuse(401, 'SESSION_EXPIRED', 'This session has expired. Please sign in again.');
  elsif v.status is distinct from 'active' then
    perform private.refuse(403, 'ORG_REQUIRED', 'You are not an active member of this organization.');
  end if;
  -- Joined above, the rules would cost every request the opening of one more table.
  if v.is_guarded and not exists (
    select from private.guards g where g.organization_id = v.organization_id
      and private.meets_guard(g, v.role, v.two_factor_enabled_at is not null, v.signed_in_at, v.last_active_at, p_client_ip, v.password_changed_at))
  then
    perform private.meet_guard(v.organization_id, v.role, v.two_factor_enabled_at is not null, v.signed_in_at, v.last_active_at, p_client_ip,
      v.password_changed_at, p_session_id);
  end if;

  perform
    set_config('app.user_id', v.user_id::text, true),
    set_config('app.org_id', v.organization_id::text, true),
    set_config('app.org_role', v.role, true),
    set_config('app.session_id', p_session_id::text, true),
    set_config('app.request_id', p_request_id, true),
    set_config('app.client_ip', p_client_ip, true),
    -- The server promises to wake listeners after commit, so triggers need not notify inside the transaction (db/README.md, "Wake-ups").
    set_config('app.wakes', 'on', true),
    set_config('request.jwt.claims', p_claims, true);
end
$$;
comment on function private.enter is
  'Checks session, membership and the organization''s rules, and makes the caller known to the transaction. Errors: 401 SESSION_REVOKED, 401 SESSION_EXPIRED, 403 ORG_REQUIRED, and those of private.refuse_guarded.';
grant execute on function private.enter to kijko_server;

-- Admits requests without a user: public routes, and work of the service itself.
create or replace function private.enter_anonymous(p_request_id text, p_client_ip text) returns void
language plpgsql volatile
as $$
begin
  perform
    set_config('app.user_id', '', true), set_config('app.org_id', '', true), set_config('app.org_role', '', true),
    set_config('app.request_id', p_request_id, true), set_config('app.client_ip', p_client_ip, true),
    set_config('app.wakes', 'on', true), set_config('request.jwt.claims', '', true);
end
$$;
comment on function private.enter_anonymous is 'Makes an anonymous request known to the transaction: request id and address only.';
grant execute on function private.enter_anonymous to kijko_server, kijko_worker;

-- Admits requests of PostgREST (Supabase's API), as its pre-request hook. It runs as the request's role, after PostgREST has verified the
-- token, and leaves the flat settings, so that policies cost the same there. A request with claims but without a living session and an
-- active membership is refused instead of being treated as a stranger.
create or replace function private.enter_claims() returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid;
  v_refusal text;
  v_membership record;
begin
  perform set_config('app.user_id', '', true), set_config('app.org_id', '', true), set_config('app.org_role', '', true);
  if private.claims() ->> 'sub' is null then
    return;
  end if;
  select c.user_id, private.claims_refusal(c.user_id, c.signed_in_at, c.last_active_at) into v_user, v_refusal from private.claimed_session() c;
  if v_user is null then
    perform private.refuse(401, 'SESSION_REVOKED', 'This session has ended. Please sign in again.');
  elsif v_refusal is not null and not (v_refusal in ('TWO_FACTOR_SETUP_REQUIRED', 'PASSWORD_EXPIRED')
    -- The calls that a restricted session may still make past our server. The gateway reports the path that was called.
    and coalesce(current_setting('request.path', true), '') ~ '^(/rest/v1)?/rpc/(get_me|list_organizations|get_profile|update_profile|get_two_factor)$')
  then
    perform private.refuse_guarded(v_refusal);
  end if;
  select * into v_membership from private.membership_of(v_user);
  if v_membership.org_id is null then
    perform private.refuse(403, 'ORG_REQUIRED', 'You are not an active member of this organization.');
  end if;
  perform set_config('app.user_id', v_user::text, true), set_config('app.org_id', v_membership.org_id::text, true),
    set_config('app.org_role', v_membership.org_role, true);
end
$$;
comment on function private.enter_claims is
  'PostgREST''s pre-request hook: makes the caller known by their claims. Authorization: only the claims of this request. Errors: 401 SESSION_REVOKED, 403 ORG_REQUIRED, and those of private.refuse_guarded.';
grant execute on function private.enter_claims to anon, authenticated, service_role;

do $$
begin
  -- The role authenticator exists only on Supabase. PostgREST reads this setting at its next start or reload.
  if exists (select from pg_roles where rolname = 'authenticator') then
    alter role authenticator set pgrst.db_pre_request = 'private.enter_claims';
  end if;
end
$$;

-- The server reports at its start the operator's settings that SQL needs (addresses, enabled features).
create or replace function private.installation_value(p_key text) returns jsonb
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (select i.value from private.installation i where i.key = p_key);
end
$$;
comment on function private.installation_value is
  'What this installation is set to, or null. Authorization: callable by functions of ours only; values hold no secrets.';

create or replace function private.schema_version() returns integer
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select version from public.schema_version
  );
end
$$;
comment on function private.schema_version is 'Number of the newest migration applied. Authorization: callable by the server and the worker only.';
grant execute on function private.schema_version to kijko_server, kijko_worker;
