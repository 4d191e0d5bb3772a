-- What may be passed on to HyperVisa, for whom, and what it costs.
begin;
select no_plan();
-- Anna owns an organization, Ben is a member of it, Vera a viewer, Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.member('vera', 'anna', 'viewer'), tests.user('stan');
select tests.user('anna') as anna, tests.org('anna') as org, tests.user('ben') as ben, tests.user('stan') as stan, tests.org('stan') as stans \gset
update public.subscriptions set plan_id = 'enterprise' where organization_id = :'org';
create function pg_temp.ask(p_kind text, p_body jsonb, p_more jsonb default '{}') returns jsonb language sql as $$
  select private.begin_hypervisa_session(jsonb_build_object('isConfigured', true, 'kind', p_kind, 'body', p_body, 'seconds', 60) || p_more) $$;
create function pg_temp.used(p_metric text) returns bigint language sql as $$
  select tests.peek(format('select coalesce(sum(used), 0) from public.usage_counters where organization_id = %L and metric = %L', tests.org('anna'), p_metric))::bigint $$;
grant execute on all functions in schema pg_temp to public;

select tests.act_as('ben');
select is(pg_temp.ask('ingest-repo', body) -> 'body', forwarded, body::text) from (values
  ('{"repo_url": "https://github.com/acme/shop"}'::jsonb, '{"repo_url": "https://github.com/acme/shop"}'::jsonb),
  ('{"repo_url": " https://www.github.com/acme/shop.git?tab=x#y ", "name": " Shop ", "branch": "feature/x", "evil": 1}', '{"repo_url": "https://github.com/acme/shop", "name": "Shop", "branch": "feature/x"}'),
  ('{"repo_url": "https://gitlab.com/a/b/c", "name": "  ", "branch": ""}', '{"repo_url": "https://gitlab.com/a/b/c"}')) t (body, forwarded);
select is(tests.refusal(format('select pg_temp.ask(''ingest-repo'', %L)', body)) ->> 'field', field, body) from (values
  ('{"repo_url": "http://github.com/acme/shop"}', 'repo_url'), ('{"repo_url": "git@github.com:acme/shop"}', 'repo_url'), ('{"repo_url": "ssh://git@github.com/acme/shop"}', 'repo_url'),
  ('{"repo_url": "https://ann:pw@github.com/acme/shop"}', 'repo_url'), ('{"repo_url": "https://github.com@evil.example/acme/shop"}', 'repo_url'),
  ('{"repo_url": "https://evil.example/acme/shop"}', 'repo_url'), ('{"repo_url": "https://169.254.169.254/acme/shop"}', 'repo_url'), ('{"repo_url": "https://localhost/acme/shop"}', 'repo_url'),
  ('{"repo_url": "https://github.com:8443/acme/shop"}', 'repo_url'), ('{"repo_url": "https://github.com/../../etc"}', 'repo_url'), ('{"repo_url": "file:///etc/passwd"}', 'repo_url'),
  ('{"repo_url": "https://github.com\\@evil.example/a/b"}', 'repo_url'), ('{"repo_url": ""}', 'repo_url'), ('{}', 'repo_url'),
  ('{"repo_url": "https://github.com/acme/shop", "branch": "--upload-pack=touch x"}', 'branch'), ('{"repo_url": "https://github.com/acme/shop", "branch": "a..b"}', 'branch'),
  (format('{"repo_url": "https://github.com/acme/shop", "branch": "%s"}', repeat('b', 101)), 'branch'),
  (format('{"repo_url": "https://github.com/acme/shop", "name": "%s"}', repeat('n', 201)), 'name'), ('{"repo_url": "https://github.com/acme/shop", "name": "a\u0007b"}', 'name')) t (body, field);
select is(pg_temp.ask('watch', body) -> 'body', forwarded, body::text) from (values
  ('{"urls": ["https://www.youtube.com/watch?v=x", "  ", "", " https://youtu.be/y "], "name": "Talks"}'::jsonb, '{"urls": ["https://www.youtube.com/watch?v=x", "https://youtu.be/y"], "name": "Talks"}'::jsonb),
  ('{"urls": ["http://m.youtube.com/watch?v=x"]}', '{"urls": ["http://m.youtube.com/watch?v=x"]}')) t (body, forwarded);
select is(tests.refusal(format('select pg_temp.ask(''watch'', %L)', body)) ->> 'field', 'urls', left(body::text, 100)) from (
  values ('{"urls": []}'::jsonb), ('{"urls": [" "]}'), ('{}'), (jsonb_build_object('urls', to_jsonb(array_fill('https://youtu.be/x'::text, array[21])))),
  ('{"urls": ["https://youtube.com.evil.example/x"]}'), ('{"urls": ["https://notyoutube.com/x"]}'), ('{"urls": ["https://youtube.com@evil.example/x"]}'), ('{"urls": ["https://youtube.com\\@evil.example/x"]}'),
  ('{"urls": ["https://evil.example/youtube.com/"]}'), ('{"urls": ["youtube.com/x"]}'), ('{"urls": ["https://youtube.com:8042/x"]}'), ('{"urls": ["javascript:youtube.com/"]}'), ('{"urls": ["https://youtu.be/x y"]}')) t (body);

-- Directories.
select is(tests.refusal($$ select pg_temp.ask('ingest', '{"directory": "/data/x"}', '{"directory": "/data/x"}') $$) ->> 'code', 'DIRECTORY_INGEST_DISABLED', 'a member ingests no directory');
select tests.act_as('anna');
select is(tests.refusal($$ select pg_temp.ask('ingest', '{"directory": "/etc"}') $$) ->> 'code', 'DIRECTORY_INGEST_DISABLED', 'nor does the owner outside the root');
select is(pg_temp.ask('ingest', '{"directory": "/data/a/../x", "name": "X"}', '{"directory": "/data/x"}') -> 'body', '{"directory": "/data/x", "name": "X"}', 'below it the cleaned path is passed on');

-- The unit of a creation, and its return.
select tests.reset();
delete from public.usage_counters where organization_id = :'org';
select tests.act_as('anna');
create temp table begun as select pg_temp.ask('watch', '{"urls": ["https://youtu.be/x"]}') as a;
select is(pg_temp.used('ingestions'), 1::bigint, 'a creation costs a unit');
select throws_ok($$ select pg_temp.ask('watch', '{"urls": []}') $$, 'PT400', null, 'a refused one none');
select is(pg_temp.used('ingestions'), 1::bigint, 'so it stays');
select is((select a ->> 'userId' from begun), :'anna', 'upstream is told who asks');
select throws_ok($$ select private.refund_hypervisa('{}') $$, '42501', null, 'people give nothing back to themselves');
select throws_ok($$ select private.keep_hypervisa_session('{}') $$, '42501', null, 'nor say whose a session is');
select throws_ok($$ select private.drop_hypervisa_session('{}') $$, '42501', null, 'nor that it is gone');
select tests.reset();
select private.refund_hypervisa((select a || '{"metric": "ingestions"}' from begun));
select is(pg_temp.used('ingestions'), 0::bigint, 'what upstream failed to do costs nothing');
select private.refund_hypervisa((select a || '{"metric": "ingestions"}' from begun));
select is(pg_temp.used('ingestions'), 0::bigint, 'and nothing is given back twice beyond that');
select throws_ok($$ select private.refund_hypervisa((select a || '{"metric": "storage"}' from begun)) $$, 'P0001', null, 'no other unit');

-- Whose a session is.
select is(private.keep_hypervisa_session(jsonb_build_object('userId', :'anna', 'organizationId', :'org', 'sessionId', 's-1')), 'true', 'the creator owns it');
select is(private.keep_hypervisa_session(jsonb_build_object('userId', :'anna', 'organizationId', :'org', 'sessionId', 's-1')), 'true', 'also a second time');
select is(private.keep_hypervisa_session(jsonb_build_object('userId', :'ben', 'organizationId', :'org', 'sessionId', 's-2')), 'true', 'Ben has one as well');
select is(private.keep_hypervisa_session(jsonb_build_object('userId', :'stan', 'organizationId', :'stans', 'sessionId', 's-2')), 'false', 'an id that upstream uses again is not shared');
select is((select count(*) from public.hypervisa_sessions where session_id = 's-2'), 0::bigint, 'and belongs to neither');
select throws_ok(format('insert into public.hypervisa_sessions (session_id, organization_id, user_id) values (%L, %L, %L)', id, :'org', :'anna'), '23514', null, 'no id is ' || left(id, 10)) from
  (values (''), ('.'), ('..'), ('../x'), ('a/b'), ('a\b'), (E'a\nb'), (repeat('x', 201))) t (id);
select private.drop_hypervisa_session(jsonb_build_object('userId', :'ben', 'organizationId', :'org', 'sessionId', 's-1'));
select is((select count(*) from public.hypervisa_sessions where session_id = 's-1'), 1::bigint, 'another person''s session is not dropped');
select tests.act_as('anna');
select is(private.list_hypervisa_sessions('{"isConfigured": true}') -> 'sessions', '["s-1"]', 'Anna has hers');
select results_eq('select session_id from public.hypervisa_sessions', $$values ('s-1')$$, 'also past our functions');
select tests.act_as('ben');
select is(private.list_hypervisa_sessions('{"isConfigured": true}') -> 'sessions', '[]', 'Ben does not see it');
select is_empty('select * from public.hypervisa_sessions', 'not in the table either');
select is(tests.refusal($$ select private.begin_hypervisa_query('{"isConfigured": true, "hypervisaSessionId": "s-1", "body": {"prompt": "What?"}}') $$) ->> 'code', 'SESSION_NOT_FOUND', 'nor asks it');
select is(tests.refusal($$ select private.begin_hypervisa_deletion('{"isConfigured": true, "hypervisaSessionId": "s-1"}') $$) ->> 'code', 'SESSION_NOT_FOUND', 'nor deletes it');
select tests.act_as('stan');
select is(tests.refusal($$ select private.begin_hypervisa_query('{"isConfigured": false, "hypervisaSessionId": "s-1", "body": {"prompt": "What?"}}') $$) ->> 'code', 'SESSION_NOT_FOUND', 'nor does Stan');
select tests.act_anon();
select throws_ok($$ select private.list_hypervisa_sessions('{}') $$, '42501', null, 'an anonymous caller calls nothing');
select tests.act_service();
select throws_ok($$ select private.list_hypervisa_sessions('{}') $$, '42501', null, 'nor does the service');

-- Questions.
select tests.act_as('anna');
select is(private.begin_hypervisa_query('{"isConfigured": true, "hypervisaSessionId": "s-1", "body": {"prompt": "  What?  "}}') -> 'body', '{"prompt": "What?"}', 'a prompt is trimmed');
select is(pg_temp.used('oracle_queries'), 1::bigint, 'and costs a question');
select is(tests.refusal(format($$ select private.begin_hypervisa_query('{"isConfigured": true, "hypervisaSessionId": "s-1", "body": {"prompt": %s}}') $$, to_jsonb(prompt))) ->> 'field', 'prompt', 'not ' || left(prompt, 5)) from
  (values (''), ('   '), (repeat('x', 32001))) t (prompt);
select is(tests.refusal($$ select private.begin_hypervisa_query('{"isConfigured": false, "hypervisaSessionId": "s-1", "body": {"prompt": "What?"}}') $$) -> 'details', '{"provider": "hypervisa"}', 'an installation without it says so');
select lives_ok($$ select private.begin_hypervisa_query('{"isConfigured": true, "hypervisaSessionId": "s-1", "body": {"prompt": "What?"}}') from generate_series(1, 19) $$, 'twenty a minute');
select is(tests.refusal($$ select private.begin_hypervisa_query('{"isConfigured": true, "hypervisaSessionId": "s-1", "body": {"prompt": "What?"}}') $$) ->> 'code', 'RATE_LIMITED', 'and no more');
select is(pg_temp.used('oracle_queries'), 20::bigint, 'what is refused costs nothing');

-- A unit goes back to the day that it was taken on.
select tests.reset();
select private.consume_quota(:'org', 'oracle_queries', 1, now() - interval '1 day');
select private.refund_hypervisa(jsonb_build_object('userId', :'anna', 'organizationId', :'org', 'metric', 'oracle_queries', 'chargedAt', now() - interval '1 day'));
select is((select sum(used) from public.usage_counters where organization_id = :'org' and metric = 'oracle_queries' and period = (now() at time zone 'UTC')::date), 20::numeric, 'today''s stay');
select is((select sum(used) from public.usage_counters where organization_id = :'org' and metric = 'oracle_queries' and period = (now() at time zone 'UTC')::date - 1), 0::numeric, 'yesterday''s is back');

-- A key: one creation, one unit, one answer.
select tests.act_as('anna');
create temp table keyed as select jsonb_build_object('key', 'k', 'keyHash', repeat('ab', 32)) as k;
delete from begun;
insert into begun select pg_temp.ask('watch', '{"urls": ["https://youtu.be/x"]}', k) from keyed;
select is((select pg_temp.ask('watch', '{"urls": ["https://youtu.be/x"]}', k) from keyed), '{"isRunning": true}', 'a repeat waits for the first request');
select is(pg_temp.used('ingestions'), 1::bigint, 'and pays nothing');
select is(tests.refusal(format($$ select pg_temp.ask('watch', '{"urls": ["https://youtu.be/x"]}', %L) $$, (select k || jsonb_build_object('keyHash', repeat('cd', 32)) from keyed))) ->> 'code', 'IDEMPOTENCY_CONFLICT', 'another body does not get it');
select tests.reset();
update private.idempotency_keys set response = response || jsonb_build_object('until', now() - interval '1 second') where key = 'k';
select tests.act_as('anna');
select is((select pg_temp.ask('watch', '{"urls": ["https://youtu.be/x"]}', k) - 'chargedAt' from keyed), (select a - 'chargedAt' from begun), 'who waits for a server that died takes over');
select is(pg_temp.used('ingestions'), 1::bigint, 'with its unit');
select tests.reset();
select private.keep_hypervisa_session((select a || jsonb_build_object('sessionId', 's-3', 'key', 'k', 'answer', '{"id": "s-3"}'::jsonb) from begun));
select tests.act_as('anna');
select is((select pg_temp.ask('watch', '{"urls": ["https://youtu.be/x"]}', k) from keyed), '{"answer": {"id": "s-3"}}', 'then it gets the answer');
delete from begun;
insert into begun select pg_temp.ask('watch', '{"urls": ["https://youtu.be/x"]}', k || '{"key": "l"}') from keyed;
select tests.reset();
select private.refund_hypervisa((select a || '{"metric": "ingestions", "key": "l"}' from begun));
select is((select count(*) from private.idempotency_keys where key = 'l'), 0::bigint, 'a failure frees the key');

select * from finish();
rollback;
