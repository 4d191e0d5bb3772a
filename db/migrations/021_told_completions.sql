-- A client that comes back to a project's socket on completion would be told of the completion once more each time, and come back again.
create table private.told_completions (
  user_id uuid not null references public.users (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  -- The newest run whose end was told in a snapshot; of older ones nothing is told.
  run_id uuid not null,
  primary key (user_id, project_id)
);
alter table private.told_completions enable row level security;
alter table private.told_completions force row level security;
create index told_completions_project_id_idx on private.told_completions (project_id);
comment on table private.told_completions is 'To whom which completed run was told in the snapshot of a socket.';

---- create above / drop below ----

drop table private.told_completions;
