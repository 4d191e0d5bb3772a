-- A removed member's keys are revoked. A deactivated member's keys stay: private.enter_key refuses them until the member is active again.
create or replace function private.tg_memberships__end_keys() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.end_api_key(k.id, 'membership_ended')
  from public.api_keys k
  where k.organization_id = old.organization_id and k.user_id = old.user_id and k.revoked_at is null
    -- Where the organization or the person is deleted as a whole, no key is left to revoke and no notification is due.
    and exists (select from public.organizations o where o.id = old.organization_id) and exists (select from public.users u where u.id = old.user_id);
  return null;
end
$$;
comment on function private.tg_memberships__end_keys is 'Trigger: the API keys of a membership that ends are revoked with it.';
create or replace trigger _500_end_keys after delete on public.memberships
  for each row execute function private.tg_memberships__end_keys();

create or replace function private.tg_api_keys__emit_removal() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.emit_removal('session_revoked', old.organization_id, null, old.user_id, old.id);
  return null;
end
$$;
comment on function private.tg_api_keys__emit_removal is 'Trigger: a key that ends closes its sockets on every server process, as a session does.';
create or replace trigger _900_emit_removal after update of revoked_at on public.api_keys
  for each row when (old.revoked_at is null and new.revoked_at is not null) execute function private.tg_api_keys__emit_removal();

create or replace function private.tg_api_keys__alert() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.notify_security(new.user_id, case tg_op when 'INSERT' then 'An API key was created' else 'An API key was revoked' end,
    format('API key "%s" (%s...) was %s. If that was not you, change your password and look at your keys.', private.one_line(new.name), new.prefix,
      case tg_op when 'INSERT' then 'created' else 'revoked' end),
    false, format('api_key:%s:%s', lower(tg_op), new.id), jsonb_build_object('keyId', new.id));
  return null;
end
$$;
comment on function private.tg_api_keys__alert is 'Trigger: the holder hears of a key that was made or revoked, also when another user did it in their name.';
create or replace trigger _900_alert_created after insert on public.api_keys
  for each row execute function private.tg_api_keys__alert();
create or replace trigger _950_alert_revoked after update of revoked_at on public.api_keys
  for each row when (old.revoked_at is null and new.revoked_reason = 'revoked') execute function private.tg_api_keys__alert();
