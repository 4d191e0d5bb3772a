-- Firing (contract 20, 10.2 to 10.4): the server's query before it evaluates the conditions, and the results.
begin;
select no_plan();

select tests.user('anna'), tests.member('mia', 'anna'), tests.user('stan');
insert into public.skills (id, user_id, organization_id, name, prompt_template) values
  ('00000000-0000-4000-8000-000000000001', tests.user('anna'), tests.org('anna'), 'Own', 'Twenty characters of {{text}}');
create temp table ids (name text primary key, id uuid);
grant select on ids to public;
create function pg_temp.id(p_name text) returns uuid language sql stable as $$ select id from ids where name = p_name $$;
create function pg_temp.add(p_name text, p_type text, p_config jsonb, p_conditions jsonb default null, p_owner text default 'anna') returns void language sql as $$
  with r as (
    insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config, conditions)
    values (tests.user(p_owner), tests.org(p_owner), '00000000-0000-4000-8000-000000000001', p_type, p_config, p_conditions) returning id
  ) insert into ids select p_name, id from r $$;
select pg_temp.add('hook', 'webhook', '{}', '{"expression": "a"}'), pg_temp.add('push', 'event', '{"eventName": "push"}'), pg_temp.add('pull', 'event', '{"eventName": "pull"}'),
  pg_temp.add('call', 'api_call', '{"endpoint": "/projects"}'), pg_temp.add('mail', 'email', '{}');
insert into private.reflex_secrets (reflex_id, sealed) values (pg_temp.id('hook'), 'v1.0123abcd.' || repeat('s', 80));

create function pg_temp.open(p_id text) returns jsonb language sql volatile as $$ select private.open_delivery(jsonb_build_object('id', p_id)) $$;
create function pg_temp.take(p_more jsonb default '{}', p_name text default 'hook') returns jsonb language sql volatile as $$
  select private.take_delivery(jsonb_build_object('id', pg_temp.id(p_name), 'payload', '{"text": "x", "a": null}'::jsonb, 'matches', true, 'error', false) || p_more) $$;
create function pg_temp.key(p_name text) returns jsonb language sql immutable as $$ select jsonb_build_object('key', encode(sha256(p_name::bytea), 'hex')) $$;

-- --------------------------------------------------------------------------------------------------------------- the server's query
set local role kijko_server;
select is(pg_temp.open(pg_temp.id('hook')::text), jsonb_build_object('method', 'POST', 'conditions', '{"expression": "a"}'::jsonb,
  'sealed', 'v1.0123abcd.' || repeat('s', 80)), 'method, conditions and sealed secret of a webhook');
select is(pg_temp.open(v.id), null, coalesce(v.id, 'null') || ' is unknown') from (values (gen_random_uuid()::text), ('no-uuid'), (null), ((select id::text from ids where name = 'push'))) v (id);
reset role;
select is((select count(*)::int from private.rate_counters where key like 'reflex:%'), 0, 'whoever asks leaves no counter');
set local role kijko_server;
select is(private.count_delivery(jsonb_build_object('id', pg_temp.id('hook'))), '{}', 'a genuine delivery is counted');
reset role;
update private.rate_counters set hits = 59 where key = 'reflex:' || pg_temp.id('hook');
set local role kijko_server;
select is(private.count_delivery(jsonb_build_object('id', pg_temp.id('hook'))), '{}', 'the 60th of a minute is taken');
select is(private.count_delivery(jsonb_build_object('id', pg_temp.id('hook'))) ? 'limitedUntil', true, 'the 61st is not');
select is(array(select jsonb_object_keys(pg_temp.take(pg_temp.key('late')))), array['limitedUntil'], 'nor does it fire');
reset role;
select is((select count(*)::int from private.reflex_deliveries), 0, 'nor is it remembered');
delete from private.rate_counters;
set local role kijko_server;

-- -------------------------------------------------------------------------------------------------------------- the results
create temp table answers (name text, a jsonb);
grant all on answers to public;
insert into answers select 'first', pg_temp.take(pg_temp.key('a'));
select is((select a - 'executionId' from answers), '{"received": true, "triggered": true}', 'a genuine delivery fires');
select is(pg_temp.take(pg_temp.key('a')), (select a from answers), 'the same key gets the first answer');
select is(pg_temp.take(pg_temp.key('a') || '{"matches": false}'), (select a from answers), 'whatever comes with it');
select isnt(pg_temp.take(pg_temp.key('b')), (select a from answers), 'another key fires again');
select isnt(pg_temp.take() ->> 'executionId', pg_temp.take() ->> 'executionId', 'without a key every delivery fires');
select is(pg_temp.take('{"matches": false}'), '{"received": true, "triggered": false, "reason": "conditions_not_met"}', 'conditions that do not hold');
select is(pg_temp.take(pg_temp.key('c') || '{"matches": false}') -> 'reason', '"conditions_not_met"', 'what did nothing');
select is(pg_temp.take(pg_temp.key('c')) -> 'triggered', 'true', 'is checked again under its key');
select is(pg_temp.take('{"matches": false, "error": true}'), '{"received": true, "triggered": false, "reason": "condition_error"}', 'conditions that cannot be checked');
select throws_ok(format($$ select private.take_delivery('{"id": "%s", "matches": true}') $$, gen_random_uuid()), 'PT404', null, 'gone meanwhile');
reset role;
select results_eq($$ select execution_type, reference_id, user_id, organization_id, input, status from public.skill_executions where id = (select (a ->> 'executionId')::uuid from answers) $$,
  $$ values ('reflex', pg_temp.id('hook'), tests.user('anna'), tests.org('anna'), '{"trigger": "webhook", "payload": {"text": "x", "a": null}}'::jsonb, 'pending') $$,
  'the execution holds trigger and payload');
select results_eq($$ select trigger_count, last_triggered_at is not null from public.reflexes where id = pg_temp.id('hook') $$, 'values (5::bigint, true)', 'only firings count');
select results_eq($$ select count(*)::int, count(*) filter (where metadata ->> 'triggered' = 'true')::int from public.audit_log
    where event_type = 'integration.webhook_triggered' and organization_id = tests.org('anna') and user_id = tests.user('anna') $$, 'values (8, 5)', 'accepted deliveries are in the audit trail, repeated ones are not');

-- Reasons not to fire.
update public.skills set is_active = false;
select is(pg_temp.take(), '{"received": true, "triggered": false, "reason": "skill_inactive"}', 'a skill that is off');
select is(pg_temp.take('{"matches": false}'), '{"received": true, "triggered": false, "reason": "skill_inactive"}', 'comes before the conditions');
update public.skills set is_active = true;
update public.reflexes set is_active = false where id = pg_temp.id('hook');
select is(pg_temp.take(), '{"received": true, "triggered": false, "reason": "inactive"}', 'a reflex that is off');
select is(pg_temp.take('{"matches": false}'), '{"received": true, "triggered": false, "reason": "inactive"}', 'comes before all');
update public.reflexes set is_active = true where id = pg_temp.id('hook');
-- Mia's reflex on Anna's skill, made public for a while; charged to Anna's organization.
update public.skills set is_public = true;
select pg_temp.add('mia', 'webhook', '{}', null, 'mia');
select is(pg_temp.take(p_name => 'mia') -> 'triggered', 'true', 'a public skill fires for others');
update public.memberships set status = 'inactive' where user_id = tests.user('mia') and organization_id = tests.org('anna');
select is(pg_temp.take(p_name => 'mia'), '{"received": true, "triggered": false, "reason": "inactive"}', 'not while the owner is deactivated');
update public.memberships set status = 'active' where user_id = tests.user('mia') and organization_id = tests.org('anna');
select is(pg_temp.take(p_name => 'mia') -> 'triggered', 'true', 'and again afterwards');
update public.skills set is_public = false;
select is(pg_temp.take(p_name => 'mia'), '{"received": true, "triggered": false, "reason": "skill_inactive"}', 'a skill that is no longer visible does not fire');

-- Quota.
update public.subscriptions set overrides = '{"api_calls": 0}' where organization_id = tests.org('anna');
select is(pg_temp.take(), '{"received": true, "triggered": false, "reason": "quota_exceeded"}', 'over quota');
select is((select count(*)::int from public.skill_executions where error_code = 'QUOTA_EXCEEDED' and status = 'failed' and reference_id = pg_temp.id('hook')), 1, 'there is a failed row');
select is((select consecutive_failures from public.reflexes where id = pg_temp.id('hook')), 0, 'which is no failure of the reflex');
update public.subscriptions set overrides = '{"api_calls": -1}' where organization_id = tests.org('anna');

-- A day later the key is free again.
update private.reflex_deliveries set created_at = now() - interval '25 hours';
select isnt(pg_temp.take(pg_temp.key('a')), (select a from answers), 'after 24 hours the same key fires again');
select tests.end_old('reflex_deliveries');
select is((select count(*)::int from private.reflex_deliveries), 1, 'old ones are gone');

-- -------------------------------------------------------------------------------------------------------------------- events
set local role kijko_server;
select is(private.waiting_reflexes(tests.user('anna'), 'event', 'push'), jsonb_build_array(jsonb_build_object('id', pg_temp.id('push'), 'config', '{"eventName": "push"}'::jsonb, 'conditions', null)),
  'who waits for an event');
select is(jsonb_array_length(private.waiting_reflexes(tests.user('anna'), 'email')), 1, 'or for mail');
select is(private.waiting_reflexes(tests.user('stan'), 'event', 'push'), '[]', 'only one''s own');
select is(private.watched_callers(), jsonb_build_array(tests.user('anna')), 'whose calls are watched');
select is(private.fire_reflexes(tests.user('anna'), 'event', array[pg_temp.id('push'), pg_temp.id('pull'), pg_temp.id('mail'), gen_random_uuid()], '{}') -> 'matched', '2', 'those of the type fire');
select is(private.fire_reflexes(tests.user('stan'), 'event', array[pg_temp.id('push')], '{}'), '{"matched": 0, "executionIds": []}', 'nobody fires another''s');
reset role;
select tests.act_as('anna');
select is(private.begin_event('{"triggerType": "event", "eventName": "push"}') - 'resetAt', jsonb_build_object('allowed', true, 'remaining', 59, 'reflexes',
  jsonb_build_array(jsonb_build_object('id', pg_temp.id('push'), 'config', '{"eventName": "push"}'::jsonb, 'conditions', null))), 'an event begins with its candidates');
select is(api.send_event(jsonb_build_object('body', '{"payload": {"b": 1}}'::jsonb, 'reflexIds', jsonb_build_array(pg_temp.id('push')))) -> 'matched', '1', 'and ends with those that matched');
select is(api.list_reflex_executions(jsonb_build_object('reflexId', pg_temp.id('push'))) #> '{executions, 0, input}', '{"trigger": "event", "payload": {"b": 1}}', 'seen among the executions');
select is(api.list_reflex_executions(jsonb_build_object('reflexId', pg_temp.id('push'), 'limit', 1)) ->> 'total', '2', 'all of them counted');
select tests.reset();
update private.rate_counters set hits = 60 where key like 'events:%';
select tests.act_as('anna');
select is(private.begin_event('{"triggerType": "event", "eventName": "push"}') - 'resetAt', '{"allowed": false, "remaining": 0, "reflexes": []}', '60 a minute');
select tests.act_as('stan');
select is(private.begin_event('{"triggerType": "event", "eventName": "push"}') -> 'reflexes', '[]', 'a stranger''s event finds nobody');
select is(api.send_event(jsonb_build_object('body', '{"payload": {}}'::jsonb, 'reflexIds', jsonb_build_array(pg_temp.id('push')))), '{"matched": 0, "executionIds": []}', 'and fires nothing');
select throws_ok(format('select private.%s', f), '42501', null, 'people do not call ' || split_part(f, '(', 1))
from unnest(array['open_delivery(''{}'')', 'count_delivery(''{}'')', 'take_delivery(''{}'')', 'fire_reflexes(null, null, null, null)', 'waiting_reflexes(null, null)', 'watched_callers()', 
  'fire_reflex(null, null)', 'fire_changes(null, null, null)', 'changed_files(null, null, null, 1)', 'may_run_skill(null, null)']) f;
select tests.act_anon();
select throws_ok('select api.send_event(''{}'')', '42501', null, 'nobody sends no events');
select tests.act_service();
select throws_ok('select private.take_delivery(''{}'')', '42501', null, 'nor does the service role deliver');
select tests.reset();

-- -------------------------------------------------------------------------------------------------------------- changed files
create function pg_temp.run(p_project uuid, p_files jsonb) returns uuid language plpgsql as $$
declare
  v_run uuid;
begin
  insert into public.ingestion_runs (organization_id, project_id) values (tests.org('anna'), p_project) returning id into v_run;
  insert into public.run_files (organization_id, run_id, id, position, source, path, language, category, bytes, tokens, optimized_tokens, hash)
  select tests.org('anna'), v_run, gen_random_uuid(), row_number() over (), 'file', f.key, 'go', 'code', 10, 5, 4, sha256(convert_to(f.value, 'UTF8')) from jsonb_each_text(p_files) f;
  perform private.write_completion(v_run, '{}');
  return v_run;
end
$$;
create function pg_temp.batches() returns setof jsonb language sql as $$
  select convert_from(args, 'UTF8')::jsonb - array['runId', 'timestamp'] from jobs.gue_jobs where job_type = 'reflexes.match' order by created_at, job_id $$;
insert into public.projects (id, organization_id, user_id, name) values ('00000000-0000-4000-8000-0000000000aa', tests.org('anna'), tests.user('anna'), 'Watched');
select pg_temp.run('00000000-0000-4000-8000-0000000000aa', '{"a.go": "1", "b.go": "1"}') into temp first_run;
select pg_temp.run('00000000-0000-4000-8000-0000000000aa', '{"a.go": "2", "b.go": "1"}') into temp second_run;
select is_empty('select pg_temp.batches()', 'where nobody waits nothing is compared');
select pg_temp.add('files', 'file_change', '{"paths": ["*.go"]}');
select pg_temp.run('00000000-0000-4000-8000-0000000000aa', '{"a.go": "2", "c.go": "1", "b.go": "2"}') into temp third_run;
select results_eq('select pg_temp.batches()', $$ values (jsonb_build_object('userId', tests.user('anna'), 'projectId', '00000000-0000-4000-8000-0000000000aa', 'changes',
  '[{"event": "modify", "path": "b.go", "size": 10}, {"event": "create", "path": "c.go", "size": 10}]'::jsonb)) $$, 'what differs is given to the owner''s reflexes');
select pg_temp.run('00000000-0000-4000-8000-0000000000aa', '{"c.go": "1"}') into temp fourth_run;
select is((select b -> 'changes' from pg_temp.batches() b offset 1), '[{"event": "delete", "path": "a.go", "size": 10}, {"event": "delete", "path": "b.go", "size": 10}]', 'what is gone too');
select pg_temp.run('00000000-0000-4000-8000-0000000000aa', '{"c.go": "1"}') into temp fifth_run;
select pg_temp.run('00000000-0000-4000-8000-0000000000aa', '{}') into temp sixth_run;
select is((select count(*)::int from pg_temp.batches()), 2, 'nothing changed, or nothing stored: nothing is told');
-- An index that is changed in place.
insert into public.ingestion_runs (organization_id, project_id) values (tests.org('anna'), '00000000-0000-4000-8000-0000000000aa') returning id as seventh \gset
insert into public.content_blobs (organization_id, project_id, hash, content)
select tests.org('anna'), '00000000-0000-4000-8000-0000000000aa', sha256(convert_to(c, 'UTF8')), convert_to(c, 'UTF8') from unnest(array['old', 'longer']) c;
insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, hash, origin)
select i.organization_id, i.project_id, i.id, i.number, o.path, o.operation, sha256(convert_to(o.content, 'UTF8')), 'file'
from public.context_ingestions i
join (values (false, 'a.go', 'added', 'old'), (false, 'b.go', 'added', 'old'), (true, 'a.go', 'removed', null), (true, 'b.go', 'modified', 'longer'), (true, 'd.go', 'added', 'old'))
  o (is_new, path, operation, content) on o.is_new = (i.run_id = :'seventh')
where i.project_id = '00000000-0000-4000-8000-0000000000aa' and (i.run_id = :'seventh' or i.number = 1);
update public.project_indexes set last_run_id = :'seventh' where project_id = '00000000-0000-4000-8000-0000000000aa';
select is((select b -> 'changes' from pg_temp.batches() b offset 2),
  '[{"event": "delete", "path": "a.go", "size": 3}, {"event": "modify", "path": "b.go", "size": 6}, {"event": "create", "path": "d.go", "size": 3}]', 'the operations of its run say what it changed');
set local role kijko_worker;
select is(private.fire_changes(tests.user('anna'), 'x', jsonb_build_array(jsonb_build_object('reflexIds', jsonb_build_array(pg_temp.id('files')), 'payload', '{"n": 1}'::jsonb),
  jsonb_build_object('reflexIds', jsonb_build_array(pg_temp.id('files'), pg_temp.id('push')), 'payload', '{"n": 2}'::jsonb))), 2, 'a batch fires for each of its changes');
select is(private.fire_changes(tests.user('anna'), 'x', jsonb_build_array(jsonb_build_object('reflexIds', jsonb_build_array(pg_temp.id('files')), 'payload', '{"n": 1}'::jsonb))), 0, 'once');
select is(private.fire_changes(tests.user('stan'), 'y', jsonb_build_array(jsonb_build_object('reflexIds', jsonb_build_array(pg_temp.id('files')), 'payload', '{"n": 1}'::jsonb))), 0, 'and only its owner''s');
reset role;

-- A caller with a connection as a request role, past our server, neither gets sealed secrets nor fires a reflex.
select ok(not private.is_stranger(), 'this connection is ours');
set session authorization authenticated;
select ok(private.is_stranger(), 'that of psql as a request role is not');
select set_config('request.jwt.claims', (select jsonb_build_object('sub', user_id, 'sid', session_id, 'org_id', org_id)::text from tests.people where name = 'anna'), true);
select ok(not api.get_reflex(jsonb_build_object('reflexId', pg_temp.id('hook'))) -> 'triggerConfig' ? 'secret', 'no secret there, not even a sealed one');
select throws_ok($$ select private.keep_secret(pg_temp.id('hook'), 'v1.0123abcd.' || repeat('x', 80)) $$, 'PT403', 'Secrets are made by the server.', 'and none of one''s own');
select throws_ok($$ select private.begin_event('{"triggerType": "event"}') $$, 'PT403', 'Events are sent through the API.', 'no events');
select throws_ok($$ select api.send_event('{}') $$, 'PT403', 'Events are sent through the API.', 'past the judgement');
reset session authorization;

select * from finish();
rollback;
