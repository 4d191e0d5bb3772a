-- What a push does, who hears of one, and what begins and ends the watching of repositories (contract 10, section 9.6).
begin;
select no_plan();
-- Anna owns an organization and a project; Stan is a stranger.
select tests.user('anna'), tests.user('stan');
create temp table ids (name text primary key, id uuid);
grant all on ids to public;
create function pg_temp.i(p_name text) returns uuid language sql stable as $$ select id from ids where name = p_name $$;
create function pg_temp.p(p_body jsonb default '{}') returns jsonb language sql stable as $$ select jsonb_build_object('projectId', pg_temp.i('project'), 'repoId', pg_temp.i('repo'), 'body', p_body) $$;
create function pg_temp.hook() returns text language sql stable security definer as $$
  select h.state || case when h.sealed_secret is not null then ' secret' else '' end || case when h.wanted_at is not null then ' wanted' else '' end
    || case when h.poll_at is not null then ' polled' else '' end from private.push_hooks h where h.repository_id = pg_temp.i('repo') $$;
create function pg_temp.jobs(p_type text) returns bigint language sql stable security definer as $$ select count(*) from jobs.stored_jobs where job_type = p_type $$;
create function pg_temp.runs() returns text language sql stable security definer as $$
  select string_agg(r.outcome || case when private.run_scope(r) ? 'repositoryIds' then ' push' else '' end, ', ' order by r.created_at) from public.ingestion_runs r where r.project_id = pg_temp.i('project') $$;
create function pg_temp.used() returns bigint language sql stable security definer as $$
  select coalesce(sum(used), 0)::bigint from public.usage_counters where organization_id = tests.org('anna') and metric = 'ingestions' $$;
create function pg_temp.push(p_branch text, p_commit text, p_delivery text default null) returns jsonb language sql volatile as $$
  select private.receive_push(jsonb_build_object('repositoryId', pg_temp.i('repo'), 'delivery', p_delivery, 'pushes', jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('branch', p_branch, 'commit', p_commit))))) $$;

select private.declare_installation('api_url', '"https://kijko.test"');
select tests.act_as('anna');
insert into ids select 'project', (api.create_project('{"body": {"name": "Pushed"}}') -> 'project' ->> 'id')::uuid;
insert into ids select 'repo', (api.add_repository(pg_temp.p('{"provider": "github", "repositoryUrl": "https://github.com/ada/app"}')) ->> 'id')::uuid;
select is(pg_temp.hook(), null, 'a repository is not watched');

-- The setting.
select api.update_project_settings(pg_temp.p('{"processingOptions": {"realTimeIncremental": true}}'));
select is(pg_temp.hook(), 'pending', 'until the settings say so');
select is(pg_temp.jobs('pushes.install'), 1::bigint, 'a job installs the hook');
select is(tests.peek($$ select user_id::text from private.push_hooks $$), tests.user('anna')::text, 'by the connection of the person who switched it on');
select tests.reset();
select is(private.hook_to_install(pg_temp.i('repo')), jsonb_build_object('userId', tests.user('anna'), 'provider', 'github', 'url', 'https://github.com/ada/app',
  'path', 'ada/app', 'address', 'https://kijko.test/api/v1/webhooks/git/github/' || pg_temp.i('repo')), 'the job knows what to install');
select ok(private.keep_push_secret(pg_temp.i('repo'), 'v1.sealed'), 'the secret is kept before it is sent');
select ok(private.settle_hook(pg_temp.i('repo'), true), 'the hook is installed');
select is(pg_temp.hook(), 'installed secret', 'with its secret');
select ok(not private.settle_hook(pg_temp.i('repo'), false), 'another job of the same hook comes too late');
select is(private.hook_to_install(pg_temp.i('repo')), null, 'and finds nothing to do');
select is(private.push_secret(jsonb_build_object('provider', 'github', 'repositoryId', pg_temp.i('repo'))), '{"sealed": "v1.sealed"}', 'the server reads the secret');
select is(private.push_secret(jsonb_build_object('provider', 'gitlab', 'repositoryId', pg_temp.i('repo'))), null, 'of this provider only');
select is(private.push_secret('{"provider": "github", "repositoryId": "x"}'), null, 'and of no other repository');

-- A draft waits for its first start.
select pg_temp.push('main', 'aa', 'd0');
select is(pg_temp.runs(), null, 'a push to a draft starts nothing');
select is(pg_temp.hook(), 'installed secret', 'and is forgotten');

-- Pushes during a run, after it, and over quota.
select tests.act_as('anna');
select api.start_ingestion(pg_temp.p());
select tests.reset();
select pg_temp.push('main', 'aa', 'd' || n) from generate_series(1, 40) n;
select is(pg_temp.runs(), 'open', 'forty pushes during a run start nothing');
select is(pg_temp.hook(), 'installed secret wanted', 'and are remembered');
update public.ingestion_runs set outcome = 'completed' where project_id = pg_temp.i('project') and outcome = 'open';
select is(pg_temp.runs(), 'completed, open push', 'one run follows');
select is(pg_temp.hook(), 'installed secret', 'for all of them');
select is(pg_temp.used(), 2::bigint, 'at one unit');
select is((select jsonb_build_array(r.started_by, private.run_scope(r)) from public.ingestion_runs r where r.outcome = 'open'),
  jsonb_build_array(tests.user('anna'), jsonb_build_object('repositoryIds', jsonb_build_array(pg_temp.i('repo')))), 'of this repository, by the connection of its person');
select is((select jsonb_agg(jsonb_build_array(number, source_type, sources) order by number) from public.context_ingestions where project_id = pg_temp.i('project')),
  jsonb_build_array('[1, null, {}]'::jsonb, jsonb_build_array(2, 'repo', jsonb_build_object('repositoryIds', jsonb_build_array(pg_temp.i('repo'))))), 'as an entry with a number');
update public.ingestion_runs set outcome = 'failed', error_code = 'X', error_message = 'x' where project_id = pg_temp.i('project') and outcome = 'open';
select is(pg_temp.runs(), 'completed, failed push', 'a failed run is not followed by itself');
select pg_temp.push('main', 'aa', 'd7');
select is(pg_temp.runs(), 'completed, failed push', 'the same delivery again is none');
select pg_temp.push('other', 'aa', 'e1'), pg_temp.push('main', null, 'e2');
select is(pg_temp.runs(), 'completed, failed push', 'nor is another branch, or a deleted one');
update public.project_repositories set status = 'syncing' where id = pg_temp.i('repo');
update public.project_repositories set status = 'connected', last_commit_hash = 'bb' where id = pg_temp.i('repo');
select pg_temp.push('main', 'bb', 'e3');
select is(pg_temp.runs(), 'completed, failed push', 'nor is a commit that is there already');
select pg_temp.push('main', 'cc');
select is(pg_temp.runs(), 'completed, failed push, open push', 'a push starts a run also after a failure, and without a delivery id');
select tests.act_as('anna');
select api.cancel_ingestion(pg_temp.p());
select api.start_ingestion(pg_temp.p());
select tests.reset();
select pg_temp.push('main', 'dd');
update public.ingestion_runs set outcome = 'cancelled', error_code = 'X', error_message = 'x' where project_id = pg_temp.i('project') and outcome = 'open';
select is(pg_temp.hook(), 'installed secret', 'a canceled run forgets the pushes: the project is a draft');
select tests.act_as('anna');
select api.start_ingestion(pg_temp.p());
select tests.reset();
update public.ingestion_runs set outcome = 'completed' where project_id = pg_temp.i('project') and outcome = 'open';
update public.usage_counters c set used = l.n, granted = l.n from (select private.plan_limit(tests.org('anna'), 'ingestions') as n) l where c.organization_id = tests.org('anna') and c.metric = 'ingestions';


create temp table before_quota as select pg_temp.runs() as runs, pg_temp.used() as used;
select pg_temp.push('main', 'ee');
select is(pg_temp.runs(), (select runs from before_quota), 'over quota no run starts');
select is(pg_temp.hook(), 'installed secret', 'and the push is forgotten until the next one');
select is(pg_temp.used(), (select used from before_quota), 'and costs nothing');
select is((select known_commit_hash from public.project_repositories where id = pg_temp.i('repo')), 'ee', 'but the context is known to be behind');
delete from public.usage_counters where organization_id = tests.org('anna') and metric = 'ingestions';

-- A connection that ends, and a new one.
insert into private.provider_tokens (id, provider, sealed_token) values ('aaaaaaaa-0000-4000-8000-000000000001', 'github', 'v1.a'), ('aaaaaaaa-0000-4000-8000-000000000002', 'github', 'v1.b');
insert into private.git_connections (user_id, provider, token_id, account_id, username) values (tests.user('anna'), 'github', 'aaaaaaaa-0000-4000-8000-000000000001', '1', 'anna');
select is(pg_temp.hook(), 'installed secret', 'a connection changes nothing where a hook is');
delete from private.git_connections where user_id = tests.user('anna');
select is(pg_temp.hook(), 'polling polled', 'without the connection the branch is polled');
select results_eq($$ select path, address from private.take_left_hooks('aaaaaaaa-0000-4000-8000-000000000001') $$,
  $$ select 'ada/app', 'https://kijko.test/api/v1/webhooks/git/github/' || pg_temp.i('repo') $$, 'the hook is removed with the old token');
select is((select count(*) from private.take_left_hooks('aaaaaaaa-0000-4000-8000-000000000001')), 0::bigint, 'once');
insert into private.git_connections (user_id, provider, token_id, account_id, username) values (tests.user('anna'), 'github', 'aaaaaaaa-0000-4000-8000-000000000002', '1', 'anna');
select is(pg_temp.hook(), 'pending', 'with a new connection the hook is tried again');
select ok(private.settle_hook(pg_temp.i('repo'), false), 'which the provider refuses');

-- Polling.
select ok((select poll_at between now() and now() + interval '15 minutes' from private.push_hooks), 'the first look is due within a quarter of an hour');
select is(private.queue_polls(), 0, 'not before');
select is(private.queue_polls(now() + interval '16 minutes'), 1, 'then a job looks');
select is(private.queue_polls(now() + interval '16 minutes'), 0, 'once');
select is(private.head_to_poll(pg_temp.i('repo')) ->> 'branch', 'main', 'at the branch');
create temp table before_polls as select pg_temp.runs() as runs;
select private.keep_head(pg_temp.i('repo'), 'bb');
select is(pg_temp.runs(), (select runs from before_polls), 'a head that is in the index starts nothing');
select private.keep_head(pg_temp.i('repo'), null), private.keep_head(pg_temp.i('repo'), null), private.keep_head(pg_temp.i('repo'), null);
select ok((select failures = 3 and poll_at between now() + interval '53 minutes' and now() + interval '67 minutes' from private.push_hooks), 'after failures the next look comes later');
select private.keep_head(pg_temp.i('repo'), null) from generate_series(1, 20);
select ok((select poll_at < now() + interval '18 hours' from private.push_hooks), 'but comes');
select private.keep_head(pg_temp.i('repo'), 'ff');
select is(pg_temp.runs(), (select runs || ', open push' from before_polls), 'a head that has moved counts as a push');
select is((select failures from private.push_hooks), 0, 'and the provider is well again');

-- Removal.
update public.ingestion_runs set outcome = 'completed' where project_id = pg_temp.i('project') and outcome = 'open';
update private.push_hooks set state = 'pending', poll_at = null;
select private.keep_push_secret(pg_temp.i('repo'), 'v1.sealed'), private.settle_hook(pg_temp.i('repo'), true);
select tests.act_as('anna');
select api.update_project_settings(pg_temp.p('{"processingOptions": {"realTimeIncremental": false}}'));
select is(pg_temp.hook(), null, 'the setting ends the watching');
select is(pg_temp.jobs('pushes.remove'), 1::bigint, 'and a job removes the hook');

select api.update_project_settings(pg_temp.p('{"processingOptions": {"realTimeIncremental": true}}'));
insert into ids select 'second', (api.add_repository(pg_temp.p('{"provider": "gitlab", "repositoryUrl": "https://gitlab.com/ada/lab"}')) ->> 'id')::uuid;
select is(tests.peek('select count(*)::text from private.push_hooks'), '2', 'a repository that is added is watched');
select api.remove_repository(pg_temp.p());
select is(tests.peek('select count(*)::text from private.push_hooks'), '1', 'one that is removed is not');
select api.delete_project(pg_temp.p());
select is(tests.peek('select count(*)::text from private.push_hooks'), '0', 'nor are those of a deleted project');

-- Other actors.
select throws_ok(format('select private.%s', f), '42501', null, f || ' is closed to members')
from unnest(array['push_secret(''{}'')', 'receive_push(''{}'')', 'want_push(null, null)', 'start_pushes(null)', 'hook_to_install(null)', 'keep_push_secret(null, null)', 'settle_hook(null, true)', 'take_left_hooks(null)']) f;
select throws_ok('select * from private.push_hooks', '42501', null, 'so is the table');
select tests.act_as('stan');
select throws_ok($$ select private.push_secret('{}') $$, '42501', null, 'a stranger reads no secret');
select tests.act_anon();
select throws_ok($$ select private.receive_push('{}') $$, '42501', null, 'an anonymous caller reports no push');
select tests.act_service();
select throws_ok($$ select private.receive_push('{}') $$, '42501', null, 'nor does the service');

select * from finish();
rollback;
