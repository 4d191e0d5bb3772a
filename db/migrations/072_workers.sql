-- Workers that die are replaced at once, and short jobs are taken under leases like the long ones. A token of a lease begins with the
-- identity of its worker; the worker holds a lock of its session that Postgres frees when the process dies (db/code/jobs/workers.sql).
create table jobs.workers (
  id bigint primary key,
  -- The key of the advisory lock that the worker's present session holds. Each session takes a new one.
  lock_key bigint not null unique,
  pid integer not null,
  -- The run of the database server that the session belonged to: after a restart or a failover a free lock proves nothing.
  server text not null,
  registered_at timestamptz not null default clock_timestamp(),
  -- Since when the lock has been seen free; null while it is held.
  free_since timestamptz
) with (fillfactor = 50);
alter table jobs.workers enable row level security;
alter table jobs.workers force row level security;
comment on table jobs.workers is 'The worker processes and the locks that tell whether they live.';

-- A job in work keeps its row: run_at is when its lease ends, and the job is due again. So an expired lease needs no sweep, and workers of
-- the version before, which know no leases, leave the job alone meanwhile.
alter table jobs.stored_jobs add column lease uuid;
comment on column jobs.stored_jobs.lease is 'The token of the worker that does the job; null while it waits.';

drop function if exists private.take_executions(integer, integer);
drop function if exists private.claim_execution(uuid, integer);
drop function if exists private.take_deliveries(integer, integer);
drop function if exists private.take_integration_work(integer, integer);
drop function if exists private.take_outbox(integer, integer);
drop function if exists private.take_registry_work(integer, integer);

---- create above / drop below ----

alter table jobs.stored_jobs drop column lease;
drop table jobs.workers;
