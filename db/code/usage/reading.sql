-- What the overview of usage shows (contract 50, section 5.1). Nothing has to run at midnight: each point is computed from counters and days.

-- One pass over the counters and one over the days: a statement for each metric and day would cost ten times a read of one row.
create or replace function private.usage_of(p_org_id uuid, p_at timestamptz default now()) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_metrics constant text[] := array['api_calls', 'ingestions', 'storage', 'seats', 'oracle_queries'];
  c_gb constant numeric := 1073741824;
  v_today constant date := (p_at at time zone 'UTC')::date;
  v_first constant date := v_today - 6;
  v_month constant date := date_trunc('month', v_today::timestamp)::date;
  -- How many of the seven days belong to the month before.
  v_before constant integer := greatest(0, v_month - v_first);
  v_dates constant text[] := array(select private.iso((v_first + i)::timestamp at time zone 'UTC') from generate_series(0, 6) i);
  -- Seven points of each metric, in the order above. Seats have none.
  v_points bigint[] := array_fill(0::bigint, array[35]);
  v_limits bigint[];
  v_from integer;
  v_since integer := 8;
  v_stored boolean := false;
  v_seats integer;
  r record;
begin
  select array(select private.limit_of(s, p, m) from unnest(c_metrics) m) into v_limits
  from public.subscriptions s join public.plans p on p.id = private.plan_in_effect(s) where s.organization_id = p_org_id;
  for r in
    select c.metric, c.period, sum(c.used) as used from public.usage_counters c
    where c.organization_id = p_org_id and c.metric = any (c_metrics)
      and (c.period between least(v_first, date_trunc('month', v_first::timestamp)::date) and v_today or c.metric = 'storage')
    group by c.metric, c.period
  loop
    v_from := 7 * (array_position(c_metrics, r.metric) - 1);
    if r.metric = 'storage' then
      v_stored := true;
    elsif r.metric = 'oracle_queries' then
      if r.period >= v_first then
        v_points[v_from + 1 + (r.period - v_first)] := r.used;
      end if;
    else
      -- The total of the month, of which the later days are taken off below: days before a moment need no rows, and retention may have
      -- deleted them.
      for i in case r.period when v_month then v_before + 1 else 1 end .. case r.period when v_month then 7 else v_before end loop
        v_points[v_from + i] := r.used;
      end loop;
    end if;
  end loop;
  for r in
    select t.metric, t.day, t.day - v_first + 1 as n, t.value from public.usage_trend t
    where t.organization_id = p_org_id and t.metric = any ('{api_calls,ingestions,storage}') and t.day between v_first and (v_month + interval '1 month' - interval '1 day')::date
    order by t.day
  loop
    v_from := 7 * (array_position(c_metrics, r.metric) - 1);
    if r.metric = 'storage' then
      v_since := least(v_since, r.n);
      for i in r.n .. 7 loop
        v_points[v_from + i] := r.value;
      end loop;
    else
      for i in case when r.day >= v_month then v_before + 1 else 1 end .. least(7, r.n - 1) loop
        v_points[v_from + i] := greatest(0, v_points[v_from + i] - r.value);
      end loop;
    end if;
  end loop;
  if v_stored and v_since > 1 then
    select t.value into r from public.usage_trend t where t.organization_id = p_org_id and t.metric = 'storage' and t.day < v_first order by t.day desc limit 1;
    for i in 1 .. v_since - 1 loop
      v_points[14 + i] := coalesce(r.value, 0);
    end loop;
  end if;
  -- Units that server processes have taken ahead and not handed to a request yet are counted today.
  v_points[7] := greatest(0, v_points[7] - coalesce((select sum(l.units) from private.unit_leases l where l.organization_id = p_org_id and l.period = v_month), 0));
  v_seats := private.seats_used(p_org_id);
  return (
    select jsonb_agg(jsonb_build_object('type', m.metric, 'current', u.used, 'limit', v_limits[m.n],
      'percentage', case when v_limits[m.n] < 0 then 0 when v_limits[m.n] = 0 then 100 else round(100 * u.used / v_limits[m.n]) end,
      'trend', case m.metric when 'seats' then '[]' else (
        select jsonb_agg(jsonb_build_object('date', v_dates[i], 'value', case m.metric when 'storage' then trim_scale(round(v_points[14 + i] / c_gb, 2)) else v_points[7 * m.n - 7 + i] end) order by i)
        from generate_series(1, 7) i) end) order by m.n)
    from unnest(c_metrics) with ordinality m (metric, n)
    cross join lateral (select case m.metric when 'seats' then v_seats::numeric when 'storage' then trim_scale(round(v_points[21] / c_gb, 2)) else v_points[7 * m.n] end as used) u
  );
end
$$;
comment on function private.usage_of is 'UsageMetric[] of an organization. Authorization: callable by functions of ours only.';

create or replace function private.usage_json() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return private.usage_of(private.require_membership());
end
$$;
comment on function private.usage_json is 'UsageMetric[]. Authorization: members, of their own organization. Errors: 401 UNAUTHENTICATED, 403 ORG_REQUIRED.';
grant execute on function private.usage_json to authenticated;
