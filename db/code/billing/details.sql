-- Billing details (contract 50, section 6). The form saves at each keystroke, so unfinished numbers come all the time: a value that is not
-- allowed is refused with its field, and the stored one stays. What the row itself can tell is settled by its trigger, for all callers alike.

create or replace function private.billing_details_json(d public.billing_details) returns jsonb
language sql stable
return jsonb_strip_nulls(jsonb_build_object('userId', private.owner_id(), 'companyName', d.company_name, 'btwNumber', d.btw_number, 'kvkNumber', d.kvk_number,
  'addressLine1', d.address_line1, 'addressLine2', d.address_line2, 'city', d.city, 'postalCode', d.postal_code, 'country', d.country,
  'updatedAt', private.iso(d.updated_at)));
comment on function private.billing_details_json is 'BillingDetails.';
grant execute on function private.billing_details_json to authenticated;

create or replace function private.dutch_postal_code(p_text text) returns text
language sql immutable parallel safe
return regexp_replace(private.upper_ascii(p_text), '^([0-9]{4}) ?([A-Z]{2})$', '\1 \2');
comment on function private.dutch_postal_code is 'A Dutch postal code as it is stored, 1234 AB; another text in upper case.';

create or replace function private.tg_billing_details__settle() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  new.country := private.upper_ascii(new.country);
  if new.country is null or not exists (select from public.countries c where c.code = new.country) then
    perform private.refuse_field('country', 'country is the two-letter code of a country, such as NL.');
  end if;
  if new.country = 'NL' then
    new.postal_code := private.dutch_postal_code(new.postal_code);
    if new.postal_code !~ '^[0-9]{4} [A-Z]{2}$' then
      perform private.refuse_field('postalCode', 'A Dutch postal code has four digits and two letters, such as 1234 AB.');
    end if;
  end if;
  if new.kvk_number !~ '^[0-9]{8}$' then
    perform private.refuse_field('kvkNumber', 'kvkNumber must be 8 digits.');
  end if;
  new.btw_number := private.bare_btw(left(new.btw_number, 100));
  if not private.has_btw_form(new.btw_number) then
    perform private.refuse_field('btwNumber', 'btwNumber does not have the form of a BTW number, such as NL004495445B01.');
  end if;
  if tg_op = 'UPDATE' then
    if (new.btw_number, new.country) is distinct from (old.btw_number, old.country) then
      new.btw_status := 'unverified';
      new.btw_definite := null;
      new.verified_at := null;
      new.consultation_number := null;
      new.registered_name := null;
      new.registered_address := null;
    end if;
    if (new.company_name, new.btw_number, new.kvk_number, new.address_line1, new.address_line2, new.city, new.postal_code, new.country)
      is distinct from (old.company_name, old.btw_number, old.kvk_number, old.address_line1, old.address_line2, old.city, old.postal_code, old.country) then
      new.updated_at := now();
    elsif new is not distinct from old then
      -- Nothing is written for a value that is stored already.
      return null;
    end if;
  end if;
  return new;
end
$$;
comment on function private.tg_billing_details__settle is
  'Trigger: numbers, postal code and country in the form in which they are stored, or a refusal with the field; another number or country has yet to be verified.';
create or replace trigger _100_settle before insert or update on public.billing_details
  for each row execute function private.tg_billing_details__settle();
