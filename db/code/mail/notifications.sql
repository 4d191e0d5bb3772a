-- Notifications by mail (contract 30, 11.5): rows of private.notification_mails become messages of the outbox, one a row or one a digest.
-- Row and message change in one transaction, so nothing is mailed twice. A category that the person has switched off meanwhile is dropped.

create or replace function private.app_url() returns text
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return coalesce(rtrim(private.installation_value('app_url') #>> '{}', '/'), '');
end
$$;
comment on function private.app_url is 'Where people reach this installation, without a slash at the end; empty while no server has said it. Authorization: gives away one public address.';

create or replace function private.mail_link(p_link text) returns text
language sql stable parallel safe
return case when p_link like 'https://%' then p_link when private.app_url() <> '' then private.app_url() || p_link end;
comment on function private.mail_link is 'The link of a notification as it stands in a mail: whole, or null where the installation has no address.';

-- One entry as text and as HTML. p_limit cuts the message (digests).
create or replace function private.mail_entry(
  p_title text, p_message text, p_link text, p_limit integer, out body_text text, out body_html text
)
language plpgsql stable
as $$
declare
  v_title text := private.one_line(p_title);
  v_message text := case when char_length(p_message) > p_limit then left(p_message, p_limit) || '…' else p_message end;
  v_link text := private.mail_link(p_link);
begin
  body_text := v_title || coalesce(E'\n' || v_message, '') || coalesce(E'\n' || v_link, '') || E'\n\n';
  body_html := format('<p>%s%s</p>',
    coalesce(format('<a href="%s"><strong>%s</strong></a>', private.html_text(v_link), private.html_text(v_title)),
      format('<strong>%s</strong>', private.html_text(v_title))),
    coalesce('<br>' || replace(private.html_text(v_message), E'\n', '<br>'), ''));
  if v_link is null then
    body_html := format('<p><strong>%s</strong>%s</p>', private.html_text(v_title),
      coalesce('<br>' || replace(private.html_text(v_message), E'\n', '<br>'), ''));
  end if;
end
$$;
comment on function private.mail_entry is 'A notification as it stands in a mail, in text and in HTML; everything is escaped.';

-- Puts greeting and end around the entries and queues the message. p_category: the category that the link at the end switches off.
create or replace function private.queue_notification_mail(
  p_kind text, p_user public.users, p_org_id uuid, p_subject text, p_category text, p_text text, p_html text
) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_hello text := 'Hello ' || coalesce(nullif(private.one_line(p_user.first_name), ''), 'there') || ',';
  v_why text := case p_category when 'securityAlerts' then 'You get this mail because it concerns the security of your account.'
    else 'You get this mail because of your notification settings at Kijko.' end;
  v_token text;
  v_text text;
  v_html text;
begin
  if p_category <> 'securityAlerts' and private.app_url() <> '' then
    v_token := private.unsubscribe_token(p_user.id, p_category);
  end if;
  v_text := v_hello || E'\n\n' || p_text || E'-- \n' || v_why || E'\n'
    || coalesce('Stop such mails: ' || private.app_url() || '/unsubscribe?token=' || v_token || E'\n', '');
  v_html := format('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>%s</title></head><body><p>%s</p>%s<hr><p><small>%s%s</small></p></body></html>',
    private.html_text(private.one_line(p_subject)), private.html_text(v_hello), p_html, private.html_text(v_why),
    coalesce(format(' <a href="%s">Stop such mails</a>.', private.html_text(private.app_url() || '/unsubscribe?token=' || v_token)), ''));
  return private.queue_mail(p_kind, p_org_id, p_user.id, p_user.email, p_subject, v_text, v_html,
    private.app_url() || '/api/v1/notifications/unsubscribe?token=' || v_token);
end
$$;
comment on function private.queue_notification_mail is 'Queues a message to a person. Authorization: callable by definer functions of ours only.';

-- The rows belong to one person: a single one, or all of a digest. Null: none of it is to be mailed any more.
create or replace function private.compose_notification_mail(p_rows private.notification_mails[]) returns uuid
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_room constant integer := 80000;
  u public.users;
  s public.notification_preferences;
  m private.notification_mails;
  v_single boolean := p_rows[1].cadence = 'now';
  v_entry record;
  v_text text := '';
  v_html text := '';
  v_shown integer := 0;
  v_all integer := 0;
  v_categories text[] := '{}';
begin
  select * into u from public.users x where x.id = p_rows[1].user_id;
  select * into s from public.notification_preferences x where x.user_id = u.id;
  if not private.is_mail_address(u.email) then
    return null;
  end if;
  foreach m in array p_rows loop
    continue when m.category = 'productUpdates' and not s.email_product_updates or m.category = 'billingReminders' and not s.email_billing_reminders;
    v_all := v_all + 1;
    v_categories := v_categories || coalesce(m.category, '');
    v_entry := private.mail_entry(m.title, m.message, m.link, case when v_single then 2000 else 300 end);
    continue when v_shown = 100 or char_length(v_text) + char_length(v_entry.body_text) > c_room
      or char_length(v_html) + char_length(v_entry.body_html) > c_room;
    v_shown := v_shown + 1;
    v_text := v_text || v_entry.body_text;
    v_html := v_html || v_entry.body_html;
  end loop;
  if v_all = 0 then
    return null;
  end if;
  if v_all > v_shown then
    v_text := v_text || format(E'And %s more in your notifications.\n\n', v_all - v_shown);
    v_html := v_html || format('<p>And %s more in your notifications.</p>', v_all - v_shown);
  end if;
  return private.queue_notification_mail(case when v_single then 'notification' else 'digest' end, u,
    case when v_single then p_rows[1].organization_id end,
    case when v_single then p_rows[1].title else format('Your %s digest: %s %s', p_rows[1].cadence, v_all,
      case v_all when 1 then 'notification' else 'notifications' end) end,
    -- Only a category that one link can switch off gets a link.
    case when v_categories[1] <> '' and v_categories[1] = all (v_categories) then v_categories[1] end, v_text, v_html);
end
$$;
comment on function private.compose_notification_mail is
  'Writes the message of these rows of one person; null when nothing is left to tell. Authorization: callable by schedules only.';

create or replace function private.queue_notification_mails(p_at timestamptz default now(), p_limit integer default 500) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  v_rows private.notification_mails[];
  v_mail uuid;
  v_count integer := 0;
begin
  if not private.has_mail() then
    return 0;
  end if;
  for v in
    select distinct d.user_id, d.cadence, case d.cadence when 'now' then d.id end as single
    from (
      select m.user_id, m.cadence, m.id from private.notification_mails m
      where m.done_at is null and m.due_at <= p_at order by m.due_at limit p_limit for update skip locked
    ) d
  loop
    select array_agg(m order by m.created_at, m.id) into v_rows
    from (
      select * from private.notification_mails w
      where w.user_id = v.user_id and w.cadence = v.cadence and w.done_at is null and w.due_at <= p_at and (v.single is null or w.id = v.single)
      for update
    ) m;
    continue when v_rows is null;
    v_mail := null;
    begin
      v_mail := private.compose_notification_mail(v_rows);
    exception when others then
      -- A message that cannot be written must not block the others.
      raise warning 'a notification mail of user % could not be written: % %', v.user_id, sqlstate, sqlerrm;
    end;
    update private.notification_mails m set done_at = p_at, mail_id = v_mail where m.id in (select r.id from unnest(v_rows) r);
    v_count := v_count + (v_mail is not null)::integer;
  end loop;
  return v_count + private.queue_weekly_summaries(p_at);
end
$$;
comment on function private.queue_notification_mails is
  'Writes the messages that are due into the outbox; gives their number. Authorization: callable by schedules only.';

-- The week in numbers, for people who asked for it; separate from the digests.
create or replace function private.weekly_summary_lines(p_user_id uuid, p_from timestamptz, p_until timestamptz)
returns table (label text, value bigint)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  with mine as (
    select p.id from public.projects p where p.user_id = p_user_id
    union
    select m.project_id from public.project_members m where m.user_id = p_user_id and m.accepted_at is not null
  ), runs as (
    select count(*) filter (where r.outcome = 'completed') as completed, count(*) filter (where r.outcome = 'failed') as failed
    from public.ingestion_runs r join mine on mine.id = r.project_id
    where r.ended_at > p_from and r.ended_at <= p_until
  ), executions as (
    select count(*) filter (where e.status = 'completed') as completed, count(*) filter (where e.status = 'failed') as failed
    from public.skill_executions e
    where e.user_id = p_user_id and e.executed_at > p_from and e.executed_at <= p_until
  ), told as (
    select count(*) as arrived, count(*) filter (where n.read_at is null) as unread
    from public.notifications n
    where n.user_id = p_user_id and n.created_at > p_from and n.created_at <= p_until
  )
  select l.label, l.value
  from runs, executions, told, lateral (values (1, 'Ingestions completed', runs.completed), (2, 'Ingestions failed', runs.failed),
    (3, 'Skill runs completed', executions.completed), (4, 'Skill runs failed', executions.failed),
    (5, 'Notifications', told.arrived), (6, 'of which unread', told.unread)) l (place, label, value)
  order by l.place;
end
$$;
comment on function private.weekly_summary_lines is 'What happened to a person in a week, as lines. Authorization: callable by definer functions of ours only.';

create or replace function private.queue_weekly_summaries(p_at timestamptz default now(), p_limit integer default 200) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  s public.notification_preferences;
  u public.users;
  v_text text;
  v_html text;
  v_count integer := 0;
begin
  for s in
    select * from public.notification_preferences x where x.summary_due_at <= p_at order by x.summary_due_at limit p_limit for update skip locked
  loop
    select * into u from public.users x where x.id = s.user_id;
    update public.notification_preferences x set summary_due_at = private.next_digest(s, private.known_zone(u.timezone), 'weekly', p_at)
    where x.user_id = s.user_id;
    continue when not private.is_mail_address(u.email);
    select string_agg(l.label || ': ' || l.value, E'\n' order by l.place) || E'\n\n',
      '<table>' || string_agg(format('<tr><th scope="row" align="left">%s</th><td align="right">%s</td></tr>', l.label, l.value), '' order by l.place)
        || '</table>'
    into v_text, v_html
    from private.weekly_summary_lines(s.user_id, p_at - interval '7 days', p_at) with ordinality l (label, value, place);
    perform private.queue_notification_mail('weekly_summary', u, null, 'Your week in Kijko', 'weeklyDigest', E'The last seven days:\n\n' || v_text,
      '<p>The last seven days:</p>' || v_html);
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;
comment on function private.queue_weekly_summaries is
  'Writes the weekly summaries that are due. Authorization: callable by schedules only.';
