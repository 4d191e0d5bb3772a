-- Invoices as the owner sees them (contract 50, section 4). Each comes from Stripe, and drafts are not shown.

create or replace function private.invoice_json(i public.invoices) returns jsonb
language sql stable
return jsonb_strip_nulls(jsonb_build_object('id', i.id, 'userId', private.owner_id(), 'stripeInvoiceId', i.stripe_invoice_id, 'invoiceNumber', coalesce(i.number, i.stripe_invoice_id),
  'status', i.status, 'amountDue', i.amount_due, 'amountPaid', i.amount_paid, 'currency', i.currency, 'description', i.description, 'invoiceUrl', i.invoice_url,
  'pdfUrl', i.pdf_url, 'periodStart', private.iso(i.period_start), 'periodEnd', private.iso(i.period_end), 'dueDate', private.iso(i.due_at),
  'paidAt', private.iso(i.paid_at), 'createdAt', private.iso(i.created_at), 'netAmount', i.net_amount, 'vatAmount', i.vat_amount,
  'vatRate', private.vat_rate_text(i.vat_rate), 'vatTreatment', i.vat_treatment, 'customerCountry', i.customer_country));
comment on function private.invoice_json is 'Invoice.';
grant execute on function private.invoice_json to authenticated;

create or replace function api.list_invoices(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_org_id constant uuid := private.require_membership();
  v_from constant timestamptz := private.as_instant(p ->> 'from');
  v_to constant timestamptz := private.as_instant(p ->> 'to');
  v_at record;
  v_total bigint;
begin
  perform private.require_permission('canManageBilling');
  v_at := private.page(p, 20);
  if p ->> 'from' is not null and v_from is null then
    perform private.refuse_field('from', 'from must be a date or a time such as 2026-01-31T00:00:00Z.');
  elsif p ->> 'to' is not null and v_to is null then
    perform private.refuse_field('to', 'to must be a date or a time such as 2026-01-31T00:00:00Z.');
  end if;
  select count(*) into v_total from public.invoices i
  where i.organization_id = v_org_id and i.status <> 'draft' and (v_from is null or i.created_at >= private.shown(v_from))
    and (v_to is null or i.created_at < private.shown(v_to) + interval '1 millisecond');
  return jsonb_build_object('invoices', (
      select coalesce(jsonb_agg(private.invoice_json(x) order by x.created_at desc, x.id), '[]')
      from (select i.* from public.invoices i
        where i.organization_id = v_org_id and i.status <> 'draft' and (v_from is null or i.created_at >= private.shown(v_from))
          and (v_to is null or i.created_at < private.shown(v_to) + interval '1 millisecond')
        order by i.created_at desc, i.id limit v_at.size offset v_at.skipped) x),
    'hasMore', v_at.skipped + v_at.size < v_total, 'total', v_total);
end
$$;
comment on function api.list_invoices is
  'GET /billing/invoices: {invoices: Invoice[], hasMore, total}. Errors: 400 VALIDATION_ERROR, 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED.';

create or replace function private.find_invoice(p jsonb) returns public.invoices
language plpgsql stable
as $$
declare
  v_org_id constant uuid := private.require_membership();
  i public.invoices;
begin
  perform private.require_permission('canManageBilling');
  select * into i from public.invoices x where x.id = private.as_uuid(p ->> 'invoiceId') and x.organization_id = v_org_id and x.status <> 'draft';
  if not found then
    perform private.refuse(404, 'INVOICE_NOT_FOUND', format('Invoice with ID %s not found', left(p ->> 'invoiceId', 100)));
  end if;
  return i;
end
$$;
comment on function private.find_invoice is 'An invoice of the caller''s organization. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 404 INVOICE_NOT_FOUND.';

create or replace function api.get_invoice(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.invoice_json(private.find_invoice(p));
end
$$;
comment on function api.get_invoice is
  'GET /billing/invoices/{invoiceId}: Invoice. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 404 INVOICE_NOT_FOUND.';

create or replace function api.get_invoice_pdf(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  i constant public.invoices := private.find_invoice(p);
begin
  if i.pdf_url is null then
    perform private.refuse(404, 'INVOICE_NOT_FOUND', 'Stripe has not made the PDF of this invoice yet. Please try again later.');
  end if;
  return jsonb_build_object('url', i.pdf_url);
end
$$;
comment on function api.get_invoice_pdf is
  'GET /billing/invoices/{invoiceId}/pdf: leads to the PDF. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 403 ORG_REQUIRED, 404 INVOICE_NOT_FOUND.';
grant execute on function api.list_invoices, api.get_invoice, api.get_invoice_pdf, private.find_invoice to authenticated;
