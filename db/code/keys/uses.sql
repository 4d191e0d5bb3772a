-- The records of requests with keys: their number and last moment, the login history, and units of api_calls. A process collects them and
-- writes them each half second, so a read stays a read.

-- uses: [{keyId, count, at (seconds), clientIp, userAgent, device}]; refused: the same without a count, one each refusal of an expired key.
create or replace function private.record_key_uses(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- In the order of ids: processes that write the same keys at once do not wait for each other in a circle.
  perform from public.api_keys k
  where k.id in (select (u ->> 'keyId')::uuid from jsonb_array_elements(p -> 'uses') u) order by k.id for no key update;
  with given as (
    select (u ->> 'keyId')::uuid as id, (u ->> 'count')::bigint as uses, to_timestamp((u ->> 'at')::double precision) as at,
      nullif(u ->> 'clientIp', '') as client_ip, nullif(u ->> 'userAgent', '') as user_agent, u -> 'device' as device
    from jsonb_array_elements(p -> 'uses') u
  ), former as (
    select k.id, k.user_id, k.recorded_on from public.api_keys k join given g on g.id = k.id
  ), counted as (
    update public.api_keys k
    set usage_count = k.usage_count + g.uses, last_used_at = greatest(k.last_used_at, g.at),
      recorded_on = greatest(k.recorded_on, (g.at at time zone 'UTC')::date)
    from given g where g.id = k.id
  )
  insert into private.login_history (user_id, method, status, client_ip, user_agent, device, created_at)
  select f.user_id, 'api_key', 'success', g.client_ip, g.user_agent, g.device, g.at
  from given g join former f on f.id = g.id
  where f.recorded_on is null or f.recorded_on < (g.at at time zone 'UTC')::date;
  insert into private.login_history (user_id, method, status, reason, client_ip, user_agent, device, created_at)
  select k.user_id, 'api_key', 'failed', 'API key expired', nullif(r ->> 'clientIp', ''), nullif(r ->> 'userAgent', ''), r -> 'device',
    to_timestamp((r ->> 'at')::double precision)
  from jsonb_array_elements(p -> 'refused') r
  join public.api_keys k on k.id = (r ->> 'keyId')::uuid;
  return null;
end
$$;
comment on function private.record_key_uses is
  'Adds uses of keys to their counters, with one entry of the login history a key and UTC day, and one a refusal of an expired key. Authorization: callable by the server only.';

-- Returns the unused units of a process that died. A living process renews its lease within a second.
create or replace function private.reclaim_units(p_org_id uuid default null) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  l private.unit_leases;
begin
  for l in
    delete from private.unit_leases x
    where x.id in (
      select y.id from private.unit_leases y
      where y.renewed_at < now() - interval '1 minute' and (p_org_id is null or y.organization_id = p_org_id)
      order by y.id for update skip locked)
    returning x.*
  loop
    perform private.give_back_quota(l.organization_id, 'api_calls', l.period, l.day, l.units);
  end loop;
end
$$;
comment on function private.reclaim_units is
  'Gives back what processes that died had taken of api_calls, of one organization or of all. Authorization: callable by the worker and functions of ours only.';
grant execute on function private.reclaim_units to kijko_worker;

-- p: organizationId, leaseId, wanted. Never past the limit, and near it one unit at a time, so that over any number of processes exactly as
-- many requests pass as there are units. Answers the granted units, the limit and the rest of it.
create or replace function private.take_units(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org constant uuid := (p ->> 'organizationId')::uuid;
  v_limit bigint := private.plan_limit(v_org, 'api_calls');
  v_period constant date := private.usage_period('api_calls', now());
  v_day constant date := (now() at time zone 'UTC')::date;
  v_units bigint := greatest(1, (p ->> 'wanted')::bigint);
begin
  perform private.reclaim_units(v_org);
  if v_limit >= 0 then
    v_units := least(v_units, greatest(1, (v_limit - private.units_used(v_org, 'api_calls', v_period)) / 64));
  end if;
  perform private.consume_quota(v_org, 'api_calls', v_units);
  insert into private.unit_leases as l (id, organization_id, period, day, units) values ((p ->> 'leaseId')::uuid, v_org, v_period, v_day, v_units)
  on conflict (id) do update set units = l.units + excluded.units, renewed_at = now();
  return jsonb_build_object('units', v_units, 'limit', v_limit, 'remaining', greatest(v_limit - private.units_used(v_org, 'api_calls', v_period), 0),
    'resetsAt', extract(epoch from private.usage_resets_at('api_calls', now())),
    'endsAt', extract(epoch from ((v_day + 1)::timestamp at time zone 'UTC')));
end
$$;
comment on function private.take_units is
  'Takes units of api_calls for a server process that hands them to requests with API keys. Authorization: callable by the server only. Errors: 429 QUOTA_EXCEEDED.';

-- leases: [{id, left, ends}]: the rest of each lease; a lease that ends returns its units.
create or replace function private.settle_units(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v jsonb;
  l private.unit_leases;
begin
  for v in select e from jsonb_array_elements(p -> 'leases') e order by e ->> 'id' loop
    if (v ->> 'ends')::boolean then
      delete from private.unit_leases x where x.id = (v ->> 'id')::uuid returning * into l;
      -- A late report finds no lease: its units were returned already.
      if found and (v ->> 'left')::bigint > 0 then
        perform private.give_back_quota(l.organization_id, 'api_calls', l.period, l.day, (v ->> 'left')::bigint);
      end if;
    else
      update private.unit_leases x set units = (v ->> 'left')::bigint, renewed_at = now() where x.id = (v ->> 'id')::uuid;
    end if;
  end loop;
  return null;
end
$$;
comment on function private.settle_units is 'Renews or ends what a server process holds of api_calls. Authorization: callable by the server only.';
grant execute on function private.record_key_uses, private.take_units, private.settle_units to kijko_server;
