-- Each person reads their own settings; functions write.
grant select on public.user_settings to authenticated;
create policy select_own on public.user_settings for select to authenticated using (user_id = (select private.user_id()));
