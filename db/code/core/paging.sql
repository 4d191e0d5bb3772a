-- Pages of lists, read from the query in one way: limit and offset, or page and pageSize. Numbers of any size are checked before they are
-- cast.

create or replace function private.page(
  p jsonb, p_default integer, p_most integer default 100, p_clamps boolean default true, out size integer, out skipped bigint, out number bigint
)
language plpgsql stable parallel safe
as $$
declare
  v_size_name text := case when p -> 'limit' <> 'null' then 'limit' else 'pageSize' end;
  v_size numeric := coalesce(private.as_number(p -> v_size_name, v_size_name), p_default);
  v_offset numeric := private.as_number(p -> 'offset', 'offset');
  v_page numeric := coalesce(private.as_number(p -> 'page', 'page'), 1);
begin
  if v_size < 1 or v_size > p_most and not p_clamps then
    perform private.refuse_field(v_size_name, format('%s must be from 1 to %s.', v_size_name, p_most));
  elsif v_offset < 0 then
    perform private.refuse_field('offset', 'offset must be at least 0.');
  elsif v_page < 1 then
    perform private.refuse_field('page', 'page must be at least 1.');
  end if;
  size := least(v_size, p_most);
  -- Larger than any possible list.
  skipped := least(coalesce(v_offset, (v_page - 1) * size), 1000000000);
  number := skipped / size + 1;
end
$$;
comment on function private.page is
  'Rows on the page (size), rows before it (skipped) and its number, from limit and offset or page and pageSize. A size above p_most is p_most, or refused where p_clamps is false. Errors: 400 VALIDATION_ERROR.';
grant execute on function private.page to authenticated, service_role;
