-- Files: the tree keeps its own paths; bytes count against the organization's storage; content without a row is deleted by a job.

create or replace function private.tg_project_files__place() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_parent record;
  v_up uuid := new.parent_id;
begin
  if new.parent_id is null then
    new.path := new.name;
  else
    select f.path, f.is_folder, f.origin into v_parent from public.project_files f
    where f.project_id = new.project_id and f.id = new.parent_id;
    if not found or not v_parent.is_folder then
      perform private.refuse_field('parentId', 'The parent must be a folder of this project.');
    elsif (v_parent.origin = 'repository') <> (new.origin = 'repository') then
      perform private.refuse(403, 'FORBIDDEN', 'Folders of a repository are read-only here.', 'parentId');
    end if;
    new.path := v_parent.path || '/' || new.name;
  end if;
  if char_length(new.path) > 1000 then
    perform private.refuse_field('name', 'The path must have at most 1,000 characters.');
  end if;
  if tg_op = 'UPDATE' and new.is_folder and new.parent_id is distinct from old.parent_id then
    while v_up is not null loop
      if v_up = new.id then
        perform private.refuse_field('parentId', 'A folder cannot be moved into itself.');
      end if;
      select f.parent_id into v_up from public.project_files f where f.id = v_up;
    end loop;
  end if;
  return new;
end
$$;
comment on function private.tg_project_files__place is 'Trigger: parent is a folder of the project, no cycles, path follows the tree.';
create or replace trigger _200_place before insert or update of name, parent_id, path on public.project_files
  for each row execute function private.tg_project_files__place();
create or replace trigger _100_touch before update on public.project_files
  for each row when (old.* is distinct from new.*) execute function private.tg__touch();

create or replace function private.tg_project_files__move_content() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.project_files f set path = new.path || '/' || f.name where f.project_id = new.project_id and f.parent_id = new.id;
  return null;
end
$$;
comment on function private.tg_project_files__move_content is 'Trigger: what is in a folder moves with it.';
create or replace trigger _500_move_content after update of name, parent_id, path on public.project_files
  for each row when (old.path <> new.path and new.is_folder) execute function private.tg_project_files__move_content();

-- Bytes of an organization, where it still exists.
create or replace function private.move_storage(p_org_id uuid, p_bytes numeric) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_bytes <> 0 and exists (select from public.organizations o where o.id = p_org_id) then
    perform private.consume_quota(p_org_id, 'storage', p_bytes::bigint);
  end if;
end
$$;
comment on function private.move_storage is 'Counts stored bytes, or gives them back. Errors: 429 QUOTA_EXCEEDED. Authorization: callable by triggers of ours only.';

create or replace function private.discard_blobs(p_keys text[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  for i in 1..coalesce(cardinality(p_keys), 0) by 500 loop
    perform private.enqueue('blobs.delete', jsonb_build_object('keys', p_keys[i:i + 499]));
  end loop;
end
$$;
comment on function private.discard_blobs is 'Has stored content deleted by jobs of 500 keys. Authorization: callable by triggers of ours only.';

-- The effects of one statement on the files of one project.
create or replace function private.notify_files(
  p_org_id uuid, p_project_id uuid, p_operation text, p_ids uuid[], p_files bigint, p_root bigint, p_texts bigint, p_names text[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid;
begin
  update public.projects p
  set uploaded_files = p.uploaded_files + p_files, root_files = p.root_files + p_root, text_sources = p.text_sources + p_texts, updated_at = now()
  where p.id = p_project_id;
  -- The project itself is being deleted.
  if not found then
    return;
  end if;
  if p_operation <> 'updated' and cardinality(p_names) > 0 then
    perform private.record_activity(p_project_id, 'ingestion', case p_operation when 'created' then 'added ' else 'removed ' end
      || case when cardinality(p_names) = 1 then p_names[1] else cardinality(p_names) || ' files' end);
  end if;
  if cardinality(p_ids) > 100 then
    perform private.emit_change('project', p_project_id, 'updated', p_org_id, p_project_id, array['files']);
  else
    foreach v_id in array p_ids loop
      perform private.emit_change('project_file', v_id, p_operation, p_org_id, p_project_id);
    end loop;
  end if;
end
$$;
comment on function private.notify_files is
  'Counters, activity and events of changed files; more than 100 are one event about the project. Authorization: callable by triggers of ours only.';

create or replace function private.tg_project_files__added() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  for v in
    select f.organization_id, f.project_id, array_agg(f.id order by f.path) as ids,
      count(*) filter (where f.storage_key is not null) as files,
      count(*) filter (where f.storage_key is not null and f.origin = 'upload' and f.parent_id is null) as root,
      count(*) filter (where f.storage_key is not null and f.origin = 'text') as texts,
      sum(f.size) filter (where f.storage_key is not null) as bytes,
      coalesce(array_agg(f.name order by f.path) filter (where f.storage_key is not null), '{}') as names
    from added f group by f.organization_id, f.project_id
  loop
    perform private.notify_files(v.organization_id, v.project_id, 'created', v.ids, v.files, v.root, v.texts, v.names);
    perform private.move_storage(v.organization_id, coalesce(v.bytes, 0));
  end loop;
  return null;
end
$$;
comment on function private.tg_project_files__added is 'Trigger: counters, storage, activity and events of new files.';
create or replace trigger _800_added after insert on public.project_files referencing new table as added
  for each statement execute function private.tg_project_files__added();

create or replace function private.tg_project_files__removed() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  for v in
    select f.organization_id, f.project_id, array_agg(f.id order by f.path) as ids,
      -count(*) filter (where f.storage_key is not null) as files,
      -count(*) filter (where f.storage_key is not null and f.origin = 'upload' and f.parent_id is null) as root,
      -count(*) filter (where f.storage_key is not null and f.origin = 'text') as texts,
      -sum(f.size) filter (where f.storage_key is not null) as bytes,
      coalesce(array_agg(f.name order by f.path) filter (where f.origin <> 'repository'), '{}') as names,
      array_agg(f.storage_key) filter (where f.storage_key is not null) as keys
    from removed f group by f.organization_id, f.project_id
  loop
    -- Files that are deleted with their folder get no entries of their own in the activity log.
    perform private.notify_files(v.organization_id, v.project_id, 'deleted', v.ids, v.files, v.root, v.texts,
      case when pg_trigger_depth() = 1 then v.names else '{}' end);
    perform private.move_storage(v.organization_id, coalesce(v.bytes, 0));
    perform private.discard_blobs(v.keys);
  end loop;
  return null;
end
$$;
comment on function private.tg_project_files__removed is 'Trigger: counters, storage, activity, events and content of removed files.';
create or replace trigger _800_removed after delete on public.project_files referencing old table as removed
  for each statement execute function private.tg_project_files__removed();

create or replace function private.tg_project_files__changed() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  for v in
    select n.organization_id, n.project_id, array_agg(n.id order by n.path) as ids,
      sum((n.origin = 'upload' and not n.is_folder and n.parent_id is null)::integer
        - (o.origin = 'upload' and not o.is_folder and o.parent_id is null)::integer) as root,
      sum(n.size - o.size) filter (where n.storage_key is not null) as bytes,
      array_agg(o.storage_key) filter (where o.storage_key <> n.storage_key) as keys
    from after_change n join before_change o on o.id = n.id
    -- A file that a run has read has not changed.
    where (n.name, n.path, n.parent_id, n.position, n.mime_type, n.size, n.checksum, n.storage_key)
      is distinct from (o.name, o.path, o.parent_id, o.position, o.mime_type, o.size, o.checksum, o.storage_key)
    group by n.organization_id, n.project_id
  loop
    perform private.notify_files(v.organization_id, v.project_id, 'updated', v.ids, 0, v.root, 0, '{}');
    perform private.move_storage(v.organization_id, coalesce(v.bytes, 0));
    perform private.discard_blobs(v.keys);
  end loop;
  return null;
end
$$;
comment on function private.tg_project_files__changed is 'Trigger: counters, storage, events and replaced content of changed files.';
create or replace trigger _800_changed after update on public.project_files referencing old table as before_change new table as after_change
  for each statement execute function private.tg_project_files__changed();

-- Staged uploads count for the organization of their uploader until they are attached, expire or are deleted.
create or replace function private.tg_staged_files__count() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  if tg_op = 'INSERT' then
    for v in select s.organization_id, sum(s.size) as bytes from added s where not s.attached group by 1 loop
      perform private.move_storage(v.organization_id, v.bytes);
    end loop;
  elsif tg_op = 'UPDATE' then
    for v in
      select n.organization_id, sum(n.size * ((not n.attached)::integer - (not o.attached)::integer)) as bytes
      from after_change n join before_change o on o.id = n.id group by 1
    loop
      perform private.move_storage(v.organization_id, v.bytes);
    end loop;
  else
    for v in select s.organization_id, sum(s.size) as bytes, array_agg(s.storage_key) as keys from removed s where not s.attached group by 1 loop
      perform private.move_storage(v.organization_id, -v.bytes);
      perform private.discard_blobs(v.keys);
    end loop;
  end if;
  return null;
end
$$;
comment on function private.tg_staged_files__count is 'Trigger: storage and content of staged uploads.';
create or replace trigger _800_added after insert on public.staged_files referencing new table as added
  for each statement execute function private.tg_staged_files__count();
create or replace trigger _800_removed after delete on public.staged_files referencing old table as removed
  for each statement execute function private.tg_staged_files__count();
create or replace trigger _800_changed after update on public.staged_files referencing old table as before_change new table as after_change
  for each statement execute function private.tg_staged_files__count();
