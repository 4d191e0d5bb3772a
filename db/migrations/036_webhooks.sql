-- Outgoing webhooks (contract 40, section 8.4). A row of webhook_deliveries is one attempt; the job that sends it is enqueued in the
-- transaction of the event.
create table public.webhooks (
  id uuid primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  created_by uuid references public.users (id) on delete set null,
  name text not null,
  endpoint_url text not null,
  -- The end of the secret, which the mask shows.
  secret_end text not null,
  events text[] not null,
  status text not null default 'active',
  consecutive_failures smallint not null default 0,
  last_triggered_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default now(),
  constraint webhooks_organization_id_id_key unique (organization_id, id),
  constraint webhooks_name_check check (name = private.trimmed(name) and char_length(name) between 1 and 100),
  constraint webhooks_endpoint_url_check check (endpoint_url ~ '^https://' and char_length(endpoint_url) <= 2048),
  constraint webhooks_secret_end_check check (char_length(secret_end) = 4),
  constraint webhooks_events_check check (cardinality(events) between 1 and 8 and events <@ array['lead.created', 'lead.updated', 'context.created',
    'context.updated', 'context.deleted', 'user.login', 'user.settings_changed', 'export.completed']),
  constraint webhooks_status_check check (status in ('active', 'paused'))
);
alter table public.webhooks enable row level security;
alter table public.webhooks force row level security;
create index webhooks_created_by_idx on public.webhooks (created_by) where created_by is not null;
-- Asked by each event of an organization, most of which have no webhook.
create index webhooks_active_idx on public.webhooks (organization_id) where status = 'active';
comment on table public.webhooks is 'Where an organization wants to be told what happens.';

alter table private.integration_secrets
  add column webhook_id uuid unique references public.webhooks (id) on delete cascade,
  drop constraint integration_secrets_owner_check,
  add constraint integration_secrets_owner_check check (num_nonnulls(integration_id, connector_id, webhook_id) = 1);

create table public.webhook_deliveries (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  webhook_id uuid not null,
  -- The same for all attempts to tell one event; the `id` of the payload.
  event_id uuid not null,
  event_type text not null,
  payload jsonb not null,
  attempt_number smallint not null default 1,
  -- event: sent by itself, with further attempts; manual: sent again by a person; test: a sample.
  kind text not null default 'event',
  status text not null default 'pending',
  response_status smallint,
  response_body text,
  -- Whose turn it is to send. Only the holder of the token writes the result.
  lease_token uuid,
  lease_until timestamptz,
  leases smallint not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  constraint webhook_deliveries_webhook_id_fkey foreign key (organization_id, webhook_id)
    references public.webhooks (organization_id, id) on delete cascade,
  constraint webhook_deliveries_attempt_number_check check (attempt_number >= 1),
  constraint webhook_deliveries_kind_check check (kind in ('event', 'manual', 'test')),
  constraint webhook_deliveries_status_check check (status in ('success', 'failed', 'pending')),
  constraint webhook_deliveries_response_body_check check (octet_length(response_body) <= 2048)
) with (fillfactor = 85);
alter table public.webhook_deliveries enable row level security;
alter table public.webhook_deliveries force row level security;
create index webhook_deliveries_organization_id_webhook_id_idx on public.webhook_deliveries (organization_id, webhook_id, created_at desc, id desc);
create index webhook_deliveries_event_id_idx on public.webhook_deliveries (event_id);
create index webhook_deliveries_lease_until_idx on public.webhook_deliveries (lease_until) where lease_until is not null;
create index webhook_deliveries_created_at_idx on public.webhook_deliveries using brin (created_at);
comment on table public.webhook_deliveries is 'Attempts to tell a webhook something, one row each; 30 days.';

---- create above / drop below ----

drop table public.webhook_deliveries;
alter table private.integration_secrets drop constraint integration_secrets_owner_check, drop column webhook_id,
  add constraint integration_secrets_owner_check check (num_nonnulls(integration_id, connector_id) = 1);
drop table public.webhooks;
