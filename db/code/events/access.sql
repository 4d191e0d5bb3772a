-- Controls who may read an event. The event's audience decides. For a project's room the project's own policy decides, so that a project
-- that is hidden from a person hides its events too. No role may write: events come from triggers, numbers from the sequencer. Removals
-- (audience none) are for the server processes only.
grant select on public.events to authenticated;

create policy select_audience on public.events for select to authenticated using (
  case audience
    when 'room' then case split_part(room, ':', 1)
      when 'user' then room = 'user:' || (select private.user_id())
      when 'org' then organization_id = (select private.org_id())
      else exists (select from public.projects p where p.id = events.project_id) end
    when 'project' then exists (select from public.projects p where p.id = events.project_id)
    -- Owner, admin, manager and auditor read the whole activity log; other members read their own entries (contract 10, 5.2).
    when 'activity' then exists (select from public.projects p where p.id = events.project_id)
      and (actor_user_id = (select private.user_id()) or private.reads_all_activity(project_id))
    when 'users' then (select private.user_id()) = any (user_ids)
    else false
  end
);
