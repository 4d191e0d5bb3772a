-- Playbooks: the skill as the conversational builder shows it (contract 20, section 3.11). One skill, two views: content is its prompt, and
-- name and description are its own. The server (server/skills) checks the content's front matter before it comes here; the content is
-- stored as it was written.

create or replace function private.playbook_json(s public.skills, b public.skill_playbooks) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', s.id, 'userId', s.user_id, 'content', s.prompt_template, 'name', s.name,
  'description', coalesce(s.description, ''), 'dependencies', b.dependencies, 'trigger', b.trigger, 'scope', b.scope, 'tags', b.tags,
  'scopeSelection', b.scope_selection, 'isActive', s.is_active, 'createdAt', private.iso(s.created_at),
  'updatedAt', private.iso(greatest(s.updated_at, b.updated_at)));
comment on function private.playbook_json is 'PlaybookSkill of the contract.';

create or replace function private.text_list(p_list jsonb, p_field text) returns jsonb
language plpgsql stable
as $$
begin
  if not private.is_patterns(p_list) then
    perform private.refuse_field(p_field, format('%s must be a list of at most 100 texts of 1 to 200 characters.', p_field));
  end if;
  return p_list;
end
$$;
comment on function private.text_list is 'The list, if it is one of at most 100 texts; 400 otherwise.';

-- Where the skill is meant to apply. The list that belongs to the type is required; other lists are dropped.
create or replace function private.scope_selection(p_selection jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_list text := case p_selection ->> 'type' when 'projects' then 'projectIds' when 'worktrees' then 'worktreeIds' when 'branches' then 'branchNames' end;
begin
  if coalesce(jsonb_typeof(p_selection) <> 'object' or p_selection ->> 'type' not in ('all', 'projects', 'worktrees', 'branches'), true) then
    perform private.refuse_field('scopeSelection.type', 'scopeSelection.type must be one of all, projects, worktrees, branches.');
  elsif v_list is null then
    return '{"type": "all"}';
  elsif coalesce(not private.is_patterns(p_selection -> v_list) or jsonb_array_length(p_selection -> v_list) = 0, true) then
    perform private.refuse_field('scopeSelection.' || v_list, format('scopeSelection.%s must be a list of 1 to 100 texts.', v_list));
  end if;
  return jsonb_build_object('type', p_selection -> 'type', v_list, p_selection -> v_list);
end
$$;
comment on function private.scope_selection is 'SkillScopeSelection as it is stored. Errors: 400.';

-- A body merged into the playbook's own members; null means the value of a skill without one.
create or replace function private.playbook_with(k public.skill_playbooks, b jsonb) returns public.skill_playbooks
language plpgsql stable
as $$
declare
  n public.skill_playbooks := k;
begin
  if b ? 'dependencies' then
    n.dependencies := private.text_list(coalesce(nullif(b -> 'dependencies', 'null'), '[]'), 'dependencies');
  end if;
  if b ? 'tags' then
    n.tags := private.text_list(coalesce(nullif(b -> 'tags', 'null'), '[]'), 'tags');
  end if;
  if b ? 'trigger' then
    n.trigger := coalesce(b ->> 'trigger', 'pre-tool');
  end if;
  if b ? 'scope' then
    n.scope := coalesce(b ->> 'scope', 'global');
  end if;
  if b ? 'scopeSelection' then
    n.scope_selection := private.scope_selection(coalesce(nullif(b -> 'scopeSelection', 'null'), '{"type": "all"}'));
  end if;
  if n.trigger not in ('pre-tool', 'post-tool') then
    perform private.refuse_field('trigger', 'trigger must be one of pre-tool, post-tool.');
  elsif n.scope not in ('global', 'local') then
    perform private.refuse_field('scope', 'scope must be one of global, local.');
  end if;
  return n;
end
$$;
comment on function private.playbook_with is 'A playbook with the members of a request''s body. Errors: 400.';

-- The content is the prompt, so a fault of the prompt is reported for the content.
create or replace function private.content_as_prompt(b jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_length integer := char_length(b ->> 'content');
begin
  if not b ? 'content' then
    return b - 'promptTemplate';
  elsif coalesce(v_length, 0) = 0 then
    perform private.refuse_field('content', 'Content is required');
  elsif v_length < 20 then
    perform private.refuse_field('content', 'Content must be at least 20 characters');
  elsif v_length > 10000 then
    perform private.refuse_field('content', 'Content must be 10,000 characters or less');
  end if;
  return b || jsonb_build_object('promptTemplate', b -> 'content');
end
$$;
comment on function private.content_as_prompt is 'A playbook''s body in the members of a skill''s. Errors: 400.';
grant execute on function private.playbook_json, private.text_list, private.scope_selection, private.playbook_with, private.content_as_prompt
  to authenticated;

create or replace function api.create_playbook_skill(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  b jsonb := p -> 'body';
  s public.skills := private.new_skill();
  k public.skill_playbooks;
begin
  if coalesce(b ->> 'content', '') = '' then
    perform private.refuse_field('content', 'Content is required');
  elsif b ->> 'description' is null then
    perform private.refuse_field('description', 'Description is required');
  end if;
  s.parameters := '{}';
  s := private.skill_with(s, private.content_as_prompt(b) - array['category', 'parameters', 'temperature', 'maxTokens', 'inputSchema', 'outputFormat',
    'isActive'], true);
  k.dependencies := '[]';
  k.tags := '[]';
  k.trigger := 'pre-tool';
  k.scope := 'global';
  k.scope_selection := '{"type": "all"}';
  k := private.playbook_with(k, b);
  s := private.add_skill(s);
  insert into public.skill_playbooks (skill_id, dependencies, trigger, scope, tags, scope_selection)
  values (s.id, k.dependencies, k.trigger, k.scope, k.tags, k.scope_selection);
  return private.skill_json(s);
end
$$;
comment on function api.create_playbook_skill is 'POST /skills/playbook: Skill. Errors: 400, 409 SKILL_NAME_EXISTS.';

create or replace function api.get_playbook(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  s public.skills := private.path_skill(p);
  k public.skill_playbooks;
begin
  select * into k from public.skill_playbooks b where b.skill_id = s.id;
  if not found then
    perform private.refuse(404, 'PLAYBOOK_NOT_FOUND', 'This skill has no playbook.');
  end if;
  return private.playbook_json(s, k);
end
$$;
comment on function api.get_playbook is 'GET /skills/{skillId}/playbook: PlaybookSkill. Errors: 404 SKILL_NOT_FOUND, PLAYBOOK_NOT_FOUND.';

create or replace function api.update_playbook(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  b jsonb := p -> 'body';
  o public.skills := private.locked_skill(p);
  s public.skills;
  k public.skill_playbooks;
  n public.skill_playbooks;
begin
  select * into k from public.skill_playbooks y where y.skill_id = o.id;
  if not found then
    perform private.refuse(404, 'PLAYBOOK_NOT_FOUND', 'This skill has no playbook.');
  end if;
  s := private.skill_with(o, (select coalesce(jsonb_object_agg(m.key, m.value), '{}') from jsonb_each(private.content_as_prompt(b)) m
    where m.key in ('name', 'description', 'promptTemplate', 'model', 'isActive')), false);
  n := private.playbook_with(k, b);
  if s is distinct from o then
    s := private.change_skill(s);
  end if;
  if n is distinct from k then
    update public.skill_playbooks y
    set dependencies = n.dependencies, trigger = n.trigger, scope = n.scope, tags = n.tags, scope_selection = n.scope_selection
    where y.skill_id = o.id
    returning * into n;
  end if;
  return private.playbook_json(s, n);
end
$$;
comment on function api.update_playbook is
  'PUT /skills/{skillId}/playbook: PlaybookSkill; the skill follows. Errors: 400, 403 FORBIDDEN, 404 SKILL_NOT_FOUND, PLAYBOOK_NOT_FOUND, 409 SKILL_NAME_EXISTS.';
grant execute on function api.create_playbook_skill, api.get_playbook, api.update_playbook to authenticated;
