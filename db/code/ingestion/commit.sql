create or replace function private.commit_ingestion(p_run_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r public.ingestion_runs;
  e public.context_ingestions;
  v_scope jsonb;
begin
  select * into r from public.ingestion_runs where id = p_run_id;
  v_scope := private.run_scope(r);
  select * into e from public.context_ingestions where project_id = r.project_id and run_id = r.id;
  if v_scope ? 'refresh' then
    return;
  end if;
  if e.id is null then
    insert into private.context_counters as c (project_id, organization_id, last_number) values (r.project_id, r.organization_id, 1)
    on conflict (project_id) do update set last_number = c.last_number + 1;
    insert into public.context_ingestions (organization_id, project_id, number, run_id)
    values (r.organization_id, r.project_id, (select last_number from private.context_counters where project_id = r.project_id), r.id) returning * into e;
  end if;
  insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, hash, origin, repository_id)
  select r.organization_id, r.project_id, e.id, e.number, m.path, case when f.path is null or f.is_hidden then 'added' else 'modified' end, m.hash, m.origin, m.repository_id
  from private.run_manifests m left join public.context_files f on f.project_id = r.project_id and f.path = m.path
  where m.run_id = r.id and (f.hash is distinct from m.hash or f.is_hidden)
  union all
  select r.organization_id, r.project_id, e.id, e.number, f.path, 'removed', null, f.origin, f.repository_id
  from public.context_files f where f.project_id = r.project_id and private.covers(v_scope, f.origin, f.repository_id)
    and not exists (select from private.run_manifests m where m.run_id = r.id and m.path = f.path);
  delete from public.context_files f where f.project_id = r.project_id and private.covers(v_scope, f.origin, f.repository_id)
    and not exists (select from private.run_manifests m where m.run_id = r.id and m.path = f.path);
  insert into public.context_files (organization_id, project_id, path, number, hash, origin, repository_id, language, is_binary, bytes, tokens)
  select r.organization_id, r.project_id, m.path, e.number, m.hash, m.origin, m.repository_id, m.language, m.is_binary, m.bytes, m.tokens
  from private.run_manifests m where m.run_id = r.id
  on conflict (project_id, path) do update set number = excluded.number, hash = excluded.hash, origin = excluded.origin,
    repository_id = excluded.repository_id, language = excluded.language, is_binary = excluded.is_binary, bytes = excluded.bytes,
    tokens = excluded.tokens, is_hidden = false;
  delete from private.run_manifests where run_id = r.id;
  update public.context_ingestions set status = 'ready', ready_at = now() where id = e.id;
  update private.context_counters set current_number = e.number where project_id = r.project_id;
end
$$;
comment on function private.commit_ingestion is 'Minimal. Judges: callable by definer functions of ours only.';
