-- Changelog, versions, diff, rollback (contract 60, section 4). The server counts and shows lines; everything else is answered here.

create or replace function private.current_version(p_project_id uuid) returns integer
language sql stable parallel safe
return coalesce((select max(e.number) from public.context_ingestions e where e.project_id = p_project_id and e.status = 'ready'), 0);
comment on function private.current_version is 'The highest number that is ready, 0 before the first, as far as the caller sees the context.';
grant execute on function private.current_version to authenticated, service_role;

create or replace function private.as_version(p jsonb, p_field text) returns integer
language plpgsql stable
as $$
begin
  if p ->> p_field is null or p ->> p_field !~ '^[0-9]{1,9}$' then
    perform private.refuse_field(p_field, format('%s is a whole number from 0.', p_field));
  end if;
  return (p ->> p_field)::integer;
end
$$;
comment on function private.as_version is 'A number of a path. Errors: 400 VALIDATION_ERROR about the field.';

create or replace function private.refuse_version(p_number integer, p_current integer) returns void
language plpgsql stable
as $$
begin
  perform private.refuse(404, 'VERSION_NOT_FOUND', format('There is no version %s; the current one is %s.', p_number, p_current));
end
$$;
comment on function private.refuse_version is '404 VERSION_NOT_FOUND.';
grant execute on function private.as_version, private.refuse_version to authenticated;

-- -------------------------------------------------------------------------------------------------------------------- changelog

-- {entry, modified: [{path, from, to}]}: the server counts the lines of what was modified. An auditor sees counts and no path.
create or replace function private.changelog_with_changes(l public.context_changelog, p_lists integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return jsonb_build_object('entry', private.changelog_json(l, p_lists), 'modified', case when l.number is null or p_lists = 0 then '[]' else (
    select coalesce(jsonb_agg(jsonb_build_object('path', o.path, 'isBinary', o.is_binary or coalesce(b.is_binary, false), 'to', encode(o.hash, 'hex'),
        'from', encode(b.hash, 'hex')) order by o.path collate "C"), '[]')
    from (
      select x.* from public.context_ingestions e join public.context_file_ops x on x.project_id = e.project_id and x.ingestion_id = e.id
      where e.project_id = l.project_id and e.number = l.number and x.operation = 'modified' order by x.path collate "C" limit p_lists) o
    left join lateral (select y.hash, y.is_binary from public.context_file_ops y
      where y.project_id = o.project_id and y.path = o.path collate "C" and y.number < o.number order by y.number desc limit 1) b on true) end);
end
$$;
comment on function private.changelog_with_changes is
  'A changelog entry and what its version modified. Authorization: callable by definer functions of ours that have authorized the caller.';

create or replace function private.changelog_page(p_project_id uuid, p_type text, p_since timestamptz, p_limit integer, p_offset integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_role text := private.project_role(p_project_id);
begin
  if v_role is null then
    perform private.refuse(404, 'CONTEXT_NOT_FOUND', 'This context does not exist.');
  end if;
  return (
    select coalesce(jsonb_agg(private.changelog_with_changes(e.l, case v_role when 'auditor' then 0 else 500 end)), '[]')
    from (select l from public.context_changelog l
      where l.project_id = p_project_id and (p_type = 'all' or l.type = p_type) and (p_since is null or private.shown(l.created_at) >= p_since)
      order by l.created_at desc, l.id limit p_limit offset p_offset) e
  );
end
$$;
comment on function private.changelog_page is
  'Entries of the changelog with what they modified. Authorization: the caller sees the context; an auditor gets no path. Errors: 404 CONTEXT_NOT_FOUND.';

create or replace function private.changelog_since(p_time text) returns timestamptz
language sql stable parallel safe
return case p_time when '7d' then now() - interval '7 days' when '90d' then now() - interval '90 days' when 'all' then null
  else now() - interval '30 days' end;
comment on function private.changelog_since is 'Where a window of the changelog begins; null: nowhere.';
grant execute on function private.changelog_page, private.changelog_since to authenticated;

create or replace function api.list_changelog(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project uuid := private.path_context(p);
  v_type text := coalesce(p ->> 'type', 'all');
  v_at record := private.page(p - array['page', 'pageSize'], 10, 200, false);
  v_since timestamptz := private.changelog_since(p ->> 'time');
  v_total bigint;
begin
  if v_type not in ('all', 'ingestion', 'enrichment', 'config', 'access') then
    perform private.refuse_field('type', 'type is all, ingestion, enrichment, config or access.');
  elsif coalesce(p ->> 'time', '30d') not in ('7d', '30d', '90d', 'all') then
    perform private.refuse_field('time', 'time is 7d, 30d, 90d or all.');
  end if;
  select count(*) into v_total from public.context_changelog l
  where l.project_id = v_project and (v_type = 'all' or l.type = v_type) and (v_since is null or private.shown(l.created_at) >= v_since);
  return jsonb_build_object('entries', private.changelog_page(v_project, v_type, v_since, v_at.size, v_at.skipped::integer), 'totalCount', v_total,
    'hasMore', v_at.skipped + v_at.size < v_total);
end
$$;
comment on function api.list_changelog is
  'GET /contexts/{contextId}/changelog: {entries: [{entry, modified}], totalCount, hasMore}, to which the server adds lines. Errors: 400, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.list_changelog to authenticated;

create or replace function private.changelog_entry(p_project_id uuid, p_number integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_role text := private.project_role(p_project_id);
  l public.context_changelog;
begin
  select * into l from public.context_changelog x where x.project_id = p_project_id and x.number = p_number and v_role is not null;
  if not found then
    perform private.refuse_ingestion(p_number::text);
  end if;
  return private.changelog_with_changes(l, case v_role when 'auditor' then 0 else 500 end);
end
$$;
comment on function private.changelog_entry is
  'The changelog entry of an ingestion. Authorization: the caller sees the context; an auditor gets no path. Errors: 404 INGESTION_NOT_FOUND.';
grant execute on function private.changelog_entry to authenticated;

create or replace function api.get_changelog_entry(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.changelog_entry(private.path_context(p), private.as_version(p, 'number'));
end
$$;
comment on function api.get_changelog_entry is
  'GET /contexts/{contextId}/changelog/{number}: {entry, modified}, to which the server adds lines. Errors: 400, 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND.';
grant execute on function api.get_changelog_entry to authenticated;

create or replace function api.list_versions(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project uuid := private.path_context(p);
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('number', v.number, 'timestamp', private.iso(v.created_at),
      'author', coalesce(l.user_name, 'System'), 'filesChanged', v.files_added + v.files_removed + v.files_modified) order by v.number desc), '[]')
    from (select * from public.context_ingestions e where e.project_id = v_project and e.status = 'ready' order by e.number desc limit 1000) v
    left join public.context_changelog l on l.project_id = v.project_id and l.number = v.number
  );
end
$$;
comment on function api.list_versions is 'GET /contexts/{contextId}/versions: VersionInfo[], newest first. Errors: 404 CONTEXT_NOT_FOUND.';
grant execute on function api.list_versions to authenticated;

-- ------------------------------------------------------------------------------------------------------------------------- diff

-- The files in which two versions differ: {files: [{path, status, language, from, to, fromLines, toLines, isBinary}], fromVersion, toVersion}.
-- Only paths with an operation between the two are looked at, so the cost grows with the difference.
create or replace function private.version_difference(p_project_id uuid, p_from integer, p_to integer, p_path text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org uuid := (select p.organization_id from public.projects p where p.id = p_project_id);
begin
  if not coalesce(private.has_project_role(p_project_id, 'viewer'), false) then
    perform private.refuse(403, 'FORBIDDEN', 'This content is not for your role in this context.');
  end if;
  return jsonb_build_object('fromVersion', p_from, 'toVersion', p_to, 'files', (
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('path', d.path,
        'status', case when d.old_hash is null then 'added' when d.new_hash is null then 'removed' else 'modified' end,
        'language', private.shown_language(d.path), 'from', encode(d.old_hash, 'hex'), 'to', encode(d.new_hash, 'hex'), 'fromLines', a.lines, 'toLines', b.lines,
        'fromBytes', octet_length(a.content), 'toBytes', octet_length(b.content),
        'isBinary', coalesce(a.is_binary, false) or coalesce(b.is_binary, false))) order by d.path collate "C"), '[]')
    from (
      select t.path, f.hash as old_hash, g.hash as new_hash
      from (select distinct o.path from public.context_file_ops o
        where o.organization_id = v_org and o.project_id = p_project_id and o.number > least(p_from, p_to) and o.number <= greatest(p_from, p_to)
          and (p_path is null or o.path = p_path)) t
      left join lateral (select case when x.operation <> 'removed' then x.hash end as hash from public.context_file_ops x
        where x.project_id = p_project_id and x.path = t.path collate "C" and x.number <= p_from order by x.number desc limit 1) f on true
      left join lateral (select case when x.operation <> 'removed' then x.hash end as hash from public.context_file_ops x
        where x.project_id = p_project_id and x.path = t.path collate "C" and x.number <= p_to order by x.number desc limit 1) g on true) d
    left join public.content_blobs a on a.project_id = p_project_id and a.hash = d.old_hash
    left join public.content_blobs b on b.project_id = p_project_id and b.hash = d.new_hash
    where d.old_hash is distinct from d.new_hash));
end
$$;
comment on function private.version_difference is
  'The files in which two versions differ. Authorization: viewer of the context or above. Errors: 403 FORBIDDEN.';
grant execute on function private.version_difference to authenticated;

create or replace function api.diff_versions(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project uuid := private.path_context(p, 'viewer', 'read_diff');
  v_number integer;
  v_from integer;
  v_to integer;
  v_current integer := private.current_version(v_project);
begin
  if p ? 'number' then
    v_number := private.as_version(p, 'number');
    if not exists (select from public.context_changelog l where l.project_id = v_project and l.number = v_number) then
      perform private.refuse_ingestion(v_number::text);
    end if;
    v_from := v_number - 1;
    v_to := v_number;
  else
    v_from := private.as_version(p, 'from');
    v_to := private.as_version(p, 'to');
    if greatest(v_from, v_to) > v_current then
      perform private.refuse_version(greatest(v_from, v_to), v_current);
    end if;
  end if;
  return private.version_difference(v_project, v_from, v_to, p ->> 'path');
end
$$;
comment on function api.diff_versions is
  'The files of GET /contexts/{contextId}/diff/{from}/{to} and .../changelog/{number}/diff; the server adds their lines. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, VERSION_NOT_FOUND, INGESTION_NOT_FOUND.';
grant execute on function api.diff_versions to authenticated;

-- Texts by hash, as many as fit into 8 MiB, in the order of the hashes; at least one. Row-level security decides who reads them.
create or replace function api.read_context_texts(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project uuid := private.path_context(p, 'viewer', 'read_content');
  v_hashes jsonb := coalesce(private.as_array(p -> 'hashes', 'hashes'), '[]');
begin
  if exists (select from jsonb_array_elements(v_hashes) h where h #>> '{}' is null or h #>> '{}' !~ '^[0-9a-f]{64}$') then
    perform private.refuse_field('hashes', 'A hash has 64 hexadecimal digits.');
  end if;
  return (
    select coalesce(jsonb_object_agg(t.hash, t.content), '{}')
    from (
      select s.hash, convert_from(s.content, 'UTF8') as content
      from (
        select h.hash, b.content, sum(octet_length(b.content)) over (order by h.ord) - octet_length(b.content) as before
        from jsonb_array_elements_text(v_hashes) with ordinality h (hash, ord)
        join public.content_blobs b on b.project_id = v_project and b.hash = decode(h.hash, 'hex') and not b.is_binary) s
      where s.before < 8388608) t
  );
end
$$;
comment on function api.read_context_texts is '{contextId, hashes}: {hash: text}, for the server''s diffs. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.read_context_texts to authenticated;

-- ---------------------------------------------------------------------------------------------------------------------- rollback

create or replace function private.rollback_preview(p_project_id uuid, p_target integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_current integer := private.current_version(p_project_id);
  v_org uuid := (select p.organization_id from public.projects p where p.id = p_project_id);
begin
  return (
    select jsonb_build_object('filesToRestore', count(*) filter (where d.old_hash is not null and d.new_hash is not null),
      'filesToRemove', count(*) filter (where d.new_hash is null), 'filesToReAdd', count(*) filter (where d.old_hash is null),
      'currentVersion', v_current, 'targetVersion', p_target)
    from (
      select f.hash as old_hash, g.hash as new_hash
      from (select distinct o.path from public.context_file_ops o
        where o.organization_id = v_org and o.project_id = p_project_id and o.number > p_target) t
      left join lateral (select case when x.operation <> 'removed' then x.hash end as hash from public.context_file_ops x
        where x.project_id = p_project_id and x.path = t.path collate "C" and x.number <= v_current order by x.number desc limit 1) f on true
      left join lateral (select case when x.operation <> 'removed' then x.hash end as hash from public.context_file_ops x
        where x.project_id = p_project_id and x.path = t.path collate "C" and x.number <= p_target order by x.number desc limit 1) g on true) d
    where d.old_hash is distinct from d.new_hash
  );
end
$$;
comment on function private.rollback_preview is
  'RollbackPreview of the contract. Authorization: callable by definer functions of ours that have authorized the caller.';

-- The target of a rollback, checked.
create or replace function private.rollback_target(p jsonb) returns integer
language plpgsql stable
as $$
declare
  v_project uuid := private.path_context(p, 'admin', 'rollback');
  v_number integer := private.as_version(p, 'number');
  v_current integer := private.current_version(v_project);
begin
  if v_number > v_current then
    perform private.refuse_version(v_number, v_current);
  elsif v_number = v_current then
    perform private.refuse(409, 'ALREADY_AT_VERSION', format('Version %s is the current one.', v_number));
  end if;
  return v_number;
end
$$;
comment on function private.rollback_target is 'The version to go back to. Errors: 400, 403, 404 CONTEXT_NOT_FOUND, VERSION_NOT_FOUND, 409 ALREADY_AT_VERSION.';
grant execute on function private.rollback_target to authenticated;

create or replace function api.preview_rollback(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return private.rollback_preview(private.path_context(p, 'admin', 'rollback'), private.rollback_target(p));
end
$$;
comment on function api.preview_rollback is
  'GET /contexts/{contextId}/rollback/{number}/preview: RollbackPreview. Authorization: admin of the context or above. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, VERSION_NOT_FOUND, 409 ALREADY_AT_VERSION.';

create or replace function api.roll_back_context(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.path_context(p, 'admin', 'rollback');
  v_target integer;
  v_backup integer;
  v_operation uuid;
  e public.context_ingestions;
begin
  -- Under the lock: of two rollbacks the second is checked by the version that the first made.
  perform private.lock_context(v_project);
  v_target := private.rollback_target(p);
  v_backup := private.current_version(v_project);
  v_operation := private.queue_operation(v_project, 'rollback');
  e := private.insert_ingestion(v_project, jsonb_build_object('kind', 'rollback', 'targetNumber', v_target, 'displayName', format('Rollback to #%s', v_target),
    'operationId', v_operation, 'sourceType', coalesce((select x.source_type from public.context_ingestions x
      where x.project_id = v_project and x.number = v_target), 'file')), private.user_id());
  perform private.touch_parent(v_project);
  perform private.open_next_ingestion(v_project);
  return private.operation_answer(jsonb_build_object('success', true, 'targetVersion', v_target, 'backupVersion', v_backup, 'newVersion', e.number), v_operation);
end
$$;
comment on function api.roll_back_context is
  'POST /contexts/{contextId}/rollback/{number}: queues the rollback as the next version. Authorization: admin of the context or above. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, VERSION_NOT_FOUND, 409 ALREADY_AT_VERSION.';
grant execute on function api.preview_rollback, api.roll_back_context to authenticated;

create or replace function api.rolled_back_context(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project uuid := private.path_context(p, 'admin', 'rollback');
  o public.context_operations := private.finished_operation(p);
  e public.context_ingestions;
begin
  select * into e from public.context_ingestions x where x.project_id = v_project and x.operation_id = o.id;
  if not found then
    perform private.refuse_ingestion(p #>> '{started,newVersion}');
  end if;
  return jsonb_build_object('success', true, 'targetVersion', e.target_number, 'backupVersion', coalesce(e.backup_number, 0), 'newVersion', e.number,
    'entry', private.changelog_entry(v_project, e.number));
end
$$;
comment on function api.rolled_back_context is
  'The answer to a rollback that is done; the server adds the lines of `entry`. Errors: 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND, and the codes of jobs.';
grant execute on function api.rolled_back_context to authenticated;
