-- Events that are not kept: presence, the text of a running execution. They go over NOTIFY itself to every server process that listens,
-- best effort: a process or client that is disconnected misses them. Events that must not be missed go to the log.

-- Only admission to the room guards them, so they carry only what every member of the room may see. NOTIFY holds a lock until commit: call
-- this in a transaction of its own, or in one that commits at once.
create or replace function private.publish(p_room text, p_type text, p_data jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_room !~ '^(project|context|user|org):[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' or jsonb_typeof(p_data) <> 'object'
    or char_length(p_type) not between 1 and 64 then
    raise exception 'not an event: room %, type %, data %', p_room, p_type, jsonb_typeof(p_data);
  end if;
  -- A notification holds less than 8000 bytes, and a larger one would fail the caller's transaction.
  if octet_length(p_data::text) > 6144 then
    raise log 'an ephemeral event % of % bytes is too large and not sent', p_type, octet_length(p_data::text);
    return;
  end if;
  perform pg_notify('kijko_ephemeral',
    jsonb_build_object('room', p_room, 'type', p_type, 'at', private.iso(clock_timestamp()), 'data', p_data)::text);
end
$$;
comment on function private.publish is
  'Tells the open sockets of a room something that is not kept: room "kind:uuid", at most 6 KiB of data; more is not sent. Authorization: callable by the server, the worker and definer functions of ours only.';
grant execute on function private.publish to kijko_server, kijko_worker;
