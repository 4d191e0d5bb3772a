-- private.guards, one row an organization, follows the tables that it is derived from: any writer of them has it derived once more in the
-- same transaction. The row is locked first and derived by the next statement, whose snapshot is taken under the lock. So of two
-- transactions that change different tables the later one sees both changes. A plan that lapses by time alone is applied by
-- private.sweep_billing.
create or replace function private.derive_guard(p_org_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform from private.guards g where g.organization_id = p_org_id for update;
  insert into private.guards as g (organization_id, session_length, idle_length, password_length, second_factor_roles, ip_mode, free_roles, networks)
  select p.organization_id, case when h.has_policies then make_interval(mins => p.session_minutes) end,
    -- Times of last use are written once a minute and some seconds late, so an idle session gets that much more.
    case when h.has_policies and p.idle_minutes > 0 then make_interval(mins => p.idle_minutes, secs => 70) end,
    -- Where people sign in at an external provider, a password opens nothing, however old it is.
    case when h.has_policies and p.expiry_days > 0 and not p.sso_enforced then make_interval(days => p.expiry_days) end,
    case when not h.has_policies or p.require_second_factor = 'none' then '{}' when p.require_second_factor = 'admins' then '{owner,admin}'
      else '{owner,admin,member,viewer}' end::text[],
    case when h.has_list then p.ip_mode else 'disabled' end,
    case when not h.has_list or p.ip_mode = 'disabled' then '{owner,admin,member,viewer}' when p.ip_admin_bypass then '{owner,admin}' else '{}' end::text[],
    case when h.has_list then array(select e.network from public.ip_allow_list_entries e where e.organization_id = p_org_id and e.is_active order by e.network)
      else '{}' end
  from public.security_policies p
  left join public.subscriptions s on s.organization_id = p.organization_id
  left join public.plans pl on pl.id = private.plan_in_effect(s)
  cross join lateral (select coalesce('security_policies' = any (pl.gates), false) as has_policies, coalesce('ip_allow_list' = any (pl.gates), false) as has_list) h
  where p.organization_id = p_org_id
  on conflict (organization_id) do update set session_length = excluded.session_length, idle_length = excluded.idle_length,
    password_length = excluded.password_length, second_factor_roles = excluded.second_factor_roles, ip_mode = excluded.ip_mode,
    free_roles = excluded.free_roles, networks = excluded.networks
    where g.* is distinct from excluded.*;
end
$$;
comment on function private.derive_guard is 'Derives what an organization''s requests are held to. Authorization: callable by triggers of ours only.';

create or replace function private.tg__derive_guard() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- The deletion of the organization deletes the row.
  if tg_op = 'DELETE' then
    if exists (select from public.organizations o where o.id = old.organization_id) then
      perform private.derive_guard(old.organization_id);
    end if;
    return null;
  end if;
  perform private.derive_guard(new.organization_id);
  return null;
end
$$;
comment on function private.tg__derive_guard is 'Trigger: the organization''s rules for requests follow its plan, policies and allow-list.';
create or replace trigger _500_derive_guard after insert or update or delete on public.security_policies
  for each row execute function private.tg__derive_guard();
create or replace trigger _500_derive_guard after insert or update or delete on public.ip_allow_list_entries
  for each row execute function private.tg__derive_guard();
create or replace trigger _500_derive_guard after insert or update of plan_id, status or delete on public.subscriptions
  for each row execute function private.tg__derive_guard();

create or replace function private.tg_credentials__date_password() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_at constant timestamptz := case when tg_op <> 'DELETE' then new.changed_at end;
begin
  update public.users u set password_changed_at = v_at
  where u.id = case tg_op when 'DELETE' then old.user_id else new.user_id end and u.password_changed_at is distinct from v_at;
  return null;
end
$$;
comment on function private.tg_credentials__date_password is 'Trigger: the age of the password stands beside the account, where a request reads it.';
create or replace trigger _500_date_password after insert or update of changed_at or delete on private.credentials
  for each row execute function private.tg_credentials__date_password();

create or replace function private.tg_plans__derive_guards() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.derive_guard(s.organization_id) from public.subscriptions s
  where private.plan_in_effect(s) = new.id order by s.organization_id;
  return null;
end
$$;
comment on function private.tg_plans__derive_guards is 'Trigger: a plan that includes rules, or no longer does, for each of its organizations.';
create or replace trigger _500_derive_guards after update of gates on public.plans
  for each row when (old.gates is distinct from new.gates) execute function private.tg_plans__derive_guards();
