-- Billing, as far as no payment provider takes part: the subscription's period and what waits for its end, the details on an invoice, VAT.

-- Countries of ISO 3166-1. A member state of the EU has the prefix of its VAT numbers; Greece's is EL.
create table public.countries (
  code text primary key,
  vat_prefix text,
  constraint countries_code_check check (code ~ '^[A-Z]{2}$'),
  constraint countries_vat_prefix_check check (vat_prefix ~ '^[A-Z]{2}$')
);
alter table public.countries enable row level security;
alter table public.countries force row level security;
create unique index countries_vat_prefix_key on public.countries (vat_prefix) where vat_prefix is not null;
comment on table public.countries is 'Countries of ISO 3166-1; vat_prefix: of the VAT numbers of a member state of the EU, null elsewhere.';
insert into public.countries (code) select unnest(string_to_array(
  'AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR '
  'CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU '
  'ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ '
  'MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI '
  'SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW', ' '));
update public.countries set vat_prefix = case code when 'GR' then 'EL' else code end
where code in ('AT', 'BE', 'BG', 'CY', 'CZ', 'DE', 'DK', 'EE', 'ES', 'FI', 'FR', 'GR', 'HR', 'HU', 'IE', 'IT', 'LT', 'LU', 'LV', 'MT', 'NL', 'PL', 'PT', 'RO',
  'SE', 'SI', 'SK');

-- The rate in force at a tax point is the newest one that is valid by then.
create table public.vat_rates (
  country text not null references public.countries (code) on delete restrict,
  rate numeric(6, 3) not null,
  valid_from date not null,
  primary key (country, valid_from),
  constraint vat_rates_rate_check check (rate >= 0 and rate < 100)
);
alter table public.vat_rates enable row level security;
alter table public.vat_rates force row level security;
comment on table public.vat_rates is 'Standard rates of VAT in percent. A changed rate is a further row.';
insert into public.vat_rates (country, rate, valid_from)
select r.country, r.rate, coalesce(r.since, date '2024-01-01') from (values
  ('AT', 20, null::date), ('BE', 21, null), ('BG', 20, null), ('HR', 25, null), ('CY', 19, null), ('CZ', 21, null), ('DK', 25, null), ('EE', 22, null),
  ('EE', 24, '2025-07-01'), ('FI', 24, null), ('FI', 25.5, '2024-09-01'), ('FR', 20, null), ('DE', 19, null), ('GR', 24, null), ('HU', 27, null), ('IE', 23, null),
  ('IT', 22, null), ('LV', 21, null), ('LT', 21, null), ('LU', 17, null), ('MT', 18, null), ('NL', 21, null), ('PL', 23, null), ('PT', 23, null), ('RO', 19, null),
  ('RO', 21, '2025-08-01'), ('SK', 20, null), ('SK', 23, '2025-01-01'), ('SI', 22, null), ('ES', 21, null), ('SE', 25, null)) r (country, rate, since);

-- The form of a VAT number of each member state, without blanks, dots and dashes (contract 50, section 6.1).
create function private.has_btw_form(p_number text) returns boolean
language sql immutable parallel safe
return p_number ~ ('^(ATU[0-9]{8}|BE[01][0-9]{9}|BG[0-9]{9,10}|CY[0-9]{8}[A-Z]|CZ[0-9]{8,10}|DE[0-9]{9}|DK[0-9]{8}|EE[0-9]{9}|EL[0-9]{9}'
  || '|ES([A-Z][0-9]{7}[A-Z0-9]|[0-9]{8}[A-Z])|FI[0-9]{8}|FR[0-9A-HJ-NP-Z]{2}[0-9]{9}|HR[0-9]{11}|HU[0-9]{8}|IE([0-9]{7}[A-Z]{1,2}|[0-9][A-Z+*][0-9]{5}[A-Z])'
  || '|IT[0-9]{11}|LT([0-9]{9}|[0-9]{12})|LU[0-9]{8}|LV[0-9]{11}|MT[0-9]{8}|NL(?!0{9})[0-9]{9}B(?!00)[0-9]{2}|PL[0-9]{10}|PT[0-9]{9}|RO[0-9]{2,10}|SE[0-9]{12}'
  || '|SI[0-9]{8}|SK[0-9]{10})$');
comment on function private.has_btw_form is 'Has the text the form of a VAT number of a member state of the EU?';

create table public.billing_details (
  organization_id uuid primary key references public.organizations (id) on delete cascade,
  company_name text,
  btw_number text,
  kvk_number text,
  address_line1 text,
  address_line2 text,
  city text,
  postal_code text,
  country text not null default 'NL' references public.countries (code) on delete restrict,
  -- The result of the last check with VIES. While VIES is unavailable, btw_definite keeps the last answer, which verified_at dates.
  btw_status text not null default 'unverified',
  btw_definite text,
  verified_at timestamptz,
  consultation_number text,
  registered_name text,
  registered_address text,
  updated_at timestamptz not null default now()
) with (fillfactor = 50);
alter table public.billing_details enable row level security;
alter table public.billing_details force row level security;
create index billing_details_country_idx on public.billing_details (country);
comment on table public.billing_details is 'Name, address and numbers of an organization on its invoices, and what VIES says of its VAT number.';

create function private.assert_billing_details_row(r public.billing_details) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  c_control constant text := '[\u0001-\u001f\u007f-\u009f\u2028\u2029]';
  v_rule text := case
    when char_length(r.company_name) not between 1 and 255 or r.company_name ~ c_control then 'billing_details_company_name_check'
    when char_length(r.address_line1) not between 1 and 255 or r.address_line1 ~ c_control then 'billing_details_address_line1_check'
    when char_length(r.address_line2) not between 1 and 255 or r.address_line2 ~ c_control then 'billing_details_address_line2_check'
    when char_length(r.city) not between 1 and 100 or r.city ~ c_control then 'billing_details_city_check'
    when char_length(r.postal_code) not between 1 and 20 or r.postal_code ~ c_control
      or r.country = 'NL' and r.postal_code !~ '^[0-9]{4} [A-Z]{2}$' then 'billing_details_postal_code_check'
    when r.kvk_number !~ '^[0-9]{8}$' then 'billing_details_kvk_number_check'
    when not private.has_btw_form(r.btw_number) then 'billing_details_btw_number_check'
    when r.btw_status not in ('unverified', 'valid', 'invalid', 'unavailable') then 'billing_details_btw_status_check'
    when r.btw_definite not in ('valid', 'invalid') or (r.btw_definite is null) <> (r.verified_at is null) then 'billing_details_btw_definite_check'
  end;
begin
  return v_rule is null or private.refuse_row('billing_details', v_rule);
end
$$;
comment on function private.assert_billing_details_row is 'The rules of a row of public.billing_details, by name.';
alter table public.billing_details add constraint billing_details_rules check (private.assert_billing_details_row(billing_details));
insert into public.billing_details (organization_id) select id from public.organizations;

-- By organization: an answer that came at once would tell that another tenant asked about the same company.
create table private.vies_answers (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  number text not null,
  is_valid boolean not null,
  name text,
  address text,
  consultation_number text,
  answered_at timestamptz not null default now(),
  primary key (organization_id, number)
);
alter table private.vies_answers enable row level security;
alter table private.vies_answers force row level security;
create index vies_answers_answered_at_idx on private.vies_answers (answered_at);
comment on table private.vies_answers is 'Definite answers of VIES, good for 24 hours.';

-- The state machine of contract 50, section 2.3: from and to, with free told apart from what is paid. The trigger of db/code/billing holds
-- requests to these rows. Staying where one is, with other flags, is no transition.
create table private.subscription_transitions (
  was_paid boolean not null,
  from_status text not null,
  is_paid boolean not null,
  to_status text not null,
  event text not null,
  primary key (was_paid, from_status, is_paid, to_status)
);
alter table private.subscription_transitions enable row level security;
alter table private.subscription_transitions force row level security;
comment on table private.subscription_transitions is 'The transitions of a subscription that a request can cause.';
insert into private.subscription_transitions (was_paid, from_status, is_paid, to_status, event) values
  (false, 'active', true, 'active', 'checkout completed, first payment done or its debit under way; a contract'),
  (false, 'active', true, 'trialing', 'checkout completed with a trial'),
  (false, 'active', true, 'incomplete', 'checkout completed, payment pending'),
  (false, 'canceled', true, 'active', 'checkout completed, first payment done or its debit under way; a contract'),
  (false, 'canceled', true, 'trialing', 'checkout completed with a trial'),
  (false, 'canceled', true, 'incomplete', 'checkout completed, payment pending'),
  (true, 'incomplete', true, 'active', 'first invoice paid'),
  (true, 'incomplete', false, 'canceled', 'expired, deleted or canceled'),
  (true, 'trialing', true, 'active', 'trial over and paid'),
  (true, 'trialing', true, 'past_due', 'renewal payment failed'),
  (true, 'trialing', false, 'canceled', 'deleted'),
  (true, 'active', true, 'past_due', 'renewal payment failed'),
  (true, 'active', true, 'active', 'another plan'),
  (true, 'active', false, 'canceled', 'deleted; the end of a contract'),
  (true, 'past_due', true, 'active', 'invoice paid'),
  (true, 'past_due', false, 'canceled', 'retries exhausted');

alter table public.subscriptions
  add column billing_interval text not null default 'monthly',
  add column stripe_subscription_id text,
  add column current_period_start timestamptz,
  add column current_period_end timestamptz,
  add column cancel_at_period_end boolean not null default false,
  add column trial_end timestamptz,
  -- A change that waits for the end of the period.
  add column pending_plan_id text references public.plans (id) on delete restrict,
  add column pending_billing_interval text,
  add constraint subscriptions_billing_interval_check check (billing_interval in ('monthly', 'annually')),
  add constraint subscriptions_period_check check ((current_period_start is null) = (current_period_end is null) and current_period_start < current_period_end),
  add constraint subscriptions_pending_check check ((pending_plan_id is null) = (pending_billing_interval is null)
    and pending_billing_interval in ('monthly', 'annually')),
  add constraint subscriptions_free_is_bare check (plan_id <> 'free' or billing_interval = 'monthly' and stripe_subscription_id is null
    and current_period_start is null and not cancel_at_period_end and trial_end is null and pending_plan_id is null);
create unique index subscriptions_stripe_subscription_id_key on public.subscriptions (stripe_subscription_id) where stripe_subscription_id is not null;
create index subscriptions_pending_plan_id_idx on public.subscriptions (pending_plan_id) where pending_plan_id is not null;

insert into private.schedules (name, every) values ('usage.prune', interval '1 day');

---- create above / drop below ----

delete from private.schedules where name = 'usage.prune';
alter table public.subscriptions
  drop constraint subscriptions_free_is_bare,
  drop column billing_interval, drop column stripe_subscription_id, drop column current_period_start, drop column current_period_end,
  drop column cancel_at_period_end, drop column trial_end, drop column pending_plan_id, drop column pending_billing_interval;
drop table private.subscription_transitions, private.vies_answers, public.billing_details, public.vat_rates, public.countries;
drop function private.assert_billing_details_row, private.has_btw_form;
