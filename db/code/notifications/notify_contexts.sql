-- Changes of a context: its name, settings or sources (contract 30, 11.6). Few people want to hear of them, many changes come in a row, and
-- they come on hot paths. So within ten minutes one change of a person and context is reported, and only subscribed people are looked at.

create or replace function private.context_audience(p public.projects) returns uuid[]
language sql stable
return array(
  select s.user_id from public.notification_preferences s
  where (s.in_app_context_updates or s.frequency <> 'realtime') and s.user_id in (
    select p.user_id
    union
    select m.user_id from public.project_members m where m.project_id = p.id and m.accepted_at is not null and m.role <> 'auditor'
      and not private.is_deactivated(m.organization_id, m.user_id)
    union
    select m.user_id from public.memberships m
    where m.organization_id = p.organization_id and m.status = 'active' and (p.privacy = 'shared' or m.role in ('owner', 'admin'))));
comment on function private.context_audience is 'The people who may view a context and want to be notified of its changes.';

create or replace function private.notify_context_changed(p_project_id uuid, p_what text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  p public.projects;
  v_actor uuid := private.user_id();
  v_key constant text := 'context:' || p_project_id;
  v_marker text := current_setting('app.context_notified', true);
begin
  -- Files are written by the hundred in one transaction.
  if v_marker = p_project_id::text then
    return;
  end if;
  v_marker := set_config('app.context_notified', p_project_id::text, true);
  select * into p from public.projects q where q.id = p_project_id;
  -- Neither when the context is created nor when it is deleted.
  if not found or p.created_at = now() then
    return;
  end if;
  if v_actor is not null then
    if exists (select from private.notification_keys k
      where k.user_id = v_actor and k.dedupe_key = v_key and k.created_at > now() - interval '10 minutes') then
      return;
    end if;
    insert into private.notification_keys as k (user_id, dedupe_key) values (v_actor, v_key)
    on conflict (user_id, dedupe_key) do update set created_at = now() where k.created_at <= now() - interval '10 minutes';
    if not found then
      return;
    end if;
  end if;
  perform private.notify_all(private.context_audience(p), 'context_update', format('"%s" was changed', private.one_line(p.name)), format('%s changed %s.', private.shown_name(v_actor), p_what),
    jsonb_build_object('projectId', p.id), '/project/' || p.id, false, null, v_actor, p.organization_id, null, p.id);
end
$$;
comment on function private.notify_context_changed is
  'Notifies users who may view a context and want such notifications that it changed; once a person and context in ten minutes. Authorization: callable by triggers of ours only.';

create or replace function private.tg__notify_context() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.notify_context_changed(case when tg_op = 'DELETE' then old.project_id else new.project_id end, tg_argv[0]);
  return null;
end
$$;
comment on function private.tg__notify_context is 'Trigger on a part of a project (argument: what is said to have changed).';

create or replace function private.tg_projects__notify_context() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform private.notify_context_changed(new.id, 'its name');
  return null;
end
$$;
comment on function private.tg_projects__notify_context is 'Trigger: a context has another name.';
create or replace trigger _900_notify_context after update of name on public.projects
  for each row when (old.name <> new.name) execute function private.tg_projects__notify_context();
create or replace trigger _900_notify_context after update on public.project_settings for each row
  when ((to_jsonb(old) - 'updated_at') <> (to_jsonb(new) - 'updated_at')) execute function private.tg__notify_context('its settings');
create or replace trigger _900_notify_context after insert or delete on public.project_repositories
  for each row execute function private.tg__notify_context('its sources');
create or replace trigger _900_notify_context_change after update on public.project_repositories for each row
  when ((old.branch, old.repository_url, old.include_paths, old.exclude_paths) is distinct from (new.branch, new.repository_url, new.include_paths, new.exclude_paths))
  execute function private.tg__notify_context('its sources');
create or replace trigger _900_notify_context after insert or update of content or delete on public.project_manual_contents
  for each row execute function private.tg__notify_context('its sources');
create or replace trigger _900_notify_context after insert on public.project_files
  for each row when (new.storage_key is not null) execute function private.tg__notify_context('its sources');
create or replace trigger _900_notify_context_removed after delete on public.project_files
  for each row when (old.storage_key is not null) execute function private.tg__notify_context('its sources');
