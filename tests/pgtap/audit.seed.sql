select private.audit('context.created', 'A line of ' || pg_temp.tenant(), null, null, pg_temp.org(), pg_temp.person());
with f as (
  insert into public.audit_filters (organization_id, user_id, name, filters, is_shared)
  values (pg_temp.org(), pg_temp.person(), pg_temp.secret(), '{}', true) returning id
) select pg_temp.keep('filterId', id) from f;
with s as (
  insert into public.audit_schedules (organization_id, user_id, format, filters, schedule, next_run_at)
  values (pg_temp.org(), pg_temp.person(), 'csv', '{}', 'daily', now() + interval '1 day') returning id
) select pg_temp.keep('scheduleId', id) from s;
