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
