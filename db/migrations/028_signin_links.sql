-- What proves an address: links in mails, and sign-in at an identity provider. Of each secret only the hash is here.

-- The link of a mail, for one use. It belongs to the address that it went to: where the account has another one meanwhile, it opens nothing,
-- except that verify_email is how the account gets its new address.
create table private.account_tokens (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  purpose text not null,
  email text not null,
  token_hash bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  used_at timestamptz,
  constraint account_tokens_purpose_check check (purpose in ('verify_email', 'reset_password', 'magic_link')),
  constraint account_tokens_token_hash_check check (octet_length(token_hash) = 32)
);
alter table private.account_tokens enable row level security;
alter table private.account_tokens force row level security;
create unique index account_tokens_token_hash_key on private.account_tokens (token_hash);
create index account_tokens_user_id_idx on private.account_tokens (user_id, purpose, created_at desc);
create index account_tokens_expires_at_idx on private.account_tokens (expires_at);
comment on table private.account_tokens is 'SHA-256 of the tokens in mailed links (256 random bits); used once.';

-- A sign-in under way at an identity provider. The PKCE verifier is derived from the state and a key of the server, so it is nowhere.
create table private.oauth_states (
  state_hash bytea primary key,
  provider text not null,
  redirect_uri text not null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  used_at timestamptz,
  constraint oauth_states_state_hash_check check (octet_length(state_hash) = 32),
  constraint oauth_states_provider_check check (provider in ('google', 'github')),
  constraint oauth_states_redirect_uri_check check (char_length(redirect_uri) between 1 and 2000)
);
alter table private.oauth_states enable row level security;
alter table private.oauth_states force row level security;
create index oauth_states_expires_at_idx on private.oauth_states (expires_at);
comment on table private.oauth_states is 'SHA-256 of the state of sign-ins at a provider, with what they began with; used once.';

-- A session of ours that began at a provider: what it is called there, for ending it there too. Several of ours may share one of theirs.
alter table private.sessions
  add column provider_issuer text,
  add column provider_key text,
  add constraint sessions_provider_key_check check ((provider_issuer is null) = (provider_key is null));
create index sessions_provider_key_idx on private.sessions (provider_issuer, provider_key) where provider_key is not null;

-- The body of a message with a token is removed when it was sent. Kinds are words of the features that write messages.
alter table private.mails
  add column holds_token boolean not null default false,
  drop constraint mails_kind_check,
  add constraint mails_kind_check check (kind ~ '^[a-z][a-z_]{0,49}$');

drop function if exists private.record_failed_login(text, text);

---- create above / drop below ----

drop function if exists private.record_failed_login(text, text, text);
delete from private.mails where kind not in ('ingestion_result', 'notification', 'digest', 'weekly_summary');
alter table private.mails
  drop column holds_token,
  drop constraint mails_kind_check,
  add constraint mails_kind_check check (kind in ('ingestion_result', 'notification', 'digest', 'weekly_summary'));
alter table private.sessions drop column provider_issuer, drop column provider_key;
drop table private.oauth_states, private.account_tokens;
