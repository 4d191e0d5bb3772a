-- Executions (contract 20, section 6): one row a run of a skill, however many attempts and workers it took. The row is the truth of
-- the engine: pending, running under a lease, then one final state that nothing changes any more.
create table public.skill_executions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  -- Where the quota was charged. Rows go with the organization.
  organization_id uuid not null references public.organizations (id) on delete cascade,
  -- Null when the skill is gone: the numbers stay for accounting.
  skill_id uuid references public.skills (id) on delete set null,
  execution_type text not null,
  -- The habit or reflex; no foreign key, it survives them.
  reference_id uuid,
  -- Input and output are emptied by retention long before the row goes.
  input jsonb,
  output text,
  prompt_tokens integer,
  completion_tokens integer,
  duration_ms integer,
  cost_cents integer,
  -- What the skill named, and what was called in the end.
  model text,
  model_called text,
  status text not null default 'pending',
  error_message text,
  error_code text,
  executed_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  completed_at timestamptz,
  -- The waiting job: the sweeper sees by it whether a job was lost.
  job_id text,
  -- The worker that has it: only who knows the token may renew or finish.
  lease_token uuid,
  lease_expires_at timestamptz,
  -- How many workers have begun it, and whether text was already streamed to somebody.
  takes smallint not null default 0,
  is_streamed boolean not null default false,
  has_streamed boolean not null default false
) with (fillfactor = 70);
alter table public.skill_executions enable row level security;
alter table public.skill_executions force row level security;
create function private.assert_skill_executions_row(r public.skill_executions) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (r.execution_type in ('manual', 'habit', 'reflex', 'api')) then 'skill_executions_execution_type_check'
    when not (r.status in ('pending', 'running', 'completed', 'failed', 'cancelled')) then 'skill_executions_status_check'
    when not (jsonb_typeof(r.input) = 'object') then 'skill_executions_input_check'
    when not (char_length(r.error_code) <= 50) then 'skill_executions_error_code_check'
    when not (r.prompt_tokens >= 0 and r.completion_tokens >= 0 and r.duration_ms >= 0 and r.cost_cents >= 0)
      then 'skill_executions_numbers_check'
    when (r.completed_at is not null) <> (r.status in ('completed', 'failed', 'cancelled')) then 'skill_executions_completed_at_check'
    when (r.execution_type in ('habit', 'reflex')) <> (r.reference_id is not null) then 'skill_executions_reference_id_check'
  end;
begin
  return v_rule is null or private.refuse_row('skill_executions', v_rule);
end
$$;
comment on function private.assert_skill_executions_row is 'The rules of a row of public.skill_executions, by name.';
alter table public.skill_executions add constraint skill_executions_rules check (private.assert_skill_executions_row(skill_executions));
create index skill_executions_user_id_executed_at_idx on public.skill_executions (user_id, executed_at desc, id desc);
create index skill_executions_skill_id_executed_at_idx on public.skill_executions (skill_id, executed_at desc, id desc);
create index skill_executions_reference_id_idx on public.skill_executions (reference_id, executed_at desc, id desc) where reference_id is not null;
create index skill_executions_open_idx on public.skill_executions (user_id, executed_at desc, id desc) where status in ('pending', 'running');
create index skill_executions_open_reference_id_idx on public.skill_executions (reference_id)
  where reference_id is not null and status in ('pending', 'running');
-- For the sweeper. Not by lease_expires_at: a renewal that changes no indexed column is a cheap update within the page.
create index skill_executions_pending_idx on public.skill_executions (executed_at) where status = 'pending';
create index skill_executions_running_idx on public.skill_executions (started_at) where status = 'running';
create index skill_executions_organization_id_idx on public.skill_executions (organization_id);
-- For retention, once a night: rows lie almost in the order of their beginning, so a summary of each range of pages is enough.
create index skill_executions_executed_at_idx on public.skill_executions using brin (executed_at);
comment on table public.skill_executions is 'One row a run of a skill; written by functions only. Final states never change.';
comment on constraint skill_executions_skill_id_fkey on public.skill_executions is
  'Across tenants: a public skill of anybody may be run; the function that starts a run judges whether the caller sees it.';
comment on column public.skill_executions.reference_id is 'Habit or reflex that caused it; no foreign key, so that it survives them.';

insert into private.schedules (name, every, run_at) values
  ('executions.sweep', interval '5 seconds', now()),
  ('executions.prune', interval '24 hours', (date_trunc('day', now() at time zone 'UTC') + interval '27 hours') at time zone 'UTC');

---- create above / drop below ----

delete from private.schedules where name in ('executions.sweep', 'executions.prune');
drop table public.skill_executions;
drop function private.assert_skill_executions_row;
