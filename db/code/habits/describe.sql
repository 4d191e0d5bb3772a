-- Describes a schedule in English (contract 20, section 8.5): time, days, months. Values appear in the order of the expression, each once.
-- Where both day fields are restricted, a match of either one makes a day match, so both are named. If one of them holds every day, neither
-- is named. Only for valid expressions; for others it returns null.

create or replace function private.number_ranges(p_numbers integer[]) returns text
language sql immutable parallel safe
return (
  select string_agg(case when low = high then low::text else low || '-' || high end, ', ' order by low)
  from (
    select min(n) as low, max(n) as high
    from (select n, n - row_number() over (order by n) as run from unnest(p_numbers) n) x
    group by run
  ) y);
comment on function private.number_ranges is 'Different numbers in ascending order, neighbors together: 1-5, 10.';

-- p_brief: the shortest form, for the few texts that would be too long to store.
create or replace function private.cron_text(p_fields text[], p_brief boolean) returns text
language plpgsql immutable parallel safe
as $$
declare
  c_days constant text[] := array['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
  c_months constant text[] := array['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October',
    'November', 'December'];
  v_minutes integer[] := private.cron_values(p_fields[1], 0, 59);
  v_hours integer[] := private.cron_values(p_fields[2], 0, 23);
  v_days integer[] := private.cron_values(p_fields[3], 1, 31);
  v_months integer[] := private.cron_values(p_fields[4], 1, 12);
  v_weekdays integer[] := private.cron_values(p_fields[5], 0, 6);
  v_either boolean := p_fields[3] <> '*' and p_fields[5] <> '*';
  v_step text := substring(p_fields[1] from '^(?:\*|[0-9]+-[0-9]+)/([0-9]+)$');
  v_during text;
  v_text text;
  v_on_days text;
  v_on_weekdays text;
begin
  v_during := case when p_fields[2] <> '*' then
    format(' during hour%s %s', case when cardinality(v_hours) > 1 then 's' end,
      case when p_brief then private.number_ranges(v_hours) else array_to_string(v_hours, ', ') end) else '' end;
  v_text := case
    when v_step is not null then format('Every %s minutes%s', v_step::integer, v_during)
    when cardinality(v_minutes) = 60 then 'Every minute' || v_during
    when cardinality(v_hours) = 24 then format('At minute %s of every hour', v_minutes[1])
    else format('At %s:%s %s', (v_hours[1] + 11) % 12 + 1, lpad(v_minutes[1]::text, 2, '0'), case when v_hours[1] < 12 then 'AM' else 'PM' end) end;

  if p_fields[5] <> '*' then
    v_on_weekdays := 'on ' || case
      when v_weekdays @> array[1, 2, 3, 4, 5] and cardinality(v_weekdays) = 5 then 'weekdays'
      when v_weekdays @> array[0, 6] and cardinality(v_weekdays) = 2 then 'weekends'
      when cardinality(v_weekdays) = 1 then c_days[v_weekdays[1] + 1]
      else (select string_agg(left(c_days[d + 1], 3), ', ' order by o) from unnest(v_weekdays) with ordinality t (d, o)) end;
  end if;
  if p_fields[3] <> '*' then
    v_on_days := case
      when cardinality(v_days) = 1 then format('on the %s%s', v_days[1],
        case when v_days[1] in (1, 21, 31) then 'st' when v_days[1] in (2, 22) then 'nd' when v_days[1] in (3, 23) then 'rd' else 'th' end)
      when p_brief then 'on days ' || private.number_ranges(v_days)
      -- Without context, five or more numbers mean nothing to a reader.
      when cardinality(v_days) <= 4 or v_either then 'on days ' || array_to_string(v_days, ', ') end;
  end if;
  return concat_ws(' ', v_text,
    case when not v_either then coalesce(v_on_weekdays, v_on_days)
      when cardinality(v_days) < 31 and cardinality(v_weekdays) < 7 then v_on_days || ' or ' || v_on_weekdays end,
    case when p_fields[4] <> '*' then 'in ' || (
      select string_agg(case when p_brief then left(c_months[m], 3) else c_months[m] end, ', ' order by o)
      from unnest(v_months) with ordinality t (m, o)) end);
end
$$;
comment on function private.cron_text is 'The fields of a valid cron expression in English.';

create or replace function private.cron_description(p_cron text) returns text
language plpgsql immutable parallel safe
as $$
declare
  v_fields text[] := string_to_array(private.normal_cron(p_cron), ' ');
  v_text text;
begin
  if private.cron_error(p_cron) is not null then
    return null;
  end if;
  v_text := private.cron_text(v_fields, false);
  return case when char_length(v_text) <= 255 then v_text else private.cron_text(v_fields, true) end;
end
$$;
comment on function private.cron_description is 'A valid cron expression in English, at most 255 characters; null for any other.';
grant execute on function private.number_ranges, private.cron_text, private.cron_description to authenticated, service_role;
