-- The later life of a notification. Its event carries the id alone, and the row is read when the event is delivered. A notification that
-- waited for the end of quiet hours gets its event when it is due. Old ones are deleted.

create or replace function private.deliver_notifications(p_ids uuid[]) returns table (id uuid, data jsonb)
language sql stable security definer set search_path = ''
as $$
  select n.id, private.notification_json(n) from public.notifications n where n.id = any (p_ids) and n.due_at <= now()
$$;
comment on function private.deliver_notifications is
  'Payloads of `notification` events (data.id): Notification; no row for one that is gone or not due. Authorization: callable by the server only, which delivers them in the room of their owner.';

create or replace function private.deliver_notification_preferences(p_ids uuid[]) returns table (id uuid, data jsonb)
language sql stable security definer set search_path = ''
as $$
  select s.user_id, private.notification_preferences_json(s) from public.notification_preferences s where s.user_id = any (p_ids)
$$;
comment on function private.deliver_notification_preferences is
  'Payloads of `notification_preferences_updated` events (data.id is the user): NotificationPreferences. Authorization: callable by the server only, which delivers them in the room of their owner.';
grant execute on function private.deliver_notifications, private.deliver_notification_preferences to kijko_server;

create or replace function private.release_notifications(p_at timestamptz default now(), p_limit integer default 5000) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  v_void text;
  v_count integer := 0;
begin
  for v in
    update public.notifications n set told_at = p_at
    where n.id in (
      select w.id from public.notifications w where w.told_at is null and w.due_at <= p_at
      order by w.due_at, w.created_at limit p_limit for update skip locked)
    returning n.id, n.user_id
  loop
    v_void := private.emit('user:' || v.user_id, 'notification', jsonb_build_object('id', v.id), null, null, 'room', 'notification', v.id);
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;
comment on function private.release_notifications is
  'Emits the events of notifications whose quiet hours are over. Authorization: callable by schedules only.';
