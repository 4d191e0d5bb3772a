-- This file must be the last one. An operation that writes names every object with its schema and runs with an empty search path. As its
-- caller it has no more rights than the caller has, so this closes no hole. But no object that a caller puts in front can mislead the
-- operation, and Supabase's advisor reports nothing. Setting and resetting the path costs some 4 microseconds a call, a hundredth of a
-- write. A read of one row would pay 2 to 5 percent, so operations that only read stay as they are (db/README.md).
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
