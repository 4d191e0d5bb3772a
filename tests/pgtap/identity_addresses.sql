-- Which texts are addresses, which addresses are equal, and which texts are names: by code points, the same on every locale.
begin;
select no_plan();

create temp table addresses (typed text, stored text, why text);
insert into addresses values
  ('ann@example.nl', 'ann@example.nl', 'a plain one'),
  ('  Ann@Example.NL ', 'ann@example.nl', 'A to Z are folded, blanks around go'),
  (U&'\00A0ann@example.nl', 'ann@example.nl', 'a no-break space in front'),
  (U&'\FEFFann@example.nl', 'ann@example.nl', 'a byte-order mark in front'),
  (U&'ann@example.nl\200B', 'ann@example.nl', 'a zero-width space behind'),
  (U&'\3000ann@example.nl\2003\0085', 'ann@example.nl', 'blanks of other scripts around'),
  (E'\tann@example.nl\r\n', 'ann@example.nl', 'a pasted line'),
  (U&'ann@\3164example.nl', null, 'a filler of Hangul inside'),
  (U&'an\00A0n@example.nl', null, 'a no-break space inside'),
  (U&'an\FEFFn@example.nl', null, 'a byte-order mark inside'),
  (U&'ann\200B@example.nl', null, 'a zero-width space inside'),
  (U&'ann\3000@example.nl', null, 'an ideographic space inside'),
  ('an n@example.nl', null, 'a blank inside'),
  (U&'ann\202E@example.nl', null, 'a character that turns the direction'),
  (U&'ann\00AD@example.nl', null, 'a soft hyphen'),
  (U&'\200Eann@example.nl', null, 'a format character at the end'),
  (U&'ann\200D@example.nl', null, 'a joiner'),
  (U&'ann@exam\+0E0061ple.nl', null, 'a tag character beyond the first plane'),
  (U&'\212Aim@example.nl', null, 'U+212A, which lower-cases to k'),
  (U&'\0130da@example.nl', null, 'U+0130, which lower-cases to i'),
  (U&'ann@\212Ajko.nl', null, 'the same in the domain'),
  (U&'a\1FEF@example.nl', null, 'U+1FEF, which normalizes to a grave accent'),
  (U&'\00C9va@example.nl', null, 'a local part outside ASCII, which needs SMTPUTF8 at each server on the way'),
  (U&'\017Fam@example.nl', null, 'a local part with a long s'),
  (U&'ann@\00C9va.nl', U&'ann@\00C9va.nl', 'a capital outside ASCII stays one'),
  (U&'ann@\00E9va.nl', U&'ann@\00E9va.nl', 'and is not its small letter'),
  (U&'ann@e\0301va.nl', U&'ann@\00E9va.nl', 'two spellings of the same characters are one address'),
  (U&'ann@\017Fam.nl', U&'ann@\017Fam.nl', 'a long s is not an s'),
  (U&'ann@\0131an.nl', U&'ann@\0131an.nl', 'a dotless i is not an i'),
  (U&'ann@b\00FCcher.example', U&'ann@b\00FCcher.example', 'a domain outside ASCII'),
  ('ann@xn--bcher-kva.example', 'ann@xn--bcher-kva.example', 'the same as it travels'),
  ('a.b+c_d-e@mail.example.co.uk', 'a.b+c_d-e@mail.example.co.uk', 'dots, tags and subdomains'),
  ('o''brien@example.nl', 'o''brien@example.nl', 'an apostrophe'),
  ('ann@example..nl', null, 'an empty label'),
  ('ann@.example.nl', null, 'an empty first label'),
  ('ann@example.nl.', null, 'an empty last label'),
  ('ann@-example.nl', null, 'a label that begins with a hyphen'),
  ('ann@example-.nl', null, 'a label that ends with a hyphen'),
  ('ann@exam-ple.nl', 'ann@exam-ple.nl', 'a hyphen inside'),
  ('ann@ex_ample.nl', null, 'an underscore in the domain'),
  ('ann@exam!ple.nl', null, 'punctuation in the domain'),
  ('ann@' || repeat('a', 63) || '.nl', 'ann@' || repeat('a', 63) || '.nl', 'a label of 63 characters'),
  ('ann@' || repeat('a', 64) || '.nl', null, 'a label of 64 characters'),
  ('<x>@example.nl', null, 'angle brackets'),
  ('a,b@example.nl', null, 'a comma'),
  ('"a b"@example.nl', null, 'a quoted one'),
  ('Ann <ann@example.nl>', null, 'a name beside it'),
  ('ann@[127.0.0.1]', null, 'an address literal'),
  ('ann', null, 'no domain'), ('ann@example', null, 'one label'), ('@example.nl', null, 'nothing before the @'), ('ann@', null, 'nothing behind it'),
  ('a@@b.nl', null, 'two of them'), ('a@b@c.nl', null, 'two parts'), ('', null, 'nothing'), (null, null, 'null'),
  (E'a@b.nl\nc@d.nl', null, 'two lines'), (E'a\u0001@b.nl', null, 'a control character'), (U&'a\009F@b.nl', null, 'one of the second set'),
  (repeat('a', 249) || '@b.nl', repeat('a', 249) || '@b.nl', '254 octets'), (repeat('a', 250) || '@b.nl', null, '255 octets'),
  (repeat(U&'\00E9', 125) || '@b.nl', null, 'short in characters and too long in octets');

select is(private.clean_email(typed), stored, why || ': ' || coalesce(to_jsonb(typed)::text, 'null')) from addresses;
select is(private.clean_email(stored), stored, 'what is stored stays as it is: ' || stored) from addresses where stored is not null;
select ok(private.is_mail_address(stored), 'the mail queue takes what sign-up takes: ' || stored) from addresses where stored is not null;
select ok(not coalesce(private.is_mail_address(private.without_blanks(typed)), false), 'and refuses what sign-up refuses: ' || why)
from addresses where stored is null and typed !~ '[\u0130\u1fef\u212a]';

-- The database locale's own lower case is used nowhere: each collation gives the same result.
select is_empty(format($$ select typed from addresses where convert_to(private.clean_email(typed collate %1$I), 'UTF8') is distinct from convert_to(stored, 'UTF8') $$, collname),
  'addresses are the same under ' || collname)
from pg_collation where collname in ('und-x-icu', 'tr-x-icu', 'C.UTF-8', 'C.utf8', 'ucs_basic') and collencoding in (-1, pg_char_to_encoding('UTF8'));

-- No function writes an unchecked address or name into an account.
select throws_ok(format('insert into public.users (email) values (%L)', typed), 'PT400', 'Please enter a valid e-mail address.', 'no account with ' || why)
from addresses where stored is null and typed is not null;
select throws_ok($$ insert into public.users (email) values ('Ann@example.nl') $$, 'PT400', 'Please enter a valid e-mail address.', 'an account''s address is folded');

select throws_ok(format('update public.users set email = %L where id = %L', typed, tests.user('anna')), 'PT400', 'Please enter a valid e-mail address.', 'nor a change to ' || why)
from addresses where stored <> typed and private.folded_address(typed) = typed;

-- Names.
create temp table names (typed text, stored text, why text);
insert into names values
  (' Ann ', 'Ann', 'blanks around go'), (U&'\00A0Ann\200B', 'Ann', 'those of other scripts too'), ('Anna Maria', 'Anna Maria', 'a blank inside stays'),
  (U&'Zo\00EB', U&'Zo\00EB', 'letters outside ASCII'), ('O''Neil-Smith jr.', 'O''Neil-Smith jr.', 'punctuation'),
  (repeat('a', 50), repeat('a', 50), '50 characters'), (repeat('a', 51), null, '51 characters'), ('', null, 'nothing'), (null, null, 'null'),
  (U&'\00A0', null, 'a no-break space alone'), (U&'\200B', null, 'a zero-width space alone'), (U&'\3164\2800', null, 'fillers alone'),
  (U&'A\200Bnn', null, 'a zero-width space inside'), (U&'Ann\202Etxt', null, 'a character that turns the direction'),
  (U&'An\00ADn', null, 'a soft hyphen'), (U&'\2066Ann\2069', null, 'isolates'), (E'A\u0007nn', null, 'a bell'), (U&'Ann\2028Vos', null, 'a line separator');
create function pg_temp.name(p_text text) returns text language plpgsql as $$
begin
  return private.require_name(p_text, 'first_name', 'first name');
exception when sqlstate 'PT400' then
  return null;
end
$$;
select is(pg_temp.name(typed), stored, 'name: ' || why) from names;
select is(private.clean_name(U&'\202E Ann\200BVos' || E'\n' || repeat('x', 60)), 'AnnVos' || repeat('x', 44), 'a provider''s name is made fit');
select is(private.clean_name(typed), '', 'a provider''s name of which nothing is left: ' || why) from names where typed is null or private.without_blanks(typed) = '';
select throws_ok(format('insert into public.users (email, first_name) values (%L, %L)', 'n' || row_number() over () || '@pgtap.nl', typed), 'PT400', null, 'no account with a name of ' || why)
from names where stored is null and private.without_blanks(typed) <> '';
select throws_ok(format('insert into public.organizations (name) values (%L)', typed), 'PT400', null, 'no organization with a name of ' || why)
from names where stored is null and typed is not null and char_length(typed) <> 51;
create temp table vos as select private.create_organization(U&'\00A0Vos & Co\200B', tests.user('anna')) as id;
select is((select o.name from public.organizations o join vos on vos.id = o.id), 'Vos & Co', 'an organization''s name is trimmed');

-- Accounts older than these rules: they work, and sign in by the stored text and by no other.
set local session_replication_role = replica;
insert into public.users (email, first_name) values ('old@example..nl', U&'O\200Bld'), (U&'twin@pgtap.nl\200B', 'Twin');
set local session_replication_role = origin;
insert into public.users (email) values ('twin@pgtap.nl');
insert into private.credentials (user_id, password_hash, meets_policy)
select id, '$argon2id$' || email, true from public.users where email like 'old@%' or email like 'twin@%';
select lives_ok($$ update public.users set email_verified_at = now(), timezone = 'Europe/Amsterdam' where email = 'old@example..nl' $$, 'an old account can be changed');
select lives_ok($$ update public.users set last_name = 'Vos' where email = 'old@example..nl' $$, 'and get another name beside the old one');
select lives_ok($$ update public.users set first_name = 'Twin', last_name = 'Vos' where email like 'twin@%' $$, 'also one whose address has a blank');
select is(private.begin_login('{"email": "Old@example..nl"}') ->> 'password_hash', '$argon2id$old@example..nl', 'and be signed in to');
select is(private.begin_login(jsonb_build_object('email', U&'twin@pgtap.nl\200B')) ->> 'password_hash', U&'$argon2id$twin@pgtap.nl\200B', 'the exact text finds the old account');
select is(private.begin_login('{"email": "twin@pgtap.nl"}') ->> 'password_hash', '$argon2id$twin@pgtap.nl', 'and the visible one its own');
select throws_ok($$ select private.begin_login('{"email": "new@example..nl"}') $$, 'PT400', 'Please enter a valid e-mail address.', 'what no account has is no address');

select * from finish();
rollback;
