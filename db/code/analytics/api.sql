create or replace function api.track_events(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.track_events(case jsonb_typeof(p -> 'body') when 'object' then p -> 'body' -> 'events' end);
end
$$;
comment on function api.track_events is 'POST /analytics/events: {accepted, rejected, errors?}. Errors: 400 VALIDATION_ERROR.';
grant execute on function api.track_events to anon, authenticated;

create or replace function api.get_analytics_summary(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_to constant timestamptz := private.as_instant(p ->> 'to');
  v_from constant timestamptz := private.as_instant(p ->> 'from');
  v_end timestamptz;
begin
  if p ->> 'from' is not null and v_from is null then
    perform private.refuse_field('from', 'This is no ISO-8601 date or time.');
  elsif p ->> 'to' is not null and v_to is null then
    perform private.refuse_field('to', 'This is no ISO-8601 date or time.');
  end if;
  -- A date without a time means the whole day.
  v_end := coalesce(case when char_length(p ->> 'to') = 10 then v_to + interval '1 day' else private.shown(v_to) + interval '1 millisecond' end, now());
  if v_from >= v_end then
    perform private.refuse_field('from', 'from must be before to.');
  end if;
  return private.analytics_summary(coalesce(private.shown(v_from), v_end - interval '30 days'), v_end);
end
$$;
comment on function api.get_analytics_summary is 'GET /analytics/summary: AnalyticsSummary, of the last 30 days unless the query says otherwise. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN.';
grant execute on function api.get_analytics_summary to authenticated;
