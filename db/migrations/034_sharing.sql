-- Invitations to projects (contract 10, section 11): the secret half of a pending member. The row of project_members is what people see.
create table private.project_invitations (
  member_id uuid primary key references public.project_members (id) on delete cascade,
  -- SHA-256 of the token of the newest mail; older tokens are dead. An accepted invitation keeps it, so that its own person may repeat.
  token_hash bytea not null,
  -- What the sender wrote; it stands in mails only.
  message text,
  mail_id uuid references private.mails (id) on delete set null,
  sent_at timestamptz not null default clock_timestamp(),
  -- When it was sent again, within the last day.
  resent_at timestamptz[] not null default '{}',
  constraint project_invitations_token_hash_check check (octet_length(token_hash) = 32),
  constraint project_invitations_message_check check (char_length(message) between 1 and 1000),
  constraint project_invitations_resent_at_check check (cardinality(resent_at) <= 5)
);
alter table private.project_invitations enable row level security;
alter table private.project_invitations force row level security;
create unique index project_invitations_token_hash_key on private.project_invitations (token_hash);
create index project_invitations_mail_id_idx on private.project_invitations (mail_id) where mail_id is not null;
comment on table private.project_invitations is 'Token, message and sendings of an invitation to a project, one row a member who was invited by mail.';

-- Many are invited in one transaction, and are listed in the order in which they were.
alter table public.project_members
  alter column invited_at set default clock_timestamp(),
  alter column created_at set default clock_timestamp();

-- Kinds are named by our functions alone, and every feature adds some.
alter table private.mails
  drop constraint mails_kind_check,
  add constraint mails_kind_check check (kind ~ '^[a-z][a-z_]{0,39}$');
-- How often one address was written to: a limit that protects the addressee.
create index mails_to_address_created_at_idx on private.mails (to_address, created_at desc);

-- A page of one type, and the number of its entries, without passing those of the others.
create index project_activity_type_idx on public.project_activity (organization_id, project_id, type, created_at desc, id desc);

---- create above / drop below ----

drop index public.project_activity_type_idx;
drop index private.mails_to_address_created_at_idx;
delete from private.mails where kind not in ('ingestion_result', 'notification', 'digest', 'weekly_summary');
alter table private.mails
  drop constraint mails_kind_check,
  add constraint mails_kind_check check (kind in ('ingestion_result', 'notification', 'digest', 'weekly_summary'));
alter table public.project_members
  alter column invited_at set default now(),
  alter column created_at set default now();
drop table private.project_invitations;
