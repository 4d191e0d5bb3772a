-- Presence (contract 30, 8.2): a person is online in a context while one of their sockets, on any server process, is in its room. The
-- server processes report arrivals and departures. This file decides which state is published to the room, and when, so that the processes
-- need not know of each other. Offline is published after 10 s without a socket, a state at most every 5 s, and equal successive states
-- never.

create or replace function private.note_presence(p_node_id uuid, p_contexts uuid[], p_users uuid[], p_present boolean[]) returns double precision
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  -- In a fixed order: two processes that report the same people never wait for each other in a circle.
  for v in
    select distinct on (c.context_id, c.user_id) c.*
    from unnest(p_contexts, p_users, p_present) c (context_id, user_id, is_present)
    order by c.context_id, c.user_id
  loop
    if v.is_present then
      insert into private.realtime_presence (context_id, user_id, node_id) values (v.context_id, v.user_id, p_node_id) on conflict do nothing;
      insert into private.realtime_statuses as s (context_id, user_id) values (v.context_id, v.user_id)
      on conflict (context_id, user_id) do update set left_at = null;
    else
      delete from private.realtime_presence where context_id = v.context_id and user_id = v.user_id and node_id = p_node_id;
      update private.realtime_statuses s set left_at = now()
      where s.context_id = v.context_id and s.user_id = v.user_id and s.left_at is null
        and not exists (select from private.realtime_presence r where r.context_id = v.context_id and r.user_id = v.user_id);
    end if;
    update public.project_members m set last_active_at = now()
    where m.project_id = v.context_id and m.user_id = v.user_id and m.accepted_at is not null;
  end loop;
  return private.settle_presence();
end
$$;
comment on function private.note_presence is
  'A server process reports who came to a context and who left; returns as settle_presence does. Authorization: callable by the server only, which admitted them.';
grant execute on function private.note_presence to kijko_server;

-- Publishes the states that are due to the rooms. Any process may do it at any time; rows that another process has locked are skipped.
create or replace function private.settle_presence(p_at timestamptz default clock_timestamp()) returns double precision
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_between constant interval := '5 seconds';
  c_absent constant interval := '10 seconds';
  v private.realtime_statuses;
begin
  for v in
    select s.* from private.realtime_statuses s
    where s.is_online = (s.left_at is not null) and s.told_at <= p_at - c_between and (s.left_at is null or s.left_at <= p_at - c_absent)
    order by s.context_id, s.user_id
    limit 1000
    for update skip locked
  loop
    update private.realtime_statuses s set is_online = not v.is_online, told_at = p_at
    where s.context_id = v.context_id and s.user_id = v.user_id;
    perform private.publish('context:' || v.context_id, 'user:status', jsonb_build_object('contextId', v.context_id, 'userId', v.user_id,
      'status', case when v.is_online then 'offline' else 'online' end, 'lastActive', private.iso(coalesce(v.left_at, p_at))));
  end loop;
  -- A person who was published as offline needs no row any more.
  delete from private.realtime_statuses s where not s.is_online and s.left_at is not null and s.told_at < p_at - c_between;
  return (
    select extract(epoch from min(greatest(s.told_at + c_between, s.left_at + c_absent, p_at)) - p_at)
    from private.realtime_statuses s where s.is_online = (s.left_at is not null)
  );
end
$$;
comment on function private.settle_presence is
  'Tells rooms who is online or offline, as far as it is due; returns in how many seconds the next one is, or null. Authorization: callable by the server only.';
grant execute on function private.settle_presence to kijko_server;

-- With each heartbeat: repairs the state after a crash of the database or a lost report.
create or replace function private.keep_presence(
  p_node_id uuid, p_contexts uuid[], p_users uuid[], p_projects uuid[], p_sockets integer[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.realtime_statuses (context_id, user_id)
  select c.context_id, c.user_id from unnest(p_contexts, p_users) c (context_id, user_id)
  where not exists (select from private.realtime_presence r
    where r.context_id = c.context_id and r.user_id = c.user_id and r.node_id = p_node_id)
  order by 1, 2
  on conflict (context_id, user_id) do update set left_at = null;
  insert into private.realtime_presence (context_id, user_id, node_id)
  select c.context_id, c.user_id, p_node_id from unnest(p_contexts, p_users) c (context_id, user_id) order by 1, 2
  on conflict do nothing;
  with gone as (
    delete from private.realtime_presence r
    where r.node_id = p_node_id and (r.context_id, r.user_id) not in (select c.c, c.u from unnest(p_contexts, p_users) c (c, u))
    returning r.context_id, r.user_id
  )
  update private.realtime_statuses s set left_at = now()
  from gone g
  where s.context_id = g.context_id and s.user_id = g.user_id and s.left_at is null
    and not exists (select from private.realtime_presence r
      where r.context_id = g.context_id and r.user_id = g.user_id and r.node_id <> p_node_id);
  delete from private.realtime_watchers w where w.node_id = p_node_id and w.project_id <> all (p_projects);
  perform private.note_watchers(p_node_id, p_projects, p_sockets);
end
$$;
comment on function private.keep_presence is
  'The people and watchers of a server process, whole. Authorization: callable by the server only.';
grant execute on function private.keep_presence to kijko_server;

-- A process without a heartbeat for 90 s has no people, no watchers and no agents any more.
create or replace function private.bury_nodes(p_at timestamptz default now()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_alive uuid[] := array(select n.id from private.realtime_nodes n where n.heartbeat_at > p_at - interval '90 seconds');
begin
  delete from private.realtime_watchers w where w.node_id <> all (v_alive);
  with gone as (
    delete from private.realtime_presence r where r.node_id <> all (v_alive) returning r.context_id, r.user_id
  )
  update private.realtime_statuses s set left_at = p_at
  from gone g
  where s.context_id = g.context_id and s.user_id = g.user_id and s.left_at is null
    and not exists (select from private.realtime_presence r
      where r.context_id = g.context_id and r.user_id = g.user_id and r.node_id = any (v_alive));
  perform private.bury_agents(v_alive);
end
$$;
comment on function private.bury_nodes is 'Forgets the people and watchers of server processes that are dead. Authorization: callable by the server only.';
grant execute on function private.bury_nodes to kijko_server;

-- Counts the sockets that watch a project. They are reported as totals, so that the next report repairs a lost one.
create or replace function private.note_watchers(p_node_id uuid, p_projects uuid[], p_sockets integer[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from private.realtime_watchers w using unnest(p_projects, p_sockets) c (project_id, sockets)
  where w.node_id = p_node_id and w.project_id = c.project_id and c.sockets = 0;
  insert into private.realtime_watchers (project_id, node_id, sockets)
  select c.project_id, p_node_id, c.sockets from unnest(p_projects, p_sockets) c (project_id, sockets) where c.sockets > 0 order by 1
  on conflict (project_id, node_id) do update set sockets = excluded.sockets;
end
$$;
comment on function private.note_watchers is 'A server process reports how many of its sockets watch a project. Authorization: callable by the server only.';
grant execute on function private.note_watchers to kijko_server;

create or replace function private.count_watchers(p_project_id uuid) returns bigint
language plpgsql stable security definer set search_path = ''
as $$
begin
  if coalesce(private.role_rank(private.project_role(p_project_id)), 0) < private.role_rank('manager') then
    return 0;
  end if;
  return (
    select coalesce(sum(w.sockets), 0) from private.realtime_watchers w
    join private.realtime_nodes n on n.id = w.node_id and n.heartbeat_at > now() - interval '90 seconds'
    where w.project_id = p_project_id
  );
end
$$;
comment on function private.count_watchers is 'Sockets that watch a project, over all server processes. Authorization: owner, admin and manager of the project; others learn 0.';
grant execute on function private.count_watchers to authenticated;
