-- How contexts, their entries and their numbers are shown (contract 60, sections 2 to 4).

create or replace function private.ingestion_json(e public.context_ingestions) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('number', e.number, 'timestamp', private.iso(e.created_at), 'filesAdded', e.files_added,
  'filesRemoved', e.files_removed, 'tokens', e.tokens, 'compressedTokens', e.compressed_tokens, 'displayName', e.display_name,
  'tags', case when cardinality(e.tags) > 0 then to_jsonb(e.tags) end, 'compressed', e.compressed, 'neverCompress', e.never_compress,
  'sourceType', e.source_type, 'id', e.id, 'status', e.status, 'filesModified', e.files_modified, 'description', e.description,
  'errorMessage', e.error_code || ': ' || e.error_message, 'createdBy', e.created_by));
comment on function private.ingestion_json is 'IngestionEntry of the contract.';
grant execute on function private.ingestion_json to authenticated, service_role;

create or replace function private.savings_json(p_original numeric, p_served numeric, p_price numeric) returns jsonb
language sql stable parallel safe
return jsonb_build_object('originalTokens', p_original, 'compressedTokens', p_served,
  'ratio', case when p_original = 0 then 0 else round(p_original / greatest(p_served, 1), 1) end,
  'savingsPercent', case when p_original = 0 then 0 else round((1 - p_served / p_original) * 100, 1) end,
  'costSavings', round((p_original - p_served) * p_price / 1000000, 2));
comment on function private.savings_json is 'What compression saves, at a price for a million tokens.';
grant execute on function private.savings_json to authenticated, service_role;

create or replace function private.context_metrics(p_project_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v record;
  v_original numeric;
  v_served numeric;
  v_price numeric := coalesce((private.installation_value('token_price') #>> '{}')::numeric, 10);
begin
  select count(*) as live, max(e.created_at) as newest, min(e.created_at) as oldest,
    coalesce(sum(e.tokens) filter (where e.kind = 'declared'), 0) as declared,
    coalesce(sum(coalesce(e.compressed_tokens, e.tokens)) filter (where e.kind = 'declared'), 0) as declared_served
  into v
  from public.context_ingestions e where e.project_id = p_project_id;
  v_original := coalesce((select c.tokens from private.context_counters c where c.project_id = p_project_id), 0) + v.declared;
  v_served := least(private.served_tokens(p_project_id) + v.declared_served, v_original);
  return private.savings_json(v_original, v_served, v_price) || jsonb_build_object('totalIngestions', v.live, 'lastIngestion', private.iso(v.newest),
    'avgInterval', case when v.live < 2 then 0
      else round(extract(epoch from v.newest - v.oldest)::numeric / 86400 / (v.live - 1), 1) end);
end
$$;
comment on function private.context_metrics is
  'CompressionMetrics of the contract. Authorization: callable by definer functions of ours that have authorized the caller.';

-- The names of methods and levels are the frontend's.
create or replace function private.algorithm_info(p_settings jsonb) returns jsonb
language sql stable parallel safe
return jsonb_build_object(
  'method', case p_settings ->> 'method' when 'standard' then 'Standard Compression' else 'Hypervisa Contextual Compression v2.1' end,
  'preserves', to_jsonb(array_remove(array[case when coalesce((p_settings ->> 'preserveStructure')::boolean, true) then 'Structure' end,
    case when coalesce((p_settings ->> 'preserveTypes')::boolean, true) then 'Types' end,
    case when coalesce((p_settings ->> 'preserveExports')::boolean, true) then 'Exports' end,
    case when coalesce((p_settings ->> 'preserveDocs')::boolean, false) then 'Documentation' end], null)),
  'optimizationLevel', case p_settings ->> 'optimizationLevel' when 'low' then 'Low (favor accuracy)'
    when 'high' then 'High (favor accuracy over compression)' else 'Medium (balanced)' end);
comment on function private.algorithm_info is 'CompressionAlgorithmInfo of compression settings; absent members have their defaults.';

-- Language of a file in previews and diffs by its extension (contract 60, 4.3).
create or replace function private.shown_language(p_path text) returns text
language sql immutable parallel safe
return case lower(substring(p_path from '\.([^./]+)$'))
  when 'ts' then 'typescript' when 'tsx' then 'typescript' when 'js' then 'javascript' when 'jsx' then 'javascript' when 'json' then 'json'
  when 'md' then 'markdown' when 'py' then 'python' when 'rb' then 'ruby' when 'go' then 'go' when 'rs' then 'rust' when 'java' then 'java'
  when 'cpp' then 'cpp' when 'hpp' then 'cpp' when 'c' then 'c' when 'h' then 'c' when 'css' then 'css' when 'scss' then 'scss'
  when 'html' then 'html' when 'xml' then 'xml' when 'yaml' then 'yaml' when 'yml' then 'yaml' when 'sh' then 'bash' when 'bash' then 'bash'
  when 'sql' then 'sql' else 'text' end;
comment on function private.shown_language is 'The language that a diff names for a path.';
create or replace function private.preview_language(p_path text) returns text
language sql immutable parallel safe
return case lower(substring(p_path from '\.([^./]+)$')) when 'tsx' then 'tsx' when 'jsx' then 'jsx' else private.shown_language(p_path) end;
comment on function private.preview_language is 'The language that a preview names for a path.';
grant execute on function private.algorithm_info, private.shown_language, private.preview_language to authenticated, service_role;

-- base 1024, at most one decimal
create or replace function private.human_size(p_bytes numeric) returns text
language sql immutable parallel safe
return case when round(p_bytes) < 1024 then round(p_bytes)::text || ' B'
  when round(p_bytes / 1024, 1) < 1024 then trim_scale(round(p_bytes / 1024, 1))::text || ' KB'
  when round(p_bytes / 1048576, 1) < 1024 then trim_scale(round(p_bytes / 1048576, 1))::text || ' MB'
  else trim_scale(round(p_bytes / 1073741824, 1))::text || ' GB' end;
comment on function private.human_size is 'Bytes as the context store shows them.';
grant execute on function private.human_size to authenticated, service_role;

-- The numbers of a context beside its project row. Sums of the file set are no content: auditors see them.
create or replace function private.context_numbers(
  p public.projects, out bytes bigint, out files bigint, out type text, out status text, out newest timestamptz
)
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_manifests integer;
  v_ready timestamptz;
  v_last text;
begin
  if private.project_role(p.id) is null then
    return;
  end if;
  select c.bytes, c.files, c.root_manifests into bytes, files, v_manifests from private.context_counters c where c.project_id = p.id;
  bytes := coalesce(bytes, 0);
  files := coalesce(files, 0);
  type := case when p.type = 'repository' then 'repo' when v_manifests > 0 then 'package' else 'files' end;
  select e.created_at, e.status into newest, v_last from public.context_ingestions e where e.project_id = p.id order by e.number desc limit 1;
  select e.ready_at into v_ready from public.context_ingestions e
  where e.project_id = p.id and e.status = 'ready' order by e.number desc limit 1;
  status := case
    when v_ready is null or p.status = 'processing'
      or exists (select from public.context_ingestions e where e.project_id = p.id and e.status = 'processing') then 'pending'
    when v_last = 'failed' or v_ready < now() - make_interval(days => coalesce((private.installation_value('context_days') #>> '{}')::integer, 30))
      or exists (select from public.project_repositories r
        where r.organization_id = p.organization_id and r.project_id = p.id and r.known_commit_hash <> r.last_commit_hash) then 'expired'
    else 'cached' end;
end
$$;
comment on function private.context_numbers is
  'Size, type and status of a context (contract 60, section 2). Authorization: nulls for a context that the caller does not see; sums only.';
grant execute on function private.context_numbers to authenticated;

create or replace function private.context_item(p public.projects, p_view text) returns jsonb
language plpgsql stable
as $$
declare
  v record := private.context_numbers(p);
begin
  if p_view = 'store' then
    return jsonb_build_object('id', p.id, 'name', p.name, 'type', case v.type when 'repo' then 'repo' else 'file' end,
      'size', private.human_size(v.bytes), 'status', v.status);
  end if;
  return jsonb_build_object('id', p.id, 'name', p.name, 'type', v.type, 'size', v.bytes, 'fileCount', v.files,
    'lastUpdated', private.iso(greatest(p.updated_at, v.newest)), 'status', v.status);
end
$$;
comment on function private.context_item is 'ContextItem of the contract, in the view inspector or store.';
grant execute on function private.context_item to authenticated;
