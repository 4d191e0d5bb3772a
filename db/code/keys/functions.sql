-- API keys (contract 40, 6.3). The key itself is shown once, in the answer that created it. The database has its SHA-256 and its first 20
-- characters.

create or replace function private.is_key_request() returns boolean
language sql stable parallel safe
return coalesce(current_setting('app.api_key_id', true), '') <> '';
comment on function private.is_key_request is 'Did this request come with an API key instead of a session?';
grant execute on function private.is_key_request to authenticated;

create or replace function private.refuse_keys() returns void
language plpgsql stable parallel safe
as $$
begin
  if private.is_key_request() then
    perform private.refuse(403, 'API_KEY_NOT_ALLOWED', 'This cannot be done with an API key. Please sign in.');
  end if;
end
$$;
comment on function private.refuse_keys is '403 API_KEY_NOT_ALLOWED for requests that come with an API key; said by what is never open to them, beside the gate of the edge.';
grant execute on function private.refuse_keys to authenticated;

create or replace function private.scope_rank(p_scope text) returns integer
language sql immutable parallel safe
return case p_scope when 'read' then 1 when 'write' then 2 when 'admin' then 3 else 4 end;
comment on function private.scope_rank is 'Scopes of keys in order; what is no scope (never) is above all.';

-- Functions and policies check this beside the role: a key has the rights of the role within its scope. A session has every scope.
create or replace function private.has_scope(p_scope text) returns boolean
language sql stable parallel safe
return coalesce(current_setting('app.api_key_id', true), '') = ''
  or private.scope_rank(current_setting('app.api_key_scope', true)) between private.scope_rank(p_scope) and 3;
comment on function private.has_scope is 'Does the credential of this request reach so far (read, write, admin)?';

create or replace function private.require_scope(p_scope text) returns void
language plpgsql stable parallel safe
as $$
begin
  if not private.has_scope(p_scope) then
    perform private.refuse_scope(p_scope, current_setting('app.api_key_scope', true));
  end if;
end
$$;
comment on function private.require_scope is '403 INSUFFICIENT_SCOPE unless the credential of this request reaches so far.';

create or replace function private.refuse_scope(p_required text, p_scope text) returns void
language plpgsql stable parallel safe
as $$
begin
  perform private.refuse(403, 'INSUFFICIENT_SCOPE', format('This API key has scope %s, and this needs scope %s.', p_scope, p_required), null,
    jsonb_build_object('required', p_required, 'scope', p_scope));
end
$$;
comment on function private.refuse_scope is '403 INSUFFICIENT_SCOPE with what is there and what is needed.';
grant execute on function private.scope_rank, private.has_scope, private.require_scope, private.refuse_scope to authenticated;

-- 24 bytes of a digest of 244 random bits: the two ids are drawn from the system's generator, which alone would need an extension.
create or replace function private.draw_api_key(p_environment text) returns text
language sql volatile
return 'kijko_' || p_environment || '_'
  || encode(substring(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) from 1 for 24), 'hex');
comment on function private.draw_api_key is 'A new key: kijko_live_ or kijko_test_ and 48 hexadecimal digits.';

create or replace function private.scopes_of(p_value jsonb) returns text[]
language plpgsql stable
as $$
declare
  v_given text[];
begin
  if p_value is null or jsonb_typeof(p_value) <> 'array' or jsonb_array_length(p_value) = 0 then
    perform private.refuse_field('scopes', 'Choose at least one of the scopes read, write and admin.');
  end if;
  v_given := array(select jsonb_array_elements_text(p_value));
  if not v_given <@ array['read', 'write', 'admin'] or array_position(v_given, null) is not null then
    perform private.refuse_field('scopes', 'Scopes are read, write and admin.');
  end if;
  return array(select s from unnest(array['read', 'write', 'admin']) s where s = any (v_given));
end
$$;
comment on function private.scopes_of is 'The scopes of a request, each once and in order, or 400 VALIDATION_ERROR.';

create or replace function private.expiry_of(b jsonb) returns timestamptz
language plpgsql stable
as $$
declare
  v_days integer;
begin
  if coalesce(b ->> 'expiration', '') not in ('never', '30', '60', '90', 'custom') or jsonb_typeof(b -> 'expiration') <> 'string' then
    perform private.refuse_field('expiration', 'Expiration must be one of never, 30, 60, 90, custom.');
  elsif b ->> 'expiration' = 'never' then
    return null;
  elsif b ->> 'expiration' <> 'custom' then
    v_days := (b ->> 'expiration')::integer;
  else
    v_days := private.as_int(b -> 'customExpirationDays', 'customExpirationDays');
    if coalesce(v_days, 0) not between 1 and 365 then
      perform private.refuse_field('customExpirationDays', 'Please say after how many days the key expires, 1 to 365.');
    end if;
  end if;
  return now() + make_interval(days => v_days);
end
$$;
comment on function private.expiry_of is 'When the key of a request expires, null for never, or 400 VALIDATION_ERROR.';

-- p.keyHash (hexadecimal) and p.keyPrefix come from the server where it must be able to repeat the answer (Idempotency-Key) without storing the
-- key; in all other cases the key is drawn here.
create or replace function private.add_api_key(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_most constant integer := 25;
  b jsonb := private.as_object(p -> 'body', 'body');
  v_name text := private.without_blanks(b ->> 'name');
  v_environment text := coalesce(b ->> 'environment', 'live');
  v_scopes text[];
  v_expires_at timestamptz;
  v_key text;
  k public.api_keys;
begin
  perform private.refuse_keys();
  if private.org_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  elsif coalesce(char_length(v_name), 0) not between 3 and 100 or jsonb_typeof(b -> 'name') <> 'string' then
    perform private.refuse_field('name', 'The name must have 3 to 100 characters.');
  elsif v_name ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]' or private.has_format_characters(v_name) then
    perform private.refuse_field('name', 'The name must not contain control or invisible formatting characters.');
  end if;
  v_expires_at := private.expiry_of(b);
  v_scopes := private.scopes_of(b -> 'scopes');
  if v_environment not in ('live', 'test') then
    perform private.refuse_field('environment', 'Environment must be one of live, test.');
  end if;

  -- Creations of one member's keys are serialized, so that the limit holds.
  perform from public.memberships m where m.organization_id = private.org_id() and m.user_id = private.user_id() for no key update;
  if (select count(*) from public.api_keys x
    where x.organization_id = private.org_id() and x.user_id = private.user_id() and x.revoked_at is null) >= c_most
  then
    perform private.refuse(409, 'TOO_MANY_API_KEYS', format('You have %s API keys in this organization. Revoke one first.', c_most), null,
      jsonb_build_object('limit', c_most));
  end if;
  if p ? 'keyHash' and not private.is_stranger() then
    insert into public.api_keys (organization_id, user_id, name, environment, prefix, key_hash, scopes, expires_at)
    values (private.org_id(), private.user_id(), v_name, v_environment, p ->> 'keyPrefix', decode(p ->> 'keyHash', 'hex'), v_scopes, v_expires_at)
    returning * into k;
  else
    v_key := private.draw_api_key(v_environment);
    insert into public.api_keys (organization_id, user_id, name, environment, prefix, key_hash, scopes, expires_at)
    values (private.org_id(), private.user_id(), v_name, v_environment, left(v_key, 20), sha256(convert_to(v_key, 'UTF8')), v_scopes, v_expires_at)
    returning * into k;
  end if;
  perform private.audit('security.api_key_created', format('API key "%s" was created.', k.name),
    jsonb_build_object('keyName', k.name, 'scopes', to_jsonb(k.scopes)));
  return jsonb_strip_nulls(jsonb_build_object('id', k.id, 'name', k.name, 'key', v_key, 'sealedKey', p -> 'sealedKey', 'keyPrefix', k.prefix,
    'scopes', to_jsonb(k.scopes), 'expiresAt', private.iso(k.expires_at)));
end
$$;
comment on function private.add_api_key is
  'Makes an API key of the caller. Authorization: only the caller''s own user and organization, and no caller who comes with a key. Errors: 400 VALIDATION_ERROR, 403 API_KEY_NOT_ALLOWED, 409 TOO_MANY_API_KEYS.';

create or replace function private.end_api_key(p_id uuid, p_reason text) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  k public.api_keys;
begin
  update public.api_keys x set revoked_at = now(), revoked_reason = p_reason where x.id = p_id and x.revoked_at is null returning * into k;
  if not found then
    return false;
  end if;
  perform private.audit('security.api_key_revoked', format('API key "%s" was revoked.', k.name),
    jsonb_build_object('keyName', k.name, 'scopes', to_jsonb(k.scopes)), null, k.organization_id, coalesce(private.user_id(), k.user_id));
  return true;
end
$$;
comment on function private.end_api_key is 'Revokes a key now; false when it had been. Authorization: callable by definer functions of ours only.';

create or replace function private.revoke_own_key(p_id uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.refuse_keys();
  return exists (select from public.api_keys k where k.id = p_id and k.user_id = private.user_id() and k.organization_id = private.org_id())
    and private.end_api_key(p_id, 'revoked');
end
$$;
comment on function private.revoke_own_key is
  'Revokes a key of the caller; false where there is none that lives. Authorization: only the caller''s own keys in the organization they act in.';
grant execute on function private.add_api_key, private.revoke_own_key to authenticated;
