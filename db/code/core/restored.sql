-- A database that was restored into another cluster has marks with transaction ids of the one that it came from. Where those are ahead of
-- this cluster's, the floors of queue and event log and the counts of the audit trail would stand still until it has caught up. No
-- transaction of the other cluster runs here, so the marks begin with the current one.
update jobs.queue_floor set next_xid = pg_current_xact_id() where next_xid > pg_current_xact_id();
update private.event_log set next_xid = pg_current_xact_id() where next_xid > pg_current_xact_id();
update private.audit_mark set marked_xid = pg_current_xact_id() where marked_xid > pg_current_xact_id();
