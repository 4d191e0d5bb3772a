-- Calls to Stripe: who plans one, what is sent, and where a call goes on after an answer, a doubt or a death. Stripe's answers are made up here;
-- tests/billing has a double that behaves like Stripe.
begin;
select no_plan();
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');
insert into private.stripe_prices values ('price_pro', 'pro', 'monthly'), ('price_pro_year', 'pro', 'annually'), ('price_teams', 'teams', 'monthly'), ('price_teams_year', 'teams', 'annually');
create function pg_temp.p(p_body jsonb default '{}') returns jsonb language sql
as $$ select jsonb_build_object('body', p_body, 'isConfigured', true, 'redirects', '{"successUrl": "https://a/", "cancelUrl": "https://b/", "returnUrl": "https://c/"}'::jsonb,
  'prices', '{"pro_monthly": "price_pro", "pro_annually": "price_pro_year", "teams_monthly": "price_teams", "teams_annually": "price_teams_year"}'::jsonb) $$;
-- A subscription as Stripe shows it.
create function pg_temp.sub(p_price text, p_more jsonb default '{}') returns jsonb language sql
as $$ select jsonb_build_object('id', 'sub_1', 'object', 'subscription', 'customer', 'cus_1', 'status', 'active', 'cancel_at_period_end', false, 'created', 1700000000,
  'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', 'si_1', 'price', jsonb_build_object('id', p_price)))),
  'current_period_start', extract(epoch from now())::bigint - 1296000, 'current_period_end', extract(epoch from now())::bigint + 1296000) || p_more $$;
create function pg_temp.take(p_call jsonb, p_is_forward boolean default true) returns jsonb language sql
as $$ select private.take_stripe_call(jsonb_build_object('callId', p_call ->> 'call', 'seconds', 20, 'isForward', p_is_forward)) $$;
create function pg_temp.settle(p_call jsonb, p_outcome text, p_body jsonb default null, p_status integer default null, p_code text default null) returns jsonb language sql
as $$ select private.settle_stripe_call(jsonb_build_object('callId', p_call ->> 'call', 'lease', (select lease from private.stripe_calls where id = (p_call ->> 'call')::uuid),
  'seconds', 20, 'outcome', p_outcome, 'at', clock_timestamp(), 'body', p_body, 'status', p_status, 'code', p_code)) $$;
create function pg_temp.step(p jsonb) returns text language sql as $$ select concat_ws(' ', p #>> '{step,name}', p #>> '{step,method}', p #>> '{step,path}') $$;
create function pg_temp.ending(p jsonb) returns text language sql as $$ select coalesce(p #>> '{refusal,code}', p ->> 'answer') $$;

-- ------------------------------------------------------------------------------------------------------------------------------- actors
create temp table calls as select * from (values
  ('create_checkout', '{"planId": "pro"}'::jsonb), ('create_portal', '{}'), ('update_subscription', '{"planId": "teams"}'), ('cancel_subscription', '{}'), ('resume_subscription', '{}'),
  ('create_setup_intent', '{"type": "card"}'), ('create_payment_method', '{"stripePaymentMethodId": "pm_1"}'), ('delete_payment_method', '{}'), ('set_default_payment_method', '{}'),
  ('list_payment_methods', '{}')) c (name, body);
grant select on calls to authenticated, anon, service_role;
select tests.act_as('ben');
select is(tests.refusal(format('select api.%s(%L)', name, pg_temp.p(body))) ->> 'code', 'FORBIDDEN', name || ' is for the owner alone') from calls;
select tests.act_anon();
select throws_ok(format('select api.%s(%L)', name, pg_temp.p(body)), '42501', null, 'no visitor calls ' || name) from calls;
select tests.act_service();
select throws_ok(format('select api.%s(%L)', name, pg_temp.p(body)), '42501', null, 'nor does the service call ' || name) from calls;
select tests.act_as('anna');
select throws_ok($$ select private.take_stripe_call('{}') $$, '42501', null, 'the owner sends nothing herself');
select throws_ok($$ select private.settle_stripe_call('{}') $$, '42501', null, 'and answers nothing');
select throws_ok($$ select * from private.stripe_calls $$, '42501', null, 'and does not see calls');
select is(tests.refusal(format('select api.%s(%L)', name, pg_temp.p(body) || '{"isConfigured": false}')) ->> 'code', code, name || ' without a key')
from calls join (values ('create_checkout', 'PROVIDER_NOT_CONFIGURED'), ('create_portal', 'PROVIDER_NOT_CONFIGURED'), ('update_subscription', 'CHECKOUT_REQUIRED'),
  ('cancel_subscription', 'NO_SUBSCRIPTION'), ('resume_subscription', 'NOTHING_TO_RESUME'), ('create_setup_intent', 'PROVIDER_NOT_CONFIGURED'),
  ('create_payment_method', 'PROVIDER_NOT_CONFIGURED'), ('delete_payment_method', 'PAYMENT_METHOD_NOT_FOUND'), ('set_default_payment_method', 'PAYMENT_METHOD_NOT_FOUND')) w (name, code) using (name);
select is(tests.refusal(format('select api.create_checkout(%L)', pg_temp.p('{"planId": "pro"}') || '{"refusedUrl": "cancelUrl"}')) - 'message',
  '{"status": 400, "code": "INVALID_REDIRECT_URL", "field": "cancelUrl"}', 'an address that is not ours');
select is(tests.refusal(format('select api.create_checkout(%L)', pg_temp.p('{"planId": "pro"}') || '{"prices": {}}')) ->> 'code', 'PROVIDER_NOT_CONFIGURED', 'a plan without a price');
select is(api.list_payment_methods('{}'), '[]', 'there is no method');

-- ----------------------------------------------------------------------------------------------------------------------------- checkout
select api.create_checkout(pg_temp.p('{"planId": "pro"}')) as call \gset
select is(tests.refusal(format('select api.create_portal(%L)', pg_temp.p())) ->> 'code', 'PAYMENT_IN_PROGRESS', 'one call of an organization is in flight');
select tests.act_as('stan');
select ok(api.create_portal(pg_temp.p()) ? 'call', 'another organization has its own');
select tests.reset();
select is((select count(*) from jobs.stored_jobs where job_type = 'billing.recover' and run_at > now() + interval '50 seconds'), 2::bigint, 'each call comes with the job that would go on with it');
select is(pg_temp.step(pg_temp.take(:'call')), 'customer POST /v1/customers', 'the customer comes first');
select is(pg_temp.take(:'call'), '{"busy": true}', 'a lease keeps others away');
select is(private.settle_stripe_call(jsonb_build_object('callId', :'call'::jsonb ->> 'call', 'lease', gen_random_uuid(), 'outcome', 'ok', 'body', '{"id": "cus_other"}'::jsonb)), '{"again": true}',
  'an answer without the lease is not taken');
select is(pg_temp.settle(:'call', 'doubt'), '{"doubt": true}', 'without an answer');
select is((select step ->> 'key' from private.stripe_calls where id = (:'call'::jsonb ->> 'call')::uuid), pg_temp.take(:'call') #>> '{step,key}', 'the same request is sent under the same key');
select is(pg_temp.settle(:'call', 'unsent'), '{"doubt": true}', 'and one that does not arrive leaves the doubt about the first');
select ok(pg_temp.take(:'call') ? 'lease', 'a free call is taken');
select is(pg_temp.step(pg_temp.settle(:'call', 'ok', '{"id": "cus_1"}')), 'tax_rate POST /v1/tax_rates', 'then the tax rate, which all share');
select is((select step #> '{params}' from private.stripe_calls where id = (:'call'::jsonb ->> 'call')::uuid), '{"country": "NL", "inclusive": false, "percentage": "21", "display_name": "BTW"}', 'exclusive');
select is(pg_temp.step(pg_temp.settle(:'call', 'ok', '{"id": "txr_1"}')), 'session POST /v1/checkout/sessions', 'then the session');
select is((select done from private.stripe_calls where id = (:'call'::jsonb ->> 'call')::uuid), '{customer,tax_rate}', 'the recovery point');
select is(pg_temp.settle(:'call', 'ok', jsonb_build_object('id', 'cs_1', 'object', 'checkout.session', 'mode', 'subscription', 'status', 'open', 'customer', 'cus_1', 'url', 'https://stripe/cs_1',
  'metadata', jsonb_build_object('org_id', tests.org('anna'), 'plan', 'pro', 'billing_interval', 'monthly'), 'expires_at', extract(epoch from now())::bigint + 86400)) -> 'answer',
  '{"sessionId": "cs_1", "url": "https://stripe/cs_1"}', 'and the answer');
select is(pg_temp.take(:'call') -> 'answer', '{"sessionId": "cs_1", "url": "https://stripe/cs_1"}', 'which a repeat gets');
select is(private.take_stripe_call('{"callId": "00000000-0000-0000-0000-000000000000"}') #>> '{refusal,code}', 'NOT_FOUND', 'a call that is gone');
select tests.act_as('anna');
select is(api.create_checkout(pg_temp.p('{"planId": "pro"}')) -> 'answer', '{"sessionId": "cs_1", "url": "https://stripe/cs_1"}', 'an open session is used again');
select api.create_checkout(pg_temp.p('{"planId": "teams"}')) as call \gset
select tests.reset();
select is(pg_temp.step(pg_temp.take(:'call')), 'expire_cs_1 POST /v1/checkout/sessions/cs_1/expire', 'one of another plan is closed');
select is(pg_temp.step(pg_temp.settle(:'call', 'refused', null, 400)), 'session_cs_1 GET /v1/checkout/sessions/cs_1', 'if Stripe does not, the session is looked at');
select is(pg_temp.ending(pg_temp.settle(:'call', 'ok', '{"id": "cs_1", "status": "complete"}')), 'SUBSCRIPTION_EXISTS', 'because a person may just have paid');
update private.checkout_sessions set status = 'open';
select tests.act_as('anna');
select api.create_checkout(pg_temp.p('{"planId": "teams"}')) as call \gset
select tests.reset();
select pg_temp.take(:'call'), pg_temp.settle(:'call', 'refused', null, 400);
select is(pg_temp.step(pg_temp.settle(:'call', 'ok', '{"id": "cs_1", "status": "expired"}')), 'session POST /v1/checkout/sessions', 'or it ended by itself');
select is(pg_temp.ending(pg_temp.settle(:'call', 'refused', null, 400, 'parameter_unknown')), 'STRIPE_ERROR', 'a refusal of Stripe ends the call');
select is((select refusal from private.stripe_calls where id = (:'call'::jsonb ->> 'call')::uuid) #>> '{details,stripeCode}', 'parameter_unknown', 'with its word');

-- ------------------------------------------------------------------------------------------------------------------------------ changes
select private.apply_stripe_object('customer.subscription.created', pg_temp.sub('price_pro'), now() - interval '1 minute', 'evt_1');
create function pg_temp.plan(p_body jsonb) returns jsonb language plpgsql
as $$ begin perform tests.act_as('anna'); return api.update_subscription(pg_temp.p(p_body)); end $$;
create function pg_temp.state() returns text language sql security definer
as $$ select concat_ws(' ', plan_id, billing_interval, status, case when cancel_at_period_end then 'ends' end, pending_plan_id) from public.subscriptions where stripe_customer_id = 'cus_1' $$;
select pg_temp.plan('{"planId": "teams"}') as call \gset
select tests.reset();
select is((select request -> 'quote' from private.stripe_calls where id = (:'call'::jsonb ->> 'call')::uuid), '{"net": 2500, "total": 3025}', 'half a month of Teams for Pro costs 2500 and 21 %');
select is(pg_temp.take(:'call') #> '{step,params}', jsonb_build_object('items', '[{"id": "si_1", "price": "price_teams"}]'::jsonb, 'proration_behavior', 'always_invoice',
  'proration_date', extract(epoch from date_trunc('second', now()))::bigint, 'payment_behavior', 'error_if_incomplete', 'cancel_at_period_end', false, 'default_tax_rates', '["txr_1"]'::jsonb,
  'metadata', jsonb_build_object('org_id', tests.org('anna'), 'plan', 'teams', 'billing_interval', 'monthly'), 'expand', '["latest_invoice"]'::jsonb), 'an upgrade, charged at once');
select is(pg_temp.ending(pg_temp.settle(:'call', 'card', null, 402, 'card_declined')), 'PAYMENT_FAILED', 'a card is refused');
select is(pg_temp.state(), 'pro monthly active', 'and nothing changed');
select pg_temp.plan('{"planId": "teams"}') as call \gset
select tests.reset();
select pg_temp.take(:'call');
select matches(pg_temp.settle(:'call', 'ok', pg_temp.sub('price_teams', jsonb_build_object('latest_invoice', jsonb_build_object('id', 'in_1', 'object', 'invoice', 'customer', 'cus_1',
  'subscription', 'sub_1', 'status', 'open', 'currency', 'eur', 'subtotal', 2510, 'total', 3037, 'tax', 527, 'amount_due', 3037, 'created', extract(epoch from now())::bigint,
  'status_transitions', jsonb_build_object('finalized_at', extract(epoch from now())::bigint))))) ->> 'warnings',
  'Stripe invoiced 2510 net, 3037 in all for an upgrade that was computed as 2500 net, 3025 in all', 'a difference of more than a cent is reported');
select is(pg_temp.state(), 'teams monthly active', 'Stripe is right all the same');
select is((select total_amount from public.invoices where stripe_invoice_id = 'in_1'), 3037::bigint, 'and its invoice is stored');
select is((select private.quote_proration(s, 'teams', 'annually', now()) from public.subscriptions s where s.stripe_customer_id = 'cus_1'), '{"net": 75250, "total": 91053}', 'another interval begins a new period');

-- A failed request is looked up.
select pg_temp.plan('{"billingInterval": "annually"}') as call \gset
select tests.reset();
select pg_temp.take(:'call');
select is(pg_temp.step(pg_temp.settle(:'call', 'failed', null, 500)), 'look GET /v1/subscriptions/sub_1', 'what Stripe has is looked up');
select is(pg_temp.settle(:'call', 'failed', null, 500), '{"doubt": true}', 'until it says');
select pg_temp.take(:'call');
select is(pg_temp.settle(:'call', 'unsent'), '{"doubt": true}', 'until it is reached');
select pg_temp.take(:'call');
select is(pg_temp.ending(pg_temp.settle(:'call', 'ok', pg_temp.sub('price_teams'))), 'STRIPE_ERROR', 'it did not happen');
select is(pg_temp.state(), 'teams monthly active', 'here neither');
select pg_temp.plan('{"billingInterval": "annually"}') as call \gset
select tests.reset();
select pg_temp.take(:'call'), pg_temp.settle(:'call', 'failed', null, 500);
select is(pg_temp.settle(:'call', 'ok', pg_temp.sub('price_teams_year')) #>> '{answer,billingInterval}', 'annually', 'it did happen');

-- An old request.
create function pg_temp.age(p_call jsonb, p_age interval) returns void language sql security definer
as $$ update private.stripe_calls set created_at = now() - p_age, leased_until = '-infinity' where id = (p_call ->> 'call')::uuid $$;
select tests.act_as('anna');
select api.cancel_subscription(pg_temp.p()) as call \gset
select tests.reset();
select pg_temp.age(:'call', '14 minutes');
select is(pg_temp.step(pg_temp.take(:'call', false)), 'subscription POST /v1/subscriptions/sub_1', 'the job sends what is some minutes old');
select pg_temp.age(:'call', '16 minutes');
select is(pg_temp.step(pg_temp.take(:'call')), 'subscription POST /v1/subscriptions/sub_1', 'who asked may wait longer');
select pg_temp.age(:'call', '16 minutes');
select is(pg_temp.step(pg_temp.take(:'call', false)), 'look GET /v1/subscriptions/sub_1', 'the job does not');
select is(pg_temp.settle(:'call', 'ok', pg_temp.sub('price_teams_year', '{"cancel_at_period_end": true}')) #>> '{answer,cancelAtPeriodEnd}', 'true', 'it was done');
select tests.act_as('anna');
select api.resume_subscription(pg_temp.p()) as call \gset
select tests.reset();
select pg_temp.age(:'call', '1 day');
select is(pg_temp.step(pg_temp.take(:'call')), 'look GET /v1/subscriptions/sub_1', 'Stripe forgets keys after a day');
select is(pg_temp.settle(:'call', 'ok', pg_temp.sub('price_teams_year')) #>> '{answer,cancelAtPeriodEnd}', 'false', 'resumed');
select tests.act_as('anna');
select api.create_portal(pg_temp.p()) as call \gset
select tests.reset();
select pg_temp.age(:'call', '1 day');
select is(pg_temp.ending(pg_temp.take(:'call')), 'STRIPE_ERROR', 'an old link is given up');

-- Downgrades wait at Stripe.
select pg_temp.plan('{"planId": "pro"}') as call \gset
select tests.reset();
select is(pg_temp.step(pg_temp.take(:'call')), 'schedule POST /v1/subscription_schedules', 'a schedule');
select is(pg_temp.settle(:'call', 'ok', '{"id": "sub_sched_1", "phases": [{"start_date": 1, "end_date": 2, "items": [{"price": {"id": "price_teams_year"}, "quantity": 1}, {"price": "price_seats", "quantity": 4}],
  "default_tax_rates": [{"id": "txr_1"}], "coupon": "ten", "trial_end": null, "metadata": {}}]}') #> '{step,params,phases}', jsonb_build_array(
  '{"start_date": 1, "end_date": 2, "items": [{"price": "price_teams_year", "quantity": 1}, {"price": "price_seats", "quantity": 4}], "default_tax_rates": ["txr_1"], "coupon": "ten",
    "proration_behavior": "none"}'::jsonb,
  jsonb_build_object('items', '[{"price": "price_pro_year", "quantity": 1}, {"price": "price_seats", "quantity": 4}]'::jsonb, 'iterations', 1, 'proration_behavior', 'none',
    'default_tax_rates', '["txr_1"]'::jsonb, 'metadata', jsonb_build_object('org_id', tests.org('anna'), 'plan', 'pro', 'billing_interval', 'annually'))),
  'the running phase as it is, then the smaller plan and what else was paid for');
select is(pg_temp.settle(:'call', 'ok', '{"id": "sub_sched_1"}') #>> '{answer,pendingPlanId}', 'pro', 'waits');
select is(pg_temp.state(), 'teams annually active pro', 'until the end of the period');
select tests.act_as('anna');
select api.cancel_subscription(pg_temp.p()) as call \gset
select tests.reset();
select is(pg_temp.step(pg_temp.take(:'call')), 'release POST /v1/subscription_schedules/sub_sched_1/release', 'Stripe changes nothing else while a schedule holds the subscription');
select is(pg_temp.step(pg_temp.settle(:'call', 'refused', null, 400)), 'subscription POST /v1/subscriptions/sub_1', 'one that ended by itself holds nothing');
select is(pg_temp.state(), 'teams annually active', 'the change waits no more');
select is(pg_temp.step(pg_temp.settle(:'call', 'refused', null, 404, 'resource_missing')), 'look GET /v1/subscriptions/sub_1', 'what Stripe refuses is looked up');
select ok(pg_temp.settle(:'call', 'ok', pg_temp.sub('price_teams_year', '{"status": "canceled"}')) ? 'answer', 'it had ended already, which was asked');
select is(pg_temp.state(), 'free monthly canceled', 'and here too');

-- ------------------------------------------------------------------------------------------------------------------------------ methods
select tests.act_as('anna');
select api.create_payment_method(pg_temp.p('{"stripePaymentMethodId": "pm_1"}')) as call \gset
select tests.reset();
select is(pg_temp.step(pg_temp.take(:'call')), 'method GET /v1/payment_methods/pm_1', 'the method is read');
select is(pg_temp.ending(pg_temp.settle(:'call', 'ok', '{"id": "pm_1", "type": "card", "customer": "cus_2", "created": 1}')), 'INVALID_PAYMENT_METHOD', 'another customer''s');
select throws_ok(format($$ insert into private.stripe_calls (organization_id, operation, request, answer, settled_at) values (%L, 'pay', '{}', '{}', now()) $$, tests.org('anna')), '23514', null, 'calls are of a closed set');

-- ------------------------------------------------------------------------------------------------------------------------------ details
select is(private.plan_details_copy(jsonb_build_object('organizationId', tests.org('stan'))), '{}', 'without a customer nothing is copied');
select private.plan_details_copy(jsonb_build_object('organizationId', tests.org('anna'))) as call \gset
select is(private.plan_details_copy(jsonb_build_object('organizationId', tests.org('anna'))), jsonb_build_object('busy', :'call'::jsonb ->> 'call'), 'one call at a time');
select is(pg_temp.step(pg_temp.take(:'call')), 'details POST /v1/customers/cus_1', 'the details');
select is(pg_temp.step(pg_temp.settle(:'call', 'ok', '{"id": "cus_1"}')), 'tax_ids GET /v1/customers/cus_1/tax_ids', 'the numbers that Stripe has');
select is(pg_temp.step(pg_temp.settle(:'call', 'ok', '{"data": [{"id": "txi_1", "type": "eu_vat", "value": "NL1"}, {"id": "txi_2", "type": "gb_vat", "value": "GB1"}]}')),
  'delete_txi_1 DELETE /v1/customers/cus_1/tax_ids/txi_1', 'an old one goes');
select is(pg_temp.ending(pg_temp.settle(:'call', 'refused', null, 404)), '{}', 'also if it was gone');
select is(private.plan_details_copy(jsonb_build_object('organizationId', tests.org('anna'))), '{}', 'what is there is not copied again');
select private.apply_stripe_object('customer.subscription.created', pg_temp.sub('price_teams', '{"id": "sub_9"}'), now(), 'evt_of_the_copy');
insert into private.stripe_schedules (id, organization_id, subscription_id) values ('sub_sched_9', tests.org('anna'), 'sub_9');
delete from jobs.stored_jobs where job_type = 'billing.details';
select private.sweep_billing();
select is((select count(*) from jobs.stored_jobs where job_type = 'billing.details'), 0::bigint, 'while the rate is the same nothing is swept');
insert into public.vat_rates (country, rate, valid_from) values ('NL', 22, (now() at time zone 'Europe/Amsterdam')::date);
select private.sweep_billing();
select is((select count(*) from jobs.stored_jobs where job_type = 'billing.details' and convert_from(args, 'UTF8')::jsonb ->> 'organizationId' = tests.org('anna')::text), 1::bigint, 'a changed rate of VAT is copied');
select private.plan_details_copy(jsonb_build_object('organizationId', tests.org('anna'))) as call \gset
select is(pg_temp.step(pg_temp.take(:'call')), 'tax_rate POST /v1/tax_rates', 'the rate is made at Stripe');
select is(pg_temp.step(pg_temp.settle(:'call', 'ok', '{"id": "txr_22"}')), 'details POST /v1/customers/cus_1', 'then the details');
select pg_temp.settle(:'call', 'ok', '{"id": "cus_1"}');
select is(pg_temp.step(pg_temp.settle(:'call', 'ok', '{"data": []}')), 'held GET /v1/subscription_schedules/sub_sched_9', 'a downgrade waits in a schedule');
select pg_temp.settle(:'call', 'ok', jsonb_build_object('id', 'sub_sched_9', 'status', 'active', 'phases', jsonb_build_array(
  '{"start_date": 1, "end_date": 2, "items": [{"price": "price_past"}]}'::jsonb,
  jsonb_build_object('start_date', 2, 'end_date', extract(epoch from now())::bigint + 1000, 'items', '[{"price": "price_teams", "quantity": 2}]'::jsonb, 'default_tax_rates', '[{"id": "txr_1"}]'::jsonb),
  jsonb_build_object('start_date', extract(epoch from now())::bigint + 1000, 'items', '[{"price": {"id": "price_pro"}}]'::jsonb, 'default_tax_rates', '["txr_1"]'::jsonb)))) as held \gset
select is(pg_temp.step(:'held'), 'held_phases POST /v1/subscription_schedules/sub_sched_9', 'so its phases are told');
select is((select jsonb_agg(x - 'start_date' - 'end_date') from jsonb_array_elements(:'held'::jsonb #> '{step,params,phases}') x),
  '[{"items": [{"price": "price_teams", "quantity": 2}], "proration_behavior": "none", "default_tax_rates": ["txr_22"]},
    {"items": [{"price": "price_pro", "quantity": 1}], "proration_behavior": "none", "default_tax_rates": ["txr_22"]}]', 'both the running one and the one to come, with the new rate');
select is(pg_temp.ending(pg_temp.settle(:'call', 'ok', '{"id": "sub_sched_9"}')), '{}', 'which ends the copy');
select is(private.plan_details_copy(jsonb_build_object('organizationId', tests.org('anna'))), '{}', 'and is what Stripe has now');
select private.end_old(r, now() + interval '91 days', 1000) from private.retention_rules r where r.name = 'stripe_calls';
select is((select count(*) from private.stripe_calls where settled_at is not null), 0::bigint, 'settled calls are kept for 90 days');

select * from finish();
rollback;
