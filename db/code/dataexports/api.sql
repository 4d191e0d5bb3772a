-- The operations of a person's own data. None is open to an API key.

create or replace function private.require_person() returns uuid
language plpgsql stable
as $$
begin
  perform private.refuse_keys();
  if private.user_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  return private.user_id();
end
$$;
comment on function private.require_person is 'The caller, who is signed in with a session. Errors: 401 UNAUTHENTICATED, 403 API_KEY_NOT_ALLOWED.';
grant execute on function private.require_person to authenticated;

create or replace function private.export_categories() returns text[]
language sql immutable parallel safe
return array['profile', 'settings', 'activity', 'contexts', 'integrations'];
comment on function private.export_categories is 'The files that an export can have.';
grant execute on function private.export_categories to authenticated;

-- 43 characters that hold as long as the file: the signature covers its end.
create or replace function private.export_token(e private.data_exports) returns text
language plpgsql stable security definer set search_path = ''
as $$
begin
  return rtrim(translate(encode(private.hmac_sha256((select k.key from private.data_export_key k),
    uuid_send(e.id) || uuid_send(e.user_id) || int8send(floor(extract(epoch from e.expires_at) * 1000)::bigint)), 'base64'), E'+/\n', '-_'), '=');
end
$$;
comment on function private.export_token is 'The token of a link to a file. Authorization: callable by functions of ours that have authorized the caller.';

create or replace function private.data_export_json(e private.data_exports, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_is_ready constant boolean := e.status = 'ready' and e.expires_at > p_at;
begin
  return jsonb_strip_nulls(jsonb_build_object('id', e.id, 'type', e.type, 'categories', to_jsonb(e.categories),
    'status', case when e.status = 'ready' and not v_is_ready then 'expired' else e.status end, 'requestedAt', private.iso(e.requested_at),
    'completedAt', private.iso(e.completed_at), 'expiresAt', private.iso(e.expires_at), 'fileSize', e.file_size,
    'fileUrl', case when v_is_ready then format('%s/api/v1/data/exports/%s/download?token=%s', private.api_url(), e.id, private.export_token(e)) end));
end
$$;
comment on function private.data_export_json is
  'DataExportRequest; its link authorizes itself. Authorization: callable by functions of ours that have authorized the caller.';

create or replace function private.request_data_export(p_type text, p_categories text[]) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_limit constant integer := 5;
  v_user constant uuid := private.require_person();
  v_frees_at timestamptz;
  e private.data_exports;
begin
  -- Requests of one person come one after the other, on whatever replica.
  perform from public.users u where u.id = v_user for no key update;
  if exists (select from private.data_exports x where x.user_id = v_user and x.status in ('pending', 'processing')) then
    perform private.refuse(409, 'EXPORT_IN_PROGRESS', 'An export of your data is being made. Please wait until it is ready.');
  end if;
  select x.requested_at + interval '24 hours' into v_frees_at from private.data_exports x
  where x.user_id = v_user and x.requested_at > clock_timestamp() - interval '24 hours' order by x.requested_at desc offset c_limit - 1 limit 1;
  if found then
    perform private.refuse(429, 'RATE_LIMITED', format('You can ask for %s exports in 24 hours. Please try again later.', c_limit), null,
      jsonb_build_object('limit', c_limit, 'remaining', 0, 'resetsAt', private.iso(v_frees_at)));
  end if;
  insert into private.data_exports (user_id, organization_id, type, categories) values (v_user, private.org_id(), p_type, p_categories) returning * into e;
  perform private.enqueue('dataexports.write', jsonb_build_object('exportId', e.id), now(), 'dataexports.write:' || e.id, 'dataexports');
  return private.data_export_json(e);
end
$$;
comment on function private.request_data_export is
  'Asks for a file of the caller''s data. Authorization: private.user_id() only, without a key. Errors: 401, 403 API_KEY_NOT_ALLOWED, 409 EXPORT_IN_PROGRESS, 429 RATE_LIMITED.';
grant execute on function private.request_data_export to authenticated;

create or replace function api.request_data_export(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_categories text[];
begin
  if coalesce(b ->> 'type', '') not in ('full', 'selective') then
    perform private.refuse_field('type', 'The type must be one of full, selective.');
  elsif b ->> 'type' = 'full' then
    v_categories := private.export_categories();
  else
    v_categories := array(select c from unnest(private.export_categories()) with ordinality t (c, place)
      where c in (select jsonb_array_elements_text(coalesce(private.as_array(b -> 'categories', 'categories'), '[]'))) order by place);
    if v_categories = '{}' then
      perform private.refuse_field('categories', 'Choose at least one of profile, settings, activity, contexts, integrations.');
    end if;
  end if;
  return private.request_data_export(b ->> 'type', v_categories);
end
$$;
comment on function api.request_data_export is
  'POST /data/export: DataExportRequest. Errors: 400 VALIDATION_ERROR, 403 API_KEY_NOT_ALLOWED, 409 EXPORT_IN_PROGRESS, 429 RATE_LIMITED.';

create or replace function private.my_data_exports(p_id uuid default null) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_user constant uuid := private.require_person();
begin
  return (
    select coalesce(jsonb_agg(private.data_export_json(x) order by x.requested_at desc, x.id desc), '[]')
    from private.data_exports x where x.user_id = v_user and (p_id is null or x.id = p_id)
  );
end
$$;
comment on function private.my_data_exports is 'The caller''s exports. Authorization: private.user_id() only, without a key. Errors: 401, 403 API_KEY_NOT_ALLOWED.';
grant execute on function private.my_data_exports to authenticated;

create or replace function api.list_data_exports(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.my_data_exports();
end
$$;
comment on function api.list_data_exports is 'GET /data/exports: DataExportRequest[], newest first. Errors: 403 API_KEY_NOT_ALLOWED.';

create or replace function api.get_data_export(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  -- Without an id: one that no row has.
  v_found constant jsonb := private.my_data_exports(coalesce(private.as_uuid(p ->> 'exportId'), '00000000-0000-0000-0000-000000000000'));
begin
  if v_found = '[]' then
    perform private.refuse(404, 'NOT_FOUND', format('Export with ID %s not found', p ->> 'exportId'));
  end if;
  return v_found -> 0;
end
$$;
comment on function api.get_data_export is 'GET /data/exports/{exportId}: DataExportRequest. Errors: 403 API_KEY_NOT_ALLOWED, 404 NOT_FOUND.';

-- p: exportId, token. The link is all that is needed; it dies with the file.
create or replace function private.take_data_export(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  e private.data_exports;
begin
  select * into e from private.data_exports x
  where x.id = private.as_uuid(p ->> 'exportId') and x.status = 'ready' and x.expires_at > clock_timestamp()
    -- Digests, so that the time of comparing reveals nothing about the signature.
    and sha256(convert_to(private.export_token(x), 'UTF8')) = sha256(convert_to(coalesce(p ->> 'token', ''), 'UTF8'));
  if not found then
    perform private.refuse(404, 'NOT_FOUND', 'This link is not valid any more. Links to exports work for 24 hours.');
  end if;
  return jsonb_build_object('key', e.storage_key, 'size', e.file_size,
    'fileName', format('kijko-data-export-%s.zip', to_char(e.completed_at at time zone 'UTC', 'YYYY-MM-DD')));
end
$$;
comment on function private.take_data_export is 'The file of a link. Authorization: callable by the server only; the signed token. Errors: 404 NOT_FOUND.';
grant execute on function private.take_data_export to kijko_server;

-- ---------------------------------------------------------------------------------------------------------------- without a file

create or replace function private.my_data_counts() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_user constant uuid := private.require_person();
begin
  return (
    select jsonb_agg(jsonb_build_object('category', initcap(c.category), 'table', private.bare_name(c.name), 'recordCount', c.records, 'description', c.description)
      order by c.place)
    from private.data_counts(v_user) c where c.records > 0
  );
end
$$;
comment on function private.my_data_counts is 'Tables with rows of the caller. Authorization: private.user_id() only, without a key. Errors: 401, 403 API_KEY_NOT_ALLOWED.';

create or replace function api.list_data_categories(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.my_data_counts();
end
$$;
comment on function api.list_data_categories is 'GET /gdpr/categories: [{category, table, recordCount, description}]. Errors: 403 API_KEY_NOT_ALLOWED.';

-- Sizes first: at the limit the measuring ends, so a refusal costs no more than the largest answer.
create or replace function private.my_data() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
-- Statements are made of the catalogue's constants:
-- @plpgsql_check_options: security_warnings = off
declare
  c_most constant bigint := 50000000;
  v_user constant uuid := private.require_person();
  v_bytes bigint := 0;
  v_data jsonb := '{}';
  v_records jsonb;
  v_statement text;
  v_record text;
  v_at jsonb;
  c record;
begin
  perform private.refuse_strangers('Exports of your data are made through the API.');
  for c in select * from private.data_catalogue() x loop
    v_statement := private.data_statement(c.name, false);
    for v_record, v_at in execute format('%s', v_statement) using v_user loop
      v_bytes := v_bytes + octet_length(v_record) + 1;
      if v_bytes > c_most then
        perform private.refuse(409, 'EXPORT_TOO_LARGE', 'Your data have more than 50 MB. Please ask for a file with POST /data/export.', null, jsonb_build_object('maxBytes', c_most));
      end if;
    end loop;
  end loop;
  for c in select * from private.data_catalogue() x order by x.place loop
    v_statement := private.data_statement(c.name, false);
    execute format('select jsonb_agg(r.record::jsonb) from (%s) r', v_statement) into v_records using v_user;
    if v_records is not null then
      v_data := v_data || jsonb_build_object(private.bare_name(c.name), jsonb_build_object('label', c.label, 'recordCount', jsonb_array_length(v_records),
        'records', v_records));
    end if;
  end loop;
  return jsonb_build_object('exportDate', private.iso(clock_timestamp()), 'userId', v_user, 'formatVersion', '1.0', 'data', v_data);
end
$$;
comment on function private.my_data is
  'All that the catalogue has of the caller. Authorization: private.user_id() only, through our server, without a key. Errors: 401, 403, 409 EXPORT_TOO_LARGE.';

create or replace function api.export_my_data(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.my_data();
end
$$;
comment on function api.export_my_data is
  'POST /gdpr/export: {exportDate, userId, formatVersion, data}. Errors: 403 API_KEY_NOT_ALLOWED, 403 FORBIDDEN, 409 EXPORT_TOO_LARGE.';
grant execute on function private.my_data_counts, private.my_data to authenticated;
grant execute on function api.request_data_export, api.list_data_exports, api.get_data_export, api.list_data_categories, api.export_my_data to authenticated;

-- Called by the server in front of an answer of api.export_my_data, which reads only.
create or replace function private.tell_data_export() returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.require_person(), private.refuse_strangers('Exports of your data are made through the API.');
  perform private.audit('system.export_completed', 'Exported their own data.', '{"kind": "data", "type": "full"}');
  return '{}';
end
$$;
comment on function private.tell_data_export is
  'The trail''s line about an answer with all of the caller''s data. Authorization: private.user_id() only, through our server, without a key.';
grant execute on function private.tell_data_export to authenticated;
