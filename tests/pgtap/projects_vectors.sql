-- Vectors: names, suggestions, repository addresses, public addresses, branches, globs, estimates.
begin;
select no_plan();

select tests.act_as('vera');
select lives_ok($$ select api.create_project(jsonb_build_object('body', jsonb_build_object('name', n)))
  from unnest(array['Plan', 'Plan 9', 'Agent 007', 'Base2', 'Taken', 'Taken 2', 'Taken 3', repeat('x', 50), repeat('y', 46) || ' 999', 'Ünïcode Ñame', '100']) n $$,
  'names of the vectors are free');

select is(private.suggest_project_name(private.org_id(), v.name), v.wanted, format('suggestion for %s', v.name))
from (values
  ('Plan', 'Plan 2'), ('  plan ', 'plan 2'), ('Plan 9', 'Plan 10'), ('Agent 007', 'Agent 8'), ('Base2', 'Base 3'), ('Taken', 'Taken 4'),
  (repeat('x', 50), repeat('x', 48) || ' 2'), (repeat('y', 46) || ' 999', repeat('y', 45) || ' 1000'), ('100', '100 2')) v (name, wanted);

select is((api.validate_project_name(jsonb_build_object('body', jsonb_build_object('name', v.name))) ->> 'valid')::boolean, v.valid,
  format('validate %L: %s', left(v.name, 20), v.why))
from (values
  (null, false, 'missing'), ('', false, 'empty'), ('   ', false, 'blank'), (e'\u00a0\u2003', false, 'blank in Unicode'), ('ab', false, 'two'),
  ('  ab  ', false, 'two after trimming'), ('abc', true, 'three'), ('äöü', true, 'three code points'), (repeat('z', 50), true, 'fifty'),
  (repeat('z', 51), false, 'fifty-one'), (repeat(' ', 9) || repeat('z', 50), true, 'fifty after trimming'), (e'a\tbc', false, 'control character'),
  (e'abc\n', true, 'white space at the end goes'), ('TAKEN', false, 'taken in other case'), ('ünïcode ñame', false, 'taken in other case beyond ASCII'),
  ('a"b''c<script>', true, 'nothing else is forbidden')) v (name, valid, why);
select is(api.validate_project_name('{"body": {"name": "TAKEN"}}') ->> 'suggestion', 'TAKEN 4', 'a suggestion comes with it');
select is(api.check_project_name('{"name": "taken"}'), '{"exists": true, "suggestion": "taken 4"}'::jsonb, 'check-name says so');
select is(api.check_project_name('{"name": "nobody has this"}'), '{"exists": false}'::jsonb, 'and that a name is free');
select throws_ok($$ select api.check_project_name(jsonb_build_object('name', 'x', 'orgId', gen_random_uuid())) $$, 'PT403',
  'You are not a member of this organization.', 'of other organizations nothing is told');

select results_eq(
  $$ select r.provider, r.url, r.name from private.parse_repository_url('$$ || replace(v.address, '''', '''''') || $$') r $$,
  format('select %L::text, %L::text, %L::text', v.provider, v.url, v.name), format('address %s', v.address))
from (values
  ('https://github.com/vercel/next.js', 'github', 'https://github.com/vercel/next.js', 'vercel/next.js'),
  ('  HTTP://WWW.GitHub.com/Owner/Repo.git/  ', 'github', 'https://github.com/Owner/Repo', 'Owner/Repo'),
  ('github.com/a/b', 'github', 'https://github.com/a/b', 'a/b'),
  ('git@github.com:a/b.git', 'github', 'https://github.com/a/b', 'a/b'),
  ('ssh://git@github.com/a/b.git', 'github', 'https://github.com/a/b', 'a/b'),
  ('ssh://git@github.com:22/a/b', 'github', 'https://github.com/a/b', 'a/b'),
  ('https://github.com:443/a/b', 'github', 'https://github.com/a/b', 'a/b'),
  ('https://user:token@github.com/a/b', 'github', 'https://github.com/a/b', 'a/b'),
  ('https://github.com/a/b/tree/feature/x', 'github', 'https://github.com/a/b', 'a/b'),
  ('https://github.com/a/b.git/tree/main', 'github', 'https://github.com/a/b', 'a/b'),
  ('https://github.com/a/b?tab=readme#top', 'github', 'https://github.com/a/b', 'a/b'),
  ('https://gitlab.com/group/sub/deeper/repo', 'gitlab', 'https://gitlab.com/group/sub/deeper/repo', 'group/sub/deeper/repo'),
  ('https://gitlab.com/group/repo/-/tree/main/src', 'gitlab', 'https://gitlab.com/group/repo', 'group/repo'),
  ('https://bitbucket.org/team/repo/src/main/', 'bitbucket', 'https://bitbucket.org/team/repo', 'team/repo'),
  ('https://dev.azure.com/org/project/_git/repo', 'azure', 'https://dev.azure.com/org/project/_git/repo', 'org/project/repo'),
  ('https://org@dev.azure.com/org/project/_git/repo?path=/x', 'azure', 'https://dev.azure.com/org/project/_git/repo', 'org/project/repo'),
  ('https://org.visualstudio.com/project/_git/repo', 'azure', 'https://dev.azure.com/org/project/_git/repo', 'org/project/repo'),
  ('https://org.visualstudio.com/DefaultCollection/project/_git/repo', 'azure', 'https://dev.azure.com/org/project/_git/repo', 'org/project/repo'),
  ('git@ssh.dev.azure.com:v3/org/project/repo', 'azure', 'https://dev.azure.com/org/project/_git/repo', 'org/project/repo'),
  -- hostile or broken
  ('', null, null, null), ('github.com', null, null, null), ('https://github.com/', null, null, null), ('https://github.com/owner', null, null, null),
  ('https://github.com/owner/.git', null, null, null), ('https://github.com//owner/repo', null, null, null), ('https://github.com/../repo', null, null, null),
  ('https://github.com/owner/..', null, null, null), ('https://github.com/./repo', null, null, null), ('https://github.com@evil.example/a/b', null, null, null),
  ('https://evil.example/github.com/a/b', null, null, null), ('https://evil.example?x=github.com/a/b', null, null, null),
  ('https://evil.example#@github.com/a/b', null, null, null), ('https://evil.example\@github.com/a/b', null, null, null),
  ('https://github.com.evil.example/a/b', null, null, null), ('https://notgithub.com/a/b', null, null, null), ('https://github.com:8443/a/b', null, null, null),
  ('http://localhost/a/b', null, null, null), ('http://127.0.0.1/a/b', null, null, null), ('http://[::1]/a/b', null, null, null), ('http://169.254.169.254/a/b', null, null, null),
  ('file:///etc/passwd', null, null, null), ('ext::sh -c touch% /tmp/x', null, null, null), ('ext::https://github.com/a/b', null, null, null),
  ('git://github.com/a/b', null, null, null), ('ftp://github.com/a/b', null, null, null), ('javascript:alert(1)', null, null, null), ('/etc/passwd', null, null, null),
  ('--upload-pack=touch /tmp/x', null, null, null), ('git@github.com:a', null, null, null), ('git@evil.example:a/b', null, null, null),
  ('git@github.com:../../etc/passwd', null, null, null), ('https://github.com/a/b c', null, null, null), ('https://github.com/a/b%2e%2e', null, null, null),
  (e'https://github.com/a/b\nhttps://evil.example', null, null, null), ('https://gitlab.com/one', null, null, null), ('https://gitlab.com/-/group/repo', null, null, null),
  ('https://dev.azure.com/org/project/repo', null, null, null), ('https://dev.azure.com/org/_git/repo', null, null, null), ('git@ssh.dev.azure.com:v2/o/p/r', null, null, null),
  ('https://evil.visualstudio.com.example/p/_git/r', null, null, null), ('https://a.b.visualstudio.com/p/_git/r', null, null, null),
  ('https://github.com/' || repeat('a', 100) || '/' || repeat('b', 200), null, null, null), ('https://xn--github-abc.com/a/b', null, null, null), ('https://gіthub.com/a/b', null, null, null)
) v (address, provider, url, name);

select is(api.validate_repository('{"body": {}}') ->> 'error', 'Repository URL is required.', 'an empty address has its own text');
select is(api.validate_repository('{"body": {"url": "git@github.com:a/b.c.git"}}'), '{"valid": true, "provider": "github", "repoName": "a/b.c"}'::jsonb,
  'validate-repository answers provider and name');

select is(private.is_public_url(v.url), v.ok, format('webhook address %s', v.url))
from (values ('https://hooks.example.com/kijko', true), ('https://hooks.example.com:8443/x?y=1', true), ('https://8.8.8.8/x', true), ('http://hooks.example.com', false),
  ('https://localhost/x', false), ('https://a.localhost/x', false), ('https://printer.local/x', false), ('https://db.internal/x', false), ('https://10.1.2.3/x', false),
  ('https://127.0.0.1/', false), ('https://169.254.169.254/latest', false), ('https://192.168.1.1', false), ('https://2130706433/', false), ('https://0x7f.1/', false),
  ('https://0177.0.0.1/', false), ('https://127.1/', false), ('https://[::1]/', false), ('https://user@example.com/', false), ('https://example.com\@10.0.0.1/', false),
  ('https://intranet/', false), ('https://', false), ('https://example.com/' || repeat('a', 490), false), (null, false)) v (url, ok);

select is(private.is_branch_name(v.name), v.ok, format('branch %s', v.name))
from (values ('main', true), ('feature/x-1.2', true), ('@', false), ('a..b', false), ('a b', false), ('-x', false), ('/x', false), ('x/', false), ('x.lock', false),
  ('a/.b', false), ('a//b', false), ('a@{1}', false), ('a~1', false), ('a^', false), ('a:b', false), ('a\b', false), ('x.', false), (repeat('a', 100), true), (repeat('a', 101), false), ('', false)) v (name, ok);

select is(private.is_glob(v.pattern), v.ok, format('glob %s', v.pattern))
from (values ('**/*.ts', true), ('src/[a-z]?.go', true), ('[!a]x', true), ('[]a]', true), ('a[', false), ('[', false), ('', false), (repeat('a', 201), false)) v (pattern, ok);

select is(private.humanized(timestamptz '2026-03-10 12:00+00' - v.ago::interval, '2026-03-10 12:00+00'), v.wanted, format('%s ago', v.ago))
from (values ('0s', 'just now'), ('59s', 'just now'), ('60s', '1m ago'), ('59m', '59m ago'), ('1h', '1h ago'), ('23h 59m', '23h ago'), ('24h', '1d ago'),
  ('6 days 23h', '6d ago'), ('7 days', '2026-03-03'), (null, 'No commits yet')) v (ago, wanted);

-- Estimates: exact decimals.
select is(private.estimate_json(v.total, v.strategy, v.plan) - array['totalTokens', 'planName'], v.wanted::jsonb, format('estimate of %s, %s, %s', v.total, v.strategy, v.plan))
from (values
  (2000000::numeric, 'semantic', 'free', '{"processingCost": 0, "storageCostMonthly": 0, "optimizedTokens": 100000, "compressionRatio": 0.05, "isPlanEligible": true, "savingsVsRaw": 100}'),
  (2000001, 'semantic', 'free', '{"processingCost": 0, "storageCostMonthly": 0, "optimizedTokens": 100001, "compressionRatio": 0.05, "isPlanEligible": false, "savingsVsRaw": 100}'),
  (100000000, 'fixed', 'pro', '{"processingCost": 2800, "storageCostMonthly": 750, "optimizedTokens": 15000000, "compressionRatio": 0.15, "isPlanEligible": false, "savingsVsRaw": 86}'),
  (100000000, 'fixed', 'teams', '{"processingCost": 2800, "storageCostMonthly": 750, "optimizedTokens": 15000000, "compressionRatio": 0.15, "isPlanEligible": false, "savingsVsRaw": 86}'),
  (33333333, 'recursive', 'pro', '{"processingCost": 334, "storageCostMonthly": 134, "optimizedTokens": 2666667, "compressionRatio": 0.08, "isPlanEligible": false, "savingsVsRaw": 94.99}'),
  (70000001, 'custom', 'enterprise', '{"processingCost": 301, "storageCostMonthly": 211, "optimizedTokens": 7000001, "compressionRatio": 0.10, "isPlanEligible": false, "savingsVsRaw": 97.13}'),
  (0, 'what', 'pro', '{"processingCost": 0, "storageCostMonthly": 0, "optimizedTokens": 0, "compressionRatio": 0.10, "isPlanEligible": true, "savingsVsRaw": 100}')) v (total, strategy, plan, wanted);
select is(private.estimated_tokens('repository', '[{"locEstimate": 10}, {"fileCount": 3}, {"locEstimate": 0, "fileCount": 0}, {}]', '[]', 0), 40 + 2400 + 100000::numeric,
  'lines, else files, else 50,000; nought counts as missing');
select is(private.estimated_tokens('files', '[]', '[{"size": 7, "type": "application/JSON"}, {"size": 9, "type": "text/plain"}, {"size": 9}]', 0), 2 + 3 + 3::numeric, 'bytes by type, rounded up a file');
select is(private.estimated_tokens('manual', '[{"locEstimate": 10}]', '[]', 9), 3::numeric, 'only the sources of the type count');
select throws_ok($$ select api.estimate_project('{"body": {"projectType": "manual"}}') $$, 'PT400', 'This is required without projectId.', 'a strategy is needed');

select * from finish();
rollback;
