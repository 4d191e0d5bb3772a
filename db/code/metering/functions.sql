-- Copies of counted units for OpenMeter. A trigger writes one row in the transaction of the unit; a worker sends rows in batches and deletes
-- what was accepted. At most one batch is on its way. Until it is acknowledged it is sent again as it was, also by another worker, so that no
-- event is lost and the receiver, which counts an id once, counts none twice.

create or replace function private.is_metered() returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return coalesce(private.installation_value('metering') = 'true', false);
end
$$;
comment on function private.is_metered is 'Does this installation copy its units to OpenMeter? Authorization: callable by functions of ours only.';

-- A worker says at its start whether there is an OpenMeter. Counters that are opened meanwhile read this under the same lock
-- (private.consume_slowly), so none keeps the old answer.
create or replace function private.declare_metering(p_on boolean) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if private.is_metered() = p_on and not exists (select from public.usage_counters c where c.is_metered <> p_on) then
    return;
  end if;
  perform pg_advisory_xact_lock(private.plans_lock());
  perform private.declare_installation('metering', to_jsonb(p_on));
  update public.usage_counters c set is_metered = p_on where c.is_metered <> p_on;
end
$$;
comment on function private.declare_metering is 'Begins or ends the copying of units. Authorization: callable by the worker only.';

-- Units of a day that is over belong to its end, and those of a period that is over to its end, so that sums over days and months are those of
-- the counters.
create or replace function private.tg_usage_counters__meter() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_amount constant bigint := new.used - old.used;
  v_at timestamptz := now();
begin
  if new.metric <> 'storage' then
    v_at := least(v_at, private.usage_resets_at(new.metric, new.period::timestamp at time zone 'UTC') - interval '1 microsecond');
    if new.day = old.day and new.day_value - old.day_value <> v_amount then
      v_at := least(v_at, (new.day::timestamp at time zone 'UTC') - interval '1 microsecond');
    end if;
  end if;
  insert into private.metering_events (organization_id, metric, amount, total, occurred_at)
  values (new.organization_id, new.metric, v_amount, case when new.metric = 'storage' then new.used end, v_at);
  return null;
end
$$;
comment on function private.tg_usage_counters__meter is 'Trigger: a copy of the units that a counter gains or loses.';
create or replace trigger _800_meter after update on public.usage_counters for each row
  when (new.is_metered and new.used <> old.used) execute function private.tg_usage_counters__meter();

-- Seats are no counter: each change of members or invitations tells how many are taken then. An invitation that expires is told when its row
-- is closed.
create or replace function private.meter_seats(p_org_id uuid, p_change bigint) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if private.is_metered() then
    insert into private.metering_events (organization_id, metric, amount, total, occurred_at)
    values (p_org_id, 'seats', p_change, private.seats_used(p_org_id), now());
  end if;
end
$$;
comment on function private.meter_seats is 'A copy of the seats that are taken. Authorization: callable by triggers of ours only.';

create or replace function private.tg__meter_seats() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  case tg_op
    when 'INSERT' then perform private.meter_seats(new.organization_id, 1);
    when 'DELETE' then perform private.meter_seats(old.organization_id, -1);
    else perform private.meter_seats(new.organization_id, case when new.status = 'pending' then 1 else -1 end);
  end case;
  return null;
end
$$;
comment on function private.tg__meter_seats is 'Trigger: a seat is taken or free again.';
create or replace trigger _800_meter after insert or delete on public.memberships for each row execute function private.tg__meter_seats();
create or replace trigger _800_meter_inserted after insert on public.team_invitations for each row
  when (new.status = 'pending') execute function private.tg__meter_seats();
create or replace trigger _800_meter_updated after update of status on public.team_invitations for each row
  when ((old.status = 'pending') <> (new.status = 'pending')) execute function private.tg__meter_seats();
create or replace trigger _800_meter_deleted after delete on public.team_invitations for each row
  when (old.status = 'pending') execute function private.tg__meter_seats();
