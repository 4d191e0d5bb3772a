-- Repositories of a project (contract 10, sections 7.3 and 9). The host decides the provider, and only known hosts are ever contacted. The
-- stored address is rebuilt from host and path, so no other part of the input survives.

-- null provider: not a repository address. The order of reading matters: query and fragment are removed before the host is looked for, and
-- the host comes after the last @ of the authority (https://github.com@evil.example/a/b is evil.example's).
create or replace function private.parse_repository_url(p_url text, out provider text, out url text, out name text)
language plpgsql stable
as $$
declare
  v text := regexp_replace(private.trimmed(coalesce(p_url, '')), '[?#].*$', '');
  v_host text;
  v_path text;
  v_segments text[];
  v_match text[];
begin
  if char_length(v) > 2000 or v !~ '^[\x21-\x7e]+$' or v ~ '[\\<>"`{}|^]' then
    return;
  end if;

  v_match := regexp_match(v, '^(?:(https?|ssh)://)?(?:[^/]*@)?([^/@:]+)(?::([0-9]+))?/(.*)$', 'i');
  if v_match is not null and v !~* '^[a-z][a-z0-9+.-]*::' then
    if v_match[3] is not null and v_match[3] <> (case lower(v_match[1]) when 'http' then '80' when 'ssh' then '22' else '443' end) then
      return;
    end if;
    v_host := lower(v_match[2]);
    v_path := v_match[4];
  else
    v_match := regexp_match(v, '^git@([^/@:]+):([^:@]*)$', 'i');
    if v_match is null then
      return;
    end if;
    v_host := lower(v_match[1]);
    v_path := v_match[2];
  end if;
  v_host := regexp_replace(v_host, '^www\.', '');

  provider := case
    when v_host = 'github.com' then 'github'
    when v_host = 'gitlab.com' then 'gitlab'
    when v_host = 'bitbucket.org' then 'bitbucket'
    when v_host in ('dev.azure.com', 'ssh.dev.azure.com') or v_host ~ '^[a-z0-9][a-z0-9-]*\.visualstudio\.com$' then 'azure'
    else private.git_host_provider(v_host) end;
  if provider is null then
    return;
  end if;

  v_segments := string_to_array(regexp_replace(regexp_replace(v_path, '/+$', ''), '\.git$', '', 'i'), '/');
  if v_segments && array['', '.', '..'] then
    provider := null;
    return;
  end if;

  if provider = 'azure' then
    if v_host = 'ssh.dev.azure.com' then
      -- v3/org/project/repo
      v_segments := case when cardinality(v_segments) = 4 and v_segments[1] = 'v3' then v_segments[2:3] || '_git'::text || v_segments[4] end;
      v_host := 'dev.azure.com';
    elsif v_host like '%.visualstudio.com' then
      v_segments := split_part(v_host, '.', 1)
        || case when lower(v_segments[1]) = 'defaultcollection' then v_segments[2:] else v_segments end;
      v_host := 'dev.azure.com';
    end if;
    v_segments := v_segments[:4];
    if cardinality(v_segments) is distinct from 4 or v_segments[3] <> '_git' then
      provider := null;
      return;
    end if;
    name := v_segments[1] || '/' || v_segments[2] || '/' || v_segments[4];
  elsif provider = 'gitlab' then
    v_segments := v_segments[:coalesce(array_position(v_segments, '-') - 1, cardinality(v_segments))];
  else
    v_segments := v_segments[:2];
  end if;
  -- The removed end may have hidden the .git of the repository's own segment.
  v_segments[cardinality(v_segments)] := regexp_replace(v_segments[cardinality(v_segments)], '\.git$', '', 'i');

  if coalesce(cardinality(v_segments), 0) not between 2 and 20
    or exists (select from unnest(v_segments) s where s is null or s !~ '^[A-Za-z0-9._-]+$' or s in ('.', '..')) then
    provider := null;
    name := null;
    return;
  end if;
  name := coalesce(name, array_to_string(v_segments, '/'));
  url := 'https://' || v_host || '/' || array_to_string(v_segments, '/');
  if char_length(name) > 200 or char_length(url) > 500 then
    provider := null;
    name := null;
    url := null;
  end if;
end
$$;
comment on function private.parse_repository_url is
  'Provider, normalized URL and name of a repository address; nulls where it is none of a supported provider.';

-- {"git.example.com": "gitlab"} of this installation.
create or replace function private.git_host_provider(p_host text) returns text
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return private.installation_value('git_hosts') ->> p_host;
end
$$;
comment on function private.git_host_provider is 'Provider of a self-hosted Git host that this installation trusts, or null. Authorization: gives away only what every reply shows.';

-- git check-ref-format, for a branch.
create or replace function private.is_branch_name(p_name text) returns boolean
language sql immutable parallel safe
return char_length(p_name) between 1 and 100 and p_name !~ '[\u0001-\u0020\u007f~^:?*\[\\]' and p_name !~ '(^[-/])|(/$)|(\.$)|(//)|(\.\.)|(@\{)'
  and p_name !~ '(^|/)\.' and p_name !~ '\.lock(/|$)' and p_name <> '@';
comment on function private.is_branch_name is 'Would git take this as the name of a branch?';

-- A glob has *, ?, ** and character classes; the only possible fault is a class without end.
create or replace function private.is_glob(p_pattern text) returns boolean
language sql immutable parallel safe
return char_length(p_pattern) between 1 and 200 and private.is_plain(p_pattern)
  and regexp_replace(p_pattern, '\\.|\[[!^]?\]?[^\]]*\]', '', 'g') !~ '[\[\\]';
comment on function private.is_glob is 'Is the pattern a valid glob of 1 to 200 characters?';

-- Patterns as they are stored: in order, duplicates dropped.
create or replace function private.as_patterns(p_list jsonb, p_field text) returns jsonb
language plpgsql stable
as $$
declare
  v text;
  v_index integer := 0;
begin
  if jsonb_typeof(p_list) <> 'array' or jsonb_array_length(p_list) > 100 then
    perform private.refuse_field(p_field, 'At most 100 patterns are allowed.');
  end if;
  for v in select jsonb_array_elements_text(p_list) loop
    if v is null or not private.is_glob(v) then
      perform private.refuse_field(format('%s[%s]', p_field, v_index), 'This is not a valid pattern of 1 to 200 characters.');
    end if;
    v_index := v_index + 1;
  end loop;
  return (select coalesce(jsonb_agg(e.v order by e.ord), '[]')
    from (select t.pattern as v, min(t.ord) as ord from jsonb_array_elements_text(p_list) with ordinality t (pattern, ord) group by 1) e);
end
$$;
comment on function private.as_patterns is 'A list of globs, checked and without duplicates.';

grant execute on function private.parse_repository_url, private.git_host_provider, private.is_branch_name, private.is_glob,
  private.as_patterns to authenticated, service_role, kijko_worker;

create or replace function private.repository_json(r public.project_repositories) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', r.id, 'projectId', r.project_id, 'provider', r.provider,
  'repositoryUrl', r.repository_url, 'repositoryName', r.repository_name, 'branch', r.branch, 'status', r.status,
  'lastSyncAt', private.iso(r.last_sync_at), 'lastCommitHash', r.last_commit_hash, 'fileCount', r.file_count,
  'includePaths', nullif(r.include_paths, '[]'), 'excludePaths', nullif(r.exclude_paths, '[]'),
  'createdAt', private.iso(r.created_at), 'updatedAt', private.iso(r.updated_at)));
comment on function private.repository_json is 'ProjectRepository of the contract.';
grant execute on function private.repository_json to authenticated, service_role;

-- -------------------------------------------------------------------------------------------------------------------- operations

create or replace function api.validate_repository(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v record;
begin
  if private.trimmed(coalesce(p -> 'body' ->> 'url', '')) = '' then
    return '{"valid": false, "error": "Repository URL is required."}';
  end if;
  select * into v from private.parse_repository_url(p -> 'body' ->> 'url');
  if v.provider is null then
    return '{"valid": false, "error": "Invalid repository URL. Supported providers are GitHub, GitLab, Bitbucket and Azure DevOps."}';
  end if;
  return jsonb_build_object('valid', true, 'provider', v.provider, 'repoName', v.name);
end
$$;
comment on function api.validate_repository is 'POST /projects/validate-repository: syntax only, always 200.';
grant execute on function api.validate_repository to authenticated;

create or replace function api.list_repositories(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_project uuid := private.path_project(p);
begin
  return (select coalesce(jsonb_agg(private.repository_json(r) order by r.created_at, r.id), '[]')
    from public.project_repositories r where r.project_id = v_project);
end
$$;
comment on function api.list_repositories is 'GET /projects/{projectId}/repositories: ProjectRepository[]. An auditor''s list is empty.';
grant execute on function api.list_repositories to authenticated;

-- The branch of a request, checked.
create or replace function private.as_branch(p_branch text) returns text
language plpgsql stable
as $$
begin
  if not private.is_branch_name(p_branch) then
    perform private.refuse_field('branch', 'This is not a valid branch name of at most 100 characters.');
  end if;
  return p_branch;
end
$$;
comment on function private.as_branch is 'The branch name, or 400 VALIDATION_ERROR.';

create or replace function private.refuse_processing(p_project_id uuid) returns void
language plpgsql stable
as $$
begin
  if exists (select from public.projects where id = p_project_id and status = 'processing') then
    perform private.refuse(409, 'ALREADY_PROCESSING', 'This project is being ingested. Wait for the end or cancel the run first.');
  end if;
end
$$;
comment on function private.refuse_processing is '409 ALREADY_PROCESSING while a run is active.';

create or replace function private.assert_repository_free(p_project_id uuid, p_url text, p_branch text, p_exclude_id uuid default null)
returns void
language plpgsql stable
as $$
begin
  if exists (select from public.project_repositories
    where project_id = p_project_id and repository_url = p_url and branch = p_branch and id is distinct from p_exclude_id) then
    perform private.refuse(409, 'REPOSITORY_EXISTS', 'This repository and branch are already part of the project.', 'repositoryUrl');
  end if;
end
$$;
comment on function private.assert_repository_free is '409 REPOSITORY_EXISTS where URL and branch are in the project already.';
grant execute on function private.as_branch, private.refuse_processing, private.assert_repository_free to authenticated, service_role;

create or replace function api.add_repository(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  b jsonb := p -> 'body';
  v_project uuid := private.path_project(p, 'developer');
  v_branch text := private.as_branch(coalesce(nullif(btrim(b ->> 'branch'), ''), 'main'));
  v record;
  r public.project_repositories;
begin
  if b ? 'projectId' and private.as_uuid(b ->> 'projectId') is distinct from v_project then
    perform private.refuse_field('projectId', 'This is not the project of the path.');
  end if;
  select * into v from private.parse_repository_url(b ->> 'repositoryUrl');
  if v.provider is null then
    perform private.refuse_field('repositoryUrl',
      'Invalid repository URL. Supported providers are GitHub, GitLab, Bitbucket and Azure DevOps.');
  elsif v.provider is distinct from b ->> 'provider' then
    perform private.refuse_field('provider', format('This address belongs to %s.', v.provider));
  end if;
  perform private.assert_repository_free(v_project, v.url, v_branch);

  insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name, branch,
    include_paths, exclude_paths)
  select p.organization_id, p.id, v.provider, v.url, v.name, v_branch,
    private.as_patterns(coalesce(b -> 'includePaths', '[]'), 'includePaths'),
    private.as_patterns(coalesce(b -> 'excludePaths', '[]'), 'excludePaths')
  from public.projects p where p.id = v_project
  returning * into r;
  return private.repository_json(r);
end
$$;
comment on function api.add_repository is
  'POST /projects/{projectId}/repositories: ProjectRepository. Errors: 400, 403, 404 PROJECT_NOT_FOUND, 409 REPOSITORY_EXISTS.';
grant execute on function api.add_repository to authenticated;

-- Locks the row: a run that begins in between waits, or is seen.
create or replace function private.path_repository(p jsonb, p_minimum text) returns public.project_repositories
language plpgsql volatile
as $$
declare
  v_project uuid := private.path_project(p, p_minimum);
  r public.project_repositories;
begin
  select * into r from public.project_repositories
  where project_id = v_project and id = private.as_uuid(p ->> 'repoId') for update;
  if not found then
    perform private.refuse(404, 'REPOSITORY_NOT_FOUND', 'This repository does not exist.');
  end if;
  return r;
end
$$;
comment on function private.path_repository is 'The repository of the path, checked and locked: 404 REPOSITORY_NOT_FOUND.';
grant execute on function private.path_repository to authenticated;

create or replace function api.update_repository(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  b jsonb := p -> 'body';
  r public.project_repositories := private.path_repository(p, 'developer');
begin
  perform private.refuse_processing(r.project_id);
  if b ? 'branch' then
    perform private.assert_repository_free(r.project_id, r.repository_url, private.as_branch(b ->> 'branch'), r.id);
  end if;
  update public.project_repositories
  set branch = coalesce(b ->> 'branch', branch),
    include_paths = private.as_patterns(coalesce(nullif(b -> 'includePaths', 'null'), case when b ? 'includePaths' then '[]' else include_paths end), 'includePaths'),
    exclude_paths = private.as_patterns(coalesce(nullif(b -> 'excludePaths', 'null'), case when b ? 'excludePaths' then '[]' else exclude_paths end), 'excludePaths')
  where id = r.id
  returning * into r;
  return private.repository_json(r);
end
$$;
comment on function api.update_repository is
  'PUT /projects/{projectId}/repositories/{repoId}: ProjectRepository, pending again. Errors: 409 ALREADY_PROCESSING, REPOSITORY_EXISTS.';
grant execute on function api.update_repository to authenticated;

create or replace function api.remove_repository(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  r public.project_repositories := private.path_repository(p, 'developer');
begin
  perform private.refuse_processing(r.project_id);
  delete from public.project_repositories where id = r.id;
  return '{"success": true}';
end
$$;
comment on function api.remove_repository is 'DELETE /projects/{projectId}/repositories/{repoId}: {success}. Errors: 409 ALREADY_PROCESSING.';
grant execute on function api.remove_repository to authenticated;
