-- The calls of workers. A job is taken together with the lease of its server, and only the owner of the lease writes the result. A worker that
-- dies loses its lease, and the attempt counts.

create or replace function private.outside_text(p_text text, p_most integer) returns text
language sql immutable parallel safe
return nullif(btrim(left(private.one_line(p_text), p_most)), '');
comment on function private.outside_text is 'Text of another system on one line of at most p_most characters; null where nothing is left.';

create or replace function private.take_registry_work(p_limit integer, p_seconds integer, p_worker bigint default null) returns setof jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_args jsonb;
  s public.mcp_servers;
begin
  for v_args in select t from private.take_jobs('registry', p_limit) t loop
    if v_args ? 'sync' then
      return next '{"kind": "sync"}';
      continue;
    end if;
    update public.mcp_servers x
    set lease_token = private.new_lease(p_worker), lease_until = clock_timestamp() + make_interval(secs => p_seconds), tries = x.tries + 1
    where x.id = private.as_uuid(v_args ->> 'serverId') and x.status = 'connecting' and x.lease_token is null
    returning * into s;
    return next case when found then jsonb_build_object('kind', 'server', 'id', s.id, 'token', s.lease_token, 'url', s.url,
      'sealed', (select x.sealed from private.mcp_server_secrets x where x.server_id = s.id)) end;
  end loop;
end
$$;
comment on function private.take_registry_work is 'Leases up to p_limit servers to connect; null where there is nothing to do. Authorization: callable by the worker only.';

-- {id, token, ok, version?, tools?, message?, isFinal?}; false where another holder has the server, or it is gone. Three attempts, then an error.
create or replace function private.finish_mcp_server(p jsonb) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_waits constant interval[] := array['2 seconds', '10 seconds']::interval[];
  v_ok constant boolean := (p ->> 'ok')::boolean;
  s public.mcp_servers;
begin
  select * into s from public.mcp_servers x
  where x.id = private.as_uuid(p ->> 'id') and x.lease_token = private.as_uuid(p ->> 'token') and x.status = 'connecting' for update;
  if not found then
    return false;
  end if;
  if not v_ok and s.tries <= cardinality(c_waits) and not coalesce((p ->> 'isFinal')::boolean, false) then
    update public.mcp_servers x set lease_token = null, lease_until = null where x.id = s.id;
    perform private.queue_mcp_server(s, clock_timestamp() + c_waits[s.tries]);
    return true;
  end if;
  update public.mcp_servers x
  set lease_token = null, lease_until = null, status = case when v_ok then 'connected' else 'error' end,
    version = case when v_ok then coalesce(private.outside_text(p ->> 'version', 255), x.version) else x.version end,
    error_message = case when not v_ok then coalesce(private.outside_text(p ->> 'message', 500), 'The server could not be reached.') end, updated_at = now()
  where x.id = s.id;
  delete from public.mcp_tools t where t.server_id = s.id;
  if v_ok then
    insert into public.mcp_tools (organization_id, server_id, name)
    select s.organization_id, s.id, t.name from jsonb_array_elements_text(private.as_array(p -> 'tools', 'tools')) with ordinality t (name, ord)
    where char_length(t.name) between 1 and 200 and private.is_plain(t.name) and t.ord <= 200 on conflict do nothing;
  end if;
  return true;
end
$$;
comment on function private.finish_mcp_server is
  'The result of an attempt to connect: connected with at most 200 tools, the next attempt, or an error. Authorization: callable by the worker only, by the token of the lease.';

-- Of the registry's items nothing that a browser would run or that does not fit is kept. All items or none: a failure leaves the stored rows.
create or replace function private.store_registry(p_items jsonb) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_at constant timestamptz := clock_timestamp();
  v_count integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('registry', 0));
  insert into public.mcp_registry_items as x (id, name, description, homepage, vendor, version, remote_url, synced_at)
  select distinct on (i.id) i.id, i.name, coalesce(private.outside_text(i.description, 1000), ''),
    case when private.is_web_address(i.homepage, 'https?') then i.homepage end, i.vendor, private.outside_text(i.version, 255),
    case when private.is_web_address(i.remote, 'https') and i.remote !~ '[{}]' then i.remote end, v_at
  from (
    select e ->> 'name' as id, regexp_replace(e ->> 'name', '^.*/', '') as name, e ->> 'description' as description, e ->> 'homepage' as homepage,
      '@' || nullif(split_part(e ->> 'name', '/', 1), e ->> 'name') as vendor, e ->> 'version' as version, e ->> 'remote' as remote, o.ord
    from jsonb_array_elements(p_items) with ordinality o (e, ord)) i
  where i.id ~ '^[A-Za-z0-9][A-Za-z0-9._/@-]{0,198}$' and i.name <> ''
  order by i.id, i.ord
  on conflict (id) do update set name = excluded.name, description = excluded.description, homepage = excluded.homepage, vendor = excluded.vendor,
    version = excluded.version, remote_url = excluded.remote_url, synced_at = excluded.synced_at
  where x.position is null;
  get diagnostics v_count = row_count;
  -- An empty registry is more likely a fault of it.
  if v_count > 0 then
    delete from public.mcp_registry_items x where x.position is null and x.synced_at < v_at;
  end if;
  return v_count;
end
$$;
comment on function private.store_registry is
  'Replaces the synchronized items, [{name, description, version, homepage?, remote?}]; seeds stay as they are. Authorization: callable by the worker only.';
grant execute on function private.take_registry_work, private.finish_mcp_server, private.store_registry to kijko_worker;

create or replace function private.sweep_mcp_servers(p_at timestamptz default clock_timestamp()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.mcp_servers;
begin
  for s in select * from public.mcp_servers x where x.lease_until < p_at limit 1000 for update skip locked loop
    perform private.finish_mcp_server(jsonb_build_object('id', s.id, 'token', s.lease_token, 'ok', false, 'message', 'Connecting was interrupted.'));
  end loop;
end
$$;
comment on function private.sweep_mcp_servers is 'Gives servers of lost workers to others. Authorization: callable by schedules only.';

create or replace function private.queue_registry_sync() returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.enqueue('registry.run', '{"sync": true}', now(), 'registry.sync', 'registry');
end
$$;
comment on function private.queue_registry_sync is 'Has a job synchronize the registry; one waits at a time. Authorization: callable by schedules only.';
