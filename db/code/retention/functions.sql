-- Retention: the rules are rows of private.retention_rules, and everything here serves all of them.

-- What is older than this may go. Where the plan lengthens a rule, the shortest plan's.
create or replace function private.retention_cutoff(r private.retention_rules, p_at timestamptz) returns timestamptz
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_keep interval := r.keep;
begin
  if r.setting is not null then
    v_keep := greatest(v_keep, make_interval(days => (private.installation_value(r.setting) #>> '{}')::integer));
  end if;
  if r.plan_column is not null then
    v_keep := v_keep + make_interval(days => (select min((to_jsonb(p) ->> r.plan_column)::integer) from public.plans p));
  end if;
  return p_at - v_keep;
end
$$;
comment on function private.retention_cutoff is 'The moment before which rows may go. Authorization: callable by functions of ours only.';

-- The oldest rows of a rule, as a statement that gives their places in the table t. $1 is the cutoff, $2 the most rows, $3 the moment of the
-- run, $4 the interval of the rule.
create or replace function private.retention_sql(r private.retention_rules, p_locks boolean) returns text
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_day boolean := (select a.atttypid = 'date'::regtype from pg_catalog.pg_attribute a where a.attrelid = r.relation::regclass and a.attname = r.cutoff_column);
  v_old text := format('select t.ctid from %s t where %s order by t.%I limit $2', r.relation::regclass, concat_ws(' and ',
    case when r.plan_column is not null then format('t.organization_id = o.organization_id and t.%I < o.cutoff', r.cutoff_column)
      when v_day then format('t.%I < ($1 at time zone ''UTC'')::date', r.cutoff_column)
      else format('t.%I < $1', r.cutoff_column) end,
    '(' || r.condition || ')',
    (select '(' || string_agg(format('t.%I is not null', c), ' or ') || ')' from unnest(r.columns) c)), r.cutoff_column)
    -- Rows that a request holds are passed over until the next time.
    || case when p_locks then ' for update of t skip locked' else '' end;
begin
  if r.plan_column is null then
    return v_old;
  end if;
  -- Only organizations with a row older than the shortest plan's cutoff are asked for their plan.
  return format('select x.ctid from (
      select s.organization_id, $3 - $4 - make_interval(days => p.%I) as cutoff
      from public.subscriptions s join public.plans p on p.id = private.effective_plan(s.organization_id)
      where exists (select from %s e where e.organization_id = s.organization_id and e.%I < $1)) o
    cross join lateral (%s) x limit $2', r.plan_column, r.relation::regclass, r.cutoff_column, v_old);
end
$$;
comment on function private.retention_sql is 'The oldest rows of a rule, as SQL. Authorization: callable by functions of ours only.';

create or replace function private.count_old(r private.retention_rules, p_at timestamptz, p_limit integer) returns bigint
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_count bigint;
begin
  execute format('select count(*) from (%s) c', (select private.retention_sql(r, false))) into v_count using private.retention_cutoff(r, p_at), p_limit, p_at, r.keep;
  return v_count;
end
$$;
comment on function private.count_old is 'How many rows a rule would end now, at most p_limit. Authorization: callable by functions of ours only.';

create or replace function private.end_old(r private.retention_rules, p_at timestamptz, p_limit integer) returns bigint
language plpgsql volatile security definer set search_path = '' set lock_timeout = '1s'
as $$
declare
  v_count bigint;
begin
  execute format('with old as materialized (%s) %s where t.ctid = any (array(select o.ctid from old o))', (select private.retention_sql(r, true)),
    case r.action when 'delete' then format('delete from %s t', r.relation::regclass)
      else format('update %s t set %s', r.relation::regclass, (select string_agg(format('%I = null', c), ', ') from unnest(r.columns) c)) end)
    using private.retention_cutoff(r, p_at), p_limit, p_at, r.keep;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function private.end_old is 'Ends the oldest rows of a rule, at most p_limit; gives how many. Authorization: callable by functions of ours only.';

-- At three at night, or after a part of the day.
create or replace function private.next_retention(p_every interval, p_at timestamptz) returns timestamptz
language sql stable parallel safe
return case when p_every = interval '1 day' then (date_trunc('day', (p_at - interval '3 hours') at time zone 'UTC') + interval '27 hours') at time zone 'UTC'
  else p_at + p_every end;
comment on function private.next_retention is 'When a rule is due again.';

-- Rules that are due, one batch each, until p_rows are ended: a transaction is short, and locks only old rows. A rule whose batch was full
-- goes to the end of the line.
create or replace function private.run_retention(p_at timestamptz default clock_timestamp(), p_rows integer default 2000) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  r private.retention_rules;
  v_count bigint;
  v_left bigint := p_rows;
begin
  for r in select * from private.retention_rules x where x.run_at <= p_at order by x.run_at, x.name for update skip locked loop
    begin
      v_count := private.end_old(r, p_at, least(r.batch, v_left)::integer);
      update private.retention_rules x set last_run_at = p_at,
        run_at = case when v_count >= least(r.batch, v_left) then p_at else private.next_retention(r.every, p_at) end
      where x.name = r.name;
      v_left := v_left - v_count;
    exception when others then
      raise warning 'retention of % failed: % %', r.name, sqlstate, sqlerrm;
      update private.retention_rules x set run_at = p_at + least(r.every, interval '10 minutes') where x.name = r.name;
    end;
    exit when v_left <= 0;
  end loop;
  return exists (select from private.retention_rules x where x.run_at <= p_at);
end
$$;
comment on function private.run_retention is
  'Applies the rules that are due, in parts; tells whether there is more to do. Authorization: callable by schedules only.';
