-- Events: how a change is published to its subscribers (contract 30). The transaction of the change puts its events into the inbox, so
-- there is no event without the change and no change without the event. A process that commits such a transaction then runs
-- private.sequence_events(), which numbers everything that has been committed. Readers see only events that have a number.

-- Strangers (psql, Supabase's clients) make no wake-up after commit, so their transaction notifies, once: equal notifications of one
-- transaction are merged. Our own processes set app.wakes = 'on' on entering; NOTIFY would cost them more than half of their write rate.
-- A statement that touches more than 100 rows of one kind publishes one event to a room, with the id of the room's subject (contract 30,
-- 10.2). Triggers see one row at a time, and the first row does not show how many follow, so the events of the first hundred are deleted
-- again. A setting of the transaction remembers for the statement, per kind and room, the count and a place before the first event.
-- It is not a definer function: its caller, which runs for every event of a row, is one.
create or replace function private.note_bulk(p_entity text, p_room text) returns integer
language plpgsql volatile
as $$
declare
  v_text text := current_setting('app.bulk', true);
  v_known jsonb := nullif(v_text, '');
  v_key constant text := p_entity || ' ' || p_room;
  v_now constant text := extract(epoch from statement_timestamp());
  v_count integer;
  v_first bigint;
  v_void text;
begin
  if v_known ->> 'at' is distinct from v_now then
    v_known := jsonb_build_object('at', v_now);
  end if;
  v_count := coalesce((v_known #>> array[v_key, '0'])::integer, 0) + 1;
  v_first := coalesce((v_known #>> array[v_key, '1'])::bigint, pg_sequence_last_value('private.event_inbox_seq_seq'), 0);
  if v_count = 101 then
    -- Deletes only rows of this transaction: the sequencer may be numbering rows of others, and would wait for this one.
    delete from private.event_inbox i
    where i.seq > v_first and i.entity = p_entity and i.room = p_room and i.xmin = pg_current_xact_id()::xid;
  end if;
  -- Where a statement publishes to very many rooms, each room gets few rows.
  if v_count > 1 or length(v_text) < 5000 or v_text is null then
    v_void := set_config('app.bulk', jsonb_set(v_known, array[v_key], jsonb_build_array(v_count, v_first))::text, true);
  end if;
  return v_count;
end
$$;
comment on function private.note_bulk is
  'Counts the events of a kind that this statement has for a room, and takes the first hundred back when there are more. Authorization: callable by private.emit only.';

-- Not a definer function either: its callers are definer functions, and any other caller has no right to the inbox.
create or replace function private.emit(
  p_room text, p_type text, p_data jsonb, p_org_id uuid, p_project_id uuid default null, p_audience text default 'room',
  p_entity text default null, p_entity_id uuid default null, p_conflation_key text default null, p_users uuid[] default null
) returns void
language plpgsql volatile
as $$
declare
  -- Each expression costs a microsecond in each transaction, and a query five. So optional work is skipped, and the INSERT is the only
  -- query.
  v_actor uuid := nullif(current_setting('app.user_id', true), '')::uuid;
  v_kind text := split_part(p_room, ':', 1);
  v_void text;
  v_xid xid8;
  v_count integer;
begin
  if v_kind not in ('project', 'context', 'user', 'org') or p_audience not in ('room', 'project', 'activity', 'users', 'none')
    or jsonb_typeof(p_data) <> 'object' then
    raise exception 'not an event: room %, audience %, data %', p_room, p_audience, jsonb_typeof(p_data);
  end if;
  -- private.user_id() looks into the tables in a transaction without private.enter. Most writers have called it, or have no user.
  if v_actor is null and current_setting('request.jwt.claims', true) <> '' then
    v_actor := private.user_id();
  end if;
  if v_kind = 'user' then
    -- An event in a person's room belongs to the person, whatever organization they act in.
    p_org_id := null;
  elsif v_kind = 'org' then
    p_org_id := coalesce(p_org_id, split_part(p_room, ':', 2)::uuid);
  elsif p_project_id is null then
    -- Access to a project's room depends on the project, so the event always names it.
    p_project_id := split_part(p_room, ':', 2)::uuid;
  end if;

  -- An event about the room's own subject stays one event a room.
  if p_entity_id::text <> split_part(p_room, ':', 2) and (p_type = 'resource_changed' or p_type like 'project_user:%') then
    v_count := private.note_bulk(p_entity, p_room);
    if v_count > 101 or v_count = 101 and p_type <> 'resource_changed' then
      return;
    elsif v_count = 101 then
      p_entity_id := split_part(p_room, ':', 2);
      p_data := jsonb_build_object('resource', p_data -> 'resource', 'id', p_entity_id, 'operation', 'updated', 'updatedAt', private.iso(now()));
      p_audience := 'room';
      p_users := null;
      p_project_id := case when v_kind <> 'org' then p_project_id end;
    end if;
  end if;

  -- The transaction has its id before it draws a place; the sequencer's floor relies on that.
  v_xid := pg_current_xact_id();
  insert into private.event_inbox (room, type, data, audience, organization_id, project_id, entity, entity_id, actor_user_id,
    conflation_key, user_ids)
  values (p_room, p_type, p_data, p_audience, p_org_id, p_project_id, p_entity, p_entity_id, v_actor, p_conflation_key, p_users);

  if current_setting('app.wakes', true) is distinct from 'on' then
    v_void := pg_notify('kijko_wake', '');
  elsif current_setting('app.emitted', true) is distinct from 'on' then
    v_void := set_config('app.emitted', 'on', true);
  end if;
end
$$;
comment on function private.emit is
  'Writes an event of this transaction. Room "kind:uuid"; audience room, project, activity or users (p_users). Call it from AFTER triggers, in the order of the changes of a row. Authorization: callable by definer functions and triggers of ours only.';

-- A removal is a row of the log that no client receives: every server process applies it in log order, before any later event.
create or replace function private.emit_removal(p_kind text, p_org_id uuid, p_project_id uuid, p_user_id uuid, p_session_id uuid)
returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_kind not in ('member_removed', 'project_hidden', 'project_deleted', 'membership_ended', 'session_revoked') then
    raise exception 'unknown kind of removal: %', p_kind;
  end if;
  perform private.emit(
    coalesce('project:' || p_project_id, 'user:' || p_user_id, 'org:' || p_org_id), 'removal',
    jsonb_strip_nulls(jsonb_build_object('kind', p_kind, 'organizationId', p_org_id, 'projectId', p_project_id, 'userId', p_user_id,
      'sessionId', p_session_id)),
    p_org_id, p_project_id, 'none', 'removal');
end
$$;
comment on function private.emit_removal is
  'Writes that access ended: member_removed, project_hidden, project_deleted, membership_ended or session_revoked; null user = all users. Authorization: callable by definer functions and triggers of ours only.';

-- The sequencer. There is no leader: every process that has committed events calls it, and the row lock makes one of the callers work. It
-- is called as one statement outside a transaction block, so a process that hangs or dies cannot keep the lock.
--   Order: at READ COMMITTED the statement after the lock has a fresh snapshot, and it sees all that earlier holders have numbered.
--   An event that depends on another (same row, or begun after its commit) drew the larger seq after the other had been committed:
--   where it is visible, the other is visible too and comes first.
--   Stall: rows of open transactions are not visible yet, so they are simply not there. No caller waits for them.
--   Floor: once a second the last place drawn is remembered, and then the id of this transaction. A transaction that drew a place up to
--   there had an id before, hence a smaller one. When all transactions with smaller ids have ended, all their rows are visible, and the
--   batch below takes them: no more can come. (The upper end of a snapshot is no such mark: ids of running transactions can lie above it.)
create or replace function private.sequence_events() returns bigint
language plpgsql volatile security definer set search_path = ''
-- Statistics of a table that is empty most of the time mean nothing. So plans always use the index, and compiling never pays.
set enable_seqscan = off set jit = off
as $$
declare
  c_batch constant integer := 5000;
  v_floor bigint := (select floor_seq from private.event_log);
  -- The last place drawn, read before this transaction has an id.
  v_last bigint := case when pg_current_xact_id_if_assigned() is null
    then coalesce(pg_sequence_last_value('private.event_inbox_seq_seq'), 0) end;
  v_log private.event_log;
  v_head bigint;
  v_count bigint;
begin
  if not exists (select from private.event_inbox where seq > v_floor) then
    return null;
  end if;
  select * into v_log from private.event_log for update;
  v_floor := v_log.floor_seq;
  if v_last is not null and v_log.marked_at < clock_timestamp() - interval '1 second' then
    if v_log.next_xid <= pg_snapshot_xmin(pg_current_snapshot()) then
      v_log.floor_seq := v_log.next_seq;
      v_log.next_seq := v_last;
      v_log.next_xid := pg_current_xact_id();
    end if;
    v_log.marked_at := clock_timestamp();
  end if;
  -- Retention never removes the newest row, so this is the last number that was given.
  select coalesce(max(id), 0) into v_head from public.events;

  -- Rows between the old floor and the new one are taken here.
  with taken as (
    delete from private.event_inbox
    where seq > v_floor
      and seq <= coalesce((select i.seq from private.event_inbox i where i.seq > v_floor order by i.seq offset c_batch - 1 limit 1),
        9223372036854775807)
    returning *
  )
  insert into public.events (id, seq, room, type, data, audience, organization_id, project_id, entity, entity_id, actor_user_id,
    conflation_key, user_ids, created_at)
  select v_head + row_number() over (order by seq), seq, room, type, data, audience, organization_id, project_id, entity, entity_id,
    actor_user_id, conflation_key, user_ids, created_at
  from taken
  order by seq;
  get diagnostics v_count = row_count;

  if v_count >= c_batch then
    perform pg_notify('kijko_wake', '');
  else
    -- No row was left below it, so the floor may rise.
    update private.event_log l
    set floor_seq = v_log.floor_seq, next_seq = v_log.next_seq, next_xid = v_log.next_xid, marked_at = v_log.marked_at
    where l.marked_at < v_log.marked_at;
  end if;
  if v_count = 0 then
    return null;
  end if;
  perform pg_notify('kijko_events', (v_head + v_count)::text);
  return v_head + v_count;
end
$$;
comment on function private.sequence_events is
  'Numbers committed events and tells listeners once; returns the new head, or null when there was nothing. Run it as a statement of its own. Authorization: callable by the server and the worker only.';
grant execute on function private.sequence_events to kijko_server, kijko_worker;

-- The feed of a server process: all events after an id, for its hub to distribute.
create or replace function private.read_events(p_after bigint, p_limit integer)
returns table (id bigint, seq bigint, room text, type text, data text, audience text, organization_id uuid, project_id uuid,
  actor_user_id uuid, conflation_key text, user_ids uuid[], created_at timestamptz)
language plpgsql stable security definer set search_path = ''
as $$
begin
  -- Plpgsql keeps the plan; a definer function in SQL would be planned at every read.
  return query
  select e.id, e.seq, e.room, e.type, e.data::text, e.audience, e.organization_id, e.project_id, e.actor_user_id, e.conflation_key,
    e.user_ids, e.created_at
  from public.events e
  where e.id > p_after
  order by e.id
  limit p_limit;
end
$$;
comment on function private.read_events is 'Rows of the log after an id, in order. Authorization: callable by the server only, which decides per socket.';
grant execute on function private.read_events to kijko_server;

-- Head and pending places belong to one snapshot: the rows of a room that a reader of the same statement sees are exactly the state after
-- the events up to the head and the pending ones named here.
create or replace function private.log_position(p_room text, out head bigint, out pending bigint[])
language plpgsql stable security definer set search_path = ''
as $$
begin
  -- One statement, under the snapshot of its caller.
  select coalesce((select max(e.id) from public.events e), 0),
    coalesce((select array_agg(i.seq) from private.event_inbox i
      where i.room = p_room and not private.is_stranger() and i.seq > (select l.floor_seq from private.event_log l)), '{}')
    into head, pending;
end
$$;
comment on function private.log_position is 'Newest number, and the places of a room''s events that are committed but have none yet. Gives away no content, and those past our server no places.';
grant execute on function private.log_position to authenticated, kijko_server;

create or replace function private.removed_until(p_room text) returns bigint
language plpgsql stable security definer set search_path = ''
as $$
begin
  return greatest((select t.forgotten_id from private.event_retention t),
    (select r.removed_id from private.event_rooms r where r.room = p_room));
end
$$;
comment on function private.removed_until is 'Highest id that retention may have removed from a room; a cursor below it is expired. Gives away no content.';
grant execute on function private.removed_until to authenticated, kijko_server;

-- The check for audience `activity`. Late bound: projects are installed after events.
create or replace function private.reads_all_activity(p_project_id uuid) returns boolean
language plpgsql stable parallel safe
as $$
begin
  return coalesce(private.project_role(p_project_id) in ('owner', 'admin', 'manager', 'auditor'), false);
end
$$;
comment on function private.reads_all_activity is 'Does the caller read all users'' entries of a project''s activity log?';
grant execute on function private.reads_all_activity to authenticated;

create or replace function private.ingestion_event_types() returns text[]
language sql immutable parallel safe
return array['phase_started', 'progress_update', 'ingestion_complete', 'error', 'phase_data'];
comment on function private.ingestion_event_types is 'The events that room "ingestion:" carries of room "project:".';
grant execute on function private.ingestion_event_types to authenticated, kijko_server;
