-- Limits change while units are counted. Slots were granted parts of the old limit (consume.sql). A change takes them back first, under the
-- counter's lock, and holds the lock until commit: the next transaction that grants reads the new limit.

create or replace function private.usage_lock(p_org_id uuid, p_metric text) returns bigint
language sql immutable parallel safe
return hashtextextended(p_metric || p_org_id::text, 5);
comment on function private.usage_lock is 'Key of the advisory lock under which grants of a counter are given and taken back.';

create or replace function private.plans_lock() returns bigint
language sql immutable parallel safe
return hashtextextended('plans', 5);
comment on function private.plans_lock is 'Key of the advisory lock between transactions that grant by the plans (shared) and transactions that change plans.';

create or replace function private.take_back_grants(p_org_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(private.usage_lock(p_org_id, m)) from unnest(array['api_calls', 'ingestions', 'oracle_queries']) m;
  update public.usage_counters c set granted = c.used
  where c.organization_id = p_org_id and c.metric <> 'storage' and c.granted <> c.used;
end
$$;
comment on function private.take_back_grants is
  'Makes the next unit of each counter of an organization read the limit again. Authorization: callable by functions of ours only.';

create or replace function private.tg_subscriptions__limits() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.take_back_grants(coalesce(new.organization_id, old.organization_id));
  return null;
end
$$;
comment on function private.tg_subscriptions__limits is 'Trigger: another plan, state or agreement holds from the next unit on.';
create or replace trigger _100_limits_inserted after insert or delete on public.subscriptions for each row
  execute function private.tg_subscriptions__limits();
create or replace trigger _100_limits_updated after update of plan_id, status, overrides on public.subscriptions for each row
  execute function private.tg_subscriptions__limits();

create or replace function private.tg_plans__limits() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(private.plans_lock());
  update public.usage_counters c set granted = c.used
  where c.metric <> 'storage' and c.granted <> c.used;
  return null;
end
$$;
comment on function private.tg_plans__limits is 'Trigger: a changed limit of a plan holds from the next unit on, for each organization on the plan.';
create or replace trigger _100_limits after update of api_calls, ingestions, oracle_queries on public.plans for each statement
  execute function private.tg_plans__limits();
