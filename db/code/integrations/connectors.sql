-- Custom connectors: MCP servers. The server tests a connector before it is saved and seals headers and credentials. Here values of headers
-- are masks, so no secret is ever part of a statement.

create or replace function private.is_web_address(p_url text, p_schemes text) returns boolean
language sql immutable parallel safe
return char_length(p_url) <= 2048 and p_url ~ ('^(' || p_schemes || ')://[^/?#@\\[:space:][:cntrl:]]+([/?#][^[:space:][:cntrl:]]*)?$');
comment on function private.is_web_address is 'Is it an address of one of the schemes ("http|https"), without credentials, of at most 2048 characters?';
grant execute on function private.is_web_address to authenticated;

-- Addresses that our servers do not contact when they are saved: browsers load the icon, and a later caller would resolve the name again.
create or replace function private.is_outside_address(p_url text) returns boolean
language sql immutable parallel safe
return coalesce(private.is_web_address(p_url, 'https') and private.is_public_address(p_url), false);
comment on function private.is_outside_address is 'Is it an https address of a public host, without credentials, of at most 2048 characters?';
grant execute on function private.is_outside_address to authenticated;

create or replace function private.connector_config(p_old jsonb, p_value jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v jsonb := coalesce(p_old, '{}');
  c jsonb;
  v_key text;
  v_int bigint;
begin
  if p_value is null then
    return p_old;
  elsif p_value = 'null' then
    return null;
  end if;
  c := private.as_object(p_value, 'config');
  foreach v_key in array array['timeout', 'retryPolicy', 'customHeaders', 'webhookUrl'] loop
    if c ? v_key then
      v := case when c -> v_key = 'null' then v - v_key else v || jsonb_build_object(v_key, c -> v_key) end;
    end if;
  end loop;
  v_int := private.as_bigint(c -> 'timeout', 'config.timeout');
  if v_int not between 1000 and 120000 then
    perform private.refuse_field('config.timeout', 'The timeout lies between 1000 and 120000 milliseconds.');
  end if;
  c := c || jsonb_build_object('retryPolicy', private.as_object(c -> 'retryPolicy', 'config.retryPolicy'));
  if private.as_int(c -> 'retryPolicy' -> 'maxRetries', 'config.retryPolicy.maxRetries') not between 0 and 10 then
    perform private.refuse_field('config.retryPolicy.maxRetries', 'There are 0 to 10 retries.');
  elsif private.as_int(c -> 'retryPolicy' -> 'backoffMs', 'config.retryPolicy.backoffMs') < 0 then
    perform private.refuse_field('config.retryPolicy.backoffMs', 'The backoff is not negative.');
  end if;
  c := c || jsonb_build_object('customHeaders', private.as_object(c -> 'customHeaders', 'config.customHeaders'));
  if (select count(*) from jsonb_object_keys(c -> 'customHeaders')) > 20 then
    perform private.refuse_field('config.customHeaders', 'There are at most 20 headers.');
  elsif exists (select from jsonb_each(c -> 'customHeaders') h where h.value <> '"••••"' or char_length(h.key) not between 1 and 100) then
    perform private.refuse_field('config.customHeaders', 'Values of headers are sealed by the server; set them through the API.');
  elsif coalesce(c -> 'webhookUrl', 'null') <> 'null' and not private.is_outside_address(c ->> 'webhookUrl') then
    perform private.refuse_field('config.webhookUrl', 'The webhook has an https address of a public host, of at most 2048 characters.');
  end if;
  return nullif(v, '{}');
end
$$;
comment on function private.connector_config is
  'A configuration after a write: absent keeps, a null member goes, others replace; headers are masks. 400 VALIDATION_ERROR about the field.';

-- The row as it would be after a write of the body. An empty row is a new connector.
create or replace function private.written_connector(c public.connectors, b jsonb) returns public.connectors
language plpgsql stable
as $$
begin
  b := private.as_object(b, 'body');
  if b ? 'name' or c.id is null then
    c.name := private.trimmed(b ->> 'name');
    if coalesce(char_length(c.name), 0) not between 1 and 50 or not private.is_plain(c.name) then
      perform private.refuse_field('name', 'The name has 1 to 50 characters.');
    end if;
  end if;
  if b ? 'description' then
    c.description := nullif(b ->> 'description', '');
    if char_length(c.description) > 200 then
      perform private.refuse_field('description', 'The description has at most 200 characters.');
    end if;
  end if;
  if b ? 'iconUrl' and b ->> 'iconUrl' is distinct from c.icon_url then
    c.icon_url := nullif(b ->> 'iconUrl', '');
    if c.icon_url is not null and not private.is_outside_address(c.icon_url) then
      perform private.refuse_field('iconUrl', 'The icon has an https address of a public host, of at most 2048 characters.');
    end if;
  end if;
  if b ? 'remoteMcpServerUrl' or c.id is null then
    c.remote_mcp_server_url := b ->> 'remoteMcpServerUrl';
    if not coalesce(private.is_web_address(c.remote_mcp_server_url, 'https?'), false) then
      perform private.refuse_field('remoteMcpServerUrl', 'The server has an http or https address of at most 2048 characters, without credentials in it.');
    end if;
  end if;
  c.category := coalesce(b ->> 'category', c.category, 'custom');
  if c.category not in ('crm', 'communication', 'productivity', 'analytics', 'storage', 'development', 'custom') then
    perform private.refuse_field('category', 'There is no such category.');
  end if;
  c.auth_type := coalesce(b ->> 'authType', c.auth_type, 'none');
  if c.auth_type not in ('none', 'api_key', 'oauth', 'basic') then
    perform private.refuse_field('authType', 'authType is none, api_key, oauth or basic.');
  end if;
  c.config := private.connector_config(c.config, b -> 'config');
  return c;
end
$$;
comment on function private.written_connector is 'A connector after a write of its body, or 400 VALIDATION_ERROR about the field.';

create or replace function private.require_connector(p_id text) returns public.connectors
language plpgsql stable
as $$
declare
  c public.connectors;
begin
  select * into c from public.connectors x where x.organization_id = private.org_id() and x.id = private.as_uuid(p_id);
  if not found then
    perform private.refuse(404, 'CONNECTOR_NOT_FOUND', 'There is no such connector.');
  end if;
  return c;
end
$$;
comment on function private.require_connector is 'The caller''s connector, or 404 CONNECTOR_NOT_FOUND.';

create or replace function private.sealed_connector(p_id uuid, p_url text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.refuse_strangers('A connector is tested by the API when it is saved.');
  perform private.require_permission('canManageIntegrations');
  return (
    select jsonb_build_object('id', c.id, 'sealed', s.sealed) from private.integration_secrets s join public.connectors c on c.id = s.connector_id
    where c.organization_id = private.org_id() and (c.id = p_id or c.remote_mcp_server_url = p_url)
    order by c.created_at, c.id limit 1
  );
end
$$;
comment on function private.sealed_connector is
  'Sealed headers and credentials, by id or by the address that they go to anyway. Authorization: members who manage integrations, through our server only, which opens them.';

-- {connectorId?, body}: returns what a write would store, and what is sealed, for the test before it. Changes nothing.
create or replace function private.check_connector(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  c public.connectors;
  v_sealed jsonb;
begin
  perform private.require_permission('canManageIntegrations');
  if p ? 'connectorId' then
    c := private.require_connector(p ->> 'connectorId');
    v_sealed := private.sealed_connector(c.id, null);
  else
    perform private.refuse_strangers('A connector is tested by the API when it is saved.');
    perform private.refuse_connector_over_limit();
  end if;
  c := private.written_connector(c, p -> 'body');
  return jsonb_build_object('id', c.id, 'url', c.remote_mcp_server_url, 'authType', c.auth_type, 'config', c.config, 'stored', v_sealed);
end
$$;
comment on function private.check_connector is
  'What a write of a connector would store. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 CONNECTOR_NOT_FOUND, 409 TOO_MANY_CONNECTORS.';

-- {body}: the same for the test of an unsaved connector.
create or replace function private.check_connector_test(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  c public.connectors;
begin
  perform private.require_permission('canManageIntegrations');
  c := private.written_connector(c, private.as_object(p -> 'body', 'body') || '{"name": "Test"}');
  return jsonb_build_object('url', c.remote_mcp_server_url, 'authType', c.auth_type, 'config', c.config,
    'stored', private.sealed_connector(null, c.remote_mcp_server_url));
end
$$;
comment on function private.check_connector_test is 'What a test would contact. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN.';

create or replace function private.refuse_connector_over_limit() returns void
language plpgsql stable
as $$
begin
  if (select count(*) from public.connectors c where c.organization_id = private.org_id()) >= 50 then
    perform private.refuse(409, 'TOO_MANY_CONNECTORS', 'An organization has at most 50 connectors. Delete one first.', null, '{"limit": 50}');
  end if;
end
$$;
comment on function private.refuse_connector_over_limit is '409 TOO_MANY_CONNECTORS where the organization has 50.';
grant execute on function private.connector_config, private.written_connector, private.require_connector, private.sealed_connector, private.check_connector,
  private.check_connector_test, private.refuse_connector_over_limit to authenticated;

-- {id or connectorId, body, sealed (null: nothing to seal), status, calls, message}
create or replace function private.store_connector(p jsonb) returns public.connectors
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c public.connectors;
  v_ok constant boolean := p ->> 'status' = 'active';
begin
  perform private.refuse_strangers('A connector is tested by the API when it is saved.');
  perform private.require_permission('canManageIntegrations');
  if p ? 'connectorId' then
    perform private.require_connector(p ->> 'connectorId');
    select * into c from public.connectors x where x.organization_id = private.org_id() and x.id = private.as_uuid(p ->> 'connectorId') for update;
    if not found then
      perform private.refuse(404, 'CONNECTOR_NOT_FOUND', 'There is no such connector.');
    end if;
    c := private.written_connector(c, p -> 'body');
    update public.connectors x set name = c.name, description = c.description, icon_url = c.icon_url, remote_mcp_server_url = c.remote_mcp_server_url,
      category = c.category, auth_type = c.auth_type, config = c.config, status = p ->> 'status',
      last_used_at = case when v_ok then clock_timestamp() else x.last_used_at end
    where x.id = c.id returning * into c;
  else
    -- Writers of one organization are serialized, so that the limit is exact.
    perform pg_advisory_xact_lock(hashtextextended('connectors ' || private.org_id(), 0));
    perform private.refuse_connector_over_limit();
    c := private.written_connector(c, p -> 'body');
    insert into public.connectors (id, organization_id, created_by, name, description, icon_url, remote_mcp_server_url, category, auth_type, config, status,
      last_used_at)
    values (private.as_uuid(p ->> 'id'), private.org_id(), private.user_id(), c.name, c.description, c.icon_url, c.remote_mcp_server_url, c.category,
      c.auth_type, c.config, p ->> 'status', case when v_ok then clock_timestamp() end)
    returning * into c;
    perform private.audit('integration.connected', format('Added the connector "%s".', c.name),
      jsonb_build_object('provider', 'custom', 'connectorId', c.id, 'connectorName', c.name));
  end if;
  if p ->> 'sealed' is null then
    delete from private.integration_secrets s where s.connector_id = c.id;
  else
    insert into private.integration_secrets as s (connector_id, sealed) values (c.id, p ->> 'sealed')
    on conflict (connector_id) do update set sealed = excluded.sealed, updated_at = now();
  end if;
  perform private.count_calls(null, c.id, 'Kijko', coalesce(private.session_id(), private.user_id())::text, p -> 'calls');
  perform private.log_integration(null, c.id, case when v_ok then 'info' else 'error' end, coalesce(nullif(p ->> 'message', ''), 'Saved.'));
  return c;
end
$$;
comment on function private.store_connector is
  'Authorization: members who manage integrations, through our server only, which tests and seals. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 CONNECTOR_NOT_FOUND, 409 TOO_MANY_CONNECTORS.';

create or replace function private.drop_connector(p_id text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c public.connectors;
begin
  perform private.require_permission('canManageIntegrations');
  delete from public.connectors x where x.organization_id = private.org_id() and x.id = private.as_uuid(p_id) returning * into c;
  if not found then
    perform private.refuse(404, 'CONNECTOR_NOT_FOUND', 'There is no such connector.');
  end if;
  perform private.audit('integration.disconnected', format('Deleted the connector "%s".', c.name),
    jsonb_build_object('provider', 'custom', 'connectorId', c.id, 'connectorName', c.name));
end
$$;
comment on function private.drop_connector is
  'Authorization: members who manage integrations of the organization. Errors: 403 FORBIDDEN, 404 CONNECTOR_NOT_FOUND.';

-- The server has drawn the picture again. Only the server may say what is a picture.
create or replace function private.set_connector_icon(p_id text, p_data_url text) returns public.connectors
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c public.connectors;
begin
  perform private.require_permission('canManageIntegrations');
  c := private.require_connector(p_id);
  perform private.refuse_strangers('A picture is set through the API, which draws it again.');
  if coalesce(p_data_url, '') !~ '^data:image/(png|jpeg);base64,[A-Za-z0-9+/]+=*$' then
    perform private.refuse_field('dataUrl', 'A picture is set through the API, which draws it again.');
  end if;
  update public.connectors x set icon_url = p_data_url where x.id = c.id returning * into c;
  return c;
end
$$;
comment on function private.set_connector_icon is
  'Authorization: members who manage integrations, through our server only, which draws the picture. Errors: 403 FORBIDDEN, 404 CONNECTOR_NOT_FOUND.';
grant execute on function private.store_connector, private.drop_connector, private.set_connector_icon to authenticated;
