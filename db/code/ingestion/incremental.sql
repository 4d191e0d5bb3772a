-- The calls by which a run builds on its predecessors: it stores original texts and what it found, reads what is known already, and changes
-- only rows of changed files. All of them check the lease as those of storage.sql do.

-- Does a run of this scope replace what this source contributed before? Files and texts only add or modify.
create or replace function private.covers(p_scope jsonb, p_origin text, p_repository_id uuid) returns boolean
language sql immutable parallel safe
return case
  when p_scope ? 'rollback' or p_scope ? 'refresh' then false
  when p_origin = 'repository' then p_scope = '{}' or coalesce(p_scope -> 'repositoryIds' ? p_repository_id::text, false)
  else false end;
comment on function private.covers is 'Does a run of this scope replace all that a source contributed to the current set?';

create or replace function private.lease_project(p_run_id uuid, p_owner uuid) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.assert_lease(p_run_id, p_owner);
  return (select project_id from public.ingestion_runs where id = p_run_id);
end
$$;
comment on function private.lease_project is
  'The run''s project, if the caller holds its lease; else 409 NO_ACTIVE_INGESTION. Authorization: callable by definer functions of ours only.';

-- Which contents must still be sent. Those that are here already count as new, so that the sweep of unused contents spares them.
create or replace function private.missing_blobs(p_run_id uuid, p_owner uuid, p_hashes bytea[]) returns setof bytea
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.lease_project(p_run_id, p_owner);
begin
  update public.content_blobs set created_at = now()
  where project_id = v_project and hash = any (p_hashes) and created_at < now() - interval '10 minutes';
  return query
    select distinct h from unnest(p_hashes) h
    where not exists (select from public.content_blobs b where b.project_id = v_project and b.hash = h);
end
$$;
comment on function private.missing_blobs is 'Contents that the project does not have yet. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.store_blobs(
  p_run_id uuid, p_owner uuid, p_hashes bytea[], p_contents bytea[], p_binary boolean[], p_tokens bigint[], p_lines integer[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
  v_project uuid := private.lease_project(p_run_id, p_owner);
begin
  insert into public.content_blobs (organization_id, project_id, hash, content, is_binary, tokens, lines)
  select v_org, v_project, t.* from unnest(p_hashes, p_contents, p_binary, p_tokens, p_lines) as t
  on conflict (project_id, hash) do nothing;
end
$$;
comment on function private.store_blobs is 'Contents of a leased run''s files. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.read_blobs(p_run_id uuid, p_owner uuid, p_hashes bytea[]) returns table (hash bytea, content bytea)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.lease_project(p_run_id, p_owner);
begin
  return query select b.hash, b.content from public.content_blobs b where b.project_id = v_project and b.hash = any (p_hashes);
end
$$;
comment on function private.read_blobs is 'Contents by hash. Authorization: callable by the worker only, for the run it holds.';

-- With p_first the manifest begins again, so that a repeated attempt leaves nothing of an earlier one.
create or replace function private.store_manifest(
  p_run_id uuid, p_owner uuid, p_first boolean, p_paths text[], p_hashes bytea[], p_origins text[], p_repositories uuid[], p_languages text[],
  p_binary boolean[], p_bytes bigint[], p_tokens bigint[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.assert_lease(p_run_id, p_owner);
  if p_first then
    delete from private.run_manifests where run_id = p_run_id;
  end if;
  insert into private.run_manifests (run_id, path, hash, origin, repository_id, language, is_binary, bytes, tokens)
  select p_run_id, t.* from unnest(p_paths, p_hashes, p_origins, p_repositories, p_languages, p_binary, p_bytes, p_tokens) as t;
end
$$;
comment on function private.store_manifest is 'What a leased run found in the sources it covers. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.run_overflows(p_run_id uuid, p_owner uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.assert_lease(p_run_id, p_owner);
  return private.overflows_context(p_run_id);
end
$$;
comment on function private.run_overflows is
  'Would the manifest of a leased run make the context too large? Authorization: callable by the worker only, for the run it holds.';

-- The rest of the set that the run will leave: files of the current set that the run's sources do not replace.
create or replace function private.other_files(p_run_id uuid, p_owner uuid)
returns table (path text, hash bytea, origin text, repository_id uuid, language text, is_binary boolean, bytes bigint, tokens bigint, last_change jsonb)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.lease_project(p_run_id, p_owner);
  v_scope jsonb := (select private.run_scope(r) from public.ingestion_runs r where r.id = p_run_id);
begin
  return query
    select f.path, f.hash, f.origin, f.repository_id, f.language, f.is_binary, f.bytes, f.tokens,
      -- Nothing but the index knows it once the history is gone.
      (select x.metadata -> 'lastChange' from public.project_indexes i join public.run_files x on x.run_id = i.run_id and x.path = f.path
        where i.project_id = v_project and x.hash = f.hash)
    from public.context_files f
    where f.project_id = v_project and not f.is_hidden and not private.covers(v_scope, f.origin, f.repository_id);
end
$$;
comment on function private.other_files is 'Files of the current set that a leased run keeps. Authorization: callable by the worker only, for the run it holds.';

-- A file belongs to the entry that last changed it; what a rollback restored belongs to the entry that had brought it.
create or replace function private.exempt_files(p_run_id uuid, p_owner uuid) returns table (path text, hash bytea)
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_project uuid := private.lease_project(p_run_id, p_owner);
  v_verbatim boolean := (select private.is_verbatim_run(r) from public.ingestion_runs r where r.id = p_run_id);
begin
  if not v_verbatim and not exists (select from public.context_ingestions e where e.project_id = v_project and (e.is_verbatim or e.never_compress)) then
    return;
  end if;
  return query
    with recursive brought as (
      select f.path, f.hash, f.number from public.context_files f where f.project_id = v_project
      union all
      select b.path, b.hash, o.number
      from brought b join public.context_ingestions e on e.project_id = v_project and e.number = b.number and e.kind = 'rollback'
      cross join lateral (select x.number from public.context_file_ops x
        where x.project_id = v_project and x.path = b.path collate "C" and x.number <= e.target_number order by x.number desc limit 1) o
    )
    select b.path, b.hash from brought b join public.context_ingestions e on e.project_id = v_project and e.number = b.number
    where e.kind <> 'rollback' and (e.is_verbatim or e.never_compress) <> v_verbatim;
end
$$;
comment on function private.exempt_files is
  'Files of the current set that the four techniques treat otherwise than those of the run''s own entry. Authorization: callable by the worker only, for the run it holds.';

-- Rows of a content that is not stored any more are of no use.
create or replace function private.read_sources(p_run_id uuid, p_owner uuid, p_sources text[])
returns table (source text, path text, key bytea, verdict text, encoding text, hash bytea, bytes bigint, tokens bigint, language text)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.lease_project(p_run_id, p_owner);
begin
  return query
    select s.source, s.path, s.key, s.verdict, s.encoding, s.hash, s.bytes, s.tokens, s.language from private.source_files s
    where s.project_id = v_project and s.source = any (p_sources)
      and (s.hash is null or exists (select from public.content_blobs b where b.project_id = v_project and b.hash = s.hash));
end
$$;
comment on function private.read_sources is 'What earlier runs found in sources. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.store_sources(
  p_run_id uuid, p_owner uuid, p_sources text[], p_paths text[], p_keys bytea[], p_verdicts text[], p_encodings text[], p_hashes bytea[],
  p_bytes bigint[], p_tokens bigint[], p_languages text[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
  v_project uuid := private.lease_project(p_run_id, p_owner);
begin
  insert into private.source_files as s (organization_id, project_id, source, path, key, verdict, encoding, hash, bytes, tokens, language)
  select v_org, v_project, t.*
  from unnest(p_sources, p_paths, p_keys, p_verdicts, p_encodings, p_hashes, p_bytes, p_tokens, p_languages) as t
  on conflict (project_id, source, path) do update set key = excluded.key, verdict = excluded.verdict, encoding = excluded.encoding,
    hash = excluded.hash, bytes = excluded.bytes, tokens = excluded.tokens, language = excluded.language;
end
$$;
comment on function private.store_sources is 'What a leased run found in sources. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.drop_sources(p_run_id uuid, p_owner uuid, p_sources text[], p_paths text[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.lease_project(p_run_id, p_owner);
begin
  delete from private.source_files s using unnest(p_sources, p_paths) as t (source, path)
  where s.project_id = v_project and s.source = t.source and s.path = t.path;
end
$$;
comment on function private.drop_sources is 'Forgets paths that a source does not have any more. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.read_records(p_run_id uuid, p_owner uuid, p_after text, p_limit integer)
returns table (path text, hash bytea, parse_schema text, chunk_schema text, parsed bytea, facts bytea)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.lease_project(p_run_id, p_owner);
begin
  return query
    select r.path, r.hash, r.parse_schema, r.chunk_schema, r.parsed, r.facts from private.file_records r
    where r.project_id = v_project and r.path > p_after order by r.path limit p_limit;
end
$$;
comment on function private.read_records is 'A page of the project''s parse results by path. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.store_records(
  p_run_id uuid, p_owner uuid, p_parse_schema text, p_chunk_schema text, p_paths text[], p_hashes bytea[], p_parsed bytea[], p_facts bytea[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
  v_project uuid := private.lease_project(p_run_id, p_owner);
begin
  insert into private.file_records as r (organization_id, project_id, path, hash, parse_schema, chunk_schema, parsed, facts)
  select v_org, v_project, t.path, t.hash, p_parse_schema, p_chunk_schema, t.parsed, t.facts
  from unnest(p_paths, p_hashes, p_parsed, p_facts) as t (path, hash, parsed, facts)
  on conflict (project_id, path) do update set hash = excluded.hash, parse_schema = excluded.parse_schema,
    chunk_schema = excluded.chunk_schema, parsed = excluded.parsed, facts = excluded.facts;
end
$$;
comment on function private.store_records is 'Parse results of files. Authorization: callable by the worker only, for the run it holds.';

-- The files of the index that an incremental run may change in place; none where another program or other settings made it.
create or replace function private.read_index(p_run_id uuid, p_owner uuid, p_settings text)
returns table (index_id uuid, id uuid, path text, hash bytea, plan bytea, bytes bigint, tokens bigint, optimized bigint, removed integer[],
  lost integer, kept integer)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
begin
  return query
    select i.run_id, f.id, f.path, f.hash, f.plan, f.bytes, f.tokens, f.optimized_tokens, f.removed, f.lost, f.kept
    from public.ingestion_runs r
    join public.project_indexes i on i.project_id = r.project_id and i.settings = p_settings
    join public.run_files f on f.organization_id = v_org and f.run_id = i.run_id
    where r.id = p_run_id and f.plan is not null;
end
$$;
comment on function private.read_index is 'The files of the project''s index made with these settings. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.index_of(p_run_id uuid, p_owner uuid) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.assert_lease(p_run_id, p_owner);
  return (select i.run_id from public.ingestion_runs r join public.project_indexes i on i.project_id = r.project_id where r.id = p_run_id);
end
$$;
comment on function private.index_of is 'The id that the rows of a leased run''s current index carry. Authorization: callable by definer functions of ours only.';

create or replace function private.read_indexed(p_run_id uuid, p_owner uuid, p_files uuid[])
returns table (id uuid, file_id uuid, hash bytea, start_line integer, end_line integer, has_body boolean)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
  v_index uuid := private.index_of(p_run_id, p_owner);
begin
  return query
    select c.id, c.file_id, c.hash, c.start_line, c.end_line, c.reference_of is null from public.chunks c
    where c.organization_id = v_org and c.run_id = v_index and c.file_id = any (p_files)
    order by c.file_id, c.position;
end
$$;
comment on function private.read_indexed is 'Chunks of files of the current index. Authorization: callable by the worker only, for the run it holds.';

-- The merge of an incremental run, in the transaction that ends it. Chunks that stay keep their ids, because chunks of other files refer to them.
create or replace function private.merge_removals(p_run_id uuid, p_owner uuid, p_files uuid[], p_rewritten uuid[], p_chunks uuid[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
  v_index uuid := private.index_of(p_run_id, p_owner);
begin
  perform private.count_words(v_org, v_index, array(select t.terms from public.chunk_terms t
    where t.organization_id = v_org and t.run_id = v_index and t.chunk_id = any (p_chunks)), -1);
  delete from public.chunk_terms t where t.organization_id = v_org and t.run_id = v_index and t.chunk_id = any (p_chunks);
  delete from public.chunks c where c.organization_id = v_org and c.run_id = v_index and c.id = any (p_chunks);
  delete from public.run_files f where f.organization_id = v_org and f.run_id = v_index and f.id = any (p_files);
  -- Places in a file are unique at every moment: those that stay make room first.
  update public.chunks c set position = c.position + 1000000
  where c.organization_id = v_org and c.run_id = v_index and c.file_id = any (p_rewritten);
end
$$;
comment on function private.merge_removals is 'Takes what changed out of the index. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.merge_files(
  p_run_id uuid, p_owner uuid, p_ids uuid[], p_positions integer[], p_sources text[], p_repositories uuid[], p_paths text[],
  p_languages text[], p_categories text[], p_bytes bigint[], p_tokens bigint[], p_optimized bigint[], p_hashes bytea[], p_metadata jsonb[],
  p_savings jsonb[], p_plans bytea[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
  v_index uuid := private.index_of(p_run_id, p_owner);
begin
  insert into public.run_files as f (organization_id, run_id, id, position, source, repository_id, path, language, category, bytes, tokens,
    optimized_tokens, hash, metadata, removed, lost, kept, plan)
  select v_org, v_index, t.id, t.position, t.source, t.repository, t.path, t.language, t.category, t.bytes, t.tokens, t.optimized, t.hash,
    t.metadata, array(select e::integer from jsonb_array_elements_text(t.savings -> 'removed') e), (t.savings ->> 'lost')::integer,
    (t.savings ->> 'kept')::integer, t.plan
  from unnest(p_ids, p_positions, p_sources, p_repositories, p_paths, p_languages, p_categories, p_bytes, p_tokens, p_optimized, p_hashes, p_metadata,
    p_savings, p_plans)
    as t (id, position, source, repository, path, language, category, bytes, tokens, optimized, hash, metadata, savings, plan)
  on conflict (organization_id, run_id, id) do update set position = excluded.position, source = excluded.source,
    repository_id = excluded.repository_id, language = excluded.language, category = excluded.category, bytes = excluded.bytes,
    tokens = excluded.tokens, optimized_tokens = excluded.optimized_tokens, hash = excluded.hash, metadata = excluded.metadata,
    removed = excluded.removed, lost = excluded.lost, kept = excluded.kept, plan = excluded.plan;
end
$$;
comment on function private.merge_files is 'Changed files of an incremental run. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.merge_chunks(
  p_run_id uuid, p_owner uuid, p_ids uuid[], p_files uuid[], p_positions integer[], p_starts integer[], p_ends integer[], p_types text[],
  p_tokens integer[], p_contents text[], p_hashes bytea[], p_references uuid[], p_parents uuid[], p_metadata jsonb[], p_terms tsvector[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
  v_index uuid := private.index_of(p_run_id, p_owner);
begin
  insert into public.chunks as c (organization_id, run_id, id, file_id, position, start_line, end_line, type, tokens, content, hash,
    reference_of, parent_id, metadata)
  select v_org, v_index, t.*
  from unnest(p_ids, p_files, p_positions, p_starts, p_ends, p_types, p_tokens, p_contents, p_hashes, p_references, p_parents, p_metadata) as t
  on conflict (organization_id, run_id, id) do update set file_id = excluded.file_id, position = excluded.position,
    start_line = excluded.start_line, end_line = excluded.end_line, type = excluded.type, tokens = excluded.tokens,
    content = excluded.content, hash = excluded.hash, reference_of = excluded.reference_of, parent_id = excluded.parent_id,
    metadata = excluded.metadata;
  perform private.count_words(v_org, v_index, array(select x.terms from public.chunk_terms x
    where x.organization_id = v_org and x.run_id = v_index and x.chunk_id = any (p_ids)), -1);
  perform private.count_words(v_org, v_index, p_terms, 1);
  insert into public.chunk_terms as x (organization_id, run_id, chunk_id, terms)
  select v_org, v_index, t.* from unnest(p_ids, p_terms) as t
  on conflict (organization_id, run_id, chunk_id) do update set terms = excluded.terms;
end
$$;
comment on function private.merge_chunks is 'Changed chunks of an incremental run with their words. Authorization: callable by the worker only, for the run it holds.';

-- Chunks with a body, evenly over the files of the index.
create or replace function private.sample_index(p_run_id uuid, p_owner uuid, p_limit integer)
returns table (id uuid, path text, content text, names jsonb)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
  v_index uuid := private.index_of(p_run_id, p_owner);
begin
  return query
    select c.id, f.path, c.content, coalesce(c.metadata -> 'names', '[]')
    from (select o.id, o.path, row_number() over (order by o.path collate "C") - 1 as n, count(*) over () as total
      from public.run_files o where o.organization_id = v_org and o.run_id = v_index) f
    join lateral (select k.* from public.chunks k
      where k.organization_id = v_org and k.run_id = v_index and k.file_id = f.id and k.reference_of is null
      order by k.position limit 1) c on true
    where f.n % greatest(1, f.total / p_limit) = 0
    limit p_limit;
end
$$;
comment on function private.sample_index is 'Sampled chunks of the index that a run changes. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.search_index(p_run_id uuid, p_owner uuid, p_query tsquery, p_limit integer default 5) returns setof uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_index uuid := private.index_of(p_run_id, p_owner);
begin
  return query
    select t.chunk_id from public.chunk_terms t
    where t.run_id = v_index and t.terms @@ p_query
    order by ts_rank(t.terms, p_query) desc, t.chunk_id limit p_limit;
end
$$;
comment on function private.search_index is 'Best chunks of the index that a run changes. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.live_repositories(p_ids uuid[]) returns setof uuid
language sql stable security definer set search_path = ''
as $$
  select t.id from public.project_repositories t where t.id = any (p_ids)
$$;
comment on function private.live_repositories is 'Those of the repositories that still exist, for the sweep of copies. Authorization: callable by the worker only.';
grant execute on function private.run_overflows, private.missing_blobs, private.store_blobs, private.read_blobs, private.store_manifest, private.other_files, private.exempt_files,
  private.read_sources, private.store_sources, private.drop_sources, private.read_records, private.store_records,
  private.read_index, private.read_indexed, private.merge_removals, private.merge_files, private.merge_chunks, private.sample_index,
  private.search_index, private.live_repositories to kijko_worker;
