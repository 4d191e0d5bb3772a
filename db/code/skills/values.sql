-- The text of a JSON value (contract 20, sections 4.2 and 11.3), as JavaScript would print it: jsonb keeps numbers as written and puts a
-- blank after each comma. Clients preview prompts and conditions in the browser, so both sides must print alike.

-- jsonb numbers are decimals of any size; JavaScript's are doubles, so the value is rounded to one first. Whole numbers are usually ids and
-- keep all of their digits: from 10^21 on, where JavaScript prints exponents, only if those mean another number. Postgres prints a double
-- with the shortest digits as JavaScript does, with two differences: exponents begin elsewhere, and a decimal that lies exactly between two
-- doubles is not taken for either (4e23 would be 3.9999999999999997e+23). Only whole numbers from 2^53 to 10^39 have such short halves.
create or replace function private.number_text(p_number numeric) returns text
language plpgsql immutable strict parallel safe
as $$
declare
  c_beyond constant double precision := 2 ^ 1023;
  -- A value of at most half of the smallest double.
  c_nothing constant numeric := 2.47032822920623272088284396434110687e-324;
  v_size numeric := abs(p_number);
  v_is_whole boolean := v_size = trunc(v_size);
  v_double double precision;
  v_text text;
  v_long numeric;
  v_short numeric;
  v_places integer;
begin
  if v_is_whole and v_size < 1e21 then
    return trunc(p_number)::text;
  elsif v_size <= c_nothing then
    return '0';
  elsif v_size >= 1e308 and (v_size >= 1e309 or (v_size / 2)::double precision >= c_beyond) then
    return case when p_number < 0 then '-Infinity' else 'Infinity' end;
  end if;
  v_double := p_number::double precision;
  v_text := v_double::text;
  if strpos(v_text, 'e') = 0 or v_size >= 1e40 then
    return case when v_is_whole and v_text::numeric <> p_number then trunc(p_number)::text else v_text end;
  elsif abs(v_double) < 1e-6 then
    return replace(v_text, 'e-0', 'e-');
  end if;
  v_long := v_text::numeric;
  v_places := length(split_part(split_part(v_text, 'e', 1), '.', 2)) - split_part(v_text, 'e', 2)::integer - 1;
  -- With one digit less: the nearest such decimal, or the one towards zero where both are as near.
  v_short := case when v_places < 0 then round(v_long, v_places) end;
  if v_short::double precision <> v_double and v_text like '%5e%' then
    v_short := trunc(v_long, v_places);
  end if;
  if v_short::double precision = v_double then
    v_long := v_short;
    if v_size >= 1e21 then
      v_text := rtrim(v_short::text, '0');
      v_text := regexp_replace(v_text, '^(-?\d)(\d)', '\1.\2') || 'e+' || length(abs(v_short)::text) - 1;
    end if;
  end if;
  if v_is_whole and v_text::numeric <> p_number then
    return trunc(p_number)::text;
  end if;
  return case when abs(v_long) < 1e21 then v_long::text else v_text end;
end
$$;
comment on function private.number_text is
  'A number as ECMAScript prints the double that is nearest to it; a whole one that this would change with all of its digits. The caller sets extra_float_digits = 1: a setting of each call would double its cost.';

create or replace function private.js_number(p_number jsonb) returns text
language plpgsql immutable strict parallel safe set extra_float_digits = 1
as $$
begin
  return private.number_text(p_number::numeric);
end
$$;
comment on function private.js_number is 'A JSON number as ECMAScript prints it: 1.0 is 1, 1e21 is 1e+21, 0.0000001 is 1e-7; whole ones keep their digits.';

create or replace function private.number_piece(p_piece text) returns text
language plpgsql immutable strict parallel safe
as $$
declare
  v_number text := btrim(p_piece, '[]{}:,');
begin
  -- JSON has no text for infinities and NaN; JSON.stringify writes null.
  return replace(p_piece, v_number, regexp_replace(private.number_text(v_number::numeric), '^-?Infinity$', 'null'));
end
$$;
comment on function private.number_piece is 'One number with the brackets, colons and commas around it, as ECMAScript prints it inside JSON.';

-- Of the numbers that a body can hold, all but a few are printed in the query itself: a call for each would cost several times as much.
create or replace function private.number_list(p_list text) returns text
language plpgsql immutable strict parallel safe
as $$
begin
  return (
    select string_agg(case
      when a.number is null then n
      when c.text is null or c.text like '%5e%' then private.number_piece(n)
      else replace(n, a.number, case
        when c.text not like '%e%' then c.text
        when abs(b.value) < 1e-6 then replace(c.text, 'e-0', 'e-')
        when abs(b.value) < 1e21 then (case when d.short::double precision = b.value then d.short else c.text::numeric end)::text
        when d.short::double precision = b.value then
          regexp_replace(rtrim(d.short::text, '0'), '^(-?\d)(\d)', '\1.\2') || 'e+' || length(abs(d.short)::text) - 1
        else c.text end) end, ',')
    from string_to_table(p_list, ',') n,
      lateral (select case when n like '%.%0%' or length(n) >= 16 and (n like '%.%' or length(btrim(n, '[]{}:-')) > 21)
        then nullif(btrim(n, '[]{}:'), '') end as number offset 0) a,
      -- A whole number that a double may not hold goes to number_text.
      lateral (select case when length(a.number) between 1 and 15 or length(a.number) < 300 and a.number ~ '\.\d*[1-9]'
        then a.number::double precision end as value offset 0) b,
      lateral (select b.value::text as text offset 0) c,
      lateral (select case when c.text like '%e+%' and abs(b.value) < 1e40 then round(c.text::numeric,
        length(split_part(split_part(c.text, 'e', 1), '.', 2)) - right(c.text, 2)::integer - 1) end as short offset 0) d);
end
$$;
comment on function private.number_list is 'JSON text without strings, with its numbers as ECMAScript prints them.';

-- Postgres has one function that writes JSON without blanks, json_strip_nulls; so that it strips nothing, a null member is a number while
-- it works, one that no jsonb prints: jsonb knows no exponents. It is as quick as printing; doing it value by value in SQL takes twenty
-- times as long.
--
-- The cost is counted in commas and colons; numbers that have to be printed otherwise count more. A value over the limit is larger than
-- models read. It gives null, before the expensive half of the work.
create or replace function private.compact(p_value jsonb, inout cost integer, out compact text)
language plpgsql immutable parallel safe set extra_float_digits = 1
as $$
declare
  c_limit constant integer := 60000;
  -- No value of at most 1 MiB and 60,000 parts takes more.
  c_bytes constant integer := 2000000;
  -- In front of the end of the number: a fraction with a zero at its end, more digits than a double has, or JavaScript's exponents.
  c_hard constant text := '(\.\d*0|[\d.]{16}|0\.000000\d*)[],}]';
  v_text text;
  v_mark text;
begin
  if pg_column_size(p_value) > c_bytes then
    cost := c_limit + 1;
  else
    v_text := p_value::text;
    if strpos(v_text, ': null') > 0 then
      -- Its digits come from the text itself, so that no text can hold it.
      v_mark := '0E' || replace(hashtextextended(v_text, 0)::text, '-', '0');
      v_text := replace(v_text, ': null', ': ' || v_mark);
    end if;
    compact := case when octet_length(v_text) < c_bytes then json_strip_nulls(v_text::json)::text end;
    -- Postgres prints one blank behind each comma and colon.
    cost := case when compact is null then c_limit + 1 else cost + length(v_text) - length(compact) end;
  end if;
  if cost <= c_limit then
    if v_mark is not null then
      compact := replace(replace(compact, ':' || v_mark, ':null'), ': ' || v_mark, ': null');
    end if;
    if compact !~ c_hard then
      return;
    end if;
    cost := cost + 4 * (length(v_text) - length(compact));
  end if;
  if cost > c_limit then
    compact := null;
    return;
  end if;

  -- Strings are told apart by their quotation marks, once the escaped ones are out of the way: no JSON text holds the two characters
  -- that stand for them. Every other piece between quotation marks lies outside strings, and the pieces come in their order, since
  -- nothing between the split and the aggregate changes it.
  compact := replace(replace(compact, '\\', E'\u0001'), '\"', E'\u0002');
  select string_agg(case
    when t.place % 2 = 0 or length(t.piece) < 5 or t.piece !~ c_hard then t.piece
    when strpos(btrim(t.piece, ','), ',') = 0 then private.number_piece(t.piece)
    else private.number_list(t.piece) end, '"')
  into compact
  from string_to_table(compact, '"') with ordinality t (piece, place);
  compact := replace(replace(compact, E'\u0002', '\"'), E'\u0001', '\\');
end
$$;
comment on function private.compact is
  'JSON text as JSON.stringify writes it: no blanks, numbers as doubles; the order of members is jsonb''s. Adds to cost; null where that becomes too much.';

create or replace function private.compact_json(p_value jsonb) returns text
language plpgsql immutable strict parallel safe
as $$
begin
  return (private.compact(p_value, 0)).compact;
end
$$;
comment on function private.compact_json is 'JSON text of one value, as JSON.stringify writes it; null for one with more values than models read.';

-- The cheap checks come first: jsonb and its text with blanks are at most about twice as large. Numbers may be a few bytes there and
-- hundreds of digits in text.
create or replace function private.is_larger(p_value jsonb, p_bytes integer) returns boolean
language plpgsql immutable strict parallel safe
as $$
begin
  return pg_column_size(p_value) > 8 * p_bytes or octet_length(p_value::text) > 2 * p_bytes
    -- So small a value is never refused for its cost.
    or octet_length((private.compact(p_value, -10 * p_bytes)).compact) > p_bytes;
end
$$;
comment on function private.is_larger is 'Is the compact JSON text of the value longer than that?';

create or replace function private.value_text(p_value jsonb) returns text
language plpgsql immutable parallel safe set extra_float_digits = 1
as $$
begin
  return case jsonb_typeof(p_value)
    when 'string' then p_value #>> '{}'
    when 'number' then private.number_text(p_value::numeric)
    when 'boolean' then p_value::text
    when 'object' then private.compact_json(p_value)
    when 'array' then private.compact_json(p_value)
    else '' end;
end
$$;
comment on function private.value_text is 'Text form of a value: strings as they are, null and missing empty, everything else compact JSON.';

grant execute on function private.number_text, private.js_number, private.number_piece, private.number_list, private.compact, private.compact_json, private.is_larger, private.value_text
  to authenticated, service_role, kijko_server, kijko_worker;
