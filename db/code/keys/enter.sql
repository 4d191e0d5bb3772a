-- Admits requests with an API key, as private.enter admits those with a session. The key is found by its digest, in the transaction of the
-- call, so that a revoked key and a deactivated member are refused at the next call. It writes nothing; the process counts the uses
-- (uses.sql).

create or replace function private.enter_key(p_hash bytea, p_needs text, p_request_id text, p_client_ip text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  if session_user in ('anon', 'authenticated') then
    perform private.refuse(403, 'FORBIDDEN', 'Only the server may do this.');
  end if;
  select k.id, k.user_id, k.organization_id, k.scope, k.expires_at, m.role, m.status, m.is_guarded into v
  from public.api_keys k
  left join public.memberships m on m.organization_id = k.organization_id and m.user_id = k.user_id
  where k.key_hash = p_hash and k.revoked_at is null;
  if not found then
    perform private.refuse(401, 'API_KEY_INVALID', 'This API key does not exist or was revoked.');
  elsif v.expires_at <= now() then
    perform private.refuse(401, 'API_KEY_EXPIRED', 'This API key has expired. Please create another one.');
  elsif v.status is distinct from 'active' then
    perform private.refuse(403, 'MEMBERSHIP_INACTIVE', 'Your membership is not active at the moment. Please ask an administrator of your organization.');
  elsif p_needs = 'never' then
    perform private.refuse(403, 'API_KEY_NOT_ALLOWED', 'This cannot be done with an API key. Please sign in.');
  elsif private.scope_rank(v.scope) < private.scope_rank(p_needs) then
    perform private.refuse_scope(p_needs, v.scope);
  end if;
  if v.is_guarded then
    perform private.enter_guarded_key(v.organization_id, v.role, p_client_ip, v.id);
  end if;
  perform
    set_config('app.user_id', v.user_id::text, true),
    set_config('app.org_id', v.organization_id::text, true),
    set_config('app.org_role', v.role, true),
    -- Actions of a key are in the trail under the id of the key; it is no id of a session.
    set_config('app.session_id', v.id::text, true),
    set_config('app.api_key_id', v.id::text, true),
    set_config('app.api_key_scope', v.scope, true),
    set_config('app.request_id', p_request_id, true),
    set_config('app.client_ip', p_client_ip, true),
    set_config('app.wakes', 'on', true),
    set_config('request.jwt.claims', '', true);
end
$$;
comment on function private.enter_key is
  'Checks an API key by its SHA-256, its member and what the operation needs (read, write, admin, never), and makes the caller known to the transaction. Authorization: callable by the server only. Errors: 401 API_KEY_INVALID, 401 API_KEY_EXPIRED, 403 MEMBERSHIP_INACTIVE, 403 API_KEY_NOT_ALLOWED, 403 INSUFFICIENT_SCOPE, 403 IP_NOT_ALLOWED.';
grant execute on function private.enter_key to kijko_server;

-- A socket that was opened with a key is checked again and again as long as it is open, by the key's id instead of a session id.
create or replace function private.enter_key_again(p_user_id uuid, p_key_id uuid, p_request_id text, p_client_ip text) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_hash bytea;
begin
  select k.key_hash into v_hash
  from public.api_keys k
  join public.memberships m on m.organization_id = k.organization_id and m.user_id = k.user_id and m.status = 'active'
  where k.id = p_key_id and k.user_id = p_user_id and k.revoked_at is null and (k.expires_at > now() or k.expires_at is null);
  if v_hash is null then
    return false;
  end if;
  perform private.enter_key(v_hash, 'read', p_request_id, p_client_ip);
  return true;
end
$$;
comment on function private.enter_key_again is
  'private.enter_key for a key that was checked before; false where it is none, or ended. Authorization: callable by definer functions of ours only.';

-- First use of a key in a process: returns its owner, which never changes. Its rights are checked at each request.
create or replace function private.find_key(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_build_object('id', k.id, 'userId', k.user_id, 'organizationId', k.organization_id, 'scope', k.scope,
      'expiresAt', extract(epoch from k.expires_at))
    from public.api_keys k
    where k.key_hash = decode(p ->> 'keyHash', 'hex') and k.revoked_at is null
  );
end
$$;
comment on function private.find_key is 'Who a key acts as, by its SHA-256 (hexadecimal), or null. Authorization: callable by the server only.';
grant execute on function private.find_key to kijko_server;
