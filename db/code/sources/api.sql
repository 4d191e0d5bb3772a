-- The sources of a context (contract 60, section 5). Policies would ask for each of 100,000 rows what the first line asks once.

-- Is the file served compressed? An entry is compressed with all that it brought.
create or replace function private.compressed_numbers(p_project_id uuid) returns integer[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  return array(select i.number from public.context_ingestions i where i.project_id = p_project_id and i.compressed);
end
$$;
comment on function private.compressed_numbers is 'The compressed entries of a context. Judges: callable by definer functions that have judged the caller.';

create or replace function api.list_sources(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_id constant uuid := private.path_context(p, 'viewer', 'viewFiles');
  v_user constant uuid := private.user_id();
  v_at record := private.page(p, 1000, 5000, p_clamps => false);
  v_selected constant boolean := private.as_bool(p -> 'selected', 'selected');
  v_search constant text := lower(private.trimmed(coalesce(p ->> 'search', '')));
  v_numbers constant integer[] := private.compressed_numbers(v_id);
  v_data jsonb;
  v_total bigint;
begin
  with left_out as materialized (
    select s.file_id from public.context_source_selection s where s.project_id = v_id and s.user_id = v_user
  ), fitting as materialized (
    select c.id, c.path, c.bytes, c.number, c.is_binary, c.id not in (select l.file_id from left_out l) as selected
    from public.context_files c
    where c.project_id = v_id and not c.is_hidden and (v_search = '' or strpos(lower(c.path), v_search) > 0)
      and (v_selected is null or v_selected = (c.id not in (select l.file_id from left_out l)))
  ), shown as (
    select f.* from fitting f order by f.path collate "C" limit v_at.size offset v_at.skipped
  )
  select coalesce(jsonb_agg(private.source_json(s.id, s.path, s.bytes, s.selected, s.number = any (v_numbers) and not s.is_binary)
    order by s.path collate "C"), '[]'), (select count(*) from fitting)
  into v_data, v_total from shown s;
  perform private.set_headers(jsonb_build_object('X-Total-Count', v_total::text,
    'X-Has-More', (v_at.skipped + jsonb_array_length(v_data) < v_total)::text));
  return v_data;
end
$$;
comment on function api.list_sources is
  'GET /contexts/{contextId}/sources: SourceItem[] by path; the selection is the caller''s. Judges: viewer in the context. Errors: 400, 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.list_sources to authenticated;

create or replace function private.source_item(p_project_id uuid, f public.context_files) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return private.source_json(f.id, f.path, f.bytes, not exists (select from public.context_source_selection s
      where s.user_id = private.user_id() and s.file_id = f.id),
    f.number = any (private.compressed_numbers(p_project_id)) and not f.is_binary);
end
$$;
comment on function private.source_item is 'SourceItem with the caller''s selection. Judges: callable by definer functions that have judged the caller.';

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
  'PATCH /contexts/{contextId}/sources/{fileId}: SourceItem. Judges: viewer in the context; the caller''s own selection. Errors: 400, 403, 404 CONTEXT_NOT_FOUND, FILE_NOT_FOUND.';
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
  'PUT /contexts/{contextId}/sources/selection: {selectedCount, totalCount}. Judges: viewer in the context; the caller''s own selection. Errors: 400, 403, 404 CONTEXT_NOT_FOUND.';
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
  'GET /contexts/{contextId}/token-usage: {currentTokens, maxTokens, percentage} of the caller''s selection. Judges: viewer in the context. Errors: 403, 404 CONTEXT_NOT_FOUND.';
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
  'Best effort, after the answer: a file was read, once a user, file and hour. Judges: viewer in the project, only the caller''s own entry. Errors: 404 FILE_NOT_FOUND.';
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
