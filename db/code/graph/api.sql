-- Each function here is stable: one call reads one snapshot, and a build changes all rows in one transaction. So no answer mixes generations.
-- The operations check the caller's role in the context once and then read without row-level security, whose policies, asked for each row, took
-- most of the time of a large graph.
create or replace function private.graph_meta(p_project_id uuid, p_nodes bigint, p_links bigint, p_truncated boolean) returns jsonb
language sql stable
as $$
  select jsonb_strip_nulls(jsonb_build_object('totalNodes', p_nodes, 'totalLinks', p_links, 'truncated', p_truncated,
    'generation', coalesce(g.number, 0), 'generatedAt', private.iso(g.created_at), 'backend', 'postgres'))
  from (select) one left join public.kg_generations g on g.project_id = p_project_id and g.is_current
$$;
comment on function private.graph_meta is 'The member meta of GraphData; generation 0 before the first build.';

create or replace function private.graph_filter(p jsonb, out type text, out link_types text[], out search text, out path text, out minimum integer, out items integer)
language plpgsql stable
as $$
begin
  type := nullif(coalesce(p ->> 'type', 'all'), 'all');
  if type is not null and type not in ('function', 'class', 'module', 'variable', 'file') then
    perform private.refuse_field('type', 'type is all, function, class, module, variable or file.');
  end if;
  link_types := (select array_agg(t.v) from jsonb_array_elements_text(private.as_array(p -> 'linkType', 'linkType')) t (v));
  if not coalesce(link_types, '{}') <@ array['imports', 'calls', 'extends', 'implements'] or cardinality(link_types) > 4 then
    perform private.refuse_field('linkType', 'linkType is imports, calls, extends or implements, each at most once.');
  end if;
  search := nullif(p ->> 'search', '');
  if char_length(search) > 200 then
    perform private.refuse_field('search', 'search has at most 200 characters.');
  end if;
  path := nullif(p ->> 'path', '');
  if char_length(path) > 4096 then
    perform private.refuse_field('path', 'path has at most 4096 characters.');
  end if;
  minimum := greatest(coalesce(private.as_int(p -> 'minReferences', 'minReferences'), 0), 0);
  items := coalesce(private.as_int(p -> 'limit', 'limit'), 500);
  if items not between 1 and 5000 then
    perform private.refuse_field('limit', 'limit lies between 1 and 5000.');
  end if;
end
$$;
comment on function private.graph_filter is 'The filter of a read of the graph, checked. Errors: 400 VALIDATION_ERROR.';

create or replace function api.get_knowledge_graph(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = '' set plan_cache_mode = 'force_custom_plan'
as $$
declare
  v_id uuid := private.path_graph(p);
  f record := private.graph_filter(p);
  g public.kg_generations;
  v_filtered boolean := f.type is not null or f.search is not null or f.path is not null or f.minimum > 0;
  v_nodes bigint;
  v_links bigint;
  v_all uuid[];
  v_ids uuid[];
  v_json jsonb;
begin
  select * into g from public.kg_generations x where x.project_id = v_id and x.is_current;
  if not found then
    return jsonb_build_object('nodes', '[]'::jsonb, 'links', '[]'::jsonb, 'meta', private.graph_meta(v_id, 0, 0, false));
  end if;
  v_ids := array(
    select n.id from public.kg_nodes n
    where n.organization_id = g.organization_id and n.project_id = v_id and (f.type is null or n.type = f.type)
      and (f.search is null or strpos(lower(n.name), lower(f.search)) > 0) and (f.path is null or starts_with(n.path, f.path))
      and n.reference_count >= f.minimum
    order by n.reference_count desc, n.rank, n.name collate "C", n.id limit f.items);
  v_nodes := g.nodes;
  if v_filtered then
    v_all := v_ids;
    if cardinality(v_ids) = f.items then
      v_all := array(
        select n.id from public.kg_nodes n
        where n.organization_id = g.organization_id and n.project_id = v_id and (f.type is null or n.type = f.type)
          and (f.search is null or strpos(lower(n.name), lower(f.search)) > 0) and (f.path is null or starts_with(n.path, f.path))
          and n.reference_count >= f.minimum);
    end if;
    v_nodes := cardinality(v_all);
  end if;
  v_json := private.graph_links_json(v_id, v_ids, f.link_types);
  if v_nodes <= cardinality(v_ids) then
    v_links := jsonb_array_length(v_json);
  elsif v_filtered then
    v_links := private.graph_links_count(v_id, v_all, v_nodes * 4 > g.nodes, f.link_types);
  elsif f.link_types is null then
    v_links := g.links;
  else
    select count(*) into v_links from public.kg_edges e
    where e.organization_id = g.organization_id and e.project_id = v_id and e.type = any (f.link_types);
  end if;
  return jsonb_build_object('nodes', private.graph_nodes_json(v_id, v_ids, true), 'links', v_json,
    'meta', private.graph_meta(v_id, v_nodes, v_links, v_nodes > cardinality(v_ids)));
end
$$;
comment on function api.get_knowledge_graph is
  'GET /contexts/{contextId}/knowledge-graph: GraphData. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND. Authorization: a role in the context that reads content (private.path_graph).';
grant execute on function api.get_knowledge_graph to authenticated;

create or replace function private.path_graph_node(p_project_id uuid, p_id text, p_field text default null) returns uuid
language plpgsql stable
as $$
declare
  v_id uuid := private.as_uuid(p_id);
begin
  if not exists (select from public.kg_nodes n
    where n.organization_id = (select x.organization_id from public.projects x where x.id = p_project_id) and n.project_id = p_project_id and n.id = v_id) then
    perform private.refuse(404, 'NODE_NOT_FOUND', format('The graph of this context has no node %s.', left(p_id, 100)), p_field);
  end if;
  return v_id;
end
$$;
comment on function private.path_graph_node is 'A node of the context''s graph. Errors: 404 NODE_NOT_FOUND.';

-- The nodes one link away, over containment too, in either direction: each with the node that it was first reached from.
create or replace function private.graph_step(p_project_id uuid, p_from uuid[], p_seen uuid[], out ids uuid[], out parents uuid[])
language plpgsql stable set plan_cache_mode = 'force_custom_plan'
as $$
declare
  v_org uuid := (select p.organization_id from public.projects p where p.id = p_project_id);
begin
  select coalesce(array_agg(s.id order by s.id), '{}'), coalesce(array_agg(s.parent order by s.id), '{}') into ids, parents
  from (
    select distinct on (n.id) n.id, n.parent
    from (
      select e.target_id, e.source_id from public.kg_edges e
      where e.organization_id = v_org and e.project_id = p_project_id and e.source_id = any (p_from)
      union all
      select e.source_id, e.target_id from public.kg_edges e
      where e.organization_id = v_org and e.project_id = p_project_id and e.target_id = any (p_from)
    ) n (id, parent)
    where n.id <> all (p_seen)
    order by n.id, n.parent
  ) s;
end
$$;
comment on function private.graph_step is 'Neighbours of nodes that were not seen before, and whence each was reached.';

create or replace function api.get_graph_node(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = '' set plan_cache_mode = 'force_custom_plan'
as $$
declare
  v_id uuid := private.path_graph(p);
  v_node uuid := private.path_graph_node(v_id, p ->> 'nodeId');
  v_depth integer := coalesce(private.as_int(p -> 'depth', 'depth'), 1);
  v_limit integer := coalesce(private.as_int(p -> 'limit', 'limit'), 200);
  v_level uuid[] := array[v_node];
  v_all uuid[] := array[v_node];
  v_next uuid[];
  v_org uuid := (select x.organization_id from public.projects x where x.id = v_id);
begin
  if v_depth not between 1 and 3 then
    perform private.refuse_field('depth', 'depth lies between 1 and 3.');
  elsif v_limit not between 1 and 1000 then
    perform private.refuse_field('limit', 'limit lies between 1 and 1000.');
  end if;
  for i in 1..v_depth loop
    exit when cardinality(v_level) = 0 or cardinality(v_all) > v_limit;
    v_next := (private.graph_step(v_id, v_level, v_all)).ids;
    -- The limit cuts each distance where it is reached: nearer ones first, of those as near the ones with most references.
    v_level := array(
      select n.id from public.kg_nodes n
      where n.organization_id = v_org and n.project_id = v_id and n.id = any (v_next)
      order by n.reference_count desc, n.rank, n.name collate "C", n.id limit v_limit + 1 - cardinality(v_all));
    v_all := v_all || v_level;
  end loop;
  return jsonb_build_object('node', private.graph_nodes_json(v_id, array[v_node]) -> 0, 'neighbors', private.graph_nodes_json(v_id, v_all[2:]),
    'links', private.graph_links_json(v_id, v_all));
end
$$;
comment on function api.get_graph_node is
  'GET /contexts/{contextId}/knowledge-graph/nodes/{nodeId}: the node, its neighbours and the links among them. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, NODE_NOT_FOUND. Authorization: a role in the context that reads content (private.path_graph).';
grant execute on function api.get_graph_node to authenticated;

create or replace function private.graph_way(p_node uuid, p_ids uuid[], p_parents uuid[]) returns uuid[]
language sql immutable parallel safe
as $$
  with recursive way (id, step) as (
    select p_node, 1
    union all
    select p_parents[array_position(p_ids, w.id)], w.step + 1 from way w where p_parents[array_position(p_ids, w.id)] is not null and w.step < 8
  )
  select array_agg(id order by step) from way
$$;
comment on function private.graph_way is 'The nodes from this one back to where a search began.';

-- Both ends are searched at once, level by level, always from the end with the smaller level; a node is expanded once, so the work is at
-- most one reading of the graph.
create or replace function api.get_graph_path(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = '' set plan_cache_mode = 'force_custom_plan'
as $$
declare
  v_id uuid := private.path_graph(p);
  v_from uuid;
  v_to uuid;
  v_meet uuid;
  s record;
  a_level uuid[]; a_ids uuid[]; a_parents uuid[];
  b_level uuid[]; b_ids uuid[]; b_parents uuid[];
  v_way uuid[] := '{}';
  v_links jsonb := '[]';
begin
  if p ->> 'from' is null then
    perform private.refuse_field('from', 'from is required.');
  elsif p ->> 'to' is null then
    perform private.refuse_field('to', 'to is required.');
  end if;
  v_from := private.path_graph_node(v_id, p ->> 'from', 'from');
  v_to := private.path_graph_node(v_id, p ->> 'to', 'to');
  a_level := array[v_from]; a_ids := a_level; a_parents := array[null::uuid];
  b_level := array[v_to]; b_ids := b_level; b_parents := array[null::uuid];
  if v_from = v_to then
    v_way := array[v_from];
  else
    for i in 1..6 loop
      exit when cardinality(a_level) = 0 or cardinality(b_level) = 0;
      if cardinality(a_level) <= cardinality(b_level) then
        s := private.graph_step(v_id, a_level, a_ids);
        a_level := s.ids; a_ids := a_ids || s.ids; a_parents := a_parents || s.parents;
        v_meet := (select min(x::text)::uuid from unnest(a_level) x where x = any (b_ids));
      else
        s := private.graph_step(v_id, b_level, b_ids);
        b_level := s.ids; b_ids := b_ids || s.ids; b_parents := b_parents || s.parents;
        v_meet := (select min(x::text)::uuid from unnest(b_level) x where x = any (a_ids));
      end if;
      exit when v_meet is not null;
    end loop;
    if v_meet is not null then
      v_way := array(select x from unnest(private.graph_way(v_meet, a_ids, a_parents)) with ordinality t (x, at) order by at desc)
        || (private.graph_way(v_meet, b_ids, b_parents))[2:];
    end if;
  end if;
  if cardinality(v_way) > 1 then
    v_links := (
      select coalesce(jsonb_agg(jsonb_build_object('source', e.source_id, 'target', e.target_id, 'type', e.type, 'count', e.count)
        order by e.source_id, e.target_id, e.type collate "C"), '[]')
      from public.kg_edges e
      where e.organization_id = (select x.organization_id from public.projects x where x.id = v_id) and e.project_id = v_id
        and e.source_id = any (v_way) and e.target_id = any (v_way) and e.type <> 'contains'
        and abs(array_position(v_way, e.source_id) - array_position(v_way, e.target_id)) = 1);
  end if;
  return jsonb_build_object('nodes', private.graph_nodes_json(v_id, v_way, true), 'links', v_links,
    'meta', private.graph_meta(v_id, cardinality(v_way), jsonb_array_length(v_links), false));
end
$$;
comment on function api.get_graph_path is
  'GET /contexts/{contextId}/knowledge-graph/path: GraphData of a shortest way of at most 6 hops, empty when there is none. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, NODE_NOT_FOUND. Authorization: a role in the context that reads content (private.path_graph).';
grant execute on function api.get_graph_path to authenticated;
grant execute on function private.graph_meta, private.graph_filter, private.path_graph_node, private.graph_step, private.graph_way to authenticated;
