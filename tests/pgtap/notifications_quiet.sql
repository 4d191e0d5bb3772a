-- Quiet hours and digest times: the vectors of contract 30 (check 20), clock changes, and every minute against the rule itself.
begin;
select no_plan();

create function pg_temp.prefs(p_start text, p_end text, p_days text default 'all', p_custom smallint[] default null, p_enabled boolean default true)
returns public.notification_preferences
language sql as $$
  select jsonb_populate_record(null::public.notification_preferences, jsonb_build_object('quiet_enabled', p_enabled, 'quiet_start', p_start,
    'quiet_end', p_end, 'quiet_days', p_days, 'quiet_custom_days', to_jsonb(p_custom), 'digest_time', '09:00', 'digest_day', 1)) $$;
create function pg_temp.quiet(s public.notification_preferences, p_local text, p_zone text default 'Europe/Amsterdam') returns boolean
language sql as $$ select private.quiet_until(s, p_zone, p_local::timestamp at time zone p_zone) is not null $$;

-- --------------------------------------------------------------------------------------------------- 22:00 to 07:00 on weekdays
-- 2026-03-06 is a Friday.
select is(pg_temp.quiet(pg_temp.prefs('22:00', '07:00', 'weekdays'), l), q, format('22:00 to 07:00 on weekdays: %s %s', to_char(l::timestamp, 'Dy HH24:MI:SS'), q))
from (values ('2026-03-06 23:00', true), ('2026-03-07 02:00', false), ('2026-03-07 23:00', false), ('2026-03-08 23:30', false),
  ('2026-03-09 02:00', true), ('2026-03-09 07:00', true), ('2026-03-09 07:00:59', true), ('2026-03-09 07:01', false),
  ('2026-03-09 21:59:59', false), ('2026-03-09 22:00', true), ('2026-03-09 12:00', false)) v (l, q);
select is(pg_temp.quiet(s, l), q, format('%s %s', what, l))
from (values
  ('within a day', pg_temp.prefs('12:00', '13:00'), '2026-03-09 12:00', true), ('within a day', pg_temp.prefs('12:00', '13:00'), '2026-03-09 13:00', true),
  ('within a day', pg_temp.prefs('12:00', '13:00'), '2026-03-09 13:01', false), ('within a day', pg_temp.prefs('12:00', '13:00'), '2026-03-09 11:59', false),
  ('one minute', pg_temp.prefs('12:00', '12:00'), '2026-03-09 12:00', true), ('one minute', pg_temp.prefs('12:00', '12:00'), '2026-03-09 12:01', false),
  ('weekends', pg_temp.prefs('00:00', '23:59', 'weekends'), '2026-03-07 12:00', true), ('weekends', pg_temp.prefs('00:00', '23:59', 'weekends'), '2026-03-08 12:00', true),
  ('weekends', pg_temp.prefs('00:00', '23:59', 'weekends'), '2026-03-09 12:00', false),
  ('custom', pg_temp.prefs('00:00', '23:59', 'custom', '{1,5}'), '2026-03-09 12:00', true), ('custom', pg_temp.prefs('00:00', '23:59', 'custom', '{1,5}'), '2026-03-10 12:00', false),
  ('custom without days', pg_temp.prefs('00:00', '23:59', 'custom', '{}'), '2026-03-09 12:00', false),
  ('custom with none chosen yet', pg_temp.prefs('00:00', '23:59', 'custom'), '2026-03-09 12:00', false),
  ('all, whatever was chosen', pg_temp.prefs('00:00', '23:59', 'all', '{}'), '2026-03-09 12:00', true),
  ('switched off', pg_temp.prefs('00:00', '23:59', 'all', null, false), '2026-03-09 12:00', false)) v (what, s, l, q);

-- ------------------------------------------------------------------------------------------------------------------ when it ends
create function pg_temp.ends(s public.notification_preferences, p_at text, p_zone text default 'Europe/Amsterdam') returns text
language sql as $$ select to_char(private.quiet_until(s, p_zone, p_at::timestamptz) at time zone p_zone, 'YYYY-MM-DD HH24:MI:SS') $$;
select is(pg_temp.ends(pg_temp.prefs('22:00', '07:00', 'weekdays'), '2026-03-06 23:00+01'), '2026-03-07 00:00:00', 'Friday night ends where Saturday begins');
select is(pg_temp.ends(pg_temp.prefs('22:00', '07:00', 'weekdays'), '2026-03-09 22:10:30+01'), '2026-03-10 07:01:00', 'a night ends in the minute after its end');
select is(pg_temp.ends(pg_temp.prefs('07:01', '07:00'), '2026-03-09 12:00:30+01'), '2026-03-10 12:00:30', 'what never ends is put off for 24 hours');
select is(pg_temp.ends(pg_temp.prefs('00:00', '23:59'), '2026-03-09 12:00+01'), '2026-03-10 12:00:00', 'also when it is each whole day');
select is(pg_temp.ends(pg_temp.prefs('00:00', '23:59', 'custom', '{1}'), '2026-03-09 12:00+01'), '2026-03-10 00:00:00', 'a quiet day ends with the day');

-- In the night of 29 March 2026 the clock goes from 02:00 to 03:00; of 25 October from 03:00 back to 02:00.
select is(pg_temp.ends(pg_temp.prefs('22:00', '07:00'), '2026-03-28 23:00+01'), '2026-03-29 07:01:00', 'the short night ends by the clock');
select is(private.quiet_until(pg_temp.prefs('22:00', '07:00'), 'Europe/Amsterdam', '2026-03-28 23:00+01'), '2026-03-29 05:01:00+00'::timestamptz, 'which is an hour less to wait');
select is(private.quiet_until(pg_temp.prefs('22:00', '07:00'), 'Europe/Amsterdam', '2026-10-24 23:00+02'), '2026-10-25 06:01:00+00'::timestamptz, 'and in October an hour more');
select is(private.quiet_until(pg_temp.prefs('22:00', '02:30'), 'Europe/Amsterdam', '2026-03-28 23:00+01'), '2026-03-29 01:00:00+00'::timestamptz,
  'an end that is skipped is when the clock has been changed');
select is(private.quiet_until(pg_temp.prefs('22:00', '02:30'), 'Europe/Amsterdam', '2026-10-24 23:00+02'), '2026-10-25 00:31:00+00'::timestamptz,
  'an end that comes twice is the first one');
select is(private.quiet_until(pg_temp.prefs('22:00', '02:30'), 'Europe/Amsterdam', '2026-10-25 00:45+00'), null, 'the minutes after the first one are not quiet');
select is(private.quiet_until(pg_temp.prefs('22:00', '02:30'), 'Europe/Amsterdam', '2026-10-25 01:10+00'), '2026-10-25 01:31:00+00'::timestamptz, 'the second time they are quiet again');

-- Every answer is the first minute, of all minutes of 24 hours, that the rule calls loud.
create function pg_temp.first_loud(s public.notification_preferences, p_zone text, p_at timestamptz) returns timestamptz
language sql as $$
  select case when private.is_quiet_minute(s, p_at at time zone p_zone) then least(p_at + interval '24 hours', coalesce(
    (select min(m) from generate_series(date_trunc('minute', p_at) + interval '1 minute', p_at + interval '24 hours', interval '1 minute') m
     where not private.is_quiet_minute(s, m at time zone p_zone)), 'infinity')) end $$;
create temp table samples as
select pg_temp.prefs(to_char(make_time(a / 60, a % 60, 0), 'HH24:MI'), to_char(make_time(b / 60, b % 60, 0), 'HH24:MI'), d, '{0,3,6}') as s, z, t
from generate_series(1, 60) i,
  lateral (select (i * 577) % 1440 as a, case when i % 5 = 0 then (i * 577 + 1439) % 1440 else (i * 911) % 1440 end as b,
    (array['all', 'weekdays', 'weekends', 'custom'])[1 + i % 4] as d, (array['Europe/Amsterdam', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kathmandu', 'UTC'])[1 + i % 5] as z) v,
  lateral (select x + (i * 1237 % 1440) * interval '1 minute' + interval '17 seconds' as t
    from unnest(array['2026-03-28', '2026-10-24', '2026-03-07', '2026-10-31', '2026-04-04', '2026-10-03']::timestamptz[]) x) w;
select is_empty('select s, z, t, private.quiet_until(s, z, t), pg_temp.first_loud(s, z, t) from samples
  where private.quiet_until(s, z, t) is distinct from pg_temp.first_loud(s, z, t)', 'the end is the first loud minute, also over clock changes');
select cmp_ok((select count(*) from samples where private.quiet_until(s, z, t) is not null), '>', 100::bigint, 'in many samples that are quiet');

-- ------------------------------------------------------------------------------------------------------------------------ digests
select is(private.next_digest(pg_temp.prefs('22:00', '07:00'), 'Europe/Amsterdam', c, at), d, format('%s digest after %s', c, t))
from (values ('daily', '2026-03-09 07:59:59+00', '2026-03-09 08:00+00'::timestamptz), ('daily', '2026-03-09 08:00+00', '2026-03-10 08:00+00'),
  ('daily', '2026-03-28 12:00+00', '2026-03-29 07:00+00'), ('weekly', '2026-03-09 07:59+00', '2026-03-09 08:00+00'),
  ('weekly', '2026-03-09 08:00+00', '2026-03-16 08:00+00'), ('weekly', '2026-03-23 09:00+00', '2026-03-30 07:00+00'),
  ('weekly', '2026-03-08 23:30+00', '2026-03-09 08:00+00')) v (c, t, d), lateral (select v.t::timestamptz) w (at) where true;
select is(private.known_zone(z), k, format('zone %s', coalesce(z, 'null'))) from (values ('Europe/Amsterdam', 'Europe/Amsterdam'), ('UTC', 'UTC'), ('Mars/Olympus', 'UTC'), ('', 'UTC'), (null, 'UTC')) v (z, k);

select * from finish();
rollback;
