-- Gates: the features that a plan opens beside its limits (plans.gates). They are read from the effective plan at the moment of the
-- request.

create or replace function private.has_gate(p_org_id uuid, p_gate text) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return exists (select from public.plans p where p.id = private.effective_plan(p_org_id) and p_gate = any (p.gates));
end
$$;
comment on function private.has_gate is
  'Does the effective plan of an organization open this? Authorization: callable by functions of ours only; the answer tells no more than a plan.';

create or replace function private.is_open(p_gate text) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return private.has_gate(private.org_id(), p_gate);
end
$$;
comment on function private.is_open is 'Does the caller''s plan open this? Authorization: only the caller''s own organization.';

create or replace function private.require_gate(p_gate text, p_message text, p_field text default null) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  if not private.has_gate(private.org_id(), p_gate) then
    perform private.refuse(403, 'PLAN_UPGRADE_REQUIRED', p_message, p_field, jsonb_build_object('requiredPlan',
      (select p.id from public.plans p where p_gate = any (p.gates) order by p.position limit 1)));
  end if;
end
$$;
comment on function private.require_gate is
  '403 PLAN_UPGRADE_REQUIRED with the smallest plan that opens the gate. Authorization: only the caller''s own organization.';

grant execute on function private.is_open, private.require_gate to authenticated;
