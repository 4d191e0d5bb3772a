begin;
select no_plan();

-- A free name next to taken ones, at a cost that does not grow with their number.
create function pg_temp.number_from(p_first numeric, p_taken_numbers numeric[]) returns numeric language plpgsql as $$
declare
  v_taken numeric := p_first - 1;
  v_free numeric;
  v_number numeric;
begin
  loop
    v_number := private.number_to_try(p_first, v_taken, v_free);
    exit when v_number is null;
    if v_number = any (p_taken_numbers) then v_taken := v_number; else v_free := v_number; end if;
  end loop;
  return v_free;
end $$;
select is(pg_temp.number_from(f, t), w::numeric, format('from %s beside %s', f, t))
from (values (2, '{}'::numeric[], 2), (2, '{2}', 3), (2, '{2,4}', 3), (2, '{3}', 2), (7, '{7,8,9,10,12}', 11), (1, array(select generate_series(1::numeric, 15)), 16),
  (1, array(select generate_series(1::numeric, 16)), 17), (1, array(select generate_series(1::numeric, 1000)), 1001), (5, array(select generate_series(5::numeric, 777)), 778)) v (f, t, w);

-- Calls of a function and rows of a table in this transaction.
create function pg_temp.calls(p_function regprocedure) returns bigint language sql as $$ select coalesce(pg_stat_get_xact_function_calls(p_function), 0) $$;
create function pg_temp.rows_read(p_table regclass) returns bigint language sql as $$
  select pg_stat_get_xact_tuples_returned(p_table) + pg_stat_get_xact_tuples_fetched(p_table) + coalesce((select sum(pg_stat_get_xact_tuples_returned(i.indexrelid)) from pg_index i where i.indrelid = p_table), 0) $$;

select tests.user('anna');
select tests.reset();
create temp table at as select 0::bigint as rows, 0::bigint as calls;
grant all on at to public;

set local session_replication_role = replica;
insert into public.projects (organization_id, user_id, name) select tests.org('anna'), tests.user('anna'), 'Project ' || g from generate_series(1, 200000) g;
insert into public.skills (user_id, organization_id, name, prompt_template)
select tests.user('anna'), tests.org('anna'), case g when 0 then 'Notes' else format('Notes (%s)', g) end, 'Twenty characters of {{text}}' from generate_series(0, 20000) g;
insert into public.projects (id, organization_id, user_id, name) values ('00000000-0000-4000-8000-000000000001', tests.org('anna'), tests.user('anna'), 'Texts');
insert into public.project_files (id, organization_id, project_id, parent_id, is_folder, name, path, position, mime_type)
select '00000000-0000-4000-8000-000000000002', tests.org('anna'), '00000000-0000-4000-8000-000000000001', null, true, 'texts', 'texts', 0, 'inode/directory';
insert into public.project_files (organization_id, project_id, parent_id, origin, name, path, position, mime_type, size, checksum, storage_key, storage_provider)
select tests.org('anna'), '00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002', 'text', n, 'texts/' || n, g, 'text/plain', 1, repeat('a', 64), 'texts/' || lpad(g::text, 20, '0'), 'local'
from generate_series(1, 5000) g cross join lateral (select 'Plain text' || case when g > 1 then ' ' || g else '' end as n) n;
set local session_replication_role = origin;
analyze public.projects, public.skills, public.project_files;

select tests.act_as('anna');
update at set calls = pg_temp.calls('private.project_name_taken(uuid, text, uuid)');
select is(api.check_project_name('{"name": "project 77"}'), '{"exists": true, "suggestion": "project 200001"}', 'the end of 200,000 neighbors');
select cmp_ok(pg_temp.calls('private.project_name_taken(uuid, text, uuid)') - (select calls from at), '<=', 60::bigint, 'takes some fifty look-ups');
select tests.reset();
update at set rows = pg_temp.rows_read('public.projects');
select tests.act_as('anna');
select is(api.validate_project_name('{"body": {"name": "Project 1"}}') ->> 'suggestion', 'Project 200001', 'and the same where a name is checked');
select throws_ok($$ select api.create_project('{"body": {"name": "Project 5"}}') $$, 'PT409', 'A project with this name already exists.', 'or refused');
select tests.reset();
select cmp_ok(pg_temp.rows_read('public.projects') - (select rows from at), '<=', 500::bigint, 'of single rows');

update at set rows = pg_temp.rows_read('public.skills');
select tests.act_as('anna');
select is(private.free_skill_name('notes'), 'notes (20001)', 'an imported skill');
select is(private.free_skill_name('Other'), 'Other', 'whose name is free, keeps it');
select tests.reset();
select cmp_ok(pg_temp.rows_read('public.skills') - (select rows from at), '<=', 200::bigint, 'at the same price');

update at set rows = pg_temp.rows_read('public.project_files');
select is(private.free_text_name('00000000-0000-4000-8000-000000000001', 'plain text'), 'plain text 5001', 'a text without a title');
select is(private.free_text_name(gen_random_uuid(), 'Plain text'), 'Plain text', 'the first one has no number');
select cmp_ok(pg_temp.rows_read('public.project_files') - (select rows from at), '<=', 200::bigint, 'and again');

-- The base is shortened to make room for the number.
insert into public.projects (organization_id, user_id, name)
select tests.org('anna'), tests.user('anna'), n from unnest(array[repeat('x', 50), repeat('x', 48) || ' 2', repeat('x', 44) || ' 99999', '2024', 'Build 20240101123456789012']) n;
select tests.act_as('anna');
select is(api.check_project_name(jsonb_build_object('name', n)) ->> 'suggestion', w, 'beside ' || n)
from (values (repeat('x', 50), repeat('x', 48) || ' 3'), (repeat('x', 44) || ' 99999', repeat('x', 43) || ' 100000'), ('2024', '2024 2'),
  ('Build 20240101123456789012', 'Build 20240101123456789013')) v (n, w);

select * from finish();
rollback;
