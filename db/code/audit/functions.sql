-- The audit trail: written by triggers and functions in the transaction of the change, so a rolled-back change leaves no entry.
create or replace function private.audit(
  p_event_type text, p_description text, p_metadata jsonb default null, p_changes jsonb default null,
  p_org_id uuid default null, p_user_id uuid default null
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := coalesce(p_org_id, private.org_id());
begin
  if v_org is null then
    return;
  end if;
  insert into public.audit_log (organization_id, user_id, event_type, description, metadata, changes, ip_address, session_id, request_id)
  values (v_org, coalesce(p_user_id, private.user_id()), p_event_type, p_description, p_metadata, p_changes,
    nullif(current_setting('app.client_ip', true), ''), private.session_id(), nullif(current_setting('app.request_id', true), ''));
  -- Notes now and then, not at each entry, which organizations may need another block of counts (counting.sql).
  if random() < 0.01 then
    insert into private.audit_growth (organization_id) values (v_org);
  end if;
end
$$;
comment on function private.audit is
  'Writes one entry of the audit trail for the caller. Authorization: callable by definer functions and triggers of ours only.';

-- {field, oldValue, newValue} for each of the given columns that differ, as the entry''s `changes`; fields are named as everywhere on the wire.
create or replace function private.audit_changes(p_old jsonb, p_new jsonb, p_fields text[]) returns jsonb
language sql stable parallel safe
return (
  select jsonb_agg(jsonb_build_object('field', case when f ~ '_' then left(f, 1) || substr(replace(initcap(replace(f, '_', ' ')), ' ', ''), 2) else f end, 'oldValue', p_old -> f, 'newValue', p_new -> f) order by ord)
  from unnest(p_fields) with ordinality as t (f, ord)
  where p_old -> f is distinct from p_new -> f
);
comment on function private.audit_changes is 'The changed fields among the named ones, or null.';
