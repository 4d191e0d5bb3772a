-- Agents: programs that report over a project's namespace of Socket.IO what they do. A row is an agent that is online; it goes with its
-- connection, or with the server process that held the connection.
create table private.agents (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  user_id uuid not null references public.users (id) on delete cascade,
  name text not null,
  state text not null default 'Idle',
  load smallint not null default 0,
  -- The connection that reported last, under the name that its client knows, and the server process that holds it.
  socket text not null,
  node_id uuid not null,
  online_since timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint agents_name_key unique (organization_id, project_id, user_id, name),
  constraint agents_organization_id_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint agents_name_check check (char_length(name) between 1 and 60),
  constraint agents_state_check check (state in ('Idle', 'Thinking', 'Working', 'Error')),
  constraint agents_load_check check (load between 0 and 100),
  constraint agents_socket_check check (char_length(socket) between 1 and 100)
) with (fillfactor = 70);
alter table private.agents enable row level security;
alter table private.agents force row level security;
create index agents_user_id_idx on private.agents (user_id);
create index agents_socket_idx on private.agents (socket);
create index agents_node_id_idx on private.agents (node_id);
comment on table private.agents is 'Agents that are online in a project, with the state that they reported last.';

---- create above / drop below ----

drop table private.agents;
