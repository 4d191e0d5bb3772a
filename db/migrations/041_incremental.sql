-- Incremental runs: what a run remembers of its sources and of the files of the index, so that the next run reads, parses and writes only
-- what changed.

-- What was saved on a file, so that totals are sums over the files whichever run wrote them.
alter table public.run_files
  -- Tokens that each of the four techniques removed, in their order.
  add column removed integer[],
  -- Original tokens that were removed without a reference.
  add column lost integer,
  -- Chunks that hold a body.
  add column kept integer,
  -- Fingerprint of everything in other files that decided the stored text: where duplicates, licenses and blocks lead. A file with another
  -- fingerprint is optimized again.
  add column plan bytea,
  add constraint run_files_removed_check check (cardinality(removed) = 4);

alter table public.project_indexes
  -- The newest completed run. The rows of the index carry run_id: an incremental run changes rows of its predecessor's index in place.
  add column last_run_id uuid,
  -- Fingerprint of the settings and the program that made the index: with another one it is made from the beginning.
  add column settings text,
  add constraint project_indexes_settings_check check (char_length(settings) <= 200);

alter table public.ingestion_runs
  -- The run whose id the rows of this run's index carry; null for its own.
  add column index_run_id uuid;

-- What earlier runs found at a path of a source. The key is a fingerprint of all that decides the text: blob or checksum, masking, limits.
create table private.source_files (
  organization_id uuid not null,
  project_id uuid not null,
  -- repository:<id>, file, picked, text or manual.
  source text not null,
  -- Within the source.
  path text not null,
  key bytea not null,
  -- Why its content keeps the file out; empty for a file that is read.
  verdict text not null default '',
  encoding text not null default '',
  -- SHA-256 of the text as ingested; null for a file that is kept out.
  hash bytea,
  bytes bigint not null default 0,
  tokens bigint not null default 0,
  language text not null default '',
  constraint source_files_pkey primary key (project_id, source, path),
  constraint source_files_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint source_files_hash_check check (octet_length(hash) = 32 and (hash is null) = (verdict <> '')),
  constraint source_files_sizes_check check (bytes >= 0 and tokens >= 0)
);
alter table private.source_files enable row level security;
alter table private.source_files force row level security;
create index source_files_organization_id_project_id_idx on private.source_files (organization_id, project_id);
comment on table private.source_files is 'What the newest run that read a source found in it, so that the next one reads only what changed.';

-- Results of parsing and chunking, one row a file of the context: the graph and the search for repetitions look at all files in every run.
create table private.file_records (
  organization_id uuid not null,
  project_id uuid not null,
  path text not null,
  hash bytea not null,
  -- Versions of the program's two formats: a record of another version is made again from the stored text.
  parse_schema text not null,
  chunk_schema text not null,
  -- Compressed by the worker.
  parsed bytea not null,
  facts bytea not null,
  constraint file_records_pkey primary key (project_id, path),
  constraint file_records_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint file_records_hash_check check (octet_length(hash) = 32)
);
alter table private.file_records enable row level security;
alter table private.file_records force row level security;
alter table private.file_records alter column parsed set storage external, alter column facts set storage external;
create index file_records_organization_id_project_id_idx on private.file_records (organization_id, project_id);
comment on table private.file_records is 'A cache of parse results, by path and content of a context''s files; never more rows than the context has files.';

drop function if exists private.store_files(uuid, uuid, uuid[], integer[], text[], uuid[], text[], text[], text[], bigint[], bigint[], bigint[], bytea[], jsonb[]);

---- create above / drop below ----

drop table private.file_records, private.source_files;
alter table public.ingestion_runs drop column index_run_id;
alter table public.project_indexes drop column settings, drop column last_run_id;
alter table public.run_files drop column plan, drop column kept, drop column lost, drop column removed;
