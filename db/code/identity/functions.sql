-- Sessions, the organization they act in, and the answers of sign-in. The server itself calls these functions of schema private (granted to
-- kijko_server alone), one call a request. A refusal that must keep a write (a counted failure, a revoked session) is *returned* as
-- {"problem": ...}: raising it would undo the write.

create or replace function private.problem(
  p_status integer, p_code text, p_message text, p_field text default null, p_details jsonb default null
) returns jsonb
language sql stable parallel safe
return jsonb_build_object('problem', jsonb_strip_nulls(jsonb_build_object(
  'status', p_status, 'code', p_code, 'message', p_message, 'field', p_field, 'details', p_details)));
comment on function private.problem is 'A refusal as a result, for where the transaction must commit; the server turns it into the same answer as private.refuse.';

-- The only check of addresses: returns an address, typed by a person or vouched for by a provider, as it is stored and compared. Null where
-- our own mail queue would not send to it. Only A to Z are folded. U+0130 and U+212A lower-case into ASCII and U+1FEF and U+212A normalize
-- into it, so an address with one of them would become another person's.
create or replace function private.clean_email(p_text text) returns text
language sql immutable parallel safe
return (
  select case when private.is_mail_address(e) then e end
  from (select private.folded_address(normalize(private.without_blanks(p_text)))) as t (e)
  where p_text !~ '[\u0130\u1fef\u212a]'
);
comment on function private.clean_email is 'The address as it is stored, or null where it is none that we send to.';

-- Accounts made before that rule may have an address that it refuses. Only exactly that text finds them.
create or replace function private.account_address(p_text text) returns text
language plpgsql stable security definer set search_path = ''
as $$
begin
  return coalesce(
    (select u.email from public.users u where u.email = private.folded_address(p_text) and private.clean_email(u.email) is distinct from u.email),
    private.clean_email(p_text));
end
$$;
comment on function private.account_address is
  'The address by which the account of a typed one is found, or null where it is none. Authorization: callable by definer functions of ours only.';

create or replace function private.require_email(p_text text) returns text
language plpgsql stable
as $$
begin
  if private.clean_email(p_text) is null then
    perform private.refuse_field('email', 'Please enter a valid e-mail address.');
  end if;
  return private.clean_email(p_text);
end
$$;
comment on function private.require_email is 'private.clean_email, or 400 VALIDATION_ERROR about field email.';

create or replace function private.require_name(p_text text, p_field text, p_label text) returns text
language plpgsql stable
as $$
declare
  v_name text := private.without_blanks(p_text);
begin
  if v_name ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]' then
    perform private.refuse_field(p_field, format('The %s must not contain control characters.', p_label));
  elsif private.has_format_characters(v_name) then
    perform private.refuse_field(p_field, format('The %s must not contain invisible formatting characters.', p_label));
  elsif coalesce(char_length(v_name), 0) not between 1 and 50 then
    perform private.refuse_field(p_field, format('The %s must have 1 to 50 characters.', p_label));
  end if;
  return v_name;
end
$$;
comment on function private.require_name is 'A trimmed name of 1 to 50 characters, or 400 VALIDATION_ERROR about the field.';

-- A provider's spelling of a name must not refuse the sign-in: characters that sign-up refuses are left out.
create or replace function private.clean_name(p_text text, p_limit integer default 50) returns text
language sql immutable parallel safe
return coalesce((
  select private.without_blanks(left(private.without_blanks(string_agg(c, '' order by n)), p_limit))
  from regexp_split_to_table(p_text, '') with ordinality as t (c, n)
  where c !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]' and not private.has_format_characters(c)), '');
comment on function private.clean_name is 'A name from outside without control and formatting characters, trimmed and cut; empty where nothing is left.';

create or replace function private.personal_organization_name(p_first_name text, p_last_name text, p_email text) returns text
language sql immutable parallel safe
return coalesce(nullif(private.without_blanks(p_first_name || ' ' || p_last_name), ''), left(split_part(p_email, '@', 1), 100)) || '''s workspace';
comment on function private.personal_organization_name is 'Name of the organization that a new person gets.';

-- The organization for a session: the wanted one if the membership is active, else the default one, else the oldest. A person who was
-- removed from their last organization gets a new personal one. Null means that there are memberships and all are inactive.
create or replace function private.choose_organization(p_user_id uuid, p_wanted_id uuid default null) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user public.users;
  v_id uuid;
begin
  for i in 1..2 loop
    select m.organization_id into v_id
    from public.memberships m
    join public.users u on u.id = m.user_id
    where m.user_id = p_user_id and m.status = 'active'
    order by (m.organization_id = p_wanted_id) desc nulls last, (m.organization_id = u.default_organization_id) desc nulls last,
      m.joined_at, m.id
    limit 1;
    if v_id is not null or exists (select from public.memberships m where m.user_id = p_user_id) then
      return v_id;
    end if;
    -- Of parallel sign-ins one creates the organization; the others find it in their second attempt.
    select * into v_user from public.users u where u.id = p_user_id for no key update;
  end loop;
  return private.create_organization(
    private.personal_organization_name(v_user.first_name, v_user.last_name, v_user.email), p_user_id);
end
$$;
comment on function private.choose_organization is
  'Organization that a session of this person acts in, made if there is none; null when all memberships are inactive. Authorization: callable by definer functions of ours only.';

-- The device as it was described when its row was written; unknown without a description.
create or replace function private.device_json(p_device jsonb) returns jsonb
language sql stable parallel safe
return jsonb_build_object('browser', 'Unknown', 'os', 'Unknown', 'deviceType', 'desktop') || coalesce(p_device, '{}');
comment on function private.device_json is 'deviceInfo: browser, os, deviceType, and userAgent where one was sent.';

-- There is no geolocation here, and the client prints both members.
create or replace function private.location_json() returns jsonb
language sql immutable parallel safe
return '{"city": "Unknown", "country": "Unknown"}'::jsonb;
comment on function private.location_json is 'The location of an address. Always unknown: no service is asked.';

-- The device of this request, for the audit trail.
create or replace function private.client_metadata() returns jsonb
language sql stable parallel safe
return (
  select jsonb_build_object('browser', d -> 'browser', 'os', d -> 'os', 'location', l ->> 'city')
  from private.device_json(nullif(current_setting('app.device', true), '')::jsonb) d, private.location_json() l
);
comment on function private.client_metadata is '{browser, os, location} of the request.';

-- The user of the session and how long the session may last: the data that the server needs to sign an access token and to set the cookie.
create or replace function private.session_json(p_session_id uuid, p_at timestamptz) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_build_object('user_id', u.id, 'session_id', s.id, 'org_id', s.organization_id, 'email', u.email,
      'email_verified', u.email_verified_at is not null, 'first_name', u.first_name, 'last_name', u.last_name,
      'max_age', greatest(0, floor(extract(epoch from least(s.expires_at, s.idle_expires_at, p_at + interval '30 days') - p_at))::integer))
    from private.sessions s
    join public.users u on u.id = s.user_id
    where s.id = p_session_id
  );
end
$$;
comment on function private.session_json is 'What a token answer is made of. Authorization: callable by definer functions of ours only.';

-- 30 days from issue, and never beyond the session: 90 days from sign-in.
create or replace function private.issue_refresh_token(p_session_id uuid, p_token_hash text, p_at timestamptz) returns void
language sql volatile security definer set search_path = ''
begin atomic
  update private.sessions s
  set idle_expires_at = least(s.expires_at, p_at + interval '30 days'), last_active_at = greatest(s.last_active_at, p_at)
  where s.id = p_session_id;
  insert into private.refresh_tokens (token_hash, session_id, issued_at, expires_at)
  select decode(p_token_hash, 'hex'), s.id, p_at, s.idle_expires_at from private.sessions s where s.id = p_session_id;
end;
comment on function private.issue_refresh_token is 'Stores the SHA-256 (hex) of a new refresh token. Authorization: callable by definer functions of ours only.';

-- p holds token_hash and user_agent, and of a sign-in at a provider provider_issuer and provider_key. The absolute end is given where a session
-- continues another one; then p also holds signed_in_at and signed_in_by of that one.
create or replace function private.begin_session(
  p_user_id uuid, p_org_id uuid, p_method text, p jsonb, p_at timestamptz, p_expires_at timestamptz default null
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid;
  v_ip text := nullif(current_setting('app.client_ip', true), '');
  v_agent text := left(p ->> 'user_agent', 500);
  v_expires_at timestamptz := coalesce(p_expires_at, p_at + interval '90 days');
begin
  insert into private.sessions (user_id, organization_id, method, provider_issuer, provider_key, user_agent, client_ip, created_at, last_active_at,
    expires_at, idle_expires_at, signed_in_at, signed_in_by)
  values (p_user_id, p_org_id, p_method, p ->> 'provider_issuer', p ->> 'provider_key', v_agent, v_ip, p_at, p_at, v_expires_at, v_expires_at,
    coalesce((p ->> 'signed_in_at')::timestamptz, p_at),
    coalesce(p ->> 'signed_in_by', case when p_method in ('sso', 'magic_link') then p_method else 'password' end))
  returning id into v_id;
  perform private.issue_refresh_token(v_id, p ->> 'token_hash', p_at);
  if p_method <> 'switch' then
    perform private.record_sign_in(p_user_id, p_org_id, v_id, p_method, v_agent);
  end if;
  return private.session_json(v_id, p_at);
end
$$;
comment on function private.begin_session is 'A new session with its first refresh token. Authorization: callable by definer functions of ours only.';

create or replace function private.record_sign_in(p_user_id uuid, p_org_id uuid, p_session_id uuid, p_method text, p_user_agent text)
returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.login_history (user_id, session_id, method, status, client_ip, user_agent)
  -- A sign-up is a sign-in with the password that was just chosen.
  values (p_user_id, p_session_id, case p_method when 'signup' then 'password' else p_method end, 'success', nullif(current_setting('app.client_ip', true), ''), p_user_agent);
  perform set_config('app.session_id', p_session_id::text, true);
  perform private.audit('user.login', 'Signed in.', private.client_metadata() || jsonb_build_object('method', p_method), null, p_org_id, p_user_id);
end
$$;
comment on function private.record_sign_in is 'History and audit of a successful sign-in. Authorization: callable by definer functions of ours only.';

-- A trigger of the event log notifies all server processes, which close the session's sockets.
create or replace function private.revoke_session(p_session_id uuid, p_reason text, p_at timestamptz default now()) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.sessions set revoked_at = p_at, revoked_reason = p_reason where id = p_session_id and revoked_at is null;
  return found;
end
$$;
comment on function private.revoke_session is 'Ends a session now; false when it had ended. Authorization: callable by definer functions of ours only.';

-- The session, and the sessions that continued it after a membership had ended.
create or replace function private.session_line(p_session_id uuid) returns setof uuid
language sql stable security definer set search_path = ''
begin atomic
  with recursive line (id, successor_id) as (
    select s.id, s.successor_id from private.sessions s where s.id = p_session_id
    union
    select s.id, s.successor_id from private.sessions s join line on s.id = line.successor_id
  )
  select line.id from line;
end;
comment on function private.session_line is 'A session and its successors. Authorization: callable by definer functions of ours only.';

-- p: session_id? (from a genuine token of ours) or issuer, session_key, auth_time? (of an external one), expired or not; token_hash? (of a
-- refresh token). Unknown sessions are ignored: logging out twice, or without a session, is no error. Answers the Keycloak names of the
-- ended sessions.
create or replace function private.log_out(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  v_named uuid := coalesce(private.as_uuid(p ->> 'session_id'),
    (private.external_session(p ->> 'issuer', p ->> 'session_key', to_timestamp((p ->> 'auth_time')::double precision))).id);
  v_ended jsonb := '[]';
begin
  for v in
    select s.id, s.user_id, s.organization_id, s.provider, s.issuer, s.external_key, s.provider_issuer, s.provider_key
    from private.sessions s
    where s.id in (
      select private.session_line(v_named)
      union
      select private.session_line(t.session_id) from private.refresh_tokens t where t.token_hash = decode(p ->> 'token_hash', 'hex'))
    order by s.id
    for update
  loop
    if private.revoke_session(v.id, 'logout') then
      perform set_config('app.session_id', v.id::text, true);
      perform private.audit('user.logout', 'Signed out.', null, null,
        coalesce(v.organization_id, (select u.default_organization_id from public.users u where u.id = v.user_id)), v.user_id);
      if v.provider = 'keycloak' and v.external_key !~ ':' then
        v_ended := v_ended || jsonb_build_object('issuer', v.issuer, 'session_key', v.external_key);
      elsif v.provider_key is not null then
        v_ended := v_ended || jsonb_build_object('issuer', v.provider_issuer, 'session_key', v.provider_key);
      end if;
    end if;
  end loop;
  return jsonb_build_object('ended', v_ended);
end
$$;
comment on function private.log_out is 'Ends the sessions named by a token and by a refresh token. Authorization: callable by the server only, which has verified the token.';
grant execute on function private.log_out to kijko_server;

-- A session that continues in another organization stays the same sign-in. It keeps its absolute end, and the provider's session that it
-- began with.
create or replace function private.succeed_session(p_session private.sessions, p_org_id uuid, p jsonb, p_at timestamptz) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_is_theirs boolean := coalesce(p_session.provider = 'keycloak' and p_session.external_key !~ ':', false);
begin
  perform private.notify_provider(p_session.user_id);
  return private.begin_session(p_session.user_id, p_org_id, 'switch', p || private.manner_of(p_session) || jsonb_build_object(
    'provider_issuer', case when v_is_theirs then p_session.issuer else p_session.provider_issuer end,
    'provider_key', case when v_is_theirs then p_session.external_key else p_session.provider_key end), p_at, p_session.expires_at);
end
$$;
comment on function private.succeed_session is 'Begins the session that continues another one elsewhere. Authorization: callable by definer functions of ours only.';

-- The current session ends and one for the other organization begins; it inherits the moment of signing in.
-- p: user_id, session_id, claims, request_id, client_ip of the caller; org_id; token_hash, user_agent.
create or replace function private.switch_session(p jsonb, p_at timestamptz default now()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user_id uuid := (p ->> 'user_id')::uuid;
  v_session private.sessions;
  v_org_id uuid;
  v_problem jsonb;
begin
  perform set_config('app.unrestricted', 'on', true);
  perform private.enter(v_user_id, (p ->> 'session_id')::uuid, (p ->> 'org_hint')::uuid, p ->> 'claims', p ->> 'request_id', p ->> 'client_ip');
  select m.organization_id into v_org_id
  from public.memberships m
  where m.user_id = v_user_id and m.organization_id = private.as_uuid(p ->> 'org_id') and m.status = 'active';
  if v_org_id is null then
    perform private.refuse(403, 'ORG_REQUIRED', 'You are not an active member of this organization.', 'org_id');
  end if;
  select * into v_session from private.sessions where id = (p ->> 'session_id')::uuid;
  v_problem := private.sign_in_policy_problem(v_user_id, v_org_id, v_session.signed_in_by);
  if v_problem is not null then
    return v_problem;
  end if;
  if not private.revoke_session(v_session.id, 'switched', p_at) then
    perform private.refuse(401, 'SESSION_REVOKED', 'This session has ended. Please sign in again.');
  end if;
  return private.succeed_session(v_session, v_org_id, p, p_at);
end
$$;
comment on function private.switch_session is
  'Moves the caller to another organization. Authorization: session and memberships, through private.enter, and the other organization''s rules. Errors: 401 SESSION_REVOKED, 403 ORG_REQUIRED. Results: as private.sign_in_policy_problem.';
grant execute on function private.switch_session to kijko_server;

-- p: session_id, of a cookie that the server has signed. private.enter checks everything else, as with a token.
create or replace function private.session_caller(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  s private.sessions;
begin
  select * into s from private.sessions x where x.id = (p ->> 'session_id')::uuid;
  if not found or s.revoked_at is not null then
    perform private.refuse(401, 'SESSION_REVOKED', 'This session has ended. Please sign in again.');
  elsif least(s.expires_at, s.idle_expires_at) <= p_at then
    perform private.refuse(401, 'SESSION_EXPIRED', 'This session has expired. Please sign in again.');
  end if;
  return private.session_json(s.id, p_at);
end
$$;
comment on function private.session_caller is
  'Whose session a cookie names. Authorization: callable by the server only, which has verified the cookie. Errors: 401 SESSION_REVOKED, 401 SESSION_EXPIRED.';
grant execute on function private.session_caller to kijko_server;

-- Handles many sessions at once, seconds after their answers. Rows that another transaction has locked are skipped. p_orgs: the hint of the
-- token, or null.
create or replace function private.touch_sessions(p_sessions uuid[], p_orgs uuid[], p_at timestamptz default now()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- Runs before the time of last use moves: a refused request does not count as a use.
  perform private.end_overdue_sessions(p_sessions, p_at);
  with busy as (
    select s.id from private.sessions s
    where s.id = any (p_sessions) and s.revoked_at is null and s.last_active_at < p_at - interval '1 minute'
    order by s.id for update skip locked
  )
  update private.sessions s set last_active_at = p_at from busy where busy.id = s.id;
  with active as (
    select distinct s.user_id, coalesce(t.org_id, s.organization_id, u.default_organization_id) as organization_id
    from unnest(p_sessions, p_orgs) as t (session_id, org_id)
    join private.sessions s on s.id = t.session_id and s.revoked_at is null
    join public.users u on u.id = s.user_id
  ), busy as (
    select m.id from public.memberships m
    join active a on a.user_id = m.user_id and a.organization_id = m.organization_id
    where m.last_active_at is null or m.last_active_at < p_at - interval '1 minute'
    order by m.id for update of m skip locked
  )
  update public.memberships m set last_active_at = p_at from busy where busy.id = m.id;
end
$$;
comment on function private.touch_sessions is 'Moves last_active_at of sessions and memberships, at most once a minute. Authorization: callable by the server only.';
grant execute on function private.touch_sessions to kijko_server;

-- Only for development: every process of the installation gets the key that the first process offered.
create or replace function private.keep_signing_key(p_offered text) returns text
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.signing_keys (pem) values (p_offered) on conflict do nothing;
  return (select k.pem from private.signing_keys k);
end
$$;
comment on function private.keep_signing_key is 'The installation''s own signing key, or the offered one if it had none. Authorization: callable by the server only.';
grant execute on function private.keep_signing_key to kijko_server;
