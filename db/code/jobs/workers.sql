-- Which workers live. The first eight bytes of each lease's token name its worker. A worker holds an advisory lock by a session of its own,
-- and Postgres frees the lock when the process dies. The other workers look at the locks (four times a second) and end the leases of a worker
-- whose lock stays free. The times of the leases are the net: they end the work of a worker that is cut off while its session stays.
--
-- A free lock proves the end of a session, not of a process. So a worker that lost its session gets a new lock within p_grace of the lock being
-- seen free, or stops its work before (worker/lease). After a restart or a failover all locks are free and prove nothing: then the leases count.

create or replace function private.new_lease(p_worker bigint) returns uuid
language sql volatile parallel safe
return case when p_worker is null then gen_random_uuid()
  else (encode(int8send(p_worker), 'hex') || right(replace(gen_random_uuid()::text, '-', ''), 16))::uuid end;
comment on function private.new_lease is 'A fresh token for a lease of this worker; null: of a process that is not registered.';

create or replace function private.server_run() returns text
language sql stable
return pg_postmaster_start_time()::text || ' ' || left(pg_walfile_name(pg_current_wal_lsn()), 8);
comment on function private.server_run is 'Names this run of the database server: its start and its timeline. Locks live no longer.';

-- Each session brings a key of its own, so a session that hangs somewhere does not keep its successor out.
create or replace function private.register_worker(p_id bigint, p_key bigint, p_is_known boolean) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform pg_advisory_lock(p_key);
  if p_is_known then
    update jobs.workers w set lock_key = p_key, pid = pg_backend_pid(), server = private.server_run(), registered_at = clock_timestamp(), free_since = null
    where w.id = p_id;
    return found;
  end if;
  insert into jobs.workers (id, lock_key, pid, server) values (p_id, p_key, pg_backend_pid(), private.server_run());
  return true;
end
$$;
comment on function private.register_worker is
  'Takes the lock of a worker for this session and notes it; false when the worker was known and has been taken over. Authorization: callable by the worker only.';

create or replace function private.leave_worker(p_id bigint) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from jobs.workers w where w.id = p_id;
end
$$;
comment on function private.leave_worker is 'A worker ends, or gives its place up: only the times of its leases count now. Authorization: callable by the worker only.';

create or replace function private.watch_workers(p_id bigint, p_key bigint, p_grace double precision) returns integer
language plpgsql volatile security definer set search_path = ''
set lock_timeout = '200ms'
as $$
declare
  w jobs.workers;
  v_taken integer := 0;
begin
  if not exists (select from jobs.workers x where x.id = p_id and x.lock_key = p_key) then
    return -1;
  elsif not exists (select from jobs.workers x where x.id = p_id and x.pid = pg_backend_pid()) then
    return -2;
  end if;
  for w in select * from jobs.workers x where x.id <> p_id loop
    if not pg_try_advisory_xact_lock_shared(w.lock_key) then
      if w.free_since is not null then
        update jobs.workers x set free_since = null where x.id = w.id and x.lock_key = w.lock_key;
      end if;
    elsif w.server <> private.server_run() then
      delete from jobs.workers x where x.id = w.id and x.lock_key = w.lock_key and x.registered_at < clock_timestamp() - interval '1 hour';
    elsif w.free_since is null then
      update jobs.workers x set free_since = clock_timestamp() where x.id = w.id and x.lock_key = w.lock_key and x.free_since is null;
    elsif w.free_since < clock_timestamp() - make_interval(secs => p_grace) then
      begin
        -- Of two workers that look at once, one finds the row.
        delete from jobs.workers x where x.id = w.id and x.lock_key = w.lock_key and x.free_since = w.free_since;
        if found then
          perform private.end_leases(w.id);
          v_taken := v_taken + 1;
        end if;
      exception when lock_not_available or deadlock_detected then
        -- A statement of the dead worker may still run. The next look tries again.
        null;
      end;
    end if;
  end loop;
  return v_taken;
end
$$;
comment on function private.watch_workers is
  'Ends the leases of workers whose lock has been free for p_grace seconds; gives how many workers. -1: this worker is not registered with this lock; -2: it is, by another session. Authorization: callable by the worker only.';

create or replace function private.end_leases(p_worker bigint) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_worker constant text := encode(int8send(p_worker), 'hex');
  v_from constant uuid := (v_worker || '0000000000000000')::uuid;
  v_to constant uuid := (v_worker || 'ffffffffffffffff')::uuid;
  v_now constant timestamptz := clock_timestamp();
begin
  -- The transaction has its id before it reads the clock; the floor of the queue relies on that.
  perform pg_current_xact_id();
  update jobs.stored_jobs x set lease = null, run_at = clock_timestamp() where x.lease between v_from and v_to;
  update public.ingestion_runs x set lease_expires_at = v_now where x.outcome = 'open' and x.lease_owner between v_from and v_to;
  update public.enrichment_runs x set lease_expires_at = v_now where x.status = 'running' and x.lease_owner between v_from and v_to;
  update private.summary_jobs x set lease_expires_at = v_now where x.status = 'running' and x.lease_owner between v_from and v_to;
  update private.data_exports x set lease_expires_at = v_now where x.status = 'processing' and x.lease_owner between v_from and v_to;
  update public.skill_executions x set lease_expires_at = v_now where x.status = 'running' and x.lease_token between v_from and v_to;
  update public.webhook_deliveries x set lease_until = v_now where x.lease_until is not null and x.lease_token between v_from and v_to;
  update public.integrations x set sync_lease_until = v_now where x.sync_lease_until is not null and x.sync_token between v_from and v_to;
  update private.integration_revocations x set lease_until = v_now where x.lease_until is not null and x.lease_token between v_from and v_to;
  update public.mcp_servers x set lease_until = v_now where x.lease_until is not null and x.lease_token between v_from and v_to;
  update private.outbox x set lease_until = v_now where x.lease_until is not null and x.lease_token between v_from and v_to;
  update private.stripe_calls x set leased_until = v_now where x.settled_at is null and x.lease between v_from and v_to;
  update private.provider_tokens x set lease_until = v_now where x.lease_owner between v_from and v_to;
  update private.metering_state x set lease_expires_at = v_now where x.owner between v_from and v_to;
end
$$;
comment on function private.end_leases is 'Ends all leases of a worker now. Authorization: callable by functions of ours only.';

-- The sweeps that give work of ended leases to others run every few seconds anyway. After a takeover they run at once.
create or replace function private.sweep_leases() returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_sweep text;
begin
  foreach v_sweep in array array['runs', 'executions', 'enrichments', 'summaries', 'data_exports', 'integrations', 'mcp_servers', 'outbox'] loop
    begin
      case v_sweep
        when 'runs' then perform private.sweep_runs();
        when 'executions' then perform private.sweep_executions();
        when 'enrichments' then perform private.sweep_enrichments();
        when 'summaries' then perform private.sweep_summaries();
        when 'data_exports' then perform private.sweep_data_exports();
        when 'integrations' then perform private.sweep_integrations();
        when 'mcp_servers' then perform private.sweep_mcp_servers();
        else perform private.sweep_outbox();
      end case;
    exception when others then
      raise warning 'sweep of % failed: % %', v_sweep, sqlstate, sqlerrm;
    end;
  end loop;
end
$$;
comment on function private.sweep_leases is 'Gives work whose lease has ended to others, as the schedules do. Authorization: callable by the worker only.';
grant execute on function private.register_worker, private.leave_worker, private.watch_workers, private.sweep_leases to kijko_worker;
