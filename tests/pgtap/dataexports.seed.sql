-- An export that ended.
with e as (
  insert into private.data_exports (user_id, organization_id, type, categories, status) values (pg_temp.person(), pg_temp.org(), 'full', '{profile}', 'failed') returning id
) select pg_temp.keep('exportId', id) from e;
