-- API keys (contract 40, 6.3), by actor: making, reading and revoking keys, entering with one, and the cost of its uses.
begin;
select no_plan();
-- Anna owns an organization, Ben is a member of it, Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');

create function pg_temp.body(p_more jsonb default '{}') returns jsonb
language sql as $$ select jsonb_build_object('body', '{"name": "Deploy", "expiration": "never", "scopes": ["read"]}'::jsonb || p_more) $$;
-- Enters with a key, as the server does, and then takes the request role.
create function pg_temp.act_with(p_key text, p_needs text) returns void
language plpgsql as $$
begin
  perform tests.reset();
  perform private.enter_key(sha256(convert_to(p_key, 'UTF8')), p_needs, 'request 1', '203.0.113.7');
  perform set_config('role', 'authenticated', true);
end
$$;
grant execute on function pg_temp.body to authenticated;
-- One transaction has one now(), and keys are sorted by it.
create function pg_temp.age(p_id text, p_age interval) returns void
language sql security definer as $$ update public.api_keys set created_at = created_at - p_age where id = p_id::uuid $$;
grant execute on function pg_temp.age to authenticated;

-- Making one ------------------------------------------------------------------------------------------------------------------------
select tests.act_as('anna');
select api.create_api_key(pg_temp.body('{"name": "  Deploy\u00a0", "scopes": ["write", "read", "write"], "expiration": "custom", "customExpirationDays": 7}')) as made \gset
select :'made'::jsonb ->> 'key' as key, :'made'::jsonb ->> 'id' as id \gset
select pg_temp.age(:'id', '3 minutes');
select matches(:'key'::text, '^kijko_live_[0-9a-f]{48}$', 'a key has its form');
select is(:'made'::jsonb - 'key' - 'id' - 'expiresAt', jsonb_build_object('name', 'Deploy', 'keyPrefix', left(:'key', 20), 'scopes', '["read", "write"]'::jsonb),
  'the answer names it, trimmed, with each scope once');
select is(:'made'::jsonb ->> 'expiresAt', private.iso(now() + interval '7 days'), 'and says when it ends');
select matches(api.create_api_key(pg_temp.body('{"environment": "test", "expiration": "30", "customExpirationDays": "nonsense"}')) ->> 'key', '^kijko_test_[0-9a-f]{48}$',
  'days are ignored unless they are asked for');
select is(tests.refusal(format('select api.create_api_key(pg_temp.body(%L))', b)) - 'message', jsonb_build_object('status', 400, 'code', 'VALIDATION_ERROR', 'field', f), b)
from (values ('{"name": " ab "}', 'name'), ('{"name": null}', 'name'), ('{"name": 123}', 'name'), (jsonb_build_object('name', repeat('x', 101))::text, 'name'),
  ('{"name": "a\u0007bc"}', 'name'), ('{"name": "a\u200fbc"}', 'name'),
  ('{"scopes": []}', 'scopes'), ('{"scopes": ["root"]}', 'scopes'), ('{"scopes": [null]}', 'scopes'), ('{"scopes": "read"}', 'scopes'), ('{"scopes": null}', 'scopes'),
  ('{"expiration": "31"}', 'expiration'), ('{"expiration": 30}', 'expiration'), ('{"expiration": null}', 'expiration'),
  ('{"expiration": "custom"}', 'customExpirationDays'), ('{"expiration": "custom", "customExpirationDays": 0}', 'customExpirationDays'),
  ('{"expiration": "custom", "customExpirationDays": 366}', 'customExpirationDays'), ('{"expiration": "custom", "customExpirationDays": 1.5}', 'customExpirationDays'),
  ('{"environment": "prod"}', 'environment')) as t (b, f);
select is(api.create_api_key(pg_temp.body(jsonb_build_object('name', n))) ->> 'name', n, 'a name of ' || char_length(n) || ' is taken')
from unnest(array['abc', repeat('x', 100)]) n;

-- Reading them -------------------------------------------------------------------------------------------------------------------------
select is((select array_agg(k ->> 'name') from jsonb_array_elements(api.list_api_keys('{}')) with ordinality t (k, n) where k ->> 'id' = :'id' and n = 4), array['Deploy'],
  'the oldest one comes last');
select is(jsonb_path_query_first(api.list_api_keys('{}'), '$[*] ? (@.id == $id)', jsonb_build_object('id', :'id')) - 'createdAt' - 'expiresAt',
  jsonb_build_object('id', :'id', 'name', 'Deploy', 'keyPrefix', left(:'key', 20), 'scopes', '["read", "write"]'::jsonb, 'usageCount', 0, 'isExpired', false),
  'a key is shown without itself');
select throws_ok('select key_hash from public.api_keys', '42501', null, 'nor is its digest readable');
select is((select count(*) from public.api_keys), 4::bigint, 'the table shows one''s own');
select tests.act_as('ben');
select is(api.list_api_keys('{}'), '[]'::jsonb, 'a colleague sees none of them');
select is((select count(*) from public.api_keys), 0::bigint, 'nor in the table');
select is(tests.refusal(format('select api.revoke_api_key(''{"keyId": "%s"}'')', :'id')) ->> 'code', 'API_KEY_NOT_FOUND', 'nor revokes one');
select tests.act_as('stan');
select is(tests.refusal(format('select api.revoke_api_key(''{"keyId": "%s"}'')', :'id')) ->> 'code', 'API_KEY_NOT_FOUND', 'and a stranger neither');
select is(tests.refusal($$ select api.revoke_api_key('{"keyId": "x"}') $$) ->> 'code', 'API_KEY_NOT_FOUND', 'as with what is no id');
select tests.act_as_claims('anna');
select is(jsonb_array_length(api.list_api_keys('{}')), 4, 'through Supabase''s API they are seen as well');
select matches(api.create_api_key(pg_temp.body('{"name": "By Supabase"}')) ->> 'key', '^kijko_live_', 'and made');
select tests.act_anon();
select throws_ok($$ select api.list_api_keys('{}') $$, '42501', null, 'an anonymous caller has no keys');
select tests.act_service();
select throws_ok($$ select api.create_api_key('{}') $$, '42501', null, 'nor has the service');

-- Entering ----------------------------------------------------------------------------------------------------------------------------
select pg_temp.act_with(:'key', 'write');
select is(private.user_id(), tests.user('anna'), 'a key comes in as its owner');
select is(private.org_id(), tests.org('anna'), 'into its organization');
select is(private.org_role(), 'owner', 'with the role of now');
select is(private.has_scope('write') and private.has_scope('read') and not private.has_scope('admin') and not private.has_scope('never'), true, 'within its scope');
select is(tests.refusal($$ select private.require_scope('admin') $$) ->> 'code', 'INSUFFICIENT_SCOPE', 'and functions can demand more');
select is(tests.refusal(format('select %s', f)) ->> 'code', 'API_KEY_NOT_ALLOWED', f)
from unnest(array['api.list_api_keys(''{}'')', 'api.create_api_key(pg_temp.body())', 'api.revoke_api_key(''{"keyId": "x"}'')']) f;
select is((select count(*) from public.api_keys), 0::bigint, 'a key sees no keys');
select lives_ok($$ select api.create_skill('{"body": {"name": "By a key", "promptTemplate": "Say hello to the people of this house"}}') $$, 'a key that may write does');
select set_config('app.api_key_scope', 'read', true);
select throws_ok($$ select api.create_skill('{"body": {"name": "By a reader", "promptTemplate": "Say hello to the people of this house"}}') $$, '42501', null,
  'under one that may read nothing is written, whatever function is called');
select is((select count(*) from public.skills where name = 'By a key'), 1::bigint, 'while it reads as before');
delete from public.skills where name = 'By a key';
select is((select count(*) from public.skills where name = 'By a key'), 1::bigint, 'nor is anything deleted');
select tests.reset();
select is(tests.refusal(format('select pg_temp.act_with(%L, %L)', :'key', n)) - 'message', e::jsonb, 'a key of scope write, and ' || n)
from (values ('admin', '{"status": 403, "code": "INSUFFICIENT_SCOPE", "details": {"required": "admin", "scope": "write"}}'),
  ('never', '{"status": 403, "code": "API_KEY_NOT_ALLOWED"}')) t (n, e);
select is(tests.refusal($$ select pg_temp.act_with('kijko_live_unknown', 'read') $$) ->> 'code', 'API_KEY_INVALID', 'an unknown key stays out');
select tests.act_as('anna');
select is(private.has_scope('admin'), true, 'a session has every scope');
select throws_ok(format($$ select private.enter_key(sha256(%L), 'read', '', '') $$, :'key'), '42501', null, 'nobody but the server comes in by this door');
select throws_ok($$ select private.find_key('{}') $$, '42501', null, 'nor asks whose a key is');
select throws_ok($$ select private.take_units('{}') $$, '42501', null, 'nor takes units');

select tests.reset();
update public.api_keys set expires_at = now() where id = :'id';
select is(tests.refusal(format('select pg_temp.act_with(%L, %L)', :'key', 'read')) ->> 'code', 'API_KEY_EXPIRED', 'at its end a key has expired');
select tests.act_as('anna');
select is(jsonb_path_query_first(api.list_api_keys('{}'), '$[*] ? (@.id == $id).isExpired', jsonb_build_object('id', :'id')), 'false'::jsonb, 'and is shown as such a moment later');
select tests.reset();
update public.api_keys set expires_at = now() - interval '1 second' where id = :'id';
select tests.act_as('anna');
select is(jsonb_path_query_first(api.list_api_keys('{}'), '$[*] ? (@.id == $id).isExpired', jsonb_build_object('id', :'id')), 'true'::jsonb, 'an expired one is listed');

-- Changed memberships -------------------------------------------------------------------------------------------------------------------
select tests.act_as('ben');
select api.create_api_key(pg_temp.body('{"name": "Of Ben", "scopes": ["admin"]}')) as bens \gset
select :'bens'::jsonb ->> 'key' as bkey, :'bens'::jsonb ->> 'id' as bid \gset
select tests.reset();
update public.memberships set status = 'inactive' where user_id = tests.user('ben') and organization_id = tests.org('anna');
select is(tests.refusal(format('select pg_temp.act_with(%L, %L)', :'bkey', 'read')) - 'message', '{"status": 403, "code": "MEMBERSHIP_INACTIVE"}'::jsonb, 'a deactivated member''s key is refused');
select is(private.enter_key_again(tests.user('ben'), :'bid', '', ''), false, 'and its sockets end');
update public.memberships set status = 'active' where user_id = tests.user('ben') and organization_id = tests.org('anna');
select lives_ok(format('select pg_temp.act_with(%L, %L)', :'bkey', 'admin'), 'and works again with the member');
select tests.reset();
select is(private.enter_key_again(tests.user('ben'), :'bid', '', ''), true, 'sockets too');
select tests.reset();
update public.memberships set role = 'viewer' where user_id = tests.user('ben') and organization_id = tests.org('anna');
select pg_temp.act_with(:'bkey', 'admin');
select is(private.org_role(), 'viewer', 'its rights are those of the role of now');
select is(private.has_permission('canManageTeam'), false, 'whatever its scope');
select tests.reset();
delete from public.memberships where user_id = tests.user('ben') and organization_id = tests.org('anna');
select is(tests.refusal(format('select pg_temp.act_with(%L, %L)', :'bkey', 'read')) ->> 'code', 'API_KEY_INVALID', 'who is removed loses their keys');
select is((select revoked_reason from public.api_keys where id = :'bid'), 'membership_ended', 'for that reason');
select tests.member('ben', 'anna');
select is(tests.refusal(format('select pg_temp.act_with(%L, %L)', :'bkey', 'read')) ->> 'code', 'API_KEY_INVALID', 'also when they come back');

-- Revoking -------------------------------------------------------------------------------------------------------------------------------
select tests.act_as('anna');
select is(api.revoke_api_key(jsonb_build_object('keyId', :'id')), null::jsonb, 'the owner revokes a key');
select is(tests.refusal(format('select api.revoke_api_key(''{"keyId": "%s"}'')', :'id')) - 'message', '{"status": 404, "code": "API_KEY_NOT_FOUND"}'::jsonb, 'once');
select is(jsonb_path_exists(api.list_api_keys('{}'), '$[*] ? (@.id == $id)', jsonb_build_object('id', :'id')), false, 'it is not listed any more');
select tests.reset();
select is(tests.refusal(format('select pg_temp.act_with(%L, %L)', :'key', 'read')) ->> 'code', 'API_KEY_INVALID', 'and is out at once');
select is((select metadata from public.audit_log where event_type = 'security.api_key_created' and user_id = tests.user('anna') and metadata @> '{"keyName": "Deploy", "scopes": ["write"]}'),
  '{"keyName": "Deploy", "scopes": ["read", "write"]}'::jsonb, 'the trail has the making');
select is((select metadata from public.audit_log where event_type = 'security.api_key_revoked' and user_id = tests.user('anna')),
  '{"keyName": "Deploy", "scopes": ["read", "write"]}'::jsonb, 'and the end');
select is((select count(*) from public.notifications where user_id = tests.user('anna') and type = 'security_alert' and title = 'An API key was revoked'), 1::bigint,
  'and its holder hears of it');
select is((select count(*) from public.audit_log where metadata::text ~ '[0-9a-f]{40}' or description ~ '[0-9a-f]{40}'), 0::bigint, 'no entry holds a key');

-- The bound --------------------------------------------------------------------------------------------------------------------------------
select tests.act_as('stan');
select count(api.create_api_key(pg_temp.body())) from generate_series(1, 25);
select is(tests.refusal('select api.create_api_key(pg_temp.body())') - 'message', '{"status": 409, "code": "TOO_MANY_API_KEYS", "details": {"limit": 25}}'::jsonb, '25 keys are enough');
select api.revoke_api_key(jsonb_build_object('keyId', api.list_api_keys('{}') -> 0 ->> 'id'));
select lives_ok('select api.create_api_key(pg_temp.body())', 'a revoked one makes room');

-- Uses -------------------------------------------------------------------------------------------------------------------------------------
select tests.reset();
select api_keys.id as used, user_id from public.api_keys where name = 'By Supabase' \gset
create function pg_temp.uses(p_count integer, p_at text) returns jsonb
language sql as $$ select private.record_key_uses(jsonb_build_object('uses', jsonb_build_array(jsonb_build_object('keyId', k.id, 'count', p_count,
  'at', extract(epoch from p_at::timestamptz), 'clientIp', '203.0.113.7', 'userAgent', 'curl/8')), 'refused', '[]'::jsonb)) from public.api_keys k where k.name = 'By Supabase' $$;
select pg_temp.uses(3, '2026-03-01T23:59:59Z'), pg_temp.uses(2, '2026-03-01T10:00:00Z'), pg_temp.uses(4, '2026-03-02T00:00:00Z');
select is((select row (usage_count, last_used_at)::text from public.api_keys where id = :'used'), (row (9::bigint, '2026-03-02T00:00:00Z'::timestamptz))::text,
  'uses add up, and the last one is the latest');
select results_eq(format('select method, status, client_ip, user_agent, created_at from private.login_history where user_id = %L and method = %L order by created_at', :'user_id', 'api_key'),
  $$ values ('api_key', 'success', '203.0.113.7', 'curl/8', '2026-03-01T23:59:59Z'::timestamptz), ('api_key', 'success', '203.0.113.7', 'curl/8', '2026-03-02T00:00:00Z') $$,
  'the history has one entry a UTC day');
select private.record_key_uses(jsonb_build_object('uses', '[]'::jsonb, 'refused', (select jsonb_agg(jsonb_build_object('keyId', :'used', 'at', 1772400000 + n, 'clientIp', '', 'userAgent', ''))
  from generate_series(1, 3) n)));
select is((select count(*) from private.login_history where user_id = :'user_id' and method = 'api_key' and status = 'failed' and reason = 'API key expired'), 3::bigint,
  'and every refusal of an expired key');

select is((select count(*) from public.notifications where user_id = :'user_id' and (title ~ '^Sign-in' or title ~ '^Failed')), 0::bigint, 'none of which alarms anybody');
select tests.end_old('api_keys', now() + interval '89 days');
select is((select count(*) from public.api_keys where id = :'id'), 1::bigint, 'a revoked key stays for a while');
select tests.end_old('api_keys', now() + interval '91 days');
select is((select count(*) from public.api_keys where id = :'id'), 0::bigint, 'and then goes');

-- Units ------------------------------------------------------------------------------------------------------------------------------------
select tests.org('anna') as org, gen_random_uuid() as lease, gen_random_uuid() as other \gset
update public.subscriptions set overrides = '{"api_calls": 130}' where organization_id = :'org';
create function pg_temp.used() returns bigint language sql as $$ select coalesce(sum(used), 0)::bigint from public.usage_counters where metric = 'api_calls' and organization_id = tests.org('anna') $$;
create function pg_temp.today() returns bigint language sql as $$ select coalesce(sum(value), 0)::bigint from public.usage_trend
  where metric = 'api_calls' and organization_id = tests.org('anna') and day = (now() at time zone 'UTC')::date $$;
create function pg_temp.take(p_lease text, p_wanted integer default 16) returns jsonb
language sql as $$ select private.take_units(jsonb_build_object('organizationId', tests.org('anna'), 'leaseId', p_lease, 'wanted', p_wanted)) $$;
create function pg_temp.settle(p_lease text, p_left integer, p_ends boolean) returns jsonb
language sql as $$ select private.settle_units(jsonb_build_object('leases', jsonb_build_array(jsonb_build_object('id', p_lease, 'left', p_left, 'ends', p_ends)))) $$;
select is(pg_temp.take(:'lease') - 'resetsAt' - 'endsAt', '{"units": 2, "limit": 130, "remaining": 128}'::jsonb, 'a process takes a small part of what is left');
select is(pg_temp.take(:'lease') ->> 'units', '2', 'and more when it needs it');
select is(pg_temp.used(), 4::bigint, 'they count as used');
select is(pg_temp.today(), 4::bigint, 'today');
select pg_temp.settle(:'lease', 3, false);
select is((select units from private.unit_leases where id = :'lease'), 3::bigint, 'a lease is renewed with what is left');
select pg_temp.settle(:'lease', 3, true);
select is(pg_temp.used(), 1::bigint, 'what was not used goes back');
select is(pg_temp.today(), 1::bigint, 'of the day as well');
select pg_temp.settle(:'lease', 3, true);
select is(pg_temp.used(), 1::bigint, 'once');
select pg_temp.take(:'lease'), pg_temp.take(:'other');
update private.unit_leases set renewed_at = now() - interval '61 seconds' where id = :'lease';
select private.reclaim_units();
select is(pg_temp.used(), 2::bigint, 'a process that died gives back what it had, the others keep theirs');
update public.subscriptions set overrides = '{"api_calls": 4}' where organization_id = :'org';
select is(pg_temp.take(:'lease') ->> 'units', '1', 'near the limit units are taken one by one');
select is(pg_temp.take(:'lease') ->> 'units', '1', 'to the last one');
select is((tests.refusal(format('select pg_temp.take(%L)', :'lease')) #- '{details,resetsAt}'::text[]) - 'message'::text,
  '{"status": 429, "code": "QUOTA_EXCEEDED", "details": {"metric": "api_calls", "limit": 4, "used": 4, "requested": 1, "plan": "free"}}'::jsonb, 'and not past it');
update private.unit_leases set renewed_at = now() - interval '61 seconds' where id = :'other';
select is(pg_temp.take(:'lease') ->> 'units', '1', 'what a dead process had is there for the others');
update public.subscriptions set overrides = '{"api_calls": -1}' where organization_id = :'org';
select is(pg_temp.take(:'lease', 500) - 'resetsAt' - 'endsAt', '{"units": 500, "limit": -1, "remaining": 0}'::jsonb, 'without a limit there are as many as are wanted');

-- The score: three things that keys may be wrong in, each of them alone ---------------------------------------------------------------------
select tests.reset();
select tests.user('vera'), tests.member('otto', 'vera');
create function pg_temp.marks(p_name text) returns text
language sql security definer as $$
  select concat_ws(' ', case when not is_rotated then 'old' end, case when not is_scoped then 'wide' end, case when not is_current then 'expired' end)
  from private.score_of_keys(tests.user(p_name), tests.org(p_name)) $$;
create function pg_temp.seed(p_name text, p_hash text, p_scopes text[], p_age interval default '1 day', p_left interval default null) returns void
language sql security definer as $$
  insert into public.api_keys (organization_id, user_id, name, environment, prefix, key_hash, scopes, created_at, expires_at)
  values (tests.org(p_name), tests.user(p_name), 'Scored', 'live', 'kijko_live_123456789', sha256(p_hash::bytea), p_scopes, now() - p_age, now() + p_left) $$;
select is(pg_temp.marks('vera'), '', 'without keys nothing is wrong with any');
select pg_temp.seed('vera', 'good', array['read', 'write'], '90 days', '1 hour');
select is(pg_temp.marks('vera'), '', 'ninety days are not too many');
select pg_temp.seed('otto', 'not hers', array['admin'], '2 years', '-1 day');
select is(pg_temp.marks('vera'), '', 'a colleague''s keys are not hers');
select is(pg_temp.marks('otto'), 'expired', 'an expired key is only that: nothing can be done with it');
update public.api_keys set organization_id = tests.org('stan'), user_id = tests.user('vera') where key_hash = sha256('not hers');
select is(pg_temp.marks('vera'), '', 'nor those of another organization');
select pg_temp.seed('vera', 'old', array['read'], '90 days 1 second');
select is(pg_temp.marks('vera'), 'old', 'an old key');
update public.api_keys set revoked_at = now(), revoked_reason = 'revoked' where key_hash = sha256('old');
select is(pg_temp.marks('vera'), '', 'counts until it is revoked');
select pg_temp.seed('vera', 'wide', array['read', 'admin']);
select is(pg_temp.marks('vera'), 'wide', 'a key that may do everything');
update public.api_keys set revoked_at = now(), revoked_reason = 'revoked' where key_hash = sha256('wide');
select pg_temp.seed('vera', 'expired', array['admin'], '1 year', '0 seconds');
select is(pg_temp.marks('vera'), 'expired', 'an expired key that lies around');
select pg_temp.seed('vera', 'both', array['admin'], '91 days');
select is(pg_temp.marks('vera'), 'old wide expired', 'all three at once');
select tests.act_as('vera');
select is(jsonb_path_query_array(api.get_security_score('{}'), '$.categories[*].items[*] ? (@.id like_regex "^api-" && @.isEnabled == false).id'), '["api-1", "api-2", "api-3"]',
  'and so the score tells her');
select tests.reset();

select * from finish();
rollback;
