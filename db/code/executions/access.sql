-- A run is visible only to the person for whom it ran, whatever the role of another member. Only functions write: a run that a caller could
-- insert would be an unpaid one.
grant select on public.skill_executions to authenticated;
create policy select_own on public.skill_executions for select to authenticated using (user_id = (select private.user_id()));
