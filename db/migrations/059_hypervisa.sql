-- The HyperVisa proxy (contract 60, section 16): which person in which organization a session of the upstream belongs to. Upstream knows no
-- tenants, so a session without a row here is shown to no caller.
create table public.hypervisa_sessions (
  -- As upstream names it.
  session_id text primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references public.users (id) on delete cascade,
  created_at timestamptz not null default clock_timestamp()
);
alter table public.hypervisa_sessions enable row level security;
alter table public.hypervisa_sessions force row level security;
create index hypervisa_sessions_organization_id_user_id_idx on public.hypervisa_sessions (organization_id, user_id, created_at desc);
create index hypervisa_sessions_user_id_idx on public.hypervisa_sessions (user_id);
comment on table public.hypervisa_sessions is 'Owners of sessions at HyperVisa; written by the server, which creates and deletes them there.';

-- The id becomes a segment of a path.
create function private.assert_hypervisa_sessions_row(r public.hypervisa_sessions) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (char_length(r.session_id) between 1 and 200 and r.session_id !~ '[/\\[:cntrl:]]' and r.session_id not in ('.', '..'))
      then 'hypervisa_sessions_session_id_check'
  end;
begin
  return v_rule is null or private.refuse_row('hypervisa_sessions', v_rule);
end
$$;
comment on function private.assert_hypervisa_sessions_row is 'The rules of a row of public.hypervisa_sessions, by name.';
alter table public.hypervisa_sessions add constraint hypervisa_sessions_rules check (private.assert_hypervisa_sessions_row(hypervisa_sessions));

---- create above / drop below ----

drop table public.hypervisa_sessions;
drop function private.assert_hypervisa_sessions_row;
