-- How a project is shown (contract 10, section 3). Every answer with a project carries both of the client's field sets; events carry the
-- core set alone, because the rest depends on the reader.

create or replace function private.project_json(p public.projects) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', p.id, 'userId', p.user_id, 'organizationId', p.organization_id, 'name', p.name,
  'description', p.description, 'type', p.type, 'status', p.status, 'privacy', p.privacy, 'chunkingStrategy', p.chunking_strategy,
  'includeMetadata', p.include_metadata, 'anonymizeSecrets', p.anonymize_secrets, 'totalRepos', p.total_repos,
  'totalFiles', coalesce(p.total_files, p.uploaded_files), 'originalTokens', p.original_tokens, 'optimizedTokens', p.optimized_tokens,
  'ingestionTimeSeconds', p.ingestion_time_seconds, 'createdAt', private.iso(p.created_at), 'updatedAt', private.iso(p.updated_at)));
comment on function private.project_json is 'The core fields of Project, the same for every reader.';

create or replace function private.initials_icon(p_name text) returns jsonb
language sql stable parallel safe
return jsonb_build_object('type', 'initials', 'backgroundColor', '#3b82f6',
  'value', upper(left(coalesce(nullif(regexp_replace(p_name, '[^[:alpha:]]', '', 'g'), ''), p_name), 2)));
comment on function private.initials_icon is 'The icon of a project that has none of its own.';
grant execute on function private.project_json, private.initials_icon to authenticated, service_role;

-- The members beyond the core that depend on the caller: names of the owner and of the last active person, the caller's own star.
create or replace function private.project_view_json(
  p public.projects, p_user_id uuid, p_owner public.users, p_starred boolean, p_last public.users
) returns jsonb
language sql stable parallel safe
return private.project_json(p) || jsonb_strip_nulls(jsonb_build_object(
  'icon', coalesce(p.icon, private.initials_icon(p.name)),
  'sourceCount', p.source_count,
  'isShared', p.privacy = 'shared' or p.accepted_members > 1,
  'sharedBy', case when p.user_id <> p_user_id and (p.privacy = 'shared' or p.accepted_members > 1) then
    coalesce(nullif(btrim(p_owner.first_name || ' ' || p_owner.last_name), ''), split_part(p_owner.email, '@', 1)) end,
  'owner', case when p.user_id = p_user_id then 'current-user' else p_owner.email end,
  'label', p.label, 'color', p.color, 'starred', p_starred, 'archived', p.archived, 'previewUrl', p.preview_url,
  'lastActiveUser', case when p_last.id is not null then jsonb_build_object('id', p_last.id, 'firstName', p_last.first_name,
    'lastName', p_last.last_name, 'email', p_last.email, 'avatar', p_last.avatar_url) end));
comment on function private.project_view_json is 'Project of the contract, as one person sees it.';
grant execute on function private.project_view_json to authenticated;

-- One call for a whole page: owners and last active people may be strangers to the caller's organization, and row-level security would hide
-- them. The generic plan is right for any page, but looks more expensive than one for the given ids, so Postgres would plan again at every
-- call: planning six tables took six times as long as reading them.
create or replace function private.projects_json(p_ids uuid[]) returns jsonb
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_generic_plan
as $$
declare
  v_user uuid := private.user_id();
  v_org uuid := private.org_id();
  v_admin boolean := private.is_org_admin();
  v_result jsonb;
begin
  select coalesce(jsonb_agg(private.project_view_json(p, v_user, o, s.user_id is not null, u) order by t.place), '[]')
  into v_result
  from unnest(p_ids) with ordinality t (id, place)
  join public.projects p on p.id = t.id
  join public.users o on o.id = p.user_id
  left join public.project_stars s on s.project_id = p.id and s.user_id = v_user
  left join lateral (
    select m.user_id from public.project_members m
    where m.project_id = p.id and m.accepted_at is not null and m.last_active_at is not null
    order by m.last_active_at desc limit 1
  ) a on true
  left join public.users u on u.id = a.user_id
  -- This repeats the policy of public.projects.
  where (p.organization_id = v_org and (p.privacy = 'shared' or p.user_id = v_user or v_admin))
    or exists (select from public.project_members m where m.project_id = p.id and m.user_id = v_user and m.accepted_at is not null)
      and not private.is_deactivated(p.organization_id, v_user);
  return v_result;
end
$$;
comment on function private.projects_json is
  'Project[] in the order of the ids, as the caller sees them. Authorization: leaves out what the caller may not see.';

-- The same for one project, which needs no joins: a further row is read only where there is one.
create or replace function private.visible_project_json(p_id uuid) returns jsonb
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  p public.projects;
  v_owner public.users;
  v_last public.users;
  v_starred boolean;
begin
  select * into p from public.projects q where q.id = p_id;
  if not found or not coalesce(p.organization_id = private.org_id()
      and (p.privacy = 'shared' or p.user_id = v_user or private.is_org_admin()), false)
    and (not exists (select from public.project_members m where m.project_id = p_id and m.user_id = v_user and m.accepted_at is not null)
      or private.is_deactivated(p.organization_id, v_user)) then
    return null;
  end if;
  select u.* into v_last
  from public.project_members m join public.users u on u.id = m.user_id
  where m.project_id = p_id and m.accepted_at is not null and m.last_active_at is not null
  order by m.last_active_at desc limit 1;
  if p.user_id = v_last.id then
    v_owner := v_last;
  elsif p.user_id is distinct from v_user then
    select * into v_owner from public.users u where u.id = p.user_id;
  end if;
  v_starred := exists (select from public.project_stars s where s.project_id = p_id and s.user_id = v_user);
  return private.project_view_json(p, v_user, v_owner, v_starred, v_last);
end
$$;
comment on function private.visible_project_json is
  'Project as the caller sees it, or null. Authorization: nothing of what the caller may not see.';
grant execute on function private.projects_json, private.visible_project_json to authenticated;

create or replace function private.member_json(m public.project_members) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', m.id, 'projectId', m.project_id, 'userId', coalesce(m.user_id::text, ''),
  'email', m.email, 'name', m.name, 'avatarUrl', m.avatar_url, 'role', m.role, 'notifyOnIngestion', m.notify_on_ingestion,
  'notifyOnError', m.notify_on_error, 'notifyOnTeamChanges', m.notify_on_team_changes, 'invitedAt', private.iso(m.invited_at),
  'acceptedAt', private.iso(m.accepted_at), 'lastActiveAt', private.iso(m.last_active_at)));
comment on function private.member_json is 'ProjectMember of the contract.';

create or replace function private.shown_role(p_role text, p_is_owner boolean) returns text
language sql immutable parallel safe
return case when p_is_owner then 'owner' when p_role in ('admin', 'manager') then 'admin' when p_role = 'developer' then 'editor' else 'viewer' end;
comment on function private.shown_role is 'A stored project role in the four-role vocabulary.';
-- The sharing screens' shape, snake_case, with its own four roles (5.4).
create or replace function private.project_user_json(m public.project_members, p_owner_id uuid) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', m.id, 'project_id', m.project_id, 'user_id', coalesce(m.user_id::text, ''),
  'email', m.email, 'name', coalesce(m.name, split_part(m.email, '@', 1)), 'role', private.shown_role(m.role, m.user_id = p_owner_id),
  'added_at', private.iso(m.created_at), 'added_by', coalesce(m.invited_by, p_owner_id), 'avatar_url', m.avatar_url));
comment on function private.project_user_json is 'ProjectUser of the contract.';

grant execute on function private.member_json, private.project_user_json, private.shown_role to authenticated, service_role;

-- Numbers of the organization without counting: of all projects for its owners and admins, of the shared projects for its other members.
create or replace function private.counted_projects(
  out projects bigint, out active bigint, out processing bigint, out failed bigint, out tokens bigint, out files bigint
)
language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  v_org uuid := private.org_id();
  v_admin boolean := private.is_org_admin();
begin
  select coalesce(sum(c.projects), 0), coalesce(sum(c.active), 0), coalesce(sum(c.processing), 0), coalesce(sum(c.failed), 0),
    coalesce(sum(c.tokens), 0), coalesce(sum(c.files), 0)
  into projects, active, processing, failed, tokens, files
  from private.project_counters c
  where c.organization_id = v_org and (c.privacy = 'shared' or v_admin);
end
$$;
comment on function private.counted_projects is 'Kept numbers of the current organization. Authorization: private projects count for owners and admins of the organization only.';
grant execute on function private.counted_projects to authenticated;

-- The features of this installation, as its programs declare them when they start.
create or replace function private.declare_installation(p_key text, p_value jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.installation as i (key, value) values (p_key, p_value)
  on conflict (key) do update set value = excluded.value, updated_at = now() where i.value is distinct from excluded.value;
end
$$;
comment on function private.declare_installation is
  'Keys: api_url (origin of webhook addresses), context_days and token_price (contract 60, sections 2 and 3.2), data_residency ({region, country, provider, certifications}), embedding (true where vectors can be made), encryption (true where secrets can be kept), git_hosts ({host: provider}), mail, metering (true where units are copied to OpenMeter; private.declare_metering), neighbors ({name: {texts: may it get texts of customers}}), providers ({name: true} of model providers), seller ({name, address, btwNumber, kvkNumber} on invoices), stripe ({hasKey}), worker_slots ({queue: jobs that one worker runs at a time}). Authorization: callable by the server and the worker only.';
grant execute on function private.declare_installation to kijko_server, kijko_worker;

create or replace function private.has_embedding() returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return coalesce(private.installation_value('embedding') = 'true', false);
end
$$;
comment on function private.has_embedding is 'Can this installation make vectors? Authorization: gives away one public bit.';
grant execute on function private.has_embedding to authenticated, service_role;

-- ------------------------------------------------------------------------------------------- what ingestion may do to a project

create or replace function private.set_project_status(p_project_id uuid, p_status text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.projects set status = p_status where id = p_project_id and status is distinct from p_status;
end
$$;
comment on function private.set_project_status is
  'Moves the status; the state machine refuses what is no transition. Authorization: callable by definer functions of ours only.';

create or replace function private.finish_project_run(
  p_project_id uuid, p_total_files integer, p_original_tokens bigint, p_optimized_tokens bigint, p_seconds integer
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.projects
  set status = 'active', total_files = p_total_files, original_tokens = p_original_tokens, optimized_tokens = p_optimized_tokens,
    ingestion_time_seconds = p_seconds
  where id = p_project_id;
end
$$;
comment on function private.finish_project_run is
  'A completed run: status active and its numbers (files, tokens, seconds). Authorization: callable by definer functions of ours only.';

create or replace function private.project_webhook(p_project_id uuid, out url text, out sealed_secret text)
language sql stable security definer set search_path = ''
as $$
  select s.webhook_url, w.sealed
  from public.project_settings s
  left join private.project_webhook_secrets w on w.project_id = s.project_id
  where s.project_id = p_project_id and s.webhook_url is not null
$$;
comment on function private.project_webhook is 'Address and sealed secret of custom chunking. Authorization: callable by the worker only.';
grant execute on function private.project_webhook to kijko_worker;

create or replace function private.cancel_before_deletion(p_project_id uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.assert_project_role(p_project_id, 'admin');
  perform private.cancel_waiting_ingestions(p_project_id);
  perform private.cancel_active_run(p_project_id);
end
$$;
comment on function private.cancel_before_deletion is
  'Stops an active run of a project that is about to be deleted. Authorization: the caller must be its owner or an admin.';
grant execute on function private.cancel_before_deletion to authenticated;
