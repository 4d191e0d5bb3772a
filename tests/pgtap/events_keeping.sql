-- The events that the log keeps and deletes, and the queries of the sockets.
begin;
select no_plan();
select tests.user('ann'), tests.user('stan');
insert into public.projects (id, organization_id, user_id, name) values
  ('00000000-0000-4000-8000-0000000000b1', tests.org('ann'), tests.user('ann'), 'First'),
  ('00000000-0000-4000-8000-0000000000b2', tests.org('ann'), tests.user('ann'), 'Second');
delete from private.event_inbox;
select is(private.prune_events(), 0::bigint, 'an empty log loses nothing');

select private.emit('project:00000000-0000-4000-8000-0000000000b1', t, jsonb_build_object('n', n), tests.org('ann'),
  p_conflation_key => case t when 'progress_update' then 'progress' end)
from (values (1, 'phase_started'), (2, 'progress_update'), (3, 'progress_update'), (4, 'resource_changed')) v (n, t) order by n;
select private.emit('project:00000000-0000-4000-8000-0000000000b2', 'progress_update', '{"n": 5}', tests.org('ann'), p_conflation_key => 'progress');
select private.sequence_events() as head \gset

-- Superseded rows are deleted without a mark. Series of two rooms are independent.
select is(private.prune_events(), 0::bigint, 'nothing is old');
select results_eq($$select (data ->> 'n')::int from public.events order by id$$, array[1, 3, 4, 5], 'only the newest of a series is kept, a room');
select is(count(*), 0::bigint, 'which is no loss') from private.event_rooms;

-- Expiry leaves a mark in each room, and one for the ingestion socket, which receives only some of the room's events.
update public.events set created_at = now() - interval '25 hours' where room like '%b1';
select is(private.prune_events(), 3::bigint, 'what is older than a day goes');
select is(private.removed_until('project:00000000-0000-4000-8000-0000000000b1'), (:head - 1)::bigint, 'the room lost its last event');
select is(private.removed_until('ingestion:00000000-0000-4000-8000-0000000000b1'), (:head - 2)::bigint, 'the ingestion socket lost an earlier one');
select is(private.removed_until('project:00000000-0000-4000-8000-0000000000b2'), 0::bigint, 'another room lost nothing');
update public.events set created_at = now() - interval '25 hours';
select is(private.prune_events(), 0::bigint, 'the newest row stays, however old');
select is(max(id), :head::bigint, 'because the sequencer counts on from it') from public.events;
select private.emit('project:00000000-0000-4000-8000-0000000000b2', 'error', '{}', tests.org('ann'));
select is(private.sequence_events(), (:head + 1)::bigint, 'numbers go on');
select is(private.prune_events(now() + interval '40 days') >= 0, true, 'a month later the marks of rooms are forgotten');
select is(private.removed_until('project:00000000-0000-4000-8000-00000000ffff') >= (:head - 1)::bigint, true, 'and older cursors are expired everywhere');

-- Sockets, counted per person over all servers.
select private.beat_node('00000000-0000-4000-8000-000000000001', '{}', '{}', '{}', '{}');
create function pg_temp.opens(p_node integer, p_sockets uuid[], p_user_limit integer, p_org_limit integer) returns integer language sql as $$
  select cardinality(private.open_sockets(('00000000-0000-4000-8000-00000000000' || p_node)::uuid, p_sockets, array_fill(tests.user('ann'), array[cardinality(p_sockets)]),
    array_fill(tests.org('ann'), array[cardinality(p_sockets)]), array_fill(null::uuid, array[cardinality(p_sockets)]), p_user_limit, p_org_limit))
$$;
select is(pg_temp.opens(1, array[gen_random_uuid()], 2, 10), 1, 'the first socket');
select is(pg_temp.opens(2, array['00000000-0000-4000-8000-0000000000cc']::uuid[], 2, 10), 1, 'the second, on a server that has not reported yet');
select is(pg_temp.opens(2, array[gen_random_uuid()], 1, 10), 0, 'too many of one person');
select is(pg_temp.opens(2, array[gen_random_uuid()], 9, 2), 0, 'too many of one organization');
select is(pg_temp.opens(2, array[]::uuid[], 9, 9), 0, 'nobody');
select private.beat_node('00000000-0000-4000-8000-000000000002', array['00000000-0000-4000-8000-0000000000cc']::uuid[], array[tests.user('ann')],
  array[tests.org('ann')], array[null]::uuid[]);
select is(pg_temp.opens(1, array[gen_random_uuid()], 2, 10), 0, 'sockets of other servers count');
update private.realtime_nodes set heartbeat_at = now() - interval '91 seconds' where id = '00000000-0000-4000-8000-000000000002';
select is(pg_temp.opens(1, array[gen_random_uuid(), gen_random_uuid(), gen_random_uuid()], 3, 10), 2, 'but not those of a dead one; of three at once two fit');
select private.close_sockets(array(select id from private.realtime_sockets where node_id = '00000000-0000-4000-8000-000000000001'));
select is(count(*), 1::bigint, 'closed sockets are forgotten') from private.realtime_sockets;
update private.realtime_nodes set heartbeat_at = now() - interval '11 minutes' where id = '00000000-0000-4000-8000-000000000002';
select private.beat_node('00000000-0000-4000-8000-000000000001', '{}', '{}', '{}', '{}');
select is(count(*), 0::bigint, 'and the dead are buried') from private.realtime_sockets;
select private.leave_node('00000000-0000-4000-8000-000000000001');
select is(count(*), 0::bigint, 'a server that stops leaves') from private.realtime_nodes;
select tests.reset();

-- May these sockets still watch?
create function pg_temp.may(p_name text, p_project uuid) returns text language sql as $$
  select (private.recheck_sockets(array[user_id], array[session_id], array[org_id], array[p_project]))[1] from tests.people where name = p_name
$$;
select is(pg_temp.may('ann', '00000000-0000-4000-8000-0000000000b1'), 'ok', 'the owner may');
select is(pg_temp.may('ann', null), 'ok', 'anybody with a live session may hold a socket');
select is(pg_temp.may('stan', '00000000-0000-4000-8000-0000000000b1'), 'hidden', 'a stranger may not');
update public.memberships set status = 'inactive' where user_id = tests.user('stan') and role <> 'owner';
update private.sessions set revoked_at = now() where user_id = tests.user('stan');
select is(pg_temp.may('stan', '00000000-0000-4000-8000-0000000000b1'), 'SESSION_REVOKED', 'nor one who signed out');
select is(current_user::text, session_user::text, 'and asking leaves nobody entered as anybody');

-- A connection token names its person, for a project that the person sees.
select tests.act_as('ann');
select is(api.authorize_socket('{}') ->> 'userId', tests.user('ann')::text, 'a token for oneself');
select is(api.authorize_socket('{"body": {"projectId": "00000000-0000-4000-8000-0000000000b1"}}') ->> 'projectId', '00000000-0000-4000-8000-0000000000b1',
  'bound to a project');
select throws_ok($$select api.authorize_socket('{"body": {"projectId": "x"}}')$$, 'PT400', 'The project id is not valid.', 'not a project id');
select throws_ok($$select api.authorize_socket('{"body": {"projectId": "00000000-0000-4000-8000-00000000dead"}}')$$, 'PT404',
  'There is no such project.', 'no such project');

-- Admission to rooms, with the events missed there.
create function pg_temp.rooms(p_after bigint default null) returns table (room text, is_admitted boolean, events bigint) language sql as $$
  select w.room, w.is_admitted, count(w.id)
  from private.watch_rooms(array['project:00000000-0000-4000-8000-0000000000b1', 'ingestion:00000000-0000-4000-8000-0000000000b1',
      'context:00000000-0000-4000-8000-0000000000b2', 'user:' || tests.user('ann'), 'org:' || tests.org('ann')], array_fill(p_after, array[5]),
    array_fill(9223372036854775807, array[5]), 10, '00000000-0000-4000-8000-0000000000b1') w
  group by 1, 2 order by 1
$$;
select is(count(*), 5::bigint, 'owner: admitted to every room of theirs') from pg_temp.rooms() where is_admitted;
select is(sum(events), 0::numeric, 'without a cursor nothing is replayed') from pg_temp.rooms();
select tests.reset();
insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at)
values (tests.user('stan'), tests.org('stan'), now() + interval '1 day', now() + interval '1 day');
update tests.people set session_id = (select id from private.sessions where user_id = tests.user('stan') and revoked_at is null) where name = 'stan';
select tests.act_as('stan');
select is(count(*), 5::bigint, 'stranger: admitted to none of them') from pg_temp.rooms() where not is_admitted;
select is(sum(events), 0::numeric, 'nor told what happened there') from pg_temp.rooms(0);
select throws_ok($$select api.authorize_socket('{"body": {"projectId": "00000000-0000-4000-8000-0000000000b1"}}')$$, 'PT404',
  'There is no such project.', 'nor gets a token for it');

-- Many at once: each person is checked, and a room's log is read once from the smallest cursor that is still valid.
select tests.reset();
select tests.user('gone');
update private.sessions set revoked_at = now() where user_id = tests.user('gone');
select private.emit('project:00000000-0000-4000-8000-0000000000b2', 'error', '{"n": 6}', tests.org('ann')),
  private.emit('project:00000000-0000-4000-8000-0000000000b2', 'removal', '{}', tests.org('ann'), p_audience => 'none');
select private.sequence_events() as head \gset
create temp table came as
select a.*
from (select array_agg(p.user_id order by p.name) as users, array_agg(p.session_id order by p.name) as sessions, array_agg(p.org_id order by p.name) as orgs
  from tests.people p where p.name in ('ann', 'gone', 'stan')) c,
  private.arrive('00000000-0000-4000-8000-000000000009', 2, 10, c.users, c.sessions, c.orgs,
    array['00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-0000000000d2', '00000000-0000-4000-8000-0000000000d3']::uuid[],
    array[1, 2, 3], array[null, null, null]::uuid[],
    array['ingestion:00000000-0000-4000-8000-0000000000b1', 'project:00000000-0000-4000-8000-0000000000b2', 'user:' || tests.user('stan'),
      'org:' || tests.org('ann')],
    array[1, 2, 2, 2, 2, 3, 3, 4, 4, 4], array[1, 1, 1, 2, 3, 3, 1, 1, 2, 3], array[null, :head - 2, 1000000, 0, 0, null, null, null, null, null]::bigint[], 10) a;
select answer as came from came where answer is not null \gset
select is(:'came'::jsonb -> 'refused', '[null, "SESSION_REVOKED", null]', 'one of three has signed out');
select is(:'came'::jsonb -> 'opened' @> '["00000000-0000-4000-8000-0000000000d2"]', false, 'and has no socket');
select is(jsonb_array_length(:'came'::jsonb -> 'opened'), 2, 'the others have one');
select is((select jsonb_agg(distinct p) from jsonb_array_elements(:'came'::jsonb -> 'admitted') p), '[[1, 1], [2, 1], [3, 3], [4, 1]]',
  'everybody is in their own rooms, and the owner in those of the projects');
select is((:'came'::jsonb #>> '{states,0,place}')::integer, 1, 'the ingestion socket is told the state');
select is((:'came'::jsonb ->> 'head')::bigint, (select max(id) from public.events), 'all from one head');
select is(jsonb_agg(jsonb_build_array(place, id) order by id), jsonb_build_array(jsonb_build_array(2, :head - 1)), 'what was missed, and no more')
from came where id is not null;
select is(current_user::text, session_user::text, 'and nobody is left entered');

select * from finish();
rollback;
