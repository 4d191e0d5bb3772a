-- The registry of MCP servers (contract 60, section 17.1) and the servers of an organization (17.2). A request never calls out: jobs connect
-- servers and synchronize the registry.

create or replace function private.registry_item_json(i public.mcp_registry_items) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', i.id, 'name', i.name, 'description', i.description, 'homepage', i.homepage, 'vendor', i.vendor,
  'downloadCount', i.download_count));
comment on function private.registry_item_json is 'RegistryItem of the contract.';

create or replace function private.mcp_server_json(s public.mcp_servers) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', s.id, 'name', s.name, 'status', s.status,
  'version', case when s.version is null then '' when s.version ~ '^v' then s.version else 'v' || s.version end, 'registryId', s.registry_id, 'url', s.url,
  'errorMessage', s.error_message));
comment on function private.mcp_server_json is 'An MCP server of an organization; its version is empty until the server or the registry tells it.';
grant execute on function private.registry_item_json, private.mcp_server_json to authenticated;

create or replace function private.require_mcp_admin() returns void
language plpgsql stable
as $$
begin
  if private.is_org_admin() is not true then
    perform private.refuse(403, 'FORBIDDEN', 'Only an owner or admin of your organization may change its MCP servers.', null, '{"required": "admin"}');
  end if;
end
$$;
comment on function private.require_mcp_admin is '403 FORBIDDEN unless the caller is owner or admin of the organization.';

-- The server as a creation would store it. {body: {registryId?, name?, url?}}
create or replace function private.written_mcp_server(p jsonb) returns public.mcp_servers
language plpgsql stable
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  s public.mcp_servers;
  i public.mcp_registry_items;
begin
  if coalesce(b -> 'registryId', 'null') <> 'null' then
    select * into i from public.mcp_registry_items x where x.id = b ->> 'registryId';
    if not found then
      perform private.refuse_field('registryId', 'The registry has no such server.');
    end if;
  end if;
  s.registry_id := i.id;
  s.version := i.version;
  s.name := private.trimmed(coalesce(b ->> 'name', i.name));
  if coalesce(char_length(s.name), 0) not between 1 and 100 or not private.is_plain(s.name) then
    perform private.refuse_field('name', 'The name has 1 to 100 characters.');
  end if;
  s.url := coalesce(b ->> 'url', i.remote_url);
  if s.url is null then
    perform private.refuse_field('url', 'This server is not reached over the network by itself. Give the address where you run it.');
  elsif not coalesce(private.is_web_address(s.url, 'https?'), false) then
    perform private.refuse_field('url', 'The server has an http or https address of at most 2048 characters, without credentials in it.');
  end if;
  return s;
end
$$;
comment on function private.written_mcp_server is 'An MCP server as its creation would store it, or 400 VALIDATION_ERROR about the field.';

create or replace function private.refuse_mcp_server(s public.mcp_servers) returns void
language plpgsql stable
as $$
begin
  if (select count(*) from public.mcp_servers x where x.organization_id = private.org_id()) >= 50 then
    perform private.refuse(409, 'TOO_MANY_MCP_SERVERS', 'An organization has at most 50 MCP servers. Delete one first.', null, '{"limit": 50}');
  elsif exists (select from public.mcp_servers x where x.organization_id = private.org_id() and lower(x.name) = lower(s.name)) then
    perform private.refuse(409, 'NAME_TAKEN', 'Your organization has an MCP server of this name.', 'name');
  end if;
end
$$;
comment on function private.refuse_mcp_server is '409 TOO_MANY_MCP_SERVERS, or NAME_TAKEN where the organization has a server of this name.';

-- {body}: the address that a creation would store. The server checks it, and seals the headers, before anything is stored.
create or replace function private.check_mcp_server(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  s public.mcp_servers;
begin
  perform private.require_mcp_admin();
  perform private.refuse_strangers('MCP servers are added through the API, which checks their addresses.');
  s := private.written_mcp_server(p);
  return jsonb_build_object('url', s.url);
end
$$;
comment on function private.check_mcp_server is
  'Where a new MCP server would be. Authorization: owners and admins, through our server only. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN.';
grant execute on function private.require_mcp_admin, private.written_mcp_server, private.check_mcp_server to authenticated;

create or replace function private.queue_mcp_server(s public.mcp_servers, p_at timestamptz default now()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.enqueue('registry.run', jsonb_build_object('serverId', s.id), p_at, p_queue => 'registry');
end
$$;
comment on function private.queue_mcp_server is 'Has a job connect the server. Authorization: callable by definer functions of ours only.';

-- {id, body, sealed?}
create or replace function private.store_mcp_server(p jsonb) returns public.mcp_servers
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.mcp_servers;
begin
  perform private.require_mcp_admin();
  perform private.refuse_strangers('MCP servers are added through the API, which checks their addresses.');
  -- Writers of one organization are serialized, so that the limit is exact and a taken name is refused as such.
  perform pg_advisory_xact_lock(hashtextextended('mcp servers ' || private.org_id(), 0));
  s := private.written_mcp_server(p);
  perform private.refuse_mcp_server(s);
  insert into public.mcp_servers (id, organization_id, created_by, registry_id, name, url, version)
  values (private.as_uuid(p ->> 'id'), private.org_id(), private.user_id(), s.registry_id, s.name, s.url, s.version) returning * into s;
  if p ->> 'sealed' is not null then
    insert into private.mcp_server_secrets (server_id, sealed) values (s.id, p ->> 'sealed');
  end if;
  perform private.queue_mcp_server(s);
  perform private.audit('integration.connected', format('Added the MCP server "%s".', s.name),
    jsonb_build_object('provider', 'mcp', 'mcpServerId', s.id, 'mcpServerName', s.name));
  return s;
end
$$;
comment on function private.store_mcp_server is
  'Authorization: owners and admins, through our server only, which checks the address and seals the headers. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 409 NAME_TAKEN, TOO_MANY_MCP_SERVERS.';

create or replace function private.reconnect_mcp_server(p_id text) returns public.mcp_servers
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.mcp_servers;
begin
  perform private.require_mcp_admin();
  select * into s from public.mcp_servers x where x.organization_id = private.org_id() and x.id = private.as_uuid(p_id) for update;
  if not found then
    perform private.refuse(404, 'MCP_SERVER_NOT_FOUND', 'There is no such MCP server.');
  elsif s.status <> 'connecting' then
    -- A server that is being connected has its job already.
    update public.mcp_servers x
    set status = 'connecting', error_message = null, tries = 0, lease_token = null, lease_until = null, updated_at = now()
    where x.id = s.id returning * into s;
    perform private.queue_mcp_server(s);
  end if;
  return s;
end
$$;
comment on function private.reconnect_mcp_server is
  'Connects a server again and reads its tools. Authorization: owners and admins of its organization. Errors: 403 FORBIDDEN, 404 MCP_SERVER_NOT_FOUND.';

create or replace function private.drop_mcp_server(p_id text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.mcp_servers;
begin
  perform private.require_mcp_admin();
  delete from public.mcp_servers x where x.organization_id = private.org_id() and x.id = private.as_uuid(p_id) returning * into s;
  if not found then
    perform private.refuse(404, 'MCP_SERVER_NOT_FOUND', 'There is no such MCP server.');
  end if;
  perform private.audit('integration.disconnected', format('Deleted the MCP server "%s".', s.name),
    jsonb_build_object('provider', 'mcp', 'mcpServerId', s.id, 'mcpServerName', s.name));
end
$$;
comment on function private.drop_mcp_server is 'Authorization: owners and admins of its organization. Errors: 403 FORBIDDEN, 404 MCP_SERVER_NOT_FOUND.';
grant execute on function private.store_mcp_server, private.reconnect_mcp_server, private.drop_mcp_server to authenticated;
