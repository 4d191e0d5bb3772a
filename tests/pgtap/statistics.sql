begin;
select no_plan();

select results_eq($$ select private.rounded_ratio(a, b) from (values (1, 2), (1, 3), (2, 3), (0, 5), (5, 0), (199, 200)) v (a, b) $$,
  array[1, 0, 1, 0, 0, 1]::bigint[], 'percentages and means are rounded half up, and nothing divided by nothing is nothing');
select results_eq($$ select private.floored_ratio(a, b) from (values (7, 2), (1, 3), (5, 0)) v (a, b) $$, array[3, 0, 0]::bigint[], 'durations are rounded down');
select is(private.utc_day('2026-03-29T01:30+02'), date '2026-03-28', 'days are UTC');
select is(private.day_start('2026-03-28'), timestamptz '2026-03-28T00:00Z', 'and so is their beginning');
select is(private.stats_days(null), 30, 'thirty days unless asked otherwise');
select throws_ok($$ select private.stats_days('1y') $$, 'PT400', 'Period must be one of 7d, 30d, 90d.', 'other periods are refused');
select is(private.zero_filled(private.execution_statuses(), '{"failed": 2}'),
  '{"pending": 0, "running": 0, "completed": 0, "failed": 2, "cancelled": 0}', 'every key is there');
select is(private.zero_filled(private.execution_types(), null), '{"manual": 0, "habit": 0, "reflex": 0, "api": 0}', 'also where there is nothing');

-- Anna runs a skill; Max is a member and Olga an admin of her organization, Stan a stranger.
select tests.user('anna'), tests.member('max', 'anna'), tests.member('olga', 'anna', 'admin'), tests.user('stan');
insert into public.skills (id, user_id, organization_id, name, prompt_template)
values ('00000000-0000-4000-8000-000000000001', tests.user('anna'), tests.org('anna'), 'Greeter', 'Say hello to {{name}}');
-- Ten completed ones of 1 to 10 s.
insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, input, status, prompt_tokens, completion_tokens, duration_ms,
  cost_cents, executed_at, completed_at)
select tests.user('anna'), tests.org('anna'), '00000000-0000-4000-8000-000000000001', 'manual', '{}', 'completed', 10, 5, 1000 * n, 2, now(), now()
from generate_series(1, 10) n;
select tests.act_as('anna');
select is(api.get_performance_percentiles('{}'), '{"p50DurationMs": 6000, "p90DurationMs": 10000, "p99DurationMs": 10000, "avgDurationMs": 5500}',
  'ten durations give D[5], D[9], D[9]');
select is(api.get_performance_metrics('{}') -> 'successRate', '100', 'all succeeded');
select is(api.get_execution_stats('{}') -> 'totalTokensUsed', '150', 'tokens are summed');
select is(api.get_cost_breakdown('{}') -> 'costBySkill' -> 0 ->> 'skillName', 'Greeter', 'cents have a skill');
select is(api.get_skill_stats_of('{"skillId": "00000000-0000-4000-8000-000000000001"}') -> 'overview',
  '{"totalRuns": 10, "successRate": 100, "avgTokens": 15, "avgDurationMs": 5500, "totalCostCents": 20}', 'of one skill');
select is(api.get_aggregated_stats('{"period": "7d"}') -> 'skillBreakdown',
  '[{"skillId": "00000000-0000-4000-8000-000000000001", "name": "Greeter", "runs": 10}]', 'and of all');
select is(api.get_cost_projection('{"daysAhead": 7}'), '{"projectedCostCents": 140, "projectedRuns": 70, "averageDailyCost": 20}',
  'who began today is projected from today');
select tests.act_as_claims('anna');
select is(api.get_execution_stats('{}') -> 'totalExecutions', '10', 'with claims alone she sees the same');
select tests.act_as('max');
select is(api.get_execution_stats('{}') -> 'totalExecutions', '0', 'max sees nothing of it');
select is(api.get_cost_breakdown('{}') -> 'costBySkill', '[]', 'nor what it cost');
select throws_ok($$ select api.get_skill_stats_of('{"skillId": "00000000-0000-4000-8000-000000000001"}') $$, 'PT404', null, 'nor the skill');
select tests.act_as('olga');
select is(api.get_execution_stats('{}') -> 'totalExecutions', '0', 'olga sees nothing of it');
select is(api.get_cost_breakdown('{}') -> 'costBySkill', '[]', 'nor what it cost');
select throws_ok($$ select api.get_skill_stats_of('{"skillId": "00000000-0000-4000-8000-000000000001"}') $$, 'PT404', null, 'nor the skill');
select tests.act_as('stan');
select is(api.get_execution_stats('{}') -> 'totalExecutions', '0', 'stan sees nothing of it');
select is(api.get_cost_breakdown('{}') -> 'costBySkill', '[]', 'nor what it cost');
select throws_ok($$ select api.get_skill_stats_of('{"skillId": "00000000-0000-4000-8000-000000000001"}') $$, 'PT404', null, 'nor the skill');
select tests.act_anon();
select throws_ok($$ select api.get_execution_stats('{}') $$, '42501', null, 'nobody sees nothing');
select tests.act_service();
select throws_ok($$ select api.get_execution_stats('{}') $$, '42501', null, 'and the service asks nothing');
select tests.reset();

select * from finish();
rollback;
