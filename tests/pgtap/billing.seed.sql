update public.billing_details set company_name = pg_temp.secret(), city = pg_temp.secret(), btw_number = 'NL004495445B01' where organization_id = pg_temp.org();
insert into private.vies_answers (organization_id, number, is_valid, name) values (pg_temp.org(), 'NL004495445B01', true, pg_temp.secret());
