-- The activity log (contract 10, section 13; texts in 60-contexts 12). Name and e-mail are written as they are now. A view is
-- recorded after the answer, by whoever answered, and at most once per person and hour: reads stay read-only.

create or replace function private.record_activity(p_project_id uuid, p_type text, p_description text, p_metadata jsonb default null)
returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v_id uuid;
  v_org uuid;
begin
  -- No row for a project that is just being deleted.
  insert into public.project_activity (organization_id, project_id, type, user_id, user_name, user_email, description, metadata, once_key)
  select p.organization_id, p.id, p_type, u.id,
    coalesce(nullif(btrim(u.first_name || ' ' || u.last_name), ''), split_part(u.email, '@', 1), 'System'),
    coalesce(u.email, 'system@kijko.ai'), left(p_description, 500), p_metadata,
    case when p_type = 'view' then left(p_description, 400) || to_char(now() at time zone 'UTC', ' YYYY-MM-DD HH24') end
  from public.projects p
  left join public.users u on u.id = v_user
  where p.id = p_project_id
  on conflict (project_id, user_id, once_key) where once_key is not null do nothing
  returning id, organization_id into v_id, v_org;
  if v_id is not null then
    perform private.emit('context:' || p_project_id, 'activity:new', private.activity_json(v_id), v_org, p_project_id, 'activity',
      'project_activity', v_id);
  end if;
end
$$;
comment on function private.record_activity is
  'Writes an entry for the caller (without one: the system) and tells the context''s room. Judges: callable by definer functions and triggers of ours only.';

-- ActivityEvent, its user as of now; of a person who is no member any more, the last known name and e-mail.
create or replace function private.activity_json(p_id uuid) returns jsonb
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (
    select jsonb_strip_nulls(jsonb_build_object('id', a.id, 'type', a.type,
      'user', jsonb_build_object(
        'id', coalesce(m.id, a.user_id, '00000000-0000-0000-0000-000000000000'),
        'name', coalesce(m.name, a.user_name), 'email', coalesce(m.email, a.user_email),
        'role', case when p.user_id = a.user_id then 'owner' when m.role in ('admin', 'manager') then 'admin'
          when m.role = 'developer' then 'editor' else 'viewer' end,
        'lastActive', private.iso(coalesce(m.last_active_at, m.accepted_at, m.invited_at, a.created_at)), 'avatar', m.avatar_url),
      'description', a.description, 'timestamp', private.iso(a.created_at), 'metadata', a.metadata))
    from public.project_activity a
    join public.projects p on p.id = a.project_id
    left join public.project_members m on m.project_id = a.project_id and m.user_id = a.user_id
    where a.id = p_id
  );
end
$$;
comment on function private.activity_json is 'ActivityEvent of the contract. Judges: callable by functions and triggers of ours only.';

-- What the server calls after it has answered: marks the caller as active, at most once a minute, and records an opened project.
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
  'Best effort, after the answer: lastActiveAt, and a view where p_viewed. Judges: only projects the caller sees, only the caller''s own row.';
grant execute on function private.touch_project to authenticated;

create or replace function private.prune_activity(p_at timestamptz default now()) returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count bigint;
begin
  delete from public.project_activity where created_at < p_at - interval '400 days';
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function private.prune_activity is 'Retention of 400 days. Judges: callable by the worker only.';
grant execute on function private.prune_activity to kijko_worker;
