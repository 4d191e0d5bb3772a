-- Whoever loses a membership loses its sessions in the same transaction, so that the next call finds nothing.
create or replace function private.tg_memberships__end_sessions() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.sessions
  set revoked_at = now(), revoked_reason = 'membership_ended'
  where user_id = old.user_id and organization_id = old.organization_id and revoked_at is null;
  update public.users u
  set default_organization_id = (
    select m.organization_id from public.memberships m
    where m.user_id = u.id and m.status = 'active' and m.organization_id <> old.organization_id
    order by m.joined_at, m.id limit 1)
  where u.id = old.user_id and u.default_organization_id = old.organization_id;
  return null;
end
$$;
comment on function private.tg_memberships__end_sessions is 'Trigger: a membership that ends or is deactivated takes its sessions along.';

create or replace trigger _500_end_sessions_on_delete after delete on public.memberships
  for each row execute function private.tg_memberships__end_sessions();
create or replace trigger _500_end_sessions_on_deactivation after update of status on public.memberships
  for each row when (old.status = 'active' and new.status <> 'active') execute function private.tg_memberships__end_sessions();
