-- Erasure of a person's data: what stays of an account, and the proof that it was erased.

-- In the place of the account, for 30 days. The digests of its names at identity providers refuse tokens that were issued before the erasure.
-- The customers at Stripe tell events that come late, whose payloads are not kept.
create table private.tombstones (
  user_id uuid primary key,
  erased_at timestamptz not null default clock_timestamp(),
  identities bytea[] not null default '{}',
  customers text[] not null default '{}'
);
alter table private.tombstones enable row level security;
alter table private.tombstones force row level security;
create index tombstones_erased_at_idx on private.tombstones (erased_at);
create index tombstones_identities_idx on private.tombstones using gin (identities);
create index tombstones_customers_idx on private.tombstones using gin (customers);
comment on table private.tombstones is 'Accounts that were erased in the last 30 days: their ids, the digests of their identities, their customers at Stripe.';

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

-- Invoices keep themselves (064_stripe.sql). What a VAT register answered about their customer is evidence for the tax on them.
create table private.vat_evidence (
  id uuid primary key default gen_random_uuid(),
  btw_number text not null,
  is_valid boolean not null,
  consultation_number text,
  registered_name text,
  registered_address text,
  verified_at timestamptz,
  kept_until date not null
);
alter table private.vat_evidence enable row level security;
alter table private.vat_evidence force row level security;
create index vat_evidence_kept_until_idx on private.vat_evidence (kept_until);
comment on table private.vat_evidence is 'Answers of VIES about customers that were erased and had invoices: kept for 7 years after the end of the year of the last one.';

-- The confirmation of an erasure has no account to belong to. It is deleted when it was sent.
alter table private.mails alter column user_id drop not null,
  add constraint mails_user_id_check check (user_id is not null or kind = 'account_erased');

---- create above / drop below ----

delete from private.mails where user_id is null;
alter table private.mails alter column user_id set not null, drop constraint mails_user_id_check;
drop table private.vat_evidence, private.erasures, private.tombstones;
