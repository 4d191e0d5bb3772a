-- The event log by actor: which actors read an event, that no actor writes one by hand, and how an event gets its number.
begin;
select no_plan();

select tests.user('ann'), tests.user('stan'), tests.member('max', 'ann', 'member'), tests.member('vera', 'ann', 'viewer'), tests.member('ada', 'ann', 'admin');
insert into public.projects (id, organization_id, user_id, name, privacy) values
  ('00000000-0000-4000-8000-0000000000a1', tests.org('ann'), tests.user('ann'), 'Shared', 'shared'),
  ('00000000-0000-4000-8000-0000000000a2', tests.org('ann'), tests.user('ann'), 'Private', 'private');
select private.sequence_events();
create function pg_temp.seen() returns bigint language sql as $$
  select count(*) from public.events where type like 'test:%'
$$;

-- Events of every audience in both projects, and in rooms of people and organizations.
select private.emit('project:' || p, 'test:' || a, '{}', tests.org('ann'), p::uuid, a, p_users => array[tests.user('vera')])
from unnest(array['00000000-0000-4000-8000-0000000000a1', '00000000-0000-4000-8000-0000000000a2']) p,
  unnest(array['room', 'project', 'activity', 'users', 'none']) a;
select private.emit('org:' || tests.org('ann'), 'test:org', '{}', tests.org('ann'));
select private.emit('org:' || tests.org('ann'), 'test:org-project', '{}', tests.org('ann'), '00000000-0000-4000-8000-0000000000a2', 'project');
select private.emit('user:' || tests.user('max'), 'test:user', '{}', tests.org('ann'));
select is(count(*), 13::bigint, 'events wait in the inbox until they are numbered') from private.event_inbox where type like 'test:%';
select is(pg_temp.seen(), 0::bigint, 'and do not exist for readers before');
select cmp_ok(private.sequence_events(), '>=', 13::bigint, 'the sequencer answers the new head');
select is(private.sequence_events(), null, 'and null when there is nothing to number');
select is(count(*), 0::bigint, 'the inbox is empty then') from private.event_inbox;
select results_eq($$select array_agg(seq order by id) from public.events$$, $$select array_agg(seq order by seq) from public.events$$,
  'numbers follow the order of insertion');
select is(array_agg(distinct organization_id), array[null::uuid], 'what lies in a person''s room belongs to no organization')
  from public.events where room like 'user:%' and type = 'test:user';

-- The owner sees both projects and, being the owner, the whole activity log.
select tests.act_as('ann');
select is(pg_temp.seen(), 3 + 3 + 2::bigint, 'owner: room, project and activity of both projects, and the organization''s');
select is(count(*), 0::bigint, 'owner: not what is for named users only') from public.events where type = 'test:users';
select is(count(*), 0::bigint, 'owner: no removals') from public.events where audience = 'none';
select is(count(*), 0::bigint, 'owner: nothing of another person''s room') from public.events where room like 'user:%' and type like 'test:%';

select tests.act_as('ada');
select is(pg_temp.seen(), 8::bigint, 'administrator: as the owner');

select tests.act_as('max');
select is(pg_temp.seen(), 2 + 1 + 1::bigint, 'member: room and project of the shared project, the organization''s, and the own room');
select is(count(*), 0::bigint, 'member: no activity of others') from public.events where type = 'test:activity';
select is(count(*), 0::bigint, 'member: nothing of a private project, in no room') from public.events where project_id = '00000000-0000-4000-8000-0000000000a2';

select tests.act_as('vera');
select is(count(*), 2::bigint, 'viewer: what names them, even where they do not see the project') from public.events where type = 'test:users';

select tests.act_as('stan');
select is(pg_temp.seen(), 0::bigint, 'stranger: nothing');
select tests.act_as_claims('max');
select is(pg_temp.seen(), 4::bigint, 'member with claims only (PostgREST): the same');
select tests.act_as_claims('stan');
select is(pg_temp.seen(), 0::bigint, 'stranger with claims only: nothing');

select tests.act_anon();
select throws_ok('select * from public.events', '42501', 'permission denied for table events', 'anonymous: no access');

-- An actor reads their own entries of the activity log.
select tests.reset();
select set_config('app.user_id', tests.user('max')::text, true);
select private.emit('context:00000000-0000-4000-8000-0000000000a1', 'test:own', '{}', tests.org('ann'), p_audience => 'activity');
select tests.reset();
select private.sequence_events();
select is(project_id, '00000000-0000-4000-8000-0000000000a1', 'a project''s room names its project') from public.events where type = 'test:own';
select tests.act_as('max');
select is(count(*), 1::bigint, 'member: the own entry') from public.events where type = 'test:own';
select tests.act_as('vera');
select is(count(*), 0::bigint, 'viewer: not that of others') from public.events where type = 'test:own';

-- No actor writes the log by hand.
select tests.act_as('ann');
select throws_ok($$insert into public.events (id, seq, room, type, data, audience, created_at) values (1, 1, 'x', 'x', '{}', 'room', now())$$,
  '42501', 'permission denied for table events', 'owner: no insert');
select throws_ok($$update public.events set type = 'x'$$, '42501', 'permission denied for table events', 'owner: no update');
select throws_ok($$delete from public.events$$, '42501', 'permission denied for table events', 'owner: no delete');
select throws_ok($$select private.emit('org:00000000-0000-4000-8000-0000000000a1', 'x', '{}', null)$$,
  '42501', 'permission denied for function emit', 'owner: no event of their own making');
select throws_ok($$select private.emit_removal('session_revoked', null, null, null, null)$$,
  '42501', 'permission denied for function emit_removal', 'owner: no removal either');
select throws_ok($$select private.publish('org:00000000-0000-4000-8000-0000000000a1', 'x', '{}')$$,
  '42501', 'permission denied for function publish', 'owner: nothing ephemeral either');
select throws_ok('select private.sequence_events()', '42501', 'permission denied for function sequence_events', 'owner: no numbering');
select throws_ok('select * from private.read_events(0, 10)', '42501', 'permission denied for function read_events', 'owner: not the whole log');
select throws_ok('select private.prune_events()', '42501', 'permission denied for function prune_events', 'owner: no pruning');

-- Malformed events are bugs of ours and raise an error.
select tests.reset();
select throws_ok($$select private.emit('nowhere:00000000-0000-4000-8000-0000000000a1', 'x', '{}', null)$$, 'P0001',
  'not an event: room nowhere:00000000-0000-4000-8000-0000000000a1, audience room, data object', 'an unknown kind of room');
select throws_ok($$select private.emit('org:00000000-0000-4000-8000-0000000000a1', 'x', '{}', null, null, 'everybody')$$, 'P0001',
  'not an event: room org:00000000-0000-4000-8000-0000000000a1, audience everybody, data object', 'an unknown audience');
select throws_ok($$select private.publish('ingestion:00000000-0000-4000-8000-0000000000a1', 'x', '{}')$$, 'P0001',
  'not an event: room ingestion:00000000-0000-4000-8000-0000000000a1, type x, data object', 'a room that has no log of its own');
select lives_ok($$select private.publish('org:00000000-0000-4000-8000-0000000000a1', 'x', jsonb_build_object('text', repeat('x', 9000)))$$,
  'what is too large for a notification is not sent and harms nobody');
select throws_ok($$select private.emit_removal('evicted', null, null, null, null)$$, 'P0001', 'unknown kind of removal: evicted', 'an unknown removal');

-- Every statement that takes access away writes a removal, by any role.
select private.sequence_events();
update private.sessions set revoked_at = now() where user_id = tests.user('vera');
delete from public.memberships where user_id = tests.user('max') and organization_id = tests.org('ann');
update public.memberships set role = 'member' where user_id = tests.user('ada') and organization_id = tests.org('ann');
update public.projects set privacy = 'private' where id = '00000000-0000-4000-8000-0000000000a1';
delete from public.projects where id = '00000000-0000-4000-8000-0000000000a2';
select private.sequence_events();
select ok(exists (select from public.events where type = 'removal' and data ->> 'kind' = k), 'a removal of kind ' || k)
from unnest(array['session_revoked', 'membership_ended', 'project_hidden', 'project_deleted']) k;
select is(count(*), 1::bigint, 'a demoted administrator is checked anew') from public.events
  where type = 'removal' and data ->> 'kind' = 'membership_ended' and data ->> 'userId' = tests.user('ada')::text;

-- The deletion itself stays readable for actors who could see the project.
select tests.act_as('ann');
select is(count(*), 1::bigint, 'owner: told of the deletion') from public.events
  where type = 'resource_changed' and entity_id = '00000000-0000-4000-8000-0000000000a2' and data ->> 'operation' = 'deleted' and room like 'org:%';

select * from finish();
rollback;
