with e as (
  insert into public.ip_allow_list_entries (organization_id, name, network, is_range) values (pg_temp.org(), 'Office of ' || pg_temp.tenant(), '192.0.2.1', false) returning id
) select pg_temp.keep('entryId', id) from e;
