-- What Stripe tells, event by event: the state machine, the plan in effect, who is notified, and what invoices keep. Orders are tried in
-- tests/billing.
begin;
select no_plan();
-- Anna owns an organization, Ada is an admin of it, Ben a member, Stan a stranger.
select tests.user('anna'), tests.member('ada', 'anna', 'admin'), tests.member('ben', 'anna'), tests.user('stan');
insert into private.stripe_prices values ('price_pro', 'pro', 'monthly'), ('price_pro_year', 'pro', 'annually'), ('price_teams', 'teams', 'monthly'), ('price_contract', 'enterprise', 'annually');
create function pg_temp.at(p_second bigint) returns bigint language sql as $$ select 1764547200 + p_second $$;
create function pg_temp.sub(p_status text, p_price text default 'price_pro', p_more jsonb default '{}', p_id text default 'sub_1', p_who text default 'anna') returns jsonb
language sql
as $$ select jsonb_build_object('id', p_id, 'object', 'subscription', 'customer', 'cus_' || p_who, 'status', p_status, 'created', pg_temp.at(0), 'cancel_at_period_end', false,
  'metadata', jsonb_build_object('org_id', tests.org(p_who)), 'current_period_start', pg_temp.at(0), 'current_period_end', pg_temp.at(2678400),
  'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', 'si_1', 'price', jsonb_build_object('id', p_price))))) || p_more $$;
create function pg_temp.invoice(p_status text, p_more jsonb default '{}', p_id text default 'in_1', p_net bigint default 2900, p_vat bigint default 609, p_who text default 'anna') returns jsonb
language sql
as $$ select jsonb_build_object('id', p_id, 'object', 'invoice', 'customer', 'cus_' || p_who, 'status', p_status, 'currency', 'eur', 'created', pg_temp.at(0), 'total', p_net + p_vat,
  'tax', p_vat, 'amount_due', p_net + p_vat, 'amount_paid', case p_status when 'paid' then p_net + p_vat else 0 end, 'attempt_count', 0, 'number', 'HV-' || p_id,
  'subscription', 'sub_1', 'subscription_details', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org(p_who))), 'customer_address', '{"country": "NL"}'::jsonb,
  'lines', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('amount', p_net, 'price', '{"id": "price_pro"}'::jsonb, 'period',
    jsonb_build_object('start', pg_temp.at(0), 'end', pg_temp.at(2678400)))))) || p_more $$;
-- Applies an event that happened at a second, and gives the outcome.
create sequence pg_temp.events;
create function pg_temp.tell(p_second bigint, p_type text, p_object jsonb, p_previous jsonb default null) returns text
language sql
as $$ select private.take_stripe_events(array[jsonb_build_object('id', 'evt_' || lpad(nextval('pg_temp.events')::text, 6, '0'), 'type', p_type, 'created', pg_temp.at(p_second), 'livemode', false,
  'data', jsonb_build_object('object', p_object, 'previous_attributes', p_previous))], false) #>> '{0,outcome}' $$;
-- Servers of the release before tell one event at a time.
select is(private.take_stripe_event(jsonb_build_object('id', 'evt_alone', 'type', 'invoice.paid', 'created', pg_temp.at(0), 'livemode', true, 'data', jsonb_build_object('object', '{}'::jsonb)), false),
  '{"status": "ok", "outcome": "ignored", "eventType": "invoice.paid"}', 'a server of the release before is answered as it was');
delete from private.stripe_events;
create function pg_temp.row(p_who text default 'anna') returns text
language sql
as $$ select concat_ws(' ', s.plan_id, s.status, s.billing_interval, s.stripe_subscription_id, private.plan_in_effect(s)) from public.subscriptions s where s.organization_id = tests.org(p_who) $$;
create function pg_temp.flags() returns text
language sql
as $$ select concat_ws(' ', s.plan_id, s.cancel_at_period_end, s.pending_plan_id) from public.subscriptions s where s.organization_id = tests.org('anna') $$;
create function pg_temp.btw() returns text
language sql
as $$ select btw_status || ' ' || coalesce(btw_definite, '-') from public.billing_details where organization_id = tests.org('anna') $$;
create function pg_temp.fresh() returns void language sql
as $$
  alter table public.invoices disable trigger _200_keep_years;
  delete from public.invoices;
  alter table public.invoices enable trigger _200_keep_years;
  delete from private.stripe_subscriptions; delete from private.stripe_customers; delete from private.stripe_events; delete from public.payment_methods;
  delete from private.detached_payment_methods; delete from private.checkout_sessions;
  update public.subscriptions set plan_id = 'free', status = 'active', stripe_customer_id = null;
  update public.subscriptions set status = 'active' where status <> 'active';
  delete from public.notifications; delete from private.notification_keys;
$$;
create function pg_temp.told(p_who text default 'anna') returns text
language sql
as $$ select string_agg(title || case when is_urgent then ' (urgent)' else '' end, '; ' order by created_at, id) from public.notifications where user_id = tests.user(p_who) $$;

-- --------------------------------------------------------------------------------------------------- the state machine (section 2.3)
select is(pg_temp.tell(1, 'customer.subscription.created', pg_temp.sub(status)) || ': ' || pg_temp.row(), 'processed: ' || found, 'Stripe says ' || status)
from (values ('active', 'pro active monthly sub_1 pro'), ('trialing', 'pro trialing monthly sub_1 pro'), ('incomplete', 'pro incomplete monthly sub_1 free'),
  ('past_due', 'pro past_due monthly sub_1 free'), ('unpaid', 'pro past_due monthly sub_1 free'), ('paused', 'pro past_due monthly sub_1 free'),
  ('incomplete_expired', 'free canceled monthly free'), ('canceled', 'free canceled monthly free')) c (status, found), lateral (select pg_temp.fresh()) f;
select pg_temp.fresh();
select is(pg_temp.tell(1, 'invoice.paid', pg_temp.invoice('paid', jsonb_build_object('lines', lines::jsonb, 'subscription_details',
  jsonb_build_object('metadata', '{"plan": "teams", "billing_interval": "annually"}'::jsonb || jsonb_build_object('org_id', tests.org('anna')))))) || ': ' || pg_temp.row(), 'processed: ' || found, 'an invoice alone: ' || lines)
from (values ('{"data": [{"amount": 2900, "price": {"id": "price_pro"}}]}', 'pro active monthly sub_1 pro'), ('{"data": [{"amount": 2900, "price": {"id": "price_unknown"}}]}', 'teams active annually sub_1 teams'),
  ('{"data": []}', 'teams active annually sub_1 teams'),
  ('{"data": [{"amount": -1450, "price": {"id": "price_pro"}, "period": {"start": 1764547200, "end": 1767225600}}, {"amount": 3950, "price": {"id": "price_teams"}, "period": {"start": 1764547200, "end": 1767225600}}]}',
    'teams active monthly sub_1 teams')) c (lines, found), lateral (select pg_temp.fresh()) f;
select pg_temp.fresh();
select throws_ok($$ select pg_temp.tell(1, 'customer.subscription.created', pg_temp.sub('sleeping')) $$, '23514', null, 'a status that is not known is a failure, which Stripe repeats');
select is(outcome || ': ' || pg_temp.row(), found, step) from (values
  (1, 'a session without a payment', pg_temp.tell(1, 'checkout.session.completed', jsonb_build_object('id', 'cs_1', 'mode', 'subscription', 'payment_status', 'unpaid', 'customer', 'cus_anna',
    'subscription', 'sub_1', 'client_reference_id', tests.org('anna'), 'metadata', '{"plan": "teams", "billing_interval": "annually"}'::jsonb)), 'processed: teams incomplete annually sub_1 free')) c (n, step, outcome, found) order by n;
select is((select current_period_start || ' ' || current_period_end from public.subscriptions where organization_id = tests.org('anna')), '2025-12-01 00:00:01+00 2026-12-01 00:00:01+00',
  'has the interval from then on as its period');
select is(pg_temp.tell(2, 'checkout.session.async_payment_failed', (select payload #> '{data,object}' from private.stripe_events order by id desc limit 1)) || ': ' || pg_temp.row(),
  'processed: teams incomplete annually sub_1 free', 'a debit that the bank refused leaves it incomplete');
select is(pg_temp.told(), 'Your plan is now Teams; Your payment failed (urgent)', 'and the owner hears of it at once');
select is(pg_temp.tell(3, 'checkout.session.async_payment_succeeded', (select payload #> '{data,object}' from private.stripe_events order by id desc limit 1)) || ': ' || pg_temp.row(),
  'processed: teams active annually sub_1 teams', 'one that arrived makes it active');
select is(pg_temp.tell(4, 'customer.subscription.updated', pg_temp.sub('active', 'price_contract')) || ': ' || pg_temp.row(), 'processed: enterprise active annually sub_1 enterprise',
  'a contract may have a price');
select is(pg_temp.tell(5, 'customer.subscription.updated', pg_temp.sub('active', 'price_unknown')) || ': ' || pg_temp.row(), 'processed: enterprise active annually sub_1 enterprise',
  'a price that is not known changes no plan');
select is((select alerts from private.stripe_events order by id desc limit 1), '{The price price_unknown is not known; the plan is kept.}', 'and is one for the operator');
select is(pg_temp.tell(6, 'customer.subscription.paused', pg_temp.sub('paused')) || ': ' || pg_temp.row(), 'processed: pro past_due monthly sub_1 free', 'paused');
select is(pg_temp.tell(7, 'customer.subscription.resumed', pg_temp.sub('active')) || ': ' || pg_temp.row(), 'processed: pro active monthly sub_1 pro', 'and resumed');
update public.subscriptions set pending_plan_id = 'teams', pending_billing_interval = 'monthly' where organization_id = tests.org('anna');
select is(pg_temp.tell(8, 'customer.subscription.updated', pg_temp.sub('active', p_more => '{"cancel_at_period_end": true}')) || ': ' || pg_temp.flags(), 'processed: pro t teams', 'flags, and a change that waits');
select is(pg_temp.tell(9, 'customer.subscription.updated', pg_temp.sub('active', 'price_teams')) || ': ' || pg_temp.flags(), 'processed: teams f', 'which is in force now');
select is(pg_temp.tell(10, 'customer.subscription.updated', pg_temp.sub('active', p_more => jsonb_build_object('cancel_at', pg_temp.at(2678400)))) || ': ' || pg_temp.flags(), 'processed: pro t', 'flexible billing ends by a date');
select is(pg_temp.tell(11, 'customer.subscription.deleted', pg_temp.sub('canceled')) || ': ' || pg_temp.row(), 'processed: free canceled monthly free', 'the end');
select is(pg_temp.tell(12, 'customer.subscription.updated', pg_temp.sub('active')) || ': ' || pg_temp.row(), 'processed: free canceled monthly free', 'is the end');
select is(pg_temp.tell(12, 'invoice.paid', pg_temp.invoice('paid')) || ': ' || pg_temp.row(), 'processed: free canceled monthly free', 'also when an invoice is paid');
select is(pg_temp.tell(20, 'customer.subscription.created', pg_temp.sub('active', p_id => 'sub_2')) || ': ' || pg_temp.row(), 'processed: pro active monthly sub_2 pro', 'a new one begins');
select is(pg_temp.tell(21, 'customer.subscription.deleted', pg_temp.sub('canceled')) || ': ' || pg_temp.row(), 'superseded: pro active monthly sub_2 pro', 'and the former one does not end it');
select is(pg_temp.tell(30, 'customer.subscription.created', pg_temp.sub('incomplete', 'price_teams', jsonb_build_object('created', pg_temp.at(30)), 'sub_3')) || ': ' || pg_temp.row(),
  'superseded: pro active monthly sub_2 pro', 'one that is not paid yet does not take its place');
select is(pg_temp.tell(31, 'customer.deleted', '{"id": "cus_anna", "object": "customer"}') || ': ' || pg_temp.row(), 'processed: free canceled monthly free', 'without the customer all end');
select is((select stripe_customer_id from public.subscriptions where organization_id = tests.org('anna')), null, 'and the customer is not used again');
select is(pg_temp.tell(32, 'customer.subscription.updated', pg_temp.sub('active', p_id => 'sub_4')) || ': ' || pg_temp.row(), 'processed: free canceled monthly free', 'whatever comes late');

-- Staff's contract beside a subscription at Stripe.
select pg_temp.fresh();
update public.subscriptions set plan_id = 'enterprise' where organization_id = tests.org('anna');
select is(pg_temp.tell(1, 'customer.subscription.created', pg_temp.sub('active')) || ': ' || pg_temp.row(), 'processed: enterprise active monthly enterprise', 'a contract of staff stays');
select is((select alerts from private.stripe_events order by id desc limit 1), '{"The organization has a contract, and a subscription at Stripe beside it."}', 'and is looked at');

-- A request is held to the state machine, and what Stripe answers to a request is not.
select pg_temp.fresh();
select set_config('app.user_id', tests.user('anna')::text, true), set_config('app.org_id', tests.org('anna')::text, true);
select is(private.apply_stripe_object('customer.subscription.created', pg_temp.sub('past_due'), to_timestamp(pg_temp.at(1)), null) || ': ' || pg_temp.row(), 'processed: pro past_due monthly sub_1 free',
  'an answer of Stripe counts');
select throws_ok(format('update public.subscriptions set status = %L where organization_id = %L', 'trialing', tests.org('anna')), 'PT409', null, 'a request goes the ways of the contract');
select tests.reset();
select is(pg_temp.tell(1, 'customer.subscription.updated', pg_temp.sub('active')) || ': ' || pg_temp.row(), 'processed: pro active monthly sub_1 pro', 'an event of the second of an answer is newer');

-- ------------------------------------------------------------------------------------------------- the plan in effect (section 1)
create function pg_temp.failing(p_attempts integer, p_age interval, p_paid bigint default 3509, p_more text default 'past_due') returns text
language plpgsql
as $$
begin
  perform pg_temp.fresh();
  perform pg_temp.tell(1, 'customer.subscription.created', pg_temp.sub('active'));
  if p_paid is not null then
    perform pg_temp.tell(2, 'invoice.paid', pg_temp.invoice('paid', p_id => 'in_0', p_net => p_paid - round(p_paid * 21 / 121.0)::bigint, p_vat => round(p_paid * 21 / 121.0)::bigint));
  end if;
  perform pg_temp.tell(extract(epoch from now() - p_age)::bigint - pg_temp.at(0), 'invoice.payment_failed', pg_temp.invoice('open', jsonb_build_object('attempt_count', p_attempts)));
  perform pg_temp.tell(extract(epoch from now() - p_age)::bigint - pg_temp.at(0), 'customer.subscription.updated', pg_temp.sub(p_more));
  return pg_temp.row();
end
$$;
select is(pg_temp.failing(a, g, p, s), 'pro past_due monthly sub_1 ' || e, d) from (values
  (1, interval '1 hour', 3509::bigint, 'past_due', 'pro', 'a first failure'), (2, interval '13 days 23:59', 3509, 'past_due', 'pro', 'two failures in two weeks'),
  (3, interval '1 hour', 3509, 'past_due', 'free', 'the third attempt'), (1, interval '14 days 00:01', 3509, 'past_due', 'free', 'two weeks without a second attempt'),
  (1, interval '1 hour', null, 'past_due', 'free', 'nothing was ever paid'), (1, interval '1 hour', 0, 'past_due', 'free', 'nothing above zero was'),
  (1, interval '1 hour', 3509, 'unpaid', 'free', 'Stripe gave up'), (1, interval '1 hour', 3509, 'paused', 'free', 'Stripe paused it')) c (a, g, p, s, e, d);
select pg_temp.failing(3, interval '1 hour');
select is(pg_temp.tell(extract(epoch from now())::bigint - pg_temp.at(0), 'invoice.paid', pg_temp.invoice('paid', '{"attempt_count": 4}')) || ': ' || pg_temp.row(), 'processed: pro active monthly sub_1 pro',
  'paid, it is back');
select is((select attempt_count || ' ' || (first_failed_at is not null) from public.invoices where stripe_invoice_id = 'in_1'), '4 true', 'and the attempts are remembered');

-- Units that were granted under the plan go back when it lapses, also by time alone.
select pg_temp.failing(1, interval '1 hour');
select private.consume_quota(tests.org('anna'), 'api_calls', 1);
select ok((select granted > used and granted_under = 10000 from public.usage_counters where organization_id = tests.org('anna') and metric = 'api_calls'), 'units are granted under the plan');
select private.sweep_billing();
select ok((select granted > used from public.usage_counters where organization_id = tests.org('anna') and metric = 'api_calls'), 'which is in effect');
update public.invoices set first_failed_at = now() - interval '15 days' where stripe_invoice_id = 'in_1';
select is(pg_temp.row(), 'pro past_due monthly sub_1 free', 'it lapses by time');
select private.sweep_billing();
select ok((select granted = used from public.usage_counters where organization_id = tests.org('anna') and metric = 'api_calls'), 'and grants nothing any more');
select pg_temp.failing(1, interval '1 hour');
select private.consume_quota(tests.org('anna'), 'ingestions', 1);
select pg_temp.tell(extract(epoch from now())::bigint - pg_temp.at(0), 'invoice.payment_failed', pg_temp.invoice('open', '{"attempt_count": 3}'));
select ok((select granted = used from public.usage_counters where organization_id = tests.org('anna') and metric = 'ingestions'), 'nor after the third attempt, at once');

-- ------------------------------------------------------------------------------------------------------------------ who hears what
select pg_temp.failing(1, interval '1 hour');
delete from public.notifications;
select pg_temp.tell(3000, 'invoice.payment_failed', pg_temp.invoice('open', jsonb_build_object('attempt_count', n, 'next_payment_attempt', next)))
from (values (2, pg_temp.at(9000)), (2, pg_temp.at(9000)), (3, pg_temp.at(9000)), (4, null)) c (n, next);
select is(pg_temp.told(), 'Your payment failed; Your payment failed (urgent); Your payment failed (urgent)', 'one notification an attempt, urgent from the third');
select is((select count(*) from public.notifications where user_id in (tests.user('ada'), tests.user('ben'), tests.user('stan'))), 0::bigint, 'for the owner alone');
select pg_temp.failing(1, interval '1 hour');
select is(pg_temp.told(), 'Your plan is now Pro; Your payment failed (urgent)', 'at once where no attempt follows');
delete from public.notifications;
select is(pg_temp.tell(200000000 + n, type, object), outcome, type) from (values
  (1, 'customer.subscription.trial_will_end', pg_temp.sub('trialing', p_more => jsonb_build_object('trial_end', pg_temp.at(9000))), 'processed'),
  (2, 'invoice.payment_action_required', pg_temp.invoice('open', '{"hosted_invoice_url": "https://invoice.stripe.com/i/1", "attempt_count": 1}'), 'processed'),
  (3, 'payment_method.attached', '{"id": "pm_1", "type": "sepa_debit", "customer": "cus_anna", "created": 1764547200, "sepa_debit": {"last4": "3000", "bank_code": "INGB", "country": "NL"}}', 'processed'),
  (4, 'mandate.updated', '{"id": "mandate_1", "status": "active", "payment_method": "pm_1"}', 'ignored'),
  (5, 'mandate.updated', '{"id": "mandate_1", "status": "inactive", "payment_method": "pm_1"}', 'processed'),
  (6, 'mandate.updated', '{"id": "mandate_2", "status": "inactive", "payment_method": "pm_none"}', 'unmatched'),
  (7, 'invoice_payment.paid', '{"id": "inpay_1", "object": "invoice_payment", "invoice": "in_0", "payment": {"type": "payment_intent", "payment_intent": "pi_0"}}', 'processed'),
  (8, 'invoice_payment.paid', '{"id": "inpay_1", "object": "invoice_payment", "invoice": "in_0", "payment": {"type": "payment_intent", "payment_intent": "pi_0"}}', 'stale'),
  (9, 'charge.refunded', '{"id": "ch_1", "object": "charge", "customer": "cus_anna", "payment_intent": "pi_0", "amount_refunded": 500}', 'processed'),
  (10, 'charge.refunded', '{"id": "ch_1", "object": "charge", "customer": "cus_anna", "payment_intent": "pi_0", "amount_refunded": 300}', 'stale'),
  (11, 'charge.dispute.created', '{"id": "dp_1", "object": "dispute", "charge": "ch_1", "payment_intent": "pi_0"}', 'processed'),
  (12, 'charge.dispute.created', '{"id": "dp_2", "object": "dispute", "charge": "ch_x", "payment_intent": "pi_x"}', 'unmatched'),
  (13, 'invoice.upcoming', '{"id": null, "object": "invoice"}', 'ignored'), (14, 'customer.created', '{"id": "cus_x", "object": "customer"}', 'ignored')) c (n, type, object, outcome) order by n;
select is(pg_temp.told(), 'Your trial is about to end; Your bank asks you to confirm a payment; Your bank withdrew a direct debit mandate; A payment was disputed (urgent)', 'each is told once');
select is((select data ->> 'invoiceUrl' from public.notifications where title like 'Your bank asks%'), 'https://invoice.stripe.com/i/1', 'with the link to confirm it');
select is((select status || ' ' || refunded_amount from public.invoices where stripe_invoice_id = 'in_0'), 'paid 500', 'a refund leaves the invoice paid');
select is((select alerts from private.stripe_events where type = 'charge.dispute.created' and outcome = 'processed'), '{The payer disputes invoice HV-in_0.}', 'a dispute is one for the operator');

-- ---------------------------------------------------------------------------------------------------------------- payment methods
select pg_temp.fresh();
select pg_temp.tell(1, 'customer.subscription.created', pg_temp.sub('active'));
create function pg_temp.methods() returns text language sql
as $$ select string_agg(stripe_payment_method_id || case when is_default then '*' else '' end, ' ' order by stripe_payment_method_id) from public.payment_methods $$;
select is(pg_temp.tell(s, type, o, previous) || ': ' || coalesce(pg_temp.methods(), '-'), found, what) from (values
  (2, 'payment_method.attached', '{"id": "pm_1", "type": "card", "customer": "cus_anna", "created": 1764547202, "card": {"brand": "jcb", "last4": "4242", "exp_month": 2, "exp_year": 2030, "fingerprint": "f"}}'::jsonb, null::jsonb, 'processed: pm_1', 'a card'),
  (3, 'payment_method.attached', '{"id": "pm_2", "type": "ideal", "customer": "cus_anna", "ideal": {"bank": "ing"}}', null, 'ignored: pm_1', 'iDEAL is no stored type'),
  (4, 'payment_method.attached', '{"id": "pm_3", "type": "sepa_debit", "customer": "cus_anna", "created": 1764547201, "sepa_debit": {"last4": "3000"}}', null, 'processed: pm_1 pm_3', 'the mandate that Stripe derives from it is'),
  (5, 'checkout.session.completed', jsonb_build_object('id', 'cs_9', 'mode', 'setup', 'customer', 'cus_anna', 'setup_intent', 'seti_1', 'metadata', jsonb_build_object('org_id', tests.org('anna'))), null, 'processed: pm_1 pm_3*', 'set up, the first one is the default'),
  (6, 'customer.updated', '{"id": "cus_anna", "object": "customer", "invoice_settings": {"default_payment_method": "pm_1"}}', null, 'processed: pm_1* pm_3', 'Stripe names another'),
  (5, 'customer.updated', '{"id": "cus_anna", "object": "customer", "invoice_settings": {"default_payment_method": "pm_3"}}', null, 'stale: pm_1* pm_3', 'an older word does not count'),
  (7, 'payment_method.detached', '{"id": "pm_1", "type": "card", "customer": null, "created": 1764547202}', '{"customer": "cus_anna"}', 'processed: pm_3', 'without the default there is none'),
  (6, 'payment_method.updated', '{"id": "pm_1", "type": "card", "customer": "cus_anna", "card": {"brand": "visa"}}', null, 'stale: pm_3', 'it stays away'),
  (8, 'payment_method.automatically_updated', '{"id": "pm_3", "type": "sepa_debit", "customer": "cus_anna", "created": 1764547201, "sepa_debit": {"last4": "3001"}}', null, 'processed: pm_3', 'a new account number')) c (s, type, o, previous, found, what);
select is((select sepa_last4 from public.payment_methods), '3001', 'is shown');

-- ------------------------------------------------------------------------------------------------------------------ tax ids of Stripe
update public.billing_details set country = 'DE', btw_number = 'DE111111111' where organization_id = tests.org('anna');
select is(pg_temp.tell(s, 'customer.tax_id.updated', jsonb_build_object('id', 'txi_1', 'object', 'tax_id', 'customer', 'cus_anna', 'type', 'eu_vat', 'value', value, 'verification', jsonb_build_object('status', status)))
  || ': ' || pg_temp.btw(), found, status || ' ' || value) from (values
  (40, 'DE111111111', 'pending', 'ignored: unverified -'), (41, 'DE222222222', 'verified', 'stale: unverified -'), (42, 'DE 111111111', 'verified', 'processed: valid valid'),
  (43, 'DE111111111', 'unavailable', 'processed: unavailable valid'), (44, 'DE111111111', 'unverified', 'processed: invalid invalid'), (42, 'DE111111111', 'verified', 'stale: invalid invalid')) c (s, value, status, found);

-- ------------------------------------------------------------------------------------------------------------- invoices and their VAT
create function pg_temp.finalized(p_country text, p_number text, p_status text, p_vat bigint) returns text
language plpgsql
as $$
declare
  v_id text := 'in_' || nextval('pg_temp.events');
begin
  update public.billing_details set country = p_country, btw_number = p_number where organization_id = tests.org('anna');
  update public.billing_details set btw_status = p_status, btw_definite = case when p_status in ('valid', 'invalid') then p_status end,
    verified_at = case when p_status in ('valid', 'invalid') then now() end, kvk_number = '12345678' where organization_id = tests.org('anna');
  perform pg_temp.tell(100, 'invoice.finalized', pg_temp.invoice('open', jsonb_build_object('customer_address', jsonb_build_object('country', p_country)), v_id, 2900, p_vat));
  return (select concat_ws(' ', i.vat_treatment, i.vat_rate, i.vat_amount, i.snapshot #>> '{customer,btwNumber}', cardinality(e.alerts)) from public.invoices i
    join private.stripe_events e on e.payload #>> '{data,object,id}' = i.stripe_invoice_id where i.stripe_invoice_id = v_id);
end
$$;
select is(pg_temp.finalized(country, number, status, vat), found, concat_ws(' ', country, number, status, vat)) from (values
  ('NL', null, 'unverified', 609, 'domestic 21.000 609'), ('DE', 'DE111111111', 'valid', 0, 'reverse_charge 0.000 0 DE111111111'),
  ('DE', 'DE111111111', 'invalid', 609, 'eu_b2c 21.000 609 DE111111111'), ('US', null, 'unverified', 0, 'outside_eu 0.000 0'),
  ('NL', null, 'unverified', 608, 'domestic 21.000 608 1'), ('DE', 'DE111111111', 'valid', 609, 'reverse_charge 0.000 609 DE111111111 1')) c (country, number, status, vat, found);
select ok((select alerts[1] ~ '609 cents of VAT, and by our rules it should have 0' from private.stripe_events where alerts is not null order by id desc limit 1), 'Stripe''s amount stands, and the operator hears of it');
update public.billing_details set company_name = 'Later BV' where organization_id = tests.org('anna');
select is((select distinct snapshot #>> '{customer,kvkNumber}' || coalesce(snapshot #>> '{customer,name}', '') from public.invoices where snapshot is not null), '12345678', 'a later name changes no invoice');

-- Transitions, as rows: what Stripe says of an invoice that is in a state.
select pg_temp.fresh();
create function pg_temp.goes(p_from text, p_to text) returns text
language plpgsql
as $$
declare
  v_id text := 'in_' || nextval('pg_temp.events');
begin
  perform pg_temp.tell(100, 'invoice.updated', pg_temp.invoice(p_from, case p_from when 'draft' then '{"number": null}' else '{}' end::jsonb, v_id));
  perform pg_temp.tell(200, 'invoice.updated', pg_temp.invoice(p_to, '{}', v_id));
  return (select status from public.invoices where stripe_invoice_id = v_id);
end
$$;
create temp table ways as select f, t, pg_temp.goes(f, t) as now from unnest(array['draft', 'open', 'uncollectible', 'paid', 'void']) f, unnest(array['draft', 'open', 'uncollectible', 'paid', 'void']) t where f <> t;
select is((select string_agg(f || '>' || t, ' ' order by f, t) from ways where now = t),
  'draft>open draft>paid draft>uncollectible draft>void open>paid open>uncollectible open>void uncollectible>paid uncollectible>void', 'an invoice goes these ways');
select is((select count(*) from ways where now <> t and now <> f), 0::bigint, 'and stays where it is otherwise');
-- The same by hand, as the owner of the database.
select throws_ok(format('update public.invoices set %s where status = ''open''', change), '23514', null, change) from unnest(array['total_amount = 1, net_amount = 1, vat_amount = 0', 'number = ''x''', 'snapshot = ''{}''',
  'vat_rate = 6', 'period_end = now()', 'customer_country = ''DE''', 'status = ''draft''', 'description = ''x''', 'currency = ''usd''']) change;
select throws_ok($$ update public.invoices set status = 'open' where status = 'paid' $$, '23514', 'an invoice that is paid does not become open', 'paid is an end');
select lives_ok($$ update public.invoices set pdf_url = 'https://pay.stripe.com/x', refunded_amount = 1 where status = 'paid' $$, 'links and refunds go on');
select throws_ok($$ delete from public.invoices where status = 'open' $$, '23514', null, 'and none is deleted for 7 years');
select throws_ok($$ insert into public.invoices select (i).* from (select jsonb_populate_record(x, jsonb_build_object('id', gen_random_uuid(), 'stripe_invoice_id', 'in_x')) as i from public.invoices x where status = 'open' limit 1) y $$,
  '23505', null, 'a number is given once');

-- An organization that is deleted leaves its invoices behind, which Stripe still pays.
select pg_temp.tell(300, 'invoice.finalized', pg_temp.invoice('open', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org('stan')), 'subscription', null, 'subscription_details', null), 'in_stan', p_who => 'stan'));
delete from public.organizations where id = tests.org('stan');
select is((select organization_id from private.stripe_events where payload #>> '{data,object,id}' = 'in_stan'), null, 'an event names no organization that is gone');
select is((select count(*) from public.invoices where stripe_invoice_id = 'in_stan' and organization_id is null and snapshot is not null), 1::bigint, 'an invoice survives its organization');
select is(pg_temp.tell(301, 'invoice.paid', pg_temp.invoice('paid', jsonb_build_object('metadata', '{}'::jsonb, 'subscription', null, 'subscription_details', null), 'in_stan', p_who => 'stan')), 'processed', 'and is paid');
select is((select status from public.invoices where stripe_invoice_id = 'in_stan'), 'paid', 'later');

-- ------------------------------------------------------------------------------------------------------------------------ by actor
select pg_temp.tell(400, 'payment_method.attached', '{"id": "pm_7", "type": "card", "customer": "cus_anna", "created": 1764547202, "card": {"brand": "visa", "last4": "4242", "fingerprint": "f"}}');
select pg_temp.tell(400, 'customer.subscription.created', pg_temp.sub('active'));
select tests.act_as('anna');
select cmp_ok((select count(*) from public.invoices), '>', 10::bigint, 'the owner sees the rows of invoices');
select cmp_ok((api.list_invoices('{}') ->> 'total')::bigint, '>', 10::bigint, 'and their list');
select is(jsonb_array_length(api.list_invoices('{"limit": 500}') -> 'invoices'), (select count(*)::integer from public.invoices where status <> 'draft'), 'without drafts');
select throws_ok($$ select api.get_invoice('{"invoiceId": "x"}') $$, 'PT404', 'Invoice with ID x not found', 'an id that is none');
select throws_ok($$ select api.list_invoices('{"to": "never"}') $$, 'PT400', 'to must be a date or a time such as 2026-01-31T00:00:00Z.', 'a date that is none');
select lives_ok($$ select card_last4 from public.payment_methods $$, 'methods, too');
select throws_ok($$ select fingerprint from public.payment_methods $$, '42501', null, 'but not by which a card is recognized');
select throws_ok(format('update public.%s', x), '42501', null, x) from unnest(array['invoices set amount_paid = 0', 'payment_methods set is_default = true']) x;
select throws_ok($$ select private.take_stripe_events('{"{}"}', false) $$, '42501', null, 'nor does she speak for Stripe');
select throws_ok($$ select private.take_stripe_event('{}', false) $$, '42501', null, 'nor as a server of the release before');
select throws_ok($$ select private.apply_stripe_object('invoice.paid', '{}', now(), null) $$, '42501', null, 'in any way');
select throws_ok($$ select api.list_webhook_events('{}') $$, 'PT403', null, 'events are for staff');
select throws_ok($$ select api.replay_webhook_event('{}') $$, 'PT403', null, 'replays, too');
select tests.act_as('ada');
select is((select count(*) from public.invoices) + (select count(*) from public.payment_methods), 0::bigint, 'ada sees neither');
select throws_ok($$ select api.list_invoices('{}') $$, 'PT403', null, 'ada has no list');
select throws_ok($$ select api.get_invoice_pdf('{}') $$, 'PT403', null, 'ada has no PDF');
select tests.act_as('ben');
select is((select count(*) from public.invoices) + (select count(*) from public.payment_methods), 0::bigint, 'ben sees neither');
select throws_ok($$ select api.list_invoices('{}') $$, 'PT403', null, 'ben has no list');
select throws_ok($$ select api.get_invoice_pdf('{}') $$, 'PT403', null, 'ben has no PDF');
select tests.act_anon();
select throws_ok($$ select api.list_invoices('{}') $$, '42501', null, 'an anonymous caller neither');
select throws_ok($$ select * from public.invoices $$, '42501', null, 'nor the rows');
select tests.act_service();
select throws_ok($$ select api.list_invoices('{}') $$, '42501', null, 'nor the service');

-- Staff.
select tests.reset();
select pg_temp.tell(500, 'payment_method.attached', '{"id": "pm_8", "type": "card", "customer": "cus_nobody", "card": {}}');
update public.users set is_platform_admin = true where id = tests.user('ben');
insert into private.stripe_events (id, type, created, livemode, outcome, error, received_at) values ('evt_old', 'invoice.paid', now(), false, 'failed', 'x', now() - interval '40 days');
select tests.act_as('ben');
select is(api.list_webhook_events('{"outcome": "failed"}') -> 0 ->> 'error', 'x', 'staff see what failed');
select is((select array_agg(distinct e ->> 'outcome') from jsonb_array_elements(api.list_webhook_events('{"outcome": "unmatched", "limit": 100}')) e), '{unmatched}', 'or did not match');
select is(jsonb_array_length(api.list_webhook_events('{"limit": 2, "offset": 1}')), 2, 'page by page');
select throws_ok($$ select api.list_webhook_events('{"outcome": "lost"}') $$, 'PT400', 'outcome is processed, stale, superseded, ignored, unmatched or failed.', 'by an outcome that exists');
select is(tests.refusal($$ select api.replay_webhook_event('{"eventId": "evt_old"}') $$) ->> 'code', 'EVENT_EMPTIED', 'an event without its content is not replayed');
select is(tests.refusal($$ select api.replay_webhook_event('{"eventId": "evt_none"}') $$) ->> 'code', 'NOT_FOUND', 'nor one that never came');

-- --------------------------------------------------------------------------------------- numbers in use are checked again (section 6.1)
select tests.reset();
update public.billing_details set country = 'DE', btw_number = 'DE111111111' where organization_id = tests.org('anna');
create function pg_temp.checked(p_age interval) returns text language plpgsql as $$
begin
  delete from jobs.stored_jobs; delete from jobs.unique_keys;
  update public.billing_details set btw_status = 'valid', btw_definite = 'valid', verified_at = now() - p_age, asked_at = null where organization_id = tests.org('anna');
  perform private.queue_btw_checks();
  return (select string_agg(job_type, ' ') from jobs.stored_jobs where job_type <> 'billing.details');
end
$$;
select is(pg_temp.checked(interval '20 days'), null, 'a number of this month is not asked about');
select is(pg_temp.checked(interval '32 days'), 'billing.check_number', 'one of last month is');
select is(private.begin_btw_recheck(tests.org('anna')), 'DE111111111', 'by a worker');
select is(private.begin_btw_recheck(tests.org('anna')), null, 'once a day');
select private.finish_btw_recheck(tests.org('anna'), 'DE111111111', '{"outcome": "unavailable"}');
select is((select btw_status || ' ' || btw_definite from public.billing_details where organization_id = tests.org('anna')), 'unavailable valid', 'a trouble of VIES keeps the last answer');
select private.finish_btw_recheck(tests.org('anna'), 'DE111111111', '{"outcome": "invalid"}');
select is((select btw_status || ' ' || btw_definite from public.billing_details where organization_id = tests.org('anna')), 'invalid invalid', 'an answer replaces it');
select is(pg_temp.checked(interval '2 days'), null, 'two days are young enough');
select pg_temp.tell(500, 'invoice.created', pg_temp.invoice('draft', '{"number": null}', 'in_next'));
select is((select string_agg(job_type, ' ') from jobs.stored_jobs where job_type <> 'billing.details'), 'billing.check_number', 'but not for an invoice');
select * from finish();
rollback;
