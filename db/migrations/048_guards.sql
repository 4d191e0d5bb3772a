-- The rules of an organization for each request, in one row: what its plan, its policies and its allow-list say together. A request of a
-- guarded membership reads this row alone. Triggers write it (db/code/security/guards.sql).
create table private.guards (
  organization_id uuid primary key references public.organizations (id) on delete cascade,
  -- How long a session lasts, how long it may be idle, how old a password may be; null is without end.
  session_length interval,
  idle_length interval,
  password_length interval,
  second_factor_roles text[] not null default '{}',
  ip_mode text not null default 'disabled',
  -- Roles that may come from any address; all of them where there is no list.
  free_roles text[] not null default '{owner,admin,member,viewer}',
  -- The active entries of the allow-list.
  networks inet[] not null default '{}'
);
alter table private.guards enable row level security;
alter table private.guards force row level security;
comment on table private.guards is 'What a request is held to, derived from plan, policies and allow-list of its organization; one row an organization.';

insert into private.guards (organization_id, session_length, idle_length, password_length, second_factor_roles, ip_mode, free_roles, networks)
select p.organization_id, case when g.has_policies then make_interval(mins => p.session_minutes) end,
  case when g.has_policies and p.idle_minutes > 0 then make_interval(mins => p.idle_minutes, secs => 70) end,
  case when g.has_policies and p.expiry_days > 0 and not p.sso_enforced then make_interval(days => p.expiry_days) end,
  case when not g.has_policies or p.require_second_factor = 'none' then '{}' when p.require_second_factor = 'admins' then '{owner,admin}'
    else '{owner,admin,member,viewer}' end::text[],
  case when g.has_list then p.ip_mode else 'disabled' end,
  case when not g.has_list or p.ip_mode = 'disabled' then '{owner,admin,member,viewer}' when p.ip_admin_bypass then '{owner,admin}' else '{}' end::text[],
  case when g.has_list then array(select e.network from public.ip_allow_list_entries e where e.organization_id = p.organization_id and e.is_active order by e.network)
    else '{}' end
from public.security_policies p
left join public.subscriptions s on s.organization_id = p.organization_id
left join public.plans pl on pl.id = case when s.status in ('active', 'trialing', 'past_due') then s.plan_id else 'free' end
cross join lateral (select coalesce('security_policies' = any (pl.gates), false) as has_policies, coalesce('ip_allow_list' = any (pl.gates), false) as has_list) g;

-- The age of the password, beside the rest that a request reads of its person. A trigger of private.credentials writes it. No other trigger
-- needs to see the first values.
alter table public.users add column password_changed_at timestamptz;
alter table public.users disable trigger user;
update public.users u set password_changed_at = c.changed_at from private.credentials c where c.user_id = u.id;
alter table public.users enable trigger user;

---- create above / drop below ----

alter table public.users drop column password_changed_at;
drop table private.guards;
