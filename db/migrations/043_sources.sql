-- Files of a context as its screens show them (contract 60, sections 5, 12 and 13).

-- Which files the chat of a person reads. Absence means selected, so a new file is selected for all.
create table public.context_source_selection (
  organization_id uuid not null,
  project_id uuid not null,
  user_id uuid not null references public.users (id) on delete cascade,
  -- A file that this person left out.
  file_id uuid not null,
  created_at timestamptz not null default now(),
  constraint context_source_selection_pkey primary key (user_id, file_id),
  constraint context_source_selection_file_fkey foreign key (project_id, file_id)
    references public.context_files (project_id, id) on delete cascade
);
alter table public.context_source_selection enable row level security;
alter table public.context_source_selection force row level security;
create index context_source_selection_organization_id_idx on public.context_source_selection (organization_id, project_id, user_id);
create index context_source_selection_file_id_idx on public.context_source_selection (project_id, file_id);
comment on table public.context_source_selection is 'Files of a context that a person left out of the sources of their chat.';

-- The stored file (or archive) that a file of the current set comes from. No foreign key: the row outlives its source, hidden.
alter table public.context_files add column upload_id uuid;
create index context_files_upload_id_idx on public.context_files (project_id, upload_id) where upload_id is not null;

---- create above / drop below ----

drop index public.context_files_upload_id_idx;
alter table public.context_files drop column upload_id;
drop table public.context_source_selection;
