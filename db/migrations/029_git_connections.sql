-- Connections of people to Git providers, and of projects to directories (contract 10, sections 9.5, 10 and 14). A connection belongs to a person,
-- whatever organization they act in: colleagues, owners too, neither see nor use it.

-- What a provider gave: access and refresh token, sealed by the server for this row's id. A process that refreshes holds the lease, because a
-- provider that turns refresh tokens over ends the connection of two that refresh at once.
create table private.provider_tokens (
  id uuid primary key,
  provider text not null,
  -- live; broken: the provider takes it no more; ending: to be given back to the provider, then forgotten.
  state text not null default 'live',
  sealed_token text not null,
  -- Null: the provider named no end.
  expires_at timestamptz,
  version integer not null default 1,
  lease_owner uuid,
  lease_until timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint provider_tokens_provider_check check (provider in ('github', 'gitlab', 'bitbucket', 'azure', 'okta', 'azure_ad')),
  constraint provider_tokens_state_check check (state in ('live', 'broken', 'ending')),
  -- Tokens of Microsoft are signed texts of several thousand characters.
  constraint provider_tokens_sealed_token_check check (sealed_token like 'v1.%' and char_length(sealed_token) <= 40000),
  constraint provider_tokens_lease_agrees check ((lease_owner is null) = (lease_until is null))
);
alter table private.provider_tokens enable row level security;
alter table private.provider_tokens force row level security;
create index provider_tokens_ending_idx on private.provider_tokens (updated_at) where state = 'ending';
comment on table private.provider_tokens is 'Sealed tokens of Git providers and directories; read by server and worker at the moment of a call.';

create table private.git_connections (
  user_id uuid not null references public.users (id) on delete cascade,
  provider text not null,
  token_id uuid not null references private.provider_tokens (id) on delete cascade,
  -- The provider's own name for the account.
  account_id text not null,
  username text not null,
  avatar_url text,
  scopes text[] not null default '{}',
  connected_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (user_id, provider),
  constraint git_connections_provider_check check (provider in ('github', 'gitlab', 'bitbucket', 'azure')),
  constraint git_connections_account_id_check check (char_length(account_id) between 1 and 200),
  constraint git_connections_username_check check (char_length(username) between 1 and 200),
  constraint git_connections_avatar_url_check check (char_length(avatar_url) <= 500),
  constraint git_connections_scopes_check check (cardinality(scopes) <= 50)
);
alter table private.git_connections enable row level security;
alter table private.git_connections force row level security;
create unique index git_connections_token_id_key on private.git_connections (token_id);
comment on table private.git_connections is 'The accounts of people at Git providers; at most one a person and provider.';

-- A consent that was begun: single use, ten minutes, bound to person, organization and provider.
create table private.connection_states (
  state_hash bytea primary key,
  user_id uuid not null references public.users (id) on delete cascade,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  provider text not null,
  -- Set for a directory, which is connected to a project.
  project_id uuid,
  redirect_uri text not null,
  -- The page that began it, which alone may hear how it ended.
  origin text not null,
  sealed_verifier text not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null default now() + interval '10 minutes',
  taken_at timestamptz,
  constraint connection_states_project_fkey foreign key (organization_id, project_id) references public.projects (organization_id, id) on delete cascade,
  constraint connection_states_provider_check check ((project_id is null) = (provider in ('github', 'gitlab', 'bitbucket', 'azure'))),
  constraint connection_states_texts_check check (octet_length(state_hash) = 32 and char_length(redirect_uri) <= 500 and char_length(origin) <= 300
    and sealed_verifier like 'v1.%' and char_length(sealed_verifier) <= 1000)
);
alter table private.connection_states enable row level security;
alter table private.connection_states force row level security;
create index connection_states_user_id_idx on private.connection_states (user_id, created_at desc);
create index connection_states_organization_id_project_id_idx on private.connection_states (organization_id, project_id);
create index connection_states_expires_at_idx on private.connection_states (expires_at);
comment on table private.connection_states is 'Consents at providers that were begun and have not ended.';

-- What a provider said of a repository, to the person who asked.
create table private.repository_checks (
  user_id uuid not null references public.users (id) on delete cascade,
  url text not null,
  provider text not null,
  info jsonb not null,
  checked_at timestamptz not null default now(),
  primary key (user_id, url),
  constraint repository_checks_info_check check (char_length(url) <= 500 and octet_length(info::text) <= 16384)
);
alter table private.repository_checks enable row level security;
alter table private.repository_checks force row level security;
create index repository_checks_checked_at_idx on private.repository_checks (checked_at);
comment on table private.repository_checks is 'RepoInfo of repositories, kept ten minutes a person and address.';

create table private.directory_syncs (
  project_id uuid primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  provider text not null,
  token_id uuid not null references private.provider_tokens (id) on delete cascade,
  last_sync_at timestamptz,
  group_count integer,
  member_count integer,
  error text,
  connected_by uuid references public.users (id) on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint directory_syncs_project_fkey foreign key (organization_id, project_id) references public.projects (organization_id, id) on delete cascade,
  constraint directory_syncs_provider_check check (provider in ('okta', 'azure_ad')),
  constraint directory_syncs_counts_check check (group_count >= 0 and member_count >= 0),
  constraint directory_syncs_error_check check (char_length(error) <= 500)
);
alter table private.directory_syncs enable row level security;
alter table private.directory_syncs force row level security;
create unique index directory_syncs_token_id_key on private.directory_syncs (token_id);
create index directory_syncs_organization_id_project_id_idx on private.directory_syncs (organization_id, project_id);
create index directory_syncs_connected_by_idx on private.directory_syncs (connected_by);
create index directory_syncs_last_sync_at_idx on private.directory_syncs (last_sync_at);
comment on table private.directory_syncs is 'Directories whose people are members of a project; at most one a project.';

create table private.directory_members (
  member_id uuid primary key references public.project_members (id) on delete cascade,
  project_id uuid not null references private.directory_syncs (project_id) on delete cascade
);
alter table private.directory_members enable row level security;
alter table private.directory_members force row level security;
create index directory_members_project_id_idx on private.directory_members (project_id);
comment on table private.directory_members is 'Members that a directory brought, and will take along when they leave it.';

insert into private.schedules (name, every) values ('connections.due', interval '5 minutes');

---- create above / drop below ----

delete from private.schedules where name = 'connections.due';
drop table private.directory_members, private.directory_syncs, private.repository_checks, private.connection_states, private.git_connections,
  private.provider_tokens;
