-- The log keeps events for a day. The loss of each room is remembered, so that a client with an older cursor is told that it expired
-- instead of silently missing events. Superseded rows of conflatable series are no loss and leave no mark.
create or replace function private.prune_events(p_at timestamptz default now(), p_keep interval default '24 hours') returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_newest bigint;
  v_cut bigint;
  v_removed bigint;
begin
  -- The newest row stays permanently: the sequencer counts on from it.
  select max(id) into v_newest from public.events;
  if v_newest is null then
    return 0;
  end if;
  -- Reads from the oldest row up to the first row that is young enough: ids are in the order of commits, so almost of creation.
  select least(min(id), v_newest) into v_cut from public.events where created_at >= p_at - p_keep;
  v_cut := coalesce(v_cut, v_newest);

  with gone as (
    delete from public.events where id < v_cut returning room, id, type, audience
  ), lost as (
    select room, id from gone where audience <> 'none'
    union all
    -- The ingestion socket receives only a part of its project's room, so it has a mark of its own.
    select 'ingestion:' || split_part(room, ':', 2), id from gone
    where room like 'project:%' and type = any (private.ingestion_event_types())
  ), marked as (
    insert into private.event_rooms as r (room, removed_id, updated_at)
    select room, max(id), p_at from lost group by room
    on conflict (room) do update set removed_id = excluded.removed_id, updated_at = excluded.updated_at
  )
  select count(*) into v_removed from gone;

  delete from public.events e
  using (
    select id, lead(id) over (partition by room, conflation_key order by id) as newer
    from public.events
    where conflation_key is not null and id > (select superseded_id from private.event_retention)
  ) s
  where e.id = s.id and s.newer is not null;

  -- A room's mark is kept for 30 days; an older cursor is then expired everywhere.
  with forgotten as (
    delete from private.event_rooms where updated_at < p_at - interval '30 days' returning removed_id
  )
  update private.event_retention
  set superseded_id = v_newest,
    forgotten_id = greatest(forgotten_id, (select max(removed_id) from forgotten));
  return v_removed;
end
$$;
comment on function private.prune_events is
  'Removes events older than p_keep and superseded ones; returns how many expired. For the job events.prune, hourly. Authorization: callable by the worker only.';
grant execute on function private.prune_events to kijko_worker;
