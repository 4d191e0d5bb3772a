-- The scoring of personas with the vectors of the contract, and who reads and writes what.
begin;
select no_plan();
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');

-- teamSize, then the signals that are true.
select is(concat_ws(' ', concat_ws('/', s.alex, s.maya, s.sam), d.persona, d.confidence), v.result, v.name)
from (values
  ('default', 1, array['usesLightweightTools', 'focusOnCost'], '75/0/0 alex high'),
  ('team 60, security docs, compliance', 60, array['downloadsSecurityDocs', 'asksAboutCompliance'], '0/95/0 maya high'),
  ('team 8, API, docs', 8, array['usesAPIFrequently', 'readsDocumentation'], '0/12/55 sam high'),
  ('team 1, API only', 1, array['usesAPIFrequently'], '30/0/35 alex low'),
  ('team 3, lightweight, API', 3, array['usesLightweightTools', 'usesAPIFrequently'], '35/0/35 alex low'),
  ('team 20, compliance, API, docs', 20, array['asksAboutCompliance', 'usesAPIFrequently', 'readsDocumentation'], '0/49/55 sam low'),
  ('team 6, nothing', 6, '{}', '0/12/0 maya low'),
  ('team 51, nothing', 51, '{}', '0/40/0 maya medium'),
  ('team 5, nothing', 5, '{}', '15/0/0 alex low'),
  ('team 10, nothing', 10, '{}', '0/12/0 maya low'),
  ('team 50, nothing', 50, '{}', '0/24/0 maya low'),
  ('all that sam does', 6, array['usesAPIFrequently', 'readsDocumentation', 'participatesInCommunity'], '0/12/80 sam high'),
  ('no people, nothing', 0, '{}', '15/0/0 alex low')
) v (name, team, yes, result),
  lateral private.score_persona(jsonb_build_object('teamSize', v.team) || coalesce((select jsonb_object_agg(y, true) from unnest(v.yes::text[]) y), '{}')) s,
  lateral private.detect_persona(s.alex, s.maya, s.sam) d;
select is((private.score_persona(private.default_signals())).alex, 75, 'the defaults are the first vector');
select is((select string_agg(proname, ' ' order by proname) from pg_proc where proname in ('score_persona', 'detect_persona') and provolatile = 'i'), 'detect_persona score_persona', 'the scoring is immutable');
select is(private.score_persona('{"teamSize": "many", "focusOnCost": 1}')::text, '(15,0,0)', 'odd values count as absent');
select is((private.detect_persona(20, 30, 0)).persona, 'alex', 'ten points are close');
select is((private.detect_persona(19, 30, 0)).persona, 'maya', 'eleven are not');
select is((private.detect_persona(0, 0, 0)).confidence, 'low', 'no points say little');

create function pg_temp.put(p_body jsonb) returns jsonb language sql as $$ select api.set_persona(jsonb_build_object('body', p_body)) $$;
grant execute on function pg_temp.put to public;

select tests.act_as('stan');
select is(api.get_persona('{}'), jsonb_build_object('persona', 'alex', 'scores', '[{"type": "alex", "score": 75}, {"type": "maya", "score": 0}, {"type": "sam", "score": 0}]'::jsonb,
  'confidence', 'high', 'signals', private.default_signals(), 'showAllOptions', false), 'a person alone is alex');
select tests.act_as('anna');
select is(api.get_persona('{}') -> 'signals' -> 'teamSize', '2', 'the server knows the size of the team');
select is(pg_temp.put('{"signals": {"teamSize": 60, "downloadsSecurityDocs": true, "focusOnCost": false, "usesLightweightTools": false}}') ->> 'persona', 'maya', 'signals decide');
select is(pg_temp.put('{"override": "sam"}') - 'scores' - 'signals', '{"persona": "sam", "confidence": "high", "override": "sam", "showAllOptions": false}', 'an override goes first');
select is(pg_temp.put('{"showAllOptions": true}') - 'scores' - 'signals', '{"persona": "sam", "confidence": "high", "override": "sam", "showAllOptions": true}', 'what is absent stays');
select is(pg_temp.put('{"override": null, "signals": {"teamSize": null}}') #>> '{signals,teamSize}', '2', 'what is null is taken back');
select is(pg_temp.put('{"signals": null}') -> 'signals', private.default_signals() || '{"teamSize": 2}', 'or all of it');
select is(tests.refusal(format('select pg_temp.put(%L)', v.body)) - 'message', jsonb_build_object('status', 400, 'code', 'VALIDATION_ERROR', 'field', v.field), v.body)
from (values ('{"override": "bob"}', 'override'), ('{"override": 7}', 'override'), ('{"showAllOptions": 7}', 'showAllOptions'), ('{"signals": []}', 'signals'),
  ('{"signals": {"teamSize": -1}}', 'signals.teamSize'), ('{"signals": {"teamSize": 1.5}}', 'signals.teamSize'), ('{"signals": {"focusOnCost": "x"}}', 'signals.focusOnCost'),
  ('{"signals": {"other": true}}', 'signals.other')) v (body, field);
select is(api.get_persona('{}') ->> 'showAllOptions', 'true', 'a refused change changes nothing');
select is((select count(*) from public.user_personas), 1::bigint, 'the own row is read');
select throws_ok($$ insert into public.user_personas (user_id) values (private.user_id()) $$, '42501', null, 'the table itself is not written');
select tests.act_as('ben');
select is((select count(*) from public.user_personas), 0::bigint, 'a colleague does not see it');
select is(api.get_persona('{}') ->> 'showAllOptions', 'false', 'and has a persona of their own');
select tests.act_as_claims('anna');
select is(api.get_persona('{}') ->> 'showAllOptions', 'true', 'through Supabase''s API it is the same');
select tests.act_anon();
select throws_ok($$ select api.get_persona('{}') $$, '42501', null, 'an anonymous caller has none');
select throws_ok($$ select api.set_persona('{}') $$, '42501', null, 'and sets none');
select tests.act_service();
select throws_ok($$ select api.get_persona('{}') $$, '42501', null, 'nor does the service');

select * from finish();
rollback;
