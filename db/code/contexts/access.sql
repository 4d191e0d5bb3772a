-- The history of a context is seen by every caller who sees the project, its content by callers who may read the project's settings
-- (everyone who sees it except auditors). Only functions write.
grant execute on function private.assert_context_ingestions_row to anon, authenticated, service_role, kijko_server, kijko_worker;
grant select on public.content_blobs, public.context_ingestions, public.context_file_ops, public.context_files, public.context_changelog,
  public.context_operations to authenticated;
create policy select_reader on public.context_ingestions for select to authenticated
  using (exists (select from public.projects p where p.id = context_ingestions.project_id));
create policy select_reader on public.context_changelog for select to authenticated
  using (exists (select from public.projects p where p.id = context_changelog.project_id));
create policy select_reader on public.context_operations for select to authenticated
  using (exists (select from public.projects p where p.id = context_operations.project_id));
create policy select_reader on public.content_blobs for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = content_blobs.project_id));
create policy select_reader on public.context_file_ops for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = context_file_ops.project_id));
create policy select_reader on public.context_files for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = context_files.project_id));
