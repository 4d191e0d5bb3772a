-- Ingestion runs: one row a run, at most one open run a project. The row is the job's public face (contract 10, 3.5) and the lease of
-- the worker that does it; its changes are what the progress screen sees, and a run that ended never changes again.
create table public.ingestion_runs (
  -- Equals the jobId that the client was given.
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  project_id uuid not null,
  outcome text not null default 'open',
  phase text not null default 'repository_fetch',
  phase_index smallint not null generated always as
    ((array_position(array['repository_fetch', 'parsing', 'chunking', 'optimization', 'indexing'], phase) - 1)::smallint) stored,
  -- Of the current phase.
  percent smallint not null default 0,
  message text not null default '',
  total_files bigint not null default 0,
  files_processed bigint not null default 0,
  tokens_processed bigint not null default 0,
  bytes_processed bigint not null default 0,
  chunks_created bigint not null default 0,
  errors_encountered bigint not null default 0,
  -- phase1Data .. phase4Data of contract 10, 17.6.
  detail jsonb not null default '{}',
  -- When each phase began and ended: {"parsing": {"startedAt", "completedAt"}}.
  phase_times jsonb not null default '{}',
  started_at timestamptz not null default now(),
  phase_started_at timestamptz not null default now(),
  estimated_completion_at timestamptz,
  -- Only on success.
  completed_at timestamptz,
  ended_at timestamptz,
  error_code text,
  error_message text,
  failed_items text[] not null default '{}',
  -- Plain retries used since the last change of configuration (contract 10, 19.3).
  retry_count integer not null default 0,
  parent_run_id uuid,
  -- force, exclusions, memory ("large"), applyFilters: what was asked of this run.
  options jsonb not null default '{}',
  -- What a successor needs to redo the finished phases identically: the commits that were fetched.
  checkpoint jsonb not null default '{}',
  checkpoint_expires_at timestamptz,
  -- Automatic attempt within the current phase, from 1.
  attempt integer not null default 1,
  -- How often a worker was lost in this run.
  restarts integer not null default 0,
  lease_owner uuid,
  lease_expires_at timestamptz,
  original_tokens bigint,
  optimized_tokens bigint,
  duration_seconds integer,
  -- savingsBreakdown, queryLatencyMs, relevanceScore, languagesDetected, filesProcessed (contract 10, 18.5).
  result jsonb,
  started_by uuid references public.users (id) on delete set null,
  -- Counts the writes: an event or snapshot with a lower number is older.
  revision bigint not null default 1,
  -- Orders the runs of a project, also those of one transaction.
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default now(),
  constraint ingestion_runs_organization_id_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint ingestion_runs_organization_id_project_id_id_key unique (organization_id, project_id, id),
  constraint ingestion_runs_organization_id_id_key unique (organization_id, id),
  constraint ingestion_runs_parent_fkey foreign key (organization_id, project_id, parent_run_id)
    references public.ingestion_runs (organization_id, project_id, id) on delete set null (parent_run_id),
  constraint ingestion_runs_outcome_check check (outcome in ('open', 'completed', 'failed', 'cancelled')),
  constraint ingestion_runs_phase_check check (phase in ('repository_fetch', 'parsing', 'chunking', 'optimization', 'indexing')),
  constraint ingestion_runs_percent_check check (percent between 0 and 100),
  constraint ingestion_runs_metrics_check check (total_files >= 0 and files_processed >= 0 and tokens_processed >= 0
    and bytes_processed >= 0 and chunks_created >= 0 and errors_encountered >= 0),
  constraint ingestion_runs_counts_check check (retry_count >= 0 and restarts >= 0 and attempt >= 1),
  constraint ingestion_runs_error_code_check check (char_length(error_code) between 1 and 50),
  constraint ingestion_runs_error_message_check check (char_length(error_message) <= 2000),
  constraint ingestion_runs_failed_items_check check (cardinality(failed_items) <= 1000),
  -- A completed run shows completed_at and nothing else does; a failed one has code and message; an open one has neither.
  constraint ingestion_runs_outcome_agrees check (case outcome
    when 'open' then completed_at is null and ended_at is null and error_code is null and error_message is null
    when 'completed' then completed_at is not null and error_code is null and error_message is null
    else completed_at is null and ended_at is not null and error_code is not null and error_message is not null end),
  constraint ingestion_runs_lease_agrees check ((lease_owner is null) = (lease_expires_at is null))
) with (fillfactor = 50);
alter table public.ingestion_runs enable row level security;
alter table public.ingestion_runs force row level security;
create unique index ingestion_runs_one_open_key on public.ingestion_runs (project_id) where outcome = 'open';
-- The newest run of a project, which is what everybody polls.
create index ingestion_runs_organization_id_project_id_started_at_idx
  on public.ingestion_runs (organization_id, project_id, created_at desc, id desc);
create index ingestion_runs_project_id_created_at_idx on public.ingestion_runs (project_id, created_at desc, id desc);
create index ingestion_runs_parent_idx on public.ingestion_runs (organization_id, project_id, parent_run_id) where parent_run_id is not null;
create index ingestion_runs_started_by_idx on public.ingestion_runs (started_by);
create index ingestion_runs_open_lease_idx on public.ingestion_runs (lease_expires_at nulls first) where outcome = 'open';
create index ingestion_runs_checkpoint_expires_at_idx on public.ingestion_runs (checkpoint_expires_at) where checkpoint_expires_at is not null;
comment on table public.ingestion_runs is 'One row an ingestion run; its id is the jobId. Final once ended, kept while the project lives.';

-- Which run's rows are the project's index. What a run writes becomes visible when it is named here, all at once.
create table public.project_indexes (
  project_id uuid primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  run_id uuid,
  -- Paths that a recovery left out (contract 10, 19.4); they stay out of later runs.
  exclusions text[] not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint project_indexes_organization_id_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint project_indexes_run_fkey foreign key (organization_id, project_id, run_id)
    references public.ingestion_runs (organization_id, project_id, id) on delete set null (run_id),
  constraint project_indexes_exclusions_check check (cardinality(exclusions) <= 10000)
);
alter table public.project_indexes enable row level security;
alter table public.project_indexes force row level security;
create index project_indexes_organization_id_idx on public.project_indexes (organization_id, project_id, run_id);
create index project_indexes_run_id_idx on public.project_indexes (run_id) where run_id is not null;
comment on table public.project_indexes is 'The current run of each project: files, chunks and graph of other runs are invisible.';

-- From here on organization_id has no foreign key of its own: the key to the run (or file, or chunk) carries it, and these tables
-- are written by the hundred thousand rows.

-- The files of a run that passed all filters and were parsed. Ids are made by the worker from run and position, so that a run that is
-- done again writes the same rows.
create table public.run_files (
  organization_id uuid not null,
  run_id uuid not null,
  id uuid not null,
  position integer not null,
  -- Where it came from: repository, file, text or manual, and which one.
  source text not null,
  repository_id uuid,
  path text not null,
  language text not null,
  category text not null,
  bytes bigint not null,
  tokens bigint not null,
  optimized_tokens bigint not null,
  -- SHA-256 of the text as parsed (secrets masked).
  hash bytea not null,
  metadata jsonb not null default '{}',
  constraint run_files_pkey primary key (organization_id, run_id, id),
  constraint run_files_run_fkey foreign key (organization_id, run_id)
    references public.ingestion_runs (organization_id, id) on delete cascade,
  constraint run_files_source_check check (source in ('repository', 'file', 'text', 'manual')),
  constraint run_files_category_check check (category in ('code', 'documentation', 'config', 'data')),
  constraint run_files_sizes_check check (bytes >= 0 and tokens >= 0 and optimized_tokens >= 0),
  constraint run_files_hash_check check (octet_length(hash) = 32)
);
alter table public.run_files enable row level security;
alter table public.run_files force row level security;
create index run_files_run_id_path_idx on public.run_files (run_id, path);
create index run_files_repository_id_idx on public.run_files (repository_id) where repository_id is not null;
comment on table public.run_files is 'Files of a run with their token counts; visible while the run is the project''s current one.';

create table public.chunks (
  organization_id uuid not null,
  run_id uuid not null,
  id uuid not null,
  file_id uuid not null,
  -- Order within the file, from 0.
  position integer not null,
  start_line integer not null,
  end_line integer not null,
  type text not null,
  tokens integer not null,
  content text not null,
  -- Whitespace-insensitive, of the content before optimisation: equal hashes are duplicates.
  hash bytea not null,
  -- Set on a duplicate: the chunk that holds the body.
  reference_of uuid,
  -- The section (strategy recursive) that this chunk is part of.
  parent_id uuid,
  metadata jsonb not null default '{}',
  constraint chunks_pkey primary key (organization_id, run_id, id),
  constraint chunks_file_fkey foreign key (organization_id, run_id, file_id)
    references public.run_files (organization_id, run_id, id) on delete cascade,
  constraint chunks_reference_of_fkey foreign key (organization_id, run_id, reference_of)
    references public.chunks (organization_id, run_id, id) on delete set null (reference_of),
  constraint chunks_type_check check (type in ('module_boundaries', 'function_groupings', 'documentation', 'config')),
  constraint chunks_position_check check (position >= 0 and start_line >= 1 and end_line >= start_line and tokens >= 0)
);
alter table public.chunks enable row level security;
alter table public.chunks force row level security;
create unique index chunks_file_position_key on public.chunks (organization_id, run_id, file_id, position);
create index chunks_reference_of_idx on public.chunks (organization_id, run_id, reference_of) where reference_of is not null;
comment on table public.chunks is 'Chunks of a run, as optimised; visible while the run is the project''s current one.';

-- The full-text index, beside the chunks so that filling it rewrites none of them. The run leads the index: a search costs what its
-- own project holds, however many tenants share the table.
create table public.chunk_terms (
  organization_id uuid not null,
  run_id uuid not null,
  chunk_id uuid not null,
  terms tsvector not null,
  constraint chunk_terms_pkey primary key (organization_id, run_id, chunk_id),
  constraint chunk_terms_chunk_fkey foreign key (organization_id, run_id, chunk_id)
    references public.chunks (organization_id, run_id, id) on delete cascade
);
alter table public.chunk_terms enable row level security;
alter table public.chunk_terms force row level security;
create extension if not exists btree_gin schema extensions;
-- A run brings thousands of chunks with hundreds of words each; merged in large portions they cost a fraction of what they cost one by one.
create index chunk_terms_run_id_terms_idx on public.chunk_terms using gin (run_id, terms) with (gin_pending_list_limit = 32768);
comment on table public.chunk_terms is 'Search terms of chunks: words of content (weight D), identifiers (B) and path (A).';

-- The code graph that the parse results give.
create table public.graph_nodes (
  organization_id uuid not null,
  run_id uuid not null,
  id uuid not null,
  -- Null for a module outside the project (an imported library).
  file_id uuid,
  kind text not null,
  name text not null,
  -- Unique address within the run: path, or path#Class.method.
  qualified_name text not null,
  start_line integer,
  end_line integer,
  metadata jsonb not null default '{}',
  constraint graph_nodes_pkey primary key (organization_id, run_id, id),
  constraint graph_nodes_run_fkey foreign key (organization_id, run_id)
    references public.ingestion_runs (organization_id, id) on delete cascade,
  constraint graph_nodes_file_fkey foreign key (organization_id, run_id, file_id)
    references public.run_files (organization_id, run_id, id) on delete cascade,
  constraint graph_nodes_kind_check check (kind in ('file', 'module', 'class', 'function', 'variable'))
);
alter table public.graph_nodes enable row level security;
alter table public.graph_nodes force row level security;
create index graph_nodes_file_id_idx on public.graph_nodes (organization_id, run_id, file_id);
create index graph_nodes_run_id_name_idx on public.graph_nodes (run_id, lower(name));
comment on table public.graph_nodes is 'Files, modules and declarations of a run; visible while the run is the project''s current one.';

-- No foreign keys: two checks a row were half the cost of the graph. store_links takes tenant and run from the lease, never from the
-- caller, and a trigger on graph_nodes takes the links of a vanished node along.
create table public.graph_links (
  organization_id uuid not null,
  run_id uuid not null,
  from_id uuid not null,
  to_id uuid not null,
  kind text not null,
  weight integer not null default 1,
  constraint graph_links_pkey primary key (organization_id, run_id, from_id, to_id, kind),
  constraint graph_links_kind_check check (kind in ('contains', 'imports', 'calls', 'extends', 'implements')),
  constraint graph_links_weight_check check (weight > 0)
);
alter table public.graph_links enable row level security;
alter table public.graph_links force row level security;
create index graph_links_to_id_idx on public.graph_links (organization_id, run_id, to_id);
comment on table public.graph_links is 'Who contains, imports, calls, extends or implements whom, as far as names resolve.';

-- What runs again and again: each row is due at run_at, is taken with SKIP LOCKED by whoever comes first, and moves on by its interval.
create table private.schedules (
  name text primary key,
  every interval not null,
  run_at timestamptz not null default now(),
  last_run_at timestamptz,
  constraint schedules_every_check check (every >= interval '1 second')
);
alter table private.schedules enable row level security;
alter table private.schedules force row level security;
comment on table private.schedules is 'Due work of private.run_due; any number of callers at once do each piece once.';
insert into private.schedules (name, every) values
  ('runs.sweep', interval '2 seconds'),
  ('core.prune', interval '10 minutes'),
  ('events.prune', interval '10 minutes'),
  ('uploads.prune', interval '10 minutes'),
  ('activity.prune', interval '1 hour'),
  ('checkpoints.prune', interval '10 minutes');

-- Chunk texts are read far more often than written; lz4 costs a fraction of the built-in method. A Postgres built without it keeps that.
do $$
begin
  alter table public.chunks alter column content set compression lz4;
  alter table public.chunk_terms alter column terms set compression lz4;
exception when feature_not_supported then
  null;
end
$$;

---- create above / drop below ----

drop table private.schedules;
drop table public.graph_links, public.graph_nodes, public.chunk_terms, public.chunks, public.run_files, public.project_indexes,
  public.ingestion_runs;
