-- Announcements of the platform's staff (contract 30, A1): a row for each active member of an organization, or of all. Few people are
-- notified at once. Many are notified in batches by a job, so that no transaction is long and no request waits for it. The key of the
-- announcement makes a repeated batch harmless.

create or replace function private.notify_announcement(p_id uuid, p_limit integer default 500) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  a private.announcements;
  v_users uuid[];
begin
  select * into a from private.announcements x where x.id = p_id and x.finished_at is null for update;
  if not found then
    return false;
  end if;
  v_users := array(
    select distinct m.user_id from public.memberships m
    where m.status = 'active' and (a.organization_id is null or m.organization_id = a.organization_id)
      and m.user_id > coalesce(a.notified_until, '00000000-0000-0000-0000-000000000000')
    order by m.user_id limit p_limit);
  perform private.notify_all(v_users, 'system_update', a.title, a.message, jsonb_build_object('level', a.level, 'announcementId', a.id), a.link,
    a.is_urgent, 'announcement:' || a.id, a.created_by, a.organization_id, 'productUpdates');
  update private.announcements x
  set notified_until = coalesce(v_users[cardinality(v_users)], a.notified_until), finished_at = case when cardinality(v_users) < p_limit then now() end
  where x.id = p_id;
  return cardinality(v_users) = p_limit;
end
$$;
comment on function private.notify_announcement is
  'Tells the next p_limit people; false when that was all. Authorization: callable by the worker and by definer functions of ours only.';
grant execute on function private.notify_announcement to kijko_worker;

create or replace function private.announce(p_body jsonb) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_at_once constant integer := 500;
  v_user uuid := private.user_id();
  v_org uuid := private.as_uuid(p_body ->> 'organizationId');
  v_title text := private.trimmed(p_body ->> 'title');
  v_message text := private.trimmed(p_body ->> 'message');
  v_level text := coalesce(p_body ->> 'level', 'info');
  v_recipients integer;
  v_id uuid;
begin
  if not private.is_platform_admin() then
    perform private.refuse(403, 'FORBIDDEN', 'Only the staff of this platform may do this.');
  elsif p_body ->> 'organizationId' is not null and not exists (select from public.organizations o where o.id = v_org) then
    perform private.refuse_field('organizationId', 'There is no such organization.');
  elsif coalesce(char_length(v_title), 0) not between 1 and 255 then
    perform private.refuse_field('title', 'The title must have 1 to 255 characters.');
  elsif coalesce(char_length(v_message), 0) not between 1 and 2000 then
    perform private.refuse_field('message', 'The message must have 1 to 2000 characters.');
  elsif v_level not in ('info', 'success', 'warning', 'error') then
    perform private.refuse_field('level', 'The level must be info, success, warning or error.');
  elsif not private.is_link(p_body ->> 'link') then
    perform private.refuse_field('link', 'The link must be a path that begins with one slash, or an https address.');
  end if;
  select count(distinct m.user_id) into v_recipients from public.memberships m
  where m.status = 'active' and (v_org is null or m.organization_id = v_org) and m.user_id <> v_user;
  insert into private.announcements (organization_id, created_by, title, message, level, link, is_urgent, recipients)
  values (v_org, v_user, v_title, v_message, v_level, p_body ->> 'link', coalesce(private.as_bool(p_body -> 'isUrgent', 'isUrgent'), v_level = 'error'), v_recipients)
  returning id into v_id;
  if v_recipients < c_at_once then
    perform private.notify_announcement(v_id, c_at_once + 1);
  else
    perform private.enqueue('announcements.tell', jsonb_build_object('announcementId', v_id), now(), 'announcements.tell:' || v_id);
  end if;
  return v_recipients;
end
$$;
comment on function private.announce is
  'Tells the active members of an organization, or of all organizations; returns their number. Authorization: staff of the platform only. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN.';
grant execute on function private.announce to authenticated;

create or replace function api.create_announcement(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  return jsonb_build_object('recipients', private.announce(p -> 'body'));
end
$$;
comment on function api.create_announcement is 'POST /admin/notifications, for the staff of the platform. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN.';
grant execute on function api.create_announcement to authenticated;
