with h as (
  insert into public.habits (user_id, organization_id, skill_id, schedule_cron, next_run_at)
  values (pg_temp.person(), pg_temp.org(), pg_temp.id('skillId'), '0 9 * * *', now() + interval '1 day') returning id
) select pg_temp.keep('habitId', id) from h;
