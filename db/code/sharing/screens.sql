-- The sharing dialog, the modal of users and the inspector's list (contract 10, sections 12 and 13; 60-contexts 11): the same rows and
-- rules as section 11 in the terms of each screen.

create or replace function api.list_project_users(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.path_project(p);
  v_owner uuid := private.project_owner(v_id);
begin
  return (select coalesce(jsonb_agg(private.project_user_json(m, v_owner) order by m.created_at, m.id), '[]')
    from public.project_members m where m.project_id = v_id);
end
$$;
comment on function api.list_project_users is 'GET /projects/{projectId}/users: ProjectUser[], owner and pending ones included. Errors: 404 PROJECT_NOT_FOUND.';
grant execute on function api.list_project_users to authenticated;

create or replace function api.add_project_user(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_id uuid := private.path_project(p, 'manager');
begin
  return private.project_user_json(private.share_with(v_id, p -> 'body'), private.project_owner(v_id));
end
$$;
comment on function api.add_project_user is
  'POST /projects/{projectId}/users: ProjectUser; a colleague has access at once, others are invited. Errors: 400, 403 FORBIDDEN, 404 PROJECT_NOT_FOUND, 409 MEMBER_EXISTS, 429 RATE_LIMITED.';
grant execute on function api.add_project_user to authenticated;

-- The row is found without its project. A row of a hidden project is not found.
create or replace function private.path_project_user(p jsonb) returns public.project_members
language plpgsql stable
as $$
declare
  m public.project_members;
begin
  select * into m from public.project_members x where x.id = private.as_uuid(p ->> 'projectUserId');
  if not found then
    perform private.refuse_project_member();
  end if;
  return m;
end
$$;
comment on function private.path_project_user is 'The member of the path, as far as the caller sees it. Errors: 404 MEMBER_NOT_FOUND.';
grant execute on function private.path_project_user to authenticated;

create or replace function api.update_project_user(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  m public.project_members := private.path_project_user(p);
begin
  m := private.change_shown_role(m, p -> 'body' ->> 'role');
  return private.project_user_json(m, private.project_owner(m.project_id));
end
$$;
comment on function api.update_project_user is
  'PUT /project-users/{projectUserId}: ProjectUser; role owner transfers the project. Errors: 400, 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 MEMBER_NOT_FOUND, 409 OWNER_REQUIRED, MEMBER_INACTIVE.';
grant execute on function api.update_project_user to authenticated;

create or replace function api.remove_project_user(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.remove_project_member(private.path_project_user(p));
  return null;
end
$$;
comment on function api.remove_project_user is
  'DELETE /project-users/{projectUserId}: nothing. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 MEMBER_NOT_FOUND, 409 OWNER_REQUIRED.';
grant execute on function api.remove_project_user to authenticated;

-- The people that the caller could add: only people of the caller's organizations.
create or replace function private.colleagues(p_search text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v_pattern text := private.like_pattern(private.trimmed(p_search));
begin
  if coalesce(private.trimmed(p_search), '') = '' then
    return '[]';
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', f.id, 'email', f.email, 'name', f.name, 'avatar_url', f.avatar_url))
      order by f.name, f.email), '[]')
    from (
      select u.id, u.email, u.avatar_url, n.name
      from public.users u, lateral (select coalesce(nullif(btrim(u.first_name || ' ' || u.last_name), ''), split_part(u.email, '@', 1))) n (name)
      where (u.email ilike v_pattern or n.name ilike v_pattern)
        and exists (
          select from public.memberships mine join public.memberships theirs on theirs.organization_id = mine.organization_id
          where mine.user_id = v_user and mine.status = 'active' and theirs.user_id = u.id and theirs.status = 'active')
      order by n.name, u.email
      limit 10
    ) f
  );
end
$$;
comment on function private.colleagues is 'At most 10 UserSearchResults. Authorization: active people of the organizations where the caller is active.';
grant execute on function private.colleagues to authenticated;

create or replace function api.search_users(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.colleagues(left(p ->> 'q', 200));
end
$$;
comment on function api.search_users is 'GET /users/search: UserSearchResult[] of the caller''s organizations.';
grant execute on function api.search_users to authenticated;

-- ---------------------------------------------------------------------------------------------------------------------- access

create or replace function private.access_json(p_project_id uuid, p_search text) returns jsonb
language plpgsql stable
as $$
declare
  v_owner uuid := private.project_owner(p_project_id);
  v_pattern text := private.like_pattern(coalesce(private.trimmed(left(p_search, 200)), ''));
begin
  return (select coalesce(jsonb_agg(private.user_access_json(m, v_owner) order by (m.user_id is not distinct from v_owner) desc, m.created_at, m.id), '[]')
    from public.project_members m
    where m.project_id = p_project_id
      and (private.project_member_name(m) ilike v_pattern or m.email ilike v_pattern or private.shown_role(m.role, m.user_id = v_owner) ilike v_pattern));
end
$$;
comment on function private.access_json is 'UserAccess[] of a project, the owner first.';
grant execute on function private.access_json to authenticated;

create or replace function api.list_access(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.access_json(private.path_project(p), p ->> 'search');
end
$$;
comment on function api.list_access is 'GET /projects/{projectId}/access: UserAccess[]. Errors: 404 PROJECT_NOT_FOUND.';
grant execute on function api.list_access to authenticated;

create or replace function api.add_access(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_id uuid := private.path_project(p, 'manager');
begin
  return private.user_access_json(private.share_with(v_id, p -> 'body'), private.project_owner(v_id));
end
$$;
comment on function api.add_access is
  'POST /projects/{projectId}/access: UserAccess. Errors: 400, 403 FORBIDDEN, 404 PROJECT_NOT_FOUND, 409 MEMBER_EXISTS, 429 RATE_LIMITED.';
grant execute on function api.add_access to authenticated;

create or replace function api.update_access(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_id uuid := private.path_project(p);
begin
  return private.user_access_json(private.change_shown_role(private.find_project_member(v_id, p ->> 'memberId', true), p -> 'body' ->> 'role'),
    private.project_owner(v_id));
end
$$;
comment on function api.update_access is
  'PUT /projects/{projectId}/access/{memberId}: UserAccess; role owner transfers the project. Errors: 400, 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 PROJECT_NOT_FOUND, MEMBER_NOT_FOUND, 409 OWNER_REQUIRED, MEMBER_INACTIVE.';
grant execute on function api.update_access to authenticated;

create or replace function api.remove_access(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.remove_project_member(private.find_project_member(private.path_project(p), p ->> 'memberId', true));
  return null;
end
$$;
comment on function api.remove_access is
  'DELETE /projects/{projectId}/access/{memberId}: nothing. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 PROJECT_NOT_FOUND, MEMBER_NOT_FOUND, 409 OWNER_REQUIRED.';
grant execute on function api.remove_access to authenticated;

create or replace function api.resend_access(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  m public.project_members := private.find_project_member(private.path_project(p, 'manager'), p ->> 'memberId', true);
begin
  return private.invitation_result(private.resend_project_invitation(m.id));
end
$$;
comment on function api.resend_access is
  'POST /projects/{projectId}/access/{memberId}/resend: InvitationResult. Errors: 403 FORBIDDEN, 404 PROJECT_NOT_FOUND, MEMBER_NOT_FOUND, 409 ALREADY_ACCEPTED, 429 RATE_LIMITED.';
grant execute on function api.resend_access to authenticated;

-- -------------------------------------------------------------------------------------------------------------------- contexts

create or replace function api.list_context_users(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.access_json(private.path_context(p), p ->> 'search');
end
$$;
comment on function api.list_context_users is 'GET /contexts/{contextId}/users: UserAccess[]. Errors: 404 CONTEXT_NOT_FOUND.';
grant execute on function api.list_context_users to authenticated;

create or replace function api.invite_context_user(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_id uuid := private.path_context(p, 'manager');
begin
  return private.user_access_json(private.share_with(v_id, p -> 'body', 'viewer'), private.project_owner(v_id));
end
$$;
comment on function api.invite_context_user is
  'POST /contexts/{contextId}/users/invite: UserAccess; without a role a viewer. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, 409 MEMBER_EXISTS, 429 RATE_LIMITED.';
grant execute on function api.invite_context_user to authenticated;

create or replace function api.update_context_user(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_id uuid := private.path_context(p);
begin
  return private.user_access_json(private.change_shown_role(private.find_project_member(v_id, p ->> 'userId', true), p -> 'body' ->> 'role'),
    private.project_owner(v_id));
end
$$;
comment on function api.update_context_user is
  'PATCH /contexts/{contextId}/users/{userId}: UserAccess. Errors: 400, 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 CONTEXT_NOT_FOUND, MEMBER_NOT_FOUND, 409 OWNER_REQUIRED, MEMBER_INACTIVE.';
grant execute on function api.update_context_user to authenticated;

create or replace function api.remove_context_user(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.remove_project_member(private.find_project_member(private.path_context(p), p ->> 'userId', true));
  return null;
end
$$;
comment on function api.remove_context_user is
  'DELETE /contexts/{contextId}/users/{userId}: nothing. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 CONTEXT_NOT_FOUND, MEMBER_NOT_FOUND, 409 OWNER_REQUIRED.';
grant execute on function api.remove_context_user to authenticated;

create or replace function api.resend_context_invite(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  m public.project_members := private.find_project_member(private.path_context(p, 'manager'), p ->> 'userId', true);
begin
  perform private.resend_project_invitation(m.id);
  return null;
end
$$;
comment on function api.resend_context_invite is
  'POST /contexts/{contextId}/users/{userId}/resend-invite: nothing. Errors: 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, MEMBER_NOT_FOUND, 409 ALREADY_ACCEPTED, 429 RATE_LIMITED.';
grant execute on function api.resend_context_invite to authenticated;
