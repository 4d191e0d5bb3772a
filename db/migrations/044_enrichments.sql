-- Enrichments of a context (contract 60, section 10): the knowledge graph, the index of symbols and the embeddings. A run builds one of
-- them under a lease of its worker. Its data become the context's in one statement at its end, so a failed run changes nothing.

create table public.enrichment_runs (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  -- all: the parent of one run a kind. The others are the names that events use.
  kind text not null,
  parent_id uuid,
  status text not null default 'queued',
  progress smallint not null default 0,
  message text not null default '',
  -- Started by an ingestion and not by a person; it counts against no limit.
  is_automatic boolean not null default false,
  -- The graph has to be built, and not only to be measured: the run of the ingestion has not built it.
  builds boolean not null default true,
  started_by uuid references public.users (id) on delete set null,
  -- What the request that started it waits for. No foreign key: operations are removed after a week.
  operation_id uuid,
  -- What was measured at its end.
  result jsonb,
  error_message text,
  lease_owner uuid,
  lease_expires_at timestamptz,
  restarts smallint not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  finished_at timestamptz,
  constraint enrichment_runs_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint enrichment_runs_organization_id_project_id_id_key unique (organization_id, project_id, id),
  constraint enrichment_runs_parent_id_fkey foreign key (organization_id, project_id, parent_id)
    references public.enrichment_runs (organization_id, project_id, id) on delete cascade,
  constraint enrichment_runs_kind_check check (kind in ('all', 'knowledgeGraph', 'languageServer', 'chromaCode')),
  constraint enrichment_runs_status_check check (status in ('queued', 'running', 'completed', 'failed', 'cancelled')),
  constraint enrichment_runs_progress_check check (progress between 0 and 100),
  constraint enrichment_runs_finished_check check ((finished_at is not null) = (status in ('completed', 'failed', 'cancelled'))),
  constraint enrichment_runs_error_message_check check (char_length(error_message) between 1 and 2000),
  constraint enrichment_runs_lease_check check ((lease_owner is null) = (lease_expires_at is null))
);
alter table public.enrichment_runs enable row level security;
alter table public.enrichment_runs force row level security;
create unique index enrichment_runs_one_open_key on public.enrichment_runs (project_id, kind) where status in ('queued', 'running');
create index enrichment_runs_organization_id_project_id_idx on public.enrichment_runs (organization_id, project_id, created_at desc);
create index enrichment_runs_parent_id_idx on public.enrichment_runs (organization_id, project_id, parent_id) where parent_id is not null;
create index enrichment_runs_started_by_idx on public.enrichment_runs (started_by);
create index enrichment_runs_siblings_idx on public.enrichment_runs (parent_id) where parent_id is not null;
create index enrichment_runs_open_idx on public.enrichment_runs (lease_expires_at nulls first) where status in ('queued', 'running');
create index enrichment_runs_finished_at_idx on public.enrichment_runs (finished_at) where finished_at is not null;
comment on table public.enrichment_runs is 'Runs of enrichments: at most one open of a kind and context, and none beside an open run of all kinds.';

-- What holds of each kind now, however long ago its last run was.
create table public.enrichment_states (
  organization_id uuid not null,
  project_id uuid not null,
  kind text not null,
  -- A run has succeeded since the last reset.
  is_active boolean not null default false,
  -- The context has changed since the last run began: another run follows.
  is_wanted boolean not null default false,
  -- And that run has to build the graph.
  wants_build boolean not null default false,
  last_run_at timestamptz,
  -- What the last successful run measured.
  result jsonb not null default '{}',
  constraint enrichment_states_pkey primary key (project_id, kind),
  constraint enrichment_states_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint enrichment_states_kind_check check (kind in ('knowledgeGraph', 'languageServer', 'chromaCode'))
);
alter table public.enrichment_states enable row level security;
alter table public.enrichment_states force row level security;
create index enrichment_states_organization_id_project_id_idx on public.enrichment_states (organization_id, project_id);
create index enrichment_states_wanted_idx on public.enrichment_states (project_id) where is_wanted;
comment on table public.enrichment_states is 'State of each enrichment of a context: active or not, and what its last successful run measured.';

-- The index of symbols. Symbols belong to a content, so that a content is parsed once, however often its file is renamed or restored.
create table public.symbol_contents (
  organization_id uuid not null,
  project_id uuid not null,
  hash bytea not null,
  -- That of the path under which it was parsed: the same text may be C in one file and C++ in another.
  language text not null,
  -- A tree was made of it. Without one it is not parsed again either.
  is_parsed boolean not null,
  symbols integer not null default 0,
  constraint symbol_contents_pkey primary key (project_id, hash, language),
  constraint symbol_contents_organization_id_project_id_hash_language_key unique (organization_id, project_id, hash, language),
  constraint symbol_contents_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint symbol_contents_hash_check check (octet_length(hash) = 32),
  constraint symbol_contents_symbols_check check (symbols >= 0)
);
alter table public.symbol_contents enable row level security;
alter table public.symbol_contents force row level security;
comment on table public.symbol_contents is 'Contents whose definitions are known.';

create table public.symbols (
  organization_id uuid not null,
  project_id uuid not null,
  hash bytea not null,
  language text not null,
  -- Order in the content, from 0.
  position integer not null,
  kind text not null,
  name text not null,
  -- Names of the definitions around it and its own, joined by dots.
  qualified_name text not null,
  start_line integer not null,
  end_line integer not null,
  -- Null where the language does not say.
  exported boolean,
  signature text not null default '',
  constraint symbols_pkey primary key (organization_id, project_id, hash, language, position),
  constraint symbols_content_fkey foreign key (organization_id, project_id, hash, language)
    references public.symbol_contents (organization_id, project_id, hash, language) on delete cascade,
  constraint symbols_kind_check check (kind in ('class', 'function', 'variable')),
  constraint symbols_lines_check check (start_line >= 1 and end_line >= start_line)
);
alter table public.symbols enable row level security;
alter table public.symbols force row level security;
create index symbols_name_idx on public.symbols (project_id, lower(name) collate "C");
comment on table public.symbols is 'Definitions (class, function, variable) of each known content.';

create table public.symbol_files (
  organization_id uuid not null,
  project_id uuid not null,
  file_id uuid not null,
  hash bytea not null,
  language text not null,
  constraint symbol_files_pkey primary key (project_id, file_id),
  constraint symbol_files_file_id_fkey foreign key (project_id, file_id) references public.context_files (project_id, id) on delete cascade,
  constraint symbol_files_content_fkey foreign key (organization_id, project_id, hash, language)
    references public.symbol_contents (organization_id, project_id, hash, language) on delete cascade
);
alter table public.symbol_files enable row level security;
alter table public.symbol_files force row level security;
create index symbol_files_content_idx on public.symbol_files (organization_id, project_id, hash, language);
comment on table public.symbol_files is 'The index of symbols: which files it has, and with which content. A run replaces it at its end.';

-- The files that an open run has chosen: those that no pattern and no limit leaves out.
create table private.enrichment_plans (
  run_id uuid not null references public.enrichment_runs (id) on delete cascade,
  file_id uuid not null,
  hash bytea not null,
  language text not null,
  constraint enrichment_plans_pkey primary key (run_id, file_id)
);
alter table private.enrichment_plans enable row level security;
alter table private.enrichment_plans force row level security;
comment on table private.enrichment_plans is 'The files that an open run has chosen, until it ends.';

-- Embeddings of the chunks of files. The rows of another embedder (another model or chunking) are written beside those in force, which the
-- end of the run replaces.
create table public.file_embeddings (
  organization_id uuid not null,
  project_id uuid not null,
  file_id uuid not null,
  -- Model and chunking, see private.embedder_key.
  embedder text not null,
  chunk_no integer not null,
  -- The content that was cut; an older one than the file's makes no hit.
  hash bytea not null,
  start_byte integer not null,
  end_byte integer not null,
  start_line integer not null,
  end_line integer not null,
  tokens integer not null,
  model text not null,
  dimensions integer not null,
  -- Of length 1, so that the inner product is the cosine.
  embedding real[] not null,
  constraint file_embeddings_pkey primary key (project_id, file_id, embedder, chunk_no),
  constraint file_embeddings_file_id_fkey foreign key (project_id, file_id) references public.context_files (project_id, id) on delete cascade,
  constraint file_embeddings_hash_check check (octet_length(hash) = 32),
  constraint file_embeddings_place_check check (chunk_no >= 0 and start_byte >= 0 and end_byte > start_byte and start_line >= 1
    and end_line >= start_line and tokens >= 0),
  constraint file_embeddings_dimensions_check check (dimensions between 1 and 8192 and cardinality(embedding) = dimensions)
);
alter table public.file_embeddings enable row level security;
alter table public.file_embeddings force row level security;
-- Vectors do not compress.
alter table public.file_embeddings alter column embedding set storage external;
create index file_embeddings_organization_id_project_id_idx on public.file_embeddings (organization_id, project_id);
-- How many files have embeddings.
create index file_embeddings_files_idx on public.file_embeddings (project_id, embedder, file_id) include (hash) where chunk_no = 0;
comment on table public.file_embeddings is 'Embeddings of chunks of files, with the model that made them.';

insert into private.schedules (name, every) values ('enrichments.sweep', interval '2 seconds'), ('enrichments.prune', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name in ('enrichments.sweep', 'enrichments.prune');
drop table public.file_embeddings, private.enrichment_plans, public.symbol_files, public.symbols, public.symbol_contents, public.enrichment_states,
  public.enrichment_runs;
