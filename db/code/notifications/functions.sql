-- Decides a notification (contract 30, 11.5): one function for all features that notify people. It never refuses the business that it
-- reports: long texts are cut, unstorable values are left out. All recipients are decided in one statement.

create or replace function private.notification_json(n public.notifications) returns jsonb
language sql stable parallel safe
-- Nulls within data are the sender's own values and stay.
return jsonb_strip_nulls(jsonb_build_object('id', n.id, 'type', n.type, 'title', n.title, 'message', n.message, 'link', n.link,
    'isRead', n.read_at is not null, 'isUrgent', n.is_urgent, 'createdAt', private.iso(n.created_at)))
  || case when n.data is null then '{}' else jsonb_build_object('data', n.data) end;
comment on function private.notification_json is 'Notification of the contract.';
grant execute on function private.notification_json to authenticated;

create or replace function private.is_shown(s public.notification_preferences, p_type text, p_urgent boolean) returns boolean
language sql immutable parallel safe
return case p_type when 'new_lead' then s.in_app_new_leads when 'task_completion' then s.in_app_task_completions
    when 'context_update' then s.in_app_context_updates when 'team_activity' then s.in_app_team_activity
    else s.in_app_system_updates end
  or (p_type = 'security_alert' and p_urgent);
comment on function private.is_shown is 'Do these preferences want such notifications in the client? An urgent alert is always shown.';

-- p_level: the member's notification level for this project; null for its owner, and for a notification without a project.
create or replace function private.mail_cadence(
  s public.notification_preferences, p_type text, p_urgent boolean, p_category text, p_is_project boolean, p_level text
) returns text
language sql immutable parallel safe
return case
  when p_category is not null then case
    when not case p_category when 'securityAlerts' then true when 'productUpdates' then s.email_product_updates
      when 'billingReminders' then s.email_billing_reminders else false end then null
    when p_urgent or s.frequency = 'realtime' then 'now'
    else s.frequency end
  when p_is_project and p_type in ('task_completion', 'team_activity') then case
    when p_level = 'disabled' then null
    when p_urgent then 'now'
    when p_level in ('daily', 'weekly') then p_level
    when s.frequency = 'realtime' then 'now'
    else s.frequency end
  -- All other types are mailed in digests only.
  when s.frequency <> 'realtime' then s.frequency end;
comment on function private.mail_cadence is 'Is it mailed: now, in the daily or the weekly digest, or (null) not at all?';

create or replace function private.notify_all(
  p_user_ids uuid[], p_type text, p_title text, p_message text default null, p_data jsonb default null, p_link text default null,
  p_urgent boolean default false, p_dedupe text default null, p_actor uuid default null, p_org_id uuid default null,
  p_mail text default null, p_project_id uuid default null, p_at timestamptz default now()
) returns table (user_id uuid, id uuid)
-- The generic plan is right for one person and for hundreds, but Postgres would plan this statement again at nearly every call.
language plpgsql volatile security definer set search_path = '' set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_title text := coalesce(nullif(private.trimmed(left(private.trimmed(p_title), 255)), ''), 'Notification');
  v_link text := case when private.is_link(p_link) then p_link end;
  v_data jsonb := case when jsonb_typeof(p_data) = 'object' and private.json_bytes(p_data) <= 8192 then p_data end;
  v_message text := nullif(private.trimmed(left(p_message, 2000)), '');
  v_mails boolean := private.has_mail();
  v_is_project boolean := p_project_id is not null;
  -- An announcement comes from the staff; its author knows it and is left out.
  v_left_out uuid := case when p_type in ('team_activity', 'context_update') or p_dedupe like 'announcement:%' then p_actor end;
  v_org uuid;
  v_project uuid;
  v_actor uuid;
  v_void text;
  v record;
begin
  if cardinality(p_user_ids) is null or cardinality(p_user_ids) = 0 then
    return;
  end if;
  -- The subject may be deleted in this very transaction (an account that deletes itself). Then the row cannot reference it.
  select (select o.id from public.organizations o where o.id = coalesce(p_org_id, p.organization_id)), p.id,
    (select a.id from public.users a where a.id = p_actor)
  into v_org, v_project, v_actor
  from (values (1)) one left join public.projects p on p.id = p_project_id and p.organization_id = coalesce(p_org_id, p.organization_id);
  for v in
    with decided as (
      select d.*, case when d.cadence in ('daily', 'weekly') then private.next_digest(d.s, d.zone, d.cadence, p_at)
        when d.cadence = 'now' then coalesce(d.quiet_until, p_at) end as mail_at
      from (
        select c.*, case when not p_urgent then private.quiet_until(c.s, c.zone, p_at) end as quiet_until,
          private.is_shown(c.s, p_type, p_urgent) as shown,
          case when v_mails then private.mail_cadence(c.s, p_type, p_urgent, p_mail, v_is_project, c.level) end as cadence
        from (
          select u.id as user_id, s, private.known_zone(u.timezone) as zone,
            (select m.notification_level from public.project_members m
             where v_is_project and m.project_id = p_project_id and m.user_id = u.id
               and not exists (select from public.projects p where p.id = m.project_id and p.user_id = m.user_id)) as level
          from public.users u
          join public.notification_preferences s on s.user_id = u.id
          where u.id = any (p_user_ids) and u.id is distinct from v_left_out
        ) c
      ) d
      where d.shown or d.cadence is not null
    ), known as (
      -- In the order of ids, so that two transactions that notify the same people of the same thing wait for each other and never in a
      -- circle.
      insert into private.notification_keys (user_id, dedupe_key)
      select d.user_id, left(p_dedupe, 300) from decided d where p_dedupe is not null order by d.user_id
      on conflict do nothing
      returning user_id
    ), fresh as (
      select d.* from decided d where p_dedupe is null or d.user_id in (select k.user_id from known k)
    ), mailed as (
      insert into private.notification_mails (user_id, organization_id, type, category, cadence, title, message, link, due_at)
      select f.user_id, v_org, p_type, p_mail, f.cadence, v_title, v_message, v_link, f.mail_at from fresh f where f.cadence is not null
    ), stored as (
      insert into public.notifications as n (user_id, organization_id, project_id, actor_user_id, type, title, message, data, link, is_urgent,
        due_at, told_at)
      select f.user_id, v_org, v_project, v_actor, p_type, v_title, v_message, v_data, v_link, p_urgent,
        coalesce(f.quiet_until, p_at), case when f.quiet_until is null then p_at end
      from fresh f where f.shown
      returning n.user_id, n.id, n.told_at
    )
    select s.user_id, s.id, s.told_at from stored s
  loop
    if v.told_at is not null then
      v_void := private.emit('user:' || v.user_id, 'notification', jsonb_build_object('id', v.id), null, null, 'room', 'notification', v.id);
    end if;
    user_id := v.user_id;
    id := v.id;
    return next;
  end loop;
end
$$;
comment on function private.notify_all is
  'Tells people something, in the client and by mail as their preferences say; gives whom it was stored for. p_dedupe: once a recipient and key. p_mail: productUpdates, securityAlerts or billingReminders. p_project_id: project events, mailed as the member''s level says. Authorization: callable by definer functions and triggers of ours only.';

create or replace function private.notify(
  p_user_id uuid, p_type text, p_title text, p_message text default null, p_data jsonb default null, p_link text default null,
  p_urgent boolean default false, p_dedupe text default null, p_actor uuid default null, p_org_id uuid default null,
  p_mail text default null, p_project_id uuid default null
) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid;
begin
  select n.id into v_id
  from private.notify_all(array[p_user_id], p_type, p_title, p_message, p_data, p_link, p_urgent, p_dedupe, p_actor, p_org_id, p_mail, p_project_id) n;
  return v_id;
end
$$;
comment on function private.notify is
  'private.notify_all for one person; the id, or null when nothing was stored. Authorization: callable by definer functions and triggers of ours only.';

create or replace function private.unread_count(p_user_id uuid) returns bigint
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select count(*) from public.notifications n where n.user_id = p_user_id and n.read_at is null and n.due_at <= now());
end
$$;
comment on function private.unread_count is 'The number of a user''s due, unread notifications. Authorization: callable by definer functions and triggers of ours only.';

-- Keeps at most 1000 a person. A transaction that is trimming already is not waited for: a notification must not block the business that it
-- reports.
create or replace function private.trim_notifications(p_user_id uuid) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_most constant integer := 1000;
  v_over bigint := (select count(*) from public.notifications n where n.user_id = p_user_id) - c_most;
  v_count integer := 0;
begin
  if v_over > 0 then
    delete from public.notifications n
    where n.id in (
      select o.id from public.notifications o where o.user_id = p_user_id
      order by o.read_at is null, o.created_at, o.id limit v_over for update skip locked);
    get diagnostics v_count = row_count;
  end if;
  return v_count;
end
$$;
comment on function private.trim_notifications is
  'Removes what is beyond 1000: the oldest read ones first, then the oldest unread. Authorization: callable by triggers of ours only.';
