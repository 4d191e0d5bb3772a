-- Quiet hours and digest times (contract 30, 11.5), in the recipient's own time and to the minute. Clocks are changed twice a year, so
-- nothing here adds hours to an instant without looking at the clock again.

create or replace function private.known_zone(p_zone text) returns text
language plpgsql stable parallel safe
as $$
begin
  -- Asking for the list of zones reads the files of all of them. Trying one zone is a look-up.
  if p_zone <> 'UTC' and now() at time zone p_zone is not null then
    return p_zone;
  end if;
  return 'UTC';
exception when invalid_parameter_value then
  return 'UTC';
end
$$;
comment on function private.known_zone is 'The time zone, or UTC for a name that this database does not know.';

-- The weekday is the current one also after midnight: with `weekdays`, Saturday 02:00 is not quiet and Monday 02:00 is.
create or replace function private.is_quiet_minute(s public.notification_preferences, p_local timestamp) returns boolean
language plpgsql immutable parallel safe
as $$
declare
  v_day smallint := extract(dow from p_local);
  v_minute time := date_trunc('minute', p_local)::time;
begin
  if not (case s.quiet_days when 'all' then true when 'weekdays' then v_day between 1 and 5 when 'weekends' then v_day in (0, 6)
    else v_day = any (coalesce(s.quiet_custom_days, '{}')) end) then
    return false;
  elsif s.quiet_start <= s.quiet_end then
    return v_minute between s.quiet_start and s.quiet_end;
  end if;
  return v_minute >= s.quiet_start or v_minute <= s.quiet_end;
end
$$;
comment on function private.is_quiet_minute is 'Does the minute of this local time lie within the quiet hours? Both ends do.';

-- Quiet can only end at midnight, in the minute after the end, or where the clock is changed; so it goes from one of these to the next.
create or replace function private.quiet_until(s public.notification_preferences, p_zone text, p_at timestamptz) returns timestamptz
language plpgsql stable parallel safe
as $$
declare
  v_latest timestamptz := p_at + interval '24 hours';
  v_at timestamptz := date_trunc('minute', p_at);
  v_local timestamp;
  v_day timestamp;
  v_next_local timestamp;
  v_next timestamptz;
  v_middle timestamptz;
begin
  if not s.quiet_enabled then
    return null;
  end if;
  v_local := v_at at time zone p_zone;
  if not private.is_quiet_minute(s, v_local) then
    return null;
  end if;
  while private.is_quiet_minute(s, v_local) and v_at < v_latest loop
    v_day := date_trunc('day', v_local);
    v_next_local := v_day + interval '1 day';
    if v_day + s.quiet_end >= v_local then
      v_next_local := v_day + s.quiet_end + interval '1 minute';
    end if;
    v_next := v_at + (v_next_local - v_local);
    if v_next at time zone p_zone <> v_next_local then
      -- The clock changes in between: take the first minute after the change.
      while v_next - v_at > interval '1 minute' loop
        v_middle := date_trunc('minute', v_at + (v_next - v_at) / 2);
        if v_middle at time zone p_zone = v_local + (v_middle - v_at) then
          v_local := v_local + (v_middle - v_at);
          v_at := v_middle;
        else
          v_next := v_middle;
        end if;
      end loop;
    end if;
    v_at := v_next;
    v_local := v_at at time zone p_zone;
  end loop;
  return least(v_at, v_latest);
end
$$;
comment on function private.quiet_until is
  'The first minute after p_at that is not quiet, at most 24 hours later; null when p_at is not quiet.';

create or replace function private.next_digest(s public.notification_preferences, p_zone text, p_cadence text, p_at timestamptz)
returns timestamptz
language plpgsql immutable parallel safe
as $$
declare
  v_day date := (p_at at time zone p_zone)::date;
  v_step integer := 1;
  v_next timestamptz;
begin
  if p_cadence = 'weekly' then
    v_step := 7;
    v_day := v_day + (s.digest_day + 7 - extract(dow from v_day)::integer) % 7;
  end if;
  v_next := (v_day + s.digest_time) at time zone p_zone;
  if v_next <= p_at then
    v_next := (v_day + v_step + s.digest_time) at time zone p_zone;
  end if;
  return v_next;
end
$$;
comment on function private.next_digest is 'When the next daily or weekly digest of these preferences is due, later than p_at.';
