-- What the overview of usage shows (contract 50, section 5.1). Nothing has to run at midnight: each point is computed from counters and days.

-- Units of a metric at the end of a UTC day that is not in the future; for a counter of months the total of the month so far.
create or replace function private.usage_at(p_org_id uuid, p_metric text, p_day date, p_today date) returns bigint
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_month constant date := date_trunc('month', p_day::timestamp)::date;
begin
  if p_metric = 'oracle_queries' then
    return private.units_used(p_org_id, p_metric, p_day);
  elsif p_metric = 'storage' then
    return coalesce((select t.value from public.usage_trend t where t.organization_id = p_org_id and t.metric = 'storage' and t.day <= p_day
      order by t.day desc limit 1), 0);
  end if;
  -- The total of the month without the days after this one: days before it need no rows, and retention may have deleted them.
  return greatest(0, private.units_used(p_org_id, p_metric, v_month)
    - coalesce((select sum(t.value) from public.usage_trend t where t.organization_id = p_org_id and t.metric = p_metric
        and t.day > p_day and t.day < v_month + interval '1 month'), 0)
    -- Units that server processes have taken ahead and not handed to a request yet are counted today.
    - case when p_metric = 'api_calls' and p_day = p_today then coalesce((select sum(l.units) from private.unit_leases l
        where l.organization_id = p_org_id and l.period = v_month), 0) else 0 end);
end
$$;
comment on function private.usage_at is 'Units at the end of a day. Authorization: callable by functions of ours only.';

create or replace function private.usage_of(p_org_id uuid, p_at timestamptz default now()) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_gb constant numeric := 1073741824;
  v_today constant date := (p_at at time zone 'UTC')::date;
begin
  return (
    select jsonb_agg(jsonb_build_object('type', m.metric, 'current', u.used, 'limit', l.quota,
      'percentage', case when l.quota < 0 then 0 when l.quota = 0 then 100 else round(100 * u.used / l.quota) end, 'trend', t.points) order by m.n)
    from unnest(array['api_calls', 'ingestions', 'storage', 'seats', 'oracle_queries']) with ordinality m (metric, n)
    cross join lateral (select private.plan_limit(p_org_id, m.metric) as quota) l
    cross join lateral (
      select case when m.metric = 'seats' then '[]' else (
        select jsonb_agg(jsonb_build_object('date', private.iso(d.day::timestamp at time zone 'UTC'), 'value', v.value) order by d.day)
        from generate_series(0, 6) back, lateral (select v_today - back as day) d,
          lateral (select private.usage_at(p_org_id, m.metric, d.day, v_today) as units) x,
          lateral (select case when m.metric = 'storage' then trim_scale(round(x.units / c_gb, 2)) else x.units::numeric end as value) v) end as points) t
    cross join lateral (select case when m.metric = 'seats' then private.seats_used(p_org_id)::numeric else (t.points -> 6 ->> 'value')::numeric end as used) u
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
