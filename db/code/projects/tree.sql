-- The source-file tree (contract 10, section 15.5): names among siblings are unique without regard to case, order is a position among
-- siblings, and fetched files are read-only; sources/functions.sql says where those come from. Path, cycle and parent rules are the table's
-- triggers. These functions are definer functions because no request role may read the storage key, a column of the same rows; each
-- authorizes the caller in its first line.

create or replace function private.file_extension(p_name text, p_is_folder boolean) returns text
language sql immutable parallel safe
return case when p_is_folder or strpos(p_name, '.') = 0 then '' else substring(p_name from '\.([^.]*)$') end;
comment on function private.file_extension is 'Text after the last dot; "" without one and for folders.';

create or replace function private.tree_node_json(
  p_id uuid, p_name text, p_size bigint, p_is_folder boolean, p_parent_id uuid, p_order bigint
) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', p_id, 'name', p_name, 'extension', private.file_extension(p_name, p_is_folder),
  'size', p_size, 'order', p_order, 'isFolder', case when p_is_folder then true end,
  'type', case when p_is_folder then 'folder' else case lower(private.file_extension(p_name, false))
    when 'ts' then 'typescript' when 'tsx' then 'typescript' when 'js' then 'javascript' when 'jsx' then 'javascript' when 'json' then 'json'
    when 'md' then 'markdown' when 'mdx' then 'markdown' when 'css' then 'css' when 'scss' then 'css' when 'sass' then 'css'
    when 'less' then 'css' when 'html' then 'html' when 'htm' then 'html' when 'py' then 'python' else 'other' end end))
  -- Null at the root, not absent: the client compares with null.
  || jsonb_build_object('parentId', p_parent_id);
comment on function private.tree_node_json is 'SourceFile of the contract.';

create or replace function private.source_file_json(f public.project_files) returns jsonb
language sql stable parallel safe
return private.tree_node_json(f.id, f.name, f.size, f.is_folder, f.parent_id, f.position);
comment on function private.source_file_json is 'SourceFile of a row with a name and a place of its own.';

-- Files and folders that only repositories have come after the stored siblings, by name.
create or replace function api.list_source_files(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_project uuid := private.path_project(p);
  v_search text := lower(private.trimmed(coalesce(p ->> 'search', '')));
  v_parent uuid := private.as_uuid(nullif(p ->> 'parentId', ''));
begin
  if not private.has_project_role(v_project, 'viewer') then
    return '[]';
  end if;
  return (
    with folder as materialized (
      select f.id, f.path from private.fetched_folders(v_project) f
    ), place as materialized (
      select f.id, f.path from folder f
      union all select s.id, s.path from public.project_files s where s.project_id = v_project and s.is_folder
    ), stored as materialized (
      select coalesce(s.parent_id, '00000000-0000-0000-0000-000000000000') as parent_id, count(*) as siblings
      from public.project_files s where s.project_id = v_project group by 1
    ), fetched as (
      select c.id, c.path, c.bytes, false as is_folder from public.context_files c
      where c.project_id = v_project and not c.is_hidden and c.upload_id is null and c.origin in ('repository', 'manual')
        and not exists (select from public.project_files s where s.project_id = v_project and s.path = c.path)
      union all select f.id, f.path, 0, true from folder f
    ), named as (
      select f.*, regexp_replace(f.path, '^.*/', '') as name, l.id as parent_id
      from fetched f left join place l on strpos(f.path, '/') > 0 and l.path = left(f.path, -strpos(reverse(f.path), '/'))
    ), node as (
      select s.parent_id, s.position::bigint as place, s.name, s.id, private.source_file_json(s) as item
      from public.project_files s where s.project_id = v_project
      union all
      select n.parent_id, coalesce(t.siblings, 0), n.name, n.id,
        private.tree_node_json(n.id, n.name, n.bytes, n.is_folder, n.parent_id, coalesce(t.siblings, 0))
      from named n left join stored t on t.parent_id = coalesce(n.parent_id, '00000000-0000-0000-0000-000000000000')
    )
    select coalesce(jsonb_agg(n.item order by n.parent_id nulls first, n.place, n.name, n.id), '[]') from node n
    where (coalesce(p ->> 'parentId', '') = '' or n.parent_id = v_parent)
      and (v_search = '' or strpos(lower(n.name), v_search) > 0)
  );
end
$$;
comment on function api.list_source_files is 'GET /projects/{projectId}/source-files: SourceFile[], siblings by order then name. Authorization: an auditor''s list is empty.';
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
      and lower(f.name) = lower(v_name) and f.id is distinct from p_exclude_id)
    or private.is_fetched_path(p_project_id, concat_ws('/', (select f.path from public.project_files f where f.project_id = p_project_id
      and f.id = p_parent_id), v_name), p_exclude_id) then
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
    if exists (select from private.fetched_folders(p_project_id) f where f.id = v_id) then
      perform private.refuse(403, 'FORBIDDEN', 'Folders of a repository are read-only here.', 'parentId');
    end if;
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
  'POST /projects/{projectId}/source-files/folders: SourceFile. Authorization: developer in the project. Errors: 400, 403, 404, 409 FILE_EXISTS.';
grant execute on function api.create_folder to authenticated;

create or replace function private.path_file(p jsonb) returns public.project_files
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_project uuid := private.path_project(p, 'developer');
  f public.project_files;
begin
  select * into f from public.project_files where project_id = v_project and id = private.as_uuid(p ->> 'fileId');
  if not found and not exists (select from public.context_files c where c.project_id = v_project and c.id = private.as_uuid(p ->> 'fileId')
      and not c.is_hidden and c.upload_id is null)
    and not exists (select from private.fetched_folders(v_project) d where d.id = private.as_uuid(p ->> 'fileId')) then
    perform private.refuse(404, 'FILE_NOT_FOUND', 'This file does not exist.');
  elsif f.id is null or f.origin = 'repository' then
    perform private.refuse(403, 'FORBIDDEN', 'Files of a repository are read-only here.');
  end if;
  return f;
end
$$;
comment on function private.path_file is 'The file or folder of the path, to be changed: 404 FILE_NOT_FOUND, 403 for a repository''s file. Authorization: developer in the project.';

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
  'PUT /projects/{projectId}/source-files/{fileId}: SourceFile; renames, moves, reorders. Authorization: developer in the project. Errors: 400, 403, 404 FILE_NOT_FOUND, 409 FILE_EXISTS.';
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
comment on function api.delete_source_file is 'DELETE /projects/{projectId}/source-files/{fileId}: 204; a folder takes its content along. Authorization: developer in the project.';
grant execute on function api.delete_source_file to authenticated;
