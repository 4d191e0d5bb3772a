-- The registry of MCP servers, and who connects servers for an organization.
begin;
select no_plan();
-- Anna owns an organization, Ada is an admin of it, Ben a member, Vera a viewer, Stan a stranger.
select tests.user('anna'), tests.member('ada', 'anna', 'admin'), tests.member('ben', 'anna'), tests.member('vera', 'anna', 'viewer'), tests.user('stan');
select tests.org('anna') as org, tests.org('stan') as stans \gset
create function pg_temp.p(p_body jsonb) returns jsonb language sql as $$ select jsonb_build_object('id', gen_random_uuid(), 'body', p_body) $$;
create function pg_temp.add(p_name text, p_url text default 'https://mcp.example.nl/mcp', p_sealed text default null) returns uuid language sql as $$
  select (api.create_mcp_server(pg_temp.p(jsonb_build_object('name', p_name, 'url', p_url)) || jsonb_strip_nulls(jsonb_build_object('sealed', p_sealed))) ->> 'id')::uuid $$;
grant execute on all functions in schema pg_temp to public;

-- Seeds.
select tests.act_as('vera');
select is(jsonb_array_length(api.list_registry('{}')), 10, 'ten items are always there');
select is((select jsonb_agg(i -> 'name') from jsonb_array_elements(api.list_registry('{}')) i), '["filesystem", "memory", "github", "postgres", "brave-search", "slack", "linear", "sqlite", "google-drive", "notion"]', 'in their order');
select is((api.list_registry('{}') -> 2) - 'description', '{"id": "github", "name": "github", "vendor": "@modelcontextprotocol", "downloadCount": 2100}', 'with vendor and downloads');
select is(jsonb_array_length(api.list_registry('{"search": "DATABASE"}')), 3, 'the search looks at names and descriptions, case aside');
select is(api.list_registry('{"search": "%"}'), '[]', 'and takes the text as it is');
select is(api.list_registry('{"page": 2, "pageSize": 3}') -> 0 ->> 'id', 'postgres', 'a page');
select is(current_setting('response.headers')::jsonb, '{"X-Total-Count": "10", "X-Has-More": "true"}', 'and how many there are');
select throws_ok($$ insert into public.mcp_registry_items (id, name, description, position) values ('x', 'x', '', 11) $$, '42501', null, 'people do not write it');
select throws_ok($$ select private.store_registry('[]') $$, '42501', null, 'by no function either');

-- What a synchronization stores.
select tests.reset();
select is(private.store_registry(jsonb_build_array(
  jsonb_build_object('name', 'io.github.acme/weather', 'description', E'Weather\nof today\u2028and tomorrow', 'version', '1.2.0', 'homepage', 'https://acme.example/weather', 'remote', 'https://acme.example/mcp'),
  jsonb_build_object('name', 'io.github.acme/weather', 'description', 'Again', 'version', '1.1.0'),
  jsonb_build_object('name', 'nl.example/tool', 'description', repeat('x', 5000), 'version', '', 'homepage', 'javascript:alert(1)', 'remote', 'https://{tenant}.example/mcp'),
  jsonb_build_object('name', 'github', 'description', 'Not the seed'), jsonb_build_object('name', 'alone', 'homepage', 'https://ann:pw@evil.example/'), jsonb_build_object('name', '<script>'), jsonb_build_object('name', null), '{}')),
  3, 'what is usable is stored');
select tests.act_as('anna');
select is(jsonb_path_query_first(api.list_registry('{}'), '$[*] ? (@.id == "io.github.acme/weather")'),
  '{"id": "io.github.acme/weather", "name": "weather", "vendor": "@io.github.acme", "homepage": "https://acme.example/weather", "description": "Weather of today and tomorrow"}', 'name, vendor and home page');
select is(jsonb_path_query_first(api.list_registry('{}'), '$[*] ? (@.id == "nl.example/tool")') - 'description', '{"id": "nl.example/tool", "name": "tool", "vendor": "@nl.example"}', 'no address that a browser would run');
select is(jsonb_path_query_first(api.list_registry('{}'), '$[*] ? (@.id == "alone")'), '{"id": "alone", "name": "alone", "description": ""}', 'nor one with credentials');
select is(api.list_registry('{}') -> 2 ->> 'description', 'Repositories, issues and pull requests on GitHub.', 'a seed stays what it is');
select is(api.list_registry('{}') -> 10 ->> 'id', 'alone', 'seeds come first');
select tests.reset();
select private.store_registry('[{"name": "nl.example/tool", "description": "New"}]');
select results_eq('select id, description from public.mcp_registry_items where position is null', $$values ('nl.example/tool', 'New')$$, 'what the registry does not have any more goes');
select is(private.store_registry('[]'), 0, 'an empty registry');
select is((select count(*) from public.mcp_registry_items), 11::bigint, 'takes nothing away');
select private.store_registry('[{"name": "nl.example/tool", "description": "New", "version": "2.0", "remote": "https://tool.example/mcp"}]');

-- Servers.
select tests.act_as('ben');
select is(tests.refusal($$ select pg_temp.add('Tools') $$) ->> 'code', 'FORBIDDEN', 'a member adds none');
select tests.act_as('vera');
select is(tests.refusal($$ select pg_temp.add('Tools') $$) ->> 'code', 'FORBIDDEN', 'nor does a viewer');
select tests.act_as('ada');
select is(tests.refusal(format('select api.create_mcp_server(pg_temp.p(%L))', body)) ->> 'field', field, body) from (values
  ('{}', 'name'), ('{"name": "  "}', 'name'), (format('{"name": "%s", "url": "https://mcp.example.nl"}', repeat('x', 101)), 'name'), ('{"name": "Tools"}', 'url'), ('{"registryId": "github"}', 'url'),
  ('{"registryId": "unknown"}', 'registryId'), ('{"name": "Tools", "url": "ftp://mcp.example.nl"}', 'url'), ('{"name": "Tools", "url": "https://ann:pw@mcp.example.nl"}', 'url'), ('{"name": "Tools", "url": ""}', 'url')) t (body, field);
select pg_temp.add('  Tools  ', p_sealed => 'v1.00000000.xyz') as tools \gset
select is(api.list_mcp_servers('{}'), jsonb_build_array(jsonb_build_object('id', :'tools', 'name', 'Tools', 'status', 'connecting', 'version', '', 'url', 'https://mcp.example.nl/mcp')), 'an admin adds one, without its headers in the answer');
select is(tests.refusal($$ select pg_temp.add('tOOLS') $$) ->> 'code', 'NAME_TAKEN', 'its name is taken, case aside');
select is(api.create_mcp_server(pg_temp.p('{"registryId": "nl.example/tool"}')) - 'id', '{"name": "tool", "status": "connecting", "version": "v2.0", "registryId": "nl.example/tool", "url": "https://tool.example/mcp"}', 'an item brings its name, address and version');
select lives_ok(format('select api.reconnect_mcp_server(%L)', jsonb_build_object('mcpServerId', :'tools')), 'connecting goes on');
select is((select tests.peek('select count(*) from jobs.gue_jobs where queue = ''registry'''))::bigint, 2::bigint, 'a job each');
select tests.act_as('stan');
select is(api.list_mcp_servers('{}'), '[]', 'a stranger sees none');
select lives_ok($$ select pg_temp.add('Tools') $$, 'and may use the name in another organization');
select is(tests.refusal(format('select api.reconnect_mcp_server(%L)', jsonb_build_object('mcpServerId', :'tools'))) ->> 'code', 'MCP_SERVER_NOT_FOUND', 'he connects none of hers');
select is(tests.refusal(format('select api.delete_mcp_server(%L)', jsonb_build_object('mcpServerId', :'tools'))) ->> 'code', 'MCP_SERVER_NOT_FOUND', 'nor deletes one');
select tests.act_as('ben');
select is(jsonb_array_length(api.list_mcp_servers('{}')), 2, 'a member reads them');
select is(tests.refusal(format('select api.reconnect_mcp_server(%L)', jsonb_build_object('mcpServerId', :'tools'))) ->> 'code', 'FORBIDDEN', 'but does not connect');
select is(tests.refusal(format('select api.delete_mcp_server(%L)', jsonb_build_object('mcpServerId', :'tools'))) ->> 'code', 'FORBIDDEN', 'nor delete');
select throws_ok('select * from private.mcp_server_secrets', '42501', null, 'and never sees headers');
select throws_ok($$ select private.take_registry_work(1, 30) $$, '42501', null, 'nor takes the work of a worker');
select throws_ok($$ select private.finish_mcp_server('{}') $$, '42501', null, 'nor ends it');
select tests.act_anon();
select throws_ok($$ select api.list_registry('{}') $$, '42501', null, 'an anonymous caller reads nothing');
select tests.act_service();
select throws_ok($$ select api.list_mcp_servers('{}') $$, '42501', null, 'nor does the service');

-- Attempts.
select tests.reset();
delete from jobs.gue_jobs where queue = 'registry' and convert_from(args, 'UTF8')::jsonb ->> 'serverId' <> :'tools';
create function pg_temp.take() returns jsonb language plpgsql as $$
declare
  v jsonb;
begin
  update jobs.gue_jobs set run_at = clock_timestamp() - interval '1 second' where queue = 'registry';
  select t into v from private.take_registry_work(1, 30) t;
  return v;
end
$$;
create temp table attempt as select pg_temp.take() as t;
select is((select t - 'token' from attempt), jsonb_build_object('kind', 'server', 'id', :'tools', 'url', 'https://mcp.example.nl/mcp', 'sealed', 'v1.00000000.xyz'), 'a worker takes the server');
select is(pg_temp.take(), null, 'once');
select is(private.finish_mcp_server((select jsonb_build_object('id', t -> 'id', 'token', gen_random_uuid(), 'ok', true) from attempt)), false, 'another worker does not end it');
select is(private.finish_mcp_server((select t || '{"ok": false, "message": "Down."}' from attempt)), true, 'the first attempt fails');
select is((select status from public.mcp_servers where id = :'tools'), 'connecting', 'there are more');
select is((select min(run_at) > clock_timestamp() + interval '1 second' from jobs.gue_jobs where queue = 'registry'), true, 'after a pause');
update attempt set t = pg_temp.take();
update public.mcp_servers set lease_until = now() - interval '1 second' where id = :'tools';
select private.sweep_mcp_servers();
select is(private.finish_mcp_server((select t || '{"ok": true}' from attempt)), false, 'a worker that was away too long has lost it');
update attempt set t = pg_temp.take();
select is(private.finish_mcp_server((select t || '{"ok": false, "message": "Still\ndown."}' from attempt)), true, 'the third attempt fails');
select is((select private.mcp_server_json(s) - 'id' from public.mcp_servers s where id = :'tools'), '{"name": "Tools", "status": "error", "version": "", "url": "https://mcp.example.nl/mcp", "errorMessage": "Still down."}', 'that is an error');
select is(pg_temp.take(), null, 'and the end');
select tests.act_as('anna');
select is(api.reconnect_mcp_server(jsonb_build_object('mcpServerId', :'tools')) -> 'status', '"connecting"', 'until the owner connects it again');
select tests.reset();
update attempt set t = pg_temp.take();
select private.finish_mcp_server((select t || jsonb_build_object('ok', true, 'version', '1.0', 'tools', jsonb_build_array('two', 'one', 'one', '', repeat('x', 201), E'a\nb')) from attempt));
select tests.act_as('vera');
select is(api.list_mcp_tools('{}'), '[{"tool": "Tools.one", "server": "Tools"}, {"tool": "Tools.two", "server": "Tools"}]', 'every member sees the tools');
select is(api.list_mcp_servers('{}') -> 0 ->> 'version', 'v1.0', 'and the version');
select tests.act_as('stan');
select is(api.list_mcp_tools('{}'), '[]', 'a stranger does not');
select tests.act_as('anna');
select api.reconnect_mcp_server(jsonb_build_object('mcpServerId', :'tools'));
select is(jsonb_array_length(api.list_mcp_tools('{}')), 2, 'while it is connected again the tools stay');
select tests.reset();
update attempt set t = pg_temp.take();
select private.finish_mcp_server((select t || '{"ok": false, "message": "Private.", "isFinal": true}' from attempt));
select is((select status from public.mcp_servers where id = :'tools'), 'error', 'a refused address is not tried again');
select is((select count(*) from public.mcp_tools where organization_id = :'org'), 0::bigint, 'and tools of a server that is away go');
update public.mcp_servers set status = 'connecting' where id = :'tools';
select private.take_registry_work(1, 30);
insert into public.mcp_tools (organization_id, server_id, name) values (:'org', :'tools', 'one');
select throws_ok(format('insert into public.mcp_tools (organization_id, server_id, name) values (%L, %L, %L)', :'stans', :'tools', 'two'), '23503', null, 'a tool is of its server''s organization');
select tests.act_as('anna');
select is(api.delete_mcp_server(jsonb_build_object('mcpServerId', :'tools')), null, 'a server is deleted');
select is(api.list_mcp_tools('{}'), '[]', 'with its tools');
select is(tests.peek('select count(*) from private.mcp_server_secrets')::bigint, 0::bigint, 'and its headers');
select throws_ok(format('select api.delete_mcp_server(%L)', jsonb_build_object('mcpServerId', :'tools')), 'PT404', 'There is no such MCP server.', 'once');
select lives_ok($$ select pg_temp.add('Server ' || n) from generate_series(1, 49) n $$, 'up to fifty');
select is(tests.refusal($$ select pg_temp.add('One more') $$) ->> 'code', 'TOO_MANY_MCP_SERVERS', 'and no more');

-- The schedule.
select tests.reset();
delete from jobs.gue_jobs where queue = 'registry';
select private.queue_registry_sync(), private.queue_registry_sync();
select is((select count(*) from jobs.gue_jobs where queue = 'registry'), 1::bigint, 'one synchronization waits at a time');
select is(pg_temp.take(), '{"kind": "sync"}', 'for any worker');

select * from finish();
rollback;
