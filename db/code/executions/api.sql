-- Operations on runs (contract 20, sections 3.5 to 3.7 and 12). Reading goes through row-level security: a caller sees their own runs.

-- ---------------------------------------------------------------------------------------------------------------------- reading

create or replace function private.own_execution(p jsonb) returns public.skill_executions
language plpgsql stable
as $$
declare
  e public.skill_executions;
begin
  select * into e from public.skill_executions x where x.id = private.as_uuid(p ->> 'executionId') and x.user_id = private.user_id();
  if not found then
    perform private.refuse_execution(p ->> 'executionId');
  end if;
  return e;
end
$$;
comment on function private.own_execution is 'The caller''s run that a path names, or 404 EXECUTION_NOT_FOUND.';

create or replace function api.get_execution(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.execution_json(private.own_execution(p));
end
$$;
comment on function api.get_execution is 'GET /executions/{executionId}: SkillExecution. Errors: 404 EXECUTION_NOT_FOUND.';

create or replace function api.get_execution_full(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  e public.skill_executions := private.own_execution(p);
  s public.skills;
begin
  select * into s from public.skills k where k.id = e.skill_id;
  return private.execution_with_skill_json(e, s);
end
$$;
comment on function api.get_execution_full is 'GET /executions/{executionId}/full: ExecutionWithSkill. Errors: 404 EXECUTION_NOT_FOUND.';

create or replace function api.list_executions(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 20);
  v_filter text := private.execution_filter(p);
  v_rows jsonb := private.executions_json(p, false, v_at.size, v_at.skipped);
  v_count integer := jsonb_array_length(v_rows);
  v_total bigint;
begin
  if v_count between 1 and v_at.size - 1 or v_count = 0 and v_at.skipped = 0 then
    v_total := v_at.skipped + v_count;
  else
    execute 'select count(*) from public.skill_executions e where ' || v_filter into v_total using p, private.user_id();
  end if;
  return jsonb_build_object('executions', v_rows, 'total', v_total, 'page', v_at.number, 'pageSize', v_at.size,
    'hasMore', v_at.skipped + v_at.size < v_total);
end
$$;
comment on function api.list_executions is 'GET /executions and /skill-executions: a page of ExecutionWithSkill, newest first. Errors: 400 VALIDATION_ERROR.';

create or replace function api.list_recent_executions(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.executions_json('{}', false, (private.page(p, 10)).size, 0);
end
$$;
comment on function api.list_recent_executions is 'GET /executions/recent: the newest ExecutionWithSkill.';

-- A thousand are more than any screen shows. A caller with more runs in flight sees the newest.
create or replace function api.list_running_executions(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  c_bytes constant bigint := 33554432;
  v_rows integer;
begin
  select greatest(count(*), 1) into v_rows
  from (
    select sum(octet_length(e.input::text)) over (order by e.executed_at desc, e.id desc) as bytes
    from public.skill_executions e where e.user_id = private.user_id() and e.status in ('pending', 'running')
    order by e.executed_at desc, e.id desc limit 1000
  ) x
  where x.bytes <= c_bytes;
  return private.executions_json('{}', true, v_rows, 0);
end
$$;
comment on function api.list_running_executions is
  'GET /executions/running: pending and running ExecutionWithSkill, the newest 1,000 of them and no more than 32 MiB of inputs.';

-- --------------------------------------------------------------------------------------------------------------------- changing

create or replace function api.cancel_execution(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  perform private.cancel_execution(p ->> 'executionId');
  return '{"success": true}';
end
$$;
comment on function api.cancel_execution is 'POST /executions/{executionId}/cancel. Errors: 404 EXECUTION_NOT_FOUND, 409 CANNOT_CANCEL.';

create or replace function api.retry_execution(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  e public.skill_executions := private.retry_execution(p ->> 'executionId');
begin
  return jsonb_build_object('newExecutionId', e.id, 'status', e.status);
end
$$;
comment on function api.retry_execution is
  'POST /executions/{executionId}/retry: a new run like the old one. Errors: 404 EXECUTION_NOT_FOUND or SKILL_NOT_FOUND, 409 CANNOT_RETRY or SKILL_INACTIVE, 503 PROVIDER_NOT_CONFIGURED, 429 QUOTA_EXCEEDED.';

create or replace function api.clean_up_executions(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_days integer := coalesce(private.as_int(p -> 'olderThanDays', 'olderThanDays'), 90);
  v record;
begin
  if v_days not between 1 and 3650 then
    perform private.refuse_field('olderThanDays', 'Give 1 to 3650 days.');
  end if;
  select * into v from private.clean_up_executions(v_days);
  return jsonb_build_object('deletedCount', v.deleted, 'freedSpaceMb', trim_scale(round(v.bytes / 1048576.0, 2)));
end
$$;
comment on function api.clean_up_executions is 'DELETE /executions/cleanup: the caller''s ended runs older than that. Errors: 400 VALIDATION_ERROR.';

-- -------------------------------------------------------------------------------------------------------------- running a skill

-- ExecuteSkillResponse of the contract. An open run has neither output nor duration yet.
create or replace function private.execute_response(e public.skill_executions) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('executionId', e.id, 'status', e.status, 'output', e.output,
  'tokensUsed', e.prompt_tokens + e.completion_tokens, 'durationMs', e.duration_ms, 'error', e.error_message));
comment on function private.execute_response is 'ExecuteSkillResponse of the contract.';

-- ExecutionResult of the contract: durationMs is always there. It is the time so far while the run goes on, and 0 where it never began.
create or replace function private.execution_result(e public.skill_executions) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('executionId', e.id, 'status', e.status, 'output', e.output, 'error', e.error_message,
  'usage', case when e.prompt_tokens + e.completion_tokens is not null then jsonb_build_object('inputTokens', e.prompt_tokens,
    'outputTokens', e.completion_tokens, 'totalTokens', e.prompt_tokens + e.completion_tokens) end,
  'durationMs', coalesce(e.duration_ms, case when e.status = 'running'
    then greatest(0, round(extract(epoch from clock_timestamp() - e.started_at) * 1000))::integer end, 0),
  'costCents', e.cost_cents));
comment on function private.execution_result is 'ExecutionResult of the contract.';
grant execute on function private.own_execution, private.execute_response, private.execution_result to authenticated;

create or replace function api.execute_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_body jsonb := coalesce(p -> 'body', '{}');
begin
  if lower(v_body ->> 'skillId') <> lower(p ->> 'skillId') then
    perform private.refuse_field('skillId', 'The skill of the body is not the one of the address.');
  end if;
  return private.execute_response(private.execute_skill(p ->> 'skillId', private.object_of(v_body -> 'input'), v_body ->> 'executionType',
    v_body ->> 'referenceId'));
end
$$;
comment on function api.execute_skill is
  'POST /skills/{skillId}/execute: starts a run (the server then waits for its end). Errors: 400 VALIDATION_ERROR, INVALID_REFERENCE or INVALID_INPUT, 404 SKILL_NOT_FOUND, 409 SKILL_INACTIVE, 503 PROVIDER_NOT_CONFIGURED, 429 QUOTA_EXCEEDED.';

-- `stream` comes from the server, where the caller wants to read the text as it arrives.
create or replace function api.run_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.execution_result(private.execute_skill(p ->> 'skillId', private.object_of(p -> 'body' -> 'inputs'), 'manual', null,
    coalesce(private.as_bool(p -> 'stream', 'stream'), false)));
end
$$;
comment on function api.run_skill is
  'POST /skills/{skillId}/run: starts a run (the server then waits for its end, or streams). Errors: as api.execute_skill.';

create or replace function private.object_of(p_value jsonb) returns jsonb
language sql immutable parallel safe
return case when jsonb_typeof(p_value) = 'object' then p_value else '{}' end;
comment on function private.object_of is 'The value where it is an object, else an empty one.';
grant execute on function private.object_of to authenticated;

-- A test of a stored skill: returns the request for the model, after its unit is paid for. Body member `input`, or `inputs` for a dry run.
create or replace function api.test_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_input jsonb := private.object_of(coalesce(p -> 'body' -> 'input', p -> 'body' -> 'inputs'));
  s public.skills := private.assert_runnable(p ->> 'skillId', v_input, true);
  v_prompt text := private.render_prompt(s.prompt_template, s.input_schema, v_input);
begin
  perform private.pay_for_test();
  return jsonb_build_object('organizationId', private.org_id(), 'model', s.model, 'parameters', s.parameters, 'prompt', v_prompt);
end
$$;
comment on function api.test_skill is
  'POST /skills/{skillId}/test: checks and pays; the server calls the model. Errors: 404 SKILL_NOT_FOUND, 400 INVALID_INPUT, 503 PROVIDER_NOT_CONFIGURED, 429 QUOTA_EXCEEDED.';

create or replace function api.test_prompt(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_body jsonb := coalesce(p -> 'body', '{}');
  v_model text := coalesce(v_body ->> 'model', private.default_model());
  v_parameters jsonb := private.known_parameters(coalesce(v_body -> 'parameters', '{"temperature": 0.7, "max_tokens": 4096}'));
  v_fault record;
  v_prompt text;
begin
  if not private.is_model_routable(v_model) then
    perform private.refuse_field('model', 'This model is not supported');
  end if;
  select * into v_fault from private.parameters_fault(v_parameters);
  if v_fault.message is not null then
    perform private.refuse_field(v_fault.field, v_fault.message);
  end if;
  v_prompt := private.render_prompt(v_body ->> 'promptTemplate', null, private.object_of(v_body -> 'input'));
  perform private.assert_model_answers(v_model);
  perform private.pay_for_test();
  return jsonb_strip_nulls(jsonb_build_object('organizationId', private.org_id(), 'model', v_model, 'system', v_body ->> 'systemPrompt', 'prompt', v_prompt,
    'parameters', v_parameters));
end
$$;
comment on function api.test_prompt is
  'POST /skills/test: checks and pays; the server calls the model. Errors: 400 VALIDATION_ERROR or INVALID_INPUT, 503 PROVIDER_NOT_CONFIGURED, 429 QUOTA_EXCEEDED.';

grant execute on function api.get_execution, api.get_execution_full, api.list_executions, api.list_recent_executions,
  api.list_running_executions, api.cancel_execution, api.retry_execution, api.clean_up_executions, api.execute_skill, api.run_skill,
  api.test_skill, api.test_prompt to authenticated;
