-- A session that ends publishes through a trigger of the event log (events/triggers.sql), and a membership ends its sessions by its own
-- trigger (team/triggers.sql).

-- Every writer of an address or a name meets the rules of sign-up. They are checked when the value changes and not by a constraint of the
-- row, so that accounts older than a rule can still be changed.
create or replace function private.tg_users__check_names() returns trigger
language plpgsql volatile
as $$
begin
  -- An operator may have to give an account an address that gets no mail, but never one in a form that no comparison would match.
  if tg_op = 'INSERT' and private.clean_email(new.email) is distinct from new.email
    or tg_op = 'UPDATE' and new.email <> old.email and private.clean_email(new.email) <> new.email
  then
    perform private.refuse_field('email', 'Please enter a valid e-mail address.');
  end if;
  if (tg_op = 'INSERT' or new.first_name <> old.first_name) and new.first_name <> '' then
    new.first_name := private.require_name(new.first_name, 'first_name', 'first name');
  end if;
  if (tg_op = 'INSERT' or new.last_name <> old.last_name) and new.last_name <> '' then
    new.last_name := private.require_name(new.last_name, 'last_name', 'last name');
  end if;
  return new;
end
$$;
comment on function private.tg_users__check_names is 'Trigger: an address or a name that is written is one that sign-up would accept; a name may be empty.';
create or replace trigger _200_check_names before insert or update of email, first_name, last_name on public.users
  for each row execute function private.tg_users__check_names();
