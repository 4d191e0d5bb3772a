-- Worktrees are named views of a project's branches (contract 10, section 16). Nothing here is pushed to a provider. One worktree of a
-- project is the default, which shows the branches of the first repository; one is active.

create or replace function private.humanized(p_at timestamptz, p_now timestamptz default now()) returns text
language sql stable parallel safe
return case
  when p_at is null then 'No commits yet'
  when p_now - p_at < interval '1 minute' then 'just now'
  when p_now - p_at < interval '1 hour' then floor(extract(epoch from p_now - p_at) / 60)::integer || 'm ago'
  when p_now - p_at < interval '1 day' then floor(extract(epoch from p_now - p_at) / 3600)::integer || 'h ago'
  when p_now - p_at < interval '7 days' then floor(extract(epoch from p_now - p_at) / 86400)::integer || 'd ago'
  else to_char(p_at at time zone 'UTC', 'YYYY-MM-DD') end;
comment on function private.humanized is 'How long ago, as the client shows commits.';

create or replace function private.worktree_json(w public.worktrees) returns jsonb
language sql stable parallel safe
return (
  select jsonb_build_object('id', w.id, 'name', w.name, 'path', w.path, 'isActive', w.is_active,
    'branches', coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', b.name, 'isDefault', b.is_default, 'isCurrent', b.is_current,
      -- A branch has a commit, but the host did not say from when.
      'lastCommit', case when b.last_commit_at is not null or b.commit_hash is null then private.humanized(b.last_commit_at) end))
      order by b.created_at, b.id), '[]'),
    'currentBranch', coalesce(max(b.name) filter (where b.is_current), 'main'))
  from public.worktree_branches b where b.worktree_id = w.id
);
comment on function private.worktree_json is 'WorktreeWithBranches of the contract.';
grant execute on function private.humanized, private.worktree_json to authenticated;

create or replace function private.worktrees_json(p_project_id uuid) returns jsonb
language sql stable parallel safe
return (
  select coalesce(jsonb_agg(private.worktree_json(w) order by w.is_default desc, w.created_at, w.id), '[]')
  from public.worktrees w where w.project_id = p_project_id
);
comment on function private.worktrees_json is 'All worktrees of a project, default first.';
grant execute on function private.worktrees_json to authenticated;

create or replace function private.lock_worktrees(p_project_id uuid) returns void
language sql volatile
return pg_advisory_xact_lock(hashtextextended('worktrees ' || p_project_id, 0));
comment on function private.lock_worktrees is 'One change of a project''s worktrees at a time.';

create or replace function private.notify_worktrees(p_org_id uuid, p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.emit_change('project', p_project_id, 'updated', p_org_id, p_project_id, array['worktrees']);
end
$$;
comment on function private.notify_worktrees is 'Event of changed worktrees or branches. Authorization: callable by functions of ours only.';

create or replace function private.as_worktree_name(p_name text, p_field text default 'name') returns text
language plpgsql stable
as $$
declare
  v_name text := private.trimmed(p_name);
begin
  if char_length(v_name) not between 1 and 100 or not private.is_plain(v_name) then
    perform private.refuse_field(p_field, 'A name has 1 to 100 characters.');
  end if;
  return v_name;
end
$$;
comment on function private.as_worktree_name is 'The trimmed name of a worktree or branch, or 400 VALIDATION_ERROR.';

-- A name with something behind it in at most 100 characters.
create or replace function private.name_with(p_base text, p_end text) returns text
language sql immutable parallel safe
return regexp_replace(left(p_base, 100 - char_length(p_end)), '\s+$', '') || p_end;
comment on function private.name_with is 'A name of a worktree or branch with an ending; the base is shortened where the result would be too long.';

create or replace function private.path_worktree(p jsonb) returns public.worktrees
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.path_project(p, 'developer');
  w public.worktrees;
begin
  perform private.lock_worktrees(v_project);
  select * into w from public.worktrees where project_id = v_project and id = private.as_uuid(p ->> 'worktreeId');
  if not found then
    perform private.path_project(p, 'developer'), private.refuse(404, 'WORKTREE_NOT_FOUND', 'This worktree does not exist.');
  end if;
  return w;
end
$$;
comment on function private.path_worktree is
  'The worktree of the path, to be changed; other changes of the project''s worktrees wait. Authorization: developer in the project. Errors: 403, 404 PROJECT_NOT_FOUND, WORKTREE_NOT_FOUND.';

create or replace function private.activate_worktree(w public.worktrees) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.worktrees set is_active = false where project_id = w.project_id and is_active and id <> w.id;
  update public.worktrees set is_active = true where id = w.id and not is_active;
end
$$;
comment on function private.activate_worktree is 'Makes a worktree the active one of its project. Authorization: callable by functions of ours only.';

create or replace function private.select_branch(p_worktree_id uuid, p_name text) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if not exists (select from public.worktree_branches where worktree_id = p_worktree_id and name = p_name) then
    return false;
  end if;
  update public.worktree_branches set is_current = false where worktree_id = p_worktree_id and is_current and name <> p_name;
  update public.worktree_branches set is_current = true where worktree_id = p_worktree_id and name = p_name and not is_current;
  return true;
end
$$;
comment on function private.select_branch is 'Makes a branch the current one of its worktree; false where there is none of this name. Authorization: callable by functions of ours only.';

-- ------------------------------------------------------------------------------------------------- branches of the first repository

create or replace function private.branches_wanted(p_run_id uuid, p_owner uuid, p_repository_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce((select jsonb_object_agg(b.name, b.commit_hash) from public.worktree_branches b
        join public.worktrees w on w.id = b.worktree_id and w.is_default
        where b.project_id = r.project_id and b.commit_hash is not null and b.last_commit_at is not null), '{}')
    from public.ingestion_runs r
    where r.id = p_run_id and r.lease_owner = p_owner and r.outcome = 'open'
      and p_repository_id = (select f.id from public.project_repositories f where f.project_id = r.project_id order by f.created_at, f.id limit 1)
  );
end
$$;
comment on function private.branches_wanted is
  'For the first repository of a leased run: {branch: commit} as far as they are known; null for other repositories. Authorization: callable by the worker only.';

-- p_branches: [{"name", "commit", "at"?}] of the provider. Without at the time of the commit is unknown, or the commit is the known one.
create or replace function private.sync_branches(p_run_id uuid, p_owner uuid, p_repository_id uuid, p_default text, p_branches jsonb)
returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_branches constant integer := 500;
  w public.worktrees;
  v_changed integer := 0;
  v_count integer;
begin
  if private.branches_wanted(p_run_id, p_owner, p_repository_id) is null then
    return false;
  end if;
  select t.* into w from public.ingestion_runs r join public.worktrees t on t.project_id = r.project_id and t.is_default where r.id = p_run_id;
  perform private.lock_worktrees(w.project_id);
  select * into w from public.worktrees where project_id = w.project_id and is_default;
  if not found then
    return false;
  end if;
  -- Names that no row may have are left out. The default branch is among those that stay.
  p_branches := (
    select coalesce(jsonb_agg(l.b order by l.b ->> 'name' is distinct from p_default, l.b ->> 'name' collate "C"), '[]')
    from (select b from jsonb_array_elements(p_branches) b
      where char_length(b ->> 'name') between 1 and 100 and private.is_plain(b ->> 'name')
      order by b ->> 'name' is distinct from p_default, b ->> 'name' collate "C" limit c_branches) l);
  if p_branches = '[]' then
    return true;
  end if;

  delete from public.worktree_branches b
  where b.worktree_id = w.id and not b.is_manual and not exists (select from jsonb_array_elements(p_branches) n where n ->> 'name' = b.name);
  get diagnostics v_changed = row_count;
  update public.worktree_branches b set is_default = false
  where b.worktree_id = w.id and b.is_default and b.name is distinct from p_default
    and exists (select from jsonb_array_elements(p_branches) n where n ->> 'name' = p_default);
  get diagnostics v_count = row_count;
  v_changed := v_changed + v_count;
  insert into public.worktree_branches as b (organization_id, project_id, worktree_id, name, is_default, commit_hash, last_commit_at)
  select w.organization_id, w.project_id, w.id, n ->> 'name', n ->> 'name' = p_default, n ->> 'commit', private.as_instant(n ->> 'at')
  from jsonb_array_elements(p_branches) with ordinality t (n, ord) order by t.ord
  on conflict (worktree_id, name) do update
    set is_default = b.is_default or excluded.is_default, commit_hash = excluded.commit_hash,
      last_commit_at = case when excluded.last_commit_at is null and b.commit_hash = excluded.commit_hash then b.last_commit_at
        else excluded.last_commit_at end
    where b.is_default < excluded.is_default or b.commit_hash is distinct from excluded.commit_hash
      or excluded.last_commit_at is not null and b.last_commit_at is distinct from excluded.last_commit_at;
  get diagnostics v_count = row_count;
  v_changed := v_changed + v_count;
  if not exists (select from public.worktree_branches where worktree_id = w.id and is_current) then
    perform private.select_branch(w.id, (select b.name from public.worktree_branches b where b.worktree_id = w.id
      order by b.is_default desc, b.created_at, b.id limit 1));
  end if;
  if v_changed > 0 then
    perform private.notify_worktrees(w.organization_id, w.project_id);
  end if;
  return true;
end
$$;
comment on function private.sync_branches is
  'The default worktree shows the branches of the first repository; branches made by hand remain. False where the run or its lease is gone, or the repository is not the first. Authorization: callable by the worker only.';
grant execute on function private.branches_wanted, private.sync_branches to kijko_worker;
