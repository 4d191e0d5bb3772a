create or replace function api.list_telemetry_events(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 50, 500);
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('ts', to_char(l.at at time zone 'UTC', 'HH24:MI:SS.MS'), 'source', l.source, 'msg', l.msg,
      'timestamp', private.iso(l.at)) order by l.ord), '[]')
    from private.telemetry_lines(v_at.size) with ordinality l (at, queue, source, level, msg, ord));
end
$$;
comment on function api.list_telemetry_events is 'GET /telemetry/events: {ts, source, msg, timestamp}[], the newest last. Errors: 400 VALIDATION_ERROR.';

create or replace function api.list_telemetry_logs(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 50, 500);
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('ts', to_char(l.at at time zone 'UTC', 'HH24:MI:SS'), 'level', l.level, 'agent', l.queue, 'msg', l.msg)
      order by l.ord), '[]')
    from private.telemetry_lines(v_at.size) with ordinality l (at, queue, source, level, msg, ord));
end
$$;
comment on function api.list_telemetry_logs is 'GET /telemetry/logs: LogEntry[], the newest last. Errors: 400 VALIDATION_ERROR.';

create or replace function api.list_telemetry_agents(p jsonb) returns jsonb
language sql stable
as $$ select private.telemetry_agents() $$;
comment on function api.list_telemetry_agents is 'GET /telemetry/agents: AgentStatus[].';
grant execute on function api.list_telemetry_events, api.list_telemetry_logs, api.list_telemetry_agents to authenticated;
