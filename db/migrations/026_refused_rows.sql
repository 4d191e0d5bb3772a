-- A row that breaks a rule of its table is the caller's bad input where the caller's own statement writes it, and a fault of ours where a
-- function of the owner does. Request roles get a refusal with the field, as from any operation; the owner still sees the broken check.
create or replace function private.refuse_row(p_table text, p_rule text) returns boolean
language plpgsql immutable parallel safe
as $$
declare
  v_words text := substring(p_rule from '^' || p_table || '_(.*)_check$');
  v_field text;
begin
  if current_user in ('anon', 'authenticated') and v_words is not null then
    v_field := case p_table || '.' || v_words
      when 'project_settings.level' then 'defaultNotificationLevel'
      when 'project_settings.custom' then 'customSettings'
      else substr(replace(initcap(replace('x' || v_words, '_', ' ')), ' ', ''), 2) end;
    raise exception using errcode = 'PT400', message = format('%s has a value that is not allowed here.', v_field),
      detail = jsonb_build_object('code', 'VALIDATION_ERROR', 'field', v_field)::text;
  end if;
  raise check_violation using schema = 'public', table = p_table, constraint = p_rule,
    message = format('new row for relation "%s" violates check constraint "%s"', p_table, p_rule);
end
$$;

---- create above / drop below ----

create or replace function private.refuse_row(p_table text, p_rule text) returns boolean
language plpgsql immutable parallel safe
as $$
begin
  raise check_violation using schema = 'public', table = p_table, constraint = p_rule,
    message = format('new row for relation "%s" violates check constraint "%s"', p_table, p_rule);
end
$$;
