-- Access that ends through a session or a membership becomes a removal in the log, whichever way it ended (API, psql, a cascade).

create or replace function private.tg_sessions__emit_removal() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.emit_removal('session_revoked', old.organization_id, null, old.user_id, old.id);
  return null;
end
$$;
comment on function private.tg_sessions__emit_removal is 'Trigger: a session that ends closes its sockets on every server process.';

create or replace trigger _900_emit_removal after update of revoked_at on private.sessions
  for each row when (old.revoked_at is null and new.revoked_at is not null) execute function private.tg_sessions__emit_removal();
create or replace trigger _900_emit_removal_on_delete after delete on private.sessions
  for each row when (old.revoked_at is null) execute function private.tg_sessions__emit_removal();

create or replace function private.tg_memberships__emit_removal() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.emit_removal('membership_ended', old.organization_id, null, old.user_id, null);
  return null;
end
$$;
comment on function private.tg_memberships__emit_removal is
  'Trigger: a membership that ends, is deactivated or changes its role makes every server process check that person''s sockets again.';

create or replace trigger _900_emit_removal after delete on public.memberships
  for each row execute function private.tg_memberships__emit_removal();
-- A role decides which private projects a member sees, so a changed role causes another check as well. A member who still may see a project
-- stays in its room.
create or replace trigger _900_emit_removal_on_update after update of status, role on public.memberships
  for each row when (old.status = 'active' and (new.status <> 'active' or new.role <> old.role))
  execute function private.tg_memberships__emit_removal();
