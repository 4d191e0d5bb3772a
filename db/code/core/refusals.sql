-- A function that raises is never IMMUTABLE: the planner runs an immutable call with constant arguments at once, also in a branch that is
-- never taken, and a checker that plans each statement takes the refusal for a fault of the function.

-- The only way to refuse a call. PostgREST and our own server both translate SQLSTATE `PT` + status, so psql, supabase.rpc() and HTTP
-- callers get the same refusal: the message is for people, the DETAIL is for programs.
create or replace function private.refuse(
  p_status integer, p_code text, p_message text, p_field text default null, p_details jsonb default null
) returns void
language plpgsql stable
as $$
begin
  raise exception using
    errcode = 'PT' || p_status,
    message = p_message,
    detail = jsonb_strip_nulls(jsonb_build_object('code', p_code, 'field', p_field, 'details', p_details))::text;
end
$$;
comment on function private.refuse is
  'Raises a refusal: HTTP status, code of db/errors.md, a sentence for people, and optionally the field and details.';
grant execute on function private.refuse to anon, authenticated, service_role, kijko_server, kijko_worker;

-- 400 VALIDATION_ERROR, by far the most frequent refusal.
create or replace function private.refuse_field(p_field text, p_message text) returns void
language plpgsql stable
as $$
begin
  perform private.refuse(400, 'VALIDATION_ERROR', p_message, p_field);
end
$$;
comment on function private.refuse_field is '400 VALIDATION_ERROR about one field.';
grant execute on function private.refuse_field to anon, authenticated, service_role, kijko_server, kijko_worker;

-- Checks of rows are in migrations, because constraints name them.
do $$
declare
  v_function regprocedure;
begin
  for v_function in select p.oid from pg_proc p
    where p.pronamespace = 'private'::regnamespace and (p.proname = 'refuse_row' or p.proname ~ '^assert_.*_row$') and p.provolatile = 'i'
  loop
    execute format('alter function %s stable', v_function);
  end loop;
end
$$;
