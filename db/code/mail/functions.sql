-- The outbox. SQL composes messages beside their numbers. The worker sends them; it sees one message at a time and only through these
-- functions. No text of a caller becomes a message as it is: a free text would make an open relay.
grant execute on function private.is_mail_address to anon, authenticated, service_role, kijko_server, kijko_worker;

create or replace function private.has_mail() returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return coalesce(private.installation_value('mail') = 'true', false);
end
$$;
comment on function private.has_mail is 'Can this installation send mail? Authorization: gives away one public bit.';
grant execute on function private.has_mail to authenticated, service_role;

create or replace function private.one_line(p_text text) returns text
language sql immutable parallel safe
return btrim(regexp_replace(p_text, '[[:cntrl:]\s\u2028\u2029]+', ' ', 'g'));
comment on function private.one_line is 'The text without line breaks and other control characters, for subjects and table cells.';
grant execute on function private.one_line to authenticated;

create or replace function private.html_text(p_text text) returns text
language sql immutable parallel safe
return replace(replace(replace(replace(replace(p_text, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');
comment on function private.html_text is 'The text as it may stand in HTML, in elements and in quoted attributes.';

-- Refusals roll back and count nothing; only queued messages count. The lock makes the requests of one person wait for each other's commit,
-- on whatever replica they are, so that the count is exact.
create or replace function private.take_mail_allowance(p_user_id uuid, p_kind text, p_limit integer) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_frees_at timestamptz;
begin
  perform pg_advisory_xact_lock(hashtextextended(format('mails %s %s', p_kind, p_user_id), 0));
  -- The p_limit-th newest message of the last hour: when it is an hour old, another message may be sent.
  select created_at + interval '1 hour' into v_frees_at
  from private.mails
  where user_id = p_user_id and kind = p_kind and created_at > clock_timestamp() - interval '1 hour'
  order by created_at desc offset p_limit - 1 limit 1;
  if found then
    perform private.refuse(429, 'RATE_LIMITED', format('You can send %s such mails an hour. Please try again later.', p_limit), null,
      jsonb_build_object('limit', p_limit, 'remaining', 0, 'resetsAt', private.iso(v_frees_at)));
  end if;
end
$$;
comment on function private.take_mail_allowance is
  'Refuses 429 RATE_LIMITED when the user queued p_limit mails of the kind in the last hour. Authorization: callable by definer functions of ours only.';

create or replace function private.queue_mail(
  p_kind text, p_org_id uuid, p_user_id uuid, p_to text, p_subject text, p_text text, p_html text, p_unsubscribe_url text default null
) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid;
begin
  insert into private.mails (kind, organization_id, user_id, to_address, subject, body_text, body_html, unsubscribe_url)
  values (p_kind, p_org_id, p_user_id, p_to, btrim(left(private.one_line(p_subject), 200)), p_text, p_html, p_unsubscribe_url)
  returning id into v_id;
  perform private.enqueue('mail.send', jsonb_build_object('mailId', v_id), now(), 'mail.send:' || v_id);
  return v_id;
end
$$;
comment on function private.queue_mail is
  'Puts a message into the outbox with its job; both or neither are committed. p_unsubscribe_url: where a POST unsubscribes (RFC 8058). Authorization: callable by definer functions of ours only.';

-- ---------------------------------------------------------------------------------------------------------------- for the worker

create or replace function private.take_mail(p_id uuid)
returns table (to_address text, subject text, body_text text, body_html text, created_at timestamptz, unsubscribe_url text)
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return query update private.mails m set attempts = m.attempts + 1 where m.id = p_id and m.sent_at is null
    returning m.to_address, m.subject, m.body_text, m.body_html, m.created_at, m.unsubscribe_url;
end
$$;
comment on function private.take_mail is
  'The message, if it still has to be sent, and counts the attempt; no row when it was sent or is gone. Authorization: callable by the worker only.';

create or replace function private.has_token_link(p_body text) returns boolean
language sql immutable parallel safe
return p_body ~ '/(verify-email|reset-password|magic-link|team-invitation|project-invitation)\?token=';
comment on function private.has_token_link is 'Does the body of a message hold a link with a token that is a credential by itself?';

create or replace function private.mark_mail_sent(p_id uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  -- A link with a token grants access, so it stays here only as long as it waits (contract 40, 1.4).
  update private.mails m
  set sent_at = clock_timestamp(),
    body_text = case when private.has_token_link(m.body_text) then 'This message was sent. It held a link for its reader alone.' else m.body_text end,
    body_html = case when private.has_token_link(m.body_html) then 'This message was sent. It held a link for its reader alone.' else m.body_html end
  where m.id = p_id and m.sent_at is null and m.kind <> 'account_erased';
  if found then
    return true;
  end if;
  -- An erased person leaves no address.
  delete from private.mails m where m.id = p_id and m.kind = 'account_erased';
  return found;
end
$$;
comment on function private.mark_mail_sent is
  'Says that a server accepted the message, and forgets a body with a token, or the whole message to an erased person; false when that was known or the message is gone. Authorization: callable by the worker only.';
grant execute on function private.take_mail, private.mark_mail_sent to kijko_worker;
