-- Links that stop a category of mail without signing in (contract 30, N9). A token names a person and a category, is signed with a secret
-- that never leaves the database, holds for 30 days and may be used again: mail programs follow links more than once.

-- HMAC (RFC 2104) from functions that every PostgreSQL has.
create or replace function private.hmac_sha256(p_key bytea, p_message bytea) returns bytea
language plpgsql immutable parallel safe
as $$
declare
  v_inner bytea := decode(repeat('36', 64), 'hex');
  v_outer bytea := decode(repeat('5c', 64), 'hex');
  v_key bytea := case when octet_length(p_key) > 64 then sha256(p_key) else p_key end;
begin
  for i in 0..octet_length(v_key) - 1 loop
    v_inner := set_byte(v_inner, i, get_byte(v_inner, i) # get_byte(v_key, i));
    v_outer := set_byte(v_outer, i, get_byte(v_outer, i) # get_byte(v_key, i));
  end loop;
  return sha256(v_outer || sha256(v_inner || p_message));
end
$$;
comment on function private.hmac_sha256 is 'HMAC with SHA-256.';

create or replace function private.mail_categories() returns text[]
language sql immutable parallel safe
-- A token holds the position in this list, so the list may only grow at its end.
return array['productUpdates', 'securityAlerts', 'billingReminders', 'weeklyDigest'];
comment on function private.mail_categories is 'Kinds of mail that a preference is about.';

-- 16 bytes user, 1 category, 4 end in seconds since 1970, 32 signature: 53 bytes, 71 characters.
create or replace function private.unsubscribe_token(p_user_id uuid, p_category text, p_at timestamptz default now()) returns text
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_body bytea := uuid_send(p_user_id) || set_byte('\x00', 0, array_position(private.mail_categories(), p_category))
    || int4send(extract(epoch from p_at + interval '30 days')::integer);
begin
  return rtrim(translate(encode(v_body || private.hmac_sha256((select k.key from private.unsubscribe_key k), v_body), 'base64'), E'+/\n', '-_'), '=');
end
$$;
comment on function private.unsubscribe_token is 'A signed token that switches a category of a user''s mail off. Authorization: callable by definer functions of ours only.';

create or replace function private.unsubscribe(p_token text, p_at timestamptz default now()) returns text
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_bytes bytea;
  v_body bytea;
  v_user uuid;
  v_category text;
begin
  if p_token ~ '^[A-Za-z0-9_-]{71}$' then
    v_bytes := decode(translate(p_token, '-_', '+/') || '=', 'base64');
    v_body := substr(v_bytes, 1, 21);
    -- Digests of both, so that the time of comparing reveals nothing about the signature.
    if sha256(substr(v_bytes, 22)) = sha256(private.hmac_sha256((select k.key from private.unsubscribe_key k), v_body))
      and ('x' || encode(substr(v_body, 18), 'hex'))::bit(32)::bigint > extract(epoch from p_at) then
      v_user := encode(substr(v_body, 1, 16), 'hex')::uuid;
      v_category := (private.mail_categories())[get_byte(v_body, 16)];
    end if;
  end if;
  if v_category is null then
    perform private.refuse(400, 'INVALID_UNSUBSCRIBE_TOKEN', 'This link is not valid or too old. You can change what we send in your notification settings.', 'token');
  elsif v_category = 'securityAlerts' then
    perform private.refuse(409, 'CANNOT_UNSUBSCRIBE', 'Mails about the security of your account cannot be switched off.');
  end if;
  -- The answer does not show whether the account still exists.
  update public.notification_preferences s
  set email_product_updates = s.email_product_updates and v_category <> 'productUpdates',
    email_billing_reminders = s.email_billing_reminders and v_category <> 'billingReminders',
    email_weekly_digest = s.email_weekly_digest and v_category <> 'weeklyDigest'
  where s.user_id = v_user;
  return v_category;
end
$$;
comment on function private.unsubscribe is
  'Switches the category of a token off and gives its name. Authorization: the signature of the token. Errors: 400 INVALID_UNSUBSCRIBE_TOKEN, 409 CANNOT_UNSUBSCRIBE.';
grant execute on function private.unsubscribe to anon, authenticated;

create or replace function api.unsubscribe_mail(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  -- One-click clients send a form without a token; the token is in the address.
  return jsonb_build_object('success', true, 'category', private.unsubscribe(coalesce(p -> 'body' ->> 'token', p ->> 'token')));
end
$$;
comment on function api.unsubscribe_mail is 'POST /notifications/unsubscribe, without login. Errors: 400 INVALID_UNSUBSCRIBE_TOKEN, 409 CANNOT_UNSUBSCRIBE.';
grant execute on function api.unsubscribe_mail to anon, authenticated;
