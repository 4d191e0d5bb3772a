-- Writes to Stripe (contract 50, section 2.4). An operation of api plans one: it judges under the lock of the organization's subscription and
-- stores a row of private.stripe_calls with the first request to Stripe. The server sends that request outside of any transaction, and hands
-- Stripe's answer to private.settle_stripe_call, which applies it and gives the next request, or ends the call. A process may die anywhere: the
-- request is in the row with its Idempotency-Key, so a repeat or the job billing.recover sends the very same one, and Stripe answers what it
-- answered before. A refused call gives up the caller's Idempotency-Key, as every refused operation does.

create or replace function private.stripe_step(p_call_id uuid, p_name text, p_method text, p_path text, p_params jsonb default '{}') returns jsonb
language sql stable parallel safe
return jsonb_build_object('name', p_name, 'method', p_method, 'path', p_path, 'params', p_params, 'key', 'kijko-' || p_call_id || '-' || p_name);
comment on function private.stripe_step is 'A request to Stripe, as a step of a call.';

-- ------------------------------------------------------------------------------------------------------------------------- planning

create or replace function private.begin_payment(p jsonb) returns uuid
language plpgsql stable
as $$
declare
  v_org_id constant uuid := private.require_membership();
begin
  perform private.require_permission('canManageBilling');
  perform private.refuse_strangers('Payments are made through the API.');
  return v_org_id;
end
$$;
comment on function private.begin_payment is
  'The organization whose owner calls through our server. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED.';

-- The lock keeps the state still until the call is stored, and webhooks out meanwhile.
create or replace function private.lock_subscription(p_org_id uuid) returns public.subscriptions
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.subscriptions;
  v_call uuid;
begin
  if p_org_id is distinct from private.org_id() then
    perform private.refuse(403, 'FORBIDDEN', 'This is another organization.');
  end if;
  perform private.require_permission('canManageBilling');
  select * into s from public.subscriptions x where x.organization_id = p_org_id for update;
  select c.id into v_call from private.stripe_calls c where c.organization_id = p_org_id and c.settled_at is null;
  if found then
    perform private.refuse(409, 'PAYMENT_IN_PROGRESS', 'Another change at Stripe is in progress. Please try again in a moment.', null, jsonb_build_object('callId', v_call));
  end if;
  return s;
end
$$;
comment on function private.lock_subscription is
  'The subscription, locked, with no call in flight. Authorization: canManageBilling in the caller''s own organization. Errors: 403 FORBIDDEN, 409 PAYMENT_IN_PROGRESS.';

create or replace function private.is_subscription_live(s public.subscriptions) returns boolean
language sql immutable parallel safe
return s.stripe_subscription_id is not null and s.status in ('active', 'trialing', 'past_due', 'incomplete');
comment on function private.is_subscription_live is 'Is there a subscription at Stripe that has not ended?';

create or replace function private.refuse_unconfigured(p jsonb) returns void
language plpgsql stable
as $$
begin
  if not coalesce(private.as_bool(p -> 'isConfigured', 'isConfigured'), false) then
    perform private.refuse(503, 'PROVIDER_NOT_CONFIGURED', 'This installation takes no payments. Ask its operator.', null, '{"provider": "stripe"}');
  end if;
end
$$;
comment on function private.refuse_unconfigured is '503 PROVIDER_NOT_CONFIGURED where the server has no key at Stripe.';

create or replace function private.plan_stripe_call(p_org_id uuid, p_operation text, p_request jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_org_id is distinct from private.org_id() then
    perform private.refuse(403, 'FORBIDDEN', 'This is another organization.');
  end if;
  perform private.require_permission('canManageBilling');
  perform private.refuse_strangers('Payments are made through the API.');
  return jsonb_build_object('call', private.store_stripe_call(p_org_id, private.user_id(), p_operation, p_request));
end
$$;
comment on function private.plan_stripe_call is
  'Stores a call that the server is to send: {call}. Authorization: canManageBilling in the caller''s own organization, only through our server. Errors: 403 FORBIDDEN.';

create or replace function private.store_stripe_call(p_org_id uuid, p_user_id uuid, p_operation text, p_request jsonb) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.stripe_calls;
begin
  c.id := gen_random_uuid();
  c.organization_id := p_org_id;
  c.user_id := p_user_id;
  c.operation := p_operation;
  c.request := p_request;
  c.done := '{}';
  c.notes := '{}';
  c.created_at := clock_timestamp();
  c.step := private.next_stripe_step(c);
  insert into private.stripe_calls (id, organization_id, user_id, operation, request, step, created_at)
  values (c.id, c.organization_id, c.user_id, c.operation, c.request, c.step, c.created_at);
  -- Where this process dies, the job goes on. Else the job finds the call settled.
  perform private.enqueue('billing.recover', jsonb_build_object('callId', c.id), now() + interval '1 minute');
  return c.id;
end
$$;
comment on function private.store_stripe_call is 'Stores a call with its first step. Authorization: callable by functions of ours only.';

-- ------------------------------------------------------------------------------------------------------------------------- sending

-- {callId, seconds, isForward}: what is to be sent, under a lease of some seconds. Stripe forgets keys after 24 hours, so an old request is not
-- sent again: what became of it is looked up. A job does that soon, because the person who asked is gone; a request of theirs (isForward) later.
create or replace function private.take_stripe_call(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.stripe_calls;
begin
  select * into c from private.stripe_calls x where x.id = private.as_uuid(p ->> 'callId') for update;
  if not found then
    return jsonb_build_object('settled', true, 'refusal', private.stripe_refusal('GONE'));
  elsif c.settled_at is null and c.leased_until > clock_timestamp() then
    return '{"busy": true}';
  end if;
  if c.lease is not null then
    -- The process that had the call died, maybe after it had sent the step.
    c.notes := c.notes || '{"doubted": true}';
  end if;
  if c.settled_at is null and c.step ->> 'method' <> 'GET'
    and c.created_at < clock_timestamp() - (case when (p ->> 'isForward')::boolean then interval '23 hours' else interval '15 minutes' end) then
    c := private.look_or_give_up(c);
  end if;
  if c.settled_at is not null then
    return jsonb_strip_nulls(jsonb_build_object('settled', true, 'operation', c.operation, 'answer', c.answer, 'refusal', c.refusal));
  end if;
  update private.stripe_calls x set step = c.step, notes = c.notes, lease = private.new_lease((p ->> 'worker')::bigint), sends = c.sends + 1,
    leased_until = clock_timestamp() + make_interval(secs => (p ->> 'seconds')::integer)
  where x.id = c.id returning * into c;
  return jsonb_build_object('lease', c.lease, 'operation', c.operation, 'step', c.step);
end
$$;
comment on function private.take_stripe_call is
  'Takes a call for sending: {lease, step}, {busy} or {settled, answer, refusal}. p.worker: the identity of a worker. Authorization: callable by the server and the worker only.';

create or replace function private.stripe_refusal(p_code text, p_details jsonb default null) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(case p_code
  when 'PAYMENT_FAILED' then jsonb_build_object('status', 409, 'code', p_code, 'message', 'The payment was refused, and nothing has changed. Use another payment method.')
  when 'CHECKOUT_REQUIRED' then jsonb_build_object('status', 409, 'code', p_code, 'message', 'The subscription has ended. Start a new one by a checkout.')
  when 'NO_SUBSCRIPTION' then jsonb_build_object('status', 409, 'code', p_code, 'message', 'There is no subscription to cancel.')
  when 'SUBSCRIPTION_EXISTS' then jsonb_build_object('status', 409, 'code', p_code, 'message', 'Another checkout was just completed. Change the subscription instead.')
  when 'INVALID_PAYMENT_METHOD' then jsonb_build_object('status', 400, 'code', p_code, 'field', 'stripePaymentMethodId',
    'message', 'This is no card or SEPA account at Stripe, or it belongs to another customer there.')
  when 'DUPLICATE_PAYMENT_METHOD' then jsonb_build_object('status', 409, 'code', p_code, 'field', 'stripePaymentMethodId', 'message', 'This card or account is stored already.')
  when 'GONE' then jsonb_build_object('status', 404, 'code', 'NOT_FOUND', 'message', 'There is no such call.')
  else jsonb_build_object('status', 502, 'code', 'STRIPE_ERROR', 'message', 'Stripe did not do this. Please try again.') end
  || jsonb_build_object('details', p_details));
comment on function private.stripe_refusal is 'A refusal as the server answers it: {status, code, message, field?, details?}.';

create or replace function private.end_stripe_call(c private.stripe_calls, p_refusal jsonb) returns private.stripe_calls
language plpgsql volatile security definer set search_path = ''
as $$
begin
  c.answer := case when p_refusal is null then private.stripe_answer(c) end;
  if p_refusal is null and c.operation = 'details' then
    perform private.note_details_copy(c);
  end if;
  update private.stripe_calls x
  set done = c.done, notes = '{}', step = null, answer = c.answer, refusal = p_refusal, lease = null, leased_until = '-infinity', settled_at = clock_timestamp()
  where x.id = c.id returning * into c;
  if p_refusal is not null then
    delete from private.idempotency_keys k where k.user_id = c.user_id and k.response ->> 'call' = c.id::text;
  end if;
  return c;
end
$$;
comment on function private.end_stripe_call is 'Ends a call, with an answer or a refusal. Authorization: callable by functions of ours only.';

-- A change of the subscription is looked up at Stripe. Of the others nothing is lost: a session, a consent or a link that Stripe may have made is
-- not used, and methods and customers arrive as events.
create or replace function private.look_or_give_up(c private.stripe_calls, p_refusal jsonb default null) returns private.stripe_calls
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if c.operation not in ('upgrade', 'downgrade', 'cancel', 'resume') or c.step ->> 'name' = 'look' then
    return private.end_stripe_call(c, coalesce(p_refusal, private.stripe_refusal('STRIPE_ERROR')));
  end if;
  c.step := private.stripe_step(c.id, 'look', 'GET', '/v1/subscriptions/' || (c.request ->> 'subscriptionId'));
  update private.stripe_calls x set step = c.step, notes = c.notes where x.id = c.id;
  return c;
end
$$;
comment on function private.look_or_give_up is
  'Replaces the step of a call by a look at what Stripe has, or ends the call. Authorization: callable by functions of ours only.';

-- {callId, lease, outcome, status?, code?, declineCode?, at, body?}: the answer to the step of a call; worker/stripe says what the outcomes mean.
create or replace function private.settle_stripe_call(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.stripe_calls;
  v_org_id constant uuid := (select x.organization_id from private.stripe_calls x where x.id = private.as_uuid(p ->> 'callId'));
  v_name text;
  v_outcome text := p ->> 'outcome';
  v_applied jsonb;
  v_refusal jsonb;
  v_warnings jsonb := '[]';
begin
  -- Locks in the order of planning: the subscription first.
  perform from public.subscriptions s where s.organization_id = v_org_id for update;
  select * into c from private.stripe_calls x where x.id = private.as_uuid(p ->> 'callId') for update;
  if c.settled_at is not null or c.lease is distinct from private.as_uuid(p ->> 'lease') then
    -- Another process took the call over, and gets the same answer under the same key.
    return '{"again": true}';
  end if;
  v_name := c.step ->> 'name';
  -- A request that did not reach Stripe may have done so before. A look has to see something.
  if v_outcome = 'unsent' and (c.notes ? 'doubted' or v_name = 'look') or v_outcome = 'failed' and c.step ->> 'method' = 'GET' then
    v_outcome := 'doubt';
  end if;
  case v_outcome
    when 'ok' then
      v_applied := private.apply_stripe_step(c, v_name, p -> 'body', (p ->> 'at')::timestamptz);
      v_warnings := coalesce(v_applied -> 'warnings', '[]'::jsonb);
      c.notes := jsonb_strip_nulls(c.notes - 'doubted' || coalesce(v_applied -> 'notes', '{}'));
      v_refusal := v_applied -> 'refusal';
      c.done := c.done || v_name;
    when 'doubt' then
      update private.stripe_calls x set lease = null, leased_until = '-infinity', notes = x.notes || '{"doubted": true}' where x.id = c.id;
      return '{"doubt": true}';
    when 'card' then
      v_refusal := private.stripe_refusal('PAYMENT_FAILED', jsonb_build_object('declineCode', coalesce(p ->> 'declineCode', p ->> 'code')));
    when 'failed' then
      c := private.look_or_give_up(c);
    when 'refused' then
      -- What Stripe refuses may be so already. The steps that ask for an end have reached it; a change is judged by what Stripe has.
      if private.is_step_dispensable(v_name, p ->> 'code', (p ->> 'status')::integer) then
        perform private.apply_stripe_step(c, v_name, null, null);
        c.done := c.done || v_name;
      elsif v_name in ('method', 'attach') then
        v_refusal := private.stripe_refusal('INVALID_PAYMENT_METHOD');
      elsif v_name like 'expire%' then
        c.notes := c.notes || jsonb_build_object('unexpired', substr(v_name, 8));
        c.done := c.done || v_name;
      else
        c := private.look_or_give_up(c, private.stripe_refusal('STRIPE_ERROR', jsonb_build_object('stripeCode', p ->> 'code')));
      end if;
    else
      v_refusal := private.stripe_refusal('STRIPE_ERROR');
  end case;
  if c.settled_at is null and v_refusal is null and (c.step ->> 'name' = v_name or 'look' = any (c.done)) then
    if 'look' = any (c.done) then
      v_refusal := private.judge_look(c);
      c.step := null;
    else
      c.step := private.next_stripe_step(c);
    end if;
  end if;
  if c.settled_at is null and (v_refusal is not null or c.step is null) then
    c := private.end_stripe_call(c, v_refusal);
  end if;
  if c.settled_at is not null then
    return jsonb_strip_nulls(jsonb_build_object('settled', true, 'operation', c.operation, 'answer', c.answer, 'refusal', c.refusal, 'warnings', v_warnings));
  end if;
  update private.stripe_calls x set step = c.step, done = c.done, notes = c.notes, leased_until = clock_timestamp() + make_interval(secs => (p ->> 'seconds')::integer)
  where x.id = c.id;
  return jsonb_build_object('lease', c.lease, 'operation', c.operation, 'step', c.step, 'warnings', v_warnings);
end
$$;
comment on function private.settle_stripe_call is
  'Applies Stripe''s answer to a step: {lease, step}, {doubt}, {again} or {settled, answer, refusal}. Authorization: callable by the server and the worker only.';
grant execute on function private.take_stripe_call, private.settle_stripe_call to kijko_server, kijko_worker;
grant execute on function private.begin_payment, private.lock_subscription, private.refuse_unconfigured, private.plan_stripe_call, private.is_subscription_live
  to authenticated;

create or replace function private.is_step_dispensable(p_name text, p_code text, p_status integer) returns boolean
language sql immutable parallel safe
return p_name in ('release', 'detach') and p_status in (400, 404) or p_name like 'delete_%' and p_status = 404
  -- A number that Stripe does not take is no reason to keep the address from it.
  or p_name = 'tax_id' and p_status = 400;
comment on function private.is_step_dispensable is 'Does the call go on after this refusal, because what the step asks for is so already?';

-- ------------------------------------------------------------------------------------------------------------------------- steps

-- The tax that Stripe computes has to be ours: its rate, and whether the customer is exempt.
create or replace function private.stripe_tax(p_org_id uuid, out exempt text, out country text, out rate numeric, out rate_id text)
language plpgsql stable security definer set search_path = ''
as $$
declare
  d public.billing_details;
  v record;
begin
  select * into d from public.billing_details x where x.organization_id = p_org_id;
  v := private.vat_of(0, d.country, d.btw_number, private.is_btw_valid(d));
  exempt := case v.treatment when 'reverse_charge' then 'reverse' when 'outside_eu' then 'exempt' else 'none' end;
  -- An exempt customer pays none whatever the rate; the domestic one is right again once they are not.
  country := case when v.treatment = 'eu_b2c' and private.is_oss_enabled() then d.country else 'NL' end;
  rate := private.vat_rate(country, now());
  rate_id := (select t.id from private.stripe_tax_rates t where t.country = stripe_tax.country and t.rate = stripe_tax.rate);
end
$$;
comment on function private.stripe_tax is 'How Stripe is to tax an organization. Authorization: callable by functions of ours only.';

create or replace function private.stripe_customer_params(p_org_id uuid, p_clears boolean) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  d public.billing_details;
  v_none constant text := case when p_clears then '' end;
begin
  select * into d from public.billing_details x where x.organization_id = p_org_id;
  return jsonb_strip_nulls(jsonb_build_object(
    'name', coalesce(d.company_name, (select left(o.name, 255) from public.organizations o where o.id = p_org_id)),
    'address', jsonb_build_object('line1', coalesce(d.address_line1, v_none), 'line2', coalesce(d.address_line2, v_none), 'city', coalesce(d.city, v_none),
      'postal_code', coalesce(d.postal_code, v_none), 'country', d.country),
    'tax_exempt', (select t.exempt from private.stripe_tax(p_org_id) t),
    'metadata', jsonb_build_object('org_id', p_org_id, 'kvk_number', coalesce(d.kvk_number, v_none))));
end
$$;
comment on function private.stripe_customer_params is
  'What Stripe is told of an organization; p_clears: what is empty here is emptied there. Authorization: callable by functions of ours only.';

-- Items beside the plan, such as seats that sales added by hand, stay.
create or replace function private.items_after(c private.stripe_calls) returns jsonb
language sql stable parallel safe
return (select jsonb_agg(case when i ->> 'price' = c.request ->> 'formerPriceId' then i || jsonb_build_object('price', c.request ->> 'priceId') else i end)
  from jsonb_array_elements(c.notes #> '{phase,items}') i);
comment on function private.items_after is 'The items of a subscription after a downgrade.';

create or replace function private.stripe_metadata(c private.stripe_calls) returns jsonb
language sql stable parallel safe
return jsonb_build_object('org_id', c.organization_id, 'plan', c.request ->> 'planId', 'billing_interval', c.request ->> 'billingInterval');
comment on function private.stripe_metadata is 'By what Stripe''s objects are found again.';

-- Each branch names the steps of an operation in their order, and gives the first that is not done.
create or replace function private.next_stripe_step(c private.stripe_calls) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  s public.subscriptions;
  v_tax record;
  v_schedule text;
  v_path text;
  v_session text;
begin
  select * into s from public.subscriptions x where x.organization_id = c.organization_id;
  if s.stripe_customer_id is null then
    -- Only one call of an organization is in flight, so it gets one customer.
    return private.stripe_step(c.id, 'customer', 'POST', '/v1/customers', private.stripe_customer_params(c.organization_id, false) || jsonb_strip_nulls(jsonb_build_object(
      'email', (select u.email from public.users u where u.id = private.owner_of(c.organization_id)), 'preferred_locales', '["nl"]'::jsonb)));
  end if;
  v_tax := private.stripe_tax(c.organization_id);
  if v_tax.rate_id is null and c.operation in ('checkout', 'upgrade', 'downgrade', 'details') then
    -- All organizations share a rate, and so its key.
    return private.stripe_step(c.id, 'tax_rate', 'POST', '/v1/tax_rates', jsonb_build_object('display_name', case v_tax.country when 'NL' then 'BTW' else 'VAT' end,
      'percentage', trim_scale(v_tax.rate)::text, 'inclusive', false, 'country', v_tax.country))
      || jsonb_build_object('key', format('kijko-tax-%s-%s', v_tax.country, trim_scale(v_tax.rate)));
  end if;
  if c.operation in ('upgrade', 'downgrade', 'cancel', 'resume') and 'schedule' <> all (c.done) then
    v_schedule := (select x.id from private.stripe_schedules x
      where x.organization_id = c.organization_id and x.subscription_id = c.request ->> 'subscriptionId' order by x.created_at limit 1);
    if v_schedule is not null then
      return private.stripe_step(c.id, 'release', 'POST', format('/v1/subscription_schedules/%s/release', v_schedule))
        || jsonb_build_object('schedule', v_schedule, 'key', format('kijko-%s-release-%s', c.id, v_schedule));
    end if;
  end if;
  v_path := '/v1/subscriptions/' || (c.request ->> 'subscriptionId');
  case c.operation
    when 'checkout' then
      -- Two sessions that are open could both be paid.
      select x.id into v_session from private.checkout_sessions x
      where x.organization_id = c.organization_id and x.mode = 'subscription' and x.status = 'open' and x.expires_at > now() and 'expire_' || x.id <> all (c.done)
      order by x.id limit 1;
      if c.notes ? 'unexpired' then
        return private.stripe_step(c.id, 'session_' || (c.notes ->> 'unexpired'), 'GET', '/v1/checkout/sessions/' || (c.notes ->> 'unexpired'));
      elsif v_session is not null and 'session' <> all (c.done) then
        return private.stripe_step(c.id, 'expire_' || v_session, 'POST', format('/v1/checkout/sessions/%s/expire', v_session));
      elsif 'session' <> all (c.done) then
        return private.stripe_step(c.id, 'session', 'POST', '/v1/checkout/sessions', jsonb_build_object('mode', 'subscription', 'customer', s.stripe_customer_id,
          'client_reference_id', c.organization_id, 'locale', 'nl', 'allow_promotion_codes', true, 'billing_address_collection', 'required',
          'tax_id_collection', '{"enabled": true}'::jsonb, 'customer_update', '{"name": "auto", "address": "auto"}'::jsonb,
          'payment_method_types', '["card", "ideal", "sepa_debit"]'::jsonb, 'line_items', jsonb_build_array(jsonb_build_object('price', c.request ->> 'priceId', 'quantity', 1)),
          'metadata', private.stripe_metadata(c), 'subscription_data', jsonb_build_object('metadata', private.stripe_metadata(c), 'default_tax_rates', jsonb_build_array(v_tax.rate_id)),
          'success_url', c.request ->> 'successUrl', 'cancel_url', c.request ->> 'cancelUrl'));
      end if;
    when 'portal' then
      if 'portal' <> all (c.done) then
        return private.stripe_step(c.id, 'portal', 'POST', '/v1/billing_portal/sessions',
          jsonb_build_object('customer', s.stripe_customer_id, 'return_url', c.request ->> 'returnUrl', 'locale', 'nl'));
      end if;
    when 'upgrade' then
      if 'subscription' <> all (c.done) then
        -- error_if_incomplete: a refused payment, or one that needs its payer, is a 402, and Stripe leaves the subscription as it was. A pending
        -- update would leave a change behind that Stripe makes up to 23 hours later, and is not offered for bank debits.
        return private.stripe_step(c.id, 'subscription', 'POST', v_path, jsonb_strip_nulls(jsonb_build_object(
          'items', jsonb_build_array(jsonb_build_object('id', c.request ->> 'itemId', 'price', c.request ->> 'priceId')),
          'proration_behavior', 'always_invoice', 'proration_date', c.request -> 'prorationDate', 'payment_behavior', 'error_if_incomplete', 'cancel_at_period_end', false,
          'default_tax_rates', jsonb_build_array(v_tax.rate_id), 'metadata', private.stripe_metadata(c), 'expand', '["latest_invoice"]'::jsonb)));
      end if;
    when 'downgrade' then
      if 'schedule' <> all (c.done) then
        return private.stripe_step(c.id, 'schedule', 'POST', '/v1/subscription_schedules', jsonb_build_object('from_subscription', c.request ->> 'subscriptionId'));
      elsif 'phases' <> all (c.done) then
        return private.stripe_step(c.id, 'phases', 'POST', '/v1/subscription_schedules/' || (c.notes ->> 'schedule'), jsonb_build_object('end_behavior', 'release',
          'proration_behavior', 'none', 'metadata', jsonb_build_object('org_id', c.organization_id), 'phases', jsonb_build_array(c.notes -> 'phase',
            jsonb_build_object('items', private.items_after(c), 'iterations', 1,
              'proration_behavior', 'none', 'default_tax_rates', jsonb_build_array(v_tax.rate_id), 'metadata', private.stripe_metadata(c)))));
      end if;
    when 'cancel' then
      if 'subscription' <> all (c.done) and 'end' <> all (c.done) then
        return case when (c.request ->> 'atOnce')::boolean then private.stripe_step(c.id, 'end', 'DELETE', v_path)
          else private.stripe_step(c.id, 'subscription', 'POST', v_path, '{"cancel_at_period_end": true}') end;
      end if;
    when 'resume' then
      if 'subscription' <> all (c.done) and ((c.request ->> 'isEnding')::boolean or 'release' <> all (c.done)) then
        return private.stripe_step(c.id, 'subscription', 'POST', v_path, '{"cancel_at_period_end": false}');
      end if;
    when 'details' then
      return private.next_details_step(c, s, v_tax.rate_id);
    else
      return private.next_method_step(c, s);
  end case;
  return null;
end
$$;
comment on function private.next_stripe_step is 'The next request of a call; null when all are done. Authorization: callable by functions of ours only.';

-- Answers of one second have their order, and go after the events of that second, which Stripe stamps with its beginning. An event that is newer
-- all the same, and says something else, has the subscription read once more (private.apply_stripe_subscription).
create or replace function private.answer_id(p_at timestamptz) returns text
language sql immutable parallel safe
return 'fetched:' || floor(extract(epoch from p_at) * 1000000)::bigint;
comment on function private.answer_id is 'The place of an answer among the events of its second.';

create or replace function private.apply_subscription_answer(p_body jsonb, p_at timestamptz) returns text
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return private.apply_stripe_object('customer.subscription.' || case when p_body ->> 'status' in ('canceled', 'incomplete_expired') then 'deleted' else 'updated' end,
    p_body, p_at, private.answer_id(p_at));
end
$$;
comment on function private.apply_subscription_answer is 'A subscription that Stripe answered, applied like its event of that moment. Authorization: callable by functions of ours only.';

-- What an answer changes here. Stripe's objects go to private.apply_stripe_object as they are; only ids and addresses are read here.
create or replace function private.apply_stripe_step(c private.stripe_calls, p_name text, p_body jsonb, p_at timestamptz) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_invoice jsonb;
  v_phase jsonb;
begin
  case
    when p_name = 'customer' then
      update public.subscriptions x set stripe_customer_id = p_body ->> 'id' where x.organization_id = c.organization_id and x.stripe_customer_id is null;
      perform private.queue_details_copy(c.organization_id);
    when p_name = 'tax_rate' then
      insert into private.stripe_tax_rates (country, rate, id) select t.country, t.rate, p_body ->> 'id' from private.stripe_tax(c.organization_id) t
      on conflict (country, rate) do nothing;
    when p_name = 'release' then
      delete from private.stripe_schedules x where x.id = c.step ->> 'schedule';
      update public.subscriptions x set pending_plan_id = null, pending_billing_interval = null
      where x.organization_id = c.organization_id and x.stripe_subscription_id = c.request ->> 'subscriptionId' and x.pending_plan_id is not null;
    when p_name = 'session' then
      perform private.apply_stripe_object('checkout.session.created', p_body, p_at, private.answer_id(p_at));
      return jsonb_build_object('notes', jsonb_build_object('answer', jsonb_build_object('sessionId', p_body ->> 'id', 'url', p_body ->> 'url')));
    when p_name like 'expire_%' then
      update private.checkout_sessions x set status = 'expired' where x.id = substr(p_name, 8) and x.status = 'open';
    when p_name like 'session_%' then
      update private.checkout_sessions x set status = p_body ->> 'status' where x.id = substr(p_name, 9) and x.status = 'open' and p_body ->> 'status' in ('complete', 'expired');
      return jsonb_build_object('notes', '{"unexpired": null}'::jsonb)
        || case p_body ->> 'status' when 'complete' then jsonb_build_object('refusal', private.stripe_refusal('SUBSCRIPTION_EXISTS'))
          when 'open' then jsonb_build_object('refusal', private.stripe_refusal('STRIPE_ERROR')) else '{}' end;
    when p_name = 'portal' then
      return jsonb_build_object('notes', jsonb_build_object('answer', jsonb_build_object('url', p_body ->> 'url')));
    when p_name = 'schedule' then
      insert into private.stripe_schedules (id, organization_id, subscription_id) values (p_body ->> 'id', c.organization_id, c.request ->> 'subscriptionId') on conflict do nothing;
      -- The running phase has to be repeated as it is: what is left out of it would end now.
      v_phase := p_body -> 'phases' -> 0;
      return jsonb_build_object('notes', jsonb_build_object('schedule', p_body ->> 'id', 'phase', jsonb_strip_nulls(jsonb_build_object(
        'start_date', v_phase -> 'start_date', 'end_date', v_phase -> 'end_date', 'trial_end', v_phase -> 'trial_end', 'proration_behavior', 'none',
        'items', (select jsonb_agg(jsonb_build_object('price', coalesce(i -> 'price' ->> 'id', i ->> 'price'), 'quantity', coalesce(i -> 'quantity', '1'))) from jsonb_array_elements(v_phase -> 'items') i),
        'default_tax_rates', (select jsonb_agg(coalesce(t ->> 'id', t #>> '{}')) from jsonb_array_elements(nullif(v_phase -> 'default_tax_rates', 'null')) t),
        'coupon', coalesce(v_phase -> 'coupon' ->> 'id', v_phase ->> 'coupon'), 'metadata', nullif(v_phase -> 'metadata', '{}')))));
    when p_name = 'phases' then
      update public.subscriptions x set pending_plan_id = c.request ->> 'planId', pending_billing_interval = c.request ->> 'billingInterval'
      where x.organization_id = c.organization_id and x.stripe_subscription_id = c.request ->> 'subscriptionId';
    when p_name in ('subscription', 'end', 'look') then
      -- The invoice goes first: the subscription that Stripe answered has seen its payment.
      v_invoice := p_body -> 'latest_invoice';
      if jsonb_typeof(v_invoice) = 'object' then
        perform private.apply_stripe_object(case when v_invoice ->> 'status' = 'paid' then 'invoice.paid' else 'invoice.updated' end, v_invoice, p_at, private.answer_id(p_at));
      end if;
      perform private.apply_subscription_answer(case when jsonb_typeof(v_invoice) = 'object' then jsonb_set(p_body, '{latest_invoice}', v_invoice -> 'id') else p_body end, p_at);
      if p_name = 'subscription' and c.operation = 'resume' then
        update public.subscriptions x set pending_plan_id = null, pending_billing_interval = null where x.organization_id = c.organization_id and x.pending_plan_id is not null;
      end if;
      return jsonb_build_object('warnings', private.quote_warnings(c, v_invoice));
    when c.operation = 'details' then
      return private.apply_details_step(c, p_name, p_body);
    else
      return private.apply_method_step(c, p_name, p_body, p_at);
  end case;
  return null;
end
$$;
comment on function private.apply_stripe_step is
  'Applies the answer to a step: {notes?, refusal?, warnings?}. Authorization: callable by functions of ours only.';

create or replace function private.stripe_answer(c private.stripe_calls) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return case
    when c.notes ? 'answer' then c.notes -> 'answer'
    when c.operation in ('upgrade', 'downgrade', 'cancel', 'resume') then
      (select private.subscription_json(s) || jsonb_build_object('userId', private.owner_of(s.organization_id)) from public.subscriptions s where s.organization_id = c.organization_id)
    when c.operation = 'default_method' then private.payment_methods_json(c.organization_id)
    else '{}' end;
end
$$;
comment on function private.stripe_answer is 'What the caller of a call gets. Authorization: callable by functions of ours only.';

-- What Stripe has after a request whose outcome was in doubt, or which it refused.
create or replace function private.judge_look(c private.stripe_calls) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  s public.subscriptions;
begin
  select * into s from public.subscriptions x where x.organization_id = c.organization_id;
  return case
    when c.operation = 'cancel' and (not private.is_subscription_live(s) or s.cancel_at_period_end) then null
    when not private.is_subscription_live(s) then private.stripe_refusal('CHECKOUT_REQUIRED')
    when c.operation = 'upgrade' and (s.plan_id, s.billing_interval) = (c.request ->> 'planId', c.request ->> 'billingInterval') then null
    when c.operation = 'resume' and not s.cancel_at_period_end and s.pending_plan_id is null then null
    when c.operation = 'downgrade' and 'phases' = any (c.done) then null
    else private.stripe_refusal('STRIPE_ERROR') end;
end
$$;
comment on function private.judge_look is 'The refusal of a call by what Stripe has; null when it has what was asked. Authorization: callable by functions of ours only.';
