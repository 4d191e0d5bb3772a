-- A queue deletes what is done, and while anybody keeps an old snapshot (a backup, a report) Postgres may not clean up behind it: every
-- look for the next job then walks over the index entries of all jobs that were done since. So the queue has a floor, below which
-- nothing is left, and looks begin there. Everybody reads and writes the queue through a view that knows the floor, gue included.
alter table jobs.gue_jobs rename to stored_jobs;
comment on table jobs.stored_jobs is 'The rows of the queue; read and written through jobs.gue_jobs.';

create table jobs.queue_floor (
  is_only boolean primary key default true,
  -- No job that is waiting has an earlier run_at.
  floor timestamptz not null default '-infinity',
  -- The next floor, as soon as all transactions older than next_xid have ended.
  next_floor timestamptz not null default '-infinity',
  next_xid xid8 not null default '0',
  -- The queues there are; names are added, never removed.
  queues text[] not null default '{default,ingestion,executions}',
  -- When the floor was last compared with all jobs there are: the net for writers who did not keep to the rule.
  compared_at timestamptz not null default '-infinity',
  constraint queue_floor_is_only_check check (is_only)
) with (fillfactor = 10);
alter table jobs.queue_floor enable row level security;
alter table jobs.queue_floor force row level security;
insert into jobs.queue_floor default values;
comment on table jobs.queue_floor is 'One row: where looks for the next job begin (private.raise_queue_floor).';

create view jobs.gue_jobs with (security_invoker = true) as
select * from jobs.stored_jobs j where j.run_at >= (select f.floor from jobs.queue_floor f);
comment on view jobs.gue_jobs is 'The queue (gue v5) from its floor on. The only way in is private.enqueue.';

---- create above / drop below ----

drop view jobs.gue_jobs;
drop table jobs.queue_floor;
alter table jobs.stored_jobs rename to gue_jobs;
