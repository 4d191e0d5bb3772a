-- The operations on notes. They run as the caller: row-level security says what is theirs.

create or replace function api.create_note(p jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  b jsonb := p -> 'body';
  n public.notes;
begin
  if b ->> 'text' is null then
    perform private.refuse_field('text', 'text is required.');
  end if;
  insert into public.notes (organization_id, user_id, text)
  values (private.org_id(), private.user_id(), b ->> 'text')
  returning * into n;
  return private.note_json(n);
end
$$;
comment on function api.create_note is 'POST /notes: Note. Errors: 400 VALIDATION_ERROR.';
grant execute on function api.create_note to authenticated;

create or replace function api.get_note(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  n public.notes;
begin
  select * into n from public.notes x where x.id = private.as_uuid(p ->> 'noteId');
  if not found then
    perform private.refuse(404, 'NOTE_NOT_FOUND', format('Note with ID %s not found', p ->> 'noteId'));
  end if;
  return private.note_json(n);
end
$$;
comment on function api.get_note is 'GET /notes/{noteId}: Note. Errors: 404 NOTE_NOT_FOUND.';
grant execute on function api.get_note to authenticated;
