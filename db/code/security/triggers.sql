-- Every organization has a row of policies.
create or replace function private.tg_organizations__default_policies() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into public.security_policies (organization_id) values (new.id) on conflict do nothing;
  return null;
end
$$;
comment on function private.tg_organizations__default_policies is 'Trigger: a new organization starts with the default policies.';
create or replace trigger _500_default_policies after insert on public.organizations
  for each row execute function private.tg_organizations__default_policies();

-- memberships.is_guarded follows the subscribed plan. Each request of a guarded membership checks whether the plan is paid for. A person
-- who joins while the plan changes waits for the change, or the change sees the new membership.
create or replace function private.tg_memberships__mark_guarded() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  select p.gates && array['security_policies', 'ip_allow_list'] into new.is_guarded
  from public.subscriptions s join public.plans p on p.id = s.plan_id
  where s.organization_id = new.organization_id
  for share of s;
  new.is_guarded := coalesce(new.is_guarded, false);
  return new;
end
$$;
comment on function private.tg_memberships__mark_guarded is 'Trigger: a new membership is held to rules where the plan includes some.';
create or replace trigger _100_guard before insert on public.memberships
  for each row execute function private.tg_memberships__mark_guarded();

create or replace function private.tg_subscriptions__guard() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_guarded constant boolean := (select p.gates && array['security_policies', 'ip_allow_list'] from public.plans p where p.id = new.plan_id);
begin
  update public.memberships m set is_guarded = v_guarded where m.organization_id = new.organization_id and m.is_guarded <> v_guarded;
  return null;
end
$$;
comment on function private.tg_subscriptions__guard is 'Trigger: another plan holds memberships to rules, or frees them.';
create or replace trigger _500_guard after insert or update of plan_id on public.subscriptions
  for each row execute function private.tg_subscriptions__guard();

create or replace function private.tg_plans__guard() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.memberships m set is_guarded = new.gates && array['security_policies', 'ip_allow_list']
  from public.subscriptions s where s.organization_id = m.organization_id and s.plan_id = new.id;
  return null;
end
$$;
comment on function private.tg_plans__guard is 'Trigger: a plan that includes rules, or no longer does.';
create or replace trigger _500_guard after update of gates on public.plans
  for each row when (old.gates is distinct from new.gates) execute function private.tg_plans__guard();

-- A sign-in beyond the number that the policy allows ends the session that was idle longest. Sign-ins of one person wait for each other.
create or replace function private.tg_sessions__limit() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  v_id uuid;
begin
  select p.max_sessions, m.organization_id, u.default_organization_id into v
  from public.users u
  join public.memberships m on m.user_id = u.id and m.organization_id = coalesce(new.organization_id, u.default_organization_id) and m.is_guarded
  join public.security_policies p on p.organization_id = m.organization_id and p.max_sessions > 0
  where u.id = new.user_id and private.has_gate(m.organization_id, 'security_policies');
  if not found then
    return null;
  end if;
  perform from public.users u where u.id = new.user_id for no key update;
  for v_id in
    select s.id from private.sessions s
    where s.user_id = new.user_id and s.id <> new.id and s.revoked_at is null and least(s.expires_at, s.idle_expires_at) > now()
      and coalesce(s.organization_id, v.default_organization_id) = v.organization_id
    order by s.last_active_at desc, s.created_at desc, s.id
    offset v.max_sessions - 1
  loop
    perform private.end_by_policy(v_id, now());
  end loop;
  return null;
end
$$;
comment on function private.tg_sessions__limit is 'Trigger: a session beyond the policy''s number ends the least recently active one.';
create or replace trigger _500_limit after insert on private.sessions
  for each row when (new.revoked_at is null) execute function private.tg_sessions__limit();

-- Keeps the hash of a former password, for policies against using one again. A device that was remembered beside the old password proves
-- nothing beside the new one.
create or replace function private.tg_credentials__keep_former() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.password_history (user_id, password_hash) values (old.user_id, old.password_hash);
  delete from private.password_history h where h.user_id = old.user_id and h.id <= (
    select x.id from private.password_history x where x.user_id = old.user_id order by x.id desc offset 24 limit 1);
  delete from private.remembered_devices d where d.user_id = old.user_id;
  return null;
end
$$;
comment on function private.tg_credentials__keep_former is 'Trigger: keeps the hash of a password that was changed, and forgets devices.';
create or replace trigger _500_keep_former after update of changed_at on private.credentials
  for each row when (new.changed_at > old.changed_at) execute function private.tg_credentials__keep_former();
