-- A member sees their own keys in the organization they act in, and never the digest. Only functions create and revoke keys. A request with
-- a key sees no keys.
grant select (id, organization_id, user_id, name, environment, prefix, scopes, scope, expires_at, usage_count, last_used_at, revoked_at,
  revoked_reason, created_at) on public.api_keys to authenticated;
create policy select_own on public.api_keys for select to authenticated
  using (organization_id = (select private.org_id()) and user_id = (select private.user_id()) and not (select private.is_key_request()));
