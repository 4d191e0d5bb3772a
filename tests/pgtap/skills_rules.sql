-- Effects of changes of a skill, by any writer (contract 20, sections 2.1, 3 and 16).
begin;
select no_plan();

select tests.user('anna'), tests.user('stan');
create function pg_temp.make(p_name text, p_more jsonb default '{}') returns uuid language sql as $$
  select (api.create_skill(jsonb_build_object('body', jsonb_build_object('name', p_name, 'promptTemplate', 'Twenty characters of {{text}}') || p_more)) ->> 'id')::uuid $$;
create function pg_temp.p(p_id uuid, p_body jsonb default null) returns jsonb language sql as $$
  select jsonb_strip_nulls(jsonb_build_object('skillId', p_id)) || coalesce(jsonb_build_object('body', p_body), '{}') $$;
create function pg_temp.notified(p_id uuid) returns text language sql as $$
  select tests.peek(format($q$ select string_agg(data ->> 'operation' || coalesce(' ' || (select string_agg(f, ',') from jsonb_array_elements_text(data -> 'changedFields') f), ''), '; ' order by seq)
    from private.event_inbox where type = 'resource_changed' and data ->> 'resource' = 'skill' and data ->> 'id' = %L and room = 'user:' || %L $q$, p_id, tests.user('anna'))) $$;

-- Times and events. now() is constant within a transaction, so earlier rows are moved into the past.
select tests.act_as('anna');
create temp table made as select pg_temp.make('Writer') as id;
grant select on made to public;
select is(pg_temp.notified(id), 'created', 'a new skill is told') from made;
select tests.reset();
update public.skills set updated_at = '2026-01-01' where name = 'Writer';
select tests.act_as('anna');
select is((api.update_skill(pg_temp.p(id, '{"name": "Writer", "category": "custom", "starCount": 9}')) ->> 'updatedAt'), '2026-01-01T00:00:00.000Z', 'what changes nothing is no change') from made;
select is((api.star_skill(pg_temp.p(id)) ->> 'starCount'), '1', 'a star counts') from made;
select is((api.get_skill(pg_temp.p(id)) ->> 'updatedAt'), '2026-01-01T00:00:00.000Z', 'and is no change') from made;
select is(pg_temp.notified(id), 'created', 'neither of them is told') from made;
select isnt((api.update_skill(pg_temp.p(id, '{"name": "Author", "isActive": false, "temperature": 0.5}')) ->> 'updatedAt'), '2026-01-01T00:00:00.000Z', 'a change stamps') from made;
select is(pg_temp.notified(id), 'created; updated name,parameters,isActive', 'and is told with the names of what changed') from made;
select lives_ok($$ select api.publish_skill(pg_temp.p(id)) from made $$, 'publishing is a change');
select is(pg_temp.notified(id), 'created; updated name,parameters,isActive; updated isPublic', 'and told') from made;
select tests.reset();
update public.skills set execution_count = 5, last_executed_at = now(), rating_sum = 9, rating_count = 2 where name = 'Author';
select is(pg_temp.notified(id), 'created; updated name,parameters,isActive; updated isPublic', 'counters tell nothing') from made;
select throws_ok($$ update public.skills set star_count = -1 where name = 'Author' $$, '23514', null, 'no counter falls below zero');
select tests.act_as('anna');
select is(api.get_skill(pg_temp.p(id)) -> 'rating', '4.5', 'a rating has one decimal') from made;

-- The model is checked when it is written, not at every change.
select tests.reset();
insert into public.model_aliases (alias, model) values ('house-model', 'claude-3-5-sonnet-20241022');
select tests.act_as('anna');
create temp table aliased as select pg_temp.make('Aliased', '{"model": "house-model"}') as id;
select tests.reset();
delete from public.model_aliases where alias = 'house-model';
grant select on aliased to public;
select tests.act_as('anna');
select is(api.update_skill(pg_temp.p(id, '{"description": "still editable", "model": "house-model"}')) ->> 'description', 'still editable', 'a model that has gone refuses no other change') from aliased;
select throws_ok($$ select api.update_skill(pg_temp.p(id, '{"model": "house-model-2"}')) from aliased $$, 'PT400', 'This model is not supported', 'another unknown one is refused');
select throws_ok($$ select api.update_skill(pg_temp.p(id, '{"parameters": {"temperature": 7}}')) from aliased $$, 'PT400', 'Temperature must be between 0 and 1', 'and so is everything else');

-- Statements of psql meet the same checks.
select throws_ok($$ insert into public.skills (user_id, organization_id, name, prompt_template, input_schema) values (private.user_id(), private.org_id(), 'Raw', 'Twenty characters of {{text}}', '[{"name": "a"}]') $$,
  'PT400', 'Input type must be one of string, number, boolean, array, object', 'a bad field is refused');
select is((select count(*) from public.skills where name = 'Raw'), 0::bigint, 'and nothing stored');
select lives_ok($$ insert into public.skills (user_id, organization_id, name, prompt_template, input_schema, parameters, description)
  values (private.user_id(), private.org_id(), 'Raw', 'Twenty characters of {{text}}', '[{"name": " a ", "type": "string", "x": 1, "default": null}]', '{"top_k": 2, "y": 1}', '') $$, 'a good one is stored');
select is(private.skill_json(s) - array['id', 'userId', 'createdAt', 'updatedAt'], '{"name": "Raw", "model": "claude-3-5-sonnet-20241022", "category": "custom", "isActive": true, "isPublic": false, "starCount": 0,
  "parameters": {"top_k": 2}, "inputSchema": [{"name": "a", "type": "string"}], "ratingCount": 0, "outputFormat": "markdown", "executionCount": 0, "promptTemplate": "Twenty characters of {{text}}"}',
  'without what is unknown') from public.skills s where s.name = 'Raw';
select throws_ok(format('select api.update_skill(pg_temp.p(%L, %L))', (select id from made), b), 'PT400', m, 'through rpc: ' || b) from (values
  ('{"category": "x"}', 'Category must be one of analysis, generation, transformation, communication, automation, custom'), ('{"outputFormat": "x"}', 'Output format must be one of markdown, json, text, html, code'),
  ('{"isActive": "yes"}', 'Active must be true or false'), ('{"parameters": 7}', 'Parameters must be an object'), ('{"inputSchema": 7}', 'Input schema must be a list of fields'),
  ('{"inputSchema": [7]}', 'Input field must be an object'), ('{"inputSchema": [{"name": 7, "type": "string"}]}', 'Input name is required'),
  ('{"inputSchema": [{"name": "a", "type": "string"}, {"name": "a", "type": "string"}]}', 'Input name "a" is used twice')) t (b, m);
select is(private.suffixed_name(repeat('x', 100), '(12)'), repeat('x', 95) || ' (12)', 'a name gives way to its suffix');

-- Playbooks.
create temp table played as select (api.create_playbook_skill('{"body": {"content": "---\nname: x\n---\n\nTwenty characters", "name": "Played", "description": "", "dependencies": ["git"],
  "trigger": "post-tool", "scope": "local", "tags": ["testing"], "scopeSelection": {"type": "branches", "branchNames": ["main"], "projectIds": ["x"]}, "category": "analysis"}}') ->> 'id')::uuid as id;
select is(api.get_skill(pg_temp.p(id)) ->> 'promptTemplate', E'---\nname: x\n---\n\nTwenty characters', 'content is the prompt') from played;
select is(api.get_skill(pg_temp.p(id)) - array['id', 'userId', 'createdAt', 'updatedAt', 'promptTemplate'], '{"name": "Played", "model": "claude-3-5-sonnet-20241022", "category": "custom", "isActive": true, "isPublic": false,
  "starCount": 0, "parameters": {}, "ratingCount": 0, "outputFormat": "markdown", "executionCount": 0}', 'an ordinary skill beside it') from played;
select is(api.get_playbook(pg_temp.p(id)) - array['id', 'userId', 'createdAt', 'updatedAt', 'content'], '{"name": "Played", "description": "", "dependencies": ["git"], "trigger": "post-tool", "scope": "local",
  "tags": ["testing"], "scopeSelection": {"type": "branches", "branchNames": ["main"]}, "isActive": true}', 'and the playbook') from played;
select is(api.update_playbook(pg_temp.p(id, '{"content": "Other twenty characters", "name": "Replayed", "scope": "global", "tags": null}')) - array['id', 'userId', 'createdAt', 'updatedAt'],
  '{"content": "Other twenty characters", "name": "Replayed", "description": "", "dependencies": ["git"], "trigger": "post-tool", "scope": "global", "tags": [],
  "scopeSelection": {"type": "branches", "branchNames": ["main"]}, "isActive": true}', 'both views keep step') from played;
select is(api.get_skill(pg_temp.p(id)) ->> 'name', 'Replayed', 'the skill follows') from played;
select is(api.duplicate_skill(pg_temp.p(id)) ->> 'name', 'Replayed (Copy)', 'a copy') from played;
select is(api.get_playbook(pg_temp.p(s.id)) -> 'dependencies', '["git"]', 'takes its playbook along') from public.skills s where s.name = 'Replayed (Copy)';
select throws_ok(format('select api.get_playbook(pg_temp.p(%L))', (select id from made)), 'PT404', 'This skill has no playbook.', 'other skills have none');
select throws_ok(format('select api.update_playbook(pg_temp.p(%L, %L))', (select id from made), '{}'), 'PT404', 'This skill has no playbook.', 'and get none');
select throws_ok(format('select api.update_playbook(pg_temp.p(%L, %L))', (select id from played), b), 'PT400', m, 'refused: ' || b) from (values
  ('{"content": ""}', 'Content is required'), ('{"content": "short"}', 'Content must be at least 20 characters'), ('{"trigger": "never"}', 'trigger must be one of pre-tool, post-tool.'),
  ('{"scope": "everywhere"}', 'scope must be one of global, local.'), ('{"tags": "a"}', 'tags must be a list of at most 100 texts of 1 to 200 characters.'), ('{"dependencies": [1]}', 'dependencies must be a list of at most 100 texts of 1 to 200 characters.'),
  ('{"scopeSelection": {"type": "projects"}}', 'scopeSelection.projectIds must be a list of 1 to 100 texts.'), ('{"scopeSelection": {"type": "worktrees", "worktreeIds": []}}', 'scopeSelection.worktreeIds must be a list of 1 to 100 texts.'),
  ('{"scopeSelection": {"type": "x"}}', 'scopeSelection.type must be one of all, projects, worktrees, branches.'), ('{"name": null}', 'Name is required')) t (b, m);

-- Numbers.
select tests.reset();
insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, reference_id, status, prompt_tokens, completion_tokens, cost_cents, completed_at, executed_at)
select tests.user('anna'), tests.org('anna'), (select id from made), t, case when t in ('habit', 'reflex') then gen_random_uuid() end, s, 100, 20, 3, case when s in ('completed', 'failed', 'cancelled') then now() end, now() - n * interval '1 minute'
from (values ('manual', 'completed', 1), ('manual', 'completed', 2), ('api', 'failed', 3), ('habit', 'cancelled', 4), ('reflex', 'completed', 5)) v (t, s, n);
select tests.act_as('anna');
select is(api.get_skill_stats('{}') - array['totalSkills', 'activeSkills', 'topSkillsByUsage'], '{"totalExecutions": 5, "totalTokensUsed": 360, "totalCostCents": 9,
  "executionsByStatus": {"pending": 0, "running": 0, "completed": 3, "failed": 1, "cancelled": 1}, "executionsByType": {"manual": 2, "habit": 1, "reflex": 1, "api": 1}}', 'runs by status and type');
select is(api.get_skill_stats('{}') -> 'topSkillsByUsage' -> 0 ->> 'name', 'Author', 'the most used skill first');
select is(jsonb_array_length(api.get_skill_stats('{}') -> 'topSkillsByUsage'), 5, 'five of them');
select is(api.list_skill_executions(pg_temp.p(id) || '{"limit": 2, "offset": 1}') ->> 'total', '5', 'the history of a skill') from made;
select is((select string_agg(e ->> 'executionType', ' ') from made, jsonb_array_elements(api.list_skill_executions(pg_temp.p(id) || '{"limit": 2, "offset": 1}') -> 'executions') e), 'manual api', 'newest first');
select tests.act_as('stan');
select is(api.get_skill_stats('{}'), '{"totalSkills": 0, "activeSkills": 0, "topSkillsByUsage": [], "totalExecutions": 0, "totalTokensUsed": 0, "totalCostCents": 0,
  "executionsByStatus": {"pending": 0, "running": 0, "completed": 0, "failed": 0, "cancelled": 0}, "executionsByType": {"manual": 0, "habit": 0, "reflex": 0, "api": 0}}', 'nothing of others');

-- Deletion: open runs end, the owner's texts are deleted, those of others stay, habits and reflexes on the skill are deleted for every
-- owner.
select tests.act_as('anna');
create temp table gone as select pg_temp.make('Gone') as id;
grant select on gone to public;
select lives_ok($$ select api.publish_skill(pg_temp.p(id)) from gone $$, 'shown to all');
select tests.reset();
insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, status, input, output, error_message, completed_at, executed_at)
select tests.user(w), tests.org(w), (select id from gone), 'manual', s, '{"secret": "x"}', 'out', case s when 'failed' then 'why' end, case when s in ('completed', 'failed') then now() end, now()
from unnest(array['anna', 'stan']) w, unnest(array['pending', 'running', 'completed', 'failed']) s;
insert into public.habits (user_id, organization_id, skill_id, schedule_cron, next_run_at, is_active) select tests.user(w), tests.org(w), (select id from gone), '0 9 * * *', now() + interval '1 day', true from unnest(array['anna', 'stan']) w;
insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config) select tests.user(w), tests.org(w), (select id from gone), 'event', '{"eventName": "push"}' from unnest(array['anna', 'stan']) w;
insert into public.skill_stars (user_id, skill_id) select tests.user('stan'), id from gone;
create temp table runs as select id, user_id from public.skill_executions where skill_id = (select id from gone);
select tests.act_as('anna');
select is(api.delete_skill(pg_temp.p(id)), '{"success": true}', 'deleted') from gone;
select is(pg_temp.notified(id), 'created; updated isPublic; deleted', 'and told') from gone;
select tests.reset();
select is((select string_agg(format('%s %s %s %s', e.status, e.input, e.output, coalesce(e.error_message, '-')), '; ' order by e.status, e.error_message) from public.skill_executions e join runs r using (id) where e.user_id = tests.user('anna')),
  'cancelled   -; cancelled   -; completed   -; failed   -', 'the owner''s runs keep their numbers only');
select is((select string_agg(format('%s %s %s %s', e.status, e.input, e.output, coalesce(e.error_message, '-')), '; ' order by e.status, e.error_message) from public.skill_executions e join runs r using (id) where e.user_id = tests.user('stan')),
  'cancelled {"secret": "x"} out Skill deleted; cancelled {"secret": "x"} out Skill deleted; completed {"secret": "x"} out -; failed {"secret": "x"} out why', 'others keep their texts');
select is((select count(*) from public.skill_executions e join runs r using (id) where e.skill_id is null), 8::bigint, 'all of them without the skill');
select is((select count(*) from public.habits where skill_id = id), 0::bigint, 'no habit is left') from gone;
select is((select count(*) from public.reflexes where skill_id = id), 0::bigint, 'no reflex') from gone;
select tests.act_as('anna');
select throws_ok($$ select api.delete_skill(pg_temp.p(id)) from gone $$, 'PT404', format('Skill with ID %s not found', id), 'once') from gone;

-- The same by psql, by the bulk operation, and when a person is deleted.
create temp table second as select pg_temp.make('Second') as id, pg_temp.make('Third') as other;
grant select on second to public;
select tests.reset();
insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, status, input, executed_at)
select tests.user('anna'), tests.org('anna'), s, 'manual', 'pending', '{"secret": "x"}', now() from second, unnest(array[id, other]) s;
create temp table more as select id from public.skill_executions where skill_id in (select id from second union select other from second);
select tests.act_as('anna');
select isnt_empty($$ delete from public.skills where id = (select id from second) returning 1 $$, 'psql deletes');
select is(api.delete_skills(jsonb_build_object('body', jsonb_build_object('skillIds', jsonb_build_array(other, other, 'x', 7::text)))), '{"success": true, "count": 1}', 'many delete') from second;
select throws_ok($$ select api.delete_skills('{"body": {"skillIds": [7]}}') $$, 'PT400', 'skillIds must be a list of at most 100 ids.', 'ids are texts');
select tests.reset();
select is((select string_agg(distinct format('%s %s', e.status, e.input), ';') from public.skill_executions e join more using (id)), 'cancelled ', 'the runs ended, without texts');
select lives_ok($$ delete from public.memberships where user_id = tests.user('anna') $$, 'anna leaves');
delete from public.organizations where id = tests.org('anna');
select is((select count(*) from public.skills where user_id = tests.user('anna') and organization_id is null), (select count(*) from public.skills where user_id = tests.user('anna')),
  'a skill outlives the organization in which it was made');
select lives_ok($$ delete from public.users where id = tests.user('anna') $$, 'and goes');
select is((select count(*) from public.skills s where s.name in ('Author', 'Raw')), 0::bigint, 'with her skills');

-- Templates and the community's skills.
select is(jsonb_array_length(api.list_skill_templates('{}') -> 'templates'), 8, 'eight templates');
select is(string_agg(t ->> 'id', ' '), 'sql-query-builder', 'found by a tag, case aside') from jsonb_array_elements(api.list_skill_templates('{"search": "DataBase"}') -> 'templates') t;
select is_empty($$ select t ->> 'id', f ->> 'name' from private.skill_templates() t, jsonb_array_elements(t -> 'inputSchema') f where strpos(t ->> 'promptTemplate', '{{' || (f ->> 'name') || '}}') = 0 $$,
  'every input of a template stands in its prompt');
select is((select count(*) from public.skills s join public.users u on u.id = s.user_id where u.email = 'community@kijko.invalid' and s.is_public and s.is_active and s.organization_id is null), 10::bigint, 'ten public skills');
select is((select count(*) from public.memberships where user_id = '00000000-0000-4000-8000-00000000c0de'), 0::bigint, 'whose owner has no organization');
delete from public.skills where name = 'Bug Report Formatter';
select lives_ok($$ select private.seed_skill(10, 'Bug Report Formatter', 'communication', 'markdown', 0.3, 1024, array['description*'], 'd', 'p') $$, 'seeding again');
select is((select count(*) from public.skills where name = 'Bug Report Formatter'), 0::bigint, 'brings nothing back that was deleted');

select * from finish();
rollback;
