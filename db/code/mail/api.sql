-- The result of an ingestion by mail (contract 10, section 20).

-- The content of the message, as rows of label and value; text and HTML are two forms of them.
create or replace function private.ingestion_result_lines(p_result jsonb) returns table (label text, value text)
language sql immutable
as $$
  select v.label, v.value
  from (select p_result as r, p_result -> 'savingsBreakdown' as s, p_result -> 'performanceStats' as f, 'FM999,999,999,999,999,990' as n) d,
  lateral (values
    ('Project', private.one_line(r ->> 'projectName')),
    ('Tokens before', to_char((r ->> 'originalTokens')::numeric, n)),
    ('Tokens after', to_char((r ->> 'optimizedTokens')::numeric, n)),
    ('Reduction', to_char((r ->> 'reductionPercent')::numeric, 'FM990.0') || ' %'),
    ('Saved by deduplication', to_char((s ->> 'deduplication')::numeric, n)),
    ('Saved by pattern compression', to_char((s ->> 'patternCompression')::numeric, n)),
    ('Saved in whitespace', to_char((s ->> 'whitespace')::numeric, n)),
    ('Saved by import consolidation', to_char((s ->> 'importConsolidation')::numeric, n)),
    ('Files processed', to_char((r ->> 'filesProcessed')::numeric, n)),
    ('Chunks created', to_char((r ->> 'chunksCreated')::numeric, n)),
    ('Languages', (select string_agg(private.one_line(l), ', ') from jsonb_array_elements_text(r -> 'languagesDetected') l)),
    ('Ingestion time', to_char((f ->> 'ingestionTimeSeconds')::numeric, n) || ' s'),
    ('Query latency', to_char((f ->> 'queryLatencyMs')::numeric, n) || ' ms'),
    ('Relevance', to_char((f ->> 'relevanceScore')::numeric, 'FM990.0') || ' %')) v (label, value)
  where v.value is not null
$$;
comment on function private.ingestion_result_lines is 'An IngestionCompletionData as lines for people, in their order; unknown values are left out.';

create or replace function private.mail_ingestion_result(p_project_id uuid, p_email text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_result jsonb;
  v_sender text;
  v_subject text;
begin
  perform private.assert_project_role(p_project_id, 'viewer');
  if private.clean_email(p_email) is null then
    perform private.refuse_field('email', 'This is not an e-mail address.');
  end if;
  v_result := api.get_ingestion_result(jsonb_build_object('projectId', p_project_id));
  if not private.has_mail() then
    perform private.refuse(503, 'PROVIDER_NOT_CONFIGURED', 'This installation cannot send mail.', null, '{"provider": "mail"}');
  end if;
  perform private.take_mail_allowance(private.user_id(), 'ingestion_result', 10);

  select private.one_line(format('%s %s', u.first_name, u.last_name)) || ' (' || u.email || ')' into v_sender
  from public.users u where u.id = private.user_id();
  v_subject := 'Ingestion result of ' || private.one_line(v_result ->> 'projectName');
  perform private.queue_mail('ingestion_result', (select p.organization_id from public.projects p where p.id = p_project_id),
    private.user_id(), private.clean_email(p_email), v_subject,
    format(E'%s sent you the result of an ingestion in Kijko.\n\n', v_sender)
      || (select string_agg(l.label || ': ' || l.value, E'\n') from private.ingestion_result_lines(v_result) l) || E'\n',
    format('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>%s</title></head><body><p>%s sent you the result of an ingestion in Kijko.</p><table>',
        private.html_text(v_subject), private.html_text(v_sender))
      || (select string_agg(format('<tr><th scope="row" align="left">%s</th><td align="right">%s</td></tr>', private.html_text(l.label),
        private.html_text(l.value)), '') from private.ingestion_result_lines(v_result) l) || '</table></body></html>');
end
$$;
comment on function private.mail_ingestion_result is
  'Composes the message and queues it. Authorization: viewer of the project or above. Errors: 404, 403, 400, 503 PROVIDER_NOT_CONFIGURED, 429 RATE_LIMITED.';
grant execute on function private.mail_ingestion_result to authenticated;

create or replace function api.email_ingestion_result(p jsonb) returns jsonb
language plpgsql volatile
as $$
begin
  perform private.mail_ingestion_result(private.as_uuid(p ->> 'projectId'), p -> 'body' ->> 'email');
  return '{"success": true}';
end
$$;
comment on function api.email_ingestion_result is
  'Mails the numbers of the last completed run. Errors: 404 PROJECT_NOT_FOUND, 403 FORBIDDEN, 400 VALIDATION_ERROR, 404 INGESTION_RESULT_NOT_FOUND, 503 PROVIDER_NOT_CONFIGURED, 429 RATE_LIMITED.';
grant execute on function api.email_ingestion_result to authenticated;
