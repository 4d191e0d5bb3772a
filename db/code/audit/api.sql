-- Operations of contract 40, section 7.

create or replace function api.list_audit_log(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 20);
begin
  perform private.require_permission('canViewAuditLog');
  return private.audit_page(private.clean_audit_filters(p), v_at.skipped, v_at.size);
end
$$;
comment on function api.list_audit_log is 'GET /security/audit-log: a page of entries. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN.';
grant execute on function api.list_audit_log to authenticated;

create or replace function api.list_audit_users(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.audit_people();
end
$$;
comment on function api.list_audit_users is 'GET /security/audit-log/users: members, and who left but is named. Errors: 403 FORBIDDEN.';
grant execute on function api.list_audit_users to authenticated;

-- ------------------------------------------------------------------------------------------------------------------ saved filters

create or replace function private.audit_filter_json(f public.audit_filters) returns jsonb
language sql stable
return jsonb_build_object('id', f.id, 'teamId', f.organization_id, 'userId', f.user_id, 'name', f.name, 'filters', f.filters, 'isShared', f.is_shared,
  'createdAt', private.iso(f.created_at));
comment on function private.audit_filter_json is 'AuditLogSavedFilter.';
grant execute on function private.audit_filter_json to authenticated;

create or replace function api.list_audit_filters(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  perform private.require_permission('canViewAuditLog');
  -- The policy decides which filters belong to the caller and which are shared.
  return (select coalesce(jsonb_agg(private.audit_filter_json(f) order by f.created_at, f.id), '[]') from public.audit_filters f);
end
$$;
comment on function api.list_audit_filters is 'GET /security/audit-log/filters: own and shared ones. Errors: 403 FORBIDDEN.';
grant execute on function api.list_audit_filters to authenticated;

create or replace function api.create_audit_filter(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_name constant text := btrim(b ->> 'name', E' \t\n\r');
  f public.audit_filters;
begin
  perform private.require_permission('canViewAuditLog');
  if jsonb_typeof(b -> 'name') is distinct from 'string' or char_length(v_name) not between 1 and 100 then
    perform private.refuse_field('name', 'The name must have 1 to 100 characters.');
  elsif b -> 'filters' is null then
    perform private.refuse_field('filters', 'filters is required.');
  end if;
  insert into public.audit_filters (organization_id, user_id, name, filters, is_shared)
  values (private.org_id(), private.user_id(), v_name, private.clean_audit_filters(private.as_object(b -> 'filters', 'filters')),
    coalesce(private.as_bool(b -> 'isShared', 'isShared'), false))
  returning * into f;
  return private.audit_filter_json(f);
end
$$;
comment on function api.create_audit_filter is
  'POST /security/audit-log/filters: saves a filter. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 409 TOO_MANY_AUDIT_FILTERS.';
grant execute on function api.create_audit_filter to authenticated;

create or replace function api.delete_audit_filter(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.require_permission('canViewAuditLog');
  delete from public.audit_filters f where f.id = private.as_uuid(p ->> 'filterId');
  if not found then
    perform private.refuse(404, 'NOT_FOUND', format('Filter with ID %s not found', p ->> 'filterId'));
  end if;
  return null;
end
$$;
comment on function api.delete_audit_filter is 'DELETE /security/audit-log/filters/{filterId}: one''s own, or a shared one. Errors: 403 FORBIDDEN, 404 NOT_FOUND.';
grant execute on function api.delete_audit_filter to authenticated;

-- The lock on the person's membership row serializes the writers, so the count is exact.
create or replace function private.tg_audit_filters__bound() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform from public.memberships m where m.organization_id = new.organization_id and m.user_id = new.user_id for no key update;
  if (select count(*) from public.audit_filters f where f.organization_id = new.organization_id and f.user_id = new.user_id) >= 100 then
    perform private.refuse(409, 'TOO_MANY_AUDIT_FILTERS', 'You can save 100 filters. Delete one first.');
  end if;
  return new;
end
$$;
comment on function private.tg_audit_filters__bound is 'Trigger: at most 100 saved filters a person and organization.';
create or replace trigger _200_bound before insert on public.audit_filters for each row execute function private.tg_audit_filters__bound();
