-- Settings of the index of symbols and of the embeddings (contract 60, section 10.4), kinds of db/code/contexts/settings.sql.

-- The worker's own rule (worker/ingestion/source): classes and braces are closed, a backslash has a next character, and the braces have
-- at most 64 combinations, because each of them is tried.
create or replace function private.is_exclude_pattern(p_pattern text) returns boolean
language plpgsql immutable parallel safe
as $$
declare
  c_most constant integer := 64;
  v_length constant integer := char_length(p_pattern);
  v_at integer := 1;
  v_char text;
  v_depth integer := 0;
  v_commas integer := 0;
  v_combinations integer := 1;
begin
  if btrim(p_pattern, '/ ') = '' then
    return false;
  end if;
  -- Everything is closed.
  while v_at <= v_length loop
    v_char := substr(p_pattern, v_at, 1);
    if v_char = '\' then
      v_at := v_at + 1;
      if v_at > v_length then
        return false;
      end if;
    elsif v_char = '[' then
      v_at := v_at + 1;
      if substr(p_pattern, v_at, 1) in ('^', '!') then
        v_at := v_at + 1;
      end if;
      if substr(p_pattern, v_at, 1) in (']', '') then
        return false;
      end if;
      loop
        v_char := substr(p_pattern, v_at, 1);
        exit when v_char = ']';
        v_at := v_at + case v_char when '\' then 2 else 1 end;
        if v_at > v_length then
          return false;
        end if;
      end loop;
    elsif v_char = '{' then
      v_depth := v_depth + 1;
    elsif v_char = '}' then
      v_depth := v_depth - 1;
      if v_depth < 0 then
        return false;
      end if;
    end if;
    v_at := v_at + 1;
  end loop;
  if v_depth > 0 then
    return false;
  end if;
  -- The combinations of braces; those in a class count too, so that the count is never too low.
  v_at := 1;
  while v_at <= v_length loop
    case substr(p_pattern, v_at, 1)
      when '\' then
        v_at := v_at + 1;
      when '{' then
        v_depth := v_depth + 1;
        if v_depth > 1 then
          return false;
        end if;
        v_commas := 0;
      when ',' then
        v_commas := v_commas + 1;
      when '}' then
        v_depth := v_depth - 1;
        v_combinations := v_combinations * (v_commas + 1);
        if v_combinations > c_most then
          return false;
        end if;
      else null;
    end case;
    v_at := v_at + 1;
  end loop;
  return true;
end
$$;
comment on function private.is_exclude_pattern is 'Can the pattern be used: *, ?, **, classes, and braces with at most 64 combinations?';

create or replace function private.embedding_dimensions(p_model text) returns integer
language sql immutable parallel safe
return case p_model when 'text-embedding-3-large' then 3072 when 'text-embedding-3-small' then 1536 end;
comment on function private.embedding_dimensions is 'Length of the vectors of an embedding model that a context can be configured with.';
grant execute on function private.embedding_dimensions to authenticated;

create or replace function private.checked_patterns(p_value jsonb, p_field text) returns jsonb
language plpgsql stable
as $$
declare
  v_patterns text[];
begin
  if jsonb_typeof(p_value) <> 'array' or jsonb_array_length(p_value) > 100 then
    perform private.refuse_field(p_field, format('%s must be a list of at most 100 patterns.', p_field));
  elsif exists (select from jsonb_array_elements(p_value) e where jsonb_typeof(e) <> 'string') then
    perform private.refuse_field(p_field, 'A pattern must be a text.');
  end if;
  v_patterns := array(select private.trimmed(e) from jsonb_array_elements_text(p_value) with ordinality u (e, n) order by n);
  if exists (select from unnest(v_patterns) e where char_length(e) not between 1 and 200) then
    perform private.refuse_field(p_field, 'A pattern must have 1 to 200 characters.');
  elsif (select count(distinct e) from unnest(v_patterns) e) < cardinality(v_patterns) then
    perform private.refuse_field(p_field, 'A pattern is listed twice.');
  elsif exists (select from unnest(v_patterns) e where not private.is_exclude_pattern(e)) then
    perform private.refuse_field(p_field, format('"%s" is no valid pattern. Close brackets and braces, and do not nest braces.',
      (select e from unnest(v_patterns) with ordinality u (e, n) where not private.is_exclude_pattern(e) order by n limit 1)));
  end if;
  return to_jsonb(v_patterns);
end
$$;
comment on function private.checked_patterns is 'Exclude patterns, trimmed, or 400 VALIDATION_ERROR about the field.';

create or replace function private.checked_whole(p_value jsonb, p_field text, p_from integer, p_to integer) returns integer
language plpgsql stable
as $$
begin
  if jsonb_typeof(p_value) <> 'number' or p_value::numeric not between p_from and p_to or p_value::numeric <> trunc(p_value::numeric) then
    perform private.refuse_field(p_field, format('%s must be a whole number from %s to %s.', p_field, p_from, p_to));
  end if;
  return p_value::numeric::integer;
end
$$;
comment on function private.checked_whole is 'A whole number within a range, or 400 VALIDATION_ERROR about the field.';

create or replace function private.checked_lsp_settings(p_settings jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_key text;
begin
  foreach v_key in array array['enableGoToDefinition', 'enableAutoCompletion', 'enableTypeInference'] loop
    if jsonb_typeof(p_settings -> v_key) <> 'boolean' then
      perform private.refuse_field(v_key, format('%s must be true or false.', v_key));
    end if;
  end loop;
  return p_settings || jsonb_build_object('excludePatterns', private.checked_patterns(p_settings -> 'excludePatterns', 'excludePatterns'),
    'maxFileSize', private.checked_whole(p_settings -> 'maxFileSize', 'maxFileSize', 0, 10240));
end
$$;
comment on function private.checked_lsp_settings is 'LSPConfig, or 400 VALIDATION_ERROR about the first member with a bad value.';

create or replace function private.checked_chromacode_settings(p_settings jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_size integer;
begin
  if jsonb_typeof(p_settings -> 'embeddingModel') <> 'string' or private.embedding_dimensions(p_settings ->> 'embeddingModel') is null then
    perform private.refuse_field('embeddingModel', 'embeddingModel must be one of text-embedding-3-small, text-embedding-3-large.');
  elsif jsonb_typeof(p_settings -> 'chunkStrategy') <> 'string' or p_settings ->> 'chunkStrategy' not in ('sliding', 'semantic', 'paragraph') then
    perform private.refuse_field('chunkStrategy', 'chunkStrategy must be one of sliding, semantic, paragraph.');
  end if;
  v_size := private.checked_whole(p_settings -> 'chunkSize', 'chunkSize', 64, 2048);
  return p_settings || jsonb_build_object('chunkSize', v_size, 'overlap', private.checked_whole(p_settings -> 'overlap', 'overlap', 0, v_size / 2),
    'excludePatterns', private.checked_patterns(p_settings -> 'excludePatterns', 'excludePatterns'));
end
$$;
comment on function private.checked_chromacode_settings is 'ChromaCodeConfig, or 400 VALIDATION_ERROR about the first member with a bad value.';

create or replace function api.get_lsp_settings(p jsonb) returns jsonb
language sql stable
return private.context_settings(private.path_context(p, 'viewer', 'read_settings'), 'lsp');
comment on function api.get_lsp_settings is 'GET /contexts/{contextId}/settings/lsp: LSPConfig. Errors: 403 for an auditor, 404 CONTEXT_NOT_FOUND.';

create or replace function api.update_lsp_settings(p jsonb) returns jsonb
language sql volatile
return private.change_context_settings(p, 'lsp');
comment on function api.update_lsp_settings is
  'PUT /contexts/{contextId}/settings/lsp: LSPConfig. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND.';

create or replace function api.get_chromacode_settings(p jsonb) returns jsonb
language sql stable
return private.context_settings(private.path_context(p, 'viewer', 'read_settings'), 'chromacode');
comment on function api.get_chromacode_settings is
  'GET /contexts/{contextId}/settings/chromacode: ChromaCodeConfig. Errors: 403 for an auditor, 404 CONTEXT_NOT_FOUND.';

create or replace function api.update_chromacode_settings(p jsonb) returns jsonb
language sql volatile
return private.change_context_settings(p, 'chromacode');
comment on function api.update_chromacode_settings is
  'PUT /contexts/{contextId}/settings/chromacode: ChromaCodeConfig. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.get_lsp_settings, api.update_lsp_settings, api.get_chromacode_settings, api.update_chromacode_settings to authenticated;
