-- Plans are public knowledge. Every member of the organization sees its subscription and its usage; only functions write them.
grant select on public.plans to anon, authenticated;
create policy select_all on public.plans for select to anon, authenticated using (true);

grant select on public.subscriptions, public.usage_counters, public.usage_days, public.usage, public.usage_trend to authenticated;
create policy select_member on public.subscriptions for select to authenticated using (organization_id = (select private.org_id()));
create policy select_member on public.usage_counters for select to authenticated using (organization_id = (select private.org_id()));
create policy select_member on public.usage_days for select to authenticated using (organization_id = (select private.org_id()));
