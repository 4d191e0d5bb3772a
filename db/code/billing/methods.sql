-- Payment methods (contract 50, section 3). Numbers of cards and accounts go from the page to Stripe; here are brand and last digits.

create or replace function private.payment_method_json(m public.payment_methods) returns jsonb
language sql stable
as $$
  select jsonb_strip_nulls(jsonb_build_object('id', m.id, 'userId', private.owner_of(m.organization_id), 'type', m.type, 'stripePaymentMethodId', m.stripe_payment_method_id,
    'isDefault', m.is_default, 'cardBrand', m.card_brand, 'cardLast4', m.card_last4, 'cardExpMonth', m.card_exp_month, 'cardExpYear', m.card_exp_year,
    'sepaBankCode', m.sepa_bank_code, 'sepaLast4', m.sepa_last4, 'sepaCountry', m.sepa_country, 'createdAt', private.iso(m.created_at)))
$$;
comment on function private.payment_method_json is 'PaymentMethod.';

create or replace function private.payment_methods_json(p_org_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select coalesce(jsonb_agg(private.payment_method_json(m) order by m.is_default desc, m.created_at desc, m.id), '[]')
    from public.payment_methods m where m.organization_id = p_org_id);
end
$$;
comment on function private.payment_methods_json is 'PaymentMethod[], the default first. Authorization: callable by functions of ours only.';

create or replace function private.list_payment_methods() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org_id constant uuid := private.require_membership();
begin
  perform private.require_permission('canManageBilling');
  return private.payment_methods_json(v_org_id);
end
$$;
comment on function private.list_payment_methods is
  'PaymentMethod[] of the caller''s organization. Authorization: canManageBilling. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED.';

create or replace function api.list_payment_methods(p jsonb) returns jsonb
language sql stable
as $$ select private.list_payment_methods() $$;
comment on function api.list_payment_methods is 'GET /billing/payment-methods: PaymentMethod[]. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED.';

-- The organization's method of an id; another's is not found.
create or replace function private.find_payment_method(p_id text) returns public.payment_methods
language plpgsql stable security definer set search_path = ''
as $$
declare
  m public.payment_methods;
begin
  perform private.require_permission('canManageBilling');
  select * into m from public.payment_methods x where x.id = private.as_uuid(p_id) and x.organization_id = private.org_id();
  if not found then
    perform private.refuse(404, 'PAYMENT_METHOD_NOT_FOUND', 'There is no such payment method.');
  end if;
  return m;
end
$$;
comment on function private.find_payment_method is
  'A payment method by its id. Authorization: canManageBilling in the caller''s own organization. Errors: 403 FORBIDDEN, 404 PAYMENT_METHOD_NOT_FOUND.';

create or replace function private.count_payment_methods() returns integer
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.require_permission('canManageBilling');
  return (select count(*) from public.payment_methods m where m.organization_id = private.org_id());
end
$$;
comment on function private.count_payment_methods is 'How many methods are stored. Authorization: canManageBilling in the caller''s own organization. Errors: 403 FORBIDDEN.';

create or replace function api.create_setup_intent(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.begin_payment(p);
  v_type constant text := private.as_object(p -> 'body', 'body') ->> 'type';
begin
  if v_type is null or v_type not in ('card', 'sepa_debit') then
    perform private.refuse_field('type', 'type is card or sepa_debit.');
  end if;
  perform private.lock_subscription(v_org_id);
  perform private.refuse_unconfigured(p);
  return private.plan_stripe_call(v_org_id, 'setup_intent', jsonb_build_object('type', v_type));
end
$$;
comment on function api.create_setup_intent is
  'POST /billing/payment-methods/setup-intent: {call}. Errors: 400 VALIDATION_ERROR, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 409 PAYMENT_IN_PROGRESS, 502 STRIPE_ERROR, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function api.create_payment_method(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.begin_payment(p);
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_id constant text := b ->> 'stripePaymentMethodId';
  v_is_default constant boolean := coalesce(private.as_bool(b -> 'setDefault', 'setDefault'), false);
begin
  if v_id is null then
    perform private.refuse_field('stripePaymentMethodId', 'stripePaymentMethodId is required.');
  elsif v_id !~ '^pm_[A-Za-z0-9_]{1,200}$' then
    perform private.refuse(400, 'INVALID_PAYMENT_METHOD', 'This is no payment method of Stripe.', 'stripePaymentMethodId');
  end if;
  perform private.lock_subscription(v_org_id);
  perform private.refuse_unconfigured(p);
  if private.count_payment_methods() >= 50 then
    perform private.refuse(409, 'TOO_MANY_PAYMENT_METHODS', 'There are 50 payment methods. Remove one first.');
  end if;
  return private.plan_stripe_call(v_org_id, 'attach_method', jsonb_build_object('method', v_id, 'setDefault', v_is_default));
end
$$;
comment on function api.create_payment_method is
  'POST /billing/payment-methods: {call}. Errors: 400 VALIDATION_ERROR, INVALID_PAYMENT_METHOD, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 409 DUPLICATE_PAYMENT_METHOD, PAYMENT_FAILED, PAYMENT_IN_PROGRESS, TOO_MANY_PAYMENT_METHODS, 502 STRIPE_ERROR, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function api.delete_payment_method(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.begin_payment(p);
  m public.payment_methods := private.find_payment_method(p ->> 'paymentMethodId');
  s public.subscriptions;
begin
  s := private.lock_subscription(v_org_id);
  m := private.find_payment_method(p ->> 'paymentMethodId');
  if m.is_default and (private.is_subscription_live(s) or private.count_payment_methods() > 1) then
    perform private.refuse(409, 'DEFAULT_PAYMENT_METHOD', 'This is the default payment method. Make another one the default first.');
  end if;
  perform private.refuse_unconfigured(p);
  return private.plan_stripe_call(v_org_id, 'detach_method', jsonb_build_object('method', m.stripe_payment_method_id));
end
$$;
comment on function api.delete_payment_method is
  'DELETE /billing/payment-methods/{paymentMethodId}: {call}. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 404 PAYMENT_METHOD_NOT_FOUND, 409 DEFAULT_PAYMENT_METHOD, PAYMENT_IN_PROGRESS, 502 STRIPE_ERROR, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function api.set_default_payment_method(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.begin_payment(p);
  m public.payment_methods := private.find_payment_method(p ->> 'paymentMethodId');
begin
  perform private.lock_subscription(v_org_id);
  m := private.find_payment_method(p ->> 'paymentMethodId');
  if m.is_default then
    return jsonb_build_object('answer', private.list_payment_methods());
  end if;
  perform private.refuse_unconfigured(p);
  return private.plan_stripe_call(v_org_id, 'default_method', jsonb_build_object('method', m.stripe_payment_method_id));
end
$$;
comment on function api.set_default_payment_method is
  'POST /billing/payment-methods/{paymentMethodId}/default: {call} or {answer: PaymentMethod[]}. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 404 PAYMENT_METHOD_NOT_FOUND, 409 PAYMENT_IN_PROGRESS, 502 STRIPE_ERROR, 503 PROVIDER_NOT_CONFIGURED.';
grant execute on function private.list_payment_methods, private.find_payment_method, private.count_payment_methods, api.list_payment_methods, api.create_setup_intent,
  api.create_payment_method, api.delete_payment_method, api.set_default_payment_method to authenticated;

-- A subscription that a checkout made has a method of its own, which goes before the customer's. So both are told of another default.
create or replace function private.next_method_step(c private.stripe_calls, s public.subscriptions) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_method constant text := c.request ->> 'method';
begin
  case c.operation
    when 'setup_intent' then
      if 'setup_intent' <> all (c.done) then
        return private.stripe_step(c.id, 'setup_intent', 'POST', '/v1/setup_intents', jsonb_build_object('customer', s.stripe_customer_id,
          'payment_method_types', jsonb_build_array(c.request ->> 'type'), 'usage', 'off_session', 'metadata', jsonb_build_object('org_id', c.organization_id)));
      end if;
      return null;
    when 'detach_method' then
      return case when 'detach' <> all (c.done) then private.stripe_step(c.id, 'detach', 'POST', format('/v1/payment_methods/%s/detach', v_method)) end;
    when 'attach_method' then
      if 'method' <> all (c.done) then
        return private.stripe_step(c.id, 'method', 'GET', '/v1/payment_methods/' || v_method);
      elsif 'attach' <> all (c.done) and not coalesce((c.notes ->> 'isAttached')::boolean, false) then
        return private.stripe_step(c.id, 'attach', 'POST', format('/v1/payment_methods/%s/attach', v_method), jsonb_build_object('customer', s.stripe_customer_id));
      elsif not (c.request ->> 'setDefault')::boolean
        and exists (select from public.payment_methods m where m.organization_id = c.organization_id and m.is_default and m.stripe_payment_method_id <> v_method) then
        return null;
      end if;
    else
      null;
  end case;
  if 'default' <> all (c.done) then
    return private.stripe_step(c.id, 'default', 'POST', '/v1/customers/' || s.stripe_customer_id,
      jsonb_build_object('invoice_settings', jsonb_build_object('default_payment_method', v_method)));
  elsif 'subscription_default' <> all (c.done) and private.is_subscription_live(s) then
    return private.stripe_step(c.id, 'subscription_default', 'POST', '/v1/subscriptions/' || s.stripe_subscription_id, jsonb_build_object('default_payment_method', v_method));
  end if;
  return null;
end
$$;
comment on function private.next_method_step is 'The next request of a call about payment methods. Authorization: callable by functions of ours only.';

create or replace function private.apply_method_step(c private.stripe_calls, p_name text, p_body jsonb, p_at timestamptz) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_customer constant text := (select s.stripe_customer_id from public.subscriptions s where s.organization_id = c.organization_id);
  v_method constant text := c.request ->> 'method';
  v_at constant timestamptz := coalesce(p_at, clock_timestamp());
  v record;
begin
  case p_name
    when 'setup_intent' then
      return jsonb_build_object('notes', jsonb_build_object('answer', jsonb_build_object('setupIntentId', p_body ->> 'id')));
    when 'method' then
      v := private.read_stripe_payment_method(p_body);
      if v.type is null or v.type not in ('card', 'sepa_debit') or v.customer_id is distinct from v_customer and v.customer_id is not null then
        return jsonb_build_object('refusal', private.stripe_refusal('INVALID_PAYMENT_METHOD'));
      elsif exists (select from public.payment_methods m
        where m.organization_id = c.organization_id and m.fingerprint = v.fingerprint and m.stripe_payment_method_id <> v_method) then
        return jsonb_build_object('refusal', private.stripe_refusal('DUPLICATE_PAYMENT_METHOD'));
      elsif v.customer_id = v_customer then
        perform private.apply_stripe_object('payment_method.attached', p_body, p_at, private.answer_id(p_at));
        return private.note_method(c, true);
      end if;
    when 'attach' then
      perform private.apply_stripe_object('payment_method.attached', p_body, p_at, private.answer_id(p_at));
      return private.note_method(c, true);
    when 'detach' then
      -- Without a body: it was detached already.
      perform private.apply_stripe_object('payment_method.detached', coalesce(p_body, jsonb_build_object('id', v_method, 'object', 'payment_method', 'customer', null)),
        v_at, private.answer_id(v_at));
    when 'default' then
      perform private.apply_stripe_object('customer.updated', p_body, p_at, private.answer_id(p_at));
      return private.note_method(c, true);
    when 'subscription_default' then
      perform private.apply_subscription_answer(p_body, p_at);
      return private.note_method(c, true);
    else
      raise exception 'a step % of a call % is unknown to this version', p_name, c.operation;
  end case;
  return null;
end
$$;
comment on function private.apply_method_step is 'Applies the answer to a step about payment methods. Authorization: callable by functions of ours only.';

create or replace function private.note_method(c private.stripe_calls, p_is_attached boolean) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  if c.operation <> 'attach_method' then
    return null;
  end if;
  return jsonb_build_object('notes', jsonb_strip_nulls(jsonb_build_object('isAttached', p_is_attached, 'answer', (select private.payment_method_json(m)
    from public.payment_methods m where m.organization_id = c.organization_id and m.stripe_payment_method_id = c.request ->> 'method'))));
end
$$;
comment on function private.note_method is 'The method of a call as it is stored now, for the answer. Authorization: callable by functions of ours only.';
