-- A version with the stored text, its changelog entry and an operation that waits.
insert into private.context_counters as c (project_id, organization_id, last_number, current_number) values (pg_temp.id('projectId'), pg_temp.org(), 7, 7)
on conflict (project_id) do update set last_number = 7, current_number = 7;
with i as (
  insert into public.context_ingestions (organization_id, project_id, number, status, source_type, files_added, tokens)
  values (pg_temp.org(), pg_temp.id('projectId'), 7, 'ready', 'repo', 1, 5) returning *
), b as (
  insert into public.content_blobs (organization_id, project_id, hash, content, tokens, lines)
  select organization_id, project_id, sha256('x'), 'x', 5, 1 from i returning *
), o as (
  insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, hash, origin)
  select i.organization_id, i.project_id, i.id, 7, 'Plain text', 'added', b.hash, 'text' from i, b returning *
)
insert into public.context_files (organization_id, project_id, path, number, hash, origin, language, bytes, tokens)
select organization_id, project_id, path, number, hash, origin, 'go', 1, 5 from o;
insert into public.context_changelog (organization_id, project_id, type, number, user_name, user_email, files_added, files_removed, files_modified)
values (pg_temp.org(), pg_temp.id('projectId'), 'ingestion', 7, 'System', 'system@kijko.ai', 1, 0, 0);
with o as (
  insert into public.context_operations (organization_id, project_id, kind) values (pg_temp.org(), pg_temp.id('projectId'), 'compression') returning id
) select pg_temp.keep('operationId', id) from o;
