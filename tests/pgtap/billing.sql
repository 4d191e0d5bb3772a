-- Plans, the subscription and billing details, by actor: the rules hold for psql and Supabase's API as they do over HTTP.
begin;
select no_plan();
-- Anna owns an organization, Ada is an admin of it, Ben a member, Vera a viewer, Stan a stranger.
select tests.user('anna'), tests.member('ada', 'anna', 'admin'), tests.member('ben', 'anna'), tests.member('vera', 'anna', 'viewer'), tests.user('stan');
create role tests_gateway noinherit;
grant anon, authenticated, service_role to tests_gateway;

-- ---------------------------------------------------------------------------------------------------------------------------- plans
select tests.act_anon();
select is((select jsonb_agg(e -> 'id') from jsonb_array_elements(api.list_plans('{}')) e), '["free", "pro", "teams", "enterprise"]', 'the plans are public, in their order');
select is(e - array['features', 'description'], w::jsonb, 'the plan ' || (e ->> 'name')) from jsonb_array_elements(api.list_plans('{}')) with ordinality p (e, n)
join unnest(array[
  '{"id": "free", "name": "Free", "price": 0, "limits": {"apiCalls": 1000, "ingestions": 50, "storageGb": 1, "seats": 1, "oracleQueries": 10}}',
  '{"id": "pro", "name": "Pro", "price": 29, "annualPrice": 24, "isPopular": true, "limits": {"apiCalls": 10000, "ingestions": 500, "storageGb": 25, "seats": 3, "oracleQueries": 100}}',
  '{"id": "teams", "name": "Teams", "price": 79, "annualPrice": 66, "limits": {"apiCalls": 50000, "ingestions": 2500, "storageGb": 100, "seats": 10, "oracleQueries": -1}}',
  '{"id": "enterprise", "name": "Enterprise", "price": -1, "limits": {"apiCalls": -1, "ingestions": -1, "storageGb": -1, "seats": -1, "oracleQueries": -1}}'
]) with ordinality w (w, n) using (n);
select throws_ok($$ select api.get_subscription('{}') $$, '42501', null, 'nothing else is');
select throws_ok($$ select api.list_usage('{}') $$, '42501', null, 'no usage');
select throws_ok($$ select api.get_billing_details('{}') $$, '42501', null, 'no details');
select throws_ok($$ select * from public.billing_details $$, '42501', null, 'nor their rows');

-- --------------------------------------------------------------------------------------------------------------------- subscription
select tests.act_as('vera');
select is(api.get_subscription('{}') - array['id', 'userId', 'currentPeriodStart', 'currentPeriodEnd', 'createdAt', 'updatedAt'],
  '{"planId": "free", "status": "active", "billingInterval": "monthly", "cancelAtPeriodEnd": false}', 'any member reads the subscription');
select is(api.get_subscription('{}') ->> 'userId', tests.user('anna')::text, 'which carries the owner');
select is(api.get_subscription('{}') ->> 'currentPeriodStart', to_char(date_trunc('month', now() at time zone 'UTC'), 'YYYY-MM-01"T"00:00:00.000Z"'), 'and the calendar month');
select throws_ok($$ update public.subscriptions set status = 'active' $$, '42501', null, 'none of them writes it');
select tests.reset();
select is(private.subscription_json(s, m.at::timestamptz) ->> 'currentPeriodStart' || ' ' || (private.subscription_json(s, m.at::timestamptz) ->> 'currentPeriodEnd'), m.period, 'at ' || m.at)
from public.subscriptions s, (values
  ('2026-01-01 00:00:00+00', '2026-01-01T00:00:00.000Z 2026-02-01T00:00:00.000Z'), ('2026-02-28 23:59:59+00', '2026-02-01T00:00:00.000Z 2026-03-01T00:00:00.000Z'),
  ('2026-12-31 23:59:59.999+00', '2026-12-01T00:00:00.000Z 2027-01-01T00:00:00.000Z'), ('2027-01-01 00:30:00+01', '2026-12-01T00:00:00.000Z 2027-01-01T00:00:00.000Z')) m (at, period)
where s.organization_id = tests.org('anna');
update public.subscriptions set plan_id = 'teams', billing_interval = 'annually', stripe_subscription_id = 'sub_1', current_period_start = '2026-03-15', current_period_end = '2027-03-15',
  cancel_at_period_end = true, trial_end = '2026-04-01', pending_plan_id = 'pro', pending_billing_interval = 'monthly' where organization_id = tests.org('anna');
select tests.act_as('ben');
select is(api.get_subscription('{}') - array['id', 'userId', 'createdAt', 'updatedAt'], '{"planId": "teams", "status": "active", "billingInterval": "annually",
  "stripeSubscriptionId": "sub_1", "currentPeriodStart": "2026-03-15T00:00:00.000Z", "currentPeriodEnd": "2027-03-15T00:00:00.000Z", "cancelAtPeriodEnd": true,
  "trialEnd": "2026-04-01T00:00:00.000Z", "pendingPlanId": "pro", "pendingBillingInterval": "monthly"}', 'a paid one has its own period');
select tests.reset();
select is((select changes from public.audit_log where organization_id = tests.org('anna') and event_type = 'system.plan_changed'),
  '[{"field": "planId", "oldValue": "free", "newValue": "teams"}]', 'another plan is in the audit log');
select is((select count(*) from private.event_inbox where type = 'resource_changed' and data ->> 'resource' = 'subscription' and data -> 'changedFields' ? 'cancelAtPeriodEnd'
  and organization_id = tests.org('anna')), 1::bigint, 'and told to the organization');
update public.subscriptions set plan_id = 'free', status = 'canceled' where organization_id = tests.org('anna');
select tests.act_as('anna');
select is(api.get_subscription('{}') - array['id', 'userId', 'currentPeriodStart', 'currentPeriodEnd', 'createdAt', 'updatedAt'],
  '{"planId": "free", "status": "canceled", "billingInterval": "monthly", "cancelAtPeriodEnd": false}', 'one that ended has no flags and no number at the provider');
select tests.reset();
select throws_ok(format('update public.subscriptions set %s where organization_id = %L', change, tests.org('anna')), '23514', null, change || ' is no subscription') from unnest(array[
  $$billing_interval = 'annually'$$, $$cancel_at_period_end = true$$, $$stripe_subscription_id = 'sub_2'$$, $$plan_id = 'pro', billing_interval = 'weekly'$$,
  $$plan_id = 'pro', pending_plan_id = 'free'$$, $$plan_id = 'pro', current_period_start = now()$$, $$plan_id = 'pro', current_period_start = '2026-02-01', current_period_end = '2026-01-01'$$]) change;
update public.subscriptions set plan_id = 'pro', stripe_subscription_id = 'sub_1' where organization_id = tests.org('anna');
select throws_ok(format($$ update public.subscriptions set plan_id = 'pro', stripe_subscription_id = 'sub_1' where organization_id = %L $$, tests.org('stan')), '23505', null,
  'two organizations have no subscription at the provider in common');

-- The state machine: of all ways from one state to another a request takes those of the table; who acts for no user takes any.
create function pg_temp.goes(p_from jsonb, p_to jsonb, p_as text) returns text
language plpgsql
as $$
begin
  perform tests.reset();
  update public.subscriptions set plan_id = p_from ->> 0, status = p_from ->> 1 where organization_id = tests.org('anna');
  if p_as is not null then
    perform set_config('app.user_id', tests.user(p_as)::text, true), set_config('app.org_id', tests.org(p_as)::text, true);
  end if;
  update public.subscriptions set plan_id = p_to ->> 0, status = p_to ->> 1 where organization_id = tests.org('anna');
  perform tests.reset();
  return 'goes';
exception when sqlstate 'PT409' then
  return sqlerrm;
end
$$;
create temp table states as select jsonb_build_array(p, s) as state from unnest(array['free', 'pro', 'teams']) p, unnest(array['active', 'trialing', 'past_due', 'incomplete', 'canceled']) s
where p <> 'free' or s in ('active', 'canceled');
select is((select count(*) from states f, states t where f.state <> t.state and pg_temp.goes(f.state, t.state, null) <> 'goes'), 0::bigint, 'the provider takes every way');
select is((select jsonb_object_agg(f.state ->> 0 || ' ' || (f.state ->> 1), w.ways) from states f, lateral (
    select string_agg(t.state ->> 0 || ' ' || (t.state ->> 1), ', ' order by t.state) as ways from states t where t.state <> f.state and pg_temp.goes(f.state, t.state, 'anna') = 'goes') w
  where f.state ->> 0 in ('free', 'pro')),
  '{"free active": "pro active, pro incomplete, pro trialing, teams active, teams incomplete, teams trialing", "free canceled": "pro active, pro incomplete, pro trialing, teams active, teams incomplete, teams trialing",
    "pro active": "free canceled, pro past_due, teams active, teams past_due", "pro trialing": "free canceled, pro active, pro past_due, teams active, teams past_due",
    "pro past_due": "free canceled, pro active, teams active", "pro incomplete": "free canceled, pro active, teams active", "pro canceled": null}', 'a request those of the contract');
select is(pg_temp.goes('["free", "active"]', '["pro", "past_due"]', 'anna'), 'A subscription that is active on free cannot become past_due on pro.', 'others are refused in words');

-- --------------------------------------------------------------------------------------------------------------------- billing details
select tests.act_as('anna');
select is(api.get_billing_details('{}') - 'updatedAt', jsonb_build_object('userId', tests.user('anna'), 'country', 'NL'), 'a new organization is in the Netherlands, and no more');
create function pg_temp.answer(p_who text, p_call text) returns text
language plpgsql
as $$
begin
  perform tests.act_as(p_who);
  return tests.refusal(p_call) ->> 'code';
end
$$;
grant execute on all functions in schema pg_temp to public;
select is(pg_temp.answer(who, call), 'FORBIDDEN', who || ': ' || call) from unnest(array['ada', 'ben', 'vera']) who, unnest(array[
  $$ select api.get_billing_details('{}') $$, $$ select api.update_billing_details('{"body": {"city": "Utrecht"}}') $$, $$ select api.validate_btw_number('{"body": {"btwNumber": "NL004495445B01"}}') $$,
  $$ select api.preview_subscription('{"body": {"planId": "pro"}}') $$]) call;
select tests.act_as('ada');
select is((select count(*) from public.billing_details), 0::bigint, 'no other member reads the row');
with w as (update public.billing_details set city = 'Utrecht' returning 1) select is((select count(*) from w), 0::bigint, 'or writes it');
select tests.act_as('stan');
select is((select count(*) from public.billing_details), 1::bigint, 'a stranger has one of his own');
select is(api.update_billing_details('{"body": {"city": "Gent", "country": "be"}}') ->> 'city', 'Gent', 'which he changes');
select tests.act_service();
select throws_ok($$ select api.get_billing_details('{}') $$, '42501', null, 'the service has none');
select tests.act_as('anna');
select ok(api.get_billing_details('{}') ->> 'city' is null, 'and not another''s');
select throws_ok($$ update public.billing_details set btw_status = 'valid' $$, '42501', null, 'what VIES said is not for the owner to write');
select throws_ok($$ insert into public.billing_details (organization_id) values (gen_random_uuid()) $$, '42501', null, 'nor a second row');
select throws_ok($$ delete from public.billing_details $$, '42501', null, 'nor is one deleted');

create function pg_temp.patch(p_body jsonb) returns jsonb
language sql
as $$ select api.update_billing_details(jsonb_build_object('body', p_body)) - array['userId', 'updatedAt'] $$;
create function pg_temp.refused(p_body jsonb) returns text
language sql
as $$ select r ->> 'status' || ' ' || (r ->> 'field') || ': ' || (r ->> 'message') from tests.refusal(format('select pg_temp.patch(%L)', p_body)) r $$;
grant execute on all functions in schema pg_temp to public;
select is(pg_temp.patch('{"companyName": " Anna BV ", "btwNumber": "nl 0044.95.445-b01", "kvkNumber": "12345678", "addressLine1": "Dam 1", "addressLine2": "x", "city": "Amsterdam", "postalCode": "1012jl"}'),
  '{"companyName": "Anna BV", "btwNumber": "NL004495445B01", "kvkNumber": "12345678", "addressLine1": "Dam 1", "addressLine2": "x", "city": "Amsterdam", "postalCode": "1012 JL", "country": "NL"}',
  'values are stored in one form');
select is(pg_temp.patch('{"addressLine2": "", "city": null}') ?| array['addressLine2', 'city'], false, 'blank clears');
select is(pg_temp.patch('{}') ->> 'companyName', 'Anna BV', 'what is not sent stays');
select is(pg_temp.refused(body::jsonb), answer, body) from (values
  ('{"kvkNumber": "1234567"}', '400 kvkNumber: kvkNumber must be 8 digits.'), ('{"kvkNumber": "1234567a"}', '400 kvkNumber: kvkNumber must be 8 digits.'),
  ('{"kvkNumber": "١٢٣٤٥٦٧٨"}', '400 kvkNumber: kvkNumber must be 8 digits.'), ('{"kvkNumber": "123456789"}', '400 kvkNumber: kvkNumber must be 8 digits.'),
  ('{"postalCode": "1012"}', '400 postalCode: A Dutch postal code has four digits and two letters, such as 1234 AB.'),
  ('{"postalCode": "1012  JL"}', '400 postalCode: A Dutch postal code has four digits and two letters, such as 1234 AB.'),
  ('{"btwNumber": "NL00449544"}', '400 btwNumber: btwNumber does not have the form of a BTW number, such as NL004495445B01.'),
  ('{"country": "XX"}', '400 country: country is the two-letter code of a country, such as NL.'), ('{"country": ""}', '400 country: country is the two-letter code of a country, such as NL.'),
  ('{"country": "Netherlands"}', '400 country: country is the two-letter code of a country, such as NL.'), ('{"companyName": "a\u0007b"}', '400 companyName: companyName has a value that is not allowed here.'),
  ('{"country": "EL"}', '400 country: country is the two-letter code of a country, such as NL.'), ('{"vatNumber": "x"}', '400 vatNumber: vatNumber is not a known field.'),
  ('{"userId": "x"}', '400 userId: userId is not a known field.')) c (body, answer);
select is(pg_temp.refused(jsonb_build_object(field, repeat('x', most + 1))), format('400 %1$s: %1$s has a value that is not allowed here.', field), field || ' has a length') from (values
  ('companyName', 255), ('addressLine1', 255), ('addressLine2', 255), ('city', 100)) c (field, most);
select is(pg_temp.patch('{}') - array['addressLine2', 'city'], '{"companyName": "Anna BV", "btwNumber": "NL004495445B01", "kvkNumber": "12345678", "addressLine1": "Dam 1", "postalCode": "1012 JL",
  "country": "NL"}', 'each of them left the stored values');
select is(pg_temp.patch('{"country": "de", "postalCode": "D-10117 Berlin"}') ->> 'postalCode', 'D-10117 Berlin', 'codes of other countries are free');
select is(pg_temp.refused('{"country": "NL"}') , '400 postalCode: A Dutch postal code has four digits and two letters, such as 1234 AB.', 'until the country is the Netherlands again');
select is(pg_temp.patch('{"country": "NL", "postalCode": "1012 jl"}') ->> 'postalCode', '1012 JL', 'with a code of theirs');
select is(pg_temp.patch('{"btwNumber": "NL123456789B01"}') ->> 'btwNumber', 'NL123456789B01', 'a number is saved by its form alone');

-- The owner's own statement meets the same rules.
with w as (update public.billing_details set postal_code = '1013ab', kvk_number = '87654321' returning postal_code) select is((select postal_code from w), '1013 AB', 'a row that is written past the operation is stored alike');
select is(tests.refusal($$ update public.billing_details set kvk_number = 'x' $$) ->> 'field', 'kvkNumber', 'or refused alike');
select is(tests.refusal($$ update public.billing_details set postal_code = repeat('1', 21), country = 'DE' $$) ->> 'field', 'postalCode', 'within the lengths of the row');

-- An unchanged value writes nothing: the form saves the whole time.
select tests.reset();
create temp table before as select ctid as place from public.billing_details where organization_id = tests.org('anna');
select tests.act_as('anna');
select pg_temp.patch('{"city": "", "companyName": "Anna BV"}');
select tests.reset();
select is((select d.ctid from public.billing_details d where organization_id = tests.org('anna')), (select place from before), 'an unchanged row is not written again');
select is((select count(*) from public.audit_log where organization_id = tests.org('anna') and description ilike '%billing%'), 0::bigint, 'and keystrokes do not fill the audit log');

-- ------------------------------------------------------------------------------------------------------------ past the server
set session authorization tests_gateway;
select tests.act_as_claims('anna');
select private.enter_claims();
select is(api.validate_btw_number('{"body": {"btwNumber": "NL123"}}') ->> 'isValid', 'false', 'form and check digits are looked at past the server too');
select is(tests.refusal($$ select api.validate_btw_number('{"body": {"btwNumber": "NL000099998B57"}}') $$) ->> 'message', 'VIES is asked through the API.', 'VIES is not');
select is(tests.refusal(format('select api.%I(%L)', f, '{"body": {"btwNumber": "BE0123456789", "planId": "pro", "country": "BE"}, "answer": {"outcome": "valid"}}')) ->> 'code', 'FORBIDDEN',
  'and ' || f || ' takes no answer of VIES from there') from unnest(array['validate_btw_number', 'preview_subscription']) f;
select throws_ok($$ select private.note_btw_status('{"outcome": "valid", "number": "NL123456789B01"}', null) $$, '42501', null, 'nor does the stored state');
select is(api.preview_subscription('{"body": {"planId": "pro", "country": "BE", "btwNumber": "BE0123456789"}}') ->> 'treatment', 'eu_b2c', 'a number that VIES was not asked about is not valid');
reset session authorization;

select * from finish();
rollback;
