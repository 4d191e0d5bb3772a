-- VAT numbers (contract 50, section 6.1): their form, the check digits of Dutch ones, and the answers of VIES. Only the server asks VIES. It
-- passes the answer to the operation as p.answer, which callers past it cannot.

-- Only letters of ASCII change: a letter outside it that folds into it would make another number valid.
create or replace function private.upper_ascii(p_text text) returns text
language sql immutable parallel safe
return translate(p_text, 'abcdefghijklmnopqrstuvwxyz', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ');
comment on function private.upper_ascii is 'The text with its letters of ASCII in upper case.';

create or replace function private.bare_btw(p_number text) returns text
language sql immutable parallel safe
return nullif(private.upper_ascii(regexp_replace(p_number, '[\s\u00A0\u2010-\u2015.-]', '', 'g')), '');
comment on function private.bare_btw is 'A VAT number without blanks, dots and dashes, in upper case; null where nothing is left.';

-- Two tests, because numbers of sole traders are not made of their tax number since 2020.
create or replace function private.has_btw_check_digits(p_number text) returns boolean
language sql immutable parallel safe
return case when p_number not like 'NL%' then true else
  (select sum((10 - i) * substr(p_number, i + 2, 1)::integer) % 11 from generate_series(1, 8) i) = substr(p_number, 11, 1)::integer
  or (select string_agg(case when c ~ '[A-Z]' then (ascii(c) - 55)::text else c end, '' order by i)::numeric % 97
    from regexp_split_to_table(p_number, '') with ordinality t (c, i)) = 1 end;
comment on function private.has_btw_check_digits is
  'Do the check digits of a number of the right form match (elfproef, or modulo 97)? Those of other states than NL are left to VIES.';

create or replace function private.keep_vies_answer(p_org_id uuid, p_number text, p_answer jsonb) returns private.vies_answers
language plpgsql volatile security definer set search_path = ''
as $$
declare
  a private.vies_answers;
begin
  insert into private.vies_answers as x (organization_id, number, is_valid, name, address, consultation_number)
  values (p_org_id, p_number, p_answer ->> 'outcome' = 'valid', left(p_answer ->> 'name', 500), left(p_answer ->> 'address', 1000), left(p_answer ->> 'consultation', 100))
  on conflict (organization_id, number) do update set is_valid = excluded.is_valid, name = excluded.name, address = excluded.address,
    consultation_number = excluded.consultation_number, answered_at = now()
  returning * into a;
  delete from private.vies_answers x where x.organization_id = p_org_id and x.number in (
    select o.number from private.vies_answers o where o.organization_id = p_org_id order by o.answered_at desc, o.number offset 100);
  return a;
end
$$;
comment on function private.keep_vies_answer is 'Keeps a definite answer of VIES, the newest 100 an organization. Authorization: callable by functions of ours only.';

create or replace function private.btw_check_json(p_number text, p_outcome text, a private.vies_answers) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('number', p_number, 'outcome', p_outcome, 'name', a.name, 'address', a.address,
  'consultation', a.consultation_number, 'at', a.answered_at));
comment on function private.btw_check_json is 'The result of a check.';

-- outcome: form, digits (the layer that failed), valid, invalid, unavailable, or unasked where only VIES can tell.
create or replace function private.check_btw(p_number text, p_answer jsonb default null, p_keeps boolean default false) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_org constant uuid := private.org_id();
  v_number constant text := private.bare_btw(left(p_number, 100));
  v_outcome text;
  v_check jsonb;
  a private.vies_answers;
begin
  perform private.require_permission('canManageBilling');
  if not coalesce(private.has_btw_form(v_number), false) then
    v_outcome := 'form';
  elsif not private.has_btw_check_digits(v_number) then
    v_outcome := 'digits';
  elsif coalesce(p_answer, 'null') <> 'null' then
    perform private.refuse_strangers('VIES is asked through the API.');
    v_outcome := p_answer ->> 'outcome';
    -- Offline is no answer of VIES, and a trouble of VIES is no definite one.
    if v_outcome in ('valid', 'invalid') then
      a := private.keep_vies_answer(v_org, v_number, p_answer);
    elsif v_outcome is distinct from 'unavailable' and v_outcome is distinct from 'offline' then
      perform private.refuse_field('answer', 'answer has an outcome.');
    end if;
    v_outcome := case v_outcome when 'offline' then 'valid' else v_outcome end;
  else
    select * into a from private.vies_answers x
    where x.organization_id = v_org and x.number = v_number and x.answered_at > now() - interval '24 hours';
    v_outcome := case when a.is_valid then 'valid' when not a.is_valid then 'invalid'
      when private.installation_value('vies_mode') = '"offline"' then 'valid' else 'unasked' end;
  end if;
  v_check := private.btw_check_json(case when v_outcome <> 'form' then v_number end, v_outcome, a);
  if p_keeps then
    perform private.note_btw_status(v_check, v_org);
  end if;
  return v_check;
end
$$;
comment on function private.check_btw is
  'What is known of a VAT number; p_answer is what VIES said just now. p_keeps: the result is kept beside the stored number. Authorization: canManageBilling in the caller''s own organization; an answer only from our server. Errors: 403 FORBIDDEN.';

create or replace function private.btw_result_json(p_check jsonb) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('isValid', p_check ->> 'outcome' = 'valid',
  'companyName', case when p_check ->> 'outcome' = 'valid' then p_check ->> 'name' end,
  'address', case when p_check ->> 'outcome' = 'valid' then p_check ->> 'address' end,
  'errorMessage', case p_check ->> 'outcome'
    when 'form' then 'This does not have the form of a BTW number, such as NL004495445B01.'
    when 'digits' then 'The check digits of this BTW number do not match. Please look for a typing error.'
    when 'invalid' then 'This BTW number is not registered in VIES.'
    when 'unavailable' then 'VIES is unavailable, try again later' end));
comment on function private.btw_result_json is 'BtwValidationResult.';

-- The status beside the stored number, where this is that number. A trouble of VIES keeps the last definite answer.
drop function if exists private.note_btw_status(jsonb);
create or replace function private.note_btw_status(p_check jsonb, p_org_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_outcome constant text := case when p_check ->> 'outcome' in ('form', 'digits') then 'invalid' else p_check ->> 'outcome' end;
begin
  if v_outcome = 'unasked' then
    return;
  elsif v_outcome = 'unavailable' then
    update public.billing_details d set btw_status = v_outcome where d.organization_id = p_org_id and d.btw_number = p_check ->> 'number';
  else
    update public.billing_details d
    set btw_status = v_outcome, btw_definite = v_outcome, verified_at = coalesce((p_check ->> 'at')::timestamptz, now()),
      consultation_number = p_check ->> 'consultation', registered_name = p_check ->> 'name', registered_address = p_check ->> 'address'
    where d.organization_id = p_org_id and d.btw_number = p_check ->> 'number';
  end if;
end
$$;
comment on function private.note_btw_status is
  'Keeps the result of a check beside the stored number. Authorization: callable by functions of ours only.';

create or replace function private.is_btw_valid(d public.billing_details, p_at timestamptz default now()) returns boolean
language sql stable parallel safe
return coalesce(d.btw_status = 'valid' or d.btw_status = 'unavailable' and d.btw_definite = 'valid' and d.verified_at > p_at - interval '30 days', false);
comment on function private.is_btw_valid is
  'Does the stored number count as valid? While VIES is unavailable, its last answer counts for 30 days.';

-- Numbers by which VAT is reverse-charged are checked again each month, and before an invoice when the last check is older than a day. The
-- worker asks VIES between the two calls below.
create or replace function private.queue_btw_check(p_org_id uuid, p_at timestamptz default now()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if exists (select from public.billing_details d where d.organization_id = p_org_id and d.btw_definite = 'valid' and d.country <> 'NL'
      and greatest(d.asked_at, d.verified_at) < p_at - interval '24 hours') then
    perform private.enqueue('billing.check_number', jsonb_build_object('organizationId', p_org_id), now(), 'billing.check_number:' || p_org_id);
  end if;
end
$$;
comment on function private.queue_btw_check is 'Has a VAT number that is in use checked again, once a day at most. Authorization: callable by functions of ours only.';

create or replace function private.queue_btw_checks(p_at timestamptz default now()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.queue_btw_check(x.organization_id, p_at) from (
    select d.organization_id from public.billing_details d join public.subscriptions s on s.organization_id = d.organization_id and s.plan_id <> 'free'
    where d.btw_definite = 'valid' and d.country <> 'NL' and greatest(d.asked_at, d.verified_at) < p_at - interval '1 month'
    order by greatest(d.asked_at, d.verified_at) limit 1000) x;
end
$$;
comment on function private.queue_btw_checks is 'The monthly checks of VAT numbers in use. Authorization: callable by schedules only.';

create or replace function private.begin_btw_recheck(p_org_id uuid) returns text
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_number text;
begin
  update public.billing_details d set asked_at = now()
  where d.organization_id = p_org_id and d.btw_definite = 'valid' and d.country <> 'NL' and greatest(d.asked_at, d.verified_at) < now() - interval '24 hours'
  returning d.btw_number into v_number;
  return v_number;
end
$$;
comment on function private.begin_btw_recheck is 'The number of an organization that VIES is to be asked about, or null. Authorization: callable by the worker only.';

create or replace function private.finish_btw_recheck(p_org_id uuid, p_number text, p_answer jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  a private.vies_answers;
begin
  if p_answer ->> 'outcome' in ('valid', 'invalid') then
    a := private.keep_vies_answer(p_org_id, p_number, p_answer);
  elsif p_answer ->> 'outcome' <> 'unavailable' then
    return;
  end if;
  perform private.note_btw_status(private.btw_check_json(p_number, p_answer ->> 'outcome', a), p_org_id);
end
$$;
comment on function private.finish_btw_recheck is 'Keeps what VIES said of a number that is in use. Authorization: callable by the worker only.';
grant execute on function private.begin_btw_recheck, private.finish_btw_recheck to kijko_worker;
