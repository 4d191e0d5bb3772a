-- The IP allow-list (contract 40, 6.6). Reading needs canManageTeam; writing needs the plan as well. No change may lock its own author out.

create or replace function private.ip_entry_json(e public.ip_allow_list_entries) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return jsonb_strip_nulls(jsonb_build_object('id', e.id, 'teamId', e.organization_id, 'name', e.name,
    'ipAddress', case when not e.is_range then host(e.network) end, 'ipRange', case when e.is_range then host(e.network) || '/' || masklen(e.network) end,
    'isActive', e.is_active, 'createdAt', private.iso(e.created_at),
    'createdBy', coalesce((select u.email from public.users u where u.id = e.created_by), 'deleted user')));
end
$$;
comment on function private.ip_entry_json is 'IPWhitelistEntry. Authorization: callable by definer functions of ours only.';

create or replace function private.ip_list_json(p_org_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_build_object('teamId', s.organization_id, 'mode', s.ip_mode, 'adminBypassEnabled', s.ip_admin_bypass,
      'entries', coalesce((select jsonb_agg(private.ip_entry_json(e) order by e.created_at, e.id)
        from public.ip_allow_list_entries e where e.organization_id = s.organization_id), '[]'),
      'groups', '[]'::jsonb)
    from public.security_policies s where s.organization_id = p_org_id
  );
end
$$;
comment on function private.ip_list_json is 'IPWhitelistSettings. Authorization: callable by definer functions of ours only.';

create or replace function api.get_ip_allow_list(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org_id uuid := private.require_membership();
begin
  perform private.require_permission('canManageTeam');
  return private.ip_list_json(v_org_id);
end
$$;
comment on function api.get_ip_allow_list is
  'GET /security/ip-whitelist: IPWhitelistSettings. Authorization: canManageTeam in the caller''s own organization. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED.';
grant execute on function api.get_ip_allow_list to authenticated;

-- The caller's organization, with its settings locked, so that changes are checked one after the other.
create or replace function private.begin_ip_change() returns public.security_policies
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org_id uuid := private.require_membership();
  s public.security_policies;
begin
  select * into s from public.security_policies x where x.organization_id = v_org_id for update;
  perform private.require_permission('canManageTeam');
  perform private.require_gate('ip_allow_list', 'The IP allow-list is part of the Enterprise plan.');
  return s;
end
$$;
comment on function private.begin_ip_change is 'Checks who changes an allow-list: canManageTeam, and the plan. Authorization: callable by definer functions of ours only.';

-- Checks the state after the change. Past our server the client address is unverified, so there only the bypass admits a caller.
create or replace function private.finish_ip_change(p_description text, p_changes jsonb, p_metadata jsonb default null) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if exists (select from public.security_policies s where s.organization_id = private.org_id() and s.ip_mode = 'enforce'
      and not (s.ip_admin_bypass and private.org_role() in ('owner', 'admin')))
    and (private.is_stranger() or not private.is_listed(private.org_id(), private.as_inet(nullif(current_setting('app.client_ip', true), ''))))
  then
    perform private.refuse(409, 'IP_LOCKOUT', 'This would lock out the address from which you are working. Add it to the list first.');
  end if;
  perform private.audit('security.ip_whitelist_updated', p_description, p_metadata, p_changes);
end
$$;
comment on function private.finish_ip_change is 'Refuses a change that shuts its maker out, and writes the audit entry. Authorization: callable by definer functions of ours only. Errors: 409 IP_LOCKOUT.';

create or replace function api.update_ip_allow_list(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b jsonb := private.as_object(p -> 'body', 'body');
  s public.security_policies := private.begin_ip_change();
  v_mode text := coalesce(b ->> 'mode', s.ip_mode);
  v_bypass boolean := coalesce(private.as_bool(b -> 'adminBypassEnabled', 'adminBypassEnabled'), s.ip_admin_bypass);
  v_changes jsonb;
begin
  if v_mode not in ('disabled', 'warn', 'enforce') then
    perform private.refuse_field('mode', 'mode is disabled, warn or enforce.');
  end if;
  v_changes := private.audit_changes(jsonb_build_object('mode', s.ip_mode, 'adminBypassEnabled', s.ip_admin_bypass),
    jsonb_build_object('mode', v_mode, 'adminBypassEnabled', v_bypass), array['mode', 'adminBypassEnabled']);
  if v_changes is not null then
    update public.security_policies x set ip_mode = v_mode, ip_admin_bypass = v_bypass where x.organization_id = s.organization_id;
    perform private.finish_ip_change('Changed the settings of the IP allow-list.', v_changes);
  end if;
  return private.ip_list_json(s.organization_id);
end
$$;
comment on function api.update_ip_allow_list is
  'PATCH /security/ip-whitelist: IPWhitelistSettings. Authorization: canManageTeam in the caller''s own organization. Errors: 400 VALIDATION_ERROR, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 403 PLAN_UPGRADE_REQUIRED, 409 IP_LOCKOUT.';
grant execute on function api.update_ip_allow_list to authenticated;

-- The network of a body; null where the body has none.
create or replace function private.body_network(b jsonb) returns inet
language plpgsql stable
as $$
declare
  v_address text := btrim(b ->> 'ipAddress');
  v_range text := btrim(b ->> 'ipRange');
  v inet;
begin
  if v_address is not null and v_range is not null then
    perform private.refuse_field('ipAddress', 'Give either ipAddress or ipRange.');
  elsif v_address is not null then
    v := private.as_inet(v_address);
    if v is null or strpos(v_address, '/') > 0 then
      perform private.refuse_field('ipAddress', 'ipAddress is an IPv4 or IPv6 address.');
    end if;
  elsif v_range is not null then
    v := private.as_inet(v_range);
    if v is null or v_range !~ '/\d+$' then
      perform private.refuse_field('ipRange', 'ipRange is a range in CIDR notation, such as 203.0.113.0/24.');
    elsif network(v)::inet <> v then
      perform private.refuse_field('ipRange', format('ipRange begins at its first address: %s/%s.', host(network(v)), masklen(v)));
    end if;
  end if;
  return v;
end
$$;
comment on function private.body_network is 'ipAddress or ipRange of a body. Errors: 400 VALIDATION_ERROR.';

create or replace function private.assert_free_network(p_org_id uuid, p_network inet, p_entry_id uuid default null) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  if exists (select from public.ip_allow_list_entries e where e.organization_id = p_org_id and e.network = p_network and e.id is distinct from p_entry_id) then
    perform private.refuse(409, 'IP_ENTRY_EXISTS', 'The list has this address or range already.');
  end if;
end
$$;
comment on function private.assert_free_network is 'Authorization: callable by definer functions of ours only. Errors: 409 IP_ENTRY_EXISTS.';

create or replace function private.entry_name(p_value jsonb) returns text
language plpgsql stable
as $$
declare
  v text := private.without_blanks(p_value #>> '{}');
begin
  if coalesce(char_length(v), 0) not between 1 and 100 or v ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]' then
    perform private.refuse_field('name', 'The name must have 1 to 100 characters, none of them a control character.');
  end if;
  return v;
end
$$;
comment on function private.entry_name is 'The name of an entry. Errors: 400 VALIDATION_ERROR.';

create or replace function api.create_ip_entry(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b jsonb := private.as_object(p -> 'body', 'body');
  s public.security_policies := private.begin_ip_change();
  v_network inet := private.body_network(b);
  e public.ip_allow_list_entries;
begin
  if v_network is null then
    perform private.refuse_field('ipAddress', 'ipAddress or ipRange is required.');
  elsif (select count(*) from public.ip_allow_list_entries x where x.organization_id = s.organization_id) >= 500 then
    perform private.refuse(409, 'TOO_MANY_IP_ENTRIES', 'The list has 500 entries. Put some of them together into ranges.');
  end if;
  perform private.assert_free_network(s.organization_id, v_network);
  insert into public.ip_allow_list_entries (organization_id, name, network, is_range, is_active, created_by)
  values (s.organization_id, private.entry_name(b -> 'name'), v_network, b ->> 'ipRange' is not null,
    coalesce(private.as_bool(b -> 'isActive', 'isActive'), true), private.user_id())
  returning * into e;
  perform private.finish_ip_change('Added an entry to the IP allow-list.', null, jsonb_build_object('name', e.name, 'network', e.network::text));
  return private.ip_entry_json(e);
end
$$;
comment on function api.create_ip_entry is
  'POST /security/ip-whitelist/entries: IPWhitelistEntry. Authorization: canManageTeam in the caller''s own organization. Errors: 400 VALIDATION_ERROR, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 403 PLAN_UPGRADE_REQUIRED, 409 IP_ENTRY_EXISTS, 409 IP_LOCKOUT, 409 TOO_MANY_IP_ENTRIES.';
grant execute on function api.create_ip_entry to authenticated;

create or replace function private.ip_entry(p_org_id uuid, p_id text) returns public.ip_allow_list_entries
language plpgsql stable security definer set search_path = ''
as $$
declare
  e public.ip_allow_list_entries;
begin
  select * into e from public.ip_allow_list_entries x where x.organization_id = p_org_id and x.id = private.as_uuid(p_id);
  if not found then
    perform private.refuse(404, 'NOT_FOUND', 'The list has no such entry.');
  end if;
  return e;
end
$$;
comment on function private.ip_entry is 'An entry of an organization. Authorization: callable by definer functions of ours only. Errors: 404 NOT_FOUND.';

create or replace function api.update_ip_entry(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b jsonb := private.as_object(p -> 'body', 'body');
  s public.security_policies := private.begin_ip_change();
  o public.ip_allow_list_entries := private.ip_entry(s.organization_id, p ->> 'entryId');
  n public.ip_allow_list_entries := o;
begin
  if b ->> 'name' is not null then
    n.name := private.entry_name(b -> 'name');
  end if;
  n.network := coalesce(private.body_network(b), o.network);
  n.is_range := case when b ->> 'ipRange' is not null then true when b ->> 'ipAddress' is not null then false else o.is_range end;
  n.is_active := coalesce(private.as_bool(b -> 'isActive', 'isActive'), o.is_active);
  if n is distinct from o then
    perform private.assert_free_network(s.organization_id, n.network, o.id);
    update public.ip_allow_list_entries x set name = n.name, network = n.network, is_range = n.is_range, is_active = n.is_active where x.id = o.id;
    perform private.finish_ip_change('Changed an entry of the IP allow-list.', private.audit_changes(
      jsonb_build_object('name', o.name, 'network', o.network::text, 'isActive', o.is_active),
      jsonb_build_object('name', n.name, 'network', n.network::text, 'isActive', n.is_active), array['name', 'network', 'isActive']),
      jsonb_build_object('name', n.name));
  end if;
  return private.ip_entry_json(n);
end
$$;
comment on function api.update_ip_entry is
  'PATCH /security/ip-whitelist/entries/{entryId}: IPWhitelistEntry. Authorization: canManageTeam in the caller''s own organization. Errors: 400 VALIDATION_ERROR, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 403 PLAN_UPGRADE_REQUIRED, 404 NOT_FOUND, 409 IP_ENTRY_EXISTS, 409 IP_LOCKOUT.';
grant execute on function api.update_ip_entry to authenticated;

create or replace function api.delete_ip_entry(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.security_policies := private.begin_ip_change();
  e public.ip_allow_list_entries := private.ip_entry(s.organization_id, p ->> 'entryId');
begin
  delete from public.ip_allow_list_entries x where x.id = e.id;
  perform private.finish_ip_change('Removed an entry from the IP allow-list.', null, jsonb_build_object('name', e.name, 'network', e.network::text));
  return null;
end
$$;
comment on function api.delete_ip_entry is
  'DELETE /security/ip-whitelist/entries/{entryId}. Authorization: canManageTeam in the caller''s own organization. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 403 PLAN_UPGRADE_REQUIRED, 404 NOT_FOUND, 409 IP_LOCKOUT.';
grant execute on function api.delete_ip_entry to authenticated;
