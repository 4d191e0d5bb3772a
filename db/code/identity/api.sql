-- Operations of a signed-in caller on their own account.

create or replace function private.is_platform_admin() returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return coalesce((select u.is_platform_admin from public.users u where u.id = private.user_id())
    -- Our server leaves this claim only where the identity provider is trusted with the role. A gateway passes on each claim of a token.
    or private.claims() -> 'platform_admin' = 'true' and nullif(current_setting('app.user_id', true), '') is not null and not private.is_stranger(), false);
end
$$;
comment on function private.is_platform_admin is
  'Is the caller staff of this platform? Past our server only users.is_platform_admin says so. Authorization: private.user_id() only.';
grant execute on function private.is_platform_admin to authenticated;

create or replace function private.me_json() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_build_object('id', u.id, 'email', u.email, 'first_name', u.first_name, 'last_name', u.last_name,
      'org_id', private.org_id(),
      'roles', to_jsonb(array[private.org_role()] || case when private.is_platform_admin() then array['platform_admin'] else '{}' end),
      'plan', coalesce(private.effective_plan(private.org_id()), 'free'),
      'email_verified', u.email_verified_at is not null, 'two_factor_enabled', u.two_factor_enabled_at is not null)
    from public.users u
    where u.id = private.user_id()
  );
end
$$;
comment on function private.me_json is 'AuthUser of the contract for the caller. Authorization: private.user_id() only.';
grant execute on function private.me_json to authenticated;

create or replace function api.get_me(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_me jsonb := private.me_json();
begin
  if v_me is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  return v_me;
end
$$;
comment on function api.get_me is 'GET /auth/me: who is signed in, where, as what. Errors: 401 UNAUTHENTICATED.';
grant execute on function api.get_me to authenticated;

create or replace function private.my_organizations_json() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('org_id', o.id, 'name', o.name, 'role', m.role, 'status', m.status,
      'is_current', o.id = private.org_id()) order by (o.id = private.org_id()) desc, lower(o.name), o.id), '[]')
    from public.memberships m
    join public.organizations o on o.id = m.organization_id
    where m.user_id = private.user_id()
  );
end
$$;
comment on function private.my_organizations_json is 'Organizations of the caller, the current one first. Authorization: private.user_id() only.';
grant execute on function private.my_organizations_json to authenticated;

create or replace function api.list_organizations(p jsonb) returns jsonb
language sql stable
return private.my_organizations_json();
comment on function api.list_organizations is 'GET /auth/organizations: where the caller is a member, the current one first, then by name.';
grant execute on function api.list_organizations to authenticated;
