-- Settings of compression, by actor.
begin;
select no_plan();

-- Anna owns the project; Adam, Mia, Dora, Vic and Ulla are its admin, manager, developer, viewer and auditor; Stan is a stranger.
select tests.user('anna'), tests.user('stan'), tests.member('adam', 'anna'), tests.member('mia', 'anna'), tests.member('dora', 'anna'), tests.member('vic', 'anna'), tests.member('ulla', 'anna');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000c1'::uuid $$;
create function pg_temp.p(p_body text default null) returns jsonb language sql as $$
  select jsonb_build_object('contextId', pg_temp.pid()) || case when p_body is null then '{}' else jsonb_build_object('body', p_body::jsonb) end $$;
create function pg_temp.notified(p_sql text) returns text language sql as $$ select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field', r #>> '{details,required}') from tests.refusal(p_sql) r $$;
create function pg_temp.notified_to(p_name text, p_sql text) returns text language plpgsql as $$ begin perform tests.act_as(p_name); return pg_temp.notified(p_sql); end $$;
create function pg_temp.entries() returns bigint language sql security definer as $$
  select (select count(*) from public.context_changelog where project_id = pg_temp.pid() and type = 'config') + (select count(*) from public.project_activity where project_id = pg_temp.pid() and type = 'config') $$;
grant execute on all functions in schema pg_temp to public;
select tests.act_as('anna');
select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Billing'))) is not null;
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, name, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), u.id, u.email, u.first_name, r, now() from (values ('adam', 'admin'), ('mia', 'manager'), ('dora', 'developer'), ('vic', 'viewer'), ('ulla', 'auditor')) v (n, r)
join public.users u on u.id = tests.user(n);

select tests.act_as('anna');
select is(api.get_compression_settings(pg_temp.p()),
  '{"method": "hypervisa", "preserveStructure": true, "preserveTypes": true, "preserveExports": true, "preserveDocs": false, "optimizationLevel": "medium"}', 'a context begins with the defaults');
select is(api.update_compression_settings(pg_temp.p('{"optimizationLevel": "high", "preserveDocs": true}')),
  '{"method": "hypervisa", "preserveStructure": true, "preserveTypes": true, "preserveExports": true, "preserveDocs": true, "optimizationLevel": "high"}', 'members that are present replace the stored ones');
select is(c.description, 'Updated compression settings: preserveDocs on, optimizationLevel high', 'the changelog says what changed') from public.context_changelog c where c.project_id = pg_temp.pid() and c.type = 'config';
select is(c.user_email, 'anna@example.nl', 'and who changed it') from public.context_changelog c where c.project_id = pg_temp.pid() and c.type = 'config';
select is(a.description, 'updated compression settings', 'the activity as well') from public.project_activity a where a.project_id = pg_temp.pid() and a.type = 'config' and a.description like '%settings';
select pg_temp.entries() as entries \gset
select is(api.update_compression_settings(pg_temp.p(b)), api.get_compression_settings(pg_temp.p()), 'equal values change nothing: ' || coalesce(b, 'no body'))
from (values ('{"optimizationLevel": "high"}'), ('{}'), (null)) v (b);
select is(pg_temp.entries()::integer, :entries, 'and write nothing');

select is(pg_temp.notified(format('select api.update_compression_settings(%L)', pg_temp.p(b))), '400 VALIDATION_ERROR ' || w, b || ' is refused') from (values
  ('{"method": "zip"}', 'method'), ('{"method": 1}', 'method'), ('{"optimizationLevel": "extreme"}', 'optimizationLevel'), ('{"optimizationLevel": null}', 'optimizationLevel'),
  ('{"preserveDocs": "yes"}', 'preserveDocs'), ('{"preserveTypes": 1}', 'preserveTypes'), ('{"level": "low"}', 'level'), ('[]', 'body'), ('"low"', 'body')) v (b, w);
select is(pg_temp.entries()::integer, :entries, 'a refused change writes nothing');

select tests.act_as('adam');
select is(api.update_compression_settings(pg_temp.p('{"method": "standard"}')) ->> 'method', 'standard', 'an admin changes settings');
select is(pg_temp.notified_to(who, format('select api.update_compression_settings(%L)', pg_temp.p('{"method": "hypervisa"}'))), w, who || ' does not') from (values
  ('mia', '403 FORBIDDEN change_settings'), ('dora', '403 FORBIDDEN change_settings'), ('vic', '403 FORBIDDEN change_settings'), ('ulla', '403 FORBIDDEN change_settings'),
  ('stan', '404 CONTEXT_NOT_FOUND')) v (who, w);
select tests.act_as('vic');
select is(api.get_compression_settings(pg_temp.p()) ->> 'method', 'standard', 'a viewer reads them');
select is((select count(*) from public.context_settings), 1::bigint, 'also from the table');
select throws_ok($$ update public.context_settings set settings = '{}' $$, '42501', null, 'which only functions write');
select tests.act_as('ulla');
select is(pg_temp.notified(format('select api.get_compression_settings(%L)', pg_temp.p())), '403 FORBIDDEN read_settings', 'an auditor does not');
select is((select count(*) from public.context_settings), 0::bigint, 'nor from the table');
select tests.act_as('stan');
select is(pg_temp.notified(format('select api.get_compression_settings(%L)', pg_temp.p())), '404 CONTEXT_NOT_FOUND', 'to a stranger the context does not exist');
select is((select count(*) from public.context_settings), 0::bigint, 'nor do its settings');
select tests.act_anon();
select throws_ok($$ select api.get_compression_settings('{}') $$, '42501', null, 'an anonymous caller reads nothing');
select throws_ok($$ select api.update_compression_settings('{}') $$, '42501', null, 'and changes nothing');
select tests.act_service();
select throws_ok($$ select api.get_compression_settings('{}') $$, '42501', null, 'nor does the service');
select tests.reset();

-- The table keeps the rules of 10.4 for every writer.
select is((tests.refusal(format($$ insert into public.context_settings (organization_id, project_id, kind, settings) values (%L, %L, %L, %L) $$, tests.org('anna'), pg_temp.pid(), k, s))) ->> 'sqlstate', '23514',
  k || ' ' || s || ' is no row')
from (values ('colors', '{}'), ('lsp', '[]'), ('compression', '{}'),
  ('compression', '{"method": "zip", "preserveStructure": true, "preserveTypes": true, "preserveExports": true, "preserveDocs": true, "optimizationLevel": "high"}')) v (k, s);
select * from finish();
rollback;
