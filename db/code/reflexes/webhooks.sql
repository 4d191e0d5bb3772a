-- Deliveries of webhooks (contract 20, section 10.2), in two calls of the server: what is needed to judge one, and what follows from it.
-- In between the server checks the signature, reads the payload and judges the conditions; nobody waits meanwhile.

-- Only deliveries that the server's own limiter let pass come here, so a flood makes no hot row. An unknown id is not counted: it would
-- leave a row for each.
create or replace function private.open_delivery(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.reflexes;
  v record;
begin
  select * into r from public.reflexes x where x.id = private.as_uuid(p ->> 'id') and x.trigger_type = 'webhook';
  if not found then
    return null;
  end if;
  -- Of the counter nothing is lost that matters.
  perform set_config('synchronous_commit', 'off', true);
  select * into v from private.take_rate('reflex:' || r.id, 60, interval '1 minute');
  return jsonb_build_object('allowed', v.allowed, 'remaining', v.remaining, 'resetAt', private.iso(v.reset_at))
    || case when v.allowed then jsonb_build_object('method', r.trigger_config -> 'method', 'conditions', r.conditions,
        'sealed', (select s.sealed from private.reflex_secrets s where s.reflex_id = r.id)) else '{}' end;
end
$$;
comment on function private.open_delivery is
  'Counts a delivery and gives what is needed to judge it; null for an unknown webhook. Judges: callable by the server only.';
grant execute on function private.open_delivery to kijko_server;

-- p: id, payload, matches, error (the conditions could not be judged), key (hexadecimal digest, or absent).
create or replace function private.take_delivery(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_key bytea := decode(p ->> 'key', 'hex');
  r public.reflexes;
  v record;
  v_answer jsonb;
begin
  select * into r from public.reflexes x where x.id = (p ->> 'id')::uuid and x.trigger_type = 'webhook';
  if not found then
    perform private.refuse(404, 'REFLEX_NOT_FOUND', format('Reflex with ID %s not found', p ->> 'id'));
  end if;
  if v_key is not null then
    delete from private.reflex_deliveries d where d.reflex_id = r.id and d.key = v_key and d.created_at < now() - interval '24 hours';
    -- Equal deliveries at the same time wait here for the first one's commit.
    insert into private.reflex_deliveries (reflex_id, key) values (r.id, v_key) on conflict do nothing;
    if not found then
      return (select d.response from private.reflex_deliveries d where d.reflex_id = r.id and d.key = v_key);
    end if;
  end if;
  if (p ->> 'matches')::boolean then
    select * into v from private.fire_reflex(r, jsonb_build_object('trigger', 'webhook', 'payload', p -> 'payload'));
  else
    -- Why it would not have fired anyway comes first.
    select case when not r.is_active then 'inactive' when not private.can_fire_skill(r.skill_id, r.user_id) then 'skill_inactive'
      when (p ->> 'error')::boolean then 'condition_error' else 'conditions_not_met' end as reason, null::uuid as execution_id into v;
  end if;
  v_answer := case when v.reason is null then jsonb_build_object('received', true, 'triggered', true, 'executionId', v.execution_id)
    else jsonb_build_object('received', true, 'triggered', false, 'reason', v.reason) end;
  perform private.audit('integration.webhook_triggered', 'A webhook delivery was accepted',
    jsonb_strip_nulls(jsonb_build_object('reflexId', r.id, 'triggered', v.reason is null, 'reason', v.reason, 'executionId', v.execution_id)),
    null, r.organization_id, r.user_id);
  if v_key is not null then
    update private.reflex_deliveries d set response = v_answer where d.reflex_id = r.id and d.key = v_key;
  end if;
  return v_answer;
end
$$;
comment on function private.take_delivery is
  'Fires a webhook whose delivery was found genuine, at most once a key; gives the answer. Judges: callable by the server only. Errors: 404 REFLEX_NOT_FOUND.';
grant execute on function private.take_delivery to kijko_server;

create or replace function private.can_fire_skill(p_skill_id uuid, p_user_id uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return exists (select from public.skills s where s.id = p_skill_id and s.is_active and (s.is_public or s.user_id = p_user_id));
end
$$;
comment on function private.can_fire_skill is 'Is the skill active and the person''s to run? Judges: callable by definer functions of ours only.';
