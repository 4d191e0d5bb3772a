-- The registry of MCP servers (contract 60, section 17.1) and the servers that an organization has connected (17.2).
create table public.mcp_registry_items (
  -- The full name at the registry, or the name of a seed.
  id text primary key,
  name text not null,
  description text not null,
  homepage text,
  vendor text,
  download_count integer,
  version text,
  -- Where the server is reached over HTTP, if it is.
  remote_url text,
  -- Seeds have one. Synchronized items have none and come after them.
  position smallint,
  synced_at timestamptz,
  constraint mcp_registry_items_id_check check (char_length(id) between 1 and 200),
  constraint mcp_registry_items_name_check check (char_length(name) between 1 and 200),
  constraint mcp_registry_items_description_check check (char_length(description) <= 1000),
  constraint mcp_registry_items_homepage_check check (homepage ~ '^https?://' and char_length(homepage) <= 2048),
  constraint mcp_registry_items_vendor_check check (char_length(vendor) between 1 and 200),
  constraint mcp_registry_items_download_count_check check (download_count >= 0),
  constraint mcp_registry_items_version_check check (char_length(version) between 1 and 255),
  constraint mcp_registry_items_remote_url_check check (remote_url ~ '^https?://' and char_length(remote_url) <= 2048),
  constraint mcp_registry_items_position_check check ((position is null) = (synced_at is not null))
);
alter table public.mcp_registry_items enable row level security;
alter table public.mcp_registry_items force row level security;
create index mcp_registry_items_position_idx on public.mcp_registry_items (position, name, id);
comment on table public.mcp_registry_items is 'MCP servers that are offered: seeds, and what the hourly synchronization found at a registry.';

insert into public.mcp_registry_items (position, id, name, vendor, download_count, description)
select row_number() over (), v.id, v.id, '@modelcontextprotocol', v.downloads, v.description
from (values
  ('filesystem', 1240, 'Reads and writes files of the machine that it runs on.'),
  ('memory', 890, 'Lets agents remember: entities and relations in a graph.'),
  ('github', 2100, 'Repositories, issues and pull requests on GitHub.'),
  ('postgres', 560, 'Questions to a PostgreSQL database, and its schema.'),
  ('brave-search', 3400, 'Searches the web with Brave.'),
  ('slack', 780, 'Messages and channels of a Slack workspace.'),
  ('linear', 450, 'Issues and projects in Linear.'),
  ('sqlite', 920, 'A small local database for data and analysis.'),
  ('google-drive', 1100, 'Finds and reads files in Google Drive.'),
  ('notion', 670, 'Pages and databases of a Notion workspace.')
) v(id, downloads, description);

create table public.mcp_servers (
  id uuid primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  created_by uuid references public.users (id) on delete set null,
  registry_id text references public.mcp_registry_items (id) on delete set null,
  name text not null,
  url text not null,
  status text not null default 'connecting',
  -- As the server tells it, before that as the registry does.
  version text,
  error_message text,
  -- Attempts of the present connecting, and the lease of the worker that makes one.
  tries smallint not null default 0,
  lease_token uuid,
  lease_until timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default now(),
  constraint mcp_servers_organization_id_id_key unique (organization_id, id),
  constraint mcp_servers_lease_check check ((lease_token is null) = (lease_until is null))
);
alter table public.mcp_servers enable row level security;
alter table public.mcp_servers force row level security;
create unique index mcp_servers_organization_id_name_key on public.mcp_servers (organization_id, lower(name));
create index mcp_servers_created_by_idx on public.mcp_servers (created_by) where created_by is not null;
create index mcp_servers_registry_id_idx on public.mcp_servers (registry_id) where registry_id is not null;
create index mcp_servers_lease_until_idx on public.mcp_servers (lease_until) where lease_until is not null;
comment on table public.mcp_servers is 'MCP servers that an organization has connected; a job connects them and reads their tools.';

create function private.assert_mcp_servers_row(r public.mcp_servers) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (r.name = private.trimmed(r.name) and char_length(r.name) between 1 and 100 and private.is_plain(r.name)) then 'mcp_servers_name_check'
    when not (r.url ~ '^https?://' and char_length(r.url) <= 2048) then 'mcp_servers_url_check'
    when not (r.status in ('connecting', 'connected', 'error')) then 'mcp_servers_status_check'
    when not (char_length(r.version) between 1 and 255) then 'mcp_servers_version_check'
    when not (char_length(r.error_message) between 1 and 500) then 'mcp_servers_error_message_check'
    when not (r.tries >= 0) then 'mcp_servers_tries_check'
  end;
begin
  return v_rule is null or private.refuse_row('mcp_servers', v_rule);
end
$$;
comment on function private.assert_mcp_servers_row is 'The rules of a row of public.mcp_servers, by name.';
alter table public.mcp_servers add constraint mcp_servers_rules check (private.assert_mcp_servers_row(mcp_servers));

create table public.mcp_tools (
  organization_id uuid not null,
  server_id uuid not null,
  name text not null,
  constraint mcp_tools_pkey primary key (server_id, name),
  constraint mcp_tools_server_id_fkey foreign key (organization_id, server_id) references public.mcp_servers (organization_id, id) on delete cascade,
  constraint mcp_tools_name_check check (char_length(name) between 1 and 200)
);
alter table public.mcp_tools enable row level security;
alter table public.mcp_tools force row level security;
create index mcp_tools_organization_id_server_id_idx on public.mcp_tools (organization_id, server_id, name);
comment on table public.mcp_tools is 'Tools of connected MCP servers, as they were at the last connecting.';

-- Sealed for the server's id, so a copied text opens nowhere else.
create table private.mcp_server_secrets (
  server_id uuid primary key references public.mcp_servers (id) on delete cascade,
  sealed text not null,
  constraint mcp_server_secrets_sealed_check check (sealed ~ '^v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]+$' and octet_length(sealed) <= 262144)
);
alter table private.mcp_server_secrets enable row level security;
alter table private.mcp_server_secrets force row level security;
comment on table private.mcp_server_secrets is 'Headers of MCP servers, sealed by the server.';

insert into private.schedules (name, every) values ('registry.sweep', interval '10 seconds'), ('registry.sync', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name in ('registry.sweep', 'registry.sync');
drop table private.mcp_server_secrets, public.mcp_tools, public.mcp_servers, public.mcp_registry_items;
drop function private.assert_mcp_servers_row;
