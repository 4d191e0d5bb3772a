-- Notifications by mail: single ones, digests, the weekly summary, and the links that stop them. Ada gets mail.
begin;
select no_plan();

select tests.user('ada'), tests.user('bob');
delete from public.notifications; delete from private.notification_mails;
select private.declare_installation('mail', 'true'), private.declare_installation('app_url', '"https://kijko.test/"');
create function pg_temp.prefer(p_sets text) returns void language plpgsql as $$
begin execute 'update public.notification_preferences set ' || p_sets || ' where user_id = tests.user(''ada'')'; end $$;
create function pg_temp.notified(p_title text, p_mail text default 'productUpdates', p_message text default null, p_link text default null, p_at timestamptz default now(), p_urgent boolean default false)
returns uuid language sql as $$
  select n.id from private.notify_all(array[tests.user('ada')], 'system_update', p_title, p_message, null, p_link, p_urgent, p_mail => p_mail, p_at => p_at) n $$;
create function pg_temp.outbox() returns setof text language sql as $$
  select format('%s to %s: %s', m.kind, m.to_address, m.subject) from private.mails m order by m.created_at, m.subject $$;
create function pg_temp.clear() returns void language sql as $$ delete from private.notification_mails; delete from private.mails; delete from public.notifications $$;

-- ---------------------------------------------------------------------------------------------------------------------- a single mail
select pg_temp.notified(E'Mind <b>this</b> & "that"\nand more', 'productUpdates', E'First line\nsecond <i>line</i>', '/project/1?a="b"&c');
select is_empty('select pg_temp.outbox()', 'the business itself writes no mail');
update private.schedules set run_at = now() + interval '1 day' where name <> 'notifications.mail';
update private.schedules set run_at = now() where name = 'notifications.mail';
select lives_ok('select private.run_due(100)', 'the schedule writes it');
select results_eq('select pg_temp.outbox()', $$ values ('notification to ada@example.nl: Mind <b>this</b> & "that" and more') $$, 'its subject is one line');
select is((select regexp_replace(body_text, 'token=\S+', 'token=T') from private.mails), E'Hello Ada,\n\nMind <b>this</b> & "that" and more\nFirst line\nsecond <i>line</i>\nhttps://kijko.test/project/1?a="b"&c\n\n-- \nYou get this mail because of your notification settings at Kijko.\nStop such mails: https://kijko.test/unsubscribe?token=T\n', 'the text');
select is((select regexp_replace(body_html, 'token=[^"]+', 'token=T') from private.mails), '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Mind &lt;b&gt;this&lt;/b&gt; &amp; &quot;that&quot; and more</title></head><body><p>Hello Ada,</p><p><a href="https://kijko.test/project/1?a=&quot;b&quot;&amp;c"><strong>Mind &lt;b&gt;this&lt;/b&gt; &amp; &quot;that&quot; and more</strong></a><br>First line<br>second &lt;i&gt;line&lt;/i&gt;</p><hr><p><small>You get this mail because of your notification settings at Kijko. <a href="https://kijko.test/unsubscribe?token=T">Stop such mails</a>.</small></p></body></html>',
  'the same in HTML, everything escaped');
select matches((select unsubscribe_url from private.mails), '^https://kijko\.test/api/v1/notifications/unsubscribe\?token=[A-Za-z0-9_-]{71}$', 'the address that one POST unsubscribes at');
select results_eq('select m.done_at is not null, m.mail_id = o.id from private.notification_mails m, private.mails o', 'values (true, true)', 'the row knows its message');
select is(private.queue_notification_mails(), 0, 'it is written once');
select results_eq($$ select job_type, convert_from(args, 'UTF8')::jsonb ->> 'mailId' from jobs.gue_jobs where job_type = 'mail.send' $$, $$ select 'mail.send', id::text from private.mails $$, 'with its job');
select results_eq('select t.unsubscribe_url from private.mails o, private.take_mail(o.id) t', 'select unsubscribe_url from private.mails', 'the worker gets the address');

select pg_temp.clear(), pg_temp.notified('Alert', 'securityAlerts'), private.queue_notification_mails();
select results_eq($$ select unsubscribe_url, position('/unsubscribe' in body_text || body_html), body_text like '%concerns the security of your account%' from private.mails $$, $$ values (null::text, 0, true) $$,
  'an alert has no link that stops it');
select pg_temp.clear(), pg_temp.notified('Later', p_at => now() + interval '1 hour');
select is(private.queue_notification_mails(), 0, 'what is not due is not written');
select is(private.queue_notification_mails(now() + interval '1 hour'), 1, 'and then it is');

-- ---------------------------------------------------------------------------------------------------- changed preferences, failed mails
select pg_temp.clear(), pg_temp.notified('Off'), pg_temp.prefer('email_product_updates = false');
select is(private.queue_notification_mails(), 0, 'what was switched off meanwhile is dropped');
select results_eq('select done_at is not null, mail_id from private.notification_mails', 'values (true, null::uuid)', 'for good');
select pg_temp.prefer('email_product_updates = true'), pg_temp.clear(), pg_temp.notified('Strange address'), private.notify(tests.user('bob'), 'system_update', 'For Bob', p_mail => 'productUpdates');
update public.users set email = 'a,b@example.nl' where id = tests.user('ada');
select is(private.queue_notification_mails(), 1, 'an address that no mail can go to stops nobody else''s mail');
select results_eq('select pg_temp.outbox()', $$ values ('notification to bob@example.nl: For Bob') $$, 'which is written');
update public.users set email = 'ada@example.nl' where id = tests.user('ada');
select pg_temp.clear(), pg_temp.notified('Waits');
select private.declare_installation('mail', 'false');
select is(private.queue_notification_mails(), 0, 'while there is no mail server it waits');
select private.declare_installation('mail', 'true'), private.declare_installation('app_url', '""');
select is(private.queue_notification_mails(), 1, 'and goes out when there is one');
select results_eq($$ select unsubscribe_url, body_text from private.mails $$, $$ values (null::text, E'Hello Ada,\n\nWaits\n\n-- \nYou get this mail because of your notification settings at Kijko.\n') $$,
  'without an address of this installation there are no links');
select private.declare_installation('app_url', '"https://kijko.test/"');

-- ------------------------------------------------------------------------------------------------------------------------------ digests
select pg_temp.clear(), pg_temp.prefer('frequency = ''daily''');
select pg_temp.notified('One', null, repeat('m', 400)), pg_temp.notified('Two <b>', 'billingReminders'), pg_temp.notified('Three', 'productUpdates', null, 'https://kijko.nl/three'), pg_temp.notified('Now', 'productUpdates', p_urgent => true);
select is(private.queue_notification_mails(), 1, 'only the urgent one goes out at once');
select is(private.queue_notification_mails(now() + interval '24 hours'), 1, 'the others together');
select results_eq('select pg_temp.outbox()', $$ values ('notification to ada@example.nl: Now'), ('digest to ada@example.nl: Your daily digest: 3 notifications') $$, 'as one mail a digest');
select matches((select body_text from private.mails where kind = 'digest'), E'^Hello Ada,\n\nOne\n(m{100}){3}…\n\nTwo <b>\n\nThree\nhttps://kijko.nl/three\n\n-- \n', 'in their order, long messages cut');
select matches((select body_html from private.mails where kind = 'digest'), '<strong>Two &lt;b&gt;</strong>', 'escaped');
select is((select unsubscribe_url from private.mails where kind = 'digest'), null, 'no link can stop a mixture');
select is(private.queue_notification_mails(now() + interval '25 hours'), 0, 'once');
select pg_temp.clear(), pg_temp.prefer('frequency = ''weekly'''), pg_temp.notified('Only one'), pg_temp.notified('Another');
select is(private.queue_notification_mails(now() + interval '8 days', 1), 1, 'a digest is whole, also when many wait');
select results_eq('select subject, unsubscribe_url is not null from private.mails', $$ values ('Your weekly digest: 2 notifications', true) $$, 'of one kind alone there is a link');
select pg_temp.clear();
insert into private.notification_mails (user_id, type, cadence, title, message, link, due_at)
select tests.user('ada'), 'new_lead', 'daily', repeat('<', 255), repeat('&', 2000), '/' || repeat('x', 2000), now() from generate_series(1, 300);
select is(private.queue_notification_mails(), 1, 'three hundred large ones fit');
select matches((select body_text from private.mails), E'\n\nAnd 2\\d\\d more in your notifications\\.\n\n', 'what does not is counted');
select is((select count(*) from private.notification_mails where done_at is null), 0::bigint, 'and done');

-- -------------------------------------------------------------------------------------------------------------------- the weekly summary
select pg_temp.clear(), pg_temp.prefer('frequency = ''realtime'', digest_day = 1, digest_time = ''08:00'', email_weekly_digest = true');
select pg_temp.notified('n1', null), pg_temp.notified('n2', null);
update public.notifications set read_at = now() where title = 'n1';
insert into public.skills (id, user_id, name, prompt_template) values ('00000000-0000-4000-8000-00000000000a', tests.user('ada'), 'Report', 'Write a report about {topic} now');
insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, status, executed_at, completed_at)
select tests.user('ada'), tests.org('ada'), '00000000-0000-4000-8000-00000000000a', 'manual', s, now() - a, now() - a
from (values ('completed', interval '1 day'), ('completed', interval '2 days'), ('failed', interval '1 day'), ('completed', interval '8 days')) v (s, a);
insert into public.projects (id, organization_id, user_id, name) values ('00000000-0000-4000-8000-000000000001', tests.org('ada'), tests.user('ada'), 'Billing');
insert into public.ingestion_runs (organization_id, project_id, outcome, phase, percent, completed_at, ended_at)
values (tests.org('ada'), '00000000-0000-4000-8000-000000000001', 'completed', 'indexing', 100, now() - interval '1 hour', now() - interval '1 hour');
select is(private.queue_weekly_summaries(), 0, 'before its time there is no summary');
select is(private.queue_notification_mails((select summary_due_at from public.notification_preferences where user_id = tests.user('ada'))), 1, 'at its time it is written with the others');
select results_eq('select kind, subject, unsubscribe_url is not null from private.mails', $$ values ('weekly_summary', 'Your week in Kijko', true) $$, 'separate from digests, with its link');
update public.notification_preferences set summary_due_at = now() where user_id = tests.user('ada');
delete from private.mails;
select is(private.queue_weekly_summaries(clock_timestamp()), 1, 'the week in numbers');
select matches((select body_text from private.mails), E'^Hello Ada,\n\nThe last seven days:\n\nIngestions completed: 1\nIngestions failed: 0\nSkill runs completed: 2\nSkill runs failed: 1\nNotifications: 2\nof which unread: 1\n\n-- \n',
  'of this week and this person');
select is((select body_html from private.mails) like '%<td align="right">2</td>%', true, 'also in HTML');
select is((select to_char(summary_due_at at time zone 'UTC', 'D HH24:MI') from public.notification_preferences where user_id = tests.user('ada')), '2 08:00', 'the next one is planned');
select is(private.queue_weekly_summaries(), 0, 'one a week');

-- ------------------------------------------------------------------------------------------------------------------------- unsubscribing
select is(encode(private.hmac_sha256(decode(repeat('0b', 20), 'hex'), 'Hi There'), 'hex'), 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7', 'RFC 4231, case 1');
select is(encode(private.hmac_sha256('Jefe', 'what do ya want for nothing?'), 'hex'), '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843', 'case 2');
select is(encode(private.hmac_sha256(decode(repeat('aa', 131), 'hex'), 'Test Using Larger Than Block-Size Key - Hash Key First'), 'hex'), '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54', 'case 6: a long key');
create temp table tokens as select c as category, private.unsubscribe_token(tests.user('ada'), c) as token from unnest(private.mail_categories()) c;
grant select on tokens to public;
select is((select count(*) from tokens where token ~ '^[A-Za-z0-9_-]{71}$'), 4::bigint, 'tokens fit into an address');
create function pg_temp.stops(p_token text) returns jsonb language sql as $$ select api.unsubscribe_mail(jsonb_build_object('body', jsonb_build_object('token', p_token))) $$;
grant execute on function pg_temp.stops to public;
select tests.act_anon();
select is(pg_temp.stops(token), jsonb_build_object('success', true, 'category', category), 'without login: ' || category) from tokens where category <> 'securityAlerts';
select is(api.unsubscribe_mail(jsonb_build_object('token', token)), jsonb_build_object('success', true, 'category', category), 'by one click, again: ' || category) from tokens where category = 'weeklyDigest';
select throws_ok(format('select pg_temp.stops(%L)', token), 'PT409', 'Mails about the security of your account cannot be switched off.', 'not alerts') from tokens where category = 'securityAlerts';
select throws_ok(format('select pg_temp.stops(%L)', t), 'PT400', 'This link is not valid or too old. You can change what we send in your notification settings.', 'not a token: ' || coalesce(left(t, 20), 'none'))
from (select overlay(token placing translate(substr(token, n, 1), 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-',
      'BCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-A') from n) as t
    from tokens, unnest(array[1, 23, 70]) n -- another letter at a place where all of its bits count
  union all values ('x'), (''), (null), (repeat('A', 71))) v (t);
select tests.reset();
select results_eq($$ select email_product_updates, email_billing_reminders, email_weekly_digest, email_security_alerts from public.notification_preferences where user_id = tests.user('ada') $$,
  'values (false, false, false, true)', 'each switched its own off');
select throws_ok(format('select private.unsubscribe(%L, now() + interval ''30 days 1 second'')', token), 'PT400', null, 'after 30 days it is too old') from tokens where category = 'weeklyDigest';
select is(private.unsubscribe(token, now() + interval '29 days'), category, 'not before') from tokens where category = 'weeklyDigest';
select is(private.unsubscribe(private.unsubscribe_token(gen_random_uuid(), 'weeklyDigest')), 'weeklyDigest', 'nobody is told that an account is gone');

-- ------------------------------------------------------------------------------------------------------------------------- announcements
select tests.member('bob', 'ada'), tests.user('root');
update public.users set is_platform_admin = true where id = tests.user('root');
update public.notification_preferences set email_product_updates = true;
select pg_temp.clear();
create function pg_temp.announce(p jsonb) returns jsonb language sql as $$
  select api.create_announcement(jsonb_build_object('body', '{"title": "Maintenance", "message": "On Sunday."}'::jsonb || p)) $$;
grant execute on function pg_temp.announce to public;
select tests.act_as('ada');
select throws_ok('select pg_temp.announce(''{}'')', 'PT403', 'Only the staff of this platform may do this.', 'the owner of an organization announces nothing');
select tests.act_anon();
select throws_ok('select pg_temp.announce(''{}'')', '42501', null, 'nor does nobody');
select tests.act_as('root');
select throws_ok(format('select pg_temp.announce(%L)', p), 'PT400', m, 'refused: ' || p::text)
from (values ('{"title": " "}'::jsonb, 'The title must have 1 to 255 characters.'), ('{"message": ""}', 'The message must have 1 to 2000 characters.'), ('{"level": "fatal"}', 'The level must be info, success, warning or error.'),
  ('{"link": "//x"}', 'The link must be a path that begins with one slash, or an https address.'), ('{"organizationId": "00000000-0000-4000-8000-000000000009"}', 'There is no such organization.')) v (p, m);
select is(pg_temp.announce(jsonb_build_object('organizationId', tests.org('ada'), 'level', 'error', 'link', '/')), '{"recipients": 2}', 'an organization');
select tests.reset();
select results_eq($$ select p.name, n.type, n.title, n.message, n.link, n.is_urgent, n.data ->> 'level' from public.notifications n join tests.people p using (user_id) order by 1 $$,
  $$ values ('ada', 'system_update', 'Maintenance', 'On Sunday.', '/', true, 'error'), ('bob', 'system_update', 'Maintenance', 'On Sunday.', '/', true, 'error') $$, 'an error is urgent');
select results_eq('select distinct category from private.notification_mails', $$ values ('productUpdates') $$, 'mailed as a product update');
select pg_temp.clear();
select tests.act_as('root');
select is((pg_temp.announce('{"level": "warning"}') ->> 'recipients')::int, tests.peek($$ select count(distinct user_id) - 1 from public.memberships where status = 'active' $$)::int, 'everybody, but for the one who announces');
select tests.reset();
select results_eq($$ select count(*), bool_or(n.user_id = tests.user('root')), bool_or(is_urgent) from public.notifications n $$,
  $$ select count(distinct user_id) - 1, false, false from public.memberships where status = 'active' $$, 'once a person, whatever number of organizations');
-- Many recipients: by the job, in batches, however often a batch is repeated.
select pg_temp.clear();
insert into public.users (email) select format('m%s@many.nl', i) from generate_series(1, 600) i;
insert into public.memberships (organization_id, user_id, role) select tests.org('bob'), u.id, 'member' from public.users u where u.email like '%@many.nl';
delete from public.notifications; delete from private.notification_mails;
select tests.act_as('root');
select is(pg_temp.announce(jsonb_build_object('organizationId', tests.org('bob'))), '{"recipients": 602}', 'six hundred');
select tests.reset();
select is((select count(*) from public.notifications), 0::bigint, 'are not told in the request');
select results_eq($$ select convert_from(args, 'UTF8')::jsonb ->> 'announcementId' from jobs.gue_jobs where job_type = 'announcements.tell' $$, $$ select id::text from private.announcements where finished_at is null $$,
  'but by a job');
create temp table many as select id from private.announcements where finished_at is null;
grant select on many to public;
set local role kijko_worker;
select is(private.notify_announcement(id, 400), true, 'a batch') from many;
reset role;
update private.announcements set notified_until = null where id = (select id from many);
select is(private.notify_announcement(id, 400), true, 'the same batch again tells nobody twice') from many;
select is(private.notify_announcement(id, 400), false, 'the rest') from many;
select is(private.notify_announcement(id, 400), false, 'a job that comes again finds nothing to do') from many;
select results_eq('select count(*), count(distinct user_id) from public.notifications', 'values (602::bigint, 602::bigint)', 'everybody once');

select * from finish();
rollback;
