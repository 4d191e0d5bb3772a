-- Operations on reflexes (contract 20, section 9). They run as the caller, under the caller's policies.

drop function if exists private.page_number(jsonb, text, integer, integer, integer);

create or replace function api.list_reflexes(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 20);
  v_user uuid := private.user_id();
  v_skill uuid := private.as_uuid(p ->> 'skillId');
  v_rows jsonb;
  v_total bigint;
begin
  select count(*) into v_total from public.reflexes r
  where r.user_id = v_user and (p ->> 'skillId' is null or r.skill_id = v_skill)
    and (p ->> 'triggerType' is null or r.trigger_type = p ->> 'triggerType')
    and (p ->> 'isActive' is null or r.is_active = private.as_bool(p -> 'isActive', 'isActive'));
  select coalesce(jsonb_agg(private.reflex_json(l.r) || jsonb_build_object('skill', private.reflex_skill_json(l.r)) order by l.place), '[]')
    into v_rows
  from (
    select r, row_number() over (order by r.is_active desc, r.last_triggered_at desc nulls last, r.created_at desc, r.id) as place
    from public.reflexes r
    where r.user_id = v_user and (p ->> 'skillId' is null or r.skill_id = v_skill)
      and (p ->> 'triggerType' is null or r.trigger_type = p ->> 'triggerType')
      and (p ->> 'isActive' is null or r.is_active = private.as_bool(p -> 'isActive', 'isActive'))
    order by place limit v_at.size offset v_at.skipped) l;
  return jsonb_build_object('reflexes', v_rows, 'total', v_total, 'page', v_at.number, 'pageSize', v_at.size,
    'hasMore', v_at.skipped + v_at.size < v_total);
end
$$;
comment on function api.list_reflexes is 'GET /reflexes: active first, then the latest triggered.';

-- Lists show a placeholder where the skill is no longer visible.
create or replace function private.reflex_skill_json(r public.reflexes) returns jsonb
language plpgsql stable
as $$
declare
  s public.skills;
begin
  select * into s from public.skills k where k.id = r.skill_id;
  return case when found then private.skill_json(s) else private.missing_skill_json(r.skill_id, r.user_id, r.created_at, r.updated_at) end;
end
$$;
comment on function private.reflex_skill_json is 'The reflex''s skill as its owner sees it now, or the placeholder.';
grant execute on function private.reflex_skill_json to authenticated;

-- p.sealedSecret comes from the server, which alone can seal. A webhook that was created past the server has no secret, and takes no
-- deliveries until the server makes one.
create or replace function api.create_reflex(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  b jsonb := p -> 'body';
  r public.reflexes;
  v_skill uuid := private.as_uuid(b ->> 'skillId');
begin
  if v_skill is null then
    perform private.refuse_skill(coalesce(b ->> 'skillId', ''), 'skillId');
  elsif b -> 'isActive' = 'null' then
    perform private.refuse_field('isActive', 'isActive must be true or false.');
  end if;
  perform private.visible_skill(v_skill, 'skillId');
  insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config, conditions, is_active)
  values (private.user_id(), private.org_id(), v_skill, b ->> 'triggerType', private.tidy_trigger(b ->> 'triggerType', b -> 'triggerConfig'),
    private.tidy_conditions(b -> 'conditions'), coalesce(private.as_bool(b -> 'isActive', 'isActive'), true))
  returning * into r;
  if r.trigger_type = 'webhook' and p ->> 'sealedSecret' is not null then
    perform private.keep_secret(r.id, p ->> 'sealedSecret');
  end if;
  return private.reflex_json(r)
    || case when r.trigger_type = 'webhook' then jsonb_build_object('webhookUrl', private.webhook_url(r.id)) else '{}' end;
end
$$;
comment on function api.create_reflex is
  'POST /reflexes. Errors: 400 INVALID_TRIGGER_CONFIG, 400 INVALID_CONDITIONS, 404 SKILL_NOT_FOUND (skillId).';

create or replace function api.get_reflex_stats(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_user uuid := private.user_id();
begin
  return (
    select jsonb_build_object('totalReflexes', count(*), 'activeReflexes', count(*) filter (where r.is_active),
      'totalTriggers', coalesce(sum(r.trigger_count), 0), 'failedReflexes', count(*) filter (where r.consecutive_failures > 0),
      'triggersByType', jsonb_build_object('webhook', count(*) filter (where r.trigger_type = 'webhook'),
        'email', count(*) filter (where r.trigger_type = 'email'), 'file_change', count(*) filter (where r.trigger_type = 'file_change'),
        'api_call', count(*) filter (where r.trigger_type = 'api_call'), 'schedule', 0,
        'event', count(*) filter (where r.trigger_type = 'event')))
    from public.reflexes r where r.user_id = v_user
  ) || jsonb_build_object('recentTriggers', (
    select coalesce(jsonb_agg(jsonb_build_object('reflexId', t.id, 'skillName', coalesce(t.name, 'Unknown Skill'),
      'triggeredAt', private.iso(t.last_triggered_at), 'triggerType', t.trigger_type) order by t.last_triggered_at desc, t.id), '[]')
    from (
      select r.id, r.trigger_type, r.last_triggered_at, s.name
      from public.reflexes r left join public.skills s on s.id = r.skill_id
      where r.user_id = v_user and r.last_triggered_at is not null
      order by r.last_triggered_at desc, r.id limit 5) t));
end
$$;
comment on function api.get_reflex_stats is 'GET /reflexes/stats: triggersByType counts reflexes, not firings.';

create or replace function api.get_reflex(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.reflex_json(private.own_reflex(p));
end
$$;
comment on function api.get_reflex is 'GET /reflexes/{reflexId}. Errors: 404 REFLEX_NOT_FOUND.';

create or replace function api.get_reflex_full(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  r public.reflexes := private.own_reflex(p);
begin
  return private.reflex_json(r) || jsonb_build_object('skill', private.skill_json(private.visible_skill(r.skill_id)));
end
$$;
comment on function api.get_reflex_full is 'GET /reflexes/{reflexId}/full. Errors: 404 REFLEX_NOT_FOUND, 404 SKILL_NOT_FOUND.';

create or replace function api.update_reflex(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  b jsonb := p -> 'body';
  r public.reflexes := private.own_reflex(p);
begin
  if b -> 'isActive' = 'null' then
    perform private.refuse_field('isActive', 'isActive must be true or false.');
  end if;
  update public.reflexes x set
    trigger_config = case when b ? 'triggerConfig' then private.tidy_trigger(r.trigger_type, b -> 'triggerConfig') else x.trigger_config end,
    conditions = case when b ? 'conditions' then private.tidy_conditions(b -> 'conditions') else x.conditions end,
    is_active = coalesce(private.as_bool(b -> 'isActive', 'isActive'), x.is_active)
  where x.id = r.id
  returning * into r;
  return private.reflex_json(r);
end
$$;
comment on function api.update_reflex is
  'PUT and PATCH /reflexes/{reflexId}. Errors: 404 REFLEX_NOT_FOUND, 400 INVALID_TRIGGER_CONFIG, 400 INVALID_CONDITIONS, 409 SKILL_INACTIVE.';

create or replace function api.delete_reflex(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  r public.reflexes := private.own_reflex(p);
begin
  delete from public.reflexes where id = r.id;
  return '{"success": true}';
end
$$;
comment on function api.delete_reflex is 'DELETE /reflexes/{reflexId}; its executions stay. Errors: 404 REFLEX_NOT_FOUND.';

create or replace function api.activate_reflex(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  r public.reflexes := private.own_reflex(p);
begin
  perform private.revive_reflex(r.id, true);
  return private.reflex_json(private.own_reflex(p));
end
$$;
comment on function api.activate_reflex is 'POST /reflexes/{reflexId}/activate. Errors: 404 REFLEX_NOT_FOUND, 409 SKILL_INACTIVE, 404 SKILL_NOT_FOUND.';

create or replace function api.deactivate_reflex(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  r public.reflexes := private.own_reflex(p);
begin
  update public.reflexes x set is_active = false where x.id = r.id returning * into r;
  return private.reflex_json(r);
end
$$;
comment on function api.deactivate_reflex is 'POST /reflexes/{reflexId}/deactivate. Errors: 404 REFLEX_NOT_FOUND.';

create or replace function api.reset_reflex_errors(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  r public.reflexes := private.own_reflex(p);
begin
  perform private.revive_reflex(r.id, false);
  return private.reflex_json(private.own_reflex(p));
end
$$;
comment on function api.reset_reflex_errors is 'POST /reflexes/{reflexId}/reset-errors: reactivates without asking for the skill. Errors: 404 REFLEX_NOT_FOUND.';

create or replace function api.regenerate_reflex_secret(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  r public.reflexes := private.own_webhook(p);
begin
  perform private.keep_secret(r.id, p ->> 'sealedSecret');
  return jsonb_build_object('secret', p -> 'sealedSecret');
end
$$;
comment on function api.regenerate_reflex_secret is
  'POST /reflexes/{reflexId}/regenerate-secret, with what the server has sealed. Errors: 404 REFLEX_NOT_FOUND, 409 NOT_WEBHOOK.';

create or replace function api.get_reflex_webhook(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  r public.reflexes := private.own_webhook(p);
begin
  return jsonb_build_object('url', private.webhook_url(r.id), 'secret', coalesce(private.sealed_secret(r.id), ''),
    'method', r.trigger_config -> 'method', 'samplePayload', jsonb_build_object('event', 'example_event', 'timestamp', private.iso(now()),
      'data', jsonb_build_object('id', '123', 'action', 'created')));
end
$$;
comment on function api.get_reflex_webhook is 'GET /reflexes/{reflexId}/webhook-info. Errors: 404 REFLEX_NOT_FOUND, 409 NOT_WEBHOOK.';

create or replace function api.list_reflex_executions(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 10);
  r public.reflexes := private.own_reflex(p);
begin
  return jsonb_build_object(
    'executions', (
      select coalesce(jsonb_agg(private.execution_json(l.e) order by (l.e).executed_at desc, (l.e).id desc), '[]')
      from (select e from public.skill_executions e where e.reference_id = r.id and e.user_id = r.user_id
        order by e.executed_at desc, e.id desc limit v_at.size offset v_at.skipped) l),
    'total', (select count(*) from public.skill_executions e where e.reference_id = r.id and e.user_id = r.user_id));
end
$$;
comment on function api.list_reflex_executions is 'GET /reflexes/{reflexId}/executions, newest first. Errors: 404 REFLEX_NOT_FOUND.';

-- The server has evaluated the conditions on the sample; it calls the model with the returned request. A sample that does not fit is a
-- result, and so is one that does not match (p.unmatched, why), which comes here to be kept under an Idempotency-Key.
create or replace function api.test_reflex(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  r public.reflexes := private.own_reflex(p);
  s public.skills := private.visible_skill(r.skill_id);
  v_input jsonb := jsonb_build_object('trigger', r.trigger_type, 'payload', private.object_of(p -> 'body' -> 'samplePayload'));
  v_fault text := private.input_faults(s.input_schema, v_input, r.trigger_type) -> 0 ->> 'message';
  v_prompt text;
begin
  if p ? 'unmatched' then
    return jsonb_build_object('unmatched', p -> 'unmatched');
  end if;
  if v_fault is null then
    begin
      v_prompt := private.render_prompt(s.prompt_template, s.input_schema, v_input, r.trigger_type);
    exception when sqlstate 'PT400' then
      -- The prompt would become too long.
      v_fault := sqlerrm;
    end;
  end if;
  if v_fault is not null then
    return jsonb_build_object('error', v_fault);
  end if;
  perform private.assert_model_answers(s.model);
  perform private.pay_for_test();
  return jsonb_build_object('organizationId', private.org_id(), 'model', s.model, 'parameters', s.parameters, 'prompt', v_prompt);
end
$$;
comment on function api.test_reflex is
  'POST /reflexes/{reflexId}/test, once the conditions match: checks and pays; the server calls the model. Errors: 404 REFLEX_NOT_FOUND, 404 SKILL_NOT_FOUND, 503 PROVIDER_NOT_CONFIGURED, 429 QUOTA_EXCEEDED.';

grant execute on function api.test_reflex, api.list_reflexes, api.create_reflex, api.get_reflex_stats, api.get_reflex, api.get_reflex_full, api.update_reflex,
  api.delete_reflex, api.activate_reflex, api.deactivate_reflex, api.reset_reflex_errors, api.regenerate_reflex_secret,
  api.get_reflex_webhook, api.list_reflex_executions to authenticated;
