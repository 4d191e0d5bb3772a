-- A conversation with the support assistant.
with c as (
  insert into public.support_conversations (user_id, expires_at) values (pg_temp.person(), now() + interval '30 minutes') returning id
), m as (
  insert into public.support_messages (conversation_id, user_id, role, content) select id, pg_temp.person(), 'user', pg_temp.secret() from c
) select pg_temp.keep('conversationId', id) from c;
