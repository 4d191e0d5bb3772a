-- Cells that no spreadsheet reads as a formula, and times in a readable form.
begin;
select no_plan();
select results_eq($$ select private.csv_cell(c) from unnest(array['=1', '+1', '@x', E'\tx', E'\rx', '-1', '-', 'a-b', 'say "hi"', '']) c $$,
  $$ values ('"''=1"'), ('"''+1"'), ('"''@x"'), (E'"''\tx"'), (E'"''\rx"'), ('"''-1"'), ('"-"'), ('"a-b"'), ('"say ""hi"""'), ('""') $$, 'the formula guard');
select is(private.csv_cell(null), '""', 'nothing is an empty cell');
select is(private.csv_line('a', null, E'two\nlines', '=1'), E'"a","","two\nlines","''=1"\n', 'a line');
select is(private.moment_text(timestamptz '2026-01-05 14:04:05.999Z', z, s), x, format('%s %s', z, s)) from (values
  ('UTC', true, 'Jan 5, 2026, 02:04:05 PM'), ('Europe/Amsterdam', true, 'Jan 5, 2026, 03:04:05 PM'), ('Europe/Amsterdam', false, 'Jan 5, 2026, 03:04 PM'),
  ('Asia/Tokyo', true, 'Jan 5, 2026, 11:04:05 PM'), ('Pacific/Auckland', true, 'Jan 6, 2026, 03:04:05 AM'), ('Nowhere/At_All', true, 'Jan 5, 2026, 02:04:05 PM'),
  (null, false, 'Jan 5, 2026, 02:04 PM')) v (z, s, x);
select is(private.moment_text(timestamptz '2026-07-05 00:00:00Z', 'UTC'), 'Jul 5, 2026, 12:00:00 AM', 'midnight');
select is(private.day_text(timestamptz '2026-01-05 14:00:00Z', z), x) from (values ('UTC', '2026-01-05'), ('Pacific/Auckland', '2026-01-06'), (null, '2026-01-05')) v (z, x);
select * from finish();
rollback;
