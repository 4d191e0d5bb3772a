-- What the enrichments of a context are, measured from their data (contract 60, 10.2).

-- In the order in which a run of all builds them.
create or replace function private.enrichment_kinds() returns text[]
language sql immutable parallel safe
return array['knowledgeGraph', 'languageServer', 'chromaCode'];
comment on function private.enrichment_kinds is 'The kinds of enrichments, in the order of a run of all.';

create or replace function private.enrichment_name(p_kind text) returns text
language sql immutable parallel safe
return case p_kind when 'knowledgeGraph' then 'Knowledge Graph' when 'languageServer' then 'LSP index' when 'chromaCode' then 'ChromaCode embeddings'
  else 'enrichments' end;
comment on function private.enrichment_name is 'A kind of enrichment as people read it.';

create or replace function private.coverage_percent(p_part bigint, p_whole bigint) returns numeric
language sql immutable parallel safe
return case when coalesce(p_whole, 0) = 0 then 0 else round(100.0 * coalesce(p_part, 0) / p_whole, 1) end;
comment on function private.coverage_percent is 'A percentage with one decimal, half up; 0 of nothing.';

-- What the embeddings in force depend on besides the files: the model that is configured, the one that answers for it, and the chunking.
create or replace function private.embedder_key(p_settings jsonb, p_model text) returns text
language sql stable parallel safe
return concat_ws(':', p_settings ->> 'embeddingModel', p_model, p_settings ->> 'chunkStrategy', p_settings ->> 'chunkSize', p_settings ->> 'overlap');
comment on function private.embedder_key is 'Names a way to embed: embeddings of another key are outdated.';

-- "Sliding window (512 tokens)".
create or replace function private.chunk_strategy_text(p_settings jsonb) returns text
language sql stable parallel safe
return format('%s (%s tokens)', case p_settings ->> 'chunkStrategy' when 'sliding' then 'Sliding window' when 'paragraph' then 'Paragraph' else 'Semantic' end,
  p_settings ->> 'chunkSize');
comment on function private.chunk_strategy_text is 'chunkStrategy of EnrichmentStatus, from a ChromaCodeConfig.';
grant execute on function private.enrichment_kinds, private.enrichment_name, private.coverage_percent, private.embedder_key, private.chunk_strategy_text
  to authenticated, service_role;

-- Languages as people write them. A language without a row is its id with a capital.
create or replace function private.language_name(p_language text) returns text
language sql immutable parallel safe
return coalesce(case p_language
    when 'typescript' then 'TypeScript' when 'tsx' then 'TypeScript' when 'javascript' then 'JavaScript' when 'csharp' then 'C#' when 'cpp' then 'C++'
    when 'fsharp' then 'F#' when 'objective-c' then 'Objective-C' when 'objective-cpp' then 'Objective-C++' when 'php' then 'PHP' when 'sql' then 'SQL'
    when 'html' then 'HTML' when 'css' then 'CSS' when 'scss' then 'SCSS' when 'xml' then 'XML' when 'svg' then 'SVG' when 'json' then 'JSON'
    when 'jsonc' then 'JSON' when 'json5' then 'JSON5' when 'yaml' then 'YAML' when 'toml' then 'TOML' when 'ini' then 'INI' when 'csv' then 'CSV'
    when 'hcl' then 'HCL' when 'shell' then 'Shell' when 'restructuredtext' then 'reStructuredText' when 'asciidoc' then 'AsciiDoc'
    when 'go-module' then 'Go Module' when 'go-checksums' then 'Go Checksums' when 'dotenv' then 'Dotenv' when 'vba' then 'VBA'
    when 'protocol-buffer' then 'Protocol Buffers' when 'ocaml' then 'OCaml' when 'graphql' then 'GraphQL' when 'tex' then 'TeX' when 'cmake' then 'CMake'
    when 'coffeescript' then 'CoffeeScript' when 'matlab' then 'MATLAB' when 'text' then 'Text' end,
  upper(left(p_language, 1)) || replace(substr(p_language, 2), '-', ' '));
comment on function private.language_name is 'Display name of a language.';

-- Shares in whole percent that sum to 100 (largest remainder), descending. Beyond eight the smallest are one, Other.
create or replace function private.language_shares(p_names text[], p_bytes bigint[]) returns jsonb
language sql stable parallel safe
return (
  with named as (
    select name, sum(bytes) as bytes from unnest(p_names, p_bytes) u (name, bytes) where bytes > 0 group by name
  ), ranked as (
    select *, row_number() over (order by bytes desc, name) as place, count(*) over () as many from named
  ), merged as (
    select case when many > 8 and place >= 8 then 'Other' else name end as name, sum(bytes) as bytes from ranked group by 1
  ), shares as (
    select m.*, 100 * bytes / t.total as share from merged m, (select sum(bytes) as total from merged) t
  ), turns as (
    select *, trunc(share) as whole, row_number() over (order by share - trunc(share) desc, bytes desc, name) as turn from shares
  ), rounded as (
    select name, bytes, (whole + case when turn <= 100 - sum(whole) over () then 1 else 0 end)::integer as percentage from turns
  )
  select coalesce(jsonb_agg(jsonb_build_object('name', name, 'percentage', percentage) order by percentage desc, bytes desc, name), '[]') from rounded
);
comment on function private.language_shares is '{name, percentage}[] of languages by bytes: whole percents that sum to 100, at most eight entries.';
grant execute on function private.language_name, private.language_shares to authenticated, service_role;

-- The run that a part shows: the open one, else the last one that ended.
create or replace function private.shown_enrichment_run(p_project_id uuid, p_kind text) returns public.enrichment_runs
language sql stable
return (
  select r from public.enrichment_runs r
  where r.project_id = p_project_id and r.kind = p_kind and r.status <> 'cancelled'
  order by r.finished_at is not null, r.created_at desc limit 1
);
comment on function private.shown_enrichment_run is 'The open run of a kind, else the last that ended by itself, or null.';

-- The members that each part has besides its own.
create or replace function private.enrichment_part_json(s public.enrichment_states, r public.enrichment_runs) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object(
  'active', coalesce(s.is_active, false),
  'status', case when r.status in ('queued', 'running') then r.status when r.status = 'failed' then 'failed' else 'idle' end,
  'progress', case when r.status in ('queued', 'running') then r.progress when s.is_active then 100 else 0 end,
  'lastRunAt', private.iso(s.last_run_at),
  'errorMessage', case when r.status = 'failed' then r.error_message end));
comment on function private.enrichment_part_json is 'active, status, progress, lastRunAt and errorMessage of a part of EnrichmentStatus.';

create or replace function private.symbol_facts(p_project_id uuid, out files bigint, out symbols bigint, out languages jsonb)
language sql stable
as $$
  with indexed as (
    select f.bytes, c.symbols, private.language_name(i.language) as name
    from public.symbol_files i
    join public.context_files f on f.project_id = i.project_id and f.id = i.file_id and not f.is_hidden
    join public.symbol_contents c on c.project_id = i.project_id and c.hash = i.hash and c.language = i.language
    where i.project_id = p_project_id
  )
  select count(*), coalesce(sum(i.symbols), 0)::bigint, private.language_shares(array_agg(i.name), array_agg(i.bytes)) from indexed i
$$;
comment on function private.symbol_facts is 'Files, definitions and languages of the index of symbols.';

-- Files count whose embeddings are of their present content and of the way of embedding that is configured.
create or replace function private.embedded_files(p_project_id uuid, p_embedder text) returns bigint
language sql stable
return (
  select count(*) from public.file_embeddings e
  join public.context_files f on f.project_id = e.project_id and f.id = e.file_id and f.hash = e.hash and not f.is_hidden
  where e.project_id = p_project_id and e.embedder = p_embedder and e.chunk_no = 0
);
comment on function private.embedded_files is 'How many files have embeddings of a way of embedding.';
grant execute on function private.shown_enrichment_run, private.enrichment_part_json, private.symbol_facts, private.embedded_files to authenticated;

-- The model in force is what the last run really used; its vectors are outdated where the settings now say something else.
create or replace function private.chromacode_json(s public.enrichment_states, p_settings jsonb, p_project_id uuid, p_files bigint) returns jsonb
language plpgsql stable
as $$
declare
  v_model text := s.result ->> 'model';
  v_embedder constant text := private.embedder_key(p_settings, v_model);
  v_files bigint := 0;
begin
  if v_model is not null and s.result ->> 'embedder' = v_embedder then
    v_files := private.embedded_files(p_project_id, v_embedder);
  end if;
  return jsonb_build_object('coverage', private.coverage_percent(v_files, p_files), 'embeddings', v_files, 'totalFiles', p_files,
    'dimensions', coalesce((s.result ->> 'dimensions')::integer, private.embedding_dimensions(p_settings ->> 'embeddingModel')),
    'model', coalesce(v_model, p_settings ->> 'embeddingModel'), 'chunkStrategy', private.chunk_strategy_text(p_settings));
end
$$;
comment on function private.chromacode_json is 'The own members of chromaCode in EnrichmentStatus.';

create or replace function private.enrichment_status(p_project_id uuid) returns jsonb
language plpgsql stable
as $$
declare
  v_files bigint := (select count(*) from public.context_files f where f.project_id = p_project_id and not f.is_hidden);
  v_graph jsonb := private.graph_statistics(p_project_id);
  v_symbols record := private.symbol_facts(p_project_id);
  v_parts jsonb := '{}';
  v_part jsonb;
  v_kind text;
  s public.enrichment_states;
begin
  foreach v_kind in array private.enrichment_kinds() loop
    select * into s from public.enrichment_states x where x.project_id = p_project_id and x.kind = v_kind;
    v_part := case v_kind
      when 'knowledgeGraph' then jsonb_build_object('coverage', private.coverage_percent((v_graph ->> 'parsedFiles')::bigint, (v_graph ->> 'textFiles')::bigint),
        'entities', v_graph -> 'entities', 'relationships', v_graph -> 'relationships', 'clusters', v_graph -> 'clusters', 'topEntities', v_graph -> 'topEntities')
      when 'languageServer' then jsonb_build_object('coverage', private.coverage_percent(v_symbols.files, v_files), 'indexedFiles', v_symbols.files,
        'totalFiles', v_files, 'symbols', v_symbols.symbols, 'languages', v_symbols.languages)
      else private.chromacode_json(s, private.context_settings(p_project_id, 'chromacode'), p_project_id, v_files) end;
    v_parts := v_parts || jsonb_build_object(v_kind, private.enrichment_part_json(s, private.shown_enrichment_run(p_project_id, v_kind)) || v_part);
  end loop;
  return jsonb_build_object('overall', (select round(avg((p.value ->> 'coverage')::numeric), 1) from jsonb_each(v_parts) p)) || v_parts;
end
$$;
comment on function private.enrichment_status is 'EnrichmentStatus, every number measured.';
grant execute on function private.chromacode_json, private.enrichment_status to authenticated;
