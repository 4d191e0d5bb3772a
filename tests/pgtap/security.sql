-- The second factor, policies and the allow-list, by actor: the rules hold for psql and Supabase's API as they do over HTTP.
begin;
select no_plan();
-- Anna owns an organization on plan Enterprise, Ben is a member of it, Vera a viewer, Stan a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.member('vera', 'anna', 'viewer'), tests.user('stan');
create role tests_gateway noinherit;
grant anon, authenticated, service_role to tests_gateway;

-- Rows of everybody.
select is((select count(*) from public.security_policies), (select count(*) from public.organizations), 'each organization has policies');
select ok(not bool_or(is_guarded), 'and nobody is held to any') from public.memberships;
update public.subscriptions set plan_id = 'enterprise' where organization_id = tests.org('anna');
select is((select count(*) from public.memberships where is_guarded and organization_id = tests.org('anna')), 3::bigint, 'until the plan includes rules');
select tests.member('otto', 'anna');
select ok(is_guarded, 'who joins is held to them as well') from public.memberships where user_id = tests.user('otto') and organization_id = tests.org('anna');

-- ---------------------------------------------------------------------------------------------------------------- reading, writing
select tests.act_as('ben');
select is(api.get_security_policies('{}') -> 'session' ->> 'idleTimeoutMinutes', '30', 'a member reads the policies');
select is(tests.refusal($$ select api.update_security_policies('{"body": {}}') $$) ->> 'code', 'FORBIDDEN', 'and changes none');
select is(tests.refusal($$ select api.get_ip_allow_list('{}') $$) ->> 'code', 'FORBIDDEN', 'the allow-list is for who manages the team');
select is(tests.refusal($$ select api.create_ip_entry('{"body": {"name": "x", "ipAddress": "192.0.2.1"}}') $$) ->> 'code', 'FORBIDDEN', 'to write');
select is(tests.refusal($$ select api.update_ip_allow_list('{"body": {"mode": "warn"}}') $$) ->> 'code', 'FORBIDDEN', 'in any way');
select throws_ok($$ update public.security_policies set idle_minutes = 0 $$, '42501', null, 'nobody writes the row itself');
select throws_ok($$ select ip_mode from public.security_policies $$, '42501', null, 'the list''s settings are not for members to read');
select tests.act_as('anna');
select throws_ok($$ insert into public.ip_allow_list_entries (organization_id, name, network, is_range) select private.org_id(), 'x', '192.0.2.1', false $$, '42501', null, 'not even the owner');
select is(api.update_security_policies('{"body": {"session": {"idleTimeoutMinutes": 0}}}') -> 'session' ->> 'idleTimeoutMinutes', '0', 'the owner changes policies');
select is(tests.refusal($$ select api.update_security_policies('{"body": {"password": {"minLength": 40}}}') $$) ->> 'field', 'password.minLength', 'within their bounds');
select is(tests.refusal($$ select api.update_security_policies('{"body": {"authentication": {"require2fa": "all"}}}') $$) - 'message',
  '{"status": 409, "code": "TWO_FACTOR_SETUP_REQUIRED", "field": "authentication.require2fa"}', 'and demands nothing that she lacks');
select is(tests.refusal($$ select api.update_security_policies('{"body": {"authentication": {"ssoEnforcement": true}}}') $$) ->> 'code', 'SSO_NOT_CONFIGURED', 'nor a way in that she has not come');
select api.create_ip_entry('{"body": {"name": "Office", "ipRange": "10.1.0.0/16"}}') ->> 'id' as entry \gset
select is((select count(*) from public.ip_allow_list_entries), 1::bigint, 'who manages the team reads the entries');
select is(api.update_ip_entry(jsonb_build_object('entryId', :'entry', 'body', '{"name": "Office 1"}'::jsonb)) ->> 'name', 'Office 1', 'changes them');
select is(api.get_ip_allow_list('{}') -> 'entries' -> 0 ->> 'ipRange', '10.1.0.0/16', 'and sees the list');
select tests.act_as('ben');
select is((select count(*) from public.ip_allow_list_entries), 0::bigint, 'a member does not');
select tests.act_as('stan');
select is(tests.refusal(format($$ select api.update_ip_entry('{"entryId": "%s", "body": {"name": "x"}}') $$, :'entry')) ->> 'code', 'PLAN_UPGRADE_REQUIRED', 'a stranger''s plan has no list');
select tests.reset();
update public.subscriptions set plan_id = 'enterprise' where organization_id = tests.org('stan');
select tests.act_as('stan');
select is(tests.refusal(format($$ select api.update_ip_entry('{"entryId": "%s", "body": {"name": "x"}}') $$, :'entry')) ->> 'code', 'NOT_FOUND', 'and finds no entry of others');
select is(tests.refusal(format($$ select api.delete_ip_entry('{"entryId": "%s"}') $$, :'entry')) ->> 'code', 'NOT_FOUND', 'to delete either');
select tests.act_anon();
select throws_ok($$ select api.get_security_policies('{}') $$, '42501', null, 'nobody reads nothing');
select throws_ok($$ select api.set_up_two_factor('{}') $$, '42501', null, 'and sets nothing up');
select tests.act_service();
select throws_ok($$ select api.get_security_score('{}') $$, '42501', null, 'nor does the service');

-- ------------------------------------------------------------------------------------------------------ strangers and second factors
set session authorization tests_gateway;
select tests.act_as_claims('anna');
select private.enter_claims();
select is(api.get_two_factor('{}') ->> 'isEnabled', 'false', 'past the server the state can be read');
select is(tests.refusal(format('select api.%I(%L)', f, jsonb_build_object('sealedSecret', 'v1.0123abcd.' || repeat('x', 80), 'step', 1, 'attempt', 1,
  'checkedSecret', 'v1.x', 'isPasswordRight', true, 'backupHashes', '[]'::jsonb, 'codeHashes', '[]'::jsonb))) ->> 'code', 'FORBIDDEN', 'but not ' || f)
from unnest(array['set_up_two_factor', 'verify_two_factor', 'disable_two_factor', 'regenerate_backup_codes']) f;
select throws_ok(format('select private.%I(''{}'')', f), '42501', null, f || ' is for the server only')
from unnest(array['begin_second_factor', 'finish_second_factor', 'begin_second_factor_call', 'password_rules', 'compliance_file']) f;
reset session authorization;
select tests.reset();

-- ------------------------------------------------------------------------------------------------------------ the code, step by step
select tests.act_as('anna');
select lives_ok($$ select api.set_up_two_factor('{"sealedSecret": "v1.a.secret"}') $$, 'a secret waits');
select is(tests.refusal($$ select api.set_up_two_factor('{}') $$) ->> 'field', 'sealedSecret', 'made by the server');
select is(api.verify_two_factor('{"attempt": 1, "checkedSecret": "v1.a.secret"}'), '{"valid": false}', 'a wrong code says so');
select is(tests.refusal($$ select api.verify_two_factor('{"attempt": 2, "checkedSecret": "v1.a.other", "step": 100}') $$) ->> 'code', 'TWO_FACTOR_NOT_PENDING', 'a code of another secret is none');
select is(tests.refusal($$ select api.verify_two_factor('{"attempt": 2, "checkedSecret": "v1.a.secret", "step": 100}') $$) ->> 'field', 'codeHashes', 'backup codes belong to it');
select is(api.verify_two_factor(jsonb_build_object('attempt', 3, 'checkedSecret', 'v1.a.secret', 'step', 100, 'sealedCodes', 'v1.codes', 'codeHashes',
  (select jsonb_agg(encode(sha256(n::text::bytea), 'hex')) from generate_series(1, 10) n))) -> 'status' ->> 'backupCodesRemaining', '10', 'a right code switches it on');
select is(tests.refusal($$ select api.verify_two_factor('{}') $$) ->> 'code', 'TWO_FACTOR_NOT_PENDING', 'once');
select is(jsonb_array_length(api.list_backup_codes('{}')), 10, 'ten codes on paper');
select tests.reset();
select ok(not private.use_second_factor(tests.user('anna'), '{"step": 100, "checkedSecret": "v1.a.secret"}'), 'the step that switched it on is used');
select ok(private.use_second_factor(tests.user('anna'), '{"step": 101, "checkedSecret": "v1.a.secret"}'), 'the next one is not');
select ok(not private.use_second_factor(tests.user('anna'), '{"step": 101, "checkedSecret": "v1.a.secret"}'), 'but works once');
select ok(not private.use_second_factor(tests.user('anna'), '{"step": 105, "checkedSecret": "v1.a.former"}'), 'and for this secret');
select ok(not private.use_second_factor(tests.user('ben'), '{"step": 105, "checkedSecret": "v1.a.secret"}'), 'and this person');
select ok(private.use_second_factor(tests.user('anna'), jsonb_build_object('backupHashes', jsonb_build_array(encode(sha256('7'), 'hex'), repeat('0', 64)))), 'a code on paper works');
select ok(not private.use_second_factor(tests.user('anna'), jsonb_build_object('backupHashes', jsonb_build_array(encode(sha256('7'), 'hex')))), 'once');
select ok(not private.use_second_factor(tests.user('anna'), '{}'), 'nothing is no code');

-- ----------------------------------------------------------------------------------------------------- rules hold past the server too
-- The policies of an organization apply to claims too: the functions that read claims and the gateway's hook check a member against them.
create function pg_temp.past_server(p_name text, p_path text default '/projects') returns text language plpgsql as $$
begin
  perform tests.act_as_claims(p_name), set_config('request.path', p_path, true);
  return coalesce((tests.refusal('select private.enter_claims()') ->> 'code'), 'let in');
end
$$;
create function pg_temp.by_claims(p_name text) returns text language plpgsql as $$
begin
  perform tests.act_as_claims(p_name);
  return concat_ws(' ', case when private.user_id() is not null then 'user' end, case when private.org_id() is not null then 'org' end, private.org_role());
end
$$;
create function pg_temp.by_server(p_name text, p_address text, p_unrestricted text default '') returns text language plpgsql as $$
declare
  v tests.people;
begin
  perform tests.reset(), set_config('app.warned', '', true);
  select * into v from tests.people where name = p_name;
  perform set_config('app.unrestricted', p_unrestricted, true);
  return coalesce(tests.refusal(format('select private.enter(%L, %L, %L, ''{}'', ''r'', %L)', v.user_id, v.session_id, v.org_id, p_address)) ->> 'code',
    case current_setting('app.warned', true) when 'on' then 'let in with a warning' else 'let in' end);
end
$$;
create function pg_temp.rule(p_set text) returns void language plpgsql as $$
begin
  perform tests.reset();
  execute 'update public.security_policies set ' || p_set || ' where organization_id = tests.org(''anna'')';
end
$$;

select is(pg_temp.past_server('ben'), 'let in', 'without a rule claims enter');
select is(pg_temp.by_claims('ben'), 'user org member', 'and are read');

select pg_temp.rule($$ require_second_factor = 'all' $$);
select is(pg_temp.by_server('ben', '127.0.0.1'), 'TWO_FACTOR_SETUP_REQUIRED', 'who has no second factor is sent to set one up');
select is(pg_temp.by_server('ben', '127.0.0.1', 'on'), 'let in', 'and let in for that');
select is(pg_temp.past_server('ben'), 'TWO_FACTOR_SETUP_REQUIRED', 'past the server too');
select is(pg_temp.past_server('ben', '/rpc/get_me'), 'let in', 'where they may read who they are');
select is(pg_temp.past_server('ben', '/rpc/get_me/../projects'), 'TWO_FACTOR_SETUP_REQUIRED', 'by that path and no other');
select is(pg_temp.by_claims('ben'), '', 'claims alone see nothing');
select is(pg_temp.by_server('anna', '127.0.0.1'), 'let in', 'who has one goes in');
select is(pg_temp.by_claims('anna'), 'user org owner', 'everywhere');
select pg_temp.rule($$ require_second_factor = 'admins' $$);
select is(pg_temp.by_server('ben', '127.0.0.1'), 'let in', 'of admins only admins need one');
select tests.reset();
update public.users set two_factor_enabled_at = null where id = tests.user('anna');
select is(pg_temp.by_server('anna', '127.0.0.1'), 'TWO_FACTOR_SETUP_REQUIRED', 'the owner is one');
select is(pg_temp.by_claims('anna'), '', 'by claims as well');
select tests.reset();
update public.users set two_factor_enabled_at = now() where id = tests.user('anna');

select pg_temp.rule($$ require_second_factor = 'none', expiry_days = 30 $$);
insert into private.credentials (user_id, password_hash, meets_policy, changed_at)
select tests.user('ben'), '$argon2id$v=19$m=19456,t=2,p=1$x', true, now() - interval '31 days';
select is(pg_temp.by_server('ben', '127.0.0.1'), 'PASSWORD_EXPIRED', 'an old password is to be changed first');
select is(pg_temp.by_server('ben', '127.0.0.1', 'on'), 'let in', 'and can be');
select is(pg_temp.past_server('ben'), 'PASSWORD_EXPIRED', 'past the server too');
select is(pg_temp.by_server('vera', '127.0.0.1'), 'let in', 'who has none has no old one');
select pg_temp.rule($$ sso_enforced = true $$);
select is(pg_temp.by_server('ben', '127.0.0.1'), 'let in', 'a password that opens nothing may be old');
select pg_temp.rule($$ sso_enforced = false, expiry_days = 0 $$);

select pg_temp.rule($$ ip_mode = 'enforce' $$);
select is(pg_temp.by_server('ben', '10.1.2.3'), 'let in', 'a listed address goes in');
select is(pg_temp.by_server('ben', '::ffff:10.1.2.3'), 'let in', 'written either way');
select is(pg_temp.by_server('ben', '10.2.0.1'), 'IP_NOT_ALLOWED', 'another does not');
select is(pg_temp.by_server('ben', '10.2.0.1', 'on'), 'IP_NOT_ALLOWED', 'for whatever purpose');
select is(pg_temp.by_server('ben', 'no address'), 'IP_NOT_ALLOWED', 'nor what is none');
select is(pg_temp.by_server('ben', ''), 'let in', 'what was checked before is not checked again');
select is(pg_temp.past_server('ben'), 'IP_NOT_ALLOWED', 'past the server nobody vouches for an address');
select is(pg_temp.by_claims('ben'), '', 'so claims see nothing');
select is(pg_temp.by_server('anna', '10.2.0.1'), 'let in', 'the owner passes while the bypass is on');
select is(pg_temp.by_claims('anna'), 'user org owner', 'by claims as well');
select pg_temp.rule($$ ip_admin_bypass = false $$);
select is(pg_temp.by_server('anna', '10.2.0.1'), 'IP_NOT_ALLOWED', 'and not when it is off');
select is(pg_temp.past_server('anna'), 'IP_NOT_ALLOWED', 'anywhere');
select pg_temp.rule($$ ip_mode = 'warn' $$);
select is(pg_temp.by_server('ben', '10.2.0.1'), 'let in with a warning', 'a list that warns lets in');
select is(pg_temp.past_server('ben'), 'let in', 'past the server too');
select tests.reset();
select private.note_address(session_id, user_id, org_id, '10.2.0.1') from tests.people where name = 'ben';
select private.note_address(session_id, user_id, org_id, '10.2.0.1') from tests.people where name = 'ben';
select is(pg_temp.by_server('ben', '10.2.0.1'), 'let in', 'and warns once');
select tests.reset();
select is((select count(*) from private.login_history where user_id = tests.user('ben')), 1::bigint, 'with one line in the history');
select lives_ok($$ select private.note_address(gen_random_uuid(), gen_random_uuid(), null, '10.2.0.1') $$, 'of a person who is gone nothing is noted');
-- API keys are checked against the allow-list only.
select pg_temp.rule($$ ip_mode = 'enforce', ip_admin_bypass = true, require_second_factor = 'all' $$);
select lives_ok($$ select private.enter_guarded_key(tests.org('anna'), 'member', '10.1.2.3', gen_random_uuid()) $$, 'a key comes from a listed address');
select is(tests.refusal($$ select private.enter_guarded_key(tests.org('anna'), 'member', '10.2.0.1', gen_random_uuid()) $$) ->> 'code', 'IP_NOT_ALLOWED', 'and from no other');
select lives_ok($$ select private.enter_guarded_key(tests.org('anna'), 'owner', '10.2.0.1', gen_random_uuid()) $$, 'the owner''s passes');
select pg_temp.rule($$ ip_mode = 'warn', require_second_factor = 'none' $$);
select lives_ok($$ select private.enter_guarded_key(tests.org('anna'), 'member', '10.2.0.1', gen_random_uuid()) $$, 'a warning lets it in');
select is(current_setting('app.warned', true), 'on', 'and is told');
select pg_temp.rule($$ ip_mode = 'disabled' $$);

update private.sessions set signed_in_at = now() - interval '8 hours' where user_id = tests.user('ben');
select is(pg_temp.by_server('ben', '127.0.0.1', 'on'), 'SESSION_EXPIRED', 'a session ends so long after signing in');
select is(pg_temp.past_server('ben', '/rpc/get_me'), 'SESSION_EXPIRED', 'past the server too');
select is(pg_temp.by_claims('ben'), '', 'and its claims with it');
select tests.reset();
select private.end_overdue_sessions(null);
select is(revoked_reason, 'policy', 'the sweep ends it') from private.sessions where user_id = tests.user('ben');

-- ---------------------------------------------------------------------------------------------------------------- passwords, the score
select is(private.password_rules(jsonb_build_object('user_id', tests.user('stan'))) - 'formerHashes',
  '{"minLength": 8, "upper": true, "lower": true, "number": true, "symbol": false, "isPolicy": true}', 'where nothing is set the default policy is in force');
update public.subscriptions set plan_id = 'free' where organization_id = tests.org('stan');
select is(private.password_rules(jsonb_build_object('user_id', tests.user('stan'))) ->> 'isPolicy', 'false', 'elsewhere the rule of everybody');
select pg_temp.rule($$ min_length = 14, require_symbol = true, require_uppercase = false, prevent_reuse = 3 $$);
update public.subscriptions set plan_id = 'enterprise' where organization_id = tests.org('stan');
select is(private.password_rules(jsonb_build_object('user_id', tests.user('stan'), 'organization_id', tests.org('anna'))) - 'formerHashes',
  '{"minLength": 14, "upper": true, "lower": true, "number": true, "symbol": true, "isPolicy": true}', 'of two organizations the stricter rule counts');
insert into public.team_invitations (organization_id, email, role, token_hash, expires_at, invited_by)
select tests.org('anna'), 'new@example.nl', 'member', sha256('invited'), now() + interval '1 day', tests.user('anna');
select is(private.password_rules(jsonb_build_object('invitation_hash', encode(sha256('invited'), 'hex'))) ->> 'minLength', '14', 'who is invited is held to the rule of who invites');
select is(private.password_rules(jsonb_build_object('invitation_hash', encode(sha256('invented'), 'hex'))) ->> 'isPolicy', 'false', 'an invented invitation to none');
update public.team_invitations set status = 'cancelled' where token_hash = sha256('invited');
select is(private.password_rules(jsonb_build_object('invitation_hash', encode(sha256('invited'), 'hex'))) ->> 'isPolicy', 'false', 'nor one that was withdrawn');
insert into private.credentials (user_id, password_hash, meets_policy) select tests.user('vera'), '$argon2id$0', true;
select lives_ok(format($$ update private.credentials set password_hash = '$argon2id$%s', changed_at = changed_at + interval '1 s' where user_id = tests.user('vera') $$, n), 'a change')
from generate_series(1, 30) n;
select is(private.password_rules(jsonb_build_object('user_id', tests.user('vera'))) -> 'formerHashes', '["$argon2id$30", "$argon2id$29", "$argon2id$28"]', 'the last three are not taken again');
select is((select count(*) from private.password_history where user_id = tests.user('vera')), 24::bigint, 'twenty-four are kept');
select lives_ok($$ update private.credentials set password_hash = '$argon2id$same' where user_id = tests.user('vera') $$, 'the same one hashed anew is no change');
select is((select count(*) from private.password_history where password_hash = '$argon2id$30'), 0::bigint, 'and leaves nothing');
select pg_temp.rule($$ prevent_reuse = 0 $$);
select is(jsonb_array_length(private.password_rules(jsonb_build_object('user_id', tests.user('vera'))) -> 'formerHashes'), 1, 'the present one never');

select tests.act_as('anna');
select is(api.get_security_score('{}') ->> 'maxScore', '100', 'the score is read');
select is((api.refresh_security_score('{}') -> 'recommendations' -> 0 ->> 'category'), 'authentication', 'and computed anew');
select is(jsonb_array_length(api.get_compliance('{}') -> 'frameworks'), 4, 'four frameworks are told');
select is(tests.refusal($$ select api.download_compliance_document('{"documentId": "x"}') $$) ->> 'code', 'NOT_FOUND', 'no document is on file');
select is(tests.refusal($$ select api.update_compliance('{"body": {}}') $$) ->> 'code', 'FORBIDDEN', 'only the staff say more');
select throws_ok($$ update public.compliance_frameworks set score = 100 $$, '42501', null, 'by the function only');
select tests.reset();

-- ---------------------------------------------------------------------------------------------------------------------- the rows
select throws_ok($$ update public.security_policies set idle_minutes = -1 $$, '23514', null, 'a policy stays within its bounds');
select throws_ok($$ update public.security_policies set allow_password = false, allow_magic_link = false $$, '23514', null, 'some way in stays open');
select throws_ok($$ update public.ip_allow_list_entries set network = '10.1.0.1/16' $$, '23514', null, 'a range begins at its first address');
select is((private.begin_second_factor('{"challenge_hash": "00"}')), '{}', 'an unknown token is nothing');
select is(private.finish_second_factor('{"challenge_hash": "00"}') -> 'problem' ->> 'code', 'INVALID_TWO_FACTOR_CODE', 'and proves nothing');
select lives_ok($$ select private.end_overdue_sessions(null, now()) $$, 'sessions that outlived their policy end');

-- What a request is held to, in one row: the short answer (yes) is given exactly where the long one finds nothing.
select is((select count(*) from public.organizations o where not exists (select from private.guards g where g.organization_id = o.id)), 0::bigint, 'each organization has its row');
select is((select count(*) from public.users u left join private.credentials c on c.user_id = u.id where u.password_changed_at is distinct from c.changed_at), 0::bigint,
  'and each person the age of their password');
create temp table verdicts as
select g.ip_mode, r.role, f.has_factor, a.signed_in, a.last_active, i.ip, w.changed,
  private.meets_guard(g, r.role, f.has_factor, now() - a.signed_in, now() - a.last_active, i.ip, now() - w.changed) as meets,
  private.assert_guard(g, r.role, f.has_factor, now() - a.signed_in, now() - a.last_active, i.ip, now() - w.changed) as verdict
from (select row(gen_random_uuid(), l.session_length, l.idle_length, l.password_length, q.roles, m.mode,
    case when m.mode = 'disabled' then '{owner,admin,member,viewer}' when m.bypass then '{owner,admin}' else '{}' end::text[], m.networks)::private.guards as g
  from (values (null::interval, null::interval, null::interval), ('8 hours', '31 minutes', '30 days'), (null, '31 minutes', null)) l (session_length, idle_length, password_length)
  cross join (values ('{}'::text[]), ('{owner,admin}'), ('{owner,admin,member,viewer}')) q (roles)
  cross join (values ('disabled', true, '{}'::inet[]), ('warn', true, '{}'), ('warn', false, '{10.0.0.0/8}'), ('enforce', true, '{10.0.0.0/8,2001:db8::/32}'), ('enforce', false, '{}')) m (mode, bypass, networks)) x
cross join lateral (select (x.g).*) g
cross join (values ('owner'), ('member')) r (role) cross join (values (true), (false)) f (has_factor)
cross join (values (interval '1 hour', interval '1 minute'), ('8 hours', '1 minute'), ('1 hour', '31 minutes')) a (signed_in, last_active)
cross join (values ('10.1.2.3'), ('192.0.2.1'), ('2001:db8::1'), (''), (null), ('::ffff:10.1.2.3'), ('no address')) i (ip)
cross join (values (interval '1 day'), ('30 days'), (null)) w (changed);
select is((select count(*) from verdicts v where v.meets and v.verdict is not null), 0::bigint, 'what meets all rules breaks none');
select is((select count(*) from verdicts v where not coalesce(v.meets, false) and v.verdict is null and v.ip is distinct from '::ffff:10.1.2.3'), 0::bigint,
  'what does not breaks one, but for the other notation of an address, which the long answer reads');
select set_eq('select distinct verdict from verdicts', array['SESSION_EXPIRED', 'IP_NOT_ALLOWED', 'TWO_FACTOR_SETUP_REQUIRED', 'PASSWORD_EXPIRED', 'warned', null], 'all verdicts are among them');

select * from finish();
rollback;
