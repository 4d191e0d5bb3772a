-- The AI gateway's part of the database (contract 60, section 14): the models that may be called, and the unit that each call costs.
-- Prompts and answers never come here. The server asks once before it calls, in a transaction of its own, and holds no transaction while it
-- waits.

create or replace function private.models_json() returns jsonb
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return jsonb_build_object(
    'models', coalesce((select jsonb_agg(jsonb_build_object('id', m.id, 'name', m.name, 'description', m.description) order by m.position)
      from public.models m), '[]'),
    'configured', private.is_provider_configured((private.resolve_model(private.default_model())).provider, private.org_id()));
end
$$;
comment on function private.models_json is
  'The offered models, and whether the default one can be answered for the caller''s organization. Authorization: only the caller''s own organization.';
grant execute on function private.models_json to authenticated;

create or replace function api.list_models(p jsonb) returns jsonb
language sql stable
as $$ select private.models_json() $$;
comment on function api.list_models is 'Models in their order, and whether the default one can be asked.';
grant execute on function api.list_models to authenticated;

-- Who answers a call of the caller's organization, and how. Nothing is charged.
create or replace function private.route_model_call(p_model text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org uuid := private.org_id();
  v record;
  v_answers text;
begin
  if v_org is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  select * into v from private.resolve_model(p_model);
  if v.provider is null or v.provider not in ('anthropic', 'google') then
    perform private.refuse(400, 'MODEL_NOT_SUPPORTED', 'No provider of this installation has this model.', 'model');
  end if;
  perform private.assert_provider(p_model, v_org);
  v_answers := private.answering_provider(v.provider, v_org);
  return jsonb_build_object('answers', v_answers, 'called', v.called, 'organizationId', v_org,
    'hasOwnKey', private.provider_key(v_answers, v_org) is not null)
    || case when private.takes_sampling(v.called) then '{}' else '{"withoutSampling": true}' end::jsonb;
end
$$;
comment on function private.route_model_call is
  'Who answers a call to a model for the caller''s organization. Authorization: only the caller''s own organization. Errors: 400 MODEL_NOT_SUPPORTED, 503 PROVIDER_NOT_CONFIGURED.';

-- A call that is refused here costs nothing. A call that passes has cost its unit, however it ends.
create or replace function private.admit_model_call(p_model text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v constant jsonb := private.route_model_call(p_model);
begin
  perform private.consume_call(private.org_id());
  return v;
end
$$;
comment on function private.admit_model_call is
  'Charges one api_calls unit of the caller''s organization for a call to a model, and says who answers it. Authorization: only the caller''s own organization. Errors: 400 MODEL_NOT_SUPPORTED, 503 PROVIDER_NOT_CONFIGURED, 429 QUOTA_EXCEEDED.';
grant execute on function private.route_model_call, private.admit_model_call to authenticated;
