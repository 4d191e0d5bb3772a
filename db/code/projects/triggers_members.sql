-- Members (contract 10, section 5.3). There is always exactly one owner, and the owner is always an accepted admin member: that holds
-- for everybody. Who may manage whom is judged where people write themselves; functions that act for them have judged already.

create or replace function private.judge_managing(p_project_id uuid, p_actor_role text, p_member public.project_members, p_minimum text)
returns void
language plpgsql stable
as $$
begin
  perform private.refuse_role(p_actor_role, p_minimum);
  if p_member.user_id = private.user_id() then
    perform private.refuse(403, 'CANNOT_MANAGE_SELF', 'You cannot change or remove yourself.');
  elsif p_actor_role <> 'owner' and private.role_rank(p_actor_role) <= private.role_rank(p_member.role) then
    perform private.refuse(403, 'FORBIDDEN', 'You can manage members of a lower role than yours only.');
  end if;
end
$$;
comment on function private.judge_managing is
  'May the caller, with this role, manage that member? Errors: 403 FORBIDDEN, CANNOT_MANAGE_SELF, 404 PROJECT_NOT_FOUND.';
grant execute on function private.judge_managing to authenticated;

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
    perform private.refuse_role(v_role, 'manager');
    if private.role_rank(new.role) > private.role_rank(v_role) then
      perform private.refuse(403, 'FORBIDDEN', 'You cannot grant a role above your own.', 'role');
    end if;
    new.invited_by := private.user_id();
    return new;
  elsif tg_op = 'DELETE' then
    if exists (select from public.projects p where p.id = old.project_id and p.user_id = old.user_id) then
      perform private.refuse(409, 'OWNER_REQUIRED', 'The owner cannot be removed.');
    end if;
    perform private.judge_managing(old.project_id, v_role, old, 'manager');
    return old;
  end if;

  if new.role <> old.role then
    if exists (select from public.projects p where p.id = old.project_id and p.user_id = old.user_id) then
      perform private.refuse(409, 'OWNER_REQUIRED', 'The owner cannot be given another role.', 'role');
    end if;
    perform private.judge_managing(old.project_id, v_role, old, 'admin');
    if private.role_rank(new.role) > private.role_rank(v_role) then
      perform private.refuse(403, 'FORBIDDEN', 'You cannot grant a role above your own.', 'role');
    end if;
  elsif old.user_id is distinct from private.user_id() then
    perform private.judge_managing(old.project_id, v_role, old, 'manager');
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
    -- The owner's row is the first one of a project. Two conditions: within one, Postgres would plan the count anew each time.
    if v_owner is distinct from new.user_id then
      if (select count(*) from public.project_members m where m.project_id = new.project_id) >= 500 then
        perform private.refuse_field('email', 'A project has at most 500 members.');
      end if;
    end if;
  -- The project's own end takes the row along, and so does the owner's account once the project has another owner.
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
  v_data jsonb;
  v_void text;
begin
  if tg_op = 'INSERT' then
    -- The owner's own row comes with the project, which has counted it and has said so: a second version of the project at its birth
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
comment on function private.tg_project_members__tell is 'Trigger: counter, activity and events of members.';
create or replace trigger _800_tell after insert or delete on public.project_members
  for each row execute function private.tg_project_members__tell();
create or replace trigger _800_tell_change after update on public.project_members for each row
  when ((old.role, old.user_id, old.accepted_at, old.name, old.email, old.avatar_url, old.notify_on_ingestion, old.notify_on_error,
      old.notify_on_team_changes, old.notification_level)
    is distinct from (new.role, new.user_id, new.accepted_at, new.name, new.email, new.avatar_url, new.notify_on_ingestion,
      new.notify_on_error, new.notify_on_team_changes, new.notification_level))
  execute function private.tg_project_members__tell();

-- A member who goes takes their star along.
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

-- Ownership moves only here. The new owner must be an accepted member, and becomes one where the organization gives them the project.
create or replace function private.move_ownership(p_project_id uuid, p_user_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  p public.projects;
begin
  select * into p from public.projects where id = p_project_id for update;
  insert into public.project_members as m (organization_id, project_id, user_id, email, name, avatar_url, role, accepted_at)
  select p.organization_id, p.id, u.id, u.email, nullif(left(btrim(u.first_name || ' ' || u.last_name), 100), ''), u.avatar_url, 'admin', now()
  from public.users u where u.id = p_user_id
  on conflict (project_id, user_id) where user_id is not null do update set role = 'admin', accepted_at = coalesce(m.accepted_at, now());
  update public.projects set user_id = p_user_id where id = p_project_id;
  perform private.record_activity(p_project_id, 'permission', 'transferred ownership to '
    || (select coalesce(m.name, m.email) from public.project_members m where m.project_id = p_project_id and m.user_id = p_user_id));
end
$$;
comment on function private.move_ownership is
  'Makes another person the owner; the former one stays admin. Judges: callable by definer functions that have judged the caller.';

-- Who leaves an organization leaves its projects; their own ones go to its owner (40-auth, section 5).
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
  -- A pending invitation to the owner's own address would stand in the way of the owner's row.
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
