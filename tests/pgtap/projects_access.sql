begin;
select no_plan();

-- Anna's organization: Olga is an admin there, Mia a member without any project role, Vic a viewer of the organization. Max, Dev, Vi and
-- Udo are manager, developer, viewer and auditor of the private project; Gus is a guest from another organization; Stan a stranger.
select tests.user('anna');
select tests.member('olga', 'anna', 'admin'), tests.member('mia', 'anna', 'member'), tests.member('vic', 'anna', 'viewer'),
  tests.member('max', 'anna', 'member'), tests.member('dev', 'anna', 'member'), tests.member('vi', 'anna', 'member'),
  tests.member('udo', 'anna', 'member'), tests.member('ada', 'anna', 'member'), tests.user('gus'), tests.user('stan');

create function pg_temp.pid(p_name text) returns uuid language sql as $$ select ('00000000-0000-4000-8000-00000000000' || case p_name when 'private' then 1 when 'shared' then 2 else 3 end)::uuid $$;
create function pg_temp.p(p_name text, p_body text default null, p_more text default '{}') returns jsonb language sql as $$
  select jsonb_strip_nulls(jsonb_build_object('projectId', pg_temp.pid(p_name), 'body', p_body::jsonb)) || p_more::jsonb $$;
create function pg_temp.key(p integer) returns text language sql as $$ select 'ab/' || lpad(p::text, 30, '0') $$;
create function pg_temp.upload(p_project text, p_path text, p_key integer, p_size integer default 10) returns jsonb language sql as $$
  select api.register_uploads(jsonb_strip_nulls(jsonb_build_object('projectId', pg_temp.pid(p_project), 'files', jsonb_build_array(jsonb_build_object(
    'name', p_path, 'path', p_path, 'type', 'text/plain', 'size', p_size, 'checksum', repeat('a', 64), 'storageKey', pg_temp.key(p_key)))))) $$;

select tests.act_as('anna');
select lives_ok($$ select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid('private'), 'name', 'Private one', 'manualContent', 'ten letters at least'))) $$, 'the owner creates a private project');
select lives_ok($$ select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid('shared'), 'name', 'Shared one', 'privacy', 'shared'))) $$, 'and a shared one');
select lives_ok($$ select api.add_repository(pg_temp.p(n, '{"provider": "github", "repositoryUrl": "github.com/a/b"}')) from unnest(array['private', 'shared']) n $$, 'with a repository each');
select lives_ok($$ select pg_temp.upload('private', 'src/a.ts', 1), pg_temp.upload('shared', 'src/a.ts', 2) $$, 'and a file each');
select tests.act_as('stan');
select lives_ok($$ select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid('foreign'), 'name', 'Foreign one'))) $$, 'the stranger has one too');
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
select tests.org('anna'), pg_temp.pid('private'), tests.user(n), n || '@example.nl', r, now()
from (values ('max', 'manager'), ('dev', 'developer'), ('vi', 'viewer'), ('udo', 'auditor'), ('gus', 'developer'), ('ada', 'admin')) v (n, r);
insert into public.project_members (organization_id, project_id, email, role) values (tests.org('anna'), pg_temp.pid('private'), 'mia@example.nl', 'admin');

-- ------------------------------------------------------------------------------- what each actor sees of each table (5.1, 21.5)
create temp table sight (actor text, prv text, shr text, content_prv boolean, content_shr boolean);
insert into sight values
  ('anna', 'owner', 'owner', true, true), ('olga', 'admin', 'admin', true, true), ('ada', 'admin', 'viewer', true, true), ('max', 'manager', 'viewer', true, true), ('dev', 'developer', 'viewer', true, true),
  ('vi', 'viewer', 'viewer', true, true), ('udo', 'auditor', 'viewer', false, true), ('mia', null, 'viewer', false, true), ('vic', null, 'viewer', false, true),
  ('gus', 'developer', null, true, false), ('stan', null, null, false, false);
grant select on sight to public;
create function pg_temp.seen(p_actor text, p_sql text) returns text language plpgsql as $$
declare v text;
begin
  perform tests.act_as(p_actor);
  execute p_sql into v;
  perform tests.reset();
  return v;
end $$;

select is(pg_temp.seen(actor, format('select private.project_role(%L)', pg_temp.pid('private'))), prv, actor || ' in the private project') from sight;
select is(pg_temp.seen(actor, format('select private.project_role(%L)', pg_temp.pid('shared'))), shr, actor || ' in the shared project') from sight;
select is(pg_temp.seen(actor, format('select count(*) from public.%s where project_id = %L', t, pg_temp.pid('private')))::integer > 0, case when kind = 'visible' then prv is not null else content_prv end,
  format('%s and %s of the private project', actor, t))
from sight, (values ('project_members', 'visible'), ('project_settings', 'content'), ('project_manual_contents', 'content'), ('project_repositories', 'content'),
  ('project_files', 'content'), ('worktrees', 'content'), ('worktree_branches', 'content')) v (t, kind);
select is(pg_temp.seen(actor, format('select count(*) from public.%s where project_id = %L', t, pg_temp.pid('shared')))::integer > 0, case when kind = 'visible' then shr is not null else content_shr end,
  format('%s and %s of the shared project', actor, t))
from sight, (values ('project_members', 'visible'), ('project_settings', 'content'), ('project_repositories', 'content'), ('project_files', 'content'), ('worktrees', 'content')) v (t, kind);
select is(pg_temp.seen(actor, format('select string_agg(id::text, %L order by id) from public.projects where id = any (%L)', ',', array[pg_temp.pid('private'), pg_temp.pid('shared')])),
  nullif(concat_ws(',', case when prv is not null then pg_temp.pid('private') end, case when shr is not null then pg_temp.pid('shared') end), ''), actor || ' and the rows of projects') from sight;
select is(pg_temp.seen(actor, $$ select string_agg(d ->> 'name', ',' order by d ->> 'name') from jsonb_array_elements(api.list_projects('{}') -> 'data') d $$),
  nullif(concat_ws(',', case when actor = 'stan' then 'Foreign one' end, case when prv is not null then 'Private one' end, case when shr is not null then 'Shared one' end), ''), actor || ' and the list') from sight;
select is(pg_temp.seen(actor, $$ select (api.list_projects('{"pageSize": 1}') ->> 'total') || '/' || (api.get_project_stats('{}') ->> 'totalProjects') || '/' || (api.list_projects('{"search": "one", "pageSize": 1}') ->> 'total') $$),
  format('%1$s/%1$s/%1$s', (prv is not null)::integer + (shr is not null)::integer + (actor = 'stan')::integer), actor || ': kept, counted and filtered totals agree') from sight;
select is(pg_temp.seen(actor, format('select count(distinct user_id) from public.project_activity where project_id = %L', pg_temp.pid('private')))::integer > 0, actor in ('anna', 'olga', 'ada', 'max', 'udo'),
  actor || ' and other people''s activity') from sight;
select is(pg_temp.seen(actor, format('select count(*) from public.staged_files'))::integer, 0, actor || ' sees nobody''s staged uploads') from sight;
select is(pg_temp.seen('dev', format('select api.get_project(%L) ->> ''owner''', pg_temp.p('private'))), 'anna@example.nl', 'owner is the e-mail for others');
select is(pg_temp.seen('anna', format('select api.get_project(%L) ->> ''owner''', pg_temp.p('private'))), 'current-user', 'and a literal for the owner');
select is(pg_temp.seen('gus', format('select api.get_project(%L) ->> ''sharedBy''', pg_temp.p('private'))), 'Anna Test', 'a guest reads who shares it');
select is(pg_temp.seen('udo', format('select api.get_project_full(%L) -> ''repositories''', pg_temp.p('private'))), '[]', 'an auditor gets no repositories');
select is(pg_temp.seen('udo', format('select (api.list_files(%1$L) ->> ''total'') || (api.list_source_files(%1$L))::text || api.list_worktrees(%1$L)::text', pg_temp.p('private'))), '0[][]', 'and empty lists');

select tests.act_anon();
select throws_ok('select count(*) from public.' || t, '42501', 'permission denied for table ' || t, 'anonymous and ' || t)
from unnest(array['projects', 'project_members', 'project_settings', 'project_repositories', 'project_files', 'staged_files', 'worktrees', 'worktree_branches', 'project_activity', 'project_stars', 'project_manual_contents']) t;
select throws_ok($$ select api.get_project('{}') $$, '42501', 'permission denied for function get_project', 'anonymous calls nothing');
select tests.act_service();
select throws_ok('select count(*) from public.projects', '42501', 'permission denied for table projects', 'the service has no table of its own');
select tests.act_as_claims('dev');
select is((select count(*)::integer from public.projects where id = pg_temp.pid('private')), 1, 'claims alone, with a live session, see the same');
select is((select count(*)::integer from public.projects where id = pg_temp.pid('foreign')), 0, 'and no more');
select tests.reset();
select throws_ok($$ set local role authenticated; select storage_key from public.project_files $$, '42501', 'permission denied for table project_files', 'storage keys are readable for nobody');
select tests.reset();

-- ------------------------------------------------------------------------------------------------- the matrix of 5.2, as data
create temp table matrix (n serial, action text, statement text, allowed text);
insert into matrix (action, statement, allowed) values
  ('see project', $$ select api.get_project(pg_temp.p('private')) $$, 'OAMDVU'),
  ('see full', $$ select api.get_project_full(pg_temp.p('private')) $$, 'OAMDVU'),
  ('star', $$ select api.update_project(pg_temp.p('private', '{"starred": true}')) $$, 'OAMDVU'),
  ('read settings', $$ select api.get_project_settings(pg_temp.p('private')) $$, 'OAMDV'),
  ('read manual text', $$ select api.get_manual_content(pg_temp.p('private')) $$, 'OAMDV'),
  ('edit project', $$ select api.update_project(pg_temp.p('private', '{"label": "new"}')) $$, 'OA'),
  ('edit settings', $$ select api.update_project_settings(pg_temp.p('private', '{"persona": "sam"}')) $$, 'OA'),
  ('edit notification level', $$ select api.update_project_settings(pg_temp.p('private', '{"defaultNotificationLevel": "weekly"}')) $$, 'OAM'),
  ('edit it with a form', $$ select api.update_project_settings(pg_temp.p('private', '{"defaultNotificationLevel": "weekly", "name": "x"}')) $$, 'OAM'),
  ('edit it and more', $$ select api.update_project_settings(pg_temp.p('private', '{"defaultNotificationLevel": "weekly", "outputFormat": "json"}')) $$, 'OA'),
  ('add repository', $$ select api.add_repository(pg_temp.p('private', '{"provider": "github", "repositoryUrl": "github.com/c/d"}')) $$, 'OAMD'),
  ('upload', $$ select pg_temp.upload('private', 'b.ts', 9) $$, 'OAMD'),
  ('create folder', $$ select api.create_folder(pg_temp.p('private', '{"name": "docs"}')) $$, 'OAMD'),
  ('write manual text', $$ select api.update_manual_content(pg_temp.p('private', '{"content": "another ten letters"}')) $$, 'OAMD'),
  ('attach', $$ select api.attach_files(pg_temp.p('private', '{"fileIds": ["x"]}')) $$, 'OAMD'),
  ('delete project', $$ select api.delete_project(pg_temp.p('private')) $$, 'OA');
grant select on matrix to public;
create function pg_temp.outcome(p_actor text, p_sql text) returns text language plpgsql as $$
declare v text;
begin
  perform tests.act_as(p_actor);
  begin
    execute p_sql into v;
    raise exception using errcode = 'ZZ000';
  exception when sqlstate 'ZZ000' then v := 'ok';
    when others then v := sqlstate;
  end;
  perform tests.reset();
  return v;
end $$;
select is(pg_temp.outcome(a.actor, m.statement), case when strpos(m.allowed, a.letter) > 0 then 'ok' else 'PT403' end, format('%s: %s', m.action, a.actor))
from matrix m, (values ('anna', 'O'), ('olga', 'A'), ('ada', 'A'), ('max', 'M'), ('dev', 'D'), ('gus', 'D'), ('vi', 'V'), ('udo', 'U')) a (actor, letter) order by m.n;
select is(pg_temp.outcome(a, m.statement), 'PT404', format('%s: %s finds nothing', m.action, a)) from matrix m, unnest(array['mia', 'vic', 'stan']) a order by m.n;
select is(pg_temp.outcome('vic', $$ select api.create_project('{"body": {"name": "Not me"}}') $$), 'PT403', 'a viewer of the organization creates nothing');
select is(pg_temp.outcome('mia', $$ select api.create_project('{"body": {"name": "Me too"}}') $$), 'ok', 'a member does');
select is(pg_temp.outcome('mia', format($$ select api.create_project('{"body": {"name": "Elsewhere", "organizationId": "%s"}}') $$, tests.org('stan'))), 'PT403', 'but not in a stranger''s organization');

-- The same through the tables themselves: a forbidden write changes nothing.
create function pg_temp.touched(p_actor text, p_sql text) returns text language plpgsql as $$
declare v integer;
begin
  perform tests.act_as(p_actor);
  begin
    execute p_sql;
    get diagnostics v = row_count;
    raise exception using errcode = 'ZZ000';
  exception when sqlstate 'ZZ000' then null;
    when others then perform tests.reset(); return sqlstate;
  end;
  perform tests.reset();
  return v::text;
end $$;
select is(pg_temp.touched(v.actor, v.sql), v.wanted, format('%s: %s', v.actor, v.why)) from (values
  ('anna', $$ update public.projects set name = 'Renamed' where id = pg_temp.pid('private') $$, '1', 'the owner renames'),
  ('max', $$ update public.projects set name = 'Renamed' where id = pg_temp.pid('private') $$, '0', 'a manager cannot rename'),
  ('stan', $$ update public.projects set name = 'Renamed' $$, '1', 'a stranger reaches only his own row'),
  ('vi', $$ delete from public.projects $$, '0', 'a viewer deletes nothing'),
  ('anna', $$ update public.projects set status = 'active' where id = pg_temp.pid('private') $$, '42501', 'nobody writes the status'),
  ('anna', $$ update public.projects set user_id = private.user_id() where id = pg_temp.pid('private') $$, '42501', 'nor the owner'),
  ('anna', $$ update public.projects set organization_id = organization_id where id = pg_temp.pid('private') $$, '42501', 'nor the organization'),
  ('anna', $$ update public.projects set total_repos = 9 where id = pg_temp.pid('private') $$, '42501', 'nor counters'),
  ('dev', $$ delete from public.project_repositories where project_id = pg_temp.pid('private') $$, '1', 'a developer removes a repository'),
  ('vi', $$ delete from public.project_repositories where project_id = pg_temp.pid('private') $$, '0', 'a viewer does not'),
  ('gus', $$ insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name) select organization_id, id, 'github', 'https://github.com/q/w', 'x' from public.projects where id = pg_temp.pid('private') $$, '1', 'a guest developer adds one'),
  ('dev', $$ insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name) select organization_id, id, 'github', 'https://evil.example/q/w', 'x' from public.projects where id = pg_temp.pid('private') $$, 'PT400', 'of known hosts only'),
  ('stan', $$ insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name) values (tests.org('stan'), pg_temp.pid('private'), 'github', 'https://github.com/q/w', 'x') $$, '42501', 'a stranger cannot hang a row under a foreign project'),
  ('dev', $$ insert into public.project_files (organization_id, project_id, uploaded_by, is_folder, name, path) select organization_id, id, private.user_id(), false, 'x', 'x' from public.projects where id = pg_temp.pid('private') $$, '42501', 'content comes in through the upload alone'),
  ('max', $$ update public.project_settings set persona = 'sam' where project_id = pg_temp.pid('private') $$, 'PT403', 'a manager changes the level alone'),
  ('max', $$ update public.project_settings set default_notification_level = 'weekly' where project_id = pg_temp.pid('private') $$, '1', 'which he may'),
  ('stan', $$ insert into public.project_stars (user_id, project_id, organization_id) values (private.user_id(), pg_temp.pid('private'), tests.org('anna')) $$, '42501', 'nobody stars what he does not see'),
  ('dev', $$ insert into public.project_stars (user_id, project_id, organization_id) values (tests.user('vi'), pg_temp.pid('private'), tests.org('anna')) $$, '42501', 'nor for others'),
  ('anna', $$ insert into public.project_activity (organization_id, project_id, type, user_name, user_email, description) values (tests.org('anna'), pg_temp.pid('private'), 'view', 'x', 'x', 'x') $$, '42501', 'activity is written by nobody'),
  -- Members (5.3).
  ('anna', $$ update public.project_members set role = 'viewer' where email = 'ada@example.nl' $$, '1', 'the owner demotes an admin'),
  ('ada', $$ update public.project_members set role = 'viewer' where email = 'ada@example.nl' $$, 'PT403', 'nobody demotes themselves'),
  ('olga', $$ update public.project_members set role = 'viewer' where email = 'ada@example.nl' $$, 'PT403', 'an admin cannot touch another admin'),
  ('ada', $$ update public.project_members set role = 'viewer' where email = 'anna@example.nl' $$, 'PT409', 'nor anybody the owner'),
  ('anna', $$ delete from public.project_members where email = 'anna@example.nl' $$, 'PT409', 'the owner cannot go'),
  ('ada', $$ update public.project_members set role = 'admin' where email = 'dev@example.nl' $$, '1', 'an admin promotes up to his own rank'),
  ('max', $$ update public.project_members set role = 'viewer' where email = 'dev@example.nl' $$, 'PT403', 'a manager changes no roles'),
  ('max', $$ delete from public.project_members where email = 'dev@example.nl' $$, '1', 'but removes lower ones'),
  ('max', $$ delete from public.project_members where email = 'ada@example.nl' $$, 'PT403', 'and no higher ones'),
  ('dev', $$ delete from public.project_members where email = 'vi@example.nl' $$, '0', 'a developer removes nobody'),
  ('vi', $$ update public.project_members set notify_on_error = false where email = 'vi@example.nl' $$, '1', 'everybody sets their own flags'),
  ('vi', $$ update public.project_members set notify_on_error = false where email = 'dev@example.nl' $$, '0', 'and not those of others'),
  ('max', $$ insert into public.project_members (organization_id, project_id, email, role) values (tests.org('anna'), pg_temp.pid('private'), 'new@example.nl', 'manager') $$, '1', 'a manager invites up to manager'),
  ('max', $$ insert into public.project_members (organization_id, project_id, email, role) values (tests.org('anna'), pg_temp.pid('private'), 'new@example.nl', 'admin') $$, 'PT403', 'and no admin'),
  ('max', $$ insert into public.project_members (organization_id, project_id, email, user_id, accepted_at) values (tests.org('anna'), pg_temp.pid('private'), 'new@example.nl', tests.user('stan'), now()) $$, '42501', 'nobody accepts for others'),
  ('anna', $$ insert into public.project_members (organization_id, project_id, email) values (tests.org('anna'), pg_temp.pid('private'), 'dev@example.nl') $$, 'PT409', 'an e-mail is a member once')
) v (actor, sql, wanted, why);

select * from finish();
rollback;
