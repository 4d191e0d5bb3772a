update public.billing_details set company_name = pg_temp.secret(), city = pg_temp.secret(), btw_number = 'NL004495445B01' where organization_id = pg_temp.org();
insert into private.vies_answers (organization_id, number, is_valid, name) values (pg_temp.org(), 'NL004495445B01', true, pg_temp.secret());
update public.subscriptions set stripe_customer_id = 'cus_' || pg_temp.tenant() where organization_id = pg_temp.org();
insert into private.stripe_customers (id, organization_id) values ('cus_' || pg_temp.tenant(), pg_temp.org());
insert into private.stripe_subscriptions (id, organization_id, began_at, ended_at) values ('sub_' || pg_temp.tenant(), pg_temp.org(), now(), now());
insert into private.checkout_sessions (id, organization_id, mode, url) values ('cs_' || pg_temp.tenant(), pg_temp.org(), 'subscription', pg_temp.secret());
insert into private.stripe_events (id, type, created, livemode, payload, outcome, processed_at, organization_id)
values ('evt_' || pg_temp.tenant(), 'customer.updated', now(), false, jsonb_build_object('text', pg_temp.secret()), 'processed', now(), pg_temp.org());
with m as (
  insert into public.payment_methods (organization_id, stripe_payment_method_id, type, card_brand, fingerprint, state_key, created_at)
  values (pg_temp.org(), 'pm_' || pg_temp.tenant(), 'card', 'visa', pg_temp.secret(), private.fact_key(now(), 0, null), now()) returning id
) select pg_temp.keep('paymentMethodId', id) from m;
insert into private.stripe_calls (organization_id, user_id, operation, request, answer, settled_at)
values (pg_temp.org(), pg_temp.person(), 'portal', jsonb_build_object('returnUrl', pg_temp.secret()), jsonb_build_object('url', pg_temp.secret()), now());
insert into private.stripe_schedules (id, organization_id, subscription_id) values ('sub_sched_' || pg_temp.tenant(), pg_temp.org(), 'sub_' || pg_temp.tenant());
insert into private.stripe_copies (organization_id, details) values (pg_temp.org(), jsonb_build_object('name', pg_temp.secret()));
with i as (
  insert into public.invoices (organization_id, stripe_invoice_id, number, status, currency, net_amount, vat_amount, total_amount, amount_due, amount_paid, vat_rate, vat_treatment,
    customer_country, description, pdf_url, period_start, period_end, finalized_at, snapshot, state_key, created_at)
  values (pg_temp.org(), 'in_' || pg_temp.tenant(), 'HV-' || pg_temp.tenant(), 'open', 'eur', 2900, 609, 3509, 3509, 0, 21, 'domestic', 'NL', pg_temp.secret(), 'https://pay.stripe.com/' || pg_temp.tenant(), now(), now(), now(),
    jsonb_build_object('customer', pg_temp.secret()), private.fact_key(now(), 0, null), now()) returning id
) select pg_temp.keep('invoiceId', id) from i;
