-- Notifications by actor: Anna receives them; Boris works in her organization, Stan is a stranger.
begin;
select no_plan();

select tests.user('anna'), tests.member('boris', 'anna', 'admin'), tests.user('stan');
-- The events of a person's room that this transaction has written, oldest first.
create function pg_temp.events(p_name text) returns setof text
language sql security definer as $$
  select i.type || ' ' || i.data::text from private.event_inbox i where i.room = 'user:' || tests.user(p_name) order by i.seq $$;
create function pg_temp.forget() returns void language sql security definer as $$ delete from private.event_inbox $$;
create function pg_temp.list(p jsonb default '{}') returns jsonb language sql as $$ select api.list_notifications(p) $$;
create function pg_temp.titles(p jsonb default '{}') returns text
language sql as $$ select string_agg(n ->> 'title', ', ' order by o) from jsonb_array_elements(api.list_notifications(p) -> 'data') with ordinality v (n, o) $$;
create function pg_temp.is_notified(p_name text, p_title text, p_type text default 'system_update', p_urgent boolean default false, p_dedupe text default null,
  p_at timestamptz default now()) returns uuid
language sql security definer as $$
  select n.id from private.notify_all(array[tests.user(p_name)], p_type, p_title, p_urgent => p_urgent, p_dedupe => p_dedupe, p_at => p_at) n $$;
delete from public.notifications;
delete from private.notification_keys;
create temp table ids (name text primary key, id uuid);
grant all on ids to public;
grant execute on all functions in schema pg_temp to public;

select pg_temp.forget();

-- -------------------------------------------------------------------------------------------------------------------------- notifying
insert into ids select 'first', private.notify(tests.user('anna'), 'task_completion', '  Ready  ', 'All 12 files', '{"n": null, "deep": {"x": [1, null]}}', '/project/1', false,
  'run:1', tests.user('boris'), tests.org('anna'));
select results_eq($$ select pg_temp.events('anna') $$, $$ select 'notification ' || (jsonb_build_object('id', id))::text from ids $$, 'the event carries the id alone');
select is((select data - 'createdAt' from ids, private.deliver_notifications(array[ids.id])),
  (select jsonb_build_object('id', id, 'type', 'task_completion', 'title', 'Ready', 'message', 'All 12 files', 'data', '{"n": null, "deep": {"x": [1, null]}}'::jsonb,
    'link', '/project/1', 'isRead', false, 'isUrgent', false) from ids), 'at delivery it is read whole, nulls of the sender included');
select is((select organization_id from public.notifications n, ids where n.id = ids.id), tests.org('anna'), 'the organization is kept');
select is(private.notify(tests.user('anna'), 'task_completion', 'Ready again', p_dedupe => 'run:1'), null, 'the same key tells nothing twice');
select is(pg_temp.is_notified('boris', 'Ready', p_dedupe => 'run:1') is not null, true, 'to somebody else it is new');
select results_eq($$ select private.notify(tests.user('anna'), 'task_completion', repeat('x ', 300), repeat('y', 3000)) is not null $$, 'values (true)', 'what is too long is cut');
select is((select max(char_length(title)) from public.notifications), 255, 'the title to 255 characters without a blank at its end');
delete from public.notifications where title like 'x %';
select private.notify(tests.user('stan'), 'new_lead', '  ', p_data => jsonb_build_object('x', repeat('x', 9000)), p_link => '//evil.example');
select is((select private.notification_json(n) - array['id', 'createdAt'] from public.notifications n where n.user_id = tests.user('stan')),
  '{"type": "new_lead", "title": "Notification", "isRead": false, "isUrgent": false}', 'what cannot be stored is left out');
delete from public.notifications where user_id = tests.user('stan');

-- ------------------------------------------------------------------------------------------------------------------------- visibility
select tests.act_as('anna');
select is(pg_temp.titles(), 'Ready', 'the recipient sees it');
select is(pg_temp.list() - 'data', '{"total": 1, "page": 1, "pageSize": 50, "hasMore": false, "unreadCount": 1}', 'with its numbers');
select is(api.count_unread_notifications('{}'), '{"unreadCount": 1}', 'the bell counts it');
select throws_ok($$ insert into public.notifications (user_id, type, title) values (tests.user('anna'), 'new_lead', 'x') $$, '42501', null, 'nobody writes one directly');
select throws_ok($$ update public.notifications set title = 'x' $$, '42501', null, 'nobody changes one');
select throws_ok($$ select private.notify(tests.user('anna'), 'new_lead', 'x') $$, '42501', null, 'nobody tells others anything');
select throws_ok($$ select * from private.deliver_notifications(array(select id from ids)) $$, '42501', null, 'payloads are for the server');
select throws_ok($$ select private.unsubscribe_token(tests.user('anna'), 'productUpdates') $$, '42501', null, 'nobody makes tokens');
select tests.act_as_claims('anna');
select is(pg_temp.titles(), 'Ready', 'through claims alone too');
select tests.act_as('boris');
select is(pg_temp.list() ->> 'total', '1', 'a colleague sees only their own, even as administrator');
select throws_ok(format($$ select api.read_notification('{"notificationId": "%s"}') $$, id), 'PT404', 'There is no such notification.', 'and cannot mark it as read') from ids;
select throws_ok(format($$ select api.delete_notification('{"notificationId": "%s"}') $$, id), 'PT404', 'There is no such notification.', 'nor delete it') from ids;
select tests.act_as('stan');
select is(pg_temp.list() ->> 'total', '0', 'a stranger sees nothing');
select is_empty($$ update public.notifications set read_at = now() returning id $$, 'and marks nothing');
select is_empty($$ delete from public.notifications returning id $$, 'and deletes nothing');
select throws_ok($$ select api.read_notification('{"notificationId": "no uuid"}') $$, 'PT404', 'There is no such notification.', 'an id that is none is not found');
select tests.act_anon();
select throws_ok('select * from public.notifications', '42501', null, 'nobody anonymous reads');
select throws_ok('select api.list_notifications(''{}'')', '42501', null, 'or asks');
select tests.act_service();
select throws_ok('select * from public.notifications', '42501', null, 'the service key reads nobody''s notifications');
select tests.reset();

-- ------------------------------------------------------------------------------------------------------------- reading and deleting
select pg_temp.forget();
select tests.act_as('anna');
select is(api.read_notification(jsonb_build_object('notificationId', id)) ->> 'isRead', 'true', 'reading one') from ids;
select is(api.read_notification(jsonb_build_object('notificationId', id)) ->> 'isRead', 'true', 'again is the same') from ids;
select throws_ok($$ update public.notifications set read_at = null $$, 'PT400', 'A notification that was read stays read.', 'unread it never becomes again');
select tests.reset();
select results_eq($$ select pg_temp.events('anna') $$, $$ select 'notification_updated ' || (jsonb_build_object('id', id, 'isRead', true, 'unreadCount', 0))::text from ids $$,
  'one event for two readings');
select pg_temp.forget();
insert into ids select 'n' || i, pg_temp.is_notified('anna', 'n' || i, case when i % 2 = 0 then 'new_lead' else 'system_update' end) from generate_series(1, 5) i;
select pg_temp.forget();
select tests.act_as('anna');
select is(api.read_all_notifications('{}'), '{"success": true, "count": 5, "unreadCount": 0}', 'reading all');
select is(api.read_all_notifications('{}'), '{"success": true, "count": 0, "unreadCount": 0}', 'again there is nothing to read');
select tests.reset();
select matches((select string_agg(e, '; ') from pg_temp.events('anna') e), '^notifications_read \{"count": 5, "readAt": "[^"]+Z", "unreadCount": 0\}$', 'is one event');
select pg_temp.forget();
select tests.act_as('anna');
select is(api.delete_notification(jsonb_build_object('notificationId', id)), '{"success": true}', 'deleting one') from ids where name = 'first';
select throws_ok(format($$ select api.delete_notification('{"notificationId": "%s"}') $$, id), 'PT404', null, 'once') from ids where name = 'first';
select tests.reset();
select results_eq($$ select pg_temp.events('anna') $$, $$ select 'notification_deleted ' || (jsonb_build_object('id', id, 'unreadCount', 0))::text from ids where name = 'first' $$,
  'the owner''s other tabs hear of it');
select is(private.notify(tests.user('anna'), 'task_completion', 'Ready', p_dedupe => 'run:1'), null, 'what was deleted is not told again by a retried job');
select is_empty($$ select * from ids, private.deliver_notifications(array[ids.id]) where ids.name = 'first' $$, 'an event about it is skipped at delivery');

-- A statement of psql is checked and published like a call of the API.
select pg_temp.is_notified('anna', 'by hand'), pg_temp.is_notified('anna', 'by hand too'), pg_temp.forget();
select tests.act_as_claims('anna');
update public.notifications set read_at = '2001-01-01' where title = 'by hand';
select is((select read_at from public.notifications where title = 'by hand'), now(), 'the time of reading is not the reader''s to say');
delete from public.notifications where title like 'by hand%';
select tests.reset();
select is((select string_agg(split_part(e, ' ', 1), ' ') from pg_temp.events('anna') e), 'notification_updated notification_deleted notification_deleted', 'with their events');

-- ------------------------------------------------------------------------------------------------------------------------- the list
update public.notifications set created_at = created_at + substr(title, 2)::integer * interval '10 milliseconds' where title ~ '^n.$';
select tests.act_as('anna');
select is(pg_temp.list('{"type": ["new_lead"]}') ->> 'total', '2', 'by type');
select is(pg_temp.list('{"type": ["new_lead", "system_update"]}') ->> 'total', '5', 'by several types');
select is(pg_temp.list('{"unread": true}') - 'data', '{"total": 0, "page": 1, "pageSize": 50, "hasMore": false, "unreadCount": 0}', 'unread ones');
select is(pg_temp.list('{"unread": false}') ->> 'total', '5', 'read ones');
select is((pg_temp.list('{"page": 2, "pageSize": 2}') - 'data'), '{"total": 5, "page": 2, "pageSize": 2, "hasMore": true, "unreadCount": 0}', 'a page');
select is(pg_temp.list('{"limit": 2, "offset": 4}') - 'data', '{"total": 5, "page": 3, "pageSize": 2, "hasMore": false, "unreadCount": 0}', 'by limit and offset');
select is(pg_temp.titles('{"page": 1, "pageSize": 3}') || ', ' || pg_temp.titles('{"page": 2, "pageSize": 3}'), pg_temp.titles(), 'pages together are the list');
select is(pg_temp.titles(), 'n5, n4, n3, n2, n1', 'newest first');
select is(jsonb_array_length(pg_temp.list(jsonb_build_object('since', (select private.iso(created_at) from public.notifications where title = 'n3'))) -> 'data'), 2, 'since a time, exclusive');
select throws_ok($$ select pg_temp.list('{"pageSize": 101}') $$, 'PT400', 'pageSize must be from 1 to 100.', 'not more than 100');
select throws_ok(format('select pg_temp.list(%L)', jsonb_build_object('since', t)), 'PT400', 'This is not a time.', 'since ' || t)
from unnest(array['0000-01-01T00:00:00Z', 'yesterday is none', '2026-02-30T00:00:00Z']) t;
select throws_ok($$ select pg_temp.list('{"page": 0}') $$, 'PT400', 'page must be at least 1.', 'no page 0');
select tests.reset();

-- -------------------------------------------------------------------------------------------------------------------- notifying oneself
create function pg_temp.tell(p jsonb) returns jsonb
language sql as $$ select api.create_notification(jsonb_build_object('body', '{"type": "task_completion", "title": "T"}'::jsonb || p)) $$;
grant execute on function pg_temp.tell to public;
select tests.act_as('stan');
select is(pg_temp.tell('{"title": " \u00a0Mine\t", "data": {"a": 1}, "isUrgent": true, "id": 1, "isRead": true}') - array['id', 'createdAt'],
  '{"type": "task_completion", "title": "Mine", "data": {"a": 1}, "isRead": false, "isUrgent": true}', 'what the server sets is ignored');
select throws_ok(format('select pg_temp.tell(%L)', p), 'PT400', m, 'refused: ' || left(p::text, 60))
from (values ('{"title": " "}'::jsonb, 'The title must have 1 to 255 characters.'), (jsonb_build_object('title', repeat('x', 256)), 'The title must have 1 to 255 characters.'),
  ('{"type": "spam"}', 'This is not a type of notifications.'), (jsonb_build_object('message', repeat('x', 2001)), 'The message must have at most 2000 characters.'),
  ('{"link": "//evil.example"}', 'The link must be a path that begins with one slash, or an https address.'), ('{"link": "/\\evil.example"}', 'The link must be a path that begins with one slash, or an https address.'),
  ('{"link": "javascript:alert(1)"}', 'The link must be a path that begins with one slash, or an https address.'), ('{"link": "http://a.nl"}', 'The link must be a path that begins with one slash, or an https address.'),
  ('{"data": []}', 'The data must be an object of at most 8 KiB.'), (jsonb_build_object('data', jsonb_build_object('x', repeat('x', 8185))), 'The data must be an object of at most 8 KiB.')) v (p, m);
select is(octet_length(pg_temp.tell(jsonb_build_object('data', jsonb_build_object('x', repeat('x', 8184)))) -> 'data' ->> 'x'), 8184, '8 KiB of data are stored and answered whole');
select is(octet_length((pg_temp.tell(jsonb_build_object('data', jsonb_build_object('x', (select jsonb_agg(1) from generate_series(1, 4092))))) -> 'data')::text), 12283,
  'blanks that Postgres writes do not count');
select is(pg_temp.tell(jsonb_build_object('link', l)) ->> 'link', l, 'a good link: ' || l) from unnest(array['/', '/?tab=skills', '/project/1#a', 'https://kijko.nl/a?b=c']) l;
select tests.reset();
select is(private.json_bytes('{"a, \"b\": ": [1, 2, {"c": "d e"}], "f": null}'), octet_length('{"a, \"b\": ":[1,2,{"c":"d e"}],"f":null}'), 'blanks within texts do count');

-- ------------------------------------------------------------------------------------------------------------- retention and the cap
delete from public.notifications;
insert into public.notifications (user_id, type, title, created_at, due_at, told_at, read_at)
select tests.user('anna'), 'new_lead', t, now() - a, now() - a, now() - a, r from (values ('read, 89 days', interval '89 days', now()), ('read, 91 days', interval '91 days', now()),
  ('unread, 91 days', interval '91 days', null), ('unread, 179 days', interval '179 days', null), ('unread, 181 days', interval '181 days', null)) v (t, a, r);
select pg_temp.forget();
update private.schedules set run_at = now() + interval '1 day' where name not like 'notifications.%';
update private.schedules set run_at = now() where name like 'notifications.%';
select is(private.run_due(100), 2, 'the schedules know notifications');
select is(tests.end_old('notifications'), 2::bigint, 'two are too old');
select results_eq('select title from public.notifications order by created_at desc', $$ values ('read, 89 days'), ('unread, 91 days'), ('unread, 179 days') $$, 'read ones stay 90 days, unread ones 180');
select is_empty($$ select pg_temp.events('anna') $$, 'retention tells nobody');
insert into public.notifications (user_id, type, title, created_at, due_at, read_at)
select tests.user('anna'), 'new_lead', 'm' || i, now() - interval '1 day' + i * interval '1 s', now() - interval '1 day', case when i > 990 then now() end from generate_series(1, 997) i;
select is((select count(*) from public.notifications), 1000::bigint, 'a thousand are kept');
select isnt(pg_temp.is_notified('anna', 'one more'), null, 'the next one arrives');
select is((select count(*) from public.notifications), 1000::bigint, 'there are a thousand still');
select is_empty($$ select from public.notifications where title = 'read, 89 days' $$, 'the oldest read one went');
delete from public.notifications where read_at is not null;
insert into public.notifications (user_id, type, title) select tests.user('anna'), 'new_lead', 'unread' from generate_series(1, 10);
select results_eq($$ select count(*), min(title) filter (where created_at < now() - interval '2 days') from public.notifications $$, $$ values (1000::bigint, null::text) $$,
  'without read ones the oldest unread go');
select is(private.trim_notifications(tests.user('anna')), 0, 'nothing is trimmed that need not be');

-- ------------------------------------------------------------------------------------------------------------------ the account ends
insert into public.events (id, seq, room, type, data, audience, created_at)
values (900001, 900001, 'user:' || tests.user('stan'), 'notification', '{"id": 1}', 'room', now()), (900002, 900002, 'user:' || tests.user('stan'), 'notification', '{"id": 2}', 'room', now());
select pg_temp.is_notified('stan', 'last', p_dedupe => 'last');
delete from public.organizations where id = tests.org('stan');
delete from public.users where id = (select user_id from tests.people where name = 'stan');
select is_empty($$ select 1 from public.notifications where user_id = (select user_id from tests.people where name = 'stan')
  union all select 1 from public.notification_preferences where user_id = (select user_id from tests.people where name = 'stan')
  union all select 1 from private.notification_keys where user_id = (select user_id from tests.people where name = 'stan')
  union all select 1 from private.event_inbox where room = 'user:' || (select user_id from tests.people where name = 'stan') $$, 'everything goes with the account');
select results_eq($$ select id, data from public.events where id > 900000 $$, $$ values (900002::bigint, '{}'::jsonb) $$, 'and the events, but for the place of the newest');

select * from finish();
rollback;
