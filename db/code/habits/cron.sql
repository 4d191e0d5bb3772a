-- Cron (contract 20, section 8): five fields, digits only; both day fields restricted means either. A schedule lives on the wall clock
-- of its zone. With a fixed hour, a local time that the clocks skip runs at the first instant after the gap, and one that they repeat
-- runs once, the first time. With hour `*` real minutes count: skipped minutes are skipped, repeated ones run twice.
--
-- A field becomes a set of bits, so finding the next match is a handful of shifts, whatever the expression; nothing here costs a
-- caller more than a fraction of a millisecond. All arithmetic is on timestamps without a zone: adding days to one with a zone would
-- follow the session's own.

-- White space is Unicode's, also where the database's locale knows less.
create or replace function private.normal_cron(p_cron text) returns text
language sql immutable parallel safe
return regexp_replace(regexp_replace(p_cron, '[\s\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]+', ' ', 'g'), '^ | $', '', 'g');
comment on function private.normal_cron is 'A cron expression as it is stored: trimmed, one space between its fields.';

create or replace function private.cron_values(p_field text, p_min integer, p_max integer) returns integer[]
language plpgsql immutable parallel safe
as $$
declare
  v_item text;
  v_parts text[];
  v_from integer;
  v_to integer;
  v_step integer;
  v_seen bigint := 0;
  v_values integer[];
begin
  foreach v_item in array string_to_array(p_field, ',') loop
    v_parts := regexp_match(v_item, '^(?:\*|([0-9]{1,4})(?:-([0-9]{1,4}))?)(?:/([0-9]{1,4}))?$');
    if v_parts is null then
      return null;
    end if;
    v_from := coalesce(v_parts[1]::integer, p_min);
    -- v/n means just v.
    v_to := case when v_parts[1] is null then p_max else coalesce(v_parts[2]::integer, v_from) end;
    v_step := coalesce(v_parts[3]::integer, 1);
    if v_step < 1 or v_from < p_min or v_to > p_max or v_from > v_to then
      return null;
    end if;
    while v_from <= v_to loop
      if v_seen & (1::bigint << v_from) = 0 then
        v_seen := v_seen | (1::bigint << v_from);
        v_values := v_values || v_from;
      end if;
      v_from := v_from + v_step;
    end loop;
  end loop;
  return v_values;
end
$$;
comment on function private.cron_values is 'Values of a cron field in the order in which they are named, each once; null when the field is not valid.';

-- Minutes, hours, days, months and weekdays as bits (value v is bit v), and 1 for an hourly schedule. Only a literal * is unrestricted:
-- where one day field is and the other is not, its set is left empty, so that "either" is a plain or.
create or replace function private.cron_sets(p_cron text) returns bigint[]
language plpgsql immutable parallel safe
as $$
declare
  c_min constant integer[] := array[0, 0, 1, 1, 0];
  c_max constant integer[] := array[59, 23, 31, 12, 6];
  v_fields text[] := string_to_array(p_cron, ' ');
  v_values integer[];
  v_value integer;
  v_set bigint;
  v_sets bigint[];
begin
  if cardinality(v_fields) is distinct from 5 then
    return null;
  end if;
  for i in 1..5 loop
    if v_fields[i] = '*' then
      v_set := (1::bigint << (c_max[i] + 1)) - (1 << c_min[i]);
    else
      v_set := 0;
      v_values := private.cron_values(v_fields[i], c_min[i], c_max[i]);
      if v_values is null then
        return null;
      end if;
      foreach v_value in array v_values loop
        v_set := v_set | (1::bigint << v_value);
      end loop;
    end if;
    v_sets[i] := v_set;
  end loop;
  if v_fields[5] = '*' then
    v_sets[5] := 0;
  elsif v_fields[3] = '*' then
    v_sets[3] := 0;
  end if;
  v_sets[6] := (v_fields[2] = '*')::integer;
  return v_sets;
end
$$;
comment on function private.cron_sets is 'A normal cron expression as six sets of bits; null when it is not valid.';

create or replace function private.cron_error(p_cron text) returns text
language plpgsql immutable parallel safe
as $$
declare
  v_cron text;
  v_fields text[];
  v_sets bigint[];
  v_day bigint;
begin
  -- Text of this length is no expression, however much of it is white space.
  if char_length(p_cron) > 10000 then
    return 'Cron expression must be 100 characters or less';
  end if;
  v_cron := private.normal_cron(coalesce(p_cron, ''));
  v_fields := string_to_array(v_cron, ' ');
  if cardinality(v_fields) <> 5 then
    return 'Cron expression must have exactly 5 parts (minute hour day month weekday)';
  elsif char_length(v_cron) > 100 then
    return 'Cron expression must be 100 characters or less';
  end if;
  v_sets := private.cron_sets(v_cron);
  if v_sets is null then
    return case
      when private.cron_values(v_fields[1], 0, 59) is null then 'Invalid minute value (0-59)'
      when private.cron_values(v_fields[2], 0, 23) is null then 'Invalid hour value (0-23)'
      when private.cron_values(v_fields[3], 1, 31) is null then 'Invalid day of month value (1-31)'
      when private.cron_values(v_fields[4], 1, 12) is null then 'Invalid month value (1-12)'
      else 'Invalid day of week value (0-6)' end;
  end if;
  -- Every month has all weekdays, and 29 February comes within 8 years. So only a day that none of the months has never comes.
  v_day := private.lowest_bit(v_sets[3]);
  if v_sets[5] = 0 and not (v_sets[4] & 5546 <> 0 or (v_day <= 30 and v_sets[4] & 2640 <> 0) or (v_day <= 29 and v_sets[4] & 4 <> 0)) then
    return 'Cron expression never runs';
  end if;
  return null;
end
$$;
comment on function private.cron_error is 'What is wrong with a cron expression, as the contract words it; null when it is valid.';

create or replace function private.lowest_bit(p_set bigint) returns integer
language sql immutable parallel safe
return bit_count(((p_set & -p_set) - 1)::bit(64))::integer;
comment on function private.lowest_bit is 'Number of the lowest bit that is set; 64 when none is.';

-- The calendar. Zones do not matter here.
create or replace function private.cron_match(p_sets bigint[], p_from timestamp, p_before timestamp) returns timestamp
language plpgsql immutable parallel safe
as $$
declare
  v_first date := date_trunc('month', p_from);
  v_month integer := extract(month from p_from);
  v_day integer := extract(day from p_from);
  v_hour integer := extract(hour from p_from);
  v_minute integer := extract(minute from p_from);
  v_next date;
  v_days bigint;
  v_hours bigint;
  v_minutes bigint;
begin
  while v_first < p_before loop
    v_next := v_first + interval '1 month';
    if p_sets[4] & (1 << v_month) <> 0 then
      -- Six copies of the week, moved so that bit 1 is the weekday of the 1st.
      v_days := p_sets[3] | ((p_sets[5] * 34630287489) >> extract(dow from v_first)::integer << 1);
      v_days := v_days & ((1::bigint << (v_next - v_first + 1)) - 2) & (-1::bigint << v_day);
      if v_days & (1::bigint << v_day) <> 0 then
        v_hours := p_sets[2] & (-1::bigint << v_hour);
        v_minutes := case when v_hours & (1 << v_hour) <> 0 then p_sets[1] & (-1::bigint << v_minute) else 0 end;
        if v_minutes = 0 then
          v_hours := p_sets[2] & (-1::bigint << (v_hour + 1));
          v_minutes := p_sets[1];
        end if;
        if v_hours = 0 then
          v_days := v_days & ~(1::bigint << v_day);
          v_hours := p_sets[2];
        end if;
      else
        v_hours := p_sets[2];
        v_minutes := p_sets[1];
      end if;
      if v_days <> 0 then
        return nullif(least(p_before, v_first + make_interval(days => private.lowest_bit(v_days) - 1,
          hours => private.lowest_bit(v_hours), mins => private.lowest_bit(v_minutes))), p_before);
      end if;
    end if;
    v_first := v_next;
    v_month := v_month % 12 + 1;
    v_day := 1;
    v_hour := 0;
    v_minute := 0;
  end loop;
  return null;
end
$$;
comment on function private.cron_match is 'First minute of the calendar from p_from on, before p_before, that the sets of private.cron_sets match; null without one.';

-- p_from is in UTC, so is the result; no zone has ever changed its clocks twice within 80 hours, and callers ask for less.
create or replace function private.clock_change(p_zone text, p_from timestamp, p_to timestamp) returns timestamp
language plpgsql immutable parallel safe
as $$
declare
  v_offset interval := (p_from at time zone 'UTC' at time zone p_zone) - p_from;
  v_from timestamp := date_trunc('second', p_from);
  v_seconds integer := ceil(extract(epoch from p_to - v_from));
  v_half integer;
begin
  while v_seconds > 1 loop
    v_half := v_seconds / 2;
    if (v_from + make_interval(secs => v_half)) at time zone 'UTC' at time zone p_zone - (v_from + make_interval(secs => v_half)) = v_offset then
      v_from := v_from + make_interval(secs => v_half);
      v_seconds := v_seconds - v_half;
    else
      v_seconds := v_half;
    end if;
  end loop;
  return v_from + interval '1 second';
end
$$;
comment on function private.clock_change is 'First instant after p_from with another offset of the zone; there is exactly one change up to p_to. Everything in UTC.';

create or replace function private.cron_next(p_cron text, p_zone text, p_after timestamptz) returns timestamptz
language plpgsql stable parallel safe
as $$
declare
  v_zone text := private.zone_used(p_zone);
  v_sets bigint[] := private.cron_sets(private.normal_cron(p_cron));
  v_utc timestamp;
  v_local timestamp;
  v_before timestamp;
begin
  if v_zone is null or v_sets is null or p_after is null
    or p_after not between timestamptz '0001-01-03 00:00:00+00' and timestamptz '9990-12-31 00:00:00+00' then
    return null;
  end if;
  v_utc := p_after at time zone 'UTC';
  v_local := p_after at time zone v_zone;
  v_before := date_trunc('day', v_local) + interval '8 years 1 day';
  return case when v_sets[6] = 1 then private.next_hourly(v_sets, v_zone, v_utc, v_local, v_before)
    else private.next_fixed(v_sets, v_zone, v_utc, v_local, v_before) end at time zone 'UTC';
end
$$;
comment on function private.cron_next is
  'The one rule of schedules: first run strictly after an instant, on the wall clock of the zone; null when there is none within 8 years, or the expression or the zone is not valid.';

-- The first instant at which the local clock shows the matching time, or has passed over it.
create or replace function private.next_fixed(p_sets bigint[], p_zone text, p_utc timestamp, p_local timestamp, p_before timestamp) returns timestamp
language plpgsql immutable parallel safe
as $$
declare
  v_from timestamp := date_trunc('minute', p_local) + interval '1 minute';
  v_at timestamp := p_utc - interval '36 hours';
  v_past interval := (v_at at time zone 'UTC' at time zone p_zone) - v_at;
  v_coming interval;
  v_match timestamp;
begin
  -- Clocks that were set back a moment ago show the same time twice. The first time has had its run.
  if v_past > p_local - p_utc then
    v_at := private.clock_change(p_zone, v_at, p_utc);
    v_from := greatest(v_from, date_trunc('minute', v_at + v_past + interval '59.999999 seconds'));
  end if;
  v_match := private.cron_match(p_sets, v_from, p_before);
  if v_match is null then
    return null;
  end if;

  v_at := v_match - interval '36 hours';
  v_past := (v_at at time zone 'UTC' at time zone p_zone) - v_at;
  v_at := v_match + interval '36 hours';
  v_coming := (v_at at time zone 'UTC' at time zone p_zone) - v_at;
  if v_past = v_coming or (v_match - v_past) at time zone 'UTC' at time zone p_zone = v_match then
    return v_match - v_past;
  elsif (v_match - v_coming) at time zone 'UTC' at time zone p_zone = v_match then
    return v_match - v_coming;
  end if;
  return private.clock_change(p_zone, v_match - interval '36 hours', v_match + interval '36 hours');
end
$$;
comment on function private.next_fixed is 'private.cron_next of schedules with a restricted hour; times in UTC but p_local and p_before.';

-- Goes stretch by stretch, each with one offset. Within 36 hours there is at most one change of offset. Beyond them no time matches until
-- the match that the calendar names comes near.
create or replace function private.next_hourly(p_sets bigint[], p_zone text, p_utc timestamp, p_local timestamp, p_before timestamp) returns timestamp
language plpgsql immutable parallel safe
as $$
declare
  v_at timestamp := p_utc;
  v_from timestamp := date_trunc('minute', p_local) + interval '1 minute';
  v_offset interval := p_local - p_utc;
  v_match timestamp;
  v_end timestamp;
begin
  loop
    v_match := private.cron_match(p_sets, v_from, p_before);
    exit when v_match is null;
    v_end := least(v_match - v_offset, v_at + interval '36 hours');
    if (v_end at time zone 'UTC' at time zone p_zone) - v_end <> v_offset then
      v_at := private.clock_change(p_zone, v_at, v_end);
    elsif v_end = v_match - v_offset then
      return v_end;
    else
      v_at := greatest(v_end, v_match - v_offset - interval '72 hours');
    end if;
    v_from := v_at at time zone 'UTC' at time zone p_zone;
    v_offset := v_from - v_at;
    v_from := date_trunc('minute', v_from + interval '59.999999 seconds');
  end loop;
  return null;
end
$$;
comment on function private.next_hourly is 'private.cron_next of schedules with hour *; times in UTC but p_local and p_before.';

grant execute on function private.normal_cron, private.cron_values, private.cron_sets, private.cron_error, private.lowest_bit,
  private.cron_match, private.clock_change, private.cron_next, private.next_fixed, private.next_hourly to authenticated, service_role;
