-- Which rows are a person's data, and what is given away of them. One row a table: B26 counts by it, B27 answers by it, the files are written
-- by it. Columns are named one by one, so a new column is in no export until it is listed here; tests/dataexports fails until each column
-- is in columns, in computed, or in left_out. Tables that are no person's data stand in docs/data-exports.md.
--
-- condition, and the expressions of computed, name the table t, and the person $1. Never here: hashes, secrets, tokens, storage keys, names and
-- addresses of others.

create or replace function private.created_projects(p_user_id uuid) returns setof uuid
language sql stable
as $$ select p.id from public.projects p where p.user_id = p_user_id $$;
comment on function private.created_projects is 'The projects that a person created and still has.';

create or replace function private.owned_organizations(p_user_id uuid) returns setof uuid
language sql stable
as $$ select m.organization_id from public.memberships m where m.user_id = p_user_id and m.role = 'owner' and m.status = 'active' $$;
comment on function private.owned_organizations is 'The organizations that a person owns.';

create or replace function private.own_address(p_user_id uuid) returns text
language sql stable
return (select u.email from public.users u where u.id = p_user_id);
comment on function private.own_address is 'The address of an account.';

-- A text that the product composed, without the addresses of others. The pattern ends at quotes, so JSON stays JSON.
create or replace function private.without_addresses(p_text text, p_own text) returns text
language sql immutable parallel safe
return replace(regexp_replace(replace(p_text, p_own, E'\x01'), '[^\s@"<>(),;:]+@[^\s@"<>(),;:]+\.[a-z]{2,}', '(address)', 'gi'), E'\x01', p_own);
comment on function private.without_addresses is 'The text with (address) in place of each e-mail address except one''s own.';

create or replace function private.members_named(p jsonb, p_names text[]) returns jsonb
language sql stable parallel safe
return (select jsonb_object_agg(e.key, e.value) from jsonb_each(p) e where e.key = any (p_names));
comment on function private.members_named is 'Only these members of an object; null where it has none of them.';

create or replace function private.data_catalogue()
returns table (place bigint, category text, name text, label text, description text, condition text, keys text, columns text, computed jsonb, left_out text)
language sql stable
as $catalogue$
  select row_number() over (), c.*
  from (values
    -- ------------------------------------------------------------------------------------------------------------------- profile
    ('profile', 'public.users', 'Account', 'Your account and profile.', 't.id = $1', 'id',
      'id email first_name last_name avatar_url picture_url use_gravatar timezone company job_role default_organization_id is_platform_admin
        email_verified_at two_factor_enabled_at password_changed_at created_at updated_at', '{}'::jsonb, ''),
    ('profile', 'private.account_tokens', 'Links', 'Links that were mailed to confirm an address, set a password or sign in.', 't.user_id = $1', 'id',
      'id purpose email created_at expires_at used_at', '{}', 'user_id token_hash'),
    ('profile', 'private.identities', 'Linked identities', 'Identity providers that you sign in with.', 't.user_id = $1', 'issuer subject',
      'issuer created_at', '{}', 'subject user_id'),
    ('profile', 'private.remembered_devices', 'Remembered devices', 'Devices that need no second factor.', 't.user_id = $1', 'id',
      'id user_agent created_at last_used_at', '{}', 'user_id token_hash'),
    ('profile', 'private.pictures', 'Picture', 'Your picture; the file is beside this one.', 't.user_id = $1', 'name', 'content_type created_at', '{}',
      'name user_id content'),
    ('profile', 'public.organizations', 'Organizations', 'Organizations that you own.', 't.id in (select private.owned_organizations($1))', 'id',
      'id name created_at updated_at', '{}', ''),
    ('profile', 'public.memberships', 'Memberships', 'Organizations that you are a member of, and your role there.', 't.user_id = $1', 'id',
      'id organization_id user_id role status joined_at last_active_at created_at updated_at', '{}', 'is_guarded'),
    ('profile', 'public.team_invitations', 'Invitations', 'Invitations to organizations that you sent or got.',
      't.invited_by = $1 or t.email = (select private.own_address($1))', 'id', 'id organization_id role status invited_by expires_at created_at updated_at', '{}',
      'email message token_hash'),
    ('profile', 'public.subscriptions', 'Subscription', 'Subscriptions of organizations that you own.', 't.organization_id in (select private.owned_organizations($1))',
      'id', 'id organization_id plan_id status billing_interval current_period_start current_period_end cancel_at_period_end trial_end pending_plan_id
        pending_billing_interval created_at updated_at', '{}', 'overrides stripe_subscription_id stripe_customer_id'),
    ('profile', 'public.billing_details', 'Billing details', 'Billing details of organizations that you own.',
      't.organization_id in (select private.owned_organizations($1))', 'organization_id',
      'organization_id company_name btw_number kvk_number address_line1 address_line2 city postal_code country btw_status verified_at consultation_number
        registered_name registered_address updated_at', '{}', 'btw_definite asked_at'),
    ('profile', 'public.payment_methods', 'Payment methods', 'Payment methods of organizations that you own.',
      't.organization_id in (select private.owned_organizations($1))', 'id',
      'id organization_id type is_default card_brand card_last4 card_exp_month card_exp_year sepa_bank_code sepa_last4 sepa_country created_at updated_at', '{}',
      'stripe_payment_method_id stripe_customer_id fingerprint state_key'),
    ('profile', 'public.invoices', 'Invoices', 'Invoices of organizations that you own.', 't.organization_id in (select private.owned_organizations($1))', 'id',
      'id organization_id number status currency net_amount vat_amount total_amount amount_due amount_paid refunded_amount vat_rate vat_treatment customer_country
        description period_start period_end due_at paid_at finalized_at snapshot created_at updated_at', '{}',
      'stripe_invoice_id stripe_customer_id stripe_subscription_id invoice_url pdf_url attempt_count first_failed_at next_attempt_at payment_intent_id charge_id
        state_key'),
    ('profile', 'private.vies_answers', 'VAT checks', 'Answers of the VAT register about organizations that you own.',
      't.organization_id in (select private.owned_organizations($1))', 'organization_id number',
      'organization_id number is_valid name address consultation_number answered_at', '{}', ''),
    -- ------------------------------------------------------------------------------------------------------------------ settings
    ('settings', 'public.user_settings', 'Settings', 'Your settings.', 't.user_id = $1', 'id', 'id key value created_at updated_at', '{}', 'user_id'),
    ('settings', 'public.notification_preferences', 'Notification preferences', 'What you want to be told, where and when.', 't.user_id = $1', 'user_id',
      'email_product_updates email_security_alerts email_billing_reminders email_weekly_digest in_app_new_leads in_app_task_completions
        in_app_system_updates in_app_context_updates in_app_team_activity frequency digest_time digest_day quiet_enabled quiet_start quiet_end quiet_days
        quiet_custom_days summary_due_at created_at updated_at', '{}', 'user_id'),
    ('settings', 'public.user_personas', 'Persona', 'Which options the client shows you.', 't.user_id = $1', 'user_id',
      'override show_all_options signals updated_at', '{}', 'user_id'),
    ('settings', 'public.security_policies', 'Security policies', 'Rules of organizations that you own.',
      't.organization_id in (select private.owned_organizations($1))', 'organization_id',
      'organization_id min_length require_uppercase require_lowercase require_number require_symbol expiry_days prevent_reuse session_minutes idle_minutes
        max_sessions remember_days require_second_factor sso_enforced allow_password allow_magic_link ip_mode ip_admin_bypass updated_at', '{}', ''),
    ('settings', 'public.ip_allow_list_entries', 'Allowed addresses', 'Addresses that you allowed.', 't.created_by = $1', 'id',
      'id organization_id name network is_range is_active created_at', '{}', 'created_by'),
    ('settings', 'public.audit_filters', 'Saved filters', 'Filters of the audit log that you saved.', 't.user_id = $1', 'id',
      'id organization_id name is_shared created_at',
      '{"filters": "private.members_named(t.filters, ''{eventCategory,eventTypes,dateFrom,dateTo}'')"}', 'user_id'),
    ('settings', 'public.audit_schedules', 'Scheduled exports', 'Exports of the audit log that you repeat.', 't.user_id = $1', 'id',
      'id organization_id format schedule next_run_at created_at',
      '{"filters": "private.members_named(t.filters, ''{eventCategory,eventTypes,dateFrom,dateTo}'')"}', 'user_id'),
    ('settings', 'public.context_source_selection', 'Selected sources', 'Files that you chose as sources of questions.', 't.user_id = $1', 'file_id',
      'organization_id project_id file_id created_at', '{}', 'user_id'),
    -- ------------------------------------------------------------------------------------------------------------------ activity
    ('activity', 'private.login_history', 'Sign-ins', 'Your sign-ins, and attempts to sign in.', 't.user_id = $1', 'created_at id',
      'id session_id method status reason client_ip user_agent device created_at', '{}', 'user_id'),
    ('activity', 'private.sessions', 'Sessions', 'Your sessions.', 't.user_id = $1', 'id',
      'id organization_id method provider user_agent client_ip device created_at last_active_at signed_in_at signed_in_by authenticated_at expires_at idle_expires_at
        revoked_at revoked_reason', '{}', 'user_id issuer external_key successor_id provider_issuer provider_key'),
    ('activity', 'public.audit_log', 'Audit entries', 'Entries of the audit log about what you did.', 't.user_id = $1', 'created_at id',
      'id organization_id event_type event_category ip_address session_id request_id created_at',
      $computed${"description": "case when t.event_type !~ '^(team\\.|context\\.shared)' then private.without_addresses(t.description, (select private.own_address($1))) end",
        "metadata": "case when t.event_type ~ '^(team\\.|context\\.shared)' then private.members_named(t.metadata, '{userId,memberId,invitationId,contextId,role,oldRole,newRole,action,permission}') else private.without_addresses(t.metadata::text, (select private.own_address($1)))::jsonb end",
        "changes": "private.without_addresses(t.changes::text, (select private.own_address($1)))::jsonb"}$computed$, 'user_id is_erased'),
    ('activity', 'public.notifications', 'Notifications', 'What you were told.', 't.user_id = $1', 'created_at id',
      'id organization_id project_id actor_user_id type is_urgent read_at due_at told_at created_at',
      $computed${"title": "case when t.type <> 'team_activity' and coalesce(t.actor_user_id, $1) = $1 then private.without_addresses(t.title, (select private.own_address($1))) end",
        "message": "case when t.type <> 'team_activity' and coalesce(t.actor_user_id, $1) = $1 then private.without_addresses(t.message, (select private.own_address($1))) end",
        "data": "case when t.type <> 'team_activity' and coalesce(t.actor_user_id, $1) = $1 then private.without_addresses(t.data::text, (select private.own_address($1)))::jsonb end",
        "link": "case when t.type <> 'team_activity' and t.link !~ 'token=' then t.link end"}$computed$, 'user_id'),
    ('activity', 'private.mails', 'Mails', 'Mails that were sent to you.', 't.user_id = $1', 'id', 'id organization_id kind created_at sent_at', '{}',
      'user_id to_address subject body_text body_html attempts unsubscribe_url'),
    ('activity', 'public.project_activity', 'Activity', 'What you did in contexts.', 't.user_id = $1', 'created_at id', 'id organization_id project_id type created_at',
      $computed${"description": "case when t.type <> 'permission' then private.without_addresses(t.description, (select private.own_address($1))) end",
        "metadata": "case when t.type = 'permission' then private.members_named(t.metadata, '{memberId,userId,role,oldRole,newRole}') else private.without_addresses(t.metadata::text, (select private.own_address($1)))::jsonb end"}$computed$,
      'user_id user_name user_email once_key'),
    ('activity', 'public.context_changelog', 'Changelog', 'Changes that you made to contexts.', 't.user_id = $1', 'created_at id',
      'id organization_id project_id type number files_added files_removed files_modified created_at',
      $computed${"description": "case when t.type <> 'access' then private.without_addresses(t.description, (select private.own_address($1))) end"}$computed$,
      'user_id user_name user_email'),
    ('activity', 'public.usage_counters', 'Usage', 'Units that organizations you own have used in a period.', 't.organization_id in (select private.owned_organizations($1))',
      'organization_id metric period slot', 'organization_id metric period used updated_at', '{}', 'slot is_alone granted granted_under day day_value is_metered'),
    ('activity', 'public.usage_days', 'Usage by day', 'Units that organizations you own used on a day.', 't.organization_id in (select private.owned_organizations($1))',
      'organization_id metric day', 'organization_id metric day value', '{}', ''),
    ('activity', 'private.analytics_events', 'Analytics', 'Events of the screens that you used.', 't.user_id = $1', 'id',
      'id organization_id session_id type persona occurred_at client_timestamp properties received_at', '{}', 'user_id digest'),
    ('activity', 'public.skill_executions', 'Executions', 'Runs of skills, with their inputs and outputs.', 't.user_id = $1', 'executed_at id',
      'id organization_id skill_id execution_type reference_id input output prompt_tokens completion_tokens duration_ms cost_cents model model_called status
        error_message error_code executed_at started_at completed_at', '{}', 'user_id job_id lease_token lease_expires_at takes is_streamed has_streamed'),
    ('activity', 'private.data_exports', 'Exports', 'Exports of your data.', 't.user_id = $1', 'id',
      'id organization_id type categories status requested_at completed_at expires_at file_size', '{}', 'user_id storage_key attempts lease_owner lease_expires_at'),
    -- ------------------------------------------------------------------------------------------------------------------ contexts
    ('contexts', 'public.projects', 'Projects', 'Projects that you created; a context is a project.', 't.user_id = $1', 'id',
      'id organization_id user_id name description type status privacy chunking_strategy include_metadata anonymize_secrets icon label color preview_url
        archived total_repos uploaded_files source_count accepted_members total_files original_tokens optimized_tokens ingestion_time_seconds created_at
        updated_at', '{}', 'root_files text_sources has_manual_content'),
    ('contexts', 'public.project_members', 'Project memberships', 'Projects that you are a member of, and your role there.',
      't.user_id = $1 or t.user_id is null and t.email = (select private.own_address($1))', 'id',
      'id organization_id project_id role notify_on_ingestion notify_on_error notify_on_team_changes notification_level invited_by invited_at accepted_at
        last_active_at created_at updated_at', '{}', 'user_id email name avatar_url'),
    ('contexts', 'public.project_settings', 'Project settings', 'Settings of projects that you created.', 't.project_id in (select private.created_projects($1))',
      'project_id', 'project_id organization_id webhook_url metadata_options output_format embedding_model pattern_filters processing_options file_filters
        default_notification_level persona custom_settings created_at updated_at', '{}', ''),
    ('contexts', 'public.project_repositories', 'Repositories', 'Repositories of projects that you created.', 't.project_id in (select private.created_projects($1))',
      'project_id id', 'id organization_id project_id provider repository_url repository_name branch status last_sync_at last_commit_hash file_count include_paths
        exclude_paths created_at updated_at', '{}', 'status_before_sync path_prefix known_commit_hash'),
    ('contexts', 'public.project_manual_contents', 'Manual contents', 'Texts of projects that you created.', 't.project_id in (select private.created_projects($1))',
      'project_id', 'project_id organization_id content created_at updated_at', '{}', ''),
    ('contexts', 'public.project_files', 'Source files', 'Files that you uploaded; their content is beside this file.', 't.uploaded_by = $1', 'id',
      'id organization_id project_id parent_id repository_id origin is_folder name path position mime_type size processed processed_at created_at updated_at', '{}',
      'uploaded_by checksum storage_key storage_provider'),
    ('contexts', 'public.staged_files', 'Uploads', 'Files that you uploaded and did not attach; their content is beside this file.', 't.user_id = $1', 'id',
      'id organization_id name path mime_type size attached created_at', '{}', 'user_id checksum storage_key storage_provider'),
    ('contexts', 'public.project_stars', 'Starred projects', 'Projects that you starred.', 't.user_id = $1', 'project_id', 'project_id organization_id created_at', '{}',
      'user_id'),
    ('contexts', 'public.context_settings', 'Context settings', 'Settings of contexts that you created.', 't.project_id in (select private.created_projects($1))',
      'project_id kind', 'organization_id project_id kind settings updated_at', '{}', ''),
    ('contexts', 'public.context_ingestions', 'Ingestions', 'Versions of contexts that you made.', 't.created_by = $1', 'id',
      'id organization_id project_id number kind status source_type sources target_number run_id display_name description tags wants_compression compressed
        never_compress chromacode files_added files_removed files_modified tokens compressed_tokens error_code error_message created_at ready_at updated_at', '{}',
      'created_by operation_id backup_number compression_key is_verbatim'),
    ('contexts', 'public.context_files', 'Files of contexts', 'Files that contexts you created have now, except uploads of others.',
      't.project_id in (select private.created_projects($1)) and (t.upload_id is null or exists (select from public.project_files f where f.project_id = t.project_id and f.id = t.upload_id and f.uploaded_by = $1))',
      'project_id id', 'organization_id project_id id path number origin repository_id language is_binary bytes tokens updated_at', '{}', 'hash is_hidden upload_id'),
    ('contexts', 'public.context_summaries', 'Summaries', 'Summaries of contexts that you created.', 't.project_id in (select private.created_projects($1))',
      'project_id id', 'id organization_id project_id version description key_components model is_outdated generated_at', '{}', ''),
    ('contexts', 'public.ingestion_runs', 'Runs', 'Ingestion runs that you started.', 't.started_by = $1', 'id',
      'id organization_id project_id outcome phase percent message total_files files_processed tokens_processed bytes_processed chunks_created
        errors_encountered started_at completed_at ended_at error_code error_message retry_count parent_run_id original_tokens optimized_tokens duration_seconds
        created_at', '{}',
      'phase_index detail phase_times phase_started_at estimated_completion_at failed_items options checkpoint checkpoint_expires_at attempt restarts lease_owner
        lease_expires_at result started_by revision updated_at index_run_id'),
    ('contexts', 'public.enrichment_runs', 'Enrichments', 'Enrichments that you started.', 't.started_by = $1', 'id',
      'id organization_id project_id kind status progress is_automatic error_message created_at started_at finished_at', '{}',
      'parent_id message builds started_by operation_id result lease_owner lease_expires_at restarts'),
    ('contexts', 'public.context_operations', 'Operations', 'Background work that you asked for.', 't.requested_by = $1', 'id',
      'id organization_id project_id kind status progress message error_code error_message created_at started_at finished_at', '{}', 'result requested_by'),
    ('contexts', 'public.worktrees', 'Worktrees', 'Worktrees of projects that you created.', 't.project_id in (select private.created_projects($1))', 'project_id id',
      'id organization_id project_id name path is_default is_active created_at updated_at', '{}', ''),
    ('contexts', 'public.worktree_branches', 'Branches', 'Branches of these worktrees.', 't.project_id in (select private.created_projects($1))', 'project_id id',
      'id organization_id project_id worktree_id name is_default is_current is_manual last_commit_at created_at updated_at commit_hash', '{}', ''),
    ('contexts', 'public.chat_sessions', 'Chats', 'Your chats.', 't.user_id = $1', 'organization_id id',
      'id organization_id context_id default_of title preview message_count used_contexts used_skills source_files created_at last_activity updated_at', '{}',
      'user_id bytes stored_at'),
    ('contexts', 'public.chat_messages', 'Chat messages', 'What you asked and were answered.', 't.user_id = $1', 'organization_id chat_id seq',
      'id organization_id chat_id seq role content model input_tokens output_tokens sources is_stopped created_at', '{}', 'user_id'),
    ('contexts', 'public.chat_attachments', 'Chat attachments', 'Files of your chats; their content is beside this file.', 't.user_id = $1', 'id',
      'id organization_id message_id name mime_type size is_image created_at', '{}', 'user_id checksum storage_key storage_provider'),
    ('contexts', 'private.chat_questions', 'Questions', 'Questions that wait for their answer.', 't.user_id = $1', 'id',
      'id organization_id chat_id message_id answer_id context_id question model is_fallback created_at', '{}', 'user_id answers called day'),
    ('contexts', 'public.support_conversations', 'Support', 'Your conversations with the support.', 't.user_id = $1', 'id', 'id created_at expires_at', '{}', 'user_id'),
    ('contexts', 'public.support_messages', 'Support messages', 'Messages of these conversations.', 't.user_id = $1', 'id',
      'id conversation_id seq role content created_at', '{}', 'user_id'),
    ('contexts', 'public.hypervisa_sessions', 'HyperVisa', 'Your sessions with HyperVisa.', 't.user_id = $1', 'session_id', 'session_id organization_id created_at', '{}',
      'user_id'),
    ('contexts', 'public.skills', 'Skills', 'Your skills.', 't.user_id = $1', 'id',
      'id organization_id name description category prompt_template model parameters input_schema output_format is_active is_public execution_count star_count
        rating_sum rating_count last_executed_at created_at updated_at', '{}', 'user_id'),
    ('contexts', 'public.skill_playbooks', 'Playbooks', 'Playbooks of your skills.',
      'exists (select from public.skills s where s.id = t.skill_id and s.user_id = $1)', 'skill_id',
      'skill_id dependencies trigger scope tags scope_selection created_at updated_at', '{}', ''),
    ('contexts', 'public.skill_stars', 'Starred skills', 'Skills that you starred.', 't.user_id = $1', 'skill_id', 'skill_id created_at', '{}', 'user_id'),
    ('contexts', 'public.skill_ratings', 'Ratings', 'Skills that you rated.', 't.user_id = $1', 'skill_id', 'skill_id rating created_at updated_at', '{}', 'user_id'),
    ('contexts', 'public.habits', 'Habits', 'Your habits.', 't.user_id = $1', 'id',
      'id organization_id skill_id schedule_cron schedule_description timezone config is_active next_run_at last_run_at run_count consecutive_failures
        last_error_message created_at updated_at', '{}', 'user_id'),
    ('contexts', 'public.reflexes', 'Reflexes', 'Your reflexes.', 't.user_id = $1', 'id',
      'id organization_id skill_id trigger_type trigger_config conditions is_active trigger_count last_triggered_at consecutive_failures last_error_message
        created_at updated_at', '{}', 'user_id'),
    -- -------------------------------------------------------------------------------------------------------------- integrations
    ('integrations', 'private.git_connections', 'Git connections', 'Your accounts at Git providers.', 't.user_id = $1', 'provider',
      'provider account_id username avatar_url scopes connected_at updated_at', '{}', 'user_id token_id'),
    ('integrations', 'public.integrations', 'Integrations', 'Providers that you connected.', 't.connected_by = $1', 'id',
      'id organization_id provider status scopes config connected_at last_sync_at created_at updated_at', '{}',
      'connected_by sync_requested_at sync_token sync_lease_until sync_leases sync_failures'),
    ('integrations', 'public.connectors', 'Connectors', 'Connectors that you added; values of headers are masks.', 't.created_by = $1', 'id',
      'id organization_id name description icon_url remote_mcp_server_url category auth_type config status last_used_at created_at updated_at', '{}', 'created_by'),
    ('integrations', 'public.webhooks', 'Webhooks', 'Webhooks that you added.', 't.created_by = $1', 'id',
      'id organization_id name endpoint_url events status consecutive_failures last_triggered_at created_at updated_at', '{}', 'created_by secret_end'),
    ('integrations', 'public.mcp_servers', 'MCP servers', 'MCP servers that you added.', 't.created_by = $1', 'id',
      'id organization_id registry_id name url status version error_message created_at updated_at', '{}', 'created_by tries lease_token lease_until'),
    ('integrations', 'private.directory_syncs', 'Directories', 'Directories that you connected to contexts.', 't.connected_by = $1', 'project_id',
      'project_id organization_id provider last_sync_at group_count member_count created_at updated_at', '{}', 'token_id error connected_by'),
    ('integrations', 'private.provider_keys', 'Keys of model providers', 'Keys that you set; only their last signs.', 't.set_by = $1', 'organization_id provider',
      'organization_id provider last_four created_at updated_at', '{}', 'sealed_key set_by'),
    ('integrations', 'public.api_keys', 'API keys', 'Your API keys: prefix, scopes and dates.', 't.user_id = $1', 'id',
      'id organization_id name environment prefix scopes expires_at usage_count last_used_at revoked_at revoked_reason created_at', '{}',
      'user_id key_hash scope recorded_on')
  ) c
$catalogue$;
comment on function private.data_catalogue is 'The tables with data of people: which rows, and what is given away of them.';
