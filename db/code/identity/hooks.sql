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

-- Called in the transaction of the sign-up, for the person just made and before any organization: gives the organization that the invitation
-- leads to, with the membership made. A refused token refuses the sign-up.
create or replace function private.accept_invitation_at_signup(p_user_id uuid, p_email text, p_token text) returns uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.refuse(404, 'INVITATION_NOT_FOUND', 'This invitation does not exist.', 'invitation_token');
  return null;
end
$$;
comment on function private.accept_invitation_at_signup is
  'Takes a new person into the organization that invited them. Judges: callable by definer functions of ours only. Errors: 404 INVITATION_NOT_FOUND.';
