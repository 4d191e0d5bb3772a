-- What the staff of the platform see and change of organizations (contract 50, section 11).

create or replace function private.admin_organization_json(o public.organizations) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_strip_nulls(jsonb_build_object('id', o.id, 'name', o.name, 'ownerId', private.owner_of(o.id), 'planId', s.plan_id, 'status', s.status,
      'seats', private.seats_used(o.id), 'createdAt', private.iso(o.created_at)))
    from public.subscriptions s where s.organization_id = o.id
  );
end
$$;
comment on function private.admin_organization_json is 'An organization as staff see it. Authorization: callable by functions of ours only.';

create or replace function api.list_all_projects(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_at record;
begin
  perform private.assert_platform_admin();
  v_at := private.page(p, 50);
  return (
    select coalesce(jsonb_agg(jsonb_build_object('id', x.id, 'name', x.name, 'organizationId', x.organization_id, 'status', x.status,
      'createdAt', private.iso(x.created_at)) order by x.created_at desc, x.id), '[]')
    from (select * from public.projects r order by r.created_at desc, r.id limit v_at.size offset v_at.skipped) x
  );
end
$$;
comment on function api.list_all_projects is
  'GET /admin/projects: {id, name, organizationId, status, createdAt}[]. Authorization: the staff of this platform only. Errors: 403 FORBIDDEN.';

create or replace function api.list_all_organizations(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_at record;
  v_pattern constant text := private.like_pattern(left(nullif(btrim(p ->> 'search'), ''), 200));
begin
  perform private.assert_platform_admin();
  v_at := private.page(p, 50);
  return (
    select coalesce(jsonb_agg(private.admin_organization_json(x) order by x.created_at desc, x.id), '[]')
    from (select * from public.organizations o where v_pattern is null or o.name ilike v_pattern
      order by o.created_at desc, o.id limit v_at.size offset v_at.skipped) x
  );
end
$$;
comment on function api.list_all_organizations is
  'GET /admin/organizations: {id, name, ownerId, planId, status, seats, createdAt}[]. Authorization: the staff of this platform only. Errors: 403 FORBIDDEN.';

-- The limits of a contract under the names of Plan.limits; null takes the plan's own number.
create or replace function private.changed_overrides(p_overrides jsonb, p_limits jsonb) returns jsonb
language plpgsql stable
as $$
declare
  c_metrics constant jsonb := '{"apiCalls": "api_calls", "ingestions": "ingestions", "storageGb": "storage", "seats": "seats", "oracleQueries": "oracle_queries"}';
  v_overrides jsonb := p_overrides;
  v_limit bigint;
  l record;
begin
  for l in select * from jsonb_each(p_limits) order by key loop
    if not c_metrics ? l.key then
      perform private.refuse_field(left('limits.' || l.key, 100), 'limits has apiCalls, ingestions, storageGb, seats and oracleQueries.');
    end if;
    v_limit := private.as_bigint(l.value, 'limits.' || l.key);
    if v_limit not between -1 and 1000000000000 then
      perform private.refuse_field('limits.' || l.key, format('%s goes from 0 to 1000000000000; -1 is unlimited.', l.key));
    end if;
    v_overrides := v_overrides - (c_metrics ->> l.key) || case when v_limit is null then '{}' else jsonb_build_object(c_metrics ->> l.key, v_limit) end;
  end loop;
  return v_overrides;
end
$$;
comment on function private.changed_overrides is 'Overrides of limits after a change. Errors: 400 VALIDATION_ERROR.';

create or replace function api.update_organization(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  o public.organizations;
  s public.subscriptions;
  n public.subscriptions;
begin
  perform private.assert_platform_admin();
  select * into o from public.organizations x where x.id = private.as_uuid(p ->> 'organizationId');
  if not found then
    perform private.refuse(404, 'NOT_FOUND', format('Organization with ID %s not found', left(p ->> 'organizationId', 100)));
  end if;
  select * into s from public.subscriptions x where x.organization_id = o.id for update;
  n := s;
  n.plan_id := coalesce(b ->> 'planId', s.plan_id);
  if n.plan_id not in ('free', 'pro', 'teams', 'enterprise') then
    perform private.refuse_field('planId', 'planId is free, pro, teams or enterprise.');
  elsif n.plan_id <> s.plan_id then
    if s.stripe_subscription_id is not null then
      perform private.refuse(409, 'SUBSCRIPTION_EXISTS', 'The organization pays for a subscription. It has to be canceled first.', 'planId');
    end if;
    n.status := case when n.plan_id = 'free' then 'canceled' else 'active' end;
    n.pending_plan_id := null;
    n.pending_billing_interval := null;
    n.cancel_at_period_end := false;
    if s.plan_id = 'enterprise' then
      -- The limits of a contract end with it.
      n.overrides := '{}';
    end if;
  end if;
  n.overrides := private.changed_overrides(n.overrides, private.as_object(b -> 'limits', 'limits'));
  if n is distinct from s then
    update public.subscriptions x set plan_id = n.plan_id, status = n.status, overrides = n.overrides, pending_plan_id = n.pending_plan_id,
      pending_billing_interval = n.pending_billing_interval, cancel_at_period_end = n.cancel_at_period_end where x.id = s.id;
  end if;
  if n.overrides <> s.overrides then
    perform private.audit('system.plan_changed', 'The limits of the contract changed.', null, jsonb_build_array(jsonb_build_object('field', 'limits', 'oldValue', s.overrides,
      'newValue', n.overrides)), o.id);
  end if;
  return private.admin_organization_json(o);
end
$$;
comment on function api.update_organization is
  'PATCH /admin/organizations/{organizationId}: an organization. Authorization: the staff of this platform only. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 NOT_FOUND, 409 INVALID_STATUS, SUBSCRIPTION_EXISTS.';
grant execute on function api.list_all_projects, api.list_all_organizations, api.update_organization to authenticated;
