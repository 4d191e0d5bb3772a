-- Every write accepts an Idempotency-Key: the same key with the same body answers the stored response for 24 hours, with another body 409.
-- The row is inserted in the transaction of the work. So of many simultaneous callers one does the work, and the others wait for its commit
-- and read its answer. A refused or failed call leaves no row and may be tried again.

create or replace function private.begin_idempotent(p_key text, p_operation text, p_hash bytea)
returns table (status integer, headers text, response jsonb)
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_user uuid := private.user_id();
  v private.idempotency_keys;
begin
  if v_user is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  if char_length(p_key) not between 1 and 255 then
    perform private.refuse(400, 'VALIDATION_ERROR', 'The Idempotency-Key must have 1 to 255 characters.', 'Idempotency-Key');
  end if;

  delete from private.idempotency_keys k
  where k.user_id = v_user and k.key = p_key and k.created_at < now() - interval '24 hours';
  insert into private.idempotency_keys (user_id, key, operation, request_hash)
  values (v_user, p_key, p_operation, p_hash)
  on conflict do nothing;
  if found then
    return;
  end if;

  select k.* into v from private.idempotency_keys k where k.user_id = v_user and k.key = p_key;
  if v.operation <> p_operation or v.request_hash <> p_hash then
    perform private.refuse(409, 'IDEMPOTENCY_CONFLICT', 'This Idempotency-Key was used for another request.', 'Idempotency-Key');
  end if;
  return query select v.status, v.headers, v.response;
end
$$;
comment on function private.begin_idempotent is
  'Claims a key of the caller, or gives the stored answer. Authorization: only keys of private.user_id(). Errors: 409 IDEMPOTENCY_CONFLICT.';
grant execute on function private.begin_idempotent to authenticated;

create or replace function private.finish_idempotent(p_key text, p_response jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.idempotency_keys
  set response = p_response,
    headers = nullif(current_setting('response.headers', true), ''),
    status = nullif(current_setting('response.status', true), '')::integer
  where user_id = private.user_id() and key = p_key;
end
$$;
comment on function private.finish_idempotent is 'Stores the answer under a key that the caller claimed in this transaction. Authorization: only keys of private.user_id().';
grant execute on function private.finish_idempotent to authenticated;

-- Runs operation api.<p_operation> under a key, as the caller: it has no right that the operation itself would not have.
create or replace function private.call_idempotent(p_operation text, p jsonb, p_key text, p_hash bytea) returns jsonb
language plpgsql volatile
as $$
declare
  v record;
  v_response jsonb;
begin
  select * into v from private.begin_idempotent(p_key, p_operation, p_hash);
  if found then
    perform set_config('response.headers', coalesce(v.headers, ''), true), set_config('response.status', coalesce(v.status::text, ''), true);
    perform private.set_headers('{"Idempotency-Replayed": "true"}');
    return v.response;
  end if;
  execute format('select api.%I($1)', p_operation) into v_response using p;
  -- A value that an operation shows only once is not stored: app.kept_answer is the answer without it.
  perform private.finish_idempotent(p_key, coalesce(nullif(current_setting('app.kept_answer', true), '')::jsonb, v_response));
  return v_response;
end
$$;
comment on function private.call_idempotent is 'Runs an operation at most once per caller and key (24 hours), or replays its answer.';
grant execute on function private.call_idempotent to authenticated;

-- For work outside the database (a test that calls a model): the operation above claims the key. Then the server takes the work, does it
-- without a transaction, and keeps the answer. {userId, key, seconds}: returns the kept answer, or says whether the caller may take the
-- work. A server that took the work and stores no answer within these seconds loses it.
create or replace function private.take_answer(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v jsonb;
begin
  select k.response into v from private.idempotency_keys k
  where k.user_id = private.as_uuid(p ->> 'userId') and k.key = p ->> 'key' for update;
  if v ? 'answer' then
    return jsonb_build_object('answer', v -> 'answer');
  elsif (v ->> 'until')::timestamptz > clock_timestamp() then
    return '{"mine": false}';
  end if;
  update private.idempotency_keys k set response = v || jsonb_build_object('until', clock_timestamp() + make_interval(secs => (p ->> 'seconds')::integer))
  where k.user_id = private.as_uuid(p ->> 'userId') and k.key = p ->> 'key';
  return '{"mine": true}';
end
$$;
comment on function private.take_answer is
  'The answer kept under a key, or whether the asking process is to find it: {answer} or {mine}. Authorization: callable by the server only, for the caller of a request.';

-- {userId, key, answer}; without an answer the work may be taken again at once.
create or replace function private.keep_answer(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.idempotency_keys k
  set response = case when coalesce(p -> 'answer', 'null') = 'null' then k.response - 'until' else jsonb_build_object('answer', p -> 'answer') end
  where k.user_id = private.as_uuid(p ->> 'userId') and k.key = p ->> 'key';
  return to_jsonb(found);
end
$$;
comment on function private.keep_answer is
  'Keeps the answer of work that was taken under a key, or gives it up. Authorization: callable by the server only, for the caller of a request.';
grant execute on function private.take_answer, private.keep_answer to kijko_server;
