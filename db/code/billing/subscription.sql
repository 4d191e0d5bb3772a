-- Plans and the subscription (contract 50, sections 1 and 2). Writes to a payment provider are no part of this; what they would lead to is.

create or replace function private.plan_json(p public.plans) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', p.id, 'name', p.name, 'price', p.price, 'annualPrice', p.annual_price, 'description', p.description,
  'features', p.features, 'limits', jsonb_build_object('apiCalls', p.api_calls, 'ingestions', p.ingestions, 'storageGb', p.storage_gb, 'seats', p.seats,
    'oracleQueries', p.oracle_queries), 'isPopular', case when p.is_popular then true end));
comment on function private.plan_json is 'Plan.';
grant execute on function private.plan_json to anon, authenticated;

create or replace function private.owner_of(p_org_id uuid) returns uuid
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (select m.user_id from public.memberships m where m.organization_id = p_org_id and m.role = 'owner');
end
$$;
comment on function private.owner_of is 'The owner of an organization. Authorization: callable by functions of ours only.';

create or replace function private.owner_id() returns uuid
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return private.owner_of(private.org_id());
end
$$;
comment on function private.owner_id is 'The owner of the organization that the caller acts in. Authorization: private.org_id() only.';
grant execute on function private.owner_id to authenticated;

-- Without a period of a payment provider the period is the calendar month: nothing has to move it.
create or replace function private.subscription_json(s public.subscriptions, p_at timestamptz default now()) returns jsonb
language sql stable
return jsonb_strip_nulls(jsonb_build_object('id', s.id, 'userId', private.owner_id(), 'planId', s.plan_id, 'status', s.status,
  'billingInterval', s.billing_interval, 'stripeSubscriptionId', s.stripe_subscription_id,
  'currentPeriodStart', private.iso(coalesce(s.current_period_start, date_trunc('month', p_at at time zone 'UTC') at time zone 'UTC')),
  'currentPeriodEnd', private.iso(coalesce(s.current_period_end, (date_trunc('month', p_at at time zone 'UTC') + interval '1 month') at time zone 'UTC')),
  'cancelAtPeriodEnd', s.cancel_at_period_end, 'trialEnd', private.iso(s.trial_end), 'createdAt', private.iso(s.created_at),
  'updatedAt', private.iso(s.updated_at), 'pendingPlanId', s.pending_plan_id, 'pendingBillingInterval', s.pending_billing_interval));
comment on function private.subscription_json is 'Subscription.';
grant execute on function private.subscription_json to authenticated;

-- The net price of a plan that people buy themselves, in cents.
create or replace function private.plan_price(p_plan_id text, p_interval text) returns bigint
language plpgsql stable
as $$
declare
  t public.plans;
begin
  select * into t from public.plans x where x.id = p_plan_id;
  if t.id = 'enterprise' then
    perform private.refuse(400, 'PLAN_NOT_SELF_SERVICE', 'The plan Enterprise is agreed on with sales.', 'planId');
  elsif t.monthly_cents is null then
    perform private.refuse_field('planId', 'planId is pro or teams.');
  elsif p_interval is null or p_interval not in ('monthly', 'annually') then
    perform private.refuse_field('billingInterval', 'billingInterval is monthly or annually.');
  end if;
  return case p_interval when 'monthly' then t.monthly_cents else t.yearly_cents end;
end
$$;
comment on function private.plan_price is 'What a period of a plan costs. Errors: 400 VALIDATION_ERROR, PLAN_NOT_SELF_SERVICE.';
grant execute on function private.plan_price to authenticated;
