-- Roles, as Supabase has them, plus the two login roles of ours. Idempotent; run by the owner of the database (which must be
-- able to create roles and, so that definer functions may cross row-level security, has BYPASSRLS as Supabase's `postgres` has).
-- Passwords of the login roles are set by the operator (`alter role kijko_server password ...`); none has a default.
do $$
declare
  v_role text;
  v_closed text;
begin
  -- Every database of a cluster shares its roles, so two installations at once would race here.
  perform pg_advisory_xact_lock(hashtext('kijko bootstrap'));

  foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I nologin noinherit', v_role);
    end if;
  end loop;
  if not (select rolbypassrls from pg_roles where rolname = 'service_role') then
    alter role service_role bypassrls;
  end if;

  foreach v_role in array array['kijko_server', 'kijko_worker'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I login noinherit nobypassrls', v_role);
    end if;
  end loop;

  -- From PostgreSQL 16 on, CREATEROLE lets a role grant only what it administers: what it created itself, or was told so.
  if current_setting('server_version_num')::integer >= 160000 and not (select rolsuper from pg_roles where rolname = current_user) then
    select string_agg(quote_ident(r), ', ') into v_closed from unnest(array['anon', 'authenticated', 'service_role']) r
    where not pg_has_role('kijko_server', r, 'member') and not pg_has_role(current_user, r, 'member with admin option');
    if v_closed is not null then
      raise insufficient_privilege using
        message = format('%I may not grant %s to kijko_server', current_user, v_closed),
        hint = format('As a superuser, or whoever created them: grant %s to %I with admin option', v_closed, current_user);
    end if;
  end if;

  -- The server becomes the caller for the length of one transaction; by itself it may do next to nothing (NOINHERIT).
  if not pg_has_role('kijko_server', 'anon', 'member') then grant anon to kijko_server; end if;
  if not pg_has_role('kijko_server', 'authenticated', 'member') then grant authenticated to kijko_server; end if;
  if not pg_has_role('kijko_server', 'service_role', 'member') then grant service_role to kijko_server; end if;
end
$$;
