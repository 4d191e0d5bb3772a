-- Whoever counts in one slot of a counter does not see those at work in the others, so the last units of a limit may all be counted by
-- people of whom none sees the end. The worker looks again at counters that are spread, which are few: those of busy organizations.
create index usage_counters_spread_idx on public.usage_counters (period) where not is_alone;

---- create above / drop below ----

drop index public.usage_counters_spread_idx;
