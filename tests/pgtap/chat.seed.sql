-- A chat about the context, its default thread, an attachment that waits.
with s as (
  insert into public.chat_sessions (organization_id, user_id, id, context_id, title) values (pg_temp.org(), pg_temp.person(), gen_random_uuid()::text, pg_temp.id('projectId'), pg_temp.secret()) returning id
) select pg_temp.keep('chatId', id::uuid) from s;
insert into public.chat_sessions (organization_id, user_id, id, default_of) values (pg_temp.org(), pg_temp.person(), 'context:' || pg_temp.id('projectId'), pg_temp.id('projectId'));
insert into public.chat_messages (organization_id, user_id, chat_id, seq, role, content)
select pg_temp.org(), pg_temp.person(), s.id, row_number() over (), 'user', pg_temp.secret() from public.chat_sessions s where s.organization_id = pg_temp.org();
insert into public.chat_attachments (organization_id, user_id, message_id, name, mime_type, size, is_image, checksum, storage_key, storage_provider)
select pg_temp.org(), pg_temp.person(), m.id, pg_temp.secret(), 'text/plain', 1, false, 'x', gen_random_uuid()::text, 'local' from public.chat_messages m where m.organization_id = pg_temp.org();
