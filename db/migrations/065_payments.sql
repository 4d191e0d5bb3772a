-- What we ask of Stripe (contract 50, sections 2.4, 3 and 6). Each write is a row first: what to send is stored with its key before it is sent,
-- and the answer with what it changes in one transaction. A process may die anywhere in between; the row says where to go on.
create table private.stripe_calls (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  -- Who asked; null: a job.
  user_id uuid references public.users (id) on delete set null,
  operation text not null,
  -- What was asked and what was decided about it, as of the decision: plan, price, addresses, the quote.
  request jsonb not null,
  -- The request to Stripe that is next or in flight: {name, method, path, params, key}. Null: all is done.
  step jsonb,
  -- The recovery point: the steps that Stripe has answered.
  done text[] not null default '{}',
  -- What the answers told for later steps.
  notes jsonb not null default '{}',
  answer jsonb,
  refusal jsonb,
  -- The process at work, and until when it is.
  lease uuid,
  leased_until timestamptz not null default '-infinity',
  sends integer not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  settled_at timestamptz
);
alter table private.stripe_calls enable row level security;
alter table private.stripe_calls force row level security;
create unique index stripe_calls_one_in_flight on private.stripe_calls (organization_id) where settled_at is null;
create index stripe_calls_organization_id_idx on private.stripe_calls (organization_id, created_at);
create index stripe_calls_user_id_idx on private.stripe_calls (user_id);
create index stripe_calls_settled_at_idx on private.stripe_calls (settled_at);
comment on table private.stripe_calls is 'Writes to Stripe, one in flight for each organization; kept 90 days.';
comment on column private.stripe_calls.done is 'The recovery point: names of the steps that Stripe has answered.';

create function private.assert_stripe_calls_row(r private.stripe_calls) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when r.operation not in ('checkout', 'upgrade', 'downgrade', 'cancel', 'resume', 'portal', 'setup_intent', 'attach_method', 'detach_method', 'default_method',
      'details') then 'stripe_calls_operation_check'
    when (r.settled_at is not null) <> (r.answer is not null or r.refusal is not null) then 'stripe_calls_settled_at_check'
    when r.settled_at is null and r.step is null then 'stripe_calls_step_check'
  end;
begin
  return v_rule is null or private.refuse_row('stripe_calls', v_rule);
end
$$;
comment on function private.assert_stripe_calls_row is 'The rules of a row of private.stripe_calls, by name.';
alter table private.stripe_calls add constraint stripe_calls_rules check (private.assert_stripe_calls_row(stripe_calls));

-- Exclusive tax rates at Stripe. A rate there never changes, so another rate of a country is another row.
create table private.stripe_tax_rates (
  country text not null references public.countries (code) on delete restrict,
  rate numeric(6, 3) not null,
  id text not null,
  created_at timestamptz not null default now(),
  primary key (country, rate),
  constraint stripe_tax_rates_id_key unique (id)
);
alter table private.stripe_tax_rates enable row level security;
alter table private.stripe_tax_rates force row level security;
comment on table private.stripe_tax_rates is 'Tax rates that were made at Stripe.';

-- A downgrade waits at Stripe, in a schedule of the subscription: Stripe changes the price with the renewal, whether we run or not.
create table private.stripe_schedules (
  id text primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  subscription_id text not null,
  created_at timestamptz not null default now()
);
alter table private.stripe_schedules enable row level security;
alter table private.stripe_schedules force row level security;
create index stripe_schedules_organization_id_idx on private.stripe_schedules (organization_id, subscription_id);
comment on table private.stripe_schedules is 'Schedules at Stripe that hold a subscription. Stripe refuses other changes until one is released.';

-- The tax rate that a subscription at Stripe has, and what was copied of the billing details.
create table private.stripe_copies (
  organization_id uuid primary key references public.organizations (id) on delete cascade,
  tax_rate_id text,
  details jsonb,
  copied_at timestamptz
);
alter table private.stripe_copies enable row level security;
alter table private.stripe_copies force row level security;
comment on table private.stripe_copies is 'What Stripe has of an organization''s billing details.';

---- create above / drop below ----

drop table private.stripe_copies, private.stripe_schedules, private.stripe_tax_rates, private.stripe_calls;
drop function private.assert_stripe_calls_row;
