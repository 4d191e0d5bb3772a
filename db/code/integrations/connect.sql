-- Connecting, and the steps after it. The server talks to a provider and seals its tokens. Whether the caller may connect is checked here,
-- so that psql and Supabase's API meet the same rules. Functions that take a sealed text are closed to strangers.

-- {provider, body, isReconnect, isConfigured, isKeyed}: the connection that the caller may make, before a request goes out.
create or replace function private.check_connection(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  b jsonb := p -> 'body';
  a public.integration_apps;
  i public.integrations;
  v_scopes text[];
  v_config jsonb;
  v_again constant boolean := coalesce(private.as_bool(p -> 'isReconnect', 'isReconnect'), false);
begin
  perform private.require_permission('canManageIntegrations');
  a := private.require_integration_app(p ->> 'provider');
  select * into i from public.integrations x where x.organization_id = private.org_id() and x.provider = a.id;
  if v_again then
    if i.id is null then
      perform private.refuse(404, 'INTEGRATION_NOT_FOUND', 'This integration is not connected.');
    end if;
    perform private.refuse_built_in(a.auth);
  end if;
  if i.status = 'active' and not coalesce(private.as_bool(p -> 'isKeyed', 'isKeyed'), false) then
    perform private.refuse(409, 'ALREADY_CONNECTED', format('%s is connected already.', a.name));
  end if;
  v_scopes := case when v_again and (b -> 'scopes') is null then i.scopes else private.integration_scopes(a, b -> 'scopes') end;
  v_config := coalesce(private.integration_config(a.id, b -> 'config'), i.config);
  if a.auth = 'key' and not (v_again and (b -> 'credentials') is null) then
    if coalesce(jsonb_typeof(b -> 'credentials'), '') <> 'object' or coalesce(jsonb_typeof(b -> 'credentials' -> 'apiKey'), '') <> 'string'
      or char_length(b -> 'credentials' ->> 'apiKey') not between 1 and 500 or coalesce(jsonb_typeof(b -> 'credentials' -> 'secret'), 'string') <> 'string'
      or char_length(b -> 'credentials' ->> 'secret') > 500 then
      perform private.refuse_field('credentials', format('%s needs credentials with an apiKey.', a.name));
    end if;
  end if;
  if a.auth = 'oauth' and not coalesce(private.as_bool(p -> 'isConfigured', 'isConfigured'), false) then
    perform private.refuse(503, 'PROVIDER_NOT_CONFIGURED', format('This installation has no client at %s. Ask its operator.', a.name), null,
      jsonb_build_object('provider', a.id));
  end if;
  return jsonb_build_object('provider', a.id, 'auth', a.auth, 'scopes', to_jsonb(v_scopes), 'config', v_config, 'organizationId', private.org_id(),
    'integrationId', i.id);
end
$$;
comment on function private.check_connection is
  'What connecting a provider would store. Errors: 403 FORBIDDEN, 404 INTEGRATION_NOT_FOUND, 409 ALREADY_CONNECTED, BUILT_IN_INTEGRATION, 400 VALIDATION_ERROR, 503 PROVIDER_NOT_CONFIGURED.';
grant execute on function private.check_connection to authenticated;

-- The sealed key of an integration that is reconnected without a new one.
create or replace function private.sealed_integration_key(p_provider text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.refuse_strangers('A key is verified through the API.');
  perform private.require_permission('canManageIntegrations');
  return (
    select to_jsonb(s.sealed) from private.integration_secrets s join public.integrations i on i.id = s.integration_id
    where i.organization_id = private.org_id() and i.provider = p_provider
  );
end
$$;
comment on function private.sealed_integration_key is 'Authorization: members who manage integrations, through our server only, which opens it.';
grant execute on function private.sealed_integration_key to authenticated;

create or replace function private.begin_integration(p jsonb, p_what jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.refuse_strangers('An integration is connected through the API, which speaks to the provider.');
  perform private.require_permission('canManageIntegrations');
  -- Keeps the last hundred of one person; older ones are deleted.
  delete from private.integration_states s
  where s.state_hash in (select o.state_hash from private.integration_states o
    where o.organization_id = private.org_id() and o.user_id = private.user_id() order by o.created_at desc offset 99);
  insert into private.integration_states (state_hash, organization_id, user_id, provider, scopes, config, redirect_uri, sealed, expires_at)
  values (decode(p ->> 'stateHash', 'hex'), private.org_id(), private.user_id(), p_what ->> 'provider',
    array(select jsonb_array_elements_text(p_what -> 'scopes')), nullif(p_what -> 'config', 'null'), p -> 'body' ->> 'redirectUri', p ->> 'sealed',
    now() + interval '10 minutes');
end
$$;
comment on function private.begin_integration is
  'Stores the way to a provider and back. Authorization: members who manage integrations, through our server only, which seals the state.';

create or replace function private.store_integration(
  p_org_id uuid, p_user_id uuid, p_what jsonb, p_sealed text, p_calls jsonb, p_session text
) returns public.integrations
language plpgsql volatile security definer set search_path = ''
as $$
declare
  i public.integrations;
  v_name text := (select a.name from public.integration_apps a where a.id = p_what ->> 'provider');
begin
  insert into public.integrations as x (organization_id, provider, scopes, config, connected_by)
  values (p_org_id, p_what ->> 'provider', array(select jsonb_array_elements_text(p_what -> 'scopes')), nullif(p_what -> 'config', 'null'), p_user_id)
  on conflict (organization_id, provider) do update
    set scopes = excluded.scopes, config = coalesce(excluded.config, x.config), connected_by = excluded.connected_by, status = 'active',
      last_sync_at = clock_timestamp(), sync_failures = 0, sync_requested_at = null, sync_token = null, sync_lease_until = null, sync_leases = 0
    where x.status <> 'active'
  returning * into i;
  if not found then
    perform private.refuse(409, 'ALREADY_CONNECTED', format('%s is connected already.', v_name));
  end if;
  -- Former secrets mean nothing to the provider any more, or never did.
  insert into private.integration_secrets as s (integration_id, sealed) values (i.id, p_sealed)
  on conflict (integration_id) do update set sealed = excluded.sealed, updated_at = now();
  perform private.count_calls(i.id, null, 'Kijko', p_session, p_calls);
  perform private.log_integration(i.id, null, 'info', case when i.last_sync_at is null then 'Connected.' else 'Reconnected.' end);
  perform private.audit('integration.connected', format('Connected %s.', v_name), jsonb_build_object('provider', i.provider, 'scopes', to_jsonb(i.scopes)),
    null, p_org_id, p_user_id);
  return i;
end
$$;
comment on function private.store_integration is
  'An integration with its sealed tokens, new or again. Authorization: callable by definer functions of ours only.';

-- The sealed credentials of a key, after one call has verified them.
create or replace function private.store_key_integration(p jsonb, p_what jsonb) returns public.integrations
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.refuse_strangers('A key is verified by the API before it is stored.');
  perform private.require_permission('canManageIntegrations');
  return private.store_integration(private.org_id(), private.user_id(), p_what, p ->> 'sealed', p -> 'calls',
    coalesce(private.session_id(), private.user_id())::text);
end
$$;
comment on function private.store_key_integration is 'Authorization: members who manage integrations, through our server only, which has verified and sealed the key.';
grant execute on function private.begin_integration, private.store_key_integration to authenticated;

-- Besides the contract's members the server sends {stateHash, sealed, calls, isConfigured, isReconnect}. Where the provider asks for
-- consent the answer is {sealed}, from which the server makes {authorizationUrl, state}; so a replayed answer (Idempotency-Key) repeats the
-- first state.
create or replace function api.connect_integration(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_what jsonb := private.check_connection(p);
begin
  if v_what ->> 'auth' = 'oauth' then
    perform private.begin_integration(p, v_what);
    perform set_config('response.status', '202', true);
    return jsonb_build_object('sealed', p ->> 'sealed', 'scopes', v_what -> 'scopes');
  end if;
  perform private.refuse_built_in(v_what ->> 'auth');
  perform set_config('response.status', '201', true);
  return private.integration_json(private.store_key_integration(p, v_what));
end
$$;
comment on function api.connect_integration is
  'POST /integrations/{provider}/connect and /reconnect. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 INTEGRATION_NOT_FOUND, 409 ALREADY_CONNECTED, BUILT_IN_INTEGRATION, 503 PROVIDER_NOT_CONFIGURED.';
grant execute on function api.connect_integration to authenticated;

create or replace function api.reconnect_integration(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return api.connect_integration(private.as_object(p, 'p') || '{"isReconnect": true}');
end
$$;
comment on function api.reconnect_integration is
  'POST /integrations/{provider}/reconnect. Errors: as connect_integration.';
grant execute on function api.reconnect_integration to authenticated;

-- {stateHash}: returns the data of a state, and uses the state up; {outcome: unknown, used, expired or ok}.
create or replace function private.take_integration_state(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s private.integration_states;
  v_way jsonb;
begin
  update private.integration_states x set used_at = clock_timestamp()
  where x.state_hash = decode(p ->> 'stateHash', 'hex') and x.used_at is null and x.expires_at > clock_timestamp()
  returning * into s;
  if found then
    return jsonb_build_object('outcome', 'ok', 'provider', s.provider, 'redirectUri', s.redirect_uri, 'organizationId', s.organization_id,
      'userId', s.user_id, 'sealed', s.sealed, 'what', jsonb_build_object('provider', s.provider, 'scopes', to_jsonb(s.scopes), 'config', s.config));
  end if;
  select jsonb_build_object('outcome', case when x.used_at is not null then 'used' else 'expired' end, 'provider', x.provider, 'redirectUri', x.redirect_uri)
  into v_way from private.integration_states x where x.state_hash = decode(p ->> 'stateHash', 'hex');
  return coalesce(v_way, '{"outcome": "unknown"}');
end
$$;
comment on function private.take_integration_state is 'Uses a state up and gives its way. Authorization: callable by the server only; who has the state may.';

-- {organizationId, userId, what, sealed, calls}: the person who began the connection must still be allowed to make it.
create or replace function private.finish_integration(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org constant uuid := private.as_uuid(p ->> 'organizationId');
  v_user constant uuid := private.as_uuid(p ->> 'userId');
begin
  if not exists (
    select from public.memberships m join public.role_permissions r on r.role = m.role and r.permission = 'canManageIntegrations'
    where m.organization_id = v_org and m.user_id = v_user and m.status = 'active') then
    perform private.refuse(403, 'FORBIDDEN', 'Who began this may not manage integrations any more.');
  end if;
  return private.integration_json(private.store_integration(v_org, v_user, p -> 'what', p ->> 'sealed', p -> 'calls', coalesce(p ->> 'session', v_user::text)));
end
$$;
comment on function private.finish_integration is
  'Stores what a provider gave for a state. Authorization: callable by the server only; the person of the state must still manage integrations. Errors: 403 FORBIDDEN, 409 ALREADY_CONNECTED.';
grant execute on function private.take_integration_state, private.finish_integration to kijko_server;

-- --------------------------------------------------------------------------------------------------- changing and disconnecting

create or replace function private.drop_integration(p_provider text) returns public.integrations
language plpgsql volatile security definer set search_path = ''
as $$
declare
  a public.integration_apps;
  i public.integrations;
begin
  perform private.require_permission('canManageIntegrations');
  a := private.require_integration_app(p_provider);
  perform private.refuse_built_in(a.auth);
  delete from public.integrations x where x.organization_id = private.org_id() and x.provider = a.id returning * into i;
  if not found then
    perform private.refuse(404, 'INTEGRATION_NOT_FOUND', 'This integration is not connected.');
  end if;
  perform private.audit('integration.disconnected', format('Disconnected %s.', a.name), jsonb_build_object('provider', a.id));
  return i;
end
$$;
comment on function private.drop_integration is
  'Disconnects; a trigger has the provider told. Authorization: members who manage integrations of the organization. Errors: 403 FORBIDDEN, 404 INTEGRATION_NOT_FOUND, 409 BUILT_IN_INTEGRATION.';

create or replace function private.set_integration_config(p_provider text, p_config jsonb) returns public.integrations
language plpgsql volatile security definer set search_path = ''
as $$
declare
  i public.integrations;
begin
  perform private.require_permission('canManageIntegrations');
  i := private.require_integration(p_provider);
  update public.integrations x set config = private.integration_config(p_provider, p_config) where x.id = i.id returning * into i;
  return i;
end
$$;
comment on function private.set_integration_config is 'Authorization: members who manage integrations of the organization. Errors: 400, 403 FORBIDDEN, 404 INTEGRATION_NOT_FOUND.';

create or replace function private.revoke_permission(p_provider text, p_permission text) returns public.integrations
language plpgsql volatile security definer set search_path = ''
as $$
declare
  a public.integration_apps;
  i public.integrations;
begin
  perform private.require_permission('canManageIntegrations');
  a := private.require_integration_app(p_provider);
  perform private.refuse_built_in(a.auth);
  select * into i from public.integrations x where x.organization_id = private.org_id() and x.provider = a.id for update;
  if not found or not coalesce(p_permission = any (i.scopes), false) then
    perform private.refuse(404, 'INTEGRATION_NOT_FOUND', 'This integration has no such permission.');
  end if;
  perform private.audit('integration.permission_revoked', format('Took the permission %s from %s.', p_permission, a.name),
    jsonb_build_object('provider', a.id, 'permission', p_permission));
  if cardinality(i.scopes) = 1 then
    i := private.drop_integration(a.id);
    i.scopes := '{}';
    return i;
  end if;
  update public.integrations x set scopes = array_remove(x.scopes, p_permission) where x.id = i.id returning * into i;
  perform private.log_integration(i.id, null, 'info', format('The permission %s was taken away.', p_permission));
  return i;
end
$$;
comment on function private.revoke_permission is
  'Takes one permission away; the last one disconnects. Authorization: members who manage integrations of the organization. Errors: 403 FORBIDDEN, 404 INTEGRATION_NOT_FOUND, 409 BUILT_IN_INTEGRATION.';

create or replace function private.request_sync(p_provider text) returns public.integrations
language plpgsql volatile security definer set search_path = ''
as $$
declare
  i public.integrations;
begin
  perform private.require_permission('canManageIntegrations');
  i := private.require_integration(p_provider);
  perform private.refuse_built_in((select a.auth from public.integration_apps a where a.id = p_provider));
  update public.integrations x set sync_requested_at = clock_timestamp(), sync_leases = 0
  where x.id = i.id and x.sync_requested_at is null returning * into i;
  if not found then
    perform private.refuse(409, 'SYNC_IN_PROGRESS', 'A synchronization is running already.');
  end if;
  perform private.enqueue('integrations.run', jsonb_build_object('integrationId', i.id), p_queue => 'integrations');
  return i;
end
$$;
comment on function private.request_sync is
  'Has a job renew the tokens and ask the provider who we are. Authorization: members who manage integrations of the organization. Errors: 403 FORBIDDEN, 404 INTEGRATION_NOT_FOUND, 409 SYNC_IN_PROGRESS, BUILT_IN_INTEGRATION.';
grant execute on function private.drop_integration, private.set_integration_config, private.revoke_permission, private.request_sync to authenticated;
