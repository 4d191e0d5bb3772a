-- Operations called past the server, which would have checked their input. Whatever the arguments are, the answer is a result or a refusal
-- of ours, never Postgres's own error, and no argument runs as SQL. The members are found in the code: all that an operation and the
-- functions it calls read.
begin;
select no_plan();

create temp table functions as
select p.oid, n.nspname as schema, p.proname as name, p.oid::regprocedure::text as signature, p.prosrc || coalesce(pg_get_function_sqlbody(p.oid), '') as source
from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('api', 'private') and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype;
-- The functions that a function calls, where it passes arguments on as JSON.
create temp table calls as
select f.oid as caller, g.oid as callee
from functions f cross join lateral (select distinct m[1] as schema, m[2] as name from regexp_matches(f.source, '\m(api|private)\.([a-z_]+)\(', 'g') m) m
join functions g on g.schema = m.schema and g.name = m.name
where exists (select from pg_proc p where p.oid = g.oid and 'jsonb'::regtype = any (p.proargtypes::oid[]));
create temp table members as
with recursive reached (start, oid) as (
  select oid, oid from functions where schema = 'api' union select r.start, c.callee from reached r join calls c on c.caller = r.oid
)
select distinct f.name as operation, m[1] as member
from reached r join functions f on f.oid = r.start and has_function_privilege('authenticated', f.oid, 'execute') join functions g on g.oid = r.oid,
  regexp_matches(g.source, '(?:->>?|\?) ''([A-Za-z_]+)''', 'g') m;
select cmp_ok((select count(*) from members), '>', 500::bigint, 'members are found');

-- Rows for the operations to work on.
select tests.act_as('anna');
create temp table own (name text primary key, value jsonb);
insert into own
select 'projectId', api.create_project('{"body": {"name": "Mine", "privacy": "shared"}}') -> 'project' -> 'id';
insert into own select 'skillId', api.create_skill('{"body": {"name": "Skill", "promptTemplate": "A prompt with {{name}} and enough words"}}') -> 'id';
insert into own select 'habitId', api.create_habit(jsonb_build_object('body', jsonb_build_object('skillId', value, 'scheduleCron', '0 9 * * *'))) -> 'id' from own where name = 'skillId';
insert into own select 'repositoryId', api.add_repository(jsonb_build_object('projectId', value, 'body', '{"provider": "github", "repositoryUrl": "https://github.com/a/b"}'::jsonb)) -> 'id' from own where name = 'projectId';
insert into own select 'reflexId', api.create_reflex(jsonb_build_object('body', jsonb_build_object('skillId', value, 'triggerType', 'event', 'triggerConfig', '{"eventName": "e"}'::jsonb))) -> 'id' from own where name = 'skillId';
insert into own select n, api.add_project_member(jsonb_build_object('projectId', value, 'body', '{"email": "mia@example.nl", "role": "developer"}'::jsonb)) -> 'id' from own, unnest(array['memberId']) n
  where name = 'projectId';
insert into own select n, value from own, unnest(array['projectUserId', 'userId']) n where name = 'memberId';
insert into own select 'contextId', value from own where name = 'projectId';
select tests.reset();
insert into own select 'token', to_jsonb(substring(body_text from 'token=(\S+)')) from private.mails where kind = 'project_invitation';
insert into own select 'executionId', to_jsonb(private.start_execution((value #>> '{}')::uuid, tests.user('anna'), tests.org('anna'), 'manual', null, '{}')) from own where name = 'skillId';
insert into own select 'notificationId', to_jsonb(private.notify(tests.user('anna'), 'system_update', 'For Anna', p_org_id => tests.org('anna')));
insert into own values ('name', '"New name"'), ('promptTemplate', '"Another prompt with enough words"'), ('provider', '"anthropic"'), ('scheduleCron', '"0 9 * * *"'),
  ('triggerType', '"event"'), ('triggerConfig', '{"eventName": "e"}'), ('repositoryUrl', '"https://github.com/a/c"'), ('title', '"A title"'), ('content', '"Enough for a text"'),
  ('message', '"Everybody"'), ('text', '"Some text"'), ('email', '"ann@example.nl"'), ('rating', '5'), ('role', '"viewer"'), ('personaId', '"engineer"'), ('expiration', '"custom"'), ('customExpirationDays', '30'), ('scopes', '["read"]'), ('environment', '"test"'), ('model', '"claude-3-5-sonnet-20241022"');
grant select on own, members to public;

create temp table odd (value jsonb);
insert into odd values ('"x"'), ('""'), ('1.5'), ('-1'), ('99999999999999999999'), ('1e300'), ('true'), ('null'), ('[]'), ('["x", 1, null, {}]'), ('{}'), ('{"x": {"y": [1]}}'),
  ('"2026-99-99T00:00:00Z"'), ('"00000000-0000-0000-0000-000000000000"'), (to_jsonb(repeat('y', 3000))),
  -- Text that would run as SQL if it were concatenated into a statement, for each way of quoting.
  (to_jsonb($x$x'; select set_config('app.org_id', '00000000-0000-0000-0000-000000000000', true); --$x$::text)),
  (to_jsonb($x$x') or (select set_config('app.org_id', '', true)) = '' or ('$x$::text)), (to_jsonb($x$x" or (select set_config('app.user_id', '', true)) is null or "$x$::text)),
  (to_jsonb($x$(select set_config('app.org_role', 'owner', true))$x$::text)), (to_jsonb('%s %I %L %1$s $1 $4 \'::text));
grant select on odd to public;
create temp table failures (operation text, member text, at text, value text, state text, message text);
grant all on failures to public;

create function pg_temp.who() returns text language sql
as $$ select concat_ws(' ', current_setting('app.user_id', true), current_setting('app.org_id', true), current_setting('app.org_role', true), current_user) $$;
create function pg_temp.try(p_operation text, p_member text, p_at text, p jsonb) returns void
language plpgsql
as $$
declare
  v jsonb;
begin
  execute format('select api.%I($1)', p_operation) into v using p;
  if pg_temp.who() <> current_setting('tests.who') then
    insert into failures values (p_operation, p_member, p_at, left(p::text, 2000), 'other', 'the caller is another one afterwards: ' || pg_temp.who());
    perform set_config(n, '', true) from unnest(array['app.user_id', 'app.org_id', 'app.org_role']) n;
    perform private.enter_claims();
  end if;
  raise exception using errcode = 'ZZ000';
exception
  when sqlstate 'ZZ000' then null;
  when others then
    if sqlstate !~ '^PT[45]\d\d$' then
      insert into failures values (p_operation, p_member, p_at, left(p::text, 2000), sqlstate, sqlerrm);
    end if;
end
$$;
create function pg_temp.try_all() returns void
language plpgsql
as $$
declare
  o record;
  m record;
  v_body jsonb;
  v_base jsonb;
begin
  for o in select operation from members group by operation order by operation loop
    select coalesce(jsonb_object_agg(own.name, own.value), '{}') into v_body from own
    where own.name in (select x.member from members x where x.operation = o.operation);
    v_base := v_body || jsonb_build_object('body', v_body);
    for m in select value from odd union all select null loop
      perform pg_temp.try(o.operation, '', 'itself', m.value), pg_temp.try(o.operation, 'body', 'itself', v_base || jsonb_build_object('body', m.value));
    end loop;
    for m in select x.member, odd.value from members x, odd where x.operation = o.operation and x.member <> 'body' loop
      perform pg_temp.try(o.operation, m.member, 'top', v_base || jsonb_build_object(m.member, m.value)),
        pg_temp.try(o.operation, m.member, 'body', v_base || jsonb_build_object('body', v_body || jsonb_build_object(m.member, m.value)));
    end loop;
  end loop;
end
$$;
grant execute on all functions in schema pg_temp to public;
create role tests_caller noinherit;
grant authenticated, service_role to tests_caller;
set session authorization tests_caller;
select tests.act_as_claims('anna');
select private.enter_claims();
select set_config('tests.who', pg_temp.who(), true) is not null;
select pg_temp.try_all();
reset session authorization;
select tests.reset();
select is_empty($$ select operation, member, at, state, min(message) from failures group by 1, 2, 3, 4 order by 1, 2, 3 $$, 'odd arguments are refused with a refusal of ours: read members by private.as_*, and check rows by an assert_<table>_row (docs/adding-a-feature.md)');

select * from finish();
rollback;
