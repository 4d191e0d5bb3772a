-- gue asks for the first job by (run_at, priority). With the old index Postgres had to sort, and to read thirty-two rows before the first
-- one came out; without statistics (a backlog that was just written) it read all of them. Now the index is the order.
create index gue_jobs_queue_order_idx on jobs.stored_jobs (queue, run_at, priority, job_id);
drop index jobs.gue_jobs_queue_run_at_idx;

-- The limit is read under the lock now (code/usage/consume.sql), and no longer handed in.
drop function if exists private.consume_slowly(uuid, text, bigint, date, date, bigint, bigint);
drop function if exists private.consume_storage(uuid, bigint, bigint, bigint, timestamptz);

---- create above / drop below ----

create index gue_jobs_queue_run_at_idx on jobs.stored_jobs (queue, run_at, job_id);
drop index jobs.gue_jobs_queue_order_idx;
