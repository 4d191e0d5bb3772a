-- A session is its owner's, in the organization where they made it. The server writes.
grant execute on function private.assert_hypervisa_sessions_row to authenticated, service_role, kijko_server, kijko_worker;
grant select on public.hypervisa_sessions to authenticated;
create policy select_own on public.hypervisa_sessions for select to authenticated
  using (user_id = (select private.user_id()) and organization_id = (select private.org_id()));
