-- Exact totals of long activity logs, without reading them: the entries of closed days are counted once (private.activity_days), the rest,
-- two days at most, by the index. Writers of entries touch no counter, so they do not wait for each other. Only a writer of an entry of a
-- closed day, and a deletion, correct the numbers.

-- An entry carries the moment of its insert. private.audit_mark knows the moment before which no open transaction has one
-- (db/code/audit/counting.sql). The lock makes corrections of the days wait, so that each of them sees all entries or is seen.
create or replace function private.close_activity_days(p_at timestamptz default now()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_from timestamptz;
  v_settled timestamptz;
  v_end timestamptz;
begin
  select m.closed_until into v_from from private.activity_mark m for update;
  v_settled := (select m.settled_at from private.audit_mark m);
  if v_settled is null then
    return;
  end if;
  v_end := date_trunc('day', least(v_settled, p_at - interval '1 hour'), 'UTC');
  v_from := coalesce(v_from, (select date_trunc('day', min(a.created_at), 'UTC') from public.project_activity a), v_end);
  -- A run after a long pause, and the first one over old logs, count a month.
  v_end := least(v_end, v_from + interval '31 days');
  if v_end < v_from then
    return;
  end if;
  insert into private.activity_days as d (organization_id, project_id, day, type, entries)
  select a.organization_id, a.project_id, (a.created_at at time zone 'UTC')::date, a.type, count(*)
  from public.project_activity a
  where a.created_at >= v_from and a.created_at < v_end
  group by 1, 2, 3, 4
  on conflict (project_id, day, type) do update set entries = d.entries + excluded.entries;
  update private.activity_mark set closed_until = v_end;
end
$$;
comment on function private.close_activity_days is 'Counts the entries of days that have ended. Authorization: callable by functions of ours only.';

-- The entry of a restored or copied log. Such writers wait for each other, because their entries come in any order of days.
create or replace function private.tg_project_activity__count_late() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform from private.activity_mark m for update;
  insert into private.activity_days as d (organization_id, project_id, day, type, entries)
  select new.organization_id, new.project_id, (new.created_at at time zone 'UTC')::date, new.type, 1
  from private.activity_mark m where new.created_at < m.closed_until
  on conflict (project_id, day, type) do update set entries = d.entries + 1;
  return null;
end
$$;
comment on function private.tg_project_activity__count_late is 'Trigger: an entry of a closed day is counted there.';
create or replace trigger _800_count_late after insert on public.project_activity
  for each row when (new.created_at < now() - interval '30 minutes') execute function private.tg_project_activity__count_late();

-- With its project the numbers of a log are deleted as well.
create or replace function private.tg_project_activity__uncount() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform from private.activity_mark m for share;
  -- In one order, so that two deletions wait for each other and never in a circle.
  perform from private.activity_days d
  where (d.project_id, d.day, d.type) in (
    select g.project_id, (g.created_at at time zone 'UTC')::date, g.type from gone g, private.activity_mark m where g.created_at < m.closed_until)
  order by d.project_id, d.day, d.type for update;
  with less as (
    select g.project_id, (g.created_at at time zone 'UTC')::date as day, g.type, count(*) as entries
    from gone g, private.activity_mark m where g.created_at < m.closed_until group by 1, 2, 3
  )
  update private.activity_days d set entries = d.entries - l.entries from less l
  where d.project_id = l.project_id and d.day = l.day and d.type = l.type;
  return null;
end
$$;
comment on function private.tg_project_activity__uncount is 'Trigger: a deleted entry of a closed day counts no more.';
create or replace trigger _800_uncount after delete on public.project_activity referencing old table as gone
  for each statement execute function private.tg_project_activity__uncount();
