-- The overview of usage (contract 50, section 5.1) at chosen moments.
begin;
select no_plan();
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');
update public.subscriptions set plan_id = 'pro' where organization_id = tests.org('anna');

create function pg_temp.metric(p_type text, p_at timestamptz default now()) returns jsonb
language sql
as $$ select e from jsonb_array_elements(private.usage_of(tests.org('anna'), p_at)) e where e ->> 'type' = p_type $$;
create function pg_temp.shown(p_type text, p_at timestamptz) returns text
language sql
as $$ select (m ->> 'current') || ' of ' || (m ->> 'limit') || ', ' || (m ->> 'percentage') || ' %:' || coalesce((
    select string_agg(' ' || to_char((t ->> 'date')::timestamptz at time zone 'UTC', 'MM-DD=') || (t ->> 'value'), '' order by n) from jsonb_array_elements(m -> 'trend') with ordinality x (t, n)), '')
  from pg_temp.metric(p_type, p_at) m $$;

select is((select jsonb_agg(e -> 'type') from jsonb_array_elements(private.usage_of(tests.org('anna'))) e), '["api_calls", "ingestions", "storage", "seats", "oracle_queries"]', 'always five, in this order');
select is(pg_temp.shown('seats', '2026-03-04 10:00Z'), '2 of 3, 67 %:', 'seats are members, without a trend');
select is(pg_temp.shown('api_calls', '2026-03-04 10:00Z'), '0 of 10000, 0 %: 02-26=0 02-27=0 02-28=0 03-01=0 03-02=0 03-03=0 03-04=0', 'nothing is used at first');

-- Units of a month and its neighbor.
select private.consume_quota(tests.org('anna'), 'ingestions', n, at::timestamptz) from (values (100, '2026-02-01 08:00Z'), (20, '2026-02-26 23:59:59Z'), (3, '2026-02-28 12:00Z'), (1, '2026-02-28 23:59Z'),
  (5, '2026-03-01 00:00Z'), (7, '2026-03-03 10:00Z'), (2, '2026-03-04 09:00Z')) u (n, at);
select is(pg_temp.shown('ingestions', '2026-03-04 10:00Z'), '14 of 500, 3 %: 02-26=120 02-27=120 02-28=124 03-01=5 03-02=5 03-03=12 03-04=14', 'a counter of months: the total of the month so far, which the last point equals');
select is(pg_temp.shown('ingestions', '2026-04-01 00:00Z'), '0 of 500, 0 %: 03-26=14 03-27=14 03-28=14 03-29=14 03-30=14 03-31=14 04-01=0', 'a new month begins at 0, at once');
select is(pg_temp.metric('ingestions', '2026-03-04 10:00Z') -> 'trend' -> 0 ->> 'date', '2026-02-26T00:00:00.000Z', 'dates are midnights in UTC');
delete from public.usage_days where day < '2026-02-26';
select is(pg_temp.shown('ingestions', '2026-03-04 10:00Z'), '14 of 500, 3 %: 02-26=120 02-27=120 02-28=124 03-01=5 03-02=5 03-03=12 03-04=14', 'days that retention deletes are not missed');

select private.consume_quota(tests.org('anna'), 'oracle_queries', n, at::timestamptz) from (values (9, '2026-02-27 08:00Z'), (4, '2026-03-03 23:59:59Z'), (1, '2026-03-04 00:00Z')) u (n, at);
select is(pg_temp.shown('oracle_queries', '2026-03-04 10:00Z'), '1 of 100, 1 %: 02-26=0 02-27=9 02-28=0 03-01=0 03-02=0 03-03=4 03-04=1', 'a counter of days: the units of each');

select private.consume_quota(tests.org('anna'), 'storage', n, at::timestamptz) from (values (1610612736, '2026-02-20 08:00Z'), (1073741824, '2026-02-28 08:00Z'), (-536870912, '2026-02-28 09:00Z'),
  (107374182, '2026-03-02 09:00Z')) u (n, at);
select is(pg_temp.shown('storage', '2026-03-04 10:00Z'), '2.1 of 25, 8 %: 02-26=1.5 02-27=1.5 02-28=2 03-01=2 03-02=2.1 03-03=2.1 03-04=2.1', 'a gauge: the value at the end of the day, or the last one before it');
select is(pg_temp.shown('storage', '2026-02-21 10:00Z'), '1.5 of 25, 6 %: 02-15=0 02-16=0 02-17=0 02-18=0 02-19=0 02-20=1.5 02-21=1.5', 'nothing before the first');

-- Units that a server process holds for requests to come are not used yet.
select private.consume_quota(tests.org('anna'), 'api_calls', 100);
insert into private.unit_leases (id, organization_id, period, day, units) values (gen_random_uuid(), tests.org('anna'), private.usage_period('api_calls', now()), (now() at time zone 'UTC')::date, 40);
select is(pg_temp.metric('api_calls') - 'trend', '{"type": "api_calls", "current": 60, "limit": 10000, "percentage": 1}', 'units of leases are not used');
select is(pg_temp.metric('api_calls') -> 'trend' -> 6 ->> 'value', '60', 'nor in the trend');

-- Limits.
update public.subscriptions set overrides = '{"ingestions": -1, "seats": 0, "storage": 1}' where organization_id = tests.org('anna');
select is(pg_temp.metric('ingestions', '2026-03-04 10:00Z') - 'trend', '{"type": "ingestions", "current": 14, "limit": -1, "percentage": 0}', 'unlimited is 0 %');
select is(pg_temp.metric('seats') - 'trend', '{"type": "seats", "current": 2, "limit": 0, "percentage": 100}', 'a limit of nothing is used up');
select is(pg_temp.metric('storage', '2026-03-04 10:00Z') ->> 'percentage', '210', 'more than the limit is shown as it is');

-- Retention.
insert into public.usage_counters (organization_id, metric, period, used, day) select tests.org('anna'), m, p::date, 1, p::date from (values ('ingestions', '2025-01-01'), ('ingestions', '2025-02-01'),
  ('oracle_queries', '2026-02-01'), ('oracle_queries', '2026-02-02')) c (m, p);
select tests.end_old(t, '2026-03-04 10:00Z') from unnest(array['usage_days', 'usage_counters']) t;
select is((select string_agg(metric || ' ' || period, ', ' order by metric, period) from public.usage_counters where organization_id = tests.org('anna') and period < '2026-02-10'),
  'ingestions 2025-02-01, ingestions 2026-02-01, oracle_queries 2026-02-02, storage 1970-01-01', 'totals of months are kept 13 months, of days 30 days');
select is(pg_temp.shown('ingestions', '2026-03-04 10:00Z'), '14 of -1, 0 %: 02-26=120 02-27=120 02-28=124 03-01=5 03-02=5 03-03=12 03-04=14', 'which shows in no trend');
select tests.end_old(t, '2026-06-01 10:00Z') from unnest(array['usage_days', 'usage_counters']) t;
select is((select string_agg(metric || ' ' || day, ', ' order by metric, day) from public.usage_days where organization_id = tests.org('anna') and metric = 'storage'), 'storage 2026-02-28',
  'of a gauge the newest day stays');

-- By actor.
select tests.act_as('ben');
select is((select e ->> 'current' from jsonb_array_elements(api.list_usage('{}')) e where e ->> 'type' = 'api_calls'), '60', 'a member reads the usage of the organization');
select tests.act_as('stan');
select is((select sum((e ->> 'current')::numeric) from jsonb_array_elements(api.list_usage('{}')) e), 1::numeric, 'a stranger their own: one seat');
select throws_ok(format('select private.usage_of(%L)', tests.org('anna')), '42501', null, 'and none of others');
select tests.act_service();
select throws_ok($$ select api.list_usage('{}') $$, '42501', null, 'the service has none');

select * from finish();
rollback;
