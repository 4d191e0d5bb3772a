-- Sign-in at Google or GitHub through Keycloak (contract 40, 1.6): the state of a sign-in in progress, the session that it ends in, and the
-- organization that Keycloak is to know for a person.

-- p: state_hash (hex), provider, redirect_uri.
create or replace function private.begin_oauth(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.oauth_states (state_hash, provider, redirect_uri, created_at, expires_at)
  values (decode(p ->> 'state_hash', 'hex'), p ->> 'provider', p ->> 'redirect_uri', p_at, p_at + interval '10 minutes');
  return '{}';
end
$$;
comment on function private.begin_oauth is 'Remembers a sign-in at a provider for 10 minutes. Authorization: callable by the server only.';

-- p: state_hash (hex), redirect_uri, key? (hex, of an Idempotency-Key: its answer is kept there, and the state was used for it). The state
-- is used up in any case.
create or replace function private.take_oauth_state(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v private.oauth_states;
begin
  if exists (select from private.sealed_answers a where a.key_digest = decode(p ->> 'key', 'hex') and a.result is not null
    and a.created_at > p_at - interval '24 hours')
  then
    return '{"replayed": true}';
  end if;
  update private.oauth_states s set used_at = p_at
  where s.state_hash = decode(p ->> 'state_hash', 'hex') and s.used_at is null and s.expires_at > p_at
  returning * into v;
  if not found then
    return private.problem(400, 'INVALID_STATE', 'This sign-in was not begun here, or took too long. Please start again.', 'state');
  elsif v.redirect_uri <> p ->> 'redirect_uri' then
    return private.problem(400, 'INVALID_REDIRECT_URI', 'The address is not the one that this sign-in began with.', 'redirect_uri');
  end if;
  return jsonb_build_object('provider', v.provider);
end
$$;
comment on function private.take_oauth_state is
  'Uses the state of a sign-in up. Authorization: callable by the server only. Results: 400 INVALID_STATE, 400 INVALID_REDIRECT_URI.';

-- p: issuer, subject, email, email_verified, first_name, last_name, org_hint?, session_key, token_hash, user_agent.
create or replace function private.finish_oauth(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user_id uuid;
begin
  if not coalesce((p ->> 'email_verified')::boolean, false) then
    perform private.refuse(403, 'EMAIL_NOT_VERIFIED', 'Your identity provider has not confirmed your e-mail address. Please confirm it there first.');
  end if;
  perform pg_advisory_xact_lock(hashtextextended('identity ' || (p ->> 'issuer') || ' ' || (p ->> 'subject'), 0));
  select i.user_id into v_user_id from private.identities i where i.issuer = p ->> 'issuer' and i.subject = p ->> 'subject';
  if v_user_id is null then
    v_user_id := private.adopt_identity(p);
  else
    update public.users u set email_verified_at = p_at
    where u.id = v_user_id and u.email_verified_at is null and u.email = private.clean_email(p ->> 'email');
  end if;
  -- Names with a colon are derived names, of tokens without a session.
  return private.finish_sign_in(v_user_id, 'sso', case when p ->> 'session_key' !~ ':'
    then p || jsonb_build_object('provider_issuer', p -> 'issuer', 'provider_key', p -> 'session_key') else p end, p_at, private.as_uuid(p ->> 'org_hint'));
end
$$;
comment on function private.finish_oauth is
  'Signs in who a provider vouches for: known, linked by verified address, or new. Authorization: callable by the server only. Errors: 403 EMAIL_NOT_VERIFIED. Results: those of finish_sign_in.';
grant execute on function private.begin_oauth, private.take_oauth_state, private.finish_oauth to kijko_server;

-- ------------------------------------------------------------------------------------------ the organization as Keycloak knows it

-- Tokens of Keycloak carry org_id from an attribute of the user. With a stale attribute each request would be refused.
create or replace function private.notify_provider(p_user_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if exists (select from private.identities i where i.user_id = p_user_id) then
    perform private.enqueue('accounts.organization', jsonb_build_object('userId', p_user_id));
  end if;
end
$$;
comment on function private.notify_provider is
  'Has the organization of a person written where they sign in. Authorization: callable by definer functions and triggers of ours only.';

-- The organization of the newest living session, else the default one; null, which clears it, without an active membership there.
create or replace function private.provider_accounts(p_user_id uuid) returns table (issuer text, subject text, org_id text)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  select i.issuer, i.subject, (
    select m.organization_id::text
    from public.memberships m
    where m.user_id = i.user_id and m.status = 'active' and m.organization_id = coalesce(
      (select s.organization_id from private.sessions s
       where s.user_id = i.user_id and s.revoked_at is null and s.organization_id is not null order by s.created_at desc, s.id limit 1),
      (select u.default_organization_id from public.users u where u.id = i.user_id)))
  from private.identities i
  where i.user_id = p_user_id;
end
$$;
comment on function private.provider_accounts is
  'Accounts of a person at identity providers, with the organization to be written there. Authorization: callable by the worker only.';
grant execute on function private.provider_accounts to kijko_worker;

create or replace function private.tg_memberships__notify_provider() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.notify_provider(old.user_id);
  return null;
end
$$;
comment on function private.tg_memberships__notify_provider is 'Trigger: a membership that ended must not be in tokens of the identity provider.';
create or replace trigger _550_notify_provider_on_delete after delete on public.memberships
  for each row execute function private.tg_memberships__notify_provider();
create or replace trigger _550_notify_provider_on_deactivation after update of status on public.memberships
  for each row when (old.status <> new.status) execute function private.tg_memberships__notify_provider();

create or replace function private.tg_users__notify_provider() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.notify_provider(new.id);
  return null;
end
$$;
comment on function private.tg_users__notify_provider is 'Trigger: another default organization is told to the identity provider.';
create or replace trigger _550_notify_provider after update of default_organization_id on public.users
  for each row when (old.default_organization_id is distinct from new.default_organization_id) execute function private.tg_users__notify_provider();
