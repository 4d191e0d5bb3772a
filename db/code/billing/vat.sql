-- VAT (contract 50, section 7). One function decides and computes, for quotes and for invoices. Amounts are whole cents; between them and for
-- rates numeric is used, whose round() goes half away from zero, for credits too.

-- The tax point is a day in the country of the seller.
create or replace function private.vat_rate(p_country text, p_at timestamptz) returns numeric
language plpgsql stable
as $$
declare
  v_rate numeric;
begin
  select r.rate into v_rate from public.vat_rates r
  where r.country = p_country and r.valid_from <= (p_at at time zone 'Europe/Amsterdam')::date
  order by r.valid_from desc limit 1;
  if v_rate is null then
    -- A wrong rate must not reach an invoice.
    raise exception 'public.vat_rates has no rate for % at %', p_country, p_at;
  end if;
  return v_rate;
end
$$;
comment on function private.vat_rate is 'The standard rate of a member state that is in force at a moment, in percent.';

create or replace function private.is_oss_enabled() returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return coalesce(private.installation_value('vat_oss') = 'true', false);
end
$$;
comment on function private.is_oss_enabled is
  'Does the seller declare VAT of other member states (One Stop Shop)? Authorization: open to all; a setting of the installation, no content.';

create or replace function private.vat_of(
  p_net bigint, p_country text, p_number text, p_is_valid boolean, p_at timestamptz default now(),
  out treatment text, out rate numeric, out vat bigint, out total bigint, out note text
)
language plpgsql stable
as $$
declare
  -- An unknown country counts as the seller's own.
  v_country constant text := coalesce((select c.code from public.countries c where c.code = p_country), 'NL');
  v_prefix constant text := (select c.vat_prefix from public.countries c where c.code = v_country);
begin
  if v_country = 'NL' then
    treatment := 'domestic';
    rate := private.vat_rate('NL', p_at);
  elsif v_prefix is null then
    treatment := 'outside_eu';
    rate := 0;
    note := 'Outside the scope of Dutch VAT.';
  elsif p_is_valid and left(p_number, 2) = v_prefix then
    treatment := 'reverse_charge';
    rate := 0;
    note := format('VAT reverse-charged to %s.', p_number);
  elsif private.is_oss_enabled() then
    treatment := 'eu_b2c';
    rate := private.vat_rate(v_country, p_at);
    note := format('VAT of %s (One Stop Shop), because no valid VAT number of this country is given.', v_country);
  else
    treatment := 'eu_b2c';
    rate := private.vat_rate('NL', p_at);
    note := format('Dutch VAT, because no valid VAT number of %s is given.', v_country);
  end if;
  vat := round(p_net * rate / 100);
  total := p_net + vat;
end
$$;
comment on function private.vat_of is
  'VAT on a net amount in cents for a customer of a country, whose VAT number (bare, or null) was found valid or not.';

create or replace function private.vat_rate_text(p_rate numeric) returns text
language sql stable parallel safe
return to_char(p_rate, case when p_rate = round(p_rate, 2) then 'FM990.00' else 'FM990.000' end);
comment on function private.vat_rate_text is 'A rate on the wire: two decimals, or three where it needs them.';
grant execute on function private.vat_rate_text to authenticated;

create or replace function private.tax_quote(
  p_net bigint, p_country text, p_number text, p_is_valid boolean, p_at timestamptz default now()
) returns jsonb
language sql stable
return (
  select jsonb_strip_nulls(jsonb_build_object('currency', 'eur', 'netAmount', p_net,
    'vatRate', private.vat_rate_text(v.rate), 'vatAmount', v.vat, 'totalAmount', v.total,
    'treatment', v.treatment, 'note', v.note))
  from private.vat_of(p_net, p_country, p_number, p_is_valid, p_at) v
);
comment on function private.tax_quote is 'TaxQuote.';
