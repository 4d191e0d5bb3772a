-- Connections to Git providers (contract 10, section 10). A connection belongs to a person, and the server or the worker uses it only for
-- that person. Tokens arrive here sealed, and only the server and the worker get them back.

create or replace function private.assert_git_provider(p_provider text) returns text
language plpgsql stable
as $$
begin
  if coalesce(p_provider, '') not in ('github', 'gitlab', 'bitbucket', 'azure') then
    perform private.refuse_field('provider', 'Supported providers are github, gitlab, bitbucket and azure.');
  end if;
  return p_provider;
end
$$;
comment on function private.assert_git_provider is 'The name of a Git provider, or 400 VALIDATION_ERROR.';
grant execute on function private.assert_git_provider to authenticated;

create or replace function private.git_connection_json(c private.git_connections, p_state text) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('provider', c.provider, 'connected', p_state = 'live', 'username', c.username, 'avatarUrl', c.avatar_url,
  'connectedAt', private.iso(c.connected_at), 'scope', to_jsonb(c.scopes)));
comment on function private.git_connection_json is 'OAuthConnection of the contract.';

create or replace function private.git_connections_json() returns jsonb
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return coalesce((select jsonb_agg(private.git_connection_json(c, t.state)
      order by array_position(array['github', 'gitlab', 'bitbucket', 'azure'], c.provider))
    from private.git_connections c join private.provider_tokens t on t.id = c.token_id where c.user_id = private.user_id()), '[]');
end
$$;
comment on function private.git_connections_json is 'The caller''s connections without their tokens. Authorization: only the caller''s own rows.';
grant execute on function private.git_connections_json to authenticated;

-- ------------------------------------------------------------------------------------------------------------------------- consent

create or replace function private.refuse_state() returns void
language plpgsql stable
as $$
begin
  perform private.refuse(400, 'OAUTH_STATE_INVALID', 'This connection was not begun here, was finished already or took longer than ten minutes. Begin it again.');
end
$$;
comment on function private.refuse_state is '400 OAUTH_STATE_INVALID, the same for every reason.';

-- {provider, stateHash, sealedVerifier, sealedUrl, redirectUri, origin}; without a state the installation does not know the provider.
create or replace function private.begin_connection(p jsonb, p_project_id uuid default null) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
begin
  perform private.refuse_strangers('Connections are begun through the API.');
  if v_user is null or private.org_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  elsif p ->> 'stateHash' is null then
    perform private.refuse(503, 'PROVIDER_NOT_CONFIGURED', 'This installation has no application at this provider. Ask its operator.', null,
      jsonb_build_object('provider', p ->> 'provider'));
  end if;
  -- Deletes old attempts, and of the open ones the oldest beyond twenty.
  delete from private.connection_states s where s.user_id = v_user and (s.expires_at <= now() or s.state_hash in (
    select o.state_hash from private.connection_states o where o.user_id = v_user order by o.created_at desc offset 19));
  insert into private.connection_states (state_hash, user_id, organization_id, provider, project_id, redirect_uri, origin, sealed_verifier)
  values (decode(p ->> 'stateHash', 'hex'), v_user, private.org_id(), p ->> 'provider', p_project_id, p ->> 'redirectUri', p ->> 'origin',
    p ->> 'sealedVerifier');
  return jsonb_build_object('sealed', p ->> 'sealedUrl');
end
$$;
comment on function private.begin_connection is
  'Keeps the state of a consent for ten minutes. Authorization: through our server only, which makes and seals it; for the caller themselves. Errors: 401, 403 FORBIDDEN, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function private.claim_state(p_provider text, p_hash text, p_user_id uuid, p_org_id uuid, p_session_id uuid default null)
returns private.connection_states
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s private.connection_states;
begin
  if p_hash ~ '^[0-9a-f]{64}$' then
    update private.connection_states c set taken_at = now()
    where c.state_hash = decode(p_hash, 'hex') and c.provider = p_provider and c.taken_at is null and c.expires_at > now()
      and (p_user_id is null or c.user_id = p_user_id and c.organization_id = p_org_id)
      and exists (select from public.memberships m where m.user_id = c.user_id and m.organization_id = c.organization_id and m.status = 'active')
      and not exists (select from private.sessions x where x.id = p_session_id and x.revoked_at is null and x.user_id <> c.user_id)
    returning * into s;
  end if;
  if s.state_hash is null then
    perform private.refuse_state();
  end if;
  return s;
end
$$;
comment on function private.claim_state is 'Takes a state, once; not in a browser where another person is signed in. Authorization: callable by functions of ours only. Errors: 400 OAUTH_STATE_INVALID.';

create or replace function private.take_own_state(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s private.connection_states;
begin
  perform private.refuse_strangers('Connections are finished through the API.');
  if private.user_id() is null then
    perform private.refuse_state();
  end if;
  s := private.claim_state(p ->> 'provider', p ->> 'stateHash', private.user_id(), private.org_id());
  return jsonb_build_object('userId', s.user_id, 'sealedVerifier', s.sealed_verifier, 'redirectUri', s.redirect_uri, 'origin', s.origin);
end
$$;
comment on function private.take_own_state is
  'Takes a state of the caller: what the exchange of the code needs. Authorization: through our server only; states of the caller in their present organization. Errors: 400 OAUTH_STATE_INVALID.';
grant execute on function private.begin_connection, private.take_own_state to authenticated;

-- Without this check of the browser's session, a person could begin a consent, send its address to another person, and get the other's
-- account connected to their own.
create or replace function private.take_state(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s private.connection_states := private.claim_state(p ->> 'provider', p ->> 'stateHash', null, null, private.as_uuid(p ->> 'sessionId'));
begin
  return jsonb_build_object('userId', s.user_id, 'sealedVerifier', s.sealed_verifier, 'redirectUri', s.redirect_uri, 'origin', s.origin);
end
$$;
comment on function private.take_state is
  'Takes a state for a browser that comes back from the provider. Authorization: callable by the server only; the state says whose consent it is. Errors: 400 OAUTH_STATE_INVALID.';
grant execute on function private.take_state to kijko_server;

-- {provider, stateHash, tokenId, sealedToken, expiresAt?, accountId, username, avatarUrl?, scopes}. Only a state that was taken can be
-- finished.
create or replace function private.store_connection(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s private.connection_states;
  c private.git_connections;
  v_old private.git_connections;
  v_token uuid := private.as_uuid(p ->> 'tokenId');
begin
  delete from private.connection_states d
  where d.state_hash = decode(case when p ->> 'stateHash' ~ '^[0-9a-f]{64}$' then p ->> 'stateHash' end, 'hex') and d.provider = p ->> 'provider'
    and d.user_id = private.user_id() and d.taken_at > now() - interval '5 minutes'
  returning * into s;
  if s.state_hash is null or p ->> 'sealedToken' is null then
    perform private.refuse_state();
  end if;
  insert into private.provider_tokens (id, provider, sealed_token, expires_at)
  values (v_token, s.provider, p ->> 'sealedToken', private.as_instant(p ->> 'expiresAt'));
  if s.project_id is not null then
    return private.store_directory(s, v_token);
  end if;

  select * into v_old from private.git_connections g where g.user_id = s.user_id and g.provider = s.provider for update;
  insert into private.git_connections as g (user_id, provider, token_id, account_id, username, avatar_url, scopes)
  values (s.user_id, s.provider, v_token, left(p ->> 'accountId', 200), left(coalesce(nullif(p ->> 'username', ''), p ->> 'accountId'), 200),
    case when char_length(p ->> 'avatarUrl') <= 500 and p ->> 'avatarUrl' ~ '^https?://' then p ->> 'avatarUrl' end,
    array(select left(e, 200) from jsonb_array_elements_text(coalesce(p -> 'scopes', '[]')) e limit 50))
  on conflict (user_id, provider) do update set token_id = excluded.token_id, account_id = excluded.account_id, username = excluded.username,
    avatar_url = excluded.avatar_url, scopes = excluded.scopes, connected_at = now(), updated_at = now()
  returning * into c;
  if v_old.token_id is not null then
    if v_old.account_id <> c.account_id then
      perform private.end_token(v_old.token_id);
    else
      -- A provider may issue the same grant again, so revoking the old one could revoke the new one.
      delete from private.provider_tokens t where t.id = v_old.token_id;
    end if;
  end if;
  delete from private.repository_checks r where r.user_id = s.user_id and r.provider = s.provider;
  perform private.audit('integration.connected', format('Connected an account at %s.', private.provider_name(s.provider)),
    jsonb_build_object('provider', s.provider));
  return private.git_connection_json(c, 'live');
end
$$;
comment on function private.store_connection is
  'Finishes a consent: the connection of the state''s person, or the directory of its project. Authorization: callable by functions of ours only, as that person. Errors: 400 OAUTH_STATE_INVALID.';

create or replace function private.finish_own_connection(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.refuse_strangers('Connections are finished through the API.');
  return private.store_connection(p);
end
$$;
comment on function private.finish_own_connection is
  'Finishes a consent of the caller. Authorization: through our server only, which sealed the tokens; a state that the caller has taken. Errors: 400 OAUTH_STATE_INVALID, 403 FORBIDDEN.';
grant execute on function private.finish_own_connection to authenticated;

create or replace function private.finish_connection(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  select m.user_id, m.organization_id, m.role into v from private.connection_states s
  join public.memberships m on m.user_id = s.user_id and m.organization_id = s.organization_id and m.status = 'active'
  where s.state_hash = decode(case when p ->> 'stateHash' ~ '^[0-9a-f]{64}$' then p ->> 'stateHash' end, 'hex');
  if not found then
    perform private.refuse_state();
  end if;
  -- The rest runs as the person who began the consent.
  perform set_config('app.user_id', v.user_id::text, true), set_config('app.org_id', v.organization_id::text, true),
    set_config('app.org_role', v.role, true);
  return private.store_connection(p);
end
$$;
comment on function private.finish_connection is
  'Finishes a consent for a browser that came back from the provider. Authorization: callable by the server only; acts as the person of the state. Errors: 400 OAUTH_STATE_INVALID.';
grant execute on function private.finish_connection to kijko_server;

create or replace function private.provider_name(p_provider text) returns text
language sql immutable parallel safe
return case p_provider when 'github' then 'GitHub' when 'gitlab' then 'GitLab' when 'bitbucket' then 'Bitbucket' when 'azure' then 'Azure DevOps'
  when 'okta' then 'Okta' when 'azure_ad' then 'Microsoft Entra ID' else p_provider end;
comment on function private.provider_name is 'The name that people know a provider by.';

create or replace function private.drop_connection(p_provider text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from private.git_connections c where c.user_id = private.user_id() and c.provider = p_provider;
  if found then
    delete from private.repository_checks r where r.user_id = private.user_id() and r.provider = p_provider;
    perform private.audit('integration.disconnected', format('Disconnected the account at %s.', private.provider_name(p_provider)),
      jsonb_build_object('provider', p_provider));
  end if;
end
$$;
comment on function private.drop_connection is 'Ends the caller''s connection; a job gives the token back. Authorization: only the caller''s own row.';
grant execute on function private.drop_connection to authenticated;

-- -------------------------------------------------------------------------------------------------------------------------- tokens

create or replace function private.end_token(p_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.provider_tokens t set state = 'ending', updated_at = now() where t.id = p_id and t.state = 'live';
  if found then
    perform private.enqueue('connections.revoke', jsonb_build_object('tokenId', p_id), now(), 'connections.revoke:' || p_id);
  else
    delete from private.provider_tokens t where t.id = p_id and t.state = 'broken';
  end if;
end
$$;
comment on function private.end_token is 'A token that nothing uses any more is given back to its provider by a job, then forgotten. Authorization: callable by functions of ours only.';

create or replace function private.tg__end_token() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.end_token(old.token_id);
  return null;
end
$$;
comment on function private.tg__end_token is 'Trigger: with its connection a token ends, also where an account or a project was deleted.';
create or replace trigger _500_end_token after delete on private.git_connections for each row execute function private.tg__end_token();
create or replace trigger _500_end_token after delete on private.directory_syncs for each row execute function private.tg__end_token();

create or replace function private.git_token_id(p_user_id uuid, p_provider text) returns uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select c.token_id from private.git_connections c where c.user_id = p_user_id and c.provider = p_provider);
end
$$;
comment on function private.git_token_id is 'The token of a person at a Git provider, or null. Authorization: callable by server and worker only, for the caller of a request or the starter of a run.';

-- The answer's state: ok: use the token; refresh: the caller holds the lease for 30 s; wait: another process refreshes the token; broken;
-- none.
create or replace function private.lease_token(p_id uuid, p_owner uuid, p_refused integer)
returns table (state text, provider text, sealed text, version integer)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  t private.provider_tokens;
begin
  -- Most tokens are valid: they are read without a lock.
  select * into t from private.provider_tokens x where x.id = p_id;
  if t.state = 'live' and coalesce(t.expires_at > now() + interval '1 minute', true) and t.version is distinct from p_refused then
    return query select 'ok', t.provider, t.sealed_token, t.version;
    return;
  end if;
  select * into t from private.provider_tokens x where x.id = p_id for update;
  if t.id is null or t.state = 'ending' then
    return query select 'none', null::text, null::text, null::integer;
  elsif t.state = 'broken' then
    return query select 'broken', t.provider, null::text, t.version;
  elsif coalesce(t.expires_at > now() + interval '1 minute', true) and t.version is distinct from p_refused then
    return query select 'ok', t.provider, t.sealed_token, t.version;
  elsif t.lease_until > clock_timestamp() and t.lease_owner <> p_owner then
    return query select 'wait', t.provider, null::text, t.version;
  else
    update private.provider_tokens x set lease_owner = p_owner, lease_until = clock_timestamp() + interval '30 seconds' where x.id = p_id;
    return query select 'refresh', t.provider, t.sealed_token, t.version;
  end if;
end
$$;
comment on function private.lease_token is
  'A token, or the right to refresh it. Authorization: callable by server and worker only, who open what is sealed.';

create or replace function private.renew_token(p_id uuid, p_owner uuid, p_sealed text, p_expires_at timestamptz) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.provider_tokens t
  set sealed_token = p_sealed, expires_at = p_expires_at, version = t.version + 1, lease_owner = null, lease_until = null, updated_at = now()
  where t.id = p_id and t.lease_owner = p_owner and t.state = 'live';
  return found;
end
$$;
comment on function private.renew_token is 'Stores what a refresh gave, where the lease still stands. Authorization: callable by server and worker only.';

create or replace function private.release_token(p_id uuid, p_owner uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.provider_tokens t set lease_owner = null, lease_until = null where t.id = p_id and t.lease_owner = p_owner;
end
$$;
comment on function private.release_token is 'Gives the lease of a refresh back that brought nothing. Authorization: callable by server and worker only.';

-- Marks only the version that the provider refused: another process may have stored a good token meanwhile.
create or replace function private.break_token(p_id uuid, p_version integer) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_provider text;
  v_user uuid;
  v_org uuid;
begin
  update private.provider_tokens t set state = 'broken', lease_owner = null, lease_until = null, updated_at = now()
  where t.id = p_id and t.version = p_version and t.state = 'live' returning t.provider into v_provider;
  if not found then
    return;
  end if;
  select c.user_id into v_user from private.git_connections c where c.token_id = p_id;
  if not found then
    update private.directory_syncs d set error = 'The directory has ended the connection. Connect it again.', updated_at = now()
    where d.token_id = p_id returning d.connected_by, d.organization_id into v_user, v_org;
  end if;
  if v_user is not null then
    perform private.notify(v_user, 'system_update', format('The connection to %s has ended', private.provider_name(v_provider)),
      'The provider does not accept it any more. Connect the account again.', jsonb_build_object('provider', v_provider), '/?tab=integrations', false,
      format('connection:%s:%s:%s', v_user, v_provider, current_date), null, v_org);
  end if;
end
$$;
comment on function private.break_token is 'Notes that a provider refuses a token, and tells its person, once a day. Authorization: callable by server and worker only.';

create or replace function private.ending_token(p_id uuid) returns table (provider text, sealed text)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query select t.provider, t.sealed_token from private.provider_tokens t where t.id = p_id and t.state = 'ending';
end
$$;
comment on function private.ending_token is 'A token that is to be given back; no row otherwise. Authorization: callable by the worker only.';

create or replace function private.forget_token(p_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from private.provider_tokens t where t.id = p_id and t.state = 'ending';
end
$$;
comment on function private.forget_token is 'Forgets a token that was given back. Authorization: callable by the worker only.';
grant execute on function private.git_token_id, private.lease_token, private.renew_token, private.release_token, private.break_token
  to kijko_server, kijko_worker;
grant execute on function private.ending_token, private.forget_token to kijko_worker;

-- ----------------------------------------------------------------------------------------------------------------------- discovery

create or replace function private.known_check(p_url text) returns jsonb
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (select r.info from private.repository_checks r
    where r.user_id = private.user_id() and r.url = p_url and r.checked_at > now() - interval '10 minutes');
end
$$;
comment on function private.known_check is 'What a provider told the caller of a repository within ten minutes, or null. Authorization: only the caller''s own rows.';
grant execute on function private.known_check to authenticated;

-- {userId, url, provider, info}
create or replace function private.keep_check(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := private.as_uuid(p ->> 'userId');
begin
  delete from private.repository_checks r where r.user_id = v_user and (r.checked_at < now() - interval '10 minutes' or r.url in (
    select o.url from private.repository_checks o where o.user_id = v_user order by o.checked_at desc offset 199));
  insert into private.repository_checks as r (user_id, url, provider, info)
  select u.id, p ->> 'url', p ->> 'provider', p -> 'info' from public.users u where u.id = v_user
  on conflict (user_id, url) do update set info = excluded.info, provider = excluded.provider, checked_at = now();
  return null;
end
$$;
comment on function private.keep_check is 'Keeps what a provider told a caller; at most 200 a person. Authorization: callable by the server only, for the caller of a request.';
grant execute on function private.keep_check to kijko_server;

-- Estimates use the known size of repositories whose size the caller does not give (contract 10, 7.4).
create or replace function private.with_known_sizes(p_repositories jsonb) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(case when coalesce(r ->> 'locEstimate', r ->> 'fileCount') is null and jsonb_typeof(r) = 'object'
    then r || coalesce((select jsonb_build_object('locEstimate', k -> 'locEstimate', 'fileCount', k -> 'fileCount')
      from private.parse_repository_url(r ->> 'url') u, private.known_check(u.url) k where k is not null), '{}') else r end), '[]')
  from jsonb_array_elements(p_repositories) r
$$;
comment on function private.with_known_sizes is 'Repositories of an estimate, with the sizes that a provider told the caller lately.';
grant execute on function private.with_known_sizes to authenticated;

-- ------------------------------------------------------------------------------------------------------------------------ schedule

create or replace function private.tend_connections(p_at timestamptz default now()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from private.connection_states s where s.expires_at <= p_at;
  delete from private.repository_checks r where r.checked_at < p_at - interval '10 minutes';
  -- A revocation that the provider has not accepted for a week is dropped.
  delete from private.provider_tokens t where t.state = 'ending' and t.updated_at < p_at - interval '7 days';
  perform private.enqueue('connections.sync', jsonb_build_object('projectId', d.project_id), p_at, 'connections.sync:' || d.project_id)
  from private.directory_syncs d join private.provider_tokens t on t.id = d.token_id and t.state = 'live'
  where coalesce(d.last_sync_at, '-infinity') < p_at - interval '1 hour' and d.updated_at < p_at - interval '1 hour';
end
$$;
comment on function private.tend_connections is
  'Forgets what is over, and has directories read once an hour. Authorization: callable by schedules only.';
