-- Runs, states and what they made are read by callers who may read the project's settings (everyone who sees it except auditors). Only
-- functions write.
grant select on public.enrichment_runs, public.enrichment_states, public.symbol_contents, public.symbols, public.symbol_files, public.file_embeddings
  to authenticated;
create policy select_reader on public.enrichment_runs for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = enrichment_runs.project_id));
create policy select_reader on public.enrichment_states for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = enrichment_states.project_id));
create policy select_reader on public.symbol_contents for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = symbol_contents.project_id));
create policy select_reader on public.symbols for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = symbols.project_id));
create policy select_reader on public.symbol_files for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = symbol_files.project_id));
create policy select_reader on public.file_embeddings for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = file_embeddings.project_id));
