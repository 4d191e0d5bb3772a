-- Checks who asks for a connection token, and whether they may watch its project (contract 30, 2.5). The server signs the token.
create or replace function api.authorize_socket(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_given text := p -> 'body' ->> 'projectId';
  v_project uuid := private.as_uuid(v_given);
begin
  if v_given is not null and v_project is null then
    perform private.refuse_field('projectId', 'The project id is not valid.');
  elsif v_given is not null and not exists (select from public.projects where id = v_project) then
    perform private.refuse(404, 'PROJECT_NOT_FOUND', 'There is no such project.');
  end if;
  return jsonb_strip_nulls(jsonb_build_object('userId', private.user_id(), 'sessionId', private.session_id(),
    'organizationId', private.org_id(), 'projectId', v_project));
end
$$;
comment on function api.authorize_socket is 'What a connection token of the caller says. Errors: 400 VALIDATION_ERROR, 404 PROJECT_NOT_FOUND.';
grant execute on function api.authorize_socket to authenticated;

create or replace function api.count_connections(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return jsonb_build_object('connectedClients', private.count_watchers(private.path_project(p, 'manager')));
end
$$;
comment on function api.count_connections is 'How many sockets watch a project. Errors: 403 FORBIDDEN, 404 PROJECT_NOT_FOUND.';
grant execute on function api.count_connections to authenticated;

create or replace function api.list_access_log(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.read_refusals(coalesce(private.as_int(p -> 'limit', 'limit'), 100));
end
$$;
comment on function api.list_access_log is 'Refused attempts to open a socket or to join a room. Errors: 403 FORBIDDEN.';
grant execute on function api.list_access_log to authenticated;

create or replace function api.clear_access_log(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  perform private.clear_refusals();
  return jsonb_build_object('success', true);
end
$$;
comment on function api.clear_access_log is 'Empties the access log. Errors: 403 FORBIDDEN.';
grant execute on function api.clear_access_log to authenticated;
