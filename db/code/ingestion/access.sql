-- A caller sees the runs of every project that they see. The stored content of a run is visible to callers who may read the project's
-- settings (everyone who sees it except auditors), and only while the run is the project's current one. Each policy asks the parent's own
-- policy for one row by its key. Only functions write. The worker has no right on any table, only functions that check its lease.
grant select on public.ingestion_runs, public.project_indexes, public.run_files, public.chunks, public.chunk_terms to authenticated;

create policy select_reader on public.ingestion_runs for select to authenticated
  using (exists (select from public.projects p where p.id = ingestion_runs.project_id));
create policy select_reader on public.project_indexes for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = project_indexes.project_id));
create policy select_reader on public.run_files for select to authenticated
  using (exists (select from public.project_indexes i where i.run_id = run_files.run_id));
create policy select_reader on public.chunks for select to authenticated
  using (exists (select from public.project_indexes i where i.run_id = chunks.run_id));
create policy select_reader on public.chunk_terms for select to authenticated
  using (exists (select from public.project_indexes i where i.run_id = chunk_terms.run_id));
