-- Access to reflexes (contract 20, 16.1): their owner, whatever the role. Skill, type and owner are set once; only functions write
-- counters. The trigger checks for every writer whether the skill is visible.
grant select, delete on public.reflexes to authenticated;
grant insert (user_id, organization_id, skill_id, trigger_type, trigger_config, conditions, is_active) on public.reflexes to authenticated;
grant update (trigger_config, conditions, is_active) on public.reflexes to authenticated;
create policy select_own on public.reflexes for select to authenticated using (user_id = (select private.user_id()));
create policy insert_own on public.reflexes for insert to authenticated
  with check (user_id = (select private.user_id()) and organization_id = (select private.org_id()));
create policy update_own on public.reflexes for update to authenticated
  using (user_id = (select private.user_id())) with check (user_id = (select private.user_id()));
create policy delete_own on public.reflexes for delete to authenticated using (user_id = (select private.user_id()));
