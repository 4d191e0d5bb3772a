-- A completed run with its index, then an open one.
select pg_temp.keep('runId', (private.start_run(pg_temp.id('projectId'), false) ->> 'jobId')::uuid);
with f as (
  insert into public.run_files (organization_id, run_id, id, position, source, path, language, category, bytes, tokens, optimized_tokens, hash)
  values (pg_temp.org(), pg_temp.id('runId'), gen_random_uuid(), 0, 'repository', 'main.go', 'go', 'code', 10, 5, 4, sha256('x')) returning *
), c as (
  insert into public.chunks (organization_id, run_id, id, file_id, position, start_line, end_line, type, tokens, content, hash)
  select organization_id, run_id, gen_random_uuid(), id, 0, 1, 2, 'module_boundaries', 5, 'package main', sha256('x') from f returning *
), t as (
  insert into public.chunk_terms select organization_id, run_id, id, to_tsvector('simple', content) from c returning *
)
select from t;
select private.write_completion(pg_temp.id('runId'), '{}');
select private.start_run(pg_temp.id('projectId'), true);
