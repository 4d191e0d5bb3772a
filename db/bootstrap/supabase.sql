-- On plain Postgres, the part of Supabase's surroundings that we rely on. On a Supabase database all of it exists and nothing
-- here changes anything: Supabase's own schemas are never altered.
do $$
begin
  perform pg_advisory_xact_lock(hashtext('kijko bootstrap'));
  if to_regnamespace('extensions') is null then
    create schema extensions;
    grant usage on schema extensions to public;
  end if;
end
$$;
