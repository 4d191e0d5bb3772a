-- Built-in integrations for every organization, events of changes, revocation of a deleted integration however it is deleted, and the
-- events of outgoing webhooks.

create or replace function private.tg_organizations__built_in() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into public.integrations (organization_id, provider, scopes)
  select new.id, a.id, a.permissions from public.integration_apps a where a.auth = 'built_in';
  return null;
end
$$;
comment on function private.tg_organizations__built_in is 'Trigger: an organization is born with the built-in integrations.';
create or replace trigger _500_built_in after insert on public.organizations for each row execute function private.tg_organizations__built_in();

create or replace trigger _100_touch before update on public.integrations
  for each row when ((old.status, old.scopes, old.config, old.last_sync_at) is distinct from (new.status, new.scopes, new.config, new.last_sync_at))
  execute function private.tg__touch();
create or replace trigger _100_touch before update on public.connectors
  for each row when (old.* is distinct from new.*) execute function private.tg__touch();
create or replace trigger _100_touch before update on public.webhooks
  for each row when ((old.name, old.endpoint_url, old.events, old.status, old.secret_end) is distinct from
    (new.name, new.endpoint_url, new.events, new.status, new.secret_end)) execute function private.tg__touch();

create or replace function private.tg__notify_integration() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_new constant jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  v_old constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_org constant uuid := private.as_uuid(coalesce(v_new, v_old) ->> 'organization_id');
  v_fields text[] := array(
    select f.name from unnest(
      array['status', 'scopes', 'config', 'last_sync_at', 'connected_at', 'name', 'description', 'icon_url', 'remote_mcp_server_url', 'category', 'auth_type',
        'endpoint_url', 'events', 'secret_end'],
      array['status', 'scopes', 'config', 'lastSyncAt', 'connectedAt', 'name', 'description', 'iconUrl', 'remoteMcpServerUrl', 'category', 'authType',
        'endpointUrl', 'events', 'secret']) with ordinality f (col, name, ord)
    where tg_op = 'UPDATE' and v_new -> f.col is distinct from v_old -> f.col order by f.ord);
begin
  if tg_op = 'UPDATE' and cardinality(v_fields) = 0 or tg_op = 'DELETE' and not exists (select from public.organizations o where o.id = v_org) then
    return null;
  end if;
  perform private.emit_org_change(tg_argv[0], private.as_uuid(coalesce(v_new, v_old) ->> 'id'),
    case tg_op when 'INSERT' then 'created' when 'UPDATE' then 'updated' else 'deleted' end, v_org, case when tg_op = 'UPDATE' then v_fields end);
  return null;
end
$$;
comment on function private.tg__notify_integration is 'Trigger: resource_changed in the organization''s room; the argument names the resource.';
-- The integrations that a new organization starts with publish no event.
create or replace trigger _900_notify after insert on public.integrations
  for each row when (new.connected_by is not null) execute function private.tg__notify_integration('integration');
create or replace trigger _900_notify_change after update or delete on public.integrations
  for each row execute function private.tg__notify_integration('integration');
create or replace trigger _900_notify after insert or update or delete on public.connectors
  for each row execute function private.tg__notify_integration('integration');
create or replace trigger _900_notify after insert or update or delete on public.webhooks
  for each row execute function private.tg__notify_integration('webhook');

create or replace function private.revoke_integration(p_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid;
begin
  insert into private.integration_revocations (organization_id, provider, sealed)
  select i.organization_id, i.provider, s.sealed
  from public.integrations i join private.integration_secrets s on s.integration_id = i.id join public.integration_apps a on a.id = i.provider
  where i.id = p_id and a.auth = 'oauth'
  returning id into v_id;
  if found then
    perform private.enqueue('integrations.run', jsonb_build_object('revocationId', v_id), p_queue => 'integrations');
  end if;
end
$$;
comment on function private.revoke_integration is 'Has a provider told that its tokens are void. Authorization: callable by definer functions and triggers of ours only.';

-- Before the row is deleted, because its tokens are deleted with it.
create or replace function private.tg_integrations__revoke() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.revoke_integration(old.id);
  return old;
end
$$;
comment on function private.tg_integrations__revoke is 'Trigger: the provider is told of what is disconnected, also where the whole organization goes.';
create or replace trigger _500_revoke before delete on public.integrations for each row execute function private.tg_integrations__revoke();

-- ------------------------------------------------------------------------------------------------- what outgoing webhooks are told

-- A project as GET shows it, without the members that depend on the reader.
create or replace function private.webhook_project_json(p public.projects) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_owner public.users;
  v_last public.users;
begin
  select * into v_owner from public.users u where u.id = p.user_id;
  select u.* into v_last
  from public.project_members m join public.users u on u.id = m.user_id
  where m.project_id = p.id and m.accepted_at is not null and m.last_active_at is not null
  order by m.last_active_at desc limit 1;
  return private.project_view_json(p, null, v_owner, null, v_last);
end
$$;
comment on function private.webhook_project_json is 'Project as webhooks are told of it. Authorization: callable by triggers of ours only.';

create or replace function private.tg_projects__notify_webhooks() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  p public.projects := case when tg_op = 'DELETE' then old else new end;
  v_type constant text := 'context.' || case tg_op when 'INSERT' then 'created' when 'UPDATE' then 'updated' else 'deleted' end;
begin
  -- Most organizations have no webhook, and then a change costs one look into a small index.
  if private.has_webhook(p.organization_id, v_type)
    and (tg_op <> 'UPDATE' or private.project_fields(to_jsonb(old), to_jsonb(new)) is not null) then
    perform private.notify_webhooks(p.organization_id, v_type, private.webhook_project_json(p));
  end if;
  return p;
end
$$;
comment on function private.tg_projects__notify_webhooks is 'Trigger: context.created, context.updated and context.deleted.';
create or replace trigger _950_notify_webhooks after insert or update on public.projects
  for each row execute function private.tg_projects__notify_webhooks();
-- Before the deletion, while its people are still there.
create or replace trigger _950_notify_webhooks_delete before delete on public.projects
  for each row execute function private.tg_projects__notify_webhooks();

create or replace function private.tg_login_history__notify_webhooks() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org constant uuid := (select s.organization_id from private.sessions s where s.id = new.session_id);
begin
  if private.has_webhook(v_org, 'user.login') then
    perform private.notify_webhooks(v_org, 'user.login', jsonb_strip_nulls(jsonb_build_object('id', new.id, 'userId', new.user_id, 'status', new.status,
      'ipAddress', new.client_ip, 'location', '{}'::jsonb, 'deviceInfo', private.device_json(new.device),
      'authMethod', new.method, 'createdAt', private.iso(new.created_at))));
  end if;
  return null;
end
$$;
comment on function private.tg_login_history__notify_webhooks is 'Trigger: user.login, to the organization that the new session acts in.';
create or replace trigger _950_notify_webhooks after insert on private.login_history
  for each row when (new.status = 'success' and new.method <> 'signup') execute function private.tg_login_history__notify_webhooks();

-- Settings belong to a person. The event goes to the organization that the person acts in.
create or replace function private.notify_webhooks_of_settings(p_user_id uuid, p_settings jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org constant uuid := coalesce(private.org_id(), (select u.default_organization_id from public.users u where u.id = p_user_id));
begin
  if private.has_webhook(v_org, 'user.settings_changed') then
    perform private.notify_webhooks(v_org, 'user.settings_changed', jsonb_build_object('userId', p_user_id, 'settings', p_settings));
  end if;
end
$$;
comment on function private.notify_webhooks_of_settings is 'user.settings_changed with the settings as they are now. Authorization: callable by triggers of ours only.';

create or replace function private.tg_notification_preferences__notify_webhooks() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.notify_webhooks_of_settings(new.user_id, jsonb_build_object('notifications', private.notification_preferences_json(new)));
  return null;
end
$$;
comment on function private.tg_notification_preferences__notify_webhooks is 'Trigger: user.settings_changed.';
create or replace trigger _950_notify_webhooks after update on public.notification_preferences
  for each row when (old.* is distinct from new.*) execute function private.tg_notification_preferences__notify_webhooks();

-- Every export writes this line into the audit trail, in the transaction of its end.
create or replace function private.tg_audit_log__notify_webhooks() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if private.has_webhook(new.organization_id, 'export.completed') then
    perform private.notify_webhooks(new.organization_id, 'export.completed', jsonb_strip_nulls(jsonb_build_object('id', new.id, 'userId', new.user_id,
      'eventType', new.event_type, 'eventCategory', new.event_category, 'description', new.description, 'metadata', new.metadata,
      'createdAt', private.iso(new.created_at))));
  end if;
  return null;
end
$$;
comment on function private.tg_audit_log__notify_webhooks is 'Trigger: export.completed.';
create or replace trigger _950_notify_webhooks after insert on public.audit_log
  for each row when (new.event_type = 'system.export_completed') execute function private.tg_audit_log__notify_webhooks();
