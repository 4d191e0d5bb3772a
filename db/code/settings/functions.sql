-- General settings (contract 40, section 4): values under keys, of which some are other names for columns of the profile.

create or replace function private.setting_defaults() returns jsonb
language sql immutable parallel safe
return '{"theme": "dark", "ai_model": "claude"}'::jsonb;
comment on function private.setting_defaults is 'What known keys are worth that were never set.';

-- The aliases of the profile. A new address shows at once, as not verified, while it waits for its confirmation.
create or replace function private.profile_settings() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_build_object('timezone', u.timezone, 'profile.timezone', u.timezone, 'profile.firstName', u.first_name, 'profile.lastName', u.last_name,
      'profile.company', coalesce(u.company, ''), 'profile.role', u.job_role, 'profile.useGravatar', u.use_gravatar,
      'profile.email', coalesce(e.pending, u.email), 'profile.emailVerified', e.pending is null and u.email_verified_at is not null,
      'profile.avatarUrl', coalesce(u.picture_url, ''))
    from public.users u cross join lateral (select private.pending_email(u.id)) e (pending)
    where u.id = private.user_id()
  );
end
$$;
comment on function private.profile_settings is 'The caller''s settings that are columns of their profile. Authorization: private.user_id() only.';

create or replace function private.my_settings_json() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return private.setting_defaults() || coalesce((select jsonb_object_agg(s.key, s.value) from public.user_settings s where s.user_id = private.user_id()), '{}')
    || private.profile_settings();
end
$$;
comment on function private.my_settings_json is 'All settings of the caller, defaults included. Authorization: private.user_id() only.';

create or replace function private.setting_json(p_key text, p_value jsonb, p_id uuid, p_created_at timestamptz, p_updated_at timestamptz) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', p_id, 'userId', private.user_id(), 'settingsKey', p_key, 'settingsValue', p_value, 'createdAt', private.iso(p_created_at),
  'updatedAt', private.iso(p_updated_at));
comment on function private.setting_json is 'UserSettings of the contract.';

-- The row of a setting, or of an alias: aliases are columns of the profile, and their id is made from the person and the key.
create or replace function private.read_setting(p_key text, p_value jsonb default null) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  s public.user_settings;
  u public.users;
  v_value jsonb;
begin
  select * into s from public.user_settings x where x.user_id = private.user_id() and x.key = p_key;
  if found then
    return private.setting_json(s.key, s.value, s.id, s.created_at, s.updated_at);
  end if;
  v_value := coalesce(private.profile_settings() -> p_key, p_value);
  if v_value is null then
    return null;
  end if;
  select * into u from public.users x where x.id = private.user_id();
  return private.setting_json(p_key, v_value, md5(u.id || ' ' || p_key)::uuid, u.created_at, u.updated_at);
end
$$;
comment on function private.read_setting is
  'UserSettings of the caller under a key, or null; p_value is what is told of a key that is accepted and not stored. Authorization: private.user_id() only.';

create or replace function private.assert_setting(p_key text, p_value jsonb, p_field text) returns void
language plpgsql stable
as $$
declare
  v_type text := jsonb_typeof(p_value);
begin
  if coalesce(p_key, '') !~ '^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$' or char_length(p_key) > 255 then
    perform private.refuse_field('key', 'A key has at most 255 letters, digits, underscores, and dots between them.');
  elsif p_value is null or v_type = 'null' then
    perform private.refuse_field(p_field, 'A setting needs a value.');
  elsif v_type = 'array' and jsonb_path_exists(p_value, '$[*] ? (@.type() != "string")') then
    perform private.refuse_field(p_key, 'A list must hold texts only.');
  elsif p_key <> 'profile.avatarUrl' and octet_length(p_value::text) > 65536 then
    perform private.refuse_field(p_key, 'The value must have at most 64 KB.');
  elsif p_key = 'theme' and (v_type <> 'string' or p_value #>> '{}' not in ('light', 'dark')) then
    perform private.refuse_field(p_key, 'The theme must be one of light, dark.');
  elsif p_key = 'ai_model' and (v_type <> 'string' or p_value #>> '{}' not in ('claude', 'gemini', 'gpt4', 'gpt4o')) then
    perform private.refuse_field(p_key, 'The model must be one of claude, gemini, gpt4, gpt4o.');
  elsif p_key = 'profile.emailVerified' and v_type <> 'boolean' then
    perform private.refuse_field(p_key, 'This must be true or false.');
  elsif p_key = any (private.unstored_settings()) and v_type <> 'string' then
    perform private.refuse_field(p_key, 'This must be a text.');
  end if;
end
$$;
comment on function private.assert_setting is '400 VALIDATION_ERROR unless the key and the value are ones that settings take; p_field is told where there is no value.';

-- The billing form also saves to its own endpoint, and the value there counts.
create or replace function private.unstored_settings() returns text[]
language sql immutable parallel safe
return array['billing.companyName', 'billing.btwNumber', 'billing.kvkNumber', 'billing.addressLine1', 'billing.addressLine2', 'billing.city',
  'billing.postalCode', 'billing.country'];
comment on function private.unstored_settings is 'Keys that are taken and not kept.';

-- p_picture is the server's drawing of a picture that came as the value.
create or replace function private.write_setting(p_key text, p_value jsonb, p_picture jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_text text := p_value #>> '{}';
begin
  case
    when p_key = any (private.unstored_settings()) or p_key = 'profile.emailVerified' then
      return;
    when p_key = 'timezone' then
      perform private.change_timezone(p_value);
    when p_key in ('profile.firstName', 'profile.lastName', 'profile.company', 'profile.role', 'profile.timezone', 'profile.useGravatar', 'profile.email') then
      -- Clients write a pending address back as it is displayed.
      perform private.change_profile(jsonb_build_object(substr(p_key, 9), p_value), 'profile.');
    when p_key = 'profile.avatarUrl' then
      if jsonb_typeof(p_value) <> 'string' then
        perform private.refuse_field(p_key, 'This must be a text.');
      elsif v_text = '' then
        perform private.drop_picture();
      elsif v_text like 'data:%' and p_picture is not null then
        perform private.keep_picture(p_picture);
      elsif v_text is distinct from private.profile_settings() ->> p_key then
        perform private.refuse_field(p_key, case when v_text like 'data:%' then 'Pictures are uploaded through the API.'
          else 'This must be empty, or a picture as a data: URL.' end);
      end if;
    else
      insert into public.user_settings as s (user_id, key, value) values (private.user_id(), p_key, p_value)
      on conflict (user_id, key) do update set value = excluded.value, updated_at = now() where s.value <> excluded.value;
  end case;
end
$$;
comment on function private.write_setting is 'Writes one setting of the caller. Authorization: private.user_id() only; the profile''s are checked by private.change_profile.';

-- The setting of that name is the time zone of the profile; a refusal names its own field.
create or replace function private.change_timezone(p_value jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.change_profile(jsonb_build_object('timezone', p_value), '');
end
$$;
comment on function private.change_timezone is 'Writes the caller''s time zone. Authorization: as private.change_profile.';

-- Writes all values or none. p_values: key to value.
create or replace function private.write_settings(p_values jsonb, p_field text, p_picture jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_most constant integer := 200;
  v record;
begin
  if private.user_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  for v in select key, value from jsonb_each(p_values) loop
    perform private.assert_setting(v.key, v.value, coalesce(p_field, v.key));
  end loop;
  -- Writes of one person are serialized, so that the limit holds.
  perform from public.users u where u.id = private.user_id() for no key update;
  for v in select key, value from jsonb_each(p_values) order by key loop
    perform private.write_setting(v.key, v.value, p_picture);
  end loop;
  if (select count(*) from public.user_settings s where s.user_id = private.user_id()) > c_most then
    perform private.refuse(409, 'TOO_MANY_SETTINGS', format('You can keep %s settings. Delete some first.', c_most), null, jsonb_build_object('limit', c_most));
  end if;
end
$$;
comment on function private.write_settings is
  'Writes settings of the caller, all or none. Authorization: private.user_id() only. Errors: 400 VALIDATION_ERROR, 403 API_KEY_NOT_ALLOWED, 409 EMAIL_TAKEN, 409 TOO_MANY_SETTINGS, and those of a changed address.';

create or replace function private.delete_settings(p_key text) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.user_settings s
  where s.user_id = private.user_id() and case when p_key is null then s.key not like 'profile.%' else s.key = p_key end;
  return found;
end
$$;
comment on function private.delete_settings is 'Deletes one stored setting of the caller, or all but those of the profile (null). Authorization: private.user_id() only.';
grant execute on function private.my_settings_json, private.read_setting, private.write_settings, private.delete_settings to authenticated;
