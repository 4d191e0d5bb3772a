-- Settings of compression (contract 60, section 10.4), a kind of db/code/contexts/settings.sql.

create or replace function private.checked_compression_settings(p_settings jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v record;
begin
  for v in
    select e.key, e.value, case e.key when 'method' then array['hypervisa', 'standard'] when 'optimizationLevel' then array['low', 'medium', 'high'] end as words
    from jsonb_each(p_settings) e order by e.key
  loop
    if v.words is null and jsonb_typeof(v.value) <> 'boolean' then
      perform private.refuse_field(v.key, format('%s must be true or false.', v.key));
    elsif v.words is not null and (jsonb_typeof(v.value) <> 'string' or v.value #>> '{}' <> all (v.words)) then
      perform private.refuse_field(v.key, format('%s must be one of %s.', v.key, array_to_string(v.words, ', ')));
    end if;
  end loop;
  return p_settings;
end
$$;
comment on function private.checked_compression_settings is 'CompressionSettings, or 400 VALIDATION_ERROR about the first member with a bad value.';

-- In the order of the form.
create or replace function private.compression_changes(p_before jsonb, p_after jsonb) returns text
language sql immutable parallel safe
return (
  select string_agg(k || ' ' || case p_after ->> k when 'true' then 'on' when 'false' then 'off' else p_after ->> k end, ', ' order by n)
  from unnest(array['method', 'preserveStructure', 'preserveTypes', 'preserveExports', 'preserveDocs', 'optimizationLevel']) with ordinality x (k, n)
  where p_before -> k is distinct from p_after -> k
);
comment on function private.compression_changes is 'What changed between two CompressionSettings, for the changelog.';

create or replace function api.get_compression_settings(p jsonb) returns jsonb
language sql stable
return private.context_settings(private.path_context(p, 'viewer', 'read_settings'), 'compression');
comment on function api.get_compression_settings is
  'GET /contexts/{contextId}/settings/compression: CompressionSettings. Errors: 403 for an auditor, 404 CONTEXT_NOT_FOUND.';

create or replace function api.update_compression_settings(p jsonb) returns jsonb
language sql volatile
return private.change_context_settings(p, 'compression');
comment on function api.update_compression_settings is
  'PUT /contexts/{contextId}/settings/compression: CompressionSettings. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.get_compression_settings, api.update_compression_settings to authenticated;
