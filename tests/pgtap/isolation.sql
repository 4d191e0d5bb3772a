-- Two tenants with rows in every table of schema public. The tables are read from the catalog, so a new table is tested here too. Once
-- through claims alone (without private.enter), as psql or PostgREST would, and anonymously.
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

-- All rows that a tenant can have: each feature's <feature>.seed.sql.
-- seeds: anna boris

-- The sequencer numbers the events. It cannot run in a transaction that is still open, as this test's is.
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
  'the other tenant has rows in ' || name || ' (a <feature>.seed.sql makes them)')
from tenant_tables, parties order by name;

-- How many rows of the other tenant a role reads, changes or deletes: -1 where it is forbidden altogether. Every change is rolled back.
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
      -- A rule or a constraint refused: nothing was changed. Any other error is a fault of this test.
      if sqlstate !~ '^(PT|23)' then
        raise exception '% in %', sqlerrm, p_sql;
      end if;
      return case sqlstate when '23505' then p_duplicate else -1 end;
  end;
end
$$;

-- Columns that a role may read or write, since grants are by column.
create function pg_temp.first_column(p_table regclass, p_right text) returns text
language sql
as $$ select quote_ident(attname) from pg_attribute where attrelid = p_table and attnum > 0 and not attisdropped and attgenerated = ''
  and has_column_privilege(p_table, attnum, p_right) order by attname = 'organization_id', attnum limit 1 $$;

create function pg_temp.check(p_who text) returns setof text
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
select * from pg_temp.check('a stranger with claims');
select tests.act_anon();
select * from pg_temp.check('nobody');
select tests.act_as('anna');
select * from pg_temp.check('a stranger through the server');

-- A tenant sees its own rows, or everything above would hold for a database that shows nothing.
select tests.act_as_claims('anna');
select cmp_ok((select pg_temp.tried(format('select %s from public.%I where organization_id = %L', pg_temp.first_column(t.oid, 'select'), name, mine))),
  '>', 0::bigint, 'one''s own rows are seen in ' || name)
from tenant_tables t, parties where pg_temp.first_column(t.oid, 'select') is not null order by name;

-- Planting rows at the other tenant: a copy of one of the tenant's own rows, in the columns that it may write. Policies are checked before
-- unique keys, so a duplicate means that the policy let the row pass.
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

-- Foreign keys, tested as the owner, whom no policy stops, and without the triggers that would refuse earlier: a row of one tenant pointed
-- at a row of the other violates the key. For each key between tenant tables the columns beside the organization (or the project, where the
-- key has no organization) get the other tenant's values. The other's own rows are deleted first, so that no unique key hides the answer.
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
    -- Only this key shall be checked.
    execute (select coalesce(string_agg(format('alter table %s drop constraint %I', o.conrelid::regclass, o.conname), '; '), 'select') from pg_constraint o
      where o.contype = 'f' and o.conparentid = 0 and o.oid <> p_constraint and (o.confrelid = c.child or o.conrelid = c.child));
    execute (select coalesce(string_agg(format('drop index %s', i.indexrelid::regclass), '; '), 'select') from pg_index i
      where i.indrelid = c.child and i.indisunique and not exists (select from pg_constraint o where o.conindid = i.indexrelid));
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
  -- A person's row may point at another's public row; a trigger or the function that writes it authorizes that.
  and coalesce(obj_description(con.oid, 'pg_constraint'), '') !~ '^Across tenants: '
order by con.conrelid::regclass::text, con.conname;

-- Functions, read from the catalog: each one that a request role may call in an exposed schema or in private. A stranger calls it with the
-- other tenant's ids and with ids that no row has. The answers must be equal, and contain nothing of the other tenant. So a function that
-- does not authorize its caller fails here.
create role tests_neighbor noinherit;
grant anon, authenticated to tests_neighbor;

create temp table doors as
select p.oid, p.oid::regprocedure::text as signature, n.nspname as schema, p.proname as name, p.prosecdef as is_definer, p.proretset as is_set,
  p.prosrc || coalesce(pg_get_function_sqlbody(p.oid), '') as source,
  p.proargtypes::oid[] as type_ids, coalesce((p.proargnames)[1:p.pronargs], '{}') as names, p.pronargs, obj_description(p.oid, 'pg_proc') as comment
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname in ('public', 'api', 'private') and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
  and (has_function_privilege('authenticated', p.oid, 'execute') or has_function_privilege('anon', p.oid, 'execute'))
  and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e');
grant select on doors to public;
select cmp_ok((select count(*) from doors where schema = 'api'), '>', 100::bigint, 'the operations are found');
select cmp_ok((select count(*) from doors where is_definer and schema = 'private'), '>', 50::bigint, 'and the definer functions behind them');

-- One id of the other tenant for each of its tables, the same of the caller's own, and one that no row has.
create temp table known_ids (noun text primary key, theirs uuid, mine uuid, unowned uuid not null default gen_random_uuid());
insert into known_ids (noun, theirs, mine)
select case t.name when 'skill_executions' then 'execution' when 'project_files' then 'file' when 'ingestion_runs' then 'run' when 'project_members' then 'member'
    else regexp_replace(regexp_replace(t.name, 'ies$', 'y'), 's$', '') end,
  tests.peek(format('select id from public.%I where organization_id = %L order by 1 limit 1', t.name, p.theirs))::uuid,
  tests.peek(format('select id from public.%I where organization_id = %L order by 1 limit 1', t.name, p.mine))::uuid
from tenant_tables t cross join parties p
where exists (select from pg_attribute a where a.attrelid = t.oid and a.attname = 'id' and a.atttypid = 'uuid'::regtype);
insert into known_ids (noun, theirs, mine) select 'organization', theirs, mine from parties union all select 'org', theirs, mine from parties
  union all select 'user', them, me from parties union all select 'owner', them, me from parties
  union all select 'session', (select session_id from tests.people where name = 'boris'), (select session_id from tests.people where name = 'anna');
delete from known_ids where theirs is null or mine is null;
grant select on known_ids to public;
select cmp_ok((select count(*) from known_ids), '>', 15::bigint, 'ids are found');

-- Which id a member or an argument means by its name; p_turn where the name does not say it.
create function pg_temp.id(p_name text, p_turn text, p_whose text) returns uuid
language sql
as $$
  select case p_whose when 'theirs' then k.theirs when 'mine' then k.mine else k.unowned end
  from known_ids k, regexp_replace(regexp_replace(lower(regexp_replace(p_name, '([a-z])([A-Z])', '\1_\2', 'g')), '^p_', ''), '_ids?$', '') n
  where n ~ ('(^|_)' || k.noun || '$') or k.noun = p_turn
  order by n ~ ('(^|_)' || k.noun || '$') desc, length(k.noun) desc limit 1
$$;

-- All members that the code reads, each with a plausible value.
create temp table members as
select m[1] as name, bool_or(m[2] ~ 'integer|bigint|numeric|smallint') as is_number, bool_or(m[2] = 'boolean') as is_switch
from (select prosrc || coalesce(pg_get_function_sqlbody(oid), '') as source from pg_proc where pronamespace in ('api'::regnamespace, 'private'::regnamespace)) d,
  regexp_matches(d.source, $$(?:->>?|\?) '([A-Za-z_]+)'(?:::text)?\)*(?:::(integer|bigint|numeric|smallint|boolean))?$$, 'g') m
group by m[1];
grant select on members to public;
create function pg_temp.bag(p_turn text, p_whose text, p_deep boolean default true) returns jsonb
language plpgsql
as $$
begin
  return (
    select jsonb_object_agg(name, case
      when name ~ 'Ids$' or name = 'ids' then jsonb_build_array(pg_temp.id(name, p_turn, p_whose))
      when name ~ '(Id|_id)$' or name = 'id' then to_jsonb(pg_temp.id(name, p_turn, p_whose))
      when name in ('body', 'settings') then pg_temp.bag(p_turn, p_whose, false)
      when name in ('files', 'items') then jsonb_build_array(pg_temp.bag(p_turn, p_whose, false))
      when name ~* 'sealed' then to_jsonb('v1.0123abcd.planted-by-a-stranger' || repeat('x', 80))
      when name ~* 'key$' then '"planted-by-a-stranger"' when name = 'provider' then '"anthropic"' when name = 'lastFour' then '"four"'
      when name = 'size' then '1' when name = 'checksum' then to_jsonb(repeat('a', 64)) when name = 'type' then '"text/plain"'
      when name in ('name', 'path', 'title') then '"planted.txt"' end::jsonb)
    from members
    where name ~ '(Ids?|_id)$' or name in ('id', 'ids', 'provider', 'lastFour', 'size', 'checksum', 'type', 'name', 'path', 'title') or name ~* 'sealed|key$'
      or p_deep and name in ('body', 'settings', 'files', 'items'));
end
$$;
create temp table bags as
select noun, whose, pg_temp.bag(noun, whose) as bag, pg_temp.bag(noun, whose, false) as flat from known_ids, unnest(array['theirs', 'mine', 'unowned']) whose;
grant select on bags to public;

-- Rows of both tenants as arguments, and the other's with ids that no row has.
create function pg_temp.row_of(p_type regtype, p_whose text) returns jsonb
language plpgsql
as $$
declare
  k record;
  v text;
begin
  begin
    execute format('select to_jsonb(t) from %s t where to_jsonb(t) ->> ''organization_id'' = %L limit 1', p_type,
      (select case p_whose when 'mine' then mine else theirs end from parties)) into v;
  exception when undefined_table or wrong_object_type then
    return '{}';
  end;
  if p_whose = 'unowned' then
    for k in select * from known_ids loop
      v := replace(v, k.theirs::text, k.unowned::text);
    end loop;
  end if;
  return coalesce(v, '{}');
end
$$;
create temp table row_arguments as
select type, whose, pg_temp.row_of(type::regtype, whose) as value
from (select distinct t.oid as type from doors d, unnest(d.type_ids) a join pg_type t on t.oid = a where t.typtype = 'c') r, unnest(array['theirs', 'mine', 'unowned']) whose;
grant select on row_arguments to public;

create function pg_temp.literal(p_type oid, p_name text, p_turn text, p_whose text) returns text
language plpgsql
as $$
declare
  v_type text := format_type(p_type, null);
  v_id uuid := pg_temp.id(p_name, p_turn, p_whose);
begin
  if exists (select from row_arguments r where r.type = p_type) then
    return format('jsonb_populate_record(null::%s, %L)', v_type, (select r.value from row_arguments r where r.type = p_type and r.whose = p_whose));
  end if;
  return case
    when v_type = 'uuid' then format('%L::uuid', v_id)
    when v_type = 'uuid[]' then format('array[%L]::uuid[]', v_id)
    when v_type = 'jsonb' then format('%L::jsonb', (select case when p_name ~ '^(p|p_args|p_body)$' then bag else jsonb_build_array(flat) end from bags where noun = p_turn and whose = p_whose))
    when v_type = 'text' and p_name ~ 'room' then format('%L', 'project:' || pg_temp.id('project', null, p_whose))
    when v_type = 'text' and p_name ~ 'sealed' then format('%L', 'v1.0123abcd.planted-by-a-stranger' || repeat('x', 80))
    when v_type = 'text' then format('%L', v_id)
    when v_type = 'text[]' then format('array[%L]', v_id)
    when v_type in ('integer', 'bigint', 'smallint', 'numeric', 'double precision', 'real') then '1'
    when v_type = 'boolean' then 'true'
    when v_type like 'timestamp%' then 'now()' when v_type = 'date' then 'current_date'
    else format('null::%s', v_type) end;
end
$$;

-- Conditions that find the other tenant's rows, in every schema.
create temp table belongings as
select c.oid::regclass::text as name, string_agg(format('%I = %L', a.attname, case a.attname when 'organization_id' then p.theirs else p.them end), ' or ') as condition
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname in ('organization_id', 'user_id') and a.atttypid = 'uuid'::regtype and not a.attisdropped
cross join parties p
where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'p') and not c.relispartition
group by c.oid;
create function pg_temp.state_of_theirs() returns text
language plpgsql security definer
as $$
declare
  t record;
  v text;
  v_all text := '';
begin
  for t in select * from belongings order by name loop
    execute format('select md5(coalesce(string_agg(t::text, '','' order by t::text), '''')) from %s t where %s', t.name, t.condition) into v;
    v_all := v_all || v;
  end loop;
  return md5(v_all);
end
$$;
-- A stranger's text in places that only our server may write: names of stored content, and sealed values.
create function pg_temp.planted() returns text
language plpgsql security definer
as $$
declare
  t record;
  v boolean;
begin
  for t in
    select c.oid::regclass::text as name, a.attname as attribute from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'p') and not c.relispartition
      and a.attname ~ 'storage_key|sealed|secret|_hash$|checksum' and a.atttypid = 'text'::regtype
  loop
    execute format('select exists (select from %s t where t.%I ~ ''planted-by-a-stranger'')', t.name, t.attribute) into v;
    if v then
      return t.name || '.' || t.attribute;
    end if;
  end loop;
  return null;
end
$$;
create function pg_temp.writes() returns bigint
language sql security definer
as $$ select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint from pg_stat_xact_user_tables $$;

-- The answer of a call, and its effect on the other tenant. Every change is rolled back.
create function pg_temp.called(p_door doors, p_turn text, p_whose text, out answer text, out harm text)
language plpgsql
as $$
declare
  v_before text := current_setting('tests.theirs');
  v_writes bigint := pg_temp.writes();
  v_sql text := format('select %s from %I.%I(%s) r', case when p_door.is_set then 'jsonb_agg(to_jsonb(r))::text' else 'to_jsonb(r)::text' end, p_door.schema, p_door.name,
    (select string_agg(pg_temp.literal(p_door.type_ids[array_lower(p_door.type_ids, 1) + i - 1], p_door.names[i], p_turn, p_whose), ', ' order by i) from generate_series(1, p_door.pronargs) i));
  k record;
begin
  begin
    execute v_sql into answer;
    if pg_temp.writes() <> v_writes then
      if pg_temp.state_of_theirs() <> v_before then
        harm := 'changes what is the other tenant''s';
      elsif pg_temp.planted() is not null then
        harm := 'lets a stranger write ' || pg_temp.planted();
      end if;
    end if;
    raise exception using errcode = 'ZZ000';
  exception
    when sqlstate 'ZZ000' then null;
    when others then
      get stacked diagnostics v_sql = pg_exception_detail;
      answer := sqlstate || ' ' || sqlerrm || ' ' || v_sql;
  end;
  for k in select * from known_ids loop
    answer := replace(replace(answer, (case p_whose when 'theirs' then k.theirs else k.unowned end)::text, '<theirs>'), k.mine::text, '<mine>');
  end loop;
  answer := regexp_replace(regexp_replace(coalesce(answer, 'null'), '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', '<id>', 'g'),
    '\d{4}-\d\d-\d\d[T ]\d\d:\d\d:[\d.]+(Z|\+00:00)?', '<time>', 'g');
end
$$;

create temp table verdicts (caller text, signature text, fault text);
grant all on verdicts to public;
create function pg_temp.try_doors(p_caller text) returns void
language plpgsql
as $$
declare
  d doors;
  v_turn text;
  v_theirs record;
  v_unowned record;
  v_fault text;
begin
  for d in select * from doors x where has_function_privilege(x.oid, 'execute') and (x.is_definer or x.schema <> 'private') order by x.signature loop
    v_fault := null;
    -- One call where names say which ids are meant, else one with the id of each table.
    for v_turn in select noun from known_ids
      where noun = 'project' or d.schema <> 'api' and d.pronargs > 0 or d.source ~ '''(id|ids|after|before|cursor|room|keys?)'''
      order by noun
    loop
      v_theirs := pg_temp.called(d, v_turn, 'theirs');
      v_unowned := pg_temp.called(d, v_turn, 'unowned');
      v_fault := case when v_theirs.harm is not null then v_theirs.harm when v_theirs.answer <> v_unowned.answer
        then format('tells of the other tenant''s %s: %s, but of nobody''s: %s', v_turn, left(v_theirs.answer, 300), left(v_unowned.answer, 300)) end;
      -- A client may choose such an id, so it may be taken already; the function's comment says so.
      v_fault := case when v_fault ~ '^tells' and d.comment ~ 'tells that an id is taken' then null else v_fault end;
      exit when v_fault is not null;
    end loop;
    insert into verdicts values (p_caller, d.signature, coalesce(v_fault, (pg_temp.called(d, 'project', 'mine')).harm));
  end loop;
end
$$;
grant execute on all functions in schema pg_temp to public;
select set_config('tests.theirs', pg_temp.state_of_theirs(), true) is not null;

set session authorization tests_neighbor;
select tests.act_as_claims('anna');
select private.enter_claims();
select ok(private.is_stranger(), 'a gateway''s login is a stranger');
select pg_temp.try_doors('a stranger');
select tests.act_anon();
select pg_temp.try_doors('anon');
reset session authorization;
select tests.reset();
select is(fault, null, format('%s: %s checks its caller', caller, signature)) from verdicts order by caller, signature;

select * from finish();
rollback;
