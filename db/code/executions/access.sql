-- Who sees runs: the person for whom they ran, and nobody else, whatever their role. Nobody but functions writes: a run that could be
-- inserted would be one that nobody paid for.
grant select on public.skill_executions to authenticated;
create policy select_own on public.skill_executions for select to authenticated using (user_id = (select private.user_id()));
