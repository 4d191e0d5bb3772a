-- Which actor reads and changes worktrees and branches (contract 10, section 16).
begin;
select no_plan();
-- Anna owns an organization and a project; Dora, Vera and Udo are its developer, viewer and auditor; Stan is a stranger.
select tests.user('anna'), tests.user('stan'), tests.user('dora'), tests.user('vera'), tests.user('udo');
create temp table ids (name text primary key, id uuid);
grant all on ids to public;
create function pg_temp.i(p_name text) returns uuid language sql stable as $$ select id from ids where name = p_name $$;
create function pg_temp.p(p_body jsonb default '{}', p_worktree text default null, p_branch text default null) returns jsonb language sql stable
  as $$ select jsonb_strip_nulls(jsonb_build_object('projectId', pg_temp.i('project'), 'contextId', pg_temp.i('project'), 'worktreeId', pg_temp.i(p_worktree),
    'branch', p_branch, 'body', p_body)) $$;
create function pg_temp.branches(p_worktree text) returns text language sql stable security definer as $$
  select string_agg(b.name || case when b.is_default then '*' else '' end || case when b.is_current then '<' else '' end, ' ' order by b.created_at, b.id)
  from public.worktree_branches b where b.worktree_id = pg_temp.i(p_worktree) $$;
create function pg_temp.trees() returns text language sql stable security definer as $$
  select string_agg(w.name || case when w.is_default then '*' else '' end || case when w.is_active then '<' else '' end, ' ' order by w.created_at, w.id)
  from public.worktrees w where w.project_id = pg_temp.i('project') $$;

select tests.act_as('anna');
insert into ids select 'project', (api.create_project('{"body": {"name": "Trees"}}') -> 'project' ->> 'id')::uuid;
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
select tests.org('anna'), pg_temp.i('project'), tests.user(n), n || '@example.nl', r, now()
from (values ('dora', 'developer'), ('vera', 'viewer'), ('udo', 'auditor')) v (n, r);
insert into ids select 'main', id from public.worktrees where project_id = pg_temp.i('project');

-- A new project.
select tests.act_as('dora');
select is(api.list_worktrees(pg_temp.p()), jsonb_build_array(jsonb_build_object('id', pg_temp.i('main'), 'name', 'Main', 'path', '/main', 'isActive', true,
  'currentBranch', 'main', 'branches', '[{"name": "main", "isDefault": true, "isCurrent": true, "lastCommit": "No commits yet"}]'::jsonb)), 'a new project has Main');
select is(api.list_context_worktrees(pg_temp.p()), api.list_worktrees(pg_temp.p()), 'a context has the same ones');
select is(private.humanized(now() - v.ago::interval), v.shown, v.ago || ' ago is ' || v.shown)
from (values ('59 s', 'just now'), ('60 s', '1m ago'), ('59 min 59 s', '59m ago'), ('1 h', '1h ago'), ('23 h 59 min', '23h ago'), ('24 h', '1d ago'), ('6 days 23 h', '6d ago')) v (ago, shown);
select is(private.humanized('2026-01-20T10:00:00Z', '2026-01-27T10:00:00Z'), '2026-01-20', 'a week ago is a date');
select is(private.humanized(now() + interval '1 h'), 'just now', 'a commit from the future is of now');

-- Adding and copying.
select api.create_worktree(pg_temp.p()) as made \gset
select is(:'made'::jsonb - 'id', '{"name": "Worktree-2", "path": "/Worktree-2", "isActive": false, "currentBranch": "main",
  "branches": [{"name": "main", "isDefault": true, "isCurrent": true, "lastCommit": "just now"}]}', 'a worktree is added under the next number');
insert into ids select 'second', (:'made'::jsonb ->> 'id')::uuid;
select is(api.create_worktree(pg_temp.p(jsonb_build_object('sourceWorktreeId', pg_temp.i('main')))) ->> 'name', 'Main-copy', 'a copy is named after its source');
select is(api.create_worktree(pg_temp.p(jsonb_build_object('sourceWorktreeId', pg_temp.i('main')))) ->> 'path', '/Main-copy-2', 'a second copy is numbered');
select is(api.create_worktree(pg_temp.p('{"name": " Worktree-6 "}')) ->> 'name', 'Worktree-6', 'a given name is trimmed');
select is(api.create_worktree(pg_temp.p()) ->> 'name', 'Worktree-6-2', 'a default name that is taken is numbered');
select is(tests.refusal('select api.create_worktree(pg_temp.p(''{"name": "MAIN"}''))'),
  '{"status": 409, "code": "WORKTREE_EXISTS", "field": "name", "message": "The project has a worktree \"MAIN\" already."}', 'a given name that is taken is refused, case aside');
select is(tests.refusal(format('select api.create_worktree(pg_temp.p(%L))', b)) - 'message', r::jsonb, b) from (values
  ('{"name": " "}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "name"}'),
  (jsonb_build_object('name', repeat('x', 101))::text, '{"status": 400, "code": "VALIDATION_ERROR", "field": "name"}'),
  ('{"name": "a\u0007b"}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "name"}'),
  ('{"sourceWorktreeId": "x"}', '{"status": 404, "code": "WORKTREE_NOT_FOUND", "field": "sourceWorktreeId"}')) v (b, r);
select is(char_length(api.create_worktree(pg_temp.p(jsonb_build_object('name', repeat('x', 100)))) ->> 'name'), 100, 'a hundred characters are a name');
select is(api.create_worktree(pg_temp.p(jsonb_build_object('sourceWorktreeId', (select id from public.worktrees where name ~ '^x+$')))) ->> 'name',
  repeat('x', 95) || '-copy', 'the copy of a long name is shortened');

-- Renaming and activating.
select is(api.update_worktree(pg_temp.p('{"name": "Review"}', 'second')) ->> 'path', '/Review', 'the path follows the name');
select is(api.update_worktree(pg_temp.p('{"name": "review"}', 'second')) ->> 'path', '/review', 'the case of the own name may change');
select is(tests.refusal('select api.update_worktree(pg_temp.p(''{"name": "main"}'', ''second''))') ->> 'code', 'WORKTREE_EXISTS', 'the name of another one is refused');
select is(api.update_worktree(pg_temp.p('{"isActive": true}', 'second')) -> 'isActive', 'true', 'it is activated');
select matches(pg_temp.trees(), '^Main\* review< ', 'in place of the active one');
select is(api.update_worktree(pg_temp.p('{"isActive": false}', 'main')) -> 'isActive', 'false', 'an inactive one may be said to be inactive');
select is(tests.refusal('select api.update_worktree(pg_temp.p(''{"isActive": false}'', ''second''))') ->> 'field', 'isActive', 'one stays active');
select is(tests.refusal('select api.update_worktree(pg_temp.p(''{"currentBranch": "topic"}'', ''second''))') - 'message',
  '{"status": 400, "code": "VALIDATION_ERROR", "field": "currentBranch"}', 'the current branch is one of its branches');

-- Branches.
select is(api.create_branch(pg_temp.p('{}', 'second')) #> '{branches,1}', '{"name": "branch-2", "isDefault": false, "isCurrent": false, "lastCommit": "just now"}',
  'a branch is added under the next number');
select is(api.create_branch(pg_temp.p('{"name": "feature/big idea"}', 'second')) #>> '{branches,2,name}', 'feature/big idea', 'a branch has slashes and spaces');
select api.create_branch(pg_temp.p('{"fromBranch": "main"}', 'second')), api.create_branch(pg_temp.p('{"fromBranch": "main"}', 'second')),
  api.create_branch(pg_temp.p('{"fromBranch": "main"}', 'second')), api.create_branch(pg_temp.p('{"fromBranch": "main", "name": "mine"}', 'second'));
select is(pg_temp.branches('second'), 'main*< branch-2 feature/big idea main-fork main-fork-1 main-fork-2 mine', 'forks are numbered from 1');
select is(tests.refusal('select api.create_branch(pg_temp.p(''{"name": "mine"}'', ''second''))') - 'message', '{"status": 409, "code": "BRANCH_EXISTS", "field": "name"}', 'a taken name is refused');
select is(tests.refusal('select api.create_branch(pg_temp.p(''{"fromBranch": "none"}'', ''second''))') - 'message', '{"status": 404, "code": "BRANCH_NOT_FOUND", "field": "fromBranch"}', 'nothing is forked from nothing');
select is(api.update_worktree(pg_temp.p('{"currentBranch": "feature/big idea"}', 'second')) ->> 'currentBranch', 'feature/big idea', 'a branch is selected');
select is(api.rename_branch(pg_temp.p('{"name": "feature/small idea"}', 'second', 'feature/big idea')) ->> 'currentBranch', 'feature/small idea', 'the current branch follows its new name');
select is(tests.refusal(format('select api.rename_branch(pg_temp.p(%L, ''second'', %L))', b, n)) ->> 'code', r, n || ' to ' || b) from (values
  ('{"name": "mine"}', 'main', 'BRANCH_EXISTS'), ('{"name": "x"}', 'feature/big idea', 'BRANCH_NOT_FOUND'), ('{"name": ""}', 'main', 'VALIDATION_ERROR'),
  ('{}', 'main', 'VALIDATION_ERROR'), ('{"name": "MAIN"}', 'main', null), ('{"name": "MAIN"}', 'MAIN', null)) v (b, n, r);
select is(pg_temp.branches('second'), 'MAIN* branch-2 feature/small idea< main-fork main-fork-1 main-fork-2 mine', 'names of branches differ by case');

-- Bounds.
select api.create_branch(pg_temp.p('{}', 'second')) from generate_series(8, 100);
select is(tests.refusal('select api.create_branch(pg_temp.p(''{}'', ''second''))') ->> 'code', 'TOO_MANY_BRANCHES', 'a hundred branches are made by hand');
select api.create_worktree(pg_temp.p()) from generate_series((select count(*) from public.worktrees), 49);
select is(tests.refusal('select api.create_worktree(pg_temp.p())') ->> 'code', 'TOO_MANY_WORKTREES', 'a project has fifty');
select tests.reset();
delete from public.worktrees where name !~ '^(Main|review|Main-copy)$' and project_id = pg_temp.i('project');

-- Deleting.
insert into ids select 'copy', id from public.worktrees where name = 'Main-copy' and project_id = pg_temp.i('project');
select tests.act_as('dora');
select is(api.delete_worktree(pg_temp.p('{}', 'second')), null, 'the active one is deleted');
select is(pg_temp.trees(), 'Main*< Main-copy', 'and the default becomes active');
select is(api.delete_worktree(pg_temp.p('{}', 'main')), null, 'the default is deleted');
select is(pg_temp.trees(), 'Main-copy*<', 'and the oldest takes its place');
select is(tests.refusal('select api.delete_worktree(pg_temp.p(''{}'', ''copy''))') - 'message', '{"status": 409, "code": "LAST_WORKTREE"}', 'the last one stays');
select is(tests.refusal('select api.delete_worktree(pg_temp.p(''{}'', ''main''))') - 'message', '{"status": 404, "code": "WORKTREE_NOT_FOUND"}', 'a deleted one is not found');

-- Events.
create function pg_temp.notified() returns bigint language sql volatile as $$
  select tests.peek(format('select count(*) from private.event_inbox i where i.room = %L and i::text like ''%%worktrees%%''', 'project:' || pg_temp.i('project')))::bigint $$;
create temp table told_before as select pg_temp.notified() as n;
select api.update_worktree(pg_temp.p('{"isActive": true}', 'copy'));
select is(pg_temp.notified(), (select n + 1 from told_before), 'a change is told to the project''s room');

-- Other actors.
create function pg_temp.outcomes() returns text language sql volatile as $$
  select string_agg(coalesce(tests.refusal('select ' || f) ->> 'code', tests.refusal('select ' || f) ->> 'sqlstate', 'done'), ' ' order by n)
  from (values (1, 'api.create_worktree(pg_temp.p())'), (2, 'api.update_worktree(pg_temp.p(''{}'', ''copy''))'),
    (3, 'api.create_branch(pg_temp.p(''{}'', ''copy''))'), (4, 'api.rename_branch(pg_temp.p(''{"name": "x"}'', ''copy'', ''main''))'),
    (5, 'api.delete_worktree(pg_temp.p(''{}'', ''copy''))')) v (n, f) $$;
select tests.act_as('vera');
select is(pg_temp.outcomes(), 'FORBIDDEN FORBIDDEN FORBIDDEN FORBIDDEN FORBIDDEN', 'a viewer changes nothing');
select is(jsonb_array_length(api.list_worktrees(pg_temp.p())), 1, 'and reads');
select throws_ok($$ update public.worktrees set name = 'x' $$, '42501', null, 'no request role writes the table');
select tests.act_as('udo');
select is(pg_temp.outcomes(), 'FORBIDDEN FORBIDDEN FORBIDDEN FORBIDDEN FORBIDDEN', 'nor does an auditor');
select is(api.list_worktrees(pg_temp.p()) || api.list_context_worktrees(pg_temp.p()), '[]', 'who reads nothing');
select tests.act_as('stan');
select is(pg_temp.outcomes(), 'PROJECT_NOT_FOUND PROJECT_NOT_FOUND PROJECT_NOT_FOUND PROJECT_NOT_FOUND PROJECT_NOT_FOUND', 'a stranger finds no project');
select is(tests.refusal('select api.list_context_worktrees(pg_temp.p())') ->> 'code', 'CONTEXT_NOT_FOUND', 'and no context');
select tests.act_anon();
select is(pg_temp.outcomes(), '42501 42501 42501 42501 42501', 'anonymous callers call nothing');
select tests.act_service();
select is(pg_temp.outcomes(), '42501 42501 42501 42501 42501', 'nor does the service');

-- A fetch brings the branches of the first repository (16.2).
select tests.act_as('dora');
insert into ids select 'first', (api.add_repository(pg_temp.p('{"provider": "github", "repositoryUrl": "https://github.com/a/first"}')) ->> 'id')::uuid;
insert into ids select 'other', (api.add_repository(pg_temp.p('{"provider": "github", "repositoryUrl": "https://github.com/a/other"}')) ->> 'id')::uuid;
select api.create_branch(pg_temp.p('{"name": "by hand"}', 'copy')), api.create_branch(pg_temp.p('{"name": "topic"}', 'copy'));
select tests.reset();
update public.worktree_branches set is_manual = false where worktree_id = pg_temp.i('copy') and name = 'main';
update public.project_repositories set created_at = created_at + interval '1 second' where id = pg_temp.i('other');
insert into ids select 'run', (private.start_run(pg_temp.i('project'), false) ->> 'jobId')::uuid from (select tests.act_as('dora')) a;
select tests.reset();
select private.claim_run(pg_temp.i('run'), pg_temp.i('main'), 60) is not null as claimed;
create function pg_temp.sync(p_repository text, p_default text, p_branches text) returns boolean language sql volatile as $$
  select private.sync_branches(pg_temp.i('run'), pg_temp.i('main'), pg_temp.i(p_repository), p_default, p_branches::jsonb) $$;
select is(private.branches_wanted(pg_temp.i('run'), pg_temp.i('main'), pg_temp.i('other')), null, 'the second repository brings none');
select is(pg_temp.sync('other', 'main', '[{"name": "x"}]'), false, 'also when it is sent');
select is(private.branches_wanted(pg_temp.i('run'), pg_temp.i('second'), pg_temp.i('first')), null, 'a lost lease brings none');
select is(private.branches_wanted(pg_temp.i('run'), pg_temp.i('main'), pg_temp.i('first')), '{}', 'no commit is known');
select ok(pg_temp.sync('first', 'master', format('[{"name": "topic", "commit": "aa", "at": "2026-01-01T00:00:00Z"}, {"name": "master", "commit": "bb"}, {"name": "%s", "commit": "cc"},
  {"name": "release/1", "commit": "dd", "at": "%s"}]', repeat('x', 101), private.iso(now() - interval '3 hours'))), 'the first one brings its own');
select is(pg_temp.branches('copy'), 'by hand topic master*< release/1', 'one that is gone leaves, one made by hand stays, the default takes over');
select is((select jsonb_object_agg(b ->> 'name', b ->> 'lastCommit') from public.worktrees w, jsonb_array_elements(private.worktree_json(w) -> 'branches') b
  where w.id = pg_temp.i('copy')), '{"by hand": "just now", "topic": "2026-01-01", "master": null, "release/1": "3h ago"}', 'with the times that are known');
select is(private.branches_wanted(pg_temp.i('run'), pg_temp.i('main'), pg_temp.i('first')), '{"topic": "aa", "release/1": "dd"}', 'commits with a time need not be looked at again');
select ok(pg_temp.sync('first', 'main', '[{"name": "main", "commit": "ee"}, {"name": "release/1", "commit": "dd"}]'), 'the next fetch');
select is(pg_temp.branches('copy'), 'by hand topic release/1 main*<', 'moves the default');
select is((select b ->> 'lastCommit' from public.worktrees w, jsonb_array_elements(private.worktree_json(w) -> 'branches') b
  where w.id = pg_temp.i('copy') and b ->> 'name' = 'release/1'), '3h ago', 'an unchanged commit keeps its time');
select ok(pg_temp.sync('first', 'main', '[]'), 'an empty listing');
select is(pg_temp.branches('copy'), 'by hand topic release/1 main*<', 'changes nothing');
select ok(pg_temp.sync('first', 'main', (select jsonb_agg(jsonb_build_object('name', 'b' || n, 'commit', 'ff')) || '[{"name": "main", "commit": "ee"}]'
  from generate_series(1, 600) n)::text), 'of a repository with many branches');
select is((select count(*) from public.worktree_branches where worktree_id = pg_temp.i('copy') and not is_manual), 500::bigint, 'five hundred are shown');
select ok(exists (select from public.worktree_branches where worktree_id = pg_temp.i('copy') and name = 'main' and is_default), 'the default among them');

select * from finish();
rollback;
