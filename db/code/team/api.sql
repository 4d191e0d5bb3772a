-- The team of the organization that the caller acts in (contract 40, 5.1).

create or replace function api.get_team(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.team_overview_json();
end
$$;
comment on function api.get_team is 'GET /team: TeamOverview. Errors: 403 PLAN_UPGRADE_REQUIRED.';
grant execute on function api.get_team to authenticated;

create or replace function api.update_team(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.rename_team(p -> 'body' -> 'name');
end
$$;
comment on function api.update_team is 'PATCH /team: Team. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, PLAN_UPGRADE_REQUIRED.';
grant execute on function api.update_team to authenticated;

create or replace function api.list_team_members(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.team_members_json();
end
$$;
comment on function api.list_team_members is 'GET /team/members: TeamMember[], on each plan.';
grant execute on function api.list_team_members to authenticated;

create or replace function api.update_team_member(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.update_team_member(p ->> 'membershipId', private.as_object(p -> 'body', 'body'));
end
$$;
comment on function api.update_team_member is
  'PATCH /team/members/{membershipId}: role or status. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, CANNOT_MANAGE_SELF, PLAN_UPGRADE_REQUIRED, 404 NOT_FOUND, 409 ALREADY_ACTIVE, ALREADY_INACTIVE, MEMBER_INACTIVE.';
grant execute on function api.update_team_member to authenticated;

create or replace function api.deactivate_team_member(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.deactivate_team_member(p ->> 'membershipId');
end
$$;
comment on function api.deactivate_team_member is
  'POST /team/members/{membershipId}/deactivate, on each plan. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 NOT_FOUND, 409 ALREADY_INACTIVE.';
grant execute on function api.deactivate_team_member to authenticated;

create or replace function api.reactivate_team_member(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.reactivate_team_member(p ->> 'membershipId');
end
$$;
comment on function api.reactivate_team_member is
  'POST /team/members/{membershipId}/reactivate. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, PLAN_UPGRADE_REQUIRED, 404 NOT_FOUND, 409 ALREADY_ACTIVE.';
grant execute on function api.reactivate_team_member to authenticated;

create or replace function api.remove_team_member(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.remove_team_member(p ->> 'membershipId');
  return null;
end
$$;
comment on function api.remove_team_member is 'DELETE /team/members/{membershipId}, on each plan. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 NOT_FOUND.';
grant execute on function api.remove_team_member to authenticated;

create or replace function api.leave_team(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.leave_team();
  return null;
end
$$;
comment on function api.leave_team is 'POST /team/leave, on each plan. Errors: 409 OWNER_REQUIRED.';
grant execute on function api.leave_team to authenticated;

create or replace function api.list_team_invitations(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.list_team_invitations();
end
$$;
comment on function api.list_team_invitations is 'GET /team/invitations: TeamInvitation[], pending and expired ones. Errors: 403 FORBIDDEN, PLAN_UPGRADE_REQUIRED.';
grant execute on function api.list_team_invitations to authenticated;

create or replace function api.create_team_invitations(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.invite_members(private.as_object(p -> 'body', 'body'));
end
$$;
comment on function api.create_team_invitations is
  'POST /team/invitations: all of them or none. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, PLAN_UPGRADE_REQUIRED, 409 ALREADY_MEMBER, INVITATION_PENDING, 429 QUOTA_EXCEEDED, RATE_LIMITED.';
grant execute on function api.create_team_invitations to authenticated;

create or replace function api.resend_team_invitation(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.resend_team_invitation(p ->> 'invitationId');
end
$$;
comment on function api.resend_team_invitation is
  'POST /team/invitations/{invitationId}/resend. Errors: 403 FORBIDDEN, PLAN_UPGRADE_REQUIRED, 404 NOT_FOUND, 409 INVITATION_NOT_PENDING, ALREADY_MEMBER, INVITATION_PENDING, 429 QUOTA_EXCEEDED, RATE_LIMITED.';
grant execute on function api.resend_team_invitation to authenticated;

create or replace function api.cancel_team_invitation(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.cancel_team_invitation(p ->> 'invitationId');
  return null;
end
$$;
comment on function api.cancel_team_invitation is
  'DELETE /team/invitations/{invitationId}, on each plan. Errors: 403 FORBIDDEN, 404 NOT_FOUND, 409 INVITATION_NOT_PENDING.';
grant execute on function api.cancel_team_invitation to authenticated;

create or replace function api.look_up_team_invitation(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.look_up_invitation(p ->> 'token');
end
$$;
comment on function api.look_up_team_invitation is
  'GET /team/invitations/lookup, without login: what the invitation of a token says. Errors: 404 INVITATION_NOT_FOUND, 409 INVITATION_EXPIRED, 403 PLAN_UPGRADE_REQUIRED, 429 QUOTA_EXCEEDED.';
grant execute on function api.look_up_team_invitation to anon, authenticated;

create or replace function api.accept_team_invitation(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.accept_team_invitation(p -> 'body' ->> 'token');
end
$$;
comment on function api.accept_team_invitation is
  'POST /team/invitations/accept: TeamMember. Errors: 404 INVITATION_NOT_FOUND, 403 INVITATION_EMAIL_MISMATCH, PLAN_UPGRADE_REQUIRED, 409 INVITATION_EXPIRED, ALREADY_MEMBER, 429 QUOTA_EXCEEDED, 401 UNAUTHENTICATED.';
grant execute on function api.accept_team_invitation to authenticated;
