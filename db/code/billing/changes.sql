-- Changes of a subscription (contract 50, section 2.4): upgrades at once with proration, downgrades at the end of the period, cancel and resume.

create or replace function private.refuse_contract() returns void
language plpgsql stable
as $$
begin
  perform private.refuse(409, 'CONTRACT_MANAGED', 'This organization has a contract. Ask your contact at sales to change it.');
end
$$;
comment on function private.refuse_contract is 'Refuses 409 CONTRACT_MANAGED.';

create or replace function private.plan_rank(p_plan_id text) returns integer
language sql immutable parallel safe
return array_position(array['free', 'pro', 'teams', 'enterprise'], p_plan_id);
comment on function private.plan_rank is 'free, pro, teams, enterprise: the place of a plan among them.';

-- A requested downgrade has to fit. One that happens (unpaid, ended) always takes effect, and growth is blocked.
create or replace function private.assert_plan_fits(p_org_id uuid, p_plan_id text) returns void
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_gb constant numeric := 1073741824;
  v_exceeded jsonb;
begin
  if p_org_id is distinct from private.org_id() then
    perform private.refuse(403, 'FORBIDDEN', 'This is another organization.');
  end if;
  perform private.require_permission('canManageBilling');
  -- An agreement with the organization holds for each plan.
  select jsonb_agg(jsonb_build_object('metric', m.metric, 'current', case m.metric when 'storage' then trim_scale(round(m.used / c_gb, 2)) else m.used end, 'limit', l.quota)
    order by m.metric) into v_exceeded
  from public.subscriptions s
  join public.plans t on t.id = p_plan_id
  cross join lateral (values ('seats', private.seats_used(p_org_id)::numeric),
    ('storage', private.units_used(p_org_id, 'storage', '1970-01-01')::numeric)) m (metric, used)
  cross join lateral (select private.limit_of(s, t, m.metric) as quota) l
  where s.organization_id = p_org_id and l.quota >= 0 and m.used > l.quota * case m.metric when 'storage' then c_gb else 1 end;
  if v_exceeded is not null then
    perform private.refuse(409, 'PLAN_LIMITS_EXCEEDED', 'The organization uses more than that plan has. Remove members, invitations or files first.', null,
      jsonb_build_object('exceeded', v_exceeded));
  end if;
end
$$;
comment on function private.assert_plan_fits is
  '409 PLAN_LIMITS_EXCEEDED where seats or storage in use exceed a plan. Authorization: canManageBilling in the caller''s own organization. Errors: 403 FORBIDDEN, 409 PLAN_LIMITS_EXCEEDED.';

-- By seconds, each part rounded to cents. Another interval begins a new period, so all of it is charged.
create or replace function private.quote_proration(s public.subscriptions, p_plan_id text, p_interval text, p_at timestamptz) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_left constant numeric := extract(epoch from s.current_period_end - p_at) / extract(epoch from s.current_period_end - s.current_period_start);
  v_old constant bigint := private.plan_price(s.plan_id, s.billing_interval);
  v_new constant bigint := private.plan_price(p_plan_id, p_interval);
  v_net bigint;
  d public.billing_details;
begin
  v_net := round(v_new * case when p_interval = s.billing_interval then v_left else 1 end)::bigint - round(v_old * v_left)::bigint;
  select * into d from public.billing_details x where x.organization_id = s.organization_id;
  return (select jsonb_build_object('net', v_net, 'total', v.total) from private.vat_of(v_net, d.country, d.btw_number, private.is_btw_valid(d), p_at) v);
end
$$;
comment on function private.quote_proration is 'What an upgrade costs at a moment, in cents: {net, total}. Authorization: callable by functions of ours only.';

-- Stripe's figure is the one that counts. A difference means that prices, rates or the customer's exemption at Stripe are not ours.
create or replace function private.quote_warnings(c private.stripe_calls, p_invoice jsonb) returns jsonb
language sql stable parallel safe
return case when c.request ? 'quote' and jsonb_typeof(p_invoice) = 'object' and (abs((p_invoice ->> 'total')::numeric - (c.request #>> '{quote,total}')::numeric) > 1
    or abs((p_invoice ->> 'subtotal')::numeric - (c.request #>> '{quote,net}')::numeric) > 1)
  then jsonb_build_array(format('Stripe invoiced %s net, %s in all for an upgrade that was computed as %s net, %s in all', p_invoice ->> 'subtotal', p_invoice ->> 'total',
    c.request #>> '{quote,net}', c.request #>> '{quote,total}'))
  else '[]'::jsonb end;
comment on function private.quote_warnings is 'Differences of more than a cent between our quote and Stripe''s invoice.';

-- What a change needs to know of the subscription at Stripe.
create or replace function private.plan_change(p_operation text, s public.subscriptions, p_request jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_request jsonb;
  v_at timestamptz;
begin
  if s.organization_id is distinct from private.org_id() then
    perform private.refuse(403, 'FORBIDDEN', 'This is another organization.');
  end if;
  perform private.require_permission('canManageBilling');
  v_request := p_request || jsonb_build_object('subscriptionId', s.stripe_subscription_id);
  if p_operation in ('upgrade', 'downgrade') then
    v_request := v_request || (select jsonb_build_object('itemId', x.item_id, 'formerPriceId', x.price_id) from private.stripe_subscriptions x where x.id = s.stripe_subscription_id);
    if v_request ->> 'itemId' is null then
      -- Stripe's own event about it has not arrived. Without the item a second price would be added to the first.
      perform private.refuse(409, 'PAYMENT_IN_PROGRESS', 'The subscription was just made. Please try again in a moment.');
    end if;
    if p_operation = 'upgrade' and s.status = 'active' and now() > s.current_period_start and now() < s.current_period_end then
      -- Stripe counts whole seconds, and is told which one, so that a repeat costs the same.
      v_at := date_trunc('second', now());
      v_request := v_request || jsonb_build_object('prorationDate', extract(epoch from v_at)::bigint)
        || case when exists (select from private.stripe_prices x join private.stripe_subscriptions b on b.price_id = x.price_id where b.id = s.stripe_subscription_id)
          then jsonb_build_object('quote', private.quote_proration(s, p_request ->> 'planId', p_request ->> 'billingInterval', greatest(v_at, s.current_period_start))) else '{}' end;
    end if;
  end if;
  return private.plan_stripe_call(s.organization_id, p_operation, v_request);
end
$$;
comment on function private.plan_change is
  'Plans a change of a subscription: {call}. Authorization: canManageBilling in the caller''s own organization. Errors: 403 FORBIDDEN, 409 PAYMENT_IN_PROGRESS.';

create or replace function api.update_subscription(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.begin_payment(p);
  b constant jsonb := private.as_object(p -> 'body', 'body');
  s public.subscriptions;
  v_plan text := b ->> 'planId';
  v_interval text := b ->> 'billingInterval';
  v_request jsonb;
begin
  if v_plan is null and v_interval is null then
    perform private.refuse_field('planId', 'planId or billingInterval is required.');
  elsif v_plan is distinct from 'free' then
    perform private.plan_price(coalesce(v_plan, 'pro'), coalesce(v_interval, 'monthly'));
  elsif v_interval not in ('monthly', 'annually') then
    perform private.refuse_field('billingInterval', 'billingInterval is monthly or annually.');
  end if;
  s := private.lock_subscription(v_org_id);
  if s.plan_id = 'enterprise' then
    perform private.refuse_contract();
  elsif not private.is_subscription_live(s) then
    perform private.refuse(409, 'CHECKOUT_REQUIRED', 'There is no subscription yet. Start one by a checkout.');
  end if;
  v_plan := coalesce(v_plan, s.plan_id);
  v_interval := coalesce(v_interval, s.billing_interval);
  if v_plan = 'free' then
    -- The same as to cancel, also while a payment is open.
    if s.cancel_at_period_end then
      return jsonb_build_object('answer', private.subscription_json(s));
    end if;
    perform private.assert_plan_fits(v_org_id, v_plan), private.refuse_unconfigured(p);
    return private.plan_change('cancel', s, jsonb_build_object('atOnce', s.status = 'incomplete'));
  elsif (v_plan, v_interval) = (s.plan_id, s.billing_interval) and s.pending_plan_id is null then
    return jsonb_build_object('answer', private.subscription_json(s));
  elsif s.status in ('incomplete', 'past_due') then
    perform private.refuse(409, 'PAYMENT_OVERDUE', 'A payment is open. Pay it first, in the customer portal.');
  elsif (v_plan, v_interval) = (s.plan_id, s.billing_interval) then
    perform private.refuse_unconfigured(p);
    return private.plan_change('resume', s, '{"isEnding": false}');
  end if;
  v_request := jsonb_build_object('planId', v_plan, 'billingInterval', v_interval);
  if private.plan_rank(v_plan) > private.plan_rank(s.plan_id) or v_plan = s.plan_id and v_interval = 'annually' then
    v_request := v_request || jsonb_build_object('priceId', private.current_price(p, v_plan, v_interval));
    return private.plan_change('upgrade', s, v_request);
  end if;
  if s.cancel_at_period_end then
    perform private.refuse(409, 'SUBSCRIPTION_ENDING', 'The subscription ends with this period. Resume it first.');
  elsif (v_plan, v_interval) is not distinct from (s.pending_plan_id, s.pending_billing_interval) then
    return jsonb_build_object('answer', private.subscription_json(s));
  end if;
  perform private.assert_plan_fits(v_org_id, v_plan);
  v_request := v_request || jsonb_build_object('priceId', private.current_price(p, v_plan, v_interval));
  return private.plan_change('downgrade', s, v_request);
end
$$;
comment on function api.update_subscription is
  'PATCH /billing/subscription: {call} or {answer: Subscription}. Errors: 400 VALIDATION_ERROR, PLAN_NOT_SELF_SERVICE, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 409 CHECKOUT_REQUIRED, CONTRACT_MANAGED, PAYMENT_FAILED, PAYMENT_IN_PROGRESS, PAYMENT_OVERDUE, PLAN_LIMITS_EXCEEDED, SUBSCRIPTION_ENDING, 502 STRIPE_ERROR, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function api.cancel_subscription(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.begin_payment(p);
  s public.subscriptions;
begin
  s := private.lock_subscription(v_org_id);
  if s.plan_id = 'enterprise' then
    perform private.refuse_contract();
  elsif not private.is_subscription_live(s) then
    perform private.refuse(409, 'NO_SUBSCRIPTION', 'There is no subscription to cancel.');
  elsif s.cancel_at_period_end then
    return jsonb_build_object('answer', private.subscription_json(s));
  end if;
  perform private.refuse_unconfigured(p);
  return private.plan_change('cancel', s, jsonb_build_object('atOnce', s.status = 'incomplete'));
end
$$;
comment on function api.cancel_subscription is
  'POST /billing/subscription/cancel: {call} or {answer: Subscription}. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 409 CONTRACT_MANAGED, NO_SUBSCRIPTION, PAYMENT_IN_PROGRESS, 502 STRIPE_ERROR, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function api.resume_subscription(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.begin_payment(p);
  s public.subscriptions;
begin
  s := private.lock_subscription(v_org_id);
  if s.plan_id = 'enterprise' then
    perform private.refuse_contract();
  elsif not private.is_subscription_live(s) and s.status = 'canceled' or s.cancel_at_period_end and s.current_period_end <= now() then
    perform private.refuse(409, 'CHECKOUT_REQUIRED', 'The subscription has ended. Start a new one by a checkout.');
  elsif not s.cancel_at_period_end and s.pending_plan_id is null then
    perform private.refuse(409, 'NOTHING_TO_RESUME', 'The subscription neither ends nor changes.');
  end if;
  perform private.refuse_unconfigured(p);
  return private.plan_change('resume', s, jsonb_build_object('isEnding', s.cancel_at_period_end));
end
$$;
comment on function api.resume_subscription is
  'POST /billing/subscription/resume: {call}. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 409 CHECKOUT_REQUIRED, CONTRACT_MANAGED, NOTHING_TO_RESUME, PAYMENT_IN_PROGRESS, 502 STRIPE_ERROR, 503 PROVIDER_NOT_CONFIGURED.';
grant execute on function private.refuse_contract, private.plan_rank, private.assert_plan_fits, private.plan_change, api.update_subscription, api.cancel_subscription,
  api.resume_subscription to authenticated;
