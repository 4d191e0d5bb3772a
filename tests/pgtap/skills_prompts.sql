-- Prompts (contract 20, section 4): values as text, placeholders, inputs, and what they cost.
begin;
select no_plan();

-- Numbers as ECMAScript prints them, whole ones with all their digits. A Go test compares thousands more with a table that Node.js printed.
create temp table numbers (given text, printed text);
insert into numbers values ('0', '0'), ('-0', '0'), ('-0.0', '0'), ('1', '1'), ('1.0', '1'), ('1.50', '1.5'), ('-1.250', '-1.25'), ('1e3', '1000'),
  ('100', '100'), ('1e20', '100000000000000000000'), ('123456789012345680000', '123456789012345680000'), ('1e21', '1e+21'),
  ('1.5e21', '1.5e+21'), ('-1e21', '-1e+21'), ('1e-6', '0.000001'), ('0.0000001', '1e-7'), ('1.5e-7', '1.5e-7'), ('-1.25e-10', '-1.25e-10'),
  ('123456789.123456789', '123456789.12345679'), ('0.1', '0.1'), ('0.30000000000000004', '0.30000000000000004'),
  ('999999999999999', '999999999999999'), ('1000000000000000', '1000000000000000'), ('9999999999999999', '9999999999999999'),
  ('9007199254740993', '9007199254740993'), ('43484780056712816', '43484780056712816'), ('4e23', '4e+23'), ('2.5e22', '2.5e+22'),
  ('-3.97435e+20', '-397435000000000000000'), ('9.1476358098e18', '9147635809800000000'), ('5e-324', '5e-324'), ('2.4e-324', '0'),
  ('2.5e-324', '5e-324'), ('1e-400', '0'), ('1.7976931348623157e308', '1.7976931348623157e+308'),
  ('1.7976931348623158e308', '17976931348623158' || repeat('0', 292)), ('1.7976931348623159e308', 'Infinity'), ('1e400', 'Infinity'), ('-1e400', '-Infinity'),
  ('1e100', '1e+100'), ('4294967296.5', '4294967296.5'),
  ('1152921506151679042', '1152921506151679042'), ('-1152921506151679042.0', '-1152921506151679042'), ('1.152921506151679042e18', '1152921506151679042'),
  ('18446744073709551615', '18446744073709551615'), ('999999999999999999999', '999999999999999999999'), ('1000000000000000000001', '1000000000000000000001'),
  ('123456789012345678901234567890', '123456789012345678901234567890'), ('9007199254740993.5', '9007199254740994');
select is(private.js_number(given::jsonb), printed, given || ' is printed') from numbers;
select is(private.compact_json(format('[%s, "%1$s, \" %1$s", {"a": %1$s}]', given)::jsonb),
    format('[%s,"%s, \" %2$s",{"a":%1$s}]', case when printed like '%Infinity' then 'null' else printed end, given),
    given || ' is printed inside JSON, and left alone inside a string')
  from numbers;
select is(private.value_text(v::jsonb), t, 'the text of ' || coalesce(v, 'nothing')) from (values
  ('"as it is: \"x\", y"', 'as it is: "x", y'), ('true', 'true'), ('false', 'false'), ('null', ''), (null, ''), ('1.50', '1.5'), ('[]', '[]'),
  ('{}', '{}'), ('""', ''), ('["a, b", "c: d", {"e": null, "f": [null, " "]}]', '["a, b","c: d",{"e":null,"f":[null," "]}]'),
  ('{"a": ": null", "b": ", ", "c": null}', '{"a":": null","b":", ","c":null}'),
  ('["<é&>", "\\", "\\\"", "\u0001\n\t\u007f"]', '["<é&>","\\","\\\"","\u0001\n\t' || U&'\007f' || '"]'),
  ('["1.50,", "x\": 1.50, ", 2.50, "\\", 2.50]', '["1.50,","x\": 1.50, ",2.5,"\\",2.5]'),
  ('[[[[[[[[[[[[[[[[[[[[true]]]]]]]]]]]]]]]]]]], 1.0, [[[[[[[[[[[[[[[[[[[null, false]]]]]]]]]]]]]]]]]]], 1.50, 12345678901234567.50]',
    '[[[[[[[[[[[[[[[[[[[[true]]]]]]]]]]]]]]]]]]],1,[[[[[[[[[[[[[[[[[[[null,false]]]]]]]]]]]]]]]]]]],1.5,12345678901234568]'),
  ('[[1.0, [2.50]], {"a": {"b": 3.00}}, 0.10, 10, 100.0, 0.00]', '[[1,[2.5]],{"a":{"b":3}},0.1,10,100,0]'),
  ('{"text": "0.0000001 12345678901234567.0", "n": 0.0000001, "m": 12345678901234567}',
    '{"m":12345678901234567,"n":1e-7,"text":"0.0000001 12345678901234567.0"}')) t (v, t);

-- The contract's vectors.
create function pg_temp.rendered(p_template text, p_schema text, p_input text, p_trigger text default null) returns text language sql as $$
  select private.render_prompt(p_template, p_schema::jsonb, p_input::jsonb, p_trigger) $$;
select is(pg_temp.rendered('Hi {{name}}, {{ name }}!', null, '{"name":"$1 {{x}}","x":"no"}'), 'Hi $1 {{x}}, $1 {{x}}!', 'a value is never scanned again');
select is(pg_temp.rendered('{{{x}}} {{ }} {{y}}', null, '{"x":1.0}'), '{1} {{ }} {{y}}', 'braces around a placeholder, blanks, an unknown name');
select is(pg_temp.rendered('{{a}}/{{b}}/{{c}}', '[{"name":"a","type":"number"},{"name":"b","type":"string","default":"d"},{"name":"c","type":"object"}]',
  '{"a":null}'), '0/d/{}', 'empty values and defaults');
select is(pg_temp.rendered('{{first name}}', null, '{"first name":["é",1e3,null,"<"]}'), '["é",1000,null,"<"]', 'blanks inside a name, compact JSON');
select is(pg_temp.rendered('{{a.b}} {{payload.a}} {{trigger}} {{c.d}}', null, '{"trigger":"webhook","payload":{"a":{"b":true}}}', 'webhook'),
  'true {"b":true} webhook {{c.d}}', 'paths of a reflex');

-- Grammar.
select is(pg_temp.rendered(t, null, '{"x":"V","a b":"AB","X":"U","é":"E","":"none","x.y":"P"}'), r, 'the prompt of ' || t) from (values
  ('', ''), ('plain', 'plain'), ('{x}', '{x}'), ('{{x}', '{{x}'), ('{x}}', '{x}}'), ('{{x}}', 'V'), ('{{ x}}', 'V'), ('{{x }}', 'V'),
  (E'{{\n x \t}}', 'V'), (U&'{{\3000x\00a0}}', 'V'), ('{{}}', '{{}}'), (U&'{{\2003}}', U&'{{\2003}}'), ('{{X}}{{x}}', 'UV'), ('{{é}}', 'E'),
  ('{{a b}}', 'AB'), ('{{a  b}}', '{{a  b}}'), ('{{{{x}}}}', '{{V}}'), ('{{x}}}', 'V}'), ('{{{x}}', '{V'), ('{{x{{x}}', '{{xV'), ('{{x}y}}', '{{x}y}}'),
  ('{{x}}{{x}}{{x}}', 'VVV'), ('a{{x}}b', 'aVb'), ('{{x.y}}', 'P'), ('{{y.x}}', '{{y.x}}'), ('$1 \1 \\ & {{x}} $&', '$1 \1 \\ & V $&'),
  ('{{ y }}', '{{ y }}'), (E'{{y}}\u0001{{x}}', E'{{y}}\u0001V'), ('{{#if x}}{{x}}{{/if}}', '{{#if x}}V{{/if}}'), ('{{x|upper}}', '{{x|upper}}')) t (t, r);
select is(pg_temp.rendered('{{a.*}} {{a(}} {{[}} {{$&}}', null, '{"a.*":"1","a(":"2","[":"3","$&":"4"}'), '1 2 3 4', 'names are literal, not patterns');
select is(pg_temp.rendered('{{v}}', null, format('{"v":%s}', v)), r, 'a value ' || v) from (values ('"\\1 $& {{v}}"', '\1 $& {{v}}'),
  ('""', ''), ('0', '0'), ('false', 'false'), ('[]', '[]'), ('{}', '{}'), ('[1, {"a": "b c"}]', '[1,{"a":"b c"}]'), ('"\n"', E'\n')) t (v, r);
select is(pg_temp.rendered('{{v}}', s, i), r, format('declared as %s, given %s', s, i)) from (values
  ('[{"name":"v","type":"string"}]', '{}', ''), ('[{"name":"v","type":"number"}]', '{}', '0'), ('[{"name":"v","type":"boolean"}]', '{}', 'false'),
  ('[{"name":"v","type":"array"}]', '{}', '[]'), ('[{"name":"v","type":"object"}]', '{"v":null}', '{}'),
  ('[{"name":"v","type":"string","required":false}]', null, ''), ('[{"name":"v","type":"string","required":true}]', '{}', '{{v}}'),
  ('[{"name":"v","type":"string","required":true,"default":"d"}]', '{}', 'd'), ('[{"name":"v","type":"string","default":null}]', '{}', ''),
  ('[{"name":"v","type":"string","default":{"a":1.0}}]', '{}', '{"a":1}'), ('[{"name":"v","type":"string","default":"{{v}}"}]', '{}', '{{v}}'),
  ('[{"name":"v","type":"string","default":"d"}]', '{"v":""}', ''), ('[{"name":"w","type":"string"}]', '{}', '{{v}}'), ('[]', '{"v":1}', '1')) t (s, i, r);

-- Reflexes: members, payload, trigger, then paths, then defaults.
create temp table payload as select jsonb_build_object('trigger', 'webhook', 'payload', '{"s":"text","a":{"b":{"c":"deep"},"":"empty","1":"one",
  "length":"own"},"l":["zero",{"n":"first"},["x","y"]],"n":null,"d.e":"dotted","k[0]":"bracketed","m":{"0":"nought"},"q\"q":{"r":1.0}}'::jsonb) as input;
select is(private.render_prompt('{{' || p || '}}', '[{"name":"n","type":"string","default":"def"}]', input, 'webhook'), coalesce(r, '{{' || p || '}}'),
  'the path ' || left(p, 30))
from payload, (values ('s', 'text'), ('a.b.c', 'deep'), ('a.b', '{"c":"deep"}'), ('payload.a.b.c', 'deep'), ('payload.s', 'text'), ('trigger', 'webhook'),
  ('trigger.x', null), ('a.', 'empty'), ('a.1', 'one'), ('a.length', 'own'), ('l[0]', 'zero'), ('l[00]', 'zero'), ('l.0', 'zero'), ('l.00', null),
  ('l.-1', null), ('l.+1', null), ('l. 1', null), ('l[1].n', 'first'), ('l.1.n', 'first'), ('l[2][0]', null), ('l[2].0', 'x'), ('l.2.1', 'y'),
  ('l.length', '3'), ('l[2].length', '2'), ('l.2.length', '2'), ('l.length.x', null), ('l[3]', null), ('l[99999999999999999999]', null),
  ('l[-1]', null), ('s.length', null), ('s.0', null), ('m[0]', null), ('m.0', 'nought'), ('n', 'def'), ('n.x', null), ('d.e', 'dotted'),
  ('k[0]', 'bracketed'), ('a.constructor', null), ('a.b.c.d', null), ('.', null), ('..', null), ('a..', null), ('q"q.r', '1'), ('payload[0]', null),
  ('payload.length', null), ('payload.payload', null), ('a.$', null), ('a.*', null), ('a.b.c ? (@ == 1)', null), ('a.type()', null),
  (repeat('a.', 120) || 'a', null)) t (p, r);
select is(pg_temp.rendered('{{payload}} {{payload.x}} {{trigger}}', null, '{"trigger":"event","payload":{"payload":{"x":1},"trigger":"own"}}', 'event'),
  '{"x":1} 1 own', 'members of the payload come before the variables of the same name');
select is(pg_temp.rendered('{{trigger}}|{{payload}}|{{x}}', null, '{"trigger":"event"}', 'event'), 'event|{}|{{x}}', 'a payload that retention has emptied');
select is(pg_temp.rendered('{{a.b}}', null, '{"a":{"b":1}}'), '{{a.b}}', 'a run by hand knows no paths');
select is(pg_temp.rendered('{{x}}', null, '[1]'), '{{x}}', 'an input that is no object gives nothing');

-- Length.
select is(octet_length(pg_temp.rendered(repeat('{{v}}', 16), null, jsonb_build_object('v', repeat('x', 65536))::text)), 1048576, 'a prompt of exactly 1 MiB');
prepare too_long as select private.render_prompt(repeat('{{v}}', 16) || 'x', null, jsonb_build_object('v', repeat('x', 65536)));
select throws_ok('too_long', 'PT400', 'Prompt is too long', 'one byte more is refused');
select throws_ok(format('select private.render_prompt(%L, null, %L)', repeat('{{v}}', 2000), jsonb_build_object('v', repeat('é', 500000))),
  'PT400', 'Prompt is too long', 'a template that repeats a large value two thousand times is refused before it is built');

-- A prompt longer than models read is refused before it is printed. All values of a prompt count together. Numbers that JavaScript prints
-- differently count more than others.
create function pg_temp.printed(p_values integer, p_value jsonb, p_template text default '{{a}}') returns text language sql as $$
  select private.render_prompt(p_template, null, jsonb_build_object('a', (select jsonb_agg(p_value) from generate_series(1, p_values)), 'b', (
    select jsonb_agg(p_value) from generate_series(1, p_values)))) $$;
select lives_ok($$ select pg_temp.printed(60000, '1') $$, '60,000 values are printed');
select throws_ok($$ select pg_temp.printed(60002, '1') $$, 'PT400', 'Input holds too many values', 'more are not');
select throws_ok($$ select pg_temp.printed(30002, '1', '{{a}}{{b}}') $$, 'PT400', 'Input holds too many values', 'two halves neither');
select lives_ok($$ select pg_temp.printed(12000, '1.0') $$, '12,000 fractions are printed');
select throws_ok($$ select pg_temp.printed(12002, '1.0') $$, 'PT400', 'Input holds too many values', 'more are not');
select is(private.is_larger(v, 20), r, v::text || ' is larger than 20 bytes: ' || r) from (values ('["12345678901234567"]'::jsonb, true), ('[1, 2, 3, 4, 5, 6, 7]', false),
  ('{"a": 1, "b": 2, "c": 333}', true), ('[1.00, 2.00, 3.00, 4.00]', false), ('[1e300]', true), (jsonb_build_array(repeat('x', 100)), true)) t (v, r);

-- Cost: this file prints the figures; a Go test checks the processor time.
create temp table hostile (what text, template text, input jsonb, trigger text);
insert into hostile values
  ('two thousand placeholders', repeat('{{a}}', 2000), '{"a": "x"}', null),
  ('1400 names', (select string_agg('{{' || to_hex(i) || '}}', '') from generate_series(1, 1400) i),
    (select jsonb_object_agg(to_hex(i), i + 0.5) from generate_series(1, 1400) i), null),
  ('1100 paths that lead nowhere', (select string_agg('{{a.' || to_hex(i) || '}}', '') from generate_series(1, 1100) i),
    jsonb_build_object('payload', jsonb_build_object('a', (select jsonb_agg(i) from generate_series(1, 150000) i))), 'event'),
  ('lengths of a large list', (select string_agg('{{a[' || repeat('0', i) || '].length}}', '') from generate_series(1, 100) i),
    jsonb_build_object('payload', jsonb_build_object('a', jsonb_build_array((select jsonb_agg(i) from generate_series(1, 150000) i)))), 'event'),
  ('deep paths', (select string_agg('{{' || repeat('a.', 60) || i || '}}', '') from generate_series(1, 75) i), jsonb_build_object('payload',
    (repeat('{"a":', 60) || '"' || repeat('x', 500000) || '"' || repeat('}', 60))::jsonb), 'event'),
  ('braces', repeat('{', 10000), '{}', null), ('half placeholders', repeat('{{a', 3333), '{}', null), ('blanks', '{{' || repeat(' ', 9990) || '}}', '{}', null),
  ('a megabyte of text', '{{a}}', jsonb_build_object('a', repeat('hello, world: "yes" ', 45000)), null),
  ('a megabyte of texts', '{{a}}', jsonb_build_object('a', (select jsonb_agg('it''s, well: null'::text) from generate_series(1, 50000))), null),
  ('a megabyte of whole numbers', '{{a}}', jsonb_build_object('a', (select jsonb_agg(i) from generate_series(1, 150000) i)), null),
  ('a megabyte of doubles', '{{a}}', jsonb_build_object('a', (select jsonb_agg(sqrt(i)) from generate_series(1, 55000) i)), null);
create function pg_temp.cost(p_template text, p_input jsonb, p_trigger text) returns numeric language plpgsql as $$
declare
  v_best numeric := 1e9;
  v_began timestamptz;
  v_text text;
begin
  for i in 1..3 loop
    v_began := clock_timestamp();
    begin
      v_text := private.render_prompt(p_template, null, p_input, p_trigger);
    exception when sqlstate 'PT400' then null;
    end;
    v_best := least(v_best, extract(epoch from clock_timestamp() - v_began) * 1000);
  end loop;
  return round(v_best, 1);
end
$$;
select diag(what || ': ' || pg_temp.cost(template, input, trigger) || ' ms') from hostile;

-- Inputs of a run.
create function pg_temp.faults(p_schema text, p_input text, p_trigger text default null) returns text language sql as $$
  select (select string_agg(f ->> 'message', '; ' order by o)
    from jsonb_array_elements(private.input_faults(p_schema::jsonb, p_input::jsonb, p_trigger)) with ordinality t (f, o)) $$;
select is(pg_temp.faults(s, i), r, format('inputs %s of %s', i, s)) from (values
  (null, '{"a":1}', null), ('[]', '{}', null), (null, null, null),
  ('[{"name":"a","type":"string","required":true}]', '{}', 'a is required'), ('[{"name":"a","type":"string","required":true}]', '{"a":""}', 'a is required'),
  ('[{"name":"a","type":"string","required":true}]', '{"a":null}', 'a is required'), ('[{"name":"a","type":"string","required":true}]', '{"a":" "}', null),
  ('[{"name":"a","type":"string","required":true}]', null, 'a is required'), ('[{"name":"a","type":"string","required":true}]', '[]', 'a is required'),
  ('[{"name":"a","type":"string","required":true,"default":"d"}]', '{}', null),
  ('[{"name":"a","type":"string","required":true,"default":"d"}]', '{"a":null}', null),
  ('[{"name":"a","type":"string","required":true,"default":"d"}]', '{"a":""}', 'a is required'),
  ('[{"name":"a","type":"string","required":true,"default":null}]', '{}', 'a is required'),
  ('[{"name":"a","type":"string","required":true,"default":""}]', '{}', null), ('[{"name":"a","type":"number","required":true}]', '{"a":0}', null),
  ('[{"name":"a","type":"boolean","required":true}]', '{"a":false}', null), ('[{"name":"a","type":"string"}]', '{"a":1}', 'a must be a string'),
  ('[{"name":"a","type":"number"}]', '{"a":"1"}', 'a must be a number'), ('[{"name":"a","type":"number"}]', '{"a":1e400}', 'a must be a number'),
  ('[{"name":"a","type":"number"}]', '{"a":1.5}', null), ('[{"name":"a","type":"number"}]', '{"a":""}', null),
  ('[{"name":"a","type":"number"}]', '{"a":null}', null), ('[{"name":"a","type":"boolean"}]', '{"a":"true"}', 'a must be a boolean'),
  ('[{"name":"a","type":"array"}]', '{"a":{}}', 'a must be an array'), ('[{"name":"a","type":"object"}]', '{"a":[]}', 'a must be an object'),
  ('[{"name":"a","type":"object"}]', '{"a":{}}', null), ('[{"name":"a","type":"array"}]', '{"a":[]}', null),
  ('[{"name":"b","type":"number"},{"name":"first name","type":"string","required":true},{"name":"c","type":"array"}]', '{"b":"x","c":"y","z":1}',
    'b must be a number; first name is required; c must be an array')) t (s, i, r);
select is(pg_temp.faults(s, i, 'event'), r, format('inputs %s of a reflex on %s', i, s)) from (values
  ('[{"name":"a","type":"number","required":true}]', '{"payload":{"a":"text"}}', null),
  ('[{"name":"a","type":"number","required":true}]', '{"payload":{}}', 'a is required'),
  ('[{"name":"a","type":"number","required":true}]', '{"payload":{"a":""}}', 'a is required'),
  ('[{"name":"payload","type":"object","required":true}]', '{"payload":{}}', null), ('[{"name":"trigger","type":"string","required":true}]', '{"payload":{}}', null),
  ('[{"name":"a.b","type":"string","required":true}]', '{"payload":{"a":{"b":1}}}', null),
  ('[{"name":"a.b","type":"string","required":true}]', '{"payload":{"a":{}}}', 'a.b is required')) t (s, i, r);
select throws_ok($$ select private.assert_input('[{"name":"b","type":"number"},{"name":"c","type":"string","required":true}]', '{"b":"x"}') $$,
  'PT400', 'b must be a number', 'inputs are refused with the first fault');
do $$
declare
  v_detail text;
begin
  perform private.assert_input('[{"name":"b","type":"number"},{"name":"c","type":"string","required":true}]', '{"b":"x"}');
exception when sqlstate 'PT400' then
  get stacked diagnostics v_detail = pg_exception_detail;
  create temp table refusal as select v_detail::jsonb as detail;
end
$$;
select is(detail, '{"code":"INVALID_INPUT","field":"input.b","details":{"b":"b must be a number","c":"c is required"}}',
  'with its field, and all of them as details') from refusal;
select lives_ok($$ select private.assert_input('[{"name":"b","type":"number"}]', '{"b":1}') $$, 'good inputs pass');

select * from finish();
rollback;
