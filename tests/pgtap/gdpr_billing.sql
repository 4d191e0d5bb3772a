-- What an erasure does with payments: invoices stay for their years without the customer's account, Stripe forgets the rest, and what Stripe says
-- later is not kept.
begin;
select no_plan();
-- Anna is alone in her organization, Stan is a stranger with one of his own.
select tests.user('anna'), tests.user('stan');
update public.subscriptions set plan_id = 'pro', billing_interval = 'monthly', stripe_subscription_id = 'sub_' || p.name, stripe_customer_id = 'cus_' || p.name
from tests.people p where p.org_id = organization_id;
insert into private.stripe_customers (id, organization_id) select 'cus_' || name, org_id from tests.people union all select 'cus_former', tests.org('anna');
insert into public.invoices (organization_id, stripe_invoice_id, stripe_customer_id, number, status, currency, net_amount, vat_amount, total_amount, amount_due, amount_paid, vat_rate,
  vat_treatment, customer_country, period_start, period_end, finalized_at, snapshot, state_key, created_at)
select p.org_id, 'in_' || s || p.name, 'cus_' || p.name, case s when 'paid' then 'K-' || p.name end, s, 'eur', 100, 21, 121, 121, 121, 21, 'domestic', 'NL', now(), now(), now(),
  jsonb_build_object('customer', jsonb_build_object('name', 'Company of ' || p.name)), (now(), 1, 'evt')::private.fact_key, '2026-05-04'
from tests.people p, unnest(array['draft', 'paid']) s;
update public.billing_details set btw_number = 'NL004495445B01' where organization_id in (select org_id from tests.people);
update public.billing_details set btw_definite = 'valid', btw_status = 'valid', verified_at = now(), consultation_number = 'WAPIAAA', registered_name = 'Company' where organization_id in (select org_id from tests.people);
insert into private.stripe_events (id, type, created, livemode, payload, processed_at, outcome, error, organization_id, customer_id, next_try_at)
values ('evt_1', 'invoice.paid', now(), false, '{"name": "Anna"}', now(), 'processed', null, tests.org('anna'), 'cus_anna', null),
  ('evt_2', 'charge.refunded', now(), false, '{"name": "Anna"}', null, 'unmatched', 'Anna is unknown', null, 'cus_former', now()),
  ('evt_3', 'invoice.paid', now(), false, '{"name": "Stan"}', now(), 'processed', null, tests.org('stan'), 'cus_stan', null);
insert into private.detached_payment_methods (id, customer_id, detached_at) values ('pm_1', 'cus_anna', now()), ('pm_2', 'cus_stan', now());

select tests.act_as('anna');
select api.erase_account('{"body": {"confirm": "DELETE_ALL_MY_DATA"}}') as report \gset
select tests.reset();
select is(:'report'::jsonb #> '{retained,2}', '{"what": "1 invoices, with the payments and the VAT evidence", "legalBasis": "Art. 17(3)(b) GDPR, Art. 52 AWR", "until": "2034-01-01T00:00:00.000Z"}',
  'the report says how long invoices stay');
select is((select array_agg((number, organization_id, snapshot #>> '{customer,name}', total_amount)::text) from public.invoices where stripe_customer_id = 'cus_anna'), array['(K-anna,,"Company of anna",121)'],
  'an invoice keeps its snapshot and no account; a draft is gone');
select is((select count(*) from public.invoices where organization_id = tests.org('stan')), 2::bigint, 'others keep theirs');
select is((select array_agg((btw_number, is_valid, consultation_number, registered_name, kept_until)::text) from private.vat_evidence), array['(NL004495445B01,t,WAPIAAA,Company,2034-01-01)'], 'the evidence for the tax stays with it');
select is((select array_agg((id, payload, outcome, error, organization_id, customer_id, next_try_at)::text order by id) from private.stripe_events),
  array['(evt_1,,processed,,,,)', '(evt_2,,ignored,,,,)', format('(evt_3,"{""name"": ""Stan""}",processed,,%s,cus_stan,)', tests.org('stan'))], 'events about Anna keep their ids only');
select is((select array_agg(id order by id) from private.detached_payment_methods), array['pm_2'], 'her payment methods are forgotten');
select is((select array_agg(convert_from(args, 'UTF8')::jsonb::text order by 1) from jobs.stored_jobs where job_type = 'gdpr.customer'),
  array['{"customerId": "cus_anna", "subscriptionId": "sub_anna"}', '{"customerId": "cus_former"}'], 'Stripe is told of each customer');

-- Afterwards.
insert into private.stripe_events (id, type, created, livemode, payload, outcome, error, customer_id, next_try_at)
values ('evt_4', 'customer.deleted', now(), false, '{"name": "Anna"}', 'unmatched', 'x', 'cus_anna', now()), ('evt_5', 'customer.created', now(), false, '{"name": "Carl"}', 'unmatched', 'x', 'cus_carl', now());
select is((select (payload, outcome, error, customer_id, next_try_at, processed_at is not null)::text from private.stripe_events where id = 'evt_4'), '(,ignored,,,,t)', 'a late event about Anna is not kept');
select is((select payload from private.stripe_events where id = 'evt_5'), '{"name": "Carl"}', 'an event about a customer who is not known yet is');
select is(private.retry_stripe_events(), 1, 'and is tried again');
update private.vat_evidence set kept_until = current_date - 1;
select is((select private.end_old(r, now(), 100) from private.retention_rules r where r.name = 'vat_evidence'), 1::bigint, 'retention');
select is((select count(*) from private.vat_evidence), 0::bigint, 'ends the evidence after its years');

select * from finish();
rollback;
