-- Counts entries exactly, without reading them all. Where an organization has some thousands of entries, those that no older entry can join
-- any more are cut into blocks of c_size, and the numbers of each block are kept (private.audit_counts). A writer of entries touches no
-- block, so writers of one organization do not wait for each other. Entries that are not in a block yet, and the part of a block outside
-- the range, are counted directly: at most some thousands.

create or replace function private.audit_block_size() returns integer
language sql immutable parallel safe
return 2000;
comment on function private.audit_block_size is 'How many entries a block has.';

-- An entry carries the moment of its insert, and its transaction had an id before that. Take an id that was drawn after a moment: once all
-- transactions with older ids have ended, no entry from before that moment can appear any more. A minute is left for clocks that are set
-- back a little.
create or replace function private.settle_audit() returns timestamptz
language plpgsql volatile security definer set search_path = ''
as $$
declare
  m private.audit_mark;
  v_at timestamptz;
begin
  select * into m from private.audit_mark for update;
  if m.marked_xid is not null and pg_snapshot_xmin(pg_current_snapshot()) < m.marked_xid then
    return m.settled_at;
  end if;
  v_at := clock_timestamp();
  update private.audit_mark
  set settled_at = case when m.marked_xid is null then m.settled_at else m.marked_at - interval '1 minute' end, marked_at = v_at,
    -- Drawn after the moment was read.
    marked_xid = pg_current_xact_id();
  return (select settled_at from private.audit_mark);
end
$$;
comment on function private.settle_audit is 'The moment before which the audit trail is complete, or null. Authorization: callable by functions of ours only.';

create or replace function private.cut_audit_block(p_org_id uuid, p_before timestamptz) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  c_all constant uuid := '00000000-0000-0000-0000-000000000000';
  v_last private.audit_blocks;
  b private.audit_blocks;
begin
  select * into v_last from private.audit_blocks o where o.organization_id = p_org_id order by o.block desc limit 1;
  with entry as (
    select a.created_at, a.id from public.audit_log a
    where a.organization_id = p_org_id and (v_last is null or (a.created_at, a.id) > (v_last.last_at, v_last.last_id)) and a.created_at < p_before
    order by a.created_at, a.id limit private.audit_block_size()
  )
  select p_org_id, coalesce(v_last.block, 0) + 1, (select created_at from entry order by created_at, id limit 1),
    (select id from entry order by created_at, id limit 1), (select created_at from entry order by created_at desc, id desc limit 1),
    (select id from entry order by created_at desc, id desc limit 1), count(*)
  into b from entry;
  if b.entries < private.audit_block_size() then
    return false;
  end if;
  insert into private.audit_blocks values (b.*);
  with counted as (
    select coalesce(t.user_id, c_all) as user_id, coalesce(t.event_type, t.event_category, '') as kind, count(*) as entries
    from public.audit_log t
    where t.organization_id = p_org_id and t.created_at between b.first_at and b.last_at
      and (t.created_at, t.id) between (b.first_at, b.first_id) and (b.last_at, b.last_id)
    group by grouping sets ((), (t.event_category), (t.event_type), (t.user_id), (t.user_id, t.event_category), (t.user_id, t.event_type))
    -- Actions of the system have no count of their own: no filter asks for it.
    having grouping(t.user_id) = 1 or t.user_id is not null
  )
  insert into private.audit_counts (organization_id, user_id, kind, block, entries, upto)
  select p_org_id, c.user_id, c.kind, b.block, c.entries, c.entries + coalesce((
    select o.upto from private.audit_counts o where o.organization_id = p_org_id and o.user_id = c.user_id and o.kind = c.kind
    order by o.block desc limit 1), 0)
  from counted c;
  return true;
end
$$;
comment on function private.cut_audit_block is
  'Makes the next block of an organization, if there are entries enough before the moment. Authorization: callable by functions of ours only.';

-- Handles at most p_blocks at a time, so that a call is short. An organization with more to do stays noted.
create or replace function private.count_audit(p_blocks integer default 100) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_before timestamptz := private.settle_audit();
  v_done integer := 0;
  v_org uuid;
begin
  if v_before is null or not pg_try_advisory_xact_lock(hashtextextended('audit blocks', 0)) then
    return 0;
  end if;
  for v_org in select distinct g.organization_id from private.audit_growth g loop
    while v_done < p_blocks and private.cut_audit_block(v_org, v_before) loop
      v_done := v_done + 1;
    end loop;
    exit when v_done >= p_blocks;
    delete from private.audit_growth g where g.organization_id = v_org;
  end loop;
  return v_done;
end
$$;
comment on function private.count_audit is 'Cuts new blocks; gives how many. Authorization: callable by schedules only.';

-- Any change to counted entries discards their counts. The next round counts them again.
create or replace function private.tg_audit_log__uncount() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    -- Retention deletes the oldest entries. Their blocks, and the block in which the deletion ends, are no longer valid.
    delete from private.audit_blocks b
    using (select o.organization_id, max(o.created_at) as upto from old_entries o group by 1) d
    where b.organization_id = d.organization_id and b.first_at <= d.upto;
  elsif tg_op = 'UPDATE' then
    delete from private.audit_blocks b using (select distinct o.organization_id from old_entries o) d where b.organization_id = d.organization_id;
    insert into private.audit_growth (organization_id) select distinct o.organization_id from old_entries o
    where exists (select from public.organizations g where g.id = o.organization_id);
  end if;
  return null;
end
$$;
comment on function private.tg_audit_log__uncount is 'Trigger: counts of entries that were changed or deleted are forgotten.';
create or replace trigger _800_uncount after delete on public.audit_log referencing old table as old_entries
  for each statement execute function private.tg_audit_log__uncount();
create or replace trigger _800_uncount_change after update on public.audit_log referencing old table as old_entries
  for each statement execute function private.tg_audit_log__uncount();

create or replace function private.tg_audit_log__uncount_late() returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from private.audit_blocks b where b.organization_id = new.organization_id and b.last_at >= new.created_at;
  return null;
end
$$;
comment on function private.tg_audit_log__uncount_late is 'Trigger: an entry that is given an older moment than now (by an import, or a clock) joins no block that is counted.';
create or replace trigger _800_uncount_late after insert on public.audit_log
  for each row when (new.created_at < clock_timestamp() - interval '30 seconds') execute function private.tg_audit_log__uncount_late();

-- Entries of an erased person stay, and are distinguished from entries of the system.
create or replace function private.tg_audit_log__erase() returns trigger
language plpgsql volatile set search_path = ''
as $$
begin
  new.is_erased := true;
  return new;
end
$$;
comment on function private.tg_audit_log__erase is 'Trigger: an entry whose actor is taken away was a person''s.';
create or replace trigger _100_erase before update on public.audit_log
  for each row when (old.user_id is not null and new.user_id is null) execute function private.tg_audit_log__erase();

-- Counts the entries of a stretch, its ends included. Null means all people, or all kinds.
create or replace function private.count_audit_between(
  p_org_id uuid, p_user_id uuid, p_kinds text[], p_from timestamptz, p_from_id uuid, p_to timestamptz, p_to_id uuid
) returns bigint
language plpgsql stable security definer set search_path = ''
as $$
begin
  -- Each range is given twice: from moments alone the planner can estimate how few entries it has.
  if p_user_id is null then
    return (
      select count(*) from public.audit_log a
      where a.organization_id = p_org_id and a.created_at between p_from and p_to
        and (a.created_at, a.id) >= (p_from, p_from_id) and (a.created_at, a.id) <= (p_to, p_to_id)
        and (p_kinds is null or a.event_type = any (p_kinds) or a.event_category = any (p_kinds))
    );
  end if;
  -- The kinds are a filter of the count and no condition: for a condition the planner would intersect whole indexes of the person.
  return (
    select count(*) filter (where p_kinds is null or a.event_type = any (p_kinds) or a.event_category = any (p_kinds)) from public.audit_log a
    where a.organization_id = p_org_id and a.created_at between p_from and p_to
      and (a.created_at, a.id) >= (p_from, p_from_id) and (a.created_at, a.id) <= (p_to, p_to_id)
      and a.user_id = p_user_id
  );
end
$$;
comment on function private.count_audit_between is 'Counts entries one by one. Authorization: callable by functions of ours only.';

-- Answers how many entries of a range [p_since, p_until) match, and a stretch that holds the page: skip is how many matching entries of
-- the stretch come before the page.
create or replace function private.place_audit_page(
  p_org_id uuid, p_user_id uuid, p_kinds text[], p_since timestamptz, p_until timestamptz, p_offset bigint, p_limit integer,
  out total bigint, out newest_at timestamptz, out newest_id uuid, out oldest_at timestamptz, out oldest_id uuid, out skip bigint
)
language plpgsql stable security definer set search_path = ''
as $$
declare
  c_least constant uuid := '00000000-0000-0000-0000-000000000000';
  c_greatest constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  -- Block numbers of the entries outside the blocks: newer and older than all of them.
  c_newer constant integer := 2147483647;
  c_older constant integer := 0;
  v_first private.audit_blocks;
  v_last private.audit_blocks;
  v_newer bigint;
  v_older bigint := 0;
  v_from integer;
  v_to integer;
begin
  newest_at := p_until - interval '1 microsecond';
  newest_id := c_greatest;
  oldest_at := p_since;
  oldest_id := c_least;
  select * into v_first from private.audit_blocks b where b.organization_id = p_org_id and b.first_at >= p_since order by b.first_at, b.block limit 1;
  select * into v_last from private.audit_blocks b where b.organization_id = p_org_id and b.last_at < p_until order by b.last_at desc, b.block desc limit 1;
  if v_first is null or v_last is null or v_first.block > v_last.block then
    total := private.count_audit_between(p_org_id, p_user_id, p_kinds, oldest_at, oldest_id, newest_at, newest_id);
    skip := p_offset;
    return;
  end if;
  -- The range includes the end entry of the block, which is counted with the block, so it is subtracted.
  v_newer := private.count_audit_between(p_org_id, p_user_id, p_kinds, v_last.last_at, v_last.last_id, newest_at, newest_id)
    - private.count_audit_between(p_org_id, p_user_id, p_kinds, v_last.last_at, v_last.last_id, v_last.last_at, v_last.last_id);
  v_older := private.count_audit_between(p_org_id, p_user_id, p_kinds, oldest_at, oldest_id, v_first.first_at, v_first.first_id)
    - private.count_audit_between(p_org_id, p_user_id, p_kinds, v_first.first_at, v_first.first_id, v_first.first_at, v_first.first_id);
  select v_newer + v_older + coalesce(sum(n.upto - o.upto + o.entries), 0) into total
  from unnest(coalesce(p_kinds, '{""}')) k,
    lateral (select c.block, c.upto from private.audit_counts c
      where c.organization_id = p_org_id and c.user_id = coalesce(p_user_id, c_least) and c.kind = k and c.block <= v_last.block order by c.block desc limit 1) n,
    lateral (select c.block, c.upto, c.entries from private.audit_counts c
      where c.organization_id = p_org_id and c.user_id = coalesce(p_user_id, c_least) and c.kind = k and c.block >= v_first.block order by c.block limit 1) o
  where o.block <= n.block;
  with stretch as (
    select c_newer as block, v_newer as entries
    union all
    select c.block, sum(c.entries)::bigint
    from unnest(coalesce(p_kinds, '{""}')) k,
      -- Each row stands for at least one entry, so no more rows are needed than entries.
      lateral (select b.block, b.entries from private.audit_counts b
        where b.organization_id = p_org_id and b.user_id = coalesce(p_user_id, c_least) and b.kind = k and b.block between v_first.block and v_last.block
        order by b.block desc limit p_offset + p_limit) c
    group by c.block
    union all
    select c_older, v_older
  ), passed as (
    select s.block, s.entries, sum(s.entries) over (order by s.block desc) as upto from stretch s
  )
  select max(p.block) filter (where p.upto > p_offset), max(p.block) filter (where p.upto >= p_offset + p_limit),
    p_offset - coalesce(max(p.upto) filter (where p.upto <= p_offset), 0)
  into v_from, v_to, skip
  from passed p;
  if v_from between 1 and c_newer - 1 then
    select b.last_at, b.last_id into newest_at, newest_id from private.audit_blocks b where b.organization_id = p_org_id and b.block = v_from;
  elsif v_from = c_older then
    -- Older than the blocks: the stretch begins at the first entry of the oldest block, which is skipped if it matches.
    newest_at := v_first.first_at;
    newest_id := v_first.first_id;
    skip := skip + private.count_audit_between(p_org_id, p_user_id, p_kinds, newest_at, newest_id, newest_at, newest_id);
  end if;
  if v_to = c_newer then
    oldest_at := v_last.last_at;
    oldest_id := v_last.last_id;
  elsif v_to > c_older then
    select b.first_at, b.first_id into oldest_at, oldest_id from private.audit_blocks b where b.organization_id = p_org_id and b.block = v_to;
  end if;
end
$$;
comment on function private.place_audit_page is
  'The number of entries that fit, and a stretch that holds the page of them after skip. Authorization: callable by functions of ours only.';
