-- The matrix of contract 40, section 2, cell by cell, and the gates of the plans.
begin;
select no_plan();

select tests.user('anna');
select tests.member('olga', 'anna', 'admin'), tests.member('mia', 'anna', 'member'), tests.member('vic', 'anna', 'viewer'), tests.user('stan');

create function pg_temp.may(p_actor text, p_permission text) returns boolean language plpgsql as $$
declare v boolean;
begin
  perform tests.act_as(p_actor);
  v := private.has_permission(p_permission);
  perform tests.reset();
  return v;
end $$;

select is(pg_temp.may(actor, permission), allowed, format('%s (%s): %s', actor, role, permission))
from (values
  ('canManageTeam', true, true, false, false), ('canManageBilling', true, false, false, false), ('canInviteMembers', true, true, false, false),
  ('canRemoveMembers', true, true, false, false), ('canChangeRoles', true, true, false, false), ('canManageIntegrations', true, true, false, false),
  ('canViewAuditLog', true, true, false, false), ('canTransferOwnership', true, false, false, false), ('canEditContexts', true, true, true, false),
  ('canViewContexts', true, true, true, true), ('canDeleteContexts', true, true, false, false), ('canShareContexts', true, true, false, false),
  ('canManageContextUsers', true, true, false, false), ('canFly', false, false, false, false)) m (permission, owner, admin, member, viewer),
lateral (values ('anna', 'owner', owner), ('olga', 'admin', admin), ('mia', 'member', member), ('vic', 'viewer', viewer)) a (actor, role, allowed);

select tests.act_anon();
select is(private.org_role(), null, 'an anonymous caller has no role');
select tests.reset();
select is((select count(*) from public.role_permissions), 27::bigint, 'the matrix holds these cells and no other');

select tests.act_as('vic');
select throws_ok($$ select private.require_permission('canManageTeam') $$, 'PT403', null, 'a demand of the matrix refuses a viewer');
select throws_ok($$ insert into public.role_permissions values ('viewer', 'canManageTeam') $$, '42501', null, 'nobody adds to the matrix');
select tests.act_as('olga');
select lives_ok($$ select private.require_permission('canManageTeam') $$, 'and lets an admin pass');

-- ------------------------------------------------------------------------------------------------------------------ gates of plans
select tests.act_as('anna');
select is(private.is_open('team_management'), false, 'a free organization has no team management');
select throws_ok($$ select private.require_gate('audit_pdf', 'PDF is part of Enterprise.', 'format') $$, 'PT403', 'PDF is part of Enterprise.', 'a closed gate refuses');
select is(tests.refusal($$ select private.require_gate('team_management', 'Upgrade.') $$) -> 'details' ->> 'requiredPlan', 'teams', 'and names the smallest plan that opens it');
select tests.reset();
update public.subscriptions set plan_id = 'teams', status = 'active' where organization_id = tests.org('anna');
select tests.act_as('anna');
select is(private.is_open('team_management'), true, 'Teams opens it');
select lives_ok($$ select private.require_gate('team_management', 'Upgrade.') $$, 'at once');
select tests.reset();
update public.subscriptions set status = 'canceled' where organization_id = tests.org('anna');
select tests.act_as('anna');
select is(private.is_open('team_management'), false, 'and a subscription that ended closes it');
select tests.reset();

select * from finish();
rollback;
