-- Operations of contract 50, sections 1, 2.1, 5.1, 6 and 7.

create or replace function api.list_plans(p jsonb) returns jsonb
language sql stable
as $$ select jsonb_agg(private.plan_json(t) order by t.position) from public.plans t $$;
comment on function api.list_plans is 'GET /billing/plans: Plan[].';
grant execute on function api.list_plans to anon, authenticated;

create or replace function api.get_subscription(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_org_id constant uuid := private.require_membership();
begin
  return (select private.subscription_json(s) from public.subscriptions s where s.organization_id = v_org_id);
end
$$;
comment on function api.get_subscription is 'GET /billing/subscription: Subscription. Errors: 401 UNAUTHENTICATED, 403 ORG_REQUIRED.';
grant execute on function api.get_subscription to authenticated;

create or replace function api.list_usage(p jsonb) returns jsonb
language sql stable
as $$ select private.usage_json() $$;
comment on function api.list_usage is 'GET /billing/usage: UsageMetric[]. Errors: 401 UNAUTHENTICATED, 403 ORG_REQUIRED.';
grant execute on function api.list_usage to authenticated;

create or replace function api.get_billing_details(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_org_id constant uuid := private.require_membership();
begin
  perform private.require_permission('canManageBilling');
  return (select private.billing_details_json(d) from public.billing_details d where d.organization_id = v_org_id);
end
$$;
comment on function api.get_billing_details is 'GET /billing/details: BillingDetails. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED.';
grant execute on function api.get_billing_details to authenticated;

create or replace function api.update_billing_details(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.require_membership();
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_unknown constant text := (select min(k) from jsonb_object_keys(b) k
    where k <> all (array['companyName', 'btwNumber', 'kvkNumber', 'addressLine1', 'addressLine2', 'city', 'postalCode', 'country']));
begin
  perform private.require_permission('canManageBilling');
  if v_unknown is not null then
    perform private.refuse_field(left(v_unknown, 100), format('%s is not a known field.', left(v_unknown, 100)));
  end if;
  update public.billing_details d
  set company_name = private.patched_text(b, 'companyName', d.company_name), btw_number = private.patched_text(b, 'btwNumber', d.btw_number),
    kvk_number = private.patched_text(b, 'kvkNumber', d.kvk_number), address_line1 = private.patched_text(b, 'addressLine1', d.address_line1),
    address_line2 = private.patched_text(b, 'addressLine2', d.address_line2), city = private.patched_text(b, 'city', d.city),
    postal_code = private.patched_text(b, 'postalCode', d.postal_code), country = private.patched_text(b, 'country', d.country)
  where d.organization_id = v_org_id;
  return (select private.billing_details_json(d) from public.billing_details d where d.organization_id = v_org_id);
end
$$;
comment on function api.update_billing_details is
  'PATCH /billing/details: BillingDetails. Errors: 400 VALIDATION_ERROR, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED.';
grant execute on function api.update_billing_details to authenticated;

-- {organizationId, check}: what is known before VIES is asked.
create or replace function private.begin_btw_check(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.require_membership();
begin
  perform private.require_permission('canManageBilling');
  if private.bare_btw(left(p -> 'body' ->> 'btwNumber', 100)) is null then
    perform private.refuse_field('btwNumber', 'btwNumber is required.');
  end if;
  return jsonb_build_object('organizationId', v_org_id, 'check', private.check_btw(p -> 'body' ->> 'btwNumber'));
end
$$;
comment on function private.begin_btw_check is
  'What is known of the number of a body. Errors: 400 VALIDATION_ERROR, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED.';

create or replace function api.validate_btw_number(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_check jsonb;
begin
  perform private.begin_btw_check(p);
  v_check := private.check_btw(p -> 'body' ->> 'btwNumber', p -> 'answer', true);
  if v_check ->> 'outcome' = 'unasked' then
    perform private.refuse(403, 'FORBIDDEN', 'VIES is asked through the API.');
  elsif v_check ->> 'outcome' = 'unavailable' then
    perform private.set_headers('{"Retry-After": "60"}');
  end if;
  return private.btw_result_json(v_check);
end
$$;
comment on function api.validate_btw_number is
  'POST /billing/details/validate-btw: BtwValidationResult. Errors: 400 VALIDATION_ERROR, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED.';
grant execute on function api.validate_btw_number to authenticated;

-- {organizationId, check?}: a check where a number is sent that could change the quote.
create or replace function private.begin_preview(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_org_id constant uuid := private.require_membership();
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_country text := private.upper_ascii(b ->> 'country');
  v_number constant text := private.bare_btw(left(b ->> 'btwNumber', 100));
begin
  perform private.require_permission('canManageBilling');
  perform private.plan_price(b ->> 'planId', coalesce(b ->> 'billingInterval', 'monthly'));
  if v_country is not null and not exists (select from public.countries c where c.code = v_country) then
    perform private.refuse_field('country', 'country is the two-letter code of a country, such as NL.');
  end if;
  v_country := coalesce(v_country, (select d.country from public.billing_details d where d.organization_id = v_org_id));
  return jsonb_strip_nulls(jsonb_build_object('organizationId', v_org_id, 'check', case
    when v_country <> 'NL' and exists (select from public.countries c where c.code = v_country and c.vat_prefix = left(v_number, 2))
    then private.check_btw(v_number) end));
end
$$;
comment on function private.begin_preview is
  'Checks what a quote is asked for, and says whether VIES has to be asked. Errors: 400 VALIDATION_ERROR, PLAN_NOT_SELF_SERVICE, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED.';

create or replace function api.preview_subscription(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_check jsonb := private.begin_preview(p) -> 'check';
  v_number text := private.bare_btw(left(b ->> 'btwNumber', 100));
  v_is_valid boolean;
  d public.billing_details;
begin
  if v_check is not null and coalesce(p -> 'answer', 'null') <> 'null' then
    v_check := private.check_btw(v_number, p -> 'answer');
  end if;
  select * into d from public.billing_details x where x.organization_id = private.org_id();
  -- The stored number keeps what was known of it while VIES is unavailable.
  v_is_valid := coalesce(v_check ->> 'outcome' = 'valid', false)
    or (v_number is null or v_number = d.btw_number and coalesce(v_check ->> 'outcome' in ('unavailable', 'unasked'), false)) and private.is_btw_valid(d);
  return private.tax_quote(private.plan_price(b ->> 'planId', coalesce(b ->> 'billingInterval', 'monthly')),
    coalesce(private.upper_ascii(b ->> 'country'), d.country), coalesce(v_number, d.btw_number), v_is_valid);
end
$$;
comment on function api.preview_subscription is
  'POST /billing/preview: TaxQuote. Errors: 400 VALIDATION_ERROR, PLAN_NOT_SELF_SERVICE, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED.';
grant execute on function api.preview_subscription, private.begin_btw_check, private.begin_preview, private.check_btw, private.btw_result_json,
  private.is_btw_valid, private.is_oss_enabled, private.bare_btw, private.upper_ascii, private.tax_quote, private.vat_of, private.vat_rate to authenticated;
