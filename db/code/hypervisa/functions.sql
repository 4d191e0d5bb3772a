-- The HyperVisa proxy (contract 60, section 16). The server asks here before it asks upstream: who the caller is, whether the session is
-- theirs, whether the input is fit to be passed on, and whether the plan has a unit left. It holds no transaction while upstream works, and
-- tells afterwards how it ended. The functions are closed to strangers, because upstream is reached by our server alone.

-- {isConfigured}
create or replace function private.enter_hypervisa(p jsonb, p_session_id text default null) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.refuse_strangers('HyperVisa is asked through the API.');
  if private.user_id() is null or private.org_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  elsif p_session_id is not null and not exists (
    select from public.hypervisa_sessions s
    where s.session_id = p_session_id and s.user_id = private.user_id() and s.organization_id = private.org_id())
  then
    perform private.refuse(404, 'SESSION_NOT_FOUND', 'There is no such session.');
  elsif not coalesce((p ->> 'isConfigured')::boolean, false) then
    perform private.refuse(503, 'PROVIDER_NOT_CONFIGURED', 'HyperVisa is not configured on this installation. Ask its operator.', null,
      '{"provider": "hypervisa"}');
  end if;
end
$$;
comment on function private.enter_hypervisa is
  'Authorization: people of an organization through our server only, to sessions of their own. Errors: 401 UNAUTHENTICATED, 403 FORBIDDEN, 404 SESSION_NOT_FOUND, 503 PROVIDER_NOT_CONFIGURED.';

create or replace function private.list_hypervisa_sessions(p jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.enter_hypervisa(p);
  return jsonb_build_object('userId', private.user_id(), 'organizationId', private.org_id(), 'sessions', coalesce((
    select jsonb_agg(s.session_id) from public.hypervisa_sessions s
    where s.user_id = private.user_id() and s.organization_id = private.org_id()), '[]'));
end
$$;
comment on function private.list_hypervisa_sessions is
  'Ids of the caller''s sessions: {userId, organizationId, sessions}. Authorization: only the caller''s own, through our server only. Errors: 503 PROVIDER_NOT_CONFIGURED.';

create or replace function private.hypervisa_text(p_body jsonb, p_name text, p_most integer) returns text
language plpgsql stable
as $$
declare
  v constant text := nullif(private.trimmed(p_body ->> p_name), '');
begin
  if char_length(v) > p_most or not private.is_plain(v) then
    perform private.refuse_field(p_name, format('%s has at most %s characters and no control characters.', p_name, p_most));
  end if;
  return v;
end
$$;
comment on function private.hypervisa_text is 'A member that may be absent or blank, trimmed, or 400 VALIDATION_ERROR about it.';

-- The body to pass on, built from what was checked: no other part of the caller's input reaches upstream. kind: ingest-repo, watch, ingest.
-- {kind, body, directory?}: directory is the cleaned path where it lies below the root that the operator named.
create or replace function private.hypervisa_body(p jsonb) returns jsonb
language plpgsql stable
as $$
declare
  b constant jsonb := private.as_object(p -> 'body', 'body');
  v_name constant text := private.hypervisa_text(b, 'name', 200);
  v_branch text;
  v_repository record;
  v_urls text[];
  v_url text;
begin
  case p ->> 'kind'
    when 'ingest-repo' then
      select * into v_repository from private.parse_repository_url(b ->> 'repo_url');
      if v_repository.provider is null or private.trimmed(b ->> 'repo_url') !~* '^https://[^/?#@]+/' then
        perform private.refuse_field('repo_url', 'This is not the https address of a repository at a Git host that this installation knows.');
      end if;
      v_branch := private.hypervisa_text(b, 'branch', 100);
      if not private.is_branch_name(v_branch) then
        perform private.refuse_field('branch', 'This is not the name of a branch.');
      end if;
      return jsonb_strip_nulls(jsonb_build_object('repo_url', v_repository.url, 'name', v_name, 'branch', v_branch));
    when 'watch' then
      select array_agg(private.trimmed(u.url) order by u.ord) into v_urls
      from jsonb_array_elements_text(private.as_array(b -> 'urls', 'urls')) with ordinality u (url, ord) where private.trimmed(u.url) <> '';
      if coalesce(cardinality(v_urls), 0) not between 1 and 20 then
        perform private.refuse_field('urls', 'Give 1 to 20 addresses of videos.');
      end if;
      foreach v_url in array v_urls loop
        if char_length(v_url) > 2048 or v_url !~* '^https?://(([a-z0-9-]+\.)*youtube\.com|(www\.)?youtu\.be)(:443|:80)?([/?][^[:space:][:cntrl:]\\]*)?$' then
          perform private.refuse_field('urls', 'Only addresses at youtube.com and youtu.be are watched.');
        end if;
      end loop;
      return jsonb_strip_nulls(jsonb_build_object('urls', to_jsonb(v_urls), 'name', v_name));
    when 'ingest' then
      if p ->> 'directory' is null or not private.is_org_admin() then
        perform private.refuse(403, 'DIRECTORY_INGEST_DISABLED', 'Only an owner or admin may ingest a directory, and only below the folder that the operator of this installation named.');
      end if;
      return jsonb_strip_nulls(jsonb_build_object('directory', p ->> 'directory', 'name', v_name));
  end case;
  return null;
end
$$;
comment on function private.hypervisa_body is
  'What upstream gets for a creation. Errors: 400 VALIDATION_ERROR, 403 DIRECTORY_INGEST_DISABLED.';

-- {isConfigured, kind, body, directory?, key?, keyHash?, seconds}: {userId, organizationId, chargedAt, body}; under a key that was used
-- before {answer}, or {isRunning} while the first request waits for upstream. A server that stores no end within these seconds has died.
-- The next request with its key takes over, and the unit that was charged counts for it.
create or replace function private.begin_hypervisa_session(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_body jsonb;
  v record;
  v_key constant text := p ->> 'key';
  v_claim jsonb;
begin
  perform private.refuse_strangers('HyperVisa is asked through the API.');
  v_body := private.hypervisa_body(p);
  perform private.enter_hypervisa(p);
  v_claim := jsonb_build_object('chargedAt', now(), 'until', clock_timestamp() + make_interval(secs => (p ->> 'seconds')::integer));
  if v_key is not null then
    select * into v from private.begin_idempotent(v_key, 'begin_hypervisa_session', decode(p ->> 'keyHash', 'hex'));
    if found then
      if v.response ? 'answer' then
        perform private.set_headers('{"Idempotency-Replayed": "true"}');
        return jsonb_build_object('answer', v.response -> 'answer');
      end if;
      update private.idempotency_keys k set response = v_claim || jsonb_build_object('chargedAt', k.response ->> 'chargedAt')
      where k.user_id = private.user_id() and k.key = v_key and (k.response ->> 'until')::timestamptz <= clock_timestamp()
      returning k.response into v_claim;
      if not found then
        return '{"isRunning": true}';
      end if;
    else
      update private.idempotency_keys k set response = v_claim where k.user_id = private.user_id() and k.key = v_key;
      perform private.consume_quota(private.org_id(), 'ingestions', 1);
    end if;
  else
    perform private.consume_quota(private.org_id(), 'ingestions', 1);
  end if;
  return jsonb_build_object('userId', private.user_id(), 'organizationId', private.org_id(), 'chargedAt', v_claim ->> 'chargedAt', 'body', v_body);
end
$$;
comment on function private.begin_hypervisa_session is
  'Checks and charges the creation of a session. Authorization: people of an organization, through our server only. Errors: 400 VALIDATION_ERROR, 403 DIRECTORY_INGEST_DISABLED, 409 IDEMPOTENCY_CONFLICT, 429 QUOTA_EXCEEDED, 503 PROVIDER_NOT_CONFIGURED.';

-- {isConfigured, hypervisaSessionId, body}: {userId, organizationId, chargedAt, body}
create or replace function private.begin_hypervisa_query(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_limit constant integer := 20;
  v_prompt constant text := private.trimmed(p -> 'body' ->> 'prompt');
  v_rate record;
begin
  perform private.enter_hypervisa(p, coalesce(p ->> 'hypervisaSessionId', ''));
  if coalesce(char_length(v_prompt), 0) not between 1 and 32000 then
    perform private.refuse_field('prompt', 'The prompt has 1 to 32000 characters.');
  end if;
  select * into v_rate from private.take_rate('hypervisa|' || private.user_id(), c_limit, interval '1 minute');
  if not v_rate.allowed then
    perform private.refuse(429, 'RATE_LIMITED', format('You can ask HyperVisa %s times a minute. Please wait a moment.', c_limit), null,
      jsonb_build_object('limit', c_limit, 'remaining', 0, 'resetsAt', private.iso(v_rate.reset_at)));
  end if;
  perform private.consume_quota(private.org_id(), 'oracle_queries', 1);
  return jsonb_build_object('userId', private.user_id(), 'organizationId', private.org_id(), 'chargedAt', now(),
    'body', jsonb_build_object('prompt', v_prompt));
end
$$;
comment on function private.begin_hypervisa_query is
  'Checks and charges a question to a session. Authorization: the owner of the session, through our server only. Errors: 400 VALIDATION_ERROR, 404 SESSION_NOT_FOUND, 429 RATE_LIMITED, QUOTA_EXCEEDED, 503 PROVIDER_NOT_CONFIGURED.';

-- {isConfigured, hypervisaSessionId, key?, keyHash?}: {userId, organizationId}, or {isDone} where the same key has deleted it before.
create or replace function private.begin_hypervisa_deletion(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v record;
begin
  perform private.refuse_strangers('HyperVisa is asked through the API.');
  if p ->> 'key' is not null and private.user_id() is not null then
    select * into v from private.begin_idempotent(p ->> 'key', 'begin_hypervisa_deletion', decode(p ->> 'keyHash', 'hex'));
    if found and v.response = '{"isDone": true}' then
      perform private.set_headers('{"Idempotency-Replayed": "true"}');
      return v.response;
    end if;
  end if;
  perform private.enter_hypervisa(p, coalesce(p ->> 'hypervisaSessionId', ''));
  return jsonb_build_object('userId', private.user_id(), 'organizationId', private.org_id());
end
$$;
comment on function private.begin_hypervisa_deletion is
  'Authorization: the owner of the session, through our server only. Errors: 404 SESSION_NOT_FOUND, 409 IDEMPOTENCY_CONFLICT, 503 PROVIDER_NOT_CONFIGURED.';
grant execute on function private.list_hypervisa_sessions, private.begin_hypervisa_session, private.begin_hypervisa_query,
  private.begin_hypervisa_deletion to authenticated;

-- ------------------------------------------------------------------------------------------------------------------ how it ended

-- {userId, organizationId, sessionId, key?, answer}: false where the id belongs to another caller.
create or replace function private.keep_hypervisa_session(p jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user constant uuid := private.as_uuid(p ->> 'userId');
  v_org constant uuid := private.as_uuid(p ->> 'organizationId');
begin
  insert into public.hypervisa_sessions as s (session_id, organization_id, user_id) values (p ->> 'sessionId', v_org, v_user)
  on conflict (session_id) do update set created_at = clock_timestamp() where s.user_id = v_user and s.organization_id = v_org;
  if not found then
    -- Upstream has used an id twice. Whose content it holds now is unknown, so neither caller has it.
    delete from public.hypervisa_sessions s where s.session_id = p ->> 'sessionId';
    return 'false';
  end if;
  update private.idempotency_keys k set response = jsonb_build_object('answer', p -> 'answer')
  where k.user_id = v_user and k.key = p ->> 'key';
  return 'true';
end
$$;
comment on function private.keep_hypervisa_session is
  'Records the owner of a new session, and the answer under the Idempotency-Key. Authorization: callable by the server only, for the caller of a request.';

-- {userId, organizationId, metric, chargedAt, key?}: upstream has failed.
create or replace function private.refund_hypervisa(p jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_at constant timestamptz := (p ->> 'chargedAt')::timestamptz;
  v_metric constant text := p ->> 'metric';
begin
  if v_metric not in ('ingestions', 'oracle_queries') then
    raise exception 'no unit of % is given back here', v_metric;
  end if;
  perform private.give_back_quota(private.as_uuid(p ->> 'organizationId'), v_metric, private.usage_period(v_metric, v_at), (v_at at time zone 'UTC')::date, 1);
  delete from private.idempotency_keys k
  where k.user_id = private.as_uuid(p ->> 'userId') and k.key = p ->> 'key' and v_metric = 'ingestions' and k.operation = 'begin_hypervisa_session'
    and not k.response ? 'answer';
end
$$;
comment on function private.refund_hypervisa is
  'Gives back the unit of a call that failed upstream, and frees its Idempotency-Key. Authorization: callable by the server only, for the caller of a request.';

-- {userId, organizationId, sessionId, key?}
create or replace function private.drop_hypervisa_session(p jsonb) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from public.hypervisa_sessions s where s.session_id = p ->> 'sessionId' and s.user_id = private.as_uuid(p ->> 'userId')
    and s.organization_id = private.as_uuid(p ->> 'organizationId');
  update private.idempotency_keys k set response = '{"isDone": true}'
  where k.user_id = private.as_uuid(p ->> 'userId') and k.key = p ->> 'key' and k.operation = 'begin_hypervisa_deletion';
end
$$;
comment on function private.drop_hypervisa_session is
  'A session that upstream has deleted, or does not know any more. Authorization: callable by the server only, for the caller of a request.';
grant execute on function private.keep_hypervisa_session, private.refund_hypervisa, private.drop_hypervisa_session to kijko_server;
