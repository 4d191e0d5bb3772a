-- Events of analytics: which are taken, who may send and read, and how long what is kept.
begin;
select no_plan();
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');

create function pg_temp.event(p_changes jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('type', 'ingestion_started', 'timestamp', private.iso(now()), 'persona', 'alex', 'sessionId', 'a-session', 'properties', '{}'::jsonb) || p_changes $$;
create function pg_temp.send(p_events jsonb) returns jsonb language sql as $$ select api.track_events(jsonb_build_object('body', jsonb_build_object('events', p_events))) $$;
create function pg_temp.deep(p_levels integer, p_list boolean default false) returns jsonb language sql as $$
  select ('{"a": ' || repeat(case when p_list then '[' else '{"a": ' end, p_levels - 1) || '1' || repeat(case when p_list then ']' else '}' end, p_levels - 1) || '}')::jsonb $$;
create function pg_temp.stored() returns bigint language sql security definer as $$ select count(*) from private.analytics_events $$;
grant execute on all functions in schema pg_temp to public;

-- Lengths as clients count them: JSON.stringify writes no blanks.
select is(private.compact_length(j::jsonb), length(j)::bigint, j) from unnest(array['{}', '[]', '{"a":1}', '{"a":{"b":[1,2,{"c":null}]},"d":[],"e":{}}', '[[],[1],[1,2]]', '"text"', '7']) j;

-- One bad event at a time.
select tests.act_as('anna');
select is(pg_temp.send(jsonb_build_array(pg_temp.event(), pg_temp.event(v.changes), pg_temp.event('{"sessionId": "another"}'))) #- '{errors,0,message}',
  jsonb_build_object('accepted', 2, 'rejected', 1, 'errors', jsonb_build_array(jsonb_build_object('index', 1, 'field', v.field))), 'refused for its ' || v.field || ': ' || left(v.changes::text, 60))
from (values ('{"type": "page_viewed"}'::jsonb, 'type'), ('{"type": null}', 'type'), ('{"type": 7}', 'type'), ('{"timestamp": "yesterday"}', 'timestamp'), ('{"timestamp": null}', 'timestamp'),
  ('{"timestamp": 1769940005120}', 'timestamp'), ('{"timestamp": "2026-02-30T10:00:00Z"}', 'timestamp'), ('{"persona": "bob"}', 'persona'), ('{"persona": 7}', 'persona'), ('{"sessionId": ""}', 'sessionId'),
  ('{"sessionId": 7}', 'sessionId'), ('{"sessionId": null}', 'sessionId'), (jsonb_build_object('sessionId', repeat('x', 65)), 'sessionId'), ('{"properties": null}', 'properties'),
  ('{"properties": []}', 'properties'), (jsonb_build_object('properties', jsonb_build_object('a', repeat('x', 8192 - 7))), 'properties'), (jsonb_build_object('properties', pg_temp.deep(6)), 'properties'),
  (jsonb_build_object('properties', pg_temp.deep(6, true)), 'properties')) v (changes, field);
select is(pg_temp.send('[null, 7, "x", []]') -> 'errors' -> n -> 'field', '"event"', 'what is no object is no event') from generate_series(0, 3) n;
select is(pg_temp.send(jsonb_build_array(pg_temp.event(v.changes))), '{"accepted": 1, "rejected": 0}', v.name)
from (values ('without a persona', '{"persona": null}'::jsonb), ('with other members', '{"other": 1}'), ('a date alone', '{"timestamp": "2026-02-01"}'), ('the longest session', jsonb_build_object('sessionId', repeat('x', 64))),
  ('the largest properties', jsonb_build_object('properties', jsonb_build_object('a', repeat('x', 8192 - 8)))), ('the deepest', jsonb_build_object('properties', pg_temp.deep(5))),
  ('the deepest lists', jsonb_build_object('properties', pg_temp.deep(5, true))),
  ('8 KB without the blanks that Postgres adds', jsonb_build_object('properties', (select jsonb_object_agg(lpad(n::text, 5, '0'), 1) from generate_series(1, 800) n)))) v (name, changes);
select is(pg_temp.send(jsonb_build_array(pg_temp.event() - 'persona')), '{"accepted": 1, "rejected": 0}', 'absent is null');
select is(tests.refusal(format('select api.track_events(%L)', p)) - 'message', '{"status": 400, "code": "VALIDATION_ERROR", "field": "events"}', left(p, 60))
from unnest(array['{}', '{"body": []}', '{"body": {}}', '{"body": {"events": {}}}', '{"body": {"events": []}}', jsonb_build_object('body', jsonb_build_object('events', (select jsonb_agg(n) from generate_series(1, 101) n)))::text]) p;

-- Each event once, with its sender.
select tests.reset();
delete from private.analytics_events;
select tests.act_as('anna');
select is(pg_temp.send(jsonb_build_array(pg_temp.event(), pg_temp.event(), pg_temp.event('{"properties": {"a": 1}}'))), '{"accepted": 3, "rejected": 0}', 'an event that is sent twice counts as accepted');
select is(pg_temp.send(jsonb_build_array(pg_temp.event(), pg_temp.event('{"timestamp": "2026-01-01T00:00:00Z"}'))), '{"accepted": 2, "rejected": 0}', 'also in another request');
select is(pg_temp.stored(), 3::bigint, 'and is stored once');
select tests.act_anon();
select is(pg_temp.send(jsonb_build_array(pg_temp.event('{"sessionId": "unknown"}'))), '{"accepted": 1, "rejected": 0}', 'an anonymous caller sends');
select tests.reset();
select is((select array_agg(distinct (user_id = tests.user('anna') and organization_id = tests.org('anna'))) from private.analytics_events where session_id = 'a-session'), '{t}', 'a caller is the sender');
select is((select count(*) from private.analytics_events where session_id = 'unknown' and user_id is null and organization_id is null), 1::bigint, 'an anonymous one is not known');
select is((select client_timestamp from private.analytics_events where occurred_at > now() - interval '1 minute' and client_timestamp < now() - interval '7 days'), '2026-01-01T00:00:00Z', 'of an old time the original is kept beside the time of arrival');
select is((select string_agg(attname, ' ' order by attnum) from pg_attribute where attrelid = 'private.analytics_events'::regclass and attnum > 0 and not attisdropped),
  'id organization_id user_id session_id type persona occurred_at client_timestamp properties received_at digest', 'no more is stored than that');
select tests.act_anon();
select is(pg_temp.send(jsonb_build_array(pg_temp.event(jsonb_build_object('sessionId', 'times', 'timestamp', private.iso(now() + age))))) -> 'accepted', '1', 'taken') from unnest(array['-6 days', '4 minutes', '6 minutes']::interval[]) age;
select tests.reset();
select is((select count(*) from private.analytics_events where session_id = 'times' and occurred_at = client_timestamp), 2::bigint, 'a plausible time counts, one that is 6 minutes ahead does not');

-- Who sends and reads.
create role tests_gateway noinherit;
grant anon, authenticated to tests_gateway;
set session authorization tests_gateway;
set role anon;
select is(tests.refusal(format('select pg_temp.send(%L)', jsonb_build_array(pg_temp.event()))) ->> 'code', 'FORBIDDEN', 'not past our server, which limits the number');
reset session authorization;
select tests.reset();
select tests.act_as('anna');
select throws_ok('select * from private.analytics_events', '42501', null, 'the table is read by no caller');
select tests.act_service();
select throws_ok('select * from private.analytics_events', '42501', null, 'nor by the service');
select throws_ok($$ select api.track_events('{}') $$, '42501', null, 'the service sends none');
select tests.act_as('ben');
select is(tests.refusal($$ select api.get_analytics_summary('{}') $$) - 'message', '{"status": 403, "code": "FORBIDDEN", "details": {"required": ["owner", "admin"]}}', 'a member sees no numbers');
select tests.act_anon();
select throws_ok($$ select api.get_analytics_summary('{}') $$, '42501', null, 'an anonymous caller neither');

-- The numbers.
select tests.reset();
delete from private.analytics_events;
select tests.act_as('anna');
select pg_temp.send(jsonb_build_array(pg_temp.event('{"type": "project_creation_started", "sessionId": "1"}'), pg_temp.event('{"sessionId": "1"}'), pg_temp.event('{"type": "ingestion_completed", "sessionId": "1"}'),
  pg_temp.event('{"type": "project_creation_started", "sessionId": "2", "persona": "maya"}'), pg_temp.event('{"sessionId": "2", "persona": null}'),
  pg_temp.event('{"type": "project_creation_started", "sessionId": "3", "persona": null}'), pg_temp.event('{"type": "ingestion_completed", "sessionId": "4"}'))) is not null;
select is(api.get_analytics_summary('{}') - 'from' - 'to' - 'events', '{"total": 7, "funnel": {"started": 3, "ingestionStarted": 2, "completed": 1, "completedPercent": 33.3}, "personas": [
  {"persona": "alex", "events": 4, "started": 1, "ingestionStarted": 1, "completed": 1, "completedPercent": 100.0}, {"persona": "maya", "events": 1, "started": 1, "ingestionStarted": 1, "completed": 0, "completedPercent": 0.0},
  {"persona": "sam", "events": 0, "started": 0, "ingestionStarted": 0, "completed": 0, "completedPercent": 0}, {"persona": "unknown", "events": 2, "started": 1, "ingestionStarted": 0, "completed": 0, "completedPercent": 0.0}]}',
  'sessions go from the beginning of a project to its completed ingestion');
select is(jsonb_path_query_array(api.get_analytics_summary('{}'), '$.events[*].count'), '[3, 0, 2, 0, 2, 0, 0, 0, 0, 0]', 'events by type, in the order of the contract');
select is(api.get_analytics_summary('{"to": "2026-01-01"}') -> 'total', '0', 'of a time');
select is(api.get_analytics_summary('{"from": "2026-01-01", "to": "2026-01-31"}') - 'total' - 'events' - 'funnel' - 'personas', '{"from": "2026-01-01T00:00:00.000Z", "to": "2026-02-01T00:00:00.000Z"}', 'a date is a whole day');
select is(tests.refusal(format('select api.get_analytics_summary(%L)', p)) ->> 'field', f, p) from (values ('{"from": "x"}', 'from'), ('{"to": "x"}', 'to'), ('{"from": "2026-02-02", "to": "2026-02-01"}', 'from')) v (p, f);
select tests.act_as('stan');
select is(api.get_analytics_summary('{}') -> 'total', '0', 'another organization has its own');

-- Retention and erasure.
select tests.act_as('anna');
select pg_temp.send(jsonb_build_array(pg_temp.event('{"sessionId": "old", "properties": {"project_id": "x", "phase": "parsing"}}'))) is not null;
select tests.reset();
select is(tests.end_old('analytics_events', now() + interval '29 days'), 0::bigint, 'nothing is to be done before 30 days');
select is((select count(*) from private.analytics_events where session_id is null), 0::bigint, 'and nothing is');
select is(tests.end_old('analytics_events', now() + interval '31 days', 3), 3::bigint, 'it is done in parts');
select tests.end_old('analytics_events', now() + interval '31 days');
select is((select count(*) from private.analytics_events where num_nonnulls(user_id, organization_id, session_id, digest) > 0), 0::bigint, 'after 30 days events have no person, organization or session');
select is((select array_agg(distinct properties::text) from private.analytics_events where properties <> '{}'), '{"{\"phase\": \"parsing\"}"}', 'nor the project that leads back to them');
select is((select count(*) from private.analytics_events), 8::bigint, 'and are all there');
select is(tests.end_old('analytics_events', now() + interval '12 months'), 0::bigint, 'for a year and more');
select is((select count(*) from private.analytics_events), 8::bigint, 'they are kept');
select tests.end_old('analytics_events', now() + interval '14 months');
select is((select count(*) from private.analytics_events), 0::bigint, 'after 13 months they go');
select tests.act_as('stan');
select pg_temp.send(jsonb_build_array(pg_temp.event())) is not null;
select tests.reset();
delete from public.organizations where id = tests.org('stan');
select is((select count(*) from private.analytics_events where num_nonnulls(user_id, organization_id, session_id, digest) = 0), 1::bigint, 'what is left of an organization''s events is no one''s');
select tests.act_as('ben');
select pg_temp.send(jsonb_build_array(pg_temp.event())) is not null;
select tests.reset();
delete from public.memberships where user_id = tests.user('ben');
delete from public.users where id = tests.user('ben');
select is((select count(*) from private.analytics_events where num_nonnulls(user_id, organization_id, session_id, digest) = 0), 2::bigint, 'of a person''s too');

select * from finish();
rollback;
