-- Every signed-in caller reads the registry, and every member the servers and tools of the organization. All writing goes through
-- functions, because it depends on data that only the server and the worker have.
grant execute on function private.assert_mcp_servers_row to authenticated, service_role, kijko_server, kijko_worker;
grant select on public.mcp_registry_items, public.mcp_servers, public.mcp_tools to authenticated;
create policy select_all on public.mcp_registry_items for select to authenticated using (true);
create policy select_member on public.mcp_servers for select to authenticated using (organization_id = (select private.org_id()));
create policy select_member on public.mcp_tools for select to authenticated using (organization_id = (select private.org_id()));
