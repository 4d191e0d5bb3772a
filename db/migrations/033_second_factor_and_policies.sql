-- The second factor, the security policies of organizations and their IP allow-list, and what is on file about compliance (contract 40, section 6).

-- ------------------------------------------------------------------------------------------------------------------- second factor
-- The secret of an authenticator app leaves the database sealed, and only to our server, which computes codes and tells which step matched.
create table private.second_factors (
  user_id uuid primary key references public.users (id) on delete cascade,
  sealed_secret text not null,
  -- The newest time step whose code was used: it and older ones are refused, so a code that was overheard opens nothing.
  last_step bigint not null,
  created_at timestamptz not null default now(),
  constraint second_factors_sealed_secret_check check (sealed_secret like 'v1.%' and char_length(sealed_secret) <= 500)
);
alter table private.second_factors enable row level security;
alter table private.second_factors force row level security;
comment on table private.second_factors is 'Secrets of authenticator apps, sealed outside the database. A row means that the second factor is on.';

create table private.second_factor_setups (
  user_id uuid primary key references public.users (id) on delete cascade,
  sealed_secret text not null,
  -- Codes that were tried. Each attempt takes its number before it is judged, so no crowd of them gets more than five.
  tries smallint not null default 0,
  expires_at timestamptz not null,
  constraint second_factor_setups_sealed_secret_check check (sealed_secret like 'v1.%' and char_length(sealed_secret) <= 500)
);
alter table private.second_factor_setups enable row level security;
alter table private.second_factor_setups force row level security;
create index second_factor_setups_expires_at_idx on private.second_factor_setups (expires_at);
comment on table private.second_factor_setups is 'Secrets that wait for their first code, for ten minutes.';

create table private.backup_codes (
  user_id uuid not null references public.users (id) on delete cascade,
  position smallint not null,
  -- Keyed with a key of the server: the codes are short, and a plain hash of one is found by trying.
  code_hash bytea not null,
  used_at timestamptz,
  primary key (user_id, position),
  constraint backup_codes_code_hash_check check (octet_length(code_hash) = 32),
  constraint backup_codes_position_check check (position between 1 and 10)
);
alter table private.backup_codes enable row level security;
alter table private.backup_codes force row level security;
comment on table private.backup_codes is 'Codes on paper, as keyed hashes; each works once in the place of a code of the app.';

-- A sign-in whose first factor was right.
create table private.second_factor_challenges (
  token_hash bytea primary key,
  user_id uuid not null references public.users (id) on delete cascade,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  -- How the first factor was shown, and at which session of a provider.
  method text not null,
  provider_issuer text,
  provider_key text,
  tries smallint not null default 0,
  used_at timestamptz,
  expires_at timestamptz not null,
  constraint second_factor_challenges_token_hash_check check (octet_length(token_hash) = 32),
  constraint second_factor_challenges_method_check check (method in ('password', 'sso', 'magic_link'))
);
alter table private.second_factor_challenges enable row level security;
alter table private.second_factor_challenges force row level security;
create index second_factor_challenges_user_id_idx on private.second_factor_challenges (user_id);
create index second_factor_challenges_organization_id_idx on private.second_factor_challenges (organization_id);
create index second_factor_challenges_expires_at_idx on private.second_factor_challenges (expires_at);
comment on table private.second_factor_challenges is 'Tokens with which a second factor may be shown: five minutes, five tries, stored hashed.';

create table private.remembered_devices (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  token_hash bytea not null,
  user_agent text,
  created_at timestamptz not null default now(),
  last_used_at timestamptz not null default now(),
  constraint remembered_devices_token_hash_check check (octet_length(token_hash) = 32)
);
alter table private.remembered_devices enable row level security;
alter table private.remembered_devices force row level security;
create unique index remembered_devices_token_hash_key on private.remembered_devices (token_hash);
create index remembered_devices_user_id_created_at_idx on private.remembered_devices (user_id, created_at);
comment on table private.remembered_devices is 'Devices on which a password is enough for some days. How many is asked of the policy at each sign-in.';

-- What earlier passwords were, for policies that forbid to take one again.
create table private.password_history (
  id bigint generated always as identity primary key,
  user_id uuid not null references public.users (id) on delete cascade,
  password_hash text not null,
  replaced_at timestamptz not null default now()
);
alter table private.password_history enable row level security;
alter table private.password_history force row level security;
create index password_history_user_id_id_idx on private.password_history (user_id, id);
comment on table private.password_history is 'The last 24 earlier passwords of a person, as argon2id PHC strings.';

alter table private.login_history
  drop constraint login_history_method_check,
  drop constraint login_history_status_check,
  add constraint login_history_method_check check (method in ('password', 'sso', 'magic_link', 'signup', '2fa', 'api_key')),
  add constraint login_history_status_check check (status in ('success', 'failed', 'blocked'));

alter table private.sessions
  -- Moment and manner of signing in; a session that continues another one in another organization inherits them.
  add column signed_in_at timestamptz not null default now(),
  add column signed_in_by text not null default 'password',
  add constraint sessions_signed_in_by_check check (signed_in_by in ('password', 'sso', 'magic_link')),
  drop constraint sessions_method_check,
  add constraint sessions_method_check check (method in ('password', 'sso', 'magic_link', 'signup', 'switch', '2fa'));
update private.sessions set signed_in_at = least(created_at, expires_at - interval '90 days'),
  signed_in_by = case when method in ('sso', 'magic_link') then method else 'password' end;

-- ------------------------------------------------------------------------------------------------------------- policies, addresses
create table public.security_policies (
  organization_id uuid primary key references public.organizations (id) on delete cascade,
  min_length smallint not null default 8,
  require_uppercase boolean not null default true,
  require_lowercase boolean not null default true,
  require_number boolean not null default true,
  require_symbol boolean not null default false,
  expiry_days smallint not null default 0,
  prevent_reuse smallint not null default 0,
  session_minutes integer not null default 480,
  idle_minutes smallint not null default 30,
  max_sessions smallint not null default 0,
  remember_days smallint not null default 30,
  require_second_factor text not null default 'none',
  sso_enforced boolean not null default false,
  allow_password boolean not null default true,
  allow_magic_link boolean not null default true,
  -- The allow-list's own settings stand here, so that one row tells a request all that its organization demands.
  ip_mode text not null default 'disabled',
  ip_admin_bypass boolean not null default true,
  updated_at timestamptz not null default now()
);
alter table public.security_policies enable row level security;
alter table public.security_policies force row level security;
comment on table public.security_policies is 'What an organization demands of its people. Held only where the plan includes it; exactly one row an organization.';
insert into public.security_policies (organization_id) select id from public.organizations;

create function private.assert_security_policies_row(r public.security_policies) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when r.min_length not between 8 and 32 then 'security_policies_min_length_check'
    when r.expiry_days not between 0 and 365 then 'security_policies_expiry_days_check'
    when r.prevent_reuse not between 0 and 24 then 'security_policies_prevent_reuse_check'
    when r.session_minutes not between 15 and 43200 then 'security_policies_session_minutes_check'
    when r.idle_minutes not between 0 and 1440 then 'security_policies_idle_minutes_check'
    when r.max_sessions not between 0 and 100 then 'security_policies_max_sessions_check'
    when r.remember_days not between 0 and 365 then 'security_policies_remember_days_check'
    when r.require_second_factor not in ('none', 'admins', 'all') then 'security_policies_require_second_factor_check'
    when not (r.sso_enforced or r.allow_password or r.allow_magic_link) then 'security_policies_allow_password_check'
    when r.ip_mode not in ('disabled', 'warn', 'enforce') then 'security_policies_ip_mode_check'
  end;
begin
  return v_rule is null or private.refuse_row('security_policies', v_rule);
end
$$;
comment on function private.assert_security_policies_row is 'The rules of a row of public.security_policies, by name.';
alter table public.security_policies add constraint security_policies_rules check (private.assert_security_policies_row(security_policies));

create table public.ip_allow_list_entries (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  name text not null,
  -- A single address is a network of one.
  network inet not null,
  is_range boolean not null,
  is_active boolean not null default true,
  created_by uuid references public.users (id) on delete set null,
  created_at timestamptz not null default clock_timestamp()
);
alter table public.ip_allow_list_entries enable row level security;
alter table public.ip_allow_list_entries force row level security;
create unique index ip_allow_list_entries_organization_id_network_key on public.ip_allow_list_entries (organization_id, network);
create index ip_allow_list_entries_created_by_idx on public.ip_allow_list_entries (created_by);
comment on table public.ip_allow_list_entries is 'Addresses and ranges from which an organization''s people and keys may come.';

create function private.assert_ip_allow_list_entries_row(r public.ip_allow_list_entries) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (char_length(r.name) between 1 and 100) then 'ip_allow_list_entries_name_check'
    when network(r.network) <> r.network or not r.is_range and masklen(r.network) <> case family(r.network) when 4 then 32 else 128 end
      then 'ip_allow_list_entries_network_check'
  end;
begin
  return v_rule is null or private.refuse_row('ip_allow_list_entries', v_rule);
end
$$;
comment on function private.assert_ip_allow_list_entries_row is 'The rules of a row of public.ip_allow_list_entries, by name.';
alter table public.ip_allow_list_entries add constraint ip_allow_list_entries_rules
  check (private.assert_ip_allow_list_entries_row(ip_allow_list_entries));

-- Which addresses were noted while the list only warns. The subject is a session or an API key.
create table private.ip_warnings (
  subject_id uuid not null,
  address inet not null,
  created_at timestamptz not null default now(),
  primary key (subject_id, address)
);
alter table private.ip_warnings enable row level security;
alter table private.ip_warnings force row level security;
create index ip_warnings_created_at_idx on private.ip_warnings (created_at);
comment on table private.ip_warnings is 'One row a session (or key) and address outside the allow-list that was noted; kept 90 days.';

alter table public.memberships
  -- Does the subscribed plan include rules that each request is held to? Kept by triggers. Where it is false, entering costs nothing more.
  add column is_guarded boolean not null default false;
update public.memberships m set is_guarded = true
from public.subscriptions s join public.plans p on p.id = s.plan_id
where s.organization_id = m.organization_id and p.gates && array['security_policies', 'ip_allow_list'];

-- ---------------------------------------------------------------------------------------------------------------------- compliance
-- Platform-wide rows, kept by the platform's staff. The seed claims nothing.
create table public.compliance_frameworks (
  framework text primary key,
  position smallint not null,
  status text not null default 'not_applicable',
  score smallint not null default 0,
  last_assessment date,
  next_assessment date,
  requirements_total integer not null,
  requirements_met integer not null default 0,
  requirements_partial integer not null default 0,
  updated_at timestamptz not null default now(),
  constraint compliance_frameworks_framework_check check (framework in ('soc2', 'iso27001', 'gdpr', 'hipaa')),
  constraint compliance_frameworks_status_check check (status in ('compliant', 'partial', 'non_compliant', 'not_applicable')),
  constraint compliance_frameworks_score_check check (score between 0 and 100),
  constraint compliance_frameworks_requirements_check check (requirements_total between 1 and 100000 and requirements_met >= 0
    and requirements_partial >= 0 and requirements_met + requirements_partial <= requirements_total)
);
alter table public.compliance_frameworks enable row level security;
alter table public.compliance_frameworks force row level security;
comment on table public.compliance_frameworks is 'How the platform stands to each framework, as its staff say; always these four.';
insert into public.compliance_frameworks (framework, position, status, requirements_total) values
  ('soc2', 1, 'not_applicable', 1), ('iso27001', 2, 'not_applicable', 1), ('gdpr', 3, 'partial', 1), ('hipaa', 4, 'not_applicable', 1);

create table public.compliance_documents (
  id uuid primary key default gen_random_uuid(),
  framework text not null references public.compliance_frameworks (framework) on delete cascade,
  name text not null,
  description text not null default '',
  version text not null,
  file_name text not null,
  file_size integer not null,
  valid_from date not null,
  valid_until date,
  uploaded_at timestamptz not null default now(),
  constraint compliance_documents_name_check check (char_length(name) between 1 and 200 and char_length(description) <= 2000),
  constraint compliance_documents_version_check check (char_length(version) between 1 and 50),
  constraint compliance_documents_file_name_check check (file_name ~ '^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$'),
  constraint compliance_documents_file_size_check check (file_size between 1 and 4194304),
  constraint compliance_documents_valid_until_check check (valid_until >= valid_from)
);
alter table public.compliance_documents enable row level security;
alter table public.compliance_documents force row level security;
create index compliance_documents_framework_idx on public.compliance_documents (framework, name, id);
comment on table public.compliance_documents is 'Certificates and reports on file.';

create table private.compliance_files (
  document_id uuid primary key references public.compliance_documents (id) on delete cascade,
  content bytea not null
);
alter table private.compliance_files enable row level security;
alter table private.compliance_files force row level security;
comment on table private.compliance_files is 'What a compliance document says; it leaves through signed links only.';

---- create above / drop below ----

drop table private.compliance_files, public.compliance_documents, public.compliance_frameworks;
alter table public.memberships drop column is_guarded;
drop table private.ip_warnings, public.ip_allow_list_entries, public.security_policies;
drop function private.assert_ip_allow_list_entries_row, private.assert_security_policies_row;
update private.sessions set method = 'password' where method = '2fa';
alter table private.sessions drop column signed_in_at, drop column signed_in_by, drop constraint sessions_method_check,
  add constraint sessions_method_check check (method in ('password', 'sso', 'magic_link', 'signup', 'switch'));
delete from private.login_history where method in ('2fa', 'api_key') or status = 'blocked';
alter table private.login_history
  drop constraint login_history_method_check,
  drop constraint login_history_status_check,
  add constraint login_history_method_check check (method in ('password', 'sso', 'magic_link', 'signup')),
  add constraint login_history_status_check check (status in ('success', 'failed'));
drop table private.password_history, private.remembered_devices, private.second_factor_challenges, private.backup_codes,
  private.second_factor_setups, private.second_factors;
