-- How the current set and the stored files of a project keep to each other; functions.sql says why.

-- A file that a run read from a stored one. The stored file may have a new path: then its row of the current set moves along and stays the
-- same file, unless another stored file has the old path by now.
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
  if tg_op = 'UPDATE' or v_upload.path is distinct from new.path then
    return new;
  end if;
  if not exists (select from public.context_files c where c.project_id = new.project_id and c.id = v_upload.id) then
    new.id := v_upload.id;
    return new;
  end if;
  update public.context_files c
  set path = new.path, number = new.number, hash = new.hash, origin = new.origin, repository_id = new.repository_id, language = new.language,
    is_binary = new.is_binary, bytes = new.bytes, tokens = new.tokens, is_hidden = new.is_hidden, updated_at = new.updated_at
  where c.project_id = new.project_id and c.id = v_upload.id and c.path collate "C" <> new.path
    and not exists (select from public.project_files f where f.project_id = new.project_id and f.path = c.path)
    and not exists (select from public.context_files o where o.project_id = new.project_id and o.path collate "C" = new.path);
  -- The moved row is the inserted one.
  return case when found then null else new end;
end
$$;
comment on function private.tg_context_files__adopt is 'Trigger: a file of the current set names the stored file that it comes from, and has its id.';
create or replace trigger _200_adopt before insert on public.context_files
  for each row when (new.origin in ('file', 'text')) execute function private.tg_context_files__adopt();
-- The same path from another source.
create or replace trigger _200_adopt_change before update of number, origin on public.context_files
  for each row when (new.origin in ('file', 'text') and (old.number, old.origin) is distinct from (new.number, new.origin) and old.path = new.path)
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
