-- Mail goes out through an outbox: the transaction that wants to tell somebody writes the finished message here and enqueues
-- mail.send, so that neither can be without the other. What leaves is what stands here.

-- One address, which no header or SMTP command can be hidden in: no blank, control character, quote, comma or angle bracket.
create function private.is_mail_address(p_address text) returns boolean
language sql immutable parallel safe
return p_address ~ '^[^][@\s[:cntrl:]"(),:;<>\\]+@([^][@\s[:cntrl:]"(),:;<>\\.]+\.)+[^][@\s[:cntrl:]"(),:;<>\\.]+$'
  and char_length(p_address) <= 254;
comment on function private.is_mail_address is 'Is the text one plain mail address? RFC 5321 gives a path 256 characters, of which two are brackets.';

create table private.mails (
  -- Becomes the Message-ID, so that a repeat is recognised as one.
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  -- Who caused it; their limits count these rows.
  user_id uuid not null references public.users (id) on delete cascade,
  kind text not null,
  to_address text not null,
  subject text not null,
  body_text text not null,
  body_html text not null,
  attempts integer not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  sent_at timestamptz,
  constraint mails_kind_check check (kind in ('ingestion_result')),
  constraint mails_to_address_check check (private.is_mail_address(to_address)),
  constraint mails_subject_check check (char_length(subject) between 1 and 200 and subject !~ '[[:cntrl:]]'),
  constraint mails_bodies_check check (char_length(body_text) between 1 and 100000 and char_length(body_html) between 1 and 100000),
  constraint mails_attempts_check check (attempts >= 0)
);
alter table private.mails enable row level security;
alter table private.mails force row level security;
create index mails_organization_id_idx on private.mails (organization_id);
create index mails_user_id_kind_created_at_idx on private.mails (user_id, kind, created_at desc);
create index mails_created_at_idx on private.mails (created_at);
comment on table private.mails is 'Outbox: finished messages, sent by job mail.send, kept for 30 days after they were written.';

insert into private.schedules (name, every) values ('mails.prune', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name = 'mails.prune';
drop table private.mails;
drop function private.is_mail_address(text) cascade;
