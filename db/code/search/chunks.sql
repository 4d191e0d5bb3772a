-- Full-text search over the chunks of a context's index. The words of chunks and of queries are made by one tokenizer, which is not in SQL
-- (worker/ingestion/terms.go: identifiers and their parts, pairs of letters of scripts without blanks). So a query comes here as a tsquery.

-- Its words, as they stand in the index.
create or replace function private.query_words(p_query tsquery) returns text[]
language sql immutable parallel safe
return array(select distinct replace(replace(m[1], '''''', ''''), '\\', '\') from regexp_matches(p_query::text, '''((?:[^'']|'''')+)''', 'g') m);
comment on function private.query_words is 'The words of a query.';

-- Lines of a text that contain words: those with most different words, at most p_limit, in their order. Each has the places of its words, in
-- characters from 0.
create or replace function private.marked_lines(p_content text, p_first_line integer, p_words text[], p_limit integer) returns jsonb
language sql stable parallel safe
return (
  select coalesce(jsonb_agg(jsonb_build_object('number', b.number, 'text', b.text, 'matches', b.matches) order by b.number), '[]')
  from (
    select p_first_line + l.n::integer - 1 as number, left(l.text, 300) as text, w.matches
    from regexp_split_to_table(p_content, E'\r?\n') with ordinality l (text, n),
      lateral (
        select jsonb_agg(jsonb_build_object('start', f.at - 1, 'end', f.at - 1 + char_length(f.word)) order by f.at, f.word) as matches,
          count(*) as words
        from (select u.word, strpos(lower(left(l.text, 300)), u.word) as at from unnest(p_words) u (word)) f
        where f.at > 0
      ) w
    where w.words > 0
    order by w.words desc, l.n limit p_limit
  ) b
);
comment on function private.marked_lines is 'Lines of a chunk that contain words of a query, with their places.';

-- A common word is in each of a hundred thousand chunks, and ranking reads the words of each. So the rank is among a bounded number of fits;
-- a query with a rare word has fewer than that.
create or replace function private.search_chunks(p_project_id uuid, p_query tsquery, p_limit integer default 20) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_ranked constant integer := 5000;
  v_words constant text[] := private.query_words(p_query);
  v_run uuid;
  v_org uuid;
begin
  if not private.has_project_role(p_project_id, 'viewer') then
    return '[]';
  end if;
  select i.run_id, i.organization_id into v_run, v_org from public.project_indexes i where i.project_id = p_project_id;
  return (
    with fit as materialized (
      select t.chunk_id, t.terms from public.chunk_terms t where t.run_id = v_run and t.terms @@ p_query limit c_ranked
    ), best as (
      -- Long chunks contain more words; the logarithm of the length takes that back.
      select f.chunk_id, pg_catalog.ts_rank('{0.1, 0.2, 0.6, 1.0}', f.terms, p_query, 1) as score from fit f
      order by score desc, f.chunk_id limit least(greatest(p_limit, 1), 100) * 2
    ), shown as (
      -- The techniques of a run leave fewer lines in a chunk than its file has. What is shown, and counted, are the lines of the file.
      select b.score, c.id, c.start_line, c.end_line, c.type, r.path, r.language, f.id as file_id, coalesce((
          select array_to_string((string_to_array(convert_from(o.content, 'UTF8'), E'\n'))[c.start_line:c.end_line], E'\n')
          from public.content_blobs o where o.project_id = p_project_id and o.hash = f.hash), c.content) as content
      from best b
      join public.chunks c on c.organization_id = v_org and c.run_id = v_run and c.id = b.chunk_id
      join public.run_files r on r.organization_id = v_org and r.run_id = v_run and r.id = c.file_id
      left join public.context_files f on f.project_id = p_project_id and f.path collate "C" = r.path
      where f.is_hidden is not true
      order by b.score desc, r.path collate "C", c.start_line, c.id limit least(greatest(p_limit, 1), 100)
    )
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', s.id, 'fileId', s.file_id, 'path', s.path, 'language', s.language,
        'type', s.type, 'startLine', s.start_line, 'endLine', s.end_line, 'score', round(s.score::numeric, 4),
        'lines', private.marked_lines(s.content, s.start_line, v_words, 5)))
      order by s.score desc, s.path collate "C", s.start_line, s.id), '[]')
    from shown s
  );
end
$$;
comment on function private.search_chunks is
  'Chunks of a context that fit a query, best first, with lines that contain its words. Authorization: viewer in the context; others get an empty list.';
grant execute on function private.query_words, private.marked_lines, private.search_chunks to authenticated;

create or replace function api.search_chunks(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id constant uuid := private.path_context(p, 'viewer', 'viewFiles');
  v_limit constant integer := coalesce(private.as_int(p -> 'limit', 'limit'), 20);
  v_query tsquery;
begin
  if v_limit not between 1 and 100 then
    perform private.refuse_field('limit', 'limit must be from 1 to 100.');
  elsif char_length(coalesce(p ->> 'query', '')) > 20000 then
    perform private.refuse_field('query', 'The query is too long.');
  end if;
  begin
    v_query := coalesce(p ->> 'query', '')::tsquery;
  exception when syntax_error or program_limit_exceeded then
    perform private.refuse_field('query', 'The query must be a tsquery.');
  end;
  return case when numnode(v_query) = 0 then '[]' else private.search_chunks(v_id, v_query, v_limit) end;
end
$$;
comment on function api.search_chunks is
  'Part of GET /contexts/{contextId}/chunks/search: ChunkResult[] for a tsquery made by the server. Errors: 400, 403, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.search_chunks to authenticated;
