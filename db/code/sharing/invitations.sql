-- Invitations by mail (contract 10, section 11.2). For every writer that makes a pending member, the row's trigger sends the invitation.
-- The token is drawn here, is in the mail until that is sent, and is stored as its SHA-256. The holder of the token reads and answers the
-- invitation.

-- Three random UUIDs carry 366 random bits, of which 256 are kept: 43 letters in base64url.
create or replace function private.draw_project_token() returns text
language sql volatile
as $$
  select rtrim(translate(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64'),
    '+/', '-_'), '=')
$$;
comment on function private.draw_project_token is 'A fresh token.';

create or replace function private.project_token_hash(p_token text) returns bytea
language sql immutable parallel safe
return case when p_token ~ '^[A-Za-z0-9_-]{43}$' then sha256(convert_to(p_token, 'UTF8')) end;
comment on function private.project_token_hash is 'What a token is stored as; null for what is no token.';

create or replace function private.project_invitation_expiry(m public.project_members) returns timestamptz
language sql immutable parallel safe
return m.invited_at + interval '7 days';
comment on function private.project_invitation_expiry is 'When an invitation that is not accepted ends.';

-- Refusals roll back and count nothing; only queued messages count. The lock keeps the count exact.
create or replace function private.take_addressee_allowance(p_org_id uuid, p_email text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_limit constant integer := 20;
  v_frees_at timestamptz;
begin
  perform pg_advisory_xact_lock(hashtextextended(format('invited %s %s', p_org_id, p_email), 0));
  select x.created_at + interval '1 day' into v_frees_at
  from private.mails x
  where x.to_address = p_email and x.kind = 'project_invitation' and x.organization_id = p_org_id
    and x.created_at > clock_timestamp() - interval '1 day'
  order by x.created_at desc offset c_limit - 1 limit 1;
  if found then
    perform private.refuse(429, 'RATE_LIMITED', format('An address gets at most %s invitations a day from one organization.', c_limit), null,
      jsonb_build_object('limit', c_limit, 'remaining', 0, 'resetsAt', private.iso(v_frees_at)));
  end if;
end
$$;
comment on function private.take_addressee_allowance is
  '429 RATE_LIMITED where an organization has sent an address 20 invitations within a day, accepted or taken back. Authorization: callable by definer functions of ours only.';

create or replace function private.drop_unsent_mail(p_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from private.mails x where x.id = p_id and x.sent_at is null;
end
$$;
comment on function private.drop_unsent_mail is 'A mail whose token is dead does not go out. Authorization: callable by definer functions and triggers of ours only.';

-- Without a transport the message waits in the outbox without a job: tg_installation__send_invitations gives it one.
create or replace function private.send_project_invitation(m public.project_members, p_message text, p_again boolean) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  p public.projects;
  i private.project_invitations;
  v_token text := private.draw_project_token();
  v_sender uuid;
  v_name text;
  v_subject text;
  v_link text;
  v_message text;
  v_mail uuid := gen_random_uuid();
  v_text text;
  v_html text;
begin
  select * into p from public.projects x where x.id = m.project_id;
  v_sender := coalesce(private.user_id(), m.invited_by, p.user_id);
  perform private.take_mail_allowance(v_sender, 'project_invitation', 500), private.take_addressee_allowance(m.organization_id, m.email);
  select * into i from private.project_invitations x where x.member_id = m.id;
  v_message := nullif(btrim(left(coalesce(p_message, i.message), 1000)), '');
  v_name := private.shown_name(v_sender);
  v_subject := format('%s invites you to "%s" in Kijko', v_name, private.one_line(p.name));
  v_link := private.app_url() || '/project-invitation?token=' || v_token;
  v_text := format(E'%s invites you to the project "%s" in Kijko as %s.\n\n', v_name, private.one_line(p.name), m.role)
    || coalesce(regexp_replace(v_message, '^', '> ', 'gn') || E'\n\n', '')
    || format(E'Accept or decline: %s\n\nThe link holds until %s (UTC) and for this address alone. If you do not know the sender, ignore this mail.\n',
      v_link, to_char(private.project_invitation_expiry(m) at time zone 'UTC', 'YYYY-MM-DD HH24:MI'));
  v_html := format('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>%s</title></head><body><p>%s invites you to the project &quot;%s&quot; in Kijko as %s.</p>',
      private.html_text(private.one_line(v_subject)), private.html_text(v_name), private.html_text(private.one_line(p.name)), m.role)
    || coalesce('<blockquote>' || replace(private.html_text(v_message), E'\n', '<br>') || '</blockquote>', '')
    || format('<p><a href="%s">Accept or decline</a></p><p><small>The link holds until %s (UTC) and for this address alone. If you do not know the sender, ignore this mail.</small></p></body></html>',
      private.html_text(v_link), to_char(private.project_invitation_expiry(m) at time zone 'UTC', 'YYYY-MM-DD HH24:MI'));

  perform private.drop_unsent_mail(i.mail_id);
  if private.is_mail_address(m.email) and private.has_mail() then
    v_mail := private.queue_mail('project_invitation', m.organization_id, v_sender, m.email, v_subject, v_text, v_html);
  elsif private.is_mail_address(m.email) then
    insert into private.mails (id, kind, organization_id, user_id, to_address, subject, body_text, body_html)
    values (v_mail, 'project_invitation', m.organization_id, v_sender, m.email, btrim(left(private.one_line(v_subject), 200)), v_text, v_html);
  else
    v_mail := null;
  end if;
  insert into private.project_invitations as x (member_id, token_hash, message, mail_id)
  values (m.id, private.project_token_hash(v_token), v_message, v_mail)
  on conflict (member_id) do update
    set token_hash = excluded.token_hash, message = excluded.message, mail_id = excluded.mail_id, sent_at = excluded.sent_at,
      resent_at = array(select r from unnest(x.resent_at) r where r > excluded.sent_at - interval '1 day' order by r)
        || case when p_again then array[excluded.sent_at] else array[]::timestamptz[] end;
end
$$;
comment on function private.send_project_invitation is
  'Gives a pending member a new token and queues the mail with it; earlier tokens and mails that still wait are dead. Authorization: callable by definer functions and triggers of ours only. Errors: 429 RATE_LIMITED.';

create or replace function private.tg_project_members__send() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.send_project_invitation(new, current_setting('app.invite_message', true), false);
  return null;
end
$$;
comment on function private.tg_project_members__send is 'Trigger: a pending member is invited by mail.';
create or replace trigger _850_send after insert on public.project_members
  for each row when (new.accepted_at is null) execute function private.tg_project_members__send();

create or replace function private.tg_project_invitations__drop_mail() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.drop_unsent_mail(old.mail_id);
  return null;
end
$$;
comment on function private.tg_project_invitations__drop_mail is 'Trigger: what was taken back before it was sent stays here.';
create or replace trigger _500_drop_mail after delete on private.project_invitations
  for each row when (old.mail_id is not null) execute function private.tg_project_invitations__drop_mail();

create or replace function private.tg_installation__send_invitations() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.enqueue('mail.send', jsonb_build_object('mailId', x.id), now(), 'mail.send:' || x.id)
  from private.project_invitations i
  join private.mails x on x.id = i.mail_id and x.sent_at is null
  join public.project_members m on m.id = i.member_id
  where m.accepted_at is null and private.project_invitation_expiry(m) > now();
  return null;
end
$$;
comment on function private.tg_installation__send_invitations is 'Trigger: invitations that waited for a mail transport go out.';
create or replace trigger _500_send_invitations after insert or update on private.installation
  for each row when (new.key = 'mail' and new.value = 'true') execute function private.tg_installation__send_invitations();

-- Sending again: the limits belong to the invitation, whichever member asks.
create or replace function private.resend_project_invitation(p_member_id uuid) returns public.project_members
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m public.project_members;
  i private.project_invitations;
  v_role text;
  v_frees_at timestamptz;
  v_limit integer := 1;
begin
  select x.* into m from public.project_members x where x.id = p_member_id;
  v_role := private.project_role(m.project_id);
  if v_role is null then
    perform private.refuse_project_member();
  end if;
  perform private.refuse_role(v_role, 'manager');
  perform private.lock_members(m.project_id);
  select x.* into m from public.project_members x where x.id = p_member_id;
  perform private.refuse_accepted_invitation(m);
  perform private.assert_managing(m.project_id, private.project_role(m.project_id), m, 'manager');
  select x.* into i from private.project_invitations x where x.member_id = m.id;
  if i.sent_at > clock_timestamp() - interval '60 seconds' then
    v_frees_at := i.sent_at + interval '60 seconds';
  elsif (select count(*) from unnest(i.resent_at) r where r > clock_timestamp() - interval '1 day') >= 5 then
    v_limit := 5;
    v_frees_at := (select min(r) from unnest(i.resent_at) r where r > clock_timestamp() - interval '1 day') + interval '1 day';
  end if;
  if v_frees_at is not null then
    perform private.refuse(429, 'RATE_LIMITED', 'This invitation was sent recently. An invitation can be sent again after 60 seconds, and five times a day.',
      null, jsonb_build_object('limit', v_limit, 'remaining', 0, 'resetsAt', private.iso(v_frees_at)));
  end if;
  update public.project_members x set invited_at = clock_timestamp() where x.id = m.id returning x.* into m;
  perform private.send_project_invitation(m, null, true);
  return m;
end
$$;
comment on function private.resend_project_invitation is
  'A new token and mail for a pending member. Authorization: manager of the project or above, of higher rank than the member. Errors: 403 FORBIDDEN, 404 MEMBER_NOT_FOUND, 409 ALREADY_ACCEPTED, 429 RATE_LIMITED.';

create or replace function private.refuse_accepted_invitation(m public.project_members) returns void
language plpgsql stable
as $$
begin
  if m.id is null then
    perform private.refuse_project_member();
  elsif m.accepted_at is not null then
    perform private.refuse(409, 'ALREADY_ACCEPTED', 'This invitation has been accepted.');
  end if;
end
$$;
comment on function private.refuse_accepted_invitation is '404 MEMBER_NOT_FOUND without a member, 409 ALREADY_ACCEPTED for one who is no invitation any more.';

create or replace function private.invitation_result(m public.project_members) returns jsonb
language sql stable parallel safe
return jsonb_build_object('email', m.email, 'status', case when private.has_mail() then 'sent' else 'pending' end, 'memberId', m.id);
comment on function private.invitation_result is 'InvitationResult of one that was made or sent again.';
grant execute on function private.resend_project_invitation, private.refuse_accepted_invitation, private.invitation_result to authenticated;

-- ------------------------------------------------------------------------------------------------------------------------ by token

create or replace function private.project_invitee(p_token text) returns public.project_members
language plpgsql stable security definer set search_path = ''
as $$
declare
  m public.project_members;
begin
  select x.* into m
  from private.project_invitations i join public.project_members x on x.id = i.member_id
  where i.token_hash = private.project_token_hash(p_token);
  if not found then
    perform private.refuse(404, 'INVITATION_NOT_FOUND', 'This invitation does not exist, or a newer one has replaced it.');
  end if;
  return m;
end
$$;
comment on function private.project_invitee is 'Whom a token invites. Authorization: callable by definer functions of ours only. Errors: 404 INVITATION_NOT_FOUND.';

create or replace function private.refuse_expired_invitation(m public.project_members) returns void
language plpgsql stable
as $$
begin
  if private.project_invitation_expiry(m) <= now() then
    perform private.refuse(409, 'INVITATION_EXPIRED', 'This invitation has expired. Please ask for a new one.');
  end if;
end
$$;
comment on function private.refuse_expired_invitation is '409 INVITATION_EXPIRED seven days after the newest sending.';

create or replace function private.project_invitation_json(p_token text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  m public.project_members := private.project_invitee(p_token);
begin
  return (
    select jsonb_strip_nulls(jsonb_build_object('projectId', p.id, 'projectName', p.name, 'email', m.email, 'role', m.role,
      'invitedBy', private.shown_name(m.invited_by, null), 'expiresAt', private.iso(private.project_invitation_expiry(m)),
      'status', case when m.accepted_at is not null then 'accepted' when private.project_invitation_expiry(m) <= now() then 'expired' else 'pending' end))
    from public.projects p where p.id = m.project_id
  );
end
$$;
comment on function private.project_invitation_json is
  'What an invitation says. Authorization: the token. Errors: 404 INVITATION_NOT_FOUND.';

-- The project is locked before the row, as everywhere; rows that were read before that are read again.
create or replace function private.accept_project_invitation(p_token text) returns public.project_members
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m public.project_members := private.project_invitee(p_token);
  u public.users;
begin
  perform from public.projects p where p.id = m.project_id for no key update;
  m := private.project_invitee(p_token);
  select * into u from public.users x where x.id = private.user_id();
  if m.accepted_at is not null then
    if m.user_id is distinct from u.id then
      perform private.refuse(404, 'INVITATION_NOT_FOUND', 'This invitation does not exist, or a newer one has replaced it.');
    end if;
    return m;
  end if;
  perform private.refuse_expired_invitation(m);
  if u.email is distinct from m.email then
    perform private.refuse(403, 'INVITATION_EMAIL_MISMATCH', 'This invitation is for another e-mail address. Please sign in with that one.');
  elsif u.email_verified_at is null then
    perform private.refuse(403, 'EMAIL_NOT_VERIFIED', 'Please verify your e-mail address first.');
  elsif private.is_deactivated(m.organization_id, u.id) then
    perform private.refuse(403, 'MEMBERSHIP_INACTIVE', 'Your membership in this organization is deactivated. Please ask its administrator.');
  elsif exists (select from public.project_members x where x.project_id = m.project_id and x.user_id = u.id) then
    perform private.refuse(409, 'MEMBER_EXISTS', 'You are a member of this project already.');
  end if;
  update public.project_members x
  set user_id = u.id, name = nullif(left(btrim(u.first_name || ' ' || u.last_name), 100), ''), avatar_url = u.avatar_url, accepted_at = clock_timestamp()
  where x.id = m.id and x.accepted_at is null
  returning x.* into m;
  return m;
end
$$;
comment on function private.accept_project_invitation is
  'Makes the caller the member whom a token invites; a no-op for who has accepted it. Authorization: the token, and the caller''s verified address. Errors: 403 EMAIL_NOT_VERIFIED, INVITATION_EMAIL_MISMATCH, MEMBERSHIP_INACTIVE, 404 INVITATION_NOT_FOUND, 409 INVITATION_EXPIRED, MEMBER_EXISTS.';

create or replace function private.decline_project_invitation(p_token text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m public.project_members := private.project_invitee(p_token);
begin
  perform from public.projects p where p.id = m.project_id for no key update;
  m := private.project_invitee(p_token);
  if m.accepted_at is not null then
    perform private.refuse(404, 'INVITATION_NOT_FOUND', 'This invitation does not exist, or a newer one has replaced it.');
  end if;
  perform private.refuse_expired_invitation(m);
  delete from public.project_members x where x.id = m.id and x.accepted_at is null;
end
$$;
comment on function private.decline_project_invitation is
  'Removes a pending member. Authorization: the token. Errors: 404 INVITATION_NOT_FOUND, 409 INVITATION_EXPIRED.';
grant execute on function private.project_invitation_json, private.decline_project_invitation to anon, authenticated;
grant execute on function private.accept_project_invitation to authenticated;
