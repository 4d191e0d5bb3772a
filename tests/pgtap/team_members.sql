-- The effects when a member is deactivated, reactivated, removed or leaves (contract 40, 5.3 and 11.10), and the account that sign-up with
-- an invitation makes. Anna owns the team; Ben has rows of every kind in it.
begin;
select no_plan();

select tests.user('anna'), tests.user('stan'), tests.user('ben');
select org_id as bens from tests.people where name = 'ben' \gset
select tests.member('ben', 'anna'), tests.member('ada', 'anna', 'admin');
update public.subscriptions set plan_id = 'teams' where organization_id = tests.org('anna');

select tests.act_as('ben');
select api.create_project('{"body": {"name": "Of Ben", "privacy": "private"}}') -> 'project' ->> 'id' as own \gset
select api.create_skill('{"body": {"name": "Skill", "promptTemplate": "A prompt with {{name}} and enough words"}}') ->> 'id' as skill \gset
select api.create_habit(jsonb_build_object('body', jsonb_build_object('skillId', :'skill', 'scheduleCron', '0 9 * * *'))) ->> 'id' as habit \gset
select api.create_reflex(jsonb_build_object('body', jsonb_build_object('skillId', :'skill', 'triggerType', 'event', 'triggerConfig', '{"eventName": "push"}'::jsonb))) ->> 'id' as reflex \gset
select tests.act_as('anna');
select api.create_project('{"body": {"name": "Of Anna"}}') -> 'project' ->> 'id' as annas \gset
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at) values (tests.org('anna'), :'annas', tests.user('ben'), 'ben@example.nl', 'developer', now());
-- Another session of Ben's, in his own organization, and rows of his there.
insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at) values (tests.user('ben'), :'bens', now() + interval '90 days', now() + interval '30 days') returning id as elsewhere \gset
insert into public.habits (user_id, organization_id, skill_id, schedule_cron, next_run_at) values (tests.user('ben'), :'bens', :'skill', '0 9 * * *', now() + interval '1 day') returning id as other_habit \gset
select m.id as member from public.memberships m where m.user_id = tests.user('ben') and m.organization_id = tests.org('anna') \gset
update public.users set default_organization_id = tests.org('anna') where id = tests.user('ben');
create function pg_temp.fires(p_reflex uuid) returns text language sql as $$ select (private.fire_reflex(r, '{}')).reason from public.reflexes r where r.id = p_reflex $$;
create function pg_temp.due(p_habit uuid) returns boolean language sql as $$ select private.may_run(h) and h.is_active from public.habits h where h.id = p_habit $$;
select is(pg_temp.fires(:'reflex'), null, 'Ben''s reflex fires');
delete from public.skill_executions where reference_id = :'reflex';
select ok(pg_temp.due(:'habit'), 'and his habit would run');

-- ----------------------------------------------------------------------------------------------------------------- deactivated
select tests.act_as('ada');
select is(api.deactivate_team_member(jsonb_build_object('membershipId', :'member')) ->> 'status', 'inactive', 'Ada deactivates Ben');
select is(api.list_team_members('{}') -> -1 ->> 'name', 'Ben Test', 'who stands at the end of the list');
select is((api.get_team('{}') -> 'stats') - 'maxSeats', '{"totalMembers": 3, "activeMembers": 2, "pendingInvites": 0, "availableSeats": 7}'::jsonb, 'and keeps his seat');
select tests.reset();
select is((select revoked_reason from private.sessions s join tests.people p on p.session_id = s.id where p.name = 'ben'), 'membership_ended', 'his session in the team has ended');
select is((select revoked_at from private.sessions where id = :'elsewhere'), null, 'and no other');
select is((select default_organization_id from public.users where id = tests.user('ben')), :'bens'::uuid, 'his own organization is his default again');
select is(pg_temp.fires(:'reflex'), 'inactive', 'his reflex is passed over');
select ok(not pg_temp.due(:'habit'), 'and his habit');
select is((select array_agg(is_active) from (select is_active from public.habits where id = :'habit' union all select is_active from public.reflexes where id = :'reflex') x), array[true, true], 'both stay switched on');
select is((select user_id from public.projects where id = :'own'), tests.user('ben'), 'his project stays his');

select tests.act_as('ada');
select is(api.reactivate_team_member(jsonb_build_object('membershipId', :'member')) ->> 'status', 'active', 'Ada lets him in again');
select tests.reset();
select is(pg_temp.fires(:'reflex'), null, 'his reflex fires again');
delete from public.skill_executions where reference_id = :'reflex';
select ok(pg_temp.due(:'habit'), 'and his habit would run');

-- --------------------------------------------------------------------------------------------------------------------- removed
insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at) values (tests.user('ben'), tests.org('anna'), now() + interval '90 days', now() + interval '30 days') returning id as back \gset
select tests.act_as('ada');
select is(api.remove_team_member(jsonb_build_object('membershipId', :'member')), null, 'Ada removes Ben');
select is(tests.refusal(format('select api.remove_team_member(%L)', jsonb_build_object('membershipId', :'member'))) ->> 'code', 'NOT_FOUND', 'once');
select tests.reset();
select is((select revoked_reason from private.sessions where id = :'back'), 'membership_ended', 'his sessions in the team have ended');
select is((select revoked_at from private.sessions where id = :'elsewhere'), null, 'and no other');
select is((select user_id from public.projects where id = :'own'), tests.user('anna'), 'his project is the owner''s, and not Ada''s');
select is((select count(*) from public.project_members m where m.user_id = tests.user('ben') and m.organization_id = tests.org('anna')), 0::bigint, 'he is in none of the team''s projects');
select is((select array_agg(is_active) from (select is_active from public.habits where id = :'habit' union all select is_active from public.reflexes where id = :'reflex') x), array[false, false], 'habit and reflex are switched off');
select ok((select is_active from public.habits where id = :'other_habit'), 'not the one of his own organization');
select is((select user_id from public.skills where id = :'skill'), tests.user('ben'), 'his skill stays his');
select is((select count(*) from private.event_inbox where type = 'removal' and data ->> 'kind' = 'membership_ended' and data ->> 'userId' = tests.user('ben')::text), 2::bigint, 'each end is a removal in the log');
select is((select array_agg(event_type order by created_at) from public.audit_log where organization_id = tests.org('anna') and event_type ~ '^team' and user_id = tests.user('ada')),
  array['team.member_joined', 'team.member_deactivated', 'team.member_reactivated', 'team.member_removed'], 'and all of it is in the trail, in Ada''s name');

-- ---------------------------------------------------------------------------------------------------------------------- handed over
select m.id as adas from public.memberships m where m.user_id = tests.user('ada') and m.organization_id = tests.org('anna') \gset
select tests.act_as('anna');
select is(api.update_team_member(jsonb_build_object('membershipId', :'adas', 'body', '{"role": "owner"}'::jsonb)) ->> 'role', 'owner', 'Anna hands the team over');
select is(tests.refusal(format('select api.update_team_member(%L)', jsonb_build_object('membershipId', :'adas', 'body', '{"role": "admin"}'::jsonb))) ->> 'code', 'FORBIDDEN', 'and cannot take it back, in the same transaction either');
select is(api.get_team('{}') #>> '{team,ownerId}', tests.user('ada')::text, 'Ada is the owner');
select tests.reset();
set constraints all immediate;
set constraints all deferred;
select is((select array_agg(role order by role) from public.memberships where organization_id = tests.org('anna')), array['admin', 'owner'], 'and Anna an admin');
select is((select metadata ->> 'oldRole' from public.audit_log where event_type = 'team.ownership_transferred'), 'admin', 'the trail says so');
select is((select count(*) from public.audit_log where event_type = 'team.role_changed'), 0::bigint, 'once');
select tests.act_as('anna');
select is(tests.refusal('select api.leave_team(''{}'')'), null::jsonb, 'now Anna can leave');
select tests.reset();
select is((select user_id from public.projects where id = :'annas'), tests.user('ada'), 'and her projects go to Ada');

-- ------------------------------------------------------------------------------------------------------------------------ sign-up
create function pg_temp.sign_up(p_email text, p_token text) returns jsonb language sql as $$
  select private.sign_up(jsonb_build_object('email', p_email, 'first_name', 'Nina', 'last_name', 'Vos', 'password_hash', '$argon2id$x', 'meets_policy', true, 'token_hash', encode(sha256(p_email::bytea), 'hex'), 'invitation_token', p_token)) $$;
select tests.act_as('ada');
select i ->> 'token' as token, i ->> 'id' as invitation from jsonb_array_elements(api.create_team_invitations('{"body": {"emails": ["nina@example.nl"], "role": "viewer"}}')) i \gset
select tests.reset();
select is(tests.refusal(format('select pg_temp.sign_up(%L, %L)', 'eve@example.nl', :'token')) - 'message', '{"status": 403, "code": "INVITATION_EMAIL_MISMATCH", "field": "invitation_token"}'::jsonb, 'who is not invited does not sign up with it');
select is(tests.refusal(format('select pg_temp.sign_up(%L, %L)', 'nina@example.nl', 'guess')) - 'message', '{"status": 404, "code": "INVITATION_NOT_FOUND", "field": "invitation_token"}'::jsonb, 'nor with a guess');
select is((select count(*) from public.users where email in ('eve@example.nl', 'nina@example.nl')), 0::bigint, 'and nobody was made');
select is(pg_temp.sign_up('nina@example.nl', :'token') ->> 'org_id', tests.org('anna')::text, 'Nina signs up into the team');
select is((select array_agg(m.role || ' ' || (m.organization_id = u.default_organization_id)) from public.memberships m join public.users u on u.id = m.user_id where u.email = 'nina@example.nl'), array['viewer true'], 'as what she was invited for, and has no other organization');
select is(tests.refusal(format('select pg_temp.sign_up(%L, %L)', 'nina@example.nl', :'token')) ->> 'code', 'EMAIL_TAKEN', 'once');
select is((select count(*) from public.audit_log a join public.users u on u.id = a.user_id where u.email = 'nina@example.nl' and a.organization_id = tests.org('anna') and a.event_type in ('team.member_joined', 'user.login')), 2::bigint,
  'the trail of the team knows her');

select * from finish();
rollback;
