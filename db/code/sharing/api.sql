-- Members and invitations of a project (contract 10, section 11).

create or replace function api.list_project_members(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.path_project(p);
begin
  return (select coalesce(jsonb_agg(private.member_json(m) order by m.invited_at, m.id), '[]') from public.project_members m where m.project_id = v_id);
end
$$;
comment on function api.list_project_members is 'GET /projects/{projectId}/members: ProjectMember[], pending ones included. Errors: 404 PROJECT_NOT_FOUND.';
grant execute on function api.list_project_members to authenticated;

create or replace function api.add_project_member(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_id uuid := private.path_project(p, 'manager');
  b jsonb := private.as_object(p -> 'body', 'body');
begin
  perform private.require_project_role(b ->> 'role', private.project_member_roles()), private.lock_members(v_id);
  return private.member_json(private.invite_project_member(v_id, b - array['name', 'notificationLevel']));
end
$$;
comment on function api.add_project_member is
  'POST /projects/{projectId}/members: ProjectMember, pending. Errors: 400, 403 FORBIDDEN, 404 PROJECT_NOT_FOUND, 409 MEMBER_EXISTS, 429 RATE_LIMITED.';
grant execute on function api.add_project_member to authenticated;

create or replace function api.update_project_member(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_id uuid := private.path_project(p);
  b jsonb := private.as_object(p -> 'body', 'body');
  m public.project_members := private.find_project_member(v_id, p ->> 'memberId');
  n public.project_members := m;
begin
  n.role := case when b ? 'role' then private.require_project_role(b ->> 'role', private.project_member_roles()) else m.role end;
  n.notify_on_ingestion := coalesce(private.as_bool(b -> 'notifyOnIngestion', 'notifyOnIngestion'), m.notify_on_ingestion);
  n.notify_on_error := coalesce(private.as_bool(b -> 'notifyOnError', 'notifyOnError'), m.notify_on_error);
  n.notify_on_team_changes := coalesce(private.as_bool(b -> 'notifyOnTeamChanges', 'notifyOnTeamChanges'), m.notify_on_team_changes);
  -- The row's trigger authorizes the change; rows that policies hide from a caller are refused here by the same function.
  if n.role <> m.role then
    m := private.managed_member(m, 'admin');
  elsif m.user_id is distinct from private.user_id() then
    m := private.managed_member(m, 'manager');
  end if;
  update public.project_members x
  set role = n.role, notify_on_ingestion = n.notify_on_ingestion, notify_on_error = n.notify_on_error,
    notify_on_team_changes = n.notify_on_team_changes
  where x.id = m.id and (x.role, x.notify_on_ingestion, x.notify_on_error, x.notify_on_team_changes)
    is distinct from (n.role, n.notify_on_ingestion, n.notify_on_error, n.notify_on_team_changes);
  return private.member_json(private.find_project_member(v_id, m.id::text));
end
$$;
comment on function api.update_project_member is
  'PUT /projects/{projectId}/members/{memberId}: ProjectMember; role, and the three flags, which each member may also set for themselves. Errors: 400, 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 PROJECT_NOT_FOUND, MEMBER_NOT_FOUND, 409 OWNER_REQUIRED.';
grant execute on function api.update_project_member to authenticated;

create or replace function api.remove_project_member(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.remove_project_member(private.find_project_member(private.path_project(p), p ->> 'memberId'));
  return '{"success": true}';
end
$$;
comment on function api.remove_project_member is
  'DELETE /projects/{projectId}/members/{memberId}: {success}. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 PROJECT_NOT_FOUND, MEMBER_NOT_FOUND, 409 OWNER_REQUIRED.';
grant execute on function api.remove_project_member to authenticated;

-- ------------------------------------------------------------------------------------------------------------------- invitations

-- The flags that each level of the wizard switches on.
create or replace function private.level_flags(p_level text) returns jsonb
language sql stable parallel safe
return jsonb_build_object('notificationLevel', p_level, 'notifyOnIngestion', p_level <> 'disabled', 'notifyOnError', p_level <> 'disabled',
  'notifyOnTeamChanges', p_level = 'real-time');
comment on function private.level_flags is 'The flags of a member who is invited with this notification level.';
grant execute on function private.level_flags to authenticated;

-- Each element is handled alone: a failure is reported in its result and undoes no other element.
create or replace function private.invite_one_to_project(p_project_id uuid, p_element jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_role text := case when jsonb_typeof(p_element) = 'object' then coalesce(p_element ->> 'role', 'viewer') end;
  v_level text := case when jsonb_typeof(p_element) = 'object' then coalesce(p_element ->> 'notificationLevel', 'daily') end;
  v_email text := case when jsonb_typeof(p_element) = 'object' and jsonb_typeof(p_element -> 'email') = 'string' then p_element ->> 'email' end;
  v_error text;
begin
  if private.clean_email(v_email) is null then
    v_error := 'invalid e-mail';
  elsif v_role <> all (private.project_member_roles()) then
    v_error := 'unknown role';
  elsif v_level not in ('real-time', 'daily', 'weekly', 'disabled') then
    v_error := 'unknown notification level';
  else
    begin
      return private.invitation_result(private.invite_project_member(p_project_id,
        jsonb_build_object('email', v_email, 'role', v_role) || private.level_flags(v_level)));
    exception
      when unique_violation or sqlstate 'PT409' then
        v_error := 'already exists';
      when sqlstate 'PT400' or sqlstate 'PT403' or sqlstate 'PT429' then
        v_error := sqlerrm;
    end;
  end if;
  return jsonb_build_object('email', left(coalesce(v_email, ''), 255), 'status', 'failed', 'error', v_error);
end
$$;
comment on function private.invite_one_to_project is 'InvitationResult of one TeamMemberInvitation; never refuses.';
grant execute on function private.invite_one_to_project to authenticated;

create or replace function api.send_project_invitations(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_id uuid := private.path_project(p, 'manager');
  b jsonb := coalesce(p -> 'body', 'null');
  v_list jsonb;
  v_element jsonb;
  v_results jsonb := '[]';
  v_failed integer;
begin
  v_list := case jsonb_typeof(b) when 'array' then b when 'object' then coalesce(private.as_array(b -> 'invitations', 'invitations'),
    private.as_array(b -> 'members', 'members')) end;
  if v_list is null or jsonb_array_length(v_list) not between 1 and 100 then
    perform private.refuse_field('invitations', 'Please send 1 to 100 invitations at once.');
  end if;
  perform private.lock_members(v_id);
  for v_element in select e from jsonb_array_elements(v_list) with ordinality t (e, place) order by place loop
    v_results := v_results || private.invite_one_to_project(v_id, v_element);
  end loop;
  v_failed := (select count(*) from jsonb_array_elements(v_results) r where r ->> 'status' = 'failed');
  return jsonb_build_object('success', v_failed = 0, 'results', v_results, 'totalSent', jsonb_array_length(v_results) - v_failed,
    'totalFailed', v_failed);
end
$$;
comment on function api.send_project_invitations is
  'POST /projects/{projectId}/invitations: BulkInvitationResponse, one result an element. Errors: 400, 403 FORBIDDEN, 404 PROJECT_NOT_FOUND.';
grant execute on function api.send_project_invitations to authenticated;

create or replace function api.list_pending_project_invitations(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.path_project(p);
begin
  return (select coalesce(jsonb_agg(private.member_json(m) order by m.invited_at, m.id), '[]')
    from public.project_members m where m.project_id = v_id and m.accepted_at is null);
end
$$;
comment on function api.list_pending_project_invitations is
  'GET /projects/{projectId}/invitations/pending: ProjectMember[], expired ones included. Errors: 404 PROJECT_NOT_FOUND.';
grant execute on function api.list_pending_project_invitations to authenticated;

create or replace function api.resend_project_invitation(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  m public.project_members := private.find_project_member(private.path_project(p, 'manager'), p ->> 'memberId');
begin
  return private.invitation_result(private.resend_project_invitation(m.id));
end
$$;
comment on function api.resend_project_invitation is
  'POST /projects/{projectId}/invitations/{memberId}/resend: InvitationResult. Errors: 403 FORBIDDEN, 404 PROJECT_NOT_FOUND, MEMBER_NOT_FOUND, 409 ALREADY_ACCEPTED, 429 RATE_LIMITED.';
grant execute on function api.resend_project_invitation to authenticated;

create or replace function api.cancel_project_invitation(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_id uuid := private.path_project(p, 'manager');
  m public.project_members := private.find_project_member(v_id, p ->> 'memberId');
begin
  perform private.lock_members(v_id);
  m := private.find_project_member(v_id, m.id::text);
  perform private.refuse_accepted_invitation(m);
  perform private.remove_project_member(m);
  return '{"success": true}';
end
$$;
comment on function api.cancel_project_invitation is
  'DELETE /projects/{projectId}/invitations/{memberId}: {success}. Errors: 403 FORBIDDEN, 404 PROJECT_NOT_FOUND, MEMBER_NOT_FOUND, 409 ALREADY_ACCEPTED.';
grant execute on function api.cancel_project_invitation to authenticated;

create or replace function api.get_project_invitation(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.project_invitation_json(p ->> 'token');
end
$$;
comment on function api.get_project_invitation is
  'GET /project-invitations/{token}, without login: {projectId, projectName, email, role, invitedBy?, expiresAt, status}. Errors: 404 INVITATION_NOT_FOUND.';
grant execute on function api.get_project_invitation to anon, authenticated;

create or replace function api.accept_project_invitation(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.member_json(private.accept_project_invitation(p ->> 'token'));
end
$$;
comment on function api.accept_project_invitation is
  'POST /project-invitations/{token}/accept: ProjectMember. Errors: 403 EMAIL_NOT_VERIFIED, INVITATION_EMAIL_MISMATCH, MEMBERSHIP_INACTIVE, 404 INVITATION_NOT_FOUND, 409 INVITATION_EXPIRED, MEMBER_EXISTS.';
grant execute on function api.accept_project_invitation to authenticated;

create or replace function api.decline_project_invitation(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.decline_project_invitation(p ->> 'token');
  return '{"success": true}';
end
$$;
comment on function api.decline_project_invitation is
  'POST /project-invitations/{token}/decline, without login: {success}. Errors: 404 INVITATION_NOT_FOUND, 409 INVITATION_EXPIRED.';
grant execute on function api.decline_project_invitation to anon, authenticated;
