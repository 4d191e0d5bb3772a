select private.audit('context.created', 'A line of ' || pg_temp.tenant(), null, null, pg_temp.org(), pg_temp.person());
