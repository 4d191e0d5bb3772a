-- Only its recipient sees a notification: administrators of the organization do not. A notification that is not due yet is invisible. Only
-- functions create rows; the recipient marks them as read and deletes them.
grant execute on function private.json_bytes, private.is_link, private.is_weekdays, private.assert_notifications_row
  to anon, authenticated, service_role, kijko_server, kijko_worker;
grant select, update (read_at), delete on public.notifications to authenticated;
create policy select_own on public.notifications for select to authenticated
  using (user_id = (select private.user_id()) and due_at <= now());
create policy update_own on public.notifications for update to authenticated
  using (user_id = (select private.user_id()) and due_at <= now()) with check (user_id = (select private.user_id()));
create policy delete_own on public.notifications for delete to authenticated
  using (user_id = (select private.user_id()) and due_at <= now());

-- Preferences exist as long as the account does, so no role may insert or delete them.
grant select, update (email_product_updates, email_security_alerts, email_billing_reminders, email_weekly_digest, in_app_new_leads,
  in_app_task_completions, in_app_system_updates, in_app_context_updates, in_app_team_activity, frequency, digest_time, digest_day,
  quiet_enabled, quiet_start, quiet_end, quiet_days, quiet_custom_days) on public.notification_preferences to authenticated;
create policy select_own on public.notification_preferences for select to authenticated using (user_id = (select private.user_id()));
create policy update_own on public.notification_preferences for update to authenticated
  using (user_id = (select private.user_id())) with check (user_id = (select private.user_id()));
