-- Loaded before the pgTAP files: functions to act as a *named* person in one call. Each name gets a user, an own organization and a session
-- at first use. No part of the product.
create extension if not exists pgtap;
create schema if not exists tests;

create table if not exists tests.people (name text primary key, user_id uuid not null, org_id uuid not null, session_id uuid not null);

create or replace function tests.user(p_name text) returns uuid
language plpgsql security definer set search_path = ''
as $$
declare
  v tests.people;
begin
  select * into v from tests.people where name = p_name;
  if not found then
    v.name := p_name;
    insert into public.users (email, first_name, last_name, email_verified_at)
    values (p_name || '@example.nl', initcap(p_name), 'Test', now()) returning id into v.user_id;
    v.org_id := private.create_organization(initcap(p_name) || '''s workspace', v.user_id);
    insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at)
    values (v.user_id, v.org_id, now() + interval '90 days', now() + interval '30 days') returning id into v.session_id;
    insert into tests.people select v.*;
  end if;
  return v.user_id;
end
$$;

create or replace function tests.org(p_name text) returns uuid
language sql security definer set search_path = ''
as $$
  select tests.user(p_name);
  select org_id from tests.people where name = p_name;
$$;

-- Makes p_name a member of p_owner's organization, and acts there from then on.
create or replace function tests.member(p_name text, p_owner text, p_role text default 'member') returns uuid
language plpgsql security definer set search_path = ''
as $$
declare
  v_user uuid := tests.user(p_name);
  v_org uuid := tests.org(p_owner);
begin
  insert into public.memberships (organization_id, user_id, role) values (v_org, v_user, p_role)
  on conflict (organization_id, user_id) do update set role = excluded.role, status = 'active';
  update private.sessions set organization_id = v_org where user_id = v_user;
  update tests.people set org_id = v_org where name = p_name;
  return v_user;
end
$$;

create or replace function tests.reset() returns void
language plpgsql
as $$
begin
  perform set_config('role', 'none', true);
  perform set_config(s, '', true) from unnest(array['app.user_id', 'app.org_id', 'app.org_role', 'app.session_id', 'app.request_id',
    'app.client_ip', 'app.wakes', 'app.api_key_id', 'app.api_key_scope', 'request.jwt.claims', 'response.headers', 'response.status']) s;
end
$$;

-- Enters as the server does, then takes the request role.
create or replace function tests.act_as(p_name text) returns void
language plpgsql
as $$
declare
  v tests.people;
begin
  perform tests.reset();
  perform tests.user(p_name);
  select * into v from tests.people where name = p_name;
  perform private.enter(v.user_id, v.session_id, v.org_id, jsonb_build_object('sub', v.user_id, 'sid', v.session_id, 'org_id', v.org_id)::text,
    'test', '127.0.0.1');
  perform set_config('role', 'authenticated', true);
end
$$;

-- As PostgREST or psql would: only claims, without private.enter.
create or replace function tests.act_as_claims(p_name text) returns void
language plpgsql
as $$
declare
  v tests.people;
begin
  perform tests.reset();
  perform tests.user(p_name);
  select * into v from tests.people where name = p_name;
  perform set_config('request.jwt.claims',
    jsonb_build_object('sub', v.user_id, 'sid', v.session_id, 'org_id', v.org_id, 'role', 'authenticated')::text, true);
  perform set_config('role', 'authenticated', true);
end
$$;

create or replace function tests.act_anon() returns void
language plpgsql
as $$
begin
  perform tests.reset();
  perform set_config('role', 'anon', true);
end
$$;

create or replace function tests.act_service() returns void
language plpgsql
as $$
begin
  perform tests.reset();
  perform set_config('role', 'service_role', true);
end
$$;

-- A scalar read as the owner while acting as another person.
create or replace function tests.peek(p_sql text) returns text
language plpgsql security definer
as $$
declare
  v text;
begin
  execute p_sql into v;
  return v;
end
$$;

-- The refusal of a statement of the present actor, as its caller reads it: status, code, message, and field and details where it has them.
-- Null when the statement succeeds.
create or replace function tests.refusal(p_sql text) returns jsonb
language plpgsql
as $$
declare
  v_detail text;
begin
  execute p_sql;
  return null;
exception when others then
  get stacked diagnostics v_detail = pg_exception_detail;
  return case when sqlstate ~ '^PT' then v_detail::jsonb || jsonb_build_object('status', substr(sqlstate, 3)::integer, 'message', sqlerrm)
    else jsonb_build_object('sqlstate', sqlstate, 'message', sqlerrm) end;
end
$$;

-- The product closes functions by default. pgTAP's own, also those it makes on the way, must stay open to every role that a test acts as.
alter default privileges grant execute on functions to public;
do $$
declare
  v regprocedure;
begin
  for v in
    select d.objid::regprocedure from pg_depend d join pg_extension e on e.oid = d.refobjid
    where e.extname = 'pgtap' and d.deptype = 'e' and d.classid = 'pg_proc'::regclass
  loop
    execute format('grant execute on routine %s to public', v);
  end loop;
end
$$;
grant usage on schema tests to public;
grant execute on all functions in schema tests to public;
grant select on tests.people to public;

-- Applies the rules of retention about one table; gives how many rows ended.
create or replace function tests.end_old(p_table text, p_at timestamptz default now(), p_limit integer default 10000) returns bigint
language sql
as $$
  select sum(private.end_old(r, p_at, p_limit))::bigint from (select * from private.retention_rules x where split_part(x.name, '.', 1) = p_table order by x.name) r
$$;
