-- Contract 60, 1.1: every role but auditor reads the graph.
create or replace function private.path_graph(p jsonb) returns uuid
language plpgsql stable
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'contextId');
  v_role text := private.project_role(v_id);
begin
  if v_role is null then
    perform private.refuse(404, 'CONTEXT_NOT_FOUND', 'This context does not exist.');
  elsif v_role = 'auditor' then
    perform private.refuse(403, 'FORBIDDEN', 'Your role in this context (auditor) does not read its graph.', null,
      jsonb_build_object('role', v_role, 'required', 'viewer'));
  end if;
  return v_id;
end
$$;
comment on function private.path_graph is 'The context of the path, whose graph the caller reads. Errors: 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND.';

create or replace function private.graph_color(p_type text) returns text
language sql immutable parallel safe
return case p_type when 'function' then '#3b82f6' when 'class' then '#8b5cf6' when 'module' then '#10b981' when 'variable' then '#f59e0b' else '#6b7280' end;
comment on function private.graph_color is 'Color of a node by its type (contract 60, 9.1).';

create or replace function private.graph_node_json(n public.kg_nodes, p_cluster integer) returns jsonb
language sql stable
as $$
  select jsonb_strip_nulls(jsonb_build_object('id', n.id, 'name', n.name, 'type', n.type, 'references', n.reference_count,
    'color', private.graph_color(n.type), 'path', n.path, 'language', n.language, 'startLine', n.start_line, 'endLine', n.end_line,
    'exported', n.is_exported, 'cluster', p_cluster))
$$;
comment on function private.graph_node_json is 'GraphNode.';

-- Plans of their own for each call: only then does the planner know how many ids there are. Ids are joined as rows:
-- "= any (ids)" on the second end of a link compared each link with all of them. "offset 0" has each id looked up by the index, where a join alone
-- would read the whole graph.
create or replace function private.graph_nodes_json(p_project_id uuid, p_ids uuid[], p_keep_order boolean default false) returns jsonb
language plpgsql stable set plan_cache_mode = 'force_custom_plan'
as $$
declare
  v_org uuid := (select p.organization_id from public.projects p where p.id = p_project_id);
begin
  return (
    select coalesce(jsonb_agg(private.graph_node_json(n.*::public.kg_nodes, f.cluster) order by case when p_keep_order then t.at end,
      n.reference_count desc, n.rank, n.name collate "C", n.id), '[]')
    from unnest(p_ids) with ordinality t (id, at)
    cross join lateral (select * from public.kg_nodes n where n.organization_id = v_org and n.project_id = p_project_id and n.id = t.id offset 0) n
    left join public.kg_files f on f.project_id = p_project_id and f.part = n.part
  );
end
$$;
comment on function private.graph_nodes_json is 'GraphNode[] of these nodes, most references first, or in the order given.';

create or replace function private.graph_links_json(p_project_id uuid, p_ids uuid[], p_types text[] default null) returns jsonb
language plpgsql stable set plan_cache_mode = 'force_custom_plan'
as $$
declare
  v_org uuid := (select p.organization_id from public.projects p where p.id = p_project_id);
begin
  return (
    with begin_here as materialized (
      select e.source_id, e.target_id, e.type, e.count
      from unnest(p_ids) s (id)
      cross join lateral (
        select * from public.kg_edges e where e.organization_id = v_org and e.project_id = p_project_id and e.source_id = s.id offset 0
      ) e
      where e.type <> 'contains' and (p_types is null or e.type = any (p_types))
    )
    select coalesce(jsonb_agg(jsonb_build_object('source', e.source_id, 'target', e.target_id, 'type', e.type, 'count', e.count)
      order by e.source_id, e.target_id, e.type collate "C"), '[]')
    from begin_here e join unnest(p_ids) t (id) on t.id = e.target_id
  );
end
$$;
comment on function private.graph_links_json is 'GraphLink[] among these nodes, without containment. No id is given twice.';

create or replace function private.graph_links_count(p_project_id uuid, p_ids uuid[], p_many boolean, p_types text[] default null) returns bigint
language plpgsql stable set plan_cache_mode = 'force_custom_plan'
as $$
declare
  v_org uuid := (select p.organization_id from public.projects p where p.id = p_project_id);
begin
  if p_many then
    -- One reading of all links, each end looked up in a hash table. "is true" keeps the ids from the index, which would look for every pair.
    return (
      select count(*) from public.kg_edges e
      where e.organization_id = v_org and e.project_id = p_project_id and e.type <> 'contains' and (p_types is null or e.type = any (p_types))
        and (e.source_id = any (p_ids)) is true and (e.target_id = any (p_ids)) is true);
  end if;
  return (
    with begin_here as materialized (
      select e.target_id
      from unnest(p_ids) s (id)
      cross join lateral (
        select * from public.kg_edges e where e.organization_id = v_org and e.project_id = p_project_id and e.source_id = s.id offset 0
      ) e
      where e.type <> 'contains' and (p_types is null or e.type = any (p_types))
    )
    select count(*) from begin_here e join unnest(p_ids) t (id) on t.id = e.target_id
  );
end
$$;
comment on function private.graph_links_count is 'How many links there are among these nodes, without containment; p_many when they are a large share of the graph. No id is given twice.';

create or replace function private.graph_statistics(p_project_id uuid) returns jsonb
language sql stable
as $$
  select jsonb_build_object('entities', coalesce(g.nodes, 0), 'relationships', coalesce(g.links, 0), 'clusters', coalesce(g.clusters, 0),
    'generation', coalesce(g.number, 0), 'generatedAt', private.iso(g.created_at), 'parsedFiles', coalesce(g.parsed_files, 0),
    'textFiles', coalesce(g.text_files, 0),
    'topEntities', (
      select coalesce(jsonb_agg(jsonb_build_object('name', t.name, 'references', t.reference_count)
        order by t.reference_count desc, t.name collate "C", t.id), '[]')
      from (
        select n.id, n.name, n.reference_count from public.kg_nodes n
        where n.organization_id = g.organization_id and n.project_id = g.project_id and n.type in ('class', 'function', 'module')
        order by n.reference_count desc, n.name collate "C", n.id limit 5
      ) t
    ))
  from (select) one left join public.kg_generations g on g.project_id = p_project_id and g.is_current
$$;
comment on function private.graph_statistics is
  'Figures of a context''s current graph: entities, relationships, clusters, topEntities, generation, generatedAt (null before the first), parsedFiles, textFiles.';
grant execute on function private.path_graph, private.graph_color, private.graph_node_json, private.graph_nodes_json, private.graph_links_json,
  private.graph_links_count, private.graph_statistics to authenticated, service_role;
