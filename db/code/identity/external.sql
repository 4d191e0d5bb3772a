-- People who sign in elsewhere: Keycloak or Supabase has signed a token, the server has verified it, and here it finds its person and
-- its session. Known identity: that person. Else an account with the same verified e-mail address: the identity is linked. Else a new
-- person with an organization of their own.

-- p: issuer, subject, email?, email_verified, first_name, last_name, org_hint?, session_id (derived from issuer and the issuer's own
-- session), session_key, iat (seconds), user_agent?.
create or replace function private.resolve_external(p jsonb, p_at timestamptz default now()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_session_id uuid := (p ->> 'session_id')::uuid;
  v_session private.sessions;
  v_user_id uuid;
  v_org_id uuid;
  v_hint uuid := (p ->> 'org_hint')::uuid;
begin
  -- Known already, as nearly always.
  select s.user_id into v_user_id
  from private.identities i
  join private.sessions s on s.user_id = i.user_id
  where i.issuer = p ->> 'issuer' and i.subject = p ->> 'subject' and s.id = v_session_id and s.issuer = p ->> 'issuer';
  if found then
    return jsonb_build_object('user_id', v_user_id, 'session_id', v_session_id);
  end if;

  -- First uses of one account wait for each other.
  perform pg_advisory_xact_lock(hashtextextended('identity ' || (p ->> 'issuer') || ' ' || (p ->> 'subject'), 0));
  select i.user_id into v_user_id from private.identities i where i.issuer = p ->> 'issuer' and i.subject = p ->> 'subject';
  if v_user_id is null then
    v_user_id := private.adopt_identity(p);
  elsif (p ->> 'email_verified')::boolean then
    update public.users u set email_verified_at = p_at
    where u.id = v_user_id and u.email_verified_at is null and u.email = private.clean_email(p ->> 'email');
  end if;

  select * into v_session from private.sessions s where s.id = v_session_id;
  if found then
    if v_session.user_id <> v_user_id or v_session.issuer <> p ->> 'issuer' then
      perform private.refuse(401, 'UNAUTHENTICATED', 'This token does not belong to its session. Please sign in again.');
    end if;
    return jsonb_build_object('user_id', v_user_id, 'session_id', v_session_id);
  end if;

  v_org_id := private.choose_organization(v_user_id, v_hint);
  if v_org_id is null then
    perform private.refuse(403, 'MEMBERSHIP_INACTIVE', 'Your membership is not active at the moment. Please ask an administrator of your organization.');
  end if;
  insert into private.sessions (id, user_id, organization_id, issuer, external_key, method, user_agent, client_ip, created_at,
    last_active_at, expires_at, idle_expires_at)
  -- A hint is judged by private.enter at each request, also a false one; without it the session keeps to the default organization.
  select v_session_id, v_user_id, case when v_hint = v_org_id then v_hint end, p ->> 'issuer', p ->> 'session_key', 'sso',
    left(p ->> 'user_agent', 500), nullif(current_setting('app.client_ip', true), ''), t.at, p_at, t.at + interval '90 days', t.at + interval '90 days'
  from (select to_timestamp((p ->> 'iat')::double precision)) as t (at);
  perform private.record_sign_in(v_user_id, v_org_id, v_session_id, 'sso', left(p ->> 'user_agent', 500));
  return jsonb_build_object('user_id', v_user_id, 'session_id', v_session_id);
end
$$;
comment on function private.resolve_external is
  'Person and session behind a verified token of an external issuer, made at first use. Judges: callable by the server only. Errors: 401 UNAUTHENTICATED, 403 EMAIL_NOT_VERIFIED, 403 MEMBERSHIP_INACTIVE.';
grant execute on function private.resolve_external to kijko_server;

-- Account resolution for an identity that is not known yet.
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
      -- Whoever registered this address never proved to own it, and the person before us did: what the first one holds must not
      -- open the account any longer. Otherwise a stranger could register somebody's address and wait for them.
      delete from private.credentials c where c.user_id = v_user.id;
      delete from private.identities i where i.user_id = v_user.id;
      perform private.revoke_session(s.id, 'account_claimed') from private.sessions s where s.user_id = v_user.id and s.revoked_at is null;
      update public.users u set email_verified_at = now() where u.id = v_user.id;
    end if;
    perform private.audit('user.profile_updated', 'An account at an identity provider was linked.',
      jsonb_build_object('issuer', p ->> 'issuer'), null, v_user.default_organization_id, v_user.id);
  end if;
  insert into private.identities (issuer, subject, user_id) values (p ->> 'issuer', p ->> 'subject', v_user.id);
  return v_user.id;
end
$$;
comment on function private.adopt_identity is
  'Links an unknown external identity to a person, or makes a new one. Judges: callable by definer functions of ours only. Errors: 403 EMAIL_NOT_VERIFIED.';
