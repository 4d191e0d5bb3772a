-- A person who is invited to the project; paths name its one row in three ways.
select pg_temp.keep('memberId', (api.add_project_member(jsonb_build_object('projectId', pg_temp.id('projectId'),
  'body', jsonb_build_object('email', lower(pg_temp.tenant()) || '.invites@example.org', 'role', 'viewer'))) ->> 'id')::uuid);
select pg_temp.keep('projectUserId', pg_temp.id('memberId')), pg_temp.keep('userId', pg_temp.id('memberId')), pg_temp.keep('contextId', pg_temp.id('projectId'));
