-- Counts a unit. The fast way moves one row: any slot of the counter that no other transaction holds right now, that counts this day, and
-- whose grant has room. Everything else (a first unit, a new day, a used-up grant, a changed limit, all slots busy) goes the slow way, one
-- caller a counter at a time.
--   Exact: the grants of all slots together stay within the limit, and a slot within its grant. Grants are given and taken back under
--   the counter's lock only, and taking back waits for every transaction that uses the slot. So of any number of callers at limit - 1 one
--   passes.
--   A grant is as good as the limit: a transaction that changes a subscription or a plan takes the grants back itself (limits.sql), so the
--   fast way need not read either.
--   A transaction that holds a slot already (a second unit in one transaction, or a slot whose room another transaction took at that very
--   moment) may deadlock with one that takes grants back near the limit. Postgres ends one of them, and it is tried again like any
--   deadlock.

-- Grants are large while there is much left and exact at the end, so the slow way is rare until it has to decide.
create or replace function private.next_grant(p_amount bigint, p_left bigint) returns bigint
language sql immutable parallel safe
return least(p_left, greatest(p_amount, p_left / 64));
comment on function private.next_grant is 'How much of what is left of a limit a slot gets at once.';

-- A day that is over: its units move to usage_days.
create or replace function private.close_usage_day(p public.usage_counters) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p.day > date '1970-01-01' then
    insert into public.usage_days as d (organization_id, metric, day, value) values (p.organization_id, p.metric, p.day, p.day_value)
    on conflict (organization_id, metric, day) do update
      set value = case when p.metric = 'storage' then excluded.value else d.value + excluded.value end;
  end if;
end
$$;
comment on function private.close_usage_day is 'Keeps the units of a slot''s day. Authorization: callable by functions of ours only.';

create or replace function private.units_used(p_org_id uuid, p_metric text, p_period date) returns bigint
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select coalesce(sum(c.used), 0) from public.usage_counters c
    where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period);
end
$$;
comment on function private.units_used is 'Units of a counter over all its slots. Authorization: callable by functions of ours only.';

create or replace function private.consume_slowly(
  p_org_id uuid, p_metric text, p_amount bigint, p_period date, p_day date, out quota bigint, out used bigint
)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_slots constant integer := 32;
  v public.usage_counters;
  v_cap bigint;
  v_slots integer;
  v_last smallint;
  v_granted bigint;
  v_grant bigint := 0;
begin
  perform pg_advisory_xact_lock(private.usage_lock(p_org_id, p_metric));
  perform pg_advisory_xact_lock_shared(private.plans_lock());
  -- Read under the locks that a change of the subscription or of the plans takes: no grant outlives its limit.
  quota := private.plan_limit(p_org_id, p_metric);
  v_cap := case when quota < 0 then 1::bigint << 60 else quota end;
  select count(*), coalesce(max(c.slot), -1), coalesce(sum(c.granted), 0) into v_slots, v_last, v_granted
  from public.usage_counters c where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period;

  if exists (select from public.usage_counters c where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period
      and (c.granted_under <> quota or c.used > c.granted)) or v_granted + p_amount > v_cap then
    -- Takes back the granted but unused units, under the present limit. Waits for transactions that use a slot.
    perform from public.usage_counters c where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period
    order by c.slot for update;
    update public.usage_counters c set granted = c.used, granted_under = quota
    where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period
      and (c.granted <> c.used or c.granted_under <> quota);
    v_granted := private.units_used(p_org_id, p_metric, p_period);
    if v_granted + p_amount > v_cap then
      used := v_granted + p_amount;
      return;
    end if;
  end if;

  -- A slot that is free; else a new one, which keeps the next caller from waiting; else wait for one.
  select c.* into v from public.usage_counters c
  where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period
  order by c.granted - c.used desc, c.slot limit 1 for update skip locked;
  if not found and v_slots < c_slots then
    insert into public.usage_counters (organization_id, metric, period, slot, is_alone, granted_under, day, is_metered)
    values (p_org_id, p_metric, p_period, v_last + 1, v_slots = 0, quota, p_day, private.is_metered()) returning * into v;
    update public.usage_counters c set is_alone = false
    where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period and c.is_alone and v_slots > 0;
  elsif not found then
    select c.* into v from public.usage_counters c
    where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period
      and c.slot = (floor(random() * c_slots))::smallint for update;
  end if;

  if v.used + p_amount > v.granted then
    v_grant := private.next_grant(v.used + p_amount - v.granted, v_cap - v_granted);
  end if;
  if v.day <> p_day then
    perform private.close_usage_day(v);
    v.day_value := 0;
  end if;
  update public.usage_counters c
  set used = c.used + p_amount, granted = c.granted + v_grant, day = p_day, day_value = v.day_value + p_amount, updated_at = now()
  where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period and c.slot = v.slot;
  used := private.units_used(p_org_id, p_metric, p_period);
end
$$;
comment on function private.consume_slowly is
  'Counts units of a counter whose slots cannot take them as they are; gives the limit and what is used then, or more than the limit when it forbids that. Authorization: callable by functions of ours only.';

-- Storage: a gauge in bytes, which also goes down; one slot, one writer at a time. Growth past the limit is refused.
create or replace function private.consume_storage(p_org_id uuid, p_bytes bigint, p_limit bigint, p_at timestamptz) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v public.usage_counters;
  v_cap constant bigint := case when p_limit < 0 then 1::bigint << 60 else p_limit * 1073741824 end;
  v_day date := (p_at at time zone 'UTC')::date;
begin
  loop
    select c.* into v from public.usage_counters c
    where c.organization_id = p_org_id and c.metric = 'storage' and c.period = date '1970-01-01' and c.slot = 0 for update;
    exit when found;
    -- Under the lock of a change of metering, as in consume_slowly.
    perform pg_advisory_xact_lock_shared(private.plans_lock());
    insert into public.usage_counters (organization_id, metric, period, day, is_metered) values (p_org_id, 'storage', '1970-01-01', v_day, private.is_metered())
    on conflict do nothing;
  end loop;
  if p_bytes > 0 and v.used + p_bytes > v_cap then
    perform private.refuse_quota(p_org_id, 'storage', p_bytes, p_limit, v.used, p_at);
  end if;
  if v.day <> v_day then
    perform private.close_usage_day(v);
  end if;
  update public.usage_counters c
  set used = greatest(c.used + p_bytes, 0), day = v_day, day_value = greatest(c.used + p_bytes, 0), updated_at = now()
  where c.organization_id = p_org_id and c.metric = 'storage' and c.period = date '1970-01-01' and c.slot = 0;
  if p_bytes > 0 and p_limit > 0 and (v.used + p_bytes) * 5 >= v_cap * 4 and (v.used * 5 < v_cap * 4 or v.used + p_bytes >= v_cap) then
    perform private.notify_quota(p_org_id, 'storage', v.used + p_bytes, v_cap, date_trunc('month', p_at at time zone 'UTC')::date);
  end if;
end
$$;
comment on function private.consume_storage is
  'Adds bytes to an organization''s storage or gives them back. Authorization: callable by functions of ours only. Errors: 429 QUOTA_EXCEEDED.';

-- Counters: amount > 0, never past the limit, not even with the first row of a window. Storage: bytes, may be negative.
create or replace function private.consume_quota(p_org_id uuid, p_metric text, p_amount bigint, p_at timestamptz default now())
returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_period date;
  v_day date := (p_at at time zone 'UTC')::date;
  v_limit bigint;
  v_used bigint;
  v_is_alone boolean;
  -- Headers are for requests; a background job has no reader for them.
  v_asked boolean := current_setting('app.wakes', true) is not distinct from 'on';
  v_void text;
begin
  if p_metric = 'storage' then
    v_void := private.consume_storage(p_org_id, p_amount, private.plan_limit(p_org_id, p_metric), p_at);
    return;
  end if;
  v_period := private.usage_period(p_metric, p_at);
  -- The fast way. The row that the inner part has locked may be newer than the snapshot. The outer part then reads it again and finds it
  -- locked by this transaction. The inner part stands alone, so it runs once; in a join it could run for each slot and lock several.
  update public.usage_counters c
  set used = c.used + p_amount, day_value = c.day_value + p_amount, updated_at = now()
  where c.organization_id = p_org_id and c.metric = p_metric and c.period = v_period and c.slot = (
    select u.slot from public.usage_counters u
    where u.organization_id = p_org_id and u.metric = p_metric and u.period = v_period and u.day = v_day and u.used + p_amount <= u.granted
    limit 1 for no key update skip locked)
  returning c.granted_under, c.used, c.is_alone into v_limit, v_used, v_is_alone;
  if not found then
    select s.quota, s.used into v_limit, v_used from private.consume_slowly(p_org_id, p_metric, p_amount, v_period, v_day) s;
    if v_limit >= 0 and v_used > v_limit then
      v_void := private.refuse_quota(p_org_id, p_metric, p_amount, v_limit, v_used - p_amount, p_at);
    end if;
  end if;
  if v_limit < 0 then
    return;
  elsif not v_is_alone then
    -- The worker looks at the sum of a spread counter (private.notify_spread_quotas); here only a request does, for its headers.
    if not v_asked then
      return;
    end if;
    v_used := private.units_used(p_org_id, p_metric, v_period);
  end if;
  -- The first units beyond 80 % (transactions at work do not see each other's units) and the last one: reported once a window.
  if v_used * 5 >= v_limit * 4 and (v_used >= v_limit or (v_used - p_amount - 64) * 5 < v_limit * 4) then
    v_void := private.notify_quota(p_org_id, p_metric, v_used, v_limit, v_period);
  end if;
  if v_asked then
    v_void := private.set_headers(jsonb_build_object('X-RateLimit-Limit', v_limit::text, 'X-RateLimit-Remaining',
      greatest(v_limit - v_used, 0)::text, 'X-RateLimit-Reset',
      floor(extract(epoch from private.usage_resets_at(p_metric, p_at)))::bigint::text));
  end if;
end
$$;
comment on function private.consume_quota is
  'Counts units of a plan limit in this transaction, or refuses with 429 QUOTA_EXCEEDED. Authorization: callable by definer functions and triggers of ours only.';

-- Units go back to the counter that they were taken from. The counter of a past period is not read any more.
create or replace function private.give_back_quota(p_org_id uuid, p_metric text, p_period date, p_day date, p_units bigint) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c public.usage_counters;
  v_left bigint := p_units;
  v_part bigint;
begin
  for c in
    select * from public.usage_counters u
    where u.organization_id = p_org_id and u.metric = p_metric and u.period = p_period order by u.slot for update
  loop
    exit when v_left = 0;
    v_part := least(v_left, c.used, case when c.day = p_day then c.day_value else c.used end);
    update public.usage_counters u
    set used = u.used - v_part, day_value = u.day_value - case when c.day = p_day then v_part else 0 end, updated_at = now()
    where u.organization_id = p_org_id and u.metric = p_metric and u.period = p_period and u.slot = c.slot;
    if c.day <> p_day then
      update public.usage_days d set value = greatest(d.value - v_part, 0)
      where d.organization_id = p_org_id and d.metric = p_metric and d.day = p_day;
    end if;
    v_left := v_left - v_part;
  end loop;
end
$$;
comment on function private.give_back_quota is 'Takes units that were not used off their counter. Authorization: callable by functions of ours only.';
