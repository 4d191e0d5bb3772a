-- Chats of a person (contract 60, sections 7 and 8). They belong to their person and to the organization in which they were begun, because what
-- they hold comes from that organization's contexts. The person reads them only while they act in it.
create table public.chat_sessions (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references public.users (id) on delete cascade,
  -- Made by the client; of a default thread context:<id>, which no client can make.
  id text not null,
  -- The context that grounds the answers, once one was named.
  context_id uuid,
  -- This is the default thread of a context: not listed, and removed with it.
  default_of uuid,
  title text not null default 'New Chat',
  preview text not null default '',
  message_count integer not null default 0,
  used_contexts text[] not null default '{}',
  used_skills text[] not null default '{}',
  source_files jsonb not null default '[]',
  -- Of all messages.
  bytes bigint not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  last_activity timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  -- A client may give an older created_at. Retention counts from here.
  stored_at timestamptz not null default clock_timestamp(),
  constraint chat_sessions_pkey primary key (organization_id, user_id, id),
  constraint chat_sessions_context_id_fkey foreign key (context_id) references public.projects (id) on delete set null,
  constraint chat_sessions_default_of_fkey foreign key (default_of) references public.projects (id) on delete cascade
);
alter table public.chat_sessions enable row level security;
alter table public.chat_sessions force row level security;
create index chat_sessions_order_idx on public.chat_sessions (organization_id, user_id, last_activity desc, id);
create index chat_sessions_user_id_idx on public.chat_sessions (user_id);
create index chat_sessions_context_id_idx on public.chat_sessions (context_id) where context_id is not null;
create index chat_sessions_default_of_idx on public.chat_sessions (default_of) where default_of is not null;
create index chat_sessions_last_activity_idx on public.chat_sessions (last_activity);
comment on table public.chat_sessions is 'Chats of a person in an organization, and their default threads of contexts.';
comment on constraint chat_sessions_context_id_fkey on public.chat_sessions is
  'Across tenants: a guest asks about a context of another organization. Each question authorizes it again.';
comment on constraint chat_sessions_default_of_fkey on public.chat_sessions is
  'Across tenants: a guest asks about a context of another organization. Each question authorizes it again.';

create function private.assert_chat_sessions_row(r public.chat_sessions) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when r.id !~ '^(chat_[0-9a-z]{1,20}_[0-9a-z]{1,20}|(context:)?[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12})$'
      or (r.default_of is not null) <> (r.id like 'context:%') or r.default_of is not null and r.id <> 'context:' || r.default_of then 'chat_sessions_id_check'
    when r.default_of is not null and r.context_id is not null then 'chat_sessions_context_id_check'
    when char_length(r.title) not between 1 and 100 then 'chat_sessions_title_check'
    when char_length(r.preview) > 100 then 'chat_sessions_preview_check'
    when jsonb_typeof(r.source_files) <> 'array' or jsonb_array_length(r.source_files) > 2000 then 'chat_sessions_source_files_check'
  end;
begin
  return v_rule is null or private.refuse_row('chat_sessions', v_rule);
end
$$;
comment on function private.assert_chat_sessions_row is 'The rules of a row of public.chat_sessions, by name.';
alter table public.chat_sessions add constraint chat_sessions_rules check (private.assert_chat_sessions_row(chat_sessions));

create table public.chat_messages (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  user_id uuid not null,
  chat_id text not null,
  -- From 1, in the order in which they were stored.
  seq integer not null,
  role text not null,
  content text not null,
  -- Of an answer: the model that wrote it, its tokens, and the citations.
  model text,
  input_tokens bigint,
  output_tokens bigint,
  sources jsonb,
  -- The answer was cut: by its reader or by a failure.
  is_stopped boolean not null default false,
  created_at timestamptz not null default clock_timestamp(),
  constraint chat_messages_chat_id_fkey foreign key (organization_id, user_id, chat_id)
    references public.chat_sessions (organization_id, user_id, id) on delete cascade,
  constraint chat_messages_seq_key unique (organization_id, user_id, chat_id, seq),
  constraint chat_messages_organization_id_user_id_id_key unique (organization_id, user_id, id)
);
alter table public.chat_messages enable row level security;
alter table public.chat_messages force row level security;
-- An autosave finds each of its messages by this, among thousands.
create index chat_messages_match_idx on public.chat_messages (organization_id, user_id, chat_id, role, md5(content), seq);
comment on table public.chat_messages is 'Messages of chats: append-only.';

create function private.assert_chat_messages_row(r public.chat_messages) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when r.role not in ('user', 'model') then 'chat_messages_role_check'
    when char_length(r.content) > 200000 then 'chat_messages_content_check'
    when r.seq < 1 then 'chat_messages_seq_check'
  end;
begin
  return v_rule is null or private.refuse_row('chat_messages', v_rule);
end
$$;
comment on function private.assert_chat_messages_row is 'The rules of a row of public.chat_messages, by name.';
alter table public.chat_messages add constraint chat_messages_rules check (private.assert_chat_messages_row(chat_messages));

create table public.chat_attachments (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references public.users (id) on delete cascade,
  -- The message that it was sent with; null: not used yet.
  message_id uuid,
  name text not null,
  mime_type text not null,
  size bigint not null,
  -- A text is appended to the prompt, an image is shown to the model.
  is_image boolean not null,
  checksum text not null,
  storage_key text not null,
  storage_provider text not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint chat_attachments_message_id_fkey foreign key (organization_id, user_id, message_id)
    references public.chat_messages (organization_id, user_id, id) on delete cascade,
  constraint chat_attachments_storage_key_key unique (storage_key)
);
alter table public.chat_attachments enable row level security;
alter table public.chat_attachments force row level security;
create index chat_attachments_message_id_idx on public.chat_attachments (organization_id, user_id, message_id);
create index chat_attachments_user_id_idx on public.chat_attachments (user_id);
create index chat_attachments_unused_idx on public.chat_attachments (created_at) where message_id is null;
comment on table public.chat_attachments is 'Files that a person sends with a question. Their content is in the blob store.';

create function private.assert_chat_attachments_row(r public.chat_attachments) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when char_length(r.name) not between 1 and 255 then 'chat_attachments_name_check'
    when char_length(r.mime_type) not between 1 and 100 then 'chat_attachments_mime_type_check'
    when r.size not between 1 and 10485760 then 'chat_attachments_size_check'
  end;
begin
  return v_rule is null or private.refuse_row('chat_attachments', v_rule);
end
$$;
comment on function private.assert_chat_attachments_row is 'The rules of a row of public.chat_attachments, by name.';
alter table public.chat_attachments add constraint chat_attachments_rules check (private.assert_chat_attachments_row(chat_attachments));

-- A question for whose answer a process waits. Its unit of oracle_queries is taken, and goes back when nothing was stored: by the process, or by
-- the sweep when the process died. No foreign keys to the chat: it may be deleted meanwhile, and the unit still goes back.
create table private.chat_questions (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references public.users (id) on delete cascade,
  -- Null: a question without a thread.
  chat_id text,
  message_id uuid,
  -- Id that the answer will have.
  answer_id uuid not null default gen_random_uuid(),
  context_id uuid,
  question text not null,
  -- Null: no provider, the answer is extractive.
  answers text,
  called text,
  model text not null,
  is_fallback boolean not null default false,
  -- The day of the counter that the unit was taken from.
  day date not null,
  created_at timestamptz not null default clock_timestamp()
);
alter table private.chat_questions enable row level security;
alter table private.chat_questions force row level security;
create index chat_questions_organization_id_idx on private.chat_questions (organization_id, created_at);
create index chat_questions_user_id_idx on private.chat_questions (user_id);
create index chat_questions_created_at_idx on private.chat_questions (created_at);
comment on table private.chat_questions is 'Questions that are being answered.';

insert into private.schedules (name, every) values ('chats.prune', interval '5 minutes');

---- create above / drop below ----

delete from private.schedules where name = 'chats.prune';
drop table private.chat_questions, public.chat_attachments, public.chat_messages, public.chat_sessions;
drop function private.assert_chat_sessions_row, private.assert_chat_messages_row, private.assert_chat_attachments_row;
