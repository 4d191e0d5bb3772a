-- Operations of contract 40, section 8.1.

create or replace function api.list_integration_catalog(p jsonb) returns jsonb
language sql stable
as $$ select jsonb_agg(private.integration_app_json(a) order by a.position) from public.integration_apps a $$;
comment on function api.list_integration_catalog is 'GET /integrations/catalog: IntegrationApp[].';

create or replace function api.list_integrations(p jsonb) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(private.integration_json(i) order by i.connected_at, i.id), '[]') from public.integrations i
  where i.organization_id = private.org_id()
$$;
comment on function api.list_integrations is 'GET /integrations: ConnectedIntegration[].';

create or replace function api.list_integration_connections(p jsonb) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(u.value order by u.created_at, u.id), '[]')
  from (
    select i.created_at, i.id, private.connection_json(i, a.auth) as value
    from public.integrations i join public.integration_apps a on a.id = i.provider where i.organization_id = private.org_id()
    union all
    select c.created_at, c.id, private.connector_connection_json(c) from public.connectors c where c.organization_id = private.org_id()
  ) u
$$;
comment on function api.list_integration_connections is 'GET /integrations/connections: IntegrationConnection[], pre-built and custom.';

create or replace function api.disconnect_integration(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.drop_integration(p ->> 'provider');
  return null;
end
$$;
comment on function api.disconnect_integration is
  'DELETE /integrations/{provider}. Errors: 403 FORBIDDEN, 404 INTEGRATION_NOT_FOUND, 409 BUILT_IN_INTEGRATION.';

create or replace function api.update_integration(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  i public.integrations;
begin
  if coalesce(p -> 'body' -> 'config', 'null') = 'null' then
    perform private.require_permission('canManageIntegrations');
    perform private.refuse_field('config', 'config is required.');
  end if;
  i := private.set_integration_config(p ->> 'provider', p -> 'body' -> 'config');
  return private.connection_json(i, (select a.auth from public.integration_apps a where a.id = i.provider));
end
$$;
comment on function api.update_integration is
  'PATCH /integrations/{provider}: IntegrationConnection. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 INTEGRATION_NOT_FOUND.';

create or replace function api.revoke_integration_permission(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.integration_json(private.revoke_permission(p ->> 'provider', p ->> 'permission'));
end
$$;
comment on function api.revoke_integration_permission is
  'DELETE /integrations/{provider}/permissions/{permission}: ConnectedIntegration. Errors: 403 FORBIDDEN, 404 INTEGRATION_NOT_FOUND, 409 BUILT_IN_INTEGRATION.';

create or replace function api.sync_integration(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.integration_json(private.request_sync(p ->> 'provider'));
end
$$;
comment on function api.sync_integration is
  'POST /integrations/{provider}/sync: ConnectedIntegration. Errors: 403 FORBIDDEN, 404 INTEGRATION_NOT_FOUND, 409 SYNC_IN_PROGRESS, BUILT_IN_INTEGRATION.';

create or replace function api.list_integration_logs(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.integration_logs_json(p ->> 'integrationId', greatest(1, least(coalesce(private.as_int(p -> 'limit', 'limit'), 20), 100)),
    greatest(0, coalesce(private.as_int(p -> 'offset', 'offset'), 0)));
end
$$;
comment on function api.list_integration_logs is 'GET /integrations/{id}/logs: {logs, hasMore}. Errors: 404 INTEGRATION_NOT_FOUND.';

create or replace function api.get_integration_stats(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.integration_stats_json(p ->> 'integrationId');
end
$$;
comment on function api.get_integration_stats is 'GET /integrations/{id}/stats: IntegrationStats. Errors: 404 INTEGRATION_NOT_FOUND.';

create or replace function api.list_connectors(p jsonb) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(private.connector_json(c) order by c.created_at, c.id), '[]') from public.connectors c
  where c.organization_id = private.org_id()
$$;
comment on function api.list_connectors is 'GET /integrations/connectors: CustomConnector[].';

create or replace function api.create_connector(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.connector_json(private.store_connector(private.as_object(p, 'p') - 'connectorId'));
end
$$;
comment on function api.create_connector is
  'POST /integrations/connectors: CustomConnector. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 409 TOO_MANY_CONNECTORS.';

create or replace function api.update_connector(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.connector_json(private.store_connector(jsonb_build_object('connectorId', null) || private.as_object(p, 'p')));
end
$$;
comment on function api.update_connector is
  'PATCH /integrations/connectors/{id}: CustomConnector. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 CONNECTOR_NOT_FOUND.';

create or replace function api.delete_connector(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.drop_connector(p ->> 'connectorId');
  return null;
end
$$;
comment on function api.delete_connector is 'DELETE /integrations/connectors/{id}. Errors: 403 FORBIDDEN, 404 CONNECTOR_NOT_FOUND.';

create or replace function api.set_connector_icon(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.connector_json(private.set_connector_icon(p ->> 'connectorId', p ->> 'dataUrl'));
end
$$;
comment on function api.set_connector_icon is
  'POST /integrations/connectors/{id}/icon: CustomConnector. Errors: 400 VALIDATION_ERROR, INVALID_FILE_TYPE, FILE_TOO_LARGE, 403 FORBIDDEN, 404 CONNECTOR_NOT_FOUND.';

create or replace function api.list_webhooks(p jsonb) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(private.webhook_json(w) order by w.created_at, w.id), '[]') from public.webhooks w
  where w.organization_id = private.org_id()
$$;
comment on function api.list_webhooks is 'GET /integrations/webhooks: Webhook[].';

-- The answer holds the sealed secret, which the server opens. It is the only answer with the secret in clear text; its replay has it too.
create or replace function api.create_webhook(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.webhook_json(private.store_webhook(private.as_object(p, 'p') - 'webhookId')) || jsonb_build_object('secret', p ->> 'sealed');
end
$$;
comment on function api.create_webhook is
  'POST /integrations/webhooks: Webhook. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 409 TOO_MANY_WEBHOOKS, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function api.update_webhook(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.webhook_json(private.store_webhook(jsonb_build_object('webhookId', null) || private.as_object(p, 'p')));
end
$$;
comment on function api.update_webhook is
  'PATCH /integrations/webhooks/{id}: Webhook. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 WEBHOOK_NOT_FOUND.';

create or replace function api.delete_webhook(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.drop_webhook(p ->> 'webhookId');
  return null;
end
$$;
comment on function api.delete_webhook is 'DELETE /integrations/webhooks/{id}. Errors: 403 FORBIDDEN, 404 WEBHOOK_NOT_FOUND.';

create or replace function api.list_deliveries(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  w public.webhooks := private.require_webhook(p ->> 'webhookId');
  v_limit integer := greatest(1, least(coalesce(private.as_int(p -> 'limit', 'limit'), 20), 100));
  v_offset integer := greatest(0, coalesce(private.as_int(p -> 'offset', 'offset'), 0));
  v_rows jsonb;
begin
  select coalesce(jsonb_agg(private.delivery_json(d) order by d.created_at desc, d.id desc), '[]') into v_rows
  from (
    select * from public.webhook_deliveries x where x.organization_id = w.organization_id and x.webhook_id = w.id
    order by x.created_at desc, x.id desc limit v_limit + 1 offset v_offset
  ) d;
  return jsonb_build_object('deliveries', case when jsonb_array_length(v_rows) > v_limit then v_rows - v_limit else v_rows end,
    'hasMore', jsonb_array_length(v_rows) > v_limit);
end
$$;
comment on function api.list_deliveries is 'GET /integrations/webhooks/{id}/deliveries: {deliveries, hasMore}. Errors: 404 WEBHOOK_NOT_FOUND.';

create or replace function api.retry_delivery(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.retry_delivery(p ->> 'deliveryId');
end
$$;
comment on function api.retry_delivery is
  'POST /integrations/webhooks/deliveries/{id}/retry: WebhookDelivery. Errors: 403 FORBIDDEN, 404 DELIVERY_NOT_FOUND, 409 DELIVERY_NOT_FAILED.';
grant execute on function api.list_integration_catalog, api.list_integrations, api.list_integration_connections, api.disconnect_integration, api.update_integration,
  api.revoke_integration_permission, api.sync_integration, api.list_integration_logs, api.get_integration_stats, api.list_connectors, api.create_connector,
  api.update_connector, api.delete_connector, api.set_connector_icon, api.list_webhooks, api.create_webhook, api.update_webhook, api.delete_webhook,
  api.list_deliveries, api.retry_delivery to authenticated;
