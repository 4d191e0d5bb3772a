-- The list, the details of a skill besides itself, and the numbers (contract 20, sections 3.1 to 3.3 and 3.9).

drop function if exists private.page_size(jsonb, integer, text);

create or replace function private.count_skills(p_user_id uuid, p_public boolean, p_active boolean, p_category text, p_search text) returns bigint
language plpgsql stable
as $$
begin
  return (
    select count(*) from public.skills s
    where (s.user_id = p_user_id and (p_active is null or s.is_active = p_active)
        or p_public and s.user_id <> p_user_id and s.is_public and s.is_active)
      and (p_category is null or s.category = p_category)
      and (p_search is null or private.folded(s.name) like p_search or private.folded(s.description) like p_search)
  );
end
$$;
comment on function private.count_skills is 'How many skills the list has in all under its filters.';
grant execute on function private.count_skills to authenticated;

-- Own skills and those of others are two walks along two indexes, which end where the page ends. A first page that is not full says how many there
-- are; otherwise they are counted.
create or replace function api.list_skills(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 20);
  v_page bigint := v_at.number;
  v_size integer := v_at.size;
  v_user uuid := private.user_id();
  v_category text := p ->> 'category';
  v_active boolean := private.as_bool(p -> 'isActive', 'isActive');
  v_search text := private.folded(private.like_pattern(nullif(p ->> 'search', '')));
  v_public boolean := coalesce(private.as_bool(p -> 'includePublic', 'includePublic'), false) and v_active is distinct from false;
  v_end bigint;
  v_total bigint;
  v_skills jsonb;
begin
  if v_page > 1 then
    v_total := private.count_skills(v_user, v_public, v_active, v_category, v_search);
  end if;
  -- A page beyond the end is not walked to.
  v_end := least(v_page, v_total / v_size + 1) * v_size;

  select coalesce(jsonb_agg(private.skill_json(t.s) order by (t.s).updated_at desc, (t.s).id desc), '[]') into v_skills
  from (
    select u.s from (
      (select s from public.skills s
        where s.user_id = v_user and (v_active is null or s.is_active = v_active) and (v_category is null or s.category = v_category)
          and (v_search is null or private.folded(s.name) like v_search or private.folded(s.description) like v_search)
        order by s.updated_at desc, s.id desc limit v_end)
      union all
      (select s from public.skills s
        where v_public and s.is_public and s.is_active and s.user_id <> v_user and (v_category is null or s.category = v_category)
          and (v_search is null or private.folded(s.name) like v_search or private.folded(s.description) like v_search)
        order by s.updated_at desc, s.id desc limit v_end)
    ) u
    where v_page = 1 or v_page <= v_total / v_size + 1
    order by (u.s).updated_at desc, (u.s).id desc
    limit v_size offset v_end - v_size
  ) t;
  if v_page = 1 then
    v_total := jsonb_array_length(v_skills);
    if v_total = v_size then
      v_total := private.count_skills(v_user, v_public, v_active, v_category, v_search);
    end if;
  end if;
  return jsonb_build_object('skills', v_skills, 'total', v_total, 'page', v_page, 'pageSize', v_size,
    'hasMore', v_page::numeric * v_size < v_total);
end
$$;
comment on function api.list_skills is 'GET /skills: PaginatedSkillsResponse, the latest changed first. Errors: 400.';
grant execute on function api.list_skills to authenticated;

-- Habits in the order of their own list (contract 20, H1), reflexes likewise (R1); all of it the caller's.
create or replace function api.get_skill_full(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  s public.skills := private.path_skill(p);
  v_user uuid := private.user_id();
begin
  return private.skill_json(s) || jsonb_build_object(
    'habits', (select coalesce(jsonb_agg(private.habit_json(h) order by h.is_active desc, h.next_run_at, h.created_at, h.id), '[]')
      from public.habits h where h.skill_id = s.id and h.user_id = v_user),
    'reflexes', (select coalesce(jsonb_agg(private.reflex_json(r)
        order by r.is_active desc, r.last_triggered_at desc nulls last, r.created_at desc, r.id), '[]')
      from public.reflexes r where r.skill_id = s.id and r.user_id = v_user),
    'recentExecutions', private.skill_executions_json(s.id, 10, 0));
end
$$;
comment on function api.get_skill_full is 'GET /skills/{skillId}/full: SkillWithRelations. Errors: 404 SKILL_NOT_FOUND.';
grant execute on function api.get_skill_full to authenticated;

create or replace function private.skill_executions_json(p_skill_id uuid, p_limit integer, p_offset bigint) returns jsonb
language plpgsql stable
as $$
begin
  return (
    select coalesce(jsonb_agg(private.execution_json(e) order by e.executed_at desc, e.id desc), '[]')
    from (
      select * from public.skill_executions x
      where x.skill_id = p_skill_id and x.user_id = private.user_id()
      order by x.executed_at desc, x.id desc limit p_limit offset p_offset
    ) e);
end
$$;
comment on function private.skill_executions_json is 'The caller''s runs of a skill, newest first.';
grant execute on function private.skill_executions_json to authenticated;

create or replace function api.list_skill_executions(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  s public.skills := private.path_skill(p);
  v_at record := private.page(p, 10);
begin
  return jsonb_build_object('executions', private.skill_executions_json(s.id, v_at.size, v_at.skipped),
    'total', (select count(*) from public.skill_executions e where e.skill_id = s.id and e.user_id = private.user_id()));
end
$$;
comment on function api.list_skill_executions is 'GET /skills/{skillId}/executions: {executions, total} of the caller. Errors: 400, 404 SKILL_NOT_FOUND.';
grant execute on function api.list_skill_executions to authenticated;

create or replace function api.get_skill_stats(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_user uuid := private.user_id();
  v_runs jsonb;
  v_skills jsonb;
begin
  -- One pass over the runs; the twenty groups are summed up from there.
  with runs as (
    select e.status, e.execution_type as type, count(*) as n,
      coalesce(sum(e.prompt_tokens::bigint + e.completion_tokens) filter (where e.status = 'completed'), 0) as tokens,
      coalesce(sum(e.cost_cents) filter (where e.status = 'completed'), 0) as cents
    from public.skill_executions e
    where e.user_id = v_user
    group by 1, 2
  )
  select jsonb_build_object(
    'totalExecutions', coalesce(sum(r.n), 0), 'totalTokensUsed', coalesce(sum(r.tokens), 0), 'totalCostCents', coalesce(sum(r.cents), 0),
    'executionsByStatus', (select jsonb_object_agg(k, (select coalesce(sum(x.n), 0) from runs x where x.status = k))
      from unnest(array['pending', 'running', 'completed', 'failed', 'cancelled']) k),
    'executionsByType', (select jsonb_object_agg(k, (select coalesce(sum(x.n), 0) from runs x where x.type = k))
      from unnest(array['manual', 'habit', 'reflex', 'api']) k))
  into v_runs
  from runs r;
  select jsonb_build_object('totalSkills', count(*), 'activeSkills', count(*) filter (where s.is_active),
    'topSkillsByUsage', (select coalesce(jsonb_agg(jsonb_build_object('skillId', t.id, 'name', t.name, 'count', t.execution_count)
        order by t.execution_count desc, t.name, t.id), '[]')
      from (select k.id, k.name, k.execution_count from public.skills k where k.user_id = v_user
        order by k.execution_count desc, k.name, k.id limit 5) t))
  into v_skills
  from public.skills s where s.user_id = v_user;
  return v_skills || v_runs;
end
$$;
comment on function api.get_skill_stats is 'GET /skills/stats: SkillStats of the caller.';
grant execute on function api.get_skill_stats to authenticated;
