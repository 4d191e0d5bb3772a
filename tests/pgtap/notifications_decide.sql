-- What is decided about a notification (contract 30, 11.5): preferences, quiet hours, urgency, mail. Ada receives notifications.
begin;
select no_plan();

select tests.user('ada'), tests.user('max');
delete from public.notifications;
select private.declare_installation('mail', 'true'), private.declare_installation('app_url', '"https://kijko.test"');
create function pg_temp.prefer(p jsonb) returns jsonb language plpgsql as $$
begin
  perform tests.act_as('ada');
  p := api.update_notification_preferences(jsonb_build_object('body', p));
  perform tests.reset();
  return p;
end $$;
create function pg_temp.notified(p_type text, p_urgent boolean default false, p_mail text default null, p_at timestamptz default now(), p_dedupe text default null)
returns text language sql as $$
  select coalesce((select string_agg(n.id::text, ',') from private.notify_all(array[tests.user('ada')], p_type, 'T', p_urgent => p_urgent, p_mail => p_mail,
    p_at => p_at, p_dedupe => p_dedupe) n), 'nothing') $$;
create function pg_temp.mails() returns setof text language sql as $$
  select concat_ws(' ', m.type, m.category, m.cadence) from private.notification_mails m where m.done_at is null order by m.created_at $$;
create function pg_temp.clear() returns void language sql as $$ delete from private.notification_mails; delete from public.notifications; delete from private.event_inbox $$;

-- ------------------------------------------------------------------------------------------------------------------ preferences
select tests.act_as('ada');
select is(api.get_notification_preferences('{}'), '{"email": {"productUpdates": true, "securityAlerts": true, "billingReminders": true, "weeklyDigest": false},
  "inApp": {"newLeads": true, "taskCompletions": true, "systemUpdates": true, "contextUpdates": false, "teamActivity": true},
  "frequency": {"frequency": "realtime", "digestTime": "09:00", "digestDay": 1},
  "quietHours": {"enabled": false, "startTime": "22:00", "endTime": "07:00", "days": "all"}}', 'everybody begins with the defaults');
select is(api.update_notification_preferences('{"body": {"email": {"securityAlerts": false, "weeklyDigest": true}, "quietHours": {"customDays": [5, 0, 3]},
  "frequency": {"digestTime": "23:59"}}}'), '{"email": {"productUpdates": true, "securityAlerts": true, "billingReminders": true, "weeklyDigest": true},
  "inApp": {"newLeads": true, "taskCompletions": true, "systemUpdates": true, "contextUpdates": false, "teamActivity": true},
  "frequency": {"frequency": "realtime", "digestTime": "23:59", "digestDay": 1},
  "quietHours": {"enabled": false, "startTime": "22:00", "endTime": "07:00", "days": "all", "customDays": [0, 3, 5]}}', 'any part is changed, and security alerts stay on');
select throws_ok('update public.notification_preferences set email_security_alerts = false', '23514', null, 'also for psql');
select throws_ok('insert into public.notification_preferences (user_id) values (tests.user(''ada''))', '42501', null, 'nobody makes a row');
select throws_ok('delete from public.notification_preferences', '42501', null, 'or removes one');
select is((select count(*) from public.notification_preferences), 1::bigint, 'one sees one''s own alone');
select throws_ok('select private.deliver_notification_preferences(array[tests.user(''max'')])', '42501', null, 'through no function either');
update public.notification_preferences set in_app_new_leads = false;
select is(api.get_notification_preferences('{}') #>> '{inApp,newLeads}', 'false', 'a statement of one''s own counts');
select is(api.update_notification_preferences('{}') #>> '{inApp,newLeads}', 'false', 'without a body nothing changes');
select throws_ok(format('select api.update_notification_preferences(%L)', jsonb_build_object('body', b)), 'PT400', m, 'refused: ' || b::text)
from (values ('{"sms": {}}'::jsonb, 'This is not a section of the preferences.'), ('{"email": true}', 'This is not a section of the preferences.'),
  ('{"email": {"spam": true}}', 'This is not a field of the preferences.'), ('{"inApp": {"newLeads": "yes"}}', 'The value is not valid.'), ('{"inApp": {"newLeads": null}}', 'The value is not valid.'),
  ('{"email": {"securityAlerts": "no"}}', 'The value is not valid.'), ('{"frequency": {"frequency": "hourly"}}', 'The value is not valid.'), ('{"frequency": {"digestTime": "24:00"}}', 'The value is not valid.'),
  ('{"frequency": {"digestTime": "9:00"}}', 'The value is not valid.'), ('{"frequency": {"digestDay": 7}}', 'The value is not valid.'), ('{"frequency": {"digestDay": 1.5}}', 'The value is not valid.'),
  ('{"quietHours": {"startTime": "22:60"}}', 'The value is not valid.'), ('{"quietHours": {"days": "never"}}', 'The value is not valid.'),
  ('{"quietHours": {"customDays": [1, 1]}}', 'The days must be distinct numbers from 0 (Sunday) to 6.'), ('{"quietHours": {"customDays": [7]}}', 'The days must be distinct numbers from 0 (Sunday) to 6.'),
  ('{"quietHours": {"customDays": ["1"]}}', 'The days must be distinct numbers from 0 (Sunday) to 6.'), ('{"quietHours": {"customDays": {}}}', 'The days must be distinct numbers from 0 (Sunday) to 6.'),
  ('[]', 'The preferences must be an object.')) v (b, m);
select tests.reset();
select throws_ok(format('update public.notification_preferences set %s', s), '23514', null, 'no table holds ' || s)
from unnest(array['digest_time = ''24:00''', 'quiet_start = ''10:00:30''', 'digest_day = 7', 'quiet_custom_days = ''{3,1}''', 'quiet_custom_days = ''{1,1}''', 'frequency = ''never''',
  'quiet_days = ''none''']) s;
select is((select string_agg(i.type || ' ' || i.data::text, ', ') from private.event_inbox i where i.room = 'user:' || tests.user('ada')),
  format('notification_preferences_updated {"id": "%1$s"}, notification_preferences_updated {"id": "%1$s"}', tests.user('ada')), 'two changes are two events');
select is((select data from private.deliver_notification_preferences(array[tests.user('ada')])) #>> '{inApp,newLeads}', 'false', 'read at delivery');
select is((select summary_due_at > now() from public.notification_preferences where user_id = tests.user('ada')), true, 'a weekly summary is planned');
select pg_temp.prefer('{"email": {"weeklyDigest": false}}');
select is((select summary_due_at from public.notification_preferences where user_id = tests.user('ada')), null, 'and no more');

-- ------------------------------------------------------------------------------------------- which type belongs to which preference
select pg_temp.prefer('{"inApp": {"newLeads": false, "taskCompletions": false, "systemUpdates": false, "contextUpdates": false, "teamActivity": false}}'), pg_temp.clear();
select is(pg_temp.notified(t, u), 'nothing', format('switched off: %s, urgent %s', t, u))
from unnest(array['new_lead', 'task_completion', 'system_update', 'context_update', 'team_activity', 'security_alert']) t, unnest(array[false, true]) u where not (t = 'security_alert' and u);
select isnt(pg_temp.notified('security_alert', true), 'nothing', 'an urgent security alert is stored all the same');
select pg_temp.clear();
create function pg_temp.notified_with(p_field text, p_type text) returns text language plpgsql as $$
begin
  perform pg_temp.prefer(jsonb_build_object('inApp', jsonb_build_object(p_field, true)));
  return pg_temp.notified(p_type);
end $$;
select isnt(pg_temp.notified_with(f, t), 'nothing', f || ' lets through ' || t)
from (values ('newLeads', 'new_lead'), ('taskCompletions', 'task_completion'), ('systemUpdates', 'system_update'), ('systemUpdates', 'security_alert'), ('contextUpdates', 'context_update'),
  ('teamActivity', 'team_activity')) v (f, t);

-- A notification to oneself of a switched-off type leaves no row.
select pg_temp.prefer('{"inApp": {"newLeads": false}, "frequency": {"frequency": "daily"}}'), pg_temp.clear();
select tests.act_as('ada');
select is(api.create_notification('{"body": {"type": "new_lead", "title": "Lead"}}'), null, 'a suppressed type answers nothing');
select is(current_setting('response.status'), '204', 'with status 204');
select tests.reset();
select is_empty('select 1 from public.notifications union all select 1 from private.notification_mails', 'and leaves nothing');

-- --------------------------------------------------------------------------------------------------------------------- quiet hours
select pg_temp.prefer('{"inApp": {"newLeads": true}, "frequency": {"frequency": "realtime"}, "quietHours": {"enabled": true, "startTime": "22:00", "endTime": "07:00", "days": "all"}}'), pg_temp.clear();
update public.users set timezone = 'Europe/Amsterdam' where id = tests.user('ada');
-- 02:00 in Amsterdam, in a future year.
select isnt(pg_temp.notified('new_lead', false, 'productUpdates', '2030-03-06 01:00Z'), 'nothing', 'in quiet hours it is stored');
select results_eq('select due_at, told_at, created_at < due_at from public.notifications', $$ values ('2030-03-06 06:01Z'::timestamptz, null::timestamptz, true) $$, 'for their end, untold');
select is_empty('select 1 from private.event_inbox', 'without an event');
select results_eq('select due_at from private.notification_mails', $$ values ('2030-03-06 06:01Z'::timestamptz) $$, 'and its mail waits too');
select tests.act_as('ada');
select is(api.list_notifications('{}') - 'pageSize', '{"data": [], "total": 0, "page": 1, "hasMore": false, "unreadCount": 0}', 'it is invisible and uncounted');
select is(api.read_all_notifications('{}') ->> 'count', '0', 'reading all leaves it unread');
select is_empty('delete from public.notifications returning 1', 'nobody deletes what is not there');
select tests.reset();
select is_empty('select * from public.notifications n, private.deliver_notifications(array[n.id])', 'not even the server is given it');
select is(private.release_notifications('2030-03-06 06:00:59Z'), 0, 'a minute before its end nothing is released');
select is(private.release_notifications('2030-03-06 06:01Z'), 1, 'at its end it is');
select is((select type from private.event_inbox where room = 'user:' || tests.user('ada')), 'notification', 'with its event');
select is(private.release_notifications('2030-03-06 06:02Z'), 0, 'once');
select pg_temp.clear();
select isnt(pg_temp.notified('security_alert', true, 'securityAlerts', '2030-03-06 01:00Z'), 'nothing', 'what is urgent disturbs');
select results_eq('select due_at, told_at from public.notifications', $$ values ('2030-03-06 01:00Z'::timestamptz, '2030-03-06 01:00Z'::timestamptz) $$, 'at once');
select results_eq('select due_at, cadence from private.notification_mails', $$ values ('2030-03-06 01:00Z'::timestamptz, 'now') $$, 'by mail too');
select pg_temp.clear();
select tests.act_as('ada');
update public.notification_preferences set quiet_start = '00:00', quiet_end = '23:59';
select is(api.create_notification('{"body": {"type": "new_lead", "title": "Lead"}}') ->> 'title', 'Lead', 'what one tells oneself then is answered');
select is(api.list_notifications('{}') ->> 'total', '0', 'and waits');
select tests.reset();
select is((select due_at - created_at > interval '23 hours' from public.notifications), true, 'for a day at most');

select private.notify(tests.user('ada'), 'system_update', 'News', p_mail => 'productUpdates');
select is(pg_temp.prefer('{"quietHours": {"enabled": false}}') #>> '{quietHours,enabled}', 'false', 'who ends quiet hours early');
select results_eq('select max(due_at) from public.notifications union all select max(due_at) from private.notification_mails', 'values (now()), (now())', 'is told now what waits');
select is(private.release_notifications(), 2, 'with its events');

-- ------------------------------------------------------------------------------------------------------------------------ dedupe
select pg_temp.prefer('{"inApp": {"taskCompletions": false}, "quietHours": {"enabled": false}}'), pg_temp.clear();
select is(pg_temp.notified('task_completion', false, 'billingReminders', p_dedupe => 'k'), 'nothing', 'told by mail alone');
select is(pg_temp.notified('task_completion', false, 'billingReminders', p_dedupe => 'k'), 'nothing', 'the same again');
select results_eq('select pg_temp.mails()', $$ values ('task_completion billingReminders now') $$, 'is mailed once');
select pg_temp.prefer('{"inApp": {"taskCompletions": true}}');
select is(pg_temp.notified('task_completion', false, 'billingReminders', p_dedupe => 'k'), 'nothing', 'and is not told later either');
select is((select count(*) from private.notify_all(array[tests.user('ada'), tests.user('max'), tests.user('ada'), null, gen_random_uuid()], 'new_lead', 'T', p_dedupe => 'all')), 2::bigint,
  'each person once, and nobody who does not exist');

-- -------------------------------------------------------------------------------------------------------------------------- mail
create function pg_temp.mailed(p_preferences jsonb, p_type text, p_urgent boolean, p_category text) returns text
language plpgsql as $$
begin
  perform pg_temp.prefer(p_preferences), pg_temp.clear(), pg_temp.notified(p_type, p_urgent, p_category);
  return coalesce((select pg_temp.mails()), 'no mail');
end $$;
select is(pg_temp.mailed(p, t, u, c), m, format('%s %s, urgent %s, %s: %s', t, c, u, p, m))
from (values
  ('{"frequency": {"frequency": "realtime"}}'::jsonb, 'system_update', false, 'productUpdates', 'system_update productUpdates now'),
  ('{"inApp": {"systemUpdates": false}}', 'system_update', false, 'productUpdates', 'system_update productUpdates now'),
  ('{"email": {"productUpdates": false}}', 'system_update', true, 'productUpdates', 'no mail'),
  ('{}', 'system_update', false, 'billingReminders', 'system_update billingReminders now'),
  ('{"email": {"billingReminders": false}}', 'system_update', false, 'billingReminders', 'no mail'),
  ('{"email": {"productUpdates": true, "billingReminders": true}, "frequency": {"frequency": "daily"}}', 'system_update', false, 'billingReminders', 'system_update billingReminders daily'),
  ('{}', 'system_update', true, 'billingReminders', 'system_update billingReminders now'),
  ('{}', 'security_alert', false, 'securityAlerts', 'security_alert securityAlerts daily'),
  ('{}', 'security_alert', true, 'securityAlerts', 'security_alert securityAlerts now'),
  ('{}', 'new_lead', false, null, 'new_lead daily'), ('{}', 'new_lead', true, null, 'new_lead daily'),
  ('{"frequency": {"frequency": "weekly"}}', 'task_completion', false, null, 'task_completion weekly'),
  ('{"frequency": {"frequency": "realtime"}}', 'task_completion', false, null, 'no mail'), ('{}', 'task_completion', true, null, 'no mail')) v (p, t, u, c, m);
select private.declare_installation('mail', 'false');
select is(pg_temp.mailed('{}', 'system_update', false, 'productUpdates'), 'no mail', 'an installation without mail queues none');
select private.declare_installation('mail', 'true');

-- Digests: at the person's own time. Changed preferences and another zone move waiting digests.
create function pg_temp.due(p_local timestamp) returns timestamptz language sql as $$
  update private.notification_mails set due_at = due_at;
  select min(due_at) from private.notification_mails where cadence <> 'now' $$;
select pg_temp.prefer('{"frequency": {"frequency": "daily", "digestTime": "06:30"}}'), pg_temp.clear(), pg_temp.notified('new_lead', p_at => '2030-03-06 12:00Z');
select is((select due_at from private.notification_mails), '2030-03-07 05:30Z'::timestamptz, 'the daily digest is at the person''s time');
select pg_temp.prefer('{"frequency": {"frequency": "weekly", "digestDay": 0}}'), pg_temp.clear(), pg_temp.notified('new_lead', p_at => '2030-03-06 12:00Z');
select is((select due_at from private.notification_mails), '2030-03-10 05:30Z'::timestamptz, 'the weekly one on the person''s day');
select pg_temp.prefer('{"frequency": {"digestTime": "18:15"}}');
select is((select to_char(due_at at time zone 'Europe/Amsterdam', 'D HH24:MI') from private.notification_mails), '1 18:15', 'another time moves what waits');
update public.users set timezone = 'Asia/Tokyo' where id = tests.user('ada');
select is((select to_char(due_at at time zone 'Asia/Tokyo', 'D HH24:MI') from private.notification_mails), '1 18:15', 'and so does another zone');
select pg_temp.prefer('{"email": {"weeklyDigest": true}}');
update public.users set timezone = 'Nowhere/Land' where id = tests.user('ada');
select is((select to_char(summary_due_at at time zone 'UTC', 'D HH24:MI') from public.notification_preferences where user_id = tests.user('ada')), '1 18:15', 'the weekly summary follows too; an unknown zone is UTC');

select * from finish();
rollback;
