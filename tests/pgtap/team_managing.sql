-- "Managing another person" (contract 40, section 2): actor role x target x action. Each cell is generated and checked by the contract's
-- own words, not by the code's: no person manages themselves; no person manages an equal or higher role; members and viewers manage no
-- person; only the owner grants owner.
begin;
select no_plan();

select tests.user('anna'), tests.user('stan');
update public.subscriptions set plan_id = 'teams' where organization_id = tests.org('anna');
do $$
begin
  for i in 1..3 loop
    perform tests.member('admin' || i, 'anna', 'admin'), tests.member('member' || i, 'anna', 'member'), tests.member('viewer' || i, 'anna', 'viewer');
  end loop;
end
$$;
-- The third of each role is deactivated.
update public.memberships m set status = 'inactive' from tests.people p where p.user_id = m.user_id and m.organization_id = tests.org('anna') and p.name ~ '3$';

create function pg_temp.membership(p_name text) returns uuid language sql security definer
as $$ select m.id from public.memberships m join tests.people p on p.user_id = m.user_id where p.name = p_name and m.organization_id = (select org_id from tests.people where name = 'anna') $$;
create function pg_temp.role_of(p_name text) returns text language sql security definer
as $$ select m.role || ' ' || m.status from public.memberships m where m.id = pg_temp.membership(p_name) $$;

create temp table actors (name text, role text);
insert into actors values ('anna', 'owner'), ('admin1', 'admin'), ('member1', 'member'), ('viewer1', 'viewer');
create temp table targets (name text, role text, status text);
insert into targets values ('anna', 'owner', 'active');
insert into targets select r || n, r, case n when 3 then 'inactive' else 'active' end from unnest(array['admin', 'member', 'viewer']) r, generate_series(1, 3) n;
create temp table actions (action text, sql text, permission text, given text);
insert into actions values
  ('gives the role owner', 'select api.update_team_member(%L || ''{"body": {"role": "owner"}}''::jsonb)', 'canChangeRoles', 'owner'),
  ('gives the role admin', 'select api.update_team_member(%L || ''{"body": {"role": "admin"}}''::jsonb)', 'canChangeRoles', 'admin'),
  ('gives the role member', 'select api.update_team_member(%L || ''{"body": {"role": "member"}}''::jsonb)', 'canChangeRoles', 'member'),
  ('gives the role viewer', 'select api.update_team_member(%L || ''{"body": {"role": "viewer"}}''::jsonb)', 'canChangeRoles', 'viewer'),
  ('sets inactive', 'select api.update_team_member(%L || ''{"body": {"status": "inactive"}}''::jsonb)', 'canManageTeam', null),
  ('sets active', 'select api.update_team_member(%L || ''{"body": {"status": "active"}}''::jsonb)', 'canManageTeam', null),
  ('deactivates', 'select api.deactivate_team_member(%L)', 'canManageTeam', null),
  ('reactivates', 'select api.reactivate_team_member(%L)', 'canManageTeam', null),
  ('removes', 'select api.remove_team_member(%L)', 'canRemoveMembers', null);
grant select on actors, targets, actions to public;

-- The contract's rule for a cell.
create function pg_temp.expected(a actors, t targets, x actions) returns text language sql
as $$
  select case
    when a.role not in ('owner', 'admin') then 'FORBIDDEN'
    when a.name = t.name then 'CANNOT_MANAGE_SELF'
    when a.role = 'admin' and t.role in ('admin', 'owner') then 'FORBIDDEN'
    when x.given = 'owner' and a.role <> 'owner' then 'FORBIDDEN'
    when x.given = 'owner' and t.status = 'inactive' then 'MEMBER_INACTIVE'
    when x.action in ('sets active', 'reactivates') and t.status = 'active' then 'ALREADY_ACTIVE'
    when x.action in ('sets inactive', 'deactivates') and t.status = 'inactive' then 'ALREADY_INACTIVE'
    else 'done'
  end
$$;
-- The answer and the effect of a cell. Every change is rolled back.
create function pg_temp.tried(a actors, t targets, x actions) returns text language plpgsql
as $$
declare
  v jsonb;
  v_left text;
begin
  perform tests.act_as(a.name);
  v := tests.refusal(format(x.sql, jsonb_build_object('membershipId', pg_temp.membership(t.name))));
  v_left := coalesce(pg_temp.role_of(t.name), 'gone');
  perform tests.reset();
  raise exception using errcode = 'ZZ000', message = coalesce(v ->> 'code', v ->> 'message', 'done') || '|' || v_left;
exception when sqlstate 'ZZ000' then
  return sqlerrm;
end
$$;
create temp table cells as
select a.name as actor, a.role as actor_role, t.name as target, t.role as target_role, t.status, x.action, x.given, pg_temp.expected(a, t, x) as expected, pg_temp.tried(a, t, x) as got
from actors a, targets t, actions x;

select is(split_part(got, '|', 1), expected, format('%s (%s) %s: %s (%s, %s)', actor, actor_role, action, target, target_role, status)) from cells order by actor, target, action;
select is(split_part(got, '|', 2),
  case when expected <> 'done' then target_role || ' ' || status
    when action = 'removes' then 'gone'
    when given is not null then given || ' ' || status
    when action in ('sets inactive', 'deactivates') then target_role || ' inactive' else target_role || ' active' end,
  format('%s %s: %s is left as that', actor, action, target))
from cells order by actor, target, action;
select is((select count(*) from cells), 360::bigint, 'each cell was tried');

-- ------------------------------------------------------------------------------------------------------------------- the rest of it
select tests.act_as('anna');
select is(tests.refusal(format('select api.update_team_member(%L)', jsonb_build_object('membershipId', pg_temp.membership('member1'), 'body', '{"role": "admin", "status": "inactive"}'::jsonb))) ->> 'field',
  'status', 'one change at a time');
select is(tests.refusal(format('select api.update_team_member(%L)', jsonb_build_object('membershipId', pg_temp.membership('member1'), 'body', '{"role": "editor"}'::jsonb))) ->> 'field', 'role', 'editor is no role of a team');
select is(tests.refusal(format('select api.update_team_member(%L)', jsonb_build_object('membershipId', pg_temp.membership('member1'), 'body', '{}'::jsonb))) ->> 'field', 'role', 'nothing is no change');
select is(tests.refusal(format('select api.update_team_member(%L)', jsonb_build_object('membershipId', pg_temp.membership('member1'), 'body', '{"status": "pending"}'::jsonb))) ->> 'field', 'status', 'pending is reserved');
select is(tests.refusal('select api.leave_team(''{}'')') ->> 'code', 'OWNER_REQUIRED', 'the owner cannot leave');

-- Stan owns another organization and knows the ids.
select tests.act_as('stan');
select is(tests.refusal(format('select api.remove_team_member(%L)', jsonb_build_object('membershipId', pg_temp.membership('member1')))) ->> 'code', 'NOT_FOUND', 'a stranger finds nobody to remove');
select is(tests.refusal('select api.deactivate_team_member(''{"membershipId": "no id"}'')') ->> 'code', 'NOT_FOUND', 'and what is no id is nobody''s');

-- Past our functions members, strangers and the service cannot write.
select is(tests.refusal(s) ->> 'sqlstate', '42501', format('%s: %s', w, s))
from unnest(array['anna', 'admin1', 'viewer1', 'stan', 'service', 'nobody']) w,
  lateral (select case w when 'service' then tests.act_service()::text when 'nobody' then tests.act_anon()::text else tests.act_as_claims(w)::text end) acting,
  unnest(array[
    'update public.memberships set role = ''owner''', 'update public.memberships set status = ''active''', 'delete from public.memberships',
    'insert into public.memberships (organization_id, user_id, role) values (gen_random_uuid(), gen_random_uuid(), ''admin'')',
    'update public.organizations set name = ''Taken over''', 'delete from public.organizations', 'insert into public.organizations (name) values (''x'')',
    'update public.team_invitations set status = ''pending'', expires_at = now() + interval ''1 year''', 'delete from public.team_invitations',
    'insert into public.team_invitations (organization_id, email, role, token_hash, expires_at) values (gen_random_uuid(), ''a@b.nl'', ''admin'', sha256(''x''), now())',
    'select token_hash from public.team_invitations', 'insert into public.role_permissions values (''viewer'', ''canManageTeam'')',
    'select private.accept_invitation(sha256(''x''), gen_random_uuid())', 'select private.transfer_team(null, ''owner'')', 'select private.begin_managing(''canManageTeam'')']) s;
select tests.reset();

-- A writer past all functions, as the owner of the database is, still cannot leave an organization without an owner, or with two.
create function pg_temp.at_end(p_sql text) returns text language plpgsql
as $$
begin
  execute p_sql;
  set constraints all immediate;
  raise exception using errcode = 'ZZ000';
exception
  when sqlstate 'ZZ000' then set constraints all deferred; return 'done';
  when others then set constraints all deferred; return sqlerrm;
end
$$;
select is(pg_temp.at_end(format('update public.memberships set role = ''admin'' where organization_id = %L and role = ''owner''', tests.org('anna'))), 'An organization has an owner. Hand it over first.',
  'nobody is the owner: not possible');
select is(pg_temp.at_end(format('delete from public.memberships where organization_id = %L and role = ''owner''', tests.org('anna'))), 'An organization has an owner. Hand it over first.', 'the owner''s row goes: not possible');
select matches(pg_temp.at_end(format('update public.memberships set role = ''owner'' where id = %L', pg_temp.membership('admin1'))), 'memberships_one_owner_key', 'two owners: not possible');
select matches(pg_temp.at_end(format('update public.memberships set status = ''inactive'' where organization_id = %L and role = ''owner''', tests.org('anna'))), 'memberships_owner_is_active', 'an inactive owner: not possible');
select is(pg_temp.at_end(format('update public.memberships set organization_id = %L where id = %L', tests.org('stan'), pg_temp.membership('admin1'))),
  'A membership keeps its id, its organization and its person.', 'a membership moves: not possible');
select is(pg_temp.at_end(format('delete from public.organizations where id = %L', tests.org('anna'))), 'done', 'an organization ends with its owner''s row');

-- A person who was an admin when the request began, and is none when it holds the lock, manages no person.
select tests.act_as('admin1');
select tests.peek(format('update public.memberships set role = ''viewer'' where id = %L returning role', pg_temp.membership('admin1')));
select is(tests.refusal(format('select api.remove_team_member(%L)', jsonb_build_object('membershipId', pg_temp.membership('member1')))) ->> 'code', 'FORBIDDEN', 'the role is read again under the lock');
select tests.reset();

select * from finish();
rollback;
