-- Access to skills (contract 20, 16.1). No role of an organization matters here: a skill belongs to its owner. Not granted: counters, owner
-- and id, and is_public, which only functions set.
grant execute on function private.assert_skills_row, private.folded, private.stripped to authenticated, service_role, kijko_server, kijko_worker;
grant select, delete on public.skills to authenticated;
grant insert (user_id, organization_id, name, description, category, prompt_template, model, parameters, input_schema, output_format,
  is_active) on public.skills to authenticated;
grant update (name, description, category, prompt_template, model, parameters, input_schema, output_format, is_active) on public.skills
  to authenticated;
create policy select_visible on public.skills for select to authenticated
  using (user_id = (select private.user_id()) or (is_public and is_active));
create policy insert_own on public.skills for insert to authenticated
  with check (user_id = (select private.user_id()) and organization_id = (select private.org_id()));
create policy update_own on public.skills for update to authenticated
  using (user_id = (select private.user_id())) with check (user_id = (select private.user_id()));
create policy delete_own on public.skills for delete to authenticated using (user_id = (select private.user_id()));

-- A caller's own stars, on skills that they see; the skill holds their number.
grant select, insert (user_id, skill_id), delete on public.skill_stars to authenticated;
create policy select_own on public.skill_stars for select to authenticated using (user_id = (select private.user_id()));
create policy insert_own on public.skill_stars for insert to authenticated
  with check (user_id = (select private.user_id()) and exists (select from public.skills s where s.id = skill_id));
create policy delete_own on public.skill_stars for delete to authenticated using (user_id = (select private.user_id()));

-- Ratings of public skills of another owner.
grant select, insert (user_id, skill_id, rating), update (rating) on public.skill_ratings to authenticated;
create policy select_own on public.skill_ratings for select to authenticated using (user_id = (select private.user_id()));
create policy insert_own on public.skill_ratings for insert to authenticated
  with check (user_id = (select private.user_id())
    and exists (select from public.skills s where s.id = skill_id and s.is_public and s.user_id <> (select private.user_id())));
create policy update_own on public.skill_ratings for update to authenticated
  using (user_id = (select private.user_id()) and exists (select from public.skills s where s.id = skill_id and s.is_public));

-- Read with the skill, written by its owner.
grant select, insert (skill_id, dependencies, trigger, scope, tags, scope_selection), update (dependencies, trigger, scope, tags,
  scope_selection) on public.skill_playbooks to authenticated;
create policy select_visible on public.skill_playbooks for select to authenticated
  using (exists (select from public.skills s where s.id = skill_id));
create policy insert_owner on public.skill_playbooks for insert to authenticated
  with check (exists (select from public.skills s where s.id = skill_id and s.user_id = (select private.user_id())));
create policy update_owner on public.skill_playbooks for update to authenticated
  using (exists (select from public.skills s where s.id = skill_id and s.user_id = (select private.user_id())));
