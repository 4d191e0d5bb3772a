-- How a person wants to be notified (contract 30, 11.4). Each account has its row from the start, so reading never writes.

create or replace function private.notification_preferences_json(s public.notification_preferences) returns jsonb
language sql stable parallel safe
return jsonb_build_object(
  'email', jsonb_build_object('productUpdates', s.email_product_updates, 'securityAlerts', s.email_security_alerts,
    'billingReminders', s.email_billing_reminders, 'weeklyDigest', s.email_weekly_digest),
  'inApp', jsonb_build_object('newLeads', s.in_app_new_leads, 'taskCompletions', s.in_app_task_completions,
    'systemUpdates', s.in_app_system_updates, 'contextUpdates', s.in_app_context_updates, 'teamActivity', s.in_app_team_activity),
  'frequency', jsonb_build_object('frequency', s.frequency, 'digestTime', to_char(s.digest_time, 'HH24:MI'), 'digestDay', s.digest_day),
  'quietHours', jsonb_strip_nulls(jsonb_build_object('enabled', s.quiet_enabled, 'startTime', to_char(s.quiet_start, 'HH24:MI'),
    'endTime', to_char(s.quiet_end, 'HH24:MI'), 'days', s.quiet_days, 'customDays', to_jsonb(s.quiet_custom_days))));
comment on function private.notification_preferences_json is 'NotificationPreferences of the contract.';

create or replace function api.get_notification_preferences(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  return (select private.notification_preferences_json(s) from public.notification_preferences s where s.user_id = private.user_id());
end
$$;
comment on function api.get_notification_preferences is 'GET /notifications/preferences: all four sections.';

-- One field of a section, as text, of the wanted JSON type and form; null where it is absent.
create or replace function private.preference_field(p_body jsonb, p_section text, p_field text, p_type text, p_form text default '') returns text
language plpgsql stable
as $$
declare
  v jsonb := p_body -> p_section -> p_field;
begin
  if v is not null and (jsonb_typeof(v) <> p_type or v #>> '{}' !~ p_form) then
    perform private.refuse_field(p_section || '.' || p_field, 'The value is not valid.');
  end if;
  return v #>> '{}';
end
$$;
comment on function private.preference_field is 'A field of a PATCH body, or 400 VALIDATION_ERROR with its dotted path.';

create or replace function private.assert_preference_names(p_body jsonb) returns void
language plpgsql stable
as $$
declare
  c_known constant jsonb := '{"email": ["productUpdates", "securityAlerts", "billingReminders", "weeklyDigest"],
    "inApp": ["newLeads", "taskCompletions", "systemUpdates", "contextUpdates", "teamActivity"],
    "frequency": ["frequency", "digestTime", "digestDay"], "quietHours": ["enabled", "startTime", "endTime", "days", "customDays"]}';
  v_section text;
  v_field text;
begin
  for v_section in select k from jsonb_object_keys(p_body) k order by k loop
    if not c_known ? v_section or jsonb_typeof(p_body -> v_section) <> 'object' then
      perform private.refuse_field(v_section, 'This is not a section of the preferences.');
    end if;
    for v_field in select k from jsonb_object_keys(p_body -> v_section) k order by k loop
      if not c_known -> v_section ? v_field then
        perform private.refuse_field(v_section || '.' || v_field, 'This is not a field of the preferences.');
      end if;
    end loop;
  end loop;
end
$$;
comment on function private.assert_preference_names is 'Refuses unknown sections and fields: 400 VALIDATION_ERROR with the dotted path.';

create or replace function api.update_notification_preferences(p jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  c_time constant text := '^([01]\d|2[0-3]):[0-5]\d$';
  c_day constant text := '^[0-6]$';
  v_body jsonb := coalesce(p -> 'body', '{}');
  v_days jsonb := v_body -> 'quietHours' -> 'customDays';
  s public.notification_preferences;
  v_old public.notification_preferences;
begin
  if jsonb_typeof(v_body) <> 'object' then
    perform private.refuse_field('body', 'The preferences must be an object.');
  end if;
  perform private.assert_preference_names(v_body);
  select * into s from public.notification_preferences x where x.user_id = private.user_id() for no key update;
  v_old := s;
  s.email_product_updates := coalesce(private.preference_field(v_body, 'email', 'productUpdates', 'boolean')::boolean, s.email_product_updates);
  s.email_billing_reminders := coalesce(private.preference_field(v_body, 'email', 'billingReminders', 'boolean')::boolean, s.email_billing_reminders);
  s.email_weekly_digest := coalesce(private.preference_field(v_body, 'email', 'weeklyDigest', 'boolean')::boolean, s.email_weekly_digest);
  -- Checked, and then ignored: it is always on.
  perform private.preference_field(v_body, 'email', 'securityAlerts', 'boolean');
  s.in_app_new_leads := coalesce(private.preference_field(v_body, 'inApp', 'newLeads', 'boolean')::boolean, s.in_app_new_leads);
  s.in_app_task_completions := coalesce(private.preference_field(v_body, 'inApp', 'taskCompletions', 'boolean')::boolean, s.in_app_task_completions);
  s.in_app_system_updates := coalesce(private.preference_field(v_body, 'inApp', 'systemUpdates', 'boolean')::boolean, s.in_app_system_updates);
  s.in_app_context_updates := coalesce(private.preference_field(v_body, 'inApp', 'contextUpdates', 'boolean')::boolean, s.in_app_context_updates);
  s.in_app_team_activity := coalesce(private.preference_field(v_body, 'inApp', 'teamActivity', 'boolean')::boolean, s.in_app_team_activity);
  s.frequency := coalesce(private.preference_field(v_body, 'frequency', 'frequency', 'string', '^(realtime|daily|weekly)$'), s.frequency);
  s.digest_time := coalesce(private.preference_field(v_body, 'frequency', 'digestTime', 'string', c_time)::time, s.digest_time);
  s.digest_day := coalesce(private.preference_field(v_body, 'frequency', 'digestDay', 'number', c_day)::smallint, s.digest_day);
  s.quiet_enabled := coalesce(private.preference_field(v_body, 'quietHours', 'enabled', 'boolean')::boolean, s.quiet_enabled);
  s.quiet_start := coalesce(private.preference_field(v_body, 'quietHours', 'startTime', 'string', c_time)::time, s.quiet_start);
  s.quiet_end := coalesce(private.preference_field(v_body, 'quietHours', 'endTime', 'string', c_time)::time, s.quiet_end);
  s.quiet_days := coalesce(private.preference_field(v_body, 'quietHours', 'days', 'string', '^(all|weekdays|weekends|custom)$'), s.quiet_days);
  if v_days is not null then
    if jsonb_typeof(v_days) <> 'array' or jsonb_array_length(v_days) > 7
      or exists (select from jsonb_array_elements(v_days) d where jsonb_typeof(d) <> 'number' or d #>> '{}' !~ c_day)
      or jsonb_array_length(v_days) <> (select count(distinct d) from jsonb_array_elements(v_days) d) then
      perform private.refuse_field('quietHours.customDays', 'The days must be distinct numbers from 0 (Sunday) to 6.');
    end if;
    s.quiet_custom_days := array(select d::smallint from jsonb_array_elements_text(v_days) d order by d);
  end if;

  if s is distinct from v_old then
    update public.notification_preferences x
    set email_product_updates = s.email_product_updates, email_billing_reminders = s.email_billing_reminders,
      email_weekly_digest = s.email_weekly_digest, in_app_new_leads = s.in_app_new_leads, in_app_task_completions = s.in_app_task_completions,
      in_app_system_updates = s.in_app_system_updates, in_app_context_updates = s.in_app_context_updates,
      in_app_team_activity = s.in_app_team_activity, frequency = s.frequency, digest_time = s.digest_time, digest_day = s.digest_day,
      quiet_enabled = s.quiet_enabled, quiet_start = s.quiet_start, quiet_end = s.quiet_end, quiet_days = s.quiet_days,
      quiet_custom_days = s.quiet_custom_days
    where x.user_id = s.user_id;
  end if;
  return private.notification_preferences_json(s);
end
$$;
comment on function api.update_notification_preferences is
  'PATCH /notifications/preferences: any part of any section. Errors: 400 VALIDATION_ERROR with the dotted path.';

grant execute on function private.notification_preferences_json, private.preference_field, private.assert_preference_names,
  api.get_notification_preferences, api.update_notification_preferences to authenticated;
