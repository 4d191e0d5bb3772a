-- The caller's own profile (contract 40, section 3). A request with an API key may only read it.

create or replace function private.gravatar_url(p_email text) returns text
language sql immutable parallel safe
return 'https://www.gravatar.com/avatar/' || encode(sha256(convert_to(lower(btrim(p_email)), 'UTF8')), 'hex') || '?s=80&d=mp';
comment on function private.gravatar_url is 'Where Gravatar has the picture of an address.';

-- The newest link to an address that is not the account's: the account gets this address when it is verified (identity/links.sql).
create or replace function private.pending_email(p_user_id uuid) returns text
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select t.email from private.account_tokens t join public.users u on u.id = t.user_id
    where t.user_id = p_user_id and t.purpose = 'verify_email' and t.used_at is null and t.email <> u.email
    order by t.created_at desc limit 1
  );
end
$$;
comment on function private.pending_email is 'The address that waits for its confirmation, or null. Authorization: callable by definer functions of ours only.';

create or replace function private.profile_json() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_strip_nulls(jsonb_build_object('id', u.id, 'email', u.email, 'emailVerified', u.email_verified_at is not null,
      'pendingEmail', private.pending_email(u.id), 'firstName', u.first_name, 'lastName', u.last_name, 'company', u.company, 'role', u.job_role,
      'timezone', u.timezone, 'avatarUrl', u.picture_url, 'useGravatar', u.use_gravatar, 'createdAt', private.iso(u.created_at),
      'updatedAt', private.iso(u.updated_at)))
    from public.users u where u.id = private.user_id()
  );
end
$$;
comment on function private.profile_json is 'Profile of the caller. Authorization: private.user_id() only.';

create or replace function private.require_member_text(b jsonb, p_key text, p_field text) returns text
language plpgsql stable
as $$
begin
  if jsonb_typeof(b -> p_key) not in ('string', 'null') then
    perform private.refuse_field(p_field, 'This must be a text.');
  end if;
  return b ->> p_key;
end
$$;
comment on function private.require_member_text is 'A member that is a text or null, or 400 VALIDATION_ERROR about the field.';

-- b holds some of the members of Profile. p_prefix precedes them in the field name of a refusal: a setting is called profile.firstName.
create or replace function private.change_profile(b jsonb, p_prefix text default '') returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_fields constant text[] := array['firstName', 'lastName', 'company', 'role', 'timezone', 'useGravatar'];
  u public.users;
  v_old jsonb;
  v_new jsonb;
  v_changes jsonb;
begin
  perform private.refuse_keys();
  select * into u from public.users x where x.id = private.user_id() for no key update;
  if not found then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  v_old := jsonb_build_object('firstName', u.first_name, 'lastName', u.last_name, 'company', u.company, 'role', u.job_role, 'timezone', u.timezone,
    'useGravatar', u.use_gravatar);
  if b ? 'firstName' then
    u.first_name := private.require_name(private.require_member_text(b, 'firstName', p_prefix || 'firstName'), p_prefix || 'firstName', 'first name');
  end if;
  if b ? 'lastName' then
    u.last_name := private.require_name(private.require_member_text(b, 'lastName', p_prefix || 'lastName'), p_prefix || 'lastName', 'last name');
  end if;
  if b ? 'company' then
    u.company := nullif(private.without_blanks(private.require_member_text(b, 'company', p_prefix || 'company')), '');
    if char_length(u.company) > 100 or u.company ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]' or private.has_format_characters(u.company) then
      perform private.refuse_field(p_prefix || 'company', 'The company must have at most 100 characters, none of them a control or formatting character.');
    end if;
  end if;
  if b ? 'role' then
    u.job_role := private.require_member_text(b, 'role', p_prefix || 'role');
    if u.job_role is null or u.job_role not in ('business-owner', 'developer', 'admin', 'user') then
      perform private.refuse_field(p_prefix || 'role', 'The role must be one of business-owner, developer, admin, user.');
    end if;
  end if;
  if b ? 'timezone' then
    u.timezone := private.require_member_text(b, 'timezone', p_prefix || 'timezone');
    if u.timezone is null or private.zone_used(u.timezone) is null then
      perform private.refuse_field(p_prefix || 'timezone', 'This is no name of the IANA time zone database, such as Europe/Amsterdam.');
    end if;
  end if;
  if b ? 'useGravatar' then
    u.use_gravatar := private.as_bool(b -> 'useGravatar', p_prefix || 'useGravatar');
    if u.use_gravatar is null then
      perform private.refuse_field(p_prefix || 'useGravatar', 'useGravatar must be true or false.');
    end if;
  end if;
  v_new := jsonb_build_object('firstName', u.first_name, 'lastName', u.last_name, 'company', u.company, 'role', u.job_role, 'timezone', u.timezone,
    'useGravatar', u.use_gravatar);
  v_changes := private.audit_changes(v_old, v_new, c_fields);
  if v_changes is not null then
    update public.users x set first_name = u.first_name, last_name = u.last_name, company = u.company, job_role = u.job_role, timezone = u.timezone,
      use_gravatar = u.use_gravatar
    where x.id = u.id;
    perform private.audit('user.profile_updated', 'The profile was changed.', null, v_changes);
  end if;
  if b ? 'email' then
    perform private.change_email(private.require_member_text(b, 'email', p_prefix || 'email'), p_prefix || 'email');
  end if;
end
$$;
comment on function private.change_profile is
  'Changes the caller''s profile; an address starts its confirmation. Authorization: private.user_id() only, and no caller who comes with a key. Errors: 400 VALIDATION_ERROR, 403 API_KEY_NOT_ALLOWED, 409 EMAIL_TAKEN, 429 RATE_LIMITED, 503 PROVIDER_NOT_CONFIGURED.';

-- The account keeps its address until the new one is proven. Setting its own address again cancels a pending change.
create or replace function private.change_email(p_text text, p_field text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_changes constant integer := 5;
  u public.users;
  v_email text := private.clean_email(p_text);
  v_problem jsonb;
begin
  select * into u from public.users x where x.id = private.user_id();
  if v_email is null and private.folded_address(p_text) is distinct from u.email then
    perform private.refuse_field(p_field, 'Please enter a valid e-mail address.');
  elsif v_email is null or v_email = u.email then
    delete from private.account_tokens t where t.user_id = u.id and t.purpose = 'verify_email' and t.used_at is null and t.email <> u.email;
    return;
  elsif v_email = private.pending_email(u.id) then
    return;
  elsif exists (select from public.users x where x.email = v_email) then
    perform private.refuse(409, 'EMAIL_TAKEN', 'There is already an account with this e-mail address.', p_field);
  end if;
  perform private.require_mail();
  -- Each change mails a person who did not ask for it.
  v_problem := coalesce(private.link_rate_problem('change_email', u.id::text, c_changes, clock_timestamp()),
    private.link_rate_problem('verify_email', v_email, 3, clock_timestamp())) -> 'problem';
  if v_problem is not null then
    perform private.refuse(429, 'RATE_LIMITED', 'Too many mails were asked for. Please wait some minutes.', null, jsonb_build_object('limit',
      v_problem #> '{details,limit}', 'remaining', 0, 'resetsAt', private.iso(to_timestamp((v_problem #>> '{details,resetUnix}')::bigint))));
  end if;
  perform private.issue_account_link(u.id, 'verify_email', v_email);
  perform private.notify_security(u.id, 'Your e-mail address is about to change',
    format('A person who is signed in to your account wants to use %s from now on. It changes when that address is confirmed. If it was not you, change your password now.', v_email),
    true, 'email_change:' || pg_current_xact_id());
  perform private.audit('user.profile_updated', 'Another e-mail address was asked for.', null,
    jsonb_build_array(jsonb_build_object('field', 'pendingEmail', 'oldValue', null, 'newValue', v_email)));
end
$$;
comment on function private.change_email is
  'Mails a link to the address that the caller''s account is to have, and a notice to the one that it has. Authorization: private.user_id() only. Errors: 400 VALIDATION_ERROR, 409 EMAIL_TAKEN, 429 RATE_LIMITED, 503 PROVIDER_NOT_CONFIGURED.';

-- Pictures. The server has drawn them; p: {name, type, content (base64)}.
create or replace function private.keep_picture(p jsonb) returns text
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user constant uuid := private.user_id();
  v_url text;
begin
  perform private.refuse_keys(), private.refuse_strangers('Pictures are uploaded through the API.');
  if v_user is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  elsif coalesce(p ->> 'name', '') !~ '^[0-9a-f]{64}$' or coalesce(p ->> 'type', '') not in ('image/jpeg', 'image/png')
    or coalesce(p ->> 'content', '') !~ '^([A-Za-z0-9+/]{4})+([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$'
  then
    perform private.refuse_field('file', 'This is no picture that the server has drawn.');
  end if;
  perform from public.users u where u.id = v_user for no key update;
  delete from private.pictures x where x.user_id = v_user;
  insert into private.pictures (name, user_id, content_type, content) values (p ->> 'name', v_user, p ->> 'type', decode(p ->> 'content', 'base64'));
  v_url := rtrim(coalesce((select i.value #>> '{}' from private.installation i where i.key = 'api_url'), ''), '/') || '/api/v1/pictures/' || (p ->> 'name');
  update public.users u set picture_url = v_url, use_gravatar = false where u.id = v_user;
  perform private.audit('user.profile_updated', 'The picture was changed.', null, '[{"field": "avatarUrl"}]');
  return v_url;
end
$$;
comment on function private.keep_picture is
  'Stores the caller''s picture in place of the last one and gives its address. Authorization: private.user_id() only, through our server, without a key.';

create or replace function private.drop_picture() returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.refuse_keys();
  delete from private.pictures x where x.user_id = private.user_id();
  update public.users u set picture_url = null where u.id = private.user_id() and u.picture_url is not null;
  if found then
    perform private.audit('user.profile_updated', 'The picture was removed.', null, '[{"field": "avatarUrl"}]');
  end if;
end
$$;
comment on function private.drop_picture is 'Removes the caller''s picture. Authorization: private.user_id() only, without a key.';

create or replace function private.read_picture(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_build_object('type', x.content_type, 'content', encode(x.content, 'base64')) from private.pictures x where x.name = p ->> 'name'
  );
end
$$;
comment on function private.read_picture is 'A picture by its unguessable name, or null. Authorization: callable by the server only.';
grant execute on function private.read_picture to kijko_server;
grant execute on function private.profile_json, private.require_member_text, private.change_profile, private.keep_picture, private.drop_picture to authenticated;

-- The password. The server checks and hashes; only the outcome arrives here. p: caller (the argument of private.enter), and for the second
-- half checked_hash, new_hash, meets_policy.
create or replace function private.enter_caller(p jsonb) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- Whose password is too old, or who lacks a second factor, changes it all the same.
  perform set_config('app.unrestricted', 'on', true);
  perform private.enter((p ->> 'user_id')::uuid, (p ->> 'session_id')::uuid, (p ->> 'org_hint')::uuid, p ->> 'claims', p ->> 'request_id', p ->> 'client_ip');
  return (p ->> 'user_id')::uuid;
end
$$;
comment on function private.enter_caller is 'private.enter for a function that the server calls in a person''s name. Authorization: as private.enter.';

create or replace function private.begin_password_change(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user constant uuid := private.enter_caller(p);
  v_hash text := (select c.password_hash from private.credentials c where c.user_id = v_user);
begin
  if v_hash is null then
    perform private.refuse(409, 'PASSWORD_NOT_SET', 'Your account has no password yet. Ask for one as if you had forgotten it.');
  end if;
  return jsonb_build_object('user_id', v_user, 'password_hash', v_hash);
end
$$;
comment on function private.begin_password_change is
  'What the present password is checked against. Authorization: callable by the server only; private.enter. Errors: 409 PASSWORD_NOT_SET, and those of private.enter.';

create or replace function private.finish_password_change(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user constant uuid := private.enter_caller(p);
begin
  -- The account before its password, as a claim and a reset do.
  perform from public.users u where u.id = v_user for no key update;
  update private.credentials c
  set password_hash = p ->> 'new_hash', meets_policy = (p ->> 'meets_policy')::boolean, changed_at = greatest(now(), c.changed_at + interval '1 microsecond')
  where c.user_id = v_user and c.password_hash = p ->> 'checked_hash';
  if not found then
    perform private.refuse(400, 'INVALID_PASSWORD', 'The current password is not correct.', 'currentPassword');
  end if;
  perform private.revoke_session(s.id, 'password_changed')
  from private.sessions s where s.user_id = v_user and s.revoked_at is null and s.id <> (p ->> 'session_id')::uuid;
  perform private.audit('user.password_changed', 'The password was changed.');
  return '{}';
end
$$;
comment on function private.finish_password_change is
  'The new password; all other sessions end. Authorization: callable by the server only; private.enter. Errors: 400 INVALID_PASSWORD, and those of private.enter.';
grant execute on function private.begin_password_change, private.finish_password_change to kijko_server;
