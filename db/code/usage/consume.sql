-- Counting a unit. The fast way moves one row: any slot of the counter that nobody else holds right now, that counts this day, and whose
-- grant has room. Everything else (a first unit, a new day, a used-up grant, a changed limit, all slots busy) goes the slow way, one
-- caller a counter at a time.
--   Exact: the grants of all slots together stay within the limit, and a slot within its grant. Grants are given and taken back under
--   the counter's lock only, and taking back waits for whoever is using the slot. So of any number of callers at limit - 1 one passes.
--   Two units of one counter in one transaction may deadlock with somebody who is taking grants back near the limit; Postgres ends one
--   of them, and it is tried again like any deadlock.

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
comment on function private.close_usage_day is 'Keeps the units of a slot''s day. Judges: callable by functions of ours only.';

create or replace function private.units_used(p_org_id uuid, p_metric text, p_period date) returns bigint
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select coalesce(sum(c.used), 0) from public.usage_counters c
    where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period);
end
$$;
comment on function private.units_used is 'Units of a counter over all its slots. Judges: callable by functions of ours only.';

create or replace function private.consume_slowly(
  p_org_id uuid, p_metric text, p_amount bigint, p_period date, p_day date, p_limit bigint, p_cap bigint
) returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_slots constant integer := 32;
  v public.usage_counters;
  v_slots integer;
  v_last smallint;
  v_granted bigint;
  v_grant bigint := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended(format('usage %s %s', p_org_id, p_metric), 0));
  select count(*), coalesce(max(c.slot), -1), coalesce(sum(c.granted), 0) into v_slots, v_last, v_granted
  from public.usage_counters c where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period;

  if exists (select from public.usage_counters c where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period
      and (c.granted_under <> p_limit or c.used > c.granted)) or v_granted + p_amount > p_cap then
    -- Take back what is granted and not used, under the limit of now. Waits for those who are using a slot.
    perform from public.usage_counters c where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period
    order by c.slot for update;
    update public.usage_counters c set granted = c.used, granted_under = p_limit
    where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period
      and (c.granted <> c.used or c.granted_under <> p_limit);
    select coalesce(sum(c.used), 0) into v_granted
    from public.usage_counters c where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period;
    if v_granted + p_amount > p_cap then
      return v_granted + p_amount;
    end if;
  end if;

  -- A slot that is free; else a new one, which keeps the next caller from waiting; else wait for one.
  select c.* into v from public.usage_counters c
  where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period
  order by c.granted - c.used desc, c.slot limit 1 for update skip locked;
  if not found and v_slots < c_slots then
    insert into public.usage_counters (organization_id, metric, period, slot, is_alone, granted_under, day)
    values (p_org_id, p_metric, p_period, v_last + 1, v_slots = 0, p_limit, p_day) returning * into v;
    update public.usage_counters c set is_alone = false
    where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period and c.is_alone and v_slots > 0;
  elsif not found then
    select c.* into v from public.usage_counters c
    where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period
      and c.slot = (floor(random() * c_slots))::smallint for update;
  end if;

  if v.used + p_amount > v.granted then
    v_grant := private.next_grant(v.used + p_amount - v.granted, p_cap - v_granted);
  end if;
  if v.day <> p_day then
    perform private.close_usage_day(v);
    v.day_value := 0;
  end if;
  update public.usage_counters c
  set used = c.used + p_amount, granted = c.granted + v_grant, day = p_day, day_value = v.day_value + p_amount, updated_at = now()
  where c.organization_id = p_org_id and c.metric = p_metric and c.period = p_period and c.slot = v.slot;
  return private.units_used(p_org_id, p_metric, p_period);
end
$$;
comment on function private.consume_slowly is
  'Counts units of a counter whose slots cannot take them as they are; gives what is used then, or more than the cap when it forbids that. Judges: callable by functions of ours only.';

-- Storage: a gauge in bytes, which also goes down; one slot, one writer at a time. Growth past the limit is refused.
create or replace function private.consume_storage(p_org_id uuid, p_bytes bigint, p_limit bigint, p_cap bigint, p_at timestamptz) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v public.usage_counters;
  v_day date := (p_at at time zone 'UTC')::date;
begin
  loop
    select c.* into v from public.usage_counters c
    where c.organization_id = p_org_id and c.metric = 'storage' and c.period = date '1970-01-01' and c.slot = 0 for update;
    exit when found;
    insert into public.usage_counters (organization_id, metric, period, day) values (p_org_id, 'storage', '1970-01-01', v_day)
    on conflict do nothing;
  end loop;
  if p_bytes > 0 and v.used + p_bytes > p_cap then
    perform private.refuse_quota(p_org_id, 'storage', p_bytes, p_limit, v.used, p_at);
  end if;
  if v.day <> v_day then
    perform private.close_usage_day(v);
  end if;
  update public.usage_counters c
  set used = greatest(c.used + p_bytes, 0), day = v_day, day_value = greatest(c.used + p_bytes, 0), updated_at = now()
  where c.organization_id = p_org_id and c.metric = 'storage' and c.period = date '1970-01-01' and c.slot = 0;
  if p_bytes > 0 and p_limit > 0 and (v.used + p_bytes) * 5 >= p_cap * 4 and (v.used * 5 < p_cap * 4 or v.used + p_bytes >= p_cap) then
    perform private.tell_quota(p_org_id, 'storage', v.used + p_bytes, p_cap, date_trunc('month', p_at at time zone 'UTC')::date);
  end if;
end
$$;
comment on function private.consume_storage is
  'Adds bytes to an organization''s storage or gives them back. Judges: callable by functions of ours only. Errors: 429 QUOTA_EXCEEDED.';

-- Counters: amount > 0, never past the limit, not even with the first row of a window. Storage: bytes, may be negative.
create or replace function private.consume_quota(p_org_id uuid, p_metric text, p_amount bigint, p_at timestamptz default now())
returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_period date := private.usage_period(p_metric, p_at);
  v_day date := (p_at at time zone 'UTC')::date;
  v_limit bigint;
  v_cap bigint;
  v_slot smallint;
  v_used bigint;
  v_is_alone boolean;
  v_void text;
begin
  -- The fast way: the limit of now and a slot that was granted under it, then one row moved. Two statements: what the first has locked may
  -- be newer than its snapshot, and the second sees it.
  if p_metric <> 'storage' then
    select l.value, f.slot into v_limit, v_slot
    from (select private.limit_of(s, p, p_metric) from public.subscriptions s
      join public.plans p on p.id = case when s.status in ('active', 'trialing', 'past_due') then s.plan_id else 'free' end
      where s.organization_id = p_org_id) l (value)
    cross join lateral (
      select u.slot from public.usage_counters u
      where u.organization_id = p_org_id and u.metric = p_metric and u.period = v_period and u.day = v_day
        and u.granted_under = l.value and u.used + p_amount <= u.granted
      limit 1 for no key update skip locked) f;
    if found then
      update public.usage_counters c
      set used = c.used + p_amount, day_value = c.day_value + p_amount, updated_at = now()
      where c.organization_id = p_org_id and c.metric = p_metric and c.period = v_period and c.slot = v_slot
      returning c.used, c.is_alone into v_used, v_is_alone;
    end if;
  end if;

  if v_limit is null then
    v_limit := private.plan_limit(p_org_id, p_metric);
    v_cap := case when v_limit < 0 then 1::bigint << 60 when p_metric = 'storage' then v_limit * 1073741824 else v_limit end;
    if p_metric = 'storage' then
      v_void := private.consume_storage(p_org_id, p_amount, v_limit, v_cap, p_at);
      return;
    end if;
    v_used := private.consume_slowly(p_org_id, p_metric, p_amount, v_period, v_day, v_limit, v_cap);
    if v_used > v_cap then
      v_void := private.refuse_quota(p_org_id, p_metric, p_amount, v_limit, v_used - p_amount, p_at);
    end if;
  elsif v_limit >= 0 and not v_is_alone then
    v_used := private.units_used(p_org_id, p_metric, v_period);
  end if;
  -- The first units beyond 80 % (those of callers at work are not seen by each other) and the last one: told once a window.
  if v_limit > 0 and v_used * 5 >= v_limit * 4 and (v_used >= v_limit or (v_used - p_amount - 64) * 5 < v_limit * 4) then
    v_void := private.tell_quota(p_org_id, p_metric, v_used, v_limit, v_period);
  end if;
  if v_limit >= 0 then
    v_void := private.set_headers(jsonb_build_object('X-RateLimit-Limit', v_limit::text, 'X-RateLimit-Remaining',
      greatest(v_limit - v_used, 0)::text, 'X-RateLimit-Reset',
      floor(extract(epoch from private.usage_resets_at(p_metric, p_at)))::bigint::text));
  end if;
end
$$;
comment on function private.consume_quota is
  'Counts units of a plan limit in this transaction, or refuses with 429 QUOTA_EXCEEDED. Judges: callable by definer functions and triggers of ours only.';
