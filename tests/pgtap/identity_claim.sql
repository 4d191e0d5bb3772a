-- A claimed account, as the database pauses it: who may call it, whose organizations it reaches, and what it counts.
begin;
select no_plan();
-- Stan registered an address that is not his. He owns two organizations; Anna and Ben are colleagues in one. He is an admin of Anna's.
select tests.user('anna'), tests.member('ben', 'stan'), tests.user('cas');
select tests.user('stan') as stan, tests.org('stan') as org, tests.user('anna') as anna, tests.org('anna') as annas \gset
update public.users set email_verified_at = null where id = :'stan';
select private.create_organization('Second', :'stan') as second \gset
insert into public.memberships (organization_id, user_id, role) values (:'annas', :'stan', 'admin'), (:'second', :'anna', 'member');

select ok(not has_function_privilege(r, p.oid, 'execute'), r || ' may not call ' || p.proname)
from pg_proc p cross join unnest(array['anon', 'authenticated', 'service_role', 'kijko_server', 'kijko_worker']) r
where p.pronamespace = 'private'::regnamespace and p.proname in ('claim_account', 'pause_people', 'pause_connections', 'revoke_integration');
select tests.act_as('stan');
select throws_ok(format('select private.claim_account(%L, now())', :'stan'), '42501', null, 'the registrant does not call it');
select tests.act_as('anna');
select throws_ok(format('select private.claim_account(%L, now())', :'stan'), '42501', null, 'nor does a colleague');
select tests.act_anon();
select throws_ok(format('select private.claim_account(%L, now())', :'stan'), '42501', null, 'nor does an anonymous caller');
select tests.act_service();
select throws_ok(format('select private.claim_account(%L, now())', :'stan'), '42501', null, 'nor does the service');
select tests.reset();

-- A webhook in each organization, one of them made by Stan in Anna's.
insert into public.webhooks (id, organization_id, created_by, name, endpoint_url, secret_end, events)
select gen_random_uuid(), o, :'stan', 'Hook', 'https://hooks.invalid', '1234', '{lead.created}' from unnest(array[:'org', :'second', :'annas']::uuid[]) o;
insert into public.skills (user_id, organization_id, name, prompt_template) values (:'stan', :'annas', 'Skill', 'Tell me what is new.') returning id as skill \gset
insert into public.habits (user_id, organization_id, skill_id, schedule_cron, timezone, config) values (:'stan', :'annas', :'skill', '0 9 * * *', 'UTC', '{}');

select private.claim_account(:'stan', now());
select results_eq('select o.name, w.status from public.webhooks w join public.organizations o on o.id = w.organization_id order by o.name',
  $$values ('Anna''s workspace', 'active'), ('Second', 'paused'), ('Stan''s workspace', 'paused')$$, 'webhooks of the organizations that he owned, and no others');
select results_eq('select m.status, count(*) from public.memberships m join public.organizations o on o.id = m.organization_id where m.user_id in (tests.user(''anna''), tests.user(''ben'')) and o.id in (tests.org(''anna''), tests.org(''stan''), (select id from public.organizations where name = ''Second'')) group by 1 order by 1',
  $$values ('active', 1::bigint), ('inactive', 2)$$, 'his colleagues are deactivated, Anna stays the owner of hers');
select is((select m.status from public.memberships m where m.user_id = :'stan' and m.organization_id = :'annas'), 'active', 'a membership elsewhere is for its owner to decide');
select is((select count(*) from public.habits where is_active), 0::bigint, 'what acts for the person stops in every organization');
select is((select u.default_organization_id from public.users u where u.id = :'stan'), :'org'::uuid, 'the default organization stays, since it is the person''s own');
select results_eq('select a.metadata ->> ''webhooks'', count(*) from public.audit_log a where a.event_type = ''security.account_claimed'' group by 1', $$values ('2', 2::bigint)$$, 'an entry in each');
select results_eq('select n.title, n.is_urgent from public.notifications n where n.type = ''security_alert'' and n.title = ''Your account was secured''', $$values ('Your account was secured', true)$$, 'and one alert');
select matches((select n.message from public.notifications n where n.title = 'Your account was secured'), '- 2 webhooks were paused: check their addresses, then activate them in Integrations\.', 'with what is paused and how it is switched on again');
select matches((select n.message from public.notifications n where n.title = 'Your account was secured'), '- You are also a member of "Anna''s workspace"\.', 'and where else the account is a member');

-- A claim of what was claimed does nothing.
update public.webhooks set status = 'active';
select private.claim_account(:'stan', now());
select is((select count(*) from public.webhooks where status = 'active'), 3::bigint, 'a verified account is not claimed again');

select is(private.claim_lines('{"members": 0}'), null, 'nothing counted, nothing told');
select is((select count(*) from string_to_table(private.claim_lines(jsonb_object_agg(k, n)), E'\n')), 15::bigint, 'a line for each kind, ' || n)
from unnest(array['members', 'guests', 'invitations', 'projectInvitations', 'webhooks', 'connectors', 'integrations', 'directories', 'gitConnections', 'providerKeys',
  'chunkingWebhooks', 'habits', 'reflexes', 'reflexSecrets', 'apiKeys']) k, (values (1), (200)) t (n) group by n;
select * from finish();
rollback;
