-- Copies of units for OpenMeter: which are written, how a worker takes and ends them, what happens while the receiver is away.
begin;
select no_plan();
-- Anna owns an organization, Ben is a member of it, Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');
create function pg_temp.events() returns text language sql as $$
  select coalesce(string_agg(concat_ws(' ', e.metric, e.amount, e.total), ', ' order by e.seq), 'none') from private.metering_events e $$;
create function pg_temp.take(p_owner integer) returns text language sql as $$
  select coalesce(string_agg(t.seq::text, ' ' order by t.seq), 'none')
  from private.take_metering(('00000000-0000-0000-0000-00000000000' || p_owner)::uuid, 30, 2) t $$;
create function pg_temp.finish(p_owner integer, p_sent bigint[], p_refused bigint[] default '{}', p_error text default null, p_wait integer default 0) returns void language sql as $$
  select private.finish_metering(('00000000-0000-0000-0000-00000000000' || p_owner)::uuid, p_sent, p_refused, 'no', p_error, p_wait) $$;

-- ------------------------------------------------------------------------------------------------------------------- writing
select private.consume_quota(tests.org('anna'), 'ingestions', 1), private.consume_quota(tests.org('anna'), 'storage', 100);
select is(pg_temp.events(), 'none', 'an installation without OpenMeter writes nothing');
select private.declare_metering(true);
select ok(private.is_metered(), 'a worker says that there is one');
select private.consume_quota(tests.org('anna'), 'ingestions', 2), private.consume_quota(tests.org('anna'), 'storage', 50),
  private.consume_quota(tests.org('anna'), 'storage', -120), private.consume_quota(tests.org('stan'), 'oracle_queries', 1), private.consume_quota(tests.org('stan'), 'storage', 7);
select is(pg_temp.events(), 'ingestions 2, storage 50 150, storage -120 30, oracle_queries 1, storage 7 7',
  'counters that were there and new ones are copied: units of counters, change and value of gauges');
select is((select array_agg(distinct e.occurred_at = now()) from private.metering_events e), array[true], 'at the time of their transaction');
savepoint a;
select private.consume_quota(tests.org('anna'), 'ingestions', 1);
rollback to a;
select is((select count(*)::int from private.metering_events), 5, 'what is rolled back leaves no copy');
select throws_ok($$ select private.consume_quota(tests.org('anna'), 'ingestions', 1000) $$, 'PT429', null, 'what is refused');
select is((select count(*)::int from private.metering_events), 5, 'leaves none either');
delete from private.metering_events;

-- Given back: on the same day, after its day, after its month.
select private.consume_quota(tests.org('anna'), 'api_calls', 10);
select private.give_back_units(tests.org('anna'), date_trunc('month', now() at time zone 'UTC')::date, (now() at time zone 'UTC')::date, 4);
select is(pg_temp.events(), 'api_calls 10, api_calls -4', 'units that are given back are negative');
delete from private.metering_events;
select private.consume_quota(tests.org('stan'), 'api_calls', 5, timestamptz '2026-03-31 23:00Z');
select private.consume_quota(tests.org('stan'), 'api_calls', 5, timestamptz '2026-03-15 12:00Z');
delete from private.metering_events;
select private.give_back_units(tests.org('stan'), date '2026-03-01', date '2026-03-14', 3);
select is((select e.amount || ' ' || to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') from private.metering_events e), '-3 2026-03-14 23:59:59.999999',
  'those of a day that is over are taken off before the day that runs');
delete from private.metering_events;
select private.give_back_units(tests.org('stan'), date '2026-03-01', date '2026-03-15', 1);
select is((select to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') from private.metering_events e), '2026-03-31 23:59:59.999999', 'those of a month that is over within it');
delete from private.metering_events;

-- Seats.
select tests.member('cora', 'anna');
insert into public.team_invitations (organization_id, email, role, token_hash, invited_by, expires_at)
select tests.org('anna'), 'dora@example.nl', 'member', sha256('x'), tests.user('anna'), now() + interval '1 day';
select is((select string_agg(concat_ws(' ', e.amount, e.total), ', ' order by e.seq) from private.metering_events e where e.organization_id = tests.org('anna') and e.metric = 'seats'),
  '1 3, 1 4', 'members and open invitations take seats');
update public.team_invitations set status = 'cancelled' where organization_id = tests.org('anna');
delete from public.memberships where organization_id = tests.org('anna') and user_id = tests.user('cora');
select is((select string_agg(concat_ws(' ', e.amount, e.total), ', ' order by e.seq) from private.metering_events e where e.organization_id = tests.org('anna') and e.metric = 'seats'),
  '1 3, 1 4, -1 3, -1 2', 'and free them');
delete from public.team_invitations where organization_id = tests.org('anna');
select is((select count(*)::int from private.metering_events e where e.organization_id = tests.org('anna') and e.metric = 'seats'), 4, 'a closed one had none');
delete from private.metering_events;

-- ------------------------------------------------------------------------------------------------------------------- sending
insert into private.metering_events (seq, organization_id, metric, amount, occurred_at) overriding system value
select n, tests.org('anna'), 'api_calls', n, now() from generate_series(1, 5) n;
select is((select (h.pending, h.refused, h.oldest_seconds >= 0, h.is_failing)::text from private.metering_health() h), '(5,0,t,f)', 'five wait');
select is(pg_temp.take(1), '1 2', 'a worker gets the oldest');
select is(pg_temp.take(2), 'none', 'and no other worker meanwhile');
select is(pg_temp.take(1), '1 2', 'it may ask again');
select pg_temp.finish(1, '{1,2}');
select is(pg_temp.take(2), '3 4', 'what was accepted is deleted, and the next go');
select pg_temp.finish(2, '{3}', p_error => 'away', p_wait => 60);
select is((select (s.failures, s.error, s.batch, s.owner, s.next_at > clock_timestamp())::text from private.metering_state s), '(1,away,"{3,4}",,t)', 'a failure is kept');
select is(private.metering_failures(), 1, 'and counted');
select ok((select h.is_failing from private.metering_health() h), 'and told');
select is(pg_temp.take(1), 'none', 'the receiver is left alone for a while');
update private.metering_state set next_at = '-infinity';
select is(pg_temp.take(1), '4', 'what may have arrived goes again alone, unchanged');
update private.metering_state set lease_expires_at = clock_timestamp();
select is(pg_temp.take(2), '4', 'also by another worker, when the lease has ended');
select pg_temp.finish(1, '{4}');
select is((select s.owner is not null from private.metering_state s), true, 'a late worker ends no lease of another one');
select is((select count(*)::int from private.metering_events), 1, 'but what it had sent is sent');
select pg_temp.finish(2, '{}');
select is(pg_temp.take(1), '5', 'the last one');
select pg_temp.finish(1, '{}', '{5}');
select is(pg_temp.take(1), 'none', 'is refused and stays aside');
select is((select (h.pending, h.refused, h.is_failing)::text from private.metering_health() h), '(0,1,f)', 'for the operator to see');

-- ---------------------------------------------------------------------------------------------------------------- being away
delete from private.metering_events;
insert into private.metering_events (seq, organization_id, metric, amount, total, occurred_at) overriding system value values
  (1011, tests.org('anna'), 'api_calls', 1, null, '2026-03-01 10:01Z'), (1012, tests.org('anna'), 'api_calls', 2, null, '2026-03-01 10:02Z'),
  (1013, tests.org('anna'), 'api_calls', 3, null, '2026-03-01 10:59Z'), (1014, tests.org('anna'), 'api_calls', -1, null, '2026-03-01 11:00Z'),
  (1015, tests.org('stan'), 'api_calls', 7, null, '2026-03-01 10:02Z'), (1016, tests.org('anna'), 'storage', 5, 50, '2026-03-01 10:03Z'),
  (1017, tests.org('anna'), 'storage', -9, 41, '2026-03-01 10:04Z'), (1018, tests.org('anna'), 'api_calls', 4, null, '2026-03-01 12:10Z');
select is(private.fold_metering('2026-03-01 12:30Z', 8), 0, 'few stay as they are');
update private.metering_state set batch = '{1011}';
select is(private.fold_metering('2026-03-01 12:30Z', 4), 6, 'of many, those of hours that are over are joined');
select is((select string_agg(concat_ws(' ', case e.organization_id when tests.org('anna') then 'anna' else 'stan' end, e.metric, e.amount, e.total, to_char(e.occurred_at at time zone 'UTC', 'HH24:MI')), ', '
    order by e.metric, e.organization_id = tests.org('stan'), e.occurred_at, e.amount) from private.metering_events e),
  'anna api_calls 1 10:01, anna api_calls 5 10:59, anna api_calls -1 11:00, anna api_calls 4 12:10, stan api_calls 7 10:02, anna storage -4 41 10:04',
  'by organization, metric and hour; not what may have arrived, nor the hour that runs');
select is(private.fold_metering('2026-03-01 12:30Z', 0), 0, 'once');
update private.metering_events set created_at = now() - interval '31 days' where amount < 0;
select is(private.prune_metering(), 2, 'after thirty days what was not sent is given up');
select is((select s.lost from private.metering_state s), 2::bigint, 'and counted');

-- ----------------------------------------------------------------------------------------------------------------- switching
select private.declare_metering(false);
select private.consume_quota(tests.org('anna'), 'ingestions', 1), private.consume_quota(tests.org('ben'), 'ingestions', 1);
select ok(not exists (select from private.metering_events e where e.metric = 'ingestions'), 'switched off, nothing is copied any more');
select private.declare_metering(false);
select ok(not private.is_metered(), 'saying it again changes nothing');

-- -------------------------------------------------------------------------------------------------------------------- actors
select tests.act_as('anna');
select throws_ok($$ select count(*) from private.metering_events $$, '42501', null, 'the owner reads no copies');
select throws_ok($$ select private.declare_metering(true) $$, '42501', null, 'nor switches them on');
select throws_ok($$ select private.meter_seats(private.org_id(), 1) $$, '42501', null, 'nor writes any');
select tests.act_as('stan');
select throws_ok($$ select * from private.take_metering(gen_random_uuid(), 1, 1) $$, '42501', null, 'nor does a stranger');
select tests.act_anon();
select throws_ok($$ select private.metering_health() $$, '42501', null, 'nor an anonymous caller');
select tests.act_service();
select throws_ok($$ select private.metering_failures() $$, '42501', null, 'nor the service');
select tests.reset();
set local role kijko_server;
select lives_ok($$ select private.metering_health() $$, 'the server asks how it goes');
select throws_ok($$ select * from private.take_metering(gen_random_uuid(), 1, 1) $$, '42501', null, 'and sends nothing');
reset role;

select * from finish();
rollback;
