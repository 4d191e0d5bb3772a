create or replace function api.get_support_context(p jsonb) returns jsonb
language sql stable
as $$ select private.support_context() $$;
comment on function api.get_support_context is 'GET /support/context: SupportContext.';

-- Checks a question and gives the server what it sends to the model: the history as [role, content], and what the assistant knows.
create or replace function api.open_support_chat(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_message constant text := private.trimmed(case when jsonb_typeof(b -> 'message') = 'string' then b ->> 'message' end);
  v_field constant text := case when jsonb_typeof(b -> 'conversationHistory') <> 'null' then 'conversationHistory' else 'conversation_history' end;
  v_history jsonb := coalesce(private.as_array(b -> v_field, v_field), '[]');
  v_id uuid := private.own_support_conversation(coalesce(b ->> 'conversationId', b ->> 'conversation_id'));
begin
  if v_message is null or char_length(v_message) not between 1 and 8000 then
    perform private.refuse_field('message', 'A message has 1 to 8,000 characters.');
  end if;
  select coalesce(jsonb_agg(h.value order by h.n), '[]') into v_history
  from (select * from jsonb_array_elements(v_history) with ordinality h (value, n) order by h.n desc limit 10) h;
  if exists (
    select from jsonb_array_elements(v_history) h (value)
    where jsonb_typeof(h.value) <> 'object' or coalesce(h.value ->> 'role', '') not in ('user', 'assistant') or jsonb_typeof(h.value -> 'content') is distinct from 'string'
  ) then
    perform private.refuse_field(v_field, 'An entry of the history has a role (user or assistant) and content.');
  end if;
  if v_history = '[]' and v_id is not null then
    select coalesce(jsonb_agg(jsonb_build_object('role', m.role, 'content', m.content) order by m.seq), '[]') into v_history
    from (select * from public.support_messages x where x.conversation_id = v_id order by x.seq desc limit 10) m;
  else
    select coalesce(jsonb_agg(jsonb_build_object('role', h.value ->> 'role', 'content', left(h.value ->> 'content', 8000)) order by h.n), '[]') into v_history
    from jsonb_array_elements(v_history) with ordinality h (value, n);
  end if;
  return jsonb_strip_nulls(jsonb_build_object('message', v_message, 'conversationId', v_id, 'history', v_history, 'context', private.support_context()));
end
$$;
comment on function api.open_support_chat is 'POST /support/chat, before the model is asked: {message, conversationId?, history, context}. Errors: 400 VALIDATION_ERROR.';

create or replace function api.get_support_chat(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid := private.path_support_conversation(p);
begin
  return (select coalesce(jsonb_agg(private.support_message_json(m) order by m.seq), '[]') from public.support_messages m where m.conversation_id = v_id);
end
$$;
comment on function api.get_support_chat is 'GET /support/chat/{conversationId}: SupportMessage[]. Errors: 404 NOT_FOUND.';

create or replace function api.delete_support_chat(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.delete_support_conversation(private.path_support_conversation(p));
  return null;
end
$$;
comment on function api.delete_support_chat is 'DELETE /support/chat/{conversationId}: null. Errors: 404 NOT_FOUND.';
grant execute on function api.get_support_context, api.open_support_chat, api.get_support_chat, api.delete_support_chat to authenticated;
