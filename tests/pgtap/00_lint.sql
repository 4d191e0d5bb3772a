-- Catalog rules that hold for every table, policy and function, including future ones (db/README.md gives the reasons).
begin;
select no_plan();

create temp view ours as
  select c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.reloptions
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname in ('public', 'private', 'jobs', 'api') and c.relname <> 'schema_version'
    and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e');

create temp view routines as
  select p.oid, n.nspname, p.proname, p.oid::regprocedure::text as signature, p.prosecdef, p.proconfig, p.proacl, p.prorettype, p.proargtypes,
    p.provolatile, obj_description(p.oid, 'pg_proc') as comment
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where n.nspname in ('private', 'jobs', 'api')
    and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e');

select is_empty($$ select nspname, relname from ours where relkind in ('r', 'p') and not (relrowsecurity and relforcerowsecurity) $$,
  'every table has forced row-level security: after create table, in its migration: alter table ... enable and force row level security');
select is_empty($$ select schemaname, tablename, policyname from pg_policies
  where schemaname in ('public', 'private', 'jobs') and 'public' = any (roles) $$, 'every policy names its role: say "to authenticated" in its create policy, in access.sql');
select is_empty($$ select schemaname, tablename, policyname from pg_policies
  where schemaname in ('public', 'private', 'jobs') and cmd = 'ALL' and not roles <@ array['kijko_worker', 'service_role']::name[] $$,
  'a policy for people is about one action: one create policy for each of select, insert, update, delete, in access.sql');
select is_empty($$ select nspname, relname, r from ours, unnest(array['anon', 'authenticated']) r
  where nspname in ('private', 'jobs') and relkind in ('r', 'p', 'v', 'm', 'S')
    and case when relkind = 'S' then has_sequence_privilege(r, oid, 'usage') else has_any_column_privilege(r, oid, 'select, insert, update, references')
      or has_table_privilege(r, oid, 'delete, truncate') end $$,
  'request roles touch no table of private or jobs: revoke the grant and read it by a definer function');
select is_empty($$ select relname from ours where nspname = 'public' and relkind in ('r', 'p')
  and has_table_privilege('authenticated', oid, 'update, insert') $$,
  'insert and update are granted by column, never on a whole table: grant insert (column, ...) in access.sql');
select is_empty($$ select relname from ours where nspname = 'public' and relkind in ('r', 'p')
  and (has_table_privilege('anon', oid, 'delete') or has_any_column_privilege('anon', oid, 'insert, update')) $$,
  'anonymous callers write nothing: revoke the grant of anon in access.sql');
select is_empty($$ select relname from ours where relkind in ('v', 'm') and nspname in ('public', 'api')
  and not coalesce('security_invoker=true' = any (reloptions), false) $$, 'views are checked as their reader: create view ... with (security_invoker = true)');

select is_empty($$ select signature from routines where prosecdef and not coalesce('search_path=""' = any (proconfig), false) $$,
  'a definer function pins an empty search_path: add set search_path = '''' to its head');
select is_empty($$ select r.signature from routines r join pg_proc p on p.oid = r.oid join pg_language l on l.oid = p.prolang
  where r.nspname = 'api' and l.lanname = 'plpgsql' and r.provolatile = 'v' and not coalesce('search_path=""' = any (r.proconfig), false) $$,
  'an operation that writes does too: add set search_path = '''' to its head, or say stable where it only reads');
-- A definer function is never inlined, and in SQL it would be parsed and planned at every call; plpgsql keeps its plans. Functions that
-- return rows are called once a batch.
select is_empty($$ select p.oid::regprocedure from pg_proc p join routines r on r.oid = p.oid join pg_language l on l.oid = p.prolang
  where l.lanname = 'sql' and p.prosecdef and not p.proretset and p.proargmodes is null and p.prosqlbody is null $$,
  'a definer function keeps its plans: it is plpgsql');
-- Postgres inlines a SQL function only if every function it calls is at least as constant as it declares itself. A function that is not
-- inlined is parsed and planned at every call. Building JSON is stable, so functions that build JSON are stable too.
select is_empty($$ select p.oid::regprocedure from pg_proc p join routines r on r.oid = p.oid join pg_language l on l.oid = p.prolang
  where l.lanname = 'sql' and p.provolatile = 'i' and coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) ~ 'jsonb?_build|to_jsonb?\(|concat_ws|private\.iso' $$,
  'a SQL function that builds JSON is stable, so that it can be inlined: say stable in its head');
-- The planner runs an immutable call with constant arguments at once, also in a branch that is never taken. A function can raise if it
-- raises itself, or names a function that can.
select is_empty($$
  with recursive bodies as (
    select r.oid, r.signature, r.nspname || '.' || r.proname as name, r.provolatile, coalesce(pg_get_function_sqlbody(r.oid), p.prosrc) as body
    from routines r join pg_proc p on p.oid = r.oid),
  raising as (
    select name from bodies where body ~* '\mraise\s*(;|''|exception|using|sqlstate|(?!debug|log|info|notice|warning)[a-z])'
    union
    select b.name from bodies b join raising r on b.body ~ ('\m' || replace(r.name, '.', '\.') || '\s*\('))
  select signature from bodies where provolatile = 'i' and name in (select name from raising)
$$, 'what can refuse is not immutable: say stable in its head');
select is_empty($$ select signature from routines r where has_function_privilege('public', oid, 'execute') $$, 'no function is open to everybody: name the roles in its grant execute');
select is_empty($$ select signature from routines where prosecdef and prorettype <> 'trigger'::regtype
    and (has_function_privilege('authenticated', oid, 'execute') or has_function_privilege('anon', oid, 'execute')) and coalesce(comment, '') !~ 'Authorization|no content' $$,
  'a definer function that people may call says how it checks its caller: add "Authorization: ..." to its comment on function');
select is_empty($$ select signature from routines where nspname = 'api'
    and not (prorettype = 'jsonb'::regtype and proargtypes::text = 'jsonb'::regtype::oid::text) $$, 'an operation takes jsonb and returns jsonb: create function api.verb_noun(p jsonb) returns jsonb');
select is_empty($$ select signature from routines where nspname = 'api' and not has_function_privilege('authenticated', oid, 'execute')
    and not has_function_privilege('anon', oid, 'execute') and not has_function_privilege('service_role', oid, 'execute') $$,
  'an operation is open to somebody: add grant execute on function ... to authenticated below it');
select is_empty($$ select signature from routines where comment is null $$, 'every function has a comment: add comment on function ... is below it');
select is_empty($$ select relname from ours where relkind in ('r', 'p') and obj_description(oid, 'pg_class') is null $$, 'every table has a comment: add comment on table ... is to its migration');

-- A foreign key without an index makes each delete of the parent scan the child. In a composite key the last column is the selective one.
-- An index that leads with it, or with all of the key's columns in any order, serves. It may leave out nulls.
select is_empty($$
  select c.conrelid::regclass::text, c.conname
  from pg_constraint c join ours o on o.oid = c.conrelid
  where c.contype = 'f' and not exists (
    select from pg_index i, lateral (select (i.indkey::smallint[])[0:cardinality(c.conkey) - 1] as head) h
    where i.indrelid = c.conrelid and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) ~ 'IS NOT NULL')
      and ((i.indkey::smallint[])[0] = c.conkey[cardinality(c.conkey)] or (h.head @> c.conkey and h.head <@ c.conkey)))
$$, 'every foreign key is indexed: create an index on its last column or on all of its columns, in a migration');
select is_empty($$ select c.conrelid::regclass::text, c.conname from pg_constraint c join ours o on o.oid = c.conrelid
  -- "No action" is also the default. Where it is intended, a comment gives the reason.
  where c.contype = 'f' and c.confdeltype = 'a' and obj_description(c.oid, 'pg_constraint') is null $$, 'every foreign key decides what a delete does: add on delete cascade or set null, or a comment on constraint that says why not');
-- Between two tenant tables a foreign key carries the organization, or both rows belong to one project, so that it cannot point at another
-- tenant's row.
select is_empty($$
  select c.conrelid::regclass::text, c.conname
  from pg_constraint c
  join ours o on o.oid = c.conrelid
  where c.contype = 'f' and cardinality(c.conkey) = 1 and o.nspname = 'public'
    and exists (select from pg_attribute a where a.attrelid = c.conrelid and a.attname in ('organization_id') and not a.attisdropped)
    and exists (select from pg_attribute a where a.attrelid = c.confrelid and a.attname in ('organization_id') and not a.attisdropped)
    and c.confrelid not in ('public.organizations'::regclass, 'public.users'::regclass)
    -- A person's row may point at another person's public row. The comment of the constraint then names the function that authorizes it.
    and coalesce(obj_description(c.oid, 'pg_constraint'), '') !~ '^Across tenants: '
$$, 'a foreign key between tenant tables cannot point at another tenant''s row: let it carry organization_id: foreign key (organization_id, x_id) references ... (organization_id, id)');
select is_empty($$
  select o.nspname, o.relname from ours o join pg_attribute a on a.attrelid = o.oid and a.attname = 'organization_id' and not a.attisdropped
  -- The log is read by number and by room, never by organization.
  where o.relkind in ('r', 'p') and o.nspname = 'public' and o.relname <> 'events' and not exists (
    select from pg_index i where i.indrelid = o.oid and (i.indkey::smallint[])[0] = a.attnum)
$$, 'every tenant table has an index that starts with its organization: create index on the table (organization_id, ...) in its migration');

select is_empty($$ select t.tgrelid::regclass::text, t.tgname from pg_trigger t join ours o on o.oid = t.tgrelid
  where not t.tgisinternal and t.tgname !~ '^_[1-9][05]0_[a-z_]+$' $$, 'trigger names say when they run and what for: name it _NNN_task; db/README.md, "Names", lists the numbers');
select is_empty($$ select t.tgrelid::regclass::text, t.tgname, p.proname from pg_trigger t join ours o on o.oid = t.tgrelid
  join pg_proc p on p.oid = t.tgfoid where not t.tgisinternal and p.proname !~ '^tg_' $$, 'trigger functions are named tg_: name it private.tg_<table>__<task>');
select is_empty($$ select conrelid::regclass::text, conname from pg_constraint c join ours o on o.oid = c.conrelid
  where c.contype = 'c' and c.conname ~ '_check[0-9]+$' $$, 'no constraint was left to name itself: write constraint <table>_<rule>_check before check');

-- Texts, JSON, addresses, bytes, arrays of these, and uuids that name a person or a session.
create temp view personal as
  select o.oid, o.nspname || '.' || o.relname as relation, a.attnum, a.attname, substring(col_description(o.oid, a.attnum) from '\[person: ([a-z]+)\]$') as rule,
    substring(obj_description(o.oid, 'pg_class') from '\[person: ([a-z]+)\]$') as default_rule
  from ours o
  join pg_attribute a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
  join pg_type t on t.oid = a.atttypid
  left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
  left join pg_constraint k on k.conrelid = o.oid and k.contype = 'f' and a.attnum = any (k.conkey)
  where o.relkind in ('r', 'p') and (coalesce(e.typname, t.typname) in ('text', 'varchar', 'bpchar', 'name', 'citext', 'json', 'jsonb', 'inet', 'cidr', 'macaddr', 'bytea', 'xml', 'tsvector')
    or coalesce(e.typname, t.typname) = 'uuid' and (k.confrelid = 'public.users'::regclass
      or k.oid is null and a.attname ~ '(user|person|actor|subject|author|owner|session)(_|s?$)|_by$'));
select is_empty($$ select distinct relation, attname from personal where coalesce(rule, default_rule) is null $$,
  'every column that can hold a person''s data says what erasure does with it: add it to its table''s line in db/code/gdpr/columns.sql');
select is_empty($$ select relation, attname, rule from personal where rule not in ('erased', 'detached', 'reassigned', 'masked', 'organization', 'kept', 'none')
  union select relation, '', default_rule from personal where default_rule <> 'erased' $$,
  'the rules of erasure are those of db/code/gdpr/columns.sql, and only erased holds for a whole table');
select is_empty($$ select relation, attname from personal p join pg_constraint k on k.conrelid = p.oid and k.contype = 'f' and k.conkey = array[p.attnum]
  where k.confrelid = 'public.users'::regclass and case k.confdeltype when 'c' then coalesce(p.rule, p.default_rule) <> 'erased' when 'n' then coalesce(p.rule, p.default_rule) <> 'detached'
    else coalesce(p.rule, p.default_rule) <> 'reassigned' end $$,
  'a key to a person does what its column says: on delete cascade is erased, set null is detached');

select * from finish();
rollback;
