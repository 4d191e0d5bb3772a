create or replace function private.current_prices() returns jsonb
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return (
    with held as (
      select distinct on (p.model) p.model, p.input_cents, p.output_cents from public.model_prices p
      where p.holds_from <= now() order by p.model, p.holds_from desc)
    select coalesce(jsonb_object_agg(x.model, jsonb_build_object('inputCents', x.input_cents, 'outputCents', x.output_cents)), '{}')
    from (select * from held union all select '', h.input_cents, h.output_cents from held h where h.model = private.default_model()) x);
end
$$;
comment on function private.current_prices is
  'Cents a million tokens by called id, for the cost in traces; '''' is the default model''s price, for ids without a row. Authorization: gives away public knowledge only.';
grant execute on function private.current_prices to kijko_server, kijko_worker;
