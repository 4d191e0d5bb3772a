-- Events of entities whose tables are older than the log, or belong to more than one feature (contract 30, 10.2): members of an
-- organization, its subscription. Also access that ends because a row changes and not because it is deleted.

-- The entry of a context tells of its run.
drop function if exists private.tg_ingestion_runs__emit_entry();

create or replace function private.emit_org_change(
  p_resource text, p_id uuid, p_operation text, p_org_id uuid, p_fields text[] default null
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.emit('org:' || p_org_id, 'resource_changed', jsonb_strip_nulls(jsonb_build_object('resource', p_resource, 'id', p_id,
    'operation', p_operation, 'changedFields', to_jsonb(p_fields), 'updatedAt', private.iso(now()))), p_org_id, null, 'room', p_resource, p_id);
end
$$;
comment on function private.emit_org_change is 'resource_changed of something of an organization. Authorization: callable by triggers of ours only.';

-- One event a row; a statement that touches more than 100 people of an organization is one event about the organization.
create or replace function private.tg_memberships__emit_change() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  if tg_op = 'UPDATE' then
    for v in
      select n.organization_id, case when count(*) <= 100 then array_agg(n.id order by n.id) end as ids,
        array_agg(array_to_string(array_remove(array[case when n.role <> o.role then 'role' end,
          case when n.status <> o.status then 'status' end], null), ',') order by n.id) as fields
      from changed n join former o on o.id = n.id
      where (n.role, n.status) is distinct from (o.role, o.status)
      group by n.organization_id
    loop
      perform private.emit_members(v.organization_id, 'updated', v.ids, v.fields);
    end loop;
  elsif tg_op = 'INSERT' then
    for v in
      select n.organization_id, case when count(*) <= 100 then array_agg(n.id order by n.id) end as ids from changed n group by n.organization_id
    loop
      perform private.emit_members(v.organization_id, 'created', v.ids);
    end loop;
  else
    for v in
      select o.organization_id, case when count(*) <= 100 then array_agg(o.id order by o.id) end as ids from former o
      -- An organization that is being deleted has no subscribers left.
      where exists (select from public.organizations g where g.id = o.organization_id)
      group by o.organization_id
    loop
      perform private.emit_members(v.organization_id, 'deleted', v.ids);
    end loop;
  end if;
  return null;
end
$$;
comment on function private.tg_memberships__emit_change is 'Trigger: people of an organization who came, changed or went.';

create or replace function private.emit_members(p_org_id uuid, p_operation text, p_ids uuid[], p_fields text[] default null) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_ids is null then
    perform private.emit_org_change('org_member', p_org_id, 'updated', p_org_id);
    return;
  end if;
  for i in 1..cardinality(p_ids) loop
    perform private.emit_org_change('org_member', p_ids[i], p_operation, p_org_id, string_to_array(p_fields[i], ','));
  end loop;
end
$$;
comment on function private.emit_members is 'Events of people of an organization; null ids = too many to name. Authorization: callable by triggers of ours only.';

create or replace trigger _900_emit_insert after insert on public.memberships
  referencing new table as changed for each statement execute function private.tg_memberships__emit_change();
create or replace trigger _900_emit_update after update on public.memberships
  referencing old table as former new table as changed for each statement execute function private.tg_memberships__emit_change();
create or replace trigger _900_emit_delete after delete on public.memberships
  referencing old table as former for each statement execute function private.tg_memberships__emit_change();

create or replace function private.tg_subscriptions__emit_change() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.emit_org_change('subscription', new.id, 'updated', new.organization_id, array_remove(array[
    case when new.plan_id <> old.plan_id then 'planId' end, case when new.status <> old.status then 'status' end,
    case when new.overrides <> old.overrides then 'limits' end, case when new.billing_interval <> old.billing_interval then 'billingInterval' end,
    case when new.current_period_end is distinct from old.current_period_end then 'currentPeriodEnd' end,
    case when new.cancel_at_period_end <> old.cancel_at_period_end then 'cancelAtPeriodEnd' end,
    case when new.trial_end is distinct from old.trial_end then 'trialEnd' end,
    case when (new.pending_plan_id, new.pending_billing_interval) is distinct from (old.pending_plan_id, old.pending_billing_interval) then 'pendingPlanId' end],
    null));
  return null;
end
$$;
comment on function private.tg_subscriptions__emit_change is 'Trigger: a changed plan is told to the organization.';
create or replace trigger _900_emit_change after update on public.subscriptions for each row
  when ((old.plan_id, old.status, old.overrides, old.billing_interval, old.current_period_end, old.cancel_at_period_end, old.trial_end, old.pending_plan_id,
    old.pending_billing_interval) is distinct from (new.plan_id, new.status, new.overrides, new.billing_interval, new.current_period_end, new.cancel_at_period_end,
    new.trial_end, new.pending_plan_id, new.pending_billing_interval))
  execute function private.tg_subscriptions__emit_change();

-- Access to a project also ends while its row stays: acceptance is withdrawn, the row is given to another person, or the owner changes.
-- Members who may still see the project stay in its rooms.
create or replace function private.tg_project_members__emit_removal() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.emit_removal('member_removed', old.organization_id, old.project_id, old.user_id, null);
  return null;
end
$$;
comment on function private.tg_project_members__emit_removal is 'Trigger: a membership in a project that is one no longer makes servers check that person''s sockets again.';
create or replace trigger _900_emit_removal after update on public.project_members for each row
  when (old.accepted_at is not null and old.user_id is not null
    and (new.accepted_at is null or new.user_id is distinct from old.user_id))
  execute function private.tg_project_members__emit_removal();

create or replace function private.tg_projects__emit_removal() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.emit_removal('member_removed', old.organization_id, old.id, old.user_id, null);
  return null;
end
$$;
comment on function private.tg_projects__emit_removal is 'Trigger: a former owner may have lost the project from sight.';
create or replace trigger _900_emit_removal after update of user_id on public.projects for each row
  when (old.user_id is distinct from new.user_id) execute function private.tg_projects__emit_removal();
