-- Notes: what one looks like.

create or replace function private.note_json(n public.notes) returns jsonb
language sql stable
as $$
  select jsonb_build_object('id', n.id, 'userId', n.user_id, 'text', n.text, 'createdAt', private.iso(n.created_at))
$$;
comment on function private.note_json is 'Note.';
grant execute on function private.note_json to authenticated;
