-- The source-file tree (contract 10, section 15.5): names among siblings are unique without regard to case, order is a position among
-- siblings, and fetched files are read-only. Path, cycle and parent rules are the table's triggers. These functions are definer functions
-- because no request role may read the storage key, a column of the same rows; each authorizes the caller in its first line.

create or replace function private.file_extension(p_name text, p_is_folder boolean) returns text
language sql immutable parallel safe
return case when p_is_folder or strpos(p_name, '.') = 0 then '' else substring(p_name from '\.([^.]*)$') end;
comment on function private.file_extension is 'Text after the last dot; "" without one and for folders.';

create or replace function private.source_file_json(f public.project_files) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', f.id, 'name', f.name, 'extension', private.file_extension(f.name, f.is_folder),
  'size', f.size, 'order', f.position, 'isFolder', case when f.is_folder then true end,
  'type', case when f.is_folder then 'folder' else case lower(private.file_extension(f.name, false))
    when 'ts' then 'typescript' when 'tsx' then 'typescript' when 'js' then 'javascript' when 'jsx' then 'javascript' when 'json' then 'json'
    when 'md' then 'markdown' when 'mdx' then 'markdown' when 'css' then 'css' when 'scss' then 'css' when 'sass' then 'css'
    when 'less' then 'css' when 'html' then 'html' when 'htm' then 'html' when 'py' then 'python' else 'other' end end))
  -- Null at the root, not absent: the client compares with null.
  || jsonb_build_object('parentId', f.parent_id);
comment on function private.source_file_json is 'SourceFile of the contract.';

create or replace function api.list_source_files(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_project uuid := private.path_project(p);
  v_reads boolean := private.has_project_role(v_project, 'viewer');
begin
  return (
    select coalesce(jsonb_agg(private.source_file_json(f) order by f.parent_id nulls first, f.position, f.name, f.id), '[]')
    from public.project_files f
    where f.project_id = v_project and v_reads
      and (coalesce(p ->> 'parentId', '') = '' or f.parent_id = private.as_uuid(p ->> 'parentId'))
      and (private.trimmed(coalesce(p ->> 'search', '')) = '' or f.name ilike private.like_pattern(private.trimmed(p ->> 'search')))
  );
end
$$;
comment on function api.list_source_files is 'GET /projects/{projectId}/source-files: SourceFile[], siblings by order then name. Judges: an auditor''s list is empty.';
grant execute on function api.list_source_files to authenticated;

create or replace function private.assert_file_name(p_project_id uuid, p_parent_id uuid, p_name text, p_exclude_id uuid default null)
returns text
language plpgsql stable
as $$
declare
  v_name text := private.trimmed(p_name);
begin
  if char_length(v_name) not between 1 and 255 or v_name ~ '/' or v_name in ('.', '..') or not private.is_plain(v_name) then
    perform private.refuse_field('name', 'A name has 1 to 255 characters and no slash.');
  elsif exists (select from public.project_files f where f.project_id = p_project_id
      and coalesce(f.parent_id, '00000000-0000-0000-0000-000000000000') = coalesce(p_parent_id, '00000000-0000-0000-0000-000000000000')
      and lower(f.name) = lower(v_name) and f.id is distinct from p_exclude_id) then
    perform private.refuse(409, 'FILE_EXISTS', format('"%s" exists there already.', v_name), 'name');
  end if;
  return v_name;
end
$$;
comment on function private.assert_file_name is 'A name that is free among the siblings: 400 VALIDATION_ERROR, 409 FILE_EXISTS.';

create or replace function private.as_parent(p_project_id uuid, p_parent_id text) returns uuid
language plpgsql stable
as $$
declare
  v_id uuid := private.as_uuid(p_parent_id);
begin
  if p_parent_id is not null and not exists (select from public.project_files f
    where f.project_id = p_project_id and f.id = v_id and f.is_folder and f.origin <> 'repository') then
    perform private.refuse_field('parentId', 'The parent must be a folder of this project.');
  end if;
  return v_id;
end
$$;
comment on function private.as_parent is 'The folder that a request names as parent, null for the root; else 400 VALIDATION_ERROR.';
create or replace function private.lock_tree(p_project_id uuid) returns void
language sql volatile
return pg_advisory_xact_lock(hashtextextended('project files ' || p_project_id, 0));
comment on function private.lock_tree is 'One change of a project''s tree at a time.';

create or replace function api.create_folder(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b jsonb := p -> 'body';
  v_project uuid := private.path_project(p, 'developer');
  v_parent uuid := private.as_parent(v_project, b ->> 'parentId');
  v_name text;
  f public.project_files;
begin
  perform private.lock_tree(v_project);
  v_name := private.assert_file_name(v_project, v_parent, coalesce(b ->> 'name', ''));
  insert into public.project_files (organization_id, project_id, parent_id, uploaded_by, is_folder, name, path, position, mime_type)
  select p.organization_id, p.id, v_parent, private.user_id(), true, v_name, v_name,
    (select count(*) from public.project_files s where s.project_id = p.id and s.parent_id is not distinct from v_parent), 'inode/directory'
  from public.projects p where p.id = v_project
  returning * into f;
  if not found then
    -- The file was deleted after the check.
    perform private.path_project(p, 'developer');
  end if;
  return private.source_file_json(f);
end
$$;
comment on function api.create_folder is
  'POST /projects/{projectId}/source-files/folders: SourceFile. Judges: developer in the project. Errors: 400, 403, 404, 409 FILE_EXISTS.';
grant execute on function api.create_folder to authenticated;

create or replace function private.path_file(p jsonb) returns public.project_files
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_project uuid := private.path_project(p, 'developer');
  f public.project_files;
begin
  select * into f from public.project_files where project_id = v_project and id = private.as_uuid(p ->> 'fileId');
  if not found then
    perform private.refuse(404, 'FILE_NOT_FOUND', 'This file does not exist.');
  elsif f.origin = 'repository' then
    perform private.refuse(403, 'FORBIDDEN', 'Files of a repository are read-only here.');
  end if;
  return f;
end
$$;
comment on function private.path_file is 'The file or folder of the path, to be changed: 404 FILE_NOT_FOUND, 403 for a repository''s file. Judges: developer in the project.';

create or replace function api.update_source_file(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b jsonb := p -> 'body';
  f public.project_files := private.path_file(p);
  v_parent uuid := case when b ? 'parentId' then private.as_parent(f.project_id, b ->> 'parentId') else f.parent_id end;
  v_moves boolean;
  v_place integer;
  v_count integer;
begin
  perform private.lock_tree(f.project_id);
  select * into f from public.project_files where id = f.id;
  v_moves := v_parent is distinct from f.parent_id;
  perform private.assert_file_name(f.project_id, v_parent, coalesce(b ->> 'name', f.name), f.id);
  select count(*) into v_count from public.project_files s
  where s.project_id = f.project_id and s.parent_id is not distinct from v_parent and s.id <> f.id;
  v_place := case when b ->> 'order' is not null then least(greatest(private.as_number(b -> 'order', 'order'), 0), v_count)::integer
    when v_moves then v_count end;

  update public.project_files set name = private.trimmed(coalesce(b ->> 'name', name)), parent_id = v_parent where id = f.id;
  -- Each file gets the position that the list shows; its siblings close the gap and make room.
  if v_place is not null then
    update public.project_files s
    set position = t.place
    from (
      select o.id, case when o.id = f.id then v_place else o.rank + (o.rank >= v_place)::integer end as place
      from (
        select x.id, row_number() over (partition by x.id = f.id order by x.position, x.name, x.id)::integer - 1 as rank
        from public.project_files x where x.project_id = f.project_id and x.parent_id is not distinct from v_parent
      ) o
    ) t
    where s.id = t.id and s.position <> t.place;
  end if;
  select * into f from public.project_files where id = f.id;
  return private.source_file_json(f);
end
$$;
comment on function api.update_source_file is
  'PUT /projects/{projectId}/source-files/{fileId}: SourceFile; renames, moves, reorders. Judges: developer in the project. Errors: 400, 403, 404 FILE_NOT_FOUND, 409 FILE_EXISTS.';
grant execute on function api.update_source_file to authenticated;

create or replace function api.delete_source_file(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  f public.project_files := private.path_file(p);
begin
  delete from public.project_files where id = f.id;
  return null;
end
$$;
comment on function api.delete_source_file is 'DELETE /projects/{projectId}/source-files/{fileId}: 204; a folder takes its content along. Judges: developer in the project.';
grant execute on function api.delete_source_file to authenticated;
