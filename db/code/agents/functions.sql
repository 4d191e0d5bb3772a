-- Agents of a project (contract 30, 8.5): programs of people who may change the project report their state and lines of their log. A state
-- is an event of the log, in the room of the project and, for those who see the project, in the room of the organization. A line is told to
-- open sockets only, and to the organization's room only where each of its members sees the project.

create or replace function private.agent_json(a private.agents) returns jsonb
language sql stable parallel safe
return jsonb_build_object('name', a.name, 'state', a.state, 'load', a.load, 'projectId', a.project_id, 'userId', a.user_id);
comment on function private.agent_json is 'AgentStatus of contract 30, 8.5, with the project and the person whose program it is.';

create or replace function private.emit_agent(a private.agents, p_online boolean) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_data constant jsonb := private.agent_json(a) || jsonb_build_object('online', p_online, 'timestamp', private.iso(clock_timestamp()));
begin
  perform private.emit('project:' || a.project_id, 'agent:status', v_data, a.organization_id, a.project_id, 'project', 'agent', a.id, 'agent:' || a.id);
  perform private.emit('org:' || a.organization_id, 'agent:status', v_data, a.organization_id, a.project_id, 'project', 'agent', a.id, 'agent:' || a.id);
end
$$;
comment on function private.emit_agent is 'agent:status to the project and its organization. Authorization: callable by functions of ours only.';

-- The name of an agent, from a member of an event's argument.
create or replace function private.agent_name(p jsonb, p_member text) returns text
language plpgsql stable parallel safe
as $$
declare
  v_name constant text := case when jsonb_typeof(p -> p_member) = 'string' then private.trimmed(p ->> p_member) end;
begin
  if coalesce(char_length(v_name), 0) not between 1 and 60 or not private.is_plain(v_name) then
    perform private.refuse_field(p_member, format('%s is the agent''s name: 1 to 60 characters.', p_member));
  end if;
  return v_name;
end
$$;
comment on function private.agent_name is 'The name of an agent, or 400 VALIDATION_ERROR.';

-- {projectId, socket, nodeId, data: {name, state, load}}.
create or replace function private.report_agent(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_limit constant integer := 50;
  d constant jsonb := p -> 'data';
  v_project constant uuid := private.as_uuid(p ->> 'projectId');
  v_org uuid;
  v_name text;
  v_known private.agents;
  a private.agents;
begin
  perform private.refuse_strangers('Agents report over Socket.IO.');
  perform private.require_scope('write');
  perform private.assert_project_role(v_project, 'developer');
  v_name := private.agent_name(d, 'name');
  if coalesce(d ->> 'state', '') not in ('Idle', 'Thinking', 'Working', 'Error') then
    perform private.refuse_field('state', 'state is Idle, Thinking, Working or Error.');
  elsif coalesce(private.as_int(d -> 'load', 'load'), 0) not between 0 and 100 then
    perform private.refuse_field('load', 'load is a number from 0 to 100.');
  end if;
  select organization_id into v_org from public.projects x where x.id = v_project;
  -- New agents of a project are counted one after the other.
  select * into v_known from private.agents x
  where x.organization_id = v_org and x.project_id = v_project and x.user_id = private.user_id() and x.name = v_name for update;
  if not found then
    perform pg_advisory_xact_lock(hashtextextended('agents ' || v_project, 0));
    if (select count(*) from private.agents x where x.organization_id = v_org and x.project_id = v_project) >= c_limit then
      perform private.refuse(409, 'TOO_MANY_AGENTS', format('A project has at most %s agents at a time. Disconnect one first.', c_limit), null,
        jsonb_build_object('limit', c_limit));
    end if;
  end if;
  insert into private.agents as x (organization_id, project_id, user_id, name, state, load, socket, node_id)
  values (v_org, v_project, private.user_id(), v_name, d ->> 'state', coalesce(private.as_int(d -> 'load', 'load'), 0), p ->> 'socket', private.as_uuid(p ->> 'nodeId'))
  on conflict on constraint agents_name_key do update
    set state = excluded.state, load = excluded.load, socket = excluded.socket, node_id = excluded.node_id, updated_at = clock_timestamp()
  returning * into a;
  if v_known.id is null or (v_known.state, v_known.load) is distinct from (a.state, a.load) then
    perform private.emit_agent(a, true);
  end if;
  return private.agent_json(a);
end
$$;
comment on function private.report_agent is
  'The state of an agent, for all who see the project. Authorization: developers of the project and above, through our server only, which holds the connection. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 403 INSUFFICIENT_SCOPE, 404 PROJECT_NOT_FOUND, 409 TOO_MANY_AGENTS.';

-- {projectId, socket, data: {agent, level, msg}}.
create or replace function private.log_agent(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  d constant jsonb := p -> 'data';
  v_project constant uuid := private.as_uuid(p ->> 'projectId');
  v_name text;
  v_line jsonb;
  v_org uuid;
  v_privacy text;
begin
  perform private.refuse_strangers('Agents report over Socket.IO.');
  perform private.require_scope('write');
  perform private.assert_project_role(v_project, 'developer');
  v_name := private.agent_name(d, 'agent');
  if coalesce(d ->> 'level', '') not in ('INFO', 'DEBUG', 'WARN', 'ERROR') then
    perform private.refuse_field('level', 'level is INFO, DEBUG, WARN or ERROR.');
  elsif jsonb_typeof(d -> 'msg') is distinct from 'string' or char_length(d ->> 'msg') not between 1 and 1000 then
    perform private.refuse_field('msg', 'msg is a text of 1 to 1000 characters.');
  end if;
  select x.organization_id, x.privacy into v_org, v_privacy from public.projects x where x.id = v_project;
  if not exists (select from private.agents x
    where x.organization_id = v_org and x.project_id = v_project and x.user_id = private.user_id() and x.name = v_name and x.socket = p ->> 'socket') then
    perform private.refuse(409, 'AGENT_UNKNOWN', 'This connection has not reported the state of that agent. Send agent:status first.', 'agent');
  end if;
  v_line := jsonb_build_object('ts', to_char(clock_timestamp() at time zone 'UTC', 'HH24:MI:SS'), 'level', d -> 'level', 'agent', v_name, 'msg', d -> 'msg',
    'projectId', v_project, 'userId', private.user_id(), 'timestamp', private.iso(clock_timestamp()));
  perform private.publish('project:' || v_project, 'agent:log', v_line);
  -- Admission to a room alone guards a line, and the organization's room admits all members.
  if v_privacy = 'shared' then
    perform private.publish('org:' || v_org, 'agent:log', v_line);
  end if;
  return '{}';
end
$$;
comment on function private.log_agent is
  'A line of an agent''s log, for open sockets. Authorization: developers of the project and above, through our server only. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 403 INSUFFICIENT_SCOPE, 404 PROJECT_NOT_FOUND, 409 AGENT_UNKNOWN.';

create or replace function private.list_agents(p_project_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.assert_project_role(p_project_id);
  return (
    select coalesce(jsonb_agg(private.agent_json(a) || jsonb_build_object('online', true, 'onlineSince', private.iso(a.online_since)) order by a.name, a.id), '[]')
    from private.agents a join public.projects x on x.id = a.project_id and x.organization_id = a.organization_id
    where x.id = p_project_id
  );
end
$$;
comment on function private.list_agents is 'The agents of a project that are online. Authorization: everyone who sees the project. Errors: 404 PROJECT_NOT_FOUND.';
grant execute on function private.report_agent, private.log_agent, private.list_agents to authenticated;

-- ------------------------------------------------------------------------------------------------------------------- departures

-- A connection that continues under another process, or another name, has reported again under that one.
create or replace function private.end_agents(p_socket text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  a private.agents;
begin
  for a in delete from private.agents x where x.socket = p_socket returning x.* loop
    a.state := 'Idle';
    a.load := 0;
    perform private.emit_agent(a, false);
  end loop;
end
$$;
comment on function private.end_agents is 'The agents of a connection that ended are offline. Authorization: callable by the server only.';
grant execute on function private.end_agents to kijko_server;

create or replace function private.bury_agents(p_alive uuid[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_socket text;
begin
  for v_socket in select distinct x.socket from private.agents x where x.node_id <> all (p_alive) loop
    perform private.end_agents(v_socket);
  end loop;
end
$$;
comment on function private.bury_agents is 'The agents of dead server processes are offline. Authorization: callable by functions of ours only.';
