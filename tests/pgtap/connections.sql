-- Accounts at Git providers and directories, by actor.
begin;
select no_plan();
-- Anna owns an organization, Adam is an admin of it, Ben a member, Stan a stranger.
select tests.user('anna'), tests.member('adam', 'anna', 'admin'), tests.member('ben', 'anna'), tests.user('stan');
create role tests_gateway noinherit;
grant anon, authenticated, service_role to tests_gateway;

create function pg_temp.begun(p_provider text, p_state text) returns jsonb language sql
return jsonb_build_object('provider', p_provider, 'stateHash', encode(sha256(p_state::bytea), 'hex'), 'sealedVerifier', 'v1.0123abcd.verifier',
  'sealedUrl', 'v1.0123abcd.url', 'redirectUri', 'https://kijko.test/back', 'origin', 'https://app.kijko.test');
create function pg_temp.given(p_provider text, p_state text, p_token uuid, p_account text default '1') returns jsonb language sql
return jsonb_build_object('provider', p_provider, 'stateHash', encode(sha256(p_state::bytea), 'hex'), 'tokenId', p_token, 'sealedToken', 'v1.0123abcd.token',
  'accountId', p_account, 'username', 'hub-' || p_account, 'avatarUrl', 'javascript:alert(1)', 'scopes', '["repo"]'::jsonb);
create function pg_temp.taken(p_provider text, p_state text) returns jsonb language sql
as $$ select private.take_own_state(jsonb_build_object('provider', p_provider, 'stateHash', encode(sha256(p_state::bytea), 'hex'))) $$;
grant execute on all functions in schema pg_temp to public;

-- ------------------------------------------------------------------------------------------------------------------------- consent
select tests.act_as('anna');
select is(api.list_connections('{}'), '[]', 'nothing is connected at first');
select is(api.begin_connection(pg_temp.begun('github', 'one')), '{"sealed": "v1.0123abcd.url"}', 'a consent is begun');
select is(tests.refusal($$ select api.begin_connection('{"provider": "svn"}') $$),
  '{"status": 400, "code": "VALIDATION_ERROR", "field": "provider", "message": "Supported providers are github, gitlab, bitbucket and azure."}', 'at a provider that there is');
select is(tests.refusal($$ select api.begin_connection('{"provider": "gitlab"}') $$) - 'message',
  '{"status": 503, "code": "PROVIDER_NOT_CONFIGURED", "details": {"provider": "gitlab"}}', 'and that this installation knows');
select is(tests.refusal($$ select api.finish_connection(pg_temp.given('github', 'one', gen_random_uuid())) $$) ->> 'code', 'OAUTH_STATE_INVALID',
  'nothing is finished before its state was taken');
select is(pg_temp.taken('github', 'one') ->> 'sealedVerifier', 'v1.0123abcd.verifier', 'its person takes a state');
select is(tests.refusal($$ select pg_temp.taken('github', 'one') $$) ->> 'code', 'OAUTH_STATE_INVALID', 'once');
select is(api.finish_connection(pg_temp.given('github', 'one', '00000000-0000-4000-8000-000000000001')) - 'connectedAt',
  '{"provider": "github", "connected": true, "username": "hub-1", "scope": ["repo"]}', 'and is connected, without an address that is no page');
select is(tests.refusal($$ select api.finish_connection(pg_temp.given('github', 'one', gen_random_uuid())) $$) ->> 'code', 'OAUTH_STATE_INVALID', 'once as well');
select is(jsonb_array_length(api.list_connections('{}')), 1, 'it is shown');
select ok(api.list_connections('{}')::text !~ 'v1\.|token', 'without anything of its token');

select api.begin_connection(pg_temp.begun('gitlab', 'two'));
select tests.act_as('adam');
select is(tests.refusal($$ select pg_temp.taken('gitlab', 'two') $$) ->> 'code', 'OAUTH_STATE_INVALID', 'an admin takes no state of another person');
select is(api.list_connections('{}'), '[]', 'nor sees their connection');
select is(api.disconnect_provider('{"provider": "github"}'), '{"success": true}', 'nor ends it');
select tests.act_as('stan');
select is(tests.refusal($$ select pg_temp.taken('gitlab', 'two') $$) ->> 'code', 'OAUTH_STATE_INVALID', 'nor does a stranger');
select is(api.list_connections('{}'), '[]', 'who sees nothing either');
select tests.act_as('anna');
select is(jsonb_array_length(api.list_connections('{}')), 1, 'it is still there');
-- Another organization of the same person.
select tests.reset();
insert into public.memberships (organization_id, user_id, role) values (tests.org('stan'), tests.user('anna'), 'member');
select tests.act_as('anna');
select set_config('app.org_id', tests.org('stan')::text, true);
select is(tests.refusal($$ select pg_temp.taken('gitlab', 'two') $$) ->> 'code', 'OAUTH_STATE_INVALID', 'a state is for the organization that it was begun in');
select is(jsonb_array_length(api.list_connections('{}')), 1, 'the connection is the person''s in each of them');
select tests.act_as('anna');
select tests.reset();
update private.connection_states set expires_at = now();
select tests.act_as('anna');
select is(tests.refusal($$ select pg_temp.taken('gitlab', 'two') $$) ->> 'code', 'OAUTH_STATE_INVALID', 'and for ten minutes');

-- Past the server.
select tests.reset();
set session authorization tests_gateway;
create function pg_temp.as_gateway(p_name text) returns void language plpgsql as $$
declare
  v tests.people;
begin
  select * into v from tests.people where name = p_name;
  perform set_config('role', 'authenticated', true);
  perform set_config('request.jwt.claims', jsonb_build_object('sub', v.user_id, 'sid', v.session_id, 'org_id', v.org_id, 'role', 'authenticated')::text, true);
end
$$;
select pg_temp.as_gateway('anna');
select is(jsonb_array_length(api.list_connections('{}')), 1, 'with claims one sees one''s own');
select is(tests.refusal($$ select api.begin_connection(pg_temp.begun('github', 'three')) $$) ->> 'code', 'FORBIDDEN', 'but begins nothing');
select is(tests.refusal($$ select pg_temp.taken('github', 'three') $$) ->> 'code', 'FORBIDDEN', 'takes nothing');
select is(tests.refusal($$ select api.finish_connection(pg_temp.given('github', 'three', gen_random_uuid())) $$) ->> 'code', 'FORBIDDEN', 'and plants no token');
select throws_ok($$ select * from private.provider_tokens $$, '42501', null, 'tokens are no table of theirs');
select throws_ok($$ select * from private.lease_token('00000000-0000-4000-8000-000000000001', gen_random_uuid(), null) $$, '42501', null, 'nor given by a function');
select throws_ok($$ select private.git_token_id(tests.user('anna'), 'github') $$, '42501', null, 'nor named');
reset session authorization;
select tests.act_anon();
select throws_ok($$ select api.list_connections('{}') $$, '42501', null, 'an anonymous caller sees none');
select throws_ok($$ select private.take_state('{}') $$, '42501', null, 'and takes no state');
select tests.act_service();
select throws_ok($$ select * from private.lease_token('00000000-0000-4000-8000-000000000001', gen_random_uuid(), null) $$, '42501', null, 'the service role reads no token either');

-- A browser that returns from the provider: the server acts as the person of the state.
select tests.act_as('anna');
select api.begin_connection(pg_temp.begun('bitbucket', 'browser'));
select tests.reset();
set local role kijko_server;
select is(tests.refusal(format($$ select private.take_state(jsonb_build_object('provider', 'bitbucket', 'stateHash', encode(sha256('browser'), 'hex'), 'sessionId', %L)) $$,
  (select session_id from tests.people where name = 'stan'))) ->> 'code', 'OAUTH_STATE_INVALID', 'where another person is signed in nothing is taken');
select is(private.take_state(jsonb_build_object('provider', 'bitbucket', 'stateHash', encode(sha256('browser'), 'hex'), 'sessionId',
  (select session_id from tests.people where name = 'anna'))) ->> 'userId', tests.user('anna')::text, 'a state says whose it is');
select is(private.finish_connection(pg_temp.given('bitbucket', 'browser', '00000000-0000-4000-8000-000000000002')) ->> 'provider', 'bitbucket', 'and is finished for them');
select is(tests.refusal($$ select private.finish_connection(pg_temp.given('bitbucket', 'nobody', gen_random_uuid())) $$) ->> 'code', 'OAUTH_STATE_INVALID', 'a state that is none is not');
reset role;
select tests.act_as('anna');
select is(jsonb_path_query_array(api.list_connections('{}'), '$[*].provider'), '["github", "bitbucket"]', 'in the order of the contract');

-- -------------------------------------------------------------------------------------------------------------------------- tokens
select tests.reset();
\set token '00000000-0000-4000-8000-000000000001'
\set one '00000000-0000-4000-8000-00000000000a'
\set two '00000000-0000-4000-8000-00000000000b'
select is(private.git_token_id(tests.user('anna'), 'github'), :'token', 'a person''s token has an id');
select is((select state from private.lease_token(:'token', :'one', null)), 'ok', 'a good token is used');
update private.provider_tokens set expires_at = now() + interval '30 seconds' where id = :'token';
select is((select state from private.lease_token(:'token', :'one', null)), 'refresh', 'one that is about to end is renewed by the first');
select is((select row(state, sealed)::text from private.lease_token(:'token', :'two', null)), '(wait,)', 'and the second waits');
select ok(not private.renew_token(:'token', :'two', 'v1.0123abcd.planted', null), 'who has no lease renews nothing');
select private.release_token(:'token', :'two');
select is((select state from private.lease_token(:'token', :'two', null)), 'wait', 'nor gives the lease away');
select ok(private.renew_token(:'token', :'one', 'v1.0123abcd.fresh', now() + interval '1 hour'), 'who has it does');
select is((select row(state, sealed, version)::text from private.lease_token(:'token', :'two', null)), '(ok,v1.0123abcd.fresh,2)', 'for all');
select is((select state from private.lease_token(:'token', :'two', 1)), 'ok', 'the refused version is an older one');
select is((select state from private.lease_token(:'token', :'two', 2)), 'refresh', 'or is renewed before its time');
select private.break_token(:'token', 1);
select is((select state from private.provider_tokens where id = :'token'), 'live', 'an older version breaks nothing');
select private.break_token(:'token', 2);
select is((select row(state, sealed)::text from private.lease_token(:'token', :'two', null)), '(broken,)', 'a refused one does');
select is((select count(*) from public.notifications where user_id = tests.user('anna') and type = 'system_update' and link = '/?tab=integrations'), 1::bigint, 'and its person is told');
select is((select state from private.lease_token(gen_random_uuid(), :'two', null)), 'none', 'there is no other token');
select tests.act_as('anna');
select is(api.list_connections('{}') -> 0 -> 'connected', 'false', 'a broken connection is shown as one');

-- Replacing an account, disconnecting, and deleting a person.
select api.begin_connection(pg_temp.begun('bitbucket', 'again')), pg_temp.taken('bitbucket', 'again');
select api.finish_connection(pg_temp.given('bitbucket', 'again', '00000000-0000-4000-8000-000000000003', '2'));
select tests.reset();
select is((select state from private.provider_tokens where id = '00000000-0000-4000-8000-000000000002'), 'ending', 'another account''s token is given back');
select tests.act_as('anna');
select api.disconnect_provider('{"provider": "bitbucket"}'), api.disconnect_provider('{"provider": "github"}');
select is(tests.refusal($$ select api.disconnect_provider('{}') $$) ->> 'field', 'provider', 'a provider is named');
select is(api.list_connections('{}'), '[]', 'all is disconnected');
select tests.reset();
select is((select string_agg(right(id::text, 1) || state, ' ' order by id) from private.provider_tokens), '2ending 3ending', 'live ones are given back, broken ones forgotten');
select is((select count(*) from jobs.unique_keys where key like 'connections.revoke:%'), 2::bigint, 'by jobs');
select is((select count(*) from private.ending_token('00000000-0000-4000-8000-000000000003')), 1::bigint, 'which read them');
select private.forget_token('00000000-0000-4000-8000-000000000003');
select is((select count(*) from private.ending_token('00000000-0000-4000-8000-000000000003')), 0::bigint, 'and forget them');
select tests.act_as('ben');
select api.begin_connection(pg_temp.begun('github', 'ben')), pg_temp.taken('github', 'ben');
select api.finish_connection(pg_temp.given('github', 'ben', '00000000-0000-4000-8000-000000000004'));
select tests.reset();
delete from private.git_connections where user_id = tests.user('ben');
select is((select state from private.provider_tokens where id = '00000000-0000-4000-8000-000000000004'), 'ending', 'however a connection ends');
update private.provider_tokens set updated_at = now() - interval '8 days';
select private.tend_connections();
select is((select count(*) from private.provider_tokens), 0::bigint, 'what could not be given back within a week is forgotten');

-- ----------------------------------------------------------------------------------------------------------------------- discovery
select tests.act_as('anna');
select is(api.prepare_check('{"body": {"url": "git@github.com:a/b.git"}}'), '{"provider": "github", "url": "https://github.com/a/b", "name": "a/b"}', 'an address has its parts');
select is(api.prepare_check('{"url": "https://example.org/a/b"}') -> 'valid', 'false', 'or is none');
select tests.reset();
set local role kijko_server;
select private.keep_check(jsonb_build_object('userId', tests.user('anna'), 'url', 'https://github.com/a/b', 'provider', 'github', 'info', '{"locEstimate": 10, "fileCount": 1}'::jsonb));
select private.keep_check(jsonb_build_object('userId', gen_random_uuid(), 'url', 'https://github.com/a/b', 'provider', 'github', 'info', '{}'::jsonb));
reset role;
select tests.act_as('anna');
select is(api.prepare_check('{"url": "https://github.com/a/b"}') -> 'info', '{"fileCount": 1, "locEstimate": 10}', 'what a provider told is known');
select is(private.with_known_sizes('[{"url": "https://github.com/a/b"}, {"url": "https://github.com/a/b", "fileCount": 3}, {"fileCount": null}]'),
  '[{"url": "https://github.com/a/b", "fileCount": 1, "locEstimate": 10}, {"url": "https://github.com/a/b", "fileCount": 3}, {"fileCount": null}]', 'to estimates as well');
select tests.act_as('adam');
select is(api.prepare_check('{"url": "https://github.com/a/b"}') -> 'info', null, 'to the caller alone');
select is(tests.refusal(format($$ select api.list_recent_repositories('{"userId": "%s"}') $$, tests.user('anna'))) ->> 'code', 'FORBIDDEN', 'nor is what others had ingested');
select is(api.list_recent_repositories('{"userId": "me"}'), '[]', 'one''s own is');
select is(tests.refusal($$ select api.list_recent_repositories('{}') $$) ->> 'field', 'userId', 'a user is named');

-- --------------------------------------------------------------------------------------------------------------------- directories
select tests.act_as('anna');
select api.create_project('{"body": {"name": "Directory", "privacy": "shared"}}') -> 'project' ->> 'id' as project \gset
create function pg_temp.directory(p_provider text, p_project text, p_state text) returns jsonb language sql
as $$ select pg_temp.begun(p_provider, p_state) || jsonb_build_object('projectId', p_project) $$;
create function pg_temp.codes(p_sql text) returns text language sql as $$ select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field') from tests.refusal(p_sql) r $$;
grant execute on all functions in schema pg_temp to public;
select is(api.get_directory_sync(jsonb_build_object('projectId', :'project')), null, 'no directory at first');
select is(pg_temp.codes(format($$ select api.begin_directory_sync(pg_temp.directory('github', %L, 'd1')) $$, :'project')), '400 VALIDATION_ERROR provider', 'a directory is one of two');
select is(tests.refusal(format($$ select api.begin_directory_sync(pg_temp.directory('okta', %L, 'd1')) $$, :'project')) - 'message',
  '{"status": 403, "code": "PLAN_UPGRADE_REQUIRED", "details": {"requiredPlan": "enterprise"}}', 'for plans that include it');
select tests.reset();
update public.subscriptions set plan_id = 'enterprise' where organization_id = tests.org('anna');
select tests.act_as('anna');
select is(pg_temp.codes(format($$ select api.begin_directory_sync('{"provider": "okta", "projectId": "%s"}') $$, :'project')), '503 PROVIDER_NOT_CONFIGURED', 'and known to the installation');
select is(api.begin_directory_sync(pg_temp.directory('okta', :'project', 'd1')), '{"sealed": "v1.0123abcd.url"}', 'an admin begins');
select tests.act_as('ben');
select is(pg_temp.codes(format($$ select api.get_directory_sync('{"projectId": "%s"}') $$, :'project')), '403 FORBIDDEN', 'a member sees nothing of it');
select is(pg_temp.codes(format($$ select api.begin_directory_sync(pg_temp.directory('okta', %L, 'd2')) $$, :'project')), '403 FORBIDDEN', 'begins nothing');
select is(pg_temp.codes(format($$ select api.end_directory_sync('{"projectId": "%s"}') $$, :'project')), '403 FORBIDDEN', 'and ends nothing');
select tests.act_as('stan');
select is(pg_temp.codes(format($$ select api.get_directory_sync('{"projectId": "%s"}') $$, :'project')), '404 PROJECT_NOT_FOUND', 'a stranger finds no project');
select is(pg_temp.codes(format($$ select api.begin_directory_sync(pg_temp.directory('okta', %L, 'd2')) $$, :'project')), '404 PROJECT_NOT_FOUND', 'to begin with');
select is(pg_temp.codes(format($$ select api.end_directory_sync('{"projectId": "%s"}') $$, :'project')), '404 PROJECT_NOT_FOUND', 'or to end');
select tests.act_as('anna');
select pg_temp.taken('okta', 'd1');
select is(api.finish_connection(pg_temp.given('okta', 'd1', '00000000-0000-4000-8000-000000000009')), '{"provider": "okta", "connected": true}', 'a consent connects it');
select tests.reset();
select is((select count(*) from jobs.unique_keys where key = 'connections.sync:' || :'project'), 1::bigint, 'and it is read');
\set token '00000000-0000-4000-8000-000000000009'
select is((select row(provider, token_id)::text from private.directory_work(:'project')), '(okta,' || :'token' || ')', 'by the worker');
select is(private.import_directory(:'token', 2, '[{"email": "BEN@example.nl"}, {"email": "stan@example.nl"}, {"email": "nobody@example.nl"}, {"email": "not an address"}, {"email": "anna@example.nl"}]', true),
  1, 'colleagues become members');
select is((select string_agg(concat_ws(' ', email, role, accepted_at is not null), ',' order by email) from public.project_members where project_id = :'project'),
  'anna@example.nl admin t,ben@example.nl viewer t', 'accepted viewers; strangers, accounts or not, do not');
select is(private.import_directory(:'token', 2, '[{"email": "ben@example.nl"}]', true), 1, 'reading it again brings no person twice');
select tests.act_as('anna');
select is(api.get_directory_sync(jsonb_build_object('projectId', :'project')) - 'lastSyncAt', '{"provider": "okta", "connected": true, "groupCount": 2, "memberCount": 1}', 'the status counts');
select tests.reset();
select is(private.import_directory(:'token', 1, '[]', false), 1, 'a reading that is not complete removes no member');
select is(private.import_directory(:'token', 1, '[]', true), 0, 'one that is does');
select is((select count(*) from public.project_members where project_id = :'project'), 1::bigint, 'but never the owner');
select private.import_directory(:'token', 2, '[{"email": "ben@example.nl"}, {"email": "adam@example.nl"}]', true);
update public.subscriptions set plan_id = 'free' where organization_id = tests.org('anna');
select is_empty(format('select * from private.directory_work(%L)', :'project'), 'a smaller plan reads no directory');
select private.note_directory_error(:'token', 'Away.');
select private.break_token(:'token', 1);
select tests.act_as('anna');
select is(api.get_directory_sync(jsonb_build_object('projectId', :'project')) - 'lastSyncAt',
  '{"provider": "okta", "connected": false, "groupCount": 2, "memberCount": 2, "error": "The directory has ended the connection. Connect it again."}', 'a broken one says so');
select is(api.end_directory_sync(jsonb_build_object('projectId', :'project')), '{"success": true}', 'it is disconnected');
select is(api.end_directory_sync(jsonb_build_object('projectId', :'project')), '{"success": true}', 'twice as well');
select is(api.get_directory_sync(jsonb_build_object('projectId', :'project')), null, 'and gone');
select tests.reset();
select is((select count(*) from public.project_members where project_id = :'project'), 3::bigint, 'members stay');
select is(private.import_directory(:'token', 1, '[]', true), null, 'a reading that comes late changes nothing');

select * from finish();
rollback;
