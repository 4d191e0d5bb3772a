-- Reads, plans and checks every function in PL/pgSQL without running it, including branches that no test reaches. Supabase's db lint uses
-- the same extension. This file is skipped where the extension is not available (a PostgreSQL other than the system's).
begin;
select no_plan();
create extension if not exists plpgsql_check with schema extensions;

-- A trigger function is checked for each table that it serves, with all transition tables that any of its triggers there names.
create temp table findings (function text, level text, line integer, message text, query text);
do $$
declare
  f record;
  v_name text;
begin
  for f in
    select p.oid, coalesce(t.tgrelid, 0) as tgrelid, t.names
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
    left join (
      select g.tgfoid, g.tgrelid, array_agg(distinct x) filter (where x is not null) as names
      from pg_trigger g, unnest(array[g.tgoldtable, g.tgnewtable]) x where not g.tgisinternal group by 1, 2) t on t.tgfoid = p.oid
    where n.nspname in ('public', 'api', 'private', 'jobs') and l.lanname = 'plpgsql'
      and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
  loop
    -- The schema of temporary tables is on every search path.
    foreach v_name in array coalesce(f.names, '{}') loop
      execute format('create temp table %I (like %s)', v_name, f.tgrelid::regclass);
    end loop;
    insert into findings
    select f.oid::regprocedure, c.level, c.lineno, concat_ws(' ', c.message, c.detail), left(c.query, 200)
    from extensions.plpgsql_check_function_tb(f.oid, f.tgrelid, fatal_errors => false, performance_warnings => true, extra_warnings => true,
      security_warnings => true) c;
    foreach v_name in array coalesce(f.names, '{}') loop
      execute format('drop table pg_temp.%I', v_name);
    end loop;
  end loop;
end
$$;

select is_empty($$ select * from findings where level = 'error' $$, 'no function has an error');
select is_empty($$ select * from findings where level like 'security%' $$, 'no statement is put together of text that may be a caller''s');
select is_empty($$ select * from findings where message ~ '^unused variable' $$, 'no variable is left over');
select is_empty($$ select * from findings where message ~ '^control reached end' $$, 'no function can end without its result');
-- The first three lock or change rows in ways that the checker does not see. The fourth must see rows committed since its caller began.
select is_empty($$ select * from findings where message ~ '^routine is marked'
  and function !~ '^private\.(own_skills|delete_run_rows|mask_mentions|end_old|earliest_job)\(' $$, 'each function is as constant as it says');

select * from finish();
rollback;
