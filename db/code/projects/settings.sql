-- Settings and the one manual text (contract 10, section 8). Three switches live in the project's own row and are only mirrored here.
-- Auditors get 403. A change that affects a run is refused while a run is active; the triggers refuse it for every writer.

create or replace function private.settings_json(p_project_id uuid) returns jsonb
language sql stable parallel safe
return (
  select jsonb_strip_nulls(jsonb_build_object('chunkingStrategy', p.chunking_strategy,
    'webhookUrl', case when p.chunking_strategy = 'custom' then s.webhook_url end,
    'metadataOptions', s.metadata_options, 'outputFormat', s.output_format,
    'embeddingModel', case when s.output_format = 'vector' then s.embedding_model end,
    'patternFilters', s.pattern_filters,
    'processingOptions', s.processing_options || jsonb_build_object('anonymizeSecrets', p.anonymize_secrets),
    'fileFilters', s.file_filters, 'defaultNotificationLevel', s.default_notification_level, 'persona', s.persona))
    || case when s.custom_settings is null then '{}' else jsonb_build_object('customSettings', s.custom_settings) end
  from public.projects p join public.project_settings s on s.project_id = p.id
  where p.id = p_project_id
);
comment on function private.settings_json is 'AdvancedSettingsConfig with the form''s remaining fields.';

-- https, no credentials, and no address that is visibly private. The resolved address is checked again at each call.
create or replace function private.is_public_address(p_url text) returns boolean
language plpgsql immutable parallel safe
as $$
declare
  v_host text := lower(substring(p_url from '^https://([^/?#@\s\\:\[\]]+)(?::[0-9]{1,5})?(?:[/?#][^\s\\]*)?$'));
begin
  if v_host is null or v_host !~ '\.' or v_host ~ '(^|\.)(localhost|local|internal|home\.arpa)\.?$' then
    return false;
  end if;
  -- A name that ends in digits would be read as an IPv4 address, in whatever notation.
  if v_host ~ '(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$' then
    if v_host !~ '^(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}$' then
      return false;
    end if;
    return not (v_host::inet <<= any (array['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12',
      '192.0.0.0/24', '192.0.2.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/3']::inet[]));
  end if;
  return true;
end
$$;
comment on function private.is_public_address is 'Is this an https address of a public host, as far as its text tells?';

create or replace function private.is_public_url(p_url text) returns boolean
language sql immutable parallel safe
return char_length(p_url) <= 500 and private.is_public_address(p_url);
comment on function private.is_public_url is 'Is this an https address of a public host, as far as its text tells, of at most 500 characters?';

create or replace function private.store_webhook_secret(p_project_id uuid, p_sealed text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_sealed is not null then
    perform private.refuse_strangers('Secrets are made by the server.');
  end if;
  perform private.assert_project_role(p_project_id, 'admin');
  delete from private.project_webhook_secrets where project_id = p_project_id;
  if p_sealed is not null then
    insert into private.project_webhook_secrets (project_id, sealed) values (p_project_id, p_sealed);
  end if;
end
$$;
comment on function private.store_webhook_secret is
  'Replaces the secret that belongs to the webhook address, or drops it. Authorization: owner or admin of the project; a secret comes through our server only, which encrypts it.';

-- Returns an object of switches after a partial update.
create or replace function private.merged_switches(p_current jsonb, p_patch jsonb, p_field text) returns jsonb
language plpgsql stable
as $$
declare
  v_key text;
begin
  if p_patch is null then
    return p_current;
  elsif jsonb_typeof(p_patch) <> 'object' then
    perform private.refuse_field(p_field, 'This must be an object of switches.');
  end if;
  for v_key in select jsonb_object_keys(p_patch) loop
    if not p_current ? v_key or jsonb_typeof(p_patch -> v_key) <> 'boolean' then
      perform private.refuse_field(p_field || '.' || v_key, 'This is no switch of these settings, or neither true nor false.');
    end if;
  end loop;
  return p_current || p_patch;
end
$$;
comment on function private.merged_switches is 'Merge inside an option object: unknown keys and non-booleans are refused.';

-- Merges at the top level and inside the option objects. p_prefix goes before field names ("settings." at creation).
create or replace function private.apply_settings(p_project_id uuid, p_body jsonb, p_sealed_secret text, p_prefix text default '')
returns boolean
language plpgsql volatile
as $$
declare
  b jsonb := p_body;
  v_project public.projects;
  s public.project_settings;
  v_strategy text;
  v_url text;
  v_processing jsonb;
begin
  select * into v_project from public.projects where id = p_project_id;
  select * into s from public.project_settings where project_id = p_project_id;
  v_strategy := coalesce(b ->> 'chunkingStrategy', v_project.chunking_strategy);
  v_url := s.webhook_url;
  if v_strategy = 'custom' then
    v_url := coalesce(nullif(btrim(b ->> 'webhookUrl'), ''), v_url);
    if v_url is null then
      perform private.refuse_field(p_prefix || 'webhookUrl', 'Custom chunking needs a webhook URL.');
    elsif not private.is_public_url(v_url) then
      perform private.refuse_field(p_prefix || 'webhookUrl', 'The webhook URL must be an https address of a public host, at most 500 characters.');
    end if;
  end if;

  s.output_format := coalesce(b ->> 'outputFormat', s.output_format);
  if s.output_format = 'vector' then
    if not private.has_embedding() then
      perform private.refuse(503, 'PROVIDER_NOT_CONFIGURED', 'No embedding provider is configured on this installation.',
        p_prefix || 'outputFormat', '{"provider": "embedding"}');
    end if;
    s.embedding_model := coalesce(b ->> 'embeddingModel', s.embedding_model, 'text-embedding-3-small');
  end if;
  v_processing := private.merged_switches(
    s.processing_options || jsonb_build_object('anonymizeSecrets', v_project.anonymize_secrets), b -> 'processingOptions',
    p_prefix || 'processingOptions');
  if b -> 'patternFilters' is not null then
    s.pattern_filters := jsonb_build_object(
      'languagePatterns', private.as_patterns(coalesce(b -> 'patternFilters' -> 'languagePatterns', s.pattern_filters -> 'languagePatterns'),
        p_prefix || 'patternFilters.languagePatterns'),
      'excludePatterns', private.as_patterns(coalesce(b -> 'patternFilters' -> 'excludePatterns', s.pattern_filters -> 'excludePatterns'),
        p_prefix || 'patternFilters.excludePatterns'));
  end if;
  if octet_length((b -> 'customSettings')::text) > 16384 then
    perform private.refuse_field(p_prefix || 'customSettings', 'Custom settings may have at most 16 KiB.');
  end if;

  -- Only differing values are written, so that a body without a change leaves no trace.
  update public.project_settings t
  set webhook_url = v_url,
    metadata_options = private.merged_switches(t.metadata_options, b -> 'metadataOptions', p_prefix || 'metadataOptions'),
    output_format = s.output_format, embedding_model = s.embedding_model, pattern_filters = s.pattern_filters,
    processing_options = v_processing - 'anonymizeSecrets',
    file_filters = private.merged_switches(t.file_filters, b -> 'fileFilters', p_prefix || 'fileFilters'),
    default_notification_level = coalesce(b ->> 'defaultNotificationLevel', t.default_notification_level),
    persona = case when b ? 'persona' then b ->> 'persona' else t.persona end,
    custom_settings = case when b ? 'customSettings' then nullif(b -> 'customSettings', 'null') else t.custom_settings end
  where t.project_id = p_project_id;
  update public.projects p
  set chunking_strategy = v_strategy, anonymize_secrets = (v_processing ->> 'anonymizeSecrets')::boolean
  where p.id = p_project_id
    and (p.chunking_strategy, p.anonymize_secrets) is distinct from (v_strategy, (v_processing ->> 'anonymizeSecrets')::boolean);

  if v_url is distinct from s.webhook_url then
    perform private.store_webhook_secret(p_project_id, p_sealed_secret);
    return p_sealed_secret is not null;
  end if;
  return false;
end
$$;
comment on function private.apply_settings is
  'Merges settings into a project, as the caller; true when the given sealed secret was stored with a new webhook URL.';

grant execute on function private.settings_json, private.is_public_address, private.is_public_url, private.store_webhook_secret, private.merged_switches,
  private.apply_settings to authenticated;

create or replace function api.get_project_settings(p jsonb) returns jsonb
language sql stable
return private.settings_json(private.path_project(p, 'viewer'));
comment on function api.get_project_settings is 'GET /projects/{projectId}/settings. Errors: 403 for an auditor, 404 PROJECT_NOT_FOUND.';

-- p.sealedWebhookSecret comes from the server, which alone knows the key. When it was stored, the answer repeats it as webhookSecret,
-- and the server puts the plain secret in its place.
create or replace function api.update_project_settings(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  -- A manager may set the level alone. Members that are no settings are ignored here, too.
  v_project uuid := private.path_project(p, case when private.as_object(p -> 'body', 'body') ?| array['chunkingStrategy', 'webhookUrl', 'metadataOptions', 'outputFormat',
    'embeddingModel', 'patternFilters', 'processingOptions', 'fileFilters', 'persona', 'customSettings'] then 'admin' else 'manager' end);
  v_stored boolean := private.apply_settings(v_project, p -> 'body', p ->> 'sealedWebhookSecret');
begin
  -- The project was deleted after the check: it is not found.
  return coalesce(private.settings_json(v_project), private.settings_json(private.path_project(p, 'manager')))
    || case when v_stored then jsonb_build_object('webhookSecret', p ->> 'sealedWebhookSecret') else '{}' end;
end
$$;
comment on function api.update_project_settings is
  'PUT /projects/{projectId}/settings: the whole settings. Errors: 400, 403, 404, 409 ALREADY_PROCESSING, 503 PROVIDER_NOT_CONFIGURED.';
grant execute on function api.get_project_settings, api.update_project_settings to authenticated;

-- -------------------------------------------------------------------------------------------------------------------- manual text

create or replace function private.manual_json(p_project_id uuid) returns jsonb
language sql stable parallel safe
return (
  select jsonb_strip_nulls(jsonb_build_object('content', coalesce(c.content, ''), 'characters', char_length(coalesce(c.content, '')),
    'lines', char_length(coalesce(c.content, '')) - char_length(replace(coalesce(c.content, ''), e'\n', '')) + 1,
    'updatedAt', private.iso(c.updated_at)))
  from (select) one left join public.project_manual_contents c on c.project_id = p_project_id
);
comment on function private.manual_json is '{content, characters, lines, updatedAt?} of a project''s manual text.';

create or replace function private.apply_manual_content(p_project_id uuid, p_content text, p_field text default 'content') returns void
language plpgsql volatile
as $$
begin
  if p_content = '' then
    delete from public.project_manual_contents where project_id = p_project_id;
    return;
  elsif char_length(private.trimmed(p_content)) < 10 then
    perform private.refuse_field(p_field, 'The text must have at least 10 characters.');
  elsif char_length(p_content) > 500000 then
    perform private.refuse_field(p_field, 'The text must have at most 500,000 characters.');
  end if;
  insert into public.project_manual_contents as c (project_id, organization_id, content)
  select p.id, p.organization_id, p_content from public.projects p where p.id = p_project_id
  on conflict (project_id) do update set content = excluded.content where c.content <> excluded.content;
end
$$;
comment on function private.apply_manual_content is 'Sets or clears the manual text, as the caller: 400 below 10 or above 500,000 characters.';
grant execute on function private.manual_json, private.apply_manual_content to authenticated;

create or replace function api.get_manual_content(p jsonb) returns jsonb
language sql stable
return private.manual_json(private.path_project(p, 'viewer'));
comment on function api.get_manual_content is 'GET /projects/{projectId}/manual-content. Errors: 403 for an auditor, 404 PROJECT_NOT_FOUND.';

create or replace function api.update_manual_content(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_project uuid := private.path_project(p, 'developer');
begin
  if p -> 'body' ->> 'content' is null then
    perform private.refuse_field('content', 'content is required; "" clears it.');
  end if;
  perform private.apply_manual_content(v_project, p -> 'body' ->> 'content');
  return private.manual_json(v_project);
end
$$;
comment on function api.update_manual_content is 'PUT /projects/{projectId}/manual-content; "" clears. Errors: 400, 403, 404.';
grant execute on function api.get_manual_content, api.update_manual_content to authenticated;
