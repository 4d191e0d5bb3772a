-- The profile, by actor: what a person may change of their own profile past our server; no person changes another's.
begin;
select no_plan();
-- Anna owns an organization, Ben is a member of it, Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');

select tests.act_as('anna');
select is(api.get_profile('{}') ->> 'email', 'anna@example.nl', 'the owner reads hers');
select is(api.update_profile('{"body": {"firstName": " Ann ", "company": "Kijko", "role": "developer", "timezone": "Europe/Paris", "useGravatar": true}}') - 'createdAt' - 'updatedAt' - 'id',
  '{"email": "anna@example.nl", "emailVerified": true, "firstName": "Ann", "lastName": "Test", "company": "Kijko", "role": "developer", "timezone": "Europe/Paris",
    "useGravatar": true}'::jsonb, 'and changes it');
select is((select u.avatar_url from public.users u where u.id = private.user_id()), 'https://www.gravatar.com/avatar/' || encode(sha256('anna@example.nl'), 'hex') || '?s=80&d=mp', 'others see the picture at Gravatar');
select is(tests.refusal(format('select api.update_profile(%L)', jsonb_build_object('body', b::jsonb))) - 'message', jsonb_build_object('status', 400, 'code', 'VALIDATION_ERROR', 'field', f), b)
from (values ('{"firstName": ""}', 'firstName'), ('{"firstName": null}', 'firstName'), ('{"firstName": {}}', 'firstName'), ('{"lastName": [1]}', 'lastName'),
  ('{"company": 5}', 'company'), ('{"role": "owner"}', 'role'), ('{"timezone": "Mars"}', 'timezone'), ('{"useGravatar": null}', 'useGravatar'),
  ('{"useGravatar": "x"}', 'useGravatar'), ('{"email": "x"}', 'email'), ('{"email": null}', 'email'), ('{"email": 5}', 'email')) t (b, f);
select is(tests.refusal($$ select api.update_profile('{"body": {"email": "ben@example.nl"}}') $$) - 'message', '{"status": 409, "code": "EMAIL_TAKEN", "field": "email"}'::jsonb,
  'an address of somebody else is theirs');
select is(tests.refusal($$ select api.update_profile('{"body": {"email": "other@example.nl"}}') $$) ->> 'code', 'PROVIDER_NOT_CONFIGURED', 'without mail an address cannot be proven');
select is(tests.refusal(format('select api.set_avatar(%L)', p)) ->> 'code', 'VALIDATION_ERROR', p)
from unnest(array['{}', '{"picture": {"name": "x"}}', '{"picture": {"name": "' || repeat('a', 64) || '", "type": "image/svg+xml", "content": "AAAA"}}',
  '{"picture": {"name": "' || repeat('a', 64) || '", "type": "image/png", "content": "%"}}']) p;
select matches(api.set_avatar(jsonb_build_object('picture', jsonb_build_object('name', repeat('a', 64), 'type', 'image/png', 'content', 'AAAA'))) ->> 'avatarUrl',
  '/api/v1/pictures/a{64}$', 'the server gives what it has drawn');
select is(api.get_profile('{}') -> 'useGravatar', 'false'::jsonb, 'and it is shown from then on');
select throws_ok($$ update public.users set first_name = 'X' $$, '42501', null, 'the table itself is not written');
select throws_ok($$ select * from private.pictures $$, '42501', null, 'pictures are read by their name only');
select throws_ok($$ select private.read_picture('{}') $$, '42501', null, 'through the server');
select throws_ok($$ select private.begin_password_change('{}') $$, '42501', null, 'which alone asks for passwords');
select throws_ok($$ select private.finish_password_change('{}') $$, '42501', null, 'and writes them');

select tests.act_as('ben');
select is((select u.avatar_url from public.users u where u.id = tests.user('anna')) ~ '/pictures/a{64}$', true, 'a colleague sees the picture');
select throws_ok($$ select company from public.users $$, '42501', null, 'and not what is nobody''s business');
select is(api.get_profile('{}') ->> 'email', 'ben@example.nl', 'and reads their own profile');
select tests.act_as('stan');
select api.delete_avatar('{}');
select tests.act_as('anna');
select is(api.get_profile('{}') ? 'avatarUrl', true, 'a stranger removes nothing of hers');
select is(api.delete_avatar('{}'), null::jsonb, 'she does');
select is(api.get_profile('{}') ? 'avatarUrl', false, 'at once');

-- An API key may read the profile and nothing more.
select tests.reset();
select set_config('app.user_id', tests.user('anna')::text, true), set_config('app.org_id', tests.org('anna')::text, true), set_config('app.org_role', 'owner', true),
  set_config('app.api_key_id', gen_random_uuid()::text, true), set_config('app.api_key_scope', 'admin', true), set_config('role', 'authenticated', true);
select is(api.get_profile('{}') ->> 'firstName', 'Ann', 'a key reads the profile');
select is(tests.refusal(format('select %s', f)) ->> 'code', 'API_KEY_NOT_ALLOWED', f)
from unnest(array['api.update_profile(''{"body": {"firstName": "X"}}'')', 'api.set_avatar(''{}'')', 'api.delete_avatar(''{}'')',
  'api.set_setting(''{"key": "profile.firstName", "body": {"value": "X"}}'')', 'api.set_setting(''{"key": "timezone", "body": {"value": "UTC"}}'')']) f;

select tests.act_anon();
select throws_ok(format('select api.%s(''{}'')', f), '42501', null, 'an anonymous caller has no ' || f)
from unnest(array['get_profile', 'update_profile', 'set_avatar', 'delete_avatar', 'list_settings', 'set_setting', 'set_settings', 'reset_settings']) f;
select tests.act_service();
select throws_ok($$ select api.get_profile('{}') $$, '42501', null, 'nor has the service');

select * from finish();
rollback;
