-- How the current set and the stored files of a project keep to each other; functions.sql says why.

-- A file that a run read from a stored one, or from an archive.
create or replace function private.tg_context_files__adopt() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_upload record;
  v_parts constant text[] := string_to_array(new.path, '/');
begin
  select f.id, f.path into v_upload
  from public.project_files f
  where f.project_id = new.project_id and f.storage_key is not null
    and f.path = any (array(select array_to_string(v_parts[:n], '/') from generate_series(1, cardinality(v_parts)) n))
  limit 1;
  new.upload_id := v_upload.id;
  if tg_op = 'INSERT' and v_upload.path = new.path
    and not exists (select from public.context_files c where c.project_id = new.project_id and c.id = v_upload.id) then
    new.id := v_upload.id;
  end if;
  return new;
end
$$;
comment on function private.tg_context_files__adopt is 'Trigger: a file of the current set names the stored file that it comes from, and has its id.';
create or replace trigger _200_adopt before insert on public.context_files
  for each row when (new.origin in ('file', 'text')) execute function private.tg_context_files__adopt();
-- The same path from another source, or after its file was deleted and stored again.
create or replace trigger _200_adopt_change before update of number, origin, is_hidden on public.context_files
  for each row when (new.origin in ('file', 'text') and ((old.number, old.origin) is distinct from (new.number, new.origin) or old.is_hidden and not new.is_hidden))
  execute function private.tg_context_files__adopt();
create or replace function private.tg_context_files__disown() returns trigger
language plpgsql volatile
as $$
begin
  new.upload_id := null;
  return new;
end
$$;
comment on function private.tg_context_files__disown is 'Trigger: a file that a repository has brought is no stored file.';
create or replace trigger _200_disown before update of origin on public.context_files
  for each row when (new.origin not in ('file', 'text') and new.upload_id is not null) execute function private.tg_context_files__disown();

create or replace function private.tg_project_files__hide() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.context_files c set is_hidden = true, updated_at = now()
  from removed r
  where r.storage_key is not null and c.project_id = r.project_id and c.upload_id = r.id and not c.is_hidden;
  return null;
end
$$;
comment on function private.tg_project_files__hide is 'Trigger: a deleted file leaves the current set, with what was in it; versions keep it.';
create or replace trigger _700_hide after delete on public.project_files referencing old table as removed
  for each statement execute function private.tg_project_files__hide();

create or replace function private.tg_project_repositories__hide() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.context_files c set is_hidden = true, updated_at = now()
  where c.project_id = old.project_id and c.repository_id = old.id and not c.is_hidden;
  return null;
end
$$;
comment on function private.tg_project_repositories__hide is 'Trigger: a removed repository leaves the current set; versions keep its files.';
create or replace trigger _700_hide after delete on public.project_repositories
  for each row execute function private.tg_project_repositories__hide();

-- What a person left out ends with their access.
create or replace function private.tg_project_members__forget_selection() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.context_source_selection s using removed r where s.user_id = r.user_id and s.project_id = r.project_id;
  return null;
end
$$;
comment on function private.tg_project_members__forget_selection is 'Trigger: a removed member''s selection of sources goes along.';
create or replace trigger _700_forget_selection after delete on public.project_members referencing old table as removed
  for each statement execute function private.tg_project_members__forget_selection();

create or replace function private.tg_memberships__forget_selection() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.context_source_selection s
  where s.user_id = old.user_id and s.organization_id = old.organization_id
    and not exists (select from public.project_members m where m.project_id = s.project_id and m.user_id = s.user_id);
  return null;
end
$$;
comment on function private.tg_memberships__forget_selection is 'Trigger: the selection of a person who left the organization goes along, except where they are a guest.';
create or replace trigger _700_forget_selection after delete on public.memberships
  for each row execute function private.tg_memberships__forget_selection();

-- A stored file got another name or folder, and a run read it there. Its former path leaves the versions that follow, and its row of the
-- current set moves along, so that it stays the same file (contract 60, section 5).
create or replace function private.has_moved(p_run_id uuid, p_upload_id uuid, p_path text) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_path constant text := (select f.path from public.project_files f where f.id = p_upload_id);
begin
  return p_path <> v_path and not starts_with(p_path, v_path || '/')
    and exists (select from private.run_manifests m where m.run_id = p_run_id and (m.path = v_path or starts_with(m.path, v_path || '/')));
end
$$;
comment on function private.has_moved is
  'Did a run read the stored file of this path, or what is in it, under another path? Authorization: callable by definer functions of ours only.';

create or replace function private.follow_moves(e public.context_ingestions) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.context_files c set path = a.path
  from public.context_file_ops g
  join public.context_files f on f.project_id = g.project_id and f.path = g.path
  join public.project_files s on s.id = f.upload_id
  join public.context_file_ops a on a.ingestion_id = g.ingestion_id and a.operation = 'added' and a.path = s.path
  where g.ingestion_id = e.id and g.operation = 'removed' and g.origin in ('file', 'text') and c.project_id = f.project_id and c.id = f.id
    and c.id = s.id;
end
$$;
comment on function private.follow_moves is
  'Before an entry is applied: files whose stored file moved get the path that the entry adds. Authorization: callable by definer functions of ours only.';
