-- Handles many clients that connect at once, as after a restart. A server process merges their requests, so that the database gets one
-- statement a batch. The session and membership of each person is checked. Access to a project is checked once a class of people. A room's
-- log is read once, from the smallest cursor; the server starts the replay of each client at its own cursor.

-- Returns the head of the log. For the ingestion socket it also returns the state of a project's run, with the places of events that this
-- state contains and that have no number yet. All of it is from one snapshot.
create or replace function private.rooms_now(p_rooms text[]) returns table (place integer, head bigint, pending bigint[], frames jsonb)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  select r.place::integer, h.head, l.pending, case when l.pending is not null then private.run_snapshot(r.target) end
  from (select coalesce(max(e.id), 0) as head from public.events e) h
  cross join (
    select u.place, split_part(u.room, ':', 1) as kind, split_part(u.room, ':', 2)::uuid as target from unnest(p_rooms) with ordinality u (room, place)
  ) r
  left join lateral private.log_position('project:' || r.target) l on r.kind = 'ingestion';
end
$$;
comment on function private.rooms_now is
  'For each room the newest number, and of an ingestion room the state of the run. Authorization: callable by the server only, which shows a state to admitted users.';
grant execute on function private.rooms_now to kijko_server;

-- Returns one row for each missed event, at least one row a room. The server decides which subscribers of the room may receive it, as it
-- does for live events.
create or replace function private.missed_events(p_rooms text[], p_places integer[], p_cursors bigint[], p_head bigint, p_limit integer)
returns table (place integer, removed_until bigint, id bigint, type text, data text, audience text, project_id uuid, actor_user_id uuid,
  user_ids uuid[], conflation_key text, created_at timestamptz)
language plpgsql stable security definer set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  with rooms as materialized (
    select u.place, split_part(u.room, ':', 1) as kind, private.removed_until(u.room) as removed,
      case when u.room like 'ingestion:%' then 'project:' || split_part(u.room, ':', 2) else u.room end as source
    from unnest(p_rooms) with ordinality u (room, place)
    where u.place = any (p_places)
  ), since as materialized (
    select r.place, r.kind, r.source, r.removed, min(c.after) filter (where c.after between r.removed and p_head) as after
    from rooms r join unnest(p_places, p_cursors) c (place, after) on c.place = r.place
    group by 1, 2, 3, 4
  )
  select s.place::integer, s.removed, e.id, e.type, e.data::text, e.audience, e.project_id, e.actor_user_id, e.user_ids, e.conflation_key,
    e.created_at
  from since s
  left join lateral (
    select m.*
    from (
      select v.*,
        -- Of a conflatable series only the newest row counts.
        case when v.conflation_key is null then 1 else row_number() over (partition by v.conflation_key order by v.id desc) end as age
      from public.events v
      where v.room = s.source and v.id > s.after and v.id <= p_head and v.audience <> 'none'
        and (s.kind <> 'ingestion' or v.type = any (private.ingestion_event_types()))
    ) m
    where m.age = 1
    order by m.id desc
    limit p_limit
  ) e on true
  order by s.place, e.id;
end
$$;
comment on function private.missed_events is
  'What rooms lost by retention, and their newest events after the smallest cursor that is still good. Authorization: callable by the server only, which decides who gets what.';
grant execute on function private.missed_events to kijko_server;

-- Callers are numbered, and so are rooms: p_callers and p_places map callers to rooms, p_owners names the owners of the sockets that are to
-- be counted. The last row is the answer to all of it; the other rows are events. It runs as the server and becomes each person in turn.
create or replace function private.arrive(
  p_node_id uuid, p_user_limit integer, p_org_limit integer, p_users uuid[], p_sessions uuid[], p_orgs uuid[],
  p_sockets uuid[], p_owners integer[], p_projects uuid[], p_rooms text[], p_places integer[], p_callers integer[], p_cursors bigint[],
  p_limit integer
) returns table (answer jsonb, place integer, removed_until bigint, id bigint, type text, data text, audience text, project_id uuid,
  actor_user_id uuid, user_ids uuid[], conflation_key text, created_at timestamptz)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
  v_head bigint;
  v_states jsonb;
  v_members uuid[] := '{}';
  v_refused text[] := '{}';
  v_detail text;
  v_opened uuid[] := '{}';
  v_watching integer[];
  v_watched uuid[];
  v_views text[];
  v_admitted jsonb;
  v_places integer[];
  v_cursors bigint[];
begin
  -- The head of the log is read first. So the state that authorizes a caller is never older than the events that the caller receives.
  select max(n.head), jsonb_agg(jsonb_build_object('place', n.place, 'pending', n.pending, 'frames', n.frames)) filter (where n.pending is not null)
    into v_head, v_states
  from private.rooms_now(p_rooms) n;

  for i in 1..cardinality(p_users) loop
    begin
      perform private.enter_socket(p_users[i], p_sessions[i], p_orgs[i], '', '', '');
      v_members := array_append(v_members, private.org_id());
      v_refused := array_append(v_refused, null);
    exception when others then
      if sqlstate not like 'PT4%' then
        raise;
      end if;
      get stacked diagnostics v_detail = pg_exception_detail;
      v_members := array_append(v_members, null);
      v_refused := array_append(v_refused, v_detail::jsonb ->> 'code');
    end;
  end loop;

  if cardinality(p_sockets) > 0 then
    select private.open_sockets(p_node_id, array_agg(s.id order by s.nth), array_agg(p_users[s.owner] order by s.nth),
        array_agg(v_members[s.owner] order by s.nth), array_agg(s.project_id order by s.nth), p_user_limit, p_org_limit)
      into v_opened
    from unnest(p_sockets, p_owners, p_projects) with ordinality s (id, owner, project_id, nth)
    where v_refused[s.owner] is null;
  end if;

  select array_agg(w.caller), array_agg(w.target) into v_watching, v_watched
  from (
    select distinct a.caller, split_part(p_rooms[a.place], ':', 2)::uuid as target
    from unnest(p_places, p_callers) a (place, caller)
    where v_refused[a.caller] is null and split_part(p_rooms[a.place], ':', 1) not in ('user', 'org')
  ) w;
  if v_watching is not null then
    select private.authorize_viewers(array_agg(p_users[w.caller] order by w.nth), array_agg(p_sessions[w.caller] order by w.nth),
        array_agg(v_members[w.caller] order by w.nth), v_watched)
      into v_views
    from unnest(v_watching) with ordinality w (caller, nth);
  end if;
  with rooms as materialized (
    select r.place, split_part(r.room, ':', 1) as kind, split_part(r.room, ':', 2)::uuid as target
    from unnest(p_rooms) with ordinality r (room, place)
  )
  select jsonb_agg(jsonb_build_array(a.place, a.caller)), array_agg(a.place) filter (where a.after is not null),
      array_agg(a.after) filter (where a.after is not null)
    into v_admitted, v_places, v_cursors
  from unnest(p_places, p_callers, p_cursors) a (place, caller, after)
  join rooms r on r.place = a.place
  left join unnest(v_watching, v_watched, v_views) w (caller, target, view) on w.caller = a.caller and w.target = r.target
  where v_refused[a.caller] is null
    and case r.kind when 'user' then r.target = p_users[a.caller] when 'org' then r.target = v_members[a.caller]
      else w.view in ('some', 'all') end;

  return query select null::jsonb, m.* from private.missed_events(p_rooms, v_places, v_cursors, v_head, p_limit) m;
  return query select jsonb_build_object('head', v_head, 'states', v_states, 'organizations', to_jsonb(v_members), 'refused', to_jsonb(v_refused),
      'opened', to_jsonb(v_opened), 'admitted', v_admitted),
    null::integer, null::bigint, null::bigint, null::text, null::text, null::text, null::uuid, null::uuid, null::uuid[], null::text,
    null::timestamptz;
end
$$;
comment on function private.arrive is
  'Checks many people and their rooms, counts their sockets, and gives what was missed since the cursors. Authorization: each person''s session and membership, each project under the rights of a person of the same class; callable by the server only.';
grant execute on function private.arrive to kijko_server;
