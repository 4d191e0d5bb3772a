-- The only way to enqueue a job. The SQL function that did the work calls it, in its transaction: work and job commit together or not at
-- all. It does not notify: the process that entered wakes the worker after commit. Only for strangers (psql, Supabase clients) it notifies
-- from here.

-- An upper-case ULID: 48 bits of milliseconds, 80 random bits. gue orders and locks by it; anything else stops its queue.
create or replace function private.new_ulid(p_at timestamptz default clock_timestamp()) returns text
language plpgsql volatile
as $$
declare
  c_alphabet constant text := '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
  v_ms bigint := floor(extract(epoch from p_at) * 1000);
  v_random bytea := uuid_send(gen_random_uuid());
  v_ulid text := '';
begin
  for i in reverse 9..0 loop
    v_ulid := v_ulid || substr(c_alphabet, ((v_ms >> (5 * i)) & 31)::integer + 1, 1);
  end loop;
  -- Bytes 6 and 8 of a version 4 uuid hold its version and variant; 16 characters of 5 bits come from the low bits of all others.
  v_random := v_random || uuid_send(gen_random_uuid());
  for i in 0..15 loop
    v_ulid := v_ulid || substr(c_alphabet, (get_byte(v_random, case when i < 6 then i else i + 10 end) & 31) + 1, 1);
  end loop;
  return v_ulid;
end
$$;
comment on function private.new_ulid is 'A fresh upper-case ULID, as gue wants its job ids.';

create or replace function private.enqueue(
  p_type text, p_args jsonb, p_run_at timestamptz default now(), p_unique_key text default null, p_queue text default 'default'
) returns text
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id text := private.new_ulid();
  v_xid xid8;
begin
  if p_unique_key is not null then
    -- Serializes callers with the same key until commit; others never meet.
    perform pg_advisory_xact_lock(hashtextextended('job ' || p_unique_key, 0));
    if exists (select from jobs.unique_keys where key = p_unique_key) then
      return null;
    end if;
  end if;
  -- The transaction has its id before it reads the clock; the floor of the queue relies on that, and on the clock.
  v_xid := pg_current_xact_id();
  insert into jobs.stored_jobs (job_id, priority, run_at, job_type, args, queue, created_at, updated_at)
  values (v_id, 0, greatest(p_run_at, clock_timestamp()), p_type, convert_to(p_args::text, 'UTF8'), p_queue, now(), now());
  if p_unique_key is not null then
    insert into jobs.unique_keys (key, job_id) values (p_unique_key, v_id);
  end if;
  perform set_config('app.enqueued', 'on', true);
  if coalesce(current_setting('app.wakes', true), '') <> 'on' then
    perform pg_notify('kijko_jobs', '');
  end if;
  return v_id;
end
$$;
comment on function private.enqueue is
  'Puts a job into the queue, in this transaction; null when one with the same unique key waits already. Authorization: callable by definer functions of ours, the server and the worker only.';
grant execute on function private.enqueue to kijko_server, kijko_worker;

create or replace function private.bury_job(
  p_job_id text, p_type text, p_queue text, p_args jsonb, p_error_count integer, p_error text, p_created_at timestamptz
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into jobs.dead_letters (job_id, job_type, queue, args, error_count, last_error, created_at)
  values (p_job_id, p_type, p_queue, p_args, p_error_count, left(p_error, 4000), p_created_at)
  on conflict (job_id) do nothing;
end
$$;
comment on function private.bury_job is 'Keeps a job that used up its attempts for an administrator. Authorization: callable by the worker only.';
grant execute on function private.bury_job to kijko_worker;

create or replace function private.queue_state(out pending bigint, out oldest_seconds double precision)
language sql stable security definer set search_path = ''
as $$
  select count(*), coalesce(max(extract(epoch from now() - run_at)) filter (where run_at <= now()), 0)
  from (select run_at from jobs.gue_jobs order by run_at limit 10000) j
$$;
comment on function private.queue_state is 'Waiting jobs (counted up to 10,000) and the age of the oldest due one, for the health check. Authorization: callable by the server and the worker only.';
grant execute on function private.queue_state to kijko_server, kijko_worker;
