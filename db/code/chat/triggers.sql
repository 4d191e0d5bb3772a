-- What a chat says of its messages, and the limits of both.

-- Two requests of a person may begin chats at the same moment.
create or replace function private.tg_chat_sessions__limit() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('chats ' || new.organization_id || new.user_id, 0));
  if (select count(*) from public.chat_sessions s
      where s.organization_id = new.organization_id and s.user_id = new.user_id and s.default_of is null) >= 2000 then
    perform private.refuse(409, 'CHAT_LIMIT', 'You have 2,000 chats. Delete some before you begin another one.', null, '{"limit": 2000}');
  end if;
  return new;
end
$$;
comment on function private.tg_chat_sessions__limit is 'Trigger: at most 2,000 chats of a person. Errors: 409 CHAT_LIMIT.';
create or replace trigger _200_limit before insert on public.chat_sessions
  for each row when (new.default_of is null) execute function private.tg_chat_sessions__limit();

create or replace function private.assert_chat_room(s public.chat_sessions, p_messages bigint, p_bytes bigint) returns void
language plpgsql stable
as $$
begin
  -- The whole chat is one answer of GET /chats/{chatId}, so its size has a limit too.
  if s.message_count + p_messages > 5000 or s.bytes + p_bytes > 20000000 then
    perform private.refuse(409, 'CHAT_LIMIT', 'This chat is full: it has 5,000 messages, or 20 MB of text. Begin a new one.', null,
      '{"limit": 5000, "limitBytes": 20000000}');
  end if;
end
$$;
comment on function private.assert_chat_room is 'Is there room for so many more messages? Errors: 409 CHAT_LIMIT.';

create or replace function private.tg_chat_messages__describe() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  s public.chat_sessions;
  v_asked text[];
begin
  for v in
    select a.organization_id, a.user_id, a.chat_id, count(*) as messages, sum(octet_length(a.content)) as bytes, min(a.seq) as first, max(a.created_at) as last_at,
      (array_agg(a.content order by a.seq desc))[1] as last, array_agg(a.content order by a.seq) filter (where a.role = 'user') as asked
    from added a group by 1, 2, 3
  loop
    select * into s from public.chat_sessions x
    where x.organization_id = v.organization_id and x.user_id = v.user_id and x.id = v.chat_id for no key update;
    perform private.assert_chat_room(s, v.messages, v.bytes);
    v_asked := coalesce(v.asked, '{}');
    update public.chat_sessions x
    set message_count = s.message_count + v.messages, bytes = s.bytes + v.bytes, preview = private.chat_preview(v.last), last_activity = v.last_at,
      title = case when s.title = 'New Chat' and v_asked <> '{}' and not exists (
          select from public.chat_messages m where m.organization_id = v.organization_id and m.user_id = v.user_id and m.chat_id = v.chat_id
            and m.role = 'user' and m.seq < v.first)
        then private.chat_title(v_asked[1]) else s.title end,
      used_contexts = private.chat_mentions(s.used_contexts, v_asked, '@(\S+)'),
      used_skills = private.chat_mentions(s.used_skills, v_asked, '/skill:(\S+)'), updated_at = private.chat_moment(s.updated_at)
    where x.organization_id = v.organization_id and x.user_id = v.user_id and x.id = v.chat_id;
  end loop;
  return null;
end
$$;
comment on function private.tg_chat_messages__describe is 'Trigger: count, preview, title, last activity and mentions of a chat. Errors: 409 CHAT_LIMIT.';
create or replace trigger _800_describe after insert on public.chat_messages referencing new table as added
  for each statement execute function private.tg_chat_messages__describe();

create or replace function private.tg_chat_attachments__count() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  if tg_op = 'INSERT' then
    for v in select a.organization_id, sum(a.size) as bytes from added a group by 1 loop
      perform private.move_storage(v.organization_id, v.bytes);
    end loop;
  else
    for v in select r.organization_id, sum(r.size) as bytes, array_agg(r.storage_key) as keys from removed r group by 1 loop
      perform private.move_storage(v.organization_id, -v.bytes);
      perform private.discard_blobs(v.keys);
    end loop;
  end if;
  return null;
end
$$;
comment on function private.tg_chat_attachments__count is 'Trigger: storage and content of attachments. Errors: 429 QUOTA_EXCEEDED.';
create or replace trigger _800_added after insert on public.chat_attachments referencing new table as added
  for each statement execute function private.tg_chat_attachments__count();
create or replace trigger _800_removed after delete on public.chat_attachments referencing old table as removed
  for each statement execute function private.tg_chat_attachments__count();
