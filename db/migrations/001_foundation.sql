-- The four schemas. public: tenant tables, all under forced row-level security. api: one function an operation. private: rules,
-- helpers and secrets. jobs: the queue.
create schema api;
create schema private;
create schema jobs;

-- Functions are closed to everyone first; a grant follows under each function. (Works only without `in schema`, and only for what
-- this role creates later: one owner role runs all migrations and code.)
alter default privileges revoke execute on functions from public;
revoke create on schema public from public;

grant usage on schema public, api to anon, authenticated, service_role;
-- Request roles may *name* what is in `private`, because functions of schema api run as their caller and call helpers there. What
-- they may *do* is granted function by function; no table of `private` is granted to them (tests/pgtap/00_lint.sql).
grant usage on schema private to anon, authenticated, service_role, kijko_server, kijko_worker;
grant usage on schema api to kijko_server;
grant usage on schema public to kijko_server, kijko_worker;
grant usage on schema jobs to kijko_worker, kijko_server;

-- ---------------------------------------------------------------------------------------------------------------------------------
-- People. A user is one person with one login e-mail, in any number of organizations.
create table public.users (
  id uuid primary key default gen_random_uuid(),
  email text not null,
  first_name text not null default '',
  last_name text not null default '',
  avatar_url text,
  timezone text not null default 'UTC',
  -- The organization that a session without a hint gets; set at sign-up, moved when that membership ends.
  default_organization_id uuid,
  is_platform_admin boolean not null default false,
  email_verified_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint users_email_check check (email = lower(btrim(email)) and char_length(email) between 3 and 254),
  constraint users_names_check check (char_length(first_name) <= 50 and char_length(last_name) <= 50),
  constraint users_avatar_url_check check (char_length(avatar_url) <= 500)
);
alter table public.users enable row level security;
alter table public.users force row level security;
create unique index users_email_key on public.users (email);
comment on table public.users is 'One person, one login e-mail (stored lower case), any number of organizations.';

-- The tenant. The client calls it a team.
create table public.organizations (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint organizations_name_check check (char_length(btrim(name)) between 1 and 150)
);
alter table public.organizations enable row level security;
alter table public.organizations force row level security;
comment on table public.organizations is 'The tenant. Every tenant table carries organization_id.';

alter table public.users
  -- An organization that goes leaves its people; they get another default at their next sign-in.
  add constraint users_default_organization_id_fkey foreign key (default_organization_id)
  references public.organizations (id) on delete set null;
create index users_default_organization_id_idx on public.users (default_organization_id);

create table public.memberships (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references public.users (id) on delete cascade,
  role text not null,
  status text not null default 'active',
  joined_at timestamptz not null default now(),
  last_active_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint memberships_role_check check (role in ('owner', 'admin', 'member', 'viewer')),
  constraint memberships_status_check check (status in ('active', 'inactive')),
  constraint memberships_owner_is_active check (role <> 'owner' or status = 'active')
);
alter table public.memberships enable row level security;
alter table public.memberships force row level security;
create unique index memberships_organization_id_user_id_key on public.memberships (organization_id, user_id);
create unique index memberships_one_owner_key on public.memberships (organization_id) where role = 'owner';
create index memberships_user_id_idx on public.memberships (user_id);
comment on table public.memberships is 'Who belongs to which organization, as what. Exactly one owner an organization.';

-- One row a sign-in. Its id is the `sid` claim; every request looks it up, so revocation is immediate.
create table private.sessions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  -- Null only while an external issuer's token names no organization: then the user's default one applies.
  organization_id uuid references public.organizations (id) on delete cascade,
  -- Sessions of external issuers are known by the issuer's own name for them.
  issuer text not null default '',
  external_key text,
  method text not null default 'password',
  user_agent text,
  client_ip text,
  created_at timestamptz not null default now(),
  last_active_at timestamptz not null default now(),
  -- The absolute end (90 days from sign-in by default), and the end unless refreshed before (30 days).
  expires_at timestamptz not null,
  idle_expires_at timestamptz not null,
  revoked_at timestamptz,
  revoked_reason text,
  constraint sessions_method_check check (method in ('password', 'sso', 'magic_link', 'signup', 'switch'))
);
alter table private.sessions enable row level security;
alter table private.sessions force row level security;
create unique index sessions_issuer_external_key_key on private.sessions (issuer, external_key) where external_key is not null;
create index sessions_user_id_idx on private.sessions (user_id);
create index sessions_organization_id_idx on private.sessions (organization_id);
comment on table private.sessions is 'One row a sign-in; looked up by every request. Revoked rows are kept for the login history.';

-- ---------------------------------------------------------------------------------------------------------------------------------
-- Plans and what they allow (contract 50, section 1). -1 is unlimited. Data, not code: a changed limit is one UPDATE.
create table public.plans (
  id text primary key,
  name text not null,
  position smallint not null,
  price integer not null,
  annual_price integer,
  monthly_cents integer,
  yearly_cents integer,
  description text not null,
  features jsonb not null,
  is_popular boolean not null default false,
  api_calls bigint not null,
  ingestions bigint not null,
  storage_gb bigint not null,
  seats bigint not null,
  oracle_queries bigint not null,
  audit_retention_days integer not null,
  gates text[] not null default '{}',
  constraint plans_id_check check (id in ('free', 'pro', 'teams', 'enterprise')),
  constraint plans_features_check check (jsonb_typeof(features) = 'array')
);
alter table public.plans enable row level security;
alter table public.plans force row level security;
comment on table public.plans is 'The four plans and their limits; -1 is unlimited. gates: what else the plan opens.';

insert into public.plans (id, name, position, price, annual_price, monthly_cents, yearly_cents, description, features, is_popular,
  api_calls, ingestions, storage_gb, seats, oracle_queries, audit_retention_days, gates) values
  ('free', 'Free', 1, 0, null, null, null, 'For trying Kijko on your own code',
    '["Basic context management", "1,000 API calls a month", "50 ingestions a month", "1 GB storage", "1 seat", "10 Oracle queries a day"]',
    false, 1000, 50, 1, 1, 10, 7, array[]::text[]),
  ('pro', 'Pro', 2, 29, 24, 2900, 28800, 'For professionals who work with it every day',
    '["Advanced context management", "10,000 API calls a month", "500 ingestions a month", "25 GB storage", "3 seats", "100 Oracle queries a day", "Priority support"]',
    true, 10000, 500, 25, 3, 100, 30, array[]::text[]),
  ('teams', 'Teams', 3, 79, 66, 7900, 79200, 'For teams that share what they know',
    '["Collaboration", "50,000 API calls a month", "2,500 ingestions a month", "100 GB storage", "10 seats", "Unlimited Oracle queries", "SSO", "Advanced analytics"]',
    false, 50000, 2500, 100, 10, -1, 90, array['team_management', 'sso', 'advanced_analytics']),
  ('enterprise', 'Enterprise', 4, -1, null, null, null, 'For organizations with needs of their own',
    '["Custom limits", "Dedicated support", "SLA", "Custom integrations", "On-premise", "Audit logs"]',
    false, -1, -1, -1, -1, -1, 365,
    array['team_management', 'sso', 'advanced_analytics', 'security_policies', 'ip_allow_list', 'compliance_documents', 'audit_pdf',
      'audit_schedules', 'directory_sync']);

create table public.subscriptions (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  plan_id text not null default 'free' references public.plans (id) on delete restrict,
  status text not null default 'active',
  -- What a contract grants instead of the plan's own numbers, for example {"ingestions": 9000}.
  overrides jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint subscriptions_status_check check (status in ('active', 'trialing', 'past_due', 'incomplete', 'canceled')),
  constraint subscriptions_overrides_check check (jsonb_typeof(overrides) = 'object')
);
alter table public.subscriptions enable row level security;
alter table public.subscriptions force row level security;
create unique index subscriptions_organization_id_key on public.subscriptions (organization_id);
create index subscriptions_plan_id_idx on public.subscriptions (plan_id);
comment on table public.subscriptions is 'Exactly one row an organization; the effective plan is computed from it at read time.';

-- What was used of a counted limit. A new month (or day) is a new key, so nothing is ever reset.
create table public.usage_counters (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  metric text not null,
  period date not null,
  used bigint not null default 0,
  updated_at timestamptz not null default now(),
  primary key (organization_id, metric, period),
  constraint usage_counters_metric_check check (metric in ('api_calls', 'ingestions', 'oracle_queries', 'storage')),
  constraint usage_counters_used_check check (used >= 0)
) with (fillfactor = 50);
alter table public.usage_counters enable row level security;
alter table public.usage_counters force row level security;
comment on table public.usage_counters is 'Units used per organization, metric and period (first day of the UTC month, or the UTC day; storage: 1970-01-01, a gauge in bytes).';

-- The daily trend behind the counters: units of the day, or for storage the bytes after the last change of the day.
create table public.usage_days (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  metric text not null,
  day date not null,
  value bigint not null default 0,
  primary key (organization_id, metric, day)
) with (fillfactor = 50);
alter table public.usage_days enable row level security;
alter table public.usage_days force row level security;
comment on table public.usage_days is 'Seven-day trends; written by the statement that moves the counter.';

-- ---------------------------------------------------------------------------------------------------------------------------------
-- Who did what, when, from where. Append-only for everybody; written in the transaction of the change.
create table public.audit_log (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  -- The actor; null for the system. Kept when the person goes: erasure pseudonymises it.
  user_id uuid references public.users (id) on delete set null,
  event_type text not null,
  event_category text not null generated always as (split_part(event_type, '.', 1)) stored,
  description text not null,
  metadata jsonb,
  changes jsonb,
  ip_address text,
  session_id uuid,
  request_id text,
  created_at timestamptz not null default clock_timestamp(),
  constraint audit_log_category_check check (split_part(event_type, '.', 1) in ('user', 'context', 'team', 'security', 'integration', 'system')),
  constraint audit_log_changes_check check (changes is null or jsonb_typeof(changes) = 'array')
);
alter table public.audit_log enable row level security;
alter table public.audit_log force row level security;
create index audit_log_organization_id_created_at_idx on public.audit_log (organization_id, created_at desc, id desc);
create index audit_log_user_id_idx on public.audit_log (user_id);
comment on table public.audit_log is 'The audit trail (contract 40, section 7). No role may change or delete a row; only retention and erasure functions do.';

-- ---------------------------------------------------------------------------------------------------------------------------------
-- The stored answer to a write with an Idempotency-Key. Inserted in the transaction of the work: of any number of simultaneous
-- callers one inserts, the others wait for its commit and read its answer.
create table private.idempotency_keys (
  user_id uuid not null references public.users (id) on delete cascade,
  key text not null,
  operation text not null,
  request_hash bytea not null,
  status integer,
  headers text,
  response jsonb,
  created_at timestamptz not null default now(),
  primary key (user_id, key),
  constraint idempotency_keys_key_check check (char_length(key) between 1 and 255)
);
alter table private.idempotency_keys enable row level security;
alter table private.idempotency_keys force row level security;
create index idempotency_keys_created_at_idx on private.idempotency_keys (created_at);
comment on table private.idempotency_keys is 'Stored answers of writes, kept 24 hours.';

-- Attempts per key and window, shared by all server processes. Unlogged: after a crash everybody starts anew, which harms nobody.
create unlogged table private.rate_counters (
  key text not null,
  window_start timestamptz not null,
  hits integer not null,
  primary key (key, window_start)
) with (fillfactor = 50);
alter table private.rate_counters enable row level security;
alter table private.rate_counters force row level security;
create index rate_counters_window_start_idx on private.rate_counters (window_start);
comment on table private.rate_counters is 'Sliding-window rate limits: two neighbouring fixed windows are weighed.';

---- create above / drop below ----

drop table private.rate_counters, private.idempotency_keys;
drop table public.audit_log, public.usage_days, public.usage_counters, public.subscriptions, public.plans;
drop table private.sessions;
drop table public.memberships cascade;
alter table public.users drop constraint users_default_organization_id_fkey;
drop table public.organizations, public.users;
drop schema api, jobs, private cascade;
