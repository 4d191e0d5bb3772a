-- What the server's sockets ask of the database. Whether somebody may watch a project is never computed here: each question is asked
-- of public.projects as that person, under their own row-level security, so there is one rule and it stands in one place.

-- One open socket more, unless the person or their organization has too many, counted over all server processes. Callers with the
-- same person or organization wait for each other's commit, which is a matter of milliseconds.
create or replace function private.open_socket(
  p_node_id uuid, p_socket_id uuid, p_project_id uuid, p_user_limit integer, p_org_limit integer
) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v_org uuid := private.org_id();
  v_alive uuid[];
begin
  perform pg_advisory_xact_lock(hashtextextended('sockets ' || v_user, 0));
  v_alive := array(select n.id from private.realtime_nodes n where n.heartbeat_at > now() - interval '90 seconds') || p_node_id;
  if (select count(*) from private.realtime_sockets s where s.user_id = v_user and s.node_id = any (v_alive)) >= p_user_limit
    or (select count(*) from private.realtime_sockets s where s.organization_id = v_org and s.node_id = any (v_alive)) >= p_org_limit
  then
    return false;
  end if;
  insert into private.realtime_sockets (id, node_id, user_id, organization_id, project_id)
  values (p_socket_id, p_node_id, v_user, v_org, p_project_id);
  return true;
end
$$;
comment on function private.open_socket is
  'Counts a socket of the caller of this transaction; false when there are too many. Judges: callable by the server only.';
grant execute on function private.open_socket to kijko_server;

create or replace function private.close_sockets(p_socket_ids uuid[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from private.realtime_sockets where id = any (p_socket_ids);
end
$$;
comment on function private.close_sockets is 'Forgets closed sockets. Judges: callable by the server only.';
grant execute on function private.close_sockets to kijko_server;

-- Sent by every server process each 30 s with the sockets it holds: heals what a crash of the database (unlogged tables) or a lost
-- close_sockets left behind, and buries the dead.
create or replace function private.beat_node(p_node_id uuid, p_sockets uuid[], p_users uuid[], p_orgs uuid[], p_projects uuid[])
returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.realtime_nodes (id, heartbeat_at) values (p_node_id, now())
  on conflict (id) do update set heartbeat_at = excluded.heartbeat_at;
  delete from private.realtime_sockets where node_id = p_node_id and id <> all (p_sockets) and opened_at < now() - interval '1 minute';
  insert into private.realtime_sockets (id, node_id, user_id, organization_id, project_id)
  select s.id, p_node_id, s.user_id, s.organization_id, s.project_id
  from unnest(p_sockets, p_users, p_orgs, p_projects) as s (id, user_id, organization_id, project_id)
  on conflict (id) do nothing;
  with dead as (
    delete from private.realtime_nodes where heartbeat_at < now() - interval '10 minutes' returning id
  )
  delete from private.realtime_sockets s using dead where s.node_id = dead.id;
end
$$;
comment on function private.beat_node is 'Heartbeat of a server process with the sockets it holds. Judges: callable by the server only.';
grant execute on function private.beat_node to kijko_server;

create or replace function private.leave_node(p_node_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from private.realtime_sockets where node_id = p_node_id;
  delete from private.realtime_nodes where id = p_node_id;
end
$$;
comment on function private.leave_node is 'A server process stops. Judges: callable by the server only.';
grant execute on function private.leave_node to kijko_server;

-- Answers, for people who hold sockets, whether each may still watch: 'ok', 'hidden', or the code of private.enter's refusal. It runs as
-- the server (not as its owner) and becomes each person in turn.
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
      perform private.enter(p_users[i], p_sessions[i], p_orgs[i], '', '', ''), set_config('role', 'authenticated', true);
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
  'For each (user, session, organization, project): ok, hidden, or the code of the refusal. Judges: every answer is given under that person''s own rights; callable by the server only.';
grant execute on function private.recheck_sockets to kijko_server;

-- Everything a socket of one project is told at its beginning, in one statement and therefore from one snapshot: whether the caller
-- may watch, the head of the log, which of the room's events are contained in the snapshot without a number yet, the snapshot, and
-- what was missed since a cursor (p_cursor null: nothing). One row an event missed, at least one row; no row where the project is
-- hidden. Runs as the caller, under row-level security.
create or replace function private.begin_watching(
  p_project_id uuid, p_cursor bigint, p_until bigint, p_limit integer
) returns table (organization_id uuid, head bigint, pending bigint[], removed_until bigint, frames jsonb,
  id bigint, type text, data text, created_at timestamptz)
language plpgsql stable
as $$
#variable_conflict use_column
begin
  -- One statement, and plpgsql because projects and ingestion are installed after events.
  return query
  with room as (
    select p.id as project_id, 'project:' || p.id as name from public.projects p where p.id = p_project_id
  ), state as materialized (
    select r.name, l.head, l.pending, private.removed_until('ingestion:' || r.project_id) as removed_until, private.run_snapshot(r.project_id) as frames
    from room r, private.log_position(r.name) l
  )
  select (select private.org_id()), s.head, s.pending, s.removed_until, s.frames, e.id, e.type, e.data::text, e.created_at
  from state s
  left join lateral (
    select m.id, m.type, m.data, m.created_at
    from (
      select v.id, v.type, v.data, v.created_at,
        -- Of a conflatable series only the newest row counts.
        case when v.conflation_key is null then 1 else row_number() over (partition by v.conflation_key order by v.id desc) end as age
      from public.events v
      where v.room = s.name and v.id > p_cursor and v.id <= least(s.head, p_until) and v.type = any (private.ingestion_event_types())
    ) m
    where m.age = 1
    order by m.id
    limit p_limit
  ) e on p_cursor is not null and p_cursor >= s.removed_until and p_cursor <= s.head
  order by e.id;
end
$$;
comment on function private.begin_watching is
  'State of a project''s ingestion for a fresh socket and the events it missed, from one snapshot, under the caller''s own rights; no row = not visible.';
grant execute on function private.begin_watching to authenticated;
