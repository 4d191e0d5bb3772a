-- Last of all files. An operation that writes names every object with its schema and runs with an empty search path: as its caller it has no
-- more rights than they have, so this closes no hole, but nothing that a caller puts in front can mislead it, and Supabase's advisor is
-- content. Setting and resetting the path costs some 4 microseconds a call, a hundredth of a write; a read of one row would pay 2 to 5
-- percent, so operations that only read stay as they are (db/README.md).
do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid from pg_proc p join pg_language l on l.oid = p.prolang
    where p.pronamespace = 'api'::regnamespace and l.lanname = 'plpgsql' and p.provolatile = 'v'
      and not coalesce('search_path=""' = any (p.proconfig), false)
  loop
    execute format('alter function %s set search_path = ''''', v_function);
  end loop;
end
$$;
