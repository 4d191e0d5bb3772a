-- Facts that Stripe tells, and what follows from them (contract 50, sections 2.3, 8.2 and 8.3). Deliveries come in any order and more than
-- once, and answers of calls come in between. So an event only moves facts: each keeps the key of the event that set it, counters keep their
-- greatest value, ends stay. What people see (public.subscriptions, the default method) is computed from the facts alone, so the same events
-- end in the same state in any order.
--
-- The row of public.subscriptions is locked first, so that events and requests about one organization wait for each other.

-- A fetched object, which is no event, has the moment of fetching as its second and comes before the events of that second: Stripe's clock
-- counts whole seconds, so one of them may be newer.
create or replace function private.fact_key(p_created timestamptz, p_rank integer, p_event_id text) returns private.fact_key
language sql immutable parallel safe
return row (date_trunc('second', p_created at time zone 'UTC') at time zone 'UTC', p_rank, coalesce(p_event_id, ''))::private.fact_key;
comment on function private.fact_key is 'The key of a fact.';

-- Contract 50, 8.2 rule 2.
create or replace function private.subscription_status(s private.stripe_subscriptions) returns text
language sql immutable parallel safe
return case
  when s.status is null then case when s.payment_outcome = 'success' then 'active' else 'incomplete' end
  when s.payment_outcome = 'success' and s.payment_key > s.state_key and s.status in ('incomplete', 'past_due', 'unpaid', 'paused') then 'active'
  when s.payment_outcome = 'failure' and s.payment_key > s.state_key and s.status = 'active' then 'past_due'
  when s.status in ('unpaid', 'paused') then 'past_due'
  else s.status end;
comment on function private.subscription_status is 'Our status of a subscription by what subscription events and payments say of it.';

-- named: the organizations that the object names in words, in the order of the contract. All that is known must agree; an event never crosses
-- from one tenant to another.
create or replace function private.claim_stripe_object(
  p_named text[], p_customer_id text, p_subscription_id text, out organization_id uuid, out problem text
)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_known text[] := array_remove(p_named, null);
  v_subscription uuid;
  v_former uuid;
  v_customer text;
begin
  -- Nearly always: the customer is linked, and nothing contradicts it.
  select s.organization_id, (select x.organization_id from private.stripe_subscriptions x where x.id = p_subscription_id) into organization_id, v_subscription
  from public.subscriptions s where s.stripe_customer_id = p_customer_id for no key update of s;
  if organization_id is not null and (v_subscription is null or v_subscription = organization_id)
    and (cardinality(v_known) = 0 or organization_id::text = all (v_known)) then
    return;
  end if;
  organization_id := null;
  if p_subscription_id is not null then
    select s.organization_id into v_subscription from private.stripe_subscriptions s where s.id = p_subscription_id;
  end if;
  if p_customer_id is not null then
    select c.organization_id into v_former from private.stripe_customers c where c.id = p_customer_id;
    v_known := v_known || v_former::text || (select s.organization_id::text from public.subscriptions s where s.stripe_customer_id = p_customer_id);
  end if;
  v_known := array(select distinct lower(k) from unnest(v_known || v_subscription::text) k where k is not null);
  if cardinality(v_known) = 0 then
    problem := 'Neither the metadata, nor the customer, nor the subscription belongs to an organization.';
    return;
  elsif cardinality(v_known) > 1 then
    problem := 'The metadata names another organization than the one that the customer or the subscription belongs to.';
    return;
  elsif v_known[1] !~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' then
    problem := 'The metadata names an organization by what is no id.';
    return;
  end if;
  select s.organization_id, s.stripe_customer_id into organization_id, v_customer
  from public.subscriptions s where s.organization_id = v_known[1]::uuid for no key update;
  if organization_id is null then
    problem := 'The organization that is named does not exist.';
  elsif p_customer_id is not null and v_customer is null and not exists (
      select from private.stripe_customers c where c.id = p_customer_id and c.deleted_at is not null) then
    update public.subscriptions s set stripe_customer_id = p_customer_id where s.organization_id = claim_stripe_object.organization_id;
  elsif p_customer_id <> v_customer and v_former is null then
    organization_id := null;
    problem := 'The organization has another customer at Stripe.';
  end if;
end
$$;
comment on function private.claim_stripe_object is
  'The organization that an object of Stripe belongs to, locked, with the customer linked to it; or why there is none. Authorization: callable by functions of ours only.';

-- Not in this transaction: a worker asks Stripe. Without a key of Stripe the greater event id decides.
create or replace function private.queue_stripe_fetch(p_subscription_id text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if coalesce((private.installation_value('stripe') ->> 'hasKey')::boolean, false) then
    perform private.enqueue('billing.fetch', jsonb_build_object('subscriptionId', p_subscription_id), now() + interval '5 seconds', 'billing.fetch:' || p_subscription_id);
  end if;
end
$$;
comment on function private.queue_stripe_fetch is 'Has a subscription read from Stripe soon. Authorization: callable by functions of ours only.';

create or replace function private.notify_owner(p_org_id uuid, p_title text, p_message text, p_data jsonb, p_urgent boolean, p_dedupe text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.notify_all(array[private.owner_of(p_org_id)], 'system_update', p_title, p_message, jsonb_build_object('organizationId', p_org_id) || p_data,
    '/', p_urgent, p_dedupe, null, p_org_id, 'billingReminders');
end
$$;
comment on function private.notify_owner is 'Tells the owner of an organization about payments. Authorization: callable by functions of ours only.';

-- The live subscription of an organization: one that is paid goes before one that is not yet, then the newest. A contract that staff made has
-- no number at Stripe and is not replaced.
create or replace function private.settle_subscription(p_org_id uuid, out current_id text, out alert text)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.subscriptions;
  n public.subscriptions;
  c private.stripe_subscriptions;
begin
  select * into s from public.subscriptions x where x.organization_id = p_org_id for no key update;
  select * into c from private.stripe_subscriptions x where x.organization_id = p_org_id and x.ended_at is null
  order by private.subscription_status(x) = 'incomplete', x.began_at desc, x.id desc limit 1;
  n := s;
  if c.id is not null then
    current_id := c.id;
    if s.plan_id = 'enterprise' and s.stripe_subscription_id is null then
      alert := 'The organization has a contract, and a subscription at Stripe beside it.';
      return;
    end if;
    n.plan_id := coalesce(c.plan_id, c.hint_plan_id, nullif(s.plan_id, 'free'));
    if n.plan_id is null then
      alert := 'The price of the subscription is not known, so the plan stays free.';
      return;
    end if;
    n.status := private.subscription_status(c);
    n.stripe_subscription_id := c.id;
    n.billing_interval := coalesce(c.billing_interval, c.hint_interval, s.billing_interval);
    n.current_period_start := coalesce(c.current_period_start, c.hint_period_start);
    n.current_period_end := coalesce(c.current_period_end, c.hint_period_end);
    if coalesce(n.current_period_start >= n.current_period_end, true) then
      n.current_period_start := null;
      n.current_period_end := null;
    end if;
    n.cancel_at_period_end := coalesce(c.cancel_at_period_end, false);
    n.trial_end := c.trial_end;
    if (n.pending_plan_id, n.pending_billing_interval) = (n.plan_id, n.billing_interval) then
      n.pending_plan_id := null;
      n.pending_billing_interval := null;
    end if;
  elsif s.stripe_subscription_id is not null or s.plan_id = 'free' and (exists (select from private.stripe_subscriptions x where x.organization_id = p_org_id)
      or exists (select from private.stripe_customers x where x.organization_id = p_org_id and x.deleted_at is not null)) then
    -- The trigger clears what belongs to a paid plan.
    n.plan_id := 'free';
    n.status := 'canceled';
  end if;
  if n is not distinct from s then
    return;
  end if;
  if (n.plan_id, n.status) <> (s.plan_id, s.status) and not exists (select from private.subscription_transitions t
      where t.was_paid = (s.plan_id <> 'free') and t.from_status = s.status and t.is_paid = (n.plan_id <> 'free') and t.to_status = n.status) then
    alert := format('The subscription went from %s on %s to %s on %s, which no event of the contract does.', s.status, s.plan_id, n.status, n.plan_id);
  end if;
  -- Triggers about plan and status run for a statement that names them, so one that changes neither does not.
  if (n.plan_id, n.status) <> (s.plan_id, s.status) then
    perform set_config('app.as_provider', 'on', true);
    update public.subscriptions x set plan_id = n.plan_id, status = n.status, billing_interval = n.billing_interval, stripe_subscription_id = n.stripe_subscription_id,
      current_period_start = n.current_period_start, current_period_end = n.current_period_end, cancel_at_period_end = n.cancel_at_period_end, trial_end = n.trial_end,
      pending_plan_id = n.pending_plan_id, pending_billing_interval = n.pending_billing_interval where x.id = s.id;
    perform set_config('app.as_provider', '', true);
  else
    update public.subscriptions x set billing_interval = n.billing_interval, stripe_subscription_id = n.stripe_subscription_id,
      current_period_start = n.current_period_start, current_period_end = n.current_period_end, cancel_at_period_end = n.cancel_at_period_end, trial_end = n.trial_end,
      pending_plan_id = n.pending_plan_id, pending_billing_interval = n.pending_billing_interval where x.id = s.id;
  end if;
end
$$;
comment on function private.settle_subscription is
  'Derives the row of public.subscriptions from what Stripe said; gives the live subscription at Stripe, and what an operator should look at. Authorization: callable by functions of ours only.';

-- Writes the facts of a subscription where they changed.
create or replace function private.keep_stripe_subscription(s private.stripe_subscriptions, n private.stripe_subscriptions) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if n is not distinct from s then
    return false;
  elsif s.id is null then
    insert into private.stripe_subscriptions select n.*;
  else
    update private.stripe_subscriptions x set customer_id = n.customer_id, status = n.status, price_id = n.price_id, item_id = n.item_id,
      current_period_start = n.current_period_start, current_period_end = n.current_period_end, cancel_at_period_end = n.cancel_at_period_end, trial_end = n.trial_end,
      state_key = n.state_key, plan_id = n.plan_id, billing_interval = n.billing_interval, plan_key = n.plan_key, hint_plan_id = n.hint_plan_id,
      hint_interval = n.hint_interval, hint_period_start = n.hint_period_start, hint_period_end = n.hint_period_end, hint_key = n.hint_key,
      payment_outcome = n.payment_outcome, payment_key = n.payment_key, began_at = n.began_at, ended_at = n.ended_at where x.id = n.id;
  end if;
  return true;
end
$$;
comment on function private.keep_stripe_subscription is 'Writes a changed row of private.stripe_subscriptions; s is the stored one. Authorization: callable by functions of ours only.';

create or replace function private.open_stripe_subscription(
  p_id text, p_org_id uuid, p_customer_id text, p_began_at timestamptz, out s private.stripe_subscriptions, out n private.stripe_subscriptions
)
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_ended_at timestamptz;
begin
  select * into s from private.stripe_subscriptions x where x.id = p_id;
  n := s;
  n.id := p_id;
  n.organization_id := p_org_id;
  n.customer_id := coalesce(s.customer_id, p_customer_id);
  n.began_at := least(s.began_at, p_began_at);
  if s.id is null then
    select c.deleted_at into v_ended_at from private.stripe_customers c where c.id = p_customer_id;
    n.ended_at := v_ended_at;
  end if;
end
$$;
comment on function private.open_stripe_subscription is
  'The stored facts of a subscription (s, empty for an unknown one) and a copy to change (n). Authorization: callable by functions of ours only.';

create or replace function private.apply_stripe_subscription(
  p_type text, o jsonb, p_created timestamptz, p_event_id text, out outcome text, out organization_id uuid, out alerts text[]
)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_key constant private.fact_key := private.fact_key(p_created,
    case p_type when 'customer.subscription.created' then 2 when 'customer.subscription.deleted' then 6 else 5 end, p_event_id);
  v_hint_key constant private.fact_key := private.fact_key('epoch', 0, p_event_id);
  r record;
  v record;
  n private.stripe_subscriptions;
  v_settled record;
begin
  r := private.read_stripe_subscription(o);
  v := private.claim_stripe_object(array[r.organization], r.customer_id, r.id);
  if v.problem is not null then
    outcome := 'unmatched';
    alerts := array[v.problem];
    return;
  end if;
  organization_id := v.organization_id;
  if p_type = 'customer.subscription.trial_will_end' then
    perform private.notify_owner(organization_id, 'Your trial is about to end', format('It ends on %s. After it the plan is paid for.',
      to_char(r.trial_end at time zone 'Europe/Amsterdam', 'YYYY-MM-DD')), jsonb_build_object('trialEnd', private.iso(r.trial_end)), false, 'trial:' || r.id || ':' || r.trial_end);
    outcome := 'processed';
    return;
  end if;
  v := private.open_stripe_subscription(r.id, organization_id, r.customer_id, coalesce(r.created, p_created));
  n := v.n;
  if n.state_key is null or v_key > n.state_key then
    if p_event_id not like 'fetched:%' and p_type = 'customer.subscription.updated' and ((n.state_key).created, (n.state_key).rank) = ((v_key).created, (v_key).rank)
      and (n.state_key).event_id <> '' then
      -- Of two updates in one second only Stripe knows which is newer.
      perform private.queue_stripe_fetch(r.id);
    end if;
    n.state_key := v_key;
    n.status := r.status;
    n.price_id := r.price_id;
    n.item_id := r.item_id;
    n.current_period_start := r.period_start;
    n.current_period_end := r.period_end;
    n.cancel_at_period_end := r.cancel_at_period_end;
    n.trial_end := r.trial_end;
  elsif (n.state_key).created = (v_key).created and (n.state_key).event_id like 'fetched:%' and p_event_id not like 'fetched:%'
    and (n.status, n.price_id, n.cancel_at_period_end) is distinct from (r.status, r.price_id, r.cancel_at_period_end) then
    -- An answer of the same second says something else: the event may be newer all the same.
    perform private.queue_stripe_fetch(r.id);
  end if;
  if r.plan_id is null then
    alerts := alerts || format('The price %s is not known; the plan is kept.', r.price_id);
    if n.hint_key is null then
      n.hint_plan_id := r.hint_plan_id;
      n.hint_interval := r.hint_interval;
      n.hint_key := v_hint_key;
    end if;
  elsif n.plan_key is null or v_key > n.plan_key then
    n.plan_id := r.plan_id;
    n.billing_interval := r.billing_interval;
    n.plan_key := v_key;
  end if;
  -- The end stays. A deleted subscription cannot be revived, whatever comes after.
  if p_type = 'customer.subscription.deleted' or r.status in ('canceled', 'incomplete_expired') then
    n.ended_at := least(n.ended_at, date_trunc('second', p_created));
  end if;
  outcome := case when private.keep_stripe_subscription(v.s, n) then 'processed' else 'stale' end;
  v_settled := private.settle_subscription(organization_id);
  if v_settled.current_id <> r.id then
    outcome := 'superseded';
  end if;
  alerts := alerts || v_settled.alert;
end
$$;
comment on function private.apply_stripe_subscription is
  'What customer.subscription.* says; p_event_id null: a fetched object. Authorization: callable by functions of ours only.';

create or replace function private.apply_stripe_session(
  p_type text, o jsonb, p_created timestamptz, p_event_id text, out outcome text, out organization_id uuid, out alerts text[]
)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r record;
  v record;
  n private.stripe_subscriptions;
  v_settled record;
  v_payment text;
  v_key private.fact_key;
  v_status text;
  v_changed boolean := false;
begin
  r := private.read_stripe_session(o);
  v := private.claim_stripe_object(array[r.organization, r.reference], r.customer_id, r.subscription_id);
  if v.problem is not null then
    outcome := 'unmatched';
    alerts := array[v.problem];
    return;
  end if;
  organization_id := v.organization_id;
  v_status := case p_type when 'checkout.session.expired' then 'expired' when 'checkout.session.created' then coalesce(r.status, 'open') else 'complete' end;
  insert into private.checkout_sessions as c (id, organization_id, mode, plan_id, billing_interval, url, status, expires_at)
  values (r.id, organization_id, r.mode, r.plan_id, r.billing_interval, r.url, v_status, r.expires_at)
  -- complete goes before expired, and both before open.
  on conflict (id) do update set status = excluded.status, url = coalesce(excluded.url, c.url) where c.organization_id = excluded.organization_id
    and (c.status = 'open' and excluded.status <> 'open' or c.status = 'expired' and excluded.status = 'complete');
  v_changed := found;
  if p_type in ('checkout.session.expired', 'checkout.session.created') then
    outcome := case when v_changed then 'processed' else 'stale' end;
    return;
  end if;
  if r.mode = 'setup' then
    if jsonb_typeof(o #> '{setup_intent,payment_method}') = 'object' then
      select m.outcome into outcome from private.apply_stripe_payment_method('payment_method.attached', o #> '{setup_intent,payment_method}', p_created, p_event_id) m;
    end if;
    insert into private.stripe_customers as c (id, organization_id, is_set_up) values (r.customer_id, organization_id, true)
    on conflict (id) do update set is_set_up = true where not c.is_set_up;
    perform private.settle_default_method(organization_id);
    outcome := 'processed';
    return;
  elsif r.subscription_id is null then
    outcome := 'ignored';
    return;
  end if;
  v_payment := case when p_type = 'checkout.session.async_payment_failed' then 'failure' when p_type = 'checkout.session.async_payment_succeeded' then 'success'
    when r.payment_status in ('paid', 'no_payment_required') then 'success' end;
  v_key := private.fact_key(p_created, case p_type when 'checkout.session.completed' then 1 when 'checkout.session.async_payment_failed' then 3 else 4 end, p_event_id);
  v := private.open_stripe_subscription(r.subscription_id, organization_id, r.customer_id, p_created);
  n := v.n;
  -- What an invoice says goes before this: it has a period.
  if r.plan_id is not null and (n.hint_key is null or private.fact_key(p_created, 1, p_event_id) > n.hint_key and (n.hint_key).rank < 2) then
    n.hint_plan_id := r.plan_id;
    n.hint_interval := r.billing_interval;
    n.hint_period_start := date_trunc('second', p_created);
    n.hint_period_end := date_trunc('second', p_created) + case r.billing_interval when 'annually' then interval '1 year' else interval '1 month' end;
    n.hint_key := private.fact_key(p_created, 1, p_event_id);
  end if;
  if v_payment is not null and (n.payment_key is null or v_key > n.payment_key) then
    n.payment_outcome := v_payment;
    n.payment_key := v_key;
  end if;
  outcome := case when private.keep_stripe_subscription(v.s, n) or v_changed then 'processed' else 'stale' end;
  v_settled := private.settle_subscription(organization_id);
  if v_settled.current_id <> r.subscription_id then
    outcome := 'superseded';
  end if;
  alerts := alerts || v_settled.alert;
  if p_type = 'checkout.session.async_payment_failed' and n.ended_at is null then
    perform private.notify_owner(organization_id, 'Your payment failed', 'The bank refused the direct debit. Please pay in another way.',
      jsonb_build_object('sessionId', r.id), true, 'payment:' || r.id);
  end if;
end
$$;
comment on function private.apply_stripe_session is 'What checkout.session.* says. Authorization: callable by functions of ours only.';

-- The seller and the customer as an invoice names them. Stripe has no KVK numbers.
create or replace function private.invoice_snapshot(d public.billing_details, p_customer jsonb, p_seller text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return jsonb_build_object('seller', coalesce(private.installation_value('seller'), '{}') || jsonb_strip_nulls(jsonb_build_object('name',
      coalesce(private.installation_value('seller') ->> 'name', p_seller))),
    'customer', jsonb_strip_nulls(jsonb_build_object('name', d.company_name, 'btwNumber', d.btw_number, 'kvkNumber', d.kvk_number,
      'address', jsonb_build_object('line1', d.address_line1, 'line2', d.address_line2, 'city', d.city, 'postal_code', d.postal_code, 'country', d.country))
      || jsonb_strip_nulls(p_customer)));
end
$$;
comment on function private.invoice_snapshot is 'What an invoice keeps of seller and customer. Authorization: callable by functions of ours only.';

create or replace function private.apply_stripe_invoice(
  p_type text, o jsonb, p_created timestamptz, p_event_id text, out outcome text, out organization_id uuid, out alerts text[]
)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_ends constant text[] := array['paid', 'void'];
  v_failed constant boolean := p_type = 'invoice.payment_failed';
  v_payment constant text := case when p_type = 'invoice.payment_failed' then 'failure' when p_type in ('invoice.paid', 'invoice.payment_succeeded') then 'success' end;
  r record;
  v record;
  i public.invoices;
  n public.invoices;
  d public.billing_details;
  f private.stripe_subscriptions;
  v_key private.fact_key;
  v_customer jsonb;
  v_number text;
  v_vat record;
  v_settled record;
  v_status text;
begin
  r := private.read_stripe_invoice(o);
  v := private.claim_stripe_object(array[r.organization], r.customer_id, r.subscription_id);
  organization_id := v.organization_id;
  select * into i from public.invoices x where x.stripe_invoice_id = r.id for no key update;
  if i.id is not null and i.organization_id is null then
    -- The invoice of a deleted organization belongs to the bookkeeping alone.
    organization_id := null;
  elsif v.problem is not null or i.organization_id <> organization_id then
    outcome := 'unmatched';
    organization_id := null;
    alerts := array[coalesce(v.problem, 'The invoice belongs to another organization.')];
    return;
  end if;

  v_key := private.fact_key(p_created, case r.status when 'draft' then 0 when 'open' then 1 when 'uncollectible' then 2 else 3 end, p_event_id);
  n := i;
  if i.id is null then
    n.id := gen_random_uuid();
    n.organization_id := organization_id;
    n.stripe_invoice_id := r.id;
    n.status := 'draft';
    n.attempt_count := 0;
    n.refunded_amount := 0;
    n.created_at := coalesce(r.created, p_created);
    n.updated_at := now();
  end if;
  -- A status that is further on counts whatever its time: none leads back. Within one the key decides.
  if i.id is null or r.status = i.status and v_key > i.state_key
    or exists (select from private.invoice_transitions t where t.from_status = i.status and t.to_status = r.status) then
    if n.status = 'draft' then
      n.stripe_customer_id := r.customer_id;
      n.stripe_subscription_id := r.subscription_id;
      n.number := r.number;
      n.currency := r.currency;
      n.total_amount := r.total_amount;
      n.vat_amount := r.vat_amount;
      n.net_amount := r.total_amount - r.vat_amount;
      n.amount_due := r.amount_due;
      n.period_start := r.period_start;
      n.period_end := r.period_end;
      n.due_at := r.due_at;
      n.description := coalesce(left(r.description, 500), (select p.name || ' Plan - ' || to_char(r.period_start at time zone 'Europe/Amsterdam', 'FMMonth YYYY')
        from public.plans p where p.id = r.plan_id));
      if r.status <> 'draft' then
        n.finalized_at := coalesce(r.finalized_at, r.created, p_created);
        select * into d from public.billing_details x where x.organization_id = n.organization_id;
        v_customer := private.stripe_invoice_customer(o);
        n.customer_country := coalesce(v_customer #>> '{address,country}', d.country, 'NL');
        v_number := coalesce(private.bare_btw(left(v_customer ->> 'btwNumber', 100)), d.btw_number);
        v_vat := private.vat_of(n.net_amount, n.customer_country, v_number, v_number = d.btw_number and private.is_btw_valid(d, n.finalized_at), n.finalized_at);
        n.vat_treatment := v_vat.treatment;
        n.vat_rate := v_vat.rate;
        n.snapshot := private.invoice_snapshot(d, v_customer, o ->> 'account_name') || jsonb_strip_nulls(jsonb_build_object('note', v_vat.note));
        if v_vat.vat <> n.vat_amount then
          -- What Stripe charged stands; people look at it.
          alerts := alerts || format('Invoice %s has %s cents of VAT, and by our rules it should have %s.', coalesce(r.number, r.id), n.vat_amount, v_vat.vat);
        end if;
      end if;
    end if;
    n.status := r.status;
    n.amount_paid := r.amount_paid;
    n.paid_at := case when r.status = 'paid' then coalesce(r.paid_at, i.paid_at, p_created) end;
    n.invoice_url := coalesce(r.invoice_url, i.invoice_url);
    n.pdf_url := coalesce(r.pdf_url, i.pdf_url);
    n.next_attempt_at := case when r.status = 'open' then r.next_attempt_at end;
    -- An end needs no key any more: of two events that say the same the second is not written.
    if i.id is null or r.status <> i.status or not r.status = any (c_ends) then
      n.state_key := v_key;
    end if;
  elsif i.status = any (c_ends) and r.status = any (c_ends) and r.status <> i.status then
    alerts := alerts || format('Invoice %s is %s, and Stripe says %s.', coalesce(i.number, r.id), i.status, r.status);
  end if;
  n.attempt_count := greatest(i.attempt_count, r.attempt_count);
  n.payment_intent_id := coalesce(i.payment_intent_id, r.payment_intent_id);
  -- Each attempt has a charge of its own; refunds are about the one that paid.
  n.charge_id := coalesce(i.charge_id, case when r.status = 'paid' then r.charge_id end);
  if v_failed then
    n.first_failed_at := least(i.first_failed_at, date_trunc('second', p_created));
  end if;
  if i.id is null then
    insert into public.invoices select n.*;
    if n.status = 'draft' and organization_id is not null then
      perform private.queue_btw_check(organization_id);
    end if;
  elsif n is distinct from i then
    update public.invoices x set stripe_customer_id = n.stripe_customer_id, stripe_subscription_id = n.stripe_subscription_id, number = n.number, status = n.status,
      currency = n.currency, net_amount = n.net_amount, vat_amount = n.vat_amount, total_amount = n.total_amount, amount_due = n.amount_due, amount_paid = n.amount_paid,
      vat_rate = n.vat_rate, vat_treatment = n.vat_treatment, customer_country = n.customer_country, description = n.description, invoice_url = n.invoice_url,
      pdf_url = n.pdf_url, period_start = n.period_start, period_end = n.period_end, due_at = n.due_at, paid_at = n.paid_at, finalized_at = n.finalized_at,
      snapshot = n.snapshot, attempt_count = n.attempt_count, first_failed_at = n.first_failed_at, next_attempt_at = n.next_attempt_at,
      payment_intent_id = n.payment_intent_id, charge_id = n.charge_id, state_key = n.state_key, updated_at = now() where x.id = n.id;
  end if;
  outcome := case when n is distinct from i then 'processed' else 'stale' end;

  if r.subscription_id is not null and organization_id is not null then
    v := private.open_stripe_subscription(r.subscription_id, organization_id, r.customer_id, p_created);
    f := v.n;
    -- Hints matter only until a subscription event is there; later ones would be rewritten for nothing.
    if f.state_key is null and r.plan_id is not null and (f.hint_key is null or private.fact_key(p_created, 2, p_event_id) > f.hint_key or (f.hint_key).rank < 2) then
      f.hint_plan_id := r.plan_id;
      f.hint_interval := r.billing_interval;
      f.hint_period_start := r.period_start;
      f.hint_period_end := r.period_end;
      f.hint_key := private.fact_key(p_created, 2, p_event_id);
    end if;
    v_key := private.fact_key(p_created, case v_payment when 'failure' then 3 else 4 end, p_event_id);
    if v_payment is not null and (f.payment_key is null or v_key > f.payment_key) then
      f.payment_outcome := v_payment;
      f.payment_key := v_key;
    end if;
    if private.keep_stripe_subscription(v.s, f) then
      outcome := 'processed';
    end if;
    -- Of two events about one payment the second changes nothing but the key.
    if v.s is null or f.state_key is null or private.subscription_status(f) <> private.subscription_status(v.s) then
      v_settled := private.settle_subscription(organization_id);
      alerts := alerts || v_settled.alert;
    end if;
    -- A payment that failed once more, or an invoice that is paid, may end or bring back the plan while the status stays.
    if (n.status, n.attempt_count, n.first_failed_at) is distinct from (i.status, i.attempt_count, i.first_failed_at)
      and (v_failed or n.attempt_count > 0) then
      select s.status into v_status from public.subscriptions s where s.organization_id = apply_stripe_invoice.organization_id;
      if v_status = 'past_due' then
        perform private.apply_plan(organization_id);
      end if;
    end if;
  end if;

  if v_failed and n.status in ('open', 'uncollectible') then
    perform private.notify_owner(organization_id, 'Your payment failed',
      case when r.next_attempt_at is null then 'No further attempt is planned. Please pay the invoice, or choose another payment method.'
        else format('The next attempt is on %s.', to_char(r.next_attempt_at at time zone 'Europe/Amsterdam', 'YYYY-MM-DD')) end,
      jsonb_strip_nulls(jsonb_build_object('invoiceId', n.id, 'attempt', r.attempt_count, 'invoiceUrl', n.invoice_url)),
      r.attempt_count >= 3 or r.next_attempt_at is null, format('payment:%s:%s', r.id, r.attempt_count)) where organization_id is not null;
  elsif p_type = 'invoice.payment_action_required' and n.status = 'open' then
    perform private.notify_owner(organization_id, 'Your bank asks you to confirm a payment', 'Please open the invoice and confirm it there.',
      jsonb_strip_nulls(jsonb_build_object('invoiceId', n.id, 'invoiceUrl', n.invoice_url)), false, 'confirm:' || r.id || ':' || r.attempt_count)
    where organization_id is not null;
  end if;
end
$$;
comment on function private.apply_stripe_invoice is 'What invoice.* says. Authorization: callable by functions of ours only.';

-- Where Stripe names a default method it is that one; else the first, where a checkout set methods up.
create or replace function private.settle_default_method(p_org_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.stripe_customers;
  v_default text;
begin
  select x.* into c from private.stripe_customers x join public.subscriptions s on s.stripe_customer_id = x.id where s.organization_id = p_org_id;
  if c.default_method_id is null and c.default_key is null and not coalesce(c.is_set_up, false) then
    return;
  end if;
  v_default := c.default_method_id;
  if v_default is null and c.is_set_up then
    select x.id into v_default from (
      select m.stripe_payment_method_id as id, m.created_at from public.payment_methods m where m.organization_id = p_org_id
      union all select t.id, t.created_at from private.detached_payment_methods t where t.customer_id = c.id) x
    order by x.created_at, x.id limit 1;
  end if;
  update public.payment_methods m set is_default = false where m.organization_id = p_org_id and m.is_default and m.stripe_payment_method_id is distinct from v_default;
  update public.payment_methods m set is_default = true where m.organization_id = p_org_id and not m.is_default and m.stripe_payment_method_id = v_default;
end
$$;
comment on function private.settle_default_method is 'Derives which method of an organization is the default. Authorization: callable by functions of ours only.';

create or replace function private.apply_stripe_payment_method(
  p_type text, o jsonb, p_created timestamptz, p_event_id text, out outcome text, out organization_id uuid, out alerts text[]
)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_key constant private.fact_key := private.fact_key(p_created, 0, p_event_id);
  r record;
  v record;
begin
  r := private.read_stripe_payment_method(o);
  if p_type = 'payment_method.detached' then
    select m.organization_id, m.stripe_customer_id, s.organization_id as locked into v from public.payment_methods m
    join public.subscriptions s on s.organization_id = m.organization_id where m.stripe_payment_method_id = r.id for no key update of s;
    organization_id := coalesce(v.organization_id, (select s.organization_id from public.subscriptions s where s.stripe_customer_id = r.customer_id));
    insert into private.detached_payment_methods as t (id, customer_id, created_at, detached_at)
    values (r.id, coalesce(r.customer_id, v.stripe_customer_id), r.created, date_trunc('second', p_created)) on conflict (id) do nothing;
    outcome := case when found then 'processed' else 'stale' end;
    delete from public.payment_methods m where m.stripe_payment_method_id = r.id;
    return;
  elsif r.type not in ('card', 'sepa_debit') or r.customer_id is null then
    outcome := 'ignored';
    return;
  end if;
  select c.organization_id, c.problem into v from private.claim_stripe_object(
    array[r.organization, (select m.organization_id::text from public.payment_methods m where m.stripe_payment_method_id = r.id)], r.customer_id, null) c;
  if v.problem is not null then
    outcome := 'unmatched';
    alerts := array[v.problem];
    return;
  end if;
  organization_id := v.organization_id;
  if exists (select from private.detached_payment_methods t where t.id = r.id)
    or exists (select from private.stripe_customers c where c.id = r.customer_id and c.deleted_at is not null) then
    outcome := 'stale';
    return;
  end if;
  insert into public.payment_methods as m (organization_id, stripe_payment_method_id, stripe_customer_id, type, card_brand, card_last4, card_exp_month, card_exp_year,
    sepa_bank_code, sepa_last4, sepa_country, fingerprint, state_key, created_at)
  values (organization_id, r.id, r.customer_id, r.type, r.card_brand, r.card_last4, r.card_exp_month, r.card_exp_year, r.sepa_bank_code, r.sepa_last4, r.sepa_country,
    r.fingerprint, v_key, coalesce(r.created, p_created))
  on conflict (stripe_payment_method_id) do update set card_brand = excluded.card_brand, card_last4 = excluded.card_last4, card_exp_month = excluded.card_exp_month,
    card_exp_year = excluded.card_exp_year, sepa_bank_code = excluded.sepa_bank_code, sepa_last4 = excluded.sepa_last4, sepa_country = excluded.sepa_country,
    fingerprint = excluded.fingerprint, state_key = excluded.state_key, updated_at = now()
  where excluded.state_key > m.state_key;
  outcome := case when found then 'processed' else 'stale' end;
  perform private.settle_default_method(organization_id);
end
$$;
comment on function private.apply_stripe_payment_method is 'What payment_method.* says. Authorization: callable by functions of ours only.';

create or replace function private.apply_stripe_customer(
  p_type text, o jsonb, p_created timestamptz, p_event_id text, out outcome text, out organization_id uuid, out alerts text[]
)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_key constant private.fact_key := private.fact_key(p_created, 0, p_event_id);
  v_id constant text := o ->> 'id';
  v record;
  v_settled record;
begin
  v := private.claim_stripe_object(array[o #>> '{metadata,org_id}'], v_id, null);
  if v.problem is not null then
    outcome := 'unmatched';
    alerts := array[v.problem];
    return;
  end if;
  organization_id := v.organization_id;
  if p_type = 'customer.deleted' or coalesce((o ->> 'deleted')::boolean, false) then
    insert into private.stripe_customers as c (id, organization_id, deleted_at) values (v_id, organization_id, date_trunc('second', p_created))
    on conflict (id) do update set deleted_at = excluded.deleted_at where c.deleted_at is null;
    outcome := case when found then 'processed' else 'stale' end;
    update public.subscriptions s set stripe_customer_id = null where s.stripe_customer_id = v_id;
    delete from public.payment_methods m where m.stripe_customer_id = v_id;
    update private.stripe_subscriptions s set ended_at = date_trunc('second', p_created) where s.customer_id = v_id and s.ended_at is null;
    v_settled := private.settle_subscription(organization_id);
    alerts := alerts || v_settled.alert;
    return;
  end if;
  outcome := 'stale';
  if o ? 'invoice_settings' then
    insert into private.stripe_customers as c (id, organization_id, default_method_id, default_key)
    values (v_id, organization_id, private.stripe_id(o #> '{invoice_settings,default_payment_method}'), v_key)
    on conflict (id) do update set default_method_id = excluded.default_method_id, default_key = excluded.default_key
    where c.default_key is null or excluded.default_key > c.default_key;
    if found then
      outcome := 'processed';
      perform private.settle_default_method(organization_id);
    end if;
  end if;
end
$$;
comment on function private.apply_stripe_customer is 'What customer.updated and customer.deleted say. Authorization: callable by functions of ours only.';

-- Stripe asks the tax authorities itself. Its answer counts like one of VIES, for the number that is stored.
create or replace function private.apply_stripe_tax_id(
  p_type text, o jsonb, p_created timestamptz, p_event_id text, out outcome text, out organization_id uuid, out alerts text[]
)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_status constant text := case o #>> '{verification,status}' when 'verified' then 'valid' when 'unverified' then 'invalid' when 'unavailable' then 'unavailable' end;
  v record;
begin
  v := private.claim_stripe_object('{}', private.stripe_id(o -> 'customer'), null);
  if v.problem is not null then
    outcome := 'unmatched';
    alerts := array[v.problem];
    return;
  end if;
  organization_id := v.organization_id;
  if v_status is null or o ->> 'type' <> 'eu_vat' then
    outcome := 'ignored';
    return;
  end if;
  update public.billing_details d set btw_status = v_status, btw_definite = case v_status when 'unavailable' then d.btw_definite else v_status end,
    verified_at = case v_status when 'unavailable' then d.verified_at else p_created end
  where d.organization_id = apply_stripe_tax_id.organization_id and d.btw_number = private.bare_btw(left(o ->> 'value', 100))
    and (d.verified_at is null or d.verified_at < p_created) and (v_status <> 'unavailable' or d.btw_status <> 'unavailable');
  outcome := case when found then 'processed' else 'stale' end;
end
$$;
comment on function private.apply_stripe_tax_id is 'What customer.tax_id.updated says. Authorization: callable by functions of ours only.';

-- Charges, disputes, payments of invoices, and mandates: they name an invoice or a method that is known, or wait for it.
create or replace function private.apply_stripe_payment(
  p_type text, o jsonb, p_created timestamptz, p_event_id text, out outcome text, out organization_id uuid, out alerts text[]
)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_intent constant text := coalesce(private.stripe_id(o -> 'payment_intent'), private.stripe_id(o #> '{payment,payment_intent}'));
  v_charge constant text := case when o ->> 'object' = 'charge' then o ->> 'id' else coalesce(private.stripe_id(o -> 'charge'), private.stripe_id(o #> '{payment,charge}')) end;
  v_invoice constant text := private.stripe_id(o -> 'invoice');
  i public.invoices;
begin
  if p_type = 'mandate.updated' then
    select m.organization_id into organization_id from public.payment_methods m where m.stripe_payment_method_id = private.stripe_id(o -> 'payment_method');
    if o ->> 'status' is distinct from 'inactive' then
      outcome := 'ignored';
    elsif organization_id is null then
      outcome := case when exists (select from private.detached_payment_methods t where t.id = private.stripe_id(o -> 'payment_method')) then 'stale' else 'unmatched' end;
    else
      perform private.notify_owner(organization_id, 'Your bank withdrew a direct debit mandate', 'Please add another payment method.',
        jsonb_build_object('stripePaymentMethodId', private.stripe_id(o -> 'payment_method')), false, 'mandate:' || (o ->> 'id'));
      outcome := 'processed';
    end if;
    return;
  end if;
  select * into i from public.invoices x
  where x.stripe_invoice_id = v_invoice or x.charge_id = v_charge or x.payment_intent_id = v_intent order by x.stripe_invoice_id = v_invoice desc, x.id limit 1
  for no key update;
  organization_id := i.organization_id;
  if i.id is null then
    outcome := 'unmatched';
    alerts := array['No invoice of ours belongs to this payment.'];
  elsif p_type = 'charge.refunded' then
    update public.invoices x set refunded_amount = (o ->> 'amount_refunded')::bigint, updated_at = now() where x.id = i.id and x.refunded_amount < (o ->> 'amount_refunded')::bigint;
    outcome := case when found then 'processed' else 'stale' end;
  elsif p_type = 'invoice_payment.paid' then
    update public.invoices x set payment_intent_id = coalesce(x.payment_intent_id, v_intent), charge_id = coalesce(x.charge_id, v_charge), updated_at = now()
    where x.id = i.id and (x.payment_intent_id is null and v_intent is not null or x.charge_id is null and v_charge is not null);
    outcome := case when found then 'processed' else 'stale' end;
  else
    alerts := array[format('The payer disputes invoice %s.', coalesce(i.number, i.stripe_invoice_id))];
    perform private.notify_owner(organization_id, 'A payment was disputed', format('The payer of invoice %s asked the bank to take the payment back.', i.number),
      jsonb_build_object('invoiceId', i.id), true, 'dispute:' || (o ->> 'id')) where organization_id is not null;
    outcome := 'processed';
  end if;
end
$$;
comment on function private.apply_stripe_payment is
  'What charge.refunded, charge.dispute.created, invoice_payment.paid and mandate.updated say. Authorization: callable by functions of ours only.';

create or replace function private.apply_stripe_fact(
  p_type text, p_object jsonb, p_created timestamptz, p_event_id text, out outcome text, out organization_id uuid, out alerts text[]
)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r record;
begin
  case
    when p_type in ('customer.subscription.created', 'customer.subscription.updated', 'customer.subscription.deleted', 'customer.subscription.paused',
      'customer.subscription.resumed', 'customer.subscription.trial_will_end') then
      r := private.apply_stripe_subscription(p_type, p_object, p_created, p_event_id);
    when p_type in ('invoice.created', 'invoice.updated', 'invoice.finalized', 'invoice.paid', 'invoice.payment_succeeded', 'invoice.payment_failed',
      'invoice.payment_action_required', 'invoice.voided', 'invoice.marked_uncollectible') then
      r := private.apply_stripe_invoice(p_type, p_object, p_created, p_event_id);
    when p_type in ('checkout.session.created', 'checkout.session.completed', 'checkout.session.expired', 'checkout.session.async_payment_succeeded',
      'checkout.session.async_payment_failed') then
      r := private.apply_stripe_session(p_type, p_object, p_created, p_event_id);
    when p_type in ('payment_method.attached', 'payment_method.updated', 'payment_method.automatically_updated', 'payment_method.detached') then
      r := private.apply_stripe_payment_method(p_type, p_object, p_created, p_event_id);
    when p_type in ('customer.updated', 'customer.deleted') then
      r := private.apply_stripe_customer(p_type, p_object, p_created, p_event_id);
    when p_type = 'customer.tax_id.updated' then
      r := private.apply_stripe_tax_id(p_type, p_object, p_created, p_event_id);
    when p_type in ('charge.refunded', 'charge.dispute.created', 'invoice_payment.paid', 'mandate.updated') then
      r := private.apply_stripe_payment(p_type, p_object, p_created, p_event_id);
    else
      outcome := 'ignored';
      return;
  end case;
  outcome := r.outcome;
  organization_id := r.organization_id;
  alerts := nullif(array_remove(r.alerts, null), '{}');
end
$$;
comment on function private.apply_stripe_fact is
  'Applies an object of Stripe: the outcome, the organization, and what an operator should look at. Authorization: callable by functions of ours only.';

create or replace function private.apply_stripe_object(p_type text, p_object jsonb, p_created timestamptz, p_event_id text) returns text
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return (select f.outcome from private.apply_stripe_fact(p_type, p_object, p_created, p_event_id) f);
end
$$;
comment on function private.apply_stripe_object is
  'Applies an object of Stripe to our rows, by its event type: processed, stale, superseded, unmatched or ignored. An answer of a call goes here too, as the event type that it corresponds to, with the moment of the answer and without an event id. Authorization: callable by functions of ours only.';
grant execute on function private.apply_stripe_object to kijko_server, kijko_worker;
