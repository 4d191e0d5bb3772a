-- What staff see and change, by actor.
begin;
select no_plan();
-- Anna owns an organization, Ben is a member of it, Stan is a stranger, Sue is staff.
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan'), tests.user('sue');
update public.users set is_platform_admin = true where id = tests.user('sue');
update public.organizations set created_at = case id when tests.org('anna') then '2026-01-01'::timestamptz when tests.org('stan') then '2026-01-02' when tests.org('sue') then '2025-01-01' else '2025-06-01' end;
select tests.act_as('anna');
select api.create_project('{"body": {"name": "Hers"}}') -> 'project' ->> 'id' as project \gset

create function pg_temp.answer(p_who text, p_call text) returns text
language plpgsql
as $$
begin
  perform tests.act_as(p_who);
  return tests.refusal(p_call) ->> 'code';
end
$$;
create function pg_temp.change(p_body text, p_who text default 'anna') returns jsonb
language sql
as $$ select api.update_organization(jsonb_build_object('organizationId', tests.org(p_who), 'body', p_body::jsonb)) $$;
grant execute on all functions in schema pg_temp to public;
select is(pg_temp.answer(who, call), 'FORBIDDEN', who || ': ' || call) from unnest(array['anna', 'ben', 'stan']) who, unnest(array[
  $$ select api.list_all_projects('{}') $$, $$ select api.list_all_organizations('{}') $$, $$ select pg_temp.change('{"planId": "enterprise"}') $$]) call;
select tests.act_anon();
select throws_ok($$ select api.list_all_organizations('{}') $$, '42501', null, 'nobody sees them without an account');
select tests.act_service();
select throws_ok($$ select api.update_organization('{}') $$, '42501', null, 'nor does the service');

select tests.act_as('sue');
select is(api.list_all_organizations('{"limit": 2}'), jsonb_build_array(
  jsonb_build_object('id', tests.org('stan'), 'name', 'Stan''s workspace', 'ownerId', tests.user('stan'), 'planId', 'free', 'status', 'active', 'seats', 1, 'createdAt', '2026-01-02T00:00:00.000Z'),
  jsonb_build_object('id', tests.org('anna'), 'name', 'Anna''s workspace', 'ownerId', tests.user('anna'), 'planId', 'free', 'status', 'active', 'seats', 2, 'createdAt', '2026-01-01T00:00:00.000Z')),
  'staff see organizations, the newest first');
select is(api.list_all_organizations('{"limit": 1, "offset": 1}') -> 0 ->> 'name', 'Anna''s workspace', 'page by page');
select is((select string_agg(e ->> 'name', ', ') from jsonb_array_elements(api.list_all_organizations(p::jsonb)) e), found, p) from (values
  ('{"search": " ANNA "}', 'Anna''s workspace'), ('{"search": "%"}', null), ('{"search": "a''s w"}', 'Anna''s workspace'), ('{"search": ""}', 'Stan''s workspace, Anna''s workspace, Ben''s workspace, Sue''s workspace')) c (p, found);
select is((api.list_all_projects('{}') -> 0) - 'createdAt', jsonb_build_object('id', :'project', 'name', 'Hers', 'organizationId', tests.org('anna'), 'status', 'draft'), 'and projects');
select is(jsonb_array_length(api.list_all_projects('{"offset": 1}')), 0, 'page by page');

-- Contracts.
select is(pg_temp.change('{"planId": "enterprise", "limits": {"seats": 40, "ingestions": -1}}') ->> 'planId', 'enterprise', 'a contract');
select is(tests.peek($$ select (private.plan_limit(o, 'seats'), private.plan_limit(o, 'ingestions'), private.plan_limit(o, 'storage'))::text from tests.org('anna') o $$), '(40,-1,-1)', 'with its limits');
select is(pg_temp.change('{"limits": {"seats": null, "storageGb": 5, "apiCalls": 0}}') ->> 'status', 'active', 'which change one by one');
select is(tests.peek($$ select overrides::text from public.subscriptions where organization_id = tests.org('anna') $$), '{"storage": 5, "api_calls": 0, "ingestions": -1}', 'null takes one back');
select is(tests.refusal(format('select pg_temp.change(%L)', body)) - 'message', refusal::jsonb, body) from (values
  ('{"planId": "gold"}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "planId"}'), ('{"limits": {"seats": -2}}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "limits.seats"}'),
  ('{"limits": {"seats": 1.5}}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "limits.seats"}'), ('{"limits": {"storage": 5}}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "limits.storage"}'),
  ('{"limits": {"apiCalls": 1e13}}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "limits.apiCalls"}'), ('{"limits": []}', '{"status": 400, "code": "VALIDATION_ERROR", "field": "limits"}')) c (body, refusal);
select is(tests.refusal($$ select api.update_organization('{"organizationId": "x", "body": {}}') $$) ->> 'code', 'NOT_FOUND', 'of an organization that exists');
select is(pg_temp.change('{}') ->> 'planId', 'enterprise', 'nothing asked, nothing changed');
select is(pg_temp.change('{"planId": "free"}') ->> 'status', 'canceled', 'a contract ends');
select is(tests.peek($$ select overrides::text || ' ' || private.effective_plan(organization_id) from public.subscriptions where organization_id = tests.org('anna') $$), '{} free', 'and its limits with it');
select is(tests.peek($$ select string_agg(coalesce(changes -> 0 ->> 'newValue', ''), '; ' order by created_at) from public.audit_log where organization_id = tests.org('anna')
  and event_type = 'system.plan_changed' and user_id = tests.user('sue') $$), 'enterprise; {"seats": 40, "ingestions": -1}; {"storage": 5, "api_calls": 0, "ingestions": -1}; free; {}',
  'each change is in the audit log of the organization');
select is(pg_temp.change('{"planId": "teams"}') ->> 'status', 'active', 'a canceled one begins again');
select tests.reset();
update public.subscriptions set plan_id = 'pro', stripe_subscription_id = 'sub_1' where organization_id = tests.org('stan');
select tests.act_as('sue');
select is(tests.refusal($$ select pg_temp.change('{"planId": "enterprise"}', 'stan') $$) ->> 'code', 'SUBSCRIPTION_EXISTS', 'a subscription that is paid for is not overwritten');
select is(pg_temp.change('{"planId": "pro", "limits": {"seats": 9}}', 'stan') ->> 'planId', 'pro', 'its limits may be');

select * from finish();
rollback;
