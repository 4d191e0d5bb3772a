begin;
select no_plan();

-- Anna owns an organization with Adam as admin, Mia as member and Vi as viewer; Stan is a stranger with one of his own.
select tests.user('anna'), tests.member('adam', 'anna', 'admin'), tests.member('mia', 'anna'), tests.member('vi', 'anna', 'viewer'), tests.user('stan');
delete from private.installation where key = 'providers';

-- --------------------------------------------------------------------------------- ids, aliases, successors (contract 20, section 5.1)
create temp table vectors (id text, provider text, model text);
insert into vectors values
  ('claude-sonnet-4-20250514', 'anthropic', 'claude-sonnet-4-20250514'),
  ('claude-3-5-sonnet-20241022', 'anthropic', 'claude-3-5-sonnet-20241022'),
  ('claude-3-5-haiku-20241022', 'anthropic', 'claude-3-5-haiku-20241022'),
  ('claude-3-opus-20240229', 'anthropic', 'claude-3-opus-20240229'),
  ('claude-3.5-sonnet', 'anthropic', 'claude-3-5-sonnet-20241022'),
  ('claude-3-opus', 'anthropic', 'claude-3-opus-20240229'),
  ('claude-3-haiku', 'anthropic', 'claude-3-5-haiku-20241022'),
  ('gemini-3-flash-preview', 'google', 'gemini-3-flash-preview'),
  ('gemini-pro', 'google', 'gemini-3-flash-preview'),
  ('claude', 'anthropic', 'claude-3-5-sonnet-20241022'),
  ('gemini', 'google', 'gemini-3-flash-preview'),
  ('gpt-4', 'anthropic', 'claude-3-5-sonnet-20241022'),
  ('gpt-4-turbo', 'openai', 'gpt-4-turbo'),
  ('gpt4', 'openai', 'gpt-4o'),
  ('gpt4o', 'openai', 'gpt-4o'),
  ('claude-opus-9', 'anthropic', 'claude-opus-9'),
  ('gemini-2.5-pro', 'google', 'gemini-2.5-pro'),
  ('gpt-5', 'openai', 'gpt-5');
select is(row(r.provider, r.model)::text, row(v.provider, v.model)::text, v.id || ' is known') from vectors v, private.resolve_model(v.id) r;
select ok(private.is_model_routable(id), id || ' may be written') from vectors;
select ok(not private.is_model_routable(id), coalesce(quote_literal(id), 'null') || ' may not')
from (values (null), (''), ('claud'), ('mistral-large'), ('Claude-3'), ('claude-'), ('gemini-../x'), ('gemini-a?key=b'), ('claude-a b'), ('local'),
  (' claude-3-opus'), (E'gpt-4\n'), ('claude-' || repeat('x', 94))) v (id);
select is(row(r.*)::text, '(,,)', 'an unknown id leads nowhere') from private.resolve_model('mistral-large') r;
select results_eq('select id from public.models order by position', $$ values ('claude-sonnet-4-20250514'), ('claude-3-5-sonnet-20241022'),
  ('claude-3-5-haiku-20241022'), ('claude-3-opus-20240229') $$, 'four models are offered, in this order');
select is(private.default_model(), 'claude-3-5-sonnet-20241022', 'and one is the default');
select is((private.resolve_model('claude-3-5-sonnet-20241022')).called, 'claude-sonnet-4-6', 'a retired model is called by its successor''s id');
-- Every name that leads to a call has a price, and one call has one price by each of its names (section 5.3).
select is_empty('select * from private.unpriced_models()', 'each id that is called has a price of its own');
select is(private.cost_cents(r.called, r.model, 1000000, 1000000), v.cents, 'a million tokens each way of ' || v.id)
from (values ('claude-3-5-haiku-20241022', 600), ('claude-3-haiku', 600), ('claude-haiku-4-5-20251001', 600), ('claude-haiku-4-5', 600),
  ('claude-3-opus-20240229', 3000), ('claude-3-opus', 3000), ('claude-opus-4-6', 3000), ('claude-3-5-sonnet-20241022', 1800), ('claude-sonnet-4-6', 1800),
  ('claude', 1800), ('gpt-4', 1800), ('gemini', 1800), ('gemini-3-flash-preview', 1800), ('gemini-2.5-pro', 1800)) v (id, cents), private.resolve_model(v.id) r;
create function pg_temp.commits(p_sql text) returns text language plpgsql as $$
begin
  execute p_sql;
  set constraints all immediate;
  set constraints all deferred;
  return 'done';
exception when check_violation then
  return sqlerrm;
end $$;
select is(pg_temp.commits(v.statement), v.answer, v.statement) from (values
  ($$insert into public.model_successors values ('claude-sonnet-4-6', 'claude-sonnet-9')$$, 'The model claude-sonnet-9 is called and has no price.'),
  ($$update public.model_successors set called = 'claude-sonnet-9' where model = 'claude-3-opus-20240229'$$, 'The model claude-sonnet-9 is called and has no price.'),
  ($$insert into public.model_prices values ('claude-sonnet-9', 'infinity', 1, 1); insert into public.model_successors values ('claude-sonnet-4-6', 'claude-sonnet-9')$$,
    'The model claude-sonnet-9 is called and has no price.'),
  ($$insert into public.models values ('claude-sonnet-9', 'x', 'x', 9, false)$$, 'The model claude-sonnet-9 is called and has no price.'),
  ($$insert into public.model_aliases values ('best', 'gemini-9', null)$$, 'The model gemini-9 is called and has no price.'),
  ($$delete from public.model_successors where model = 'claude-3-opus-20240229'$$, 'done'),
  ($$delete from public.model_prices where model = 'claude-sonnet-4-6'$$, 'The model claude-sonnet-4-6 is called and has no price.'),
  ($$update public.model_prices set model = 'x' where model = 'gemini-3-flash-preview'$$, 'The model gemini-3-flash-preview is called and has no price.'),
  ($$insert into public.model_successors values ('claude-3-opus-20240229', 'gpt-4o')$$, 'done'),
  ($$delete from public.model_successors where called = 'gpt-4o'$$, 'done'),
  ($$insert into public.model_successors values ('claude-sonnet-4-6', 'claude-sonnet-9'); insert into public.model_prices values ('claude-sonnet-9', default, 1, 1)$$, 'done')
) v (statement, answer);
delete from public.model_successors where model in ('claude-sonnet-4-6', 'claude-3-opus-20240229');

-- ------------------------------------------------------------------------------------------------- models without sampling parameters
select is(private.takes_sampling(id), true, id || ' takes a temperature') from unnest(array['claude-instant-1.2', 'claude-2.1', 'claude-3-opus-20240229',
  'claude-3-5-haiku-latest', 'claude-3.5-sonnet', 'claude-sonnet-4-20250514', 'claude-sonnet-4', 'claude-sonnet-4-6', 'claude-sonnet-4-5@20250929',
  'claude-haiku-4-5-20251001', 'claude-opus-4', 'claude-opus-4-0', 'claude-opus-4-20250514', 'claude-opus-4@20250514', 'claude-opus-4-1-20250805',
  'claude-opus-4-6', 'claude-opus-4.6', 'gemini-3-flash-preview', 'gpt-5']) id;
select is(private.takes_sampling(id), false, id || ' takes none') from unnest(array['claude-opus-4-7', 'claude-opus-4.7', 'claude-opus-4-7-20260401', 'claude-opus-4-8',
  'claude-opus-4-10', 'claude-opus-4-61', 'claude-opus-5', 'claude-opus-5-20270101', 'claude-sonnet-5', 'claude-sonnet-5-1', 'claude-sonnet-40', 'claude-haiku-5', 'claude-opus-10',
  'claude-unheard-of']) id;
insert into public.model_sampling values ('gemini-9', false), ('claude-sonnet-6', true);
select results_eq($$ select private.takes_sampling('gemini-9'), private.takes_sampling('claude-sonnet-6') $$, 'values (false, true)', 'a row goes before the rule');
select is((private.resolve_model('claude-3.5-sonnet')).called, 'claude-sonnet-4-6', 'by way of an alias too');
select is((private.resolve_model('gemini-3-flash-preview')).called, 'gemini-3-flash-preview', 'others by their own');
insert into public.model_successors values ('claude-sonnet-4-6', 'claude-sonnet-9'), ('claude-a', 'claude-b'), ('claude-b', 'claude-a'), ('claude-c', 'gemini-x');
select is((private.resolve_model('claude-3-5-sonnet-20241022')).called, 'claude-sonnet-9', 'a successor may have one itself');
select ok((private.resolve_model('claude-a')).called in ('claude-a', 'claude-b'), 'a circle ends');
select is(row(r.*)::text, '(google,claude-c,gemini-x)', 'a successor may be another provider''s') from private.resolve_model('claude-c') r;
delete from public.model_successors;
select is((private.resolve_model('claude-3-5-sonnet-20241022')).called, 'claude-3-5-sonnet-20241022', 'without the row it is itself');
select throws_ok($$ insert into public.model_successors values ('x', 'x') $$, '23514', null, 'nothing succeeds itself');
select throws_ok($$ update public.models set is_default = true $$, '23505', null, 'there is one default');

select private.declare_installation('providers', '{"openai": true}');
select is((private.resolve_model('gpt-4')).model, 'gpt-4', 'with an OpenAI provider gpt-4 is itself');
select is((private.resolve_model('claude')).model, 'claude-3-5-sonnet-20241022', 'other aliases hold always');
delete from private.installation where key = 'providers';

-- -------------------------------------------------------------------------------------------------------------- prices (section 5.3)
select is(private.cost_cents(v.model, v.model, v.prompt, v.completion), v.cents, format('%s + %s tokens of %s', v.prompt, v.completion, v.model))
from (values
  (1000, 500, 'claude-3-5-sonnet-20241022', 1), (600, 1500, 'claude-3-5-sonnet-20241022', 2), (10000, 1000, 'claude-3-5-sonnet-20241022', 5),
  (0, 1000, 'claude-3-5-sonnet-20241022', 2), (0, 333, 'claude-3-5-sonnet-20241022', 0), (0, 334, 'claude-3-5-sonnet-20241022', 1),
  (1000, 200, 'claude-3-5-haiku-20241022', 0), (2000, 4000, 'claude-3-opus-20240229', 33), (4500, 100, 'claude-3-5-sonnet-20241022', 2),
  (10000, 1000, 'claude-sonnet-4-20250514', 5), (10000, 1000, 'gemini-3-flash-preview', 5), (10000, 1000, 'gpt-5', 5)) v (prompt, completion, model, cents);
select is(private.cost_cents('claude-opus-9', 'claude-3-opus-20240229', 2000, 4000), 33, 'an id without a price costs what was meant');
select is(private.cost_cents('claude-x', 'claude-y', 10000, 1000), 5, 'and what has no price at all as much as the default');
select is(private.cost_cents('claude-x', 'claude-y', null, null), null, 'without tokens there is no cost');
select is(private.cost_cents('claude-x', 'claude-y', 10000, null), 3, 'one of the two is enough');
select is(private.cost_cents('claude-x', 'claude-y', -5, -5), 0, 'nothing costs less than nothing');
select is(private.cost_cents('claude-x', 'claude-y', 9223372036854775807, 9223372036854775807), 2147483647, 'and nothing more than fits');
insert into public.model_prices values ('claude-3-opus-20240229', '2026-03-01', 500, 2500), ('claude-opus-4-6', '2026-06-01', 100, 100);
select is(private.cost_cents('claude-opus-4-6', 'claude-3-opus-20240229', 1000000, 0, p_at), cents, 'at ' || p_at)
from (values (timestamptz '2026-02-28', 500), ('2026-05-31', 500), ('2026-06-01', 100)) v (p_at, cents);
select is(private.cost_cents('claude-3-opus-20240229', 'claude-3-opus-20240229', 1000000, 0, p_at), cents, 'of another at ' || p_at)
from (values (timestamptz '2026-02-28', 1500), ('2026-03-01', 500)) v (p_at, cents);

-- -------------------------------------------------------------------------------------------------- which provider answers (section 5.2)
select throws_ok($$ select private.assert_provider('claude', tests.org('anna')) $$, 'PT503',
  'No key for Anthropic is configured. An owner or admin of your organization can add one.', 'without a key nobody answers');
select throws_ok($$ select private.assert_provider('gemini-pro', tests.org('anna')) $$, 'PT503', null, 'nor for Google');
select lives_ok($$ select private.assert_provider(m, tests.org('anna')) from unnest(array['gpt-4-turbo', 'mistral-large']) m $$,
  'what nobody supports is not refused here');
select is(private.is_provider_configured(p, tests.org('anna')), false, coalesce(p, 'null') || ' is not configured')
from unnest(array['anthropic', 'google', 'openai', 'local', null]) p;
select private.declare_installation('providers', '{"anthropic": true, "google": false}');
select lives_ok($$ select private.assert_provider('claude', tests.org('anna')) $$, 'the installation''s key serves everybody');
select is(private.answering_provider('anthropic', tests.org('stan')), 'anthropic', 'without an own one');
select is(private.is_provider_configured('google', tests.org('anna')), false, 'but not for others'' models');
select private.declare_installation('providers', '{"google": true, "local": true, "openai": true}');
select is(row(r.*)::text, '(anthropic,claude-3-5-sonnet-20241022,claude-3-5-sonnet-20241022,local,)', 'the local model answers for who has no key')
from private.route_model('claude', tests.org('anna')) r;
select is((private.route_model('gemini', tests.org('anna'))).answers, 'google', 'and leaves the others alone');
select is((private.route_model('gpt-4-turbo', tests.org('anna'))).answers, null, 'what has no client in the product is not answered by it');
select private.declare_installation('providers', '{}');

-- -------------------------------------------------------------------------------------------------------------- keys of organizations
select tests.act_as('anna');
select is(api.list_provider_keys('{}'), '[]', 'in the beginning there are none');
select is(api.set_provider_key('{"provider": "anthropic", "sealed": "v1.k.one", "lastFour": "wxyz"}') - '{createdAt,updatedAt}'::text[],
  jsonb_build_object('provider', 'anthropic', 'lastFour', 'wxyz', 'setBy', tests.user('anna')), 'the owner sets one, and is not shown it');
select tests.act_as('adam');
select is(api.set_provider_key('{"provider": "anthropic", "sealed": "v1.k.two", "lastFour": "abcd"}') ->> 'lastFour', 'abcd', 'an admin replaces it');
select is(api.list_provider_keys('{}') #>> '{0,setBy}', tests.user('adam')::text, 'which is seen');
select throws_ok(format('select api.set_provider_key(%L)', p), 'PT404', 'Keys are kept for anthropic and google.', p)
from (values ('{"provider": "openai", "sealed": "v1.k", "lastFour": "abcd"}'), ('{}')) v (p);
select throws_ok(format('select api.set_provider_key(%L)', p), 'PT400', 'A key is set through the server, which encrypts it.', p)
from (values ('{"provider": "google"}'), ('{"provider": "google", "sealed": "plain", "lastFour": "abcd"}'), ('{"provider": "google", "sealed": "v1.k", "lastFour": "abc"}')) v (p);
select tests.act_as('mia');
select throws_ok('select api.list_provider_keys(''{}'')', 'PT403', 'Only owners and admins of the organization manage its provider keys.', 'a member does not see them');
select throws_ok($$ select api.set_provider_key('{"provider": "google", "sealed": "v1.k", "lastFour": "abcd"}') $$, 'PT403', null, 'or set one');
select throws_ok($$ select api.delete_provider_key('{"provider": "anthropic"}') $$, 'PT403', null, 'or delete one');
select tests.act_as('vi');
select throws_ok('select api.list_provider_keys(''{}'')', 'PT403', null, 'nor a viewer');
select tests.act_as('stan');
select is(api.list_provider_keys('{}'), '[]', 'a stranger sees his own');
select throws_ok($$ select api.delete_provider_key('{"provider": "anthropic"}') $$, 'PT404', 'Your organization has no key at this provider.', 'and deletes his own only');
select tests.act_as_claims('adam');
select is(jsonb_array_length(api.list_provider_keys('{}')), 1, 'claims are enough');
select throws_ok('select * from private.provider_keys', '42501', null, 'the table itself is closed');
select throws_ok($$ select private.provider_key('anthropic', tests.org('anna')) $$, '42501', null, 'so is the way of the server');
select throws_ok($$ select private.route_model('claude', tests.org('anna')) $$, '42501', null, 'and of the worker');
select tests.act_anon();
select throws_ok('select api.list_provider_keys(''{}'')', '42501', null, 'nobody gets nothing');
select tests.act_service();
select throws_ok('select * from private.provider_keys', '42501', null, 'nor does the service');
select tests.reset();
set local role kijko_worker;
select is(private.provider_key('anthropic', tests.org('anna')), 'v1.k.two', 'the worker reads it');
select is(private.provider_key('anthropic', tests.org('stan')), null, 'for its organization only');
select is(row(r.*)::text, '(anthropic,claude-3-5-sonnet-20241022,claude-3-5-sonnet-20241022,anthropic,v1.k.two)', 'and is routed by it')
from private.route_model('claude', tests.org('anna')) r;
select is((private.route_model('claude', tests.org('stan'))).answers, null, 'the others are not');
select is(private.is_provider_configured('anthropic', tests.org('anna')), true, 'an own key is a provider');
reset role;
select is((select count(*)::int from public.audit_log where event_type in ('integration.connected', 'integration.disconnected') and organization_id = tests.org('anna')), 2, 'each change is in the audit trail');
select is_empty($$ select id from public.audit_log where event_type in ('integration.connected', 'integration.disconnected') and to_jsonb(audit_log)::text like '%v1.k%' $$, 'without the key');
select tests.act_as('anna');
select is(api.delete_provider_key('{"provider": "anthropic"}'), null, 'the owner deletes it');
select tests.reset();
select is(private.is_provider_configured('anthropic', tests.org('anna')), false, 'and it is gone');

-- --------------------------------------------------------------------------------------------- the gateway (contract 60, section 14)
create function pg_temp.used(p_name text) returns integer language sql as $$
  select coalesce(sum(used), 0)::integer from public.usage where organization_id = tests.org(p_name) and metric = 'api_calls' $$;
select tests.act_as('vi');
select is(api.list_models('{}') -> 'configured', 'false', 'without a provider nothing can be asked');
select is((select array_agg(m ->> 'name') from jsonb_array_elements(api.list_models('{}') -> 'models') m),
  array['Claude Sonnet 4', 'Claude 3.5 Sonnet', 'Claude 3.5 Haiku', 'Claude 3 Opus'], 'but the models are shown, in their order');
select throws_ok($$ select private.admit_model_call('claude') $$, 'PT503', null, 'a call without a provider is refused');
select throws_ok($$ select private.admit_model_call('gpt-4-turbo') $$, 'PT400', 'No provider of this installation has this model.', 'a model that nobody has, too');
select throws_ok($$ select private.admit_model_call(null) $$, 'PT400', null, 'and no model at all');
select tests.reset();
select is(pg_temp.used('anna'), 0, 'which costs nothing');
select private.declare_installation('providers', '{"anthropic": true}');
insert into private.provider_keys (organization_id, provider, sealed_key, last_four) values (tests.org('stan'), 'anthropic', 'v1.k.stan', 'stan');
select tests.act_as('vi');
select is(api.list_models('{}') -> 'configured', 'true', 'with one the default model can be asked');
select is(private.admit_model_call('claude'), jsonb_build_object('answers', 'anthropic', 'called', 'claude-3-5-sonnet-20241022', 'organizationId', tests.org('anna'),
  'hasOwnKey', false), 'a viewer may ask, too');
select tests.act_as_claims('stan');
select is(private.admit_model_call('gpt-4') -> 'hasOwnKey', 'true', 'with claims only, and a key of one''s own');
select tests.act_anon();
select throws_ok($$ select private.admit_model_call('claude') $$, '42501', null, 'nobody may not');
select throws_ok($$ select api.list_models('{}') $$, '42501', null, 'nor see the models through an operation');
select tests.reset();
select results_eq($$ select pg_temp.used('anna'), pg_temp.used('stan') $$, 'values (1, 1)', 'each call costs its own organization one unit');
update public.subscriptions set overrides = '{"api_calls": 1}' where organization_id = tests.org('anna');
select tests.act_as('anna');
select throws_ok($$ select private.admit_model_call('claude') $$, 'PT429', null, 'beyond the plan nothing is asked');
select tests.reset();

-- ------------------------------------------------------------------------------------------------------------------ the data itself
select tests.act_anon();
select is((select count(*)::int from public.models), 4, 'models are public knowledge');
select isnt_empty('select * from public.model_prices', 'so are prices');
select isnt_empty('select * from public.model_sampling', 'and what they take');
select throws_ok($$ update public.models set name = 'x' $$, '42501', null, 'nobody changes them');
select tests.act_as('anna');
select isnt_empty('select * from public.model_aliases', 'people see aliases');
select throws_ok($$ insert into public.model_prices values ('claude-x', now(), 1, 1) $$, '42501', null, 'an owner makes no prices');
select throws_ok($$ insert into public.model_aliases values ('claude', 'x') $$, '42501', null, 'and no aliases');
select throws_ok($$ delete from public.model_successors $$, '42501', null, 'and no successors');
select tests.act_service();
select throws_ok($$ delete from public.model_prices $$, '42501', null, 'nor does the service');
select tests.reset();
insert into public.model_prices values ('claude-haiku-4-5', now() - interval '1 day', 7, 8), ('claude-haiku-4-5', now() + interval '1 day', 9, 9);
set local role kijko_worker;
select is(private.current_prices() -> 'claude-haiku-4-5', '{"inputCents": 7, "outputCents": 8}', 'the prices in force, for traces');
select is(private.current_prices() -> '', private.current_prices() -> private.default_model(), 'with that of models without a row');
reset role;

select * from finish();
rollback;
