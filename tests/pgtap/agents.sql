-- Agents of a project: who reports, what is told to whom, and how an agent goes offline.
begin;
select no_plan();
-- Anna owns the project, Dev develops in it, Vi views it, Ben is a member of the organization, Stan a stranger.
select tests.user('anna'), tests.member('dev', 'anna'), tests.member('vi', 'anna'), tests.member('ben', 'anna'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000b1'::uuid $$;
insert into public.projects (id, organization_id, user_id, name, privacy) values (pg_temp.pid(), tests.org('anna'), tests.user('anna'), 'Watched', 'private');
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), tests.user(n), n || '@example.nl', r, now() from (values ('dev', 'developer'), ('vi', 'viewer')) v (n, r);
create function pg_temp.node() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000b2'::uuid $$;
insert into private.realtime_nodes (id) values (pg_temp.node());
create function pg_temp.report(p_data jsonb, p_socket text default 'one') returns jsonb language sql as $$
  select private.report_agent(jsonb_build_object('projectId', pg_temp.pid(), 'socket', p_socket, 'nodeId', pg_temp.node(), 'data', p_data)) $$;
create function pg_temp.log(p_data jsonb, p_socket text default 'one') returns jsonb language sql as $$
  select private.log_agent(jsonb_build_object('projectId', pg_temp.pid(), 'socket', p_socket, 'data', p_data)) $$;
create function pg_temp.told() returns jsonb language sql security definer as $$
  select jsonb_agg(i.data - 'timestamp' || jsonb_build_object('room', split_part(i.room, ':', 1), 'audience', i.audience) order by i.seq) from private.event_inbox i where i.type = 'agent:status' $$;

-- ------------------------------------------------------------------------------------------------------------------------ who reports
select tests.act_as('dev');
select is(pg_temp.report('{"name": " Planner ", "state": "Thinking", "load": 40}') - 'userId',
  jsonb_build_object('name', 'Planner', 'state', 'Thinking', 'load', 40, 'projectId', pg_temp.pid()), 'a developer reports an agent');
select is(pg_temp.told(), jsonb_build_array(
    jsonb_build_object('name', 'Planner', 'state', 'Thinking', 'load', 40, 'projectId', pg_temp.pid(), 'userId', tests.user('dev'), 'online', true, 'room', 'project', 'audience', 'project'),
    jsonb_build_object('name', 'Planner', 'state', 'Thinking', 'load', 40, 'projectId', pg_temp.pid(), 'userId', tests.user('dev'), 'online', true, 'room', 'org', 'audience', 'project')),
  'all who see the project are told, in its room and in the organization''s');
select pg_temp.report('{"name": "Planner", "state": "Thinking", "load": 40}', 'two');
select is(jsonb_array_length(pg_temp.told()), 2, 'the same state again is no event, but moves the agent to its new connection');
select is(pg_temp.report('{"name": "Coder", "state": "Idle"}', 'two') ->> 'load', '0', 'load is 0 where it is not said');
select tests.act_as(n) from (values ('vi')) v (n);
select throws_ok($$ select pg_temp.report('{"name": "Planner", "state": "Idle"}') $$, 'PT403', null, 'a viewer reports none');
select tests.act_as('ben');
select throws_ok($$ select pg_temp.report('{"name": "Planner", "state": "Idle"}') $$, 'PT404', 'This project does not exist.', 'nor does a member who does not see the project');
select tests.act_as('stan');
select throws_ok($$ select pg_temp.report('{"name": "Planner", "state": "Idle"}') $$, 'PT404', 'This project does not exist.', 'nor does a stranger');
select tests.act_anon();
select throws_ok($$ select private.report_agent('{}') $$, '42501', null, 'nor an anonymous caller');
select tests.act_service();
select throws_ok($$ select private.report_agent('{}') $$, '42501', null, 'nor the service');

-- --------------------------------------------------------------------------------------------------------------------------- what holds
select tests.act_as('dev');
select is(tests.refusal(format('select pg_temp.report(%L)', d)) ->> 'field', f, coalesce(d, 'null') || ' is refused')
from (values ('{}', 'name'), (null, 'name'), ('[]', 'name'), ('{"name": 3, "state": "Idle"}', 'name'), ('{"name": " ", "state": "Idle"}', 'name'),
  ('{"name": "a\u0007", "state": "Idle"}', 'name'), (jsonb_build_object('name', repeat('x', 61), 'state', 'Idle')::text, 'name'), ('{"name": "a"}', 'state'),
  ('{"name": "a", "state": "Gone"}', 'state'), ('{"name": "a", "state": "Idle", "load": 101}', 'load'), ('{"name": "a", "state": "Idle", "load": -1}', 'load'),
  ('{"name": "a", "state": "Idle", "load": 1.5}', 'load'), ('{"name": "a", "state": "Idle", "load": "much"}', 'load')) v (d, f);
select pg_temp.report(jsonb_build_object('name', 'Agent ' || n, 'state', 'Idle')) from generate_series(3, 50) n;
select throws_ok($$ select pg_temp.report('{"name": "One more", "state": "Idle"}') $$, 'PT409', 'A project has at most 50 agents at a time. Disconnect one first.', 'fifty are enough');
select is(pg_temp.report('{"name": "Coder", "state": "Working", "load": 9}') ->> 'state', 'Working', 'those that are there go on');

-- ------------------------------------------------------------------------------------------------------------------------------- lines
select is(pg_temp.log('{"agent": "Coder", "level": "WARN", "msg": "Slow"}'), '{}', 'an agent logs a line');
select is(tests.refusal(format('select pg_temp.log(%L)', d)) ->> 'field', f, d || ' is refused')
from (values ('{"agent": "Coder", "level": "LOUD", "msg": "x"}', 'level'), ('{"agent": "Coder", "level": "INFO"}', 'msg'), ('{"agent": "Coder", "level": "INFO", "msg": ""}', 'msg'),
  (jsonb_build_object('agent', 'Coder', 'level', 'INFO', 'msg', repeat('x', 1001))::text, 'msg'), ('{"level": "INFO", "msg": "x"}', 'agent'),
  ('{"agent": "Nobody", "level": "INFO", "msg": "x"}', 'agent')) v (d, f);
select throws_ok($$ select pg_temp.log('{"agent": "Coder", "level": "INFO", "msg": "x"}', 'another') $$, 'PT409', null, 'over the connection that reported it alone');
select tests.act_as('vi');
select throws_ok($$ select pg_temp.log('{"agent": "Coder", "level": "INFO", "msg": "x"}') $$, 'PT403', null, 'a viewer logs nothing');

-- --------------------------------------------------------------------------------------------------------------------- who is online
select is(jsonb_array_length(private.list_agents(pg_temp.pid())), 50, 'a viewer sees who is online');
select is(private.list_agents(pg_temp.pid()) -> 48 ->> 'name', 'Coder', 'by name');
select tests.act_as('ben');
select throws_ok($$ select private.list_agents(pg_temp.pid()) $$, 'PT404', null, 'a member who does not see the project does not');
select tests.reset();
delete from private.event_inbox;
select private.end_agents('two');
select is((pg_temp.told() -> 0) - '{userId,projectId}'::text[], '{"name": "Planner", "state": "Idle", "load": 0, "online": false, "room": "project", "audience": "project"}', 'an ended connection takes its agents offline');
select is((select count(*) from private.agents), 49::bigint, 'and no others');
delete from private.realtime_nodes where id = pg_temp.node();
select private.bury_nodes();
select is((select count(*) from private.agents), 0::bigint, 'a dead server process takes all of its agents offline');

select * from finish();
rollback;
