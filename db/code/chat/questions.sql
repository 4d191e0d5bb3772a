-- A question about a context, and its answer (contract 60, section 7). One transaction before the model call stores the question and takes its
-- unit, one after it stores the answer or gives the unit back. Between them the process holds no connection.

-- ------------------------------------------------------------------------------------------------------------------------- threads

-- The id of a path is that of a chat, or of a context with its default thread.
create or replace function private.find_thread(p_id text, out chat_id text, out default_of uuid)
language plpgsql stable
as $$
declare
  v_uuid constant uuid := private.as_uuid(p_id);
begin
  if p_id like 'chat\_%' then
    chat_id := private.new_chat_id(p_id);
  elsif private.project_role(v_uuid) is not null then
    default_of := private.path_context(jsonb_build_object('contextId', v_uuid), 'viewer', 'chat');
    chat_id := 'context:' || v_uuid;
  else
    select s.id into chat_id from public.chat_sessions s
    where s.organization_id = private.org_id() and s.user_id = private.user_id() and s.id = v_uuid::text;
    if chat_id is null then
      perform private.refuse(404, 'CONTEXT_NOT_FOUND', 'This context does not exist.');
    end if;
  end if;
end
$$;
comment on function private.find_thread is
  'The caller''s thread that an id means, which may not exist yet where it begins with chat_ or belongs to a context. Errors: 400, 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function private.find_thread to authenticated;

create or replace function api.list_chat_messages(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_limit constant integer := coalesce(private.as_int(p -> 'limit', 'limit'), 200);
  v_org constant uuid := private.org_id();
  v_user constant uuid := private.user_id();
  v_thread constant record := private.find_thread(p ->> 'contextId');
  v_before integer;
  v_messages jsonb;
  v_oldest integer;
begin
  if v_limit not between 1 and 500 then
    perform private.refuse_field('limit', 'limit must be from 1 to 500.');
  end if;
  if coalesce(p ->> 'before', '') <> '' then
    select m.seq into v_before from public.chat_messages m
    where m.organization_id = v_org and m.user_id = v_user and m.chat_id = v_thread.chat_id and m.id = private.as_uuid(p ->> 'before');
    if v_before is null then
      perform private.refuse_field('before', 'before must be the id of a message of this thread.');
    end if;
  end if;
  select coalesce(jsonb_agg(private.chat_message_json(x.m) order by (x.m).seq), '[]'), min((x.m).seq) into v_messages, v_oldest
  from (select m from public.chat_messages m
    where m.organization_id = v_org and m.user_id = v_user and m.chat_id = v_thread.chat_id and (v_before is null or m.seq < v_before)
    order by m.seq desc limit v_limit) x;
  perform private.set_headers(jsonb_build_object('X-Has-More', coalesce(v_oldest > 1, false)::text, 'X-Total-Count', coalesce((
    select s.message_count from public.chat_sessions s where s.organization_id = v_org and s.user_id = v_user and s.id = v_thread.chat_id), 0)::text));
  return v_messages;
end
$$;
comment on function api.list_chat_messages is
  'GET /contexts/{contextId}/chat: ChatMessage[] of the caller''s thread, oldest first. Errors: 400, 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.list_chat_messages to authenticated;

-- --------------------------------------------------------------------------------------------------------------------- attachments

-- May the caller send attachments there? Asked before the first byte is stored.
create or replace function api.admit_attachments(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  perform private.assert_chat_caller(), private.find_thread(p ->> 'contextId');
  return '{}';
end
$$;
comment on function api.admit_attachments is 'Part of POST /contexts/{contextId}/chat/attachments: refuses before content is read. Errors: 400, 401, 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.admit_attachments to authenticated;

-- p: {contextId, files: [{name, mimeType, size, isImage, checksum, storageKey, storageProvider}]}, of content that the server has stored.
create or replace function api.register_attachments(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_files constant jsonb := coalesce(private.as_array(p -> 'files', 'files'), '[]');
  v_answer jsonb;
begin
  perform private.refuse_strangers('Attachments are sent through the API.');
  perform private.assert_chat_caller(), private.find_thread(p ->> 'contextId');
  if jsonb_array_length(v_files) not between 1 and 10 then
    perform private.refuse_field('files', 'A request carries 1 to 10 files.');
  end if;
  with stored as (
    insert into public.chat_attachments (organization_id, user_id, name, mime_type, size, is_image, checksum, storage_key, storage_provider, created_at)
    select private.org_id(), private.user_id(), f.name, f."mimeType", f.size, f."isImage", f.checksum, f."storageKey", f."storageProvider",
      -- In the order in which they were sent.
      clock_timestamp() + t.n * interval '1 microsecond'
    from jsonb_array_elements(v_files) with ordinality t (v, n), jsonb_to_record(t.v)
      f (name text, "mimeType" text, size bigint, "isImage" boolean, checksum text, "storageKey" text, "storageProvider" text)
    returning *
  )
  select jsonb_agg(private.attachment_json(s::public.chat_attachments) order by s.created_at) into v_answer from stored s;
  return v_answer;
end
$$;
comment on function api.register_attachments is
  'Part of POST /contexts/{contextId}/chat/attachments: {id, name, mimeType, size}[]. Authorization: through our server only, which stored the content; signed in, and viewer in the context. Errors: 400, 401, 403, 404 CONTEXT_NOT_FOUND, 429 QUOTA_EXCEEDED.';
grant execute on function api.register_attachments to authenticated;

-- -------------------------------------------------------------------------------------------------------------------------- models

-- Real providers only: the local model of a development installation answers no chat.
create or replace function private.chat_model(
  p_model text, p_org_id uuid, out model text, out called text, out answers text, out is_fallback boolean
)
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v record;
begin
  if not private.is_model_routable(p_model) then
    perform private.refuse_field('model', 'This model is unknown. Name claude, gemini, gpt4, gpt4o or the full id of a model.');
  end if;
  for v in
    select r.model as named, r.called as id, private.answering_provider(r.provider, p_org_id) as provider, n.place
    from unnest(array[p_model, private.default_model(), 'gemini']) with ordinality n (name, place), private.resolve_model(n.name) r order by n.place
  loop
    if v.provider in ('anthropic', 'google') then
      model := v.named;
      called := v.id;
      answers := v.provider;
      is_fallback := v.place > 1;
      return;
    end if;
  end loop;
  model := 'kijko-extractive';
  is_fallback := false;
end
$$;
comment on function private.chat_model is
  'The model that answers: the named one, else the default one, else Gemini, whichever has a provider; without any, answers is null. Authorization: callable by definer functions of ours only. Errors: 400 VALIDATION_ERROR.';

create or replace function private.takes_images(p_called text) returns boolean
language sql immutable parallel safe
return p_called !~ '^(claude-(instant|v?[12]([^0-9]|$))|gemini-(1\.0-)?pro(-\d+)?$)';
comment on function private.takes_images is 'Does the model look at images? Only the oldest ones do not.';

-- ----------------------------------------------------------------------------------------------------------------------- questions

create or replace function private.question_text(p_message text) returns text
language plpgsql stable
as $$
declare
  v constant text := private.trimmed(coalesce(p_message, ''));
begin
  if char_length(v) not between 1 and 32000 then
    perform private.refuse_field('message', case v when '' then 'The message must not be blank.' else 'The message has more than 32,000 characters.' end);
  end if;
  return v;
end
$$;
comment on function private.question_text is 'The trimmed message. Errors: 400 VALIDATION_ERROR.';

-- Takes the unit of a question and remembers it until it has its answer.
create or replace function private.open_question(p_question text, p_model text, p_context_id uuid, p_chat_id text default null, p_message_id uuid default null)
returns private.chat_questions
language plpgsql volatile security definer set search_path = ''
as $$
declare
  q private.chat_questions;
  v constant record := private.chat_model(coalesce(p_model, 'claude'), private.org_id());
begin
  perform private.consume_quota(private.org_id(), 'oracle_queries', 1);
  insert into private.chat_questions (organization_id, user_id, chat_id, message_id, context_id, question, answers, called, model, is_fallback, day)
  values (private.org_id(), private.user_id(), p_chat_id, p_message_id, p_context_id, left(regexp_replace(p_question, '\s+', ' ', 'g'), 60), v.answers, v.called,
    v.model, v.is_fallback, (now() at time zone 'UTC')::date)
  returning * into q;
  return q;
end
$$;
comment on function private.open_question is
  'Takes one unit of oracle_queries of the caller''s organization for a question. Authorization: callable by definer functions of ours that have authorized the caller. Errors: 400, 429 QUOTA_EXCEEDED.';

create or replace function private.question_json(q private.chat_questions) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('questionId', q.id, 'chatId', private.shown_chat_id(q.chat_id), 'userMessageId', q.message_id,
  'messageId', q.answer_id, 'contextId', q.context_id, 'model', q.model, 'modelFallback', case when q.is_fallback then true end));
comment on function private.question_json is 'A question for the process that answers it.';

-- p: {contextId, body: {message, contextId?, model?, attachmentIds?}}
create or replace function api.begin_question(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_text constant text := private.question_text(b ->> 'message');
  v_thread record;
  v_context uuid;
  s public.chat_sessions;
  m public.chat_messages;
  q private.chat_questions;
  v_attached record;
begin
  perform private.refuse_strangers('Questions are asked through the API.');
  perform private.assert_chat_caller();
  v_thread := private.find_thread(p ->> 'contextId');
  v_context := coalesce(v_thread.default_of, private.chat_context(b ->> 'contextId'));
  s := (private.begin_chat(v_thread.chat_id, p_default_of => v_thread.default_of)).chat;
  if s.default_of is null then
    perform private.refuse_other_context(s, v_context);
    v_context := coalesce(s.context_id, v_context);
    if v_context is not null then
      perform private.path_context(jsonb_build_object('contextId', v_context), 'viewer', 'chat');
      update public.chat_sessions x set context_id = v_context
      where x.organization_id = s.organization_id and x.user_id = s.user_id and x.id = s.id and x.context_id is null;
    end if;
  end if;

  select * into m from public.chat_messages x
  where x.organization_id = s.organization_id and x.user_id = s.user_id and x.chat_id = s.id order by x.seq desc limit 1;
  -- The page records the message in the history as well, and repeats it after a failure.
  if m.role is distinct from 'user' or private.trimmed(m.content) <> v_text or m.created_at < clock_timestamp() - interval '60 seconds' then
    perform private.assert_chat_room(s, 2, octet_length(v_text));
    insert into public.chat_messages (organization_id, user_id, chat_id, seq, role, content)
    values (s.organization_id, s.user_id, s.id, s.message_count + 1, 'user', v_text) returning * into m;
  else
    perform private.assert_chat_room(s, 1, 0);
  end if;
  perform private.use_attachments(b -> 'attachmentIds', m.id);
  q := private.open_question(v_text, b ->> 'model', v_context, s.id, m.id);

  select coalesce(bool_or(a.is_image), false) as images, coalesce(sum(a.size) filter (where not a.is_image), 0) as bytes into v_attached
  from public.chat_attachments a where a.organization_id = s.organization_id and a.user_id = s.user_id and a.message_id = m.id;
  if v_attached.images and not coalesce(private.takes_images(q.called), false) then
    perform private.refuse_field('attachmentIds', case when q.called is null then 'No model of this installation looks at images.'
      else format('The model %s does not look at images.', q.model) end);
  elsif v_attached.bytes > 400000 then
    perform private.refuse_field('attachmentIds', 'The attached texts are longer than 400 KB together, which is more than a model reads with a question.');
  end if;
  return private.question_json(q);
end
$$;
comment on function api.begin_question is
  'Part of POST /contexts/{contextId}/chat: stores the message and takes its unit. Authorization: through our server only, which answers; the caller''s own thread, viewer in its context. Errors: 400, 401, 403, 404 CONTEXT_NOT_FOUND, 409 CHAT_CONFLICT, CHAT_LIMIT, 429 QUOTA_EXCEEDED.';
grant execute on function api.begin_question to authenticated;

-- p: {contextId, body: {message, model?}}
create or replace function api.begin_lone_question(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
begin
  perform private.refuse_strangers('Questions are asked through the API.');
  perform private.assert_chat_caller();
  return private.question_json(private.open_question(private.question_text(b ->> 'message'), b ->> 'model', private.path_context(p, 'viewer', 'chat')));
end
$$;
comment on function api.begin_lone_question is
  'Part of what asks about a context without a thread: takes its unit. Authorization: through our server only, which answers; viewer in the context. Errors: 400, 401, 403, 404 CONTEXT_NOT_FOUND, 429 QUOTA_EXCEEDED.';
grant execute on function api.begin_lone_question to authenticated;

-- ------------------------------------------------------------------------------------------------------------------- for the server

create or replace function private.graph_digest(p_context_id uuid) returns text
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org constant uuid := (select p.organization_id from public.projects p where p.id = p_context_id);
begin
  return concat_ws(E'\n',
    'Entities that others refer to most: ' || (
      select string_agg(format('%s (%s%s, %s references)', n.name, n.type, coalesce(' in ' || n.path, ''), n.reference_count), '; ' order by n.reference_count desc, n.rank, n.name)
      from (select * from public.kg_nodes x where x.organization_id = v_org and x.project_id = p_context_id order by x.reference_count desc, x.rank, x.name limit 50) n),
    'Sizes of clusters: ' || (
      select string_agg(c.size::text, ', ' order by c.size desc)
      from (select count(*) as size from public.kg_nodes n join public.kg_files f on f.project_id = n.project_id and f.part = n.part
        where n.organization_id = v_org and n.project_id = p_context_id and f.cluster is not null group by f.cluster order by 1 desc limit 20) c),
    'Links by type: ' || (
      select string_agg(format('%s %s', e.links, e.type), ', ' order by e.links desc)
      from (select x.type, count(*) as links from public.kg_edges x
        where x.organization_id = v_org and x.project_id = p_context_id and x.type <> 'contains' group by 1) e));
end
$$;
comment on function private.graph_digest is
  'Top entities, cluster sizes and links by type of a context''s graph, as text. Authorization: callable by definer functions of ours that have authorized the caller.';

-- p: {questionId}. What a model call needs. The caller was checked when the question was opened.
create or replace function private.read_question(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  q private.chat_questions;
begin
  select * into q from private.chat_questions x where x.id = (p ->> 'questionId')::uuid;
  return jsonb_strip_nulls(jsonb_build_object('answers', q.answers, 'called', q.called, 'organizationId', q.organization_id,
    'sealedKey', private.provider_key(q.answers, q.organization_id), 'withoutSampling', not private.takes_sampling(q.called),
    'digest', (select private.graph_digest(q.context_id) from public.chat_sessions s
      where s.organization_id = q.organization_id and s.user_id = q.user_id and s.id = q.chat_id and s.title = 'Knowledge Graph' and q.context_id is not null)))
    || jsonb_build_object(
      -- The last ten messages, the question included, as far as they are 400 KB together.
      'history', coalesce((
        select jsonb_agg(jsonb_build_object('role', h.role, 'content', h.content) order by h.seq)
        from (select m.seq, m.role, m.content, row_number() over w as place, sum(octet_length(m.content)) over w as bytes
          from public.chat_messages m
          where m.organization_id = q.organization_id and m.user_id = q.user_id and m.chat_id = q.chat_id
            and m.seq <= (select x.seq from public.chat_messages x where x.organization_id = q.organization_id and x.user_id = q.user_id and x.id = q.message_id)
          window w as (order by m.seq desc)
          order by m.seq desc limit 10) h
        where h.place = 1 or h.bytes <= 400000), '[]'),
      'attachments', coalesce((
        select jsonb_agg(jsonb_build_object('name', a.name, 'mimeType', a.mime_type, 'size', a.size, 'isImage', a.is_image, 'key', a.storage_key) order by a.created_at, a.id)
        from public.chat_attachments a where a.organization_id = q.organization_id and a.user_id = q.user_id and a.message_id = q.message_id), '[]'));
end
$$;
comment on function private.read_question is
  'Route, history, attachments and graph digest of an open question. Authorization: callable by the server only, for the person whose question it is.';

-- A repeat of a request whose answer was cut, or failed, is another question.
create or replace function private.forget_question_key(p_user_id uuid, p_key text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from private.idempotency_keys k where k.user_id = p_user_id and k.key = p_key and k.operation = 'begin_question';
end
$$;
comment on function private.forget_question_key is 'Frees the Idempotency-Key of a question. Authorization: callable by functions of ours only.';

-- p: {questionId, content, sources, inputTokens, outputTokens, stopped, key?}. Answers the stored message, or {} where the question is not open any
-- more or its chat was deleted: then nothing is stored and the unit goes back.
create or replace function private.answer_question(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  q private.chat_questions;
  s public.chat_sessions;
  m public.chat_messages;
begin
  delete from private.chat_questions x where x.id = (p ->> 'questionId')::uuid returning * into q;
  if not found then
    return '{}';
  end if;
  if q.chat_id is not null then
    select * into s from public.chat_sessions x
    where x.organization_id = q.organization_id and x.user_id = q.user_id and x.id = q.chat_id for no key update;
    if not found or s.message_count >= 5000 then
      perform private.give_back_quota(q.organization_id, 'oracle_queries', q.day, q.day, 1);
      return '{}';
    end if;
    insert into public.chat_messages (id, organization_id, user_id, chat_id, seq, role, content, model, input_tokens, output_tokens, sources, is_stopped)
    values (q.answer_id, q.organization_id, q.user_id, q.chat_id, s.message_count + 1, 'model', p ->> 'content', q.model, (p ->> 'inputTokens')::bigint,
      (p ->> 'outputTokens')::bigint, p -> 'sources', (p ->> 'stopped')::boolean)
    returning * into m;
  end if;
  if (p ->> 'stopped')::boolean then
    perform private.forget_question_key(q.user_id, p ->> 'key');
  end if;
  if q.context_id is not null then
    perform private.record_activity(q.context_id, 'chat', 'asked about ' || q.question, null, q.user_id);
  end if;
  return private.chat_message_json(m);
end
$$;
comment on function private.answer_question is
  'Stores the answer of an open question. Authorization: callable by the server only, for the person whose question it is.';

-- p: {questionId, userId, key?}
create or replace function private.drop_question(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  q private.chat_questions;
begin
  delete from private.chat_questions x where x.id = (p ->> 'questionId')::uuid returning * into q;
  if found then
    perform private.give_back_quota(q.organization_id, 'oracle_queries', q.day, q.day, 1);
  end if;
  perform private.forget_question_key((p ->> 'userId')::uuid, p ->> 'key');
  return '{}';
end
$$;
comment on function private.drop_question is 'Gives back the unit of a question that gets no answer. Authorization: callable by the server only.';
grant execute on function private.read_question, private.answer_question, private.drop_question to kijko_server;

-- ---------------------------------------------------------------------------------------------------------------------- retention

create or replace function private.sweep_chats(p_at timestamptz default now()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  q private.chat_questions;
  v_count integer := 0;
begin
  -- Longer than a model call may take (KIJKO_MODEL_TIMEOUT): the process that asked has died.
  for q in
    delete from private.chat_questions x
    where x.id in (select y.id from private.chat_questions y where y.created_at < p_at - interval '15 minutes' order by y.created_at limit 1000 for update skip locked)
    returning x.*
  loop
    perform private.give_back_quota(q.organization_id, 'oracle_queries', q.day, q.day, 1);
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;
comment on function private.sweep_chats is
  'Gives units back of questions whose process died; gives how many. Authorization: callable by schedules only.';
