-- What a person said about their persona.
insert into public.user_personas (user_id, override) values (pg_temp.person(), 'maya');
