-- A summary of the context's version.
insert into public.context_summaries (organization_id, project_id, version, description, key_components, model)
values (pg_temp.org(), pg_temp.id('projectId'), 1, pg_temp.secret(), array[pg_temp.secret()], 'kijko-extractive');
insert into private.summary_jobs (organization_id, project_id, version, is_requested, operation_id, status, finished_at)
values (pg_temp.org(), pg_temp.id('projectId'), 1, false, gen_random_uuid(), 'completed', now());
