create or replace function api.list_registry(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 100);
  v_search constant text := lower(p ->> 'search');
  v_total bigint;
  v_items jsonb;
begin
  select count(*) into v_total from public.mcp_registry_items i where v_search is null or strpos(lower(i.name), v_search) > 0 or strpos(lower(i.description), v_search) > 0;
  select coalesce(jsonb_agg(private.registry_item_json(i) order by i.position nulls last, i.name, i.id), '[]') into v_items
  from (
    select * from public.mcp_registry_items i
    where v_search is null or strpos(lower(i.name), v_search) > 0 or strpos(lower(i.description), v_search) > 0
    order by i.position nulls last, i.name, i.id limit v_at.size offset v_at.skipped) i;
  perform private.set_headers(jsonb_build_object('X-Total-Count', v_total::text, 'X-Has-More', (v_at.skipped + v_at.size < v_total)::text));
  return v_items;
end
$$;
comment on function api.list_registry is 'GET /mcp/registry: RegistryItem[], seeds first. Errors: 400 VALIDATION_ERROR.';

create or replace function api.list_mcp_servers(p jsonb) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(private.mcp_server_json(s) order by s.created_at, s.id), '[]') from public.mcp_servers s where s.organization_id = private.org_id()
$$;
comment on function api.list_mcp_servers is 'GET /mcp/servers: the organization''s MCP servers.';

create or replace function api.create_mcp_server(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.mcp_server_json(private.store_mcp_server(private.as_object(p, 'p')));
end
$$;
comment on function api.create_mcp_server is
  'POST /mcp/servers, with the headers sealed. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 409 NAME_TAKEN, TOO_MANY_MCP_SERVERS.';

create or replace function api.reconnect_mcp_server(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.mcp_server_json(private.reconnect_mcp_server(p ->> 'mcpServerId'));
end
$$;
comment on function api.reconnect_mcp_server is 'POST /mcp/servers/{id}/reconnect. Errors: 403 FORBIDDEN, 404 MCP_SERVER_NOT_FOUND.';

create or replace function api.delete_mcp_server(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.drop_mcp_server(p ->> 'mcpServerId');
  return null;
end
$$;
comment on function api.delete_mcp_server is 'DELETE /mcp/servers/{id}. Errors: 403 FORBIDDEN, 404 MCP_SERVER_NOT_FOUND.';

-- Tools of a server that cannot be reached are not offered; those of one that is connected again still are.
create or replace function api.list_mcp_tools(p jsonb) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(jsonb_build_object('tool', s.name || '.' || t.name, 'server', s.name) order by s.created_at, s.id, t.name), '[]')
  from public.mcp_servers s join public.mcp_tools t on t.organization_id = s.organization_id and t.server_id = s.id
  where s.organization_id = private.org_id()
$$;
comment on function api.list_mcp_tools is 'GET /mcp/tools: {tool, server}[] of the organization''s MCP servers.';
grant execute on function api.list_registry, api.list_mcp_servers, api.create_mcp_server, api.reconnect_mcp_server, api.delete_mcp_server, api.list_mcp_tools
  to authenticated;
