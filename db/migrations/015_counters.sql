-- A counter that many count at once. One row a counter makes every writer of an organization wait for the disk of the one before it, so a
-- busy counter is spread over slots. Each slot holds a grant, a part of the limit, and is used up to that without looking at the others:
-- the grants together never exceed the limit, so neither does their use. Quiet counters have one slot.
alter table public.usage_counters
  add column slot smallint not null default 0,
  -- While true, this slot is the whole counter.
  add column is_alone boolean not null default true,
  -- Up to where this slot may be used, and the limit that was in force when that was said; under another limit grants are made anew.
  add column granted bigint not null default 0,
  add column granted_under bigint not null default 0,
  -- The day that is being counted here; when it is over, its units move to usage_days. So a unit moves one row, not two.
  add column day date not null default '1970-01-01',
  add column day_value bigint not null default 0,
  drop constraint usage_counters_pkey,
  add constraint usage_counters_pkey primary key (organization_id, metric, period, slot);
comment on table public.usage_counters is
  'Units used per organization, metric and period (first day of the UTC month, or the UTC day; storage: 1970-01-01, a gauge in bytes), spread over slots; public.usage has the sums.';
comment on table public.usage_days is 'Days that are over: units of the day, or for storage the bytes after its last change. public.usage_trend adds the day that runs.';

create view public.usage with (security_invoker = true) as
select organization_id, metric, period, sum(used)::bigint as used, max(updated_at) as updated_at
from public.usage_counters
group by organization_id, metric, period;
comment on view public.usage is 'Units used per organization, metric and period.';

create view public.usage_trend with (security_invoker = true) as
select organization_id, metric, day, sum(value)::bigint as value
from (
  select organization_id, metric, day, value from public.usage_days
  union all
  select organization_id, metric, day, day_value from public.usage_counters where day > '1970-01-01'
) d
group by organization_id, metric, day;
comment on view public.usage_trend is 'Units a UTC day, the running one included; for storage the bytes after the last change of the day.';

-- The numbers of projects were kept in eight slots chosen by process, and writers of one organization still met in them.
alter table private.project_counters
  drop constraint project_counters_slot_check,
  add constraint project_counters_slot_check check (slot between 0 and 63);

---- create above / drop below ----

with moved as (
  delete from private.project_counters where slot > 7 returning *
)
insert into private.project_counters as c (organization_id, privacy, slot, projects, active, processing, failed, tokens, files)
select organization_id, privacy, 0, sum(projects), sum(active), sum(processing), sum(failed), sum(tokens), sum(files)
from moved group by organization_id, privacy
on conflict (organization_id, privacy, slot) do update
  set projects = c.projects + excluded.projects, active = c.active + excluded.active, processing = c.processing + excluded.processing,
    failed = c.failed + excluded.failed, tokens = c.tokens + excluded.tokens, files = c.files + excluded.files;
alter table private.project_counters
  drop constraint project_counters_slot_check,
  add constraint project_counters_slot_check check (slot between 0 and 7);
drop view public.usage_trend, public.usage;
with moved as (
  delete from public.usage_counters where slot <> 0 returning *
)
insert into public.usage_counters as c (organization_id, metric, period, used, day)
select organization_id, metric, period, sum(used), max(day) from moved group by organization_id, metric, period
on conflict (organization_id, metric, period, slot) do update set used = c.used + excluded.used;
insert into public.usage_days as d (organization_id, metric, day, value)
select organization_id, metric, day, sum(day_value) from public.usage_counters where day > '1970-01-01' group by organization_id, metric, day
on conflict (organization_id, metric, day) do update
  set value = case when excluded.metric = 'storage' then excluded.value else d.value + excluded.value end;
alter table public.usage_counters drop constraint usage_counters_pkey;
alter table public.usage_counters drop column slot, drop column is_alone, drop column granted, drop column granted_under, drop column day, drop column day_value,
  add constraint usage_counters_pkey primary key (organization_id, metric, period);
