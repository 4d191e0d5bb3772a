create or replace function api.get_profile(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v jsonb := private.profile_json();
begin
  if v is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  return v;
end
$$;
comment on function api.get_profile is 'GET /profile: Profile. Errors: 401 UNAUTHENTICATED.';

create or replace function api.update_profile(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.change_profile(private.as_object(p -> 'body', 'body'));
  return private.profile_json();
end
$$;
comment on function api.update_profile is
  'PATCH /profile: Profile. Errors: 400 VALIDATION_ERROR, 403 API_KEY_NOT_ALLOWED, 409 EMAIL_TAKEN, 429 RATE_LIMITED, 503 PROVIDER_NOT_CONFIGURED.';

-- p.picture comes from the server, which has drawn it.
create or replace function api.set_avatar(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return jsonb_build_object('avatarUrl', private.keep_picture(private.as_object(p -> 'picture', 'picture')));
end
$$;
comment on function api.set_avatar is 'POST /profile/avatar: {avatarUrl}, with what the server has drawn. Errors: 403 API_KEY_NOT_ALLOWED, 403 FORBIDDEN.';

create or replace function api.delete_avatar(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  perform private.drop_picture();
  return null;
end
$$;
comment on function api.delete_avatar is 'DELETE /profile/avatar. Errors: 403 API_KEY_NOT_ALLOWED.';
grant execute on function api.get_profile, api.update_profile, api.set_avatar, api.delete_avatar to authenticated;
