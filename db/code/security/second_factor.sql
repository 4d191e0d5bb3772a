-- The second factor: codes of an authenticator app (RFC 6238), or one of ten backup codes on paper. Only our server can compute codes: the
-- secret leaves the database sealed, the server reports the time step that matched, and the functions here, which strangers cannot call,
-- check everything else. A step and a backup code are used by a conditional update, so of two requests with one code one wins.

create or replace function private.two_factor_json(p_user_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_strip_nulls(jsonb_build_object('isEnabled', u.two_factor_enabled_at is not null, 'enabledAt', private.iso(u.two_factor_enabled_at),
      'backupCodesRemaining', case when u.two_factor_enabled_at is not null then
        (select count(*) from private.backup_codes c where c.user_id = u.id and c.used_at is null) end))
    from public.users u where u.id = p_user_id
  );
end
$$;
comment on function private.two_factor_json is 'TwoFactorStatus of a person. Authorization: callable by definer functions of ours only.';

create or replace function api.get_two_factor(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  if private.user_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  return private.two_factor_json(private.user_id());
end
$$;
comment on function api.get_two_factor is 'GET /security/2fa: TwoFactorStatus. Authorization: private.user_id() only. Errors: 401 UNAUTHENTICATED.';
grant execute on function api.get_two_factor to authenticated;

-- Values that only our server makes, and that a stranger could only invent.
create or replace function private.assert_second_factor_call() returns uuid
language plpgsql stable
as $$
begin
  perform private.refuse_strangers('The second factor is set up through the API, which computes its codes.');
  if private.user_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  return private.user_id();
end
$$;
comment on function private.assert_second_factor_call is 'The caller, or 403 FORBIDDEN for calls past our server, 401 UNAUTHENTICATED without a caller.';

-- ------------------------------------------------------------------------------------------------------------------------- setting it up

-- p: sealedSecret, made by the server.
create or replace function api.set_up_two_factor(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user_id uuid := private.assert_second_factor_call();
  v_user public.users;
begin
  select * into v_user from public.users u where u.id = v_user_id for no key update;
  if v_user.two_factor_enabled_at is not null then
    perform private.refuse(409, 'TWO_FACTOR_ALREADY_ENABLED', 'Two-factor authentication is already on.');
  elsif coalesce(p ->> 'sealedSecret', '') not like 'v1.%' or char_length(p ->> 'sealedSecret') > 500 then
    perform private.refuse_field('sealedSecret', 'A secret is made by the server.');
  end if;
  insert into private.second_factor_setups as s (user_id, sealed_secret, expires_at)
  values (v_user.id, p ->> 'sealedSecret', clock_timestamp() + interval '10 minutes')
  on conflict (user_id) do update set sealed_secret = excluded.sealed_secret, expires_at = excluded.expires_at, tries = 0;
  return jsonb_build_object('email', v_user.email, 'secret', p ->> 'sealedSecret');
end
$$;
comment on function api.set_up_two_factor is
  'POST /security/2fa/setup: the new secret, sealed, and the address of its account. Authorization: the caller''s own account, and no stranger. Errors: 409 TWO_FACTOR_ALREADY_ENABLED.';
grant execute on function api.set_up_two_factor to authenticated;

-- Before the server checks a code of a signed-in person: authorizes the caller and returns the data for the check. An attempt at a pending
-- secret takes its number here. p: user_id, session_id, org_hint, claims, request_id, client_ip of the caller; purpose: verify or disable.
create or replace function private.begin_second_factor_call(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user_id uuid := (p ->> 'user_id')::uuid;
  v jsonb;
begin
  perform set_config('app.unrestricted', 'on', true);
  perform private.enter(v_user_id, (p ->> 'session_id')::uuid, (p ->> 'org_hint')::uuid, p ->> 'claims', p ->> 'request_id', p ->> 'client_ip');
  if p ->> 'purpose' = 'verify' then
    update private.second_factor_setups s set tries = s.tries + 1
    where s.user_id = v_user_id and s.expires_at > p_at and s.tries < 5
    returning jsonb_build_object('secret', s.sealed_secret, 'attempt', s.tries) into v;
  else
    select jsonb_strip_nulls(jsonb_build_object('secret', f.sealed_secret, 'password_hash', c.password_hash)) into v
    from public.users u
    left join private.second_factors f on f.user_id = u.id
    left join private.credentials c on c.user_id = u.id
    where u.id = v_user_id;
  end if;
  return coalesce(v, '{}');
end
$$;
comment on function private.begin_second_factor_call is
  'What the server needs to check a code of the caller. Authorization: callable by the server only; the session through private.enter. Errors: as private.enter.';
grant execute on function private.begin_second_factor_call to kijko_server;

create or replace function private.keep_backup_codes(p_user_id uuid, p jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if jsonb_typeof(p -> 'codeHashes') is distinct from 'array' or jsonb_array_length(p -> 'codeHashes') <> 10
    or exists (select from jsonb_array_elements_text(p -> 'codeHashes') h where h !~ '^[0-9a-f]{64}$')
  then
    perform private.refuse_field('codeHashes', 'Backup codes are made by the server.');
  end if;
  delete from private.backup_codes c where c.user_id = p_user_id;
  insert into private.backup_codes (user_id, position, code_hash)
  select p_user_id, h.position, decode(h.hash, 'hex') from jsonb_array_elements_text(p -> 'codeHashes') with ordinality h (hash, position);
end
$$;
comment on function private.keep_backup_codes is 'Ten new backup codes in the place of the old ones. Authorization: callable by definer functions of ours only.';

-- After the server checked a code. p: attempt?, checkedSecret?, step? (where the code was right), codeHashes, sealedCodes.
create or replace function api.verify_two_factor(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user_id uuid := private.assert_second_factor_call();
  v_attempt integer := private.as_int(p -> 'attempt', 'attempt');
  v_step bigint := private.as_bigint(p -> 'step', 'step');
begin
  if v_attempt is null then
    -- Five attempts are used up. A further simultaneous attempt gets the same refusal as the fifth.
    if exists (select from private.second_factor_setups s where s.user_id = v_user_id and s.expires_at > clock_timestamp() and s.tries >= 5) then
      return private.problem(429, 'RATE_LIMITED', 'Too many wrong codes. Please set the second factor up again.', null, '{"retryAfter": 1}');
    end if;
    perform private.refuse(409, 'TWO_FACTOR_NOT_PENDING', 'No set-up is waiting for a code. Please begin it again.');
  elsif v_step is null then
    if v_attempt < 5 then
      return '{"valid": false}';
    end if;
    delete from private.second_factor_setups s where s.user_id = v_user_id and s.sealed_secret = p ->> 'checkedSecret';
    return private.problem(429, 'RATE_LIMITED', 'Too many wrong codes. Please set the second factor up again.', null, '{"retryAfter": 1}');
  end if;

  delete from private.second_factor_setups s
  where s.user_id = v_user_id and s.sealed_secret = p ->> 'checkedSecret' and s.expires_at > clock_timestamp();
  if not found then
    perform private.refuse(409, 'TWO_FACTOR_NOT_PENDING', 'No set-up is waiting for a code. Please begin it again.');
  end if;
  insert into private.second_factors (user_id, sealed_secret, last_step) values (v_user_id, p ->> 'checkedSecret', v_step);
  perform private.keep_backup_codes(v_user_id, p);
  update public.users u set two_factor_enabled_at = now() where u.id = v_user_id;
  perform private.audit('user.2fa_enabled', 'Switched two-factor authentication on.');
  return jsonb_build_object('valid', true, 'backupCodes', p ->> 'sealedCodes', 'status', private.two_factor_json(v_user_id));
end
$$;
comment on function api.verify_two_factor is
  'POST /security/2fa/verify: the first code of a pending secret switches it on. Authorization: the caller''s own account, and no stranger. Errors: 409 TWO_FACTOR_NOT_PENDING; result: 429 RATE_LIMITED.';
grant execute on function api.verify_two_factor to authenticated;

-- --------------------------------------------------------------------------------------------------------------------- codes on paper

create or replace function api.list_backup_codes(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('code', '••••-••••-••••', 'isUsed', c.used_at is not null,
      'usedAt', private.iso(c.used_at))) order by c.position), '[]')
    from private.backup_codes c where c.user_id = private.user_id()
  );
end
$$;
comment on function api.list_backup_codes is 'GET /security/2fa/backup-codes: which are used; the codes themselves are stored nowhere. Authorization: private.user_id() only.';
grant execute on function api.list_backup_codes to authenticated;

-- p: codeHashes, sealedCodes, made by the server.
create or replace function api.regenerate_backup_codes(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user_id uuid := private.assert_second_factor_call();
begin
  perform from private.second_factors f where f.user_id = v_user_id for update;
  if not found then
    perform private.refuse(409, 'TWO_FACTOR_NOT_ENABLED', 'Two-factor authentication is not on.');
  end if;
  perform private.keep_backup_codes(v_user_id, p);
  perform private.audit('security.backup_codes_regenerated', 'Made new backup codes; the old ones no longer work.');
  return to_jsonb(p ->> 'sealedCodes');
end
$$;
comment on function api.regenerate_backup_codes is
  'POST /security/2fa/backup-codes/regenerate: ten new codes, sealed for the server. Authorization: the caller''s own account, and no stranger. Errors: 409 TWO_FACTOR_NOT_ENABLED.';
grant execute on function api.regenerate_backup_codes to authenticated;

-- ------------------------------------------------------------------------------------------------------------------------ using a code

-- p: step and checkedSecret of a code that the server found right, or backupHashes (under each key of the server).
create or replace function private.use_second_factor(p_user_id uuid, p jsonb) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_step bigint := private.as_bigint(p -> 'step', 'step');
begin
  if v_step is not null then
    update private.second_factors f set last_step = v_step
    where f.user_id = p_user_id and f.sealed_secret = p ->> 'checkedSecret' and f.last_step < v_step;
    return found;
  elsif jsonb_typeof(p -> 'backupHashes') = 'array' then
    update private.backup_codes c set used_at = now()
    where c.user_id = p_user_id and c.used_at is null
      and c.code_hash in (select decode(h, 'hex') from jsonb_array_elements_text(p -> 'backupHashes') h where h ~ '^[0-9a-f]{64}$');
    return found;
  end if;
  return false;
end
$$;
comment on function private.use_second_factor is 'Uses up a code; false for one that is wrong or was used. Authorization: callable by definer functions of ours only.';

-- Does one of the person's organizations require the second factor for their present role?
create or replace function private.is_second_factor_demanded(p_user_id uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return exists (
    select from public.memberships m join public.security_policies p on p.organization_id = m.organization_id
    where m.user_id = p_user_id and m.status = 'active' and m.is_guarded and private.has_gate(m.organization_id, 'security_policies')
      and (p.require_second_factor = 'all' or p.require_second_factor = 'admins' and m.role in ('owner', 'admin')));
end
$$;
comment on function private.is_second_factor_demanded is 'Does a policy in force demand the second factor of them? Authorization: callable by definer functions of ours only.';

-- p: checkedHash? and isPasswordRight, and the arguments of private.use_second_factor; the server has found all of them.
create or replace function api.disable_two_factor(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user_id uuid := private.assert_second_factor_call();
  v_hash text;
begin
  perform from private.second_factors f where f.user_id = v_user_id for update;
  if not found then
    perform private.refuse(409, 'TWO_FACTOR_NOT_ENABLED', 'Two-factor authentication is not on.');
  elsif private.is_second_factor_demanded(v_user_id) then
    perform private.refuse(403, 'TWO_FACTOR_REQUIRED_BY_POLICY', 'Your organization demands a second factor, so it cannot be switched off.');
  end if;
  select c.password_hash into v_hash from private.credentials c where c.user_id = v_user_id;
  if v_hash is not null and not (private.as_bool(p -> 'isPasswordRight', 'isPasswordRight') is true and v_hash = p ->> 'checkedHash') then
    perform private.refuse(400, 'INVALID_PASSWORD', 'The password is not correct.', 'password');
  elsif not private.use_second_factor(v_user_id, p) then
    perform private.refuse(400, 'INVALID_CODE', 'The code is not correct, or was used before.', 'code');
  end if;
  delete from private.second_factors f where f.user_id = v_user_id;
  delete from private.backup_codes c where c.user_id = v_user_id;
  delete from private.remembered_devices d where d.user_id = v_user_id;
  update public.users u set two_factor_enabled_at = null where u.id = v_user_id;
  perform private.audit('user.2fa_disabled', 'Switched two-factor authentication off.');
  return private.two_factor_json(v_user_id);
end
$$;
comment on function api.disable_two_factor is
  'POST /security/2fa/disable: TwoFactorStatus. Authorization: the caller''s own account, and no stranger. Errors: 400 INVALID_PASSWORD, 400 INVALID_CODE, 403 TWO_FACTOR_REQUIRED_BY_POLICY, 409 TWO_FACTOR_NOT_ENABLED.';
grant execute on function api.disable_two_factor to authenticated;
