-- The floor of the queue (db/migrations/016_queue.sql): no job waits below it. Workers that have been busy raise it; without busy workers
-- it need not rise.
--   Safe: a transaction that enqueues has an id before it reads the clock, and its job waits under that clock or later. A process that
--   marks reads the clock before it has an id. So a job that is older than the clock at the mark has a smaller transaction id than the
--   mark. When all transactions with smaller ids have ended, all their jobs are visible and counted in, and no older job can appear. (The
--   snapshot's own upper end is no such mark: ids of running transactions can lie above it.)
--   Net: a writer that sets run_at by another clock (a worker's host that is behind, psql) may be below the floor. Every few seconds the
--   floor is compared with all jobs and lowered where it must be, so such a job waits for seconds, never forever. The same holds for the
--   very first job of a new queue.
create or replace function private.earliest_job(p_queues text[], p_from timestamptz) returns timestamptz
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- The first of each queue, along the index; how many jobs wait does not matter.
  return (
    select min((select j.run_at from jobs.stored_jobs j where j.queue = q and j.run_at >= p_from order by j.run_at limit 1))
    from unnest(p_queues) q
  );
end
$$;
comment on function private.earliest_job is 'The smallest run_at from p_from on among the jobs that wait in some queues. Authorization: callable by functions of ours only.';

create or replace function private.raise_queue_floor() returns timestamptz
language plpgsql volatile security definer set search_path = ''
-- The statistics of a queue are always stale.
set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
  c_compare constant interval := '5 seconds';
  f jobs.queue_floor;
  v_now timestamptz;
begin
  if pg_current_xact_id_if_assigned() is not null then
    return null;
  end if;
  v_now := clock_timestamp();
  select * into f from jobs.queue_floor for update skip locked;
  if not found then
    return null;
  end if;
  if f.compared_at < v_now - c_compare then
    f.queues := array(
      with recursive name as (
        (select j.queue from jobs.stored_jobs j order by j.queue limit 1)
        union all
        select (select j.queue from jobs.stored_jobs j where j.queue > n.queue order by j.queue limit 1) from name n where n.queue is not null
      )
      select q from unnest(f.queues) q union select n.queue from name n where n.queue is not null);
    f.floor := least(f.floor, private.earliest_job(f.queues, '-infinity'));
    f.compared_at := v_now;
  end if;
  if f.next_xid <= pg_snapshot_xmin(pg_current_snapshot()) then
    f.floor := greatest(f.floor, least(f.next_floor, private.earliest_job(f.queues, f.floor)));
    f.next_floor := v_now;
    f.next_xid := pg_current_xact_id();
  end if;
  update jobs.queue_floor q
  set floor = f.floor, queues = f.queues, next_floor = f.next_floor, next_xid = f.next_xid, compared_at = f.compared_at;
  return f.floor;
end
$$;
comment on function private.raise_queue_floor is
  'Moves the place where looks for the next job begin; gives it, or null when another worker is at it or the caller''s transaction has written already. Authorization: callable by the worker only.';
grant execute on function private.raise_queue_floor to kijko_worker;
