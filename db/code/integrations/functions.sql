-- The connections of an organization (contract 40, section 8): shapes, rules, logs and numbers.

create or replace function private.integration_app_json(a public.integration_apps) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', a.id, 'name', a.name, 'category', a.category, 'description', a.description, 'icon', a.icon,
  'permissions', to_jsonb(a.permissions), 'isPopular', a.is_popular);
comment on function private.integration_app_json is 'IntegrationApp of the contract.';

create or replace function private.integration_json(i public.integrations) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', i.id, 'provider', i.provider, 'scopes', to_jsonb(i.scopes),
  'connectedAt', private.iso(i.connected_at), 'lastSyncAt', private.iso(i.last_sync_at), 'status', i.status));
comment on function private.integration_json is 'ConnectedIntegration of the contract.';

-- Nulls within a configuration are the writer's own values and stay.
create or replace function private.connection_json(i public.integrations, p_auth text) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', i.id, 'integrationId', i.provider, 'integrationType', 'pre_built',
    'status', case when p_auth = 'built_in' then 'default' when i.status = 'active' then 'connected' else 'warning' end,
    'lastSyncedAt', private.iso(i.last_sync_at), 'createdAt', private.iso(i.created_at)))
  || case when i.config is null then '{}' else jsonb_build_object('config', i.config) end;
comment on function private.connection_json is 'IntegrationConnection of a pre-built integration.';

create or replace function private.connector_connection_json(c public.connectors) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', c.id, 'integrationId', c.id, 'integrationType', 'custom',
    'status', case c.status when 'active' then 'connected' when 'inactive' then 'warning' else 'disconnected' end,
    'lastSyncedAt', private.iso(c.last_used_at), 'createdAt', private.iso(c.created_at)))
  || case when c.config is null then '{}' else jsonb_build_object('config', c.config) end;
comment on function private.connector_connection_json is 'IntegrationConnection of a custom connector.';

create or replace function private.connector_json(c public.connectors) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', c.id, 'name', c.name, 'description', c.description, 'remoteMcpServerUrl', c.remote_mcp_server_url,
    'category', c.category, 'iconUrl', c.icon_url, 'authType', c.auth_type, 'createdAt', private.iso(c.created_at),
    'updatedAt', private.iso(c.updated_at), 'lastUsedAt', private.iso(c.last_used_at), 'status', c.status))
  || case when c.config is null then '{}' else jsonb_build_object('config', c.config) end;
comment on function private.connector_json is 'CustomConnector of the contract; values of headers are masks.';
grant execute on function private.integration_app_json, private.integration_json, private.connection_json, private.connector_connection_json,
  private.connector_json to authenticated;

-- ------------------------------------------------------------------------------------------------------------------------- rules

create or replace function private.require_integration_app(p_provider text) returns public.integration_apps
language plpgsql stable
as $$
declare
  a public.integration_apps;
begin
  select * into a from public.integration_apps x where x.id = p_provider;
  if not found then
    perform private.refuse(404, 'INTEGRATION_NOT_FOUND', 'There is no such integration.');
  end if;
  return a;
end
$$;
comment on function private.require_integration_app is 'The entry of the catalogue, or 404 INTEGRATION_NOT_FOUND.';

create or replace function private.require_integration(p_provider text) returns public.integrations
language plpgsql stable
as $$
declare
  i public.integrations;
begin
  perform private.require_integration_app(p_provider);
  select * into i from public.integrations x where x.organization_id = private.org_id() and x.provider = p_provider;
  if not found then
    perform private.refuse(404, 'INTEGRATION_NOT_FOUND', 'This integration is not connected.');
  end if;
  return i;
end
$$;
comment on function private.require_integration is 'The caller''s integration with a provider, or 404 INTEGRATION_NOT_FOUND.';

create or replace function private.refuse_built_in(p_auth text) returns void
language plpgsql stable
as $$
begin
  if p_auth = 'built_in' then
    perform private.refuse(409, 'BUILT_IN_INTEGRATION', 'This integration is part of Kijko and always connected.');
  end if;
end
$$;
comment on function private.refuse_built_in is '409 BUILT_IN_INTEGRATION for what is part of the product.';

-- A list of texts, or 400 that names the field.
create or replace function private.as_texts(p_value jsonb, p_field text, p_limit integer, p_length integer) returns text[]
language plpgsql stable
as $$
declare
  v_list jsonb := private.as_array(p_value, p_field);
begin
  if v_list is null then
    return null;
  elsif jsonb_array_length(v_list) > p_limit then
    perform private.refuse_field(p_field, format('%s has at most %s entries.', p_field, p_limit));
  elsif exists (select from jsonb_array_elements(v_list) e
    where jsonb_typeof(e) <> 'string' or char_length(e #>> '{}') not between 1 and p_length) then
    perform private.refuse_field(p_field, format('Each entry of %s is a text of 1 to %s characters.', p_field, p_length));
  end if;
  return array(select jsonb_array_elements_text(v_list));
end
$$;
comment on function private.as_texts is 'The member as a list of texts, null where it is absent, or 400 VALIDATION_ERROR about the field.';

create or replace function private.integration_scopes(a public.integration_apps, p_value jsonb) returns text[]
language plpgsql stable
as $$
declare
  v_scopes text[] := private.as_texts(p_value, 'scopes', 50, 100);
begin
  if v_scopes is null then
    return a.permissions;
  elsif cardinality(v_scopes) = 0 or not v_scopes <@ a.permissions then
    perform private.refuse_field('scopes', format('Scopes of %s are: %s.', a.name, array_to_string(a.permissions, ', ')));
  end if;
  -- In the order of the catalogue, each once.
  return array(select s from unnest(a.permissions) with ordinality as u (s, n) where s = any (v_scopes) order by n);
end
$$;
comment on function private.integration_scopes is 'The wanted permissions of a provider, all of them where none are named, or 400 VALIDATION_ERROR about scopes.';

create or replace function private.integration_config(p_provider text, p_value jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_config jsonb;
  v_key text;
  v_kind text;
begin
  if p_value is null or p_value = 'null' then
    return null;
  end if;
  v_config := private.as_object(p_value, 'config');
  if private.json_bytes(v_config) > 16384 then
    perform private.refuse_field('config', 'The configuration has at most 16 KB.');
  end if;
  select k.key, k.kind into v_key, v_kind
  from (values
    ('google-drive', 'folderIds', 'list'), ('onedrive', 'folderIds', 'list'), ('dropbox', 'folderIds', 'list'), ('slack', 'channelId', 'text'),
    ('microsoft-teams', 'channelId', 'text'), ('discord', 'channelId', 'text'), ('github', 'repositories', 'list'), ('gitlab', 'repositories', 'list'),
    ('jira', 'projectKeys', 'list'), ('notion', 'databaseIds', 'list'), ('google-analytics', 'propertyId', 'text'), ('mixpanel', 'projectId', 'text'),
    ('amplitude', 'projectId', 'text')) k(provider, key, kind)
  where k.provider = p_provider;
  if v_config ? v_key and v_config -> v_key <> 'null' then
    if v_kind = 'list' then
      perform private.as_texts(v_config -> v_key, 'config.' || v_key, 200, 200);
    elsif jsonb_typeof(v_config -> v_key) <> 'string' or char_length(v_config ->> v_key) not between 1 and 200 then
      perform private.refuse_field('config.' || v_key, format('%s is a text of 1 to 200 characters.', v_key));
    end if;
  end if;
  return v_config;
end
$$;
comment on function private.integration_config is 'The configuration of a provider after its checks, null where it is absent, or 400 VALIDATION_ERROR.';
grant execute on function private.require_integration_app, private.require_integration, private.refuse_built_in, private.as_texts,
  private.integration_scopes, private.integration_config to authenticated;

-- -------------------------------------------------------------------------------------------------- what happened, and its numbers

create or replace function private.log_integration(p_integration_id uuid, p_connector_id uuid, p_level text, p_message text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.integration_logs (integration_id, connector_id, level, message)
  values (p_integration_id, p_connector_id, p_level, left(p_message, 500));
end
$$;
comment on function private.log_integration is 'Writes a line about an integration or a connector. Authorization: callable by definer functions and triggers of ours only.';

-- p: [{tool, ok, ms}] in the order of the requests.
create or replace function private.count_calls(p_integration_id uuid, p_connector_id uuid, p_client text, p_session text, p jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.integration_calls (integration_id, connector_id, tool, client, session, is_ok, ms)
  select p_integration_id, p_connector_id, left(c ->> 'tool', 100), p_client, left(p_session, 100), (c ->> 'ok')::boolean, greatest(0, (c ->> 'ms')::integer)
  from jsonb_array_elements(coalesce(p, '[]')) c;
end
$$;
comment on function private.count_calls is 'Keeps the numbers of requests that were made. Authorization: callable by definer functions of ours only.';

-- Finds an integration or a connector of the caller's organization by its id. An integration is also found by its provider, because screens
-- have that one.
create or replace function private.find_integration(p_id text, out integration_id uuid, out connector_id uuid)
language plpgsql stable
as $$
begin
  select i.id into integration_id from public.integrations i
  where i.organization_id = private.org_id() and (i.id = private.as_uuid(p_id) or i.provider = p_id);
  select c.id into connector_id from public.connectors c where c.organization_id = private.org_id() and c.id = private.as_uuid(p_id);
  if integration_id is null and connector_id is null then
    perform private.refuse(404, 'INTEGRATION_NOT_FOUND', 'There is no such integration.');
  end if;
end
$$;
comment on function private.find_integration is 'What the id means to the caller: an integration or a connector, or 404 INTEGRATION_NOT_FOUND.';
grant execute on function private.find_integration to authenticated;

create or replace function private.integration_logs_json(p_id text, p_limit integer, p_offset integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v record;
  v_rows jsonb;
begin
  select * into v from private.find_integration(p_id);
  select coalesce(jsonb_agg(jsonb_build_object('id', l.id, 'level', l.level, 'message', l.message, 'createdAt', private.iso(l.created_at))
    order by l.created_at desc, l.id desc), '[]') into v_rows
  from (
    select * from private.integration_logs x
    where (x.integration_id = v.integration_id or x.connector_id = v.connector_id)
    order by x.created_at desc, x.id desc limit p_limit + 1 offset p_offset
  ) l;
  return jsonb_build_object('logs', case when jsonb_array_length(v_rows) > p_limit then v_rows - p_limit else v_rows end,
    'hasMore', jsonb_array_length(v_rows) > p_limit);
end
$$;
comment on function private.integration_logs_json is 'A page of lines, newest first. Authorization: only what belongs to the caller''s organization.';

create or replace function private.integration_stats_json(p_id text, p_at timestamptz default now()) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v record;
  v_today constant date := (p_at at time zone 'UTC')::date;
  v_result jsonb;
begin
  select * into v from private.find_integration(p_id);
  with calls as materialized (
    select c.*, (c.created_at at time zone 'UTC')::date as day from private.integration_calls c
    where (c.integration_id = v.integration_id or c.connector_id = v.connector_id)
      and c.created_at >= (v_today - 6)::timestamp at time zone 'UTC' and c.created_at < (v_today + 1)::timestamp at time zone 'UTC'
  ), tools as (
    select tool, count(*) as n, avg(ms) as ms, avg(is_ok::integer) as up from calls group by tool order by count(*) desc, tool limit 10
  ), days as (
    select day, avg(ms) as ms, avg(is_ok::integer) as up from calls group by day
  ), clients as (
    select client, count(distinct session) as n from calls group by client order by count(distinct session) desc, client limit 5
  ), sessions as (
    select d::date as day, (select count(distinct c.session) from calls c where c.day = d::date) as n
    from generate_series((v_today - 6)::timestamp, v_today::timestamp, interval '1 day') d
  )
  select jsonb_build_object(
    'performance', jsonb_build_object(
      'tools', (select jsonb_agg(jsonb_build_object('tool', t.tool, 'calls', t.n, 'latency', to_char(t.ms / 1000, 'FM999990.0') || 's',
        'uptime', to_char(t.up * 100, 'FM990.0') || '%') order by t.n desc, t.tool) from tools t),
      'latencyData', (select jsonb_agg(jsonb_build_object('date', to_char(d.day, 'Mon FMDD'), 'latency', round(d.ms / 1000, 1)) order by d.day) from days d),
      'uptimeData', (select jsonb_agg(jsonb_build_object('date', to_char(d.day, 'Mon FMDD'), 'uptime', round(d.up * 100, 1)) order by d.day) from days d)),
    'usage', jsonb_build_object(
      'topClients', (select jsonb_agg(jsonb_build_object('name', c.client, 'sessions', c.n) order by c.n desc, c.client) from clients c),
      'dailySessions', (select jsonb_agg(jsonb_build_object('date', to_char(s.day, 'Mon FMDD'), 'sessions', s.n) order by s.day) from sessions s)))
  into v_result
  where exists (select from calls);
  return coalesce(v_result, '{}');
end
$$;
comment on function private.integration_stats_json is 'IntegrationStats of the last seven days. Authorization: only what belongs to the caller''s organization.';
grant execute on function private.integration_logs_json, private.integration_stats_json to authenticated;

-- Notifies the owner, the admins and the member who gave the consent, once a day and connection.
create or replace function private.notify_broken_integration(i public.integrations) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.notify_all(
    array(select u from unnest(private.organization_leaders(i.organization_id)) u
      union select m.user_id from public.memberships m
        where m.organization_id = i.organization_id and m.user_id = i.connected_by and m.status = 'active'),
    'system_update',
    format('%s needs to be reconnected', (select a.name from public.integration_apps a where a.id = i.provider)),
    case i.status when 'expired' then 'The provider does not accept our access any more.' else 'The last five attempts to reach it failed.' end,
    jsonb_build_object('organizationId', i.organization_id, 'integrationId', i.id, 'provider', i.provider, 'status', i.status), '/?tab=integrations', false,
    format('integration:%s:%s:%s', i.id, i.status, (now() at time zone 'UTC')::date), null, i.organization_id);
end
$$;
comment on function private.notify_broken_integration is 'Tells that a connection expired or failed. Authorization: callable by definer functions of ours only.';
