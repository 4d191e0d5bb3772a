-- How a reflex is shown (contract 20, section 1.6), and how its owner's calls find it.

create or replace function private.webhook_url(p_id uuid) returns text
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return rtrim(coalesce(private.installation_value('api_url') #>> '{}', ''), '/') || '/webhooks/reflex/' || p_id;
end
$$;
comment on function private.webhook_url is 'Address of a webhook, as the installation declares its origin. Gives away no content: it is made of the id.';

-- The sealed secret travels in the answer and the server opens it there, so that showing it costs no second round trip. A caller through
-- psql or Supabase's clients cannot open it, and does not get it either.
create or replace function private.sealed_secret(p_id uuid) returns text
language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  if private.is_stranger() then
    return null;
  end if;
  return (
    select s.sealed from private.reflex_secrets s join public.reflexes r on r.id = s.reflex_id
    where s.reflex_id = p_id and r.user_id = private.user_id()
  );
end
$$;
comment on function private.sealed_secret is
  'Sealed secret of a webhook, for the server to open; null for any other caller. Authorization: own reflexes, through our server only.';

create or replace function private.reflex_json(r public.reflexes) returns jsonb
language plpgsql stable
as $$
begin
  return jsonb_strip_nulls(jsonb_build_object(
    'id', r.id, 'skillId', r.skill_id, 'userId', r.user_id, 'triggerType', r.trigger_type,
    'triggerConfig', r.trigger_config || case when r.trigger_type = 'webhook'
      then jsonb_build_object('url', private.webhook_url(r.id), 'secret', private.sealed_secret(r.id)) else '{}' end,
    'conditions', r.conditions, 'isActive', r.is_active, 'triggerCount', r.trigger_count, 'lastTriggeredAt', private.iso(r.last_triggered_at),
    'consecutiveFailures', r.consecutive_failures, 'lastErrorMessage', r.last_error_message, 'createdAt', private.iso(r.created_at),
    'updatedAt', private.iso(r.updated_at)));
end
$$;
comment on function private.reflex_json is 'Reflex of the contract; a webhook''s secret is sealed and opened by the server.';

create or replace function private.own_reflex(p jsonb) returns public.reflexes
language plpgsql stable
as $$
declare
  r public.reflexes;
begin
  select * into r from public.reflexes x where x.id = private.as_uuid(p ->> 'reflexId') and x.user_id = private.user_id();
  if not found then
    perform private.refuse(404, 'REFLEX_NOT_FOUND', format('Reflex with ID %s not found', left(coalesce(p ->> 'reflexId', ''), 100)));
  end if;
  return r;
end
$$;
comment on function private.own_reflex is 'The caller''s reflex that the path names. Errors: 404 REFLEX_NOT_FOUND.';

create or replace function private.own_webhook(p jsonb) returns public.reflexes
language plpgsql stable
as $$
declare
  r public.reflexes := private.own_reflex(p);
begin
  if r.trigger_type <> 'webhook' then
    perform private.refuse(409, 'NOT_WEBHOOK', 'This reflex is not triggered by a webhook');
  end if;
  return r;
end
$$;
comment on function private.own_webhook is 'The same, for what only webhooks have. Errors: 404 REFLEX_NOT_FOUND, 409 NOT_WEBHOOK.';

create or replace function private.keep_secret(p_id uuid, p_sealed text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if private.is_stranger() then
    perform private.refuse(403, 'FORBIDDEN', 'Secrets are made by the server.');
  end if;
  insert into private.reflex_secrets as s (reflex_id, sealed)
  select r.id, p_sealed from public.reflexes r where r.id = p_id and r.user_id = private.user_id() and r.trigger_type = 'webhook'
  on conflict (reflex_id) do update set sealed = excluded.sealed, created_at = now();
end
$$;
comment on function private.keep_secret is
  'Stores the sealed secret of a webhook; the old one is void at once. Authorization: own webhooks, through our server only. Errors: 403 FORBIDDEN.';

-- Activates the reflex again and clears its errors. No role may write the counters, hence a definer function.
create or replace function private.revive_reflex(p_id uuid, p_checked boolean) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_checked then
    perform private.assert_skill_runs(r.skill_id, r.user_id) from public.reflexes r where r.id = p_id and r.user_id = private.user_id();
  end if;
  perform set_config('app.reviving', 'on', true);
  update public.reflexes set is_active = true, consecutive_failures = 0, last_error_message = null
  where id = p_id and user_id = private.user_id();
  perform set_config('app.reviving', '', true);
end
$$;
comment on function private.revive_reflex is
  'Switches a reflex on and forgets its failures; p_checked asks for the skill. Authorization: own reflexes only. Errors: 409 SKILL_INACTIVE, 404 SKILL_NOT_FOUND.';

create or replace function private.assert_skill_runs(p_skill_id uuid, p_user_id uuid) returns void
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_active boolean := (select s.is_active from public.skills s where s.id = p_skill_id
    and (s.is_public or s.user_id = p_user_id and (p_user_id = private.user_id() or not private.is_stranger())));
begin
  if v_active is false then
    perform private.refuse(409, 'SKILL_INACTIVE', 'Cannot activate reflex: associated skill is inactive');
  elsif not private.sees_skill(p_user_id, p_skill_id) then
    perform private.refuse_skill(p_skill_id::text);
  end if;
end
$$;
comment on function private.assert_skill_runs is
  '409 SKILL_INACTIVE or 404 SKILL_NOT_FOUND unless the skill could run for the person. Authorization: as private.sees_skill.';
grant execute on function private.webhook_url, private.sealed_secret, private.reflex_json, private.own_reflex, private.own_webhook,
  private.keep_secret, private.revive_reflex, private.assert_skill_runs to authenticated;
