-- The people of a project, in the terms of three screens (contract 10, sections 11 to 13; 60-contexts 11). All of them show the rows of
-- project_members. The triggers of projects/triggers_members.sql authorize the writes, for every caller and way.

-- Here people write addresses and names into rows of their own; the triggers that check these run with their rights.
grant execute on function private.clean_email, private.clean_name, private.without_blanks, private.folded_address,
  private.has_format_characters to authenticated;

create or replace function private.stored_project_role(p_shown text) returns text
language sql immutable parallel safe
return case p_shown when 'admin' then 'admin' when 'editor' then 'developer' when 'viewer' then 'viewer' end;
comment on function private.stored_project_role is 'What a role of the sharing screens is stored as; null for owner, which is a transfer, and for anything else.';

create or replace function private.project_member_name(m public.project_members) returns text
language sql immutable parallel safe
return coalesce(m.name, split_part(m.email, '@', 1));
comment on function private.project_member_name is 'Name of a member; the local part of the address while it is unknown.';

create or replace function private.user_access_json(m public.project_members, p_owner_id uuid) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', m.id, 'userId', m.user_id, 'name', private.project_member_name(m), 'email', m.email,
  'role', private.shown_role(m.role, m.user_id = p_owner_id),
  'lastActive', private.iso(coalesce(m.last_active_at, m.accepted_at, m.invited_at)), 'avatar', m.avatar_url,
  'status', case when m.accepted_at is null then 'pending' else 'active' end,
  'isCurrentUser', coalesce(m.user_id = private.user_id(), false), 'invitedAt', private.iso(m.invited_at)));
comment on function private.user_access_json is 'UserAccess of the contract.';

create or replace function private.project_owner(p_project_id uuid) returns uuid
language sql stable parallel safe
return (select p.user_id from public.projects p where p.id = p_project_id);
comment on function private.project_owner is 'The owner, as far as the caller sees the project.';

create or replace function private.refuse_project_member() returns void
language plpgsql stable
as $$
begin
  perform private.refuse(404, 'MEMBER_NOT_FOUND', 'There is no such member in this project.');
end
$$;
comment on function private.refuse_project_member is '404 MEMBER_NOT_FOUND.';

-- p_by_user: the screens of access take the id of a user as well.
create or replace function private.find_project_member(p_project_id uuid, p_id text, p_by_user boolean default false) returns public.project_members
language plpgsql stable
as $$
declare
  v_id uuid := private.as_uuid(p_id);
  m public.project_members;
begin
  select * into m from public.project_members x
  where x.project_id = p_project_id and (x.id = v_id or p_by_user and x.user_id = v_id)
  order by x.id = v_id desc limit 1;
  if not found then
    perform private.refuse_project_member();
  end if;
  return m;
end
$$;
comment on function private.find_project_member is 'A member that the caller sees, by id. Errors: 404 MEMBER_NOT_FOUND.';

-- Changes of a project's members are serialized: a rank is checked against the result of the change before.
create or replace function private.lock_members(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.assert_project_role(p_project_id, 'manager');
  perform from public.projects p where p.id = p_project_id for no key update;
  -- The project may have been deleted during the wait.
  if not found then
    perform private.refuse_role(null, 'manager');
  end if;
end
$$;
comment on function private.lock_members is 'Waits for other changes of this project''s people. Authorization: manager of the project or above. Errors: 403 FORBIDDEN, 404 PROJECT_NOT_FOUND.';

-- Checked before the lock, so that no caller waits for a forbidden action, and again after it.
create or replace function private.managed_member(m public.project_members, p_minimum text) returns public.project_members
language plpgsql volatile
as $$
begin
  perform private.assert_managing(m.project_id, private.project_role(m.project_id), m, p_minimum);
  perform private.lock_members(m.project_id);
  m := private.find_project_member(m.project_id, m.id::text);
  perform private.assert_managing(m.project_id, private.project_role(m.project_id), m, p_minimum);
  return m;
end
$$;
comment on function private.managed_member is
  'The member as it is, once it is the caller''s turn to change it. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 MEMBER_NOT_FOUND, 409 OWNER_REQUIRED.';

create or replace function private.require_project_role(p_role text, p_allowed text[], p_default text default null) returns text
language plpgsql stable
as $$
begin
  if coalesce(p_role, p_default) is null or coalesce(p_role, p_default) <> all (p_allowed) then
    perform private.refuse_field('role', format('The role must be one of %s.', array_to_string(p_allowed, ', ')));
  end if;
  return coalesce(p_role, p_default);
end
$$;
comment on function private.require_project_role is 'The role, or 400 VALIDATION_ERROR about field role.';

create or replace function private.project_member_roles() returns text[]
language sql immutable parallel safe
return array['admin', 'manager', 'developer', 'viewer', 'auditor'];
comment on function private.project_member_roles is 'Roles of members as they are stored.';

grant execute on function private.stored_project_role, private.project_member_name, private.user_access_json, private.project_owner,
  private.refuse_project_member, private.find_project_member, private.lock_members, private.managed_member, private.require_project_role, private.project_member_roles to authenticated;

-- ------------------------------------------------------------------------------------------------------------ adding and changing

-- The row's own trigger handles an insert from here: it checks, and sends the invitation.
create or replace function private.invite_project_member(p_project_id uuid, p_member jsonb) returns public.project_members
language plpgsql volatile
as $$
declare
  m public.project_members;
begin
  if private.clean_email(p_member ->> 'email') is null then
    perform private.refuse_field('email', 'Please enter a valid e-mail address.');
  elsif char_length(p_member ->> 'inviteMessage') > 1000 then
    perform private.refuse_field('inviteMessage', 'A message has at most 1000 characters.');
  end if;
  perform set_config('app.invite_message', coalesce(p_member ->> 'inviteMessage', ''), true);
  insert into public.project_members (organization_id, project_id, email, name, role, notify_on_ingestion, notify_on_error,
    notify_on_team_changes, notification_level)
  select p.organization_id, p.id, private.clean_email(p_member ->> 'email'),
    nullif(private.clean_name(p_member ->> 'name', 100), ''), p_member ->> 'role',
    coalesce(private.as_bool(p_member -> 'notifyOnIngestion', 'notifyOnIngestion'), true),
    coalesce(private.as_bool(p_member -> 'notifyOnError', 'notifyOnError'), true),
    coalesce(private.as_bool(p_member -> 'notifyOnTeamChanges', 'notifyOnTeamChanges'), true),
    coalesce(p_member ->> 'notificationLevel', 'daily')
  from public.projects p where p.id = p_project_id
  returning * into m;
  perform set_config('app.invite_message', '', true);
  return m;
end
$$;
comment on function private.invite_project_member is
  'Makes a pending member of {email, role, name?, flags?, notificationLevel?, inviteMessage?}. Errors: 400, 403 FORBIDDEN, 409 MEMBER_EXISTS, 429 RATE_LIMITED.';

-- A colleague admits a person of the project's organization at once. A guest of another organization invites every person by mail, so that
-- the answer does not show who belongs to this one.
create or replace function private.admit_colleague(p_project_id uuid, p_email text, p_role text) returns public.project_members
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_role text := private.assert_project_role(p_project_id, 'manager');
  v_email text := private.clean_email(p_email);
  v_now timestamptz := clock_timestamp();
  u public.users;
  m public.project_members;
begin
  select x.* into u
  from public.projects p
  join public.memberships mine on mine.organization_id = p.organization_id and mine.user_id = private.user_id() and mine.status = 'active'
  join public.users x on x.email = v_email
  join public.memberships theirs on theirs.organization_id = p.organization_id and theirs.user_id = x.id and theirs.status = 'active'
  where p.id = p_project_id;
  if not found then
    return null;
  end if;
  perform private.assert_granting(v_role, p_role);
  perform private.refuse_known_member(p_project_id, v_email);
  insert into public.project_members (organization_id, project_id, user_id, email, name, avatar_url, role, invited_by, invited_at, accepted_at,
    created_at)
  select p.organization_id, p.id, u.id, u.email, nullif(left(btrim(u.first_name || ' ' || u.last_name), 100), ''), u.avatar_url, p_role,
    private.user_id(), v_now, v_now, v_now
  from public.projects p where p.id = p_project_id
  returning * into m;
  return m;
end
$$;
comment on function private.admit_colleague is
  'Makes an accepted member of a person of the project''s organization, null where the address belongs to none. Authorization: manager of the project or above, of that organization. Errors: 403 FORBIDDEN, 409 MEMBER_EXISTS.';

create or replace function private.share_with(p_project_id uuid, p_body jsonb, p_default text default null) returns public.project_members
language plpgsql volatile
as $$
declare
  b jsonb := private.as_object(p_body, 'body');
  v_role text := private.stored_project_role(private.require_project_role(b ->> 'role', array['admin', 'editor', 'viewer'], p_default));
  m public.project_members;
begin
  if private.clean_email(b ->> 'email') is null then
    perform private.refuse_field('email', 'Please enter a valid e-mail address.');
  end if;
  perform private.lock_members(p_project_id);
  m := private.admit_colleague(p_project_id, b ->> 'email', v_role);
  if m.id is null then
    m := private.invite_project_member(p_project_id, jsonb_strip_nulls(jsonb_build_object('email', b -> 'email', 'name', b -> 'name', 'role', v_role)));
  end if;
  return m;
end
$$;
comment on function private.share_with is
  'Adds a person in the words of the sharing screens: a colleague at once, others by invitation. Errors: 400, 403 FORBIDDEN, 409 MEMBER_EXISTS, 429 RATE_LIMITED.';

-- The owner hands the project over. Both rows are admins from here on; the project says which of them is the owner.
create or replace function private.transfer_project(p_member_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  m public.project_members;
  v_role text;
begin
  select x.* into m from public.project_members x where x.id = p_member_id;
  v_role := private.project_role(m.project_id);
  if v_role is null then
    perform private.refuse_project_member();
  elsif v_role <> 'owner' then
    perform private.refuse(403, 'FORBIDDEN', 'Only the owner can transfer a project.', 'role', jsonb_build_object('role', v_role, 'required', 'owner'));
  end if;
  -- From here on no other person becomes the owner before this transaction ends, and the row is as the transaction before has left it.
  perform from public.projects p where p.id = m.project_id and p.user_id = v_user for no key update;
  if not found then
    perform private.refuse(403, 'FORBIDDEN', 'Only the owner can transfer a project.', 'role', '{"required": "owner"}');
  end if;
  select x.* into m from public.project_members x where x.id = p_member_id;
  if not found then
    perform private.refuse_project_member();
  elsif m.user_id = v_user then
    perform private.refuse(403, 'CANNOT_MANAGE_SELF', 'You are the owner of this project already.', 'role');
  elsif m.accepted_at is null or private.is_deactivated(m.organization_id, m.user_id) then
    perform private.refuse(409, 'MEMBER_INACTIVE', 'A project can be transferred to an active member only.', 'role');
  end if;
  perform private.move_ownership(m.project_id, m.user_id);
end
$$;
comment on function private.transfer_project is
  'Makes an accepted member the owner. Authorization: the owner only. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 MEMBER_NOT_FOUND, 409 MEMBER_INACTIVE.';

create or replace function private.change_shown_role(m public.project_members, p_role text) returns public.project_members
language plpgsql volatile
as $$
declare
  v_role text := private.require_project_role(p_role, array['owner', 'admin', 'editor', 'viewer']);
begin
  if v_role = 'owner' then
    perform private.transfer_project(m.id);
  else
    m := private.managed_member(m, 'admin');
    -- A value that a row shows already stays as it is stored.
    update public.project_members x set role = private.stored_project_role(v_role)
    where x.id = m.id and private.shown_role(x.role, false) <> v_role;
  end if;
  return private.find_project_member(m.project_id, m.id::text);
end
$$;
comment on function private.change_shown_role is
  'Gives a member another role in the words of the sharing screens; owner is a transfer. Errors: 400, 403, 409 OWNER_REQUIRED, MEMBER_INACTIVE.';

create or replace function private.remove_project_member(m public.project_members) returns void
language plpgsql volatile
as $$
begin
  m := private.managed_member(m, 'manager');
  delete from public.project_members x where x.id = m.id;
end
$$;
comment on function private.remove_project_member is
  'Removes a member, pending or not. Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 MEMBER_NOT_FOUND, 409 OWNER_REQUIRED.';

grant execute on function private.invite_project_member, private.admit_colleague, private.share_with, private.transfer_project,
  private.change_shown_role, private.remove_project_member to authenticated;
