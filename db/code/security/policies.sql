-- Security policies (contract 40, 6.5). Every member of the organization may read them; they hold where the plan includes them.

create or replace function private.policies_json(s public.security_policies) returns jsonb
language sql stable parallel safe
return jsonb_build_object('teamId', s.organization_id,
  'password', jsonb_build_object('minLength', s.min_length, 'requireUppercase', s.require_uppercase, 'requireLowercase', s.require_lowercase,
    'requireNumber', s.require_number, 'requireSymbol', s.require_symbol, 'expiryDays', s.expiry_days, 'preventReuse', s.prevent_reuse),
  'session', jsonb_build_object('sessionTimeoutMinutes', s.session_minutes, 'idleTimeoutMinutes', s.idle_minutes,
    'maxConcurrentSessions', s.max_sessions, 'rememberDeviceDays', s.remember_days),
  'authentication', jsonb_build_object('require2fa', s.require_second_factor, 'ssoEnforcement', s.sso_enforced, 'allowPasswordAuth', s.allow_password,
    'allowMagicLinkAuth', s.allow_magic_link),
  'updatedAt', private.iso(s.updated_at));
comment on function private.policies_json is 'SecurityPolicies.';

create or replace function private.require_membership() returns uuid
language plpgsql stable
as $$
begin
  if private.user_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  elsif private.org_id() is null then
    perform private.refuse(403, 'ORG_REQUIRED', 'You are not an active member of this organization.');
  end if;
  return private.org_id();
end
$$;
comment on function private.require_membership is 'The organization the caller acts in, or 401 UNAUTHENTICATED, 403 ORG_REQUIRED.';
grant execute on function private.require_membership to authenticated;

create or replace function api.get_security_policies(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org_id uuid := private.require_membership();
begin
  return (select private.policies_json(s) from public.security_policies s where s.organization_id = v_org_id);
end
$$;
comment on function api.get_security_policies is
  'GET /security/policies: SecurityPolicies. Authorization: members, of their own organization. Errors: 401 UNAUTHENTICATED, 403 ORG_REQUIRED.';
grant execute on function api.get_security_policies to authenticated;

create or replace function private.policy_number(p_group jsonb, p_name text, p_key text, p_now integer, p_least integer, p_most integer) returns integer
language plpgsql stable
as $$
declare
  v integer := coalesce(private.as_int(p_group -> p_key, p_name || '.' || p_key), p_now);
begin
  if v not between p_least and p_most then
    perform private.refuse_field(p_name || '.' || p_key, format('%s goes from %s to %s.', p_key, p_least, p_most));
  end if;
  return v;
end
$$;
comment on function private.policy_number is 'A number of a policy after a PATCH: absent keeps. Errors: 400 VALIDATION_ERROR.';

create or replace function private.policy_switch(p_group jsonb, p_name text, p_key text, p_now boolean) returns boolean
language sql stable
return coalesce(private.as_bool(p_group -> p_key, p_name || '.' || p_key), p_now);
comment on function private.policy_switch is 'A switch of a policy after a PATCH: absent keeps. Errors: 400 VALIDATION_ERROR.';

-- No author locks themselves out: to demand a second factor they must have one, to demand the identity provider they must have signed in
-- through it.
create or replace function api.update_security_policies(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org_id uuid := private.require_membership();
  b jsonb := private.as_object(p -> 'body', 'body');
  w jsonb := private.as_object(b -> 'password', 'password');
  s jsonb := private.as_object(b -> 'session', 'session');
  a jsonb := private.as_object(b -> 'authentication', 'authentication');
  o public.security_policies;
  n public.security_policies;
  v_changes jsonb;
begin
  perform private.require_permission('canManageTeam');
  perform private.require_gate('security_policies', 'Security policies are part of the Enterprise plan.');
  select * into o from public.security_policies x where x.organization_id = v_org_id for update;
  n := o;
  n.min_length := private.policy_number(w, 'password', 'minLength', o.min_length, 8, 32);
  n.require_uppercase := private.policy_switch(w, 'password', 'requireUppercase', o.require_uppercase);
  n.require_lowercase := private.policy_switch(w, 'password', 'requireLowercase', o.require_lowercase);
  n.require_number := private.policy_switch(w, 'password', 'requireNumber', o.require_number);
  n.require_symbol := private.policy_switch(w, 'password', 'requireSymbol', o.require_symbol);
  -- Optional in the client's type: null means never.
  n.expiry_days := case when w -> 'expiryDays' = 'null' then 0 else private.policy_number(w, 'password', 'expiryDays', o.expiry_days, 0, 365) end;
  n.prevent_reuse := private.policy_number(w, 'password', 'preventReuse', o.prevent_reuse, 0, 24);
  n.session_minutes := private.policy_number(s, 'session', 'sessionTimeoutMinutes', o.session_minutes, 15, 43200);
  n.idle_minutes := private.policy_number(s, 'session', 'idleTimeoutMinutes', o.idle_minutes, 0, 1440);
  n.max_sessions := private.policy_number(s, 'session', 'maxConcurrentSessions', o.max_sessions, 0, 100);
  n.remember_days := private.policy_number(s, 'session', 'rememberDeviceDays', o.remember_days, 0, 365);
  n.require_second_factor := coalesce(a ->> 'require2fa', o.require_second_factor);
  n.sso_enforced := private.policy_switch(a, 'authentication', 'ssoEnforcement', o.sso_enforced);
  n.allow_password := private.policy_switch(a, 'authentication', 'allowPasswordAuth', o.allow_password);
  n.allow_magic_link := private.policy_switch(a, 'authentication', 'allowMagicLinkAuth', o.allow_magic_link);

  if n.require_second_factor not in ('none', 'admins', 'all') then
    perform private.refuse_field('authentication.require2fa', 'require2fa is none, admins or all.');
  elsif not (n.sso_enforced or n.allow_password or n.allow_magic_link) then
    perform private.refuse_field('authentication.allowPasswordAuth', 'Without single sign-on a password or a link must stay allowed.');
  elsif n.require_second_factor <> o.require_second_factor and n.require_second_factor <> 'none'
    and not exists (select from public.users u where u.id = private.user_id() and u.two_factor_enabled_at is not null)
    -- Today an owner or admin may change policies; a change of the permission matrix may allow other roles.
    and (n.require_second_factor = 'all' or private.org_role() in ('owner', 'admin'))
  then
    perform private.refuse(409, 'TWO_FACTOR_SETUP_REQUIRED', 'Set up your own second factor before you demand one of a group that you belong to.',
      'authentication.require2fa');
  elsif n.sso_enforced and not o.sso_enforced and not exists (select from private.sessions x
    where x.id = coalesce(private.session_id(), private.as_uuid(coalesce(private.claims() ->> 'sid', private.claims() ->> 'session_id')))
      and x.user_id = private.user_id() and x.signed_in_by = 'sso')
  then
    perform private.refuse(409, 'SSO_NOT_CONFIGURED', 'Sign in through your identity provider before you demand it of everybody.',
      'authentication.ssoEnforcement');
  end if;

  with sides as (
    select private.policies_json(o) as old, private.policies_json(n) as new
  ), flat as (
    select (select jsonb_object_agg(g || '.' || m.key, m.value) from unnest(array['password', 'session', 'authentication']) g, jsonb_each(old -> g) m) as old,
      (select jsonb_object_agg(g || '.' || m.key, m.value) from unnest(array['password', 'session', 'authentication']) g, jsonb_each(new -> g) m) as new
    from sides
  )
  select private.audit_changes(old, new, array(select k from jsonb_object_keys(new) k order by k)) into v_changes from flat;
  if v_changes is null then
    return private.policies_json(o);
  end if;
  n.updated_at := clock_timestamp();
  update public.security_policies x set min_length = n.min_length, require_uppercase = n.require_uppercase, require_lowercase = n.require_lowercase,
    require_number = n.require_number, require_symbol = n.require_symbol, expiry_days = n.expiry_days, prevent_reuse = n.prevent_reuse,
    session_minutes = n.session_minutes, idle_minutes = n.idle_minutes, max_sessions = n.max_sessions, remember_days = n.remember_days,
    require_second_factor = n.require_second_factor, sso_enforced = n.sso_enforced, allow_password = n.allow_password,
    allow_magic_link = n.allow_magic_link, updated_at = n.updated_at
  where x.organization_id = v_org_id;
  perform private.audit('security.policy_updated', 'Changed the security policies.', null, v_changes);
  return private.policies_json(n);
end
$$;
comment on function api.update_security_policies is
  'PATCH /security/policies: SecurityPolicies. Authorization: canManageTeam in the caller''s own organization. Errors: 400 VALIDATION_ERROR, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 403 PLAN_UPGRADE_REQUIRED, 409 SSO_NOT_CONFIGURED, 409 TWO_FACTOR_SETUP_REQUIRED.';
grant execute on function api.update_security_policies to authenticated;
