-- Free numbers: "Plan 2", "notes (3)". The first few numbers are tried one by one, so that gaps are used. Beyond them steps double until a
-- free number is found, and then halve back to the end of the taken ones. Among n neighbors this takes some 16 + 2 log2(n) look-ups.
create or replace function private.number_to_try(p_first numeric, p_taken numeric, p_free numeric) returns numeric
language sql immutable parallel safe
return case
  when p_free - p_taken <= 1 then null
  when p_free is not null then p_taken + div(p_free - p_taken, 2)
  when p_taken < p_first + 15 then p_taken + 1
  else p_first + 2 * (p_taken - p_first)
end;
comment on function private.number_to_try is
  'The next number to look up: from p_first, where p_taken (p_first - 1 at the beginning) is the last one known as taken and p_free one known as free or null. Null: p_free is the answer.';
grant execute on function private.number_to_try to anon, authenticated, service_role, kijko_server, kijko_worker;
