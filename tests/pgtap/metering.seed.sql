-- A unit that waits.
insert into private.metering_events (organization_id, metric, amount, occurred_at) values (pg_temp.org(), 'api_calls', 1, now());
