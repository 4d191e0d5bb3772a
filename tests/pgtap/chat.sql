-- The chat history by actor: ids, derived texts, autosave, limits, retention.
begin;
select no_plan();

-- Anna owns an organization with a context; Ben is a member of it, Ulla its auditor there; Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.member('ulla', 'anna'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000c1'::uuid $$;
create function pg_temp.p(p_chat text, p_body jsonb default null, p_more jsonb default '{}') returns jsonb language sql
as $$ select p_more || jsonb_build_object('chatId', p_chat) || case when p_body is null then '{}' else jsonb_build_object('body', p_body) end $$;
create function pg_temp.refused(p_function text, p jsonb) returns text language sql
as $$ select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field') from tests.refusal(format('select api.%I(%L)', p_function, p)) r $$;
create function pg_temp.as_person(p_who text, p_function text, p jsonb) returns text language plpgsql
as $$ begin perform tests.act_as(p_who); return pg_temp.refused(p_function, p); end $$;
create function pg_temp.said(p_role text, p_content text) returns jsonb language sql as $$ select jsonb_build_object('role', p_role, 'content', p_content) $$;
grant execute on all functions in schema pg_temp to public;
select tests.act_as('anna');
select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Billing', 'privacy', 'shared'))) is not null;
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, name, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), u.id, u.email, 'Ulla', 'auditor', now() from public.users u where u.id = tests.user('ulla');

-- Ids and their persons.
select tests.act_as('anna');
select is(pg_temp.refused('create_chat', jsonb_build_object('body', jsonb_build_object('id', id))), '400 VALIDATION_ERROR id', id || ' is no id of a chat')
from unnest(array['', 'x', 'chat_', 'chat_a', 'chat_A_b', 'chat_a_b_c', 'chat_123456789012345678901_a', 'context:00000000-0000-4000-8000-0000000000c1', E'chat_a_b\n']) id;
select is(api.create_chat('{"body": {"id": "chat_ml3x0k_4h2q8zc"}}') - 'metadata' - 'createdAt' - 'updatedAt', '{"id": "chat_ml3x0k_4h2q8zc", "messages": [], "sourceFiles": []}', 'a chat begins empty');
select is(current_setting('response.status', true), '201', 'and is made');
select is(api.create_chat('{"body": {"id": "chat_ml3x0k_4h2q8zc", "title": "Other"}}') #>> '{metadata,title}', 'New Chat', 'the same id again is the same chat');
select is(current_setting('response.status', true), '200', 'which was there');
select is(api.create_chat('{"body": {"id": "ABCDEF00-0000-4000-8000-000000000001"}}') ->> 'id', 'abcdef00-0000-4000-8000-000000000001', 'a UUID is an id');
select matches(api.create_chat('{}') ->> 'id', '^[0-9a-f-]{36}$', 'without an id the server makes one');
select api.add_chat_message(pg_temp.p('chat_ml3x0k_4h2q8zc', pg_temp.said('user', 'A secret of Anna'))) is not null;
select tests.act_as('ben');
select is(api.create_chat('{"body": {"id": "chat_ml3x0k_4h2q8zc"}}') -> 'messages', '[]', 'the same id of another person is another chat');
select is(pg_temp.as_person(who, f, pg_temp.p('abcdef00-0000-4000-8000-000000000001', b)), '404 CHAT_NOT_FOUND', who || ' finds no chat of Anna by ' || f)
from unnest(array['ben', 'ulla', 'stan']) who, (values ('get_chat', null::jsonb), ('update_chat', '{"title": "x"}'), ('add_chat_message', '{"role": "user", "content": "x"}'), ('set_chat_source_files', '[]')) v (f, b);
select tests.act_as('ben');
select is(api.delete_chat(pg_temp.p('abcdef00-0000-4000-8000-000000000001')), null, 'deleting it says nothing');
select is(pg_temp.refused('delete_chat', pg_temp.p('x')), '404 CHAT_NOT_FOUND', 'but of what is no id');
select is(api.clear_chats('{}'), '{"deleted": 1}', 'clearing deletes one''s own');
select is(api.delete_chats('{"body": {"ids": ["chat_ml3x0k_4h2q8zc", "x", "abcdef00-0000-4000-8000-000000000001"]}}'), '{"deleted": 0}', 'so do ids');
select is((select count(*) from public.chat_sessions) + (select count(*) from public.chat_messages), 0::bigint, 'past the operations Ben sees none of Anna''s rows');
select throws_ok($$ insert into public.chat_messages (organization_id, user_id, chat_id, seq, role, content) values (gen_random_uuid(), gen_random_uuid(), 'x', 1, 'user', 'x') $$, '42501', null, 'and writes none');
select throws_ok($$ select storage_key from public.chat_attachments $$, '42501', null, 'keys of stored content are not shown');
select tests.act_anon();
select throws_ok($$ select api.list_chats('{}') $$, '42501', null, 'an anonymous caller has no chats');
select tests.act_service();
select throws_ok($$ select api.get_chat('{}') $$, '42501', null, 'nor has the service');
select tests.act_as('anna');
select is(jsonb_array_length(api.list_chats('{}') -> 'items'), 3, 'Anna has hers');
select is(api.get_chat(pg_temp.p('chat_ml3x0k_4h2q8zc')) #>> '{messages,0,content}', 'A secret of Anna', 'with their messages');
select tests.act_as('ben');
select throws_ok($$ select private.answer_question('{}') $$, '42501', null, 'only the server answers questions');
select throws_ok($$ select private.read_question('{}') $$, '42501', null, 'or reads what a model gets');

-- Derived texts.
select tests.reset();
select is(private.chat_title(t), w, format('the title of %L', left(t, 30))) from (values
  ('Hello', 'Hello'), (E'  # A *bold* `title`\nmore', ' A bold title'), ('**', 'New Chat'), (repeat('x', 50), repeat('x', 50)), (repeat('x', 51), repeat('x', 47) || '...'),
  (E'line\r\nnext', 'line'), ('[a](b)~_', 'a(b)')) v (t, w);
select is(private.chat_preview(t), w, format('the preview of %L', left(t, 30))) from (values
  (E'a\n\r\n\nb  c', 'a b  c'), (repeat('x', 100), repeat('x', 100)), (repeat('x', 101), repeat('x', 97) || '...'), ('', '')) v (t, w);
select tests.act_as('anna');
select api.create_chat('{"body": {"id": "chat_a_1"}}') is not null;
select is(api.add_chat_message(pg_temp.p('chat_a_1', pg_temp.said('model', 'Hi @nobody'))) ->> 'role', 'model', 'a message is answered');
select is((api.get_chat(pg_temp.p('chat_a_1')) -> 'metadata') - 'timestamp' - 'lastActivity', '{"id": "chat_a_1", "title": "New Chat", "preview": "Hi @nobody", "messageCount": 1}', 'a greeting gives no title');
select api.add_chat_message(pg_temp.p('chat_a_1', pg_temp.said('user', E'## Compare @auth.ts with @b.ts\nand /skill:Review @auth.ts'))) is not null;
select api.add_chat_message(pg_temp.p('chat_a_1', pg_temp.said('user', 'Second @c.ts @Ingestion #3 /skill:Fix /skill:Review'))) is not null;
select is((api.get_chat(pg_temp.p('chat_a_1')) -> 'metadata') - 'timestamp' - 'lastActivity', '{"id": "chat_a_1", "title": " Compare @auth.ts with @b.ts", "preview": "Second @c.ts @Ingestion #3 /skill:Fix /skill:Review", "messageCount": 3,
  "usedContexts": ["auth.ts", "b.ts", "c.ts", "Ingestion"], "usedSkills": ["Review", "Fix"]}'::jsonb || '{"preview": "Second @c.ts @Ingestion 3 /skill:Fix /skill:Review"}', 'the first user message gives the title, all of them the mentions');
select is(api.update_chat(pg_temp.p('chat_a_1', jsonb_build_object('title', '  ' || repeat('t', 120)))) #>> '{metadata,title}', repeat('t', 100), 'a title is trimmed and cut');
select is(pg_temp.refused('update_chat', pg_temp.p('chat_a_1', '{"title": " "}')), '400 VALIDATION_ERROR title', 'and not blank');
select is(pg_temp.refused('add_chat_message', pg_temp.p('chat_a_1', b)), '400 VALIDATION_ERROR ' || f, 'a message has ' || f) from (values
  ('{"role": "assistant", "content": "x"}'::jsonb, 'role'), ('{"role": "user"}', 'content'), (pg_temp.said('user', repeat('x', 200001)), 'content'), ('{"role": "user", "content": "x", "attachmentIds": ["00000000-0000-0000-0000-000000000000"]}', 'attachmentIds')) v (b, f);
select is(pg_temp.refused('set_chat_source_files', pg_temp.p('chat_a_1', jsonb_build_array(f))), '400 VALIDATION_ERROR sourceFiles[0]', 'no source file: ' || f::text) from unnest(array[
  '1', '{"id": "a", "name": "n", "type": "video", "size": 1, "selected": true}', '{"id": "a", "name": "n", "type": "code", "size": "1", "selected": true}', '{"id": "a", "type": "code", "size": 1, "selected": true}']::jsonb[]) f;
select is(api.set_chat_source_files(pg_temp.p('chat_a_1', '[{"id": "a", "name": "n", "type": "code", "size": 1, "selected": true, "mine": 1}]')) -> 'sourceFiles', '[{"id": "a", "name": "n", "type": "code", "size": 1, "selected": true, "mine": 1}]', 'source files are stored as given');

-- The list.
select is((select jsonb_agg(i ->> 'id') from jsonb_array_elements(api.list_chats('{"pageSize": 1, "page": 1}') -> 'items') i), '["chat_a_1"]', 'latest activity first');
select is(api.list_chats('{"pageSize": 2, "page": 2}') - 'items', '{"total": 4, "page": 2, "pageSize": 2, "hasMore": false}', 'in pages');
select is((api.list_chats(jsonb_build_object('search', s)) ->> 'total')::integer, w, 'search ' || s) from (values ('TTT', 1), ('second @C', 1), ('%', 0), ('secret', 1), ('Compare', 0)) v (s, w);
select is(pg_temp.refused('list_chats', p), '400 VALIDATION_ERROR ' || f, 'a list is asked for properly: ' || f) from (values ('{"pageSize": 201}'::jsonb, 'pageSize'), ('{"page": 0}', 'page'), ('{"contextId": "x"}', 'contextId')) v (p, f);

-- The context of a chat.
select is(pg_temp.refused('update_chat', pg_temp.p('chat_a_1', '{"contextId": "00000000-0000-4000-8000-0000000000ff"}')), '404 CONTEXT_NOT_FOUND contextId', 'an unknown context');
select api.update_chat(pg_temp.p('chat_a_1', jsonb_build_object('contextId', pg_temp.pid()))) is not null;
select is(api.list_chats(jsonb_build_object('contextId', pg_temp.pid())) ->> 'total', '1', 'chats about a context');
select api.create_project('{"body": {"id": "00000000-0000-4000-8000-0000000000c2", "name": "Other"}}') is not null;
select is(pg_temp.refused('update_chat', pg_temp.p('chat_a_1', '{"contextId": "00000000-0000-4000-8000-0000000000c2"}')), '409 CHAT_CONFLICT contextId', 'the context stays');
select is(pg_temp.as_person('stan', 'create_chat', jsonb_build_object('body', jsonb_build_object('contextId', pg_temp.pid()))), '404 CONTEXT_NOT_FOUND contextId', 'Stan names no context of Anna''s');

-- Threads of a path.
select is(pg_temp.as_person(who, 'list_chat_messages', jsonb_build_object('contextId', id)), w, format('%s reads the thread of %s', who, id)) from (values
  ('ulla', pg_temp.pid()::text, '403 FORBIDDEN'), ('stan', pg_temp.pid()::text, '404 CONTEXT_NOT_FOUND'), ('stan', 'abcdef00-0000-4000-8000-000000000001', '404 CONTEXT_NOT_FOUND'), ('anna', 'not-a-uuid', '404 CONTEXT_NOT_FOUND'),
  ('anna', 'chat_', '400 VALIDATION_ERROR id'), ('ben', pg_temp.pid()::text, ''), ('ben', 'chat_new_one', ''), ('anna', 'abcdef00-0000-4000-8000-000000000001', '')) v (who, id, w);
select is(pg_temp.as_person('anna', 'list_chat_messages', '{"contextId": "chat_a_1"}'::jsonb || m), '400 VALIDATION_ERROR ' || f, 'paged properly: ' || f) from (values ('{"limit": 501}'::jsonb, 'limit'), ('{"before": "x"}', 'before')) v (m, f);
select tests.act_as('anna');
select is((select jsonb_agg(m ->> 'role') from jsonb_array_elements(api.list_chat_messages('{"contextId": "chat_a_1", "limit": 2}')) m), '["user", "user"]', 'the last ones, oldest first');
select is(current_setting('response.headers', true)::jsonb ->> 'X-Has-More', 'true', 'and there are more');
select is((select jsonb_agg(m - 'id' - 'timestamp') from jsonb_array_elements(api.list_chat_messages(jsonb_build_object('contextId', 'chat_a_1', 'before', (select id from public.chat_messages where chat_id = 'chat_a_1' and seq = 2)))) m),
  '[{"role": "assistant", "content": "Hi @nobody", "sources": []}]', 'the ones before');
select is(current_setting('response.headers', true)::jsonb, '{"X-Has-More": "false", "X-Total-Count": "3"}', 'are the first');

-- Autosave.
select is((api.save_chat(pg_temp.p('chat_s_1', jsonb_build_object('id', 'chat_s_1', 'metadata', '{"title": "Old", "timestamp": "2025-01-02T03:04:05.678Z", "messageCount": 9}'::jsonb, 'messages', jsonb_build_array(pg_temp.said('user', 'a') || '{"attachments": [{}]}')))) -> 'metadata') - 'lastActivity',
  '{"id": "chat_s_1", "title": "Old", "preview": "a", "messageCount": 1, "timestamp": "2025-01-02T03:04:05.678Z"}', 'a save makes a chat, with title and creation');
select is(current_setting('response.status', true), '201', 'which is new');
select is(pg_temp.refused('save_chat', pg_temp.p('chat_s_1', '{"id": "chat_s_2"}')), '400 VALIDATION_ERROR id', 'under the id of its path');
select is(pg_temp.refused('save_chat', pg_temp.p('chat_s_1', '{}', jsonb_build_object('ifMatch', m))), w, 'If-Match ' || m) from (values ('2025-01-01T00:00:00.000Z', '409 CHAT_CONFLICT'), ('*', '')) v (m, w);
select is(pg_temp.refused('save_chat', pg_temp.p('chat_none_1', '{}', '{"ifMatch": "*"}')), '409 CHAT_CONFLICT', 'a condition on a chat that does not exist');
select is(pg_temp.refused('save_chat', pg_temp.p('chat_s_1', '{}', jsonb_build_object('ifMatch', '"' || (api.save_chat(pg_temp.p('chat_s_1', '{}')) ->> 'updatedAt') || '"'))), '', 'the last updatedAt passes');
select isnt(api.save_chat(pg_temp.p('chat_s_1', '{}')) ->> 'updatedAt', api.save_chat(pg_temp.p('chat_s_1', '{}')) ->> 'updatedAt', 'each change has a moment of its own');
select is(pg_temp.refused('save_chat', pg_temp.p('chat_s_1', jsonb_build_object('messages', m))), w, 'messages are checked: ' || left(m::text, 40)) from (values
  ('[{"role": "assistant", "content": "x"}]'::jsonb, '400 VALIDATION_ERROR messages[0].role'), ('[{"role": "user"}]', '400 VALIDATION_ERROR messages[0].content'), ('[1]', '400 VALIDATION_ERROR messages[0].role'),
  (jsonb_build_array(pg_temp.said('user', repeat('x', 200001))), '400 VALIDATION_ERROR content'), ((select jsonb_agg(pg_temp.said('user', 'x')) from generate_series(1, 5001)), '409 CHAT_LIMIT messages')) v (m, w);

-- The merge against a naive one over arrays: every pair of a stored and a sent list.
select tests.reset();
create function pg_temp.naive(p_stored text[], p_sent text[]) returns text[] language plpgsql as $$
declare
  v_all text[] := p_stored;
  v_place integer := 0;
  v_found integer;
  v_sent text;
begin
  foreach v_sent in array p_sent loop
    v_found := null;
    for i in v_place + 1..coalesce(cardinality(p_stored), 0) loop
      if p_stored[i] = v_sent then v_found := i; exit; end if;
    end loop;
    if v_found is null then v_all := v_all || v_sent; else v_place := v_found; end if;
  end loop;
  return v_all;
end $$;
create function pg_temp.messages(p_texts text[]) returns jsonb language sql as $$ select coalesce(jsonb_agg(pg_temp.said(case left(t, 1) when 'u' then 'user' else 'model' end, substr(t, 2)) order by n), '[]') from unnest(p_texts) with ordinality x (t, n) $$;
create function pg_temp.texts(p_chat text) returns text[] language sql as $$ select coalesce(array_agg(left(role, 1) || content order by seq), '{}') from public.chat_messages where chat_id = p_chat $$;
create function pg_temp.random_texts() returns text[] language sql volatile as $$ select array(select (array['ua', 'ub', 'ma', 'mb', 'u'])[1 + floor(random() * 5)::integer] from generate_series(1, floor(random() * 7)::integer)) $$;
create temp table merges (n integer, stored text[], sent text[], got text[], again text[]);
grant all on merges to public;
create function pg_temp.merge(p_n integer) returns void language plpgsql as $$
declare
  v_chat constant text := 'chat_m_' || p_n;
  v_stored constant text[] := pg_temp.random_texts();
  v_sent constant text[] := pg_temp.random_texts();
  v_got text[];
begin
  perform api.create_chat(jsonb_build_object('body', jsonb_build_object('id', v_chat)));
  perform api.add_chat_message(pg_temp.p(v_chat, m)) from jsonb_array_elements(pg_temp.messages(v_stored)) m;
  perform api.save_chat(pg_temp.p(v_chat, jsonb_build_object('messages', pg_temp.messages(v_sent))));
  v_got := pg_temp.texts(v_chat);
  perform api.save_chat(pg_temp.p(v_chat, jsonb_build_object('messages', pg_temp.messages(v_got))));
  insert into merges values (p_n, v_stored, v_sent, v_got, pg_temp.texts(v_chat));
  perform api.delete_chat(pg_temp.p(v_chat));
end $$;
grant execute on all functions in schema pg_temp to public;
select tests.act_as('anna');
select count(pg_temp.merge(n)) from generate_series(1, 400) n;
select is_empty($$ select * from merges where got <> pg_temp.naive(stored, sent) $$, 'the merge is the naive one');
select is_empty($$ select * from merges where got[1:cardinality(stored)] <> stored or again <> got $$, 'nothing stored moves, and what was answered can be sent again');

-- Limits.
select tests.reset();
alter table public.chat_messages disable trigger user;
update public.chat_sessions set message_count = 4999 where id = 'chat_s_1';
alter table public.chat_messages enable trigger user;
select tests.act_as('anna');
select api.add_chat_message(pg_temp.p('chat_s_1', pg_temp.said('user', 'last'))) is not null;
select is(pg_temp.refused('add_chat_message', pg_temp.p('chat_s_1', pg_temp.said('user', 'x'))), '409 CHAT_LIMIT', 'a chat has 5,000 messages');
select is(pg_temp.refused('save_chat', pg_temp.p('chat_s_1', jsonb_build_object('messages', jsonb_build_array(pg_temp.said('user', 'x'))))), '409 CHAT_LIMIT', 'also by autosave');
select tests.reset();
update public.chat_sessions set bytes = 7999999 where id = 'chat_a_1';
insert into public.chat_sessions (organization_id, user_id, id) select tests.org('anna'), tests.user('anna'), 'chat_l_' || n from generate_series(1, 2000 - (select count(*)::integer from public.chat_sessions where user_id = tests.user('anna'))) n;
select tests.act_as('anna');
select is(pg_temp.refused('add_chat_message', pg_temp.p('chat_a_1', pg_temp.said('user', 'xx'))), '409 CHAT_LIMIT', 'and 8 MB of text');
select is(pg_temp.refused('create_chat', '{"body": {"id": "chat_too_many"}}'), '409 CHAT_LIMIT', 'a person has 2,000 chats');
select is(pg_temp.refused('save_chat', pg_temp.p('chat_too_many', '{}')), '409 CHAT_LIMIT', 'also by autosave');
select is(pg_temp.refused('create_chat', '{"body": {"id": "chat_a_1"}}'), '', 'one that is there is found');

-- Retention, and what goes with a context.
select tests.reset();
update public.chat_sessions set last_activity = now() - interval '91 days', stored_at = now() - interval '91 days' where id in ('chat_s_1', 'chat_l_1');
update public.chat_sessions set last_activity = now() - interval '91 days' where id = 'chat_l_2';
insert into public.chat_sessions (organization_id, user_id, id, default_of) values (tests.org('anna'), tests.user('anna'), 'context:' || pg_temp.pid(), pg_temp.pid());
insert into public.chat_attachments (organization_id, user_id, name, mime_type, size, is_image, checksum, storage_key, storage_provider, created_at)
select tests.org('anna'), tests.user('anna'), 'a', 'text/plain', 10, false, 'x', k, 'local', at from (values ('old', now() - interval '25 hours'), ('young', now())) v (k, at);
insert into private.chat_questions (organization_id, user_id, question, model, day, created_at)
select tests.org('anna'), tests.user('anna'), 'x', 'm', (now() at time zone 'UTC')::date, at from (values (now() - interval '16 minutes'), (now())) v (at);
select private.consume_quota(tests.org('anna'), 'oracle_queries', 2);
select is(private.sweep_chats(), 1, 'a question whose process died ends');
select is(tests.end_old('chat_sessions'), 2::bigint, 'chats end 90 days after their last message');
select tests.end_old('chat_attachments');
select is((select array_agg(id order by id) from public.chat_sessions where id in ('chat_s_1', 'chat_l_1', 'chat_l_2')), array['chat_l_2'], 'but not one that was stored lately');
select is((select array_agg(storage_key) from public.chat_attachments), array['young'], 'unused attachments live a day');
select is(private.unreferenced_blobs(array['old', 'young']), array['old'], 'and their content is deleted then');
select is((select array[count(*), sum(c.used)] from private.chat_questions q, public.usage_counters c where c.organization_id = tests.org('anna') and c.metric = 'oracle_queries' group by q.organization_id), array[1, 1]::numeric[], 'the unit of a lost question goes back once');
delete from public.projects where id = pg_temp.pid();
select is((select count(*) from public.chat_sessions where id = 'context:' || pg_temp.pid()), 0::bigint, 'a default thread goes with its context');
select is((select context_id from public.chat_sessions where id = 'chat_a_1'), null, 'a chat outlives it');
delete from public.users where id = tests.user('ben');
select * from finish();
rollback;
