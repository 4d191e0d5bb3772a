-- Operations on runs, by actor: starting, testing, cancelling, retrying, reading, exporting, cleaning up.
begin;
select no_plan();
insert into private.installation (key, value) values ('providers', '{"local": true}') on conflict (key) do update set value = excluded.value;

create temp table ids (name text primary key, id uuid);
grant select, insert on ids to public;
create function pg_temp.id(p_name text) returns uuid language sql stable as $$ select id from ids where name = p_name $$;
create function pg_temp.skill(p_owner text, p_name text, p_active boolean default true, p_public boolean default false, p_model text default 'claude-3-5-sonnet-20241022')
returns void language sql volatile as $$
  with s as (
    insert into public.skills (user_id, organization_id, name, prompt_template, is_active, is_public, model, input_schema)
    values (tests.user(p_owner), tests.org(p_owner), p_name, 'Write twenty characters about {{topic}}', p_active, p_public, p_model,
      '[{"name": "topic", "type": "string", "required": true}, {"name": "words", "type": "number"}]') returning id
  ) insert into ids select p_name, id from s
$$;
select pg_temp.skill('anna', 'own'), pg_temp.skill('anna', 'inactive', false), pg_temp.skill('boris', 'shared', true, true), pg_temp.skill('boris', 'secret'),
  pg_temp.skill('anna', 'openai', p_model => 'gpt-4-turbo');
with h as (
  insert into public.habits (user_id, organization_id, skill_id, schedule_cron, next_run_at)
  values (tests.user('anna'), tests.org('anna'), pg_temp.id('own'), '0 9 * * *', now() + interval '1 day') returning id
), r as (
  insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config)
  values (tests.user('anna'), tests.org('anna'), pg_temp.id('own'), 'event', '{"eventName": "push"}') returning id
) insert into ids select 'habit', id from h union all select 'reflex', id from r;

create function pg_temp.execute(p_skill text, p_body jsonb default '{"input": {"topic": "trees"}}') returns jsonb language sql volatile as $$
  select api.execute_skill(jsonb_build_object('skillId', coalesce(pg_temp.id(p_skill)::text, p_skill), 'body', p_body))
$$;
create function pg_temp.used() returns bigint language sql volatile security definer as $$
  select private.units_used(tests.org('anna'), 'api_calls', private.usage_period('api_calls', now()))
$$;
-- The code, field and message of a refusal.
create function pg_temp.refusal(p_sql text) returns text language plpgsql volatile as $$
declare
  v_detail text;
begin
  execute p_sql;
  return 'accepted';
exception when others then
  get stacked diagnostics v_detail = pg_exception_detail;
  return concat_ws(' ', sqlstate, nullif(v_detail, '')::jsonb ->> 'code', nullif(v_detail, '')::jsonb ->> 'field', sqlerrm);
end
$$;

-- -------------------------------------------------------------------------------------------------------------------- starting
select tests.act_as('anna');
select is(pg_temp.execute('own') - 'executionId', '{"status": "pending"}', 'a run begins');
select results_eq($$ select execution_type, reference_id, input, organization_id, is_streamed from public.skill_executions $$,
  $$ values ('manual', null::uuid, '{"topic": "trees"}'::jsonb, tests.org('anna'), false) $$, 'by hand, with its inputs, in the organization one acts in');
select is(pg_temp.execute('shared') ->> 'status', 'pending', 'a public skill of somebody else runs');
select is(pg_temp.refusal($$ select pg_temp.execute('own', jsonb_build_object('skillId', pg_temp.id('shared'))) $$),
  'PT400 VALIDATION_ERROR skillId The skill of the body is not the one of the address.', 'the body names the same skill');
select is(pg_temp.execute('own', jsonb_build_object('skillId', upper(pg_temp.id('own')::text), 'input', '{"topic": "x"}'::jsonb)) ->> 'status', 'pending', 'in whatever case');
select is(pg_temp.refusal($$ select pg_temp.execute('secret') $$), 'PT404 SKILL_NOT_FOUND Skill with ID ' || pg_temp.id('secret') || ' not found', 'a private skill of somebody else is not there');
select is(pg_temp.refusal($$ select pg_temp.execute('no uuid') $$), 'PT404 SKILL_NOT_FOUND Skill with ID no uuid not found', 'nor is what is no id');
select is(pg_temp.refusal($$ select pg_temp.execute('inactive', '{}') $$), 'PT409 SKILL_INACTIVE Cannot execute an inactive skill', 'inactive comes before inputs');
select is(pg_temp.refusal($$ select pg_temp.execute('own', '{"input": {"words": "five"}}') $$), 'PT400 INVALID_INPUT input.topic topic is required', 'the first fault of the inputs');
select throws_like($$ select pg_temp.execute('own', '{}') $$, '%topic is required%', 'absent inputs are none');
do $$ declare v_detail text; begin
  perform pg_temp.execute('own', '{"input": {"words": "five"}}');
exception when others then
  get stacked diagnostics v_detail = pg_exception_detail;
  perform set_config('test.details', v_detail::jsonb ->> 'details', true);
end $$;
select is(current_setting('test.details')::jsonb, '{"topic": "topic is required", "words": "words must be a number"}', 'and all of them');
select is(pg_temp.execute('openai') ->> 'status', 'pending', 'a model that nobody supports fails when it runs');

select is(pg_temp.refusal($$ select pg_temp.execute('own', '{"executionType": "habit", "input": {"topic": "x"}}') $$),
  'PT400 INVALID_REFERENCE referenceId This is no habit of yours on this skill.', 'a habit''s run needs its habit');
select is(pg_temp.refusal($$ select pg_temp.execute('own', jsonb_build_object('executionType', 'habit', 'referenceId', pg_temp.id('reflex'))) $$),
  'PT400 INVALID_REFERENCE referenceId This is no habit of yours on this skill.', 'and no reflex');
select is(pg_temp.refusal($$ select pg_temp.execute('shared', jsonb_build_object('executionType', 'reflex', 'referenceId', pg_temp.id('reflex'))) $$),
  'PT400 INVALID_REFERENCE referenceId This is no reflex of yours on this skill.', 'on that skill');
select is(pg_temp.execute('own', jsonb_build_object('executionType', 'habit', 'referenceId', pg_temp.id('habit'), 'input', '{"topic": "x"}'::jsonb)) ->> 'status', 'pending', 'a habit''s');
select is(pg_temp.execute('own', jsonb_build_object('executionType', 'reflex', 'referenceId', pg_temp.id('reflex'), 'input', '{"topic": "x"}'::jsonb)) ->> 'status', 'pending', 'a reflex''');
select is((select string_agg(execution_type, ' ' order by execution_type) from public.skill_executions where reference_id in (pg_temp.id('habit'), pg_temp.id('reflex'))), 'habit reflex', 'are recorded as such');
select is(pg_temp.execute('own', jsonb_build_object('executionType', 'manual', 'referenceId', pg_temp.id('habit'), 'input', '{"topic": "x"}'::jsonb)) ->> 'status', 'pending', 'otherwise a reference');
select is((select count(*) from public.skill_executions where execution_type = 'manual' and reference_id is not null), 0::bigint, 'is ignored');
select set_config('app.api_key_id', gen_random_uuid()::text, true);
select pg_temp.execute('own');
select set_config('app.api_key_id', '', true);
select is((select count(*) from public.skill_executions where execution_type = 'api'), 1::bigint, 'a run by API key says so');
select is(api.run_skill(jsonb_build_object('skillId', pg_temp.id('own'), 'stream', true, 'body', '{"inputs": {"topic": "x"}}'::jsonb)) - 'executionId', '{"status": "pending", "durationMs": 0}', 'run has a shape of its own');
select is((select count(*) from public.skill_executions where is_streamed), 1::bigint, 'and may be read along');

-- --------------------------------------------------------------------------------------------------------------------- testing
select set_config('test.used', pg_temp.used()::text, true), set_config('test.rows', (select count(*) from public.skill_executions)::text, true);
select is(api.test_skill(jsonb_build_object('skillId', pg_temp.id('inactive'), 'body', '{"input": {"topic": "trees"}}'::jsonb)) - 'organizationId',
  '{"model": "claude-3-5-sonnet-20241022", "parameters": {"temperature": 1, "max_tokens": 4096}, "prompt": "Write twenty characters about trees"}', 'a test looks at no isActive');
select is(pg_temp.refusal($$ select api.test_skill(jsonb_build_object('skillId', pg_temp.id('own'), 'body', '{}'::jsonb)) $$), 'PT400 INVALID_INPUT input.topic topic is required', 'but at inputs');
select is(api.test_prompt('{"body": {"promptTemplate": "{{a}} {{b}}", "input": {"a": 1}, "systemPrompt": "Be brief"}}') - 'organizationId',
  '{"model": "claude-3-5-sonnet-20241022", "parameters": {"temperature": 0.7, "max_tokens": 4096}, "prompt": "1 {{b}}", "system": "Be brief"}', 'a prompt is tested with defaults');
select is(pg_temp.refusal($$ select api.test_prompt('{"body": {"promptTemplate": "x", "model": "llama"}}') $$), 'PT400 VALIDATION_ERROR model This model is not supported', 'an unknown model');
select is(pg_temp.refusal($$ select api.test_prompt('{"body": {"promptTemplate": "x", "parameters": {"temperature": 2}}}') $$),
  'PT400 VALIDATION_ERROR parameters.temperature Temperature must be between 0 and 1', 'faulty parameters');
select is(pg_temp.used(), current_setting('test.used')::bigint + 2, 'tests are paid for');
select is((select count(*)::text from public.skill_executions), current_setting('test.rows'), 'and leave no row');
select tests.reset();
update private.installation set value = '{}' where key = 'providers';
select tests.act_as('anna');
select is(pg_temp.refusal($$ select pg_temp.execute('own') $$), 'PT503 PROVIDER_NOT_CONFIGURED No key for Anthropic is configured. An owner or admin of your organization can add one.', 'without a provider nothing runs');
select is(pg_temp.refusal($$ select pg_temp.execute('own', '{}') $$), 'PT400 INVALID_INPUT input.topic topic is required', 'which comes after the inputs');
select is(left(pg_temp.refusal($$ select api.test_prompt('{"body": {"promptTemplate": "x"}}') $$), 27), 'PT503 PROVIDER_NOT_CONFIGUR', 'nor is tested');
select is(pg_temp.used(), current_setting('test.used')::bigint + 2, 'and nothing is paid');
select tests.reset();
update private.installation set value = '{"local": true}' where key = 'providers';
update public.subscriptions set overrides = jsonb_build_object('api_calls', pg_temp.used()) where organization_id = tests.org('anna');
select tests.act_as('anna');
select is(left(pg_temp.refusal($$ select pg_temp.execute('own') $$), 20), 'PT429 QUOTA_EXCEEDED', 'over quota nothing runs');
select is(left(pg_temp.refusal($$ select api.test_prompt('{"body": {"promptTemplate": "x"}}') $$), 20), 'PT429 QUOTA_EXCEEDED', 'nor is tested');
select is((select count(*)::text from public.skill_executions), current_setting('test.rows'), 'and no row is left');
select tests.reset();
update public.subscriptions set overrides = '{}' where organization_id = tests.org('anna');

-- ------------------------------------------------------------------------------------------------------------- cancel and retry
select tests.act_as('anna');
insert into ids select 'run', (pg_temp.execute('own') ->> 'executionId')::uuid;
select tests.act_as('boris');
select is(pg_temp.refusal($$ select api.cancel_execution(jsonb_build_object('executionId', pg_temp.id('run'))) $$), 'PT404 EXECUTION_NOT_FOUND Execution with ID ' || pg_temp.id('run') || ' not found', 'a stranger cancels nothing');
select is(left(pg_temp.refusal($$ select api.retry_execution(jsonb_build_object('executionId', pg_temp.id('run'))) $$), 25), 'PT404 EXECUTION_NOT_FOUND', 'retries nothing');
select is(left(pg_temp.refusal($$ select api.get_execution(jsonb_build_object('executionId', pg_temp.id('run'))) $$), 25), 'PT404 EXECUTION_NOT_FOUND', 'and sees nothing');
select tests.act_as('anna');
select is(pg_temp.refusal($$ select api.retry_execution(jsonb_build_object('executionId', pg_temp.id('run'))) $$), 'PT409 CANNOT_RETRY Cannot retry an execution with status "pending"', 'what runs is not retried');
select is(api.cancel_execution(jsonb_build_object('executionId', pg_temp.id('run'))), '{"success": true}', 'the owner cancels');
select is(api.get_execution(jsonb_build_object('executionId', pg_temp.id('run'))) - 'executedAt' - 'completedAt' - 'id' - 'skillId' - 'userId',
  '{"status": "cancelled", "errorMessage": "Cancelled by user", "executionType": "manual", "input": {"topic": "trees"}}', 'which is final');
select is(pg_temp.refusal($$ select api.cancel_execution(jsonb_build_object('executionId', pg_temp.id('run'))) $$), 'PT409 CANNOT_CANCEL Cannot cancel an execution with status "cancelled"', 'once');
select is(left(pg_temp.refusal($$ select api.cancel_execution('{"executionId": "no uuid"}') $$), 25), 'PT404 EXECUTION_NOT_FOUND', 'what is no id is not found');
insert into ids select 'again', (api.retry_execution(jsonb_build_object('executionId', pg_temp.id('run'))) ->> 'newExecutionId')::uuid;
select results_eq($$ select status, input, skill_id, execution_type from public.skill_executions where id = pg_temp.id('again') $$,
  $$ values ('pending', '{"topic": "trees"}'::jsonb, pg_temp.id('own'), 'manual') $$, 'a retry is a new run like the old one');
select is((select status from public.skill_executions where id = pg_temp.id('run')), 'cancelled', 'which stays as it is');
insert into ids select 'of habit', id from public.skill_executions where reference_id = pg_temp.id('habit');
select api.cancel_execution(jsonb_build_object('executionId', pg_temp.id('of habit')));
select is((api.retry_execution(jsonb_build_object('executionId', pg_temp.id('of habit'))) ->> 'status'), 'pending', 'a habit''s run is retried');
select is(tests.peek(format('select run_count from public.habits where id = %L', pg_temp.id('habit'))), '2', 'and counts for the habit');
select tests.reset();
update public.skills set is_active = false where id = pg_temp.id('own');
select tests.act_as('anna');
select is(pg_temp.refusal($$ select api.retry_execution(jsonb_build_object('executionId', pg_temp.id('run'))) $$), 'PT409 SKILL_INACTIVE Cannot execute an inactive skill', 'of an inactive skill nothing is retried');
select tests.reset();
update public.skills set is_active = true where id = pg_temp.id('own');
update public.skill_executions set input = null where id = pg_temp.id('run');
select tests.act_as('anna');
select is(pg_temp.refusal($$ select api.retry_execution(jsonb_build_object('executionId', pg_temp.id('run'))) $$),
  'PT409 CANNOT_RETRY Cannot retry an execution with status "cancelled" whose input is no longer stored', 'nor without its input');
select tests.reset();
update public.skill_executions set skill_id = null where id = pg_temp.id('of habit');
select tests.act_as('anna');
select is(left(pg_temp.refusal($$ select api.retry_execution(jsonb_build_object('executionId', pg_temp.id('of habit'))) $$), 21), 'PT404 SKILL_NOT_FOUND', 'nor without its skill');
select is(api.get_execution_full(jsonb_build_object('executionId', pg_temp.id('of habit'))) ? 'skill', false, 'a run without skill shows none');
select is(api.get_execution_full(jsonb_build_object('executionId', pg_temp.id('run'))) -> 'skill' ->> 'name', 'own', 'the others do');

-- ----------------------------------------------------------------------------------------------------------------------- lists
select tests.reset();
-- Carla's: seven runs on known days.
select pg_temp.skill('carla', 'carla''s "skill"');
select private.start_execution(pg_temp.id('carla''s "skill"'), tests.user('carla'), tests.org('carla'), case n when 3 then 'api' else 'manual' end, null, jsonb_build_object('n', n, 'o', '{}'::jsonb))
from generate_series(1, 7) n;
alter table public.skill_executions disable trigger user;
update public.skill_executions set executed_at = '2026-03-01 12:00Z'::timestamptz + ((input ->> 'n')::integer * interval '1 day'),
  status = case input ->> 'n' when '1' then 'running' when '2' then 'failed' when '3' then 'completed' else 'pending' end,
  completed_at = case when input ->> 'n' in ('2', '3') then '2026-03-09 12:00Z'::timestamptz end, error_message = case input ->> 'n' when '2' then '=1+1' end,
  output = case input ->> 'n' when '3' then 'fine' end, prompt_tokens = case input ->> 'n' when '3' then 3 end, completion_tokens = case input ->> 'n' when '3' then 4 end,
  cost_cents = case input ->> 'n' when '3' then 0 end, duration_ms = case input ->> 'n' when '3' then 12 end
where user_id = tests.user('carla');
alter table public.skill_executions enable trigger user;
select tests.act_as('carla');
create function pg_temp.list(p jsonb) returns text language sql stable as $$
  select concat_ws(' ', (select string_agg(e -> 'input' ->> 'n', '' order by o) from jsonb_array_elements(r -> 'executions') with ordinality x (e, o)),
    r ->> 'total', r ->> 'page', r ->> 'pageSize', r ->> 'hasMore') from api.list_executions(p) r
$$;
select is(pg_temp.list('{}'), '7654321 7 1 20 false', 'newest first');
select is(pg_temp.list('{"limit": 3, "offset": 3}'), '432 7 2 3 true', 'in pages');
select is(pg_temp.list('{"limit": 3, "offset": 6}'), '1 7 3 3 false', 'to the end');
select is(pg_temp.list('{"limit": 3, "offset": 99999999999999999999999}'), '7 333333334 3 false', 'and beyond');
select is(pg_temp.list('{"limit": 1000}'), '7654321 7 1 100 false', 'a limit is clamped');
select is(pg_temp.refusal($$ select pg_temp.list('{"limit": 0}') $$), 'PT400 VALIDATION_ERROR limit limit must be from 1 to 100.', 'but not from below');
select is(pg_temp.refusal($$ select pg_temp.list('{"offset": -1}') $$), 'PT400 VALIDATION_ERROR offset offset must be at least 0.', 'nor is an offset');
select is(pg_temp.list('{"status": "pending"}'), '7654 4 1 20 false', 'by status');
select is(pg_temp.list('{"executionType": "api"}'), '3 1 1 20 false', 'by type');
select is(pg_temp.list(jsonb_build_object('skillId', pg_temp.id('own'))), '0 1 20 false', 'by a skill that never ran');
select is(pg_temp.list(jsonb_build_object('skillId', pg_temp.id('carla''s "skill"'))), '7654321 7 1 20 false', 'by skill');
select is(pg_temp.list('{"skillId": "no uuid"}'), '0 1 20 false', 'what is no id matches nothing');
select is(pg_temp.list('{"startDate": "2026-03-04T12:00:00Z", "endDate": "2026-03-06T13:00:00+01:00"}'), '543 3 1 20 false', 'by time, both ends included');
select is(pg_temp.list('{"startDate": "2026-03-05"}'), '7654 4 1 20 false', 'a date is its first moment');
select is(pg_temp.refusal($$ select pg_temp.list('{"startDate": "2026-02-30"}') $$), 'PT400 VALIDATION_ERROR startDate This is no ISO-8601 date or time.', 'that exists');
select is(pg_temp.refusal($$ select pg_temp.list('{"endDate": "tomorrow"}') $$), 'PT400 VALIDATION_ERROR endDate This is no ISO-8601 date or time.', 'and is written so');
select is(left(pg_temp.refusal($$ select pg_temp.list('{"status": "done"}') $$), 29), 'PT400 VALIDATION_ERROR status', 'an unknown status');
select is(left(pg_temp.refusal($$ select pg_temp.list('{"executionType": "done"}') $$), 36), 'PT400 VALIDATION_ERROR executionType', 'an unknown type');
select is((select string_agg(e -> 'input' ->> 'n', '' order by o) from jsonb_array_elements(api.list_recent_executions('{"limit": 2}')) with ordinality x (e, o)), '76', 'the recent ones');
select is((select string_agg(e -> 'input' ->> 'n', '' order by o) from jsonb_array_elements(api.list_running_executions('{}')) with ordinality x (e, o)), '76541', 'the running ones, pending included');
select is(api.list_recent_executions('{"limit": 1}') -> 0 -> 'skill' ->> 'name', 'carla''s "skill"', 'with their skill');

-- --------------------------------------------------------------------------------------------------------------------- exports
select is(api.export_executions('{"format": "csv", "startDate": "2026-03-03", "endDate": "2026-03-05"}') ->> 'data',
  E'id,skillId,skillName,executionType,status,tokensUsed,durationMs,costCents,executedAt,completedAt\n'
  || (select string_agg(format('"%s","%s","carla''s ""skill""",%s', e.id, e.skill_id, case e.input ->> 'n'
      when '3' then '"api","completed","7","12","","2026-03-04T12:00:00.000Z","2026-03-09T12:00:00.000Z"' else '"manual","failed","","","","2026-03-03T12:00:00.000Z","2026-03-09T12:00:00.000Z"' end), E'\n'
      order by e.executed_at desc) from public.skill_executions e where e.input ->> 'n' in ('2', '3')), 'CSV');
select is(api.export_executions('{"format": "csv"}') ->> 'filename', to_char(now() at time zone 'UTC', '"executions-"YYYY-MM-DD".csv"'), 'with a name');
select is((api.export_executions('{}') ->> 'data')::jsonb, api.list_executions('{}') -> 'executions', 'JSON holds the same');
select is((select string_agg(distinct (length(l) - length(ltrim(l)))::text, ' ') from string_to_table(api.export_executions('{"executionType": "api"}') ->> 'data', E'\n') l), '0 10 2 4 6 8', 'JSON is indented by two spaces');
select ok(api.export_executions('{"executionType": "api"}') ->> 'data' like E'[\n  {\n    "id": "%"o": {}\n%\n  }\n]', 'and nothing empty is broken');
select is(api.export_executions('{"status": "cancelled"}') ->> 'data', '[]', 'nothing is an empty list');
select is(api.export_executions('{"status": "cancelled", "format": "csv"}') ->> 'data', 'id,skillId,skillName,executionType,status,tokensUsed,durationMs,costCents,executedAt,completedAt', 'or a header');
select is(pg_temp.refusal($$ select api.export_executions('{"format": "xml"}') $$), 'PT400 VALIDATION_ERROR format Format must be json or csv.', 'other formats are none');

-- -------------------------------------------------------------------------------------------------------------------- clean-up
select is(pg_temp.refusal($$ select api.clean_up_executions('{"olderThanDays": 0}') $$), 'PT400 VALIDATION_ERROR olderThanDays Give 1 to 3650 days.', 'clean-up needs a day at least');
select is(api.clean_up_executions('{"olderThanDays": 3650}'), '{"deletedCount": 0, "freedSpaceMb": 0}', 'nothing is that old');
select tests.reset();
alter table public.skill_executions disable trigger user;
update public.skill_executions set output = repeat('x', 1048576) where user_id = tests.user('carla') and input ->> 'n' = '3';
alter table public.skill_executions enable trigger user;
select tests.act_as('boris');
select is(api.clean_up_executions('{"olderThanDays": 1}') ->> 'deletedCount', '0', 'nobody else''s runs are deleted');
select tests.act_as('carla');
select is(api.clean_up_executions('{}'), '{"deletedCount": 2, "freedSpaceMb": 1}', 'one''s own ended ones are');
select is((select count(*) from public.skill_executions), 5::bigint, 'open ones stay');

-- ------------------------------------------------------------------------------------------------------------------- anonymous
select tests.act_anon();
select throws_ok($$ select api.list_executions('{}') $$, '42501', null, 'nobody anonymous lists');
select throws_ok($$ select api.execute_skill('{}') $$, '42501', null, 'or runs');
select tests.act_as_claims('carla');
select is((select count(*) from public.skill_executions), 5::bigint, 'claims alone show one''s own');
select tests.reset();
alter table public.skill_executions disable trigger user;
update public.skill_executions set input = input || jsonb_build_object('text', repeat('x', 900000)), status = 'running' where user_id = tests.user('carla');
insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, input, status, executed_at)
select e.user_id, e.organization_id, e.skill_id, e.execution_type, e.input, 'running', e.executed_at - n * interval '1 hour'
from public.skill_executions e, generate_series(1, 10) n where e.user_id = tests.user('carla');
alter table public.skill_executions enable trigger user;
select tests.act_as('carla');
select is(jsonb_array_length(api.list_running_executions('{}')), 37, 'of many large ones the newest that are 32 MiB together');
select tests.reset();

select * from finish();
rollback;
