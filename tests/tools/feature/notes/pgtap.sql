-- Which actor reads and writes notes.
begin;
select no_plan();
-- Anna owns an organization, Ben is a member of it, Stan is a stranger.
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');

select tests.act_as('anna');
select api.create_note('{"body": {"text": "A note"}}') ->> 'id' as note \gset
select is(api.get_note(jsonb_build_object('noteId', :'note')) ->> 'text', 'A note', 'the owner reads hers');
select throws_ok($$ select api.create_note('{"body": {}}') $$, 'PT400', 'text is required.', 'a note has a text');
select throws_ok($$ select api.create_note('{"body": {"text": ""}}') $$, 'PT400', 'text has a value that is not allowed here.', 'that says something');
select tests.act_as('ben');
select is(api.get_note(jsonb_build_object('noteId', :'note')) ->> 'text', 'A note', 'a member reads it');
select tests.act_as('stan');
select throws_ok(format($$ select api.get_note('{"noteId": "%s"}') $$, :'note'), 'PT404', format('Note with ID %s not found', :'note'),
  'a stranger does not');
select tests.act_anon();
select throws_ok($$ select api.get_note('{}') $$, '42501', null, 'nor does an anonymous caller');
select tests.act_service();
select throws_ok($$ select api.get_note('{}') $$, '42501', null, 'nor does the service');

select * from finish();
rollback;
