select pg_temp.keep('skillId', (api.create_playbook_skill(jsonb_build_object('body', jsonb_build_object('name', 'Skill of ' || pg_temp.tenant(),
  'description', pg_temp.secret(), 'content', 'A prompt: ' || pg_temp.secret()))) ->> 'id')::uuid);
