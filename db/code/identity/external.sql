-- Sign-in at an external identity provider. Keycloak or Supabase has signed a token, and the server has verified it. This file finds its
-- person and its session. A known identity belongs to its person. Otherwise the identity is linked to an account with the same verified
-- e-mail address. Otherwise a new person is created, with an organization of their own.

-- The session that a token belongs to: the living session of its name, unless an earlier session of that name has ended since the person
-- last signed in. Then the token is invalid and the ended session is its session. Null where no session has this name. Providers count
-- seconds: a sign-in in the second of the end counts as later if no token of the ended session had it.
create or replace function private.external_session(p_issuer text, p_key text, p_authenticated_at timestamptz) returns private.sessions
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_living private.sessions;
  v_ended private.sessions;
begin
  select * into v_living from private.sessions s where s.issuer = p_issuer and s.external_key = p_key and s.revoked_at is null;
  select * into v_ended from private.sessions s where s.issuer = p_issuer and s.external_key = p_key and s.revoked_at is not null
  order by s.revoked_at desc limit 1;
  if v_ended.id is null then
    return v_living;
  elsif p_authenticated_at > coalesce(v_ended.authenticated_at, v_ended.revoked_at)
    and p_authenticated_at >= date_trunc('second', v_ended.revoked_at)
  then
    return v_living;
  end if;
  return v_ended;
end
$$;
comment on function private.external_session is
  'The session of an external token by its issuer''s name for it and the moment of signing in, or null. Authorization: callable by definer functions of ours only.';

-- p: issuer, provider, subject, email?, email_verified, first_name, last_name, org_hint?, session_id (for the first session of its name),
-- session_key (the issuer's name), iat and auth_time? (seconds), user_agent?.
create or replace function private.resolve_external(p jsonb, p_at timestamptz default now()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_session_id uuid := (p ->> 'session_id')::uuid;
  v_issued_at timestamptz := to_timestamp((p ->> 'iat')::double precision);
  -- A time after the token's own would outlive each revocation until then: such a token says no moment. Five minutes are for clocks.
  v_authenticated_at timestamptz := case when (p ->> 'auth_time')::double precision <= (p ->> 'iat')::double precision + 300 then
    to_timestamp((p ->> 'auth_time')::double precision) end;
  v_session private.sessions;
  v_user_id uuid;
  v_org_id uuid;
  v_hint uuid := (p ->> 'org_hint')::uuid;
begin
  -- The identity is nearly always known already.
  select i.user_id into v_user_id from private.identities i where i.issuer = p ->> 'issuer' and i.subject = p ->> 'subject';
  v_session := private.external_session(p ->> 'issuer', p ->> 'session_key', v_authenticated_at);
  if v_session.user_id = v_user_id and (v_session.revoked_at is not null
    or least(v_session.expires_at, v_session.idle_expires_at) > p_at and v_authenticated_at is not distinct from v_session.authenticated_at)
  then
    return jsonb_build_object('user_id', v_user_id, 'session_id', v_session.id);
  end if;

  -- First sign-ins of one account wait for each other.
  perform pg_advisory_xact_lock(hashtextextended('identity ' || (p ->> 'issuer') || ' ' || (p ->> 'subject'), 0));
  select i.user_id into v_user_id from private.identities i where i.issuer = p ->> 'issuer' and i.subject = p ->> 'subject';
  if v_user_id is null then
    perform private.refuse_erased_identity(p ->> 'issuer', p ->> 'subject', coalesce(v_authenticated_at, v_issued_at));
    v_user_id := private.adopt_identity(p);
  elsif (p ->> 'email_verified')::boolean then
    update public.users u set email_verified_at = p_at
    where u.id = v_user_id and u.email_verified_at is null and u.email = private.clean_email(p ->> 'email');
  end if;

  v_session := private.external_session(p ->> 'issuer', p ->> 'session_key', v_authenticated_at);
  if v_session.id is null then
    -- A UUID becomes the row's id itself, unless a session of another issuer or one of ours has that id.
    select * into v_session from private.sessions s
    where s.id = v_session_id and (s.issuer, s.external_key) is distinct from (p ->> 'issuer', p ->> 'session_key');
  end if;
  if v_session.id is not null then
    if v_session.user_id <> v_user_id or v_session.issuer <> p ->> 'issuer' then
      perform private.refuse(401, 'UNAUTHENTICATED', 'This token does not belong to its session. Please sign in again.');
    end if;
    if v_session.revoked_at is not null or coalesce(v_authenticated_at <= least(v_session.expires_at, v_session.idle_expires_at), true) then
      update private.sessions s set authenticated_at = v_authenticated_at
      where s.id = v_session.id and s.revoked_at is null and v_authenticated_at > coalesce(s.authenticated_at, '-infinity');
      return jsonb_build_object('user_id', v_user_id, 'session_id', v_session.id);
    end if;
    -- A person who signed in after the end of an expired session begins another one.
    perform private.revoke_session(v_session.id, 'expired', least(v_session.expires_at, v_session.idle_expires_at));
  end if;

  v_org_id := private.choose_organization(v_user_id, v_hint);
  if v_org_id is null then
    perform private.refuse(403, 'MEMBERSHIP_INACTIVE', 'Your membership is not active at the moment. Please ask an administrator of your organization.');
  end if;
  if exists (select from private.sessions s where s.id = v_session_id) then
    v_session_id := gen_random_uuid();
  end if;
  insert into private.sessions (id, user_id, organization_id, issuer, external_key, provider, authenticated_at, method, user_agent, client_ip,
    created_at, last_active_at, expires_at, idle_expires_at, signed_in_at, signed_in_by)
  -- private.enter checks the hint at each request, also a false one. Without a hint the session keeps the default organization.
  values (v_session_id, v_user_id, case when v_hint = v_org_id then v_hint end, p ->> 'issuer', p ->> 'session_key', p ->> 'provider',
    v_authenticated_at, 'sso', left(p ->> 'user_agent', 500), nullif(current_setting('app.client_ip', true), ''), v_issued_at, p_at,
    v_issued_at + interval '90 days', v_issued_at + interval '90 days', v_issued_at, 'sso');
  perform private.record_sign_in(v_user_id, v_org_id, v_session_id, 'sso', left(p ->> 'user_agent', 500));
  return jsonb_build_object('user_id', v_user_id, 'session_id', v_session_id);
end
$$;
comment on function private.resolve_external is
  'Person and session behind a verified token of an external issuer, made at first use. Authorization: callable by the server only. Errors: 401 UNAUTHENTICATED, 403 EMAIL_NOT_VERIFIED, 403 MEMBERSHIP_INACTIVE.';
grant execute on function private.resolve_external to kijko_server;

-- A session that ended here still lives at Keycloak. Its cookie there would sign the same person in again without asking, with tokens that
-- are refused here. The worker ends it there, unless its person has signed in again meanwhile.
create or replace function private.tg_sessions__end_at_provider() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.enqueue('sessions.end', jsonb_build_object('sessionId', new.id), now(), 'sessions.end:' || new.id);
  return null;
end
$$;
comment on function private.tg_sessions__end_at_provider is 'Trigger: a session of Keycloak that ends here is ended there.';
-- Names with a colon are derived names, of tokens without a session.
create or replace trigger _500_end_at_provider after update of revoked_at on private.sessions for each row
  when (old.revoked_at is null and new.revoked_at is not null
    and (new.provider = 'keycloak' and new.external_key !~ ':' or new.provider_key is not null))
  execute function private.tg_sessions__end_at_provider();

create or replace function private.provider_session(p_session_id uuid) returns table (issuer text, session_key text)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  select e.name, e.key
  from private.sessions s
  cross join lateral (select coalesce(s.provider_issuer, s.issuer) as name, coalesce(s.provider_key, s.external_key) as key) e
  where s.id = p_session_id and s.revoked_at is not null and (s.provider = 'keycloak' or s.provider_key is not null)
    and not exists (select from private.sessions n where n.issuer = e.name and n.external_key = e.key and n.revoked_at is null)
    and not exists (select from private.sessions n where n.provider_issuer = e.name and n.provider_key = e.key and n.revoked_at is null);
end
$$;
comment on function private.provider_session is
  'What Keycloak calls a session that ended here, if it is to be ended there; no row otherwise. Authorization: callable by the worker only.';
grant execute on function private.provider_session to kijko_worker;

-- Finds or creates the account for an identity that is not known yet.
create or replace function private.adopt_identity(p jsonb) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_email text := private.clean_email(p ->> 'email');
  v_verified boolean := coalesce((p ->> 'email_verified')::boolean, false);
  v_user public.users;
begin
  if v_email is null then
    perform private.refuse(403, 'EMAIL_NOT_VERIFIED', case when coalesce(p ->> 'email', '') = ''
      then 'Your identity provider gave no e-mail address. An account needs one.'
      else 'Your identity provider gave an e-mail address that no mail can be sent to. An account needs another one.' end);
  end if;
  select * into v_user from public.users u where u.email = v_email for no key update;
  if not found then
    insert into public.users (email, first_name, last_name, email_verified_at)
    values (v_email, private.clean_name(p ->> 'first_name'), private.clean_name(p ->> 'last_name'), case when v_verified then now() end)
    returning * into v_user;
    perform private.create_organization(
      private.personal_organization_name(v_user.first_name, v_user.last_name, v_user.email), v_user.id);
  elsif not v_verified then
    perform private.refuse(403, 'EMAIL_NOT_VERIFIED',
      'There is an account with this e-mail address, and your identity provider has not verified that it is yours.');
  else
    if v_user.email_verified_at is null then
      perform private.claim_account(v_user.id, now());
    end if;
    perform private.audit('user.profile_updated', 'An account at an identity provider was linked.',
      jsonb_build_object('issuer', p ->> 'issuer'), null, v_user.default_organization_id, v_user.id);
  end if;
  insert into private.identities (issuer, subject, user_id) values (p ->> 'issuer', p ->> 'subject', v_user.id);
  perform private.notify_provider(v_user.id);
  return v_user.id;
end
$$;
comment on function private.adopt_identity is
  'Links an unknown external identity to a person, or makes a new one. Authorization: callable by definer functions of ours only. Errors: 403 EMAIL_NOT_VERIFIED.';
