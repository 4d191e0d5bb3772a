-- Exports of a person's data (contract 50, 9.1 and 9.2): one row a request. The file lies in the storage for a day, the row for 90 days.
create table private.data_exports (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  -- Where it was asked for; that organization's trail and webhooks hear of the end.
  organization_id uuid references public.organizations (id) on delete set null,
  type text not null,
  categories text[] not null,
  status text not null default 'pending',
  requested_at timestamptz not null default clock_timestamp(),
  completed_at timestamptz,
  expires_at timestamptz,
  file_size bigint,
  -- Chosen before the content is written, so that the content of a worker that dies is deleted by its key.
  storage_key text,
  attempts smallint not null default 0,
  lease_owner uuid,
  -- Without an owner: when it may be tried again.
  lease_expires_at timestamptz,
  constraint data_exports_type_check check (type in ('full', 'selective')),
  constraint data_exports_categories_check check (
    cardinality(categories) between 1 and 5 and categories <@ array['profile', 'settings', 'activity', 'contexts', 'integrations']),
  constraint data_exports_status_check check (status in ('pending', 'processing', 'ready', 'expired', 'failed')),
  constraint data_exports_attempts_check check (attempts between 0 and 3),
  constraint data_exports_storage_key_check check (char_length(storage_key) between 16 and 500),
  constraint data_exports_lease_check check (status in ('pending', 'processing') or lease_owner is null and lease_expires_at is null),
  constraint data_exports_ready_check check (case status
    when 'ready' then completed_at is not null and expires_at is not null and file_size > 0 and storage_key is not null
    when 'processing' then completed_at is null
    when 'expired' then storage_key is null
    else completed_at is null and storage_key is null end)
);
alter table private.data_exports enable row level security;
alter table private.data_exports force row level security;
create unique index data_exports_one_unfinished_key on private.data_exports (user_id) where status in ('pending', 'processing');
create index data_exports_user_id_idx on private.data_exports (user_id, requested_at desc, id desc);
create index data_exports_organization_id_idx on private.data_exports (organization_id) where organization_id is not null;
create index data_exports_unfinished_idx on private.data_exports (lease_expires_at nulls first) where status in ('pending', 'processing');
create index data_exports_expires_at_idx on private.data_exports (expires_at) where status = 'ready';
create index data_exports_requested_at_idx on private.data_exports (requested_at);
create unique index data_exports_storage_key_key on private.data_exports (storage_key) where storage_key is not null;
comment on table private.data_exports is 'Requests of people for a file of their data. The file is stored for 24 hours, the row for 90 days.';

-- Signs the links to the files. Random for each database, and never sent to any process.
create table private.data_export_key (
  is_only boolean primary key default true,
  key bytea not null,
  constraint data_export_key_is_only_check check (is_only),
  constraint data_export_key_key_check check (octet_length(key) = 32)
);
alter table private.data_export_key enable row level security;
alter table private.data_export_key force row level security;
comment on table private.data_export_key is 'One row: the secret behind the links to files of exports.';
insert into private.data_export_key (key)
values (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

insert into private.schedules (name, every) values ('dataexports.sweep', interval '2 seconds');

---- create above / drop below ----

delete from private.schedules where name = 'dataexports.sweep';
drop table private.data_export_key, private.data_exports;
