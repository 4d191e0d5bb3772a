-- A request with a read-only key writes nothing, whatever function runs: a policy stands beside those of each table that callers write to.
-- It is restrictive, so it only takes rights away, and it is evaluated once a statement. Reads are not affected.
do $$
declare
  v record;
begin
  for v in
    select c.oid::regclass as "table", a.action
    from pg_class c cross join unnest(array['insert', 'update', 'delete']) a (action)
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
      and case a.action when 'delete' then has_table_privilege('authenticated', c.oid, 'delete') else has_any_column_privilege('authenticated', c.oid, a.action) end
  loop
    execute format('create policy %I on %s as restrictive for %s to authenticated %s ((select private.has_scope(''write'')))',
      v.action || '_in_scope', v."table", v.action, case v.action when 'insert' then 'with check' else 'using' end);
  end loop;
end
$$;
