-- A selection is its person's own, as long as they read the context. Only functions write.
grant select on public.context_source_selection to authenticated;
create policy select_own on public.context_source_selection for select to authenticated
  using (user_id = (select private.user_id()) and exists (select from public.project_settings s where s.project_id = context_source_selection.project_id));
