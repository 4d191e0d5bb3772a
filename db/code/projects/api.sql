-- Projects: create, read, change, delete, list, numbers (contract 10, section 6).

create or replace function api.create_project(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  b jsonb := p -> 'body';
  v_id uuid := coalesce(private.as_uuid(b ->> 'id'), gen_random_uuid());
  v_settings jsonb;
  v_name text;
  v_stored boolean := false;
  v_project jsonb;
  n public.projects;
begin
  if b ? 'organizationId' then
    perform private.act_in(private.as_uuid(b ->> 'organizationId'));
  end if;
  if private.org_role() = 'viewer' then
    perform private.refuse(403, 'FORBIDDEN', 'Viewers of an organization cannot create projects.');
  end if;
  v_name := private.assert_project_name(private.org_id(), b ->> 'name');
  if b ? 'id' and private.project_id_taken(v_id) then
    perform private.refuse(409, 'ID_EXISTS', 'This id is already in use.', 'id');
  end if;

  -- Custom chunking waits for its webhook, a few lines below.
  insert into public.projects (id, organization_id, user_id, name, description, type, privacy, chunking_strategy, include_metadata,
    anonymize_secrets, icon, label, color)
  values (v_id, private.org_id(), private.user_id(), v_name, nullif(b ->> 'description', ''), coalesce(b ->> 'type', 'manual'),
    coalesce(b ->> 'privacy', 'private'),
    coalesce(nullif(b ->> 'chunkingStrategy', 'custom'), 'semantic'), coalesce(private.as_bool(b -> 'includeMetadata', 'includeMetadata'), true),
    coalesce(private.as_bool(b -> 'anonymizeSecrets', 'anonymizeSecrets'), true), nullif(b -> 'icon', 'null'), nullif(btrim(b ->> 'label'), ''),
    nullif(b ->> 'color', ''))
  returning * into n;
  -- No member has starred or opened it yet, so no row has to be read.
  v_project := private.project_view_json(n, n.user_id, null, false, null);

  v_settings := coalesce(b -> 'settings', '{}') || jsonb_strip_nulls(jsonb_build_object('persona', b -> 'persona',
    'defaultNotificationLevel', b -> 'defaultNotificationLevel', 'fileFilters', b -> 'fileFilters',
    'chunkingStrategy', b -> 'chunkingStrategy'));
  if v_settings <> '{}' then
    v_project := null;
    v_stored := private.apply_settings(v_id, v_settings, p ->> 'sealedWebhookSecret', 'settings.');
  end if;
  if b ->> 'manualContent' <> '' then
    v_project := null;
    perform private.apply_manual_content(v_id, b ->> 'manualContent', 'manualContent');
  end if;
  return jsonb_build_object('project', coalesce(v_project, private.visible_project_json(v_id)),
    'nextSteps', '["source_config", "team_setup", "settings", "review"]'::jsonb)
    || case when v_stored then jsonb_build_object('webhookSecret', p ->> 'sealedWebhookSecret') else '{}' end;
end
$$;
comment on function api.create_project is
  'POST /projects: {project, nextSteps}. Errors: 400, 403 FORBIDDEN, 409 PROJECT_NAME_EXISTS, ID_EXISTS.';
grant execute on function api.create_project to authenticated;

create or replace function api.get_project(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project jsonb := private.visible_project_json(private.as_uuid(p ->> 'projectId'));
begin
  if v_project is null then
    perform private.refuse(404, 'PROJECT_NOT_FOUND', 'This project does not exist.');
  end if;
  return v_project;
end
$$;
comment on function api.get_project is 'GET /projects/{projectId}: Project. Errors: 404 PROJECT_NOT_FOUND.';
grant execute on function api.get_project to authenticated;

create or replace function api.get_project_full(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project jsonb := api.get_project(p);
  v_id uuid := private.as_uuid(p ->> 'projectId');
begin
  return v_project || jsonb_strip_nulls(jsonb_build_object(
    'repositories', (select coalesce(jsonb_agg(private.repository_json(r) order by r.created_at, r.id), '[]')
      from public.project_repositories r where r.project_id = v_id),
    'members', (select coalesce(jsonb_agg(private.member_json(m) order by m.invited_at, m.id), '[]')
      from public.project_members m where m.project_id = v_id),
    'currentIngestion', nullif(private.current_progress_json(v_id), 'null')));
end
$$;
comment on function api.get_project_full is
  'GET /projects/{projectId}/full: ProjectWithRelations; an auditor gets no repositories. Errors: 404 PROJECT_NOT_FOUND.';
grant execute on function api.get_project_full to authenticated;

create or replace function private.refuse_read_only(p_body jsonb, p_project public.projects) returns void
language plpgsql stable
as $$
declare
  v_key text;
  v_is jsonb := jsonb_build_object('status', p_project.status, 'organizationId', p_project.organization_id, 'userId', p_project.user_id,
    'id', p_project.id, 'createdAt', private.iso(p_project.created_at));
begin
  for v_key in select k from unnest(array['status', 'organizationId', 'userId', 'id', 'createdAt']) k where p_body ? k loop
    if p_body -> v_key <> v_is -> v_key then
      perform private.refuse(400, 'READ_ONLY_FIELD', format('%s cannot be changed.', v_key), v_key);
    end if;
  end loop;
end
$$;
comment on function private.refuse_read_only is '400 READ_ONLY_FIELD where a protected field has another value; equal ones are ignored.';

create or replace function private.set_star(p_project public.projects, p_starred boolean) returns void
language plpgsql volatile
as $$
begin
  if p_starred then
    insert into public.project_stars (user_id, project_id, organization_id)
    values (private.user_id(), p_project.id, p_project.organization_id) on conflict do nothing;
  else
    delete from public.project_stars where user_id = private.user_id() and project_id = p_project.id;
  end if;
end
$$;
comment on function private.set_star is 'Stars or unstars a project for the caller.';
grant execute on function private.refuse_read_only, private.set_star to authenticated;

-- Clients send whole objects in the body: counters are ignored, protected fields must be equal, and only a real difference needs the right
-- to edit. So every member who sees a project can star it, with any other members unchanged.
create or replace function api.update_project(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  b jsonb := p -> 'body';
  v_id uuid := private.path_project(p);
  o public.projects;
  n public.projects;
begin
  select * into o from public.projects where id = v_id;
  perform private.refuse_read_only(b, o);
  n := o;
  n.name := case when b ? 'name' then private.trimmed(b ->> 'name') else o.name end;
  n.description := private.patched_text(b, 'description', o.description);
  n.type := coalesce(b ->> 'type', o.type);
  n.privacy := coalesce(b ->> 'privacy', o.privacy);
  n.chunking_strategy := coalesce(b ->> 'chunkingStrategy', o.chunking_strategy);
  n.include_metadata := coalesce(private.as_bool(b -> 'includeMetadata', 'includeMetadata'), o.include_metadata);
  n.anonymize_secrets := coalesce(private.as_bool(b -> 'anonymizeSecrets', 'anonymizeSecrets'), o.anonymize_secrets);
  n.icon := case when b ? 'icon' then nullif(b -> 'icon', 'null') else o.icon end;
  n.label := private.patched_text(b, 'label', o.label);
  n.color := private.patched_text(b, 'color', o.color);
  n.preview_url := private.patched_text(b, 'previewUrl', o.preview_url);
  n.archived := coalesce(private.as_bool(b -> 'archived', 'archived'), o.archived);
  -- Initials that are the name's own are not stored, so they follow the name.
  if n.icon in (private.initials_icon(o.name), private.initials_icon(n.name)) then
    n.icon := null;
  end if;

  if b ? 'starred' then
    perform private.set_star(o, coalesce(private.as_bool(b -> 'starred', 'starred'), false));
  end if;
  if n is distinct from o or (b ? 'name' and n.name is null) then
    perform private.assert_project_role(v_id, 'admin');
    if n.name is distinct from o.name then
      perform private.assert_project_name(o.organization_id, n.name, v_id);
    end if;
    update public.projects
    set name = n.name, description = n.description, type = n.type, privacy = n.privacy, chunking_strategy = n.chunking_strategy,
      include_metadata = n.include_metadata, anonymize_secrets = n.anonymize_secrets, icon = n.icon, label = n.label, color = n.color,
      preview_url = n.preview_url, archived = n.archived
    where id = v_id;
  end if;
  return private.visible_project_json(v_id);
end
$$;
comment on function api.update_project is
  'PUT /projects/{projectId}: Project. Errors: 400 READ_ONLY_FIELD, 403, 404, 409 PROJECT_NAME_EXISTS, ALREADY_PROCESSING, INVALID_STATUS.';
grant execute on function api.update_project to authenticated;

create or replace function api.delete_project(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_id uuid := private.path_project(p, 'admin');
begin
  perform private.cancel_before_deletion(v_id);
  delete from public.projects where id = v_id;
  if not found then
    perform private.refuse(404, 'PROJECT_NOT_FOUND', 'This project does not exist.');
  end if;
  return '{"success": true}';
end
$$;
comment on function api.delete_project is 'DELETE /projects/{projectId}: {success}; an active run is cancelled first. Errors: 403, 404.';
grant execute on function api.delete_project to authenticated;
