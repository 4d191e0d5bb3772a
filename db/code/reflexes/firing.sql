-- Firing (contract 20, section 10.4). The server evaluates patterns and conditions. All other rules are checked again here, in the
-- transaction that inserts the execution: the reflex may have been switched off meanwhile, or its owner may have left. No action of a run
-- comes back here: a reflex never causes another one.

drop function if exists private.fire_reflex(public.reflexes, jsonb);
create or replace function private.fire_reflex(r public.reflexes, p_input jsonb, out reason text, out execution_id uuid)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e public.skill_executions;
begin
  -- A deactivated member's reflexes keep isActive, and fire again once the membership is active.
  if not r.is_active
    or not exists (select from public.memberships m where m.organization_id = r.organization_id and m.user_id = r.user_id and m.status = 'active') then
    reason := 'inactive';
  elsif not private.may_run_skill(r.skill_id, r.user_id) then
    reason := 'skill_inactive';
  else
    e := private.start_execution(r.skill_id, r.user_id, r.organization_id, 'reflex', r.id, p_input, 'record');
    execution_id := e.id;
    if e.error_code = 'QUOTA_EXCEEDED' then
      reason := 'quota_exceeded';
    end if;
  end if;
end
$$;
comment on function private.fire_reflex is
  'Starts the run of a reflex ({trigger, payload}) whose trigger and conditions match, or says why not. Authorization: that reflex, skill and membership are active; callable by definer functions of ours only.';

-- Returns the reflexes of one person that may wait for this event, for the server to evaluate. At most 100 look at one event, the oldest
-- first.
create or replace function private.waiting_reflexes(p_user_id uuid, p_type text, p_event text default null) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('id', w.id, 'config', w.trigger_config, 'conditions', w.conditions) order by w.created_at, w.id), '[]')
    from (
      select r.id, r.trigger_config, r.conditions, r.created_at from public.reflexes r
      where r.user_id = p_user_id and r.trigger_type = p_type and r.is_active
        and (p_type <> 'event' or r.trigger_config ->> 'eventName' = p_event)
      order by r.created_at, r.id limit 100) w
  );
end
$$;
comment on function private.waiting_reflexes is
  'Active reflexes of a person for one kind of trigger, with what the server needs to check them. Authorization: callable by the server, the worker and definer functions of ours only.';
grant execute on function private.waiting_reflexes to kijko_server, kijko_worker;

-- p: triggerType, eventName?. Counts the attempt. A refusal is an answer here, because a raised one would not be counted.
create or replace function private.begin_event(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v record;
begin
  if v_user is null or private.is_stranger() then
    perform private.refuse(403, 'FORBIDDEN', 'Events are sent through the API.');
  end if;
  -- Losing the last counts in a crash does no harm.
  perform set_config('synchronous_commit', 'off', true);
  select * into v from private.take_rate('events:' || v_user, 60, interval '1 minute');
  return jsonb_build_object('allowed', v.allowed, 'remaining', v.remaining, 'resetAt', private.iso(v.reset_at), 'reflexes',
    case when v.allowed then private.waiting_reflexes(v_user, p ->> 'triggerType', p ->> 'eventName') else '[]' end);
end
$$;
comment on function private.begin_event is
  'Counts an event of the caller and gives the reflexes that may wait for it. Authorization: the caller''s own, through our server only. Errors: 403 FORBIDDEN.';
grant execute on function private.begin_event to authenticated;

create or replace function private.fire_reflexes(p_user_id uuid, p_type text, p_ids uuid[], p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.reflexes;
  v record;
  v_ids jsonb := '[]';
  -- Built once for all reflexes: with a large payload this is half of the work.
  v_input constant jsonb := jsonb_build_object('trigger', p_type, 'payload', p_payload);
begin
  for r in
    select * from public.reflexes x where x.id = any (p_ids) and x.user_id = p_user_id and x.trigger_type = p_type
    order by x.created_at, x.id
  loop
    select * into v from private.fire_reflex(r, v_input);
    if v.execution_id is not null then
      v_ids := v_ids || to_jsonb(v.execution_id);
    end if;
  end loop;
  return jsonb_build_object('matched', jsonb_array_length(v_ids), 'executionIds', v_ids);
end
$$;
comment on function private.fire_reflexes is
  'Fires those of a person''s reflexes that the server found to match. Authorization: callable by the server, the worker and definer functions of ours only.';
grant execute on function private.fire_reflexes to kijko_server, kijko_worker;

-- The second half of POST /events: p.reflexIds are the reflexes that matched.
create or replace function private.send_event(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if private.user_id() is null or private.is_stranger() then
    perform private.refuse(403, 'FORBIDDEN', 'Events are sent through the API.');
  end if;
  return private.fire_reflexes(private.user_id(), coalesce(p -> 'body' ->> 'triggerType', 'event'),
    array(select i::uuid from jsonb_array_elements_text(p -> 'reflexIds') i), p -> 'body' -> 'payload');
end
$$;
comment on function private.send_event is
  'Fires the caller''s reflexes that the server found to match. Authorization: the caller''s own, through our server only. Errors: 403 FORBIDDEN.';

create or replace function api.send_event(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.send_event(p);
end
$$;
comment on function api.send_event is 'POST /events, behind the server''s checks. Errors: 403 FORBIDDEN for callers that bypass the server.';
grant execute on function private.send_event, api.send_event to authenticated;

-- The people whose calls reflexes watch. Every server process caches the answer for some seconds; for all other people a request costs one
-- look-up in a map.
create or replace function private.watched_callers(p_limit integer default 100000) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(w.user_id), '[]')
    from (select distinct r.user_id from public.reflexes r where r.is_active and r.trigger_type = 'api_call' limit p_limit) w
  );
end
$$;
comment on function private.watched_callers is 'Owners of active api_call reflexes. Authorization: callable by the server only.';
grant execute on function private.watched_callers to kijko_server;
