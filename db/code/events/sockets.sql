-- Records which sockets are open on which process: the limits per person and organization hold over all server processes.

-- Adds sockets, except where the person or their organization has too many, counted over all server processes. Calls for the same person
-- wait for each other's commit, which takes milliseconds. All calls take the locks in one order.
drop function if exists private.open_socket(uuid, uuid, uuid, integer, integer);
create or replace function private.open_sockets(
  p_node_id uuid, p_sockets uuid[], p_users uuid[], p_orgs uuid[], p_projects uuid[], p_user_limit integer, p_org_limit integer
) returns uuid[]
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_alive uuid[];
  v_opened uuid[];
begin
  perform pg_advisory_xact_lock(l.key)
  from (select distinct hashtextextended('sockets ' || u, 0) as key from unnest(p_users) u order by 1) l;
  v_alive := array(select n.id from private.realtime_nodes n where n.heartbeat_at > now() - interval '90 seconds') || p_node_id;
  with coming as materialized (
    select c.*, row_number() over (partition by c.user_id order by c.place) as nth
    from unnest(p_sockets, p_users, p_orgs, p_projects) with ordinality c (id, user_id, organization_id, project_id, place)
  ), people as materialized (
    select c.user_id, (select count(*) from private.realtime_sockets s where s.user_id = c.user_id and s.node_id = any (v_alive)) as open
    from (select distinct user_id from coming) c
  ), organizations as materialized (
    select c.organization_id, (select count(*) from private.realtime_sockets s
      where s.organization_id = c.organization_id and s.node_id = any (v_alive)) as open
    from (select distinct organization_id from coming) c
  ), within as materialized (
    select c.*, row_number() over (partition by c.organization_id order by c.place) as nth_there
    from coming c join people p on p.user_id = c.user_id
    where p.open + c.nth <= p_user_limit
  ), opened as (
    insert into private.realtime_sockets (id, node_id, user_id, organization_id, project_id)
    select w.id, p_node_id, w.user_id, w.organization_id, w.project_id
    from within w left join organizations o on o.organization_id = w.organization_id
    where w.organization_id is null or o.open + w.nth_there <= p_org_limit
    returning id
  )
  select array_agg(o.id) into v_opened from opened o;
  return coalesce(v_opened, '{}');
end
$$;
comment on function private.open_sockets is
  'Counts sockets that people open; returns those that are not too many. Authorization: callable by the server only.';
grant execute on function private.open_sockets to kijko_server;

create or replace function private.close_sockets(p_socket_ids uuid[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from private.realtime_sockets where id = any (p_socket_ids);
end
$$;
comment on function private.close_sockets is 'Forgets closed sockets. Authorization: callable by the server only.';
grant execute on function private.close_sockets to kijko_server;

-- Sent by every server process each 30 s with the sockets that it holds. It repairs the state after a crash of the database (unlogged
-- tables) or a lost close_sockets, and removes dead processes.
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
  perform private.bury_nodes();
end
$$;
comment on function private.beat_node is 'Heartbeat of a server process with the sockets it holds. Authorization: callable by the server only.';
grant execute on function private.beat_node to kijko_server;

create or replace function private.leave_node(p_node_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from private.realtime_sockets where node_id = p_node_id;
  delete from private.realtime_nodes where id = p_node_id;
  perform private.bury_nodes();
end
$$;
comment on function private.leave_node is 'A server process stops. Authorization: callable by the server only.';
grant execute on function private.leave_node to kijko_server;
