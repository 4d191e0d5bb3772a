-- Files of a context, for the list of sources and for the explorer tree (contract 60, section 5; contract 10, 15.5).
--
-- public.context_files is the current set: what is ingested, under the path of its ingestion. public.project_files holds what is stored here:
-- folders, uploads and texts, with their names and order in the tree, also before an ingestion read them. They meet in three places, all
-- in this folder:
-- * One path is one file with one id. A row of the current set takes the id of the stored file that it was read from, and a stored
--   file takes the id that the current set has for its path. So the selection that the tree shows is the selection of the sources.
-- * The tree is the stored rows, and files of repositories from the current set with folders made of their paths. Those are read-only.
-- * A stored file that is deleted is hidden in the current set with all that came from it. Versions keep it.
-- A new name or folder of a stored file shows in the tree at once. The current set has the path of the last ingestion until the next one.

create or replace function private.file_type(p_path text) returns text
language sql immutable parallel safe
return case lower(private.file_extension(regexp_replace(p_path, '^.*/', ''), false))
  when 'ts' then 'typescript' when 'tsx' then 'typescript' when 'js' then 'javascript' when 'jsx' then 'javascript' when 'json' then 'json'
  when 'md' then 'markdown' when 'mdx' then 'markdown' when 'css' then 'css' when 'scss' then 'css' when 'sass' then 'css' when 'html' then 'html'
  when 'py' then 'python' when 'yml' then 'yaml' when 'yaml' then 'yaml' else 'other' end;
comment on function private.file_type is 'fileType of a source by its extension.';

create or replace function private.source_json(p_id uuid, p_path text, p_bytes bigint, p_selected boolean, p_compressed boolean) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', p_id, 'name', regexp_replace(p_path, '^.*/', ''), 'path', p_path, 'fileType', private.file_type(p_path),
  'size', p_bytes, 'selected', p_selected, 'compressed', p_compressed);
comment on function private.source_json is 'SourceItem of the contract.';

-- A file of the current set by its id. Only callers that may read files get here.
create or replace function private.find_source(p_project_id uuid, p_id text) returns public.context_files
language plpgsql stable security definer set search_path = ''
as $$
declare
  f public.context_files;
begin
  select * into f from public.context_files c where c.project_id = p_project_id and c.id = private.as_uuid(p_id) and not c.is_hidden;
  if not found then
    -- A file that was staged once has in the tree an id of its own.
    select c.* into f from public.context_files c join public.project_files s on s.id = c.upload_id
    where c.project_id = p_project_id and c.upload_id = private.as_uuid(p_id) and c.path = s.path and not c.is_hidden;
  end if;
  if f.id is null then
    perform private.refuse(404, 'FILE_NOT_FOUND', 'This file does not exist.');
  end if;
  return f;
end
$$;
comment on function private.find_source is 'A file of the current set. Errors: 404 FILE_NOT_FOUND. Authorization: callable by definer functions that have authorized the caller.';

-- Ids of folders that exist only as parts of paths. Version and variant bits of a UUID (RFC 9562, version 8).
create or replace function private.folder_id(p_project_id uuid, p_path text) returns uuid
language sql immutable parallel safe
return overlay(overlay(encode(substring(sha256(convert_to(p_project_id || '/' || p_path, 'UTF8')) for 16), 'hex') placing '8' from 13) placing 'a' from 17)::uuid;
comment on function private.folder_id is 'Id of a folder of a repository in the tree: it follows from its path.';

-- Folders of the files that were fetched, each once, those without a stored row of the same path only.
create or replace function private.fetched_folders(p_project_id uuid) returns table (id uuid, path text)
language plpgsql stable security definer set search_path = '' rows 100
as $$
begin
  return query
    with recursive folder (path) as (
      select distinct left(c.path, -strpos(reverse(c.path), '/'))
      from public.context_files c
      where c.project_id = p_project_id and not c.is_hidden and c.upload_id is null and c.origin in ('repository', 'manual') and strpos(c.path, '/') > 0
      union
      select left(f.path, -strpos(reverse(f.path), '/')) from folder f where strpos(f.path, '/') > 0
    )
    select private.folder_id(p_project_id, f.path), f.path from folder f
    where not exists (select from public.project_files s where s.project_id = p_project_id and s.path = f.path);
end
$$;
comment on function private.fetched_folders is 'Folders of files of repositories. Authorization: callable by definer functions that have authorized the caller.';

-- Siblings of the tree have different names, whichever way they came there.
create or replace function private.is_fetched_path(p_project_id uuid, p_path text, p_exclude_id uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return exists (select from public.context_files c
    where c.project_id = p_project_id and not c.is_hidden and c.origin in ('repository', 'manual') and c.id is distinct from p_exclude_id
      -- The digit 0 follows the slash.
      and (c.path collate "C" = p_path or c.path collate "C" > p_path || '/' and c.path collate "C" < p_path || '0'));
end
$$;
comment on function private.is_fetched_path is 'Has a repository a file or folder there? Authorization: callable by definer functions that have authorized the caller.';
