-- The latest rows of an organization's work, for telemetry (contract 60, section 17.3). The moment of creation never changes, so updates of
-- these rows stay within their page.
create index skill_executions_organization_id_executed_at_idx on public.skill_executions (organization_id, executed_at desc);
drop index public.skill_executions_organization_id_idx;
create index ingestion_runs_organization_id_created_at_idx on public.ingestion_runs (organization_id, created_at desc);
create index enrichment_runs_organization_id_created_at_idx on public.enrichment_runs (organization_id, created_at desc);
create index summary_jobs_organization_id_created_at_idx on private.summary_jobs (organization_id, created_at desc);
create index webhook_deliveries_organization_id_created_at_idx on public.webhook_deliveries (organization_id, created_at desc);

---- create above / drop below ----

drop index public.ingestion_runs_organization_id_created_at_idx, public.enrichment_runs_organization_id_created_at_idx,
  private.summary_jobs_organization_id_created_at_idx, public.webhook_deliveries_organization_id_created_at_idx;
create index skill_executions_organization_id_idx on public.skill_executions (organization_id);
drop index public.skill_executions_organization_id_executed_at_idx;
