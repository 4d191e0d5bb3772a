-- Content: not for auditors. Functions alone write.
grant execute on function private.assert_worktrees_row, private.assert_worktree_branches_row
  to anon, authenticated, service_role, kijko_server, kijko_worker;
grant select on public.worktrees, public.worktree_branches to authenticated;
create policy select_reader on public.worktrees for select to authenticated
  using (exists (select from public.projects p where p.id = project_id)
    and project_id <> all ((select private.auditor_project_ids())::uuid[]));
create policy select_reader on public.worktree_branches for select to authenticated
  using (exists (select from public.projects p where p.id = project_id)
    and project_id <> all ((select private.auditor_project_ids())::uuid[]));
