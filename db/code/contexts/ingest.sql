-- What a request to ingest says (contract 60, 3.3): the three bodies, the configuration, the source.

-- A list of tags as it is stored: trimmed, without empty and repeated ones, in order.
create or replace function private.as_tags(p_tags jsonb, p_field text, p_lower boolean) returns text[]
language plpgsql stable
as $$
declare
  v_tags text[];
begin
  if jsonb_typeof(p_tags) = 'array' and exists (select from jsonb_array_elements(p_tags) t where jsonb_typeof(t) <> 'string') then
    perform private.refuse_field(p_field, 'A tag is a text.');
  end if;
  select coalesce(array_agg(d.tag order by d.ord), '{}') into v_tags
  from (
    select n.tag, min(n.ord) as ord
    from (select case when p_lower then lower(private.trimmed(t.tag)) else private.trimmed(t.tag) end as tag, t.ord
      from jsonb_array_elements_text(coalesce(private.as_array(p_tags, p_field), '[]')) with ordinality t (tag, ord)) n
    where n.tag <> '' group by n.tag) d;
  if cardinality(v_tags) > 50 then
    perform private.refuse_field(p_field, 'At most 50 tags are allowed.');
  elsif exists (select from unnest(v_tags) t where char_length(t) > 50 or not private.is_plain(t)) then
    perform private.refuse_field(p_field, 'A tag has at most 50 characters, none of them a control character.');
  end if;
  return v_tags;
end
$$;
comment on function private.as_tags is 'Tags, checked and without duplicates. Errors: 400 VALIDATION_ERROR.';

create or replace function private.as_display_name(p_name jsonb) returns text
language plpgsql stable
as $$
declare
  v_name text := private.trimmed(p_name #>> '{}');
begin
  if jsonb_typeof(p_name) is distinct from 'string' or char_length(v_name) not between 1 and 255 or not private.is_plain(v_name) then
    perform private.refuse_field('displayName', 'The name must have 1 to 255 characters, none of them a control character.');
  end if;
  return v_name;
end
$$;
comment on function private.as_display_name is 'The trimmed name of an entry. Errors: 400 VALIDATION_ERROR.';

-- Mean distance of the ten pairs of colors, in percent of three quarters of that of the defaults.
create or replace function private.visibility_index(p_colors text[]) returns integer
language sql immutable parallel safe
return (
  select least(100, round(avg(sqrt((a.r - b.r) ^ 2 + (a.g - b.g) ^ 2 + (a.b - b.b) ^ 2))::numeric / 184.5545 * 75))::integer
  from (select t.ord, ('x' || substr(t.c, 2, 2))::bit(8)::integer as r, ('x' || substr(t.c, 4, 2))::bit(8)::integer as g,
      ('x' || substr(t.c, 6, 2))::bit(8)::integer as b from unnest(p_colors) with ordinality t (c, ord)) a
  join (select t.ord, ('x' || substr(t.c, 2, 2))::bit(8)::integer as r, ('x' || substr(t.c, 4, 2))::bit(8)::integer as g,
      ('x' || substr(t.c, 6, 2))::bit(8)::integer as b from unnest(p_colors) with ordinality t (c, ord)) b on a.ord < b.ord
);
comment on function private.visibility_index is 'How well five colors #RRGGBB are told apart, 0 to 100.';

create or replace function private.as_chromacode(p_colors jsonb) returns jsonb
language plpgsql stable
as $$
declare
  c_names constant text[] := array['controlFlow', 'storage', 'literals', 'execution', 'meta'];
  v_colors text[];
  v_index integer;
begin
  if p_colors is null or p_colors = 'null' then
    return '{"controlFlow": "#D00000", "storage": "#0000D0", "literals": "#007000", "execution": "#800080", "meta": "#505050"}';
  elsif jsonb_typeof(p_colors) <> 'object' then
    perform private.refuse_field('chromacode', 'Chromacode is five colors #RRGGBB: controlFlow, storage, literals, execution, meta.');
  end if;
  v_colors := array(select p_colors ->> n.name from unnest(c_names) with ordinality n (name, ord) order by n.ord);
  if exists (select from unnest(v_colors) c where c is null or c !~ '^#[0-9A-Fa-f]{6}$') then
    perform private.refuse_field('chromacode', 'Chromacode is five colors #RRGGBB: controlFlow, storage, literals, execution, meta.');
  end if;
  v_index := private.visibility_index(v_colors);
  if v_index < 75 then
    perform private.refuse_field('chromacode', format('The colors are too much alike: their visibility index is %s, at least 75 is needed.', v_index));
  end if;
  return (select jsonb_object_agg(n.name, p_colors -> n.name) from unnest(c_names) n (name));
end
$$;
comment on function private.as_chromacode is 'The five colors; the defaults where none are given. Errors: 400 VALIDATION_ERROR naming the visibility index.';

-- IngestionConfig, checked: {fileId, fileName, displayName, compress, codebase, tags, description, neverCompress, isVerbatim, chromacode}.
create or replace function private.as_ingestion_config(c jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_compress boolean;
  v_never boolean := coalesce(private.as_bool(c -> 'neverCompress', 'neverCompress'), false);
  v_tags text[];
begin
  if jsonb_typeof(c) is distinct from 'object' then
    perform private.refuse_field('config', 'The configuration of an ingestion is an object.');
  elsif jsonb_typeof(c -> 'fileId') is distinct from 'string' or char_length(c ->> 'fileId') not between 1 and 255 then
    perform private.refuse_field('fileId', 'fileId is a text of 1 to 255 characters.');
  elsif jsonb_typeof(c -> 'fileName') is distinct from 'string' or char_length(c ->> 'fileName') not between 1 and 255 then
    perform private.refuse_field('fileName', 'fileName is a text of 1 to 255 characters.');
  elsif c ->> 'processingMode' is null or c ->> 'processingMode' not in ('none', 'compress') then
    perform private.refuse_field('processingMode', 'processingMode is none or compress.');
  elsif jsonb_typeof(c -> 'codebase') is distinct from 'object' or c #>> '{codebase,type}' is null
    or c #>> '{codebase,type}' not in ('existing', 'new') or jsonb_typeof(c #> '{codebase,name}') is distinct from 'string' then
    perform private.refuse_field('codebase', 'codebase is {type: existing or new, id?, name}.');
  elsif c -> 'description' <> 'null' and (jsonb_typeof(c -> 'description') <> 'string' or char_length(c ->> 'description') > 2000) then
    perform private.refuse_field('description', 'The description is a text of at most 2,000 characters.');
  end if;
  v_compress := c ->> 'processingMode' = 'compress';
  v_tags := private.as_tags(c -> 'tags', 'tags', true);
  v_tags := v_tags || array(select t.tag from unnest(private.as_tags(c -> 'documentationTags', 'documentationTags', true)) with ordinality t (tag, ord)
    where t.tag <> all (v_tags) order by t.ord);
  v_tags := v_tags || array(select t.tag from unnest(private.as_tags(c -> 'knowledgeGraphTags', 'knowledgeGraphTags', true)) with ordinality t (tag, ord)
    where t.tag <> all (v_tags) order by t.ord);
  return jsonb_strip_nulls(jsonb_build_object('fileId', c ->> 'fileId', 'fileName', c ->> 'fileName', 'displayName', private.as_display_name(c -> 'displayName'),
    'compress', v_compress, 'codebase', c -> 'codebase', 'tags', to_jsonb(v_tags), 'description', nullif(private.trimmed(c ->> 'description'), ''),
    'neverCompress', v_never and not v_compress, 'isVerbatim', not v_compress, 'chromacode', case when v_compress then private.as_chromacode(c -> 'chromacode') end,
    'labelType', substring(c ->> 'fileId' from '^(file|repo|text)-')));
end
$$;
comment on function private.as_ingestion_config is 'IngestionConfig of a request, checked and in the form of an entry. Errors: 400 VALIDATION_ERROR.';

-- The numbers of a declared entry, checked.
create or replace function private.as_declared_entry(b jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_compressed boolean := coalesce(private.as_bool(b -> 'compressed', 'compressed'), false);
  v_never boolean := coalesce(private.as_bool(b -> 'neverCompress', 'neverCompress'), false);
  v_added bigint := private.as_bigint(b -> 'filesAdded', 'filesAdded');
  v_removed bigint := coalesce(private.as_bigint(b -> 'filesRemoved', 'filesRemoved'), 0);
  v_tokens bigint := coalesce(private.as_bigint(b -> 'tokens', 'tokens'), 0);
begin
  if v_added is null or v_added not between 0 and 1000000 then
    perform private.refuse_field('filesAdded', 'filesAdded is a whole number from 0 to 1,000,000.');
  elsif v_removed not between 0 and 1000000 then
    perform private.refuse_field('filesRemoved', 'filesRemoved is a whole number from 0 to 1,000,000.');
  elsif v_tokens not between 0 and 1000000000000 then
    perform private.refuse_field('tokens', 'tokens is a whole number from 0 to 1,000,000,000,000.');
  elsif b -> 'sourceType' <> 'null' and (b ->> 'sourceType') not in ('file', 'repo', 'text') then
    perform private.refuse_field('sourceType', 'sourceType is file, repo or text.');
  elsif v_compressed and v_never then
    perform private.refuse_field('neverCompress', 'An entry is not both compressed and never to be compressed.');
  end if;
  return jsonb_strip_nulls(jsonb_build_object('filesAdded', v_added, 'filesRemoved', v_removed, 'tokens', v_tokens, 'sourceType', nullif(b -> 'sourceType', 'null'),
    'compressed', v_compressed, 'neverCompress', v_never, 'displayName', case when b -> 'displayName' <> 'null' then private.as_display_name(b -> 'displayName') end));
end
$$;
comment on function private.as_declared_entry is 'The arguments of addIngestionEntry, checked. Errors: 400 VALIDATION_ERROR.';
grant execute on function private.as_tags, private.as_display_name, private.visibility_index, private.as_chromacode, private.as_ingestion_config,
  private.as_declared_entry to authenticated;

-- ----------------------------------------------------------------------------------------------------------------------- sources

-- {sourceType, sources} of a stored source, by the id of a file, text or repository of the project.
create or replace function private.stored_source(p_project_id uuid, p_id text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_id uuid := private.as_uuid(p_id);
  v_origin text;
begin
  select f.origin into v_origin from public.project_files f
  where f.project_id = p_project_id and f.id = v_id and f.storage_key is not null and not f.is_folder;
  if found then
    return jsonb_build_object('sourceType', case v_origin when 'text' then 'text' else 'file' end,
      'sources', jsonb_build_object('fileIds', jsonb_build_array(v_id)));
  elsif exists (select from public.project_repositories r where r.project_id = p_project_id and r.id = v_id) then
    return jsonb_build_object('sourceType', 'repo', 'sources', jsonb_build_object('repositoryIds', jsonb_build_array(v_id)));
  end if;
  perform private.refuse_field('fileId', 'This is no file, text or repository of this context.');
  return null;
end
$$;
comment on function private.stored_source is
  'The source of form (a). Authorization: callable by definer functions of ours that have authorized the caller. Errors: 400 VALIDATION_ERROR on fileId.';

-- The same repository and branch again is the same source: its ingestion replaces what the one before brought.
create or replace function private.store_repository(p_project_id uuid, b jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  v_branch text := nullif(private.trimmed(b ->> 'branch'), '');
  v_id uuid;
begin
  if b ->> 'repoUrl' is null or b ->> 'repoUrl' !~* '^https://[^/@]+/' then
    perform private.refuse_field('repoUrl', 'The address begins with https:// and holds no credentials.');
  end if;
  select * into v from private.parse_repository_url(b ->> 'repoUrl');
  if v.provider is null then
    perform private.refuse_field('repoUrl', 'Invalid repository URL. Supported providers are GitHub, GitLab, Bitbucket and Azure DevOps.');
  elsif v_branch is not null then
    perform private.as_branch(v_branch);
  end if;
  select r.id into v_id from public.project_repositories r
  where r.project_id = p_project_id and r.repository_url = v.url and (v_branch is null or r.branch = v_branch)
  order by r.branch = 'main' desc, r.created_at, r.id limit 1;
  if not found then
    -- A branch that is not named is main, from which a run falls back to the remote's default.
    insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name, branch)
    select p.organization_id, p.id, v.provider, v.url, v.name, coalesce(v_branch, 'main') from public.projects p where p.id = p_project_id
    returning id into v_id;
  end if;
  return jsonb_build_object('sourceType', 'repo', 'sources', jsonb_build_object('repositoryIds', jsonb_build_array(v_id)));
end
$$;
comment on function private.store_repository is
  'The repository of form (b), added where it is new. Authorization: callable by definer functions of ours that have authorized the caller. Errors: 400 VALIDATION_ERROR.';

-- p_stored: {files: [{name, path, type, size, checksum, storageKey, storageProvider}]} or {text: {title?, size, ...}}, content that the
-- server has stored. `refused` are the keys of content that the server deletes again.
create or replace function private.store_content(p_project_id uuid, p_stored jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_result jsonb;
begin
  if p_stored ? 'text' then
    if char_length(p_stored #>> '{text,title}') > 255 then
      perform private.refuse_field('title', 'A title has at most 255 characters.');
    end if;
    v_result := private.place_text(p_project_id, p_stored -> 'text');
    return jsonb_build_object('sourceType', 'text', 'sources', jsonb_build_object('fileIds', jsonb_build_array(v_result -> 'id')), 'refused', '[]'::jsonb);
  end if;
  v_result := private.place_files(p_project_id, p_stored -> 'files', 'upload');
  if jsonb_array_length(v_result -> 'placed') = 0 then
    perform private.refuse_field('files', coalesce(v_result #>> '{errors,0,error}', 'The request carries no files.'));
  end if;
  return jsonb_build_object('sourceType', 'file', 'refused', v_result -> 'refused',
    'sources', jsonb_build_object('fileIds', (select jsonb_agg(f -> 'id') from jsonb_array_elements(v_result -> 'placed') f)));
end
$$;
comment on function private.store_content is
  'Registers content of form (b): {sourceType, sources, refused}. Authorization: callable by definer functions of ours that have authorized the caller. Errors: 400 on files or title, 429 QUOTA_EXCEEDED.';
