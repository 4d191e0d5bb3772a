select pg_temp.keep('integrationId', i.id) from public.integrations i where i.organization_id = pg_temp.org() and i.provider = 'kijko-file-storage';
with c as (
  insert into public.connectors (id, organization_id, name, remote_mcp_server_url, status)
  values (gen_random_uuid(), pg_temp.org(), 'Connector of ' || pg_temp.tenant(), 'https://mcp.invalid', 'active') returning id
) select pg_temp.keep('connectorId', id) from c;
with w as (
  insert into public.webhooks (id, organization_id, name, endpoint_url, secret_end, events)
  values (gen_random_uuid(), pg_temp.org(), 'Webhook of ' || pg_temp.tenant(), 'https://hooks.invalid', '1234', '{lead.created}') returning id
) select pg_temp.keep('webhookId', id) from w;
select private.notify_webhooks(pg_temp.org(), 'lead.created', jsonb_build_object('name', pg_temp.secret()));
select pg_temp.keep('deliveryId', d.id) from public.webhook_deliveries d where d.webhook_id = pg_temp.id('webhookId');
