-- gue's table, as its version 5 expects it (job_id is an upper-case ULID, args are bytes), and what we keep around it.
-- No LISTEN/NOTIFY here: whoever enqueues wakes the worker after commit (db/README.md, "Wake-ups").
create table jobs.gue_jobs (
  job_id text primary key,
  priority smallint not null,
  run_at timestamptz not null,
  job_type text not null,
  args bytea not null,
  error_count integer not null default 0,
  last_error text,
  queue text not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  constraint gue_jobs_job_id_check check (job_id ~ '^[0-7][0-9A-HJKMNP-TV-Z]{25}$')
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
alter table jobs.gue_jobs enable row level security;
alter table jobs.gue_jobs force row level security;
create index gue_jobs_queue_run_at_idx on jobs.gue_jobs (queue, run_at, job_id);
comment on table jobs.gue_jobs is 'The queue (gue v5). The only way in is private.enqueue.';

-- At most one waiting job a key: enqueueing again while one waits is a no-op.
create table jobs.unique_keys (
  key text primary key,
  job_id text not null references jobs.gue_jobs (job_id) on delete cascade
);
alter table jobs.unique_keys enable row level security;
alter table jobs.unique_keys force row level security;
create index unique_keys_job_id_idx on jobs.unique_keys (job_id);
comment on table jobs.unique_keys is 'Keys of waiting jobs; vanish with them.';

-- Jobs that failed for good, for an administrator to see and run again.
create table jobs.dead_letters (
  job_id text primary key,
  job_type text not null,
  queue text not null,
  args jsonb not null,
  error_count integer not null,
  last_error text not null,
  created_at timestamptz not null,
  died_at timestamptz not null default now()
);
alter table jobs.dead_letters enable row level security;
alter table jobs.dead_letters force row level security;
create index dead_letters_died_at_idx on jobs.dead_letters (died_at desc);
comment on table jobs.dead_letters is 'Jobs that used up their attempts; jobs.gue_jobs holds the living.';

---- create above / drop below ----

drop table jobs.dead_letters, jobs.unique_keys, jobs.gue_jobs;
