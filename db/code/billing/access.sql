-- Countries and rates are public knowledge. Billing details are for who manages billing, the owner alone; what VIES said is written by
-- functions only.
grant execute on function private.assert_billing_details_row, private.has_btw_form to authenticated, service_role, kijko_server, kijko_worker;
grant select on public.countries, public.vat_rates to authenticated;
create policy select_all on public.countries for select to authenticated using (true);
create policy select_all on public.vat_rates for select to authenticated using (true);
grant select (organization_id, company_name, btw_number, kvk_number, address_line1, address_line2, city, postal_code, country, btw_status, btw_definite, verified_at,
  consultation_number, registered_name, registered_address, updated_at, asked_at) on public.billing_details to authenticated;
grant update (company_name, btw_number, kvk_number, address_line1, address_line2, city, postal_code, country) on public.billing_details to authenticated;
create policy select_owner on public.billing_details for select to authenticated
  using (organization_id = (select private.org_id()) and (select private.has_permission('canManageBilling')));
create policy update_owner on public.billing_details for update to authenticated
  using (organization_id = (select private.org_id()) and (select private.has_permission('canManageBilling')));

-- Invoices and payment methods are for who manages billing; only functions write them. What Stripe says stays out of sight: payments are
-- recognized by fingerprints and keys.
grant execute on function private.assert_invoices_row, private.assert_payment_methods_row to authenticated, service_role, kijko_server, kijko_worker;
grant select on public.invoices to authenticated;
create policy select_owner on public.invoices for select to authenticated
  using (organization_id = (select private.org_id()) and (select private.has_permission('canManageBilling')));
grant select (id, organization_id, stripe_payment_method_id, type, is_default, card_brand, card_last4, card_exp_month, card_exp_year, sepa_bank_code, sepa_last4,
  sepa_country, created_at, updated_at) on public.payment_methods to authenticated;
create policy select_owner on public.payment_methods for select to authenticated
  using (organization_id = (select private.org_id()) and (select private.has_permission('canManageBilling')));
