-- Changed files (contract 20, section 10.3): when a run replaces a project's index, the reflexes of the project's owner get the files that
-- differ. The files are compared here, in the transaction of the change, because the old index is removed soon after it; the worker
-- evaluates the reflexes. No comparison is made where no reflex waits, and a first index has no predecessor.

create or replace function private.changed_files(p_org_id uuid, p_old_run uuid, p_new_run uuid, p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('event', c.event, 'path', c.path, 'size', c.bytes) order by c.path, c.event), '[]')
    from (
      select coalesce(n.path, o.path) as path, coalesce(n.bytes, o.bytes) as bytes,
        case when o.id is null then 'create' when n.id is null then 'delete' else 'modify' end as event
      from (select * from public.run_files f where f.organization_id = p_org_id and f.run_id = p_old_run) o
      full join (select * from public.run_files f where f.organization_id = p_org_id and f.run_id = p_new_run) n
        on n.path = o.path and n.source = o.source
          and coalesce(n.repository_id, '00000000-0000-0000-0000-000000000000') = coalesce(o.repository_id, '00000000-0000-0000-0000-000000000000')
      where o.hash is distinct from n.hash
      order by 1, 3
      limit p_limit) c
  );
end
$$;
comment on function private.changed_files is
  'What differs between the files of two runs, by path. Authorization: callable by triggers of ours only.';

-- An index that a run changes in place has no predecessor to compare with. The operations of the run's ingestion say what it changed.
create or replace function private.ingested_files(p_project_id uuid, p_run_id uuid, p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('event', c.event, 'path', c.path, 'size', c.bytes) order by c.path, c.event), '[]')
    from (
      select o.path, case o.operation when 'added' then 'create' when 'removed' then 'delete' else 'modify' end as event,
        -- Of a file that is gone, the content that it had.
        (select octet_length(b.content) from public.content_blobs b where b.project_id = p_project_id and b.hash = coalesce(o.hash,
          (select w.hash from public.context_file_ops w where w.project_id = p_project_id and w.path = o.path collate "C"
            and w.number < o.number and w.hash is not null order by w.number desc limit 1))) as bytes
      from public.context_file_ops o
      where o.project_id = p_project_id
        and o.ingestion_id = (select i.id from public.context_ingestions i where i.project_id = p_project_id and i.run_id = p_run_id)
      order by o.path, 2
      limit p_limit) c
  );
end
$$;
comment on function private.ingested_files is 'What a run added, changed and removed, by path. Authorization: callable by triggers of ours only.';

create or replace function private.tg_project_indexes__match() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  -- Only the exchange of a whole tree changes more files than this, and no reflex is meant for that; the first by path are looked at.
  c_changes constant integer := 10000;
  v_owner uuid := (select p.user_id from public.projects p where p.id = new.project_id);
  v_run constant uuid := coalesce(new.last_run_id, new.run_id);
  v_changes jsonb;
  v_void text;
begin
  if not exists (select from public.reflexes r where r.user_id = v_owner and r.trigger_type = 'file_change' and r.is_active) then
    return null;
  elsif old.run_id = new.run_id then
    v_changes := private.ingested_files(new.project_id, v_run, c_changes);
  -- An external worker keeps no files here; that does not mean that all of them were deleted.
  elsif not exists (select from public.run_files f where f.organization_id = new.organization_id and f.run_id = new.run_id) then
    return null;
  else
    v_changes := private.changed_files(new.organization_id, old.run_id, new.run_id, c_changes);
  end if;
  if v_changes <> '[]' then
    v_void := private.enqueue('reflexes.match', jsonb_build_object('userId', v_owner, 'projectId', new.project_id, 'runId', v_run,
      'timestamp', private.iso(now()), 'changes', v_changes), now(), 'reflexes.match:' || v_run);
  end if;
  return null;
end
$$;
comment on function private.tg_project_indexes__match is 'Trigger: what a new index changes is given to the owner''s file_change reflexes.';
create or replace trigger _900_match after update of run_id, last_run_id on public.project_indexes
  for each row when (old.run_id is not null and new.run_id is not null
    and (old.run_id <> new.run_id or old.last_run_id is distinct from new.last_run_id))
  execute function private.tg_project_indexes__match();

-- p_firings: [{reflexIds, payload}]. All in one transaction and once a batch: a repeated job finds that its reflexes have fired.
create or replace function private.fire_changes(p_user_id uuid, p_batch text, p_firings jsonb) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_key bytea := sha256(convert_to('batch:' || p_batch, 'UTF8'));
  v_fresh uuid[];
  v_count integer := 0;
  f jsonb;
begin
  with claimed as (
    insert into private.reflex_deliveries (reflex_id, key)
    select r.id, v_key from public.reflexes r
    where r.user_id = p_user_id and r.trigger_type = 'file_change'
      and r.id in (select i::uuid from jsonb_array_elements(p_firings) x, jsonb_array_elements_text(x -> 'reflexIds') i)
    on conflict do nothing
    returning reflex_id)
  select coalesce(array_agg(reflex_id), '{}') into v_fresh from claimed;
  for f in select x from jsonb_array_elements(p_firings) x loop
    v_count := v_count + (private.fire_reflexes(p_user_id, 'file_change',
      array(select i::uuid from jsonb_array_elements_text(f -> 'reflexIds') i where i::uuid = any (v_fresh)), f -> 'payload') ->> 'matched')::integer;
  end loop;
  return v_count;
end
$$;
comment on function private.fire_changes is
  'Fires file_change reflexes for the changes of one batch, once; gives how many times. Authorization: callable by the worker only.';
grant execute on function private.fire_changes to kijko_worker;
