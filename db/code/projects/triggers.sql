-- The rules of projects for every writer. Guards of people's rights check request roles only (current_user is the request role exactly
-- while a person's own statement runs; definer functions of ours have authorized the caller already). State machines check every writer.

create or replace function private.is_request() returns boolean
language sql stable parallel safe
return current_user in ('authenticated', 'anon', 'service_role');
comment on function private.is_request is 'Is a person''s own statement running, rather than a function of ours?';
grant execute on function private.is_request to anon, authenticated, service_role;

-- -------------------------------------------------------------------------------------------------------------------- projects

create or replace function private.tg_projects__guard() returns trigger
language plpgsql volatile
as $$
begin
  if tg_op = 'INSERT' then
    if new.status <> 'draft' then
      perform private.refuse(409, 'INVALID_STATUS', 'A new project is a draft.', 'status');
    elsif new.chunking_strategy = 'custom' then
      perform private.refuse_field('settings.webhookUrl', 'Custom chunking needs a webhook URL.');
    end if;
    return new;
  end if;

  if new.id <> old.id or new.organization_id <> old.organization_id or new.created_at <> old.created_at then
    perform private.refuse(400, 'READ_ONLY_FIELD', 'A project keeps its id and its organization.', 'organizationId');
  end if;
  if new.status <> old.status and (old.status, new.status) not in (('draft', 'processing'), ('active', 'processing'), ('error', 'processing'),
    ('processing', 'active'), ('processing', 'error'), ('processing', 'draft')) then
    perform private.refuse(409, 'INVALID_STATUS', format('A project cannot go from %s to %s.', old.status, new.status), 'status',
      jsonb_build_object('status', old.status));
  end if;
  if new.type <> old.type and old.status <> 'draft' then
    perform private.refuse(409, 'INVALID_STATUS', 'The type can be changed only while the project is a draft.', 'type',
      jsonb_build_object('status', old.status));
  end if;
  if old.status = 'processing' and private.is_request()
    and (new.chunking_strategy, new.include_metadata, new.anonymize_secrets)
      is distinct from (old.chunking_strategy, old.include_metadata, old.anonymize_secrets) then
    perform private.refuse(409, 'ALREADY_PROCESSING', 'This project is being ingested; what affects the run cannot be changed now.');
  end if;
  if new.chunking_strategy = 'custom' and old.chunking_strategy <> 'custom'
    and not exists (select from public.project_settings s where s.project_id = new.id and s.webhook_url is not null) then
    perform private.refuse_field('chunkingStrategy', 'Custom chunking needs a webhook URL in the settings.');
  end if;
  return new;
end
$$;
comment on function private.tg_projects__guard is 'Trigger: status machine, immutable fields, type only while draft, run settings only while none runs.';
create or replace trigger _200_guard before insert or update on public.projects for each row execute function private.tg_projects__guard();
-- Without a condition: a generated column makes it impossible to compare whole rows here, and no statement writes a project without a
-- change.
create or replace trigger _100_touch before update on public.projects for each row execute function private.tg__touch();

-- A run has to be canceled first; api.delete_project cancels it.
create or replace function private.tg_projects__no_run_left() returns trigger
language plpgsql volatile
as $$
begin
  if old.status = 'processing' and private.is_request() then
    perform private.refuse(409, 'ALREADY_PROCESSING', 'This project is being ingested. Cancel the run first.');
  end if;
  return old;
end
$$;
comment on function private.tg_projects__no_run_left is 'Trigger: people cannot delete a project while it is being ingested.';
create or replace trigger _200_no_run_left before delete on public.projects
  for each row execute function private.tg_projects__no_run_left();

-- Creates the rows that every new project has.
create or replace function private.tg_projects__equip() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_worktree uuid := gen_random_uuid();
begin
  with settings as (
    insert into public.project_settings (project_id, organization_id) values (new.id, new.organization_id)
  ), worktree as (
    insert into public.worktrees (id, organization_id, project_id, name, path, is_default, is_active)
    values (v_worktree, new.organization_id, new.id, 'Main', '/main', true, true)
  ), branch as (
    insert into public.worktree_branches (organization_id, project_id, worktree_id, name, is_default, is_current)
    values (new.organization_id, new.id, v_worktree, 'main', true, true)
  )
  insert into public.project_members (organization_id, project_id, user_id, email, name, avatar_url, role, notification_level, invited_at,
    accepted_at, created_at)
  select new.organization_id, new.id, u.id, u.email, nullif(left(btrim(u.first_name || ' ' || u.last_name), 100), ''), u.avatar_url,
    'admin', 'daily', now(), now(), now()
  from public.users u where u.id = new.user_id;
  return null;
end
$$;
comment on function private.tg_projects__equip is 'Trigger: owner membership, default settings and the worktree Main.';
create or replace trigger _500_equip after insert on public.projects for each row execute function private.tg_projects__equip();

-- Takes any slot that no transaction holds right now; where all are held a new one is opened, so writers of one organization never wait for
-- one another.
create or replace function private.count_project(p public.projects, p_by integer) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_slots constant integer := 64;
begin
  update private.project_counters c
  set projects = c.projects + p_by, active = c.active + p_by * (p.status = 'active')::integer,
    processing = c.processing + p_by * (p.status = 'processing')::integer, failed = c.failed + p_by * (p.status = 'error')::integer,
    tokens = c.tokens + p_by * coalesce(p.optimized_tokens, 0), files = c.files + p_by * coalesce(p.total_files, p.uploaded_files)
  where c.organization_id = p.organization_id and c.privacy = p.privacy
    -- By key: the locked row may be newer than the one that this statement sees.
    and c.slot = (select f.slot from private.project_counters f
      where f.organization_id = p.organization_id and f.privacy = p.privacy limit 1 for no key update skip locked);
  if found then
    return;
  end if;
  insert into private.project_counters as c (organization_id, privacy, slot, projects, active, processing, failed, tokens, files)
  select p.organization_id, p.privacy,
    -- Spread at random, because writers that meet here would open the same next slot.
    case when s.held = 0 then 0 else floor(random() * c_slots) end, p_by, p_by * (p.status = 'active')::integer,
    p_by * (p.status = 'processing')::integer, p_by * (p.status = 'error')::integer, p_by * coalesce(p.optimized_tokens, 0),
    p_by * coalesce(p.total_files, p.uploaded_files)
  from (select count(*) as held from private.project_counters o where o.organization_id = p.organization_id and o.privacy = p.privacy) s
  where exists (select from public.organizations o where o.id = p.organization_id)
  on conflict (organization_id, privacy, slot) do update
    set projects = c.projects + excluded.projects, active = c.active + excluded.active, processing = c.processing + excluded.processing,
      failed = c.failed + excluded.failed, tokens = c.tokens + excluded.tokens, files = c.files + excluded.files;
end
$$;
comment on function private.count_project is 'Adds a project to the kept numbers, or takes it away. Authorization: callable by triggers of ours only.';

create or replace function private.tg_projects__count() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_void text;
begin
  if tg_op <> 'INSERT' then
    v_void := private.count_project(old, -1);
  end if;
  if tg_op <> 'DELETE' then
    v_void := private.count_project(new, 1);
  end if;
  return null;
end
$$;
comment on function private.tg_projects__count is 'Trigger: the kept numbers of private.project_counters.';
create or replace trigger _800_count after insert or delete on public.projects for each row execute function private.tg_projects__count();
create or replace trigger _800_count_change after update on public.projects for each row
  when ((old.status, old.privacy, old.optimized_tokens, old.total_files, old.uploaded_files)
    is distinct from (new.status, new.privacy, new.optimized_tokens, new.total_files, new.uploaded_files))
  execute function private.tg_projects__count();

-- Audit, activity and events of a project's own row.
create or replace function private.project_fields(p_old jsonb, p_new jsonb) returns text[]
language sql immutable parallel safe
return (
  select array_agg(f.name order by f.ord)
  from unnest(array['name', 'description', 'type', 'status', 'privacy', 'chunking_strategy', 'include_metadata', 'anonymize_secrets', 'icon',
      'label', 'color', 'preview_url', 'archived', 'user_id', 'source_count', 'total_repos', 'total_files', 'uploaded_files',
      'original_tokens', 'optimized_tokens', 'ingestion_time_seconds'],
    array['name', 'description', 'type', 'status', 'privacy', 'chunkingStrategy', 'includeMetadata', 'anonymizeSecrets', 'icon',
      'label', 'color', 'previewUrl', 'archived', 'userId', 'sourceCount', 'totalRepos', 'totalFiles', 'totalFiles',
      'originalTokens', 'optimizedTokens', 'ingestionTimeSeconds']) with ordinality f (col, name, ord)
  where p_old -> f.col is distinct from p_new -> f.col
);
comment on function private.project_fields is 'camelCase names of the fields that differ, for events.';

create or replace function private.emit_change(
  p_resource text, p_id uuid, p_operation text, p_org_id uuid, p_project_id uuid, p_fields text[] default null
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_data jsonb := jsonb_strip_nulls(jsonb_build_object('resource', p_resource, 'id', p_id, 'operation', p_operation,
    'changedFields', to_jsonb(p_fields), 'updatedAt', private.iso(now())));
  -- Assignments cost half of what PERFORM does.
  v_void text;
begin
  if p_resource = 'project' then
    v_void := private.emit('org:' || p_org_id, 'resource_changed', v_data, p_org_id, p_project_id, 'project', p_resource, p_id);
  end if;
  v_void := private.emit('project:' || p_project_id, 'resource_changed', v_data, p_org_id, p_project_id, 'room', p_resource, p_id);
end
$$;
comment on function private.emit_change is 'resource_changed of something in a project. Authorization: callable by triggers of ours only.';

create or replace function private.tg_projects__tell() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_fields text[];
  v_changes jsonb;
  v_void text;
begin
  if tg_op = 'INSERT' then
    v_void := private.audit('context.created', format('Created project "%s".', new.name),
      jsonb_build_object('contextId', new.id, 'contextName', new.name, 'contextType', new.type), null, new.organization_id);
    v_void := private.record_activity(new.id, 'config', 'created the project');
    v_void := private.emit_change('project', new.id, 'created', new.organization_id, new.id);
    return null;
  end if;

  v_changes := private.audit_changes(to_jsonb(old), to_jsonb(new), array['name', 'description', 'type', 'privacy', 'chunking_strategy',
    'include_metadata', 'anonymize_secrets', 'icon', 'label', 'color', 'preview_url', 'archived', 'user_id']);
  if v_changes is not null then
    perform private.audit('context.updated', format('Changed project "%s".', new.name),
      jsonb_build_object('contextId', new.id, 'contextName', new.name, 'contextType', new.type), v_changes, new.organization_id);
    if new.name <> old.name then
      perform private.record_activity(new.id, 'config', 'renamed the context to ' || new.name, jsonb_build_object('oldName', old.name, 'newName', new.name));
    end if;
    if new.archived <> old.archived then
      perform private.record_activity(new.id, 'config', case when new.archived then 'archived the project' else 'restored the project' end);
    end if;
    if private.audit_changes(to_jsonb(old), to_jsonb(new), array['description', 'type', 'privacy', 'chunking_strategy', 'include_metadata',
      'anonymize_secrets', 'icon', 'label', 'color', 'preview_url']) is not null then
      perform private.record_activity(new.id, 'config', 'updated project settings');
    end if;
  end if;

  v_fields := private.project_fields(to_jsonb(old), to_jsonb(new));
  if v_fields is not null then
    perform private.emit_change('project', new.id, 'updated', new.organization_id, new.id, v_fields);
  end if;
  if new.privacy = 'private' and old.privacy = 'shared' then
    perform private.emit_removal('project_hidden', new.organization_id, new.id, null, null);
  end if;
  return null;
end
$$;
comment on function private.tg_projects__tell is 'Trigger: audit, activity and events of a new or changed project.';
create or replace trigger _900_notify after insert on public.projects for each row execute function private.tg_projects__tell();
create or replace trigger _900_notify_change after update on public.projects for each row
  when (old.* is distinct from new.*) execute function private.tg_projects__tell();

-- Before the deletion, because afterwards no row shows who saw the project.
create or replace function private.tg_projects__notify_delete() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_users uuid[];
  v_data jsonb := jsonb_build_object('resource', 'project', 'id', old.id, 'operation', 'deleted', 'updatedAt', private.iso(now()));
begin
  if exists (select from public.organizations o where o.id = old.organization_id) then
    select array_agg(distinct u.id) into v_users
    from (
      select m.user_id from public.memberships m
      where m.organization_id = old.organization_id and m.status = 'active' and (old.privacy = 'shared' or m.role in ('owner', 'admin'))
      union select m.user_id from public.project_members m where m.project_id = old.id and m.accepted_at is not null
    ) u (id);
    perform private.emit('org:' || old.organization_id, 'resource_changed', v_data, old.organization_id, old.id, 'users', 'project', old.id,
      null, v_users);
    perform private.emit('project:' || old.id, 'resource_changed', v_data, old.organization_id, old.id, 'users', 'project', old.id,
      null, v_users);
    perform private.emit_removal('project_deleted', old.organization_id, old.id, null, null);
    perform private.audit('context.deleted', format('Deleted project "%s".', old.name),
      jsonb_build_object('contextId', old.id, 'contextName', old.name, 'contextType', old.type), null, old.organization_id);
  end if;
  return old;
end
$$;
comment on function private.tg_projects__notify_delete is 'Trigger: audit and events of a deleted project, for the users who could see it.';
create or replace trigger _900_notify_delete before delete on public.projects for each row execute function private.tg_projects__notify_delete();

-- Any change of its sources, people or settings moves a project's updated_at.
create or replace function private.touch_parent(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.projects set updated_at = now() where id = p_project_id and updated_at < now();
end
$$;
comment on function private.touch_parent is 'Moves updated_at of a project. Authorization: callable by triggers of ours only.';

-- -------------------------------------------------------------------------------------------------------- settings, manual text

create or replace function private.tg_project_settings__guard() returns trigger
language plpgsql volatile
as $$
declare
  v_status text;
  v_strategy text;
begin
  select p.status, p.chunking_strategy into v_status, v_strategy from public.projects p where p.id = new.project_id;
  if v_status = 'processing' and private.is_request()
    and (new.webhook_url, new.metadata_options, new.output_format, new.embedding_model, new.pattern_filters,
        new.processing_options - 'realTimeIncremental', new.file_filters, new.custom_settings)
      is distinct from (old.webhook_url, old.metadata_options, old.output_format, old.embedding_model, old.pattern_filters,
        old.processing_options - 'realTimeIncremental', old.file_filters, old.custom_settings) then
    perform private.refuse(409, 'ALREADY_PROCESSING', 'This project is being ingested; what affects the run cannot be changed now.');
  end if;
  if v_strategy = 'custom' and new.webhook_url is null then
    perform private.refuse_field('webhookUrl', 'Custom chunking needs a webhook URL.');
  end if;
  -- A manager may change the level and nothing else.
  if private.is_request() and not private.has_project_role(new.project_id, 'admin')
    and to_jsonb(new) - array['default_notification_level', 'updated_at'] <> to_jsonb(old) - array['default_notification_level', 'updated_at'] then
    perform private.refuse(403, 'FORBIDDEN', 'Your role in this project allows to change the notification level only.');
  end if;
  return new;
end
$$;
comment on function private.tg_project_settings__guard is 'Trigger: no change that affects an active run, custom chunking keeps its webhook, managers change the level only.';
create or replace trigger _200_guard before update on public.project_settings
  for each row when (old.* is distinct from new.*) execute function private.tg_project_settings__guard();
create or replace trigger _100_touch before update on public.project_settings
  for each row when (old.* is distinct from new.*) execute function private.tg__touch();

create or replace function private.tg_project_settings__tell() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- Without the webhook's address, which may hold a secret: only the name of the field reports that it changed.
  perform private.audit('context.updated', format('Changed settings of project "%s".', p.name),
    jsonb_build_object('contextId', p.id, 'contextName', p.name, 'contextType', p.type),
    nullif(coalesce(private.audit_changes(to_jsonb(old), to_jsonb(new), array['metadata_options', 'output_format', 'embedding_model',
        'pattern_filters', 'processing_options', 'file_filters', 'default_notification_level', 'persona', 'custom_settings']), '[]')
      || case when old.webhook_url is not distinct from new.webhook_url then '[]'
        else '[{"field": "webhookUrl", "oldValue": null, "newValue": null}]'::jsonb end, '[]'), new.organization_id)
  from public.projects p where p.id = new.project_id;
  perform private.touch_parent(new.project_id);
  perform private.record_activity(new.project_id, 'config', 'updated project settings');
  perform private.emit_change('project', new.project_id, 'updated', new.organization_id, new.project_id, array['settings']);
  return null;
end
$$;
comment on function private.tg_project_settings__tell is 'Trigger: changed settings move the project, with activity and event.';
create or replace trigger _900_notify after update on public.project_settings
  for each row when (old.* is distinct from new.*) execute function private.tg_project_settings__tell();

create or replace function private.tg_project_manual_contents__count() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.projects set has_manual_content = tg_op <> 'DELETE', updated_at = now()
  where id = coalesce(new.project_id, old.project_id);
  if found then
    if tg_op <> 'UPDATE' then
      perform private.record_activity(coalesce(new.project_id, old.project_id), 'ingestion',
        case tg_op when 'DELETE' then 'removed ' else 'added ' end || 'the manual text');
    end if;
    perform private.emit_change('project', coalesce(new.project_id, old.project_id), 'updated',
      coalesce(new.organization_id, old.organization_id), coalesce(new.project_id, old.project_id), array['manualContent']);
  end if;
  return null;
end
$$;
comment on function private.tg_project_manual_contents__count is 'Trigger: the manual text counts as a source.';
create or replace trigger _800_count after insert or delete on public.project_manual_contents
  for each row execute function private.tg_project_manual_contents__count();
create or replace trigger _800_count_change after update on public.project_manual_contents
  for each row when (old.content <> new.content) execute function private.tg_project_manual_contents__count();
create or replace trigger _100_touch before update on public.project_manual_contents
  for each row when (old.* is distinct from new.*) execute function private.tg__touch();

-- ---------------------------------------------------------------------------------------------------------------- repositories

create or replace function private.tg_project_repositories__guard() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    -- Serializes the count.
    perform from public.projects p where p.id = new.project_id for no key update;
    if (select count(*) from public.project_repositories r where r.project_id = new.project_id) >= 100 then
      perform private.refuse_field('repositoryUrl', 'A project holds at most 100 repositories.');
    end if;
    return new;
  end if;
  if new.status <> old.status and new.status <> 'pending' and (old.status, new.status) not in (('pending', 'syncing'), ('connected', 'syncing'),
    ('error', 'syncing'), ('syncing', 'connected'), ('syncing', 'error')) then
    perform private.refuse(409, 'INVALID_STATUS', format('A repository cannot go from %s to %s.', old.status, new.status), 'status');
  end if;
  if new.status = 'syncing' and old.status <> 'syncing' then
    new.status_before_sync := old.status;
  end if;
  return new;
end
$$;
comment on function private.tg_project_repositories__guard is 'Trigger: at most 100 a project; the states of a fetch.';
create or replace trigger _200_guard before insert or update of status on public.project_repositories
  for each row execute function private.tg_project_repositories__guard();
create or replace trigger _100_touch before update on public.project_repositories
  for each row when (old.* is distinct from new.*) execute function private.tg__touch();

-- Changes by people: only while no run is active, and a newly chosen branch has to be fetched again.
create or replace function private.tg_project_repositories__request() returns trigger
language plpgsql volatile
as $$
declare
  v record;
begin
  if not private.is_request() then
    return coalesce(new, old);
  end if;
  if tg_op = 'INSERT' then
    select * into v from private.parse_repository_url(new.repository_url);
    if v.provider is null or v.provider <> new.provider then
      perform private.refuse_field(case when v.provider is null then 'repositoryUrl' else 'provider' end,
        'Invalid repository URL. Supported providers are GitHub, GitLab, Bitbucket and Azure DevOps.');
    end if;
    new.repository_url := v.url;
    new.repository_name := v.name;
  else
    perform private.refuse_processing(old.project_id);
    if tg_op = 'DELETE' then
      return old;
    end if;
  end if;
  if not private.is_branch_name(new.branch) then
    perform private.refuse_field('branch', 'This is not a valid branch name of at most 100 characters.');
  end if;
  new.status := 'pending';
  new.status_before_sync := null;
  return new;
end
$$;
comment on function private.tg_project_repositories__request is 'Trigger: what people may write into repositories; a change makes them pending again.';
create or replace trigger _150_request before insert or update or delete on public.project_repositories
  for each row execute function private.tg_project_repositories__request();

create or replace function private.tg_project_repositories__tell() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.project_repositories := coalesce(new, old);
begin
  update public.projects p
  set total_repos = p.total_repos + case tg_op when 'INSERT' then 1 when 'DELETE' then -1 else 0 end, updated_at = now()
  where p.id = r.project_id;
  if not found then
    return null;
  end if;
  if tg_op <> 'UPDATE' then
    perform private.record_activity(r.project_id, 'ingestion',
      case tg_op when 'INSERT' then 'added ' else 'removed ' end || r.repository_name, jsonb_build_object('repositoryId', r.id));
  end if;
  perform private.emit_change('repository', r.id, case tg_op when 'INSERT' then 'created' when 'DELETE' then 'deleted' else 'updated' end,
    r.organization_id, r.project_id, case when tg_op = 'UPDATE' then array_remove(array[
      case when new.branch <> old.branch then 'branch' end, case when new.status <> old.status then 'status' end,
      case when new.include_paths <> old.include_paths then 'includePaths' end,
      case when new.exclude_paths <> old.exclude_paths then 'excludePaths' end,
      case when new.last_sync_at is distinct from old.last_sync_at then 'lastSyncAt' end,
      case when new.last_commit_hash is distinct from old.last_commit_hash then 'lastCommitHash' end,
      case when new.file_count is distinct from old.file_count then 'fileCount' end], null) end);
  return null;
end
$$;
comment on function private.tg_project_repositories__tell is 'Trigger: counters, activity and events of repositories.';
create or replace trigger _800_notify after insert or delete on public.project_repositories
  for each row execute function private.tg_project_repositories__tell();
create or replace trigger _800_notify_change after update on public.project_repositories
  for each row when (old.* is distinct from new.*) execute function private.tg_project_repositories__tell();
