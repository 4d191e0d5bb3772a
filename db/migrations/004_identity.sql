-- Identity: how people prove who they are. Passwords, identities at external issuers, refresh tokens, sign-in history and the
-- lock-out. All of it is private: no request role may read or write any of these tables, only the functions of db/code/identity do.

alter table public.users
  -- Set while the second factor is on; read by /auth/me and judged at sign-in.
  add column two_factor_enabled_at timestamptz;

alter table private.sessions
  -- Where a session goes on whose membership ended: its person moves to another organization at the next refresh, and all refreshes
  -- that run in parallel move to the same session.
  add column successor_id uuid references private.sessions (id) on delete set null;
create index sessions_successor_id_idx on private.sessions (successor_id) where successor_id is not null;

-- People without a row sign in elsewhere (Keycloak, Supabase) and have no password here.
create table private.credentials (
  user_id uuid primary key references public.users (id) on delete cascade,
  password_hash text not null,
  -- Did the password meet the default policy when it was chosen? The score asks; the hash cannot tell.
  meets_policy boolean not null,
  changed_at timestamptz not null default now(),
  constraint credentials_password_hash_check check (password_hash like '$argon2id$%' and char_length(password_hash) <= 512)
);
alter table private.credentials enable row level security;
alter table private.credentials force row level security;
comment on table private.credentials is 'Passwords as argon2id PHC strings, hashed outside the database: it never sees a password.';

-- An account at another issuer is the pair (issuer, subject). E-mail addresses change hands there; subjects do not.
create table private.identities (
  issuer text not null,
  subject text not null,
  user_id uuid not null references public.users (id) on delete cascade,
  created_at timestamptz not null default now(),
  primary key (issuer, subject),
  constraint identities_length_check check (char_length(issuer) between 1 and 2000 and char_length(subject) between 1 and 255)
);
alter table private.identities enable row level security;
alter table private.identities force row level security;
create index identities_user_id_idx on private.identities (user_id);
comment on table private.identities is 'Who somebody is at an external issuer.';

-- Rows stay after use: a token that turns up again after its grace was stolen, and only its row can tell.
create table private.refresh_tokens (
  token_hash bytea primary key,
  session_id uuid not null references private.sessions (id) on delete cascade,
  issued_at timestamptz not null default now(),
  expires_at timestamptz not null,
  -- The first use; each token counts its own.
  used_at timestamptz,
  constraint refresh_tokens_token_hash_check check (octet_length(token_hash) = 32)
);
alter table private.refresh_tokens enable row level security;
alter table private.refresh_tokens force row level security;
create index refresh_tokens_session_id_idx on private.refresh_tokens (session_id);
create index refresh_tokens_expires_at_idx on private.refresh_tokens (expires_at);
comment on table private.refresh_tokens is 'SHA-256 of refresh tokens; the tokens themselves (256 random bits) are stored nowhere.';

create table private.login_history (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  session_id uuid references private.sessions (id) on delete set null,
  method text not null,
  status text not null,
  reason text,
  client_ip text,
  user_agent text,
  created_at timestamptz not null default clock_timestamp(),
  constraint login_history_method_check check (method in ('password', 'sso', 'magic_link', 'signup')),
  constraint login_history_status_check check (status in ('success', 'failed')),
  constraint login_history_failed_has_reason check (status = 'success' or reason is not null)
);
alter table private.login_history enable row level security;
alter table private.login_history force row level security;
create index login_history_user_id_created_at_idx on private.login_history (user_id, created_at desc);
create index login_history_session_id_idx on private.login_history (session_id);
create index login_history_created_at_idx on private.login_history (created_at);
comment on table private.login_history is 'Sign-ins and failed attempts of people who exist.';

-- One row an e-mail address that was tried in vain, whether an account has it or not: so the lock tells nothing. The address is
-- stored as a digest, since strangers type addresses of people who never came here.
create table private.login_failures (
  email_digest bytea primary key,
  -- Failures of the last 15 minutes, oldest first; at most ten.
  failed_at timestamptz[] not null default '{}',
  locked_until timestamptz,
  -- Refusals while locked are recorded once a minute, so that an attacker cannot fill the history.
  recorded_at timestamptz,
  updated_at timestamptz not null default now(),
  constraint login_failures_email_digest_check check (octet_length(email_digest) = 32),
  constraint login_failures_failed_at_check check (cardinality(failed_at) <= 10)
) with (fillfactor = 70);
alter table private.login_failures enable row level security;
alter table private.login_failures force row level security;
create index login_failures_updated_at_idx on private.login_failures (updated_at);
comment on table private.login_failures is 'The lock-out of contract 40, 1.9; shared by all server processes.';

-- The answer to a sign-up, sign-in or refresh with an Idempotency-Key. It holds tokens, so it is sealed with a key made from the
-- Idempotency-Key, the request itself (which holds the password or the old token) and a key of the server. The digests are keyed
-- too, because a plain one of a request with a password would be a fast hash of that password.
create table private.sealed_answers (
  key_digest bytea primary key,
  request_digest bytea not null,
  -- What the refresh token of the answer was derived with, beside secrets that are not here.
  nonce bytea not null,
  -- Ids and names of the new session: no secrets. Null while the first request is at work.
  result jsonb,
  -- The whole answer, encrypted. Null until the first process has made it; of several the first one counts.
  sealed bytea,
  created_at timestamptz not null default now(),
  constraint sealed_answers_digest_check check (octet_length(key_digest) = 32 and octet_length(request_digest) = 32)
);
alter table private.sealed_answers enable row level security;
alter table private.sealed_answers force row level security;
create index sealed_answers_created_at_idx on private.sealed_answers (created_at);
comment on table private.sealed_answers is 'Encrypted answers of public sign-in routes, kept 24 hours.';

-- The signing key of a development installation, made by the first process that starts. Production brings its own by environment.
create table private.signing_keys (
  is_only boolean primary key default true,
  pem text not null,
  created_at timestamptz not null default now(),
  constraint signing_keys_is_only_check check (is_only)
);
alter table private.signing_keys enable row level security;
alter table private.signing_keys force row level security;
comment on table private.signing_keys is 'At most one row, and only in development.';

---- create above / drop below ----

drop table private.signing_keys, private.sealed_answers, private.login_failures, private.login_history, private.refresh_tokens,
  private.identities, private.credentials;
alter table private.sessions drop column successor_id;
alter table public.users drop column two_factor_enabled_at;
