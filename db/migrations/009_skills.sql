-- Skills (contract 20): prompts that are run by hand, on a schedule, or when something happens. They belong to a person, not to an
-- organization: whoever made one sees it in every organization they act in, and a public one is seen by everybody. organization_id
-- remembers where it was made.

-- These two are used by checks and indexes below, so they live here and are frozen.

-- White space is Unicode's, whatever the database's locale.
create function private.stripped(p_text text) returns text
language sql immutable parallel safe
return btrim(p_text, U&' \0009\000A\000B\000C\000D\0085\00A0\1680\2000\2001\2002\2003\2004\2005\2006\2007\2008\2009\200A\2028\2029\202F\205F\3000\FEFF');
comment on function private.stripped is 'The text without white space of any script at its ends.';

-- So is lower case. A Postgres without ICU has to rely on its locale.
do $$
begin
  execute format($function$
    create function private.folded(p_text text) returns text
    language sql immutable parallel safe
    return lower(p_text %s)
  $function$, case when exists (select from pg_collation where collname = 'und-x-icu') then 'collate pg_catalog."und-x-icu"' else '' end);
end
$$;
comment on function private.folded is 'The text in Unicode''s lower case, for comparisons that ignore case.';

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
  updated_at timestamptz not null default now()
) with (fillfactor = 85);
alter table public.skills enable row level security;
alter table public.skills force row level security;
create function private.assert_skills_row(r public.skills) returns boolean
language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (r.name = private.stripped(r.name) and char_length(r.name) between 1 and 100 and private.is_plain(r.name)) then 'skills_name_check'
    when not (char_length(r.description) between 1 and 500) then 'skills_description_check'
    when not (r.category in ('analysis', 'generation', 'transformation', 'communication', 'automation', 'custom')) then 'skills_category_check'
    when not (char_length(r.prompt_template) between 20 and 10000) then 'skills_prompt_template_check'
    when not (char_length(r.model) between 1 and 100) then 'skills_model_check'
    when not (jsonb_typeof(r.parameters) = 'object' and octet_length(r.parameters::text) <= 8192) then 'skills_parameters_check'
    when not (jsonb_typeof(r.input_schema) = 'array' and octet_length(r.input_schema::text) <= 131072) then 'skills_input_schema_check'
    when not (r.output_format in ('markdown', 'json', 'text', 'html', 'code')) then 'skills_output_format_check'
    when not (r.execution_count >= 0 and r.star_count >= 0 and r.rating_sum >= 0 and r.rating_count >= 0) then 'skills_counters_check'
  end;
begin
  return v_rule is null or private.refuse_row('skills', v_rule);
end
$$;
comment on function private.assert_skills_row is 'The rules of a row of public.skills, by name.';
alter table public.skills add constraint skills_rules check (private.assert_skills_row(skills));
create unique index skills_user_id_name_key on public.skills (user_id, private.folded(name));
create index skills_user_id_updated_at_idx on public.skills (user_id, updated_at desc, id desc);
create index skills_public_updated_at_idx on public.skills (updated_at desc, id desc) where is_public and is_active;
create index skills_organization_id_idx on public.skills (organization_id);
comment on table public.skills is 'A reusable prompt of a person; a public, active one is seen by everybody.';
comment on column public.skills.model is 'As sent; resolved at run time (db/code/models).';

-- Stars and ratings are per person, on anything they see; the numbers are kept on the skill.
create table public.skill_stars (
  user_id uuid not null references public.users (id) on delete cascade,
  skill_id uuid not null references public.skills (id) on delete cascade,
  created_at timestamptz not null default now(),
  primary key (user_id, skill_id)
);
alter table public.skill_stars enable row level security;
alter table public.skill_stars force row level security;
create index skill_stars_skill_id_idx on public.skill_stars (skill_id);
comment on table public.skill_stars is 'Stars are per user; a row is a star.';

create table public.skill_ratings (
  user_id uuid not null references public.users (id) on delete cascade,
  skill_id uuid not null references public.skills (id) on delete cascade,
  rating smallint not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (user_id, skill_id),
  constraint skill_ratings_rating_check check (rating between 1 and 5)
);
alter table public.skill_ratings enable row level security;
alter table public.skill_ratings force row level security;
create index skill_ratings_skill_id_idx on public.skill_ratings (skill_id);
comment on table public.skill_ratings is 'One rating a person and public skill of somebody else.';

-- What the conversational builder knows about a skill beyond the skill itself (contract 20, 3.11): content, name and description are
-- the skill's own and stand there alone. Nothing on the server acts on these members.
create table public.skill_playbooks (
  skill_id uuid primary key references public.skills (id) on delete cascade,
  dependencies jsonb not null default '[]',
  trigger text not null default 'pre-tool',
  scope text not null default 'global',
  tags jsonb not null default '[]',
  scope_selection jsonb not null default '{"type": "all"}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint skill_playbooks_trigger_check check (trigger in ('pre-tool', 'post-tool')),
  constraint skill_playbooks_scope_check check (scope in ('global', 'local')),
  constraint skill_playbooks_lists_check check (private.is_patterns(dependencies) and private.is_patterns(tags)),
  constraint skill_playbooks_scope_selection_check check (jsonb_typeof(scope_selection) = 'object'
    and octet_length(scope_selection::text) <= 65536)
);
alter table public.skill_playbooks enable row level security;
alter table public.skill_playbooks force row level security;
comment on table public.skill_playbooks is 'The playbook side of a skill that the conversational builder made.';

---- create above / drop below ----

drop table public.skill_playbooks, public.skill_ratings, public.skill_stars, public.skills;
drop function private.assert_skills_row, private.folded, private.stripped;
