-- The routes of API keys. None of them is open to a key.

create or replace function api.list_api_keys(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  perform private.refuse_keys();
  -- Read as the caller: the table's own policy limits the answer to the caller's keys.
  return (
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', k.id, 'name', k.name, 'keyPrefix', k.prefix, 'scopes', to_jsonb(k.scopes),
      'createdAt', private.iso(k.created_at), 'lastUsedAt', private.iso(k.last_used_at), 'usageCount', k.usage_count,
      'expiresAt', private.iso(k.expires_at), 'isExpired', coalesce(now() > k.expires_at, false))) order by k.created_at desc, k.id desc), '[]')
    from public.api_keys k
    where k.user_id = private.user_id() and k.organization_id = private.org_id() and k.revoked_at is null
  );
end
$$;
comment on function api.list_api_keys is 'GET /security/api-keys: ApiKey[] of the caller in this organization, revoked ones left out. Errors: 403 API_KEY_NOT_ALLOWED.';

create or replace function api.create_api_key(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.add_api_key(p);
end
$$;
comment on function api.create_api_key is
  'POST /security/api-keys: CreatedApiKeyResponse. Errors: 400 VALIDATION_ERROR, 403 API_KEY_NOT_ALLOWED, 409 TOO_MANY_API_KEYS.';

create or replace function api.revoke_api_key(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  if not private.revoke_own_key(private.as_uuid(p ->> 'keyId')) then
    perform private.refuse(404, 'API_KEY_NOT_FOUND', format('API key with ID %s not found', p ->> 'keyId'));
  end if;
  return null;
end
$$;
comment on function api.revoke_api_key is 'DELETE /security/api-keys/{keyId}. Errors: 403 API_KEY_NOT_ALLOWED, 404 API_KEY_NOT_FOUND.';
grant execute on function api.list_api_keys, api.create_api_key, api.revoke_api_key to authenticated;
