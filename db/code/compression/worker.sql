-- The worker's side of a compression: batches of content, one statement at the end. A batch that is stored twice changes nothing, so a job may be
-- repeated from its beginning, also beside itself.

-- {settings, number}; null when it has ended.
create or replace function private.begin_compression(p_operation_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.compressions;
begin
  update private.compressions x set touched_at = clock_timestamp()
  from public.context_operations o
  where x.operation_id = p_operation_id and o.id = x.operation_id and o.status in ('queued', 'running')
  returning x.* into c;
  if not found then
    return null;
  end if;
  perform private.start_operation(p_operation_id, 'Compressing files');
  return c.settings;
end
$$;
comment on function private.begin_compression is 'The settings of an open compression, else null. Authorization: callable by the worker only.';

-- The entries that a compression covers.
create or replace function private.compressed_numbers(c private.compressions) returns integer[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  return array(select e.number from public.context_ingestions e
    where e.project_id = c.project_id and e.status = 'ready' and not e.never_compress and case when c.number is null then e.compressed else e.number = c.number end);
end
$$;
comment on function private.compressed_numbers is 'Numbers of the entries that a compression covers. Authorization: callable by definer functions of ours only.';

-- With method standard a file is stored as the run has optimized it, so both layers tell the same tokens (contract 60, 27, 18). Files that the
-- index does not have, or has in another content, are left to the worker. Equal files have one text here. A run leaves no more than a marker of
-- all but one of them, so the text is that of the longest, wherever it is.
create or replace function private.store_optimized(p_operation_id uuid, p_key text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.compressions;
begin
  select * into c from private.compressions where operation_id = p_operation_id;
  insert into public.compressed_files as t (organization_id, project_id, hash, language, settings_key, content, tokens, reason)
  select distinct on (o.hash, o.language) c.organization_id, c.project_id, o.hash, o.language, p_key, case when f.optimized_tokens < o.tokens then x.content end,
    least(f.optimized_tokens, o.tokens), case when f.optimized_tokens >= o.tokens then 'Compression does not reduce it' end
  from public.context_file_ops o
  join public.content_blobs b on b.project_id = o.project_id and b.hash = o.hash
  join public.project_indexes i on i.project_id = o.project_id
  join public.run_files f on f.organization_id = i.organization_id and f.run_id = i.run_id and f.hash = o.hash and f.language is not distinct from o.language
  cross join lateral (select string_agg(k.content, '' order by k.position) as content from public.chunks k
    where k.organization_id = f.organization_id and k.run_id = f.run_id and k.file_id = f.id) x
  where o.project_id = c.project_id and o.number = any (private.compressed_numbers(c)) and not o.is_binary and o.tokens >= 64
    and (x.content is not null or f.optimized_tokens >= o.tokens)
  order by o.hash, o.language, f.optimized_tokens desc, f.path collate "C"
  on conflict (project_id, hash, settings_key, language) do update
  set content = excluded.content, tokens = excluded.tokens, reason = excluded.reason, is_failed = false
  where (t.content, t.tokens, t.reason) is distinct from (excluded.content, excluded.tokens, excluded.reason);
end
$$;
comment on function private.store_optimized is 'Stores the texts of method standard from the index. Authorization: callable by the worker only.';

-- The next contents after a place, which are not stored yet: at most p_limit, and at most 8 MB but for a single one.
create or replace function private.compression_batch(p_operation_id uuid, p_key text, p_after bytea, p_after_language text, p_limit integer)
returns table (hash bytea, language text, path text, content bytea)
language plpgsql stable security definer set search_path = ''
as $$
declare
  c private.compressions;
begin
  select * into c from private.compressions x where x.operation_id = p_operation_id;
  return query
    with found as materialized (
      select distinct on (o.hash, o.language) o.hash, o.language, o.path
      from public.context_file_ops o
      where o.project_id = c.project_id and o.hash >= p_after and (o.hash, o.language) > (p_after, p_after_language) and o.number = any (private.compressed_numbers(c)) and not o.is_binary and o.tokens >= 64
        and not exists (select from public.compressed_files t where t.project_id = o.project_id and t.hash = o.hash and t.settings_key = p_key
          and t.language = o.language and not t.is_failed)
      order by o.hash, o.language, o.path collate "C"
      limit p_limit
    )
    select s.hash, s.language, s.path, s.content
    from (
      select x.*, b.content, sum(octet_length(b.content)) over (order by x.hash, x.language) as size, row_number() over (order by x.hash, x.language) as place
      from found x join public.content_blobs b on b.project_id = c.project_id and b.hash = x.hash) s
    where s.size <= 8388608 or s.place = 1
    order by s.hash, s.language;
end
$$;
comment on function private.compression_batch is 'Contents of a compression that have no text yet. Authorization: callable by the worker only.';

create or replace function private.store_compressed(
  p_operation_id uuid, p_key text, p_hashes bytea[], p_languages text[], p_contents text[], p_tokens bigint[], p_reasons text[], p_failed boolean[]
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.compressions;
  v_total bigint;
  v_stored bigint;
begin
  update private.compressions x set touched_at = clock_timestamp() where x.operation_id = p_operation_id returning * into c;
  if not found then
    return;
  end if;
  insert into public.compressed_files as t (organization_id, project_id, hash, language, settings_key, content, tokens, reason, is_failed)
  select c.organization_id, c.project_id, n.hash, n.language, p_key, n.content, n.tokens, n.reason, n.failed
  from unnest(p_hashes, p_languages, p_contents, p_tokens, p_reasons, p_failed) n (hash, language, content, tokens, reason, failed)
  -- A content that was swept meanwhile needs no text.
  join public.content_blobs b on b.project_id = c.project_id and b.hash = n.hash
  on conflict (project_id, hash, settings_key, language) do update
  set content = excluded.content, tokens = excluded.tokens, reason = excluded.reason, is_failed = excluded.is_failed
  where t.is_failed;
  select count(*), count(t.hash) into v_total, v_stored
  from (select distinct o.hash, o.language from public.context_file_ops o
    where o.project_id = c.project_id and o.number = any (private.compressed_numbers(c)) and not o.is_binary and o.tokens >= 64) o
  left join public.compressed_files t on t.project_id = c.project_id and t.hash = o.hash and t.settings_key = p_key and t.language = o.language;
  perform private.progress_operation(p_operation_id, (v_stored * 99 / greatest(v_total, 1))::integer, format('Compressed %s of %s files', v_stored, v_total));
end
$$;
comment on function private.store_compressed is 'Stores texts of a compression and tells how far it is. Authorization: callable by the worker only.';

-- Long work goes on in a job of its own: no job keeps a transaction open for long. p_after and p_language are the last that was stored.
create or replace function private.continue_compression(p_operation_id uuid, p_after bytea, p_language text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.enqueue('compression.run', jsonb_build_object('operationId', p_operation_id, 'after', encode(p_after, 'hex'), 'language', p_language),
    p_unique_key => format('compression.run:%s:%s:%s', p_operation_id, encode(p_after, 'hex'), p_language), p_queue => 'compression');
end
$$;
comment on function private.continue_compression is 'Enqueues the rest of a compression. Authorization: callable by the worker only.';

-- Marks the entries and says what their files cost now, in one statement.
create or replace function private.finish_compression(p_operation_id uuid, p_key text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c private.compressions;
  v_numbers integer[];
  v_files bigint;
  v_failed bigint;
  v_user uuid;
begin
  select * into c from private.compressions where operation_id = p_operation_id;
  if not found then
    return;
  end if;
  perform private.lock_context(c.project_id);
  select o.requested_by into v_user from public.context_operations o
  where o.id = p_operation_id and o.status in ('queued', 'running') for no key update;
  if not found then
    return;
  end if;
  v_numbers := private.compressed_numbers(c);
  with served as (
    select e.id, e.kind, coalesce(sum(coalesce(case when not t.is_failed and t.reason is null then t.tokens end, o.tokens)) filter (where o.operation <> 'removed'), 0) as tokens
    from public.context_ingestions e
    left join public.context_file_ops o on o.ingestion_id = e.id
    left join public.compressed_files t on t.project_id = e.project_id and t.hash = o.hash and t.settings_key = p_key and t.language = o.language
      and not o.is_binary and o.tokens >= 64
    where e.project_id = c.project_id and e.number = any (v_numbers)
    group by e.id, e.kind
  )
  update public.context_ingestions e
  set compressed = true, compressed_tokens = case s.kind when 'declared' then e.tokens else least(s.tokens, e.tokens) end, compression_key = p_key
  from served s where e.id = s.id;
  -- A file that several entries changed is one file.
  select count(distinct o.path), count(distinct o.path) filter (where exists (select from public.compressed_files t where t.project_id = e.project_id
      and t.hash = o.hash and t.settings_key = p_key and t.language = o.language and t.is_failed and not o.is_binary and o.tokens >= 64))
    into v_files, v_failed
  from public.context_ingestions e join public.context_file_ops o on o.ingestion_id = e.id
  where e.project_id = c.project_id and e.number = any (v_numbers) and o.operation <> 'removed';
  if c.number is null then
    perform private.record_activity(c.project_id, 'ingestion', format('re-compressed %s %s', v_files, case v_files when 1 then 'file' else 'files' end), null, v_user);
  end if;
  perform private.complete_operation(p_operation_id, jsonb_build_object('success', v_failed = 0, 'entriesProcessed', cardinality(v_numbers),
    'message', case when v_failed = 0 then 'Re-compression completed successfully'
      else format('Re-compression left %s %s as they are: they could not be compressed', v_failed, case v_failed when 1 then 'file' else 'files' end) end));
  delete from private.compressions where operation_id = p_operation_id;
  perform private.drop_compressed(c.project_id);
end
$$;
comment on function private.finish_compression is 'Ends a compression. Authorization: callable by the worker only.';

create or replace function private.fail_compression(p_operation_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.fail_operation(p_operation_id, 'SERVICE_UNAVAILABLE', 'The compression failed. What was compressed before is unchanged. Try again.');
  delete from private.compressions where operation_id = p_operation_id;
end
$$;
comment on function private.fail_compression is 'Ends a compression whose job used up its attempts. Authorization: callable by the worker only.';

-- Texts of settings that no entry uses any more.
create or replace function private.drop_compressed(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- The texts of an open compression belong to no entry yet.
  if exists (select from private.compressions c where c.project_id = p_project_id) then
    return;
  end if;
  delete from public.compressed_files t
  where t.project_id = p_project_id
    and not exists (select from public.context_ingestions e where e.project_id = p_project_id and e.compressed and e.compression_key = t.settings_key);
end
$$;
comment on function private.drop_compressed is 'Drops texts that no entry of the project uses. Authorization: callable by definer functions of ours only.';

create or replace function private.tg_context_ingestions__drop_compressed() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if exists (select from public.projects p where p.id = old.project_id) then
    perform private.drop_compressed(old.project_id);
  end if;
  return null;
end
$$;
comment on function private.tg_context_ingestions__drop_compressed is 'Trigger: a deleted entry may have been the last one with its settings.';
create or replace trigger _500_drop_compressed after delete on public.context_ingestions
  for each row when (old.compressed) execute function private.tg_context_ingestions__drop_compressed();

create or replace function private.tg_content_blobs__drop_compressed() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.compressed_files t using gone g where t.project_id = g.project_id and t.hash = g.hash;
  return null;
end
$$;
comment on function private.tg_content_blobs__drop_compressed is 'Trigger: texts of content that is gone go with it.';
create or replace trigger _500_drop_compressed after delete on public.content_blobs
  referencing old table as gone for each statement execute function private.tg_content_blobs__drop_compressed();

-- A compression without news for two minutes has lost its job, or waits behind others: then the key of the waiting job keeps it the only one.
create or replace function private.sweep_compressions(p_at timestamptz default clock_timestamp()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count integer;
begin
  delete from private.compressions c using public.context_operations o where o.id = c.operation_id and o.finished_at is not null;
  select count(private.enqueue('compression.run', jsonb_build_object('operationId', c.operation_id), p_unique_key => 'compression.run:' || c.operation_id,
    p_queue => 'compression'))
  into v_count
  from (select * from private.compressions where touched_at < p_at - interval '2 minutes' limit 1000) c;
  return v_count;
end
$$;
comment on function private.sweep_compressions is 'Enqueues compressions again that nothing works on. Authorization: callable by schedules only.';
grant execute on function private.begin_compression, private.store_optimized, private.compression_batch, private.store_compressed, private.continue_compression,
  private.finish_compression, private.fail_compression to kijko_worker;
