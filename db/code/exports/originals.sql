-- The files of a version as they were ingested (contract 60, section 13): the fold of the operations up to it, by path. Content comes in parts
-- of at most a megabyte, many small files or a piece of a large one, so a download takes the same memory however large the context is.

create or replace function private.version_of_path(p_project_id uuid, p_version jsonb) returns integer
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_current constant integer := private.current_version(p_project_id);
  v_version constant integer := private.as_int(p_version, 'version');
begin
  if v_version < 0 then
    perform private.refuse_field('version', 'version must be at least 0.');
  elsif v_version > v_current then
    perform private.refuse_version(v_version, v_current);
  end if;
  return coalesce(v_version, v_current);
end
$$;
comment on function private.version_of_path is
  'A version of a context, the current one by default. Errors: 400, 404 VERSION_NOT_FOUND. Authorization: callable by definer functions that have authorized the caller.';

-- Inlined into the queries of definer functions, so that a page reads no more than its own files.
create or replace function private.version_files(p_project_id uuid, p_version integer, p_after text)
returns table (path text, hash bytea, number integer)
language sql stable parallel safe rows 1000
as $$
  select s.path, s.hash, s.number
  from (
    select distinct on (o.path collate "C") o.path, o.operation, o.hash, o.number from public.context_file_ops o
    where o.project_id = p_project_id and o.path collate "C" > p_after and o.number <= p_version
    order by o.path collate "C", o.number desc
  ) s
  where s.operation <> 'removed'
$$;
comment on function private.version_files is 'The files of a version behind a path.';
grant execute on function private.version_files to authenticated;

create or replace function api.download_originals(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_most constant bigint := 500000000;
  v_id constant uuid := private.path_context(p, 'viewer', 'downloadOriginals');
  v_format constant text := coalesce(p ->> 'format', 'zip');
  v_version constant integer := private.version_of_path(v_id, p -> 'version');
  v_name constant text := (select x.name from public.projects x where x.id = v_id);
  v_files bigint;
  v_bytes bigint;
begin
  if v_format not in ('zip', 'txt') then
    perform private.refuse_field('format', 'The format must be zip or txt.');
  end if;
  select count(*), coalesce(sum(octet_length(b.content)), 0) into v_files, v_bytes
  from private.version_files(v_id, v_version, '') f
  join public.content_blobs b on b.project_id = v_id and b.hash = f.hash
  where v_format = 'zip' or not b.is_binary;
  if v_files = 0 then
    perform private.refuse(404, 'CONTEXT_EMPTY', 'There are no files to download.');
  elsif v_bytes > c_most then
    perform private.refuse(413, 'PAYLOAD_TOO_LARGE', 'The files have more than 500 MB together. Download single files, or exclude some.', null,
      jsonb_build_object('bytes', v_bytes, 'maxBytes', c_most));
  end if;
  return private.export_file(private.slug(v_name) || '-original', v_format, jsonb_build_object('contextId', v_id, 'version', v_version));
end
$$;
comment on function api.download_originals is
  'GET /contexts/{contextId}/original: checks it and says how it is read (private.originals_page). Authorization: viewer in the context. Errors: 400, 403, 404 CONTEXT_NOT_FOUND, CONTEXT_EMPTY, VERSION_NOT_FOUND, 413 PAYLOAD_TOO_LARGE.';
grant execute on function api.download_originals to authenticated;

-- p: the answer of api.download_originals, and after: {path, offset}, the end of the last part; offset is absent when the file of the path is
-- complete. parts: [{path?, at?, content}]; one without a path continues the last file.
create or replace function private.originals_page(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_page constant integer := 1000000;
  c_files constant integer := 1000;
  v_id constant uuid := private.path_context(p, 'viewer', 'downloadOriginals');
  v_version constant integer := private.version_of_path(v_id, p -> 'version');
  v_after constant jsonb := nullif(p -> 'after', 'null');
  v_path constant text := coalesce(v_after ->> 'path', '');
  v_offset constant integer := private.as_int(v_after -> 'offset', 'after');
  v_left integer := c_page;
  v_last text := v_path;
  v_seen integer := 0;
  v_is_full boolean := false;
  v_parts jsonb[] := '{}';
  v_bytes bytea;
  v_size integer;
  v record;
begin
  if v_offset is not null then
    -- The rest of a large file first.
    select substring(b.content from v_offset + 1 for c_page), octet_length(b.content) into v_bytes, v_size
    from (
      select o.hash from public.context_file_ops o
      where o.project_id = v_id and o.path collate "C" = v_path and o.number <= v_version order by o.number desc limit 1
    ) h join public.content_blobs b on b.project_id = v_id and b.hash = h.hash;
    if v_bytes is null then
      perform private.refuse(404, 'FILE_NOT_FOUND', format('"%s" was deleted during the download.', v_path));
    end if;
    v_parts := v_parts || jsonb_build_object('content', encode(v_bytes, 'base64'));
    if v_size > v_offset + c_page then
      return jsonb_build_object('parts', to_jsonb(v_parts), 'after', jsonb_build_object('path', v_path, 'offset', v_offset + c_page));
    end if;
    v_left := c_page - octet_length(v_bytes);
  end if;
  for v in
    select f.path, octet_length(b.content) as size, f.hash, b.is_binary, i.created_at
    from private.version_files(v_id, v_version, v_path) f
    left join public.content_blobs b on b.project_id = v_id and b.hash = f.hash
    left join public.context_ingestions i on i.project_id = v_id and i.number = f.number
    order by f.path collate "C" limit c_files
  loop
    v_is_full := v.size > v_left and cardinality(v_parts) > 0;
    exit when v_is_full;
    v_seen := v_seen + 1;
    v_last := v.path;
    if v.size is null then
      perform private.refuse(404, 'FILE_NOT_FOUND', format('"%s" was deleted during the download.', v.path));
    elsif not v.is_binary or p ->> 'format' = 'zip' then
      v_parts := v_parts || jsonb_build_object('path', v.path, 'at', extract(epoch from v.created_at)::bigint, 'content',
        encode((select substring(b.content for c_page) from public.content_blobs b where b.project_id = v_id and b.hash = v.hash), 'base64'));
      if v.size > c_page then
        return jsonb_build_object('parts', to_jsonb(v_parts), 'after', jsonb_build_object('path', v.path, 'offset', c_page));
      end if;
      v_left := v_left - v.size;
    end if;
  end loop;
  return jsonb_strip_nulls(jsonb_build_object('parts', to_jsonb(v_parts),
    'after', case when v_is_full or v_seen = c_files then jsonb_build_object('path', v_last) end));
end
$$;
comment on function private.originals_page is
  'The next part of a download of originals. Authorization: viewer in the context. Errors: 400, 403, 404 CONTEXT_NOT_FOUND, FILE_NOT_FOUND.';
grant execute on function private.originals_page to authenticated;

-- One file of the current set, or as a version has it under its path.
create or replace function api.read_context_file(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_page constant integer := 1000000;
  v_id constant uuid := private.path_context(p, 'viewer', 'viewFiles');
  f constant public.context_files := private.find_source(v_id, p ->> 'fileId');
  v_offset constant integer := coalesce(private.as_int(p -> 'offset', 'offset'), 0);
  v_hash bytea := f.hash;
  v_text text;
  b record;
begin
  if v_offset < 0 then
    perform private.refuse_field('offset', 'offset must be at least 0.');
  elsif coalesce(p -> 'version', 'null') <> 'null' then
    select o.hash into v_hash from public.context_file_ops o
    where o.project_id = v_id and o.path collate "C" = f.path and o.number <= private.version_of_path(v_id, p -> 'version')
    order by o.number desc limit 1;
  end if;
  -- Compressed text is made of the current version only; what has none is served as it is.
  if coalesce(private.as_bool(p -> 'compressed', 'compressed'), false) and v_hash = f.hash then
    v_text := private.compressed_text(v_id, f.id);
    if v_text is not null then
      return jsonb_build_object('path', f.path, 'binary', false, 'size', octet_length(v_text),
        'content', encode(substring(convert_to(v_text, 'UTF8') from v_offset + 1 for c_page), 'base64'));
    end if;
  end if;
  select c.is_binary, octet_length(c.content) as size, substring(c.content from v_offset + 1 for c_page) as content into b
  from public.content_blobs c where c.project_id = v_id and c.hash = v_hash;
  if not found then
    perform private.refuse(404, 'FILE_NOT_FOUND', 'This version of the context does not have the file.');
  end if;
  return jsonb_build_object('path', f.path, 'binary', b.is_binary, 'content', encode(b.content, 'base64'), 'size', b.size);
end
$$;
comment on function api.read_context_file is
  'GET /contexts/{contextId}/files/{fileId}/content: a part of the text. Authorization: viewer in the context. Errors: 400, 403, 404 CONTEXT_NOT_FOUND, FILE_NOT_FOUND, VERSION_NOT_FOUND.';
grant execute on function api.read_context_file to authenticated;
