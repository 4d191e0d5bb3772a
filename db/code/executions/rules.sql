-- The checks before a run or a test begins, in the contract's order (contract 20, 3.5 to 3.7): the skill is visible and active, the inputs
-- fit, and a provider can answer for the model. Then the unit is paid for.

create or replace function private.refuse_execution(p_id text) returns void
language plpgsql stable
as $$
begin
  perform private.refuse(404, 'EXECUTION_NOT_FOUND', format('Execution with ID %s not found', left(p_id, 100)));
end
$$;
comment on function private.refuse_execution is '404 EXECUTION_NOT_FOUND.';
grant execute on function private.refuse_execution to authenticated;

-- p_test: a test also runs inactive skills.
create or replace function private.assert_runnable(p_skill_id text, p_input jsonb, p_test boolean default false) returns public.skills
language plpgsql stable security definer set search_path = ''
as $$
declare
  s public.skills;
begin
  s := private.path_skill(jsonb_build_object('skillId', p_skill_id));
  if not s.is_active and not p_test then
    perform private.refuse(409, 'SKILL_INACTIVE', 'Cannot execute an inactive skill');
  end if;
  perform private.assert_input(s.input_schema, p_input);
  perform private.assert_provider(s.model, private.org_id());
  return s;
end
$$;
comment on function private.assert_runnable is
  'The skill, if the caller may run it now with these inputs. Authorization: what private.user_id() sees. Errors: 404 SKILL_NOT_FOUND, 409 SKILL_INACTIVE, 400 INVALID_INPUT, 503 PROVIDER_NOT_CONFIGURED.';

-- Starts a run for the caller, charged to the organization they act in.
create or replace function private.execute_skill(
  p_skill_id text, p_input jsonb, p_type text default null, p_reference_id text default null, p_stream boolean default false
) returns public.skill_executions
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v_type text := coalesce(p_type, case when private.is_key_request() then 'api' else 'manual' end);
  v_skill uuid := (private.path_skill(jsonb_build_object('skillId', p_skill_id))).id;
  v_reference uuid := private.as_uuid(p_reference_id);
begin
  if v_type in ('habit', 'reflex') and not (
    v_type = 'habit' and exists (select from public.habits h where h.id = v_reference and h.user_id = v_user and h.skill_id = v_skill)
    or v_type = 'reflex' and exists (select from public.reflexes r where r.id = v_reference and r.user_id = v_user and r.skill_id = v_skill)) then
    perform private.refuse(400, 'INVALID_REFERENCE', format('This is no %s of yours on this skill.', v_type), 'referenceId');
  end if;
  perform private.assert_runnable(p_skill_id, p_input);
  return private.start_execution(v_skill, v_user, private.org_id(), v_type, case when v_type in ('habit', 'reflex') then v_reference end,
    p_input, 'refuse', p_stream);
end
$$;
comment on function private.execute_skill is
  'Starts a run of a skill that the caller sees. Authorization: private.user_id() and private.org_id() only. Errors: as private.assert_runnable, and 400 INVALID_REFERENCE, 429 QUOTA_EXCEEDED.';

-- A test leaves no row, but is paid for. The server calls the model with the returned request.
create or replace function private.pay_for_test() returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.consume_call(private.org_id());
end
$$;
comment on function private.pay_for_test is
  'Counts a test (skill, prompt, reflex, dry run). Authorization: charges the organization that the caller acts in. Errors: 429 QUOTA_EXCEEDED.';

create or replace function private.assert_model_answers(p_model text) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.assert_provider(p_model, private.org_id());
end
$$;
comment on function private.assert_model_answers is
  'Refuses 503 PROVIDER_NOT_CONFIGURED where no key or local model can answer for the model. Authorization: about the organization that the caller acts in.';

create or replace function private.cancel_execution(p_id text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_status text;
begin
  select e.status into v_status from public.skill_executions e
  where e.id = private.as_uuid(p_id) and e.user_id = private.user_id() for no key update;
  if not found then
    perform private.refuse_execution(p_id);
  elsif private.is_final(v_status) then
    perform private.refuse(409, 'CANNOT_CANCEL', format('Cannot cancel an execution with status "%s"', v_status));
  end if;
  update public.skill_executions e set status = 'cancelled', error_message = 'Cancelled by user' where e.id = private.as_uuid(p_id);
end
$$;
comment on function private.cancel_execution is
  'Cancels an open run. Authorization: only rows of private.user_id(). Errors: 404 EXECUTION_NOT_FOUND, 409 CANNOT_CANCEL.';

create or replace function private.retry_execution(p_id text) returns public.skill_executions
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e public.skill_executions;
  s public.skills;
begin
  select * into e from public.skill_executions x where x.id = private.as_uuid(p_id) and x.user_id = private.user_id();
  if not found then
    perform private.refuse_execution(p_id);
  elsif e.status not in ('failed', 'cancelled') then
    perform private.refuse(409, 'CANNOT_RETRY', format('Cannot retry an execution with status "%s"', e.status));
  elsif e.input is null then
    perform private.refuse(409, 'CANNOT_RETRY', format('Cannot retry an execution with status "%s" whose input is no longer stored', e.status));
  end if;
  s := private.path_skill(jsonb_build_object('skillId', e.skill_id));
  if not s.is_active then
    perform private.refuse(409, 'SKILL_INACTIVE', 'Cannot execute an inactive skill');
  end if;
  perform private.assert_provider(s.model, private.org_id());
  return private.start_execution(s.id, e.user_id, private.org_id(), e.execution_type, e.reference_id, e.input);
end
$$;
comment on function private.retry_execution is
  'Runs a failed or cancelled run once more, as a new one. Authorization: only rows of private.user_id(). Errors: 404 EXECUTION_NOT_FOUND or SKILL_NOT_FOUND, 409 CANNOT_RETRY or SKILL_INACTIVE, 503 PROVIDER_NOT_CONFIGURED, 429 QUOTA_EXCEEDED.';

create or replace function private.clean_up_executions(p_days integer, out deleted bigint, out bytes bigint)
language plpgsql volatile security definer set search_path = ''
as $$
begin
  with gone as (
    delete from public.skill_executions e
    where e.user_id = private.user_id() and e.completed_at is not null and e.executed_at < now() - make_interval(hours => 24 * p_days)
    returning octet_length(private.execution_json(e)::text) as size
  )
  select count(*), coalesce(sum(size), 0) into deleted, bytes from gone;
end
$$;
comment on function private.clean_up_executions is 'Deletes old runs that have ended. Authorization: only rows of private.user_id().';

grant execute on function private.assert_runnable, private.execute_skill, private.pay_for_test, private.assert_model_answers,
  private.cancel_execution, private.retry_execution, private.clean_up_executions to authenticated;
