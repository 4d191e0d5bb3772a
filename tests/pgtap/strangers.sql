-- Past our server: PostgREST on Supabase, or a login that an operator handed out. Such a caller has the rights of their claims and tables.
-- They have no right that rests on facts only our server knows: a provider's statement about staff, the place of stored content, sealed
-- values.
begin;
select no_plan();
create role tests_gateway noinherit;
grant anon, authenticated, service_role to tests_gateway;
create role tests_customer noinherit in role authenticated;

select tests.act_as('anna');
create temp table project as select api.create_project('{"body": {"name": "Mine"}}') -> 'project' ->> 'id' as id;
grant select on project to public;
create temp table upload as select jsonb_build_object('files', jsonb_build_array(jsonb_build_object('name', 'a.txt', 'path', 'a.txt', 'type', 'text/plain',
  'size', 190, 'checksum', repeat('a', 64), 'storageKey', 'operator-backup/2026-11.txt', 'storageProvider', 'local'))) as p;
grant select on upload to public;
select tests.reset();

create function pg_temp.as_gateway(p_claims jsonb default '{}') returns void language plpgsql as $$
declare
  v tests.people;
begin
  select * into v from tests.people where name = 'anna';
  perform set_config('role', 'authenticated', true);
  perform set_config('request.jwt.claims',
    (jsonb_build_object('sub', v.user_id, 'sid', v.session_id, 'org_id', v.org_id, 'role', 'authenticated') || p_claims)::text, true);
  perform private.enter_claims();
end
$$;
grant execute on all functions in schema pg_temp to public;

select ok(not private.is_stranger(), 'the owner is no stranger');
set session authorization kijko_server;
select ok(private.is_stranger() is false, 'nor is the server');
set session authorization kijko_worker;
select ok(private.is_stranger() is false, 'nor is the worker');
reset session authorization;
set session authorization tests_customer;
set role authenticated;
select ok(private.is_stranger(), 'a login that an operator made is one');
reset session authorization;

-- Staff.
set session authorization tests_gateway;
select pg_temp.as_gateway('{"platform_admin": true, "roles": ["platform_admin"], "realm_access": {"roles": ["platform_admin"]}, "app_metadata": {"platform_admin": true}}');
select is(private.user_id(), tests.user('anna'), 'a gateway brings people in');
select ok(not private.is_platform_admin(), 'but makes nobody staff');
select is(api.get_me('{}') -> 'roles', '["owner"]', 'whatever the token says');
select throws_ok($$ select api.list_dead_jobs('{}') $$, 'PT403', null, 'no dead letters');
select throws_ok($$ select api.create_announcement('{"body": {"title": "Hello", "message": "Everybody"}}') $$, 'PT403', null, 'no announcements');
select pg_temp.as_gateway('{"platform_admin": "perhaps"}');
select ok(not private.is_platform_admin(), 'nor does an odd claim');
reset session authorization;
select tests.reset();
update public.users set is_platform_admin = true where id = tests.user('anna');
set session authorization tests_gateway;
select pg_temp.as_gateway();
select ok(private.is_platform_admin(), 'the table makes staff there too');
reset session authorization;
select tests.reset();
update public.users set is_platform_admin = false where id = tests.user('anna');
select tests.act_as('anna');
select set_config('request.jwt.claims', '{"platform_admin": true}', true);
select ok(private.is_platform_admin(), 'what our server vouches for counts');
select set_config('request.jwt.claims', '{"platform_admin": "true"}', true);
select ok(not private.is_platform_admin(), 'as the boolean that it writes');
select tests.reset();

-- The place of stored content, and sealed values.
set session authorization tests_gateway;
select pg_temp.as_gateway();
select throws_ok(format('select api.register_uploads(%L)', (select p from upload)), 'PT403', 'Files are uploaded through the API.', 'no content is named by its key');
select throws_ok(format('select api.register_uploads(%L)', (select p || jsonb_build_object('projectId', project.id) from upload, project)), 'PT403', 'Files are uploaded through the API.', 'nor into a project');
select throws_ok(format('select api.register_text_source(%L)', (select p -> 'files' -> 0 || jsonb_build_object('projectId', project.id) from upload, project)), 'PT403',
  'Texts are added through the API.', 'nor as a text');
select throws_ok($$ select api.set_provider_key(jsonb_build_object('provider', 'anthropic', 'sealed', 'v1.0123abcd.' || repeat('x', 80), 'lastFour', 'four')) $$, 'PT403',
  'A key is set through the API, which encrypts it.', 'no sealed key');
select throws_ok(format('select api.update_project_settings(%L)', (select jsonb_build_object('projectId', id, 'sealedWebhookSecret', 'v1.0123abcd.' || repeat('x', 80),
  'body', '{"chunkingStrategy": "custom", "webhookUrl": "https://example.org/hook"}'::jsonb) from project)), 'PT403', 'Secrets are made by the server.', 'no sealed secret');
select throws_ok($$ select api.create_project(jsonb_build_object('sealedWebhookSecret', 'v1.0123abcd.' || repeat('x', 80), 'body',
  '{"name": "Other", "settings": {"chunkingStrategy": "custom", "webhookUrl": "https://example.org/hook"}}'::jsonb)) $$, 'PT403', 'Secrets are made by the server.', 'nor in a new project');
select lives_ok(format('select api.update_project(%L)', (select jsonb_build_object('projectId', id, 'body', '{"starred": true}'::jsonb) from project)), 'all else is theirs to do');
reset session authorization;
select tests.reset();

-- Every function that takes such a value from its caller checks where the call comes from, itself or in a function that it calls.
create temp table calls as
select p.oid, p.prosrc || coalesce(pg_get_function_sqlbody(p.oid), '') as source, p.oid::regprocedure::text as signature, p.prosecdef, p.proname, n.nspname,
  array_to_string(coalesce(p.proargnames, '{}'), ' ') as arguments
from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('api', 'private') and p.prokind = 'f';
select is_empty($$
  with recursive reached (start, oid) as (
    select oid, oid from calls
    where (has_function_privilege('authenticated', oid, 'execute') or has_function_privilege('anon', oid, 'execute'))
      and (source ~* $re$->>? '[a-z]*(storagekey|sealed|keyhash|statehash)[a-z]*'$re$ or prosecdef and arguments ~ 'sealed|storage_key|secret')
    union
    select r.start, c.oid from reached r join calls o on o.oid = r.oid
    join calls c on o.source ~ ('\m' || c.nspname || '\.' || c.proname || '\(')
  )
  select c.signature from calls c where c.oid in (select start from reached)
  and not exists (select from reached r join calls o on o.oid = r.oid where r.start = c.oid and o.source ~ 'is_stranger\(|refuse_strangers\(')
$$, 'what takes keys of stored content or sealed secrets asks who is connected');

-- Functions for our server only: they take the hash of a token for the token, open sealed values, or finish what the server began.
create temp table servers as
select oid, proname, signature, source ~ 'is_stranger\(|refuse_strangers\(' as asks from calls where nspname = 'private' and proname ~ '^(enter_(key|caller)|record_key_uses|take_(units|oauth_state|integration_state)|settle_units'
  '|begin_(login|reset|oauth|password_change)|finish_|issue_|sealed_|seal_|(lease|renew|release|break|ending|forget|end)_token|refresh_session|sign_in_once|resolve_external)';
select cmp_ok((select count(*) from servers), '>', 30::bigint, 'they are found');
select is_empty($$ select signature from servers where not asks and proname <> 'finish_idempotent'
  and (has_function_privilege('anon', oid, 'execute') or has_function_privilege('authenticated', oid, 'execute')) $$,
  'people call none of them that does not ask who is connected');
select is_empty($$
  select a.attrelid::regclass, a.attname, r.rolname from pg_attribute a join pg_class c on c.oid = a.attrelid
  cross join (values ('anon'), ('authenticated')) r (rolname)
  where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'v', 'p') and a.attnum > 0 and not a.attisdropped
    and a.attname ~ '(token|key|code|state|password)_hash|sealed|secret$|verifier' and has_column_privilege(r.rolname, a.attrelid, a.attnum, 'select, insert, update')
$$, 'nor read or write a column that holds such a thing');

set session authorization tests_gateway;
select pg_temp.as_gateway();
select is(tests.refusal(format('select %s', call)) ->> 'code', 'FORBIDDEN', call) from (values
  ($$api.begin_connection('{"provider": "github", "stateHash": "00", "sealedVerifier": "v1.x"}')$$),
  ($$api.finish_connection('{"provider": "github", "stateHash": "00", "sealed": "v1.x"}')$$)
) c (call);
select throws_ok($$ select private.enter_key('\x00', 'read', '', '') $$, '42501', null, 'nobody enters by the hash of a key');
select throws_ok($$ select private.record_key_uses('{}') $$, '42501', null, 'or writes uses of keys');
select throws_ok($$ select key_hash from public.api_keys $$, '42501', null, 'or reads hashes of keys');
select ok(api.create_api_key(jsonb_build_object('keyHash', repeat('0', 64), 'keyPrefix', 'kijko_live_0000', 'body',
  '{"name": "Mine", "expiration": "never", "scopes": ["read"]}'::jsonb)) ->> 'key' is not null, 'a key is drawn here');
reset session authorization;
select tests.reset();
select is((select count(*) from public.api_keys where key_hash = decode(repeat('0', 64), 'hex')), 0::bigint, 'whatever hash its maker names');

-- Row-level security trusts the settings that private.enter makes, and a caller who runs SQL of their own can set them. So no function that
-- people may call runs its caller's text, or sets a setting that the caller names.
select is_empty($$ select signature from calls where source ~ 'set_config\(\s*[^''\s]' $$, 'each setting that is set is named in the code');
select is_empty($$ select signature from calls where source ~* '(\mbegin|\mthen|\melse|\mloop|;)\s*set\s+(local|session|role)\M' $$, 'no function changes who runs it');
-- Dynamic SQL consists of literals, quoted identifiers and pieces that the function chose among its own. arguments.sql calls these
-- functions with hostile text for each member.
create temp table dynamic as
select c.signature, regexp_replace(m[1], '\m(using|into)\M.*$', '') as text
from calls c, regexp_matches(c.source, '(?:\mbegin|\mthen|\melse|\mloop|\min|;)\s+(execute\s[^;]*)', 'gi') m;
select cmp_ok((select count(*) from dynamic), '>', 5::bigint, 'dynamic SQL is found');
select is_empty($$ select * from dynamic where text ~ '->|\mp_[a-z]+' and (text ~ '%s|%\d\$s|\|\|' or text !~ 'format\(') $$, 'none takes text of its caller');
select is_empty($$ select * from dynamic where text !~* '^execute\s+(''|format\()' $$, 'nor runs what it was given');

select * from finish();
rollback;
