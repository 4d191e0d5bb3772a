-- API keys (contract 40, 6.3), and what server processes hold of the API calls that requests with keys cost.

create table public.api_keys (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references public.users (id) on delete cascade,
  name text not null,
  environment text not null,
  prefix text not null,
  -- SHA-256 of the whole key: it is 192 random bits, so a slow hash would protect nothing more.
  key_hash bytea not null,
  scopes text[] not null,
  -- The highest one; each includes those below it.
  scope text not null generated always as (
    case when 'admin' = any (scopes) then 'admin' when 'write' = any (scopes) then 'write' else 'read' end) stored,
  expires_at timestamptz,
  usage_count bigint not null default 0,
  last_used_at timestamptz,
  -- The UTC day of the last entry in the login history.
  recorded_on date,
  revoked_at timestamptz,
  revoked_reason text,
  created_at timestamptz not null default now(),
  constraint api_keys_name_check check (char_length(name) between 3 and 100),
  constraint api_keys_environment_check check (environment in ('live', 'test')),
  constraint api_keys_prefix_check check (char_length(prefix) = 20),
  constraint api_keys_key_hash_check check (octet_length(key_hash) = 32),
  constraint api_keys_scopes_check check (cardinality(scopes) between 1 and 3 and scopes <@ array['read', 'write', 'admin']),
  constraint api_keys_usage_count_check check (usage_count >= 0),
  constraint api_keys_revoked_has_reason check ((revoked_at is null) = (revoked_reason is null)),
  constraint api_keys_revoked_reason_check check (revoked_reason in ('revoked', 'membership_ended'))
-- The counters of a key move each second while it is used.
) with (fillfactor = 70);
alter table public.api_keys enable row level security;
alter table public.api_keys force row level security;
create unique index api_keys_key_hash_key on public.api_keys (key_hash);
create index api_keys_organization_id_user_id_created_at_idx on public.api_keys (organization_id, user_id, created_at desc, id desc) where revoked_at is null;
create index api_keys_organization_id_idx on public.api_keys (organization_id);
create index api_keys_user_id_idx on public.api_keys (user_id);
create index api_keys_revoked_at_idx on public.api_keys (revoked_at) where revoked_at is not null;
comment on table public.api_keys is 'Keys with which programs act as a member of an organization. Revoked ones stay for 90 days.';

-- A process takes units of api_calls ahead of the requests that use them, so that a request writes nothing. The units count as used from then
-- on; what is left goes back within a second of quiet, and of a process that died after a minute.
create table private.unit_leases (
  id uuid primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  period date not null,
  day date not null,
  units bigint not null,
  renewed_at timestamptz not null default now(),
  constraint unit_leases_units_check check (units >= 0)
) with (fillfactor = 50);
alter table private.unit_leases enable row level security;
alter table private.unit_leases force row level security;
create index unit_leases_organization_id_idx on private.unit_leases (organization_id);
create index unit_leases_renewed_at_idx on private.unit_leases (renewed_at);
comment on table private.unit_leases is 'Units of api_calls that a server process has taken and not used yet.';

alter table private.login_history
  drop constraint login_history_method_check,
  add constraint login_history_method_check check (method in ('password', 'sso', '2fa', 'api_key', 'magic_link', 'signup'));

---- create above / drop below ----

delete from private.login_history where method in ('2fa', 'api_key');
alter table private.login_history
  drop constraint login_history_method_check,
  add constraint login_history_method_check check (method in ('password', 'sso', 'magic_link', 'signup'));
drop table private.unit_leases, public.api_keys;
