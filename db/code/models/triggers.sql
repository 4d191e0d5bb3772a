-- After any change by an operator, no id is called without a price. Checked at commit, so that a successor and its price may come in any
-- order.
create or replace function private.tg__assert_priced() returns trigger
language plpgsql volatile set search_path = ''
as $$
declare
  v_model text := (select m from private.unpriced_models() m order by m limit 1);
begin
  if v_model is not null then
    raise exception 'The model % is called and has no price.', v_model
      using errcode = 'check_violation', hint = 'Insert its row into public.model_prices in the same transaction or before.';
  end if;
  return null;
end
$$;
comment on function private.tg__assert_priced is 'Trigger: refuses changes after which an id is called without a price that holds.';

create constraint trigger _200_assert_priced after insert or update on public.models
  deferrable initially deferred for each row execute function private.tg__assert_priced();
create constraint trigger _200_assert_priced after insert or update or delete on public.model_aliases
  deferrable initially deferred for each row execute function private.tg__assert_priced();
create constraint trigger _200_assert_priced after insert or update or delete on public.model_successors
  deferrable initially deferred for each row execute function private.tg__assert_priced();
create constraint trigger _200_assert_priced after update or delete on public.model_prices
  deferrable initially deferred for each row execute function private.tg__assert_priced();
