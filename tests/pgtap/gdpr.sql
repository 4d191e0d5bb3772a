-- Erasure by actor: who may, what stands against it, and what happens to each line of contract 50, 9.3. tests/gdpr searches the whole database.
begin;
select no_plan();
-- Anna owns an organization, Ben is a member of it, Stan is a stranger who owns one with Tom in it.
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan'), tests.member('tom', 'stan');
create temp table kept as select tests.user('anna') as anna, tests.user('ben') as ben, tests.user('stan') as stan, tests.org('anna') as team,
  (select organization_id from public.memberships where user_id = tests.user('ben') and role = 'owner') as bens;
grant select on kept to public;

-- -------------------------------------------------------------------------------------------------------------------- who may, and when
select tests.act_anon();
select is(tests.refusal($$ select api.erase_account('{"body": {"confirm": "DELETE_ALL_MY_DATA"}}') $$) ->> 'sqlstate', '42501', 'an anonymous caller may not call it');
select tests.act_service();
select is(tests.refusal($$ select api.erase_account('{"body": {"confirm": "DELETE_ALL_MY_DATA"}}') $$) ->> 'sqlstate', '42501', 'nor may the service');
select tests.act_as('ben');
select set_config('app.api_key_id', gen_random_uuid()::text, true);
select is(tests.refusal($$ select api.erase_account('{"body": {"confirm": "DELETE_ALL_MY_DATA"}}') $$) ->> 'code', 'API_KEY_NOT_ALLOWED', 'nor does a key');
select tests.act_as('ben');
select is(tests.refusal(format($$ select api.erase_account(%L) $$, b)), jsonb_build_object('status', 400, 'code', 'CONFIRMATION_REQUIRED', 'field', 'confirm', 'message',
  'confirm must be exactly DELETE_ALL_MY_DATA. Your account and all your data will be deleted.'), 'without the exact word nothing is deleted: ' || b)
from unnest(array['{}', '{"body": {}}', '{"body": {"confirm": "delete_all_my_data"}}', '{"body": {"confirm": "DELETE_ALL_MY_DATA "}}', '{"body": {"confirm": true}}']) b;

select tests.act_as('anna');
select is(tests.refusal($$ select api.erase_account('{"body": {"confirm": "DELETE_ALL_MY_DATA"}}') $$), jsonb_build_object('status', 409, 'code', 'OWNERSHIP_TRANSFER_REQUIRED',
  'message', 'You own organizations with other members. Make one of them the owner, or remove them, first.',
  'details', jsonb_build_object('organizations', jsonb_build_array(jsonb_build_object('id', team, 'name', 'Anna''s workspace')))),
  'an owner of others hands the organization over first') from kept;
select tests.reset();
update public.memberships set status = 'inactive' where user_id = tests.user('tom') and role <> 'owner';
select tests.act_as('stan');
select is(tests.refusal($$ select api.erase_account('{"body": {"confirm": "DELETE_ALL_MY_DATA"}}') $$) ->> 'code', 'OWNERSHIP_TRANSFER_REQUIRED', 'a deactivated member counts');
select tests.reset();

-- The second factor: the server finds the code right, and the database uses it up.
insert into private.second_factors (user_id, sealed_secret, last_step) select ben, 'v1.secret', 5 from kept;
update public.users set two_factor_enabled_at = now() where id = (select ben from kept);
select tests.act_as('ben');
select is(tests.refusal(format($$ select api.erase_account(%L) $$, p))::jsonb - 'message', '{"status": 400, "code": "INVALID_CODE", "field": "code"}', 'a second factor is asked for: ' || p)
from unnest(array['{"body": {"confirm": "DELETE_ALL_MY_DATA"}}', '{"body": {"confirm": "DELETE_ALL_MY_DATA"}, "step": 5, "checkedSecret": "v1.secret"}',
  '{"body": {"confirm": "DELETE_ALL_MY_DATA"}, "step": 9, "checkedSecret": "v1.other"}']) p;

-- -------------------------------------------------------------------------------------------------------- Ben leaves Anna's organization
select tests.reset();
select private.declare_installation('mail', 'true');
insert into private.identities (issuer, subject, user_id) select 'https://id.example/realms/kijko', 'subject-of-ben', ben from kept;
update public.subscriptions set plan_id = 'pro', billing_interval = 'monthly', stripe_subscription_id = 'sub_of_ben' where organization_id = (select bens from kept);
insert into public.team_invitations (organization_id, email, role, message, invited_by, token_hash, expires_at)
select team, 'carl@example.nl', 'member', 'Ben here, join us', ben, sha256('carl'), now() + interval '7 days' from kept;
insert into public.team_invitations (organization_id, email, role, invited_by, token_hash, expires_at)
select tests.org('stan'), 'ben@example.nl', 'member', stan, sha256('ben'), now() + interval '7 days' from kept;
select tests.act_as('ben');
select set_config('app.client_ip', '203.0.113.9', true);
select api.create_project('{"body": {"name": "Ben''s own"}}') #>> '{project,id}' as project \gset
select tests.reset();
select private.audit('user.profile_updated', 'Ben Test <ben@example.nl> changed things.', jsonb_build_object('by', 'BEN@example.nl', 'userId', ben), null, team, ben) from kept;
select private.audit('team.role_changed', 'Looked at ruben@example.nl, not at ben@example.nl.', null, null, team, anna) from kept;
select tests.act_as('ben');
select api.erase_account('{"body": {"confirm": "DELETE_ALL_MY_DATA"}, "step": 9, "checkedSecret": "v1.secret"}') as report \gset
select tests.reset();

select is((select array_agg(k order by k) from jsonb_object_keys(:'report'::jsonb) k), array['deletedAt', 'retained', 'tables', 'totalDeleted', 'userId'], 'the report has its members');
select is(:'report'::jsonb ->> 'userId', ben::text, 'it names the account') from kept;
select is(:'report'::jsonb -> 'tables' -> 'users', '{"label": "Users", "deletedCount": 1, "status": "completed"}', 'the account is counted');
select is((:'report'::jsonb -> 'tables' -> 'organizations' ->> 'deletedCount')::integer, 1, 'the organization of Ben alone too');
select is((:'report'::jsonb -> 'tables' -> 'audit_log' ->> 'anonymizedCount')::integer > 1, true, 'entries of the audit log were changed');
select is((:'report'::jsonb ->> 'totalDeleted')::bigint, (select sum((t.value ->> 'deletedCount')::bigint)::bigint from jsonb_each(:'report'::jsonb -> 'tables') t), 'the total is the sum');
select is(jsonb_array_length(:'report'::jsonb -> 'retained'), 2, 'what is retained is named');

select is((select count(*) from public.users where id = ben or email = 'ben@example.nl'), 0::bigint, 'the account is gone') from kept;
select is((select count(*) from public.organizations where id = bens), 0::bigint, 'so is the organization that Ben was alone in') from kept;
select is((select count(*) from public.memberships where organization_id = team), 1::bigint, 'Anna is alone in hers') from kept;
select is((select user_id from public.projects where id = :'project'), anna, 'Ben''s project is Anna''s') from kept;
select is((select count(*) from public.team_invitations where email = 'ben@example.nl'), 0::bigint, 'invitations to the address are gone');
select is((select (message, invited_by, status)::text from public.team_invitations where email = 'carl@example.nl'), '(,,pending)', 'one that Ben sent stays, without its sender');
select is((select (user_id, is_erased, ip_address, session_id, description, metadata)::text from public.audit_log where description like '%changed things.'),
  '(,t,,,"Deleted user <deleted@user.invalid> changed things.","{""by"": ""deleted@user.invalid"", ""userId"": ""00000000-0000-0000-0000-000000000000""}")', 'Ben''s entries stay without Ben');
select is((select description from public.audit_log where event_type = 'team.role_changed'), 'Looked at ruben@example.nl, not at deleted@user.invalid.', 'an entry about Ben loses the address, and only that');
select is((select array_agg(distinct user_name || user_email) from public.project_activity where project_id = :'project' and user_id is distinct from anna), array['Deleted user'],
  'the activity log has neither name nor address') from kept;
select is((select count(*) from private.mails where to_address = 'ben@example.nl'), 1::bigint, 'one mail goes to the address');
select is((select (kind, user_id, subject)::text from private.mails where to_address = 'ben@example.nl'), '(account_erased,,"Your account was deleted")', 'the confirmation');
select ok(private.mark_mail_sent((select id from private.mails where kind = 'account_erased')), 'when it was sent');
select is((select count(*) from private.mails where to_address = 'ben@example.nl'), 0::bigint, 'nothing is left of it');
select is((select array_agg(job_type || convert_from(args, 'UTF8')::jsonb::text order by job_type) from jobs.stored_jobs where job_type like 'gdpr.%'),
  array['gdpr.customer{"subscriptionId": "sub_of_ben"}', 'gdpr.identity{"issuer": "https://id.example/realms/kijko", "subject": "subject-of-ben"}'], 'the steps outside wait as jobs');
select is((select count(*) from private.tombstones where user_id = ben), 1::bigint, 'a tombstone stands for the account') from kept;
select is((select person_digest from private.erasures), sha256(convert_to(ben::text, 'UTF8')), 'the log has a digest') from kept;
select is((select kept_until from private.erasures), make_date(extract(year from now() at time zone 'UTC')::integer + 8, 1, 1), 'for seven years after this one');
select is((select count(*) from private.event_inbox where room = 'user:00000000-0000-0000-0000-000000000000' and data ->> 'kind' = 'session_revoked'), 1::bigint, 'the sockets of the session end');

-- ------------------------------------------------------------------------------------------------------------------------- afterwards
-- A second call that had been admitted meanwhile.
select set_config('app.user_id', (select ben::text from kept), true);
select throws_ok($$ select private.erase_person((select ben from kept)) $$, 'PT401', 'This session has ended. Please sign in again.', 'repeating is harmless');
select tests.reset();
select throws_ok($$ select private.resolve_external(jsonb_build_object('issuer', 'https://id.example/realms/kijko', 'provider', 'keycloak', 'subject', 'subject-of-ben', 'email', 'ben@example.nl',
  'email_verified', true, 'session_id', gen_random_uuid(), 'session_key', 'k', 'iat', extract(epoch from now() - interval '1 minute')::bigint)) $$,
  'PT401', 'This session has ended. Please sign in again.', 'a token from before makes no account');
select lives_ok($$ select private.resolve_external(jsonb_build_object('issuer', 'https://id.example/realms/kijko', 'provider', 'keycloak', 'subject', 'subject-of-ben', 'email', 'ben@example.nl',
  'email_verified', true, 'session_id', gen_random_uuid(), 'session_key', 'k', 'iat', extract(epoch from clock_timestamp() + interval '1 minute')::bigint)) $$,
  'a person who signs in again is a new one');
select isnt((select id from public.users where email = 'ben@example.nl'), ben, 'with another id') from kept;
select ok(not private.is_identity_free('https://id.example/realms/kijko', 'subject-of-ben'), 'whose identity is not deleted any more');
select ok(private.is_identity_free('https://id.example/realms/kijko', 'another'), 'as a free one is');

-- Now Anna is alone.
select tests.act_as('anna');
select lives_ok($$ select api.erase_account('{"body": {"confirm": "DELETE_ALL_MY_DATA"}}') $$, 'the sole owner goes');
select tests.reset();
select is((select count(*) from public.organizations where id = team), 0::bigint, 'with the organization') from kept;
select is((select count(*) from public.projects where id = :'project'), 0::bigint, 'and its projects');
select is((select count(*) from public.users where id in (stan, tests.user('tom'))), 2::bigint, 'others stay') from kept;
set constraints all immediate;

-- ------------------------------------------------------------------------------------------------------------------------- retention
update private.tombstones set erased_at = now() - interval '31 days' where user_id = (select ben from kept);
update private.erasures set kept_until = (now() at time zone 'UTC')::date - 1 where person_digest = (select sha256(convert_to(ben::text, 'UTF8')) from kept);
select is((select sum(private.end_old(r, now(), 100)) from private.retention_rules r where r.name in ('tombstones', 'erasures')), 2::numeric, 'retention ends both');
select is((select count(*) from private.tombstones), 1::bigint, 'tombstones after 30 days');
select is((select count(*) from private.erasures), 1::bigint, 'the log ends after its years');
select is(private.kept_until('2026-12-31 23:59:59Z'), '2034-01-01 00:00:00Z'::timestamptz, 'seven years after the end of the year');
select is(private.table_label('login_history'), 'Login history', 'tables have labels');
select is(private.add_counts('{"a": 1, "b": 2}', '{"b": 3, "c": 4}'), '{"a": 1, "b": 5, "c": 4}', 'counts are added');

-- --------------------------------------------------------------------------------------------------------------------------- masks
select is(private.mask_person(t, '11111111-2222-3333-4444-555555555555', array['jo@x.nl', 'a.b+c@x.nl'], n), w, 'masked: ' || t)
from (values
  ('{"userId": "11111111-2222-3333-4444-555555555555"}', 'Jo', '{"userId": "00000000-0000-0000-0000-000000000000"}'),
  ('from JO@X.nl.', 'Jo', 'from deleted@user.invalid.'),
  ('from jojo@x.nl, jo@x.nlx and jo@x.nl-y', 'Jo', 'from jojo@x.nl, jo@x.nlx and jo@x.nl-y'),
  ('a.b+c@x.nl, aXb+c@x.nl', '', 'deleted@user.invalid, aXb+c@x.nl'),
  ('Jo joined with Jo''s friend Jolanda', 'Jo', 'Deleted user joined with Deleted user''s friend Jolanda'),
  ('J.* (x) left, JJJ stays', 'J.* (x)', 'Deleted user left, JJJ stays'),
  ('', 'Jo', '')) v (t, n, w);

select * from finish();
rollback;
