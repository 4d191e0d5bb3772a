-- Exports (contract 40, 7.4). A file is written from pages, so that no process holds the whole file. The first call authorizes the caller
-- and counts. Each further call returns the next entries as text, and the call with the last entries records in the trail that an export
-- was completed.

create or replace function private.audit_export_limit() returns integer
language sql immutable parallel safe
return 50000;
comment on function private.audit_export_limit is 'How many entries an export may have.';

-- One page. p_after is where the last page ended. csv: lines; json: elements of the list, indented; pdf: cells, as JSON.
create or replace function private.audit_export_text(
  p_org_id uuid, p_filters jsonb, p_format text, p_zone text, p_until timestamptz, p_after jsonb, out content text, out after jsonb, out entries integer
)
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_page constant integer := 1000;
  f record;
  v_entries public.audit_log[];
  v_last public.audit_log;
begin
  select * into f from private.read_audit_filters(p_filters, private.audit_horizon_of(p_org_id));
  -- The query holds only text that private.audit_source quoted:
  -- @plpgsql_check_options: security_warnings = off
  execute 'select array_agg(x.a) from (select a'
    || private.audit_source(p_org_id, f.user_id, f.kinds, f.since, least(f.until, p_until), f.search)
    || case when p_after is null then '' else ' and (a.created_at, a.id) < ($2, $3)' end || ' order by a.created_at desc, a.id desc limit $1) x'
    into v_entries using c_page, (p_after ->> 'at')::timestamptz, (p_after ->> 'id')::uuid;
  entries := coalesce(cardinality(v_entries), 0);
  if entries = c_page then
    v_last := v_entries[entries];
    after := jsonb_build_object('at', v_last.created_at, 'id', v_last.id);
  end if;
  if p_format = 'json' then
    content := (select string_agg('  ' || ltrim(private.indented(private.audit_entry_json(e, u), 1)), E',\n' order by e.created_at desc, e.id desc)
      from unnest(v_entries) e left join public.users u on u.id = e.user_id);
  else
    with line as (
      select e.created_at, e.id, array[private.moment_text(e.created_at, p_zone),
          case when e.is_erased then 'Deleted user' when e.user_id is null then 'System' else private.person_name(u) end,
          coalesce(u.email, '-'), e.event_category, e.event_type, e.description, coalesce(e.ip_address, '-')] as cells
      from unnest(v_entries) e left join public.users u on u.id = e.user_id
    )
    select case p_format when 'csv' then string_agg(private.csv_line(variadic l.cells), '' order by l.created_at desc, l.id desc)
      else jsonb_agg(to_jsonb(l.cells) order by l.created_at desc, l.id desc)::text end
    into content from line l;
    if p_format = 'csv' and p_after is null then
      content := E'Timestamp,User,Email,Category,Event,Description,IP Address\n' || coalesce(content, '');
    end if;
  end if;
end
$$;
comment on function private.audit_export_text is 'A page of an export as text, and where the next one begins, if there is one. Authorization: callable by functions of ours only.';

create or replace function private.assert_audit_format(p_format text) returns void
language plpgsql stable
as $$
begin
  perform private.require_permission('canViewAuditLog');
  if coalesce(p_format, '') not in ('csv', 'json', 'pdf') then
    perform private.refuse_field('format', 'Format must be one of csv, json, pdf.');
  elsif p_format = 'pdf' then
    perform private.require_gate('audit_pdf', 'PDF exports are part of the Enterprise plan.', 'format');
  end if;
end
$$;
comment on function private.assert_audit_format is 'Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 403 PLAN_UPGRADE_REQUIRED.';
grant execute on function private.assert_audit_format to authenticated;

-- ---------------------------------------------------------------------------------------------------------------- by a person

create or replace function private.begin_audit_download(p_format text, p_filters jsonb, p_schedule text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_zone constant text := (select u.timezone from public.users u where u.id = private.user_id());
  v_total bigint;
begin
  perform private.assert_audit_format(p_format);
  if p_schedule is not null then
    perform private.require_gate('audit_schedules', 'Scheduled exports are part of the Enterprise plan.', 'schedule');
  end if;
  v_total := (private.audit_matches(private.org_id(), p_filters, v_now, 0, 0)).total;
  if v_total > private.audit_export_limit() then
    perform private.refuse(409, 'EXPORT_TOO_LARGE', 'An export holds at most 50,000 entries. Please narrow the filter.', 'filters',
      jsonb_build_object('entries', v_total, 'limit', private.audit_export_limit()));
  end if;
  if p_schedule is not null then
    perform from public.organizations o where o.id = private.org_id() for no key update;
    if (select count(*) from public.audit_schedules s where s.organization_id = private.org_id()) >= 20 then
      perform private.refuse(409, 'TOO_MANY_AUDIT_SCHEDULES', 'An organization has at most 20 scheduled exports. Delete one first.');
    end if;
    insert into public.audit_schedules (organization_id, user_id, format, filters, schedule, next_run_at, created_at)
    values (private.org_id(), private.user_id(), p_format, p_filters, p_schedule, private.next_audit_run(v_now, p_schedule, v_now, v_zone), v_now);
  end if;
  return jsonb_build_object('format', p_format, 'filters', p_filters, 'until', v_now, 'entries', v_total,
    'fileName', format('audit-log-%s.%s', private.day_text(v_now, v_zone), p_format));
end
$$;
comment on function private.begin_audit_download is
  'Checks an export, and keeps its schedule. Authorization: canViewAuditLog, the plan; the organization is the caller''s. Errors: 400, 403, 409 EXPORT_TOO_LARGE, TOO_MANY_AUDIT_SCHEDULES.';
grant execute on function private.begin_audit_download to authenticated;

create or replace function api.export_audit_log(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
begin
  if b ->> 'schedule' not in ('daily', 'weekly', 'monthly') then
    perform private.refuse_field('schedule', 'Schedule must be one of daily, weekly, monthly.');
  end if;
  return private.begin_audit_download(b ->> 'format', private.clean_audit_filters(private.as_object(b -> 'filters', 'filters')), b ->> 'schedule');
end
$$;
comment on function api.export_audit_log is
  'POST /security/audit-log/export: checks it and says how the file is to be read (private.audit_download_page). Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 403 PLAN_UPGRADE_REQUIRED, 409 EXPORT_TOO_LARGE, 409 TOO_MANY_AUDIT_SCHEDULES.';
grant execute on function api.export_audit_log to authenticated;

-- p: the answer of api.export_audit_log, and after. The trail records the export when the last entries are returned.
create or replace function private.audit_download_page(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_filters jsonb;
  v_until timestamptz;
  v_after constant jsonb := nullif(p -> 'after', 'null');
  v record;
begin
  perform private.assert_audit_format(p ->> 'format');
  v_filters := private.clean_audit_filters(private.as_object(p -> 'filters', 'filters'));
  v_until := private.as_instant(p ->> 'until');
  if v_until is null or v_after is not null and (private.as_instant(v_after ->> 'at') is null or private.as_uuid(v_after ->> 'id') is null) then
    perform private.refuse_field('until', 'An export begins with export_audit_log.');
  end if;
  select * into v from private.audit_export_text(private.org_id(), v_filters, p ->> 'format',
    (select u.timezone from public.users u where u.id = private.user_id()), v_until, v_after);
  if v.after is null then
    perform private.notify_audit_export(private.org_id(), private.user_id(), p ->> 'format',
      (private.audit_matches(private.org_id(), v_filters, v_until, 0, 0)).total, null);
  end if;
  return jsonb_strip_nulls(jsonb_build_object('content', coalesce(v.content, ''), 'after', v.after));
end
$$;
comment on function private.audit_download_page is
  'The next entries of an export as text. Authorization: canViewAuditLog, the plan; the organization is the caller''s. Errors: 400, 403.';
grant execute on function private.audit_download_page to authenticated;

create or replace function private.notify_audit_export(p_org_id uuid, p_user_id uuid, p_format text, p_entries bigint, p_schedule text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.audit('system.export_completed', format('Exported %s entries of the audit log as %s.', p_entries, upper(p_format)),
    jsonb_strip_nulls(jsonb_build_object('format', p_format, 'entries', p_entries, 'schedule', p_schedule)), null, p_org_id, p_user_id);
end
$$;
comment on function private.notify_audit_export is 'The trail tells of an export of itself. Authorization: callable by functions of ours only.';

-- -------------------------------------------------------------------------------------------------------------------- schedules

-- Runs at six in the morning in the person's zone. Months are counted from the first run, so that the 31st comes back after a short month.
create or replace function private.next_audit_run(p_begun timestamptz, p_schedule text, p_after timestamptz, p_zone text) returns timestamptz
language sql stable
return (
  select min(r.at)
  from (select coalesce(private.zone_used(p_zone), 'UTC') as zone) z,
    lateral (select (p_begun at time zone z.zone)::date as begun, (p_after at time zone z.zone)::date as today) d,
    lateral generate_series(0, 2) n,
    lateral (select case p_schedule
      when 'daily' then (d.today + n)::timestamp
      when 'weekly' then (d.begun + 7 * ((d.today - d.begun) / 7 + n))::timestamp
      else d.begun + make_interval(months => (12 * (extract(year from d.today) - extract(year from d.begun))
        + extract(month from d.today) - extract(month from d.begun))::integer + n) end as day) t,
    lateral (select (t.day + interval '6 hours') at time zone z.zone as at) r
  where r.at > p_after and t.day > d.begun
);
comment on function private.next_audit_run is 'When a scheduled export runs next.';

create or replace function api.list_audit_schedules(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  perform private.require_permission('canViewAuditLog');
  perform private.require_gate('audit_schedules', 'Scheduled exports are part of the Enterprise plan.');
  return (select coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'format', s.format, 'filters', s.filters, 'schedule', s.schedule,
    'nextRunAt', private.iso(s.next_run_at), 'createdAt', private.iso(s.created_at)) order by s.created_at, s.id), '[]') from public.audit_schedules s);
end
$$;
comment on function api.list_audit_schedules is 'GET /security/audit-log/export-schedules: all of the organization. Errors: 403 FORBIDDEN, 403 PLAN_UPGRADE_REQUIRED.';
grant execute on function api.list_audit_schedules to authenticated;

-- Open on every plan: an organization that moved to a smaller plan can still delete its schedules.
create or replace function api.delete_audit_schedule(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.require_permission('canViewAuditLog');
  delete from public.audit_schedules s where s.id = private.as_uuid(p ->> 'scheduleId');
  if not found then
    perform private.refuse(404, 'NOT_FOUND', format('Scheduled export with ID %s not found', p ->> 'scheduleId'));
  end if;
  return null;
end
$$;
comment on function api.delete_audit_schedule is 'DELETE /security/audit-log/export-schedules/{scheduleId}: ends it. Errors: 403 FORBIDDEN, 404 NOT_FOUND.';
grant execute on function api.delete_audit_schedule to authenticated;

-- Moves due schedules on and enqueues their jobs, in one transaction. However long no worker ran, only one missed run is caught up.
create or replace function private.queue_audit_exports(p_at timestamptz default now()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v public.audit_schedules;
  v_done integer := 0;
begin
  for v in select * from public.audit_schedules s where s.next_run_at <= p_at order by s.next_run_at limit 500 for update skip locked loop
    perform private.enqueue('audit.export', jsonb_build_object('scheduleId', v.id, 'runAt', v.next_run_at), now(), format('audit.export:%s:%s', v.id, v.next_run_at));
    update public.audit_schedules s
    set next_run_at = private.next_audit_run(v.created_at, v.schedule, p_at, (select u.timezone from public.users u where u.id = v.user_id))
    where s.id = v.id;
    v_done := v_done + 1;
  end loop;
  return v_done;
end
$$;
comment on function private.queue_audit_exports is 'Enqueues the exports that are due. Authorization: callable by schedules only.';

-- Returns the creator of the schedule, if their role and the plan still allow the export now.
create or replace function private.audit_schedule_owner(s public.audit_schedules) returns public.users
language plpgsql stable security definer set search_path = ''
as $$
declare
  v public.users;
begin
  select u.* into v
  from public.users u
  join public.memberships m on m.user_id = u.id and m.organization_id = s.organization_id and m.status = 'active'
  join public.role_permissions p on p.role = m.role and p.permission = 'canViewAuditLog'
  where u.id = s.user_id and private.has_gate(s.organization_id, 'audit_schedules') and (s.format <> 'pdf' or private.has_gate(s.organization_id, 'audit_pdf'));
  return v;
end
$$;
comment on function private.audit_schedule_owner is 'The user whose permissions the schedule''s export has; null where none is allowed to have it. Authorization: callable by functions of ours only.';

-- Begins a run under the storage key that its content will have. Where another worker began the run and died (or is slow), this worker
-- takes over, and the content that the other worker wrote is deleted. p: scheduleId, runAt, key.
create or replace function private.begin_audit_export(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.audit_schedules;
  f private.audit_files;
  v_run_at constant timestamptz := (p ->> 'runAt')::timestamptz;
  v_owner public.users;
  v_total bigint;
begin
  select * into s from public.audit_schedules x where x.id = (p ->> 'scheduleId')::uuid for key share;
  if not found then
    return null;
  end if;
  v_owner := private.audit_schedule_owner(s);
  if v_owner.id is null or not private.has_mail() then
    return null;
  end if;
  select * into f from private.audit_files x where x.schedule_id = s.id and x.run_at = v_run_at for update;
  if f.token_hash is not null then
    return null;
  elsif f.id is not null then
    update private.audit_files x set storage_key = p ->> 'key' where x.id = f.id;
    perform private.enqueue('blobs.delete', jsonb_build_object('keys', jsonb_build_array(f.storage_key)));
  else
    insert into private.audit_files (organization_id, schedule_id, run_at, file_name, storage_key, expires_at)
    values (s.organization_id, s.id, v_run_at, format('audit-log-%s.%s', private.day_text(v_run_at, v_owner.timezone), s.format), p ->> 'key', now() + interval '1 day');
  end if;
  v_total := (private.audit_matches(s.organization_id, s.filters, v_run_at, 0, 0)).total;
  if v_total > private.audit_export_limit() then
    update private.audit_files x set token_hash = sha256(uuid_send(gen_random_uuid())), expires_at = now() where x.schedule_id = s.id and x.run_at = v_run_at;
    perform private.queue_audit_mail(s, v_owner, format('The export would hold %s entries, and at most 50,000 can be exported. Please make a new schedule with a narrower filter.', v_total), null);
    return null;
  end if;
  return jsonb_build_object('format', s.format, 'fileName', format('audit-log-%s.%s', private.day_text(v_run_at, v_owner.timezone), s.format));
end
$$;
comment on function private.begin_audit_export is
  'What a run of a schedule has to write, or null where there is nothing (more) to do. Authorization: callable by the worker only; the schedule''s owner is checked as of now.';

-- p: scheduleId, runAt, after?
create or replace function private.scheduled_audit_page(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  s public.audit_schedules;
  v record;
begin
  select * into s from public.audit_schedules x where x.id = (p ->> 'scheduleId')::uuid;
  if not found then
    return null;
  end if;
  select * into v from private.audit_export_text(s.organization_id, s.filters, s.format, (select u.timezone from public.users u where u.id = s.user_id),
    (p ->> 'runAt')::timestamptz, nullif(p -> 'after', 'null'));
  return jsonb_strip_nulls(jsonb_build_object('content', coalesce(v.content, ''), 'after', v.after));
end
$$;
comment on function private.scheduled_audit_page is 'The next entries of a scheduled export as text. Authorization: callable by the worker only.';

-- p: scheduleId, runAt, key, token. False where another worker has the run by now, or the owner may not have the export any more.
create or replace function private.finish_audit_export(p jsonb) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.audit_schedules;
  f private.audit_files;
  v_owner public.users;
begin
  select * into s from public.audit_schedules x where x.id = (p ->> 'scheduleId')::uuid for key share;
  v_owner := private.audit_schedule_owner(s);
  if v_owner.id is null then
    delete from private.audit_files x where x.schedule_id = s.id and x.storage_key = p ->> 'key';
    return false;
  end if;
  update private.audit_files x
  set token_hash = sha256(convert_to(p ->> 'token', 'UTF8')), expires_at = now() + interval '24 hours'
  where x.schedule_id = s.id and x.run_at = (p ->> 'runAt')::timestamptz and x.storage_key = p ->> 'key' and x.token_hash is null
  returning * into f;
  if not found then
    return false;
  end if;
  perform private.queue_audit_mail(s, v_owner, 'Your export of the audit log is ready. The link works for 24 hours.',
    format('%s/api/v1/security/audit-log/export-files/%s?token=%s', private.api_url(), f.id, p ->> 'token'));
  perform private.notify_audit_export(s.organization_id, s.user_id, s.format,
    (private.audit_matches(s.organization_id, s.filters, f.run_at, 0, 0)).total, s.schedule);
  return true;
end
$$;
comment on function private.finish_audit_export is
  'Mails the link to a written file, once. Authorization: callable by the worker only; the schedule''s owner is checked as of now.';
grant execute on function private.begin_audit_export, private.scheduled_audit_page, private.finish_audit_export to kijko_worker;

create or replace function private.api_url() returns text
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return coalesce((select rtrim(i.value #>> '{}', '/') from private.installation i where i.key = 'api_url'), '');
end
$$;
comment on function private.api_url is 'Where this installation''s API is reached, without a slash at the end. Authorization: gives away one public address.';

create or replace function private.queue_audit_mail(s public.audit_schedules, p_owner public.users, p_message text, p_link text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_subject constant text := format('Your %s export of the audit log', s.schedule);
  v_name constant text := private.one_line((select o.name from public.organizations o where o.id = s.organization_id));
begin
  perform private.queue_mail('audit_export', s.organization_id, p_owner.id, p_owner.email, v_subject,
    p_message || E'\n' || coalesce(E'\n' || p_link || E'\n', '') || format(E'\nOrganization: %s\n', v_name),
    format('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>%s</title></head><body><p>%s</p>%s<p>Organization: %s</p></body></html>',
      private.html_text(v_subject), private.html_text(p_message),
      coalesce(format('<p><a href="%s">Download the file</a></p>', private.html_text(p_link)), ''), private.html_text(v_name)));
end
$$;
comment on function private.queue_audit_mail is 'Tells the owner of a schedule about a run. Authorization: callable by functions of ours only.';

-- The link is in the outbox only until it is sent.
create or replace function private.tg_mails__forget_link() returns trigger
language plpgsql volatile set search_path = ''
as $$
begin
  new.body_text := '(sent)';
  new.body_html := '(sent)';
  return new;
end
$$;
comment on function private.tg_mails__forget_link is 'Trigger: a sent mail keeps no link that opens a file.';
create or replace trigger _500_forget_link before update of sent_at on private.mails
  for each row when (new.kind = 'audit_export' and new.sent_at is not null) execute function private.tg_mails__forget_link();

-- p: exportId, token. The link is all that is needed. It stops working as soon as its owner may not have the file any more.
create or replace function private.take_audit_file(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  f private.audit_files;
begin
  select x.* into f
  from private.audit_files x
  join public.audit_schedules s on s.id = x.schedule_id
  where x.id = private.as_uuid(p ->> 'exportId') and x.token_hash = sha256(convert_to(coalesce(p ->> 'token', ''), 'UTF8')) and x.expires_at > now()
    and (private.audit_schedule_owner(s)).id is not null;
  if not found then
    perform private.refuse(404, 'NOT_FOUND', 'This link is not valid any more. Links to exports work for 24 hours.');
  end if;
  return jsonb_build_object('key', f.storage_key, 'fileName', f.file_name);
end
$$;
comment on function private.take_audit_file is 'The file of a link. Authorization: callable by the server only; the token, by its hash. Errors: 404 NOT_FOUND.';
grant execute on function private.take_audit_file to kijko_server;

create or replace function private.tg_audit_files__drop() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_keys jsonb := (select jsonb_agg(distinct g.storage_key) from gone g);
begin
  if v_keys is not null then
    perform private.enqueue('blobs.delete', jsonb_build_object('keys', v_keys));
  end if;
  return null;
end
$$;
comment on function private.tg_audit_files__drop is 'Trigger: content goes with its row, whatever deleted it.';
create or replace trigger _500_drop after delete on private.audit_files referencing old table as gone
  for each statement execute function private.tg_audit_files__drop();
