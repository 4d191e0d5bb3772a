-- The support chat (contract 60, section 15). A conversation lasts 30 minutes after its last message. It is its person's alone, whatever the
-- organization, so its rows carry no organization.
create table public.support_conversations (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  constraint support_conversations_user_id_id_key unique (user_id, id)
);
alter table public.support_conversations enable row level security;
alter table public.support_conversations force row level security;
create index support_conversations_expires_at_idx on public.support_conversations (expires_at);
comment on table public.support_conversations is 'Conversations with the support assistant, each until expires_at.';

create table public.support_messages (
  id uuid primary key default gen_random_uuid(),
  conversation_id uuid not null,
  user_id uuid not null,
  -- The order of the conversation. Numbers of dropped messages are not used again.
  seq bigint generated always as identity,
  role text not null,
  content text not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint support_messages_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.support_conversations (user_id, id) on delete cascade,
  constraint support_messages_role_check check (role in ('user', 'assistant')),
  constraint support_messages_content_check check (char_length(content) between 1 and 100000)
);
alter table public.support_messages enable row level security;
alter table public.support_messages force row level security;
create index support_messages_conversation_id_seq_idx on public.support_messages (conversation_id, seq);
comment on table public.support_messages is 'What was said in a conversation with the support assistant.';

insert into private.schedules (name, every) values ('support.prune', interval '1 minute');

---- create above / drop below ----

delete from private.schedules where name = 'support.prune';
drop table public.support_messages, public.support_conversations;
