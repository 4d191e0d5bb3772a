-- The one reader of Stripe's objects (contract 50, section 8.1). An object has the shape of the API version of the webhook's endpoint, or of
-- the call that answered it: 2023-10-16, or one since basil (2025-03-31), where members have moved. Both are read wherever they differ.

create or replace function private.stripe_id(p_value jsonb) returns text
language sql stable parallel safe
return case jsonb_typeof(p_value) when 'string' then p_value #>> '{}' when 'object' then p_value ->> 'id' end;
comment on function private.stripe_id is 'The id of what an expandable member names: Stripe gives the id or the whole object.';

create or replace function private.stripe_time(p_value jsonb) returns timestamptz
language sql stable parallel safe
return to_timestamp((p_value #>> '{}')::bigint);
comment on function private.stripe_time is 'A time of Stripe, which counts whole seconds.';

create or replace function private.price_of(p_price_id text, out plan_id text, out billing_interval text)
language plpgsql stable security definer set search_path = ''
as $$
begin
  select p.plan_id, p.billing_interval into plan_id, billing_interval from private.stripe_prices p where p.price_id = p_price_id;
end
$$;
comment on function private.price_of is 'What a price of Stripe pays for; nulls for a price that is not known. Authorization: callable by functions of ours only.';

-- Metadata is written by our own server. A plan there is a hint, no more: the price decides.
create or replace function private.stripe_hint(p_metadata jsonb, out plan_id text, out billing_interval text)
language sql stable parallel safe
return row (case when p_metadata ->> 'plan' in ('pro', 'teams', 'enterprise') then p_metadata ->> 'plan' end,
  case when p_metadata ->> 'billing_interval' in ('monthly', 'annually') then p_metadata ->> 'billing_interval' end);
comment on function private.stripe_hint is 'Plan and interval by the metadata of an object.';

create or replace function private.read_stripe_subscription(
  o jsonb, out id text, out customer_id text, out organization text, out status text, out price_id text, out item_id text, out plan_id text,
  out billing_interval text, out hint_plan_id text, out hint_interval text, out period_start timestamptz, out period_end timestamptz,
  out cancel_at_period_end boolean, out trial_end timestamptz, out created timestamptz
)
language plpgsql stable set search_path = ''
as $$
declare
  v_items constant jsonb := coalesce(o #> '{items,data}', '[]');
  v_item jsonb := v_items -> 0;
  v_price record;
begin
  id := o ->> 'id';
  customer_id := private.stripe_id(o -> 'customer');
  organization := o #>> '{metadata,org_id}';
  status := o ->> 'status';
  price_id := private.stripe_id(v_item -> 'price');
  v_price := private.price_of(price_id);
  plan_id := v_price.plan_id;
  billing_interval := v_price.billing_interval;
  if plan_id is null and jsonb_array_length(v_items) > 1 then
    -- Items beside the plan, such as seats that sales added by hand.
    select e.item, private.stripe_id(e.item -> 'price'), p.plan_id, p.billing_interval into v_item, price_id, plan_id, billing_interval
    from jsonb_array_elements(v_items) with ordinality e (item, n) cross join lateral private.price_of(private.stripe_id(e.item -> 'price')) p
    order by p.plan_id is null, e.n limit 1;
  end if;
  item_id := v_item ->> 'id';
  if plan_id is null then
    select h.plan_id, h.billing_interval into hint_plan_id, hint_interval from private.stripe_hint(o -> 'metadata') h;
  end if;
  period_start := coalesce(private.stripe_time(o -> 'current_period_start'), private.stripe_time(v_item -> 'current_period_start'));
  period_end := coalesce(private.stripe_time(o -> 'current_period_end'), private.stripe_time(v_item -> 'current_period_end'));
  -- Flexible billing (since clover) ends a subscription by cancel_at, where others have the flag.
  cancel_at_period_end := coalesce((o ->> 'cancel_at_period_end')::boolean, false) or coalesce(private.stripe_time(o -> 'cancel_at') <= period_end, false);
  trial_end := private.stripe_time(o -> 'trial_end');
  created := private.stripe_time(o -> 'created');
end
$$;
comment on function private.read_stripe_subscription is 'A subscription of Stripe, in either shape. organization: the one that its metadata names.';

create or replace function private.read_stripe_invoice(
  o jsonb, out id text, out customer_id text, out organization text, out subscription_id text, out number text, out status text, out currency text,
  out total_amount bigint, out vat_amount bigint, out amount_due bigint, out amount_paid bigint, out invoice_url text, out pdf_url text,
  out period_start timestamptz, out period_end timestamptz, out due_at timestamptz, out paid_at timestamptz, out finalized_at timestamptz,
  out created timestamptz, out attempt_count integer, out next_attempt_at timestamptz, out payment_intent_id text, out charge_id text,
  out plan_id text, out billing_interval text, out description text
)
language plpgsql stable set search_path = ''
as $$
declare
  v_details constant jsonb := coalesce(o #> '{parent,subscription_details}', o -> 'subscription_details');
  v_payment constant jsonb := o #> '{payments,data,0,payment}';
  v_line jsonb;
  v_price record;
begin
  id := o ->> 'id';
  customer_id := private.stripe_id(o -> 'customer');
  organization := coalesce(o #>> '{metadata,org_id}', v_details #>> '{metadata,org_id}');
  subscription_id := coalesce(private.stripe_id(o -> 'subscription'), private.stripe_id(v_details -> 'subscription'));
  number := o ->> 'number';
  status := coalesce(o ->> 'status', 'draft');
  currency := o ->> 'currency';
  total_amount := (o ->> 'total')::bigint;
  vat_amount := (o ->> 'tax')::bigint;
  if vat_amount is null and jsonb_typeof(o -> 'total_taxes') = 'array' then
    vat_amount := case when jsonb_array_length(o -> 'total_taxes') = 1 then (o #>> '{total_taxes,0,amount}')::bigint
      else (select sum((t ->> 'amount')::bigint) from jsonb_array_elements(o -> 'total_taxes') t) end;
  end if;
  vat_amount := coalesce(vat_amount, 0);
  amount_due := coalesce((o ->> 'amount_due')::bigint, total_amount);
  amount_paid := coalesce((o ->> 'amount_paid')::bigint, 0);
  invoice_url := o ->> 'hosted_invoice_url';
  pdf_url := o ->> 'invoice_pdf';
  due_at := private.stripe_time(o -> 'due_date');
  paid_at := private.stripe_time(o #> '{status_transitions,paid_at}');
  finalized_at := private.stripe_time(o #> '{status_transitions,finalized_at}');
  created := private.stripe_time(o -> 'created');
  attempt_count := coalesce((o ->> 'attempt_count')::integer, 0);
  next_attempt_at := private.stripe_time(o -> 'next_payment_attempt');
  payment_intent_id := coalesce(private.stripe_id(o -> 'payment_intent'), private.stripe_id(v_payment -> 'payment_intent'));
  charge_id := coalesce(private.stripe_id(o -> 'charge'), private.stripe_id(v_payment -> 'charge'));
  -- The period that is paid for is the one of the line that reaches furthest; the invoice's own period is the one before it. A credit of a
  -- change of plan ends at the same time as the charge beside it.
  v_line := o #> '{lines,data,0}';
  if o #> '{lines,data,1}' is not null then
    select l into v_line from jsonb_array_elements(o #> '{lines,data}') with ordinality t (l, n)
    order by (l #>> '{period,end}')::bigint desc, (l ->> 'amount')::bigint desc, n limit 1;
  end if;
  period_start := coalesce(private.stripe_time(v_line #> '{period,start}'), private.stripe_time(o -> 'period_start'), created);
  period_end := coalesce(private.stripe_time(v_line #> '{period,end}'), private.stripe_time(o -> 'period_end'), created);
  v_price := private.price_of(coalesce(private.stripe_id(v_line -> 'price'), private.stripe_id(v_line #> '{pricing,price_details,price}')));
  plan_id := v_price.plan_id;
  billing_interval := v_price.billing_interval;
  if plan_id is null then
    select h.plan_id, h.billing_interval into plan_id, billing_interval from private.stripe_hint(v_details -> 'metadata') h;
  end if;
  description := nullif(o ->> 'description', '');
end
$$;
comment on function private.read_stripe_invoice is
  'An invoice of Stripe, in either shape. organization: the one that metadata name; plan and interval: by the price of its line, else by metadata.';

create or replace function private.stripe_invoice_customer(o jsonb) returns jsonb
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_number text;
begin
  if o #> '{customer_tax_ids,0}' is not null then
    select t ->> 'value' into v_number from jsonb_array_elements(o -> 'customer_tax_ids') t where t ->> 'type' = 'eu_vat' limit 1;
  end if;
  return jsonb_strip_nulls(jsonb_build_object('name', o ->> 'customer_name', 'address', nullif(o -> 'customer_address', 'null'), 'btwNumber', v_number));
end
$$;
comment on function private.stripe_invoice_customer is 'The customer as an invoice of Stripe names them: {name, address, btwNumber}.';

create or replace function private.read_stripe_session(
  o jsonb, out id text, out customer_id text, out organization text, out reference text, out subscription_id text, out mode text, out status text,
  out payment_status text, out plan_id text, out billing_interval text, out url text, out expires_at timestamptz
)
language sql stable set search_path = ''
as $$
  select o ->> 'id', private.stripe_id(o -> 'customer'), o #>> '{metadata,org_id}', o ->> 'client_reference_id', private.stripe_id(o -> 'subscription'),
    o ->> 'mode', o ->> 'status', o ->> 'payment_status', h.plan_id, h.billing_interval, o ->> 'url', private.stripe_time(o -> 'expires_at')
  from private.stripe_hint(o -> 'metadata') h
$$;
comment on function private.read_stripe_session is 'A checkout session of Stripe.';

create or replace function private.read_stripe_payment_method(
  o jsonb, out id text, out customer_id text, out organization text, out type text, out card_brand text, out card_last4 text, out card_exp_month integer,
  out card_exp_year integer, out sepa_bank_code text, out sepa_last4 text, out sepa_country text, out fingerprint text, out created timestamptz
)
language plpgsql stable set search_path = ''
as $$
begin
  id := o ->> 'id';
  customer_id := private.stripe_id(o -> 'customer');
  organization := o #>> '{metadata,org_id}';
  type := o ->> 'type';
  card_brand := case when type <> 'card' then null when o #>> '{card,brand}' in ('visa', 'mastercard', 'amex', 'discover') then o #>> '{card,brand}' else 'unknown' end;
  card_last4 := o #>> '{card,last4}';
  card_exp_month := (o #>> '{card,exp_month}')::integer;
  card_exp_year := (o #>> '{card,exp_year}')::integer;
  sepa_bank_code := o #>> '{sepa_debit,bank_code}';
  sepa_last4 := o #>> '{sepa_debit,last4}';
  sepa_country := o #>> '{sepa_debit,country}';
  fingerprint := coalesce(o #>> '{card,fingerprint}', o #>> '{sepa_debit,fingerprint}');
  created := private.stripe_time(o -> 'created');
end
$$;
comment on function private.read_stripe_payment_method is 'A payment method of Stripe.';
