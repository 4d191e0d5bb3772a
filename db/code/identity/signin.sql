-- Sign-up and sign-in with a password, and the lock-out: ten failures for one e-mail address within 15 minutes lock it for 15 minutes,
-- whether an account exists or not. The server hashes and checks passwords; only the outcome arrives here.

create or replace function private.email_digest(p_email text) returns bytea
language sql immutable parallel safe
return sha256(convert_to(p_email, 'UTF8'));
comment on function private.email_digest is 'Key of the lock-out for an address.';

create or replace function private.record_failed_login(p_email text, p_reason text, p_method text default 'password') returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user public.users;
begin
  select * into v_user from public.users u where u.email = p_email;
  if not found then
    return;
  end if;
  insert into private.login_history (user_id, method, status, reason, client_ip)
  values (v_user.id, p_method, 'failed', p_reason, nullif(current_setting('app.client_ip', true), ''));
  perform private.audit('security.login_failed', 'A sign-in failed.', private.client_metadata() || jsonb_build_object('reason', p_reason), null,
    v_user.default_organization_id, v_user.id);
end
$$;
comment on function private.record_failed_login is 'History and audit of a failed sign-in, where an account has the address. Authorization: callable by definer functions of ours only.';

-- Null while the address is not locked, else the refusal. The refusal is recorded at most once a minute.
create or replace function private.locked_problem(p_email text, p_at timestamptz) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v private.login_failures;
begin
  select * into v from private.login_failures f where f.email_digest = private.email_digest(p_email) and f.locked_until > p_at;
  if not found then
    return null;
  end if;
  update private.login_failures f set recorded_at = p_at
  where f.email_digest = v.email_digest and (f.recorded_at is null or f.recorded_at < p_at - interval '1 minute');
  if found then
    perform private.record_failed_login(p_email, 'Account locked');
  end if;
  return private.problem(429, 'ACCOUNT_LOCKED', 'Too many failed attempts. This account is locked for some minutes; please try again later.',
    null, jsonb_build_object('retryAfter', greatest(1, ceil(extract(epoch from v.locked_until - p_at))::integer)));
end
$$;
comment on function private.locked_problem is 'The refusal of a locked address, or null. Authorization: callable by definer functions of ours only.';

-- The person has proven their identity, by any method. Now the rules of their organization and the second factor are checked.
create or replace function private.finish_sign_in(
  p_user_id uuid, p_method text, p jsonb, p_at timestamptz, p_wanted_org_id uuid default null
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org_id uuid := private.choose_organization(p_user_id, p_wanted_org_id);
begin
  if v_org_id is null then
    perform private.record_failed_login((select u.email from public.users u where u.id = p_user_id), 'Membership inactive', p_method);
    return private.problem(403, 'MEMBERSHIP_INACTIVE', 'Your membership is not active at the moment. Please ask an administrator of your organization.');
  end if;
  return private.complete_sign_in(p_user_id, v_org_id, p_method, p, p_at);
end
$$;
comment on function private.finish_sign_in is
  'Begins the session of a person who was recognized, unless a rule is against it. Authorization: callable by definer functions of ours only. Results: 403 MEMBERSHIP_INACTIVE, those of private.complete_sign_in.';

-- Before the password is checked. p: email. Answers the hash to check, or none for an unknown address.
create or replace function private.begin_login(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_email text := coalesce(private.account_address(p ->> 'email'), private.require_email(p ->> 'email'));
begin
  return coalesce(
    private.locked_problem(v_email, p_at),
    (select jsonb_build_object('email', u.email, 'user_id', u.id, 'password_hash', c.password_hash)
     from public.users u join private.credentials c on c.user_id = u.id where u.email = v_email),
    jsonb_build_object('email', v_email));
end
$$;
comment on function private.begin_login is 'First half of a sign-in: what to check the password against, or 429 ACCOUNT_LOCKED. Authorization: callable by the server only.';
grant execute on function private.begin_login to kijko_server;

-- After the password was checked. p: email, user_id?, checked_hash?, is_correct, new_hash? (parameters have changed), token_hash,
-- user_agent, and for the second factor challenge_hash and device_hash?. Attempts for one address finish one after the other, so of any
-- number of simultaneous guesses ten count: once the tenth has failed, a right password among the rest is refused like the wrong ones.
create or replace function private.finish_login(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_email text := p ->> 'email';
  v_user_id uuid := (p ->> 'user_id')::uuid;
  v_digest bytea := private.email_digest(v_email);
  v_failed timestamptz[];
  v_problem jsonb;
begin
  if not (p ->> 'is_correct')::boolean then
    insert into private.login_failures (email_digest) values (v_digest) on conflict do nothing;
  end if;
  select array(select t from unnest(f.failed_at) t where t > p_at - interval '15 minutes' order by t) into v_failed
  from private.login_failures f where f.email_digest = v_digest for update;
  v_problem := private.locked_problem(v_email, p_at);
  if v_problem is not null then
    return v_problem;
  end if;

  -- The hash may have changed during the check.
  if not (p ->> 'is_correct')::boolean or not exists (
    select from private.credentials c where c.user_id = v_user_id and c.password_hash = p ->> 'checked_hash')
  then
    v_failed := v_failed || p_at;
    update private.login_failures f
    set failed_at = case when cardinality(v_failed) >= 10 then '{}' else v_failed end,
      locked_until = case when cardinality(v_failed) >= 10 then p_at + interval '15 minutes' end,
      recorded_at = null, updated_at = p_at
    where f.email_digest = v_digest;
    perform private.record_failed_login(v_email, 'Invalid password');
    return private.problem(401, 'INVALID_CREDENTIALS', 'The e-mail address or the password is not correct.');
  end if;

  if p ? 'new_hash' then
    update private.credentials c set password_hash = p ->> 'new_hash' where c.user_id = v_user_id;
  end if;
  return private.finish_sign_in(v_user_id, 'password', p, p_at);
end
$$;
comment on function private.finish_login is
  'Second half of a sign-in: counts a failure or begins a session. Authorization: callable by the server only. Results: 401 INVALID_CREDENTIALS, 403 MEMBERSHIP_INACTIVE, 429 ACCOUNT_LOCKED, and those of private.complete_sign_in.';
grant execute on function private.finish_login to kijko_server;

-- One transaction: person, password, organization with owner and subscription (or membership in the inviting one), session. The address counts as unverified until its
-- owner proves it; users.email_verified_at says so.
-- p: email, first_name, last_name, password_hash, meets_policy, invitation_token?, token_hash, user_agent.
create or replace function private.sign_up(p jsonb, p_at timestamptz default now()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_email text := private.require_email(p ->> 'email');
  v_first text := private.require_name(p ->> 'first_name', 'first_name', 'first name');
  v_last text := private.require_name(p ->> 'last_name', 'last_name', 'last name');
  v_user_id uuid;
  v_org_id uuid;
  v_problem jsonb;
begin
  if exists (select from public.users u where u.email = v_email) then
    perform private.refuse(409, 'EMAIL_TAKEN', 'There is already an account with this e-mail address.', 'email');
  end if;
  insert into public.users (email, first_name, last_name) values (v_email, v_first, v_last) returning id into v_user_id;
  insert into private.credentials (user_id, password_hash, meets_policy)
  values (v_user_id, p ->> 'password_hash', (p ->> 'meets_policy')::boolean);
  if coalesce(p ->> 'invitation_token', '') <> '' then
    -- A refused token refuses the sign-up.
    v_org_id := private.accept_invitation(private.invitation_hash(p ->> 'invitation_token'), v_user_id, 'invitation_token');
    -- Who joins by a password is signed in by it there, so the team's rules are asked as at any sign-in.
    v_problem := private.sign_in_policy_problem(v_user_id, v_org_id, 'password') -> 'problem';
    if v_problem is not null then
      perform private.refuse((v_problem ->> 'status')::integer, v_problem ->> 'code', v_problem ->> 'message', 'invitation_token');
    end if;
  else
    v_org_id := private.create_organization(private.personal_organization_name(v_first, v_last, v_email), v_user_id);
  end if;
  if private.can_mail_links() then
    perform private.issue_account_link(v_user_id, 'verify_email', v_email);
  end if;
  return private.begin_session(v_user_id, v_org_id, 'signup', p, p_at);
end
$$;
comment on function private.sign_up is
  'A new person, signed in: with an organization of their own, or in the one that invites them. Authorization: callable by the server only. Errors: 400 VALIDATION_ERROR, 409 EMAIL_TAKEN, and those of private.accept_invitation and private.sign_in_policy_problem.';
grant execute on function private.sign_up to kijko_server;
