create or replace function api.compress_ingestion(p jsonb) returns jsonb
language sql volatile
return private.request_compression(p);
comment on function api.compress_ingestion is
  'POST /contexts/{contextId}/ingestions/{number}/compress: IngestionEntry. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND, 409 NEVER_COMPRESS, INGESTION_NOT_READY, OPERATION_IN_PROGRESS.';

-- The entry may have been marked meanwhile.
create or replace function api.compressed_ingestion(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  o public.context_operations := private.finished_operation(p);
  e public.context_ingestions := private.path_ingestion(p);
begin
  if o.status = 'completed' and not e.compressed then
    perform private.refuse(409, 'NEVER_COMPRESS', format('Ingestion #%s is marked as never compress.', e.number));
  end if;
  return private.ingestion_json(e);
end
$$;
comment on function api.compressed_ingestion is
  'The answer to a compression that has ended: IngestionEntry. Errors: 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND, 409 NEVER_COMPRESS, 503 SERVICE_UNAVAILABLE.';

create or replace function api.recompress_context(p jsonb) returns jsonb
language sql volatile
return private.request_recompression(p);
comment on function api.recompress_context is
  'POST /contexts/{contextId}/compress: {success, message}. Errors: 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND, 409 OPERATION_IN_PROGRESS.';

create or replace function private.recompressed(p_operation public.context_operations) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  if not private.has_project_role(p_operation.project_id, 'auditor') then
    perform private.refuse(404, 'CONTEXT_NOT_FOUND', 'This context does not exist.');
  end if;
  return p_operation.result || jsonb_build_object('metrics', private.context_metrics(p_operation.project_id));
end
$$;
comment on function private.recompressed is 'What a recompression answers. Authorization: who sees the context of the operation, else 404 CONTEXT_NOT_FOUND.';

create or replace function api.recompressed_context(p jsonb) returns jsonb
language sql stable
return private.recompressed(private.finished_operation(p));
comment on function api.recompressed_context is
  'The answer to a recompression that has ended: {success, message, entriesProcessed, metrics}. Errors: 404 CONTEXT_NOT_FOUND, 503 SERVICE_UNAVAILABLE.';
grant execute on function private.recompressed, api.compress_ingestion, api.compressed_ingestion, api.recompress_context, api.recompressed_context to authenticated;
