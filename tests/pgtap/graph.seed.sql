-- A graph of a file with two functions of which one calls the other, and a mirror of it. The id of main is the one that x-probe names.
insert into public.kg_generations (organization_id, project_id, number, nodes, links, clusters, parsed_files, text_files)
values (pg_temp.org(), pg_temp.id('projectId'), 1, 3, 1, 1, 1, 1);
insert into public.kg_files (organization_id, project_id, part, path, digest, cluster) values (pg_temp.org(), pg_temp.id('projectId'), 0, 'main.go', '', 1);
with n as (
  insert into public.kg_nodes (organization_id, project_id, id, part, type, name, path, reference_count)
  select pg_temp.org(), pg_temp.id('projectId'), case t.name when 'main' then '00000000-0000-4000-8000-000000000001' else gen_random_uuid() end, 0, t.type, t.name, 'main.go', t.count
  from (values ('file', 'main.go', 0), ('function', 'main', 0), ('function', 'run', 1)) t (type, name, count) returning *
), e as (
  insert into public.kg_edges (organization_id, project_id, source_id, target_id, type)
  select a.organization_id, a.project_id, a.id, b.id, case a.type when 'file' then 'contains' else 'calls' end
  from n a, n b where a.type = 'file' and b.type = 'function' or a.name = 'main' and b.name = 'run'
)
select pg_temp.keep('nodeId', id) from n where name = 'run';
insert into private.kg_mirrors (project_id, backend, organization_id, generation) values (pg_temp.id('projectId'), 'falkordb', pg_temp.org(), 1);
