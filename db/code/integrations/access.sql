-- Every member reads. All writing goes through functions, because it depends on data that only the server has.
grant select on public.integration_apps, public.integrations, public.connectors, public.webhooks, public.webhook_deliveries to authenticated;
create policy select_all on public.integration_apps for select to authenticated using (true);
create policy select_member on public.integrations for select to authenticated using (organization_id = (select private.org_id()));
create policy select_member on public.connectors for select to authenticated using (organization_id = (select private.org_id()));
create policy select_member on public.webhooks for select to authenticated using (organization_id = (select private.org_id()));
create policy select_member on public.webhook_deliveries for select to authenticated using (organization_id = (select private.org_id()));
