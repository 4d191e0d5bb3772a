-- The copy of billing details at Stripe (contract 50, section 6): a job of each organization, some seconds after the last keystroke that it
-- covers. Changes of the same five seconds share a job, which begins when they are over.

create or replace function private.queue_details_copy(p_org_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.enqueue('billing.details', jsonb_build_object('organizationId', p_org_id), clock_timestamp() + interval '5 seconds',
    format('billing.details:%s:%s', p_org_id, floor(extract(epoch from clock_timestamp()) / 5)));
end
$$;
comment on function private.queue_details_copy is 'Enqueues the job that copies billing details to Stripe. Authorization: callable by functions of ours only.';

create or replace function private.tg_billing_details__copy() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if exists (select from public.subscriptions s where s.organization_id = new.organization_id and s.stripe_customer_id is not null) then
    perform private.queue_details_copy(new.organization_id);
  end if;
  return null;
end
$$;
comment on function private.tg_billing_details__copy is 'Trigger: details of an organization with a customer at Stripe are copied there.';
create or replace trigger _500_copy after update on public.billing_details for each row
  when ((old.company_name, old.btw_number, old.kvk_number, old.address_line1, old.address_line2, old.city, old.postal_code, old.country, old.btw_status, old.btw_definite)
    is distinct from (new.company_name, new.btw_number, new.kvk_number, new.address_line1, new.address_line2, new.city, new.postal_code, new.country, new.btw_status, new.btw_definite))
  execute function private.tg_billing_details__copy();

create or replace function private.details_to_copy(p_org_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return jsonb_strip_nulls(jsonb_build_object('customer', private.stripe_customer_params(p_org_id, true), 'btwNumber',
    (select d.btw_number from public.billing_details d where d.organization_id = p_org_id), 'taxRate', (select t.rate_id from private.stripe_tax(p_org_id) t)));
end
$$;
comment on function private.details_to_copy is 'What Stripe is to have of an organization''s details. Authorization: callable by functions of ours only.';

-- {organizationId}: {call} to send, {busy} while another call is in flight, or {} where Stripe has all of it.
create or replace function private.plan_details_copy(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org_id constant uuid := private.as_uuid(p ->> 'organizationId');
  v_call uuid;
  s public.subscriptions;
begin
  select * into s from public.subscriptions x where x.organization_id = v_org_id for update;
  if not found or s.stripe_customer_id is null
    or (select x.details from private.stripe_copies x where x.organization_id = v_org_id) is not distinct from private.details_to_copy(v_org_id) then
    return '{}';
  end if;
  select c.id into v_call from private.stripe_calls c where c.organization_id = v_org_id and c.settled_at is null;
  if found then
    return jsonb_build_object('busy', v_call);
  end if;
  return jsonb_build_object('call', private.store_stripe_call(v_org_id, null, 'details', jsonb_build_object('subscriptionId',
    case when private.is_subscription_live(s) then s.stripe_subscription_id end)));
end
$$;
comment on function private.plan_details_copy is 'Plans a copy of billing details: {call}, {busy} or {}. Authorization: callable by the worker only.';
grant execute on function private.plan_details_copy to kijko_worker;

create or replace function private.next_details_step(c private.stripe_calls, s public.subscriptions, p_tax_rate_id text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_path constant text := '/v1/customers/' || s.stripe_customer_id;
  v_number constant text := (select d.btw_number from public.billing_details d where d.organization_id = c.organization_id);
  v_old text;
  v_schedule text;
begin
  if 'details' <> all (c.done) then
    return private.stripe_step(c.id, 'details', 'POST', v_path, private.stripe_customer_params(c.organization_id, true));
  elsif 'tax_ids' <> all (c.done) then
    return private.stripe_step(c.id, 'tax_ids', 'GET', v_path || '/tax_ids', '{"limit": 100}');
  end if;
  v_old := (select x ->> 'id' from jsonb_array_elements(coalesce(c.notes -> 'taxIds', '[]')) x
    where x ->> 'value' is distinct from v_number and 'delete_' || (x ->> 'id') <> all (c.done) limit 1);
  if v_old is not null then
    return private.stripe_step(c.id, 'delete_' || v_old, 'DELETE', v_path || '/tax_ids/' || v_old);
  elsif v_number is not null and 'tax_id' <> all (c.done)
    and not exists (select from jsonb_array_elements(coalesce(c.notes -> 'taxIds', '[]')) x where x ->> 'value' = v_number) then
    return private.stripe_step(c.id, 'tax_id', 'POST', v_path || '/tax_ids', jsonb_build_object('type', 'eu_vat', 'value', v_number));
  elsif c.request ->> 'subscriptionId' is null
    or (select x.tax_rate_id from private.stripe_copies x where x.organization_id = c.organization_id) is not distinct from p_tax_rate_id then
    return null;
  end if;
  -- A downgrade waits in a schedule, whose phases have rates of their own: what the subscription is told does not reach the phase to come.
  v_schedule := (select x.id from private.stripe_schedules x where x.organization_id = c.organization_id and x.subscription_id = c.request ->> 'subscriptionId'
    order by x.created_at limit 1);
  if v_schedule is not null and 'held' <> all (c.done) then
    return private.stripe_step(c.id, 'held', 'GET', '/v1/subscription_schedules/' || v_schedule);
  elsif c.notes ? 'phases' then
    return case when 'held_phases' <> all (c.done) then private.stripe_step(c.id, 'held_phases', 'POST', '/v1/subscription_schedules/' || v_schedule,
      jsonb_build_object('proration_behavior', 'none', 'phases', (select jsonb_agg(x || jsonb_build_object('default_tax_rates', jsonb_build_array(p_tax_rate_id)) order by n)
        from jsonb_array_elements(c.notes -> 'phases') with ordinality y (x, n)))) end;
  elsif 'subscription_tax' <> all (c.done) then
    return private.stripe_step(c.id, 'subscription_tax', 'POST', '/v1/subscriptions/' || (c.request ->> 'subscriptionId'),
      jsonb_build_object('default_tax_rates', jsonb_build_array(p_tax_rate_id)));
  end if;
  return null;
end
$$;
comment on function private.next_details_step is 'The next request of a copy of billing details. Authorization: callable by functions of ours only.';

create or replace function private.apply_details_step(c private.stripe_calls, p_name text, p_body jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_copied jsonb;
begin
  if p_name = 'details' then
    -- Noted first: what changes while the other steps go on is another copy.
    v_copied := private.details_to_copy(c.organization_id);
    -- What was sent is what is copied, if the details changed since the step was stored.
    v_copied := v_copied || jsonb_build_object('customer', c.step -> 'params');
    return jsonb_build_object('notes', jsonb_build_object('copied', v_copied));
  elsif p_name = 'held' and p_body ->> 'status' in ('active', 'not_started') then
    -- A schedule that ended holds the subscription no longer. Of the others each phase is repeated, but for those that are over.
    return jsonb_build_object('notes', jsonb_build_object('phases', (select jsonb_agg(private.repeated_phase(x) order by n)
      from jsonb_array_elements(p_body -> 'phases') with ordinality y (x, n) where coalesce((x ->> 'end_date')::bigint > extract(epoch from now()), true))));
  elsif p_name = 'tax_ids' then
    return jsonb_build_object('notes', jsonb_build_object('taxIds', (select coalesce(jsonb_agg(jsonb_build_object('id', x ->> 'id', 'value', x ->> 'value')), '[]')
      from jsonb_array_elements(p_body -> 'data') x where x ->> 'type' = 'eu_vat')));
  end if;
  return null;
end
$$;
comment on function private.apply_details_step is 'Applies the answer to a step of a copy. Authorization: callable by functions of ours only.';

create or replace function private.note_details_copy(c private.stripe_calls) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.stripe_copies as x (organization_id, tax_rate_id, details, copied_at)
  values (c.organization_id, c.notes #>> '{copied,taxRate}', c.notes -> 'copied', clock_timestamp())
  on conflict (organization_id) do update set tax_rate_id = excluded.tax_rate_id, details = excluded.details, copied_at = excluded.copied_at;
end
$$;
comment on function private.note_details_copy is 'Notes what Stripe has now. Authorization: callable by functions of ours only.';

-- A rate changes on a day, and no row of the organization with it. The job of each stores the copy, which ends its turn here.
create or replace function private.queue_changed_rates() returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.queue_details_copy(c.organization_id) from private.stripe_copies c
  where c.tax_rate_id = any (array(select t.id from private.stripe_tax_rates t where t.rate <> private.vat_rate(t.country, now()))) limit 100;
end
$$;
comment on function private.queue_changed_rates is 'Has subscriptions taxed by the rate that is in force now. Authorization: callable by schedules only.';
