-- What erasure does with each column that can hold a person's data: texts, JSON, addresses, bytes, arrays of these, and ids of people. Each
-- declaration becomes a tag at the end of the column's or the table's comment, such as [person: masked], and private.erase_person reads
-- the tags. A column without a declaration fails 00_lint.sql, and one that keeps what it should not fails tests/gdpr.
--
--   erased        the row is deleted with the person; behind the table's name it holds for all columns that are not named
--   detached      emptied, set to null, or replaced by "Deleted user"; a foreign key does it by "on delete set null"
--   reassigned    given to the owner of the organization
--   masked        a text of other people or of the system: mentions of the person are replaced
--   organization  content and settings of an organization: deleted with it, and staying with one that has other members
--   kept          kept until a time of its own: contract 50, 9.3 and 9.4; proofs, tokens on their way back, numbers without a person
--   none          no person: words of ours, catalogs of the installation, digests of files
do $declare$
declare
  v record;
begin
  for v in
    with line as (
      select regexp_split_to_table(regexp_replace($columns$
jobs.dead_letters erased
jobs.queue_floor none queues
jobs.stored_jobs erased
jobs.unique_keys erased
jobs.workers none server
private.account_tokens erased
private.activity_days none type
private.agents erased
private.analytics_events detached user_id session_id digest; none type persona; kept properties
private.announcements detached created_by; none title message level link
private.audit_counts erased
private.audit_files organization file_name storage_key token_hash
private.backup_codes erased
private.chat_questions erased
private.checkout_sessions organization id mode plan_id billing_interval url status
private.compliance_files none content
private.compressions organization settings
private.connection_states erased
private.credentials erased
private.data_export_key none key
private.data_exports erased
private.detached_payment_methods erased
private.directory_syncs organization provider error; detached connected_by
private.enrichment_plans organization hash language
private.erasures kept person_digest tables
private.event_inbox erased room; none type audience entity conflation_key; masked data; detached actor_user_id user_ids
private.event_rooms erased
private.file_records organization path hash parse_schema chunk_schema parsed facts
private.git_connections erased
private.guards none second_factor_roles ip_mode free_roles networks
private.idempotency_keys erased; masked response
private.identities erased
private.index_words organization word
private.installation none key value
private.integration_calls organization tool client session
private.integration_logs organization level message
private.integration_revocations none provider; kept sealed
private.integration_secrets organization sealed
private.integration_states erased
private.invoice_transitions none from_status to_status
private.ip_warnings erased
private.kg_mirrors organization backend error
private.login_failures erased
private.login_history erased
private.mails erased; masked subject body_text body_html
private.mcp_server_secrets organization sealed
private.metering_events organization metric refusal
private.metering_state none owner error
private.notification_keys erased
private.notification_mails erased; masked title message
private.oauth_states none state_hash provider redirect_uri
private.outbox organization neighbor kind subject_id status error
private.outbox_losses organization neighbor
private.outbox_references organization neighbor reference
private.password_history erased
private.pictures erased
private.project_counters none privacy
private.project_invitations erased; detached message
private.project_webhook_secrets organization sealed
private.provider_keys organization provider sealed_key last_four; detached set_by
private.provider_tokens none provider state lease_owner; kept sealed_token
private.push_hooks organization provider repository_url repository_name state sealed_secret deliveries last_head; detached user_id
private.rate_counters erased
private.realtime_presence erased
private.realtime_refusals kept project_id token reason ip_address
private.realtime_sockets erased
private.realtime_statuses erased
private.reflex_deliveries erased
private.reflex_secrets erased
private.refresh_tokens erased
private.remembered_devices erased
private.reported_completions erased
private.repository_checks erased
private.retention_rules none name relation action columns cutoff_column setting plan_column condition
private.run_manifests organization path hash origin language
private.schedules none name
private.sealed_answers erased
private.second_factor_challenges erased
private.second_factor_setups erased
private.second_factors erased
private.sessions erased
private.signing_keys none pem
private.source_files organization source path key verdict encoding hash language
private.stripe_calls organization operation request step done notes answer refusal; detached user_id
private.stripe_copies organization details tax_rate_id
private.stripe_customers organization id default_method_id
private.stripe_events none id type api_version outcome; organization payload error customer_id alerts
private.stripe_prices none price_id plan_id billing_interval
private.stripe_schedules organization id subscription_id
private.stripe_subscriptions organization id customer_id status price_id item_id plan_id billing_interval hint_plan_id hint_interval
  payment_outcome
private.stripe_tax_rates none country id
private.subscription_transitions none from_status to_status event
private.summary_jobs organization status lease_owner
private.tombstones kept user_id identities customers
private.unsubscribe_key none key
private.vat_evidence kept btw_number consultation_number registered_name registered_address
private.vies_answers organization number name address consultation_number
private.zones none name used
public.api_keys erased
public.audit_filters erased; masked filters
public.audit_log detached user_id ip_address session_id request_id; none event_type event_category; masked description metadata changes
public.audit_schedules erased; masked filters
public.billing_details organization company_name btw_number kvk_number address_line1 address_line2 city postal_code country btw_status
  btw_definite consultation_number registered_name registered_address
public.chat_attachments erased
public.chat_messages erased
public.chat_sessions erased
public.chunk_terms organization terms
public.chunks organization type content hash metadata
public.compliance_documents none framework name description version file_name
public.compliance_frameworks none framework status
public.compressed_files organization hash language settings_key content reason
public.connectors detached created_by; organization name description icon_url remote_mcp_server_url category auth_type config status
public.content_blobs organization hash content
public.context_changelog none type; detached user_id user_name user_email; masked description
public.context_file_ops organization path operation hash origin language
public.context_files organization path hash origin language
public.context_ingestions organization kind status source_type sources display_name description tags chromacode error_code error_message
  compression_key; detached created_by
public.context_operations organization kind status message result error_code error_message; detached requested_by
public.context_settings organization kind settings
public.context_source_selection erased
public.context_summaries organization description key_components model
public.countries none code vat_prefix
public.enrichment_runs organization kind status message result error_message lease_owner; detached started_by
public.enrichment_states organization kind result
public.events erased room; none type audience entity conflation_key; masked data; detached actor_user_id user_ids
public.file_embeddings organization embedder hash model
public.habits erased
public.hypervisa_sessions erased
public.ingestion_runs organization outcome phase message detail phase_times error_code error_message failed_items options checkpoint
  lease_owner result; detached started_by
public.integration_apps none id name category description icon permissions auth
public.integrations organization provider status scopes config; detached connected_by
public.invoices kept stripe_invoice_id stripe_customer_id stripe_subscription_id number status currency vat_treatment customer_country
  description invoice_url pdf_url snapshot payment_intent_id charge_id
public.ip_allow_list_entries organization name network; detached created_by
public.kg_edges organization type
public.kg_files organization path digest
public.kg_nodes organization type name path language
public.mcp_registry_items none id name description homepage vendor version remote_url
public.mcp_servers detached created_by; organization registry_id name url status version error_message
public.mcp_tools organization name
public.memberships erased
public.model_aliases none alias model unless_provider
public.model_prices none model
public.model_sampling none model
public.model_successors none model called
public.models none id name description
public.notification_preferences erased
public.notifications erased; detached actor_user_id; masked title message data
public.organizations organization name
public.payment_methods organization stripe_payment_method_id stripe_customer_id type card_brand card_last4 sepa_bank_code sepa_last4
  sepa_country fingerprint
public.plans none id name description features gates
public.project_activity none type once_key; detached user_id user_name user_email; masked description metadata
public.project_files detached uploaded_by; organization origin name path mime_type checksum storage_key storage_provider
public.project_indexes organization exclusions settings
public.project_manual_contents organization content
public.project_members erased; detached invited_by
public.project_repositories organization provider repository_url repository_name branch status status_before_sync last_commit_hash
  include_paths exclude_paths path_prefix known_commit_hash
public.project_settings organization webhook_url metadata_options output_format embedding_model pattern_filters processing_options
  file_filters default_notification_level persona custom_settings
public.project_stars erased
public.projects reassigned user_id; organization name description type status privacy chunking_strategy icon label color preview_url
public.reflexes erased
public.role_permissions none role permission
public.run_files organization source path language category hash metadata plan
public.security_policies organization require_second_factor ip_mode
public.skill_executions erased
public.skill_playbooks erased
public.skill_ratings erased
public.skill_stars erased
public.skills erased
public.staged_files erased
public.subscriptions organization plan_id status overrides billing_interval stripe_subscription_id pending_plan_id
  pending_billing_interval stripe_customer_id
public.support_conversations erased
public.support_messages erased
public.symbol_contents organization hash language
public.symbol_files organization hash language
public.symbols organization hash language kind name qualified_name signature
public.team_invitations erased; detached message invited_by
public.usage_counters none metric
public.usage_days none metric
public.user_personas erased
public.user_settings erased
public.users erased
public.vat_rates none country
public.webhook_deliveries none event_type kind status; masked payload response_body
public.webhooks detached created_by; organization name endpoint_url secret_end events status
public.worktree_branches organization name commit_hash
public.worktrees organization name path
$columns$, E'\n  ', ' ', 'g'), E'\n') as text
    ), part as (
      select split_part(l.text, ' ', 1)::regclass as relation, btrim(p.text) as text
      from line l cross join lateral regexp_split_to_table(substr(l.text, strpos(l.text, ' ') + 1), ';') p (text)
      where l.text <> ''
    ), declared as (
      select p.relation, split_part(p.text, ' ', 1) as rule, c.name
      from part p cross join lateral regexp_split_to_table(case when strpos(p.text, ' ') > 0 then substr(p.text, strpos(p.text, ' ') + 1) else '' end, ' ') c (name)
    ), tagged as (
      select d.relation, d.name, d.rule, case when d.name = '' then obj_description(d.relation, 'pg_class') else (
        select col_description(d.relation, a.attnum) from pg_attribute a where a.attrelid = d.relation and a.attname = d.name) end as words
      from declared d
    )
    select t.relation, t.name, t.words, concat_ws(' ', nullif(regexp_replace(t.words, '\s*\[person: [a-z]+\]$', ''), ''), format('[person: %s]', t.rule)) as comment
    from tagged t
  loop
    if v.words is not distinct from v.comment then
      continue;
    elsif v.name = '' then
      execute format('comment on table %s is %L', v.relation, v.comment);
    else
      execute format('comment on column %s.%I is %L', v.relation, v.name, v.comment);
    end if;
  end loop;
end
$declare$;
