-- Deliveries to neighbors. Triggers queue them, only for a neighbor that the operator configured; the worker takes a row with a lease, sends
-- it and reports the result. A worker that dies loses its lease, and the row is sent again: neighbors are asked for what they have already.

create or replace function private.neighbor_setting(p_neighbor text) returns jsonb
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return private.installation_value('neighbors') -> p_neighbor;
end
$$;
comment on function private.neighbor_setting is
  'The settings of a neighbor ({"texts": may it get texts of customers}), or null where it is not configured. Authorization: callable by functions of ours only.';

create or replace function private.queue_deliveries(p_neighbor text, p_org_id uuid, p_kind text, p_subject_ids uuid[], p_series uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  -- Of one organization for one neighbor: more wait only when the neighbor has been away for long.
  c_limit constant integer := 10000;
  v_free integer;
  v_first uuid;
begin
  if private.neighbor_setting(p_neighbor) is null then
    return;
  end if;
  select c_limit - count(*) into v_free
  from (select from private.outbox o where o.organization_id = p_org_id and o.neighbor = p_neighbor limit c_limit) w;
  if v_free < cardinality(p_subject_ids) then
    insert into private.outbox_losses as l (organization_id, neighbor, lost) values (p_org_id, p_neighbor, cardinality(p_subject_ids) - v_free)
    on conflict (organization_id, neighbor) do update set lost = l.lost + excluded.lost, last_at = now();
  end if;
  with queued as (
    insert into private.outbox (organization_id, neighbor, kind, subject_id, series)
    select p_org_id, p_neighbor, p_kind, s.id, p_series from unnest(p_subject_ids) with ordinality s (id, nth) where s.nth <= v_free order by s.nth
    on conflict on constraint outbox_subject_key do nothing
    returning id, position
  )
  select q.id into v_first from queued q order by q.position limit 1;
  if found then
    perform private.enqueue('outbox.send', jsonb_build_object('deliveryId', v_first), p_queue => 'outbox');
  end if;
end
$$;
comment on function private.queue_deliveries is
  'Queues deliveries of a series and the job of the first, where the neighbor is configured; at most 10,000 of an organization wait. Authorization: callable by triggers of ours only.';

-- ---------------------------------------------------------------------------------------------------------------------- texts

-- Each shape has ids and numbers, and texts of customers only with p_texts.
create or replace function private.delivered_run_json(p_id uuid, p_texts boolean) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_strip_nulls(jsonb_build_object('organizationId', r.organization_id, 'projectId', r.project_id, 'runId', r.id, 'outcome', r.outcome,
        'phase', r.phase, 'files', r.files_processed, 'tokens', r.tokens_processed, 'chunks', r.chunks_created,
        'seconds', round(extract(epoch from r.ended_at - r.started_at))::integer, 'errorCode', r.error_code, 'endedAt', private.iso(r.ended_at)))
      || case when p_texts then jsonb_strip_nulls(jsonb_build_object('project', p.name, 'error', left(r.error_message, 2000))) else '{}' end
    from public.ingestion_runs r join public.projects p on p.id = r.project_id
    where r.id = p_id and r.outcome in ('completed', 'failed')
  );
end
$$;
comment on function private.delivered_run_json is 'What a neighbor is sent of an ended ingestion; null when it is gone. Authorization: callable by functions of ours only.';

create or replace function private.delivered_execution_json(p_id uuid, p_texts boolean) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_most constant integer := 200000; -- characters of a text
begin
  return (
    select jsonb_strip_nulls(jsonb_build_object('organizationId', e.organization_id, 'userId', e.user_id, 'executionId', e.id, 'skillId', e.skill_id,
        'type', e.execution_type, 'status', e.status, 'model', coalesce(e.model_called, e.model), 'promptTokens', e.prompt_tokens,
        'completionTokens', e.completion_tokens, 'costCents', e.cost_cents, 'durationMs', e.duration_ms, 'errorCode', e.error_code,
        'startedAt', private.iso(coalesce(e.started_at, e.executed_at)), 'completedAt', private.iso(e.completed_at)))
      || case when p_texts then jsonb_strip_nulls(jsonb_build_object('skill', s.name, 'input', left(e.input::text, c_most),
        'output', left(e.output, c_most), 'error', left(e.error_message, 2000))) else '{}' end
    from public.skill_executions e left join public.skills s on s.id = e.skill_id
    where e.id = p_id and e.status in ('completed', 'failed')
  );
end
$$;
comment on function private.delivered_execution_json is 'What a neighbor is sent of an ended run of a skill; null when it is gone. Authorization: callable by functions of ours only.';

create or replace function private.delivered_message_json(p_id uuid, p_texts boolean) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select jsonb_strip_nulls(jsonb_build_object('organizationId', m.organization_id, 'userId', m.user_id, 'messageId', m.id, 'role', m.role, 'seq', m.seq,
        'contextId', coalesce(c.context_id, c.default_of), 'model', m.model, 'promptTokens', m.input_tokens, 'completionTokens', m.output_tokens,
        'stopped', m.is_stopped, 'createdAt', private.iso(m.created_at)))
      || case when p_texts then jsonb_build_object('text', m.content) else '{}' end
    from public.chat_messages m
    join public.chat_sessions c on c.organization_id = m.organization_id and c.user_id = m.user_id and c.id = m.chat_id
    where m.id = p_id
  );
end
$$;
comment on function private.delivered_message_json is 'What a neighbor is sent of a message of a chat; null when it is gone. Authorization: callable by functions of ours only.';

create or replace function private.delivery_payload(d private.outbox) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_setting constant jsonb := private.neighbor_setting(d.neighbor);
  v_texts constant boolean := coalesce((v_setting ->> 'texts')::boolean, false);
begin
  if v_setting is null then
    return null; -- It was switched off after the event.
  end if;
  return case d.kind when 'ingestion' then private.delivered_run_json(d.subject_id, v_texts)
    when 'execution' then private.delivered_execution_json(d.subject_id, v_texts) when 'message' then private.delivered_message_json(d.subject_id, v_texts) end;
end
$$;
comment on function private.delivery_payload is
  'What a delivery sends, or null where there is nothing to send any more. Authorization: callable by functions of ours only.';

-- ------------------------------------------------------------------------------------------------------------------ for the worker

create or replace function private.queue_next_of_series(p_neighbor text, p_series uuid) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid;
begin
  select o.id into v_id from private.outbox o
  where o.neighbor = p_neighbor and o.series = p_series and o.status = 'waiting' order by o.position limit 1;
  if found then
    perform private.enqueue('outbox.send', jsonb_build_object('deliveryId', v_id), p_queue => 'outbox');
  end if;
end
$$;
comment on function private.queue_next_of_series is 'Enqueues the first waiting delivery of a series. Authorization: callable by functions of ours only.';

-- Returns one element for each job that was looked at; null where there is nothing to send. A delivery behind another one of its series
-- waits without a job: the end of the earlier one enqueues it.
create or replace function private.take_outbox(p_limit integer, p_seconds integer, p_worker bigint default null) returns setof jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_args jsonb;
  d private.outbox;
  v_payload jsonb;
begin
  for v_args in select t from private.take_jobs('outbox', p_limit) t loop
    update private.outbox o
    set lease_token = private.new_lease(p_worker), lease_until = clock_timestamp() + make_interval(secs => p_seconds), attempts = o.attempts + 1, status = 'waiting'
    where o.id = private.as_uuid(v_args ->> 'deliveryId') and o.lease_token is null
      and not exists (select from private.outbox e
        where e.neighbor = o.neighbor and e.series = o.series and e.status = 'waiting' and e.position < o.position)
    returning * into d;
    if not found then
      return next null;
      continue;
    end if;
    v_payload := private.delivery_payload(d);
    if v_payload is null then
      delete from private.outbox o where o.id = d.id;
      perform private.queue_next_of_series(d.neighbor, d.series);
      return next null;
      continue;
    end if;
    return next jsonb_build_object('id', d.id, 'token', d.lease_token, 'neighbor', d.neighbor, 'kind', d.kind, 'series', d.series, 'attempt', d.attempts,
      'payload', v_payload, 'reference', coalesce((select r.reference from private.outbox_references r where r.neighbor = d.neighbor and r.series = d.series), ''));
  end loop;
end
$$;
comment on function private.take_outbox is 'Leases up to p_limit deliveries for p_seconds. Authorization: callable by the worker only.';

create or replace function private.keep_outbox_reference(p_id uuid, p_token uuid, p_reference text) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  insert into private.outbox_references as r (neighbor, series, organization_id, reference)
  select o.neighbor, o.series, o.organization_id, p_reference from private.outbox o where o.id = p_id and o.lease_token = p_token
  on conflict (neighbor, series) do update set reference = excluded.reference, used_at = now();
  return found;
end
$$;
comment on function private.keep_outbox_reference is
  'Keeps what a neighbor calls the series of a delivery; false when the lease is lost. Authorization: callable by the worker only, by the token of the lease.';

-- Zulip's own client repeats ten times, a second apart; this goes on more slowly afterwards.
create or replace function private.outbox_pause(p_neighbor text, p_attempts integer) returns interval
language sql immutable parallel safe
return case when p_neighbor = 'zulip' and p_attempts <= 10 then interval '1 second'
  else make_interval(secs => least(3600, power(2, least(case p_neighbor when 'zulip' then p_attempts - 9 else p_attempts end, 12)))) end;
comment on function private.outbox_pause is 'How long a delivery waits after its failed attempt: to an hour.';

-- {id, token, ok, refused, error, after}: refused where no further attempt can succeed, after = seconds that the neighbor asks to wait.
create or replace function private.finish_outbox(p jsonb) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_patience constant interval := '3 days';
  v_error constant text := left(p ->> 'error', 500);
  d private.outbox;
begin
  select * into d from private.outbox o
  where o.id = private.as_uuid(p ->> 'id') and o.lease_token = private.as_uuid(p ->> 'token') for update;
  if not found then
    return false;
  end if;
  if (p ->> 'ok')::boolean then
    delete from private.outbox o where o.id = d.id;
    update private.outbox_references r set used_at = now() where r.neighbor = d.neighbor and r.series = d.series;
  elsif coalesce((p ->> 'refused')::boolean, false) or d.created_at < clock_timestamp() - c_patience then
    update private.outbox o set status = 'failed', error = v_error, lease_token = null, lease_until = null where o.id = d.id;
    perform private.bury_job(private.new_ulid(), 'outbox.send', 'outbox', jsonb_build_object('deliveryId', d.id), d.attempts, v_error, d.created_at);
  else
    d.due_at := clock_timestamp() + greatest(private.outbox_pause(d.neighbor, d.attempts), make_interval(secs => least(coalesce((p ->> 'after')::double precision, 0), 3600)));
    update private.outbox o set error = v_error, lease_token = null, lease_until = null, due_at = d.due_at where o.id = d.id;
    perform private.enqueue('outbox.send', jsonb_build_object('deliveryId', d.id), d.due_at, p_queue => 'outbox');
    return true;
  end if;
  perform private.queue_next_of_series(d.neighbor, d.series);
  return true;
end
$$;
comment on function private.finish_outbox is
  'The result of a delivery, by who holds it: gone, tried again, or failed and a dead letter; false when the lease is lost. Authorization: callable by the worker only, by the token of the lease.';
grant execute on function private.take_outbox, private.keep_outbox_reference, private.finish_outbox to kijko_worker;

create or replace function private.outbox_state(p_neighbor text, out pending bigint, out failing bigint, out lost bigint)
language plpgsql stable security definer set search_path = ''
as $$
begin
  select count(*), count(*) filter (where o.error is not null) into pending, failing
  from (select x.error from private.outbox x where x.neighbor = p_neighbor limit 10000) o;
  select coalesce(sum(l.lost), 0) into lost from private.outbox_losses l
  where l.neighbor = p_neighbor and l.last_at > now() - interval '1 day';
end
$$;
comment on function private.outbox_state is
  'Deliveries of a neighbor that wait and those that failed, counted up to 10,000, and, for a day, those that were dropped. Authorization: callable by the server only, numbers of all organizations together.';
grant execute on function private.outbox_state to kijko_server;

-- ----------------------------------------------------------------------------------------------------------------------- schedules

-- Gives deliveries of lost workers to others, and enqueues those whose job was lost.
create or replace function private.sweep_outbox(p_at timestamptz default clock_timestamp()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_id uuid;
begin
  for v_id in
    update private.outbox o set lease_token = null, lease_until = null, due_at = p_at
    where o.id in (select x.id from private.outbox x where x.lease_until < p_at limit 1000 for update skip locked)
    returning o.id
  loop
    perform private.enqueue('outbox.send', jsonb_build_object('deliveryId', v_id), p_queue => 'outbox');
  end loop;
  for v_id in
    update private.outbox o set due_at = p_at
    where o.id in (select x.id from private.outbox x
      where x.status = 'waiting' and x.due_at < p_at - interval '10 minutes' and x.lease_token is null order by x.due_at limit 1000 for update skip locked)
    returning o.id
  loop
    perform private.enqueue('outbox.send', jsonb_build_object('deliveryId', v_id), p_queue => 'outbox');
  end loop;
end
$$;
comment on function private.sweep_outbox is 'Gives deliveries of lost workers to others. Authorization: callable by schedules only.';

create or replace function private.prune_outbox(p_at timestamptz default now()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  with gone as (
    delete from private.outbox o where o.created_at < p_at - interval '7 days' returning o.organization_id, o.neighbor
  )
  insert into private.outbox_losses as l (organization_id, neighbor, lost)
  select g.organization_id, g.neighbor, count(*) from gone g group by 1, 2 order by 1, 2
  on conflict (organization_id, neighbor) do update set lost = l.lost + excluded.lost, last_at = now();
  delete from private.outbox_references r where r.used_at < p_at - interval '90 days';
end
$$;
comment on function private.prune_outbox is 'Ends deliveries after 7 days and names of series after 90. Authorization: callable by schedules only.';
