-- Integrations by actor: reading, writing, refusals, and the effect of a worker's result. tests/integrations tests the requests to the
-- outside.
begin;
select no_plan();
-- Anna owns an organization; Ada is an admin of it, Ben a member, Vera a viewer. Stan is a stranger.
select tests.user('anna'), tests.member('ada', 'anna', 'admin'), tests.member('ben', 'anna'), tests.member('vera', 'anna', 'viewer'), tests.user('stan');
create function pg_temp.refused(p_sql text) returns text language sql
as $$ select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field') from tests.refusal(p_sql) r $$;
grant execute on function pg_temp.refused to public;
\set sealed '''v1.00000000.abc'''

-- ------------------------------------------------------------------------------------------------------------ catalogue and lists
select is((select count(*) from public.integrations where organization_id = tests.org('stan')), 2::bigint, 'an organization is born with the built-in ones');
select tests.act_as('vera');
select is(jsonb_array_length(api.list_integration_catalog('{}')), 20, 'everybody reads the catalogue');
select is((select array_agg(c ->> 'status') from jsonb_array_elements(api.list_integration_connections('{}')) c), '{default,default}', 'built-in ones are connections by default');
select is(jsonb_array_length(api.list_integrations('{}')), 2, 'and a viewer reads integrations');
select throws_ok($$ insert into public.integrations (organization_id, provider, scopes) values (private.org_id(), 'slack', '{}') $$, '42501', null, 'no person writes them directly');
select throws_ok($$ update public.webhooks set status = 'paused' $$, '42501', null, 'nor webhooks');
select throws_ok($$ select * from private.integration_secrets $$, '42501', null, 'nor reads what is sealed');

-- --------------------------------------------------------------------------------------------------------------------- connecting
select is(pg_temp.refused(q), '403 FORBIDDEN', who || ' may not: ' || q)
from unnest(array['ben', 'vera']) who, lateral (select tests.act_as(who)) a, unnest(array[
  $$ select api.connect_integration('{"provider": "slack"}') $$, $$ select api.reconnect_integration('{"provider": "slack"}') $$,
  $$ select api.disconnect_integration('{"provider": "slack"}') $$, $$ select api.update_integration('{"provider": "slack", "body": {"config": {}}}') $$,
  $$ select api.revoke_integration_permission('{"provider": "slack", "permission": "send_messages"}') $$, $$ select api.sync_integration('{"provider": "slack"}') $$,
  $$ select api.create_connector('{"body": {}}') $$, $$ select api.update_connector('{"connectorId": "x"}') $$, $$ select api.delete_connector('{"connectorId": "x"}') $$,
  $$ select api.set_connector_icon('{"connectorId": "x"}') $$, $$ select private.check_connector_test('{}') $$, $$ select private.check_webhook('{}') $$,
  $$ select api.create_webhook('{"body": {}}') $$, $$ select api.update_webhook('{"webhookId": "x"}') $$, $$ select api.delete_webhook('{"webhookId": "x"}') $$,
  $$ select private.begin_webhook_test('x') $$, $$ select api.retry_delivery('{"deliveryId": "x"}') $$, $$ select private.sealed_integration_key('mixpanel') $$]) q;

select tests.act_as('ada');
select is(pg_temp.refused(q), want, q) from (values
  ($$ select api.connect_integration('{"provider": "nothing"}') $$, '404 INTEGRATION_NOT_FOUND'),
  ($$ select api.connect_integration('{"provider": "slack"}') $$, '503 PROVIDER_NOT_CONFIGURED'),
  ($$ select api.connect_integration('{"provider": "slack", "body": {"scopes": ["x"]}}') $$, '400 VALIDATION_ERROR scopes'),
  ($$ select api.connect_integration('{"provider": "slack", "body": {"config": {"channelId": 1}}}') $$, '400 VALIDATION_ERROR config.channelId'),
  ($$ select api.connect_integration('{"provider": "mixpanel"}') $$, '400 VALIDATION_ERROR credentials'),
  ($$ select api.connect_integration('{"provider": "kijko-file-storage"}') $$, '409 ALREADY_CONNECTED'),
  ($$ select api.reconnect_integration('{"provider": "kijko-file-storage"}') $$, '409 BUILT_IN_INTEGRATION'),
  ($$ select api.disconnect_integration('{"provider": "kijko-file-storage"}') $$, '409 BUILT_IN_INTEGRATION'),
  ($$ select api.disconnect_integration('{"provider": "slack"}') $$, '404 INTEGRATION_NOT_FOUND'),
  ($$ select api.update_integration('{"provider": "slack"}') $$, '400 VALIDATION_ERROR config')) v(q, want);
select is(api.connect_integration(jsonb_build_object('provider', 'slack', 'isConfigured', true, 'stateHash', repeat('ab', 32), 'sealed', :sealed)) ->> 'sealed', :sealed,
  'an admin begins a consent');
select is(api.connect_integration(jsonb_build_object('provider', 'mixpanel', 'sealed', :sealed, 'calls', '[{"tool": "identity", "ok": true, "ms": 1840}]'::jsonb,
  'body', '{"credentials": {"apiKey": "sealed"}}'::jsonb)) ->> 'status', 'active', 'and connects a key');
select is(private.sealed_integration_key('mixpanel') #>> '{}', :sealed, 'which the server reads again');
select tests.reset();
select is(private.take_integration_state(jsonb_build_object('stateHash', repeat('cd', 32))) ->> 'outcome', 'unknown', 'a state that was not begun here');
create temp table way as select private.take_integration_state(jsonb_build_object('stateHash', repeat('ab', 32))) as p;
select is((select p ->> 'outcome' from way), 'ok', 'a state is taken once');
select is(private.take_integration_state(jsonb_build_object('stateHash', repeat('ab', 32))) ->> 'outcome', 'used', 'and not again');
select is(pg_temp.refused(format('select private.finish_integration(%L)', (select p || jsonb_build_object('userId', tests.user('ben'), 'sealed', :sealed) from way))), '403 FORBIDDEN',
  'who may not manage integrations does not finish it');
select is(private.finish_integration((select p || jsonb_build_object('sealed', :sealed) from way)) ->> 'status', 'active', 'who may does');
select is(pg_temp.refused(format('select private.finish_integration(%L)', (select p || jsonb_build_object('sealed', :sealed) from way))), '409 ALREADY_CONNECTED', 'once');
select tests.act_as('vera');
select is(api.list_integration_logs('{"integrationId": "mixpanel"}') -> 'logs' -> 0 ->> 'message', 'Connected.', 'a line tells of it');
select is(api.get_integration_stats('{"integrationId": "mixpanel"}') #> '{performance,tools}', '[{"tool": "identity", "calls": 1, "latency": "1.8s", "uptime": "100.0%"}]',
  'and so do the numbers');
select is(api.get_integration_stats('{"integrationId": "kijko-file-storage"}'), '{}', 'which are not made up');
select tests.act_as('stan');
select is(pg_temp.refused($$ select api.list_integration_logs('{"integrationId": "mixpanel"}') $$), '404 INTEGRATION_NOT_FOUND', 'a stranger reads neither');

-- ------------------------------------------------------------------------------------------------ synchronizing, by a worker's report
select tests.act_as('ada');
select is(api.sync_integration('{"provider": "slack"}') ->> 'status', 'active', 'a synchronization is asked for');
select is(pg_temp.refused($$ select api.sync_integration('{"provider": "slack"}') $$), '409 SYNC_IN_PROGRESS', 'one at a time');
select tests.reset();
create temp table work as select t from private.take_integration_work(10, 60) t;
select is((select t ->> 'kind' from work), 'sync', 'a worker takes it');
select is(private.renew_integration((t ->> 'id')::uuid, gen_random_uuid(), :sealed), false, 'who does not hold it keeps nothing') from work;
select is(private.renew_integration((t ->> 'id')::uuid, (t ->> 'token')::uuid, 'v1.00000000.new'), true, 'who holds it does') from work;
select is(private.finish_sync((t ->> 'id')::uuid, gen_random_uuid(), 'ok', 'x', '[]'), false, 'nor does it end it') from work;
select is(private.finish_sync((t ->> 'id')::uuid, (t ->> 'token')::uuid, 'expired', 'Refused.', '[]'), true, 'the provider refused') from work;
select is((select status from public.integrations where provider = 'slack'), 'expired', 'so it is expired');
select is((select count(*) from public.notifications where title = 'Slack needs to be reconnected'), 2::bigint, 'owner and admin hear of it');
select lives_ok($$ select private.sweep_integrations() $$, 'sweeping has nothing to do');
select tests.act_as('ada');
select is(api.update_integration('{"provider": "slack", "body": {"config": {"channelId": "C1"}}}') #>> '{config,channelId}', 'C1', 'a configuration is set');
select is(api.revoke_integration_permission('{"provider": "slack", "permission": "send_messages"}') -> 'scopes', '["read_channels"]', 'a permission goes');
select is(api.disconnect_integration('{"provider": "slack"}'), null, 'and then all of it');
select tests.reset();
create temp table told as select t from private.take_integration_work(10, 60) t;
select is((select t ->> 'sealed' from told), 'v1.00000000.new', 'the provider is to be told of the newest tokens');
select private.finish_revocation((t ->> 'id')::uuid, (t ->> 'token')::uuid, false) from told;
select is((select count(*) from private.integration_revocations), 1::bigint, 'a failed try is not the last');
select private.finish_revocation(id, lease_token, true) from private.integration_revocations;

-- --------------------------------------------------------------------------------------------------------------------- connectors
select tests.act_as('ada');
\set connector '11111111-1111-4111-8111-111111111111'
select is(private.check_connector('{"body": {"name": "Tools", "remoteMcpServerUrl": "https://mcp.example.nl"}}') ->> 'url', 'https://mcp.example.nl', 'what would be stored');
select is(api.create_connector(jsonb_build_object('id', :'connector', 'status', 'active', 'sealed', :sealed,
  'body', '{"name": " Tools ", "remoteMcpServerUrl": "https://mcp.example.nl", "config": {"customHeaders": {"X": "••••"}}}'::jsonb)) ->> 'name', 'Tools', 'a connector');
select is(private.check_connector_test('{"body": {"remoteMcpServerUrl": "https://mcp.example.nl"}}') #>> '{stored,id}', :'connector', 'whose secrets serve its address');
select is(api.update_connector(jsonb_build_object('connectorId', :'connector', 'status', 'error', 'message', 'Away.', 'body', '{"description": "d"}'::jsonb)) ->> 'status', 'error', 'is changed');
select is(pg_temp.refused(format($$ select api.update_connector('{"connectorId": "%s", "status": "active", "body": {"config": {"customHeaders": {"X": "plain"}}}}') $$, :'connector')),
  '400 VALIDATION_ERROR config.customHeaders', 'a header in clear is not stored');
select matches(api.set_connector_icon(jsonb_build_object('connectorId', :'connector', 'dataUrl', 'data:image/png;base64,aaaa')) ->> 'iconUrl', '^data:', 'gets an icon');
select is(jsonb_array_length(api.list_connectors('{}')), 1, 'is listed');
select tests.act_as('stan');
select is(pg_temp.refused(format($$ select api.delete_connector('{"connectorId": "%s"}') $$, :'connector')), '404 CONNECTOR_NOT_FOUND', 'is not a stranger''s');
select tests.act_as('ada');
select is(api.delete_connector(jsonb_build_object('connectorId', :'connector')), null, 'and is deleted');

-- ----------------------------------------------------------------------------------------------------------------------- webhooks
\set webhook '22222222-2222-4222-8222-222222222222'
select is(private.check_webhook('{"body": {"name": "Ours", "endpointUrl": "https://hooks.example.nl", "events": ["context.created"]}}') ->> 'endpointUrl', 'https://hooks.example.nl',
  'what would be stored');
select is(api.create_webhook(jsonb_build_object('id', :'webhook', 'sealed', :sealed, 'secretEnd', '9876',
  'body', '{"name": "Ours", "endpointUrl": "https://hooks.example.nl", "events": ["context.created"]}'::jsonb)) ->> 'secret', :sealed, 'a webhook, with what the server opens');
select is(api.list_webhooks('{}') -> 0 ->> 'secret', 'whsec_••••••••••••9876', 'later a mask');
select is(api.update_webhook(jsonb_build_object('webhookId', :'webhook', 'sealed', 'v1.00000000.other', 'secretEnd', 'xxxx', 'secretMask', 'whsec_••••••••••••9876',
  'body', '{"name": "Renamed"}'::jsonb)) ->> 'secret', 'whsec_••••••••••••9876', 'which keeps the secret');
select is(pg_temp.refused($$ select private.check_webhook('{"body": {"name": "x", "endpointUrl": "http://hooks.example.nl", "events": ["context.created"]}}') $$),
  '400 VALIDATION_ERROR endpointUrl', 'https only');
select is(private.begin_webhook_test(:'webhook') ->> 'type', 'context.created', 'a test is a sample of the first event');
select api.create_project('{"body": {"name": "Told"}}') is not null as told \gset
select tests.reset();
create temp table attempt as select t from private.take_deliveries(10, 60) t;
grant select on attempt to public;
select is((select t ->> 'type' from attempt), 'context.created', 'a project is told, in its own transaction');
select is(private.finish_delivery(jsonb_build_object('id', t ->> 'id', 'token', gen_random_uuid(), 'ok', true)), 'false', 'only its holder records it') from attempt;
select is(private.finish_delivery(jsonb_build_object('id', t ->> 'id', 'token', t ->> 'token', 'ok', false, 'status', 500, 'body', 'no')), 'true', 'as failed') from attempt;
select is(private.delivery_of(t) ->> 'status', 'failed', 'so it is') from attempt;
select tests.act_as('vera');
select is((select array_agg(d ->> 'attemptNumber') from jsonb_array_elements(api.list_deliveries(jsonb_build_object('webhookId', :'webhook')) -> 'deliveries') d
  where d #>> '{payload,data,name}' = 'Told'), '{2,1}', 'a second attempt waits');
select tests.act_as('ada');
select is(api.retry_delivery(jsonb_build_object('deliveryId', (select t ->> 'id' from attempt))) ->> 'attemptNumber', '3', 'a person sends it again');
select is(pg_temp.refused(format($$ select api.retry_delivery('{"deliveryId": "%s"}') $$, (select t ->> 'id' from attempt))), '409 DELIVERY_NOT_FAILED', 'once at a time');
select tests.act_as('stan');
select is(pg_temp.refused(format($$ select api.list_deliveries('{"webhookId": "%s"}') $$, :'webhook')), '404 WEBHOOK_NOT_FOUND', 'a stranger sees none');
select is(pg_temp.refused(format($$ select api.retry_delivery('{"deliveryId": "%s"}') $$, (select t ->> 'id' from attempt))), '404 DELIVERY_NOT_FOUND', 'and sends none');
select tests.reset();
select is(count(private.webhook_sample(e)), 8::bigint, 'there is a sample of every event')
from unnest(array['lead.created', 'lead.updated', 'context.created', 'context.updated', 'context.deleted', 'user.login', 'user.settings_changed', 'export.completed']) e;
select tests.act_as('ada');
select is(api.delete_webhook(jsonb_build_object('webhookId', :'webhook')), null, 'it is deleted, with its attempts');

-- --------------------------------------------------------------------------------------------------------------- past our server
select tests.reset();
create role tests_gateway noinherit;
grant authenticated to tests_gateway;
select set_config('tests.claims', jsonb_build_object('sub', user_id, 'sid', session_id, 'org_id', org_id, 'role', 'authenticated')::text, true) is not null as claimed
from tests.people where name = 'anna' \gset
set session authorization tests_gateway;
set role authenticated;
select set_config('request.jwt.claims', current_setting('tests.claims'), true) is not null as claimed \gset
select private.enter_claims();
select is(jsonb_array_length(api.list_integrations('{}')), 3, 'Supabase''s clients read');
select is(pg_temp.refused(q), '403 FORBIDDEN', 'and write nothing that the server seals: ' || q) from unnest(array[
  $$ select api.connect_integration('{"provider": "slack", "isConfigured": true, "stateHash": "00", "sealed": "v1.00000000.abc"}') $$,
  $$ select api.connect_integration('{"provider": "amplitude", "sealed": "v1.00000000.abc", "body": {"credentials": {"apiKey": "k"}}}') $$,
  $$ select api.create_connector('{"id": "11111111-1111-4111-8111-111111111111", "status": "active", "body": {"name": "x", "remoteMcpServerUrl": "http://10.0.0.1"}}') $$,
  $$ select api.create_webhook('{"id": "22222222-2222-4222-8222-222222222222", "body": {"name": "x", "endpointUrl": "https://10.0.0.1", "events": ["user.login"]}}') $$,
  $$ select private.sealed_connector(null, 'x') $$, $$ select private.sealed_integration_key('mixpanel') $$]) q;
select is(api.disconnect_integration('{"provider": "mixpanel"}'), null, 'but disconnect');
reset session authorization;

-- Addresses that are stored and not contacted.
select is(private.is_outside_address(v.url), v.ok, format('address %s', left(v.url, 60)))
from (values ('https://icons.example.nl/i.png', true), ('https://93.184.216.34/', true), ('http://icons.example.nl/', false), ('https://localhost/', false),
  ('https://10.1.2.3/', false), ('https://169.254.169.254/latest', false), ('https://[::1]/', false), ('https://0x7f000001/', false), ('https://icons', false),
  ('https://a:b@icons.example.nl/', false), ('https://icons.example.nl/' || repeat('x', 2100), false), (null, false)) v (url, ok);

select * from finish();
rollback;
