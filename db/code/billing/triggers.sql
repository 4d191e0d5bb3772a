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

-- Requests are held to the state machine, except for what the payment provider said, in a webhook or as an answer: it is the authority,
-- whatever it implies (private.settle_subscription). Staff end a contract or make one by the same transitions.
create or replace function private.tg_subscriptions__transition() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if private.user_id() is not null and coalesce(current_setting('app.as_provider', true), '') <> 'on' and not exists (
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

-- Invoices are the bookkeeping: once finalized, only the payment of one goes on.
create or replace function private.tg_invoices__keep() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if new.status <> old.status and not exists (select from private.invoice_transitions t where t.from_status = old.status and t.to_status = new.status) then
    raise exception 'an invoice that is % does not become %', old.status, new.status using errcode = 'check_violation';
  elsif old.status <> 'draft' and (new.stripe_invoice_id, new.stripe_customer_id, new.stripe_subscription_id, new.number, new.currency, new.net_amount, new.vat_amount,
      new.total_amount, new.amount_due, new.vat_rate, new.vat_treatment, new.customer_country, new.description, new.period_start, new.period_end, new.due_at,
      new.finalized_at, new.snapshot, new.created_at)
    is distinct from (old.stripe_invoice_id, old.stripe_customer_id, old.stripe_subscription_id, old.number, old.currency, old.net_amount, old.vat_amount,
      old.total_amount, old.amount_due, old.vat_rate, old.vat_treatment, old.customer_country, old.description, old.period_start, old.period_end, old.due_at,
      old.finalized_at, old.snapshot, old.created_at) then
    raise exception 'invoice % is finalized, so only its payment changes', old.number using errcode = 'check_violation';
  elsif new.organization_id is distinct from old.organization_id and new.organization_id is not null then
    raise exception 'an invoice stays with its organization' using errcode = 'check_violation';
  end if;
  return new;
end
$$;
comment on function private.tg_invoices__keep is 'Trigger: finalized invoices stay as they are, and their status goes the ways of private.invoice_transitions.';
create or replace trigger _200_keep before update on public.invoices for each row execute function private.tg_invoices__keep();

create or replace function private.tg_invoices__keep_years() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if old.status <> 'draft' and old.created_at >= date_trunc('year', now() at time zone 'Europe/Amsterdam') at time zone 'Europe/Amsterdam' - interval '7 years' then
    raise exception 'invoice % is kept for 7 years after the end of its year', old.number using errcode = 'check_violation';
  end if;
  return old;
end
$$;
comment on function private.tg_invoices__keep_years is 'Trigger: invoices are kept for 7 years after the end of the year of issue (Dutch fiscal retention).';
create or replace trigger _200_keep_years before delete on public.invoices for each row execute function private.tg_invoices__keep_years();

create or replace function private.tg_organizations__leave_events() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.stripe_events e set organization_id = null where e.organization_id = old.id;
  return null;
end
$$;
comment on function private.tg_organizations__leave_events is 'Trigger: events of Stripe outlive their organization, without its id.';
create or replace trigger _500_leave_events after delete on public.organizations
  for each row execute function private.tg_organizations__leave_events();
