-- Habits (contract 20, sections 7 and 8): a skill on a schedule. next_run_at is set by a trigger whoever writes the row, so the
-- dispatcher only ever looks for rows that are due.
create table public.habits (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  -- Runs are charged to it, and stop while the owner is no active member of it.
  organization_id uuid not null references public.organizations (id) on delete cascade,
  skill_id uuid not null references public.skills (id) on delete cascade,
  schedule_cron text not null,
  schedule_description text,
  timezone text not null default 'UTC',
  config jsonb not null default '{}',
  is_active boolean not null default true,
  next_run_at timestamptz,
  last_run_at timestamptz,
  run_count bigint not null default 0,
  consecutive_failures integer not null default 0,
  last_error_message text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint habits_schedule_cron_check check (char_length(schedule_cron) between 1 and 100),
  constraint habits_schedule_description_check check (char_length(schedule_description) between 1 and 255),
  constraint habits_timezone_check check (char_length(timezone) between 1 and 50),
  constraint habits_config_check check (jsonb_typeof(config) = 'object' and octet_length(config::text) <= 131072),
  constraint habits_counters_check check (run_count >= 0 and consecutive_failures >= 0),
  constraint habits_last_error_message_check check (char_length(last_error_message) <= 500),
  constraint habits_next_run_at_check check (is_active = (next_run_at is not null))
) with (fillfactor = 85);
alter table public.habits enable row level security;
alter table public.habits force row level security;
create index habits_user_id_idx on public.habits (user_id, is_active, next_run_at);
create index habits_skill_id_idx on public.habits (skill_id);
create index habits_organization_id_idx on public.habits (organization_id);
create index habits_next_run_at_idx on public.habits (next_run_at) where is_active;
comment on table public.habits is 'A skill on a schedule, in its owner''s time zone.';
comment on constraint habits_skill_id_fkey on public.habits is
  'Across tenants: a public skill of anybody may be scheduled; a trigger judges whether the owner sees it.';

-- The names of time zones; filled by db/code/habits/zones.sql, which says why it is a table.
create table private.zones (
  name text primary key,
  used text not null
);
alter table private.zones enable row level security;
alter table private.zones force row level security;
comment on table private.zones is 'IANA names that this Postgres can convert, links included.';
comment on column private.zones.used is 'The name to give to Postgres.';

---- create above / drop below ----

drop table private.zones;
drop table public.habits;
