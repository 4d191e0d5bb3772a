-- Copies of counted units for OpenMeter (contract 50, section 5.3). The counters decide; a copy is written in the transaction that moves a
-- counter, and a worker sends it afterwards.

-- While false, moving the counter writes no copy, and costs what it did before: the trigger reads this column of the row at hand.
alter table public.usage_counters add column is_metered boolean not null default false;

create table private.metering_events (
  seq bigint generated always as identity primary key,
  -- The identity of the event at the receiver, which counts repeats of it once. A number of ours could come back after a restore.
  id uuid not null default gen_random_uuid(),
  -- No foreign key: units of an organization that is deleted are still sent, and the check would lock its row at every unit.
  organization_id uuid not null,
  metric text not null,
  -- Units; negative for units that are given back. Of a gauge the change.
  amount bigint not null,
  -- Of a gauge, its value after the change.
  total bigint,
  occurred_at timestamptz not null,
  created_at timestamptz not null default now(),
  -- Several units that waited together for long.
  is_folded boolean not null default false,
  -- Why the receiver never takes this event.
  refusal text,
  constraint metering_events_metric_check check (metric in ('api_calls', 'ingestions', 'oracle_queries', 'storage', 'seats')),
  constraint metering_events_total_check check ((total is not null) = (metric in ('storage', 'seats')))
) with (autovacuum_vacuum_scale_factor = 0.05);
alter table private.metering_events enable row level security;
alter table private.metering_events force row level security;
create index metering_events_refused_idx on private.metering_events (seq) where refusal is not null;
comment on table private.metering_events is 'Units that wait to be sent to OpenMeter, or were refused there; a sent one is deleted.';

create table private.metering_state (
  is_single boolean primary key default true,
  -- The worker that sends, and until when it is awaited.
  owner uuid,
  lease_expires_at timestamptz,
  -- The events that were sent and not acknowledged: they go first, unchanged, because they may have arrived.
  batch bigint[] not null default '{}',
  failures integer not null default 0,
  error text,
  next_at timestamptz not null default '-infinity',
  -- Events that waited beyond the retention.
  lost bigint not null default 0,
  constraint metering_state_single_check check (is_single)
);
alter table private.metering_state enable row level security;
alter table private.metering_state force row level security;
comment on table private.metering_state is 'One row: which events are on their way to OpenMeter, and how the last attempt went.';
insert into private.metering_state default values;

insert into private.schedules (name, every) values ('metering.fold', interval '1 minute'), ('metering.prune', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name in ('metering.fold', 'metering.prune');
drop table private.metering_state, private.metering_events;
alter table public.usage_counters drop column is_metered;
