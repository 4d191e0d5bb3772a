-- Detection of a persona (contract 60, section 19): the scoring that the client does in the browser, for defaults and reports.

create or replace function private.default_signals() returns jsonb
language sql immutable parallel safe
return '{"teamSize": 1, "usesLightweightTools": true, "focusOnCost": true, "downloadsSecurityDocs": false, "asksAboutCompliance": false,
  "usesAPIFrequently": false, "readsDocumentation": false, "participatesInCommunity": false}'::jsonb;
comment on function private.default_signals is 'The signals of a person of whom nothing is known.';

-- Signals that are missing count as absent: 0 people, or false.
create or replace function private.score_persona(p_signals jsonb, out alex integer, out maya integer, out sam integer)
language sql immutable parallel safe
as $$
  select case when s.team = 1 then 30 when s.team <= 5 then 15 else 0 end
      + case when p_signals -> 'usesLightweightTools' = 'true' then 20 else 0 end
      + case when p_signals -> 'focusOnCost' = 'true' then 25 else 0 end,
    case when s.team > 50 then 40 when s.team > 10 then 24 when s.team > 5 then 12 else 0 end
      + case when p_signals -> 'downloadsSecurityDocs' = 'true' then 30 else 0 end
      + case when p_signals -> 'asksAboutCompliance' = 'true' then 25 else 0 end,
    case when p_signals -> 'usesAPIFrequently' = 'true' then 35 else 0 end
      + case when p_signals -> 'readsDocumentation' = 'true' then 20 else 0 end
      + case when p_signals -> 'participatesInCommunity' = 'true' then 25 else 0 end
  from (select case when jsonb_typeof(p_signals -> 'teamSize') = 'number' then (p_signals -> 'teamSize')::numeric else 0 end) s (team)
$$;
comment on function private.score_persona is 'The points of each persona for the signals.';

-- A close result means alex, if alex is one of the two. The confidence speaks of the highest score, also then.
create or replace function private.detect_persona(p_alex integer, p_maya integer, p_sam integer, out persona text, out confidence text)
language sql immutable parallel safe
as $$
  select case when r.scores[1] - r.scores[2] <= 10 and 'alex' in (r.names[1], r.names[2]) then 'alex' else r.names[1] end,
    case when r.scores[1] - r.scores[2] >= 30 and r.scores[1] >= 50 then 'high' when r.scores[1] - r.scores[2] >= 15 and r.scores[1] >= 30 then 'medium' else 'low' end
  from (
    select array_agg(v.name order by v.score desc, v.position) as names, array_agg(v.score order by v.score desc, v.position) as scores
    from (values ('alex', p_alex, 1), ('maya', p_maya, 2), ('sam', p_sam, 3)) v (name, score, position)
  ) r
$$;
comment on function private.detect_persona is 'The persona that the points mean, and how sure that is: high, medium or low.';

-- What the server knows of the caller: the size of their team, and whether a program of theirs used the API lately.
create or replace function private.known_signals() returns jsonb
language sql stable
as $$
  select jsonb_build_object(
    'teamSize', greatest(1, (select count(*) from public.memberships m where m.organization_id = private.org_id() and m.status = 'active')),
    'usesAPIFrequently', exists (select from public.api_keys k where k.user_id = private.user_id() and k.last_used_at > now() - interval '30 days'))
$$;
comment on function private.known_signals is 'The signals that the server knows of the caller.';

create or replace function private.persona_json(p public.user_personas) returns jsonb
language plpgsql stable
as $$
declare
  v_signals jsonb := private.default_signals() || private.known_signals() || coalesce(p.signals, '{}');
  s record := private.score_persona(v_signals);
  d record := private.detect_persona(s.alex, s.maya, s.sam);
begin
  return jsonb_strip_nulls(jsonb_build_object('persona', coalesce(p.override, d.persona),
    'scores', jsonb_build_array(jsonb_build_object('type', 'alex', 'score', s.alex), jsonb_build_object('type', 'maya', 'score', s.maya),
      jsonb_build_object('type', 'sam', 'score', s.sam)),
    'confidence', d.confidence, 'signals', v_signals, 'override', p.override, 'showAllOptions', coalesce(p.show_all_options, false)));
end
$$;
comment on function private.persona_json is
  'PersonaDetectionResult of the caller. An override is the persona; scores and confidence are always those of the signals.';

-- The signals of a body, checked. The last value of a signal counts; null takes it back.
create or replace function private.as_signals(p_value jsonb, p_current jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_given jsonb := private.as_object(p_value, 'signals');
  v_name text;
  v_size integer;
begin
  for v_name in select jsonb_object_keys(v_given) loop
    if v_given -> v_name = 'null' then
      continue;
    elsif v_name = 'teamSize' then
      v_size := private.as_int(v_given -> 'teamSize', 'signals.teamSize');
      if v_size not between 0 and 1000000 then
        perform private.refuse_field('signals.teamSize', 'A team has 0 to 1,000,000 people.');
      end if;
      v_given := v_given || jsonb_build_object('teamSize', v_size);
    elsif private.default_signals() ? v_name then
      v_given := v_given || jsonb_build_object(v_name, private.as_bool(v_given -> v_name, 'signals.' || v_name));
    else
      perform private.refuse_field('signals.' || left(v_name, 100), 'This is no known signal.');
    end if;
  end loop;
  return jsonb_strip_nulls(p_current || v_given);
end
$$;
comment on function private.as_signals is 'The stored signals with those of a body, or 400 VALIDATION_ERROR about a signal.';

create or replace function private.write_persona(p_body jsonb) returns public.user_personas
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v public.user_personas;
begin
  if private.user_id() is null then
    perform private.refuse(401, 'UNAUTHENTICATED', 'Please sign in.');
  end if;
  insert into public.user_personas (user_id) values (private.user_id()) on conflict (user_id) do nothing;
  select * into v from public.user_personas x where x.user_id = private.user_id() for update;
  if p_body ? 'override' then
    if p_body -> 'override' not in ('null', '"alex"', '"maya"', '"sam"') then
      perform private.refuse_field('override', 'override must be one of alex, maya, sam, or null.');
    end if;
    v.override := p_body ->> 'override';
  end if;
  update public.user_personas x
  set override = v.override, show_all_options = coalesce(private.as_bool(p_body -> 'showAllOptions', 'showAllOptions'), v.show_all_options),
    signals = case when p_body -> 'signals' = 'null' then '{}' else private.as_signals(p_body -> 'signals', v.signals) end, updated_at = clock_timestamp()
  where x.user_id = v.user_id
  returning * into v;
  return v;
end
$$;
comment on function private.write_persona is
  'Changes the members that the body names. Authorization: the caller''s own row. Errors: 400 VALIDATION_ERROR.';

grant execute on function private.default_signals, private.score_persona, private.detect_persona, private.known_signals, private.persona_json,
  private.as_signals, private.write_persona to authenticated;
