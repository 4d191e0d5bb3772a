-- E-mail addresses and names are judged by code points and never by the database's locale: one locale lower-cases U+212A to k and another
-- does not, and both have other ideas of what a blank is. Two different mailboxes must not become one account.

-- These are used by checks below, so they live here and are frozen.

create function private.folded_address(p_text text) returns text
language sql immutable parallel safe
return translate(p_text, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz');
comment on function private.folded_address is 'The text with A to Z, and nothing else, in lower case: how addresses are compared and stored.';

-- Unicode's white space, and what shows as nothing or as a blank: U+200B, U+FEFF, the fillers of Hangul and the empty Braille cell.
create function private.without_blanks(p_text text) returns text
language sql immutable parallel safe
return btrim(p_text, U&' \0009\000A\000B\000C\000D\0085\00A0\1680\2000\2001\2002\2003\2004\2005\2006\2007\2008\2009\200A\200B\2028\2029\202F\205F\3000\FEFF\115F\1160\2800\3164\FFA0');
comment on function private.without_blanks is 'The text without blanks of any script at its ends, those that show as nothing included.';

-- Unicode 16, category Cf. They reorder, join or hide what is around them and show as nothing.
create function private.has_format_characters(p_text text) returns boolean
language sql immutable parallel safe
return p_text ~ '[\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]';
comment on function private.has_format_characters is 'Has the text characters of Unicode''s category Cf?';

-- What the mail queue sends to and sign-up accepts: visible characters of ASCII (others need SMTPUTF8 at each server on the way), @, and a domain of at least two labels (RFC 5321, 2.3.5: letters,
-- digits and inner hyphens, 63 at most; letters outside ASCII as RFC 6531 has them). Nothing that a header or an SMTP command can hide in.
create or replace function private.is_mail_address(p_address text) returns boolean
language sql immutable parallel safe
return octet_length(p_address) <= 254 and not private.has_format_characters(p_address)
  and p_address !~ '[\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\u115f\u1160\u2800\u3164\uffa0]'
  and p_address ~ '^[^][@"(),:;<>\\\u0080-\U0010ffff]+@([a-zA-Z0-9\u0080-\U0010ffff]([-a-zA-Z0-9\u0080-\U0010ffff]{0,61}[a-zA-Z0-9\u0080-\U0010ffff])?\.)+[a-zA-Z0-9\u0080-\U0010ffff]([-a-zA-Z0-9\u0080-\U0010ffff]{0,61}[a-zA-Z0-9\u0080-\U0010ffff])?$';
comment on function private.is_mail_address is 'Is the text one plain mail address? RFC 5321 gives a path 256 octets, of which two are brackets.';

-- A message that waits for an address which no server takes would fail at every attempt. The check of the outbox judges each row again when it is
-- changed, so those that were sent would make every change fail.
delete from private.mails where not private.is_mail_address(to_address);

-- The checks of rows say only what all stored rows keep; triggers judge addresses and names when they are written.
alter table public.users drop constraint users_email_check,
  add constraint users_email_check check (email = private.folded_address(email) and char_length(email) between 3 and 254);

create or replace function private.assert_project_members_row(r public.project_members) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (char_length(r.email) between 3 and 255 and r.email = private.folded_address(r.email)
      and r.email ~ '^[^@]+@[^@]+\.[^@]+$') then 'project_members_email_check'
    when not (char_length(r.name) <= 100) then 'project_members_name_check'
    when not (char_length(r.avatar_url) <= 500) then 'project_members_avatar_url_check'
    when not (r.role in ('admin', 'manager', 'developer', 'viewer', 'auditor')) then 'project_members_role_check'
    when not (r.notification_level in ('real-time', 'daily', 'weekly', 'disabled')) then 'project_members_notification_level_check'
    when not ((r.accepted_at is null) = (r.user_id is null)) then 'project_members_pending_has_no_user'
  end;
begin
  return v_rule is null or private.refuse_row('project_members', v_rule);
end
$$;

-- An address that was stored with a pasted blank gets the form in which its person types it, where that is free. A verified one stays as
-- it is: somebody vouched for exactly that text. An account whose address stays odd is still found by it (private.account_address).
update public.users u set email = private.without_blanks(u.email)
where u.email <> private.without_blanks(u.email) and u.email_verified_at is null and private.is_mail_address(private.without_blanks(u.email))
  and not exists (select from public.users o where o.id <> u.id and private.without_blanks(o.email) = private.without_blanks(u.email));

---- create above / drop below ----

alter table public.users drop constraint users_email_check,
  add constraint users_email_check check (email = lower(btrim(email)) and char_length(email) between 3 and 254);
create or replace function private.is_mail_address(p_address text) returns boolean
language sql immutable parallel safe
return p_address ~ '^[^][@\s[:cntrl:]"(),:;<>\\]+@([^][@\s[:cntrl:]"(),:;<>\\.]+\.)+[^][@\s[:cntrl:]"(),:;<>\\.]+$'
  and char_length(p_address) <= 254;
create or replace function private.assert_project_members_row(r public.project_members) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (char_length(r.email) between 3 and 255 and r.email = lower(private.trimmed(r.email))
      and r.email ~ '^[^@\s]+@[^@\s]+\.[^@\s]+$') then 'project_members_email_check'
    when not (char_length(r.name) <= 100) then 'project_members_name_check'
    when not (char_length(r.avatar_url) <= 500) then 'project_members_avatar_url_check'
    when not (r.role in ('admin', 'manager', 'developer', 'viewer', 'auditor')) then 'project_members_role_check'
    when not (r.notification_level in ('real-time', 'daily', 'weekly', 'disabled')) then 'project_members_notification_level_check'
    when not ((r.accepted_at is null) = (r.user_id is null)) then 'project_members_pending_has_no_user'
  end;
begin
  return v_rule is null or private.refuse_row('project_members', v_rule);
end
$$;
drop function private.has_format_characters(text), private.without_blanks(text), private.folded_address(text);
