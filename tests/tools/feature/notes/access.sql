-- Who may do what with rows of notes.

grant execute on function private.assert_notes_row to authenticated, service_role, kijko_server, kijko_worker;
grant select on public.notes to authenticated;
grant insert (organization_id, user_id, text) on public.notes to authenticated;
create policy select_member on public.notes for select to authenticated using (organization_id = (select private.org_id()));
create policy insert_own on public.notes for insert to authenticated
  with check (organization_id = (select private.org_id()) and user_id = (select private.user_id()));
