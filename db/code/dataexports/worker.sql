-- The worker writes a file under a lease in the row of its export. Each call of the worker is a transaction of its own and names the lease, so a
-- worker that lost it reads and writes nothing more.

create or replace function private.tg_data_exports__drop_file() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.enqueue('blobs.delete', jsonb_build_object('keys', jsonb_build_array(old.storage_key)));
  return null;
end
$$;
comment on function private.tg_data_exports__drop_file is 'Trigger: content goes with its row, its time, or the attempt that wrote it.';
create or replace trigger _500_drop_file after delete on private.data_exports
  for each row when (old.storage_key is not null) execute function private.tg_data_exports__drop_file();
create or replace trigger _500_drop_replaced_file after update on private.data_exports
  for each row when (old.storage_key is not null and old.storage_key is distinct from new.storage_key) execute function private.tg_data_exports__drop_file();

-- An export that ended is told to the person. The file itself is behind the session: neither the mail nor the event has the link.
create or replace function private.tg_data_exports__tell() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_is_ready constant boolean := new.status = 'ready';
  v_org constant uuid := (select m.organization_id from public.memberships m
    where m.organization_id = new.organization_id and m.user_id = new.user_id and m.status = 'active');
  v_subject constant text := 'Your data export is ready';
  v_text constant text := 'The file with your data is ready. Sign in and open Settings, Security to download it within 24 hours. If you did not ask for it, change your password now.';
  v_url constant text := private.app_url();
  v_void text;
begin
  v_void := private.emit('user:' || new.user_id, 'resource_changed', jsonb_build_object('resource', 'data_export', 'id', new.id, 'operation', 'updated',
    'changedFields', jsonb_build_array('status'), 'updatedAt', private.iso(clock_timestamp())), null, null, 'room', 'data_export', new.id);
  perform private.notify(new.user_id, 'task_completion', case when v_is_ready then v_subject else 'Your data export failed' end,
    case when v_is_ready then 'Download it within 24 hours.' else 'It could not be made. Please ask for it again.' end,
    jsonb_build_object('exportId', new.id, 'status', new.status), '/', false, 'data_export:' || new.id, null, v_org);
  if v_is_ready then
    if v_org is not null then
      perform private.audit('system.export_completed', 'Exported their own data.',
        jsonb_build_object('kind', 'data', 'type', new.type, 'categories', to_jsonb(new.categories), 'exportId', new.id), null, v_org, new.user_id);
    end if;
    if private.has_mail() then
      perform private.queue_mail('data_export', v_org, u.id, u.email, v_subject, v_text || E'\n\n' || v_url || E'\n',
        format('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>%1$s</title></head><body><p>%2$s</p><p><a href="%3$s">Open Kijko</a></p></body></html>',
          private.html_text(v_subject), private.html_text(v_text), private.html_text(v_url)))
      from public.users u where u.id = new.user_id;
    end if;
  end if;
  return null;
end
$$;
comment on function private.tg_data_exports__tell is 'Trigger: an export that is ready or failed: event, notification, and of one that is ready mail, audit entry and webhooks.';
create or replace trigger _900_tell after update on private.data_exports
  for each row when (old.status = 'processing' and new.status in ('ready', 'failed')) execute function private.tg_data_exports__tell();

-- p_key: where this attempt will put the content.
create or replace function private.claim_data_export(p_id uuid, p_owner uuid, p_seconds integer, p_key text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e private.data_exports;
begin
  select * into e from private.data_exports x where x.id = p_id and x.status in ('pending', 'processing') for no key update;
  if not found or e.lease_expires_at > clock_timestamp() then
    return null;
  elsif e.attempts >= 3 then
    update private.data_exports x set status = 'failed', storage_key = null, lease_owner = null, lease_expires_at = null where x.id = e.id;
    return null;
  end if;
  update private.data_exports x
  set status = 'processing', attempts = x.attempts + 1, storage_key = p_key, lease_owner = p_owner, lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds)
  where x.id = e.id;
  return jsonb_build_object('id', e.id, 'userId', e.user_id, 'categories', to_jsonb(e.categories), 'tables', (
    select jsonb_agg(jsonb_build_object('category', c.category, 'name', c.name, 'key', private.bare_name(c.name), 'label', c.label) order by c.place)
    from private.data_catalogue() c where c.category = any (e.categories)));
end
$$;
comment on function private.claim_data_export is
  'Leases an export to a worker and says what to write; null where there is nothing to do. Authorization: callable by the worker only.';

create or replace function private.hold_data_exports(p_owners uuid[], p_seconds integer) returns setof uuid
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return query
    update private.data_exports x set lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds)
    where x.id in (select o.id from private.data_exports o where o.status = 'processing' and o.lease_owner = any (p_owners) order by o.id for no key update)
    returning x.lease_owner;
end
$$;
comment on function private.hold_data_exports is 'Renews leases by their owners; gives those that hold. Authorization: callable by the worker only.';

create or replace function private.leased_data_export(p_id uuid, p_owner uuid) returns private.data_exports
language plpgsql stable security definer set search_path = ''
as $$
declare
  e private.data_exports;
begin
  select * into e from private.data_exports x where x.id = p_id and x.status = 'processing' and x.lease_owner = p_owner;
  if not found then
    perform private.refuse(409, 'CANCELLED', 'This export is written by another worker, or ended.');
  end if;
  return e;
end
$$;
comment on function private.leased_data_export is
  'The export of a lease. Authorization: callable by the worker''s functions only. Errors: 409 CANCELLED.';

-- {content: records joined by commas, records: how many, after?}. A page ends at 4 MB, or behind a larger record: each page
-- sorts the person's rows again, so small pages of many rows would cost their square.
create or replace function private.data_export_page(p_id uuid, p_owner uuid, p_name text, p_after jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
-- Statements are made of the catalogue's constants:
-- @plpgsql_check_options: security_warnings = off
declare
  c_bytes constant integer := 4000000;
  c_records constant integer := 10000;
  e constant private.data_exports := private.leased_data_export(p_id, p_owner);
  v_after constant jsonb := nullif(p_after, 'null');
  v_statement constant text := private.data_statement(p_name, v_after is not null);
  v_records text[] := '{}';
  v_bytes integer := 0;
  v_record text;
  v_last jsonb;
begin
  for v_record, v_last in execute format('%s limit %s', v_statement, c_records) using e.user_id, v_after loop
    v_records := v_records || v_record;
    v_bytes := v_bytes + octet_length(v_record);
    exit when v_bytes >= c_bytes;
  end loop;
  return jsonb_strip_nulls(jsonb_build_object('content', array_to_string(v_records, ','), 'records', cardinality(v_records),
    'after', case when v_bytes >= c_bytes or cardinality(v_records) = c_records then v_last end));
end
$$;
comment on function private.data_export_page is
  'The next records of a table for a leased export. Authorization: callable by the worker only, for the export it holds. Errors: 409 CANCELLED.';

-- Files of a category: [{id, name, at, key | content}]. The content is in the storage under the key, or (a picture) base64 here.
create or replace function private.data_export_files(p_id uuid, p_owner uuid, p_category text, p_after uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  e constant private.data_exports := private.leased_data_export(p_id, p_owner);
begin
  if p_category = 'profile' then
    return case when p_after is not null then '[]' else coalesce((
      select jsonb_agg(jsonb_build_object('id', e.user_id, 'name', case x.content_type when 'image/png' then 'picture.png' else 'picture.jpg' end,
        'at', extract(epoch from x.created_at)::bigint, 'content', translate(encode(x.content, 'base64'), E'\n', '')))
      from private.pictures x where x.user_id = e.user_id), '[]') end;
  elsif p_category <> 'contexts' then
    return '[]';
  end if;
  return coalesce((
    select jsonb_agg(jsonb_build_object('id', x.id, 'name', x.name, 'at', extract(epoch from x.created_at)::bigint, 'key', x.storage_key) order by x.id)
    from (
      select f.id, f.name, f.created_at, f.storage_key from public.project_files f
      where f.uploaded_by = e.user_id and f.storage_key is not null and (p_after is null or f.id > p_after)
      union all
      select s.id, s.name, s.created_at, s.storage_key from public.staged_files s
      where s.user_id = e.user_id and not s.attached and (p_after is null or s.id > p_after)
      union all
      select a.id, a.name, a.created_at, a.storage_key from public.chat_attachments a where a.user_id = e.user_id and (p_after is null or a.id > p_after)
      order by 1 limit 500
    ) x), '[]');
end
$$;
comment on function private.data_export_files is
  'The next files for a leased export. Authorization: callable by the worker only, for the export it holds. Errors: 409 CANCELLED.';

-- A repeated call gives the same answer.
create or replace function private.finish_data_export(p_id uuid, p_owner uuid, p_key text, p_size bigint) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.data_exports x
  set status = 'ready', completed_at = clock_timestamp(), expires_at = clock_timestamp() + interval '24 hours', file_size = p_size, lease_owner = null,
    lease_expires_at = null
  where x.id = p_id and x.lease_owner = p_owner and x.status = 'processing';
  return found or exists (select from private.data_exports x where x.id = p_id and x.status = 'ready' and x.storage_key = p_key);
end
$$;
comment on function private.finish_data_export is 'The file of a leased export is stored; false when the lease is gone. Authorization: callable by the worker only, for the export it holds.';

-- An attempt that failed is repeated after a pause, the third one is the last. One that is handed back at shutdown does not count.
create or replace function private.release_data_export(p_id uuid, p_owner uuid, p_is_failed boolean) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e private.data_exports;
begin
  select * into e from private.data_exports x where x.id = p_id and x.lease_owner = p_owner and x.status = 'processing' for no key update;
  if not found then
    return false;
  elsif p_is_failed and e.attempts >= 3 then
    update private.data_exports x set status = 'failed', storage_key = null, lease_owner = null, lease_expires_at = null where x.id = e.id;
  else
    update private.data_exports x
    set storage_key = null, lease_owner = null, attempts = x.attempts - (not p_is_failed)::integer,
      lease_expires_at = clock_timestamp() + case when p_is_failed then interval '20 seconds' * x.attempts ^ 2 else interval '0' end
    where x.id = e.id;
  end if;
  return true;
end
$$;
comment on function private.release_data_export is 'Gives an export back after a failure or at shutdown. Authorization: callable by the worker only, for the export it holds.';

create or replace function private.sweep_data_exports(p_at timestamptz default clock_timestamp()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.data_exports x set status = 'expired', storage_key = null
  where x.id in (select o.id from private.data_exports o where o.status = 'ready' and o.expires_at <= p_at order by o.expires_at limit 500 for update skip locked);
  return (
    select count(private.enqueue('dataexports.write', jsonb_build_object('exportId', o.id), p_at, 'dataexports.write:' || o.id, 'dataexports'))::integer
    from (
      select x.id from private.data_exports x
      where x.status in ('pending', 'processing') and (x.lease_expires_at <= p_at or x.lease_expires_at is null)
        and not exists (select from jobs.unique_keys k where k.key = 'dataexports.write:' || x.id)
      limit 1000) o
  );
end
$$;
comment on function private.sweep_data_exports is
  'Ends files at their time, and re-enqueues exports without a living owner or a waiting job; gives how many. Authorization: callable by schedules only.';

grant execute on function private.claim_data_export, private.hold_data_exports, private.data_export_page, private.data_export_files, private.finish_data_export,
  private.release_data_export to kijko_worker;
