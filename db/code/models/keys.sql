-- An organization's own keys at the model providers: its owner and admins set and delete them, and no caller ever sees one again. Calls of
-- the organization then use its key; calls of other organizations never do.

create or replace function private.assert_provider_keys_admin() returns uuid
language plpgsql stable
as $$
begin
  if private.user_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  elsif not private.is_org_admin() then
    perform private.refuse(403, 'FORBIDDEN', 'Only owners and admins of the organization manage its provider keys.', null,
      '{"required": ["owner", "admin"]}');
  end if;
  return private.org_id();
end
$$;
comment on function private.assert_provider_keys_admin is 'The caller''s organization, or 403 FORBIDDEN where they are neither its owner nor an admin.';

create or replace function private.provider_key_json(k private.provider_keys) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('provider', k.provider, 'lastFour', k.last_four, 'setBy', k.set_by,
  'createdAt', private.iso(k.created_at), 'updatedAt', private.iso(k.updated_at)));
comment on function private.provider_key_json is 'What is shown of a key.';

create or replace function private.provider_keys_json() returns jsonb
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v_org uuid := private.assert_provider_keys_admin();
begin
  return coalesce((select jsonb_agg(private.provider_key_json(k) order by k.provider) from private.provider_keys k
    where k.organization_id = v_org), '[]');
end
$$;
comment on function private.provider_keys_json is 'The keys of the caller''s organization without the keys themselves. Authorization: owners and admins of it only.';

create or replace function private.set_provider_key(p_provider text, p_sealed text, p_last_four text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid;
  v private.provider_keys;
begin
  perform private.refuse_strangers('A key is set through the API, which encrypts it.');
  v_org := private.assert_provider_keys_admin();
  if coalesce(p_provider, '') not in ('anthropic', 'google') then
    perform private.refuse(404, 'NOT_FOUND', 'Keys are kept for anthropic and google.', 'provider');
  end if;
  if p_sealed is null or p_sealed not like 'v1.%' or char_length(p_sealed) > 2000 or coalesce(char_length(p_last_four), 0) <> 4 then
    perform private.refuse_field('key', 'A key is set through the server, which encrypts it.');
  end if;
  insert into private.provider_keys as k (organization_id, provider, sealed_key, last_four, set_by)
  values (v_org, p_provider, p_sealed, p_last_four, private.user_id())
  on conflict (organization_id, provider) do update
    set sealed_key = excluded.sealed_key, last_four = excluded.last_four, set_by = excluded.set_by, updated_at = clock_timestamp()
  returning * into v;
  perform private.audit('integration.connected', format('Set the organization''s key at %s.', initcap(p_provider)),
    jsonb_build_object('provider', p_provider, 'lastFour', p_last_four));
  return private.provider_key_json(v);
end
$$;
comment on function private.set_provider_key is
  'Stores a sealed key of the caller''s organization, replacing an earlier one. Authorization: through our server only, which encrypts it; owners and admins of it. Errors: 403 FORBIDDEN, 404 NOT_FOUND, 400 VALIDATION_ERROR.';

create or replace function private.delete_provider_key(p_provider text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_provider_keys_admin();
begin
  delete from private.provider_keys k where k.organization_id = v_org and k.provider = p_provider;
  if not found then
    perform private.refuse(404, 'NOT_FOUND', 'Your organization has no key at this provider.', 'provider');
  end if;
  perform private.audit('integration.disconnected', format('Deleted the organization''s key at %s.', initcap(p_provider)),
    jsonb_build_object('provider', p_provider));
end
$$;
comment on function private.delete_provider_key is
  'Forgets a key of the caller''s organization. Authorization: owners and admins of it only. Errors: 403 FORBIDDEN, 404 NOT_FOUND.';

grant execute on function private.assert_provider_keys_admin, private.provider_keys_json, private.set_provider_key, private.delete_provider_key
  to authenticated;

create or replace function api.list_provider_keys(p jsonb) returns jsonb
language sql stable
as $$ select private.provider_keys_json() $$;
comment on function api.list_provider_keys is 'The organization''s keys: provider and last four characters. Errors: 403 FORBIDDEN.';

-- `sealed` and `lastFour` come from the server, which has encrypted the key of the request.
create or replace function api.set_provider_key(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.set_provider_key(p ->> 'provider', p ->> 'sealed', p ->> 'lastFour');
end
$$;
comment on function api.set_provider_key is 'Sets the organization''s key at a provider. Errors: 403 FORBIDDEN, 404 NOT_FOUND, 400 VALIDATION_ERROR, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function api.delete_provider_key(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  perform private.delete_provider_key(p ->> 'provider');
  return null;
end
$$;
comment on function api.delete_provider_key is 'Deletes the organization''s key at a provider. Errors: 403 FORBIDDEN, 404 NOT_FOUND.';

grant execute on function api.list_provider_keys, api.set_provider_key, api.delete_provider_key to authenticated;
