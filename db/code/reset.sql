-- Objects that were removed from the files must vanish from the database too: policies, triggers and grants in our schemas are dropped here
-- and created again below, in this one transaction. Functions are replaced in place; one whose parameters or result changed, or that was
-- removed, is dropped by name in a file of its feature. "make generate" rehearses that on the state of the committed files.
set local lock_timeout = '5s';

do $$
declare
  v record;
begin
  for v in
    select schemaname, tablename, policyname from pg_policies where schemaname in ('public', 'private', 'jobs')
  loop
    execute format('drop policy %I on %I.%I', v.policyname, v.schemaname, v.tablename);
  end loop;

  for v in
    select n.nspname, c.relname, t.tgname
    from pg_trigger t
    join pg_class c on c.oid = t.tgrelid
    join pg_namespace n on n.oid = c.relnamespace
    where not t.tgisinternal and n.nspname in ('public', 'private', 'jobs') and t.tgname like '\_%'
  loop
    execute format('drop trigger %I on %I.%I', v.tgname, v.nspname, v.relname);
  end loop;

  for v in
    select n.nspname, c.relname, r.rolname
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    cross join (values ('public'), ('anon'), ('authenticated'), ('service_role'), ('kijko_server'), ('kijko_worker')) as r (rolname)
    where n.nspname in ('public', 'private', 'jobs') and c.relkind in ('r', 'p', 'v', 'm', 'S')
      -- tern's own bookkeeping stays as it is.
      and c.relname <> 'schema_version'
  loop
    execute format('revoke all on %I.%I from %s', v.nspname, v.relname, v.rolname);
  end loop;

  for v in
    select p.oid::regprocedure as signature, r.rolname
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    cross join (values ('public'), ('anon'), ('authenticated'), ('service_role'), ('kijko_server'), ('kijko_worker')) as r (rolname)
    where n.nspname in ('api', 'private', 'jobs')
  loop
    execute format('revoke all on routine %s from %s', v.signature, v.rolname);
  end loop;
end
$$;
