-- Settings are read by every caller who may read the project's settings (everyone who sees it except auditors). Only functions write.
grant execute on function private.assert_context_settings_row, private.is_compression_settings to authenticated, service_role, kijko_server, kijko_worker;
grant select on public.context_settings to authenticated;
create policy select_reader on public.context_settings for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = context_settings.project_id));
grant select on public.compressed_files to authenticated;
create policy select_reader on public.compressed_files for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = compressed_files.project_id));
