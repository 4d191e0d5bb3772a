-- Access to habits (contract 20, 16.1): each person sees and writes their own, whatever the role. Not granted: counters, failures and
-- next_run_at, which functions and triggers move. Owner, organization and skill never change. A trigger also checks the skill of a new
-- habit.
grant execute on function private.assert_habits_row to authenticated, service_role, kijko_server, kijko_worker;
grant select, delete on public.habits to authenticated;
grant insert (user_id, organization_id, skill_id, schedule_cron, schedule_description, timezone, config, is_active) on public.habits
  to authenticated;
grant update (schedule_cron, schedule_description, timezone, config, is_active) on public.habits to authenticated;
create policy select_own on public.habits for select to authenticated using (user_id = (select private.user_id()));
create policy insert_own on public.habits for insert to authenticated
  with check (user_id = (select private.user_id()) and organization_id = (select private.org_id())
    and exists (select from public.skills s where s.id = skill_id));
create policy update_own on public.habits for update to authenticated
  using (user_id = (select private.user_id())) with check (user_id = (select private.user_id()));
create policy delete_own on public.habits for delete to authenticated using (user_id = (select private.user_id()));
