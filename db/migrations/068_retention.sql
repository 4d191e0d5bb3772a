-- How long rows are kept (contract 50, section 9.4): one row a rule. private.run_retention applies them.
create table private.retention_rules (
  -- The table, and a part of it where several rules are about one table.
  name text primary key,
  relation text not null,
  action text not null default 'delete',
  -- What "empty" sets to null.
  columns text[],
  -- The age of a row is counted from this column.
  cutoff_column text not null,
  keep interval not null,
  -- An installation's value, in days, that may lengthen it.
  setting text,
  -- A column of public.plans, in days, that lengthens it by the plan of the row's organization.
  plan_column text,
  -- Which rows of the table t, in SQL; $1 is the cutoff. Written by migrations only.
  condition text,
  batch integer not null default 2000,
  every interval not null default interval '1 day',
  run_at timestamptz not null default now(),
  last_run_at timestamptz,
  constraint retention_rules_name_check check (name ~ '^[a-z][a-z0-9_]*(\.[a-z_]+)?$'),
  constraint retention_rules_relation_check check (relation ~ '^(public|private)\.[a-z][a-z0-9_]*$' and split_part(relation, '.', 2) = split_part(name, '.', 1)),
  constraint retention_rules_action_check check (action in ('delete', 'empty') and (action = 'empty') = (columns is not null)),
  constraint retention_rules_keep_check check (keep >= interval '0'),
  constraint retention_rules_batch_check check (batch between 1 and 10000),
  constraint retention_rules_every_check check (every between interval '1 minute' and interval '1 day')
);
alter table private.retention_rules enable row level security;
alter table private.retention_rules force row level security;
create index retention_rules_run_at_idx on private.retention_rules (run_at);
comment on table private.retention_rules is 'How long rows are kept, one row a rule; private.run_retention applies those that are due.';

-- What a person could read in a client is gone on the minute or soon after; what only takes up room goes at night.
insert into private.retention_rules (name, relation, cutoff_column, keep, condition, every) values
  ('account_tokens', 'private.account_tokens', 'expires_at', '0', 't.purpose <> ''verify_email''', '10 minutes'),
  -- An address that waits for its confirmation is found in its newest link.
  ('account_tokens.addresses', 'private.account_tokens', 'expires_at', '30 days', 't.purpose = ''verify_email''', '1 day'),
  ('analytics_events', 'private.analytics_events', 'received_at', '13 months', 't.session_id is null', '1 day'),
  ('announcements', 'private.announcements', 'finished_at', '180 days', null, '1 day'),
  -- The audit trail keeps names of keys for as long as the plan says; the rows themselves are needed for sockets and the last counts only.
  ('api_keys', 'public.api_keys', 'revoked_at', '90 days', null, '1 day'),
  -- A run that is unfinished after a day will never finish: its job has used up its attempts.
  ('audit_files', 'private.audit_files', 'expires_at', '0', null, '10 minutes'),
  ('chat_attachments', 'public.chat_attachments', 'created_at', '24 hours', 't.message_id is null', '10 minutes'),
  ('context_changelog', 'public.context_changelog', 'created_at', '400 days', null, '1 day'),
  ('context_operations', 'public.context_operations', 'finished_at', '7 days', null, '1 day'),
  -- Parts of a run go with it.
  ('enrichment_runs', 'public.enrichment_runs', 'finished_at', '30 days', 't.parent_id is null', '1 day'),
  ('idempotency_keys', 'private.idempotency_keys', 'created_at', '24 hours', null, '10 minutes'),
  ('integration_calls', 'private.integration_calls', 'created_at', '30 days', null, '1 day'),
  ('integration_logs', 'private.integration_logs', 'created_at', '30 days', null, '1 day'),
  ('integration_states', 'private.integration_states', 'expires_at', '1 hour', null, '1 hour'),
  ('ip_warnings', 'private.ip_warnings', 'created_at', '90 days', null, '1 day'),
  ('login_failures', 'private.login_failures', 'updated_at', '1 hour', null, '10 minutes'),
  ('login_history', 'private.login_history', 'created_at', '90 days', null, '1 day'),
  -- Messages, sent or not, hold addresses.
  ('mails', 'private.mails', 'created_at', '30 days', null, '1 hour'),
  ('notification_keys', 'private.notification_keys', 'created_at', '180 days', null, '1 day'),
  ('notification_mails', 'private.notification_mails', 'done_at', '30 days', null, '1 day'),
  ('notifications', 'public.notifications', 'created_at', '90 days', 't.read_at is not null', '1 day'),
  ('notifications.unread', 'public.notifications', 'created_at', '180 days', 't.read_at is null', '1 day'),
  ('oauth_states', 'private.oauth_states', 'expires_at', '0', null, '10 minutes'),
  ('project_activity', 'public.project_activity', 'created_at', '400 days', null, '1 day'),
  -- An accepted one keeps its token for the person who opens the link again.
  ('project_invitations', 'private.project_invitations', 'sent_at', '90 days',
    'exists (select from public.project_members m where m.id = t.member_id and m.accepted_at < $1)', '1 day'),
  ('rate_counters', 'private.rate_counters', 'window_start', '2 hours', null, '10 minutes'),
  ('reflex_deliveries', 'private.reflex_deliveries', 'created_at', '24 hours', null, '10 minutes'),
  ('refresh_tokens', 'private.refresh_tokens', 'expires_at', '0', null, '1 day'),
  -- A stolen token that is presented until then ends its session; a later one is merely unknown.
  ('refresh_tokens.used', 'private.refresh_tokens', 'used_at', '7 days', null, '1 day'),
  ('remembered_devices', 'private.remembered_devices', 'created_at', '365 days', null, '1 day'),
  ('sealed_answers', 'private.sealed_answers', 'created_at', '24 hours', null, '10 minutes'),
  ('second_factor_challenges', 'private.second_factor_challenges', 'expires_at', '0', null, '10 minutes'),
  ('second_factor_setups', 'private.second_factor_setups', 'expires_at', '0', null, '10 minutes'),
  -- Keycloak repeats the name of a session as long as the session lives there. The ended session must be kept that long.
  ('sessions', 'private.sessions', 'revoked_at', '30 days', 't.provider is distinct from ''keycloak''', '1 day'),
  ('sessions.expired', 'private.sessions', 'expires_at', '30 days', null, '1 day'),
  ('sessions.idle', 'private.sessions', 'idle_expires_at', '30 days', null, '1 day'),
  ('staged_files', 'public.staged_files', 'created_at', '24 hours', null, '10 minutes'),
  ('support_conversations', 'public.support_conversations', 'expires_at', '0', null, '1 minute'),
  ('team_invitations', 'public.team_invitations', 'updated_at', '90 days', 't.status <> ''pending''', '1 day'),
  ('usage_counters', 'public.usage_counters', 'period', '13 months', 't.metric in (''api_calls'', ''ingestions'') and t.period < date_trunc(''month'', $1 at time zone ''UTC'')', '1 day'),
  ('usage_counters.days', 'public.usage_counters', 'period', '30 days', 't.metric = ''oracle_queries''', '1 day'),
  -- The newest day of a gauge is its value until the next change. The counter of a gauge has no period that ends.
  ('usage_days', 'public.usage_days', 'day', '30 days',
    't.metric <> ''storage'' or exists (select from public.usage_days n where n.organization_id = t.organization_id and n.metric = t.metric and n.day > t.day)', '1 day'),
  ('vies_answers', 'private.vies_answers', 'answered_at', '24 hours', null, '10 minutes'),
  ('webhook_deliveries', 'public.webhook_deliveries', 'created_at', '30 days', 't.status <> ''pending''', '1 day');
-- The rest of the event goes by the trigger of its table.
insert into private.retention_rules (name, relation, action, columns, cutoff_column, keep) values
  ('analytics_events.people', 'private.analytics_events', 'empty', '{session_id}', 'received_at', '30 days');
insert into private.retention_rules (name, relation, action, columns, cutoff_column, keep, condition) values
  ('skill_executions.texts', 'public.skill_executions', 'empty', '{input,output,error_message}', 'executed_at', '30 days', 't.completed_at is not null');
insert into private.retention_rules (name, relation, cutoff_column, keep, setting, condition) values
  ('skill_executions', 'public.skill_executions', 'executed_at', '90 days', 'execution_days', 't.completed_at is not null');
-- Seven days after the plan stopped showing the entry.
insert into private.retention_rules (name, relation, cutoff_column, keep, plan_column) values
  ('audit_log', 'public.audit_log', 'created_at', '7 days', 'audit_retention_days');
-- A chat takes its messages along.
insert into private.retention_rules (name, relation, cutoff_column, keep, condition, batch) values
  ('chat_sessions', 'public.chat_sessions', 'last_activity', '90 days', 't.stored_at < $1', 200);

-- Tables of payments, exports and erasure.
insert into private.retention_rules (name, relation, action, columns, cutoff_column, keep, condition, every) values
  ('stripe_events.payloads', 'private.stripe_events', 'empty', '{payload}', 'received_at', '30 days', null, '1 day'),
  ('stripe_events', 'private.stripe_events', 'delete', null, 'received_at', '400 days', null, '1 day'),
  -- What events may name.
  ('detached_payment_methods', 'private.detached_payment_methods', 'delete', null, 'detached_at', '400 days', null, '1 day'),
  ('checkout_sessions', 'private.checkout_sessions', 'delete', null, 'created_at', '400 days', null, '1 day'),
  ('stripe_calls', 'private.stripe_calls', 'delete', null, 'settled_at', '90 days', null, '1 day'),
  -- After the end of the year of issue, as the tax office counts it.
  ('invoices', 'public.invoices', 'delete', null, 'created_at', '7 years',
    't.created_at < date_trunc(''year'', $1 at time zone ''Europe/Amsterdam'') at time zone ''Europe/Amsterdam''', '1 day'),
  ('data_exports', 'private.data_exports', 'delete', null, 'requested_at', '90 days', 't.status in (''expired'', ''failed'')', '1 day'),
  ('tombstones', 'private.tombstones', 'delete', null, 'erased_at', '30 days', null, '1 day'),
  ('vat_evidence', 'private.vat_evidence', 'delete', null, 'kept_until', '0', null, '1 day'),
  ('erasures', 'private.erasures', 'delete', null, 'kept_until', '0', null, '1 day');
create index invoices_created_at_idx on public.invoices (created_at);
create index checkout_sessions_created_at_idx on private.checkout_sessions (created_at);

-- A batch takes the oldest rows, so each rule has an ordered index. The summaries of ranges of pages (BRIN) found the old rows, but every
-- batch read the pages again that the batches before had emptied.
drop index public.skill_executions_executed_at_idx, public.notifications_created_at_idx, public.webhook_deliveries_created_at_idx,
  private.notification_keys_created_at_idx, private.integration_logs_created_at_idx, private.integration_calls_created_at_idx;
create index skill_executions_executed_at_idx on public.skill_executions (executed_at) where completed_at is not null;
create index skill_executions_texts_idx on public.skill_executions (executed_at)
  where completed_at is not null and (input is not null or output is not null or error_message is not null);
create index notifications_created_at_idx on public.notifications (created_at);
create index webhook_deliveries_created_at_idx on public.webhook_deliveries (created_at);
create index notification_keys_created_at_idx on private.notification_keys (created_at);
create index integration_logs_created_at_idx on private.integration_logs (created_at);
create index integration_calls_created_at_idx on private.integration_calls (created_at);
create index announcements_finished_at_idx on private.announcements (finished_at) where finished_at is not null;
create index context_changelog_created_at_idx on public.context_changelog (created_at);
create index project_invitations_sent_at_idx on private.project_invitations (sent_at);
create index refresh_tokens_used_at_idx on private.refresh_tokens (used_at) where used_at is not null;
create index remembered_devices_created_at_idx on private.remembered_devices (created_at);
create index sessions_expires_at_idx on private.sessions (expires_at);
create index sessions_revoked_at_idx on private.sessions (revoked_at) where revoked_at is not null;
create index usage_counters_period_idx on public.usage_counters (period);
create index usage_days_day_idx on public.usage_days (day);

-- What the rules replace. The schedules that stay do more than delete.
delete from private.schedules where name in ('core.prune', 'uploads.prune', 'mails.prune', 'executions.prune', 'notifications.prune', 'audit.prune',
  'audit.prune_files', 'reflexes.prune', 'integrations.prune', 'enrichments.prune', 'usage.prune', 'support.prune', 'analytics.prune');
update private.schedules set name = case name when 'activity.prune' then 'activity.days' else 'chats.sweep' end where name in ('activity.prune', 'chats.prune');
insert into private.schedules (name, every) values ('retention.run', interval '1 minute'), ('sessions.end', interval '10 minutes');
drop function if exists private.prune_core(timestamptz), private.prune_identity(timestamptz), private.prune_keys(timestamptz), private.prune_operations(timestamptz),
  private.prune_billing(timestamptz), private.prune_security(timestamptz), private.prune_staged_files(timestamptz), private.prune_activity(timestamptz), private.prune_mails(timestamptz),
  private.prune_executions(timestamptz), private.execution_days(), private.prune_notifications(timestamptz), private.prune_audit(timestamptz), private.prune_audit_files(timestamptz),
  private.prune_reflexes(timestamptz), private.prune_integrations(timestamptz), private.prune_enrichments(timestamptz), private.prune_usage(timestamptz),
  private.prune_support(timestamptz), private.prune_analytics(timestamptz, integer), private.prune_chats(timestamptz);

---- create above / drop below ----

delete from private.schedules where name in ('retention.run', 'sessions.end');
update private.schedules set name = case name when 'activity.days' then 'activity.prune' else 'chats.prune' end where name in ('activity.days', 'chats.sweep');
insert into private.schedules (name, every) values ('core.prune', interval '10 minutes'), ('uploads.prune', interval '10 minutes'), ('mails.prune', interval '1 hour'),
  ('executions.prune', interval '24 hours'), ('notifications.prune', interval '1 hour'), ('audit.prune', interval '1 day'), ('audit.prune_files', interval '10 minutes'),
  ('reflexes.prune', interval '10 minutes'), ('integrations.prune', interval '1 hour'), ('enrichments.prune', interval '1 hour'), ('usage.prune', interval '1 day'),
  ('support.prune', interval '1 minute'), ('analytics.prune', interval '1 hour');
drop index public.invoices_created_at_idx, private.checkout_sessions_created_at_idx;
drop index public.skill_executions_texts_idx, private.announcements_finished_at_idx, public.context_changelog_created_at_idx, private.project_invitations_sent_at_idx,
  private.refresh_tokens_used_at_idx, private.remembered_devices_created_at_idx, private.sessions_expires_at_idx, private.sessions_revoked_at_idx,
  public.usage_counters_period_idx, public.usage_days_day_idx, public.skill_executions_executed_at_idx, public.notifications_created_at_idx,
  public.webhook_deliveries_created_at_idx, private.notification_keys_created_at_idx, private.integration_logs_created_at_idx, private.integration_calls_created_at_idx;
create index skill_executions_executed_at_idx on public.skill_executions using brin (executed_at);
create index notifications_created_at_idx on public.notifications using brin (created_at);
create index webhook_deliveries_created_at_idx on public.webhook_deliveries using brin (created_at);
create index notification_keys_created_at_idx on private.notification_keys using brin (created_at);
create index integration_logs_created_at_idx on private.integration_logs using brin (created_at);
create index integration_calls_created_at_idx on private.integration_calls using brin (created_at);
drop table private.retention_rules;
