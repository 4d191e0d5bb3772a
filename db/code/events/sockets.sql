-- Which sockets are open where: the limits per person and organization hold over all server processes.

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
  perform private.bury_nodes();
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
  perform private.bury_nodes();
end
$$;
comment on function private.leave_node is 'A server process stops. Judges: callable by the server only.';
grant execute on function private.leave_node to kijko_server;
