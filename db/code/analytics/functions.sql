-- Analytics (contract 60, section 18): what a client says about the use of its screens. A bad event is rejected alone, because a batch is
-- sent once, at times while its page closes, and the client does not read the answer.

create or replace function private.analytics_types() returns text[]
language sql immutable parallel safe
return array['project_creation_started', 'project_step_completed', 'ingestion_started', 'ingestion_phase_completed', 'ingestion_completed',
  'conversion_signal', 'error_occurred', 'error_recovered', 'persona_detected', 'persona_override'];
comment on function private.analytics_types is 'The types of events, in the order of the contract.';

-- The length of a value as JSON without blanks, which is how clients send it; jsonb as text has a blank after each colon and comma.
create or replace function private.compact_length(p_value jsonb) returns bigint
language sql immutable parallel safe
as $$
  select octet_length(p_value::text) - coalesce(sum(case jsonb_typeof(v) when 'object' then 2 * n.members - 1 else jsonb_array_length(v) - 1 end), 0)
  from jsonb_path_query(p_value, 'strict $.** ? (@.type() == "object" && exists(@.keyvalue()) || @.type() == "array" && @.size() > 0)') v,
    lateral (select case jsonb_typeof(v) when 'object' then (select count(*) from jsonb_object_keys(v)) end) n (members)
$$;
comment on function private.compact_length is 'Bytes of the JSON that a client sent for the value.';

-- The member of an event that is wrong, or null. p_at is its time, read.
create or replace function private.analytics_fault(p_event jsonb, p_at timestamptz) returns text
language sql stable parallel safe
return case
  when jsonb_typeof(p_event) <> 'object' then 'event'
  when jsonb_typeof(p_event -> 'type') is distinct from 'string' or (p_event ->> 'type') <> all (private.analytics_types()) then 'type'
  when jsonb_typeof(p_event -> 'timestamp') is distinct from 'string' or p_at is null then 'timestamp'
  when coalesce(p_event -> 'persona', 'null') not in ('null', '"alex"', '"maya"', '"sam"') then 'persona'
  when jsonb_typeof(p_event -> 'sessionId') is distinct from 'string' or char_length(p_event ->> 'sessionId') not between 1 and 64 then 'sessionId'
  when jsonb_typeof(p_event -> 'properties') is distinct from 'object'
    or octet_length((p_event -> 'properties')::text) > 8192 and private.compact_length(p_event -> 'properties') > 8192
    -- The properties are the first level; scalars may stand in the fifth.
    or jsonb_path_exists(p_event -> 'properties', 'strict $.**{5} ? (@.type() == "object" || @.type() == "array")') then 'properties'
end;
comment on function private.analytics_fault is 'The member of an event for which it is rejected: event for one that is none; null for a good one.';

create or replace function private.analytics_message(p_field text) returns text
language sql immutable parallel safe
return case p_field
  when 'event' then 'An event is an object of valid text and numbers.'
  when 'type' then 'The type is not a known one.'
  when 'timestamp' then 'The timestamp must be an ISO-8601 time.'
  when 'persona' then 'The persona must be alex, maya, sam or null.'
  when 'sessionId' then 'The sessionId must be a text of 1 to 64 characters.'
  when 'properties' then 'The properties must be an object of at most 8 KB and 5 levels.' end;
comment on function private.analytics_message is 'The sentence about a member for which an event is rejected.';

create or replace function private.track_events(p_events jsonb) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_user constant uuid := private.user_id();
  v_org constant uuid := private.org_id();
  v_answer jsonb;
begin
  perform private.refuse_strangers('Events are sent through the API, which limits their number.');
  if jsonb_typeof(p_events) is distinct from 'array' then
    perform private.refuse_field('events', 'events must be a list.');
  elsif jsonb_array_length(p_events) not between 1 and 100 then
    perform private.refuse_field('events', 'A request has 1 to 100 events.');
  end if;
  with given as materialized (
    select e.n - 1 as place, e.value as event, case when jsonb_typeof(e.value -> 'timestamp') = 'string' then private.as_instant(e.value ->> 'timestamp') end as at
    from jsonb_array_elements(p_events) with ordinality e (value, n)
  ), checked as materialized (
    select g.*, private.analytics_fault(g.event, g.at) as fault from given g
  ), stored as (
    insert into private.analytics_events (organization_id, user_id, session_id, type, persona, occurred_at, client_timestamp, properties, digest)
    select v_org, v_user, j.event ->> 'sessionId', j.event ->> 'type', j.event ->> 'persona',
      case when j.at between now() - interval '7 days' and now() + interval '5 minutes' then j.at else now() end, j.at, j.event -> 'properties', d.digest
    from checked j, lateral (select substr(sha256(convert_to(jsonb_build_array(j.event -> 'sessionId', j.event -> 'type', j.at, j.event -> 'properties')::text, 'UTF8')), 1, 16)) d (digest)
    where j.fault is null
    -- Two requests with the same events take their entries of the index in one order.
    order by d.digest
    on conflict (digest) where digest is not null do nothing
  )
  select jsonb_strip_nulls(jsonb_build_object('accepted', count(*) filter (where fault is null), 'rejected', count(fault),
    'errors', jsonb_agg(jsonb_build_object('index', place, 'field', fault, 'message', private.analytics_message(fault)) order by place) filter (where fault is not null)))
  into v_answer from checked;
  return v_answer;
end
$$;
comment on function private.track_events is
  'Stores the good ones of 1 to 100 events, each once. Authorization: through our server only; the caller, if there is one, is the sender. Errors: 400 VALIDATION_ERROR.';
grant execute on function private.track_events to anon, authenticated;

create or replace function private.analytics_funnel(p_started bigint, p_ingesting bigint, p_completed bigint) returns jsonb
language sql stable parallel safe
return jsonb_build_object('started', p_started, 'ingestionStarted', p_ingesting, 'completed', p_completed,
  'completedPercent', case when p_started = 0 then 0 else round(100.0 * p_completed / p_started, 1) end);
comment on function private.analytics_funnel is 'The steps from the beginning of a project to its completed ingestion.';

-- A session is one visit of one browser. An event that has lost its organization is in no summary.
create or replace function private.analytics_summary(p_from timestamptz, p_to timestamptz) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org constant uuid := private.org_id();
begin
  if not private.is_org_admin() then
    perform private.refuse(403, 'FORBIDDEN', 'Only owners and admins of the organization see its analytics.', null, '{"required": ["owner", "admin"]}');
  end if;
  return (
    with found as (
      select e.type, e.persona, e.session_id from private.analytics_events e where e.organization_id = v_org and e.occurred_at >= p_from and e.occurred_at < p_to
    ), visits as (
      select f.session_id, max(f.persona) as persona, bool_or(f.type = 'project_creation_started') as started, bool_or(f.type = 'ingestion_started') as ingesting,
        bool_or(f.type = 'ingestion_completed') as completed
      from found f group by f.session_id
    )
    select jsonb_build_object('from', private.iso(p_from), 'to', private.iso(p_to), 'total', (select count(*) from found),
      'events', (select jsonb_agg(jsonb_build_object('type', t.type, 'count', coalesce(c.n, 0)) order by t.place)
        from unnest(private.analytics_types()) with ordinality t (type, place)
        left join (select f.type, count(*) as n from found f group by f.type) c on c.type = t.type),
      'funnel', (select private.analytics_funnel(count(*) filter (where v.started), count(*) filter (where v.started and v.ingesting),
        count(*) filter (where v.started and v.completed)) from visits v),
      'personas', (select jsonb_agg(jsonb_build_object('persona', p.persona, 'events', coalesce(c.n, 0))
          || private.analytics_funnel(coalesce(x.started, 0), coalesce(x.ingesting, 0), coalesce(x.completed, 0)) order by p.place)
        from unnest(array['alex', 'maya', 'sam', 'unknown']) with ordinality p (persona, place)
        left join (select coalesce(f.persona, 'unknown') as persona, count(*) as n from found f group by 1) c on c.persona = p.persona
        left join (select coalesce(v.persona, 'unknown') as persona, count(*) filter (where v.started) as started,
          count(*) filter (where v.started and v.ingesting) as ingesting, count(*) filter (where v.started and v.completed) as completed
          from visits v group by 1) x on x.persona = p.persona))
  );
end
$$;
comment on function private.analytics_summary is 'AnalyticsSummary of the caller''s organization. Authorization: its owner and admins. Errors: 403 FORBIDDEN.';
grant execute on function private.analytics_summary to authenticated;

-- What an event has of a person goes at once. The project that it names would lead back to the organization.
create or replace function private.tg_analytics_events__forget() returns trigger
language plpgsql volatile set search_path = ''
as $$
begin
  new.user_id := null;
  new.organization_id := null;
  new.session_id := null;
  new.digest := null;
  new.properties := new.properties - 'project_id';
  return new;
end
$$;
comment on function private.tg_analytics_events__forget is 'Trigger: an event that loses its person, organization or session loses all of them.';
create or replace trigger _100_forget before update on private.analytics_events
  for each row when (new.session_id is null or new.user_id is distinct from old.user_id or new.organization_id is distinct from old.organization_id)
  execute function private.tg_analytics_events__forget();
