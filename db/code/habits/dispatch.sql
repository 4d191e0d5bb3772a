-- Scheduled dispatch (contract 20, 7.1). Any number of schedulers take due habits, each row once: taken rows are locked, other schedulers
-- skip them, and next_run_at has moved on before another scheduler can see them again. It moves to the first run after now, so all runs
-- that a stopped server missed become one dispatched run.

-- A transaction pays for one run of an organization at most: with two units of one counter it could wait for a transaction that waits for
-- the first unit. The caller repeats the call until it returns 0. Organizations are taken in one order, so schedulers never wait in a
-- circle.
create or replace function private.dispatch_habits(p_at timestamptz default now(), p_limit integer default 100) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid;
  h public.habits;
  v_next timestamptz;
  v_runs boolean;
  v_moved integer := 0;
  v_void text;
begin
  for v_org in
    select o.organization_id
    from (
      select x.organization_id from public.habits x where x.is_active and x.next_run_at <= p_at
      group by x.organization_id order by min(x.next_run_at) limit p_limit
    ) o
    order by o.organization_id
  loop
    for h in
      select * from public.habits x where x.organization_id = v_org and x.is_active and x.next_run_at <= p_at
      order by x.next_run_at limit 10 for no key update skip locked
    loop
      v_runs := false;
      v_next := null;
      begin
        v_next := private.cron_next(h.schedule_cron, h.timezone, p_at);
        if v_next is null then
          update public.habits x set is_active = false, last_error_message = 'Cron expression never runs' where x.id = h.id;
        else
          update public.habits x set next_run_at = v_next where x.id = h.id;
        end if;
        if private.may_run(h) then
          v_void := private.start_execution(h.skill_id, h.user_id, h.organization_id, 'habit', h.id, h.config, 'record');
          v_runs := true;
        end if;
        v_moved := v_moved + 1;
      exception
        when transaction_rollback or lock_not_available then
          -- The habit itself is not at fault: it stays due.
          raise warning 'habit % was not dispatched: %', h.id, sqlerrm;
        when others then
          -- A failure of this habit does not stop the others, and this habit is not retried at once.
          raise warning 'habit % could not be dispatched: % %', h.id, sqlstate, sqlerrm;
          begin
            update public.habits x set next_run_at = greatest(v_next, p_at + interval '1 minute') where x.id = h.id;
            v_moved := v_moved + 1;
          exception when others then
            raise warning 'habit % could not be put off: % %', h.id, sqlstate, sqlerrm;
          end;
      end;
      exit when v_runs;
    end loop;
  end loop;
  return v_moved;
end
$$;
comment on function private.dispatch_habits is
  'Starts runs of due habits and plans their next ones, of p_limit organizations one run each; gives how many habits were dealt with, 0 when nothing is due. Authorization: callable by the worker (and pg_cron as the owner) only.';
grant execute on function private.dispatch_habits to kijko_worker;

-- Slow model answers do not pile up runs: while a run is open, the occurrence is skipped.
create or replace function private.may_run(h public.habits) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return private.may_run_skill(h.skill_id, h.user_id)
    and private.is_active_member(h.organization_id, h.user_id)
    and not exists (select from public.skill_executions e
      where e.user_id = h.user_id and e.reference_id = h.id and e.status in ('pending', 'running'));
end
$$;
comment on function private.may_run is
  'Would this occurrence of a habit run: active skill that the owner sees, active member, nothing open? Authorization: callable by the dispatcher only.';
