-- The chat history of a person (contract 60, section 8).

create or replace function api.list_chats(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at constant record := private.page(p, 50, 200, p_clamps => false);
  v_search constant text := lower(coalesce(p ->> 'search', ''));
  v_context constant uuid := private.as_uuid(p ->> 'contextId');
  v_org constant uuid := private.org_id();
  v_user constant uuid := private.user_id();
  v_items jsonb;
  v_total bigint;
begin
  if v_context is null and coalesce(p ->> 'contextId', '') <> '' then
    perform private.refuse_field('contextId', 'contextId must be the id of a context.');
  end if;
  with fitting as materialized (
    select s from public.chat_sessions s
    where s.organization_id = v_org and s.user_id = v_user and s.default_of is null
      and (v_context is null or s.context_id = v_context)
      and (v_search = '' or strpos(lower(s.title), v_search) > 0 or strpos(lower(s.preview), v_search) > 0)
  ), shown as (
    select (f.s).* from fitting f order by (f.s).last_activity desc, (f.s).id limit v_at.size offset v_at.skipped
  )
  select coalesce(jsonb_agg(private.chat_item_json(x) order by x.last_activity desc, x.id), '[]'), (select count(*) from fitting)
  into v_items, v_total from shown x;
  return jsonb_build_object('items', v_items, 'total', v_total, 'page', v_at.number, 'pageSize', v_at.size,
    'hasMore', v_at.skipped + jsonb_array_length(v_items) < v_total);
end
$$;
comment on function api.list_chats is 'GET /chats: {items: ChatHistoryItem[], total, page, pageSize, hasMore}; the caller''s own, latest first. Errors: 400.';
grant execute on function api.list_chats to authenticated;

create or replace function api.get_chat(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  s public.chat_sessions;
begin
  select * into s from public.chat_sessions x
  where x.organization_id = private.org_id() and x.user_id = private.user_id() and x.id = private.chat_id(p ->> 'chatId');
  if s.id is null then
    perform private.refuse_chat();
  end if;
  return private.chat_session_json(s);
end
$$;
comment on function api.get_chat is 'GET /chats/{chatId}: ChatSession. Errors: 404 CHAT_NOT_FOUND.';
grant execute on function api.get_chat to authenticated;

-- A chat that is there already is left as it is. Two requests for one id: the second waits for the first, and finds its chat.
create or replace function private.begin_chat(
  p_id text, p_title text default null, p_source_files jsonb default '[]', p_context_id uuid default null, p_created_at timestamptz default null,
  p_default_of uuid default null, out chat public.chat_sessions, out is_new boolean
)
language plpgsql volatile security definer set search_path = ''
as $$
begin
  chat := private.lock_chat(p_id);
  if chat.id is null then
    insert into public.chat_sessions (organization_id, user_id, id, title, source_files, context_id, default_of, created_at, last_activity)
    values (private.org_id(), private.user_id(), p_id, coalesce(p_title, 'New Chat'), p_source_files, p_context_id, p_default_of, least(p_created_at, clock_timestamp()),
      least(p_created_at, clock_timestamp()))
    on conflict do nothing;
    is_new := found;
    chat := private.lock_chat(p_id);
  else
    is_new := false;
  end if;
end
$$;
comment on function private.begin_chat is
  'The caller''s chat of an id, made if need be, locked. Authorization: callable by definer functions of ours that have authorized the caller; only the caller''s own. Errors: 409 CHAT_LIMIT.';

create or replace function api.create_chat(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_id text;
  v record;
begin
  perform private.assert_chat_caller();
  v_id := private.new_chat_id(coalesce(b ->> 'id', gen_random_uuid()::text));
  v := private.begin_chat(v_id, private.chat_new_title(b ->> 'title'), private.chat_source_files(b -> 'sourceFiles'), private.chat_context(b ->> 'contextId'));
  perform set_config('response.status', case when v.is_new then '201' else '200' end, true);
  return private.chat_session_json(v.chat);
end
$$;
comment on function api.create_chat is
  'POST /chats: ChatSession; 200 with the chat that has the id already. Authorization: signed in; only the caller''s own. Errors: 400, 401, 404 CONTEXT_NOT_FOUND, 409 CHAT_LIMIT.';
grant execute on function api.create_chat to authenticated;

-- Appends of the client's messages those that are not stored. In order, each is matched with the first stored message after the match before
-- it that equals it in role and content. What this call appends is not matched: two equal messages of a client are two.
create or replace function private.merge_messages(s public.chat_sessions, p_messages jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  v_place integer := 0;
  v_match integer;
  v_missing bigint[] := '{}';
  v_bytes bigint := 0;
begin
  for v in
    select m.n, m.message ->> 'role' as role, m.message ->> 'content' as content, jsonb_typeof(m.message) as kind, jsonb_typeof(m.message -> 'content') as content_kind
    from jsonb_array_elements(p_messages) with ordinality m (message, n) order by m.n
  loop
    if v.kind <> 'object' or v.role is null or v.role not in ('user', 'model') then
      perform private.refuse_field(format('messages[%s].role', v.n - 1), 'The role of a message is user or model.');
    elsif v.content_kind is distinct from 'string' then
      perform private.refuse_field(format('messages[%s].content', v.n - 1), 'A message has a content.');
    elsif char_length(v.content) > 200000 then
      perform private.refuse_field('content', 'A message has at most 200,000 characters.');
    end if;
    select min(m.seq) into v_match from public.chat_messages m
    where m.organization_id = s.organization_id and m.user_id = s.user_id and m.chat_id = s.id and m.role = v.role and md5(m.content) = md5(v.content)
      and m.content = v.content and m.seq > v_place;
    if v_match is not null then
      v_place := v_match;
    else
      v_missing := v_missing || v.n;
      v_bytes := v_bytes + octet_length(v.content);
    end if;
  end loop;
  if v_missing <> '{}' then
    perform private.assert_chat_room(s, cardinality(v_missing), v_bytes);
    insert into public.chat_messages (organization_id, user_id, chat_id, seq, role, content)
    select s.organization_id, s.user_id, s.id, s.message_count + row_number() over (order by i.place), p_messages -> (i.n - 1)::integer ->> 'role',
      p_messages -> (i.n - 1)::integer ->> 'content'
    from unnest(v_missing) with ordinality i (n, place);
  end if;
end
$$;
comment on function private.merge_messages is
  'Appends messages of a client that are not stored; removes and reorders nothing. Authorization: callable by definer functions of ours that have authorized the caller. Errors: 400, 409 CHAT_LIMIT.';

-- p: {chatId, ifMatch?, body: ChatSession}
create or replace function api.save_chat(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_metadata constant jsonb := private.as_object(b -> 'metadata', 'metadata');
  v_messages constant jsonb := coalesce(private.as_array(b -> 'messages', 'messages'), '[]');
  v_expected constant text := nullif(btrim(regexp_replace(p ->> 'ifMatch', '^W/', ''), ' "'), '*');
  v_title constant text := left(nullif(private.trimmed(v_metadata ->> 'title'), ''), 100);
  v_files constant jsonb := private.chat_source_files(b -> 'sourceFiles');
  v_id text;
  v record;
  s public.chat_sessions;
begin
  perform private.assert_chat_caller();
  v_id := private.new_chat_id(p ->> 'chatId');
  if private.chat_id(coalesce(b ->> 'id', v_id)) is distinct from v_id then
    perform private.refuse_field('id', 'The id of the body is not that of the path.');
  elsif jsonb_array_length(v_messages) > 5000 then
    perform private.refuse(409, 'CHAT_LIMIT', 'A chat has at most 5,000 messages.', 'messages', '{"limit": 5000}');
  end if;
  s := private.lock_chat(v_id);
  if p ? 'ifMatch' and (s.id is null or private.iso(s.updated_at) <> v_expected) then
    perform private.refuse(409, 'CHAT_CONFLICT', 'This chat was changed by another window. Load it again.', null,
      case when s.id is not null then jsonb_build_object('updatedAt', private.iso(s.updated_at)) end);
  end if;
  v := private.begin_chat(v_id, v_title, v_files, null, private.as_instant(coalesce(v_metadata ->> 'timestamp', b ->> 'createdAt')));
  update public.chat_sessions x
  set title = coalesce(v_title, x.title), source_files = case when b ? 'sourceFiles' then v_files else x.source_files end,
    updated_at = private.chat_moment(x.updated_at)
  where x.organization_id = private.org_id() and x.user_id = private.user_id() and x.id = v_id;
  perform private.merge_messages(v.chat, v_messages);
  perform set_config('response.status', case when v.is_new then '201' else '200' end, true);
  return private.chat_session_json(private.lock_chat(v_id));
end
$$;
comment on function api.save_chat is
  'PUT /chats/{chatId}: ChatSession, made or merged. Authorization: signed in; only the caller''s own. Errors: 400, 401, 409 CHAT_CONFLICT, CHAT_LIMIT.';
grant execute on function api.save_chat to authenticated;

create or replace function api.update_chat(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  s constant public.chat_sessions := private.lock_listed_chat(p);
  v_title constant text := private.chat_new_title(b ->> 'title');
  v_files constant jsonb := private.chat_source_files(b -> 'sourceFiles');
  v_context constant uuid := private.chat_context(b ->> 'contextId');
begin
  perform private.refuse_other_context(s, v_context);
  update public.chat_sessions x
  set title = coalesce(v_title, x.title), source_files = case when coalesce(b -> 'sourceFiles', 'null') <> 'null' then v_files else x.source_files end,
    context_id = coalesce(x.context_id, v_context), updated_at = private.chat_moment(x.updated_at)
  where x.organization_id = s.organization_id and x.user_id = s.user_id and x.id = s.id;
  return private.chat_session_json(private.lock_chat(s.id));
end
$$;
comment on function api.update_chat is
  'PATCH /chats/{chatId}: ChatSession. Authorization: only the caller''s own. Errors: 400, 401, 404 CHAT_NOT_FOUND, CONTEXT_NOT_FOUND, 409 CHAT_CONFLICT.';
grant execute on function api.update_chat to authenticated;

create or replace function api.set_chat_source_files(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return api.update_chat(jsonb_build_object('chatId', p ->> 'chatId', 'body', jsonb_build_object('sourceFiles', coalesce(private.as_array(p -> 'body', 'body'), '[]'))));
end
$$;
comment on function api.set_chat_source_files is 'PUT /chats/{chatId}/source-files: ChatSession. Errors: 400, 401, 404 CHAT_NOT_FOUND.';
grant execute on function api.set_chat_source_files to authenticated;

create or replace function private.delete_chats(p_ids text[]) returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count bigint;
begin
  perform private.assert_chat_caller();
  delete from public.chat_sessions s
  where s.organization_id = private.org_id() and s.user_id = private.user_id() and s.default_of is null and (p_ids is null or s.id = any (p_ids));
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function private.delete_chats is 'Deletes these chats of the caller, or all; how many. Authorization: signed in; only the caller''s own. Errors: 401.';
grant execute on function private.delete_chats to authenticated;

create or replace function api.delete_chat(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  if private.chat_id(p ->> 'chatId') is null then
    perform private.refuse_chat();
  end if;
  perform private.delete_chats(array[private.chat_id(p ->> 'chatId')]);
  return null;
end
$$;
comment on function api.delete_chat is 'DELETE /chats/{chatId}: 204, also where there is none. Errors: 401, 404 CHAT_NOT_FOUND where the id is none.';

create or replace function api.delete_chats(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_ids constant jsonb := coalesce(private.as_array(p -> 'body' -> 'ids', 'ids'), '[]');
begin
  if jsonb_array_length(v_ids) not between 1 and 200 then
    perform private.refuse_field('ids', 'Name 1 to 200 chats.');
  end if;
  return jsonb_build_object('deleted', private.delete_chats(array(select coalesce(private.chat_id(i), '') from jsonb_array_elements_text(v_ids) i)));
end
$$;
comment on function api.delete_chats is 'POST /chats/bulk-delete: {deleted}. Errors: 400, 401.';

create or replace function api.clear_chats(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return jsonb_build_object('deleted', private.delete_chats(null));
end
$$;
comment on function api.clear_chats is 'DELETE /chats: {deleted}; default threads of contexts stay. Errors: 401.';
grant execute on function api.delete_chat, api.delete_chats, api.clear_chats to authenticated;

create or replace function api.add_chat_message(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  s constant public.chat_sessions := private.lock_listed_chat(p);
  v_content constant text := b ->> 'content';
  m public.chat_messages;
begin
  if coalesce(b ->> 'role', '') not in ('user', 'model') then
    perform private.refuse_field('role', 'The role of a message is user or model.');
  elsif v_content is null or char_length(v_content) > 200000 then
    perform private.refuse_field('content', 'A message has a content of at most 200,000 characters.');
  end if;
  perform private.assert_chat_room(s, 1, octet_length(v_content));
  insert into public.chat_messages (organization_id, user_id, chat_id, seq, role, content)
  values (s.organization_id, s.user_id, s.id, s.message_count + 1, b ->> 'role', v_content) returning * into m;
  perform private.use_attachments(b -> 'attachmentIds', m.id);
  return private.history_message_json(m);
end
$$;
comment on function api.add_chat_message is
  'POST /chats/{chatId}/messages: Message. Authorization: only the caller''s own. Errors: 400, 401, 404 CHAT_NOT_FOUND, 409 CHAT_LIMIT.';
grant execute on function api.add_chat_message to authenticated;
