create or replace function api.get_persona(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v public.user_personas;
begin
  select * into v from public.user_personas x where x.user_id = private.user_id();
  return private.persona_json(v);
end
$$;
comment on function api.get_persona is 'GET /me/persona: PersonaDetectionResult.';

create or replace function api.set_persona(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.persona_json(private.write_persona(private.as_object(p -> 'body', 'body')));
end
$$;
comment on function api.set_persona is 'PUT /me/persona: PersonaDetectionResult. Errors: 400 VALIDATION_ERROR.';
grant execute on function api.get_persona, api.set_persona to authenticated;
