with k as (
  insert into public.api_keys (organization_id, user_id, name, environment, prefix, key_hash, scopes)
  values (pg_temp.org(), pg_temp.person(), pg_temp.secret(), 'live', 'kijko_live_123456789', sha256(convert_to(pg_temp.tenant(), 'UTF8')), array['read']) returning id
) select pg_temp.keep('keyId', id) from k;
