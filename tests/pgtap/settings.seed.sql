insert into public.user_settings (user_id, key, value) values (pg_temp.person(), 'of_' || lower(pg_temp.tenant()), to_jsonb(pg_temp.secret()));
