-- The operations of contexts and their entries (contract 60, sections 2 and 3). A write goes through a definer function that checks the
-- caller; content that a request brings was stored by the server.

-- ---------------------------------------------------------------------------------------------------------------------- contexts

create or replace function api.list_contexts(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 50, 200, false);
  v_view text := coalesce(p ->> 'view', 'inspector');
  v_project uuid := private.as_uuid(p ->> 'projectId');
  v_search text := nullif(private.trimmed(p ->> 'search'), '');
  v_type text := p ->> 'type';
  v_status text := p ->> 'status';
  v_total bigint;
  v_items jsonb;
begin
  if v_view not in ('inspector', 'store') then
    perform private.refuse_field('view', 'view is inspector or store.');
  elsif v_type is not null and v_type not in ('package', 'repo', 'files', 'file') then
    perform private.refuse_field('type', 'type is package, repo or files; of the store file or repo.');
  elsif v_status is not null and v_status not in ('cached', 'expired', 'pending') then
    perform private.refuse_field('status', 'status is cached, expired or pending.');
  elsif p ? 'projectId' and v_project is null then
    perform private.set_headers('{"X-Total-Count": "0", "X-Has-More": "false"}');
    return '[]';
  end if;
  with shown as (
    select q as item, q.updated_at, q.id
    from public.projects q
    where (v_project is null or q.id = v_project) and (v_search is null or q.name ilike private.like_pattern(v_search))
      and (v_type is null and v_status is null or (
        select (v_type is null or c.type = v_type or v_type = 'file' and c.type <> 'repo') and (v_status is null or c.status = v_status)
        from private.context_numbers(q) c))
  )
  select (select count(*) from shown), (
    select coalesce(jsonb_agg(private.context_item(s.item, v_view) order by s.updated_at desc, s.id), '[]')
    from (select * from shown order by updated_at desc, id limit v_at.size offset v_at.skipped) s)
  into v_total, v_items;
  perform private.set_headers(jsonb_build_object('X-Total-Count', v_total::text, 'X-Has-More', case when v_at.skipped + v_at.size < v_total then 'true' else 'false' end));
  return v_items;
end
$$;
comment on function api.list_contexts is 'GET /contexts: ContextItem[] in one of two views. Errors: 400 VALIDATION_ERROR.';

create or replace function api.get_context(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.path_context(p);
begin
  return (select private.context_item(q, coalesce(p ->> 'view', 'inspector')) from public.projects q where q.id = v_id);
end
$$;
comment on function api.get_context is 'GET /contexts/{contextId}: ContextItem. Errors: 404 CONTEXT_NOT_FOUND.';
grant execute on function api.list_contexts, api.get_context to authenticated;

create or replace function private.rename_context(p_project_id uuid, p_name text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  o public.projects;
  v_name text;
begin
  perform private.assert_project_role(p_project_id, 'admin');
  select * into o from public.projects where id = p_project_id for no key update;
  v_name := private.assert_project_name(o.organization_id, p_name, o.id);
  if v_name is null then
    perform private.refuse_field('name', 'Project name is required.');
  elsif v_name <> o.name then
    update public.projects set name = v_name where id = o.id;
    perform private.add_changelog(o.id, 'config', format('Renamed context to %s', v_name));
  end if;
end
$$;
comment on function private.rename_context is
  'Authorization: admin of the project or above. Errors: 404, 403, 400 VALIDATION_ERROR, 409 PROJECT_NAME_EXISTS.';
grant execute on function private.rename_context to authenticated;

create or replace function api.rename_context(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_id uuid := private.path_context(p, 'admin', 'rename_context');
begin
  perform private.rename_context(v_id, p #>> '{body,name}');
  return api.get_context(p);
end
$$;
comment on function api.rename_context is
  'PATCH /contexts/{contextId}: ContextItem. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, 409 PROJECT_NAME_EXISTS.';
grant execute on function api.rename_context to authenticated;

-- A free name from what the request calls the code.
create or replace function private.free_context_name(p_name text) returns text
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_base text := private.trimmed(left(private.trimmed(p_name), 50));
  v_name text;
  v_number integer := 1;
begin
  if char_length(v_base) < 3 then
    v_base := 'Context ' || v_base;
  end if;
  v_name := private.trimmed(v_base);
  while exists (select from public.projects p where p.organization_id = private.org_id() and lower(p.name) = lower(v_name)) loop
    v_number := v_number + 1;
    v_name := private.trimmed(left(v_base, 47 - char_length(v_number::text))) || format(' (%s)', v_number);
  end loop;
  return v_name;
end
$$;
comment on function private.free_context_name is
  'The name, or the first free of "name (2)", "name (3)". Authorization: callable by definer functions of ours that have authorized the caller.';

-- ---------------------------------------------------------------------------------------------------------------------- ingestions

-- p: the request {contextId?, body} and, of form (b) with content, `stored` by the server ({files} or {text}). Without contextId the
-- context is that of config.codebase.id, or a new one.
create or replace function private.ingest(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b jsonb := coalesce(nullif(p -> 'body', 'null'), '{}');
  v_stored jsonb := p -> 'stored';
  v_config jsonb;
  v_declared jsonb;
  v_source jsonb;
  v_project uuid;
  v_id uuid;
  v_operation uuid;
  v_staged public.staged_files;
  e public.context_ingestions;
begin
  if p ? 'stored' then
    perform private.refuse_strangers('Content is ingested through the API.');
  end if;
  if p ? 'contextId' then
    v_project := private.path_context(p, 'developer', 'ingest');
  end if;
  if jsonb_typeof(b) <> 'object' then
    perform private.refuse_field('', 'The request body is an object.');
  elsif b ? 'config' then
    v_config := private.as_ingestion_config(b -> 'config');
    if v_stored is null and (b ->> 'sourceType') is distinct from 'repo' then
      perform private.refuse_field('sourceType', 'With config comes sourceType: repo with repoUrl, or text with content; files come as a form.');
    end if;
  elsif b ? 'fileId' then
    v_config := private.as_ingestion_config(b);
  elsif b ? 'filesAdded' then
    v_declared := private.as_declared_entry(b);
  else
    perform private.refuse_field('', 'Send a configuration (fileId, ...), a configuration with its source (config, ...), or the numbers of an entry (filesAdded, ...).');
  end if;

  if v_project is null then
    if v_config #>> '{codebase,id}' is not null then
      v_project := private.path_context(jsonb_build_object('contextId', v_config #> '{codebase,id}'), 'developer', 'ingest');
    else
      if private.org_id() is null or private.user_id() is null then
        perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
      elsif private.org_role() = 'viewer' then
        perform private.refuse(403, 'FORBIDDEN', 'Viewers of an organization cannot create projects.', null, '{"required": "create_context"}');
      end if;
      if b ? 'fileId' then
        -- Form (a) into a new context: the file was uploaded without a project.
        select * into v_staged from public.staged_files s
        where s.user_id = private.user_id() and s.id = private.as_uuid(v_config ->> 'fileId') and not s.attached and s.created_at > now() - interval '24 hours'
        for update;
        if not found then
          perform private.refuse_field('fileId', 'This is no upload of yours that waits for a project.');
        end if;
      end if;
      v_id := private.as_uuid(v_config ->> 'fileId');
      if v_id is null or private.project_id_taken(v_id) then
        v_id := gen_random_uuid();
      end if;
      insert into public.projects (id, organization_id, user_id, name, type)
      values (v_id, private.org_id(), private.user_id(), private.free_context_name(coalesce(nullif(private.trimmed(v_config #>> '{codebase,name}'), ''),
        v_config ->> 'displayName', v_declared ->> 'displayName', 'Context')), case when b ->> 'sourceType' = 'repo' then 'repository' else 'files' end)
      returning id into v_project;
      if v_staged.id is not null then
        perform api.attach_files(jsonb_build_object('projectId', v_project, 'body', jsonb_build_object('fileIds', jsonb_build_array(v_staged.id))));
      end if;
    end if;
  end if;

  if v_declared is not null then
    e := private.add_ingestion(v_project, v_declared || '{"kind": "declared"}', private.user_id());
    return jsonb_build_object('project', v_project, 'entry', private.ingestion_json(e));
  end if;
  v_source := case when v_stored is not null then private.store_content(v_project, v_stored) when b ? 'config' then private.store_repository(v_project, b)
    else private.stored_source(v_project, v_config ->> 'fileId') end;
  v_operation := private.queue_operation(v_project, 'ingestion');
  e := private.add_ingestion(v_project, v_config || jsonb_build_object('sourceType', v_source -> 'sourceType', 'sources', v_source -> 'sources',
    'operationId', v_operation), private.user_id());
  return jsonb_build_object('project', v_project, 'operation', v_operation, 'entry', private.ingestion_json(e), 'refused', coalesce(v_source -> 'refused', '[]'));
end
$$;
comment on function private.ingest is
  'Accepts an ingestion: {project, operation?, entry, refused}. Authorization: developer of the context or above; a new one by any member of the organization but viewers. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, 429 QUOTA_EXCEEDED.';
grant execute on function private.ingest to authenticated;

create or replace function private.ingested_entry(p_made jsonb) returns jsonb
language sql stable parallel safe
return case when p_made ? 'operation' then private.operation_answer(p_made -> 'entry', (p_made ->> 'operation')::uuid) else p_made -> 'entry' end
  || case when jsonb_array_length(p_made -> 'refused') > 0 then jsonb_build_object('refused', p_made -> 'refused') else '{}' end;
comment on function private.ingested_entry is 'The first answer to an accepted ingestion.';

create or replace function private.ingested_context(p_made jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return (select private.context_item(q, 'store') from public.projects q where q.id = (p_made ->> 'project')::uuid)
    || case when jsonb_array_length(p_made -> 'refused') > 0 then jsonb_build_object('refused', p_made -> 'refused') else '{}' end;
end
$$;
comment on function private.ingested_context is 'The context of an accepted ingestion as the store shows it.';
grant execute on function private.ingested_entry, private.ingested_context to authenticated;

create or replace function api.create_ingestion(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.ingested_entry(private.ingest(private.as_object(p, '') - 'stored'));
end
$$;
comment on function api.create_ingestion is
  'POST /contexts/{contextId}/ingestions without content: IngestionEntry. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, 429 QUOTA_EXCEEDED.';
create or replace function api.create_context(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_made jsonb := private.ingest(private.as_object(p, '') - array['stored', 'contextId']);
begin
  return private.ingested_context(v_made);
end
$$;
comment on function api.create_context is
  'POST /contexts without content: ContextItem of the store. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, 429 QUOTA_EXCEEDED.';

-- The same with content that the server has stored.
create or replace function api.register_ingestion(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.ingested_entry(private.ingest(p));
end
$$;
comment on function api.register_ingestion is
  'Part of POST /contexts/{contextId}/ingestions, with `stored` content; refused: its keys that no file has. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, 429 QUOTA_EXCEEDED.';
create or replace function api.register_context(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_made jsonb := private.ingest(private.as_object(p, '') - 'contextId');
begin
  return private.ingested_context(v_made);
end
$$;
comment on function api.register_context is
  'Part of POST /contexts, with `stored` content; refused: its keys that no file has. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, 429 QUOTA_EXCEEDED.';
grant execute on function api.create_ingestion, api.create_context, api.register_ingestion, api.register_context to authenticated;

-- May the caller ingest there? Asked before the first byte is stored.
create or replace function api.admit_ingestion(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  perform private.path_context(p, 'developer', 'ingest');
  return '{}';
end
$$;
comment on function api.admit_ingestion is 'Part of POST /contexts/{contextId}/ingestions: refuses 403 or 404 before content is read.';
grant execute on function api.admit_ingestion to authenticated;

-- The answer when the run has ended, also when it failed: the entry says so.
create or replace function api.ended_ingestion(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project uuid := private.path_context(p);
  e public.context_ingestions;
begin
  select * into e from public.context_ingestions x where x.project_id = v_project and x.id = private.as_uuid(p #>> '{started,id}');
  if not found then
    perform private.refuse_ingestion(p #>> '{started,number}');
  end if;
  return private.ingestion_json(e);
end
$$;
comment on function api.ended_ingestion is 'The answer to an ingestion whose run has ended: IngestionEntry. Errors: 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND.';
grant execute on function api.ended_ingestion to authenticated;

-- The entry of the path, under the caller's rights.
create or replace function private.path_ingestion(p jsonb, p_minimum text default 'auditor', p_permission text default null) returns public.context_ingestions
language plpgsql stable
as $$
declare
  v_project uuid := private.path_context(p, p_minimum, p_permission);
  v_number integer := private.as_version(p, 'number');
  e public.context_ingestions;
begin
  select * into e from public.context_ingestions x where x.project_id = v_project and x.number = v_number;
  if not found then
    perform private.refuse_ingestion(v_number::text);
  end if;
  return e;
end
$$;
comment on function private.path_ingestion is
  'The entry of the path, checked. Errors: 400 on number, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND.';
grant execute on function private.path_ingestion to authenticated;

create or replace function api.list_ingestions(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project uuid := private.path_context(p);
  v_at record := private.page(p, 50, 200, false);
  v_search text := nullif(private.trimmed(p ->> 'search'), '');
  v_tags text[] := array(select lower(private.trimmed(t.tag)) from jsonb_array_elements_text(coalesce(private.as_array(p -> 'tag', 'tag'), '[]')) t (tag));
  v_total bigint;
  v_items jsonb;
begin
  if p ->> 'sourceType' not in ('file', 'repo', 'text') then
    perform private.refuse_field('sourceType', 'sourceType is file, repo or text.');
  end if;
  with shown as (
    select e from public.context_ingestions e
    where e.project_id = v_project and (p ->> 'sourceType' is null or e.source_type = p ->> 'sourceType')
      and (v_search is null or e.display_name ilike private.like_pattern(v_search) or e.description ilike private.like_pattern(v_search)
        or e.number::text = ltrim(v_search, '#'))
      and (cardinality(v_tags) = 0 or exists (select from unnest(e.tags) t where lower(t) = any (v_tags)))
  )
  select (select count(*) from shown), (
    select coalesce(jsonb_agg(private.ingestion_json(s.e) order by (s.e).number desc), '[]')
    from (select e from shown order by (e).number desc limit v_at.size offset v_at.skipped) s)
  into v_total, v_items;
  perform private.set_headers(jsonb_build_object('X-Total-Count', v_total::text, 'X-Has-More', case when v_at.skipped + v_at.size < v_total then 'true' else 'false' end));
  return v_items;
end
$$;
comment on function api.list_ingestions is 'GET /contexts/{contextId}/ingestions: IngestionEntry[], newest first. Errors: 400, 404 CONTEXT_NOT_FOUND.';

create or replace function api.get_ingestion(p jsonb) returns jsonb
language sql stable
as $$ select private.ingestion_json(private.path_ingestion(p)) $$;
comment on function api.get_ingestion is 'GET /contexts/{contextId}/ingestions/{number}: IngestionEntry. Errors: 400, 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND.';
grant execute on function api.list_ingestions, api.get_ingestion to authenticated;

create or replace function private.change_ingestion(p jsonb, b jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e public.context_ingestions := private.path_ingestion(p, 'developer', 'ingest');
begin
  select * into e from public.context_ingestions x where x.id = e.id for no key update;
  if e.id is null then
    perform private.refuse_ingestion(p ->> 'number');
  end if;
  if b ? 'displayName' then
    e.display_name := private.as_display_name(b -> 'displayName');
  end if;
  if b ? 'tags' then
    if jsonb_typeof(b -> 'tags') <> 'array' then
      perform private.refuse_field('tags', 'tags must be a list.');
    end if;
    e.tags := private.as_tags(b -> 'tags', 'tags', false);
  end if;
  if b ? 'neverCompress' then
    e.never_compress := coalesce(private.as_bool(b -> 'neverCompress', 'neverCompress'), e.never_compress);
    if e.never_compress and e.compressed then
      perform private.refuse(409, 'ALREADY_COMPRESSED', format('Ingestion #%s is compressed already.', e.number));
    end if;
    e.wants_compression := e.wants_compression and not e.never_compress;
  end if;
  update public.context_ingestions x
  set display_name = e.display_name, tags = e.tags, never_compress = e.never_compress, wants_compression = e.wants_compression
  where x.id = e.id and (x.display_name, x.tags, x.never_compress) is distinct from (e.display_name, e.tags, e.never_compress);
  return private.ingestion_json(e);
end
$$;
comment on function private.change_ingestion is
  'Renames, tags, keeps from compression. Authorization: developer of the context or above. Errors: 400, 403, 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND, 409 ALREADY_COMPRESSED.';
grant execute on function private.change_ingestion to authenticated;

create or replace function api.update_ingestion(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.change_ingestion(p, private.as_object(p -> 'body', ''));
end
$$;
comment on function api.update_ingestion is
  'PATCH /contexts/{contextId}/ingestions/{number}: IngestionEntry. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND, 409 ALREADY_COMPRESSED.';
create or replace function api.set_ingestion_tags(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.change_ingestion(p, jsonb_build_object('tags', coalesce(p #> '{body,tags}', 'null')));
end
$$;
comment on function api.set_ingestion_tags is
  'PUT /contexts/{contextId}/ingestions/{number}/tags: IngestionEntry. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND.';
grant execute on function api.update_ingestion, api.set_ingestion_tags to authenticated;

create or replace function api.delete_ingestion(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e public.context_ingestions := private.path_ingestion(p, 'developer', 'delete_ingestion');
begin
  if e.created_by is distinct from private.user_id() then
    perform private.path_context(p, 'manager', 'delete_ingestion');
  end if;
  perform private.delete_ingestion(e.project_id, e.number);
  return null;
end
$$;
comment on function api.delete_ingestion is
  'DELETE /contexts/{contextId}/ingestions/{number}: nothing. Authorization: manager of the context or above, a developer their own. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND.';
grant execute on function api.delete_ingestion to authenticated;

-- Content for a declared entry, once. Its run begins when its turn comes.
create or replace function private.attach_content(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e public.context_ingestions := private.path_ingestion(p, 'developer', 'ingest');
  b jsonb := coalesce(nullif(p -> 'body', 'null'), '{}');
  v_source jsonb;
  v_operation uuid;
begin
  if p ? 'stored' then
    perform private.refuse_strangers('Content is ingested through the API.');
  elsif (b ->> 'sourceType') is distinct from 'repo' then
    perform private.refuse_field('sourceType', 'Send files as a form, or sourceType repo with repoUrl, or text with content.');
  end if;
  -- Content is stored before the context is locked, as every upload is.
  v_source := case when p ? 'stored' then private.store_content(e.project_id, p -> 'stored') else private.store_repository(e.project_id, b) end;
  perform private.lock_context(e.project_id);
  select * into e from public.context_ingestions x where x.id = e.id for no key update;
  if e.id is null then
    perform private.refuse_ingestion(p ->> 'number');
  elsif e.kind <> 'declared' then
    perform private.refuse(409, 'CONTENT_ALREADY_ATTACHED', format('Ingestion #%s has its content.', e.number));
  end if;
  v_operation := private.queue_operation(e.project_id, 'ingestion');
  update public.context_ingestions x
  set kind = 'content', status = 'processing', ready_at = null, sources = v_source -> 'sources', source_type = v_source ->> 'sourceType', operation_id = v_operation,
    wants_compression = x.compressed, compressed = false, compressed_tokens = null, tokens = 0, files_added = 0, files_removed = 0, files_modified = 0
  where x.id = e.id returning * into e;
  perform private.open_next_ingestion(e.project_id);
  return jsonb_build_object('project', e.project_id, 'operation', v_operation, 'entry', private.ingestion_json(e), 'refused', coalesce(v_source -> 'refused', '[]'));
end
$$;
comment on function private.attach_content is
  'Gives a declared entry its content: {project, operation, entry, refused}. Authorization: developer of the context or above. Errors: 400, 403, 404, 409 CONTENT_ALREADY_ATTACHED, 429 QUOTA_EXCEEDED.';
grant execute on function private.attach_content to authenticated;

create or replace function api.attach_ingestion_content(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.ingested_entry(private.attach_content(private.as_object(p, '') - 'stored'));
end
$$;
comment on function api.attach_ingestion_content is
  'POST /contexts/{contextId}/ingestions/{number}/content of a repository: IngestionEntry. Errors: 400, 403 FORBIDDEN, 404, 409 CONTENT_ALREADY_ATTACHED.';
create or replace function api.register_ingestion_content(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.ingested_entry(private.attach_content(p));
end
$$;
comment on function api.register_ingestion_content is
  'Part of POST /contexts/{contextId}/ingestions/{number}/content, with `stored` content. Errors: 400, 403 FORBIDDEN, 404, 409 CONTENT_ALREADY_ATTACHED, 429 QUOTA_EXCEEDED.';
grant execute on function api.attach_ingestion_content, api.register_ingestion_content to authenticated;

-- ------------------------------------------------------------------------------------------------------------- compression, preview

-- {fileName, language, content, fileCount, summary}: the file of the entry that the graph refers to most, else its largest text file.
create or replace function private.ingestion_preview(e public.context_ingestions, p_characters integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_path text;
  v_content text := '';
  v_hash bytea;
begin
  if e.kind <> 'declared' then
    select o.path, o.hash into v_path, v_hash
    from public.context_file_ops o
    left join public.kg_files f on f.project_id = o.project_id and f.path = o.path
    left join public.kg_nodes n on n.organization_id = f.organization_id and n.project_id = f.project_id and n.part = f.part
    where o.project_id = e.project_id and o.ingestion_id = e.id and o.operation <> 'removed' and not o.is_binary
    group by o.path, o.hash, o.bytes
    order by sum(n.reference_count) desc nulls last, o.bytes desc, o.path collate "C" limit 1;
    if v_hash is not null then
      -- Whole characters: at most four bytes each.
      select left(array_to_string((string_to_array(left(convert_from(b.content, 'UTF8'), p_characters + 1), E'\n'))[1:200], E'\n'), p_characters) into v_content
      from public.content_blobs b where b.project_id = e.project_id and b.hash = v_hash;
    end if;
  end if;
  return jsonb_build_object('fileName', coalesce(v_path, e.display_name, 'ingestion-' || e.number),
    'language', case when v_path is null then 'text' else private.preview_language(v_path) end, 'content', coalesce(v_content, ''),
    'fileCount', e.files_added + e.files_modified,
    'summary', coalesce(e.description, e.display_name, format('Ingestion with %s files.', e.files_added + e.files_modified)));
end
$$;
comment on function private.ingestion_preview is
  'IngestionPreviewData of the contract. Authorization: callable by definer functions of ours that have authorized the caller.';

create or replace function api.get_ingestion_preview(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return private.ingestion_preview(private.path_ingestion(p, 'viewer', 'read_content'), 8000);
end
$$;
comment on function api.get_ingestion_preview is
  'GET /contexts/{contextId}/ingestions/{number}/preview: IngestionPreviewData. Authorization: viewer of the context or above. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND.';
grant execute on function api.get_ingestion_preview to authenticated;

create or replace function api.get_compression(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_project uuid := private.path_context(p);
  v_reads constant boolean := private.has_project_role(v_project, 'viewer');
  v_total bigint;
  v_history jsonb;
begin
  if p ->> 'include' <> 'preview' then
    perform private.refuse_field('include', 'include is preview.');
  end if;
  select count(*) into v_total from public.context_ingestions e where e.project_id = v_project;
  select coalesce(jsonb_agg(private.ingestion_json(h.e) || case when p ->> 'include' = 'preview' and v_reads and h.place <= 100
      then jsonb_build_object('preview', private.ingestion_preview(h.e, 2000)) else '{}' end order by (h.e).number desc), '[]') into v_history
  from (select e, row_number() over (order by e.number desc) as place from public.context_ingestions e where e.project_id = v_project
    order by e.number desc limit 1000) h;
  perform private.set_headers(jsonb_build_object('X-Total-Count', v_total::text));
  return jsonb_build_object('metrics', private.context_metrics(v_project), 'history', v_history, 'algorithmInfo', private.algorithm_info(private.compression_settings(v_project)))
    || case when v_reads then private.compression_lists(v_project)
      else '{"compressedFiles": [], "pendingFiles": [], "neverCompressFiles": []}'::jsonb end;
end
$$;
comment on function api.get_compression is
  'GET /contexts/{contextId}/compression: CompressionDataResponse. Authorization: who sees the context; an auditor gets empty file lists. Errors: 400, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.get_compression to authenticated;

