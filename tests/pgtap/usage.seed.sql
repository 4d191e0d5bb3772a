-- A past day.
insert into public.usage_days (organization_id, metric, day, value) values (pg_temp.org(), 'api_calls', '2026-01-01', 1);
