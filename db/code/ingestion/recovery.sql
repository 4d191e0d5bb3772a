-- After a failure (contract 10, 19): lists the possible actions, and runs one. A recovery is a new run that links to the failed one, begins
-- at the phase that it names, inherits numbers and checkpoint, and costs nothing.

create or replace function private.failed_run(p_project_id uuid) returns public.ingestion_runs
language plpgsql stable
as $$
declare
  r public.ingestion_runs := private.newest_run(private.visible_project(p_project_id));
begin
  return case when r.outcome = 'failed' then r end;
end
$$;
comment on function private.failed_run is 'The newest run if it failed, else null. Errors: 404 PROJECT_NOT_FOUND.';
grant execute on function private.failed_run to authenticated;

create or replace function private.recovery_options(p_phase text) returns jsonb
language sql immutable parallel safe
return case p_phase
  when 'repository_fetch' then '[
    {"action": "retry_branch", "label": "Try another branch", "description": "Fetch the same repository from a different branch.", "icon": "git-branch"},
    {"action": "switch_to_upload", "label": "Upload an archive instead", "description": "Send the files yourself as a .zip or .tar.gz.", "icon": "upload"},
    {"action": "change_repo", "label": "Choose another repository", "description": "Replace the repository of this project.", "icon": "repeat"}]'::jsonb
  when 'parsing' then '[
    {"action": "exclude_files", "label": "Leave the failing files out", "description": "Go on without the files listed below.", "icon": "file-minus"},
    {"action": "retry_with_memory", "label": "Try again with more resources", "description": "Accept files up to 8 MiB.", "icon": "cpu"},
    {"action": "manual_upload", "label": "Upload the files by hand", "description": "Add the files to the project yourself.", "icon": "upload"}]'::jsonb
  when 'chunking' then '[
    {"action": "switch_chunking", "label": "Use fixed-size chunks", "description": "Chunk by size instead of by meaning.", "icon": "scissors"},
    {"action": "apply_filters", "label": "Try again with stronger filters", "description": "Leave out minified and generated code, lock files and snapshots.", "icon": "filter"},
    {"action": "contact_support", "label": "Contact support", "description": "Let us have a look at it.", "icon": "life-buoy"}]'::jsonb
  else '[]'::jsonb end;
comment on function private.recovery_options is 'What a user may do about a failure in a phase, in the order of the panels.';
grant execute on function private.recovery_options to authenticated;

-- The server fills `branches`, because it may ask the provider. The database does not know the branches.
create or replace function api.get_recovery(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  r public.ingestion_runs := private.failed_run(private.as_uuid(p ->> 'projectId'));
  v_max integer;
begin
  if r.id is null then
    return null;
  end if;
  select l.max_retries into v_max from private.phase_labels() l where l.phase = r.phase;
  return jsonb_strip_nulls(jsonb_build_object('errorCode', r.error_code, 'errorMessage', r.error_message, 'phase', r.phase,
    'options', private.recovery_options(r.phase),
    'failedItems', case when cardinality(r.failed_items) > 0 then to_jsonb(r.failed_items) end,
    'canRetry', private.is_retryable_code(r.error_code), 'retryCount', r.retry_count, 'maxRetries', v_max,
    'branches', case when r.phase = 'repository_fetch' then r.checkpoint -> 'branches' end));
end
$$;
comment on function api.get_recovery is 'ErrorRecovery of the newest run, or null when it did not fail. Errors: 404 PROJECT_NOT_FOUND.';
grant execute on function api.get_recovery to authenticated;

create or replace function private.recover_run(p_project_id uuid, p_body jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_action constant text := p_body ->> 'action';
  v_project public.projects;
  r public.ingestion_runs;
  n public.ingestion_runs;
  v_phase text;
  v_retries integer := 0;
  v_options jsonb;
  v_files text[];
  v_repository uuid;
begin
  perform private.assert_project_role(p_project_id, 'developer');
  select * into v_project from public.projects where id = p_project_id for no key update;
  select * into r from public.ingestion_runs where project_id = p_project_id order by created_at desc, id desc limit 1;
  if r.outcome = 'open' then
    perform private.refuse(409, 'ALREADY_PROCESSING', 'An ingestion of this project is running already.');
  elsif r.outcome is distinct from 'failed' then
    perform private.refuse(409, 'NOTHING_TO_RECOVER', 'The last ingestion of this project did not fail.');
  end if;
  v_options := r.options - 'entry';

  case v_action
    when 'retry' then
      v_phase := r.phase;
      v_retries := r.retry_count + 1;
      if not private.is_retryable_code(r.error_code)
        or v_retries > (select l.max_retries from private.phase_labels() l where l.phase = r.phase) then
        perform private.refuse(409, 'MAX_RETRIES_EXCEEDED', 'Trying again the same way will not help. Please change something first.');
      end if;
    when 'retry_branch' then
      v_phase := 'repository_fetch';
      if coalesce(btrim(p_body ->> 'branch'), '') = '' then
        perform private.refuse_field('branch', 'Name the branch to fetch.');
      end if;
      v_repository := private.as_uuid(p_body ->> 'repositoryId');
      if not p_body ? 'repositoryId' then
        if v_project.total_repos <> 1 then
          perform private.refuse_field('repositoryId', 'Say which of the repositories is meant.');
        end if;
        select id into v_repository from public.project_repositories where project_id = p_project_id;
      end if;
      -- Moves the branch under the same rules as the repository's own operation.
      perform private.change_branch(p_project_id, v_repository, p_body ->> 'branch');
    when 'exclude_files' then
      v_phase := 'parsing';
      if jsonb_typeof(p_body -> 'files') is distinct from 'array' or jsonb_array_length(p_body -> 'files') not between 1 and 1000 then
        perform private.refuse_field('files', 'Name 1 to 1,000 files to leave out.');
      end if;
      select array_agg(distinct e.v) into v_files from jsonb_array_elements_text(p_body -> 'files') as e (v);
      if exists (
        select from unnest(v_files) as f (path)
        where f.path <> all (r.failed_items)
          and not exists (select from public.project_files p where p.project_id = p_project_id and p.path = f.path)
          and not exists (select from public.run_files s join public.ingestion_runs u on u.id = s.run_id and u.organization_id = s.organization_id
            where u.project_id = p_project_id and s.path = f.path)) then
        perform private.refuse_field('files', 'One of these files is not part of the project.');
      end if;
      insert into public.project_indexes as i (project_id, organization_id, exclusions) values (p_project_id, v_project.organization_id, v_files)
      on conflict (project_id) do update
        set exclusions = (select array_agg(distinct x order by x) from unnest(i.exclusions || excluded.exclusions) as t (x)), updated_at = now();
      v_options := v_options || jsonb_build_object('exclusions',
        (select to_jsonb(i.exclusions) from public.project_indexes i where i.project_id = p_project_id));
    when 'retry_with_memory' then
      v_phase := 'parsing';
      v_options := v_options || '{"memory": "large"}';
    when 'switch_chunking' then
      v_phase := 'chunking';
      update public.projects set chunking_strategy = coalesce(p_body ->> 'strategy', 'fixed') where id = p_project_id;
    when 'apply_filters' then
      v_phase := 'parsing';
      v_options := v_options || '{"applyFilters": true}';
    when 'switch_to_upload', 'change_repo', 'manual_upload', 'contact_support' then
      perform private.refuse_field('action', 'This is done in the client; there is nothing to start.');
    else
      perform private.refuse_field('action', 'There is no such action.');
  end case;

  -- An action of a later phase than the one that failed would skip work; without a checkpoint everything is done again.
  select l.phase into v_phase from private.phase_labels() l
  where l.ordinal = least((select o.ordinal from private.phase_labels() o where o.phase = v_phase), r.phase_index);
  if r.checkpoint_expires_at is null or r.checkpoint_expires_at <= now() then
    v_phase := 'repository_fetch';
  end if;

  insert into public.ingestion_runs (organization_id, project_id, phase, message, estimated_completion_at, options, started_by,
    parent_run_id, retry_count, checkpoint, detail, total_files, files_processed, tokens_processed, bytes_processed, chunks_created,
    errors_encountered)
  values (v_project.organization_id, p_project_id, v_phase, 'Waiting for a free worker',
    now() + make_interval(secs => private.estimate_run_seconds(v_project)), v_options, private.user_id(), r.id, v_retries,
    -- The fetched trees stay on disk; which commits they are is asked again.
    case when v_phase = 'repository_fetch' then r.checkpoint - array['repositories', 'branches', 'optimized'] else r.checkpoint - 'branches' end,
    -- Numbers that the resumed phase counts again start at zero.
    case when v_phase = 'repository_fetch' then '{}' else r.detail end,
    case when v_phase in ('repository_fetch') then 0 else r.total_files end,
    case when v_phase in ('repository_fetch', 'parsing') then 0 else r.files_processed end,
    case when v_phase in ('repository_fetch', 'parsing') then 0 else r.tokens_processed end,
    case when v_phase in ('repository_fetch', 'parsing') then 0 else r.bytes_processed end,
    case when v_phase in ('repository_fetch', 'parsing', 'chunking') then 0 else r.chunks_created end,
    case when v_phase in ('repository_fetch', 'parsing') then 0 else r.errors_encountered end)
  returning * into n;
  return private.start_answer(n);
end
$$;
comment on function private.recover_run is
  'Opens the run that goes on from a failed one. Authorization: developer of the project or above. Errors: 404, 403, 409 ALREADY_PROCESSING, NOTHING_TO_RECOVER or MAX_RETRIES_EXCEEDED, 400.';
grant execute on function private.recover_run to authenticated;

create or replace function private.change_branch(p_project_id uuid, p_repository_id uuid, p_branch text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v public.project_repositories;
begin
  select * into v from public.project_repositories where project_id = p_project_id and id = p_repository_id for update;
  if not found then
    perform private.refuse(404, 'REPOSITORY_NOT_FOUND', 'There is no such repository in this project.');
  end if;
  perform private.as_branch(p_branch), private.assert_repository_free(p_project_id, v.repository_url, p_branch, v.id);
  update public.project_repositories set branch = p_branch, status = 'pending', status_before_sync = null where id = v.id;
end
$$;
comment on function private.change_branch is
  'Points a repository at another branch. Authorization: callable by definer functions of ours that have authorized the caller. Errors: 404 REPOSITORY_NOT_FOUND, 409 REPOSITORY_EXISTS, 400.';

create or replace function api.recover_ingestion(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.recover_run(private.as_uuid(p ->> 'projectId'), p -> 'body');
end
$$;
comment on function api.recover_ingestion is
  'Goes on after a failure. Errors: 404 PROJECT_NOT_FOUND or REPOSITORY_NOT_FOUND, 403, 409 ALREADY_PROCESSING, NOTHING_TO_RECOVER or MAX_RETRIES_EXCEEDED, 400.';
grant execute on function api.recover_ingestion to authenticated;
