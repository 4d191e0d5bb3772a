-- The calls of workers: send attempts, renew tokens, revoke disconnected access at providers. A job is taken together with the lease of its
-- row. Only the lease owner writes the result, so of two workers with the same work one is accepted. A worker that dies between sending and
-- recording loses its lease, and the same attempt is sent once more, but not more often.

-- Deletes up to p_limit waiting jobs of a queue and returns their arguments. A job that cannot be read becomes a dead letter.
create or replace function private.take_jobs(p_queue text, p_limit integer) returns setof jsonb
language plpgsql volatile security definer set search_path = ''
-- Statistics of a queue are always stale, so plans always use the index.
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
  v_job jobs.gue_jobs;
  v_args jsonb;
begin
  for v_job in
    select * from jobs.gue_jobs j where j.queue = p_queue and j.run_at <= clock_timestamp()
    order by j.run_at, j.job_id limit p_limit for update skip locked
  loop
    begin
      v_args := convert_from(v_job.args, 'UTF8')::jsonb;
    exception when others then
      v_args := null;
      perform private.bury_job(v_job.job_id, v_job.job_type, v_job.queue, 'null', v_job.error_count + 1, sqlerrm, v_job.created_at);
    end;
    delete from jobs.gue_jobs j where j.job_id = v_job.job_id;
    return next coalesce(v_args, '{}');
  end loop;
end
$$;
comment on function private.take_jobs is 'Takes jobs of a queue away and gives their arguments. Authorization: callable by functions of ours only.';

-- ---------------------------------------------------------------------------------------------------------------------- attempts

-- Returns one element for each job that was looked at; null where there is nothing to send.
create or replace function private.take_deliveries(p_limit integer, p_seconds integer, p_worker bigint default null) returns setof jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_args jsonb;
  d public.webhook_deliveries;
  w public.webhooks;
begin
  for v_args in select t from private.take_jobs('webhooks', p_limit) t loop
    update public.webhook_deliveries x
    set lease_token = private.new_lease(p_worker), lease_until = clock_timestamp() + make_interval(secs => p_seconds), leases = x.leases + 1
    where x.id = private.as_uuid(v_args ->> 'deliveryId') and x.status = 'pending' and x.lease_token is null
    returning * into d;
    if not found then
      return next null;
      continue;
    end if;
    select * into w from public.webhooks x where x.id = d.webhook_id;
    if w.status = 'paused' and d.kind = 'event' then
      -- A paused webhook gets only attempts that a person started.
      update public.webhook_deliveries x set status = 'failed', lease_token = null, lease_until = null where x.id = d.id;
      return next null;
      continue;
    end if;
    return next jsonb_build_object('id', d.id, 'token', d.lease_token, 'webhookId', w.id, 'type', d.event_type, 'url', w.endpoint_url,
      'body', d.payload::text, 'sealed', (select s.sealed from private.integration_secrets s where s.webhook_id = w.id));
  end loop;
end
$$;
comment on function private.take_deliveries is 'Leases up to p_limit waiting attempts for p_seconds. Authorization: callable by the worker only.';

-- {id, token, ok, status, body}; false where another holder has the attempt, or it is gone.
create or replace function private.finish_delivery(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_waits constant interval[] := array['10 seconds', '1 minute', '5 minutes', '30 minutes', '2 hours']::interval[];
  v_ok constant boolean := (p ->> 'ok')::boolean;
  d public.webhook_deliveries;
  w public.webhooks;
begin
  update public.webhook_deliveries x
  set status = case when v_ok then 'success' else 'failed' end, response_status = (p ->> 'status')::smallint, response_body = p ->> 'body',
    lease_token = null, lease_until = null
  where x.id = private.as_uuid(p ->> 'id') and x.lease_token = private.as_uuid(p ->> 'token') and x.status = 'pending'
  returning * into d;
  if not found then
    return 'false';
  end if;
  update public.webhooks x
  set last_triggered_at = greatest(x.last_triggered_at, clock_timestamp()),
    consecutive_failures = case when d.kind = 'test' then x.consecutive_failures when v_ok then 0
      when d.kind = 'event' then least(x.consecutive_failures + 1, 1000) else x.consecutive_failures end,
    status = case when not v_ok and d.kind = 'event' and x.consecutive_failures >= 19 then 'paused' else x.status end
  where x.id = d.webhook_id
  returning * into w;
  if v_ok and d.kind <> 'test' then
    perform private.audit('integration.webhook_triggered', format('Delivered %s to the webhook "%s".', d.event_type, w.name),
      jsonb_build_object('webhookId', w.id, 'webhookName', w.name, 'eventType', d.event_type), null, d.organization_id);
  elsif not v_ok and d.kind = 'event' then
    if w.status = 'active' and d.attempt_number <= cardinality(c_waits) then
      d.attempt_number := d.attempt_number + 1;
      perform private.queue_attempt(d, clock_timestamp() + c_waits[d.attempt_number - 1]);
    elsif w.status = 'paused' and w.consecutive_failures = 20 then
      perform private.notify_all(private.organization_leaders(d.organization_id), 'system_update', format('The webhook "%s" was paused', w.name),
        'Its last 20 deliveries failed. Look at them, and switch it on again when the receiver is back.',
        jsonb_build_object('organizationId', d.organization_id, 'webhookId', w.id), '/?tab=integrations', false,
        format('webhook:%s:%s', w.id, d.id), null, d.organization_id);
    end if;
  end if;
  return 'true';
end
$$;
comment on function private.finish_delivery is
  'The result of an attempt, by who holds it: the next attempt, the pause at the twentieth failure. Authorization: callable by the server and the worker only, by the token of the lease.';

create or replace function private.delivery_of(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select private.delivery_json(d) from public.webhook_deliveries d where d.id = private.as_uuid(p ->> 'id')
  );
end
$$;
comment on function private.delivery_of is 'WebhookDelivery by its id. Authorization: callable by the server only, for the caller of a test.';
grant execute on function private.take_deliveries to kijko_worker;
grant execute on function private.finish_delivery to kijko_server, kijko_worker;
grant execute on function private.delivery_of to kijko_server;

-- ------------------------------------------------------------------------------------------------------ synchronizing and revoking

create or replace function private.take_integration_work(p_limit integer, p_seconds integer, p_worker bigint default null) returns setof jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_args jsonb;
  i public.integrations;
  r private.integration_revocations;
begin
  for v_args in select t from private.take_jobs('integrations', p_limit) t loop
    if v_args ? 'revocationId' then
      update private.integration_revocations x
      set lease_token = private.new_lease(p_worker), lease_until = clock_timestamp() + make_interval(secs => p_seconds), tries = x.tries + 1
      where x.id = private.as_uuid(v_args ->> 'revocationId') and x.lease_token is null
      returning * into r;
      return next case when found then jsonb_build_object('kind', 'revocation', 'id', r.id, 'token', r.lease_token, 'provider', r.provider,
        'organizationId', r.organization_id, 'sealed', r.sealed) end;
    else
      update public.integrations x
      set sync_token = private.new_lease(p_worker), sync_lease_until = clock_timestamp() + make_interval(secs => p_seconds), sync_leases = x.sync_leases + 1
      where x.id = private.as_uuid(v_args ->> 'integrationId') and x.sync_requested_at is not null and x.sync_token is null
      returning * into i;
      return next case when found then jsonb_build_object('kind', 'sync', 'id', i.id, 'token', i.sync_token, 'provider', i.provider,
        'organizationId', i.organization_id, 'sealed', (select s.sealed from private.integration_secrets s where s.integration_id = i.id)) end;
    end if;
  end loop;
end
$$;
comment on function private.take_integration_work is 'Leases up to p_limit waiting synchronizations and revocations. Authorization: callable by the worker only.';

-- New tokens are stored at once: with some providers the old ones are void from then on.
create or replace function private.renew_integration(p_id uuid, p_token uuid, p_sealed text) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  perform from public.integrations i where i.id = p_id and i.sync_token = p_token for update;
  if not found then
    return false;
  end if;
  update private.integration_secrets s set sealed = p_sealed, updated_at = now() where s.integration_id = p_id;
  return found;
end
$$;
comment on function private.renew_integration is 'Keeps renewed tokens. Authorization: callable by the worker only, by the token of the lease.';

-- p_outcome: ok, failed or expired.
create or replace function private.finish_sync(p_id uuid, p_token uuid, p_outcome text, p_message text, p_calls jsonb) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  i public.integrations;
  v_old text;
begin
  select x.status into v_old from public.integrations x where x.id = p_id and x.sync_token = p_token for update;
  if not found then
    return false;
  end if;
  update public.integrations x
  set sync_requested_at = null, sync_token = null, sync_lease_until = null, sync_leases = 0,
    last_sync_at = case when p_outcome = 'ok' then clock_timestamp() else x.last_sync_at end,
    sync_failures = case p_outcome when 'ok' then 0 when 'failed' then least(x.sync_failures + 1, 1000) else x.sync_failures end,
    status = case when p_outcome = 'ok' then 'active' when p_outcome = 'expired' then 'expired' when x.sync_failures >= 4 and x.status = 'active' then 'error'
      else x.status end
  where x.id = p_id returning * into i;
  perform private.count_calls(i.id, null, 'Synchronization', p_token::text, p_calls);
  perform private.log_integration(i.id, null, case p_outcome when 'ok' then 'info' when 'failed' then 'warning' else 'error' end, p_message);
  if i.status <> v_old and i.status <> 'active' then
    perform private.notify_broken_integration(i);
  end if;
  return true;
end
$$;
comment on function private.finish_sync is
  'The end of a synchronization: five failures in a row are an error, a refused token is expired. Authorization: callable by the worker only, by the token of the lease.';

create or replace function private.finish_revocation(p_id uuid, p_token uuid, p_done boolean) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_tries integer;
begin
  update private.integration_revocations x set lease_token = null, lease_until = null
  where x.id = p_id and x.lease_token = p_token returning x.tries into v_tries;
  if not found then
    return;
  elsif p_done or v_tries >= 5 then
    delete from private.integration_revocations x where x.id = p_id;
  else
    perform private.enqueue('integrations.run', jsonb_build_object('revocationId', p_id), clock_timestamp() + make_interval(secs => 10 * 4 ^ v_tries),
      p_queue => 'integrations');
  end if;
end
$$;
comment on function private.finish_revocation is
  'A provider was told, or is told again later: five tries, then the tokens are forgotten. Authorization: callable by the worker only, by the token of the lease.';
grant execute on function private.take_integration_work, private.renew_integration, private.finish_sync, private.finish_revocation to kijko_worker;

-- Work whose worker is gone. An attempt is sent once more; an attempt that lost its worker twice has failed. A test is not repeated.
create or replace function private.sweep_integrations(p_at timestamptz default clock_timestamp()) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  for v in
    select d.id, d.lease_token, d.leases, d.kind from public.webhook_deliveries d
    where d.lease_until < p_at and d.status = 'pending' limit 1000 for update skip locked
  loop
    if v.kind = 'test' or v.leases >= 2 then
      perform private.finish_delivery(jsonb_build_object('id', v.id, 'token', v.lease_token, 'ok', false));
    else
      update public.webhook_deliveries d set lease_token = null, lease_until = null where d.id = v.id;
      perform private.enqueue('webhooks.deliver', jsonb_build_object('deliveryId', v.id), p_queue => 'webhooks');
    end if;
  end loop;
  for v in
    select i.id, i.sync_token, i.sync_leases from public.integrations i where i.sync_lease_until < p_at limit 1000 for update skip locked
  loop
    if v.sync_leases >= 3 then
      perform private.finish_sync(v.id, v.sync_token, 'failed', 'The synchronization was interrupted.', null);
    else
      update public.integrations i set sync_token = null, sync_lease_until = null where i.id = v.id;
      perform private.enqueue('integrations.run', jsonb_build_object('integrationId', v.id), p_queue => 'integrations');
    end if;
  end loop;
  for v in
    select r.id, r.lease_token from private.integration_revocations r where r.lease_until < p_at limit 1000 for update skip locked
  loop
    perform private.finish_revocation(v.id, v.lease_token, false);
  end loop;
end
$$;
comment on function private.sweep_integrations is 'Gives work of lost workers to others. Authorization: callable by schedules only.';
