-- Chats (contract 60, sections 7 and 8): ids, derived texts, shapes. api.sql has the history, questions.sql what a question and its answer store.

create or replace function private.assert_chat_caller() returns void
language plpgsql stable
as $$
begin
  if private.user_id() is null or private.org_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
end
$$;
comment on function private.assert_chat_caller is 'Refuses a caller without a person and an organization. Errors: 401 UNAUTHENTICATED.';

create or replace function private.chat_id(p_text text) returns text
language sql immutable parallel safe
return case when p_text ~ '^chat_[0-9a-z]{1,20}_[0-9a-z]{1,20}$' then p_text else private.as_uuid(p_text)::text end;
comment on function private.chat_id is 'The id of a chat as it is stored, or null where the text is none.';

-- The id of a path, where a chat is made of it.
create or replace function private.new_chat_id(p_text text) returns text
language plpgsql stable
as $$
begin
  if private.chat_id(p_text) is null then
    perform private.refuse_field('id', 'The id of a chat is chat_<letters and digits>_<letters and digits>, or a UUID.');
  end if;
  return private.chat_id(p_text);
end
$$;
comment on function private.new_chat_id is 'The id of a chat that may not exist yet. Errors: 400 VALIDATION_ERROR.';

-- A default thread is shown under the id of its context, by which it is asked.
create or replace function private.shown_chat_id(p_id text) returns text
language sql immutable parallel safe
return case when p_id like 'context:%' then substr(p_id, 9) else p_id end;
comment on function private.shown_chat_id is 'The id that a client has for the thread.';

-- ------------------------------------------------------------------------------------------------------------------ derived texts

create or replace function private.plain_chat_text(p_text text) returns text
language sql immutable parallel safe
return translate(private.trimmed(p_text), '#*_`~[]', '');
comment on function private.plain_chat_text is 'A message without Markdown, for a title or a preview.';

create or replace function private.chat_title(p_text text) returns text
language sql immutable parallel safe
return (
  select case when line = '' then 'New Chat' when char_length(line) > 50 then left(line, 47) || '...' else line end
  from substring(private.plain_chat_text(p_text) from '^[^\r\n]*') line
);
comment on function private.chat_title is 'The automatic title of a chat that begins with this message.';

create or replace function private.chat_preview(p_text text) returns text
language sql immutable parallel safe
return (
  select case when char_length(line) > 100 then left(line, 97) || '...' else line end
  from regexp_replace(private.plain_chat_text(p_text), '[\r\n]+', ' ', 'g') line
);
comment on function private.chat_preview is 'The preview of a chat that ends with this message.';

-- At most 500 names of at most 200 characters, because one message can have many thousands.
create or replace function private.chat_mentions(p_known text[], p_texts text[], p_pattern text) returns text[]
language sql immutable parallel safe
return array(
  select m.name from (
    select k.name, min(k.place) as place from unnest(p_known) with ordinality k (name, place) group by 1
    union all
    select left(f.found[1], 200), min(1000000 + t.place * 1000000 + f.place)
    from unnest(p_texts) with ordinality t (content, place), regexp_matches(t.content, p_pattern, 'g') with ordinality f (found, place)
    where not left(f.found[1], 200) = any (p_known) group by 1
  ) m order by m.place limit 500
);
comment on function private.chat_mentions is 'The known names and the new ones that the texts mention, each once, in the order of their first use.';

-- ------------------------------------------------------------------------------------------------------------------------- shapes

create or replace function private.chat_item_json(s public.chat_sessions) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', s.id, 'timestamp', private.iso(s.created_at), 'title', s.title, 'preview', s.preview, 'messageCount', s.message_count,
    'lastActivity', private.iso(s.last_activity))
  || case when s.used_contexts = '{}' then '{}' else jsonb_build_object('usedContexts', s.used_contexts) end
  || case when s.used_skills = '{}' then '{}' else jsonb_build_object('usedSkills', s.used_skills) end;
comment on function private.chat_item_json is 'ChatHistoryItem.';

create or replace function private.attachment_json(a public.chat_attachments) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', a.id, 'name', a.name, 'mimeType', a.mime_type, 'size', a.size);
comment on function private.attachment_json is 'Description of an attachment, without the key of its content.';

create or replace function private.attachments_json(m public.chat_messages) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select jsonb_agg(private.attachment_json(a) order by a.created_at, a.id) from public.chat_attachments a
    where a.organization_id = m.organization_id and a.user_id = m.user_id and a.message_id = m.id
      and a.organization_id = private.org_id() and a.user_id = private.user_id());
end
$$;
comment on function private.attachments_json is 'The attachments of a message, null without any. Authorization: only the caller''s own.';

create or replace function private.history_message_json(m public.chat_messages) returns jsonb
language sql stable
as $$
  select jsonb_strip_nulls(jsonb_build_object('id', m.id, 'role', m.role, 'timestamp', private.iso(m.created_at), 'sources', m.sources,
    'attachmentInfo', private.attachments_json(m), 'stopped', case when m.is_stopped then true end)) || jsonb_build_object('content', m.content)
$$;
comment on function private.history_message_json is 'Message of a chat''s history.';

create or replace function private.chat_message_json(m public.chat_messages) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', m.id, 'role', case m.role when 'model' then 'assistant' else m.role end, 'content', m.content,
    'timestamp', private.iso(m.created_at))
  || case when m.role = 'model' then jsonb_build_object('sources', coalesce(m.sources, '[]')) else '{}' end
  || case when m.is_stopped then '{"stopped": true}' else '{}' end::jsonb;
comment on function private.chat_message_json is 'ChatMessage.';

create or replace function private.chat_session_json(s public.chat_sessions) returns jsonb
language sql stable
as $$
  select jsonb_build_object('id', s.id, 'metadata', private.chat_item_json(s),
    'messages', coalesce((select jsonb_agg(private.history_message_json(m) order by m.seq) from public.chat_messages m
      where m.organization_id = s.organization_id and m.user_id = s.user_id and m.chat_id = s.id), '[]'),
    'sourceFiles', s.source_files, 'createdAt', private.iso(s.created_at), 'updatedAt', private.iso(s.updated_at))
$$;
comment on function private.chat_session_json is 'ChatSession with all its messages.';

-- ------------------------------------------------------------------------------------------------------------------ what callers send

create or replace function private.chat_source_files(p_value jsonb) returns jsonb
language plpgsql stable parallel safe
as $$
declare
  v constant jsonb := coalesce(private.as_array(p_value, 'sourceFiles'), '[]');
  v_wrong bigint;
begin
  if jsonb_array_length(v) > 2000 or octet_length(v::text) > 1048576 then
    perform private.refuse_field('sourceFiles', 'A chat has at most 2,000 source files, which are described in at most 1 MB.');
  end if;
  select min(f.n) - 1 into v_wrong from jsonb_array_elements(v) with ordinality f (file, n)
  where not coalesce(jsonb_typeof(f.file) = 'object' and jsonb_typeof(f.file -> 'id') = 'string' and jsonb_typeof(f.file -> 'name') = 'string'
    and f.file ->> 'type' in ('code', 'document', 'image', 'json', 'text', 'other') and jsonb_typeof(f.file -> 'size') = 'number'
    and jsonb_typeof(f.file -> 'selected') = 'boolean' and coalesce(jsonb_typeof(f.file -> 'path'), 'string') = 'string', false);
  if v_wrong is not null then
    perform private.refuse_field(format('sourceFiles[%s]', v_wrong), 'A source file has id, name, type, size and selected.');
  end if;
  return v;
end
$$;
comment on function private.chat_source_files is 'The source files of a chat as they were sent, checked. Errors: 400 VALIDATION_ERROR.';

create or replace function private.chat_new_title(p_value text) returns text
language plpgsql stable parallel safe
as $$
declare
  v constant text := private.trimmed(p_value);
begin
  if v = '' then
    perform private.refuse_field('title', 'The title must not be blank.');
  end if;
  return left(v, 100);
end
$$;
comment on function private.chat_new_title is 'A title that was sent: trimmed, cut at 100 characters; null where there is none. Errors: 400 VALIDATION_ERROR.';

-- A context that a chat may be bound to: one that the caller sees.
create or replace function private.chat_context(p_value text) returns uuid
language plpgsql stable
as $$
declare
  v_id constant uuid := private.as_uuid(p_value);
begin
  if p_value is not null and private.project_role(v_id) is null then
    perform private.refuse(404, 'CONTEXT_NOT_FOUND', 'This context does not exist.', 'contextId');
  end if;
  return v_id;
end
$$;
comment on function private.chat_context is 'The context that the text names; null without a text. Errors: 404 CONTEXT_NOT_FOUND.';

create or replace function private.refuse_other_context(s public.chat_sessions, p_context_id uuid) returns void
language plpgsql stable
as $$
begin
  if s.context_id <> p_context_id then
    perform private.refuse(409, 'CHAT_CONFLICT', 'This chat belongs to another context. Begin a new chat to ask about this one.', 'contextId');
  end if;
end
$$;
comment on function private.refuse_other_context is '409 CHAT_CONFLICT where the chat is bound to another context.';

create or replace function private.refuse_chat() returns void
language plpgsql stable
as $$
begin
  perform private.refuse(404, 'CHAT_NOT_FOUND', 'This chat does not exist.');
end
$$;
comment on function private.refuse_chat is '404 CHAT_NOT_FOUND.';

-- The next moment of a chat: later than the former one also as it is shown, so that If-Match notices every change.
create or replace function private.chat_moment(p_former timestamptz) returns timestamptz
language sql volatile
return greatest(clock_timestamp(), private.shown(p_former) + interval '1 millisecond');
comment on function private.chat_moment is 'updated_at of a chat that changes now.';

create or replace function private.lock_chat(p_id text) returns public.chat_sessions
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.chat_sessions;
begin
  select * into s from public.chat_sessions x
  where x.organization_id = private.org_id() and x.user_id = private.user_id() and x.id = p_id for no key update;
  return s;
end
$$;
comment on function private.lock_chat is 'A chat of the caller, locked, so that its messages come one after another; without an id where there is none. Authorization: only the caller''s own.';

create or replace function private.lock_listed_chat(p jsonb) returns public.chat_sessions
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.chat_sessions;
begin
  perform private.assert_chat_caller();
  s := private.lock_chat(private.chat_id(p ->> 'chatId'));
  if s.id is null then
    perform private.refuse_chat();
  end if;
  return s;
end
$$;
comment on function private.lock_listed_chat is 'The chat of a path, locked. Authorization: only the caller''s own. Errors: 401, 404 CHAT_NOT_FOUND.';

-- Attachments that the caller has sent and not used yet.
create or replace function private.use_attachments(p_ids jsonb, p_message_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_ids constant jsonb := coalesce(private.as_array(p_ids, 'attachmentIds'), '[]');
  v_wanted uuid[];
  v_found bigint;
begin
  if jsonb_array_length(v_ids) > 10 then
    perform private.refuse_field('attachmentIds', 'A message has at most 10 attachments.');
  end if;
  v_wanted := array(select distinct private.as_uuid(i) from jsonb_array_elements_text(v_ids) i);
  update public.chat_attachments a set message_id = p_message_id
  where a.organization_id = private.org_id() and a.user_id = private.user_id() and a.id = any (v_wanted) and a.message_id is null;
  get diagnostics v_found = row_count;
  if v_found <> cardinality(v_wanted) then
    perform private.refuse_field('attachmentIds', 'An attachment does not exist, has expired, or was sent with another message.');
  elsif (select count(*) from public.chat_attachments a
      where a.organization_id = private.org_id() and a.user_id = private.user_id() and a.message_id = p_message_id) > 10 then
    perform private.refuse_field('attachmentIds', 'A message has at most 10 attachments.');
  end if;
end
$$;
comment on function private.use_attachments is 'Gives attachments to a message. Authorization: only the caller''s own. Errors: 400 VALIDATION_ERROR.';

grant execute on function private.assert_chat_caller, private.chat_id, private.new_chat_id, private.shown_chat_id, private.chat_item_json,
  private.attachments_json, private.history_message_json, private.chat_message_json, private.chat_session_json, private.attachment_json, private.chat_source_files,
  private.chat_new_title, private.chat_context, private.refuse_other_context, private.refuse_chat to authenticated;
