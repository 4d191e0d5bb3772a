-- Notes: a text for all members of an organization.

create table public.notes (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references public.users (id) on delete cascade,
  text text not null,
  created_at timestamptz not null default now()
);
alter table public.notes enable row level security;
alter table public.notes force row level security;
create index notes_organization_id_idx on public.notes (organization_id, created_at);
create index notes_user_id_idx on public.notes (user_id);
comment on table public.notes is 'A text for all members of an organization.';

create function private.assert_notes_row(r public.notes) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
declare
  v_rule text := case
    when not (char_length(r.text) between 1 and 10000) then 'notes_text_check'
  end;
begin
  return v_rule is null or private.refuse_row('notes', v_rule);
end
$$;
comment on function private.assert_notes_row is 'The rules of a row of public.notes, by name.';
alter table public.notes add constraint notes_rules check (private.assert_notes_row(notes));

---- create above / drop below ----

drop table public.notes;
drop function if exists private.assert_notes_row;
