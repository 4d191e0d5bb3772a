-- Invitations into an organization (contract 40, section 5). The token is in the mail and in one answer; here is only its hash.

create table public.team_invitations (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  email text not null,
  role text not null,
  message text,
  -- Null once the sender's account is erased: the invitation stays good.
  invited_by uuid references public.users (id) on delete set null,
  token_hash bytea not null,
  -- A pending one past its time is an expired one; an hourly job only writes that down.
  status text not null default 'pending',
  expires_at timestamptz not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
alter table public.team_invitations enable row level security;
alter table public.team_invitations force row level security;
create unique index team_invitations_token_hash_key on public.team_invitations (token_hash);
create unique index team_invitations_one_pending_key on public.team_invitations (organization_id, email) where status = 'pending';
create index team_invitations_organization_id_created_at_idx on public.team_invitations (organization_id, created_at desc, id);
create index team_invitations_invited_by_idx on public.team_invitations (invited_by);
create index team_invitations_email_idx on public.team_invitations (email);
create index team_invitations_expires_at_idx on public.team_invitations (expires_at) where status = 'pending';
create index team_invitations_closed_idx on public.team_invitations (updated_at) where status <> 'pending';
comment on table public.team_invitations is 'Who is invited into which organization, as what; at most one pending invitation an organization and address.';

create function private.assert_team_invitations_row(r public.team_invitations) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (private.is_mail_address(r.email) and r.email = private.folded_address(r.email)) then 'team_invitations_email_check'
    when not (r.role in ('admin', 'member', 'viewer')) then 'team_invitations_role_check'
    when not (char_length(r.message) between 1 and 500) then 'team_invitations_message_check'
    when not (r.status in ('pending', 'accepted', 'expired', 'cancelled')) then 'team_invitations_status_check'
    when not (octet_length(r.token_hash) = 32) then 'team_invitations_token_hash_check'
  end;
begin
  return v_rule is null or private.refuse_row('team_invitations', v_rule);
end
$$;
comment on function private.assert_team_invitations_row is 'The rules of a row of public.team_invitations, by name.';
alter table public.team_invitations add constraint team_invitations_rules check (private.assert_team_invitations_row(team_invitations));

-- Each feature that sends mail brings its own kind.
alter table private.mails
  drop constraint mails_kind_check,
  add constraint mails_kind_check check (kind ~ '^[a-z_]{1,40}$');

insert into private.schedules (name, every) values ('invitations.expire', interval '1 hour');

---- create above / drop below ----

delete from private.schedules where name = 'invitations.expire';
delete from private.mails where kind = 'team_invitation';
alter table private.mails
  drop constraint mails_kind_check,
  add constraint mails_kind_check check (kind in ('ingestion_result', 'notification', 'digest', 'weekly_summary'));
drop table public.team_invitations;
drop function private.assert_team_invitations_row(public.team_invitations);
