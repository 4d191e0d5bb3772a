-- The sessions of the caller, over all their organizations (contract 40, 6.2).

create or replace function private.my_sessions_json() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'deviceInfo', private.device_json(s.device) - 'userAgent',
      'ipAddress', coalesce(s.client_ip, ''), 'location', private.location_json(), 'lastActive', private.iso(s.last_active_at),
      'createdAt', private.iso(s.created_at), 'isCurrent', s.is_current) order by s.is_current desc, s.last_active_at desc, s.id), '[]')
    from (
      select *, x.id is not distinct from private.session_id() as is_current from private.sessions x
      where x.user_id = private.user_id() and x.revoked_at is null and x.expires_at > now() and x.idle_expires_at > now()
      -- Programs may sign in every minute; this many rows are enough.
      order by x.id is not distinct from private.session_id() desc, x.last_active_at desc, x.id limit 1000
    ) s
  );
end
$$;
comment on function private.my_sessions_json is 'UserSession[] of the caller. Authorization: private.user_id() only.';
grant execute on function private.my_sessions_json to authenticated;

create or replace function private.session_of_claims() returns uuid
language sql stable parallel safe
return coalesce(private.session_id(), private.as_uuid(coalesce(private.claims() ->> 'sid', private.claims() ->> 'session_id')));
comment on function private.session_of_claims is 'The caller''s own session, also where private.enter did not run.';

-- Ends one session, or all but the current one (null).
create or replace function private.terminate_sessions(p_id uuid) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s private.sessions;
  v_count integer := 0;
begin
  if private.user_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  for s in
    select * from private.sessions x
    where x.user_id = private.user_id() and (x.id = p_id or p_id is null) and x.id is distinct from private.session_of_claims()
      and x.revoked_at is null and x.expires_at > now() and x.idle_expires_at > now()
    order by x.id for update
  loop
    if private.revoke_session(s.id, 'terminated') then
      v_count := v_count + 1;
      perform private.audit('security.session_terminated', 'A session was ended by its user from another one.',
        jsonb_build_object('reason', 'terminated', 'terminatedSessionId', s.id, 'browser', private.device_json(s.device) -> 'browser',
          'os', private.device_json(s.device) -> 'os'), null, coalesce(s.organization_id, private.org_id()));
    end if;
  end loop;
  return v_count;
end
$$;
comment on function private.terminate_sessions is
  'Ends sessions of the caller, never the one that asks; gives how many. Authorization: private.user_id() only. Errors: 401 UNAUTHENTICATED.';
grant execute on function private.session_of_claims, private.terminate_sessions to authenticated;

create or replace function api.list_sessions(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return private.my_sessions_json();
end
$$;
comment on function api.list_sessions is 'GET /security/sessions: where the caller is signed in, this one first. Errors: none.';
grant execute on function api.list_sessions to authenticated;

create or replace function api.terminate_session(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_id constant uuid := private.as_uuid(p ->> 'sessionId');
begin
  if v_id = private.session_of_claims() then
    perform private.refuse(409, 'CANNOT_TERMINATE_CURRENT', 'This is the session that you are using. Sign out instead.');
  end if;
  if v_id is null or private.terminate_sessions(v_id) = 0 then
    perform private.refuse(404, 'NOT_FOUND', format('Session with ID %s not found', p ->> 'sessionId'));
  end if;
  return null;
end
$$;
comment on function api.terminate_session is 'DELETE /security/sessions/{sessionId}: ends one of the caller''s other sessions. Errors: 404 NOT_FOUND, 409 CANNOT_TERMINATE_CURRENT.';
grant execute on function api.terminate_session to authenticated;

create or replace function api.terminate_other_sessions(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
begin
  return jsonb_build_object('terminated', private.terminate_sessions(null));
end
$$;
comment on function api.terminate_other_sessions is 'DELETE /security/sessions/others: ends all of the caller''s sessions but this one. Errors: none.';
grant execute on function api.terminate_other_sessions to authenticated;
