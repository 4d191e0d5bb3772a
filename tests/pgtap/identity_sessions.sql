-- A person's own sessions and sign-ins, also for a caller who bypasses the server with claims.
begin;
select no_plan();
select tests.user('anna'), tests.user('stan');
create function pg_temp.code(p_sql text) returns text language sql as $$ select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field', r ->> 'message') from tests.refusal(p_sql) r $$;
create temp table own as select user_id, session_id from tests.people where name = 'anna';
create temp table other as
with made as (
  insert into private.sessions (user_id, organization_id, device, client_ip, last_active_at, expires_at, idle_expires_at)
  select tests.user('anna'), tests.org('anna'), '{"browser": "Firefox", "os": "Linux", "deviceType": "desktop", "userAgent": "secret"}', '192.0.2.1', now() - make_interval(hours => n), now() + interval '1 day', now() + interval '1 day'
  from generate_series(1, 3) n returning id, last_active_at
) select id, row_number() over (order by last_active_at desc) as n from made;
insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at) values
  (tests.user('anna'), tests.org('anna'), now() - interval '1 second', now() + interval '1 day'), (tests.user('anna'), tests.org('anna'), now() + interval '1 day', now() - interval '1 second');
grant select on own, other to public;

select tests.act_as_claims('anna');
select is(jsonb_array_length(api.list_sessions('{}')), 4, 'living ones only');
select is(api.list_sessions('{}') @> '[{"deviceInfo": {"browser": "Firefox", "os": "Linux", "deviceType": "desktop"}, "ipAddress": "192.0.2.1", "location": {"city": "Unknown", "country": "Unknown"}}]', true, 'as they were');
select is(api.list_sessions('{}')::text like '%secret%', false, 'without the text of the client');
select is(pg_temp.code(format('select api.terminate_session(%L)', jsonb_build_object('sessionId', session_id))), '409 CANNOT_TERMINATE_CURRENT This is the session that you are using. Sign out instead.', 'not the own one') from own;
select is(api.terminate_session(jsonb_build_object('sessionId', id)), null, 'another one') from other where n = 1;
select is(pg_temp.code(format('select api.terminate_session(%L)', jsonb_build_object('sessionId', id))), format('404 NOT_FOUND Session with ID %s not found', id), 'once') from other where n = 1;
select is(pg_temp.code($$ select api.terminate_session('{"sessionId": "x"}') $$), '404 NOT_FOUND Session with ID x not found', 'what is no id is none');
select is(pg_temp.code($$ select api.terminate_session('{}') $$), '404 NOT_FOUND Session with ID  not found', 'nor is nothing');
select tests.act_as('stan');
select is(pg_temp.code(format('select api.terminate_session(%L)', jsonb_build_object('sessionId', id))), format('404 NOT_FOUND Session with ID %s not found', id), 'not by a stranger') from other where n = 2;
select is(api.terminate_other_sessions('{}'), '{"terminated": 0}', 'who has no others ends none');
select tests.act_as('anna');
select is(api.list_sessions('{}') -> 0 -> 'isCurrent', 'true', 'the own one comes first');
select is(api.terminate_other_sessions('{}'), '{"terminated": 2}', 'all others');
select is(jsonb_array_length(api.list_sessions('{}')), 1, 'one is left');
select tests.reset();
select is((select count(*)::int from public.audit_log where event_type = 'security.session_terminated' and user_id = tests.user('anna')), 3, 'an entry for each');
select is((select count(*)::int from private.sessions where revoked_reason = 'terminated'), 3, 'with its reason');

-- Sign-ins: methods and reasons of the contract, each as it is shown.
insert into private.login_history (user_id, method, status, reason, client_ip, created_at)
select tests.user('anna'), m, s, r, '192.0.2.1', now() - make_interval(hours => n)
from (values ('signup', 'success', null, 1), ('2fa', 'success', null, 2), ('password', 'failed', 'Invalid password', 3), ('sso', 'blocked', 'IP address blocked', 4),
  ('api_key', 'failed', 'API key expired', 5), ('magic_link', 'success', null, 6)) v (m, s, r, n);
select tests.act_as_claims('anna');
select is((select string_agg(concat_ws(' ', e ->> 'authMethod', e ->> 'status', e ->> 'failureReason'), ', ') from jsonb_array_elements(api.list_login_history('{}') -> 'entries') e),
  'password success, 2fa success, password failed Invalid password, sso blocked IP address blocked, api_key failed API key expired, magic_link success', 'newest first');
select is(api.list_login_history('{"status": "failed"}') - 'entries', '{"total": 2, "hasMore": false, "statusCounts": {"success": 3, "failed": 2, "blocked": 1}}', 'the numbers ignore the status');
select is(pg_temp.code(format('select api.list_login_history(%L)', p)), x, p) from (values ('{"status": "x"}', '400 VALIDATION_ERROR status Status must be one of success, failed, blocked.'),
  ('{"dateFrom": "x"}', '400 VALIDATION_ERROR dateFrom This is no ISO-8601 date or time.'), ('{"dateTo": "x"}', '400 VALIDATION_ERROR dateTo This is no ISO-8601 date or time.')) v (p, x);
select is((select count(*)::int from regexp_matches(api.export_login_history('{}') ->> 'content', '\n', 'g')), 7, 'all of them in the file');
select is(api.export_login_history('{"after": {"at": "x", "id": 1}}') ->> 'content' like '"%', true, 'a place that is none is the beginning');
select tests.act_as('stan');
select is(api.list_login_history('{}') -> 'total', '0', 'a stranger sees their own');
select tests.act_anon();
select throws_ok(q, '42501', null, q) from unnest(array['select api.list_sessions(''{}'')', 'select api.terminate_session(''{}'')', 'select api.terminate_other_sessions(''{}'')',
  'select api.list_login_history(''{}'')', 'select api.export_login_history(''{}'')']) q;
select tests.act_service();
select throws_ok($$ select api.list_sessions('{}') $$, '42501', null, 'nor does the service have any');
select tests.reset();
select throws_ok($$ insert into private.login_history (user_id, method, status) values (tests.user('anna'), 'carrier_pigeon', 'success') $$, '23514', null, 'the methods are the contract''s');
-- A trigger sets the device of the request in a row about a sign-in.
select set_config('app.device', '{"browser": "Safari", "os": "iOS", "deviceType": "mobile"}', true);
insert into private.login_history (user_id, method, status) values (tests.user('stan'), 'password', 'success');
insert into private.sessions (user_id, expires_at, idle_expires_at) values (tests.user('stan'), now() + interval '1 day', now() + interval '1 day');
select is((select device ->> 'browser' from private.login_history where user_id = tests.user('stan')), 'Safari', 'a sign-in');
select is((select count(*)::int from private.sessions where user_id = tests.user('stan') and device ->> 'browser' = 'Safari'), 1, 'a session');
select is(private.client_metadata(), '{"os": "iOS", "browser": "Safari", "location": "Unknown"}', 'and the trail');
select set_config('app.device', '', true);
select is(private.client_metadata(), '{"os": "Unknown", "browser": "Unknown", "location": "Unknown"}', 'which says so where nothing is known');
select * from finish();
rollback;
