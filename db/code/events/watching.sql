-- The questions of the server's sockets to the database. Whether a person may watch a project is never computed here: each question is
-- asked of public.projects as that person, under their own row-level security, so there is one rule and it stands in one place.

-- Admits sockets as private.enter does, but also a person who belongs to no organization at all, for their own room.
create or replace function private.enter_socket(
  p_user_id uuid, p_session_id uuid, p_org_hint uuid, p_claims text, p_request_id text, p_client_ip text
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  if p_org_hint is not null or exists (select from public.memberships m where m.user_id = p_user_id and m.status = 'active')
    or session_user in ('anon', 'authenticated') then
    perform private.enter(p_user_id, p_session_id, p_org_hint, p_claims, p_request_id, p_client_ip);
    return;
  end if;
  select s.revoked_at, s.expires_at, s.idle_expires_at into v from private.sessions s where s.id = p_session_id and s.user_id = p_user_id;
  if not found or v.revoked_at is not null then
    perform private.refuse(401, 'SESSION_REVOKED', 'This session has ended. Please sign in again.');
  elsif v.expires_at <= now() or v.idle_expires_at <= now() then
    perform private.refuse(401, 'SESSION_EXPIRED', 'This session has expired. Please sign in again.');
  end if;
  perform set_config('app.user_id', p_user_id::text, true), set_config('app.session_id', p_session_id::text, true),
    set_config('app.org_id', '', true), set_config('app.org_role', '', true), set_config('app.request_id', p_request_id, true),
    set_config('app.client_ip', p_client_ip, true), set_config('app.wakes', 'on', true), set_config('request.jwt.claims', p_claims, true);
end
$$;
comment on function private.enter_socket is
  'Checks the session, and the membership if there is one, and makes the user known to the transaction. Authorization: as private.enter. Errors: 401 SESSION_REVOKED, 401 SESSION_EXPIRED, 403 ORG_REQUIRED.';
grant execute on function private.enter_socket to kijko_server;

-- Answers, for people with open sockets, whether each may still watch: 'ok', 'hidden', or the code of the refusal of private.enter. It runs
-- as the server (not as its owner) and becomes each person in turn.
create or replace function private.recheck_sockets(p_users uuid[], p_sessions uuid[], p_orgs uuid[], p_projects uuid[]) returns text[]
language plpgsql volatile
as $$
declare
  v_answers text[] := '{}';
  v_detail text;
  v_visible boolean;
begin
  for i in 1..cardinality(p_users) loop
    begin
      perform private.enter_socket(p_users[i], p_sessions[i], p_orgs[i], '', '', ''), set_config('role', 'authenticated', true);
      v_visible := p_projects[i] is null or exists (select from public.projects p where p.id = p_projects[i]);
      perform set_config('role', 'none', true);
      v_answers := v_answers || case when v_visible then 'ok' else 'hidden' end;
    exception when others then
      if sqlstate not like 'PT4%' then
        raise;
      end if;
      get stacked diagnostics v_detail = pg_exception_detail;
      v_answers := v_answers || (v_detail::jsonb ->> 'code');
    end;
  end loop;
  return v_answers;
end
$$;
comment on function private.recheck_sockets is
  'For each (user, session, organization, project): ok, hidden, or the code of the refusal. Authorization: every answer is given under that person''s own rights; callable by the server only.';
grant execute on function private.recheck_sockets to kijko_server;

-- The facts that a person's view of a project can depend on: two people with the same answer see the same.
drop function if exists private.viewer_class(uuid, uuid, uuid);
create or replace function private.viewer_classes(p_users uuid[], p_orgs uuid[], p_projects uuid[]) returns text[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  return array(
    select concat_ws('/', v.project_id, coalesce(v.organization_id::text, '-'), coalesce(s.role, '-'), coalesce(m.role, '-'),
      p.user_id = v.user_id, d.id is not null)
    from unnest(p_users, p_orgs, p_projects) with ordinality v (user_id, organization_id, project_id, place)
    left join public.projects p on p.id = v.project_id
    left join public.memberships s on s.organization_id = v.organization_id and s.user_id = v.user_id and s.status = 'active'
    left join public.project_members m on m.project_id = v.project_id and m.user_id = v.user_id and m.accepted_at is not null
    left join public.memberships d on d.organization_id = p.organization_id and d.user_id = v.user_id and d.status <> 'active'
    order by v.place
  );
end
$$;
comment on function private.viewer_classes is
  'For each (user, organization, project): project, organization, role there, role in the project, whether owner, whether deactivated in its organization; those whose rights cannot differ are alike. Authorization: callable by the server only.';
grant execute on function private.viewer_classes to kijko_server;

-- For events that only some members of a room may have: does each person see the project, and the whole of its activity log? Asked once a
-- class of people, under the rights of one of them. 'ended' means that the person's session or membership is over.
create or replace function private.authorize_viewers(p_users uuid[], p_sessions uuid[], p_orgs uuid[], p_projects uuid[]) returns text[]
language plpgsql volatile
as $$
declare
  v_answers text[] := '{}';
  v_known jsonb := '{}';
  v_classes text[] := private.viewer_classes(p_users, p_orgs, p_projects);
  v_answer text;
begin
  for i in 1..cardinality(p_users) loop
    v_answer := v_known ->> v_classes[i];
    if v_answer is null then
      begin
        perform private.enter_socket(p_users[i], p_sessions[i], p_orgs[i], '', '', ''), set_config('role', 'authenticated', true);
        v_answer := case when not exists (select from public.projects p where p.id = p_projects[i]) then 'none'
          when private.reads_all_activity(p_projects[i]) then 'all' else 'some' end;
        perform set_config('role', 'none', true);
        v_known := v_known || jsonb_build_object(v_classes[i], v_answer);
      exception when others then
        if sqlstate not like 'PT4%' then
          raise;
        end if;
        v_answer := 'ended';
      end;
    end if;
    v_answers := v_answers || v_answer;
  end loop;
  return v_answers;
end
$$;
comment on function private.authorize_viewers is
  'For each (user, session, organization, project): none, some (sees the project), all (and its whole activity log) or ended. Authorization: every answer is given under the rights of a person of that class; callable by the server only.';
grant execute on function private.authorize_viewers to kijko_server;

-- Answers everything that a client gets when it joins rooms, in one statement and therefore from one snapshot: whether the caller may be in
-- each room, the head of the log, the events missed since a cursor (null: none), and for the ingestion socket the state of the project's
-- run (p_snapshot), with the places of events that this state contains and that have no number yet. One row for each missed event, at least
-- one row a room. Runs as the caller, under row-level security.
drop function if exists private.begin_watching(uuid, bigint, bigint, integer);
create or replace function private.watch_rooms(
  p_rooms text[], p_cursors bigint[], p_untils bigint[], p_limit integer, p_snapshot uuid default null
) returns table (organization_id uuid, head bigint, room text, is_admitted boolean, removed_until bigint, pending bigint[], frames jsonb,
  id bigint, type text, data text, audience text, actor_user_id uuid, conflation_key text, created_at timestamptz)
language plpgsql stable
-- Planned once a connection. Planning again for each call costs ten times as much, and a thousand clients that come back at once would pay
-- it.
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  -- One statement, and plpgsql because projects and ingestion are installed after events.
  return query
  with asked as materialized (
    select a.place, split_part(a.room, ':', 1) as kind, a.after, a.until, private.as_uuid(split_part(a.room, ':', 2)) as target
    from unnest(p_rooms, p_cursors, p_untils) with ordinality a (room, after, until, place)
  ), rooms as materialized (
    select a.*, a.kind || ':' || a.target as name, case a.kind when 'ingestion' then 'project' else a.kind end || ':' || a.target as source,
      coalesce(case a.kind when 'user' then a.target = private.user_id() when 'org' then a.target = private.org_id()
        else exists (select from public.projects p where p.id = a.target) end, false) as admitted
    from asked a
  ), state as materialized (
    select l.head, l.pending,
      case when p_snapshot is not null and exists (select from rooms r where r.admitted and r.target = p_snapshot)
        then private.run_snapshot(p_snapshot) end as frames
    from private.log_position(coalesce('project:' || p_snapshot, '')) l
  ), marked as materialized (
    select r.*, s.head, s.pending, s.frames, case when r.admitted then private.removed_until(r.name) end as removed
    from rooms r, state s
  )
  select (select private.org_id()), r.head, r.name, r.admitted, r.removed, r.pending, r.frames,
    e.id, e.type, e.data::text, e.audience, e.actor_user_id, e.conflation_key, e.created_at
  from marked r
  left join lateral (
    select m.*
    from (
      select v.id, v.type, v.data, v.audience, v.actor_user_id, v.conflation_key, v.created_at,
        -- Of a conflatable series only the newest row counts.
        case when v.conflation_key is null then 1 else row_number() over (partition by v.conflation_key order by v.id desc) end as age
      from public.events v
      where v.room = r.source and v.id > r.after and v.id <= least(r.head, r.until)
        and (r.kind <> 'ingestion' or v.type = any (private.ingestion_event_types()))
    ) m
    where m.age = 1
    order by m.id
    limit p_limit
  ) e on r.admitted and r.after >= r.removed and r.after <= r.head
  order by r.place, e.id;
end
$$;
comment on function private.watch_rooms is
  'Admission to rooms with the events missed there and the state of a run, from one snapshot, under the caller''s own rights.';
grant execute on function private.watch_rooms to authenticated;

-- Some events name a row, and their data is read at delivery. Where the row is gone, the event is not sent.
create or replace function private.resolve_events(p_ids bigint[]) returns table (id bigint, data text)
language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_types text[] := array(select distinct e.type from public.events e where e.id = any (p_ids));
begin
  if v_types && array['project_user:insert', 'project_user:update'] then
    return query
    select e.id, private.project_user_json(m, p.user_id)::text
    from public.events e
    join public.project_members m on m.id = e.entity_id
    join public.projects p on p.id = m.project_id
    where e.id = any (p_ids) and e.type in ('project_user:insert', 'project_user:update');
  end if;
  if 'notification' = any (v_types) then
    return query
    select e.id, n.data::text
    from public.events e
    join private.deliver_notifications(array(select v.entity_id from public.events v where v.id = any (p_ids) and v.type = 'notification')) n
      on n.id = e.entity_id
    where e.id = any (p_ids) and e.type = 'notification';
  end if;
  if 'notification_preferences_updated' = any (v_types) then
    return query
    select e.id, n.data::text
    from public.events e
    join private.deliver_notification_preferences(
      array(select v.entity_id from public.events v where v.id = any (p_ids) and v.type = 'notification_preferences_updated')) n
      on n.id = e.entity_id
    where e.id = any (p_ids) and e.type = 'notification_preferences_updated';
  end if;
end
$$;
comment on function private.resolve_events is
  'What events that name a row are told with; no row where it is gone. Authorization: callable by the server only, which decides who gets it.';
grant execute on function private.resolve_events to kijko_server;
