-- The demo tenant of a development database, for "make run" and "supabase db reset" alike: a person with an organization of their
-- own. Idempotent. Its password is known to everybody (demo-password): never run this where strangers can sign in.
do $seed$
declare
  v_user constant uuid := '00000000-0000-4000-8000-000000000001';
  v_org uuid;
begin
  insert into public.users (id, email, first_name, last_name, email_verified_at)
  values (v_user, 'demo@kijko.local', 'Demo', 'User', now())
  on conflict do nothing;
  if not found then
    return;
  end if;
  v_org := private.create_organization('Demo workspace', v_user);
  insert into private.credentials (user_id, password_hash, meets_policy)
  values (v_user, '$argon2id$v=19$m=19456,t=2,p=1$1JXZ+Raafb2i3yZ+bl0OcA$cwGwdNwFk4FErhMRg453v80VyBWoHhDcCG7/HZD3ItQ', false);
  insert into public.skills (user_id, organization_id, name, description, category, prompt_template, parameters, input_schema, output_format)
  values
    (v_user, v_org, 'Changelog Writer', 'Release notes for users from a list of commits', 'generation',
      'Write release notes for users from these commits. Group them by what changed for the reader, leave out internal work, and keep '
        || 'to one line each.

Product: {{product}}

{{commits}}', '{"temperature": 0.4, "max_tokens": 1024}',
      '[{"name": "product", "type": "string", "default": "Kijko"}, {"name": "commits", "type": "string", "required": true}]', 'markdown'),
    (v_user, v_org, 'Pull Request Greeter', 'A friendly first comment on a pull request; meant for a reflex', 'communication',
      'Write a short, friendly first comment on the pull request "{{pull_request.title}}" by {{pull_request.user.login}}. Sum up in two '
        || 'sentences what it does, and ask one question about what the description leaves open.

{{pull_request.body}}', '{"temperature": 0.6, "max_tokens": 512}', null, 'markdown'),
    (v_user, v_org, 'Daily Stand-up', 'Questions for the morning; meant for a habit', 'automation',
      'Write three short questions that help a team of {{team_size}} to plan its day together. Vary them; yesterday''s need not return.',
      '{"temperature": 0.9, "max_tokens": 256}', '[{"name": "team_size", "type": "number", "default": 5}]', 'text');
end
$seed$;
