-- A membership that ends also ends its sessions in the same transaction, so that the next call finds none.
create or replace function private.tg_memberships__end_sessions() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.sessions
  set revoked_at = now(), revoked_reason = 'membership_ended'
  where user_id = old.user_id and organization_id = old.organization_id and revoked_at is null;
  update public.users u
  set default_organization_id = (
    select m.organization_id from public.memberships m
    where m.user_id = u.id and m.status = 'active' and m.organization_id <> old.organization_id
    order by m.joined_at, m.id limit 1)
  where u.id = old.user_id and u.default_organization_id = old.organization_id;
  return null;
end
$$;
comment on function private.tg_memberships__end_sessions is 'Trigger: a membership that ends or is deactivated takes its sessions along.';

create or replace trigger _500_end_sessions_on_delete after delete on public.memberships
  for each row execute function private.tg_memberships__end_sessions();
create or replace trigger _500_end_sessions_on_deactivation after update of status on public.memberships
  for each row when (old.status = 'active' and new.status <> 'active') execute function private.tg_memberships__end_sessions();

create or replace function private.tg_organizations__check_name() returns trigger
language plpgsql volatile
as $$
begin
  new.name := private.without_blanks(new.name);
  if new.name ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]' or private.has_format_characters(new.name) then
    perform private.refuse_field('name', 'The name must not contain control or invisible formatting characters.');
  elsif char_length(new.name) not between 1 and 150 then
    perform private.refuse_field('name', 'The name must have 1 to 150 characters.');
  end if;
  return new;
end
$$;
comment on function private.tg_organizations__check_name is 'Trigger: the name of an organization is trimmed, visible and has 1 to 150 characters.';
create or replace trigger _200_check_name before insert on public.organizations
  for each row execute function private.tg_organizations__check_name();
create or replace trigger _250_check_new_name before update of name on public.organizations
  for each row when (old.name <> new.name) execute function private.tg_organizations__check_name();

-- ------------------------------------------------------------------------------------------------------------------------- rules

-- A membership keeps its person and its organization, for every writer.
create or replace function private.tg_memberships__guard() returns trigger
language plpgsql volatile
as $$
begin
  perform private.refuse(400, 'READ_ONLY_FIELD', 'A membership keeps its id, its organization and its person.',
    case when new.organization_id <> old.organization_id then 'organizationId' when new.user_id <> old.user_id then 'userId' else 'id' end);
  return new;
end
$$;
comment on function private.tg_memberships__guard is 'Trigger: a membership is not given to another person or organization.';
create or replace trigger _200_guard before update on public.memberships for each row
  when ((old.id, old.organization_id, old.user_id) is distinct from (new.id, new.organization_id, new.user_id))
  execute function private.tg_memberships__guard();

-- Checked at the end of the transaction, because a transfer takes the role from one row and gives it to another; an index ensures that
-- there are never two. A deleted organization needs no owner, and an erased account has handed it over or deleted it (contract 50, 9.3).
create or replace function private.tg_memberships__keep_owner() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if exists (select from public.organizations o where o.id = old.organization_id) and exists (select from public.users u where u.id = old.user_id)
    and not exists (select from public.memberships m where m.organization_id = old.organization_id and m.role = 'owner')
  then
    perform private.refuse(409, 'OWNER_REQUIRED', 'An organization has an owner. Hand it over first.');
  end if;
  return null;
end
$$;
comment on function private.tg_memberships__keep_owner is 'Trigger: an organization is never left without an owner, by any writer.';
create constraint trigger _800_keep_owner after update of role or delete on public.memberships deferrable initially deferred
  for each row when (old.role = 'owner') execute function private.tg_memberships__keep_owner();

create or replace function private.tg_team_invitations__guard() returns trigger
language plpgsql volatile
as $$
begin
  if (new.id, new.organization_id, new.email, new.role) is distinct from (old.id, old.organization_id, old.email, old.role) then
    perform private.refuse(400, 'READ_ONLY_FIELD', 'An invitation keeps its organization, address and role.');
  elsif old.status in ('accepted', 'cancelled') and new.status <> old.status or old.status = 'expired' and new.status = 'accepted' then
    perform private.refuse(409, 'INVITATION_NOT_PENDING', format('An invitation cannot go from %s to %s.', old.status, new.status));
  end if;
  new.updated_at := now();
  return new;
end
$$;
comment on function private.tg_team_invitations__guard is 'Trigger: what is closed stays closed, and whom it is for stays as it is.';
create or replace trigger _200_guard before update on public.team_invitations
  for each row execute function private.tg_team_invitations__guard();

-- ------------------------------------------------------------------------------------------------------------------------- telling

create or replace function private.tg_team_invitations__tell() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  i public.team_invitations := coalesce(new, old);
begin
  if not exists (select from public.organizations o where o.id = i.organization_id) then
    return null;
  end if;
  perform private.emit_org_change('invitation', i.id, case tg_op when 'INSERT' then 'created' when 'UPDATE' then 'updated' else 'deleted' end,
    i.organization_id, case tg_op when 'UPDATE' then array_remove(array[case when new.status <> old.status then 'status' end,
      case when new.expires_at <> old.expires_at then 'expiresAt' end], null) end);
  if tg_op = 'INSERT' then
    perform private.audit('team.member_invited', format('Invited %s as %s.', i.email, i.role),
      jsonb_build_object('invitedEmail', i.email, 'role', i.role, 'invitationId', i.id), null, i.organization_id, i.invited_by);
  elsif tg_op = 'UPDATE' and new.status = 'cancelled' and old.status <> 'cancelled' then
    perform private.audit('team.invitation_cancelled', format('Withdrew the invitation of %s.', i.email),
      jsonb_build_object('invitedEmail', i.email, 'role', i.role, 'invitationId', i.id), null, i.organization_id);
  elsif tg_op = 'UPDATE' and new.token_hash <> old.token_hash then
    perform private.audit('team.member_invited', format('Invited %s as %s again.', i.email, i.role),
      jsonb_build_object('invitedEmail', i.email, 'role', i.role, 'invitationId', i.id), null, i.organization_id);
  end if;
  return null;
end
$$;
comment on function private.tg_team_invitations__tell is 'Trigger: events of invitations, and their lines of the audit trail.';
create or replace trigger _900_notify after insert on public.team_invitations
  for each row execute function private.tg_team_invitations__tell();
create or replace trigger _900_notify_change after update on public.team_invitations for each row
  when ((old.status, old.expires_at, old.token_hash) is distinct from (new.status, new.expires_at, new.token_hash))
  execute function private.tg_team_invitations__tell();
-- Retention deletes invitations that no list shows any more, except expired ones.
create or replace trigger _900_notify_removed after delete on public.team_invitations
  for each row when (old.status in ('pending', 'expired')) execute function private.tg_team_invitations__tell();

create or replace function private.tg_memberships__audit() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m public.memberships := coalesce(new, old);
  v_actor uuid := private.user_id();
  v_name text;
  v_metadata jsonb;
begin
  select private.one_line(private.person_name(u)) into v_name from public.users u where u.id = m.user_id;
  -- Where the organization or the account is deleted, there is no reader left for the entry.
  if v_name is null or not exists (select from public.organizations o where o.id = m.organization_id) then
    return null;
  end if;
  v_metadata := jsonb_build_object('targetUser', v_name, 'userId', m.user_id, 'memberId', m.id, 'role', m.role);
  if tg_op = 'INSERT' then
    perform private.audit('team.member_joined', format('%s joined as %s.', v_name, m.role), v_metadata, null, m.organization_id, coalesce(v_actor, m.user_id));
  elsif tg_op = 'DELETE' then
    perform private.audit('team.member_removed', format(case when v_actor = m.user_id then '%s left.' else '%s was removed.' end, v_name), v_metadata, null,
      m.organization_id);
  elsif new.status <> old.status then
    perform private.audit(case new.status when 'active' then 'team.member_reactivated' else 'team.member_deactivated' end,
      format(case new.status when 'active' then '%s was reactivated.' else '%s was deactivated.' end, v_name), v_metadata, null, m.organization_id);
  elsif new.role = 'owner' then
    perform private.audit('team.ownership_transferred', format('%s is the owner now.', v_name), v_metadata - 'role' || jsonb_build_object(
      'oldRole', old.role, 'newRole', new.role), null, m.organization_id);
  -- The former owner's new role is part of the transfer.
  elsif old.role <> 'owner' then
    perform private.audit('team.role_changed', format('%s is %s now, and was %s.', v_name, new.role, old.role), v_metadata - 'role' || jsonb_build_object(
      'oldRole', old.role, 'newRole', new.role),
      jsonb_build_array(jsonb_build_object('field', 'role', 'oldValue', old.role, 'newValue', new.role)), m.organization_id);
  end if;
  return null;
end
$$;
comment on function private.tg_memberships__audit is 'Trigger: who joined, left and changed, in the audit trail.';
-- The owner's membership is inserted with the organization.
create or replace trigger _900_audit_joined after insert on public.memberships
  for each row when (new.role <> 'owner') execute function private.tg_memberships__audit();
create or replace trigger _900_audit_change after update on public.memberships
  for each row when ((old.role, old.status) is distinct from (new.role, new.status)) execute function private.tg_memberships__audit();
create or replace trigger _900_audit_removed after delete on public.memberships
  for each row execute function private.tg_memberships__audit();
