-- A session beside the present one.
with s as (
  insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at)
  values (pg_temp.person(), pg_temp.org(), now() + interval '90 days', now() + interval '30 days') returning id
) select pg_temp.keep('sessionId', id) from s;
