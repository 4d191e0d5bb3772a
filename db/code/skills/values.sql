-- The text of a JSON value (contract 20, sections 4.2 and 11.3), as JavaScript would print it: jsonb keeps numbers as written and puts a
-- blank after each comma. Clients preview prompts and conditions in the browser, so both sides must print alike.

-- jsonb numbers are decimals of any size; JavaScript's are doubles, so the value is rounded to one first. Postgres prints a double with
-- the shortest digits as JavaScript does, with two differences: exponents begin elsewhere, and a decimal that lies exactly between two
-- doubles is not taken for either (4e23 would be 3.9999999999999997e+23). Only whole numbers from 2^53 to 10^39 have such short halves.
create or replace function private.number_text(p_number numeric) returns text
language plpgsql immutable strict parallel safe
as $$
declare
  c_huge constant numeric := 1.7e308;
  c_tiny constant numeric := 1e-307;
  v_double double precision;
  v_text text;
  v_sign text := '';
  v_digits text;
  v_point integer;
  v_unit numeric;
  v_shorter numeric;
begin
  if abs(p_number) < 1e15 and p_number = trunc(p_number) then
    return trunc(p_number)::text;
  end if;
  if abs(p_number) between c_tiny and c_huge then
    v_double := p_number::double precision;
  else
    begin
      v_double := p_number::double precision;
    exception when numeric_value_out_of_range then
      -- Too near to zero, or too far away.
      return case when abs(p_number) < 1 then '0' when p_number < 0 then '-Infinity' else 'Infinity' end;
    end;
  end if;
  v_text := v_double::text;
  if strpos(v_text, 'e') = 0 then
    return v_text;
  end if;

  if v_text like '-%' then
    v_sign := '-';
    v_text := substr(v_text, 2);
  end if;
  v_digits := replace(split_part(v_text, 'e', 1), '.', '');
  -- Digits in front of the decimal point.
  v_point := split_part(v_text, 'e', 2)::integer + 1;
  if v_point between 16 and 40 and length(v_digits) > 14 then
    v_unit := ('1e' || v_point - length(v_digits) + 1)::numeric;
    v_shorter := trunc(v_text::numeric / v_unit);
    v_shorter := case abs(v_double) when (v_shorter * v_unit)::double precision then v_shorter
      when ((v_shorter + 1) * v_unit)::double precision then v_shorter + 1 end;
    if v_shorter is not null then
      v_point := v_point + length(v_shorter::text) - length(v_digits) + 1;
      v_digits := rtrim(v_shorter::text, '0');
    end if;
  end if;
  return v_sign || case
    when v_point > 21 or v_point < -5 then left(v_digits, 1) || case when length(v_digits) > 1 then '.' || substr(v_digits, 2) else '' end
      || 'e' || case when v_point > 1 then '+' else '' end || v_point - 1
    when v_point <= 0 then '0.' || repeat('0', -v_point) || v_digits
    when v_point >= length(v_digits) then v_digits || repeat('0', v_point - length(v_digits))
    else left(v_digits, v_point) || '.' || substr(v_digits, v_point + 1) end;
end
$$;
comment on function private.number_text is
  'A number as ECMAScript prints the double that is nearest to it. The caller sets extra_float_digits = 1: a setting of each call would double its cost.';

create or replace function private.js_number(p_number jsonb) returns text
language plpgsql immutable strict parallel safe set extra_float_digits = 1
as $$
begin
  return private.number_text(p_number::numeric);
end
$$;
comment on function private.js_number is 'A JSON number as ECMAScript prints it: 1.0 is 1, 1e21 is 1e+21, 0.0000001 is 1e-7.';

-- One number of a JSON text with the brackets and colons around it, or something short or without a number, which stays as it is.
create or replace function private.number_piece(p_piece text) returns text
language plpgsql immutable strict parallel safe
as $$
declare
  v_number text := btrim(p_piece, '[]{}:');
  v_text text;
begin
  if length(v_number) < 16 and v_number not like '%0.000000%' then
    return p_piece;
  end if;
  v_text := private.number_text(v_number::numeric);
  -- JSON has no word for what is no finite double; JSON.stringify writes null.
  return replace(p_piece, v_number, case when v_text in ('Infinity', '-Infinity') then 'null' else v_text end);
end
$$;
comment on function private.number_piece is 'A piece of JSON text between two commas, outside strings, with its long number as ECMAScript prints it.';

-- Postgres has one function that writes JSON without blanks, json_strip_nulls; so that it strips nothing, a null member is a number while
-- it works, one that no jsonb prints: jsonb knows no exponents. It is as quick as printing; doing it value by value in SQL takes twenty
-- times as long, and what a payload may cost is bounded.
create or replace function private.compact_json(p_value jsonb) returns text
language plpgsql immutable strict parallel safe set extra_float_digits = 1
as $$
declare
  v_text text := p_value::text;
  v_mark text;
begin
  if strpos(v_text, ': null') > 0 then
    -- Its digits come from the text itself, so that no text can hold it.
    v_mark := '0E' || replace(hashtextextended(v_text, 0)::text, '-', '0');
    v_text := replace(json_strip_nulls(replace(v_text, ': null', ': ' || v_mark)::json)::text, ':' || v_mark, ':null');
    v_text := replace(v_text, ': ' || v_mark, ': null');
  else
    v_text := json_strip_nulls(v_text::json)::text;
  end if;
  if v_text !~ '\d\.\d|\d{16}' then
    return v_text;
  end if;

  -- Some number may have to be printed otherwise, or some string looks like one. Strings are told apart by their quotation marks, once
  -- the escaped ones are out of the way: no JSON text holds the two characters that stand for them. Zeros at the end of a fraction:
  v_text := replace(replace(v_text, '\\', E'\u0001'), '\"', E'\u0002');
  v_text := regexp_replace(v_text, '("[^"]*")|(\.\d*[1-9])0+([],}])|\.0+([],}])', '\1\2\3\4', 'g');
  -- More digits than a double has, or so many zeros that JavaScript prints an exponent. Every other piece between quotation marks lies
  -- outside strings, and the pieces come in their order, since nothing between the split and the aggregate changes it.
  if v_text ~ '[\d.]{16}|0\.000000' then
    select string_agg(case when t.place % 2 = 0 or t.piece !~ '[\d.]{16}|0\.000000' then t.piece
      else (select string_agg(case when length(n) between 16 and 30 and btrim(n, '[]{}:')::double precision::text = btrim(n, '[]{}:') then n
          else private.number_piece(n) end, ',') from string_to_table(t.piece, ',') n) end, '"')
    into v_text
    from string_to_table(v_text, '"') with ordinality t (piece, place);
  end if;
  return replace(replace(v_text, E'\u0002', '\"'), E'\u0001', '\\');
end
$$;
comment on function private.compact_json is 'JSON text as JSON.stringify writes it: no blanks, numbers as doubles; the order of members is jsonb''s.';

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

grant execute on function private.number_text, private.js_number, private.number_piece, private.compact_json, private.value_text
  to authenticated, service_role, kijko_server, kijko_worker;
