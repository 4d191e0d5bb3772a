-- Reflexes: what each actor may do (contract 20, 9 and 16.1), and what may be stored (2.3, 10.1, 11.5).
begin;
select no_plan();

-- Anna owns skills and reflexes; Mia is a member of Anna's organization, Vic a viewer there; Boris has a public skill; Stan is a stranger.
select tests.user('anna'), tests.member('mia', 'anna'), tests.member('vic', 'anna', 'viewer'), tests.user('boris'), tests.user('stan');
insert into private.installation (key, value) values ('api_url', '"https://api.kijko.test/"'), ('providers', '{"local": true}')
on conflict (key) do update set value = excluded.value;
create function pg_temp.sid(p_name text) returns uuid language sql immutable as $$
  select ('00000000-0000-4000-8000-0000000000' || case p_name when 'own' then '01' when 'paused' then '02' when 'public' then '03' else '04' end)::uuid $$;
insert into public.skills (id, user_id, organization_id, name, prompt_template, is_public, is_active) values
  (pg_temp.sid('own'), tests.user('anna'), tests.org('anna'), 'Own', 'Twenty characters of {{text}}', false, true),
  (pg_temp.sid('paused'), tests.user('anna'), tests.org('anna'), 'Paused', 'Twenty characters of {{text}}', false, false),
  (pg_temp.sid('public'), tests.user('boris'), tests.org('boris'), 'Public', 'Twenty characters of {{text}}', true, true),
  (pg_temp.sid('hidden'), tests.user('boris'), tests.org('boris'), 'Hidden', 'Twenty characters of {{text}}', false, true);
create temp table ids (name text primary key, id uuid);
grant select, insert on ids to public;
create function pg_temp.id(p_name text) returns uuid language sql stable as $$ select id from ids where name = p_name $$;
create function pg_temp.create(p_config jsonb, p_type text default 'event', p_more jsonb default '{}', p_skill text default 'own') returns jsonb
language sql volatile as $$
  select api.create_reflex(jsonb_build_object('sealedSecret', 'v1.0123abcd.' || repeat('s', 80), 'body',
    jsonb_build_object('skillId', coalesce(pg_temp.sid(p_skill)::text, p_skill), 'triggerType', p_type, 'triggerConfig', p_config) || p_more)) $$;
create function pg_temp.refusal(p_sql text) returns text language plpgsql volatile as $$
declare
  v_detail text;
begin
  execute p_sql;
  return 'accepted';
exception when others then
  get stacked diagnostics v_detail = pg_exception_detail;
  return sqlstate || ' ' || coalesce(v_detail::jsonb ->> 'code', '') || ' ' || coalesce(v_detail::jsonb ->> 'field', '-') || ': ' || sqlerrm;
end
$$;

-- ---------------------------------------------------------------------------------------------------------------- the owner
select tests.act_as('anna');
insert into ids select 'webhook', (pg_temp.create('{"url": "https://evil.example", "secret": "mine", "method": "GET", "x": 1}', 'webhook') ->> 'id')::uuid;
select is(api.get_reflex(jsonb_build_object('reflexId', pg_temp.id('webhook'))) - 'createdAt' - 'updatedAt',
  jsonb_build_object('id', pg_temp.id('webhook'), 'skillId', pg_temp.sid('own'), 'userId', tests.user('anna'), 'triggerType', 'webhook',
    'triggerConfig', jsonb_build_object('url', 'https://api.kijko.test/webhooks/reflex/' || pg_temp.id('webhook'),
      'secret', 'v1.0123abcd.' || repeat('s', 80), 'method', 'GET'),
    'isActive', true, 'triggerCount', 0, 'consecutiveFailures', 0), 'url and secret of a webhook are the server''s');
select is(pg_temp.create('{}', 'webhook') -> 'triggerConfig' ->> 'method', 'POST', 'the method is POST unless said otherwise');
select matches(pg_temp.create('{}', 'webhook') ->> 'webhookUrl', '^https://api.kijko.test/webhooks/reflex/[0-9a-f-]{36}$', 'creating tells the address');
select ok(not pg_temp.create('{"eventName": "push"}') ? 'webhookUrl', 'only of webhooks');

-- The stored values, by type.
select is(pg_temp.create(v.given, v.type) -> 'triggerConfig', v.stored, v.type || ' ' || v.given)
from (values
  ('event', '{"eventName": " push ", "source": "", "more": 1}'::jsonb, '{"eventName": "push"}'::jsonb),
  ('event', '{"eventName": "push", "source": "github"}', '{"eventName": "push", "source": "github"}'),
  ('event', '{"eventName": "push", "source": null}', '{"eventName": "push"}'),
  ('email', '{}', '{}'),
  ('email', '{"fromAddress": "", "subjectPattern": "/a/", "bodyPattern": "b*"}', '{"subjectPattern": "/a/", "bodyPattern": "b*"}'),
  ('file_change', '{"paths": ["*.ts", " ", "src/**", "*.ts "]}', '{"paths": ["*.ts", "src/**"], "events": ["create", "modify"]}'),
  ('file_change', '{"paths": ["a"], "events": ["delete", "create", "delete"]}', '{"paths": ["a"], "events": ["delete", "create"]}'),
  ('api_call', '{"endpoint": " /projects/* "}', '{"endpoint": "/projects/*", "method": "POST"}'),
  ('api_call', '{"endpoint": "/projects", "method": "DELETE"}', '{"endpoint": "/projects", "method": "DELETE"}')) v (type, given, stored);

-- Refusals.
select is(pg_temp.refusal(format('select pg_temp.create(%L, %L)', v.given, v.type)), 'PT400 INVALID_TRIGGER_CONFIG triggerConfig: ' || v.message, v.type || ' ' || coalesce(v.given, 'absent'))
from (values
  ('event', '{}', 'Event name is required'), ('event', '{"eventName": ""}', 'Event name is required'), ('event', '{"eventName": " "}', 'Event name is required'),
  ('event', '{"eventName": 7}', 'eventName must be a text'), ('event', jsonb_build_object('eventName', repeat('x', 201))::text, 'eventName must be 200 characters or less'),
  ('event', '{"eventName": "a", "source": []}', 'source must be a text'), ('event', 'null', 'A trigger configuration is required'),
  ('event', '[]', 'A trigger configuration is required'), ('event', null, 'A trigger configuration is required'),
  ('webhook', '{"method": "PUT"}', 'Method must be POST or GET'), ('webhook', '{"method": "post"}', 'Method must be POST or GET'),
  ('webhook', '{"method": 7}', 'Method must be POST or GET'), ('webhook', '"x"', 'A trigger configuration is required'),
  ('email', jsonb_build_object('bodyPattern', repeat('x', 201))::text, 'bodyPattern must be 200 characters or less'), ('email', '{"fromAddress": {}}', 'fromAddress must be a text'),
  ('file_change', '{}', 'At least one file path pattern is required'), ('file_change', '{"paths": []}', 'At least one file path pattern is required'),
  ('file_change', '{"paths": "a"}', 'At least one file path pattern is required'), ('file_change', '{"paths": ["", " "]}', 'At least one file path pattern is required'),
  ('file_change', '{"paths": ["a", 7]}', 'File path patterns must be texts'),
  ('file_change', jsonb_build_object('paths', (select jsonb_agg('p' || i) from generate_series(1, 51) i))::text, 'At most 50 file path patterns are possible'),
  ('file_change', jsonb_build_object('paths', jsonb_build_array(repeat('x', 201)))::text, 'A file path pattern must be 200 characters or less'),
  ('file_change', '{"paths": ["a"], "events": []}', 'Events must be one or more of create, modify and delete'),
  ('file_change', '{"paths": ["a"], "events": ["rename"]}', 'Events must be one or more of create, modify and delete'),
  ('file_change', '{"paths": ["a"], "events": "create"}', 'Events must be one or more of create, modify and delete'),
  ('api_call', '{}', 'API endpoint is required'), ('api_call', '{"endpoint": " "}', 'API endpoint is required'),
  ('api_call', '{"endpoint": "/a", "method": "HEAD"}', 'Method must be GET, POST, PUT, PATCH or DELETE'),
  ('schedule', '{"cron": "0 9 * * *"}', 'Use Habits for scheduled triggers')) v (type, given, message);
select is(pg_temp.refusal($$ select pg_temp.create('{}', 'sms') $$),
  'PT400 VALIDATION_ERROR triggerType: The trigger type must be webhook, email, file_change, api_call or event.', 'an unknown type');

-- Conditions.
create function pg_temp.conditions(p jsonb) returns jsonb language sql volatile as $$
  select pg_temp.create('{"eventName": "e"}', 'event', jsonb_build_object('conditions', p)) -> 'conditions' $$;
select is(pg_temp.conditions(v.given), v.stored, v.given::text)
from (values
  ('null'::jsonb, null::jsonb), ('{}', null), ('{"filters": []}', null), ('{"filters": null, "expression": " ", "matchAll": true}', null),
  ('{"expression": " a == 1 ", "x": 1}', '{"expression": "a == 1"}'),
  ('{"filters": [{"field": "a", "operator": "exists", "x": 1}]}', '{"filters": [{"field": "a", "operator": "exists", "value": ""}]}'),
  ('{"filters": [{"field": "a", "operator": "in", "value": ["x", 1, true]}], "matchAll": false}',
    '{"filters": [{"field": "a", "operator": "in", "value": ["x", 1, true]}], "matchAll": false}'),
  ('{"filters": [{"field": "a", "operator": "gt", "value": 1}, {"field": "b", "operator": "equals", "value": false}]}',
    '{"filters": [{"field": "a", "operator": "gt", "value": 1}, {"field": "b", "operator": "equals", "value": false}], "matchAll": true}')) v (given, stored);
select is(pg_temp.refusal(format('select pg_temp.conditions(%L)', v.given)), 'PT400 INVALID_CONDITIONS ' || v.message, left(v.given, 100))
from (values
  ('[]', 'conditions: Conditions must be an object'), ('7', 'conditions: Conditions must be an object'),
  (jsonb_build_object('x', repeat('x', 140000))::text, 'conditions: Conditions must be 64 KiB or less'),
  ('{"expression": 7}', 'conditions.expression: Expression must be a text'), (jsonb_build_object('expression', repeat('x', 501))::text, 'conditions.expression: Expression too long'),
  ('{"filters": {}}', 'conditions.filters: Filters must be an array'),
  (jsonb_build_object('filters', (select jsonb_agg(7) from generate_series(1, 51)))::text, 'conditions.filters: Too many filters: 51 (max: 50)'),
  ('{"filters": [7]}', 'conditions.filters[0]: Filter 1: Filter must be an object'),
  ('{"filters": [{"field": "a", "operator": "exists"}, {"operator": "equals"}]}', 'conditions.filters[1]: Filter 2: Field name is required'),
  (jsonb_build_object('filters', jsonb_build_array(jsonb_build_object('field', repeat('x', 201))))::text, 'conditions.filters[0]: Filter 1: Field name must be 200 characters or less'),
  ('{"filters": [{"field": "a", "operator": "like", "value": 1}]}', 'conditions.filters[0]: Filter 1: Invalid operator: like'),
  ('{"filters": [{"field": "a", "operator": "equals"}]}', 'conditions.filters[0]: Filter 1: Value is required for this operator'),
  ('{"filters": [{"field": "a", "operator": "in", "value": "a,b"}]}', 'conditions.filters[0]: Filter 1: Value must be an array for this operator'),
  ('{"filters": [{"field": "a", "operator": "gt", "value": [1]}]}', 'conditions.filters[0]: Filter 1: Value must not be an array for this operator'),
  ('{"filters": [{"field": "a", "operator": "gt", "value": {}}]}', 'conditions.filters[0]: Filter 1: Value must be a text, a number or true or false'),
  ('{"filters": [{"field": "a", "operator": "in", "value": [null]}]}', 'conditions.filters[0]: Filter 1: Value must hold texts, numbers, true and false only'),
  (jsonb_build_object('filters', jsonb_build_array(jsonb_build_object('field', 'a', 'operator', 'in', 'value', (select jsonb_agg(7) from generate_series(1, 101)))))::text,
    'conditions.filters[0]: Filter 1: Value must have at most 100 entries'),
  (jsonb_build_object('filters', jsonb_build_array(jsonb_build_object('field', 'a', 'operator', 'regex', 'value', repeat('x', 201))))::text,
    'conditions.filters[0]: Filter 1: Pattern must be 200 characters or less'),
  ('{"matchAll": 1}', 'conditions.matchAll: matchAll must be true or false')) v (given, message);

-- Skills that may be used.
select is(pg_temp.create('{"eventName": "e"}', 'event', '{}', 'public') ->> 'skillId', pg_temp.sid('public')::text, 'a public skill of somebody else may be used');
select is((pg_temp.create('{"eventName": "e"}', 'event', '{}', 'paused') ->> 'isActive')::boolean, true, 'an active reflex on an inactive skill is allowed');
select is(pg_temp.refusal($$ select pg_temp.create('{"eventName": "e"}', 'event', '{}', 'hidden') $$),
  'PT404 SKILL_NOT_FOUND skillId: Skill with ID 00000000-0000-4000-8000-000000000004 not found', 'a private one is not found');
select is(pg_temp.refusal($$ select pg_temp.create('{"eventName": "e"}', 'event', '{"skillId": "nope"}') $$),
  'PT404 SKILL_NOT_FOUND skillId: Skill with ID nope not found', 'nor is what is no id');
select is(pg_temp.refusal($$ select pg_temp.create('{"eventName": "e"}', 'event', '{"isActive": null}') $$),
  'PT400 VALIDATION_ERROR isActive: isActive must be true or false.', 'null is no switch');

-- psql meets the same rules.
select is(pg_temp.refusal($$ insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config)
  values (private.user_id(), private.org_id(), pg_temp.sid('hidden'), 'event', '{"eventName": "e"}') $$),
  'PT404 SKILL_NOT_FOUND skillId: Skill with ID 00000000-0000-4000-8000-000000000004 not found', 'nobody hangs a reflex on another''s private skill by an insert');
select is(pg_temp.refusal($$ insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config)
  values (private.user_id(), private.org_id(), pg_temp.sid('own'), 'schedule', '{}') $$), 'PT400 INVALID_TRIGGER_CONFIG triggerConfig: Use Habits for scheduled triggers', 'nor schedules');
select throws_ok($$ insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config)
  values (tests.user('stan'), private.org_id(), pg_temp.sid('public'), 'event', '{"eventName": "e"}') $$, '42501', null, 'nor for somebody else');
select throws_ok($$ insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config)
  values (private.user_id(), tests.org('boris'), pg_temp.sid('own'), 'event', '{"eventName": "e"}') $$, '42501', null, 'nor charged to another organization');
insert into ids select 'event', (pg_temp.create('{"eventName": "push"}', 'event', '{"conditions": {"expression": "a == 1"}}') ->> 'id')::uuid;
select isnt_empty($$ update public.reflexes set conditions = '{"filters": [{"field": "a", "operator": "exists"}]}' where id = pg_temp.id('event') returning 1 $$, 'she changes conditions with psql');
select is((select conditions from public.reflexes where id = pg_temp.id('event')), '{"filters": [{"field": "a", "operator": "exists", "value": ""}]}', 'stored tidily');
select throws_ok(format('update public.reflexes set %s where id = pg_temp.id(''event'')', v.what), '42501', null, v.what || ' is not hers to write')
from (values ('skill_id = pg_temp.sid(''public'')'), ('trigger_type = ''webhook'''), ('trigger_count = 9'), ('consecutive_failures = 0'), ('user_id = null')) v (what);
select throws_ok('select sealed from private.reflex_secrets', '42501', null, 'sealed secrets are nobody''s to read');
select throws_ok('select key from private.reflex_deliveries', '42501', null, 'nor are deliveries');

-- ------------------------------------------------------------------------------------------------- updates, switching on and off
create function pg_temp.update(p_body jsonb, p_name text default 'event') returns jsonb language sql volatile as $$
  select api.update_reflex(jsonb_build_object('reflexId', pg_temp.id(p_name), 'body', p_body)) $$;
select is(pg_temp.update('{"triggerType": "webhook", "skillId": "x", "userId": "y", "triggerCount": 7, "unknown": 1}') - 'updatedAt',
  api.get_reflex(jsonb_build_object('reflexId', pg_temp.id('event'))) - 'updatedAt', 'read-only members are ignored');
select is(pg_temp.update('{"triggerConfig": {"eventName": "pull"}, "conditions": null}') - 'createdAt' - 'updatedAt' - 'id' - 'skillId' - 'userId',
  '{"triggerType": "event", "triggerConfig": {"eventName": "pull"}, "isActive": true, "triggerCount": 0, "consecutiveFailures": 0}', 'the configuration is replaced, null clears');
select is(pg_temp.update('{"triggerConfig": {"method": "POST", "secret": "x"}}', 'webhook') -> 'triggerConfig',
  jsonb_build_object('url', 'https://api.kijko.test/webhooks/reflex/' || pg_temp.id('webhook'), 'secret', 'v1.0123abcd.' || repeat('s', 80), 'method', 'POST'),
  'a webhook keeps address and secret');
select is(pg_temp.refusal($$ select pg_temp.update('{"triggerConfig": null}') $$), 'PT400 INVALID_TRIGGER_CONFIG triggerConfig: A trigger configuration is required', 'null is no configuration');
select is(pg_temp.refusal($$ select pg_temp.update('{"isActive": null}') $$), 'PT400 VALIDATION_ERROR isActive: isActive must be true or false.', 'and no switch');
select is(api.deactivate_reflex(jsonb_build_object('reflexId', pg_temp.id('event'))) -> 'isActive', 'false', 'switched off');
select tests.reset();
update public.reflexes set consecutive_failures = 2, last_error_message = 'Broken' where id in (pg_temp.id('event'), pg_temp.id('webhook'));
update public.skills set is_active = false where id = pg_temp.sid('own');
select tests.act_as('anna');
select is(pg_temp.refusal($$ select api.activate_reflex(jsonb_build_object('reflexId', pg_temp.id('event'))) $$),
  'PT409 SKILL_INACTIVE -: Cannot activate reflex: associated skill is inactive', 'not on while the skill is off');
select is(pg_temp.refusal($$ select api.activate_reflex(jsonb_build_object('reflexId', pg_temp.id('webhook'))) $$),
  'PT409 SKILL_INACTIVE -: Cannot activate reflex: associated skill is inactive', 'also where it is on already');
select is(pg_temp.refusal($$ select pg_temp.update('{"isActive": true}') $$),
  'PT409 SKILL_INACTIVE -: Cannot activate reflex: associated skill is inactive', 'nor by an update');
select is(pg_temp.refusal($$ update public.reflexes set is_active = true where id = pg_temp.id('event') $$),
  'PT409 SKILL_INACTIVE -: Cannot activate reflex: associated skill is inactive', 'nor by psql');
select is(pg_temp.update('{"isActive": true, "conditions": {"expression": "x"}}', 'webhook') ->> 'consecutiveFailures', '2', 'staying on asks for nothing and forgets nothing');
select is((api.reset_reflex_errors(jsonb_build_object('reflexId', pg_temp.id('event')))) - array['createdAt', 'updatedAt', 'id', 'skillId', 'userId', 'triggerConfig'],
  '{"triggerType": "event", "isActive": true, "triggerCount": 0, "consecutiveFailures": 0}', 'resetting errors asks for no skill and switches on');
select tests.reset();
update public.skills set is_active = true where id = pg_temp.sid('own');
update public.reflexes set is_active = false where id = pg_temp.id('webhook');
select tests.act_as('anna');
select is(pg_temp.update('{"isActive": true}', 'webhook') ->> 'consecutiveFailures', '0', 'switching on by an update forgets failures');
select ok(not api.get_reflex(jsonb_build_object('reflexId', pg_temp.id('webhook'))) ? 'lastErrorMessage', 'and their message');

-- A skill that is no longer visible.
insert into ids select 'foreign', (pg_temp.create('{"eventName": "e"}', 'event', '{"isActive": false}', 'public') ->> 'id')::uuid;
select tests.reset();
update public.skills set is_public = false where id = pg_temp.sid('public');
select tests.act_as('anna');
select is(pg_temp.refusal(format('select api.%s(jsonb_build_object(''reflexId'', pg_temp.id(''foreign'')))', f)),
  'PT404 SKILL_NOT_FOUND -: Skill with ID 00000000-0000-4000-8000-000000000003 not found', f)
from unnest(array['get_reflex_full', 'activate_reflex', 'test_reflex']) f;
select is(api.list_reflexes(jsonb_build_object('skillId', pg_temp.sid('public'), 'isActive', false)) -> 'reflexes' -> 0 -> 'skill' ->> 'name', 'Unknown Skill', 'the list has a placeholder');
select tests.reset();
update public.skills set is_public = true where id = pg_temp.sid('public');

-- ---------------------------------------------------------------------------------------------------------------- reading
select tests.act_as('anna');
select is(api.get_reflex_full(jsonb_build_object('reflexId', pg_temp.id('event'))) -> 'skill' ->> 'name', 'Own', 'with its skill');
select tests.reset();
update public.reflexes set is_active = id not in (pg_temp.id('foreign')), last_triggered_at = case id when pg_temp.id('webhook') then now()
  when pg_temp.id('event') then now() - interval '1 hour' end where user_id = tests.user('anna');
update public.reflexes set trigger_count = 3 where id = pg_temp.id('webhook');
update public.reflexes set consecutive_failures = 1 where id = pg_temp.id('event');
select tests.act_as('anna');
select is(api.list_reflexes('{"pageSize": 2}') #>> '{reflexes, 0, id}', pg_temp.id('webhook')::text, 'the latest triggered comes first');
select is(api.list_reflexes('{"pageSize": 2}') #>> '{reflexes, 1, id}', pg_temp.id('event')::text, 'then the one before');
select is(api.list_reflexes('{"pageSize": 500}') - 'reflexes', jsonb_build_object('total', (select count(*) from public.reflexes), 'page', 1, 'pageSize', 100, 'hasMore', false),
  'large pages are cut');
select is(jsonb_path_query_array(api.list_reflexes('{}'), '$.reflexes[last].id') ->> 0,
  case when (select count(*) from public.reflexes) <= 20 then pg_temp.id('foreign')::text else jsonb_path_query_array(api.list_reflexes('{}'), '$.reflexes[last].id') ->> 0 end, 'inactive ones are last');
select is(api.list_reflexes('{"page": 2, "pageSize": 1, "triggerType": "event", "isActive": "true"}') -> 'hasMore', 'true', 'filters and pages');
select is(api.list_reflexes('{"skillId": "no-uuid"}') ->> 'total', '0', 'what is no id matches nothing');
select is(pg_temp.refusal($$ select api.list_reflexes('{"page": 0}') $$), 'PT400 VALIDATION_ERROR page: page must be at least 1.', 'pages begin at 1');
select is(pg_temp.refusal($$ select api.list_reflexes('{"pageSize": 0}') $$), 'PT400 VALIDATION_ERROR pageSize: pageSize must be from 1 to 100.', 'and hold something');
select is(api.get_reflex_stats('{}') - 'recentTriggers', jsonb_build_object('totalReflexes', (select count(*) from public.reflexes),
    'activeReflexes', (select count(*) - 1 from public.reflexes), 'totalTriggers', 3, 'failedReflexes', 1, 'triggersByType',
    jsonb_build_object('schedule', 0) || (select jsonb_object_agg(t, (select count(*) from public.reflexes where trigger_type = t))
      from unnest(array['webhook', 'email', 'file_change', 'api_call', 'event']) t)), 'numbers');
select is(jsonb_path_query_array(api.get_reflex_stats('{}'), '$.recentTriggers[*].reflexId'), jsonb_build_array(pg_temp.id('webhook'), pg_temp.id('event')), 'the latest triggers');
select is(api.get_reflex_webhook(jsonb_build_object('reflexId', pg_temp.id('webhook'))) - 'samplePayload',
  jsonb_build_object('url', 'https://api.kijko.test/webhooks/reflex/' || pg_temp.id('webhook'), 'secret', 'v1.0123abcd.' || repeat('s', 80), 'method', 'POST'), 'how to call a webhook');
select is(pg_temp.refusal(format('select api.%s(jsonb_build_object(''reflexId'', pg_temp.id(''event'')))', f)), 'PT409 NOT_WEBHOOK -: This reflex is not triggered by a webhook', f)
from unnest(array['get_reflex_webhook', 'regenerate_reflex_secret']) f;
select is(api.regenerate_reflex_secret(jsonb_build_object('reflexId', pg_temp.id('webhook'), 'sealedSecret', 'v1.0123abcd.' || repeat('n', 80))) ->> 'secret',
  'v1.0123abcd.' || repeat('n', 80), 'a new secret');
select is(api.get_reflex(jsonb_build_object('reflexId', pg_temp.id('webhook'))) -> 'triggerConfig' ->> 'secret', 'v1.0123abcd.' || repeat('n', 80), 'takes the place of the old one');
select is(api.list_reflex_executions(jsonb_build_object('reflexId', pg_temp.id('event'))), '{"executions": [], "total": 0}', 'no executions yet');
select is(api.test_reflex(jsonb_build_object('reflexId', pg_temp.id('event'), 'body', '{"samplePayload": {"text": "this"}}'::jsonb)) ->> 'prompt',
  'Twenty characters of this', 'a test gives the prompt');
select tests.reset();
update public.skills set input_schema = '[{"name": "text", "type": "string", "required": true}]' where id = pg_temp.sid('own');
select tests.act_as('anna');
select is(api.test_reflex(jsonb_build_object('reflexId', pg_temp.id('event'), 'body', '{}'::jsonb)), '{"error": "text is required"}', 'or what the sample lacks');

-- --------------------------------------------------------------------------------------------------------- every other actor
create function pg_temp.others(p_who text) returns setof text language plpgsql as $$
declare
  v text;
begin
  return next is_empty('select id from public.reflexes', p_who || ' sees none');
  return next is(api.list_reflexes('{}') ->> 'total', '0', p_who || ' lists none');
  foreach v in array array['get_reflex', 'get_reflex_full', 'update_reflex', 'delete_reflex', 'activate_reflex', 'deactivate_reflex', 'reset_reflex_errors',
    'regenerate_reflex_secret', 'get_reflex_webhook', 'list_reflex_executions', 'test_reflex']
  loop
    return next is(pg_temp.refusal(format('select api.%s(jsonb_build_object(''reflexId'', pg_temp.id(''webhook''), ''body'', ''{}''::jsonb))', v)),
      format('PT404 REFLEX_NOT_FOUND -: Reflex with ID %s not found', pg_temp.id('webhook')), p_who || ': ' || v);
  end loop;
  return next is_empty('update public.reflexes set is_active = false returning id', p_who || ' updates none');
  return next is_empty('delete from public.reflexes returning id', p_who || ' deletes none');
  return next is(private.sealed_secret(pg_temp.id('webhook')), null, p_who || ' gets no sealed secret');
  perform private.keep_secret(pg_temp.id('webhook'), 'v1.0123abcd.' || repeat('x', 80)), private.revive_reflex(pg_temp.id('foreign'), false);
end
$$;
select tests.act_as('mia');
select pg_temp.others('mia');
select tests.act_as('vic');
select pg_temp.others('vic');
select tests.act_as('boris');
select pg_temp.others('boris');
select tests.act_as('stan');
select pg_temp.others('stan');
select tests.act_as_claims('stan');
select pg_temp.others('stan through claims');
select tests.reset();
select is((select sealed from private.reflex_secrets where reflex_id = pg_temp.id('webhook')), 'v1.0123abcd.' || repeat('n', 80), 'nobody has changed the secret');
select is((select is_active from public.reflexes where id = pg_temp.id('foreign')), false, 'or revived a reflex');
select tests.act_anon();
select throws_ok('select id from public.reflexes', '42501', null, 'nobody sees nothing');
select throws_ok('select api.list_reflexes(''{}'')', '42501', null, 'and lists nothing');
select tests.act_service();
select throws_ok('select sealed from private.reflex_secrets', '42501', null, 'the service role reads no secrets');
select tests.act_as_claims('anna');
select is(api.get_reflex(jsonb_build_object('reflexId', pg_temp.id('event'))) ->> 'id', pg_temp.id('event')::text, 'through claims alone the owner sees hers');
select lives_ok($$ select pg_temp.create('{"eventName": "e"}') $$, 'and makes some');
select is(api.delete_reflex(jsonb_build_object('reflexId', pg_temp.id('event'))), '{"success": true}', 'and deletes one');
select is(pg_temp.refusal($$ select api.get_reflex('{"reflexId": "no-uuid"}') $$), 'PT404 REFLEX_NOT_FOUND -: Reflex with ID no-uuid not found', 'what is no id is not found');
select tests.reset();

-- The events of a change.
select results_eq($$ select data ->> 'operation', data -> 'changedFields' from private.event_inbox
    where type = 'resource_changed' and data ->> 'resource' = 'reflex' and data ->> 'id' = pg_temp.id('event')::text and room = 'user:' || tests.user('anna') order by seq $$,
  $$ values ('created', null::jsonb), ('updated', '["conditions"]'), ('updated', '["triggerConfig", "conditions"]'), ('updated', '["isActive"]'),
    ('updated', '["consecutiveFailures", "lastErrorMessage"]'), ('updated', '["isActive", "consecutiveFailures", "lastErrorMessage"]'),
    ('updated', '["consecutiveFailures"]'), ('deleted', null) $$, 'every change is told in the owner''s room');
select is_empty($$ select from private.event_inbox where data::text ~ 'v1\.' $$, 'no secret is in any event');

-- Bounds, and a deleted person.
select tests.reset();
select is((select count(*)::int from public.reflexes where user_id = tests.user('stan')), 0, 'Stan has none');
insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config)
select tests.user('stan'), tests.org('stan'), pg_temp.sid('public'), 'event', '{"eventName": "e"}' from generate_series(1, 1000);
select throws_ok($$ insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config)
  values (tests.user('stan'), tests.org('stan'), pg_temp.sid('public'), 'event', '{"eventName": "e"}') $$, 'PT409', 'You have 1000 reflexes. Delete one first.', 'a person has at most 1,000');
select throws_ok($$ update public.reflexes set skill_id = pg_temp.sid('own') where id = pg_temp.id('webhook') and skill_id <> pg_temp.sid('own') or id = pg_temp.id('foreign') $$, 'PT400',
  'Skill and trigger type of a reflex cannot be changed.', 'not even the owner of the database exchanges the skill');
delete from public.users where id = tests.user('stan');
select is_empty($$ select from public.reflexes where skill_id = pg_temp.sid('public') and user_id not in (select id from public.users) $$, 'reflexes go with their person');

select * from finish();
rollback;
