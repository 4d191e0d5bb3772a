-- Outgoing webhooks (contract 40, 8.4). A trigger on the source of an event writes an attempt for each webhook that wants the event, with
-- its job, in the transaction of the event. Workers send (worker.sql).

create or replace function private.webhook_mask(w public.webhooks) returns text
language sql immutable parallel safe
return 'whsec_' || repeat('•', 12) || w.secret_end;
comment on function private.webhook_mask is 'What is shown of a secret; long enough for a form that asks for 16 characters.';

create or replace function private.webhook_json(w public.webhooks) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', w.id, 'name', w.name, 'endpointUrl', w.endpoint_url, 'secret', private.webhook_mask(w),
  'events', to_jsonb(w.events), 'status', w.status, 'createdAt', private.iso(w.created_at), 'lastTriggeredAt', private.iso(w.last_triggered_at)));
comment on function private.webhook_json is 'Webhook of the contract, with its secret masked.';

create or replace function private.delivery_json(d public.webhook_deliveries) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', d.id, 'webhookId', d.webhook_id, 'eventType', d.event_type, 'payload', d.payload, 'attemptNumber', d.attempt_number,
    'status', d.status, 'createdAt', private.iso(d.created_at))
  || jsonb_strip_nulls(jsonb_build_object('responseStatus', d.response_status, 'responseBody', d.response_body));
comment on function private.delivery_json is 'WebhookDelivery of the contract: one attempt.';
grant execute on function private.webhook_mask, private.webhook_json, private.delivery_json to authenticated, kijko_server;

create or replace function private.require_webhook(p_id text) returns public.webhooks
language plpgsql stable
as $$
declare
  w public.webhooks;
begin
  select * into w from public.webhooks x where x.organization_id = private.org_id() and x.id = private.as_uuid(p_id);
  if not found then
    perform private.refuse(404, 'WEBHOOK_NOT_FOUND', 'There is no such webhook.');
  end if;
  return w;
end
$$;
comment on function private.require_webhook is 'The caller''s webhook, or 404 WEBHOOK_NOT_FOUND.';

create or replace function private.refuse_webhook_over_limit() returns void
language plpgsql stable
as $$
begin
  if (select count(*) from public.webhooks w where w.organization_id = private.org_id()) >= 20 then
    perform private.refuse(409, 'TOO_MANY_WEBHOOKS', 'An organization has at most 20 webhooks. Delete one first.', null, '{"limit": 20}');
  end if;
end
$$;
comment on function private.refuse_webhook_over_limit is '409 TOO_MANY_WEBHOOKS where the organization has 20.';

create or replace function private.written_webhook(w public.webhooks, b jsonb) returns public.webhooks
language plpgsql stable
as $$
begin
  b := private.as_object(b, 'body');
  if b ? 'name' or w.id is null then
    w.name := private.trimmed(b ->> 'name');
    if coalesce(char_length(w.name), 0) not between 1 and 100 or not private.is_plain(w.name) then
      perform private.refuse_field('name', 'The name has 1 to 100 characters.');
    end if;
  end if;
  if b ? 'endpointUrl' or w.id is null then
    w.endpoint_url := b ->> 'endpointUrl';
    if not coalesce(private.is_web_address(w.endpoint_url, 'https'), false) then
      perform private.refuse_field('endpointUrl', 'The endpoint has an https address of at most 2048 characters, without credentials in it.');
    end if;
  end if;
  if b ? 'events' or w.id is null then
    w.events := private.as_texts(b -> 'events', 'events', 8, 100);
    if coalesce(cardinality(w.events), 0) < 1 or not w.events <@ array['lead.created', 'lead.updated', 'context.created', 'context.updated',
      'context.deleted', 'user.login', 'user.settings_changed', 'export.completed']
      or cardinality(w.events) <> (select count(distinct e) from unnest(w.events) e) then
      perform private.refuse_field('events', 'A webhook has one event or more, each once, of those that exist.');
    end if;
  end if;
  if b ? 'status' then
    if coalesce(b ->> 'status', '') not in ('active', 'paused') then
      perform private.refuse_field('status', 'A webhook is active or paused.');
    end if;
    w.consecutive_failures := case when b ->> 'status' = 'active' and w.status = 'paused' then 0 else w.consecutive_failures end;
    w.status := b ->> 'status';
  end if;
  return w;
end
$$;
comment on function private.written_webhook is 'A webhook after a write of its body, or 400 VALIDATION_ERROR about the field.';

-- {webhookId?, body}: returns what a write would store, before the address is looked up.
create or replace function private.check_webhook(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  w public.webhooks;
begin
  perform private.require_permission('canManageIntegrations');
  if p ? 'webhookId' then
    w := private.require_webhook(p ->> 'webhookId');
  else
    perform private.refuse_webhook_over_limit();
  end if;
  w := private.written_webhook(w, p -> 'body');
  return jsonb_build_object('id', w.id, 'endpointUrl', w.endpoint_url);
end
$$;
comment on function private.check_webhook is
  'What a write of a webhook would store. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 WEBHOOK_NOT_FOUND, 409 TOO_MANY_WEBHOOKS.';
grant execute on function private.require_webhook, private.refuse_webhook_over_limit, private.written_webhook, private.check_webhook to authenticated;

-- {id or webhookId, body, sealed, secretEnd, secretMask}: the server has sealed the secret and checked the address.
create or replace function private.store_webhook(p jsonb) returns public.webhooks
language plpgsql volatile security definer set search_path = ''
as $$
declare
  w public.webhooks;
  v_keeps boolean;
begin
  perform private.refuse_strangers('The secret of a webhook is sealed by the API.');
  perform private.require_permission('canManageIntegrations');
  if p ? 'webhookId' then
    perform private.require_webhook(p ->> 'webhookId');
    select * into w from public.webhooks x where x.organization_id = private.org_id() and x.id = private.as_uuid(p ->> 'webhookId') for update;
    if not found then
      perform private.refuse(404, 'WEBHOOK_NOT_FOUND', 'There is no such webhook.');
    end if;
    v_keeps := p ->> 'sealed' is null or coalesce(p ->> 'secretMask' = private.webhook_mask(w), false);
    w := private.written_webhook(w, p -> 'body');
    update public.webhooks x set name = w.name, endpoint_url = w.endpoint_url, events = w.events, status = w.status,
      consecutive_failures = w.consecutive_failures, secret_end = case when v_keeps then x.secret_end else p ->> 'secretEnd' end
    where x.id = w.id returning * into w;
  else
    perform pg_advisory_xact_lock(hashtextextended('webhooks ' || private.org_id(), 0));
    perform private.refuse_webhook_over_limit();
    v_keeps := false;
    w := private.written_webhook(w, p -> 'body');
    insert into public.webhooks (id, organization_id, created_by, name, endpoint_url, secret_end, events, status)
    values (private.as_uuid(p ->> 'id'), private.org_id(), private.user_id(), w.name, w.endpoint_url, p ->> 'secretEnd', w.events, coalesce(w.status, 'active'))
    returning * into w;
    perform private.audit('integration.connected', format('Added the webhook "%s".', w.name),
      jsonb_build_object('provider', 'webhook', 'webhookId', w.id, 'webhookName', w.name));
  end if;
  if not v_keeps then
    insert into private.integration_secrets as s (webhook_id, sealed) values (w.id, p ->> 'sealed')
    on conflict (webhook_id) do update set sealed = excluded.sealed, updated_at = now();
  end if;
  return w;
end
$$;
comment on function private.store_webhook is
  'Authorization: members who manage integrations, through our server only, which seals the secret. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 WEBHOOK_NOT_FOUND, 409 TOO_MANY_WEBHOOKS.';

create or replace function private.drop_webhook(p_id text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  w public.webhooks;
begin
  perform private.require_permission('canManageIntegrations');
  delete from public.webhooks x where x.organization_id = private.org_id() and x.id = private.as_uuid(p_id) returning * into w;
  if not found then
    perform private.refuse(404, 'WEBHOOK_NOT_FOUND', 'There is no such webhook.');
  end if;
  perform private.audit('integration.disconnected', format('Deleted the webhook "%s".', w.name),
    jsonb_build_object('provider', 'webhook', 'webhookId', w.id, 'webhookName', w.name));
end
$$;
comment on function private.drop_webhook is 'Authorization: members who manage integrations of the organization. Errors: 403 FORBIDDEN, 404 WEBHOOK_NOT_FOUND.';
grant execute on function private.store_webhook, private.drop_webhook to authenticated;

-- ---------------------------------------------------------------------------------------------------------------------- attempts

create or replace function private.queue_attempt(d public.webhook_deliveries, p_at timestamptz) returns public.webhook_deliveries
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into public.webhook_deliveries (organization_id, webhook_id, event_id, event_type, payload, attempt_number, kind)
  values (d.organization_id, d.webhook_id, d.event_id, d.event_type, d.payload, d.attempt_number, d.kind)
  returning * into d;
  perform private.enqueue('webhooks.deliver', jsonb_build_object('deliveryId', d.id), p_at, p_queue => 'webhooks');
  return d;
end
$$;
comment on function private.queue_attempt is 'A row for one more attempt, and its job. Authorization: callable by definer functions and triggers of ours only.';

create or replace function private.webhook_payload(p_event_id uuid, p_type text, p_data jsonb) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', p_event_id, 'type', p_type, 'createdAt', private.iso(now()), 'data', p_data);
comment on function private.webhook_payload is 'The body of a delivery: {id, type, createdAt, data}.';

create or replace function private.has_webhook(p_org_id uuid, p_type text) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return exists (select from public.webhooks w where w.organization_id = p_org_id and w.status = 'active' and p_type = any (w.events));
end
$$;
comment on function private.has_webhook is 'Does an active webhook of the organization want this? Authorization: callable by triggers of ours only.';

-- Deleting an organization sends no event to its webhooks.
create or replace function private.notify_webhooks(p_org_id uuid, p_type text, p_data jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  d public.webhook_deliveries;
  w public.webhooks;
begin
  for w in
    select * from public.webhooks x where x.organization_id = p_org_id and x.status = 'active' and p_type = any (x.events)
      and exists (select from public.organizations o where o.id = p_org_id)
  loop
    -- Each webhook gets the same event.
    d.event_id := coalesce(d.event_id, gen_random_uuid());
    d.organization_id := p_org_id;
    d.webhook_id := w.id;
    d.event_type := p_type;
    d.payload := private.webhook_payload(d.event_id, p_type, p_data);
    d.attempt_number := 1;
    d.kind := 'event';
    perform private.queue_attempt(d, now());
  end loop;
end
$$;
comment on function private.notify_webhooks is
  'Writes a first attempt for each webhook of the organization that wants the event. Authorization: callable by definer functions and triggers of ours only.';

create or replace function private.webhook_sample(p_type text) returns jsonb
language sql stable parallel safe
return case
  when p_type like 'context.%' then jsonb_build_object('id', '00000000-0000-4000-8000-000000000001', 'name', 'Sample project', 'type', 'manual', 'status', 'active',
    'privacy', 'private', 'createdAt', private.iso(now()), 'updatedAt', private.iso(now()))
  when p_type like 'lead.%' then jsonb_build_object('id', '00000000-0000-4000-8000-000000000001', 'name', 'Sample lead', 'createdAt', private.iso(now()))
  when p_type = 'user.login' then jsonb_build_object('id', '00000000-0000-4000-8000-000000000001', 'userId', '00000000-0000-4000-8000-000000000002',
    'status', 'success', 'ipAddress', '203.0.113.7', 'location', '{}'::jsonb, 'deviceInfo', jsonb_build_object('browser', 'Firefox', 'os', 'Linux', 'deviceType', 'desktop'),
    'authMethod', 'password', 'createdAt', private.iso(now()))
  when p_type = 'user.settings_changed' then jsonb_build_object('userId', '00000000-0000-4000-8000-000000000002', 'settings', jsonb_build_object('theme', 'dark'))
  else jsonb_build_object('id', '00000000-0000-4000-8000-000000000001', 'eventType', 'system.export_completed', 'createdAt', private.iso(now())) end;
comment on function private.webhook_sample is 'What a test of a webhook sends as its data.';

-- The server sends it at once, so the attempt is leased from the start.
create or replace function private.begin_webhook_test(p_id text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  w public.webhooks;
  d public.webhook_deliveries;
  v_event constant uuid := gen_random_uuid();
begin
  perform private.require_permission('canManageIntegrations');
  w := private.require_webhook(p_id);
  perform private.refuse_strangers('A test is sent by the API.');
  insert into public.webhook_deliveries (organization_id, webhook_id, event_id, event_type, payload, kind, lease_token, lease_until, leases)
  values (w.organization_id, w.id, v_event, w.events[1], private.webhook_payload(v_event, w.events[1], private.webhook_sample(w.events[1])), 'test',
    gen_random_uuid(), clock_timestamp() + interval '1 minute', 1)
  returning * into d;
  return jsonb_build_object('id', d.id, 'token', d.lease_token, 'webhookId', w.id, 'type', d.event_type, 'url', w.endpoint_url, 'body', d.payload::text,
    'sealed', (select s.sealed from private.integration_secrets s where s.webhook_id = w.id));
end
$$;
comment on function private.begin_webhook_test is
  'A sample of the first subscribed event, for the server to send. Authorization: members who manage integrations, through our server only. Errors: 403 FORBIDDEN, 404 WEBHOOK_NOT_FOUND.';

create or replace function private.retry_delivery(p_id text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  d public.webhook_deliveries;
begin
  perform private.require_permission('canManageIntegrations');
  -- The lock serializes simultaneous requests: the second one finds the attempt of the first.
  select * into d from public.webhook_deliveries x where x.organization_id = private.org_id() and x.id = private.as_uuid(p_id) for update;
  if not found then
    perform private.refuse(404, 'DELIVERY_NOT_FOUND', 'There is no such delivery.');
  elsif d.status <> 'failed' then
    perform private.refuse(409, 'DELIVERY_NOT_FAILED', 'Only a failed delivery can be sent again.', null, jsonb_build_object('status', d.status));
  elsif exists (select from public.webhook_deliveries o where o.event_id = d.event_id and o.webhook_id = d.webhook_id and o.kind = 'manual' and o.status = 'pending') then
    perform private.refuse(409, 'DELIVERY_NOT_FAILED', 'This delivery is being sent again already.', null, '{"status": "pending"}');
  end if;
  d.attempt_number := (select max(o.attempt_number) from public.webhook_deliveries o where o.event_id = d.event_id and o.webhook_id = d.webhook_id) + 1;
  d.kind := 'manual';
  return private.delivery_json(private.queue_attempt(d, now()));
end
$$;
comment on function private.retry_delivery is
  'One more attempt at a failed delivery. Authorization: members who manage integrations of the organization. Errors: 403 FORBIDDEN, 404 DELIVERY_NOT_FOUND, 409 DELIVERY_NOT_FAILED.';
grant execute on function private.begin_webhook_test, private.retry_delivery to authenticated;
