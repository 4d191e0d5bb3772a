-- Changed settings are sent to the webhooks of the person's organizations.
create or replace function private.tg_user_settings__notify_webhooks() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.notify_webhooks_of_settings(coalesce(new.user_id, old.user_id),
    jsonb_build_object(coalesce(new.key, old.key), case when tg_op <> 'DELETE' then new.value end));
  return null;
end
$$;
comment on function private.tg_user_settings__notify_webhooks is 'Trigger: a setting was written or deleted.';
create or replace trigger _950_notify_webhooks after insert or update or delete on public.user_settings
  for each row execute function private.tg_user_settings__notify_webhooks();
