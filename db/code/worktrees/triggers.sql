create or replace trigger _100_touch before update on public.worktrees
  for each row when (old.* is distinct from new.*) execute function private.tg__touch();
create or replace trigger _100_touch before update on public.worktree_branches
  for each row when (old.* is distinct from new.*) execute function private.tg__touch();
