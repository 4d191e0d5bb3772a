-- Reading the audit trail, its saved filters and scheduled exports; what sessions and sign-ins were made with.

-- What a User-Agent says is parsed by the server where it is met, and stands in the transaction as app.device.
alter table private.sessions add column device jsonb default nullif(current_setting('app.device', true), '')::jsonb;
alter table private.login_history
  add column device jsonb default nullif(current_setting('app.device', true), '')::jsonb,
  drop constraint login_history_method_check,
  drop constraint login_history_status_check,
  add constraint login_history_method_check check (method in ('password', 'sso', '2fa', 'api_key', 'magic_link', 'signup')),
  add constraint login_history_status_check check (status in ('success', 'failed', 'blocked'));
drop function if exists private.device_json(text);

-- An entry whose actor was erased is told from one of the system.
alter table public.audit_log add column is_erased boolean not null default false;
-- One for each filter: newest first, as it is read.
create index audit_log_organization_id_event_type_idx on public.audit_log (organization_id, event_type, created_at desc, id desc);
create index audit_log_organization_id_event_category_idx on public.audit_log (organization_id, event_category, created_at desc, id desc);
create index audit_log_organization_id_user_id_idx on public.audit_log (organization_id, user_id, created_at desc, id desc);

-- Counting. Entries are cut, oldest first, into blocks of equal size once nothing older can appear any more; of each block it is kept how
-- many entries it has of each type, category and actor. Then a count is a sum over blocks and a look at what lies beside them.
create table private.audit_blocks (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  block integer not null,
  first_at timestamptz not null,
  first_id uuid not null,
  last_at timestamptz not null,
  last_id uuid not null,
  entries integer not null,
  primary key (organization_id, block),
  constraint audit_blocks_entries_check check (entries > 0)
);
alter table private.audit_blocks enable row level security;
alter table private.audit_blocks force row level security;
create index audit_blocks_organization_id_first_at_idx on private.audit_blocks (organization_id, first_at);
create index audit_blocks_organization_id_last_at_idx on private.audit_blocks (organization_id, last_at);
comment on table private.audit_blocks is 'Stretches of an organization''s audit trail that are complete, numbered from the oldest.';

create table private.audit_counts (
  organization_id uuid not null,
  -- Of this person, or of all and the system: the zero uuid.
  user_id uuid not null,
  -- An event type, a category, or empty for all of them.
  kind text not null,
  block integer not null,
  entries integer not null,
  -- In this block and all before it: the entries of a range of blocks are a difference.
  upto bigint not null,
  primary key (organization_id, user_id, kind, block) include (entries, upto),
  constraint audit_counts_block_fkey foreign key (organization_id, block) references private.audit_blocks (organization_id, block) on delete cascade
);
alter table private.audit_counts enable row level security;
alter table private.audit_counts force row level security;
create index audit_counts_organization_id_block_idx on private.audit_counts (organization_id, block);
comment on table private.audit_counts is 'How many entries of a block are of a person and a kind.';

-- Which organizations may have entries for another block: written now and then by who writes entries, so nobody waits for anybody.
create table private.audit_growth (
  organization_id uuid not null references public.organizations (id) on delete cascade
);
alter table private.audit_growth enable row level security;
alter table private.audit_growth force row level security;
create index audit_growth_organization_id_idx on private.audit_growth (organization_id);
comment on table private.audit_growth is 'Organizations whose audit trail grew.';

-- When every transaction older than marked_xid has ended, all entries older than marked_at are there to be seen.
create table private.audit_mark (
  is_only boolean primary key default true,
  marked_at timestamptz not null default clock_timestamp(),
  marked_xid xid8,
  settled_at timestamptz,
  constraint audit_mark_is_only_check check (is_only)
);
alter table private.audit_mark enable row level security;
alter table private.audit_mark force row level security;
comment on table private.audit_mark is 'Up to which moment the audit trail is complete, whatever transactions are open.';
insert into private.audit_mark default values;

create table public.audit_filters (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references public.users (id) on delete cascade,
  name text not null,
  filters jsonb not null,
  is_shared boolean not null default false,
  created_at timestamptz not null default clock_timestamp()
);
alter table public.audit_filters enable row level security;
alter table public.audit_filters force row level security;
create index audit_filters_organization_id_idx on public.audit_filters (organization_id, created_at);
create index audit_filters_user_id_idx on public.audit_filters (user_id);
comment on table public.audit_filters is 'Saved filters of the audit trail; shared ones are for all who may read it.';

create function private.assert_audit_filters_row(r public.audit_filters) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (char_length(r.name) between 1 and 100 and r.name = btrim(r.name)) then 'audit_filters_name_check'
    when not (jsonb_typeof(r.filters) = 'object' and octet_length(r.filters::text) <= 8192) then 'audit_filters_filters_check'
  end;
begin
  return v_rule is null or private.refuse_row('audit_filters', v_rule);
end
$$;
comment on function private.assert_audit_filters_row is 'The rules of a row of public.audit_filters, by name.';
alter table public.audit_filters add constraint audit_filters_rules check (private.assert_audit_filters_row(audit_filters));

create table public.audit_schedules (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references public.users (id) on delete cascade,
  format text not null,
  filters jsonb not null,
  schedule text not null,
  next_run_at timestamptz not null,
  created_at timestamptz not null default clock_timestamp(),
  unique (organization_id, id)
);
alter table public.audit_schedules enable row level security;
alter table public.audit_schedules force row level security;
create index audit_schedules_organization_id_idx on public.audit_schedules (organization_id, created_at);
create index audit_schedules_user_id_idx on public.audit_schedules (user_id);
create index audit_schedules_next_run_at_idx on public.audit_schedules (next_run_at);
comment on table public.audit_schedules is 'Exports of the audit trail that come again and again, by mail to who made them.';

create function private.assert_audit_schedules_row(r public.audit_schedules) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when r.format not in ('csv', 'json', 'pdf') then 'audit_schedules_format_check'
    when r.schedule not in ('daily', 'weekly', 'monthly') then 'audit_schedules_schedule_check'
    when not (jsonb_typeof(r.filters) = 'object' and octet_length(r.filters::text) <= 8192) then 'audit_schedules_filters_check'
  end;
begin
  return v_rule is null or private.refuse_row('audit_schedules', v_rule);
end
$$;
comment on function private.assert_audit_schedules_row is 'The rules of a row of public.audit_schedules, by name.';
alter table public.audit_schedules add constraint audit_schedules_rules check (private.assert_audit_schedules_row(audit_schedules));

-- One row a run of a schedule, so that a run has one file and one mail, however often its job is begun.
create table private.audit_files (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  schedule_id uuid not null,
  run_at timestamptz not null,
  file_name text not null,
  -- Chosen before the content is written: of a worker that dies meanwhile nothing is left that nobody knows.
  storage_key text not null,
  -- SHA-256 of the token in the link; null until the file is complete and the mail queued.
  token_hash bytea,
  expires_at timestamptz not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint audit_files_schedule_fkey foreign key (organization_id, schedule_id)
    references public.audit_schedules (organization_id, id) on delete cascade,
  constraint audit_files_run_key unique (schedule_id, run_at),
  constraint audit_files_token_hash_check check (octet_length(token_hash) = 32)
);
alter table private.audit_files enable row level security;
alter table private.audit_files force row level security;
create index audit_files_organization_id_idx on private.audit_files (organization_id, schedule_id);
create index audit_files_expires_at_idx on private.audit_files (expires_at);
create index audit_files_storage_key_idx on private.audit_files (storage_key);
comment on table private.audit_files is 'Files of scheduled exports, for 24 hours.';

-- Kinds are ours and become more with each feature.
alter table private.mails
  drop constraint mails_kind_check,
  add constraint mails_kind_check check (kind ~ '^[a-z_]{1,40}$');

insert into private.schedules (name, every) values
  ('audit.count', interval '1 minute'), ('audit.export', interval '1 minute'), ('audit.prune', interval '1 day'), ('audit.prune_files', interval '10 minutes');

---- create above / drop below ----

delete from private.schedules where name in ('audit.count', 'audit.export', 'audit.prune', 'audit.prune_files');
delete from private.mails where kind not in ('ingestion_result', 'notification', 'digest', 'weekly_summary');
alter table private.mails
  drop constraint mails_kind_check,
  add constraint mails_kind_check check (kind in ('ingestion_result', 'notification', 'digest', 'weekly_summary'));
drop table private.audit_files, public.audit_schedules, public.audit_filters, private.audit_mark, private.audit_growth, private.audit_counts, private.audit_blocks cascade;
drop function if exists private.assert_audit_schedules_row cascade;
drop function if exists private.assert_audit_filters_row cascade;
drop index public.audit_log_organization_id_event_type_idx, public.audit_log_organization_id_event_category_idx, public.audit_log_organization_id_user_id_idx;
alter table public.audit_log drop column is_erased;
delete from private.login_history where method in ('2fa', 'api_key') or status = 'blocked';
alter table private.login_history
  drop column device,
  drop constraint login_history_method_check,
  drop constraint login_history_status_check,
  add constraint login_history_method_check check (method in ('password', 'sso', 'magic_link', 'signup')),
  add constraint login_history_status_check check (status in ('success', 'failed'));
alter table private.sessions drop column device;
