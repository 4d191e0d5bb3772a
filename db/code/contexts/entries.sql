-- Entries and their runs (contract 60, 3.3). Each run of a project belongs to an entry, whatever started it; entries of one context run one
-- at a time in the order of their numbers. Locks are taken in one order: the open run, the project, its counters, an entry.

create or replace function private.lock_context(p_project_id uuid) returns private.context_counters
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.context_counters;
  v_org uuid;
begin
  select organization_id into v_org from public.projects where id = p_project_id for no key update;
  if not found then
    return null;
  end if;
  insert into private.context_counters (project_id, organization_id) values (p_project_id, v_org) on conflict (project_id) do nothing;
  select * into c from private.context_counters where project_id = p_project_id for update;
  return c;
end
$$;
comment on function private.lock_context is
  'Locks the project and its counters, in this order; null without a project. Authorization: callable by definer functions of ours that have authorized the caller.';

-- p_entry: kind, sourceType, sources, displayName, description, tags, compress, neverCompress, isVerbatim, chromacode, targetNumber, operationId, and of a
-- declared entry filesAdded, filesRemoved, tokens, compressed.
create or replace function private.insert_ingestion(p_project_id uuid, p_entry jsonb, p_user_id uuid) returns public.context_ingestions
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.context_counters := private.lock_context(p_project_id);
  e public.context_ingestions;
  v_declared constant boolean := coalesce(p_entry ->> 'kind', '') = 'declared';
begin
  update private.context_counters set last_number = last_number + 1, current_number = case when v_declared then last_number + 1 else current_number end
  where project_id = p_project_id returning * into c;
  insert into public.context_ingestions (organization_id, project_id, number, kind, status, ready_at, source_type, sources, target_number, display_name,
    description, tags, wants_compression, never_compress, is_verbatim, chromacode, operation_id, files_added, files_removed, tokens, compressed,
    compressed_tokens, created_by)
  values (c.organization_id, p_project_id, c.last_number, coalesce(p_entry ->> 'kind', 'content'), case when v_declared then 'ready' else 'processing' end,
    case when v_declared then clock_timestamp() end, p_entry ->> 'sourceType', coalesce(p_entry -> 'sources', '{}'), (p_entry ->> 'targetNumber')::integer,
    p_entry ->> 'displayName', p_entry ->> 'description', array(select jsonb_array_elements_text(coalesce(p_entry -> 'tags', '[]'))),
    coalesce((p_entry ->> 'compress')::boolean, false), coalesce((p_entry ->> 'neverCompress')::boolean, false),
    coalesce((p_entry ->> 'isVerbatim')::boolean, false), p_entry -> 'chromacode', (p_entry ->> 'operationId')::uuid,
    coalesce((p_entry ->> 'filesAdded')::integer, 0), coalesce((p_entry ->> 'filesRemoved')::integer, 0),
    coalesce((p_entry ->> 'tokens')::bigint, 0), coalesce((p_entry ->> 'compressed')::boolean, false),
    case when (p_entry ->> 'compressed')::boolean then (p_entry ->> 'tokens')::bigint end, p_user_id)
  returning * into e;
  return e;
end
$$;
comment on function private.insert_ingestion is
  'Gives an entry the next number. Authorization: callable by definer functions and triggers of ours that have authorized the caller.';

-- What every accepted ingestion is: paid for, numbered, and run when its turn comes.
create or replace function private.add_ingestion(p_project_id uuid, p_entry jsonb, p_user_id uuid) returns public.context_ingestions
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.context_counters := private.lock_context(p_project_id);
  e public.context_ingestions;
begin
  perform private.consume_quota(c.organization_id, 'ingestions', 1);
  e := private.insert_ingestion(p_project_id, p_entry, p_user_id);
  perform private.touch_parent(p_project_id);
  if e.kind = 'declared' then
    perform private.write_ingestion_entry(e);
  else
    perform private.open_next_ingestion(p_project_id);
    select * into e from public.context_ingestions where id = e.id;
  end if;
  return e;
end
$$;
comment on function private.add_ingestion is
  'Accepts an ingestion: one unit of the plan, the next number, a run in its turn. Authorization: callable by definer functions of ours that have authorized the caller. Errors: 429 QUOTA_EXCEEDED.';

-- Opens the run of the entry whose turn it is. First the index catches up with a file set that changed without a run.
create or replace function private.open_next_ingestion(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.context_counters := private.lock_context(p_project_id);
  e public.context_ingestions;
begin
  if c.project_id is null or exists (select from public.ingestion_runs r where r.project_id = p_project_id and r.outcome = 'open') then
    return;
  end if;
  if c.needs_refresh then
    update private.context_counters set needs_refresh = false where project_id = p_project_id;
    if private.open_index_run(p_project_id, '{"scope": {"refresh": true}}', null) then
      return;
    end if;
  end if;
  loop
    select * into e from public.context_ingestions x
    where x.project_id = p_project_id and x.status = 'processing' and x.run_id is null order by x.number limit 1 for no key update;
    if not found then
      return;
    elsif e.kind <> 'rollback' then
      perform private.insert_run(p_project_id, jsonb_build_object('entry', e.id), e.created_by);
      return;
    end if;
    perform private.apply_rollback(e);
    if private.open_index_run(p_project_id, jsonb_build_object('scope', jsonb_build_object('rollback', e.number)), e.created_by) then
      return;
    end if;
  end loop;
end
$$;
comment on function private.open_next_ingestion is
  'Opens the next run of a context that has none. Authorization: callable by definer functions and triggers of ours that have authorized the caller.';

create or replace function private.insert_run(p_project_id uuid, p_options jsonb, p_user_id uuid) returns public.ingestion_runs
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project public.projects;
  r public.ingestion_runs;
begin
  select * into v_project from public.projects where id = p_project_id;
  insert into public.ingestion_runs (organization_id, project_id, message, estimated_completion_at, options, started_by)
  values (v_project.organization_id, p_project_id, 'Waiting for a free worker', now() + make_interval(secs => private.estimate_run_seconds(v_project)),
    '{"force": false}' || jsonb_build_object('exclusions', coalesce(
      (select to_jsonb(i.exclusions) from public.project_indexes i where i.project_id = p_project_id), '[]')) || p_options, p_user_id)
  returning * into r;
  return r;
end
$$;
comment on function private.insert_run is 'Opens a run. Authorization: callable by definer functions of ours that have authorized the caller.';

-- A run that ingests nothing: it makes the index of the file set. Without files there is no index.
create or replace function private.open_index_run(p_project_id uuid, p_options jsonb, p_user_id uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_run uuid;
begin
  if exists (select from public.context_files f where f.project_id = p_project_id and not f.is_hidden) then
    perform private.insert_run(p_project_id, p_options, p_user_id);
    return true;
  end if;
  select i.run_id into v_run from public.project_indexes i where i.project_id = p_project_id for update;
  if v_run is not null then
    update public.project_indexes set run_id = null, updated_at = now() where project_id = p_project_id;
    perform private.enqueue('ingestion.drop', jsonb_build_object('runId', v_run), now(), 'ingestion.drop:' || v_run);
  end if;
  return false;
end
$$;
comment on function private.open_index_run is
  'Opens a run that renews the index; false where there is nothing to index. Authorization: callable by definer functions of ours that have authorized the caller.';

-- --------------------------------------------------------------------------------------------------------------------- run and entry

create or replace function private.tg_ingestion_runs__own_entry() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_parent jsonb;
  e public.context_ingestions;
begin
  -- A run that only renews the index brings nothing.
  if new.options -> 'scope' ?| array['rollback', 'refresh'] then
    return null;
  end if;
  if new.options ? 'entry' then
    update public.context_ingestions x set run_id = new.id
    where x.project_id = new.project_id and x.id = (new.options ->> 'entry')::uuid and x.run_id is null and x.status = 'processing'
    returning * into e;
    if found then
      perform private.start_operation(e.operation_id, 'The ingestion has begun.');
      return null;
    end if;
  end if;
  -- A recovery ingests what the run before failed to.
  select jsonb_build_object('sourceType', x.source_type, 'sources', x.sources, 'displayName', x.display_name, 'description', x.description,
    'tags', to_jsonb(x.tags), 'compress', x.wants_compression, 'neverCompress', x.never_compress, 'isVerbatim', x.is_verbatim,
    'chromacode', x.chromacode) into v_parent
  from public.context_ingestions x
  where x.organization_id = new.organization_id and x.project_id = new.project_id and x.run_id = new.parent_run_id;
  e := private.insert_ingestion(new.project_id, coalesce(v_parent, '{}'), new.started_by);
  update public.context_ingestions set run_id = new.id where id = e.id;
  return null;
end
$$;
comment on function private.tg_ingestion_runs__own_entry is 'Trigger: each run has an entry; one that was not made for it gets the next number.';
create or replace trigger _400_own_entry after insert on public.ingestion_runs
  for each row when (new.outcome = 'open') execute function private.tg_ingestion_runs__own_entry();

create or replace function private.tg_ingestion_runs__end_entry() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e public.context_ingestions;
begin
  perform private.lock_context(new.project_id);
  if new.outcome = 'completed' then
    perform private.commit_ingestion(new.id);
    if private.run_scope(new) <> '{}' then
      perform private.settle_totals(new.project_id);
    end if;
  else
    update public.context_ingestions x
    set status = 'failed', error_code = case new.outcome when 'cancelled' then 'CANCELLED' else new.error_code end, error_message = new.error_message
    where x.organization_id = new.organization_id and x.project_id = new.project_id and x.run_id = new.id and x.status = 'processing'
    returning * into e;
    perform private.end_ingestion_operation(e);
    delete from private.run_manifests m where m.run_id = new.id;
    update private.context_counters set needs_sweep = true where project_id = new.project_id;
    perform private.record_activity(new.project_id, 'ingestion', case new.outcome when 'cancelled' then 'cancelled an ingestion' else 'ingestion failed' end,
      jsonb_strip_nulls(jsonb_build_object('runId', new.id, 'number', e.number, 'errorCode', new.error_code, 'phase', new.phase)));
  end if;
  perform private.open_next_ingestion(new.project_id);
  return null;
end
$$;
comment on function private.tg_ingestion_runs__end_entry is 'Trigger: a run''s end is its entry''s end, and the next entry''s turn.';
create or replace trigger _600_end_entry after update on public.ingestion_runs
  for each row when (old.outcome = 'open' and new.outcome <> 'open') execute function private.tg_ingestion_runs__end_entry();

create or replace function private.end_ingestion_operation(e public.context_ingestions) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if e.operation_id is null then
    return;
  elsif e.status = 'ready' then
    perform private.complete_operation(e.operation_id);
  elsif e.error_code = 'CANCELLED' then
    update public.context_operations
    set status = 'cancelled', error_code = 'CANCELLED', error_message = e.error_message, finished_at = clock_timestamp()
    where id = e.operation_id and finished_at is null;
  else
    perform private.fail_operation(e.operation_id, e.error_code, e.error_message);
  end if;
end
$$;
comment on function private.end_ingestion_operation is 'Ends the operation of an entry that has ended. Authorization: callable by definer functions of ours only.';

-- ------------------------------------------------------------------------------------------------------------------------- the file set

-- State(v) of the version model: the last operation of each path up to v.
create or replace function private.context_state(p_project_id uuid, p_number integer)
returns table (path text, hash bytea, number integer, origin text, repository_id uuid, language text, is_binary boolean, bytes bigint, tokens bigint)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
    select s.path, s.hash, s.number, s.origin, s.repository_id, s.language, s.is_binary, s.bytes, s.tokens
    from (
      select distinct on (o.path collate "C") o.*
      from public.context_file_ops o where o.project_id = p_project_id and o.number <= p_number
      order by o.path collate "C", o.number desc) s
    where s.operation <> 'removed';
end
$$;
comment on function private.context_state is
  'The files of a version. Authorization: callable by definer functions of ours that have authorized the caller.';

-- Brings the current set to the fold, for the given paths. A file keeps its id while its path stays.
create or replace function private.refold(p_project_id uuid, p_paths text[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.context_files f
  using unnest(p_paths) t (path)
  where f.project_id = p_project_id and f.path = t.path collate "C" and coalesce((select o.operation from public.context_file_ops o
    where o.project_id = p_project_id and o.path = t.path collate "C" order by o.number desc limit 1), 'removed') = 'removed';
  insert into public.context_files as f (organization_id, project_id, path, number, hash, origin, repository_id, language, is_binary, bytes, tokens)
  select o.organization_id, p_project_id, o.path, o.number, o.hash, o.origin, o.repository_id, o.language, o.is_binary, o.bytes, o.tokens
  from unnest(p_paths) t (path)
  cross join lateral (select * from public.context_file_ops x
    where x.project_id = p_project_id and x.path = t.path collate "C" order by x.number desc limit 1) o
  where o.operation <> 'removed'
  on conflict (project_id, path collate "C") do update
  set number = excluded.number, hash = excluded.hash, origin = excluded.origin, repository_id = excluded.repository_id, language = excluded.language,
    is_binary = excluded.is_binary, bytes = excluded.bytes, tokens = excluded.tokens, updated_at = now()
  where (f.number, f.hash, f.origin, f.repository_id) is distinct from (excluded.number, excluded.hash, excluded.origin, excluded.repository_id);
end
$$;
comment on function private.refold is
  'Makes context_files the fold of the operations for these paths. Authorization: callable by definer functions of ours that have authorized the caller.';

-- The newest operations of a context are the current set's changes. A path that comes again is shown again.
create or replace function private.apply_operations(e public.context_ingestions) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.context_files f
  using public.context_file_ops o
  where o.ingestion_id = e.id and o.operation = 'removed' and f.project_id = e.project_id and f.path = o.path collate "C";
  insert into public.context_files as f (organization_id, project_id, path, number, hash, origin, repository_id, language, is_binary, bytes, tokens)
  select o.organization_id, o.project_id, o.path, o.number, o.hash, o.origin, o.repository_id, o.language, o.is_binary, o.bytes, o.tokens
  from public.context_file_ops o where o.ingestion_id = e.id and o.operation <> 'removed'
  on conflict (project_id, path collate "C") do update
  set number = excluded.number, hash = excluded.hash, origin = excluded.origin, repository_id = excluded.repository_id, language = excluded.language,
    is_binary = excluded.is_binary, bytes = excluded.bytes, tokens = excluded.tokens, is_hidden = false, updated_at = now();
end
$$;
comment on function private.apply_operations is
  'Applies the operations of the newest entry to the current set. Authorization: callable by definer functions of ours only.';

-- Sums of the current set, for lists of contexts and metrics.
create or replace function private.tg_context_files__count() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_manifests constant text[] := array['package.json', 'pyproject.toml', 'go.mod', 'Cargo.toml', 'composer.json', 'pom.xml'];
begin
  if tg_op <> 'INSERT' then
    update private.context_counters c
    set files = c.files - s.files, bytes = c.bytes - s.bytes, tokens = c.tokens - s.tokens, root_manifests = c.root_manifests - s.manifests
    from (select f.project_id, count(*) as files, sum(f.bytes) as bytes, sum(f.tokens) as tokens, count(*) filter (where f.path = any (c_manifests)) as manifests
      from former f where not f.is_hidden group by f.project_id) s
    where c.project_id = s.project_id;
  end if;
  if tg_op <> 'DELETE' then
    insert into private.context_counters as c (project_id, organization_id, files, bytes, tokens, root_manifests)
    select f.project_id, f.organization_id, count(*), sum(f.bytes), sum(f.tokens), count(*) filter (where f.path = any (c_manifests))
    from changed f where not f.is_hidden group by f.project_id, f.organization_id
    on conflict (project_id) do update set files = c.files + excluded.files, bytes = c.bytes + excluded.bytes, tokens = c.tokens + excluded.tokens,
      root_manifests = c.root_manifests + excluded.root_manifests;
  end if;
  return null;
end
$$;
comment on function private.tg_context_files__count is 'Trigger: keeps the sums of the current file set.';
create or replace trigger _500_count_insert after insert on public.context_files
  referencing new table as changed for each statement execute function private.tg_context_files__count();
create or replace trigger _500_count_update after update on public.context_files
  referencing old table as former new table as changed for each statement execute function private.tg_context_files__count();
create or replace trigger _500_count_delete after delete on public.context_files
  referencing old table as former for each statement execute function private.tg_context_files__count();

-- Would the run's files make the context too large? (contract 60, section 23)
create or replace function private.overflows_context(p_run_id uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
declare
  r public.ingestion_runs;
  v_scope jsonb;
begin
  select * into r from public.ingestion_runs where id = p_run_id;
  v_scope := private.run_scope(r);
  return (select count(*) from private.run_manifests m where m.run_id = p_run_id)
    + (select count(*) from public.context_files f
      where f.project_id = r.project_id and not f.is_hidden
        and not (f.origin = 'repository' and (v_scope = '{}' or v_scope -> 'repositoryIds' ? f.repository_id::text))
        and not exists (select from private.run_manifests m where m.run_id = p_run_id and m.path = f.path)) > 100000;
end
$$;
comment on function private.overflows_context is 'Would the context hold more than 100,000 files? Authorization: callable by definer functions of ours only.';

-- ---------------------------------------------------------------------------------------------------------------------------- the end

-- What the run found becomes the entry's operations: compared with the state before, once, in the transaction that ends the run. A
-- repository that the run covers loses the files that are gone upstream; files and texts only add and modify. A run without a manifest (an
-- external worker) changes no file. A second call changes nothing.
create or replace function private.commit_ingestion(p_run_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.ingestion_runs;
  e public.context_ingestions;
  v_repositories uuid[];
  v_late boolean;
  v record;
begin
  select * into r from public.ingestion_runs where id = p_run_id;
  perform private.lock_context(r.project_id);
  select * into e from public.context_ingestions x
  where x.organization_id = r.organization_id and x.project_id = r.project_id and x.run_id = p_run_id and x.status = 'processing' for no key update;
  if not found then
    delete from private.run_manifests m where m.run_id = p_run_id;
    return;
  end if;
  v_repositories := case when e.sources = '{}' then array(select t.id from public.project_repositories t where t.project_id = r.project_id)
    else array(select private.as_uuid(t.id) from jsonb_array_elements_text(coalesce(e.sources -> 'repositoryIds', '[]')) t (id)) end;
  -- Content that came to a declared entry later stands before the operations of its successors.
  v_late := exists (select from public.context_file_ops o
    where o.organization_id = r.organization_id and o.project_id = r.project_id and o.number > e.number);

  -- Of the current set only what the run found again, and all of the repositories that it covers.
  with base as materialized (
    select f.path, f.hash, f.origin, f.repository_id, false as has_moved
    from private.run_manifests m join public.context_files f on f.project_id = r.project_id and f.path = m.path collate "C"
    where m.run_id = p_run_id and not v_late and not coalesce(f.origin = 'repository' and f.repository_id = any (v_repositories), false)
    union all
    select f.path, f.hash, f.origin, f.repository_id, false from public.context_files f
    where f.project_id = r.project_id and f.origin = 'repository' and f.repository_id = any (v_repositories) and not v_late
    union all
    -- A stored file that this run read under another name.
    select f.path, f.hash, f.origin, f.repository_id, true
    from public.context_files f join public.project_files s on s.id = f.upload_id
    where f.project_id = r.project_id and f.path <> s.path and not v_late and private.has_moved(p_run_id, s.id, f.path)
      and not exists (select from private.run_manifests m where m.run_id = p_run_id and m.path = f.path)
    union all
    select s.path, s.hash, s.origin, s.repository_id, false from private.context_state(r.project_id, e.number - 1) s where v_late
  ), brought as (
    insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, hash, origin, repository_id, language,
      is_binary, bytes, tokens)
    select r.organization_id, r.project_id, e.id, e.number, m.path, case when b.path is null then 'added' else 'modified' end, m.hash, m.origin,
      m.repository_id, m.language, m.is_binary, m.bytes, m.tokens
    from private.run_manifests m left join base b on b.path = m.path
    where m.run_id = p_run_id and b.hash is distinct from m.hash
    returning operation, tokens
  ), gone as (
    insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, origin, repository_id)
    select r.organization_id, r.project_id, e.id, e.number, b.path, 'removed', b.origin, b.repository_id
    from base b
    where (b.has_moved or b.origin = 'repository' and b.repository_id = any (v_repositories)
        and exists (select from private.run_manifests m where m.run_id = p_run_id))
      and not exists (select from private.run_manifests m where m.run_id = p_run_id and m.path = b.path)
    returning path
  )
  select count(*) filter (where b.operation = 'added') as added, count(*) filter (where b.operation = 'modified') as modified,
    coalesce(sum(b.tokens), 0) as tokens, (select count(*) from gone) as removed into v
  from brought b;

  if v_late then
    perform private.refold(r.project_id, array(select o.path from public.context_file_ops o where o.ingestion_id = e.id));
  else
    perform private.follow_moves(e);
    perform private.apply_operations(e);
  end if;
  update public.context_files f set is_hidden = false, updated_at = now()
  from private.run_manifests m where m.run_id = p_run_id and f.project_id = r.project_id and f.path = m.path collate "C" and f.is_hidden;
  delete from private.run_manifests m where m.run_id = p_run_id;

  update public.context_ingestions
  set status = 'ready', ready_at = clock_timestamp(), files_added = v.added, files_modified = v.modified, files_removed = v.removed, tokens = v.tokens
  where id = e.id returning * into e;
  update private.context_counters set current_number = greatest(current_number, e.number) where project_id = r.project_id;
  perform private.write_ingestion_entry(e, jsonb_build_object('runId', r.id));
  perform private.end_ingestion_operation(e);
end
$$;
comment on function private.commit_ingestion is
  'Turns what a completed run found into the operations of its entry. Authorization: callable by definer functions and triggers of ours only.';

-- The numbers of the project after a run that covered a part of it.
create or replace function private.settle_totals(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.context_counters;
  v_optimized bigint;
begin
  select * into c from private.context_counters where project_id = p_project_id;
  select sum(f.optimized_tokens) into v_optimized
  from public.project_indexes i join public.run_files f on f.organization_id = i.organization_id and f.run_id = i.run_id
  where i.project_id = p_project_id;
  update public.projects
  set total_files = c.files, original_tokens = c.tokens, optimized_tokens = least(coalesce(v_optimized, optimized_tokens), c.tokens)
  where id = p_project_id and original_tokens is not null;
end
$$;
comment on function private.settle_totals is 'Files and tokens of a project as its current file set has them. Authorization: callable by definer functions of ours only.';

-- The changelog, the activity and the event of an entry that became ready.
create or replace function private.write_ingestion_entry(e public.context_ingestions, p_metadata jsonb default '{}') returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  l public.context_changelog;
begin
  insert into public.context_changelog (organization_id, project_id, type, number, user_id, user_name, user_email, files_added, files_removed,
    files_modified)
  select e.organization_id, e.project_id, 'ingestion', e.number, u.id, private.shown_author(u), coalesce(u.email, 'system@kijko.ai'), e.files_added,
    e.files_removed, e.files_modified
  from (select) one left join public.users u on u.id = e.created_by
  on conflict (project_id, number) where number is not null do nothing
  returning * into l;
  if l.id is not null then
    perform private.emit('context:' || e.project_id, 'ingestion:complete', jsonb_build_object('contextId', e.project_id, 'projectId', e.project_id,
      'success', true, 'entry', private.changelog_json(l, 100)), e.organization_id, e.project_id, 'project', 'context_ingestions', e.id);
  end if;
  perform private.record_activity(e.project_id, 'ingestion', case e.kind when 'rollback' then format('rolled back to #%s', e.target_number)
      else format('ingested %s (#%s)', coalesce(e.display_name, (select p.name from public.projects p where p.id = e.project_id)), e.number) end,
    p_metadata || jsonb_build_object('number', e.number, 'filesAdded', e.files_added, 'filesModified', e.files_modified, 'filesRemoved', e.files_removed,
      'tokens', e.tokens), e.created_by);
end
$$;
comment on function private.write_ingestion_entry is
  'Changelog, activity and event of a version. Authorization: callable by definer functions and triggers of ours only.';

-- p_lists: how many paths each list names at most; 0: none (an auditor). Lines of modified files are counted by the server, which adds them.
create or replace function private.changelog_json(l public.context_changelog, p_lists integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_author jsonb := '"System"';
  v_lists jsonb;
begin
  if l.user_id is not null or l.user_email <> 'system@kijko.ai' then
    select private.author_json(m, p.user_id, l.user_id, l.user_name, l.user_email, l.created_at) into v_author
    from public.projects p left join public.project_members m on m.project_id = p.id and m.user_id = l.user_id where p.id = l.project_id;
  end if;
  if l.number is not null and p_lists > 0 then
    select jsonb_build_object(
      'addedFiles', jsonb_agg(o.path order by o.path collate "C") filter (where o.operation = 'added' and o.place <= p_lists),
      'removedFiles', jsonb_agg(o.path order by o.path collate "C") filter (where o.operation = 'removed' and o.place <= p_lists)) into v_lists
    from (select x.path, x.operation, row_number() over (partition by x.operation order by x.path collate "C") as place
      from public.context_ingestions e join public.context_file_ops x on x.project_id = e.project_id and x.ingestion_id = e.id
      where e.project_id = l.project_id and e.number = l.number) o;
  end if;
  return jsonb_strip_nulls(jsonb_build_object('id', l.id, 'type', l.type, 'number', l.number, 'timestamp', private.iso(l.created_at), 'author', v_author,
    'filesAdded', l.files_added, 'filesRemoved', l.files_removed, 'filesModified', l.files_modified, 'description', l.description)
    || coalesce(v_lists, '{}'));
end
$$;
comment on function private.changelog_json is
  'ChangelogEntry without the lines of modified files. Authorization: callable by definer functions of ours that have authorized the caller.';

-- ---------------------------------------------------------------------------------------------------------------- rollback, deletion

-- Turns the current set into State(target) by operations of a new version, which keep the origin of what they restore.
create or replace function private.apply_rollback(e public.context_ingestions) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  with target as materialized (
    select * from private.context_state(e.project_id, e.target_number)
  ), restored as (
    insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, hash, origin, repository_id, language,
      is_binary, bytes, tokens)
    select e.organization_id, e.project_id, e.id, e.number, t.path, case when f.path is null then 'added' else 'modified' end, t.hash, t.origin,
      t.repository_id, t.language, t.is_binary, t.bytes, t.tokens
    from target t left join public.context_files f on f.project_id = e.project_id and f.path = t.path
    where f.hash is distinct from t.hash
    returning operation, tokens
  ), gone as (
    insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, origin, repository_id)
    select e.organization_id, e.project_id, e.id, e.number, f.path, 'removed', f.origin, f.repository_id
    from public.context_files f where f.project_id = e.project_id and not exists (select from target t where t.path = f.path)
    returning path
  )
  select count(*) filter (where o.operation = 'added') as added, count(*) filter (where o.operation = 'modified') as modified,
    coalesce(sum(o.tokens), 0) as tokens, (select count(*) from gone) as removed into v
  from restored o;
  perform private.apply_operations(e);
  update public.context_files f set is_hidden = false, updated_at = now() where f.project_id = e.project_id and f.is_hidden;
  update public.context_ingestions
  set status = 'ready', ready_at = clock_timestamp(), files_added = v.added, files_modified = v.modified, files_removed = v.removed, tokens = v.tokens,
    backup_number = (select max(x.number) from public.context_ingestions x where x.project_id = e.project_id and x.status = 'ready' and x.number < e.number)
  where id = e.id returning * into e;
  update private.context_counters set current_number = greatest(current_number, e.number) where project_id = e.project_id;
  perform private.settle_totals(e.project_id);
  perform private.write_ingestion_entry(e);
  perform private.end_ingestion_operation(e);
end
$$;
comment on function private.apply_rollback is 'Carries out a rollback whose turn it is. Authorization: callable by definer functions of ours only.';

create or replace function private.delete_ingestion(p_project_id uuid, p_number integer) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e public.context_ingestions;
  v_run uuid;
  v_paths text[];
begin
  select r.id into v_run from public.ingestion_runs r where r.project_id = p_project_id and r.outcome = 'open' for no key update;
  perform private.lock_context(p_project_id);
  select * into e from public.context_ingestions x where x.project_id = p_project_id and x.number = p_number for update;
  if not found then
    perform private.refuse_ingestion(p_number::text);
  end if;
  if e.run_id = v_run then
    -- Ends the entry, and opens the next one's run.
    perform private.cancel_active_run(p_project_id);
  elsif e.status = 'processing' and e.operation_id is not null then
    update public.context_operations
    set status = 'cancelled', error_code = 'CANCELLED', error_message = 'The ingestion was deleted.', finished_at = clock_timestamp()
    where id = e.operation_id and finished_at is null;
  end if;
  v_paths := array(select o.path from public.context_file_ops o where o.ingestion_id = e.id);
  delete from public.context_ingestions where id = e.id;
  if cardinality(v_paths) > 0 then
    perform private.refold(p_project_id, v_paths);
    update private.context_counters set needs_refresh = true, needs_sweep = true where project_id = p_project_id;
    perform private.settle_totals(p_project_id);
  end if;
  perform private.add_changelog(p_project_id, 'config', format('Deleted ingestion #%s', p_number));
  perform private.record_activity(p_project_id, 'ingestion', format('deleted ingestion #%s', p_number), jsonb_build_object('number', p_number));
  perform private.emit('context:' || p_project_id, 'ingestion:deleted', jsonb_build_object('contextId', p_project_id, 'ingestionNumber', p_number,
    'metrics', private.context_metrics(p_project_id)), e.organization_id, p_project_id, 'project', 'context_ingestions', e.id);
  perform private.open_next_ingestion(p_project_id);
end
$$;
comment on function private.delete_ingestion is
  'Takes an entry and its operations out of the context. Authorization: callable by definer functions of ours that have authorized the caller. Errors: 404 INGESTION_NOT_FOUND.';

create or replace function private.refuse_ingestion(p_number text) returns void
language plpgsql stable
as $$
begin
  perform private.refuse(404, 'INGESTION_NOT_FOUND', format('This context has no ingestion #%s.', p_number));
end
$$;
comment on function private.refuse_ingestion is '404 INGESTION_NOT_FOUND.';
grant execute on function private.refuse_ingestion to authenticated;

-- Content that no operation names any more, of contexts where no run is storing some.
create or replace function private.sweep_contexts(p_limit integer default 100) returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid;
  v_count bigint;
  v_all bigint := 0;
begin
  for v_project in
    select c.project_id from private.context_counters c
    where c.needs_sweep and not exists (select from public.ingestion_runs r where r.project_id = c.project_id and r.outcome = 'open')
    limit p_limit for update skip locked
  loop
    delete from public.content_blobs b where b.ctid = any (array(
      select g.ctid from public.content_blobs g
      where g.project_id = v_project
        and not exists (select from public.context_file_ops o where o.project_id = v_project and o.hash = g.hash)
        and not exists (select from public.context_files f where f.project_id = v_project and f.hash = g.hash)
        and not exists (select from public.ingestion_runs r join private.run_manifests m on m.run_id = r.id
          where r.project_id = v_project and r.outcome = 'open' and m.hash = g.hash)
      limit 10000));
    get diagnostics v_count = row_count;
    v_all := v_all + v_count;
    if v_count < 10000 then
      update private.context_counters set needs_sweep = false where project_id = v_project;
    end if;
  end loop;
  return v_all;
end
$$;
comment on function private.sweep_contexts is 'Removes content that no version names; how much. Authorization: callable by schedules only.';

-- ----------------------------------------------------------------------------------------------------------------------------- rules, events

create or replace function private.tg_context_ingestions__check() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if (new.id, new.organization_id, new.project_id, new.number, new.created_at)
    is distinct from (old.id, old.organization_id, old.project_id, old.number, old.created_at) then
    perform private.refuse(400, 'READ_ONLY_FIELD', 'An ingestion keeps its number and its context.', 'number');
  elsif new.status <> old.status and old.status <> 'processing' and not (old.kind = 'declared' and new.kind = 'content') then
    perform private.refuse(409, 'INVALID_STATUS', format('An ingestion does not go from %s to %s.', old.status, new.status), 'status');
  end if;
  new.updated_at := now();
  return new;
end
$$;
comment on function private.tg_context_ingestions__check is 'Trigger: an ingestion ends once; a declared one that gets content begins again.';
create or replace trigger _200_check before update on public.context_ingestions
  for each row execute function private.tg_context_ingestions__check();

create or replace function private.tg_context_ingestions__tell() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  if tg_op = 'INSERT' then
    perform private.emit('context:' || new.project_id, 'ingestion:added', jsonb_build_object('contextId', new.project_id, 'entry',
        private.ingestion_json(new), 'metrics', private.context_metrics(new.project_id)), new.organization_id, new.project_id, 'project',
      'context_ingestions', new.id);
    return null;
  end if;
  for v in
    select t.field, t.value from (values
      ('displayName', to_jsonb(new.display_name), to_jsonb(old.display_name)), ('tags', to_jsonb(new.tags), to_jsonb(old.tags)),
      ('compressed', to_jsonb(new.compressed), to_jsonb(old.compressed)), ('tokens', to_jsonb(new.tokens), to_jsonb(old.tokens)),
      ('compressedTokens', to_jsonb(new.compressed_tokens), to_jsonb(old.compressed_tokens)),
      ('status', to_jsonb(new.status), to_jsonb(old.status))) t (field, value, former)
    where t.value is distinct from t.former
  loop
    perform private.emit('context:' || new.project_id, 'ingestion:updated', jsonb_build_object('contextId', new.project_id, 'ingestionNumber', new.number,
      'field', v.field, 'value', v.value), new.organization_id, new.project_id, 'project', 'context_ingestions', new.id);
  end loop;
  return null;
end
$$;
comment on function private.tg_context_ingestions__tell is 'Trigger: the context''s room hears of new and changed entries.';
create or replace trigger _900_notify_insert after insert on public.context_ingestions
  for each row execute function private.tg_context_ingestions__tell();
create or replace trigger _900_notify_update after update on public.context_ingestions
  for each row when (old.* is distinct from new.*) execute function private.tg_context_ingestions__tell();

-- A context that is about to be deleted begins nothing more.
create or replace function private.cancel_waiting_ingestions(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.context_counters set needs_refresh = false where project_id = p_project_id;
  update public.context_ingestions set status = 'failed', error_code = 'CANCELLED', error_message = 'The context was deleted.'
  where project_id = p_project_id and status = 'processing' and run_id is null;
  perform private.cancel_operations(p_project_id);
end
$$;
comment on function private.cancel_waiting_ingestions is
  'Ends entries that wait for their run, and all operations. Authorization: callable by definer functions of ours that have authorized the caller.';
