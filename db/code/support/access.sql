-- Each person reads their own conversations. Functions write: an answer of the assistant comes from the server.
grant select on public.support_conversations, public.support_messages to authenticated;
create policy select_own on public.support_conversations for select to authenticated using (user_id = (select private.user_id()));
create policy select_own on public.support_messages for select to authenticated using (user_id = (select private.user_id()));
