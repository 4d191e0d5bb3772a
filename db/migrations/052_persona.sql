-- What a person said about their persona (contract 60, section 19). The client keeps its own copy in the browser.
create table public.user_personas (
  user_id uuid primary key references public.users (id) on delete cascade,
  -- The persona that the person chose instead of the detected one.
  override text,
  show_all_options boolean not null default false,
  -- The signals that the client has sent; the others are what the server knows.
  signals jsonb not null default '{}',
  updated_at timestamptz not null default now(),
  constraint user_personas_override_check check (override in ('alex', 'maya', 'sam')),
  constraint user_personas_signals_check check (jsonb_typeof(signals) = 'object' and octet_length(signals::text) <= 1000)
);
alter table public.user_personas enable row level security;
alter table public.user_personas force row level security;
comment on table public.user_personas is 'The persona that a person chose, and the signals that their client sent; one row a person.';

---- create above / drop below ----

drop table public.user_personas;
