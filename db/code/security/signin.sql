-- Between the first factor and the session: the rules of the organization, then the second factor. Every kind of sign-in (a password, a
-- link, a provider) ends in private.complete_sign_in; strangers reach none of this.

-- Records an attempt that a rule refused, or a wrong code.
create or replace function private.record_attempt(p_user_id uuid, p_org_id uuid, p_method text, p_status text, p_reason text, p_user_agent text default null)
returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.login_history (user_id, method, status, reason, client_ip, user_agent)
  values (p_user_id, p_method, p_status, p_reason, nullif(current_setting('app.client_ip', true), ''), left(p_user_agent, 500));
  perform private.audit('security.login_failed', case p_status when 'blocked' then 'A sign-in was blocked.' else 'A sign-in failed.' end,
    private.client_metadata() || jsonb_build_object('reason', p_reason), null, p_org_id, p_user_id);
end
$$;
comment on function private.record_attempt is 'History and audit of a sign-in that came to nothing. Authorization: callable by definer functions of ours only.';

-- The decision of the organization's rules about a sign-in by this method from this address: a refusal, which is recorded, or null.
create or replace function private.sign_in_policy_problem(p_user_id uuid, p_org_id uuid, p_method text, p_user_agent text default null) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  v_reason text;
  v_problem jsonb;
begin
  select p.*, m.role, private.has_gate(p.organization_id, 'security_policies') as has_policies, private.has_gate(p.organization_id, 'ip_allow_list') as has_list
  into v
  from public.memberships m join public.security_policies p on p.organization_id = m.organization_id
  where m.user_id = p_user_id and m.organization_id = p_org_id and m.is_guarded;
  if not found then
    return null;
  end if;
  if v.has_policies and v.sso_enforced and p_method <> 'sso' then
    v_reason := 'SSO required';
    v_problem := private.problem(403, 'SSO_REQUIRED', 'Your organization signs in with its identity provider only.');
  elsif v.has_policies and not v.allow_password and p_method = 'password' then
    v_reason := 'Password login disabled';
    v_problem := private.problem(403, 'PASSWORD_LOGIN_DISABLED', 'Your organization does not allow signing in with a password.');
  elsif v.has_policies and not v.allow_magic_link and p_method = 'magic_link' then
    v_reason := 'Magic link login disabled';
    v_problem := private.problem(403, 'MAGIC_LINK_LOGIN_DISABLED', 'Your organization does not allow signing in with a link.');
  elsif v.has_list and v.ip_mode = 'enforce' and not (v.ip_admin_bypass and v.role in ('owner', 'admin'))
    and not private.is_listed(p_org_id, private.as_inet(nullif(current_setting('app.client_ip', true), '')))
  then
    v_reason := 'IP address blocked';
    v_problem := private.problem(403, 'IP_NOT_ALLOWED', 'Your organization does not allow access from this address. Ask an administrator of it to add the address.');
  end if;
  if v_reason is not null then
    perform private.record_attempt(p_user_id, p_org_id, p_method, 'blocked', v_reason, p_user_agent);
  end if;
  return v_problem;
end
$$;
comment on function private.sign_in_policy_problem is
  'Results: 403 SSO_REQUIRED, 403 PASSWORD_LOGIN_DISABLED, 403 MAGIC_LINK_LOGIN_DISABLED, 403 IP_NOT_ALLOWED, or null. Authorization: callable by definer functions of ours only.';

create or replace function private.remember_days(p_org_id uuid) returns integer
language plpgsql stable security definer set search_path = ''
as $$
begin
  -- Where the policy is not in force, its default applies.
  return case when private.has_gate(p_org_id, 'security_policies')
    then (select p.remember_days from public.security_policies p where p.organization_id = p_org_id) else 30 end;
end
$$;
comment on function private.remember_days is 'For how many days a device may be remembered; 0 is not at all. Authorization: callable by definer functions of ours only.';

-- After the first factor. p: token_hash and user_agent of the session; challenge_hash (of the token that a second factor may be shown with),
-- device_hash? (of a remembered device).
create or replace function private.complete_sign_in(p_user_id uuid, p_org_id uuid, p_method text, p jsonb, p_at timestamptz) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_problem jsonb := private.sign_in_policy_problem(p_user_id, p_org_id, p_method, p ->> 'user_agent');
begin
  if v_problem is not null then
    return v_problem;
  elsif not exists (select from public.users u where u.id = p_user_id and u.two_factor_enabled_at is not null) then
    return private.begin_session(p_user_id, p_org_id, p_method, p, p_at);
  end if;
  update private.remembered_devices d set last_used_at = p_at
  where d.user_id = p_user_id and d.token_hash = decode(p ->> 'device_hash', 'hex')
    and d.created_at > p_at - make_interval(days => private.remember_days(p_org_id));
  if found then
    return private.begin_session(p_user_id, p_org_id, p_method, p, p_at);
  end if;
  delete from private.second_factor_challenges c where c.user_id = p_user_id and c.expires_at < p_at;
  insert into private.second_factor_challenges (token_hash, user_id, organization_id, method, provider_issuer, provider_key, expires_at)
  values (decode(p ->> 'challenge_hash', 'hex'), p_user_id, p_org_id, p_method, p ->> 'provider_issuer', p ->> 'provider_key', p_at + interval '5 minutes');
  return private.problem(401, 'TWO_FACTOR_REQUIRED', 'Please enter a code of your authenticator app.', null,
    '{"expires_in": 300, "methods": ["totp", "backup_code"]}');
end
$$;
comment on function private.complete_sign_in is
  'A session for a user whose first factor was right, or the demand for the second. Authorization: callable by definer functions of ours only. Results: 401 TWO_FACTOR_REQUIRED, and those of private.sign_in_policy_problem.';

-- Before the server checks a code. p: challenge_hash. Each attempt takes one of five tries here, so that many simultaneous attempts get no
-- more. Answers nothing for a token that is unknown, used or too old, or has no tries left.
create or replace function private.begin_second_factor(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v jsonb;
begin
  update private.second_factor_challenges c set tries = c.tries + 1
  from private.second_factors f
  where c.token_hash = decode(p ->> 'challenge_hash', 'hex') and c.used_at is null and c.expires_at > p_at and c.tries < 5 and f.user_id = c.user_id
  returning jsonb_build_object('user_id', c.user_id, 'secret', f.sealed_secret, 'attempt', c.tries) into v;
  return coalesce(v, '{}');
end
$$;
comment on function private.begin_second_factor is 'What the server checks a code by, once for each of five tries. Authorization: callable by the server only.';
grant execute on function private.begin_second_factor to kijko_server;

-- After the server checked it. p: challenge_hash, attempt? (where begin_second_factor gave one), the arguments of private.use_second_factor
-- (none for a wrong code), remember? and remembered_hash (of the token of a device to remember), token_hash, user_agent.
create or replace function private.finish_second_factor(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_refused constant jsonb := private.problem(401, 'INVALID_TWO_FACTOR_CODE', 'The code is not correct or was used before, or the time for it is over.');
  v private.second_factor_challenges;
  v_user public.users;
  v_digest bytea;
  v_failed timestamptz[];
  v_problem jsonb;
  v_answer jsonb;
begin
  select * into v from private.second_factor_challenges c where c.token_hash = decode(p ->> 'challenge_hash', 'hex') for update;
  if not found or not p ? 'attempt' or v.used_at is not null or v.expires_at <= p_at then
    return c_refused;
  end if;
  select * into v_user from public.users u where u.id = v.user_id;
  -- Attempts for one address finish one after the other, as password attempts do.
  v_digest := private.email_digest(v_user.email);
  insert into private.login_failures (email_digest) values (v_digest) on conflict do nothing;
  select array(select t from unnest(f.failed_at) t where t > p_at - interval '15 minutes' order by t) into v_failed
  from private.login_failures f where f.email_digest = v_digest for update;
  v_problem := private.locked_problem(v_user.email, p_at);
  if v_problem is not null then
    return v_problem;
  elsif not private.use_second_factor(v.user_id, p) then
    -- Wrong codes count with wrong passwords: ten of them lock the address.
    v_failed := v_failed || p_at;
    update private.login_failures f
    set failed_at = case when cardinality(v_failed) >= 10 then '{}' else v_failed end,
      locked_until = case when cardinality(v_failed) >= 10 then p_at + interval '15 minutes' end, recorded_at = null, updated_at = p_at
    where f.email_digest = v_digest;
    perform private.record_attempt(v.user_id, v.organization_id, '2fa', 'failed', 'Invalid 2FA code', p ->> 'user_agent');
    return c_refused;
  end if;

  update private.second_factor_challenges c set used_at = p_at where c.token_hash = v.token_hash;
  -- Five minutes have passed at most: the membership and the rules are checked as they are now.
  if not exists (select from public.memberships m where m.user_id = v.user_id and m.organization_id = v.organization_id and m.status = 'active') then
    perform private.record_attempt(v.user_id, v.organization_id, '2fa', 'failed', 'Membership inactive', p ->> 'user_agent');
    return private.problem(403, 'MEMBERSHIP_INACTIVE', 'Your membership is not active at the moment. Please ask an administrator of your organization.');
  end if;
  v_problem := private.sign_in_policy_problem(v.user_id, v.organization_id, v.method, p ->> 'user_agent');
  if v_problem is not null then
    return v_problem;
  end if;
  v_answer := private.begin_session(v.user_id, v.organization_id, '2fa', p || jsonb_build_object('signed_in_by', v.method,
    'provider_issuer', v.provider_issuer, 'provider_key', v.provider_key), p_at);
  if (p ->> 'remember')::boolean and private.remember_days(v.organization_id) > 0 then
    insert into private.remembered_devices (user_id, token_hash, user_agent, created_at, last_used_at)
    values (v.user_id, decode(p ->> 'remembered_hash', 'hex'), left(p ->> 'user_agent', 500), p_at, p_at);
    delete from private.remembered_devices d where d.id in (
      select x.id from private.remembered_devices x where x.user_id = v.user_id order by x.created_at desc, x.id offset 20);
    v_answer := v_answer || '{"is_remembered": true}';
  end if;
  return v_answer;
end
$$;
comment on function private.finish_second_factor is
  'Second half of a sign-in with a second factor. Authorization: callable by the server only, which has checked the code. Results: 401 INVALID_TWO_FACTOR_CODE, 403 MEMBERSHIP_INACTIVE, 429 ACCOUNT_LOCKED, and those of private.sign_in_policy_problem.';
grant execute on function private.finish_second_factor to kijko_server;

create or replace function private.manner_of(s private.sessions) returns jsonb
language sql stable parallel safe
return jsonb_build_object('signed_in_at', s.signed_in_at, 'signed_in_by', s.signed_in_by);
comment on function private.manner_of is 'When and how the person of a session signed in, for the session that continues it.';

-- The requirements for a new password of a person (contract 40, 1.8): the strictest of their organizations that enforce a policy, else
-- those of every change. formerHashes are the hashes that must not be used again, the present one first. p: user_id, organization_id? (of a
-- person who joins it), invitation_hash? (hex, of a person who signs up with an invitation).
create or replace function private.password_rules(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v record;
  v_user_id uuid := (p ->> 'user_id')::uuid;
begin
  select count(*) as n, max(s.min_length) as min_length, bool_or(s.require_uppercase) as upper, bool_or(s.require_lowercase) as lower,
    bool_or(s.require_number) as number, bool_or(s.require_symbol) as symbol, coalesce(max(s.prevent_reuse), 0) as reuse
  into v
  from public.security_policies s
  where s.organization_id in (
      select m.organization_id from public.memberships m where m.user_id = v_user_id and m.status = 'active' and m.is_guarded
      union select (p ->> 'organization_id')::uuid
      union select i.organization_id from public.team_invitations i where i.token_hash = decode(p ->> 'invitation_hash', 'hex') and i.status = 'pending')
    and private.has_gate(s.organization_id, 'security_policies');
  return jsonb_build_object('minLength', coalesce(v.min_length, 8), 'upper', coalesce(v.upper, true), 'lower', coalesce(v.lower, true),
    'number', coalesce(v.number, true), 'symbol', coalesce(v.symbol, false), 'isPolicy', v.n > 0,
    'formerHashes', (select coalesce(jsonb_agg(h.password_hash order by h.place), '[]') from (
      select c.password_hash, 0::bigint as place from private.credentials c where c.user_id = v_user_id
      union all
      (select f.password_hash, row_number() over (order by f.id desc) from private.password_history f where f.user_id = v_user_id
        order by f.id desc limit greatest(v.reuse - 1, 0))) h));
end
$$;
comment on function private.password_rules is 'What the server holds a new password against. Authorization: callable by the server only.';
grant execute on function private.password_rules to kijko_server;
