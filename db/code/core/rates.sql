-- Sliding-window rate limits, shared by all server processes: the count of the previous fixed window is weighted by the share of it that is
-- still inside the sliding one. Every attempt counts, refused ones too, so the count runs in a transaction of its own before the work.
create or replace function private.take_rate(
  p_key text, p_limit integer, p_window interval, p_at timestamptz default clock_timestamp()
) returns table (allowed boolean, remaining integer, reset_at timestamptz, retry_after integer)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_seconds double precision := extract(epoch from p_window);
  v_start timestamptz := to_timestamp(floor(extract(epoch from p_at) / v_seconds) * v_seconds);
  v_hits integer;
  v_previous integer;
  v_weighed double precision;
begin
  insert into private.rate_counters as r (key, window_start, hits) values (p_key, v_start, 1)
  on conflict (key, window_start) do update set hits = r.hits + 1
  returning r.hits into v_hits;
  select coalesce(max(r.hits), 0) into v_previous
  from private.rate_counters r where r.key = p_key and r.window_start = v_start - p_window;

  v_weighed := v_hits + v_previous * (1 - extract(epoch from p_at - v_start) / v_seconds);
  allowed := v_weighed <= p_limit;
  remaining := greatest(0, floor(p_limit - v_weighed)::integer);
  reset_at := v_start + p_window;
  retry_after := greatest(1, ceil(extract(epoch from reset_at - p_at))::integer);
  return next;
end
$$;
comment on function private.take_rate is
  'Counts one attempt under a key and says whether it is within the limit. Authorization: callable by the server and the worker only.';
grant execute on function private.take_rate to kijko_server, kijko_worker;
