-- Short jobs are taken and ended many in one round trip. A job in work keeps its row: lease is the token of its worker, and run_at the time at
-- which the lease ends and the job is due again. Each end names the token, so a worker that lost the job changes nothing.

drop function if exists private.lease_jobs(text, integer, uuid, integer);
create function private.lease_jobs(p_queue text, p_limit integer, p_lease uuid, p_seconds integer)
returns table (job_id text, job_type text, args bytea, error_count integer, created_at timestamptz)
language plpgsql volatile security definer set search_path = ''
-- The statistics of a queue are always stale, so the plans always use the index.
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
begin
  -- A lease that a crash of the database forgets was not worth the wait: the job is due again, as it is when its worker dies.
  perform set_config('synchronous_commit', 'off', true);
  return query
    update jobs.stored_jobs x set lease = p_lease, run_at = clock_timestamp() + make_interval(secs => p_seconds), updated_at = now()
    from (
      select j.job_id from jobs.gue_jobs j where j.queue = p_queue and j.run_at <= clock_timestamp()
      order by j.run_at, j.priority, j.job_id limit p_limit for update skip locked) due
    where x.job_id = due.job_id
    returning x.job_id, x.job_type, x.args, x.error_count, x.created_at;
end
$$;
comment on function private.lease_jobs is 'Takes up to p_limit due jobs of a queue under a lease of p_seconds. Authorization: callable by the worker only.';

create or replace function private.hold_jobs(p_job_ids text[], p_leases uuid[], p_seconds integer) returns setof text
language plpgsql volatile security definer set search_path = ''
set enable_seqscan = off set jit = off
as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  return query
    update jobs.stored_jobs x set run_at = clock_timestamp() + make_interval(secs => p_seconds)
    where x.job_id in (
      select j.job_id from unnest(p_job_ids, p_leases) m (job_id, lease) join jobs.stored_jobs j on j.job_id = m.job_id and j.lease = m.lease
      order by j.job_id for no key update of j)
    returning x.job_id;
end
$$;
comment on function private.hold_jobs is 'Renews the leases of jobs; gives those that hold. Authorization: callable by the worker only, by the tokens of the leases.';

create or replace function private.finish_jobs(p_job_ids text[], p_leases uuid[]) returns integer
language plpgsql volatile security definer set search_path = ''
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
  v_count integer;
begin
  delete from jobs.stored_jobs j using unnest(p_job_ids, p_leases) m (job_id, lease) where j.job_id = m.job_id and j.lease = m.lease;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function private.finish_jobs is
  'Deletes jobs that were done, where their leases hold; gives how many. Authorization: callable by the worker only, by the tokens of the leases.';

-- p_seconds: the pause before the next attempt; null buries the job. p_is_attempt is false where the job was not tried: at shutdown, and where
-- the worker does not know the type.
create or replace function private.return_job(p_job_id text, p_lease uuid, p_seconds double precision, p_error text, p_is_attempt boolean) returns boolean
language plpgsql volatile security definer set search_path = ''
set enable_seqscan = off
as $$
declare
  j jobs.stored_jobs;
  v_args jsonb := 'null';
begin
  if p_seconds is not null then
    -- The transaction has its id before it reads the clock; the floor of the queue relies on that.
    perform pg_current_xact_id();
    update jobs.stored_jobs x
    set lease = null, run_at = clock_timestamp() + make_interval(secs => greatest(p_seconds, 0)), error_count = x.error_count + p_is_attempt::integer,
      last_error = left(p_error, 4000), updated_at = now()
    where x.job_id = p_job_id and x.lease = p_lease;
    return found;
  end if;
  delete from jobs.stored_jobs x where x.job_id = p_job_id and x.lease = p_lease returning * into j;
  if not found then
    return false;
  end if;
  begin
    v_args := convert_from(j.args, 'UTF8')::jsonb;
  exception when others then
    null;
  end;
  perform private.bury_job(j.job_id, j.job_type, j.queue, v_args, j.error_count + 1, p_error, j.created_at);
  return true;
end
$$;
comment on function private.return_job is
  'Gives a job back for another attempt, or buries it; false when the lease is gone. Authorization: callable by the worker only, by the token of the lease.';
grant execute on function private.lease_jobs, private.hold_jobs, private.finish_jobs, private.return_job to kijko_worker;
