-- Long work of a context (contract 60, 1, rule 6). The operation that starts it answers with `operationId`, and the edge holds the request
-- until the row has ended (x-wait, server/contexts). Only functions of ours write.

create or replace function private.queue_operation(p_project_id uuid, p_kind text) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid;
begin
  insert into public.context_operations (organization_id, project_id, kind, requested_by)
  select p.organization_id, p.id, p_kind, private.user_id() from public.projects p where p.id = p_project_id
  returning id into v_id;
  return v_id;
end
$$;
comment on function private.queue_operation is
  'Opens an operation for the caller; its id. Authorization: callable by definer functions of ours that have authorized the caller.';

create or replace function private.start_operation(p_id uuid, p_message text) returns void
language sql volatile security definer set search_path = ''
begin atomic
  update public.context_operations set status = 'running', started_at = clock_timestamp(), message = left(p_message, 500)
  where id = p_id and status = 'queued';
end;
comment on function private.start_operation is 'The work has begun. Authorization: callable by definer functions of ours and the worker only.';

create or replace function private.progress_operation(p_id uuid, p_percent integer, p_message text) returns void
language sql volatile security definer set search_path = ''
begin atomic
  update public.context_operations
  set status = 'running', started_at = coalesce(started_at, clock_timestamp()), progress = greatest(progress, least(p_percent, 100)),
    message = left(coalesce(p_message, message), 500)
  where id = p_id and status in ('queued', 'running');
end;
comment on function private.progress_operation is 'How far the work is; never falls. Authorization: callable by definer functions of ours and the worker only.';

create or replace function private.complete_operation(p_id uuid, p_result jsonb default null) returns void
language sql volatile security definer set search_path = ''
begin atomic
  update public.context_operations
  set status = 'completed', progress = 100, result = p_result, started_at = coalesce(started_at, clock_timestamp()), finished_at = clock_timestamp()
  where id = p_id and status in ('queued', 'running');
end;
comment on function private.complete_operation is
  'The work is done; p_result where the answer is in no table. Authorization: callable by definer functions of ours and the worker only.';

create or replace function private.fail_operation(p_id uuid, p_code text, p_message text) returns void
language sql volatile security definer set search_path = ''
begin atomic
  update public.context_operations
  set status = 'failed', error_code = left(p_code, 50), error_message = left(p_message, 2000), finished_at = clock_timestamp()
  where id = p_id and status in ('queued', 'running');
end;
comment on function private.fail_operation is 'The work failed. Authorization: callable by definer functions of ours and the worker only.';

create or replace function private.cancel_operations(p_project_id uuid, p_kind text default null) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count integer;
begin
  update public.context_operations
  set status = 'cancelled', error_code = 'CANCELLED', error_message = 'The work was cancelled.', finished_at = clock_timestamp()
  where project_id = p_project_id and (p_kind is null or kind = p_kind) and status in ('queued', 'running');
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function private.cancel_operations is
  'Ends the open operations of a kind (null: of all); how many. Authorization: callable by definer functions of ours that have authorized the caller.';
grant execute on function private.start_operation, private.progress_operation, private.complete_operation, private.fail_operation to kijko_worker;

-- A request that waits hears of the end by an event that no client receives.
create or replace function private.tg_context_operations__wake() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.emit('context:' || new.project_id, 'operation_ended', jsonb_build_object('operationId', new.id), new.organization_id,
    new.project_id, 'none', 'context_operations', new.id);
  return null;
end
$$;
comment on function private.tg_context_operations__wake is 'Trigger: requests that wait for the operation look at it.';
create or replace trigger _900_wake after update on public.context_operations
  for each row when (old.finished_at is null and new.finished_at is not null) execute function private.tg_context_operations__wake();

create or replace function private.operation_answer(p_body jsonb, p_operation_id uuid) returns jsonb
language sql stable parallel safe
return p_body || jsonb_build_object('operationId', p_operation_id, 'status', coalesce(p_body ->> 'status', 'queued'));
comment on function private.operation_answer is 'The answer to a request whose work goes on: the body as far as known, operationId and status.';

create or replace function private.operation_ended(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  o public.context_operations;
begin
  select * into o from public.context_operations where id = private.as_uuid(p ->> 'id');
  return jsonb_build_object('ended', o.id is null or o.finished_at is not null, 'room', 'context:' || o.project_id);
end
$$;
comment on function private.operation_ended is '{id}: {ended, room}; one that is gone has ended. Authorization: callable by the server only.';
grant execute on function private.operation_ended to kijko_server;

-- HTTP status of a failed job's code (db/errors.md).
create or replace function private.job_status(p_code text) returns integer
language sql immutable parallel safe
return case when p_code in ('PROVIDER_NOT_CONFIGURED', 'SERVICE_UNAVAILABLE', 'STORAGE_UNAVAILABLE', 'TIMEOUT') then 503
  when p_code = 'NETWORK_ERROR' then 504 when p_code in ('QUOTA_EXCEEDED', 'RATE_LIMITED') then 429 else 502 end;
comment on function private.job_status is 'The status with which a request answers whose job failed with this code.';

-- The functions of x-wait begin with it. p holds the parameters of the request and `started`, its first answer.
create or replace function private.finished_operation(p jsonb) returns public.context_operations
language plpgsql stable
as $$
declare
  o public.context_operations;
begin
  select * into o from public.context_operations x where x.id = private.as_uuid(p #>> '{started,operationId}');
  if not found then
    perform private.refuse(404, 'CONTEXT_NOT_FOUND', 'This context does not exist any more.');
  elsif o.status = 'cancelled' then
    perform private.refuse(409, 'CANCELLED', o.error_message);
  elsif o.error_code is not null then
    perform private.refuse(private.job_status(o.error_code), o.error_code, o.error_message);
  end if;
  return o;
end
$$;
comment on function private.finished_operation is
  'The operation that a request waited for; a failed one refuses with its own code. Errors: 404 CONTEXT_NOT_FOUND and the codes of jobs.';
grant execute on function private.operation_answer, private.job_status, private.finished_operation to authenticated;

create or replace function api.get_context_operation(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project uuid := private.path_context(p);
  o public.context_operations;
begin
  select * into o from public.context_operations x where x.project_id = v_project and x.id = private.as_uuid(p ->> 'operationId');
  if not found then
    perform private.refuse(404, 'NOT_FOUND', 'This context has no such operation.');
  end if;
  return jsonb_strip_nulls(jsonb_build_object('id', o.id, 'kind', o.kind, 'status', o.status, 'progress', o.progress, 'message', o.message,
    'startedAt', private.iso(coalesce(o.started_at, o.created_at)), 'finishedAt', private.iso(o.finished_at),
    'error', case when o.error_code is not null then jsonb_build_object('code', o.error_code, 'message', o.error_message) end));
end
$$;
comment on function api.get_context_operation is 'GET /contexts/{contextId}/operations/{operationId}. Errors: 404 CONTEXT_NOT_FOUND, NOT_FOUND.';
grant execute on function api.get_context_operation to authenticated;
