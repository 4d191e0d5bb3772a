-- Newer models refuse a request that names temperature, top_p or top_k; what is sent to them leaves all three out. A row says so of the id
-- that is called; without one private.takes_sampling judges by the id itself (db/code/models/functions.sql).
create table public.model_sampling (
  model text primary key,
  takes_sampling boolean not null,
  constraint model_sampling_model_check check (char_length(model) between 1 and 100)
);
alter table public.model_sampling enable row level security;
alter table public.model_sampling force row level security;
comment on table public.model_sampling is 'Ids that are called, and whether they take temperature, top_p and top_k.';

insert into public.model_sampling (model, takes_sampling) values ('claude-opus-4-7', false), ('claude-sonnet-5', false);

-- Every id that is called has its own price, or a run costs by the name in its skill: one call to Haiku 4.5 cost 150 or 1800 cents. The rows
-- of Gemini and Sonnet 5 hold what the default model's row said of them until now.
insert into public.model_prices (model, input_cents, output_cents) values
  ('claude-sonnet-4-6', 300, 1500),
  ('claude-haiku-4-5-20251001', 100, 500),
  ('claude-haiku-4-5', 100, 500),
  ('claude-opus-4-6', 500, 2500),
  ('claude-sonnet-5', 300, 1500),
  ('gemini-3-flash-preview', 300, 1500)
on conflict (model, holds_from) do nothing;

---- create above / drop below ----

delete from public.model_prices where holds_from = '-infinity'
  and model in ('claude-sonnet-4-6', 'claude-haiku-4-5-20251001', 'claude-haiku-4-5', 'claude-opus-4-6', 'claude-sonnet-5', 'gemini-3-flash-preview');
drop table public.model_sampling;
