-- A file that is hidden, or of which no version is left, is no part of the current set.
create or replace function private.tg_context_files__drop_graph() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  for v in select project_id, array_agg(path) as paths from gone group by project_id loop
    perform private.drop_graph_files(v.project_id, v.paths);
  end loop;
  return null;
end
$$;
comment on function private.tg_context_files__drop_graph is 'Trigger: removed files leave the graph.';
create or replace trigger _500_drop_graph after delete on public.context_files referencing old table as gone
  for each statement execute function private.tg_context_files__drop_graph();

create or replace function private.tg_context_files__hide_graph() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  for v in
    select n.project_id, array_agg(n.path) as paths from now_hidden n join before b on b.project_id = n.project_id and b.id = n.id
    where n.is_hidden and not b.is_hidden group by n.project_id
  loop
    perform private.drop_graph_files(v.project_id, v.paths);
  end loop;
  return null;
end
$$;
comment on function private.tg_context_files__hide_graph is 'Trigger: hidden files leave the graph.';
create or replace trigger _500_hide_graph after update on public.context_files referencing old table as before new table as now_hidden
  for each statement execute function private.tg_context_files__hide_graph();

-- Nodes and links have no key to the project, so they go with its generation; so does the mirror's copy.
create or replace function private.tg_projects__drop_graph() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.kg_edges where organization_id = old.organization_id and project_id = old.id;
  delete from public.kg_nodes where organization_id = old.organization_id and project_id = old.id;
  if exists (select from private.kg_mirrors where project_id = old.id) then
    perform private.enqueue('graph.mirror', jsonb_build_object('projectId', old.id), now(), 'graph.mirror:' || old.id);
  end if;
  return null;
end
$$;
comment on function private.tg_projects__drop_graph is 'Trigger: the graph of a deleted context goes, and its mirror is told to drop it.';
create or replace trigger _500_drop_graph after delete on public.projects
  for each row execute function private.tg_projects__drop_graph();
