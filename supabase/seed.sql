-- The demo tenant of a development database, for "make run" and "supabase db reset" alike: a person with an organization of their
-- own. Idempotent. Its password is known to everybody (demo-password): never run this where strangers can sign in.
do $seed$
declare
  v_user constant uuid := '00000000-0000-4000-8000-000000000001';
begin
  insert into public.users (id, email, first_name, last_name, email_verified_at)
  values (v_user, 'demo@kijko.local', 'Demo', 'User', now())
  on conflict do nothing;
  if not found then
    return;
  end if;
  perform private.create_organization('Demo workspace', v_user);
  insert into private.credentials (user_id, password_hash, meets_policy)
  values (v_user, '$argon2id$v=19$m=19456,t=2,p=1$1JXZ+Raafb2i3yZ+bl0OcA$cwGwdNwFk4FErhMRg453v80VyBWoHhDcCG7/HZD3ItQ', false);
end
$seed$;
