-- A local part outside ASCII needs SMTPUTF8 at each server on the way, and a server without it gets raw bytes: no such message is sent.
create or replace function private.is_mail_address(p_address text) returns boolean
language sql immutable parallel safe
return p_address ~ '^[^][@\s[:cntrl:]"(),:;<>\\\u0080-\U0010ffff]+@([^][@\s[:cntrl:]"(),:;<>\\.]+\.)+[^][@\s[:cntrl:]"(),:;<>\\.]+$'
  and char_length(p_address) <= 254;
comment on function private.is_mail_address is
  'Is the text one plain mail address, with a local part in ASCII? RFC 5321 gives a path 256 characters, of which two are brackets.';

-- The check of the outbox judges each row again when it is changed: those that no longer pass would make every change fail.
delete from private.mails where not private.is_mail_address(to_address);

---- create above / drop below ----

create or replace function private.is_mail_address(p_address text) returns boolean
language sql immutable parallel safe
return p_address ~ '^[^][@\s[:cntrl:]"(),:;<>\\]+@([^][@\s[:cntrl:]"(),:;<>\\.]+\.)+[^][@\s[:cntrl:]"(),:;<>\\.]+$'
  and char_length(p_address) <= 254;
comment on function private.is_mail_address is 'Is the text one plain mail address? RFC 5321 gives a path 256 characters, of which two are brackets.';
