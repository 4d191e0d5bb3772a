-- The calls of the worker. It builds an enrichment under a lease in the run's row: every write names the lease's owner, and changes nothing
-- once the lease or the run is gone. The worker has no right on any table of enrichments.

-- Leases an open run that no worker has, and describes the work; null when there is none. A run whose worker was lost goes on three times.
create or replace function private.claim_enrichment(p_run_id uuid, p_owner uuid, p_seconds integer) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.enrichment_runs;
  v_builds boolean;
begin
  select * into r from public.enrichment_runs x where x.id = p_run_id and x.kind <> 'all' and x.status in ('queued', 'running') for no key update;
  if not found or r.lease_expires_at > clock_timestamp() then
    return null;
  elsif exists (select from public.enrichment_runs o where o.parent_id = r.parent_id and o.status in ('queued', 'running')
      and array_position(private.enrichment_kinds(), o.kind) < array_position(private.enrichment_kinds(), r.kind)) then
    return null;
  elsif r.lease_owner is not null and r.restarts >= 3 then
    update public.enrichment_runs x set status = 'failed', error_message = 'The work was interrupted too often and was given up.' where x.id = r.id;
    return null;
  end if;
  select s.wants_build into v_builds from public.enrichment_states s where s.project_id = r.project_id and s.kind = r.kind for update;
  v_builds := r.builds or coalesce(v_builds, false);
  update public.enrichment_runs x
  set status = 'running', builds = v_builds, restarts = x.restarts + (x.lease_owner is not null)::integer, lease_owner = p_owner,
    lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds), message = 'Reading the files'
  where x.id = r.id;
  -- What changes from here on is seen by another run.
  insert into public.enrichment_states as s (organization_id, project_id, kind) values (r.organization_id, r.project_id, r.kind)
  on conflict (project_id, kind) do update set is_wanted = false, wants_build = false;
  delete from private.enrichment_plans p where p.run_id = r.id;
  return jsonb_build_object('runId', r.id, 'organizationId', r.organization_id, 'projectId', r.project_id, 'kind', r.kind, 'builds', v_builds,
    'settings', case r.kind when 'chromaCode' then private.context_settings(r.project_id, 'chromacode') else private.context_settings(r.project_id, 'lsp') end,
    'files', (select count(*) from public.context_files f where f.project_id = r.project_id and not f.is_hidden));
end
$$;
comment on function private.claim_enrichment is 'Leases an open run to a worker and describes the work, or null. Authorization: callable by the worker only.';

create or replace function private.hold_enrichments(p_owners uuid[], p_seconds integer default null) returns setof uuid
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_seconds is null then
    return query select r.lease_owner from public.enrichment_runs r where r.status = 'running' and r.lease_owner = any (p_owners);
  else
    return query
      update public.enrichment_runs r set lease_expires_at = clock_timestamp() + make_interval(secs => p_seconds)
      where r.id in (select o.id from public.enrichment_runs o where o.status = 'running' and o.lease_owner = any (p_owners)
        order by o.id for no key update)
      returning r.lease_owner;
  end if;
end
$$;
comment on function private.hold_enrichments is 'Renews (or only checks) leases by their owners; gives those that hold. Authorization: callable by the worker only.';

create or replace function private.release_enrichment(p_run_id uuid, p_owner uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.enrichment_runs r set lease_owner = null, lease_expires_at = null where r.id = p_run_id and r.lease_owner = p_owner and r.status = 'running';
  if found then
    perform private.queue_enrichment(p_run_id);
    return true;
  end if;
  return false;
end
$$;
comment on function private.release_enrichment is 'Gives a run back for another worker to take at once. Authorization: callable by the worker only.';

-- Runs whose worker died, and runs whose job was lost, get a job again.
create or replace function private.sweep_enrichments(p_at timestamptz default clock_timestamp()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return (
    select count(private.enqueue('enrichments.run', jsonb_build_object('runId', o.id), p_at, 'enrichments.run:' || o.id, 'enrichments'))::integer
    from (
      select r.id from public.enrichment_runs r
      where r.status in ('queued', 'running') and r.kind <> 'all' and (r.lease_expires_at < p_at or r.lease_owner is null)
        and not exists (select from jobs.unique_keys k where k.key = 'enrichments.run:' || r.id)
        and not exists (select from public.enrichment_runs o where o.parent_id = r.parent_id and o.status in ('queued', 'running')
          and array_position(private.enrichment_kinds(), o.kind) < array_position(private.enrichment_kinds(), r.kind))
      limit 1000) o
  );
end
$$;
comment on function private.sweep_enrichments is
  'Re-enqueues open runs without a living owner or a waiting job; gives how many. Authorization: callable by the worker and schedules only.';

create or replace function private.held_enrichment(p_run_id uuid, p_owner uuid) returns public.enrichment_runs
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.enrichment_runs;
begin
  select * into r from public.enrichment_runs x where x.id = p_run_id and x.lease_owner = p_owner and x.status = 'running' for no key update;
  if not found then
    perform private.refuse(409, 'CANCELLED', 'This run has ended, or another worker has it.');
  end if;
  return r;
end
$$;
comment on function private.held_enrichment is
  'The run of a lease, locked. Authorization: callable by the worker''s functions only. Errors: 409 CANCELLED.';

create or replace function private.report_enrichment(p_run_id uuid, p_owner uuid, p_percent integer, p_message text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.enrichment_runs := private.held_enrichment(p_run_id, p_owner);
begin
  update public.enrichment_runs x set progress = least(99, greatest(0, p_percent)), message = left(p_message, 500) where x.id = r.id;
end
$$;
comment on function private.report_enrichment is 'Progress of a leased run. Authorization: callable by the worker only, for the run it holds. Errors: 409 CANCELLED.';

-- The current set page by page, in the order of paths.
create or replace function private.enrichment_files(p_run_id uuid, p_owner uuid, p_after text, p_limit integer)
returns table (id uuid, path text, language text, hash bytea, bytes bigint, is_known boolean)
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  r public.enrichment_runs := private.held_enrichment(p_run_id, p_owner);
begin
  return query
    select f.id, f.path, f.language, f.hash, f.bytes,
      exists (select from public.symbol_contents c where r.kind = 'languageServer' and c.project_id = f.project_id and c.hash = f.hash and c.language = f.language)
    from public.context_files f
    where f.project_id = r.project_id and not f.is_hidden and not f.is_binary and (p_after is null or f.path collate "C" > p_after collate "C")
    order by f.path collate "C" limit p_limit;
end
$$;
comment on function private.enrichment_files is
  'Text files of the context of a leased run, after a path. Authorization: callable by the worker only, for the run it holds. Errors: 409 CANCELLED.';

create or replace function private.enrichment_contents(p_run_id uuid, p_owner uuid, p_hashes bytea[]) returns table (hash bytea, content bytea)
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  r public.enrichment_runs := private.held_enrichment(p_run_id, p_owner);
begin
  return query select b.hash, b.content from public.content_blobs b where b.project_id = r.project_id and b.hash = any (p_hashes) and not b.is_binary;
end
$$;
comment on function private.enrichment_contents is
  'Contents of the context of a leased run. Authorization: callable by the worker only, for the run it holds. Errors: 409 CANCELLED.';

create or replace function private.plan_enrichment(p_run_id uuid, p_owner uuid, p_files uuid[], p_hashes bytea[], p_languages text[]) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.enrichment_runs := private.held_enrichment(p_run_id, p_owner);
begin
  insert into private.enrichment_plans (run_id, file_id, hash, language)
  select r.id, u.* from unnest(p_files, p_hashes, p_languages) u
  on conflict (run_id, file_id) do update set hash = excluded.hash, language = excluded.language;
end
$$;
comment on function private.plan_enrichment is
  'Files that a leased run has chosen. Authorization: callable by the worker only, for the run it holds. Errors: 409 CANCELLED.';

-- One content with its definitions. The columns of p_symbols are those of public.symbols in the order of the table, from position on.
create or replace function private.store_symbols(
  p_run_id uuid, p_owner uuid, p_hash bytea, p_language text, p_is_parsed boolean, p_kinds text[], p_names text[], p_qualified text[],
  p_starts integer[], p_ends integer[], p_exported boolean[], p_signatures text[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.enrichment_runs := private.held_enrichment(p_run_id, p_owner);
begin
  insert into public.symbol_contents (organization_id, project_id, hash, language, is_parsed, symbols)
  values (r.organization_id, r.project_id, p_hash, p_language, p_is_parsed, coalesce(cardinality(p_names), 0))
  on conflict (project_id, hash, language) do nothing;
  if found then
    insert into public.symbols (organization_id, project_id, hash, language, position, kind, name, qualified_name, start_line, end_line, exported, signature)
    select r.organization_id, r.project_id, p_hash, p_language, u.n - 1, u.kind, u.name, u.qualified, u.starts, u.ends, u.exported, u.signature
    from unnest(p_kinds, p_names, p_qualified, p_starts, p_ends, p_exported, p_signatures) with ordinality
      u (kind, name, qualified, starts, ends, exported, signature, n);
  end if;
end
$$;
comment on function private.store_symbols is
  'Definitions of one content, once. Authorization: callable by the worker only, for the run it holds. Errors: 409 CANCELLED.';

-- Which of these files have embeddings already, of their present content and by this embedder.
create or replace function private.embedded_already(p_run_id uuid, p_owner uuid, p_embedder text, p_files uuid[]) returns setof uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.enrichment_runs := private.held_enrichment(p_run_id, p_owner);
begin
  return query
    select e.file_id from public.file_embeddings e
    join public.context_files f on f.project_id = e.project_id and f.id = e.file_id and f.hash = e.hash
    where e.project_id = r.project_id and e.embedder = p_embedder and e.chunk_no = 0 and e.file_id = any (p_files);
end
$$;
comment on function private.embedded_already is
  'Files that need no embedding. Authorization: callable by the worker only, for the run it holds. Errors: 409 CANCELLED.';

-- All chunks of some files at once: a file has its old embeddings or its new ones. p_values holds the vectors one after the other.
create or replace function private.store_embeddings(
  p_run_id uuid, p_owner uuid, p_embedder text, p_model text, p_dimensions integer, p_files uuid[], p_hashes bytea[], p_chunks integer[],
  p_start_bytes integer[], p_end_bytes integer[], p_start_lines integer[], p_end_lines integer[], p_tokens integer[], p_values real[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.enrichment_runs := private.held_enrichment(p_run_id, p_owner);
begin
  delete from public.file_embeddings e where e.project_id = r.project_id and e.embedder = p_embedder and e.file_id = any (p_files);
  insert into public.file_embeddings (organization_id, project_id, file_id, embedder, chunk_no, hash, start_byte, end_byte, start_line, end_line,
    tokens, model, dimensions, embedding)
  select r.organization_id, r.project_id, u.file_id, p_embedder, u.chunk_no, u.hash, u.start_byte, u.end_byte, u.start_line, u.end_line, u.tokens,
    p_model, p_dimensions, p_values[(u.n - 1) * p_dimensions + 1 : u.n * p_dimensions]
  from unnest(p_files, p_hashes, p_chunks, p_start_bytes, p_end_bytes, p_start_lines, p_end_lines, p_tokens) with ordinality
    u (file_id, hash, chunk_no, start_byte, end_byte, start_line, end_line, tokens, n)
  -- A file that was deleted meanwhile has none.
  join public.context_files f on f.project_id = r.project_id and f.id = u.file_id;
end
$$;
comment on function private.store_embeddings is
  'Embeddings of whole files of a leased run. Authorization: callable by the worker only, for the run it holds. Errors: 409 CANCELLED.';

-- The index becomes the planned one: rows that are equal stay.
create or replace function private.switch_symbols(r public.enrichment_runs) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.symbol_files i
  where i.project_id = r.project_id
    and not exists (select from private.enrichment_plans p where p.run_id = r.id and p.file_id = i.file_id and p.hash = i.hash and p.language = i.language);
  insert into public.symbol_files (organization_id, project_id, file_id, hash, language)
  select r.organization_id, r.project_id, p.file_id, p.hash, p.language
  from private.enrichment_plans p
  -- A file that was deleted meanwhile is in no index; a content without a tree has no definitions to find.
  join public.context_files f on f.project_id = r.project_id and f.id = p.file_id
  join public.symbol_contents c on c.project_id = r.project_id and c.hash = p.hash and c.language = p.language and c.is_parsed
  where p.run_id = r.id
  on conflict (project_id, file_id) do nothing;
end
$$;
comment on function private.switch_symbols is 'Makes the planned files of a run the index of symbols. Authorization: callable by private.finish_enrichment only.';

-- The end of a run: its data come into force, and what is gained is counted against what was there.
create or replace function private.finish_enrichment(p_run_id uuid, p_owner uuid, p jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.enrichment_runs := private.held_enrichment(p_run_id, p_owner);
  s public.enrichment_states;
  v_before jsonb;
  v_now jsonb;
  v_text text;
  v_added bigint;
  v_modified bigint;
  v record;
begin
  select * into s from public.enrichment_states x where x.project_id = r.project_id and x.kind = r.kind for update;
  v_before := coalesce(s.result, '{}');
  case r.kind
    when 'knowledgeGraph' then
      v_now := private.graph_statistics(r.project_id);
      v_added := (v_now ->> 'entities')::bigint - coalesce((v_before ->> 'entities')::bigint, 0);
      v_modified := (v_now ->> 'relationships')::bigint - coalesce((v_before ->> 'relationships')::bigint, 0);
      v_text := format('Knowledge Graph rebuilt: %s entities, %s relationships', v_now ->> 'entities', v_now ->> 'relationships');
      v_now := v_now - 'topEntities';
    when 'languageServer' then
      perform private.switch_symbols(r);
      v := private.symbol_facts(r.project_id);
      v_added := v.symbols - coalesce((v_before ->> 'symbols')::bigint, 0);
      v_modified := (p ->> 'processed')::bigint;
      v_text := format('LSP index updated: %s symbols in %s files', v.symbols, v.files);
      v_now := jsonb_build_object('symbols', v.symbols, 'files', v.files);
    else
      delete from public.file_embeddings e
      where e.project_id = r.project_id and e.embedder = p ->> 'embedder'
        and not exists (select from private.enrichment_plans x where x.run_id = r.id and x.file_id = e.file_id);
      v_now := jsonb_build_object('files', private.embedded_files(r.project_id, p ->> 'embedder')) || (p - 'processed');
      v_added := (v_now ->> 'files')::bigint - coalesce((v_before ->> 'files')::bigint, 0);
      v_modified := (p ->> 'processed')::bigint;
      v_text := format('ChromaCode embeddings generated: %s files with %s', v_now ->> 'files', p ->> 'model');
  end case;
  update public.enrichment_states x set is_active = true, last_run_at = clock_timestamp(), result = v_now
  where x.project_id = r.project_id and x.kind = r.kind;
  perform private.enqueue('enrichments.drop', jsonb_build_object('projectId', r.project_id));
  -- The entry names the person who started the run.
  perform set_config('app.user_id', coalesce(r.started_by::text, ''), true);
  perform private.add_changelog(r.project_id, 'enrichment', v_text, greatest(0, v_added)::integer, greatest(0, v_modified)::integer);
  perform set_config('app.user_id', '', true);
  update public.enrichment_runs x set status = 'completed', message = v_text, result = v_now where x.id = r.id;
end
$$;
comment on function private.finish_enrichment is
  'Completes a leased run: its data come into force. Authorization: callable by the worker only, for the run it holds. Errors: 409 CANCELLED.';

create or replace function private.fail_enrichment(p_run_id uuid, p_owner uuid, p_message text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.enrichment_runs := private.held_enrichment(p_run_id, p_owner);
begin
  update public.enrichment_runs x set status = 'failed', error_message = left(coalesce(nullif(p_message, ''), 'The work failed.'), 2000) where x.id = r.id;
end
$$;
comment on function private.fail_enrichment is
  'Fails a leased run; the data of earlier runs stay in force. Authorization: callable by the worker only, for the run it holds. Errors: 409 CANCELLED.';

-- Removes up to p_limit rows that nothing in force names, unless an open run may still want them; 0 when there are none.
create or replace function private.drop_enrichment_rows(p_project_id uuid, p_limit integer) returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count bigint := 0;
  v_embedder text := (select s.result ->> 'embedder' from public.enrichment_states s where s.project_id = p_project_id and s.kind = 'chromaCode');
  v_keeps boolean := exists (select from public.enrichment_states s where s.project_id = p_project_id and s.kind = 'languageServer' and s.is_active);
begin
  perform private.lock_enrichments(p_project_id);
  if not exists (select from public.enrichment_runs r where r.project_id = p_project_id and r.kind = 'languageServer' and r.status in ('queued', 'running')) then
    delete from public.symbol_contents c using (
      select o.hash, o.language from public.symbol_contents o
      where o.project_id = p_project_id
        and not exists (select from public.symbol_files i where i.organization_id = o.organization_id and i.project_id = o.project_id and i.hash = o.hash and i.language = o.language)
        -- Contents that a pattern leaves out today need not be parsed again tomorrow; after a reset none is kept.
        and not (v_keeps and exists (select from public.context_files f where f.project_id = o.project_id and f.hash = o.hash))
      limit greatest(1, p_limit / 20)) o
    where c.project_id = p_project_id and c.hash = o.hash and c.language = o.language;
    get diagnostics v_count = row_count;
  end if;
  if v_count = 0 and not exists (select from public.enrichment_runs r where r.project_id = p_project_id and r.kind = 'chromaCode' and r.status in ('queued', 'running')) then
    delete from public.file_embeddings e using (
      select o.file_id, o.embedder, o.chunk_no from public.file_embeddings o
      where o.project_id = p_project_id and o.embedder is distinct from v_embedder limit p_limit) o
    where e.project_id = p_project_id and e.file_id = o.file_id and e.embedder = o.embedder and e.chunk_no = o.chunk_no;
    get diagnostics v_count = row_count;
  end if;
  return v_count;
end
$$;
comment on function private.drop_enrichment_rows is
  'Removes definitions and embeddings that are no longer in force; how many rows of them. Authorization: callable by the worker only.';

grant execute on function private.claim_enrichment, private.hold_enrichments, private.release_enrichment, private.sweep_enrichments,
  private.report_enrichment, private.enrichment_files, private.enrichment_contents, private.plan_enrichment, private.store_symbols,
  private.embedded_already, private.store_embeddings, private.finish_enrichment, private.fail_enrichment, private.drop_enrichment_rows to kijko_worker;
