-- The invited person's side of an invitation: the holder of its token looks it up, signs up with it or accepts it. The token is the only
-- credential. Without a valid one the answer reveals nothing about any invitation, account or organization.

create or replace function private.assert_invitation_open(i public.team_invitations, p_email text, p_field text) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  if i.id is null then
    perform private.refuse(404, 'INVITATION_NOT_FOUND', 'This invitation does not exist.', p_field);
  elsif p_email is not null and p_email <> i.email then
    perform private.refuse(403, 'INVITATION_EMAIL_MISMATCH', 'This invitation is for another e-mail address.', p_field);
  elsif i.status <> 'pending' or i.expires_at <= now() then
    perform private.refuse(409, 'INVITATION_EXPIRED', 'This invitation was used or withdrawn, or its time is over. Ask for another one.', p_field);
  elsif not private.has_gate(i.organization_id, 'team_management') then
    perform private.refuse(403, 'PLAN_UPGRADE_REQUIRED', 'The plan of this team takes no members at the moment. Ask who invited you.', p_field,
      '{"requiredPlan": "teams"}');
  end if;
  -- The invitation itself is among the used seats.
  perform private.require_seats(i.organization_id, 0, false, p_field);
end
$$;
comment on function private.assert_invitation_open is
  'Can this invitation be accepted, by this address (null: not asked)? Authorization: callable by definer functions of ours only. Errors: 404 INVITATION_NOT_FOUND, 403 INVITATION_EMAIL_MISMATCH, PLAN_UPGRADE_REQUIRED, 409 INVITATION_EXPIRED, 429 QUOTA_EXCEEDED.';

create or replace function private.look_up_invitation(p_token text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  i public.team_invitations;
begin
  select * into i from public.team_invitations x where x.token_hash = private.invitation_hash(p_token);
  perform private.assert_invitation_open(i, null, 'token');
  return (
    select jsonb_build_object('teamName', o.name, 'email', i.email, 'role', i.role,
      'invitedBy', (private.team_invitation_json(i) -> 'invitedBy') - 'id', 'expiresAt', private.iso(i.expires_at))
    from public.organizations o where o.id = i.organization_id
  );
end
$$;
comment on function private.look_up_invitation is 'What an invitation says to who has its token. Authorization: the token. Errors: as private.assert_invitation_open.';
grant execute on function private.look_up_invitation to anon, authenticated;

-- Returns the organization. Sign-up calls it with the new person.
create or replace function private.accept_invitation(p_token_hash bytea, p_user_id uuid, p_field text default 'token') returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  i public.team_invitations;
  v_email text := (select u.email from public.users u where u.id = p_user_id);
begin
  perform private.lock_organization(x.organization_id) from public.team_invitations x where x.token_hash = p_token_hash;
  select * into i from public.team_invitations x where x.token_hash = p_token_hash for update;
  perform private.assert_invitation_open(i, v_email, p_field);
  if exists (select from public.memberships m where m.organization_id = i.organization_id and m.user_id = p_user_id) then
    perform private.refuse(409, 'ALREADY_MEMBER', 'You are a member of this team already.', p_field);
  end if;
  update public.team_invitations x set status = 'accepted' where x.id = i.id;
  insert into public.memberships (organization_id, user_id, role) values (i.organization_id, p_user_id, i.role);
  update public.users u set default_organization_id = i.organization_id where u.id = p_user_id;
  -- The tokens of this session name the former organization until they are refreshed.
  update private.sessions s set organization_id = i.organization_id
  where s.id = coalesce(private.session_id(), private.as_uuid(coalesce(private.claims() ->> 'sid', private.claims() ->> 'session_id')))
    and s.user_id = p_user_id and s.organization_id is not null
    -- Where the team's rules want another way of signing in, the session stays where it is.
    and private.sign_in_policy_problem(p_user_id, i.organization_id, s.signed_in_by) is null;
  return i.organization_id;
end
$$;
comment on function private.accept_invitation is
  'Makes the person of an invitation a member, and the organization their default one. Authorization: token and address; callable by definer functions of ours only. Errors: as private.assert_invitation_open, and 409 ALREADY_MEMBER.';

create or replace function private.accept_team_invitation(p_token text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v_org uuid;
begin
  if v_user is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  v_org := private.accept_invitation(private.invitation_hash(p_token), v_user);
  return private.team_member_of(v_org, v_user);
end
$$;
comment on function private.accept_team_invitation is 'TeamMember of the caller in the inviting organization. Authorization: private.user_id() and the token. Errors: as private.accept_invitation, and 401 UNAUTHENTICATED.';
grant execute on function private.accept_team_invitation to authenticated;
