-- Permissions of a role in the caller's organization. The matrix is the table role_permissions, so a change of it is a change of a row.

create or replace function private.has_permission(p_name text) returns boolean
language sql stable parallel safe
return exists (select from public.role_permissions p where p.role = private.org_role() and p.permission = p_name);
comment on function private.has_permission is 'May the caller''s role do this in the organization they act in? A name that the matrix lacks is no.';

create or replace function private.require_permission(p_name text) returns void
language plpgsql stable
as $$
begin
  if not private.has_permission(p_name) then
    perform private.refuse(403, 'FORBIDDEN', 'Your role does not allow this. Ask an owner or admin of your organization.');
  end if;
end
$$;
comment on function private.require_permission is '403 FORBIDDEN unless the caller''s role has the permission.';

grant execute on function private.has_permission, private.require_permission to authenticated;

grant select on public.role_permissions to anon, authenticated;
create policy select_all on public.role_permissions for select to anon, authenticated using (true);
