-- What Stripe tells us (contract 50, sections 4 and 8). Events come in any order and more than once. So each fact keeps the key of the event
-- that set it, and what people see is derived from the facts.

-- Compared as a row: the second of the event, the rank of its type within that second, its id.
create type private.fact_key as (created timestamptz, rank integer, event_id text collate "C");
comment on type private.fact_key is 'The place of an event of Stripe among the others; the fact that it sets belongs to the greatest one.';

alter table public.subscriptions add column stripe_customer_id text;
create unique index subscriptions_stripe_customer_id_key on public.subscriptions (stripe_customer_id) where stripe_customer_id is not null;

create table private.stripe_events (
  id text primary key,
  type text not null,
  api_version text,
  created timestamptz not null,
  livemode boolean not null,
  payload jsonb,
  received_at timestamptz not null default now(),
  processed_at timestamptz,
  outcome text not null,
  error text,
  -- No foreign key: its check would cost each event more than its insert. A trigger empties it with the organization.
  organization_id uuid,
  customer_id text,
  -- What an operator should look at although the event was applied.
  alerts text[],
  attempts integer not null default 1,
  next_try_at timestamptz,
  constraint stripe_events_outcome_check check (outcome in ('processed', 'stale', 'superseded', 'ignored', 'unmatched', 'failed')),
  constraint stripe_events_processed_check check ((processed_at is null) = (outcome in ('unmatched', 'failed'))),
  constraint stripe_events_next_try_check check (next_try_at is null or outcome = 'unmatched')
);
alter table private.stripe_events enable row level security;
alter table private.stripe_events force row level security;
create index stripe_events_received_at_idx on private.stripe_events (received_at, id);
create index stripe_events_organization_id_idx on private.stripe_events (organization_id) where organization_id is not null;
create index stripe_events_next_try_at_idx on private.stripe_events (next_try_at) where next_try_at is not null;
create index stripe_events_unmatched_idx on private.stripe_events (customer_id) where outcome = 'unmatched';
create index stripe_events_outcome_idx on private.stripe_events (outcome, received_at) where outcome in ('failed', 'unmatched', 'superseded');
comment on table private.stripe_events is 'Events of Stripe, each once: kept 400 days, with the payload 30 days.';

create table private.stripe_customers (
  id text primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  default_method_id text,
  default_key private.fact_key,
  -- A method was set up through a checkout of its own: the first one becomes the default, as long as Stripe names none.
  is_set_up boolean not null default false,
  deleted_at timestamptz
);
alter table private.stripe_customers enable row level security;
alter table private.stripe_customers force row level security;
create index stripe_customers_organization_id_idx on private.stripe_customers (organization_id);
comment on table private.stripe_customers is 'What Stripe says of an organization''s customer: the default method, or that it was deleted, which it stays.';

create table private.stripe_prices (
  price_id text primary key,
  plan_id text not null references public.plans (id) on delete restrict,
  billing_interval text not null,
  constraint stripe_prices_plan_id_check check (plan_id <> 'free'),
  constraint stripe_prices_billing_interval_check check (billing_interval in ('monthly', 'annually'))
);
alter table private.stripe_prices enable row level security;
alter table private.stripe_prices force row level security;
create index stripe_prices_plan_id_idx on private.stripe_prices (plan_id);
comment on table private.stripe_prices is 'Prices of Stripe and the plans that they pay for. Former prices stay: subscriptions keep theirs. A contract may have a price of its own.';

create table private.stripe_subscriptions (
  id text primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  customer_id text,
  -- (a) What a subscription event says. status is Stripe's own.
  status text,
  price_id text,
  item_id text,
  current_period_start timestamptz,
  current_period_end timestamptz,
  cancel_at_period_end boolean,
  trial_end timestamptz,
  state_key private.fact_key,
  -- The plan by the price; an event with a price that is not known leaves it.
  plan_id text references public.plans (id) on delete restrict,
  billing_interval text,
  plan_key private.fact_key,
  -- What invoices and sessions say of plan and period, until a subscription event does.
  hint_plan_id text references public.plans (id) on delete restrict,
  hint_interval text,
  hint_period_start timestamptz,
  hint_period_end timestamptz,
  hint_key private.fact_key,
  -- (b) The last outcome of a payment.
  payment_outcome text,
  payment_key private.fact_key,
  began_at timestamptz not null,
  ended_at timestamptz,
  constraint stripe_subscriptions_payment_outcome_check check (payment_outcome in ('success', 'failure')),
  constraint stripe_subscriptions_billing_interval_check check (billing_interval in ('monthly', 'annually')),
  constraint stripe_subscriptions_hint_interval_check check (hint_interval in ('monthly', 'annually')),
  constraint stripe_subscriptions_state_check check ((status is null) = (state_key is null))
) with (fillfactor = 80);
alter table private.stripe_subscriptions enable row level security;
alter table private.stripe_subscriptions force row level security;
create index stripe_subscriptions_organization_id_idx on private.stripe_subscriptions (organization_id);
create index stripe_subscriptions_customer_id_idx on private.stripe_subscriptions (customer_id);
create index stripe_subscriptions_plan_id_idx on private.stripe_subscriptions (plan_id);
create index stripe_subscriptions_hint_plan_id_idx on private.stripe_subscriptions (hint_plan_id);
comment on table private.stripe_subscriptions is 'The facts of each subscription at Stripe, also of those that ended. public.subscriptions is derived from them.';

create table public.invoices (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid references public.organizations (id) on delete set null,
  stripe_invoice_id text not null,
  stripe_customer_id text,
  stripe_subscription_id text,
  number text,
  status text not null,
  currency text not null,
  net_amount bigint not null,
  vat_amount bigint not null,
  total_amount bigint not null,
  amount_due bigint not null,
  amount_paid bigint not null,
  refunded_amount bigint not null default 0,
  vat_rate numeric(6, 3),
  vat_treatment text,
  customer_country text,
  description text,
  invoice_url text,
  pdf_url text,
  period_start timestamptz not null,
  period_end timestamptz not null,
  due_at timestamptz,
  paid_at timestamptz,
  finalized_at timestamptz,
  -- Names, addresses and numbers of seller and customer as they were when the invoice was finalized.
  snapshot jsonb,
  attempt_count integer not null default 0,
  first_failed_at timestamptz,
  next_attempt_at timestamptz,
  payment_intent_id text,
  charge_id text,
  state_key private.fact_key not null,
  created_at timestamptz not null,
  updated_at timestamptz not null default now()
) with (fillfactor = 80);
alter table public.invoices enable row level security;
alter table public.invoices force row level security;
create unique index invoices_stripe_invoice_id_key on public.invoices (stripe_invoice_id);
create unique index invoices_number_key on public.invoices (number) where number is not null;
create index invoices_organization_id_idx on public.invoices (organization_id, created_at desc, id);
create index invoices_stripe_subscription_id_idx on public.invoices (stripe_subscription_id) where stripe_subscription_id is not null;
create index invoices_payment_intent_id_idx on public.invoices (payment_intent_id) where payment_intent_id is not null;
create index invoices_charge_id_idx on public.invoices (charge_id) where charge_id is not null;
comment on table public.invoices is
  'Invoices of Stripe, in cents. They are kept for 7 years after the end of the year of issue, also without their organization.';

create function private.assert_invoices_row(r public.invoices) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when r.status not in ('draft', 'open', 'paid', 'void', 'uncollectible') then 'invoices_status_check'
    when r.currency !~ '^[a-z]{3}$' then 'invoices_currency_check'
    when r.vat_treatment not in ('domestic', 'reverse_charge', 'eu_b2c', 'outside_eu') then 'invoices_vat_treatment_check'
    when r.status <> 'draft' and (r.finalized_at is null or r.snapshot is null or r.vat_rate is null or r.vat_treatment is null or r.customer_country is null)
      then 'invoices_finalized_check'
    when r.net_amount + r.vat_amount <> r.total_amount then 'invoices_total_amount_check'
    when r.vat_rate < 0 or r.vat_rate >= 100 then 'invoices_vat_rate_check'
    when r.refunded_amount < 0 then 'invoices_refunded_amount_check'
    when r.attempt_count < 0 then 'invoices_attempt_count_check'
    when r.period_end < r.period_start then 'invoices_period_check'
  end;
begin
  return v_rule is null or private.refuse_row('invoices', v_rule);
end
$$;
comment on function private.assert_invoices_row is 'The rules of a row of public.invoices, by name.';
alter table public.invoices add constraint invoices_rules check (private.assert_invoices_row(invoices));

create table private.invoice_transitions (
  from_status text not null,
  to_status text not null,
  primary key (from_status, to_status)
);
alter table private.invoice_transitions enable row level security;
alter table private.invoice_transitions force row level security;
comment on table private.invoice_transitions is 'The ways of an invoice. None leads out of paid or void, and none back to a draft.';
insert into private.invoice_transitions (from_status, to_status) values
  ('draft', 'open'), ('draft', 'paid'), ('draft', 'void'), ('draft', 'uncollectible'), ('open', 'paid'), ('open', 'void'), ('open', 'uncollectible'),
  ('uncollectible', 'paid'), ('uncollectible', 'void');

create table public.payment_methods (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  stripe_payment_method_id text not null,
  stripe_customer_id text,
  type text not null,
  is_default boolean not null default false,
  card_brand text,
  card_last4 text,
  card_exp_month integer,
  card_exp_year integer,
  sepa_bank_code text,
  sepa_last4 text,
  sepa_country text,
  fingerprint text,
  state_key private.fact_key not null,
  created_at timestamptz not null,
  updated_at timestamptz not null default now()
);
alter table public.payment_methods enable row level security;
alter table public.payment_methods force row level security;
create unique index payment_methods_stripe_payment_method_id_key on public.payment_methods (stripe_payment_method_id);
create unique index payment_methods_one_default_key on public.payment_methods (organization_id) where is_default;
create index payment_methods_organization_id_idx on public.payment_methods (organization_id, created_at desc, id);
comment on table public.payment_methods is 'Payment methods at Stripe that an organization may pay with: never their numbers.';

create function private.assert_payment_methods_row(r public.payment_methods) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when r.type not in ('card', 'sepa_debit') then 'payment_methods_type_check'
    when r.card_brand not in ('visa', 'mastercard', 'amex', 'discover', 'unknown') then 'payment_methods_card_brand_check'
    when r.card_last4 !~ '^[0-9]{4}$' then 'payment_methods_card_last4_check'
    when r.card_exp_month not between 1 and 12 then 'payment_methods_card_exp_month_check'
    when r.card_exp_year not between 1970 and 9999 then 'payment_methods_card_exp_year_check'
  end;
begin
  return v_rule is null or private.refuse_row('payment_methods', v_rule);
end
$$;
comment on function private.assert_payment_methods_row is 'The rules of a row of public.payment_methods, by name.';
alter table public.payment_methods add constraint payment_methods_rules check (private.assert_payment_methods_row(payment_methods));

create table private.detached_payment_methods (
  id text primary key,
  customer_id text,
  created_at timestamptz,
  detached_at timestamptz not null
);
alter table private.detached_payment_methods enable row level security;
alter table private.detached_payment_methods force row level security;
create index detached_payment_methods_customer_id_idx on private.detached_payment_methods (customer_id);
create index detached_payment_methods_detached_at_idx on private.detached_payment_methods (detached_at);
comment on table private.detached_payment_methods is 'Stripe''s ids of methods that were detached, so that an event that comes late does not bring one back. Kept as long as events are.';

create table private.checkout_sessions (
  id text primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  mode text not null,
  plan_id text references public.plans (id) on delete restrict,
  billing_interval text,
  url text,
  status text not null default 'open',
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  constraint checkout_sessions_mode_check check (mode in ('subscription', 'setup', 'payment')),
  constraint checkout_sessions_status_check check (status in ('open', 'complete', 'expired')),
  constraint checkout_sessions_billing_interval_check check (billing_interval in ('monthly', 'annually'))
);
alter table private.checkout_sessions enable row level security;
alter table private.checkout_sessions force row level security;
create index checkout_sessions_organization_id_idx on private.checkout_sessions (organization_id, created_at);
create index checkout_sessions_plan_id_idx on private.checkout_sessions (plan_id);
comment on table private.checkout_sessions is 'Checkouts at Stripe; an open one is used again for the same plan.';

-- When VIES was last asked about a number that is in use, whatever it answered.
alter table public.billing_details add column asked_at timestamptz;
create index billing_details_recheck_idx on public.billing_details ((greatest(asked_at, verified_at))) where btw_definite = 'valid';

insert into private.schedules (name, every) values ('billing.sweep', interval '30 seconds'), ('billing.recheck', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name in ('billing.sweep', 'billing.recheck');
drop index public.billing_details_recheck_idx;
alter table public.billing_details drop column asked_at;
drop table private.checkout_sessions, private.detached_payment_methods, public.payment_methods, private.invoice_transitions, public.invoices,
  private.stripe_subscriptions, private.stripe_prices, private.stripe_customers, private.stripe_events;
drop function private.assert_payment_methods_row, private.assert_invoices_row;
alter table public.subscriptions drop column stripe_customer_id;
drop type private.fact_key;
