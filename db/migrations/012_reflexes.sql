-- Reflexes (contract 20, sections 9 to 11): a skill that runs when something happens. The id is the unguessable part of a webhook's
-- address; the secret that signs deliveries is stored sealed by the server's key.
create table public.reflexes (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  -- Runs are charged to it, and stop while the owner is no active member of it.
  organization_id uuid not null references public.organizations (id) on delete cascade,
  skill_id uuid not null references public.skills (id) on delete cascade,
  trigger_type text not null,
  -- Without url and secret: those are the server's.
  trigger_config jsonb not null,
  conditions jsonb,
  is_active boolean not null default true,
  trigger_count bigint not null default 0,
  last_triggered_at timestamptz,
  consecutive_failures integer not null default 0,
  last_error_message text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint reflexes_trigger_type_check check (trigger_type in ('webhook', 'email', 'file_change', 'api_call', 'event')),
  constraint reflexes_trigger_config_check check (jsonb_typeof(trigger_config) = 'object' and octet_length(trigger_config::text) <= 131072),
  constraint reflexes_conditions_check check (jsonb_typeof(conditions) = 'object' and octet_length(conditions::text) <= 262144),
  constraint reflexes_counters_check check (trigger_count >= 0 and consecutive_failures >= 0),
  constraint reflexes_last_error_message_check check (char_length(last_error_message) <= 500)
) with (fillfactor = 85);
alter table public.reflexes enable row level security;
alter table public.reflexes force row level security;
create index reflexes_user_id_trigger_type_idx on public.reflexes (user_id, trigger_type) where is_active;
create index reflexes_user_id_idx on public.reflexes (user_id, is_active, last_triggered_at desc);
create index reflexes_skill_id_idx on public.reflexes (skill_id);
create index reflexes_organization_id_idx on public.reflexes (organization_id);
-- Every server process asks from time to time whose calls are watched: mostly nobody's.
create index reflexes_api_call_idx on public.reflexes (user_id) where is_active and trigger_type = 'api_call';
comment on table public.reflexes is 'A skill that runs when something happens.';
comment on constraint reflexes_skill_id_fkey on public.reflexes is
  'Across tenants: a public skill of anybody may be used; a trigger judges whether the owner sees it.';

-- Apart from the reflex, so that no right on the reflex shows it. Sealed by the server's key; the database cannot open it.
create table private.reflex_secrets (
  reflex_id uuid primary key references public.reflexes (id) on delete cascade,
  sealed text not null,
  created_at timestamptz not null default now(),
  constraint reflex_secrets_sealed_check check (sealed ~ '^v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]+$' and char_length(sealed) <= 600)
);
alter table private.reflex_secrets enable row level security;
alter table private.reflex_secrets force row level security;
comment on table private.reflex_secrets is 'What signs the deliveries of a webhook, sealed by the server.';

-- The row is inserted in the transaction of the work: of many equal deliveries at once one fires, and the others wait for its answer.
create table private.reflex_deliveries (
  reflex_id uuid not null references public.reflexes (id) on delete cascade,
  -- Digest of the sender's key.
  key bytea not null,
  response jsonb,
  created_at timestamptz not null default now(),
  primary key (reflex_id, key),
  constraint reflex_deliveries_key_check check (octet_length(key) = 32)
);
alter table private.reflex_deliveries enable row level security;
alter table private.reflex_deliveries force row level security;
create index reflex_deliveries_created_at_idx on private.reflex_deliveries (created_at);
comment on table private.reflex_deliveries is 'Webhook deliveries of the last 24 hours that named a key, with their answers.';

insert into private.schedules (name, every) values ('reflexes.prune', interval '10 minutes');

---- create above / drop below ----

delete from private.schedules where name = 'reflexes.prune';
drop table private.reflex_deliveries, private.reflex_secrets, public.reflexes;
