-- Summaries of a context, by actor, and the extractive one.
begin;
select no_plan();

-- Anna owns the project; Dora, Vic and Ulla are its developer, viewer and auditor; Stan is a stranger.
select tests.user('anna'), tests.user('stan'), tests.member('dora', 'anna'), tests.member('vic', 'anna'), tests.member('ulla', 'anna');
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000f1'::uuid $$;
create function pg_temp.p() returns jsonb language sql as $$ select jsonb_build_object('contextId', pg_temp.pid()) $$;
create function pg_temp.as_person(p_who text, p_function text) returns text language plpgsql as $$
begin
  perform tests.act_as(p_who);
  return (select concat_ws(' ', r ->> 'status', r ->> 'code', r #>> '{details,required}') from tests.refusal(format('select api.%I(%L)', p_function, pg_temp.p())) r);
end $$;
create function pg_temp.file(p_path text, p_content text, p_language text) returns void language sql security definer as $$
  insert into public.content_blobs (organization_id, project_id, hash, content)
  values (tests.org('anna'), pg_temp.pid(), sha256(convert_to(p_content, 'UTF8')), convert_to(p_content, 'UTF8')) on conflict do nothing;
  insert into public.context_files (organization_id, project_id, path, number, hash, origin, language, bytes, tokens)
  values (tests.org('anna'), pg_temp.pid(), p_path, 1, sha256(convert_to(p_content, 'UTF8')), 'file', p_language, octet_length(p_content), 1) $$;
create function pg_temp.ready(p_number integer) returns void language sql security definer as $$
  insert into public.context_ingestions (organization_id, project_id, number, status) values (tests.org('anna'), pg_temp.pid(), p_number, 'ready') $$;
create function pg_temp.jobs() returns text language sql security definer as $$
  select coalesce(string_agg(concat_ws(' ', version, status, case when is_requested then 'requested' end), ', ' order by created_at), 'none')
  from private.summary_jobs where project_id = pg_temp.pid() $$;
create function pg_temp.claim() returns jsonb language sql security definer as $$
  select private.claim_summary(j.id, '00000000-0000-4000-8000-00000000dead', 15) from private.summary_jobs j where j.project_id = pg_temp.pid() and j.status <> 'completed' $$;
grant execute on all functions in schema pg_temp to public;
select tests.act_as('anna');
select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Billing'))) is not null;
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, name, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), u.id, u.email, u.first_name, r, now() from (values ('dora', 'developer'), ('vic', 'viewer'), ('ulla', 'auditor')) v (n, r)
join public.users u on u.id = tests.user(n);

select tests.act_as('vic');
select is(api.get_summary(pg_temp.p()) - 'generatedAt', '{"description": "Nothing has been ingested into Billing yet.", "keyComponents": [], "version": 0, "stale": false, "model": "kijko-extractive"}', 'an empty context says so');
select is(pg_temp.as_person(who, f), w, who || ' does not call ' || f) from (values
  ('ulla', 'get_summary', '403 FORBIDDEN read_summary'), ('stan', 'get_summary', '404 CONTEXT_NOT_FOUND'), ('vic', 'regenerate_summary', '403 FORBIDDEN regenerate_summary'),
  ('ulla', 'regenerate_summary', '403 FORBIDDEN regenerate_summary'), ('stan', 'regenerate_summary', '404 CONTEXT_NOT_FOUND')) v (who, f, w);
select tests.act_as('vic');
select is((tests.refusal(format('select private.regenerate_summary(%L)', pg_temp.pid()))) ->> 'code', 'FORBIDDEN', 'nor past the operation');
select throws_ok($$ select private.refresh_summary('{}') $$, '42501', null, 'only the server refreshes');
select tests.act_anon();
select throws_ok($$ select api.get_summary('{}') $$, '42501', null, 'an anonymous caller reads nothing');
select tests.act_service();
select throws_ok($$ select api.get_summary('{}') $$, '42501', null, 'nor does the service');

-- Without a model.
select tests.reset();
select pg_temp.file('README.md', E'---\ntitle: x\n---\n# Billing\n\n[![build](https://x/y.svg)](https://x)\n\nBilling *computes* [invoices](https://x.example/i) for shops. It knows the rates of VAT.\nIt never sleeps.\n\nMore.', 'markdown');
select pg_temp.file('src/cart.ts', 'export class Cart {}' || repeat(' ', 2000), 'typescript'), pg_temp.file('src/till.ts', 'x', 'typescript'), pg_temp.file('go.mod', 'module shop', 'go-module');
insert into public.kg_generations (organization_id, project_id, number, nodes) values (tests.org('anna'), pg_temp.pid(), 1, 3);
insert into public.kg_nodes (organization_id, project_id, id, part, type, name, path, reference_count) values
  (tests.org('anna'), pg_temp.pid(), gen_random_uuid(), 0, 'class', 'Cart', 'src/cart.ts', 7), (tests.org('anna'), pg_temp.pid(), gen_random_uuid(), 0, 'module', 'express', null, 2),
  (tests.org('anna'), pg_temp.pid(), gen_random_uuid(), 0, 'function', 'total', 'src/cart.ts', 9), (tests.org('anna'), pg_temp.pid(), gen_random_uuid(), 0, 'class', 'Unused', 'src/cart.ts', 0);
select pg_temp.ready(1);
select tests.act_as('vic');
select is(api.get_summary(pg_temp.p()) - 'generatedAt', '{"description": "Billing is a collection of files with 4 files in 3 languages, mostly TypeScript. Billing computes invoices for shops. It knows the rates of VAT. The parts that others refer to most are Cart and express.",
  "keyComponents": ["Cart - class in src/cart.ts, referred to 7 times", "express - external package, imported twice", "total - function in src/cart.ts, referred to 9 times", "src/cart.ts - TypeScript file of 2 KB"],
  "version": 1, "stale": true, "model": "kijko-extractive"}', 'before the first job a summary is extracted');
select is(cardinality(private.sentences(api.get_summary(pg_temp.p()) ->> 'description')), 4, 'of four sentences');
select tests.reset();
select is(private.refresh_summary(pg_temp.p()) -> 'waits', 'true', 'the first reader waits for the job');
select is(private.refresh_summary(pg_temp.p()) ->> 'operationId', (select operation_id::text from private.summary_jobs where project_id = pg_temp.pid()), 'the second for the same one');
select is(pg_temp.jobs(), '1 queued', 'one job a version');
select is(pg_temp.claim(), null, 'which needs no worker without a provider');
select is((select o.status from public.context_operations o join private.summary_jobs j on j.operation_id = o.id where j.project_id = pg_temp.pid()), 'completed', 'and ends');
select tests.act_as('vic');
select is(api.get_summary(pg_temp.p()) -> 'stale', 'false', 'the summary is the version''s now');
select is((select count(*) from public.context_summaries), 1::bigint, 'a viewer reads the table');
select throws_ok($$ update public.context_summaries set description = 'x' $$, '42501', null, 'and does not write it');
select tests.act_as('ulla');
select is((select count(*) from public.context_summaries), 0::bigint, 'an auditor does not read it');
select tests.act_as('stan');
select is((select count(*) from public.context_summaries), 0::bigint, 'nor does a stranger');

-- Versions.
select tests.reset();
select pg_temp.ready(2);
select is(private.refresh_summary(pg_temp.p()) -> 'waits', 'false', 'after a new version a reader has the old text and waits for nothing');
select tests.act_as('vic');
select is((api.get_summary(pg_temp.p()) - '{description,keyComponents,generatedAt}'::text[]), '{"version": 1, "stale": true, "model": "kijko-extractive"}', 'which is stale');
select tests.reset();
select pg_temp.claim();
select is(private.refresh_summary(pg_temp.p()) ->> 'operationId', null, 'a version has one background job');
select tests.act_as('vic');
select is(api.get_summary(pg_temp.p()) -> 'version', '2', 'its summary follows');
select tests.reset();
delete from public.context_ingestions where project_id = pg_temp.pid() and number = 1;
select tests.act_as('vic');
select is(api.get_summary(pg_temp.p()) -> 'stale', 'true', 'a deleted ingestion makes later summaries stale');
select tests.reset();
select isnt(private.refresh_summary(pg_temp.p()) ->> 'operationId', null, 'and brings another job');
select pg_temp.claim();

-- With a model.
select private.declare_installation('providers', '{"anthropic": true, "local": true}');
select tests.act_as('dora');
select api.regenerate_summary(pg_temp.p()) as started \gset
select is(api.regenerate_summary(pg_temp.p()) ->> 'operationId', :'started'::jsonb ->> 'operationId', 'a second request waits for the open job');
select tests.reset();
select pg_temp.claim() as work \gset
select is(:'work'::jsonb #>> '{route,provider}', 'anthropic', 'a worker gets the work');
select is(:'work'::jsonb #> '{source,tree}', '["README.md", "go.mod", "src/cart.ts", "src/till.ts"]', 'with the tree');
select is(:'work'::jsonb #> '{source,folders}', '[{"path": "src", "files": 2}]', 'folders');
select is(:'work'::jsonb #>> '{source,entities,0,name}', 'total', 'entities, most references first');
select is(:'work'::jsonb #> '{source,manifests}', '[{"path": "go.mod", "content": "module shop"}]', 'manifests');
select is(jsonb_array_length(:'work'::jsonb #> '{source,readmes}'), 1, 'and READMEs');
select is(pg_temp.claim(), null, 'no other worker gets it');
select is(private.release_summary((:'work'::jsonb ->> 'jobId')::uuid, gen_random_uuid()), false, 'a worker without the lease gives nothing back');
select is(private.release_summary((:'work'::jsonb ->> 'jobId')::uuid, '00000000-0000-4000-8000-00000000dead'), true, 'a worker that stops gives it back');
select is(pg_temp.claim() ->> 'jobId', :'work'::jsonb ->> 'jobId', 'another one takes it at once');
select is(private.finish_summary((:'work'::jsonb ->> 'jobId')::uuid, gen_random_uuid(), null), false, 'a worker without the lease writes nothing');
select is(private.finish_summary((:'work'::jsonb ->> 'jobId')::uuid, '00000000-0000-4000-8000-00000000dead', '{"description": "By a model.", "keyComponents": ["A - b"], "model": "claude-x"}'), true, 'the one with it does');
select tests.act_as('dora');
select is(api.finish_summary(pg_temp.p() || jsonb_build_object('started', :'started'::jsonb)) - 'generatedAt', '{"description": "By a model.", "keyComponents": ["A - b"], "version": 2, "stale": false, "model": "claude-x"}', 'the request that waited has it');
select tests.reset();
select private.declare_installation('providers', '{"local": true}');
select private.request_summary(pg_temp.pid(), true);
select is(pg_temp.claim(), null, 'the labeled local model never writes a summary');
select private.declare_installation('providers', '{"google": true}');
select private.request_summary(pg_temp.pid(), true);
select is(pg_temp.claim() #>> '{route,provider}', 'google', 'Google''s does where Anthropic''s is not configured');
update private.summary_jobs set lease_expires_at = now() - interval '1 s' where status = 'running';
delete from jobs.stored_jobs where job_type = 'summary.generate';
select is(private.sweep_summaries(), 1, 'a job whose worker died is queued again');
select is(private.finish_summary(j.id, j.lease_owner, null), true, 'and without an answer the summary is extracted') from private.summary_jobs j where j.status = 'running';
select is((select model from public.context_summaries where project_id = pg_temp.pid() and version = 2), 'kijko-extractive', 'also over one of a model');

-- Ten an hour.
update private.summary_jobs set created_at = created_at - interval '1 hour';
select private.declare_installation('providers', '{}');
do $$ begin
  for i in 1..10 loop
    perform tests.act_as('dora'); perform api.regenerate_summary(pg_temp.p()); perform tests.reset(); perform pg_temp.claim();
  end loop;
end $$;
select is(pg_temp.as_person('dora', 'regenerate_summary'), '429 RATE_LIMITED', 'the eleventh in an hour is refused');

-- Texts.
select tests.reset();
select is(private.first_paragraph(t), w, d) from (values
  (E'Title\n=====\nSome words are here: yes\n\nx', 'Some words are here: yes.', 'an underlined heading'),
  (E'# A\n- list item one\n- two\n\n> quote is no text here\n\n```\ncode is no text either\n```\n\nThe real text is here', 'The real text is here.', 'lists, quotations and code are passed over'),
  (E'<h1 align="center">Shop</h1>\n\n<p>A shop for <b>everything</b> you need.</p>', 'A shop for everything you need.', 'HTML'),
  ('One is here. Two follows it. Three is too much.', 'One is here. Two follows it.', 'two sentences'), ('知识图谱是一种结构化的语义知识库。它服务于代码检索与问答！第三句太多了。', '知识图谱是一种结构化的语义知识库。它服务于代码检索与问答！', 'two sentences of Chinese'),
  ('Ledger keeps the accounts of a bank. 知识图谱是一种知识库。', 'Ledger keeps the accounts of a bank. 知识图谱是一种知识库。', 'a full stop of Chinese'), ('# Only a heading', null, 'nothing'), ('', null, 'an empty one'), (E'# A\r\n\r\nWindows ends lines so\r\n', 'Windows ends lines so.', 'carriage returns')) v (t, w, d);
select is(private.text_start(convert_to('aü€x', 'UTF8'), n), w, n || ' bytes') from (values (0, ''), (1, 'a'), (2, 'a'), (3, 'aü'), (4, 'aü'), (5, 'aü'), (6, 'aü€'), (99, 'aü€x')) v (n, w);
select * from finish();
rollback;
