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
        hint = format('As a superuser, or as the role that created them: grant %s to %I with admin option', v_closed, current_user);
    end if;
  end if;

  -- The server becomes the caller for the length of one transaction; by itself it may do next to nothing (NOINHERIT).
  if not pg_has_role('kijko_server', 'anon', 'member') then grant anon to kijko_server; end if;
  if not pg_has_role('kijko_server', 'authenticated', 'member') then grant authenticated to kijko_server; end if;
  if not pg_has_role('kijko_server', 'service_role', 'member') then grant service_role to kijko_server; end if;

  -- Each refusal is an ERROR with several lines of context, and a caller may be refused a hundred times a second: that would fill the
  -- disk of the database. Server and worker write faults of their own into their logs. LOG stands above ERROR here, so slow statements and lock
  -- waits are written as before. Only a superuser, or whom one has granted it to, may say this; elsewhere it stays as it is. A value that
  -- an operator has chosen stays as well.
  foreach v_role in array array['kijko_server', 'kijko_worker'] loop
    if not exists (select from pg_db_role_setting s join pg_roles r on r.oid = s.setrole cross join unnest(s.setconfig) c
      where r.rolname = v_role and s.setdatabase = 0 and c like 'log\_min\_messages=%') then
      begin
        execute format('alter role %I set log_min_messages = log', v_role);
      exception when insufficient_privilege then
        raise notice 'refusals will fill the log of PostgreSQL; as a superuser: alter role % set log_min_messages = log', v_role;
      end;
    end if;
  end loop;
end
$$;
