-- Compliance (contract 40, 6.7): rows of the whole platform, kept by its staff. The location of the data comes from the settings of the
-- installation until the staff enter it. Only entered facts are shown.

create or replace function private.compliance_document_json(d public.compliance_documents) returns jsonb
language sql stable parallel safe
return jsonb_strip_nulls(jsonb_build_object('id', d.id, 'framework', d.framework, 'name', d.name, 'description', d.description, 'fileUrl', '',
  'fileSize', d.file_size, 'version', d.version, 'validFrom', d.valid_from, 'validUntil', d.valid_until, 'uploadedAt', private.iso(d.uploaded_at)));
comment on function private.compliance_document_json is 'ComplianceDocument; the server signs fileUrl.';

create or replace function private.data_residency() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return coalesce((select i.value from private.installation i where i.key = 'stated_residency'),
    (select i.value from private.installation i where i.key = 'data_residency'),
    '{"region": "Unknown", "country": "Unknown", "provider": "Unknown", "certifications": []}');
end
$$;
comment on function private.data_residency is 'Where the data of this installation is. Authorization: gives away what is public.';
grant execute on function private.data_residency to authenticated;

create or replace function private.compliance_json() returns jsonb
language sql stable
return (
  select jsonb_build_object(
    'frameworks', (select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('framework', f.framework, 'status', f.status, 'score', f.score,
      'lastAssessment', f.last_assessment, 'nextAssessment', f.next_assessment,
      'documents', coalesce((select jsonb_agg(private.compliance_document_json(d) order by d.name, d.id)
        from public.compliance_documents d where d.framework = f.framework), '[]'),
      'requirements', jsonb_build_object('total', f.requirements_total, 'met', f.requirements_met, 'partial', f.requirements_partial,
        'notMet', f.requirements_total - f.requirements_met - f.requirements_partial))) order by f.position) from public.compliance_frameworks f),
    'dataResidency', private.data_residency(),
    'lastUpdated', private.iso((select greatest(max(f.updated_at), (select max(d.uploaded_at) from public.compliance_documents d)) from public.compliance_frameworks f)))
);
comment on function private.compliance_json is 'ComplianceDashboardData.';
grant execute on function private.compliance_json, private.compliance_document_json to authenticated;

create or replace function api.get_compliance(p jsonb) returns jsonb
language plpgsql stable
as $$
begin
  perform private.require_membership();
  -- The server signs links where the plan includes the documents, and removes this member from the answer.
  return private.compliance_json() || jsonb_build_object('isOpen', private.is_open('compliance_documents'));
end
$$;
comment on function api.get_compliance is 'GET /security/compliance: ComplianceDashboardData. Errors: 401 UNAUTHENTICATED, 403 ORG_REQUIRED.';
grant execute on function api.get_compliance to authenticated;

create or replace function api.download_compliance_document(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_id uuid;
begin
  perform private.require_membership();
  perform private.require_gate('compliance_documents', 'Compliance documents are part of the Enterprise plan.');
  select d.id into v_id from public.compliance_documents d where d.id = private.as_uuid(p ->> 'documentId');
  if v_id is null then
    perform private.refuse(404, 'NOT_FOUND', 'There is no such document.');
  end if;
  return jsonb_build_object('id', v_id);
end
$$;
comment on function api.download_compliance_document is
  'GET /security/compliance/documents/{documentId}/download: which document the server may sign a link to. Errors: 401 UNAUTHENTICATED, 403 ORG_REQUIRED, 403 PLAN_UPGRADE_REQUIRED, 404 NOT_FOUND.';
grant execute on function api.download_compliance_document to authenticated;

-- The content of a document, for a link that the server has signed.
create or replace function private.compliance_file(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select jsonb_build_object('name', d.file_name, 'content', encode(f.content, 'base64'))
    from public.compliance_documents d join private.compliance_files f on f.document_id = d.id
    where d.id = private.as_uuid(p ->> 'documentId'));
end
$$;
comment on function private.compliance_file is 'A document''s content, or null. Authorization: callable by the server only, which has checked the link''s signature.';
grant execute on function private.compliance_file to kijko_server;

-- {frameworks?, dataResidency?}: the named frameworks are set. A list of documents, where one is given, replaces the documents on file. A
-- document that is known by its id keeps its content unless new content comes (content, base64).
create or replace function api.update_compliance(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  b jsonb := private.as_object(p -> 'body', 'body');
  r jsonb := private.as_object(b -> 'dataResidency', 'dataResidency');
  f jsonb;
  q jsonb;
  v_at text;
begin
  perform private.assert_platform_admin();
  if b -> 'dataResidency' is not null then
    if coalesce(r ->> 'region', '') = '' or coalesce(r ->> 'country', '') = '' or coalesce(r ->> 'provider', '') = '' or char_length(r::text) > 5000 then
      perform private.refuse_field('dataResidency', 'dataResidency has a region, a country, a provider and certifications.');
    end if;
    insert into private.installation as i (key, value)
    values ('stated_residency', jsonb_build_object('region', r ->> 'region', 'country', r ->> 'country', 'provider', r ->> 'provider',
      'certifications', coalesce(private.as_array(r -> 'certifications', 'dataResidency.certifications'), '[]')))
    on conflict (key) do update set value = excluded.value, updated_at = now();
  end if;
  for f, v_at in select e.value, 'frameworks[' || e.ordinality - 1 || ']'
    from jsonb_array_elements(coalesce(private.as_array(b -> 'frameworks', 'frameworks'), '[]')) with ordinality e
  loop
    f := private.as_object(f, v_at);
    q := private.as_object(f -> 'requirements', v_at || '.requirements');
    begin
      update public.compliance_frameworks x set status = coalesce(f ->> 'status', x.status), score = coalesce(private.as_int(f -> 'score', v_at || '.score'), x.score),
        last_assessment = case when f ? 'lastAssessment' then (private.as_instant(f ->> 'lastAssessment') at time zone 'UTC')::date else x.last_assessment end,
        next_assessment = case when f ? 'nextAssessment' then (private.as_instant(f ->> 'nextAssessment') at time zone 'UTC')::date else x.next_assessment end,
        requirements_total = coalesce(private.as_int(q -> 'total', v_at || '.requirements.total'), x.requirements_total),
        requirements_met = coalesce(private.as_int(q -> 'met', v_at || '.requirements.met'), x.requirements_met),
        requirements_partial = coalesce(private.as_int(q -> 'partial', v_at || '.requirements.partial'), x.requirements_partial),
        updated_at = clock_timestamp()
      where x.framework = f ->> 'framework';
    exception when check_violation or numeric_value_out_of_range then
      perform private.refuse_field(v_at, 'The status, the score (0 to 100) or the requirements (met and partial within total, at least 1) are not possible.');
    end;
    if not found then
      perform private.refuse_field(v_at || '.framework', 'framework is soc2, iso27001, gdpr or hipaa.');
    end if;
    if f -> 'documents' is not null then
      perform private.set_compliance_documents(f ->> 'framework', private.as_array(f -> 'documents', v_at || '.documents'), v_at || '.documents');
    end if;
  end loop;
  return private.compliance_json();
end
$$;
comment on function api.update_compliance is
  'PUT /admin/compliance: ComplianceDashboardData. Authorization: the staff of this platform only. Errors: 400 VALIDATION_ERROR, 403 FORBIDDEN.';
grant execute on function api.update_compliance to authenticated;

create or replace function private.set_compliance_documents(p_framework text, p_documents jsonb, p_field text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  d jsonb;
  v_at text;
  v_id uuid;
  v_content bytea;
begin
  if jsonb_array_length(p_documents) > 50 then
    perform private.refuse_field(p_field, 'A framework has at most 50 documents.');
  end if;
  delete from public.compliance_documents x where x.framework = p_framework
    and not exists (select from jsonb_array_elements(p_documents) e where private.as_uuid(e.value ->> 'id') = x.id);
  for d, v_at in select e.value, p_field || '[' || e.ordinality - 1 || ']' from jsonb_array_elements(p_documents) with ordinality e loop
    d := private.as_object(d, v_at);
    begin
      v_content := decode(d ->> 'content', 'base64');
      select x.id into v_id from public.compliance_documents x where x.id = private.as_uuid(d ->> 'id') and x.framework = p_framework;
      if v_id is null then
        if v_content is null then
          perform private.refuse_field(v_at || '.content', 'A new document needs its content, in base64.');
        end if;
        insert into public.compliance_documents (framework, name, description, version, file_name, file_size, valid_from, valid_until)
        values (p_framework, d ->> 'name', coalesce(d ->> 'description', ''), coalesce(d ->> 'version', '1.0'),
          coalesce(d ->> 'fileName', p_framework || '.pdf'), octet_length(v_content),
          coalesce((private.as_instant(d ->> 'validFrom') at time zone 'UTC')::date, current_date), (private.as_instant(d ->> 'validUntil') at time zone 'UTC')::date)
        returning id into v_id;
      else
        update public.compliance_documents x set name = coalesce(d ->> 'name', x.name), description = coalesce(d ->> 'description', x.description),
          version = coalesce(d ->> 'version', x.version), file_name = coalesce(d ->> 'fileName', x.file_name),
          file_size = coalesce(octet_length(v_content), x.file_size), uploaded_at = case when v_content is null then x.uploaded_at else now() end,
          valid_from = coalesce((private.as_instant(d ->> 'validFrom') at time zone 'UTC')::date, x.valid_from),
          valid_until = case when d ? 'validUntil' then (private.as_instant(d ->> 'validUntil') at time zone 'UTC')::date else x.valid_until end
        where x.id = v_id;
      end if;
    exception when check_violation or not_null_violation or invalid_parameter_value then
      perform private.refuse_field(v_at, 'The document needs a name, a version, a plain file name, 1 byte to 4 MiB of content in base64, and an end after its beginning.');
    end;
    if v_content is not null then
      insert into private.compliance_files as c (document_id, content) values (v_id, v_content)
      on conflict (document_id) do update set content = excluded.content;
    end if;
  end loop;
end
$$;
comment on function private.set_compliance_documents is 'The documents on file for a framework. Authorization: callable by api.update_compliance only.';
