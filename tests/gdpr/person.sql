-- Rows of a person in tables that no <feature>.seed.sql fills, once for each organization that they are in. pg_temp.secret() stands wherever a
-- person's own words may be stored.
insert into private.account_tokens (user_id, purpose, email, token_hash, expires_at)
values (pg_temp.person(), 'magic_link', 'former.' || lower(pg_temp.tenant()) || '@example.nl', sha256(convert_to('link ' || pg_temp.tenant(), 'UTF8')), now() + interval '1 hour');
insert into private.agents (organization_id, project_id, user_id, name, socket, node_id)
values (pg_temp.org(), pg_temp.id('projectId'), pg_temp.person(), pg_temp.secret(), pg_temp.secret(), gen_random_uuid());
insert into private.analytics_events (organization_id, user_id, session_id, type, occurred_at, client_timestamp, properties, digest)
values (pg_temp.org(), pg_temp.person(), pg_temp.secret(), 'persona_detected', now(), now(), '{}', convert_to(pg_temp.secret(), 'UTF8'));
insert into private.announcements (organization_id, created_by, title, message, level, is_urgent, recipients) values (pg_temp.org(), pg_temp.person(), 'Hello', 'Hello', 'info', false, 0);
insert into private.audit_blocks (organization_id, block, first_at, first_id, last_at, last_id, entries)
values (pg_temp.org(), 1, now(), gen_random_uuid(), now(), gen_random_uuid(), 1);
insert into private.audit_counts (organization_id, user_id, kind, block, entries, upto) values (pg_temp.org(), pg_temp.person(), '', 1, 1, 1);
insert into private.audit_files (organization_id, schedule_id, run_at, file_name, storage_key, expires_at)
values (pg_temp.org(), pg_temp.id('scheduleId'), now(), 'audit.csv', 'audit/' || gen_random_uuid(), now() + interval '1 hour');
insert into private.backup_codes (user_id, position, code_hash) values (pg_temp.person(), 1, sha256('x')) on conflict do nothing;
insert into private.chat_questions (organization_id, user_id, question, answers, model, day) values (pg_temp.org(), pg_temp.person(), pg_temp.secret(), pg_temp.secret(), 'none', current_date);
insert into private.compressions (operation_id, organization_id, project_id, settings) values (pg_temp.id('operationId'), pg_temp.org(), pg_temp.id('projectId'), '{}');
insert into private.connection_states (state_hash, user_id, organization_id, provider, redirect_uri, origin, sealed_verifier)
values (sha256(convert_to(pg_temp.tenant(), 'UTF8')), pg_temp.person(), pg_temp.org(), 'github', pg_temp.secret(), pg_temp.secret(), 'v1.' || pg_temp.secret());
with t as (
  insert into private.provider_tokens (id, provider, sealed_token) values (gen_random_uuid(), 'okta', 'v1.sealed') returning id
), d as (
  insert into private.directory_syncs (project_id, organization_id, provider, token_id, connected_by) select pg_temp.id('projectId'), pg_temp.org(), 'okta', t.id, pg_temp.person() from t returning project_id
) insert into private.directory_members (member_id, project_id) select pg_temp.id('memberId'), project_id from d;
insert into private.enrichment_plans (run_id, file_id, hash, language)
select r.id, gen_random_uuid(), sha256('x'), 'go' from public.enrichment_runs r where r.project_id = pg_temp.id('projectId') limit 1;
insert into private.file_records (organization_id, project_id, path, hash, parse_schema, chunk_schema, parsed, facts)
values (pg_temp.org(), pg_temp.id('projectId'), pg_temp.secret(), sha256('x'), '1', '1', '', '');
with t as (
  insert into private.provider_tokens (id, provider, sealed_token) select gen_random_uuid(), 'gitlab', 'v1.sealed'
  where not exists (select from private.git_connections c where c.user_id = pg_temp.person()) returning id
) insert into private.git_connections (user_id, provider, token_id, account_id, username, avatar_url, scopes)
select pg_temp.person(), 'gitlab', id, pg_temp.secret(), pg_temp.secret(), pg_temp.secret(), array[pg_temp.secret()] from t;
insert into private.idempotency_keys (user_id, key, operation, request_hash, response)
values (pg_temp.person(), pg_temp.secret(), 'createProject', sha256('x'), jsonb_build_object('name', pg_temp.secret()));
-- A colleague's answer names the person.
insert into private.idempotency_keys (user_id, key, operation, request_hash, response)
select m.user_id, 'key ' || pg_temp.tenant(), 'inviteMember', sha256('x'), jsonb_build_object('email', u.email) from public.memberships m, public.users u
where m.organization_id = pg_temp.org() and m.user_id <> u.id and u.id = pg_temp.person() limit 1;
insert into private.identities (issuer, subject, user_id) values ('https://id.example', pg_temp.secret(), pg_temp.person());
insert into private.index_words (organization_id, run_id, word, chunks) values (pg_temp.org(), pg_temp.id('runId'), 'word', 1);
insert into private.integration_calls (integration_id, tool, client, session, is_ok, ms) values (pg_temp.id('integrationId'), 'read', 'client', 'session', true, 1);
insert into private.integration_logs (integration_id, level, message) values (pg_temp.id('integrationId'), 'info', 'Connected.');
insert into private.integration_secrets (webhook_id, sealed) values (pg_temp.id('webhookId'), 'v1.00000000.xyz');
insert into private.integration_states (state_hash, organization_id, user_id, provider, scopes, config, redirect_uri, sealed, expires_at)
values (sha256(convert_to(pg_temp.tenant(), 'UTF8')), pg_temp.org(), pg_temp.person(), 'slack', array[pg_temp.secret()], jsonb_build_object('a', pg_temp.secret()), pg_temp.secret(), pg_temp.secret(), now() + interval '1 hour');
insert into private.integration_revocations (organization_id, provider, sealed) values (pg_temp.org(), 'slack', 'v1.sealed');
insert into private.ip_warnings (subject_id, address) values (pg_temp.person(), '203.0.113.9'), (pg_temp.id('sessionId'), '203.0.113.9') on conflict do nothing;
insert into private.login_failures (email_digest) select private.email_digest(u.email) from public.users u where u.id = pg_temp.person() on conflict do nothing;
insert into private.login_history (user_id, session_id, method, status, reason, client_ip, user_agent, device)
values (pg_temp.person(), pg_temp.id('sessionId'), 'password', 'failed', pg_temp.secret(), '203.0.113.9', pg_temp.secret(), jsonb_build_object('browser', pg_temp.secret()));
-- Mails of the person, to the person, and to a colleague about the person.
insert into private.mails (organization_id, user_id, kind, to_address, subject, body_text, body_html, sent_at)
select pg_temp.org(), x.id, 'seed', x.address, 'About ' || u.first_name || ' ' || u.last_name, u.email || ' wrote', '<p>' || u.first_name || ' ' || u.last_name || '</p>', now()
from public.users u, lateral (
  select u.id, 'friend@example.nl' as address
  union all select m.user_id, u.email from public.memberships m where m.organization_id = pg_temp.org() and m.user_id <> u.id
  union all select m.user_id, 'colleague@example.nl' from public.memberships m where m.organization_id = pg_temp.org() and m.user_id <> u.id) x
where u.id = pg_temp.person();
insert into private.notification_keys (user_id, dedupe_key) values (pg_temp.person(), pg_temp.secret());
insert into private.notification_mails (user_id, organization_id, type, cadence, title, message, due_at)
select m.user_id, pg_temp.org(), 'team_activity', 'daily', u.first_name || ' ' || u.last_name || ' joined', u.email, now() from public.users u, public.memberships m
where u.id = pg_temp.person() and m.organization_id = pg_temp.org();
insert into private.outbox (organization_id, neighbor, kind, subject_id, series) values (pg_temp.org(), 'cxdb', 'turn', gen_random_uuid(), gen_random_uuid());
insert into private.outbox_losses (organization_id, neighbor) values (pg_temp.org(), 'cxdb') on conflict do nothing;
insert into private.outbox_references (neighbor, series, organization_id, reference) values ('cxdb', gen_random_uuid(), pg_temp.org(), 'r');
insert into private.password_history (user_id, password_hash) values (pg_temp.person(), pg_temp.secret());
insert into private.pictures (name, user_id, content_type, content)
values (encode(sha256(convert_to(pg_temp.tenant(), 'UTF8')), 'hex'), pg_temp.person(), 'image/png', convert_to(pg_temp.secret(), 'UTF8')) on conflict do nothing;
update public.project_members set invited_by = pg_temp.person() where id = pg_temp.id('memberId');
insert into private.project_invitations (member_id, token_hash, message) select m.id, sha256(convert_to(pg_temp.tenant(), 'UTF8')), pg_temp.secret() from public.project_members m
where m.id = pg_temp.id('memberId') on conflict (member_id) do update set message = excluded.message;
insert into private.project_webhook_secrets (project_id, sealed) values (pg_temp.id('projectId'), 'sealed') on conflict do nothing;
insert into private.provider_keys (organization_id, provider, sealed_key, last_four, set_by) values (pg_temp.org(), 'anthropic', 'v1.x', 'abcd', pg_temp.person());
insert into private.rate_counters (key, window_start, hits) values ('op|' || pg_temp.person(), date_trunc('hour', now()), 1) on conflict do nothing;
insert into private.realtime_presence (context_id, user_id, node_id) values (pg_temp.id('projectId'), pg_temp.person(), gen_random_uuid());
insert into private.realtime_sockets (id, node_id, user_id, organization_id) values (gen_random_uuid(), gen_random_uuid(), pg_temp.person(), pg_temp.org());
insert into private.realtime_statuses (context_id, user_id) values (pg_temp.id('projectId'), pg_temp.person());
insert into private.realtime_refusals (refused_at, socket_id, reason, ip_address) values (now(), gen_random_uuid(), 'no token', '203.0.113.9');
insert into private.reflex_deliveries (reflex_id, key, response) values (pg_temp.id('reflexId'), sha256('x'), jsonb_build_object('a', pg_temp.secret()));
insert into private.reflex_secrets (reflex_id, sealed) values (pg_temp.id('reflexId'), 'v1.00000000.xyz') on conflict do nothing;
insert into private.refresh_tokens (token_hash, session_id, expires_at) values (sha256(convert_to('refresh ' || pg_temp.tenant(), 'UTF8')), pg_temp.id('sessionId'), now() + interval '1 day');
insert into private.remembered_devices (user_id, token_hash, user_agent) values (pg_temp.person(), sha256(convert_to(pg_temp.tenant(), 'UTF8')), pg_temp.secret());
insert into private.reported_completions (user_id, project_id, run_id) values (pg_temp.person(), pg_temp.id('projectId'), pg_temp.id('runId'));
insert into private.repository_checks (user_id, url, provider, info) values (pg_temp.person(), pg_temp.secret(), 'github', jsonb_build_object('a', pg_temp.secret()));
insert into private.run_manifests (run_id, path, hash, origin, language, bytes, tokens) values (pg_temp.id('runId'), pg_temp.secret(), sha256('x'), 'file', 'go', 1, 1);
insert into private.sealed_answers (key_digest, request_digest, nonce, result) values (sha256(convert_to(pg_temp.tenant(), 'UTF8')), sha256('x'), '', jsonb_build_object('user_id', pg_temp.person()));
insert into private.second_factor_challenges (token_hash, user_id, organization_id, method, provider_key, expires_at)
values (sha256(convert_to(pg_temp.tenant(), 'UTF8')), pg_temp.person(), pg_temp.org(), 'password', null, now() + interval '1 hour');
insert into private.second_factor_setups (user_id, sealed_secret, expires_at) values (pg_temp.person(), 'v1.' || pg_temp.secret(), now() + interval '1 hour') on conflict do nothing;
insert into private.second_factors (user_id, sealed_secret, last_step) values (pg_temp.person(), 'v1.' || pg_temp.secret(), 1) on conflict do nothing;
insert into private.source_files (organization_id, project_id, source, path, key, verdict) values (pg_temp.org(), pg_temp.id('projectId'), 'file', pg_temp.secret(), '', 'binary');
insert into private.unit_leases (id, organization_id, period, day, units) values (gen_random_uuid(), pg_temp.org(), current_date, current_date, 1);
insert into public.skill_stars (user_id, skill_id) values (pg_temp.person(), pg_temp.id('skillId')) on conflict do nothing;
insert into public.skill_ratings (user_id, skill_id, rating) values (pg_temp.person(), pg_temp.id('skillId'), 5) on conflict do nothing;
update public.users set first_name = 'Wilhelmina', last_name = 'Zonneveld', company = pg_temp.secret() where id = pg_temp.person();
update public.team_invitations set message = pg_temp.secret() where id = pg_temp.id('invitationId');
insert into private.detached_payment_methods (id, customer_id, detached_at) values ('pm_detached_' || pg_temp.tenant(), 'cus_' || pg_temp.tenant(), now());
-- What names the person in texts of others and of the system.
select private.audit('team.role_changed', 'Wilhelmina Zonneveld <' || u.email || '> is admin now.', jsonb_build_object('userId', u.id, 'targetUser', 'Wilhelmina Zonneveld'),
  jsonb_build_array(jsonb_build_object('field', 'email', 'oldValue', u.email)), pg_temp.org(), m.user_id)
from public.users u, public.memberships m where u.id = pg_temp.person() and m.organization_id = pg_temp.org() and m.role = 'owner';
insert into public.notifications (user_id, organization_id, actor_user_id, type, title, message, data)
select m.user_id, pg_temp.org(), u.id, 'team_activity', 'Wilhelmina Zonneveld joined', u.email, jsonb_build_object('userId', u.id)
from public.users u, public.memberships m where u.id = pg_temp.person() and m.organization_id = pg_temp.org();
insert into public.project_activity (organization_id, project_id, type, user_id, user_name, user_email, description, metadata)
select pg_temp.org(), pg_temp.id('projectId'), 'permission', x.id, x.first_name || ' ' || x.last_name, x.email, 'promoted Wilhelmina Zonneveld', jsonb_build_object('email', u.email)
from public.users u, public.users x where u.id = pg_temp.person() and x.id in (select m.user_id from public.memberships m where m.organization_id = pg_temp.org());
insert into public.context_changelog (organization_id, project_id, type, user_id, user_name, user_email, description)
select pg_temp.org(), pg_temp.id('projectId'), 'access', u.id, 'Wilhelmina Zonneveld', u.email, u.email || ' has access' from public.users u where u.id = pg_temp.person();
update public.audit_filters set filters = jsonb_build_object('userId', pg_temp.person()) where organization_id = pg_temp.org();
update public.webhook_deliveries set response_body = (select u.email from public.users u where u.id = pg_temp.person()),
  payload = payload || jsonb_build_object('by', pg_temp.person()) where organization_id = pg_temp.org();
insert into jobs.dead_letters (job_id, job_type, queue, args, error_count, last_error, created_at)
select gen_random_uuid()::text, 'accounts.link', 'default', jsonb_build_object('email', u.email), 1, 'no mail server for ' || u.email, now() from public.users u where u.id = pg_temp.person();
select private.enqueue('accounts.link', jsonb_build_object('email', u.email, 'userId', u.id), now() + interval '1 day', 'accounts.link:' || u.id || pg_temp.tenant()) from public.users u where u.id = pg_temp.person();
select private.emit('org:' || pg_temp.org(), 'member', jsonb_build_object('id', u.id, 'email', u.email, 'name', 'Wilhelmina Zonneveld'), pg_temp.org(), null, 'users', 'member', u.id, null, array[u.id])
from public.users u where u.id = pg_temp.person();
insert into private.event_rooms (room, removed_id) values ('user:' || pg_temp.person(), 1) on conflict do nothing;
update public.integrations set connected_by = pg_temp.person() where organization_id = pg_temp.org();
update public.connectors set created_by = pg_temp.person() where organization_id = pg_temp.org();
update public.webhooks set created_by = pg_temp.person() where organization_id = pg_temp.org();
update public.ip_allow_list_entries set created_by = pg_temp.person() where organization_id = pg_temp.org();
update public.context_ingestions set created_by = pg_temp.person() where organization_id = pg_temp.org();
update public.context_operations set requested_by = pg_temp.person() where organization_id = pg_temp.org();
update public.enrichment_runs set started_by = pg_temp.person() where organization_id = pg_temp.org();
update public.ingestion_runs set started_by = pg_temp.person() where organization_id = pg_temp.org();
update public.skill_playbooks set tags = jsonb_build_array(pg_temp.secret()) where skill_id = pg_temp.id('skillId');
