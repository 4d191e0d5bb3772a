-- Checkout and the customer portal (contract 50, section 2.4): pages of Stripe, to which an owner is sent.

-- The server says which addresses of a body it leads back to, and gives the defaults: {successUrl, cancelUrl, returnUrl} under redirects, and under
-- refusedUrl the first that it does not lead to.
create or replace function private.refuse_redirects(p jsonb) returns void
language plpgsql stable
as $$
begin
  if p ->> 'refusedUrl' is not null then
    perform private.refuse(400, 'INVALID_REDIRECT_URL', format('%s does not lead to a page of this installation.', p ->> 'refusedUrl'), p ->> 'refusedUrl');
  end if;
end
$$;
comment on function private.refuse_redirects is '400 INVALID_REDIRECT_URL for an address whose origin the server does not know.';

create or replace function private.open_checkout(p_org_id uuid, p_plan_id text, p_interval text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  if p_org_id is distinct from private.org_id() then
    return null;
  end if;
  perform private.require_permission('canManageBilling');
  -- A session that ends within minutes is no use to a person who has yet to fill in its page.
  return (select jsonb_build_object('sessionId', x.id, 'url', x.url) from private.checkout_sessions x
    where x.organization_id = p_org_id and x.mode = 'subscription' and x.status = 'open' and x.url is not null and x.expires_at > now() + interval '5 minutes'
      and x.plan_id = p_plan_id and x.billing_interval = p_interval
    order by x.expires_at desc limit 1);
end
$$;
comment on function private.open_checkout is
  'A checkout that can still be used. Authorization: canManageBilling in the caller''s own organization. Errors: 403 FORBIDDEN.';

create or replace function private.current_price(p jsonb, p_plan_id text, p_interval text) returns text
language plpgsql stable
as $$
declare
  v_price constant text := p -> 'prices' ->> (p_plan_id || '_' || p_interval);
begin
  perform private.refuse_unconfigured(p);
  if coalesce(v_price, '') = '' then
    perform private.refuse(503, 'PROVIDER_NOT_CONFIGURED', 'This installation has no price for that plan. Ask its operator.', null, '{"provider": "stripe"}');
  end if;
  return v_price;
end
$$;
comment on function private.current_price is 'The installation''s price for a plan at Stripe. Errors: 503 PROVIDER_NOT_CONFIGURED.';

create or replace function api.create_checkout(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.begin_payment(p);
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_plan constant text := b ->> 'planId';
  v_interval constant text := coalesce(b ->> 'billingInterval', 'monthly');
  s public.subscriptions;
  v_open jsonb;
  v_price text;
begin
  perform private.plan_price(v_plan, v_interval);
  perform private.refuse_redirects(p);
  s := private.lock_subscription(v_org_id);
  if s.plan_id = 'enterprise' then
    perform private.refuse_contract();
  elsif private.is_subscription_live(s) then
    perform private.refuse(409, 'SUBSCRIPTION_EXISTS', 'There is a subscription already. Change it instead.');
  end if;
  v_price := private.current_price(p, v_plan, v_interval);
  v_open := private.open_checkout(v_org_id, v_plan, v_interval);
  if v_open is not null then
    return jsonb_build_object('answer', v_open);
  end if;
  return private.plan_stripe_call(v_org_id, 'checkout', jsonb_build_object('planId', v_plan, 'billingInterval', v_interval, 'priceId', v_price,
    'successUrl', p #>> '{redirects,successUrl}', 'cancelUrl', p #>> '{redirects,cancelUrl}'));
end
$$;
comment on function api.create_checkout is
  'POST /billing/checkout: {call} or {answer: {sessionId, url}}. Errors: 400 VALIDATION_ERROR, PLAN_NOT_SELF_SERVICE, INVALID_REDIRECT_URL, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 409 SUBSCRIPTION_EXISTS, CONTRACT_MANAGED, PAYMENT_IN_PROGRESS, 502 STRIPE_ERROR, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function api.create_portal(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.begin_payment(p);
begin
  perform private.refuse_redirects(p);
  perform private.lock_subscription(v_org_id);
  perform private.refuse_unconfigured(p);
  return private.plan_stripe_call(v_org_id, 'portal', jsonb_build_object('returnUrl', p #>> '{redirects,returnUrl}'));
end
$$;
comment on function api.create_portal is
  'POST /billing/portal: {call}. Errors: 400 VALIDATION_ERROR, INVALID_REDIRECT_URL, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 409 PAYMENT_IN_PROGRESS, 502 STRIPE_ERROR, 503 PROVIDER_NOT_CONFIGURED.';
grant execute on function private.refuse_redirects, private.open_checkout, private.current_price, api.create_checkout, api.create_portal to authenticated;
