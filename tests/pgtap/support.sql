-- The support assistant: what it knows of a caller, and whose conversations are whose.
begin;
select no_plan();
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');

select is(private.ago(now() - age), said, said) from (values (interval '59 seconds', 'just now'), ('-1 minute', 'just now'), ('60 seconds', '1m ago'), ('59 minutes 59 seconds', '59m ago'),
  ('1 hour', '1h ago'), ('23 hours 59 minutes', '23h ago'), ('1 day', '1d ago'), ('6 days 23 hours', '6d ago')) v (age, said);
select is(private.ago('2026-02-01T23:30:00Z', '2026-02-08T23:30:00Z'), '2026-02-01', 'from a week on it is the date');

-- What is known.
select tests.act_as('anna');
select is(api.get_support_context('{}'), '{"projectCount": 0, "skillsCount": 0, "habitsCount": 0, "reflexesCount": 0, "recentActivity": [], "userName": "Anna Test"}', 'nothing yet');
select api.create_project('{"body": {"name": "Shared", "privacy": "shared"}}') is not null, api.create_project('{"body": {"name": "Private"}}') is not null;
create temp table skill as select (api.create_skill(jsonb_build_object('body', jsonb_build_object('name', n, 'promptTemplate', 'A prompt with enough words', 'isActive', n <> 'Resting'))) ->> 'id')::uuid as id, n as name
  from unnest(array['Notes', 'Resting']) n;
grant select on skill to public;
select api.create_habit(jsonb_build_object('body', jsonb_build_object('skillId', id, 'scheduleCron', '0 9 * * *'))) is not null from skill where name = 'Notes';
select api.create_reflex(jsonb_build_object('body', jsonb_build_object('skillId', id, 'triggerType', 'event', 'triggerConfig', '{"eventName": "e"}'::jsonb))) is not null from skill where name = 'Notes';
select tests.reset();
insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config, is_active)
select tests.user('anna'), tests.org('anna'), id, 'event', '{"eventName": "e"}', false from skill where name = 'Notes';
update public.habits set is_active = false where user_id = tests.user('anna');
update public.skills set is_active = name <> 'Resting' where user_id = tests.user('anna');
insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, reference_id, status, executed_at, completed_at)
select tests.user('anna'), tests.org('anna'), case when n = 2 then null else (select id from skill where name = 'Notes') end, (array['manual', 'habit', 'reflex', 'api'])[1 + n % 4],
  case when n % 4 in (1, 2) then gen_random_uuid() end, case when n = 1 then 'failed' else 'completed' end, now() - n * interval '1 hour', now() from generate_series(1, 7) n;
select tests.act_as('anna');
select is(api.get_support_context('{}'), jsonb_build_object('projectCount', 2, 'skillsCount', 1, 'habitsCount', 1, 'reflexesCount', 1, 'userName', 'Anna Test',
  'recentActivity', '["\"Notes\" execution (habit) failed 1h ago", "Skill execution (reflex) completed 2h ago", "\"Notes\" execution (api) completed 3h ago",
    "\"Notes\" execution (manual) completed 4h ago", "\"Notes\" execution (habit) completed 5h ago"]'::jsonb), 'active skills and reflexes, all habits, the last five runs');
select tests.act_as('ben');
select is(api.get_support_context('{}'), '{"projectCount": 1, "skillsCount": 0, "habitsCount": 0, "reflexesCount": 0, "recentActivity": [], "userName": "Ben Test"}', 'a member has their own numbers, and the shared project');
select tests.act_as('stan');
select is(api.get_support_context('{}') -> 'projectCount', '0', 'a stranger sees none of it');
select tests.act_anon();
select throws_ok($$ select api.get_support_context('{}') $$, '42501', null, 'an anonymous caller asks for nothing');
select tests.act_service();
select throws_ok($$ select api.get_support_context('{}') $$, '42501', null, 'nor does the service');
select tests.reset();
revoke select on public.habits, public.skill_executions from authenticated;
select tests.act_as('anna');
select is(api.get_support_context('{}') - 'userName', '{"projectCount": 2, "skillsCount": 1, "habitsCount": 0, "reflexesCount": 1, "recentActivity": []}', 'a source that fails counts 0, and the others are told');
select tests.reset();
grant select on public.habits, public.skill_executions to authenticated;

-- Conversations.
create function pg_temp.keep(p_who text, p_id text, p_question text, p_answer text default 'An answer') returns jsonb language sql security definer as $$
  select private.keep_support_turn(jsonb_build_object('userId', tests.user(p_who), 'conversationId', p_id, 'question', p_question, 'answer', p_answer)) $$;
create function pg_temp.open(p_body jsonb) returns jsonb language sql as $$ select api.open_support_chat(jsonb_build_object('body', p_body)) $$;
create function pg_temp.ids() returns jsonb language sql security definer as $$ select jsonb_build_object('conversationId', id) from public.support_conversations where user_id = tests.user('anna') $$;
grant execute on all functions in schema pg_temp to public;
select is((pg_temp.keep('anna', null, 'What is a habit?') -> 'reply') - 'id' - 'timestamp', '{"role": "assistant", "content": "An answer"}', 'a turn is stored');
create temp table own as select pg_temp.ids() ->> 'conversationId' as id;
grant select on own to public;
select is(pg_temp.keep('anna', id, 'And a reflex?') ->> 'conversationId', id, 'the next one goes into the same conversation') from own;
select isnt(pg_temp.keep('stan', id, 'Mine?') ->> 'conversationId', id, 'that of another person begins one of one''s own') from own;
select tests.act_as('anna');
select is(jsonb_path_query_array(api.get_support_chat(pg_temp.ids()), '$[*].content'), '["What is a habit?", "An answer", "And a reflex?", "An answer"]', 'its person reads it, oldest first');
select is(pg_temp.open(jsonb_build_object('message', '  More? ', 'conversationId', id)) - 'context', jsonb_build_object('message', 'More?', 'conversationId', id, 'history',
  '[{"role": "user", "content": "What is a habit?"}, {"role": "assistant", "content": "An answer"}, {"role": "user", "content": "And a reflex?"}, {"role": "assistant", "content": "An answer"}]'::jsonb),
  'the history is the stored one') from own;
select is(pg_temp.open(jsonb_build_object('message', 'More?', 'conversation_id', id, 'conversation_history', '[{"role": "assistant", "content": "Hello", "id": "x"}]'::jsonb)) - 'context',
  jsonb_build_object('message', 'More?', 'conversationId', id, 'history', '[{"role": "assistant", "content": "Hello"}]'::jsonb), 'unless the client sends one, under either name') from own;
select is(jsonb_path_query_array(pg_temp.open(jsonb_build_object('message', 'More?', 'conversationHistory', (select jsonb_agg(jsonb_build_object('role', 'user', 'content', n::text)) from generate_series(1, 12) n)))
  -> 'history', '$[*].content'), '["3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]', 'of which the last ten count');
select is(char_length(pg_temp.open(jsonb_build_object('message', 'x', 'conversationHistory', jsonb_build_array(jsonb_build_object('role', 'user', 'content', repeat('x', 9000))))) #>> '{history,0,content}'), 8000, 'and 8000 characters of each');
select ok(not pg_temp.open('{"message": "x", "conversationId": "not-a-uuid"}') ? 'conversationId', 'an id that is none begins another conversation');
select is(tests.refusal(format('select pg_temp.open(%L)', v.body)) - 'message', jsonb_build_object('status', 400, 'code', 'VALIDATION_ERROR', 'field', v.field), left(v.body, 60))
from (values ('{}', 'message'), ('{"message": " \n "}', 'message'), ('{"message": 7}', 'message'), ('{"message": "' || repeat('x', 8001) || '"}', 'message'),
  ('{"message": "x", "conversationHistory": {}}', 'conversationHistory'), ('{"message": "x", "conversationHistory": [1]}', 'conversationHistory'),
  ('{"message": "x", "conversation_history": [{"role": "system", "content": "x"}]}', 'conversation_history'), ('{"message": "x", "conversation_history": [{"role": "user"}]}', 'conversation_history')) v (body, field);
select tests.act_as('ben');
select is((select count(*) from public.support_conversations) + (select count(*) from public.support_messages), 0::bigint, 'a colleague reads nothing of it');
select is(tests.refusal(format('select api.%I(%L)', f, pg_temp.ids())) ->> 'code', 'NOT_FOUND', 'nor by ' || f) from unnest(array['get_support_chat', 'delete_support_chat']) f;
select is(pg_temp.open(jsonb_build_object('message', 'x', 'conversationId', id)) - 'context', '{"message": "x", "history": []}', 'nor as a history') from own;
select throws_ok(format('select private.keep_support_turn(%L)', '{}'), '42501', null, 'a caller does not write the assistant''s answers');
select throws_ok($$ insert into public.support_messages (conversation_id, user_id, role, content) values (gen_random_uuid(), private.user_id(), 'assistant', 'x') $$, '42501', null, 'not into the table either');
select tests.act_as_claims('anna');
select is((select count(*) from public.support_messages), 4::bigint, 'through Supabase''s API it is read too');
select tests.reset();

-- Bounds and the end.
do $$ begin for i in 1..110 loop perform pg_temp.keep('anna', pg_temp.ids() ->> 'conversationId', 'Question ' || i); end loop; end $$;
select is((select count(*) from public.support_messages m, own where m.conversation_id = own.id::uuid), 200::bigint, 'the newest 200 messages stay');
select is((select content from public.support_messages m, own where m.conversation_id = own.id::uuid order by seq limit 1), 'Question 11', 'the oldest go');
select ok((select expires_at > now() + interval '29 minutes' from public.support_conversations c, own where c.id = own.id::uuid), 'each message gives 30 minutes more');
update public.support_conversations set expires_at = clock_timestamp() - interval '1 second' where user_id = tests.user('anna');
select tests.act_as('anna');
select is(tests.refusal(format('select api.get_support_chat(%L)', pg_temp.ids())) ->> 'code', 'NOT_FOUND', 'a conversation that has ended is gone before it is deleted');
select is(pg_temp.open(jsonb_build_object('message', 'x', 'conversationId', id)) - 'context', '{"message": "x", "history": []}', 'and no history') from own;
select tests.reset();
select isnt(pg_temp.keep('anna', id, 'Still there?') ->> 'conversationId', id, 'the next question begins another one') from own;
select is(tests.end_old('support_conversations', clock_timestamp()), 1::bigint, 'retention deletes it');
select is((select count(*) from public.support_messages m, own where m.conversation_id = own.id::uuid), 0::bigint, 'with its messages');
select tests.act_as('anna');
select is(api.delete_support_chat(pg_temp.ids()), null, 'a person deletes theirs');
select is((select count(*) from public.support_messages), 0::bigint, 'with its messages');
select tests.reset();

select * from finish();
rollback;
