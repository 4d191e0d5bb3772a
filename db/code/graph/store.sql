-- A build writes the difference between the graph that is there and the one that it made, in one transaction: open_graph, the changes, then
-- switch_graph. Like storage of a run it takes arrays and not COPY, which Postgres refuses under row-level security.

create or replace function private.graph_organization(p_project_id uuid) returns uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select organization_id from public.projects where id = p_project_id);
end
$$;
comment on function private.graph_organization is 'Tenant of a context. Authorization: callable by definer functions of ours only.';

-- One build of a context at a time: the lock holds until commit. What it was compared with must still be the current generation.
create or replace function private.open_graph(p_project_id uuid, p_base integer) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('graph ' || p_project_id, 0));
  if not exists (select from public.projects where id = p_project_id) then
    perform private.refuse(404, 'CONTEXT_NOT_FOUND', 'This context does not exist.');
  end if;
  -- Null is compared with nothing: a run replaces what was there.
  if p_base <> coalesce((select number from public.kg_generations where project_id = p_project_id and is_current), 0) then
    raise exception using errcode = 'serialization_failure', message = 'The graph changed while its next generation was made.';
  end if;
end
$$;
comment on function private.open_graph is
  'Begins to change a context''s graph; a serialization failure when generation p_base is not the current one. Authorization: callable by the worker only.';

create or replace function private.graph_generation(p_project_id uuid) returns integer
language plpgsql stable security definer set search_path = ''
as $$
begin
  return coalesce((select number from public.kg_generations where project_id = p_project_id and is_current), 0);
end
$$;
comment on function private.graph_generation is 'Number of a context''s current graph, 0 for none. Authorization: callable by the server and the worker only.';

create or replace function private.read_graph_files(p_project_id uuid) returns table (part integer, path text, digest bytea, cluster integer)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
    select f.part, f.path, f.digest, f.cluster from public.kg_files f where f.project_id = p_project_id;
end
$$;
comment on function private.read_graph_files is 'Parts of a context''s graph. Authorization: callable by the worker only.';

create or replace function private.read_graph_nodes(p_project_id uuid, p_parts integer[]) returns setof public.kg_nodes
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  return query
    select n.* from public.kg_nodes n
      where n.organization_id = v_org and n.project_id = p_project_id and n.part = any (p_parts);
end
$$;
comment on function private.read_graph_nodes is 'Nodes of these parts. Authorization: callable by the worker only.';

create or replace function private.read_graph_edges(p_project_id uuid, p_sources uuid[])
returns table (source_id uuid, target_id uuid, type text, count integer)
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  return query
    select e.source_id, e.target_id, e.type, e.count from public.kg_edges e
      where e.organization_id = v_org and e.project_id = p_project_id and e.source_id = any (p_sources);
end
$$;
comment on function private.read_graph_edges is 'Links that begin at these nodes. Authorization: callable by the worker only.';

create or replace function private.insert_graph_nodes(
  p_project_id uuid, p_ids uuid[], p_parts integer[], p_types text[], p_names text[], p_paths text[], p_languages text[], p_starts integer[],
  p_ends integer[], p_exported boolean[], p_references integer[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  insert into public.kg_nodes (organization_id, project_id, id, part, type, name, path, language, start_line, end_line, is_exported, reference_count)
  select v_org, p_project_id, t.*
  from unnest(p_ids, p_parts, p_types, p_names, p_paths, p_languages, p_starts, p_ends, p_exported, p_references) t;
end
$$;
comment on function private.insert_graph_nodes is 'New nodes of an opened graph. Authorization: callable by the worker only.';

create or replace function private.update_graph_nodes(
  p_project_id uuid, p_ids uuid[], p_parts integer[], p_types text[], p_names text[], p_paths text[], p_languages text[], p_starts integer[],
  p_ends integer[], p_exported boolean[], p_references integer[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  update public.kg_nodes n
  set part = t.part, type = t.type, name = t.name, path = t.path, language = t.language, start_line = t.start_line, end_line = t.end_line,
    is_exported = t.is_exported, reference_count = t.reference_count
  from unnest(p_ids, p_parts, p_types, p_names, p_paths, p_languages, p_starts, p_ends, p_exported, p_references)
    t (id, part, type, name, path, language, start_line, end_line, is_exported, reference_count)
  where n.organization_id = v_org and n.project_id = p_project_id and n.id = t.id;
end
$$;
comment on function private.update_graph_nodes is 'Changed nodes of an opened graph. Authorization: callable by the worker only.';

create or replace function private.insert_graph_edges(p_project_id uuid, p_sources uuid[], p_targets uuid[], p_types text[], p_counts integer[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  insert into public.kg_edges (organization_id, project_id, source_id, target_id, type, count)
  select v_org, p_project_id, t.* from unnest(p_sources, p_targets, p_types, p_counts) t;
end
$$;
comment on function private.insert_graph_edges is 'New links of an opened graph. Authorization: callable by the worker only.';

create or replace function private.delete_graph_edges(p_project_id uuid, p_sources uuid[], p_targets uuid[], p_types text[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  delete from public.kg_edges e using unnest(p_sources, p_targets, p_types) t (source_id, target_id, type)
  where e.organization_id = v_org and e.project_id = p_project_id
    and e.source_id = t.source_id and e.target_id = t.target_id and e.type = t.type;
end
$$;
comment on function private.delete_graph_edges is 'Links that an opened graph has no more. Authorization: callable by the worker only.';

create or replace function private.delete_graph_nodes(p_project_id uuid, p_ids uuid[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  delete from public.kg_nodes n
  where n.organization_id = v_org and n.project_id = p_project_id and n.id = any (p_ids);
end
$$;
comment on function private.delete_graph_nodes is 'Nodes that an opened graph has no more. Authorization: callable by the worker only.';

create or replace function private.store_graph_files(p_project_id uuid, p_gone integer[], p_parts integer[], p_paths text[], p_digests bytea[], p_clusters integer[])
returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  delete from public.kg_files where project_id = p_project_id and part = any (p_gone);
  insert into public.kg_files as f (organization_id, project_id, part, path, digest, cluster)
  select v_org, p_project_id, t.* from unnest(p_parts, p_paths, p_digests, p_clusters) t
  on conflict (project_id, part) do update set digest = excluded.digest, cluster = excluded.cluster;
end
$$;
comment on function private.store_graph_files is 'Parts of an opened graph that went, came or changed. Authorization: callable by the worker only.';

create or replace function private.switch_graph(
  p_project_id uuid, p_nodes integer, p_links integer, p_clusters integer, p_parsed integer, p_text integer
) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_number integer := private.graph_generation(p_project_id) + 1;
begin
  delete from public.kg_generations where project_id = p_project_id;
  insert into public.kg_generations (organization_id, project_id, number, nodes, links, clusters, parsed_files, text_files)
  values (private.graph_organization(p_project_id), p_project_id, v_number, p_nodes, p_links, p_clusters, p_parsed, p_text);
  perform private.enqueue('graph.mirror', jsonb_build_object('projectId', p_project_id), now(), 'graph.mirror:' || p_project_id);
  return v_number;
end
$$;
comment on function private.switch_graph is 'Makes the changes of an opened graph the next generation, and gives its number. Authorization: callable by the worker only.';

-- Files that left the current set leave the graph at once; the next build finds by the empty digests what else that changes.
create or replace function private.drop_graph_files(p_project_id uuid, p_paths text[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
  g public.kg_generations;
  v_parts integer[];
  v_ids uuid[];
begin
  if coalesce(cardinality(p_paths), 0) = 0 or v_org is null then
    return;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('graph ' || p_project_id, 0));
  select * into g from public.kg_generations where project_id = p_project_id and is_current;
  v_parts := array(select part from public.kg_files where project_id = p_project_id and path = any (p_paths));
  if g.number is null or cardinality(v_parts) = 0 then
    return;
  end if;
  v_ids := array(select id from public.kg_nodes where organization_id = v_org and project_id = p_project_id and part = any (v_parts));
  with gone as (
    delete from public.kg_edges e
    where e.organization_id = v_org and e.project_id = p_project_id and (e.source_id = any (v_ids) or e.target_id = any (v_ids)) returning *
  ), less as (
    update public.kg_nodes n set reference_count = greatest(n.reference_count - t.count, 0)
    from (select target_id, sum(count) as count from gone where type <> 'contains' group by target_id) t
    where n.organization_id = v_org and n.project_id = p_project_id and n.id = t.target_id and n.id <> all (v_ids) returning n.part
  ), touched as (
    select part from less
    union
    select n.part from public.kg_nodes n where n.organization_id = v_org and n.project_id = p_project_id and n.id in (select source_id from gone)
  )
  update public.kg_files set digest = '' where project_id = p_project_id and part in (select part from touched);
  delete from public.kg_nodes where organization_id = v_org and project_id = p_project_id and id = any (v_ids);
  delete from public.kg_files where project_id = p_project_id and part = any (v_parts);
  perform private.switch_graph(p_project_id,
    (select count(*)::integer from public.kg_nodes where organization_id = v_org and project_id = p_project_id),
    (select count(*)::integer from public.kg_edges where organization_id = v_org and project_id = p_project_id and type <> 'contains'),
    (select count(distinct cluster)::integer from public.kg_files where project_id = p_project_id),
    greatest(g.parsed_files - cardinality(v_parts), 0), greatest(g.text_files - cardinality(v_parts), 0));
end
$$;
comment on function private.drop_graph_files is 'Takes files and their declarations out of a context''s graph. Authorization: callable by definer functions of ours only.';

create or replace function private.drop_graph(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  perform pg_advisory_xact_lock(hashtextextended('graph ' || p_project_id, 0));
  if private.graph_generation(p_project_id) = 0 then
    return;
  end if;
  delete from public.kg_edges where organization_id = v_org and project_id = p_project_id;
  delete from public.kg_nodes where organization_id = v_org and project_id = p_project_id;
  delete from public.kg_files where project_id = p_project_id;
  perform private.switch_graph(p_project_id, 0, 0, 0, 0, 0);
end
$$;
comment on function private.drop_graph is 'Empties a context''s graph; its generations go on counting. Authorization: callable by definer functions of ours only.';
grant execute on function private.open_graph, private.graph_generation, private.read_graph_files, private.read_graph_nodes, private.read_graph_edges,
  private.insert_graph_nodes, private.update_graph_nodes, private.insert_graph_edges, private.delete_graph_edges, private.delete_graph_nodes,
  private.store_graph_files, private.switch_graph to kijko_worker;
grant execute on function private.graph_generation to kijko_server;
