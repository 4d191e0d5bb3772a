-- Data of a project, besides its rows, that the worker and the persona screens read.
begin;
select no_plan();

select tests.act_as('anna');
select api.create_project('{"body": {"name": "Worker asks", "id": "11111111-1111-4111-8111-111111111111"}}');

-- The price behind the return on investment of the maya screen.
select is(private.project_plan_price('11111111-1111-4111-8111-111111111111'), 0, 'plan free costs nothing');
select tests.reset();
update public.subscriptions set plan_id = 'pro' where organization_id = tests.org('anna');
select tests.act_as('anna');
select is(private.project_plan_price('11111111-1111-4111-8111-111111111111'), 29, 'plan pro has its public price');

-- The chunking webhook: only the worker reads its secret.
select lives_ok($$ select api.update_project_settings('{"projectId": "11111111-1111-4111-8111-111111111111", "sealedWebhookSecret": "sealed",
  "body": {"chunkingStrategy": "custom", "webhookUrl": "https://chunks.example.nl/hook"}}') $$, 'a webhook is set with its sealed secret');
select throws_ok($$ select * from private.project_webhook('11111111-1111-4111-8111-111111111111') $$, '42501', null, 'people do not read the secret');
select tests.act_anon();
select throws_ok($$ select * from private.project_webhook('11111111-1111-4111-8111-111111111111') $$, '42501', null, 'nor do strangers');
select tests.reset();
select row_eq($$ select url, sealed_secret from private.project_webhook('11111111-1111-4111-8111-111111111111') $$,
  row('https://chunks.example.nl/hook'::text, 'sealed'::text), 'the worker does');

select * from finish();
rollback;
