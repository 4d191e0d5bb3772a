-- Trigger functions shared by many tables.

create or replace function private.tg__touch() returns trigger
language plpgsql volatile
as $$
begin
  new.updated_at := now();
  return new;
end
$$;
comment on function private.tg__touch is 'Trigger: updated_at moves with any change of the row.';

create or replace trigger _100_touch before update on public.users
  for each row when (old.* is distinct from new.*) execute function private.tg__touch();
create or replace trigger _100_touch before update on public.organizations
  for each row when (old.* is distinct from new.*) execute function private.tg__touch();
-- A new time of last activity is no change of a membership.
create or replace trigger _100_touch before update on public.memberships
  for each row when ((old.role, old.status) is distinct from (new.role, new.status)) execute function private.tg__touch();
create or replace trigger _100_touch before update on public.subscriptions
  for each row when (old.* is distinct from new.*) execute function private.tg__touch();
