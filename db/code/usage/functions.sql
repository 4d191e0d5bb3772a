-- Quotas: the units of a limit that an organization may use in the current period (contract 50, section 5). Counting is in consume.sql. It
-- runs in the transaction of the work it pays for, so a rolled-back work costs nothing.

-- The plan whose limits and gates apply (contract 50, section 1), computed from the subscription, its invoices and the clock. Only a
-- subscription that is past due costs more than reading its row.
create or replace function private.is_lapsed(p_org_id uuid, p_stripe_subscription_id text, p_at timestamptz default now()) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  i public.invoices;
begin
  if p_stripe_subscription_id is null then
    return false;
  elsif exists (select from private.stripe_subscriptions s where s.id = p_stripe_subscription_id and s.status in ('unpaid', 'paused'))
    or not exists (select from public.invoices x where x.stripe_subscription_id = p_stripe_subscription_id and x.status = 'paid' and x.amount_paid > 0
      and x.organization_id = p_org_id) then
    return true;
  end if;
  select * into i from public.invoices x
  where x.stripe_subscription_id = p_stripe_subscription_id and x.status = 'open' and x.organization_id = p_org_id order by x.created_at, x.id limit 1;
  return coalesce(i.attempt_count >= 3 or i.first_failed_at < p_at - interval '14 days', false);
end
$$;
comment on function private.is_lapsed is
  'Did a subscription that is past due lose its plan until it is paid? Authorization: callable by functions of ours only.';

create or replace function private.plan_in_effect(s public.subscriptions) returns text
language sql stable parallel safe
return case when s.status in ('active', 'trialing') then s.plan_id
  when s.status = 'past_due' and not private.is_lapsed(s.organization_id, s.stripe_subscription_id) then s.plan_id else 'free' end;
comment on function private.plan_in_effect is 'The plan that a subscription means now.';

create or replace function private.effective_plan(p_org_id uuid) returns text
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (select private.plan_in_effect(s) from public.subscriptions s where s.organization_id = p_org_id);
end
$$;
comment on function private.effective_plan is 'free, pro, teams or enterprise. Authorization: not callable by request roles for other organizations than through functions of ours.';

create or replace function private.limit_of(s public.subscriptions, p public.plans, p_metric text) returns bigint
language sql immutable parallel safe
return coalesce((s.overrides ->> p_metric)::bigint,
  case p_metric when 'api_calls' then p.api_calls when 'ingestions' then p.ingestions when 'oracle_queries' then p.oracle_queries
    when 'storage' then p.storage_gb when 'seats' then p.seats end);
comment on function private.limit_of is 'Limit of a metric: what the contract with the organization says, else the plan.';

create or replace function private.plan_limit(p_org_id uuid, p_metric text) returns bigint
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (
    select private.limit_of(s, p, p_metric)
    from public.subscriptions s join public.plans p on p.id = private.effective_plan(p_org_id)
    where s.organization_id = p_org_id
  );
end
$$;
comment on function private.plan_limit is 'Limit of a metric for an organization; -1 is unlimited; storage in GB of 1024^3 bytes.';

create or replace function private.audit_horizon() returns timestamptz
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return now() - make_interval(days => (
    select p.audit_retention_days from public.plans p where p.id = private.effective_plan(private.org_id())));
end
$$;
comment on function private.audit_horizon is 'Oldest audit entry that the caller''s plan shows. Authorization: only the caller''s own organization.';
grant execute on function private.audit_horizon to authenticated;

-- The key of the counter row: a new window is a new key, nothing is ever reset.
create or replace function private.usage_period(p_metric text, p_at timestamptz) returns date
language sql immutable parallel safe
return case p_metric when 'oracle_queries' then (p_at at time zone 'UTC')::date when 'storage' then date '1970-01-01'
  else date_trunc('month', p_at at time zone 'UTC')::date end;
comment on function private.usage_period is 'First day of the UTC month, the UTC day (oracle_queries), or the epoch (storage, a gauge).';

create or replace function private.usage_resets_at(p_metric text, p_at timestamptz) returns timestamptz
language sql immutable parallel safe
return case p_metric when 'storage' then null
  when 'oracle_queries' then (private.usage_period(p_metric, p_at) + 1)::timestamp at time zone 'UTC'
  else (private.usage_period(p_metric, p_at) + interval '1 month') at time zone 'UTC' end;
comment on function private.usage_resets_at is 'When the window of a counter ends; null for a gauge.';

create or replace function private.refuse_quota(p_org_id uuid, p_metric text, p_amount bigint, p_limit bigint, p_used bigint, p_at timestamptz)
returns void
language plpgsql stable
as $$
declare
  v_reset timestamptz := private.usage_resets_at(p_metric, p_at);
begin
  perform private.refuse(429, 'QUOTA_EXCEEDED',
    case p_metric
      when 'ingestions' then format('Your plan allows %s ingestions a month and they are used up.', p_limit)
      when 'storage' then 'Your plan''s storage is used up.'
      when 'oracle_queries' then format('Your plan allows %s questions a day and they are used up.', p_limit)
      else format('Your plan allows %s API calls a month and they are used up.', p_limit) end,
    null,
    jsonb_strip_nulls(jsonb_build_object('metric', p_metric, 'limit', p_limit, 'used', p_used, 'requested', p_amount,
      'plan', private.effective_plan(p_org_id), 'resetsAt', private.iso(v_reset))));
end
$$;
comment on function private.refuse_quota is 'Raises 429 QUOTA_EXCEEDED with the numbers of the contract.';
