-- A claimed account. The person who registered an address never proved to own it, and now its owner has: by an identity provider, by the
-- link of a forgotten password or by a link to sign in. The registrant may be a stranger who waits for the owner to come, or the owner
-- themselves, who never verified. So nothing that lets the registrant back in, or sends content to them, stays in force. What is only a
-- secret ends. What is work pauses, and the owner switches it on again. docs/claimed-accounts.md decides table by table.

-- The connections of organizations that the person owns: no content goes out, and none comes in under an access that they never gave.
create or replace function private.pause_connections(p_orgs uuid[]) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v jsonb := '{}';
  v_count integer;
  i public.integrations;
  v_id uuid;
begin
  update public.webhooks w set status = 'paused' where w.organization_id = any (p_orgs) and w.status = 'active';
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('webhooks', v_count);
  -- Attempts that wait would go out after the webhook is switched on again. An attempt in flight ends by its lease.
  update public.webhook_deliveries d set status = 'failed'
  where d.organization_id = any (p_orgs) and d.status = 'pending' and d.lease_token is null;

  update public.connectors c set status = 'inactive' where c.organization_id = any (p_orgs) and c.status <> 'inactive';
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('connectors', v_count);

  -- A server of the registrant's choice stays without its tools until it is connected again. A worker that has it loses its lease.
  update public.mcp_servers m set status = 'error', error_message = 'Paused, because the account of the owner was claimed. Check the address, then reconnect.',
    lease_token = null, lease_until = null, updated_at = now()
  where m.organization_id = any (p_orgs) and m.status <> 'error';
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('mcpServers', v_count);
  delete from public.mcp_tools t where t.organization_id = any (p_orgs);

  -- An expired integration keeps its configuration and is reconnected by a consent. A synchronization in flight loses its lease.
  v_count := 0;
  for i in
    select x.* from public.integrations x join public.integration_apps a on a.id = x.provider
    where x.organization_id = any (p_orgs) and a.auth <> 'built_in' order by x.id for no key update of x
  loop
    perform private.revoke_integration(i.id);
    delete from private.integration_secrets s where s.integration_id = i.id;
    update public.integrations x
    set status = 'expired', sync_requested_at = null, sync_token = null, sync_lease_until = null, sync_leases = 0 where x.id = i.id;
    perform private.log_integration(i.id, null, 'warning', 'Paused, because the account of the owner was claimed. Connect it again.');
    v_count := v_count + 1;
  end loop;
  v := v || jsonb_build_object('integrations', v_count);
  delete from private.integration_states s where s.organization_id = any (p_orgs);

  -- A directory makes its people members of a project. Its trigger gives the token back.
  delete from private.directory_syncs d where d.organization_id = any (p_orgs);
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('directories', v_count);

  -- Prompts go to the account that a key belongs to.
  delete from private.provider_keys k where k.organization_id = any (p_orgs);
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('providerKeys', v_count);

  -- Custom chunking posts every file to an address. The address stays in the settings; runs that have begun stop at it.
  for v_id in select p.id from public.projects p where p.organization_id = any (p_orgs) and p.chunking_strategy = 'custom' order by p.id loop
    perform private.cancel_active_run(v_id);
    update public.projects p set chunking_strategy = 'semantic' where p.id = v_id;
    v_count := coalesce((v ->> 'chunkingWebhooks')::integer, 0) + 1;
    v := v || jsonb_build_object('chunkingWebhooks', v_count);
  end loop;

  -- A push to a repository of the registrant would start a run and bring content. The trigger of the setting ends private.push_hooks.
  update public.project_settings s set processing_options = s.processing_options || '{"realTimeIncremental": false}'
  where s.organization_id = any (p_orgs) and (s.processing_options ->> 'realTimeIncremental')::boolean;
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('watched', v_count);

  -- Links to files of the audit log. Their schedules mail to the address of an active admin only, so they go on.
  delete from private.audit_files f where f.organization_id = any (p_orgs);
  return v;
end
$$;
comment on function private.pause_connections is
  'Pauses what connects organizations with the outside, and counts it. Authorization: callable by definer functions of ours only.';

-- All other people in the organizations that the person owns. A reactivation or another sending brings each of them back as they were.
create or replace function private.pause_people(p_user_id uuid, p_orgs uuid[]) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v jsonb := '{}';
  v_count integer;
  v_guest record;
begin
  perform private.lock_organization(o) from unnest(p_orgs) o order by o;
  update public.memberships m set status = 'inactive' where m.organization_id = any (p_orgs) and m.user_id <> p_user_id and m.status = 'active';
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('members', v_count);
  update public.team_invitations i set status = 'cancelled' where i.organization_id = any (p_orgs) and i.status in ('pending', 'expired');
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('invitations', v_count);

  delete from private.project_invitations i using public.project_members m
  where m.id = i.member_id and m.organization_id = any (p_orgs) and m.accepted_at is null;
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('projectInvitations', v_count);

  -- A deactivated member is no guest either. The row of a guest from outside is an invitation again, with its role and without a token.
  v_count := 0;
  for v_guest in
    select m.id, m.project_id, m.organization_id, m.user_id
    from public.project_members m join public.projects p on p.id = m.project_id
    where m.organization_id = any (p_orgs) and m.accepted_at is not null and m.user_id <> p_user_id and p.user_id <> m.user_id
      and not exists (select from public.memberships s where s.organization_id = m.organization_id and s.user_id = m.user_id)
    order by m.project_id, m.id
  loop
    update public.project_members m set accepted_at = null, user_id = null where m.id = v_guest.id;
    delete from private.project_invitations i where i.member_id = v_guest.id;
    delete from public.project_stars s where s.user_id = v_guest.user_id and s.project_id = v_guest.project_id;
    perform private.emit_removal('member_removed', v_guest.organization_id, v_guest.project_id, v_guest.user_id, null);
    v_count := v_count + 1;
  end loop;
  return v || jsonb_build_object('guests', v_count);
end
$$;
comment on function private.pause_people is
  'Pauses all others in organizations of a person, and counts them. Authorization: callable by definer functions of ours only.';

-- One line for each kind that was counted; null where nothing was.
create or replace function private.claim_lines(p_counts jsonb) returns text
language sql immutable parallel safe
return (
  select string_agg(format('- %s %s', (p_counts ->> t.key)::integer, case when (p_counts ->> t.key)::integer = 1 then t.one else t.many end), E'\n' order by t.ord)
  from (values
    (1, 'members', 'member of your team was deactivated: reactivate them in Settings, Members.', 'members of your team were deactivated: reactivate them in Settings, Members.'),
    (2, 'guests', 'guest of a project is a pending invitation again: send it again in the project.', 'guests of projects are pending invitations again: send them again in the project.'),
    (3, 'invitations', 'invitation to your team was withdrawn: invite again.', 'invitations to your team were withdrawn: invite again.'),
    (4, 'projectInvitations', 'open invitation to a project lost its link: send it again in the project.', 'open invitations to projects lost their links: send them again in the project.'),
    (5, 'webhooks', 'webhook was paused: check its address, then activate it in Integrations.', 'webhooks were paused: check their addresses, then activate them in Integrations.'),
    (6, 'connectors', 'custom connector was switched off: check its address, then save it in Integrations.', 'custom connectors were switched off: check their addresses, then save them in Integrations.'),
    (7, 'integrations', 'integration was disconnected and keeps its settings: reconnect it in Integrations.', 'integrations were disconnected and keep their settings: reconnect them in Integrations.'),
    (8, 'directories', 'directory was disconnected: connect it again in the project.', 'directories were disconnected: connect them again in the project.'),
    (9, 'gitConnections', 'Git account was disconnected: connect it again.', 'Git accounts were disconnected: connect them again.'),
    (10, 'providerKeys', 'key of a model provider was deleted: enter yours in Settings.', 'keys of model providers were deleted: enter yours in Settings.'),
    (11, 'chunkingWebhooks', 'project chunks without its webhook: check the address, then choose custom chunking again.', 'projects chunk without their webhooks: check the addresses, then choose custom chunking again.'),
    (12, 'habits', 'habit was switched off: switch it on in Habits.', 'habits were switched off: switch them on in Habits.'),
    (13, 'reflexes', 'reflex was switched off: switch it on in Reflexes.', 'reflexes were switched off: switch them on in Reflexes.'),
    (14, 'reflexSecrets', 'secret of an incoming webhook was deleted: make a new one in Reflexes.', 'secrets of incoming webhooks were deleted: make new ones in Reflexes.'),
    (15, 'watched', 'project follows no pushes any more: check its repositories, then switch incremental runs on in its settings.', 'projects follow no pushes any more: check their repositories, then switch incremental runs on in their settings.'),
    (17, 'mcpServers', 'MCP server was disconnected: check its address, then reconnect it.', 'MCP servers were disconnected: check their addresses, then reconnect them.'),
    (16, 'apiKeys', 'API key was revoked: create another one.', 'API keys were revoked: create others.')
  ) t (ord, key, one, many)
  where (p_counts ->> t.key)::integer > 0
);
comment on function private.claim_lines is 'What a claim paused and ended, a line a kind, and how to get it back.';

create or replace function private.claim_account(p_user_id uuid, p_at timestamptz) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  u public.users;
  v jsonb;
  v_orgs uuid[];
  v_count integer;
  v_lines text;
  v_elsewhere text;
begin
  -- Of simultaneous proofs one claims. The sign-in of the other is the owner's already, so nothing of it ends.
  select * into u from public.users x where x.id = p_user_id for no key update;
  if u.email_verified_at is not null then
    return;
  end if;
  v_orgs := array(select m.organization_id from public.memberships m where m.user_id = u.id and m.role = 'owner' order by m.joined_at, m.id);

  -- Ways in.
  delete from private.credentials c where c.user_id = u.id;
  delete from private.password_history h where h.user_id = u.id;
  delete from private.identities i where i.user_id = u.id;
  delete from private.account_tokens t where t.user_id = u.id and t.used_at is null;
  delete from private.second_factors f where f.user_id = u.id;
  delete from private.second_factor_setups f where f.user_id = u.id;
  delete from private.second_factor_challenges c where c.user_id = u.id;
  delete from private.backup_codes b where b.user_id = u.id;
  delete from private.remembered_devices d where d.user_id = u.id;
  select count(private.end_api_key(k.id, 'revoked')) into v_count from public.api_keys k where k.user_id = u.id and k.revoked_at is null;
  v := jsonb_build_object('apiKeys', v_count);
  perform private.revoke_session(s.id, 'account_claimed', p_at) from private.sessions s where s.user_id = u.id and s.revoked_at is null;

  -- What acts for the person, in whatever organization.
  update public.habits h set is_active = false where h.user_id = u.id and h.is_active;
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('habits', v_count);
  update public.reflexes r set is_active = false where r.user_id = u.id and r.is_active;
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('reflexes', v_count);
  delete from private.reflex_secrets s using public.reflexes r where r.id = s.reflex_id and r.user_id = u.id;
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('reflexSecrets', v_count);
  delete from private.connection_states s where s.user_id = u.id or s.organization_id = any (v_orgs);
  delete from private.integration_states s where s.user_id = u.id;
  delete from private.repository_checks r where r.user_id = u.id;
  -- Links to files, and files that are being written.
  delete from private.data_exports e where e.user_id = u.id;
  delete from private.git_connections c where c.user_id = u.id;
  get diagnostics v_count = row_count;
  v := v || jsonb_build_object('gitConnections', v_count);

  v := v || private.pause_people(u.id, v_orgs) || private.pause_connections(v_orgs);

  -- An invitation's token is no proof of the address: the inviting person sees it as well. So the owner of the address begins in an
  -- organization of their own, and decides about the others.
  -- A person whose memberships are all inactive, or who has none, is treated at the sign-in as everywhere.
  if v_orgs = '{}' and exists (select from public.memberships m where m.user_id = u.id and m.status = 'active') then
    v_orgs := array[private.create_organization(private.personal_organization_name(u.first_name, u.last_name, u.email), u.id)];
  end if;
  if v_orgs <> '{}' and coalesce(u.default_organization_id <> all (v_orgs), true) then
    update public.users x set default_organization_id = v_orgs[1] where x.id = u.id;
  end if;
  update public.users x set email_verified_at = p_at, two_factor_enabled_at = null where x.id = u.id;

  v_lines := private.claim_lines(v);
  v_elsewhere := (select string_agg('"' || private.one_line(o.name) || '"', ', ' order by o.name, o.id)
    from public.memberships m join public.organizations o on o.id = m.organization_id where m.user_id = u.id and m.role <> 'owner');
  v := (select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(v) e where e.value <> '0');
  perform private.audit('security.account_claimed', 'The owner of the address proved it for the first time; all that was set up before was paused or ended.',
    v || '{"reason": "address_proven"}', null, o, u.id) from unnest(v_orgs) o;
  if v_lines is not null or v_elsewhere is not null then
    perform private.notify_security(u.id, 'Your account was secured', left(concat_ws(E'\n',
        'You proved that this address is yours. Until now no proof was there, so a stranger may have used the account. All sessions ended. '
          || 'What was set up before was paused. Switch on again what is yours:',
        v_lines,
        '- You are also a member of ' || v_elsewhere || '. Leave what you do not know in Settings, Members.'), 2000),
      true, 'claimed:' || pg_current_xact_id(), v);
  end if;
end
$$;
comment on function private.claim_account is
  'An unverified account becomes that of the person who proved to own its address. Authorization: callable by definer functions of ours only.';
