-- The outbox for neighbors: other systems of the operator that are told what happened here (Zulip, cxdb, Agent-Lightning). The transaction of
-- the event writes a row and its job; the worker sends it. A row names what it is about and holds no text: the text is read when it is sent.
create table private.outbox (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  neighbor text not null,
  kind text not null,
  -- The row that the delivery is about. No foreign key: a row that is gone is not sent any more.
  subject_id uuid not null,
  -- Deliveries of one series go out one after the other, by position.
  series uuid not null,
  position bigint not null generated always as identity,
  status text not null default 'waiting',
  attempts integer not null default 0,
  error text,
  -- When its job runs; the sweep sees by it whether a job was lost.
  due_at timestamptz not null default clock_timestamp(),
  lease_token uuid,
  lease_until timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  constraint outbox_subject_key unique (organization_id, neighbor, kind, subject_id),
  constraint outbox_neighbor_check check (neighbor in ('zulip', 'cxdb', 'lightning')),
  constraint outbox_kind_check check (char_length(kind) between 1 and 30),
  constraint outbox_status_check check (status in ('waiting', 'failed')),
  constraint outbox_attempts_check check (attempts >= 0),
  constraint outbox_error_check check (char_length(error) <= 500),
  constraint outbox_lease_agrees check ((lease_token is null) = (lease_until is null))
) with (fillfactor = 70);
alter table private.outbox enable row level security;
alter table private.outbox force row level security;
create index outbox_series_idx on private.outbox (neighbor, series, position);
create index outbox_due_at_idx on private.outbox (due_at) where status = 'waiting';
create index outbox_lease_until_idx on private.outbox (lease_until) where lease_until is not null;
create index outbox_created_at_idx on private.outbox (created_at);
comment on table private.outbox is 'Deliveries to neighbors that wait or failed; a delivered row is deleted, and any row after 7 days.';

-- What a neighbor calls a series of ours, such as the context of cxdb that a conversation goes to.
create table private.outbox_references (
  neighbor text not null,
  series uuid not null,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  reference text not null,
  used_at timestamptz not null default now(),
  primary key (neighbor, series),
  constraint outbox_references_reference_check check (char_length(reference) between 1 and 200)
);
alter table private.outbox_references enable row level security;
alter table private.outbox_references force row level security;
create index outbox_references_organization_id_idx on private.outbox_references (organization_id);
create index outbox_references_used_at_idx on private.outbox_references (used_at);
comment on table private.outbox_references is 'What a neighbor calls a series; 90 days after its last delivery.';

-- Events that the bounds of the outbox dropped.
create table private.outbox_losses (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  neighbor text not null,
  lost bigint not null default 0,
  last_at timestamptz not null default now(),
  primary key (organization_id, neighbor)
);
alter table private.outbox_losses enable row level security;
alter table private.outbox_losses force row level security;
comment on table private.outbox_losses is 'How many deliveries the bounds of the outbox dropped.';

insert into private.schedules (name, every) values ('outbox.sweep', interval '10 seconds'), ('outbox.prune', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name in ('outbox.sweep', 'outbox.prune');
drop table private.outbox_losses, private.outbox_references, private.outbox;
