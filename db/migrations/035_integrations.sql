-- Integrations (contract 40, section 8.1 to 8.3): the catalogue, what an organization has connected, and connectors of its own. Tokens,
-- keys and headers are sealed by the server's key and stand apart, so that no right on a row shows them.

create table public.integration_apps (
  id text primary key,
  name text not null,
  category text not null,
  description text not null,
  icon text not null,
  permissions text[] not null,
  is_popular boolean not null default false,
  auth text not null,
  position smallint not null,
  constraint integration_apps_category_check check (category in ('crm', 'communication', 'productivity', 'analytics', 'storage', 'development')),
  constraint integration_apps_auth_check check (auth in ('oauth', 'key', 'built_in')),
  constraint integration_apps_permissions_check check (cardinality(permissions) > 0)
);
alter table public.integration_apps enable row level security;
alter table public.integration_apps force row level security;
comment on table public.integration_apps is 'The catalogue of pre-built integrations; how a provider is spoken to stands in worker/integrations.';

insert into public.integration_apps (position, id, name, category, permissions, is_popular, auth, icon, description)
select row_number() over (), v.id, v.name, v.category, v.permissions::text[], v.popular, v.auth, coalesce(v.icon, v.id), v.description
from (values
  ('salesforce', 'Salesforce', 'crm', '{read_contacts,write_contacts,read_leads,write_leads}', true, 'oauth', null, 'Contacts and leads of your Salesforce organization.'),
  ('hubspot', 'HubSpot', 'crm', '{read_contacts,write_contacts,read_deals}', true, 'oauth', null, 'Contacts and deals of your HubSpot account.'),
  ('pipedrive', 'Pipedrive', 'crm', '{read_deals,write_deals,read_contacts}', false, 'oauth', null, 'Deals and contacts of your Pipedrive company.'),
  ('slack', 'Slack', 'communication', '{send_messages,read_channels}', true, 'oauth', null, 'Messages and channels of your Slack workspace.'),
  ('microsoft-teams', 'Microsoft Teams', 'communication', '{send_messages,read_channels}', false, 'oauth', null, 'Messages and channels of your teams.'),
  ('discord', 'Discord', 'communication', '{send_messages,manage_webhooks}', false, 'oauth', null, 'Messages and webhooks of your Discord server.'),
  ('google-workspace', 'Google Workspace', 'productivity', '{read_docs,write_docs,read_calendar}', true, 'oauth', 'google', 'Documents and calendars of Google Workspace.'),
  ('microsoft-365', 'Microsoft 365', 'productivity', '{read_files,write_files,read_calendar}', false, 'oauth', 'microsoft', 'Files and calendars of Microsoft 365.'),
  ('notion', 'Notion', 'productivity', '{read_content,write_content}', false, 'oauth', null, 'Pages and databases of your Notion workspace.'),
  ('google-analytics', 'Google Analytics', 'analytics', '{read_data,write_data}', false, 'oauth', null, 'Reports of your Google Analytics properties.'),
  ('mixpanel', 'Mixpanel', 'analytics', '{track_events,read_data}', false, 'key', null, 'Events and reports of your Mixpanel project.'),
  ('amplitude', 'Amplitude', 'analytics', '{track_events,read_data}', false, 'key', null, 'Events and reports of your Amplitude project.'),
  ('kijko-file-storage', 'Kijko File Storage', 'storage', '{read_files,write_files,delete_files,manage_folders}', true, 'built_in', null, 'The files of your projects. Always connected.'),
  ('kijko-knowledge-graph', 'Kijko Knowledge Graph', 'analytics', '{read_graph,write_graph,manage_entities,manage_relations}', true, 'built_in', null, 'The knowledge graph of your projects. Always connected.'),
  ('google-drive', 'Google Drive', 'storage', '{read_files,write_files,delete_files}', true, 'oauth', null, 'Files of your Google Drive.'),
  ('dropbox', 'Dropbox', 'storage', '{read_files,write_files}', false, 'oauth', null, 'Files of your Dropbox.'),
  ('onedrive', 'OneDrive', 'storage', '{read_files,write_files}', false, 'oauth', null, 'Files of your OneDrive.'),
  ('github', 'GitHub', 'development', '{read_repos,write_repos,read_issues}', true, 'oauth', null, 'Repositories and issues on GitHub.'),
  ('gitlab', 'GitLab', 'development', '{read_repos,write_repos,read_issues}', false, 'oauth', null, 'Repositories and issues on GitLab.'),
  ('jira', 'Jira', 'development', '{read_issues,write_issues,read_projects}', false, 'oauth', null, 'Issues and projects of your Jira site.')
) v(id, name, category, permissions, popular, auth, icon, description);

create table public.integrations (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  provider text not null references public.integration_apps (id) on delete cascade,
  status text not null default 'active',
  scopes text[] not null,
  config jsonb,
  -- Who gave the consent; null for built-in ones, and when the person is gone.
  connected_by uuid references public.users (id) on delete set null,
  connected_at timestamptz not null default clock_timestamp(),
  last_sync_at timestamptz,
  -- From the request of a sync to its end; the lease is that of the worker that has it in hand.
  sync_requested_at timestamptz,
  sync_token uuid,
  sync_lease_until timestamptz,
  sync_leases smallint not null default 0,
  sync_failures smallint not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default now(),
  constraint integrations_organization_id_provider_key unique (organization_id, provider),
  constraint integrations_status_check check (status in ('active', 'error', 'expired')),
  constraint integrations_config_check check (jsonb_typeof(config) = 'object' and private.json_bytes(config) <= 16384)
);
alter table public.integrations enable row level security;
alter table public.integrations force row level security;
create index integrations_provider_idx on public.integrations (provider);
create index integrations_connected_by_idx on public.integrations (connected_by) where connected_by is not null;
create index integrations_sync_lease_until_idx on public.integrations (sync_lease_until) where sync_lease_until is not null;
comment on table public.integrations is 'What an organization has connected, one row a provider.';

create table public.connectors (
  id uuid primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  created_by uuid references public.users (id) on delete set null,
  name text not null,
  description text,
  -- An https address, or the picture itself as a data URL.
  icon_url text,
  remote_mcp_server_url text not null,
  category text not null default 'custom',
  auth_type text not null default 'none',
  -- Values of headers are masks here.
  config jsonb,
  status text not null,
  last_used_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default now(),
  constraint connectors_name_check check (name = private.trimmed(name) and char_length(name) between 1 and 50),
  constraint connectors_description_check check (char_length(description) between 1 and 200),
  constraint connectors_icon_url_check check (octet_length(icon_url) <= 262144),
  constraint connectors_remote_mcp_server_url_check check (remote_mcp_server_url ~ '^https?://' and char_length(remote_mcp_server_url) <= 2048),
  constraint connectors_category_check check (category in ('crm', 'communication', 'productivity', 'analytics', 'storage', 'development', 'custom')),
  constraint connectors_auth_type_check check (auth_type in ('none', 'api_key', 'oauth', 'basic')),
  constraint connectors_config_check check (jsonb_typeof(config) = 'object' and private.json_bytes(config) <= 32768),
  constraint connectors_status_check check (status in ('active', 'inactive', 'error'))
);
alter table public.connectors enable row level security;
alter table public.connectors force row level security;
create index connectors_organization_id_idx on public.connectors (organization_id, created_at, id);
create index connectors_created_by_idx on public.connectors (created_by) where created_by is not null;
comment on table public.connectors is 'MCP servers that an organization has added.';

-- The vault: one sealed text an owner. The purpose that it is sealed for names the owner, so a copied text opens nowhere else.
create table private.integration_secrets (
  id uuid primary key default gen_random_uuid(),
  integration_id uuid unique references public.integrations (id) on delete cascade,
  connector_id uuid unique references public.connectors (id) on delete cascade,
  sealed text not null,
  updated_at timestamptz not null default now(),
  constraint integration_secrets_owner_check check (num_nonnulls(integration_id, connector_id) = 1),
  constraint integration_secrets_sealed_check check (sealed ~ '^v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]+$' and octet_length(sealed) <= 262144)
);
alter table private.integration_secrets enable row level security;
alter table private.integration_secrets force row level security;
comment on table private.integration_secrets is 'Tokens, keys and headers of integrations and connectors, sealed by the server.';

-- The way to a provider and back. Used once, by a conditional update; a used row is kept until it expires, so that a second use is known.
create table private.integration_states (
  state_hash bytea primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references public.users (id) on delete cascade,
  provider text not null references public.integration_apps (id) on delete cascade,
  scopes text[] not null,
  config jsonb,
  redirect_uri text,
  -- State and PKCE verifier, sealed.
  sealed text not null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  used_at timestamptz,
  constraint integration_states_state_hash_check check (octet_length(state_hash) = 32),
  constraint integration_states_redirect_uri_check check (char_length(redirect_uri) <= 2048),
  constraint integration_states_sealed_check check (octet_length(sealed) <= 4096)
);
alter table private.integration_states enable row level security;
alter table private.integration_states force row level security;
create index integration_states_organization_id_user_id_idx on private.integration_states (organization_id, user_id, created_at);
create index integration_states_user_id_idx on private.integration_states (user_id);
create index integration_states_provider_idx on private.integration_states (provider);
create index integration_states_expires_at_idx on private.integration_states (expires_at);
comment on table private.integration_states is 'OAuth states of integrations, by their digest: single use, ten minutes.';

-- Tokens of what was disconnected, until the provider has been told. No foreign keys: the organization may be gone as well.
create table private.integration_revocations (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  provider text not null,
  sealed text not null,
  tries smallint not null default 0,
  lease_token uuid,
  lease_until timestamptz,
  created_at timestamptz not null default now()
);
alter table private.integration_revocations enable row level security;
alter table private.integration_revocations force row level security;
create index integration_revocations_lease_until_idx on private.integration_revocations (lease_until) where lease_until is not null;
comment on table private.integration_revocations is 'Tokens that a provider is still to be told of; gone with the answer, or after the last try.';

create table private.integration_logs (
  id uuid primary key default gen_random_uuid(),
  integration_id uuid references public.integrations (id) on delete cascade,
  connector_id uuid references public.connectors (id) on delete cascade,
  level text not null,
  message text not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint integration_logs_owner_check check (num_nonnulls(integration_id, connector_id) = 1),
  constraint integration_logs_level_check check (level in ('info', 'warning', 'error')),
  constraint integration_logs_message_check check (char_length(message) between 1 and 500)
);
alter table private.integration_logs enable row level security;
alter table private.integration_logs force row level security;
create index integration_logs_integration_id_idx on private.integration_logs (integration_id, created_at desc, id desc) where integration_id is not null;
create index integration_logs_connector_id_idx on private.integration_logs (connector_id, created_at desc, id desc) where connector_id is not null;
create index integration_logs_created_at_idx on private.integration_logs using brin (created_at);
comment on table private.integration_logs is 'What happened to an integration or a connector, in words for people; 30 days.';

create table private.integration_calls (
  id bigint generated always as identity primary key,
  integration_id uuid references public.integrations (id) on delete cascade,
  connector_id uuid references public.connectors (id) on delete cascade,
  tool text not null,
  client text not null,
  -- Calls of one session or one job belong together.
  session text not null,
  is_ok boolean not null,
  ms integer not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint integration_calls_owner_check check (num_nonnulls(integration_id, connector_id) = 1),
  constraint integration_calls_texts_check check (char_length(tool) between 1 and 100 and char_length(client) between 1 and 100
    and char_length(session) between 1 and 100),
  constraint integration_calls_ms_check check (ms >= 0)
);
alter table private.integration_calls enable row level security;
alter table private.integration_calls force row level security;
create index integration_calls_integration_id_idx on private.integration_calls (integration_id, created_at) where integration_id is not null;
create index integration_calls_connector_id_idx on private.integration_calls (connector_id, created_at) where connector_id is not null;
create index integration_calls_created_at_idx on private.integration_calls using brin (created_at);
comment on table private.integration_calls is 'Each request that went to a provider or an MCP server, for the numbers of the last seven days.';

-- Organizations that are here already; new ones get theirs by a trigger.
insert into public.integrations (organization_id, provider, scopes)
select o.id, a.id, a.permissions from public.organizations o cross join public.integration_apps a where a.auth = 'built_in';

insert into private.schedules (name, every) values ('integrations.sweep', interval '10 seconds'), ('integrations.prune', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name like 'integrations.%';
drop table private.integration_calls, private.integration_logs, private.integration_revocations, private.integration_states,
  private.integration_secrets, public.connectors, public.integrations, public.integration_apps;
