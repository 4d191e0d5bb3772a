-- Owners and admins read their organization's entries, as far back as the plan keeps them. Nobody writes or deletes directly.
grant select on public.audit_log to authenticated;
create policy select_admin on public.audit_log for select to authenticated
  using (organization_id = (select private.org_id()) and (select private.is_org_admin())
    and created_at > (select private.audit_horizon()));
