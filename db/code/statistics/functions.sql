-- Numbers about runs (contract 20, sections 12 and 13). Everything is computed from the caller's own rows at the moment of the request,
-- each row once; a request for a window reads only the window, by the index on (user_id, executed_at). Days and hours are UTC. Money is
-- integer cents, percentages are integers.

create or replace function private.utc_day(p_at timestamptz) returns date
language sql immutable parallel safe
return (p_at at time zone 'UTC')::date;
comment on function private.utc_day is 'The UTC day of a moment.';

create or replace function private.day_start(p_day date) returns timestamptz
language sql immutable parallel safe
return p_day::timestamp at time zone 'UTC';
comment on function private.day_start is 'The first moment of a UTC day.';

-- Half up, exact: floor((2a + b) / 2b).
create or replace function private.rounded_ratio(p_over numeric, p_under numeric) returns bigint
language sql immutable parallel safe
return case when p_under > 0 then floor((2 * p_over + p_under) / (2 * p_under))::bigint else 0 end;
comment on function private.rounded_ratio is 'The quotient of two numbers as an integer, half up; 0 where there is nothing to divide by.';

create or replace function private.floored_ratio(p_over numeric, p_under numeric) returns bigint
language sql immutable parallel safe
return case when p_under > 0 then floor(p_over / p_under)::bigint else 0 end;
comment on function private.floored_ratio is 'The quotient of two numbers, rounded down; 0 where there is nothing to divide by.';

create or replace function private.stats_days(p_period text) returns integer
language plpgsql stable
as $$
begin
  if coalesce(p_period, '30d') not in ('7d', '30d', '90d') then
    perform private.refuse_field('period', 'Period must be one of 7d, 30d, 90d.');
  end if;
  return rtrim(coalesce(p_period, '30d'), 'd')::integer;
end
$$;
comment on function private.stats_days is 'Days of a StatsPeriod, 30 by default. Errors: 400 VALIDATION_ERROR.';

-- Rows (key, n) as an object that has every one of the keys.
create or replace function private.zero_filled(p_keys text[], p_counts jsonb) returns jsonb
language sql stable parallel safe
return (select jsonb_object_agg(k, coalesce(p_counts -> k, '0')) from unnest(p_keys) k);
comment on function private.zero_filled is 'The counts with every key, 0 where there was nothing.';

create or replace function private.execution_types() returns text[]
language sql immutable parallel safe
return array['manual', 'habit', 'reflex', 'api'];
comment on function private.execution_types is 'ExecutionType of the contract.';

create or replace function private.execution_statuses() returns text[]
language sql immutable parallel safe
return array['pending', 'running', 'completed', 'failed', 'cancelled'];
comment on function private.execution_statuses is 'ExecutionStatus of the contract.';
grant execute on function private.utc_day, private.day_start, private.rounded_ratio, private.floored_ratio, private.stats_days,
  private.zero_filled, private.execution_types, private.execution_statuses to authenticated;

-- D of the contract: durations of completed runs above 0, ascending. The three percentiles are its entries floor(n · p / 100).
create or replace function private.duration_percentiles(p_skill_id uuid, p_has_skill boolean, out n bigint, out mean bigint, out p50 integer, out p90 integer, out p99 integer)
language plpgsql stable
as $$
declare
  v integer[];
begin
  select array_agg(e.duration_ms order by e.duration_ms), floor(avg(e.duration_ms))::bigint into v, mean
  from public.skill_executions e
  where e.user_id = private.user_id() and e.status = 'completed' and e.duration_ms > 0
    and (not p_has_skill or e.skill_id = p_skill_id);
  n := coalesce(cardinality(v), 0);
  mean := coalesce(mean, 0);
  p50 := coalesce(v[1 + n * 50 / 100], 0);
  p90 := coalesce(v[1 + n * 90 / 100], 0);
  p99 := coalesce(v[1 + n * 99 / 100], 0);
end
$$;
comment on function private.duration_percentiles is 'Number, mean and percentiles of the durations of the caller''s completed runs, of a skill if one is given.';
grant execute on function private.duration_percentiles to authenticated;

-- SkillStatsResponse over the last p_days UTC days; p_skill_id null: over all skills.
create or replace function private.skill_stats(p_days integer, p_skill_id uuid, p_at timestamptz default now()) returns jsonb
language plpgsql stable
as $$
declare
  v_user uuid := private.user_id();
  v_today date := private.utc_day(p_at);
  v jsonb;
begin
  with grouped as (
    select private.utc_day(e.executed_at) as day, e.execution_type as type, e.status, count(*) as n,
      sum(coalesce(e.prompt_tokens, 0)::bigint + coalesce(e.completion_tokens, 0)) as tokens, sum(coalesce(e.cost_cents, 0)::bigint) as cents,
      sum(coalesce(e.duration_ms, 0)::bigint) as ms
    from public.skill_executions e
    where e.user_id = v_user and e.executed_at >= private.day_start(v_today - p_days + 1) and e.executed_at < private.day_start(v_today + 1)
      and (p_skill_id is null or e.skill_id = p_skill_id)
    group by 1, 2, 3
  ), days as (
    select d.day::date, coalesce(sum(g.n) filter (where g.status = 'completed'), 0) as done, coalesce(sum(g.n) filter (where g.status = 'failed'), 0) as failed,
      coalesce(sum(g.tokens) filter (where g.status = 'completed'), 0) as tokens, coalesce(sum(g.cents) filter (where g.status = 'completed'), 0) as cents,
      coalesce(sum(g.ms) filter (where g.status = 'completed'), 0) as ms
    from generate_series(v_today - p_days + 1, v_today, interval '1 day') d (day)
    left join grouped g on g.day = d.day::date
    group by d.day
  )
  select jsonb_build_object(
    'overview', (select jsonb_build_object('totalRuns', sum(done + failed), 'successRate', private.rounded_ratio(100 * sum(done), sum(done + failed)),
        'avgTokens', private.rounded_ratio(sum(tokens), sum(done + failed)), 'avgDurationMs', private.floored_ratio(sum(ms), sum(done)),
        'totalCostCents', sum(cents)) from days),
    'executionsOverTime', (select jsonb_agg(jsonb_build_object('date', day, 'count', done + failed, 'successCount', done, 'failureCount', failed,
        'tokens', tokens, 'costCents', cents) order by day) from days),
    'executionsByType', private.zero_filled(private.execution_types(),
      (select jsonb_object_agg(type, n) from (select type, sum(n) as n from grouped group by type) t)),
    'executionsByStatus', private.zero_filled(private.execution_statuses(),
      (select jsonb_object_agg(status, n) from (select status, sum(n) as n from grouped group by status) s)))
  into v;
  return v;
end
$$;
comment on function private.skill_stats is 'SkillStatsResponse of the caller''s own runs over the last UTC days, today included.';
grant execute on function private.skill_stats to authenticated;
