-- The operations: E4 to E6 of section 12 and T1 to T4 of section 13. One statement reads the rows of each.

create or replace function api.get_execution_stats(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_today date := private.utc_day(now());
  v jsonb;
begin
  execute 'with grouped as (
      select private.utc_day(e.executed_at) as day, e.execution_type as type, e.status, count(*) as n,
        sum(coalesce(e.prompt_tokens, 0)::bigint + coalesce(e.completion_tokens, 0)) as tokens, sum(coalesce(e.cost_cents, 0)::bigint) as cents,
        sum(coalesce(e.duration_ms, 0)::bigint) as ms
      from public.skill_executions e where ' || private.execution_filter(private.as_object(p, 'p') - 'status' - 'executionType') || '
      group by 1, 2, 3
    )
    select jsonb_build_object(
      ''totalExecutions'', coalesce(sum(n), 0),
      ''successfulExecutions'', coalesce(sum(n) filter (where status = ''completed''), 0),
      ''failedExecutions'', coalesce(sum(n) filter (where status = ''failed''), 0),
      ''cancelledExecutions'', coalesce(sum(n) filter (where status = ''cancelled''), 0),
      ''totalTokensUsed'', coalesce(sum(tokens) filter (where status = ''completed''), 0),
      ''totalCostCents'', coalesce(sum(cents) filter (where status = ''completed''), 0),
      ''averageDurationMs'', private.floored_ratio(sum(ms) filter (where status = ''completed''), sum(n) filter (where status = ''completed'')),
      ''executionsByType'', private.zero_filled(private.execution_types(),
        (select jsonb_object_agg(type, n) from (select type, sum(n) as n from grouped group by type) t)),
      ''executionsByStatus'', private.zero_filled(private.execution_statuses(),
        (select jsonb_object_agg(status, n) from (select status, sum(n) as n from grouped group by status) s)),
      ''dailyExecutions'', (select jsonb_agg(jsonb_build_object(''date'', d.day::date, ''count'', coalesce(g.n, 0), ''tokens'', coalesce(g.tokens, 0))
          order by d.day)
        from generate_series($3 - 13, $3, interval ''1 day'') d (day)
        left join (select day, sum(n) as n, sum(tokens) as tokens from grouped group by day) g on g.day = d.day::date))
    from grouped' into v using p, private.user_id(), v_today;
  return v;
end
$$;
comment on function api.get_execution_stats is 'GET /executions/stats: numbers over the filtered runs. Errors: 400 VALIDATION_ERROR.';

create or replace function api.get_cost_breakdown(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_today date := private.utc_day(now());
  v jsonb;
begin
  execute 'with grouped as (
      select e.skill_id, private.utc_day(e.executed_at) as day, e.execution_type as type, count(*) as n, sum(coalesce(e.cost_cents, 0)::bigint) as cents
      from public.skill_executions e where e.status = ''completed'' and ' || private.execution_filter(private.as_object(p, 'p') - 'status' - 'executionType' - 'skillId') || '
      group by 1, 2, 3
    )
    select jsonb_build_object(
      ''totalCostCents'', coalesce((select sum(cents) from grouped), 0),
      ''costBySkill'', coalesce((select jsonb_agg(jsonb_build_object(''skillId'', x.skill_id, ''skillName'', x.name, ''costCents'', x.cents,
          ''executionCount'', x.n) order by x.cents desc, x.name, x.skill_id)
        from (select g.skill_id, coalesce(s.name, ''Unknown Skill'') as name, sum(g.cents) as cents, sum(g.n) as n
          from grouped g left join public.skills s on s.id = g.skill_id
          where g.skill_id is not null group by g.skill_id, s.name) x), ''[]''),
      ''costByType'', private.zero_filled(private.execution_types(),
        (select jsonb_object_agg(type, cents) from (select type, sum(cents) as cents from grouped group by type) t)),
      ''costByDay'', (select jsonb_agg(jsonb_build_object(''date'', d.day::date, ''costCents'', coalesce(g.cents, 0)) order by d.day)
        from generate_series($3 - 29, $3, interval ''1 day'') d (day)
        left join (select day, sum(cents) as cents from grouped group by day) g on g.day = d.day::date))'
    into v using p, private.user_id(), v_today;
  return v;
end
$$;
comment on function api.get_cost_breakdown is
  'GET /executions/cost-breakdown: cents of completed runs by skill, type and day. Errors: 400 VALIDATION_ERROR.';

create or replace function api.get_performance_metrics(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_has_skill boolean := p ->> 'skillId' is not null;
  v_skill uuid := private.as_uuid(p ->> 'skillId');
  d record;
  v_done bigint;
  v_failed bigint;
  v_hours jsonb := '[]';
begin
  select * into d from private.duration_percentiles(v_skill, v_has_skill);
  select count(*) filter (where e.status = 'completed'), count(*) filter (where e.status = 'failed') into v_done, v_failed
  from public.skill_executions e
  where e.user_id = private.user_id() and e.status in ('completed', 'failed') and (not v_has_skill or e.skill_id = v_skill);
  if d.n > 0 then
    select jsonb_agg(jsonb_build_object('hour', h.hour, 'avgDurationMs', coalesce(g.mean, 0)) order by h.hour) into v_hours
    from generate_series(0, 23) h (hour)
    left join (
      select extract(hour from e.executed_at at time zone 'UTC')::integer as hour, floor(avg(e.duration_ms))::bigint as mean
      from public.skill_executions e
      where e.user_id = private.user_id() and e.status = 'completed' and e.duration_ms > 0 and (not v_has_skill or e.skill_id = v_skill)
      group by 1) g on g.hour = h.hour;
  end if;
  return jsonb_build_object('averageDurationMs', d.mean, 'p50DurationMs', d.p50, 'p90DurationMs', d.p90, 'p99DurationMs', d.p99,
    'successRate', private.rounded_ratio(case when d.n > 0 then 100 * v_done else 0 end, v_done + v_failed), 'durationByHour', v_hours);
end
$$;
comment on function api.get_performance_metrics is 'GET /executions/performance: durations of completed runs, and how many succeed.';

create or replace function api.get_skill_stats_of(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_days integer := private.stats_days(p ->> 'period');
begin
  return private.skill_stats(v_days, (private.visible_skill(private.as_uuid(p ->> 'skillId'))).id);
end
$$;
comment on function api.get_skill_stats_of is
  'GET /stats/skills/{skillId}: SkillStatsResponse of one skill. Errors: 400 VALIDATION_ERROR, 404 SKILL_NOT_FOUND.';

create or replace function api.get_aggregated_stats(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_days integer := private.stats_days(p ->> 'period');
  v_today date := private.utc_day(now());
  v_breakdown jsonb;
begin
  select coalesce(jsonb_agg(jsonb_build_object('skillId', s.id, 'name', s.name, 'runs', g.runs) order by g.runs desc, s.name, s.id), '[]')
  into v_breakdown
  from (
    select e.skill_id, count(*) as runs
    from public.skill_executions e
    where e.user_id = private.user_id() and e.status in ('completed', 'failed')
      and e.executed_at >= private.day_start(v_today - v_days + 1) and e.executed_at < private.day_start(v_today + 1)
    group by e.skill_id) g
  -- The caller's policy leaves only the visible ones.
  join public.skills s on s.id = g.skill_id;
  return private.skill_stats(v_days, null) || jsonb_build_object('skillBreakdown', v_breakdown);
end
$$;
comment on function api.get_aggregated_stats is
  'GET /stats/skills: SkillStatsResponse over all skills, and runs by skill. Errors: 400 VALIDATION_ERROR.';

create or replace function api.get_performance_percentiles(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  d record;
begin
  select * into d from private.duration_percentiles(private.as_uuid(p ->> 'skillId'), p ->> 'skillId' is not null);
  return jsonb_build_object('p50DurationMs', d.p50, 'p90DurationMs', d.p90, 'p99DurationMs', d.p99, 'avgDurationMs', d.mean);
end
$$;
comment on function api.get_performance_percentiles is 'GET /stats/performance: percentiles of the durations of completed runs.';

-- Integers only. The window is the last 30 UTC days, but never begins before the first run there is.
create or replace function api.get_cost_projection(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_ahead integer := coalesce(private.as_int(p -> 'daysAhead', 'daysAhead'), 30);
  v_today date := private.utc_day(now());
  v_first date;
  v_days integer;
  v_runs bigint;
  v_cents bigint;
begin
  select private.utc_day(e.executed_at) into v_first
  from public.skill_executions e where e.user_id = private.user_id() order by e.executed_at limit 1;
  v_days := greatest(1, v_today - greatest(v_first, v_today - 29) + 1);
  select count(*), coalesce(sum(e.cost_cents) filter (where e.status = 'completed'), 0) into v_runs, v_cents
  from public.skill_executions e
  where e.user_id = private.user_id() and e.status in ('completed', 'failed')
    and e.executed_at >= private.day_start(v_today - 29) and e.executed_at < private.day_start(v_today + 1);
  v_cents := coalesce(v_cents * v_ahead / v_days, 0);
  return jsonb_build_object('projectedCostCents', v_cents, 'projectedRuns', coalesce(v_runs * v_ahead / v_days, 0), 'averageDailyCost', v_cents / v_ahead);
end
$$;
comment on function api.get_cost_projection is 'GET /stats/cost-projection: what the last 30 days say about the next ones.';
grant execute on function api.get_execution_stats, api.get_cost_breakdown, api.get_performance_metrics, api.get_skill_stats_of,
  api.get_aggregated_stats, api.get_performance_percentiles, api.get_cost_projection to authenticated;
