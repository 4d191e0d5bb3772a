-- Keycloak's name for a session is that of the browser's session: it comes back after a sign-out. So one name may have several rows here, one
-- after the other; at most one of them lives.
alter table private.sessions
  -- The newest moment at which the issuer says that its person signed in (claim auth_time); null where no token said so.
  add column authenticated_at timestamptz,
  -- What sort of issuer has the session, for ending it there: keycloak, supabase; null for sessions of our own.
  add column provider text,
  add constraint sessions_provider_check check (provider in ('keycloak', 'supabase'));
update private.sessions set provider = 'keycloak' where issuer like '%/realms/%' and revoked_at is null;

drop index private.sessions_issuer_external_key_key;
create unique index sessions_issuer_external_key_key on private.sessions (issuer, external_key) where external_key is not null and revoked_at is null;
create index sessions_issuer_external_key_revoked_at_idx on private.sessions (issuer, external_key, revoked_at desc) where external_key is not null;

---- create above / drop below ----

drop index private.sessions_issuer_external_key_key, private.sessions_issuer_external_key_revoked_at_idx;
delete from private.sessions s where s.external_key is not null and exists (select from private.sessions n
  where n.issuer = s.issuer and n.external_key = s.external_key and (n.created_at, n.id) > (s.created_at, s.id));
create unique index sessions_issuer_external_key_key on private.sessions (issuer, external_key) where external_key is not null;
alter table private.sessions drop column authenticated_at, drop column provider;
