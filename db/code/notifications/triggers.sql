-- Every account has preferences from its first moment. Deleting the account deletes the events that its room of the event log still holds.

create or replace function private.tg_users__prefer() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into public.notification_preferences (user_id) values (new.id) on conflict do nothing;
  return null;
end
$$;
comment on function private.tg_users__prefer is 'Trigger: a new account has the default preferences.';
create or replace trigger _500_prefer after insert on public.users for each row execute function private.tg_users__prefer();

create or replace function private.tg_users__forget_room() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_room constant text := 'user:' || old.id;
begin
  -- The sequencer counts on from the newest row of the log, so that row is only emptied.
  delete from public.events where room = v_room and id < (select max(e.id) from public.events e);
  update public.events set data = '{}', actor_user_id = null where room = v_room;
  delete from private.event_inbox where room = v_room;
  return null;
end
$$;
comment on function private.tg_users__forget_room is 'Trigger: the events of a deleted person''s room go with the account.';
create or replace trigger _500_forget_room after delete on public.users for each row execute function private.tg_users__forget_room();

-- -------------------------------------------------------------------------------------------------------------------- notifications

create or replace function private.tg_notifications__read_once() returns trigger
language plpgsql volatile
as $$
begin
  if old.read_at is not null then
    perform private.refuse(400, 'READ_ONLY_FIELD', 'A notification that was read stays read.', 'isRead');
  end if;
  new.read_at := now();
  return new;
end
$$;
comment on function private.tg_notifications__read_once is 'Trigger: unread becomes read, now, and never the other way.';
create or replace trigger _100_read_once before update on public.notifications
  for each row when (old.read_at is distinct from new.read_at) execute function private.tg_notifications__read_once();

create or replace function private.tg_notifications__trim() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.trim_notifications(a.user_id) from (select distinct n.user_id from added n order by n.user_id) a;
  return null;
end
$$;
comment on function private.tg_notifications__trim is 'Trigger: a user keeps the newest 1000.';
create or replace trigger _500_trim after insert on public.notifications referencing new table as added
  for each statement execute function private.tg_notifications__trim();

-- Marking everything as read is one event, for every writer. Any other change is one event a row.
create or replace function private.tg_notifications__notify_read() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  v_unread bigint;
  v_id uuid;
  v_void text;
begin
  for v in
    select c.user_id, array_agg(c.id order by c.created_at, c.id) as ids, max(c.read_at) as read_at
    from changed c join was w on w.id = c.id
    where w.read_at is null and c.read_at is not null
    group by c.user_id order by c.user_id
  loop
    v_unread := private.unread_count(v.user_id);
    if current_setting('app.read_all', true) = 'on' or cardinality(v.ids) > 100 then
      v_void := private.emit('user:' || v.user_id, 'notifications_read', jsonb_build_object('unreadCount', v_unread,
        'count', cardinality(v.ids), 'readAt', private.iso(v.read_at)), null, null, 'room', 'notification');
    else
      foreach v_id in array v.ids loop
        v_void := private.emit('user:' || v.user_id, 'notification_updated',
          jsonb_build_object('id', v_id, 'isRead', true, 'unreadCount', v_unread), null, null, 'room', 'notification', v_id);
      end loop;
    end if;
  end loop;
  return null;
end
$$;
comment on function private.tg_notifications__notify_read is 'Trigger: events of what was read.';
create or replace trigger _900_notify_read after update on public.notifications referencing old table as was new table as changed
  for each statement execute function private.tg_notifications__notify_read();

create or replace function private.tg_notifications__notify_deleted() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_void text;
begin
  v_void := private.emit('user:' || old.user_id, 'notification_deleted',
    jsonb_build_object('id', old.id, 'unreadCount', private.unread_count(old.user_id)), null, null, 'room', 'notification', old.id);
  return null;
end
$$;
comment on function private.tg_notifications__notify_deleted is 'Trigger: its owner deleted a notification; retention emits no event.';
create or replace trigger _900_notify_deleted after delete on public.notifications
  for each row when (private.is_request()) execute function private.tg_notifications__notify_deleted();

-- --------------------------------------------------------------------------------------------------------------------- preferences

-- Planned times follow the preferences: the weekly summary, digests that wait already, and notifications that quiet hours hold back, which
-- may come sooner and never later.
create or replace function private.tg_notification_preferences__plan() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_zone text := private.known_zone((select u.timezone from public.users u where u.id = new.user_id));
  v_loud timestamptz;
begin
  new.updated_at := now();
  new.summary_due_at := case when new.email_weekly_digest then private.next_digest(new, v_zone, 'weekly', now()) end;
  if tg_op = 'UPDATE' then
    update private.notification_mails m set due_at = private.next_digest(new, v_zone, m.cadence, now())
    where m.user_id = new.user_id and m.done_at is null and m.cadence <> 'now';
    v_loud := coalesce(private.quiet_until(new, v_zone, now()), now());
    update public.notifications n set due_at = v_loud where n.user_id = new.user_id and n.told_at is null and n.due_at > v_loud;
    update private.notification_mails m set due_at = v_loud
    where m.user_id = new.user_id and m.done_at is null and m.cadence = 'now' and m.due_at > v_loud;
  end if;
  return new;
end
$$;
comment on function private.tg_notification_preferences__plan is 'Trigger: when digests, the weekly summary and what quiet hours hold back are due.';
create or replace trigger _100_plan before insert on public.notification_preferences
  for each row when (new.email_weekly_digest) execute function private.tg_notification_preferences__plan();
create or replace trigger _100_plan_change before update on public.notification_preferences for each row
  when ((to_jsonb(old) - array['summary_due_at', 'updated_at']) is distinct from (to_jsonb(new) - array['summary_due_at', 'updated_at']))
  execute function private.tg_notification_preferences__plan();

create or replace function private.tg_notification_preferences__tell() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_void text;
begin
  v_void := private.emit('user:' || new.user_id, 'notification_preferences_updated', jsonb_build_object('id', new.user_id), null, null,
    'room', 'notification_preferences', new.user_id);
  return null;
end
$$;
comment on function private.tg_notification_preferences__tell is 'Trigger: changed preferences reach the person''s other tabs.';
create or replace trigger _900_notify after update on public.notification_preferences for each row
  when ((to_jsonb(old) - array['summary_due_at', 'updated_at']) is distinct from (to_jsonb(new) - array['summary_due_at', 'updated_at']))
  execute function private.tg_notification_preferences__tell();

-- A person who moves to another zone has their mornings at other times.
create or replace function private.tg_users__plan_digests() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.notification_preferences;
  v_zone text := private.known_zone(new.timezone);
begin
  select * into s from public.notification_preferences p where p.user_id = new.id;
  update public.notification_preferences p set summary_due_at = private.next_digest(s, v_zone, 'weekly', now())
  where p.user_id = new.id and p.summary_due_at is not null;
  update private.notification_mails m set due_at = private.next_digest(s, v_zone, m.cadence, now())
  where m.user_id = new.id and m.done_at is null and m.cadence <> 'now';
  return null;
end
$$;
comment on function private.tg_users__plan_digests is 'Trigger: digests follow the person''s time zone.';
create or replace trigger _500_plan_digests after update of timezone on public.users
  for each row when (old.timezone is distinct from new.timezone) execute function private.tg_users__plan_digests();
