-- What the log keeps and forgets, and what the sockets ask of the database.
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

-- Superseded rows go without a mark; series of two rooms do not meet.
select is(private.prune_events(), 0::bigint, 'nothing is old');
select results_eq($$select (data ->> 'n')::int from public.events order by id$$, array[1, 3, 4, 5], 'only the newest of a series is kept, a room');
select is(count(*), 0::bigint, 'which is no loss') from private.event_rooms;

-- Expiry leaves a mark a room, and one for the ingestion socket, which hears only a part of it.
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
select private.enter((select user_id from tests.people where name = 'ann'), (select session_id from tests.people where name = 'ann'), tests.org('ann'), '', 't', '');
select ok(private.open_socket('00000000-0000-4000-8000-000000000001', gen_random_uuid(), null, 2, 10), 'the first socket');
select ok(private.open_socket('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-0000000000cc', null, 2, 10), 'the second, on a server that has not reported yet');
select ok(not private.open_socket('00000000-0000-4000-8000-000000000002', gen_random_uuid(), null, 1, 10), 'too many of one person');
select ok(not private.open_socket('00000000-0000-4000-8000-000000000002', gen_random_uuid(), null, 9, 2), 'too many of one organization');
select private.beat_node('00000000-0000-4000-8000-000000000002', array['00000000-0000-4000-8000-0000000000cc']::uuid[], array[tests.user('ann')],
  array[tests.org('ann')], array[null]::uuid[]);
select ok(not private.open_socket('00000000-0000-4000-8000-000000000001', gen_random_uuid(), null, 2, 10), 'sockets of other servers count');
update private.realtime_nodes set heartbeat_at = now() - interval '91 seconds' where id = '00000000-0000-4000-8000-000000000002';
select ok(private.open_socket('00000000-0000-4000-8000-000000000001', gen_random_uuid(), null, 2, 10), 'but not those of a dead one');
select private.close_sockets(array(select id from private.realtime_sockets where node_id = '00000000-0000-4000-8000-000000000001'));
select is(count(*), 1::bigint, 'closed sockets are forgotten') from private.realtime_sockets;
update private.realtime_nodes set heartbeat_at = now() - interval '11 minutes' where id = '00000000-0000-4000-8000-000000000002';
select private.beat_node('00000000-0000-4000-8000-000000000001', '{}', '{}', '{}', '{}');
select is(count(*), 0::bigint, 'and the dead are buried') from private.realtime_sockets;
select private.leave_node('00000000-0000-4000-8000-000000000001');
select is(count(*), 0::bigint, 'a server that stops leaves') from private.realtime_nodes;
select tests.reset();

-- May they still watch?
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

-- A connection token says who asks, for a project they see.
select tests.act_as('ann');
select is(api.authorize_socket('{}') ->> 'userId', tests.user('ann')::text, 'a token for oneself');
select is(api.authorize_socket('{"body": {"projectId": "00000000-0000-4000-8000-0000000000b1"}}') ->> 'projectId', '00000000-0000-4000-8000-0000000000b1',
  'bound to a project');
select throws_ok($$select api.authorize_socket('{"body": {"projectId": "x"}}')$$, 'PT400', 'The project id is not valid.', 'not a project id');
select throws_ok($$select api.authorize_socket('{"body": {"projectId": "00000000-0000-4000-8000-00000000dead"}}')$$, 'PT404',
  'There is no such project.', 'no such project');

-- Admission to rooms, with what was missed there.
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

select * from finish();
rollback;
