-- Events of the client's analytics (contract 60, section 18). Written by a function only, and read as numbers by admins of the organization.
-- No address and no description of the client is stored.
create table private.analytics_events (
  id bigint generated always as identity primary key,
  -- Who sent it, when the request had a credential. After 30 days, and when the person or the organization is gone, all of these are null.
  organization_id uuid references public.organizations (id) on delete set null,
  user_id uuid references public.users (id) on delete set null,
  session_id text,
  type text not null,
  persona text,
  -- The client's time where it is plausible, else the time of arrival.
  occurred_at timestamptz not null,
  client_timestamp timestamptz not null,
  properties jsonb not null,
  received_at timestamptz not null default now(),
  -- Half of the SHA-256 of session, type, client's time and properties: the same event that is sent twice is stored once.
  digest bytea,
  constraint analytics_events_type_check check (type in ('project_creation_started', 'project_step_completed', 'ingestion_started', 'ingestion_phase_completed',
    'ingestion_completed', 'conversion_signal', 'error_occurred', 'error_recovered', 'persona_detected', 'persona_override')),
  constraint analytics_events_persona_check check (persona in ('alex', 'maya', 'sam')),
  constraint analytics_events_forgotten_check check (session_id is not null or organization_id is null and user_id is null and digest is null)
);
alter table private.analytics_events enable row level security;
alter table private.analytics_events force row level security;
create unique index analytics_events_digest_key on private.analytics_events (digest) where digest is not null;
create index analytics_events_organization_id_idx on private.analytics_events (organization_id, occurred_at) where organization_id is not null;
create index analytics_events_user_id_idx on private.analytics_events (user_id) where user_id is not null;
-- For the retention: events with a person or session, and those without.
create index analytics_events_known_idx on private.analytics_events (received_at) where session_id is not null;
create index analytics_events_forgotten_idx on private.analytics_events (received_at) where session_id is null;
comment on table private.analytics_events is 'Events of the client''s analytics: 30 days with user, organization and session, then without them until 13 months.';

insert into private.schedules (name, every) values ('analytics.prune', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name = 'analytics.prune';
drop table private.analytics_events;
