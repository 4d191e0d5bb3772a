-- Members read the policies. Members who manage the team also read the entries of the allow-list. All writing goes through functions, which
-- make checks that a row alone does not allow: whether a change would lock its author out.
grant execute on function private.assert_security_policies_row, private.assert_ip_allow_list_entries_row
  to authenticated, service_role, kijko_server, kijko_worker;
grant select (organization_id, min_length, require_uppercase, require_lowercase, require_number, require_symbol, expiry_days, prevent_reuse,
  session_minutes, idle_minutes, max_sessions, remember_days, require_second_factor, sso_enforced, allow_password, allow_magic_link, updated_at)
  on public.security_policies to authenticated;
create policy select_member on public.security_policies for select to authenticated using (organization_id = (select private.org_id()));
grant select on public.ip_allow_list_entries to authenticated;
create policy select_admin on public.ip_allow_list_entries for select to authenticated
  using (organization_id = (select private.org_id()) and (select private.has_permission('canManageTeam')));

-- The platform's statements about itself are for every signed-in caller; its staff write them.
grant select on public.compliance_frameworks, public.compliance_documents to authenticated;
create policy select_all on public.compliance_frameworks for select to authenticated using (true);
create policy select_all on public.compliance_documents for select to authenticated using (true);
