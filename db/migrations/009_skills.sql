-- Skills (contract 20): prompts that are run by hand, on a schedule, or when something happens. They belong to a person, not to an
-- organization: whoever made one sees it in every organization they act in, and a public one is seen by everybody. organization_id
-- remembers where it was made.
create table public.skills (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  -- Null for the built-in public ones, and when that organization is gone: the skill stays its owner's.
  organization_id uuid references public.organizations (id) on delete set null,
  name text not null,
  description text,
  category text not null default 'custom',
  prompt_template text not null,
  -- As sent; aliases and successors are resolved when it runs.
  model text not null default 'claude-3-5-sonnet-20241022',
  parameters jsonb not null default '{"temperature": 1, "max_tokens": 4096}',
  -- Fields in the owner's order.
  input_schema jsonb,
  output_format text not null default 'markdown',
  is_active boolean not null default true,
  is_public boolean not null default false,
  -- Counters, moved by triggers only.
  execution_count bigint not null default 0,
  star_count integer not null default 0,
  rating_sum bigint not null default 0,
  rating_count integer not null default 0,
  last_executed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint skills_name_check check (name = private.trimmed(name) and char_length(name) between 1 and 100 and private.is_plain(name)),
  constraint skills_description_check check (char_length(description) between 1 and 500),
  constraint skills_category_check check (category in ('analysis', 'generation', 'transformation', 'communication', 'automation', 'custom')),
  constraint skills_prompt_template_check check (char_length(prompt_template) between 20 and 10000),
  constraint skills_model_check check (char_length(model) between 1 and 100),
  constraint skills_parameters_check check (jsonb_typeof(parameters) = 'object'),
  constraint skills_input_schema_check check (jsonb_typeof(input_schema) = 'array' and octet_length(input_schema::text) <= 131072),
  constraint skills_output_format_check check (output_format in ('markdown', 'json', 'text', 'html', 'code')),
  constraint skills_counters_check check (execution_count >= 0 and star_count >= 0 and rating_sum >= 0 and rating_count >= 0)
) with (fillfactor = 85);
alter table public.skills enable row level security;
alter table public.skills force row level security;
create unique index skills_user_id_name_key on public.skills (user_id, lower(name));
create index skills_user_id_updated_at_idx on public.skills (user_id, updated_at desc, id desc);
create index skills_public_updated_at_idx on public.skills (updated_at desc, id desc) where is_public and is_active;
create index skills_organization_id_idx on public.skills (organization_id);
comment on table public.skills is 'A reusable prompt of a person; a public, active one is seen by everybody.';
comment on column public.skills.model is 'As sent; resolved at run time (db/code/models).';

---- create above / drop below ----

drop table public.skills;
