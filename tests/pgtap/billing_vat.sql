-- VAT (contract 50, section 7), the forms and check digits of VAT numbers (6.1), quotes. The tables of the contract are the vectors.
begin;
select no_plan();
select tests.user('anna'), tests.member('ben', 'anna');

-- ------------------------------------------------------------------------------------------------------------------- amounts
select is((select array[v.vat, v.total] from private.vat_of(c.net, c.country, null, false, '2026-11-30') v), array[c.vat, c.total], format('%s at the rate of %s', c.net, c.country)) from (values
  (2900::bigint, 'NL', 609::bigint, 3509::bigint), (28800, 'NL', 6048, 34848), (7900, 'NL', 1659, 9559), (79200, 'NL', 16632, 95832), (1250, 'NL', 263, 1513), (-1250, 'NL', -263, -1513),
  (0, 'NL', 0, 0), (1, 'NL', 0, 1), (-1, 'NL', 0, -1), (2, 'NL', 0, 2), (3, 'NL', 1, 4), (50, 'NL', 11, 61), (-50, 'NL', -11, -61), (900719925474099301, 'NL', 189151184349560853, 1089871109823660154)
) c (net, country, vat, total);
insert into private.installation (key, value) values ('vat_oss', 'true') on conflict (key) do update set value = excluded.value;
select is((select array[v.vat, v.total, v.rate] from private.vat_of(2900, 'FI', null, false, '2026-11-30') v), array[740, 3640, 25.5], '2900 at 25.5 %: 739.5 is rounded away from zero');
select is((select v.vat from private.vat_of(-2900, 'FI', null, false, '2026-11-30') v), -740::bigint, 'a credit too');

-- ------------------------------------------------------------------------------------------------------------------ treatments
select is((select concat_ws(' ', v.treatment, v.rate::float, v.note) from private.vat_of(10000, c.country, c.number, c.valid, '2026-11-30') v), c.expected,
  format('%s with %s (%s), OSS %s', c.country, coalesce(c.number, 'no number'), case when c.valid then 'valid' else 'not valid' end, c.oss)) from (values
  ('NL', null, false, true, 'domestic 21'), ('NL', 'NL004495445B01', true, true, 'domestic 21'), ('NL', 'BE0123456789', true, true, 'domestic 21'),
  ('BE', 'BE0123456789', true, true, 'reverse_charge 0 VAT reverse-charged to BE0123456789.'),
  ('BE', 'BE0123456789', false, true, 'eu_b2c 21 VAT of BE (One Stop Shop), because no valid VAT number of this country is given.'),
  ('BE', 'DE123456789', true, true, 'eu_b2c 21 VAT of BE (One Stop Shop), because no valid VAT number of this country is given.'),
  ('GR', 'EL123456789', true, true, 'reverse_charge 0 VAT reverse-charged to EL123456789.'), ('GR', null, false, true, 'eu_b2c 24 VAT of GR (One Stop Shop), because no valid VAT number of this country is given.'),
  ('DE', null, null, true, 'eu_b2c 19 VAT of DE (One Stop Shop), because no valid VAT number of this country is given.'),
  ('GB', null, false, true, 'outside_eu 0 Outside the scope of Dutch VAT.'), ('CH', null, false, true, 'outside_eu 0 Outside the scope of Dutch VAT.'),
  ('NO', 'NO123456789', true, true, 'outside_eu 0 Outside the scope of Dutch VAT.'), ('US', null, false, true, 'outside_eu 0 Outside the scope of Dutch VAT.'),
  ('XI', 'XI123456789', true, true, 'domestic 21'), ('ZZ', null, false, true, 'domestic 21'), (null, null, false, true, 'domestic 21')) c (country, number, valid, oss, expected);
select is((select string_agg(r.country || ' ' || r.rate::float, ', ' order by r.country) from (select c.code as country, private.vat_rate(c.code, '2026-11-30') as rate from public.countries c
  where c.vat_prefix is not null) r),
  'AT 20, BE 21, BG 20, CY 19, CZ 21, DE 19, DK 25, EE 24, ES 21, FI 25.5, FR 20, GR 24, HR 25, HU 27, IE 23, IT 22, LT 21, LU 17, LV 21, MT 18, NL 21, PL 23, PT 23, RO 21, SE 25, SI 22, SK 23',
  'the rates of the 27 member states');
update private.installation set value = 'false' where key = 'vat_oss';
select is((select concat_ws(' ', v.treatment, v.rate::float, v.note) from private.vat_of(10000, 'FI', null, false, '2026-11-30') v),
  'eu_b2c 21 Dutch VAT, because no valid VAT number of FI is given.', 'below the threshold of OSS the Dutch rate applies');

-- The tax point: the day in the Netherlands.
insert into public.vat_rates (country, rate, valid_from) values ('NL', 22.125, '2027-01-01');
select is(private.vat_rate('NL', at::timestamptz)::text, rate, 'the rate at ' || at) from (values ('2026-12-31 22:59:59+00', '21.000'), ('2026-12-31 23:00:00+00', '22.125'),
  ('2030-06-01', '22.125')) c (at, rate);
select is(private.vat_rate('EE', at::timestamptz), rate, 'of Estonia at ' || at) from (values ('2025-06-30 12:00+00', 22.0), ('2025-07-01 12:00+00', 24.0)) c (at, rate);
select throws_like($$ select private.vat_rate('NL', '2001-01-01') $$, '%no rate for NL%', 'no invoice has a rate that no row says');
select is(private.tax_quote(10000, 'NL', null, false, '2027-06-01'), '{"currency": "eur", "netAmount": 10000, "vatRate": "22.125", "vatAmount": 2213, "totalAmount": 12213, "treatment": "domestic"}',
  'a rate is shown with two decimals, or three');
delete from public.vat_rates where valid_from = '2027-01-01';

-- -------------------------------------------------------------------------------------------------------------------- forms
select is(private.has_btw_form(n), true, n || ' has the form') from unnest(array['ATU12345678', 'BE0123456789', 'BE1123456789', 'BG123456789', 'BG1234567890', 'CY12345678A', 'CZ12345678',
  'CZ123456789', 'CZ1234567890', 'DE123456789', 'DK12345678', 'EE123456789', 'EL123456789', 'ESA12345678', 'ES12345678A', 'ESX1234567X', 'FI12345678', 'FR12345678901', 'FRXX123456789', 'FRA1123456789',
  'HR12345678901', 'HU12345678', 'IE1234567A', 'IE1234567AB', 'IE1A12345A', 'IE1+12345A', 'IE1*12345A', 'IT12345678901', 'LT123456789', 'LT123456789012', 'LU12345678', 'LV12345678901', 'MT12345678',
  'NL004495445B01', 'NL123456789B01', 'PL1234567890', 'PT123456789', 'RO12', 'RO1234567890', 'SE123456789012', 'SI12345678', 'SK1234567890']) n;
select is(private.has_btw_form(n), false, n || ' has not') from unnest(array['', 'AT12345678', 'ATU1234567', 'ATU123456789', 'BE2123456789', 'BE123456789', 'BG12345678', 'CY123456789', 'CZ1234567',
  'CZ12345678901', 'DE12345678', 'DK123456789', 'EL12345678', 'ES123456789', 'ESAB2345678', 'FI1234567', 'FRI1123456789', 'FRO1123456789', 'FR1234567890', 'GB123456789', 'GR123456789', 'HR1234567890',
  'HU123456789', 'IE1234567', 'IE1234567ABC', 'IE1-12345A', 'IT1234567890', 'LT1234567890', 'LU1234567', 'LV123456789012', 'MT1234567', 'NL000000000B01', 'NL123456789B00', 'NL123456789A01',
  'NL12345678B01', 'NL123456789B1', 'PL123456789', 'PT1234567890', 'RO1', 'RO12345678901', 'SE12345678901', 'SI123456789', 'SK123456789', 'US123456789', 'XI123456789', 'NL004495445B01x',
  'nl004495445b01', ' NL004495445B01', E'NL004495445B01\n', 'NL٠٠٤٤٩٥٤٤٥B01']) n;
select is((select count(*) from public.countries c where c.vat_prefix is not null and not private.has_btw_form(c.vat_prefix || 'x')), 27::bigint, 'member states have 27 prefixes');
select is(private.bare_btw(t), b, format('%L is read as %s', t, coalesce(b, 'nothing'))) from (values ('nl 0044.95.445-B01', 'NL004495445B01'), (E'NL\u00A0004495445\u2013B01', 'NL004495445B01'),
  (E' \t-.', null), ('', null), (E'n\u017F', E'N\u017F')) c (t, b);
select is(private.has_btw_check_digits(n), w, n) from (values ('NL004495445B01', true), ('NL000099998B57', true), ('NL123456789B01', false), ('NL123456789B13', true), ('NL004495446B01', false),
  ('NL000099998B58', false), ('BE0123456789', true)) c (n, w);
-- A number whose remainder is 10 has no check digit.
select is((select count(*) from generate_series(0, 9) d where private.has_btw_check_digits('NL10000000' || d || 'B01') and d::integer = 9), 1::bigint, 'nine times one is nine');
select is((select count(*) from generate_series(0, 9) d where private.has_btw_check_digits('NL20000001' || d || 'B01') and (2 * 9 + 2) % 11 = d), 1::bigint, 'and 20 is 9 more than 11');

-- ------------------------------------------------------------------------------------------------------------------- quotes
create function pg_temp.quote(p_body text, p_answer text default null) returns jsonb
language sql
as $$ select api.preview_subscription(jsonb_strip_nulls(jsonb_build_object('body', p_body::jsonb, 'answer', p_answer::jsonb))) - 'note' $$;
grant execute on all functions in schema pg_temp to public;
select tests.act_as('anna');
select is(pg_temp.quote(body), quote::jsonb, body) from (values
  ('{"planId": "pro"}', '{"currency": "eur", "netAmount": 2900, "vatRate": "21.00", "vatAmount": 609, "totalAmount": 3509, "treatment": "domestic"}'),
  ('{"planId": "pro", "billingInterval": "annually"}', '{"currency": "eur", "netAmount": 28800, "vatRate": "21.00", "vatAmount": 6048, "totalAmount": 34848, "treatment": "domestic"}'),
  ('{"planId": "teams"}', '{"currency": "eur", "netAmount": 7900, "vatRate": "21.00", "vatAmount": 1659, "totalAmount": 9559, "treatment": "domestic"}'),
  ('{"planId": "teams", "billingInterval": "annually"}', '{"currency": "eur", "netAmount": 79200, "vatRate": "21.00", "vatAmount": 16632, "totalAmount": 95832, "treatment": "domestic"}'),
  ('{"planId": "pro", "country": "us"}', '{"currency": "eur", "netAmount": 2900, "vatRate": "0.00", "vatAmount": 0, "totalAmount": 2900, "treatment": "outside_eu"}'),
  ('{"planId": "pro", "country": "BE"}', '{"currency": "eur", "netAmount": 2900, "vatRate": "21.00", "vatAmount": 609, "totalAmount": 3509, "treatment": "eu_b2c"}'),
  ('{"planId": "pro", "country": "BE", "btwNumber": "BE01"}', '{"currency": "eur", "netAmount": 2900, "vatRate": "21.00", "vatAmount": 609, "totalAmount": 3509, "treatment": "eu_b2c"}')) c (body, quote);
select is(tests.refusal(format('select api.preview_subscription(%L)', jsonb_build_object('body', body::jsonb))) - 'message', refusal::jsonb, body) from (values
  ('{}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "planId"}'), ('{"planId": "free"}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "planId"}'),
  ('{"planId": "enterprise"}', '{"status": 400, "code": "PLAN_NOT_SELF_SERVICE", "field": "planId"}'), ('{"planId": "pro", "billingInterval": "weekly"}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "billingInterval"}'),
  ('{"planId": "pro", "country": "XX"}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "country"}')) c (body, refusal);

-- A number that VIES confirms. The answer is kept for a day.
select is(pg_temp.quote('{"planId": "pro", "country": "BE", "btwNumber": "be 0123.456.789"}', '{"outcome": "valid", "name": "Ann", "consultation": "WAPI1"}') ->> 'treatment', 'reverse_charge', 'VIES knows the number');
select is(pg_temp.quote('{"planId": "pro", "country": "BE", "btwNumber": "BE0123456789"}') ->> 'treatment', 'reverse_charge', 'and is not asked again within a day');
select is(pg_temp.quote('{"planId": "pro", "country": "BE", "btwNumber": "BE0999999999"}', '{"outcome": "invalid"}') ->> 'treatment', 'eu_b2c', 'VIES does not know another one');
select is(pg_temp.quote('{"planId": "pro", "country": "BE", "btwNumber": "BE0999999998"}', '{"outcome": "unavailable"}') ->> 'treatment', 'eu_b2c', 'or is unavailable');
select is(tests.refusal($$ select pg_temp.quote('{"planId": "pro", "country": "BE", "btwNumber": "BE0999999998"}', '{"outcome": "perhaps"}') $$) ->> 'field', 'answer', 'an answer has an outcome');

-- ------------------------------------------------------------------------------------------------------------- the stored number
create function pg_temp.stored() returns jsonb language sql as $$ select jsonb_strip_nulls(jsonb_build_object('status', btw_status, 'definite', btw_definite, 'name', registered_name,
  'consultation', consultation_number, 'at', case when verified_at is null then null when verified_at > now() - interval '1 minute' then 'now' else 'then' end))
  from public.billing_details where organization_id = private.org_id() $$;
create function pg_temp.validate(p_number text, p_outcome text, p_name text default null) returns jsonb
language sql
as $$ select api.validate_btw_number(jsonb_build_object('body', jsonb_build_object('btwNumber', p_number), 'answer', jsonb_strip_nulls(jsonb_build_object('outcome', p_outcome, 'name', p_name)))) $$;
grant execute on all functions in schema pg_temp to public;
select api.update_billing_details('{"body": {"btwNumber": "BE0123456780", "country": "BE"}}');
select is(pg_temp.stored(), '{"status": "unverified"}', 'a new number is not verified');
select is(pg_temp.validate('BE 0123 456 780', 'valid', 'Ann'), '{"isValid": true, "companyName": "Ann"}', 'VIES confirms it');
select is(pg_temp.stored(), '{"status": "valid", "definite": "valid", "name": "Ann", "at": "now"}', 'and that is kept beside it');
select is(pg_temp.quote('{"planId": "pro"}'), '{"currency": "eur", "netAmount": 2900, "vatRate": "0.00", "vatAmount": 0, "totalAmount": 2900, "treatment": "reverse_charge"}', 'the stored details are those of the quote');
select is(api.preview_subscription('{"body": {"planId": "pro"}}') ->> 'note', 'VAT reverse-charged to BE0123456780.', 'with the note of an invoice');
select is(pg_temp.validate('BE0123456781', 'invalid'), '{"isValid": false, "errorMessage": "This BTW number is not registered in VIES."}', 'another number');
select is(pg_temp.stored() ->> 'status', 'valid', 'changes nothing of the stored one');
select is(pg_temp.validate('BE0123456780', 'unavailable'), '{"isValid": false, "errorMessage": "VIES is unavailable, try again later"}', 'VIES in trouble');
select is(current_setting('response.headers', true)::jsonb ->> 'Retry-After', '60', 'says when to come again');
select is(pg_temp.stored(), '{"status": "unavailable", "definite": "valid", "name": "Ann", "at": "now"}', 'and its last answer is kept');
select is(pg_temp.quote('{"planId": "pro"}') ->> 'treatment', 'reverse_charge', 'which counts');
select tests.reset();
update public.billing_details set verified_at = now() - interval '31 days' where organization_id = tests.org('anna');
select tests.act_as('anna');
select is(pg_temp.quote('{"planId": "pro"}') ->> 'treatment', 'eu_b2c', 'for 30 days');
select is(pg_temp.validate('BE0123456780', 'invalid') ->> 'isValid', 'false', 'the number was withdrawn');
select is(pg_temp.stored() - 'at', '{"status": "invalid", "definite": "invalid"}', 'so it is invalid, without a name');
select is(pg_temp.validate('BE0123456780', 'valid') ->> 'isValid', 'true', 'and valid again');
select api.update_billing_details('{"body": {"country": "DE"}}');
select is(pg_temp.stored(), '{"status": "unverified"}', 'another country has yet to be verified');
select pg_temp.validate('BE0123456780', 'valid');
select api.update_billing_details('{"body": {"btwNumber": "BE0123456789"}}');
select is(pg_temp.stored(), '{"status": "unverified"}', 'so has another number');
select is(api.validate_btw_number('{"body": {"btwNumber": "BE0123456789"}}'), '{"isValid": true, "companyName": "Ann"}', 'the answer of a day ago is good for it');
select is(pg_temp.stored() ->> 'consultation', 'WAPI1', 'with the proof of the question');
select api.update_billing_details('{"body": {"btwNumber": "NL123456789B01"}}');
select is(api.validate_btw_number('{"body": {"btwNumber": "NL123456789B01"}}') ->> 'errorMessage', 'The check digits of this BTW number do not match. Please look for a typing error.', 'check digits');
select is(pg_temp.stored() ->> 'status', 'invalid', 'need no VIES to be wrong');
select is(api.validate_btw_number('{"body": {"btwNumber": "GR123456789"}}'), '{"isValid": false, "errorMessage": "This does not have the form of a BTW number, such as NL004495445B01."}', 'nor does a form');
select is(tests.refusal(format('select api.validate_btw_number(%L)', body)) ->> 'field', 'btwNumber', body || ' has no number') from unnest(array['{"body": {"btwNumber": " - "}}', '{"body": {}}', '{}']) body;

-- Answers: a day, a hundred of an organization, each organization its own.
select tests.reset();
insert into private.vies_answers (organization_id, number, is_valid, answered_at) select tests.org('anna'), 'DE' || (100000000 + i), true, now() - interval '1 hour' from generate_series(1, 150) i;
select tests.act_as('anna');
select pg_temp.validate('BE0999999997', 'valid');
select tests.reset();
select is((select count(*) from private.vies_answers where organization_id = tests.org('anna')), 100::bigint, 'an organization keeps a hundred answers');
select ok(exists (select from private.vies_answers where number = 'BE0999999997'), 'the newest');
select tests.user('stan');
insert into private.vies_answers (organization_id, number, is_valid) values (tests.org('stan'), 'BE0999999996', true);
select tests.act_as('anna');
select is(private.check_btw('BE0999999996') ->> 'outcome', 'unasked', 'the answer of another tenant is not used');
select is(private.check_btw('BE0999999997') ->> 'outcome', 'valid', 'their own is');
select tests.reset();
update private.vies_answers set answered_at = now() - interval '24 hours' where number = 'BE0999999997';
select tests.act_as('anna');
select is(private.check_btw('BE0999999997') ->> 'outcome', 'unasked', 'for a day');
select tests.reset();
select tests.end_old('vies_answers', now() + interval '1 second');
select ok(not exists (select from private.vies_answers where number = 'BE0999999997'), 'after which it goes');
insert into private.installation (key, value) values ('vies_mode', '"offline"') on conflict (key) do update set value = excluded.value;
select tests.act_as('anna');
select is(private.check_btw('BE0999999995'), '{"number": "BE0999999995", "outcome": "valid"}', 'offline the form and check digits decide');
select is(api.validate_btw_number('{"body": {"btwNumber": "BE0999999995"}, "answer": {"outcome": "offline"}}'), '{"isValid": true}', 'also where the server says so');
select tests.reset();
select ok(not exists (select from private.vies_answers where number = 'BE0999999995'), 'which is no answer of VIES');

select * from finish();
rollback;
