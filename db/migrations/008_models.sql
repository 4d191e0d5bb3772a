-- Models (contract 20, section 5): which ids exist, what they are called at the provider, what they cost, and whose key pays. All of it
-- is data: a retired model, a changed price or a new alias is one statement (db/code/models/README.md), not a release.

-- The models that people choose from, in their order. Any other id of a known family works too; it is only not offered.
create table public.models (
  id text primary key,
  name text not null,
  description text not null,
  position smallint not null,
  -- Used where nothing else is said; its price row is also the one of models without a row.
  is_default boolean not null default false,
  constraint models_id_check check (char_length(id) between 1 and 100),
  constraint models_texts_check check (char_length(name) between 1 and 100 and char_length(description) between 1 and 500)
);
alter table public.models enable row level security;
alter table public.models force row level security;
create unique index models_position_key on public.models (position);
create unique index models_one_default_key on public.models (is_default) where is_default;
comment on table public.models is 'The models that are offered, in their order; one is the default.';

insert into public.models (id, name, description, position, is_default) values
  ('claude-sonnet-4-20250514', 'Claude Sonnet 4', 'Balanced performance for most tasks', 1, false),
  ('claude-3-5-sonnet-20241022', 'Claude 3.5 Sonnet', 'Strong at analysis, writing and code', 2, true),
  ('claude-3-5-haiku-20241022', 'Claude 3.5 Haiku', 'Fast and inexpensive, for simple tasks', 3, false),
  ('claude-3-opus-20240229', 'Claude 3 Opus', 'For the most demanding tasks', 4, false);

-- Other names for a model, as the frontend's forms write them. They stay as they are in a skill and are resolved when it runs.
create table public.model_aliases (
  alias text primary key,
  -- Null: the default model.
  model text,
  -- Null: always. Otherwise the alias holds only while this provider is not configured.
  unless_provider text,
  constraint model_aliases_alias_check check (char_length(alias) between 1 and 100),
  constraint model_aliases_model_check check (char_length(model) between 1 and 100 and model <> alias),
  constraint model_aliases_unless_provider_check check (unless_provider in ('anthropic', 'google', 'openai'))
);
alter table public.model_aliases enable row level security;
alter table public.model_aliases force row level security;
comment on table public.model_aliases is 'Other names for a model; a null model is the default one.';

insert into public.model_aliases (alias, model, unless_provider) values
  ('claude', null, null),
  ('claude-3.5-sonnet', 'claude-3-5-sonnet-20241022', null),
  ('claude-3-opus', 'claude-3-opus-20240229', null),
  ('claude-3-haiku', 'claude-3-5-haiku-20241022', null),
  ('gemini', 'gemini-3-flash-preview', null),
  ('gemini-pro', 'gemini-3-flash-preview', null),
  -- The inline editor writes it into every skill that it creates, unasked.
  ('gpt-4', null, 'openai'),
  -- Known names of a provider that the product does not have: accepted on write, and MODEL_NOT_SUPPORTED when they run.
  ('gpt4', 'gpt-4o', null),
  ('gpt4o', 'gpt-4o', null);

-- What is called instead of a model that its provider has retired: a request with a retired id fails. A successor may be retired in
-- its turn; the rows are followed to the end.
create table public.model_successors (
  model text primary key,
  called text not null,
  constraint model_successors_model_check check (char_length(model) between 1 and 100),
  constraint model_successors_called_check check (char_length(called) between 1 and 100 and called <> model)
);
alter table public.model_successors enable row level security;
alter table public.model_successors force row level security;
comment on table public.model_successors is 'Retired model -> the one that is called instead.';

-- As the provider's list of deprecations recommends, within the same family. Opus 4.6 and not a later one: from 4.7 on a request that
-- names a temperature is refused, and every skill names one.
insert into public.model_successors (model, called) values
  ('claude-sonnet-4-20250514', 'claude-sonnet-4-6'),
  ('claude-3-5-sonnet-20241022', 'claude-sonnet-4-6'),
  ('claude-3-5-haiku-20241022', 'claude-haiku-4-5-20251001'),
  ('claude-3-opus-20240229', 'claude-opus-4-6');

-- US cents for a million tokens. A changed price is a new row with the instant from which it holds: what was run before keeps its price.
create table public.model_prices (
  model text not null,
  holds_from timestamptz not null default '-infinity',
  input_cents integer not null,
  output_cents integer not null,
  primary key (model, holds_from),
  constraint model_prices_model_check check (char_length(model) between 1 and 100),
  constraint model_prices_cents_check check (input_cents between 0 and 100000000 and output_cents between 0 and 100000000)
);
alter table public.model_prices enable row level security;
alter table public.model_prices force row level security;
comment on table public.model_prices is 'Cents per million tokens and the instant from which they hold; models without a row cost what the default model costs.';

insert into public.model_prices (model, input_cents, output_cents) values
  ('claude-sonnet-4-20250514', 300, 1500),
  ('claude-3-5-sonnet-20241022', 300, 1500),
  ('claude-3-5-haiku-20241022', 25, 125),
  ('claude-3-opus-20240229', 1500, 7500);

-- An organization's own key at a provider. The server encrypts it before it comes here, bound to organization and provider; nobody
-- reads it back but server and worker, at the moment of a call.
create table private.provider_keys (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  provider text not null,
  sealed_key text not null,
  -- All that anybody is shown of it.
  last_four text not null,
  -- Who set it; null when that person is gone.
  set_by uuid references public.users (id) on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (organization_id, provider),
  constraint provider_keys_provider_check check (provider in ('anthropic', 'google')),
  constraint provider_keys_sealed_key_check check (sealed_key like 'v1.%' and char_length(sealed_key) <= 2000),
  constraint provider_keys_last_four_check check (char_length(last_four) = 4)
);
alter table private.provider_keys enable row level security;
alter table private.provider_keys force row level security;
create index provider_keys_set_by_idx on private.provider_keys (set_by);
comment on table private.provider_keys is 'Keys of organizations at model providers, encrypted; at most one a provider.';

---- create above / drop below ----

drop table private.provider_keys;
drop table public.model_prices, public.model_successors, public.model_aliases, public.models;
