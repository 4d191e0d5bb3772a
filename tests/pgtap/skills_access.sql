begin;
select no_plan();

-- Anna owns skills; Mia is a member of Anna's organization, Vic a viewer there; Stan is a stranger.
select tests.user('anna'), tests.member('mia', 'anna'), tests.member('vic', 'anna', 'viewer'), tests.user('stan');
create function pg_temp.sid(p_name text) returns uuid language sql as $$
  select ('00000000-0000-4000-8000-0000000000' || case p_name when 'own' then '01' when 'public' then '02' else '03' end)::uuid $$;
insert into public.skills (id, user_id, organization_id, name, prompt_template, is_public, is_active) values
  (pg_temp.sid('own'), tests.user('anna'), tests.org('anna'), 'Own', 'Twenty characters of {{text}}', false, true),
  (pg_temp.sid('public'), tests.user('anna'), tests.org('anna'), 'Public', 'Twenty characters of {{text}}', true, true),
  (pg_temp.sid('paused'), tests.user('anna'), tests.org('anna'), 'Paused', 'Twenty characters of {{text}}', true, false);
insert into public.skill_playbooks (skill_id) values (pg_temp.sid('own')), (pg_temp.sid('public'));

create function pg_temp.sees() returns text language sql as $$
  select coalesce(string_agg(name, ' ' order by name), '') from public.skills where id::text like '00000000-0000-4000-8000-%' and name in ('Own', 'Public', 'Paused') $$;

-- The owner, also through claims alone.
select tests.act_as('anna');
select is(pg_temp.sees(), 'Own Paused Public', 'the owner sees all of hers');
select is((private.visible_skill(pg_temp.sid('paused'))).name, 'Paused', 'and may name them');
select isnt_empty($$ update public.skills set name = ' Own  one ' where id = pg_temp.sid('own') returning 1 $$, 'the owner changes a skill');
select is((select name from public.skills where id = pg_temp.sid('own')), 'Own  one', 'its name is trimmed');
select throws_ok($$ update public.skills set is_public = true where id = pg_temp.sid('own') $$, '42501', null, 'being public is not the owner''s to write');
select throws_ok($$ update public.skills set star_count = 9 where id = pg_temp.sid('own') $$, '42501', null, 'counters are nobody''s to write');
select throws_ok($$ update public.skills set user_id = tests.user('stan') where id = pg_temp.sid('own') $$, '42501', null, 'nor is the owner');
select throws_ok($$ insert into public.skills (user_id, organization_id, name, prompt_template) values (tests.user('stan'), private.org_id(), 'Foisted', 'Twenty characters of text') $$,
  '42501', null, 'nobody makes a skill for somebody else');
select throws_ok($$ insert into public.skills (user_id, organization_id, name, prompt_template) values (private.user_id(), tests.org('stan'), 'Elsewhere', 'Twenty characters of text') $$,
  '42501', null, 'nor in an organization they do not act in');
select throws_ok($$ insert into public.skills (user_id, organization_id, name, prompt_template) values (private.user_id(), private.org_id(), 'Short', 'too short') $$,
  'PT400', 'Prompt template must be at least 20 characters', 'psql meets the same rules');
select throws_ok($$ insert into public.skills (user_id, organization_id, name, prompt_template) values (private.user_id(), private.org_id(), 'OWN  ONE', 'Twenty characters of text') $$,
  'PT409', 'A skill named "Own  one" already exists', 'a name is taken without regard to case');
select tests.act_as_claims('anna');
select is(pg_temp.sees(), 'Paused Public', 'through claims alone the owner sees hers');
select isnt_empty($$ update public.skills set name = 'Own' where id = pg_temp.sid('own') returning 1 $$, 'and changes them');

create function pg_temp.render(p_name text, p_input jsonb default '{"text": "joy"}') returns text language sql as $$
  select api.render_skill(jsonb_build_object('skillId', pg_temp.sid(p_name), 'body', jsonb_build_object('input', p_input))) ->> 'prompt' $$;
select is(pg_temp.render('paused'), 'Twenty characters of joy', 'the owner renders hers, active or not');
select is(pg_temp.render('own', '{}'), 'Twenty characters of {{text}}', 'a placeholder without a value stays');

-- Colleagues of any role, and strangers: they see public and active skills only, and write none.
create function pg_temp.other(p_who text) returns setof text language plpgsql as $$
declare
  v_all text := format('id in (%L, %L, %L)', pg_temp.sid('own'), pg_temp.sid('public'), pg_temp.sid('paused'));
begin
  perform tests.act_as(p_who);
  return next is(pg_temp.sees(), 'Public', p_who || ' sees the public, active one');
  return next is_empty('update public.skills set name = ''Mine'' where ' || v_all || ' returning 1', p_who || ' changes none');
  return next is_empty('delete from public.skills where ' || v_all || ' returning 1', p_who || ' deletes none');
  return next throws_ok(format('select private.visible_skill(%L)', pg_temp.sid('paused')), 'PT404',
    format('Skill with ID %s not found', pg_temp.sid('paused')), p_who || ' does not find the paused one');
  return next is(pg_temp.render('public'), 'Twenty characters of joy', p_who || ' renders the public one');
  return next throws_ok($q$ select pg_temp.render('own') $q$, 'PT404', format('Skill with ID %s not found', pg_temp.sid('own')), p_who || ' renders no other');
  return next is((select count(*) from public.skill_playbooks), 1::bigint, p_who || ' reads a playbook with its skill');
  return next is_empty('update public.skill_playbooks set scope = ''local'' returning 1', p_who || ' changes no playbook');
  return next throws_ok(format('insert into public.skill_playbooks (skill_id) values (%L)', pg_temp.sid('paused')), '42501', null, p_who || ' adds none');
  return next lives_ok(format('insert into public.skill_stars (user_id, skill_id) values (private.user_id(), %L)', pg_temp.sid('public')),
    p_who || ' stars what they see');
  return next throws_ok(format('insert into public.skill_stars (user_id, skill_id) values (private.user_id(), %L)', pg_temp.sid('own')), '42501', null,
    p_who || ' stars nothing hidden');
  return next throws_ok(format('insert into public.skill_stars (user_id, skill_id) values (%L, %L)', tests.user('anna'), pg_temp.sid('public')), '42501',
    null, p_who || ' stars for nobody else');
  return next is((select star_count from public.skills where id = pg_temp.sid('public')), 1, 'the star counts');
  return next is_empty('delete from public.skill_stars where user_id <> private.user_id() returning 1', p_who || ' takes nobody''s star');
  return next isnt_empty('delete from public.skill_stars returning 1', p_who || ' takes the own one back');
  return next lives_ok(format('insert into public.skill_ratings (user_id, skill_id, rating) values (private.user_id(), %L, 4)', pg_temp.sid('public')),
    p_who || ' rates what is public');
  return next throws_ok(format('insert into public.skill_ratings (user_id, skill_id, rating) values (private.user_id(), %L, 4)', pg_temp.sid('own')), '42501',
    null, p_who || ' rates nothing hidden');
  return next isnt_empty('update public.skill_ratings set rating = 5 returning 1', p_who || ' changes the own rating');
end
$$;
select pg_temp.other('mia');
select pg_temp.other('vic');
select pg_temp.other('stan');
select is((select private.skill_json(s) -> 'rating' from public.skills s where id = pg_temp.sid('public')), '5', 'ratings are averaged');
select is((select count(*) from public.skill_ratings), 1::bigint, 'one''s own rating is all one sees');
select throws_ok($$ insert into public.skill_ratings (user_id, skill_id, rating) values (private.user_id(), pg_temp.sid('public'), 6) $$, '23514', null, 'five is the best');
select tests.act_as('anna');
select throws_ok($$ insert into public.skill_ratings (user_id, skill_id, rating) values (private.user_id(), pg_temp.sid('public'), 5) $$, '42501', null,
  'nobody rates their own');

-- Anonymous callers and the service reach no table.
select tests.act_anon();
select throws_ok('select 1 from public.' || t, '42501', null, 'anonymous callers do not read ' || t) from unnest(array['skills', 'skill_stars', 'skill_ratings', 'skill_playbooks']) t;
select throws_ok($$ select private.visible_skill(pg_temp.sid('public')) $$, '42501', null, 'nor through a function');
select throws_ok($$ select pg_temp.render('public') $$, '42501', null, 'nor by rendering it');
select tests.act_service();
select throws_ok('select 1 from public.' || t, '42501', null, 'nor does the service read ' || t) from unnest(array['skills', 'skill_stars', 'skill_ratings', 'skill_playbooks']) t;
select is(private.sees_skill(tests.user('stan'), pg_temp.sid('public')), true, 'it may ask what somebody sees');
select is(private.sees_skill(tests.user('stan'), pg_temp.sid('paused')), false, 'who does not see a paused skill of others');
select is(private.sees_skill(tests.user('anna'), pg_temp.sid('paused')), true, 'but their own');
select * from finish();
rollback;
