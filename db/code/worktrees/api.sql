-- Operations of worktrees. Those that write are definer functions, because no request role may write the tables; each checks its caller first.

create or replace function api.list_worktrees(p jsonb) returns jsonb
language sql stable
return private.worktrees_json(private.path_project(p));
comment on function api.list_worktrees is 'GET /projects/{projectId}/worktrees: WorktreeWithBranches[]. An auditor''s list is empty.';

create or replace function api.list_context_worktrees(p jsonb) returns jsonb
language sql stable
return private.worktrees_json(private.path_context(p));
comment on function api.list_context_worktrees is
  'GET /contexts/{contextId}/worktrees: WorktreeWithBranches[]. An auditor''s list is empty. Errors: 404 CONTEXT_NOT_FOUND.';

create or replace function api.list_all_worktrees(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_ids uuid[] := array(select private.as_uuid(i) from jsonb_array_elements_text(private.as_array(p -> 'projectIds', 'projectIds')) i);
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('projectId', x.id, 'worktrees', private.worktrees_json(x.id)) order by x.updated_at desc, x.id), '[]')
    from (
      select q.id, q.updated_at from public.projects q
      where case when cardinality(v_ids) > 0 then q.id = any (v_ids) else q.organization_id = private.org_id()
        or q.id = any ((select private.guest_project_ids())::uuid[]) end
      order by q.updated_at desc, q.id limit 500
    ) x
  );
end
$$;
comment on function api.list_all_worktrees is
  'GET /worktrees: [{projectId, worktrees}] of the visible projects, newest first, at most 500, or of the named ones.';
grant execute on function api.list_worktrees, api.list_context_worktrees, api.list_all_worktrees to authenticated;

create or replace function api.create_worktree(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_worktrees constant integer := 50;
  b jsonb := private.as_object(p -> 'body', 'body');
  v_project uuid := private.path_project(p, 'developer');
  v_name text := case when b ->> 'name' is not null then private.as_worktree_name(b ->> 'name') end;
  v_base text;
  v_count integer;
  w public.worktrees;
begin
  perform private.lock_worktrees(v_project);
  if b ->> 'sourceWorktreeId' is not null then
    select private.name_with(s.name, '-copy') into v_base from public.worktrees s
    where s.project_id = v_project and s.id = private.as_uuid(b ->> 'sourceWorktreeId');
    if not found then
      perform private.refuse(404, 'WORKTREE_NOT_FOUND', 'The worktree to copy does not exist.', 'sourceWorktreeId');
    end if;
  end if;
  select count(*) into v_count from public.worktrees where project_id = v_project;
  if v_count >= c_worktrees then
    perform private.refuse(409, 'TOO_MANY_WORKTREES', format('A project has at most %s worktrees. Delete one first.', c_worktrees));
  end if;

  v_base := coalesce(v_name, v_base, 'Worktree-' || v_count + 1);
  w.name := v_base;
  for v_number in 2 .. c_worktrees + 1 loop
    exit when not exists (select from public.worktrees o where o.project_id = v_project and lower(o.name) = lower(w.name));
    if v_name is not null then
      perform private.refuse(409, 'WORKTREE_EXISTS', format('The project has a worktree "%s" already.', v_name), 'name');
    end if;
    w.name := private.name_with(v_base, '-' || v_number);
  end loop;
  insert into public.worktrees (organization_id, project_id, name, path)
  select q.organization_id, q.id, w.name, '/' || w.name from public.projects q where q.id = v_project
  returning * into w;
  if not found then
    -- The project was deleted after the check.
    perform private.path_project(p, 'developer');
  end if;
  insert into public.worktree_branches (organization_id, project_id, worktree_id, name, is_default, is_current, is_manual, last_commit_at)
  values (w.organization_id, w.project_id, w.id, 'main', true, true, true, now());
  perform private.notify_worktrees(w.organization_id, w.project_id);
  return private.worktree_json(w);
end
$$;
comment on function api.create_worktree is
  'POST /projects/{projectId}/worktrees: WorktreeWithBranches; adds one, or copies sourceWorktreeId. Authorization: developer in the project. Errors: 400, 403, 404 WORKTREE_NOT_FOUND, 409 WORKTREE_EXISTS, TOO_MANY_WORKTREES.';

create or replace function api.update_worktree(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b jsonb := private.as_object(p -> 'body', 'body');
  w public.worktrees := private.path_worktree(p);
  v_name text := case when b ->> 'name' is not null then private.as_worktree_name(b ->> 'name') else w.name end;
  v_active boolean := private.as_bool(b -> 'isActive', 'isActive');
begin
  if exists (select from public.worktrees o where o.project_id = w.project_id and lower(o.name) = lower(v_name) and o.id <> w.id) then
    perform private.refuse(409, 'WORKTREE_EXISTS', format('The project has a worktree "%s" already.', v_name), 'name');
  elsif not v_active and w.is_active then
    perform private.refuse_field('isActive', 'One worktree is always active. Activate another one instead.');
  end if;
  if b ->> 'currentBranch' is not null and not private.select_branch(w.id, b ->> 'currentBranch') then
    perform private.refuse_field('currentBranch', 'The worktree has no such branch.');
  end if;
  update public.worktrees set name = v_name, path = '/' || v_name where id = w.id and name <> v_name;
  if v_active then
    perform private.activate_worktree(w);
  end if;
  perform private.notify_worktrees(w.organization_id, w.project_id);
  return (select private.worktree_json(t) from public.worktrees t where t.id = w.id);
end
$$;
comment on function api.update_worktree is
  'PUT /projects/{projectId}/worktrees/{worktreeId}: WorktreeWithBranches; renames, activates, selects a branch. Authorization: developer in the project. Errors: 400, 403, 404 WORKTREE_NOT_FOUND, 409 WORKTREE_EXISTS.';

create or replace function api.delete_worktree(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  w public.worktrees := private.path_worktree(p);
begin
  if not exists (select from public.worktrees o where o.project_id = w.project_id and o.id <> w.id) then
    perform private.refuse(409, 'LAST_WORKTREE', 'A project keeps at least one worktree.');
  end if;
  delete from public.worktrees where id = w.id;
  -- The oldest takes the place of the default, so that the next fetch has a worktree for the repository's branches.
  if w.is_default then
    update public.worktrees t set is_default = true
    where t.id = (select o.id from public.worktrees o where o.project_id = w.project_id order by o.created_at, o.id limit 1);
  end if;
  if w.is_active then
    update public.worktrees t set is_active = true where t.project_id = w.project_id and t.is_default;
  end if;
  perform private.notify_worktrees(w.organization_id, w.project_id);
  return null;
end
$$;
comment on function api.delete_worktree is
  'DELETE /projects/{projectId}/worktrees/{worktreeId}: 204. Authorization: developer in the project. Errors: 403, 404 WORKTREE_NOT_FOUND, 409 LAST_WORKTREE.';

create or replace function api.create_branch(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  -- By hand; a fetch brings up to 500 more.
  c_branches constant integer := 100;
  b jsonb := private.as_object(p -> 'body', 'body');
  w public.worktrees := private.path_worktree(p);
  v_from text := b ->> 'fromBranch';
  v_name text := case when b ->> 'name' is not null then private.as_worktree_name(b ->> 'name') end;
  v_base text;
  -- A fork counts from 1, every other name from 2.
  v_number integer := case when v_from is null then 2 else 1 end;
begin
  if v_from is not null and not exists (select from public.worktree_branches where worktree_id = w.id and name = v_from) then
    perform private.refuse(404, 'BRANCH_NOT_FOUND', 'The branch to fork does not exist.', 'fromBranch');
  elsif (select count(*) from public.worktree_branches where worktree_id = w.id and is_manual) >= c_branches then
    perform private.refuse(409, 'TOO_MANY_BRANCHES', format('A worktree has at most %s branches made by hand.', c_branches));
  end if;
  v_base := coalesce(v_name, private.name_with(v_from, '-fork'),
    'branch-' || (select count(*) from public.worktree_branches where worktree_id = w.id) + 1);
  if v_name is null then
    v_name := v_base;
    while exists (select from public.worktree_branches where worktree_id = w.id and name = v_name) loop
      v_name := private.name_with(v_base, '-' || v_number);
      v_number := v_number + 1;
    end loop;
  elsif exists (select from public.worktree_branches where worktree_id = w.id and name = v_name) then
    perform private.refuse(409, 'BRANCH_EXISTS', format('The worktree has a branch "%s" already.', v_name), 'name');
  end if;
  insert into public.worktree_branches (organization_id, project_id, worktree_id, name, is_manual, last_commit_at)
  values (w.organization_id, w.project_id, w.id, v_name, true, now());
  perform private.notify_worktrees(w.organization_id, w.project_id);
  return private.worktree_json(w);
end
$$;
comment on function api.create_branch is
  'POST /projects/{projectId}/worktrees/{worktreeId}/branches: the worktree; adds a branch, or forks fromBranch. Authorization: developer in the project. Errors: 400, 403, 404 BRANCH_NOT_FOUND, 409 BRANCH_EXISTS, TOO_MANY_BRANCHES.';

create or replace function api.rename_branch(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  w public.worktrees := private.path_worktree(p);
  v_name text;
  v_old text := p ->> 'branch';
begin
  if not exists (select from public.worktree_branches where worktree_id = w.id and name = v_old) then
    perform private.refuse(404, 'BRANCH_NOT_FOUND', 'This branch does not exist.');
  end if;
  v_name := private.as_worktree_name(coalesce(p -> 'body' ->> 'name', ''));
  if v_name = v_old then
    return private.worktree_json(w);
  elsif exists (select from public.worktree_branches where worktree_id = w.id and name = v_name) then
    perform private.refuse(409, 'BRANCH_EXISTS', format('The worktree has a branch "%s" already.', v_name), 'name');
  end if;
  -- A name given by hand stays; the next fetch brings the provider's own name again.
  update public.worktree_branches set name = v_name, is_manual = true where worktree_id = w.id and name = v_old;
  perform private.notify_worktrees(w.organization_id, w.project_id);
  return private.worktree_json(w);
end
$$;
comment on function api.rename_branch is
  'PUT /projects/{projectId}/worktrees/{worktreeId}/branches/{branch}: the worktree; currentBranch follows. Authorization: developer in the project. Errors: 400, 403, 404 BRANCH_NOT_FOUND, 409 BRANCH_EXISTS.';
grant execute on function api.create_worktree, api.update_worktree, api.delete_worktree, api.create_branch, api.rename_branch to authenticated;
