-- Which change publishes which event to whom (contract 30, 10.2): people of organizations, subscriptions, runs, and access that ends
-- without a row.
begin;
select no_plan();
select tests.user('ann'), tests.member('max', 'ann', 'member'), tests.user('stan');
insert into public.projects (id, organization_id, user_id, name, privacy) values
  ('00000000-0000-4000-8000-0000000000c1', tests.org('ann'), tests.user('max'), 'Private', 'private');
delete from private.event_inbox;

create function pg_temp.notified(p_room text) returns table (type text, resource text, operation text, fields jsonb) language sql as $$
  select i.type, i.data ->> 'resource', i.data ->> 'operation', i.data -> 'changedFields' from private.event_inbox i where i.room = p_room order by i.seq
$$;

-- People of an organization.
select tests.member('vera', 'ann', 'viewer');
select results_eq($$select resource, operation from pg_temp.notified('org:' || tests.org('ann'))$$, $$values ('org_member', 'created')$$, 'somebody came');
delete from private.event_inbox;
update public.memberships set role = 'admin', status = 'active' where user_id = tests.user('vera') and organization_id = tests.org('ann');
select results_eq($$select resource, operation, fields from pg_temp.notified('org:' || tests.org('ann'))$$,
  $$values ('org_member', 'updated', '["role"]'::jsonb)$$, 'a role changed, and the event says so');
delete from private.event_inbox;
update public.memberships set last_active_at = now() where organization_id = tests.org('ann');
select is(count(*), 0::bigint, 'being active is no change') from private.event_inbox;
delete from public.memberships where user_id = tests.user('vera') and organization_id = tests.org('ann');
select is(count(*), 1::bigint, 'somebody went') from pg_temp.notified('org:' || tests.org('ann')) where operation = 'deleted' and resource = 'org_member';
delete from private.event_inbox;

-- Many rows in one statement are one event about the organization.
insert into public.users (email) select 'many' || n || '@example.nl' from generate_series(1, 101) n;
insert into public.memberships (organization_id, user_id, role) select tests.org('ann'), id, 'member' from public.users where email like 'many%';
select results_eq($$select resource, operation, data ->> 'id' from private.event_inbox i, lateral (select i.data ->> 'resource' as resource,
  i.data ->> 'operation' as operation) d where room = 'org:' || tests.org('ann')$$,
  $$values ('org_member', 'updated', tests.org('ann')::text)$$, '101 who came at once are one event');
delete from private.event_inbox;
delete from public.organizations where id = tests.org('stan');
select is(count(*), 0::bigint, 'nobody is told of the people of an organization that ends') from private.event_inbox where data ->> 'resource' = 'org_member';

-- The same for rows whose triggers see one row at a time, in every way to write: a hundred rows are a hundred events, a hundred and one are
-- one.
delete from private.event_inbox;
create function pg_temp.heard(p_room text) returns table (what text) language sql as $$
  select distinct concat_ws(' ', i.type, i.data ->> 'resource', i.data ->> 'operation', nullif(i.data ->> 'id', split_part(p_room, ':', 2)) is null, count(*) over (partition by i.type, i.data ->> 'resource'))
  from private.event_inbox i where i.room = p_room and (i.type = 'resource_changed' or i.type like 'project_user:%') order by 1
$$;
create function pg_temp.forget() returns void language sql as $$ select set_config('app.bulk', '', true); delete from private.event_inbox $$;
insert into public.projects (organization_id, user_id, name, privacy) select tests.org('ann'), tests.user('ann'), 'Bulk ' || n, 'private' from generate_series(1, 101) n;
select results_eq($$select * from pg_temp.heard('org:' || tests.org('ann'))$$, $$values ('resource_changed project updated t 1')$$, '101 new projects');
select pg_temp.forget();
update public.projects set description = 'x' where name in (select 'Bulk ' || n from generate_series(1, 100) n);
select results_eq($$select * from pg_temp.heard('org:' || tests.org('ann'))$$, $$values ('resource_changed project updated f 100')$$, '100 changed projects');
select is(count(*), 100::bigint, 'and each is told in its own room') from private.event_inbox where room like 'project:%' and type = 'resource_changed';
select pg_temp.forget();
update public.projects set privacy = 'shared' where name like 'Bulk %';
select results_eq($$select * from pg_temp.heard('org:' || tests.org('ann'))$$, $$values ('resource_changed project updated t 1')$$, '101 changed projects');
select is(count(*), 101::bigint, 'each still in its own room') from private.event_inbox where room like 'project:%' and type = 'resource_changed';
select pg_temp.forget();
update public.projects set privacy = 'private' where name like 'Bulk %';
select is(count(*), 101::bigint, 'access that ends is never summed up') from private.event_inbox where type = 'removal';
select pg_temp.forget();
delete from public.projects where name like 'Bulk %';
select results_eq($$select * from pg_temp.heard('org:' || tests.org('ann'))$$, $$values ('resource_changed project updated t 1')$$, '101 deleted projects');
select is(audience, 'room', 'of which nobody learns the names') from private.event_inbox where room = 'org:' || tests.org('ann');
select pg_temp.forget();
insert into public.skills (user_id, organization_id, name, prompt_template)
select tests.user('ann'), tests.org('ann'), 'Bulk ' || n, 'Summarize the text in a few words.' from generate_series(1, 101) n;
select results_eq($$select * from pg_temp.heard('user:' || tests.user('ann'))$$, $$values ('resource_changed skill updated t 1')$$, '101 new skills');
select pg_temp.forget();
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
select tests.org('ann'), '00000000-0000-4000-8000-0000000000c1', id, email, 'viewer', now() from public.users where email like 'many%';
select results_eq($$select * from pg_temp.heard('project:00000000-0000-4000-8000-0000000000c1')$$,
  $$values ('resource_changed project_member updated t 1')$$, '101 new members of a project');
select pg_temp.forget();

-- The plan.
update public.subscriptions set plan_id = 'teams' where organization_id = tests.org('ann');
select results_eq($$select fields from pg_temp.notified('org:' || tests.org('ann')) where resource = 'subscription'$$, $$values ('["planId"]'::jsonb)$$, 'another plan');
delete from private.event_inbox;
update public.subscriptions set updated_at = now() where organization_id = tests.org('ann');
select is(count(*), 0::bigint, 'the same plan is no change') from private.event_inbox where data ->> 'resource' = 'subscription';

-- A completed run.
insert into public.ingestion_runs (id, organization_id, project_id, started_by)
values ('00000000-0000-4000-8000-0000000000c2', tests.org('ann'), '00000000-0000-4000-8000-0000000000c1', tests.user('max'));
update public.ingestion_runs set phase = p.phase, percent = 0 from (values ('parsing')) p (phase) where id = '00000000-0000-4000-8000-0000000000c2';
update public.ingestion_runs set phase = 'chunking', percent = 0 where id = '00000000-0000-4000-8000-0000000000c2';
update public.ingestion_runs set phase = 'optimization', percent = 0 where id = '00000000-0000-4000-8000-0000000000c2';
update public.ingestion_runs set phase = 'indexing', percent = 0 where id = '00000000-0000-4000-8000-0000000000c2';
delete from private.event_inbox;
update public.ingestion_runs set outcome = 'completed', message = 'Done' where id = '00000000-0000-4000-8000-0000000000c2';
select is(data #- '{entry,id}' #- '{entry,timestamp}' #- '{entry,author,lastActive}' #- '{entry,author,id}', jsonb_build_object(
  'contextId', '00000000-0000-4000-8000-0000000000c1', 'projectId', '00000000-0000-4000-8000-0000000000c1', 'success', true,
  'entry', jsonb_build_object('type', 'ingestion', 'number', 1, 'filesAdded', 0, 'filesRemoved', 0, 'filesModified', 0, 'author', jsonb_build_object('name', 'Max Test', 'email', 'max@example.nl', 'role', 'owner'))),
  'the context''s room is told of the entry') from private.event_inbox where type = 'ingestion:complete';
select is(count(*), 1::bigint, 'and of the activity') from private.event_inbox where type = 'activity:new' and room like 'context:%';

-- Access that ends without a row.
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
values (tests.org('ann'), '00000000-0000-4000-8000-0000000000c1', tests.user('stan'), 'stan@example.nl', 'viewer', now());
delete from private.event_inbox;
update public.project_members set role = 'developer' where user_id = tests.user('stan');
select is(count(*), 0::bigint, 'another role takes no access away') from private.event_inbox where type = 'removal';
update public.project_members set accepted_at = null, user_id = null where user_id = tests.user('stan');
select is(count(*), 1::bigint, 'acceptance taken back is a removal') from private.event_inbox
  where type = 'removal' and data ->> 'userId' = tests.user('stan')::text;
delete from private.event_inbox;
select private.move_ownership('00000000-0000-4000-8000-0000000000c1', tests.user('ann'));
select is(count(*), 1::bigint, 'so is another owner, for the former one') from private.event_inbox
  where type = 'removal' and data ->> 'userId' = tests.user('max')::text;

select * from finish();
rollback;
