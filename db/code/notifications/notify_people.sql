-- Reports who joins, leaves and changes roles (contract 30, 11.6). The acting person is left out; the person concerned is notified. Where a
-- project or an organization is deleted as a whole, its members are deleted with it, and no notification is sent for each of them.

create or replace function private.shown_name(p_user_id uuid, p_otherwise text default 'A member') returns text
language plpgsql stable security definer set search_path = ''
as $$
begin
  return coalesce((select coalesce(nullif(private.one_line(u.first_name || ' ' || u.last_name), ''), split_part(u.email, '@', 1))
    from public.users u where u.id = p_user_id), p_otherwise);
end
$$;
comment on function private.shown_name is 'How a person is named in texts for others. Authorization: callable by definer functions and triggers of ours only.';

-- The owner counts as a member with all flags on. A member who has not accepted gets nothing.
create or replace function private.project_audience(p_project_id uuid, p_flag text) returns uuid[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  return array(
    select p.user_id from public.projects p where p.id = p_project_id
    union
    select m.user_id from public.project_members m
    where m.project_id = p_project_id and m.accepted_at is not null and not private.is_deactivated(m.organization_id, m.user_id)
      and case p_flag when 'ingestion' then m.notify_on_ingestion when 'error' then m.notify_on_error else m.notify_on_team_changes end);
end
$$;
comment on function private.project_audience is
  'Owner and accepted members whose flag (ingestion, error or team) is on. Authorization: callable by definer functions and triggers of ours only.';

create or replace function private.tg_project_members__notify() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m public.project_members := coalesce(new, old);
  p public.projects;
  v_actor uuid := private.user_id();
  v_name text;
  v_what text;
  v_key text;
begin
  select * into p from public.projects q where q.id = m.project_id;
  -- The ownership is reported with the project.
  if not found or tg_op = 'UPDATE' and new.user_id = p.user_id then
    return null;
  end if;
  -- One change has one key, however often the work around it is repeated. The next change of the same member has another one.
  v_key := format('project_member:%s:%s:%s', m.id, lower(tg_op), pg_current_xact_id());
  v_name := coalesce(private.one_line(m.name), private.shown_name(m.user_id, m.email));
  if tg_op = 'INSERT' and m.accepted_at is null then
    perform private.enqueue('sharing.tell', jsonb_build_object('memberId', m.id), now(), 'sharing.tell:' || m.id);
    return null;
  end if;

  v_what := case when tg_op = 'DELETE' then format('%s was removed from "%s"', v_name, private.one_line(p.name))
    when tg_op = 'INSERT' or old.accepted_at is null then format('%s joined "%s"', v_name, private.one_line(p.name))
    else format('%s is now %s in "%s"', v_name, new.role, private.one_line(p.name)) end;
  perform private.notify_all(array_remove(private.project_audience(p.id, 'team'), m.user_id), 'team_activity', v_what, null,
    jsonb_build_object('projectId', p.id, 'memberId', m.id), '/project/' || p.id, false, v_key, v_actor, p.organization_id, null, p.id);
  v_what := case when tg_op = 'DELETE' then format('You were removed from "%s"', private.one_line(p.name))
    when tg_op = 'INSERT' then format('%s added you to "%s"', private.shown_name(m.invited_by), private.one_line(p.name))
    when old.accepted_at is null then format('You joined "%s"', private.one_line(p.name))
    else format('You are now %s in "%s"', new.role, private.one_line(p.name)) end;
  if tg_op = 'DELETE' or new.notify_on_team_changes then
    perform private.notify(m.user_id, 'team_activity', v_what, null, jsonb_build_object('projectId', p.id, 'memberId', m.id),
      -- A removed member cannot open the project.
      case when tg_op = 'DELETE' then '/' else '/project/' || p.id end, false, v_key, v_actor, p.organization_id, null, p.id);
  end if;
  return null;
end
$$;
comment on function private.tg_project_members__notify is 'Trigger: the people of a project, and the person concerned, hear of its members.';
create or replace function private.notify_project_invitee(p_member_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m public.project_members;
  p public.projects;
begin
  select * into m from public.project_members x where x.id = p_member_id and x.accepted_at is null;
  select * into p from public.projects x where x.id = m.project_id;
  perform private.notify(u.id, 'team_activity', format('You are invited to "%s"', private.one_line(p.name)),
    format('%s invites you as %s.', private.shown_name(m.invited_by), m.role), jsonb_build_object('projectId', p.id, 'memberId', m.id),
    '/', false, 'invitation:' || m.id, m.invited_by, p.organization_id, null, null)
  from public.users u where u.email = m.email;
end
$$;
comment on function private.notify_project_invitee is
  'Notifies the account of an invited address, if there is one. A job calls it, because the time of a request would tell otherwise whether there is. Authorization: callable by the worker only.';
grant execute on function private.notify_project_invitee to kijko_worker;

-- The owner's own row is inserted with the project, without an inviter.
create or replace trigger _900_notify_invited after insert on public.project_members
  for each row when (new.accepted_at is null or new.invited_by is not null) execute function private.tg_project_members__notify();
create or replace trigger _900_notify_change after update on public.project_members for each row
  when (new.accepted_at is not null and (old.accepted_at is null or old.role <> new.role))
  execute function private.tg_project_members__notify();
create or replace trigger _900_notify_removed after delete on public.project_members
  for each row when (old.accepted_at is not null) execute function private.tg_project_members__notify();

create or replace function private.tg_projects__notify_owner() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_name text := private.one_line(new.name);
  v_key text := format('project_owner:%s:%s', new.id, pg_current_xact_id());
begin
  perform private.notify_all(array_remove(private.project_audience(new.id, 'team'), new.user_id), 'team_activity',
    format('%s is now the owner of "%s"', private.shown_name(new.user_id), v_name), null, jsonb_build_object('projectId', new.id),
    '/project/' || new.id, false, v_key, private.user_id(), new.organization_id, null, new.id);
  perform private.notify(new.user_id, 'team_activity', format('You are now the owner of "%s"', v_name), null,
    jsonb_build_object('projectId', new.id), '/project/' || new.id, false, v_key, private.user_id(), new.organization_id, null, new.id);
  return null;
end
$$;
comment on function private.tg_projects__notify_owner is 'Trigger: the people of a project, and its new owner, hear that it changed hands.';
-- Projects of a member who leaves go to the organization's owner, who is notified of the leaving and not of each project.
create or replace trigger _900_notify_owner after update of user_id on public.projects for each row
  when (old.user_id is distinct from new.user_id and old.user_id = private.user_id()) execute function private.tg_projects__notify_owner();

-- ------------------------------------------------------------------------------------------------------------------- organizations

create or replace function private.organization_leaders(p_org_id uuid) returns uuid[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  return array(select m.user_id from public.memberships m
    where m.organization_id = p_org_id and m.status = 'active' and m.role in ('owner', 'admin'));
end
$$;
comment on function private.organization_leaders is 'Owner and admins of an organization. Authorization: callable by definer functions and triggers of ours only.';

create or replace function private.tg_memberships__notify() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m public.memberships := coalesce(new, old);
  v_org text;
  v_actor uuid := private.user_id();
  v_name text := private.shown_name(m.user_id, 'A member');
  v_key text := format('membership:%s:%s:%s', m.id, lower(tg_op), pg_current_xact_id());
  v_data jsonb := jsonb_build_object('organizationId', m.organization_id, 'userId', m.user_id);
begin
  select private.one_line(o.name) into v_org from public.organizations o where o.id = m.organization_id;
  if not found then
    return null;
  end if;
  perform private.notify_all(array_remove(private.organization_leaders(m.organization_id), m.user_id), 'team_activity',
    case tg_op when 'INSERT' then format('%s joined %s', v_name, v_org) when 'DELETE' then format('%s left %s', v_name, v_org)
      else format('%s is now %s of %s', v_name, new.role, v_org) end,
    null, v_data, '/', false, v_key, v_actor, m.organization_id);
  perform private.notify(m.user_id, 'team_activity',
    case tg_op when 'INSERT' then format('You joined %s as %s', v_org, new.role) when 'DELETE' then format('You are no longer a member of %s', v_org)
      else format('You are now %s of %s', new.role, v_org) end,
    null, v_data, '/', false, v_key, v_actor, m.organization_id);
  return null;
end
$$;
comment on function private.tg_memberships__notify is 'Trigger: owner, admins and the person concerned hear of the organization''s members.';
-- The owner's row is inserted with the organization.
create or replace trigger _900_notify_joined after insert on public.memberships
  for each row when (new.role <> 'owner') execute function private.tg_memberships__notify();
create or replace trigger _900_notify_role after update of role on public.memberships
  for each row when (old.role <> new.role) execute function private.tg_memberships__notify();
create or replace trigger _900_notify_left after delete on public.memberships
  for each row execute function private.tg_memberships__notify();
