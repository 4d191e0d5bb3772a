-- What people say of themselves (contract 40, sections 3 and 4).

alter table public.users
  add column company text,
  -- What somebody does, for the first view of the dashboard; it gives no right.
  add column job_role text not null default 'user',
  add column use_gravatar boolean not null default false,
  -- The picture that was uploaded. What others see is avatar_url: this one, or Gravatar's (db/code/profile/triggers.sql).
  add column picture_url text,
  add constraint users_company_check check (char_length(company) between 1 and 100),
  add constraint users_job_role_check check (job_role in ('business-owner', 'developer', 'admin', 'user')),
  add constraint users_picture_url_check check (char_length(picture_url) <= 500);
update public.users set picture_url = avatar_url where avatar_url is not null;

-- Pictures are small, drawn again by us, and belong to one row: here they come and go with it, in its transaction.
create table private.pictures (
  -- 256 random bits; whoever knows it sees the picture.
  name text primary key,
  user_id uuid not null references public.users (id) on delete cascade,
  content_type text not null,
  content bytea not null,
  created_at timestamptz not null default now(),
  constraint pictures_name_check check (name ~ '^[0-9a-f]{64}$'),
  constraint pictures_content_type_check check (content_type in ('image/jpeg', 'image/png')),
  constraint pictures_content_check check (octet_length(content) between 1 and 2097152)
);
alter table private.pictures enable row level security;
alter table private.pictures force row level security;
create unique index pictures_user_id_key on private.pictures (user_id);
comment on table private.pictures is 'Uploaded pictures of people, one each.';

create table public.user_settings (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  key text not null,
  value jsonb not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint user_settings_key_check check (key ~ '^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$' and char_length(key) <= 255),
  constraint user_settings_value_check check (jsonb_typeof(value) in ('string', 'number', 'boolean', 'array', 'object') and octet_length(value::text) <= 65536)
);
alter table public.user_settings enable row level security;
alter table public.user_settings force row level security;
create unique index user_settings_user_id_key_key on public.user_settings (user_id, key);
comment on table public.user_settings is 'Settings of a person, by key; those of the profile are columns of public.users.';

---- create above / drop below ----

drop table public.user_settings, private.pictures;
alter table public.users drop column company, drop column job_role, drop column use_gravatar, drop column picture_url;
