-- The name of the branch is an id, because paths name it.
with w as (
  insert into public.worktrees (organization_id, project_id, name, path)
  values (pg_temp.org(), pg_temp.id('projectId'), pg_temp.secret(), '/' || pg_temp.secret()) returning id
), b as (
  insert into public.worktree_branches (organization_id, project_id, worktree_id, name, is_default, is_current, is_manual)
  select pg_temp.org(), pg_temp.id('projectId'), w.id, gen_random_uuid()::text, true, true, true from w returning worktree_id, name::uuid as name
) select pg_temp.keep('worktreeId', worktree_id), pg_temp.keep('branch', name) from b;
