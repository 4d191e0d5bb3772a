select pg_temp.keep('projectId', (api.create_project(jsonb_build_object('body', jsonb_build_object('name', 'Billing of ' || pg_temp.tenant(),
  'description', pg_temp.secret(), 'privacy', 'shared', 'starred', true))) -> 'project' ->> 'id')::uuid);
select pg_temp.keep('repoId', (api.add_repository(jsonb_build_object('projectId', pg_temp.id('projectId'), 'body', jsonb_build_object('provider', 'github',
  'repositoryUrl', 'https://github.com/a/' || lower(pg_temp.tenant())))) ->> 'id')::uuid);
select pg_temp.keep('folderId', (api.create_folder(jsonb_build_object('projectId', pg_temp.id('projectId'),
  'body', jsonb_build_object('name', 'Folder of ' || pg_temp.tenant()))) ->> 'id')::uuid);
select api.update_project(jsonb_build_object('projectId', pg_temp.id('projectId'), 'body', '{"starred": true}'::jsonb)),
  api.update_manual_content(jsonb_build_object('projectId', pg_temp.id('projectId'), 'body', jsonb_build_object('content', pg_temp.secret() || ' by hand'))),
  api.update_project_settings(jsonb_build_object('projectId', pg_temp.id('projectId'), 'body', jsonb_build_object('customSettings', jsonb_build_object('is', pg_temp.secret()))));
with f as (
  insert into public.project_files (organization_id, project_id, uploaded_by, origin, name, path, mime_type, size, checksum, storage_key)
  values (pg_temp.org(), pg_temp.id('projectId'), pg_temp.person(), 'text', 'Plain text', 'texts/Plain text', 'text/plain', 1, encode(sha256('x'), 'hex'),
    left(md5(pg_temp.tenant()), 2) || '/' || right(md5(pg_temp.tenant()), 30))
  returning id
) select pg_temp.keep('fileId', id) from f;
insert into public.project_files (organization_id, project_id, repository_id, origin, name, path, mime_type)
values (pg_temp.org(), pg_temp.id('projectId'), pg_temp.id('repoId'), 'repository', 'main.go', 'main.go', 'text/plain');
with f as (
  insert into public.staged_files (organization_id, user_id, name, path, mime_type, size, checksum, storage_key)
  values (pg_temp.org(), pg_temp.person(), 'staged.md', 'staged.md', 'text/plain', 1, encode(sha256('x'), 'hex'), 'key of the staged file of ' || pg_temp.tenant())
  returning id
) select pg_temp.keep('stagedId', id) from f;
