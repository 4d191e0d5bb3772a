-- What sign-in asks of other features, one function each. Features that own an answer replace the body here by theirs.

-- May this person sign in to this organization by this method? Null, or the refusal: 403 PASSWORD_LOGIN_DISABLED, SSO_REQUIRED, IP_NOT_ALLOWED.
create or replace function private.sign_in_policy_problem(p_user_id uuid, p_org_id uuid, p_method text) returns jsonb
language plpgsql immutable security definer set search_path = ''
as $$
begin
  return null;
end
$$;
comment on function private.sign_in_policy_problem is
  'The refusal of a sign-in by the rules of the organization, or null. Judges: callable by definer functions of ours only.';

-- Null where no second factor is on, or p proves it; else 401 TWO_FACTOR_REQUIRED.
create or replace function private.second_factor_problem(p_user_id uuid, p_method text, p jsonb, p_at timestamptz) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select private.problem(401, 'TWO_FACTOR_REQUIRED', 'Please enter the code of your authenticator app.')
    from public.users u where u.id = p_user_id and u.two_factor_enabled_at is not null);
end
$$;
comment on function private.second_factor_problem is
  'The demand for a second factor, or null. Judges: callable by definer functions of ours only. Results: 401 TWO_FACTOR_REQUIRED.';
