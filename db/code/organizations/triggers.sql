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

create or replace function private.tg_organizations__judge_name() returns trigger
language plpgsql volatile
as $$
begin
  new.name := private.without_blanks(new.name);
  if new.name ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]' or private.has_format_characters(new.name) then
    perform private.refuse_field('name', 'The name must not contain control or invisible formatting characters.');
  elsif char_length(new.name) not between 1 and 150 then
    perform private.refuse_field('name', 'The name must have 1 to 150 characters.');
  end if;
  return new;
end
$$;
comment on function private.tg_organizations__judge_name is 'Trigger: the name of an organization is trimmed, visible and has 1 to 150 characters.';
create or replace trigger _200_judge_name before insert on public.organizations
  for each row execute function private.tg_organizations__judge_name();
create or replace trigger _250_judge_new_name before update of name on public.organizations
  for each row when (old.name <> new.name) execute function private.tg_organizations__judge_name();
