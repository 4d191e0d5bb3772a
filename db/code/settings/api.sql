create or replace function api.list_settings(p jsonb) returns jsonb
language sql stable
return private.my_settings_json();
comment on function api.list_settings is 'GET /settings: all settings by key, with the defaults of known ones.';

create or replace function api.get_setting(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v jsonb := private.read_setting(p ->> 'key');
begin
  if v is null then
    perform private.refuse(404, 'NOT_FOUND', format('There is no setting %s', p ->> 'key'));
  end if;
  return v;
end
$$;
comment on function api.get_setting is 'GET /settings/{key}: UserSettings. Errors: 404 NOT_FOUND.';

-- p.picture comes from the server, which has drawn the content of a data: URL.
create or replace function api.set_setting(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_value jsonb := private.as_object(p -> 'body', 'body') -> 'value';
begin
  perform private.assert_setting(p ->> 'key', v_value, 'value');
  perform private.write_settings(jsonb_build_object(p ->> 'key', v_value), 'value', nullif(private.as_object(p -> 'picture', 'picture'), '{}'));
  return private.read_setting(p ->> 'key', v_value);
end
$$;
comment on function api.set_setting is
  'PUT /settings/{key}: UserSettings. Errors: 400 VALIDATION_ERROR, 403 API_KEY_NOT_ALLOWED, 409 EMAIL_TAKEN, 409 TOO_MANY_SETTINGS.';

create or replace function api.set_settings(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.write_settings(private.as_object(p -> 'body', 'body'), null, nullif(private.as_object(p -> 'picture', 'picture'), '{}'));
  return private.my_settings_json();
end
$$;
comment on function api.set_settings is
  'PUT /settings: all settings after the merge; all are written, or none. Errors: 400 VALIDATION_ERROR, 403 API_KEY_NOT_ALLOWED, 409 EMAIL_TAKEN, 409 TOO_MANY_SETTINGS.';

create or replace function api.delete_setting(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  if not private.delete_settings(coalesce(p ->> 'key', '')) then
    perform private.refuse(404, 'NOT_FOUND', format('There is no setting %s', p ->> 'key'));
  end if;
  return null;
end
$$;
comment on function api.delete_setting is 'DELETE /settings/{key}. Errors: 404 NOT_FOUND.';

create or replace function api.reset_settings(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.delete_settings(null);
  return null;
end
$$;
comment on function api.reset_settings is 'DELETE /settings: deletes all stored settings but those of the profile.';
grant execute on function private.assert_setting, private.unstored_settings, private.setting_json, private.setting_defaults to authenticated;
grant execute on function api.list_settings, api.get_setting, api.set_setting, api.set_settings, api.delete_setting, api.reset_settings to authenticated;
