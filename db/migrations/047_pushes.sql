-- Pushes to repositories of projects with realTimeIncremental (contract 10, section 9.6): hooks at the providers, polled branch heads where
-- no hook can be installed, and the pushes that wait for the end of a run.
create table private.push_hooks (
  repository_id uuid primary key,
  organization_id uuid not null,
  project_id uuid not null,
  provider text not null,
  repository_url text not null,
  repository_name text not null,
  -- Whose connection installs the hook and reads the branch; null: none does.
  user_id uuid references public.users (id) on delete set null,
  -- pending: a job tries to install it. installed. polling: it cannot be installed.
  state text not null default 'pending',
  -- Of the worker, made with each installation.
  sealed_secret text,
  -- The token of a connection that ended: the hook is removed with it, before the token is given back.
  left_token_id uuid,
  -- A push that no run covers yet.
  wanted_at timestamptz,
  -- Ids of the newest deliveries, as digests: the same one again is no further push.
  deliveries text[] not null default '{}',
  -- The head of the branch at the last look, and when the next look is due.
  last_head text,
  poll_at timestamptz,
  failures integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint push_hooks_repository_id_fkey foreign key (repository_id) references public.project_repositories (id) on delete cascade,
  constraint push_hooks_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint push_hooks_state_check check (state in ('pending', 'installed', 'polling')),
  constraint push_hooks_poll_agrees check ((poll_at is not null) = (state = 'polling')),
  constraint push_hooks_sealed_secret_check check (sealed_secret like 'v1.%' and char_length(sealed_secret) <= 1000),
  constraint push_hooks_deliveries_check check (cardinality(deliveries) <= 100),
  constraint push_hooks_last_head_check check (last_head ~ '^[0-9a-f]{1,64}$'),
  constraint push_hooks_failures_check check (failures >= 0)
);
alter table private.push_hooks enable row level security;
alter table private.push_hooks force row level security;
create index push_hooks_organization_id_project_id_idx on private.push_hooks (organization_id, project_id);
create index push_hooks_user_id_provider_idx on private.push_hooks (user_id, provider);
create index push_hooks_left_token_id_idx on private.push_hooks (left_token_id) where left_token_id is not null;
create index push_hooks_poll_at_idx on private.push_hooks (poll_at) where poll_at is not null;
create index push_hooks_wanted_at_idx on private.push_hooks (wanted_at) where wanted_at is not null;
comment on table private.push_hooks is 'Repositories whose pushes start runs: one row a repository while the project''s realTimeIncremental is on.';

insert into private.schedules (name, every) values ('pushes.due', interval '1 minute');

---- create above / drop below ----

delete from private.schedules where name = 'pushes.due';
drop table private.push_hooks;
