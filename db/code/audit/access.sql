-- Members who may view the audit trail read the entries of their organization, as far back as the plan keeps them. No request role writes
-- or deletes entries.
grant select on public.audit_log to authenticated;
create policy select_viewer on public.audit_log for select to authenticated
  using (organization_id = (select private.org_id()) and (select private.has_permission('canViewAuditLog'))
    and created_at > (select private.audit_horizon()));

grant execute on function private.assert_audit_filters_row, private.assert_audit_schedules_row to authenticated, service_role, kijko_server, kijko_worker;
grant select, delete on public.audit_filters to authenticated;
grant insert (organization_id, user_id, name, filters, is_shared) on public.audit_filters to authenticated;
create policy select_viewer on public.audit_filters for select to authenticated
  using (organization_id = (select private.org_id()) and (select private.has_permission('canViewAuditLog'))
    and (is_shared or user_id = (select private.user_id())));
create policy insert_own on public.audit_filters for insert to authenticated
  with check (organization_id = (select private.org_id()) and (select private.has_permission('canViewAuditLog')) and user_id = (select private.user_id()));
create policy delete_viewer on public.audit_filters for delete to authenticated
  using (organization_id = (select private.org_id()) and (select private.has_permission('canViewAuditLog'))
    and (is_shared or user_id = (select private.user_id())));

-- A schedule is created with its first export (exports.sql), where the plan includes schedules. Every member who may view the trail sees
-- and ends them.
grant select, delete on public.audit_schedules to authenticated;
create policy select_viewer on public.audit_schedules for select to authenticated
  using (organization_id = (select private.org_id()) and (select private.has_permission('canViewAuditLog')));
create policy delete_viewer on public.audit_schedules for delete to authenticated
  using (organization_id = (select private.org_id()) and (select private.has_permission('canViewAuditLog')));
