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

---- create above / drop below ----

drop table public.context_settings;
drop function private.assert_context_settings_row(public.context_settings), private.is_compression_settings(jsonb);
