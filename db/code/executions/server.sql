-- The calls of the server for requests that wait, stream or test. The server has authorized the caller; these functions are granted to it
-- alone.

-- Of the runs that requests wait for, returns those that have ended or are gone: one query for all waiting requests of a process.
create or replace function private.ended_executions(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(i.id), '[]') from jsonb_array_elements_text(p -> 'ids') i (id)
    where not exists (select from public.skill_executions e where e.id = i.id::uuid and e.completed_at is null)
  );
end
$$;
comment on function private.ended_executions is '{ids}: the ones that no request needs to wait for any more. Authorization: callable by the server only.';

create or replace function private.read_execution(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  e public.skill_executions;
begin
  select * into e from public.skill_executions x where x.id = private.as_uuid(p ->> 'id') and x.user_id = private.as_uuid(p ->> 'userId');
  if not found then
    perform private.refuse_execution(p ->> 'id');
  end if;
  return case p ->> 'form' when 'run' then private.execution_result(e) else private.execute_response(e) end;
end
$$;
comment on function private.read_execution is
  '{id, userId, form}: ExecutionResult (form run) or ExecuteSkillResponse of that person''s run. Authorization: callable by the server only, for the caller of a request.';

-- Returns the provider that answers a test, and the key to use.
create or replace function private.route_test(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v record;
begin
  select * into v from private.route_model(p ->> 'model', private.as_uuid(p ->> 'organizationId'));
  return jsonb_strip_nulls(jsonb_build_object('answers', v.answers, 'called', v.called, 'sealedKey', v.sealed_key,
    'isSupported', v.provider is not null and v.provider <> 'openai', 'withoutSampling', not private.takes_sampling(v.called)));
end
$$;
comment on function private.route_test is '{model, organizationId}: who is asked, for which model, with which sealed key, and whether it takes no sampling parameters. Authorization: callable by the server only.';

create or replace function private.price_test(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return to_jsonb(private.cost_cents(p ->> 'called', (private.resolve_model(p ->> 'model')).model, (p ->> 'inputTokens')::bigint, (p ->> 'outputTokens')::bigint));
end
$$;
comment on function private.price_test is '{model, called, inputTokens, outputTokens}: cents. Authorization: callable by the server only.';
grant execute on function private.ended_executions, private.read_execution, private.route_test, private.price_test to kijko_server;
