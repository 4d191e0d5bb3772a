insert into public.context_source_selection (organization_id, project_id, user_id, file_id)
select f.organization_id, f.project_id, pg_temp.person(), f.id from public.context_files f where f.project_id = pg_temp.id('projectId');
