-- Compressed text beside the originals (contract 60, sections 3.2 and 3.5). An entry is compressed when its compression ran. Its text belongs to
-- content and settings, so a version that brings a content back finds the text again.

-- Each file of the current set: pending, compressed or never (with the reason), and what it costs as it is served.
create or replace function private.file_compression(
  p_project_id uuid, out id uuid, out path text, out language text, out tokens bigint, out served bigint, out state text, out reason text
) returns setof record
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
    select f.id, f.path, f.language, f.tokens, case when x.state = 'compressed' then c.tokens else f.tokens end, x.state,
      case when x.state = 'never' then case when e.never_compress then 'Marked as never compress' when f.is_binary then 'Binary file'
        when f.tokens < 64 then 'Smaller than 64 tokens' else c.reason end end
    from public.context_files f
    left join public.context_ingestions e on e.project_id = f.project_id and e.number = f.number
    left join public.compressed_files c on e.compressed and not c.is_failed and c.project_id = f.project_id and c.hash = f.hash
      and c.settings_key = e.compression_key and c.language = f.language
    cross join lateral (select case when e.never_compress or f.is_binary or f.tokens < 64 or c.reason is not null then 'never'
      when c.hash is not null then 'compressed' else 'pending' end) x (state)
    where f.project_id = p_project_id and not f.is_hidden;
end
$$;
comment on function private.file_compression is
  'The current file set with the state of compression. Authorization: callable by definer functions of ours that have authorized the caller.';

create or replace function private.served_tokens(p_project_id uuid) returns bigint
language plpgsql stable security definer set search_path = ''
as $$
begin
  -- Most contexts have no compressed entry; their sum is kept.
  if not exists (select from public.context_ingestions e where e.project_id = p_project_id and e.compressed) then
    return coalesce((select c.tokens from private.context_counters c where c.project_id = p_project_id), 0);
  end if;
  return (select coalesce(sum(x.served), 0) from private.file_compression(p_project_id) x);
end
$$;
comment on function private.served_tokens is
  'Tokens of the current file set as it is served: compressed size for compressed files, full size for the rest. Authorization: callable by definer functions of ours that have authorized the caller.';

-- A pending file is expected to shrink as the context's files of its language did, else as all of its files did, else as the level usually
-- does.
create or replace function private.compression_lists(p_project_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    with files as materialized (
      select * from private.file_compression(p_project_id) x where x.tokens > 0
    ), ratios as (
      select x.language, sum(x.served) / sum(x.tokens) as ratio from files x where x.state = 'compressed' group by grouping sets ((x.language), ())
    ), ranked as (
      select x.*, regexp_replace(x.path, '^.*/', '') as name, row_number() over (partition by x.state order by x.path collate "C") as place,
        coalesce((select r.ratio from ratios r where r.language = x.language), (select r.ratio from ratios r where r.language is null),
          case private.context_settings(p_project_id, 'compression') ->> 'optimizationLevel' when 'low' then 0.80 when 'high' then 0.30 else 0.55 end) as ratio
      from files x
    )
    select jsonb_build_object(
      'compressedFiles', coalesce(jsonb_agg(jsonb_build_object('id', x.id, 'name', x.name, 'path', x.path, 'originalTokens', x.tokens,
        'compressedTokens', x.served) order by x.path collate "C") filter (where x.state = 'compressed'), '[]'),
      'pendingFiles', coalesce(jsonb_agg(jsonb_build_object('id', x.id, 'name', x.name, 'path', x.path, 'currentTokens', x.tokens,
        'estimatedTokens', greatest(1, round(x.tokens * x.ratio))) order by x.path collate "C") filter (where x.state = 'pending'), '[]'),
      'neverCompressFiles', coalesce(jsonb_agg(jsonb_build_object('id', x.id, 'name', x.name, 'path', x.path, 'tokens', x.tokens, 'reason', x.reason)
        order by x.path collate "C") filter (where x.state = 'never'), '[]'))
    from ranked x where x.place <= 1000
  );
end
$$;
comment on function private.compression_lists is
  'The file lists of CompressionDataResponse: sorted by path, at most 1000 items each, without files of 0 tokens. Authorization: callable by definer functions of ours that have authorized the caller.';

create or replace function private.compression_settings(p_project_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return private.context_settings(p_project_id, 'compression');
end
$$;
comment on function private.compression_settings is
  'CompressionSettings in force. Authorization: callable by definer functions of ours that have authorized the caller.';

-- The text that chat and search read instead of the original; null where the original is served.
create or replace function private.compressed_text(p_project_id uuid, p_file_id uuid) returns text
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select c.content
    from public.context_files f
    join public.context_ingestions e on e.project_id = f.project_id and e.number = f.number and e.compressed
    join public.compressed_files c on c.project_id = f.project_id and c.hash = f.hash and c.settings_key = e.compression_key and c.language = f.language
    where f.project_id = p_project_id and f.id = p_file_id and not f.is_binary and f.tokens >= 64
  );
end
$$;
comment on function private.compressed_text is
  'The compressed text of a file of the current set, or null. Authorization: callable by definer functions of ours that have authorized the caller.';

-- ------------------------------------------------------------------------------------------------------------------------ requests

-- Opens a compression: of one entry, or of all compressed ones (null). Its job finds the settings as they are now.
create or replace function private.queue_compression(p_project_id uuid, p_number integer) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid := private.queue_operation(p_project_id, 'compression');
begin
  insert into private.compressions (operation_id, organization_id, project_id, number, settings)
  select v_id, p.organization_id, p.id, p_number, private.context_settings(p.id, 'compression') from public.projects p where p.id = p_project_id;
  perform private.enqueue('compression.run', jsonb_build_object('operationId', v_id), p_unique_key => 'compression.run:' || v_id, p_queue => 'compression');
  return v_id;
end
$$;
comment on function private.queue_compression is
  'Opens a compression and its job; the id of its operation. Authorization: callable by definer functions and triggers of ours that have authorized the caller.';

-- The context is locked before, so of two requests the second sees the first.
create or replace function private.refuse_second_compression(p_project_id uuid) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  if exists (select from public.context_operations o where o.project_id = p_project_id and o.kind = 'compression' and o.status in ('queued', 'running')) then
    perform private.refuse(409, 'OPERATION_IN_PROGRESS', 'A compression of this context is running. Wait until it has ended.', null,
      '{"kind": "compression"}');
  end if;
end
$$;
comment on function private.refuse_second_compression is
  '409 OPERATION_IN_PROGRESS while a compression of the context is open. Authorization: callable by definer functions of ours that have authorized the caller.';

create or replace function private.request_compression(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  e public.context_ingestions := private.path_ingestion(p, 'developer', 'compress');
begin
  perform private.lock_context(e.project_id);
  select * into e from public.context_ingestions x where x.id = e.id for no key update;
  if not found then
    perform private.refuse_ingestion(p ->> 'number');
  elsif e.never_compress then
    perform private.refuse(409, 'NEVER_COMPRESS', format('Ingestion #%s is marked as never compress.', e.number));
  elsif e.status <> 'ready' then
    perform private.refuse(409, 'INGESTION_NOT_READY', case e.status when 'failed' then format('Ingestion #%s has failed: it has nothing to compress.', e.number)
      else format('Ingestion #%s is still processing. Compress it when it is ready.', e.number) end);
  elsif e.compressed then
    return private.ingestion_json(e);
  end if;
  perform private.refuse_second_compression(e.project_id);
  return private.operation_answer(private.ingestion_json(e), private.queue_compression(e.project_id, e.number));
end
$$;
comment on function private.request_compression is
  'Begins to compress the entry of the path. Authorization: developer of the project or higher, else 403 FORBIDDEN. Errors: 400, 404 CONTEXT_NOT_FOUND, INGESTION_NOT_FOUND, 409 NEVER_COMPRESS, INGESTION_NOT_READY, OPERATION_IN_PROGRESS.';

create or replace function private.request_recompression(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.path_context(p, 'developer', 'compress');
begin
  perform private.lock_context(v_project);
  perform private.refuse_second_compression(v_project);
  if not exists (select from public.context_ingestions e where e.project_id = v_project and e.compressed) then
    return jsonb_build_object('success', true, 'message', 'Nothing to re-compress', 'entriesProcessed', 0, 'metrics', private.context_metrics(v_project));
  end if;
  return private.operation_answer('{"success": true, "message": "Re-compression has begun"}', private.queue_compression(v_project, null));
end
$$;
comment on function private.request_recompression is
  'Begins to compress the compressed entries of the path''s context again. Authorization: developer of the project or higher, else 403 FORBIDDEN. Errors: 404 CONTEXT_NOT_FOUND, 409 OPERATION_IN_PROGRESS.';
grant execute on function private.request_compression, private.request_recompression to authenticated;

-- What is asked for at ingestion begins when the content is there. A rollback that brings compressed files back finds their texts again,
-- and is compressed like them.
create or replace function private.tg_context_ingestions__compress() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if new.wants_compression or new.kind = 'rollback' and exists (
    select from public.context_file_ops o
    join public.context_file_ops former on former.project_id = o.project_id and former.path = o.path collate "C" and former.hash = o.hash and former.number < o.number
    join public.context_ingestions e on e.id = former.ingestion_id and e.compressed
    where o.ingestion_id = new.id) then
    perform private.queue_compression(new.project_id, new.number);
  end if;
  return null;
end
$$;
comment on function private.tg_context_ingestions__compress is 'Trigger: an entry that wants compression is compressed as soon as it is ready.';
create or replace trigger _500_compress after update of status on public.context_ingestions
  for each row when (old.status = 'processing' and new.status = 'ready' and not new.never_compress and not new.compressed)
  execute function private.tg_context_ingestions__compress();
