-- Projects and what they are made of (contract 10). A project belongs to one organization and one owner; its sources are
-- repositories, stored files, extra texts and one manual text. Every child carries organization_id and project_id and points at the
-- pair, so that no row can be hung under a project of another tenant. Ingestion's tables follow in the next migration.

-- These three are used by checks below, so they live here and are frozen.

-- What "after trimming" means: white space of any script at both ends goes.
create function private.trimmed(p_text text) returns text
language sql immutable parallel safe
return regexp_replace(p_text, '^[\s\u00a0\ufeff]+|[\s\u00a0\ufeff]+$', '', 'g');
comment on function private.trimmed is 'The text without white space at its ends.';

create function private.is_plain(p_text text) returns boolean
language sql immutable parallel safe
return p_text !~ '[\u0001-\u001f\u007f-\u009f]';
comment on function private.is_plain is 'Has the text no control characters?';

-- An object of exactly these switches.
create function private.is_switches(p_value jsonb, p_keys text[]) returns boolean
language sql immutable parallel safe
return jsonb_typeof(p_value) = 'object' and p_value ?& p_keys and p_value - p_keys = '{}'
  and not jsonb_path_exists(p_value, 'strict $.* ? (@.type() != "boolean")');
comment on function private.is_switches is 'Is the value an object of exactly these keys, each true or false?';

-- A list of at most 100 texts of 1 to 200 characters. No subquery: a function with one is planned at every call.
create function private.is_patterns(p_value jsonb) returns boolean
language sql immutable parallel safe
return jsonb_typeof(p_value) = 'array' and jsonb_array_length(p_value) <= 100
  and not jsonb_path_exists(p_value, 'strict $[*] ? (@.type() != "string" || !(@ like_regex "^.{1,200}$" flag "s"))');
comment on function private.is_patterns is 'Is the value a JSON array of at most 100 patterns?';

-- Postgres reads and plans every CHECK anew in each statement, so a dozen of them cost more than the INSERT that they guard. Tables that
-- every new project writes to have one, which asks a function: plpgsql keeps its plans. The function names the broken rule as a
-- constraint of its own would be named.
create function private.refuse_row(p_table text, p_rule text) returns boolean
language plpgsql immutable parallel safe
as $$
begin
  raise check_violation using schema = 'public', table = p_table, constraint = p_rule,
    message = format('new row for relation "%s" violates check constraint "%s"', p_table, p_rule);
end
$$;
comment on function private.refuse_row is 'Raises the error of a broken CHECK constraint.';

-- What the programs of this installation offer, for rules that depend on it (vectors, self-hosted Git hosts).
create table private.installation (
  key text primary key,
  value jsonb not null,
  updated_at timestamptz not null default now()
);
alter table private.installation enable row level security;
alter table private.installation force row level security;
comment on table private.installation is 'Declared by server and worker at their start; see private.declare_installation.';

-- ---------------------------------------------------------------------------------------------------------------------------------
create table public.projects (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  -- The owner. No action, not restrict: a leaving person's projects are given to the organization's owner within the statement.
  user_id uuid not null references public.users (id) on delete no action,
  name text not null,
  description text,
  type text not null default 'manual',
  status text not null default 'draft',
  privacy text not null default 'private',
  chunking_strategy text not null default 'semantic',
  include_metadata boolean not null default true,
  anonymize_secrets boolean not null default true,
  -- Null: the initials of the name, computed at reading.
  icon jsonb,
  label text,
  color text,
  preview_url text,
  archived boolean not null default false,
  -- Counters, moved by triggers only. uploaded_files counts stored files; total_files is the last completed run's number.
  total_repos integer not null default 0,
  uploaded_files integer not null default 0,
  root_files integer not null default 0,
  text_sources integer not null default 0,
  has_manual_content boolean not null default false,
  source_count integer not null generated always as (total_repos + root_files + text_sources + has_manual_content::integer) stored,
  -- The owner counts from the start.
  accepted_members integer not null default 1,
  total_files integer,
  original_tokens bigint,
  optimized_tokens bigint,
  ingestion_time_seconds integer,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint projects_organization_id_id_key unique (organization_id, id)
) with (fillfactor = 85);
alter table public.projects enable row level security;
alter table public.projects force row level security;
create function private.assert_projects_row(r public.projects) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (r.name = private.trimmed(r.name) and char_length(r.name) between 3 and 50 and private.is_plain(r.name))
      then 'projects_name_check'
    when not (char_length(r.description) <= 2000) then 'projects_description_check'
    when not (r.type in ('repository', 'files', 'manual')) then 'projects_type_check'
    when not (r.status in ('draft', 'processing', 'active', 'error')) then 'projects_status_check'
    when not (r.privacy in ('private', 'shared')) then 'projects_privacy_check'
    when not (r.chunking_strategy in ('semantic', 'fixed', 'recursive', 'custom')) then 'projects_chunking_strategy_check'
    when not (jsonb_typeof(r.icon) = 'object' and r.icon ?& array['type', 'value']
      and r.icon ->> 'type' in ('emoji', 'initials', 'image') and r.icon ->> 'value' <> '' and octet_length(r.icon::text) <= 65536)
      then 'projects_icon_check'
    when not (char_length(r.label) between 1 and 20) then 'projects_label_check'
    when not (r.color ~ '^#[0-9a-fA-F]{6}$') then 'projects_color_check'
    when not (r.preview_url ~ '^https://[^\s]+$' and char_length(r.preview_url) <= 500) then 'projects_preview_url_check'
    when not (r.total_repos >= 0 and r.uploaded_files >= 0 and r.root_files >= 0 and r.text_sources >= 0 and r.accepted_members >= 0
      and r.total_files >= 0 and r.original_tokens >= 0 and r.optimized_tokens >= 0 and r.ingestion_time_seconds >= 0)
      then 'projects_counters_check'
  end;
begin
  return v_rule is null or private.refuse_row('projects', v_rule);
end
$$;
comment on function private.assert_projects_row is 'The rules of a row of public.projects, by name.';
alter table public.projects add constraint projects_rules check (private.assert_projects_row(projects));
create unique index projects_organization_id_name_key on public.projects (organization_id, lower(name));
create index projects_user_id_idx on public.projects (user_id);
-- The orders of the list, for those who see everything (by name: the unique index); and the shared ones alone, for those who don't.
create index projects_organization_id_updated_at_idx on public.projects (organization_id, updated_at desc, id);
create index projects_organization_id_source_count_idx on public.projects (organization_id, source_count desc, id);
create index projects_shared_updated_at_idx on public.projects (organization_id, updated_at desc, id) where privacy = 'shared';
comment on table public.projects is 'A project: its sources become indexed chunks. One organization, one owner, any number of members. A context id is a project id.';
comment on constraint projects_user_id_fkey on public.projects is
  'No action: a leaving person''s projects are given to the organization''s owner within the statement.';
comment on column public.projects.status is 'Written by ingestion only; the state machine is a trigger.';

-- How many projects an organization has, so that a page never counts. Eight rows a kind keep writers of one organization apart;
-- one row of them alone may be negative, their sum is exact.
create table private.project_counters (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  privacy text not null,
  slot smallint not null,
  projects bigint not null default 0,
  active bigint not null default 0,
  processing bigint not null default 0,
  failed bigint not null default 0,
  tokens bigint not null default 0,
  files bigint not null default 0,
  primary key (organization_id, privacy, slot),
  constraint project_counters_slot_check check (slot between 0 and 7)
) with (fillfactor = 50);
alter table private.project_counters enable row level security;
alter table private.project_counters force row level security;
comment on table private.project_counters is 'Numbers of projects per organization and privacy, moved by a trigger on public.projects.';

-- ---------------------------------------------------------------------------------------------------------------------------------
-- Who takes part in a project. A row without accepted_at is a pending invitation and opens nothing.
create table public.project_members (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  -- Null exactly while pending. A guest's organization is another one than the project's, so there is no pair to point at.
  user_id uuid references public.users (id) on delete cascade,
  email text not null,
  name text,
  avatar_url text,
  role text not null default 'viewer',
  notify_on_ingestion boolean not null default true,
  notify_on_error boolean not null default true,
  notify_on_team_changes boolean not null default true,
  notification_level text not null default 'daily',
  invited_by uuid references public.users (id) on delete set null,
  invited_at timestamptz not null default now(),
  accepted_at timestamptz,
  last_active_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint project_members_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade
) with (fillfactor = 85);
alter table public.project_members enable row level security;
alter table public.project_members force row level security;
create function private.assert_project_members_row(r public.project_members) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (char_length(r.email) between 3 and 255 and r.email = lower(private.trimmed(r.email))
      and r.email ~ '^[^@\s]+@[^@\s]+\.[^@\s]+$') then 'project_members_email_check'
    when not (char_length(r.name) <= 100) then 'project_members_name_check'
    when not (char_length(r.avatar_url) <= 500) then 'project_members_avatar_url_check'
    when not (r.role in ('admin', 'manager', 'developer', 'viewer', 'auditor')) then 'project_members_role_check'
    when not (r.notification_level in ('real-time', 'daily', 'weekly', 'disabled')) then 'project_members_notification_level_check'
    when not ((r.accepted_at is null) = (r.user_id is null)) then 'project_members_pending_has_no_user'
  end;
begin
  return v_rule is null or private.refuse_row('project_members', v_rule);
end
$$;
comment on function private.assert_project_members_row is 'The rules of a row of public.project_members, by name.';
alter table public.project_members add constraint project_members_rules check (private.assert_project_members_row(project_members));
create unique index project_members_project_id_user_id_key on public.project_members (project_id, user_id) where user_id is not null;
create unique index project_members_project_id_email_key on public.project_members (project_id, email);
create index project_members_organization_id_project_id_idx on public.project_members (organization_id, project_id, invited_at, id);
-- What a person may see: read once a statement by the policies of everything in projects.
create index project_members_user_id_idx on public.project_members (user_id, organization_id, project_id) include (role)
  where accepted_at is not null;
create index project_members_last_active_idx on public.project_members (project_id, last_active_at desc)
  where accepted_at is not null and last_active_at is not null;
create index project_members_invited_by_idx on public.project_members (invited_by);
comment on table public.project_members is 'Members and pending invitations of a project. The owner is an accepted admin member too.';

create table public.project_stars (
  user_id uuid not null references public.users (id) on delete cascade,
  project_id uuid not null,
  organization_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (user_id, project_id),
  constraint project_stars_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade
);
alter table public.project_stars enable row level security;
alter table public.project_stars force row level security;
create index project_stars_organization_id_project_id_idx on public.project_stars (organization_id, project_id);
comment on table public.project_stars is 'Stars are per user; a row is a star.';

-- ---------------------------------------------------------------------------------------------------------------------------------
-- Settings beyond the three switches that live in the project's own row (chunking_strategy, include_metadata, anonymize_secrets).
create table public.project_settings (
  project_id uuid primary key,
  organization_id uuid not null,
  webhook_url text,
  metadata_options jsonb not null default
    '{"functionSignatures": true, "importDependencies": true, "gitHistory": true, "fileStructure": true, "customAnnotations": false}',
  output_format text not null default 'json',
  embedding_model text,
  pattern_filters jsonb not null default '{"languagePatterns": [], "excludePatterns": []}',
  processing_options jsonb not null default '{"parallelProcessing": true, "realTimeIncremental": false}',
  file_filters jsonb not null default
    '{"excludeNodeModules": true, "excludeBuildArtifacts": true, "excludeTests": true, "includeDocumentation": false}',
  default_notification_level text not null default 'daily',
  persona text,
  custom_settings jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint project_settings_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade
);
alter table public.project_settings enable row level security;
alter table public.project_settings force row level security;
create function private.assert_project_settings_row(r public.project_settings) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (r.webhook_url ~ '^https://[^\s]+$' and char_length(r.webhook_url) <= 500) then 'project_settings_webhook_url_check'
    when not (private.is_switches(r.metadata_options,
      array['functionSignatures', 'importDependencies', 'gitHistory', 'fileStructure', 'customAnnotations']))
      then 'project_settings_metadata_options_check'
    when not (r.output_format in ('json', 'markdown', 'vector')) then 'project_settings_output_format_check'
    when not (r.embedding_model in ('text-embedding-3-small', 'text-embedding-3-large', 'text-embedding-ada-002'))
      then 'project_settings_embedding_model_check'
    when not (jsonb_typeof(r.pattern_filters) = 'object' and r.pattern_filters ?& array['languagePatterns', 'excludePatterns']
      and r.pattern_filters - array['languagePatterns', 'excludePatterns'] = '{}'
      and private.is_patterns(r.pattern_filters -> 'languagePatterns') and private.is_patterns(r.pattern_filters -> 'excludePatterns'))
      then 'project_settings_pattern_filters_check'
    when not (private.is_switches(r.processing_options, array['parallelProcessing', 'realTimeIncremental']))
      then 'project_settings_processing_options_check'
    when not (private.is_switches(r.file_filters,
      array['excludeNodeModules', 'excludeBuildArtifacts', 'excludeTests', 'includeDocumentation']))
      then 'project_settings_file_filters_check'
    when not (r.default_notification_level in ('real-time', 'daily', 'weekly', 'disabled')) then 'project_settings_level_check'
    when not (r.persona in ('alex', 'maya', 'sam')) then 'project_settings_persona_check'
    when not (jsonb_typeof(r.custom_settings) = 'object' and octet_length(r.custom_settings::text) <= 16384)
      then 'project_settings_custom_check'
  end;
begin
  return v_rule is null or private.refuse_row('project_settings', v_rule);
end
$$;
comment on function private.assert_project_settings_row is 'The rules of a row of public.project_settings, by name.';
alter table public.project_settings add constraint project_settings_rules check (private.assert_project_settings_row(project_settings));
create index project_settings_organization_id_project_id_idx on public.project_settings (organization_id, project_id);
comment on table public.project_settings is 'One row a project. The secret of the chunking webhook is in private.project_webhook_secrets.';

-- Apart from the settings, because those are readable; nobody but the worker opens this one.
create table private.project_webhook_secrets (
  project_id uuid primary key references public.project_settings (project_id) on delete cascade,
  sealed text not null,
  created_at timestamptz not null default now(),
  constraint project_webhook_secrets_sealed_check check (char_length(sealed) between 1 and 1000)
);
alter table private.project_webhook_secrets enable row level security;
alter table private.project_webhook_secrets force row level security;
comment on table private.project_webhook_secrets is 'Secrets of custom chunking webhooks, encrypted by the server before they come here.';

create table public.project_manual_contents (
  project_id uuid primary key,
  organization_id uuid not null,
  content text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint project_manual_contents_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint project_manual_contents_content_check check (char_length(private.trimmed(content)) >= 10 and char_length(content) <= 500000)
);
alter table public.project_manual_contents enable row level security;
alter table public.project_manual_contents force row level security;
create index project_manual_contents_organization_id_project_id_idx on public.project_manual_contents (organization_id, project_id);
comment on table public.project_manual_contents is 'The one text typed by hand; no row means none.';

-- ---------------------------------------------------------------------------------------------------------------------------------
create table public.project_repositories (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  provider text not null,
  repository_url text not null,
  repository_name text not null,
  branch text not null default 'main',
  status text not null default 'pending',
  -- What a cancelled run puts back.
  status_before_sync text,
  last_sync_at timestamptz,
  last_commit_hash text,
  file_count integer,
  include_paths jsonb not null default '[]',
  exclude_paths jsonb not null default '[]',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint project_repositories_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint project_repositories_project_id_id_key unique (project_id, id),
  constraint project_repositories_project_id_url_branch_key unique (project_id, repository_url, branch),
  constraint project_repositories_provider_check check (provider in ('github', 'gitlab', 'bitbucket', 'azure')),
  constraint project_repositories_url_check check (repository_url ~ '^https?://[^\s]+$' and char_length(repository_url) <= 500),
  constraint project_repositories_name_check check (char_length(repository_name) between 1 and 200),
  constraint project_repositories_branch_check check (char_length(branch) between 1 and 100),
  constraint project_repositories_status_check check (status in ('pending', 'connected', 'syncing', 'error')),
  constraint project_repositories_status_before_check check (status_before_sync in ('pending', 'connected', 'error')),
  constraint project_repositories_commit_check check (last_commit_hash ~ '^[0-9a-f]{1,64}$'),
  constraint project_repositories_file_count_check check (file_count >= 0),
  constraint project_repositories_paths_check check (private.is_patterns(include_paths) and private.is_patterns(exclude_paths))
);
alter table public.project_repositories enable row level security;
alter table public.project_repositories force row level security;
create index project_repositories_organization_id_project_id_idx
  on public.project_repositories (organization_id, project_id, created_at, id);
comment on table public.project_repositories is 'Git repositories of a project; the URL is stored normalised (https://host/path without .git).';

-- ---------------------------------------------------------------------------------------------------------------------------------
-- Files and folders of a project, one tree. `path` is the place in the tree written out, and unique; siblings' names are unique
-- without regard to case. What a fetch brought (origin repository) hangs under its repository and has no stored blob.
create table public.project_files (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  parent_id uuid,
  repository_id uuid,
  uploaded_by uuid references public.users (id) on delete set null,
  origin text not null default 'upload',
  is_folder boolean not null default false,
  name text not null,
  path text not null,
  position integer not null default 0,
  mime_type text not null default 'application/octet-stream',
  size bigint not null default 0,
  checksum text,
  storage_key text,
  storage_provider text not null default 'local',
  processed boolean not null default false,
  processed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint project_files_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint project_files_project_id_id_key unique (project_id, id),
  -- Checked at the end of the statement: moving a folder rewrites the paths below it.
  constraint project_files_project_id_path_key unique (project_id, path) deferrable initially immediate,
  constraint project_files_parent_id_fkey foreign key (project_id, parent_id)
    references public.project_files (project_id, id) on delete cascade,
  constraint project_files_repository_id_fkey foreign key (project_id, repository_id)
    references public.project_repositories (project_id, id) on delete cascade,
  constraint project_files_origin_check check (origin in ('upload', 'text', 'repository')),
  constraint project_files_origin_fits check ((origin = 'repository') = (repository_id is not null)),
  constraint project_files_name_check check (char_length(name) between 1 and 255 and name !~ '/' and name not in ('.', '..')
    and private.is_plain(name)),
  constraint project_files_path_check check (char_length(path) between 1 and 1000 and (path = name or right(path, char_length(name) + 1) = '/' || name)
    and path !~ '(^|/)(\.{1,2})?(/|$)' and private.is_plain(path)),
  constraint project_files_mime_type_check check (char_length(mime_type) between 1 and 100),
  constraint project_files_size_check check (size >= 0),
  constraint project_files_position_check check (position >= 0),
  constraint project_files_checksum_check check (checksum ~ '^[0-9a-f]{64}$'),
  constraint project_files_storage_check check (char_length(storage_key) between 16 and 500 and char_length(storage_provider) <= 50),
  constraint project_files_folder_is_empty check (not is_folder or (size = 0 and storage_key is null and checksum is null)),
  constraint project_files_stored check ((storage_key is not null) = (not is_folder and origin <> 'repository')),
  constraint project_files_not_its_own_parent check (parent_id <> id)
);
alter table public.project_files enable row level security;
alter table public.project_files force row level security;
create unique index project_files_siblings_key
  on public.project_files (project_id, coalesce(parent_id, '00000000-0000-0000-0000-000000000000'), lower(name));
-- A blob has one owner: nobody can lay hands on another tenant's by naming its key.
create unique index project_files_storage_key_key on public.project_files (storage_key) where storage_key is not null;
create index project_files_organization_id_project_id_idx on public.project_files (organization_id, project_id);
create index project_files_parent_id_idx on public.project_files (project_id, parent_id, position);
create index project_files_repository_id_idx on public.project_files (project_id, repository_id) where repository_id is not null;
create index project_files_uploaded_by_idx on public.project_files (uploaded_by);
comment on table public.project_files is 'Stored and fetched files with their folders, one tree a project. Storage keys are never shown.';

-- Uploaded, not yet attached to a project; gone after 24 hours.
create table public.staged_files (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references public.users (id) on delete cascade,
  name text not null,
  path text not null,
  mime_type text not null,
  size bigint not null,
  checksum text not null,
  storage_key text not null,
  storage_provider text not null default 'local',
  -- True only within the transaction that attaches it.
  attached boolean not null default false,
  created_at timestamptz not null default now(),
  constraint staged_files_name_check check (char_length(name) between 1 and 255 and name !~ '/' and private.is_plain(name)),
  constraint staged_files_path_check check (char_length(path) between 1 and 1000 and path !~ '(^|/)(\.{1,2})?(/|$)' and private.is_plain(path)),
  constraint staged_files_mime_type_check check (char_length(mime_type) between 1 and 100),
  constraint staged_files_size_check check (size > 0),
  constraint staged_files_checksum_check check (checksum ~ '^[0-9a-f]{64}$'),
  constraint staged_files_storage_check check (char_length(storage_key) between 16 and 500 and char_length(storage_provider) <= 50)
);
alter table public.staged_files enable row level security;
alter table public.staged_files force row level security;
create unique index staged_files_storage_key_key on public.staged_files (storage_key);
create index staged_files_organization_id_user_id_idx on public.staged_files (organization_id, user_id);
create index staged_files_user_id_idx on public.staged_files (user_id);
create index staged_files_created_at_idx on public.staged_files (created_at);
comment on table public.staged_files is 'Uploads waiting to be attached, seen by their uploader only.';

-- ---------------------------------------------------------------------------------------------------------------------------------
-- Named views of a project's branches. Nothing here is pushed to a provider.
create table public.worktrees (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  name text not null,
  path text not null,
  is_default boolean not null default false,
  is_active boolean not null default false,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default now(),
  constraint worktrees_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint worktrees_project_id_id_key unique (project_id, id)
);
alter table public.worktrees enable row level security;
alter table public.worktrees force row level security;
create function private.assert_worktrees_row(r public.worktrees) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (r.name = private.trimmed(r.name) and char_length(r.name) between 1 and 100 and private.is_plain(r.name))
      then 'worktrees_name_check'
    when not (char_length(r.path) between 2 and 101) then 'worktrees_path_check'
  end;
begin
  return v_rule is null or private.refuse_row('worktrees', v_rule);
end
$$;
comment on function private.assert_worktrees_row is 'The rules of a row of public.worktrees, by name.';
alter table public.worktrees add constraint worktrees_rules check (private.assert_worktrees_row(worktrees));
create unique index worktrees_project_id_name_key on public.worktrees (project_id, lower(name));
create unique index worktrees_one_active_key on public.worktrees (project_id) where is_active;
create unique index worktrees_one_default_key on public.worktrees (project_id) where is_default;
create index worktrees_organization_id_project_id_idx on public.worktrees (organization_id, project_id, created_at, id);
comment on table public.worktrees is 'Worktrees of the dashboard: at most one active and one default a project.';

create table public.worktree_branches (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  worktree_id uuid not null,
  name text not null,
  is_default boolean not null default false,
  is_current boolean not null default false,
  -- Made by hand: a fetch leaves it alone.
  is_manual boolean not null default false,
  -- Null: no commit is known yet.
  last_commit_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default now(),
  constraint worktree_branches_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint worktree_branches_worktree_id_fkey foreign key (project_id, worktree_id)
    references public.worktrees (project_id, id) on delete cascade,
  constraint worktree_branches_worktree_id_name_key unique (worktree_id, name)
);
alter table public.worktree_branches enable row level security;
alter table public.worktree_branches force row level security;
create function private.assert_worktree_branches_row(r public.worktree_branches) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (char_length(private.trimmed(r.name)) >= 1 and char_length(r.name) <= 100 and private.is_plain(r.name))
      then 'worktree_branches_name_check'
  end;
begin
  return v_rule is null or private.refuse_row('worktree_branches', v_rule);
end
$$;
comment on function private.assert_worktree_branches_row is 'The rules of a row of public.worktree_branches, by name.';
alter table public.worktree_branches add constraint worktree_branches_rules check (private.assert_worktree_branches_row(worktree_branches));
create unique index worktree_branches_one_default_key on public.worktree_branches (worktree_id) where is_default;
create unique index worktree_branches_one_current_key on public.worktree_branches (worktree_id) where is_current;
create index worktree_branches_project_id_worktree_id_idx on public.worktree_branches (project_id, worktree_id);
create index worktree_branches_organization_id_project_id_idx on public.worktree_branches (organization_id, project_id);
comment on table public.worktree_branches is 'Branches as a worktree shows them.';

-- ---------------------------------------------------------------------------------------------------------------------------------
-- What people did in a project. Name and e-mail are kept as they were, so that entries outlive their people.
create table public.project_activity (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  type text not null,
  -- Null: the system.
  user_id uuid references public.users (id) on delete set null,
  user_name text not null,
  user_email text not null,
  description text not null,
  metadata jsonb,
  -- What may be said once only, for example one view a user and hour.
  once_key text,
  created_at timestamptz not null default clock_timestamp(),
  constraint project_activity_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade
);
alter table public.project_activity enable row level security;
alter table public.project_activity force row level security;
create function private.assert_project_activity_row(r public.project_activity) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (r.type in ('view', 'chat', 'ingestion', 'permission', 'config')) then 'project_activity_type_check'
    when not (char_length(r.description) between 1 and 500) then 'project_activity_description_check'
    when not (jsonb_typeof(r.metadata) = 'object') then 'project_activity_metadata_check'
  end;
begin
  return v_rule is null or private.refuse_row('project_activity', v_rule);
end
$$;
comment on function private.assert_project_activity_row is 'The rules of a row of public.project_activity, by name.';
alter table public.project_activity add constraint project_activity_rules check (private.assert_project_activity_row(project_activity));
create index project_activity_organization_id_project_id_idx
  on public.project_activity (organization_id, project_id, created_at desc, id desc);
create index project_activity_user_id_idx on public.project_activity (user_id, project_id, created_at desc);
create index project_activity_created_at_idx on public.project_activity (created_at);
create unique index project_activity_once_key on public.project_activity (project_id, user_id, once_key) where once_key is not null;
comment on table public.project_activity is 'Append-only activity log of a project, kept 400 days.';

---- create above / drop below ----

drop table public.project_activity, public.worktree_branches, public.worktrees, public.staged_files, public.project_files,
  public.project_repositories, public.project_manual_contents, private.project_webhook_secrets, public.project_settings,
  public.project_stars, public.project_members, private.project_counters, public.projects, private.installation cascade;
drop function private.refuse_row(text, text), private.is_patterns(jsonb), private.is_switches(jsonb, text[]), private.is_plain(text),
  private.trimmed(text) cascade;
