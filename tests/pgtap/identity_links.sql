-- Links in mails and sign-in through a provider, as the database checks them: the server and the worker, people, strangers.
begin;
select no_plan();
select tests.user('anna'), tests.user('stan');
create function pg_temp.at(p_minutes numeric default 0) returns timestamptz language sql as $$ select '2026-11-30T12:00:00Z'::timestamptz + make_interval(secs => p_minutes * 60) $$;
create function pg_temp.hash(p text) returns text language sql as $$ select encode(sha256(convert_to(p, 'UTF8')), 'hex') $$;
-- The token of the newest mail to an address.
create function pg_temp.token(p_email text) returns text language sql
as $$ select substring(m.body_text from 'token=([A-Za-z0-9_-]{43})') from private.mails m where m.to_address = p_email and m.body_text ~ 'token=' order by m.created_at desc limit 1 $$;

-- Which role may call which function.
select ok(has_function_privilege('kijko_server', f, 'execute'), 'the server may call ' || f)
from unnest(array['private.request_link(jsonb, timestamptz)', 'private.begin_reset(jsonb, timestamptz)', 'private.finish_reset(jsonb, timestamptz)',
  'private.finish_magic_link(jsonb, timestamptz)', 'private.begin_oauth(jsonb, timestamptz)', 'private.take_oauth_state(jsonb, timestamptz)',
  'private.finish_oauth(jsonb, timestamptz)', 'private.session_caller(jsonb, timestamptz)']) f;
select ok(has_function_privilege('kijko_worker', f, 'execute'), 'the worker may call ' || f)
from unnest(array['private.mail_requested_link(jsonb)', 'private.provider_accounts(uuid)']) f;
select ok(not has_function_privilege(r, p.oid, 'execute'), r || ' may not call ' || p.proname)
from pg_proc p cross join unnest(array['anon', 'authenticated', 'service_role']) r
where p.pronamespace = 'private'::regnamespace and p.proname in ('request_link', 'begin_reset', 'finish_reset', 'finish_magic_link', 'begin_oauth', 'take_oauth_state',
  'finish_oauth', 'session_caller', 'mail_requested_link', 'provider_accounts', 'issue_account_link', 'use_account_link', 'confirm_address', 'claim_account',
  'finish_sign_in', 'queue_link_mail', 'link_rate_problem', 'notify_provider', 'new_token');
select ok(not has_table_privilege(r, 'private.' || t, 'select, insert, update, delete'), r || ' may not touch private.' || t)
from unnest(array['account_tokens', 'oauth_states']) t cross join unnest(array['anon', 'authenticated', 'service_role', 'kijko_server', 'kijko_worker']) r;

-- Without a mail server, or before the server recorded its public address, nothing is promised.
select throws_ok($$select private.request_link('{"purpose": "reset_password", "email": "anna@example.nl", "email_limit": 3}')$$, 'PT503', 'This installation cannot send mail.', 'no mail server');
select private.declare_installation('mail', 'true');
select throws_ok($$select private.request_link('{"purpose": "reset_password", "email": "anna@example.nl", "email_limit": 3}')$$, 'PT503', 'This installation cannot send mail.', 'no address of our own');
select private.declare_installation('app_url', '"https://kijko.test/"');
select throws_ok($$select private.request_link('{"purpose": "reset_password", "email": "anna", "email_limit": 3}')$$, 'PT400', 'Please enter a valid e-mail address.', 'no address');

-- Requests are limited by address, known or not, and do not look up an account.
select is(private.request_link(jsonb_build_object('purpose', 'reset_password', 'email', e, 'email_limit', 3), pg_temp.at(n)) -> 'problem' ->> 'code',
  case when n > 3 then 'RATE_LIMITED' end, e || ' for the ' || n || '. time')
from unnest(array['anna@example.nl', 'NOBODY@example.nl']) e, generate_series(1, 4) n;
select is(private.request_link('{"purpose": "magic_link", "email": "anna@example.nl", "email_limit": 3}', pg_temp.at(4)), null, 'each purpose counts by itself');
select is(private.request_link('{"purpose": "reset_password", "email": "anna@example.nl", "email_limit": 3}', pg_temp.at(40)), null, 'until 15 minutes are over');
select is((select count(*) from private.mails), 0::bigint, 'nothing is written to anybody yet');
create temp table asked as select convert_from(j.args, 'UTF8')::jsonb as args from jobs.gue_jobs j where j.job_type = 'accounts.link';
select results_eq($$select args ->> 'email', count(*) from asked group by 1 order by 1$$, $$values ('anna@example.nl', 5::bigint), ('nobody@example.nl', 3)$$, 'each is a job');
select private.mail_requested_link(args), private.mail_requested_link(args) from asked;
select results_eq('select to_address, kind, count(*) from private.mails group by 1, 2 order by 2', $$values ('anna@example.nl', 'magic_link', 1::bigint), ('anna@example.nl', 'reset_password', 4)$$,
  'one mail a request, however often the job runs, and none to who has no account');
select ok(bool_and(m.body_text ~ ('https://kijko\.test/' || case m.kind when 'magic_link' then 'magic-link' else 'reset-password' end || '\?token=[A-Za-z0-9_-]{43}\n')), 'with the link to its screen') from private.mails m;
select is((select count(*) from private.account_tokens t, private.mails m where position(substring(m.body_text from 'token=([A-Za-z0-9_-]{43})') in t::text) > 0), 0::bigint, 'tokens are stored as hashes');
select ok(private.mark_mail_sent(m.id), 'a message is sent') from private.mails m where m.kind = 'magic_link';
select is((select string_agg(m.body_text || m.body_html, ' ') from private.mails m where m.kind = 'magic_link'), 'This message was sent. It held a link for its reader alone.This message was sent. It held a link for its reader alone.', 'and keeps no token');
select private.queue_mail('ingestion_result', tests.org('anna'), tests.user('anna'), 'board@example.nl', 'S', 'Text', 'HTML');
select private.mark_mail_sent(m.id) from private.mails m where m.kind = 'ingestion_result';
select is((select m.body_text from private.mails m where m.kind = 'ingestion_result'), 'Text', 'other messages keep their body');

-- Verification, by any holder of the link.
update public.users set email_verified_at = null where id = tests.user('stan');
select tests.act_as('stan');
select is(api.resend_verification('{}') ->> 'message', 'We have sent you a mail. Please open the link in it.', 'Stan asks for a link');
select tests.reset();
create temp table stans as select pg_temp.token('stan@example.nl') as token;
grant select on stans to anon, authenticated;
select tests.act_anon();
select throws_ok($$select api.verify_email('{"body": {"token": "x"}}')$$, 'PT400', 'This link was used before, has expired, or is not complete. Please ask for a new one.', 'a false token');
select throws_ok($$select api.verify_email('{}')$$, 'PT400', 'This link was used before, has expired, or is not complete. Please ask for a new one.', 'none');
select throws_ok($$select api.resend_verification('{}')$$, '42501', null, 'an anonymous caller may not ask for a link');
select is(api.verify_email(jsonb_build_object('body', jsonb_build_object('token', (select token from stans)))), null, 'the link in the mail confirms the address');
select throws_ok($$select api.verify_email(jsonb_build_object('body', jsonb_build_object('token', (select token from stans))))$$, 'PT400',
  'This link was used before, has expired, or is not complete. Please ask for a new one.', 'once');
select tests.act_as('stan');
select ok((api.get_me('{}') ->> 'email_verified')::boolean, 'which Stan sees');
select throws_ok($$select api.resend_verification('{}')$$, 'PT409', 'Your e-mail address is confirmed already.', 'and needs no further link');
select tests.act_as_claims('stan');
select throws_ok($$select api.resend_verification('{}')$$, 'PT409', 'Your e-mail address is confirmed already.', 'with claims too');
select tests.reset();

-- Another address becomes the account's once it is confirmed; a newer one replaces it.
select private.issue_account_link(tests.user('stan'), 'verify_email', 'first@example.nl');
create temp table first as select pg_temp.token('first@example.nl') as token;
select private.issue_account_link(tests.user('stan'), 'verify_email', 'second@example.nl');
create temp table second as select pg_temp.token('second@example.nl') as token;
select throws_ok($$select private.verify_email(token) from first$$, 'PT400', 'This link was used before, has expired, or is not complete. Please ask for a new one.', 'the replaced one is dead');
insert into public.users (email) values ('second@example.nl');
select throws_ok($$select private.verify_email(token) from second$$, 'PT409', 'There is already an account with this e-mail address.', 'an address that another account has got meanwhile');
delete from public.users where email = 'second@example.nl';
select lives_ok($$select private.verify_email(token) from second$$, 'otherwise it is Stan''s');
select is((select email from public.users where id = tests.user('stan')), 'second@example.nl', 'from here on');

-- A reset, within an hour.
insert into private.credentials (user_id, password_hash, meets_policy) values (tests.user('anna'), '$argon2id$old', false);
select private.issue_account_link(tests.user('anna'), 'reset_password', 'anna@example.nl', p_at => pg_temp.at());
create temp table annas as select pg_temp.hash(pg_temp.token('anna@example.nl')) as hash;
select is(private.begin_reset(jsonb_build_object('reset_hash', hash), pg_temp.at(59)), jsonb_build_object('email', 'anna@example.nl', 'user_id', tests.user('anna'), 'password_hash', '$argon2id$old'),
  'what the new password is compared with') from annas;
select throws_ok(format('select private.begin_reset(%L, pg_temp.at(60))', jsonb_build_object('reset_hash', hash)), 'PT400',
  'This link was used before, has expired, or is not complete. Please ask for a new one.', 'an hour is over') from annas;
select throws_ok(format('select private.finish_magic_link(%L, pg_temp.at(1))', jsonb_build_object('link_hash', hash)), 'PT400',
  'This link was used before, has expired, or is not complete. Please ask for a new one.', 'it is no link to sign in') from annas;
select is(private.finish_reset(jsonb_build_object('reset_hash', hash, 'new_hash', '$argon2id$new', 'meets_policy', true), pg_temp.at(59)), '{}', 'the new password') from annas;
select is((select c.password_hash || c.meets_policy from private.credentials c where c.user_id = tests.user('anna')), '$argon2id$newtrue', 'is set');
select is((select count(*) from private.sessions s where s.user_id = tests.user('anna') and s.revoked_at is null), 0::bigint, 'and all sessions have ended');
select is((select count(*) from private.account_tokens t where t.user_id = tests.user('anna') and t.used_at is null), 0::bigint, 'and all other links are dead');

-- The state of a sign-in at a provider is valid once, for ten minutes, for its address.
select private.begin_oauth(jsonb_build_object('state_hash', pg_temp.hash(s), 'provider', 'google', 'redirect_uri', 'https://kijko.test/auth/callback'), pg_temp.at()) from unnest(array['a', 'b', 'c']) s;
create function pg_temp.take(p_state text, p_minutes numeric, p_uri text default 'https://kijko.test/auth/callback') returns text language sql
as $$ select coalesce(j -> 'problem' ->> 'code', j ->> 'provider') from private.take_oauth_state(jsonb_build_object('state_hash', pg_temp.hash(p_state), 'redirect_uri', p_uri), pg_temp.at(p_minutes)) j $$;
select is(pg_temp.take('a', 9.9), 'google', 'within ten minutes');
select is(pg_temp.take('a', 9.9), 'INVALID_STATE', 'once');
select is(pg_temp.take('b', 10), 'INVALID_STATE', 'not later');
select is(pg_temp.take('c', 1, 'https://kijko.test/'), 'INVALID_REDIRECT_URI', 'for the address that it began with');
select is(pg_temp.take('c', 1), 'INVALID_STATE', 'and then no more');

-- People of a provider.
create function pg_temp.oauth(p_subject text, p jsonb default '{}') returns jsonb language sql
as $$ select private.finish_oauth(jsonb_build_object('issuer', 'https://id.example/realms/kijko', 'subject', p_subject, 'email', p_subject || '@example.org', 'email_verified', true,
  'first_name', 'Kim', 'last_name', 'Berg', 'session_key', 'browser of ' || p_subject, 'token_hash', pg_temp.hash(gen_random_uuid()::text)) || p) $$;
create temp table kim as select (pg_temp.oauth('kim') ->> 'user_id')::uuid as id;
select is(pg_temp.oauth('kim') ->> 'user_id', id::text, 'one subject, one person') from kim;
select throws_ok($$select pg_temp.oauth('ken', '{"email_verified": false}')$$, 'PT403', 'Your identity provider has not confirmed your e-mail address. Please confirm it there first.', 'an unverified address');
select throws_ok($$select pg_temp.oauth('ken', '{"email": "no address"}')$$, 'PT403', 'Your identity provider gave an e-mail address that no mail can be sent to. An account needs another one.', 'none that mail goes to');
select results_eq($$select s.method, s.provider_issuer, s.provider_key, s.issuer from private.sessions s join kim on s.user_id = kim.id$$,
  $$values ('sso', 'https://id.example/realms/kijko', 'browser of kim', ''), ('sso', 'https://id.example/realms/kijko', 'browser of kim', '')$$, 'sessions are ours and know the one there');
select is((select count(*) from jobs.gue_jobs where job_type = 'accounts.organization'), 1::bigint, 'the organization of a new person is told');
select results_eq($$select a.subject, a.org_id from kim, private.provider_accounts(kim.id) a$$, $$select 'kim', u.default_organization_id::text from public.users u join kim on kim.id = u.id$$, 'as this');

-- One of two sessions that began in one browser ends: the browser stays signed in at the provider.
update private.sessions s set revoked_at = now() where s.id = (select s.id from private.sessions s join kim on kim.id = s.user_id limit 1);
select is((select count(*) from private.sessions s join kim on kim.id = s.user_id, private.provider_session(s.id)), 0::bigint, 'not with the first');
update private.sessions s set revoked_at = now() from kim where s.user_id = kim.id and s.revoked_at is null;
select is((select count(*) from private.sessions s join kim on kim.id = s.user_id, private.provider_session(s.id)), 2::bigint, 'with the last it is ended there');
delete from public.memberships m using kim where m.user_id = kim.id;
select is((select a.org_id from kim, private.provider_accounts(kim.id) a), null, 'who is a member of nothing has none there');

-- The session that a cookie names.
select is(private.session_caller(jsonb_build_object('session_id', p.session_id)) ->> 'user_id', p.user_id::text, 'a living session') from tests.people p where p.name = 'stan';
update private.sessions s set expires_at = now() from tests.people p where p.name = 'stan' and s.id = p.session_id;
select throws_ok(format('select private.session_caller(%L)', jsonb_build_object('session_id', p.session_id)), 'PT401', 'This session has expired. Please sign in again.', 'an expired one') from tests.people p where p.name = 'stan';
select throws_ok($$select private.session_caller(jsonb_build_object('session_id', gen_random_uuid()))$$, 'PT401', 'This session has ended. Please sign in again.', 'none');

-- Retention.
select tests.end_old(t, now() + interval '31 days' + interval '1 day') from unnest(array['account_tokens', 'oauth_states']) t;
select is((select count(*) from private.account_tokens) + (select count(*) from private.oauth_states), 0::bigint, 'links and states end');

-- An invitation that was not sent refuses the sign-up.
select throws_ok($$select private.sign_up(jsonb_build_object('email', 'new@example.nl', 'first_name', 'New', 'last_name', 'One', 'password_hash', '$argon2id$x', 'meets_policy', true,
  'invitation_token', 'x', 'token_hash', pg_temp.hash('n')))$$, 'PT404', 'This invitation does not exist.', 'a refused token');
select is((select count(*) from public.users where email = 'new@example.nl'), 0::bigint, 'leaves nothing');

select * from finish();
rollback;
