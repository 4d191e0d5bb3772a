-- A context is a project seen as numbered versions of a set of files (contract 60, sections 1 to 4). An ingestion brings file operations;
-- the state of a version is the fold of the operations up to its number; the current set is the fold of all.

-- The content of files, once a project: tenants and projects share nothing.
create table public.content_blobs (
  organization_id uuid not null,
  project_id uuid not null,
  -- SHA-256 of the content.
  hash bytea not null,
  -- UTF-8 text as ingested (decoded, secrets masked), or the bytes of a binary file.
  content bytea not null,
  is_binary boolean not null default false,
  tokens bigint not null default 0,
  lines integer not null default 0,
  created_at timestamptz not null default now(),
  constraint content_blobs_pkey primary key (project_id, hash),
  constraint content_blobs_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint content_blobs_hash_check check (octet_length(hash) = 32),
  constraint content_blobs_sizes_check check (tokens >= 0 and lines >= 0)
);
alter table public.content_blobs enable row level security;
alter table public.content_blobs force row level security;
create index content_blobs_organization_id_project_id_idx on public.content_blobs (organization_id, project_id);
do $$
begin
  alter table public.content_blobs alter column content set compression lz4;
exception when feature_not_supported then
  null;
end
$$;
comment on table public.content_blobs is 'Content of files by hash, never shared between projects; a sweep removes what no operation names.';

-- The number of a version is never given twice, also not after the entry is deleted.
create table private.context_counters (
  project_id uuid primary key,
  organization_id uuid not null,
  last_number integer not null default 0,
  -- The highest number that became ready, also if it was deleted since.
  current_number integer not null default 0,
  constraint context_counters_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint context_counters_numbers_check check (current_number between 0 and last_number)
);
alter table private.context_counters enable row level security;
alter table private.context_counters force row level security;
create index context_counters_organization_id_project_id_idx on private.context_counters (organization_id, project_id);
comment on table private.context_counters is 'The next number of a context''s ingestions; its row is the lock that orders them.';

create table public.context_ingestions (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  number integer not null,
  -- content: a run brings files. declared: the client's numbers only (contract 60, 3.3 c). rollback: restores target_number.
  kind text not null default 'content',
  status text not null default 'processing',
  -- Null for an entry of all sources.
  source_type text,
  -- What the run ingests: {} for all sources, else {"repositoryIds", "fileIds", "manual"}.
  sources jsonb not null default '{}',
  target_number integer,
  run_id uuid,
  display_name text,
  description text,
  tags text[] not null default '{}',
  -- Compression is wanted when the content is there.
  wants_compression boolean not null default false,
  compressed boolean not null default false,
  never_compress boolean not null default false,
  chromacode jsonb,
  files_added integer not null default 0,
  files_removed integer not null default 0,
  files_modified integer not null default 0,
  -- Uncompressed tokens of what it added or modified.
  tokens bigint not null default 0,
  compressed_tokens bigint,
  error_code text,
  error_message text,
  created_by uuid references public.users (id) on delete set null,
  created_at timestamptz not null default clock_timestamp(),
  ready_at timestamptz,
  updated_at timestamptz not null default now(),
  constraint context_ingestions_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint context_ingestions_project_id_number_key unique (project_id, number),
  constraint context_ingestions_project_id_id_key unique (project_id, id),
  constraint context_ingestions_run_id_fkey foreign key (organization_id, project_id, run_id)
    references public.ingestion_runs (organization_id, project_id, id) on delete set null (run_id),
  constraint context_ingestions_number_check check (number >= 1),
  constraint context_ingestions_compression_check check (not (compressed and never_compress)),
  constraint context_ingestions_compressed_tokens_check check ((compressed_tokens is not null) = compressed and compressed_tokens between 0 and tokens),
  constraint context_ingestions_counts_check check (files_added >= 0 and files_removed >= 0 and files_modified >= 0 and tokens >= 0)
);
alter table public.context_ingestions enable row level security;
alter table public.context_ingestions force row level security;
create function private.assert_context_ingestions_row(r public.context_ingestions) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (r.kind in ('content', 'declared', 'rollback')) then 'context_ingestions_kind_check'
    when not (r.status in ('processing', 'ready', 'failed')) then 'context_ingestions_status_check'
    when not (r.source_type in ('file', 'repo', 'text')) then 'context_ingestions_source_type_check'
    when not (r.display_name = private.trimmed(r.display_name) and char_length(r.display_name) between 1 and 255)
      then 'context_ingestions_display_name_check'
    when not (char_length(r.description) between 1 and 2000) then 'context_ingestions_description_check'
    when not (cardinality(r.tags) <= 150) then 'context_ingestions_tags_check'
  end;
begin
  return v_rule is null or private.refuse_row('context_ingestions', v_rule);
end
$$;
comment on function private.assert_context_ingestions_row is 'The rules of a row of public.context_ingestions, by name.';
alter table public.context_ingestions add constraint context_ingestions_rules check (private.assert_context_ingestions_row(context_ingestions));
create index context_ingestions_organization_id_project_id_idx on public.context_ingestions (organization_id, project_id, number desc);
create index context_ingestions_organization_id_project_id_run_id_idx
  on public.context_ingestions (organization_id, project_id, run_id) where run_id is not null;
create index context_ingestions_waiting_idx on public.context_ingestions (project_id, number) where status = 'processing';
create index context_ingestions_created_by_idx on public.context_ingestions (created_by);
comment on table public.context_ingestions is 'Numbered ingestions of a context, which are also its versions.';

create table public.context_file_ops (
  organization_id uuid not null,
  project_id uuid not null,
  ingestion_id uuid not null,
  -- That of the ingestion, so that a fold reads one index.
  number integer not null,
  path text not null,
  operation text not null,
  -- Null when removed.
  hash bytea,
  -- Who contributed the content: repository (which one), file, text or manual. A rollback keeps the origin of what it restores.
  origin text not null,
  repository_id uuid,
  constraint context_file_ops_pkey primary key (ingestion_id, path),
  constraint context_file_ops_ingestion_id_fkey foreign key (project_id, ingestion_id)
    references public.context_ingestions (project_id, id) on delete cascade,
  -- No foreign key to content_blobs: the sweep asks for the operations that name a blob.
  constraint context_file_ops_operation_check check (operation in ('added', 'modified', 'removed') and (hash is null) = (operation = 'removed')),
  constraint context_file_ops_origin_check check (origin in ('repository', 'file', 'text', 'manual')),
  constraint context_file_ops_hash_check check (octet_length(hash) = 32)
);
alter table public.context_file_ops enable row level security;
alter table public.context_file_ops force row level security;
-- State(v) is one walk over this index: the last operation of each path up to v.
create index context_file_ops_fold_idx on public.context_file_ops (project_id, path collate "C", number desc) include (operation, hash);
create index context_file_ops_organization_id_project_id_idx on public.context_file_ops (organization_id, project_id, number);
create index context_file_ops_hash_idx on public.context_file_ops (project_id, hash) where hash is not null;
comment on table public.context_file_ops is 'What each ingestion added, modified and removed: the history of a context''s files.';

-- The current set, kept equal to the fold of the operations in the transaction of whatever changes one of them.
create table public.context_files (
  organization_id uuid not null,
  project_id uuid not null,
  -- Kept while the path stays in the set, so that selection, embeddings and chat survive a change of content.
  id uuid not null default gen_random_uuid(),
  path text not null,
  -- The operation that put this content here.
  number integer not null,
  hash bytea not null,
  origin text not null,
  repository_id uuid,
  language text not null default 'text',
  is_binary boolean not null default false,
  bytes bigint not null,
  tokens bigint not null,
  -- Removed in the explorer tree or with its repository: no part of the current set, though versions keep it.
  is_hidden boolean not null default false,
  updated_at timestamptz not null default now(),
  constraint context_files_pkey primary key (project_id, id),
  constraint context_files_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint context_files_origin_check check (origin in ('repository', 'file', 'text', 'manual')),
  constraint context_files_hash_check check (octet_length(hash) = 32),
  constraint context_files_sizes_check check (bytes >= 0 and tokens >= 0)
);
alter table public.context_files enable row level security;
alter table public.context_files force row level security;
create unique index context_files_project_id_path_key on public.context_files (project_id, path collate "C");
create index context_files_organization_id_project_id_idx on public.context_files (organization_id, project_id);
create index context_files_hash_idx on public.context_files (project_id, hash);
comment on table public.context_files is 'The current file set of a context: the fold of its operations.';

-- What a run found in its sources, until the run ends: its comparison with the current set is the ingestion's operations.
create table private.run_manifests (
  run_id uuid not null references public.ingestion_runs (id) on delete cascade,
  path text not null,
  hash bytea not null,
  origin text not null,
  repository_id uuid,
  language text not null,
  is_binary boolean not null default false,
  bytes bigint not null,
  tokens bigint not null,
  constraint run_manifests_pkey primary key (run_id, path),
  constraint run_manifests_hash_check check (octet_length(hash) = 32)
);
alter table private.run_manifests enable row level security;
alter table private.run_manifests force row level security;
comment on table private.run_manifests is 'The files that an open run found in the sources that it covers.';

create table public.context_changelog (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  type text not null,
  -- Of an ingestion entry.
  number integer,
  -- Null: the system. Name and address are kept as they were.
  user_id uuid references public.users (id) on delete set null,
  user_name text not null,
  user_email text not null,
  files_added integer,
  files_removed integer,
  files_modified integer,
  description text,
  created_at timestamptz not null default clock_timestamp(),
  constraint context_changelog_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint context_changelog_type_check check (type in ('ingestion', 'enrichment', 'config', 'access')),
  constraint context_changelog_number_check check ((number is not null) = (type = 'ingestion')),
  constraint context_changelog_description_check check (description is not null or type = 'ingestion'),
  constraint context_changelog_description_length_check check (char_length(description) between 1 and 1000)
);
alter table public.context_changelog enable row level security;
alter table public.context_changelog force row level security;
create index context_changelog_organization_id_project_id_idx on public.context_changelog (organization_id, project_id, created_at desc, id);
create index context_changelog_project_id_type_idx on public.context_changelog (project_id, type, created_at desc, id);
create unique index context_changelog_project_id_number_key on public.context_changelog (project_id, number) where number is not null;
create index context_changelog_user_id_idx on public.context_changelog (user_id);
comment on table public.context_changelog is 'Append-only changelog of a context; entries outlive the ingestions that they tell of.';

-- Long work that a request waits for (contract 60, 1, rule 6).
create table public.context_operations (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  -- ingestion, compression, rollback, enrichment, summary.
  kind text not null,
  status text not null default 'queued',
  progress smallint not null default 0,
  message text not null default '',
  -- The body of the answer when it is done, where the answer cannot be read from tables.
  result jsonb,
  error_code text,
  error_message text,
  requested_by uuid references public.users (id) on delete set null,
  created_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  finished_at timestamptz,
  constraint context_operations_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint context_operations_kind_check check (kind in ('ingestion', 'compression', 'rollback', 'enrichment', 'summary')),
  constraint context_operations_status_check check (status in ('queued', 'running', 'completed', 'failed', 'cancelled')),
  constraint context_operations_progress_check check (progress between 0 and 100),
  constraint context_operations_finished_check check ((finished_at is not null) = (status in ('completed', 'failed', 'cancelled')))
);
alter table public.context_operations enable row level security;
alter table public.context_operations force row level security;
create index context_operations_organization_id_project_id_idx on public.context_operations (organization_id, project_id, created_at desc);
create index context_operations_requested_by_idx on public.context_operations (requested_by);
create index context_operations_finished_at_idx on public.context_operations (finished_at) where finished_at is not null;
comment on table public.context_operations is 'Long work of a context: what a bounded wait waits for, readable while it goes on and for a week after.';

-- Sources keep their place in the context: the first repository has no prefix, later ones the prefix that their first ingestion gave them.
alter table public.project_repositories add column path_prefix text;

---- create above / drop below ----

alter table public.project_repositories drop column path_prefix;
drop table public.context_operations, public.context_changelog, private.run_manifests, public.context_files, public.context_file_ops,
  public.context_ingestions, private.context_counters, public.content_blobs;
drop function private.assert_context_ingestions_row(public.context_ingestions);
