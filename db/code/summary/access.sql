-- Read by callers who may read the project's settings (everyone who sees it except auditors). Only functions write.
grant select on public.context_summaries to authenticated;
create policy select_reader on public.context_summaries for select to authenticated
  using (exists (select from public.project_settings s where s.project_id = context_summaries.project_id));
