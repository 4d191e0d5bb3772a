-- Inputs and outputs of runs are texts of up to a mebibyte, written once and read now and then. Postgres' own compression takes several times
-- as long as all the rest of inserting such a row; LZ4 a tenth of that, where the server was built with it (Supabase's and the
-- distributions' are).
do $$
begin
  alter table public.skill_executions alter column input set compression lz4, alter column output set compression lz4;
exception when feature_not_supported then
  raise notice 'this server has no LZ4: texts of runs are compressed by its own method';
end
$$;

---- create above / drop below ----

alter table public.skill_executions alter column input set compression default, alter column output set compression default;
