-- A schedule in English (contract 20, section 8.5): time, then weekdays, days of the month where weekdays say nothing, and months.
-- Values stand in the order of the expression, each once. Only for valid expressions; of others it makes null.
create or replace function private.cron_description(p_cron text) returns text
language plpgsql immutable parallel safe
as $$
declare
  c_days constant text[] := array['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
  c_months constant text[] := array['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October',
    'November', 'December'];
  v_fields text[] := string_to_array(private.normal_cron(p_cron), ' ');
  v_minutes integer[];
  v_hours integer[];
  v_days integer[];
  v_months integer[];
  v_weekdays integer[];
  v_step text;
  v_during text;
  v_text text;
begin
  if private.cron_error(p_cron) is not null then
    return null;
  end if;
  v_minutes := private.cron_values(v_fields[1], 0, 59);
  v_hours := private.cron_values(v_fields[2], 0, 23);
  v_step := substring(v_fields[1] from '^(?:\*|[0-9]+-[0-9]+)/([0-9]+)$');
  v_during := case when v_fields[2] <> '*' then
    format(' during hour%s %s', case when cardinality(v_hours) > 1 then 's' end, array_to_string(v_hours, ', ')) else '' end;
  v_text := case
    when v_fields[1] = '*' then 'Every minute' || v_during
    when v_step is not null then format('Every %s minutes%s', v_step::integer, v_during)
    when v_fields[2] = '*' then format('At minute %s of every hour', v_minutes[1])
    else format('At %s:%s %s', (v_hours[1] + 11) % 12 + 1, lpad(v_minutes[1]::text, 2, '0'), case when v_hours[1] < 12 then 'AM' else 'PM' end) end;

  if v_fields[5] <> '*' then
    v_weekdays := private.cron_values(v_fields[5], 0, 6);
    v_text := v_text || ' on ' || case
      when v_weekdays @> array[1, 2, 3, 4, 5] and cardinality(v_weekdays) = 5 then 'weekdays'
      when v_weekdays @> array[0, 6] and cardinality(v_weekdays) = 2 then 'weekends'
      when cardinality(v_weekdays) = 1 then c_days[v_weekdays[1] + 1]
      else (select string_agg(left(c_days[d + 1], 3), ', ' order by o) from unnest(v_weekdays) with ordinality t (d, o)) end;
  elsif v_fields[3] <> '*' then
    v_days := private.cron_values(v_fields[3], 1, 31);
    v_text := v_text || case
      when cardinality(v_days) = 1 then format(' on the %s%s', v_days[1],
        case when v_days[1] in (1, 21, 31) then 'st' when v_days[1] in (2, 22) then 'nd' when v_days[1] in (3, 23) then 'rd' else 'th' end)
      when cardinality(v_days) <= 4 then ' on days ' || array_to_string(v_days, ', ')
      -- Five numbers and more say nothing to a reader.
      else '' end;
  end if;
  if v_fields[4] <> '*' then
    v_months := private.cron_values(v_fields[4], 1, 12);
    v_text := v_text || ' in ' || (select string_agg(c_months[m], ', ' order by o) from unnest(v_months) with ordinality t (m, o));
  end if;
  return v_text;
end
$$;
comment on function private.cron_description is 'A valid cron expression in English, at most 255 characters; null for any other.';
grant execute on function private.cron_description to authenticated, service_role;
