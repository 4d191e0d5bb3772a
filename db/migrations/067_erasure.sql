-- Erasure of a person's data: what stays of an account, and the proof that it was erased.

-- In the place of the account, for 30 days. The digests of its names at identity providers refuse tokens that were issued before the erasure.
create table private.tombstones (
  user_id uuid primary key,
  erased_at timestamptz not null default clock_timestamp(),
  identities bytea[] not null default '{}'
);
alter table private.tombstones enable row level security;
alter table private.tombstones force row level security;
create index tombstones_erased_at_idx on private.tombstones (erased_at);
create index tombstones_identities_idx on private.tombstones using gin (identities);
comment on table private.tombstones is 'Accounts that were erased in the last 30 days: their ids and the digests of their identities.';

-- The proof: no id, no address, no name. A person who names their former id can be told that it was erased.
create table private.erasures (
  id uuid primary key default gen_random_uuid(),
  person_digest bytea not null,
  erased_at timestamptz not null default clock_timestamp(),
  tables jsonb not null,
  kept_until date not null,
  constraint erasures_person_digest_check check (octet_length(person_digest) = 32)
);
alter table private.erasures enable row level security;
alter table private.erasures force row level security;
create index erasures_person_digest_idx on private.erasures (person_digest);
create index erasures_kept_until_idx on private.erasures (kept_until);
comment on table private.erasures is 'Log of erasures, for seven years: SHA-256 of the person''s id, how many rows went and were changed in each table.';

-- The confirmation of an erasure has no account to belong to. It is deleted when it was sent.
alter table private.mails alter column user_id drop not null,
  add constraint mails_user_id_check check (user_id is not null or kind = 'account_erased');

insert into private.schedules (name, every) values ('erasures.prune', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name = 'erasures.prune';
delete from private.mails where user_id is null;
alter table private.mails alter column user_id set not null, drop constraint mails_user_id_check;
drop table private.erasures, private.tombstones;
