-- Identity in the database, by actor: the server, which alone may call its functions; signed-in people; strangers.
begin;
-- pgTAP's functions were made under our closed default. Every role that a test acts as must be able to report results.
do $$
declare
  v regprocedure;
begin
  for v in
    select d.objid::regprocedure from pg_depend d join pg_extension e on e.oid = d.refobjid
    where e.extname = 'pgtap' and d.deptype = 'e' and d.classid = 'pg_proc'::regclass
  loop
    execute format('grant execute on routine %s to public', v);
  end loop;
end
$$;
select no_plan();

-- The server itself.
select ok(has_function_privilege('kijko_server', f, 'execute'), 'the server may call ' || f)
from unnest(array['private.sign_up(jsonb, timestamptz)', 'private.begin_login(jsonb, timestamptz)', 'private.finish_login(jsonb, timestamptz)',
  'private.refresh_session(jsonb, timestamptz)', 'private.resolve_external(jsonb, timestamptz)', 'private.log_out(jsonb)',
  'private.switch_session(jsonb, timestamptz)', 'private.sign_in_once(jsonb)', 'private.seal_answer(jsonb)',
  'private.touch_sessions(uuid[], uuid[], timestamptz)', 'private.keep_signing_key(text)']) f;
select ok(not has_function_privilege(r, p.oid, 'execute'), r || ' may not call ' || p.proname)
from pg_proc p cross join unnest(array['anon', 'authenticated', 'service_role', 'kijko_worker']) r
where p.pronamespace = 'private'::regnamespace and p.proname in ('sign_up', 'begin_login', 'finish_login', 'refresh_session',
  'resolve_external', 'adopt_identity', 'log_out', 'switch_session', 'sign_in_once', 'seal_answer', 'touch_sessions', 'keep_signing_key',
  'begin_session', 'revoke_session', 'issue_refresh_token', 'choose_organization', 'session_json', 'record_sign_in', 'end_stolen_session',
  'continue_session', 'session_line', 'locked_problem', 'record_failed_login');
select ok(not has_table_privilege(r, 'private.' || t, 'select, insert, update, delete'), r || ' may not touch private.' || t)
from unnest(array['credentials', 'identities', 'refresh_tokens', 'login_history', 'login_failures', 'sealed_answers', 'signing_keys']) t
cross join unnest(array['anon', 'authenticated', 'service_role', 'kijko_server', 'kijko_worker']) r;

-- Addresses and names.
select is(private.clean_email(e), x, 'address ' || to_jsonb(e)::text) from (values
  ('  Ann@Example.NL ', 'ann@example.nl'), ('a@b.nl', 'a@b.nl'), ('ann', null), ('ann@example', null), ('@b.nl', null), ('a@.nl', null),
  ('a@b.', null), ('a@@b.nl', null), ('a b@c.nl', null), (E'a@b.nl\nc@d.nl', null), (repeat('a', 250) || '@b.nl', null), ('', null)) t (e, x);
select is(private.require_name('  Ann ', 'first_name', 'first name'), 'Ann', 'names are trimmed');
select throws_ok($$select private.require_name(E'A\u0007', 'first_name', 'first name')$$, 'PT400', 'The first name must not contain control characters.', 'control characters');
select throws_ok($$select private.require_name(repeat('a', 51), 'last_name', 'last name')$$, 'PT400', 'The last name must have 1 to 50 characters.', '51 characters');
select throws_ok($$select private.require_name(null, 'last_name', 'last name')$$, 'PT400', 'The last name must have 1 to 50 characters.', 'no name');
select is(private.device_json('{"browser": "Edge", "os": "macOS", "deviceType": "mobile"}'), '{"browser": "Edge", "os": "macOS", "deviceType": "mobile"}', 'device');
select is(private.device_json(null), '{"browser": "Unknown", "os": "Unknown", "deviceType": "desktop"}', 'no device');

-- A clock of the test's own for the steps below.
create function pg_temp.at(p_seconds double precision default 0) returns timestamptz language sql
as $$ select timestamptz '2026-03-01 12:00:00Z' + make_interval(secs => p_seconds) $$;
create function pg_temp.hash(p_name text) returns text language sql as $$ select encode(sha256(p_name::bytea), 'hex') $$;
create function pg_temp.sign_up(p_email text, p_token text) returns jsonb language sql
as $$ select private.sign_up(jsonb_build_object('email', p_email, 'first_name', 'Ann', 'last_name', 'Vos', 'password_hash', '$argon2id$x',
  'meets_policy', true, 'token_hash', pg_temp.hash(p_token), 'user_agent', 'Firefox/1'), pg_temp.at()) $$;
create function pg_temp.refresh(p_token text, p_next text, p_seconds double precision) returns jsonb language sql
as $$ select private.refresh_session(jsonb_build_object('presented_hash', pg_temp.hash(p_token), 'token_hash', pg_temp.hash(p_next),
  'session_limit', 1000), pg_temp.at(p_seconds)) $$;
create function pg_temp.fail(p_email text, p_seconds double precision) returns text language sql
as $$ select coalesce(private.finish_login(jsonb_build_object('email', p_email, 'is_correct', false), pg_temp.at(p_seconds)) -> 'problem' ->> 'code', 'in') $$;

-- Sign-up.
create temp table ann as select pg_temp.sign_up('ann@pgtap.nl', 'a0') as j;
select is((select j ->> 'max_age' from ann), (30 * 24 * 3600)::text, 'the cookie lives 30 days');
select is((select o.name from public.organizations o where o.id = (select (j ->> 'org_id')::uuid from ann)), 'Ann Vos''s workspace', 'a personal organization');
select is((select s.expires_at - s.created_at from private.sessions s where s.id = (select (j ->> 'session_id')::uuid from ann)), interval '90 days', 'a session ends 90 days after signing in');
select throws_ok($$select pg_temp.sign_up('Ann@pgtap.nl', 'a1')$$, 'PT409', 'There is already an account with this e-mail address.', 'an address has one account');
select throws_ok($$insert into private.credentials (user_id, password_hash, meets_policy) select id, 'plain text', true from public.users limit 1$$,
  '23514', null, 'only argon2id hashes are stored');

-- Rotation: each token counts its own first use.
select ok(not pg_temp.refresh('a0', 'a1', 100) ? 'problem', 'a first use');
select ok(not pg_temp.refresh('a0', 'a2', 130) ? 'problem', 'a use at the end of the grace');
select ok(not pg_temp.refresh('a1', 'a3', 86400) ? 'problem', 'the other token had no first use yet');
select is((select t.expires_at from private.refresh_tokens t where t.token_hash = decode(pg_temp.hash('a3'), 'hex')), pg_temp.at(86400) + interval '30 days', '30 days from issue');
select is(pg_temp.refresh('a3', 'a4', 31 * 86400 + 1) -> 'problem' ->> 'code', 'INVALID_REFRESH_TOKEN', 'older than 30 days');
select ok((select revoked_at is null from private.sessions where id = (select (j ->> 'session_id')::uuid from ann)), 'an expired token ends nothing');
select is(pg_temp.refresh('a0', 'a5', 130.1) -> 'problem' ->> 'code', 'INVALID_REFRESH_TOKEN', 'a use after the grace');
select is((select revoked_reason from private.sessions where id = (select (j ->> 'session_id')::uuid from ann)), 'refresh_reuse', 'ends the whole session');
select is(pg_temp.refresh('a2', 'a6', 131) -> 'problem' ->> 'code', 'INVALID_REFRESH_TOKEN', 'with every token of it');
select is(pg_temp.refresh('never issued', 'a7', 1) -> 'problem' ->> 'code', 'INVALID_REFRESH_TOKEN', 'an unknown token');
select is((select metadata from public.audit_log where event_type = 'security.session_terminated' and user_id = (select (j ->> 'user_id')::uuid from ann)),
  '{"reason": "refresh_reuse"}', 'the audit trail says why');

-- 90 days from signing in, however often the token was refreshed.
select ok(not pg_temp.sign_up('bob@pgtap.nl', 'b0') ? 'problem', 'another person');
select ok(not pg_temp.refresh('b0', 'b1', 29 * 86400) ? 'problem', 'day 29');
select ok(not pg_temp.refresh('b1', 'b2', 58 * 86400) ? 'problem', 'day 58');
select is((pg_temp.refresh('b2', 'b3', 87 * 86400) ->> 'max_age')::integer, 3 * 86400, 'day 87: three days are left');
select is(pg_temp.refresh('b3', 'b4', 90 * 86400) -> 'problem' ->> 'code', 'INVALID_REFRESH_TOKEN', 'day 90');

-- The lock-out: the tenth failure locks for 15 minutes, with an account and without.
select is(array_agg(pg_temp.fail(e, n)), array_fill('INVALID_CREDENTIALS'::text, array[10]), 'ten failures for ' || e)
from unnest(array['bob@pgtap.nl', 'ghost@pgtap.nl']) e cross join generate_series(0, 9) n group by e;
select is(pg_temp.fail(e, 10), 'ACCOUNT_LOCKED', 'the eleventh for ' || e) from unnest(array['bob@pgtap.nl', 'ghost@pgtap.nl']) e;
select is(private.begin_login('{"email": "BOB@pgtap.nl"}', pg_temp.at(9 + 899)) -> 'problem' -> 'details' ->> 'retryAfter', '1', 'locked to the last second');
select ok(private.begin_login('{"email": "bob@pgtap.nl"}', pg_temp.at(9 + 900)) ? 'password_hash', 'and open again after it');
select is(private.finish_login(jsonb_build_object('email', 'bob@pgtap.nl', 'user_id', (select id from public.users where email = 'bob@pgtap.nl'),
  'checked_hash', '$argon2id$x', 'is_correct', true, 'token_hash', pg_temp.hash('b9')), pg_temp.at(20)) -> 'problem' ->> 'code',
  'ACCOUNT_LOCKED', 'a correct password while locked is refused too');
select is(private.finish_login(jsonb_build_object('email', 'bob@pgtap.nl', 'user_id', (select id from public.users where email = 'bob@pgtap.nl'),
  'checked_hash', '$argon2id$old', 'is_correct', true, 'token_hash', pg_temp.hash('b9')), pg_temp.at(2000)) -> 'problem' ->> 'code',
  'INVALID_CREDENTIALS', 'a password that was changed meanwhile');
select ok(not private.finish_login(jsonb_build_object('email', 'bob@pgtap.nl', 'user_id', (select id from public.users where email = 'bob@pgtap.nl'),
  'checked_hash', '$argon2id$x', 'is_correct', true, 'new_hash', '$argon2id$y', 'token_hash', pg_temp.hash('b9')), pg_temp.at(2001)) ? 'problem', 'a correct one');
select is((select c.password_hash from private.credentials c join public.users u on u.id = c.user_id where u.email = 'bob@pgtap.nl'), '$argon2id$y', 'renews an outdated hash');
select throws_ok($$select private.begin_login('{"email": "bob"}')$$, 'PT400', 'Please enter a valid e-mail address.', 'no address');
select is((select count(*) from private.login_failures where updated_at = pg_temp.at(9)), 1::bigint, 'strangers'' addresses are kept as digests only');

-- People of an external provider.
create function pg_temp.external(p_subject text, p jsonb) returns jsonb language sql
as $$ select private.resolve_external(jsonb_build_object('issuer', 'https://id.example', 'subject', p_subject, 'session_id', gen_random_uuid(),
  'session_key', gen_random_uuid(), 'iat', extract(epoch from pg_temp.at())) || p, pg_temp.at()) $$;
create temp table kim as select pg_temp.external('kim', '{"email": "kim@pgtap.nl", "email_verified": true}') as j;
select is((select u.email_verified_at is not null from public.users u where u.id = (select (j ->> 'user_id')::uuid from kim)), true,
  'an unknown subject becomes a person');
select is(pg_temp.external('kim', '{"email": "else@pgtap.nl", "email_verified": true}') ->> 'user_id', (select j ->> 'user_id' from kim),
  'a known one stays the same person under another address');
select throws_ok($$select pg_temp.external('thief', '{"email": "bob@pgtap.nl", "email_verified": false}')$$, 'PT403',
  'There is an account with this e-mail address, and your identity provider has not verified that it is yours.', 'an unverified address opens nothing');
select throws_ok($$select pg_temp.external('nameless', '{}')$$, 'PT403', 'Your identity provider gave no e-mail address. An account needs one.', 'no address');
select is(pg_temp.external('bob', '{"email": "bob@pgtap.nl", "email_verified": true}') ->> 'user_id', (select id::text from public.users where email = 'bob@pgtap.nl'), 'a verified address links');
select ok(not exists (select from private.credentials c join public.users u on u.id = c.user_id where u.email = 'bob@pgtap.nl'),
  'and takes the password of whoever registered it without proof');
create temp table squatter as select private.resolve_external(jsonb_build_object('issuer', 'https://other.example', 'subject', 'squatter',
  'session_id', gen_random_uuid(), 'session_key', 's', 'iat', 0, 'email', 'eve@pgtap.nl', 'email_verified', false)) as j;
select is(pg_temp.external('eve', '{"email": "eve@pgtap.nl", "email_verified": true}') ->> 'user_id', (select j ->> 'user_id' from squatter), 'so it is with one from another issuer');
select throws_ok($$select private.resolve_external(jsonb_build_object('issuer', 'https://other.example', 'subject', 'squatter',
  'session_id', gen_random_uuid(), 'session_key', 't', 'iat', 0, 'email', 'eve@pgtap.nl', 'email_verified', false))$$, 'PT403',
  'There is an account with this e-mail address, and your identity provider has not verified that it is yours.', 'who then is out');
create temp table late as select pg_temp.external('late', '{"email": "late@pgtap.nl"}') as j;
select is((select u.email_verified_at from public.users u where u.email = 'late@pgtap.nl'), null, 'an address nobody vouched for');
select is(pg_temp.external('late', '{"email": "late@pgtap.nl", "email_verified": true}') ->> 'user_id', (select j ->> 'user_id' from late), 'is the same account');
select is((select u.email_verified_at from public.users u where u.email = 'late@pgtap.nl'), pg_temp.at(), 'once the provider does');

-- A signed-in person sees their own rows only.
select tests.member('cleo', 'dora', 'viewer');
select tests.act_as('cleo');
select is(api.get_me('{}') ->> 'email', 'cleo@example.nl', 'a member is who they are');
select is(api.get_me('{}') -> 'roles', '["viewer"]', 'with the role of the organization they act in');
select is(api.get_me('{}') ->> 'plan', 'free', 'and its plan');
select is(api.list_organizations('{}') -> 0 ->> 'org_id', tests.org('dora')::text, 'the current organization comes first');
select is(jsonb_array_length(api.list_organizations('{}')), 2, 'all of them are listed');
select tests.act_as_claims('cleo');
select is(api.get_me('{}') ->> 'email', 'cleo@example.nl', 'through PostgREST as well');
-- A claim without a session behind it.
select set_config('request.jwt.claims', (current_setting('request.jwt.claims')::jsonb || '{"platform_admin": true}')::text, true);
select is(api.get_me('{}') -> 'roles', '["viewer"]', 'makes nobody platform staff');
select tests.reset();
update private.sessions set revoked_at = now() where user_id = tests.user('cleo');
select set_config('request.jwt.claims', jsonb_build_object('sub', user_id, 'sid', session_id)::text, true) from tests.people where name = 'cleo';
select set_config('role', 'authenticated', true);
select throws_ok($$select api.get_me('{}')$$, 'PT401', 'Please sign in.', 'a revoked session is out');
select is(api.list_organizations('{}'), '[]', 'and sees no organization');
select tests.act_anon();
select throws_ok($$select api.get_me('{}')$$, '42501', null, 'a stranger may not ask');
select throws_ok($$select private.sign_up('{}')$$, '42501', null, 'nor sign up past the server');
select tests.act_as('dora');
select throws_ok($$select * from private.credentials$$, '42501', null, 'an owner reads no passwords');
select throws_ok($$select private.revoke_session(gen_random_uuid(), 'x')$$, '42501', null, 'nor ends sessions');
select tests.reset();

-- Last activity: at most once a minute, and only of active sessions.
update private.sessions set last_active_at = now() - interval '1 hour';
select private.touch_sessions(array_agg(session_id), array_agg(null::uuid)) from tests.people;
select is((select last_active_at from private.sessions where user_id = tests.user('dora')), now(), 'a living session is moved');
select ok((select last_active_at < now() from private.sessions where user_id = tests.user('cleo')), 'a dead one is not');
select is((select last_active_at from public.memberships where user_id = tests.user('dora')), now(), 'nor is the membership forgotten');
update private.sessions set last_active_at = now() - interval '59 seconds' where user_id = tests.user('dora');
select private.touch_sessions(array_agg(session_id), array_agg(null::uuid)) from tests.people;
select is((select last_active_at from private.sessions where user_id = tests.user('dora')), now() - interval '59 seconds', 'once a minute');

-- One signing key in an installation.
select is(private.keep_signing_key('first'), 'first', 'the first offer is kept');
select is(private.keep_signing_key('second'), 'first', 'and everybody gets it');

-- Retention.
insert into private.sealed_answers (key_digest, request_digest, nonce, created_at) values (sha256('a'), sha256('b'), 'n', now() - interval '25 hours');
insert into private.login_history (user_id, method, status, created_at) values (tests.user('dora'), 'password', 'success', now() - interval '91 days');
insert into private.sessions (user_id, expires_at, idle_expires_at) values (tests.user('dora'), now() - interval '31 days', now() - interval '31 days');
insert into private.refresh_tokens (token_hash, session_id, expires_at, used_at)
select sha256(d::text::bytea), session_id, now() + interval '9 days', now() - d * interval '1 day' from tests.people, generate_series(6, 8) d where name = 'dora';
select tests.end_old(t) from unnest(array['refresh_tokens', 'sessions', 'sealed_answers', 'login_failures', 'oauth_states', 'account_tokens', 'login_history']) t;
select is((select array_agg(round(extract(epoch from now() - used_at) / 86400)) from private.refresh_tokens t join tests.people p on p.session_id = t.session_id where name = 'dora'),
  array[6, 7]::numeric[], 'used tokens go after a week');
select is((select count(*) from private.sessions where user_id = tests.user('dora')), 1::bigint, 'ended sessions go after 30 days');
select is((select count(*) from private.sealed_answers), 0::bigint, 'sealed answers go after a day');
select is((select count(*) from private.login_history where created_at < now() - interval '90 days'), 0::bigint, 'history goes after 90 days');
select is((select count(*) from private.refresh_tokens where expires_at < now()), 0::bigint, 'expired tokens go');

select * from finish();
rollback;
