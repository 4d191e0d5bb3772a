-- The demo tenant of a development database, for "make run" and "supabase db reset" alike: a person with an organization of their
-- own. Idempotent. It sets no password: "make run" gives the person one and prints it, on Supabase they sign up with this address.
do $$
declare
  v_user constant uuid := '00000000-0000-4000-8000-000000000001';
begin
  insert into public.users (id, email, first_name, last_name, email_verified_at)
  values (v_user, 'demo@kijko.example', 'Demo', 'User', now())
  on conflict do nothing;
  if found then
    perform private.create_organization('Demo workspace', v_user);
  end if;
end
$$;
