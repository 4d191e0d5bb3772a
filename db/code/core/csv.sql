-- Files for spreadsheets (contract 40, 7.4), and moments in readable form.

create or replace function private.without_formula(p_text text) returns text
language sql immutable parallel safe
return case when p_text ~ '^([=+@\t\r]|-.)' then '''' || p_text else coalesce(p_text, '') end;
comment on function private.without_formula is 'A text that a spreadsheet takes for no formula: one that begins like a formula begins with an apostrophe.';

create or replace function private.csv_cell(p_text text) returns text
language sql immutable parallel safe
return '"' || replace(private.without_formula(p_text), '"', '""') || '"';
comment on function private.csv_cell is 'A quoted cell; one that a spreadsheet would take for a formula begins with an apostrophe.';

-- Some files quote only cells that need it (contract 60, 13).
create or replace function private.csv_bare_line(variadic p_cells text[]) returns text
language sql immutable parallel safe
return (select string_agg(case when g.cell ~ '[",\r\n]' then '"' || replace(g.cell, '"', '""') || '"' else g.cell end, ',' order by c.n) || E'\n'
  from unnest(p_cells) with ordinality c (cell, n), lateral (select private.without_formula(c.cell) as cell) g);
comment on function private.csv_bare_line is 'A line of cells, quoted where they contain a comma, a quote or a line break, with its end.';

create or replace function private.csv_line(variadic p_cells text[]) returns text
language sql immutable parallel safe
return (select string_agg(private.csv_cell(c), ',' order by n) || E'\n' from unnest(p_cells) with ordinality t (c, n));
comment on function private.csv_line is 'A line of quoted cells with its end.';

-- Two forms that files use: Jan 5, 2026, 03:04:05 PM, and the same without seconds. An invalid zone counts as UTC.
create or replace function private.moment_text(p_at timestamptz, p_zone text, p_with_seconds boolean default true) returns text
language sql stable parallel safe
return to_char(p_at at time zone coalesce(private.zone_used(p_zone), 'UTC'),
  case when p_with_seconds then 'Mon FMDD, YYYY, HH12:MI:SS AM' else 'Mon FMDD, YYYY, HH12:MI AM' end);
comment on function private.moment_text is 'A moment for people, in a zone.';

create or replace function private.day_text(p_at timestamptz, p_zone text) returns text
language sql stable parallel safe
return to_char(p_at at time zone coalesce(private.zone_used(p_zone), 'UTC'), 'YYYY-MM-DD');
comment on function private.day_text is 'The day of a moment in a zone, for names of files.';
grant execute on function private.without_formula, private.csv_cell, private.csv_bare_line, private.csv_line, private.moment_text, private.day_text to authenticated;
