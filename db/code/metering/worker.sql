-- The calls of the worker that sends.

-- Gives the events of the batch on its way, or of the next one, to one worker for p_seconds. Nothing while another worker has it, while
-- the receiver is left alone after a failure, and where nothing waits.
create or replace function private.take_metering(p_owner uuid, p_seconds integer, p_limit integer)
returns table (seq bigint, id uuid, organization_id uuid, metric text, amount bigint, total bigint, occurred_at timestamptz)
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  s private.metering_state;
  v_batch bigint[];
begin
  select * into s from private.metering_state for update skip locked;
  if not found or s.next_at > clock_timestamp() or (s.owner <> p_owner and s.lease_expires_at > clock_timestamp()) then
    return;
  end if;
  select array_agg(e.seq) into v_batch from private.metering_events e where e.seq = any (s.batch) and e.refusal is null;
  if v_batch is null then
    select array_agg(e.seq) into v_batch
    from (select x.seq from private.metering_events x where x.refusal is null order by x.seq limit p_limit) e;
  end if;
  if v_batch is null then
    return;
  end if;
  update private.metering_state set owner = p_owner, lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds), batch = v_batch;
  return query select e.seq, e.id, e.organization_id, e.metric, e.amount, e.total, e.occurred_at
    from private.metering_events e where e.seq = any (v_batch) order by e.seq;
end
$$;
comment on function private.take_metering is 'Leases a batch of events to a worker. Authorization: callable by the worker only.';

-- p_error: why the rest of the batch was not accepted; it is tried again after p_wait seconds. Deletes what was accepted also for a worker
-- whose lease has ended.
create or replace function private.finish_metering(p_owner uuid, p_sent bigint[], p_refused bigint[], p_refusal text, p_error text, p_wait double precision)
returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform from private.metering_state for update;
  delete from private.metering_events e where e.seq = any (p_sent);
  update private.metering_events e set refusal = left(coalesce(p_refusal, 'refused'), 1000) where e.seq = any (p_refused);
  update private.metering_state s
  set owner = null, lease_expires_at = null, failures = case when p_error is null then 0 else s.failures + 1 end, error = left(p_error, 1000),
    next_at = clock_timestamp() + make_interval(secs => p_wait)
  where s.owner = p_owner;
end
$$;
comment on function private.finish_metering is 'Deletes events that were accepted, and ends the lease of a batch. Authorization: callable by the worker only.';

create or replace function private.metering_failures() returns integer
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select s.failures from private.metering_state s);
end
$$;
comment on function private.metering_failures is 'How many attempts in a row failed. Authorization: callable by the worker only.';

-- Keeps the outbox small while the receiver is away for days: of what waits beyond p_keep events, units of one organization and metric in one
-- hour that is over become one event. An event that may have arrived stays as it is.
create or replace function private.fold_metering(p_at timestamptz default now(), p_keep integer default 100000, p_limit integer default 50000) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_batch bigint[];
  v_count integer;
begin
  if not exists (select from private.metering_events offset p_keep) then
    return 0;
  end if;
  select s.batch into v_batch from private.metering_state s for update;
  with old as (
    delete from private.metering_events e
    where e.seq in (
      select x.seq from private.metering_events x
      where not x.is_folded and x.refusal is null and x.occurred_at < date_trunc('hour', p_at) and x.seq <> all (v_batch)
      order by x.seq limit p_limit)
    returning e.*
  ), folded as (
    insert into private.metering_events (organization_id, metric, amount, total, occurred_at, created_at, is_folded)
    select o.organization_id, o.metric, sum(o.amount), (array_agg(o.total order by o.occurred_at desc, o.seq desc))[1], max(o.occurred_at), min(o.created_at), true
    from old o group by o.organization_id, o.metric, date_trunc('hour', o.occurred_at)
  )
  select count(*) into v_count from old;
  return v_count;
end
$$;
comment on function private.fold_metering is 'Joins events of an hour where very many wait; gives how many were joined. Authorization: callable by schedules only.';

-- A receiver knows the ids of 32 days. An event that it may have got is therefore given up after 30.
create or replace function private.prune_metering(p_at timestamptz default now()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_lost integer;
begin
  perform from private.metering_state for update;
  with old as (delete from private.metering_events e where e.created_at < p_at - interval '30 days' returning e.refusal)
  select count(*) filter (where o.refusal is null) into v_lost from old o;
  if v_lost > 0 then
    update private.metering_state s set lost = s.lost + v_lost;
    raise warning '% units were not sent to OpenMeter within 30 days and are dropped', v_lost;
  end if;
  return v_lost;
end
$$;
comment on function private.prune_metering is 'Retention of events that could not be sent: 30 days. Authorization: callable by schedules only.';

create or replace function private.metering_health(out pending bigint, out refused bigint, out oldest_seconds double precision, out is_failing boolean)
language plpgsql stable security definer set search_path = ''
as $$
begin
  -- Counted up to a bound: the probe must be quick while the receiver is away.
  select count(*) into pending from (select from private.metering_events e where e.refusal is null limit 10000) x;
  select count(*) into refused from (select from private.metering_events e where e.refusal is not null limit 10000) x;
  select coalesce(extract(epoch from clock_timestamp() - e.created_at), 0) into oldest_seconds
  from private.metering_events e where e.refusal is null order by e.seq limit 1;
  oldest_seconds := coalesce(oldest_seconds, 0);
  select s.failures > 0 into is_failing from private.metering_state s;
end
$$;
comment on function private.metering_health is 'Events that wait or were refused, each counted up to 10,000, and whether the last attempt failed. Authorization: callable by the server and the worker only.';

grant execute on function private.declare_metering, private.take_metering, private.finish_metering, private.metering_failures to kijko_worker;
grant execute on function private.metering_health to kijko_server, kijko_worker;
