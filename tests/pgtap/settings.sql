-- Settings by key, by actor.
begin;
select no_plan();
select tests.user('anna'), tests.user('stan');

create function pg_temp.put(p_key text, p_value jsonb) returns jsonb
language sql as $$ select api.set_setting(jsonb_build_object('key', p_key, 'body', jsonb_build_object('value', p_value))) $$;
grant execute on function pg_temp.put to authenticated;

select tests.act_as('anna');
select is(api.list_settings('{}') ->> 'theme', 'dark', 'a known key has a default');
select is(pg_temp.put('theme', '"light"') ->> 'settingsValue', 'light', 'a value is kept');
select is(api.get_setting('{"key": "theme"}') - 'createdAt' - 'updatedAt' - 'id', jsonb_build_object('userId', tests.user('anna'), 'settingsKey', 'theme', 'settingsValue', 'light'), 'and read');
select is(pg_temp.put('profile.lastName', '"Vos"') ->> 'settingsValue', 'Vos', 'the profile''s are its columns');
select is(api.get_profile('{}') ->> 'lastName', 'Vos', 'and change there');
select is(pg_temp.put('profile.emailVerified', 'false') -> 'settingsValue', 'true'::jsonb, 'what cannot be set is told as it is');
select is(tests.refusal(format('select pg_temp.put(%L, %L)', k, v)) - 'message', jsonb_build_object('status', 400, 'code', 'VALIDATION_ERROR', 'field', f), k || ' ' || v)
from (values ('theme', '"blue"', 'theme'), ('theme', 'null', 'value'), ('x', '[1]', 'x'), ('x', '[null]', 'x'), ('a b', '1', 'key'), ('', '1', 'key'), ('profile.role', '"x"', 'profile.role'),
  ('profile.avatarUrl', '"data:image/png;base64,AAAA"', 'profile.avatarUrl'), ('profile.avatarUrl', '"http://x"', 'profile.avatarUrl')) t (k, v, f);
select is(tests.refusal($$ select api.set_settings('{"body": {"theme": "dark", "x": null}}') $$) ->> 'field', 'x', 'of several one is bad');
select is(api.get_setting('{"key": "theme"}') ->> 'settingsValue', 'light', 'and none is written');
select throws_ok($$ insert into public.user_settings (user_id, key, value) values (private.user_id(), 'x', '1') $$, '42501', null, 'the table itself is not written');
select is((select count(*) from public.user_settings), 1::bigint, 'one''s own are read');
select api.set_settings(jsonb_build_object('body', (select jsonb_object_agg('k' || n, n) from generate_series(1, 199) n)));
select is(tests.refusal($$ select pg_temp.put('more', '1') $$) - 'message', '{"status": 409, "code": "TOO_MANY_SETTINGS", "details": {"limit": 200}}'::jsonb, '200 are enough');

select tests.act_as('stan');
select is((select count(*) from public.user_settings), 0::bigint, 'a stranger sees none of them');
select is(tests.refusal($$ select api.get_setting('{"key": "theme"}') $$) ->> 'code', 'NOT_FOUND', 'by no key');
select is(tests.refusal($$ select api.delete_setting('{"key": "theme"}') $$) ->> 'code', 'NOT_FOUND', 'and deletes none');
select api.reset_settings('{}');
select tests.act_as_claims('anna');
select is(api.list_settings('{}') ->> 'theme', 'light', 'through Supabase''s API they are the same');
select api.delete_setting('{"key": "theme"}');
select is(api.list_settings('{}') ->> 'theme', 'dark', 'without it the default holds');
select api.reset_settings('{}');
select is(api.list_settings('{}') ? 'k1', false, 'a reset deletes what is stored');
select is(api.list_settings('{}') ->> 'profile.lastName', 'Vos', 'and leaves the profile');

select * from finish();
rollback;
