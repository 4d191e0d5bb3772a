-- Telemetry (contract 60, section 17.3): what the queues do for the caller's organization, from rows of jobs and runs. Members read it who may
-- not see each other's projects and runs, so no line has a name, a text or an address of a row: only what kind of work began or ended, and how.

-- The latest p_limit rows of each queue, as the moments at which they began and ended.
create or replace function private.telemetry_lines(p_limit integer) returns table (at timestamptz, queue text, source text, level text, msg text)
language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_org constant uuid := private.org_id();
begin
  return query
  with work as (
    (select 'executions' as queue, 'AGENT' as source, 'Run of a skill' as what, e.executed_at as began, e.completed_at as ended, e.status, e.error_code as code
      from public.skill_executions e where e.organization_id = v_org order by e.executed_at desc limit p_limit)
    union all
    (select 'ingestion', 'JOB', 'Ingestion', r.created_at, r.ended_at, case r.outcome when 'open' then 'running' else r.outcome end, r.error_code
      from public.ingestion_runs r where r.organization_id = v_org order by r.created_at desc limit p_limit)
    union all
    (select 'enrichments', 'JOB', 'Enrichment', r.created_at, r.finished_at, r.status, null
      from public.enrichment_runs r where r.organization_id = v_org order by r.created_at desc limit p_limit)
    union all
    (select 'summary', 'JOB', 'Summary', j.created_at, j.finished_at, j.status, null
      from private.summary_jobs j where j.organization_id = v_org order by j.created_at desc limit p_limit)
    union all
    -- A delivery has no moment of its end.
    (select 'webhooks', 'NETWORK', 'Delivery to a webhook', d.created_at, case when d.status <> 'pending' then d.created_at end,
        case d.status when 'success' then 'completed' else d.status end, d.response_status::text
      from public.webhook_deliveries d where d.organization_id = v_org order by d.created_at desc limit p_limit)
    union all
    (select 'registry', 'MCP', 'Connection to an MCP server', s.created_at, case when s.status <> 'connecting' then s.updated_at end,
        case s.status when 'connected' then 'completed' when 'error' then 'failed' else 'running' end, null
      from public.mcp_servers s where s.organization_id = v_org order by s.created_at desc limit p_limit)
    union all
    (select 'integrations', 'SYSTEM', 'Synchronization of an integration', i.last_sync_at, i.last_sync_at, 'completed', null
      from public.integrations i where i.organization_id = v_org and i.last_sync_at is not null order by i.last_sync_at desc limit p_limit)
  ), moments as (
    select w.began as at, w.queue, w.source, 'DEBUG' as level, w.what || ' began' as msg, 1 as step from work w
    union all
    select w.ended, w.queue, w.source, case w.status when 'completed' then 'INFO' when 'failed' then 'ERROR' else 'WARN' end,
      w.what || case w.status when 'completed' then ' completed' when 'failed' then ' failed' else ' was cancelled' end
        || case when w.status = 'failed' and w.code is not null then format(' (%s)', w.code) else '' end
        || case when w.ended > w.began then format(' after %s s', round(extract(epoch from w.ended - w.began)::numeric, 1)) else '' end, 2
    from work w where w.ended is not null
  ), latest as (
    select m.* from moments m order by m.at desc, m.step desc, m.queue limit p_limit
  )
  select l.at, l.queue, l.source, l.level, l.msg from latest l order by l.at, l.step, l.queue;
end
$$;
comment on function private.telemetry_lines is
  'What the queues did for the caller''s organization, the latest last. Authorization: only the caller''s own organization; no line has content of a row.';

-- Worker and slots are those of one worker: the load of an organization is its share of them.
create or replace function private.telemetry_agents() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org constant uuid := private.org_id();
  v_slots constant jsonb := '{"executions": 50, "ingestion": 2, "enrichments": 2, "summary": 10, "webhooks": 20, "integrations": 5, "registry": 10}'::jsonb
    || coalesce(private.installation_value('worker_slots'), '{}');
begin
  return (
    select jsonb_agg(jsonb_build_object('name', a.queue,
        'state', case when a.running > 0 and a.waiting = a.running then 'Thinking' when a.running > 0 then 'Working' when a.last = 'failed' then 'Error' else 'Idle' end,
        'load', least(100, round(100.0 * a.running / greatest(1, (v_slots ->> a.queue)::integer)))) order by a.ord)
    from (
      -- Until the first text comes a run waits for its model.
      select 1 as ord, 'executions' as queue,
        (select count(*) from public.skill_executions e where e.organization_id = v_org and e.status = 'running') as running,
        (select count(*) from public.skill_executions e where e.organization_id = v_org and e.status = 'running' and not e.has_streamed) as waiting,
        (select e.status from public.skill_executions e where e.organization_id = v_org and e.completed_at is not null order by e.executed_at desc limit 1) as last
      union all
      select 2, 'ingestion', (select count(*) from public.ingestion_runs r where r.organization_id = v_org and r.outcome = 'open' and r.lease_owner is not null), 0,
        (select r.outcome from public.ingestion_runs r where r.organization_id = v_org and r.outcome <> 'open' order by r.created_at desc limit 1)
      union all
      select 3, 'enrichments', (select count(*) from public.enrichment_runs r where r.organization_id = v_org and r.status = 'running'), 0,
        (select r.status from public.enrichment_runs r where r.organization_id = v_org and r.finished_at is not null order by r.created_at desc limit 1)
      union all
      select 4, 'summary', j.n, j.n, 'completed'
      from (select count(*) as n from private.summary_jobs x where x.organization_id = v_org and x.status = 'running') j
      union all
      select 5, 'webhooks', (select count(*) from public.webhook_deliveries d where d.organization_id = v_org and d.status = 'pending' and d.lease_until is not null), 0,
        (select d.status from public.webhook_deliveries d where d.organization_id = v_org and d.status <> 'pending' order by d.created_at desc limit 1)
      union all
      select 6, 'integrations', (select count(*) from public.integrations i where i.organization_id = v_org and i.sync_lease_until is not null), 0,
        case when exists (select from public.integrations i where i.organization_id = v_org and i.sync_failures > 0) then 'failed' end
      union all
      select 7, 'registry', (select count(*) from public.mcp_servers s where s.organization_id = v_org and s.lease_until is not null), 0,
        (select case s.status when 'error' then 'failed' end from public.mcp_servers s where s.organization_id = v_org and s.status <> 'connecting'
          order by s.updated_at desc limit 1)) a);
end
$$;
comment on function private.telemetry_agents is
  'AgentStatus[], an agent for each queue. Authorization: only the caller''s own organization.';
grant execute on function private.telemetry_lines, private.telemetry_agents to authenticated;
