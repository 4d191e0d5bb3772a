-- The sign-ins of the caller (contract 40, 6.4), on every plan.

create or replace function private.login_entry_json(h private.login_history) returns jsonb
language sql stable
return jsonb_strip_nulls(jsonb_build_object('id', h.id, 'userId', h.user_id, 'status', h.status, 'ipAddress', coalesce(h.client_ip, ''),
  'location', private.location_json(), 'deviceInfo', private.device_json(h.device),
  -- A sign-up counts as a sign-in with the password that was just chosen.
  'authMethod', case h.method when 'signup' then 'password' else h.method end,
  'failureReason', h.reason, 'createdAt', private.iso(h.created_at)));
comment on function private.login_entry_json is 'LoginHistoryEntry.';

create or replace function private.my_login_history(p_status text, p_from timestamptz, p_until timestamptz, p_limit integer, p_offset bigint) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_counts jsonb;
  v_total bigint;
begin
  select jsonb_build_object('success', count(*) filter (where h.status = 'success'), 'failed', count(*) filter (where h.status = 'failed'),
    'blocked', count(*) filter (where h.status = 'blocked')), count(*) filter (where h.status = coalesce(p_status, h.status))
  into v_counts, v_total
  from private.login_history h
  where h.user_id = private.user_id() and h.created_at >= p_from and h.created_at < p_until;
  return jsonb_build_object('entries', (
      select coalesce(jsonb_agg(private.login_entry_json(e) order by e.created_at desc, e.id desc), '[]')
      from (
        select h.* from private.login_history h
        where h.user_id = private.user_id() and h.created_at >= p_from and h.created_at < p_until and (p_status is null or h.status = p_status)
        order by h.created_at desc, h.id desc limit p_limit offset p_offset
      ) x, lateral (select x.*) e),
    'hasMore', p_offset + p_limit < v_total, 'total', v_total, 'statusCounts', v_counts);
end
$$;
comment on function private.my_login_history is 'A page of the caller''s sign-ins with its numbers. Authorization: private.user_id() only.';
grant execute on function private.my_login_history to authenticated;

create or replace function api.list_login_history(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_from constant timestamptz := private.as_instant(p ->> 'dateFrom');
  v_to constant timestamptz := private.as_instant(p ->> 'dateTo');
  v_at record := private.page(p, 20);
begin
  if p ->> 'status' not in ('success', 'failed', 'blocked') then
    perform private.refuse_field('status', 'Status must be one of success, failed, blocked.');
  elsif p ->> 'dateFrom' is not null and v_from is null then
    perform private.refuse_field('dateFrom', 'This is no ISO-8601 date or time.');
  elsif p ->> 'dateTo' is not null and v_to is null then
    perform private.refuse_field('dateTo', 'This is no ISO-8601 date or time.');
  end if;
  return private.my_login_history(p ->> 'status', coalesce(private.shown(v_from), '-infinity'),
    -- A date without a time means the whole day.
    coalesce(case when char_length(p ->> 'dateTo') = 10 then v_to + interval '1 day' else private.shown(v_to) + interval '1 millisecond' end, 'infinity'),
    v_at.size, v_at.skipped);
end
$$;
comment on function api.list_login_history is 'GET /security/login-history: the caller''s sign-ins, newest first. Errors: 400 VALIDATION_ERROR.';
grant execute on function api.list_login_history to authenticated;

-- A page of the file, newest first. p: after {at, id} of the last page.
create or replace function private.login_history_csv(p_after jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_page constant integer := 2000;
  v_zone constant text := (select u.timezone from public.users u where u.id = private.user_id());
  v_at constant timestamptz := coalesce(private.as_instant(p_after ->> 'at'), 'infinity');
  v_id constant uuid := coalesce(private.as_uuid(p_after ->> 'id'), 'ffffffff-ffff-ffff-ffff-ffffffffffff');
  v_text text;
  v_rows integer;
  v_after jsonb;
begin
  with line as (
    select h.created_at, h.id, private.csv_line(private.moment_text(h.created_at, v_zone, false), h.status, h.client_ip,
      (private.location_json() ->> 'city') || ', ' || (private.location_json() ->> 'country'),
      (private.device_json(h.device) ->> 'browser') || ' on ' || (private.device_json(h.device) ->> 'os'),
      case h.method when 'signup' then 'password' else h.method end, h.reason) as text
    from private.login_history h
    where h.user_id = private.user_id() and (h.created_at, h.id) < (v_at, v_id)
    order by h.created_at desc, h.id desc limit c_page
  )
  select string_agg(l.text, '' order by l.created_at desc, l.id desc), count(*),
    (array_agg(jsonb_build_object('at', l.created_at, 'id', l.id) order by l.created_at, l.id))[1]
  into v_text, v_rows, v_after
  from line l;
  return jsonb_strip_nulls(jsonb_build_object(
    'content', case when p_after is null then E'Date,Status,IP Address,Location,Device,Method,Failure Reason\n' else '' end || coalesce(v_text, ''),
    'after', case when v_rows = c_page then v_after end,
    'fileName', case when p_after is null then format('login-history-%s.csv', private.day_text(now(), v_zone)) end));
end
$$;
comment on function private.login_history_csv is 'Lines of the file, and where the next page begins. Authorization: private.user_id() only.';
grant execute on function private.login_history_csv to authenticated;

create or replace function api.export_login_history(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.login_history_csv(nullif(p -> 'after', 'null'));
end
$$;
comment on function api.export_login_history is
  'GET /security/login-history/export: the next lines of the file (after: where the last call ended), all entries. Errors: none.';
grant execute on function api.export_login_history to authenticated;
