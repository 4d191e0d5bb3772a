-- Notifications (contract 30, section 11). What happened is told to people: in the client, one row a recipient, and by mail, through a
-- queue of its own from which single mails and digests are written. One function decides both (private.notify_all).

-- These are used by checks below, so they live here and are frozen.

-- Bytes of the value written without blanks between its tokens, which is what a client measures.
create function private.json_bytes(p_value jsonb) returns integer
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_text text := p_value::text;
  v_tokens text := regexp_replace(v_text, '"(?:[^"\\]|\\.)*"', '', 'g');
begin
  return octet_length(v_text) - (char_length(v_tokens) - char_length(replace(v_tokens, ' ', '')));
end
$$;
comment on function private.json_bytes is 'Bytes of a JSON value in its shortest form.';

-- A path within the client or an https address. A second slash or a backslash would lead to another host.
create function private.is_link(p_link text) returns boolean
language sql immutable parallel safe
return p_link ~ '^(/([^/\\[:space:][:cntrl:]][^\\[:space:][:cntrl:]]*)?|https://[^/\\[:space:][:cntrl:]][^\\[:space:][:cntrl:]]*)$'
  and char_length(p_link) <= 2048;
comment on function private.is_link is 'Is the text a path that begins with one slash, or an https address?';

create function private.is_weekdays(p_days smallint[]) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
begin
  return p_days = array(select distinct d from unnest(p_days) d where d between 0 and 6 order by d);
end
$$;
comment on function private.is_weekdays is 'Is the list one of distinct weekdays (0 Sunday to 6), ascending?';

create table public.notifications (
  id uuid primary key default gen_random_uuid(),
  -- The recipient.
  user_id uuid not null references public.users (id) on delete cascade,
  -- Where it happened; null for what belongs to no organization.
  organization_id uuid references public.organizations (id) on delete cascade,
  project_id uuid,
  -- Who caused it.
  actor_user_id uuid references public.users (id) on delete set null,
  type text not null,
  title text not null,
  message text,
  data jsonb,
  link text,
  is_urgent boolean not null default false,
  read_at timestamptz,
  -- Invisible and uncounted until then (quiet hours).
  due_at timestamptz not null default now(),
  -- When its event was written; null while it waits for due_at.
  told_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  constraint notifications_project_id_fkey foreign key (organization_id, project_id)
    references public.projects (organization_id, id) on delete set null (project_id)
) with (fillfactor = 85);
alter table public.notifications enable row level security;
alter table public.notifications force row level security;
create function private.assert_notifications_row(r public.notifications) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (r.type in ('new_lead', 'task_completion', 'system_update', 'context_update', 'team_activity', 'security_alert'))
      then 'notifications_type_check'
    when not (r.title = private.trimmed(r.title) and char_length(r.title) between 1 and 255) then 'notifications_title_check'
    when not (char_length(r.message) <= 2000) then 'notifications_message_check'
    when not (jsonb_typeof(r.data) = 'object' and private.json_bytes(r.data) <= 8192) then 'notifications_data_check'
    when not (private.is_link(r.link)) then 'notifications_link_check'
    when r.project_id is not null and r.organization_id is null then 'notifications_project_has_organization'
    when r.read_at is not null and r.read_at < r.due_at then 'notifications_read_when_due'
  end;
begin
  return v_rule is null or private.refuse_row('notifications', v_rule);
end
$$;
comment on function private.assert_notifications_row is 'The rules of a row of public.notifications, by name.';
alter table public.notifications add constraint notifications_rules check (private.assert_notifications_row(notifications));
create index notifications_user_id_created_at_idx on public.notifications (user_id, created_at desc, id desc);
create index notifications_unread_idx on public.notifications (user_id, due_at) where read_at is null;
create index notifications_organization_id_project_id_idx on public.notifications (organization_id, project_id);
create index notifications_actor_user_id_idx on public.notifications (actor_user_id) where actor_user_id is not null;
create index notifications_waiting_idx on public.notifications (due_at) where told_at is null;
-- For retention alone, which reads the oldest rows.
create index notifications_created_at_idx on public.notifications using brin (created_at);
comment on table public.notifications is 'What a person is told, one row a recipient. Written by functions only; the recipient reads, marks as read and deletes.';

-- Apart from the notifications, because it must outlive them: who deleted one, or is told by mail only, is not told again.
create table private.notification_keys (
  user_id uuid not null references public.users (id) on delete cascade,
  dedupe_key text not null,
  created_at timestamptz not null default now(),
  primary key (user_id, dedupe_key),
  constraint notification_keys_dedupe_key_check check (char_length(dedupe_key) between 1 and 300)
);
alter table private.notification_keys enable row level security;
alter table private.notification_keys force row level security;
create index notification_keys_created_at_idx on private.notification_keys using brin (created_at);
comment on table private.notification_keys is 'What somebody was told, or mailed, already: a retried job cannot do it twice. Kept 180 days.';

-- ---------------------------------------------------------------------------------------------------------------------------------
-- One row a person from the start: made with the account.
create table public.notification_preferences (
  user_id uuid primary key references public.users (id) on delete cascade,
  email_product_updates boolean not null default true,
  email_security_alerts boolean not null default true,
  email_billing_reminders boolean not null default true,
  email_weekly_digest boolean not null default false,
  in_app_new_leads boolean not null default true,
  in_app_task_completions boolean not null default true,
  in_app_system_updates boolean not null default true,
  in_app_context_updates boolean not null default false,
  in_app_team_activity boolean not null default true,
  frequency text not null default 'realtime',
  digest_time time not null default '09:00',
  digest_day smallint not null default 1,
  quiet_enabled boolean not null default false,
  quiet_start time not null default '22:00',
  quiet_end time not null default '07:00',
  quiet_days text not null default 'all',
  quiet_custom_days smallint[],
  -- When the next weekly summary goes out; set by a trigger, null while it is off.
  summary_due_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint notification_preferences_security_alerts_stay_on check (email_security_alerts),
  constraint notification_preferences_frequency_check check (frequency in ('realtime', 'daily', 'weekly')),
  constraint notification_preferences_digest_day_check check (digest_day between 0 and 6),
  constraint notification_preferences_quiet_days_check check (quiet_days in ('all', 'weekdays', 'weekends', 'custom')),
  constraint notification_preferences_quiet_custom_days_check check (private.is_weekdays(quiet_custom_days)),
  constraint notification_preferences_times_are_minutes check (extract(second from digest_time) = 0 and extract(second from quiet_start) = 0
    and extract(second from quiet_end) = 0 and greatest(digest_time, quiet_start, quiet_end) < '24:00'),
  constraint notification_preferences_summary_due_at_check check (email_weekly_digest = (summary_due_at is not null))
);
alter table public.notification_preferences enable row level security;
alter table public.notification_preferences force row level security;
create index notification_preferences_summary_due_at_idx on public.notification_preferences (summary_due_at) where summary_due_at is not null;
-- The few who want to hear of changes in contexts: everybody else is passed over without being looked at.
create index notification_preferences_context_idx on public.notification_preferences (user_id)
  where in_app_context_updates or frequency <> 'realtime';
comment on table public.notification_preferences is 'How a person is told: by mail, in the client, how often, and when not.';
comment on constraint notification_preferences_security_alerts_stay_on on public.notification_preferences is
  'Alerts about somebody''s account cannot be switched off.';
insert into public.notification_preferences (user_id) select id from public.users;

-- ---------------------------------------------------------------------------------------------------------------------------------
-- What is still to be mailed. A row becomes part of one message of the outbox (private.mails): of its own, or of a digest.
create table private.notification_mails (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  organization_id uuid references public.organizations (id) on delete cascade,
  type text not null,
  -- The preference that may stop it; null: project events and what appears in digests only.
  category text,
  cadence text not null,
  title text not null,
  message text,
  link text,
  created_at timestamptz not null default clock_timestamp(),
  due_at timestamptz not null,
  -- Set in the transaction that writes the message (or drops the row), so that nothing is mailed twice.
  done_at timestamptz,
  -- No foreign key: the outbox forgets earlier.
  mail_id uuid,
  constraint notification_mails_category_check check (category in ('productUpdates', 'securityAlerts', 'billingReminders')),
  constraint notification_mails_cadence_check check (cadence in ('now', 'daily', 'weekly')),
  constraint notification_mails_title_check check (char_length(title) between 1 and 255),
  constraint notification_mails_message_check check (char_length(message) <= 2000),
  constraint notification_mails_mailed_is_done check (mail_id is null or done_at is not null)
);
alter table private.notification_mails enable row level security;
alter table private.notification_mails force row level security;
create index notification_mails_waiting_idx on private.notification_mails (due_at) where done_at is null;
create index notification_mails_user_id_idx on private.notification_mails (user_id, due_at);
create index notification_mails_organization_id_idx on private.notification_mails (organization_id) where organization_id is not null;
create index notification_mails_done_at_idx on private.notification_mails (done_at) where done_at is not null;
comment on table private.notification_mails is 'Queue of what is told by mail, now or in a digest; done rows are kept 30 days.';

-- Announcements of the platform's staff; large audiences are told in batches, each of its own transaction.
create table private.announcements (
  id uuid primary key default gen_random_uuid(),
  -- Null: everybody.
  organization_id uuid references public.organizations (id) on delete cascade,
  created_by uuid references public.users (id) on delete set null,
  title text not null,
  message text not null,
  level text not null,
  link text,
  is_urgent boolean not null,
  recipients integer not null,
  -- The last person told, in the order of ids; everybody when finished.
  told_until uuid,
  finished_at timestamptz,
  created_at timestamptz not null default now(),
  constraint announcements_level_check check (level in ('info', 'success', 'warning', 'error'))
);
alter table private.announcements enable row level security;
alter table private.announcements force row level security;
create index announcements_organization_id_idx on private.announcements (organization_id);
create index announcements_created_by_idx on private.announcements (created_by);
comment on table private.announcements is 'What the platform''s staff told an organization or everybody, and how far the telling got.';

-- Signs unsubscribe links. Random for each database; nobody needs to know it.
create table private.unsubscribe_key (
  is_only boolean primary key default true,
  key bytea not null,
  constraint unsubscribe_key_is_only_check check (is_only),
  constraint unsubscribe_key_key_check check (octet_length(key) = 32)
);
alter table private.unsubscribe_key enable row level security;
alter table private.unsubscribe_key force row level security;
comment on table private.unsubscribe_key is 'One row: the secret behind unsubscribe links.';
insert into private.unsubscribe_key (key)
values (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

-- ---------------------------------------------------------------------------------------------------------------------------------
-- The outbox learns mails that belong to a person rather than to an organization, and headers by which one unsubscribes (RFC 8058).
alter table private.mails
  alter column organization_id drop not null,
  drop constraint mails_kind_check,
  add constraint mails_kind_check check (kind in ('ingestion_result', 'notification', 'digest', 'weekly_summary')),
  add column unsubscribe_url text,
  add constraint mails_unsubscribe_url_check check (unsubscribe_url ~ '^https?://[!-;=?-~]+$' and char_length(unsubscribe_url) <= 2000);
drop function if exists private.take_mail(uuid);
drop function if exists private.queue_mail(text, uuid, uuid, text, text, text, text);

insert into private.schedules (name, every) values
  ('notifications.due', interval '2 seconds'), ('notifications.mail', interval '2 seconds'), ('notifications.prune', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name like 'notifications.%';
drop function if exists private.take_mail(uuid);
drop function if exists private.queue_mail(text, uuid, uuid, text, text, text, text, text);
delete from private.mails where kind <> 'ingestion_result' or organization_id is null;
alter table private.mails
  drop column unsubscribe_url,
  drop constraint mails_kind_check,
  add constraint mails_kind_check check (kind in ('ingestion_result')),
  alter column organization_id set not null;
drop table private.unsubscribe_key, private.announcements, private.notification_mails, public.notification_preferences,
  private.notification_keys, public.notifications cascade;
drop function private.is_weekdays, private.is_link, private.json_bytes;
