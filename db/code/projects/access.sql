-- Who sees and writes which rows of projects (contract 10, sections 5 and 21.5). The sets are read once a statement; a child row looks up
-- its project by primary key, under the project's own policy.

-- projects: a caller sees the shared ones of the organization (its owners and admins see all of them), and those in which they are an
-- accepted member.
grant select on public.projects to authenticated;
grant insert (id, organization_id, user_id, name, description, type, privacy, chunking_strategy, include_metadata, anonymize_secrets, icon,
  label, color, preview_url, archived) on public.projects to authenticated;
-- Not granted: status and counters (ingestion and triggers write them), organization_id and user_id (a function moves ownership).
grant update (name, description, type, privacy, chunking_strategy, include_metadata, anonymize_secrets, icon, label, color, preview_url,
  archived) on public.projects to authenticated;
grant delete on public.projects to authenticated;

create policy select_visible on public.projects for select to authenticated using (
  (organization_id = (select private.org_id())
    and (privacy = 'shared' or user_id = (select private.user_id()) or (select private.is_org_admin())))
  or id = any ((select private.member_project_ids())::uuid[]));
create policy insert_member on public.projects for insert to authenticated with check (
  organization_id = (select private.org_id()) and user_id = (select private.user_id()) and (select private.org_role()) <> 'viewer');
create policy update_admin on public.projects for update to authenticated
  using (private.has_project_role(id, 'admin')) with check (private.has_project_role(id, 'admin'));
create policy delete_admin on public.projects for delete to authenticated using (private.has_project_role(id, 'admin'));

-- project_members: seen by every caller who sees the project. New rows are pending: a function writes the acceptance.
grant select on public.project_members to authenticated;
grant insert (organization_id, project_id, email, name, role, notify_on_ingestion, notify_on_error, notify_on_team_changes,
  notification_level) on public.project_members to authenticated;
grant update (role, notify_on_ingestion, notify_on_error, notify_on_team_changes) on public.project_members to authenticated;
grant delete on public.project_members to authenticated;
create policy select_visible on public.project_members for select to authenticated
  using (exists (select from public.projects p where p.id = project_id));
create policy insert_manager on public.project_members for insert to authenticated with check (private.has_project_role(project_id, 'manager'));
create policy update_self_or_manager on public.project_members for update to authenticated
  using (user_id = (select private.user_id()) or private.has_project_role(project_id, 'manager'));
create policy delete_manager on public.project_members for delete to authenticated using (private.has_project_role(project_id, 'manager'));

-- project_stars: a caller's own, on projects that they see.
grant select, insert (user_id, project_id, organization_id), delete on public.project_stars to authenticated;
create policy select_own on public.project_stars for select to authenticated using (user_id = (select private.user_id()));
create policy insert_own on public.project_stars for insert to authenticated
  with check (user_id = (select private.user_id()) and exists (select from public.projects p where p.id = project_id));
create policy delete_own on public.project_stars for delete to authenticated using (user_id = (select private.user_id()));

-- Content: not for auditors. Admins write settings (the trigger leaves managers the notification level); developers write everything else.
grant select, update (webhook_url, metadata_options, output_format, embedding_model, pattern_filters, processing_options, file_filters,
  default_notification_level, persona, custom_settings) on public.project_settings to authenticated;
create policy select_reader on public.project_settings for select to authenticated
  using (exists (select from public.projects p where p.id = project_id)
    and project_id <> all ((select private.auditor_project_ids())::uuid[]));
create policy update_manager on public.project_settings for update to authenticated using (private.has_project_role(project_id, 'manager'));

grant select, insert (organization_id, project_id, content), update (content), delete on public.project_manual_contents to authenticated;
create policy select_reader on public.project_manual_contents for select to authenticated
  using (exists (select from public.projects p where p.id = project_id)
    and project_id <> all ((select private.auditor_project_ids())::uuid[]));
create policy insert_developer on public.project_manual_contents for insert to authenticated with check (private.has_project_role(project_id, 'developer'));
create policy update_developer on public.project_manual_contents for update to authenticated using (private.has_project_role(project_id, 'developer'));
create policy delete_developer on public.project_manual_contents for delete to authenticated using (private.has_project_role(project_id, 'developer'));

grant select, insert (organization_id, project_id, provider, repository_url, repository_name, branch, include_paths, exclude_paths),
  update (branch, include_paths, exclude_paths), delete on public.project_repositories to authenticated;
create policy select_reader on public.project_repositories for select to authenticated
  using (exists (select from public.projects p where p.id = project_id)
    and project_id <> all ((select private.auditor_project_ids())::uuid[]));
create policy insert_developer on public.project_repositories for insert to authenticated with check (private.has_project_role(project_id, 'developer'));
create policy update_developer on public.project_repositories for update to authenticated using (private.has_project_role(project_id, 'developer'));
create policy delete_developer on public.project_repositories for delete to authenticated using (private.has_project_role(project_id, 'developer'));

-- project_files: people make folders, rename, move and delete; content comes in through api.register_uploads alone. Storage keys are not
-- readable.
grant select (id, organization_id, project_id, parent_id, repository_id, uploaded_by, origin, is_folder, name, path, position, mime_type,
  size, checksum, processed, processed_at, created_at, updated_at) on public.project_files to authenticated;
grant insert (organization_id, project_id, parent_id, uploaded_by, is_folder, name, path, position, mime_type),
  update (name, parent_id, position), delete on public.project_files to authenticated;
create policy select_reader on public.project_files for select to authenticated
  using (exists (select from public.projects p where p.id = project_id)
    and project_id <> all ((select private.auditor_project_ids())::uuid[]));
create policy insert_developer on public.project_files for insert to authenticated
  with check (is_folder and uploaded_by = (select private.user_id()) and private.has_project_role(project_id, 'developer'));
create policy update_developer on public.project_files for update to authenticated
  using (origin <> 'repository' and private.has_project_role(project_id, 'developer'));
create policy delete_developer on public.project_files for delete to authenticated
  using (origin <> 'repository' and private.has_project_role(project_id, 'developer'));

-- staged_files: a caller's own; written by functions only.
grant select (id, organization_id, user_id, name, path, mime_type, size, checksum, created_at) on public.staged_files to authenticated;
create policy select_own on public.staged_files for select to authenticated using (user_id = (select private.user_id()));

-- project_activity: all entries for owner, admin, manager and auditor; their own entries for other members. No role writes.
grant select on public.project_activity to authenticated;
create policy select_overseer on public.project_activity for select to authenticated
  using ((organization_id = (select private.org_id()) and (select private.is_org_admin()))
    or project_id = any ((select private.overseen_project_ids())::uuid[])
    or (user_id = (select private.user_id()) and exists (select from public.projects p where p.id = project_id)));
