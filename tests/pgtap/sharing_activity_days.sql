-- The totals of activity logs: numbers of closed days beside entries that are read, for each range and type, and after each change.
begin;
select no_plan();
-- Anna owns the project, Ben is a developer in it, who reads his own entries, Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');
select tests.user('anna') as anna, tests.user('ben') as ben, tests.org('anna') as org \gset
insert into public.projects (organization_id, user_id, name) values (:'org', :'anna', 'Log') returning id as project \gset
insert into public.projects (organization_id, user_id, name) values (:'org', :'anna', 'Other log') returning id as other \gset
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at) values (:'org', :'project', :'ben', 'ben@example.nl', 'developer', now());

select ok(not has_table_privilege(r, 'private.' || t, 'select, insert, update, delete'), r || ' may not touch private.' || t)
from unnest(array['activity_days', 'activity_mark']) t cross join unnest(array['anon', 'authenticated', 'service_role', 'kijko_server', 'kijko_worker']) r;
select ok(not has_function_privilege(r, 'private.close_activity_days(timestamptz)', 'execute'), r || ' closes no days')
from unnest(array['anon', 'authenticated', 'service_role', 'kijko_server', 'kijko_worker']) r;

create function pg_temp.write(p_project uuid, p_user uuid, p_count integer, p_step interval, p_type text) returns void language sql
as $$ insert into public.project_activity (organization_id, project_id, type, user_id, user_name, user_email, description, created_at)
  select tests.org('anna'), p_project, p_type, p_user, 'A', 'a@example.nl', 'did ' || n, now() - n * p_step from generate_series(1, p_count) n $$;
select pg_temp.write(:'project', :'anna', 400, '5 hours', 'chat'), pg_temp.write(:'project', :'ben', 90, '23 hours', 'permission'), pg_temp.write(:'project', null, 5, '1 hour', 'config'),
  pg_temp.write(:'other', :'anna', 100, '1 day', 'chat');
-- How many totals differ from what a reader counts.
create function pg_temp.differences(p_name text, p_project uuid) returns bigint language plpgsql as $$
declare
  v bigint := 0;
  r record;
begin
  perform tests.act_as(p_name);
  for r in
    select t.type, s.since, private.activity_count(p_project, t.type, s.since) as total,
      (select count(*) from public.project_activity a where a.project_id = p_project and (t.type = 'all' or a.type = t.type)
        and (s.since is null or a.created_at >= private.shown(s.since))) as counted
    from unnest(array['all', 'chat', 'permission', 'config', 'view']) t (type),
      (values (null::timestamptz), (now() - interval '7 days'), (now() - interval '30 days'), (now() - interval '90 days'), (now() - interval '1 minute'),
        (date_trunc('day', now(), 'UTC') - interval '3 days')) s (since)
  loop
    v := v + (r.total <> r.counted)::integer;
  end loop;
  perform tests.reset();
  return v;
end
$$;
select is(pg_temp.differences('anna', :'project'), 0::bigint, 'nothing is closed yet');
select private.close_activity_days();
select is((select count(*) from private.activity_days), 0::bigint, 'nor while it is unknown which transactions are open');
update private.audit_mark set settled_at = now();
select private.close_activity_days() from generate_series(1, 5);
select is((select m.closed_until from private.activity_mark m), date_trunc('day', now() - interval '1 hour', 'UTC'), 'then all days up to the last midnight');
select is((select sum(d.entries) from private.activity_days d), (select count(*) from public.project_activity a, private.activity_mark m where a.created_at < m.closed_until)::numeric, 'each entry once');
select is(pg_temp.differences('anna', :'project') + pg_temp.differences('anna', :'other'), 0::bigint, 'totals stay exact');
select is(pg_temp.differences('ben', :'project'), 0::bigint, 'also of a member who reads his own entries');
select tests.act_as('stan');
select throws_ok(format('select private.activity_count(%L, ''all'', null)', :'project'), 'PT404', null, 'a stranger gets none');
select tests.reset();

select pg_temp.write(:'project', :'ben', 30, '2 days', 'view');
select is(pg_temp.differences('anna', :'project'), 0::bigint, 'after entries of closed days');
delete from public.project_activity where project_id = :'project' and type = 'chat' and created_at < now() - interval '20 days';
select is(pg_temp.differences('anna', :'project'), 0::bigint, 'after deletions');
select tests.end_old('project_activity', now() + interval '340 days'), private.close_activity_days(now() + interval '340 days');
select is(pg_temp.differences('anna', :'project'), 0::bigint, 'after retention');
select private.close_activity_days(), private.close_activity_days(now() - interval '9 days');
select is(pg_temp.differences('anna', :'project'), 0::bigint, 'and after closing what is closed');
delete from public.users where id = tests.user('ben');
select is(pg_temp.differences('anna', :'project'), 0::bigint, 'after the erasure of a person');
delete from public.projects where id = :'other';
select is((select count(*) from private.activity_days d where d.project_id = :'other'), 0::bigint, 'the numbers go with the project');
select * from finish();
rollback;
