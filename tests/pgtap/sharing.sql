-- People of a project, by actor: invitations by mail and their tokens, sharing with colleagues and guests, ownership, the events of all
-- that, search, activity.
begin;
select no_plan();

-- Anna owns an organization, Ben and Mia are members of it, Olga administers it; Gus and Stan come from other organizations.
select tests.user('anna'), tests.member('ben', 'anna'), tests.member('mia', 'anna'), tests.member('olga', 'anna', 'admin'), tests.user('gus'), tests.user('stan');
update public.users set email_verified_at = now() where email like '%@example.nl';
create function pg_temp.pid(p integer default 1) returns uuid language sql as $$ select ('00000000-0000-4000-8000-0000000000a' || p)::uuid $$;
create function pg_temp.p(p_body text default null, p_more jsonb default '{}', p_project integer default 1) returns jsonb language sql as $$
  select jsonb_strip_nulls(jsonb_build_object('projectId', pg_temp.pid(p_project), 'contextId', pg_temp.pid(p_project), 'body', p_body::jsonb)) || p_more $$;
create function pg_temp.m(p_email text, p_project integer default 1) returns public.project_members language sql security definer as $$
  select m from public.project_members m where m.project_id = pg_temp.pid(p_project) and m.email = p_email $$;
create function pg_temp.id(p_email text) returns jsonb language sql as $$ select jsonb_build_object('memberId', (pg_temp.m(p_email)).id, 'projectUserId', (pg_temp.m(p_email)).id, 'userId', (pg_temp.m(p_email)).id) $$;
-- The token of the newest mail to an address.
create function pg_temp.token(p_email text) returns jsonb language sql security definer as $$
  select jsonb_build_object('token', substring(x.body_text from 'token=(\S+)')) from private.mails x where x.kind = 'project_invitation' and x.to_address = p_email
  order by x.created_at desc, x.id limit 1 $$;
create function pg_temp.notified(p_sql text) returns text language sql as $$ select concat_ws(' ', r ->> 'status', r ->> 'code', r ->> 'field') from tests.refusal(p_sql) r $$;
grant execute on all functions in schema pg_temp to public;
select tests.act_as('anna');
select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(n), 'name', 'Billing ' || n))) is not null from generate_series(1, 2) n;
select tests.reset();
select private.declare_installation('mail', 'true'), private.declare_installation('app_url', '"https://app.example.org/"');

-- ------------------------------------------------------------------------------------------------------------------- inviting (11)
select tests.act_as('anna');
select is(api.add_project_member(pg_temp.p('{"email": " Gus@Example.nl ", "role": "manager", "notifyOnError": false, "inviteMessage": "Come <in>\nplease"}')) - array['id', 'invitedAt'],
  jsonb_build_object('projectId', pg_temp.pid(), 'userId', '', 'email', 'gus@example.nl', 'role', 'manager', 'notifyOnIngestion', true, 'notifyOnError', false, 'notifyOnTeamChanges', true),
  'an invitation is a pending member, whose account is not told');
select is(pg_temp.notified(format('select api.add_project_member(%L)', pg_temp.p(b))), w, coalesce(b, 'nothing') || ' is refused') from (values
  ('{"email": "GUS@example.nl", "role": "viewer"}', '409 MEMBER_EXISTS email'), ('{"email": "anna@example.nl", "role": "viewer"}', '409 MEMBER_EXISTS email'),
  ('{"email": "gus", "role": "viewer"}', '400 VALIDATION_ERROR email'), ('{"email": "a@b.nl, c@d.nl", "role": "viewer"}', '400 VALIDATION_ERROR email'), ('{"role": "viewer"}', '400 VALIDATION_ERROR email'),
  ('{"email": "new@example.nl"}', '400 VALIDATION_ERROR role'), ('{"email": "new@example.nl", "role": "owner"}', '400 VALIDATION_ERROR role'), ('{"email": "new@example.nl", "role": "king"}', '400 VALIDATION_ERROR role'),
  ('{"email": "new@example.nl", "role": "viewer", "notifyOnError": "perhaps"}', '400 VALIDATION_ERROR notifyOnError'),
  (format('{"email": "new@example.nl", "role": "viewer", "inviteMessage": "%s"}', repeat('x', 1001)), '400 VALIDATION_ERROR inviteMessage'), ('[]', '400 VALIDATION_ERROR body'), (null, '400 VALIDATION_ERROR role')) v (b, w);
select tests.reset();
select is((select x.subject from private.mails x where x.to_address = 'gus@example.nl'), 'Anna Test invites you to "Billing 1" in Kijko', 'the mail says who invites to what');
select ok(x.body_text like E'%> Come <in>\n> please\n%' and x.body_html like '%<blockquote>Come &lt;in&gt;<br>please</blockquote>%', 'with the message, quoted and escaped')
from private.mails x where x.to_address = 'gus@example.nl';
select matches((select x.body_text from private.mails x where x.to_address = 'gus@example.nl'), 'https://app\.example\.org/project-invitation\?token=[A-Za-z0-9_-]{43}\n', 'and the link');
select is(i.token_hash, sha256(convert_to(pg_temp.token('gus@example.nl') ->> 'token', 'UTF8')), 'only the hash of the token is stored') from private.project_invitations i
where i.member_id = (pg_temp.m('gus@example.nl')).id;
select is((select count(*)::integer from jobs.gue_jobs where job_type = 'mail.send'), 1, 'the mail has its job');
select private.notify_project_invitee((pg_temp.m('gus@example.nl')).id), private.notify_project_invitee(gen_random_uuid());
select is((select n.title from public.notifications n where n.user_id = tests.user('gus')), 'You are invited to "Billing 1"', 'who has an account is told there as well');
select is((select jsonb_agg(a.metadata - array['contextId', 'contextName']) from public.audit_log a where a.event_type = 'context.shared'),
  '[{"action": "invited", "sharedWith": "gus@example.nl", "permission": "manager"}]', 'it is audited');
select unalike((select string_agg(i.data::text, '') from private.event_inbox i) || (select string_agg(coalesce(a.metadata::text, '') || a.description, '') from public.audit_log a)
  || (select string_agg(n.*::text, '') from public.notifications n), '%' || (pg_temp.token('gus@example.nl') ->> 'token') || '%', 'the token stands in no event, entry or notification');

-- Many addresses at once: each has its own result, in their order.
select tests.act_as('anna');
select is((select jsonb_agg(r - 'memberId' order by o) from jsonb_array_elements(api.send_project_invitations(pg_temp.p('[{"email": "a@example.org", "role": "developer", "notificationLevel": "real-time"},
    {"email": "A@Example.org", "role": "viewer", "notificationLevel": "daily"}, {"email": "no address", "role": "viewer"}, {"email": "b@example.org", "role": "king"}, {"email": "b@example.org", "role": "viewer",
    "notificationLevel": "hourly"}, {"email": "gus@example.nl", "role": "viewer"}, 7, {"email": "c@example.org", "role": "auditor", "notificationLevel": "disabled"}, {"email": "d@example.org"}]')) -> 'results') with ordinality t (r, o)),
  '[{"email": "a@example.org", "status": "sent"}, {"email": "A@Example.org", "status": "failed", "error": "already exists"}, {"email": "no address", "status": "failed", "error": "invalid e-mail"},
    {"email": "b@example.org", "status": "failed", "error": "unknown role"}, {"email": "b@example.org", "status": "failed", "error": "unknown notification level"},
    {"email": "gus@example.nl", "status": "failed", "error": "already exists"}, {"email": "", "status": "failed", "error": "invalid e-mail"},
    {"email": "c@example.org", "status": "sent"}, {"email": "d@example.org", "status": "sent"}]'::jsonb, 'a list has a result for each element');
select is(api.send_project_invitations(pg_temp.p('{"members": [{"email": "x"}]}')) - 'results', '{"success": false, "totalSent": 0, "totalFailed": 1}', 'in either wrapping');
select is(api.send_project_invitations(pg_temp.p('{"invitations": [{"email": "e@example.org", "notificationLevel": "weekly"}]}')) - 'results', '{"success": true, "totalSent": 1, "totalFailed": 0}', 'with its sums');
select is((select jsonb_agg(concat_ws(' ', m.email, m.role, m.notification_level, m.notify_on_ingestion, m.notify_on_error, m.notify_on_team_changes) order by m.email) from public.project_members m
  where m.email ~ '^[a-e]@example.org'), '["a@example.org developer real-time t t t", "c@example.org auditor disabled f f f", "d@example.org viewer daily t t f", "e@example.org viewer weekly t t f"]',
  'levels become flags');
select is(pg_temp.notified(format('select api.send_project_invitations(%L)', pg_temp.p(b))), '400 VALIDATION_ERROR ' || f, left(coalesce(b, 'nothing'), 30) || ' is no list') from (values
  ('[]', 'invitations'), ('{}', 'invitations'), ('"x"', 'invitations'), (null, 'invitations'), ('{"invitations": 7}', 'invitations'), ('{"members": {}}', 'members'),
  ((select jsonb_agg(jsonb_build_object('email', n || '@example.org')) from generate_series(1, 101) n)::text, 'invitations')) v (b, f);
select is(jsonb_array_length(api.list_project_members(pg_temp.p())), 6, 'all of them are listed');
select is((select string_agg(m ->> 'email', ' ') from jsonb_array_elements(api.list_pending_project_invitations(pg_temp.p())) m), 'gus@example.nl a@example.org c@example.org d@example.org e@example.org',
  'and those who have not accepted, in the order of their invitations');

-- Past the operations, by the table: the same row, the same mail, the same rules.
select lives_ok($$ insert into public.project_members (organization_id, project_id, email, role) select organization_id, id, ' Sup@Example.org ', 'viewer' from public.projects where id = pg_temp.pid() $$,
  'Supabase''s API makes an invitation too');
select is(pg_temp.notified($$ insert into public.project_members (organization_id, project_id, email) select organization_id, id, 'sup@example.org' from public.projects where id = pg_temp.pid() $$), '409 MEMBER_EXISTS email', 'once');
select is(pg_temp.notified($$ insert into public.project_members (organization_id, project_id, email) select organization_id, id, 'sup' from public.projects where id = pg_temp.pid() $$), '400 VALIDATION_ERROR email', 'to an address');
select ok(pg_temp.token('sup@example.org') ->> 'token' is not null, 'which is sent by mail');

-- ---------------------------------------------------------------------------------------------------------------------- by token
select is(api.get_project_invitation(pg_temp.token('gus@example.nl')) - 'expiresAt', jsonb_build_object('projectId', pg_temp.pid(), 'projectName', 'Billing 1', 'email', 'gus@example.nl', 'role', 'manager',
  'invitedBy', 'Anna Test', 'status', 'pending'), 'who has the token reads the invitation');
select tests.act_anon();
select is(api.get_project_invitation(pg_temp.token('gus@example.nl')) ->> 'status', 'pending', 'without signing in');
select is(pg_temp.notified(format('select api.%s(%L)', o, jsonb_build_object('token', t))), '404 INVITATION_NOT_FOUND', format('%s: %s opens nothing', o, left(t, 10)))
from unnest(array['get_project_invitation', 'decline_project_invitation']) o, unnest(array['x', repeat('A', 43), repeat('A', 300), '%', null]) t;
select throws_ok(format('select api.accept_project_invitation(%L)', pg_temp.token('gus@example.nl')), '42501', null, 'but nobody accepts without being somebody');
select tests.act_as('stan');
select is(pg_temp.notified(format('select api.accept_project_invitation(%L)', pg_temp.token('gus@example.nl'))), '403 INVITATION_EMAIL_MISMATCH', 'nor for others');
select is(pg_temp.notified($$ select api.accept_project_invitation('{"token": "x"}') $$), '404 INVITATION_NOT_FOUND', 'nor by guessing');
select tests.reset();
update public.users set email_verified_at = null where email = 'gus@example.nl';
select tests.act_as('gus');
select is(pg_temp.notified(format('select api.accept_project_invitation(%L)', pg_temp.token('gus@example.nl'))), '403 EMAIL_NOT_VERIFIED', 'nor with an address that might be another''s');
select is((select count(*)::integer from public.projects), 0, 'until then an invitee sees nothing');
select tests.reset();
update public.users set email_verified_at = now() where email = 'gus@example.nl';
select pg_temp.token('gus@example.nl') as gus \gset
select tests.act_as('gus');
select is(api.accept_project_invitation(:'gus') - array['id', 'invitedAt', 'acceptedAt'], jsonb_build_object('projectId', pg_temp.pid(), 'userId', tests.user('gus'), 'email', 'gus@example.nl', 'name', 'Gus Test', 'role', 'manager',
  'notifyOnIngestion', true, 'notifyOnError', false, 'notifyOnTeamChanges', true), 'the invited person becomes the member');
select ok(api.accept_project_invitation(:'gus') ? 'acceptedAt', 'and may repeat it');
select is((select string_agg(p.name, ',') from public.projects p), 'Billing 1', 'from then on they see the project and nothing else of the tenant');
select is((select count(*)::integer from public.users u where u.id <> tests.user('gus')) + (select count(*)::integer from public.memberships m where m.organization_id = tests.org('anna')), 0, 'no people of it either');
select is(private.project_role(pg_temp.pid()), 'manager', 'in the role that was offered');
select tests.act_as('stan');
select is(pg_temp.notified(format('select api.accept_project_invitation(%L)', :'gus')), '404 INVITATION_NOT_FOUND', 'a used token is unknown to others');
select tests.act_anon();
select is(pg_temp.notified(format('select api.decline_project_invitation(%L)', :'gus')), '404 INVITATION_NOT_FOUND', 'and declines nothing');
select is(api.get_project_invitation(:'gus') ->> 'status', 'accepted', 'but says what became of it');
select tests.reset();
select is((select string_agg(a.user_name || ' ' || a.description, ', ' order by a.created_at) from public.project_activity a where a.project_id = pg_temp.pid() and a.type = 'permission' and a.metadata ->> 'memberId' = (pg_temp.m('gus@example.nl')).id::text),
  'Anna Test invited gus@example.nl as admin, Gus Test joined as admin', 'the log tells both steps once');
select is((select count(*)::integer from public.notifications n where n.user_id = tests.user('anna') and n.title = 'Gus Test joined "Billing 1"'), 1, 'and so is the owner, once');

-- Declining, expiry, sending again.
select pg_temp.token('d@example.org') as d, pg_temp.token('e@example.org') as e, pg_temp.token('a@example.org') as a \gset
select tests.act_anon();
select is(api.decline_project_invitation(:'d'), '{"success": true}', 'an invitation is declined by its token');
select is(pg_temp.notified(format('select api.decline_project_invitation(%L)', :'d')), '404 INVITATION_NOT_FOUND', 'once');
select tests.reset();
select is((pg_temp.m('d@example.org')).id, null, 'its row is gone');
update public.project_members set invited_at = now() - interval '7 days' where email = 'e@example.org';
select tests.act_anon();
select is(api.get_project_invitation(:'e') ->> 'status', 'expired', 'after seven days it says that it is expired');
select is(pg_temp.notified(format('select api.decline_project_invitation(%L)', :'e')), '409 INVITATION_EXPIRED', 'and is not declined any more');
select tests.act_as('stan');
select is(pg_temp.notified(format('select api.accept_project_invitation(%L)', :'e')), '409 INVITATION_EXPIRED', 'nor accepted');
select tests.act_as('anna');
select is((select count(*)::integer from jsonb_array_elements(api.list_pending_project_invitations(pg_temp.p())) m where m ->> 'email' = 'e@example.org'), 1, 'but listed');
select is(tests.refusal(format('select api.resend_project_invitation(%L)', pg_temp.p(null, pg_temp.id('a@example.org')))) - array['message', 'details'], '{"status": 429, "code": "RATE_LIMITED"}', 'a minute lies between sendings, the first one counted');
select is(tests.refusal(format('select api.resend_project_invitation(%L)', pg_temp.p(null, pg_temp.id('a@example.org')))) -> 'details' -> 'remaining', '0', 'the refusal says when there is room again');
select tests.reset();
update private.project_invitations set sent_at = now() - interval '61 seconds' where member_id in ((pg_temp.m('e@example.org')).id, (pg_temp.m('a@example.org')).id);
select tests.act_as('anna');
select is(api.resend_project_invitation(pg_temp.p(null, pg_temp.id('e@example.org'))), jsonb_build_object('email', 'e@example.org', 'status', 'sent', 'memberId', (pg_temp.m('e@example.org')).id), 'then it is sent again');
select tests.act_anon();
select is(pg_temp.notified(format('select api.get_project_invitation(%L)', :'e')), '404 INVITATION_NOT_FOUND', 'the link before is dead');
select is(api.get_project_invitation(pg_temp.token('e@example.org')) ->> 'status', 'pending', 'the new one holds for another seven days');
select tests.reset();
select is((select count(*)::integer from private.mails x where x.to_address = 'e@example.org'), 1, 'a mail with a dead link that had not gone out does not');
update private.project_invitations set sent_at = now() - interval '61 seconds', resent_at = array(select now() - n * interval '1 hour' from generate_series(5, 1, -1) n) where member_id = (pg_temp.m('e@example.org')).id;
select tests.act_as('anna');
select is(pg_temp.notified(format('select api.resend_project_invitation(%L)', pg_temp.p(null, pg_temp.id('e@example.org')))), '429 RATE_LIMITED', 'five times a day');
select tests.reset();
update private.project_invitations set resent_at = array[now() - interval '25 hours'] || resent_at[2:5] where member_id = (pg_temp.m('e@example.org')).id;
select tests.act_as('anna');
select lives_ok(format('select api.resend_project_invitation(%L)', pg_temp.p(null, pg_temp.id('e@example.org'))), 'on any day');
select is(pg_temp.notified(format('select api.resend_project_invitation(%L)', pg_temp.p(null, pg_temp.id('gus@example.nl')))), '409 ALREADY_ACCEPTED', 'but not to members');
select is(pg_temp.notified(format('select api.cancel_project_invitation(%L)', pg_temp.p(null, pg_temp.id('gus@example.nl')))), '409 ALREADY_ACCEPTED', 'whom one cannot uninvite');
select is(pg_temp.notified(format('select api.%s(%L)', o, pg_temp.p(null, jsonb_build_object('memberId', i)))), '404 MEMBER_NOT_FOUND', o || ' of ' || i)
from unnest(array['resend_project_invitation', 'cancel_project_invitation', 'update_project_member', 'remove_project_member', 'resend_access', 'remove_access']) o, unnest(array[gen_random_uuid()::text, 'x']) i;
select is(api.cancel_project_invitation(pg_temp.p(null, pg_temp.id('a@example.org'))), '{"success": true}', 'an invitation is taken back');
select tests.act_anon();
select is(pg_temp.notified(format('select api.get_project_invitation(%L)', :'a')), '404 INVITATION_NOT_FOUND', 'with its token');
select tests.reset();
select is((select count(*)::integer from private.mails x where x.to_address = 'a@example.org'), 0, 'and its mail');

-- A sent mail keeps no token. Without a transport, invitations wait for one.
select private.mark_mail_sent(x.id) from private.mails x where x.to_address = 'c@example.org';
select unalike((select x.body_text || x.body_html from private.mails x where x.to_address = 'c@example.org'), '%token=%', 'a mail that is out keeps no token');
select private.declare_installation('mail', 'false');
select tests.act_as('anna');
select is(api.send_project_invitations(pg_temp.p('[{"email": "w@example.org"}, {"email": "v@example.org"}]')) -> 'results' -> 0 ->> 'status', 'pending', 'without a transport an invitation waits');
select tests.reset();
select is((select count(*)::integer from jobs.gue_jobs j join private.mails x on j.args::text like '%' || x.id || '%' where x.to_address = 'w@example.org'), 0, 'no job tries to send it');
update public.project_members set invited_at = now() - interval '8 days' where email = 'v@example.org';
select private.declare_installation('mail', 'true');
select is((select string_agg(x.to_address, ',') from private.mails x where x.to_address ~ '^[vw]@' and exists (select from jobs.gue_jobs j where convert_from(j.args, 'UTF8')::jsonb ->> 'mailId' = x.id::text)), 'w@example.org',
  'until there is a transport, unless it has expired');

-- Bounds: an address gets a limited number of mails, however often it is invited, withdrawn and invited again.
select tests.act_as('anna');
do $$
begin
  for i in 1..20 loop
    perform api.cancel_project_invitation(pg_temp.p(null, jsonb_build_object('memberId', api.add_project_member(pg_temp.p('{"email": "often@example.org", "role": "viewer"}')) -> 'id')));
    -- As if each mail had been sent before its invitation was withdrawn.
    perform tests.peek($q$ insert into private.mails (kind, organization_id, user_id, to_address, subject, body_text, body_html, sent_at)
      values ('project_invitation', tests.org('anna'), tests.user('anna'), 'often@example.org', 'x', 'x', 'x', now()) returning 1 $q$);
  end loop;
end $$;
select is(pg_temp.notified(format('select api.add_project_member(%L)', pg_temp.p('{"email": "often@example.org", "role": "viewer"}'))), '429 RATE_LIMITED', 'twenty a day and organization');
select is(api.send_project_invitations(pg_temp.p('[{"email": "often@example.org"}]')) #>> '{results,0,status}', 'failed', 'in a list as well');
select tests.reset();

-- ------------------------------------------------------------------------------------------------------------------ sharing (12, 13)
select tests.act_as('anna');
select is(api.add_project_user(pg_temp.p('{"email": "BEN@example.nl", "role": "editor", "added_by": "x"}', '{}', 2)) - array['id', 'added_at'], jsonb_build_object('project_id', pg_temp.pid(2), 'user_id', tests.user('ben'), 'email', 'ben@example.nl',
  'name', 'Ben Test', 'role', 'editor', 'added_by', tests.user('anna')), 'a colleague has access at once');
select is(api.add_project_user(pg_temp.p('{"email": "out@example.org", "role": "admin", "name": " Out Sider "}', '{}', 2)) - array['id', 'added_at'], jsonb_build_object('project_id', pg_temp.pid(2), 'user_id', '', 'email', 'out@example.org',
  'name', 'Out Sider', 'role', 'admin', 'added_by', tests.user('anna')), 'anybody else is invited');
select is(pg_temp.notified(format('select api.add_project_user(%L)', pg_temp.p(b, '{}', 2))), w, b || ' is refused') from (values
  ('{"email": "mia@example.nl", "role": "owner"}', '400 VALIDATION_ERROR role'), ('{"email": "mia@example.nl"}', '400 VALIDATION_ERROR role'), ('{"email": "mia", "role": "viewer"}', '400 VALIDATION_ERROR email'),
  ('{"email": "ben@example.nl", "role": "viewer"}', '409 MEMBER_EXISTS email'), ('{"email": "out@example.org", "role": "viewer"}', '409 MEMBER_EXISTS email')) v (b, w);
select is((select string_agg(concat_ws(' ', u ->> 'email', u ->> 'role'), ', ') from jsonb_array_elements(api.list_project_users(pg_temp.p(null, '{}', 2))) u), 'anna@example.nl owner, ben@example.nl editor, out@example.org admin', 'in the order in which they were added');
select is(api.add_access(pg_temp.p('{"email": "mia@example.nl", "role": "viewer"}', '{}', 2)) - array['id', 'lastActive', 'invitedAt'], jsonb_build_object('userId', tests.user('mia'), 'name', 'Mia Test', 'email', 'mia@example.nl', 'role', 'viewer',
  'status', 'active', 'isCurrentUser', false), 'the modal adds in its own words');
select is(api.invite_context_user(pg_temp.p('{"email": "ctx@example.org"}', '{}', 2)) ->> 'role', 'viewer', 'the inspector''s default is a viewer');
select is((select string_agg(u ->> 'email', ' ') from jsonb_array_elements(api.list_access(pg_temp.p(null, jsonb_build_object('search', s), 2))) u), w, format('access with search %L', s)) from (values
  (null, 'anna@example.nl ben@example.nl out@example.org mia@example.nl ctx@example.org'), ('SIDER', 'out@example.org'), ('@example.nl', 'anna@example.nl ben@example.nl mia@example.nl'), ('Owner', 'anna@example.nl'), ('%', null)) v (s, w);
select is(api.list_context_users(pg_temp.p(null, '{}', 2)), api.list_access(pg_temp.p(null, '{}', 2)), 'a context shows the same');
select is((api.list_access(pg_temp.p(null, '{}', 2)) -> 0) - array['id', 'lastActive', 'invitedAt'], jsonb_build_object('userId', tests.user('anna'), 'name', 'Anna Test', 'email', 'anna@example.nl', 'role', 'owner', 'status', 'active', 'isCurrentUser', true), 'the owner first');
select tests.reset();
select is((select n.title || n.link from public.notifications n where n.user_id = tests.user('ben') and n.title like '%added you%'), 'Anna Test added you to "Billing 2"/project/' || pg_temp.pid(2), 'who was added is told');
select is((select count(*)::integer from private.mails x where x.to_address in ('ben@example.nl', 'mia@example.nl') and x.kind = 'project_invitation'), 0, 'and invited by nobody');

-- A guest with the role manager learns nothing of the organization's people: everybody a guest adds is invited.
select tests.act_as('gus');
select is(api.add_project_user(pg_temp.p('{"email": "mia@example.nl", "role": "viewer"}')) ->> 'user_id', '', 'a guest''s addition is an invitation');
select is((api.add_project_user(pg_temp.p('{"email": "unknown@example.org", "role": "viewer"}')) - array['id', 'added_at', 'email', 'name']), (select private.project_user_json(pg_temp.m('mia@example.nl'), tests.user('anna')) - array['id', 'added_at', 'email', 'name']),
  'which looks like that of an unknown address');
select is(pg_temp.notified(format('select api.add_project_user(%L)', pg_temp.p('{"email": "top@example.org", "role": "admin"}'))), '403 FORBIDDEN role', 'a manager adds nobody above their rank');
select is((select string_agg(u ->> 'name', ',') from jsonb_array_elements(api.search_users('{"q": "test"}')) u), 'Gus Test', 'search shows people of one''s own organizations');
select tests.act_as('anna');
select is((select string_agg(u ->> 'name', ',') from jsonb_array_elements(api.search_users(jsonb_build_object('q', q))) u), w, format('search for %L', q)) from (values
  ('TEST', 'Anna Test,Ben Test,Mia Test,Olga Test'), ('ben@', 'Ben Test'), ('%', null), ('_', null), ('gus', null), ('  ', null), (null, null)) v (q, w);
select is((api.search_users('{"q": "mia"}') -> 0) - 'id', '{"email": "mia@example.nl", "name": "Mia Test"}', 'in its own shape');
select tests.reset();
update public.memberships set status = 'inactive' where user_id = tests.user('mia') and organization_id = tests.org('anna');
select tests.act_as('anna');
select is(api.search_users('{"q": "mia"}'), '[]', 'deactivated people are not offered');

-- Roles in the four words: writing the shown role again leaves the stored one unchanged (5.4).
select is(api.update_project_user(jsonb_build_object('projectUserId', (pg_temp.m('gus@example.nl')).id, 'body', '{"role": "admin"}'::jsonb)) ->> 'role', 'admin', 'a manager who is to be admin');
select is((pg_temp.m('gus@example.nl')).role, 'manager', 'stays manager');
select is(api.update_access(pg_temp.p('{"role": "viewer"}', pg_temp.id('c@example.org'))) ->> 'role', 'viewer', 'an auditor who is to be viewer');
select is((pg_temp.m('c@example.org')).role, 'auditor', 'stays auditor');
select is(api.update_context_user(pg_temp.p('{"role": "editor"}', jsonb_build_object('userId', tests.user('gus')))) ->> 'role', 'editor', 'paths take the id of a user, too');
select is((pg_temp.m('gus@example.nl')).role, 'developer', 'an editor is stored as developer');
select is(pg_temp.notified(format('select api.update_project_user(%L)', jsonb_build_object('projectUserId', (pg_temp.m('gus@example.nl')).id, 'body', b::jsonb))), '400 VALIDATION_ERROR role', 'no role: ' || b)
from unnest(array['{}', '{"role": "manager"}', '{"role": null}', '{"role": 7}']) b;
select is(api.update_project_member(pg_temp.p('{"role": "manager", "notifyOnError": true, "email": "x", "name": 7}', pg_temp.id('gus@example.nl'))) ->> 'role', 'manager', 'members are changed in the five words');

-- ------------------------------------------------------------------------------------------------------------------------ the owner
select tests.reset();
delete from private.event_inbox;
delete from public.audit_log;
select tests.act_as('anna');
select is(api.update_project_user(jsonb_build_object('projectUserId', (pg_temp.m('gus@example.nl')).id, 'body', '{"role": "owner"}'::jsonb)) ->> 'role', 'owner', 'the owner hands the project over');
select is((select string_agg(concat_ws(' ', u ->> 'email', u ->> 'role'), ', ' order by u ->> 'email') from jsonb_array_elements(api.list_project_users(pg_temp.p())) u where u ->> 'email' ~ '^(anna|gus)'), 'anna@example.nl admin, gus@example.nl owner', 'and is admin from then on');
select is(pg_temp.notified(format('select api.update_project_user(%L)', jsonb_build_object('projectUserId', (pg_temp.m('gus@example.nl')).id, 'body', '{"role": "viewer"}'::jsonb))), '409 OWNER_REQUIRED role', 'who cannot take it back');
select is(api.get_project(pg_temp.p()) ->> 'owner', 'gus@example.nl', 'the project says so');
select tests.reset();
select is((select string_agg(i.type || ' ' || (i.data ->> 'email') || ' ' || (i.data ->> 'role'), ', ' order by i.data ->> 'email') from private.event_inbox i where i.type = 'project_user:update' and i.data ->> 'email' = 'anna@example.nl'),
  'project_user:update anna@example.nl admin', 'watchers hear of the former owner''s row');
select ok((select bool_or(i.data ->> 'role' = 'owner') from private.event_inbox i where i.type = 'project_user:update' and i.data ->> 'email' = 'gus@example.nl'), 'and of the new one''s');
select is((select string_agg(a.description, ',') from public.project_activity a where a.project_id = pg_temp.pid() and a.created_at >= (select max(b.created_at) from public.project_activity b where b.description like 'transferred%')), 'transferred ownership to Gus Test', 'the log tells one move');
select is((select string_agg(n.title, ',') from public.notifications n where n.user_id = tests.user('gus') and n.title like '%owner%'), 'You are now the owner of "Billing 1"', 'the new owner is told');
select is((select a.changes #>> '{0,field}' from public.audit_log a where a.event_type = 'context.updated'), 'userId', 'it is audited');
select is((select count(*)::integer from public.audit_log a where a.event_type = 'context.shared'), 0, 'as one move');

-- ----------------------------------------------------------------------------------------------------------- being removed, and being away
select tests.act_as('gus');
select api.update_project(pg_temp.p('{"starred": true}')) is not null;
select lives_ok(format('select api.update_project_user(%L)', jsonb_build_object('projectUserId', (pg_temp.m('anna@example.nl')).id, 'body', '{"role": "owner"}'::jsonb)), 'the new owner gives it back');
select tests.act_as('anna');
select is(api.remove_project_member(pg_temp.p(null, pg_temp.id('gus@example.nl'))), '{"success": true}', 'the owner removes a member');
select tests.reset();
select is((select i.data - 'projectId' - 'organizationId' from private.event_inbox i where i.type = 'removal' order by i.seq desc limit 1), jsonb_build_object('kind', 'member_removed', 'userId', tests.user('gus')), 'servers are told to check their sockets anew');
select is((select count(*)::integer from public.project_stars s where s.user_id = tests.user('gus')), 0, 'the star goes along');
select is((select string_agg(a.metadata ->> 'action', ',' order by a.created_at) from public.audit_log a where a.event_type = 'context.shared'), 'removed', 'it is audited');
select tests.act_as('gus');
select is(pg_temp.notified(format('select api.get_project(%L)', pg_temp.p())), '404 PROJECT_NOT_FOUND', 'who was removed finds nothing');
select is(pg_temp.notified(format('select api.accept_project_invitation(%L)', :'gus')), '404 INVITATION_NOT_FOUND', 'and does not come back by the old link');
select tests.act_as('anna');
select is((select u #>> '{user,name}' from jsonb_array_elements(api.list_project_activity(pg_temp.p(null, '{"type": "permission", "range": "all", "pageSize": 100}')) -> 'data') u where u ->> 'description' = 'joined as admin'), 'Gus Test',
  'the log keeps their name');

-- Deactivated in the organization: no access, not even as a guest of its projects.
select tests.reset();
update private.sessions set revoked_at = null, organization_id = tests.org('stan') where user_id = tests.user('mia');
insert into public.memberships (organization_id, user_id, role) values (tests.org('stan'), tests.user('mia'), 'member');
update tests.people set org_id = (select org_id from tests.people where name = 'stan') where name = 'mia';
select tests.act_as('mia');
select is((select count(*)::integer from public.projects), 0, 'a deactivated colleague who acts elsewhere sees no project');
select is(private.project_role(pg_temp.pid(2)), null, 'has no role there');
select is(pg_temp.notified(format('select api.get_project(%L)', pg_temp.p(null, '{}', 2))), '404 PROJECT_NOT_FOUND', 'and reads nothing');
select is(api.list_projects('{}') -> 'data', '[]', 'in no list');
select is((select count(*)::integer from public.project_activity), 0, 'nor in the log');
select tests.act_as('anna');
select is(pg_temp.notified(format('select api.update_project_user(%L)', jsonb_build_object('projectUserId', (pg_temp.m('mia@example.nl', 2)).id, 'body', '{"role": "owner"}'::jsonb))), '409 MEMBER_INACTIVE role', 'they are given no project');
select tests.reset();
select pg_temp.token('mia@example.nl') as mia \gset
select tests.act_as('mia');
select is(pg_temp.notified(format('select api.accept_project_invitation(%L)', :'mia')), '403 MEMBERSHIP_INACTIVE', 'and accept no invitation');
select tests.reset();
select private.viewer_classes(array[tests.user('mia')], array[tests.org('stan')], array[pg_temp.pid(2)]) as away \gset
update public.memberships set status = 'active' where user_id = tests.user('mia') and organization_id = tests.org('anna');
select isnt(private.viewer_classes(array[tests.user('mia')], array[tests.org('stan')], array[pg_temp.pid(2)]), :'away'::text[], 'sockets share no decision between the two states');
select tests.act_as('mia');
select is((select string_agg(p.name, ',') from public.projects p), 'Billing 2', 'after the reactivation everything is as it was');
select ok(api.accept_project_invitation(:'mia') ? 'acceptedAt', 'invitations, too');

-- Members follow their accounts.
select tests.reset();
insert into public.project_members (organization_id, project_id, email) values (tests.org('anna'), pg_temp.pid(2), 'new.mia@example.org');
update public.users set email = 'new.mia@example.org', first_name = 'Maria' where id = tests.user('mia');
select is((select string_agg(concat_ws(' ', m.email, m.name), ', ') from public.project_members m where m.project_id = pg_temp.pid(2) and (m.user_id = tests.user('mia') or m.email = 'new.mia@example.org')), 'new.mia@example.org Maria Test',
  'name and address follow the account, and an invitation to the new address is moot');
select tests.act_as('anna');
select is(pg_temp.notified(format('select api.add_project_user(%L)', pg_temp.p('{"email": "new.mia@example.org", "role": "viewer"}', '{}', 2))), '409 MEMBER_EXISTS email', 'a member is known under the new one');

-- ------------------------------------------------------------------------------------------------------------------------ activity
select tests.reset();
insert into public.project_activity (organization_id, project_id, type, user_id, user_name, user_email, description, created_at)
select tests.org('anna'), pg_temp.pid(2), case when n % 2 = 0 then 'view' else 'chat' end, case when n % 3 = 0 then tests.user('ben') else tests.user('anna') end, 'Snap', 'snap@example.org', 'did ' || n, now() - n * interval '1 day'
from generate_series(1, 120) n;
select tests.act_as('anna');
select is((select (a ->> 'total')::integer from api.list_project_activity(pg_temp.p(null, jsonb_build_object('range', r, 'type', 'view'), 2)) a), w, 'views of ' || coalesce(r, 'a week'))
from (values (null, 3), ('7d', 3), ('30d', 15), ('90d', 45), ('all', 60)) v (r, w);
select is((select jsonb_agg(d ->> 'description') from jsonb_array_elements(api.list_project_activity(pg_temp.p(null, '{"range": "all", "type": "chat", "page": "3", "pageSize": "2"}', 2)) -> 'data') d), '["did 9", "did 11"]', 'newest first, page by page');
select is(api.list_project_activity(pg_temp.p(null, '{"range": "all", "type": "chat", "page": 3, "pageSize": 2}', 2)) - 'data', '{"total": 60, "page": 3, "pageSize": 2, "hasMore": true}', 'with the place in it');
select is(api.list_project_activity(pg_temp.p(null, '{"range": "all", "type": "chat", "page": 90}', 2)) - 'data', '{"total": 60, "page": 90, "pageSize": 20, "hasMore": false}', 'beyond the end is an empty page');
select is(pg_temp.notified(format('select api.list_project_activity(%L)', pg_temp.p(null, q, 2))), w, q::text) from (values
  ('{"page": 0}'::jsonb, '400 VALIDATION_ERROR page'), ('{"pageSize": 101}', '400 VALIDATION_ERROR pageSize'), ('{"pageSize": 0}', '400 VALIDATION_ERROR pageSize'), ('{"range": "1d"}', '400 VALIDATION_ERROR range'),
  ('{"type": "gossip"}', '400 VALIDATION_ERROR type')) v (q, w);
select is((api.list_project_activity(pg_temp.p(null, '{"range": "30d", "type": "view", "pageSize": 1, "page": 3}', 2)) #> '{data,0,user}') - array['id', 'lastActive'], '{"name": "Ben Test", "email": "ben@example.nl", "role": "editor"}',
  'people are shown as they are now');
select is((select jsonb_agg(d ->> 'description') from jsonb_array_elements(api.list_context_activity(pg_temp.p(null, '{"type": "chat", "limit": "2", "offset": "4"}', 2))) d), '["did 9", "did 11"]', 'a context shows the same');
select is(jsonb_array_length(api.list_context_activity(pg_temp.p(null, q, 2))), w, 'context with ' || q::text) from (values ('{"type": "view"}'::jsonb, 60), ('{"type": "view", "range": "30d"}', 15), ('{"type": "view", "offset": 59}', 1)) v (q, w);
select is(pg_temp.notified(format('select api.list_context_activity(%L)', pg_temp.p(null, q, 2))), w, q::text) from (values
  ('{"limit": 0}'::jsonb, '400 VALIDATION_ERROR limit'), ('{"limit": 501}', '400 VALIDATION_ERROR limit'), ('{"offset": -1}', '400 VALIDATION_ERROR offset'), ('{"range": "1d"}', '400 VALIDATION_ERROR range')) v (q, w);
select tests.act_as('ben');
select is(jsonb_array_length(api.list_context_activity(pg_temp.p(null, '{}', 2))), 40, 'there, too, an editor reads their own entries');
select is((api.list_project_activity(pg_temp.p(null, '{"range": "all", "type": "all"}', 2)) ->> 'total')::integer, 40, 'an editor reads their own entries');
select tests.act_as('olga');
select is((api.list_project_activity(pg_temp.p(null, '{"range": "all", "type": "chat"}', 2)) ->> 'total')::integer, 60, 'an admin of the organization everything');
select tests.act_as('stan');
select is(pg_temp.notified(format('select api.list_project_activity(%L)', pg_temp.p(null, '{}', 2))), '404 PROJECT_NOT_FOUND', 'a stranger nothing');
select is(pg_temp.notified(format('select api.list_context_activity(%L)', pg_temp.p(null, '{}', 2))), '404 CONTEXT_NOT_FOUND', 'nor of its context');
select is(pg_temp.notified(format('select api.%s(%L)', o, pg_temp.p('{}', '{}', 2))), '404 ' || c, o || ' of a stranger') from (values ('list_project_members', 'PROJECT_NOT_FOUND'), ('list_context_users', 'CONTEXT_NOT_FOUND'),
  ('invite_context_user', 'CONTEXT_NOT_FOUND'), ('add_access', 'PROJECT_NOT_FOUND'), ('send_project_invitations', 'PROJECT_NOT_FOUND')) v (o, c);
select tests.act_anon();
select throws_ok(format('select api.%s(%L)', o, '{}'), '42501', null, 'anonymous and ' || o) from unnest(array['list_project_members', 'search_users', 'list_access', 'list_project_activity']) o;

select * from finish();
rollback;
