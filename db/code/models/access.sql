-- Models and their prices are public knowledge. The operator of the installation writes them, as owner of the database. The keys of
-- organizations are reached through functions only.
grant select on public.models, public.model_aliases, public.model_successors, public.model_prices, public.model_sampling to anon, authenticated, service_role;
create policy select_all on public.models for select to anon, authenticated, service_role using (true);
create policy select_all on public.model_aliases for select to anon, authenticated, service_role using (true);
create policy select_all on public.model_successors for select to anon, authenticated, service_role using (true);
create policy select_all on public.model_prices for select to anon, authenticated, service_role using (true);
create policy select_all on public.model_sampling for select to anon, authenticated, service_role using (true);
