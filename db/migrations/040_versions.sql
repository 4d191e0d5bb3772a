-- Entries of a context and their runs (contract 60, sections 3 and 4).

-- The judge of a context's path names the permission that is missing, and the activity of a job names the person who began it.
drop function if exists private.path_context(jsonb, text);
drop function if exists private.record_activity(uuid, text, text, jsonb);

-- The index waits for a run that brings it up to date with the file set: an ingestion was deleted.
-- Sums of the current file set, which lists of contexts show; triggers keep them.
alter table private.context_counters
  add column needs_refresh boolean not null default false,
  -- Content may be without an operation: an ingestion was deleted, or a run did not complete.
  add column needs_sweep boolean not null default false,
  add column files bigint not null default 0,
  add column bytes bigint not null default 0,
  add column tokens bigint not null default 0,
  -- Files such as package.json at the root.
  add column root_manifests integer not null default 0;
update private.context_counters c
set (files, bytes, tokens) = (select count(*), coalesce(sum(f.bytes), 0), coalesce(sum(f.tokens), 0)
  from public.context_files f where f.project_id = c.project_id and not f.is_hidden);

-- The operation whose end a request waits for.
alter table public.context_operations add constraint context_operations_organization_id_project_id_id_key unique (organization_id, project_id, id);
alter table public.context_ingestions
  add column operation_id uuid,
  add constraint context_ingestions_operation_id_fkey foreign key (organization_id, project_id, operation_id)
    references public.context_operations (organization_id, project_id, id) on delete set null (operation_id);
create index context_ingestions_operation_id_idx on public.context_ingestions (organization_id, project_id, operation_id) where operation_id is not null;
-- What a rollback went back from: the version that it keeps addressable.
alter table public.context_ingestions add column backup_number integer;

-- An operation on a file carries all that the file set shows, so that a fold reads one table.
alter table public.context_file_ops
  add column language text not null default 'text',
  add column is_binary boolean not null default false,
  add column bytes bigint not null default 0,
  add column tokens bigint not null default 0,
  add constraint context_file_ops_sizes_check check (bytes >= 0 and tokens >= 0);

-- The newest commit that a push told of. Another one than last_commit_hash: the context is behind its repository.
alter table public.project_repositories add column known_commit_hash text
  constraint project_repositories_known_commit_check check (known_commit_hash ~ '^[0-9a-f]{1,64}$');

create index context_counters_needs_sweep_idx on private.context_counters (project_id) where needs_sweep;

insert into private.schedules (name, every) values ('contexts.sweep', interval '10 minutes');

---- create above / drop below ----

delete from private.schedules where name = 'contexts.sweep';
alter table public.project_repositories drop column known_commit_hash;
alter table public.context_file_ops drop constraint context_file_ops_sizes_check, drop column language, drop column is_binary, drop column bytes,
  drop column tokens;
alter table public.context_ingestions drop column operation_id, drop column backup_number;
alter table public.context_operations drop constraint context_operations_organization_id_project_id_id_key;
alter table private.context_counters drop column needs_refresh, drop column needs_sweep, drop column files, drop column bytes, drop column tokens,
  drop column root_manifests;
