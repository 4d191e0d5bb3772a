-- Copies of graphs in another store. A job copies after each switch; a sweep finds what is missing or old.

create or replace function private.export_graph_nodes(p_project_id uuid)
returns table (id uuid, name text, type text, reference_count integer, path text, language text, start_line integer, end_line integer, is_exported boolean,
  cluster integer)
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  return query
    select n.id, n.name, n.type, n.reference_count, n.path, n.language, n.start_line, n.end_line, n.is_exported, f.cluster
    from public.kg_nodes n
    left join public.kg_files f on f.project_id = n.project_id and f.part = n.part
    where n.organization_id = v_org and n.project_id = p_project_id;
end
$$;
comment on function private.export_graph_nodes is 'Nodes of a context''s graph, for a copy. Authorization: callable by the worker only.';

create or replace function private.export_graph_edges(p_project_id uuid) returns table (source_id uuid, target_id uuid, type text, count integer)
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  return query
    select e.source_id, e.target_id, e.type, e.count from public.kg_edges e
    where e.organization_id = v_org and e.project_id = p_project_id;
end
$$;
comment on function private.export_graph_edges is 'Links of a context''s graph with containment, for a copy. Authorization: callable by the worker only.';

-- A row of a context that is gone goes with its copy.
create or replace function private.record_graph_mirror(p_project_id uuid, p_backend text, p_generation integer, p_error text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.graph_organization(p_project_id);
begin
  if v_org is null then
    delete from private.kg_mirrors where project_id = p_project_id and backend = p_backend and p_error is null;
    return;
  end if;
  insert into private.kg_mirrors as m (project_id, backend, organization_id, generation, failures, error)
  values (p_project_id, p_backend, v_org, p_generation, (p_error is not null)::integer, left(p_error, 1000))
  on conflict (project_id, backend) do update set generation = case when p_error is null then excluded.generation else m.generation end,
    failures = case when p_error is null then 0 else m.failures + 1 end, error = excluded.error, updated_at = now();
end
$$;
comment on function private.record_graph_mirror is 'What a mirror holds of a context, or why copying failed. Authorization: callable by the worker only.';

create or replace function private.sweep_graph_mirrors(p_backend text, p_emptied boolean, p_limit integer default 1000) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  v_count integer := 0;
begin
  if p_emptied then
    update private.kg_mirrors set generation = 0, updated_at = now() where backend = p_backend;
  end if;
  for v in
    select g.project_id from public.kg_generations g
    left join private.kg_mirrors m on m.project_id = g.project_id and m.backend = p_backend
    where g.is_current and m.generation is distinct from g.number
    union all
    select m.project_id from private.kg_mirrors m where m.backend = p_backend and not exists (select from public.projects p where p.id = m.project_id)
    limit p_limit
  loop
    perform private.enqueue('graph.mirror', jsonb_build_object('projectId', v.project_id), now(), 'graph.mirror:' || v.project_id);
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;
comment on function private.sweep_graph_mirrors is 'Enqueues contexts whose copy is missing, old or left over; gives how many. Authorization: callable by the worker only.';

create or replace function private.queue_graph_mirror(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'contextId');
begin
  update private.kg_mirrors set generation = 0, updated_at = now() where project_id = v_id and generation <> 0;
  perform private.enqueue('graph.mirror', jsonb_build_object('projectId', v_id), now(), 'graph.mirror:' || v_id);
  return null;
end
$$;
comment on function private.queue_graph_mirror is 'A read found that the mirror does not hold a context''s graph. Authorization: callable by the server only.';

create or replace function private.graph_mirror_state(p_backend text, out lagging bigint, out failing bigint)
language plpgsql stable security definer set search_path = ''
as $$
begin
  select count(*) into failing from private.kg_mirrors m where m.backend = p_backend and m.failures > 0;
  select count(*) into lagging from (
    select from public.kg_generations g left join private.kg_mirrors m on m.project_id = g.project_id and m.backend = p_backend
    where g.is_current and m.generation is distinct from g.number limit 10000) x;
end
$$;
comment on function private.graph_mirror_state is 'How many contexts a mirror does not hold, counted up to 10,000, and how many failed to copy. Authorization: callable by the server only.';
grant execute on function private.export_graph_nodes, private.export_graph_edges, private.record_graph_mirror, private.sweep_graph_mirrors to kijko_worker;
grant execute on function private.queue_graph_mirror, private.graph_mirror_state to kijko_server;

-- Before a read of a mirror: what the read of Postgres refuses is refused, and what it would read is named.
create or replace function api.prepare_graph_read(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.path_graph(p);
  f record := private.graph_filter(p);
  v record;
begin
  for v in select * from (values ('nodeId', null), ('from', 'from'), ('to', 'to')) t (name, field) where p ? t.name loop
    perform private.path_graph_node(v_id, p ->> v.name, v.field);
  end loop;
  return (
    select jsonb_build_object('contextId', v_id, 'generation', coalesce(g.number, 0), 'generatedAt', private.iso(g.created_at), 'filter', jsonb_strip_nulls(jsonb_build_object(
      'type', f.type, 'linkTypes', f.link_types, 'search', lower(f.search), 'path', f.path, 'minReferences', f.minimum, 'limit', f.items)))
    from (select) one left join public.kg_generations g on g.project_id = v_id and g.is_current);
end
$$;
comment on function api.prepare_graph_read is
  'Before a read of the graph''s mirror: {contextId, generation, generatedAt, filter}. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, NODE_NOT_FOUND.';
grant execute on function api.prepare_graph_read to authenticated;
