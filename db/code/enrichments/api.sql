create or replace function api.get_enrichments(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.enrichment_status(private.path_context(p, 'viewer', 'read_enrichments'));
end
$$;
comment on function api.get_enrichments is 'GET /contexts/{contextId}/enrichments: EnrichmentStatus. Errors: 403 for an auditor, 404 CONTEXT_NOT_FOUND.';

create or replace function private.enrichment_started(p jsonb, p_kind text) returns jsonb
language plpgsql volatile
as $$
declare
  v_project uuid := private.path_context(p, 'developer', 'run_enrichments');
  v_operation uuid := private.start_enrichment(v_project, p_kind);
begin
  return private.operation_answer(private.enrichment_status(v_project), v_operation);
end
$$;
comment on function private.enrichment_started is 'Starts a kind of enrichment: EnrichmentStatus, operationId and status.';
grant execute on function private.enrichment_started to authenticated;

create or replace function api.run_enrichments(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.enrichment_started(p, 'all');
end
$$;
comment on function api.run_enrichments is
  'POST /contexts/{contextId}/enrichments/run: graph, index and embeddings in that order. Errors: 403, 404, 409 OPERATION_IN_PROGRESS, 429 RATE_LIMITED.';

create or replace function api.rebuild_graph(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.enrichment_started(p, 'knowledgeGraph');
end
$$;
comment on function api.rebuild_graph is
  'POST /contexts/{contextId}/enrichments/kg. Errors: 403, 404, 409 OPERATION_IN_PROGRESS, 429 RATE_LIMITED.';

create or replace function api.index_symbols(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.enrichment_started(p, 'languageServer');
end
$$;
comment on function api.index_symbols is
  'POST /contexts/{contextId}/enrichments/lsp. Errors: 403, 404, 409 OPERATION_IN_PROGRESS, 429 RATE_LIMITED.';

create or replace function api.generate_embeddings(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.enrichment_started(p, 'chromaCode');
end
$$;
comment on function api.generate_embeddings is
  'POST /contexts/{contextId}/enrichments/cc. Errors: 403, 404, 409 OPERATION_IN_PROGRESS, 429 RATE_LIMITED.';

-- The answer after the wait. p holds the parameters of the request and `started`, its first answer.
create or replace function api.finish_enrichments(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  o public.context_operations := private.finished_operation(p);
begin
  return private.enrichment_status(o.project_id);
end
$$;
comment on function api.finish_enrichments is 'The status after the run that a request waited for. Errors: 502 ENRICHMENT_FAILED, 409 CANCELLED, 404 CONTEXT_NOT_FOUND.';

create or replace function api.reset_enrichments(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_project uuid := private.path_context(p, 'admin', 'reset_enrichments');
  v_body jsonb := coalesce(private.as_object(p -> 'body', 'body'), '{}');
  v_kinds text[] := private.enrichment_kinds();
  v_unknown text;
begin
  select k into v_unknown from jsonb_object_keys(v_body) k where k <> 'kinds' limit 1;
  if v_unknown is not null then
    perform private.refuse_field(left(v_unknown, 100), 'Only kinds can be given.');
  end if;
  if v_body ? 'kinds' then
    if jsonb_typeof(v_body -> 'kinds') <> 'array' or jsonb_array_length(v_body -> 'kinds') not between 1 and 3
      or exists (select from jsonb_array_elements(v_body -> 'kinds') k where k #>> '{}' <> all (v_kinds) or jsonb_typeof(k) <> 'string') then
      perform private.refuse_field('kinds', format('kinds must name some of %s.', array_to_string(v_kinds, ', ')));
    end if;
    v_kinds := array(select distinct k from jsonb_array_elements_text(v_body -> 'kinds') k);
  end if;
  perform private.reset_enrichments(v_project, v_kinds);
  return private.enrichment_status(v_project);
end
$$;
comment on function api.reset_enrichments is
  'POST /contexts/{contextId}/enrichments/reset: EnrichmentStatus. Errors: 400 VALIDATION_ERROR field kinds, 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.get_enrichments, api.run_enrichments, api.rebuild_graph, api.index_symbols, api.generate_embeddings,
  api.finish_enrichments, api.reset_enrichments to authenticated;
