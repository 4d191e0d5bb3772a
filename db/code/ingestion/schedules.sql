-- Recurring work. Each caller (any number of workers, pg_cron) takes the rows that are due and not locked, moves them on and does the work,
-- in one transaction: a worker that dies in it leaves the row due. A task that fails is logged and runs again at its next time.
create or replace function private.run_due(p_limit integer default 10) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v private.schedules;
  v_done integer := 0;
begin
  for v in
    select * from private.schedules where run_at <= clock_timestamp() order by run_at limit p_limit for update skip locked
  loop
    update private.schedules set run_at = clock_timestamp() + v.every, last_run_at = clock_timestamp() where name = v.name;
    begin
      case v.name
        when 'runs.sweep' then perform private.sweep_runs();
        when 'contexts.sweep' then perform private.sweep_contexts();
        when 'events.prune' then perform private.prune_events();
        when 'activity.days' then perform private.close_activity_days();
        when 'checkpoints.prune' then perform private.prune_checkpoints();
        when 'invitations.expire' then perform private.expire_invitations();
        when 'compression.sweep' then perform private.sweep_compressions();
        when 'habits.dispatch' then
          -- Repeated at once, in a transaction of its own, until nothing is due.
          if private.dispatch_habits() > 0 then
            update private.schedules set run_at = clock_timestamp() where name = v.name;
          end if;
        when 'executions.sweep' then perform private.sweep_executions();
        when 'notifications.due' then perform private.release_notifications(), private.notify_spread_quotas(), private.reclaim_units();
        when 'notifications.mail' then perform private.queue_notification_mails();
        when 'audit.count' then perform private.count_audit();
        when 'audit.export' then perform private.queue_audit_exports();
        when 'connections.due' then perform private.tend_connections();
        when 'pushes.due' then perform private.queue_polls();
        when 'integrations.sweep' then perform private.sweep_integrations();
        when 'outbox.sweep' then perform private.sweep_outbox();
        when 'outbox.prune' then perform private.prune_outbox();
        when 'enrichments.sweep' then perform private.sweep_enrichments();
        when 'summary.sweep' then perform private.sweep_summaries();
        when 'billing.sweep' then perform private.sweep_billing();
        when 'billing.recheck' then perform private.queue_btw_checks();
        when 'summary.prune' then perform private.prune_summaries();
        when 'chats.sweep' then perform private.sweep_chats();
        when 'sessions.end' then perform private.end_overdue_sessions(null, clock_timestamp());
        when 'retention.run' then
          if private.run_retention() then
            update private.schedules set run_at = clock_timestamp() where name = v.name;
          end if;
        when 'dataexports.sweep' then perform private.sweep_data_exports();
        when 'metering.fold' then perform private.fold_metering();
        when 'metering.prune' then perform private.prune_metering();
        when 'registry.sweep' then perform private.sweep_mcp_servers();
        when 'registry.sync' then perform private.queue_registry_sync();
        else raise warning 'schedule % is unknown to this version', v.name;
      end case;
    exception when others then
      raise warning 'schedule % failed: % %', v.name, sqlstate, sqlerrm;
    end;
    v_done := v_done + 1;
  end loop;
  return v_done;
end
$$;
comment on function private.run_due is 'Does what is due; gives how many pieces. Authorization: callable by the worker (and pg_cron as the owner) only.';
grant execute on function private.run_due to kijko_worker;

create or replace function private.prune_checkpoints(p_at timestamptz default now()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count integer;
begin
  update public.ingestion_runs set checkpoint = '{}', checkpoint_expires_at = null where checkpoint_expires_at <= p_at;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function private.prune_checkpoints is 'Checkpoints of failed runs end after 24 hours. Authorization: callable by schedules only.';
