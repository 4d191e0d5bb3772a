-- Cron: which expressions are valid, their description in English, and their next runs (contract 20, section 8).
begin;
select no_plan();

-- ------------------------------------------------------------------------------------------------------------------ expressions
select is(private.cron_error(v.cron), v.error, format('%s: %s', left(coalesce(quote_literal(v.cron), 'null'), 40), coalesce(v.error, 'valid')))
from (values
  ('* * * * *', null), ('0 9 * * 1-5', null), ('0 18 * * *', null), ('0 18 * * 5', null), ('0 9 1 * *', null), ('0 9 15 * *', null),
  ('*/30 * * * *', null), ('  0   9 * *  1 ', null), (e'\t0\n9 * * *\r\n', null), (e'0\u00a09\u2003*\u3000*\ufeff*', null),
  ('59 23 31 12 6', null), ('0 0 1 1 0', null), ('1-5,10 * * * *', null), ('*/20,59 * * * *', null), ('*/1 */1 */1 */1 */1', null),
  ('*/9999 * * * *', null), ('5/10 0 22 * *', null), ('0000 0023 0031 0012 0006', null), ('0 10-14/2 * * *', null), ('5-5 * * * *', null),
  ('0-59/60 * * * *', null), ('1,1,1,1 * * * *', null), ('*,5 * * * *', null), ('0 0 29 2 *', null), ('0 0 31 4,5 *', null),
  ('0 0 31 2 1', null), ('0 0 30,31 2,4 *', null), ('0 0 31 */3 *', null), ('0 0 */30 2 *', null),
  ('0 0 31 2 *', 'Cron expression never runs'), ('0 0 30 2 *', 'Cron expression never runs'), ('0 0 31 4,6 *', 'Cron expression never runs'),
  ('0 0 31 4,6,9,11,2 *', 'Cron expression never runs'), ('0 0 30-31 2 *', 'Cron expression never runs'),
  ('0 0 31/2 4 *', 'Cron expression never runs'), ('* * 31 11 *', 'Cron expression never runs'),
  (null, 'parts'), ('', 'parts'), ('    ', 'parts'), ('*', 'parts'), ('* * * *', 'parts'), ('0 9 * * * *', 'parts'), ('@daily', 'parts'),
  ('@every 5m', 'parts'), ('0,9,*,*,*', 'parts'), ('TZ=UTC 0 9 * * *', 'parts'),
  ('60 * * * *', 'minute'), ('-1 * * * *', 'minute'), ('+5 * * * *', 'minute'), ('5x * * * *', 'minute'), ('x * * * *', 'minute'),
  ('? * * * *', 'minute'), ('1.5 * * * *', 'minute'), ('1, * * * *', 'minute'), (',1 * * * *', 'minute'), ('1,,2 * * * *', 'minute'),
  (', * * * *', 'minute'), ('*/0 * * * *', 'minute'), ('*/ * * * *', 'minute'), ('/5 * * * *', 'minute'), ('5/0 * * * *', 'minute'),
  ('10-5 * * * *', 'minute'), ('5- * * * *', 'minute'), ('-5 * * * *', 'minute'), ('1-2-3 * * * *', 'minute'), ('1-70 * * * *', 'minute'),
  ('1/2/3 * * * *', 'minute'), ('*5 * * * *', 'minute'), ('** * * * *', 'minute'), ('*-5 * * * *', 'minute'), ('5-* * * * *', 'minute'),
  ('00005 * * * *', 'minute'), ('*/10000 * * * *', 'minute'), ('99999999999999999999 * * * *', 'minute'), (e'\u0665 * * * *', 'minute'),
  ('0x5 * * * *', 'minute'), ('1e1 * * * *', 'minute'), ('@daily * * * *', 'minute'), ('60 24 32 13 7', 'minute'), ('~ * * * *', 'minute'),
  ('0 24 * * *', 'hour'), ('0 9-25 * * *', 'hour'), ('0 9pm * * *', 'hour'), ('0 H * * *', 'hour'), ('0 24 32 13 7', 'hour'),
  ('0 23-1 * * *', 'hour'),
  ('0 0 0 * *', 'day of month'), ('0 0 32 * *', 'day of month'), ('0 0 L * *', 'day of month'), ('0 0 15W * *', 'day of month'),
  ('0 0 ? * *', 'day of month'), ('0 0 0-5 * *', 'day of month'), ('0 0 32 13 7', 'day of month'),
  ('0 0 * 0 *', 'month'), ('0 0 * 13 *', 'month'), ('0 0 * JAN *', 'month'), ('0 0 * 1-13 *', 'month'), ('0 0 * 13 7', 'month'),
  ('0 0 * * 7', 'day of week'), ('0 0 * * MON', 'day of week'), ('0 0 * * 5#2', 'day of week'), ('0 0 * * 5L', 'day of week'),
  ('0 0 * * 1-7', 'day of week'), ('0 0 * * ?', 'day of week'), ('0 0 * * 6-0', 'day of week'),
  (rpad('0 0 * * 1', 99, ',1'), null), (rpad('0 0 * * 1', 101, ',1'), 'Cron expression must be 100 characters or less'),
  (repeat(' ', 5000) || '0 0 * * *', null), (repeat(' ', 20000) || '0 0 * * *', 'Cron expression must be 100 characters or less')
) w (cron, short)
cross join lateral (select w.cron, case w.short when 'parts' then 'Cron expression must have exactly 5 parts (minute hour day month weekday)'
  when 'minute' then 'Invalid minute value (0-59)' when 'hour' then 'Invalid hour value (0-23)'
  when 'day of month' then 'Invalid day of month value (1-31)' when 'month' then 'Invalid month value (1-12)'
  when 'day of week' then 'Invalid day of week value (0-6)' else w.short end) v (cron, error);

select is(private.normal_cron(e' \t 0  9\u2003*   *\n1-5 '), '0 9 * * 1-5', 'one space between fields, none around');
select is(private.cron_values('20,*/30,20,5-7', 0, 59), array[20, 0, 30, 5, 6, 7], 'values in order of appearance, each once');

-- ------------------------------------------------------------------------------------------------------------------ descriptions
select is(private.cron_description(v.cron), v.text, format('%s in English', v.cron))
from (values
  ('0 9 * * 1-5', 'At 9:00 AM on weekdays'), ('*/30 * * * *', 'Every 30 minutes'), ('0 * * * *', 'At minute 0 of every hour'),
  ('30 18 * * 0,6', 'At 6:30 PM on weekends'), ('0 9 15 1 *', 'At 9:00 AM on the 15th in January'),
  ('* 8,20 * * 2,4', 'Every minute during hours 8, 20 on Tue, Thu'), ('5/10 0 22 * *', 'At 12:05 AM on the 22nd'),
  ('0 9 * * *', 'At 9:00 AM'), ('0 18 * * *', 'At 6:00 PM'), ('0 18 * * 1-5', 'At 6:00 PM on weekdays'), ('0 9 * * 1', 'At 9:00 AM on Monday'),
  ('0 18 * * 5', 'At 6:00 PM on Friday'), ('0 9 1 * *', 'At 9:00 AM on the 1st'), ('0 9 15 * *', 'At 9:00 AM on the 15th'),
  ('* * * * *', 'Every minute'), ('* 5 * * *', 'Every minute during hour 5'), ('* */8 * * *', 'Every minute during hours 0, 8, 16'),
  ('* 20,8,20 * * *', 'Every minute during hours 20, 8'), ('*/1 * * * *', 'Every 1 minutes'), ('*/05 * * * *', 'Every 5 minutes'),
  ('10-50/20 * * * *', 'Every 20 minutes'), ('*/15 9-11 * * *', 'Every 15 minutes during hours 9, 10, 11'),
  ('*/15 9 * * *', 'Every 15 minutes during hour 9'), ('*/15 */1 * * *', format('Every 15 minutes during hours %s',
    array_to_string(array(select generate_series(0, 23)), ', '))),
  ('5/10 * * * *', 'At minute 5 of every hour'), ('*/10,5 * * * *', 'At minute 0 of every hour'), ('20,10 * * * *', 'At minute 20 of every hour'),
  ('10-12 * * * *', 'At minute 10 of every hour'), ('0 0 * * *', 'At 12:00 AM'), ('0 12 * * *', 'At 12:00 PM'), ('5 13 * * *', 'At 1:05 PM'),
  ('59 23 * * *', 'At 11:59 PM'), ('0 11 * * *', 'At 11:00 AM'), ('30,0 17,9 * * *', 'At 5:30 PM'), ('007 009 * * *', 'At 9:07 AM'),
  ('0 9 * * 5,4,3,2,1', 'At 9:00 AM on weekdays'), ('0 9 * * 6,0', 'At 9:00 AM on weekends'), ('0 9 * * 0', 'At 9:00 AM on Sunday'),
  ('0 9 * * 6', 'At 9:00 AM on Saturday'), ('0 9 * * 3,3,3', 'At 9:00 AM on Wednesday'), ('0 9 * * 5,1', 'At 9:00 AM on Fri, Mon'),
  ('0 9 * * 0-6', 'At 9:00 AM on Sun, Mon, Tue, Wed, Thu, Fri, Sat'), ('0 9 * * 0-5', 'At 9:00 AM on Sun, Mon, Tue, Wed, Thu, Fri'),
  ('0 9 * * */2', 'At 9:00 AM on Sun, Tue, Thu, Sat'),
  -- Either day field makes a day match.
  ('0 0 13 * 5', 'At 12:00 AM on the 13th or on Friday'), ('0 9 15,1 * 1-5', 'At 9:00 AM on days 15, 1 or on weekdays'),
  ('0 9 1-7 * 1', 'At 9:00 AM on days 1, 2, 3, 4, 5, 6, 7 or on Monday'), ('0 9 31 * 6,0', 'At 9:00 AM on the 31st or on weekends'),
  ('0 9 5/9 6 3,5', 'At 9:00 AM on the 5th or on Wed, Fri in June'), ('0 9 */40 * */9', 'At 9:00 AM on the 1st or on Sunday'), ('0 0 31 2 1', 'At 12:00 AM on the 31st or on Monday in February'),
  -- A day field that holds every day leaves nothing to describe.
  ('0 9 */1 * 1', 'At 9:00 AM'), ('0 9 13 * */1', 'At 9:00 AM'), ('0 9 1-31 * 5', 'At 9:00 AM'), ('0 9 1-15,16-31 2 5', 'At 9:00 AM in February'), ('0 9 13 * 0-6', 'At 9:00 AM'),
  ('0 9 1,* * 1', 'At 9:00 AM'), ('0 9 */1 * */1', 'At 9:00 AM'), ('0 9 */1 * *', 'At 9:00 AM'), ('0 9 1-30 * 0-5', 'At 9:00 AM on days ' || array_to_string(array(select generate_series(1, 30)), ', ')
    || ' or on Sun, Mon, Tue, Wed, Thu, Fri'),
  -- Every minute and every hour, in each way to write them.
  ('0-59 9 * * *', 'Every minute during hour 9'), ('0-29,30-59 * * * *', 'Every minute'), ('0 */1 * * *', 'At minute 0 of every hour'), ('5 0-23 * * 1', 'At minute 5 of every hour on Monday'),
  ('0 9 2 * *', 'At 9:00 AM on the 2nd'), ('0 9 3 * *', 'At 9:00 AM on the 3rd'), ('0 9 4 * *', 'At 9:00 AM on the 4th'),
  ('0 9 11 * *', 'At 9:00 AM on the 11th'), ('0 9 12 * *', 'At 9:00 AM on the 12th'), ('0 9 13 * *', 'At 9:00 AM on the 13th'),
  ('0 9 21 * *', 'At 9:00 AM on the 21st'), ('0 9 23 * *', 'At 9:00 AM on the 23rd'), ('0 9 30 * *', 'At 9:00 AM on the 30th'),
  ('0 9 31 * *', 'At 9:00 AM on the 31st'), ('0 9 15,1 * *', 'At 9:00 AM on days 15, 1'), ('0 9 1-4 * *', 'At 9:00 AM on days 1, 2, 3, 4'),
  ('0 9 1-5 * *', 'At 9:00 AM'), ('0 9 */10 * *', 'At 9:00 AM on days 1, 11, 21, 31'), ('0 9 * 12,6 *', 'At 9:00 AM in December, June'),
  ('0 9 * */4 *', 'At 9:00 AM in January, May, September'), ('*/5 8 1 2 1', 'Every 5 minutes during hour 8 on the 1st or on Monday in February'),
  ('  0 9  * * 1 ', 'At 9:00 AM on Monday'), ('0 9 * * 7', null), ('0 0 31 2 *', null), ('', null)
) v (cron, text);
select is(char_length(private.cron_description('*/9999 0-23 * 1-12 0-6')), 253, 'the longest one fits');
select is(private.cron_description('*/9999 0-22 1-30 1-12 5-6,0-3'), 'Every 9999 minutes during hours 0-22 on days 1-30 or on Fri, Sat, Sun, Mon, Tue, Wed in Jan, Feb, Mar, Apr, May, Jun, Jul, Aug, Sep, Oct, Nov, Dec',
  'a longer one is made brief');
select cmp_ok(char_length(private.cron_description('*/9999 */2 */2 1-4,6-12 0-5')), '<=', 255, 'so that all of them fit');

-- ------------------------------------------------------------------------------------------------------------------------- zones
select is(private.is_zone(v.name), v.valid, format('%s %s', coalesce(quote_literal(v.name), 'null'), case when v.valid then 'is a zone' else 'is none' end))
from (values
  ('UTC', true), ('Europe/Amsterdam', true), ('Europe/Kiev', true), ('Europe/Kyiv', true), ('America/Buenos_Aires', true), ('US/Eastern', true),
  ('Asia/Calcutta', true), ('Asia/Katmandu', true), ('GB', true), ('Etc/GMT+12', true), ('EST', true), ('CET', true), ('EST5EDT', true),
  ('America/Argentina/ComodRivadavia', true), ('Zulu', true), ('GMT0', true), ('Pacific/Enderbury', true), ('Antarctica/Troll', true),
  (null, false), ('', false), (' ', false), ('Local', false), ('localtime', false), ('posixrules', false), ('posix/Europe/Amsterdam', false),
  ('right/Europe/Amsterdam', false), ('+02:00', false), ('UTC+2', false), ('XYZ5', false), ('CEST', false), ('PST', false), ('IST', false),
  ('europe/amsterdam', false), ('EUROPE/AMSTERDAM', false), ('utc', false), ('Europe/Amsterdam ', false), ('Europe/Atlantis', false),
  ('Etc/GMT+15', false), ('Europe', false), ('../etc/passwd', false), ('Z', false), ('<+03>-3', false), ('Default', false),
  (repeat('x', 60), false)
) v (name, valid);
select cmp_ok((select count(*) from private.zones), '>', 590::bigint, 'this Postgres converts practically all of them');
select is_empty($$ select z.name from private.zones z where z.name ~ '^(posix|right)/' or char_length(z.name) > 50 $$, 'and nothing else is in the list');
select is(private.zone_used('US/Eastern'), 'America/New_York', 'a link is converted as what it links to');
select is_empty($$ select z.name from private.zones z
  where z.name not in ('CET', 'EET', 'MET', 'WET') and timestamptz '2026-07-01' at time zone z.name <> timestamptz '2026-07-01' at time zone z.used
    or timestamptz '2027-01-01' at time zone z.name <> timestamptz '2027-01-01' at time zone z.used $$, 'which says the same');
select is(timestamptz '2026-07-01 00:00Z' at time zone private.zone_used(z), timestamp '2026-07-01' + o, z || ' has summer time, though Postgres takes it for an abbreviation')
from (values ('CET', interval '2 hours'), ('MET', '2 hours'), ('EET', '3 hours'), ('WET', '1 hour')) v (z, o);

-- ---------------------------------------------------------------------------------------------------------------------- next runs
-- p_runs in UTC, separated by commas; a run without a year is in that of the one before.
create function pg_temp.runs(p_cron text, p_zone text, p_after text, p_count integer) returns text
language plpgsql
as $$
declare
  v_at timestamptz := p_after::timestamp at time zone 'UTC';
  v_runs text[];
begin
  for i in 1..p_count loop
    v_at := private.cron_next(p_cron, p_zone, v_at);
    v_runs := v_runs || coalesce(to_char(v_at at time zone 'UTC', case when extract(second from v_at) = 0 then 'YYYY-MM-DD HH24:MI'
      else 'YYYY-MM-DD HH24:MI:SS.US' end), 'never');
  end loop;
  return array_to_string(v_runs, ', ');
end
$$;
-- The session's own zone has no effect.
set local timezone = 'America/New_York';

-- The vectors of the contract.
select is(pg_temp.runs(v.cron, v.zone, v.after, cardinality(string_to_array(v.runs, ', '))), v.runs, format('%s in %s after %s', v.cron, v.zone, v.after))
from (values
  ('30 2 * * *', 'Europe/Amsterdam', '2026-03-28 12:00', '2026-03-29 01:00, 2026-03-30 00:30, 2026-03-31 00:30'),
  ('*/30 2 * * *', 'Europe/Amsterdam', '2026-03-28 12:00', '2026-03-29 01:00, 2026-03-30 00:00, 2026-03-30 00:30'),
  ('0 2,3 * * *', 'Europe/Amsterdam', '2026-03-28 12:00', '2026-03-29 01:00, 2026-03-30 00:00, 2026-03-30 01:00'),
  ('30 2 * * *', 'Europe/Amsterdam', '2026-10-24 12:00', '2026-10-25 00:30, 2026-10-26 01:30'),
  ('0 * * * *', 'Europe/Amsterdam', '2026-10-24 23:30', '2026-10-25 00:00, 2026-10-25 01:00, 2026-10-25 02:00, 2026-10-25 03:00'),
  ('0 * * * *', 'Europe/Amsterdam', '2026-03-29 00:00', '2026-03-29 01:00, 2026-03-29 02:00, 2026-03-29 03:00'),
  ('0 9 * * 1-5', 'America/New_York', '2026-03-06 15:00', '2026-03-09 13:00, 2026-03-10 13:00'),
  ('0 1 * * *', 'America/New_York', '2026-10-31 12:00', '2026-11-01 05:00, 2026-11-02 06:00'),
  ('0 18 * * 5', 'America/New_York', '2026-10-30 23:00', '2026-11-06 23:00, 2026-11-13 23:00'),
  ('0 0 13 * 5', 'UTC', '2026-02-01 00:00', '2026-02-06 00:00, 2026-02-13 00:00, 2026-02-20 00:00, 2026-02-27 00:00'),
  ('0 9 1 * *', 'UTC', '2026-01-31 10:00', '2026-02-01 09:00, 2026-03-01 09:00'),
  ('0 0 */2 * *', 'UTC', '2026-01-30 00:00', '2026-01-31 00:00, 2026-02-01 00:00, 2026-02-03 00:00, 2026-02-05 00:00'),
  ('0 10-14/2 * * *', 'UTC', '2026-01-01 00:00', '2026-01-01 10:00, 2026-01-01 12:00, 2026-01-01 14:00, 2026-01-02 10:00'),
  ('0 0 29 2 *', 'UTC', '2026-01-01 00:00', '2028-02-29 00:00, 2032-02-29 00:00')
) v (cron, zone, after, runs);

-- Our own vectors. A program in another language found the expected instants by walking over real minutes.
select is(pg_temp.runs(v.cron, v.zone, v.after, cardinality(string_to_array(v.runs, ', '))), v.runs, format('%s in %s after %s', v.cron, v.zone, v.after))
from (values
  ('0 9 * * *', 'Europe/Amsterdam', '2026-03-27 12:00', '2026-03-28 08:00, 2026-03-29 07:00, 2026-03-30 07:00, 2026-03-31 07:00'),
  ('0 9 * * *', 'Europe/Amsterdam', '2026-10-23 12:00', '2026-10-24 07:00, 2026-10-25 08:00, 2026-10-26 08:00, 2026-10-27 08:00'),
  ('59 1 * * *', 'Europe/Amsterdam', '2026-03-28 12:00', '2026-03-29 00:59, 2026-03-29 23:59'),
  ('0 3 * * *', 'Europe/Amsterdam', '2026-03-28 12:00', '2026-03-29 01:00, 2026-03-30 01:00'),
  ('30 2 29 3 *', 'Europe/Amsterdam', '2026-03-28 12:00', '2026-03-29 01:00'),
  ('0,30 2 * * *', 'Europe/Amsterdam', '2026-10-24 12:00', '2026-10-25 00:00, 2026-10-25 00:30, 2026-10-26 01:00'),
  ('30 2,3 * * *', 'Europe/Amsterdam', '2026-10-24 12:00', '2026-10-25 00:30, 2026-10-25 02:30, 2026-10-26 01:30'),
  ('0 3 * * *', 'Europe/Amsterdam', '2026-10-24 12:00', '2026-10-25 02:00, 2026-10-26 02:00'),
  ('30 2 * * *', 'Europe/Amsterdam', '2026-10-25 00:45', '2026-10-26 01:30'),
  ('30 2 * * *', 'Europe/Amsterdam', '2026-10-25 01:15', '2026-10-26 01:30'),
  ('45 2 * * *', 'Europe/Amsterdam', '2026-10-25 00:45', '2026-10-26 01:45'),
  ('45 2 * * *', 'Europe/Amsterdam', '2026-10-25 00:30', '2026-10-25 00:45'),
  ('0 3 * * *', 'Europe/Amsterdam', '2026-10-25 01:30', '2026-10-25 02:00, 2026-10-26 02:00'),
  ('30 */1 * * *', 'Europe/Amsterdam', '2026-10-24 23:00', '2026-10-24 23:30, 2026-10-25 00:30, 2026-10-25 02:30, 2026-10-25 03:30'),
  ('30 0-23 * * *', 'Europe/Amsterdam', '2026-10-24 23:00', '2026-10-24 23:30, 2026-10-25 00:30, 2026-10-25 02:30, 2026-10-25 03:30'),
  ('30 * * * *', 'Europe/Amsterdam', '2026-10-24 23:00', '2026-10-24 23:30, 2026-10-25 00:30, 2026-10-25 01:30, 2026-10-25 02:30'),
  ('30 */1 * * *', 'Europe/Amsterdam', '2026-03-28 23:00', '2026-03-28 23:30, 2026-03-29 00:30, 2026-03-29 01:00, 2026-03-29 01:30'),
  ('30 * * * *', 'Europe/Amsterdam', '2026-03-28 23:00', '2026-03-28 23:30, 2026-03-29 00:30, 2026-03-29 01:30, 2026-03-29 02:30'),
  ('*/15 0-23 * * *', 'Europe/Amsterdam', '2026-03-29 00:30', '2026-03-29 00:45, 2026-03-29 01:00, 2026-03-29 01:15, 2026-03-29 01:30'),
  ('*/15 * * * *', 'Europe/Amsterdam', '2026-03-29 00:30', '2026-03-29 00:45, 2026-03-29 01:00, 2026-03-29 01:15, 2026-03-29 01:30'),
  ('* 2 * * *', 'Europe/Amsterdam', '2026-03-28 12:00', '2026-03-29 01:00, 2026-03-30 00:00'),
  ('* 2 * * *', 'Europe/Amsterdam', '2026-10-25 00:58', '2026-10-25 00:59, 2026-10-26 01:00, 2026-10-26 01:01'),
  ('* * * * *', 'Europe/Amsterdam', '2026-10-25 00:58', '2026-10-25 00:59, 2026-10-25 01:00, 2026-10-25 01:01'),
  ('* * * * *', 'Europe/Amsterdam', '2026-03-29 00:58', '2026-03-29 00:59, 2026-03-29 01:00, 2026-03-29 01:01'),
  ('30 2 * * *', 'America/New_York', '2026-03-07 12:00', '2026-03-08 07:00, 2026-03-09 06:30'),
  ('30 1 * * *', 'America/New_York', '2026-10-31 12:00', '2026-11-01 05:30, 2026-11-02 06:30'),
  ('15 * 1 11 *', 'America/New_York', '2026-11-01 04:30', '2026-11-01 05:15, 2026-11-01 06:15, 2026-11-01 07:15, 2026-11-01 08:15'),
  ('15 * 1 11 0', 'America/New_York', '2026-11-01 05:20', '2026-11-01 06:15, 2026-11-01 07:15, 2026-11-01 08:15'),
  ('0 0 * * *', 'America/Sao_Paulo', '2018-11-03 12:00', '2018-11-04 03:00, 2018-11-05 02:00, 2018-11-06 02:00'),
  ('30 0 * * *', 'America/Sao_Paulo', '2018-11-03 12:00', '2018-11-04 03:00, 2018-11-05 02:30, 2018-11-06 02:30'),
  ('30 0 4 11 *', 'America/Sao_Paulo', '2018-11-03 12:00', '2018-11-04 03:00'),
  ('30 * 4 11 *', 'America/Sao_Paulo', '2018-11-03 12:00', '2018-11-04 03:30, 2018-11-04 04:30'),
  ('30 23 * * *', 'America/Sao_Paulo', '2019-02-15 12:00', '2019-02-16 01:30, 2019-02-17 01:30, 2019-02-18 02:30'),
  ('30 23 16 2 *', 'America/Sao_Paulo', '2019-02-16 12:00', '2019-02-17 01:30'),
  ('30 * 16 2 *', 'America/Sao_Paulo', '2019-02-17 00:50', '2019-02-17 01:30, 2019-02-17 02:30'),
  ('15 * 16 2 6', 'America/Sao_Paulo', '2019-02-17 01:20', '2019-02-17 02:15'),
  ('0 0 17 2 *', 'America/Sao_Paulo', '2019-02-17 02:30', '2019-02-17 03:00'),
  ('0 2 * * *', 'Australia/Lord_Howe', '2026-10-03 12:00', '2026-10-03 15:30, 2026-10-04 15:00'),
  ('15 2 * * *', 'Australia/Lord_Howe', '2026-10-03 12:00', '2026-10-03 15:30, 2026-10-04 15:15'),
  ('30 2 * * *', 'Australia/Lord_Howe', '2026-10-03 12:00', '2026-10-03 15:30, 2026-10-04 15:30'),
  ('15,30 2 * * *', 'Australia/Lord_Howe', '2026-10-03 12:00', '2026-10-03 15:30, 2026-10-04 15:15, 2026-10-04 15:30'),
  ('45 1 * * *', 'Australia/Lord_Howe', '2026-04-04 12:00', '2026-04-04 14:45, 2026-04-05 15:15'),
  ('15 1 * * *', 'Australia/Lord_Howe', '2026-04-04 12:00', '2026-04-04 14:15, 2026-04-05 14:45'),
  ('45 * * * *', 'Australia/Lord_Howe', '2026-04-04 14:00', '2026-04-04 14:45, 2026-04-04 15:15, 2026-04-04 16:15'),
  ('0 2 * * *', 'Australia/Lord_Howe', '2026-04-04 15:05', '2026-04-04 15:30'),
  ('0 9 * * *', 'Asia/Kathmandu', '2026-01-01 00:00', '2026-01-01 03:15, 2026-01-02 03:15'),
  ('45 5 * * 1', 'Asia/Kathmandu', '2026-01-01 00:00', '2026-01-05 00:00, 2026-01-12 00:00'),
  ('0 0 1 1 *', 'Asia/Kathmandu', '1985-12-30 00:00', '1985-12-31 18:30'),
  ('5 0 1 1 *', 'Asia/Kathmandu', '1985-12-30 00:00', '1985-12-31 18:30'),
  ('20 0 1 1 *', 'Asia/Kathmandu', '1985-12-30 00:00', '1985-12-31 18:35'),
  ('0 12 * * *', 'Pacific/Apia', '2011-12-28 12:00', '2011-12-28 22:00, 2011-12-29 22:00, 2011-12-30 10:00, 2011-12-30 22:00'),
  ('0 12 30 12 *', 'Pacific/Apia', '2011-12-28 12:00', '2011-12-30 10:00'),
  ('0 0 31 12 *', 'Pacific/Apia', '2011-12-28 12:00', '2011-12-30 10:00'),
  ('30 6 * * 5', 'Pacific/Apia', '2011-12-28 12:00', '2011-12-30 10:00, 2012-01-05 16:30'),
  ('*/30 * * * *', 'Pacific/Apia', '2011-12-30 09:00', '2011-12-30 09:30, 2011-12-30 10:00, 2011-12-30 10:30'),
  ('0 8 * * *', 'Pacific/Kiritimati', '1994-12-29 12:00', '1994-12-29 18:00, 1994-12-30 18:00, 1994-12-31 10:00'),
  ('0 1 * * *', 'Europe/London', '2026-03-28 12:00', '2026-03-29 01:00, 2026-03-30 00:00'),
  ('30 1 * * *', 'Europe/London', '2026-10-24 12:00', '2026-10-25 00:30, 2026-10-26 01:30'),
  ('30 0 * * *', 'Europe/Lisbon', '2026-10-24 12:00', '2026-10-24 23:30, 2026-10-26 00:30'),
  ('0 0 * * *', 'Atlantic/Azores', '2026-03-28 12:00', '2026-03-29 01:00, 2026-03-30 00:00'),
  ('30 0 * * *', 'Atlantic/Azores', '2026-10-24 12:00', '2026-10-25 00:30, 2026-10-26 01:30'),
  ('0 0 * * *', 'America/Havana', '2026-03-07 12:00', '2026-03-08 05:00, 2026-03-09 04:00'),
  ('30 0 * * *', 'America/Havana', '2026-10-31 12:00', '2026-11-01 04:30, 2026-11-02 05:30'),
  ('0 0 * * *', 'Africa/Cairo', '2026-04-23 12:00', '2026-04-23 22:00, 2026-04-24 21:00'),
  ('30 23 * * *', 'Africa/Cairo', '2026-10-28 12:00', '2026-10-28 20:30, 2026-10-29 20:30, 2026-10-30 21:30'),
  ('30 0 * * *', 'Asia/Beirut', '2026-03-28 12:00', '2026-03-28 22:00, 2026-03-29 21:30'),
  ('0 2 * * *', 'Antarctica/Troll', '2026-03-28 12:00', '2026-03-29 01:00, 2026-03-30 00:00'),
  ('30 1 * * *', 'Antarctica/Troll', '2026-10-24 12:00', '2026-10-24 23:30, 2026-10-26 01:30'),
  ('30 1,2,3 * * *', 'Antarctica/Troll', '2026-10-24 20:00', '2026-10-24 23:30, 2026-10-25 00:30, 2026-10-25 03:30, 2026-10-26 01:30'),
  ('30 * * * *', 'Antarctica/Troll', '2026-10-24 23:00', '2026-10-24 23:30, 2026-10-25 00:30, 2026-10-25 01:30, 2026-10-25 02:30'),
  ('0 8 * * *', 'America/Caracas', '2007-12-08 00:00', '2007-12-08 12:00, 2007-12-09 12:30'),
  ('0 0 31 * *', 'UTC', '2026-01-31 00:00', '2026-03-31 00:00, 2026-05-31 00:00, 2026-07-31 00:00'),
  ('0 0 30 1-3 *', 'UTC', '2026-01-01 00:00', '2026-01-30 00:00, 2026-03-30 00:00'),
  ('0 0 1 */3 *', 'UTC', '2026-01-02 00:00', '2026-04-01 00:00, 2026-07-01 00:00, 2026-10-01 00:00, 2027-01-01 00:00'),
  ('0 0 * */5 0', 'UTC', '2026-01-30 00:00', '2026-06-07 00:00, 2026-06-14 00:00, 2026-06-21 00:00, 2026-06-28 00:00'),
  ('59 23 31 12 *', 'UTC', '2026-06-01 00:00', '2026-12-31 23:59'),
  ('0 0 1 1 0', 'UTC', '2025-12-31 00:00', '2026-01-01 00:00, 2026-01-04 00:00, 2026-01-11 00:00'),
  ('0 0 */10 * 3', 'UTC', '2026-05-01 00:00', '2026-05-06 00:00, 2026-05-11 00:00, 2026-05-13 00:00, 2026-05-20 00:00, 2026-05-21 00:00'),
  ('0 0 1-7 * 1', 'UTC', '2026-06-05 00:00', '2026-06-06 00:00, 2026-06-07 00:00, 2026-06-08 00:00, 2026-06-15 00:00'),
  ('0 0 */1 * 5', 'UTC', '2026-06-01 12:00', '2026-06-02 00:00, 2026-06-03 00:00, 2026-06-04 00:00'),
  ('0 0 1-31 * *', 'UTC', '2026-06-01 12:00', '2026-06-02 00:00, 2026-06-03 00:00'),
  ('0 0 13 * */3', 'UTC', '2026-06-01 12:00', '2026-06-03 00:00, 2026-06-06 00:00, 2026-06-07 00:00, 2026-06-10 00:00'),
  ('5/10 0 22 * *', 'UTC', '2026-01-01 00:00', '2026-01-22 00:05, 2026-02-22 00:05'),
  ('*/25 8 * * *', 'UTC', '2026-01-01 00:00', '2026-01-01 08:00, 2026-01-01 08:25, 2026-01-01 08:50, 2026-01-02 08:00'),
  ('10-40/15 8,20 * * *', 'UTC', '2026-01-01 08:20', '2026-01-01 08:25, 2026-01-01 08:40, 2026-01-01 20:10, 2026-01-01 20:25'),
  ('1-5,10,*/20 6 * * *', 'UTC', '2026-01-01 06:04', '2026-01-01 06:05, 2026-01-01 06:10, 2026-01-01 06:20, 2026-01-01 06:40, 2026-01-02 06:00'),
  ('*/20,59 * * * *', 'UTC', '2026-01-01 06:30', '2026-01-01 06:40, 2026-01-01 06:59, 2026-01-01 07:00, 2026-01-01 07:20'),
  ('*/70 5 * * *', 'UTC', '2026-01-01 00:00', '2026-01-01 05:00, 2026-01-02 05:00'),
  ('0 0-23/99 * * *', 'UTC', '2026-01-01 00:00', '2026-01-02 00:00, 2026-01-03 00:00'),
  ('0008 0009 * 0001 *', 'UTC', '2026-01-01 00:00', '2026-01-01 09:08'),
  ('0 9 * * 0,6', 'America/Los_Angeles', '2026-11-20 00:00', '2026-11-21 17:00, 2026-11-22 17:00, 2026-11-28 17:00')
) v (cron, zone, after, runs);

-- The edges of the horizon, of the input, and of the calendar.
select is(pg_temp.runs(v.cron, v.zone, v.after, 1), v.run, v.why)
from (values
  ('0 0 29 2 *', 'UTC', '2096-02-29 00:00', '2104-02-29 00:00', '2100 is no leap year; eight years are within the horizon'),
  ('0 0 29 2 *', 'UTC', '2096-03-01 00:00', '2104-02-29 00:00', 'from the day after, too'),
  ('0 * 29 2 *', 'UTC', '2096-02-29 23:00', '2104-02-29 00:00', 'and hour by hour'),
  ('0 0 31 2 *', 'UTC', '2026-01-01 00:00', 'never', 'what never comes'),
  ('0 * 31 2 *', 'UTC', '2026-01-01 00:00', 'never', 'comes in no hour either'),
  ('0 9 * * *', 'Nowhere', '2026-01-01 00:00', 'never', 'an unknown zone has no clock'),
  ('0 9 * * 7', 'UTC', '2026-01-01 00:00', 'never', 'what is not valid never runs'),
  ('* * * * *', 'UTC', '2026-01-01 00:00:00', '2026-01-01 00:01', 'strictly after'),
  ('* * * * *', 'UTC', '2026-01-01 00:00:59.999999', '2026-01-01 00:01', 'seconds are 0'),
  ('0 0 * * *', 'UTC', '2025-12-31 23:59:59.999999', '2026-01-01 00:00', 'a moment before'),
  ('0 0 * * *', 'Africa/Monrovia', '1971-06-01 12:00', '1971-06-02 00:44:30.000000', 'offsets of seconds'),
  ('30 0 * * *', 'Asia/Kathmandu', '1985-12-31 18:29:59', '1985-12-31 18:45', 'a gap of a quarter of an hour'),
  ('* * * * *', 'UTC', '9990-12-30 00:00', '9990-12-30 00:01', 'the last year that is answered'),
  ('* * * * *', 'UTC', '9991-01-01 00:00', 'never', 'and beyond it'),
  ('* * * * *', 'UTC', 'infinity', 'never', 'nor for ever'),
  ('* * * * *', 'UTC', '0001-01-01 00:00', 'never', 'nor before time')
) v (cron, zone, after, run, why);
select is(private.cron_next(null, 'UTC', now()), null, 'nothing runs never');
select is(private.cron_next('* * * * *', 'UTC', null), null, 'after nothing comes nothing');
select is(private.cron_next('0 9 * * *', 'Asia/Calcutta', '2026-01-01Z'), private.cron_next('0 9 * * *', 'Asia/Kolkata', '2026-01-01Z'), 'links are their zones');

-- 09:00 is 09:00 on every day of two years, whatever the clock changes.
select results_eq(
  $$ with recursive run (at) as (
       select private.cron_next('0 9 * * *', z.name, '2026-01-01Z') from (values ('Europe/Amsterdam')) z (name)
       union all select private.cron_next('0 9 * * *', 'Europe/Amsterdam', at) from run where at < '2028-01-01Z')
     select at at time zone 'Europe/Amsterdam' from run $$,
  $$ select d + interval '9 hours' from generate_series(timestamp '2026-01-01', timestamp '2028-01-01', interval '1 day') d $$,
  '09:00 in Amsterdam, each day of two years, once');

select * from finish();
rollback;
