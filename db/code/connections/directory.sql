-- Directory sync (contract 10, section 14): the people of a directory's groups become members of a project if they are members of the
-- project's organization. Others stay outside: a directory is no proof of an account, and a membership is no invitation.

create or replace function private.directory_json(p_project_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.assert_project_role(p_project_id, 'admin');
  return (select jsonb_strip_nulls(jsonb_build_object('provider', d.provider, 'connected', t.state = 'live', 'lastSyncAt', private.iso(d.last_sync_at),
      'groupCount', d.group_count, 'memberCount', d.member_count, 'error', d.error))
    from private.directory_syncs d join private.provider_tokens t on t.id = d.token_id where d.project_id = p_project_id);
end
$$;
comment on function private.directory_json is 'DirectorySyncStatus of a project, or null. Authorization: admins of the project only.';
grant execute on function private.directory_json to authenticated;

create or replace function private.store_directory(s private.connection_states, p_token_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_old uuid;
begin
  perform private.assert_project_role(s.project_id, 'admin');
  perform private.require_directory_gate(s.organization_id);
  select d.token_id into v_old from private.directory_syncs d where d.project_id = s.project_id for update;
  insert into private.directory_syncs as d (project_id, organization_id, provider, token_id, connected_by)
  values (s.project_id, s.organization_id, s.provider, p_token_id, s.user_id)
  on conflict (project_id) do update set provider = excluded.provider, token_id = excluded.token_id, connected_by = excluded.connected_by,
    last_sync_at = null, group_count = null, member_count = null, error = null, updated_at = now();
  if v_old is not null then
    perform private.end_token(v_old);
  end if;
  perform private.enqueue('connections.sync', jsonb_build_object('projectId', s.project_id), now(), 'connections.sync:' || s.project_id);
  perform private.record_activity(s.project_id, 'permission', format('connected the directory %s', private.provider_name(s.provider)));
  perform private.audit('integration.connected', format('Connected the directory %s to a context.', private.provider_name(s.provider)),
    jsonb_build_object('provider', s.provider, 'projectId', s.project_id));
  return private.directory_json(s.project_id);
end
$$;
comment on function private.store_directory is
  'The directory of a project, from a consent that has ended well. Authorization: callable by functions of ours only; the person of the state must be admin of the project, and the plan must open directories. Errors: 403 FORBIDDEN, PLAN_UPGRADE_REQUIRED, 404 PROJECT_NOT_FOUND.';

create or replace function private.require_directory_gate(p_org_id uuid) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  if not private.has_gate(p_org_id, 'directory_sync') then
    perform private.refuse(403, 'PLAN_UPGRADE_REQUIRED', 'Directory sync needs a plan that includes it.', null, jsonb_build_object('requiredPlan',
      (select p.id from public.plans p where 'directory_sync' = any (p.gates) order by p.position limit 1)));
  end if;
end
$$;
comment on function private.require_directory_gate is '403 PLAN_UPGRADE_REQUIRED unless the plan of a project''s organization opens directories. Authorization: callable by functions of ours only.';

create or replace function private.begin_directory(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_project uuid := private.path_project(p, 'admin');
begin
  if coalesce(p ->> 'provider', '') not in ('okta', 'azure_ad') then
    perform private.refuse_field('provider', 'Supported directories are okta and azure_ad.');
  end if;
  if not exists (select from public.projects q where q.id = v_project and q.organization_id = private.org_id()) then
    perform private.refuse(403, 'FORBIDDEN', 'A directory is connected by an admin who acts in the project''s organization.');
  end if;
  perform private.require_directory_gate(private.org_id());
  return private.begin_connection(p, v_project);
end
$$;
comment on function private.begin_directory is
  'Begins the consent at a directory. Authorization: admins of the project who act in its organization, through our server only. Errors: 400, 403 FORBIDDEN, PLAN_UPGRADE_REQUIRED, 404 PROJECT_NOT_FOUND, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function private.end_directory(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_provider text;
begin
  perform private.assert_project_role(p_project_id, 'admin');
  delete from private.directory_syncs d where d.project_id = p_project_id returning d.provider into v_provider;
  if found then
    perform private.record_activity(p_project_id, 'permission', format('disconnected the directory %s', private.provider_name(v_provider)));
    perform private.audit('integration.disconnected', format('Disconnected the directory %s from a context.', private.provider_name(v_provider)),
      jsonb_build_object('provider', v_provider, 'projectId', p_project_id));
  end if;
end
$$;
comment on function private.end_directory is 'Ends the sync; members that it brought stay. Authorization: admins of the project only. Errors: 403, 404.';
grant execute on function private.begin_directory, private.end_directory to authenticated;

-- ---------------------------------------------------------------------------------------------------------------------- the worker

create or replace function private.directory_work(p_project_id uuid) returns table (provider text, token_id uuid)
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.directory_syncs d set error = 'The plan does not include directory sync any more.', updated_at = now()
  where d.project_id = p_project_id and not private.has_gate(d.organization_id, 'directory_sync');
  if not found then
    return query select d.provider, d.token_id from private.directory_syncs d where d.project_id = p_project_id;
  end if;
end
$$;
comment on function private.directory_work is 'What to read for a project; no row where nothing is, or the plan does not include it. Authorization: callable by the worker only.';

create or replace function private.note_directory_error(p_token_id uuid, p_error text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update private.directory_syncs d set error = left(p_error, 500), updated_at = now() where d.token_id = p_token_id;
end
$$;
comment on function private.note_directory_error is 'Shows why the last reading of a directory failed. Authorization: callable by the worker only.';

-- p_people: [{email, name}]. A complete reading also removes members who left the directory.
create or replace function private.import_directory(p_token_id uuid, p_groups integer, p_people jsonb, p_complete boolean) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  d private.directory_syncs;
  v_emails text[];
  v_person record;
  v_member uuid;
  v_full boolean := false;
  v_count integer;
begin
  -- One synchronization at a time, and only while this connection is the project's.
  select * into d from private.directory_syncs x where x.token_id = p_token_id for update;
  if not found then
    return null;
  end if;
  select coalesce(array_agg(distinct e.email), '{}') into v_emails
  from (select private.clean_email(j ->> 'email') as email from jsonb_array_elements(p_people) j) e where e.email is not null;

  if p_complete then
    delete from public.project_members m using private.directory_members i, public.projects p
    where i.project_id = d.project_id and m.id = i.member_id and p.id = m.project_id and m.user_id is distinct from p.user_id
      and m.email <> all (v_emails);
  end if;
  for v_person in
    select u.id, u.email, nullif(left(btrim(u.first_name || ' ' || u.last_name), 100), '') as name
    from public.users u join public.memberships s on s.user_id = u.id and s.organization_id = d.organization_id and s.status = 'active'
    where u.email = any (v_emails)
      and not exists (select from public.project_members m where m.project_id = d.project_id and m.user_id = u.id)
    order by u.email
  loop
    v_member := null;
    update public.project_members m set user_id = v_person.id, accepted_at = now() where m.project_id = d.project_id and m.email = v_person.email
      and m.user_id is null returning m.id into v_member;
    if v_member is null then
      if (select count(*) from public.project_members m where m.project_id = d.project_id) >= 500 then
        v_full := true;
        exit;
      end if;
      insert into public.project_members (organization_id, project_id, user_id, email, name, role, invited_by, accepted_at)
      values (d.organization_id, d.project_id, v_person.id, v_person.email, v_person.name, 'viewer', d.connected_by, now())
      on conflict do nothing returning id into v_member;
    end if;
    if v_member is not null then
      insert into private.directory_members (member_id, project_id) values (v_member, d.project_id) on conflict do nothing;
    end if;
  end loop;
  select count(*) into v_count from private.directory_members i where i.project_id = d.project_id;
  update private.directory_syncs x set last_sync_at = now(), group_count = p_groups, member_count = v_count, updated_at = now(),
    error = case when v_full then 'A project has at most 500 members; not all people of the directory have a place.'
      when not p_complete then 'The directory is larger than what is read; members who left it are not removed.' end
  where x.project_id = d.project_id;
  return v_count;
end
$$;
comment on function private.import_directory is
  'Makes colleagues in a directory accepted members with role viewer, and removes the colleagues who left the directory. Authorization: callable by the worker only.';
grant execute on function private.directory_work, private.note_directory_error, private.import_directory to kijko_worker;
