-- Retrieval, by actor.
begin;
select no_plan();
-- Anna owns a shared project, Ben views it, Otto is an auditor, Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.member('otto', 'anna'), tests.user('stan');
create function pg_temp.pid() returns uuid language sql immutable as $$ select '00000000-0000-4000-8000-0000000000e1'::uuid $$;
create function pg_temp.run() returns uuid language sql immutable as $$ select '00000000-0000-4000-8000-0000000000e2'::uuid $$;
create function pg_temp.chunk(n integer) returns uuid language sql immutable as $$ select ('00000000-0000-4000-8000-00000000030' || n)::uuid $$;
create function pg_temp.p(p_more jsonb default '{}') returns jsonb language sql as $$ select jsonb_build_object('contextId', pg_temp.pid()) || p_more $$;
create function pg_temp.got(p_more jsonb default '{}') returns text language sql as $$
  select string_agg(t.r ->> 'path' || ':' || (t.r ->> 'startLine'), ' ' order by t.o) from jsonb_array_elements(api.retrieve_passages(pg_temp.p(p_more)) -> 'passages') with ordinality t (r, o) $$;
create function pg_temp.notified(p_sql text) returns text language sql as $$ select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field', r -> 'details' ->> 'required') from tests.refusal(p_sql) r $$;
select tests.act_as('anna');
select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Shop', 'privacy', 'shared'))) is not null;
select api.create_skill('{"body": {"name": "Code Review", "promptTemplate": "Review this code with great care: {{code}}"}}') is not null;
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, name, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), tests.user(n), n || '@example.nl', n, r, now() from (values ('ben', 'viewer'), ('otto', 'auditor')) v (n, r);
select tests.act_as('ben');
select is(api.retrieve_passages(pg_temp.p('{"terms": [["cart"]]}')), '{"passages": []}', 'a context without an index has no passages');
select tests.reset();
insert into private.context_counters (project_id, organization_id, last_number, current_number) values (pg_temp.pid(), tests.org('anna'), 2, 2);
insert into public.context_ingestions (organization_id, project_id, number, status) select tests.org('anna'), pg_temp.pid(), n, 'ready' from generate_series(1, 2) n;
insert into public.context_files (organization_id, project_id, path, number, hash, origin, bytes, tokens, is_hidden)
select tests.org('anna'), pg_temp.pid(), f, n, sha256(f::bytea), 'file', 1, 100, h from (values ('src/cart.go', 1, false), ('src/price.go', 2, false), ('lib/cart.go', 1, false), ('old/cart.go', 1, true), ('my notes.md', 2, false)) v (f, n, h);
insert into public.ingestion_runs (id, organization_id, project_id, started_by) values (pg_temp.run(), tests.org('anna'), pg_temp.pid(), tests.user('anna'));
insert into public.project_indexes (project_id, organization_id, run_id) values (pg_temp.pid(), tests.org('anna'), pg_temp.run());
insert into public.run_files (organization_id, run_id, id, position, source, path, language, category, bytes, tokens, optimized_tokens, hash)
select f.organization_id, pg_temp.run(), f.id, row_number() over (order by f.path), 'file', f.path, 'go', 'code', 9, 9, 9, f.hash from public.context_files f where f.project_id = pg_temp.pid();
insert into public.chunks (organization_id, run_id, id, file_id, position, start_line, end_line, type, tokens, content, hash, reference_of)
select f.organization_id, pg_temp.run(), pg_temp.chunk(n), f.id, o, s, s + 9, 'function_groupings', 9, c, sha256('x'), case n when 6 then pg_temp.chunk(1) end
from (values (1, 'src/cart.go', 0, 1, 'func sumCart() all lines'), (2, 'src/cart.go', 1, 11, 'func emptyCart()'), (3, 'src/price.go', 0, 1, 'price of a line'), (5, 'old/cart.go', 0, 1, 'sum sum sum'),
  (6, 'lib/cart.go', 0, 1, '[same as src/cart.go:1-10]'), (7, 'my notes.md', 0, 1, 'nothing much')) v (n, p, o, s, c) join public.context_files f on f.project_id = pg_temp.pid() and f.path = v.p order by n;
insert into public.chunk_terms (organization_id, run_id, chunk_id, terms)
select tests.org('anna'), pg_temp.run(), pg_temp.chunk(n), t::tsvector from (values (1, $$'cart':1A,5B 'sum':4B,6 'lines':7 'sumcart':3B$$), (2, $$'cart':1A,4B 'empty':3B$$), (3, $$'price':1A,3 'line':4 'sums':5$$), (5, $$'sum':1A,2B,3B$$),
  (6, $$'cart':2A$$), (7, $$'nothing':1 'much':2$$)) v (n, t);
select private.count_words(tests.org('anna'), pg_temp.run(), array(select t.terms from public.chunk_terms t where t.run_id = pg_temp.run()), 1);
select is((select jsonb_object_agg(w.word, w.chunks) from private.index_words w where w.run_id = pg_temp.run() and w.word in ('', 'cart', 'sum', 'line', 'absent')), '{"": 6, "cart": 3, "sum": 2, "line": 1}', 'chunks are counted once a word');

-- ------------------------------------------------------------------------------------------------------------------------- ranks
select tests.act_as('ben');
select is(pg_temp.got('{"terms": [["sum", "sums"], ["cart"]]}'), 'src/cart.go:1 src/cart.go:11 src/price.go:1', 'what has both words, then a word in name and path; a hidden file and a second copy are left out');
select is(pg_temp.got('{"terms": [["sum", "sums"], ["cart"]], "limit": 1}'), 'src/cart.go:1', 'so many');
select is(pg_temp.got('{"terms": [["absent"]]}'), null, 'a word that no chunk has');
select is(pg_temp.got('{}'), null, 'no word');
select is(api.retrieve_passages(pg_temp.p('{"terms": [["empty"]]}')) #- '{passages,0,score}', jsonb_build_object('passages', jsonb_build_array(jsonb_build_object('fileId', f.id, 'path', 'src/cart.go', 'number', 1,
  'startLine', 11, 'endLine', 20, 'text', 'func emptyCart()', 'tokens', 9, 'compressed', false))), 'a passage') from public.context_files f where f.path = 'src/cart.go';
select is(pg_temp.got('{"terms": [["it''s"], ["a\\b & c"], ["sum:*"], ["sumcart"]]}'), 'src/cart.go:1', 'signs have no meaning');

-- What the question names comes first.
select is(pg_temp.got('{"terms": [["sum", "sums"]], "references": [["my notes.md says", "my notes.md", "my"]]}'), 'my notes.md:1 src/cart.go:1 src/price.go:1', 'a file by its name, which may have blanks');
select is(pg_temp.got('{"terms": [["empty"]], "references": [["CART.go"]], "limit": 3}'), 'src/cart.go:11 lib/cart.go:1', 'all files of a name, the best chunk of each first, an equal text once');
select is(pg_temp.got('{"terms": [["nothing"]], "references": [["src/cart.go"], ["absent.go"]]}'), 'src/cart.go:1 src/cart.go:11 my notes.md:1', 'a path; without a fitting word in the order of the file');
select is(pg_temp.got('{"numbers": [2, 99]}'), 'my notes.md:1 src/price.go:1', 'files of an ingestion');
select is(pg_temp.got('{"references": [["old/cart.go"]]}'), null, 'a hidden file is not found by its name');

-- Sources: the caller's selection, or those of the request.
select is(pg_temp.got(format('{"terms": [["cart"], ["price"]], "sourceIds": ["%s", "00000000-0000-4000-8000-000000000000"]}', f.id)::jsonb), 'src/price.go:1', 'the files of the request only') from public.context_files f where f.path = 'src/price.go';
select is(pg_temp.got('{"terms": [["cart"]], "sourceIds": []}'), null, 'none of them');
select tests.reset();
insert into public.context_source_selection (organization_id, project_id, user_id, file_id) select f.organization_id, f.project_id, tests.user('ben'), f.id from public.context_files f where f.path = 'src/cart.go';
select tests.act_as('ben');
select is(pg_temp.got('{"terms": [["cart"], ["price"]]}'), 'src/price.go:1 lib/cart.go:1', 'a file that the person left out is not read');
select is(pg_temp.got('{"terms": [["empty"]], "references": [["src/cart.go"]]}'), 'src/cart.go:11 src/cart.go:1', 'unless they name it');
select tests.act_as('anna');
select is(pg_temp.got('{"terms": [["price"]], "skills": [["code review now", "code review", "code"]]}'), 'src/price.go:1', 'the selection of another person does not count');

-- Skills of the caller.
select is(api.retrieve_passages('{"skills": [["code review now", "code review", "code"]]}'), '{"skill": "Code Review", "skillPrompt": "Review this code with great care: {{code}}", "passages": []}', 'the longest name; without a context there are no passages');
select is(api.retrieve_passages('{"skills": [["Code-Review"]]}') ->> 'skill', 'Code Review', 'blanks may be hyphens');
select tests.act_as('ben');
select is(api.retrieve_passages('{"skills": [["code review"]]}'), '{"passages": []}', 'not those of another');

-- Compressed text stands in for the text.
select tests.reset();
update public.context_ingestions set compressed = true, tokens = 9, compressed_tokens = 2, compression_key = 'k' where project_id = pg_temp.pid() and number = 2;
insert into public.compressed_files (organization_id, project_id, hash, language, settings_key, content, tokens) select f.organization_id, f.project_id, f.hash, f.language, 'k', 'short price', 2 from public.context_files f where f.path = 'src/price.go';
select tests.act_as('ben');
select is((api.retrieve_passages(pg_temp.p('{"terms": [["price"]]}')) #> '{passages,0}') - '{fileId,score}'::text[], '{"path": "src/price.go", "number": 2, "startLine": 1, "endLine": 10, "text": "short price", "compressed": true}', 'compressed text');

-- Embeddings and the graph move what the words found.
select tests.reset();
insert into public.enrichment_states (organization_id, project_id, kind, is_active, result) values (tests.org('anna'), pg_temp.pid(), 'chromaCode', true, '{"model": "m", "dimensions": 2, "embedder": "e"}')
on conflict (project_id, kind) do update set is_active = true, result = excluded.result;
insert into public.file_embeddings (organization_id, project_id, file_id, embedder, chunk_no, hash, start_byte, end_byte, start_line, end_line, tokens, model, dimensions, embedding)
select f.organization_id, f.project_id, f.id, 'e', 0, f.hash, 0, 1, 11, 15, 1, 'm', 2, v.e from public.context_files f join (values ('src/cart.go', '{1,0}'::real[]), ('src/price.go', '{0,1}')) v (p, e) on v.p = f.path;
insert into public.content_blobs (organization_id, project_id, hash, content) select f.organization_id, f.project_id, f.hash, 'x' from public.context_files f where f.path = 'src/cart.go';
delete from public.context_source_selection;
select tests.act_as('ben');
select is(pg_temp.got('{"terms": [["cart"]]}'), 'src/cart.go:1 src/cart.go:11', 'two chunks with equal words');
select is(pg_temp.got('{"terms": [["cart"]], "vector": {"model": "m", "values": [1, 0]}}'), 'src/cart.go:11 src/cart.go:1', 'the nearer one rises');
select is(pg_temp.got('{"terms": [["absent"]], "vector": {"model": "m", "values": [1, 0]}}'), 'src/cart.go:11', 'what is near is found without a common word');

-- price.go calls what is in the second chunk of src/cart.go.
select is(pg_temp.got('{"terms": [["cart"], ["price"]]}'), 'src/cart.go:1 src/cart.go:11 src/price.go:1', 'without a link, equal words stay in the order of the file');
select tests.reset();
insert into public.kg_files (organization_id, project_id, part, path, digest, cluster) select tests.org('anna'), pg_temp.pid(), n, p, '', 1 from (values (1, 'src/price.go'), (2, 'src/cart.go')) v (n, p);
insert into public.kg_nodes (organization_id, project_id, id, part, type, name, path, start_line, end_line)
select tests.org('anna'), pg_temp.pid(), pg_temp.chunk(n), part, 'function', name, p, l, l from (values (8, 1, 'price', 'src/price.go', 2), (9, 2, 'emptyCart', 'src/cart.go', 12)) v (n, part, name, p, l);
insert into public.kg_edges (organization_id, project_id, source_id, target_id, type) values (tests.org('anna'), pg_temp.pid(), pg_temp.chunk(8), pg_temp.chunk(9), 'calls');
select tests.act_as('ben');
select is(pg_temp.got('{"terms": [["cart"], ["price"]]}'), 'src/cart.go:11 src/price.go:1 src/cart.go:1', 'a hit and what calls it rise together');

select is(pg_temp.got('{"terms": [["cart"]], "vector": {"model": "other", "values": [1, 0]}}'), pg_temp.got('{"terms": [["cart"]]}'), 'a vector of another model does nothing');

-- ---------------------------------------------------------------------------------------------------------------------- refusals
select is(pg_temp.notified(format('select api.retrieve_passages(%L)', pg_temp.p(q::jsonb))), w, q) from (values ('{"terms": "x"}', '400 VALIDATION_ERROR terms'), ('{"terms": ["x"]}', '400 VALIDATION_ERROR terms'), ('{"terms": [[]]}', '400 VALIDATION_ERROR terms'),
  ('{"terms": [[1]]}', '400 VALIDATION_ERROR terms'), ('{"terms": [[""]]}', '400 VALIDATION_ERROR terms'), ('{"limit": 0}', '400 VALIDATION_ERROR limit'), ('{"limit": 51}', '400 VALIDATION_ERROR limit'), ('{"references": [[{}]]}', '400 VALIDATION_ERROR references'),
  ('{"numbers": ["x"]}', '400 VALIDATION_ERROR numbers'), ('{"vector": {"model": "m", "values": [1e300]}}', '400 VALIDATION_ERROR vector'), ('{"vector": []}', '400 VALIDATION_ERROR vector'), ('{"contextId": "x"}', '404 CONTEXT_NOT_FOUND'),
  (jsonb_build_object('terms', (select jsonb_agg('["x"]'::jsonb) from generate_series(1, 65)))::text, '400 VALIDATION_ERROR terms')) v (q, w);
select tests.act_as('otto');
select is(pg_temp.notified(format('select api.retrieve_passages(%L)', pg_temp.p('{"terms": [["cart"]]}'))), '403 FORBIDDEN viewFiles', 'an auditor reads no content');
select is(private.find_passages(pg_temp.pid(), '[["cart"]]', '[]', '{}', null, 12, null, '{}'), '[]', 'in no way');
select tests.act_as('stan');
select is(pg_temp.notified(format('select api.retrieve_passages(%L)', pg_temp.p('{"terms": [["cart"]]}'))), '404 CONTEXT_NOT_FOUND', 'nor does a stranger');
select is(private.find_passages(pg_temp.pid(), '[["cart"]]', '[]', '{}', null, 12, null, '{}'), '[]', 'in no way');
select tests.act_anon();
select throws_ok($$ select api.retrieve_passages('{}') $$, '42501', null, 'nor an anonymous caller');
select tests.act_service();
select throws_ok($$ select api.retrieve_passages('{}') $$, '42501', null, 'nor the service');

select * from finish();
rollback;
