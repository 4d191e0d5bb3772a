-- The organization's rules for each request: how long a session lasts, from which addresses it may come, a second factor, a recent
-- password. The callers (private.enter, private.enter_claims, the readers of claims) check them only where memberships.is_guarded says that
-- the plan includes such rules; all other requests pay for one more column.

-- An address in its comparable form, or null where the text is none. IPv4 inside IPv6 is IPv4.
create or replace function private.as_inet(p_text text) returns inet
language plpgsql immutable
as $$
begin
  return regexp_replace(p_text, '^::ffff:(\d+\.\d+\.\d+\.\d+)$', '\1', 'i')::inet;
exception when invalid_text_representation then
  return null;
end
$$;
comment on function private.as_inet is 'The text as an address or network, null where it is none.';
grant execute on function private.as_inet to authenticated;

-- Go has parsed the address of a request through our server; this function parses it without the price of catching errors.
create or replace function private.client_address(p_client_ip text) returns inet
language sql immutable parallel safe
return case when p_client_ip ~ '^[0-9a-f:.]+$' then (case when p_client_ip like '::ffff:%.%' then substr(p_client_ip, 8) else p_client_ip end)::inet end;
comment on function private.client_address is 'The address of a request as our server passes it, or null where it is none.';

-- Plpgsql, because SQL would be inlined, and the address parsed again for each entry.
create or replace function private.is_listed(p_org_id uuid, p_address inet) returns boolean
language plpgsql stable parallel safe
as $$
begin
  return exists (select from public.ip_allow_list_entries e where e.organization_id = p_org_id and e.is_active and e.network >>= p_address);
end
$$;
comment on function private.is_listed is 'Does an active entry of the organization''s allow-list name the address?';

-- Postgres prepares an expression once a transaction, so its length is what the rules cost a request. This one is short: it only says that a
-- session meets all rules. p_client_ip: '' says that the address was checked before (a socket that is checked again), null that it is
-- unknown, which no list allows. Postgres inlines it into the statement that reads the row.
create or replace function private.meets_guard(
  g private.guards, p_role text, p_has_second_factor boolean, p_signed_in_at timestamptz, p_last_active_at timestamptz, p_client_ip text,
  p_password_changed_at timestamptz
) returns boolean
language sql stable parallel safe
return coalesce(least(p_signed_in_at + g.session_length, p_last_active_at + g.idle_length, p_password_changed_at + g.password_length) > now(), true)
  and (p_has_second_factor or p_role <> all (g.second_factor_roles))
  and (p_role = any (g.free_roles) or p_client_ip = ''
    or case when p_client_ip ~ '^[0-9a-f:.]+$' then p_client_ip::inet end <<= any (g.networks));
comment on function private.meets_guard is
  'Does a session meet all of its organization''s rules? Where not true, assert_guard says which is broken. Callable by functions of ours only.';

create or replace function private.is_outside(g private.guards, p_role text, p_client_ip text) returns boolean
language sql immutable parallel safe
return p_role <> all (g.free_roles) and p_client_ip is distinct from ''
  and not coalesce(private.client_address(p_client_ip) <<= any (g.networks), false);
comment on function private.is_outside is 'Is this an address that the allow-list does not admit for the role? Not where it was checked before.';

create or replace function private.assert_guard(
  g private.guards, p_role text, p_has_second_factor boolean, p_signed_in_at timestamptz, p_last_active_at timestamptz, p_client_ip text,
  p_password_changed_at timestamptz
) returns text
language plpgsql stable parallel safe
as $$
begin
  return case
    when p_signed_in_at + g.session_length <= now() or p_last_active_at + g.idle_length <= now() then 'SESSION_EXPIRED'
    when g.ip_mode = 'enforce' and private.is_outside(g, p_role, p_client_ip) then 'IP_NOT_ALLOWED'
    when not p_has_second_factor and p_role = any (g.second_factor_roles) then 'TWO_FACTOR_SETUP_REQUIRED'
    when p_password_changed_at + g.password_length <= now() then 'PASSWORD_EXPIRED'
    when g.ip_mode = 'warn' and private.is_outside(g, p_role, p_client_ip) then 'warned'
  end;
end
$$;
comment on function private.assert_guard(private.guards, text, boolean, timestamptz, timestamptz, text, timestamptz) is
  'What the organization''s rules say of a session: the code of a refusal, warned for an address that is only to be noted, or null. Callable by functions of ours only.';

create or replace function private.refuse_guarded(p_code text) returns void
language plpgsql stable
as $$
begin
  case p_code
    when 'SESSION_EXPIRED' then
      perform private.refuse(401, 'SESSION_EXPIRED', 'This session has expired. Please sign in again.');
    when 'IP_NOT_ALLOWED' then
      perform private.refuse(403, 'IP_NOT_ALLOWED', 'Your organization does not allow access from this address. Ask an administrator of it to add the address.');
    when 'TWO_FACTOR_SETUP_REQUIRED' then
      perform private.refuse(403, 'TWO_FACTOR_SETUP_REQUIRED', 'Your organization demands a second factor. Please set one up first.');
    when 'PASSWORD_EXPIRED' then
      perform private.refuse(403, 'PASSWORD_EXPIRED', 'Your password is older than your organization allows. Please change it first.');
  end case;
end
$$;
comment on function private.refuse_guarded is
  'Raises what assert_guard found. Errors: 401 SESSION_EXPIRED, 403 IP_NOT_ALLOWED, 403 TWO_FACTOR_SETUP_REQUIRED, 403 PASSWORD_EXPIRED.';

-- A read writes nothing, so the server notes the address after its answer (private.note_address).
create or replace function private.warn_of_address(p_subject_id uuid, p_client_ip text) returns void
language plpgsql volatile
as $$
begin
  if not exists (select from private.ip_warnings w where w.subject_id = p_subject_id and w.address = private.as_inet(p_client_ip)) then
    perform set_config('app.warned', 'on', true);
  end if;
end
$$;
comment on function private.warn_of_address is 'Tells the server that an address is to be noted, unless it has been. Callable by functions of ours only.';

-- The branch of API keys: of all rules only the allow-list applies to them.
create or replace function private.enter_guarded_key(p_org_id uuid, p_role text, p_client_ip text, p_key_id uuid) returns void
language plpgsql volatile
as $$
declare
  v_mode text := (select g.ip_mode from private.guards g where g.organization_id = p_org_id and g.ip_mode <> 'disabled' and private.is_outside(g, p_role, p_client_ip));
begin
  if v_mode = 'enforce' then
    perform private.refuse_guarded('IP_NOT_ALLOWED');
  elsif v_mode = 'warn' then
    perform private.warn_of_address(p_key_id, p_client_ip);
  end if;
end
$$;
comment on function private.enter_guarded_key is 'Holds an API key to its organization''s allow-list. Callable by functions of ours that admit keys only. Errors: 403 IP_NOT_ALLOWED.';

-- The rare branch of private.enter. A session that lacks a second factor or has an expired password may use the routes that fix it: the
-- server sets app.unrestricted for those routes (server/openapi, Operation.Unrestricted).
create or replace function private.meet_guard(
  p_org_id uuid, p_role text, p_has_second_factor boolean, p_signed_in_at timestamptz, p_last_active_at timestamptz, p_client_ip text,
  p_password_changed_at timestamptz, p_session_id uuid
) returns void
language plpgsql volatile
as $$
declare
  v_verdict constant text := (
    select private.assert_guard(g, p_role, p_has_second_factor, p_signed_in_at, p_last_active_at, p_client_ip, p_password_changed_at)
    from private.guards g where g.organization_id = p_org_id);
begin
  if v_verdict = 'warned' then
    perform private.warn_of_address(p_session_id, p_client_ip);
  elsif not (v_verdict in ('TWO_FACTOR_SETUP_REQUIRED', 'PASSWORD_EXPIRED') and current_setting('app.unrestricted', true) = 'on') then
    perform private.refuse_guarded(v_verdict);
  end if;
end
$$;
comment on function private.meet_guard is
  'Refuses a session that does not meet its organization''s rules, or has its address noted. Callable by private.enter only. Errors: as private.refuse_guarded.';
drop function if exists private.enter_guarded(uuid, uuid, text, boolean, timestamptz, timestamptz, text, uuid);
drop function if exists private.assert_guard(uuid, uuid, text, boolean, timestamptz, timestamptz, text);

-- Returns the refusal of the claims of this request, or null, for callers past our server. Their address is unverified.
create or replace function private.claims_refusal(p_user_id uuid, p_signed_in_at timestamptz, p_last_active_at timestamptz) returns text
language plpgsql stable parallel safe
as $$
begin
  return (
    select nullif(private.assert_guard(g, m.role, u.two_factor_enabled_at is not null, p_signed_in_at, p_last_active_at, null,
      u.password_changed_at), 'warned')
    from public.memberships m
    join public.users u on u.id = m.user_id
    join private.guards g on g.organization_id = m.organization_id
    where m.user_id = p_user_id and m.is_guarded and m.status = 'active'
      and m.organization_id = coalesce(private.claimed_org_id(), u.default_organization_id)
  );
end
$$;
comment on function private.claims_refusal is 'The code of the refusal that the claims of this request meet, or null. Callable by functions of ours only.';

-- The server calls this after an answer for which a function above left app.warned. One note a session (or key) and address.
create or replace function private.note_address(p_subject_id uuid, p_user_id uuid, p_org_hint uuid, p_client_ip text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  v_address constant inet := private.as_inet(p_client_ip);
begin
  select s.id as session_id, s.user_agent, coalesce(s.signed_in_by, 'api_key') as method, coalesce(p_org_hint, s.organization_id, u.default_organization_id) as org_id
  into v
  from public.users u left join private.sessions s on s.user_id = u.id and s.id = p_subject_id
  where u.id = p_user_id;
  if not found or v_address is null then
    return;
  end if;
  insert into private.ip_warnings (subject_id, address) values (p_subject_id, v_address) on conflict do nothing;
  if not found then
    return;
  end if;
  perform set_config('app.client_ip', p_client_ip, true), set_config('app.session_id', p_subject_id::text, true);
  insert into private.login_history (user_id, session_id, method, status, reason, client_ip, user_agent)
  values (p_user_id, v.session_id, v.method, 'success', 'IP address not on the allow-list', p_client_ip, v.user_agent);
  perform private.audit('security.login_failed', 'Came from an address that the IP allow-list does not name; it only warns.',
    private.client_metadata() || jsonb_build_object('reason', 'IP address not on the allow-list', 'mode', 'warn'), null, v.org_id, p_user_id);
  perform private.notify_security(p_user_id, 'Access from an unlisted address',
    format('Your account was used from the address %s, which your organization''s allow-list does not name. If that was not you, change your password.', p_client_ip),
    true, format('address:%s:%s', p_subject_id, p_client_ip));
end
$$;
comment on function private.note_address is
  'History, audit and notification of an address that the allow-list warns of, once a session or key. Authorization: callable by the server only, after entering warned.';
grant execute on function private.note_address to kijko_server;

-- ------------------------------------------------------------------------------------------------------------------- length of sessions

create or replace function private.is_overdue(s private.sessions, p_at timestamptz) returns boolean
language plpgsql stable
as $$
begin
  return exists (
    select from public.users u
    join public.memberships m on m.user_id = u.id and m.organization_id = coalesce(s.organization_id, u.default_organization_id)
    join public.security_policies p on p.organization_id = m.organization_id
    where u.id = s.user_id and m.is_guarded and private.has_gate(m.organization_id, 'security_policies')
      and (s.signed_in_at <= p_at - make_interval(mins => p.session_minutes)
        or p.idle_minutes > 0 and s.last_active_at <= p_at - make_interval(mins => p.idle_minutes, secs => 70)));
end
$$;
comment on function private.is_overdue is 'Has a session outlived what its organization''s policy allows? Callable by functions of ours only.';

create or replace function private.end_by_policy(p_session_id uuid, p_at timestamptz) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  if private.revoke_session(p_session_id, 'policy', p_at) then
    select s.user_id, coalesce(s.organization_id, u.default_organization_id) as org_id into v
    from private.sessions s join public.users u on u.id = s.user_id where s.id = p_session_id;
    perform private.audit('security.session_terminated', 'A session was ended by the organization''s policy.',
      jsonb_build_object('reason', 'policy', 'sessionId', p_session_id), null, v.org_id, v.user_id);
  end if;
end
$$;
comment on function private.end_by_policy is 'Ends a session for which a policy leaves no room. Authorization: callable by definer functions and triggers of ours only.';

-- A request with an overdue session is refused. Because it may be a read, the session is ended here, when the server notes active users.
create or replace function private.end_overdue_sessions(p_sessions uuid[], p_at timestamptz default now()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid;
begin
  for v_id in
    select s.id from private.sessions s
    join public.memberships m on m.user_id = s.user_id and m.is_guarded
    where s.revoked_at is null and (p_sessions is null or s.id = any (p_sessions)) and private.is_overdue(s, p_at)
    group by s.id order by s.id
  loop
    perform private.end_by_policy(v_id, p_at);
  end loop;
end
$$;
comment on function private.end_overdue_sessions is
  'Ends those of the sessions (null: of all) that outlived their policy. Authorization: callable by definer functions of ours only.';
