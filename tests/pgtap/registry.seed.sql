with s as (
  insert into public.mcp_servers (id, organization_id, created_by, name, url, status, error_message)
  values (gen_random_uuid(), pg_temp.org(), pg_temp.person(), pg_temp.secret(), 'https://mcp.invalid', 'error', 'The server could not be reached.') returning id
) select pg_temp.keep('mcpServerId', id) from s;
insert into private.mcp_server_secrets (server_id, sealed) values (pg_temp.id('mcpServerId'), 'v1.00000000.xyz');
insert into public.mcp_tools (organization_id, server_id, name) values (pg_temp.org(), pg_temp.id('mcpServerId'), pg_temp.secret());
