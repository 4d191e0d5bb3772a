-- Worktrees and branches as the dashboard shows them (contract 10, section 16).

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
    'branches', coalesce(jsonb_agg(jsonb_build_object('name', b.name, 'isDefault', b.is_default, 'isCurrent', b.is_current,
      'lastCommit', private.humanized(b.last_commit_at)) order by b.created_at, b.id), '[]'),
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

create or replace function api.list_worktrees(p jsonb) returns jsonb
language sql stable
return private.worktrees_json(private.path_project(p));
comment on function api.list_worktrees is 'GET /projects/{projectId}/worktrees: WorktreeWithBranches[]. An auditor''s list is empty.';

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
grant execute on function api.list_worktrees, api.list_all_worktrees to authenticated;
