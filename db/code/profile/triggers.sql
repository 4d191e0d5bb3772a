-- The picture that others see of a person: Gravatar's, else the uploaded one. It is stored in avatar_url, so that no reader has to know the
-- rule.
create or replace function private.tg_users__picture() returns trigger
language plpgsql volatile
as $$
begin
  new.avatar_url := case when new.use_gravatar then private.gravatar_url(new.email) else new.picture_url end;
  return new;
end
$$;
comment on function private.tg_users__picture is 'Trigger: the picture that others see follows the upload, the switch for Gravatar, and the address.';
create or replace trigger _150_picture before insert or update of use_gravatar, picture_url, email on public.users
  for each row execute function private.tg_users__picture();

-- Members of projects carry a copy, because an invited person has no account yet.
create or replace function private.tg_users__copy_picture() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.project_members m set avatar_url = new.avatar_url where m.user_id = new.id and m.avatar_url is distinct from new.avatar_url;
  return null;
end
$$;
comment on function private.tg_users__copy_picture is 'Trigger: projects show the picture of now.';
create or replace trigger _500_copy_picture after update on public.users
  for each row when (old.avatar_url is distinct from new.avatar_url) execute function private.tg_users__copy_picture();
