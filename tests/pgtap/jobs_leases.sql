-- Short jobs under leases, and the workers that hold them.
begin;
select no_plan();
select tests.user('anna');
create function pg_temp.token(n integer) returns uuid language sql as $$ select ('00000000-0000-8000-8000-00000000000' || n)::uuid $$;
create function pg_temp.take(p_limit integer, n integer) returns text language sql as $$
  select string_agg(convert_from(t.args, 'UTF8')::jsonb ->> 'n', ' ' order by t.args) from private.lease_jobs('q', p_limit, pg_temp.token(n), 15) t $$;
create function pg_temp.job(n integer) returns text language sql as $$
  select job_id from jobs.stored_jobs where queue = 'q' and convert_from(args, 'UTF8')::jsonb ->> 'n' = n::text $$;
select private.enqueue('a', jsonb_build_object('n', n), now(), 'key ' || n, 'q') from generate_series(1, 4) n order by n;
select private.enqueue('a', '{"n": 5}', now() + interval '1 hour', null, 'q');
select private.enqueue('a', '{"n": 6}', now(), null, 'other');

-- ------------------------------------------------------------------------------------------------------------------------ leases
select is(pg_temp.take(2, 1), '1 2', 'the first jobs of the queue are taken');
select is(pg_temp.take(10, 2), '3 4', 'the others by the next worker; none of the future and of other queues');
select is(pg_temp.take(10, 3), null, 'and none twice');
select is((select count(*) from jobs.unique_keys), 4::bigint, 'a job in work keeps its key');
select is(private.enqueue('a', '{}', now(), 'key 1', 'q'), null, 'so it is not enqueued again meanwhile');
select is((select array_agg(h) from private.hold_jobs(array[pg_temp.job(1), pg_temp.job(3)], array[pg_temp.token(1), pg_temp.token(1)], 60) h), array[pg_temp.job(1)],
  'its holder renews a lease');
select is(private.finish_jobs(array[pg_temp.job(1), pg_temp.job(3)], array[pg_temp.token(1), pg_temp.token(1)]), 1, 'only its holder ends a job');
select is((select string_agg(key, ' ' order by key) from jobs.unique_keys), 'key 2 key 3 key 4', 'its key goes with it');
select ok(not private.return_job(pg_temp.job(3), pg_temp.token(1), 0, 'mine?', true), 'or gives it back');
select ok(private.return_job(pg_temp.job(2), pg_temp.token(1), 30, 'no luck', true), 'a failed job is given back');
select results_eq($$ select error_count, last_error, lease, run_at between clock_timestamp() + interval '25 seconds' and clock_timestamp() + interval '31 seconds'
  from jobs.stored_jobs where job_id = pg_temp.job(2) $$, $$ values (1, 'no luck', null::uuid, true) $$, 'for later');
select ok(private.return_job(pg_temp.job(3), pg_temp.token(2), 0, 'shutdown', false), 'one that was not tried');
select is((select error_count from jobs.stored_jobs where job_id = pg_temp.job(3)), 0, 'has lost no attempt');
select is(pg_temp.take(10, 3), '3', 'and is due at once');
select is(private.finish_jobs(array[pg_temp.job(3)], array[pg_temp.token(2)]), 0, 'its former holder does not end it');
select ok(private.return_job(pg_temp.job(3), pg_temp.token(3), null, 'no luck at all', true), 'the last attempt buries it');
select results_eq($$ select job_type, queue, args, error_count, last_error from jobs.dead_letters $$, $$ values ('a', 'q', '{"n": 3}'::jsonb, 1, 'no luck at all') $$,
  'for the staff to see');
select is(pg_temp.job(3), null, 'it waits no longer');
update jobs.stored_jobs set run_at = now() - interval '1 second' where job_id = pg_temp.job(4);
select is(pg_temp.take(10, 1), '4', 'a job whose lease ended is taken by another worker');

-- ----------------------------------------------------------------------------------------------------------------------- workers
select is(left(private.new_lease(x'0123456789ab8def'::bigint)::text, 18), '01234567-89ab-8def', 'a token begins with its worker');
select isnt(private.new_lease(1), private.new_lease(1), 'and is another each time');
select ok(private.register_worker(7, 70, false), 'a worker is registered');
select ok(private.register_worker(7, 71, true), 'and has another lock after its session broke');
select ok(not private.register_worker(8, 80, true), 'one that was taken over is told so');
select is(private.watch_workers(7, 71, 1), 0, 'a worker that is alone finds nothing to do');
select is(private.watch_workers(7, 70, 1), -1, 'an old lock does not count');
insert into jobs.workers (id, lock_key, pid, server) values (9, 90, 1, private.server_run());
update jobs.stored_jobs set lease = private.new_lease(9), run_at = now() + interval '1 hour' where job_id = pg_temp.job(4);
select is(private.watch_workers(7, 71, 1), 0, 'a free lock is noted');
select ok((select free_since is not null from jobs.workers where id = 9), 'with its time');
select is(private.watch_workers(7, 71, 1), 0, 'for a while its worker may come back');
select is(private.watch_workers(7, 71, 0), 1, 'then it is taken over');
select is(private.watch_workers(7, 71, 0), 0, 'once');
select ok((select lease is null and run_at <= clock_timestamp() from jobs.stored_jobs where job_id = pg_temp.job(4)), 'its jobs are due');
select ok(not private.register_worker(9, 91, true), 'and it does not come back with its old leases');
update jobs.workers set pid = 1 where id = 7;
select is(private.watch_workers(7, 71, 1), -2, 'a session that a pooler shares is found out');
select private.leave_worker(7);
select is((select count(*) from jobs.workers), 0::bigint, 'a worker that ends leaves nothing');
select lives_ok('select private.sweep_leases()');

-- -------------------------------------------------------------------------------------------------------------------- by actor
create function pg_temp.refused(p_who text) returns setof text language plpgsql as $$
declare
  v_sql text;
begin
  foreach v_sql in array array['select private.lease_jobs(''q'', 1, null, 1)', 'select private.hold_jobs(''{}'', ''{}'', 1)', 'select private.finish_jobs(''{}'', ''{}'')',
    'select private.return_job('''', null, 0, '''', true)', 'select private.register_worker(1, 1, false)', 'select private.leave_worker(1)',
    'select private.watch_workers(1, 1, 1)', 'select private.sweep_leases()', 'select private.end_leases(1)', 'select * from jobs.workers'] loop
    return next throws_ok(v_sql, '42501', null, p_who || ': ' || v_sql);
  end loop;
end $$;
select tests.act_as('anna');
select pg_temp.refused('an owner');
select tests.act_anon();
select pg_temp.refused('a stranger');
select tests.act_service();
select pg_temp.refused('the service');
select tests.reset();
set local role kijko_worker;
select lives_ok($$ select private.lease_jobs('q', 1, null, 1) $$, 'the worker takes');
select throws_ok('select * from jobs.workers', '42501', null, 'but reads no locks');
reset role;
select * from finish();
rollback;
