-- The judge of a context's path names the permission that is missing.
drop function if exists private.path_context(jsonb, text);

---- create above / drop below ----

