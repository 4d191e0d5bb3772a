-- Operations of habits (contract 20, section 7). Triggers check the values, with the same messages for every writer.

create or replace function api.list_habits(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_user uuid := private.user_id();
  v_at record := private.page(p, 20);
  v_active boolean := private.as_bool(p -> 'isActive', 'isActive');
  v_skill uuid := private.as_uuid(p ->> 'skillId');
  -- A malformed id is the id of no skill.
  v_any_skill boolean := coalesce(p ->> 'skillId', '') = '';
  v_total bigint;
begin
  select count(*) into v_total from public.habits h
  where h.user_id = v_user and (v_any_skill or h.skill_id = v_skill) and (v_active is null or h.is_active = v_active);
  return jsonb_build_object(
    'habits', coalesce((
      select jsonb_agg(private.habit_with_skill_json(x.h, x.s) order by x.place)
      from (
        select h, s, row_number() over (order by h.is_active desc, h.next_run_at, h.created_at, h.id) as place
        from public.habits h
        left join public.skills s on s.id = h.skill_id
        where h.user_id = v_user and (v_any_skill or h.skill_id = v_skill) and (v_active is null or h.is_active = v_active)
        order by place limit v_at.size offset v_at.skipped
      ) x), '[]'),
    'total', v_total, 'page', v_at.number, 'pageSize', v_at.size, 'hasMore', v_at.skipped + v_at.size < v_total);
end
$$;
comment on function api.list_habits is 'GET /habits: {habits, total, page, pageSize, hasMore}: active first, soonest first. Errors: 400.';
grant execute on function api.list_habits to authenticated;

create or replace function api.create_habit(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  b jsonb := p -> 'body';
  v_skill uuid := private.as_uuid(b ->> 'skillId');
  h public.habits;
begin
  if b ->> 'skillId' is null then
    perform private.refuse_field('skillId', 'skillId is required.');
  elsif v_skill is null then
    perform private.refuse_skill(b ->> 'skillId', 'skillId');
  end if;
  insert into public.habits (user_id, organization_id, skill_id, schedule_cron, schedule_description, timezone, config, is_active)
  values (private.user_id(), private.org_id(), v_skill, b ->> 'scheduleCron', b ->> 'scheduleDescription', coalesce(b ->> 'timezone', 'UTC'),
    coalesce(nullif(b -> 'config', 'null'), '{}'), coalesce(private.as_bool(b -> 'isActive', 'isActive'), true))
  returning * into h;
  return private.habit_json(h);
end
$$;
comment on function api.create_habit is
  'POST /habits: Habit. Errors: 400 VALIDATION_ERROR, INVALID_CRON, INVALID_TIMEZONE, 404 SKILL_NOT_FOUND, 409 TOO_MANY_HABITS.';
grant execute on function api.create_habit to authenticated;

create or replace function api.get_habit_stats(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_user uuid := private.user_id();
begin
  return (
    select jsonb_build_object('totalHabits', count(*), 'activeHabits', count(*) filter (where h.is_active), 'totalRuns', coalesce(sum(h.run_count), 0),
      'failedHabits', count(*) filter (where h.consecutive_failures > 0),
      'upcomingRuns', coalesce((
        select jsonb_agg(jsonb_build_object('habitId', n.id, 'skillName', coalesce(s.name, 'Unknown Skill'), 'nextRunAt', private.iso(n.next_run_at))
          order by n.next_run_at, n.created_at, n.id)
        from (
          select * from public.habits u where u.user_id = v_user and u.is_active
          order by u.next_run_at, u.created_at, u.id limit 5
        ) n
        left join public.skills s on s.id = n.skill_id), '[]'))
    from public.habits h where h.user_id = v_user);
end
$$;
comment on function api.get_habit_stats is 'GET /habits/stats: numbers over the caller''s habits and the five soonest runs.';
grant execute on function api.get_habit_stats to authenticated;

create or replace function api.validate_cron(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  b jsonb := p -> 'body';
  -- A value that is no text counts as the empty expression.
  v_cron text := coalesce(case when jsonb_typeof(b -> 'cron') = 'string' then b ->> 'cron' end,
    case when jsonb_typeof(b -> 'expression') = 'string' then b ->> 'expression' end, '');
  v_zone text := coalesce(b ->> 'timezone', 'UTC');
  v_at timestamptz := now();
  v_error text;
  v_runs text[] := '{}';
begin
  if not private.is_zone(v_zone) then
    perform private.refuse(400, 'INVALID_TIMEZONE', format('"%s" is not a time zone', left(v_zone, 50)), 'timezone');
  end if;
  if b ->> 'after' is not null then
    v_at := private.as_instant(b ->> 'after');
    if v_at is null or extract(year from v_at at time zone 'UTC') not between 1000 and 9900 then
      perform private.refuse_field('after', 'after must be a timestamp such as 2026-01-31T09:00:00Z.');
    end if;
  end if;
  v_error := private.cron_error(v_cron);
  if v_error is not null then
    return jsonb_build_object('isValid', false, 'error', v_error);
  end if;
  for i in 1..5 loop
    v_at := private.cron_next(v_cron, v_zone, v_at);
    exit when v_at is null;
    v_runs := v_runs || private.iso(v_at);
  end loop;
  return jsonb_build_object('isValid', true, 'description', private.cron_description(v_cron), 'nextRuns', to_jsonb(v_runs));
end
$$;
comment on function api.validate_cron is 'POST /habits/validate-cron: {isValid, error?, description?, nextRuns?}. Errors: 400 INVALID_TIMEZONE, 400 about after.';
grant execute on function api.validate_cron to authenticated;

create or replace function api.get_habit(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.habit_json(private.path_habit(p));
end
$$;
comment on function api.get_habit is 'GET /habits/{habitId}: Habit. Errors: 404 HABIT_NOT_FOUND.';
grant execute on function api.get_habit to authenticated;

create or replace function api.get_habit_full(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  h public.habits := private.path_habit(p);
begin
  return private.habit_with_skill_json(h, private.visible_skill(h.skill_id));
end
$$;
comment on function api.get_habit_full is 'GET /habits/{habitId}/full: HabitWithSkill. Errors: 404 HABIT_NOT_FOUND, SKILL_NOT_FOUND.';
grant execute on function api.get_habit_full to authenticated;

create or replace function api.update_habit(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  b jsonb := p -> 'body';
  o public.habits := private.lock_habit(p);
  n public.habits := o;
begin
  if b ? 'scheduleCron' then
    n.schedule_cron := private.normal_cron(left(b ->> 'scheduleCron', 10001));
  end if;
  if b ? 'scheduleDescription' then
    n.schedule_description := nullif(b ->> 'scheduleDescription', '');
  elsif n.schedule_cron is distinct from o.schedule_cron then
    -- The old description would describe another schedule.
    n.schedule_description := private.cron_description(n.schedule_cron);
  end if;
  if b ? 'timezone' then
    n.timezone := coalesce(b ->> 'timezone', 'UTC');
  end if;
  if b ? 'config' then
    n.config := coalesce(nullif(b -> 'config', 'null'), '{}');
  end if;
  if b ? 'isActive' then
    n.is_active := private.as_bool(b -> 'isActive', 'isActive');
  end if;
  if n is distinct from o then
    update public.habits h
    set schedule_cron = n.schedule_cron, schedule_description = n.schedule_description, timezone = n.timezone, config = n.config,
      is_active = n.is_active
    where h.id = o.id
    returning * into n;
  end if;
  return private.habit_json(n);
end
$$;
comment on function api.update_habit is
  'PUT, PATCH /habits/{habitId}: Habit; absent members keep. Errors: 400 VALIDATION_ERROR, INVALID_CRON, INVALID_TIMEZONE, 404 HABIT_NOT_FOUND.';
grant execute on function api.update_habit to authenticated;

create or replace function api.delete_habit(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  h public.habits := private.lock_habit(p);
begin
  delete from public.habits where id = h.id;
  return '{"success": true}';
end
$$;
comment on function api.delete_habit is 'DELETE /habits/{habitId}: {success}; its executions stay. Errors: 404 HABIT_NOT_FOUND.';
grant execute on function api.delete_habit to authenticated;

create or replace function api.activate_habit(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.habit_json(private.revive_habit((private.path_habit(p)).id));
end
$$;
comment on function api.activate_habit is 'POST /habits/{habitId}/activate: Habit, planned from now, without failures. Errors: 404 HABIT_NOT_FOUND.';
grant execute on function api.activate_habit to authenticated;

create or replace function api.reset_habit_errors(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return api.activate_habit(p);
end
$$;
comment on function api.reset_habit_errors is 'POST /habits/{habitId}/reset-errors: Habit; the same as activate. Errors: 404 HABIT_NOT_FOUND.';
grant execute on function api.reset_habit_errors to authenticated;

create or replace function api.deactivate_habit(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  h public.habits := private.lock_habit(p);
begin
  update public.habits x set is_active = false where x.id = h.id returning * into h;
  return private.habit_json(h);
end
$$;
comment on function api.deactivate_habit is 'POST /habits/{habitId}/deactivate: Habit; its failures stay counted. Errors: 404 HABIT_NOT_FOUND.';
grant execute on function api.deactivate_habit to authenticated;

create or replace function api.run_habit(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v record;
begin
  v := private.run_habit((private.path_habit(p)).id);
  return jsonb_build_object('executionId', (v.execution).id, 'status', case (v.execution).status when 'pending' then 'queued' else 'running' end,
    'message', format('Habit "%s" queued for immediate execution', coalesce((v.habit).schedule_description, (v.habit).schedule_cron)));
end
$$;
comment on function api.run_habit is
  'POST /habits/{habitId}/run-now: {executionId, status, message}. Errors: 404 HABIT_NOT_FOUND, SKILL_NOT_FOUND, 409 SKILL_INACTIVE, 403 MEMBERSHIP_INACTIVE, 503, 429.';
grant execute on function api.run_habit to authenticated;

create or replace function api.list_habit_executions(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.reference_executions_json((private.path_habit(p)).id, p);
end
$$;
comment on function api.list_habit_executions is 'GET /habits/{habitId}/executions: {executions, total}, newest first. Errors: 404 HABIT_NOT_FOUND, 400.';
grant execute on function api.list_habit_executions to authenticated;
