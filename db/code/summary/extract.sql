-- What is known of a context without a model: the extractive summary (contract 60, section 6), and what a model is given.

-- The current version; a deleted ingestion and a failed one are never current.
create or replace function private.summary_version(p_project_id uuid) returns integer
language sql stable
return coalesce((select max(i.number) from public.context_ingestions i where i.project_id = p_project_id and i.status = 'ready'), 0);
comment on function private.summary_version is 'The version that a summary of now describes.';

-- The beginning of a stored text, cut between characters.
create or replace function private.text_start(p_content bytea, p_bytes integer) returns text
language plpgsql immutable parallel safe
as $$
declare
  v_end integer := least(p_bytes, octet_length(p_content));
begin
  while v_end > 0 and v_end < octet_length(p_content) and get_byte(p_content, v_end) between 128 and 191 loop
    v_end := v_end - 1;
  end loop;
  return convert_from(substring(p_content from 1 for v_end), 'UTF8');
end
$$;
comment on function private.text_start is 'At most so many bytes of a UTF-8 text.';

-- Text of a document as one line without its marks: images, links, tags, addresses, emphasis.
create or replace function private.readme_line(p_text text) returns text
language sql immutable parallel safe
return btrim(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(p_text,
  '!\[[^]]*\]\([^)]*\)', '', 'g'), '\[([^]]*)\](\([^)]*\)|\[[^]]*\])', '\1', 'g'), '<[^>]*>', '', 'g'), '\w+://\S+', '', 'g'), '[*_`]+', '', 'g'), '\s+', ' ', 'g'));
comment on function private.readme_line is 'Text of a Markdown paragraph, on one line.';

create or replace function private.sentences(p_text text) returns text[]
language sql immutable parallel safe
return array(select btrim(s) from regexp_split_to_table(p_text, '(?<=[.!?])\s+(?=[[:upper:][:digit:]"''(])|(?<=[。！？])') s where btrim(s) <> '');
comment on function private.sentences is 'The sentences of a text.';

-- Up to two sentences of the first paragraph that is one: no heading, list, table, quotation, code or row of badges.
create or replace function private.first_paragraph(p_text text) returns text
language plpgsql stable
as $$
declare
  v_block text;
  v_text text;
  v_sentences text[];
begin
  -- Front matter, comments and code are no prose. Each in an expression of its own: the first quantifier decides for all of one.
  p_text := regexp_replace(ltrim(replace(p_text, E'\r', ''), E' \t\n'), '^---\n.*?\n---\n', '');
  p_text := regexp_replace(regexp_replace(regexp_replace(p_text, '<!--.*?-->', E'\n\n', 'g'), '```.*?(```|$)', E'\n\n', 'g'), '~~~.*?(~~~|$)', E'\n\n', 'g');
  for v_block in select b from regexp_split_to_table(p_text, '\n[ \t]*\n') b loop
    -- A heading may stand directly above its paragraph, with marks or underlined.
    v_block := regexp_replace(v_block, '^([ \t]*\n)*((#[^\n]*|[^\n]*\n[ \t]*(=+|-+)[ \t]*)(\n|$))+', '');
    continue when v_block ~ '^\s*([-*+>|]|\d+[.)]|#)';
    v_text := private.readme_line(v_block);
    if char_length(regexp_replace(v_text, '[^[:alpha:]]', '', 'g')) >= 15 then
      v_sentences := private.sentences(left(v_text, 600));
      -- Chinese and Japanese write no blank after their full stops.
      v_text := regexp_replace(left(array_to_string(v_sentences[1:2], ' '), 500), '([。！？]) ', '\1', 'g');
      return case when v_text ~ '[.!?。！？]$' then v_text else regexp_replace(v_text, '[:;,]?\s*$', '') || '.' end;
    end if;
  end loop;
  return null;
end
$$;
comment on function private.first_paragraph is 'The beginning of the first paragraph of a document, as prose; null without one.';
grant execute on function private.summary_version, private.text_start, private.readme_line, private.sentences, private.first_paragraph to authenticated;

create or replace function private.readme_of(p_project_id uuid, p_count integer, p_bytes integer) returns table (path text, content text)
language sql stable
as $$
  select f.path, private.text_start(b.content, p_bytes)
  from public.context_files f join public.content_blobs b on b.project_id = f.project_id and b.hash = f.hash
  where f.project_id = p_project_id and not f.is_hidden and not f.is_binary and f.path ~* '(^|/)readme(\.[a-z0-9]+)?$'
  order by cardinality(string_to_array(f.path, '/')), f.path !~* '\.md$', f.path collate "C" limit p_count
$$;
comment on function private.readme_of is 'The READMEs of a context nearest to its root, and how they begin.';

create or replace function private.times(p_count bigint) returns text
language sql immutable parallel safe
return case p_count when 1 then 'once' when 2 then 'twice' else p_count || ' times' end;
comment on function private.times is 'once, twice, 3 times.';

create or replace function private.bytes_text(p_bytes bigint) returns text
language sql immutable parallel safe
return case when p_bytes < 1024 then p_bytes || ' B' when p_bytes < 1048576 then round(p_bytes / 1024.0) || ' KB' else round(p_bytes / 1048576.0, 1) || ' MB' end;
comment on function private.bytes_text is 'A size for people.';
-- Most references first: modules and classes, then functions, then large files, while there are fewer than four.
create or replace function private.extracted_components(p_project_id uuid) returns text[]
language sql stable
as $$
  with found as (
    select 1 as turn, n.reference_count::bigint as weight, n.name, n.id::text as tie,
      case when n.type = 'class' then format('%s in %s, referred to %s', 'class', n.path, private.times(n.reference_count))
        when n.path is null then format('external package, imported %s', private.times(n.reference_count))
        else format('package in %s, imported %s', n.path, private.times(n.reference_count)) end as purpose
    from public.kg_nodes n where n.organization_id = (select o.organization_id from public.projects o where o.id = p_project_id) and n.project_id = p_project_id and n.type in ('module', 'class') and n.reference_count > 0
    union all
    select 2, n.reference_count, n.name, n.id::text, format('function in %s, referred to %s', n.path, private.times(n.reference_count))
    from public.kg_nodes n where n.organization_id = (select o.organization_id from public.projects o where o.id = p_project_id) and n.project_id = p_project_id and n.type = 'function' and n.reference_count > 0
    union all
    select 3, f.bytes, f.path, f.path, format('%s file of %s', private.language_name(f.language), private.bytes_text(f.bytes))
    from public.context_files f where f.project_id = p_project_id and not f.is_hidden and not f.is_binary and f.bytes > 0
  ), one_a_name as (
    select distinct on (name) * from found order by name, turn, weight desc, tie
  ), ranked as (
    select *, row_number() over (order by turn, weight desc, name collate "C", tie) as place from one_a_name
  )
  select coalesce(array_agg(left(private.one_line(r.name), 120) || ' - ' || left(private.one_line(r.purpose), 170) order by r.place), '{}') from ranked r
  where r.place <= 4 or r.place = 5 and r.turn < 3
$$;
comment on function private.extracted_components is 'Components of a context by how often others refer to them, as Name - purpose.';

grant execute on function private.readme_of, private.extracted_components, private.times, private.bytes_text to authenticated;

create or replace function private.extractive_summary(p_project_id uuid) returns jsonb
language plpgsql stable
as $$
declare
  p record;
  v record;
  v_languages jsonb;
  v_readme text;
  v_top text[];
  v_description text;
begin
  select x.name, x.type into p from public.projects x where x.id = p_project_id;
  select count(*) as files, array_agg(private.language_name(f.language)) as names, array_agg(f.bytes) as bytes,
      count(distinct private.language_name(f.language)) as languages into v
  from public.context_files f where f.project_id = p_project_id and not f.is_hidden;
  v_languages := private.language_shares(v.names, v.bytes);
  v_description := format('%s is a %s with %s in %s%s.', private.one_line(p.name), case p.type when 'repository' then 'repository' else 'collection of files' end,
    case v.files when 1 then '1 file' else v.files || ' files' end, case v.languages when 1 then '1 language' else v.languages || ' languages' end,
    case when jsonb_array_length(v_languages) > 0 then format(', %s %s', case v.languages when 1 then 'namely' else 'mostly' end, v_languages -> 0 ->> 'name') end);
  select private.first_paragraph(r.content) into v_readme from private.readme_of(p_project_id, 1, 8000) r;
  v_description := v_description || ' ' || coalesce(v_readme, 'It has no README that says what it is for.');
  v_top := array(select n.name from public.kg_nodes n where n.organization_id = (select o.organization_id from public.projects o where o.id = p_project_id) and n.project_id = p_project_id and n.type in ('module', 'class') and n.reference_count > 0
    order by n.reference_count desc, n.name collate "C", n.id limit 3);
  v_description := v_description || ' ' || case cardinality(v_top) when 0 then 'No class or module of it is referred to by others.'
    when 1 then format('The part that others refer to most is %s.', private.one_line(v_top[1]))
    else format('The parts that others refer to most are %s and %s.', private.one_line(array_to_string(v_top[:cardinality(v_top) - 1], ', ')),
      private.one_line(v_top[cardinality(v_top)])) end;
  return jsonb_build_object('description', left(v_description, 3000), 'keyComponents', to_jsonb(private.extracted_components(p_project_id)), 'model', 'kijko-extractive');
end
$$;
comment on function private.extractive_summary is '{description, keyComponents, model} of a context without a model: the same for the same files.';
grant execute on function private.extractive_summary to authenticated;

-- What a model is given, some 100 KB at most. All of it is data of the context.
create or replace function private.summary_source(p_project_id uuid) returns jsonb
language plpgsql stable
as $$
declare
  p record;
begin
  select x.name, x.type into p from public.projects x where x.id = p_project_id;
  return jsonb_build_object('name', p.name, 'type', p.type,
    'files', (select count(*) from public.context_files f where f.project_id = p_project_id and not f.is_hidden),
    'languages', (select private.language_shares(array_agg(private.language_name(f.language)), array_agg(f.bytes))
      from public.context_files f where f.project_id = p_project_id and not f.is_hidden),
    -- Files near the root say most of what there is.
    'tree', (select coalesce(jsonb_agg(left(t.path, 300) order by t.path collate "C"), '[]') from (
      select f.path from public.context_files f where f.project_id = p_project_id and not f.is_hidden
      order by cardinality(string_to_array(f.path, '/')), f.path collate "C" limit 400) t),
    'folders', (select coalesce(jsonb_agg(jsonb_build_object('path', left(d.folder, 300), 'files', d.files) order by d.files desc, d.folder collate "C"), '[]') from (
      select split_part(f.path, '/', 1) || coalesce('/' || nullif(split_part(f.path, '/', 2), split_part(f.path, '/', cardinality(string_to_array(f.path, '/')))), '') as folder,
        count(*) as files
      from public.context_files f where f.project_id = p_project_id and not f.is_hidden and f.path like '%/%' group by 1 order by 2 desc, 1 limit 60) d),
    'entities', (select coalesce(jsonb_agg(jsonb_build_object('name', left(n.name, 200), 'type', n.type, 'path', left(n.path, 300), 'references', n.reference_count)
      order by n.reference_count desc, n.name collate "C", n.id), '[]') from (
      select * from public.kg_nodes k where k.organization_id = (select o.organization_id from public.projects o where o.id = p_project_id) and k.project_id = p_project_id and k.type in ('module', 'class', 'function')
      order by k.reference_count desc, k.name collate "C", k.id limit 50) n),
    'manifests', (select coalesce(jsonb_agg(jsonb_build_object('path', m.path, 'content', m.content) order by m.depth, m.path collate "C"), '[]') from (
      select f.path, cardinality(string_to_array(f.path, '/')) as depth, private.text_start(b.content, 4000) as content
      from public.context_files f join public.content_blobs b on b.project_id = f.project_id and b.hash = f.hash
      where f.project_id = p_project_id and not f.is_hidden and not f.is_binary
        and f.path ~ '(^|/)(package\.json|pyproject\.toml|go\.mod|Cargo\.toml|composer\.json|pom\.xml|Gemfile|build\.gradle(\.kts)?|docker-compose\.ya?ml)$'
      order by 2, f.path collate "C" limit 5) m),
    'readmes', (select coalesce(jsonb_agg(jsonb_build_object('path', r.path, 'content', r.content)), '[]') from private.readme_of(p_project_id, 2, 6000) r));
end
$$;
comment on function private.summary_source is 'File tree, folders, top entities, manifests and READMEs of a context, bounded.';
