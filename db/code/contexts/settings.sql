-- Settings of a context by kind (contract 60, section 10.4): the same reading, merging and writing for all kinds. A kind adds its defaults,
-- its check and its texts to the four functions with a CASE, and its two operations.

create or replace function private.context_setting_defaults(p_kind text) returns jsonb
language sql immutable parallel safe
return case p_kind
  when 'compression' then jsonb '{"method": "hypervisa", "preserveStructure": true, "preserveTypes": true, "preserveExports": true, "preserveDocs": false, "optimizationLevel": "medium"}'
  when 'lsp' then jsonb '{"enableGoToDefinition": true, "enableAutoCompletion": true, "enableTypeInference": true, "excludePatterns": ["node_modules/**", "dist/**", ".git/**"], "maxFileSize": 1024}'
  when 'chromacode' then jsonb '{"embeddingModel": "text-embedding-3-small", "chunkStrategy": "semantic", "chunkSize": 512, "overlap": 50, "excludePatterns": ["*.min.js", "*.bundle.js", "package-lock.json"]}'
end;
comment on function private.context_setting_defaults is 'The settings of a kind that a context has before the first change.';

create or replace function private.context_settings(p_project_id uuid, p_kind text) returns jsonb
language sql stable parallel safe
return private.context_setting_defaults(p_kind) || coalesce(
  (select s.settings from public.context_settings s where s.project_id = p_project_id and s.kind = p_kind), '{}');
comment on function private.context_settings is 'The settings of a kind now in force in a context; the defaults for a caller who does not see them.';

-- Present members replace the settings, absent ones keep their value. The check of the kind returns the settings as they are stored.
create or replace function private.merged_context_settings(p_kind text, p_settings jsonb, p_body jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_body jsonb := private.as_object(p_body, 'body');
  v_unknown text;
begin
  select k into v_unknown from jsonb_object_keys(v_body) k where not p_settings ? k order by k limit 1;
  if v_unknown is not null then
    perform private.refuse_field(left(v_unknown, 100), format('%s is no setting here. The settings are %s.', left(v_unknown, 100),
      (select string_agg(k, ', ' order by k) from jsonb_object_keys(p_settings) k)));
  end if;
  return case p_kind
    when 'compression' then private.checked_compression_settings(p_settings || v_body)
    when 'lsp' then private.checked_lsp_settings(p_settings || v_body)
    when 'chromacode' then private.checked_chromacode_settings(p_settings || v_body)
  end;
end
$$;
comment on function private.merged_context_settings is
  'The settings after a change, or 400 VALIDATION_ERROR about the field that is unknown or has a bad value.';

-- What the changelog and the activity say of a change.
create or replace function private.context_settings_texts(p_kind text, p_before jsonb, p_after jsonb, out changelog text, out activity text)
language plpgsql immutable parallel safe
as $$
begin
  case p_kind
    when 'compression' then
      changelog := 'Updated compression settings: ' || private.compression_changes(p_before, p_after);
      activity := 'updated compression settings';
    when 'lsp' then
      changelog := 'Updated LSP configuration';
      activity := 'updated LSP configuration';
    when 'chromacode' then
      changelog := format('Updated ChromaCode configuration: %s, %s dimensions', p_after ->> 'embeddingModel',
        private.embedding_dimensions(p_after ->> 'embeddingModel'));
      activity := 'updated ChromaCode configuration';
  end case;
end
$$;
comment on function private.context_settings_texts is 'The texts of a changelog entry and an activity entry for changed settings.';

create or replace function private.change_context_settings(p jsonb, p_kind text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.path_context(p, 'admin', 'change_settings');
  v_before jsonb;
  v_after jsonb;
  v_texts record;
begin
  -- Changes of one kind are merged one after the other.
  perform pg_advisory_xact_lock(hashtextextended('context settings ' || p_kind || ' ' || v_project, 0));
  v_before := private.context_settings(v_project, p_kind);
  v_after := private.merged_context_settings(p_kind, v_before, p -> 'body');
  if v_after = v_before then
    return v_before;
  end if;
  -- A project that is deleted meanwhile has no settings and leaves no entry.
  insert into public.context_settings as s (organization_id, project_id, kind, settings)
  select x.organization_id, x.id, p_kind, v_after from public.projects x where x.id = v_project for key share
  on conflict (project_id, kind) do update set settings = excluded.settings, updated_at = now();
  v_texts := private.context_settings_texts(p_kind, v_before, v_after);
  perform private.add_changelog(v_project, 'config', v_texts.changelog);
  perform private.record_activity(v_project, 'config', v_texts.activity, jsonb_build_object('kind', p_kind));
  return v_after;
end
$$;
comment on function private.change_context_settings is
  'Merges the body into the settings of a kind; equal values write nothing. Authorization: owner or admin of the project, else 403 FORBIDDEN; 404 CONTEXT_NOT_FOUND.';
grant execute on function private.context_setting_defaults, private.context_settings, private.change_context_settings to authenticated;
