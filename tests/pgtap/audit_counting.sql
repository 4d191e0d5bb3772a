-- Counts of blocks are exact when entries are inserted, deleted, changed or committed late. A random trail is read in many ways, and each
-- answer is compared with one that reads every entry.
begin;
select no_plan();
select tests.user('anna'), tests.member('ben', 'anna'), tests.user('stan');
-- Small blocks, so that there are many of them.
create or replace function private.audit_block_size() returns integer language sql immutable as 'select 20';
update public.subscriptions set plan_id = 'enterprise' where organization_id in (tests.org('anna'), tests.org('stan'));
delete from public.audit_log where organization_id in (tests.org('anna'), tests.org('stan'));
select setseed(0.5);
insert into public.audit_log (organization_id, user_id, event_type, description, created_at)
select case when random() < 0.9 then tests.org('anna') else tests.org('stan') end,
  case when random() < 0.4 then tests.user('anna') when random() < 0.6 then tests.user('ben') end,
  (array['user.login', 'user.logout', 'context.created', 'context.updated', 'security.login_failed', 'integration.connected'])[1 + floor(random() * random() * 6)::int],
  'Entry ' || g,
  -- Some entries have the same time.
  date_trunc('second', now()) - make_interval(secs => floor(g / 3) * 700 + 120)
from generate_series(1, 1500) g;

-- The same answer by reading all entries.
create function pg_temp.plain(p_filters jsonb, p_offset bigint, p_limit integer) returns jsonb language plpgsql as $$
declare
  f record;
begin
  select * into f from private.read_audit_filters(p_filters, private.audit_horizon_of(tests.org('anna')));
  return (
    with fit as (
      select a.* from public.audit_log a
      where a.organization_id = tests.org('anna') and a.created_at >= f.since and a.created_at < f.until
        and (f.user_id is null or a.user_id = f.user_id)
        and (f.kinds is null or a.event_type = any (f.kinds) or a.event_category = any (f.kinds))
    )
    select jsonb_build_object('total', (select count(*) from fit), 'ids', (select coalesce(jsonb_agg(x.id order by x.created_at desc, x.id desc), '[]')
      from (select * from fit order by created_at desc, id desc offset p_offset limit p_limit) x))
  );
end $$;
create function pg_temp.counted(p_filters jsonb, p_offset bigint, p_limit integer) returns jsonb language sql as $$
  select jsonb_build_object('total', m.total, 'ids', coalesce((select jsonb_agg(e.id order by e.created_at desc, e.id desc) from unnest(m.entries) e), '[]'))
  from private.audit_matches(tests.org('anna'), p_filters, 'infinity', p_offset, p_limit) m $$;

create temp table questions as
select jsonb_strip_nulls(jsonb_build_object(
    'userId', case (random() * 3)::int when 0 then tests.user('anna') when 1 then tests.user('ben') end,
    'eventCategory', case when random() < 0.3 then (array['user', 'context', 'security', 'team'])[1 + floor(random() * 4)::int] end,
    'eventTypes', case when random() < 0.3 then to_jsonb((array['user.login', 'context.updated', 'security.login_failed', 'user.flown'])[1 : 1 + floor(random() * 4)::int]) end,
    'dateFrom', case when random() < 0.4 then private.iso(now() - make_interval(secs => random() * 400000)) end,
    'dateTo', case when random() < 0.4 then private.iso(now() - make_interval(secs => random() * 300000)) end)) as filters,
  (array[0, 0, 1, 19, 20, 21, 100, 500, 1300, 5000])[1 + floor(random() * 10)::int] as skip, (array[1, 5, 20, 100])[1 + floor(random() * 4)::int] as size
from generate_series(1, 120);
create function pg_temp.wrong() returns bigint language sql as $$
  select count(*) from questions q where pg_temp.counted(q.filters, q.skip, q.size) is distinct from pg_temp.plain(q.filters, q.skip, q.size) $$;
create function pg_temp.cut() returns integer language plpgsql as $$
declare
  v integer := 0;
begin
  while private.cut_audit_block(tests.org('anna'), now() + interval '1 second') loop
    v := v + 1;
  end loop;
  return v;
end $$;
-- A filter that no entry fits, and one that every entry fits.
insert into questions values ('{"eventTypes": ["user.flown"]}', 0, 20), ('{}', 0, 0), ('{}', 0, 100);

select is(pg_temp.wrong(), 0::bigint, 'without blocks');
select cmp_ok(pg_temp.cut(), '>', 50, 'blocks are cut');
select is((select sum(entries) from private.audit_blocks where organization_id = tests.org('anna')),
  (select sum(c.entries) from private.audit_counts c where c.organization_id = tests.org('anna') and c.kind = '' and c.user_id = '00000000-0000-0000-0000-000000000000'), 'each entry is counted');
select is_empty('select from private.audit_blocks where organization_id <> tests.org(''anna'')', 'of one organization');
select is(pg_temp.wrong(), 0::bigint, 'with blocks');
insert into public.audit_log (organization_id, user_id, event_type, description) select tests.org('anna'), tests.user('ben'), 'user.login', 'New' from generate_series(1, 7);
select is(pg_temp.wrong(), 0::bigint, 'with entries that are newer than the blocks');
select is((select count(*) from private.audit_blocks) > 50, true, 'which leave them alone');
insert into public.audit_log (organization_id, user_id, event_type, description, created_at) values (tests.org('anna'), tests.user('ben'), 'user.login', 'Late', now() - interval '2 days');
select is(pg_temp.wrong(), 0::bigint, 'with an entry that came late');
select cmp_ok(pg_temp.cut(), '>', 1, 'from there on they are cut anew');
select is(pg_temp.wrong(), 0::bigint, 'and right again');

-- Retention: entries older than 7 days on the free plan are hidden at once, and deleted 7 days later.
update public.subscriptions set plan_id = 'free' where organization_id = tests.org('anna');
select is(pg_temp.wrong(), 0::bigint, 'on a smaller plan');
select is((pg_temp.counted('{}', 0, 1) ->> 'total')::bigint, (select count(*) from public.audit_log where organization_id = tests.org('anna') and created_at >= now() - interval '7 days'), 'less is seen');
select tests.end_old('audit_log', now() - interval '10 days');
select is(pg_temp.wrong(), 0::bigint, 'nothing old enough');
create temp table remaining as select count(*) as n from public.audit_log where organization_id = tests.org('anna') and created_at >= now() - interval '3 days';
select tests.end_old('audit_log', now() + interval '11 days');
select is((select count(*) from public.audit_log where organization_id = tests.org('anna')), (select n from remaining), 'what has been out of sight for 7 days goes');
select is((select count(*) from public.audit_log where organization_id = tests.org('stan')) > 100, true, 'and nothing of a larger plan');
update public.subscriptions set plan_id = 'enterprise' where organization_id = tests.org('anna');
select is(pg_temp.wrong(), 0::bigint, 'after the purge, the rest of a block included');

-- Erasure takes the actor away.
update public.audit_log set user_id = null where user_id = tests.user('ben') and organization_id = tests.org('anna');
select is_empty('select from private.audit_blocks where organization_id = tests.org(''anna'')', 'counts of changed entries are forgotten');
select is(pg_temp.wrong(), 0::bigint, 'after an erasure');
select is((select count(*) from private.audit_growth where organization_id = tests.org('anna')) > 0, true, 'and made anew');
select is((select bool_and(is_erased) from public.audit_log where description in ('New', 'Late')), true, 'the entries say that they were a person''s');
select is((select count(*)::int from public.audit_log where is_erased and organization_id = tests.org('anna') and user_id is not null), 0, 'and no others do');
select cmp_ok(pg_temp.cut(), '>', 1, 'blocks once more');
select is(pg_temp.wrong(), 0::bigint, 'which are right');
delete from public.audit_log where organization_id = tests.org('anna') and description like 'Entry %7';
select is(pg_temp.wrong(), 0::bigint, 'also when somebody deletes in the middle');

-- When a moment is settled: no open transaction can have an older entry.
update private.audit_mark set marked_at = now() - interval '5 minutes', marked_xid = '3', settled_at = null;
select is(private.settle_audit(), now() - interval '6 minutes', 'all that was open then is over');
select is((select marked_xid from private.audit_mark), pg_current_xact_id(), 'the next mark is of now');
update private.audit_mark set marked_xid = (pg_current_xact_id()::text::bigint + 1)::text::xid8;
select is(private.settle_audit(), now() - interval '6 minutes', 'as long as a transaction of before the mark is open, as this one would be, nothing newer is settled');
select lives_ok('select private.count_audit()', 'the schedule');
select * from finish();
rollback;
