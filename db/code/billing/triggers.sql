-- Every organization has a row of billing details from its beginning.
create or replace function private.tg_organizations__billing_details() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into public.billing_details (organization_id) values (new.id) on conflict do nothing;
  return null;
end
$$;
comment on function private.tg_organizations__billing_details is 'Trigger: a new organization has empty billing details, in the Netherlands.';
create or replace trigger _500_billing_details after insert on public.organizations
  for each row execute function private.tg_organizations__billing_details();

-- Requests are held to the state machine. A webhook of the payment provider acts for no user: the provider is the authority, whatever it
-- implies. Staff end a contract or make one by the same transitions.
create or replace function private.tg_subscriptions__transition() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if private.user_id() is not null and not exists (
    select from private.subscription_transitions t
    where t.was_paid = (old.plan_id <> 'free') and t.from_status = old.status and t.is_paid = (new.plan_id <> 'free') and t.to_status = new.status) then
    perform private.refuse(409, 'INVALID_STATUS',
      format('A subscription that is %s on %s cannot become %s on %s.', old.status, old.plan_id, new.status, new.plan_id), 'status');
  end if;
  return new;
end
$$;
comment on function private.tg_subscriptions__transition is 'Trigger: a request causes only the transitions of private.subscription_transitions.';
create or replace trigger _200_transition before update on public.subscriptions for each row
  when ((old.plan_id, old.status) is distinct from (new.plan_id, new.status))
  execute function private.tg_subscriptions__transition();

create or replace function private.tg_subscriptions__settle() returns trigger
language plpgsql volatile set search_path = ''
as $$
begin
  new.billing_interval := 'monthly';
  new.stripe_subscription_id := null;
  new.current_period_start := null;
  new.current_period_end := null;
  new.cancel_at_period_end := false;
  new.trial_end := null;
  new.pending_plan_id := null;
  new.pending_billing_interval := null;
  return new;
end
$$;
comment on function private.tg_subscriptions__settle is 'Trigger: a subscription that ends at free has no period, no flags and no waiting change.';
create or replace trigger _100_settle before update on public.subscriptions for each row
  when (new.plan_id = 'free' and old.plan_id <> 'free') execute function private.tg_subscriptions__settle();

create or replace function private.tg_subscriptions__audit() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.audit('system.plan_changed', format('The plan changed from %s to %s.', (select p.name from public.plans p where p.id = old.plan_id),
      (select p.name from public.plans p where p.id = new.plan_id)),
    jsonb_build_object('planId', new.plan_id, 'status', new.status),
    private.audit_changes(jsonb_build_object('planId', old.plan_id, 'status', old.status), jsonb_build_object('planId', new.plan_id, 'status', new.status),
      array['planId', 'status']), new.organization_id);
  return null;
end
$$;
comment on function private.tg_subscriptions__audit is 'Trigger: another plan is an entry of the audit log.';
create or replace trigger _900_audit after update on public.subscriptions for each row
  when (old.plan_id <> new.plan_id) execute function private.tg_subscriptions__audit();
