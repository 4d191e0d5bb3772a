-- The operations on the caller's notifications. They run as the caller: row-level security limits them to the caller's due notifications.

drop function if exists private.as_timestamp(text);
-- `since` is the createdAt of the client's newest notification, as it is shown: only later ones are wanted.
create or replace function api.list_notifications(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_at record := private.page(p, 50, p_clamps => false);
  v_unread boolean := private.as_bool(p -> 'unread', 'unread');
  v_since timestamptz := private.as_instant(p ->> 'since');
  v_from timestamptz := private.shown(v_since) + interval '1 millisecond';
  v_types text[] := case when jsonb_array_length(private.as_array(p -> 'type', 'type')) > 0 then array(select jsonb_array_elements_text(p -> 'type')) end;
  v_data jsonb;
  v_total bigint;
  v_waiting bigint;
begin
  if p ->> 'since' is not null and v_since is null then
    perform private.refuse_field('since', 'This is not a time.');
  end if;
  select coalesce(jsonb_agg(private.notification_json(n) order by n.created_at desc, n.id desc), '[]') into v_data
  from (
    select * from public.notifications n
    where (v_unread is null or (n.read_at is null) = v_unread) and (v_types is null or n.type = any (v_types))
      and (v_from is null or n.created_at >= v_from)
    order by n.created_at desc, n.id desc limit v_at.size offset v_at.skipped
  ) n;
  select count(*) filter (where (v_unread is null or (n.read_at is null) = v_unread) and (v_types is null or n.type = any (v_types))
      and (v_from is null or n.created_at >= v_from)),
    count(*) filter (where n.read_at is null)
  into v_total, v_waiting
  from public.notifications n;
  return jsonb_build_object('data', v_data, 'total', v_total, 'page', v_at.number, 'pageSize', v_at.size,
    'hasMore', v_at.skipped + jsonb_array_length(v_data) < v_total, 'unreadCount', v_waiting);
end
$$;
comment on function api.list_notifications is 'GET /notifications: the caller''s own that are due, newest first. Errors: 400 VALIDATION_ERROR.';

create or replace function api.count_unread_notifications(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return jsonb_build_object('unreadCount', (select count(*) from public.notifications n where n.read_at is null));
end
$$;
comment on function api.count_unread_notifications is 'GET /notifications/unread-count: exact, of those that are due.';

-- The only recipient is the caller. Although the caller causes it, they are notified: they asked for it.
create or replace function private.notify_oneself(p_body jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user uuid := private.user_id();
  v_title text := private.trimmed(p_body ->> 'title');
  v_message text := p_body ->> 'message';
  v_link text := p_body ->> 'link';
  v_type text := p_body ->> 'type';
  v_urgent boolean := coalesce(private.as_bool(p_body -> 'isUrgent', 'isUrgent'), false);
  v_id uuid;
begin
  if v_user is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  elsif v_type is null or v_type not in ('new_lead', 'task_completion', 'system_update', 'context_update', 'team_activity', 'security_alert') then
    perform private.refuse_field('type', 'This is not a type of notifications.');
  elsif coalesce(char_length(v_title), 0) not between 1 and 255 then
    perform private.refuse_field('title', 'The title must have 1 to 255 characters.');
  elsif char_length(v_message) > 2000 then
    perform private.refuse_field('message', 'The message must have at most 2000 characters.');
  elsif not private.is_link(v_link) then
    perform private.refuse_field('link', 'The link must be a path that begins with one slash, or an https address.');
  elsif p_body -> 'data' is not null and (jsonb_typeof(p_body -> 'data') <> 'object' or private.json_bytes(p_body -> 'data') > 8192) then
    perform private.refuse_field('data', 'The data must be an object of at most 8 KiB.');
  end if;
  if not (select private.is_shown(s, v_type, v_urgent) from public.notification_preferences s where s.user_id = v_user) then
    -- Nothing of it is kept, not even for a digest.
    perform set_config('response.status', '204', true);
    return null;
  end if;
  v_id := private.notify(v_user, v_type, v_title, v_message, p_body -> 'data', v_link, v_urgent);
  return (select private.notification_json(n) from public.notifications n where n.id = v_id);
end
$$;
comment on function private.notify_oneself is
  'A notification for the caller; null with status 204 where their preferences suppress it. Authorization: private.user_id() only. Errors: 400 VALIDATION_ERROR, 401 UNAUTHENTICATED.';

create or replace function api.create_notification(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return private.notify_oneself(p -> 'body');
end
$$;
comment on function api.create_notification is 'POST /notifications: tells the caller something. Errors: 400 VALIDATION_ERROR.';

create or replace function private.refuse_notification() returns void
language plpgsql stable
as $$
begin
  perform private.refuse(404, 'NOTIFICATION_NOT_FOUND', 'There is no such notification.');
end
$$;
comment on function private.refuse_notification is '404 NOTIFICATION_NOT_FOUND: unknown, another user''s or not due.';

create or replace function api.read_notification(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_id uuid := private.as_uuid(p ->> 'notificationId');
  n public.notifications;
begin
  update public.notifications x set read_at = now() where x.id = v_id and x.read_at is null;
  select * into n from public.notifications x where x.id = v_id;
  if not found then
    perform private.refuse_notification();
  end if;
  return private.notification_json(n);
end
$$;
comment on function api.read_notification is 'PATCH /notifications/{id}/read. Errors: 404 NOTIFICATION_NOT_FOUND.';

create or replace function api.read_all_notifications(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_count integer;
begin
  perform set_config('app.read_all', 'on', true);
  update public.notifications x set read_at = now() where x.read_at is null;
  get diagnostics v_count = row_count;
  perform set_config('app.read_all', '', true);
  return jsonb_build_object('success', true, 'count', v_count, 'unreadCount', 0);
end
$$;
comment on function api.read_all_notifications is 'PATCH /notifications/read-all: everything that is due; one event.';

create or replace function api.delete_notification(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  delete from public.notifications x where x.id = private.as_uuid(p ->> 'notificationId');
  if not found then
    perform private.refuse_notification();
  end if;
  return '{"success": true}';
end
$$;
comment on function api.delete_notification is 'DELETE /notifications/{id}. Errors: 404 NOTIFICATION_NOT_FOUND.';

grant execute on function api.list_notifications, api.count_unread_notifications, api.create_notification, api.read_notification,
  api.read_all_notifications, api.delete_notification, private.notify_oneself, private.refuse_notification to authenticated;
