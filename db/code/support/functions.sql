-- The support chat (contract 60, section 15): what the assistant knows of the caller, and conversations. The server calls the model between
-- open_support_chat and keep_support_turn, and holds no transaction while it waits.

create or replace function private.ago(p_at timestamptz, p_now timestamptz default now()) returns text
language sql stable parallel safe
return case
  when p_now - p_at < interval '1 minute' then 'just now'
  when p_now - p_at < interval '1 hour' then floor(extract(epoch from p_now - p_at) / 60) || 'm ago'
  when p_now - p_at < interval '1 day' then floor(extract(epoch from p_now - p_at) / 3600) || 'h ago'
  when p_now - p_at < interval '7 days' then floor(extract(epoch from p_now - p_at) / 86400) || 'd ago'
  else to_char(p_at at time zone 'UTC', 'YYYY-MM-DD') end;
comment on function private.ago is 'How long ago something was, in the words of the support chat; from a week on the date in UTC.';

-- The newest runs of the caller, as lines.
create or replace function private.recent_activity() returns jsonb
language plpgsql stable
as $$
begin
  return (
    select coalesce(jsonb_agg(format('%s execution (%s) %s %s', coalesce('"' || s.name || '"', 'Skill'), e.execution_type, e.status, private.ago(e.executed_at))
      order by e.executed_at desc, e.id desc), '[]')
    from (select * from public.skill_executions x where x.user_id = private.user_id() order by x.executed_at desc, x.id desc limit 5) e
    left join public.skills s on s.id = e.skill_id
  );
end
$$;
comment on function private.recent_activity is 'The last five runs of the caller, newest first, as lines of text.';

-- Each source is read in a block of its own, so that one that fails counts 0 and the others are shown.
create or replace function private.support_context() returns jsonb
language plpgsql stable
as $$
declare
  v_user constant uuid := private.user_id();
  v jsonb := '{"projectCount": 0, "skillsCount": 0, "habitsCount": 0, "reflexesCount": 0, "recentActivity": []}';
begin
  begin
    v := v || jsonb_build_object('projectCount', (select count(*) from public.projects));
  exception when others then
    raise warning 'support context without projects: %', sqlstate;
  end;
  begin
    v := v || jsonb_build_object('skillsCount', (select count(*) from public.skills s where s.user_id = v_user and s.is_active));
  exception when others then
    raise warning 'support context without skills: %', sqlstate;
  end;
  begin
    v := v || jsonb_build_object('habitsCount', (select count(*) from public.habits h where h.user_id = v_user));
  exception when others then
    raise warning 'support context without habits: %', sqlstate;
  end;
  begin
    v := v || jsonb_build_object('reflexesCount', (select count(*) from public.reflexes r where r.user_id = v_user and r.is_active));
  exception when others then
    raise warning 'support context without reflexes: %', sqlstate;
  end;
  begin
    v := v || jsonb_build_object('recentActivity', private.recent_activity());
  exception when others then
    raise warning 'support context without activity: %', sqlstate;
  end;
  begin
    v := v || coalesce((
      select jsonb_build_object('userName', n.name) from public.users u, lateral (select private.clean_name(u.first_name || ' ' || u.last_name, 100)) n (name)
      where u.id = v_user and n.name <> ''), '{}');
  exception when others then
    raise warning 'support context without the name: %', sqlstate;
  end;
  return v;
end
$$;
comment on function private.support_context is 'SupportContext of the caller, under their own policies.';

create or replace function private.support_message_json(m public.support_messages) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', m.id, 'role', m.role, 'content', m.content, 'timestamp', private.iso(m.created_at));
comment on function private.support_message_json is 'SupportMessage.';

-- A conversation that is over is not there any more, also before the job deletes it.
create or replace function private.own_support_conversation(p_id text) returns uuid
language sql stable
as $$
  select c.id from public.support_conversations c where c.id = private.as_uuid(p_id) and c.user_id = private.user_id() and c.expires_at > now()
$$;
comment on function private.own_support_conversation is 'The id, where it is a conversation of the caller that goes on, else null.';

create or replace function private.path_support_conversation(p jsonb) returns uuid
language plpgsql stable
as $$
declare
  v_id uuid := private.own_support_conversation(p ->> 'conversationId');
begin
  if v_id is null then
    perform private.refuse(404, 'NOT_FOUND', 'There is no such conversation. It ends 30 minutes after its last message.');
  end if;
  return v_id;
end
$$;
comment on function private.path_support_conversation is 'The conversation that the path names, or 404 NOT_FOUND.';

create or replace function private.delete_support_conversation(p_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.support_conversations c where c.id = p_id and c.user_id = private.user_id();
end
$$;
comment on function private.delete_support_conversation is 'Deletes a conversation with its messages. Authorization: the caller''s own.';
grant execute on function private.ago, private.recent_activity, private.support_context, private.support_message_json, private.own_support_conversation,
  private.path_support_conversation, private.delete_support_conversation to authenticated;

-- Stores a question with its answer. Nothing is stored when a model call fails: the client shows the error and keeps the question. A
-- conversation that has ended meanwhile, or was deleted, begins again under a new id. Only the newest 200 messages stay.
create or replace function private.keep_support_turn(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user constant uuid := private.as_uuid(p ->> 'userId');
  v_id uuid;
  v_reply public.support_messages;
begin
  update public.support_conversations c set expires_at = clock_timestamp() + interval '30 minutes'
  where c.id = private.as_uuid(p ->> 'conversationId') and c.user_id = v_user and c.expires_at > clock_timestamp()
  returning c.id into v_id;
  if v_id is null then
    insert into public.support_conversations (user_id, expires_at) values (v_user, clock_timestamp() + interval '30 minutes') returning id into v_id;
  end if;
  insert into public.support_messages (conversation_id, user_id, role, content) values (v_id, v_user, 'user', p ->> 'question');
  insert into public.support_messages (conversation_id, user_id, role, content) values (v_id, v_user, 'assistant', p ->> 'answer') returning * into v_reply;
  delete from public.support_messages m where m.conversation_id = v_id
    and m.seq <= (select x.seq from public.support_messages x where x.conversation_id = v_id order by x.seq desc offset 200 limit 1);
  return jsonb_build_object('conversationId', v_id, 'reply', private.support_message_json(v_reply));
end
$$;
comment on function private.keep_support_turn is
  '{userId, conversationId?, question, answer}: stores both and answers {conversationId, reply}. Authorization: callable by the server only, for the caller of a request.';
grant execute on function private.keep_support_turn to kijko_server;
