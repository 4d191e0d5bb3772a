-- Names are unique in an organization without regard to case, archived and hidden projects included: a name is refused even where its
-- holder is not shown. The answer gives only this fact, and a free name beside it (contract 10, sections 7.1 and 7.2).

create or replace function private.project_name_taken(p_org_id uuid, p_name text, p_exclude_id uuid default null) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  -- Two steps, because a name is nearly always free.
  if not exists (select from public.projects p
    where p.organization_id = p_org_id and lower(p.name) = lower(private.trimmed(p_name)) and p.id is distinct from p_exclude_id) then
    return false;
  end if;
  return exists (select from public.memberships m where m.organization_id = p_org_id and m.user_id = private.user_id() and m.status = 'active'
    union all select from public.project_members g where g.organization_id = p_org_id and g.user_id = private.user_id()
      and g.accepted_at is not null);
end
$$;
comment on function private.project_name_taken is
  'Is the name in use? Hidden projects count. Authorization: true only for people of the organization and guests of one of its projects.';

create or replace function private.numbered_project_name(p_base text, p_number numeric) returns text
language sql immutable parallel safe
return regexp_replace(left(p_base, 49 - char_length(p_number::text)), '\s+$', '') || ' ' || p_number;
comment on function private.numbered_project_name is 'A name with a number behind it in at most 50 characters.';

-- "Plan" -> "Plan 2"; "Plan 9" and "Plan9" -> "Plan 10"; the base is shortened where the result would pass 50 characters.
create or replace function private.suggest_project_name(p_org_id uuid, p_name text, p_exclude_id uuid default null) returns text
language plpgsql stable
as $$
declare
  v_base text := private.trimmed(p_name);
  -- A longer number is no counter, and would leave the base no room.
  v_digits text := substring(v_base from '^.*[^0-9]([0-9]{1,40})$');
  v_first numeric := coalesce(v_digits::numeric + 1, 2);
  v_taken numeric := v_first - 1;
  v_free numeric;
  v_number numeric;
begin
  v_base := regexp_replace(left(v_base, char_length(v_base) - coalesce(char_length(v_digits), 0)), '\s+$', '');
  loop
    v_number := private.number_to_try(v_first, v_taken, v_free);
    exit when v_number is null;
    if private.project_name_taken(p_org_id, private.numbered_project_name(v_base, v_number), p_exclude_id) then
      v_taken := v_number;
    else
      v_free := v_number;
    end if;
  end loop;
  return private.numbered_project_name(v_base, v_free);
end
$$;
comment on function private.suggest_project_name is 'A free name next to a taken one, at most 50 characters.';

create or replace function private.project_name_faults(
  p_org_id uuid, p_name text, p_exclude_id uuid, out error text, out suggestion text
)
language plpgsql stable
as $$
declare
  v_name text := private.trimmed(coalesce(p_name, ''));
begin
  if v_name = '' then
    error := 'Project name is required.';
  elsif not private.is_plain(v_name) then
    error := 'Project name must not contain control characters.';
  elsif char_length(v_name) < 3 then
    error := 'Project name must have at least 3 characters.';
  elsif char_length(v_name) > 50 then
    error := 'Project name must have at most 50 characters.';
  elsif private.project_name_taken(p_org_id, v_name, p_exclude_id) then
    error := 'A project with this name already exists.';
    suggestion := private.suggest_project_name(p_org_id, v_name, p_exclude_id);
  end if;
end
$$;
comment on function private.project_name_faults is 'What is wrong with a project name, in the order of the contract; nulls for a good one.';

create or replace function private.assert_project_name(p_org_id uuid, p_name text, p_exclude_id uuid default null) returns text
language plpgsql stable
as $$
declare
  v_name text := private.trimmed(p_name);
  v record;
begin
  -- A valid and free name needs no further query.
  if char_length(v_name) between 3 and 50 and private.is_plain(v_name) and not private.project_name_taken(p_org_id, v_name, p_exclude_id) then
    return v_name;
  end if;
  select * into v from private.project_name_faults(p_org_id, p_name, p_exclude_id);
  if v.suggestion is not null then
    perform private.refuse(409, 'PROJECT_NAME_EXISTS', v.error, 'name', jsonb_build_object('suggestion', v.suggestion));
  elsif v.error is not null then
    perform private.refuse_field('name', v.error);
  end if;
  return v_name;
end
$$;
comment on function private.assert_project_name is 'The trimmed name, or 400 VALIDATION_ERROR, or 409 PROJECT_NAME_EXISTS with details.suggestion.';

create or replace function private.project_id_taken(p_id uuid) returns boolean
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return exists (select from public.projects where id = p_id);
end
$$;
comment on function private.project_id_taken is 'Is the id in use? Authorization: tells that an id is taken, as api.create_project must, where the client chooses ids.';

grant execute on function private.project_name_taken, private.numbered_project_name, private.suggest_project_name, private.project_name_faults,
  private.assert_project_name, private.project_id_taken to authenticated;

-- The organization of a name check: the named one, the project's own when a project is excluded, or the current one.
create or replace function api.validate_project_name(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_exclude uuid := private.as_uuid(p -> 'body' ->> 'excludeId');
  v record;
begin
  select * into v from private.project_name_faults(
    coalesce((select organization_id from public.projects where id = v_exclude), private.org_id()), p -> 'body' ->> 'name', v_exclude);
  return jsonb_strip_nulls(jsonb_build_object('valid', v.error is null, 'error', v.error, 'suggestion', v.suggestion));
end
$$;
comment on function api.validate_project_name is 'POST /projects/validate-name: {valid, error?, suggestion?}, always 200.';
grant execute on function api.validate_project_name to authenticated;

create or replace function api.check_project_name(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_exclude uuid := private.as_uuid(p ->> 'excludeId');
  v_org uuid;
begin
  perform private.act_in(private.as_uuid(p ->> 'orgId'));
  v_org := private.org_id();
  if not private.project_name_taken(v_org, p ->> 'name', v_exclude) then
    return '{"exists": false}';
  end if;
  return jsonb_build_object('exists', true, 'suggestion', private.suggest_project_name(v_org, p ->> 'name', v_exclude));
end
$$;
comment on function api.check_project_name is 'GET /projects/check-name: {exists, suggestion?}. Errors: 403 FORBIDDEN for another''s organization.';
grant execute on function api.check_project_name to authenticated;
