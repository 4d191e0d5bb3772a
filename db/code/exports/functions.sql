-- Files to download (contract 60, section 13). A file is written from pages, so no process holds the whole of it. The first call checks the
-- request and says name and type of the file; each further call gives the next part of it, and checks its caller again.

create or replace function private.slug(p_name text) returns text
language sql immutable parallel safe
return lower(regexp_replace(p_name, '[^a-zA-Z0-9]', '-', 'g') collate "C");
comment on function private.slug is 'A name for file names: signs outside a-z, A-Z, 0-9 are -, in lower case.';

create or replace function private.assert_export_format(p_format text) returns void
language plpgsql stable
as $$
begin
  if p_format not in ('csv', 'json') then
    perform private.refuse_field('format', 'The format must be csv or json.');
  end if;
end
$$;
comment on function private.assert_export_format is 'Errors: 400 VALIDATION_ERROR about field format.';

create or replace function private.export_file(p_name text, p_format text, p_begun jsonb) returns jsonb
language sql stable parallel safe
return p_begun || jsonb_build_object('format', p_format, 'fileName', p_name || '.' || p_format, 'contentType',
  case p_format when 'csv' then 'text/csv; charset=utf-8' when 'zip' then 'application/zip' when 'txt' then 'application/octet-stream'
    else 'application/json' end);
comment on function private.export_file is 'The answer of a call that begins a file.';

-- Where the entries of a page stand in a JSON file: {"<name>": [...], "exportedAt": ..., "totalCount": n}. Here the number is
-- counted along, so it is that of the entries in the file.
create or replace function private.export_part(
  p_format text, p_name text, p_header text, p_lines text, p_entries integer, p_counted bigint, p_is_last boolean, p_after jsonb
) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object(
  'content', case p_format
    when 'csv' then case when p_counted = 0 then p_header else '' end || coalesce(p_lines, '')
    else case when p_counted = 0 then '{"' || p_name || '":[' else '' end || case when p_counted > 0 and p_entries > 0 then ',' else '' end
      || coalesce(p_lines, '') || case when p_is_last then '],"exportedAt":"' || private.iso(now()) || '","totalCount":' || p_counted + p_entries || '}'
        else '' end end,
  'after', case when not p_is_last then p_after || jsonb_build_object('counted', p_counted + p_entries) end));
comment on function private.export_part is 'One part of an export, and where the next one begins unless it is the last.';

grant execute on function private.slug, private.assert_export_format, private.export_file, private.export_part to authenticated;
