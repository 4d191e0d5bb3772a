with n as (
  insert into public.notes (organization_id, user_id, text) values (pg_temp.org(), pg_temp.person(), pg_temp.secret()) returning id
) select pg_temp.keep('noteId', id) from n;
