insert into private.push_hooks (repository_id, organization_id, project_id, provider, repository_url, repository_name, user_id, sealed_secret)
select r.id, r.organization_id, r.project_id, r.provider, r.repository_url, r.repository_name, pg_temp.person(), 'v1.' || pg_temp.secret()
from public.project_repositories r where r.id = pg_temp.id('repoId');
