-- Stored files (contract 10, sections 15.1 to 15.4). Content goes to the blob store first, part by part; then one call registers the whole
-- request. Every input ends in exactly one of two lists, and the keys of refused ones are returned for deletion. A key is random, has one
-- row, and is never shown, so no caller can reach another's content.

create or replace function private.file_brief_json(p_id uuid, p_name text, p_size bigint, p_type text) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', p_id, 'name', p_name, 'size', p_size, 'type', p_type);
comment on function private.file_brief_json is 'A stored file as the upload replies show it.';

-- The first fault of a file that its name, type or size shows; null for a valid one.
create or replace function private.assert_upload(p_name text, p_path text, p_size bigint, p_type text) returns text
language sql immutable parallel safe
return case
  when coalesce(p_size, 0) <= 0 then 'The file is empty.'
  when char_length(p_name) not between 1 and 255 then 'The name must have 1 to 255 characters.'
  when char_length(p_path) not between 1 and 1000 then 'The path must have 1 to 1,000 characters.'
  when not private.is_plain(p_path) or not private.is_plain(p_name) then 'The path contains control characters.'
  when p_path ~ '^[/\\]|^[A-Za-z]:[/\\]' then 'The path must be relative.'
  when p_path ~ '(^|[/\\])\.{1,2}([/\\]|$)' or p_path ~ '//|/$' then 'The path must not contain empty, "." or ".." segments.'
  when p_path ~ '\\' then 'The path must use forward slashes.'
  when exists (select from unnest(string_to_array(p_path, '/')) s where char_length(s) > 255) then
    'Each part of the path must have at most 255 characters.'
  when char_length(p_type) not between 1 and 100 then 'The type must have 1 to 100 characters.'
end;
comment on function private.assert_upload is 'Why an upload is refused, or null.';

-- The folder at a path, created with its parents; null where a file, or a folder in another spelling, has that name.
create or replace function private.ensure_folder(p_project public.projects, p_path text) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_parent uuid;
  v_name text := regexp_replace(p_path, '^.*/', '');
  v_found public.project_files;
  v_id uuid;
begin
  if strpos(p_path, '/') > 0 then
    v_parent := private.ensure_folder(p_project, regexp_replace(p_path, '/[^/]*$', ''));
    if v_parent is null then
      return null;
    end if;
  end if;
  select * into v_found from public.project_files f
  where f.project_id = p_project.id and coalesce(f.parent_id, '00000000-0000-0000-0000-000000000000')
    = coalesce(v_parent, '00000000-0000-0000-0000-000000000000') and lower(f.name) = lower(v_name);
  if found then
    return case when v_found.is_folder and v_found.name = v_name and v_found.origin <> 'repository' then v_found.id end;
  end if;
  insert into public.project_files (organization_id, project_id, parent_id, uploaded_by, is_folder, name, path, position, mime_type)
  values (p_project.organization_id, p_project.id, v_parent, private.user_id(), true, v_name, p_path,
    private.next_position(p_project.id, v_parent), 'inode/directory')
  returning id into v_id;
  return v_id;
end
$$;
comment on function private.ensure_folder is 'Id of the folder at a path, made where missing. Authorization: callable by definer functions of ours only.';

create or replace function private.next_position(p_project_id uuid, p_parent_id uuid) returns integer
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (
    select coalesce(max(f.position) + 1, 0) from public.project_files f
    where f.project_id = p_project_id and f.parent_id is not distinct from p_parent_id
  );
end
$$;
comment on function private.next_position is 'Place after the last sibling. Authorization: callable by definer functions of ours only.';

-- Puts stored files into a project. p_files: [{id?, name, path, type, size, checksum, storageKey, storageProvider}]. The same path
-- again replaces the content and keeps the id. One insert and one update for all, so counters, quota, events and activity move once.
create or replace function private.place_files(p_project_id uuid, p_files jsonb, p_origin text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project public.projects;
  v record;
  v_error text;
  v_parent uuid;
  v_found public.project_files;
  v_folder text;
  v_free integer;
  v_seen jsonb := '{}';
  v_folders jsonb := '{}';
  v_new jsonb[] := '{}';
  v_changed jsonb[] := '{}';
  v_placed jsonb[] := '{}';
  v_errors jsonb[] := '{}';
  v_refused jsonb[] := '{}';
begin
  -- Uploads into a project are serialized: the limit, the folders and the positions among siblings are counted under this lock.
  perform pg_advisory_xact_lock(hashtextextended('project files ' || p_project_id, 0));
  select * into v_project from public.projects where id = p_project_id;
  v_free := 20000 - v_project.uploaded_files;

  for v in
    select t.ord, t.f ->> 'id' as staged_id, coalesce(t.f ->> 'id', gen_random_uuid()::text)::uuid as id, t.f ->> 'name' as name,
      t.f ->> 'path' as path, t.f ->> 'type' as type, (t.f ->> 'size')::bigint as size, t.f ->> 'checksum' as checksum, t.f ->> 'storageKey' as key,
      coalesce(t.f ->> 'storageProvider', 'local') as provider
    from jsonb_array_elements(p_files) with ordinality t (f, ord)
    order by t.ord
  loop
    v_parent := null;
    v_error := private.assert_upload(regexp_replace(v.path, '^.*/', ''), v.path, v.size, v.type);
    if v_error is null and v_seen ? lower(v.path) then
      v_error := 'The same path occurs twice in this request.';
    end if;
    if v_error is null and strpos(v.path, '/') > 0 then
      v_folder := regexp_replace(v.path, '/[^/]*$', '');
      if not v_folders ? v_folder then
        v_folders := v_folders || jsonb_build_object(v_folder, private.ensure_folder(v_project, v_folder));
      end if;
      v_parent := (v_folders ->> v_folder)::uuid;
      if v_parent is null then
        v_error := format('Something else of the name of folder "%s" is in the way.', v_folder);
      end if;
    end if;
    if v_error is null then
      select * into v_found from public.project_files f
      where f.project_id = p_project_id and coalesce(f.parent_id, '00000000-0000-0000-0000-000000000000')
        = coalesce(v_parent, '00000000-0000-0000-0000-000000000000') and lower(f.name) = lower(regexp_replace(v.path, '^.*/', ''));
      if not found then
        if v_free <= 0 then
          v_error := 'A project holds at most 20,000 files.';
        else
          v_free := v_free - 1;
          -- One path is one file: what was ingested from there, and was perhaps removed since, is this file. A staged file has its id.
          if v.staged_id is null then
            v.id := coalesce((select c.id from public.context_files c where c.project_id = p_project_id and c.path collate "C" = v.path
              and not exists (select from public.project_files f where f.id = c.id)), v.id);
          end if;
          v_new := v_new || jsonb_build_object('id', v.id, 'ord', v.ord, 'parent_id', v_parent, 'path', v.path, 'type', v.type,
            'size', v.size, 'checksum', v.checksum, 'key', v.key, 'provider', v.provider);
        end if;
      elsif v_found.is_folder or v_found.origin = 'repository' or v_found.path <> v.path then
        v_error := format('"%s" is in the way.', v_found.path);
      else
        v.id := v_found.id;
        v_changed := v_changed || jsonb_build_object('id', v.id, 'type', v.type, 'size', v.size, 'checksum', v.checksum, 'key', v.key,
          'provider', v.provider);
      end if;
    end if;
    if v_error is null then
      v_seen := v_seen || jsonb_build_object(lower(v.path), true);
      v_placed := v_placed || private.file_brief_json(v.id, regexp_replace(v.path, '^.*/', ''), v.size, v.type);
    else
      v_errors := v_errors || jsonb_build_object('name', v.name, 'error', v_error);
      v_refused := v_refused || to_jsonb(v.key);
    end if;
  end loop;

  insert into public.project_files (id, organization_id, project_id, parent_id, uploaded_by, origin, name, path, position, mime_type, size,
    checksum, storage_key, storage_provider)
  select n.id, v_project.organization_id, v_project.id, n.parent_id, private.user_id(), p_origin, regexp_replace(n.path, '^.*/', ''), n.path,
    private.next_position(v_project.id, n.parent_id) + row_number() over (partition by n.parent_id order by n.ord) - 1,
    n.type, n.size, n.checksum, n.key, n.provider
  from jsonb_to_recordset(to_jsonb(v_new)) n (id uuid, ord bigint, parent_id uuid, path text, type text, size bigint, checksum text,
    key text, provider text);
  update public.project_files f
  set mime_type = c.type, size = c.size, checksum = c.checksum, storage_key = c.key, storage_provider = c.provider,
    processed = false, processed_at = null, uploaded_by = private.user_id()
  from jsonb_to_recordset(to_jsonb(v_changed)) c (id uuid, type text, size bigint, checksum text, key text, provider text)
  where f.id = c.id and f.project_id = v_project.id;
  return jsonb_build_object('placed', to_jsonb(v_placed), 'errors', to_jsonb(v_errors), 'refused', to_jsonb(v_refused));
end
$$;
comment on function private.place_files is
  'Registers stored files in a project; {placed, errors, refused: keys}. Errors: 429 QUOTA_EXCEEDED for all. Authorization: callable by definer functions that have authorized the caller.';

create or replace function private.stage_files(p_files jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_result jsonb;
begin
  with checked as (
    select t.ord, gen_random_uuid() as id, f.*, private.assert_upload(regexp_replace(f.path, '^.*/', ''), f.path, f.size, f.type) as error
    from jsonb_array_elements(p_files) with ordinality t (v, ord),
      jsonb_to_record(t.v) f (name text, path text, type text, size bigint, checksum text, "storageKey" text, "storageProvider" text)
  ), staged as (
    insert into public.staged_files (id, organization_id, user_id, name, path, mime_type, size, checksum, storage_key, storage_provider)
    select j.id, private.org_id(), private.user_id(), regexp_replace(j.path, '^.*/', ''), j.path, j.type, j.size, j.checksum, j."storageKey",
      coalesce(j."storageProvider", 'local')
    from checked j where j.error is null
  )
  select jsonb_build_object(
    'placed', coalesce(jsonb_agg(private.file_brief_json(j.id, regexp_replace(j.path, '^.*/', ''), j.size, j.type) order by j.ord)
      filter (where j.error is null), '[]'),
    'errors', coalesce(jsonb_agg(jsonb_build_object('name', j.name, 'error', j.error) order by j.ord) filter (where j.error is not null), '[]'),
    'refused', coalesce(jsonb_agg(j."storageKey" order by j.ord) filter (where j.error is not null), '[]'))
  into v_result from checked j;
  return v_result;
end
$$;
comment on function private.stage_files is 'Keeps stored files for the caller, unattached. Authorization: callable by definer functions that have authorized the caller.';

-- p: {projectId?, files: [{name, path, type, size, checksum, storageKey, storageProvider}]}, called by the server when it has stored
-- the content. An operation of its own in schema api, so that the server calls it like any other.
create or replace function api.register_uploads(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid;
  v_result jsonb;
begin
  perform private.refuse_strangers('Files are uploaded through the API.');
  if private.user_id() is null or private.org_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  elsif coalesce(jsonb_array_length(private.as_array(p -> 'files', 'files')), 0) not between 1 and 1000 then
    perform private.refuse_field('files', 'A request carries 1 to 1,000 files.');
  end if;
  if coalesce(p ->> 'projectId', '') = '' then
    v_result := private.stage_files(p -> 'files');
  else
    v_project := private.path_project(p, 'developer');
    v_result := private.place_files(v_project, p -> 'files', 'upload');
  end if;
  return jsonb_build_object('uploaded', v_result -> 'placed', 'errors', v_result -> 'errors', 'refused', v_result -> 'refused');
end
$$;
comment on function api.register_uploads is
  'Part of POST /files/upload: {uploaded, errors, refused: storage keys}. Authorization: through our server only, which stored the content; developer in the project, or a signed-in person who stages. Errors: 403, 404, 429 QUOTA_EXCEEDED.';

-- May the caller upload there? Asked before the first byte is stored.
create or replace function api.admit_upload(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  if coalesce(p ->> 'projectId', '') <> '' then
    perform private.path_project(p, 'developer');
  end if;
  return '{}';
end
$$;
comment on function api.admit_upload is 'Part of POST /files/upload: refuses 403 or 404 before content is read.';
grant execute on function api.register_uploads, api.admit_upload to authenticated;

create or replace function api.attach_files(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.path_project(p, 'developer');
  v_user uuid := private.user_id();
  v_ids text[] := array(select jsonb_array_elements_text(private.as_array(p -> 'body' -> 'fileIds', 'fileIds')));
  v_files jsonb;
  v_result jsonb;
  v_again jsonb;
  v_missing jsonb;
begin
  -- Files that an earlier call attached are skipped: the same ids may be sent again.
  select coalesce(jsonb_agg(private.file_brief_json(f.id, f.name, f.size, f.mime_type)), '[]') into v_again
  from public.project_files f
  where f.project_id = v_project and f.uploaded_by = v_user and f.id = any (array(select private.as_uuid(i) from unnest(v_ids) i));

  with taken as (
    -- Staged files are marked first: their bytes stop counting before they count for the project, and their content stays.
    update public.staged_files s set attached = true
    where s.user_id = v_user and s.id = any (array(select private.as_uuid(i) from unnest(v_ids) i)) and not s.attached
      and s.created_at > now() - interval '24 hours'
    returning s.*
  )
  select coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'name', t.name, 'path', t.path, 'type', t.mime_type, 'size', t.size,
    'checksum', t.checksum, 'storageKey', t.storage_key, 'storageProvider', t.storage_provider) order by t.created_at, t.path), '[]')
  into v_files from taken t;

  v_result := private.place_files(v_project, v_files, 'upload');
  -- Refused files stay staged; the others now belong to the project.
  update public.staged_files s set attached = false
  where s.user_id = v_user and s.storage_key = any (array(select jsonb_array_elements_text(v_result -> 'refused')));
  delete from public.staged_files s where s.user_id = v_user and s.attached
    and s.id = any (array(select (f ->> 'id')::uuid from jsonb_array_elements(v_files) f));

  select coalesce(jsonb_agg(jsonb_build_object('name', i, 'error', 'This upload does not exist or has expired.')), '[]') into v_missing
  from unnest(v_ids) i
  where not exists (select from jsonb_array_elements(v_files) f where f ->> 'id' = lower(i))
    and not exists (select from jsonb_array_elements(v_again) f where f ->> 'id' = lower(i));
  return jsonb_build_object('attached', v_again || (v_result -> 'placed'), 'errors', (v_result -> 'errors') || v_missing);
end
$$;
comment on function api.attach_files is
  'POST /projects/{projectId}/files: {attached, errors}; may be repeated. Authorization: developer in the project; only the caller''s own staged files.';
grant execute on function api.attach_files to authenticated;

create or replace function private.free_text_name(p_project_id uuid, p_title text) returns text
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_root constant uuid := '00000000-0000-0000-0000-000000000000';
  v_folder uuid;
  v_name text;
  v_number numeric := 1;
  v_taken numeric := 0;
  v_free numeric;
begin
  select f.id into v_folder from public.project_files f
  where f.project_id = p_project_id and coalesce(f.parent_id, v_root) = v_root and lower(f.name) = 'texts';
  while v_number is not null loop
    v_name := p_title || case when v_number > 1 then ' ' || v_number else '' end;
    if exists (select from public.project_files f
      where f.project_id = p_project_id and coalesce(f.parent_id, v_root) = v_folder and lower(f.name) = lower(v_name)) then
      v_taken := v_number;
    else
      v_free := v_number;
    end if;
    v_number := private.number_to_try(1, v_taken, v_free);
  end loop;
  return p_title || case when v_free > 1 then ' ' || v_free else '' end;
end
$$;
comment on function private.free_text_name is
  'The title, or the first free of "title 2", "title 3" among a project''s texts. Authorization: callable by definer functions of ours only.';

-- An extra text whose content the server has stored: {title?, size, checksum, storageKey, storageProvider}.
create or replace function private.place_text(p_project_id uuid, p_text jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_title text := regexp_replace(coalesce(nullif(private.trimmed(p_text ->> 'title'), ''), 'Plain text'), '[/\\\u0001-\u001f\u007f-\u009f]', '-', 'g');
  v_name text;
  v_result jsonb;
begin
  v_title := case when v_title in ('.', '..') then 'Plain text' else left(v_title, 240) end;
  perform pg_advisory_xact_lock(hashtextextended('project files ' || p_project_id, 0));
  v_name := private.free_text_name(p_project_id, v_title);
  v_result := private.place_files(p_project_id, jsonb_build_array(p_text || jsonb_build_object('name', v_name,
    'path', 'texts/' || v_name, 'type', 'text/plain')), 'text');
  if jsonb_array_length(v_result -> 'errors') > 0 then
    perform private.refuse_field('title', v_result -> 'errors' -> 0 ->> 'error');
  end if;
  return v_result -> 'placed' -> 0;
end
$$;
comment on function private.place_text is
  'Registers a stored text under texts/, with a number where its title is taken. Authorization: callable by definer functions that have authorized the caller. Errors: 400, 429 QUOTA_EXCEEDED.';

create or replace function api.register_text_source(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.refuse_strangers('Texts are added through the API.');
  return private.place_text(private.path_project(p, 'developer'), p - 'projectId');
end
$$;
comment on function api.register_text_source is
  'Part of POST /projects/{projectId}/text-sources: {id, name, size, type}. Authorization: through our server only, which stored the content; developer in the project. Errors: 400, 403, 404, 429 QUOTA_EXCEEDED.';
grant execute on function api.register_text_source to authenticated;

create or replace function api.list_files(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project uuid := private.path_project(p);
  v_at record := private.page(p, 50, p_clamps => false);
  v_data jsonb;
  v_total bigint := 0;
begin
  select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', f.id, 'projectId', f.project_id, 'name', f.name, 'path', f.path,
    'type', f.mime_type, 'size', f.size, 'checksum', f.checksum, 'processed', f.processed, 'processedAt', private.iso(f.processed_at),
    'createdAt', private.iso(f.created_at), 'updatedAt', private.iso(f.updated_at))) order by f.path), '[]')
  into v_data
  from (
    select f.id, f.project_id, f.name, f.path, f.mime_type, f.size, f.checksum, f.processed, f.processed_at, f.created_at, f.updated_at
    from public.project_files f
    where f.project_id = v_project and not f.is_folder and f.origin <> 'repository'
    order by f.path limit v_at.size offset v_at.skipped
  ) f;
  -- An auditor's list is empty, and so the number is 0.
  if private.has_project_role(v_project, 'viewer') then
    select uploaded_files into v_total from public.projects where id = v_project;
  end if;
  return private.page_json(v_data, v_total, v_at.number::integer, v_at.size);
end
$$;
comment on function api.list_files is 'GET /projects/{projectId}/files: stored files by path. Errors: 400, 404 PROJECT_NOT_FOUND.';
grant execute on function api.list_files to authenticated;

-- The job that deletes content asks this, so that it never deletes a key in use.
create or replace function private.unreferenced_blobs(p_keys text[]) returns text[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  return array(
    select k from unnest(p_keys) k
    where not exists (select from public.project_files f where f.storage_key = k)
      and not exists (select from public.staged_files s where s.storage_key = k)
      and not exists (select from private.audit_files a where a.storage_key = k)
      and not exists (select from public.chat_attachments c where c.storage_key = k)
      and not exists (select from private.data_exports e where e.storage_key = k)
  );
end
$$;
comment on function private.unreferenced_blobs is 'The keys that no row names any more. Authorization: callable by the worker and the server only.';
grant execute on function private.unreferenced_blobs to kijko_worker, kijko_server;
