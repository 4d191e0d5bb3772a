-- Scheduled work on runs: expired leases, runs that take too long, lost jobs, and retention.

create or replace function private.sweep_executions(p_at timestamptz default clock_timestamp()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e public.skill_executions;
  v_end record;
  v_count integer := 0;
begin
  for e in
    select * from public.skill_executions x
    where x.status = 'running' and (x.lease_expires_at < p_at or x.started_at < p_at - private.execution_limit())
    order by x.started_at limit 1000 for no key update skip locked
  loop
    select * into v_end from private.end_of_execution(e, p_at);
    if v_end.code is not null then
      perform private.fail_execution(e.id, v_end.code, v_end.message);
    elsif not exists (select from jobs.gue_jobs j where j.job_id = e.job_id) then
      update public.skill_executions x
      set job_id = private.enqueue('executions.run', jsonb_build_object('executionId', x.id), p_at, null, 'executions') where x.id = e.id;
    else
      continue;
    end if;
    v_count := v_count + 1;
  end loop;
  -- A job is deleted in the transaction that leases its run, so this finds only jobs that were deleted by hand.
  for e in
    select * from public.skill_executions x
    where x.status = 'pending' and x.executed_at < p_at - interval '30 seconds'
      and not exists (select from jobs.gue_jobs j where j.job_id = x.job_id)
    order by x.executed_at limit 1000 for no key update skip locked
  loop
    update public.skill_executions x
    set job_id = private.enqueue('executions.run', jsonb_build_object('executionId', x.id), p_at, null, 'executions') where x.id = e.id;
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;
comment on function private.sweep_executions is
  'Ends runs that took too long or may not be repeated, and gives the others of dead workers a job again; gives how many. Authorization: callable by schedules only.';

-- The number of days that rows are kept: the value that the installation declares, but never below 90, because the statistics reach that
-- far.
create or replace function private.execution_days() returns integer
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return greatest(90, coalesce((private.installation_value('execution_days') #>> '{}')::integer, 90));
end
$$;
comment on function private.execution_days is 'Days after which rows of runs are deleted. Authorization: callable by schedules only.';

create or replace function private.prune_executions(p_at timestamptz default now(), out emptied bigint, out deleted bigint)
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.skill_executions where completed_at is not null and executed_at < p_at - make_interval(days => private.execution_days());
  get diagnostics deleted = row_count;
  update public.skill_executions set input = null, output = null, error_message = null
  where completed_at is not null and (input is not null or output is not null or error_message is not null)
    and executed_at < p_at - interval '30 days';
  get diagnostics emptied = row_count;
  -- The next night, however late this run began.
  update private.schedules set run_at = (date_trunc('day', (p_at - interval '3 hours') at time zone 'UTC') + interval '27 hours') at time zone 'UTC'
  where name = 'executions.prune';
end
$$;
comment on function private.prune_executions is
  'Texts of ended runs are emptied after 30 days, rows go after private.execution_days(). Authorization: callable by schedules only.';
