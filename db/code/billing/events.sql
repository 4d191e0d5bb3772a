-- Events of Stripe (contract 50, section 8.1): stored once, applied once. The server has checked the signature.

-- payloads: events as Stripe sent them, of which several may come at once; they share a transaction, so one that fails undoes all, and the
-- server sends each by itself then. p_is_live: is the key that is set one for real money? null: no key is set. The answers are in the order of
-- the events.
create or replace function private.take_stripe_events(p_payloads jsonb[], p_is_live boolean, p_request_ids text[] default null) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_payload jsonb;
  v_object jsonb;
  e private.stripe_events;
  v_rows private.stripe_events[] := '{}';
  v_known jsonb;
  v_answers jsonb := '[]';
  v_settled text[] := '{}';
  f record;
begin
  if cardinality(p_payloads) > 1 then
    -- One organization whose subscription is locked must not hold up the events of others.
    perform set_config('lock_timeout', '200ms', true);
  end if;
  -- Duplicates at the same time wait here, all in one order. A row is written once, when its outcome is known.
  perform pg_advisory_xact_lock(k) from (select hashtextextended(p ->> 'id', 64) as k from unnest(p_payloads) p order by 1) x;
  select jsonb_object_agg(x.id, x.outcome) into v_known from private.stripe_events x
  where x.id = any (array(select p ->> 'id' from unnest(p_payloads) p)) and x.processed_at is not null;
  for n in 1 .. cardinality(p_payloads) loop
    v_payload := p_payloads[n];
    e.id := v_payload ->> 'id';
    e.type := v_payload ->> 'type';
    if v_known ? e.id then
      v_answers := v_answers || jsonb_build_object('status', 'already_processed', 'eventType', e.type, 'outcome', v_known -> e.id);
      continue;
    end if;
    if p_request_ids is not null then
      perform set_config('app.request_id', p_request_ids[n], true);
    end if;
    v_object := v_payload #> '{data,object}';
    e.created := coalesce(private.stripe_time(v_payload -> 'created'), now());
    e.livemode := coalesce((v_payload ->> 'livemode')::boolean, false);
    if e.livemode <> p_is_live or jsonb_typeof(v_object) is distinct from 'object' then
      e.outcome := 'ignored';
      e.organization_id := null;
      e.alerts := null;
    else
      if e.type = 'payment_method.detached' then
        v_object := private.whole_stripe_object(v_payload);
      end if;
      f := private.apply_stripe_fact(e.type, v_object, e.created, e.id);
      e.outcome := f.outcome;
      e.organization_id := f.organization_id;
      e.alerts := f.alerts;
    end if;
    e.api_version := v_payload ->> 'api_version';
    e.payload := v_payload;
    e.received_at := now();
    e.customer_id := case when v_object ->> 'object' = 'customer' then v_object ->> 'id' else private.stripe_id(v_object -> 'customer') end;
    e.processed_at := case when e.outcome <> 'unmatched' then now() end;
    e.error := case when e.outcome = 'unmatched' then e.alerts[1] end;
    e.next_try_at := case when e.outcome = 'unmatched' then now() + interval '1 minute' end;
    e.attempts := 1;
    v_rows := v_rows || e;
    if e.outcome = 'processed' and e.customer_id is not null then
      v_settled := v_settled || e.customer_id;
    end if;
    v_known := coalesce(v_known, '{}') || jsonb_build_object(e.id, e.outcome);
    v_answers := v_answers || jsonb_strip_nulls(jsonb_build_object('status', 'ok', 'eventType', e.type, 'outcome', e.outcome, 'alerts', to_jsonb(e.alerts)));
  end loop;
  insert into private.stripe_events as x select r.* from unnest(v_rows) r
  on conflict (id) do update set payload = excluded.payload, processed_at = excluded.processed_at, outcome = excluded.outcome, error = excluded.error,
    organization_id = excluded.organization_id, customer_id = excluded.customer_id, alerts = excluded.alerts, next_try_at = excluded.next_try_at, attempts = x.attempts + 1;
  -- What these events made known may be what others waited for.
  perform private.retry_stripe_events(now(), c.id)
  from (select distinct x.customer_id as id from private.stripe_events x where x.outcome = 'unmatched' and x.customer_id = any (v_settled) order by 1) c;
  return v_answers;
end
$$;
comment on function private.take_stripe_events is
  'Stores and applies events whose signatures were checked: {status, eventType, outcome, alerts?}[]. Authorization: callable by the server only.';
grant execute on function private.take_stripe_events to kijko_server;

-- What servers of the release before call, as long as they stand beside those of this one.
create or replace function private.take_stripe_event(p_payload jsonb, p_is_live boolean) returns jsonb
language sql volatile security definer set search_path = ''
return private.take_stripe_events(array[p_payload], p_is_live) -> 0;
comment on function private.take_stripe_event is
  'take_stripe_events of one event, for servers of the release before. Authorization: callable by the server only.';
grant execute on function private.take_stripe_event to kijko_server;

-- A detached method names no customer any more; the event says which one it was.
create or replace function private.whole_stripe_object(p_payload jsonb) returns jsonb
language sql stable parallel safe
return case when p_payload ->> 'type' = 'payment_method.detached' and p_payload #> '{data,object,customer}' = 'null'
    and p_payload #> '{data,previous_attributes,customer}' is not null
  then (p_payload #> '{data,object}') || jsonb_build_object('customer', p_payload #> '{data,previous_attributes,customer}')
  else p_payload #> '{data,object}' end;
comment on function private.whole_stripe_object is 'The object of an event, with the customer that it had.';

-- In a transaction of its own: the one that failed is rolled back, and leaves nothing else behind.
create or replace function private.note_failed_stripe_event(p_payload jsonb, p_error text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.stripe_events as e (id, type, api_version, created, livemode, payload, outcome, error, customer_id)
  values (p_payload ->> 'id', p_payload ->> 'type', p_payload ->> 'api_version', case when jsonb_typeof(p_payload -> 'created') = 'number' then
    private.stripe_time(p_payload -> 'created') else now() end, coalesce(p_payload ->> 'livemode' = 'true', false), p_payload, 'failed', left(p_error, 1000),
    private.stripe_id(p_payload #> '{data,object,customer}'))
  on conflict (id) do update set outcome = 'failed', error = excluded.error, attempts = e.attempts + 1, next_try_at = null where e.processed_at is null;
  return '{}';
end
$$;
comment on function private.note_failed_stripe_event is 'Keeps why an event could not be applied; Stripe sends it again. Authorization: callable by the server only.';
grant execute on function private.note_failed_stripe_event to kijko_server;

-- Unmatched events are tried 1, 5 and 30 minutes after they came, and when an event about the same customer was applied.
create or replace function private.retry_stripe_event(p_id text, p_at timestamptz default now()) returns text
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_minutes constant integer[] := array[1, 5, 30];
  e private.stripe_events;
  f record;
  v_problem text;
begin
  perform pg_advisory_xact_lock(hashtextextended(p_id, 64));
  select * into e from private.stripe_events x where x.id = p_id for update;
  if e.processed_at is not null or e.payload is null then
    return e.outcome;
  end if;
  begin
    select * into f from private.apply_stripe_fact(e.type, private.whole_stripe_object(e.payload), e.created, e.id);
  exception when others then
    v_problem := format('%s (%s)', sqlerrm, sqlstate);
    select 'failed' as outcome, null::uuid as organization_id, null::text[] as alerts into f;
  end;
  update private.stripe_events x set attempts = e.attempts + 1, outcome = f.outcome, organization_id = f.organization_id, alerts = f.alerts,
    processed_at = case when f.outcome not in ('unmatched', 'failed') then p_at end,
    error = case f.outcome when 'failed' then left(v_problem, 1000) when 'unmatched' then f.alerts[1] end,
    next_try_at = case when f.outcome = 'unmatched' then e.received_at + (select min(m) from unnest(c_minutes) m where e.received_at + m * interval '1 minute' > p_at) * interval '1 minute' end
  where x.id = p_id;
  return f.outcome;
end
$$;
comment on function private.retry_stripe_event is 'Applies a stored event again; gives its outcome. Authorization: callable by functions of ours only.';

create or replace function private.retry_stripe_events(p_at timestamptz default now(), p_customer_id text default null) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id text;
  v_count integer := 0;
  v_progress boolean;
begin
  loop
    v_progress := false;
    for v_id in
      select e.id from private.stripe_events e
      where e.outcome = 'unmatched' and case when p_customer_id is null then e.next_try_at <= p_at else e.customer_id = p_customer_id end
      order by e.created, e.id limit 100 for update skip locked
    loop
      v_count := v_count + 1;
      v_progress := private.retry_stripe_event(v_id, p_at) not in ('unmatched', 'failed') or v_progress;
    end loop;
    exit when p_customer_id is null or not v_progress;
  end loop;
  return v_count;
end
$$;
comment on function private.retry_stripe_events is 'Tries unmatched events again: those that are due, or those of a customer. Authorization: callable by schedules and functions of ours only.';

-- A plan that lapses (or is back) while the status stays: granted units and rules of requests follow it.
create or replace function private.apply_plan(p_org_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.take_back_grants(p_org_id);
  if exists (select from public.security_policies p where p.organization_id = p_org_id) then
    perform private.derive_guard(p_org_id);
  end if;
end
$$;
comment on function private.apply_plan is 'Makes granted units and rules of requests follow the plan in effect. Authorization: callable by functions of ours only.';

create or replace function private.sweep_billing(p_at timestamptz default now()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.retry_stripe_events(p_at);
  perform private.queue_changed_rates();
  -- 14 days after the first failed payment the plan is free. Units that were granted under it go back.
  perform private.apply_plan(s.organization_id) from public.subscriptions s
  where s.status = 'past_due' and private.is_lapsed(s.organization_id, s.stripe_subscription_id, p_at)
    and exists (select from public.usage_counters c where c.organization_id = s.organization_id and c.metric <> 'storage' and c.granted <> c.used
      and c.granted_under <> private.plan_limit(s.organization_id, c.metric));
end
$$;
comment on function private.sweep_billing is 'Tries unmatched events of Stripe again, has changed rates of VAT copied, and applies plans that lapsed. Authorization: callable by schedules only.';

-- The server names its prices at its start. Former ones stay, because subscriptions keep theirs.
create or replace function private.declare_stripe_prices(p_prices jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.stripe_prices as p (price_id, plan_id, billing_interval)
  select e.value ->> 'price', e.value ->> 'plan', e.value ->> 'interval' from jsonb_array_elements(p_prices) e (value) order by 1
  on conflict (price_id) do update set plan_id = excluded.plan_id, billing_interval = excluded.billing_interval
  where (p.plan_id, p.billing_interval) <> (excluded.plan_id, excluded.billing_interval);
end
$$;
comment on function private.declare_stripe_prices is 'Keeps the prices of the settings: [{price, plan, interval}]. Authorization: callable by the server and the worker only.';
grant execute on function private.declare_stripe_prices to kijko_server, kijko_worker;

-- ------------------------------------------------------------------------------------------------------------------------------- staff

create or replace function private.webhook_event_json(e private.stripe_events) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', e.id, 'type', e.type, 'created', private.iso(e.created), 'outcome', e.outcome, 'error', e.error,
  'processedAt', private.iso(e.processed_at)));
comment on function private.webhook_event_json is 'An event of Stripe as staff see it.';

create or replace function api.list_webhook_events(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_at record;
  v_outcome constant text := p ->> 'outcome';
begin
  perform private.assert_platform_admin();
  v_at := private.page(p, 50);
  if v_outcome is not null and v_outcome not in ('processed', 'stale', 'superseded', 'ignored', 'unmatched', 'failed') then
    perform private.refuse_field('outcome', 'outcome is processed, stale, superseded, ignored, unmatched or failed.');
  end if;
  return (
    select coalesce(jsonb_agg(private.webhook_event_json(x) order by x.received_at desc, x.id desc), '[]')
    from (select * from private.stripe_events e where v_outcome is null or e.outcome = v_outcome
      order by e.received_at desc, e.id desc limit v_at.size offset v_at.skipped) x
  );
end
$$;
comment on function api.list_webhook_events is
  'GET /admin/webhook-events: {id, type, created, outcome, error?, processedAt?}[]. Authorization: the staff of this platform only. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN.';

create or replace function api.replay_webhook_event(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id constant text := left(p ->> 'eventId', 255);
  e private.stripe_events;
  v_outcome text;
begin
  perform private.assert_platform_admin();
  perform pg_advisory_xact_lock(hashtextextended(v_id, 64));
  select * into e from private.stripe_events x where x.id = v_id;
  if e.id is null then
    perform private.refuse(404, 'NOT_FOUND', format('Event with ID %s not found', left(v_id, 100)));
  elsif e.processed_at is not null then
    perform private.refuse(409, 'EVENT_PROCESSED', 'The event was applied already.', null, jsonb_build_object('outcome', e.outcome));
  elsif e.payload is null then
    perform private.refuse(409, 'EVENT_EMPTIED', 'The content of the event was deleted after 30 days. Send it again from Stripe''s dashboard.');
  end if;
  v_outcome := private.retry_stripe_event(v_id);
  perform private.audit('system.webhook_replayed', format('Applied an event of Stripe again: %s.', v_outcome),
    jsonb_build_object('eventId', e.id, 'type', e.type, 'outcome', v_outcome));
  return jsonb_build_object('status', v_outcome);
end
$$;
comment on function api.replay_webhook_event is
  'POST /admin/webhook-events/{eventId}/replay: {status}. Authorization: the staff of this platform only. Errors: 403 FORBIDDEN, 404 NOT_FOUND, 409 EVENT_EMPTIED, EVENT_PROCESSED.';
grant execute on function api.list_webhook_events, api.replay_webhook_event to authenticated;
