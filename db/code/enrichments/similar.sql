-- Search by similarity over the embeddings of a context, for chat (contract 60, section 7).

-- The embedder in force: a question is embedded by the same one, or its vector means nothing here.
create or replace function private.embedder_in_force(p_project_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  if not private.has_project_role(p_project_id, 'viewer') then
    return null;
  end if;
  return (select jsonb_build_object('model', s.result ->> 'model', 'dimensions', (s.result ->> 'dimensions')::integer)
    from public.enrichment_states s where s.project_id = p_project_id and s.kind = 'chromaCode' and s.is_active and s.result ? 'model');
end
$$;
comment on function private.embedder_in_force is
  '{model, dimensions} of a context''s embeddings, null without any. Authorization: viewer of the project, else null.';

-- The scan is exact: a context is one tenant's, so an index over all tenants' vectors would find the neighbours of others and drop them.
-- With pgvector installed its operator computes the products, some ten times as fast.
create or replace function private.similar_chunks(p_project_id uuid, p_vector real[], p_limit integer)
returns table (file_id uuid, path text, number integer, chunk_no integer, start_line integer, end_line integer, score double precision, content text)
language plpgsql stable security definer set search_path = ''
as $$
-- The text is a constant of ours with the schema of an extension; input goes by parameters. @plpgsql_check_options: security_warnings = off
#variable_conflict use_column
declare
  v_embedder text;
  v_schema text := (select n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector');
  v_score text;
begin
  if not private.has_project_role(p_project_id, 'viewer') then
    return;
  end if;
  select s.result ->> 'embedder' into v_embedder from public.enrichment_states s
  where s.project_id = p_project_id and s.kind = 'chromaCode' and s.is_active;
  if v_embedder is null or cardinality(p_vector) is null or cardinality(p_vector) = 0 then
    return;
  end if;
  v_score := case when v_schema is null then '(select sum(a * b) from unnest(e.embedding, $2) u (a, b))'
    else format('-(e.embedding::%1$I.vector operator(%1$I.<#>) $2::%1$I.vector)', v_schema) end;
  return query execute format('
    select h.file_id, h.path, h.number, h.chunk_no, h.start_line, h.end_line, h.score::double precision,
      convert_from(substring(b.content from h.start_byte + 1 for h.end_byte - h.start_byte), ''UTF8'')
    from (
      select e.file_id, f.path, f.number, e.chunk_no, e.start_line, e.end_line, e.start_byte, e.end_byte, e.hash, %s as score
      from public.file_embeddings e
      join public.context_files f on f.project_id = e.project_id and f.id = e.file_id and f.hash = e.hash and not f.is_hidden
      where e.project_id = $1 and e.embedder = $3 and e.dimensions = cardinality($2)
      order by 10 desc, e.file_id, e.chunk_no limit $4) h
    join public.content_blobs b on b.project_id = $1 and b.hash = h.hash
    order by h.score desc, h.file_id, h.chunk_no', v_score)
  using p_project_id, p_vector, v_embedder, least(greatest(p_limit, 0), 200);
end
$$;
comment on function private.similar_chunks is
  'The chunks of a context nearest to a vector of its embedder, best first, at most 200. Authorization: viewer of the project, else none.';
grant execute on function private.embedder_in_force, private.similar_chunks to authenticated;
