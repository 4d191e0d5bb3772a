-- Two tenants with rows in every table of schema public, told from the catalog: whatever table is added is asked here. Through claims
-- alone (nobody entered), as psql or PostgREST would, and anonymously.
begin;
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
select no_plan();

-- Everything that a tenant can have.
create function pg_temp.furnish(p_name text) returns void
language plpgsql
as $$
declare
  v_org uuid := tests.org(p_name);
  v_user uuid := tests.user(p_name);
  v_project uuid;
  v_repository uuid;
  v_run uuid;
  v_file uuid := gen_random_uuid();
  v_chunk uuid := gen_random_uuid();
  v_node uuid := gen_random_uuid();
  v_skill uuid;
begin
  perform tests.act_as(p_name);
  v_project := (api.create_project(jsonb_build_object('body', jsonb_build_object('name', 'Project of ' || p_name, 'privacy', 'shared')))
    -> 'project' ->> 'id')::uuid;
  v_repository := (api.add_repository(jsonb_build_object('projectId', v_project, 'body', jsonb_build_object('provider', 'github',
    'repositoryUrl', 'https://github.com/a/' || p_name))) ->> 'id')::uuid;
  perform api.update_manual_content(jsonb_build_object('projectId', v_project, 'body', '{"content": "enough for a text"}'::jsonb)),
    api.create_folder(jsonb_build_object('projectId', v_project, 'body', '{"name": "folder"}'::jsonb)),
    api.update_project(jsonb_build_object('projectId', v_project, 'body', '{"starred": true}'::jsonb));
  perform private.start_run(v_project, false);
  perform tests.reset();

  select id into v_run from public.ingestion_runs where project_id = v_project;
  insert into public.run_files (organization_id, run_id, id, position, source, path, language, category, bytes, tokens, optimized_tokens, hash)
  values (v_org, v_run, v_file, 0, 'repository', 'main.go', 'go', 'code', 10, 5, 4, sha256('x'));
  insert into public.chunks (organization_id, run_id, id, file_id, position, start_line, end_line, type, tokens, content, hash)
  values (v_org, v_run, v_chunk, v_file, 0, 1, 2, 'module_boundaries', 5, 'package main', sha256('x'));
  insert into public.chunk_terms values (v_org, v_run, v_chunk, to_tsvector('simple', 'package main'));
  insert into public.graph_nodes (organization_id, run_id, id, file_id, kind, name, qualified_name) values (v_org, v_run, v_node, v_file, 'file', 'f', 'f');
  insert into public.graph_links (organization_id, run_id, from_id, to_id, kind) values (v_org, v_run, v_node, v_node, 'contains');
  perform private.write_completion(v_run, '{}');
  insert into public.project_files (organization_id, project_id, repository_id, origin, name, path, mime_type)
  values (v_org, v_project, v_repository, 'repository', 'main.go', 'main.go', 'text/plain');
  insert into public.staged_files (organization_id, user_id, name, path, mime_type, size, checksum, storage_key)
  values (v_org, v_user, 'a', 'a', 'text/plain', 1, encode(sha256('x'), 'hex'), 'key of the staged file of ' || p_name);
  perform private.notify(v_user, 'system_update', 'For ' || p_name, p_org_id => v_org, p_project_id => v_project);
  perform private.audit('context.created', 'A line of ' || p_name, null, null, v_org, v_user);

  -- A day that is over.
  insert into public.usage_days (organization_id, metric, day, value) values (v_org, 'api_calls', '2026-01-01', 1);

  insert into public.skills (user_id, organization_id, name, prompt_template) values (v_user, v_org, 'Skill', 'A prompt of ' || p_name || ' for nobody else')
  returning id into v_skill;
  insert into public.habits (user_id, organization_id, skill_id, schedule_cron, next_run_at) values (v_user, v_org, v_skill, '0 9 * * *', now() + interval '1 day');
  insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config) values (v_user, v_org, v_skill, 'event', '{"eventName": "push"}');
  perform private.start_execution(v_skill, v_user, v_org, 'manual', null, '{}');
end
$$;
select pg_temp.furnish('anna'), pg_temp.furnish('boris');

-- The events' numbers are given by the sequencer, which a transaction of our own cannot wait for.
insert into public.events (id, seq, room, type, data, audience, organization_id, project_id, created_at)
select 1000 + row_number() over (), 1000 + row_number() over (), 'project:' || p.id, 'project:update', '{}', 'room', p.organization_id, p.id, now() from public.projects p;

create temp table tenant_tables as
select c.oid, c.relname::text as name
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition;
grant select on tenant_tables to public;
create temp table parties as select tests.org('anna') as mine, tests.user('anna') as me, tests.org('boris') as theirs, tests.user('boris') as them;
grant select on parties to public;
select cmp_ok((select count(*) from tenant_tables), '>', 20::bigint, 'the tables of tenants are found');

select cmp_ok(tests.peek(format('select count(*) from public.%I where organization_id = %L', name, theirs))::bigint, '>', 0::bigint,
  'the other tenant has rows in ' || name)
from tenant_tables, parties order by name;

-- How many rows of the other tenant somebody reads, changes or deletes: -1 where it is forbidden altogether. Nothing stays.
create function pg_temp.tried(p_sql text, p_duplicate bigint default -1) returns bigint
language plpgsql
as $$
declare
  v bigint;
begin
  begin
    execute p_sql;
    get diagnostics v = row_count;
    raise exception using errcode = 'ZZ000', message = v::text;
  exception
    when insufficient_privilege then return -1;
    when sqlstate 'ZZ000' then return sqlerrm::bigint;
    when others then
      -- A rule or a constraint refused: nothing was done. Anything else is a fault of this test.
      if sqlstate !~ '^(PT|23)' then
        raise exception '% in %', sqlerrm, p_sql;
      end if;
      return case sqlstate when '23505' then p_duplicate else -1 end;
  end;
end
$$;

-- Columns that somebody may read or write, since grants are by column.
create function pg_temp.first_column(p_table regclass, p_right text) returns text
language sql
as $$ select quote_ident(attname) from pg_attribute where attrelid = p_table and attnum > 0 and not attisdropped and attgenerated = ''
  and has_column_privilege(p_table, attnum, p_right) order by attname = 'organization_id', attnum limit 1 $$;

create function pg_temp.judge(p_who text) returns setof text
language plpgsql
as $$
declare
  t record;
  k record;
  v_column text;
begin
  for t in select * from tenant_tables, parties order by name loop
    v_column := pg_temp.first_column(t.oid, 'select');
    return next cmp_ok(case when v_column is null then -1 else
      pg_temp.tried(format('select %s from public.%I where organization_id = %L', v_column, t.name, t.theirs)) end, '<=', 0::bigint,
      format('%s reads nothing of the other tenant in %s', p_who, t.name));
    v_column := pg_temp.first_column(t.oid, 'update');
    return next cmp_ok(case when v_column is null then -1 else
      pg_temp.tried(format('update public.%I set %2$s = %2$s where organization_id = %3$L', t.name, v_column, t.theirs)) end, '<=', 0::bigint,
      format('%s changes nothing of the other tenant in %s', p_who, t.name));
    return next cmp_ok(pg_temp.tried(format('delete from public.%I where organization_id = %L', t.name, t.theirs)), '<=', 0::bigint,
      format('%s deletes nothing of the other tenant in %s', p_who, t.name));
  end loop;
end
$$;
grant execute on all functions in schema pg_temp to public;

select tests.act_as_claims('anna');
select * from pg_temp.judge('a stranger with claims');
select tests.act_anon();
select * from pg_temp.judge('nobody');
select tests.act_as('anna');
select * from pg_temp.judge('a stranger through the server');

-- Rows of one's own are seen, or everything above would be true of a database that shows nothing.
select tests.act_as_claims('anna');
select cmp_ok((select pg_temp.tried(format('select %s from public.%I where organization_id = %L', pg_temp.first_column(t.oid, 'select'), name, mine))),
  '>', 0::bigint, 'one''s own rows are seen in ' || name)
from tenant_tables t, parties where pg_temp.first_column(t.oid, 'select') is not null order by name;

-- Planting rows at the other tenant: a copy of one of their own rows, as far as columns may be written. Policies are judged before
-- unique keys are, so a duplicate means that the policy let it pass.
create function pg_temp.plant(p_table regclass, p_row jsonb) returns bigint
language plpgsql
as $$
declare
  v_columns text := (select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute where attrelid = p_table and attnum > 0
    and not attisdropped and attgenerated = '' and attname <> 'id' and has_column_privilege(p_table, attnum, 'insert'));
begin
  if v_columns is null then
    return -1;
  end if;
  return pg_temp.tried(format('insert into %1$s (%2$s) select %2$s from jsonb_populate_record(null::%1$s, %3$L)', p_table, v_columns, p_row), 1);
end
$$;
grant execute on function pg_temp.plant to public;
select cmp_ok(pg_temp.plant(t.oid, tests.peek(format('select to_jsonb(t) from public.%I t where organization_id = %L limit 1', name, theirs))::jsonb),
  '<=', 0::bigint, 'nothing can be planted at the other tenant in ' || name)
from tenant_tables t, parties order by name;
select tests.reset();

-- Foreign keys, as the owner, whom no policy stops, and without the triggers that would refuse earlier: a row of one tenant pointed at
-- a row of the other violates the key. Of each key between tenant tables the columns beside the organization (or the project, where
-- the key has no organization) get the other's values; the other's own rows make room, so that no unique key hides the answer.
create function pg_temp.points(p_constraint oid, p_mine uuid, p_theirs uuid) returns text
language plpgsql
as $$
declare
  c record;
  v_sets text;
  v_where text;
  v_some boolean;
  v_name text;
begin
  select con.conrelid::regclass as child, con.confrelid::regclass as parent, con.conkey, con.confkey,
    (select attname from pg_attribute where attrelid = con.conrelid and attnum = con.conkey[cardinality(con.conkey)]) as last
  into c from pg_constraint con where con.oid = p_constraint;
  select string_agg(format('%I = %L', a.attname,
    tests.peek(format('select t.%I from %s t where organization_id = %L order by t::text limit 1', b.attname, c.parent, p_theirs))), ', ')
  into v_sets
  from unnest(c.conkey, c.confkey) k (child, parent)
  join pg_attribute a on a.attrelid = c.child and a.attnum = k.child
  join pg_attribute b on b.attrelid = c.parent and b.attnum = k.parent
  where a.attname <> 'organization_id' and not (a.attname = 'project_id' and cardinality(c.conkey) > 1 and not exists (
      select from pg_attribute x where x.attrelid = c.child and x.attnum = any (c.conkey) and x.attname = 'organization_id'));
  v_where := format('organization_id = %L and %I is not null', p_mine, c.last);
  execute format('select exists (select from %s where %s)', c.child, v_where) into v_some;
  begin
    set constraints all immediate;
    execute format('alter table %s disable trigger user', c.child);
    -- Only this one key shall answer.
    execute (select coalesce(string_agg(format('alter table %s drop constraint %I', o.conrelid::regclass, o.conname), '; '), 'select') from pg_constraint o
      where o.contype = 'f' and o.conparentid = 0 and o.oid <> p_constraint and (o.confrelid = c.child or o.conrelid = c.child));
    if c.child <> c.parent then
      execute format('delete from %s where organization_id = %L', c.child, p_theirs);
    end if;
    execute format('update %s set %s where %s', c.child, v_sets, case when v_some then v_where else format('organization_id = %L', p_mine) end);
    raise exception using errcode = 'ZZ000';
  exception when others then
    get stacked diagnostics v_name = constraint_name;
    return case when sqlstate <> 'ZZ000' then sqlstate || ' ' || v_name when found then 'pointed' else 'no row' end;
  end;
end
$$;
select is(pg_temp.points(con.oid, p.mine, p.theirs), '23503 ' || con.conname, format('%s cannot point at the other tenant (%s)', con.conrelid::regclass, con.conname))
from pg_constraint con
join tenant_tables child on child.oid = con.conrelid
join tenant_tables parent on parent.oid = con.confrelid
cross join parties p
where con.contype = 'f' and con.conparentid = 0
  -- What belongs to a person may point at another's public row; a trigger or the function that writes it judges.
  and coalesce(obj_description(con.oid, 'pg_constraint'), '') !~ '^Across tenants: '
order by con.conrelid::regclass::text, con.conname;

select * from finish();
rollback;
