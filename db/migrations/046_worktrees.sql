-- The commit of a branch at the last fetch: only branches that moved since then are asked for the time of their commit.
alter table public.worktree_branches add column commit_hash text
  constraint worktree_branches_commit_hash_check check (commit_hash ~ '^[0-9a-f]{1,64}$');

---- create above / drop below ----

alter table public.worktree_branches drop column commit_hash;
