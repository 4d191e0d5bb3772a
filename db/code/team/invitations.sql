-- Invitations (contract 40, 5.3). A pending one keeps a seat until it expires. Only the answer that creates the token and the mail show it:
-- its hash is stored, and a sent mail forgets its body (mail/functions.sql).

create or replace function private.new_invitation_token() returns text
language sql volatile
-- 366 random bits, hashed to 256, base64url without padding.
return translate(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64'), '+/=', '-_');
comment on function private.new_invitation_token is 'A fresh secret.';

create or replace function private.invitation_hash(p_token text) returns bytea
language sql immutable parallel safe
return sha256(convert_to(p_token, 'UTF8'));
comment on function private.invitation_hash is 'What is stored of an invitation''s token.';

create or replace function private.team_invitation_json(i public.team_invitations, p_token text default '') returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  u public.users;
begin
  select * into u from public.users x where x.id = i.invited_by;
  return jsonb_strip_nulls(jsonb_build_object('id', i.id, 'teamId', i.organization_id, 'email', i.email, 'role', i.role,
    -- The sender may have been erased since.
    'invitedBy', jsonb_build_object('id', coalesce(u.id, '00000000-0000-0000-0000-000000000000'),
      'name', case when u.id is null then 'Deleted user' else private.person_name(u) end),
    'message', i.message, 'token', p_token,
    'status', case when i.status = 'pending' and i.expires_at <= now() then 'expired' else i.status end,
    'expiresAt', private.iso(i.expires_at), 'createdAt', private.iso(i.created_at)));
end
$$;
comment on function private.team_invitation_json is 'TeamInvitation. Authorization: callable by definer functions of ours only.';

create or replace function private.team_invitations_json() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(private.team_invitation_json(i) order by i.created_at desc, i.id), '[]')
    from public.team_invitations i
    where i.organization_id = private.org_id() and i.status in ('pending', 'expired')
  );
end
$$;
comment on function private.team_invitations_json is 'Open and expired invitations of the caller''s organization. Authorization: callable by definer functions of ours only, which have checked the role.';

create or replace function private.list_team_invitations() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.require_permission('canInviteMembers');
  perform private.require_team_gate();
  return private.team_invitations_json();
end
$$;
comment on function private.list_team_invitations is 'TeamInvitation[]. Authorization: canInviteMembers. Errors: 403 FORBIDDEN, PLAN_UPGRADE_REQUIRED.';
grant execute on function private.list_team_invitations to authenticated;

-- The addresses of a body in their compared form, each once, in their given order.
create or replace function private.invited_addresses(p_emails jsonb) returns text[]
language plpgsql stable
as $$
declare
  v_emails jsonb := private.as_array(p_emails, 'emails');
  v_invalid jsonb;
begin
  if coalesce(jsonb_array_length(v_emails), 0) not between 1 and 50 then
    perform private.refuse_field('emails', 'Invite 1 to 50 addresses at a time.');
  end if;
  select jsonb_agg(left(e #>> '{}', 254) order by n) into v_invalid
  from jsonb_array_elements(v_emails) with ordinality t (e, n)
  where jsonb_typeof(e) <> 'string' or private.clean_email(e #>> '{}') is null;
  if v_invalid is not null then
    perform private.refuse(400, 'VALIDATION_ERROR', 'These are no e-mail addresses that we can send to.', 'emails', jsonb_build_object('invalid', v_invalid));
  end if;
  return (
    select array_agg(d.email order by d.n)
    from (select private.clean_email(e) as email, min(n) as n from jsonb_array_elements_text(v_emails) with ordinality t (e, n) group by 1) d
  );
end
$$;
comment on function private.invited_addresses is '1 to 50 addresses, cleaned and without doubles, or 400 VALIDATION_ERROR about emails (details.invalid).';

-- The reason against inviting these addresses, checked under the lock.
create or replace function private.assert_invitees(p_org_id uuid, p_emails text[], p_except uuid default null) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_taken jsonb;
begin
  select jsonb_agg(e order by n) into v_taken
  from unnest(p_emails) with ordinality t (e, n)
  where exists (select from public.users u join public.memberships m on m.user_id = u.id where u.email = e and m.organization_id = p_org_id);
  if v_taken is not null then
    perform private.refuse(409, 'ALREADY_MEMBER', 'These people are members already, active or deactivated.', 'emails', jsonb_build_object('emails', v_taken));
  end if;
  -- The hourly job may not have marked them yet.
  update public.team_invitations i set status = 'expired'
  where i.organization_id = p_org_id and i.status = 'pending' and i.expires_at <= now() and i.id is distinct from p_except;
  select jsonb_agg(e order by n) into v_taken
  from unnest(p_emails) with ordinality t (e, n)
  where exists (select from public.team_invitations i
    where i.organization_id = p_org_id and i.email = e and i.status = 'pending' and i.id is distinct from p_except);
  if v_taken is not null then
    perform private.refuse(409, 'INVITATION_PENDING', 'These people are invited already. Send the invitation again instead.', 'emails',
      jsonb_build_object('emails', v_taken));
  end if;
end
$$;
comment on function private.assert_invitees is
  'Refuses addresses of members and of pending invitations. Authorization: callable by definer functions of ours only. Errors: 409 ALREADY_MEMBER, INVITATION_PENDING.';

-- Withdrawn invitations are kept for a while, so seats alone do not limit their number.
create or replace function private.take_invitation_allowance(p_org_id uuid, p_requested integer) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_limit constant integer := 1000;
  v_frees_at timestamptz;
begin
  select i.created_at + interval '1 hour' into v_frees_at from public.team_invitations i
  where i.organization_id = p_org_id and i.created_at > clock_timestamp() - interval '1 hour'
  order by i.created_at desc offset c_limit - p_requested limit 1;
  if found then
    perform private.refuse(429, 'RATE_LIMITED', format('An organization can make %s invitations an hour. Please try again later.', c_limit), null,
      jsonb_build_object('limit', c_limit, 'remaining', 0, 'resetsAt', private.iso(v_frees_at)));
  end if;
end
$$;
comment on function private.take_invitation_allowance is
  'Refuses 429 RATE_LIMITED when the organization would have made more than 1,000 invitations in the last hour. Call it under private.lock_organization. Authorization: callable by definer functions of ours only.';

-- Queues the mail, and the job that notifies an existing account. It is a job so that inviting costs the same whether there is an account
-- or not.
create or replace function private.send_invitation(i public.team_invitations, p_token text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_team text := (select private.one_line(o.name) from public.organizations o where o.id = i.organization_id);
  v_sender text := (select private.one_line(private.person_name(u)) || ' (' || u.email || ')' from public.users u where u.id = i.invited_by);
  v_link text := private.app_url() || '/team-invitation?token=' || p_token;
  v_subject text := 'Invitation to join ' || v_team;
  v_first text := format('%s invites you to join %s at Kijko as %s.', v_sender, v_team, i.role);
  v_last text := format('The invitation is for %s and is good until %s UTC. If you did not expect it, ignore this mail.', i.email,
    to_char(i.expires_at at time zone 'UTC', 'FMMonth FMDD, YYYY, HH24:MI'));
  v_frees_at timestamptz;
begin
  perform private.enqueue('invitations.tell', jsonb_build_object('invitationId', i.id), now(), 'invitations.tell:' || i.id);
  if not private.has_mail() or private.app_url() = '' then
    return;
  end if;
  -- A mail that still waits would carry a token that is invalid by now.
  delete from private.mails m
  where m.kind = 'team_invitation' and m.organization_id = i.organization_id and m.to_address = i.email and m.sent_at is null;
  select m.created_at + interval '1 hour' into v_frees_at from private.mails m
  where m.kind = 'team_invitation' and m.organization_id = i.organization_id and m.to_address = i.email
    and m.created_at > clock_timestamp() - interval '1 hour'
  order by m.created_at desc offset 4 limit 1;
  if found then
    perform private.refuse(429, 'RATE_LIMITED', format('%s got 5 invitations within an hour. Please try again later.', i.email), null,
      jsonb_build_object('limit', 5, 'remaining', 0, 'resetsAt', private.iso(v_frees_at)));
  end if;
  perform private.queue_mail('team_invitation', i.organization_id, i.invited_by, i.email, v_subject,
    v_first || E'\n\n' || coalesce(i.message || E'\n\n', '') || 'Accept it here: ' || v_link || E'\n\n' || v_last || E'\n',
    format('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>%s</title></head><body><p>%s</p>%s'
        || '<p><a href="%s">Accept the invitation</a></p><p><small>%s</small></p></body></html>',
      private.html_text(v_subject), private.html_text(v_first),
      coalesce('<blockquote>' || replace(private.html_text(i.message), E'\n', '<br>') || '</blockquote>', ''),
      private.html_text(v_link), private.html_text(v_last)));
end
$$;
comment on function private.send_invitation is
  'Queues the mail of an invitation with its token. Authorization: callable by definer functions of ours only. Errors: 429 RATE_LIMITED.';

create or replace function private.invite_members(p_body jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org uuid := private.org_id();
  v_role text := p_body ->> 'role';
  v_message text := nullif(private.trimmed(p_body ->> 'message'), '');
  v_emails text[];
  v_actor text;
  v_email text;
  v_token text;
  i public.team_invitations;
  v_shown jsonb := '[]';
  v_kept jsonb := '[]';
begin
  perform private.require_permission('canInviteMembers');
  perform private.require_team_gate();
  if coalesce(v_role, '') not in ('admin', 'member', 'viewer') then
    perform private.refuse_field('role', 'role must be admin, member or viewer. Ownership is handed over, not invited to.');
  elsif char_length(v_message) > 500 then
    perform private.refuse_field('message', 'The message may have 500 characters.');
  end if;
  v_emails := private.invited_addresses(p_body -> 'emails');

  v_actor := private.begin_managing('canInviteMembers');
  if private.team_rank(v_role) > private.team_rank(v_actor) then
    perform private.refuse(403, 'FORBIDDEN', 'You cannot give a role above your own.', 'role');
  end if;
  perform private.assert_invitees(v_org, v_emails);
  perform private.require_seats(v_org, cardinality(v_emails));
  perform private.take_invitation_allowance(v_org, cardinality(v_emails));
  foreach v_email in array v_emails loop
    v_token := private.new_invitation_token();
    insert into public.team_invitations (organization_id, email, role, message, invited_by, token_hash, expires_at)
    values (v_org, v_email, v_role, v_message, private.user_id(), private.invitation_hash(v_token), now() + interval '7 days')
    returning * into i;
    perform private.send_invitation(i, v_token);
    v_shown := v_shown || private.team_invitation_json(i, v_token);
    v_kept := v_kept || private.team_invitation_json(i);
  end loop;
  -- A replayed answer holds no token.
  perform set_config('app.kept_answer', v_kept::text, true);
  return v_shown;
end
$$;
comment on function private.invite_members is
  'Invites addresses, all or none, within the seats. Authorization: canInviteMembers, a role not above the caller''s. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN, PLAN_UPGRADE_REQUIRED, 409 ALREADY_MEMBER, INVITATION_PENDING, 429 QUOTA_EXCEEDED, RATE_LIMITED.';
grant execute on function private.invite_members to authenticated;

-- Under the lock of the organization.
create or replace function private.open_invitation(p_id text) returns public.team_invitations
language plpgsql volatile security definer set search_path = ''
as $$
declare
  i public.team_invitations;
begin
  select * into i from public.team_invitations x where x.id = private.as_uuid(p_id) and x.organization_id = private.org_id() for update;
  if not found then
    perform private.refuse(404, 'NOT_FOUND', format('Invitation with ID %s not found', left(p_id, 100)));
  elsif i.status not in ('pending', 'expired') then
    perform private.refuse(409, 'INVITATION_NOT_PENDING', format('This invitation was %s already.', i.status));
  end if;
  return i;
end
$$;
comment on function private.open_invitation is
  'An invitation of the caller''s organization that is pending or expired. Authorization: callable by definer functions of ours, after private.begin_managing. Errors: 404 NOT_FOUND, 409 INVITATION_NOT_PENDING.';

create or replace function private.resend_team_invitation(p_id text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor text := private.begin_managing('canInviteMembers');
  v_token text := private.new_invitation_token();
  i public.team_invitations;
begin
  perform private.require_team_gate();
  i := private.open_invitation(p_id);
  if private.team_rank(i.role) > private.team_rank(v_actor) then
    perform private.refuse(403, 'FORBIDDEN', 'You cannot give a role above your own.');
  end if;
  perform private.assert_invitees(i.organization_id, array[i.email], i.id);
  if i.status = 'expired' or i.expires_at <= now() then
    perform private.require_seats(i.organization_id, 1);
  end if;
  update public.team_invitations x
  set status = 'pending', token_hash = private.invitation_hash(v_token), expires_at = now() + interval '7 days', created_at = now()
  where x.id = i.id
  returning * into i;
  -- The mail names the member who sends it again.
  i.invited_by := private.user_id();
  perform private.send_invitation(i, v_token);
  select * into i from public.team_invitations x where x.id = i.id;
  perform set_config('app.kept_answer', private.team_invitation_json(i)::text, true);
  return private.team_invitation_json(i, v_token);
end
$$;
comment on function private.resend_team_invitation is
  'A new token and seven new days; the old token is dead. Authorization: canInviteMembers. Errors: 403 FORBIDDEN, PLAN_UPGRADE_REQUIRED, 404 NOT_FOUND, 409 INVITATION_NOT_PENDING, ALREADY_MEMBER, INVITATION_PENDING, 429 QUOTA_EXCEEDED, RATE_LIMITED.';

create or replace function private.cancel_team_invitation(p_id text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor text := private.begin_managing('canInviteMembers');
  i public.team_invitations := private.open_invitation(p_id);
begin
  update public.team_invitations x set status = 'cancelled' where x.id = i.id;
  delete from private.mails m
  where m.kind = 'team_invitation' and m.organization_id = i.organization_id and m.to_address = i.email and m.sent_at is null;
end
$$;
comment on function private.cancel_team_invitation is
  'Ends an invitation and frees its seat, on each plan. Authorization: canInviteMembers. Errors: 403 FORBIDDEN, 404 NOT_FOUND, 409 INVITATION_NOT_PENDING.';
grant execute on function private.resend_team_invitation, private.cancel_team_invitation to authenticated;

-- ---------------------------------------------------------------------------------------------------------------- for the worker

create or replace function private.notify_invited(p_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  i public.team_invitations;
begin
  select * into i from public.team_invitations x where x.id = p_id and x.status = 'pending' and x.expires_at > now();
  -- Only the mail has the link with the token.
  perform private.notify(u.id, 'team_activity', format('You are invited to %s', private.one_line(o.name)),
    format('%s invites you as %s. The link is in your mail.', private.shown_name(i.invited_by), i.role),
    jsonb_build_object('organizationId', o.id, 'invitationId', i.id), '/', false, 'team_invitation:' || i.id, i.invited_by)
  from public.users u, public.organizations o
  where u.email = i.email and o.id = i.organization_id;
end
$$;
comment on function private.notify_invited is
  'Notifies the account of an invited address, if there is one and the invitation is still open. Authorization: callable by the worker only.';
grant execute on function private.notify_invited to kijko_worker;

create or replace function private.expire_invitations(p_at timestamptz default now()) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count integer;
begin
  -- The holder of a token sees by the clock that it has expired; the status is written the next time.
  update public.team_invitations i set status = 'expired'
  where i.id in (select x.id from public.team_invitations x where x.status = 'pending' and x.expires_at <= p_at for update skip locked);
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function private.expire_invitations is
  'Writes down which invitations are over; gives how many. Authorization: callable by schedules only.';
