-- Exports of a person's data: who asks for, reads and opens one; how the worker takes, loses and ends one.
begin;
select no_plan();
-- Anna owns an organization, Ben is a member of it, Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');

select tests.act_as('anna');
select throws_ok(format($$ select api.request_data_export('{"body": %s}') $$, b), 'PT400', m, 'a request with ' || b)
from (values ('{}', 'The type must be one of full, selective.'), ('{"type": "half"}', 'The type must be one of full, selective.'),
  ('{"type": "selective"}', 'Choose at least one of profile, settings, activity, contexts, integrations.'),
  ('{"type": "selective", "categories": ["all"]}', 'Choose at least one of profile, settings, activity, contexts, integrations.')) t (b, m);
select throws_ok($$ select api.request_data_export('{}') $$, 'PT400', null, 'a request without a body');
select unnest(array[is(e -> 'categories', '["settings", "contexts"]', 'the known categories, in order'), is(e ->> 'status', 'pending', 'it waits'),
  is(e ? 'fileUrl', false, 'without a file')]) from (select api.request_data_export('{"body": {"type": "selective", "categories": ["contexts", "no", "settings", "contexts"]}}') as e) x;
select api.list_data_exports('{}') -> 0 ->> 'id' as export \gset
select throws_ok($$ select api.request_data_export('{"body": {"type": "full"}}') $$, 'PT409', 'An export of your data is being made. Please wait until it is ready.',
  'one at a time');
select is(api.get_data_export(jsonb_build_object('exportId', :'export'::text)) ->> 'id', :'export', 'she reads hers');
select tests.act_as('ben');
select is(api.list_data_exports('{}'), '[]', 'a member of her organization has none');
select throws_ok(format($$ select api.get_data_export('{"exportId": "%s"}') $$, :'export'), 'PT404', format('Export with ID %s not found', :'export'), 'nor reads hers');
select throws_ok($$ select api.get_data_export('{}') $$, 'PT404', null, 'nor one without an id');
select tests.act_as('stan');
select throws_ok(format($$ select api.get_data_export('{"exportId": "%s"}') $$, :'export'), 'PT404', format('Export with ID %s not found', :'export'), 'a stranger neither');
select tests.act_anon();
select throws_ok(format('select api.%s(''{}'')', f), '42501', null, 'no anonymous caller calls ' || f)
from unnest(array['request_data_export', 'list_data_exports', 'get_data_export', 'list_data_categories', 'export_my_data']) f;
select tests.act_service();
select throws_ok(format('select api.%s(''{}'')', f), '42501', null, 'the service does not call ' || f)
from unnest(array['request_data_export', 'list_data_exports', 'get_data_export', 'list_data_categories', 'export_my_data']) f;
select tests.act_as('anna');
select throws_ok(format('select * from private.%I', t), '42501', null, 'no person reads ' || t) from unnest(array['data_exports', 'data_export_key']) t;
select throws_ok(format('select private.%s', f), '42501', null, 'no person calls ' || f)
from unnest(array['take_data_export(''{}'')', 'data_counts(null)', 'data_statement(null, null)', 'claim_data_export(null, null, 1, null)',
  'data_export_page(null, null, null, null)', 'data_export_files(null, null, null, null)', 'finish_data_export(null, null, null, 1)',
  'release_data_export(null, null, true)', 'hold_data_exports(null, 1)', 'sweep_data_exports()']) f;
-- A key opens none of it.
select set_config('app.api_key_id', gen_random_uuid()::text, true), set_config('app.api_key_scope', 'admin', true);
select throws_ok(format('select api.%s(''{"body": {"type": "full"}}'')', f), 'PT403', 'This cannot be done with an API key. Please sign in.', 'no key calls ' || f)
from unnest(array['request_data_export', 'list_data_exports', 'get_data_export', 'list_data_categories', 'export_my_data']) f;
select set_config('app.api_key_id', '', true), set_config('app.api_key_scope', '', true);

-- ---------------------------------------------------------------------------------------------------------------------- the worker
select tests.reset();
select gen_random_uuid() as one, gen_random_uuid() as two \gset
select is(jsonb_array_length(private.claim_data_export(:'export', :'one', 15, 'aa/key-of-the-first') -> 'tables'),
  (select count(*)::integer from private.data_catalogue() where category in ('settings', 'contexts')), 'the first worker gets the tables of the categories');
select is(private.claim_data_export(:'export', :'two', 15, 'aa/key-of-the-second'), null, 'a second one gets nothing while the first lives');
select is(array(select private.hold_data_exports(array[:'one', :'two']::uuid[], 15)), array[:'one']::uuid[], 'one of them holds it');
select throws_ok(format($$ select private.data_export_page(%L, %L, 'public.projects', null) $$, :'export', :'two'), 'PT409', null, 'the other reads nothing');
select throws_ok(format($$ select private.data_export_files(%L, %L, 'contexts', null) $$, :'export', :'two'), 'PT409', null, 'and no file');
select unnest(array[is(private.finish_data_export(:'export', :'two', 'aa/key-of-the-second', 5), false, 'and ends nothing'),
  is(private.release_data_export(:'export', :'two', true), false, 'and gives nothing back')]);
update private.data_exports set lease_expires_at = clock_timestamp() - interval '1 second' where id = :'export';
select cmp_ok(private.sweep_data_exports(clock_timestamp()), '>=', 0, 'what lost its worker is enqueued, unless its job waits');
select isnt(private.claim_data_export(:'export', :'two', 15, 'aa/key-of-the-second'), null, 'the second takes it over');
select is((select count(*)::integer from jobs.stored_jobs where job_type = 'blobs.delete' and convert_from(args, 'UTF8') like '%aa/key-of-the-first%'), 1,
  'what the first wrote is deleted');
select is(private.finish_data_export(:'export', :'one', 'aa/key-of-the-first', 5), false, 'the first ends nothing any more');
select is(private.unreferenced_blobs(array['aa/key-of-the-first', 'aa/key-of-the-second']), array['aa/key-of-the-first'], 'the content of the second is in use');
select is(private.release_data_export(:'export', :'two', false), true, 'handed back at a shutdown');
select is((select attempts::integer from private.data_exports where id = :'export'), 1, 'that does not count as an attempt');
select isnt(private.claim_data_export(:'export', :'two', 15, 'aa/key-of-the-third'), null, 'so it is taken at once');
select unnest(array[is(private.finish_data_export(:'export', :'two', 'aa/key-of-the-third', 5), true, 'it ends'),
  is(private.finish_data_export(:'export', :'two', 'aa/key-of-the-third', 5), true, 'a repeated call says the same')]);
select is((select count(*)::integer from public.notifications n join public.users u on u.id = n.user_id
  where u.id = tests.user('anna') and n.type = 'task_completion' and n.link = '/' and n.data ->> 'exportId' = :'export'), 1, 'she is notified once');
select is((select count(*)::integer from public.audit_log a where a.event_type = 'system.export_completed' and a.user_id = tests.user('anna')), 1, 'the trail has a line');
select is((select count(*)::integer from private.event_inbox where type = 'resource_changed' and data ->> 'resource' = 'data_export' and data ->> 'id' = :'export'), 1, 'one event');

-- ------------------------------------------------------------------------------------------------------------------------ the link
select tests.act_as('anna');
select api.get_data_export(jsonb_build_object('exportId', :'export'::text)) ->> 'fileUrl' as url \gset
select is(api.get_data_export(jsonb_build_object('exportId', :'export'::text)) ->> 'status', 'ready', 'it is ready');
select tests.reset();
select split_part(:'url', 'token=', 2) as token \gset
select matches(:'token'::text, '^[A-Za-z0-9_-]{43}$', '256 bits');
select is(private.take_data_export(jsonb_build_object('exportId', :'export'::text, 'token', :'token'::text)) ->> 'key', 'aa/key-of-the-third', 'the link opens the file');
select throws_ok(format('select private.take_data_export(%L)', p), 'PT404', 'This link is not valid any more. Links to exports work for 24 hours.', 'not ' || what)
from (values ('without a token', jsonb_build_object('exportId', :'export'::text)), ('with an empty one', jsonb_build_object('exportId', :'export'::text, 'token', '')),
  ('with another one', jsonb_build_object('exportId', :'export'::text, 'token', reverse(:'token'::text))), ('with another id', jsonb_build_object('exportId', gen_random_uuid(), 'token', :'token'::text)),
  ('with a list', jsonb_build_object('exportId', :'export'::text, 'token', '[]'::jsonb)), ('at all', '{}')) t (what, p);
update private.data_exports set expires_at = expires_at + interval '1 day' where id = :'export';
select throws_ok(format('select private.take_data_export(%L)', jsonb_build_object('exportId', :'export'::text, 'token', :'token'::text)), 'PT404', null, 'the signature covers the end');
update private.data_exports set expires_at = clock_timestamp() - interval '1 second' where id = :'export';
select tests.act_as('anna');
select unnest(array[is(e ->> 'status', 'expired', 'at its end it is expired, before any sweep'), is(e ? 'fileUrl', false, 'and has no link')])
from (select api.get_data_export(jsonb_build_object('exportId', :'export'::text)) as e) x;
select tests.reset();
select private.sweep_data_exports();
select unnest(array[is(status, 'expired', 'the sweep says so'), is(storage_key, null, 'and drops the file')]) from private.data_exports where id = :'export';
select is((select count(*)::integer from jobs.stored_jobs where job_type = 'blobs.delete' and convert_from(args, 'UTF8') like '%aa/key-of-the-third%'), 1, 'by a job');
select unnest(array[is(private.end_old(r, now() + interval '89 days', 100), 0::bigint, 'the row is kept for 90 days'),
  is(private.end_old(r, now() + interval '91 days', 100), 1::bigint, 'and no longer')]) from private.retention_rules r where r.name = 'data_exports';

-- --------------------------------------------------------------------------------------------------------------- failure and limits
select tests.act_as('anna');
select api.request_data_export('{"body": {"type": "full", "categories": ["profile"]}}') -> 'categories' as categories \gset
select api.list_data_exports('{}') -> 0 ->> 'id' as export \gset
select is(:'categories'::jsonb, '["profile", "settings", "activity", "contexts", "integrations"]', 'full is all five');
select tests.reset();
create function pg_temp.fail(p_id uuid) returns text language plpgsql as $$
declare
  v uuid := gen_random_uuid();
begin
  update private.data_exports set lease_expires_at = null where id = p_id;
  perform private.claim_data_export(p_id, v, 15, 'aa/key-of-' || v);
  perform private.release_data_export(p_id, v, true);
  return (select status || case when lease_expires_at > clock_timestamp() + interval '15 seconds' then ' later' else '' end from private.data_exports where id = p_id);
end $$;
select unnest(array[is(pg_temp.fail(:'export'), 'processing later', 'the first failure'), is(pg_temp.fail(:'export'), 'processing later', 'the second'),
  is(pg_temp.fail(:'export'), 'failed', 'the third is the last')]);
select is((select title from public.notifications where data ->> 'exportId' = :'export'), 'Your data export failed', 'she is told');
select is((select count(*)::integer from jobs.stored_jobs where job_type = 'mail.send'), 0, 'not by mail');
insert into private.data_exports (user_id, type, categories, status, requested_at)
select tests.user('anna'), 'full', array['profile'], 'failed', now() - interval '1 hour' from generate_series(1, 4);
select tests.act_as('anna');
select throws_ok($$ select api.request_data_export('{"body": {"type": "full"}}') $$, 'PT429', 'You can ask for 5 exports in 24 hours. Please try again later.', 'five a day');
select tests.act_as('ben');
select is(api.request_data_export('{"body": {"type": "full"}}') ->> 'status', 'pending', 'each person has their own five');
-- A worker that dies three times ends it as well.
select tests.reset();
update private.data_exports set status = 'processing', attempts = 3, lease_owner = gen_random_uuid(), lease_expires_at = now() - interval '1 second' where user_id = tests.user('ben');
select is(private.claim_data_export(id, gen_random_uuid(), 15, 'aa/key-of-the-fourth'), null, 'a fourth worker gets nothing') from private.data_exports where user_id = tests.user('ben');
select is((select status from private.data_exports where user_id = tests.user('ben')), 'failed', 'and it failed');

-- ---------------------------------------------------------------------------------------------------------------------- without a file
select tests.act_as('stan');
select is(c -> 0 ->> 'category' || ' ' || (c -> 0 ->> 'table') || ' ' || (c -> 0 ->> 'recordCount'), 'Profile users 1', 'the account is first')
from (select api.list_data_categories('{}') as c) x;
select is((select jsonb_object_agg(c ->> 'table', c -> 'recordCount') from jsonb_array_elements(api.list_data_categories('{}')) c),
  (select jsonb_object_agg(d.key, d.value -> 'recordCount') from jsonb_each(api.export_my_data('{}') -> 'data') d), 'the counts are those of the records');
select is(api.export_my_data('{}') -> 'data' -> 'users' -> 'records' -> 0 ->> 'id', tests.user('stan')::text, 'his account');
select tests.act_as_claims('stan');
select throws_ok($$ select api.export_my_data('{}') $$, 'PT403', 'Exports of your data are made through the API.', 'only through the server, which writes the trail')
where private.is_stranger();
select tests.reset();
select is(private.without_addresses('To ben@example.nl, anna@example.nl and <x.y@z.example.org>.', 'anna@example.nl'), 'To (address), anna@example.nl and <(address)>.',
  'addresses of others are hidden');

select * from finish();
rollback;
