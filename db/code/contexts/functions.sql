-- What all operations of a context share (contract 60, section 1): its path, its people, its changelog.

-- A context is a project under another name, and so is the refusal that hides it. Each operation on /contexts/{contextId}/... begins with
-- this check.
create or replace function private.path_context(p jsonb, p_minimum text default 'auditor', p_permission text default null) returns uuid
language plpgsql stable
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'contextId');
  v_role text := private.project_role(v_id);
begin
  if v_role is null then
    perform private.refuse(404, 'CONTEXT_NOT_FOUND', 'This context does not exist.');
  elsif p_permission is not null and p_minimum <> 'auditor'
    and (v_role = 'auditor' or private.role_rank(v_role) < private.role_rank(p_minimum)) then
    perform private.refuse(403, 'FORBIDDEN', format('Your role in this context (%s) does not allow this.', v_role), null,
      jsonb_build_object('role', v_role, 'required', p_permission));
  end if;
  perform private.refuse_role(v_role, p_minimum);
  return v_id;
end
$$;
comment on function private.path_context is
  'The context of the path, checked: 404 CONTEXT_NOT_FOUND, 403 FORBIDDEN; details.required is p_permission, without one the lowest role.';
grant execute on function private.path_context to authenticated, service_role;

-- UserAccess of an author: the present member, else the name and address that the entry kept.
create or replace function private.author_json(m public.project_members, p_owner_id uuid, p_user_id uuid, p_name text, p_email text, p_at timestamptz)
returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', coalesce(m.id, p_user_id, '00000000-0000-0000-0000-000000000000'),
  'name', coalesce(m.name, p_name), 'email', coalesce(m.email, p_email), 'role', private.shown_role(m.role, coalesce(p_owner_id = p_user_id, false)),
  'lastActive', private.iso(coalesce(m.last_active_at, m.accepted_at, m.invited_at, p_at)), 'avatar', m.avatar_url));
comment on function private.author_json is 'UserAccess of a person who did something, as they are now or were then.';
grant execute on function private.author_json to authenticated, service_role;

-- An entry of the changelog that is no ingestion (private.commit_ingestion writes those). p_added and p_modified are the two counters of an
-- enrichment (contract 60, 4.2).
create or replace function private.add_changelog(
  p_project_id uuid, p_type text, p_description text, p_added integer default null, p_modified integer default null
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into public.context_changelog (organization_id, project_id, type, user_id, user_name, user_email, files_added, files_removed,
    files_modified, description)
  select p.organization_id, p.id, p_type, u.id, private.shown_author(u), coalesce(u.email, 'system@kijko.ai'), p_added,
    case when p_added is not null or p_modified is not null then 0 end, p_modified, left(p_description, 1000)
  from public.projects p left join public.users u on u.id = private.user_id()
  where p.id = p_project_id;
end
$$;
comment on function private.add_changelog is
  'Writes an enrichment, config or access entry for the caller (without one: the system). Authorization: callable by definer functions and triggers of ours only.';

create or replace function private.shown_author(u public.users) returns text
language sql immutable parallel safe
return coalesce(nullif(btrim(u.first_name || ' ' || u.last_name), ''), split_part(u.email, '@', 1), 'System');
comment on function private.shown_author is 'Name of a person in the changelog; System without one.';
