-- Settings of a context by kind, and the compressed text of its files (contract 60, sections 3.5 and 10.4).

create function private.is_compression_settings(p jsonb) returns boolean
language sql immutable parallel safe set search_path = ''
return jsonb_typeof(p) = 'object'
  and p - array['method', 'preserveStructure', 'preserveTypes', 'preserveExports', 'preserveDocs', 'optimizationLevel'] = '{}'
  and coalesce(p ->> 'method' in ('hypervisa', 'standard'), false)
  and coalesce(p ->> 'optimizationLevel' in ('low', 'medium', 'high'), false)
  and jsonb_typeof(p -> 'preserveStructure') is not distinct from 'boolean' and jsonb_typeof(p -> 'preserveTypes') is not distinct from 'boolean'
  and jsonb_typeof(p -> 'preserveExports') is not distinct from 'boolean' and jsonb_typeof(p -> 'preserveDocs') is not distinct from 'boolean';
comment on function private.is_compression_settings is 'Is this a whole and valid CompressionSettings of the contract?';

-- Without a row the defaults are in force.
create table public.context_settings (
  organization_id uuid not null,
  project_id uuid not null,
  kind text not null,
  settings jsonb not null,
  updated_at timestamptz not null default now(),
  constraint context_settings_pkey primary key (project_id, kind),
  constraint context_settings_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade
);
alter table public.context_settings enable row level security;
alter table public.context_settings force row level security;
create function private.assert_context_settings_row(r public.context_settings) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (r.kind in ('compression', 'lsp', 'chromacode')) then 'context_settings_kind_check'
    when not (jsonb_typeof(r.settings) = 'object' and octet_length(r.settings::text) <= 131072) then 'context_settings_settings_check'
    when r.kind = 'compression' and not private.is_compression_settings(r.settings) then 'context_settings_settings_check'
  end;
begin
  return v_rule is null or private.refuse_row('context_settings', v_rule);
end
$$;
comment on function private.assert_context_settings_row is 'The rules of a row of public.context_settings, by name.';
alter table public.context_settings add constraint context_settings_rules check (private.assert_context_settings_row(context_settings));
create index context_settings_organization_id_project_id_idx on public.context_settings (organization_id, project_id);
comment on table public.context_settings is 'Settings of a context by kind: compression, lsp, chromacode. Without a row the defaults are in force.';

-- The texts that stand in for originals, once a content, language and effect of settings. The original is never touched.
create table public.compressed_files (
  organization_id uuid not null,
  project_id uuid not null,
  hash bytea not null,
  language text not null,
  -- What the settings do to a text (worker/ingestion/compress, Settings.Key).
  settings_key text not null,
  -- Null: the original is served.
  content text,
  tokens bigint not null,
  reason text,
  -- The file could not be compressed; it waits for the next compression.
  is_failed boolean not null default false,
  created_at timestamptz not null default now(),
  constraint compressed_files_pkey primary key (project_id, hash, settings_key, language),
  constraint compressed_files_hash_fkey foreign key (project_id, hash) references public.content_blobs (project_id, hash) on delete cascade,
  constraint compressed_files_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade,
  constraint compressed_files_tokens_check check (tokens >= 0),
  constraint compressed_files_reason_check check (reason in ('Compression does not reduce it', 'Smaller than 64 tokens')),
  constraint compressed_files_content_check check ((content is null) = (reason is not null or is_failed)),
  constraint compressed_files_key_length_check check (char_length(settings_key) <= 100 and char_length(language) <= 100)
);
alter table public.compressed_files enable row level security;
alter table public.compressed_files force row level security;
create index compressed_files_organization_id_project_id_idx on public.compressed_files (organization_id, project_id);
create index compressed_files_settings_key_idx on public.compressed_files (project_id, settings_key);
do $$
begin
  alter table public.compressed_files alter column content set compression lz4;
exception when feature_not_supported then
  null;
end
$$;
comment on table public.compressed_files is 'Compressed text by content, language and settings, beside the original; dropped when no entry uses it.';

-- Which settings made the text of a compressed entry.
alter table public.context_ingestions add column compression_key text;

-- Compressions that are not done, beside their row of context_operations.
create table private.compressions (
  operation_id uuid primary key references public.context_operations (id) on delete cascade,
  organization_id uuid not null,
  project_id uuid not null,
  -- One entry; null for all that are compressed.
  number integer,
  settings jsonb not null,
  failed integer not null default 0,
  touched_at timestamptz not null default now(),
  constraint compressions_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete cascade
);
alter table private.compressions enable row level security;
alter table private.compressions force row level security;
create index compressions_organization_id_project_id_idx on private.compressions (organization_id, project_id);
comment on table private.compressions is 'Compressions that wait or run, with the settings that were in force when they were asked for.';

insert into private.schedules (name, every) values ('compression.sweep', interval '1 minute');

---- create above / drop below ----

delete from private.schedules where name = 'compression.sweep';
drop table private.compressions;
alter table public.context_ingestions drop column compression_key;
drop table public.compressed_files;
drop table public.context_settings;
drop function private.assert_context_settings_row(public.context_settings), private.is_compression_settings(jsonb);
