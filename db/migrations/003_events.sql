-- The event log (contract 30, section 6). A change writes its events into the inbox, in its own transaction; a sequencer numbers what
-- has been committed and moves it into the log (db/code/events/README.md). Two tables instead of one with a late number: the writer
-- pays for one narrow index only, and the log is written once, in the order in which it is read.
-- The inbox has no check constraints: Postgres prepares them anew for every statement, which cost three quarters of the insert. Its only
-- writer, private.emit, checks instead.
create table private.event_inbox (
  -- Drawn one by one (cache 1): a transaction that began after another had committed draws larger numbers.
  seq bigint generated always as identity (cache 1) primary key,
  room text not null,
  type text not null,
  data jsonb not null,
  audience text not null,
  organization_id uuid,
  project_id uuid,
  entity text,
  entity_id uuid,
  actor_user_id uuid,
  conflation_key text,
  user_ids uuid[],
  created_at timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  -- Rows live for milliseconds. Without insert vacuums and statistics of an empty table the plans stay as they are.
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000000000);
alter table private.event_inbox enable row level security;
alter table private.event_inbox force row level security;
comment on table private.event_inbox is 'Events of committed and running transactions that have no number yet. Written by private.emit, emptied by private.sequence_events.';

create table public.events (
  id bigint primary key,
  -- Place in the inbox. A snapshot names the places that it already contains; nothing else reads it.
  seq bigint not null,
  room text not null,
  type text not null,
  data jsonb not null,
  audience text not null,
  -- No foreign keys: an event about a deleted row must stay readable by those who could see the row, and the log forgets after a day.
  -- Null in rooms of a person, and for removals of a session that names no organization.
  organization_id uuid,
  project_id uuid,
  entity text,
  entity_id uuid,
  actor_user_id uuid,
  conflation_key text,
  user_ids uuid[],
  created_at timestamptz not null
);
alter table public.events enable row level security;
alter table public.events force row level security;
-- The only second index, because every one costs each event: whoever reads the log names rooms. A guest of a project belongs to
-- another organization than its events, so the organization could not lead here.
create index events_room_id_idx on public.events (room, id);
comment on table public.events is
  'The log of durable events. id follows the order of commits and never turns up late; audience says who of the room may read a row. Written by private.sequence_events only.';

-- One row whose lock is the right to number events. No advisory lock: any role can take those, and whoever holds one could stop all
-- events.
create table private.event_log (
  is_only boolean primary key default true,
  -- Nothing at or below this place is still to come: all transactions that drew such a place have ended, and what they left is numbered.
  -- It lets the sequencer step over the dead rows of its inbox, which pile up while somebody keeps an old snapshot (a backup).
  floor_seq bigint not null default 0,
  -- The next floor, as soon as all transactions older than next_xid have ended.
  next_seq bigint not null default 0,
  next_xid xid8 not null default '0',
  marked_at timestamptz not null default '-infinity',
  constraint event_log_is_only_check check (is_only)
) with (fillfactor = 10);
alter table private.event_log enable row level security;
alter table private.event_log force row level security;
insert into private.event_log default values;
comment on table private.event_log is 'One row; whoever holds its lock numbers events.';

-- The pruner's marks; apart from the lock above, so that pruning never holds up events.
create table private.event_retention (
  is_only boolean primary key default true,
  -- Cursors below this are expired in any room: marks of rooms up to here were forgotten.
  forgotten_id bigint not null default 0,
  -- Superseded rows of conflatable series were removed up to here.
  superseded_id bigint not null default 0,
  constraint event_retention_is_only_check check (is_only)
);
alter table private.event_retention enable row level security;
alter table private.event_retention force row level security;
insert into private.event_retention default values;
comment on table private.event_retention is 'One row: how far the pruner got.';

create table private.event_rooms (
  room text primary key,
  removed_id bigint not null,
  updated_at timestamptz not null default now()
);
alter table private.event_rooms enable row level security;
alter table private.event_rooms force row level security;
create index event_rooms_updated_at_idx on private.event_rooms (updated_at);
comment on table private.event_rooms is 'Highest id that retention removed from a room: an older cursor cannot be resumed there.';

-- Which sockets are open where, for the limits per user and organization over all server processes. Unlogged: a crash of the database
-- closes no socket, but every process registers its own again with its next heartbeat.
create unlogged table private.realtime_nodes (
  id uuid primary key,
  heartbeat_at timestamptz not null default now()
);
alter table private.realtime_nodes enable row level security;
alter table private.realtime_nodes force row level security;
comment on table private.realtime_nodes is 'Server processes with sockets; dead 90 s after their last heartbeat.';

create unlogged table private.realtime_sockets (
  id uuid primary key,
  node_id uuid not null,
  user_id uuid not null,
  organization_id uuid,
  project_id uuid,
  opened_at timestamptz not null default now()
);
alter table private.realtime_sockets enable row level security;
alter table private.realtime_sockets force row level security;
create index realtime_sockets_user_id_idx on private.realtime_sockets (user_id);
create index realtime_sockets_organization_id_idx on private.realtime_sockets (organization_id);
create index realtime_sockets_node_id_idx on private.realtime_sockets (node_id);
comment on table private.realtime_sockets is 'Open sockets of all server processes.';

---- create above / drop below ----

drop table private.realtime_sockets, private.realtime_nodes, private.event_rooms, private.event_retention, private.event_log, public.events, private.event_inbox;
