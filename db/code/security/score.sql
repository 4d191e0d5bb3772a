-- The security score (contract 40, 6.8): 100 points for the measures that the caller and their organization have in place, computed when it
-- is read.

-- Without keys there is no fault with any key.
create or replace function private.score_of_keys(p_user_id uuid, p_org_id uuid, out is_rotated boolean, out is_scoped boolean, out is_current boolean)
language plpgsql stable security definer set search_path = ''
as $$
begin
  select not bool_or(is_live and k.created_at < now() - interval '90 days'), not bool_or(is_live and k.scope = 'admin'), not bool_or(not is_live)
  into is_rotated, is_scoped, is_current
  from public.api_keys k, lateral (select coalesce(k.expires_at > now(), true)) t (is_live)
  where k.organization_id = p_org_id and k.user_id = p_user_id and k.revoked_at is null;
  is_rotated := coalesce(is_rotated, true);
  is_scoped := coalesce(is_scoped, true);
  is_current := coalesce(is_current, true);
end
$$;
comment on function private.score_of_keys is 'What the keys of a person add to their score. Authorization: callable by functions of ours only.';

-- {item id: whether it is in place}
create or replace function private.score_marks(p_user_id uuid, p_org_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_keys record;
  v record;
begin
  select * into v_keys from private.score_of_keys(p_user_id, p_org_id);
  select u.two_factor_enabled_at is not null as has_second_factor, c.user_id is null or c.meets_policy as is_strong,
    c.user_id is null or c.changed_at > now() - interval '90 days' as is_young,
    private.has_gate(p_org_id, 'security_policies') as has_policies, private.has_gate(p_org_id, 'ip_allow_list') as has_list, s.max_sessions, s.idle_minutes, s.ip_mode,
    exists (select from public.ip_allow_list_entries e where e.organization_id = p_org_id and e.is_active) as has_entries
  into v
  from public.users u
  left join private.credentials c on c.user_id = u.id
  left join public.security_policies s on s.organization_id = p_org_id
  where u.id = p_user_id;
  return jsonb_build_object(
    'auth-1', v.has_second_factor, 'auth-2', v.is_strong, 'auth-3', v.is_young,
    'auth-4', exists (select from private.identities i where i.user_id = p_user_id),
    'auth-5', exists (select from private.backup_codes b where b.user_id = p_user_id and b.used_at is null),
    'sess-1', true, 'sess-2', v.has_policies and v.max_sessions > 0, 'sess-3', true, 'sess-4', v.has_policies and v.idle_minutes > 0,
    'api-1', v_keys.is_rotated, 'api-2', v_keys.is_scoped, 'api-3', v_keys.is_current, 'api-4', true,
    'net-1', v.has_list and v.ip_mode <> 'disabled' and v.has_entries, 'net-2', true, 'net-3', v.has_list and v.ip_mode = 'enforce',
    'comp-1', true, 'comp-2', coalesce((select i.value = 'true' from private.installation i where i.key = 'encryption'), false),
    'comp-3', exists (select from public.compliance_documents));
end
$$;
comment on function private.score_marks is 'Which items of the score are in place. Authorization: callable by definer functions of ours only.';

create or replace function private.security_score() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_org_id uuid := private.require_membership();
  v_marks jsonb := private.score_marks(private.user_id(), v_org_id);
begin
  return (
    with categories (place, category, name, description, impact) as (values
      (1, 'authentication', 'Authentication', 'How you prove who you are.', 'high'),
      (2, 'sessions', 'Sessions', 'How long and where you stay signed in.', 'medium'),
      (3, 'api', 'API keys', 'What programs may do in your name.', 'medium'),
      (4, 'network', 'Network', 'From where your organization is reached.', 'high'),
      (5, 'compliance', 'Compliance', 'What is recorded, encrypted and documented.', 'low')
    ), items (place, category, id, name, description, points, recommendation) as (values
      (1, 'authentication', 'auth-1', 'Two-factor authentication', 'A code of your phone beside your password.', 10, 'Set up two-factor authentication.'),
      (2, 'authentication', 'auth-2', 'Strong password', 'Upper and lower case, a digit, eight characters or more.', 5, 'Choose a stronger password.'),
      (3, 'authentication', 'auth-3', 'Password age', 'Changed within the last 90 days.', 5, 'Change your password.'),
      (4, 'authentication', 'auth-4', 'Single sign-on', 'An account at an identity provider is linked.', 5, 'Link your account at Google or GitHub.'),
      (5, 'authentication', 'auth-5', 'Backup codes', 'A code is left for the day your phone is gone.', 5, 'Make new backup codes.'),
      (6, 'sessions', 'sess-1', 'Session timeout', 'Sessions end after a time.', 5, 'Let sessions end after a time.'),
      (7, 'sessions', 'sess-2', 'Limited sessions', 'The number of sessions at once is limited.', 5, 'Limit how many sessions a person has at once.'),
      (8, 'sessions', 'sess-3', 'Session monitoring', 'Sessions are listed and can be ended.', 5, 'Look through your sessions.'),
      (9, 'sessions', 'sess-4', 'Idle timeout', 'Idle sessions end.', 5, 'Let idle sessions end.'),
      (10, 'api', 'api-1', 'Key rotation', 'No key is older than 90 days.', 5, 'Replace keys that are older than 90 days.'),
      (11, 'api', 'api-2', 'Key scopes', 'No key may do everything.', 5, 'Replace keys with the scope admin.'),
      (12, 'api', 'api-3', 'No expired keys', 'Expired keys are cleared away.', 5, 'Delete expired keys.'),
      (13, 'api', 'api-4', 'Named keys', 'Each key says what it is for.', 5, 'Name your keys.'),
      (14, 'network', 'net-1', 'IP allow-list', 'Your organization lists where people come from.', 5, 'Switch the IP allow-list on and add an address.'),
      (15, 'network', 'net-2', 'Rate limiting', 'Floods of requests are cut off.', 5, 'Limit rates.'),
      (16, 'network', 'net-3', 'Geographic restriction', 'Other addresses are refused.', 5, 'Let the IP allow-list enforce.'),
      (17, 'compliance', 'comp-1', 'Audit logging', 'Who did what is recorded.', 5, 'Record who did what.'),
      (18, 'compliance', 'comp-2', 'Encryption at rest', 'Secrets are stored encrypted.', 5, 'Give the installation an encryption key.'),
      (19, 'compliance', 'comp-3', 'Compliance documents', 'Reports and certificates are on file.', 5, 'Ask the operator for compliance documents.')
    ), checked as (
      select i.*, c.impact, (v_marks ->> i.id)::boolean as is_enabled,
        case when i.category in ('authentication', 'api') then '/settings/security' else '/settings/advanced-security' end as action
      from items i join categories c on c.category = i.category
    )
    select jsonb_build_object(
      'totalScore', (select coalesce(sum(j.points) filter (where j.is_enabled), 0) from checked j),
      'maxScore', 100,
      'categories', (select jsonb_agg(jsonb_build_object('id', c.category, 'name', c.name, 'description', c.description,
          'maxPoints', (select sum(j.points) from checked j where j.category = c.category),
          'earnedPoints', (select coalesce(sum(j.points) filter (where j.is_enabled), 0) from checked j where j.category = c.category),
          'items', (select jsonb_agg(jsonb_build_object('id', j.id, 'name', j.name, 'description', j.description, 'points', j.points, 'isEnabled', j.is_enabled)
            || case when j.is_enabled then '{}' else jsonb_build_object('recommendation', j.recommendation, 'actionUrl', j.action) end order by j.place)
            from checked j where j.category = c.category)) order by c.place) from categories c),
      'recommendations', (select coalesce(jsonb_agg(jsonb_build_object('id', 'rec-' || j.id, 'title', j.name, 'description', j.recommendation, 'impact', j.impact,
          'points', j.points, 'actionUrl', j.action, 'category', j.category)
          order by j.points desc, array_position(array['high', 'medium', 'low'], j.impact), j.place), '[]') from checked j where not j.is_enabled),
      'lastCalculated', private.iso(now())));
end
$$;
comment on function private.security_score is 'SecurityScore of the caller. Authorization: the caller''s own account and organization. Errors: 401 UNAUTHENTICATED, 403 ORG_REQUIRED.';
grant execute on function private.security_score to authenticated;

create or replace function api.get_security_score(p jsonb) returns jsonb
language sql stable
return private.security_score();
comment on function api.get_security_score is 'GET /security/score: SecurityScore. Errors: 401 UNAUTHENTICATED, 403 ORG_REQUIRED.';
grant execute on function api.get_security_score to authenticated;

-- No score is stored, so every reading is computed again.
create or replace function api.refresh_security_score(p jsonb) returns jsonb
language sql stable
return private.security_score();
comment on function api.refresh_security_score is 'POST /security/score/refresh: SecurityScore. Errors: 401 UNAUTHENTICATED, 403 ORG_REQUIRED.';
grant execute on function api.refresh_security_score to authenticated;
