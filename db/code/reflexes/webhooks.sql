-- Deliveries of webhooks (contract 20, section 10.2), in two calls of the server: the first returns the data to check a delivery, the
-- second takes the result. In between the server checks the signature, reads the payload and evaluates the conditions; no transaction is
-- open meanwhile.

-- This call counts nothing: only later does the server know whether the delivery is genuine.
create or replace function private.open_delivery(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_build_object('method', r.trigger_config -> 'method', 'conditions', r.conditions,
      'sealed', (select s.sealed from private.reflex_secrets s where s.reflex_id = r.id))
    from public.reflexes r where r.id = private.as_uuid(p ->> 'id') and r.trigger_type = 'webhook'
  );
end
$$;
comment on function private.open_delivery is
  'What is needed to check a delivery; null for an unknown webhook. Authorization: callable by the server only.';
grant execute on function private.open_delivery to kijko_server;

-- Genuine deliveries only, so only a sender that knows the secret moves the counter of a reflex. A refusal is an answer here, because a
-- raised one would not be counted.
create or replace function private.count_delivery(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  select * into v from private.take_rate('reflex:' || (p ->> 'id')::uuid, 60, interval '1 minute');
  if not v.allowed then
    -- Losing the last counts in a crash does no harm.
    perform set_config('synchronous_commit', 'off', true);
    return jsonb_build_object('limitedUntil', private.iso(v.reset_at));
  end if;
  return '{}';
end
$$;
comment on function private.count_delivery is
  'Counts a genuine delivery: {}, or {limitedUntil} beyond 60 a minute. Authorization: callable by the server and definer functions of ours only.';
grant execute on function private.count_delivery to kijko_server;

-- p: id, payload, matches, error (the conditions could not be evaluated), key (hexadecimal digest, or absent).
create or replace function private.take_delivery(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_key bytea := decode(p ->> 'key', 'hex');
  v_limited jsonb := private.count_delivery(p);
  r public.reflexes;
  v record;
  v_answer jsonb;
begin
  if v_limited ? 'limitedUntil' then
    return v_limited;
  end if;
  select * into r from public.reflexes x where x.id = (p ->> 'id')::uuid and x.trigger_type = 'webhook';
  if not found then
    perform private.refuse(404, 'REFLEX_NOT_FOUND', format('Reflex with ID %s not found', p ->> 'id'));
  end if;
  if v_key is not null then
    delete from private.reflex_deliveries d where d.reflex_id = r.id and d.key = v_key
      -- Former versions also remembered deliveries that did not fire.
      and (d.created_at < now() - interval '24 hours' or d.response ->> 'triggered' = 'false');
    -- Equal deliveries at the same time wait here for the first one's commit.
    insert into private.reflex_deliveries (reflex_id, key) values (r.id, v_key) on conflict do nothing;
    if not found then
      return (select d.response from private.reflex_deliveries d where d.reflex_id = r.id and d.key = v_key);
    end if;
  end if;
  if (p ->> 'matches')::boolean then
    select * into v from private.fire_reflex(r, jsonb_build_object('trigger', 'webhook', 'payload', p -> 'payload'));
  else
    -- Of several reasons, one that does not depend on the conditions comes first.
    select case when not r.is_active then 'inactive' when not private.may_run_skill(r.skill_id, r.user_id) then 'skill_inactive'
      when (p ->> 'error')::boolean then 'condition_error' else 'conditions_not_met' end as reason, null::uuid as execution_id into v;
  end if;
  v_answer := case when v.reason is null then jsonb_build_object('received', true, 'triggered', true, 'executionId', v.execution_id)
    else jsonb_build_object('received', true, 'triggered', false, 'reason', v.reason) end;
  perform private.audit('integration.webhook_triggered', 'A webhook delivery to a reflex was accepted.',
    jsonb_strip_nulls(jsonb_build_object('reflexId', r.id, 'triggered', v.reason is null, 'reason', v.reason, 'executionId', v.execution_id)),
    null, r.organization_id, r.user_id);
  if v_key is not null and v.reason is null then
    update private.reflex_deliveries d set response = v_answer where d.reflex_id = r.id and d.key = v_key;
  elsif v_key is not null then
    -- Only a delivery that fired is remembered: people correct the reflex and have the same delivery sent once more.
    delete from private.reflex_deliveries d where d.reflex_id = r.id and d.key = v_key;
  end if;
  return v_answer;
end
$$;
comment on function private.take_delivery is
  'Counts a delivery that was found genuine and fires its webhook, at most once a key; gives the answer, or {limitedUntil}. Authorization: callable by the server only. Errors: 404 REFLEX_NOT_FOUND.';
grant execute on function private.take_delivery to kijko_server;

drop function if exists private.can_fire_skill(uuid, uuid);
