-- What telemetry tells, and to whom.
begin;
select no_plan();
-- Anna owns an organization, Vera is a viewer of it, Stan is a stranger.
select tests.user('anna'), tests.member('vera', 'anna', 'viewer'), tests.user('stan');
select tests.user('anna') as anna, tests.org('anna') as org, tests.user('stan') as stan, tests.org('stan') as stans \gset
insert into public.skills (user_id, organization_id, name, prompt_template) values (:'anna', :'org', 'A secret name', 'Tell me what is new.') returning id as skill \gset
insert into public.projects (organization_id, user_id, name) values (:'org', :'anna', 'A secret project') returning id as project \gset
create function pg_temp.run(p_status text, p_code text default null) returns void language sql as $$
  insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, status, error_code, error_message, input, executed_at, started_at, completed_at)
  select u.id, m.organization_id, s.id, 'manual', p_status, p_code, 'A secret text', '{"a": "A secret text"}', now() - interval '2 seconds', now() - interval '2 seconds',
    case when p_status not in ('pending', 'running') then now() - interval '500 milliseconds' end
  from public.skills s join public.users u on u.id = s.user_id join public.memberships m on m.user_id = u.id and m.organization_id = s.organization_id limit 1 $$;
select pg_temp.run('completed'), pg_temp.run('failed', 'API_ERROR');

select tests.act_as('vera');
select results_eq($$ select e ->> 'source', e ->> 'msg' from jsonb_array_elements(api.list_telemetry_events('{}')) e order by 2 $$,
  $$values ('AGENT', 'Run of a skill began'), ('AGENT', 'Run of a skill began'), ('AGENT', 'Run of a skill completed after 1.5 s'), ('AGENT', 'Run of a skill failed (API_ERROR) after 1.5 s')$$, 'what began and how it ended');
select results_eq($$ select e ->> 'level' from jsonb_array_elements(api.list_telemetry_logs('{}')) e order by 1 $$, array['DEBUG', 'DEBUG', 'ERROR', 'INFO'], 'each with a level');
select ok(bool_and(e ->> 'ts' ~ '^\d\d:\d\d:\d\d\.\d{3}$' and substr(e ->> 'timestamp', 12, 12) = e ->> 'ts'), 'the time of day is that of the moment') from jsonb_array_elements(api.list_telemetry_events('{}')) e;
select ok(bool_and(e ->> 'ts' ~ '^\d\d:\d\d:\d\d$'), 'in seconds in the log') from jsonb_array_elements(api.list_telemetry_logs('{}')) e;
select is(jsonb_array_length(api.list_telemetry_events('{"limit": 1}')), 1, 'a limit');
select matches(api.list_telemetry_events('{"limit": 1}') -> 0 ->> 'msg', '(completed|failed)', 'keeps the newest');
select unalike((api.list_telemetry_events('{}') || api.list_telemetry_logs('{}'))::text, '%secret%', 'no line has content');
select is(tests.refusal($$ select api.list_telemetry_logs('{"limit": 0}') $$) ->> 'field', 'limit', 'at least one');
select lives_ok($$ select api.list_telemetry_logs('{"limit": 100000}') $$, 'and at most 500');
select is((select jsonb_agg(a -> 'name') from jsonb_array_elements(api.list_telemetry_agents('{}')) a), '["executions", "ingestion", "enrichments", "summary", "webhooks", "integrations", "registry"]', 'an agent a queue');
select tests.act_as('stan');
select is(api.list_telemetry_events('{}'), '[]', 'a stranger has no events');
select is((select count(*) from jsonb_array_elements(api.list_telemetry_agents('{}')) a where a ->> 'state' <> 'Idle' or (a ->> 'load')::integer <> 0), 0::bigint, 'and agents that idle');
select tests.act_anon();
select throws_ok($$ select api.list_telemetry_agents('{}') $$, '42501', null, 'an anonymous caller has none');
select tests.act_service();
select throws_ok($$ select api.list_telemetry_events('{}') $$, '42501', null, 'nor has the service');

-- States.
create function pg_temp.agent(p_name text) returns text language sql as $$
  select (a ->> 'state') || ' ' || (a ->> 'load') from jsonb_array_elements(api.list_telemetry_agents('{}')) a where a ->> 'name' = p_name $$;
grant execute on all functions in schema pg_temp to public;
select tests.reset();
delete from public.skill_executions;
select tests.act_as('anna');
select is(pg_temp.agent('executions'), 'Idle 0', 'without runs an agent idles');
select tests.reset();
select pg_temp.run('failed');
select tests.act_as('anna');
select is(pg_temp.agent('executions'), 'Error 0', 'after a failure it shows it');
select tests.reset();
select pg_temp.run('running');
select tests.act_as('anna');
select is(pg_temp.agent('executions'), 'Thinking 2', 'a run that waits for its model is thinking; one of fifty slots');
select tests.reset();
update public.skill_executions set has_streamed = true where status = 'running';
insert into private.installation (key, value) values ('worker_slots', '{"executions": 4}') on conflict (key) do update set value = excluded.value;
select tests.act_as('anna');
select is(pg_temp.agent('executions'), 'Working 25', 'a run that writes is working; the operator''s slots count');
select tests.reset();
insert into public.mcp_servers (id, organization_id, name, url, status, lease_token, lease_until) values (gen_random_uuid(), :'org', 'A secret server', 'https://mcp.invalid', 'connecting', gen_random_uuid(), now());
insert into public.webhooks (id, organization_id, name, endpoint_url, secret_end, events) values (gen_random_uuid(), :'org', 'A secret hook', 'https://hooks.invalid', '1234', '{lead.created}') returning id as hook \gset
insert into public.webhook_deliveries (organization_id, webhook_id, event_id, event_type, payload, status, response_status) values (:'org', :'hook', gen_random_uuid(), 'lead.created', '{}', 'failed', 500);
insert into public.enrichment_runs (organization_id, project_id, kind, status, started_at, finished_at) values (:'org', :'project', 'knowledgeGraph', 'cancelled', now(), now());
insert into private.summary_jobs (organization_id, project_id, version, is_requested, operation_id, status) values (:'org', :'project', 1, false, gen_random_uuid(), 'running');
select tests.act_as('anna');
select is(pg_temp.agent('registry'), 'Working 10', 'a server that is being connected');
select is(pg_temp.agent('webhooks'), 'Error 0', 'a delivery that failed');
select is(pg_temp.agent('summary'), 'Thinking 10', 'a summary waits for its model');
select is(pg_temp.agent('enrichments'), 'Idle 0', 'what was cancelled is no error');
select ok(exists (select from jsonb_array_elements(api.list_telemetry_logs('{"limit": 500}')) e where e ->> 'level' = level and e ->> 'agent' = agent and e ->> 'msg' like msg || '%'), msg) from (values
  ('DEBUG', 'registry', 'Connection to an MCP server began'), ('ERROR', 'webhooks', 'Delivery to a webhook failed (500)'), ('WARN', 'enrichments', 'Enrichment was cancelled'), ('DEBUG', 'summary', 'Summary began')) t (level, agent, msg);
select set_eq($$ select distinct e ->> 'source' from jsonb_array_elements(api.list_telemetry_events('{"limit": 500}')) e $$, array['AGENT', 'JOB', 'MCP', 'NETWORK'], 'sources');
select unalike(api.list_telemetry_events('{"limit": 500}')::text, '%secret%', 'still without content');

select * from finish();
rollback;
