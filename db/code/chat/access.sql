-- Chats are their person's own, in the organization where they were begun. Only functions write. The keys of stored content are not shown.
grant execute on function private.assert_chat_sessions_row, private.assert_chat_messages_row, private.assert_chat_attachments_row
  to authenticated, service_role, kijko_server, kijko_worker;
grant select on public.chat_sessions, public.chat_messages to authenticated;
grant select (id, organization_id, user_id, message_id, name, mime_type, size, is_image, created_at) on public.chat_attachments to authenticated;
create policy select_own on public.chat_sessions for select to authenticated
  using (organization_id = (select private.org_id()) and user_id = (select private.user_id()));
create policy select_own on public.chat_messages for select to authenticated
  using (organization_id = (select private.org_id()) and user_id = (select private.user_id()));
create policy select_own on public.chat_attachments for select to authenticated
  using (organization_id = (select private.org_id()) and user_id = (select private.user_id()));
