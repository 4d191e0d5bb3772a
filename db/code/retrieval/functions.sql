-- Retrieval: the passages of a context that answer a question best (contract 60, section 7; docs/retrieval.md). The words of a question come
-- from the server, which has the tokenizer of the index. Ranks are those of BM25 in shape: rarity of a word times its saturated frequency,
-- in relation to the length of the chunk. ts_rank of one word, with equal weights, is such a frequency: 1, 1.25, 1.36 ... up to 1.64.

-- A word with its other forms is one term. Forms that the index does not have are left out; the first ones stay, because a large index does not
-- count words of one chunk.
create or replace function private.question_terms(p_org_id uuid, p_run_id uuid, p_terms jsonb, p_chunks integer)
returns table (n bigint, query tsquery, words integer, chunks integer, idf real)
language plpgsql stable security definer set search_path = '' rows 20
as $$
begin
  return query
    select t.n, string_agg(format('''%s''', replace(replace(f.word, '\', '\\'), '''', '''''')), ' | ' order by f.place)::tsquery, count(*)::integer, d.chunks,
      ln(1 + (p_chunks - d.chunks + 0.5) / (d.chunks + 0.5))::real
    from jsonb_array_elements(p_terms) with ordinality t (forms, n)
    cross join lateral (
      select u.word, u.place, w.chunks, sum(coalesce(w.chunks, 1)) over () as total
      from jsonb_array_elements_text(t.forms) with ordinality u (word, place)
      -- The limit keeps the planner from reading all words of the run instead.
      left join lateral (select x.chunks from private.index_words x
        where x.organization_id = p_org_id and x.run_id = p_run_id and x.word = u.word collate "C" limit 1) w on true
      where u.place <= 3 or w.chunks > 0
    ) f
    cross join lateral (select least(f.total, p_chunks)::integer as chunks) d
    group by t.n, d.chunks;
end
$$;
comment on function private.question_terms is
  'Terms of a question as an index has them: their query, how many words and chunks it has, and its rarity. Authorization: callable by definer functions that have authorized the caller.';

-- The query that finds what is worth ranking. Rare terms find their chunks alone, common ones together with another, so that a word that is
-- in each second chunk costs nothing.
create or replace function private.candidate_query(p_queries tsquery[], p_chunks integer[], p_total integer, p_bound integer) returns tsquery
language plpgsql immutable parallel safe
as $$
declare
  v_result tsquery;
  v_sum bigint := 0;
  v_count bigint;
  v_common integer[] := '{}';
  v_each tsquery;
begin
  -- Both arrays are in ascending order of chunks.
  for i in 1 .. cardinality(p_queries) loop
    if v_sum + p_chunks[i] <= p_bound then
      v_result := case when v_result is null then p_queries[i] else v_result || p_queries[i] end;
      v_sum := v_sum + p_chunks[i];
    else
      v_common := v_common || i;
    end if;
  end loop;
  for i in 1 .. least(cardinality(v_common), 6) loop
    for j in i + 1 .. least(cardinality(v_common), 6) loop
      v_count := p_chunks[v_common[i]]::bigint * p_chunks[v_common[j]] / greatest(p_total, 1);
      if v_sum + v_count <= p_bound then
        v_each := p_queries[v_common[i]] && p_queries[v_common[j]];
        v_result := case when v_result is null then v_each else v_result || v_each end;
        v_sum := v_sum + v_count;
      end if;
    end loop;
  end loop;
  if v_result is null and cardinality(v_common) > 0 then
    v_result := p_queries[v_common[1]];
    for i in 2 .. least(cardinality(v_common), 3) loop
      v_result := v_result && p_queries[v_common[i]];
    end loop;
  end if;
  return v_result;
end
$$;
comment on function private.candidate_query is 'The query for chunks worth ranking: terms in order of their chunks, p_bound chunks are to be found.';

-- Tests repeat the names of what they test, and lists and documents have most words of a question somewhere.
create or replace function private.path_weight(p_path text, p_category text, p_tests boolean) returns double precision
language sql immutable parallel safe
return case when not p_tests and (lower(p_path) ~ '(^|/)(__)?(tests?|testing|testdata|testutils?|specs?|examples?|bench|benchmarks?|mocks?|fixtures?)(__)?/'
      or lower(p_path) ~ '(^|[/_.-])(tests?|spec|bench|mocks?|conftest)[_.-]' or p_path ~ '[a-z0-9](Tests?|Spec|Benchmark)\.[A-Za-z]+$') then 0.4 else 1 end
  * case p_category when 'code' then 1 else 0.6 end;
comment on function private.path_weight is 'How much a file counts for a question that is not about tests (or is, p_tests).';

-- A chunk's score is the sum of its terms: rarity times frequency. Declared names count most, then words of the path, then those of the text. Long
-- chunks have more words; the length in relation to the usual one takes a part of that back. The numbers were found on repositories that
-- docs/retrieval.md names, not on those that it reports.
create or replace function private.rank_chunks(
  p_org_id uuid, p_run_id uuid, p_query tsquery, p_queries tsquery[], p_words integer[], p_idf real[], p_tests boolean, p_only uuid[], p_without uuid[],
  p_bound integer
) returns table (chunk_id uuid, file_id uuid, score double precision)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = 'force_custom_plan' rows 200
as $$
declare
  c_weights constant real[] := '{0.4, 0.4, 1.0, 0.6}';
  c_most constant real := 1.5;
  c_usual constant real := 250;
  v_free constant boolean := p_only is null and coalesce(cardinality(p_without), 0) = 0;
begin
  return query
    with fit as materialized (
      -- By the run alone: a condition on the organization would offer the primary key, and with it a walk over all words of the run.
      (select t.chunk_id, t.terms || ''::tsvector as terms from public.chunk_terms t
        where p_only is null and t.run_id = p_run_id and t.terms @@ p_query
          and (v_free or exists (select from public.chunks c where c.organization_id = p_org_id and c.run_id = p_run_id and c.id = t.chunk_id
            and c.file_id <> all (p_without)))
        limit p_bound)
      union all
      (select t.chunk_id, t.terms || ''::tsvector from public.chunks c
        join public.chunk_terms t on t.organization_id = p_org_id and t.run_id = p_run_id and t.chunk_id = c.id
        where p_only is not null and c.organization_id = p_org_id and c.run_id = p_run_id and c.file_id = any (p_only)
        limit p_bound)
    ), scored as (
      select f.chunk_id, s.sum / (0.6 + 0.4 * sqrt(greatest(length(f.terms), 20) / c_usual)) as score
      from fit f cross join lateral (
        select coalesce(sum(q.idf * least(c_most, pg_catalog.ts_rank(c_weights, f.terms, q.query) * q.words)), 0) as sum
        from unnest(p_queries, p_words, p_idf) q (query, words, idf)
      ) s
      order by 2 desc limit 200
    )
    select s.chunk_id, c.file_id, s.score * private.path_weight(r.path, r.category, p_tests)
    from scored s join public.chunks c on c.organization_id = p_org_id and c.run_id = p_run_id and c.id = s.chunk_id
    join public.run_files r on r.organization_id = p_org_id and r.run_id = p_run_id and r.id = c.file_id;
end
$$;
comment on function private.rank_chunks is
  'Chunks of an index by their score for the terms of a question: those of some files only, or without some files. Authorization: callable by definer functions that have authorized the caller.';

-- Files that a question names: @name, @path, @Ingestion #n. Of the possible ends of a name the longest that a file has counts.
create or replace function private.cited_files(p_project_id uuid, p_references jsonb, p_numbers integer[]) returns uuid[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  if jsonb_array_length(p_references) = 0 and cardinality(p_numbers) = 0 then
    return '{}';
  end if;
  return array(
    with possible as (
      select r.n as reference, lower(c.name) as name, c.place
      from jsonb_array_elements(p_references) with ordinality r (names, n), jsonb_array_elements_text(r.names) with ordinality c (name, place)
    ), named as (
      select f.id, f.path, dense_rank() over (partition by p.reference order by p.place) as place
      from public.context_files f join possible p on lower(f.path) = p.name or regexp_replace(lower(f.path), '^.*/', '') = p.name
      where f.project_id = p_project_id and not f.is_hidden
    )
    select x.id from (
      (select n.id, n.path from named n where n.place = 1 order by n.path collate "C" limit 50)
      union
      (select f.id, f.path from public.context_files f where f.project_id = p_project_id and not f.is_hidden and f.number = any (p_numbers)
        order by f.path collate "C" limit 5000)
    ) x
  );
end
$$;
comment on function private.cited_files is
  'Ids of the files that a question names, by name, path or ingestion. Authorization: callable by definer functions that have authorized the caller.';

-- The text that stands in for a chunk of a compressed file: the stretch of the compressed text that is where the chunk was.
create or replace function private.compressed_stretch(p_project_id uuid, p_file_id uuid, p_share double precision) returns text
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_long constant integer := 12000;
  v_text constant text := private.compressed_text(p_project_id, p_file_id);
begin
  return case when char_length(v_text) <= c_long then v_text
    else substr(v_text, 1 + least(floor(p_share * char_length(v_text))::integer, char_length(v_text) - c_long), c_long) end;
end
$$;
comment on function private.compressed_stretch is
  'Part of a compressed text, null where the original is served. Authorization: callable by definer functions that have authorized the caller.';

-- Chunks near to others in the graph: what they call, import or extend, and what does so with them.
create or replace function private.linked_chunks(p_org_id uuid, p_project_id uuid, p_run_id uuid, p_hits uuid[], p_among uuid[])
returns table (chunk_id uuid, place bigint)
language plpgsql stable security definer set search_path = '' rows 20
as $$
begin
  return query
    with hit as (
      select h.place, n.id from unnest(p_hits) with ordinality h (id, place)
      join public.chunks c on c.organization_id = p_org_id and c.run_id = p_run_id and c.id = h.id
      join public.run_files r on r.organization_id = p_org_id and r.run_id = p_run_id and r.id = c.file_id
      join public.kg_files g on g.project_id = p_project_id and g.path = r.path
      join public.kg_nodes n on n.organization_id = p_org_id and n.project_id = p_project_id and n.part = g.part
        and n.start_line between c.start_line and c.end_line and n.type <> 'file'
    ), near as (
      select h.place, e.target_id as id from hit h cross join lateral (select x.target_id from public.kg_edges x
        where x.organization_id = p_org_id and x.project_id = p_project_id and x.source_id = h.id and x.type <> 'contains' limit 30) e
      union
      select h.place, e.source_id from hit h cross join lateral (select x.source_id from public.kg_edges x
        where x.organization_id = p_org_id and x.project_id = p_project_id and x.target_id = h.id and x.type <> 'contains' limit 30) e
    ), places as (
      select distinct n.path, n.start_line, s.place from near s
      join public.kg_nodes n on n.organization_id = p_org_id and n.project_id = p_project_id and n.id = s.id
      where n.path is not null and n.start_line is not null
    )
    select c.id, min(p.place) from unnest(p_among) a (id)
    join public.chunks c on c.organization_id = p_org_id and c.run_id = p_run_id and c.id = a.id
    join public.run_files r on r.organization_id = p_org_id and r.run_id = p_run_id and r.id = c.file_id
    join places p on p.path = r.path and p.start_line between c.start_line and c.end_line and p_hits[p.place] <> c.id
    group by c.id;
end
$$;
comment on function private.linked_chunks is
  'Which of some chunks are neighbors of hits in the graph, with the place of the best hit. Authorization: callable by definer functions that have authorized the caller.';

-- How near chunks are to a question by the embeddings in force, from -1 to 1.
create or replace function private.chunk_similarities(p_org_id uuid, p_project_id uuid, p_run_id uuid, p_embedder text, p_vector real[], p_among uuid[])
returns table (chunk_id uuid, similarity double precision)
language plpgsql stable security definer set search_path = '' rows 50
as $$
begin
  return query
    select c.id, max((select sum(u.a * u.b) from unnest(e.embedding, p_vector) u (a, b)))::double precision
    from unnest(p_among) a (id)
    join public.chunks c on c.organization_id = p_org_id and c.run_id = p_run_id and c.id = a.id
    join public.run_files r on r.organization_id = p_org_id and r.run_id = p_run_id and r.id = c.file_id
    join public.context_files f on f.project_id = p_project_id and f.path collate "C" = r.path
    join public.file_embeddings e on e.project_id = p_project_id and e.file_id = f.id and e.embedder = p_embedder
      and e.dimensions = cardinality(p_vector) and e.hash = f.hash and e.start_line <= c.end_line and e.end_line >= c.start_line
    group by c.id;
end
$$;
comment on function private.chunk_similarities is
  'Cosine of the nearest piece of each chunk and a question. Authorization: callable by definer functions that have authorized the caller.';

-- A template of the caller's own, or of a public skill that they see. Of the possible ends of a name the longest counts.
create or replace function private.named_skill(p_names text[]) returns public.skills
language sql stable
as $$
  select s from unnest(p_names) with ordinality n (name, place)
  join public.skills s on lower(n.name) in (lower(s.name), replace(lower(s.name), ' ', '-')) and s.is_active and s.user_id = private.user_id()
  order by n.place, s.updated_at desc, s.id limit 1
$$;
comment on function private.named_skill is 'The caller''s own active skill of a name, from several possible names, the longest first.';
grant execute on function private.candidate_query, private.named_skill to authenticated;
