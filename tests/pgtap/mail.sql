begin;
select no_plan();

-- Anna owns the project; Vi is a viewer of it, Udo an auditor, Gus a developer from another organization, Stan a stranger.
select tests.user('anna'), tests.member('vi', 'anna', 'member'), tests.member('udo', 'anna', 'member'), tests.user('gus'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-000000000001'::uuid $$;
create function pg_temp.mail(p_email text default 'board@example.org', p_project text default null) returns jsonb language sql as $$
  select api.email_ingestion_result(jsonb_build_object('projectId', coalesce(p_project, pg_temp.pid()::text), 'body', jsonb_build_object('email', p_email))) $$;
insert into public.projects (id, organization_id, user_id, name) values (pg_temp.pid(), tests.org('anna'), tests.user('anna'), 'A <b> & "c"');
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), tests.user(n), n || '@example.nl', r, now()
from (values ('vi', 'viewer'), ('udo', 'auditor'), ('gus', 'developer')) v (n, r);
select private.declare_installation('mail', 'true');

-- -------------------------------------------------------------------------------------------------------- recipients and times
select tests.act_as('anna');
select throws_ok('select pg_temp.mail()', 'PT404', 'This project has no completed ingestion yet.', 'without a completed run there is no result');
select tests.reset();
insert into public.ingestion_runs (organization_id, project_id, outcome, phase, percent, completed_at, ended_at, original_tokens, optimized_tokens,
  duration_seconds, files_processed, chunks_created, result)
values (tests.org('anna'), pg_temp.pid(), 'completed', 'indexing', 100, now(), now(), 1234567, 123456, 65, 1200, 340,
  '{"savingsBreakdown": {"deduplication": 1000, "patternCompression": 20, "whitespace": 3, "importConsolidation": 4}, "queryLatencyMs": 12,
    "relevanceScore": 98.5, "languagesDetected": ["Go", "<i>"]}');

select tests.act_as('anna');
select is(pg_temp.mail(), '{"success": true}', 'the owner mails the result');
select throws_ok(format('select pg_temp.mail(%L)', e), 'PT400', 'This is not an e-mail address.', coalesce(quote_literal(e), 'null') || ' is refused')
from (values (null), (''), ('ann'), ('ann@example'), ('a@b@c.nl'), ('a b@c.nl'), (E'a@b.nl\r\nBcc: eve@c.nl'), ('a@b.nl,eve@c.nl'), ('<a@b.nl>'),
  ('a@b..nl'), ('jürgen@b.nl'), (repeat('a', 250) || '@b.nl')) v (e);
select is(pg_temp.mail('  ann@example.nl '), '{"success": true}', 'blanks around the address are no part of it');
select tests.act_as('vi');
select is(pg_temp.mail(), '{"success": true}', 'a viewer too');
select tests.act_as_claims('vi');
select is(pg_temp.mail(), '{"success": true}', 'also with claims only');
select tests.act_as('gus');
select is(pg_temp.mail(), '{"success": true}', 'and a guest');
select tests.act_as('udo');
select throws_ok('select pg_temp.mail()', 'PT403', 'Your role in this project (auditor) does not allow this.', 'an auditor does not');
select tests.act_as('stan');
select throws_ok('select pg_temp.mail()', 'PT404', 'This project does not exist.', 'a stranger finds nothing');
select throws_ok($$ select pg_temp.mail(p_project => 'no-uuid') $$, 'PT404', 'This project does not exist.', 'nor anything under a name that is no id');
select throws_ok($$ select private.queue_mail('ingestion_result', tests.org('stan'), tests.user('stan'), 'eve@c.nl', 's', 't', 'h') $$, '42501', null,
  'nobody writes messages of their own');
select throws_ok($$ select * from private.take_mail(pg_temp.pid()) $$, '42501', null, 'or reads the outbox');
select tests.act_anon();
select throws_ok('select pg_temp.mail()', '42501', null, 'nobody may not');
select tests.reset();

-- --------------------------------------------------------------------------------------------------------------- the stored mail
select results_eq($$ select count(*)::int, count(*) filter (where m.organization_id = tests.org('anna'))::int from private.mails m $$,
  'values (5, 5)', 'each call left one message, under the organization of the project');
select set_eq($$ select convert_from(args, 'UTF8')::jsonb ->> 'mailId' from jobs.gue_jobs where job_type = 'mail.send' $$,
  $$ select id::text from private.mails $$, 'and its job');
create temp view written as select * from private.mails where user_id = tests.user('anna') order by created_at limit 1;
select is((select to_address from written), 'board@example.org', 'to whom was asked');
select is((select subject from written), 'Ingestion result of A <b> & "c"', 'the subject names the project');
select is((select body_text from written), 'Anna Test (anna@example.nl) sent you the result of an ingestion in Kijko.

Project: A <b> & "c"
Tokens before: 1,234,567
Tokens after: 123,456
Reduction: 90.0 %
Saved by deduplication: 1,000
Saved by pattern compression: 20
Saved in whitespace: 3
Saved by import consolidation: 4
Files processed: 1,200
Chunks created: 340
Languages: Go, <i>
Ingestion time: 65 s
Query latency: 12 ms
Relevance: 98.5 %
', 'the text tells the numbers');
select matches((select body_html from written), '<td align="right">A &lt;b&gt; &amp; &quot;c&quot;</td>', 'in HTML everything is escaped');
select doesnt_match((select body_html from written), '<b>|<i>', 'and nothing else gets through');
select is(private.one_line(E' a\r\n\tb\u2028c '), 'a b c', 'line breaks end as blanks');
select throws_ok(format($$ update private.mails set subject = %L $$, E'a\nb'), '23514', null, 'a subject with a line break cannot be stored');
select throws_ok(format($$ update private.mails set to_address = %L $$, E'a@b.nl\nX: y'), '23514', null, 'nor such an address');

-- --------------------------------------------------------------------------------------------------------------------- the limit
select tests.act_as('vi');
select is((select count(*)::int from (select pg_temp.mail() from generate_series(1, 8)) m), 8, 'ten an hour are fine');
select throws_ok('select pg_temp.mail()', 'PT429', 'You can send 10 such mails an hour. Please try again later.', 'the eleventh is refused');
select tests.act_as('gus');
select is(pg_temp.mail(), '{"success": true}', 'others are not concerned');
select tests.reset();
update private.mails set created_at = created_at - interval '1 hour'
where id = (select id from private.mails where user_id = tests.user('vi') order by created_at limit 1);
select tests.act_as('vi');
select is(pg_temp.mail(), '{"success": true}', 'when the oldest is an hour old there is room for one');
select throws_ok('select pg_temp.mail()', 'PT429', null, 'and only for one');
select tests.reset();

-- ------------------------------------------------------------------------------------------------------------ where nothing is sent
create temp table before as select count(*) from private.mails;
select private.declare_installation('mail', 'false');
select tests.act_as('anna');
select throws_ok('select pg_temp.mail()', 'PT503', 'This installation cannot send mail.', 'an installation without a mail server says so');
select tests.reset();
delete from private.installation where key = 'mail';
select tests.act_as('anna');
select throws_ok('select pg_temp.mail()', 'PT503', 'This installation cannot send mail.', 'also when nothing was declared');
select tests.reset();
select is((select count(*) from private.mails), (select count from before), 'and nothing was written');

-- -------------------------------------------------------------------------------------------------------------------- the worker
create temp table one as select id from written;
grant select on one to public;
set local role kijko_worker;
select results_eq('select to_address, subject from one, private.take_mail(one.id)', $$ values ('board@example.org', 'Ingestion result of A <b> & "c"') $$,
  'the worker takes a message');
select is((select private.mark_mail_sent(id) from one), true, 'and notes that it was sent');
select is((select private.mark_mail_sent(id) from one), false, 'once');
select is_empty('select t.* from one, private.take_mail(one.id) t', 'what was sent is not taken again');
select throws_ok('select * from private.mails', '42501', null, 'the outbox itself is closed to it');
reset role;
select results_eq('select attempts, sent_at is not null from private.mails where id = (select id from one)', 'values (1, true)', 'attempts are counted');

update private.mails set created_at = now() - interval '31 days' where id = (select id from one);
select is(tests.end_old('mails'), 1::bigint, 'an old message goes');
select is_empty('select id from private.mails where id = (select id from one)', 'messages end after 30 days');
select isnt_empty('select id from private.mails', 'and not before');

select * from finish();
rollback;
