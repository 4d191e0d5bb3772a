-- Who may do what in an organization: the matrix of contract 40, section 2. Policies and functions ask private.has_permission.

create table public.role_permissions (
  role text not null,
  permission text not null,
  primary key (role, permission),
  constraint role_permissions_role_check check (role in ('owner', 'admin', 'member', 'viewer'))
);
alter table public.role_permissions enable row level security;
alter table public.role_permissions force row level security;
comment on table public.role_permissions is 'The matrix of roles and permissions in an organization; a role without a row may not.';

insert into public.role_permissions (role, permission)
select r.role, p.permission
from (values
  ('canManageTeam', 'admin'),
  ('canManageBilling', 'owner'),
  ('canInviteMembers', 'admin'),
  ('canRemoveMembers', 'admin'),
  ('canChangeRoles', 'admin'),
  ('canManageIntegrations', 'admin'),
  ('canViewAuditLog', 'admin'),
  ('canTransferOwnership', 'owner'),
  ('canEditContexts', 'member'),
  ('canViewContexts', 'viewer'),
  ('canDeleteContexts', 'admin'),
  ('canShareContexts', 'admin'),
  ('canManageContextUsers', 'admin')) p(permission, lowest)
join (values ('viewer', 1), ('member', 2), ('admin', 3), ('owner', 4)) r(role, rank)
  on r.rank >= (case p.lowest when 'viewer' then 1 when 'member' then 2 when 'admin' then 3 else 4 end);

---- create above / drop below ----

drop table public.role_permissions;
