-- Summaries of a context (contract 60, section 6): one a version. A model writes them, in a job; without one they are extracted.
create table public.context_summaries (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  -- The ingestion that it describes, and the files up to there.
  version integer not null,
  description text not null,
  key_components text[] not null,
  -- What wrote it: the model's id, or kijko-extractive.
  model text not null,
  -- An ingestion of the version, or one before it, was deleted since.
  is_outdated boolean not null default false,
  generated_at timestamptz not null default clock_timestamp(),
  constraint context_summaries_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint context_summaries_project_id_version_key unique (project_id, version),
  constraint context_summaries_version_check check (version >= 0),
  constraint context_summaries_description_check check (char_length(description) between 1 and 3000),
  constraint context_summaries_key_components_check check (cardinality(key_components) <= 5 and octet_length(array_to_string(key_components, '')) <= 10000),
  constraint context_summaries_model_check check (char_length(model) between 1 and 200)
);
alter table public.context_summaries enable row level security;
alter table public.context_summaries force row level security;
create index context_summaries_organization_id_project_id_idx on public.context_summaries (organization_id, project_id, version desc);
comment on table public.context_summaries is 'What a context is about, as a text and a few components; one a version.';

create table private.summary_jobs (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  project_id uuid not null,
  version integer not null,
  -- Asked for by a person; the others follow a version.
  is_requested boolean not null,
  operation_id uuid not null,
  status text not null default 'queued',
  lease_owner uuid,
  lease_expires_at timestamptz,
  restarts smallint not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  constraint summary_jobs_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint summary_jobs_status_check check (status in ('queued', 'running', 'completed')),
  constraint summary_jobs_finished_check check ((finished_at is not null) = (status = 'completed')),
  constraint summary_jobs_lease_check check ((lease_owner is null) = (lease_expires_at is null))
);
alter table private.summary_jobs enable row level security;
alter table private.summary_jobs force row level security;
create unique index summary_jobs_one_open_key on private.summary_jobs (project_id) where status <> 'completed';
create unique index summary_jobs_one_a_version_key on private.summary_jobs (project_id, version) where not is_requested;
create index summary_jobs_organization_id_project_id_idx on private.summary_jobs (organization_id, project_id, created_at desc);
create index summary_jobs_open_idx on private.summary_jobs (lease_expires_at nulls first) where status <> 'completed';
comment on table private.summary_jobs is 'Generations of summaries: one open of a context, and one of each version that no person asked for.';

insert into private.schedules (name, every) values ('summary.sweep', interval '2 seconds'), ('summary.prune', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name in ('summary.sweep', 'summary.prune');
drop table private.summary_jobs, public.context_summaries;
