-- The one way to say no. PostgREST and our own server both translate SQLSTATE `PT` + status, so psql, supabase.rpc() and HTTP
-- callers get the same refusal: the message is for people, the DETAIL is for programs.
create or replace function private.refuse(
  p_status integer, p_code text, p_message text, p_field text default null, p_details jsonb default null
) returns void
language plpgsql immutable
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
language plpgsql immutable
as $$
begin
  perform private.refuse(400, 'VALIDATION_ERROR', p_message, p_field);
end
$$;
comment on function private.refuse_field is '400 VALIDATION_ERROR about one field.';
grant execute on function private.refuse_field to anon, authenticated, service_role, kijko_server, kijko_worker;
