-- Runs, status and settings of enrichments, by actor.
begin;
select no_plan();

-- Anna owns the project; Adam, Mia, Dora, Vic and Ulla are its admin, manager, developer, viewer and auditor; Stan is a stranger.
select tests.user('anna'), tests.user('stan'), tests.member('adam', 'anna'), tests.member('mia', 'anna'), tests.member('dora', 'anna'), tests.member('vic', 'anna'), tests.member('ulla', 'anna');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000e1'::uuid $$;
create function pg_temp.p(p_body text default null) returns jsonb language sql as $$
  select jsonb_build_object('contextId', pg_temp.pid(), 'body', p_body::jsonb) $$;
create function pg_temp.notified(p_sql text) returns text language sql as $$
  select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field', coalesce(r #>> '{details,required}', r #>> '{details,kind}')) from tests.refusal(p_sql) r $$;
create function pg_temp.call(p_function text, p_body text default null) returns text language sql as $$
  select pg_temp.notified(format('select api.%I(%L)', p_function, pg_temp.p(p_body))) $$;
create function pg_temp.as_person(p_who text, p_function text, p_body text default null) returns text language plpgsql as $$
begin
  perform tests.act_as(p_who);
  return pg_temp.call(p_function, p_body);
end $$;
-- The worker, for runs that need no content.
create function pg_temp.claim(p_kind text) returns jsonb language sql security definer as $$
  select private.claim_enrichment(r.id, '00000000-0000-4000-8000-00000000dead', 15) from public.enrichment_runs r
  where r.project_id = pg_temp.pid() and r.kind = p_kind and r.status in ('queued', 'running') $$;
create function pg_temp.finish(p_kind text, p jsonb default '{}') returns void language sql security definer as $$
  select private.finish_enrichment(r.id, '00000000-0000-4000-8000-00000000dead', p) from public.enrichment_runs r
  where r.project_id = pg_temp.pid() and r.kind = p_kind and r.status = 'running' $$;
create function pg_temp.work(p_kind text, p jsonb default '{}') returns void language sql as $$
  select pg_temp.claim(p_kind); select pg_temp.finish(p_kind, p) $$;
create function pg_temp.open_runs() returns text language sql security definer as $$
  select coalesce(string_agg(kind || ' ' || status || case when is_automatic then ' automatic' else '' end, ', ' order by created_at), 'none')
  from public.enrichment_runs where project_id = pg_temp.pid() and status in ('queued', 'running') $$;
create function pg_temp.entries() returns text language sql security definer as $$
  select string_agg(concat_ws(' ', user_name, description, files_added, files_modified), '; ' order by created_at)
  from public.context_changelog where project_id = pg_temp.pid() and type = 'enrichment' $$;
create function pg_temp.file(p_path text, p_content text, p_language text, p_binary boolean default false) returns uuid language sql security definer as $$
  insert into public.content_blobs (organization_id, project_id, hash, content, is_binary)
  values (tests.org('anna'), pg_temp.pid(), sha256(convert_to(p_content, 'UTF8')), convert_to(p_content, 'UTF8'), p_binary) on conflict do nothing;
  insert into public.context_files (organization_id, project_id, path, number, hash, origin, language, is_binary, bytes, tokens)
  values (tests.org('anna'), pg_temp.pid(), p_path, 1, sha256(convert_to(p_content, 'UTF8')), 'file', p_language, p_binary, octet_length(p_content), 1)
  returning id $$;
-- The index of these files, as the worker makes it: one definition each.
create function pg_temp.index_files(p_paths text[]) returns void language plpgsql security definer as $$
declare r uuid := (pg_temp.claim('languageServer') ->> 'runId')::uuid; v record;
begin
  for v in select f.* from public.context_files f where f.project_id = pg_temp.pid() and f.path = any (p_paths) loop
    perform private.plan_enrichment(r, '00000000-0000-4000-8000-00000000dead', array[v.id], array[v.hash], array[v.language]);
    perform private.store_symbols(r, '00000000-0000-4000-8000-00000000dead', v.hash, v.language, true, array['function'], array['f'], array['f'], array[1], array[1], array[true], array['']);
  end loop;
  perform pg_temp.finish('languageServer', jsonb_build_object('processed', cardinality(p_paths)));
end $$;
create function pg_temp.embed_files(p_paths text[], p_model text default 'kijko-hash-256') returns void language plpgsql security definer as $$
declare
  c jsonb := pg_temp.claim('chromaCode'); k text := private.embedder_key(c -> 'settings', p_model); o uuid := '00000000-0000-4000-8000-00000000dead'; v record;
begin
  for v in select f.* from public.context_files f where f.project_id = pg_temp.pid() and f.path = any (p_paths) loop
    perform private.plan_enrichment((c ->> 'runId')::uuid, o, array[v.id], array[v.hash], array[v.language]);
    perform private.store_embeddings((c ->> 'runId')::uuid, o, k, p_model, 2, array[v.id, v.id], array[v.hash, v.hash], array[0, 1], array[0, 1], array[1, 2],
      array[1, 1], array[1, 1], array[1, 1], case when v.path like '%.go' then '{1,0,0.8,0.6}' else '{0,1,0.6,0.8}' end::real[]);
  end loop;
  perform pg_temp.finish('chromaCode', jsonb_build_object('processed', cardinality(p_paths), 'embedder', k, 'model', p_model, 'dimensions', 2));
end $$;
grant execute on all functions in schema pg_temp to public;
select tests.act_as('anna');
select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Billing'))) is not null;
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, name, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), u.id, u.email, u.first_name, r, now() from (values ('adam', 'admin'), ('mia', 'manager'), ('dora', 'developer'), ('vic', 'viewer'), ('ulla', 'auditor')) v (n, r)
join public.users u on u.id = tests.user(n);

-- An empty context.
select tests.act_as('vic');
select is(api.get_enrichments(pg_temp.p()), '{"overall": 0.0,
  "knowledgeGraph": {"active": false, "status": "idle", "progress": 0, "coverage": 0, "entities": 0, "relationships": 0, "clusters": 0, "topEntities": []},
  "languageServer": {"active": false, "status": "idle", "progress": 0, "coverage": 0, "indexedFiles": 0, "totalFiles": 0, "symbols": 0, "languages": []},
  "chromaCode": {"active": false, "status": "idle", "progress": 0, "coverage": 0, "embeddings": 0, "totalFiles": 0, "dimensions": 1536, "model": "text-embedding-3-small", "chunkStrategy": "Semantic (512 tokens)"}}',
  'a viewer reads the status, zeros before the first version');

-- Roles.
select is(pg_temp.as_person(who, f), w, who || ' does not call ' || f)
from (values ('vic', '403 FORBIDDEN run_enrichments'), ('ulla', '403 FORBIDDEN run_enrichments'), ('stan', '404 CONTEXT_NOT_FOUND')) a (who, w),
  unnest(array['run_enrichments', 'rebuild_graph', 'index_symbols', 'generate_embeddings']) f;
select is(pg_temp.as_person(who, 'reset_enrichments', '{}'), case who when 'stan' then '404 CONTEXT_NOT_FOUND' else '403 FORBIDDEN reset_enrichments' end, who || ' resets nothing')
from unnest(array['mia', 'dora', 'vic', 'ulla', 'stan']) who;
select tests.act_as('ulla');
select is(pg_temp.call('get_enrichments'), '403 FORBIDDEN read_enrichments', 'an auditor does not read the status');
select is(pg_temp.notified(format('select private.start_enrichment(%L, %L)', pg_temp.pid(), 'all')), '403 FORBIDDEN developer', 'nor starts a run past the operation');
select tests.act_as('stan');
select is(pg_temp.call('get_enrichments'), '404 CONTEXT_NOT_FOUND', 'a stranger finds no context');
select is(pg_temp.notified(format('select private.start_enrichment(%L, %L)', pg_temp.pid(), 'all')), '404 PROJECT_NOT_FOUND', 'nor past the operation');
select is(pg_temp.notified(format('select private.reset_enrichments(%L, %L)', pg_temp.pid(), '{chromaCode}')), '404 PROJECT_NOT_FOUND', 'nor to reset');
select tests.act_anon();
select throws_ok($$ select api.get_enrichments('{}') $$, '42501', null, 'an anonymous caller calls nothing');
select throws_ok($$ select api.run_enrichments('{}') $$, '42501', null, 'not even a run');
select tests.act_service();
select throws_ok($$ select api.get_enrichments('{}') $$, '42501', null, 'nor does the service');
select throws_ok($$ select private.finish_enrichment(gen_random_uuid(), gen_random_uuid(), '{}') $$, '42501', null, 'which is no worker');

-- One kind.
select tests.act_as('dora');
select api.index_symbols(pg_temp.p()) as started \gset
select is(:'started'::jsonb #>> '{languageServer,status}', 'queued', 'a developer starts a run, which waits');
select is((select concat_ws(' ', o.kind, o.status) from public.context_operations o where o.id = (:'started'::jsonb ->> 'operationId')::uuid), 'enrichment queued', 'with an operation');
select is(pg_temp.call('index_symbols'), '409 OPERATION_IN_PROGRESS languageServer', 'a second run of the kind is refused');
select is(pg_temp.call('run_enrichments'), '409 OPERATION_IN_PROGRESS languageServer', 'and so is one of all');
select is(pg_temp.call('rebuild_graph'), '', 'another kind may run beside it');
select tests.reset();
select pg_temp.work('knowledgeGraph');
select pg_temp.index_files('{}');
select is(pg_temp.open_runs(), 'none', 'both end');
select is(o.status || ' ' || o.progress, 'completed 100', 'and with them the operation') from public.context_operations o where o.id = (:'started'::jsonb ->> 'operationId')::uuid;
select is(pg_temp.entries(), 'Dora Test Knowledge Graph rebuilt: 0 entities, 0 relationships 0 0; Dora Test LSP index updated: 0 symbols in 0 files 0 0',
  'an empty context ends with zeros, and the changelog names who asked');
select tests.act_as('vic');
select is(api.get_enrichments(pg_temp.p()) #> '{languageServer,active}', 'true', 'a kind is active after a run');
select is(api.get_enrichments(pg_temp.p()) #> '{chromaCode,active}', 'false', 'another is not');

-- Events.
select tests.reset();
select is(array_agg(x.data ->> 'status' order by x.seq), array['pending', 'processing', 'completed'], 'a run is told from its beginning to its end')
from private.event_inbox x where x.type = 'enrichment:progress' and x.room = 'context:' || pg_temp.pid() and x.data ->> 'type' = 'languageServer';

-- All kinds.
select tests.act_as('mia');
select api.run_enrichments(pg_temp.p()) as started \gset
select is(pg_temp.open_runs(), 'all queued, knowledgeGraph queued, languageServer queued, chromaCode queued', 'a manager starts all kinds');
select is(pg_temp.call('generate_embeddings'), '409 OPERATION_IN_PROGRESS all', 'none runs beside them');
select is(pg_temp.call('run_enrichments'), '409 OPERATION_IN_PROGRESS all', 'least of all a second run of all');
select tests.reset();
select is(pg_temp.claim('languageServer'), null, 'the index waits for the graph');
select pg_temp.work('knowledgeGraph');
select is(pg_temp.open_runs(), 'all running, languageServer queued, chromaCode queued', 'the graph is done');
select tests.act_as('mia');
select is(pg_temp.call('rebuild_graph'), '409 OPERATION_IN_PROGRESS all', 'and is still part of the run of all');
select tests.reset();
select pg_temp.index_files('{}');
select is(o.progress, 66::smallint, 'the operation is two thirds done') from public.context_operations o where o.id = (:'started'::jsonb ->> 'operationId')::uuid;
select pg_temp.claim('chromaCode') is not null;
select private.fail_enrichment(r.id, '00000000-0000-4000-8000-00000000dead', 'The embedding provider cannot be reached.') from public.enrichment_runs r where r.kind = 'chromaCode' and r.status = 'running';
select is(pg_temp.open_runs(), 'none', 'the run of all ends with its last part');
select is(concat_ws(' ', o.status, o.error_code, o.error_message), 'failed ENRICHMENT_FAILED ChromaCode embeddings: The embedding provider cannot be reached.', 'as failed, if one of them failed')
from public.context_operations o where o.id = (:'started'::jsonb ->> 'operationId')::uuid;
select tests.act_as('mia');
select is(pg_temp.notified(format('select api.finish_enrichments(%L)', pg_temp.p() || jsonb_build_object('started', :'started'::jsonb))), '502 ENRICHMENT_FAILED', 'the request that waited is told so');
select is(api.get_enrichments(pg_temp.p()) -> 'chromaCode' ->> 'status', 'failed', 'and so is a reader');
select is(api.get_enrichments(pg_temp.p()) -> 'chromaCode' ->> 'errorMessage', 'The embedding provider cannot be reached.', 'with the reason');

-- A version.
select tests.reset();
select pg_temp.file('main.go', 'package main', 'go'), pg_temp.file('web/app.tsx', 'export const App = () => null', 'tsx'), pg_temp.file('web/b.ts', 'b', 'typescript'), pg_temp.file('logo.png', 'png', 'text', true);
insert into public.context_ingestions (organization_id, project_id, number) values (tests.org('anna'), pg_temp.pid(), 1);
update public.context_ingestions set status = 'ready' where project_id = pg_temp.pid();
select is(pg_temp.open_runs(), 'knowledgeGraph queued automatic, languageServer queued automatic', 'after a version graph and index are built again, embeddings only in use');
select pg_temp.claim('knowledgeGraph') is not null;
insert into public.context_ingestions (organization_id, project_id, number, status) values (tests.org('anna'), pg_temp.pid(), 2, 'ready');
select pg_temp.finish('knowledgeGraph');
select pg_temp.index_files('{main.go,web/app.tsx}');
select is(pg_temp.open_runs(), 'knowledgeGraph queued automatic', 'a version that came during a run is built by the next, one that came before it by this one');
select pg_temp.work('knowledgeGraph');
select is(substr(pg_temp.entries(), strpos(pg_temp.entries(), 'System')), 'System Knowledge Graph rebuilt: 0 entities, 0 relationships 0 0; System LSP index updated: 2 symbols in 2 files 2 2; '
  || 'System Knowledge Graph rebuilt: 0 entities, 0 relationships 0 0', 'the system is the author, and the symbols gained are counted');

-- Measured numbers.
select tests.act_as('vic');
select is((api.get_enrichments(pg_temp.p()) -> 'languageServer') - 'lastRunAt', '{"active": true, "status": "idle", "progress": 100, "coverage": 50.0, "indexedFiles": 2, "totalFiles": 4, "symbols": 2,
  "languages": [{"name": "TypeScript", "percentage": 71}, {"name": "Go", "percentage": 29}]}', 'files, definitions and languages of the index');
select tests.act_as('dora');
select api.generate_embeddings(pg_temp.p()) is not null;
select tests.reset();
select pg_temp.embed_files('{main.go,web/app.tsx}');
select tests.act_as('vic');
select is((api.get_enrichments(pg_temp.p()) -> 'chromaCode') - 'lastRunAt', '{"active": true, "status": "idle", "progress": 100, "coverage": 50.0, "embeddings": 2, "totalFiles": 4, "dimensions": 2,
  "model": "kijko-hash-256", "chunkStrategy": "Semantic (512 tokens)"}', 'files with embeddings, and the model that really made them');
select is(api.get_enrichments(pg_temp.p()) -> 'overall', '33.3', 'the mean of the three');
select is((select string_agg(concat_ws(' ', path, chunk_no, round(score::numeric, 2), content), ', ') from private.similar_chunks(pg_temp.pid(), '{1,0}', 3)), 'main.go 0 1.00 p, main.go 1 0.80 a, web/app.tsx 1 0.60 x', 'similar chunks, nearest first, with their text');
select is(private.embedder_in_force(pg_temp.pid()), '{"model": "kijko-hash-256", "dimensions": 2}', 'and the embedder for a question');
select is((select count(*) from private.similar_chunks(pg_temp.pid(), '{1,0,0}', 3)), 0::bigint, 'a vector of another embedder finds nothing');
select is((select count(*) from public.symbols), 2::bigint, 'a viewer reads symbols from the table');
select throws_ok($$ update public.enrichment_states set is_active = false $$, '42501', null, 'and writes none of it');
select tests.act_as('ulla');
select is((select count(*) from public.symbols) + (select count(*) from public.file_embeddings) + (select count(*) from public.enrichment_runs), 0::bigint, 'an auditor reads nothing');
select is((select count(*) from private.similar_chunks(pg_temp.pid(), '{1,0}', 3)), 0::bigint, 'nor finds anything');
select tests.act_as('stan');
select is((select count(*) from private.similar_chunks(pg_temp.pid(), '{1,0}', 3)), 0::bigint, 'nor does a stranger');
select is(private.embedder_in_force(pg_temp.pid()), null, 'who learns of no embedder');

-- Files change.
select tests.reset();
update public.context_files set hash = sha256('new') where project_id = pg_temp.pid() and path = 'main.go';
update public.context_files set is_hidden = true where project_id = pg_temp.pid() and path = 'logo.png';
select tests.act_as('vic');
select is(api.get_enrichments(pg_temp.p()) #>> '{chromaCode,coverage}', '33.3', 'a changed file has no embeddings until the next run, and a hidden one does not count');
select is((select count(*) from private.similar_chunks(pg_temp.pid(), '{1,0}', 5)), 2::bigint, 'its old text is not found');

-- Settings.
select tests.act_as('adam');
select is(api.get_lsp_settings(pg_temp.p()), '{"enableGoToDefinition": true, "enableAutoCompletion": true, "enableTypeInference": true, "excludePatterns": ["node_modules/**", "dist/**", ".git/**"], "maxFileSize": 1024}', 'defaults of the index');
select is(api.get_chromacode_settings(pg_temp.p()), '{"embeddingModel": "text-embedding-3-small", "chunkStrategy": "semantic", "chunkSize": 512, "overlap": 50, "excludePatterns": ["*.min.js", "*.bundle.js", "package-lock.json"]}', 'defaults of the embeddings');
select is(api.update_lsp_settings(pg_temp.p('{"maxFileSize": 0, "excludePatterns": [" gen/** ", "/x"]}')) - '{enableGoToDefinition,enableAutoCompletion,enableTypeInference}'::text[], '{"maxFileSize": 0, "excludePatterns": ["gen/**", "/x"]}', 'an admin changes them; patterns are trimmed');
select is(api.update_chromacode_settings(pg_temp.p('{"embeddingModel": "text-embedding-3-large", "chunkStrategy": "sliding", "chunkSize": 64, "overlap": 32}')) - 'excludePatterns', '{"embeddingModel": "text-embedding-3-large", "chunkStrategy": "sliding", "chunkSize": 64, "overlap": 32}', 'and those of the embeddings');
select is(api.update_chromacode_settings(pg_temp.p('{"chunkSize": 64}')) ->> 'chunkSize', '64', 'equal values change nothing');
select is(array_agg(c.description order by c.created_at), array['Updated LSP configuration', 'Updated ChromaCode configuration: text-embedding-3-large, 3072 dimensions'], 'each change is in the changelog once')
from public.context_changelog c where c.project_id = pg_temp.pid() and c.type = 'config';
select is(array_agg(a.description order by a.created_at), array['updated LSP configuration', 'updated ChromaCode configuration'], 'and in the activity')
from public.project_activity a where a.project_id = pg_temp.pid() and a.description like 'updated%';
select is((api.get_enrichments(pg_temp.p()) -> 'chromaCode') - 'lastRunAt', '{"active": true, "status": "idle", "progress": 100, "coverage": 0, "embeddings": 0, "totalFiles": 3, "dimensions": 2,
  "model": "kijko-hash-256", "chunkStrategy": "Sliding window (64 tokens)"}', 'another model or chunking makes all embeddings outdated');
select is(pg_temp.call(f, b), '400 VALIDATION_ERROR ' || w, b || ' is refused') from (values
  ('update_lsp_settings', '{"maxFileSize": 10241}', 'maxFileSize'), ('update_lsp_settings', '{"maxFileSize": -1}', 'maxFileSize'), ('update_lsp_settings', '{"maxFileSize": 1.5}', 'maxFileSize'),
  ('update_lsp_settings', '{"maxFileSize": "1"}', 'maxFileSize'), ('update_lsp_settings', '{"maxFileSize": null}', 'maxFileSize'), ('update_lsp_settings', '{"enableTypeInference": 1}', 'enableTypeInference'),
  ('update_lsp_settings', '{"excludePatterns": "a"}', 'excludePatterns'), ('update_lsp_settings', '{"excludePatterns": [1]}', 'excludePatterns'), ('update_lsp_settings', '{"excludePatterns": ["a", " a "]}', 'excludePatterns'),
  ('update_lsp_settings', '{"excludePatterns": [" "]}', 'excludePatterns'), ('update_lsp_settings', '{"excludePatterns": ["[a"]}', 'excludePatterns'), ('update_lsp_settings', '{"excludePatterns": ["a{b,{c}}"]}', 'excludePatterns'),
  ('update_lsp_settings', jsonb_build_object('excludePatterns', array[repeat('a', 201)])::text, 'excludePatterns'), ('update_lsp_settings', '{"color": 1}', 'color'),
  ('update_lsp_settings', jsonb_build_object('excludePatterns', array(select 'a' || n from generate_series(1, 101) n))::text, 'excludePatterns'),
  ('update_chromacode_settings', '{"embeddingModel": "text-embedding-ada-002"}', 'embeddingModel'), ('update_chromacode_settings', '{"chunkStrategy": "fixed"}', 'chunkStrategy'),
  ('update_chromacode_settings', '{"chunkSize": 63}', 'chunkSize'), ('update_chromacode_settings', '{"chunkSize": 2049}', 'chunkSize'), ('update_chromacode_settings', '{"overlap": 33}', 'overlap'),
  ('update_chromacode_settings', '{"overlap": -1}', 'overlap'), ('update_chromacode_settings', '{"model": "x"}', 'model'), ('update_chromacode_settings', '[]', 'body')) v (f, b, w);
select is(pg_temp.as_person(who, 'update_lsp_settings', '{"maxFileSize": 5}'), case who when 'stan' then '404 CONTEXT_NOT_FOUND' else '403 FORBIDDEN change_settings' end, who || ' does not change settings')
from unnest(array['mia', 'dora', 'vic', 'ulla', 'stan']) who;
select tests.act_as('ulla');
select is(pg_temp.call('get_lsp_settings') || pg_temp.call('get_chromacode_settings'), '403 FORBIDDEN read_settings403 FORBIDDEN read_settings', 'an auditor does not read them');

-- Leases.
select tests.act_as('dora');
select api.index_symbols(pg_temp.p()) is not null;
select tests.reset();
select is(pg_temp.claim('languageServer') -> 'settings' ->> 'maxFileSize', '0', 'a run has the settings of its start');
select is(pg_temp.claim('languageServer'), null, 'and one worker');
select is(pg_temp.notified(format('select private.report_enrichment(%L, gen_random_uuid(), 5, %L)', r.id, 'x')), '409 CANCELLED', 'another one writes nothing') from public.enrichment_runs r where r.status = 'running';
delete from jobs.stored_jobs where job_type = 'enrichments.run';
update public.enrichment_runs set lease_expires_at = now() - interval '1 s' where status = 'running';
select is(private.sweep_enrichments(), 1, 'a run whose worker died gets a job');
select is(count(*), 1::bigint, 'and is taken over') from (select private.claim_enrichment(r.id, gen_random_uuid(), 15) c from public.enrichment_runs r where r.status = 'running') x where c is not null;
update public.enrichment_runs set lease_expires_at = now() - interval '1 s', restarts = 3 where status = 'running';
select is(pg_temp.claim('languageServer'), null, 'four times');
select tests.act_as('vic');
select is(api.get_enrichments(pg_temp.p()) -> 'languageServer' ->> 'errorMessage', 'The work was interrupted too often and was given up.', 'then it fails');
select is(api.get_enrichments(pg_temp.p()) -> 'languageServer' -> 'indexedFiles', '2', 'and the index of before stays');

-- Reset.
select tests.act_as('adam');
select api.run_enrichments(pg_temp.p()) as started \gset
select is(pg_temp.call('reset_enrichments', b), '400 VALIDATION_ERROR ' || w, b || ' is refused') from (values ('{"kinds": []}', 'kinds'), ('{"kinds": ["all"]}', 'kinds'), ('{"kinds": "chromaCode"}', 'kinds'), ('{"kind": 1}', 'kind')) v (b, w);
select is(api.reset_enrichments(pg_temp.p('{"kinds": ["languageServer"]}')) #> '{languageServer,symbols}', '0', 'an admin resets the index');
select is(pg_temp.open_runs(), 'none', 'and with it the run of all');
select is(api.get_enrichments(pg_temp.p()) #> '{chromaCode,active}', 'true', 'others stay');
select is(concat_ws(' ', o.status, o.error_code), 'failed CANCELLED', 'the waiting request is told') from public.context_operations o where o.id = (:'started'::jsonb ->> 'operationId')::uuid;
select is(api.reset_enrichments(pg_temp.p()) #> '{chromaCode,active}', 'false', 'without kinds all are reset');
select is((select count(*) from public.context_changelog c where c.project_id = pg_temp.pid() and c.description = 'Enrichments reset'), 2::bigint, 'the changelog says so');
select tests.reset();
select private.drop_enrichment_rows(pg_temp.pid(), 100), private.drop_enrichment_rows(pg_temp.pid(), 100), private.drop_enrichment_rows(pg_temp.pid(), 100);
select is((select count(*) from public.symbols where project_id = pg_temp.pid()) + (select count(*) from public.file_embeddings where project_id = pg_temp.pid()), 0::bigint, 'what was made is removed');

-- 20 starts in an hour.
update public.enrichment_runs set created_at = created_at - interval '1 hour' where project_id = pg_temp.pid();
insert into public.enrichment_runs (organization_id, project_id, kind, is_automatic) values (tests.org('anna'), pg_temp.pid(), 'languageServer', true);
update public.enrichment_runs set status = 'cancelled' where project_id = pg_temp.pid() and status = 'queued';
do $$ begin
  for i in 1..20 loop
    perform tests.act_as('dora'); perform api.index_symbols(pg_temp.p()); perform tests.reset(); perform private.cancel_enrichments(pg_temp.pid(), '{languageServer}');
  end loop;
end $$;
select tests.act_as('dora');
select is(pg_temp.call('index_symbols'), '429 RATE_LIMITED', 'the twenty-first start in an hour is refused');
select is(pg_temp.call('run_enrichments'), '429 RATE_LIMITED', 'of any kind');
select is(pg_temp.open_runs(), 'none', 'and opens nothing');

-- Shares of languages.
select tests.reset();
select is(private.language_shares(n, b), w::jsonb, d) from (values
  (array['A', 'B', 'C'], array[1, 1, 1]::bigint[], '[{"name": "A", "percentage": 34}, {"name": "B", "percentage": 33}, {"name": "C", "percentage": 33}]', 'largest remainder'),
  (array['A', 'A', 'B'], array[1, 1, 2]::bigint[], '[{"name": "A", "percentage": 50}, {"name": "B", "percentage": 50}]', 'one entry a name'),
  (array['A', 'B'], array[0, 0]::bigint[], '[]', 'nothing of nothing'), (null, null, '[]', 'no files'),
  (array['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I'], array[90, 80, 70, 60, 50, 40, 30, 20, 10]::bigint[],
    '[{"name": "A", "percentage": 20}, {"name": "B", "percentage": 18}, {"name": "C", "percentage": 15}, {"name": "D", "percentage": 13}, {"name": "E", "percentage": 11}, {"name": "F", "percentage": 9}, {"name": "G", "percentage": 7}, {"name": "Other", "percentage": 7}]',
    'beyond eight the smallest are Other')) v (n, b, w, d);
select is((select sum((e ->> 'percentage')::integer) from jsonb_array_elements(private.language_shares(array(select chr(64 + g) from generate_series(1, 20) g), array(select (g * g * 37) % 101 + 1 from generate_series(1, 20) g)::bigint[])) e), 100::bigint, 'they sum to 100');
select is(private.language_name(l), w, w) from (values ('tsx', 'TypeScript'), ('csharp', 'C#'), ('go', 'Go'), ('visual-basic-6.0', 'Visual basic 6.0')) v (l, w);

-- A deleted context.
select tests.act_as('anna');
select api.delete_project(jsonb_build_object('projectId', pg_temp.pid()));
select tests.reset();
select is((select count(*) from public.enrichment_runs where project_id = pg_temp.pid()) + (select count(*) from public.enrichment_states where project_id = pg_temp.pid()), 0::bigint, 'nothing is left of a deleted context');
select * from finish();
rollback;
