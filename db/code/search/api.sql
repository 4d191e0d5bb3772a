create or replace function api.search_context(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_types constant text[] := array['user', 'activity', 'changelog', 'file'];
  v_id constant uuid := private.path_context(p);
  v_text constant text := lower(private.trimmed(coalesce(p ->> 'q', '')));
  v_limit constant integer := coalesce(private.as_int(p -> 'limit', 'limit'), 20);
  v_types text[] := c_types;
  v_result jsonb := '[]';
begin
  if p -> 'types' <> 'null' then
    v_types := array(select private.trimmed(t) from jsonb_array_elements_text(case jsonb_typeof(p -> 'types') when 'array' then p -> 'types'
      else jsonb_build_array(p -> 'types') end) l, unnest(string_to_array(l, ',')) t);
  end if;
  if char_length(v_text) > 200 then
    perform private.refuse_field('q', 'q has at most 200 characters.');
  elsif v_limit not between 1 and 100 then
    perform private.refuse_field('limit', 'limit must be from 1 to 100.');
  elsif not v_types <@ c_types then
    perform private.refuse_field('types', 'Types are user, activity, changelog and file.');
  elsif v_text = '' then
    return '[]';
  end if;
  if 'user' = any (v_types) then
    v_result := private.search_people(v_id, v_text, v_limit);
  end if;
  if 'activity' = any (v_types) then
    v_result := v_result || private.search_activity(v_id, v_text, v_limit);
  end if;
  if 'changelog' = any (v_types) then
    v_result := v_result || private.search_changelog(v_id, v_text, v_limit);
  end if;
  -- Auditors see no files.
  if 'file' = any (v_types) and private.has_project_role(v_id, 'viewer') then
    v_result := v_result || private.search_files(v_id, v_text, v_limit);
  end if;
  return v_result;
end
$$;
comment on function api.search_context is
  'GET /contexts/{contextId}/search: SearchResult[]. Authorization: any role in the context; activity and files as the role reads them. Errors: 400, 404 CONTEXT_NOT_FOUND.';
grant execute on function api.search_context to authenticated;
