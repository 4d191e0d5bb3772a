-- Who may do what to whom in a project (contract 10, sections 5.2 and 5.3): each actor, each target and each action, in every way to call:
-- the operations of the four screens, and the table itself by Supabase's API or psql. A rule of the test's own gives the expected result.
begin;
select no_plan();

-- Anna owns the project. Olga is an admin of her organization without a row. Mia is a member of it without one: the project is shared, so
-- she is a viewer. Gus and Pia come from other organizations: he is a manager, she has not accepted. Stan is a stranger.
select tests.user('anna'), tests.member('olga', 'anna', 'admin'), tests.member('mia', 'anna'), tests.user('gus'), tests.user('pia'), tests.user('stan');
select tests.member(n, 'anna') from unnest(array['ada', 'ad2', 'max', 'ma2', 'dev', 'vi', 'udo']) n;
create function pg_temp.pid() returns uuid language sql as $$ select '00000000-0000-4000-8000-0000000000aa'::uuid $$;
select tests.act_as('anna');
select api.create_project(jsonb_build_object('body', jsonb_build_object('id', pg_temp.pid(), 'name', 'Shared one', 'privacy', 'shared'))) is not null;
select tests.reset();
insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
select tests.org('anna'), pg_temp.pid(), tests.user(n), n || '@example.nl', r, now()
from (values ('ada', 'admin'), ('ad2', 'admin'), ('max', 'manager'), ('ma2', 'manager'), ('gus', 'manager'), ('dev', 'developer'), ('vi', 'viewer'),
  ('udo', 'auditor')) v (n, r);
insert into public.project_members (organization_id, project_id, email, role)
select tests.org('anna'), pg_temp.pid(), case r when 'manager' then 'pia' else 'invited.' || r end || '@example.nl', r from unnest(array['admin', 'manager', 'developer', 'viewer', 'auditor']) r;
-- Sent long ago, so that they may be sent again.
update private.project_invitations set sent_at = now() - interval '1 hour';

create temp table actors (actor text, role text);
insert into actors values ('anna', 'owner'), ('olga', 'admin'), ('ada', 'admin'), ('max', 'manager'), ('gus', 'manager'), ('dev', 'developer'), ('vi', 'viewer'), ('mia', 'viewer'),
  ('udo', 'auditor'), ('pia', null), ('stan', null);
create temp table targets as
select m.id, m.user_id, m.email, m.accepted_at is null as pending, case when m.user_id = tests.user('anna') then 'owner' else m.role end as role, m.role as stored
from public.project_members m where m.project_id = pg_temp.pid();
grant select on actors, targets to public;
select is((select count(*)::integer from targets), 14, 'everybody is there');

-- Operations that call the same function are tried by one actor of each kind.
create function pg_temp.tries(p_actor text, p_door text) returns boolean language sql as $$
  select p_door in ('members', 'users', 'table', 'cancel', 'resend', 'colleague') or p_actor in ('anna', 'max', 'dev', 'pia') $$;
create function pg_temp.code(p_actor text, p_sql text) returns text language plpgsql as $$
declare
  v_detail text;
  v_rows integer;
begin
  perform tests.act_as(p_actor);
  begin
    execute p_sql;
    get diagnostics v_rows = row_count;
    raise exception using errcode = 'ZZ000', message = case when v_rows = 0 then 'nothing' else 'ok' end;
  exception
    when sqlstate 'ZZ000' then v_detail := sqlerrm;
    when others then
      get stacked diagnostics v_detail = pg_exception_detail;
      v_detail := coalesce(nullif(v_detail, '')::jsonb ->> 'code', sqlstate);
  end;
  perform tests.reset();
  return v_detail;
end $$;
create function pg_temp.rank(p text) returns integer language sql as $$
  select array_position(array['viewer', 'developer', 'manager', 'admin', 'owner'], case p when 'auditor' then 'viewer' else p end) $$;

-- The rule: hidden projects answer 404; the owner cannot be changed; no actor acts on their own row; a minimum rank is needed; only lower
-- ranks can be targets, except for the owner; no role above the actor's own is granted.
create function pg_temp.wanted(p_actor text, p_target text, p_self boolean, p_minimum text, p_grant text default null) returns text language sql as $$
  select case
    when p_actor is null then 'hidden'
    when pg_temp.rank(p_actor) < pg_temp.rank(p_minimum) and not (p_self and p_target <> 'owner') then 'FORBIDDEN'
    when p_target = 'owner' then 'OWNER_REQUIRED'
    when p_self then 'CANNOT_MANAGE_SELF'
    when p_actor <> 'owner' and pg_temp.rank(p_target) >= pg_temp.rank(p_actor) then 'FORBIDDEN'
    when pg_temp.rank(p_grant) > pg_temp.rank(p_actor) then 'FORBIDDEN'
    else 'ok' end $$;

-- Removing, in each way. A row that policies hide from a writer stays, without an error.
create temp table removals (door text, statement text, hidden text);
insert into removals values
  ('members', $$ select api.remove_project_member('{"projectId": "PROJECT", "memberId": "MEMBER"}') $$, 'PROJECT_NOT_FOUND'),
  ('users', $$ select api.remove_project_user('{"projectUserId": "MEMBER"}') $$, 'MEMBER_NOT_FOUND'),
  ('access', $$ select api.remove_access('{"projectId": "PROJECT", "memberId": "MEMBER"}') $$, 'PROJECT_NOT_FOUND'),
  ('contexts', $$ select api.remove_context_user('{"contextId": "PROJECT", "userId": "MEMBER"}') $$, 'CONTEXT_NOT_FOUND'),
  ('table', $$ delete from public.project_members where id = 'MEMBER' $$, 'nothing');
grant select on removals to public;
create function pg_temp.fill(p_sql text, p_member uuid) returns text language sql as $$ select replace(replace(p_sql, 'PROJECT', pg_temp.pid()::text), 'MEMBER', coalesce(p_member::text, '')) $$;
create function pg_temp.by_door(p_wanted text, p_door text, p_hidden text, p_role text, p_minimum text) returns text language sql as $$
  select case when p_wanted = 'hidden' then p_hidden when p_door = 'table' and pg_temp.rank(p_role) < pg_temp.rank(p_minimum) then 'nothing' else p_wanted end $$;
select is(pg_temp.code(a.actor, pg_temp.fill(d.statement, t.id)),
  pg_temp.by_door(pg_temp.wanted(a.role, t.role, coalesce(t.user_id = tests.user(a.actor), false), 'manager'), d.door, d.hidden, a.role, 'manager'),
  format('%s: %s (%s) removes %s (%s)', d.door, a.actor, a.role, t.email, t.role))
from actors a, targets t, removals d where pg_temp.tries(a.actor, d.door) order by d.door, a.actor, t.email;

-- Roles as they are stored.
create temp table changes (door text, statement text, hidden text);
insert into changes values
  ('members', $$ select api.update_project_member('{"projectId": "PROJECT", "memberId": "MEMBER", "body": {"role": "ROLE"}}') $$, 'PROJECT_NOT_FOUND'),
  ('table', $$ update public.project_members set role = 'ROLE' where id = 'MEMBER' $$, 'nothing');
grant select on changes to public;
select is(pg_temp.code(a.actor, pg_temp.fill(replace(d.statement, 'ROLE', r), t.id)),
  case when d.door = 'table' and a.role is not null and pg_temp.rank(a.role) < 3 and t.user_id = tests.user(a.actor) then
    -- An actor's own row is visible because of its flags.
    'CANNOT_MANAGE_SELF'
  else pg_temp.by_door(pg_temp.wanted(a.role, t.role, coalesce(t.user_id = tests.user(a.actor), false), 'admin', r), d.door, d.hidden, a.role, 'manager') end,
  format('%s: %s (%s) makes %s (%s) a %s', d.door, a.actor, a.role, t.email, t.role, r))
from actors a, targets t, changes d, unnest(array['admin', 'manager', 'developer', 'viewer', 'auditor']) r where r <> t.stored order by d.door, a.actor, t.email, r;

-- Roles as they are shown. Writing owner is a transfer, which only the owner may do, and only to members who have accepted.
create temp table shown (door text, statement text, hidden text);
insert into shown values
  ('users', $$ select api.update_project_user('{"projectUserId": "MEMBER", "body": {"role": "ROLE"}}') $$, 'MEMBER_NOT_FOUND'),
  ('access', $$ select api.update_access('{"projectId": "PROJECT", "memberId": "MEMBER", "body": {"role": "ROLE"}}') $$, 'PROJECT_NOT_FOUND'),
  ('contexts', $$ select api.update_context_user('{"contextId": "PROJECT", "userId": "MEMBER", "body": {"role": "ROLE"}}') $$, 'CONTEXT_NOT_FOUND');
grant select on shown to public;
select is(pg_temp.code(a.actor, pg_temp.fill(replace(d.statement, 'ROLE', r), t.id)),
  case when a.role is null then d.hidden
    when r <> 'owner' then pg_temp.wanted(a.role, t.role, coalesce(t.user_id = tests.user(a.actor), false), 'admin', case r when 'editor' then 'developer' else r end)
    when a.role <> 'owner' then 'FORBIDDEN' when t.role = 'owner' then 'CANNOT_MANAGE_SELF' when t.pending then 'MEMBER_INACTIVE' else 'ok' end,
  format('%s: %s (%s) shows %s (%s) as %s', d.door, a.actor, a.role, t.email, t.role, r))
from actors a, targets t, shown d, unnest(array['owner', 'admin', 'editor', 'viewer']) r where pg_temp.tries(a.actor, d.door) order by d.door, a.actor, t.email, r;

-- Invitations: withdrawn and sent again while they are pending.
create temp table handled (door text, statement text, hidden text);
insert into handled values
  ('cancel', $$ select api.cancel_project_invitation('{"projectId": "PROJECT", "memberId": "MEMBER"}') $$, 'PROJECT_NOT_FOUND'),
  ('resend', $$ select api.resend_project_invitation('{"projectId": "PROJECT", "memberId": "MEMBER"}') $$, 'PROJECT_NOT_FOUND'),
  ('resend access', $$ select api.resend_access('{"projectId": "PROJECT", "memberId": "MEMBER"}') $$, 'PROJECT_NOT_FOUND'),
  ('resend context', $$ select api.resend_context_invite('{"contextId": "PROJECT", "userId": "MEMBER"}') $$, 'CONTEXT_NOT_FOUND');
grant select on handled to public;
select is(pg_temp.code(a.actor, pg_temp.fill(d.statement, t.id)),
  case when a.role is null then d.hidden when pg_temp.rank(a.role) < 3 then 'FORBIDDEN' when not t.pending then 'ALREADY_ACCEPTED'
    else pg_temp.wanted(a.role, t.role, false, 'manager') end,
  format('%s: %s (%s) and %s (%s)', d.door, a.actor, a.role, t.email, t.role))
from actors a, targets t, handled d where pg_temp.tries(a.actor, d.door) order by d.door, a.actor, t.email;

-- Flags: the actor's own, or those of lower ranks, from manager on.
select is(pg_temp.code(a.actor, pg_temp.fill($$ select api.update_project_member('{"projectId": "PROJECT", "memberId": "MEMBER", "body": {"notifyOnError": false, "more": 1}}') $$, t.id)),
  case when a.role is null then 'PROJECT_NOT_FOUND' when t.user_id = tests.user(a.actor) then 'ok' else pg_temp.wanted(a.role, t.role, false, 'manager') end,
  format('flags: %s (%s) of %s (%s)', a.actor, a.role, t.email, t.role))
from actors a, targets t order by a.actor, t.email;

-- Adding: managers and above, with no role above their own.
create temp table additions (door text, statement text, hidden text);
insert into additions values
  ('members', $$ select api.add_project_member('{"projectId": "PROJECT", "body": {"email": "new@example.org", "role": "ROLE"}}') $$, 'PROJECT_NOT_FOUND'),
  ('users', $$ select api.add_project_user('{"projectId": "PROJECT", "body": {"email": "new@example.org", "role": "SHOWN"}}') $$, 'PROJECT_NOT_FOUND'),
  ('colleague', $$ select api.add_project_user('{"projectId": "PROJECT", "body": {"email": "mia@example.nl", "role": "SHOWN"}}') $$, 'PROJECT_NOT_FOUND'),
  ('access', $$ select api.add_access('{"projectId": "PROJECT", "body": {"email": "new@example.org", "role": "SHOWN"}}') $$, 'PROJECT_NOT_FOUND'),
  ('contexts', $$ select api.invite_context_user('{"contextId": "PROJECT", "body": {"email": "new@example.org", "role": "SHOWN"}}') $$, 'CONTEXT_NOT_FOUND'),
  ('table', $$ insert into public.project_members (organization_id, project_id, email, role) values (tests.org('anna'), 'PROJECT', 'new@example.org', 'ROLE') $$, 'PROJECT_NOT_FOUND');
grant select on additions to public;
select is(pg_temp.code(a.actor, pg_temp.fill(replace(replace(d.statement, 'ROLE', r), 'SHOWN', case r when 'developer' then 'editor' else r end), null)),
  case when a.role is null then d.hidden when pg_temp.rank(a.role) < 3 or pg_temp.rank(r) > pg_temp.rank(a.role) then 'FORBIDDEN' else 'ok' end,
  format('%s: %s (%s) adds a %s', d.door, a.actor, a.role, r))
from actors a, additions d, unnest(array['admin', 'manager', 'developer', 'viewer', 'auditor']) r
where pg_temp.tries(a.actor, d.door) and (position('SHOWN' in d.statement) = 0 or r not in ('manager', 'auditor')) order by d.door, a.actor, r;
-- In a list each element has its own answer.
create function pg_temp.notified(p_actor text) returns text language plpgsql as $$
declare v text;
begin
  perform tests.act_as(p_actor);
  select string_agg(r ->> 'status', ',' order by o) into v from jsonb_array_elements(api.send_project_invitations(jsonb_build_object('projectId', pg_temp.pid(), 'body',
    (select jsonb_agg(jsonb_build_object('email', r || '.listed@example.org', 'role', r, 'notificationLevel', 'daily') order by o)
     from unnest(array['admin', 'manager', 'developer', 'viewer', 'auditor']) with ordinality u (r, o)))) -> 'results') with ordinality t (r, o);
  perform tests.reset();
  delete from public.project_members where email like '%.listed@example.org';
  return v;
end $$;
select is(pg_temp.notified('ada'), 'pending,pending,pending,pending,pending', 'an admin invites all of them');
select is(pg_temp.notified('max'), 'failed,pending,pending,pending,pending', 'a manager all but the admin');

-- Reading.
select is(pg_temp.code(a.actor, pg_temp.fill(s, null)), case when a.role is not null then 'ok' else h end, format('%s (%s) reads %s', a.actor, a.role, s))
from actors a, (values ($$ select api.list_project_members('{"projectId": "PROJECT"}') $$, 'PROJECT_NOT_FOUND'), ($$ select api.list_pending_project_invitations('{"projectId": "PROJECT"}') $$, 'PROJECT_NOT_FOUND'),
  ($$ select api.list_project_users('{"projectId": "PROJECT"}') $$, 'PROJECT_NOT_FOUND'), ($$ select api.list_access('{"projectId": "PROJECT"}') $$, 'PROJECT_NOT_FOUND'),
  ($$ select api.list_context_users('{"contextId": "PROJECT"}') $$, 'CONTEXT_NOT_FOUND'), ($$ select api.list_project_activity('{"projectId": "PROJECT"}') $$, 'PROJECT_NOT_FOUND')) v (s, h);

select * from finish();
rollback;
