-- A new organization has its owner, its subscription row and nothing else; people join and leave through memberships.
create or replace function private.create_organization(p_name text, p_owner_id uuid) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid;
begin
  insert into public.organizations (name) values (p_name) returning id into v_id;
  insert into public.subscriptions (organization_id) values (v_id);
  insert into public.memberships (organization_id, user_id, role) values (v_id, p_owner_id, 'owner');
  update public.users set default_organization_id = v_id where id = p_owner_id and default_organization_id is null;
  return v_id;
end
$$;
comment on function private.create_organization is
  'A new organization on plan free with its owner; returns its id. Authorization: callable by definer functions of ours only.';
