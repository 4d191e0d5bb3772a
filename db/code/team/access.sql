-- Each member sees the organization they act in and its people; writing goes through functions.
grant select on public.organizations, public.memberships to authenticated;
grant select (id, email, first_name, last_name, avatar_url, timezone, default_organization_id, created_at, updated_at)
  on public.users to authenticated;

create policy select_member on public.organizations for select to authenticated using (id = (select private.org_id()));
create policy select_member on public.memberships for select to authenticated
  using (organization_id = (select private.org_id()) or user_id = (select private.user_id()));
-- The caller, and colleagues of the organization that the caller acts in.
create policy select_colleague on public.users for select to authenticated
  using (id = (select private.user_id())
    or exists (select from public.memberships m where m.user_id = users.id and m.organization_id = (select private.org_id())));

-- Members who may invite see invitations, never with the hash of their token.
grant select (id, organization_id, email, role, message, invited_by, status, expires_at, created_at, updated_at) on public.team_invitations to authenticated;
create policy select_inviting on public.team_invitations for select to authenticated
  using (organization_id = (select private.org_id()) and (select private.has_permission('canInviteMembers')));
