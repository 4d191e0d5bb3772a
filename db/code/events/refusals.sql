-- The access log of the sockets (contract 30, section 12): for operators, the newest 1000 refused attempts over all server processes.
create or replace function private.plain_text(p_text text) returns text
language sql immutable parallel safe
return regexp_replace(p_text, '[^ -~]', '?', 'g');
comment on function private.plain_text is 'The text with everything but printable ASCII replaced: what strangers sent, for a list that people read.';

create or replace function private.log_refusals(p_entries jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.realtime_refusals (refused_at, socket_id, project_id, token, reason, ip_address)
  select e."timestamp", e."socketId", left(private.plain_text(e."projectId"), 100), left(private.plain_text(e.token), 18),
    left(e.reason, 200), left(e."ipAddress", 100)
  from jsonb_to_recordset(p_entries) e ("timestamp" timestamptz, "socketId" uuid, "projectId" text, token text, reason text, "ipAddress" text);
  delete from private.realtime_refusals r
  where r.id < (select k.id from private.realtime_refusals k order by k.id desc offset 999 limit 1);
end
$$;
comment on function private.log_refusals is 'Adds refused attempts and forgets all but the newest 1000. Authorization: callable by the server only.';
grant execute on function private.log_refusals to kijko_server;

create or replace function private.read_refusals(p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  if not private.is_platform_admin() then
    perform private.refuse(403, 'FORBIDDEN', 'Only administrators of the platform may do this.');
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('timestamp', private.iso(r.refused_at), 'socketId', r.socket_id,
      'projectId', r.project_id, 'token', r.token, 'reason', r.reason, 'ipAddress', r.ip_address)) order by r.id), '[]')
    from (select * from private.realtime_refusals order by id desc limit p_limit) r
  );
end
$$;
comment on function private.read_refusals is 'The newest refused attempts, oldest first. Authorization: private.is_platform_admin(). Errors: 403 FORBIDDEN.';
grant execute on function private.read_refusals to authenticated;

create or replace function private.clear_refusals() returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if not private.is_platform_admin() then
    perform private.refuse(403, 'FORBIDDEN', 'Only administrators of the platform may do this.');
  end if;
  delete from private.realtime_refusals;
end
$$;
comment on function private.clear_refusals is 'Empties the access log. Authorization: private.is_platform_admin(). Errors: 403 FORBIDDEN.';
grant execute on function private.clear_refusals to authenticated;
