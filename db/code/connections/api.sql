create or replace function api.list_connections(p jsonb) returns jsonb
language sql stable
as $$ select private.git_connections_json() $$;
comment on function api.list_connections is 'GET /oauth/connections: OAuthConnection[] of the caller.';

create or replace function api.begin_connection(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.assert_git_provider(p ->> 'provider');
  return private.begin_connection(p);
end
$$;
comment on function api.begin_connection is
  'POST /oauth/connect/{provider}, with what the server has made for it. Errors: 400 VALIDATION_ERROR, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function api.finish_connection(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.finish_own_connection(p);
end
$$;
comment on function api.finish_connection is 'POST /oauth/callback, with what the provider gave: OAuthConnection. Errors: 400 OAUTH_STATE_INVALID.';

create or replace function api.disconnect_provider(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.drop_connection(private.assert_git_provider(p ->> 'provider'));
  return '{"success": true}';
end
$$;
comment on function api.disconnect_provider is 'DELETE /oauth/disconnect/{provider}: {success}, also where nothing was connected. Errors: 400 VALIDATION_ERROR.';

-- Answers {url}: the data that the server needs to look at a repository for the caller.
create or replace function api.prepare_check(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_url text := coalesce(p -> 'body' ->> 'url', p ->> 'url');
  v record;
begin
  select * into v from private.parse_repository_url(v_url);
  if v.provider is null then
    return api.validate_repository(jsonb_build_object('body', jsonb_build_object('url', v_url)));
  end if;
  return jsonb_strip_nulls(jsonb_build_object('provider', v.provider, 'url', v.url, 'name', v.name, 'info', private.known_check(v.url)));
end
$$;
comment on function api.prepare_check is 'A repository''s address in its parts, {provider, url, name}, and what is known of it, info?; {valid: false, error} where it is none.';

create or replace function api.list_recent_repositories(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  if coalesce(p ->> 'userId', '') in ('me', 'current-user') then
    null;
  elsif private.as_uuid(p ->> 'userId') is null then
    perform private.refuse_field('userId', 'This is neither the id of a user nor me.');
  elsif private.as_uuid(p ->> 'userId') <> private.user_id() then
    perform private.refuse(403, 'FORBIDDEN', 'Recent repositories are shown to their own user only.');
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('repoUrl', e.repository_url, 'repoName', regexp_replace(e.repository_url, '^.*/', ''),
      'lastAnalyzed', private.iso(e.last), 'usageCount', e.uses, 'provider', e.provider) order by e.last desc, e.uses desc, e.repository_url), '[]')
    from (
      select r.repository_url, min(r.provider) as provider, max(g.completed_at) as last, count(distinct g.id) as uses
      from public.ingestion_runs g join public.project_repositories r on r.project_id = g.project_id and r.created_at <= g.completed_at
      where g.started_by = private.user_id() and g.outcome = 'completed'
      group by 1 order by 3 desc, 4 desc, 1 limit 5) e);
end
$$;
comment on function api.list_recent_repositories is 'GET /users/{userId}/recent-repos: RecentRepo[], at most 5. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN for another user''s.';

create or replace function api.get_directory_sync(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.directory_json(private.path_project(p, 'admin'));
end
$$;
comment on function api.get_directory_sync is 'GET /projects/{projectId}/directory-sync: DirectorySyncStatus or null. Errors: 403, 404 PROJECT_NOT_FOUND.';

create or replace function api.begin_directory_sync(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return private.begin_directory(p);
end
$$;
comment on function api.begin_directory_sync is
  'POST /projects/{projectId}/directory-sync/{provider}, with what the server has made for it. Errors: 400, 403 FORBIDDEN, 403 PLAN_UPGRADE_REQUIRED, 404 PROJECT_NOT_FOUND, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function api.end_directory_sync(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.end_directory(private.path_project(p, 'admin'));
  return '{"success": true}';
end
$$;
comment on function api.end_directory_sync is 'DELETE /projects/{projectId}/directory-sync: {success}; members stay. Errors: 403, 404 PROJECT_NOT_FOUND.';

grant execute on function api.list_connections, api.begin_connection, api.finish_connection, api.disconnect_provider, api.prepare_check,
  api.list_recent_repositories, api.get_directory_sync, api.begin_directory_sync, api.end_directory_sync to authenticated;
