-- gue works as kijko_worker, with whole rows of the whole queue. No other role sees jobs.
grant select, insert, update, delete on jobs.gue_jobs, jobs.stored_jobs, jobs.unique_keys to kijko_worker;
grant select on jobs.queue_floor to kijko_worker;
grant select, insert, delete on jobs.dead_letters to kijko_worker;
create policy all_worker on jobs.stored_jobs to kijko_worker using (true) with check (true);
create policy select_worker on jobs.queue_floor for select to kijko_worker using (true);
create policy all_worker on jobs.unique_keys to kijko_worker using (true) with check (true);
create policy all_worker on jobs.dead_letters to kijko_worker using (true) with check (true);
-- jobs.workers is read and written by functions only (db/code/jobs/workers.sql).
