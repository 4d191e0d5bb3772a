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
  updated_at timestamptz not null default now()
) with (fillfactor = 85);
alter table public.habits enable row level security;
alter table public.habits force row level security;
create function private.assert_habits_row(r public.habits) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (char_length(r.schedule_cron) between 1 and 100) then 'habits_schedule_cron_check'
    when not (char_length(r.schedule_description) between 1 and 255) then 'habits_schedule_description_check'
    when not (char_length(r.timezone) between 1 and 50) then 'habits_timezone_check'
    when not (jsonb_typeof(r.config) = 'object') then 'habits_config_check'
    when not (r.run_count >= 0 and r.consecutive_failures >= 0) then 'habits_counters_check'
    when not (char_length(r.last_error_message) <= 500) then 'habits_last_error_message_check'
    when not (r.is_active = (r.next_run_at is not null)) then 'habits_next_run_at_check'
  end;
begin
  return v_rule is null or private.refuse_row('habits', v_rule);
end
$$;
comment on function private.assert_habits_row is 'The rules of a row of public.habits, by name.';
alter table public.habits add constraint habits_rules check (private.assert_habits_row(habits));
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

-- A due run starts within 60 s; this is when somebody looks.
insert into private.schedules (name, every) values ('habits.dispatch', interval '2 seconds');

---- create above / drop below ----

delete from private.schedules where name = 'habits.dispatch';
drop table private.zones;
drop table public.habits;
drop function private.assert_habits_row;
