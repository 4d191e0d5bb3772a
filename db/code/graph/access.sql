-- The graph is content: visible to callers who may read the project's settings, which is everyone who sees it except auditors. Only
-- functions write.
grant select on public.kg_generations, public.kg_files, public.kg_nodes, public.kg_edges to authenticated;
create policy select_reader on public.kg_generations for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = kg_generations.project_id));
create policy select_reader on public.kg_files for select to authenticated
  using (exists (select from public.kg_generations g where g.project_id = kg_files.project_id));
create policy select_reader on public.kg_nodes for select to authenticated
  using (exists (select from public.kg_generations g where g.project_id = kg_nodes.project_id));
create policy select_reader on public.kg_edges for select to authenticated
  using (exists (select from public.kg_generations g where g.project_id = kg_edges.project_id));
