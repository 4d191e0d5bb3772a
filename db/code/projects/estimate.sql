-- Estimates the cost of an ingestion (contract 10, section 7.4): a forecast in exact decimal arithmetic, in euro cents. Stored numbers are
-- measured and differ.

create or replace function private.estimated_tokens(p_type text, p_repositories jsonb, p_files jsonb, p_characters bigint) returns numeric
language sql immutable parallel safe
return case p_type
  when 'repository' then (
    select coalesce(sum(coalesce(nullif((r ->> 'locEstimate')::numeric, 0) * 4, nullif((r ->> 'fileCount')::numeric, 0) * 800, 50000)), 0)
    from jsonb_array_elements(p_repositories) r)
  when 'files' then (
    select coalesce(sum(ceil((f ->> 'size')::numeric / case when f ->> 'type' ilike '%json%' then 6 else 4 end)), 0)
    from jsonb_array_elements(p_files) f)
  else ceil(p_characters / 4.0) end;
comment on function private.estimated_tokens is 'Forecast of original tokens of the sources of one kind.';

create or replace function private.estimate_json(p_total numeric, p_strategy text, p_plan text) returns jsonb
language plpgsql immutable
as $$
declare
  v_ratio numeric := case p_strategy when 'semantic' then 0.05 when 'recursive' then 0.08 when 'fixed' then 0.15 else 0.10 end;
  v_optimized numeric := ceil(p_total * v_ratio);
  v_plan text := case p_plan when 'teams' then 'pro' else p_plan end;
  v_rate numeric := case v_plan when 'pro' then 200 when 'enterprise' then 150 else 0 end;
  v_storage numeric := case v_plan when 'pro' then 50 when 'enterprise' then 30 else 0 end;
  v_included numeric := case v_plan when 'pro' then 1000000 when 'enterprise' then 5000000 else 100000 end;
  v_cost numeric := case when v_optimized <= v_included then 0 else ceil((v_optimized - v_included) / 1000000 * v_rate) end;
  v_raw numeric := p_total / 1000000 * v_rate;
begin
  return jsonb_build_object('processingCost', v_cost, 'storageCostMonthly', ceil(v_optimized / 1000000 * v_storage),
    'totalTokens', p_total, 'optimizedTokens', v_optimized, 'compressionRatio', v_ratio, 'isPlanEligible', v_optimized <= v_included,
    'planName', v_plan, 'savingsVsRaw', case when v_raw = 0 then 100 else trim_scale(round((v_raw - v_cost) / v_raw * 100, 2)) end);
end
$$;
comment on function private.estimate_json is 'CostEstimate of a number of tokens under a strategy and a plan.';

create or replace function private.plan_of(p_project_id uuid default null) returns text
language plpgsql stable security definer set search_path = ''
as $$
begin
  if p_project_id is null then
    return private.effective_plan(private.org_id());
  end if;
  perform private.assert_project_role(p_project_id);
  return private.effective_plan((select organization_id from public.projects where id = p_project_id));
end
$$;
comment on function private.plan_of is 'Plan of the current organization, or of a project''s. Authorization: the project must be visible.';
grant execute on function private.estimated_tokens, private.estimate_json, private.plan_of to authenticated;

create or replace function api.estimate_project(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  b jsonb := p -> 'body';
  v_id uuid;
  v record;
begin
  if b ->> 'projectId' is null then
    if b ->> 'projectType' is null or b ->> 'chunkingStrategy' is null then
      perform private.refuse_field(case when b ->> 'projectType' is null then 'projectType' else 'chunkingStrategy' end,
        'This is required without projectId.');
    end if;
    return private.estimate_json(private.estimated_tokens(b ->> 'projectType',
      private.with_known_sizes(coalesce(b -> 'repositories', '[]')),
      coalesce(b -> 'files', '[]'), char_length(coalesce(b ->> 'manualContent', ''))), b ->> 'chunkingStrategy', private.plan_of());
  end if;

  v_id := private.path_project(b, 'viewer');
  select p.type, p.chunking_strategy,
    (select coalesce(jsonb_agg(jsonb_build_object('fileCount', r.file_count)), '[]') from public.project_repositories r where r.project_id = p.id)
      as repositories,
    (select coalesce(jsonb_agg(jsonb_build_object('size', f.size, 'type', f.mime_type)), '[]') from public.project_files f
      where f.project_id = p.id and not f.is_folder and f.origin = 'upload') as files,
    -- Extra texts are text typed or pasted, like the manual one.
    coalesce((select char_length(c.content) from public.project_manual_contents c where c.project_id = p.id), 0)
      + coalesce((select sum(f.size) from public.project_files f where f.project_id = p.id and f.origin = 'text' and not f.is_folder), 0)
      as characters
  into v from public.projects p where p.id = v_id;
  return private.estimate_json(private.estimated_tokens(v.type, v.repositories, v.files, v.characters::bigint), v.chunking_strategy,
    private.plan_of(v_id));
end
$$;
comment on function api.estimate_project is 'POST /projects/estimate: CostEstimate under the real plan. Errors: 400, 403 for an auditor, 404.';
grant execute on function api.estimate_project to authenticated;
