create or replace function private.find_passages(
  p_project_id uuid, p_terms jsonb, p_references jsonb, p_numbers integer[], p_sources uuid[], p_limit integer, p_model text, p_vector real[]
) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_bound constant integer := 2000;
  c_shown constant integer := 60;
  c_compared constant integer := 40;
  -- The built-in embedder knows names and no meaning, so it has less to say than one of a provider.
  c_near_names constant double precision := 0.1;
  c_near_meaning constant double precision := 0.4;
  c_alike constant double precision := 0.2;
  -- An exact scan costs some 40 microseconds a vector, with pgvector a tenth of it. In larger contexts embeddings order what words found.
  c_scanned constant integer := case when exists (select from pg_catalog.pg_extension e where e.extname = 'vector') then 10000 else 1000 end;
  v_limit constant integer := least(greatest(p_limit, 1), 50);
  v_run uuid;
  v_org uuid;
  v_total integer;
  v_queries tsquery[];
  v_words integer[];
  v_counts integer[];
  v_idf real[];
  v_query tsquery;
  v_most real;
  v_tests constant boolean := exists (select from jsonb_array_elements(p_terms) t where t ->> 0 in ('test', 'tests', 'testing', 'tested', 'spec', 'mock', 'mocks', 'fixture', 'benchmark', 'example', 'examples'));
  v_cited uuid[];
  v_cited_files uuid[] := '{}';
  v_only uuid[];
  v_without uuid[] := '{}';
  v_ids uuid[];
  v_scores double precision[];
  v_embedder text;
  v_near double precision := 0;
  v_scans boolean := false;
begin
  if not private.has_project_role(p_project_id, 'viewer') then
    return '[]';
  end if;
  select i.run_id, i.organization_id into v_run, v_org from public.project_indexes i where i.project_id = p_project_id;
  if v_run is null then
    return '[]';
  end if;
  select w.chunks into v_total from private.index_words w where w.organization_id = v_org and w.run_id = v_run and w.word = '';
  select coalesce(array_agg(t.query order by t.chunks), '{}'), coalesce(array_agg(t.words order by t.chunks), '{}'),
    coalesce(array_agg(t.chunks order by t.chunks), '{}'), coalesce(array_agg(t.idf order by t.chunks), '{}'), sum(t.idf) * 1.3 into v_queries, v_words, v_counts, v_idf, v_most
  from private.question_terms(v_org, v_run, p_terms, greatest(v_total, 1)) t;

  v_cited := private.cited_files(p_project_id, p_references, p_numbers);
  if cardinality(v_cited) > 0 then
    v_cited_files := array(select r.id from public.context_files f join public.run_files r on r.organization_id = v_org and r.run_id = v_run and r.path = f.path
      where f.project_id = p_project_id and f.id = any (v_cited));
  end if;
  if p_sources is not null then
    v_only := array(select r.id from public.context_files f join public.run_files r on r.organization_id = v_org and r.run_id = v_run and r.path = f.path
      where f.project_id = p_project_id and not f.is_hidden and f.id = any (p_sources));
  else
    v_without := array(select r.id from public.context_source_selection s
      join public.context_files f on f.project_id = s.project_id and f.id = s.file_id
      join public.run_files r on r.organization_id = v_org and r.run_id = v_run and r.path = f.path
      where s.organization_id = v_org and s.project_id = p_project_id and s.user_id = private.user_id()
      union all
      select r.id from public.context_files f join public.run_files r on r.organization_id = v_org and r.run_id = v_run and r.path = f.path
      where f.project_id = p_project_id and f.is_hidden);
  end if;

  -- What the question names comes first: the best chunks of each file, or its beginning where no word fits.
  v_query := private.candidate_query(v_queries, v_counts, v_total, c_bound);
  if cardinality(v_cited_files) > 0 then
    select array_agg(x.chunk_id), array_agg(x.score) into v_ids, v_scores from (
      select t.chunk_id, 2 + t.score as score from (
        select k.chunk_id, k.score, row_number() over (partition by k.file_id order by k.score desc, c.position) as place
        from private.rank_chunks(v_org, v_run, v_query, v_queries, v_words, v_idf, true, v_cited_files, '{}', c_bound * 2) k
        join public.chunks c on c.organization_id = v_org and c.run_id = v_run and c.id = k.chunk_id
      ) t order by t.place, t.score desc limit v_limit
    ) x;
  end if;
  v_ids := coalesce(v_ids, '{}');
  v_scores := coalesce(v_scores, '{}');
  if cardinality(p_vector) > 0 then
    select s.result ->> 'embedder' into v_embedder from public.enrichment_states s
    where s.project_id = p_project_id and s.kind = 'chromaCode' and s.is_active and s.result ->> 'model' = p_model
      and s.result -> 'dimensions' = to_jsonb(cardinality(p_vector));
    if found then
      v_near := case when p_model like 'kijko-%' then c_near_names else c_near_meaning end;
      v_scans := (select count(*) from (select from public.file_embeddings e where e.project_id = p_project_id and e.embedder = v_embedder limit c_scanned + 1) x) <= c_scanned;
    end if;
  end if;
  return (
    with lexical as materialized (
      select k.chunk_id, k.score / greatest(v_most, 0.001) as score
      from private.rank_chunks(v_org, v_run, v_query, v_queries, v_words, v_idf, v_tests, v_only, v_without, c_bound) k
      where v_query is not null and k.score > 0
    ), alike as materialized (
      select c.id as chunk_id, max(n.score) as similarity
      from private.similar_chunks(p_project_id, case when v_scans then p_vector end, 24) n
      join public.run_files r on r.organization_id = v_org and r.run_id = v_run and r.path = n.path
      join public.chunks c on c.organization_id = v_org and c.run_id = v_run and c.file_id = r.id and n.start_line between c.start_line and c.end_line
      where n.score > c_alike and (v_only is null or r.id = any (v_only)) and r.id <> all (v_without)
      group by c.id
    ), chosen as materialized (
      (select l.chunk_id, l.score from lexical l order by l.score desc, l.chunk_id limit c_shown)
      union all
      select a.chunk_id, 0 from alike a where not exists (select from lexical l where l.chunk_id = a.chunk_id)
    ), near as (
      select x.chunk_id, x.similarity from private.chunk_similarities(v_org, p_project_id, v_run, v_embedder, p_vector,
        array(select f.chunk_id from chosen f order by f.score desc, f.chunk_id limit c_compared)) x
      where v_embedder is not null
    ), best as materialized (
      select f.chunk_id, f.score + v_near * greatest(n.similarity, a.similarity, 0) as score
      from chosen f left join near n on n.chunk_id = f.chunk_id left join alike a on a.chunk_id = f.chunk_id
    ), linked as (
      select x.chunk_id from private.linked_chunks(v_org, p_project_id, v_run,
        array(select b.chunk_id from best b order by b.score desc, b.chunk_id limit 5), array(select b.chunk_id from best b)) x
    ), merged as (
      select b.chunk_id, b.score + case when l.chunk_id is null then 0 else 0.03 end as score
      from best b left join linked l on l.chunk_id = b.chunk_id
      where b.chunk_id <> all (v_ids)
      union all
      select u.id, u.score from unnest(v_ids, v_scores) u (id, score)
    ), shown as (
      select m.score, c.id, coalesce(body.id, c.id) as body, f.id as file_id, f.path, f.number, c.start_line, c.end_line, c.tokens, c.file_id as part,
        coalesce(body.content, c.content) as content, coalesce(body.tokens, c.tokens) as size
      from merged m
      join public.chunks c on c.organization_id = v_org and c.run_id = v_run and c.id = m.chunk_id
      join public.run_files r on r.organization_id = v_org and r.run_id = v_run and r.id = c.file_id
      join public.context_files f on f.project_id = p_project_id and f.path collate "C" = r.path and not f.is_hidden
      left join public.chunks body on body.organization_id = v_org and body.run_id = v_run and body.id = c.reference_of
    ), once as (
      select distinct on (s.body) s.* from shown s order by s.body, s.score desc, s.path collate "C"
    ), first as (
      select o.* from once o order by o.score desc, o.path collate "C", o.start_line, o.id limit v_limit
    )
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('fileId', t.file_id, 'path', t.path, 'number', t.number, 'startLine', t.start_line,
        'endLine', t.end_line, 'score', round(least(t.score, 1)::numeric, 4), 'text', coalesce(z.text, t.content), 'compressed', z.text is not null,
        'tokens', case when z.text is null then t.size end))
      order by t.score desc, t.path collate "C", t.start_line, t.id), '[]')
    from first t
    cross join lateral (select private.compressed_stretch(p_project_id, t.file_id, (t.start_line - 1)::double precision
      / greatest((select max(c.end_line) from public.chunks c where c.organization_id = v_org and c.run_id = v_run and c.file_id = t.part), 1)) as text
      -- Without this the planner reads the text once for each mention of it.
      offset 0) z
  );
end
$$;
comment on function private.find_passages is
  'Passages of a context that fit a question, best first, those of named files before all. Authorization: viewer in the context; others get an empty list.';
grant execute on function private.find_passages to authenticated;

-- A list of lists of words, as the server sends it.
create or replace function private.as_words(p_value jsonb, p_field text) returns jsonb
language plpgsql stable
as $$
declare
  v_list constant jsonb := coalesce(private.as_array(p_value, p_field), '[]');
begin
  if jsonb_array_length(v_list) > 64 or exists (select from jsonb_array_elements(v_list) l where jsonb_typeof(l) <> 'array') then
    perform private.refuse_field(p_field, format('%s must be at most 64 lists of words.', p_field));
  elsif exists (select from jsonb_array_elements(v_list) l where jsonb_array_length(l) not between 1 and 100)
    or exists (select from jsonb_array_elements(v_list) l, jsonb_array_elements(l) w where jsonb_typeof(w) <> 'string' or char_length(w #>> '{}') not between 1 and 300) then
    perform private.refuse_field(p_field, format('Each list of %s has 1 to 100 words of 1 to 300 characters.', p_field));
  end if;
  return v_list;
end
$$;
comment on function private.as_words is 'The member as a list of lists of words, empty where it is absent, or 400 VALIDATION_ERROR about the field.';
grant execute on function private.as_words to authenticated;

-- An embedding, as the server sends it.
create or replace function private.as_vector(p_value jsonb, p_field text) returns real[]
language plpgsql stable
as $$
declare
  v_list constant jsonb := coalesce(private.as_array(p_value, p_field), '[]');
begin
  if jsonb_array_length(v_list) > 8192
    or exists (select from jsonb_array_elements(v_list) e where case jsonb_typeof(e) when 'number' then abs((e #>> '{}')::numeric) > 1000 else true end) then
    perform private.refuse_field(p_field, format('%s must be at most 8192 numbers.', p_field));
  end if;
  -- Smaller numbers are out of range for a real.
  return array(select round((e #>> '{}')::numeric, 12)::real from jsonb_array_elements(v_list) with ordinality t (e, n) order by n);
end
$$;
comment on function private.as_vector is 'The member as numbers, empty where it is absent, or 400 VALIDATION_ERROR about the field.';
grant execute on function private.as_vector to authenticated;

create or replace function api.retrieve_passages(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_limit constant integer := coalesce(private.as_int(p -> 'limit', 'limit'), 12);
  v_numbers constant jsonb := coalesce(private.as_array(p -> 'numbers', 'numbers'), '[]');
  v_skills constant jsonb := private.as_words(p -> 'skills', 'skills');
  v_vector constant jsonb := private.as_object(p -> 'vector', 'vector');
  v_sources uuid[];
  s public.skills;
  v_passages jsonb := '[]';
begin
  if v_limit not between 1 and 50 then
    perform private.refuse_field('limit', 'limit must be from 1 to 50.');
  elsif jsonb_array_length(v_numbers) > 50 then
    perform private.refuse_field('numbers', 'numbers has at most 50 entries.');
  end if;
  if private.as_array(p -> 'sourceIds', 'sourceIds') is not null then
    v_sources := array(select private.as_uuid(e) from jsonb_array_elements_text(p -> 'sourceIds') e);
  end if;
  s := private.named_skill(array(select w from jsonb_array_elements(v_skills) l, jsonb_array_elements_text(l) w));
  if p ->> 'contextId' is not null then
    v_passages := private.find_passages(private.path_context(p, 'viewer', 'viewFiles'), private.as_words(p -> 'terms', 'terms'),
      private.as_words(p -> 'references', 'references'), array(select private.as_int(e, 'numbers') from jsonb_array_elements(v_numbers) e), v_sources, v_limit,
      v_vector ->> 'model', private.as_vector(v_vector -> 'values', 'vector'));
  end if;
  return jsonb_strip_nulls(jsonb_build_object('passages', v_passages, 'skill', s.name, 'skillPrompt', s.prompt_template));
end
$$;
comment on function api.retrieve_passages is
  'Part of POST /contexts/{contextId}/chat: {passages, skill, skillPrompt} for the words of a question. Errors: 400, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.retrieve_passages to authenticated;
