-- The sources of a context (contract 60, section 5). Policies would ask for each of 100,000 rows what the first line asks once.

create or replace function private.is_compressed_source(p_project_id uuid, p_file_id uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return private.compressed_text(p_project_id, p_file_id) is not null;
end
$$;
comment on function private.is_compressed_source is 'Does chat read a compressed text? Authorization: callable by definer functions that have authorized the caller.';

create or replace function api.list_sources(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_id constant uuid := private.path_context(p, 'viewer', 'viewFiles');
  v_user constant uuid := private.user_id();
  v_at record := private.page(p, 1000, 5000, p_clamps => false);
  v_selected constant boolean := private.as_bool(p -> 'selected', 'selected');
  v_search constant text := lower(private.trimmed(coalesce(p ->> 'search', '')));
  -- Most contexts have no compressed entry.
  v_compressed constant boolean := exists (select from public.context_ingestions i where i.project_id = v_id and i.compressed);
  v_data jsonb;
  v_total bigint;
begin
  with left_out as materialized (
    select s.file_id from public.context_source_selection s where s.project_id = v_id and s.user_id = v_user
  ), fitting as materialized (
    select c.id, c.path, c.bytes, c.id not in (select l.file_id from left_out l) as selected
    from public.context_files c
    where c.project_id = v_id and not c.is_hidden and (v_search = '' or strpos(lower(c.path), v_search) > 0)
      and (v_selected is null or v_selected = (c.id not in (select l.file_id from left_out l)))
  ), shown as (
    select f.* from fitting f order by f.path collate "C" limit v_at.size offset v_at.skipped
  )
  select coalesce(jsonb_agg(private.source_json(s.id, s.path, s.bytes, s.selected, v_compressed and private.is_compressed_source(v_id, s.id))
    order by s.path collate "C"), '[]'), (select count(*) from fitting)
  into v_data, v_total from shown s;
  perform private.set_headers(jsonb_build_object('X-Total-Count', v_total::text,
    'X-Has-More', (v_at.skipped + jsonb_array_length(v_data) < v_total)::text));
  return v_data;
end
$$;
comment on function api.list_sources is
  'GET /contexts/{contextId}/sources: SourceItem[] by path; the selection is the caller''s. Authorization: viewer in the context. Errors: 400, 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.list_sources to authenticated;

create or replace function private.source_item(p_project_id uuid, f public.context_files) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return private.source_json(f.id, f.path, f.bytes, not exists (select from public.context_source_selection s
      where s.user_id = private.user_id() and s.file_id = f.id),
    private.is_compressed_source(p_project_id, f.id));
end
$$;
comment on function private.source_item is 'SourceItem with the caller''s selection. Authorization: callable by definer functions that have authorized the caller.';

create or replace function api.update_source(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id constant uuid := private.path_context(p, 'viewer', 'selectSources');
  v_selected constant boolean := private.as_bool(p -> 'body' -> 'selected', 'selected');
  f constant public.context_files := private.find_source(v_id, p ->> 'fileId');
begin
  if v_selected is null then
    perform private.refuse_field('selected', 'selected is required.');
  elsif v_selected then
    delete from public.context_source_selection s where s.user_id = private.user_id() and s.file_id = f.id and s.project_id = v_id;
  else
    insert into public.context_source_selection (organization_id, project_id, user_id, file_id)
    values (f.organization_id, v_id, private.user_id(), f.id) on conflict do nothing;
  end if;
  return private.source_item(v_id, f);
end
$$;
comment on function api.update_source is
  'PATCH /contexts/{contextId}/sources/{fileId}: SourceItem. Authorization: viewer in the context; the caller''s own selection. Errors: 400, 403, 404 CONTEXT_NOT_FOUND, FILE_NOT_FOUND.';
grant execute on function api.update_source to authenticated;

create or replace function api.select_sources(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_id constant uuid := private.path_context(p, 'viewer', 'selectSources');
  v_user constant uuid := private.user_id();
  v_selected constant boolean := private.as_bool(b -> 'selected', 'selected');
  v_ids constant jsonb := private.as_array(b -> 'fileIds', 'fileIds');
  v_wanted uuid[];
  v_total bigint;
  v_left_out bigint;
begin
  if (v_selected is null) = (v_ids is null) then
    perform private.refuse_field(case when v_ids is null then 'selected' else 'fileIds' end, 'Send either selected or fileIds.');
  elsif jsonb_array_length(v_ids) > 100000 then
    perform private.refuse_field('fileIds', 'A context has at most 100,000 files.');
  end if;
  v_wanted := array(select private.as_uuid(i) from jsonb_array_elements_text(v_ids) i);
  -- One change of a selection at a time, so that two of them do not mix.
  perform pg_advisory_xact_lock(hashtextextended('sources ' || v_id || v_user, 0));
  delete from public.context_source_selection s
  where s.user_id = v_user and s.project_id = v_id
    and (v_selected or exists (select from public.context_files c where c.project_id = v_id and c.id = s.file_id
      and (c.id = any (v_wanted) or c.upload_id = any (v_wanted))));
  if not coalesce(v_selected, false) then
    with wanted as materialized (select distinct w.id from unnest(v_wanted) w (id))
    insert into public.context_source_selection (organization_id, project_id, user_id, file_id)
    select c.organization_id, v_id, v_user, c.id from public.context_files c
    where c.project_id = v_id and not c.is_hidden and (v_selected is not null
      or c.id not in (select w.id from wanted w where w.id is not null)
        and (c.upload_id is null or c.upload_id not in (select w.id from wanted w where w.id is not null)))
    on conflict do nothing;
  end if;
  select count(*), count(s.file_id) into v_total, v_left_out
  from public.context_files c left join public.context_source_selection s on s.user_id = v_user and s.file_id = c.id
  where c.project_id = v_id and not c.is_hidden;
  return jsonb_build_object('selectedCount', v_total - v_left_out, 'totalCount', v_total);
end
$$;
comment on function api.select_sources is
  'PUT /contexts/{contextId}/sources/selection: {selectedCount, totalCount}. Authorization: viewer in the context; the caller''s own selection. Errors: 400, 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.select_sources to authenticated;

create or replace function api.get_token_usage(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_window constant integer := 128000;
  v_id constant uuid := private.path_context(p, 'viewer', 'viewFiles');
  v_tokens bigint;
begin
  select round(coalesce(sum(c.bytes), 0) / 4.0) into v_tokens
  from public.context_files c
  where c.project_id = v_id and not c.is_hidden
    and c.id not in (select s.file_id from public.context_source_selection s where s.user_id = private.user_id() and s.project_id = v_id);
  return jsonb_build_object('currentTokens', v_tokens, 'maxTokens', c_window,
    'percentage', least(round(v_tokens * 100.0 / c_window, 1), 100));
end
$$;
comment on function api.get_token_usage is
  'GET /contexts/{contextId}/token-usage: {currentTokens, maxTokens, percentage} of the caller''s selection. Authorization: viewer in the context. Errors: 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.get_token_usage to authenticated;

-- Called by the server after the answer, so that the read stays a read.
create or replace function private.view_source(p_project_id uuid, p_file_id text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  f public.context_files;
begin
  if not private.has_project_role(p_project_id, 'viewer') then
    return;
  end if;
  f := private.find_source(p_project_id, p_file_id);
  perform private.record_activity(p_project_id, 'view', 'viewed ' || f.path, jsonb_build_object('path', f.path, 'fileId', f.id));
end
$$;
comment on function private.view_source is
  'Best effort, after the answer: a file was read, once a user, file and hour. Authorization: viewer in the project, only the caller''s own entry. Errors: 404 FILE_NOT_FOUND.';
grant execute on function private.view_source to authenticated;

-- ---------------------------------------------------------------------------------------------------- the tree, under the context's path

create or replace function private.as_project_path(p jsonb, p_minimum text) returns jsonb
language plpgsql stable
as $$
begin
  return p || jsonb_build_object('projectId', private.path_context(p, p_minimum, case p_minimum when 'viewer' then 'viewFiles' else 'editFiles' end));
end
$$;
comment on function private.as_project_path is 'The same request under /projects. Errors: 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function private.as_project_path to authenticated;

create or replace function api.list_context_files(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return api.list_source_files(private.as_project_path(p, 'viewer'));
end
$$;
comment on function api.list_context_files is 'GET /contexts/{contextId}/files: SourceFile[]. Errors: 400, 403, 404 CONTEXT_NOT_FOUND.';

create or replace function api.create_context_folder(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return api.create_folder(private.as_project_path(p, 'developer'));
end
$$;
comment on function api.create_context_folder is
  'POST /contexts/{contextId}/files/folders: SourceFile. Errors: 400, 403, 404 CONTEXT_NOT_FOUND, 409 FILE_EXISTS.';

create or replace function api.update_context_file(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return api.update_source_file(private.as_project_path(p, 'developer'));
end
$$;
comment on function api.update_context_file is
  'PATCH /contexts/{contextId}/files/{fileId}: SourceFile. Errors: 400, 403, 404 CONTEXT_NOT_FOUND, FILE_NOT_FOUND, 409 FILE_EXISTS.';

create or replace function api.delete_context_file(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return api.delete_source_file(private.as_project_path(p, 'developer'));
end
$$;
comment on function api.delete_context_file is
  'DELETE /contexts/{contextId}/files/{fileId}: 204. Errors: 403, 404 CONTEXT_NOT_FOUND, FILE_NOT_FOUND.';
grant execute on function api.list_context_files, api.create_context_folder, api.update_context_file, api.delete_context_file to authenticated;

-- ------------------------------------------------------------------------------------------------------------------- adding files

create or replace function private.source_extensions() returns text[]
language sql immutable parallel safe
return array['ts', 'tsx', 'js', 'jsx', 'json', 'md', 'mdx', 'css', 'scss', 'sass', 'html', 'yml', 'yaml', 'py'];
comment on function private.source_extensions is 'Extensions of the files that may be dropped on a context.';

-- May the caller add files, and which? Asked before the first byte is stored.
create or replace function api.admit_sources(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  perform private.path_context(p, 'developer', 'editFiles');
  return to_jsonb(private.source_extensions());
end
$$;
comment on function api.admit_sources is 'Part of POST /contexts/{contextId}/sources: extensions of accepted files. Errors: 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function private.source_extensions, api.admit_sources to authenticated;

-- p: {contextId, stored: {files: [{name, path, type, size, checksum, storageKey, storageProvider}]}, rejected: [name]}, of files that the server
-- has stored and of those that it refused before.
create or replace function private.add_sources(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id constant uuid := private.path_context(p, 'developer', 'editFiles');
  v_files constant jsonb := coalesce(private.as_array(p #> '{stored,files}', 'files'), '[]');
  v_rejected text[] := array(select jsonb_array_elements_text(coalesce(private.as_array(p -> 'rejected', 'rejected'), '[]')));
  v_refused jsonb;
  v_wanted jsonb;
  v_placed jsonb;
  v_ids uuid[];
  v_answer jsonb;
  v_operation uuid;
begin
  perform private.refuse_strangers('Files are added through the API.');
  if jsonb_array_length(v_files) + cardinality(v_rejected) = 0 then
    perform private.refuse_field('files', 'The request carries no files.');
  end if;
  perform private.lock_tree(v_id);
  with checked as (
    select t.f, t.ord, t.f ->> 'path' as path,
      lower(private.file_extension(regexp_replace(t.f ->> 'path', '^.*/', ''), false)) = any (private.source_extensions()) as accepted,
      exists (select from public.context_files c where c.project_id = v_id and c.path collate "C" = t.f ->> 'path' and not c.is_hidden)
        or exists (select from public.project_files s where s.project_id = v_id and s.path = t.f ->> 'path') as is_there
    from jsonb_array_elements(v_files) with ordinality t (f, ord)
  )
  select coalesce(jsonb_agg(j.f order by j.ord) filter (where j.accepted and not j.is_there), '[]'),
    coalesce(jsonb_agg(j.f -> 'storageKey' order by j.ord) filter (where not j.accepted or j.is_there), '[]'),
    v_rejected || coalesce(array_agg(j.f ->> 'name' order by j.ord) filter (where not j.accepted), '{}')
  into v_wanted, v_refused, v_rejected from checked j;
  if jsonb_array_length(v_wanted) > 0 then
    v_placed := private.place_files(v_id, v_wanted, 'upload');
    v_refused := v_refused || (v_placed -> 'refused');
    v_rejected := v_rejected || array(select e ->> 'name' from jsonb_array_elements(v_placed -> 'errors') e);
  end if;
  v_ids := array(select (f ->> 'id')::uuid from jsonb_array_elements(v_placed -> 'placed') f);
  v_answer := jsonb_build_object('added', cardinality(v_ids), 'rejected', cardinality(v_rejected), 'rejectedFiles', to_jsonb(v_rejected),
    'sources', (select coalesce(jsonb_agg(private.source_json(f.id, f.path, f.size, true, false) order by f.path collate "C"), '[]')
      from public.project_files f where f.project_id = v_id and f.id = any (v_ids)), 'refused', v_refused);
  if cardinality(v_ids) = 0 then
    return v_answer;
  end if;
  v_operation := private.queue_operation(v_id, 'ingestion');
  perform private.add_ingestion(v_id, jsonb_build_object('sourceType', 'file', 'sources', jsonb_build_object('fileIds', to_jsonb(v_ids)),
    'operationId', v_operation, 'displayName', case cardinality(v_ids) when 1 then v_placed #>> '{placed,0,name}' else cardinality(v_ids) || ' files' end),
    private.user_id());
  return private.operation_answer(v_answer, v_operation);
end
$$;
comment on function private.add_sources is
  'Adds stored files to a context as one ingestion: {added, rejected, rejectedFiles, sources, refused}. Authorization: developer in the context. Errors: 400, 403, 404 CONTEXT_NOT_FOUND, 429 QUOTA_EXCEEDED.';
grant execute on function private.add_sources to authenticated;

create or replace function api.register_sources(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.add_sources(p);
end
$$;
comment on function api.register_sources is
  'Part of POST /contexts/{contextId}/sources, with `stored` content; refused: its keys that no file has. Errors: 400, 403, 404 CONTEXT_NOT_FOUND, 429 QUOTA_EXCEEDED.';
grant execute on function api.register_sources to authenticated;

-- The answer when the run has ended: the files are sources now.
create or replace function api.added_sources(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  perform private.path_context(p, 'developer', 'editFiles');
  perform private.finished_operation(p), set_config('response.status', '201', true);
  return (p -> 'started') - array['operationId', 'status'];
end
$$;
comment on function api.added_sources is
  'The answer to POST /contexts/{contextId}/sources when the files are ingested: {added, rejected, rejectedFiles, sources}. Errors: 403, 404 CONTEXT_NOT_FOUND, those of the run.';
grant execute on function api.added_sources to authenticated;
