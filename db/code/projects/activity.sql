-- The activity log (contract 10, section 13; texts in 60-contexts 12). Name and e-mail are shown as they are now. The server process that
-- answered records a view after the answer, at most once per person and hour: reads stay read-only.

-- ActivityEvent, with the present name of its user. A person who is no longer a member is shown with the last known name and e-mail.
drop function if exists private.activity_json(uuid);
create or replace function private.activity_json(a public.project_activity, m public.project_members, p_owner_id uuid) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', a.id, 'type', a.type,
  'user', jsonb_build_object(
    'id', coalesce(m.id, a.user_id, '00000000-0000-0000-0000-000000000000'),
    'name', coalesce(m.name, a.user_name), 'email', coalesce(m.email, a.user_email),
    'role', case when p_owner_id = a.user_id then 'owner' when m.role in ('admin', 'manager') then 'admin'
      when m.role = 'developer' then 'editor' else 'viewer' end,
    'lastActive', private.iso(coalesce(m.last_active_at, m.accepted_at, m.invited_at, a.created_at)), 'avatar', m.avatar_url),
  'description', a.description, 'timestamp', private.iso(a.created_at), 'metadata', a.metadata));
comment on function private.activity_json is 'ActivityEvent of the contract, with the member that its user is, if any.';

create or replace function private.record_activity(
  p_project_id uuid, p_type text, p_description text, p_metadata jsonb default null, p_user_id uuid default null
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  a public.project_activity;
  v record;
  v_void text;
begin
  select p.organization_id, p.user_id as owner_id, u.id as user_id, u.first_name, u.last_name, u.email, m into v
  from public.projects p
  left join public.users u on u.id = coalesce(p_user_id, private.user_id())
  left join public.project_members m on m.project_id = p.id and m.user_id = u.id
  where p.id = p_project_id;
  -- No row for a project that is just being deleted.
  if not found then
    return;
  end if;
  -- Assignments cost a fraction of a query, so the entry is assembled here and its event reads no row.
  a.id := gen_random_uuid();
  a.organization_id := v.organization_id;
  a.project_id := p_project_id;
  a.type := p_type;
  a.user_id := v.user_id;
  a.user_name := coalesce(nullif(btrim(v.first_name || ' ' || v.last_name), ''), split_part(v.email, '@', 1), 'System');
  a.user_email := coalesce(v.email, 'system@kijko.ai');
  a.description := left(p_description, 500);
  a.metadata := p_metadata;
  a.once_key := case when p_type = 'view' then case when char_length(p_description) <= 400 then p_description
    else encode(sha256(convert_to(p_description, 'UTF8')), 'hex') end || to_char(now() at time zone 'UTC', ' YYYY-MM-DD HH24') end;
  a.created_at := clock_timestamp();
  insert into public.project_activity (id, organization_id, project_id, type, user_id, user_name, user_email, description, metadata,
    once_key, created_at)
  values (a.id, a.organization_id, a.project_id, a.type, a.user_id, a.user_name, a.user_email, a.description, a.metadata, a.once_key,
    a.created_at)
  on conflict (project_id, user_id, once_key) where once_key is not null do nothing;
  if found then
    v_void := private.emit('context:' || p_project_id, 'activity:new', private.activity_json(a, v.m, v.owner_id), v.organization_id,
      p_project_id, 'activity', 'project_activity', a.id);
  end if;
end
$$;
comment on function private.record_activity is
  'Writes an entry for p_user_id, else the caller (without one: the system), and tells the context''s room. Authorization: callable by definer functions and triggers of ours only.';

-- Called by the server after its answer: marks the caller as active, at most once a minute, and records an opened project.
create or replace function private.touch_project(p_project_id uuid, p_viewed boolean default false) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if private.project_role(p_project_id) is null then
    return;
  end if;
  update public.project_members
  set last_active_at = now()
  where project_id = p_project_id and user_id = private.user_id() and accepted_at is not null
    and (last_active_at is null or last_active_at < now() - interval '1 minute');
  if p_viewed then
    perform private.record_activity(p_project_id, 'view', 'opened the context');
  end if;
end
$$;
comment on function private.touch_project is
  'Best effort, after the answer: lastActiveAt, and a view where p_viewed. Authorization: only projects the caller sees, only the caller''s own row.';
grant execute on function private.touch_project to authenticated;
