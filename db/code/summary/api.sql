create or replace function private.summary_json(p_project_id uuid) returns jsonb
language plpgsql stable
as $$
declare
  v_version integer := private.summary_version(p_project_id);
  s public.context_summaries;
  v_text jsonb;
begin
  if not exists (select from public.context_files f where f.project_id = p_project_id and not f.is_hidden) then
    return (select jsonb_build_object('description', format('Nothing has been ingested into %s yet.', private.one_line(p.name)), 'keyComponents', jsonb '[]',
      'generatedAt', private.iso(p.created_at), 'version', v_version, 'stale', false, 'model', 'kijko-extractive') from public.projects p where p.id = p_project_id);
  end if;
  select * into s from public.context_summaries x where x.project_id = p_project_id
  order by x.version = v_version and not x.is_outdated desc, x.generated_at desc limit 1;
  if found then
    return jsonb_build_object('description', s.description, 'keyComponents', to_jsonb(s.key_components), 'generatedAt', private.iso(s.generated_at),
      'version', s.version, 'stale', s.version <> v_version or s.is_outdated, 'model', s.model);
  end if;
  v_text := private.extractive_summary(p_project_id);
  return v_text || jsonb_build_object('generatedAt', private.iso(now()), 'version', v_version, 'stale', true);
end
$$;
comment on function private.summary_json is 'AISummary: of the current version, else an older one that is stale, else an extracted one.';
grant execute on function private.summary_json to authenticated;

create or replace function api.get_summary(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.summary_json(private.path_context(p, 'viewer', 'read_summary'));
end
$$;
comment on function api.get_summary is 'GET /contexts/{contextId}/summary: AISummary. Errors: 403 for an auditor, 404 CONTEXT_NOT_FOUND.';

create or replace function api.regenerate_summary(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_project uuid := private.path_context(p, 'developer', 'regenerate_summary');
  v_operation uuid := private.regenerate_summary(v_project);
begin
  return private.operation_answer(private.summary_json(v_project), v_operation);
end
$$;
comment on function api.regenerate_summary is
  'POST /contexts/{contextId}/summary/regenerate: AISummary, operationId and status. Errors: 403, 404 CONTEXT_NOT_FOUND, 429 RATE_LIMITED.';

create or replace function api.finish_summary(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  o public.context_operations := private.finished_operation(p);
begin
  return private.summary_json(o.project_id);
end
$$;
comment on function api.finish_summary is 'The summary that a request waited for. Errors: 404 CONTEXT_NOT_FOUND.';
grant execute on function api.get_summary, api.regenerate_summary, api.finish_summary to authenticated;
