-- The security of accounts, quotas and subscriptions (contract 30, 11.6). Alerts about an account are mailed always.

create or replace function private.notify_security(
  p_user_id uuid, p_title text, p_message text, p_urgent boolean, p_dedupe text, p_data jsonb default null
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.notify(p_user_id, 'security_alert', p_title, p_message, p_data, '/', p_urgent, p_dedupe, null, null, 'securityAlerts');
end
$$;
comment on function private.notify_security is 'A security alert to a user about their own account. Authorization: callable by definer functions and triggers of ours only.';

create or replace function private.known(p_text text, p_else text) returns text
language sql immutable parallel safe
return coalesce(nullif(p_text, 'Unknown'), p_else);
comment on function private.known is 'The text, or other words where it says that nothing is known.';

-- A device is a browser on an operating system; an address alone changes with every train ride. The very first sign-in is not reported.
create or replace function private.tg_login_history__alert() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_device constant jsonb := private.device_json(new.device);
  v_known boolean;
  v_any boolean;
  v_failed bigint;
  v_where text := coalesce(' from the address ' || new.client_ip, '');
begin
  if new.status = 'success' then
    -- Programs sign in every minute: the last thousand sign-ins are enough to know them, and mostly the last one is.
    if exists (
      select from (
        select l.user_agent, l.device from private.login_history l
        where l.user_id = new.user_id and l.status = 'success' and l.id <> new.id and l.method <> 'api_key'
        order by l.created_at desc limit 1000) h
      where (h.user_agent, h.device) is not distinct from (new.user_agent, new.device))
    then
      return null;
    end if;
    -- Programs without a known name are told apart by their user agent text.
    select count(*) > 0, coalesce(bool_or(h.user_agent = new.user_agent or (h.device ->> 'browser', h.device ->> 'os') = (v_device ->> 'browser', v_device ->> 'os')
      and (v_device ->> 'browser' <> 'Unknown' or h.device ->> 'userAgent' is not distinct from v_device ->> 'userAgent')), false)
    into v_any, v_known
    from (
      select distinct l.user_agent, private.device_json(l.device) as device
      from (
        select s.user_agent, s.device from private.login_history s
        where s.user_id = new.user_id and s.status = 'success' and s.id <> new.id and s.method <> 'api_key'
        order by s.created_at desc limit 1000) l
    ) h;
    if v_any and not v_known then
      perform private.notify_security(new.user_id, 'Sign-in from a new device',
        format('Your account was signed in to with %s on %s%s. If that was not you, change your password.',
          private.known(v_device ->> 'browser', 'an unknown browser'), private.known(v_device ->> 'os', 'an unknown system'), v_where),
        true, 'login:' || new.id, v_device - 'userAgent');
    end if;
    return null;
  end if;

  select count(*) into v_failed from private.login_history h
  where h.user_id = new.user_id and h.status = 'failed' and h.method <> 'api_key' and h.created_at > new.created_at - interval '15 minutes';
  -- Once in 15 minutes, however many follow. Attempts for one address come one after the other.
  if v_failed >= 5 and not exists (
    select from private.notification_keys k
    where k.user_id = new.user_id and k.dedupe_key >= 'login_failures:' and k.dedupe_key < 'login_failures;'
      and k.created_at > now() - interval '15 minutes')
  then
    perform private.notify_security(new.user_id, 'Failed attempts to sign in',
      format('There were %s failed attempts to sign in to your account within 15 minutes, the last one%s.', v_failed, coalesce(nullif(v_where, ''), ' from an unknown address')),
      true, 'login_failures:' || new.id);
  end if;
  return null;
end
$$;
comment on function private.tg_login_history__alert is 'Trigger: sign-in from a device that is new, and the fifth failed one within 15 minutes.';
-- A program with a key is no device that a person signs in with. The owner of a key is notified when the key is created
-- (db/code/keys/triggers.sql).
create or replace trigger _900_alert after insert on private.login_history
  for each row when (new.method not in ('signup', 'api_key')) execute function private.tg_login_history__alert();

create or replace function private.tg_credentials__alert() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.notify_security(new.user_id, 'Your password was changed', 'If that was not you, reset it now.', true,
    'password:' || pg_current_xact_id());
  return null;
end
$$;
comment on function private.tg_credentials__alert is 'Trigger: a password was changed. Hashing it again with other parameters moves no changed_at.';
create or replace trigger _900_alert after update of changed_at on private.credentials
  for each row when (new.changed_at > old.changed_at) execute function private.tg_credentials__alert();

create or replace function private.tg_users__alert_second_factor() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_off constant boolean := new.two_factor_enabled_at is null;
begin
  perform private.notify_security(new.id, 'Two-factor authentication was switched ' || case when v_off then 'off' else 'on' end,
    'If that was not you, change your password now.', v_off, 'second_factor:' || pg_current_xact_id());
  return null;
end
$$;
comment on function private.tg_users__alert_second_factor is 'Trigger: the second factor was switched on, or (urgent) off.';
create or replace trigger _900_alert_second_factor after update of two_factor_enabled_at on public.users
  for each row when ((old.two_factor_enabled_at is null) <> (new.two_factor_enabled_at is null))
  execute function private.tg_users__alert_second_factor();

-- Not when the person signed out, switched the organization or lost a membership.
create or replace function private.tg_sessions__alert_ended() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_device constant jsonb := private.device_json(new.device);
begin
  perform private.notify_security(new.user_id, 'A session was ended',
    format('Your session with %s on %s was ended%s.', private.known(v_device ->> 'browser', 'an unknown browser'), private.known(v_device ->> 'os', 'an unknown system'),
      case new.revoked_reason when 'refresh_reuse' then ', because one of its tokens was used twice: another person may have had it' else ' from elsewhere' end),
    false, 'session:' || new.id, v_device - 'userAgent');
  return null;
end
$$;
comment on function private.tg_sessions__alert_ended is 'Trigger: a session was ended from elsewhere, or because one of its refresh tokens was used twice.';
create or replace trigger _900_alert_ended after update of revoked_at on private.sessions for each row
  when (old.revoked_at is null and new.revoked_at is not null and new.revoked_reason in ('refresh_reuse', 'terminated'))
  execute function private.tg_sessions__alert_ended();

-- ------------------------------------------------------------------------------------------------------- quotas and subscriptions

-- Called where units take an organization over 80 % or to the end of a limit, so rarely.
create or replace function private.notify_quota(p_org_id uuid, p_metric text, p_used bigint, p_cap bigint, p_period date) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_over constant boolean := p_used >= p_cap;
  v_what constant text := case p_metric when 'api_calls' then 'API calls of this month' when 'ingestions' then 'ingestions of this month'
    when 'oracle_queries' then 'questions of today' else 'storage' end;
  v_key constant text := format('quota:%s:%s:%s:%s', p_org_id, p_metric, p_period, case when v_over then 100 else 80 end);
begin
  -- Nearly always: the people were notified before.
  if exists (select from public.memberships m join private.notification_keys k on k.user_id = m.user_id and k.dedupe_key = v_key
    where m.organization_id = p_org_id and m.role = 'owner') then
    return;
  end if;
  perform private.notify_all(private.organization_leaders(p_org_id), 'system_update',
    case when v_over then 'Used up: ' else 'Four fifths used: ' end || v_what,
    case when not v_over then null when p_metric = 'storage' then 'Nothing more is stored until something is deleted or the plan is changed.'
      else 'Nothing more is accepted until the period ends or the plan is changed.' end,
    jsonb_build_object('organizationId', p_org_id, 'metric', p_metric, 'used', p_used, 'limit', p_cap, 'level', case when v_over then 100 else 80 end),
    '/', v_over, v_key, null, p_org_id);
end
$$;
comment on function private.notify_quota is
  'Owner and admins hear of a quota at 80 and (urgently) at 100 %, once a metric, period and level. Authorization: callable by functions of ours only.';

-- Callers that count in different slots of a counter do not see each other before they commit, so each of the last ones may count some
-- units as left. This function reads the sums of counters with several slots. People who were notified are not notified again.
create or replace function private.notify_spread_quotas(p_at timestamptz default now()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
  v_limit bigint;
begin
  for v in
    select c.organization_id, c.metric, c.period, sum(c.used)::bigint as used
    from public.usage_counters c
    where not c.is_alone and c.period >= date_trunc('month', p_at at time zone 'UTC')::date
    group by 1, 2, 3
    having c.period = private.usage_period(c.metric, p_at)
  loop
    v_limit := private.plan_limit(v.organization_id, v.metric);
    if v_limit >= 0 and v.used * 5 >= v_limit * 4 then
      perform private.notify_quota(v.organization_id, v.metric, v.used, v_limit, v.period);
    end if;
  end loop;
end
$$;
comment on function private.notify_spread_quotas is
  'Tells of quotas whose last units were counted by callers that did not see each other. Authorization: callable by private.run_due only.';

create or replace function private.tg_subscriptions__notify() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_plan text := (select p.name from public.plans p where p.id = new.plan_id);
begin
  perform private.notify_all(array(select m.user_id from public.memberships m where m.organization_id = new.organization_id and m.role = 'owner'),
    'system_update',
    case when new.status = 'canceled' and old.status <> 'canceled' then 'Your subscription was cancelled' else format('Your plan is now %s', v_plan) end,
    null, jsonb_build_object('organizationId', new.organization_id, 'planId', new.plan_id, 'status', new.status), '/', false,
    format('subscription:%s:%s', new.id, pg_current_xact_id()), private.user_id(), new.organization_id, 'billingReminders');
  return null;
end
$$;
comment on function private.tg_subscriptions__notify is 'Trigger: the owner hears that the plan changed or the subscription was cancelled.';
create or replace trigger _900_notify after update on public.subscriptions for each row
  when (old.plan_id <> new.plan_id or (new.status = 'canceled' and old.status <> 'canceled'))
  execute function private.tg_subscriptions__notify();
