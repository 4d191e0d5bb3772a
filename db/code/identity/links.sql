-- Links in mails: verification of an address, a forgotten password, sign-in without a password. The answer to a request for the last two
-- does not show whether an account exists. The writes, and so the time, are the same for every address, and a job looks for the account
-- afterwards.

create or replace function private.can_mail_links() returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return private.has_mail() and private.app_url() <> '';
end
$$;
comment on function private.can_mail_links is 'Can this installation send links, and does it know where they lead? Authorization: callable by definer functions of ours only.';

create or replace function private.require_mail() returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  if not private.can_mail_links() then
    perform private.refuse(503, 'PROVIDER_NOT_CONFIGURED', 'This installation cannot send mail.', null, '{"provider": "mail"}');
  end if;
end
$$;
comment on function private.require_mail is '503 PROVIDER_NOT_CONFIGURED where no mail can be sent. Authorization: callable by definer functions of ours only.';

-- Null, or the refusal. Attempts for one address count together, whether it has an account or not.
create or replace function private.link_rate_problem(p_purpose text, p_email text, p_limit integer, p_at timestamptz) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  select * into v from private.take_rate(format('link %s|%s', p_purpose, encode(private.email_digest(p_email), 'hex')), p_limit, interval '15 min', p_at);
  if v.allowed then
    return null;
  end if;
  return private.problem(429, 'RATE_LIMITED', 'Too many mails were asked for with this address. Please wait some minutes.', null, jsonb_build_object(
    'limit', p_limit, 'remaining', v.remaining, 'resetUnix', floor(extract(epoch from v.reset_at))::bigint, 'retryAfter', v.retry_after));
end
$$;
comment on function private.link_rate_problem is 'The limit of mails for one address. Authorization: callable by definer functions of ours only.';

-- p: purpose (reset_password, magic_link), email, email_limit.
create or replace function private.request_link(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_email text := coalesce(private.account_address(p ->> 'email'), private.require_email(p ->> 'email'));
  v_problem jsonb;
begin
  perform private.require_mail();
  v_problem := private.link_rate_problem(p ->> 'purpose', v_email, (p ->> 'email_limit')::integer, p_at);
  if v_problem is null then
    perform private.enqueue('accounts.link', jsonb_build_object('requestId', gen_random_uuid(), 'purpose', p ->> 'purpose', 'email', v_email));
  end if;
  return v_problem;
end
$$;
comment on function private.request_link is
  'Has a link mailed to the account of an address, if there is one; the answer is the same. Authorization: callable by the server only. Errors: 400 VALIDATION_ERROR, 503 PROVIDER_NOT_CONFIGURED. Results: 429 RATE_LIMITED.';
grant execute on function private.request_link to kijko_server;

-- The work of job accounts.link: {requestId, purpose, email}. A second run of the same request finds its row and does nothing.
create or replace function private.mail_requested_link(p jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user_id uuid := (select u.id from public.users u where u.email = p ->> 'email');
begin
  if v_user_id is not null and private.can_mail_links() then
    perform private.issue_account_link(v_user_id, p ->> 'purpose', p ->> 'email', private.as_uuid(p ->> 'requestId'));
  end if;
end
$$;
comment on function private.mail_requested_link is 'Mails a link that was asked for, where an account has the address. Authorization: callable by the worker only.';
grant execute on function private.mail_requested_link to kijko_worker;

-- Makes a token and queues its mail. To change the address of an account, the new address is verified by such a link. A newer link replaces
-- it.
create or replace function private.issue_account_link(
  p_user_id uuid, p_purpose text, p_email text, p_id uuid default gen_random_uuid(), p_at timestamptz default clock_timestamp()
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  u public.users;
  v_token text := private.new_token();
begin
  select * into u from public.users x where x.id = p_user_id;
  if not private.is_mail_address(p_email) then
    return;
  end if;
  if p_purpose = 'verify_email' then
    delete from private.account_tokens t where t.user_id = u.id and t.purpose = 'verify_email' and t.email <> p_email and t.used_at is null;
  end if;
  insert into private.account_tokens (id, user_id, purpose, email, token_hash, created_at, expires_at)
  values (p_id, u.id, p_purpose, p_email, private.token_hash(v_token), p_at, p_at + case p_purpose when 'verify_email' then interval '24 hours'
    when 'reset_password' then interval '1 hour' when 'magic_link' then interval '15 minutes' end)
  on conflict (id) do nothing;
  if not found then
    return;
  end if;
  case p_purpose
    when 'verify_email' then
      perform private.queue_link_mail('verify_email', null, u.id, p_email, u.first_name, 'Confirm your e-mail address',
        'Please confirm that this e-mail address is yours.', 'Confirm the address', 'verify-email', v_token,
        'The link works once, for 24 hours. If you have no account at Kijko, ignore this mail.');
    when 'reset_password' then
      perform private.queue_link_mail('reset_password', null, u.id, p_email, u.first_name, 'Choose a new password',
        'A new password was asked for, for your account at Kijko.', 'Choose a new password', 'reset-password', v_token,
        'The link works once, for an hour. If it was not you, ignore this mail: your password stays as it is.');
    when 'magic_link' then
      perform private.queue_link_mail('magic_link', null, u.id, p_email, u.first_name, 'Your link to sign in',
        'A link was asked for that signs in to your account at Kijko.', 'Sign in', 'magic-link', v_token,
        'The link works once, for 15 minutes. If it was not you, ignore this mail.');
  end case;
end
$$;
comment on function private.issue_account_link is
  'Mails a link for one use to an address of a person. Authorization: callable by definer functions of ours only.';

create or replace function private.refuse_link() returns void
language plpgsql stable
as $$
begin
  perform private.refuse(400, 'INVALID_TOKEN', 'This link was used before, has expired, or is not complete. Please ask for a new one.', 'token');
end
$$;
comment on function private.refuse_link is '400 INVALID_TOKEN about the token of a link.';

create or replace function private.use_account_link(p_purpose text, p_token_hash bytea, p_at timestamptz) returns private.account_tokens
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v private.account_tokens;
begin
  -- The account before its links, as a claim does, which ends the other links of the account.
  perform from public.users u where u.id = (select t.user_id from private.account_tokens t where t.token_hash = p_token_hash) for no key update;
  update private.account_tokens t set used_at = p_at
  where t.token_hash = p_token_hash and t.purpose = p_purpose and t.used_at is null and t.expires_at > p_at
    and (p_purpose = 'verify_email' or exists (select from public.users u where u.id = t.user_id and u.email = t.email))
  returning * into v;
  if not found then
    perform private.refuse_link();
  end if;
  return v;
end
$$;
comment on function private.use_account_link is
  'Uses a link up; of simultaneous uses one wins. Authorization: callable by definer functions of ours only. Errors: 400 INVALID_TOKEN.';

-- ------------------------------------------------------------------------------------------------------------- verification

create or replace function private.confirm_address(p_user_id uuid, p_email text, p_at timestamptz) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  u public.users;
begin
  select * into u from public.users x where x.id = p_user_id for no key update;
  if u.email = p_email then
    update public.users x set email_verified_at = p_at where x.id = u.id and x.email_verified_at is null;
    return;
  elsif exists (select from public.users x where x.email = p_email) then
    perform private.refuse(409, 'EMAIL_TAKEN', 'There is already an account with this e-mail address.', 'email');
  end if;
  update public.users x set email = p_email, email_verified_at = p_at where x.id = u.id;
  perform private.audit('user.profile_updated', 'The e-mail address was changed.', null,
    private.audit_changes(jsonb_build_object('email', u.email), jsonb_build_object('email', p_email), array['email']), u.default_organization_id, u.id);
  perform private.notify_security(u.id, 'Your e-mail address was changed', 'If that was not you, change your password now.', true,
    'email:' || pg_current_xact_id());
end
$$;
comment on function private.confirm_address is
  'The person has proven to own an address: it is verified, and becomes the account''s where it was to. Authorization: callable by definer functions of ours only. Errors: 409 EMAIL_TAKEN.';

create or replace function private.verify_email(p_token text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v private.account_tokens := private.use_account_link('verify_email', private.token_hash(p_token), clock_timestamp());
begin
  perform private.confirm_address(v.user_id, v.email, clock_timestamp());
end
$$;
comment on function private.verify_email is 'Confirms an address by the token of its mail. Authorization: the token. Errors: 400 INVALID_TOKEN, 409 EMAIL_TAKEN.';
grant execute on function private.verify_email to anon, authenticated;

create or replace function api.verify_email(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.verify_email(p -> 'body' ->> 'token');
  return null;
end
$$;
comment on function api.verify_email is 'POST /auth/verify-email, without login. Errors: 400 INVALID_TOKEN, 409 EMAIL_TAKEN.';
grant execute on function api.verify_email to anon, authenticated;

create or replace function private.resend_verification() returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  u public.users;
  v_email text;
  v_problem jsonb;
begin
  select * into u from public.users x where x.id = private.user_id();
  if not found then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  -- An address that waits to become the account's comes first.
  select t.email into v_email from private.account_tokens t
  where t.user_id = u.id and t.purpose = 'verify_email' and t.used_at is null and t.email <> u.email order by t.created_at desc limit 1;
  v_email := coalesce(v_email, case when u.email_verified_at is null then u.email end);
  if v_email is null then
    perform private.refuse(409, 'EMAIL_ALREADY_VERIFIED', 'Your e-mail address is confirmed already.');
  end if;
  perform private.require_mail();
  v_problem := private.link_rate_problem('verify_email', v_email, 3, clock_timestamp()) -> 'problem';
  if v_problem is not null then
    perform private.refuse(429, 'RATE_LIMITED', v_problem ->> 'message', null, jsonb_build_object('limit', 3, 'remaining', 0,
      'resetsAt', private.iso(to_timestamp((v_problem #>> '{details,resetUnix}')::bigint))));
  end if;
  perform private.issue_account_link(u.id, 'verify_email', v_email);
end
$$;
comment on function private.resend_verification is
  'Mails the caller another link to confirm their address. Authorization: private.user_id() only. Errors: 401, 409 EMAIL_ALREADY_VERIFIED, 429 RATE_LIMITED, 503 PROVIDER_NOT_CONFIGURED.';
grant execute on function private.resend_verification to authenticated;

create or replace function api.resend_verification(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.resend_verification();
  return '{"message": "We have sent you a mail. Please open the link in it."}';
end
$$;
comment on function api.resend_verification is
  'POST /profile/resend-verification: another link for the caller''s own address. Errors: 409 EMAIL_ALREADY_VERIFIED, 429 RATE_LIMITED, 503 PROVIDER_NOT_CONFIGURED.';
grant execute on function api.resend_verification to authenticated;

-- --------------------------------------------------------------------------------------------------------- forgotten password

-- p: reset_hash (hex). Returns the data to compare a new password with. The link stays valid.
create or replace function private.begin_reset(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_answer jsonb := (
    select jsonb_build_object('email', u.email, 'user_id', u.id, 'password_hash', c.password_hash)
    from private.account_tokens t
    join public.users u on u.id = t.user_id and u.email = t.email
    left join private.credentials c on c.user_id = u.id
    where t.token_hash = decode(p ->> 'reset_hash', 'hex') and t.purpose = 'reset_password' and t.used_at is null and t.expires_at > p_at);
begin
  if v_answer is null then
    perform private.refuse_link();
  end if;
  return jsonb_strip_nulls(v_answer);
end
$$;
comment on function private.begin_reset is 'First half of a reset: whose it is. Authorization: callable by the server only. Errors: 400 INVALID_TOKEN.';
grant execute on function private.begin_reset to kijko_server;

-- p: reset_hash (hex), new_hash, meets_policy. The holder of the link owns the address, so it counts as verified from here on.
create or replace function private.finish_reset(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v private.account_tokens := private.use_account_link('reset_password', decode(p ->> 'reset_hash', 'hex'), p_at);
  u public.users;
begin
  select * into u from public.users x where x.id = v.user_id for no key update;
  if u.email_verified_at is null then
    perform private.claim_account(u.id, p_at);
  end if;
  insert into private.credentials as c (user_id, password_hash, meets_policy, changed_at)
  values (u.id, p ->> 'new_hash', (p ->> 'meets_policy')::boolean, p_at)
  on conflict (user_id) do update set password_hash = excluded.password_hash, meets_policy = excluded.meets_policy,
    changed_at = greatest(excluded.changed_at, c.changed_at + interval '1 microsecond');
  -- A first password is reported as well. The trigger reports a changed one, under the same key.
  perform private.notify_security(u.id, 'Your password was changed', 'If that was not you, reset it now.', true, 'password:' || pg_current_xact_id());
  perform private.revoke_session(s.id, 'password_reset', p_at) from private.sessions s where s.user_id = u.id and s.revoked_at is null;
  delete from private.account_tokens t where t.user_id = u.id and t.purpose <> 'verify_email' and t.used_at is null;
  perform private.audit('user.password_changed', 'A new password was chosen by a link in a mail.', '{"method": "reset"}', null, u.default_organization_id, u.id);
  return '{}';
end
$$;
comment on function private.finish_reset is
  'Second half of a reset: the new password, and all sessions end. Authorization: callable by the server only. Errors: 400 INVALID_TOKEN.';
grant execute on function private.finish_reset to kijko_server;

-- ------------------------------------------------------------------------------------------------------- sign-in by a link

-- p: link_hash (hex), token_hash, user_agent.
create or replace function private.finish_magic_link(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v private.account_tokens := private.use_account_link('magic_link', decode(p ->> 'link_hash', 'hex'), p_at);
begin
  perform private.claim_account(u.id, p_at) from public.users u where u.id = v.user_id and u.email_verified_at is null;
  return private.finish_sign_in(v.user_id, 'magic_link', p, p_at);
end
$$;
comment on function private.finish_magic_link is
  'Signs in who holds the link of a mail. Authorization: callable by the server only. Errors: 400 INVALID_TOKEN. Results: those of finish_sign_in.';
grant execute on function private.finish_magic_link to kijko_server;
