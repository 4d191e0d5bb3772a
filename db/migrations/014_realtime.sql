-- Who is in which context, and what has been said about it (contract 30, 8.2). Unlogged like the sockets themselves: after a crash of
-- the database every server process reports again with its next heartbeat.
create unlogged table private.realtime_presence (
  context_id uuid not null,
  user_id uuid not null,
  node_id uuid not null,
  primary key (context_id, user_id, node_id)
);
alter table private.realtime_presence enable row level security;
alter table private.realtime_presence force row level security;
create index realtime_presence_node_id_idx on private.realtime_presence (node_id);
comment on table private.realtime_presence is 'People with a socket in a context, by server process.';

create unlogged table private.realtime_statuses (
  context_id uuid not null,
  user_id uuid not null,
  -- What the room was told last, and when; a person whom it was never told about counts as offline.
  is_online boolean not null default false,
  told_at timestamptz not null default '-infinity',
  -- Since when the person has no socket there; null: they have one.
  left_at timestamptz,
  primary key (context_id, user_id)
);
alter table private.realtime_statuses enable row level security;
alter table private.realtime_statuses force row level security;
-- What is waiting to be told; everything else needs no look.
create index realtime_statuses_pending_idx on private.realtime_statuses (told_at) where is_online = (left_at is not null);
comment on table private.realtime_statuses is 'Presence as the rooms know it: told at most once in 5 s, offline only after 10 s.';

create unlogged table private.realtime_watchers (
  project_id uuid not null,
  node_id uuid not null,
  sockets integer not null,
  primary key (project_id, node_id),
  constraint realtime_watchers_sockets_check check (sockets > 0)
);
alter table private.realtime_watchers enable row level security;
alter table private.realtime_watchers force row level security;
create index realtime_watchers_node_id_idx on private.realtime_watchers (node_id);
comment on table private.realtime_watchers is 'How many sockets watch a project, by server process.';

-- Refused attempts, for operators; the newest 1000. No foreign keys: what was asked for may not exist.
create table private.realtime_refusals (
  id bigint generated always as identity primary key,
  refused_at timestamptz not null,
  socket_id uuid not null,
  project_id text,
  -- Shortened before it came here: nobody can use it.
  token text,
  reason text not null,
  ip_address text not null,
  constraint realtime_refusals_sizes_check check (char_length(project_id) <= 100 and char_length(token) <= 18
    and char_length(reason) <= 200 and char_length(ip_address) <= 100)
);
alter table private.realtime_refusals enable row level security;
alter table private.realtime_refusals force row level security;
comment on table private.realtime_refusals is 'Refused attempts to open a socket or to join a room.';

---- create above / drop below ----

drop table private.realtime_refusals, private.realtime_watchers, private.realtime_statuses, private.realtime_presence;
