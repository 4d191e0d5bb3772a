-- Stores the output of a run. It takes arrays and does not use COPY: Postgres refuses COPY into tables under row-level security, and one
-- statement a batch can check the lease as well.
create or replace function private.assert_lease(p_run_id uuid, p_owner uuid) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid;
begin
  select organization_id into v_org from public.ingestion_runs
  where id = p_run_id and lease_owner = p_owner and outcome = 'open' for key share;
  if not found then
    perform private.refuse(409, 'NO_ACTIVE_INGESTION', 'This ingestion has ended or is in other hands.');
  end if;
  return v_org;
end
$$;
comment on function private.assert_lease is 'The run''s organization, if the caller holds its lease; else 409 NO_ACTIVE_INGESTION. Authorization: definer functions below only.';

create or replace function private.store_files(
  p_run_id uuid, p_owner uuid, p_ids uuid[], p_positions integer[], p_sources text[], p_repositories uuid[], p_paths text[],
  p_languages text[], p_categories text[], p_bytes bigint[], p_tokens bigint[], p_optimized bigint[], p_hashes bytea[], p_metadata jsonb[],
  p_savings jsonb[], p_plans bytea[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
begin
  insert into public.run_files (organization_id, run_id, id, position, source, repository_id, path, language, category, bytes, tokens,
    optimized_tokens, hash, metadata, removed, lost, kept, plan)
  select v_org, p_run_id, t.id, t.position, t.source, t.repository, t.path, t.language, t.category, t.bytes, t.tokens, t.optimized, t.hash,
    t.metadata, array(select e::integer from jsonb_array_elements_text(t.savings -> 'removed') e), (t.savings ->> 'lost')::integer,
    (t.savings ->> 'kept')::integer, t.plan
  from unnest(p_ids, p_positions, p_sources, p_repositories, p_paths, p_languages, p_categories, p_bytes, p_tokens, p_optimized, p_hashes, p_metadata,
    p_savings, p_plans)
    as t (id, position, source, repository, path, language, category, bytes, tokens, optimized, hash, metadata, savings, plan);
end
$$;
comment on function private.store_files is 'Files of a leased run. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.store_chunks(
  p_run_id uuid, p_owner uuid, p_ids uuid[], p_files uuid[], p_positions integer[], p_starts integer[], p_ends integer[], p_types text[],
  p_tokens integer[], p_contents text[], p_hashes bytea[], p_references uuid[], p_parents uuid[], p_metadata jsonb[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
begin
  insert into public.chunks (organization_id, run_id, id, file_id, position, start_line, end_line, type, tokens, content, hash,
    reference_of, parent_id, metadata)
  select v_org, p_run_id, t.*
  from unnest(p_ids, p_files, p_positions, p_starts, p_ends, p_types, p_tokens, p_contents, p_hashes, p_references, p_parents, p_metadata) as t;
end
$$;
comment on function private.store_chunks is 'Chunks of a leased run. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.store_terms(p_run_id uuid, p_owner uuid, p_chunks uuid[], p_terms tsvector[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
begin
  insert into public.chunk_terms (organization_id, run_id, chunk_id, terms)
  select v_org, p_run_id, t.* from unnest(p_chunks, p_terms) as t
  on conflict (organization_id, run_id, chunk_id) do update set terms = excluded.terms;
end
$$;
comment on function private.store_terms is 'Search terms of chunks of a leased run. Authorization: callable by the worker only, for the run it holds.';

-- Counted by the worker, which has made the words.
create or replace function private.store_words(p_run_id uuid, p_owner uuid, p_words text[], p_chunks integer[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
begin
  insert into private.index_words as w (organization_id, run_id, word, chunks)
  select v_org, p_run_id, t.* from unnest(p_words, p_chunks) as t
  on conflict (organization_id, run_id, word) do update set chunks = excluded.chunks;
end
$$;
comment on function private.store_words is 'How many chunks of a leased run have each word. Authorization: callable by the worker only, for the run it holds.';

-- Of chunks that come or go in an index that stays. Words that were in one chunk have no row, so a count may be one too low.
create or replace function private.count_words(p_org_id uuid, p_run_id uuid, p_terms tsvector[], p_sign integer) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_sign < 0 then
    update private.index_words w set chunks = greatest(w.chunks - n.chunks, 0)
    from (select u.word collate "C" as word, count(*)::integer as chunks from unnest(p_terms) t (terms), unnest(array_append(tsvector_to_array(t.terms), '')) u (word)
      group by 1) n
    where w.organization_id = p_org_id and w.run_id = p_run_id and w.word = n.word;
  else
    insert into private.index_words as w (organization_id, run_id, word, chunks)
    select p_org_id, p_run_id, u.word collate "C", count(*)
    from unnest(p_terms) t (terms), unnest(array_append(tsvector_to_array(t.terms), '')) u (word)
    group by 3
    on conflict (organization_id, run_id, word) do update set chunks = w.chunks + excluded.chunks;
  end if;
end
$$;
comment on function private.count_words is 'Counts the words of chunks that an index gains (1) or loses (-1). Authorization: callable by definer functions of ours only.';

-- The full-text index puts new words into a pending list first, which every search reads. The run that filled the list empties it.
create or replace function private.settle_terms(p_run_id uuid, p_owner uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.assert_lease(p_run_id, p_owner);
  perform gin_clean_pending_list('public.chunk_terms_run_id_terms_idx');
end
$$;
comment on function private.settle_terms is 'Merges the waiting words into the full-text index. Authorization: callable by the worker only, for the run it holds.';

-- A plan that was made for an empty table walks over a whole run for each of its rows. So a table that has doubled since its last ANALYZE
-- is analyzed again; autovacuum would come too late. Of chunk_terms all columns but the words, which cost more to count than to search.
create or replace function private.survey_tables(p_run_id uuid, p_owner uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_table record;
begin
  perform private.assert_lease(p_run_id, p_owner);
  for v_table in
    select c.oid, t.columns from (values ('run_files', ''), ('chunks', ''), ('chunk_terms', '(organization_id, run_id, chunk_id)')) t (name, columns)
    join pg_catalog.pg_class c on c.oid = ('public.' || t.name)::regclass
    where pg_relation_size(c.oid) > 2 * c.relpages::bigint * current_setting('block_size')::bigint
  loop
    -- Names from the catalog and columns from the list above. @plpgsql_check_options: security_warnings = off
    execute format('analyze (skip_locked) %s %s', v_table.oid::regclass, v_table.columns);
  end loop;
end
$$;
comment on function private.survey_tables is 'Renews the statistics of tables that a leased run has doubled. Authorization: callable by the worker only, for the run it holds.';

-- Deletes the output of a phase before the phase runs again. `chunks`: files and chunks (phase 4); `index`: terms (phase 5).
create or replace function private.clear_run(p_run_id uuid, p_owner uuid, p_what text, p_limit integer) returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
begin
  return private.delete_run_rows(v_org, p_run_id, p_what, p_limit);
end
$$;
comment on function private.clear_run is 'Removes up to p_limit rows of a leased run; 0 when none are left. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.delete_run_rows(p_org_id uuid, p_run_id uuid, p_what text, p_limit integer) returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_table text;
  v_count bigint;
begin
  -- Children before parents, so that no cascade does the work row by row.
  foreach v_table in array array['private.index_words', 'public.chunk_terms'] || case p_what when 'index' then '{}'::text[] else array['public.chunks', 'public.run_files'] end
  loop
    execute format('delete from %1$s where ctid = any (array(
      select ctid from %1$s where organization_id = $1 and run_id = $2 limit $3))', v_table)
    using p_org_id, p_run_id, p_limit;
    get diagnostics v_count = row_count;
    if v_count > 0 then
      return v_count;
    end if;
  end loop;
  return 0;
end
$$;
comment on function private.delete_run_rows is 'Removes up to p_limit rows that a run stored. Authorization: callable by definer functions of ours only.';

create or replace function private.drop_run_rows(p_run_id uuid, p_limit integer default 5000) returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid;
begin
  select r.organization_id into v_org from public.ingestion_runs r
  where r.id = p_run_id and r.outcome <> 'open' and not exists (select from public.project_indexes i where i.run_id = r.id);
  return case when v_org is null then 0 else private.delete_run_rows(v_org, p_run_id, 'chunks', p_limit) end;
end
$$;
comment on function private.drop_run_rows is
  'Removes up to p_limit rows of an ended run that is not the current one; 0 when none are left. Authorization: callable by the worker only.';

-- The samples of contract 10, 18.5 query the index as any reader would.
create or replace function private.sample_search(p_run_id uuid, p_owner uuid, p_query tsquery, p_limit integer default 5) returns setof uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
begin
  perform private.assert_lease(p_run_id, p_owner);
  return query
    -- By the run alone: a condition on the organization would offer the primary key, and with it a walk over all words of the run.
    select t.chunk_id from public.chunk_terms t
    where t.run_id = p_run_id and t.terms @@ p_query
    order by ts_rank(t.terms, p_query) desc, t.chunk_id limit p_limit;
end
$$;
comment on function private.sample_search is 'Best chunks of a leased run for a query. Authorization: callable by the worker only, for the run it holds.';

-- Chunks in order, for indexing by a worker that did not store them.
create or replace function private.read_chunks(p_run_id uuid, p_owner uuid, p_after uuid, p_limit integer)
returns table (id uuid, path text, content text, metadata jsonb, has_body boolean)
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.assert_lease(p_run_id, p_owner);
begin
  return query
    select c.id, (select f.path from public.run_files f where f.organization_id = v_org and f.run_id = p_run_id and f.id = c.file_id),
      c.content, c.metadata, c.reference_of is null
    from public.chunks c
    where c.organization_id = v_org and c.run_id = p_run_id
      and c.id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
    order by c.id limit p_limit;
end
$$;
comment on function private.read_chunks is 'A page of a leased run''s chunks by id. Authorization: callable by the worker only, for the run it holds.';

create or replace function private.live_checkpoints(p_runs uuid[]) returns setof uuid
language sql stable security definer set search_path = ''
as $$
  select r.id from public.ingestion_runs r
  where r.id = any (p_runs) and (r.outcome = 'open' or r.checkpoint_expires_at > now()
    or exists (select from public.ingestion_runs c where c.organization_id = r.organization_id and c.project_id = r.project_id
      and c.parent_run_id = r.id and c.outcome = 'open'))
$$;
comment on function private.live_checkpoints is 'Those of the runs whose work directories are still of use. Authorization: callable by the worker only.';
grant execute on function private.store_files, private.store_chunks, private.store_terms, private.store_words, private.settle_terms, private.survey_tables,
  private.clear_run, private.drop_run_rows, private.sample_search, private.read_chunks, private.live_checkpoints to kijko_worker;
