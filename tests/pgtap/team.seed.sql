-- A colleague, and a pending invitation.
with u as (
  insert into public.users (email, first_name, last_name, default_organization_id)
  values ('colleague.of.' || lower(pg_temp.tenant()) || '@example.nl', 'Colleague of ' || pg_temp.tenant(), 'Ode', pg_temp.org()) returning id
), m as (
  insert into public.memberships (organization_id, user_id, role) select pg_temp.org(), id, 'member' from u returning id
) select pg_temp.keep('membershipId', id) from m;
with i as (
  insert into public.team_invitations (organization_id, email, role, invited_by, token_hash, expires_at)
  values (pg_temp.org(), 'guest.of.' || lower(pg_temp.tenant()) || '@example.nl', 'member', pg_temp.person(), sha256(convert_to(pg_temp.tenant(), 'UTF8')),
    now() + interval '7 days') returning id
) select pg_temp.keep('invitationId', id) from i;
