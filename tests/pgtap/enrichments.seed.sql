-- An index of symbols and embeddings of the context's file, and a run that is over.
insert into public.enrichment_states (organization_id, project_id, kind, is_active, last_run_at, result)
select pg_temp.org(), pg_temp.id('projectId'), k, true, now(), '{"model": "kijko-hash-256", "dimensions": 2, "embedder": "seed"}'
from unnest(private.enrichment_kinds()) k
on conflict (project_id, kind) do update set is_active = excluded.is_active, is_wanted = false, last_run_at = excluded.last_run_at, result = excluded.result;
update public.enrichment_runs set status = 'cancelled' where project_id = pg_temp.id('projectId') and status = 'queued';
insert into public.enrichment_runs (organization_id, project_id, kind, status, message)
values (pg_temp.org(), pg_temp.id('projectId'), 'languageServer', 'queued', pg_temp.secret());
update public.enrichment_runs set status = 'completed' where project_id = pg_temp.id('projectId') and status = 'queued';
insert into public.symbol_contents (organization_id, project_id, hash, language, is_parsed, symbols)
values (pg_temp.org(), pg_temp.id('projectId'), sha256('x'), 'go', true, 1);
insert into public.symbols (organization_id, project_id, hash, language, position, kind, name, qualified_name, start_line, end_line, exported)
values (pg_temp.org(), pg_temp.id('projectId'), sha256('x'), 'go', 0, 'function', pg_temp.secret(), pg_temp.secret(), 1, 1, false);
insert into public.symbol_files (organization_id, project_id, file_id, hash, language)
select f.organization_id, f.project_id, f.id, f.hash, 'go' from public.context_files f where f.project_id = pg_temp.id('projectId');
insert into public.file_embeddings (organization_id, project_id, file_id, embedder, chunk_no, hash, start_byte, end_byte, start_line, end_line, tokens,
  model, dimensions, embedding)
select f.organization_id, f.project_id, f.id, 'seed', 0, f.hash, 0, 1, 1, 1, 1, 'kijko-hash-256', 2, '{1,0}'
from public.context_files f where f.project_id = pg_temp.id('projectId');
