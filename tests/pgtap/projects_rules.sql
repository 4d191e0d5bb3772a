begin;
select no_plan();

-- Rules that hold for every writer, the owner of the database included.
select tests.user('anna'), tests.user('stan');
create function pg_temp.pid(i integer) returns uuid language sql as $$ select ('00000000-0000-4000-8000-00000000000' || i)::uuid $$;
create function pg_temp.p(i integer, p_body text default null, p_more text default '{}') returns jsonb language sql as $$
  select jsonb_strip_nulls(jsonb_build_object('projectId', pg_temp.pid(i), 'body', p_body::jsonb)) || p_more::jsonb $$;
create function pg_temp.files(p_paths text[], p_first integer, p_size bigint default 10) returns jsonb language sql as $$
  select jsonb_agg(jsonb_build_object('name', p, 'path', p, 'type', 'text/plain', 'size', p_size, 'checksum', repeat('a', 64), 'storageKey', 'ab/' || lpad((p_first + o)::text, 30, '0')) order by o)
  from unnest(p_paths) with ordinality t (p, o) $$;
create function pg_temp.storage(p_name text) returns bigint language sql security definer as $$
  select coalesce((select used from public.usage where organization_id = tests.org(p_name) and metric = 'storage'), 0) $$;
create function pg_temp.project(i integer) returns public.projects language sql security definer as $$ select p from public.projects p where id = pg_temp.pid(i) $$;

select tests.act_as('stan');
select api.create_project('{"body": {"name": "Foreign", "id": "00000000-0000-4000-8000-000000000009"}}') is not null;
select api.add_repository(pg_temp.p(9, '{"provider": "github", "repositoryUrl": "github.com/s/s"}')) is not null;
select tests.act_as('anna');
select is(api.create_project('{"body": {"name": " One ", "id": "00000000-0000-4000-8000-000000000001"}}') -> 'nextSteps', '["source_config", "team_setup", "settings", "review"]', 'the next steps are the same for all');
select is((pg_temp.project(1)).name, 'One', 'names are trimmed');
select throws_ok($$ select api.create_project('{"body": {"name": "ONE"}}') $$, 'PT409', 'A project with this name already exists.', 'a name is taken once');
select throws_ok($$ select api.create_project('{"body": {"name": "Another", "id": "00000000-0000-4000-8000-000000000009"}}') $$, 'PT409', 'This id is already in use.', 'an id too, even a hidden one');
select throws_ok($$ select api.create_project('{"body": {"name": "Another", "chunkingStrategy": "custom"}}') $$, 'PT400', 'Custom chunking needs a webhook URL.', 'custom needs a webhook');
select is(api.create_project('{"body": {"name": "Custom", "id": "00000000-0000-4000-8000-000000000002", "chunkingStrategy": "custom", "settings": {"webhookUrl": "https://hooks.example.com/x"}}, "sealedWebhookSecret": "sealed"}') ->> 'webhookSecret', 'sealed', 'and keeps its secret');
select is(tests.peek($$ select count(*) from private.project_webhook_secrets $$), '1', 'sealed');
select throws_ok($$ select api.update_project_settings(pg_temp.p(1, '{"outputFormat": "vector"}')) $$, 'PT503', 'No embedding provider is configured on this installation.', 'vectors need a provider');
select throws_ok($$ select api.update_project_settings(pg_temp.p(1, '{"patternFilters": {"excludePatterns": ["a["]}}')) $$, 'PT400', 'This is not a valid pattern of 1 to 200 characters.', 'patterns are checked');
select is(api.update_project_settings(pg_temp.p(1, '{"metadataOptions": {"gitHistory": false}, "processingOptions": {"anonymizeSecrets": false}}')) -> 'metadataOptions' ->> 'fileStructure', 'true', 'options merge');
select is((pg_temp.project(1)).anonymize_secrets, false, 'and anonymizeSecrets is the project''s own');

select is(api.update_project(pg_temp.p(1, '{"name": "One more", "description": "x", "sourceCount": 99, "status": "draft", "icon": {"type": "initials", "value": "ON", "backgroundColor": "#3b82f6"}}')) -> 'icon' ->> 'value', 'ON', 'initials of the old name');
select is(api.update_project(pg_temp.p(1, '{"name": "Two more", "description": ""}')) - array['updatedAt'] -> 'icon' ->> 'value', 'TW', 'follow a rename');
select ok((pg_temp.project(1)).description is null, 'an empty description clears');
select throws_ok(format($$ select api.update_project(pg_temp.p(1, '{"%s": "%s"}')) $$, f, v), 'PT400', f || ' cannot be changed.', 'protected: ' || f)
from (values ('status', 'active'), ('userId', gen_random_uuid()::text), ('organizationId', gen_random_uuid()::text), ('id', gen_random_uuid()::text), ('createdAt', '2020-01-01T00:00:00.000Z')) v (f, v);

-- Counters, places, storage.
select api.add_repository(pg_temp.p(1, '{"provider": "github", "repositoryUrl": "github.com/a/b", "includePaths": ["src/**", "src/**"]}')) is not null;
select throws_ok($$ select api.add_repository(pg_temp.p(1, '{"provider": "github", "repositoryUrl": "https://github.com/a/b.git"}')) $$, 'PT409', 'This repository and branch are already part of the project.', 'a repository once');
select throws_ok($$ select api.add_repository(pg_temp.p(1, '{"provider": "gitlab", "repositoryUrl": "github.com/a/c"}')) $$, 'PT400', 'This address belongs to github.', 'the host decides the provider');
select is(jsonb_array_length(api.register_uploads(jsonb_build_object('projectId', pg_temp.pid(1), 'files', pg_temp.files(array['a.ts', 'src/b.ts', 'src/lib/c.json'], 100))) -> 'uploaded'), 3, 'three files');
select is(api.register_uploads(jsonb_build_object('projectId', pg_temp.pid(1), 'files', pg_temp.files(array['A.TS', 'a.ts/x', '/abs', '../up', 'x//y', e'x\ny', 'src', 'q', 'q'], 200))) - 'uploaded' -> 'refused',
  (select jsonb_agg('ab/' || lpad((200 + i)::text, 30, '0')) from unnest(array[1,2,3,4,5,6,7,9]) i), 'bad paths come back with their keys');
select is(pg_temp.storage('anna'), 40::bigint, 'stored bytes count');
select is(((pg_temp.project(1)).uploaded_files, (pg_temp.project(1)).root_files, (pg_temp.project(1)).total_repos, (pg_temp.project(1)).source_count)::text, '(4,2,1,3)', 'counters follow');
select is(api.register_uploads(jsonb_build_object('projectId', pg_temp.pid(1), 'files', pg_temp.files(array['a.ts'], 300, 25))) -> 'uploaded' -> 0 ->> 'size', '25', 'the same path replaces');
select is(pg_temp.storage('anna'), 55::bigint, 'by the difference');
select is(tests.peek($$ select string_agg(convert_from(args, 'UTF8'), ',') from jobs.gue_jobs where job_type = 'blobs.delete' $$), '{"keys": ["ab/' || lpad('101', 30, '0') || '"]}', 'and the old content is deleted by a job');
select throws_ok($$ select api.register_uploads(jsonb_build_object('projectId', pg_temp.pid(1), 'files', pg_temp.files(array['big'], 400, 2000000000))) $$, 'PT429', 'Your plan''s storage is used up.', 'over quota the request fails');
select throws_ok($$ select api.register_uploads(jsonb_build_object('projectId', pg_temp.pid(9), 'files', pg_temp.files(array['x'], 500))) $$, 'PT404', 'This project does not exist.', 'not into hidden projects');
select throws_ok($$ select api.register_uploads(jsonb_build_object('projectId', pg_temp.pid(1), 'files', pg_temp.files(array['thief'], 300))) $$, '23505', null, 'nobody takes a blob by its key');

-- The tree.
create temp view tree as select f ->> 'id' as id, f ->> 'name' as name, f ->> 'parentId' as parent, (f ->> 'order')::integer as place from jsonb_array_elements(api.list_source_files(pg_temp.p(1))) f;
grant select on tree to public;
create function pg_temp.id(p_name text) returns text language sql as $$ select f ->> 'id' from jsonb_array_elements(api.list_source_files(pg_temp.p(1))) f where f ->> 'name' = p_name $$;
create function pg_temp.change(p_name text, p_body jsonb) returns jsonb language sql as $$ select api.update_source_file(jsonb_build_object('projectId', pg_temp.pid(1), 'fileId', pg_temp.id(p_name), 'body', p_body)) $$;
create function pg_temp.root() returns text language sql as $$ select string_agg(f ->> 'name', ',' order by (f ->> 'order')::integer, f ->> 'name') from jsonb_array_elements(api.list_source_files(pg_temp.p(1))) f where f ->> 'parentId' is null $$;
select is(pg_temp.root(), 'src,a.ts,q', 'order of arrival, folders of a request first');
select is(pg_temp.change('q', '{"order": 0}') ->> 'order', '0', 'reorder');
select is(pg_temp.root(), 'q,src,a.ts', 'the others make room');
select is(pg_temp.change('q', '{"order": 99}') ->> 'order', '2', 'clamped');
select throws_ok($$ select pg_temp.change('src', jsonb_build_object('parentId', pg_temp.id('lib'))) $$, 'PT400', 'A folder cannot be moved into itself.', 'no cycles');
select throws_ok($$ select pg_temp.change('q', jsonb_build_object('parentId', pg_temp.id('a.ts'))) $$, 'PT400', 'The parent must be a folder of this project.', 'a parent is a folder');
select throws_ok($$ select pg_temp.change('q', '{"name": "A.ts"}') $$, 'PT409', '"A.ts" exists there already.', 'names are unique among siblings');
select is(pg_temp.change('a.ts', '{"name": "a.tar.py"}') - 'id' - 'order', '{"name": "a.tar.py", "extension": "py", "type": "python", "size": 25, "parentId": null}'::jsonb, 'a rename moves extension and type');
select is(pg_temp.change('src', '{"name": "source"}') ->> 'name', 'source', 'a folder is renamed');
select is((select string_agg(d ->> 'path', ',' order by d ->> 'path') from jsonb_array_elements(api.list_files(pg_temp.p(1)) -> 'data') d), 'a.tar.py,q,source/b.ts,source/lib/c.json', 'with all below it');
select is(api.delete_source_file(jsonb_build_object('projectId', pg_temp.pid(1), 'fileId', pg_temp.id('source'))), null, 'a folder goes');
select is(pg_temp.storage('anna'), 35::bigint, 'with its content');
select is((pg_temp.project(1)).uploaded_files, 2, 'which no longer counts');

-- Staged uploads.
select api.register_uploads(jsonb_build_object('files', pg_temp.files(array['s.ts'], 600, 7))) as staged \gset
select is(pg_temp.storage('anna'), 42::bigint, 'staged bytes count');
select is(api.attach_files(pg_temp.p(1, jsonb_build_object('fileIds', jsonb_build_array(:'staged'::jsonb -> 'uploaded' -> 0 -> 'id'))::text)) -> 'attached' -> 0 -> 'id', :'staged'::jsonb -> 'uploaded' -> 0 -> 'id', 'attaching keeps the id');
select is(jsonb_array_length(api.attach_files(pg_temp.p(1, jsonb_build_object('fileIds', jsonb_build_array(:'staged'::jsonb -> 'uploaded' -> 0 -> 'id'))::text)) -> 'attached'), 1, 'and may be repeated');
select is(pg_temp.storage('anna'), 42::bigint, 'and counts once');
select api.register_uploads(jsonb_build_object('files', pg_temp.files(array['t.ts'], 700, 7))) is not null;
select tests.reset();
update public.staged_files set created_at = now() - interval '25 hours';
select is(tests.end_old('staged_files'), 1::bigint, 'staged uploads live a day');
select is(pg_temp.storage('anna'), 42::bigint, 'and give their bytes back');
select is(private.unreferenced_blobs(array['ab/' || lpad('701', 30, '0'), 'ab/' || lpad('601', 30, '0')]), array['ab/' || lpad('701', 30, '0')], 'only what no row names may be deleted');

-- Foreign keys cannot point at another tenant.
select throws_ok(format('insert into public.%s values (%s)', v.t, v.q), '23503', null, 'no row of ' || v.t || ' under a foreign project') from (values
  ('project_stars (user_id, project_id, organization_id)', format('%L, %L, %L', tests.user('anna'), pg_temp.pid(9), tests.org('anna'))),
  ('project_manual_contents (project_id, organization_id, content)', format('%L, %L, %L', pg_temp.pid(9), tests.org('anna'), 'ten letters at least')),
  ('project_members (project_id, organization_id, email)', format('%L, %L, %L', pg_temp.pid(9), tests.org('anna'), 'x@example.nl')),
  ('project_repositories (project_id, organization_id, provider, repository_url, repository_name)', format('%L, %L, %L, %L, %L', pg_temp.pid(9), tests.org('anna'), 'github', 'https://github.com/z/z', 'z')),
  ('worktrees (project_id, organization_id, name, path)', format('%L, %L, %L, %L', pg_temp.pid(9), tests.org('anna'), 'W', '/W')),
  ('worktree_branches (project_id, organization_id, worktree_id, name)', format('%L, %L, (select id from public.worktrees where project_id = %L), %L', pg_temp.pid(1), tests.org('anna'), pg_temp.pid(9), 'x')),
  ('project_files (project_id, organization_id, repository_id, origin, name, path)', format('%L, %L, (select id from public.project_repositories where project_id = %L), %L, %L, %L', pg_temp.pid(1), tests.org('anna'), pg_temp.pid(9), 'repository', 'z', 'z')),
  ('project_activity (project_id, organization_id, type, user_name, user_email, description)', format('%L, %L, %L, %L, %L, %L', pg_temp.pid(9), tests.org('anna'), 'view', 'x', 'x', 'x'))) v (t, q);

-- The state machine: no role bypasses it.
create function pg_temp.walk(p_from text, p_to text) returns text language plpgsql as $$
begin
  if p_from <> 'draft' then
    perform private.set_project_status(pg_temp.pid(1), 'processing');
    if p_from <> 'processing' then perform private.set_project_status(pg_temp.pid(1), p_from); end if;
  end if;
  perform private.set_project_status(pg_temp.pid(1), p_to);
  raise exception using errcode = 'ZZ000';
exception when sqlstate 'ZZ000' then return 'ok'; when others then return sqlstate;
end $$;
select is(pg_temp.walk(f, t), case when f = t or (f, t) in (('draft', 'processing'), ('active', 'processing'), ('error', 'processing'), ('processing', 'active'), ('processing', 'error'), ('processing', 'draft')) then 'ok' else 'PT409' end, f || ' to ' || t)
from unnest(array['draft', 'processing', 'active', 'error']) f, unnest(array['draft', 'processing', 'active', 'error']) t;
select throws_ok($$ update public.projects set organization_id = tests.org('stan') where id = pg_temp.pid(1) $$, 'PT400', 'A project keeps its id and its organization.', 'an organization is for ever');
select throws_ok($$ delete from public.project_members where project_id = pg_temp.pid(1) $$, 'PT409', 'The owner cannot be removed.', 'there is always an owner');
select throws_ok($$ update public.project_members set role = 'viewer' where project_id = pg_temp.pid(1) $$, 'PT409', 'The owner cannot be given another role.', 'who stays admin');

-- While a run is active.
select private.set_project_status(pg_temp.pid(1), 'processing');
select tests.act_as('anna');
select throws_ok($$ select api.update_project(pg_temp.p(1, '{"chunkingStrategy": "fixed"}')) $$, 'PT409', 'This project is being ingested; what affects the run cannot be changed now.', 'flags of a run stay');
select throws_ok($$ select api.update_project_settings(pg_temp.p(1, '{"fileFilters": {"excludeTests": false}}')) $$, 'PT409', 'This project is being ingested; what affects the run cannot be changed now.', 'settings of a run too');
select lives_ok($$ select api.update_project_settings(pg_temp.p(1, '{"processingOptions": {"realTimeIncremental": true}, "defaultNotificationLevel": "weekly"}')), api.update_project(pg_temp.p(1, '{"label": "x"}')) $$, 'others may change');
select throws_ok($$ select api.update_project_settings(pg_temp.p(1, '{"persona": "sam", "customSettings": {"a": 1}}')) $$, 'PT409', 'This project is being ingested; what affects the run cannot be changed now.', 'custom settings may affect a run');
select throws_ok($$ delete from public.project_repositories where project_id = pg_temp.pid(1) $$, 'PT409', 'This project is being ingested. Wait for the end or cancel the run first.', 'repositories stay');
select throws_ok($$ delete from public.projects where id = pg_temp.pid(1) $$, 'PT409', 'This project is being ingested. Cancel the run first.', 'and so does the project');
select tests.reset();
select private.finish_project_run(pg_temp.pid(1), 12, 1000, 400, 7);
select is(((pg_temp.project(1)).status, (pg_temp.project(1)).total_files, (pg_temp.project(1)).optimized_tokens)::text, '(active,12,400)', 'a run leaves its numbers');
select tests.act_as('anna');
select is(api.get_project_stats('{}'), '{"totalProjects": 2, "activeProjects": 1, "processingProjects": 0, "errorProjects": 0, "totalTokens": 400, "totalFiles": 12}'::jsonb, 'and the stats follow');
select throws_ok($$ select api.update_project(pg_temp.p(1, '{"type": "files"}')) $$, 'PT409', 'The type can be changed only while the project is a draft.', 'the type is fixed after the first run');

-- Audit, events, deletion.
select is(tests.peek($$ select string_agg(event_type, ',' order by created_at) from public.audit_log where metadata ->> 'contextName' = 'Custom' $$) like 'context.created%', true, 'creation is audited');
select lives_ok($$ select api.delete_project(pg_temp.p(1)) $$, 'the owner deletes');
select throws_ok($$ select api.delete_project(pg_temp.p(1)) $$, 'PT404', 'This project does not exist.', 'once');
select is(pg_temp.storage('anna'), 0::bigint, 'all bytes come back');
select is(tests.peek($$ select count(*) from private.event_inbox where type = 'removal' and data ->> 'kind' = 'project_deleted' $$), '1', 'sockets hear of it');
select is(tests.peek($$ select array_length(user_ids, 1) from private.event_inbox where type = 'resource_changed' and data ->> 'operation' = 'deleted' and room like 'org:%' $$), '1', 'those who could see it, too');
select is(tests.peek($$ select sum(projects) from private.project_counters where organization_id = tests.org('anna') $$), '1', 'one project is left');
select tests.reset();

-- Leaving and going.
select tests.member('leo', 'anna');
select tests.act_as('leo');
select api.create_project('{"body": {"name": "Of Leo", "id": "00000000-0000-4000-8000-000000000005"}}') is not null;
select tests.reset();
delete from public.memberships where user_id = tests.user('leo');
select is((pg_temp.project(5)).user_id, tests.user('anna'), 'who leaves the organization leaves his projects to its owner');
select is((select count(*)::integer from public.project_members where project_id = pg_temp.pid(5) and user_id = tests.user('leo')), 0, 'and is no member any more');
select lives_ok($$ delete from public.organizations where id = tests.org('stan') $$, 'an organization goes with everything');
select is((select count(*)::integer from public.projects where id = pg_temp.pid(9)), 0, 'its projects too');

-- One CHECK a table, whose function names the rule that a row breaks.
select tests.reset();
create temp table born as
  select id, organization_id, name as old_name from public.projects where user_id = tests.user('anna') limit 1;
select throws_ok(format('update public.%I set %s where %s', v.tab, v.change, case v.tab when 'projects' then 'id' else 'project_id' end
    || format(' = %L', (select id from born))),
  '23514', format('new row for relation "%s" violates check constraint "%s"', v.tab, v.rule), v.rule || ' holds: ' || v.change)
from (values
  ('projects', 'projects_name_check', $$name = ' ab '$$), ('projects', 'projects_name_check', $$name = E'a\u0001b'$$),
  ('projects', 'projects_description_check', $$description = repeat('x', 2001)$$), ('projects', 'projects_type_check', $$type = 'other'$$),
  ('projects', 'projects_privacy_check', $$privacy = 'open'$$), ('projects', 'projects_chunking_strategy_check', $$chunking_strategy = 'none'$$),
  ('projects', 'projects_icon_check', $$icon = '{"type": "emoji"}'$$), ('projects', 'projects_icon_check', $$icon = '{"type": "film", "value": "x"}'$$),
  ('projects', 'projects_label_check', $$label = ''$$), ('projects', 'projects_color_check', $$color = 'red'$$),
  ('projects', 'projects_preview_url_check', $$preview_url = 'http://a.nl'$$), ('projects', 'projects_counters_check', $$total_repos = -1$$),
  ('project_members', 'project_members_email_check', $$email = 'Anna@example.nl'$$), ('project_members', 'project_members_email_check', $$email = 'anna'$$),
  ('project_members', 'project_members_name_check', $$name = repeat('x', 101)$$),
  ('project_members', 'project_members_avatar_url_check', $$avatar_url = repeat('x', 501)$$),
  ('project_members', 'project_members_notification_level_check', $$notification_level = 'hourly'$$),
  ('project_settings', 'project_settings_webhook_url_check', $$webhook_url = 'http://a.nl'$$),
  ('project_settings', 'project_settings_metadata_options_check', $$metadata_options = '{"gitHistory": true}'$$),
  ('project_settings', 'project_settings_output_format_check', $$output_format = 'xml'$$),
  ('project_settings', 'project_settings_embedding_model_check', $$embedding_model = 'other'$$),
  ('project_settings', 'project_settings_pattern_filters_check', $$pattern_filters = '{"languagePatterns": [""], "excludePatterns": []}'$$),
  ('project_settings', 'project_settings_pattern_filters_check', $$pattern_filters = '{"languagePatterns": [1], "excludePatterns": []}'$$),
  ('project_settings', 'project_settings_pattern_filters_check',
    $$pattern_filters = jsonb_build_object('languagePatterns', '[]'::jsonb, 'excludePatterns', jsonb_build_array(repeat('x', 201)))$$),
  ('project_settings', 'project_settings_processing_options_check', $$processing_options = '{"parallelProcessing": 1, "realTimeIncremental": false}'$$),
  ('project_settings', 'project_settings_file_filters_check', $$file_filters = '{}'$$),
  ('project_settings', 'project_settings_level_check', $$default_notification_level = 'hourly'$$),
  ('project_settings', 'project_settings_persona_check', $$persona = 'eva'$$), ('project_settings', 'project_settings_custom_check', $$custom_settings = '[]'$$),
  ('worktrees', 'worktrees_name_check', $$name = ' Main'$$), ('worktrees', 'worktrees_path_check', $$path = '/'$$),
  ('worktree_branches', 'worktree_branches_name_check', $$name = ' '$$),
  ('project_activity', 'project_activity_type_check', $$type = 'other'$$), ('project_activity', 'project_activity_description_check', $$description = ''$$),
  ('project_activity', 'project_activity_metadata_check', $$metadata = '[]'$$)
) v (tab, rule, change);
select lives_ok(format($$ update public.project_settings set pattern_filters =
    jsonb_build_object('languagePatterns', jsonb_build_array(repeat('é', 200), E'a\nb'), 'excludePatterns', '[]'::jsonb) where project_id = %L $$,
  (select id from born)), 'a pattern has up to 200 characters of any kind');

select * from finish();
rollback;
