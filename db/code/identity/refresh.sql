-- Refresh with rotation. Each token counts its own first use: for 30 seconds after it the same token works again, as often as needed (a
-- browser with many open requests refreshes many times at once), and each use yields a valid pair of the same session. A later use means
-- that the token was copied: the whole session ends.

-- p: presented_hash (hex), token_hash (hex, of the token to issue), user_agent, session_limit (refreshes a minute).
create or replace function private.refresh_session(p jsonb, p_at timestamptz default clock_timestamp()) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_refused constant jsonb := private.problem(401, 'INVALID_REFRESH_TOKEN', 'Your session has ended. Please sign in again.');
  v_hash bytea := decode(p ->> 'presented_hash', 'hex');
  v_session private.sessions;
  v_token private.refresh_tokens;
  v_rate record;
  v_answer jsonb;
begin
  -- The session's lock serializes refreshes of one session, so that "first use" is unambiguous.
  select s.* into v_session
  from private.sessions s
  where s.id = (select t.session_id from private.refresh_tokens t where t.token_hash = v_hash)
  for update;
  if not found then
    return c_refused;
  end if;
  select * into v_rate from private.take_rate('refresh session|' || v_session.id, (p ->> 'session_limit')::integer, interval '60 s', p_at);
  if not v_rate.allowed then
    return private.problem(429, 'RATE_LIMITED', 'Too many requests. Please wait a moment.', null, jsonb_build_object(
      'limit', (p ->> 'session_limit')::integer, 'remaining', v_rate.remaining, 'resetUnix', floor(extract(epoch from v_rate.reset_at))::bigint,
      'retryAfter', v_rate.retry_after));
  end if;

  select * into v_token from private.refresh_tokens t where t.token_hash = v_hash;
  if v_token.expires_at <= p_at or v_session.expires_at <= p_at then
    return c_refused;
  elsif v_token.used_at < p_at - interval '30 seconds' then
    perform private.end_stolen_session(v_session, p_at);
    return c_refused;
  elsif v_session.revoked_at is not null and v_session.revoked_reason is distinct from 'membership_ended' then
    return c_refused;
  elsif v_session.revoked_at is null and private.is_overdue(v_session, p_at) then
    perform private.end_by_policy(v_session.id, p_at);
    return c_refused;
  end if;

  if v_session.revoked_at is not null then
    v_answer := private.continue_session(v_session, p, p_at);
  elsif not exists (select from public.memberships m
    where m.user_id = v_session.user_id and m.organization_id = v_session.organization_id and m.status = 'active')
  then
    return c_refused;
  else
    perform private.issue_refresh_token(v_session.id, p ->> 'token_hash', p_at);
    v_answer := private.session_json(v_session.id, p_at);
  end if;
  if not v_answer ? 'problem' then
    update private.refresh_tokens t set used_at = coalesce(t.used_at, p_at) where t.token_hash = v_hash;
  end if;
  return v_answer;
end
$$;
comment on function private.refresh_session is
  'A fresh pair for a refresh token. Authorization: callable by the server only. Results: 401 INVALID_REFRESH_TOKEN, 403 MEMBERSHIP_INACTIVE, 429 RATE_LIMITED.';
grant execute on function private.refresh_session to kijko_server;

create or replace function private.end_stolen_session(p_session private.sessions, p_at timestamptz) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid;
begin
  for v_id in select private.session_line(p_session.id) loop
    if private.revoke_session(v_id, 'refresh_reuse', p_at) then
      perform set_config('app.session_id', v_id::text, true);
      perform private.audit('security.session_terminated', 'A session was ended because one of its refresh tokens was used twice.',
        jsonb_build_object('reason', 'refresh_reuse'), null, p_session.organization_id, p_session.user_id);
    end if;
  end loop;
end
$$;
comment on function private.end_stolen_session is 'Ends a session whose refresh token was used again, with its successors. Authorization: callable by definer functions of ours only.';

-- A membership that ends also ends its session, but the person stays signed in: they continue in another organization of theirs, or in a
-- new personal one. All tokens of the ended session lead to the same successor.
create or replace function private.continue_session(p_session private.sessions, p jsonb, p_at timestamptz) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_next private.sessions;
  v_org_id uuid;
  v_answer jsonb;
begin
  if p_session.successor_id is not null then
    select * into v_next from private.sessions s where s.id = p_session.successor_id for update;
    if v_next.revoked_at is not null then
      return private.problem(401, 'INVALID_REFRESH_TOKEN', 'Your session has ended. Please sign in again.');
    end if;
    perform private.issue_refresh_token(v_next.id, p ->> 'token_hash', p_at);
    return private.session_json(v_next.id, p_at);
  end if;
  v_org_id := private.choose_organization(p_session.user_id);
  if v_org_id is null then
    return private.problem(403, 'MEMBERSHIP_INACTIVE', 'Your membership is not active at the moment. Please ask an administrator of your organization.');
  end if;
  v_answer := private.sign_in_policy_problem(p_session.user_id, v_org_id, p_session.signed_in_by);
  if v_answer is not null then
    return v_answer;
  end if;
  v_answer := private.succeed_session(p_session, v_org_id, p, p_at);
  update private.sessions s set successor_id = (v_answer ->> 'session_id')::uuid where s.id = p_session.id;
  return v_answer;
end
$$;
comment on function private.continue_session is 'Moves the person of an ended membership to another organization. Authorization: callable by definer functions of ours only.';

-- Runs an operation that answers tokens under an Idempotency-Key: there is no user yet (or no longer), and the answers hold secrets. The
-- row is inserted in the transaction of the work. So of equal requests one does the work and the others wait for its commit; a refused one
-- leaves no row.
-- p: function, key (hex), request (hex), nonce (hex), and the function's own arguments.
create or replace function private.sign_in_once(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_key bytea := decode(p ->> 'key', 'hex');
  v private.sealed_answers;
  v_result jsonb;
begin
  delete from private.sealed_answers a where a.key_digest = v_key and a.created_at < now() - interval '24 hours';
  insert into private.sealed_answers (key_digest, request_digest, nonce)
  values (v_key, decode(p ->> 'request', 'hex'), decode(p ->> 'nonce', 'hex'))
  on conflict do nothing;
  if found then
    v_result := case p ->> 'function'
      when 'sign_up' then private.sign_up(p)
      when 'finish_login' then private.finish_login(p)
      when 'finish_magic_link' then private.finish_magic_link(p)
      when 'finish_oauth' then private.finish_oauth(p)
      when 'refresh_session' then private.refresh_session(p)
      when 'switch_session' then private.switch_session(p)
      when 'finish_second_factor' then private.finish_second_factor(p)
    end;
    if v_result ? 'problem' then
      delete from private.sealed_answers a where a.key_digest = v_key;
    else
      update private.sealed_answers a set result = v_result where a.key_digest = v_key;
    end if;
    return v_result;
  end if;
  select * into v from private.sealed_answers a where a.key_digest = v_key;
  if v.request_digest <> decode(p ->> 'request', 'hex') then
    return private.problem(409, 'IDEMPOTENCY_CONFLICT', 'This Idempotency-Key was used for another request.', 'Idempotency-Key');
  end if;
  return v.result || jsonb_strip_nulls(jsonb_build_object('nonce', encode(v.nonce, 'hex'), 'sealed', encode(v.sealed, 'base64'), 'replayed', true));
end
$$;
comment on function private.sign_in_once is
  'sign_up, finish_login, finish_magic_link, finish_oauth, refresh_session or switch_session at most once per Idempotency-Key (24 hours). Authorization: callable by the server only. Results: theirs, and 409 IDEMPOTENCY_CONFLICT.';
grant execute on function private.sign_in_once to kijko_server;

create or replace function private.seal_answer(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.sealed_answers a set sealed = decode(p ->> 'sealed', 'base64')
  where a.key_digest = decode(p ->> 'key', 'hex') and a.sealed is null;
  return (select jsonb_build_object('sealed', encode(a.sealed, 'base64'))
    from private.sealed_answers a where a.key_digest = decode(p ->> 'key', 'hex'));
end
$$;
comment on function private.seal_answer is 'Keeps an encrypted answer unless there is one, and gives the kept one. Authorization: callable by the server only.';
grant execute on function private.seal_answer to kijko_server;
