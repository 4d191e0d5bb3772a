-- Inviting and joining (contract 40, 5.3), by actor: Anna owns a team, Ada is an admin of it, Ben a member, Vic a viewer. Stan has a team
-- of his own, and Nina has no account yet.
begin;
select no_plan();

select tests.user('anna'), tests.member('ada', 'anna', 'admin'), tests.member('ben', 'anna'), tests.member('vic', 'anna', 'viewer'), tests.user('stan');
insert into private.installation (key, value) values ('mail', 'true'), ('app_url', '"https://app.kijko.test"') on conflict (key) do update set value = excluded.value;

create function pg_temp.invite(p_emails jsonb, p_role text default 'member', p_message text default null) returns jsonb language sql
as $$ select api.create_team_invitations(jsonb_build_object('body', jsonb_build_object('emails', p_emails, 'role', p_role) || case when p_message is null then '{}' else jsonb_build_object('message', p_message) end)) $$;
create function pg_temp.refused(p_emails jsonb, p_role text default 'member', p_message text default null) returns jsonb language sql
as $$ select tests.refusal(format('select pg_temp.invite(%L, %L, %L)', p_emails, p_role, p_message)) $$;
create function pg_temp.of(p_operation text, p_id text) returns jsonb language sql
as $$ select tests.refusal(format('select api.%I(%L)', p_operation, jsonb_build_object('invitationId', p_id))) $$;
create function pg_temp.stats() returns jsonb language sql as $$ select api.get_team('{}') -> 'stats' $$;
create function pg_temp.token(p_token text) returns jsonb language sql as $$ select jsonb_build_object('token', p_token, 'body', jsonb_build_object('token', p_token)) $$;
create temp table kept (name text primary key, id text, token text);
grant all on kept to public;

-- ------------------------------------------------------------------------------------------------------------------- plans and roles
select is(pg_temp.refused('["x@example.nl"]') ->> 'code', case w when 'anna' then 'PLAN_UPGRADE_REQUIRED' when 'ada' then 'PLAN_UPGRADE_REQUIRED' else 'FORBIDDEN' end, w || ' invites on Free')
from unnest(array['anna', 'ada', 'ben', 'vic']) w, lateral (select tests.act_as(w)::text) a;
select tests.act_as('vic');
select is(tests.refusal('select api.get_team(''{}'')') -> 'details' ->> 'requiredPlan', 'teams', 'on Free there is no overview');
select is(jsonb_array_length(api.list_team_members('{}')), 4, 'but the list of members, for a viewer too');
select tests.reset();
update public.subscriptions set plan_id = 'pro' where organization_id = tests.org('anna');
select tests.act_as('anna');
select is(pg_temp.refused('["x@example.nl"]') ->> 'code', 'PLAN_UPGRADE_REQUIRED', 'nor on Pro');
select is(tests.refusal('select api.update_team(''{"body": {"name": "Vos"}}'')') ->> 'code', 'PLAN_UPGRADE_REQUIRED', 'and no name');
select tests.reset();
update public.subscriptions set plan_id = 'teams', overrides = '{"seats": 7}' where organization_id = tests.org('anna');

select tests.act_as('ben');
select is(pg_temp.refused('["x@example.nl"]') ->> 'code', 'FORBIDDEN', 'a member invites nobody');
select is(tests.refusal('select api.list_team_invitations(''{}'')') ->> 'code', 'FORBIDDEN', 'and sees no invitations');
select is(tests.refusal('select api.update_team(''{"body": {"name": "Vos"}}'')') ->> 'code', 'FORBIDDEN', 'and gives no name');
select is(api.get_team('{}') -> 'invitations', '[]', 'the overview has none for a member');
select is(api.get_team('{}') ->> 'currentUserRole', 'member', 'and says who asks');
select tests.act_anon();
select throws_ok($$ select api.create_team_invitations('{}') $$, '42501', null, 'an anonymous caller cannot invite');
select throws_ok($$ select api.accept_team_invitation('{}') $$, '42501', null, 'nor accept');
select tests.act_service();
select throws_ok($$ select api.create_team_invitations('{}') $$, '42501', null, 'nor does the service invite');

select tests.act_as('ada');
select is(api.update_team('{"body": {"name": "  Vos & Co  "}}') ->> 'name', 'Vos & Co', 'an admin names the team');
select is(tests.refusal(format('select api.update_team(%L)', jsonb_build_object('body', jsonb_build_object('name', n)))) ->> 'field', 'name', format('%s is no name', left(n, 20)))
from unnest(array['', '   ', repeat('x', 101), U&'a\0007b', U&'a\202Eb']) n;
select is(api.update_team(jsonb_build_object('body', jsonb_build_object('name', repeat('x', 100)))) ->> 'name', repeat('x', 100), '100 characters are');
select is(api.update_team('{"body": {"name": "Vos"}}') ->> 'maxSeats', '7', 'seats are those of the plan, or of the contract with the organization');

-- --------------------------------------------------------------------------------------------------------------------- input
select is(pg_temp.refused('["x@example.nl"]', 'owner') ->> 'field', 'role', 'ownership is not invited to');
select is(pg_temp.refused('["x@example.nl"]', 'editor') ->> 'field', 'role', 'editor is no role of a team');
select is(pg_temp.refused('[]') ->> 'field', 'emails', 'nobody is not somebody');
select is(pg_temp.refused((select jsonb_agg('p' || n || '@example.nl') from generate_series(1, 51) n)) ->> 'field', 'emails', '51 are too many at a time');
select is(pg_temp.refused('["good@example.nl", "bad", "a@b", 7, "é@x.nl", "<x>@y.nl"]') #> '{details,invalid}', '["bad", "a@b", "7", "é@x.nl", "<x>@y.nl"]'::jsonb, 'what is no address is listed');
select is(pg_temp.refused('["x@example.nl"]', 'member', repeat('x', 501)) ->> 'field', 'message', 'a message has 500 characters');
select is(pg_temp.refused('["new@example.nl", "Ben@Example.NL", "vic@example.nl"]') #> '{details,emails}', '["ben@example.nl", "vic@example.nl"]'::jsonb, 'members are not invited');
select is(pg_temp.refused('["ben@example.nl"]') ->> 'code', 'ALREADY_MEMBER', 'whatever their status');
select is(pg_temp.refused('["a@x.nl", "b@x.nl", "c@x.nl", "d@x.nl"]') - 'message',
  '{"status": 429, "code": "QUOTA_EXCEEDED", "details": {"metric": "seats", "limit": 7, "used": 4, "requested": 4, "plan": "teams"}}'::jsonb, 'four do not fit on three seats');
select is(pg_temp.stats(), '{"totalMembers": 4, "activeMembers": 4, "pendingInvites": 0, "maxSeats": 7, "availableSeats": 3}'::jsonb, 'and none was invited');

-- --------------------------------------------------------------------------------------------------------------------- inviting
create temp table answer as
select x.i, x.n from jsonb_array_elements(pg_temp.invite('[" Nina@Example.nl ", "olga@example.nl", "NINA@EXAMPLE.NL"]', 'member', 'Come <b>in</b>')) with ordinality x (i, n);
grant select on answer to public;
select is((select array_agg(i ->> 'email' order by n) from answer), array['nina@example.nl', 'olga@example.nl'], 'addresses are folded, and doubles count once');
select is((select count(distinct i ->> 'token') from answer where i ->> 'token' ~ '^[A-Za-z0-9_-]{43}$'), 2::bigint, 'each has a token of 256 bits');
select is((select distinct (i ->> 'expiresAt')::timestamptz - (i ->> 'createdAt')::timestamptz from answer), interval '7 days', 'for seven days');
select is((select distinct i #>> '{invitedBy,name}' from answer), 'Ada Test', 'by Ada');
insert into kept select split_part(i ->> 'email', '@', 1), i ->> 'id', i ->> 'token' from answer;
select is(pg_temp.stats() ->> 'availableSeats', '1', 'pending ones keep their seats');
select is((select count(*) from jsonb_array_elements(api.list_team_invitations('{}')) i where i ->> 'token' = ''), 2::bigint, 'a list shows no token');
select is((select count(*) from public.team_invitations), 2::bigint, 'who may invite sees the rows');
select is(pg_temp.refused('["nina@example.nl", "x@example.nl"]') #> '{details,emails}', '["nina@example.nl"]'::jsonb, 'who is invited is not invited again');
select is(pg_temp.refused('["nina@example.nl"]') ->> 'code', 'INVITATION_PENDING', 'but the invitation is sent again');
select tests.act_as('ben');
select is((select count(*) from public.team_invitations), 0::bigint, 'others see none');
select tests.act_as_claims('stan');
select is((select count(*) from public.team_invitations), 0::bigint, 'nor do strangers');
select is(pg_temp.of('cancel_team_invitation', (select id from kept where name = 'nina')) ->> 'code', 'NOT_FOUND', 'who find nothing to withdraw');

select tests.reset();
select is((select count(*) from public.team_invitations i join kept k on k.id::uuid = i.id where i.token_hash = sha256(convert_to(k.token, 'UTF8'))), 2::bigint, 'stored are hashes');
select is((select array_agg(to_address order by to_address) from private.mails where kind = 'team_invitation'), array['nina@example.nl', 'olga@example.nl'], 'a mail for each');
select ok(bool_and(m.body_text like '%https://app.kijko.test/team-invitation?token=' || k.token || '%' and m.body_html like '%Come &lt;b&gt;in&lt;/b&gt;%' and m.body_text like '%Come <b>in</b>%'),
  'with link and message, as text') from private.mails m join kept k on m.to_address = k.name || '@example.nl';
select is((select count(*) from private.mails m join kept k on m.subject || m.kind like '%' || k.token || '%'), 0::bigint, 'and the token only in the body');
select is((select count(*) from public.audit_log a join kept k on a::text like '%' || k.token || '%'), 0::bigint, 'no line of the audit trail has a token');
select is((select count(*) from private.event_inbox e join kept k on e::text like '%' || k.token || '%'), 0::bigint, 'nor has an event');
select is((select array_agg(metadata ->> 'invitedEmail' order by 1) from public.audit_log where event_type = 'team.member_invited'), array['nina@example.nl', 'olga@example.nl'], 'the trail says who was invited');
select is((select count(*) from private.event_inbox where room = 'org:' || tests.org('anna') and data ->> 'resource' = 'invitation' and data ->> 'operation' = 'created'), 2::bigint, 'and the team''s room hears of it');
select is((select count(*) from jobs.gue_jobs where job_type = 'invitations.tell'), 2::bigint, 'whether there is an account is asked later');
select private.mark_mail_sent(id) from private.mails where to_address = 'nina@example.nl';
select is((select count(*) from private.mails m join kept k on m.body_text || m.body_html like '%' || k.token || '%'), 1::bigint, 'a sent mail has forgotten its token');

-- The part of the answer that an Idempotency-Key stores.
select tests.act_as('ada');
select private.call_idempotent('resend_team_invitation', jsonb_build_object('invitationId', (select id from kept where name = 'olga')), 'key', sha256('x')) ->> 'token' as olga \gset
update kept set token = :'olga' where name = 'olga';
select is(private.call_idempotent('resend_team_invitation', jsonb_build_object('invitationId', (select id from kept where name = 'olga')), 'key', sha256('x')) ->> 'token', '', 'a replayed answer has no token');
select is(api.look_up_team_invitation(pg_temp.token(:'olga')) ->> 'email', 'olga@example.nl', 'and the first one stays good');

-- ---------------------------------------------------------------------------------------------------------------------- looking up
select tests.act_anon();
select is(api.look_up_team_invitation(pg_temp.token((select token from kept where name = 'nina'))) - 'expiresAt',
  '{"teamName": "Vos", "email": "nina@example.nl", "role": "member", "invitedBy": {"name": "Ada Test"}}'::jsonb, 'who has the token reads the invitation');
select is(tests.refusal(format('select api.look_up_team_invitation(%L)', pg_temp.token(t))) - 'message', '{"status": 404, "code": "INVITATION_NOT_FOUND", "field": "token"}'::jsonb, format('%s opens nothing', coalesce(nullif(t, ''), 'no text')))
from unnest(array['', 'x', repeat('A', 43)]) t;

-- ---------------------------------------------------------------------------------------------------------------------- accepting
select tests.act_as('stan');
select is(tests.refusal(format('select api.accept_team_invitation(%L)', pg_temp.token((select token from kept where name = 'nina')))) - 'message', '{"status": 403, "code": "INVITATION_EMAIL_MISMATCH", "field": "token"}'::jsonb, 'it is for Nina');
select is(tests.refusal(format('select api.accept_team_invitation(%L)', pg_temp.token('guess'))) - 'message', '{"status": 404, "code": "INVITATION_NOT_FOUND", "field": "token"}'::jsonb, 'a guess is nothing');
select tests.reset();
select private.notify_invited(id::uuid) from kept;
select tests.user('nina');
select private.notify_invited(id::uuid) from kept, generate_series(1, 2);
select is((select array_agg(u.email || ': ' || n.title) from public.notifications n join public.users u on u.id = n.user_id where n.title like 'You are invited%'), array['nina@example.nl: You are invited to Vos'], 'an account is told, once');
select is((select count(*) from public.notifications n join kept k on n::text like '%' || k.token || '%'), 0::bigint, 'without the token');

select tests.act_as('nina');
select is(api.accept_team_invitation(pg_temp.token((select token from kept where name = 'nina'))) - array['id', 'userId', 'joinedAt'],
  jsonb_build_object('teamId', tests.org('anna'), 'email', 'nina@example.nl', 'name', 'Nina Test', 'role', 'member', 'status', 'active'), 'Nina joins');
select is(tests.refusal(format('select api.accept_team_invitation(%L)', pg_temp.token((select token from kept where name = 'nina')))) ->> 'code', 'INVITATION_EXPIRED', 'once');
select is(tests.refusal(format('select api.look_up_team_invitation(%L)', pg_temp.token((select token from kept where name = 'nina')))) ->> 'code', 'INVITATION_EXPIRED', 'and looking it up says the same');
select tests.reset();
select is((select default_organization_id from public.users where id = tests.user('nina')), tests.org('anna'), 'the team is her default organization');
select is((select organization_id from private.sessions where user_id = tests.user('nina')), tests.org('anna'), 'and where her session goes on');
select is((select count(*) from public.audit_log where event_type = 'team.member_joined' and organization_id = tests.org('anna') and user_id = tests.user('nina')), 1::bigint, 'the trail of the team says so');
select tests.act_as('anna');
select is(pg_temp.stats() ->> 'availableSeats', '1', 'her seat is the invitation''s');
select is(pg_temp.of('cancel_team_invitation', (select id from kept where name = 'nina')) ->> 'code', 'INVITATION_NOT_PENDING', 'what was accepted is not withdrawn');
select is(pg_temp.of('resend_team_invitation', (select id from kept where name = 'nina')) ->> 'code', 'INVITATION_NOT_PENDING', 'nor sent again');
select is(jsonb_array_length(api.list_team_invitations('{}')), 1, 'and is in no list');

-- ------------------------------------------------------------------------------------------------------- sending again, withdrawing, expiring
select token as old from kept where name = 'olga' \gset
select api.resend_team_invitation(jsonb_build_object('invitationId', (select id from kept where name = 'olga'))) ->> 'token' as olga \gset
select isnt(:'olga'::text, :'old'::text, 'sent again is another token');
select is(tests.refusal(format('select api.look_up_team_invitation(%L)', pg_temp.token(:'old'))) ->> 'code', 'INVITATION_NOT_FOUND', 'the old one is dead');
select is(pg_temp.of('cancel_team_invitation', (select id from kept where name = 'olga')), null::jsonb, 'an invitation is withdrawn');
select is(pg_temp.of('cancel_team_invitation', (select id from kept where name = 'olga')) ->> 'code', 'INVITATION_NOT_PENDING', 'once');
select is(tests.refusal(format('select api.look_up_team_invitation(%L)', pg_temp.token(:'olga'))) ->> 'code', 'INVITATION_EXPIRED', 'then its link says so');
select is(pg_temp.stats() ->> 'availableSeats', '2', 'and its seat is free');
select tests.reset();
select is((select count(*) from private.mails where to_address = 'olga@example.nl' and sent_at is null), 0::bigint, 'a mail that waited is not sent');
select is((select count(*) from public.audit_log where event_type = 'team.invitation_cancelled'), 1::bigint, 'the trail says so');

select tests.act_as('anna');
insert into kept select 'late', i ->> 'id', i ->> 'token' from jsonb_array_elements(pg_temp.invite('["late@example.nl"]', 'viewer')) i;
select tests.reset();
update public.team_invitations set expires_at = now() where email = 'late@example.nl';
select tests.act_as('anna');
select is(api.list_team_invitations('{}') -> 0 ->> 'status', 'expired', 'what is over says so before the job has been there');
select is(pg_temp.stats(), '{"totalMembers": 5, "activeMembers": 5, "pendingInvites": 0, "maxSeats": 7, "availableSeats": 2}'::jsonb, 'and keeps no seat');
select is(tests.refusal(format('select api.look_up_team_invitation(%L)', pg_temp.token((select token from kept where name = 'late')))) ->> 'code', 'INVITATION_EXPIRED', 'nor its promise');
insert into kept select 'late2', i ->> 'id', i ->> 'token' from jsonb_array_elements(pg_temp.invite('["late@example.nl", "p@example.nl"]', 'viewer')) i where i ->> 'email' ~ '^late';
select is(pg_temp.of('resend_team_invitation', (select id from kept where name = 'late')) ->> 'code', 'INVITATION_PENDING', 'one open invitation an address');
select is(pg_temp.of('cancel_team_invitation', (select id from kept where name = 'late')), null::jsonb, 'an expired one can be withdrawn');
select is(pg_temp.of('cancel_team_invitation', (select id from kept where name = 'late2')), null::jsonb, 'and so can the other');
select pg_temp.invite('["q@example.nl"]') is not null as full \gset
select tests.reset();
select is(private.expire_invitations(now()), 0, 'what is open stays open');
select is(private.expire_invitations(now() + interval '8 days'), 2, 'what is over is written down');
insert into public.team_invitations (organization_id, email, role, token_hash, expires_at) values (tests.org('anna'), 'z@example.nl', 'viewer', sha256('z'), now());
update private.schedules set run_at = 'infinity' where name <> 'invitations.expire';
update private.schedules set run_at = now() where name = 'invitations.expire';
select is(private.run_due(1), 1, 'by an hourly job');
select is((select i.status || ' ' || extract(epoch from s.every) from public.team_invitations i, private.schedules s where i.email = 'z@example.nl' and s.name = 'invitations.expire'), 'expired 3600.000000', 'each hour');
select is((select array_agg(status order by email) from public.team_invitations where email in ('p@example.nl', 'q@example.nl')), array['expired', 'expired'], 'as expired');
select tests.act_as('anna');
select is((select count(*) from jsonb_array_elements(pg_temp.invite('["r@example.nl", "s@example.nl"]'))), 2::bigint, 'others take the seats');
select is(pg_temp.of('resend_team_invitation', (select id::text from public.team_invitations where email = 'p@example.nl')) ->> 'code', 'QUOTA_EXCEEDED', 'an expired one needs a free seat again');
select is(pg_temp.of('resend_team_invitation', (select id::text from public.team_invitations where email = 'r@example.nl')), null::jsonb, 'a pending one has its seat');
select tests.reset();
update public.team_invitations set expires_at = now() + interval '100 days' where email in ('r@example.nl', 's@example.nl');
select is(private.expire_invitations(now() + interval '91 days'), 0, 'after 91 days');
select tests.end_old('team_invitations', now() + interval '91 days');
select is((select array_agg(email || ' ' || status order by email) from public.team_invitations where organization_id = tests.org('anna')), array['r@example.nl pending', 's@example.nl pending'], 'closed ones are forgotten');
update public.team_invitations set status = 'expired' where email = 'r@example.nl';
select throws_ok($$ update public.team_invitations set status = 'accepted' where email = 'r@example.nl' $$, 'PT409', null, 'an expired one is not accepted, by any writer');
select throws_ok($$ update public.team_invitations set role = 'admin' where email = 'r@example.nl' $$, 'PT400', null, 'nor is it for another role');

-- The limit of mail: five to one address an hour.
select tests.act_as('anna');
select is(array_agg(coalesce(pg_temp.of('resend_team_invitation', (select id::text from public.team_invitations where email = 's@example.nl')) ->> 'code', 'sent') order by n), array['sent', 'sent', 'sent', 'sent', 'RATE_LIMITED'],
  'a fifth mail within an hour and no more')
from generate_series(1, 5) n, lateral (select tests.peek(format('select count(private.mark_mail_sent(id))::text from private.mails where to_address = ''s@example.nl'' and %s > 0', n))) sent;
select tests.reset();

-- Inviting costs the same with an account and without: as many rows are written.
create function pg_temp.writes() returns bigint language sql security definer as $$ select sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint from pg_stat_xact_user_tables $$;
create function pg_temp.cost(p_email text) returns bigint language plpgsql as $$
declare
  v bigint := pg_temp.writes();
begin
  perform pg_temp.invite(jsonb_build_array(p_email));
  return pg_temp.writes() - v;
end $$;
select tests.user('paul');
update public.subscriptions set overrides = '{"seats": 1100}' where organization_id = tests.org('anna');
select tests.act_as_claims('anna');
select is(pg_temp.cost('paul@example.nl'), pg_temp.cost('nobody@example.nl'), 'inviting an account writes what inviting nobody writes');
select tests.reset();
-- Withdrawn invitations count, since seats alone do not bound the stored rows.
insert into public.team_invitations (organization_id, email, role, token_hash, status, expires_at)
select tests.org('anna'), 'w' || n || '@example.nl', 'viewer', sha256(convert_to('w' || n, 'UTF8')), 'cancelled', now() from generate_series(1, 990) n;
select tests.act_as('anna');
select is(pg_temp.refused((select jsonb_agg('v' || n || '@example.nl') from generate_series(1, 50) n)) ->> 'code', 'RATE_LIMITED', 'a thousand an hour and no more');
select tests.reset();
delete from public.team_invitations where email ~ '^w' or email ~ '^(paul|nobody)@';

-- -------------------------------------------------------------------------------------------------------- changes of the inviting organization
select tests.user('pim');
update public.subscriptions set overrides = '{"seats": 9}' where organization_id = tests.org('anna');
select tests.act_as('anna');
insert into kept select 'pim', i ->> 'id', i ->> 'token' from jsonb_array_elements(pg_temp.invite('["pim@example.nl"]', 'admin')) i;
select tests.reset();
update public.subscriptions set overrides = '{"seats": 3}' where organization_id = tests.org('anna');
select tests.act_as('pim');
select is(tests.refusal(format('select api.accept_team_invitation(%L)', pg_temp.token((select token from kept where name = 'pim')))) - 'message',
  '{"status": 429, "code": "QUOTA_EXCEEDED", "field": "token", "details": {"metric": "seats"}}'::jsonb, 'no seat is left, and nothing else is told of the team');
select is(tests.refusal(format('select api.look_up_team_invitation(%L)', pg_temp.token((select token from kept where name = 'pim')))) ->> 'code', 'QUOTA_EXCEEDED', 'looking up says the same');
select tests.reset();
update public.subscriptions set plan_id = 'free', overrides = '{}' where organization_id = tests.org('anna');
select tests.act_as('pim');
select is(tests.refusal(format('select api.accept_team_invitation(%L)', pg_temp.token((select token from kept where name = 'pim')))) ->> 'code', 'PLAN_UPGRADE_REQUIRED', 'the plan takes nobody');
select is(tests.refusal(format('select api.look_up_team_invitation(%L)', pg_temp.token((select token from kept where name = 'pim')))) ->> 'code', 'PLAN_UPGRADE_REQUIRED', 'looking up says the same');

-- A smaller plan: nothing can grow, everything can shrink.
select tests.act_as('anna');
select is(pg_temp.of('resend_team_invitation', (select id from kept where name = 'pim')) ->> 'code', 'PLAN_UPGRADE_REQUIRED', 'nothing is sent again');
select is(tests.refusal('select api.list_team_invitations(''{}'')') ->> 'code', 'PLAN_UPGRADE_REQUIRED', 'nothing is listed');
select is(pg_temp.of('cancel_team_invitation', (select id from kept where name = 'pim')), null::jsonb, 'but withdrawn');
select is(tests.refusal(format('select api.%I(%L)', o, jsonb_build_object('membershipId', (select m.id from public.memberships m where m.user_id = tests.user('vic') and m.organization_id = tests.org('anna'))) || b)) ->> 'code', c, o || ' on Free')
from (values ('update_team_member', '{"body": {"status": "inactive"}}'::jsonb, 'PLAN_UPGRADE_REQUIRED'), ('deactivate_team_member', '{}', null), ('reactivate_team_member', '{}', 'PLAN_UPGRADE_REQUIRED'), ('remove_team_member', '{}', null)) t (o, b, c);
select tests.act_as('ben');
select is(tests.refusal('select api.leave_team(''{}'')'), null::jsonb, 'and a member leaves');
select tests.reset();
select is((select array_agg(event_type || ' ' || description order by created_at) from public.audit_log where organization_id = tests.org('anna') and event_type ~ 'member_(removed|deactivated)'),
  array['team.member_deactivated Vic Test was deactivated.', 'team.member_removed Vic Test was removed.', 'team.member_removed Ben Test left.'], 'and the trail tells each');

-- An unlimited plan has a number of seats that the client can subtract from.
update public.subscriptions set plan_id = 'enterprise' where organization_id = tests.org('anna');
select tests.act_as('anna');
select is(api.get_team('{}') #> '{team,maxSeats}', '9999', 'unlimited is 9999');
select tests.reset();

select * from finish();
rollback;
