-- Each person reads their own row; a function writes.
grant select on public.user_personas to authenticated;
create policy select_own on public.user_personas for select to authenticated using (user_id = (select private.user_id()));
