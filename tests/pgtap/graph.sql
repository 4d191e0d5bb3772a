-- Which actor reads the graph of a context, what filters and limits do, and what leaves it.
begin;
select no_plan();
-- Anna owns the context; Vi and Udo are viewer and auditor; Stan is a stranger.
select tests.user('anna'), tests.member('vi', 'anna', 'member'), tests.member('udo', 'anna', 'member'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-000000000001'::uuid $$;
create function pg_temp.n(n integer) returns uuid language sql as $$ select ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid $$;
create function pg_temp.p(p_more jsonb default '{}') returns jsonb language sql as $$ select jsonb_build_object('contextId', pg_temp.pid()) || p_more $$;
create function pg_temp.meta(p_more jsonb) returns jsonb language sql as $$ select (api.get_knowledge_graph(pg_temp.p(p_more)) -> 'meta') - 'generatedAt' $$;
create function pg_temp.names(g jsonb) returns text language sql as $$
  select string_agg(coalesce(x ->> 'name', '?'), ' ' order by at) from jsonb_array_elements(g -> 'nodes') with ordinality t (x, at) $$;

select tests.act_as('anna');
select lives_ok($$ select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Private one'))) $$, 'the owner makes a context');
select is(api.get_knowledge_graph(pg_temp.p()) ->> 'nodes', '[]', 'a graph that was never built is empty');
select is(api.get_knowledge_graph(pg_temp.p()) -> 'meta', '{"totalNodes": 0, "totalLinks": 0, "truncated": false, "generation": 0, "backend": "postgres"}', 'and of generation 0');
select is(private.graph_statistics(pg_temp.pid()) ->> 'entities', '0', 'its figures are zeros');
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), tests.user(n), n || '@example.nl', r, now() from (values ('vi', 'viewer'), ('udo', 'auditor')) v (n, r);

-- Two files: a.ts with class Basket (method Basket.add) and function buy; b.ts, which nothing joins; a module outside.
select lives_ok($$ select private.open_graph(pg_temp.pid(), 0) $$, 'the first build begins');
select lives_ok($$ select private.store_graph_files(pg_temp.pid(), '{}', '{0,1,-1}', array['src/a.ts', 'b.ts', null], array['x', 'y', 'z']::bytea[], '{1,null,null}') $$, 'files');
select lives_ok($$ select private.insert_graph_nodes(pg_temp.pid(), array[pg_temp.n(1), pg_temp.n(2), pg_temp.n(3), pg_temp.n(4), pg_temp.n(5), pg_temp.n(6)], '{0,0,0,0,1,-1}',
  '{file,class,function,function,file,module}', '{src/a.ts,Basket,Basket.add,buy,b.ts,react}', array['src/a.ts', 'src/a.ts', 'src/a.ts', 'src/a.ts', 'b.ts', null],
  array['typescript', 'typescript', 'typescript', 'typescript', 'typescript', null], '{1,1,2,9,1,null}', '{10,5,3,10,1,null}', '{null,true,null,false,null,null}', '{0,2,1,0,0,1}') $$, 'nodes');
select lives_ok($$ select private.insert_graph_edges(pg_temp.pid(), array[pg_temp.n(1), pg_temp.n(1), pg_temp.n(2), pg_temp.n(4), pg_temp.n(4), pg_temp.n(5)],
  array[pg_temp.n(2), pg_temp.n(4), pg_temp.n(3), pg_temp.n(2), pg_temp.n(3), pg_temp.n(6)], '{contains,contains,contains,calls,calls,imports}', '{1,1,1,2,1,1}') $$, 'and links');
select is(private.switch_graph(pg_temp.pid(), 6, 3, 1, 2, 2), 1, 'are the first generation');
select is((select count(*)::integer from jobs.gue_jobs where job_type = 'graph.mirror'), 1, 'and one job mirrors it');
select throws_ok($$ select private.open_graph(pg_temp.pid(), 0) $$, '40001', 'The graph changed while its next generation was made.', 'a build on an older one is made again');
select is(private.read_graph_edges(pg_temp.pid(), array[pg_temp.n(5)])::text, format('(%s,%s,imports,1)', pg_temp.n(5), pg_temp.n(6)), 'the worker reads links');
select is((select array_agg(name order by name) from private.read_graph_nodes(pg_temp.pid(), '{1,-1}')), '{b.ts,react}', 'and nodes');
select is((select array_agg(part order by part) from private.read_graph_files(pg_temp.pid())), '{-1,0,1}', 'and parts');
select tests.act_as('vi');

select is(pg_temp.names(api.get_knowledge_graph(pg_temp.p())), 'Basket react Basket.add b.ts src/a.ts buy', 'a viewer reads; most references first, then files before functions');
select is(api.get_knowledge_graph(pg_temp.p()) -> 'nodes' -> 0, jsonb_build_object('id', pg_temp.n(2), 'name', 'Basket', 'type', 'class', 'references', 2, 'color', '#8b5cf6',
  'path', 'src/a.ts', 'language', 'typescript', 'startLine', 1, 'endLine', 5, 'exported', true, 'cluster', 1), 'a node with all of its members');
select is(jsonb_array_length(api.get_knowledge_graph(pg_temp.p()) -> 'links'), 3, 'containment is never told');
select is(pg_temp.meta('{"limit": 3}'), '{"totalNodes": 6, "totalLinks": 3, "truncated": true, "generation": 1, "backend": "postgres"}', 'the limit shows in meta');
select is(pg_temp.names(api.get_knowledge_graph(pg_temp.p('{"limit": 3}'))), 'Basket react Basket.add', 'and keeps the nodes with most references');
select is(pg_temp.names(api.get_knowledge_graph(pg_temp.p('{"type": "function"}'))), 'Basket.add buy', 'type keeps its nodes');
select is(jsonb_array_length(api.get_knowledge_graph(pg_temp.p('{"type": "function"}')) -> 'links'), 1, 'and links among them');
select is(jsonb_array_length(api.get_knowledge_graph(pg_temp.p('{"linkType": ["imports"]}')) -> 'links'), 1, 'linkType keeps its links');
select is(api.get_knowledge_graph(pg_temp.p('{"linkType": ["imports"], "limit": 1}')) -> 'meta' ->> 'totalLinks', '1', 'and counts them');
select is(pg_temp.names(api.get_knowledge_graph(pg_temp.p('{"search": "BASK"}'))), 'Basket Basket.add', 'search ignores letter case');
select is(pg_temp.names(api.get_knowledge_graph(pg_temp.p('{"search": "%"}'))), null, 'and is literal');
select is(pg_temp.names(api.get_knowledge_graph(pg_temp.p('{"path": "src/"}'))), 'Basket Basket.add src/a.ts buy', 'path is a prefix');
select is(pg_temp.meta('{"path": "src/", "limit": 2}'), '{"totalNodes": 4, "totalLinks": 2, "truncated": true, "generation": 1, "backend": "postgres"}', 'meta counts what fits');
select is(pg_temp.names(api.get_knowledge_graph(pg_temp.p('{"minReferences": 1}'))), 'Basket react Basket.add', 'minReferences');
select throws_ok($$ select api.get_knowledge_graph(pg_temp.p('{"type": "folder"}')) $$, 'PT400', 'type is all, function, class, module, variable or file.', 'an unknown type');
select throws_ok($$ select api.get_knowledge_graph(pg_temp.p('{"linkType": ["contains"]}')) $$, 'PT400', 'linkType is imports, calls, extends or implements, each at most once.', 'an unknown linkType');
select throws_ok($$ select api.get_knowledge_graph(pg_temp.p('{"limit": 5001}')) $$, 'PT400', 'limit lies between 1 and 5000.', 'a limit that is too large');
select throws_ok($$ select api.get_knowledge_graph(pg_temp.p(jsonb_build_object('search', repeat('x', 201)))) $$, 'PT400', 'search has at most 200 characters.', 'a search that is too long');
select throws_ok($$ select api.get_knowledge_graph(pg_temp.p(jsonb_build_object('path', repeat('x', 4097)))) $$, 'PT400', 'path has at most 4096 characters.', 'a path that is too long');

select is(pg_temp.names(jsonb_build_object('nodes', api.get_graph_node(pg_temp.p(jsonb_build_object('nodeId', pg_temp.n(2)))) -> 'neighbors')), 'Basket.add src/a.ts buy', 'neighbours over links and containment');
select is(pg_temp.names(jsonb_build_object('nodes', api.get_graph_node(pg_temp.p(jsonb_build_object('nodeId', pg_temp.n(2), 'limit', 1))) -> 'neighbors')), 'Basket.add', 'up to the limit');
select is(pg_temp.names(jsonb_build_object('nodes', api.get_graph_node(pg_temp.p(jsonb_build_object('nodeId', pg_temp.n(3), 'depth', 2))) -> 'neighbors')), 'Basket src/a.ts buy', 'and the depth');
select is(jsonb_array_length(api.get_graph_node(pg_temp.p(jsonb_build_object('nodeId', pg_temp.n(2)))) -> 'links'), 2, 'with the links among them');
select throws_ok($$ select api.get_graph_node(pg_temp.p(jsonb_build_object('nodeId', pg_temp.n(9)))) $$, 'PT404', format('The graph of this context has no node %s.', pg_temp.n(9)), 'an unknown node');
select throws_ok($$ select api.get_graph_node(pg_temp.p(jsonb_build_object('nodeId', pg_temp.n(2), 'depth', 4))) $$, 'PT400', 'depth lies between 1 and 3.', 'a depth too far');
select throws_ok($$ select api.get_graph_node(pg_temp.p(jsonb_build_object('nodeId', pg_temp.n(2), 'limit', 0))) $$, 'PT400', 'limit lies between 1 and 1000.', 'no limit');

select is(pg_temp.names(api.get_graph_path(pg_temp.p(jsonb_build_object('from', pg_temp.n(3), 'to', pg_temp.n(1))))), 'Basket.add Basket src/a.ts', 'a way over containment');
select is(pg_temp.names(api.get_graph_path(pg_temp.p(jsonb_build_object('from', pg_temp.n(4), 'to', pg_temp.n(2))))), 'buy Basket', 'and over links');
select is(api.get_graph_path(pg_temp.p(jsonb_build_object('from', pg_temp.n(4), 'to', pg_temp.n(2)))) -> 'links' -> 0 ->> 'type', 'calls', 'which it names');
select is(pg_temp.names(api.get_graph_path(pg_temp.p(jsonb_build_object('from', pg_temp.n(4), 'to', pg_temp.n(4))))), 'buy', 'to itself there is no step');
select is(api.get_graph_path(pg_temp.p(jsonb_build_object('from', pg_temp.n(4), 'to', pg_temp.n(5)))) ->> 'nodes', '[]', 'between parts there is no way');
select throws_ok($$ select api.get_graph_path(pg_temp.p('{"to": "x"}')) $$, 'PT400', 'from is required.', 'a way begins somewhere');
select throws_ok($$ select api.get_graph_path(pg_temp.p('{"from": "x"}')) $$, 'PT400', 'to is required.', 'and ends');
select throws_ok($$ select api.get_graph_path(pg_temp.p('{"from": "x", "to": "y"}')) $$, 'PT404', 'The graph of this context has no node x.', 'at nodes');
select is(private.graph_statistics(pg_temp.pid()) - 'generatedAt', '{"entities": 6, "relationships": 3, "clusters": 1, "generation": 1, "parsedFiles": 2, "textFiles": 2, "topEntities":
  [{"name": "Basket", "references": 2}, {"name": "Basket.add", "references": 1}, {"name": "react", "references": 1}, {"name": "buy", "references": 0}]}', 'figures name no files');

select tests.act_as('udo');
select throws_ok($$ select api.get_knowledge_graph(pg_temp.p()) $$, 'PT403', 'Your role in this context (auditor) does not read its graph.', 'an auditor reads no graph');
select throws_ok($$ select api.get_graph_node(pg_temp.p(jsonb_build_object('nodeId', pg_temp.n(2)))) $$, 'PT403', null, 'no node');
select throws_ok($$ select api.get_graph_path(pg_temp.p(jsonb_build_object('from', pg_temp.n(2), 'to', pg_temp.n(2)))) $$, 'PT403', null, 'no way');
select is_empty($$ select from public.kg_nodes union all select from public.kg_edges union all select from public.kg_files union all select from public.kg_generations $$, 'and no row');
select tests.act_as('stan');
select throws_ok($$ select api.get_knowledge_graph(pg_temp.p()) $$, 'PT404', 'This context does not exist.', 'for a stranger there is no context');
select is_empty($$ select from public.kg_nodes union all select from public.kg_edges union all select from public.kg_files union all select from public.kg_generations $$, 'nor a row');
select throws_ok($$ select private.drop_graph(pg_temp.pid()) $$, '42501', 'permission denied for function drop_graph', 'nor a way to empty it');
select tests.act_anon();
select throws_ok($$ select api.get_knowledge_graph(pg_temp.p()) $$, '42501', null, 'an anonymous caller reads nothing');
select tests.act_service();
select throws_ok($$ select api.get_knowledge_graph(pg_temp.p()) $$, '42501', null, 'nor does the service');
select tests.act_as('anna');
select throws_ok($$ insert into public.kg_edges (organization_id, project_id, source_id, target_id, type) values (tests.org('anna'), pg_temp.pid(), pg_temp.n(1), pg_temp.n(3), 'calls') $$,
  '42501', 'permission denied for table kg_edges', 'an owner writes no link');
select tests.reset();

-- Changes of a second build.
select lives_ok($$ select private.open_graph(pg_temp.pid(), 1) $$, 'the second build');
select lives_ok($$ select private.update_graph_nodes(pg_temp.pid(), array[pg_temp.n(4)], '{0}', '{function}', '{buy}', '{src/a.ts}', '{typescript}', '{7}', '{8}', '{true}', '{5}'),
  private.delete_graph_edges(pg_temp.pid(), array[pg_temp.n(4)], array[pg_temp.n(3)], '{calls}'), private.delete_graph_nodes(pg_temp.pid(), array[pg_temp.n(3)]) $$, 'changes and removes');
select is(private.switch_graph(pg_temp.pid(), 5, 2, 1, 2, 2), 2, 'and switches');
select is((select count(*)::integer from public.kg_generations where project_id = pg_temp.pid()), 1, 'one generation is left');
select is((select reference_count from public.kg_nodes where id = pg_temp.n(4)), 5, 'with the new figures');

-- Copies.
select is((select count(*)::integer from private.export_graph_nodes(pg_temp.pid())), 5, 'nodes are exported');
select is((select array_agg(type order by type) from private.export_graph_edges(pg_temp.pid())), '{calls,contains,contains,contains,imports}', 'and links with containment');
select is(private.graph_mirror_state('falkordb')::text, '(1,0)', 'a mirror that holds nothing lags');
delete from jobs.gue_jobs;
delete from jobs.unique_keys;
select is(private.sweep_graph_mirrors('falkordb', false), 1, 'a sweep finds it');
select lives_ok($$ select private.record_graph_mirror(pg_temp.pid(), 'falkordb', 2, null) $$, 'a copy is recorded');
select is(private.sweep_graph_mirrors('falkordb', false), 0, 'and left alone');
select lives_ok($$ select private.record_graph_mirror(pg_temp.pid(), 'falkordb', 0, 'refused') $$, 'a failure is recorded');
select is(private.graph_mirror_state('falkordb')::text, '(0,1)', 'beside what the mirror holds');
select is(private.sweep_graph_mirrors('falkordb', true), 1, 'an emptied mirror holds nothing');
select lives_ok($$ select private.record_graph_mirror(pg_temp.pid(), 'falkordb', 2, null), private.queue_graph_mirror(jsonb_build_object('contextId', pg_temp.pid())) $$, 'a read that found it old');
select is((select generation from private.kg_mirrors where project_id = pg_temp.pid()), 0, 'makes it old');
select tests.act_as('vi');
select is((api.prepare_graph_read(pg_temp.p('{"search": "BASK", "limit": 3}')) - 'generatedAt'), jsonb_build_object('contextId', pg_temp.pid(), 'generation', 2,
  'filter', '{"search": "bask", "minReferences": 0, "limit": 3}'::jsonb), 'a read of the copy is prepared');
select throws_ok($$ select api.prepare_graph_read(pg_temp.p('{"nodeId": "x"}')) $$, 'PT404', 'The graph of this context has no node x.', 'and refused as Postgres would');
select tests.act_as('udo');
select throws_ok($$ select api.prepare_graph_read(pg_temp.p()) $$, 'PT403', null, 'also to an auditor');
select tests.act_as('stan');
select throws_ok($$ select api.prepare_graph_read(pg_temp.p()) $$, 'PT404', 'This context does not exist.', 'and to a stranger');
select throws_ok($$ select private.export_graph_nodes(pg_temp.pid()) $$, '42501', null, 'who exports nothing');
select throws_ok($$ select private.sweep_graph_mirrors('falkordb', true) $$, '42501', null, 'and forgets nothing');
select tests.reset();
delete from private.kg_mirrors;

-- Hidden and removed files.
insert into public.content_blobs (organization_id, project_id, hash, content) values (tests.org('anna'), pg_temp.pid(), sha256('x'), 'x');
insert into public.context_files (organization_id, project_id, path, number, hash, origin, bytes, tokens)
select tests.org('anna'), pg_temp.pid(), p, 1, sha256('x'), 'text', 1, 1 from unnest(array['src/a.ts', 'b.ts']) p;
update public.context_files set tokens = 2 where path = 'b.ts';
select is(private.graph_generation(pg_temp.pid()), 2, 'a change of a file alone leaves the graph');
update public.context_files set is_hidden = true where path = 'b.ts';
select is((select array_agg(name order by name) from public.kg_nodes where project_id = pg_temp.pid()), '{Basket,buy,react,src/a.ts}', 'a hidden file leaves it');
select is((select reference_count from public.kg_nodes where id = pg_temp.n(6)), 0, 'with what it referred to');
select is((select digest from public.kg_files where project_id = pg_temp.pid() and part = -1), '', 'so the next build looks at that again');
select is(private.graph_generation(pg_temp.pid()), 3, 'which is a generation');
delete from public.context_files where path = 'src/a.ts';
select is((select array_agg(name) from public.kg_nodes where project_id = pg_temp.pid()), '{react}', 'so does a removed one');
select lives_ok($$ select private.drop_graph(pg_temp.pid()) $$, 'a reset empties it');
select is(private.graph_generation(pg_temp.pid()), 5, 'and counts on');
select is_empty($$ select from public.kg_nodes where project_id = pg_temp.pid() $$, 'no node is left');

-- A deleted context.
insert into public.kg_nodes (organization_id, project_id, id, part, type, name) values (tests.org('anna'), pg_temp.pid(), pg_temp.n(1), 0, 'file', 'a');
insert into public.kg_edges (organization_id, project_id, source_id, target_id, type) values (tests.org('anna'), pg_temp.pid(), pg_temp.n(1), pg_temp.n(2), 'calls');
insert into private.kg_mirrors (project_id, backend, organization_id) values (pg_temp.pid(), 'falkordb', tests.org('anna'));
delete from jobs.gue_jobs;
delete from public.projects where id = pg_temp.pid();
select is_empty($$ select from public.kg_nodes where project_id = pg_temp.pid() union all select from public.kg_edges where project_id = pg_temp.pid() $$, 'takes its graph along');
select is((select count(*)::integer from private.kg_mirrors where project_id = pg_temp.pid()), 1, 'its mirror is known');

select * from finish();
rollback;
