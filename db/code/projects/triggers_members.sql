-- Members (contract 10, section 5.3). There is always exactly one owner, and the owner is always an accepted admin member: that holds for
-- every writer. Who may manage whom is checked where people write themselves; functions that act for them have checked it already.

create or replace function private.assert_managing(p_project_id uuid, p_actor_role text, p_member public.project_members, p_minimum text)
returns void
language plpgsql stable
as $$
begin
  if p_actor_role is null then
    perform private.refuse_role(null, p_minimum);
  elsif private.owns_project(p_project_id, p_member.user_id) then
    perform private.refuse_role(p_actor_role, p_minimum);
    perform private.refuse(409, 'OWNER_REQUIRED', 'The owner of a project cannot be removed or given another role. Transfer the project first.', 'role');
  elsif p_member.user_id = private.user_id() then
    perform private.refuse(403, 'CANNOT_MANAGE_SELF', 'You cannot change or remove yourself.');
  end if;
  perform private.refuse_role(p_actor_role, p_minimum);
  if p_actor_role <> 'owner' and private.role_rank(p_actor_role) <= private.role_rank(p_member.role) then
    perform private.refuse(403, 'FORBIDDEN', 'You can manage members of a lower role than yours only.', null,
      jsonb_build_object('role', p_actor_role));
  end if;
end
$$;
comment on function private.assert_managing is
  'May the caller, with this role, manage that member? Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 PROJECT_NOT_FOUND, 409 OWNER_REQUIRED.';

create or replace function private.assert_granting(p_actor_role text, p_role text) returns void
language plpgsql stable
as $$
begin
  if private.role_rank(p_role) > private.role_rank(p_actor_role) then
    perform private.refuse(403, 'FORBIDDEN', 'You cannot grant a role above your own.', 'role', jsonb_build_object('role', p_actor_role));
  end if;
end
$$;
comment on function private.assert_granting is '403 FORBIDDEN where the role is above the caller''s.';

create or replace function private.owns_project(p_project_id uuid, p_user_id uuid) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return private.project_role(p_project_id) is not null
    and exists (select from public.projects p where p.id = p_project_id and p.user_id = p_user_id);
end
$$;
comment on function private.owns_project is 'Is this person the owner? Authorization: says no of projects that the caller does not see.';

-- Compares the address that they were added with, or the one that they have now.
create or replace function private.refuse_known_member(p_project_id uuid, p_email text) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.assert_project_role(p_project_id, 'manager');
  if exists (select from public.project_members m where m.project_id = p_project_id and m.email = p_email)
    or exists (select from public.project_members m join public.users u on u.id = m.user_id where m.project_id = p_project_id and u.email = p_email) then
    perform private.refuse(409, 'MEMBER_EXISTS', 'This person is a member already, or is invited.', 'email');
  end if;
end
$$;
comment on function private.refuse_known_member is
  '409 MEMBER_EXISTS for an address in the project. Authorization: manager of the project or above.';
grant execute on function private.assert_managing, private.assert_granting, private.owns_project, private.refuse_known_member to authenticated;

create or replace function private.tg_project_members__request() returns trigger
language plpgsql volatile
as $$
declare
  v_role text;
begin
  if not private.is_request() then
    return coalesce(new, old);
  end if;
  v_role := private.project_role(coalesce(new.project_id, old.project_id));
  if tg_op = 'INSERT' then
    perform private.refuse_role(v_role, 'manager'), private.assert_granting(v_role, new.role);
    if private.clean_email(new.email) is null then
      perform private.refuse_field('email', 'Please enter a valid e-mail address.');
    end if;
    new.email := private.clean_email(new.email);
    new.invited_by := private.user_id();
    perform private.refuse_known_member(new.project_id, new.email);
    return new;
  elsif tg_op = 'DELETE' then
    perform private.assert_managing(old.project_id, v_role, old, 'manager');
    return old;
  end if;

  if new.role <> old.role then
    perform private.assert_managing(old.project_id, v_role, old, 'admin'), private.assert_granting(v_role, new.role);
  elsif old.user_id is distinct from private.user_id() then
    perform private.assert_managing(old.project_id, v_role, old, 'manager');
  end if;
  return new;
end
$$;
comment on function private.tg_project_members__request is 'Trigger: who may invite, change and remove whom.';
create or replace trigger _150_request before insert or update or delete on public.project_members
  for each row execute function private.tg_project_members__request();

create or replace function private.tg_project_members__guard() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_owner uuid;
begin
  if tg_op = 'INSERT' then
    select p.user_id into v_owner from public.projects p where p.id = new.project_id for no key update;
    -- The owner's row is the first one of a project. Two conditions: within one, Postgres would plan the count again each time.
    if v_owner is distinct from new.user_id then
      if (select count(*) from public.project_members m where m.project_id = new.project_id) >= 500 then
        perform private.refuse_field('email', 'A project has at most 500 members.');
      end if;
    end if;
  -- The deletion of the project deletes the row, and so does the deletion of the owner's account once the project has another owner.
  elsif exists (select from public.projects p where p.id = old.project_id and p.user_id = old.user_id) then
    if tg_op = 'DELETE' then
      perform private.refuse(409, 'OWNER_REQUIRED', 'The owner cannot be removed.');
    elsif new.role <> 'admin' or new.user_id is distinct from old.user_id or new.accepted_at is null then
      perform private.refuse(409, 'OWNER_REQUIRED', 'The owner cannot be given another role.', 'role');
    end if;
  end if;
  return coalesce(new, old);
end
$$;
comment on function private.tg_project_members__guard is 'Trigger: at most 500 a project; the owner stays an accepted admin.';
create or replace trigger _200_guard before insert or delete on public.project_members
  for each row execute function private.tg_project_members__guard();
create or replace trigger _200_guard_change before update on public.project_members for each row
  when ((old.role, old.user_id, old.accepted_at) is distinct from (new.role, new.user_id, new.accepted_at))
  execute function private.tg_project_members__guard();
create or replace trigger _100_touch before update on public.project_members for each row
  when ((to_jsonb(old) - 'last_active_at') is distinct from (to_jsonb(new) - 'last_active_at')) execute function private.tg__touch();

create or replace function private.tg_project_members__tell() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m public.project_members := coalesce(new, old);
  p public.projects;
  v_name text := coalesce(m.name, m.email);
  v_action text;
  v_data jsonb;
  v_void text;
begin
  if tg_op = 'INSERT' then
    -- The owner's own row is inserted with the project, which has counted and published it: a second version of the project at its creation
    -- would cost a third of the whole creation.
    select * into p from public.projects q where q.id = m.project_id and q.user_id = m.user_id;
  end if;
  if p.id is null then
    update public.projects q
    set accepted_members = q.accepted_members
        + case when tg_op <> 'DELETE' and new.accepted_at is not null then 1 else 0 end
        - case when tg_op <> 'INSERT' and old.accepted_at is not null then 1 else 0 end,
      updated_at = now()
    where q.id = m.project_id
    returning * into p;
    if not found then
      return null;
    end if;
  end if;

  if tg_op = 'INSERT' and new.user_id is distinct from p.user_id then
    perform private.record_activity(p.id, 'permission', format('invited %s as %s', v_name, private.shown_role(new.role, false)),
      jsonb_build_object('memberId', new.id, 'newRole', new.role));
  elsif tg_op = 'UPDATE' and old.accepted_at is null and new.accepted_at is not null then
    perform private.record_activity(p.id, 'permission', 'joined as ' || private.shown_role(new.role, false), jsonb_build_object('memberId', new.id));
  elsif tg_op = 'UPDATE' and new.role <> old.role and new.user_id is distinct from p.user_id then
    perform private.record_activity(p.id, 'permission', format('changed %s from %s to %s', v_name, private.shown_role(old.role, false),
      private.shown_role(new.role, false)), jsonb_build_object('memberId', new.id, 'oldRole', old.role, 'newRole', new.role));
  elsif tg_op = 'DELETE' then
    perform private.record_activity(p.id, 'permission', 'removed ' || v_name, jsonb_build_object('memberId', old.id, 'oldRole', old.role));
  end if;

  v_action := case when tg_op = 'DELETE' then 'removed' when tg_op = 'INSERT' and new.accepted_at is null then 'invited'
    when tg_op = 'INSERT' then 'added' when old.accepted_at is null and new.accepted_at is not null then 'joined'
    when new.role <> old.role then 'role_changed' end;
  if v_action is not null and m.user_id is distinct from p.user_id then
    perform private.audit('context.shared', case v_action
        when 'removed' then format('Removed %s from project "%s".', m.email, p.name)
        when 'joined' then format('%s joined project "%s" as %s.', m.email, p.name, m.role)
        when 'role_changed' then format('Changed the role of %s in project "%s" to %s.', m.email, p.name, m.role)
        else format('%s %s to project "%s" as %s.', initcap(v_action), m.email, p.name, m.role) end,
      jsonb_build_object('contextId', p.id, 'contextName', p.name, 'sharedWith', m.email, 'action', v_action,
        'permission', case v_action when 'removed' then 'none' else m.role end),
      case v_action when 'role_changed' then private.audit_changes(to_jsonb(old), to_jsonb(new), array['role']) end, p.organization_id);
  end if;

  v_data := private.project_user_json(m, p.user_id);
  if tg_op = 'DELETE' then
    v_data := jsonb_build_object('id', v_data -> 'id', 'project_id', v_data -> 'project_id', 'user_id', v_data -> 'user_id');
  end if;
  v_void := private.emit('project:' || p.id, 'project_user:' || lower(tg_op), v_data, p.organization_id, p.id, 'room', 'project_user', m.id);
  v_void := private.emit_change('project_member', m.id, case tg_op when 'INSERT' then 'created' when 'DELETE' then 'deleted' else 'updated' end,
    p.organization_id, p.id);
  if tg_op = 'DELETE' and old.accepted_at is not null then
    perform private.emit_removal('member_removed', p.organization_id, p.id, old.user_id, null);
  end if;
  return null;
end
$$;
comment on function private.tg_project_members__tell is 'Trigger: counter, activity, audit and events of members.';
create or replace trigger _800_notify after insert or delete on public.project_members
  for each row execute function private.tg_project_members__tell();
create or replace trigger _800_notify_change after update on public.project_members for each row
  when ((old.role, old.user_id, old.accepted_at, old.name, old.email, old.avatar_url, old.notify_on_ingestion, old.notify_on_error,
      old.notify_on_team_changes, old.notification_level)
    is distinct from (new.role, new.user_id, new.accepted_at, new.name, new.email, new.avatar_url, new.notify_on_ingestion,
      new.notify_on_error, new.notify_on_team_changes, new.notification_level))
  execute function private.tg_project_members__tell();

-- The star of a removed member is deleted.
create or replace function private.tg_project_members__unstar() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.project_stars s where s.user_id = old.user_id and s.project_id = old.project_id;
  return null;
end
$$;
comment on function private.tg_project_members__unstar is 'Trigger: a removed member''s star goes too.';
create or replace trigger _500_unstar after delete on public.project_members
  for each row when (old.user_id is not null) execute function private.tg_project_members__unstar();

-- Ownership moves only here. The new owner must be an accepted member, and becomes one where the organization gives them the project. The
-- project gets its new owner before the row becomes an admin's, so that the move is reported as one change, and not as a changed role
-- besides.
create or replace function private.move_ownership(p_project_id uuid, p_user_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  p public.projects;
begin
  select * into p from public.projects where id = p_project_id for update;
  insert into public.project_members (organization_id, project_id, user_id, email, name, avatar_url, role, accepted_at)
  select p.organization_id, p.id, u.id, u.email, nullif(left(btrim(u.first_name || ' ' || u.last_name), 100), ''), u.avatar_url, 'admin', now()
  from public.users u where u.id = p_user_id
  on conflict (project_id, user_id) where user_id is not null do nothing;
  update public.projects set user_id = p_user_id where id = p_project_id;
  update public.project_members m set role = 'admin' where m.project_id = p_project_id and m.user_id = p_user_id and m.role <> 'admin';
  perform private.record_activity(p_project_id, 'permission', 'transferred ownership to '
    || (select coalesce(m.name, m.email) from public.project_members m where m.project_id = p_project_id and m.user_id = p_user_id));
end
$$;
comment on function private.move_ownership is
  'Makes another person the owner; the former one stays admin. Authorization: callable by definer functions that have authorized the caller.';

-- From then on both rows are shown differently, though they may not have changed.
create or replace function private.tg_projects__notify_owners() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m public.project_members;
begin
  for m in select * from public.project_members x where x.project_id = new.id and x.user_id in (old.user_id, new.user_id) order by x.id loop
    perform private.emit('project:' || new.id, 'project_user:update', private.project_user_json(m, new.user_id), new.organization_id, new.id,
      'room', 'project_user', m.id);
    perform private.emit_change('project_member', m.id, 'updated', new.organization_id, new.id, array['role']);
  end loop;
  return null;
end
$$;
comment on function private.tg_projects__notify_owners is 'Trigger: a moved ownership is a change of both members.';
create or replace trigger _800_notify_owners after update of user_id on public.projects for each row
  when (old.user_id is distinct from new.user_id) execute function private.tg_projects__notify_owners();

-- Members are shown with the data of their accounts. An invitation to an address that a member has taken over is moot.
create or replace function private.tg_users__follow_members() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if new.email <> old.email then
    delete from public.project_members m using public.project_members own
    where own.user_id = new.id and m.project_id = own.project_id and m.user_id is null and m.email = new.email;
  end if;
  update public.project_members m
  set email = case when m.email = old.email then new.email else m.email end,
    name = nullif(left(btrim(new.first_name || ' ' || new.last_name), 100), ''), avatar_url = left(new.avatar_url, 500)
  where m.user_id = new.id;
  return null;
end
$$;
comment on function private.tg_users__follow_members is 'Trigger: name, address and picture of a member follow the account.';
create or replace trigger _500_follow_members after update of email, first_name, last_name, avatar_url on public.users for each row
  when ((old.email, old.first_name, old.last_name, old.avatar_url) is distinct from (new.email, new.first_name, new.last_name, new.avatar_url))
  execute function private.tg_users__follow_members();

-- A person who leaves an organization leaves its projects; the projects that they own go to the organization's owner (40-auth, section 5).
create or replace function private.tg_memberships__leave_projects() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_owner uuid;
  v_project uuid;
begin
  select m.user_id into v_owner from public.memberships m where m.organization_id = old.organization_id and m.role = 'owner';
  if v_owner is null or v_owner = old.user_id then
    return null;
  end if;
  -- A pending invitation to the owner's own address would conflict with the owner's row.
  for v_project in select p.id from public.projects p where p.organization_id = old.organization_id and p.user_id = old.user_id loop
    delete from public.project_members m using public.users u
    where u.id = v_owner and m.project_id = v_project and m.user_id is null and m.email = u.email;
    perform private.move_ownership(v_project, v_owner);
  end loop;
  delete from public.project_members m where m.organization_id = old.organization_id and m.user_id = old.user_id;
  return null;
end
$$;
comment on function private.tg_memberships__leave_projects is 'Trigger: an ended membership ends those in the organization''s projects and hands over owned ones.';
create or replace trigger _500_leave_projects after delete on public.memberships
  for each row execute function private.tg_memberships__leave_projects();
