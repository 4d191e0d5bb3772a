with s as (
  insert into public.hypervisa_sessions (session_id, organization_id, user_id) values (gen_random_uuid()::text, pg_temp.org(), pg_temp.person()) returning session_id
) select pg_temp.keep('hypervisaSessionId', session_id::uuid) from s;
